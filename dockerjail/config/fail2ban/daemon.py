"""
A name that a syslog prefix would have: a regex for names in, one such name out. Pure.

The regex is walked as CPython's own parser reads it: of alternatives the first, of repeats
the fewest. What comes out is tried on the regex; a walk that went wrong finds no name.
"""

import re
import warnings
from importlib import import_module
from typing import Any, Final

from dockerjail.jail.possessive import forgets

LONGEST: Final = 40
"""Characters of a name; a syslog tag has at most 32."""

_CATEGORIES = {
    "CATEGORY_DIGIT": "1",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_SPACE": "a",
    "CATEGORY_WORD": "a",
    "CATEGORY_NOT_WORD": "-",
}


def a_name(regex: str) -> str:
    """Return a name that `regex` matches as a whole, empty when none is found."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = re.compile(regex)
            name = _written(import_module("re._parser").parse(regex))
    except (re.error, RecursionError, OverflowError, LookupError, ImportError, AttributeError):
        return ""
    if len(name) > LONGEST or forgets(regex):
        return ""
    return name if compiled.fullmatch(name) else ""


def _written(tree: Any) -> str:
    return "".join(_node(str(operation), argument) for operation, argument in tree)


def _node(operation: str, argument: Any) -> str:
    match operation:
        case "LITERAL":
            return chr(argument)
        case "NOT_LITERAL":
            return "a" if argument != ord("a") else "b"
        case "ANY":
            return "a"
        case "IN":
            return _member(argument)
        case "BRANCH":
            return _written(argument[1][0])
        case "SUBPATTERN":
            return _written(argument[-1])
        case "ATOMIC_GROUP":
            return _written(argument)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            part = _written(argument[2])
            if len(part) * argument[0] > LONGEST:
                raise LookupError(operation)
            return part * int(argument[0])
        case "AT" | "ASSERT" | "ASSERT_NOT":
            return ""
        case _:
            raise LookupError(operation)


def _member(members: Any) -> str:
    """Return a character of a set; of one that is described by what it lacks, a letter."""
    operation, argument = members[0]
    match str(operation):
        case "LITERAL":
            return chr(argument)
        case "RANGE":
            return chr(argument[0])
        case "CATEGORY":
            return str(_CATEGORIES[str(argument)])
        case _:
            lacking = {ord("a")} & {each for _, each in members if isinstance(each, int)}
            return "x" if lacking else "a"
