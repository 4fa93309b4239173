"""
What the kernel sends, or whoever could pass for it: datagrams of nf_tables, conntrack, routes.

Every byte is read to an end, and what makes no sense says nothing.
"""

import struct
from ipaddress import ip_address
from typing import Final

from dockerjail.nft import flows, host, messages
from dockerjail.nft.messages import INET, Kind, attribute
from tests.fuzz.material import Material, seed

LONGEST: Final = 1024

_TABLE: Final = "dockerjail"
_SENDER: Final = ip_address("172.18.0.5")
_SENDER6: Final = ip_address("fd00::5")
_HEADER: Final = struct.Struct("=IHHII")
_TYPES: Final = (
    *(10 << 8 | kind for kind in Kind),
    *(messages.NETLINK_ERROR, messages.NETLINK_DONE, 0x0100, 24, 20),
)
_FAMILY: Final = bytes([INET, 0, 0, 0])


def _nested(kind: int, *inner: bytes) -> bytes:
    return attribute(kind | 0x8000, b"".join(inner))


def _of(kind: int) -> int:
    return _TYPES.index(10 << 8 | kind)


_COUNTER: Final = _nested(
    1, attribute(1, b"counter\0"), _nested(2, attribute(1, bytes(8)), attribute(2, bytes(8)))
)
_ELEMENT: Final = _nested(
    1,
    _nested(1, attribute(1, bytes([203, 0, 113, 7]))),
    attribute(4, bytes(7) + b"\1"),
    attribute(5, bytes(7) + b"\1"),
    _nested(
        7, attribute(1, b"counter\0"), _nested(2, attribute(1, bytes(8)), attribute(2, bytes(8)))
    ),
)
_FLOW: Final = (
    _nested(
        1,
        _nested(1, attribute(1, _SENDER.packed), attribute(2, _SENDER.packed)),
        _nested(2, attribute(1, b"\6"), attribute(3, b"\0\x50")),
    )
    + _nested(2, _nested(1, attribute(1, _SENDER.packed)))
    + attribute(3, bytes(3) + b"\x0e")
)

SEEDS: Final = (
    seed(_FAMILY + messages.named(_TABLE), choices=(_of(Kind.NEWTABLE), 0)),
    seed(
        _FAMILY + messages.named(_TABLE, "drop4") + attribute(16, bytes(8)),
        choices=(_of(Kind.NEWSET), 0),
    ),
    seed(
        _FAMILY + messages.named(_TABLE, "drop4") + _nested(3, _ELEMENT),
        choices=(_of(Kind.NEWSETELEM), 0),
    ),
    seed(
        _FAMILY + messages.named(_TABLE, "in") + attribute(3, bytes(8)) + _nested(4, _COUNTER),
        choices=(_of(Kind.NEWRULE), 0),
    ),
    seed(
        _FAMILY + attribute(1, b"\0\0\0\7") + attribute(3, b"nft\0"), choices=(_of(Kind.NEWGEN), 0)
    ),
    seed(bytes(4) + _FLOW, choices=(_TYPES.index(0x0100), 0)),
    seed(struct.pack("=i", -1) + bytes(16) + attribute(1, b"no\0"), choices=(len(Kind), 3)),
    seed(
        bytes([2, 24, 0, 0, 254, 8, 0, 1]) + attribute(2, bytes(4)), choices=(_TYPES.index(20), 0)
    ),
    seed(
        bytes([2, 0])
        + bytes(10)
        + attribute(9, struct.pack("=HBBi", 16, 0, 0, 1) + attribute(5, _SENDER.packed)),
        choices=(_TYPES.index(24), 0),
    ),
    seed("nameserver 192.0.2.53\nnameserver fe80::1%eth0\n", choices=(len(_TYPES) - 1, 0)),
)


def check(data: bytes) -> None:
    """Read the bytes as a datagram, then as the body of one message."""
    material = Material(data)
    kind = material.one_of(_TYPES)
    flags = material.one_of((0, 0x100, 0x200, 0x300))
    body = material.rest()
    _read(body)
    _read(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
    list(host._named(body.decode(errors="replace")))


def _read(datagram: bytes) -> None:
    str(messages.events(datagram, _TABLE))
    length = 0
    for reply in messages.replies(datagram):
        length += len(reply.body) + 16
        told = messages.refusal(reply)
        assert told is None or str(told)
        list(messages.found(reply))
        messages.landmark(reply, _TABLE)
        messages.shape(reply)
        messages.counted(reply)
        messages.standing(reply)
        messages.set_count(reply)
        messages.set_name(reply)
        messages.generation(reply)
        for sender in (_SENDER, _SENDER6):
            for side in (1, 2):
                list(flows._flows(reply, side, sender))
        for version in (4, 6):
            list(flows._witness(reply, version))
        list(flows._entries(reply))
        list(host._local(reply))
        list(host._gateways(reply))
    assert length <= len(datagram)
