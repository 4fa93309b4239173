"""
Logs of drivers that cannot be read, from the copy that the Engine keeps of them ("dual logging").

The copy is the Engine's own `local` log. It is read like any other; that it may lack lines is
said from the start, since nobody can see which.
"""

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Iterator

import pytest

from dockerjail.docker.tail import Tail
from dockerjail.model import Stream
from tests.lab.engine import Engine
from tests.lab.jailer import Jailer, follows, serve
from tests.lab.watch import Watch

pytestmark = pytest.mark.engine

TALKER = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo $i; echo $i >&2; usleep 5000; done"

DRIVERS = {
    "syslog": ("syslog-address=udp://127.0.0.1:514",),
    "gelf": ("gelf-address=udp://127.0.0.1:12201",),
    "fluentd": ("fluentd-address=127.0.0.1:24224", "fluentd-async=true"),
}


@contextlib.contextmanager
def servers(engine: Engine) -> Iterator[None]:
    """Have somebody there whom these drivers send to, so that nothing keeps lines from the copy."""
    with engine.space.inside():
        sinks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    guests: list[socket.socket] = []

    def swallow() -> None:
        with contextlib.suppress(OSError):
            while True:
                guests.append(door.accept()[0])
                threading.Thread(target=drain, args=guests[-1:], daemon=True).start()

    def drain(guest: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while guest.recv(65536):
                pass

    with contextlib.ExitStack() as stack:
        for sink, port in zip(sinks, (514, 12201), strict=True):
            stack.enter_context(sink).bind(("127.0.0.1", port))
        stack.enter_context(door).bind(("127.0.0.1", 24224))
        door.listen()
        thread = threading.Thread(target=swallow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            engine.remove_containers()
            door.shutdown(socket.SHUT_RDWR)
            thread.join()
            for guest in guests:
                guest.close()


def options_of(driver: str) -> list[str]:
    options = ["--log-driver", driver]
    for option in DRIVERS[driver]:
        options += ["--log-opt", option]
    return options


@pytest.mark.parametrize("driver", DRIVERS)
async def test_each_line_of_a_copy_counts_once_whenever_we_are_stopped(any_engine, driver):
    watch = Watch(any_engine)
    chance = random.Random(7)
    with servers(any_engine):
        await watch.run("web", ["sh", "-c", TALKER], *options_of(driver))
        for _ in range(4):
            async with watch.running():
                await asyncio.sleep(chance.uniform(0.0, 0.3))
            await asyncio.sleep(chance.choice((0.0, 0.1)))
        async with watch.running():
            await watch.until(lambda: watch.ended("web"))
            tail = watch.tail("web")
            assert isinstance(tail, Tail)
            assert tail.gaps == 0
    numbers = [str(n) for n in range(1, 201)]
    assert watch.of("web") == watch.of("web", Stream.STDERR) == numbers


def test_status_says_of_each_copy_that_lines_may_be_missing(any_engine, tmp_path):
    with servers(any_engine):
        for driver in DRIVERS:
            serve(any_engine, driver, *options_of(driver), port=None)
        with Jailer(any_engine, tmp_path) as jailer:
            status = follows(jailer, *DRIVERS)
    told = {problem["place"]: problem["what"] for problem in status["problems"]}
    for driver in DRIVERS:
        said = f"with the logging driver {driver} the Engine keeps only a copy"
        assert said in told[f"container {driver}"]
