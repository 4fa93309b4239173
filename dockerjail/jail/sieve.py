"""
The sieve: the bytes of a chunk in, the few lines that could match out. Pure.

Built once for the filters of a container's jails. Of each failregex's chain
(`skeleton.py`) the cheapest group is searched for in the whole chunk; where it is found,
the rest of the chain is checked on that one line. A line that a filter matches is never
held back from it; `re` has the last word on what comes through.

How the groups are searched for is the engine's business (`Engine`): here one
`bytes.find` after another, which is faster than any `re` as long as the literals are
few. An engine that looks for thousands at once can take its place.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol

from dockerjail.jail.envelope import inside
from dockerjail.jail.fields import requires, safe_pieces
from dockerjail.jail.filter import Filter
from dockerjail.jail.skeleton import FOLDS, SHORTEST, Chain, Group, chain

Candidate = tuple[int, int, tuple[int, ...]]
"""Where a line starts and ends (at its LF) in the data, and which filters could match it."""


PASS = 25
FALSE_HIT = 700
"""Nanoseconds per line that one more literal takes, and that a line in vain takes."""


class Engine(Protocol):
    """
    Looks for many literals at once in lines that each end in LF.

    Returns the end of each line that has one (the place of its LF), with the bits of all
    the literals that it has. It may return too much, never too little.
    """

    def __call__(self, data: bytes, folded: bytes) -> dict[int, int]:
        """Search `data`, and the literals to be folded in `folded`, its lower case."""
        ...


class FindEngine:
    """The engine that is always there: one pass of `bytes.find` for each literal."""

    def __init__(self, exact: Mapping[bytes, int], folded: Mapping[bytes, int]) -> None:
        self._exact = tuple(exact.items())
        self._folded = tuple(folded.items())

    def __call__(self, data: bytes, folded: bytes) -> dict[int, int]:
        """See `Engine`."""
        found: dict[int, int] = {}
        for literals, text in ((self._exact, data), (self._folded, folded)):
            find = text.find
            for literal, bits in literals:
                at = find(literal)
                while at >= 0:
                    end = find(b"\n", at)
                    if end < 0:
                        end = len(text)
                    found[end] = found.get(end, 0) | bits
                    at = find(literal, end)
        return found


class Sieve:
    """
    Says which lines could match which of `filters`; without state, shared at will.

    What is cheap to look for depends on the log: `"GET ` says much in one and nothing in
    another. Without a `sample` of it that is a guess by length.
    """

    def __init__(self, filters: Sequence[Filter], sample: bytes = b"") -> None:
        self.filters = tuple(filters)
        self.all = tuple(range(len(filters)))
        self._rules: list[tuple[int, Chain]] = []
        always: set[int] = set()
        for index, each in enumerate(filters):
            chains = _chains(each)
            if chains and all(chains):
                self._rules += [(index, groups) for groups in dict.fromkeys(chains)]
            else:
                always.add(index)
        self.always = tuple(sorted(always))
        """The filters that are shown every line, since one of their regexes requires nothing."""
        self._any_folded = any(g.folded for _, groups in self._rules for g in groups)
        self._folding = sum(
            1 << n for n, (_, groups) in enumerate(self._rules) if any(g.folded for g in groups)
        )
        self._engine: Engine = FindEngine(*self._choose(sample))
        self._verdicts = lru_cache(maxsize=4096)(self._unpack)

    def _choose(self, sample: bytes) -> tuple[dict[bytes, int], dict[bytes, int]]:
        """Pick the group of each chain to search for, and give each rule its bit."""
        tables: tuple[dict[bytes, int], dict[bytes, int]] = ({}, {})
        common = _frequencies(sample, {g for _, groups in self._rules for g in groups})

        def price(group: Group) -> float:
            known = tables[group.folded]
            new = sum(literal not in known for literal in group.literals)
            if common:
                return 1 + new * PASS + common[group] * FALSE_HIT
            return group.cost * (0.05 + new / len(group.literals))

        for number, (_, groups) in enumerate(self._rules):
            first = min(groups, key=price)
            into = tables[first.folded]
            for literal in first.literals:
                into[literal] = into.get(literal, 0) | 1 << number
        return tables

    def _unpack(self, bits: int) -> tuple[bool, tuple[tuple[int, Chain], ...], tuple[int, ...]]:
        """Return whether all of these rules are certain, the rules, and their filters."""
        rules = tuple(rule for n, rule in enumerate(self._rules) if bits >> n & 1)
        certain = all(len(groups) == 1 for _, groups in rules)
        return certain, rules, tuple(sorted({index for index, _ in rules}))

    def candidates(self, data: bytes) -> Iterator[Candidate]:
        """Yield the lines of `data` that could match, in their order."""
        folded = data.lower() if self._any_folded else data
        found = self._engine(data, folded) if self._rules else {}
        unfolded = self._unfolded(data) if self._any_folded and not data.isascii() else frozenset()
        for end in unfolded:
            found[end] = found.get(end, 0) | self._folding
        if self.always:
            yield from self._among_all(data, folded, found, unfolded)
            return
        for end in sorted(found):
            start = data.rfind(b"\n", 0, end) + 1
            which = self._which(found[end], data, folded, start, end, sure=end in unfolded)
            if which:
                yield start, end, which

    def _among_all(
        self, data: bytes, folded: bytes, found: Mapping[int, int], unfolded: frozenset[int]
    ) -> Iterator[Candidate]:
        always = frozenset(self.always)
        for start, end in lines(data):
            bits = found.get(end, 0)
            if not bits:
                yield start, end, self.always
                continue
            which = self._which(bits, data, folded, start, end, sure=end in unfolded)
            yield start, end, tuple(sorted(always.union(which)))

    def _which(
        self, bits: int, data: bytes, folded: bytes, start: int, end: int, *, sure: bool
    ) -> tuple[int, ...]:
        """Return the filters of which a regex has its whole chain in one line."""
        certain, rules, indices = self._verdicts(bits)
        if certain:
            return indices
        passed: list[int] = []
        for index, groups in rules:
            if passed and passed[-1] == index:
                continue
            if (sure and any(g.folded for g in groups)) or _holds(groups, data, folded, start, end):
                passed.append(index)
        return tuple(passed)

    def _unfolded(self, data: bytes) -> frozenset[int]:
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
        return frozenset(ends)


def _frequencies(sample: bytes, groups: Iterable[Group]) -> Mapping[Group, float]:
    """Return how many times a line of `sample` has a literal of each group, on average."""
    count = sample.count(b"\n")
    if not count:
        return {}
    folded = sample.lower()
    return {
        group: sum((folded if group.folded else sample).count(text) for text in group.literals)
        / count
        for group in groups
    }


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
    plain = [_beside(rule.prefix, _chain(pattern)) for pattern in each.patterns]
    if rule.wrapped:
        return [_shortened(groups, inside) for groups in plain]
    if rule.structured:
        required = requires(rule)
        if required:
            return (Group(tuple(required), folded=False),), _ESCAPED
        escaped = _FOLDED if any(g.folded for groups in plain for g in groups) else _ESCAPED
        return (*map(_unescaped, plain), escaped) if plain else ()
    return plain


def _beside(prefix: str, groups: Chain) -> Chain:
    """Leave out the groups that a text put before the line can satisfy, in part or whole."""
    before = prefix.encode()
    if not before:
        return groups
    return tuple(
        group
        for group in groups
        if not any(
            _shared(before.lower() if group.folded else before, text) for text in group.literals
        )
    )


def _shared(before: bytes, text: bytes) -> bool:
    return text in before or any(before.endswith(text[:n]) for n in range(1, len(text)))


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


def _holds(groups: Iterable[Group], data: bytes, folded: bytes, start: int, end: int) -> bool:
    """Say whether each group has a literal in the line, one behind the other."""
    for group in groups:
        find = (folded if group.folded else data).find
        behind = -1
        for literal in group.literals:
            at = find(literal, start, end)
            if at >= 0 and (behind < 0 or at + len(literal) < behind):
                behind = at + len(literal)
        if behind < 0:
            return False
        start = behind
    return True
