"""What a jail is told to do: the one model that files, labels and defaults end in."""

from dataclasses import dataclass
from enum import StrEnum

from dockerjail.jail.growth import Growth
from dockerjail.jail.rule import NOTHING, Rule
from dockerjail.model import Blocktype, Mode, Port, Stream, Subject

ALL_STREAMS = frozenset(Stream)


class Origin(StrEnum):
    """Who defined a jail, and so how far it is trusted."""

    DAEMON = "daemon"
    SHIPPED = "shipped"
    LABEL = "label"


class ScopeKind(StrEnum):
    """From what a jail's bans keep out when it names no ports."""

    AUTO = "auto"
    HOST = "host"


class Verify(StrEnum):
    """What must bear a line out before somebody is banned for it."""

    NOTHING = "none"
    CONNTRACK = "conntrack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """Ban a whole /24 or /48 when `addresses` subjects in it were banned within `time` seconds."""

    addresses: int
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JailPolicy:
    """
    One jail as it is to run; durations in seconds, `bantime` None is for good.

    `ports` overrules `scope`; `and_published` adds what the jail's service publishes: the
    ports that fail2ban's jails name are the application's, and a container may publish
    others. `origin` is who defined the filter, `ports_by_label`
    whether a label chose the ports: what a label defines, selects from the shipped
    jails or chooses is kept to its own service's ports.

    `ignorefrom` are the words of `ignoreip` that stand for addresses which change: names
    of hosts, and `file:/path`. A jail that `recidive`s counts the bans of others, and no
    lines: it has no rule.
    """

    name: str
    origin: Origin
    rule: Rule = NOTHING
    maxretry: int = 5
    findtime: float = 600.0
    bantime: float | None = 600.0
    growth: Growth | None = None
    ignoreip: tuple[Subject, ...] = ()
    ignorefrom: tuple[str, ...] = ()
    scope: ScopeKind = ScopeKind.AUTO
    ports: tuple[Port, ...] | None = None
    ports_by_label: bool = False
    blocktype: Blocktype = Blocktype.DROP
    and_published: bool = False
    streams: frozenset[Stream] = ALL_STREAMS
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    aggregate: Aggregate | None = None
    mode: Mode = Mode.ENFORCE
    verify: Verify = Verify.NOTHING
    recidive: bool = False
