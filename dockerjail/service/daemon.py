"""
The daemon: who runs, who starts first, who stops last.

Start: table with the restored bans, events, containers. Whoever runs it has opened the
store and the control socket (`run`).
Stop is the same in reverse; bans stay in the kernel.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

from dockerjail.ban.budget import Budget
from dockerjail.ban.orders import Report
from dockerjail.ban.reconcile import SLACK
from dockerjail.ban.scope import elsewhere, resolve
from dockerjail.ban.sentencing import Bar
from dockerjail.ban.warden import Warden
from dockerjail.clock import Steps
from dockerjail.config.policies import longest_findtime, policies
from dockerjail.config.recidive import RECIDIVE
from dockerjail.config.settings import Settings
from dockerjail.docker.intake import Intake
from dockerjail.docker.recall import Recall, Take
from dockerjail.errors import FirewallError, StoreDamaged, StoreError
from dockerjail.jail.ignore import Ignore, spared
from dockerjail.jail.jail import IDLE, Bench, Jails, Outcome
from dockerjail.jail.jail import Ignored as IgnoredFailure
from dockerjail.jail.patience import Watch
from dockerjail.jail.policy import JailPolicy, Origin, ScopeKind
from dockerjail.jail.rule import UseDns
from dockerjail.model import (
    Address,
    Allowance,
    Chunk,
    Container,
    Failure,
    Mode,
    Named,
    Offence,
    Problem,
    Scope,
    Subject,
    written,
)
from dockerjail.ports import Answered, Engine, Firewall, Flows, Host, State, Store
from dockerjail.retry import Backoff
from dockerjail.service import attention
from dockerjail.service.effect import Effect, way
from dockerjail.service.exempt import Exempt
from dockerjail.service.ground import Ground, is_name
from dockerjail.service.heap import give_back
from dockerjail.service.ignored import Ignored
from dockerjail.service.matching import Matching
from dockerjail.service.names import Names, Resolve, look_up
from dockerjail.service.seats import Seats

logger = logging.getLogger(__name__)

FLUSH_EVERY = 5.0
"""Seconds between writes of cursors that nothing came of, and until free memory is given back."""

VERIFY_ROUNDS = 12
RETIRE_ROUNDS = 720
"""How many such rounds lie between two looks at the kernel (a minute), at idle jails (an hour)."""

PURGE_EVERY = 30.0
"""Seconds between two purges: what a flood may add beyond the bound until then."""

LOOK_ROUNDS = 3
"""How many such rounds lie between two looks at this host's addresses: news of them may get lost."""

ENGINE_AWAY = 5.0
"""Seconds between two attempts, at most, to reach an Engine that is away."""

RESOLVED_WITHIN = 5.0
"""Seconds that names and files in `ignoreip` may take before the first line is judged."""

SETTLE = 0.05
"""Seconds in which news of many containers become one."""

DEBOUNCE = 0.02
"""Seconds that a foreign change of the table may take to be complete."""

GRACE = 8.0
"""Seconds that orders in hand may take at a stop; Docker kills after ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the daemon needs from outside: its ports, and this host's resolver."""

    engine: Engine
    store: Store
    firewall: Firewall
    host: Host
    flows: Flows
    resolve: Resolve = look_up


def _by_now(state: State, now: float) -> State:
    """Have lines be of now that are stamped later: the clock of this host was set back while nobody ran."""
    return replace(state, failures=[each._replace(at=min(each.at, now)) for each in state.failures])


class Daemon:
    """The whole line, from container to kernel."""

    def __init__(
        self,
        settings: Settings,
        world: World,
        state: State,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.world = world
        self.clock = clock
        self.started_at = time.monotonic()
        self._steps = Steps(SLACK)
        self.observing = settings.firewall.mode is Mode.OBSERVE
        self.exempt = Exempt(ask=world.resolve, clock=clock, changed=self._changed)
        self.ground = Ground(settings, world.host, self.exempt)
        self._relapsed = Ignore()  # whom the host's recidive itself ignores
        self.watch = Watch(time.monotonic)
        self.matching = Matching(settings.matching)
        self.jails = Jails(self.ground.ignore, self.watch, self.matching.sieves)
        state = _by_now(state, clock())
        self.jails.restore(state.failures)
        self.ignored = Ignored()
        self.effect = Effect()
        self.names = Names(self._named, clock=clock, ask=world.resolve, restored=state.names)
        self.benches: dict[str, Bench] = {}
        self.ready = asyncio.Event()
        self._state = state
        self._news = asyncio.Event()
        self._meddled = asyncio.Event()
        self._meddler = ""
        self.unpurged = ""
        self._stale = True
        self._acquainted = False
        self.elsewhere: Problem | None = None
        self.wrong: dict[str, Sequence[Problem]] = {}
        self._remarked: set[Problem] = set()
        self._crowded: Collection[str] = ()
        self._seats = Seats()
        self._last_scope: dict[str, Scope] = {}
        self.warden = Warden(
            world.store,
            world.firewall,
            Bar(
                policies=self.policy,
                scopes=self.scope,
                protected=self.protected,
                excused=self.excused,
                clock=clock,
                flows=world.flows,
                observing=self.observing,
            ),
            budget=Budget(
                per_minute=settings.budget.bans_per_minute, active=settings.budget.active
            ),
            local=self.ground.why_local,
            admitted=self._changed,
        )
        self.intake = Intake(
            world.engine,
            self._deliver,
            wanted=self._wanted,
            cursors=state.cursors,
            changed=self._changed,
            gone=self._gone,
            recall=self._recall,
            lookback=self._lookback,
            backoff=Backoff(ceiling=ENGINE_AWAY),
            clock=clock,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; leave no offence in hand unserved."""
        try:
            await self._serve(stop)
        finally:
            gc.unfreeze()  # of a daemon that is begun anew after damage, the first one is garbage

    async def _serve(self, stop: asyncio.Event) -> None:
        await self.ground.look()
        self._exempt(self._state.allowances)
        async with asyncio.TaskGroup() as house:
            words = house.create_task(self.exempt.run(), name="ignoreip")
            self._protect(self._state.allowances)
            await self.warden.restore(self._state, allow=self.ground.allowed)
            self._state = State()  # who needs it has it, and it is as large as the database
            # a full collection goes through a hundred thousand bans while everything waits
            gc.freeze()
            warden = house.create_task(self.warden.run(), name="warden")
            # bans hold by now; whom a name or a file lets pass is let in before a line is judged
            await self.protect(waiting=RESOLVED_WITHIN)
            outside = [
                words,
                house.create_task(self.intake.run(), name="intake"),
                house.create_task(self._follow_containers(), name="neighbours"),
                house.create_task(self._follow_host(), name="own addresses"),
                house.create_task(self._follow_kernel(), name="kernel watch"),
                house.create_task(self._mend_kernel(), name="kernel mending"),
                house.create_task(self._keep_house(), name="housekeeping"),
                house.create_task(self._purge(), name="purging"),
                house.create_task(self.names.run(), name="look-ups"),
                house.create_task(self.matching.run(), name="engines"),
            ]
            await stop.wait()
            for task in outside:
                task.cancel()
            await asyncio.wait(outside)
            try:
                async with asyncio.timeout(GRACE):
                    await self.warden.flush()
                    await self.warden.close()
                    await asyncio.wait([warden])
            except TimeoutError:
                raise StoreError(
                    f"what was in hand could not be written within {GRACE:.0f} seconds; "
                    "the lines are read again at the next start"
                ) from None
        kept = sum(ban.mode is Mode.ENFORCE for ban in self.warden.bans)
        logger.info("stopped; bans that stay in force: %d", kept)

    # What the rooms ask

    def steady(self) -> float:
        """Return the time of a clock that nobody sets: for durations."""
        return asyncio.get_running_loop().time()

    def policy(self, jail: str) -> JailPolicy | None:
        """
        Return the policy of a running jail (`name@service`), or the host's recidive.

        Where that runs, each service has it too, for bans that count there alone: as if its label
        had named it.
        """
        found, host = self.jails.get(jail), self.settings.recidive
        if found is not None or host is None:
            return found.policy if found else None
        if jail == RECIDIVE:
            return host
        if jail.startswith(f"{RECIDIVE}@"):
            return replace(host, origin=Origin.SHIPPED, scope=ScopeKind.AUTO, ports=None)
        return None

    def scope(self, jail: str) -> Scope | None:
        """
        Return from what a ban by `jail` would keep out now; None when nobody knows.

        The last lines of a removed container count: then it is what it was last.
        """
        policy = self.policy(jail)
        if policy is None or jail == RECIDIVE:
            return None
        containers = self.intake.containers
        seated = self._seats.of(jail) if self.jails.get(jail) else self._serving(jail)
        members = [containers[id_] for id_ in seated if id_ in containers]
        scope = resolve(policy, members, containers.values())
        if scope is not None:
            self._last_scope[jail] = scope
        return scope or self._last_scope.get(jail)

    def _serving(self, jail: str) -> Collection[str]:
        """Return the ids of the containers that run any jail of this one's service."""
        service = jail.partition("@")[2]
        return [id_ for id_, bench in self.benches.items() if bench.container.service == service]

    def protected(self, subject: Subject, jail: str) -> str | None:
        """Return why somebody of `subject` is never banned by `jail`; None if all may be."""
        return self.ground.why(subject) or self._spared(subject, jail)

    def excused(self, subject: Subject, jail: str) -> str | None:
        """
        Return why a standing ban of `subject` by `jail` has to end; None if it may stand.

        Whom all jails ignore the kernel lets pass through the ban of a wider network; whom
        only this one ignores it would not.
        """
        return self.ground.why_all(subject) or self._spared(subject, jail)

    def _spared(self, subject: Subject, jail: str) -> str | None:
        """Return why a jail itself ignores somebody of `subject`."""
        found = self.jails.get(jail)
        if found is not None:
            return found.why(subject)
        counts = jail.partition("@")[0] == RECIDIVE and self.settings.recidive is not None
        return spared(subject, self._relapsed) if counts else None

    def unprotected(self) -> list[Container]:
        """List the containers whose labels ask for jails that cannot run."""
        wrong = [id_ for id_, problems in self.wrong.items() if problems]
        return [
            self.intake.containers[id_]
            for id_ in wrong
            if id_ in self.intake.containers and id_ not in self.benches
        ]

    # The line

    def _keep_time(self) -> None:
        """Have the windows follow when this host's clock is set back: else they would be blind."""
        step = self._steps.look(self.clock(), asyncio.get_running_loop().time())
        if step < 0:
            for jail in self.jails:
                jail.window.set_back(-step, self.clock())

    async def _deliver(self, chunk: Chunk) -> None:
        self._keep_time()
        container = chunk.container
        trial = self.benches[container.id].trial(chunk, self.clock())
        for _ in trial:
            await asyncio.sleep(0)  # what others wait for is one line at most
        verdict = trial.verdict
        for jail in verdict.suspended:
            logger.error("%s", attention.overdue(jail, self.watch.clock()))
        for ignored in verdict.ignored:
            self._ignore(ignored, container.name)
        waiting = [numbered for named in verdict.named if (numbered := self.names.admit(named))]
        stream = (container.id, chunk.stream)
        if verdict.entries or waiting or not chunk.data:  # before what the other stream leads to
            self._watch(verdict.entries)
            entries = [*verdict.entries, *waiting]
            await self.warden.report(Report(entries=entries, cursor=(stream, chunk.cursor)))
            for numbered in waiting:  # no sooner: the answer must not come before the question
                self.names.put(numbered)
        else:
            self.warden.note(stream, chunk.cursor)

    def _recall(self, container: Container) -> Recall | None:
        """Return who is to be shown the lines that an earlier process judged, if anybody is."""
        bench = self.benches[container.id]
        if not bench.remembers:
            return None

        async def take(chunk: Chunk) -> None:
            for _ in bench.recall(chunk, self.clock()):
                await asyncio.sleep(0)

        def begin() -> Take:
            self.jails.leave(container.id)  # what is still remembered would be remembered twice
            return take

        return begin

    def _watch(self, entries: Iterable[Failure | Offence]) -> None:
        """Take note of whom a ban keeps out and who fails all the same."""
        for failure in entries:
            if not isinstance(failure, Failure):
                continue
            self.ignored.counted(failure.container)
            held = self.warden.holding(failure.jail, failure.subject)
            if held is not None and self.effect.note(*held, failure, self.steady()):
                logger.error(
                    "[%s] the ban of %s is not effective: container %s goes on logging failures",
                    held[0].jail,
                    written(held[0].subject),
                    failure.container,
                )

    def _ignore(self, ignored: IgnoredFailure, container: str) -> None:
        """Take note of a failure that did not count."""
        jail, address, why, _ = ignored
        if self.ignored.note(container, address, why, self.steady()):
            logger.warning(
                "[%s] Ignore %s, accused by container %s: %s", jail, address, container, why
            )

    async def _named(self, named: Named, addresses: Sequence[Address]) -> None:
        """Count a failure by the addresses that its name has."""
        answer = Answered(id=named.id)
        jail = self.jails.get(named.jail)
        if jail is None:
            await self.warden.report(Report(entries=[answer], cursor=None))
            return
        if jail.policy.rule.usedns is UseDns.WARN:
            logger.warning(
                "[%s] %r of container %s is a name; looked up: %s",
                named.jail,
                named.name,
                named.container,
                ", ".join(map(str, addresses)) or "no address",
            )
        outcome = Outcome()
        for address in addresses:
            jail.count(address, named, outcome)
        for ignored in outcome.ignored:
            self._ignore(ignored, named.container)
        self._watch(outcome.entries)
        await self.warden.report(Report(entries=[answer, *outcome.entries], cursor=None))

    def _wanted(self, container: Container) -> bool:
        """Say whether a container opted in; give it its jails."""
        if self._stale:
            self._protect(
                self.warden.allowances
            )  # before the first line is judged, not a moment after
        asked, problems = policies(container, self.settings)
        wanted, conflicts = self._seats.choose(container, asked, self._rule_of)
        bench = self.jails.bench(container, wanted)
        problems = (*problems, *conflicts, *bench.problems)
        for problem in problems:
            if problem not in self.wrong.get(container.id, ()):
                logger.warning("%s", problem)
        self.wrong[container.id] = problems
        self._remark(jail.policy for jail in bench.jails)
        self._seats.take(container.id, [jail.name for jail in bench.jails])
        if any(jail.policy.ignorefrom for jail in bench.jails):
            self._exempt(self.warden.allowances)
        if not bench.jails:
            self.benches.pop(container.id, None)
            return False
        self.benches[container.id] = bench
        for jail in bench.jails:
            self.scope(jail.name)
        return True

    def _remark(self, running: Iterable[JailPolicy]) -> None:
        """Log once what of the jails' fail2ban files is not taken over; much holds for many."""
        for policy in running:
            for problem in self.settings.jails.remarks(policy)[0]:
                if problem not in self._remarked:
                    self._remarked.add(problem)
                    logger.warning("%s", problem)

    def _lookback(self, container: Container) -> float:
        """Return how many seconds of its log count when a container is seen for the first time."""
        if self.settings.docker.lookback is not None:
            return self.settings.docker.lookback
        jails = self.benches[container.id].jails
        return max(
            (jail.policy.findtime for jail in jails if not jail.policy.recidive), default=0.0
        )

    def _changed(self) -> None:
        """Take note that containers came, went or changed."""
        self._stale = True
        self._news.set()

    def _rule_of(self, jail: str, container: str) -> JailPolicy | None:
        """Return the rule of a jail that a container other than this one runs, if one does."""
        running = (
            id_
            for id_ in self._seats.of(jail)
            if id_ != container
            and (other := self.intake.containers.get(id_)) is not None
            and other.running
        )
        return self.policy(jail) if any(running) else None

    def _gone(self, container: str) -> None:
        self.benches.pop(container, None)
        self.wrong.pop(container, None)
        self._seats.leave(container)
        self.jails.leave(container)
        self.warden.forget(container)

    # Who keeps what up to date

    async def _follow_containers(self) -> None:
        """Take over what changes when containers come and go."""
        while True:
            await self._news.wait()
            await asyncio.sleep(SETTLE)
            self._news.clear()
            for id_ in self._seats.unseated():
                self.intake.reconsider(id_)
            await self._look_around()
            if self.intake.connected and not self.ready.is_set():
                self.ready.set()
                self.names.resume()  # not before their jails run
                give_back()
                logger.info("ready; containers followed: %d", len(self.intake.tails))
                for problem in attention.of_the_kernel(self):
                    logger.error("%s", problem)
            await self.warden.rescope()

    async def _follow_host(self) -> None:
        """Take over this host's own addresses and gateways as they change."""
        async with aclosing(self.world.host.changes()) as changes:
            async for _ in changes:
                await self._look_around()

    async def _look_around(self) -> None:
        """Take over this host's addresses as they are now: a new network brings one."""
        containers = list(self.intake.containers.values())  # first: an address is older than they
        await self.ground.look()
        self.elsewhere = elsewhere(containers, self.ground.own)
        await self.protect()

    async def _follow_kernel(self) -> None:
        """Take note when somebody else changes the table."""
        async with aclosing(self.world.firewall.changes()) as changes:
            async for word in changes:
                self._meddler = word
                self._meddled.set()

    async def _mend_kernel(self) -> None:
        """Have the table mended then: once for however many changes there were meanwhile."""
        while True:
            await self._meddled.wait()
            pause = self.warden.table.pause()
            if pause:
                self.warden.table.doubt(self._meddler)
            await asyncio.sleep(pause or DEBOUNCE)
            self._meddled.clear()
            await self.warden.verify(self._meddler)

    async def _keep_house(self) -> None:
        """Do what nobody asks for: write noted cursors, look at the kernel, forget idle jails."""
        rounds, steady = 0, asyncio.get_running_loop().time
        # the kernel ends bans by a clock of its own: those of before would end without us
        steps = Steps(SLACK, gathers=True)
        steps.look(self.clock(), steady())
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            rounds += 1
            if step := steps.look(self.clock(), steady()):
                if step < 0:
                    await self.warden.set_back(-step)
                await self.warden.retime(step)
            await self.warden.flush()
            give_back()
            await self.warden.count_some()
            await self._explain()
            if rounds % LOOK_ROUNDS == 0:
                await self._look_around()
            mending = self._meddled.is_set()
            if (not self.warden.sync.ok and not mending) or rounds % VERIFY_ROUNDS == 0:
                await self.warden.verify()
            self._tell_of_bounds()
            self.matching.tell()
            if rounds % RETIRE_ROUNDS == 1 or self._idle() > IDLE:
                self._retire()

    async def _purge(self) -> None:
        """Have the store forget what is old; beside all else, since a disk may take its time."""
        while True:
            await asyncio.sleep(PURGE_EVERY)
            try:
                await self.world.store.purge(self.clock())
            except StoreDamaged:
                raise
            except StoreError as error:
                if not self.unpurged:
                    logger.warning("old history is not purged: %s", error)
                self.unpurged = str(error)
            else:
                self.unpurged = ""

    def _retire(self) -> None:
        """Let go of jails that no container has any more and that count nothing."""
        idle = [jail.name for jail in self.jails if not self._seats.of(jail.name)]
        if early := self.jails.retire(idle, self.clock()):
            logger.warning(
                "%d jails are forgotten with what they counted: more than %d are kept "
                "that no container runs any more",
                early,
                IDLE,
            )
        self.warden.forget_jails(name for name in idle if self.jails.get(name) is None)
        self.jails.forget(self.clock() - longest_findtime(self.settings))
        for name in [name for name in self._last_scope if self.jails.get(name) is None]:
            del self._last_scope[name]

    def _idle(self) -> int:
        """Return how many jails no container runs."""
        return sum(1 for _ in self.jails) - len(self._seats)

    def _tell_of_bounds(self) -> None:
        """Log once which jails forget whom they count since there are too many."""
        crowded = {problem.place: problem for problem in attention.of_bounds(self)}
        for place in crowded.keys() - {*self._crowded}:
            logger.error("%s", crowded[place])
        self._crowded = crowded.keys()

    async def _explain(self) -> None:
        """Find out by which way those come whose bans do not work."""
        self.effect.prune(self.warden.enforced, self.steady())
        leaking = self.effect.leaking(self.steady())
        for container in [c for c in self.intake.containers.values() if c.name in leaking]:
            with suppress(FirewallError):  # then it is said without the way
                seen = await way(container, self.world.flows, self.intake.containers.values())
                if seen:
                    self.effect.explain(container.name, seen)

    async def protect(self, *, waiting: float = 0.0) -> None:
        """
        Take over who is never banned; returns when the kernel knows it.

        `waiting` is for how many seconds to wait for the addresses of names.
        """
        self._exempt(self.warden.allowances)
        if waiting:
            await self.exempt.ready(waiting)
        self._protect(self.warden.allowances)
        # until the Engine has answered, containers are where they were last
        self._acquainted = self._acquainted or self.intake.connected
        direct = self.ground.direct if self._acquainted else self.warden.table.direct
        await self.warden.ground(self.ground.allowed, direct)

    def _protect(self, allowances: Iterable[Allowance]) -> None:
        """Tell the jails who is never banned, and why."""
        self._stale = False
        self.ground.take(self.intake.containers.values(), allowances)
        if (host := self.settings.recidive) is not None:
            words = (*host.ignoreip, *self._named_by(host))
            self._relapsed.update(dict.fromkeys(words, f"in ignoreip of jail {RECIDIVE}"))
        for jail in self.jails:
            if jail.policy.ignorefrom:
                why = f"in ignoreip of jail {jail.policy.name}"
                jail.exempt(dict.fromkeys(self._named_by(jail.policy), why))

    def _named_by(self, policy: JailPolicy) -> Iterator[Subject]:
        """Yield what the words in a jail's `ignoreip` stand for now."""
        for word in policy.ignorefrom:
            yield from self.exempt.networks(word)

    def _exempt(self, allowances: Iterable[Allowance]) -> None:
        """Say which words stand for addresses that are never banned."""
        words = set(self.settings.defaults.ignorefrom)
        jails = self.settings.jails
        words.update(word for name in jails.own for word in jails[name].ignorefrom)
        words.update(word for jail in self.jails for word in jail.policy.ignorefrom)
        words.update(self.settings.recidive.ignorefrom if self.settings.recidive else ())
        words.update(each.who for each in allowances if is_name(each.who))
        self.exempt.want(words)
