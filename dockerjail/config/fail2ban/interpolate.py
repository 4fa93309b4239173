"""
`%(name)s` in fail2ban's values. Pure.

In: merged files, and the section that is asked. Out: values with all names resolved. A
name is looked for in what somebody handed over, then in the section, then in `[DEFAULT]`;
its own value is resolved in the same section. Names are in any case.

* `%(section/name)s` is a value of another section, resolved in this one. Not there: the
  default.
* `%(default/name)s` is the default, whatever the section says.
* `%(known/name)s` is the value before the last file that overrides it, else the default.
  It goes back one file at a time, however many there are (fail2ban does not start then).
  In a jail it is what the jail's filter says, if it says anything.
* `%(__name__)s` is the section. `%%` is a percent sign, any other `%` is a mistake.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from dockerjail.config.fail2ban.ini import DEFAULT
from dockerjail.config.fail2ban.merged import Layer, Merged
from dockerjail.config.fail2ban.mistakes import Fail2banError, wrong
from dockerjail.config.mistake import nearest, shown

DEEPEST: Final = 10
"""How many values can stand within each other; fail2ban's own number."""

LONGEST: Final = 1_000_000
"""Characters that a value can come to: each step can double it."""

SHIPPED: Final = frozenset(
    {"action_", "action_mw", "action_mwl", "action_xarf", "banaction", "banaction_allports", "mode"}
)
"""Names that fail2ban's own jail.conf defines and people's files rely upon."""

_PERCENT = re.compile(r"%(?:(?P<double>%)|\((?P<name>[^)]+)\)s)?")
_ELSEWHERE = re.compile(r"(?P<section>[\w-]+)/(?P<key>.+)", re.DOTALL)


class _Value(NamedTuple):
    """A raw value: whose it is, and which of the files gave it."""

    section: str
    key: str
    layer: Layer


class Names:
    """
    The names that can be used in one section.

    `given` are values handed over, `builtin` some that come before the defaults, `known`
    says what `known/KEY` is for somebody else.
    """

    def __init__(
        self,
        merged: Merged,
        section: str,
        *,
        given: Mapping[str, str] | None = None,
        builtin: Mapping[str, str] | None = None,
        known: Callable[[str], str | None] | None = None,
    ) -> None:
        self._merged = merged
        self._section = section
        self._given = given or {}
        self._builtin = builtin or {}
        self._known = known

    def text(self, key: str) -> str | None:
        """Return the value of a key, None when nobody set it. Raises `Fail2banError`."""
        key = key.lower()
        if key in self._given:
            return self._given[key]
        found = self._plain(key)
        return self._resolve(found, ()) if found else None

    def known(self, key: str) -> str | None:
        """
        Return what `<known/key>` means: the value before the last override, else the default.

        None where there is neither, or where only one file has the section: then its own
        value is meant. Raises `Fail2banError`.
        """
        layers = self._merged.layers(self._section, key)
        if len(layers) >= 2:
            return self._resolve(_Value(self._section, key, layers[-2]), ())
        section = self._merged.sections.get(self._section)
        if section is None or len(section.parts) < 2:
            return None
        return self.default(key)

    def default(self, key: str) -> str | None:
        """Return the default of a key, whatever the section says. Raises `Fail2banError`."""
        found = _last(DEFAULT, key, self._merged.layers(DEFAULT, key))
        return self._resolve(found, ()) if found else None

    def place(self, key: str) -> str:
        """Return where a key is set, else where its section stands."""
        entry = self._merged.entry(self._section, key.lower())
        if entry is not None:
            return entry.place
        section = self._merged.sections.get(self._section)
        return section.place if section else f"[{self._section}]"

    def _plain(self, key: str) -> _Value | None:
        own = _last(self._section, key, self._merged.layers(self._section, key))
        return own or _last(DEFAULT, key, self._merged.layers(DEFAULT, key))

    def _resolve(self, value: _Value, within: tuple[_Value, ...]) -> str:
        """Return a value with its names replaced; `within` are those it was asked for by."""
        entry = value.layer.entry
        if value in within:
            what = f"%({value.key})s refers to itself"
            raise wrong(entry.place, what, f"write %(known/{value.key})s for what it was before")
        if len(within) > DEEPEST:
            what = f"more than {DEEPEST} values refer to each other"
            raise wrong(entry.place, what, "write fewer %(…)s within each other")
        if "%" not in entry.text:
            return entry.text
        pieces = []
        length = done = 0
        for percent in _PERCENT.finditer(entry.text):
            pieces.append(entry.text[done : percent.start()])
            done = percent.end()
            if percent["double"]:
                piece = "%"
            elif percent["name"]:
                piece = self._name(percent["name"], value, (*within, value))
            else:
                part = entry.text[percent.start() : percent.start() + 20]
                raise wrong(
                    entry.place,
                    f"{shown(part)}: a lone % means nothing",
                    "write %% for a percent sign",
                )
            pieces.append(piece)
            length += len(piece)
            if length > LONGEST:
                raise wrong(entry.place, "grows without end", "write fewer %(…)s in each other")
        pieces.append(entry.text[done:])
        return "".join(pieces)

    def _name(self, name: str, value: _Value, within: tuple[_Value, ...]) -> str:
        """Return what stands for `%(name)s` in `value`."""
        key = name.lower()
        if key in self._given:
            return self._given[key]
        if key == "__name__":
            return self._section
        elsewhere = _ELSEWHERE.fullmatch(name)
        found: _Value | None
        if elsewhere is None:
            if not self._merged.layers(self._section, key) and key in self._builtin:
                return self._builtin[key]
            found = self._plain(key)
        else:
            section, key = elsewhere["section"], elsewhere["key"].lower()
            if section.lower() == "known":
                told = self._known(key) if self._known else None
                if told is not None:
                    return told
                found = self._before(key, value)
            elif section.lower() == "default":
                found = _last(DEFAULT, key, self._merged.layers(DEFAULT, key))
            elif section in self._merged.sections:
                found = _last(section, key, self._merged.layers(section, key))
                found = found or _last(DEFAULT, key, self._merged.layers(DEFAULT, key))
            else:
                found = None
        if found is None:
            raise self._undefined(name, value)
        return self._resolve(found, within)

    def _before(self, key: str, value: _Value) -> _Value | None:
        """Return what `%(known/key)s` means in `value`, in the section that is asked."""
        default = _last(DEFAULT, key, self._merged.layers(DEFAULT, key))
        if key == value.key and value.section in (self._section, DEFAULT):
            layers = self._merged.layers(value.section, key)
            before = _last(value.section, key, layers[: layers.index(value.layer)])
            return before or (default if value.section != DEFAULT else None)
        layers = self._merged.layers(self._section, key)
        if self._merged.layers(value.section, value.key)[-1] != value.layer:
            # reached through another known: only what was there by then
            layers = [layer for layer in layers if layer.order <= value.layer.order]
        before = _last(self._section, key, layers[:-1])
        return before or default or _last(self._section, key, layers)

    def _undefined(self, name: str, value: _Value) -> Fail2banError:
        place = value.layer.entry.place
        what = f"%({name})s is defined nowhere"
        if name.lower() in SHIPPED:
            return wrong(
                place, what, "it is in fail2ban's own jail.conf: put that beside this file"
            )
        known = {
            key
            for section in (self._section, DEFAULT)
            if section in self._merged.sections
            for key in self._merged.sections[section].layers
        }
        close = nearest(name, known)
        if close is not None:
            return wrong(place, what, f"write %({close})s")
        if self._merged.absent:
            # what would define it is most likely there
            return wrong(place, f"{what}, and {self._merged.absent[0]}")
        return wrong(place, what, f"write {name} = … in the same section or in [DEFAULT]")


def _last(section: str, key: str, layers: Sequence[Layer]) -> _Value | None:
    return _Value(section, key, layers[-1]) if layers else None
