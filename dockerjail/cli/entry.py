"""
The command as a shell starts it: words in, to the daemon with `run` alone, to `main` with all others.

In `dockerjail run`, as the image and units say it, there is nothing to parse. What parses the rest
would stay in the daemon's memory for as long as it runs: 1.8 MB, and 20 ms of each start.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

from dockerjail.errors import DockerjailError


def main() -> NoReturn:
    """Run the command line."""
    if sys.argv[1:] == ["run"]:
        _run()
    from dockerjail.cli.main import main as parsed

    parsed()


def _run() -> NoReturn:
    from dockerjail.cli.run import run

    config = os.environ.get("DOCKERJAIL_CONFIG")
    try:
        raise SystemExit(run(Path(config) if config else None))
    except DockerjailError as error:
        from dockerjail.cli.main import fail

        fail(error)
