"""
A host with a packet filter and its clients, in namespaces of the test's own.

In: subjects, ports and times in short. Out: sockets on either side of one link, elements
and blocks for the filter, and what its counters say. Nothing outside of the namespaces is
touched.
"""

import asyncio
import contextlib
import errno
import select
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from dockerjail.model import Blocktype, Counter, Element, Port, Protocol
from dockerjail.nft.kernel import Kernel
from dockerjail.ports import Block
from tests.lab import netns

SERVER, ATTACKER, NEIGHBOUR = "198.51.100.1", "198.51.100.2", "198.51.100.3"
SERVER6 = "2001:db8:0:1::1"
ATTACKER6, ATTACKER6_TOO, NEIGHBOUR6 = "2001:db8:0:1::2", "2001:db8:0:1::3", "2001:db8:0:2::2"
CONTAINER, CONTAINER6 = "198.51.100.10", "2001:db8:0:1::10"
OTHER, OTHER6 = "198.51.100.11", "2001:db8:0:1::11"
DEVICE = "veth0"


@dataclass
class Lab:
    """A host with a packet filter, and one link away clients at several addresses."""

    host: netns.Namespace
    outside: netns.Namespace
    sockets: list[socket.socket] = field(default_factory=list)

    def listen(
        self, address: str, port: int, *, space: netns.Namespace | None = None
    ) -> socket.socket:
        with (space or self.host).inside():
            return self.keep(socket.create_server((address, port), family=family(address)))

    def udp(self, space: netns.Namespace, address: str, port: int = 0) -> socket.socket:
        with space.inside():
            made = self.keep(socket.socket(family(address), socket.SOCK_DGRAM))
            made.bind((address, port))
            made.settimeout(10)
            return made

    def connect(
        self, source: str, target: str, port: int, *, space: netns.Namespace | None = None
    ) -> socket.socket:
        """Connect, and raise when it takes ten seconds."""
        with (space or self.outside).inside():
            return self.keep(
                socket.create_connection((target, port), timeout=10, source_address=(source, 0))
            )

    def knock(self, source: str, target: str, port: int) -> socket.socket:
        """Begin to connect."""
        with self.outside.inside():
            made = self.keep(socket.socket(family(target), socket.SOCK_STREAM))
        made.bind((source, 0))
        made.setblocking(False)
        assert made.connect_ex((target, port)) == errno.EINPROGRESS
        return made

    def keep(self, made: socket.socket) -> socket.socket:
        self.sockets.append(made)
        return made


@contextlib.contextmanager
def past_the_host(lab: Lab) -> Iterator[netns.Namespace]:
    """Make a container that clients reach past the host: macvlan on the host's link."""
    with netns.create_unique(lab.host.name.partition("-")[0]) as container:
        lab.host.run(
            *("ip", "link", "add", "macvlan0", "link", DEVICE),
            *("netns", str(container.path), "type", "macvlan", "mode", "bridge"),
        )
        for address in (CONTAINER, OTHER):
            netns.add_address(container, "macvlan0", f"{address}/24")
        for address in (CONTAINER6, OTHER6, "2001:db8:0:2::10"):
            netns.add_address(container, "macvlan0", f"{address}/64")
        container.run("ip", "link", "set", "macvlan0", "up")
        yield container


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connected(knocking: socket.socket) -> bool:
    return bool(select.select([], [knocking], [], 0)[1])


def silent(listening: socket.socket) -> bool:
    return not select.select([listening], [], [], 0)[0]


def element(
    subject: str,
    port: int | None = None,
    protocol: Protocol = "tcp",
    blocktype: Blocktype = Blocktype.DROP,
    to: str | None = None,
) -> Element:
    return Element(
        ip_network(subject),
        None if port is None else Port(port, protocol),
        blocktype,
        None if to is None else ip_address(to),
    )


def block(element: Element, seconds: float | None = 600) -> Block:
    return Block(element=element, until=None if seconds is None else time.time() + seconds)


async def until(say: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(20):
        while not await say():  # noqa: ASYNC110  # the kernel sets no asyncio.Event
            await asyncio.sleep(0.01)


async def blocked(kernel: Kernel, element: Element, *, packets: int = 1) -> Counter:
    """Wait until an element has blocked so many packets."""
    counted = Counter(0, 0)

    async def enough() -> bool:
        nonlocal counted
        counted = (await kernel.counters([element])).get(element, counted)
        return counted.packets >= packets

    await until(enough)
    return counted


@contextlib.contextmanager
def opened(prefix: str) -> Iterator[Lab]:
    """Make a lab, and put the current thread into the host until it ends."""
    with netns.create_unique(prefix) as host, netns.create_unique(prefix) as outside:
        netns.connect(
            host,
            outside,
            left_addresses=[f"{SERVER}/24", f"{SERVER6}/64", "2001:db8:0:2::1/64"],
            right_addresses=[
                *(f"{ATTACKER}/24", f"{NEIGHBOUR}/24"),
                *(f"{ATTACKER6}/64", f"{ATTACKER6_TOO}/64", f"{NEIGHBOUR6}/64"),
            ],
        )
        made = Lab(host, outside)
        try:
            with host.inside():
                yield made
        finally:
            for each in made.sockets:
                each.close()
