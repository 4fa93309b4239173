"""
Where the time goes in one workload: `python -m benchmarks.profile WORKLOAD [--share 0.01] [--top 25]`.

Prints the functions that took most of their own time while a log was judged (cProfile, which makes
small functions look dearer than they are), and what the three steps cost without it. Workloads
are the cases of `bench_matching`, by the begin of their names.
"""

import argparse
import cProfile
import io
import itertools
import pstats
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench_matching import cases, jails
from benchmarks.frame import cpu
from benchmarks.ours import FAR, PURE, WEB, Ours, engines, reads
from benchmarks.workloads import framed, lines
from dockerjail.docker.cursor import Dialect
from dockerjail.docker.frames import reader
from dockerjail.docker.lines import Lines
from dockerjail.jail.policy import JailPolicy

TOP = Path(__file__).parent.parent


def profiled(policies: Sequence[JailPolicy], data: bytes, top: int, engine: str) -> str:
    """Return the dearest functions."""
    side = Ours(policies, engine=engine)
    pieces = [*reads(data)]
    profile = cProfile.Profile()
    profile.enable()
    for piece in pieces:
        side.feed(piece)
    profile.disable()
    out = io.StringIO()
    stats = pstats.Stats(profile, stream=out)
    stats.sort_stats(pstats.SortKey.TIME).print_stats(top)
    return out.getvalue().replace(f"{TOP}/", "")


def steps(policies: Sequence[JailPolicy], data: bytes, count: int, engine: str) -> str:
    """Return what the steps take, in microseconds a line."""
    frames, whole = reader(WEB, Dialect.NEW), Lines(WEB, {}, dialect=Dialect.NEW)
    bench = Ours(policies, engine=engine).bench
    times = [cpu()]
    apart = [frames.feed(piece) for piece in reads(data)]
    times.append(cpu())
    chunks = [chunk for each in apart for chunk in whole.feed(each)]
    times.append(cpu())
    for chunk in chunks:
        bench.judge(chunk, FAR)
    times.append(cpu())
    taken = [(b - a) / count * 1e6 for a, b in itertools.pairwise(times)]
    return "frames {:.3f}, lines {:.3f}, judged {:.3f} µs a line".format(*taken)


def main() -> None:
    """Print the profile of one workload."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", help="flask; nginx; sshd; all")
    parser.add_argument("--share", type=float, default=0.01, help="of the lines that fail")
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--engine", choices=engines(), default=PURE)
    asked = parser.parse_args()
    for case in cases():
        if case.name.startswith(asked.workload):
            break
    else:
        sys.exit(f"no workload begins with {asked.workload!r}; write flask, nginx, sshd or all")
    policies, _ = jails(case)
    data = framed(lines(case.log, asked.lines, asked.share))
    print(f"{case.name}, {asked.share:.0%} of {asked.lines} lines fail, {asked.engine}")
    print(steps(policies, data, asked.lines, asked.engine))
    print(profiled(policies, data, asked.top, asked.engine))


if __name__ == "__main__":
    main()
