"""
What the daemon can tell about itself: its rooms in, plain JSON values out.

The words here are those that `--json` prints; `docs/status.md` describes them.
Nothing here changes anything.
"""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dockerjail import __version__
from dockerjail.ban.orders import MANUAL
from dockerjail.errors import FirewallError, Refused, StoreError
from dockerjail.jail.jail import Jail
from dockerjail.jail.policy import Aggregate, JailPolicy
from dockerjail.jail.rule import Format, Rule
from dockerjail.model import (
    Allowance,
    Ban,
    Container,
    Counter,
    Failure,
    Mode,
    Problem,
    Scope,
    written,
)
from dockerjail.service import attention
from dockerjail.service.daemon import Daemon

Json = dict[str, Any]

PATIENCE: Final = 2.0
"""Seconds that `status` waits for the store's totals."""

COUNTED: Final = 1000
"""Bans whose own counters one answer reads anew at most: the newest."""

STRETCH: Final = 1000
"""Bans that are written before others get a turn: a hundred thousand take a second."""

EVIDENCE: Final = 10
"""Failures that the report of one jail shows."""


class Report:
    """Answers for one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._totals: Mapping[str, tuple[int, int]] = {}

    async def status(self) -> Json:
        """Tell whether all is well, what is followed, who is banned, what needs attention."""
        daemon, backlog = self._daemon, self._daemon.warden.backlog
        totals, unread = await self._count()
        newest = self._newest()
        await daemon.warden.count(newest)
        blocked = await self._blocked()
        problems = [*attention.problems(daemon), *unread]
        return {
            "version": __version__,
            "ok": not problems,
            "mode": daemon.settings.firewall.mode.value,
            "uptime": time.monotonic() - daemon.started_at,
            "problems": [problem(p) for p in problems],
            "engine": {
                "connected": daemon.intake.connected,
                "version": daemon.intake.engine_version,
                "address": daemon.settings.docker.host,
                "error": daemon.intake.error,
            },
            "kernel": {
                "in_sync": daemon.warden.sync.ok,
                "error": daemon.warden.sync.error,
                "verified_at": daemon.warden.sync.verified_at or None,
                "healed": daemon.warden.sync.healed,
                "table": daemon.settings.firewall.table,
                "elements": daemon.warden.blocked,
                "packets": blocked.packets,
                "bytes": blocked.bytes,
            },
            "store": {
                "ok": not (backlog.behind or unread),
                "error": str(backlog.trouble or "") or "; ".join(p.what for p in unread),
                "since": backlog.since,
                "unwritten": backlog.rows,
            },
            "matching": daemon.matching.told(),
            "queue": daemon.warden.waiting,
            "containers": self._containers(),
            "jails": self._jails(totals),
            "bans": [self.ban(ban) for ban in newest],
            "banned": sum(ban.mode is Mode.ENFORCE for ban in daemon.warden.bans),
            "observed": sum(ban.mode is Mode.OBSERVE for ban in daemon.warden.bans),
            "allowed": len(daemon.warden.allowances),
            "bans_total": sum(bans for _, bans in totals.values()),
        }

    async def jail(self, name: str) -> tuple[Json, Sequence[Ban]]:
        """
        Tell about one jail (`name@service`, or its bare name); return it with the bans in force.

        Raises `Refused` when there is no such jail.
        """
        daemon = self._daemon
        totals, _ = await self._count()
        bans = await self.standing(name)
        if not bans:
            self._must_be_known(name)
        jails = [j for j in daemon.jails if name in (j.name, j.policy.name)]
        host = daemon.settings.recidive
        names = dict.fromkeys([*(j.name for j in jails), *(b.jail for b in bans)])
        failures: list[Failure] = []
        for each in names:
            failures += await daemon.world.store.last_failures(each, limit=EVIDENCE)
        banned = self._banned()
        told = [self._jail(j, totals, banned) for j in jails]
        if host is not None and name == host.name:
            told.append(self._of_the_host(host, totals, banned))
        return {"jails": told, "last_failures": [failure_json(f) for f in failures]}, bans

    async def bans(self) -> Json:
        """Tell all bans in force, the newest first."""
        return {"bans": [self.ban(ban) for ban in await self.standing()]}

    async def standing(self, jail: str | None = None) -> Sequence[Ban]:
        """
        Return all bans in force, or those of one jail, the newest first, and have what those blocked read.

        Raises `Refused` when there is no such jail.
        """
        bans = [ban for ban in self._daemon.warden.bans if jail is None or _is_of(ban, jail)]
        if not bans and jail not in (None, MANUAL):
            self._must_be_known(jail)
        bans.sort(key=lambda ban: ban.at, reverse=True)
        await self._daemon.warden.count(bans[:COUNTED])
        return bans

    def _must_be_known(self, name: str | None) -> None:
        """Raise `Refused` unless a jail of this name runs."""
        jails, host = list(self._daemon.jails), self._daemon.settings.recidive
        hosts = [] if host is None else [host.name]
        running = {*hosts, *(j.name for j in jails), *(j.policy.name for j in jails)}
        if name not in running:
            known = ", ".join(sorted([*(j.name for j in jails), *hosts])) or "none runs"
            raise Refused(f"no jail {name}; the jails are: {known}")

    def allowed(self) -> Json:
        """Tell whom operators let pass."""
        return {
            "allowed": [
                self.allowance(each)
                for each in sorted(self._daemon.warden.allowances, key=lambda each: each.at)
            ]
        }

    def allowance(self, each: Allowance) -> Json:
        """Write an allowance; `networks` is what a name stands for now."""
        now = self._daemon.clock()
        return {
            "who": each.who,
            "networks": sorted(map(written, self._daemon.ground.stands_for(each.who))),
            "at": each.at,
            "until": each.until,
            "left": None if each.until is None else max(0.0, each.until - now),
            "comment": each.comment,
        }

    def made(self) -> Json:
        """Tell whether the kernel, and the store, know what an order has changed."""
        return {
            "in_sync": self._daemon.warden.sync.ok,
            "error": self._daemon.warden.sync.error,
            **self.kept(),
        }

    def kept(self) -> Json:
        """Tell whether what an order has changed outlives a restart."""
        backlog = self._daemon.warden.backlog
        return {
            "stored": not backlog.behind,
            "store_error": str(backlog.trouble or backlog.broken or "it is slow")
            if backlog.behind
            else "",
        }

    async def _count(self) -> tuple[Mapping[str, tuple[int, int]], Sequence[Problem]]:
        """Read the totals; those of the last time, and a problem, if the store does not tell."""
        try:
            async with asyncio.timeout(PATIENCE):
                self._totals = await self._daemon.world.store.totals()
        except TimeoutError:
            what = f"no answer within {PATIENCE:g} seconds"
        except StoreError as error:
            what = str(error)
        else:
            return self._totals, ()
        return self._totals, (Problem(place="store", what=f"totals cannot be read: {what}"),)

    def _newest(self) -> Sequence[Ban]:
        return sorted(self._daemon.warden.bans, key=lambda b: b.at, reverse=True)[:COUNTED]

    async def _blocked(self) -> Counter:
        """Return what the table has blocked in all."""
        try:
            return await self._daemon.world.firewall.blocked()
        except FirewallError:
            return Counter(0, 0)  # the kernel's state is told elsewhere in the same answer

    def ban(self, ban: Ban, *, counted: bool = True) -> Json:
        """Write a ban; `until` and `left` null is for good, `packets` null is not counted."""
        daemon = self._daemon
        blocked = daemon.warden.tally.of(daemon.warden.elements_of(ban)) if counted else None
        return {
            "id": ban.id,
            "address": written(ban.subject),
            "jail": ban.jail,
            "at": ban.at,
            "until": ban.until,
            "left": None if ban.until is None else max(0.0, ban.until - daemon.clock()),
            "failures": ban.failures,
            "count": ban.count,
            "cause": ban.cause.value,
            "container": ban.container or None,
            "reason": ban.reason,
            "scope": scope_json(ban.scope),
            "blocktype": ban.blocktype.value,
            "mode": ban.mode.value,
            "forced": ban.forced,
            "effective": daemon.effect.works(ban, daemon.steady()),
            "packets": blocked.packets if blocked else None,
            "bytes": blocked.bytes if blocked else None,
        }

    def _containers(self) -> list[Json]:
        intake = self._daemon.intake
        told = []
        for id_, tail in intake.tails.items():
            container = intake.containers.get(id_)
            bench = self._daemon.benches.get(id_)
            if container is None or bench is None:
                continue
            told.append(
                {
                    "id": id_[:12],
                    "name": container.name,
                    "service": container.service,
                    "running": container.running,
                    "state": tail.state,
                    "lag": None if tail.state in ("unreadable", "waiting") else tail.lag,
                    "lines": tail.lines,
                    "last_line_at": tail.last_at or None,
                    "reconnects": tail.reconnects,
                    "gaps": tail.gaps,
                    "jails": [j.name for j in bench.jails],
                    "over_budget": self._over_budget(container),
                }
            )
        told += [_unprotected(container) for container in self._daemon.unprotected()]
        return sorted(told, key=lambda c: str(c["name"]))

    def _over_budget(self, container: Container) -> bool:
        """Say whether the bans that a container leads to are only observed for now."""
        return self._daemon.warden.over_budget(container.name) is not None

    def _jails(self, totals: Mapping[str, tuple[int, int]]) -> list[Json]:
        banned = self._banned()
        told = [self._jail(j, totals, banned) for j in self._daemon.jails]
        recidive = self._daemon.settings.recidive
        if recidive is not None:
            told.append(self._of_the_host(recidive, totals, banned))
        return sorted(told, key=lambda j: str(j["name"]))

    def _banned(self) -> Tally[tuple[str, Mode]]:
        """Count the bans in force, and those only recorded, by jail."""
        return Tally((ban.jail, ban.mode) for ban in self._daemon.warden.bans)

    def _jail(
        self, jail: Jail, totals: Mapping[str, tuple[int, int]], banned: Tally[tuple[str, Mode]]
    ) -> Json:
        """Write a jail: its numbers, who is failing now, and what it has done in all."""
        return {
            **self._policy(jail.name, jail.policy, totals, banned),
            "failing": jail.failing(self._daemon.clock()),
            "scope": scope_json(self._daemon.scope(jail.name)),
            "last_failure_at": jail.last_failure_at or None,
            "overdue": jail.patience.overdue,
            "unjudged": jail.patience.unjudged,
            "suspended": jail.patience.suspended(self._daemon.watch.clock()),
        }

    def _of_the_host(
        self,
        policy: JailPolicy,
        totals: Mapping[str, tuple[int, int]],
        banned: Tally[tuple[str, Mode]],
    ) -> Json:
        """Write the jail that counts the bans of all others."""
        why = "banned again and again by jails of the daemon's own"
        ports = None if policy.ports is None else [str(port) for port in policy.ports]
        return {
            **self._policy(policy.name, policy, totals, banned),
            "failing": 0,
            "scope": {"ports": ports, "addresses": [], "why": why},
            "last_failure_at": None,
            "overdue": 0,
            "unjudged": 0,
            "suspended": 0.0,
        }

    def _policy(
        self,
        name: str,
        policy: JailPolicy,
        totals: Mapping[str, tuple[int, int]],
        banned: Tally[tuple[str, Mode]],
    ) -> Json:
        failures, made = totals.get(name, (0, 0))
        blocked = self._daemon.warden.tally.of_jail(name)
        return {
            "name": name,
            "defined_by": policy.origin.value,
            "mode": Mode.OBSERVE.value if self._daemon.observing else policy.mode.value,
            "maxretry": policy.maxretry,
            "findtime": policy.findtime,
            "bantime": policy.bantime,
            "bantime_grows": policy.growth is not None and policy.bantime is not None,
            "ipv4_prefix": policy.ipv4_prefix,
            "ipv6_prefix": policy.ipv6_prefix,
            "aggregate": aggregate_json(policy.aggregate),
            "failregex": list(policy.rule.failregex),
            "looks_for": ["bans in other jails"] if policy.recidive else looks_for(policy.rule),
            "failures": failures,
            "banned": banned[name, Mode.ENFORCE],
            "observed": banned[name, Mode.OBSERVE],
            "bans": made,
            "blocktype": policy.blocktype.value,
            "verify": policy.verify.value,
            "unverified": self._daemon.warden.sentencing.unverified.get(name, 0),
            "packets": blocked.packets,
            "bytes": blocked.bytes,
        }


def looks_for(rule: Rule) -> list[str]:
    """Say in words what besides failregexes a rule asks of a line."""
    said = [
        " and ".join(f"{field} = {' or '.join(values)}" for field, values in condition)
        for condition in rule.where
    ]
    if rule.address:
        said.append(f"the client in {', '.join(rule.address)}")
    if rule.structured and rule.format is not Format.AUTO:
        said.append(f"lines in {rule.format}")
    return said


def _unprotected(container: Container) -> Json:
    """Write a container that opted in and has no jail that can run."""
    return {
        "id": container.id[:12],
        "name": container.name,
        "service": container.service,
        "running": container.running,
        "state": "unprotected",
        "lag": None,
        "lines": 0,
        "last_line_at": None,
        "reconnects": 0,
        "gaps": 0,
        "jails": [],
        "over_budget": False,
    }


def _is_of(ban: Ban, jail: str) -> bool:
    """Say whether a ban is of a jail, by `name@service` or by its bare name."""
    return jail in (ban.jail, ban.jail.partition("@")[0])


def problem(problem: Problem) -> Json:
    """Write a problem."""
    return {"place": problem.place, "what": problem.what, "remedy": problem.remedy}


def scope_json(scope: Scope | None) -> Json | None:
    """Write a scope; `ports` null is everything."""
    if scope is None:
        return None
    ports = None if scope.ports is None else [str(port) for port in scope.ports]
    return {"ports": ports, "addresses": list(map(str, scope.addresses)), "why": scope.why}


def aggregate_json(aggregate: Aggregate | None) -> Json | None:
    """Write when a whole network is banned; null is never."""
    if aggregate is None:
        return None
    return {"addresses": aggregate.addresses, "time": aggregate.time}


def failure_json(failure: Failure) -> Json:
    """Write a failure."""
    return {
        "jail": failure.jail,
        "address": written(failure.subject),
        "at": failure.at,
        "container": failure.container,
        "line": failure.text,
    }
