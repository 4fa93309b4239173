"""
The values that travel down the line, in the order they appear on it.

Times are `float` seconds since the epoch, durations `float` seconds. Exact
nanoseconds live only in a `Cursor`, milliseconds only in `nft/`, text only in
`cli/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType
from typing import Literal, NamedTuple

Address = IPv4Address | IPv6Address
Subject = IPv4Network | IPv6Network
Protocol = Literal["tcp", "udp", "sctp"]


def written(subject: Subject) -> str:
    """Write a subject as people do: a single address without its prefix length."""
    if subject.prefixlen == subject.max_prefixlen:
        return str(subject.network_address)
    return str(subject)


class Stream(IntEnum):
    """Which output of a container; the numbers are those of the Engine's frames."""

    STDOUT = 1
    STDERR = 2


class Mode(StrEnum):
    """Whether a ban is carried out, or only recorded (a dry run)."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class Port(NamedTuple):
    """A port of the host, as a client addresses it."""

    number: int
    protocol: Protocol = "tcp"

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


class Direct(NamedTuple):
    """
    An address that clients reach past the host: that of a container on a macvlan network.

    Its packets come in by `device`, the network's parent, and meet no prerouting chain.
    """

    device: str
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong that an operator can mend: where, what, and what to do."""

    place: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """
    A container, as far as a jail, a ban's scope or a tail cares.

    `service` is what counters are shared by: the compose project and service
    (`shop-web`), else the swarm service, where the name tells of them; else the name. `published` are ports
    of the host, `exposed` the container's own. `networks` are the ids of the
    user-defined networks it is attached to, `gateways` those of all its networks,
    `addresses` its own on them. `direct` are its addresses on macvlan and ipvlan
    networks; a device that nobody can name is empty. Clients live in the subnets of
    these, so they are none of its `networks` and `subnets`. Of a container that uses another one's
    network (`network_mode: service:x`) all these are the other one's. It runs since `started_at`,
    or did until `finished_at`; while it runs that is when the run before ended.
    """

    id: str
    name: str
    service: str
    image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    running: bool = True
    tty: bool = False
    host_network: bool = False
    published: frozenset[Port] = frozenset()
    exposed: frozenset[Port] = frozenset()
    networks: frozenset[str] = frozenset()
    gateways: frozenset[Address] = frozenset()
    subnets: frozenset[Subject] = frozenset()
    addresses: frozenset[Address] = frozenset()
    direct: frozenset[Direct] = frozenset()
    log_driver: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0


class Cursor(NamedTuple):
    """
    How far one stream of one container's log has been consumed.

    `ns` is the Engine's timestamp of the last consumed frame in nanoseconds
    since the epoch, `seen` how many frames with that very timestamp were
    consumed: several frames may share one. If that is not above 0, a line behind these
    waits for its end, and has for long (`docker/cursor.waiting`).
    """

    ns: int
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """
    Many complete lines of one stream, as bytes.

    Each line in `data` is `TIMESTAMP SP TEXT LF`: the Engine's RFC 3339 stamp,
    one blank, the bytes that the container wrote (long lines already glued
    together, a TTY's CR removed). `cursor` is where to resume after the last. Where there is no
    line, it is all there is to say.
    A `framed` chunk has the Engine's header before each line (`dockerjail.framed`).
    """

    container: Container
    stream: Stream
    data: bytes
    cursor: Cursor
    framed: bool = False


class Failure(NamedTuple):
    """
    A line that counts against a subject in one jail (`name@service`).

    There are as many as an attacker writes lines: a tuple is made four times as fast as a dataclass.
    """

    jail: str
    subject: Subject
    at: float
    container: str
    text: str
    fields: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """
    A line that counts against whoever has `name`, as soon as that is looked up.

    `id` is who waits for the answer, 0 before anybody does.
    """

    jail: str
    name: str
    at: float
    container: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Offence:
    """
    `maxretry` failures by one subject within `findtime`.

    `container` and `address` are those of the last: an address within `subject`.
    """

    jail: str
    subject: Subject
    at: float
    failures: int
    container: str = ""
    address: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """
    From what a ban keeps its subject out.

    `ports` None is everything. `addresses` are those of containers that clients reach
    past the host (macvlan), closed as wholes. Neither is nothing; `why` says in words how
    they were found, or why there are none. A scope that `yields` is nothing because
    what it had belongs to others by now: bans must not stand there.
    """

    ports: tuple[Port, ...] | None
    why: str
    addresses: tuple[Address, ...] = ()
    yields: bool = False

    @property
    def nothing(self) -> bool:
        """Whether nobody is kept out of anything."""
        return self.ports == () and not self.addresses

    def __str__(self) -> str:
        if self.ports is None:
            return "everything"
        return ", ".join(map(str, (*self.ports, *self.addresses))) or "nothing"


class Blocktype(StrEnum):
    """What becomes of a banned packet: nothing at all, or an answer that says no."""

    DROP = "drop"
    REJECT = "reject"


class Cause(StrEnum):
    """What a ban was made for."""

    FAILURES = "failures"
    BANS = "bans"
    """Bans in other jails (recidive)."""
    NEIGHBOURS = "neighbours"
    """Bans of addresses in the network that is banned (aggregation)."""
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """
    A subject kept out of `scope` until a moment, or for good (`until` None).

    `jail` is `name@service`, or a bare name for a ban by hand and for the host's recidive. `failures` is how
    many lines (bans, neighbours: what `cause` says) led to it, `count` its number among the
    subject's bans in that jail, `reason` the operator's words. `container` is whose line was the last. A ban that is
    observed is in force in name only. One that is `forced` holds although somebody ignores its subject.
    """

    id: int
    jail: str
    subject: Subject
    scope: Scope
    at: float
    until: float | None
    failures: int = 0
    count: int = 1
    reason: str = ""
    blocktype: Blocktype = Blocktype.DROP
    cause: Cause = Cause.FAILURES
    mode: Mode = Mode.ENFORCE
    container: str = ""
    forced: bool = False

    @property
    def key(self) -> tuple[str, Subject]:
        """What there is at most one active ban for."""
        return self.jail, self.subject


class UnbanReason(StrEnum):
    """Why a ban ended."""

    EXPIRED = "expired"
    OPERATOR = "operator"
    IGNORED = "ignored"
    REPLACED = "replaced"
    """Another ban holds all that this one did."""


class Counter(NamedTuple):
    """Packets and bytes that were dropped or rejected."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unban:
    """The end of a ban, and what it had blocked until then, as far as it was counted."""

    ban: Ban
    at: float
    reason: UnbanReason
    blocked: Counter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """
    Somebody whom an operator lets pass whatever a ban says, until a moment or for good (None).

    `who` is an address or network as `written`, or a name of a host that is looked up
    again and again.
    """

    who: str
    at: float
    until: float | None
    comment: str = ""


class Element(NamedTuple):
    """
    What the kernel blocks, and how: packets of `subject` to `port`, or to any (None).

    With `to`, packets that go past the host to that address (`Direct`), whatever the port: these can
    only be dropped. Two bans may want one subject kept from one port in both ways: these are two
    elements, each with its own end. While both stand, the packet is dropped.
    """

    subject: Subject
    port: Port | None
    blocktype: Blocktype = Blocktype.DROP
    to: Address | None = None
