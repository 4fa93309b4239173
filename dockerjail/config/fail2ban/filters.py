"""
A filter of fail2ban's with its options in, a `Rule` out. Pure.

In: the filter's definition, and what the jail sets itself of the keys of a filter. Out: the
rule, not compiled, and what its author should know. What holds, as fail2ban 1.0.2 does it:

* failregex, ignoreregex: the jail's in place of the filter's; those in brackets or in
  `[Init]` stand before the jail's.
* prefregex, maxlines, usedns: those in brackets or in `[Init]`, then the jail's, then the
  filter's. datepattern: the jail's first.

What reaches a container's stdout lacks the syslog prefix, and a filter whose prefregex
looks for one can take the line's first word for it: its rule gets a `prefix` to put before
a line that misses without (`sshd[1]: `).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dockerjail.config import values
from dockerjail.config.fail2ban.daemon import a_name
from dockerjail.config.fail2ban.definition import DEFINITION, Definition
from dockerjail.config.fail2ban.merged import Merged
from dockerjail.config.fail2ban.mistakes import Fail2banError, problem
from dockerjail.config.fail2ban.reference import Reference
from dockerjail.config.mistake import Mistake, shown
from dockerjail.jail.possessive import forgets
from dockerjail.jail.rule import Rule, UseDns
from dockerjail.model import Problem

STANDARD: Final = frozenset(
    {"failregex", "ignoreregex", "prefregex", "datepattern", "maxlines", "usedns"}
)
"""What fail2ban reads of a filter; any other key is a name to be used in these."""

_REGEXES: Final = ("failregex", "ignoreregex", "prefregex")
_ENVELOPE: Final = re.compile(r'"log\\?"(?:\\s[*+?]?|\s)*:')
_NOBODYS: Final = re.compile(r"\^?<[a-z][\w-]*>\$?")

MOST_LINES: Final = 1000
"""What `maxlines` can be."""

Places = Mapping[str, str]
"""Where each key is set, for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterReading:
    """What a filter says, and what its author should know."""

    rule: Rule
    problems: tuple[Problem, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    """Where each of a rule's regexes stands, by option."""


def definition(
    merged: Merged, reference: Reference, *, jail: Mapping[str, str], place: str
) -> Definition:
    """
    Return a filter's definition; `jail` has what the jail hands on.

    Lines come from containers: `logtype` is `file` unless somebody chose.
    """
    options = dict(reference.options)
    if not options.get("logtype") and merged.own(DEFINITION, "logtype") is None:
        options["logtype"] = "file"
    return Definition(merged, given=options, jail=jail, standard=STANDARD, place=place)


def read(
    name: str, filter_: Definition | None, *, jail: Mapping[str, str], places: Places
) -> FilterReading:
    """
    Return the rule of a filter (None: the jail has only its own regexes).

    `jail` has the keys that the jail sets, `places` where they stand. Raises
    `Fail2banError`.
    """
    return _Reader(name, filter_, jail, places).reading()


class _Reader:
    def __init__(
        self, name: str, filter_: Definition | None, jail: Mapping[str, str], places: Places
    ) -> None:
        self._name = name
        self._filter = filter_
        self._jail = jail
        self._places = places
        self._problems: list[Problem] = [*filter_.remarks] if filter_ else []

    def reading(self) -> FilterReading:
        prefregex = self._one("prefregex") or ""
        maxlines = self._maxlines()
        rule = Rule(
            failregex=self._regexes("failregex"),
            ignoreregex=self._regexes("ignoreregex"),
            prefregex=prefregex,
            datepattern=_lines(self._one("datepattern", jail_first=True)),
            maxlines=maxlines,
            usedns=self._usedns(),
            prefix=self._prefix(prefregex) if maxlines == 1 else "",
        )
        rule = replace(rule, wrapped=any(_ENVELOPE.search(each) for each in rule.failregex))
        self._remark(rule)
        places = {key: self._place(key) for key in (*_REGEXES, "datepattern")}
        return FilterReading(rule=rule, problems=tuple(self._problems), places=places)

    def _remark(self, rule: Rule) -> None:
        """Say which regexes match nothing here."""
        for regex in rule.failregex:
            if _NOBODYS.fullmatch(regex.strip()):
                what = f"the failregex {shown(regex.strip())} stands for nothing that is defined"
                remedy = "look whether the mode is one of the filter's"
                self._problems.append(problem(self._place("failregex"), what, remedy))

    def _given(self, key: str) -> str | None:
        return self._filter.given(key) if self._filter else None

    def _own(self, key: str) -> str | None:
        return self._filter.text(key) if self._filter else None

    def _one(self, key: str, *, jail_first: bool = False) -> str | None:
        """Return the value of a key that has only one."""
        if key not in self._jail:
            return self._own(key)
        given = None if jail_first else self._given(key)
        return self._jail[key] if given is None else given

    def _regexes(self, key: str) -> tuple[str, ...]:
        if key not in self._jail:
            return _lines(self._own(key))
        return (*_lines(self._given(key)), *_lines(self._jail[key]))

    def _maxlines(self) -> int:
        text = self._one("maxlines")
        if text is None:
            return 1
        try:
            return values.count(text, most=MOST_LINES)
        except Mistake as mistake:
            raise Fail2banError(mistake.at(self._place("maxlines"))) from None

    def _usedns(self) -> UseDns:
        text = self._one("usedns")
        if text is None:  # only without fail2ban's own jail.conf: there it is warn
            return UseDns.NO
        word = text.strip().lower()
        if word in tuple(UseDns):
            return UseDns(word)
        place = self._place("usedns")
        if word == "raw":
            what = "usedns = raw would ban a name, and only addresses can be banned: it is no here"
            self._problems.append(problem(place, what, "write usedns = no"))
        else:
            what = f"usedns = {shown(text)} is none of yes, warn and no: it is no here"
            self._problems.append(problem(place, what, "write usedns = no"))
        return UseDns.NO

    def _prefix(self, prefregex: str) -> str:
        """Return what makes a line look as if syslog had written it, empty where none is needed."""
        if self._filter is None or "<F-CONTENT>" not in prefregex:
            return ""
        prefix_line = self._filter.text("__prefix_line")
        if not prefix_line or prefix_line not in prefregex:
            return ""
        daemon = self._filter.text("_daemon") or ""
        for name in (self._name, a_name(daemon)):
            prefix = f"{name}[1]: "
            if name and _matches(daemon, name) and _matches(prefix_line, prefix):
                return prefix
        return ""

    def _place(self, key: str) -> str:
        if self._filter is None or (key in self._jail and self._given(key) is None):
            return self._places.get(key, "")
        return self._filter.place(key)


def _lines(text: str | None) -> tuple[str, ...]:
    return tuple(line for line in (text or "").split("\n") if line.strip())


def _matches(regex: str, text: str) -> bool:
    try:
        return not forgets(regex) and re.fullmatch(regex, text) is not None
    except (re.error, OverflowError, RecursionError):
        return False
