"""
Hosts on the internet, for tests: they connect, log in and flood from addresses of their own.

In: a network namespace and a number. Out: HTTP answers, TCP and UDP echoes, or
the errors that a real client gets. Every call runs in a thread that steps into
the namespace, so it can be used beside an event loop through `asyncio.to_thread`.
"""

import http.client
import socket
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from tests.lab import netns

P = ParamSpec("P")
R = TypeVar("R")

PATIENCE = 5.0
"""How long a client waits for an answer, in seconds."""
BLOCKED_AFTER = 1.5
"""How long a client that expects to be blocked waits: one lost SYN and its repetition."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP server said."""

    status: int
    body: str


class Attacker:
    """A host with one IPv4 address and a /64 of its own; good clients are attackers too."""

    def __init__(self, space: netns.Namespace, number: int) -> None:
        self.space = space
        self.number = number
        self.address = f"198.51.100.{number}"
        self.address6 = f"2001:db8:66:{number:x}::1"
        self.network6 = f"2001:db8:66:{number:x}::/64"
        self._host: netns.Namespace | None = None

    def connect(self, host: netns.Namespace, gateway: str) -> None:
        """Join the namespace to `host`, the address `gateway` of which is the way out."""
        self._host, link = host, f"a{self.number}"
        netns.connect(
            host,
            self.space,
            left_addresses=("fe80::1/64",),
            right_addresses=(f"{self.address}/32", f"{self.address6}/128"),
            left_link=link,
            right_link="eth0",
        )
        host.run("ip", "route", "add", f"{self.address}/32", "dev", link)
        host.run("ip", "route", "add", self.network6, "dev", link)
        self.space.run("ip", "route", "add", f"{gateway}/32", "dev", "eth0")
        self.space.run("ip", "route", "add", "default", "via", gateway)
        self.space.run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")

    def also(self, address: str) -> None:
        """Give the host one more address out of its networks; name it as `source` to use it."""
        netns.add_address(self.space, "eth0", f"{address}/{128 if ':' in address else 32}")

    def network(self, network: str, *addresses: str) -> None:
        """Give the host one more network, and these addresses out of it."""
        assert self._host is not None, "connect first"
        self._host.run("ip", "route", "replace", network, "dev", f"a{self.number}")
        for address in addresses:
            self.also(address)

    def remove(self) -> None:
        """Take the host off the net."""
        self.space.delete()

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function inside the namespace, in a thread of its own; sockets it makes stay."""
        future: Future[R] = Future()

        def step_in() -> None:
            try:
                with self.space.inside():
                    future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - handed on to whoever waits
                future.set_exception(error)

        thread = threading.Thread(target=step_in, name=self.space.name, daemon=True)
        thread.start()
        thread.join()
        return future.result()

    def request(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        *,
        source: str | None = None,
        timeout: float = PATIENCE,
    ) -> Answer:
        """Make one HTTP request; raises `TimeoutError` when it is blocked, else what a client gets."""

        def exchange() -> Answer:
            to = urllib.parse.urlsplit(url)
            connection = http.client.HTTPConnection(
                to.hostname or "",
                to.port,
                timeout=timeout,
                source_address=(source, 0) if source else None,
            )
            try:
                headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
                body = urllib.parse.urlencode(form) if form else None
                connection.request(method, to.path or "/", body, headers)
                answer = connection.getresponse()
                return Answer(answer.status, answer.read().decode(errors="replace"))
            finally:
                connection.close()

        return self.call(exchange)

    def get(self, url: str, *, timeout: float = PATIENCE, source: str | None = None) -> Answer:
        """Make a GET request."""
        return self.request("GET", url, timeout=timeout, source=source)

    def post(self, url: str, form: Mapping[str, str], *, timeout: float = PATIENCE) -> Answer:
        """Send a form."""
        return self.request("POST", url, form, timeout=timeout)

    def reaches(
        self,
        host: str,
        port: int,
        *,
        source: str | None = None,
        timeout: float = BLOCKED_AFTER,
    ) -> bool:
        """Say whether a TCP connection comes about; False when packets are lost on the way."""

        def connect() -> bool:
            try:
                with socket.create_connection(
                    (host, port), timeout=timeout, source_address=(source, 0) if source else None
                ):
                    return True
            except TimeoutError:
                return False

        return self.call(connect)

    def connection(self, host: str, port: int, *, timeout: float = PATIENCE) -> socket.socket:
        """Open a TCP connection that the caller keeps and closes."""
        return self.call(socket.create_connection, (host, port), timeout)

    def datagram(
        self, host: str, port: int, data: bytes, *, timeout: float = BLOCKED_AFTER
    ) -> bytes | None:
        """Send one UDP packet and return the answer, or None when none came."""

        def exchange() -> bytes | None:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.settimeout(timeout)
                client.connect((host, port))
                client.send(data)
                try:
                    return client.recv(65536)
                except (TimeoutError, ConnectionRefusedError):
                    return None

        return self.call(exchange)
