"""
The jails and filters of the daemon's file and environment, of fail2ban's files, and shipped ones.

In: the tables `[filters.NAME]` and `[jails.NAME]` as written, and where they stand. Out:
jails by name, filters by name, and a `Problem` for each one that is left out.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from dockerjail.config import options, recidive, values
from dockerjail.config.borrowed import Borrowed
from dockerjail.config.filters import Filters, FilterText
from dockerjail.config.flaw import flaw
from dockerjail.config.mistake import Mistake, meant, shown
from dockerjail.config.places import Path
from dockerjail.config.recidive import RECIDIVE
from dockerjail.jail.growth import Growth
from dockerjail.jail.policy import JailPolicy, Origin, ScopeKind
from dockerjail.jail.rule import Rule
from dockerjail.model import Problem

FILTER: Mapping[str, Callable[[object], object]] = MappingProxyType(
    {
        **options.RULE,
        "description": values.text,
        "source": values.text,
        "stream": values.streams,
    }
)
"""All that `[filters.NAME]` may hold."""


class Jails(Mapping[str, JailPolicy]):
    """
    Every jail the daemon knows.

    Those of its file, those of fail2ban's files (`borrowed`), the one that counts bans
    (`recidive`), and for each other filter a jail of that name with `base`'s numbers: made when asked for, so that only the files
    in use are read. Getting one raises `Mistake` when its files are wrong.
    """

    def __init__(
        self,
        own: Mapping[str, JailPolicy],
        *,
        filters: Mapping[str, FilterText],
        borrowed: Borrowed | None,
        shipped: Collection[str],
        withheld: Mapping[str, str],
        base: JailPolicy,
        dormant: Growth = options.UNSAID,
        growing: Mapping[str, Growth] = MappingProxyType({}),
    ) -> None:
        self._own = own
        self._dormant = dormant
        self._growing = growing
        self._shipped = frozenset(shipped)
        self._filters = filters
        self._borrowed = borrowed
        self._base = base
        self._made: dict[str, JailPolicy] = {}
        self._theirs = theirs(borrowed, shipped) - {*own} if borrowed else frozenset()
        self._names = tuple(sorted({*own, *self._theirs, *filters, RECIDIVE} - {*withheld}))
        self._known = frozenset(self._names)

    @property
    def longest_findtime(self) -> float:
        """
        The longest findtime of any that counts failures, in seconds.

        No shipped filter is read to find out.
        """
        longest = self._borrowed.longest_findtime if self._borrowed is not None else 0.0
        own = (jail.findtime for jail in self._own.values() if not jail.recidive)
        return max(self._base.findtime, longest, *own, 0.0)

    @property
    def own(self) -> frozenset[str]:
        """The names of the jails of the daemon's own file."""
        return frozenset(self._own)

    @property
    def borrowed(self) -> frozenset[str]:
        """The names of fail2ban's jails among them."""
        return self._theirs & self._known

    @property
    def enabled(self) -> frozenset[str]:
        """The names of fail2ban's jails that it would run itself, on a log."""
        enabled = self.borrowed & {*self._borrowed.enabled} if self._borrowed else frozenset()
        return enabled - {RECIDIVE}  # it runs for the whole host, and wants no container

    def stock(self, name: str) -> bool:
        """Say whether this is one of fail2ban's own jails, of which no file of the user's speaks."""
        return self._borrowed is not None and name in self.borrowed and self._borrowed.stock(name)

    def dormant(self, name: str) -> Growth:
        """Return how a jail's bans would grow, should somebody have them grow."""
        if name in self._growing:
            return self._growing[name]
        if self._borrowed is not None and name in self._theirs:
            return self._borrowed.dormant(name, self._dormant)
        return self._dormant

    def counting(self) -> tuple[JailPolicy | None, tuple[Problem, ...]]:
        """
        Return the jail that counts the bans of the whole host, if somebody asked for one.

        Whoever wrote [jails.recidive] did, and who has it enabled in fail2ban's files.
        """
        theirs = self._borrowed is not None and RECIDIVE in self._borrowed.enabled
        if RECIDIVE not in self or not (RECIDIVE in self._own or theirs):
            return None, ()
        try:
            policy = self[RECIDIVE]
        except Mistake as mistake:
            place = str(self._borrowed.directory) if self._borrowed else RECIDIVE
            return None, (mistake.at(f"{place}, jail {RECIDIVE}"),)
        # there is no service whose ports could be meant
        return replace(policy, origin=Origin.DAEMON, scope=ScopeKind.HOST), ()

    def remarks(self, policy: JailPolicy) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
        """Return what of a jail's fail2ban files is not taken over: to act on, and harmless."""
        name = policy.name
        if self._borrowed is None or name in self._own:
            return (), ()
        if name in self._theirs:
            return self._borrowed.remarks(name)
        known = self._borrowed.filters
        if (
            policy.recidive
            or name in self._shipped
            or name not in known
            or policy.origin is Origin.LABEL
        ):
            return (), ()
        what = (
            f"there is a filter {name} and no jail: it runs with the numbers of [defaults], "
            "not with those of [DEFAULT] in jail.local"
        )
        remedy = f"write [{name}] in jail.local, if it should be otherwise"
        return (Mistake(what, remedy).at(str(self._borrowed.directory)),), ()

    def __getitem__(self, name: str) -> JailPolicy:
        if name not in self._names:
            raise KeyError(name)
        if name in self._own:
            return self._own[name]
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> JailPolicy:
        if self._borrowed is None or name not in self._theirs:
            if name == RECIDIVE:
                return recidive.builtin(self._base)
            return with_filter(self._base, name, self._filters[name])
        policy = self._borrowed.jail(name, self._base, self._dormant)
        if not policy.rule.failregex and not policy.recidive:
            raise Mistake("its fail2ban jail has no failregex", "write filter = NAME there")
        place = self._borrowed.disabled(name)
        if place:
            raise Mistake(f"is disabled at {place}", "write enabled = true there")
        return policy

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the daemon knows; `withheld` says why a jail that is written down is left out."""

    jails: Jails
    filters: Mapping[str, FilterText]
    withheld: Mapping[str, str]
    problems: tuple[Problem, ...]


def theirs(borrowed: Borrowed, shipped: Collection[str]) -> frozenset[str]:
    """Return fail2ban's jails but those that make way for a shipped one, since nobody chose them."""
    ours = borrowed.jails.intersection((*shipped, RECIDIVE))
    yielding = {name for name in ours if borrowed.stock(name)}
    if RECIDIVE in borrowed.enabled:
        yielding.discard(RECIDIVE)  # whoever has all enabled asked for this one, too
    return borrowed.jails - yielding


def with_filter(base: JailPolicy, name: str, text: FilterText) -> JailPolicy:
    """Return `base` under `name`, looking for what the filter `text` says."""
    return replace(
        base,
        name=name,
        origin=text.origin,
        rule=text.rule,
        streams=text.streams,
    )


def read(
    filters: Mapping[str, Any],
    jails: Mapping[str, Any],
    *,
    shipped: Mapping[str, FilterText],
    base: JailPolicy,
    place: Callable[[Path], str],
    borrowed: Borrowed | None = None,
    dormant: Growth = options.UNSAID,
) -> Known:
    """
    Read the tables of all filters and jails; `base` has the numbers of `[defaults]`.

    `dormant` is how bans grow by default in a jail that has them grow.

    A wrong filter takes the jails that use it with it, a wrong jail only itself.
    """
    reader = _Reader(shipped, base, place, borrowed, dormant)
    for name, table in filters.items():
        reader.filter(name, table)
    own = Filters(reader.filters, shipped=shipped, borrowed=borrowed, withheld=reader.spoilt)
    for name, table in jails.items():
        reader.jail(name, table, own)
    return Known(
        jails=Jails(
            reader.jails,
            filters=own,
            borrowed=borrowed,
            shipped=shipped,
            withheld=reader.withheld,
            base=base,
            dormant=dormant,
            growing=reader.growing,
        ),
        filters=own,
        withheld=MappingProxyType(reader.withheld),
        problems=tuple(reader.problems),
    )


class _Reader:
    """What has been understood so far of the tables."""

    def __init__(
        self,
        shipped: Mapping[str, FilterText],
        base: JailPolicy,
        place: Callable[[Path], str],
        borrowed: Borrowed | None,
        dormant: Growth,
    ) -> None:
        self._shipped = shipped
        self._dormant = dormant
        self._borrowed = borrowed
        self._base = base
        self._place = place
        self.filters: dict[str, FilterText] = {}
        self.spoilt: set[str] = set()
        self.jails: dict[str, JailPolicy] = {}
        self.growing: dict[str, Growth] = {}
        self.withheld: dict[str, str] = {}
        self.problems: list[Problem] = []

    def filter(self, name: str, table: object) -> None:
        """Read `[filters.NAME]`; keys that it leaves out are the shipped filter's."""
        path = ("filters", name)
        before = len(self.problems)
        found = self._options(path, table, FILTER)
        shipped = self._shipped.get(name)
        if shipped is not None:
            text = replace(shipped, origin=Origin.DAEMON)
        else:
            text = FilterText(name=name, origin=Origin.DAEMON)
        text = replace(
            text,
            rule=options.rule(text.rule, found),
            streams=found.get("stream", text.streams),
            description=found.get("description", text.description),
        )
        if len(self.problems) == before:
            if text.rule.failregex or text.rule.address:
                self._flaw(path, text.rule)
            else:
                self._report(path, Mistake("has no failregex", "write failregex = ['…<HOST>…']"))
        if len(self.problems) == before:
            self.filters[name] = text
        else:
            self.spoilt.add(name)
            self.withheld[name] = f"is left out for a mistake at {self._place(path)}"

    def jail(self, name: str, table: object, filters: Mapping[str, FilterText]) -> None:
        """Read `[jails.NAME]`; without `filter`, its filter is the one of its own name."""
        path = ("jails", name)
        before = len(self.problems)
        self.withheld.pop(name, None)
        found = self._options(path, table, options.FILE)
        if found.get("enabled") is False:
            del self.problems[before:]
            self.withheld[name] = f"is disabled at {self._place((*path, 'enabled'))}"
            return
        policy = self._policy(name, found, filters) if len(self.problems) == before else None
        if policy is not None and not policy.recidive and not options.RULE.keys().isdisjoint(found):
            self._flaw(path, policy.rule)
        if policy is not None and len(self.problems) == before:
            self.jails[name] = policy
        else:
            self.withheld[name] = f"is left out for a mistake at {self._place(path)}"

    def _policy(
        self, name: str, found: options.Options, filters: Mapping[str, FilterText]
    ) -> JailPolicy | None:
        path = ("jails", name)
        wanted = found.get("filter", name)
        policy = replace(self._base, name=name)
        dormant = self._dormant
        if name == RECIDIVE and not found.keys().isdisjoint(options.DEFINING):
            option = next(option for option in options.DEFINING if option in found)
            self._report((*path, option), recidive.defined(option))
            return None
        borrowed = self._borrowed if "filter" not in found and name not in self.filters else None
        if borrowed is not None and name in theirs(borrowed, self._shipped):
            try:
                policy = borrowed.jail(name, self._base, dormant)
                dormant = borrowed.dormant(name, dormant)
            except Mistake as mistake:
                self._report(path, mistake)
                return None
        elif name == RECIDIVE:
            policy = recidive.builtin(self._base)
        elif wanted in filters:
            try:
                policy = with_filter(policy, name, filters[wanted])
            except Mistake as mistake:
                self._report((*path, "filter"), mistake)
                return None
        elif "filter" in found:
            self._report((*path, "filter"), self._no_filter(wanted, filters))
            return None
        elif "failregex" not in found and "address" not in found:
            if name in self.spoilt:
                self._report(path, self._no_filter(name, filters))
            else:
                remedy = "write filter = 'NAME', or failregex = ['…<HOST>…']"
                self._report(path, Mistake("has neither filter nor failregex", remedy))
            return None
        policy = options.tune(options.define(policy, found), found, dormant=dormant)
        self.growing[name] = options.growth(policy.growth or dormant, found)
        if "ports" in found or "scope" in found:
            policy = replace(policy, and_published=False)
        if "scope" in found and "ports" not in found:
            policy = replace(policy, ports=None)
        ignored = values.Ignored(policy.ignoreip, policy.ignorefrom)
        ignored |= found.get("ignoreip", values.NOBODY)
        return replace(
            policy,
            origin=Origin.DAEMON,
            ignoreip=ignored.addresses,
            ignorefrom=ignored.sources,
        )

    def _no_filter(self, name: str, filters: Mapping[str, FilterText]) -> Mistake:
        if name in self.spoilt:
            place = self._place(("filters", name))
            return Mistake(f"its filter is left out for a mistake at {place}", "mend the filter")
        return Mistake(f"there is no filter {shown(name)}", meant(name, filters))

    def _options(
        self, path: Path, table: object, known: Mapping[str, Callable[[object], object]]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        try:
            values.name(path[-1])
        except Mistake as mistake:
            self._report(path, mistake)
        if not isinstance(table, dict):
            header = f"[{path[0]}.{path[1]}]"
            remedy = f"write {header} on a line of its own, its options below"
            self._report(path, Mistake(f"{shown(table)} is no table of options", remedy))
            return found
        for option, value in table.items():
            try:
                found[option] = _value(option, value, known)
            except Mistake as mistake:
                self._report((*path, option), mistake)
        return found

    def _flaw(self, path: Path, rule: Rule) -> None:
        flawed = flaw(rule)
        if flawed is not None:
            self._report((*path, flawed[0]), Mistake(flawed[1]))

    def _report(self, path: Path, mistake: Mistake) -> None:
        self.problems.append(mistake.at(self._place(path)))


def _value(option: str, value: object, known: Mapping[str, Callable[[object], object]]) -> object:
    if option not in known:
        raise Mistake("is no option known here", meant(option, known))
    found = known[option](value)
    if option == "failregex" and not found:
        raise Mistake("is empty", "write an expression with <HOST>, or leave it out")
    return found
