"""
Datagrams that go to the Engine's host without a pause, to learn when a ban did not hold.

In: an attacker and a port. Out: the moments at which his datagrams arrived at a listener on the
host. It answers none, so that nothing but the packet filter decides who gets through.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Self

from tests.lab.attacker import Attacker
from tests.lab.engine import Engine

EVERY = 0.001
"""Seconds between two datagrams, at least."""

QUIET = 0.3
"""Seconds without one after which nothing gets through any more."""


class Trickle:
    """One attacker's datagrams; a context manager that ends them."""

    def __init__(self, engine: Engine, attacker: Attacker, port: int) -> None:
        self._listening = _listen(engine, attacker.address, port)
        self._sending = attacker.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self._sending.connect((engine.address, port))
        self._arrived: list[float] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=each, name=f"trickle {attacker.address}", daemon=True)
            for each in (self._receive, self._send)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._listening.close()
        self._sending.close()

    def arrived(self, since: float) -> Sequence[float]:
        """Return when datagrams arrived after the moment `since` of the monotonic clock."""
        return [at for at in list(self._arrived) if at > since]

    def flows(self) -> bool:
        """Say whether anything gets through now."""
        since = time.monotonic()
        time.sleep(QUIET)
        return bool(self.arrived(since))

    def _send(self) -> None:
        while not self._over.is_set():
            self._sending.send(b"hello")
            time.sleep(EVERY)

    def _receive(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                self._listening.recv(100)
                self._arrived.append(time.monotonic())


@contextlib.contextmanager
def trickles(engine: Engine, ports: dict[int, Attacker]) -> Iterator[list[Trickle]]:
    """Have several attackers send, each to a port of its own."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(Trickle(engine, attacker, port)) for port, attacker in ports.items()
        ]


def _listen(engine: Engine, client: str, port: int) -> socket.socket:
    """Listen on the host; a thread that steps in there and ends leaves the socket behind."""
    made: list[socket.socket] = []

    def listen() -> None:
        with engine.space.inside():
            listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listening.bind((engine.address, port))
            listening.settimeout(0.1)
            made.append(listening)

    thread = threading.Thread(target=listen, name=f"listener for {client}", daemon=True)
    thread.start()
    thread.join()
    return made[0]
