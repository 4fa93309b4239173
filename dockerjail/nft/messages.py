"""
Netlink messages of nf_tables, as bytes. Pure.

In: messages and elements to write; datagrams that the kernel sent. Out: a batch
ready to send; replies, refusals, elements, landmarks and events as values. Knows
the wire and nothing of sockets; tables, chains, sets and rules are encoded at the
door (`kernel`), only what is hot or has to be exact is done here. Whatever the bytes that
came, they are read to an end: what is not there is 0, empty, or None.

Formats: linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.
Netlink's own numbers are in the machine's byte order, nf_tables' are big-endian.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from errno import errorcode
from functools import lru_cache
from typing import NamedTuple

from dockerjail.nft.ruleset import Interval

INET = 1
"""NFPROTO_INET: the family of our table."""

REQUEST, ACK, ECHO, DUMP, CREATE, APPEND = 0x1, 0x4, 0x8, 0x300, 0x400, 0x800
DUMP_INTERRUPTED = 0x10

NETLINK_ERROR, NETLINK_DONE = 2, 3

PER_MESSAGE = 900
"""
Elements per message. The length of the list is 16 bits wide, and an element with
two IPv6 addresses, timeout and expiration takes 68 bytes of it.
"""

OWNED, PERSISTENT = 0x2, 0x4
"""
Flags of a table: only the socket that made it may change it (NFT_TABLE_F_OWNER), and it
stays when that socket is closed (NFT_TABLE_F_PERSIST); then the first flag goes.
"""

LONGEST_MS = (1 << 64) // 1_000_000 - 1
"""The longest timeout that the kernel takes (584 years); more is ERANGE."""

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_CAPPED, _ACK_TLVS = 0x100, 0x200
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_TO_SUBSYSTEM = _SUBSYSTEM.to_bytes(2, "big")

_OUR_FAMILY = bytes([INET])

_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=IHHIIBB2s")
_ATTRIBUTE = struct.Struct("=HH")


class Kind(IntEnum):
    """What a message is about (NFT_MSG_*)."""

    NEWTABLE = 0
    GETTABLE = 1
    DELTABLE = 2
    NEWCHAIN = 3
    GETCHAIN = 4
    DELCHAIN = 5
    NEWRULE = 6
    GETRULE = 7
    DELRULE = 8
    NEWSET = 9
    GETSET = 10
    DELSET = 11
    NEWSETELEM = 12
    GETSETELEM = 13
    DELSETELEM = 14
    NEWGEN = 15
    GETGEN = 16
    DESTROYTABLE = 26
    DESTROYSETELEM = 30


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `body` are its attributes, `about` says in words what it does."""

    kind: Kind
    flags: int
    body: bytes
    about: str = ""

    def pack(self, sequence: int, flags: int = 0) -> bytes:
        """Return the message with its headers; `flags` come on top of its own."""
        header = _MESSAGE.pack(
            _MESSAGE.size + len(self.body),
            _SUBSYSTEM << 8 | self.kind,
            REQUEST | self.flags | flags,
            sequence,
            *(0, INET, 0, b"\0\0"),
        )
        return header + self.body


def batch(messages: Sequence[Message], sequence: int) -> bytes:
    """
    Frame messages as one transaction: all of it happens, or nothing.

    BEGIN has the number `sequence`, the messages and END those that follow. Only
    the last message asks for an ACK; errors come unasked. Where the first message
    asks for an echo, the kernel also tells the generation that it committed.
    """
    last = len(messages)
    parts = [_edge(_BATCH_BEGIN, sequence)]
    parts += (
        message.pack(sequence + index, ACK if index == last else 0)
        for index, message in enumerate(messages, 1)
    )
    parts.append(_edge(_BATCH_END, sequence + last + 1))
    return b"".join(parts)


def _edge(kind: int, sequence: int) -> bytes:
    return _MESSAGE.pack(_MESSAGE.size, kind, REQUEST, sequence, *(0, 0, 0, _TO_SUBSYSTEM))


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    size = len(value) + _ATTRIBUTE.size
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size & 3)


def named(*names: str) -> bytes:
    """Return attributes 1, 2 and so on with these strings: a table, a set in it."""
    return b"".join(attribute(kind, text.encode() + b"\0") for kind, text in enumerate(names, 1))


# attributes of a list of elements, and of one element
_LIST_ELEMENTS = 3
_LIST_ITEM = 1
_KEY, _FLAGS, _TIMEOUT, _EXPIRATION, _EXPR = 1, 3, 4, 5, 7
_VALUE = 1
_INTERVAL_END = attribute(_FLAGS, b"\0\0\0\1")


def elements(kind: Kind, table: str, home: str, entries: bytes, *, flags: int = 0) -> Message:
    """Return a message about elements of the set `home`, packed by one of the functions below."""
    body = named(table, home) + attribute(_LIST_ELEMENTS | _NESTED, entries)
    return Message(kind, flags, body, f"elements of set {home}")


def timed(entries: Iterable[tuple[bytes, int]]) -> bytes:
    """
    Pack keys with the milliseconds that they have to live; 0 is for good.

    The expiration goes beside the timeout: over an element with the same timeout,
    kernels from 6.12 on would leave the old end in place.
    """
    parts = []
    for key, milliseconds in entries:
        size = len(key)
        if milliseconds:
            left = min(milliseconds, LONGEST_MS).to_bytes(8, "big")
            parts.append(
                _timed(size).pack(
                    *(size + 36, _LIST_ITEM | _NESTED, size + 8, _KEY | _NESTED),
                    *(size + 4, _VALUE, key, 12, _TIMEOUT, left, 12, _EXPIRATION, left),
                )
            )
        else:
            parts.append(_item(key, attribute(_TIMEOUT, b"\0" * 8)))
    return b"".join(parts)


@lru_cache
def _timed(size: int) -> struct.Struct:
    return struct.Struct(f"=HHHHHH{size}sHH8sHH8s")


def keys(entries: Iterable[bytes]) -> bytes:
    """Pack keys alone: to delete elements or to ask for them."""
    return b"".join(map(_item, entries))


def emptied(table: str, name: str) -> Message:
    """Return the message that takes every element out of a set: a deletion that names none."""
    return Message(Kind.DELSETELEM, 0, named(table, name))


def chain_gone(table: str, name: str) -> Message:
    """Return the message that deletes a chain with its rules."""
    body = named(table) + attribute(3, name.encode() + b"\0")
    return Message(Kind.DELCHAIN, 0, body, f"chain {name}")


def intervals(entries: Iterable[Interval]) -> bytes:
    """Pack ranges: each a key, and a closing key behind its last address."""
    parts = []
    for first, after in entries:
        parts.append(_item(first))
        if after is not None:
            parts.append(_item(after, _INTERVAL_END))
    return b"".join(parts)


def _item(key: bytes, more: bytes = b"") -> bytes:
    return attribute(_LIST_ITEM | _NESTED, attribute(_KEY | _NESTED, attribute(_VALUE, key)) + more)


class Reply(NamedTuple):
    """One message from the kernel; `body` begins behind the netlink header."""

    type: int
    flags: int
    sequence: int
    sender: int
    body: memoryview

    @property
    def kind(self) -> int | None:
        """Which message of nf_tables it is (a `Kind`), None for another subsystem's."""
        return self.type & 0xFF if self.type >> 8 == _SUBSYSTEM else None


def replies(data: bytes) -> Iterator[Reply]:
    """Take a datagram apart; a truncated end is left out."""
    view = memoryview(data)
    at = 0
    while at + _HEADER.size <= len(view):
        length, kind, flags, sequence, sender = _HEADER.unpack_from(view, at)
        if length < _HEADER.size or at + length > len(view):
            return
        yield Reply(kind, flags, sequence, sender, view[at + _HEADER.size : at + length])
        at += length + 3 & ~3


def attributes(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and value of each attribute."""
    at = 0
    while at + _ATTRIBUTE.size <= len(view):
        length, kind = _ATTRIBUTE.unpack_from(view, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, view[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3


def fields(reply: Reply) -> dict[int, memoryview]:
    """Return the attributes of a message of nf_tables by number."""
    return dict(attributes(reply.body[4:]))


_NONE = memoryview(b"")
_HIGHEST = (1 << 31) - 1
"""The highest errno that `os.strerror` takes."""


def number(value: memoryview) -> int:
    """Read a number of any width."""
    return int.from_bytes(value, "big")


def text(value: memoryview) -> str:
    """Read a string; what is not UTF-8 is replaced."""
    return bytes(value).rstrip(b"\0").decode(errors="replace")


class Refusal(NamedTuple):
    """Why the kernel did not do something: an errno, and its own words if it has some."""

    code: int
    words: str = ""

    def __str__(self) -> str:
        plain = f"{errorcode.get(self.code, self.code)} ({os.strerror(self.code)})"
        return f"{plain}: {self.words}" if self.words else plain


def refusal(reply: Reply) -> Refusal | None:
    """Read an answer of type error, or the end of a dump; None when it says that all is well."""
    if len(reply.body) < 4:
        return None
    (code,) = struct.unpack_from("=i", reply.body)
    if not code:
        return None
    words = ""
    if reply.flags & _ACK_TLVS and len(reply.body) >= 8:
        (echoed,) = struct.unpack_from("=I", reply.body, 4)
        skip = _HEADER.size if reply.flags & _CAPPED else echoed + 3 & ~3
        for kind, value in attributes(reply.body[4 + skip :]):
            if kind == 1:
                words = text(value)
    return Refusal(min(abs(code), _HIGHEST), words)


class Found(NamedTuple):
    """An element as the kernel has it; `left` None when it never expires."""

    key: bytes
    left_ms: int | None
    packets: int
    bytes: int


def found(reply: Reply) -> Iterator[Found]:
    """Read the elements of one message."""
    entries = fields(reply).get(_LIST_ELEMENTS)
    if entries is None:
        return
    for _, item in attributes(entries):
        key = b""
        timeout = left = packets = octets = 0
        for kind, value in attributes(item):
            if kind == _KEY:
                key = bytes(value[4:])
            elif kind == _TIMEOUT:
                timeout = number(value)
            elif kind == _EXPIRATION:
                left = number(value)
            elif kind == _EXPR:
                packets, octets = _counter(value)
        yield Found(key, left if timeout else None, packets, octets)


def _counter(value: memoryview) -> tuple[int, int]:
    expression = dict(attributes(value))
    if text(expression.get(1, _NONE)) != "counter" or 2 not in expression:
        return 0, 0
    values = dict(attributes(expression[2]))
    return number(values.get(2, _NONE)), number(values.get(1, _NONE))


class Landmark(NamedTuple):
    """
    What tells an object from any other that takes its place.

    The kernel never gives a handle twice in one table, but much can change under a
    handle: a table's flags (dormant), a chain's hook and policy, a rule that is replaced
    (seen, Linux 6.18), a set's size and timeouts. That is in `state`.
    """

    kind: Kind
    name: str
    handle: int
    state: bytes = b""


def is_of(reply: Reply, table: str) -> bool:
    """Say whether a message is about a table, chain, rule or set of `table`."""
    return (
        reply.kind in _LANDMARKS
        and bytes(reply.body[:1]) == _OUR_FAMILY
        and text(fields(reply).get(1, _NONE)) == table
    )


def landmark(reply: Reply, table: str) -> Landmark | None:
    """Read a message about a table, chain, rule or set; None unless it is of `table`."""
    if not is_of(reply, table):
        return None
    kind, name, handle, state = _LANDMARKS[reply.kind]
    found = fields(reply)
    return Landmark(
        kind,
        text(found.get(name, _NONE)),
        number(found.get(handle, _NONE)),
        b"|".join(_value(reply.kind, found, one) for one in state),
    )


_RULE_EXPRESSIONS = 4

# message > numbers of the attributes with the name, the handle, and what can change
_LANDMARKS: dict[int | None, tuple[Kind, int, int, tuple[int, ...]]] = {
    Kind.NEWTABLE: (Kind.NEWTABLE, 1, 4, (2,)),
    Kind.NEWCHAIN: (Kind.NEWCHAIN, 3, 2, (4, 5)),
    Kind.NEWRULE: (Kind.NEWRULE, 2, 3, (_RULE_EXPRESSIONS,)),
    Kind.NEWSET: (Kind.NEWSET, 2, 16, (9, 11, 12)),
}


class Shape(NamedTuple):
    """What makes an object do what it does: the same for two that differ in table and handle."""

    kind: Kind
    name: str
    values: tuple[bytes, ...]


def shape(reply: Reply) -> Shape | None:
    """Read what a chain, rule or set is; None for other messages. A rule has its chain's name."""
    kind = reply.kind
    numbers = _SHAPES.get(kind)
    if kind is None or numbers is None:
        return None
    found = fields(reply)
    values = tuple(_value(kind, found, one) for one in numbers)
    return Shape(Kind(kind), text(found.get(_LANDMARKS[kind][1], _NONE)), values)


_SHAPES: dict[int | None, tuple[int, ...]] = {
    # hook, policy, type, flags, userdata
    Kind.NEWCHAIN: (4, 5, 7, 10, 12),
    # expressions, compat, userdata
    Kind.NEWRULE: (_RULE_EXPRESSIONS, 5, 7),
    # flags, types and lengths, policy, desc, timeout, gc interval, objects, expressions; not
    # the userdata (13), in which `nft` only notes how to print keys
    Kind.NEWSET: (3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 17, 18),
}


def _value(kind: int | None, found: Mapping[int, memoryview], one: int) -> bytes:
    """Return an attribute of an object, but what counters in it have counted."""
    value = found.get(one, _NONE)
    if kind == Kind.NEWRULE and one == _RULE_EXPRESSIONS:
        return _steps(value)
    return bytes(value)


def _steps(expressions: memoryview) -> bytes:
    """Return the expressions of a rule, but what its counters have counted."""
    return b"|".join(
        b"counter" if _name(step) == "counter" else bytes(step)
        for _, step in attributes(expressions)
    )


def _name(expression: memoryview) -> str:
    return text(dict(attributes(expression)).get(1, _NONE))


def counted(reply: Reply) -> tuple[int, int]:
    """Read the packets and bytes that a rule has counted."""
    packets = octets = 0
    for _, step in attributes(fields(reply).get(_RULE_EXPRESSIONS, _NONE)):
        more = _counter(step)
        packets, octets = packets + more[0], octets + more[1]
    return packets, octets


def comment(reply: Reply) -> tuple[str, str]:
    """Read the chain from a message about a rule, and what `nft` shows as the rule's comment."""
    found = fields(reply)
    data = bytes(found.get(7, _NONE))
    said = ""
    while len(data) >= 2:
        kind, length = data[0], data[1]
        if kind == _COMMENT:
            said = data[2 : 2 + length].rstrip(b"\0").decode(errors="replace")
        data = data[2 + length :]
    return text(found.get(2, _NONE)), said


_COMMENT = 0  # NFTNL_UDATA_RULE_COMMENT; type, length and value are in bytes


class Standing(NamedTuple):
    """
    A table's flags, and the port of the socket that owns it, 0 if none does.

    `objects` is how many chains, sets, maps, flowtables and named objects it has.
    """

    flags: int
    owner: int
    objects: int = 0


def standing(reply: Reply) -> Standing:
    """Read a message about a table."""
    found = fields(reply)
    flags, objects, owner = (number(found.get(each, _NONE)) for each in (2, 3, 7))
    return Standing(flags, owner, objects)


def set_count(reply: Reply) -> int | None:
    """Read how many elements a set has; None where the kernel is too old to say."""
    value = fields(reply).get(20)
    return None if value is None else number(value)


def set_name(reply: Reply) -> str:
    """Read the name from a message about a set."""
    return text(fields(reply).get(2, _NONE))


def generation(reply: Reply) -> int:
    """Read the ruleset's number from a message of kind NEWGEN."""
    return number(fields(reply).get(1, _NONE))


CHANGES = {
    Kind.DELTABLE: "table deleted",
    Kind.DELCHAIN: "chain deleted",
    Kind.DELRULE: "rule deleted",
    Kind.DELSET: "set deleted",
    Kind.NEWTABLE: "table changed",
    Kind.NEWCHAIN: "chain changed",
    Kind.NEWRULE: "rule added",
    Kind.NEWSET: "set added",
    Kind.DELSETELEM: "elements deleted",
    Kind.NEWSETELEM: "elements added",
}
"""The word for each event, the gravest first."""

_GRAVITY = {kind: grave for grave, kind in enumerate(CHANGES)}


@dataclass(frozen=True, slots=True)
class Events:
    """What one or more datagrams told: the gravest change to our table, and who made it."""

    gravest: Kind | None = None
    author: str | None = None

    def __add__(self, later: "Events") -> "Events":
        kinds = [kind for kind in (self.gravest, later.gravest) if kind is not None]
        gravest = min(kinds, key=_GRAVITY.__getitem__, default=None)
        return Events(gravest, later.author or self.author)

    def __str__(self) -> str:
        word = "no change" if self.gravest is None else CHANGES[self.gravest]
        return f"{word} by {self.author}" if self.author else word


def events(data: bytes, table: str) -> Events:
    """
    Read a datagram of the nf_tables group.

    The author (`nft, process 4711`) stands in the NEWGEN message with which the
    kernel ends each transaction.
    """
    told = Events()
    for reply in replies(data):
        if reply.kind == Kind.NEWGEN:
            values = fields(reply)
            author = text(values[3]) if 3 in values else "somebody"
            if 2 in values:
                author += f", process {number(values[2])}"
            told += Events(author=author)
        elif (
            reply.kind in _GRAVITY
            and bytes(reply.body[:1]) == _OUR_FAMILY
            and text(fields(reply).get(1, _NONE)) == table
        ):
            told += Events(Kind(reply.kind))
    return told
