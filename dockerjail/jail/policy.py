"""What a jail is told to do: the one model that files, labels and defaults end in."""

from dataclasses import dataclass
from enum import StrEnum

from dockerjail.jail.rule import NOTHING, Rule
from dockerjail.model import Blocktype, Port, Stream, Subject

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


@dataclass(frozen=True, slots=True, kw_only=True)
class JailPolicy:
    """
    One jail as it is to run; durations in seconds, `bantime` None is for good.

    `ports` overrules `scope`; `and_published` adds what the jail's service publishes: the
    ports that fail2ban's jails name are the application's, and a container may publish
    others. `origin` is who defined the filter, `ports_by_label`
    whether a label chose the ports: what a label defines, selects from the shipped
    jails or chooses is kept to its own service's ports.
    """

    name: str
    origin: Origin
    rule: Rule = NOTHING
    maxretry: int = 5
    findtime: float = 600.0
    bantime: float | None = 600.0
    ignoreip: tuple[Subject, ...] = ()
    scope: ScopeKind = ScopeKind.AUTO
    ports: tuple[Port, ...] | None = None
    ports_by_label: bool = False
    blocktype: Blocktype = Blocktype.DROP
    and_published: bool = False
    streams: frozenset[Stream] = ALL_STREAMS
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
