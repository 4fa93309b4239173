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


class Port(NamedTuple):
    """A port of the host, as a client addresses it."""

    number: int
    protocol: Protocol = "tcp"

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


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
    (`shop-web`), else the swarm service, else the name. `published` are ports
    of the host, `exposed` the container's own. `networks` are the ids of the
    user-defined networks it is attached to. `gateways` and `subnets` are those
    of all its networks. Of a container that uses another one's network
    (`network_mode: service:x`) all these are the other one's.
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
    log_driver: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    started_at: float = 0.0


class Cursor(NamedTuple):
    """
    How far one stream of one container's log has been consumed.

    `ns` is the Engine's timestamp of the last consumed frame in nanoseconds
    since the epoch, `seen` how many frames with that very timestamp were
    consumed: several frames may share one.
    """

    ns: int
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """
    Many complete lines of one stream, as bytes.

    Each line in `data` is `TIMESTAMP SP TEXT LF`: the Engine's RFC 3339 stamp,
    one blank, the bytes that the container wrote (long lines already glued
    together, a TTY's CR removed). `cursor` is where to resume after the last.
    """

    container: Container
    stream: Stream
    data: bytes
    cursor: Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that could match; `at` is the Engine's time."""

    stream: Stream
    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A line that counts against a subject in one jail (`name@service`)."""

    jail: str
    subject: Subject
    at: float
    container: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offence:
    """`maxretry` failures by one subject within `findtime`."""

    jail: str
    subject: Subject
    at: float
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """
    From what a ban keeps its subject out.

    `ports` None is everything, an empty tuple nothing; `why` says in words how
    the ports were found, or why there are none.
    """

    ports: tuple[Port, ...] | None
    why: str

    def __str__(self) -> str:
        if self.ports is None:
            return "everything"
        return ", ".join(map(str, self.ports)) or "nothing"


class Blocktype(StrEnum):
    """What becomes of a banned packet: nothing at all, or an answer that says no."""

    DROP = "drop"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """
    A subject kept out of `scope` until a moment, or for good (`until` None).

    `jail` is `name@service`, or a bare name for a ban by hand. `failures` is how
    many lines led to it, `count` its number among the subject's bans in that
    jail, `reason` the operator's words.
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

    @property
    def key(self) -> tuple[str, Subject]:
        """What there is at most one active ban for."""
        return self.jail, self.subject


class UnbanReason(StrEnum):
    """Why a ban ended."""

    EXPIRED = "expired"
    OPERATOR = "operator"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unban:
    """The end of a ban."""

    ban: Ban
    at: float
    reason: UnbanReason


class Element(NamedTuple):
    """
    What the kernel blocks, and how: packets of `subject` to `port`, or to any (None).

    Two bans may want one subject kept from one port in both ways: these are two
    elements, each with its own end. While both stand, the packet is dropped.
    """

    subject: Subject
    port: Port | None
    blocktype: Blocktype = Blocktype.DROP


class Counter(NamedTuple):
    """What one element has dropped or rejected so far."""

    packets: int
    bytes: int
