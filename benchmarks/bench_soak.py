"""
Whether memory stays flat under what strangers can make up without end: `python -m benchmarks.bench_soak`.

The whole daemon with a real database, beside twins of the Engine and the kernel (`--kernel`, as
root: the real one, in a network namespace of its own). Four floods one after the other: containers
that come and go, distinct addresses, distinct connections, distinct names. Each prints the resident
memory at a third of it, at two thirds and at its end, and what one piece of it took; the last line of each is the
ratio of the end to the first third, which is to be near 1.
"""

import argparse
import asyncio
import gc
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from dockerjail.config.settings import load
from dockerjail.jail.window import MOST
from dockerjail.model import Address, Chunk, Container, Cursor, Port, Stream
from dockerjail.nft.dryrun import DryRun
from dockerjail.nft.kernel import Kernel
from dockerjail.ports import Firewall
from dockerjail.service.daemon import Daemon, World
from dockerjail.store.sqlite import SqliteStore
from tests.fakes import FakeEngine, FakeFlows, FakeHost
from tests.lab import netns

LINES = 1000
"""Lines of a chunk."""

SETTINGS = r"""
[jails.login]
failregex = '^failed from <HOST>$'
findtime = "1d"

[jails.quick]
failregex = '^worse from <HOST>$'
maxretry = 1
bantime = "10m"

[jails.session]
prefregex = '^<F-MLFID>s\[\d+\]</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$'
failregex = ['^<F-NOFAIL>hello</F-NOFAIL> from <ADDR>', '^fail of <F-USER>\S+</F-USER>$']

[jails.named]
failregex = '^no entry for <HOST>$'
usedns = "yes"

[containers.web]
jails = ["login", "quick", "session", "named"]
"""
WEB = Container(id="c1", name="web", service="web", published=frozenset({Port(80)}))

Flood = Callable[[Daemon, FakeEngine, int, int], Awaitable[None]]


def resident() -> int:
    """Return the bytes of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def resolve(name: str) -> Sequence[Address]:
    number = int(name[1:].partition(".")[0])
    return (ip_address(0x0C000000 + number),)


@asynccontextmanager
async def house(directory: Path, firewall: Firewall) -> AsyncIterator[tuple[Daemon, FakeEngine]]:
    """Run a daemon beside one container."""
    file = directory / "dockerjail.toml"
    file.write_text(SETTINGS)
    settings = load(file, {})
    engine = FakeEngine(clock=time.time)
    engine.start(WEB)
    async with SqliteStore(directory / "state.db", keep=settings.store.keep) as store:
        world = World(
            engine=engine,
            store=store,
            firewall=firewall,
            host=FakeHost("192.0.2.1"),
            flows=FakeFlows(),
            resolve=resolve,
        )
        daemon = Daemon(settings, world, await store.load(now=time.time(), findtime=86400.0))
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(daemon.run(stop))
            await daemon.ready.wait()
            yield daemon, engine
            stop.set()


async def say(daemon: Daemon, texts: Sequence[str]) -> None:
    """Have the daemon judge lines of the container."""
    ns = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime(ns // 10**9))
    data = "".join(f"{stamp} {text}\n" for text in texts).encode()
    await daemon._deliver(
        Chunk(container=WEB, stream=Stream.STDOUT, data=data, cursor=Cursor(ns, 1))
    )
    await asyncio.sleep(0)


async def addresses(daemon: Daemon, _: FakeEngine, start: int, count: int) -> None:
    """Have each address fail once, IPv4 and IPv6 in turn; every tenth does what bans at once."""
    for at in range(start, start + count, LINES):
        texts = []
        for number in range(at, at + LINES):
            six = number % 2
            address = ip_address((0x2001 << 112 | number << 64) if six else 0x0B000000 + number)
            texts.append(f"{'worse' if number % 10 == 0 else 'failed'} from {address}")
        await say(daemon, texts)


async def connections(daemon: Daemon, _: FakeEngine, start: int, count: int) -> None:
    """Have each connection say hello, at length, and never more."""
    for at in range(start, start + count, LINES):
        more = "x" * (at % 500)
        await say(daemon, [f"s[{n}]: hello from 203.0.113.7{more}" for n in range(at, at + LINES)])


async def names(daemon: Daemon, _: FakeEngine, start: int, count: int) -> None:
    """Have each name fail once."""
    for at in range(start, start + count, LINES):
        await say(daemon, [f"no entry for n{n}.test" for n in range(at, at + LINES)])


async def containers(daemon: Daemon, engine: FakeEngine, start: int, count: int) -> None:
    """Have containers come, fail, and go, each with a name, a service and a jail of its own."""
    for number in range(start, start + count):
        name = f"x{number}"
        container = replace(
            WEB,
            id=name,
            name=name,
            service=name,
            labels={
                "dockerjail.enable": "true",
                f"dockerjail.jail.j{number}.failregex": f"^no{number} <HOST>$",
            },
        )
        engine.start(container)
        while name not in daemon.intake.tails:  # noqa: ASYNC110  # the twin tells nobody
            await asyncio.sleep(0)
        engine.say(container, f"no{number} 203.0.113.{number % 200}")
        for _ in range(20):
            await asyncio.sleep(0)
        engine.stop(container)
        engine.remove(container)
        engine.inspected.clear()
        while name in daemon.intake.tails:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def measure(what: str, flood: Flood, daemon: Daemon, engine: FakeEngine, total: int) -> None:
    """Print what a flood leaves behind after each third."""
    if not total:
        return
    seen = []
    print(f"{what}: {resident() / 2**20:.0f} MiB before")
    third = max(LINES, total // 3 // LINES * LINES)
    for number in range(3):
        started = time.perf_counter()
        await flood(daemon, engine, number * third, third)
        while daemon.warden.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        took = time.perf_counter() - started
        seen.append(resident())
        room = daemon.jails.room
        print(
            f"  after {(number + 1) * third:9,}: {seen[-1] / 2**20:6.0f} MiB, "
            f"{took / third * 1e6:6.1f} us each; windows {room.used / 2**20:.0f} MiB, "
            f"bans {len(daemon.warden.bans)}, jails {sum(1 for _ in daemon.jails)}",
            flush=True,
        )
    print(f"  end to first third: {seen[-1] / seen[0]:.3f}")


def size(directory: Path) -> int:
    """Return the bytes of the database's files."""
    return sum(each.stat().st_size for each in directory.glob("state.db*"))


async def soak(options: argparse.Namespace, directory: Path) -> None:
    async with AsyncExitStack() as stack:
        firewall: Firewall = DryRun()
        if options.kernel:
            firewall = await stack.enter_async_context(Kernel(table="soak"))
        daemon, engine = await stack.enter_async_context(house(directory, firewall))
        daemon.jails.room.most = options.room * 2**20
        await measure("containers", containers, daemon, engine, options.containers)
        await measure("addresses", addresses, daemon, engine, options.addresses)
        await measure("connections", connections, daemon, engine, options.connections)
        await measure("names", names, daemon, engine, options.names)
        print(f"database: {size(directory) / 2**20:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--addresses", type=int, default=3_000_000)
    parser.add_argument("--connections", type=int, default=1_000_000)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--containers", type=int, default=12_000)
    parser.add_argument("--room", type=int, default=MOST // 2**20, help="MiB for all windows")
    parser.add_argument("--directory", type=Path, help="where to put the database (default: temp)")
    parser.add_argument("--kernel", action="store_true", help="the real kernel; needs root")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="dj-soak-", dir=options.directory) as directory:
        if options.kernel:
            with netns.create_unique("soak") as space, space.inside():
                asyncio.run(soak(options, Path(directory)))
        else:
            asyncio.run(soak(options, Path(directory)))


if __name__ == "__main__":
    main()
