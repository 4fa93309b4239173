"""
A whole process that judges a file, as CrowdSec's replay is: `python -m benchmarks.replay FILE FILTER...`.

The file is what the Engine sends of a log, the filters are names out of Debian's fail2ban. Prints
how many failures counted, and how many addresses would have been banned.
"""

import sys
from pathlib import Path

from benchmarks.ours import READ, Ours, engines, policy
from dockerjail.config.fail2ban.read import Fail2ban


def main() -> None:
    """Judge the file."""
    file, etc, *names = sys.argv[1:]
    fail2ban = Fail2ban.open(Path(etc))
    assert fail2ban is not None
    side = Ours([policy(name, fail2ban.rule(name)) for name in names], engine=engines()[-1])
    with Path(file).open("rb") as log:
        while piece := log.read(READ):
            side.feed(piece)
    print(*side.counted.both)


if __name__ == "__main__":
    main()
