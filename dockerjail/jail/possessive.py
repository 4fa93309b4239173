r"""
Whether a regex is one that CPython's `re` gets wrong: a regex in, a word of yes or no out. Pure.

A group inside a possessive repeat (`(?:from (?P<ip4>\S+)|x)*+`) captures what it likes: the group
may come out empty, or the search raises `SystemError` (python/cpython#101955; Python 3.11, 3.12 before 3.12.8,
3.13.0). Whoever writes a label must not be able to end the daemon with it. The same repeat in an
atomic group, `(?>(?:...)*)`, is right in all of them.
"""

from collections.abc import Iterable
from typing import Any

from dockerjail.jail.skeleton import NOT_READ, parsed

REMEDY = "write (?>(?:...)*) in place of (?:...)*+"


def forgets(pattern: str) -> bool:
    """Say whether a possessive repeat of `pattern` has a group in it; no if it cannot be read."""
    try:
        return _any(parsed(pattern), within=False)
    except NOT_READ:
        return False


def _any(tree: Iterable[tuple[Any, Any]], *, within: bool) -> bool:
    for code, what in tree:
        match str(code):
            case "SUBPATTERN":
                number, _, _, inner = what
                found = (within and number is not None) or _any(inner, within=within)
            case "POSSESSIVE_REPEAT":
                found = _any(what[2], within=True)
            case "MAX_REPEAT" | "MIN_REPEAT":
                found = _any(what[2], within=within)
            case "ATOMIC_GROUP":
                found = _any(what, within=within)
            case "ASSERT" | "ASSERT_NOT":
                found = _any(what[1], within=within)
            case "BRANCH":
                found = any(_any(branch, within=within) for branch in what[1])
            case "GROUPREF_EXISTS":
                _, yes, no = what
                found = _any(yes, within=within) or _any(no or (), within=within)
            case _:
                found = False
        if found:
            return True
    return False
