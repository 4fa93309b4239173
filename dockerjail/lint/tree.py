"""
A regex in, its parts as values out: what the linter looks at. Pure.

CPython's own parser (`re._parser`) reads the regex, so what is understood here is what
`re` runs. The parser is private: whatever it offers that is not known here raises
`Unknown`, and the regex is not linted. Nothing but the linter may depend on it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Final

from dockerjail.jail.skeleton import NOT_READ, parsed

MANY: Final = 1 << 30
"""The most of a repeat without an end."""


class Unknown(ValueError):
    """A regex that cannot be taken apart."""


class Style(Enum):
    """What a repeat does first, and whether it gives back."""

    GREEDY = auto()
    LAZY = auto()
    POSSESSIVE = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Chars:
    """One character that `accepts` says is fine; `literal` if it is that one only."""

    accepts: Callable[[str], bool]
    literal: str = ""
    likes: str = ""
    """Characters that it was written with."""


@dataclass(frozen=True, slots=True, eq=False)
class Either:
    """One of several branches."""

    branches: tuple["Sequence", ...]


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """`body` again and again."""

    least: int
    most: int
    style: Style
    body: "Sequence"


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A capture; `name` is empty for one that has only a number."""

    number: int
    name: str
    body: "Sequence"


@dataclass(frozen=True, slots=True, eq=False)
class Atomic:
    """What is matched once, and not again in another way."""

    body: "Sequence"


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A look ahead or behind; takes no characters."""

    behind: bool
    negative: bool
    body: "Sequence"


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    r"""`^`, `$`, `\b` and the like, by the parser's name."""

    name: str
    multiline: bool


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """What a group has captured, once more."""

    number: int


@dataclass(frozen=True, slots=True, eq=False)
class IfGroup:
    """One branch or another, by whether a group has captured."""

    number: int
    yes: "Sequence"
    no: "Sequence"


Node = Chars | Either | Repeat | Group | Atomic | Look | Place | Again | IfGroup
Sequence = tuple[Node, ...]


@lru_cache(maxsize=512)
def parse(pattern: str) -> Sequence:
    """Return the parts of `pattern`; raises `Unknown`."""
    try:
        tree = parsed(pattern)
        names = {number: name for name, number in tree.state.groupdict.items()}
        return _Builder(names).sequence(tree, tree.state.flags)
    except NOT_READ as error:
        raise Unknown(f"{pattern!r} cannot be taken apart: {error}") from None


def width(nodes: Iterable[Node]) -> int:
    """Return how many characters `nodes` take at least."""
    return sum(map(_width, nodes))


def _width(node: Node) -> int:
    match node:
        case Chars():
            return 1
        case Either():
            return min(map(width, node.branches), default=0)
        case Repeat():
            return min(node.least * width(node.body), MANY) if node.least else 0
        case Group() | Atomic():
            return width(node.body)
        case IfGroup():
            return min(width(node.yes), width(node.no))
        case _:
            return 0


def inside(nodes: Iterable[Node]) -> Iterable[Node]:
    """Yield `nodes` and all that is in them, but for what looks take no part in."""
    for node in nodes:
        yield node
        match node:
            case Either():
                for branch in node.branches:
                    yield from inside(branch)
            case Repeat() | Group() | Atomic():
                yield from inside(node.body)
            case IfGroup():
                yield from inside(node.yes)
                yield from inside(node.no)
            case _:
                pass


class _Builder:
    """Turns the parser's tree into ours."""

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names

    def sequence(self, tree: Iterable[tuple[Any, Any]], flags: int) -> Sequence:
        nodes: list[Node] = []
        for code, what in tree:
            nodes += self._nodes(str(code), what, flags)
        return tuple(nodes)

    def _nodes(self, code: str, what: Any, flags: int) -> Sequence:
        match code:
            case "LITERAL":
                return (_literal(what, fold=bool(flags & re.IGNORECASE)),)
            case "NOT_LITERAL":
                return (_some([("NEGATE", None), ("LITERAL", what)], flags),)
            case "ANY":
                newline = bool(flags & re.DOTALL)
                return (Chars(lambda c: newline or c != "\n"),)
            case "IN":
                return (_some(what, flags),)
            case "BRANCH":
                return (Either(tuple(self.sequence(branch, flags) for branch in what[1])),)
            case "SUBPATTERN":
                number, add, remove, inner = what
                body = self.sequence(inner, (flags | add) & ~remove)
                return body if number is None else (Group(number, self._name(number), body),)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                return (self._repeat(code, what, flags),)
            case "ATOMIC_GROUP":
                return (Atomic(self.sequence(what, flags)),)
            case "ASSERT" | "ASSERT_NOT":
                direction, inner = what
                negative = code == "ASSERT_NOT"
                return (Look(direction < 0, negative, self.sequence(inner, flags)),)
            case "AT":
                return (Place(str(what), bool(flags & re.MULTILINE)),)
            case "GROUPREF":
                return (Again(what),)
            case "GROUPREF_EXISTS":
                number, yes, no = what
                return (IfGroup(number, self.sequence(yes, flags), self.sequence(no or (), flags)),)
            case "FAILURE":
                return (Chars(lambda _: False),)
            case _:
                raise Unknown(f"{code} is not known")

    def _repeat(self, code: str, what: Any, flags: int) -> Repeat:
        least, most, inner = what
        style = {
            "MAX_REPEAT": Style.GREEDY,
            "MIN_REPEAT": Style.LAZY,
            "POSSESSIVE_REPEAT": Style.POSSESSIVE,
        }[code]
        return Repeat(int(least), min(int(most), MANY), style, self.sequence(inner, flags))

    def _name(self, number: int) -> str:
        return self._names.get(number, "")


@lru_cache(maxsize=1024)
def _literal(code: int, *, fold: bool) -> Chars:
    char = chr(code)
    if fold and char.lower() != char.upper():
        folded = char.lower()
        return Chars(lambda c: c.lower() == folded, likes=char)
    return Chars(lambda c: c == char, literal=char, likes=char)


_CATEGORIES: Final[dict[str, Callable[[str], bool]]] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_NOT_DIGIT": lambda c: not c.isdecimal(),
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_NOT_SPACE": lambda c: not c.isspace(),
    "CATEGORY_WORD": lambda c: c.isalnum() or c == "_",
    "CATEGORY_NOT_WORD": lambda c: not (c.isalnum() or c == "_"),
}


def _some(members: Iterable[tuple[Any, Any]], flags: int) -> Chars:
    """Make one of a set of characters."""
    tests: list[Callable[[str], bool]] = []
    likes: list[str] = []
    negative = False
    fold = bool(flags & re.IGNORECASE)
    for kind, what in members:
        match str(kind):
            case "NEGATE":
                negative = True
            case "LITERAL":
                tests.append(_within(what, what, fold=fold))
                likes.append(chr(what))
            case "RANGE":
                tests.append(_within(what[0], what[1], fold=fold))
                likes += (chr(what[0]), chr(what[1]))
            case "CATEGORY":
                tests.append(_category(str(what), flags))
            case _:
                raise Unknown(f"{kind} is not known")

    @lru_cache(maxsize=256)
    def accepts(char: str) -> bool:
        return any(test(char) for test in tests) is not negative

    return Chars(accepts, likes="" if negative else "".join(likes))


def _within(first: int, last: int, *, fold: bool) -> Callable[[str], bool]:
    if fold:
        return lambda c: any(
            first <= ord(x) <= last for x in {c, c.lower(), c.upper()} if len(x) == 1
        )
    return lambda c: first <= ord(c) <= last


def _category(name: str, flags: int) -> Callable[[str], bool]:
    test = _CATEGORIES[name]
    if not flags & re.ASCII:
        return test
    if "_NOT_" in name:
        return lambda c: not c.isascii() or test(c)
    return lambda c: c.isascii() and test(c)
