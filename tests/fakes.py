"""
Twins of what stands outside, in memory: they implement a port and take the same
conformance suite as the real thing.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from dockerjail.errors import (
    ContainerGone,
    ContainerUnknown,
    EngineUnavailable,
    FirewallError,
    LogsUnreadable,
    StoreError,
)
from dockerjail.model import (
    Address,
    Allowance,
    Ban,
    Container,
    Cursor,
    Direct,
    Failure,
    Named,
    Port,
    Problem,
    Stream,
    Subject,
    Unban,
)
from dockerjail.ports import (
    Answered,
    BanRecord,
    CursorKey,
    Disallowed,
    Entry,
    Guarded,
    History,
    Rewound,
    Settled,
    State,
    Unguarded,
)


@dataclass(slots=True, kw_only=True)
class _Counted:
    """A failure as the store remembers it."""

    failure: Failure
    spent: bool = False
    ban: int | None = None


class MemoryStore:
    """The `Store` as plain lists: what SqliteStore promises, without a file."""

    def __init__(self, *, keep: float = float("inf")) -> None:
        self._keep = keep
        self._findtime = float("inf")
        self._failures: list[_Counted] = []
        self._bans: dict[int, BanRecord] = {}
        self._cursors: dict[CursorKey, Cursor] = {}
        self._allowances: dict[str, Allowance] = {}
        self._guarded: set[Direct] = set()
        self._names: dict[int, Named] = {}
        self._totals: dict[str, tuple[int, int]] = {}
        self._next_ban = 1

    def problems(self) -> Sequence[Problem]:
        return ()

    async def load(self, *, now: float, findtime: float) -> State:
        self._findtime = findtime
        for number, record in self._bans.items():
            self._bans[number] = _earlier(record, max(0.0, record.ban.at - now))
        for who, each in self._allowances.items():
            later = max(0.0, each.at - now)
            until = None if each.until is None else each.until - later
            self._allowances[who] = replace(each, at=each.at - later, until=until)
        return State(
            bans=[
                record.ban
                for record in sorted(self._bans.values(), key=lambda record: record.ban.id)
                if record.ended_at is None and (record.ban.until is None or record.ban.until > now)
            ],
            failures=[
                row.failure
                for row in self._failures
                if not row.spent and row.failure.at > now - findtime
            ],
            cursors=dict(self._cursors),
            next_ban=self._next_ban,
            direct=frozenset(self._guarded),
            names=[each for _, each in sorted(self._names.items()) if each.at > now - findtime],
            allowances=sorted(
                (
                    each
                    for each in self._allowances.values()
                    if each.until is None or each.until > now
                ),
                key=lambda each: (each.at, each.who),
            ),
        )

    async def record(
        self,
        entries: Sequence[Entry],
        cursors: Mapping[CursorKey, Cursor],
        *,
        gone: Collection[str] = (),
    ) -> None:
        known = {*self._bans, *(entry.id for entry in entries if isinstance(entry, Ban))}
        for entry in entries:
            if isinstance(entry, Settled) and entry.ban is not None and entry.ban not in known:
                raise StoreError(f"no ban {entry.ban} to settle {entry.subject} with")
        for entry in entries:
            self._write(entry)
        self._cursors.update(cursors)
        self._cursors = {key: at for key, at in self._cursors.items() if key[0] not in gone}

    def _write(self, entry: Entry) -> None:
        match entry:
            case Failure():
                self._failures.append(_Counted(failure=entry))
                self._count(entry.jail, failures=1)
            case Settled():
                for row in self._failures:
                    key = (row.failure.jail, row.failure.subject)
                    if key == (entry.jail, entry.subject) and not row.spent:
                        row.spent, row.ban = True, entry.ban
            case Ban():
                if entry.id not in self._bans:
                    self._count(entry.jail, bans=1)
                self._bans[entry.id] = BanRecord(
                    ban=replace(entry, container=entry.container[:255])
                )
                self._next_ban = max(self._next_ban, entry.id + 1)
            case Unban():
                record = self._bans.get(entry.ban.id)
                if record is not None and record.ended_at is None:
                    self._bans[entry.ban.id] = BanRecord(
                        ban=record.ban,
                        ended_at=entry.at,
                        ended_why=entry.reason,
                        blocked=entry.blocked,
                    )
            case Allowance():
                self._allowances[entry.who] = entry
            case Disallowed():
                self._allowances.pop(entry.who, None)
            case Guarded():
                self._guarded.add(entry.direct)
            case Unguarded():
                self._guarded.discard(entry.direct)
            case Named():
                self._names[entry.id] = entry
            case Answered():
                self._names.pop(entry.id, None)
            case Rewound(seconds=seconds, now=now):
                for number, record in self._bans.items():
                    if record.ban.at > now:
                        self._bans[number] = _earlier(record, seconds)

    def _count(self, jail: str, *, failures: int = 0, bans: int = 0) -> None:
        before = self._totals.get(jail, (0, 0))
        self._totals[jail] = (before[0] + failures, before[1] + bans)

    async def bans_against(
        self, subject: Subject, *, since: float, limit: int = 1000
    ) -> Sequence[Ban]:
        bans = [record.ban for record in self._bans.values()]
        against = [ban for ban in bans if ban.subject == subject and ban.at >= since]
        return sorted(against, key=lambda ban: (ban.at, ban.id), reverse=True)[:limit]

    async def totals(self) -> Mapping[str, tuple[int, int]]:
        return dict(self._totals)

    async def evidence(self, ban: int) -> Sequence[Failure]:
        led = [row.failure for row in self._failures if row.ban == ban]
        return sorted(led, key=lambda failure: failure.at)

    async def bans_of(self, jail: str, *, limit: int = 100) -> Sequence[BanRecord]:
        return [record for record in self._newest_bans() if record.ban.jail == jail][:limit]

    async def last_failures(self, jail: str, *, limit: int = 100) -> Sequence[Failure]:
        return [f for f in self._newest_failures() if f.jail == jail][:limit]

    async def history(self, subject: Subject, *, limit: int = 100) -> History:
        around = {subject.supernet(new_prefix=n) for n in range(subject.prefixlen + 1)}
        bans = [record for record in self._newest_bans() if record.ban.subject in around]
        failures = [f for f in self._newest_failures() if f.subject in around]
        return History(bans=bans[:limit], failures=failures[:limit])

    def _newest_bans(self) -> list[BanRecord]:
        return [self._bans[number] for number in sorted(self._bans, reverse=True)]

    def _newest_failures(self) -> list[Failure]:
        return [row.failure for row in reversed(self._failures)]

    async def purge(self, now: float) -> int:
        before = sum(map(len, (self._failures, self._bans, self._allowances, self._names)))
        forgotten = now - self._keep
        counting = min(forgotten, now - self._findtime)
        self._bans = {
            number: record
            for number, record in self._bans.items()
            if not _is_over(record, before=forgotten)
        }
        self._failures = [
            row
            for row in self._failures
            if row.ban in self._bans
            or (row.ban is None and row.failure.at >= (forgotten if row.spent else counting))
        ]
        self._allowances = {
            who: each
            for who, each in self._allowances.items()
            if each.until is None or each.until > now
        }
        unasked = now - self._findtime
        self._names = {number: each for number, each in self._names.items() if each.at > unasked}
        return before - sum(map(len, (self._failures, self._bans, self._allowances, self._names)))


def _earlier(record: BanRecord, seconds: float) -> BanRecord:
    ban, ended = record.ban, record.ended_at
    until = None if ban.until is None else ban.until - seconds
    return replace(
        record,
        ban=replace(ban, at=ban.at - seconds, until=until),
        ended_at=None if ended is None else ended - seconds,
    )


def _is_over(record: BanRecord, *, before: float) -> bool:
    end = record.ban.until if record.ended_at is None else record.ended_at
    return end is not None and end < before


class FakeHost:
    """The `Host` as sets that a test changes, telling so with `move`."""

    def __init__(self, *own: str) -> None:
        self.own = frozenset(map(ip_address, own))
        self.routers: frozenset[Address] = frozenset()
        self.servers: frozenset[Address] = frozenset()
        self._moves: asyncio.Queue[None] = asyncio.Queue()

    async def addresses(self) -> frozenset[Address]:
        return self.own

    async def gateways(self) -> frozenset[Address]:
        return self.routers

    async def resolvers(self) -> frozenset[Address]:
        return self.servers

    async def changes(self) -> AsyncGenerator[None]:
        while True:
            yield await self._moves.get()

    def move(self, *own: str) -> None:
        self.own = frozenset(map(ip_address, own))
        self._moves.put_nowait(None)


class FakeFlows:
    """The `Flows` that a test wrote down: who spoke to which port; `away` is why nobody knows."""

    def __init__(self) -> None:
        self.known: set[tuple[Address, Port]] = set()
        self.ends: dict[Address, dict[Address, int]] = {}
        self.away = ""

    async def seen(
        self, address: Address, ports: Collection[Port] | None, *, since: float = 0.0
    ) -> bool:
        if self.away:
            raise FirewallError(self.away)
        return any(who == address and (ports is None or port in ports) for who, port in self.known)

    async def clients(self, address: Address) -> Mapping[Address, int]:
        if self.away:
            raise FirewallError(self.away)
        return self.ends.get(address, {})


@dataclass(slots=True)
class _Entry:
    """One frame of a fake log: as it stands in the Engine's file."""

    stream: Stream
    ns: int
    text: bytes


class FakeLog:
    """
    The log of one container: what stands in the file, and who follows it.

    `damaged` are the numbers of frames that cannot be read: an error comes instead
    (nothing before Engine 23), and the end. `opened` is what was asked for: follow, since, tail.
    """

    def __init__(self) -> None:
        self.frames: list[_Entry] = []
        self.damaged: set[int] = set()
        self.followers: list[asyncio.Queue[_Entry | bytes | Exception | None]] = []
        self.mute = False  # followers get nothing, as some Engines do after a rotation
        self.opened: list[tuple[bool, int | None, int | None]] = []


class FakeEngine:
    """
    The `Engine` in memory: containers with logs, events, and all that goes wrong.

    `away`, when set, is the reason that nobody answers, `untold` what it does not
    tell. `clock` stamps lines, those of a Podman before 5.8 with whole seconds. What stops
    gives its addresses back.
    """

    def __init__(self, *, clock: Callable[[], float], version: str = "26.1.5") -> None:
        self._clock = clock
        self._version = version
        self._listeners: list[asyncio.Queue[str | Exception]] = []
        self._known: dict[str, Container] = {}
        self._logs: dict[str, FakeLog] = {}
        self._newest = 0
        self.away = ""
        self.tardy = 0.0  # seconds until a list comes
        self.untold: list[Problem] = []
        self.deaf = False  # events get lost
        self.unreadable: dict[str, str] = {}
        self.unknown: dict[str, str] = {}  # why nothing can be learned of a container
        self.inspected: list[str] = []

    # -- what a test does ---------------------------------------------------

    def start(self, container: Container) -> None:
        """Create the container, or start it again."""
        before = self._known.get(container.id, container)
        self._known[container.id] = replace(
            container, running=True, started_at=self._clock(), finished_at=before.finished_at
        )
        self._logs.setdefault(container.id, FakeLog())
        self._tell(container.id)

    def stop(
        self, container: Container, *, last: Sequence[str] = (), unnoticed: bool = False
    ) -> None:
        """
        End the container; its `last` lines are written but not sent to followers.

        These end too, unless it goes `unnoticed`, as with Podman if it starts again soon.
        """
        for text in last:
            self.log(container).frames.append(
                self._entry(Stream.STDOUT, f"{text}\n".encode(), None)
            )
        self._known[container.id] = replace(
            self._known[container.id],
            running=False,
            addresses=frozenset(),
            direct=frozenset(),
            finished_at=self._clock(),
        )
        for follower in self.log(container).followers:
            if not unnoticed:
                follower.put_nowait(None)
        self._tell(container.id)

    def remove(self, container: Container) -> None:
        """Remove the container with its log."""
        for follower in self._logs.pop(container.id).followers:
            follower.put_nowait(None)
        del self._known[container.id]
        self._tell(container.id)

    def say(
        self,
        container: Container,
        text: str | bytes,
        *,
        stream: Stream = Stream.STDOUT,
        at: float | None = None,
        end: bytes = b"\n",
    ) -> None:
        """Write a line; more than 16 KiB become several frames with one stamp."""
        text = (text.encode() if isinstance(text, str) else text) + end
        entry = self._entry(stream, text, at)
        while len(text) > 16384 + len(end):
            piece, text = text[:16384], text[16384:]
            self._write(container, _Entry(stream, entry.ns, piece))
        self._write(container, _Entry(stream, entry.ns, text))

    def log(self, container: Container) -> FakeLog:
        return self._logs[container.id]

    def cut(self, why: str = "connection reset") -> None:
        """Cut all connections."""
        for log in self._logs.values():
            for follower in log.followers:
                follower.put_nowait(EngineUnavailable(why))
        for listener in self._listeners:
            listener.put_nowait(EngineUnavailable(why))

    # -- the port -----------------------------------------------------------

    async def version(self) -> str:
        self._answer()
        return self._version

    async def list(self) -> Sequence[tuple[str, str]]:
        self._answer()
        await asyncio.sleep(self.tardy)
        return [(name, repr(container)) for name, container in self._known.items()]

    async def inspect(self, container: str) -> Container | None:
        self._answer()
        self.inspected.append(container)
        if container in self.unknown:
            raise ContainerUnknown(self.unknown[container])
        return self._known.get(container)

    def problems(self) -> Sequence[Problem]:
        return self.untold

    async def events(self, *, since: float) -> AsyncGenerator[str]:
        self._answer()
        mine: asyncio.Queue[str | Exception] = asyncio.Queue()
        self._listeners.append(mine)
        try:
            while True:
                event = await mine.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self._listeners.remove(mine)

    @contextlib.asynccontextmanager
    async def logs(
        self,
        container: Container,
        *,
        follow: bool,
        since: int | None = None,
        until: int | None = None,
        tail: int | None = None,
    ) -> AsyncGenerator[AsyncGenerator[bytes]]:
        self._answer()
        if container.id not in self._known:
            raise ContainerGone(f"no container {container.name}")
        if container.id in self.unreadable:
            raise LogsUnreadable(self.unreadable[container.id])
        self._logs[container.id].opened.append((follow, since, tail))
        async with contextlib.aclosing(self._body(container, follow, since, tail, until)) as body:
            yield body

    async def _body(
        self,
        container: Container,
        follow: bool,
        since: int | None,
        tail: int | None,
        until: int | None,
    ) -> AsyncGenerator[bytes]:
        log = self._logs[container.id]
        follows = follow and self._known[container.id].running
        mine: asyncio.Queue[_Entry | bytes | Exception | None] = asyncio.Queue()
        begun = since is None

        def passes(entry: _Entry) -> bool:
            # From 23 on the Engine lets everything pass behind the first frame that it does.
            nonlocal begun
            if until is not None and entry.ns > until:
                return False
            passed = begun or since is None or entry.ns >= since
            begun = passed and not self._version.startswith(("20.", "Podman"))
            return passed

        if follows:
            log.followers.append(mine)
        try:
            start = 0 if tail is None else max(len(log.frames) - tail, 0)
            backlog = b""
            for number in range(start, len(log.frames)):
                if number in log.damaged:
                    silent = self._version.startswith("20.")
                    error = _frame(3, b"Error grabbing logs: invalid character")
                    yield backlog if silent else backlog + error
                    return
                if passes(log.frames[number]):
                    backlog += self._wire(log.frames[number])
            if backlog:
                yield backlog
            while follows and (item := await _next(mine)) is not None:
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, bytes):
                    yield item
                elif passes(item):
                    yield self._wire(item)
        finally:
            if follows:
                log.followers.remove(mine)

    # -- inside -------------------------------------------------------------

    def _answer(self) -> None:
        if self.away:
            raise EngineUnavailable(self.away)

    def _tell(self, container: str) -> None:
        if not self.deaf:
            for listener in self._listeners:
                listener.put_nowait(container)

    def _entry(self, stream: Stream, text: bytes, at: float | None) -> _Entry:
        ns = int((self._clock() if at is None else at) * 1_000_000_000)
        if at is None:  # the Engine's stamps are never the same for two lines
            ns = self._newest = max(ns, self._newest + 1)
        return _Entry(stream, ns, text)

    def _wire(self, entry: _Entry) -> bytes:
        second, fraction = divmod(entry.ns, 1_000_000_000)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        if not self._version.startswith(("Podman 4.", "Podman 5.4.")):
            stamp += f".{fraction:09d}"
        return _frame(entry.stream, f"{stamp}Z ".encode() + entry.text)

    def _write(self, container: Container, entry: _Entry) -> None:
        log = self.log(container)
        log.frames.append(entry)
        if not log.mute:
            for follower in log.followers:
                follower.put_nowait(entry)


def _frame(kind: int, payload: bytes) -> bytes:
    return bytes((kind, 0, 0, 0)) + len(payload).to_bytes(4, "big") + payload


async def _next(
    queue: asyncio.Queue[bytes | Exception | _Entry | None],
) -> bytes | Exception | _Entry | None:
    """Wait for what comes next; empty bytes say that nothing came for two seconds."""
    try:
        async with asyncio.timeout(2.0):
            return await queue.get()
    except TimeoutError:
        return b""
