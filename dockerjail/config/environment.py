"""
Environment variables in, the same tree that a file gives out. Pure.

`DOCKERJAIL_DOCKER__LABELS=tune` is `[docker] labels`; `__` goes one level down. Sections
and options in any case; a jail's name is found among the known ones whatever its case,
with `_` for `-` and `.`, since a shell allows neither in a variable; so is an option
(`DOCKERJAIL_DEFAULTS__BANTIME_INCREMENT`). An empty variable
is one that is not set: compose files pass on `${UNSET:-}` so.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dockerjail.config.mistake import Mistake, meant, nearest, shown
from dockerjail.config.places import Path
from dockerjail.model import Problem

PREFIX = "DOCKERJAIL_"
FILE = "DOCKERJAIL_CONFIG"
"""Names the file itself, so it is no setting."""

NAMED = ("jails", "filters")
"""Sections whose second level is a name that somebody chose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the environment sets: a tree of texts, and the variable of each path in it, for people."""

    tree: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[Path, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def read(
    environ: Mapping[str, str],
    *,
    sections: Mapping[str, Collection[str]],
    names: Collection[str],
) -> Environment:
    """
    Read all variables that begin with `DOCKERJAIL_`.

    `sections` are the known options by section, those of one jail or filter for the
    sections in `NAMED`; `names` the jails and filters that are known already.
    """
    tree: dict[str, Any] = {}
    variables: dict[Path, str] = {}
    problems: list[Problem] = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == FILE or not environ[variable].strip():
            continue
        called = variable if variable.isprintable() else shown(variable)
        try:
            path = _path(variable, sections, names)
        except Mistake as mistake:
            problems.append(mistake.at(f"environment variable {called}"))
            continue
        branch = tree
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
        branch[path[-1]] = environ[variable]
        variables[path] = called
    return Environment(tree=tree, variables=variables, problems=tuple(problems))


def _path(variable: str, sections: Mapping[str, Collection[str]], names: Collection[str]) -> Path:
    section, *rest = variable.removeprefix(PREFIX).split("__")
    section = section.lower()
    if section in NAMED and len(rest) == 2 and rest[0]:
        # An unknown option is that jail's mistake: the jail is left out, the rest runs.
        option = rest[1].lower()
        return section, _name(rest[0], names), _options(sections[section]).get(option, option)
    if section in sections and section not in NAMED and len(rest) == 1:
        options = _options(sections[section])
        if rest[0].lower() in options:
            return section, options[rest[0].lower()]
        known = {option.upper() for option in options}
        if nearest(rest[0], known):
            remedy = meant(rest[0], known, prefix=f"{PREFIX}{section.upper()}__")
            raise Mistake("is no setting", remedy)
    raise Mistake("is no setting", _remedy(variable, section, sections))


def _options(known: Collection[str]) -> Mapping[str, str]:
    """Return the known options by how a variable writes them: `bantime_increment`."""
    return {option.replace(".", "_"): option for option in known}


def _name(word: str, names: Collection[str]) -> str:
    for name in sorted(names):
        if _plain(name) == _plain(word):
            return name
    return word.lower()


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _remedy(variable: str, section: str, sections: Mapping[str, Collection[str]]) -> str:
    if section in NAMED:
        options = "OPTION" if section == "jails" else "FAILREGEX"
        return f"write {PREFIX}{section.upper()}__NAME__{options}"
    known = {
        f"{PREFIX}{name}__{option}".upper()
        for name, options in sections.items()
        if name not in NAMED
        for option in _options(options)
    }
    within = {name for name in known if name.startswith(f"{variable.upper()}__")}
    if within:
        return f"write one of {', '.join(sorted(within))}"
    # DOCKERJAIL_ itself is no likeness: compare what follows it.
    close = nearest(
        variable.removeprefix(PREFIX), {name.removeprefix(PREFIX) for name in (*known, FILE)}
    )
    if close is not None:
        return f"write {PREFIX}{close}"
    return f"write {PREFIX}SECTION__OPTION with a section of {', '.join(sorted(sections))}"
