"""
How many failures a second the store takes, and how long a call waits.

    python -m benchmarks.bench_store [--rounds N] [--quick] [--check] [--only TEXT] [--json FILE]

Each call records a batch of entries with its cursor, as the warden does; after five failures of a
subject come its ban and the settlement. The file is on the machine's directory for such things.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, ip_network
from itertools import islice
from pathlib import Path

from benchmarks import frame
from benchmarks.frame import Figure, Options, Taken, at_least
from dockerjail.model import Ban, Cursor, Failure, Scope, Stream
from dockerjail.ports import Entry, Settled
from dockerjail.store.sqlite import SqliteStore

CONTAINER = "4f" * 32
TEXT = (
    'client {} - - "POST /wp-login.php HTTP/1.1" 401 1234 "-" '
    '"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"'
)
MAXRETRY = 5
SCOPE = Scope(ports=None, why="benchmark")


def entries(total: int, maxretry: int) -> Iterator[Entry]:
    """Make `total` failures; every subject fails `maxretry` times, then is banned."""
    for ban in range(1, total // maxretry + 1):
        address = IPv4Address(0x0B000000 + ban)
        subject, jail = ip_network(address), f"nginx-auth@shop-{ban % 8}"
        at = 1e9 + ban / 1000
        for _ in range(maxretry):
            yield Failure(
                jail=jail,
                subject=subject,
                at=at,
                container=CONTAINER,
                text=TEXT.format(address),
                fields={"user": "admin"},
            )
        yield Ban(id=ban, jail=jail, subject=subject, scope=SCOPE, at=at, until=at + 600)
        yield Settled(jail=jail, subject=subject, ban=ban)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What recording took: failures a second, their processor time, the slowest call, rows purged a second."""

    rate: float
    burnt: float
    slowest: float
    purged: float


async def _measure(path: Path, total: int, batch: int) -> Measured:
    source = entries(total, MAXRETRY)
    work = [*iter(lambda: [*islice(source, batch)], [])]
    slowest = 0.0
    async with SqliteStore(path, keep=1.0) as store:
        await store.load(now=1e9, findtime=600.0)
        started, burnt = time.perf_counter(), time.process_time()
        for number, part in enumerate(work):
            before = time.perf_counter()
            await store.record(part, {(CONTAINER, Stream.STDERR): Cursor(number, 1)})
            slowest = max(slowest, time.perf_counter() - before)
        took, cpu = time.perf_counter() - started, time.process_time() - burnt
        before = time.perf_counter()
        purged = await store.purge(2e9)
        gone = time.perf_counter() - before
    return Measured(rate=total / took, burnt=cpu / total, slowest=slowest, purged=purged / gone)


def measured(total: int, batch: int) -> Measured:
    """Record so many failures in batches, into a new file."""
    with tempfile.TemporaryDirectory(prefix="djs") as directory:
        return asyncio.run(_measure(Path(directory) / "state.db", total, batch))


def figures(options: Options) -> Iterable[Figure]:
    """Yield all rows."""
    for batch in (1, 10, 100, 1000, 10_000):
        # small batches are measured on fewer, or it takes minutes
        total = min(options.size(200_000, 50), batch * 5000)
        yield Figure(
            name=f"failures recorded in batches of {batch:,}",
            unit="failures/s",
            take=partial(_rate, total, batch),
            bar=at_least(20_000) if batch >= 1000 else None,
        )


def _rate(total: int, batch: int) -> Taken:
    found = measured(total, batch)
    detail = (
        f"{found.burnt * 1e6:.3g} µs of processor each, the slowest call {found.slowest * 1e3:.3g} ms, "
        f"{found.purged:,.0f} rows/s purged"
    )
    return Taken(found.rate, detail)


if __name__ == "__main__":
    frame.run(__doc__, figures)
