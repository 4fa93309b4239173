"""
The sieve: the bytes of a chunk in, the few lines that could match out. Pure.

Built once for the filters of a container's jails. Each failregex is reduced to a chain
(`skeleton.py`); a line is shown to a filter when it holds one of the filter's chains. A line that a
filter matches is never held back from it; `re` has the last word on what comes through.

Which lines hold which chains is found by an engine (`engine.py`). A sieve begins with the plain one;
another may take its place at any time, since all answer the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from dockerjail.jail.engine import Engine, plain
from dockerjail.jail.envelope import inside
from dockerjail.jail.fields import requires, safe_pieces
from dockerjail.jail.filter import Filter
from dockerjail.jail.rule import Rule
from dockerjail.jail.skeleton import FOLDS, SHORTEST, Chain, Group, chain
from dockerjail.jail.tags import expand

Candidate = tuple[int, int, tuple[int, ...]]
"""Where a line starts and ends (at its LF) in the data, and which filters could match it."""


class Plan:
    """
    What filters require: `chains`, each once, and who is shown the lines that hold one.

    `always` are the filters that are shown every line, since one of their regexes requires nothing.
    `plain` is the engine of a log of which nothing is known; `whole` is room for another that is
    the same for all logs and takes long to make.
    """

    def __init__(self, filters: Sequence[Filter]) -> None:
        self.filters = tuple(filters)
        self.all = tuple(range(len(self.filters)))
        self.whole: Engine | None = None
        users: dict[Chain, set[int]] = {}
        always: set[int] = set()
        for index, each in enumerate(self.filters):
            chains = _chains(each)
            if chains and all(chains):
                for groups in chains:
                    users.setdefault(groups, set()).add(index)
            else:
                always.add(index)
        self.chains: Final = dict(enumerate(users))
        self.always = tuple(sorted(always))
        self.plain = plain(self.chains)
        self.folding = sum(
            1 << number
            for number, groups in self.chains.items()
            if any(group.folded for group in groups)
        )
        """The bits of the chains that fold letters."""
        self._users = tuple(tuple(sorted(each)) for each in users.values())
        self.shown = lru_cache(maxsize=4096)(self._shown)

    def show_all(self, each: Filter) -> None:
        """Show every line to a filter from now on."""
        again = {index for index, known in enumerate(self.filters) if known == each}
        self.always = tuple(sorted(again.union(self.always)))

    def _shown(self, bits: int) -> tuple[int, ...]:
        """Return the filters that are shown a line that holds these chains."""
        found: set[int] = set()
        for number, users in enumerate(self._users):
            if bits >> number & 1:
                found.update(users)
        return tuple(sorted(found))


class Sieve:
    """
    Says which lines could match which of `filters`.

    Those of the same filters share a `plan`. Without an `engine` it is the plain one, fitted to a
    `sample` of the log if there is one.
    """

    def __init__(
        self,
        filters: Sequence[Filter] = (),
        sample: bytes = b"",
        *,
        plan: Plan | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.plan = Plan(filters) if plan is None else plan
        if engine is None:
            engine = plain(self.plan.chains, sample) if sample else self.plan.plain
        self.engine = engine

    @property
    def always(self) -> tuple[int, ...]:
        """The filters that are shown every line."""
        return self.plan.always

    def candidates(self, data: bytes) -> list[Candidate]:
        """Return the lines of `data` that could match, in their order."""
        plan = self.plan
        found = self.engine(data) if plan.chains else {}
        if plan.folding and not data.isascii():
            for end in _unfolded(data):
                found[end] = found.get(end, 0) | plan.folding
        if plan.always:
            return _among_all(plan, data, found)
        rfind, shown = data.rfind, plan.shown
        return [(rfind(b"\n", 0, end) + 1, end, shown(found[end])) for end in sorted(found)]


def _among_all(plan: Plan, data: bytes, found: Mapping[int, int]) -> list[Candidate]:
    always, get = plan.always, found.get
    candidates = []
    for start, end in lines(data):
        bits = get(end)
        which = tuple(sorted({*always, *plan.shown(bits)})) if bits else always
        candidates.append((start, end, which))
    return candidates


def _unfolded(data: bytes) -> set[int]:
    """Find the lines with a character that `bytes.lower` does not fold and `re` does."""
    ends: set[int] = set()
    for char in FOLDS:
        at = data.find(char)
        while at >= 0:
            end = data.find(b"\n", at)
            if end < 0:
                end = len(data)
            ends.add(end)
            at = data.find(char, end)
    return ends


_chain = lru_cache(maxsize=4096)(chain)

_ESCAPED: Final = (Group((rb"\u00",), folded=False),)
"""A line in which an encoder wrote plain characters in another way: nothing is sure then."""

_FOLDED: Final = (Group((rb"\u00", rb"\u013", rb"\u017", rb"\u212"), folded=False),)
"""The same where case does not count: then what `FOLDS` has is as good as a plain character."""


def _chains(each: Filter) -> Sequence[Chain]:
    """Return chains of which one holds in every line that `each` matches; none if unknown."""
    rule = each.rule
    if rule.maxlines > 1:
        return ()
    prefregex = expand(rule.prefregex).pattern if rule.prefregex else ""
    plain = [_beside(rule.prefix, _chain(pattern, prefregex)) for pattern in each.patterns]
    if rule.wrapped:
        return [_shortened(groups, inside) for groups in plain]
    return _structured(rule, plain) if rule.structured else plain


def _structured(rule: Rule, plain: Sequence[Chain]) -> Sequence[Chain]:
    """Return what lines require that are read by their fields: the conditions, or the regexes."""
    required = requires(rule)
    found = [*map(_unescaped, plain)]
    if required:
        condition = Group(tuple(required), folded=False)
        found = [
            groups if groups and min(g.cost for g in groups) < condition.cost else (condition,)
            for groups in found
        ] or [(condition,)]
    folded = any(g.folded for groups in found for g in groups)
    return (*found, _FOLDED if folded else _ESCAPED) if found else ()


def _beside(prefix: str, groups: Chain) -> Chain:
    """
    Leave out what a text put before the line can satisfy.

    A literal may begin in that text and end in the line; then the line has at least what is left
    of it behind the longest such beginning.
    """
    if not prefix:
        return groups
    left = []
    for group in groups:
        if group.folded and not prefix.isascii():
            continue
        before = prefix.encode().lower() if group.folded else prefix.encode()
        pieces = [_behind(before, text) for text in group.literals]
        if all(len(piece) >= SHORTEST for piece in pieces):
            left.append(Group(tuple(sorted(set(pieces))), group.folded))
    return tuple(left)


def _behind(before: bytes, text: bytes) -> bytes:
    """Return what of `text` is in a line wherever it stands in `before` and the line."""
    if text in before:
        return b""
    for length in range(len(text) - 1, 0, -1):
        if before.endswith(text[:length]):
            return text[length:]
    return text


def _unescaped(groups: Chain) -> Chain:
    """Keep of each literal what every encoder of JSON writes as it is."""
    return _shortened(groups, safe_pieces)


def _shortened(groups: Chain, pieces_of: Callable[[bytes], Sequence[bytes]]) -> Chain:
    """Keep of each literal the longest piece; a group with one that has none says nothing."""
    found = []
    for group in groups:
        pieces = [max(pieces_of(text), key=len, default=b"") for text in group.literals]
        if all(len(piece) >= SHORTEST for piece in pieces):
            found.append(Group(tuple(sorted(set(pieces))), group.folded))
    return tuple(found)


def lines(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each line starts and ends (at its LF)."""
    start = 0
    end = data.find(b"\n")
    while end >= 0:
        yield start, end
        start = end + 1
        end = data.find(b"\n", start)
    if start < len(data):
        yield start, len(data)
