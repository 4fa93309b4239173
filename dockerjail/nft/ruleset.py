"""
The table that dockerjail puts into the kernel, as data. Pure.

In: which kinds of bans are in use. Out: sets, chains and rules of one `inet`
table, and for each element the set and the key that it lives under. Nothing
here knows how any of it is written on the wire.

    raw_prerouting   before conntrack and DNAT: port-scoped bans, by the port
                     that the client used
    ct_prerouting    after conntrack: all-port bans, behind "replies pass", so
                     that this host can still open connections of its own

A ban of any prefix length is an element of a hash set: the rule masks the source
address to the length of its set. Interval sets are slow to change and refuse
overlaps, so only the few allowed networks, merged here, live in them.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal, NamedTuple

from dockerjail.model import Element, Port, Protocol, Subject

Version = Literal[4, 6]
VERSIONS: tuple[Version, ...] = (4, 6)

PROTOCOLS: dict[Protocol, int] = {"tcp": 6, "udp": 17, "sctp": 132}
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}

RAW_CHAIN = "raw_prerouting"
CT_CHAIN = "ct_prerouting"

GC_INTERVAL_MS = 60_000
"""How often the kernel sweeps expired elements; they stop matching at once anyway."""

# numbers of linux/netfilter/nf_tables.h and of nft's own data types
_PREROUTING = 0
_PRIORITY_RAW, _PRIORITY_MANGLE = -300, -150
_META_NFPROTO, _META_L4PROTO = 15, 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_CT_DIRECTION = 1
_CMP_EQ = 0
_TYPE_IPV4, _TYPE_IPV6, _TYPE_PROTOCOL, _TYPE_SERVICE = 7, 8, 12, 13


@dataclass(frozen=True, slots=True)
class _Family:
    """Where a version's source address is, and which registers come behind it."""

    nfproto: bytes
    source: int
    width: int
    data_type: int
    registers: tuple[int, int, int]
    usual: int


# A concatenation fills registers without a gap: NFT_REG_1 and _2 hold 16 bytes,
# NFT_REG32_01 (9), _02 (10) and _05 (13) are 4-byte windows on the same memory.
_FAMILIES: dict[Version, _Family] = {
    4: _Family(b"\x02", 12, 4, _TYPE_IPV4, (1, 9, 10), 32),
    6: _Family(b"\x0a", 8, 16, _TYPE_IPV6, (1, 2, 13), 64),
}


class Kind(StrEnum):
    """What the bans of a set keep out from."""

    PORT = "port"
    ALL = "all"


class BanSet(NamedTuple):
    """One hash set of bans; its name is `port4_32`, `all6_64` and so on."""

    kind: Kind
    version: Version
    prefix: int

    @property
    def name(self) -> str:
        """The set's name in the kernel."""
        return f"{self.kind}{self.version}_{self.prefix}"

    @property
    def key_length(self) -> int:
        """How many bytes a key has."""
        width = _FAMILIES[self.version].width
        return width + 8 if self.kind is Kind.PORT else width


USUAL = frozenset(
    BanSet(kind, version, family.usual) for kind in Kind for version, family in _FAMILIES.items()
)
"""The sets that are always there: single IPv4 addresses and IPv6 /64."""


@lru_cache(maxsize=1024)
def parse_name(name: str) -> BanSet | None:
    """Return the set that has this name; None for one that holds no bans."""
    head, _, prefix = name.partition("_")
    for kind in Kind:
        for version, family in _FAMILIES.items():
            if (
                head == f"{kind}{version}"
                and prefix.isdecimal()
                and int(prefix) <= family.width * 8
            ):
                found = BanSet(kind, version, int(prefix))
                return found if found.name == name else None
    return None


def home(element: Element) -> BanSet:
    """Return the set that an element belongs into."""
    subject, port = element
    return _home(port is None, subject.version, subject.prefixlen)


@lru_cache
def _home(everything: bool, version: Version, prefix: int) -> BanSet:
    return BanSet(Kind.ALL if everything else Kind.PORT, version, prefix)


def key(element: Element) -> bytes:
    """Return an element's key; ValueError for a port that no packet can have."""
    subject, port = element
    address = subject.network_address.packed
    if port is None:
        return address
    if not 0 <= port.number <= 0xFFFF or port.protocol not in PROTOCOLS:
        raise ValueError(f"no such port: {port}")
    # each field of a concatenation is padded to four bytes
    return b"%b%c\0\0\0%b\0\0" % (
        address,
        PROTOCOLS[port.protocol],
        port.number.to_bytes(2, "big"),
    )


def element(home: BanSet, key: bytes) -> Element | None:
    """Return what a key in a set stands for; None for one that we would not write."""
    width = _FAMILIES[home.version].width
    if len(key) != home.key_length:
        return None
    try:
        subject: Subject
        if home.version == 4:
            subject = IPv4Network((key[:width], home.prefix))
        else:
            subject = IPv6Network((key[:width], home.prefix))
    except ValueError:  # host bits below the prefix: the rule can never match it
        return None
    if home.kind is Kind.ALL:
        return Element(subject, None)
    protocol = _PROTOCOL_NAMES.get(key[width])
    if protocol is None:
        return None
    return Element(subject, Port(int.from_bytes(key[width + 4 : width + 6], "big"), protocol))


class Interval(NamedTuple):
    """Addresses from `first` up to but not including `after`; None is to the very end."""

    first: bytes
    after: bytes | None


def allow_name(version: Version) -> str:
    """Return the name of the set of networks that are never blocked."""
    return f"allow{version}"


def allow_intervals(allow: Collection[Subject], version: Version) -> Sequence[Interval]:
    """
    Merge the networks of one IP version into ranges, in order.

    The kernel refuses ranges that overlap, so overlapping and adjacent ones
    become one.
    """
    width = _FAMILIES[version].width
    spans = sorted(
        (int(net.network_address), int(net.broadcast_address) + 1)
        for net in allow
        if net.version == version
    )
    merged: list[tuple[int, int]] = []
    for first, after in spans:
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(after, merged[-1][1]))
        else:
            merged.append((first, after))
    end = 1 << width * 8
    return [
        Interval(
            first.to_bytes(width, "big"), None if after == end else after.to_bytes(width, "big")
        )
        for first, after in merged
    ]


class Verdict(NamedTuple):
    """What a rule does with a packet: NF_DROP or NF_ACCEPT."""

    code: int


_ACCEPT, _DROP = Verdict(1), Verdict(0)

Value = int | str | bytes | Verdict


class Expression(NamedTuple):
    """One step of a rule, in the kernel's terms; `bytes` are compared with packet data."""

    name: str
    attributes: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of a chain, with the words that `nft list` shows behind it."""

    chain: str
    expressions: tuple[Expression, ...]
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A base chain of type filter with policy accept."""

    name: str
    hook: int
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """A named set; one of intervals holds no timeouts and no counters."""

    name: str
    key_type: int
    key_length: int
    interval: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruleset:
    """Everything in the table but its elements; to be put in this order."""

    sets: tuple[Set, ...] = ()
    chains: tuple[Chain, ...] = ()
    rules: tuple[Rule, ...] = ()


def whole(bans: Iterable[BanSet] = ()) -> Ruleset:
    """Return the whole table, with the usual sets of bans and those given."""
    more = extension(USUAL | frozenset(bans))
    allow = tuple(
        Set(
            name=allow_name(version),
            key_type=family.data_type,
            key_length=family.width,
            interval=True,
        )
        for version, family in _FAMILIES.items()
    )
    chains = (
        Chain(name=RAW_CHAIN, hook=_PREROUTING, priority=_PRIORITY_RAW - 10),
        Chain(name=CT_CHAIN, hook=_PREROUTING, priority=_PRIORITY_MANGLE - 10),
    )
    first = (
        *_allow_rules(RAW_CHAIN),
        *_allow_rules(CT_CHAIN),
        # "reply passes, the rest is dropped" and not "original is dropped":
        # untracked packets of a banned address must not slip through
        Rule(
            chain=CT_CHAIN,
            expressions=(
                Expression("ct", (("dreg", 1), ("key", _CT_DIRECTION))),
                _equals(b"\x01"),
                _verdict(_ACCEPT),
            ),
            comment="answers to connections that this host opened",
        ),
        Rule(
            chain=CT_CHAIN,
            expressions=(_meta(_META_L4PROTO, 1), _equals(b"\x3a"), _verdict(_ACCEPT)),
            comment="icmpv6: neighbours and path MTU",
        ),
    )
    return Ruleset(sets=allow + more.sets, chains=chains, rules=first + more.rules)


def extension(bans: Iterable[BanSet]) -> Ruleset:
    """
    Return what more the table needs for some sets of bans: the sets and a rule for each.

    The rules may be appended to chains that stand: their order among themselves
    does not matter, they all drop.
    """
    ordered = sorted(bans)
    return Ruleset(
        sets=tuple(
            Set(name=ban.name, key_type=_key_type(ban), key_length=ban.key_length)
            for ban in ordered
        ),
        rules=tuple(_drop_rule(ban) for ban in ordered),
    )


def _key_type(ban: BanSet) -> int:
    address = _FAMILIES[ban.version].data_type
    if ban.kind is Kind.ALL:
        return address
    return (address << 6 | _TYPE_PROTOCOL) << 6 | _TYPE_SERVICE


def _allow_rules(chain: str) -> Iterable[Rule]:
    for version in _FAMILIES:
        yield Rule(
            chain=chain,
            expressions=(*_source(version), _lookup(allow_name(version)), _verdict(_ACCEPT)),
            comment="never blocked",
        )


def _drop_rule(ban: BanSet) -> Rule:
    family = _FAMILIES[ban.version]
    address, protocol, port = family.registers
    steps = [*_source(ban.version), *_mask(ban)]
    if ban.kind is Kind.PORT:
        steps += (_meta(_META_L4PROTO, protocol), _payload(_TRANSPORT_HEADER, 2, 2, port))
    return Rule(
        chain=RAW_CHAIN if ban.kind is Kind.PORT else CT_CHAIN,
        expressions=(*steps, _lookup(ban.name, address), Expression("counter"), _verdict(_DROP)),
        comment="bans of ports" if ban.kind is Kind.PORT else "bans of everything",
    )


def _source(version: Version) -> tuple[Expression, ...]:
    """Go on only with packets of this IP version, and load where they come from."""
    family = _FAMILIES[version]
    return (
        _meta(_META_NFPROTO, 1),
        _equals(family.nfproto),
        _payload(_NETWORK_HEADER, family.source, family.width, family.registers[0]),
    )


def _mask(ban: BanSet) -> Iterable[Expression]:
    width = _FAMILIES[ban.version].width
    if ban.prefix == width * 8:
        return
    mask = ip_network((b"\0" * width, ban.prefix)).netmask.packed
    register = _FAMILIES[ban.version].registers[0]
    yield Expression(
        "bitwise",
        (
            ("sreg", register),
            ("dreg", register),
            ("len", width),
            ("mask", mask),
            ("xor", b"\0" * width),
        ),
    )


def _meta(what: int, register: int) -> Expression:
    return Expression("meta", (("key", what), ("dreg", register)))


def _payload(base: int, offset: int, length: int, register: int) -> Expression:
    return Expression(
        "payload", (("dreg", register), ("base", base), ("offset", offset), ("len", length))
    )


def _equals(data: bytes) -> Expression:
    return Expression("cmp", (("sreg", 1), ("op", _CMP_EQ), ("data", data)))


def _lookup(name: str, register: int = 1) -> Expression:
    return Expression("lookup", (("set", name), ("sreg", register)))


def _verdict(verdict: Verdict) -> Expression:
    return Expression("immediate", (("dreg", 0), ("data", verdict)))
