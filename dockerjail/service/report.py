"""
What the daemon can tell about itself: its rooms in, plain JSON values out.

The words here are those that `--json` prints; `docs/status.md` describes them.
Nothing here changes anything.
"""

import time
from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dockerjail import __version__
from dockerjail.errors import FirewallError, Refused
from dockerjail.jail.jail import Jail
from dockerjail.jail.rule import Format, Rule
from dockerjail.model import Ban, Container, Counter, Element, Failure, Problem, Scope, written
from dockerjail.service.daemon import Daemon

Json = dict[str, Any]

COUNTED: Final = 1000
"""Bans whose own counters one answer reads at most: the newest."""

EVIDENCE: Final = 10
"""Failures that the report of one jail shows."""


class Report:
    """Answers for one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def status(self) -> Json:
        """Tell whether all is well, what is followed, who is banned, what needs attention."""
        daemon = self._daemon
        totals = await daemon.world.store.totals()
        counters = await self._counters(self._newest())
        problems = daemon.problems()
        return {
            "version": __version__,
            "ok": not problems,
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
                "packets": sum(c.packets for c in counters.values()),
                "bytes": sum(c.bytes for c in counters.values()),
            },
            "queue": daemon.warden.waiting,
            "containers": self._containers(),
            "jails": self._jails(totals),
            "bans": [
                ban_json(b, self._dropped(b, counters), now=daemon.clock()) for b in self._newest()
            ],
            "banned": len(daemon.warden.bans),
            "bans_total": sum(bans for _, bans in totals.values()),
        }

    async def jail(self, name: str) -> Json:
        """Tell about one jail (`name@service`, or its bare name); raises `Refused`."""
        daemon = self._daemon
        totals = await daemon.world.store.totals()
        jails = [j for j in daemon.jails if name in (j.name, j.policy.name)]
        bans = [b for b in daemon.warden.bans if name in (b.jail, b.jail.partition("@")[0])]
        if not jails and not bans:
            known = ", ".join(sorted(j.name for j in daemon.jails)) or "none runs"
            raise Refused(f"no jail {name}; the jails are: {known}")
        names = dict.fromkeys([*(j.name for j in jails), *(b.jail for b in bans)])
        counters = await self._counters(bans[-COUNTED:])
        failures: list[Failure] = []
        for each in names:
            failures += await daemon.world.store.last_failures(each, limit=EVIDENCE)
        return {
            "jails": [self._jail(j, totals, self._banned()) for j in jails],
            "bans": [ban_json(b, self._dropped(b, counters), now=daemon.clock()) for b in bans],
            "last_failures": [failure_json(f) for f in failures],
        }

    async def bans(self) -> Json:
        """Tell all bans in force, the newest first."""
        bans = sorted(self._daemon.warden.bans, key=lambda b: b.at, reverse=True)
        counters = await self._counters(bans[:COUNTED])
        now = self._daemon.clock()
        return {"bans": [ban_json(b, self._dropped(b, counters), now=now) for b in bans]}

    async def made(self, bans: Sequence[Ban]) -> Json:
        """Tell which bans an order made or ended, and whether the kernel knows it."""
        return {
            "bans": [ban_json(b, None, now=self._daemon.clock()) for b in bans],
            "in_sync": self._daemon.warden.sync.ok,
            "error": self._daemon.warden.sync.error,
        }

    def _newest(self) -> Sequence[Ban]:
        return sorted(self._daemon.warden.bans, key=lambda b: b.at, reverse=True)[:COUNTED]

    async def _counters(self, bans: Iterable[Ban]) -> Mapping[Element, Counter]:
        elements = [e for ban in bans for e in self._daemon.warden.elements_of(ban)]
        try:
            return await self._daemon.world.firewall.counters(elements)
        except FirewallError:
            return {}  # the kernel's state is told elsewhere in the same answer

    def _dropped(self, ban: Ban, counters: Mapping[Element, Counter]) -> Counter | None:
        found = [counters[e] for e in self._daemon.warden.elements_of(ban) if e in counters]
        if not found:
            return None
        return Counter(sum(c.packets for c in found), sum(c.bytes for c in found))

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
                    "lag": None if tail.state == "unreadable" else tail.lag,
                    "lines": tail.lines,
                    "last_line_at": tail.last_at or None,
                    "reconnects": tail.reconnects,
                    "jails": [j.name for j in bench.jails],
                }
            )
        told += [_unprotected(container) for container in self._daemon.unprotected()]
        return sorted(told, key=lambda c: str(c["name"]))

    def _jails(self, totals: Mapping[str, tuple[int, int]]) -> list[Json]:
        banned = self._banned()
        return sorted(
            (self._jail(j, totals, banned) for j in self._daemon.jails),
            key=lambda j: str(j["name"]),
        )

    def _banned(self) -> Tally[str]:
        """Count the bans in force by jail."""
        return Tally(ban.jail for ban in self._daemon.warden.bans)

    def _jail(self, jail: Jail, totals: Mapping[str, tuple[int, int]], banned: Tally[str]) -> Json:
        """Write a jail: its numbers, who is failing now, and what it has done in all."""
        failures, made = totals.get(jail.name, (0, 0))
        policy = jail.policy
        return {
            "name": jail.name,
            "defined_by": policy.origin.value,
            "maxretry": policy.maxretry,
            "findtime": policy.findtime,
            "bantime": policy.bantime,
            "failregex": list(policy.rule.failregex),
            "looks_for": looks_for(policy.rule),
            "failing": jail.failing(self._daemon.clock()),
            "failures": failures,
            "banned": banned[jail.name],
            "bans": made,
            "scope": scope_json(self._daemon.scope(jail.name)),
            "blocktype": policy.blocktype.value,
            "last_failure_at": jail.last_failure_at or None,
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
        "jails": [],
    }


def problem(problem: Problem) -> Json:
    """Write a problem."""
    return {"place": problem.place, "what": problem.what, "remedy": problem.remedy}


def scope_json(scope: Scope | None) -> Json | None:
    """Write a scope; `ports` null is everything."""
    if scope is None:
        return None
    ports = None if scope.ports is None else [str(port) for port in scope.ports]
    return {"ports": ports, "why": scope.why}


def ban_json(ban: Ban, dropped: Counter | None, *, now: float) -> Json:
    """Write a ban; `until` and `left` null is for good, `packets` null is not counted."""
    return {
        "id": ban.id,
        "address": written(ban.subject),
        "jail": ban.jail,
        "at": ban.at,
        "until": ban.until,
        "left": None if ban.until is None else max(0.0, ban.until - now),
        "failures": ban.failures,
        "count": ban.count,
        "reason": ban.reason,
        "scope": scope_json(ban.scope),
        "blocktype": ban.blocktype.value,
        "packets": dropped.packets if dropped else None,
        "bytes": dropped.bytes if dropped else None,
    }


def failure_json(failure: Failure) -> Json:
    """Write a failure."""
    return {
        "jail": failure.jail,
        "address": written(failure.subject),
        "at": failure.at,
        "container": failure.container,
        "line": failure.text,
    }
