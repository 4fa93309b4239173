"""
The connections that the kernel knows of (conntrack), as witnesses of what a log says.

In: addresses and ports. Out: whether somebody really spoke to a port, and who speaks to a
container. pyroute2 writes the question; the answers are read here, in a twentieth of its
time. Reads only, but not without CAP_NET_ADMIN.

A packet is a witness only if whoever sent it also gets what is sent to its address, for
whoever forges a log line can forge a packet as well:

* TCP, SCTP: what conntrack calls assured, a handshake carried through. An answer alone
  proves nothing: an open port answers a forged SYN.
* UDP: an answer. A port that stays silent to strangers so tells them from its clients; one
  that answers anybody (DNS, SIP) bears out a forged packet too.

The kernel keeps a flow for a while after its end: TCP for two minutes (ten seconds after
a reset), UDP for 30 seconds. Formats: linux/netfilter/nfnetlink_conntrack.h.
"""

import errno
import math
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, TypeVar

from dockerjail.errors import FirewallError
from dockerjail.model import Address, Port
from dockerjail.nft.dump import PATIENCE, dump
from dockerjail.nft.messages import Reply, attributes, number
from dockerjail.nft.netlink import (
    IPS_ASSURED,
    IPS_SEEN_REPLY,
    NFCTAttrTuple,
    nfct_msg,
)

MOST: Final = 20_000
"""Flows of one container that are counted: these say well enough who its clients are."""

MOST_KEPT: Final = 100_000
"""Flows of an IP version that are kept to answer from."""

OFTEN: Final = 5
FRESH: Final = 2.0
"""So many questions within so many seconds are answered from one look, which is as old at most."""

_NETFILTER = 12
_GET, _GET_STATISTICS = 0x0101, 0x0105
_HEADERS = 16
_FAMILY = 4
"""Bytes of the header that tells the address family."""

_ORIGINAL, _REPLY, _STATUS = 1, 2, 3
_IP, _PROTO = 1, 2
_PROTOCOL, _TO_PORT = 1, 3
_SOURCES = {4: 1, 6: 3}
_LENGTHS = {4: 4, 6: 16}
_NONE = memoryview(b"")
_ENTRIES = 1

_PROTOCOLS: Mapping[int, str] = {
    socket.IPPROTO_TCP: "tcp",
    socket.IPPROTO_UDP: "udp",
    socket.IPPROTO_SCTP: "sctp",
}

_WITNESS: Mapping[str, int] = {"tcp": IPS_ASSURED, "udp": IPS_SEEN_REPLY, "sctp": IPS_ASSURED}

_MODULE = "run `modprobe nf_conntrack_netlink` on the host, or set verify = none"
_REMEDIES: Mapping[int, str] = {
    errno.EPERM: "the right CAP_NET_ADMIN is missing; "
    "start the container with --cap-add NET_ADMIN, as root inside",
    errno.EINVAL: f"this kernel cannot be asked for its connections; {_MODULE}",
    errno.EPROTONOSUPPORT: f"this kernel cannot be asked for its connections; {_MODULE}",
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Flow:
    """A flow by who began it, and at which port as he called it."""

    client: bytes
    protocol: str
    port: int


_Targets = frozenset[tuple[str, int]]
"""Protocols and ports that a client called."""


@dataclass(frozen=True, slots=True)
class _View:
    """All witnesses of one IP version, as they were from the moment `at` on."""

    at: float
    clients: Mapping[bytes, set[tuple[str, int]]]

    def has(self, address: Address, wanted: _Targets | None) -> bool:
        called = self.clients.get(address.packed, set())
        return bool(called) if wanted is None else not wanted.isdisjoint(called)


class Conntrack:
    """
    The `Flows` port; `patience` is how many seconds the kernel may take for an answer.

    A question makes the kernel go through all its flows. When one follows upon the other, as when
    somebody forges lines by the thousand, all are read once and answer what is asked next.
    """

    def __init__(
        self, *, patience: float = PATIENCE, clock: Callable[[], float] = time.time
    ) -> None:
        self._patience = patience
        self._clock = clock
        self._asked: dict[int, deque[float]] = {v: deque(maxlen=OFTEN) for v in (4, 6)}
        self._views: dict[int, _View] = {}

    async def seen(
        self, address: Address, ports: Collection[Port] | None, *, since: float = math.inf
    ) -> bool:
        """
        Say whether `address` has or lately had a flow to one of `ports`, or to any (None).

        Ports as the client called them, before DNAT. What was looked up after the moment `since`
        may answer. FirewallError when the kernel cannot be
        asked, and when it tracks nothing at all: its silence says nothing then.
        """
        wanted = None if ports is None else frozenset((p.protocol, p.number) for p in ports)
        what = f"looking for connections from {address}"
        view = self._views.get(address.version)
        now = self._clock()  # which can be set back
        if view is None or not since <= view.at or not now - FRESH <= view.at <= now:
            view = await self._look(address, what) if self._is_asked_often(address) else None
        if view is not None:
            if view.has(address, wanted):
                return True
        elif await self._is_there(address, wanted, what):
            return True
        if not any(await self._ask(_GET_STATISTICS, bytes(_FAMILY), _entries, what, most=1)):
            raise FirewallError(
                f"{what}: the kernel tracks no connection at all here; "
                "run dockerjail on the host's network, or set verify = none"
            )
        return False

    def _is_asked_often(self, address: Address) -> bool:
        asked, now = self._asked[address.version], self._clock()
        asked.append(now)
        return len(asked) == OFTEN and asked[0] > now - FRESH

    async def _is_there(self, address: Address, wanted: _Targets | None, what: str) -> bool:
        """Ask for the flows of one address."""

        def read(reply: Reply) -> Iterator[_Flow]:
            for flow in _flows(reply, _ORIGINAL, address):
                if wanted is None or (flow.protocol, flow.port) in wanted:
                    yield flow

        return bool(await self._ask(_GET, _question(_ORIGINAL, address), read, what, most=1))

    async def _look(self, address: Address, what: str) -> _View | None:
        """Read all flows of an address's IP version; None if there are too many to keep."""
        at, version = self._clock(), address.version

        def read(reply: Reply) -> Iterator[_Flow]:
            return _witness(reply, version)

        found = await self._ask(_GET, _question(None, address), read, what, most=MOST_KEPT)
        if len(found) >= MOST_KEPT:
            return None
        clients: dict[bytes, set[tuple[str, int]]] = {}
        for flow in found:
            clients.setdefault(flow.client, set()).add((flow.protocol, flow.port))
        self._views[version] = view = _View(at, clients)
        return view

    async def clients(self, address: Address) -> Mapping[Address, int]:
        """
        Count by their source the flows that end at `address`, after DNAT.

        Only flows that could be witnesses, so that a flood of forged packets counts nothing.
        Of a container with more than `MOST` only so many, as they come: in no order.
        FirewallError when the kernel cannot be asked.
        """

        def read(reply: Reply) -> Iterator[_Flow]:
            return _flows(reply, _REPLY, address)

        what = f"looking for connections to {address}"
        found = await self._ask(_GET, _question(_REPLY, address), read, what, most=MOST)
        if not found and address.version == 4:
            # Linux 5.8 to 5.18 takes that filter for one that nothing passes
            found = await self._ask(_GET, _question(None, address), read, what, most=MOST)
        counted = Counter(flow.client for flow in found)
        return {ip_address(client): count for client, count in counted.items()}

    async def _ask(
        self,
        kind: int,
        question: bytes,
        read: Callable[[Reply], Iterable[T]],
        what: str,
        *,
        most: int,
    ) -> list[T]:
        return await dump(
            _NETFILTER,
            kind,
            question,
            read,
            what,
            most=most,
            remedies=_REMEDIES,
            patience=self._patience,
        )


def _question(side: int | None, sender: Address) -> bytes:
    """
    Ask for the flows of a family that were answered: where the kernel can, only a `sender`'s.

    By who sends what goes to a side since Linux 5.8, by their status since 5.15; an older
    one tells all. IPv6 is never asked by sender: the kernel compares those the wrong way
    round, and leaves out what was asked for (seen, Linux 6.18).
    """
    values: dict[str, Any] = {"status": IPS_SEEN_REPLY, "status_mask": IPS_SEEN_REPLY}
    if sender.version == 4 and side is not None:
        wanted = NFCTAttrTuple(saddr=str(sender))
        wanted.attrs()  # which finds out the flags
        name = "orig" if side == _ORIGINAL else "reply"
        values[f"tuple_{name}"] = wanted
        values["filter"] = {"attrs": [[f"CTA_FILTER_{name.upper()}_FLAGS", wanted.flags]]}
    message = nfct_msg.create_from(**values)
    message["nfgen_family"] = socket.AF_INET if sender.version == 4 else socket.AF_INET6
    message["header"]["type"] = message["header"]["flags"] = 0
    message.encode()
    return bytes(message.data)[_HEADERS:]


def _flows(reply: Reply, side: int, sender: Address) -> Iterator[_Flow]:
    """Read a witness in which `sender` sends what goes in one direction."""
    packed = sender.packed
    if packed not in bytes(reply.body):
        return  # most of what there is, where the kernel was not asked by sender
    found = dict(attributes(reply.body[_FAMILY:]))
    if bytes(_tuple(found, side, _IP).get(_SOURCES[sender.version], b"")) == packed:
        yield from _witness(reply, sender.version)


def _witness(reply: Reply, version: int) -> Iterator[_Flow]:
    """Read a flow that is a witness; one that lacks anything is none."""
    found = dict(attributes(reply.body[_FAMILY:]))
    original = _tuple(found, _ORIGINAL, _PROTO)
    protocol = _PROTOCOLS.get(number(original.get(_PROTOCOL, _NONE)))
    if protocol is None or not number(found.get(_STATUS, _NONE)) & _WITNESS[protocol]:
        return
    client = bytes(_tuple(found, _ORIGINAL, _IP).get(_SOURCES[version], b""))
    if len(client) == _LENGTHS[version] and _TO_PORT in original:
        yield _Flow(client, protocol, number(original[_TO_PORT]))


def _tuple(found: Mapping[int, memoryview], side: int, part: int) -> dict[int, memoryview]:
    """Take one half of a flow's name apart: its addresses, or protocol and ports."""
    return dict(attributes(dict(attributes(found.get(side, _NONE))).get(part, _NONE)))


def _entries(reply: Reply) -> Iterator[int]:
    """Read how many flows the kernel knows of, in this network namespace."""
    entries = dict(attributes(reply.body[_FAMILY:])).get(_ENTRIES)
    if entries is not None:
        yield number(entries)
