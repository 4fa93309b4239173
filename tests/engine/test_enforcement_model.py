"""
Store, warden and kernel against a simple model, for thousands of random steps.

Bans by jails and by hand, overlapping in every way, renewals, ends, unbans, dry runs, new scopes,
containers past the host, new networks never to be blocked; somebody else who deletes, adds and
flushes; a daemon that is killed at any moment and started again. After each step the kernel must block what the model
says, each element until its end, no more and no less, as `nft` tells it and not as we do.

`SEED=` and `STEPS=` in the environment choose the walk and its length; a failure prints
both. Choices are the seed's alone; moments are the machine's, so a race may need more than one run.
"""

import asyncio
import contextlib
import copy
import itertools
import math
import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dockerjail.ban.budget import Budget
from dockerjail.ban.orders import EVERYTHING, MANUAL, Admit, Pardon, Report, Revoke, Sentence
from dockerjail.ban.sentencing import Bar
from dockerjail.ban.warden import Warden
from dockerjail.errors import Refused
from dockerjail.jail.policy import JailPolicy, Origin
from dockerjail.jail.rule import Rule
from dockerjail.model import (
    Allowance,
    Ban,
    Blocktype,
    Direct,
    Element,
    Mode,
    Offence,
    Port,
    Scope,
    Subject,
    written,
)
from dockerjail.nft.kernel import Features, Kernel
from dockerjail.ports import State
from dockerjail.store.sqlite import SqliteStore
from tests.fakes import FakeFlows
from tests.lab import listing, netns

pytestmark = pytest.mark.engine

STEPS = int(os.environ.get("STEPS", "2000"))
SEED = int(os.environ.get("SEED", "20"))

BLUR = 0.3
"""Seconds around an end in which an element may be there or not, and by which ends may differ."""

PATIENCE = 20.0
"""Seconds after which what is not mended never will be."""

SLACK = 2.0
"""Seconds by which a start lets an end differ that was not written any more before a kill."""

LONG = 5 * 3600
"""Seconds that somebody else's elements live: no jail's bans do."""

# As of Linux 5.10: what newer kernels do must be done in another way.
OLD = Features(
    update_timeout=False,
    destroy=False,
    set_count=False,
    reject=True,
    ingress=True,
    owner=False,
)

LOCAL = ip_network("192.0.2.1/32")
NOBODY = ip_network("100.64.0.9/32")
DEVICE = "vlan0"

SUBJECTS = [
    *(ip_network(f"203.0.113.{n}/32") for n in range(6)),
    *map(ip_network, ("203.0.113.0/30", "203.0.113.0/24", "203.0.112.0/23", "128.0.0.0/1")),
    *map(ip_network, ("192.0.2.0/24", "192.0.2.1/32")),
    *(ip_network(f"2001:db8:0:{n}::/64") for n in range(3)),
    *map(ip_network, ("2001:db8::/48", "2001:db8:0:1::5/128", "2001:db8:0:1:2::/80")),
]
"""Few, so that they meet again and again; in each way in which networks can overlap."""

ALLOWED = [*map(ip_network, ("203.0.113.4/31", "203.0.113.5/32", "2001:db8:0:2::/64"))]
ADMITTED = [*map(ip_network, ("203.0.113.2/32", "203.0.113.2/31", "2001:db8:0:1::/64"))]

DIRECT = [
    Direct(DEVICE, ip_address("198.51.100.9")),
    Direct(DEVICE, ip_address("198.51.100.10")),
    Direct(DEVICE, ip_address("2001:db8:9::9")),
]

SCOPES = [
    Scope(ports=(Port(80), Port(443)), why="published"),
    Scope(ports=(Port(443),), why="published"),
    Scope(ports=(Port(443), Port(443, "udp"), Port(53, "udp")), why="published"),
    Scope(ports=(), why="nothing is published"),
    Scope(ports=None, why="the jail says so"),
    Scope(ports=(), why="on a macvlan", addresses=tuple(each.address for each in DIRECT)),
    Scope(ports=(Port(80),), why="on a macvlan too", addresses=(DIRECT[0].address,)),
]

OTHERWISE = Scope(ports=(Port(22), Port(443)), why=EVERYTHING.why)
"""What an operator chose: it follows nobody."""

BANTIMES: dict[str, float | None] = {
    "blink@web": 0.8,
    "short@web": 3.0,
    "middle@shop": 7.0,
    "long@shop": 3600.0,
    "ever@mail": None,
}


@dataclass
class Held:
    """A ban as the model has it; `until` infinity is for good."""

    jail: str
    subject: Subject
    scope: Scope
    blocktype: Blocktype
    until: float
    mode: Mode = Mode.ENFORCE
    ordered: bool = False
    forced: bool = False

    @property
    def follows(self) -> bool:
        """Whether it keeps to the ports of its jail's service."""
        return "@" in self.jail and self.scope.why != EVERYTHING.why

    def elements(self) -> Iterator[Element]:
        if self.mode is Mode.OBSERVE:
            return
        if self.scope.ports is None:
            yield Element(self.subject, None, self.blocktype)
        for port in self.scope.ports or ():
            yield Element(self.subject, port, self.blocktype)
        for address in self.scope.addresses:
            if address.version == self.subject.version:
                yield Element(self.subject, None, Blocktype.DROP, address)


Bans = dict[tuple[str, Subject], Held]


@dataclass
class Model:
    """What ought to be: the rules of the house in a few lines."""

    jails: dict[str, JailPolicy]
    scopes: dict[str, Scope]
    ignored: frozenset[Subject] = frozenset()
    direct: frozenset[Direct] = frozenset()
    bans: Bans = field(default_factory=dict)
    allowances: dict[Subject, float] = field(default_factory=dict)

    def offend(self, jail: str, subject: Subject, at: float, now: float) -> None:
        policy, scope = self.jails[jail], self.scopes[jail]
        until = math.inf if policy.bantime is None else at + policy.bantime
        standing = self.bans.get((jail, subject))
        if standing is not None and standing.until <= now:
            standing = None
        if until <= now or self.protects(subject, now):
            return
        if standing is not None and standing.mode is policy.mode:
            standing.until = max(standing.until, until)
        elif (standing is None or standing.mode is Mode.OBSERVE) and not scope.nothing:
            longest = until if standing is None else max(standing.until, until)
            held = Held(jail, subject, scope, policy.blocktype, longest, policy.mode)
            self.bans[jail, subject] = held

    def sentence(self, order: Sentence, now: float) -> None:
        protected = self.protects(order.subject, now)
        if LOCAL.version == order.subject.version and LOCAL.overlaps(order.subject):
            return
        if protected and not order.force:
            return
        until = math.inf if order.bantime is None else now + order.bantime
        self.bans[order.jail, order.subject] = Held(
            order.jail,
            order.subject,
            order.scope,
            order.blocktype,
            until,
            ordered=True,
            forced=protected,
        )

    def pardon(self, order: Pardon) -> None:
        for key, held in [*self.bans.items()]:
            if order.jail in (None, held.jail) and _overlap(order.subject, held.subject):
                del self.bans[key]

    def admit(self, network: Subject, until: float) -> None:
        self.allowances[network] = until
        for key, held in [*self.bans.items()]:
            if _within(held.subject, network):
                del self.bans[key]

    def rescope(self, now: float) -> None:
        for key, held in [*self.bans.items()]:
            scope = self.scopes.get(held.jail)
            if not held.ordered and any(_within(held.subject, n) for n in self.passing(now)):
                del self.bans[key]
            elif (held.follows and scope is not None and not scope.nothing and scope.ports) or (
                held.follows and scope is not None and scope.addresses
            ):
                held.scope = scope

    def passing(self, now: float) -> frozenset[Subject]:
        """Return who is never blocked."""
        admitted = [network for network, until in self.allowances.items() if until > now]
        return frozenset([LOCAL, *self.ignored, *admitted])

    def protects(self, subject: Subject, now: float) -> bool:
        return any(_overlap(network, subject) for network in self.passing(now))

    def excuses(self, subject: Subject, now: float) -> bool:
        return any(_within(subject, network) for network in self.passing(now))

    def ends(self) -> list[float]:
        return [*(held.until for held in self.bans.values()), *self.allowances.values()]

    def elements(self) -> dict[Element, float]:
        wanted: dict[Element, float] = {}
        for held in self.bans.values():
            for element in held.elements():
                wanted[element] = max(held.until, wanted.get(element, 0.0))
        return wanted

    def allowed(self, now: float) -> list[frozenset[Subject]]:
        """Return what the kernel may let pass now: forced bans and allowances may end about now."""
        near = [end for end in self.ends() if abs(end - now) <= BLUR]
        found = []
        for moment in (now, *(end + side for end in near for side in (-BLUR / 1e3, BLUR / 1e3))):
            forced = [h.subject for h in self.bans.values() if h.forced and h.until > moment]
            left = set(self.passing(moment))
            for hole in forced:
                for network in [n for n in left if _overlap(n, hole)]:
                    left.remove(network)
                    if not _within(network, hole):
                        left.update(network.address_exclude(hole))  # type: ignore[arg-type]
            found.append(listing.collapsed(left))
        return found


def _overlap(one: Subject, other: Subject) -> bool:
    return one.version == other.version and one.overlaps(other)


def _within(inner: Subject, outer: Subject) -> bool:
    return _overlap(inner, outer) and inner.prefixlen >= outer.prefixlen


class House:
    """A daemon of its own state, in a namespace of its own, that can be killed."""

    def __init__(self, directory: Path, model: Model, make: Callable[[], Kernel]) -> None:
        self._directory = directory
        self._make = make
        self._lives = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._admitted = asyncio.Event()
        self._protecting = asyncio.Lock()
        self._passing: frozenset[Subject] = frozenset()
        self.model = model
        self.started = State()

    async def start(self, group: asyncio.TaskGroup) -> None:
        self.store = SqliteStore(self._path, keep=3600.0)
        self.kernel = self._make()
        await self.store.open()
        await self.kernel.open()
        self.warden = Warden(
            self.store,
            self.kernel,
            Bar(
                policies=self.model.jails.get,
                scopes=self.model.scopes.get,
                protected=lambda subject, _: self._why(subject, _overlap),
                excused=lambda subject, _: self._why(subject, _within),
                clock=time.time,
                flows=FakeFlows(),
            ),
            budget=Budget(per_minute=1_000_000, active=1_000_000),
            local=lambda subject: "it is this host" if _overlap(LOCAL, subject) else None,
            admitted=self._admitted.set,
        )
        self.started = await self.store.load(now=time.time(), findtime=60.0)
        self._look(self.started.allowances)
        await self.warden.restore(self.started, allow=self._passing)
        work = (self.warden.run(), self._follow(), self._admit())
        self._tasks = [group.create_task(each) for each in work]

    async def protect(self) -> None:
        """Take over who is never blocked; returns when the kernel knows."""
        async with self._protecting:
            self._look(self.warden.allowances)
            await self.warden.ground(self._passing, self.model.direct)

    def _look(self, allowances: Iterable[Allowance]) -> None:
        admitted = (ip_network(each.who) for each in allowances)
        self._passing = frozenset([LOCAL, *self.model.ignored, *admitted])

    def _why(self, subject: Subject, how: Callable[[Subject, Subject], bool]) -> str | None:
        return "he may pass" if any(how(subject, network) for network in self._passing) else None

    async def _follow(self) -> None:
        async with contextlib.aclosing(self.kernel.changes()) as changes:
            async for word in changes:
                await self.warden.verify(word)

    async def _admit(self) -> None:
        while True:
            await self._admitted.wait()
            self._admitted.clear()
            await self.protect()

    async def kill(self) -> None:
        """End as SIGKILL does: what was not written is lost, and nobody is said goodbye to."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.kernel.close()
        before, self._lives = self._path, self._lives + 1
        for suffix in ("", "-wal"):  # as they lie on the disk: closing would tidy up
            shutil.copy(f"{before}{suffix}", f"{self._path}{suffix}")
        await self.store.close()
        shutil.rmtree(before.parent)

    async def close(self) -> None:
        """Let go of what a walk that failed left open: the store's threads would keep pytest waiting."""
        await self.kernel.close()
        await self.store.close()

    @property
    def _path(self) -> Path:
        directory = self._directory / str(self._lives)
        directory.mkdir(exist_ok=True)
        return directory / "state.db"


@dataclass(frozen=True)
class Order:
    """What is handed to the warden, what it does to the model, and which ban it depends on."""

    words: str
    hand_over: Callable[[Warden], Awaitable[Sequence[Ban] | None]]
    expect: Callable[[Model, float], object]
    key: tuple[str, Subject] | None = None


class Walk:
    """One random walk: the steps, and the comparison after each."""

    def __init__(
        self, seed: int, space: netns.Namespace, house: House, group: asyncio.TaskGroup
    ) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._space = space
        self._house = house
        self._group = group
        self._open: dict[str, tuple[str, ...]] = {}
        self._loose: set[Element] = set()
        self.journal: list[str] = []
        self.done: dict[str, int] = {}

    @property
    def _model(self) -> Model:
        return self._house.model

    async def step(self, number: int) -> None:
        # of its own for each: how many choices the steps before had was a matter of moments
        self._rng = random.Random(f"{self._seed}, step {number}")
        steps: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._order, 42),
            (self._several, 6),
            (self._rescope, 4),
            (self._ignore, 3),
            (self._admit, 4),
            (self._revoke, 2),
            (self._move, 3),
            (self._reconfigure, 2),
            (self._meddle, 20),
            (self._meddle_twice, 3),
            (self._unplug, 1),
            (self._wait, 2),
            (self._restart, 4),
            (self._check, 2),
        ]
        (step,) = self._rng.choices([each for each, _ in steps], [weight for _, weight in steps])
        self.journal.append(f"{number} {step.__name__}")
        self._count(step.__name__.strip("_"))
        await step()

    def _count(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1

    # Steps

    async def _order(self) -> None:
        order = self._new_order()
        await self._carry_out(order)
        await self._agree_now()

    async def _several(self) -> None:
        for order in [self._new_order() for _ in range(self._rng.randint(2, 8))]:
            await self._carry_out(order, barrier=False)
        await self._barrier()
        await self._agree_now()

    async def _rescope(self) -> None:
        await self._settle()
        for jail in self._rng.sample([*BANTIMES], 2):
            self._model.scopes[jail] = self._rng.choice(SCOPES)
            self.journal.append(f"  {jail} now closes {self._model.scopes[jail]}")
        await self._house.warden.rescope()
        await self._barrier()
        self._model.rescope(time.time())
        await self._agree_now()

    async def _ignore(self) -> None:
        self._model.ignored = frozenset(self._rng.sample(ALLOWED, self._rng.randint(0, 3)))
        self.journal.append(f"  now ignored: {_words(self._model.ignored)}")
        await self._house.protect()
        await self._agree_now()

    async def _admit(self) -> None:
        await self._settle()
        network, seconds = self._rng.choice(ADMITTED), self._rng.choice([2.0, 600.0, math.inf])
        until = time.time() + seconds
        self.journal.append(f"  {network} is let pass for {seconds} s")
        allowance = Allowance(
            who=written(network), at=time.time(), until=None if until == math.inf else until
        )
        await self._house.warden.ask(Admit(allowance=allowance, networks=[network]))
        await self._house.protect()
        self._model.admit(network, until)
        await self._agree_now()

    async def _revoke(self) -> None:
        await self._settle()
        network = self._rng.choice(ADMITTED)
        self.journal.append(f"  {network} is let pass no more")
        known = self._model.allowances.pop(network, 0.0) > time.time()
        with contextlib.suppress(Refused) if not known else contextlib.nullcontext():
            await self._house.warden.ask(Revoke(who=written(network)))
        await self._house.protect()
        await self._agree_now()

    async def _move(self) -> None:
        """Containers past the host come and go."""
        self._model.direct = frozenset(self._rng.sample(DIRECT, self._rng.randint(0, 3)))
        self.journal.append(
            f"  past the host: {', '.join(str(d.address) for d in self._model.direct)}"
        )
        await self._house.protect()
        await self._agree_now()

    async def _reconfigure(self) -> None:
        """Have a jail only observe, or enforce again; its standing bans stay as they are."""
        jail = self._rng.choice([*BANTIMES])
        policy = self._model.jails[jail]
        mode = Mode.OBSERVE if policy.mode is Mode.ENFORCE else Mode.ENFORCE
        self._model.jails[jail] = replace(policy, mode=mode)
        self.journal.append(f"  {jail} now does {mode}")
        await self._agree_now()

    async def _unplug(self) -> None:
        """Take the device away, and put it back: what stood there must stand there again."""
        self._space.run("ip", "link", "del", DEVICE)
        await self._house.warden.verify()
        await self._barrier()
        await self._agree_soon(doors=False)
        _plug(self._space)
        await self._house.warden.verify()
        await self._agree_soon()

    async def _meddle(self) -> None:
        await self._do_mischief()
        await self._agree_soon()

    async def _meddle_twice(self) -> None:
        """Somebody changes again what is just being mended, and orders come in between."""
        for _ in range(self._rng.randint(2, 4)):
            await self._do_mischief()
            if self._rng.random() < 0.5:
                await self._carry_out(self._new_order())
        await self._agree_soon()

    async def _wait(self) -> None:
        """Until the next end, if it is near: nobody but the kernel takes the element out."""
        now = time.time()
        ends = sorted(end for end in self._model.ends() if end > now)
        if ends and ends[0] < now + 1.5:
            await asyncio.sleep(ends[0] + BLUR - now)
        await self._agree_now()

    async def _check(self) -> None:
        await self._house.warden.verify()
        await self._barrier()
        await self._agree_now()

    async def _restart(self) -> None:
        """Kill the daemon at any moment; it knows then what it had written, and nothing else."""
        possible = [copy.deepcopy(self._model.bans)]
        orders = [self._new_order() for _ in range(self._rng.randint(0, 5))]
        await self._settle(*(order.key for order in orders))
        waiting = []
        for order in orders:
            waiting.append(self._group.create_task(self._try(order)))
            order.expect(self._model, time.time())
            possible.append(copy.deepcopy(self._model.bans))
        await asyncio.sleep(0)
        for _ in range(self._rng.randrange(120)):
            await asyncio.sleep(0)
        if self._rng.random() < 0.5:
            await asyncio.sleep(self._rng.random() * 0.01)
        await self._house.kill()
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
        await self._see_it_stands(possible)
        while self._rng.random() < 0.4:
            await self._do_mischief()
        if self._rng.random() < 0.1:
            await asyncio.sleep(1.0)
        await self._house.start(self._group)
        self._take_over(possible)
        await self._agree_now()

    async def _see_it_stands(self, possible: Sequence[Bans]) -> None:
        """See that the kernel goes on blocking while there is no daemon."""
        seen = await self._listing()
        now = time.time()
        each = [Model(jails={}, scopes={}, bans=bans).elements() for bans in possible]
        missing = [
            element
            for element in set(each[0]).intersection(*each[1:])
            if element not in seen.blocked and min(e[element] for e in each) > now + BLUR
        ]
        assert not missing, f"gone with the daemon: {missing}"

    async def _try(self, order: Order) -> None:
        with contextlib.suppress(Refused):
            await order.hand_over(self._house.warden)

    def _take_over(self, possible: Sequence[Bans]) -> None:
        """Find the moment of the kill: what the store had of the orders is a beginning of them."""
        now = time.time()
        known = {ban.key: ban for ban in self._house.started.bans}
        compared = [_unlike(bans, known, now) for bans in possible]
        assert [] in compared, f"the store knows what never was: {compared}"
        number = compared.index([])
        bans = possible[number]
        for held in bans.values():
            if (held.jail, held.subject) in known:
                until = known[held.jail, held.subject].until
                held.until = math.inf if until is None else until
        self.journal.append(f"  killed after {number} of {len(possible) - 1} orders")
        self._model.bans = bans
        # What stood before may go on standing, if its end is nearly right.
        self._loose = {
            element for each in possible for held in each.values() for element in held.elements()
        }

    # Orders

    def _new_order(self) -> Order:
        (make,) = self._rng.choices([self._offence, self._sentence, self._pardon], [60, 20, 15])
        order = make()
        self.journal.append(f"  {order.words}")
        return order

    def _offence(self) -> Order:
        jail = self._rng.choice([*BANTIMES])
        subject = self._rng.choice(SUBJECTS)
        late = self._rng.choice([0.0, 0.0, 0.0, 2.0, 600.0])
        at = time.time() - late
        offence = Offence(jail=jail, subject=subject, at=at, failures=5)
        return Order(
            f"offence by {subject} in {jail}, told {late:g} s late",
            lambda warden: warden.report(Report(entries=[offence], cursor=None)),
            lambda model, now: model.offend(jail, subject, at, now),
            (jail, subject),
        )

    def _sentence(self) -> Order:
        order = Sentence(
            subject=self._rng.choice(SUBJECTS),
            bantime=self._rng.choice([1.0, 5.0, 900.0, 900.0, None]),
            scope=self._rng.choice([EVERYTHING, OTHERWISE, *(s for s in SCOPES if not s.nothing)]),
            jail=self._rng.choice([MANUAL, *BANTIMES]),
            blocktype=self._rng.choice([*Blocktype]),
            force=self._rng.random() < 0.3,
        )
        return Order(
            f"ban {order.subject} in {order.jail} from {order.scope} for {order.bantime} s"
            f"{' by force' if order.force else ''}",
            lambda warden: warden.ask(order),
            lambda model, now: model.sentence(order, now),
        )

    def _pardon(self) -> Order:
        order = Pardon(
            subject=self._rng.choice(SUBJECTS),
            jail=self._rng.choice([None, MANUAL, *BANTIMES]),
        )
        return Order(
            f"unban {order.subject} in {order.jail}",
            lambda warden: warden.ask(order),
            lambda model, now: model.pardon(order),
        )

    async def _carry_out(self, order: Order, *, barrier: bool = True) -> None:
        await self._settle(order.key)
        before = time.time()
        try:
            bans = await order.hand_over(self._house.warden)
        except Refused:
            bans = None
        order.expect(self._model, before)
        for ban in bans or ():  # what an operator is told is what there is
            held = self._model.bans.get(ban.key)
            if held is not None and ban.until is not None:
                assert abs(held.until - ban.until) < BLUR + (time.time() - before), ban
                held.until = ban.until
        if barrier:
            await self._barrier()

    async def _barrier(self) -> None:
        """Wait until all that was handed over is done: orders are carried out in turn."""
        await self._house.warden.ask(Pardon(subject=NOBODY))

    async def _settle(self, *keys: tuple[str, Subject] | None) -> None:
        """Let a moment pass in which nobody can say whether a ban or an allowance still stands."""
        bans = self._model.bans
        ends = [*self._model.allowances.values(), *(bans[k].until for k in keys if k in bans)]
        now = time.time()
        if near := [end for end in ends if now - BLUR / 3 < end < now + BLUR]:
            await asyncio.sleep(max(near) + BLUR / 3 - now)

    # Others

    async def _do_mischief(self) -> None:
        seen = await self._listing()
        table = "inet dockerjail"
        sets = [
            name
            for name in (*seen.sets, *seen.filled, *seen.filled)
            if not name.startswith(("allow", "direct"))
        ]
        some_set = self._rng.choice(sets) if sets else "none"
        any_set = self._rng.choice(seen.sets or ("none",))
        chain = self._rng.choice(seen.chains or ("none",))
        flushed = "".join(f"flush chain {table} {name}\n" for name in seen.chains)
        script = self._rng.choice(
            [
                self._delete_elements(some_set),
                self._delete_elements(some_set),
                self._add_elements(some_set),
                self._add_elements(some_set),
                f"flush set {table} {any_set}",
                f"flush chain {table} {chain}",
                f"insert rule {table} {chain} accept",
                f"add rule {table} {chain} drop",
                self._delete_rule(chain),
                f"{flushed}delete set {table} {any_set}",
                f"{flushed}delete chain {table} {chain}",
                f"add set {table} stray {{ type ipv4_addr; }}",
                f"add element {table} allow4 {{ 203.0.113.200 }}",
                f"delete element {table} allow4 {{ {LOCAL.network_address} }}",
                f"flush set {table} direct4",
                f"delete table {table}",
                f"delete table {table}\nadd table {table}",
                "flush ruleset",
                "add table inet stranger",
            ]
        )
        done = await asyncio.to_thread(self._space.run, "nft", "-f", "-", stdin=script, check=False)
        how = "refused" if done.returncode else "done"
        self.journal.append(f"  somebody else: {script!r} ({how})")
        self._count(f"mischief {how}")

    def _delete_elements(self, name: str) -> str:
        keys = self._keys(name)
        chosen = self._rng.sample(keys, min(len(keys), self._rng.randint(1, 3)))
        return "".join(f"delete element inet dockerjail {name} {{ {key} }}\n" for key in chosen)

    def _add_elements(self, name: str) -> str:
        """Add strange ones, or give ours an end that is not theirs."""
        keys = self._keys(name)
        strange = "203.0.113.0" if "4_" in name else "2001:db8::"
        if name.startswith("port"):
            strange += " . tcp . 25"
        if name.startswith("to"):
            strange += " . 198.51.100.9" if "4_" in name else " . 2001:db8:9::9"
        chosen = self._rng.choice([self._rng.choice(keys or [strange]), strange])
        return f"add element inet dockerjail {name} {{ {chosen} timeout {LONG}s }}"

    def _delete_rule(self, chain: str) -> str:
        text = self._space.run(
            "nft", "-a", "list", "table", "inet", "dockerjail", check=False
        ).stdout
        body = text.partition(f"chain {chain} {{")[2].partition("\t}\n")[0]
        handles = [
            line.rpartition("# handle ")[2] for line in body.splitlines() if "# handle" in line
        ]
        rules = [handle for handle in handles[1:] if handle]
        return (
            f"delete rule inet dockerjail {chain} handle {self._rng.choice(rules)}" if rules else ""
        )

    def _keys(self, name: str) -> list[str]:
        done = self._space.run("nft", "list", "set", "inet", "dockerjail", name, check=False)
        return listing.keys(done.stdout)

    # Comparison

    async def _listing(self) -> listing.Listing:
        done = await asyncio.to_thread(
            self._space.run, "nft", "list", "table", "inet", "dockerjail", check=False
        )
        return listing.read(done.stdout)

    async def _agree_now(self) -> None:
        """See that the kernel is right at once; a mend under way may cut through one look."""
        healed = self._house.warden.sync.healed
        wrong = await self._differences()
        if wrong and self._house.warden.sync.healed != healed:
            wrong = await self._differences()
        assert not wrong, "\n".join(wrong)

    async def _agree_soon(self, *, doors: bool = True) -> None:
        """See that the kernel becomes right."""
        deadline = time.monotonic() + PATIENCE
        while wrong := await self._differences(doors=doors):
            assert time.monotonic() < deadline, "never mended:\n" + "\n".join(wrong)
            await asyncio.sleep(0.005)

    async def _differences(self, *, doors: bool = True) -> list[str]:
        before = time.time()
        seen = await self._listing()
        after = time.time()
        wanted = self._model.elements()
        wrong = []
        for element, until in wanted.items():
            left = seen.blocked.get(element)
            slack = BLUR + (SLACK if element in self._loose else 0.0)
            if left is None:
                if until > after + slack:
                    wrong.append(f"missing: {element}, for {until - after:.3f} s more")
            elif until == math.inf or left == math.inf:
                if until != left:
                    wrong.append(f"end: {element} has {left} s, not {until - after:.3f}")
            elif not before + left - slack <= until <= after + left + slack:
                wrong.append(f"end: {element} has {left:.3f} s, not {until - after:.3f}")
            everything = left is not None and (element.port, element.to) == (None, None)
            if everything and element.subject not in seen.past and until > after + slack:
                wrong.append(f"not past the host: {element}")
        wrong += [
            f"too much: {element}"
            for element in seen.blocked
            if element not in wanted or wanted[element] < before - BLUR
        ]
        possible = [*self._model.allowed(before), *self._model.allowed(after)]
        if seen.allowed not in possible:
            wrong.append(f"let pass: {_words(seen.allowed)} and not {_words(possible[0])}")
        direct = listing.collapsed(ip_network(each.address) for each in self._model.direct)
        if seen.direct != direct:
            wrong.append(f"past the host: {_words(seen.direct)} and not {_words(direct)}")
        if doors and seen.doors != {each.device for each in self._model.direct}:
            wrong.append(f"doors at {seen.doors}")
        for chain, rules in seen.open.items():
            if self._open.setdefault(chain, rules) != rules:
                wrong.append(f"chain {chain}: {rules} and not {self._open[chain]}")
        if strange := [name for name in (*seen.sets, *seen.chains) if "stray" in name]:
            wrong.append(f"strange: {strange}")
        known = {ban.key: ban for ban in self._house.warden.bans}
        return wrong + _unlike(self._model.bans, known, after)


def _words(networks: Iterable[Subject]) -> str:
    return ", ".join(sorted(map(str, networks))) or "nobody"


def _unlike(bans: Bans, known: dict[tuple[str, Subject], Ban], now: float) -> list[str]:
    """Return which bans are not the same in both, but for those that end about now."""
    wrong = []
    for key in {*bans, *known}:
        held, ban = bans.get(key), known.get(key)
        ends = [held.until if held else now, _inf(ban.until) if ban else now]
        if held is None or ban is None:
            same = max(ends) <= now + BLUR
        else:
            same = ends[0] == ends[1] or abs(ends[0] - ends[1]) <= BLUR
            same &= (held.scope, held.blocktype) == (ban.scope, ban.blocktype)
            same &= (held.mode, held.forced) == (ban.mode, ban.forced)
        if not same:
            wrong.append(f"ban: {ban} and not {held}")
    return wrong


def _inf(until: float | None) -> float:
    return math.inf if until is None else until


def _policy(jail: str, bantime: float | None, blocktype: Blocktype) -> JailPolicy:
    return JailPolicy(
        name=jail.partition("@")[0],
        origin=Origin.DAEMON,
        rule=Rule(failregex=("x <HOST>",)),
        bantime=bantime,
        blocktype=blocktype,
    )


def _plug(space: netns.Namespace) -> None:
    space.run("ip", "link", "add", DEVICE, "type", "veth", "peer", "name", "far")


@contextlib.asynccontextmanager
async def walking(tmp_path: Path, seed: int, make: Callable[[], Kernel]) -> AsyncIterator[Walk]:
    rng = random.Random(seed)
    jails = {
        jail: _policy(jail, bantime, blocktype)
        for (jail, bantime), blocktype in zip(
            BANTIMES.items(), itertools.cycle(Blocktype), strict=False
        )
    }
    model = Model(jails=jails, scopes={jail: rng.choice(SCOPES) for jail in BANTIMES})
    with netns.create_unique("s4") as space, space.inside():
        _plug(space)
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            house = House(tmp_path, model, make)
            stack.push_async_callback(house.close)
            await house.start(group)
            yield Walk(seed, space, house, group)
            await house.kill()


@pytest.mark.parametrize(
    ("make", "share"),
    [
        pytest.param(Kernel, 0.5, id="this kernel"),
        pytest.param(lambda: Kernel(features=OLD), 0.25, id="an old kernel"),
        pytest.param(lambda: Kernel(owner=True), 0.25, id="a table of our own"),
    ],
)
async def test_the_kernel_blocks_what_the_model_says_whatever_happens(
    tmp_path: Path, make: Callable[[], Kernel], share: float
) -> None:
    async with walking(tmp_path, SEED, make) as walk:
        for number in range(round(STEPS * share)):
            try:
                await walk.step(number)
            except BaseException:
                print(f"SEED={SEED} STEPS={STEPS}, step {number}; what happened last:")
                print("\n".join(walk.journal[-60:]))
                raise
        print(walk.done)
