"""What the rooms need from the world outside, and nothing more."""

import math
from collections.abc import (
    AsyncGenerator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from dockerjail.model import (
    Address,
    Allowance,
    Ban,
    Container,
    Counter,
    Cursor,
    Direct,
    Element,
    Failure,
    Named,
    Port,
    Problem,
    Stream,
    Subject,
    Unban,
    UnbanReason,
)

CursorKey = tuple[str, Stream]
"""A container's id and one of its streams."""


class Engine(Protocol):
    """The Docker Engine. Every method raises `EngineUnavailable` when it is away."""

    async def version(self) -> str:
        """Ask for the Engine's version, such as `26.1.5`; also renegotiates."""
        ...

    async def list(self) -> Sequence[tuple[str, str]]:
        """List all containers, stopped ones too: id and a digest of their state."""
        ...

    async def inspect(self, container: str) -> Container | None:
        """Look at one container by id; None when there is none."""
        ...

    def problems(self) -> Sequence[Problem]:
        """List what the Engine does not tell although bans need it, as far as it was asked."""
        ...

    def events(self, *, since: float) -> AsyncGenerator[str]:
        """Yield a container's id whenever something happened to it. Ends never."""
        ...

    def logs(
        self,
        container: Container,
        *,
        follow: bool,
        since: int | None = None,
        until: int | None = None,
        tail: int | None = None,
    ) -> AbstractAsyncContextManager[AsyncGenerator[bytes]]:
        """
        Open the raw body of a container's log, with timestamps, both streams.

        `since` is inclusive, in nanoseconds, nothing later than `until` comes; `tail` the last N
        frames. Raises
        `LogsUnreadable` or `ContainerGone` for what trying again does not mend,
        `EngineUnavailable` for a cut connection. Leaving the context closes it. Empty
        bytes mean nothing but that it was silent for a while: it can be waited on.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """
    The failures that led to an offence count no more.

    `ban` is the ban that they led to, None when there was none (refused, already
    banned, nothing to ban from).
    """

    jail: str
    subject: Subject
    ban: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disallowed:
    """The end of an `Allowance`, by its `who`."""

    who: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """A container past the host was seen at this address: at a start, bans stand before it at once."""

    direct: Direct


@dataclass(frozen=True, slots=True, kw_only=True)
class Unguarded:
    """The end of a `Guarded`."""

    direct: Direct


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A `Named` waits for its answer no more; by `id`."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewound:
    """
    The clock of this host was set back by `seconds`, to `now`.

    Bans that are stamped later are as long ago as they were.
    """

    seconds: float
    now: float


Entry = (
    Failure
    | Settled
    | Named
    | Answered
    | Ban
    | Unban
    | Allowance
    | Disallowed
    | Guarded
    | Unguarded
    | Rewound
)
"""
What the warden writes, in the order it happened.

A `Ban` whose id is known replaces it, an `Allowance` the one of the same `who`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a store remembers when the daemon starts."""

    bans: Sequence[Ban] = ()
    failures: Sequence[Failure] = ()
    cursors: Mapping[CursorKey, Cursor] = field(default_factory=dict)
    next_ban: int = 1
    allowances: Sequence[Allowance] = ()
    direct: frozenset[Direct] = frozenset()
    names: Sequence[Named] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BanRecord:
    """
    A ban as it is remembered.

    `ended_at` None says that nobody ended it: it is in force, or its `until`
    passed while no daemon ran. `blocked` is what it had blocked when it ended, None when
    nobody counted.
    """

    ban: Ban
    ended_at: float | None = None
    ended_why: UnbanReason | None = None
    blocked: Counter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is remembered of a subject, newest first."""

    bans: Sequence[BanRecord] = ()
    failures: Sequence[Failure] = ()


class Store(Protocol):
    """
    What outlives the process.

    Raises `StoreUnavailable` where trying again later may help, `StoreDamaged` when what is
    stored cannot be trusted, else another `StoreError`; nothing was written then.
    """

    def problems(self) -> Sequence[Problem]:
        """List what is wrong although it works, as far as was seen."""
        ...

    async def load(self, *, now: float, findtime: float) -> State:
        """
        Read bans and allowances still in force, failures that still count, and all cursors.

        Bans and allowances that began later than `now` begin now, and go on as long as they were to: the
        clock was set back while nobody ran.

        Failures come in the order they were written, only those younger than
        `findtime` seconds; so do those that wait for a name.
        """
        ...

    async def record(
        self,
        entries: Sequence[Entry],
        cursors: Mapping[CursorKey, Cursor],
        *,
        gone: Collection[str] = (),
    ) -> None:
        """
        Write all of it in one transaction; `gone` are ids of removed containers.

        A `Settled` spends the failures of its jail and subject that were written
        before it and still counted; the ban it names is in the store or among
        `entries`. A `Ban` that is known is replaced, and in force again. An
        `Unban` of a ban that is unknown or has ended changes nothing.
        """
        ...

    async def bans_against(
        self, subject: Subject, *, since: float, limit: int = 1000
    ) -> Sequence[Ban]:
        """
        Read the bans that exactly `subject` has had in any jail, the newest first.

        Those that began at `since` or later, as far as they are remembered.
        """
        ...

    async def totals(self) -> Mapping[str, tuple[int, int]]:
        """Return for each jail how many failures and bans there ever were."""
        ...

    async def evidence(self, ban: int) -> Sequence[Failure]:
        """Read the failures that led to a ban, oldest first."""
        ...

    async def bans_of(self, jail: str, *, limit: int = 100) -> Sequence[BanRecord]:
        """Read the last bans of a jail, newest first."""
        ...

    async def last_failures(self, jail: str, *, limit: int = 100) -> Sequence[Failure]:
        """Read the failures that a jail saw last, newest first."""
        ...

    async def history(self, subject: Subject, *, limit: int = 100) -> History:
        """
        Read the last bans and failures of `subject`, and of any network around it.

        An address is found whichever prefix a jail counts by.
        """
        ...

    async def purge(self, now: float) -> int:
        """
        Forget what is older, or more, than the store is told to keep; return how many rows.

        Never forgotten: a ban in force, and failures that still count; for their age alone
        neither the failures that led to a ban in force. Totals stay as they are.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """An element with its end; `until` None is for good."""

    element: Element
    until: float | None


class Firewall(Protocol):
    """
    The kernel's packet filter. Raises `FirewallError`; nothing is changed then.

    Times are absolute; an element whose end has passed is not written.
    """

    @property
    def rejects(self) -> bool:
        """Say whether it can answer what it blocks; if not, an element to reject is an error."""
        ...

    @property
    def deaf(self) -> Mapping[str, str]:
        """
        Say at which devices of direct addresses it cannot stand, and why in words.

        An element `to` an address behind one is taken, and blocks nothing.
        """
        ...

    def problems(self) -> Sequence[Problem]:
        """List what an operator should know of although all is blocked as it should be."""
        ...

    async def adopt(self, *, allow: Collection[Subject], direct: Collection[Direct] = ()) -> bool:
        """
        Take over the table of an earlier process, with what it blocks and has counted.

        False, and nothing is changed, if there is none that stands as `replace` would put it;
        elements do not count: compare them with `present`.
        """
        ...

    async def replace(
        self,
        blocks: Iterable[Block],
        *,
        allow: Collection[Subject],
        direct: Collection[Direct] = (),
    ) -> None:
        """Put the whole table in place: no moment without protection."""
        ...

    async def apply(self, *, add: Sequence[Block] = (), remove: Sequence[Element] = ()) -> None:
        """
        Make the whole change in one transaction.

        An element that is there already gets its new end; one to remove that is
        not there is no error.
        """
        ...

    async def allow(self, networks: Collection[Subject]) -> None:
        """Let these pass whatever a ban says, in place of those before; bans stay."""
        ...

    async def guard(self, direct: Collection[Direct]) -> None:
        """Stand before these addresses too, in place of those before; bans stay."""
        ...

    async def disturbed(self) -> bool:
        """
        Say whether anybody else has changed the ruleset since this was last asked, cheaply.

        True also when it cannot be told. The end of an element's time is no change.
        """
        ...

    async def blocked(self) -> Counter:
        """Read what all of it has blocked since the table was put in place."""
        ...

    async def present(self) -> Mapping[Element, float | None]:
        """Read what the kernel blocks now, and until when."""
        ...

    async def intact(self) -> bool:
        """Say whether table, chains, rules and sets stand as they were put."""
        ...

    async def counters(self, elements: Sequence[Element]) -> Mapping[Element, Counter]:
        """Read what the given elements have blocked; missing ones are left out."""
        ...

    def changes(self) -> AsyncGenerator[str]:
        """Yield a word on each change to the table that was not ours. Ends never."""
        ...


class Host(Protocol):
    """The host's own place in its networks. Raises `FirewallError`."""

    async def addresses(self) -> frozenset[Address]:
        """Return every address of every link, loopback's too."""
        ...

    async def gateways(self) -> frozenset[Address]:
        """Return where default routes lead."""
        ...

    async def resolvers(self) -> frozenset[Address]:
        """Return the name servers that the host asks."""
        ...

    def changes(self) -> AsyncGenerator[None]:
        """Yield when one of these may have changed. Ends never."""
        ...


class Flows(Protocol):
    """The connections that the kernel knows of. Raises `FirewallError` when it knows none."""

    async def seen(
        self, address: Address, ports: Collection[Port] | None, *, since: float = math.inf
    ) -> bool:
        """
        Say whether `address` has or lately had a flow to one of `ports`, or to any (None).

        What was looked up after the moment `since` may answer.
        """
        ...

    async def clients(self, address: Address) -> Mapping[Address, int]:
        """Count by their source the flows that end at `address`, after DNAT."""
        ...
