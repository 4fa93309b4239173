"""
An intake on a real Engine, and containers whose output is known to the last byte.

In: an Engine. Out: what an intake delivers from it, kept with its cursors as a
store would keep them, to be compared line by line and in order with what the
program in the container prints.
"""

import asyncio
import contextlib
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping

from dockerjail.docker.client import DockerEngine
from dockerjail.docker.intake import Intake
from dockerjail.docker.tail import State
from dockerjail.framed import plain
from dockerjail.model import Chunk, Cursor, Stream
from dockerjail.ports import CursorKey
from dockerjail.retry import Backoff
from tests.lab import images
from tests.lab.engine import Engine

PATIENCE = 60.0

# Prints N numbered lines to stdout and stderr in turn; each 97th is 16 to 56 KB long.
PRINTER = r"""
BEGIN {
    for (i = 0; i < n; i++) {
        line = sprintf("seq=%06d ", i)
        if (i % 97 == 96) {
            size = 16000 + (i * 7919) % 40000
            part = ""
            for (k = 0; k < 100; k++) part = part sprintf("%d.", i * 1000 + k)
            while (length(line) < size) line = line part
        }
        if (both && i % 2) { print line > "/dev/stderr"; fflush("/dev/stderr") }
        else { print line; fflush() }
        if (pause && i % 50 == 49) system("sleep " pause)
    }
    if (hold) system("sleep 1000")
}
"""


def printer(count: int, *, both: bool = True, pause: float = 0.02, hold: bool = False) -> list[str]:
    """Return the command that prints."""
    given = {"n": count, "both": int(both), "pause": pause, "hold": int(hold)}
    options = itertools.chain.from_iterable(("-v", f"{k}={v}") for k, v in given.items())
    return ["awk", *options, PRINTER]


def printed(count: int, *, both: bool = True) -> dict[Stream, list[str]]:
    """Return what it prints."""
    lines: dict[Stream, list[str]] = {Stream.STDOUT: [], Stream.STDERR: []}
    for i in range(count):
        line = f"seq={i:06d} "
        if i % 97 == 96:
            part = "".join(f"{i * 1000 + k}." for k in range(100))
            line += part * -(-(16000 + (i * 7919) % 40000 - len(line)) // len(part))
        lines[Stream.STDERR if both and i % 2 else Stream.STDOUT].append(line)
    return lines


class Watch:
    """An intake on a real Engine that keeps what it delivers, and cursors as a store would."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.lines: dict[str, dict[Stream, list[str]]] = {}
        self.cursors: dict[CursorKey, Cursor] = {}
        self.gone: list[str] = []
        self.intake: Intake

    async def deliver(self, chunk: Chunk) -> None:
        await asyncio.sleep(0)
        mine = self.lines.setdefault(chunk.container.name, {stream: [] for stream in Stream})
        for line in plain(chunk).data.decode(errors="replace").split("\n")[:-1]:
            assert re.match(r"\d{4}-\d\d-\d\dT\S+ ", line)
            mine[chunk.stream].append(line.partition(" ")[2])
        self.cursors[chunk.container.id, chunk.stream] = chunk.cursor

    @contextlib.asynccontextmanager
    async def running(
        self, *, client: DockerEngine | None = None, **options: float
    ) -> AsyncIterator["Watch"]:
        async with DockerEngine(self.engine.host) as own, asyncio.TaskGroup() as group:
            self.intake = Intake(
                client or own,
                self.deliver,
                wanted=lambda container: "watch" in container.labels,
                cursors=self.cursors,
                lookback=lambda _: 3600.0,
                changed=lambda: None,
                gone=self.gone.append,
                backoff=Backoff(first=0.1, ceiling=1.0),
                **options,  # type: ignore[arg-type]
            )
            task = group.create_task(self.intake.run())
            await self.until(lambda: self.intake.connected)
            yield self
            task.cancel()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not reached():  # noqa: ASYNC110 -- what is waited for is outside
                await asyncio.sleep(0.02)

    async def run(self, name: str, command: list[str], *options: str) -> str:
        image = images.busybox(self.engine)
        options = ("--name", name, "--label", "watch=1", *options)
        return await asyncio.to_thread(self.engine.run, image, *command, options=options)

    async def docker(self, *arguments: str) -> str:
        return await asyncio.to_thread(self.engine.docker, *arguments)

    def of(self, name: str, stream: Stream = Stream.STDOUT) -> list[str]:
        return self.lines.get(name, {}).get(stream, [])

    def count(self, name: str) -> int:
        return sum(map(len, self.lines.get(name, {}).values()))

    def tail(self, name: str) -> object:
        return next(t for t in self.intake.tails.values() if t.container.name == name)

    def ended(self, name: str) -> bool:
        tails = [t for t in self.intake.tails.values() if t.container.name == name]
        return bool(tails) and tails[0].state is State.ENDED


def differences(expected: Mapping[Stream, list[str]], got: Mapping[Stream, list[str]]) -> str:
    """Say what is missing, double or out of order; empty when nothing is."""
    said = []
    for stream in Stream:
        wanted, found = Counter(expected[stream]), Counter(got.get(stream, []))
        missing, more = list((wanted - found).elements()), list((found - wanted).elements())
        if missing or more or expected[stream] != got.get(stream, []):
            said.append(
                f"{stream.name}: {len(missing)} missing {[m[:20] for m in missing[:3]]}, "
                f"{len(more)} too many {[m[:20] for m in more[:3]]}"
            )
    return "; ".join(said)
