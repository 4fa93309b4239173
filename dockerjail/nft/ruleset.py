"""
The table that dockerjail puts into the kernel, as data. Pure.

In: which kinds of bans are in use. Out: sets, chains and rules of one `inet`
table, and for each element the set and the key that it lives under. Nothing
here knows how any of it is written on the wire.

    raw_prerouting   before conntrack and DNAT: port-scoped bans, by the port
                     that the client used
    ct_prerouting    after conntrack: all-port bans, behind "replies pass", so
                     that this host can still open connections of its own
    reject_all       the same for bans that answer; there once one is made
    reject_port      port-scoped bans that answer
    ingress_DEVICE   one for each device by which packets come to containers that clients
                     reach past the host (macvlan): they meet no prerouting chain. All
                     of them go on to `direct`, where bans from such an address are
                     looked for, and bans from everything if the packet is for one

In this order, so where several bans meet a packet, a drop wins. Who answers does so
behind conntrack: the answer belongs to a connection there, and a host that lets out
only what does (`ct state established,related`) lets it out. At raw priority it would
be invalid (seen with packets, Linux 6.18). All of it is before DNAT. Who comes in at
an ingress chain gets no answer: nothing can make one there.

A ban of any prefix length is an element of a hash set: the rule masks the source
address to the length of its set. Interval sets are slow to change and refuse
overlaps, so only the few allowed networks, merged here, live in them.
"""

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Literal, NamedTuple

from dockerjail.model import Blocktype, Direct, Element, Port, Protocol, Subject

Version = Literal[4, 6]
VERSIONS: tuple[Version, ...] = (4, 6)

PROTOCOLS: dict[Protocol, int] = {"tcp": 6, "udp": 17, "sctp": 132}
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}

RAW_CHAIN = "raw_prerouting"
CT_CHAIN = "ct_prerouting"
REJECT_ALL_CHAIN = "reject_all"
REJECT_PORT_CHAIN = "reject_port"
ANSWER_CHAIN = "answer"
ANSWER_NEW_CHAIN = "answer_new"
DIRECT_CHAIN = "direct"
_DOOR = "ingress_"
_PASSING = "to containers past the host"

GC_INTERVAL_MS = 60_000
"""How often the kernel sweeps expired elements; they stop matching at once anyway."""

# numbers of linux/netfilter/nf_tables.h and of nft's own data types
_PREROUTING, _INGRESS = 0, 5
_PRIORITY_RAW, _PRIORITY_MANGLE, _PRIORITY_INGRESS = -300, -150, -500
_META_NFPROTO, _META_L4PROTO = 15, 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_CT_STATE, _CT_DIRECTION = 0, 1
_CMP_EQ, _CMP_NEQ = 0, 1
_TCP_RESET, _ICMPX = 1, 2
_ICMPX_PORT_UNREACHABLE = 1
_TCP = b"\x06"
_TYPE_IPV4, _TYPE_IPV6, _TYPE_PROTOCOL, _TYPE_SERVICE = 7, 8, 12, 13


@dataclass(frozen=True, slots=True)
class _Family:
    """Where a version's addresses are, and which registers come behind the source's."""

    nfproto: bytes
    source: int
    destination: int
    width: int
    data_type: int
    registers: tuple[int, int, int]
    usual: int


# A concatenation fills registers without a gap: NFT_REG_1 and _2 hold 16 bytes,
# NFT_REG32_01 (9), _02 (10) and _05 (13) are 4-byte windows on the same memory.
_FAMILIES: dict[Version, _Family] = {
    4: _Family(b"\x02", 12, 16, 4, _TYPE_IPV4, (1, 9, 10), 32),
    6: _Family(b"\x0a", 8, 24, 16, _TYPE_IPV6, (1, 2, 13), 64),
}


class Kind(StrEnum):
    """What the bans of a set keep out from."""

    PORT = "port"
    ALL = "all"
    TO = "to"
    """One address of a container, past the host."""


_SUFFIXES = {Blocktype.DROP: "", Blocktype.REJECT: "_reject"}


class BanSet(NamedTuple):
    """One hash set of bans; its name is `port4_32`, `all6_64_reject`, `to4_24` and so on."""

    kind: Kind
    version: Version
    prefix: int
    blocktype: Blocktype = Blocktype.DROP

    @property
    def name(self) -> str:
        """The set's name in the kernel."""
        return f"{self.kind}{self.version}_{self.prefix}{_SUFFIXES[self.blocktype]}"

    @property
    def key_length(self) -> int:
        """How many bytes a key has."""
        width = _FAMILIES[self.version].width
        return {Kind.PORT: width + 8, Kind.ALL: width, Kind.TO: 2 * width}[self.kind]


USUAL = frozenset(
    BanSet(kind, version, family.usual)
    for kind in (Kind.PORT, Kind.ALL)
    for version, family in _FAMILIES.items()
)
"""The sets that are always there: single IPv4 addresses and IPv6 /64, to be dropped."""


@lru_cache(maxsize=1024)
def parse_name(name: str) -> BanSet | None:
    """Return the set that has this name; None for one that holds no bans."""
    head, _, rest = name.partition("_")
    prefix, answers, _ = rest.partition("_")
    blocktype = Blocktype.REJECT if answers else Blocktype.DROP
    for kind in Kind:
        for version, family in _FAMILIES.items():
            if (
                head == f"{kind}{version}"
                and prefix.isdecimal()
                and int(prefix) <= family.width * 8
            ):
                found = BanSet(kind, version, int(prefix), blocktype)
                answerable = kind is not Kind.TO or blocktype is Blocktype.DROP
                return found if found.name == name and answerable else None
    return None


def home(element: Element) -> BanSet:
    """Return the set that an element belongs into."""
    subject, port, blocktype, to = element
    kind = Kind.TO if to is not None else Kind.ALL if port is None else Kind.PORT
    return _home(kind, subject.version, subject.prefixlen, blocktype)


@lru_cache(maxsize=1024)
def _home(kind: Kind, version: Version, prefix: int, blocktype: Blocktype) -> BanSet:
    return BanSet(kind, version, prefix, blocktype)


def key(element: Element) -> bytes:
    """Return an element's key; ValueError for what no packet has or no rule can do."""
    subject, port, blocktype, to = element
    address = subject.network_address.packed
    if to is not None:
        if port is not None or blocktype is Blocktype.REJECT or to.version != subject.version:
            raise ValueError(
                f"{element}: what goes past the host to an address is dropped as a whole, "
                "and comes from one of the same IP version"
            )
        return address + to.packed
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
        return Element(subject, None, home.blocktype)
    if home.kind is Kind.TO:
        return Element(subject, None, home.blocktype, ip_address(key[width:]))
    protocol = _PROTOCOL_NAMES.get(key[width])
    if protocol is None:
        return None
    port = Port(int.from_bytes(key[width + 4 : width + 6], "big"), protocol)
    return Element(subject, port, home.blocktype)


class Interval(NamedTuple):
    """Addresses from `first` up to but not including `after`; None is to the very end."""

    first: bytes
    after: bytes | None


def allow_name(version: Version) -> str:
    """Return the name of the set of networks that are never blocked."""
    return f"allow{version}"


def direct_name(version: Version) -> str:
    """Return the name of the set of addresses of containers that clients reach past the host."""
    return f"direct{version}"


def direct_addresses(direct: Iterable[Direct]) -> Collection[Subject]:
    """Return the addresses as networks of one."""
    return {ip_network(each.address) for each in direct}


def door_name(device: str) -> str:
    """
    Return the name of the chain at a device, one that `nft` can read back.

    Letters and digits stand for themselves, any other byte for `_` and its number.
    """
    return _DOOR + "".join(
        chr(byte) if chr(byte).isalnum() and byte < 0x80 else f"_{byte:02x}"
        for byte in device.encode(errors="surrogateescape")
    )


def is_door(chain: str) -> bool:
    """Say whether a chain has the name of one that stands at a device."""
    return chain.startswith(_DOOR)


def intervals(networks: Collection[Subject], version: Version) -> Sequence[Interval]:
    """
    Merge the networks of one IP version into ranges, in order.

    The kernel refuses ranges that overlap, so overlapping and adjacent ones
    become one.
    """
    width = _FAMILIES[version].width
    spans = sorted(
        (int(net.network_address), int(net.broadcast_address) + 1)
        for net in networks
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
    """What a rule does with a packet: NF_DROP, NF_ACCEPT, or NFT_GOTO to a chain."""

    code: int
    chain: str = ""


_GOTO = -4
_ACCEPT, _DROP = Verdict(1), Verdict(0)
_ANSWER, _ANSWER_NEW = Verdict(_GOTO, ANSWER_CHAIN), Verdict(_GOTO, ANSWER_NEW_CHAIN)

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
    """
    A base chain of type filter with policy accept; without a hook, one that rules go to.

    One with a `device` sees what comes in there, and nothing else.
    """

    name: str
    hook: int | None = None
    priority: int = 0
    device: str = ""


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


_BASES = {
    name: Chain(name=name, hook=_PREROUTING, priority=priority)
    for name, priority in (
        (RAW_CHAIN, _PRIORITY_RAW - 10),
        (CT_CHAIN, _PRIORITY_MANGLE - 10),
        (REJECT_ALL_CHAIN, _PRIORITY_MANGLE - 9),
        (REJECT_PORT_CHAIN, _PRIORITY_MANGLE - 8),
    )
}

_PLACES: Mapping[tuple[Kind, Blocktype], tuple[str, Verdict]] = {
    (Kind.PORT, Blocktype.DROP): (RAW_CHAIN, _DROP),
    (Kind.ALL, Blocktype.DROP): (CT_CHAIN, _DROP),
    (Kind.ALL, Blocktype.REJECT): (REJECT_ALL_CHAIN, _ANSWER_NEW),
    (Kind.PORT, Blocktype.REJECT): (REJECT_PORT_CHAIN, _ANSWER),
    (Kind.TO, Blocktype.DROP): (DIRECT_CHAIN, _DROP),
}
"""The chain in which the bans of a set are looked for, and what becomes of their packets."""


def whole(bans: Iterable[BanSet] = ()) -> Ruleset:
    """
    Return the whole table but its doors, with the usual sets of bans and those given.

    Sets, and the rules of one chain, come in the order of `bans`; if that has none
    (a set), in the one of their names.
    """
    given = bans if isinstance(bans, Sequence) else sorted(bans)
    more = extension((*given, *sorted(USUAL.difference(given))))
    named = tuple(
        Set(
            name=name(version),
            key_type=family.data_type,
            key_length=family.width,
            interval=True,
        )
        for name in (allow_name, direct_name)
        for version, family in _FAMILIES.items()
    )
    first = (
        *_allow_rules(RAW_CHAIN),
        *_allow_rules(CT_CHAIN),
        *_own_rules(CT_CHAIN),
        *_allow_rules(DIRECT_CHAIN),
        _neighbour_rule(DIRECT_CHAIN),
    )
    return Ruleset(
        sets=named + more.sets,
        chains=(_BASES[RAW_CHAIN], _BASES[CT_CHAIN], Chain(name=DIRECT_CHAIN), *more.chains),
        rules=first + more.rules,
    )


def door(device: str) -> Ruleset:
    """Return the chain that stands at a device, which needs the whole table around it."""
    chain = Chain(name=door_name(device), hook=_INGRESS, priority=_PRIORITY_INGRESS, device=device)
    passing = Rule(
        chain=chain.name,
        expressions=(_verdict(Verdict(_GOTO, DIRECT_CHAIN)),),
        comment=_PASSING,
    )
    return Ruleset(chains=(chain,), rules=(passing,))


@lru_cache(maxsize=1)
def _signed() -> frozenset[tuple[str, str]]:
    """Return the chains and comments of all rules that a table of ours may have, but for doors'."""
    kinds = [
        BanSet(kind, version, family.usual, blocktype)
        for kind, blocktype in _PLACES
        for version, family in _FAMILIES.items()
    ]
    return frozenset((rule.chain, rule.comment) for rule in whole(kinds).rules)


def is_signed(chain: str, comment: str) -> bool:
    """Say whether a rule with this comment in this chain is one of ours, of this or an earlier version."""
    return (chain, comment) in _signed() or (is_door(chain) and comment == _PASSING)


def extension(bans: Iterable[BanSet], *, beside: Collection[BanSet] = ()) -> Ruleset:
    """
    Return what more a table with the sets `beside` needs for some sets of bans.

    That is the sets and the rules for each, and before the first that answers the
    chains for it. The rules may be appended to chains that stand: the order of
    those in one chain does not matter, they all do the same.
    """
    ordered = sorted(bans) if isinstance(bans, AbstractSet) else tuple(bans)
    chains: tuple[Chain, ...] = ()
    rules: tuple[Rule, ...] = ()
    if any(map(_answers, ordered)) and not any(map(_answers, beside)):
        chains = (
            Chain(name=ANSWER_CHAIN),
            Chain(name=ANSWER_NEW_CHAIN),
            _BASES[REJECT_ALL_CHAIN],
            _BASES[REJECT_PORT_CHAIN],
        )
        rules = (
            *_answer_rules(),
            *_answer_new_rules(),
            *_allow_rules(REJECT_ALL_CHAIN),
            *_own_rules(REJECT_ALL_CHAIN),
            *_allow_rules(REJECT_PORT_CHAIN),
        )
    bans_rules = (rule for ban in ordered for rule in _ban_rules(ban))
    return Ruleset(sets=tuple(map(_set, ordered)), chains=chains, rules=(*rules, *bans_rules))


def trial() -> Ruleset:
    """Return the least with which a kernel shows that it can answer; it blocks nobody."""
    home = BanSet(Kind.PORT, 4, 32, Blocktype.REJECT)
    return Ruleset(
        sets=(_set(home),),
        chains=(Chain(name=ANSWER_CHAIN), _BASES[REJECT_PORT_CHAIN]),
        rules=(*_answer_rules(), *_ban_rules(home)),
    )


def _answers(ban: BanSet) -> bool:
    return ban.blocktype is Blocktype.REJECT


def _set(ban: BanSet) -> Set:
    return Set(name=ban.name, key_type=_key_type(ban), key_length=ban.key_length)


def _key_type(ban: BanSet) -> int:
    address = _FAMILIES[ban.version].data_type
    if ban.kind is Kind.ALL:
        return address
    if ban.kind is Kind.TO:
        return address << 6 | address
    return (address << 6 | _TYPE_PROTOCOL) << 6 | _TYPE_SERVICE


def _allow_rules(chain: str) -> Iterable[Rule]:
    for version in _FAMILIES:
        yield Rule(
            chain=chain,
            expressions=(*_source(version), _lookup(allow_name(version)), _verdict(_ACCEPT)),
            comment="never blocked",
        )


def _own_rules(chain: str) -> Iterable[Rule]:
    """Let this host open connections even to those that it keeps out from everything."""
    # "reply passes, the rest is blocked" and not "original is blocked":
    # untracked packets of a banned address must not slip through
    yield Rule(
        chain=chain,
        expressions=(_ct(_CT_DIRECTION), _equals(b"\x01"), _verdict(_ACCEPT)),
        comment="answers to connections that this host opened",
    )
    yield _neighbour_rule(chain)


def _neighbour_rule(chain: str) -> Rule:
    return Rule(
        chain=chain,
        expressions=(_meta(_META_L4PROTO, 1), _equals(b"\x3a"), _verdict(_ACCEPT)),
        comment="icmpv6: neighbours and path MTU",
    )


def _answer_rules() -> Iterable[Rule]:
    """Answer a packet; one that must have no answer (a reset, a broadcast) is only dropped."""
    yield Rule(
        chain=ANSWER_CHAIN,
        expressions=(_meta(_META_L4PROTO, 1), _equals(_TCP), _reject(_TCP_RESET)),
        comment="tcp: connection refused",
    )
    yield Rule(
        chain=ANSWER_CHAIN,
        expressions=(_reject(_ICMPX, _ICMPX_PORT_UNREACHABLE),),
        comment="the rest: port unreachable",
    )


def _answer_new_rules() -> Iterable[Rule]:
    """
    Answer a packet unless its TCP connection stands.

    The reset of a standing connection makes conntrack forget it (Linux 6.4). What the
    server sends next then looks like a connection that this host opened, and a client
    that ignores resets would be let in again with its answers: seen after 30 seconds.
    """
    # NF_CT_STATE_BIT(IP_CT_ESTABLISHED), a number in the machine's order
    established = (2).to_bytes(4, sys.byteorder)
    yield Rule(
        chain=ANSWER_NEW_CHAIN,
        expressions=(
            _meta(_META_L4PROTO, 1),
            _equals(_TCP),
            _ct(_CT_STATE),
            _bitwise(1, established),
            _compare(_CMP_NEQ, bytes(4)),
            _verdict(_DROP),
        ),
        comment="a reset would let a standing connection live on",
    )
    yield Rule(
        chain=ANSWER_NEW_CHAIN, expressions=(_verdict(_ANSWER),), comment="the rest is answered"
    )


_WORDS = {
    Kind.PORT: "bans of ports",
    Kind.ALL: "bans of everything",
    Kind.TO: "bans of containers past the host",
}


def _ban_rules(ban: BanSet) -> Iterable[Rule]:
    family = _FAMILIES[ban.version]
    address, second, third = family.registers
    steps = [*_source(ban.version), *_mask(ban)]
    if ban.kind is Kind.PORT:
        steps += (_meta(_META_L4PROTO, second), _payload(_TRANSPORT_HEADER, 2, 2, third))
    elif ban.kind is Kind.TO:
        steps.append(_destination(ban.version, second))
    steps.append(_lookup(ban.name, address))
    chain, verdict = _PLACES[ban.kind, ban.blocktype]
    yield Rule(
        chain=chain,
        expressions=(*steps, Expression("counter"), _verdict(verdict)),
        comment=_WORDS[ban.kind],
    )
    if ban.kind is Kind.ALL:
        steps += (_destination(ban.version, 1), _lookup(direct_name(ban.version)))
        yield Rule(
            chain=DIRECT_CHAIN,
            expressions=(*steps, Expression("counter"), _verdict(_DROP)),
            comment=_WORDS[ban.kind],
        )


def _source(version: Version) -> tuple[Expression, ...]:
    """Go on only with packets of this IP version, and load where they come from."""
    family = _FAMILIES[version]
    return (
        _meta(_META_NFPROTO, 1),
        _equals(family.nfproto),
        _payload(_NETWORK_HEADER, family.source, family.width, family.registers[0]),
    )


def _destination(version: Version, register: int) -> Expression:
    family = _FAMILIES[version]
    return _payload(_NETWORK_HEADER, family.destination, family.width, register)


def _mask(ban: BanSet) -> Iterable[Expression]:
    width = _FAMILIES[ban.version].width
    if ban.prefix == width * 8:
        return
    mask = ip_network((b"\0" * width, ban.prefix)).netmask.packed
    yield _bitwise(_FAMILIES[ban.version].registers[0], mask)


def _bitwise(register: int, mask: bytes) -> Expression:
    return Expression(
        "bitwise",
        (
            ("sreg", register),
            ("dreg", register),
            ("len", len(mask)),
            ("mask", mask),
            ("xor", bytes(len(mask))),
        ),
    )


def _ct(what: int) -> Expression:
    return Expression("ct", (("dreg", 1), ("key", what)))


def _meta(what: int, register: int) -> Expression:
    return Expression("meta", (("key", what), ("dreg", register)))


def _payload(base: int, offset: int, length: int, register: int) -> Expression:
    return Expression(
        "payload", (("dreg", register), ("base", base), ("offset", offset), ("len", length))
    )


def _equals(data: bytes) -> Expression:
    return _compare(_CMP_EQ, data)


def _compare(how: int, data: bytes) -> Expression:
    return Expression("cmp", (("sreg", 1), ("op", how), ("data", data)))


def _lookup(name: str, register: int = 1) -> Expression:
    return Expression("lookup", (("set", name), ("sreg", register)))


def _verdict(verdict: Verdict) -> Expression:
    return Expression("immediate", (("dreg", 0), ("data", verdict)))


def _reject(how: int, code: int = 0) -> Expression:
    return Expression("reject", (("type", how), ("icmp_code", code)))
