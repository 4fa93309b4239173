"""
Reading a log of a million lines from a real Engine, beside `curl`.

    python -m benchmarks.bench_drain [--rounds N] [--quick] [--check] [--only TEXT] [--json FILE]

As root. A container has printed the lines of a Flask app, 1 % of them failures; a private dockerd
keeps them. Ours reads them as the daemon does, with a jail that judges and counts; `curl` throws
them away. How fast that goes says dockerd, mostly: so there is a row for what each of the two uses
of the processor meanwhile.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks import frame
from benchmarks.frame import Against, Comparison, Figure, Item, Options, Taken, Turn, at_most, cpu
from benchmarks.ours import policy
from benchmarks.workloads import FLASK, lines
from dockerjail.docker.client import DockerEngine
from dockerjail.docker.cursor import dialect
from dockerjail.docker.tail import Tail
from dockerjail.jail.jail import Jails
from dockerjail.jail.rule import Rule
from dockerjail.model import Chunk, Failure
from dockerjail.retry import Backoff
from tests.lab import images
from tests.lab.engine import Engine

DRIVERS = {
    "json-file": ("--log-driver", "json-file"),
    "local": ("--log-driver", "local", "--log-opt", "max-size=1g"),
}
SHARE = 0.01
_TICK = os.sysconf("SC_CLK_TCK")


class Written:
    """A container that has printed lines, and everybody's way to read them."""

    def __init__(self, engine: Engine, driver: str, count: int) -> None:
        self.count = count
        self._engine = engine
        with tempfile.TemporaryDirectory(prefix="dj-drain-") as place:
            file = Path(place) / "lines"
            file.write_text("".join(f"{line}\n" for line in lines("flask", count, SHARE)))
            self._id = engine.run(
                images.busybox(engine),
                *("cat", "/printed/lines"),
                options=("--volume", f"{place}:/printed:ro", *DRIVERS[driver]),
            )
            engine.docker("wait", self._id)
        # only what both read is the same: what is still to be written is a matter of moments
        engine.docker("logs", "--tail", "1", self._id)

    def by_curl(self) -> Turn:
        """Have `curl` read all and throw it away."""
        query = "stdout=1&stderr=1&timestamps=1&tail=all"
        url = f"http://engine/v1.41/containers/{self._id}/logs?{query}"
        socket = str(self._engine.socket)
        before = time.perf_counter()
        subprocess.run(
            ["curl", "--silent", "--fail", "--unix-socket", socket, "--output", "/dev/null", url],
            check=True,
        )
        return Turn(seconds=time.perf_counter() - before, pieces=self.count)

    def by_us(self) -> Turn:
        """Read and judge all as the daemon does."""
        took, _ = asyncio.run(self._read())
        return Turn(seconds=took, pieces=self.count)

    def share(self) -> Taken:
        """Return what part of dockerd's processor time ours is while we read."""
        theirs, before = self._dockerd(), cpu()
        asyncio.run(self._read())
        ours, theirs = cpu() - before, self._dockerd() - theirs
        detail = f"{ours / self.count * 1e6:.3g} µs and {theirs / self.count * 1e6:.3g} µs a line"
        return Taken(ours / theirs, detail)

    async def _read(self) -> tuple[float, int]:
        jails = Jails()
        failures = 0

        async def deliver(chunk: Chunk) -> None:
            nonlocal failures
            trial = bench.trial(chunk)
            for _ in trial:
                await asyncio.sleep(0)
            failures += sum(isinstance(each, Failure) for each in trial.verdict.entries)

        async with DockerEngine(self._engine.host) as client:
            container = await client.inspect(self._id)
            assert container is not None
            bench = jails.bench(container, [policy("flask", Rule(failregex=(FLASK,)))])
            kind = dialect(await client.version())
            before = time.perf_counter()
            tail = Tail(
                client,
                container,
                deliver,
                stored={},
                start=0.0,
                dialect=lambda: kind,
                backoff=Backoff(first=0.1, ceiling=1.0),
                clock=time.time,
            )
            await tail.run()
            took = time.perf_counter() - before
        assert tail.lines == self.count, tail.lines
        assert not tail.gaps
        return took, failures

    def _dockerd(self) -> float:
        """Return the processor seconds of dockerd so far."""
        fields = Path(f"/proc/{self._engine.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK


def build(options: Options) -> Iterable[Item]:
    """List what is measured."""
    count = options.size(1_000_000, 2_000)
    with Engine.claim("engine") as engine:
        engine.start()
        for driver in DRIVERS:
            written = Written(engine, driver, count)
            yield Comparison(
                name=f"drain {count:,} lines, {driver}",
                ours=written.by_us,
                others=[Against(name="curl to /dev/null", side=written.by_curl, bar=at_most(1.11))],
            )
            yield Figure(
                name=f"drain, {driver}: our processor time",
                unit="of dockerd's",
                take=written.share,
                bar=at_most(0.5),
            )


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("as root, please: it starts a dockerd of its own")
    frame.run(__doc__, build)
