"""
What enforcement costs, beside `nft` in the same run.

    python -m benchmarks.bench_kernel [--rounds N] [--quick] [--check] [--only TEXT] [--json FILE]

As root; in a network namespace of its own. One ban, N bans at once, adoption and healing of a
table with N bans, and the longest time that the event loop stood still meanwhile.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial
from ipaddress import ip_address, ip_network

from benchmarks import frame
from benchmarks.frame import (
    Against,
    Comparison,
    Figure,
    Item,
    Options,
    Taken,
    Turn,
    at_least,
    at_most,
)
from dockerjail.ban.table import Table
from dockerjail.model import Ban, Port, Scope
from dockerjail.nft.kernel import Kernel
from tests.lab import netns

SCOPE = Scope(ports=(Port(8080),), why="benchmark")


def bans(count: int) -> Sequence[Ban]:
    """Make bans with ends of their own."""
    now = time.time()
    return [
        Ban(
            id=number,
            jail="flask@web",
            subject=ip_network(ip_address("10.0.0.0") + number),
            scope=SCOPE,
            at=now,
            until=now + 3600 + number / 100,
        )
        for number in range(1, count + 1)
    ]


@asynccontextmanager
async def stalls(into: list[float] | None = None) -> AsyncIterator[list[float]]:
    """Measure for how long the event loop does nothing else, the longest time first."""
    seen = [] if into is None else into
    stop = asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            seen.append(time.perf_counter() - before - 0.001)

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        try:
            yield seen
        finally:
            stop.set()
    seen.sort(reverse=True)


async def timed(work: Awaitable[object]) -> float:
    before = time.perf_counter()
    await work
    return time.perf_counter() - before


def command(script: str, stdin: str | None = None) -> float:
    before = time.perf_counter()
    done = subprocess.run(script, shell=True, input=stdin, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{script}: {done.stderr[:200]}")
    return time.perf_counter() - before


def nft_ones(count: int) -> Turn:
    """Put elements in by a shell and `nft`, one after the other, as fail2ban does."""
    command("nft add table inet theirs")
    command(
        "nft add set inet theirs s '{ type ipv4_addr . inet_proto . inet_service; flags timeout; }'"
    )
    keys = [f"{ban.subject.network_address} . tcp . 9999 timeout 1h" for ban in bans(count)]
    took = sum(command(f"nft add element inet theirs s '{{ {key} }}'") for key in keys)
    command("nft delete table inet theirs")
    return Turn(seconds=took, pieces=count)


def our_ones(count: int) -> Turn:
    """Put bans in, one after the other."""

    async def work() -> float:
        async with Kernel() as kernel:
            table = Table(kernel, clock=time.time)
            await table.restore([])
            return sum([await timed(kernel.apply(add=table.put(ban).add)) for ban in bans(count)])

    return Turn(seconds=asyncio.run(work()), pieces=count)


def nft_many(count: int) -> Turn:
    """Have `nft` read as many elements as there are bans."""
    lines = ", ".join(
        f"{b.subject.network_address} . tcp . 8080 timeout {3600 + n}s"
        for n, b in enumerate(bans(count))
    )
    script = (
        "table inet theirs { set s { type ipv4_addr . inet_proto . inet_service; flags timeout; "
        f"counter; elements = {{ {lines} }}\n}}\n}}\n"
    )
    took = command("nft -f -", script)
    command("nft delete table inet theirs")
    return Turn(seconds=took, pieces=count)


async def _restore(count: int, watched: AbstractAsyncContextManager[object]) -> float:
    """Return the seconds that it took until all bans stood in a kernel that knew none."""
    async with Kernel() as kernel:
        await kernel.remove()
        table = Table(kernel, clock=time.time)
        all_ = bans(count)
        async with watched:
            return await timed(table.restore(all_))


def our_many(count: int) -> Turn:
    """Have bans stand in a kernel that knows none."""
    return Turn(seconds=asyncio.run(_restore(count, nullcontext())), pieces=count)


def stall(count: int) -> Taken:
    """Return for how many milliseconds the loop stood still meanwhile."""

    seen: list[float] = []
    took = asyncio.run(_restore(count, stalls(seen)))
    stood = seen[0]
    return Taken(stood * 1e3, f"all of it took {took * 1e3:.3g} ms")


def adopted(count: int) -> Taken:
    """Return the milliseconds until a new process knows the bans that stand."""

    async def work() -> tuple[float, float]:
        all_ = bans(count)
        async with Kernel() as first:
            await Table(first, clock=time.time).restore(all_)
        async with Kernel() as second:
            async with stalls() as stood:
                took = await timed(Table(second, clock=time.time).restore(all_))
            return took, stood[0]

    took, stood = asyncio.run(work())
    return Taken(took * 1e3, f"the loop stood still for {stood * 1e3:.3g} ms at most")


def healed(count: int, script: str) -> Taken:
    """Return the milliseconds until a table that somebody damaged is whole again."""

    async def work() -> tuple[float, float]:
        async with Kernel() as kernel:
            await kernel.remove()
            table = Table(kernel, clock=time.time)
            await table.restore(bans(count))
            changes = kernel.changes()
            with suppress(TimeoutError):  # what was changed before is not the question
                while True:
                    await asyncio.wait_for(anext(changes), 0.2)
            changes = kernel.changes()
            async with asyncio.TaskGroup() as group:
                told = group.create_task(anext(changes))
                await asyncio.sleep(0.1)
                command(script)
            async with stalls() as stood:
                took = await timed(table.verify(told.result()))
            await changes.aclose()
            assert table.sync.ok
            return took, stood[0]

    took, stood = asyncio.run(work())
    return Taken(took * 1e3, f"the loop stood still for {stood * 1e3:.3g} ms at most")


def items(options: Options) -> Iterable[Item]:
    """Yield all rows."""
    if os.geteuid():
        sys.exit("this needs root, for a network namespace; write sudo")
    with netns.create_unique("bench") as space, space.inside():
        yield Comparison(
            name="one ban",
            ours=partial(our_ones, options.size(200, 5)),
            others=[
                Against(
                    name="sh -c 'nft add element ...'",
                    side=partial(nft_ones, options.size(20, 2)),
                    bar=at_least(100),
                )
            ],
            piece="ban",
        )
        for count in (20,) if options.quick else (1000, 10_000, 100_000):
            barred = count >= 10_000
            yield Comparison(
                name=f"{count:,} bans with timeouts and counters",
                ours=partial(our_many, count),
                others=[Against(name="nft -f", side=partial(nft_many, count), bar=at_most(0.7))],
                piece="ban",
            )
            yield Figure(
                name=f"the loop stands still while {count:,} bans go in",
                unit="ms",
                take=partial(stall, count),
                bar=at_most(50) if barred else None,
            )
            yield Figure(
                name=f"{count:,} bans that stand, known to a new process",
                unit="ms",
                take=partial(adopted, count),
            )
            for what, script in (
                ("flush ruleset", "nft flush ruleset"),
                ("a rule deleted", "nft flush chain inet dockerjail raw_prerouting"),
                ("a set flushed", "nft flush set inet dockerjail port4_32"),
            ):
                yield Figure(
                    name=f"whole again after {what}, {count:,} bans",
                    unit="ms",
                    take=partial(healed, count, script),
                )


if __name__ == "__main__":
    frame.run(__doc__, items)
