"""
Several of fail2ban's files as one: later ones override, key by key. Pure.

In: files in the order in which they are read. Out: for each section and key the values it
was given, one per file, last the one that holds. The ones before it are what `known/KEY`
means. A section `[NAME?CONDITION]` gives `NAME` keys of the form `KEY?CONDITION`.

A file that is read twice (two files include it) overrides again, but is no override of
itself. Sections with mistakes are there, so that who needs one can be told.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dockerjail.config.fail2ban.ini import DEFAULT, Entry, Ini, Section
from dockerjail.config.fail2ban.mistakes import Fail2banError
from dockerjail.model import Problem

INCLUDES = "INCLUDES"
"""The section that names other files; it is none of the configuration."""

_CONDITIONAL = re.compile(r"(?P<name>\w+)(?P<condition>\?.+)")


class Layer(NamedTuple):
    """A value that one file gave; `order` says how late that file was read."""

    entry: Entry
    order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedSection:
    """
    A section of all files together.

    `layers` are the values of each key, the one that holds last. `parts` are the
    section as each file has it.
    """

    name: str
    layers: Mapping[str, Sequence[Layer]]
    parts: tuple[Section, ...]

    @property
    def place(self) -> str:
        """Where it stands last: in the file that overrides the others."""
        return self.parts[-1].place

    @property
    def mistakes(self) -> tuple[Problem, ...]:
        """What forbids to use it."""
        return tuple(problem for part in self.parts for problem in part.mistakes)

    @property
    def remarks(self) -> tuple[Problem, ...]:
        """What its author should know."""
        return tuple(problem for part in self.parts for problem in part.remarks)


class Merged:
    """
    All files of one jail, filter or action configuration.

    `absent` says which files could not be read, or are included and not there.
    """

    def __init__(self, files: Iterable[Ini], *, absent: tuple[Problem, ...] = ()) -> None:
        self.absent = absent
        parts: dict[str, dict[str, Section]] = {}
        layers: dict[str, dict[str, list[Layer]]] = {}
        for order, file in enumerate(files):
            for section in file.sections.values():
                conditional = _CONDITIONAL.fullmatch(section.name)
                name = conditional["name"] if conditional else section.name
                suffix = conditional["condition"] if conditional else ""
                known = parts.setdefault(name, {})
                known.pop(f"{file.file}\n{section.name}", None)
                known[f"{file.file}\n{section.name}"] = section
                for key, entry in section.entries.items():
                    values = layers.setdefault(name, {}).setdefault(key + suffix, [])
                    values[:] = [layer for layer in values if layer.entry.file != file.file]
                    values.append(Layer(entry, order))
        self.sections: Mapping[str, MergedSection] = {
            name: MergedSection(name=name, layers=layers.get(name, {}), parts=tuple(known.values()))
            for name, known in parts.items()
        }

    def layers(self, section: str, key: str) -> Sequence[Layer]:
        """Return the values of a key in its section alone, the one that holds last."""
        found = self.sections.get(section)
        return found.layers.get(key, ()) if found else ()

    def own(self, section: str, key: str) -> Entry | None:
        """Return what holds for a key in its section alone."""
        layers = self.layers(section, key)
        return layers[-1].entry if layers else None

    def entry(self, section: str, key: str) -> Entry | None:
        """Return what holds for a key in a section, its own or the default."""
        return self.own(section, key) or self.own(DEFAULT, key)

    def require(self, *names: str) -> None:
        """Raise the first mistake of the sections of these names, if there is one."""
        for name in names:
            section = self.sections.get(name)
            if section is not None and section.mistakes:
                raise Fail2banError(section.mistakes[0])
