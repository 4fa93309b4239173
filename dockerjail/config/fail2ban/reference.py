"""
`NAME[option=value, option="a,b"][option='c']`: how a jail names filters and actions. Pure.

In: the text of such a reference, or of several. Out: name and options as written. Blanks
around brackets, commas and quotes mean nothing (fail2ban looks for a file whose name ends
in a blank, and leaves the jail out).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dockerjail.config.mistake import Mistake, shown

_NAME = re.compile(r"\s*(?P<name>[^\[\s]+)\s*")
_OPTION = re.compile(
    r"\s*(?P<name>[\w.-]+(?:\?[\w.=-]+(?=\s*=))?)\s*=\s*"
    r"""(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>(?!["'])[^,\]]*))\s*""",
)
_END = re.compile(r"\s*\]\s*")
_REMEDY = 'write NAME[option=value, option="a,b"]'


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The name of a filter or an action, and the options it is given."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)


def one(text: str) -> Reference:
    """Read exactly one reference. Raises `Mistake`."""
    found = several(text)
    if len(found) != 1:
        what = "names nothing" if not found else f"{shown(text)} is more than one name"
        raise Mistake(what, _REMEDY)
    return found[0]


def several(text: str) -> tuple[Reference, ...]:
    """Read references that are separated by blanks or lines. Raises `Mistake`."""
    found = []
    position = 0
    while text[position:].strip():
        name = _NAME.match(text, position)
        if name is None:
            raise Mistake(f"{shown(text[position:])} begins with a bracket", _REMEDY)
        options, position = _options(text, name.end())
        found.append(Reference(name=name["name"], options=MappingProxyType(options)))
    return tuple(found)


def _options(text: str, position: int) -> tuple[dict[str, str], int]:
    """Read all bracketed groups at `position`; return their options and where they end."""
    options: dict[str, str] = {}
    while text.startswith("[", position):
        position += 1
        while not (end := _END.match(text, position)):
            option = _OPTION.match(text, position)
            if option is None:
                raise Mistake(f"{shown(text[position:])} is no option", _REMEDY)
            value = next(v for v in option.group("double", "single", "bare") if v is not None)
            options[option["name"]] = value.strip()
            position = option.end()
            if text.startswith(",", position):
                position += 1
            elif not _END.match(text, position):
                what = f"{shown(text[position:])} behind {option['name']} is no option"
                raise Mistake(what, _REMEDY if position < len(text) else "write ] at its end")
        position = end.end()
    return options, position
