"""
Whether an offence deserves a ban, from what, for how long. An offence in, a ban out, or none.

Reads the past (earlier bans) and, where a jail wants it, the kernel's connections; writes
nothing. Why there is no ban is logged, in fail2ban's words where it has some.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from dockerjail.ban.budget import Budget
from dockerjail.config.recidive import RECIDIVE
from dockerjail.errors import FirewallError
from dockerjail.jail.growth import grown
from dockerjail.jail.policy import JailPolicy, Origin, Verify
from dockerjail.model import Address, Ban, Cause, Mode, Offence, Scope, Subject, written
from dockerjail.ports import Flows

logger = logging.getLogger(__name__)

MOST_KNOWN: Final = 10_000
"""Bans of the store's that one turn keeps in mind; a subject may have had a thousand."""


class Past(Protocol):
    """Who remembers earlier bans, and never fails: what cannot be told is left out."""

    async def bans_against(self, subject: Subject, *, since: float) -> Sequence[Ban]:
        """Return the bans that a subject has had, the newest first."""
        ...


class Known:
    """
    The bans of those who come up in one turn of the warden.

    `fresh` are those that the store does not know yet, or knows as they were before. What the store
    knows is asked once: nobody else writes it, and who has been banned often comes up often.
    """

    def __init__(self) -> None:
        self.fresh: dict[Subject, dict[int, Ban]] = {}
        self._stored: dict[Subject, Sequence[Ban]] = {}
        self._count = 0

    def put(self, ban: Ban) -> None:
        """Take note of a ban that was made or changed in this turn."""
        self.fresh.setdefault(ban.subject, {})[ban.id] = ban

    async def of(self, subject: Subject, past: Past) -> Sequence[Ban]:
        """Return the bans that a subject has had, the newest first."""
        stored = self._stored.get(subject)
        if stored is None:
            stored = await past.bans_against(subject, since=0.0)
            self._count += len(stored)
            if self._count > MOST_KNOWN:
                self._stored.clear()
                self._count = len(stored)
            self._stored[subject] = stored
        fresh = self.fresh.get(subject)
        if not fresh:
            return stored
        known = {ban.id: ban for ban in stored} | fresh
        return sorted(known.values(), key=lambda ban: (ban.at, ban.id), reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    What is known of the world where it is decided.

    `policies` and `scopes` are asked by jail (`name@service`), `protected` by subject and
    jail why not all of it is banned, `excused` why a ban of it may not stand. `observing`: the whole daemon only records.
    """

    policies: Callable[[str], JailPolicy | None]
    scopes: Callable[[str], Scope | None]
    protected: Callable[[Subject, str], str | None]
    excused: Callable[[Subject, str], str | None]
    clock: Callable[[], float]
    flows: Flows
    observing: bool = False
    chance: Callable[[], float] = random.random


class Sentencing:
    """
    Decides on offences.

    `unverified` counts by jail who was not banned since the kernel knows of no connection
    of his; `flows_error` says why nobody could be asked.
    """

    def __init__(self, past: Past, bar: Bar, budget: Budget) -> None:
        self._past = past
        self._bar = bar
        self._budget = budget
        self._said: dict[str, str] = {}
        self._overfull: set[str] = set()
        self.unverified: dict[str, int] = {}
        self.flows_error = ""

    async def decide(
        self,
        offence: Offence,
        *,
        number: Callable[[], int],
        standing: Ban | None,
        known: Known,
        active: int,
        observed: int = 0,
        held: bool = False,
        cause: Cause = Cause.FAILURES,
    ) -> Ban | None:
        """
        Return the ban for an offence, the `standing` one with a later end, or None.

        `active` is how many households are banned because of the offence's container, `observed`
        how many in name only. A subject that is `held` already by the ban of an unknown jail costs no budget.
        """
        jail, subject, name = offence.jail, offence.subject, written(offence.subject)
        if offence.at > self._bar.clock():
            # a clock was set back since: no ban lasts longer for it
            offence = replace(offence, at=self._bar.clock())
        policy = self._bar.policies(jail)
        if policy is None:
            logger.info("[%s] Ignore %s: the jail is gone", jail, name)
            return None
        if why := self._bar.protected(subject, jail):
            logger.warning("[%s] Ignore %s: %s", jail, name, why)
            return None
        mode = Mode.OBSERVE if self._bar.observing else policy.mode
        lasting = standing is not None and (standing.mode is mode or standing.mode is Mode.ENFORCE)
        grows = policy.growth is not None and policy.bantime is not None
        earlier = await known.of(subject, self._past) if grows or not lasting else ()
        until = self._until(policy, offence, earlier)
        if until is not None and until <= self._bar.clock():
            logger.info("[%s] Ignore %s: its bantime is over already", jail, name)
            return None
        if standing is not None and lasting:
            logger.info("[%s] %s already banned", jail, name)
            if standing.mode is not mode:
                return standing  # a jail that only observes by now makes no ban longer
            return replace(standing, until=later(standing.until, until))
        scope = self._scope_for(offence, policy)
        if scope is None or not await self._borne_out(offence, policy, scope):
            return None
        if mode is Mode.ENFORCE and not held and not self._affordable(offence, active):
            mode = Mode.OBSERVE
        if mode is Mode.OBSERVE and standing is None and not self._worth_noting(offence, observed):
            return None
        return Ban(
            id=standing.id if standing else number(),
            jail=jail,
            subject=subject,
            scope=scope,
            at=offence.at,
            until=later(standing.until, until) if standing else until,
            failures=offence.failures,
            count=standing.count if standing else sum(ban.jail == jail for ban in earlier) + 1,
            reason=_reason(offence, cause),
            blocktype=policy.blocktype,
            cause=cause,
            mode=mode,
            container=offence.container,
        )

    def forget(self, jail: str) -> None:
        """Let go of what was said and counted of a jail."""
        self._said.pop(jail, None)
        self.unverified.pop(jail, None)

    async def relapse(self, ban: Ban, known: Known) -> Sequence[Offence]:
        """
        Return what a new ban makes of its subject in the jail that counts bans, if there is one.

        The bans of the daemon's own jails count together, for the whole host; those of others
        only within their service, since a container prints what it likes.
        """
        jail = f"{RECIDIVE}@{_service(ban.jail)}"
        if self._trusted(ban.jail) and self._bar.policies(RECIDIVE) is not None:
            jail = RECIDIVE
        policy = self._bar.policies(jail)
        if policy is None or not policy.recidive or ban.cause is not Cause.FAILURES:
            return []
        counted = self._counted(jail, policy, await known.of(ban.subject, self._past), ban.at)
        if len(counted) < policy.maxretry:
            return []
        return [
            Offence(
                jail=jail,
                subject=ban.subject,
                at=ban.at,
                failures=len(counted),
                container=ban.container,
            )
        ]

    def _counted(
        self, jail: str, policy: JailPolicy, earlier: Sequence[Ban], at: float
    ) -> Sequence[Ban]:
        """Return which earlier bans count in a jail that counts bans; each counts once."""
        counted: list[Ban] = []
        for ban in earlier:
            if ban.jail == jail or ban.at <= at - policy.findtime:
                break
            mine = self._trusted(ban.jail) if jail == RECIDIVE else _kin(ban.jail, jail)
            observed = ban.mode is Mode.OBSERVE and policy.mode is Mode.ENFORCE
            if mine and ban.cause is Cause.FAILURES and not (observed and not self._bar.observing):
                counted.append(ban)
        return counted

    def _until(self, policy: JailPolicy, offence: Offence, earlier: Sequence[Ban]) -> float | None:
        bantime, growth = policy.bantime, policy.growth
        if bantime is None:
            return None
        if growth is not None:
            jail = offence.jail
            since = 0.0 if growth.decay is None else offence.at - growth.decay
            times = sum(
                ban.at >= since
                and (ban.jail == offence.jail or (growth.overalljails and self._counts(ban, jail)))
                for ban in earlier
            )
            bantime = grown(bantime, growth, times, self._bar.chance())
        return offence.at + bantime

    def _scope_for(self, offence: Offence, policy: JailPolicy) -> Scope | None:
        """Find what to keep somebody out of; say, once, when there is nothing."""
        jail = offence.jail
        if jail == RECIDIVE:
            named = policy.ports is not None
            why = "the jail names its ports" if named else "banned again and again"
            return Scope(ports=policy.ports, why=why)
        scope = self._bar.scopes(jail)
        if scope is not None and not scope.nothing:
            self._said.pop(jail, None)
            return scope
        why = scope.why if scope else "cannot ban: nothing of the service runs any more"
        if self._said.get(jail) != why:
            logger.error("[%s] %s is not banned: %s", jail, written(offence.subject), why)
        self._said[jail] = why
        return None

    def _counts(self, ban: Ban, jail: str) -> bool:
        """Say whether a ban of another jail counts: not if some other container may have made it up."""
        return self._trusted(ban.jail) or _kin(ban.jail, jail)

    def _trusted(self, jail: str) -> bool:
        policy = self._bar.policies(jail)
        return policy is not None and policy.origin is Origin.DAEMON

    async def _borne_out(self, offence: Offence, policy: JailPolicy, scope: Scope) -> bool:
        """Say whether the kernel knows a connection of whom a line accuses, if the jail asks."""
        if policy.verify is Verify.NOTHING or offence.address is None:
            return True
        name = written(offence.subject)
        try:
            seen = await self._seen(offence.address, scope, offence.at)
        except FirewallError as error:
            self.flows_error = str(error)
            logger.error("[%s] Ignore %s: cannot verify: %s", offence.jail, name, error)
            return False
        self.flows_error = ""
        if seen:
            return True
        self.unverified[offence.jail] = self.unverified.get(offence.jail, 0) + 1
        logger.warning(
            "[%s] Ignore %s: the kernel knows of no connection from %s to %s (verify=conntrack)",
            offence.jail,
            name,
            offence.address,
            scope,
        )
        return False

    async def _seen(self, address: Address, scope: Scope, at: float) -> bool:
        """Say whether `address` had a connection to what a scope closes, by the moment `at`."""
        if scope.ports == ():
            raise FirewallError(
                f"connections to {scope} go past this host (macvlan), which keeps no account of them"
            )
        return await self._bar.flows.seen(address, scope.ports, since=at)

    def _affordable(self, offence: Offence, active: int) -> bool:
        """Say whether the container may ban one more."""
        container = offence.container
        now = asyncio.get_running_loop().time()
        fits = self._budget.admit(container, offence.subject, now, active)
        if not fits and self._budget.newly_tripped(container):
            logger.error(
                "container %s bans more than its budget: its bans are only observed for now",
                container,
            )
        return fits

    def _worth_noting(self, offence: Offence, observed: int) -> bool:
        """Say whether one more ban is observed: nobody reads a million that a forger made up."""
        container = offence.container
        if not self._budget.crowded(observed):
            self._overfull.discard(container)
            return True
        if container not in self._overfull:
            logger.error(
                "container %s: %d of its bans are only observed; no more are until some end",
                container,
                observed,
            )
        self._overfull.add(container)
        return False


def _service(jail: str) -> str:
    return jail.partition("@")[2]


def _kin(one: str, other: str) -> bool:
    """Say whether two jails run for the same service."""
    return bool(_service(one)) and _service(one) == _service(other)


def _reason(offence: Offence, cause: Cause) -> str:
    match cause:
        case Cause.BANS:
            return f"banned {offence.failures} times"
        case Cause.NEIGHBOURS:
            return f"{offence.failures} of its addresses were banned"
        case _:
            return ""


def later(one: float | None, other: float | None) -> float | None:
    """Return the later of two ends; None, for good, is later than any."""
    return None if one is None or other is None else max(one, other)
