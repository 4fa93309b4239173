"""
The daemon: who runs, who starts first, who stops last.

Start: table with the restored bans, events, containers. Whoever runs it has opened the
store and the control socket (`run`).
Stop is the same in reverse; bans stay in the kernel.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import ip_network

from dockerjail.ban.orders import Report
from dockerjail.ban.scope import elsewhere, resolve
from dockerjail.ban.warden import Warden
from dockerjail.config.policies import longest_findtime, policies
from dockerjail.config.settings import Settings
from dockerjail.docker.intake import Intake
from dockerjail.errors import FirewallError, StoreError
from dockerjail.jail.ignore import Ignore
from dockerjail.jail.jail import Bench, Jails, Named
from dockerjail.jail.jail import Ignored as IgnoredFailure
from dockerjail.jail.policy import JailPolicy
from dockerjail.jail.rule import UseDns
from dockerjail.model import (
    Address,
    Blocktype,
    Chunk,
    Container,
    Failure,
    Offence,
    Problem,
    Scope,
    Subject,
)
from dockerjail.ports import Engine, Firewall, State, Store
from dockerjail.retry import Backoff
from dockerjail.service.ignored import Ignored
from dockerjail.service.names import Names, Resolve, look_up
from dockerjail.service.seats import Seats

logger = logging.getLogger(__name__)

FLUSH_EVERY = 5.0
"""Seconds between writes of cursors that nothing came of."""

VERIFY_ROUNDS = 12
PURGE_ROUNDS = 720
"""How many such rounds lie between two looks at the kernel (a minute), two purges (an hour)."""

ADDRESSES_EVERY = 15.0
"""Seconds between two looks at this host's own addresses."""

SETTLE = 0.05
"""Seconds in which news of many containers become one."""

DEBOUNCE = 0.02
"""Seconds that a foreign change of the table may take to be complete."""

GRACE = 8.0
"""Seconds that orders in hand may take at a stop; Docker kills after ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the daemon needs from outside: three ports, this host's addresses, its resolver."""

    engine: Engine
    store: Store
    firewall: Firewall
    addresses: Callable[[], Awaitable[frozenset[Address]]]
    resolve: Resolve = look_up


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
        self.ignore = Ignore()
        self.jails = Jails(self.ignore)
        self.jails.restore(state.failures)
        self.ignored = Ignored()
        self.names = Names(self._named, clock=clock, ask=world.resolve)
        self.benches: dict[str, Bench] = {}
        self.own: frozenset[Address] = frozenset()
        self.ready = asyncio.Event()
        self._state = state
        self._news = asyncio.Event()
        self._stale = True
        self._elsewhere: Problem | None = None
        self._wrong: dict[str, Sequence[Problem]] = {}
        self._remarked: set[Problem] = set()
        self._seats = Seats()
        self._last_scope: dict[str, Scope] = {}
        self._addresses_error = ""
        self.warden = Warden(
            world.store,
            world.firewall,
            policies=self.policy,
            scopes=self.scope,
            protected=self.ignore.why,
            clock=clock,
        )
        self.intake = Intake(
            world.engine,
            self._deliver,
            wanted=self._wanted,
            cursors=state.cursors,
            changed=self._changed,
            gone=self._gone,
            lookback=settings.docker.lookback,
            backoff=Backoff(),
            clock=clock,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; leave no offence in hand unserved."""
        self.own = await self._addresses()
        self._protect()
        await self.warden.restore(self._state, allow=self._allowed())
        async with asyncio.TaskGroup() as house:
            warden = house.create_task(self.warden.run(), name="warden")
            outside = [
                house.create_task(self.intake.run(), name="intake"),
                house.create_task(self._follow_containers(), name="neighbours"),
                house.create_task(self._follow_addresses(), name="own addresses"),
                house.create_task(self._follow_kernel(), name="kernel watch"),
                house.create_task(self._keep_house(), name="housekeeping"),
                house.create_task(self.names.run(), name="look-ups"),
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
        logger.info("stopped; bans that stay in force: %d", len(self.warden.bans))

    # What the rooms ask

    def policy(self, jail: str) -> JailPolicy | None:
        """Return the policy of a running jail (`name@service`)."""
        found = self.jails.get(jail)
        return found.policy if found else None

    def scope(self, jail: str) -> Scope | None:
        """
        Return from what a ban by `jail` would keep out now; None when nobody knows.

        The last lines of a removed container count: then it is what it was last.
        """
        found = self.jails.get(jail)
        if found is None:
            return None
        containers = self.intake.containers
        members = [containers[id_] for id_ in self._seats.of(jail) if id_ in containers]
        scope = resolve(found.policy, members, containers.values())
        if scope is not None:
            self._last_scope[jail] = scope
        return scope or self._last_scope.get(jail)

    def problems(self) -> list[Problem]:
        """List what an operator should attend to, the gravest first."""
        found = [*self._engine_problems(), *self._kernel_problems()]
        found += self.settings.problems
        for problems in self._wrong.values():
            found += problems
        found += self.intake.unclear.values()
        found += [tail.problem for tail in self.intake.tails.values() if tail.problem]
        found += self._cut_problems()
        found += self._scope_problems()
        found += self.ignored.problems(self.intake.containers.values(), self.clock())
        found += self.names.problems()
        return list(dict.fromkeys(found))

    def unprotected(self) -> list[Container]:
        """List the containers whose labels ask for jails that cannot run."""
        wrong = [id_ for id_, problems in self._wrong.items() if problems]
        return [
            self.intake.containers[id_]
            for id_ in wrong
            if id_ in self.intake.containers and id_ not in self.benches
        ]

    # The line

    async def _deliver(self, chunk: Chunk) -> None:
        container = chunk.container
        verdict = self.benches[container.id].judge(chunk)
        for ignored in verdict.ignored:
            self._ignore(ignored, container.name)
        for named in verdict.named:
            self.names.put(named)
        stream = (container.id, chunk.stream)
        if verdict.entries:
            await self.warden.report(Report(entries=verdict.entries, cursor=(stream, chunk.cursor)))
        else:
            self.warden.note(stream, chunk.cursor)

    def _ignore(self, ignored: IgnoredFailure, container: str) -> None:
        """Take note of a failure that did not count."""
        jail, address, why, at = ignored
        if self.ignored.note(container, address, why, at):
            logger.warning(
                "[%s] Ignore %s, accused by container %s: %s", jail, address, container, why
            )

    async def _named(self, named: Named, addresses: Sequence[Address]) -> None:
        """Count a failure by the addresses that its name has."""
        jail = self.jails.get(named.jail)
        if jail is None:
            return
        if jail.policy.rule.usedns is UseDns.WARN:
            logger.warning(
                "[%s] %r of container %s is a name; looked up: %s",
                named.jail,
                named.name,
                named.container,
                ", ".join(map(str, addresses)) or "no address",
            )
        entries: list[Failure | Offence] = []
        for address in addresses:
            for what in jail.count(named.hit, address, named.line, named.container):
                if isinstance(what, tuple):
                    self._ignore(what, named.container)
                else:
                    entries.append(what)
        if entries:
            await self.warden.report(Report(entries=entries, cursor=None))

    def _wanted(self, container: Container) -> bool:
        """Say whether a container opted in; give it its jails."""
        if self._stale:
            self._protect()  # before the first line is judged, not a moment after
        asked, problems = policies(container, self.settings)
        wanted, conflicts = self._seats.choose(container, asked, self._rule_of)
        bench = self.jails.bench(container, wanted)
        problems = (*problems, *conflicts, *bench.problems)
        for problem in problems:
            if problem not in self._wrong.get(container.id, ()):
                logger.warning("%s", problem)
        self._wrong[container.id] = problems
        self._remark(jail.policy for jail in bench.jails)
        self._seats.take(container.id, [jail.name for jail in bench.jails])
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
        self._wrong.pop(container, None)
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
                logger.info("ready; containers followed: %d", len(self.intake.tails))
                for problem in self._kernel_problems():
                    logger.error("%s", problem)
            await self.warden.rescope()

    async def _follow_addresses(self) -> None:
        """Take over this host's own addresses as they change."""
        while True:
            await asyncio.sleep(ADDRESSES_EVERY)
            await self._look_around()

    async def _look_around(self) -> None:
        """Take over this host's addresses as they are now: a new network brings one."""
        containers = list(self.intake.containers.values())  # first: an address is older than they
        self.own = await self._addresses()
        self._elsewhere = elsewhere(containers, self.own)
        await self._protect_and_tell()

    async def _addresses(self) -> frozenset[Address]:
        """
        Return this host's own addresses but for loopback and link-local ones.

        Those are never banned anyway, and each container's link brings one.
        """
        try:
            found = await self.world.addresses()
        except FirewallError as error:
            if not self.own:
                raise  # a start without knowing whom never to ban is no start
            self._addresses_error = str(error)
            return self.own
        self._addresses_error = ""
        return frozenset(a for a in found if not a.is_loopback and not a.is_link_local)

    async def _follow_kernel(self) -> None:
        """Have the table mended when somebody else changes it."""
        async with aclosing(self.world.firewall.changes()) as changes:
            async for word in changes:
                await asyncio.sleep(DEBOUNCE)
                await self.warden.verify(word)

    async def _keep_house(self) -> None:
        """Do what nobody asks for: write noted cursors, look at the kernel, purge."""
        rounds = 0
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            rounds += 1
            await self.warden.flush()
            if not self.warden.sync.ok or rounds % VERIFY_ROUNDS == 0:
                await self.warden.verify("routine check")
            if rounds % PURGE_ROUNDS == 1:
                await self.world.store.purge(self.clock())
                self._retire()

    def _retire(self) -> None:
        """Let go of jails that no container has any more and that count nothing."""
        idle = [jail.name for jail in self.jails if not self._seats.of(jail.name)]
        self.jails.retire(idle, self.clock())
        self.jails.forget(self.clock() - longest_findtime(self.settings))
        for name in [name for name in self._last_scope if self.jails.get(name) is None]:
            del self._last_scope[name]

    async def _protect_and_tell(self) -> None:
        self._protect()
        await self.warden.allow(self._allowed())

    def _protect(self) -> None:
        """Tell the jails who is never banned, and why."""
        self._stale = False
        reasons: dict[Subject, str] = dict.fromkeys(
            self.settings.defaults.ignoreip, "it is in ignoreip"
        )
        for container in self.intake.containers.values():
            for subnet in container.subnets:
                reasons[subnet] = f"it is in a network of container {container.name}"
        for container in self.intake.containers.values():
            for gateway in container.gateways:
                reasons[ip_network(gateway)] = (
                    f"the gateway of container {container.name}'s network"
                )
        for address in self.own:
            reasons.setdefault(ip_network(address), "an address of this host")
        self.ignore.update(reasons)

    def _allowed(self) -> frozenset[Subject]:
        """Return what the kernel lets pass whatever a ban says."""
        allowed = {ip_network("127.0.0.0/8"), ip_network("::1/128")}
        allowed.update(ip_network(address) for address in self.own)
        allowed.update(self.settings.defaults.ignoreip)
        for container in self.intake.containers.values():
            allowed.update(container.subnets)
            allowed.update(ip_network(gateway) for gateway in container.gateways)
        return frozenset(allowed)

    # What is wrong

    def _engine_problems(self) -> list[Problem]:
        if self.intake.connected:
            return []
        return [
            Problem(
                place="Docker Engine",
                what=self.intake.error or f"no answer yet from {self.settings.docker.host}",
                remedy="containers are followed again as soon as it answers",
            )
        ]

    def _kernel_problems(self) -> list[Problem]:
        found = []
        if not self.warden.sync.ok:
            found.append(
                Problem(
                    place="kernel",
                    what=f"bans are not enforced: {self.warden.sync.error}",
                    remedy="run `dockerjail check`",
                )
            )
        if self._falls_back():
            found.append(
                Problem(
                    place="kernel",
                    what="bans with blocktype=reject drop instead: this kernel cannot answer what "
                    "it blocks before DNAT",
                    remedy="run Linux 5.9 or later with nft_reject_inet, or write blocktype=drop",
                )
            )
        if self._addresses_error:
            found.append(
                Problem(
                    place="own addresses",
                    what=f"cannot be read: {self._addresses_error}",
                    remedy="those read before are never banned meanwhile",
                )
            )
        if self._elsewhere is not None:
            found.append(self._elsewhere)
        return found

    def _falls_back(self) -> bool:
        """Say whether a ban is to answer, and the kernel cannot."""
        if self.world.firewall.rejects:
            return False
        asked = {jail.policy.blocktype for jail in self.jails}
        asked.update(ban.blocktype for ban in self.warden.bans)
        return Blocktype.REJECT in asked

    def _cut_problems(self) -> list[Problem]:
        """Tell of lines too long to be read by their fields: a client may hide in one."""
        return [
            Problem(
                place=f"container {self.intake.containers[id_].name}",
                what=f"{tail.overlong} lines were longer than 64 KiB: what a jail reads of their "
                "fields is not counted",
                remedy="have the application log less of what a client sends",
            )
            for id_, tail in self.intake.tails.items()
            if tail.overlong
            and id_ in self.intake.containers
            and id_ in self.benches
            and any(jail.policy.rule.structured for jail in self.benches[id_].jails)
        ]

    def _scope_problems(self) -> list[Problem]:
        found = []
        for jail in self.jails:
            scope = self.scope(jail.name)
            if scope is not None and scope.ports == ():
                what, _, remedy = scope.why.partition("; ")
                found.append(Problem(place=f"jail {jail.name}", what=what, remedy=remedy))
        return found
