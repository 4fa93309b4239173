"""
The warden: the one task that stores bans and programs the packet filter.

In: reports of what a chunk led to, operators' orders, word that containers or
the kernel changed. Out: rows, then elements. Nobody else writes either, so
there is nothing to lock. The queue at this door is the only one in the house.
What a ban is decided by is in `sentencing`, which stand in `register`, how the kernel is kept in `table`.

Store before kernel: what is enforced is always known. Only where the store refuses or does
not answer does a ban come first; what is unwritten then waits in `backlog`. The kernel ends
bans by itself; the warden only notes it.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from dockerjail.ban import words
from dockerjail.ban.aggregate import Neighbours
from dockerjail.ban.backlog import LAST_WORDS, ROWS, Backlog
from dockerjail.ban.budget import HOUSEHOLD, MOST_BANS, MOST_ELEMENTS, Budget, household
from dockerjail.ban.enforced import Enforced
from dockerjail.ban.orders import (
    EVERYTHING,
    Admit,
    Asked,
    Close,
    Flush,
    Ground,
    Order,
    Pardon,
    Report,
    Request,
    Rescope,
    Revoke,
    Sentence,
    SetBack,
    Verify,
)
from dockerjail.ban.reconcile import BanKey, Change, elements
from dockerjail.ban.register import Register
from dockerjail.ban.sentencing import Bar, Known, Sentencing, later
from dockerjail.ban.table import Sync, Table
from dockerjail.ban.tally import Tally
from dockerjail.errors import FirewallError, Refused
from dockerjail.model import (
    Allowance,
    Ban,
    Cause,
    Cursor,
    Direct,
    Element,
    Failure,
    Mode,
    Offence,
    Subject,
    Unban,
    UnbanReason,
    written,
)
from dockerjail.ports import (
    Block,
    CursorKey,
    Disallowed,
    Entry,
    Firewall,
    Guarded,
    Rewound,
    Settled,
    State,
    Store,
    Unguarded,
)

logger = logging.getLogger(__name__)

BATCH: Final = 512
"""Orders that one transaction takes at most: bounds how long a ban waits for others' rows."""

QUEUE: Final = 1024
"""Orders that may wait at the door before tails have to."""

CROWD: Final = 4000
"""
Failures and offences that may wait at the door, but for those of one report.

A log that is all failures would fill the queue with a million, minutes before the ban that
another container asks for.
"""

COUNTED: Final = 1000
"""Bans whose counters are read in one go at most."""

READ: Final = 200
"""Elements that are read at once: whoever mends the table waits for no more."""

STRETCH: Final = 1000
"""Bans that are gone through before others get a turn: a hundred thousand take a third of a second."""

FULL: Final = (
    f"{MOST_BANS} bans stand, or {MOST_ELEMENTS} elements; no more are made until some end"
)

STOPPING: Final = "dockerjail is stopping; nothing was changed"

NOTICED: Final = 10.0
"""Seconds within which it is noticed that somebody has set the clock back."""

BLINK: Final = 0.001
NAP: Final = 3600.0
"""Shortest and longest sleep until an expiry, in seconds: clocks are rounded, and jump."""


@dataclass(slots=True)
class _Batch:
    """
    What one turn writes: rows in order, elements, and who waits for which answer.

    `known` are the bans of who came up, those among the rows, too.
    """

    entries: list[Entry] = field(default_factory=list)
    cursors: dict[CursorKey, Cursor] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    add: dict[Element, Block] = field(default_factory=dict)
    remove: set[Element] = field(default_factory=set)
    answers: list[tuple[asyncio.Future[Sequence[Ban]], Sequence[Ban]]] = field(default_factory=list)
    grounds: list[asyncio.Future[None]] = field(default_factory=list)
    touched: set[BanKey] = field(default_factory=set)
    known: Known = field(default_factory=Known)
    news: list[tuple[int, str]] = field(default_factory=list)
    ground: bool = False
    allowances: bool = False
    verify: Verify | None = None
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
        bar: Bar,
        *,
        budget: Budget | None = None,
        local: Callable[[Subject], str | None] = lambda _: None,
        admitted: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Make a warden that has nothing in force yet.

        `local` says why a subject is this host's own and never banned, not even by force;
        `admitted` is called when `allowances` changed, before who asked for it is answered.
        """
        self._firewall = firewall
        self._bar = bar
        self._clock = bar.clock
        self._local = local
        self._admitted = admitted
        self.budget = budget if budget is not None else Budget()
        self.backlog = Backlog(store, clock=bar.clock, changed=self._written)
        self.sentencing = Sentencing(self.backlog, bar, self.budget)
        self.table = Table(firewall, clock=bar.clock)
        self.tally = Tally(self.table.holders)
        self._neighbours = Neighbours()
        self._settled: set[str] = set()
        self._guarded: frozenset[Direct] = frozenset()
        self._orders: asyncio.Queue[Order] = asyncio.Queue(QUEUE)
        self._crowd = 0
        self._door = asyncio.Lock()  # tails go through in turn
        self._room = asyncio.Event()
        self._register = Register()
        self._enforced = Enforced()
        self._idle: set[BanKey] = set()  # enforced before this dry run, and after it
        self._allowances: dict[str, Allowance] = {}
        self._noted: dict[CursorKey, Cursor] = {}
        self._gone: set[str] = set()
        self._told_full = False
        self._next_ban = 1
        self._batch = _Batch()
        self._told: asyncio.Future[None] | None = None
        self._closed = False
        self._counting = 0

    # What others may ask

    @property
    def bans(self) -> Collection[Ban]:
        """The bans in force: in the kernel as far as that is in sync, stored unless that is behind."""
        return self._enforced.bans

    @property
    def waiting(self) -> int:
        """How many orders wait at the door."""
        return self._orders.qsize()

    @property
    def blocked(self) -> int:
        """How many elements the kernel should hold."""
        return len(self.table)

    @property
    def sync(self) -> Sync:
        """Whether the kernel holds them."""
        return self.table.sync

    @property
    def allowances(self) -> Collection[Allowance]:
        """Who was let pass by an operator, and still is."""
        return self._allowances.values()

    def enforced(self, key: BanKey) -> tuple[Ban, float] | None:
        """Return the ban that the kernel holds under this jail and subject, and since when."""
        return self._enforced.get(key)

    def holding(self, jail: str, subject: Subject) -> tuple[Ban, float] | None:
        """Return a ban that keeps `subject` from what `jail` watches over, and since when."""
        return self._enforced.holding(jail, subject)

    def elements_of(self, ban: Ban) -> Sequence[Element]:
        """Return the elements that enforce a ban."""
        return self.table.elements_of(ban.key)

    def standing(self, container: str, mode: Mode = Mode.ENFORCE) -> int:
        """Return how many households are banned, or observed, because of a container."""
        return len(self._register.because_of(container, mode))

    @property
    def crowded(self) -> bool:
        """Whether so many bans stand that no more are made."""
        return len(self._register) >= MOST_BANS or len(self.table) >= MOST_ELEMENTS

    def over_budget(self, container: str) -> float | None:
        """Return since when the bans that a container leads to are only observed, None if not."""
        now = asyncio.get_running_loop().time()
        since = self.budget.tripped(container, now, self.standing(container))
        return None if since is None else self._clock() - (now - since)

    async def count(self, bans: Iterable[Ban]) -> None:
        """Read what some bans have blocked into the tally; the kernel's silence changes nothing."""
        wanted = [element for ban in bans for element in self.elements_of(ban)]
        for at in range(0, len(wanted), READ):
            with suppress(FirewallError):  # `sync` and the next look tell of it
                self.tally.update(await self._firewall.counters(wanted[at : at + READ]))

    async def count_some(self) -> None:
        """Read what the next of all bans have blocked: called often, it gets around."""
        bans = list(self._enforced.bans)
        if self._counting >= len(bans):
            self._counting = 0
        some = bans[self._counting : self._counting + COUNTED]
        self._counting += len(some)
        await self.count(some)

    # What others may say

    async def report(self, report: Report) -> None:
        """Hand over what a chunk led to; waits, in turn, while the warden or the store is behind."""
        async with self._door:
            while self._crowd >= CROWD or self.backlog.full:
                self._room.clear()
                await self._room.wait()
            await self._orders.put(report)
            self._crowd += len(report.entries)  # not of one that was cancelled at the door
            if report.cursor is not None:
                # overtaken, whatever the stamps say: a clock that is set back stamps lines earlier
                self._noted.pop(report.cursor[0], None)

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

    def forget_jails(self, jails: Iterable[str]) -> None:
        """Let go of what is known of jails that run no more, unless they still ban somebody."""
        banning = {ban.jail for ban in self._register}
        for jail in jails:
            self._neighbours.forget(jail)
            self._settled.discard(jail)
            self.sentencing.forget(jail)
            if jail not in banning:
                self.tally.forget_jail(jail)

    async def ask(self, order: Request) -> Sequence[Ban]:
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

    async def verify(self, reason: str = "") -> None:
        """Have the kernel compared with what it should hold; without a reason if it was changed."""
        await self._orders.put(Verify(reason=reason))

    async def retime(self, step: float) -> None:
        """Have the kernel end bans by the new time of a clock that was set by so many seconds."""
        reason = f"the clock was set by {step:+.0f} seconds"
        await self._orders.put(Verify(reason=reason, ours=True))

    async def set_back(self, seconds: float) -> None:
        """Say that this host's clock was set back: no ban lasts longer for it."""
        await self._orders.put(SetBack(seconds=seconds))

    async def ground(
        self, allow: frozenset[Subject], direct: frozenset[Direct] = frozenset()
    ) -> None:
        """Take over who is never blocked and where to stand; returns when the kernel knows."""
        if self._closed:
            return
        if self.table.ground(allow, direct):
            self._told = done = asyncio.get_running_loop().create_future()
            try:
                await self._orders.put(Ground(done=done))
            except asyncio.CancelledError:
                done.set_result(None)  # the end is near, and nobody else would say so
                raise
        # also for whoever comes with the same while the kernel does not know it yet
        if self._told is not None and not self._closed:
            await asyncio.wait([self._told])

    async def close(self) -> None:
        """Say that no order follows those already handed over."""
        await self._orders.put(Close())

    # The work

    async def restore(self, state: State, *, allow: frozenset[Subject]) -> None:
        """
        Take over what the store remembers and have the kernel hold it.

        Raises `FirewallError`: a start that cannot enforce is no start.
        """
        self._next_ban = state.next_ban
        self._allowances = {each.who: each for each in state.allowances}
        bans = list(state.bans)
        if self._bar.observing:
            self._idle = {ban.key for ban in bans if ban.mode is Mode.ENFORCE}
            bans = [replace(ban, mode=Mode.OBSERVE) for ban in bans]
        for ban in bans:
            self._register.enter(ban)
            logger.info("%s", words.restored(ban))
        self._guarded = state.direct
        self.table.ground(allow, state.direct)
        self._force()
        await self.table.restore(bans)
        for ban in bans:
            self._enforced.put(ban, self._clock())

    async def run(self) -> None:
        """
        Work through orders and expiries until closed; whoever waits then is refused.

        Raises `StoreError` when the store cannot be trusted, or never took what was in hand.
        """
        try:
            async with asyncio.TaskGroup() as desk:
                writing = desk.create_task(self.backlog.run(), name="store")
                await self._work()
                self.backlog.close()
                await asyncio.wait([writing], timeout=LAST_WORDS)
                writing.cancel()
        finally:
            self._closed = True
            self._turn_away()
        self.backlog.check()

    async def _work(self) -> None:
        while not self._batch.closing and self.backlog.broken is None:
            self._batch = batch = _Batch()
            await self._fill(batch)
            await self._carry_out(batch)

    def _written(self) -> None:
        """Take note that the store took something, or is given up."""
        self._room.set()
        if self.backlog.broken is not None and self._orders.empty():
            self._orders.put_nowait(Flush())  # wakes who has nothing to do

    def _turn_away(self) -> None:
        """Answer everybody who would wait for ever."""
        left = [answer for answer, _ in self._batch.answers]
        grounds = list(self._batch.grounds)
        while not self._orders.empty():
            order = self._orders.get_nowait()
            if isinstance(order, Asked):
                left.append(order.answer)
            elif isinstance(order, Ground):
                grounds.append(order.done)
        for answer in left:
            if not answer.done():
                answer.set_exception(Refused(STOPPING))
        for done in grounds:
            if not done.done():
                done.set_result(None)

    async def _fill(self, batch: _Batch) -> None:
        """Wait for an order or an expiry; take along what else is waiting."""
        order: Order | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(self._until_next_expiry()):
                order = await self._orders.get()
        taken = 0
        while order is not None:
            await self._decide(order, batch)
            taken += 1
            full = taken >= BATCH or len(batch.entries) >= ROWS
            order = None if full or self._orders.empty() else self._orders.get_nowait()
        self._expire(batch)
        if self._orders.empty():
            batch.cursors |= self._noted  # each was read behind what was reported of its stream
            self._noted = {}
            batch.gone, self._gone = self._gone, set()  # no sooner: reports of them may wait

    async def _decide(self, order: Order, batch: _Batch) -> None:
        match order:
            case Report():
                self._crowd -= len(order.entries)
                self._room.set()
                for entry in order.entries:
                    if isinstance(entry, Failure):
                        batch.entries.append(entry)
                        batch.say(logging.INFO, words.found(entry))
                    elif isinstance(entry, Offence):
                        await self._judge(entry, batch)
                    else:
                        batch.entries.append(entry)
                if order.cursor is not None:
                    stream, cursor = order.cursor
                    batch.cursors[stream] = cursor
            case Asked(order=request, answer=answer):
                try:
                    bans = await self._request(request, batch)
                except Refused as refused:
                    if not answer.done():
                        answer.set_exception(refused)
                else:
                    batch.answers.append((answer, bans))
            case Rescope():
                await self._rescope(batch)
            case Ground(done=done):
                batch.ground = True
                self._guard(batch)
                batch.grounds.append(done)
            case Verify():
                if batch.verify is None or batch.verify.ours or not batch.verify.reason:
                    batch.verify = order
            case SetBack(seconds=seconds):
                await self._set_back(seconds, batch)
            case Close():
                batch.closing = True
            case _:  # a Flush: the cursors go with any batch that leaves nothing waiting
                pass

    async def _judge(self, offence: Offence, batch: _Batch) -> None:
        """Turn an offence into a ban, a longer ban, or nothing, and see what that leads to."""
        whole = self._whole(offence)
        if whole is None:
            ban, new = await self._ban(offence, Cause.FAILURES, batch)
        else:
            ban, new = await self._ban(whole, Cause.NEIGHBOURS, batch)
        batch.entries.append(
            Settled(jail=offence.jail, subject=offence.subject, ban=ban.id if ban else None)
        )
        if ban is None:
            return
        self._put(ban, batch)
        if not new:
            return
        for relapse in await self.sentencing.relapse(ban, batch.known):
            await self._also(relapse, Cause.BANS, batch)
        found = self._neighbour(ban)
        if found is not None:
            network, addresses = found
            wider = replace(offence, subject=network, address=None, failures=addresses)
            await self._also(wider, Cause.NEIGHBOURS, batch)

    def _whole(self, offence: Offence) -> Offence | None:
        """Return the offence of a whole household, if more of it is banned than is banned one by one."""
        home = household(offence.subject)
        if home == offence.subject or (offence.jail, offence.subject) in self._register:
            return None
        banned = self._register.of_household(offence.container, home)
        if banned < HOUSEHOLD:
            return None
        return replace(offence, subject=home, address=None, failures=banned)

    def _full(self, offence: Offence) -> bool:
        """Say whether there is no room for one more ban; the first time is told."""
        full = self.crowded
        if full and not self._told_full:
            logger.error("[%s] %s is not banned: %s", offence.jail, written(offence.subject), FULL)
        self._told_full = full
        return full

    def _neighbour(self, ban: Ban) -> tuple[Subject, int] | None:
        """Return the network that is to be banned after `ban`, for how many of its addresses."""
        policy = self._bar.policies(ban.jail)
        if policy is None or policy.aggregate is None or ban.cause is not Cause.FAILURES:
            return None
        if ban.jail not in self._settled:
            # bans of before a restart stand, too; no jail ran yet when they were restored
            self._settled.add(ban.jail)
            for old in self._register:
                if old.jail == ban.jail and old.cause is Cause.FAILURES and old.key != ban.key:
                    self._neighbours.add(old.jail, old.subject, old.at, policy.aggregate)
        network = self._neighbours.add(ban.jail, ban.subject, ban.at, policy.aggregate)
        return None if network is None else (network, policy.aggregate.addresses)

    async def _also(self, offence: Offence, cause: Cause, batch: _Batch) -> None:
        """Ban for what a ban has led to."""
        ban, _ = await self._ban(offence, cause, batch)
        if ban is not None:
            self._put(ban, batch)

    async def _ban(self, offence: Offence, cause: Cause, batch: _Batch) -> tuple[Ban | None, bool]:
        """Decide on an offence; return the ban, and whether it is more than a longer one."""
        standing = self._register.get((offence.jail, offence.subject))
        if standing is None and self._full(offence):
            return None, False
        ban = await self.sentencing.decide(
            offence,
            number=self._number,
            standing=standing,
            known=batch.known,
            active=self.standing(offence.container),
            observed=self.standing(offence.container, Mode.OBSERVE),
            held=bool(self._register.adopted(offence.subject)),
            cause=cause,
        )
        if ban is not None and standing is None:
            # what the kernel has for longer was this ban, or one like it, before the database was lost
            for old in self._replaceable(ban):
                ban = replace(ban, until=later(ban.until, old.until))
        return ban, standing is None or (ban is not None and ban.mode is not standing.mode)

    def _replaceable(self, ban: Ban) -> Sequence[Ban]:
        """Return bans made of what the kernel blocked, of which `ban` blocks all, whatever the end."""
        found = self._register.adopted(ban.subject)
        if not found or ban.mode is not Mode.ENFORCE:
            return ()
        mine = {*elements(ban, rejects=self._firewall.rejects)}
        return [
            old
            for old in found
            if old.key != ban.key
            and old.mode is ban.mode
            and mine.issuperset(self.elements_of(old))
        ]

    async def _request(self, request: Request, batch: _Batch) -> Sequence[Ban]:
        """Carry out an operator's order; raises `Refused`."""
        match request:
            case Sentence():
                return [self._sentence(request, batch)]
            case Pardon():
                return await self._pardon(request, batch)
            case Admit():
                return await self._admit(request, batch)
            case Revoke():
                self._revoke(request.who, batch)
                return []

    def _sentence(self, sentence: Sentence, batch: _Batch) -> Ban:
        name = written(sentence.subject)
        if why := self._local(sentence.subject):
            raise Refused(f"{name} is never banned: {why}")
        why = self._bar.protected(sentence.subject, sentence.jail)
        if why and not sentence.force:
            raise Refused(f"{name} is never banned: {why}; with --force it is all the same")
        now = self._clock()
        standing = self._register.get((sentence.jail, sentence.subject))
        if standing is None and self.crowded:
            raise Refused(f"{name} is not banned: {FULL}")
        ban = Ban(
            id=standing.id if standing else self._number(),
            jail=sentence.jail,
            subject=sentence.subject,
            scope=sentence.scope,
            at=now,
            until=None if sentence.bantime is None else now + sentence.bantime,
            reason=sentence.reason,
            blocktype=sentence.blocktype,
            cause=Cause.OPERATOR,
            mode=Mode.OBSERVE if self._bar.observing else Mode.ENFORCE,
            forced=bool(why),
        )
        self._put(ban, batch)
        return ban

    async def _pardon(self, pardon: Pardon, batch: _Batch) -> Sequence[Ban]:
        ended = [
            ban
            for ban in self._register
            if pardon.jail in (None, ban.jail, ban.jail.partition("@")[0])
            and _overlap(ban.subject, pardon.subject)
        ]
        await self.count(ended[:COUNTED])
        for ban in ended:
            self._end(ban, UnbanReason.OPERATOR, batch)
        return ended

    async def _admit(self, admit: Admit, batch: _Batch) -> Sequence[Ban]:
        ended = [
            ban
            for ban in self._register
            if any(
                net.prefixlen <= ban.subject.prefixlen and _overlap(net, ban.subject)
                for net in admit.networks
            )
        ]
        await self.count(ended[:COUNTED])
        for ban in ended:
            self._end(ban, UnbanReason.IGNORED, batch)
        self._allowances[admit.allowance.who] = admit.allowance
        batch.entries.append(admit.allowance)
        batch.allowances = True
        batch.say(
            logging.WARNING, f"{admit.allowance.who} is let pass {words.end(admit.allowance)}"
        )
        return ended

    def _revoke(self, who: str, batch: _Batch) -> None:
        if who not in self._allowances:
            known = ", ".join(sorted(self._allowances)) or "nobody"
            raise Refused(f"{who} is not let pass by an operator's word; who is: {known}")
        self._disallow(who, batch)

    def _guard(self, batch: _Batch) -> None:
        """Have it remembered before which addresses bans are to stand at the next start."""
        direct = self.table.direct
        batch.entries += (Guarded(direct=each) for each in sorted(direct - self._guarded, key=str))
        batch.entries += (Unguarded(direct=each) for each in self._guarded - direct)
        self._guarded = direct

    def _disallow(self, who: str, batch: _Batch) -> None:
        del self._allowances[who]
        batch.entries.append(Disallowed(who=who))
        batch.allowances = True
        batch.say(logging.WARNING, f"{who} is let pass no more")

    async def _rescope(self, batch: _Batch) -> None:
        """
        Give standing bans the ports that their services publish now.

        Never everything in place of ports: a proxy that restarts must not make its
        bans wider. A service that is gone keeps its bans, unless its ports are another's. Who is
        ignored by now is let in.
        """
        scopes = {
            jail: self._bar.scopes(jail)
            for jail in {ban.jail for ban in self._register if _follows(ban)}
        }
        for number, ban in enumerate(self._register):
            if not number % STRETCH:
                await asyncio.sleep(0)
            ordered = ban.cause is Cause.OPERATOR
            if not ordered and self._bar.excused(ban.subject, ban.jail):
                self._end(ban, UnbanReason.IGNORED, batch)
                continue
            scope = scopes.get(ban.jail) if _follows(ban) else None
            if scope is None or scope.ports is None or (scope.nothing and not scope.yields):
                continue
            if (scope.ports, scope.addresses) == (ban.scope.ports, ban.scope.addresses):
                continue
            logger.info(
                "[%s] %s is now kept out of %s: %s",
                ban.jail,
                written(ban.subject),
                scope,
                scope.why,
            )
            self._put(replace(ban, scope=scope), batch)

    async def _set_back(self, seconds: float, batch: _Batch) -> None:
        """Move ends with the clock, but for those set since: they go by its new time."""
        now = self._clock()
        self._enforced.set_back(seconds, now - NOTICED, now)
        self._neighbours.set_back(seconds, now - NOTICED, now)
        # before the bans in force, which are written with their own new stamps
        batch.entries.append(Rewound(seconds=seconds, now=now))
        for each in list(self._allowances.values()):
            set_since = now - NOTICED <= each.at <= now
            if each.until is not None and not set_since:
                moved = replace(each, at=each.at - seconds, until=each.until - seconds)
                self._allowances[each.who] = moved
                batch.entries.append(moved)
        for number, ban in enumerate(self._register):
            if not number % STRETCH:
                await asyncio.sleep(0)
            made_since = now - NOTICED <= ban.at <= now
            if ban.until is not None and not made_since:
                self._put(replace(ban, at=ban.at - seconds, until=ban.until - seconds), batch)

    def _expire(self, batch: _Batch) -> None:
        now = self._clock()
        for ban in self._register.over(now):
            self._end(ban, UnbanReason.EXPIRED, batch)
        for each in [a for a in self._allowances.values() if a.until and a.until <= now]:
            self._disallow(each.who, batch)

    def _until_next_expiry(self) -> float | None:
        """Return the seconds to the next expiry, None when there is none."""
        ends = [each.until for each in self._allowances.values() if each.until is not None]
        if (next_end := self._register.next_end) is not None:
            ends.append(next_end)
        if not ends:
            return None
        return min(max(BLINK, min(ends) - self._clock()), NAP)

    def _number(self) -> int:
        self._next_ban += 1
        return self._next_ban - 1

    def _put(self, ban: Ban, batch: _Batch) -> None:
        """Make a ban, or give a standing one its new end or scope."""
        standing = self._register.get(ban.key)
        if standing == ban:
            return
        if standing is None or ban.cause is Cause.OPERATOR or ban.mode is not standing.mode:
            batch.say(logging.WARNING, words.banned(ban))
        batch.touched.add(ban.key)
        self._register.enter(ban)
        batch.entries.append(replace(ban, mode=Mode.ENFORCE) if ban.key in self._idle else ban)
        batch.known.put(ban)
        change = self.table.put(ban)
        self.tally.forget(change.remove)
        batch.take(change)
        batch.ground |= self._force()
        if standing is None:
            for old in self._replaceable(ban):
                if later(ban.until, old.until) == ban.until:
                    self._end(old, UnbanReason.REPLACED, batch)

    def _force(self) -> bool:
        """Tell the table who is blocked in spite of all; say whether that is new."""
        return self.table.force(self._register.forced)

    def _end(self, ban: Ban, reason: UnbanReason, batch: _Batch) -> None:
        batch.say(logging.WARNING, words.ended(ban, reason))
        batch.touched.add(ban.key)
        self._register.strike(ban.key)
        self._idle.discard(ban.key)
        blocked = self.tally.of(self.elements_of(ban))
        batch.entries.append(Unban(ban=ban, at=self._clock(), reason=reason, blocked=blocked))
        change = self.table.drop(ban.key)
        self.tally.forget(change.remove)
        batch.take(change)
        batch.ground |= self._force()

    async def _carry_out(self, batch: _Batch) -> None:
        self.backlog.put(batch.entries, batch.cursors, batch.gone)
        await self.backlog.settle()
        if batch.allowances:
            self._admitted()
        await self.table.change(
            add=tuple(batch.add.values()), remove=tuple(batch.remove), ground=batch.ground
        )
        if batch.verify is not None:
            await self.table.verify(batch.verify.reason, ours=batch.verify.ours)
        for key in batch.touched:
            if (ban := self._register.get(key)) is not None:
                self._enforced.put(ban, self._clock())
            else:
                self._enforced.drop(key)
        for level, text in batch.news:
            logger.log(level, "%s", text)
        for done in batch.grounds:
            if not done.done():
                done.set_result(None)
        for answer, bans in batch.answers:
            if not answer.done():  # who asked may have gone away
                answer.set_result(bans)


def _follows(ban: Ban) -> bool:
    """Say whether a ban keeps to the ports of its jail's service, as these change."""
    return "@" in ban.jail and ban.scope.why != EVERYTHING.why


def _overlap(one: Subject, other: Subject) -> bool:
    """Say whether one network contains the other; `overlaps` makes four objects to find out."""
    if one.version != other.version:
        return False
    shift = one.max_prefixlen - min(one.prefixlen, other.prefixlen)
    return int(one.network_address) >> shift == int(other.network_address) >> shift
