"""
The host's own place in its networks: addresses, gateways, name servers.

In: nothing. Out: addresses that must never be banned, of the network namespace that the
process is in, and a word whenever they may have changed. Reads only, and needs no right.

Asked of the kernel without pyroute2, which takes 40 µs for a route: the table of a router
is long, only its default routes matter here, and they are told by one byte of a message.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncGenerator, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from dockerjail.errors import FirewallError
from dockerjail.model import Address
from dockerjail.nft.dump import dump
from dockerjail.nft.messages import Refusal, Reply, attributes

RESOLV_CONF: Final = Path("/etc/resolv.conf")
RESOLVED_CONF: Final = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved says whom it asks; in the other file it names itself."""

STUB: Final = ip_address("127.0.0.53")
"""Where systemd-resolved listens."""

BURST: Final = 0.02
"""Seconds in which changes are told as one."""

# linux/rtnetlink.h, linux/if_addr.h
_ROUTE = 0
_GETADDR, _GETROUTE = 22, 26
_IFADDRMSG, _RTMSG = 8, 12
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA = 5, 9, 18
_HOP = struct.Struct("=HBBi")
_IPV4_ADDRESSES, _IPV4_ROUTES, _IPV6_ADDRESSES, _IPV6_ROUTES = 0x10, 0x40, 0x100, 0x400
_GROUPS = _IPV4_ADDRESSES | _IPV4_ROUTES | _IPV6_ADDRESSES | _IPV6_ROUTES

_LONGEST = 1 << 16
"""Bytes of a resolv.conf that are read."""


class ThisHost:
    """The `Host` port on rtnetlink and the resolver's configuration."""

    def __init__(
        self, *, resolv_conf: Path = RESOLV_CONF, resolved_conf: Path = RESOLVED_CONF
    ) -> None:
        self._resolv_conf = resolv_conf
        self._resolved_conf = resolved_conf

    async def addresses(self) -> frozenset[Address]:
        """Return every address of every link, loopback's too. Raises FirewallError."""
        body = bytes(_IFADDRMSG)
        return frozenset(
            await dump(_ROUTE, _GETADDR, body, _local, "reading this host's addresses")
        )

    async def gateways(self) -> frozenset[Address]:
        """Return where default routes lead, in all routing tables. Raises FirewallError."""
        body = bytes(_RTMSG)
        return frozenset(
            await dump(_ROUTE, _GETROUTE, body, _gateways, "reading this host's routes")
        )

    async def resolvers(self) -> frozenset[Address]:
        """
        Return the name servers that the host asks; none where no file says so.

        Behind systemd-resolved also those that it asks, if its own file can be seen: in a
        container it cannot, but there Docker has put them into the usual one.
        """
        found = await asyncio.to_thread(_nameservers, self._resolv_conf)
        if STUB in found:
            found |= await asyncio.to_thread(_nameservers, self._resolved_conf)
        return found

    async def changes(self) -> AsyncGenerator[None]:
        """
        Yield when addresses or routes have changed, once for a burst. Ends never.

        The first comes as soon as changes are listened for: ask then, and none is missed.
        It is a mere hint: each container that starts or stops brings its link's addresses
        and routes, and a router's routes never rest. Changes of name servers are not told.
        Raises FirewallError.
        """
        what = "watching this host's addresses"
        loop = asyncio.get_running_loop()
        try:
            with socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _ROUTE
            ) as events:
                events.bind((0, _GROUPS))
                while True:
                    yield
                    try:
                        await loop.sock_recv(events, 1)  # that there is one says all
                        await asyncio.sleep(BURST)
                        _drain(events)
                    except OSError as error:
                        if error.errno != errno.ENOBUFS:  # too many to tell
                            raise
        except OSError as error:
            raise FirewallError(f"{what}: {Refusal(error.errno or errno.EIO)}") from error


def _local(reply: Reply) -> Iterator[Address]:
    found = dict(attributes(reply.body[_IFADDRMSG:]))
    # on a point-to-point link IFA_ADDRESS is the other end
    yield from _address(found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS)))


def _gateways(reply: Reply) -> Iterator[Address]:
    if len(reply.body) < _RTMSG:
        return
    family, prefix = reply.body[0], reply.body[1]
    if prefix or family not in (socket.AF_INET, socket.AF_INET6):
        return
    for kind, value in attributes(reply.body[_RTMSG:]):
        if kind == _RTA_MULTIPATH:
            for hop in _hops(value):
                yield from _hop(*hop)
        else:
            yield from _hop(kind, value)


def _hops(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the attributes of each way that a route may take."""
    while len(view) >= _HOP.size:
        length = _HOP.unpack_from(view)[0]
        if length < _HOP.size:
            return
        yield from attributes(view[_HOP.size : length])
        view = view[length + 3 & ~3 :]


def _hop(kind: int, value: memoryview) -> Iterator[Address]:
    if kind == _RTA_GATEWAY:
        yield from _address(value)
    elif kind == _RTA_VIA:  # a family, and an address of it
        yield from _address(value[2:])


def _address(value: memoryview | None) -> Iterator[Address]:
    if value is not None and len(value) in (4, 16):
        yield ip_address(bytes(value))


def _drain(events: socket.socket) -> None:
    """Read what is there; of a storm only so much, the rest is told as the next burst."""
    for _ in range(1000):
        try:
            events.recv(1)
        except BlockingIOError:
            return


def _nameservers(path: Path) -> frozenset[Address]:
    """Read the `nameserver` lines of a file; what cannot be read names none."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST).decode(errors="replace")
    except OSError:
        return frozenset()
    return frozenset(_named(text))


def _named(text: str) -> Iterator[Address]:
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            yield ip_address(words[1].partition("%")[0])
        except ValueError:
            continue
