"""
What a line must contain for a regex to match: a regex in, bytes to look for out. Pure.

Almost every line of a log matches nothing. Looking for a few bytes is a hundred times
cheaper than decoding a line, cutting its date and asking `re`; so each regex is reduced
to a *chain*: groups of literals, at least one of each group, in this order, one behind
the other. A chain may let lines through that do not match. It must never hold one back
that does, so everything here errs to that side:

* CPython's own parser (`re._parser`) reads the regex. What is not a literal or a small
  set of characters is a gap: anything may stand there. Assertions and anchors vanish.
  What the parser does not offer (it is private) makes the regex unfilterable, no more.
* The regex sees text decoded from UTF-8 with its date cut out, the search sees bytes
  with the date in place. No word character ever touches a date (`datecut.py`), so a
  literal ends wherever two other characters could stand side by side.
* With IGNORECASE, ASCII letters are folded; `i`, `k` and `s` also match four characters
  outside ASCII (`FOLDS`), which the sieve looks for itself.
"""

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import product
from typing import Any, Final

FOLDS: Final = tuple(c.encode() for c in "\u0130\u0131\u017f\u212a")
"""What outside ASCII an ASCII letter matches under IGNORECASE: dotted and dotless i, long s, Kelvin."""

SHORTEST: Final = 2
"""Characters that a literal must have to say anything."""

_SET = 9
"""Characters that a set may have and still count as literal."""

_SPREAD = 64
"""Literals that characters side by side may be multiplied to."""

_MANY = 512
"""Literals that one group may have: lists of names are long."""

_COPIES = 8
"""Repeats that are written out; what comes behind them is a gap."""

_ALL = 2**32 - 2
"""Repeats from which on there is no end; what the parser says for `*` depends on the build."""

_HEAVIEST = 2000
"""Nodes that repeats may grow to: nested ones multiply, and a label could stop the daemon."""

_NEVER = frozenset("\n\ufffd")
"""Not in the bytes of a line: its end, and what stands for bytes that are no UTF-8."""

_word = re.compile(r"\w").match


@dataclass(frozen=True, slots=True)
class Group:
    """Literals of which a line has at least one; `folded` ones are lower case, as is the line."""

    literals: tuple[bytes, ...]
    folded: bool

    @property
    def cost(self) -> float:
        """
        Guess what searching for these costs, in nanoseconds per line.

        Each literal is one pass over the bytes; the shorter it is, the more often it
        is found in lines that do not match.
        """
        shortest = min(map(len, self.literals))
        return len(self.literals) * (25 + 400 * 0.6**shortest)


Chain = tuple[Group, ...]
"""Groups that follow one another in every line that matches; empty if nothing is required."""


NOT_READ: Final = (
    *(ImportError, AttributeError, TypeError, ValueError, LookupError),
    *(OverflowError, RecursionError, re.error),
)
"""What `parsed` raises for a regex that the parser refuses, and whatever reads a tree it does not know."""


@lru_cache(maxsize=64)
def parsed(pattern: str) -> Any:
    """
    Return what CPython's parser makes of `pattern`; not to be changed.

    It takes longer than all that is done with it, and a regex is asked for several times in a row.
    Raises one of `NOT_READ`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("re._parser").parse(pattern)


def chain(pattern: str, prefregex: str = "") -> Chain:
    """
    Return what every line that `pattern` matches must contain.

    With a `prefregex`, it must also contain what that requires around its `<F-CONTENT>`,
    which is all that `pattern` sees.
    """
    try:
        tree = parsed(pattern)
        nodes = _nodes(tree, tree.state.flags)
        if prefregex:
            nodes = _around(parsed(prefregex), nodes)
        return tuple(_groups(nodes))
    except NOT_READ:
        return ()  # a parser that this was not written for: every line is shown to the regex


def keys(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return texts of which one is in all that any of `patterns` matches; none if nothing is known."""
    found: set[str] = set()
    for pattern in patterns:
        exact = [group for group in chain(pattern) if not group.folded]
        if not exact:
            return ()
        found.update(text.decode() for text in min(exact, key=lambda group: group.cost).literals)
    return tuple(sorted(found))


def _around(tree: Any, inner: Sequence["_Node"]) -> tuple["_Node", ...]:
    """
    Put what a failregex requires where the `content` of a prefregex is.

    Where that may be empty or left out, a failregex sees the whole line, and nothing is known of
    the order: then it stands alone. Of a failregex that requires nothing the prefregex is left.
    """
    number = tree.state.groupdict.get("content")
    outer = None if number is None else _filled(tree, tree.state.flags, number, inner)
    if outer is not None:
        return outer
    return tuple(inner) if _groups(inner) else _nodes(tree, tree.state.flags)


def _filled(
    tree: Any, flags: int, number: int, inner: Sequence["_Node"]
) -> tuple["_Node", ...] | None:
    """Replace the group of this number; None if it is not there whatever the regex matches."""
    nodes: list[_Node] = []
    found = False
    for item in tree:
        code, what = item
        if str(code) == "SUBPATTERN" and not found:
            group, add, remove, within = what
            if group == number:
                if within.getwidth()[0] == 0:
                    return None
                nodes += (_GAP, *inner, _GAP)
                found = True
                continue
            deeper = _filled(within, (flags | add) & ~remove, number, inner)
            if deeper is not None:
                nodes += deeper
                found = True
                continue
        nodes += _nodes([item], flags)
    return tuple(nodes) if found else None


def absorbs(pattern: str) -> bool:
    """
    Say whether `pattern` begins with `.*` or `.+`.

    If such a regex matches a line anywhere, it matches from the line's begin. `re` does not
    know: where there is no match, its `search` tries all over again from each character.
    """
    try:
        code, what = parsed(pattern)[0]
        _, most, inner = what
        endless = str(code) in ("MAX_REPEAT", "MIN_REPEAT") and most >= _ALL
        return endless and [str(each) for each, _ in inner] == ["ANY"]
    except NOT_READ:
        return False


@dataclass(frozen=True, slots=True)
class _Chars:
    """One character out of a few."""

    options: frozenset[str]
    folded: bool


@dataclass(frozen=True, slots=True)
class _Gap:
    """Anything, also nothing."""


@dataclass(frozen=True, slots=True)
class _Either:
    """One of several sequences."""

    branches: tuple[tuple["_Node", ...], ...]


_Node = _Chars | _Gap | _Either
_GAP = _Gap()


def _nodes(tree: Iterable[tuple[Any, Any]], flags: int) -> tuple[_Node, ...]:
    """Turn the parser's tree into characters, gaps and alternatives."""
    nodes: list[_Node] = []
    for code, what in tree:
        match str(code):
            case "LITERAL":
                nodes.append(_chars([what], flags))
            case "IN":
                nodes.append(_set(what, flags))
            case "AT" | "ASSERT" | "ASSERT_NOT":
                pass
            case "SUBPATTERN":
                _, add, remove, inner = what
                nodes += _nodes(inner, (flags | add) & ~remove)
            case "ATOMIC_GROUP":
                nodes += _nodes(what, flags)
            case "BRANCH":
                nodes.append(_Either(tuple(_nodes(branch, flags) for branch in what[1])))
            case "GROUPREF_EXISTS":
                _, yes, no = what
                nodes.append(_Either((_nodes(yes, flags), _nodes(no or (), flags))))
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, inner = what
                nodes += _repeat(least, most, _nodes(inner, flags))
            case _:
                nodes.append(_GAP)
    return tuple(nodes)


def _repeat(least: int, most: int, once: tuple[_Node, ...]) -> tuple[_Node, ...]:
    if least == 0:
        return (_Either((once, ())),) if most == 1 else (_GAP,)
    if _weight(once) * min(least, _COPIES) > _HEAVIEST:
        return (*once, _GAP)
    copies = once * min(least, _COPIES)
    return copies if least == most and least <= _COPIES else (*copies, _GAP)


def _weight(nodes: Iterable[_Node]) -> int:
    """Count nodes, those of alternatives too."""
    return sum(
        1 + sum(map(_weight, node.branches)) if isinstance(node, _Either) else 1 for node in nodes
    )


def _set(members: Iterable[tuple[Any, Any]], flags: int) -> _Node:
    codes: list[int] = []
    for kind, what in members:
        if str(kind) == "LITERAL":
            codes.append(what)
        elif str(kind) == "RANGE" and what[1] - what[0] < _SET:
            codes += range(what[0], what[1] + 1)
        else:
            return _GAP
    return _chars(codes, flags) if 0 < len(codes) <= _SET else _GAP


def _chars(codes: Iterable[int], flags: int) -> _Node:
    options = frozenset(map(chr, codes))
    folded = bool(flags & re.IGNORECASE)
    if options & _NEVER or any("\ud800" <= c <= "\udfff" for c in options):
        return _GAP
    if folded and not all(map(str.isascii, options)):
        return _GAP
    return _Chars(options, folded)


def _open(char: str) -> bool:
    """Say whether a date can have touched `char`."""
    return char != "" and _word(char) is None


class _Run:
    """What stands side by side so far: all the strings that it can be."""

    def __init__(self) -> None:
        self.strings: set[str] = {""}
        self.folded = False

    def add(self, options: set[str], *, folded: bool) -> bool:
        """Append one of `options`; False, and nothing done, if a new run is better."""
        most = max(_SPREAD, len(self.strings), len(options))
        if len(self.strings) * len(options) > most:
            return False
        if any(map(_open, (s[-1:] for s in self.strings))) and any(
            map(_open, (s[:1] for s in options))
        ):
            return False  # a date may have been between
        self.strings = {a + b for a, b in product(self.strings, options)}
        self.folded |= folded
        return True


def _groups(nodes: Sequence[_Node]) -> list[Group]:
    """Return the groups that `nodes` require, in their order."""
    found: list[Group] = []
    run = _Run()
    for node in nodes:
        options = _expand(node)
        if options is not None:
            if run.add(options[0], folded=options[1]):
                continue
            found += _flush(run)
            run = _Run()
            if run.add(options[0], folded=options[1]):
                continue
        found += _flush(run)
        run = _Run()
        if isinstance(node, _Either):
            found += _one_of(node)
    found += _flush(run)
    return found


def _expand(node: _Node) -> tuple[set[str], bool] | None:
    """Return all the strings that `node` can be; None if they are too many or unknown."""
    if isinstance(node, _Chars):
        return set(node.options), node.folded
    if isinstance(node, _Gap):
        return None
    strings: set[str] = set()
    folded = False
    for branch in node.branches:
        run = _Run()
        for inner in branch:
            options = _expand(inner)
            if options is None or not run.add(options[0], folded=options[1]):
                return None
        strings |= run.strings
        folded |= run.folded
        if len(strings) > _MANY:
            return None
    return strings, folded


def _one_of(node: _Either) -> list[Group]:
    """Return the group that holds for every branch: the best of each, put together."""
    best = [min(_groups(branch), key=lambda g: g.cost, default=None) for branch in node.branches]
    groups = [g for g in best if g is not None]
    if len(groups) < len(best):
        return []
    folded = any(g.folded for g in groups)
    literals = {text.lower() if folded else text for g in groups for text in g.literals}
    return [_group(literals, folded=folded)] if len(literals) <= _MANY else []


def _flush(run: _Run) -> list[Group]:
    """Return what a run requires: nothing, if it can be too short to say anything."""
    if min(map(len, run.strings)) < SHORTEST:
        return []
    return [_group({_bytes(s, folded=run.folded) for s in run.strings}, folded=run.folded)]


def _bytes(text: str, *, folded: bool) -> bytes:
    """Encode `text`; fold as `bytes.lower` folds the line: ASCII only."""
    data = text.encode()
    return data.lower() if folded else data


def _group(literals: set[bytes], *, folded: bool) -> Group:
    """Make a group; a literal that contains another of them adds nothing."""
    kept = [a for a in literals if not any(a != b and b in a for b in literals)]
    return Group(tuple(sorted(kept)), folded)
