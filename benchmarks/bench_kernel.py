"""
What enforcement costs, beside `nft` in the same run: `python -m benchmarks.bench_kernel`.

As root; in a network namespace of its own. One ban, N bans at once, adoption and healing of a
table with N bans, and the longest time that the event loop stood still meanwhile.
"""

import argparse
import asyncio
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address, ip_network

from dockerjail.ban.table import Table
from dockerjail.model import Ban, Port, Scope
from dockerjail.nft.kernel import Kernel
from tests.lab import netns

SCOPE = Scope(ports=(Port(8080),), why="benchmark")
ONES = 200


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
async def stalls() -> AsyncIterator[list[float]]:
    """Measure for how long the event loop does nothing else, the longest time first."""
    seen: list[float] = []
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


async def one_ban(kernel: Kernel, table: Table) -> None:
    ours, theirs = [], []
    for number, ban in enumerate(bans(ONES)):
        change = table.put(ban)
        ours.append(await timed(kernel.apply(add=change.add)))
        if number % 10 == 0:  # side by side, and they take long
            key = f"{ban.subject.network_address} . tcp . 9999 timeout 1h"
            theirs.append(command(f"nft add element inet dockerjail port4_32 '{{ {key} }}'"))
    us, them = statistics.median(ours), statistics.median(theirs)
    print(f"one ban: {us * 1e6:.0f} us, sh -c nft {them * 1e3:.1f} ms: {them / us:.0f} times")


async def many(kernel: Kernel, count: int) -> None:
    table = Table(kernel, clock=time.time)
    all_ = bans(count)
    await kernel.remove()
    async with stalls() as stood:
        took = await timed(table.restore(all_))
    lines = ", ".join(f"{b.subject.network_address} . tcp . 8080 timeout 1h" for b in all_)
    script = (
        "table inet theirs { set s { type ipv4_addr . inet_proto . inet_service; flags timeout; "
        f"counter; elements = {{ {lines} }}\n}}\n}}\n"
    )
    theirs = command("nft -f -", script)
    command("nft delete table inet theirs")
    print(
        f"{count} bans: {took * 1e3:.0f} ms, nft -f {theirs * 1e3:.0f} ms: "
        f"{took / theirs:.2f} of it; the loop stood still for {stood[0] * 1e3:.0f} ms at most"
    )
    for what, script in (
        ("flush ruleset", "nft flush ruleset"),
        ("a rule deleted", "nft flush chain inet dockerjail raw_prerouting"),
        ("a set flushed", "nft flush set inet dockerjail port4_32"),
    ):
        changes = kernel.changes()
        with suppress(TimeoutError):  # what was changed before is not the question
            while True:
                await asyncio.wait_for(anext(changes), 0.2)
        changes = kernel.changes()
        async with asyncio.TaskGroup() as group:
            told = group.create_task(anext(changes))
            await asyncio.sleep(0.1)
            command(script)
        before = time.perf_counter()
        async with stalls() as stood:
            await table.verify(told.result())
        healed = time.perf_counter() - before
        await changes.aclose()
        assert table.sync.ok
        print(f"  {what}: whole again after {healed * 1e3:.0f} ms (stood {stood[0] * 1e3:.0f} ms)")


async def adoption(make: Callable[[], Kernel], count: int) -> None:
    all_ = bans(count)
    async with make() as first:
        await Table(first, clock=time.time).restore(all_)
    async with make() as second:
        async with stalls() as stood:
            took = await timed(Table(second, clock=time.time).restore(all_))
        print(f"{count} bans adopted: {took * 1e3:.0f} ms (stood {stood[0] * 1e3:.0f} ms)")


async def measure(counts: Sequence[int]) -> None:
    async with Kernel() as kernel:
        print(f"kernel: {kernel.features}")
        table = Table(kernel, clock=time.time)
        await table.restore([])
        await one_ban(kernel, table)
        for count in counts:
            await many(kernel, count)
    for count in counts:
        await adoption(Kernel, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    asked = parser.parse_args()
    with netns.create_unique("bench") as space, space.inside():
        asyncio.run(measure(asked.counts))


if __name__ == "__main__":
    main()
