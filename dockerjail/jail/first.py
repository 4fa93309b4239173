r"""
How a text must begin for a regex to match it: a regex in, first characters out. Pure.

A filter of many failregexes has them tried in their order, and nearly all fail at the first
character: `^Failed ` cannot match what begins with `A`. Which ones cannot is looked up here once, so
that only the others are tried. A regex that begins with `^` matches at a text's begin or nowhere;
`re` does not know, and its `search` tries all over again from each character.

CPython's own parser (`re._parser`) reads the regex. What it does not offer (it is private), and what
is not provided for, makes nothing known of the regex: then it is always tried.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Final, NamedTuple

_ASCII: Final = frozenset(map(chr, range(128)))
_CATEGORIES: Final = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}
_BEGINS: Final = ("AT_BEGINNING", "AT_BEGINNING_STRING")

Search = Callable[[str], re.Match[str] | None]
"""Finds a regex in a text."""

Try = tuple[int, Search]
"""A regex's number, and what finds it."""


class Begin(NamedTuple):
    """
    What is known of where and how a regex matches.

    `anchored`: from the begin of a text on or not at all. `chars` are the ASCII characters of which
    one begins each text that it matches, None if that is not known; a text may begin with any
    character outside ASCII all the same.
    """

    anchored: bool = False
    chars: frozenset[str] | None = None


@lru_cache(maxsize=1024)
def begin(pattern: str, flags: int = 0) -> Begin:
    """Look up how a text must begin for `pattern` to match it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = import_module("re._parser").parse(pattern, flags)
        code, where = tree[0]
        if str(code) != "AT" or str(where) not in _BEGINS:
            return Begin()
        if str(where) == "AT_BEGINNING" and tree.state.flags & re.MULTILINE:
            return Begin()
        chars, empty = _sequence(tree, tree.state.flags)
    except (ImportError, AttributeError, TypeError, ValueError, LookupError, RecursionError):
        return Begin()
    return Begin(anchored=True, chars=None if empty else chars)


def tries(
    regexes: Sequence[tuple[str, Search]], flags: int = 0
) -> tuple[tuple[Try, ...], Mapping[str, tuple[Try, ...]]]:
    """
    Return what to try on a text, in this order: in general, and by its first character.

    A regex is its pattern and what finds it.
    """
    every = tuple((number, search) for number, (_, search) in enumerate(regexes))
    firsts = [begin(pattern, flags).chars for pattern, _ in regexes]
    if len(every) < 2 or all(chars is None for chars in firsts):
        return every, {}  # one that is tried for nothing takes no longer than a look at this
    same: dict[tuple[Try, ...], tuple[Try, ...]] = {}
    by_first = {}
    for char in _ASCII:
        pairs = zip(every, firsts, strict=True)
        those = tuple(each for each, chars in pairs if chars is None or char in chars)
        by_first[char] = same.setdefault(those, those)
    return every, by_first


def _sequence(tree: Iterable[tuple[Any, Any]], flags: int) -> tuple[frozenset[str], bool]:
    """Return what can come first in a sequence, and whether that may be what follows it."""
    found: frozenset[str] = frozenset()
    for code, what in tree:
        chars, empty = _node(str(code), what, flags)
        found |= chars
        if not empty:
            return found, False
    return found, True


def _node(code: str, what: Any, flags: int) -> tuple[frozenset[str], bool]:
    match code:
        case "AT" | "ASSERT" | "ASSERT_NOT":
            return frozenset(), True  # forbids some, and adds none
        case "LITERAL":
            return _members([("LITERAL", what)], flags), False
        case "NOT_LITERAL":
            return _members([("NEGATE", None), ("LITERAL", what)], flags), False
        case "IN":
            return _members(what, flags), False
        case "SUBPATTERN":
            _, add, remove, inner = what
            return _sequence(inner, (flags | add) & ~remove)
        case "ATOMIC_GROUP":
            return _sequence(what, flags)
        case "BRANCH":
            branches = [_sequence(branch, flags) for branch in what[1]]
            return frozenset().union(*(chars for chars, _ in branches)), any(e for _, e in branches)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, _, inner = what
            chars, empty = _sequence(inner, flags)
            return chars, empty or least == 0
        case _:
            return _ASCII, True  # anything, or a part of the text that was matched before


def _members(members: Iterable[tuple[Any, Any]], flags: int) -> frozenset[str]:
    """Return the ASCII characters of a set."""
    negated = False
    found: set[str] = set()
    for kind, what in members:
        match str(kind):
            case "NEGATE":
                negated = True
            case "LITERAL":
                found.update(_like(what, flags))
            case "RANGE":
                for code in range(what[0], min(what[1], 127) + 1):
                    found.update(_like(code, flags))
                if what[1] > 127 and flags & re.IGNORECASE:
                    found.update("iIkKsS")
            case "CATEGORY":
                found.update(
                    filter(re.compile(_CATEGORIES[str(what)], flags & re.ASCII).match, _ASCII)
                )
            case _:
                return _ASCII
    if negated:
        # what letters are alike may differ from what is forbidden: none is left out for that
        return _ASCII if flags & re.IGNORECASE else _ASCII - found
    return frozenset(found)


def _like(code: int, flags: int) -> frozenset[str]:
    """Return the ASCII characters that a character of a regex matches."""
    char = chr(code)
    if flags & re.IGNORECASE:
        if not char.isascii():
            return frozenset("iIkKsS")  # all that a character outside ASCII can be like
        return frozenset((char.lower(), char.upper()))
    return frozenset(char) if char.isascii() else frozenset()
