"""
A user's fail2ban jails and filters as dockerjail's own. Pure, but for the files read late.

fail2ban's directory belongs to whoever runs the host, so its jails are trusted as those of
the daemon's own file are. They run on the containers whose label or the daemon's file names
them, whether or not fail2ban has them enabled; only `enabled = false` in a jail's very own
section takes it away here too.

What fail2ban comes with and the user never spoke of is not his: where dockerjail ships a
filter of that name, made for what containers print, that one is used.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dockerjail.config import options, values
from dockerjail.config.fail2ban.mistakes import Fail2banError
from dockerjail.config.flaw import flaw
from dockerjail.config.mistake import Mistake
from dockerjail.config.recidive import RECIDIVE
from dockerjail.jail.growth import Growth
from dockerjail.jail.policy import JailPolicy, Origin, ScopeKind, Verify
from dockerjail.jail.rule import Rule
from dockerjail.model import Blocktype, Problem

if TYPE_CHECKING:
    from dockerjail.config.fail2ban.read import Fail2ban

STOCK: Final = frozenset(
    {
        *("apache-auth", "apache-badbots", "apache-botsearch", "asterisk", "bitwarden", "dovecot"),
        *("dropbear", "exim", "freeswitch", "gitlab", "grafana", "guacamole", "mongodb-auth"),
        *("nginx-botsearch", "nginx-http-auth", "nginx-limit-req", "proxmox", "pure-ftpd", "squid"),
        *("sshd", "traefik-auth", "vsftpd"),
    }
)
"""Names of filters that fail2ban comes with, as far as dockerjail may ship one of that name."""


_BLOCKTYPE: Final = {True: Blocktype.REJECT, False: Blocktype.DROP}


class Borrowed:
    """The jails and filters of a fail2ban directory, each read when it is asked for."""

    def __init__(self, fail2ban: "Fail2ban") -> None:
        self._fail2ban = fail2ban
        self.directory = fail2ban.directory
        self.jails = frozenset(fail2ban.jails)
        self.filters = frozenset(fail2ban.filters)

    @classmethod
    def open(cls, directory: Path) -> "Borrowed | None":
        """Return what there is in `directory`; None if there is no such directory."""
        with suppress(OSError):  # what may not be looked at is a problem of its files
            if not directory.is_dir():
                return None
        # most hosts have none, and a daemon would carry its readers, 0.6 MB of memory, for nothing
        from dockerjail.config.fail2ban.read import Fail2ban

        found = Fail2ban.open(directory)
        return cls(found) if found is not None and (found.jails or found.problems) else None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with whole files."""
        return self._fail2ban.problems

    def stock(self, name: str) -> bool:
        """Say whether a jail is fail2ban's own, and no file of the user's speaks of it."""
        return self._fail2ban.stock(name)

    def stock_filter(self, name: str) -> bool:
        """Say whether a filter is one that fail2ban comes with, and the user added nothing to it."""
        return name in STOCK and not self._fail2ban.added_to(name)

    @property
    def ignored(self) -> values.Ignored:
        """Whom the user's `[DEFAULT]` lets pass; none where that cannot be read."""
        return self._fail2ban.ignored

    @property
    def enabled(self) -> tuple[str, ...]:
        """The jails that fail2ban would run."""
        return self._fail2ban.enabled

    @property
    def longest_findtime(self) -> float:
        """The longest findtime of any jail that says its own and counts failures, in seconds; else 0."""
        longest = 0.0
        for name in self._fail2ban.saying("findtime"):
            if name == RECIDIVE:
                continue
            try:
                longest = max(longest, self._fail2ban.jail(name).findtime)
            except Fail2banError:
                continue  # it is left out, with a message, if somebody asks for it
        return longest

    def jail(self, name: str, base: JailPolicy, dormant: Growth = options.UNSAID) -> JailPolicy:
        """
        Return the jail `name`; of `base` it has what fail2ban cannot say, and the ignoreip.

        How its bans grow is `base`'s, too, or `dormant`, as far as no file says anything of it.

        Raises `Mistake`, which names the file and line.
        """
        try:
            jail = self._fail2ban.jail(name)
        except Fail2banError as error:
            raise _mistake(error.problem) from None
        flawed = flaw(jail.rule) if not jail.recidive else None
        if flawed is not None:
            option, why = flawed
            raise Mistake(f"{jail.places.get(option) or jail.place}: {why}")
        ours = {}
        for key, text in jail.ours.items():
            try:
                ours[key] = options.LABEL[key](text)
            except Mistake as mistake:
                raise _mistake(mistake.at(f"{jail.place} dockerjail.{key}")) from None
        ignored = values.Ignored(base.ignoreip, base.ignorefrom) | jail.ignored
        policy = replace(
            base,
            name=name,
            origin=Origin.DAEMON,
            rule=jail.rule,
            maxretry=jail.maxretry,
            findtime=jail.findtime,
            bantime=jail.bantime,
            ignoreip=ignored.addresses,
            ignorefrom=ignored.sources,
            scope=ScopeKind.HOST if jail.everything else ScopeKind.AUTO,
            ports=jail.ports,
            and_published=jail.ports is not None,
            blocktype=base.blocktype if jail.reject is None else _BLOCKTYPE[jail.reject],
            verify=Verify.NOTHING if jail.recidive else base.verify,
            recidive=jail.recidive,
        )
        if "ports" in ours:
            policy = replace(policy, scope=ScopeKind.AUTO, and_published=False)
        if "scope" in ours:
            policy = replace(policy, ports=None, and_published=False)
        return options.tune(policy, {**jail.growth, **ours}, dormant=dormant)

    def dormant(self, name: str, base: Growth) -> Growth:
        """Return how a jail's bans would grow: what its files say of it, else what `base` does."""
        try:
            return options.growth(base, self._fail2ban.jail(name).growth)
        except Fail2banError:
            return base  # it does not run, and its own mistake is told

    def disabled(self, name: str) -> str:
        """Return where the jail's own section says `enabled = false`, else nothing."""
        try:
            return self._fail2ban.jail(name).disabled
        except Fail2banError:
            return ""

    def remarks(self, name: str) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
        """Return what of a jail is not taken over: what should be acted on, and what is harmless."""
        try:
            jail = self._fail2ban.jail(name)
        except Fail2banError as error:
            return (error.problem,), ()
        return jail.problems, jail.notes

    def rule(self, reference: str) -> Rule:
        """Return what a filter's name means, perhaps with options; raises `Mistake`."""
        try:
            return self._fail2ban.rule(reference)
        except Fail2banError as error:
            raise _mistake(error.problem) from None


def _mistake(problem: Problem) -> Mistake:
    return Mistake(f"{problem.place}: {problem.what}", problem.remedy)
