"""
What a line made for a regex costs everybody else.

    python -m benchmarks.bench_backtracking [--rounds N] [--quick] [--check] [--only TEXT] [--json FILE]

One container logs nothing but such lines, another one harmless lines; both are judged on one event
loop, as the daemon does. Printed is how long the harmless one waits for its turn at the worst, with
the timer and without it; its cost on an ordinary attack is the ratio of the last line.
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from benchmarks import frame
from benchmarks.frame import Against, Comparison, Figure, Item, Options, Taken, Turn, at_most
from dockerjail.jail.jail import Bench, Jails
from dockerjail.jail.patience import Watch
from dockerjail.jail.policy import JailPolicy, Origin
from dockerjail.jail.rule import Rule
from dockerjail.model import Chunk, Container, Cursor, Stream
from dockerjail.service.ticker import ticking

CASES = {
    "two dots, 16 KB": (
        r"^.* from .*: refused <HOST>$",
        " from " * 2700 + ": refused 203.0.113.9!",
    ),
    "three dots, 2 KB": (
        r"^.* from .* to .*: refused <HOST>$",
        " from to" * 250 + ": refused 203.0.113.9!",
    ),
    "words, 50 B": (r"^(?:\w+\s?)*: refused <HOST>$", "a" * 22 + "!: refused 203.0.113.9"),
    "for ever": (r"^(?:\w+\s?)*: refused <HOST>$", "a" * 40 + "!: refused 203.0.113.9"),
}
"""A regex, and a line that makes it backtrack."""

GOOD = "bob: refused 203.0.113.7"
HARMLESS = (r": refused <HOST>$",)


def _container(number: int) -> Container:
    return Container(id=f"{number:064x}", name=f"web-{number}", service=f"web-{number}")


def _chunk(number: int, lines: list[str]) -> Chunk:
    data = "".join(f"2026-11-22T10:52:40.000000000Z {line}\n" for line in lines).encode()
    return Chunk(
        container=_container(number), stream=Stream.STDOUT, data=data, cursor=Cursor(10**18, 1)
    )


def _bench(jails: Jails, number: int, *failregex: str) -> Bench:
    policy = JailPolicy(
        name="jail", origin=Origin.DAEMON, rule=Rule(failregex=failregex), maxretry=10**6
    )
    return jails.bench(_container(number), [policy])


async def _judged(bench: Bench, chunk: Chunk) -> None:
    """Judge a chunk in slices, as the daemon does: others get their turn between."""
    for _ in bench.trial(chunk):
        await asyncio.sleep(0)


async def _worst(regex: str, line: str, *, guarded: bool, lines: int) -> tuple[float, float]:
    """Return the longest wait for a turn, and how long all of it took, in seconds."""
    watch = Watch(time.monotonic)
    jails = Jails(watch=watch)
    hostile, harmless = _bench(jails, 0, regex), _bench(jails, 1, *HARMLESS)
    timer: AbstractContextManager[None] = ticking(watch) if guarded else nullcontext()
    with timer:
        began = last = time.perf_counter()
        worst = 0.0
        async with asyncio.TaskGroup() as group:
            attack = group.create_task(_judged(hostile, _chunk(0, [line] * lines)))
            while not attack.done():
                await _judged(harmless, _chunk(1, [GOOD]))
                await asyncio.sleep(0)
                now = time.perf_counter()
                worst, last = max(worst, now - last), now
        return worst, time.perf_counter() - began


def _waits(regex: str, line: str, lines: int, *, ends: bool) -> Taken:
    worst, _ = asyncio.run(_worst(regex, line, guarded=True, lines=lines))
    alone = "one such line does not end without the timer"
    if ends:
        _, one = asyncio.run(_worst(regex, line, guarded=False, lines=1))
        alone = f"one such line takes {one * 1000:.0f} ms without the timer"
    return Taken(worst * 1000, alone)


def _ordinary(lines: int, *, guarded: bool) -> Turn:
    """Judge an ordinary attack."""
    watch = Watch(time.monotonic)
    sits = _bench(Jails(watch=watch), 0, *HARMLESS)
    chunk = _chunk(0, [GOOD] * lines)
    timer: AbstractContextManager[None] = ticking(watch) if guarded else nullcontext()
    with timer:
        began = frame.cpu()
        asyncio.run(_judged(sits, chunk))
        return Turn(seconds=frame.cpu() - began, pieces=lines)


def items(options: Options) -> Iterable[Item]:
    """Yield all rows."""
    for name, (regex, line) in CASES.items():
        yield Figure(
            name=f"worst wait beside lines that backtrack: {name}",
            unit="ms",
            take=partial(_waits, regex, line, options.size(50, 2), ends=name != "for ever"),
        )
    count = options.size(20_000, 200)
    yield Comparison(
        name="an ordinary attack with the timer",
        ours=partial(_ordinary, count, guarded=True),
        others=[
            Against(
                name="without it", side=partial(_ordinary, count, guarded=False), bar=at_most(1.1)
            )
        ],
    )


if __name__ == "__main__":
    frame.run(__doc__, items)
