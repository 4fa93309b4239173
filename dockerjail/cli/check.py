"""
`dockerjail check`: is everything as it should be, and if not, what to do.

Reads the configuration and the files that it names, looks at the place of the database, asks the
Engine and the resolver, tries the kernel and knocks at the control socket. Changes nothing: the empty table with which the kernel is tried
is gone when the answer is there.
"""

import asyncio
import logging
import os
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import chain
from pathlib import Path

from rich.text import Text

from dockerjail.ban.scope import elsewhere, resolve
from dockerjail.cli import show
from dockerjail.cli.talk import Talk
from dockerjail.config import duration
from dockerjail.config.policies import policies
from dockerjail.config.settings import Settings, load
from dockerjail.docker.client import DockerEngine
from dockerjail.docker.inspect import readable
from dockerjail.errors import (
    ConfigError,
    DaemonUnreachable,
    EngineError,
    EngineUnavailable,
    FirewallError,
)
from dockerjail.escape import plain
from dockerjail.jail.policy import JailPolicy, Origin
from dockerjail.jail.rule import Rule
from dockerjail.lint.lint import Finding as Weakness
from dockerjail.lint.lint import lint
from dockerjail.model import Container, Mode, Problem
from dockerjail.nft.host import ThisHost
from dockerjail.nft.kernel import Kernel
from dockerjail.service.exempt import Exempt
from dockerjail.service.names import PATIENCE, look_up

ANSWER = 15.0
"""Seconds that the Engine may take to say its version."""

ROOM = 1024 * 1024
"""Bytes without which nothing can be written for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One thing that was looked at.

    `fatal` keeps the daemon from working at all, `unreachable` is that none answers, a
    `note` is nothing to mend: what of fail2ban's files is done in another way here.
    `line` is a line of a log that shows it.
    """

    place: str
    ok: bool
    what: str
    remedy: str = ""
    fatal: bool = False
    unreachable: bool = False
    note: bool = False
    line: str = ""


async def check(config: Path | None, *, json: bool) -> int:
    """Print what was found; return 0, 1 (fatal), 3 (no daemon) or 4 (something left out)."""
    logging.getLogger("dockerjail").addHandler(logging.NullHandler())  # it is printed already
    findings, jails = await _look(config)
    if not json:
        _print(findings)
    with show.err.status(f"trying the regexes of {len(jails)} jails"):
        # at the end, since it can take seconds: what is above is there at once
        weak = dict.fromkeys(chain.from_iterable(_lint(*jail) for jail in jails))
    if json:
        findings = [*findings, *weak]
        show.as_json({"ok": all(f.ok for f in findings), "findings": [asdict(f) for f in findings]})
    else:
        _print(weak)
        findings = [*findings, *weak]
    wrong = [finding for finding in findings if not finding.ok]
    if any(finding.fatal for finding in wrong):
        return 1
    if any(finding.unreachable for finding in wrong):
        return 3
    return 4 if wrong else 0


Jail = tuple[JailPolicy, str, bool]
"""A jail to be linted, where it runs, and whether it is one of fail2ban's files."""


async def _look(config: Path | None) -> tuple[Sequence[Finding], Sequence[Jail]]:
    """Look at everything but regexes; return the jails of which they are to be looked at, too."""
    try:
        settings = load(config)
    except ConfigError as error:
        mistakes = [
            Finding(place="configuration", ok=False, what=line, fatal=True)
            for line in str(error).splitlines()
        ]
        return mistakes, []
    source = str(settings.source or "no file, defaults and environment only")
    findings = [
        Finding(place="configuration", ok=True, what=source),
        *map(_left_out, settings.problems),
    ]
    if settings.jails.borrowed:
        what = f"{len(settings.jails.borrowed)} jails of fail2ban's files can be named by labels"
        findings.append(Finding(place=str(settings.fail2ban.path), ok=True, what=what))
    findings += _recidive(settings)
    jails: list[Jail] = [
        (settings.jails[name], f"jail {name}", False) for name in sorted(settings.jails.own)
    ]
    findings.append(_store(settings))
    findings += await _kernel(settings)
    found, running = await _engine(settings)
    findings += found
    findings += await _ignored(settings, [policy for policy, *_ in (*jails, *running)])
    findings.append(_daemon(settings))
    # what [DEFAULT] says holds for all its jails, and is to be read once
    return list(dict.fromkeys(findings)), [*jails, *running]


def _store(settings: Settings) -> Finding:
    """Say whether the database could be written; it is not opened, since the daemon may have it."""
    path = settings.store.path
    place = next(each for each in path.absolute().parents if each.exists())
    remedy = "then start the daemon again if it ended; or give another [store] path"
    try:
        system = os.statvfs(place)
    except OSError as error:
        return Finding(place="store", ok=False, what=f"{path}: {error}", remedy=remedy, fatal=True)
    if path.is_dir():
        what, do = "it is a directory", "name a file in it"
    elif system.f_flag & os.ST_RDONLY:
        what, do = "its file system is read-only", "mount it writable"
    elif not os.access(place, os.W_OK | os.X_OK):
        what, do = f"no right to write in {place}", "give it"
    elif system.f_blocks and system.f_bavail * system.f_frsize < ROOM:
        what, do = "the disk is full", "make room"
    else:
        return Finding(place="store", ok=True, what=str(path))
    return Finding(
        place="store", ok=False, what=f"{path}: {what}", remedy=f"{do}, {remedy}", fatal=True
    )


async def _kernel(settings: Settings) -> Sequence[Finding]:
    try:
        async with Kernel(table=settings.firewall.table) as kernel:
            return [Finding(place="kernel", ok=True, what=f"nf_tables works: {kernel.features}")]
    except FirewallError as error:
        fatal = settings.firewall.mode is Mode.ENFORCE
        return [Finding(place="kernel", ok=False, what=str(error), fatal=fatal)]


async def _engine(settings: Settings) -> tuple[Sequence[Finding], Sequence[Jail]]:
    place = f"Docker Engine {settings.docker.host}"
    try:
        async with DockerEngine(settings.docker.host) as engine:
            async with asyncio.timeout(ANSWER):
                version = await engine.version()
            listed = await engine.list()
            containers = [
                container
                for id_, _ in listed
                if (container := await engine.inspect(id_)) is not None
            ]
    except TimeoutError:
        what = f"it does not answer within {ANSWER:g} seconds"
        remedy = "see what keeps it busy (its own log says); if it stays so, restart it"
        return [Finding(place=place, ok=False, what=what, remedy=remedy, fatal=True)], []
    except EngineUnavailable as error:
        return [
            Finding(place=place, ok=False, what=error.what, remedy=error.remedy, fatal=True)
        ], []
    except EngineError as error:
        return [Finding(place=place, ok=False, what=str(error), fatal=True)], []
    findings = [Finding(place=place, ok=True, what=f"version {version}")]
    if wrong := elsewhere(containers, await ThisHost().addresses()):
        findings.append(_left_out(wrong))
    named: set[str] = set()
    running: list[Jail] = []
    for container in sorted(containers, key=lambda c: c.name):
        found, wanted = _container(container, containers, settings)
        findings += found
        named.update(policy.name for policy in wanted)
        running += (
            (
                policy,
                f"container {container.name}, jail {policy.name}",
                policy.name in settings.jails.borrowed,
            )
            for policy in wanted
            if policy.name not in settings.jails.own or policy.origin is Origin.LABEL
        )
    findings += (*_idle(settings, named), *_unmatched(settings, containers))
    return findings, running


async def _ignored(settings: Settings, jails: Iterable[JailPolicy]) -> Sequence[Finding]:
    """Read the files of `ignoreip` and look its names up, as the daemon does."""
    recidive = [] if settings.recidive is None else [settings.recidive]
    words = [policy.ignorefrom for policy in (*jails, *recidive)]
    exempt = Exempt(ask=look_up, clock=time.monotonic, changed=lambda: None)
    exempt.want(chain(settings.defaults.ignorefrom, *words))
    async with asyncio.TaskGroup() as helpers:
        following = helpers.create_task(exempt.run(), name="ignoreip")
        in_time = await exempt.ready(PATIENCE)
        following.cancel()
    findings = [*map(_left_out, exempt.problems())]
    if not in_time:
        what = f"not all of its names were looked up within {PATIENCE:g} seconds"
        remedy = "see whether the name servers in /etc/resolv.conf answer"
        findings.append(Finding(place="ignoreip", ok=False, what=what, remedy=remedy))
    return findings


def _recidive(settings: Settings) -> Sequence[Finding]:
    """Tell that the bans of the whole host are counted, if they are."""
    policy = settings.recidive
    if policy is None:
        return []
    within = duration.format(policy.findtime)
    bantime = "good" if policy.bantime is None else duration.format(policy.bantime)
    does = "would ban" if Mode.OBSERVE in (policy.mode, settings.firewall.mode) else "ban"
    what = (
        f"counts the bans of the whole host: {policy.maxretry} within {within} {does} for {bantime}"
    )
    return [
        Finding(place=f"jail {policy.name}", ok=True, what=what),
        *_remarks([policy], settings),
    ]


def _idle(settings: Settings, named: Collection[str]) -> Sequence[Finding]:
    """Tell which jails run in fail2ban and nowhere here: one may have been forgotten."""
    idle = settings.jails.enabled - {*named}
    if not idle:
        return []
    what = f"enabled there, and no container names them: {', '.join(sorted(idle))}"
    remedy = f"name them in {settings.docker.label_prefix}.jails of their containers"
    place = str(settings.fail2ban.path)
    return [Finding(place=place, ok=True, what=what, remedy=remedy, note=True)]


def _unmatched(settings: Settings, containers: Sequence[Container]) -> Sequence[Finding]:
    """Tell which patterns of the daemon's file no container has a name for."""
    return [
        Finding(
            place=f'{settings.source}, [containers."{each.pattern}"]',
            ok=True,
            what="no container there is now has such a name or service",
            remedy="docker ps -a lists their names; * stands for any text",
            note=True,
        )
        for each in settings.containers
        if not any(map(each.covers, containers))
    ]


def _container(
    container: Container, containers: Sequence[Container], settings: Settings
) -> tuple[Sequence[Finding], Sequence[JailPolicy]]:
    """Look at one container's labels, log and what its bans would close; return its jails, too."""
    wanted, problems = policies(container, settings)
    findings = [*map(_left_out, problems)]
    if not wanted:
        return findings, ()
    _, unreadable = readable(container)
    if unreadable is not None:
        findings.append(_left_out(unreadable))
    place = f"container {container.name}"
    findings += _remarks(wanted, settings)
    for policy in wanted:
        scope = resolve(policy, [container], containers)
        if scope is not None and scope.nothing:
            what, _, remedy = scope.why.partition("; ")
            findings.append(
                Finding(place=f"{place}, jail {policy.name}", ok=False, what=what, remedy=remedy)
            )
        elif scope is not None:
            observing = Mode.OBSERVE in (policy.mode, settings.firewall.mode)
            does = "only observes, and would keep out of" if observing else "keeps out of"
            what = f"jail {policy.name} {does} {scope}: {scope.why}"
            findings.append(Finding(place=place, ok=True, what=what))
        else:
            findings.append(Finding(place=place, ok=True, what=f"jail {policy.name}, not running"))
    return findings, wanted


def _lint(policy: JailPolicy, place: str, fail2ban: bool) -> Sequence[Finding]:
    """List what is wrong with the regexes of a jail; the shipped ones have been looked at."""
    if policy.origin is Origin.SHIPPED or policy.recidive:
        return []
    if policy.rule.address and not policy.rule.where and not policy.rule.failregex:
        what = "every line that has an address counts as a failure"
        remedy = "write in where what a line must say, or where = {FIELD = '*'} if it is meant"
        return [Finding(place=place, ok=False, what=what, remedy=remedy)]
    return [
        Finding(
            place=place,
            ok=False,
            what=str(each),
            remedy=f"write {each.safer}" if each.safer else "",
            line=each.line,
        )
        for each in _linted(policy.rule, fail2ban=fail2ban)
    ]


@cache
def _linted(rule: Rule, *, fail2ban: bool) -> Sequence[Weakness]:
    """Lint a rule once, however many containers run it: it can take seconds."""
    return tuple(lint(rule, fail2ban=fail2ban))


def _remarks(jails: Sequence[JailPolicy], settings: Settings) -> Sequence[Finding]:
    """List what of the jails' fail2ban files is not taken over, or not needed."""
    return [
        Finding(place=each.place, ok=True, what=each.what, remedy=each.remedy, note=True)
        for policy in jails
        for each in chain(*settings.jails.remarks(policy))
    ]


def _daemon(settings: Settings) -> Finding:
    try:
        status = Talk(settings.control.socket).status()
    except DaemonUnreachable as error:
        return Finding(place="daemon", ok=False, what=str(error), unreachable=True)
    up = "answers, all is well" if status["ok"] else "answers, and needs attention"
    return Finding(
        place="daemon",
        ok=bool(status["ok"]),
        what=up,
        remedy="" if status["ok"] else "run dockerjail status",
    )


def _left_out(problem: Problem) -> Finding:
    return Finding(place=problem.place, ok=False, what=problem.what, remedy=problem.remedy)


def _print(findings: Iterable[Finding]) -> None:
    for finding in findings:
        _print_one(finding)


def _print_one(finding: Finding) -> None:
    mark = ("ok   ", "green") if finding.ok else ("!!   ", "bold red")
    if finding.note:
        mark = ("note ", "yellow")
    text = plain(f"{finding.place}: {finding.what}")
    show.out.print(Text.assemble(mark, text))
    if finding.line:
        show.say(f"     line: {finding.line}")
    if finding.remedy:
        show.say(f"     {finding.remedy}")
