"""
A tail on real Engines whose clock is set, whose logs are damaged, and whose streams hang.

A clock cannot be set for one Engine alone, so what was logged before it was set back is
written into the log of a container that does not run, with stamps of tomorrow; what the
container then prints comes after the step.
"""

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockerjail.docker import tail
from dockerjail.docker.client import DockerEngine
from dockerjail.docker.tail import State
from dockerjail.model import Chunk, Stream
from tests.lab.engine import Engine
from tests.lab.proxy import Proxy
from tests.lab.watch import Watch, differences

pytestmark = pytest.mark.engine

TOMORROW = 86400
TALKER = """
[ -e /again ] || { echo one; touch /again; exit; }
until [ -e /tmp/go ]; do sleep 0.1; done
i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo out $i; echo err $i >&2; sleep 0.02; done
sleep 1000
"""


def log_of(engine: Engine, container: str) -> Path:
    return Path(engine.root, "data", "containers", container, f"{container}-json.log")


def forge(engine: Engine, container: str, count: int, *, ahead: float) -> list[str]:
    """Write lines into a log as if a clock had been ahead when they were printed."""
    texts = [f"forged {number}" for number in range(count)]
    with log_of(engine, container).open("ab") as log:
        for number, text in enumerate(texts):
            second, fraction = divmod(time.time_ns() + int(ahead * 1e9) + number * 1000, 10**9)
            stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{fraction:09d}Z"
            line = {"log": f"{text}\n", "stream": "stdout", "time": stamp}
            log.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    return texts


@pytest.mark.parametrize("missed", [5, 700])
async def test_a_clock_that_is_set_back_loses_and_doubles_nothing(any_engine, missed):
    watch = Watch(any_engine)
    async with watch.running():
        name = await watch.run("web", ["sh", "-c", TALKER])
        await watch.until(lambda: watch.ended("web"))
        forged = forge(any_engine, name, missed, ahead=TOMORROW)
        await watch.docker("start", "web")
        await watch.until(lambda: watch.of("web") == ["one", *forged])
        await watch.docker("exec", "web", "touch", "/tmp/go")
        await watch.until(lambda: len(watch.of("web")) >= missed + 41)
        await watch.until(lambda: len(watch.of("web", Stream.STDERR)) >= 40)
        assert "clock was set back" in str(watch.intake.tails[name].problems)
        assert watch.intake.tails[name].gaps == 0
    async with watch.running():
        await asyncio.sleep(3)
    said = [f"out {number}" for number in range(1, 41)]
    assert watch.of("web") == ["one", *forged, *said]
    assert watch.of("web", Stream.STDERR) == [f"err {number}" for number in range(1, 41)]


async def test_a_clock_that_is_set_back_while_we_are_down_loses_and_doubles_nothing(any_engine):
    watch = Watch(any_engine)
    async with watch.running():
        name = await watch.run("web", ["sh", "-c", TALKER])
        await watch.until(lambda: watch.ended("web"))
        forged = forge(any_engine, name, 300, ahead=TOMORROW)
        await watch.docker("start", "web")
        await watch.until(lambda: watch.of("web") == ["one", *forged])
    await watch.docker("exec", "web", "touch", "/tmp/go")
    await asyncio.sleep(2)
    async with watch.running():
        await watch.until(lambda: len(watch.of("web")) >= 341)
        await watch.until(lambda: len(watch.of("web", Stream.STDERR)) >= 40)
    async with watch.running():
        await asyncio.sleep(3)
        assert watch.intake.tails[name].gaps == 0
    said = [f"out {number}" for number in range(1, 41)]
    assert watch.of("web") == ["one", *forged, *said]
    assert watch.of("web", Stream.STDERR) == [f"err {number}" for number in range(1, 41)]


async def test_what_a_power_cut_tore_off_is_a_gap_and_doubles_nothing(any_engine):
    watch = Watch(any_engine)
    async with watch.running():
        name = await watch.run(
            "web", ["sh", "-c", "seq 1 300; [ ! -e /old ] || seq 1001 1300; touch /old"]
        )
        await watch.until(lambda: watch.ended("web"))
    path = log_of(any_engine, name)
    lines = path.read_bytes().splitlines(keepends=True)
    torn = b"".join(lines[280:])
    # The file has its size, and zeros where the disk had not written yet.
    await asyncio.to_thread(any_engine.stop)
    path.write_bytes(b"".join(lines[:280]) + b"\0" * len(torn))
    await asyncio.to_thread(any_engine.start)
    await watch.docker("start", "web")
    await watch.docker("wait", "web")
    async with watch.running():
        await watch.until(lambda: watch.ended("web"))
        assert watch.intake.tails[name].gaps > 0
        assert "missed" in str(watch.intake.tails[name].problems)
    got = watch.of("web")
    assert got[:300] == [str(number) for number in range(1, 301)]
    assert set(got[300:]) <= {str(number) for number in (*range(1, 301), *range(1001, 1301))}
    assert got[-250:] == [str(number) for number in range(1051, 1301)]


class Door(Watch):
    """Takes nothing while its door is shut."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.open = asyncio.Event()
        self.open.set()

    async def deliver(self, chunk: Chunk) -> None:
        await self.open.wait()
        await super().deliver(chunk)


async def test_rotation_while_nobody_takes_lines_loses_none(any_engine):
    watch = Door(any_engine)
    script = "echo 0; until [ -e /tmp/go ]; do sleep 0.1; done; seq 1 60000; sleep 1000"
    rotated = ("--log-opt", "max-size=9m", "--log-opt", "max-file=4")
    async with watch.running():
        name = await watch.run("web", ["sh", "-c", script], *rotated)
        await watch.until(lambda: watch.of("web") == ["0"])
        await watch.until(lambda: watch.intake.tails[name].state is State.FOLLOWING)
        watch.open.clear()
        await watch.docker("exec", "web", "touch", "/tmp/go")
        await watch.until(lambda: watch.intake.tails[name].state is State.HELD_UP)
        await asyncio.sleep(5)
        watch.open.set()
        await watch.until(lambda: watch.count("web") >= 60001)
        assert watch.intake.tails[name].gaps == 0
    assert watch.of("web") == [str(number) for number in range(60001)]


async def test_bursts_at_the_end_of_a_small_file_are_delivered_whole(any_engine):
    """What a follower would skip: it is at the end of one file, and the next is full at once."""
    watch = Watch(any_engine)
    script = """
        say() { awk -v n=$3 -v t="$1 $2" 'BEGIN { for (i = 1; i <= n; i++) printf "%s %06d\\n", t, i }'; }
        for turn in 0 1 2 3; do
            say $turn first 2400; sleep 0.7; say $turn burst 9000; sleep 1.3
        done
    """
    options = ("--log-opt", "max-size=200k", "--log-opt", "max-file=20")
    async with watch.running():
        await watch.run("web", ["sh", "-c", script], *options)
        await watch.until(lambda: watch.ended("web"))
    expected = [
        f"{turn} {what} {number:06d}"
        for turn in range(4)
        for what, count in (("first", 2400), ("burst", 9000))
        for number in range(1, count + 1)
    ]
    got = {Stream.STDOUT: watch.of("web")}
    assert not differences({Stream.STDOUT: expected, Stream.STDERR: []}, got)


async def test_long_lines_of_alike_pieces_are_delivered_whole_over_rotations(any_engine):
    watch = Watch(any_engine)
    script = 'BEGIN { while (length(x) < 70000) x = x x "A"; for (i = 0; i < 60; i++) { print substr(x, 1, 49152 + i); fflush(); system("sleep 0.05") } }'
    async with watch.running():
        await watch.run(
            "web", ["awk", script], "--log-opt", "max-size=9m", "--log-opt", "max-file=4"
        )
        await watch.until(lambda: watch.ended("web"))
    assert [len(line) for line in watch.of("web")] == [49152 + i for i in range(60)]


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="djtl5-") as made:
        yield Path(made)


@pytest.mark.parametrize("after", [0, 700], ids=["no headers", "half a body"])
async def test_lines_come_although_streams_hang(any_engine, place, monkeypatch, after):
    """Something between us and the Engine keeps connections open and passes nothing on."""
    monkeypatch.setattr(tail, "_STUCK", 2.0)
    watch = Watch(any_engine)
    script = "i=0; while [ $i -lt 160 ]; do i=$((i+1)); echo $i; sleep 0.05; done"
    with Proxy(any_engine.socket, place / "docker.sock") as proxy:
        async with DockerEngine(proxy.host) as client, watch.running(client=client):
            await watch.run("web", ["sh", "-c", script])
            await watch.until(lambda: watch.count("web") > 20)
            turns = itertools.count()
            proxy.stall_after = lambda: after if next(turns) % 3 else None
            proxy.cut()
            await asyncio.sleep(4)
            proxy.stall_after = lambda: None
            await watch.until(lambda: watch.ended("web"))
    assert watch.of("web") == [str(number) for number in range(1, 161)]
