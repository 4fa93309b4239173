"""
A jail of fail2ban's: merged files in, what dockerjail runs of it out. Pure.

In: the merged `jail` configuration, and where a filter's or an action's files come from.
Out: a `Fail2banJail` with its rule, its numbers and its ports, and two lists: `notes` say
what is not needed here, `problems` what an operator should act on. A jail that cannot be
used raises `Fail2banError` and touches no other.

fail2ban ignores keys that it does not know, so a jail may carry some of ours and stay
valid for both: `OUR_KEYS`.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final, TypeVar

from dockerjail.config import duration, options, recidive, values
from dockerjail.config.fail2ban import actions, filters, reference
from dockerjail.config.fail2ban.definition import DEFINITION, Definition
from dockerjail.config.fail2ban.ini import DEFAULT
from dockerjail.config.fail2ban.interpolate import Names
from dockerjail.config.fail2ban.merged import INCLUDES, Merged, MergedSection
from dockerjail.config.fail2ban.mistakes import Fail2banError, problem, wrong
from dockerjail.config.mistake import Mistake, listed, meant, nearest, shown
from dockerjail.config.recidive import RECIDIVE
from dockerjail.jail.rule import NOTHING, Rule
from dockerjail.model import Port, Problem

MAXRETRY: Final = 3
FINDTIME: Final = 600.0
BANTIME: Final[float | None] = 600.0
"""What fail2ban does when not even its own jail.conf is there; times in seconds."""

OURS: Final = "dockerjail."
"""What keys of ours begin with."""

OUR_KEYS: Final = (
    *("prefix", "format", "scope", "stream", "ports", "ipv4_prefix", "ipv6_prefix"),
    *("aggregate", "mode", "verify", "bantime.decay"),
)
"""What may stand behind it."""

TRUE: Final = frozenset({"1", "on", "true", "yes"})
"""What fail2ban takes for true; anything else is false."""

_HANDED_ON: Final = (
    *("enabled", "backend", "filter", "maxretry", "findtime", "bantime"),
    *sorted(filters.STANDARD),
)
_GROWTH: Final = (
    *("bantime.increment", "bantime.factor", "bantime.formula", "bantime.multipliers"),
    *("bantime.maxtime", "bantime.rndtime", "bantime.overalljails"),
)
_FLAGS: Final = ("bantime.overalljails",)
"""What of `options.GROWTH` fail2ban takes for true or false, whatever stands there."""
_UNNEEDED: Final = {
    "logpath": "is not needed: the jail runs on the containers whose label names it",
    "backend": "is not needed: lines come from the Docker Engine",
    "journalmatch": "is not needed: lines come from the Docker Engine",
    "logencoding": "is not needed: containers' lines are UTF-8",
    "logtimezone": "is not needed: the Engine's time of a line counts",
    "chain": "is not needed: bans stand before every chain",
    "maxmatches": "is not needed: all lines that led to a ban are kept",
    "ignorecache": "is not needed: no command is run to ignore an address",
}
_KEYS: Final = frozenset(
    {
        *("port", "protocol", "action", "banaction", "banaction_allports", "ignoreip"),
        *("ignoreself", "ignorecommand", "mode", "blocktype", "destemail", "sender", "mta"),
        *_HANDED_ON,
        *_UNNEEDED,
        *_GROWTH,
    }
)
"""Keys that mean something in a jail; others are names for its own use."""
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail2banJail:
    """
    One jail as its files mean it; times in seconds, `bantime` None is for good.

    `ports` None and not `everything`: nothing says which; `reject` None: nobody chose. `growth`
    is what is said of `bantime.increment` and its kin, as `options.TUNING` reads it. One that is
    `recidive` counts bans, and its rule is nothing. `disabled` is where the jail's
    own section says `enabled = false`, else empty. `ours` are its `dockerjail.` keys
    without that, raw; `prefix` and `format` are in the rule already.
    """

    name: str
    place: str
    rule: Rule
    maxretry: int = MAXRETRY
    findtime: float = FINDTIME
    bantime: float | None = BANTIME
    ignored: values.Ignored = values.NOBODY
    ports: tuple[Port, ...] | None = None
    everything: bool = False
    reject: bool | None = None
    growth: Mapping[str, Any] = field(default_factory=dict)
    recidive: bool = False
    disabled: str = ""
    ours: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    """Where each of its rule's regexes stands, by option."""
    notes: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Where a jail finds what it refers to; both return None when there is no such file."""

    filter: Callable[[str], Merged | None]
    action: Callable[[str], Merged | None]
    filters: Callable[[], tuple[str, ...]]


def ignored(text: str) -> tuple[values.Ignored, tuple[Mistake, ...]]:
    """Return whom an `ignoreip` lets pass, and what in it is nobody."""
    found = values.NOBODY
    mistakes: list[Mistake] = []
    for word in text.replace(",", " ").split():
        try:
            found |= values.ignored(word)
        except Mistake as mistake:
            mistakes.append(mistake)
    return found, tuple(mistakes)


def names(merged: Merged) -> tuple[str, ...]:
    """Return the names of all jails, in the order in which they are written."""
    return tuple(name for name in merged.sections if name not in (INCLUDES, DEFAULT))


def misnamed(merged: Merged) -> tuple[Problem, ...]:
    """Return what is wrong with the headers of sections: what fail2ban takes for odd jails."""
    found: list[Problem] = []
    for name in names(merged):
        place = merged.sections[name].place
        if name.upper() in (DEFAULT, f"{DEFAULT}S"):
            what = "holds for no jail: in fail2ban's files a name in other letters is another name"
            found.append(problem(place, what, f"write [{DEFAULT}]"))
            continue
        try:
            values.name(name)
        except Mistake as mistake:
            found.append(mistake.at(place))
    return tuple(found)


def enabled(name: str, merged: Merged) -> bool:
    """Say whether fail2ban would run a jail; one that cannot be understood it would not."""
    try:
        merged.require(name, DEFAULT)
        text = Names(merged, name).text("enabled") or ""
    except Fail2banError:
        return False
    return text.strip().lower() in TRUE


def read(
    name: str, merged: Merged, library: Library, *, builtin: Mapping[str, str]
) -> Fail2banJail:
    """Return the jail `name`; `builtin` are names that fail2ban defines itself."""
    section = merged.sections.get(name)
    if section is None or name not in names(merged):
        raise wrong("jail", f"there is no jail {shown(name)}", meant(name, names(merged)))
    merged.require(name, DEFAULT)
    try:
        values.name(name)
    except Mistake as mistake:
        raise Fail2banError(mistake.at(section.place)) from None
    return _Reader(section, merged, library, builtin).jail()


def load_filter(text: str, library: Library, place: str) -> tuple[reference.Reference, Merged]:
    """Return the filter that a reference names. Raises `Fail2banError`."""
    try:
        found = reference.one(text)
    except Mistake as mistake:
        raise Fail2banError(mistake.at(place)) from None
    merged = library.filter(found.name)
    if merged is None:
        raise no_filter(found.name, library.filters(), place)
    return found, merged


def no_filter(name: str, known: tuple[str, ...], place: str) -> Fail2banError:
    """Return the error to raise for a filter that has no file."""
    if name in known:
        what = f"the filter {shown(name)} is a link that leads nowhere"
        return wrong(place, what, "mend it, or mount what it leads to, too")
    remedy = meant(name, known) or "put fail2ban's own filter.d beside jail.conf"
    return wrong(place, f"there is no filter {shown(name)}", remedy)


def _nothing_to_look_for(name: str, merged: Merged, place: str) -> Fail2banError:
    """Return the error to raise for a filter's file without a failregex."""
    section = merged.sections.get(DEFINITION)
    if section is None:
        close = nearest(DEFINITION, merged.sections)
        what = f"the filter {name} has no section [{DEFINITION}]"
        return wrong(
            merged.sections[close].place if close else place, what, f"write [{DEFINITION}]"
        )
    what = f"the filter {name} has no failregex"
    close = nearest("failregex", section.layers.keys() - filters.STANDARD)
    if close is not None:
        return wrong(section.layers[close][-1].entry.place, what, "write failregex")
    return wrong(section.place, what, "write failregex = … with <HOST> where the address is")


class _Reader:
    """What has been understood of one jail so far."""

    def __init__(
        self,
        section: MergedSection,
        merged: Merged,
        library: Library,
        builtin: Mapping[str, str],
    ) -> None:
        self._name = section.name
        self._place = section.place
        self._merged = merged
        self._library = library
        self._builtin = builtin
        self._names = Names(merged, section.name, builtin=builtin)
        self._places: Mapping[str, str] = {}
        self._notes: list[Problem] = []
        self._problems: list[Problem] = [*section.remarks]
        default = merged.sections.get(DEFAULT)
        self._problems += default.remarks if default else ()

    def jail(self) -> Fail2banJail:
        counts = self._name == RECIDIVE
        rule = NOTHING if counts else self._rule()
        enforcement = self._enforcement()
        jail = Fail2banJail(
            name=self._name,
            place=self._place,
            rule=rule,
            maxretry=self._number("maxretry", values.count, MAXRETRY),
            findtime=self._number("findtime", duration.parse, FINDTIME),
            bantime=self._number("bantime", duration.parse_bantime, BANTIME),
            growth=self._growth(),
            ignored=self._ignored(),
            ports=enforcement.ports,
            everything=enforcement.everything,
            reject=enforcement.reject,
            disabled=self._disabled(),
        )
        if counts:
            jail = self._recidive(jail)
        ours = self._ours()
        self._remark()
        return replace(
            jail,
            rule=self._our_rule(rule, ours),
            ours=MappingProxyType(ours),
            places=self._places,
            notes=tuple(dict.fromkeys(self._notes)),
            problems=tuple(dict.fromkeys(self._problems)),
        )

    def _rule(self) -> Rule:
        early = {key: self._names.text(key) or "" for key in ("enabled", "backend", "filter")}
        definition: Definition | None = None
        text, place = early["filter"], self._names.place("filter")
        name = self._name
        merged: Merged | None = None
        found = None
        if text.strip():
            found, merged = load_filter(text, self._library, place)
            name = found.name
            if name == RECIDIVE:
                what = f"the filter {RECIDIVE} reads fail2ban's own log, which nobody writes here"
                remedy = f"write its options under [{RECIDIVE}], which needs no log"
                self._problems.append(problem(place, what, remedy))
            known = filters.definition(merged, found, jail=early, place=place).known
            self._names = Names(self._merged, self._name, builtin=self._builtin, known=known)
        jail = {key: value for key in _HANDED_ON if (value := self._names.text(key)) is not None}
        if found is not None and merged is not None:
            definition = filters.definition(merged, found, jail=jail, place=place)
        places = {key: self._names.place(key) for key in jail}
        standard = {key: jail[key] for key in filters.STANDARD if key in jail}
        if self._is_stock("usedns") and standard.pop("usedns", None) is not None:
            what = "is nobody's choice: names are not looked up unless a file of yours says so"
            self._notes.append(problem(places["usedns"], what))
        reading = filters.read(name, definition, jail=standard, places=places)
        self._problems += reading.problems
        self._places = reading.places
        if not reading.rule.failregex:
            if merged is not None and "failregex" not in jail:
                raise _nothing_to_look_for(name, merged, self._place)
            remedy = "write failregex = … with <HOST> where the address is"
            raise wrong(self._place, "has no failregex", remedy)
        return reading.rule

    def _is_stock(self, key: str) -> bool:
        """Say whether a value is the default of fail2ban's own jail.conf."""
        entry = self._merged.entry(self._name, key)
        own = self._merged.own(self._name, key)
        return entry is not None and own is None and PurePath(entry.file).name == "jail.conf"

    def _enforcement(self) -> actions.Enforcement:
        place = self._names.place("action")
        port_place = self._names.place("port")
        try:
            references = reference.several(self._names.text("action") or "")
        except Mistake as mistake:
            raise Fail2banError(mistake.at(place)) from None
        reader = actions.Reader(place, port_place)
        found = reader.read(
            actions.Action(reference=each, file=self._library.action(each.name) or Merged(()))
            for each in references
        )
        if found.skipped:
            what = f"not run here: {listed(found.skipped)}"
            self._problems.append(problem(place, what, "have what reads dockerjail's log do it"))
        if references and not found.firewall:
            what = "no action of this jail is a firewall's, and dockerjail bans all the same"
            self._problems.append(problem(place, what, "take the jail's label off if it must not"))
        port = self._names.text("port")
        if port is not None and not found.firewall:
            found = reader.plain(port, self._names.text("protocol") or "tcp")
        self._problems += found.problems
        return found

    def _number(self, key: str, read: Callable[[object], _Value], absent: _Value) -> _Value:
        text = self._names.text(key)
        if text is None:
            return absent
        try:
            return read(text)
        except Mistake as mistake:
            raise Fail2banError(mistake.at(self._names.place(key))) from None

    def _growth(self) -> dict[str, Any]:
        """Return what is said of growing bans; an empty value says nothing, as for fail2ban."""
        found: dict[str, Any] = {}
        said = {
            option: text for option in _GROWTH if (text := (self._names.text(option) or "").strip())
        }
        if options.INCREMENT in said:
            found[options.INCREMENT] = said.pop(options.INCREMENT).lower() in TRUE
        for option, text in said.items():
            place = self._names.place(option)
            try:
                flag = text.lower() in TRUE
                found[option] = flag if option in _FLAGS else options.GROWTH[option](text)
            except Mistake as mistake:
                if found.get(options.INCREMENT):
                    raise Fail2banError(mistake.at(place)) from None
                self._problems.append(mistake.at(place))
        return found

    def _recidive(self, jail: Fail2banJail) -> Fail2banJail:
        """
        Return `jail` as one that counts bans: what its own section says of how many and how long.

        A findtime and bantime of `[DEFAULT]` are meant for lines.
        """
        what = (
            "counts bans as they are made: its filter, log and ports are not needed, "
            "and it runs for the whole host if it is enabled"
        )
        self._notes.append(problem(self._place, what))
        own = {key for key in ("findtime", "bantime") if self._merged.own(self._name, key)}
        return replace(
            jail,
            findtime=jail.findtime if "findtime" in own else recidive.FINDTIME,
            bantime=jail.bantime if "bantime" in own else recidive.BANTIME,
            ports=None,
            everything=False,
            recidive=True,
        )

    def _ignored(self) -> values.Ignored:
        found, mistakes = ignored(self._names.text("ignoreip") or "")
        place = self._names.place("ignoreip")
        for mistake in mistakes:
            what = f"{mistake.what}: it is not ignored"
            self._problems.append(problem(place, what, mistake.remedy))
        return found

    def _disabled(self) -> str:
        entry = self._merged.own(self._name, "enabled")
        text = self._names.text("enabled") or ""
        return entry.place if entry and text.strip().lower() not in TRUE else ""

    def _remark_misspelt(self) -> None:
        """Say which keys of the jail are nobody's, and were most likely meant to be one."""
        own = self._merged.sections[self._name].layers
        default = self._merged.sections.get(DEFAULT)
        texts = [
            layer.entry.text
            for layers in (*own.values(), *(default.layers.values() if default else ()))
            for layer in layers
        ]
        for key in own.keys() - _KEYS:
            if any(f"({key})s" in text for text in texts):
                continue
            if key.startswith("bantime."):
                what = f"{shown(key)} is no option of fail2ban's, and says nothing"
                remedy = meant(key, (*_GROWTH, *map(OURS.__add__, OUR_KEYS)))
                self._problems.append(problem(self._names.place(key), what, remedy))
            if "." in key:
                continue
            close = difflib.get_close_matches(key, sorted(_KEYS), n=1, cutoff=0.85)
            if close and close[0] not in own:
                what = f"{shown(key)} is no option of a jail, and says nothing"
                self._problems.append(problem(self._names.place(key), what, f"write {close[0]}"))

    def _ours(self) -> dict[str, str]:
        """Return our own keys, of this jail or of all."""
        found: dict[str, str] = {}
        for name in (DEFAULT, self._name):
            section = self._merged.sections.get(name)
            for key in section.layers if section else ():
                if not key.startswith(OURS):
                    continue
                word = key.removeprefix(OURS)
                if word in OUR_KEYS:
                    found[word] = self._names.text(key) or ""
                else:
                    what = f"dockerjail has no key {shown(key)}"
                    remedy = meant(word, OUR_KEYS, prefix=OURS)
                    self._problems.append(problem(self._names.place(key), what, remedy))
        return found

    def _our_rule(self, rule: Rule, ours: Mapping[str, str]) -> Rule:
        if "prefix" in ours:
            prefix = ours["prefix"].strip()
            if len(prefix) > 1 and prefix[0] == prefix[-1] and prefix[0] in "\"'":
                prefix = prefix[1:-1]
            elif prefix:
                # a file keeps no blank at the end of a value
                prefix += " "
            rule = replace(rule, prefix=prefix)
        if "format" in ours:
            try:
                rule = replace(rule, format=values.format(ours["format"]))
            except Mistake as mistake:
                raise Fail2banError(mistake.at(self._names.place(f"{OURS}format"))) from None
        return rule

    def _remark(self) -> None:
        """Say what is not taken over."""
        self._remark_misspelt()
        for key, what in _UNNEEDED.items():
            if self._name != RECIDIVE and self._merged.own(self._name, key):
                self._notes.append(problem(self._names.place(key), what))
        if (self._names.text("ignorecommand") or "").strip():
            what = "ignorecommand is not run: what it would let pass is banned"
            remedy = "write the addresses in ignoreip"
            self._problems.append(problem(self._names.place("ignorecommand"), what, remedy))
        own = self._names.text("ignoreself")
        if own is not None and own.strip().lower() not in TRUE:
            what = "the host's own addresses are never banned here, whatever it says"
            self._notes.append(problem(self._names.place("ignoreself"), what))
