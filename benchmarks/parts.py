"""
Whose the memory of a daemon is, and the processor time of its start: `python -m benchmarks.parts`.

Imports all that `dockerjail run` does in a Python of its own, one library after the other, each
with what it brings along that was not there yet. Modules are compiled before. Kept output: `profile_memory.txt`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

TOP = Path(__file__).parent.parent
ROUNDS = 5

PARTS: Sequence[tuple[str, str]] = (
    ("asyncio, with ssl and logging", "import asyncio, logging"),
    ("pydantic", "from pydantic import BaseModel; type('X', (BaseModel,), {})"),
    ("pydantic-settings", "import pydantic_settings"),
    (
        "aiohttp and aiodocker, as they are imported here",
        "from dockerjail.docker.bare import bare\nwith bare(): import aiohttp, aiodocker",
    ),
    ("aiohttp's server", "import aiohttp.web"),
    ("aiosqlite", "import aiosqlite"),
    ("pyroute2, as it is imported here", "import dockerjail.nft.netlink"),
    ("dockerjail", "import dockerjail.cli.entry, dockerjail.cli.run"),
)

BESIDE: Sequence[tuple[str, str]] = (
    ("all of pyroute2", "import pyroute2; pyroute2.NDB"),
    ("certificates, twice", "import ssl; k = [ssl.create_default_context() for _ in range(2)]"),
    ("what parses the command line", "import dockerjail.cli.main"),
    ("fail2ban's readers", "import dockerjail.config.fail2ban.read"),
    ("hyperscan", "import hyperscan"),
)
"""What is not loaded, or not before it is wanted."""

MEASURE = """
import os, sys, time
def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
print(held(), time.process_time())
for part in sys.argv[1:]:
    before, began = held(), time.process_time()
    exec(part)
    print(held() - before, time.process_time() - began)
"""


def measured(place: Path, parts: Sequence[str]) -> list[tuple[float, float]]:
    """Return megabytes and milliseconds of the interpreter and of each part."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    rounds = []
    for _ in range(ROUNDS + 1):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, *parts],
            cwd=TOP,
            env={**environ, "PYTHONPYCACHEPREFIX": str(place)},
            capture_output=True,
            text=True,
            check=True,
        )
        rounds.append([[float(each) for each in line.split()] for line in done.stdout.splitlines()])
    rounds.pop(0)  # compiles
    return [
        (median(row[0] for row in rows), median(row[1] for row in rows) * 1e3)
        for rows in zip(*rounds, strict=True)
    ]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="parts-") as directory:
        place = Path(directory)
        rows = measured(place, [code for _, code in PARTS])
        print(f"Python {sys.version.split()[0]}; megabytes resident, milliseconds of processor")
        for name, (memory, spent) in zip(["Python", *(n for n, _ in PARTS)], rows, strict=True):
            print(f"{name:50} {memory:6.1f} MB {spent:6.0f} ms")
        print(f"{'all':50} {sum(r[0] for r in rows):6.1f} MB {sum(r[1] for r in rows):6.0f} ms")
        print("\nbeside, behind all of that:")
        for name, code in BESIDE:
            memory, spent = measured(place, [*(code for _, code in PARTS), code])[-1]
            print(f"{name:50} {memory:6.1f} MB {spent:6.0f} ms")


if __name__ == "__main__":
    main()
