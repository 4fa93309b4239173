"""
What a reader of settings or labels raises, and how it names what was meant. Pure.

In: a value as somebody wrote it, the words that are known. Out: a message in two
halves, what is wrong and what to write. The place is added by who knows it.
"""

import difflib
from collections.abc import Collection

from dockerjail.errors import ConfigError
from dockerjail.escape import plain
from dockerjail.model import Problem

SHOWN = 60
"""How much of a wrong value a message repeats."""

LONGEST = 500
"""How long each half of a message can be."""

LISTED = 12
"""How many known words a message lists."""


class Mistake(ConfigError, ValueError):
    """A value that cannot be taken; a ValueError too, so that pydantic collects it."""

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = _printable(what)
        self.remedy = _printable(remedy)
        super().__init__(f"{self.what}; {self.remedy}" if remedy else self.what)

    def at(self, place: str) -> Problem:
        """Return the problem that this is, at `place`."""
        return Problem(place=place, what=self.what, remedy=self.remedy)


def _printable(text: str) -> str:
    """Return a message that a terminal can be shown: parts of it come from labels."""
    safe = plain(text[: LONGEST + 1])  # which is longer: `\x00` for a NUL
    return safe if len(safe) <= LONGEST else safe[:LONGEST] + "…"


def shown(value: object) -> str:
    """Return `value` for a message: quoted, on one line, bounded."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= SHOWN else value[:SHOWN] + "…")
        case int() | float():
            # A TOML integer has no bound; Python refuses to print a very long one.
            return repr(value) if abs(value) < 1e18 or value != value else "a huge number"
        case dict():
            return "a table"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


def nearest(word: str, known: Collection[str]) -> str | None:
    """Return the one of `known` that `word` was most likely meant to be, if any."""
    if word in known:
        return word
    lower = {name.lower(): name for name in sorted(known)}
    close = difflib.get_close_matches(word[:SHOWN].lower(), lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else None


def listed(known: Collection[str]) -> str:
    """Return the known words for a message, the first dozen when there are many."""
    names = sorted(known)
    more = ", …" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def meant(word: str, known: Collection[str], *, prefix: str = "") -> str:
    """Return the remedy for an unknown word: the nearest known one, else all of them."""
    close = nearest(word, known)
    if close is not None:
        return f"write {prefix}{close}"
    return f"known: {listed(known)}" if known else ""
