"""
Whole processes that judge the same log: ours beside CrowdSec's replay of a file.

    python -m benchmarks.bench_crowdsec [--rounds N] [--quick] [--check] [--only TEXT] [--json FILE]

Counted are all processor seconds of a process from its start to its end. CrowdSec is Debian's package
with the collections that it enables, its alerts go to an API of its own whose time does not count.
Ours reads the same lines as the Engine frames them, with fail2ban's filters and the fastest engine
there is. As root: both run in a network namespace that reaches nothing.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import frame, rival
from benchmarks.bench_matching import AGGRESSIVE
from benchmarks.frame import Against, Comparison, Options, Side, Turn, at_least
from benchmarks.workloads import framed, lines
from tests.lab import crowdsec, netns

TOP = Path(__file__).parent.parent
SHARE = 0.01


def whole(command: Sequence[str | Path], count: int) -> Side:
    """Return what runs a command to its end."""

    def run() -> Turn:
        before = frame.children()
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{command[0]} failed: {(done.stderr or done.stdout)[-500:]}")
        return Turn(seconds=frame.children() - before, pieces=count)

    return run


def comparisons(options: Options) -> Iterable[Comparison]:
    """Yield a row for each kind of log."""
    if os.geteuid():
        sys.exit("this needs root, for a network namespace; write sudo")
    etc = rival.package().etc
    crowdsec.package()  # while there is still a network
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
        netns.create_unique("bench") as space,
        space.inside(),
    ):
        place = Path(scratch)
        theirs = crowdsec.set_up(place / "crowdsec")
        against = f"CrowdSec {crowdsec.version(theirs.program)} replaying the file"
        with theirs.api():
            for name, log, kind, filters, count in (
                ("sshd", "sshd", "syslog", [AGGRESSIVE], options.size(500_000, 200)),
                (
                    "nginx",
                    "web",
                    "nginx",
                    ["nginx-botsearch", "nginx-http-auth"],
                    options.size(50_000, 200),
                ),
            ):
                texts = lines(log, count, SHARE)
                plain, raw = place / f"{name}.log", place / f"{name}.raw"
                plain.write_text("".join(f"{text}\n" for text in texts))
                raw.write_bytes(framed(texts))
                ours = [sys.executable, "-m", "benchmarks.replay", raw, etc, *filters]
                yield Comparison(
                    name=f"a log of {name}, {count:,} lines, whole process",
                    ours=whole(ours, count),
                    others=[
                        Against(
                            name=against,
                            side=whole(theirs.replay(plain, kind), count),
                            bar=at_least(100),
                        )
                    ],
                )


if __name__ == "__main__":
    frame.run(__doc__, comparisons)
