"""
What an operator should attend to: the daemon's rooms in, problems out. Changes nothing.

The gravest come first.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

from dockerjail.ban.warden import FULL
from dockerjail.jail.patience import LIMIT, REMEMBERED
from dockerjail.model import Blocktype, Container, Problem

UNANSWERED: Final = 10.0
"""Seconds without an answer of the Engine after which that is told."""

LATELY: Final = 3600.0
"""Seconds for which it is told that something was forgotten."""

MOST: Final = 1000
"""Problems that are told one by one."""

if TYPE_CHECKING:  # the daemon asks for its own problems when it is ready
    from dockerjail.jail.jail import Jail
    from dockerjail.service.daemon import Daemon


def problems(daemon: Daemon) -> list[Problem]:
    """List everything, each once."""
    now = daemon.steady()
    containers = daemon.intake.containers
    found = [*_of_the_engine(daemon), *of_the_kernel(daemon), *_of_the_store(daemon)]
    found += daemon.matching.problems()
    found += daemon.world.firewall.problems()
    found += daemon.effect.problems(now)
    found += _over_budget(daemon)
    found += of_bounds(daemon)
    found += _overdue(daemon)
    found += daemon.settings.problems
    for wrong in daemon.wrong.values():
        found += wrong
    found += daemon.intake.problems()
    if any(_may_be_direct(container, daemon) for container in _followed(daemon)):
        found += daemon.world.engine.problems()
    found += [each for tail in daemon.intake.tails.values() for each in tail.problems]
    found += _cut(daemon)
    found += _scopes(daemon)
    found += _unverifiable(daemon)
    found += daemon.ignored.problems(containers.values(), now)
    found += daemon.ground.problems()
    found += daemon.names.problems()
    found = list(dict.fromkeys(found))
    if len(found) > MOST:
        more = Problem(place="status", what=f"{len(found) - MOST} more things need attention")
        found = [*found[:MOST], more]
    return found


def _of_the_engine(daemon: Daemon) -> Iterator[Problem]:
    if not daemon.intake.connected:
        remedy, meanwhile = daemon.intake.remedy, "containers are followed again when it answers"
        yield Problem(
            place="Docker Engine",
            what=daemon.intake.error or f"no answer yet from {daemon.settings.docker.host}",
            remedy=f"{remedy}; {meanwhile}" if remedy else meanwhile,
        )
    elif daemon.intake.unanswered > UNANSWERED:
        yield Problem(
            place="Docker Engine",
            what=f"has not answered for {daemon.intake.unanswered:.0f} seconds, so lines may be late",
            remedy="see what keeps it busy (its own log says); if it stays so, restart it",
        )


def of_the_kernel(daemon: Daemon) -> list[Problem]:
    """List what is wrong with the packet filter."""
    found = []
    sync = daemon.warden.sync
    if not sync.ok:
        found.append(
            Problem(
                place="kernel",
                what=f"not all bans may be enforced: {sync.error}",
                remedy="it is tried again by itself; if it stays so, run `dockerjail check`",
            )
        )
    if storm := daemon.warden.table.storm():
        found.append(
            Problem(
                place="kernel",
                what=f"somebody changes the table again and again, last: {storm}; "
                "each time it is put back, at most every few seconds",
                remedy="find out what that program does, or set owner = true under [firewall]",
            )
        )
    if _falls_back(daemon):
        found.append(
            Problem(
                place="kernel",
                what="bans with blocktype=reject drop instead: this kernel cannot answer what "
                "it blocks before DNAT",
                remedy="run Linux 5.9 or later with nft_reject_inet, or write blocktype=drop",
            )
        )
    used = {direct.device for container in _followed(daemon) for direct in container.direct}
    for device, why in sorted(daemon.world.firewall.deaf.items()):
        if device not in used:
            continue
        found.append(
            Problem(
                place=f"device {device}" if device else "macvlan networks",
                what=f"bans of containers behind it cannot be enforced: {why}",
                remedy="publish the container's ports on a bridge network",
            )
        )
    if daemon.elsewhere is not None:
        found.append(daemon.elsewhere)
    return found


def _of_the_store(daemon: Daemon) -> Iterator[Problem]:
    yield from daemon.warden.backlog.problems()
    yield from daemon.world.store.problems()
    if daemon.unpurged:
        yield Problem(place="store", what=f"old history is not purged: {daemon.unpurged}")


def of_bounds(daemon: Daemon) -> Iterator[Problem]:
    """Tell what was forgotten, or not done, since there is more of it than memory for it."""
    if daemon.warden.crowded:
        yield Problem(
            place="bans",
            what=FULL,
            remedy="end some (dockerjail unban), make bantimes shorter, or have jails name fewer ports",
        )
    since = daemon.clock() - LATELY
    for jail in daemon.jails:
        subjects, connections = jail.crowded(since)
        if subjects:
            yield Problem(
                place=f"jail {jail.name}",
                what=f"{subjects} addresses that had failed were forgotten: more fail at once than "
                "are remembered, those with one failure go first",
                remedy="see in the log whether clients choose the addresses (X-Forwarded-For, "
                "trusted_proxies); else count networks (ipv6_prefix, ipv4_prefix)",
            )
        if connections:
            yield Problem(
                place=f"jail {jail.name}",
                what=f"{connections} connections were forgotten before they ended: a failure whose "
                "address stood in an earlier line is then missed",
                remedy="limit in the application how many connections one client may open",
            )


def _followed(daemon: Daemon) -> list[Container]:
    containers = daemon.intake.containers
    return [containers[id_] for id_ in daemon.benches if id_ in containers]


def _may_be_direct(container: Container, daemon: Daemon) -> bool:
    """Say whether clients may reach a container past the host, for all that is known without asking."""
    behind_a_bridge = container.published or container.gateways & daemon.ground.own
    return not (container.host_network or behind_a_bridge)


def _falls_back(daemon: Daemon) -> bool:
    """Say whether a ban is to answer, and the kernel cannot."""
    if daemon.world.firewall.rejects:
        return False
    asked = {jail.policy.blocktype for jail in daemon.jails}
    asked.update(ban.blocktype for ban in daemon.warden.bans)
    return Blocktype.REJECT in asked


def _over_budget(daemon: Daemon) -> Iterator[Problem]:
    budget = daemon.settings.budget
    for container in daemon.intake.containers.values():
        since = daemon.warden.over_budget(container.name)
        if since is not None:
            at = datetime.fromtimestamp(since).astimezone()
            held_back = daemon.warden.budget.observed(container.name)
            yield Problem(
                place=f"container {container.name}",
                what=f"bans more than its budget (bans_per_minute = {budget.bans_per_minute}, "
                f"active = {budget.active}): {held_back} bans since {at:%H:%M:%S} are only "
                "observed",
                remedy="see in its log whether the attack is real; then raise [budget], or ban by hand: "
                "dockerjail ban ADDRESS --jail JAIL",
            )


def _overdue(daemon: Daemon) -> Iterator[Problem]:
    now = daemon.watch.clock()
    for jail in daemon.jails:
        if now - jail.patience.last_at < REMEMBERED:
            yield overdue(jail, now)


def overdue(jail: Jail, now: float) -> Problem:
    """Say which regex of a jail took too long, on what, and which lines are not judged for it."""
    patience = jail.patience
    judges = patience.judges(now)
    suspended = ""
    if judges is not None:
        which = f"lines longer than {judges} characters" if judges else "its lines"
        left = patience.suspended(now)
        suspended = f"; for {left:.0f} seconds more {which} are not judged"
    return Problem(
        place=f"jail {jail.name}",
        what=f"{patience.regex} takes longer than {LIMIT * 1000:.0f} ms on lines such as "
        f"'{patience.sample}' ({patience.length} characters): {patience.overdue} were given up, "
        f"{patience.unjudged} passed while it was suspended{suspended}",
        remedy="write a regex that cannot backtrack there, with \\S or [^ ] in place of .*; "
        "`dockerjail check` says where",
    )


def _cut(daemon: Daemon) -> Iterator[Problem]:
    """Tell of lines too long to be read by their fields: a client may hide in one."""
    for id_, tail in daemon.intake.tails.items():
        container, bench = daemon.intake.containers.get(id_), daemon.benches.get(id_)
        if not tail.overlong or container is None or bench is None:
            continue
        if any(jail.policy.rule.structured for jail in bench.jails):
            yield Problem(
                place=f"container {container.name}",
                what=f"{tail.overlong} lines were longer than 64 KiB: what a jail reads of their "
                "fields is not counted",
                remedy="have the application log less of what a client sends",
            )


def _scopes(daemon: Daemon) -> Iterator[Problem]:
    """Tell of jails that can close nothing; one that no container runs has nothing to close."""
    run = {jail.name for bench in daemon.benches.values() for jail in bench.jails}
    for jail in daemon.jails:
        scope = daemon.scope(jail.name) if jail.name in run else None
        if scope is not None and scope.nothing:
            what, _, remedy = scope.why.partition("; ")
            yield Problem(place=f"jail {jail.name}", what=what, remedy=remedy)


def _unverifiable(daemon: Daemon) -> Iterator[Problem]:
    if error := daemon.warden.sentencing.flows_error:
        yield Problem(
            place="verify=conntrack",
            what=f"nobody is banned by jails with it: {error}",
            remedy="mend that, or take verify out",
        )
