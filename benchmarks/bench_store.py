"""
How many failures a second the store takes: `python -m benchmarks.bench_store`.

Each call records a batch of entries with its cursor, as the warden does; after
`--maxretry` failures of a subject come its ban and the settlement.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network
from itertools import islice
from pathlib import Path

from dockerjail.model import Ban, Cursor, Failure, Scope, Stream
from dockerjail.ports import Entry, Settled
from dockerjail.store.sqlite import SqliteStore

CONTAINER = "4f" * 32
TEXT = (
    'client {} - - "POST /wp-login.php HTTP/1.1" 401 1234 "-" '
    '"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"'
)
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


def size(path: Path) -> int:
    return path.stat().st_size


async def measure(path: Path, total: int, batch: int, maxretry: int) -> None:
    source = entries(total, maxretry)
    work = [*iter(lambda: [*islice(source, batch)], [])]
    waits: list[float] = []
    async with SqliteStore(path, keep=1.0) as store:
        await store.load(now=1e9, findtime=600.0)
        started, burnt = time.perf_counter(), time.process_time()
        for number, part in enumerate(work):
            before = time.perf_counter()
            await store.record(part, {(CONTAINER, Stream.STDERR): Cursor(number, 1)})
            waits.append(time.perf_counter() - before)
        took, cpu = time.perf_counter() - started, time.process_time() - burnt
        waits.sort()
        print(
            f"batches of {batch:6}: {total / took:8,.0f} failures/s "
            f"({total / maxretry / took:7,.0f} bans/s), {cpu / total * 1e6:5.1f} us CPU each; "
            f"a call p50 {waits[len(waits) // 2] * 1e3:6.2f} ms, max {waits[-1] * 1e3:7.2f} ms"
        )
        before = time.perf_counter()
        purged = await store.purge(2e9)
        took = time.perf_counter() - before
        print(f"{'purge':>17}: {purged / took:8,.0f} rows/s")
    print(f"{'file':>17}: {size(path):8,} bytes after the purge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--failures", type=int, default=200_000)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 10, 100, 1000, 10_000])
    parser.add_argument("--maxretry", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where to put the file (default: temp)")
    options = parser.parse_args()
    for batch in options.batch:
        # Small batches are measured on fewer, or it takes minutes.
        total = min(options.failures, batch * 20_000)
        with tempfile.TemporaryDirectory(prefix="djs", dir=options.directory) as directory:
            asyncio.run(measure(Path(directory) / "state.db", total, batch, options.maxretry))


if __name__ == "__main__":
    main()
