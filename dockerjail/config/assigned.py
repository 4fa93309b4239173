"""
Which containers the daemon's own file gives jails to, without a label. Pure.

In: the tables `[containers."PATTERN"]`. Out: `Assigned` values, and a `Problem` for what
is wrong with one; a jail that does not exist is left out, the others stay.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from dockerjail.config import values
from dockerjail.config.mistake import Mistake, meant, shown
from dockerjail.config.places import Path
from dockerjail.jail.rule import Format
from dockerjail.model import Container, Problem

OPTIONS: Mapping[str, Callable[[object], object]] = MappingProxyType(
    {"jails": values.names, "format": values.format}
)
"""All that `[containers."PATTERN"]` may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """What the containers get whose name or service `pattern` matches, as in a shell."""

    pattern: str
    jails: tuple[str, ...] = ()
    format: Format | None = None

    def covers(self, container: Container) -> bool:
        """Say whether `container` is meant."""
        return any(fnmatchcase(each, self.pattern) for each in (container.name, container.service))


def read(
    tables: Mapping[str, Any],
    *,
    jails: Collection[str],
    withheld: Mapping[str, str],
    place: Callable[[Path], str],
) -> tuple[tuple[Assigned, ...], tuple[Problem, ...]]:
    """Read all tables; `jails` are the known ones, `withheld` says why one is not."""
    found: list[Assigned] = []
    problems: list[Problem] = []
    for pattern, table in tables.items():
        path = ("containers", pattern)
        if not isinstance(table, dict):
            remedy = f'write [containers."{pattern}"] on a line of its own, its options below'
            problems.append(
                Mistake(f"{shown(table)} is no table of options", remedy).at(place(path))
            )
            continue
        options: dict[str, Any] = {}
        for option, value in table.items():
            try:
                options[option] = _value(option, value)
            except Mistake as mistake:
                problems.append(mistake.at(place((*path, option))))
        wanted = []
        for name in options.get("jails", ()):
            if name in jails:
                wanted.append(name)
            else:
                problems.append(_missing(name, jails, withheld).at(place((*path, "jails"))))
        found.append(Assigned(pattern=pattern, jails=tuple(wanted), format=options.get("format")))
    return tuple(found), tuple(problems)


def _value(option: str, value: object) -> object:
    if option not in OPTIONS:
        raise Mistake("is no option known here", meant(option, OPTIONS))
    return OPTIONS[option](value)


def _missing(name: str, jails: Collection[str], withheld: Mapping[str, str]) -> Mistake:
    if name in withheld:
        return Mistake(f"jail {name} {withheld[name]}", "mend it there, or take another")
    return Mistake(f"there is no jail {shown(name)}", meant(name, jails))
