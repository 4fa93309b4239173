"""
The warden: the one task that stores bans and programs the packet filter.

In: reports of what a chunk led to, operators' orders, word that containers or
the kernel changed. Out: rows, then elements. Nobody else writes either, so
there is nothing to lock. The queue at this door is the only one in the house.

Store before kernel: what is enforced is always known. The kernel ends bans by
itself; the warden only notes it.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from dockerjail.ban.orders import (
    Allow,
    Asked,
    Close,
    Flush,
    Order,
    Pardon,
    Report,
    Rescope,
    Sentence,
    Verify,
)
from dockerjail.ban.reconcile import BanKey, Change, Ledger, reconcile
from dockerjail.errors import FirewallError, Refused
from dockerjail.jail.policy import JailPolicy
from dockerjail.model import (
    Address,
    Ban,
    Blocktype,
    Cursor,
    Element,
    Failure,
    Offence,
    Scope,
    Subject,
    Unban,
    UnbanReason,
    written,
)
from dockerjail.ports import Block, CursorKey, Entry, Firewall, Settled, State, Store

logger = logging.getLogger(__name__)

BATCH: Final = 512
"""Orders that one transaction takes at most: bounds how long a ban waits for others' rows."""

QUEUE: Final = 1024
"""Orders that may wait at the door before tails have to."""

STOPPING: Final = "dockerjail is stopping; nothing was changed"

CLOSE_LOOK: Final = 10_000
"""Elements up to which a routine check reads them all; a dump is quadratic in the kernel."""

BLINK: Final = 0.001
NAP: Final = 3600.0
"""Shortest and longest sleep until an expiry, in seconds: clocks are rounded, and jump."""


@dataclass(slots=True, kw_only=True)
class Sync:
    """Whether the kernel holds what it should, as far as the warden knows."""

    ok: bool = False
    error: str = "the table is not in place yet"
    verified_at: float = 0.0
    healed: int = 0


@dataclass(slots=True)
class _Batch:
    """What one turn writes: rows in order, elements, and who waits for which answer."""

    entries: list[Entry] = field(default_factory=list)
    cursors: dict[CursorKey, Cursor] = field(default_factory=dict)
    add: dict[Element, Block] = field(default_factory=dict)
    remove: set[Element] = field(default_factory=set)
    answers: list[tuple[asyncio.Future[Sequence[Ban]], Sequence[Ban]]] = field(default_factory=list)
    touched: set[BanKey] = field(default_factory=set)
    news: list[tuple[int, str]] = field(default_factory=list)
    allow: bool = False
    verify: str = ""
    closing: bool = False

    def say(self, level: int, text: str) -> None:
        """Have `text` logged when what it tells is in the store and in the kernel."""
        self.news.append((level, text))

    def take(self, change: Change) -> None:
        """Add a change; the last word on an element counts."""
        for block in change.add:
            self.add[block.element] = block
            self.remove.discard(block.element)
        for element in change.remove:
            self.add.pop(element, None)
            self.remove.add(element)


class Warden:
    """Takes orders in turn; leaves bans in the store, then in the kernel."""

    def __init__(
        self,
        store: Store,
        firewall: Firewall,
        *,
        policies: Callable[[str], JailPolicy | None],
        scopes: Callable[[str], Scope | None],
        protected: Callable[[Address], str | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._firewall = firewall
        self._policies = policies
        self._scopes = scopes
        self._protected = protected
        self._clock = clock
        self._orders: asyncio.Queue[Order] = asyncio.Queue(QUEUE)
        self._active: dict[BanKey, Ban] = {}
        self._enforced: dict[BanKey, Ban] = {}
        self._ends: list[tuple[float, int, BanKey]] = []
        self._ledger = Ledger()
        self._noted: dict[CursorKey, Cursor] = {}
        self._gone: set[str] = set()
        self._allow: frozenset[Subject] = frozenset()
        self._next_ban = 1
        self._batch = _Batch()
        self._closed = False
        self._said: dict[str, str] = {}
        self.sync = Sync()

    # What others may ask

    @property
    def bans(self) -> Collection[Ban]:
        """The bans in force: stored, and in the kernel as far as that is in sync."""
        return self._enforced.values()

    @property
    def waiting(self) -> int:
        """How many orders wait at the door."""
        return self._orders.qsize()

    @property
    def blocked(self) -> int:
        """How many elements the kernel should hold."""
        return len(self._ledger)

    def elements_of(self, ban: Ban) -> Sequence[Element]:
        """Return the elements that enforce a ban."""
        return self._ledger.of(ban.key)

    # What others may say

    async def report(self, report: Report) -> None:
        """Hand over what a chunk led to; waits while the warden is behind."""
        await self._orders.put(report)

    def note(self, stream: CursorKey, cursor: Cursor) -> None:
        """
        Remember how far a stream has been read when nothing came of it.

        Written when no order is waiting: never before the rows of what was
        reported earlier.
        """
        self._noted[stream] = cursor

    def forget(self, container: str) -> None:
        """Let the cursors of a removed container go."""
        self._gone.add(container)

    async def ask(self, order: Sentence | Pardon) -> Sequence[Ban]:
        """Carry out an operator's order; return the bans made or ended. Raises `Refused`."""
        if self._closed:
            raise Refused(STOPPING)
        answer: asyncio.Future[Sequence[Ban]] = asyncio.get_running_loop().create_future()
        await self._orders.put(Asked(order=order, answer=answer))
        if self._closed:
            raise Refused(STOPPING)
        return await answer

    async def rescope(self) -> None:
        """Say that containers changed, so that the ports of bans may have."""
        await self._orders.put(Rescope())

    async def flush(self) -> None:
        """Have the noted cursors written."""
        if self._noted or self._gone:
            await self._orders.put(Flush())

    async def verify(self, reason: str) -> None:
        """Have the kernel compared with what it should hold, and mended."""
        await self._orders.put(Verify(reason=reason))

    async def allow(self, allow: frozenset[Subject]) -> None:
        """Take over what is never to be blocked; the kernel learns it at once."""
        if allow != self._allow:
            self._allow = allow
            await self._orders.put(Allow())

    async def close(self) -> None:
        """Say that no order follows those already handed over."""
        await self._orders.put(Close())

    # The work

    async def restore(self, state: State, *, allow: frozenset[Subject]) -> None:
        """
        Take over what the store remembers and put the whole table in place.

        Raises `FirewallError`: a start that cannot enforce is no start.
        """
        self._next_ban = state.next_ban
        self._allow = allow
        self._ledger = Ledger(rejects=self._firewall.rejects)
        for ban in state.bans:
            self._enter(ban)
            self._ledger.put(ban)
            logger.info("[%s] Restore Ban %s", ban.jail, written(ban.subject))
        await self._put_table()
        self._enforced = dict(self._active)

    async def run(self) -> None:
        """Work through orders and expiries until closed; whoever waits then is refused."""
        try:
            while True:
                self._batch = batch = _Batch()
                await self._fill(batch)
                await self._carry_out(batch)
                if batch.closing:
                    return
        finally:
            self._closed = True
            self._turn_away()

    def _turn_away(self) -> None:
        """Answer everybody who would wait for ever."""
        left = [answer for answer, _ in self._batch.answers]
        while not self._orders.empty():
            order = self._orders.get_nowait()
            if isinstance(order, Asked):
                left.append(order.answer)
        for answer in left:
            if not answer.done():
                answer.set_exception(Refused(STOPPING))

    async def _fill(self, batch: _Batch) -> None:
        """Wait for an order or an expiry; take along what else is waiting."""
        orders: list[Order] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(self._until_next_expiry()):
                orders.append(await self._orders.get())
        while orders and len(orders) < BATCH and not self._orders.empty():
            orders.append(self._orders.get_nowait())
        for order in orders:
            await self._decide(order, batch)
        self._expire(batch)
        if self._orders.empty():
            for stream, cursor in self._noted.items():
                batch.cursors[stream] = max(cursor, batch.cursors.get(stream, cursor))
            self._noted = {}

    async def _decide(self, order: Order, batch: _Batch) -> None:
        match order:
            case Report():
                for entry in order.entries:
                    if isinstance(entry, Failure):
                        batch.entries.append(entry)
                        batch.say(logging.INFO, _found(entry))
                    else:
                        await self._judge(entry, batch)
                if order.cursor is not None:
                    stream, cursor = order.cursor
                    batch.cursors[stream] = cursor
                    if self._noted.get(stream, cursor) <= cursor:
                        self._noted.pop(stream, None)  # overtaken: it must not be written later
            case Asked(order=Sentence() as sentence, answer=answer):
                self._sentence(sentence, answer, batch)
            case Asked(order=Pardon() as pardon, answer=answer):
                batch.answers.append((answer, self._pardon(pardon, batch)))
            case Rescope():
                self._rescope(batch)
            case Allow():
                batch.allow = True
            case Verify(reason=reason):
                batch.verify = reason
            case Close():
                batch.closing = True
            case _:  # a Flush: the cursors go with any batch that leaves nothing waiting
                pass

    async def _judge(self, offence: Offence, batch: _Batch) -> None:
        """Turn an offence into a ban, a longer ban, or the reason why there is none."""
        ban = await self._ban_for(offence)
        batch.entries.append(
            Settled(jail=offence.jail, subject=offence.subject, ban=ban.id if ban else None)
        )
        if ban is not None:
            self._put(ban, batch)

    async def _ban_for(self, offence: Offence) -> Ban | None:
        jail, subject, name = offence.jail, offence.subject, written(offence.subject)
        policy = self._policies(jail)
        if policy is None:
            logger.info("[%s] Ignore %s: the jail is gone", jail, name)
            return None
        if why := self._why_protected(subject):
            logger.warning("[%s] Ignore %s: %s", jail, name, why)
            return None
        until = None if policy.bantime is None else offence.at + policy.bantime
        if until is not None and until <= self._clock():
            logger.info("[%s] Ignore %s: its bantime is over already", jail, name)
            return None
        standing = self._active.get((jail, subject))
        if standing is not None:
            logger.info("[%s] %s already banned", jail, name)
            return replace(standing, until=_later(standing.until, until))
        scope = self._scope_for(jail, name)
        if scope is None:
            return None
        earlier = await self._store.bans_against(subject, since=0.0)
        return Ban(
            id=self._number(),
            jail=jail,
            subject=subject,
            scope=scope,
            at=offence.at,
            until=until,
            failures=offence.failures,
            count=1 + sum(ban.jail == jail for ban in earlier),
            blocktype=policy.blocktype,
        )

    def _scope_for(self, jail: str, name: str) -> Scope | None:
        """Find what to keep somebody out of; say, once, when there is nothing."""
        scope = self._scopes(jail)
        if scope is not None and scope.ports != ():
            self._said.pop(jail, None)
            return scope
        why = scope.why if scope else "cannot ban: nothing of the service runs any more"
        if self._said.get(jail) != why:
            logger.error("[%s] %s is not banned: %s", jail, name, why)
        self._said[jail] = why
        return None

    def _sentence(
        self, sentence: Sentence, answer: asyncio.Future[Sequence[Ban]], batch: _Batch
    ) -> None:
        if why := self._refusal(sentence.subject):
            if not answer.done():
                answer.set_exception(Refused(f"{written(sentence.subject)} is never banned: {why}"))
            return
        now = self._clock()
        standing = self._active.get((sentence.jail, sentence.subject))
        ban = Ban(
            id=standing.id if standing else self._number(),
            jail=sentence.jail,
            subject=sentence.subject,
            scope=sentence.scope,
            at=now,
            until=None if sentence.bantime is None else now + sentence.bantime,
            reason=sentence.reason,
            blocktype=sentence.blocktype,
        )
        self._put(ban, batch)
        batch.answers.append((answer, [ban]))

    def _refusal(self, subject: Subject) -> str | None:
        """Say why a subject may not be banned by hand."""
        if why := self._why_protected(subject):
            return why
        for allowed in self._allow:
            if allowed.overlaps(subject):
                inside = "it lies in" if subject.prefixlen >= allowed.prefixlen else "it contains"
                return f"{inside} {written(allowed)}, which must stay reachable"
        return None

    def _why_protected(self, subject: Subject) -> str | None:
        """Say why a single address is never banned; a prefix has the kernel's allow sets."""
        if subject.prefixlen < subject.max_prefixlen:
            return None
        return self._protected(subject.network_address)

    def _pardon(self, pardon: Pardon, batch: _Batch) -> Sequence[Ban]:
        ended = [
            ban
            for ban in self._active.values()
            if pardon.jail in (None, ban.jail, ban.jail.partition("@")[0])
            and _overlap(ban.subject, pardon.subject)
        ]
        for ban in ended:
            self._end(ban, UnbanReason.OPERATOR, batch)
        return ended

    def _rescope(self, batch: _Batch) -> None:
        """
        Give standing bans the ports that their services publish now.

        Never everything in place of ports: a proxy that restarts must not make its
        bans wider. Who is ignored by now is let in.
        """
        jails = {ban.jail for ban in self._active.values() if ban.failures}
        scopes = {jail: self._scopes(jail) for jail in jails}
        for ban in list(self._active.values()):
            if ban.failures and self._ignored_now(ban):
                self._end(ban, UnbanReason.IGNORED, batch)
                continue
            scope = scopes.get(ban.jail) if ban.failures else None
            if scope is None or scope.ports in ((), None, ban.scope.ports):
                continue
            logger.info(
                "[%s] %s is now kept out of %s: %s",
                ban.jail,
                written(ban.subject),
                scope,
                scope.why,
            )
            self._put(replace(ban, scope=scope), batch)

    def _ignored_now(self, ban: Ban) -> bool:
        """Say whether a standing ban holds somebody who is never banned."""
        policy = self._policies(ban.jail)
        ignored = policy.ignoreip if policy else ()
        return bool(self._why_protected(ban.subject)) or any(
            net.version == ban.subject.version
            and net.prefixlen <= ban.subject.prefixlen
            and net.overlaps(ban.subject)
            for net in ignored
        )

    def _expire(self, batch: _Batch) -> None:
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            until, number, key = heapq.heappop(self._ends)
            ban = self._active.get(key)
            if ban is not None and (ban.id, ban.until) == (number, until):
                self._end(ban, UnbanReason.EXPIRED, batch)

    def _until_next_expiry(self) -> float | None:
        """Return the seconds to the next expiry, None when there is none."""
        if not self._ends:
            return None
        return min(max(BLINK, self._ends[0][0] - self._clock()), NAP)

    def _number(self) -> int:
        self._next_ban += 1
        return self._next_ban - 1

    def _put(self, ban: Ban, batch: _Batch) -> None:
        """Make a ban, or give a standing one its new end or scope."""
        standing = self._active.get(ban.key)
        if standing == ban:
            return
        if standing is None or not ban.failures:
            batch.say(logging.WARNING, _banned(ban))
        batch.touched.add(ban.key)
        self._enter(ban)
        batch.entries.append(ban)
        batch.take(self._ledger.put(ban))

    def _enter(self, ban: Ban) -> None:
        self._active[ban.key] = ban
        if ban.until is not None:
            heapq.heappush(self._ends, (ban.until, ban.id, ban.key))
        if len(self._ends) > 2 * len(self._active) + BATCH:  # prolonged bans left theirs behind
            self._ends = [
                (each.until, each.id, each.key)
                for each in self._active.values()
                if each.until is not None
            ]
            heapq.heapify(self._ends)

    def _end(self, ban: Ban, reason: UnbanReason, batch: _Batch) -> None:
        batch.say(logging.WARNING, f"[{ban.jail}] Unban {written(ban.subject)}")
        batch.touched.add(ban.key)
        del self._active[ban.key]
        batch.entries.append(Unban(ban=ban, at=self._clock(), reason=reason))
        batch.take(self._ledger.drop(ban.key))

    async def _carry_out(self, batch: _Batch) -> None:
        gone, self._gone = self._gone, set()
        if batch.entries or batch.cursors or gone:
            await self._store.record(batch.entries, batch.cursors, gone=gone)
        try:
            if batch.allow:
                await self._firewall.allow(self._allow)
            if batch.add or batch.remove:
                await self._firewall.apply(
                    add=tuple(batch.add.values()), remove=tuple(batch.remove)
                )
        except FirewallError as error:
            logger.warning("%s; putting the whole table in place again", error)
            self.sync.ok, self.sync.error = False, str(error)
            batch.verify = str(error)
        if batch.verify:
            await self._mend(batch.verify)
        for key in batch.touched:
            if key in self._active:
                self._enforced[key] = self._active[key]
            else:
                self._enforced.pop(key, None)
        for level, text in batch.news:
            logger.log(level, "%s", text)
        for answer, bans in batch.answers:
            if not answer.done():  # who asked may have gone away
                answer.set_result(bans)

    async def _mend(self, reason: str) -> None:
        """Make the kernel hold what it should; a failure stays in `sync` until it does."""
        try:
            if not self.sync.ok or not await self._firewall.intact():
                await self._put_table()
                self.sync.healed += 1
                logger.warning("the table is in place again: %s", reason)
            elif len(self._ledger) <= CLOSE_LOOK:
                change = reconcile(self._ledger.wanted(), await self._firewall.present())
                if change:
                    await self._firewall.apply(add=change.add, remove=change.remove)
                    self.sync.healed += 1
                    logger.warning(
                        "%d elements put back, %d taken out (%s)",
                        len(change.add),
                        len(change.remove),
                        reason,
                    )
        except FirewallError as error:
            if str(error) != self.sync.error:
                logger.error("the kernel is not in sync: %s", error)
            self.sync.ok, self.sync.error = False, str(error)
        else:
            self.sync.ok, self.sync.error = True, ""
            self.sync.verified_at = self._clock()

    async def _put_table(self) -> None:
        wanted = self._ledger.wanted()
        await self._firewall.replace(
            [Block(element=element, until=until) for element, until in wanted.items()],
            allow=self._allow,
        )
        self.sync.ok, self.sync.error = True, ""
        self.sync.verified_at = self._clock()


def _overlap(one: Subject, other: Subject) -> bool:
    """Say whether one network contains the other; `overlaps` makes four objects to find out."""
    if one.version != other.version:
        return False
    shift = one.max_prefixlen - min(one.prefixlen, other.prefixlen)
    return int(one.network_address) >> shift == int(other.network_address) >> shift


def _found(failure: Failure) -> str:
    """Tell of a failure in fail2ban's words, so that people's greps go on working."""
    at = datetime.fromtimestamp(failure.at).astimezone()
    return f"[{failure.jail}] Found {written(failure.subject)} - {at:%Y-%m-%d %H:%M:%S}"


def _banned(ban: Ban) -> str:
    """Tell of a ban in fail2ban's words, then from what, how, until when, and why by hand."""
    if ban.until is None:
        end = "for good"
    else:
        end = f"until {datetime.fromtimestamp(ban.until).astimezone():%Y-%m-%d %H:%M:%S}"
    how = " by reject" if ban.blocktype is Blocktype.REJECT else ""
    why = f" ({ban.reason})" if ban.reason else ""
    return f"[{ban.jail}] Ban {written(ban.subject)} from {ban.scope}{how} {end}{why}"


def _later(one: float | None, other: float | None) -> float | None:
    """Return the later of two ends; None, for good, is later than any."""
    return None if one is None or other is None else max(one, other)
