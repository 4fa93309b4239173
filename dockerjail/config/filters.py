"""
Filters by name: the shipped ones, overlaid by fail2ban's and those of the daemon's file.

A shipped filter is a file of its own and is read when somebody asks for it by name, not
before: there are many, a daemon uses a few. Nothing is compiled here.
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dockerjail.config import values
from dockerjail.config.borrowed import Borrowed
from dockerjail.config.mistake import Mistake
from dockerjail.config.options import RULE, rule
from dockerjail.jail.policy import ALL_STREAMS, Origin
from dockerjail.jail.rule import NOTHING, Rule
from dockerjail.model import Stream

SHIPPED = Path(__file__).resolve().parent.parent / "filters"
"""The shipped filters, one TOML file each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterText:
    """
    A filter as it is written; `origin` is who wrote the failregex.

    `streams` are where the application prints such lines: whoever can break a line on one
    stream must not be believed on the other.
    """

    name: str
    origin: Origin
    rule: Rule = NOTHING
    streams: frozenset[Stream] = ALL_STREAMS
    description: str = ""


class Shipped(Mapping[str, FilterText]):
    """The filters in a directory, read one by one when asked for."""

    def __init__(self, directory: Path = SHIPPED) -> None:
        self._paths = {path.stem: path for path in sorted(directory.glob("*.toml"))}
        self._read: dict[str, FilterText] = {}

    def __getitem__(self, name: str) -> FilterText:
        if name not in self._read:
            self._read[name] = _read(name, self._paths[name])
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


class Filters(Mapping[str, FilterText]):
    """
    Shipped filters, overlaid by a user's for fail2ban (`borrowed`), overlaid by `own`.

    What fail2ban itself comes with overlays nothing, unless it is given options. Those in `withheld` are left out. What is asked for may have options in brackets, if
    it is one of fail2ban's: `sshd[mode=aggressive]`. Getting one of those raises
    `Mistake` when its files are wrong.
    """

    def __init__(
        self,
        own: Mapping[str, FilterText],
        *,
        shipped: Mapping[str, FilterText],
        borrowed: Borrowed | None = None,
        withheld: Collection[str] = (),
    ) -> None:
        self._own = own
        self._shipped = shipped
        self._borrowed = borrowed
        theirs = borrowed.filters if borrowed is not None else frozenset()
        self._theirs = theirs - {*own, *withheld}
        self._yielding = {
            name
            for name in self._theirs.intersection(shipped)
            if borrowed is not None and borrowed.stock_filter(name)
        }
        self._names = tuple(sorted({*own, *shipped, *theirs} - {*withheld}))
        self._known = frozenset(self._names)

    def __getitem__(self, reference: str) -> FilterText:
        if reference not in self:
            raise KeyError(reference)
        name = _name(reference)
        yields = name in self._yielding and reference == name
        if self._borrowed is not None and name in self._theirs and not yields:
            # nobody made a jail of it: a label that names it gets what a shipped one would get
            return FilterText(name=name, origin=Origin.SHIPPED, rule=self._borrowed.rule(reference))
        if reference != name:
            what = f"filter {name} takes no options in brackets; those are for fail2ban's filters"
            raise Mistake(what, f"write {name}")
        return self._own[name] if name in self._own else self._shipped[name]

    def __contains__(self, reference: object) -> bool:
        return isinstance(reference, str) and _name(reference) in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _name(reference: str) -> str:
    """Return the filter's name in `name[option=value]`."""
    return reference.partition("[")[0].strip()


def _read(name: str, path: Path) -> FilterText:
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return FilterText(
        name=name,
        origin=Origin.SHIPPED,
        rule=parse(data),
        streams=values.streams(data.get("stream", "both")),
        description=data.get("description", ""),
    )


def parse(data: Mapping[str, object]) -> Rule:
    """Return the rule that a filter's file describes; raises `Mistake` for a wrong option."""
    return rule(NOTHING, {key: RULE[key](data[key]) for key in RULE if key in data})
