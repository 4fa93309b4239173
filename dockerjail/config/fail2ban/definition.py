"""
The file of a filter or an action, with the options that somebody gave it. Pure.

In: merged files, the options in brackets, and what the jail itself sets. Out: values with
all names and tags resolved. What holds for an option, the first that says something:

1. the brackets, 2. the jail (only the keys that fail2ban hands on), 3. `[Init]`,
4. `[Definition]`, 5. `[DEFAULT]`.

An option of `[Init]` is `<known/option>`, too, even when it is overridden.
"""

import re
from collections.abc import Collection, Mapping

from dockerjail.config.fail2ban import tags
from dockerjail.config.fail2ban.ini import DEFAULT
from dockerjail.config.fail2ban.interpolate import Names
from dockerjail.config.fail2ban.merged import Merged
from dockerjail.model import Problem

DEFINITION = "Definition"
INIT = "Init"

_ELSEWHERE = re.compile(r"(?P<section>[\w-]+)/(?P<key>[^\s>]+)")


FIRST = ("enabled", "backend", "filter")
"""What a jail hands on to every option; its other keys only to `standard` ones."""


class Definition:
    """
    A filter's or an action's options.

    `given` are those in brackets, `jail` the keys that the jail sets itself, `standard`
    those that fail2ban reads there or here: a jail's own replace the file's. `place` is
    where the reference stands. A name that depends on the kind of address
    (`[Init?family=inet6]`) is left as it is, or what it is for IPv4. Raises `Fail2banError` when a section that every option
    may come from has a mistake.
    """

    def __init__(
        self,
        merged: Merged,
        *,
        given: Mapping[str, str],
        jail: Mapping[str, str],
        standard: Collection[str],
        place: str,
        ipv4: bool = False,
    ) -> None:
        merged.require(DEFINITION, INIT, DEFAULT)
        self._merged = merged
        self._standard = standard
        self._given = frozenset(given)
        self._place = place
        first = {key: jail[key] for key in FIRST if key in jail}
        self._outer = Names(merged, DEFINITION, given=_lower({**first, **given}))
        self._plain = Names(merged, DEFINITION)
        self._options = dict(given)
        init = merged.sections.get(INIT)
        names = Names(merged, INIT)
        for key in init.layers if init else ():
            value = names.text(key) or ""
            self._options[f"known/{key}"] = value
            self._options.setdefault(key, value)
        self._inner = Names(merged, DEFINITION, given=_lower({**jail, **self._options}))
        self._conditional = {
            key.partition("?")[0] for key in self._options if "?" in key and not ipv4
        }

    @property
    def remarks(self) -> tuple[Problem, ...]:
        """What the author of the file should know."""
        return tuple(
            remark for section in self._merged.sections.values() for remark in section.remarks
        )

    def text(self, key: str) -> str | None:
        """Return an option that the jail does not replace, None when nobody set it."""
        value = self._options.get(key)
        if value is None:
            value = self._lookup(key)
        return None if value is None else self._fill(value, key, self._lookup)

    def given(self, key: str) -> str | None:
        """Return an option of the brackets or of `[Init]` alone."""
        value = self._options.get(key)
        return None if value is None else self._fill(value, key, self._lookup)

    def known(self, key: str) -> str | None:
        """
        Return what a jail means by `%(known/key)s`, None when it is nothing of this file.

        Here the brackets reach `%(name)s` only in `standard` options: a habit of fail2ban's.
        """
        value = self._lookup_known(key)
        return None if value is None else self._fill(value, key, self._lookup_known)

    def place(self, key: str) -> str:
        """Return where an option of the file stands, else where the reference does."""
        for section in (INIT, DEFINITION):
            entry = self._merged.entry(section, key.lower())
            if entry is not None and key not in self._given:
                return entry.place
        return self._place

    def _fill(self, text: str, own: str, lookup: tags.Lookup) -> str:
        return tags.fill(text, lookup, own=own, place=self.place(own))

    def _lookup(self, name: str) -> str | None:
        """Return what `<name>` stands for."""
        return self._look(name, self._inner)

    def _lookup_known(self, name: str) -> str | None:
        """Return what `<name>` stands for in what a jail knows of this file."""
        return self._look(name, self._outer if name in self._standard else self._plain)

    def _look(self, name: str, names: Names) -> str | None:
        if name in self._conditional:
            return None
        if name in self._options:
            return self._options[name]
        elsewhere = _ELSEWHERE.fullmatch(name)
        if elsewhere is None:
            # what only [DEFAULT] has knows nothing of [Init]: a habit of fail2ban's, too
            own = self._merged.layers(DEFINITION, name.lower())
            return (names if own else self._outer).text(name)
        section, key = elsewhere["section"], elsewhere["key"]
        if section.lower() == "known":
            before = self._plain.known(key)
            return self._plain.text(key) if before is None else before
        if section.lower() == "default":
            return self._plain.default(key)
        if section not in self._merged.sections:
            return None
        self._merged.require(section)
        return Names(self._merged, section).text(key)


def _lower(values: Mapping[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in values.items()}
