r"""
How chains are searched for: many lines in, which chains each of them holds out. Pure.

An engine answers one question (`Engine`), exactly, so engines differ in nothing but speed. The
plain one is always there: one group of each chain is looked for by `bytes.find`, literal
after literal, and where it is found the rest of the chain is checked on that one line.
Those of `hyperscan.py` look for all at once: for one literal in a third of the time, for a hundred in
a fiftieth.

Which group is the best to look for depends on the log: `"GET ` says much in one and nothing in
another. Without a sample of it that is a guess by length.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from dockerjail.jail.skeleton import Chain, Group

Engine = Callable[[bytes], dict[int, int]]
"""
Looks for chains, each known by its number, in lines that end in LF.

Returns the end of each line that holds some (the place of its LF, of a last line without one the
length of the data), with the bits of all that it holds: `1 << number` for each. No more
than these, and no fewer. Not to be shared by threads.
"""

Finder = Engine
"""The same for one group of each chain; it may return too much, never too little."""

PASS = 25.0
FALSE_HIT = 700.0
"""Nanoseconds per line that one more literal takes, and that a line in vain takes."""


class Checked:
    """An engine: a finder, and a look at the rest of the chain where that found something."""

    def __init__(self, chains: Mapping[int, Chain], find: Finder) -> None:
        self._chains = dict(chains)
        self._find = find
        self._folds = any(g.folded for groups in chains.values() for g in groups)
        self._certain = all(len(groups) == 1 for groups in chains.values())
        self._doubts = lru_cache(maxsize=4096)(self._unpack)

    def __call__(self, data: bytes) -> dict[int, int]:
        """See `Engine`."""
        found = self._find(data)
        if self._certain:
            return found
        held = {}
        for end, bits in found.items():
            left = bits
            doubts = self._doubts(bits)
            if doubts:
                line = data[data.rfind(b"\n", 0, end) + 1 : end]
                lower = line.lower() if self._folds else line
                for bit, groups in doubts:
                    if not _holds(groups, line, lower):
                        left ^= bit
            if left:
                held[end] = left
        return held

    def _unpack(self, bits: int) -> tuple[tuple[int, Chain], ...]:
        """Return those of these chains that have more groups than the one that was found."""
        return tuple(
            (1 << number, groups)
            for number, groups in self._chains.items()
            if bits >> number & 1 and len(groups) > 1
        )


class FindLiterals:
    """The finder that is always there: one pass of `bytes.find` for each literal."""

    def __init__(self, groups: Mapping[int, Group]) -> None:
        tables: tuple[dict[bytes, int], dict[bytes, int]] = ({}, {})
        for number, group in groups.items():
            into = tables[group.folded]
            for literal in group.literals:
                into[literal] = into.get(literal, 0) | 1 << number
        self._exact, self._folded = (tuple(table.items()) for table in tables)

    def __call__(self, data: bytes) -> dict[int, int]:
        """See `Finder`."""
        found: dict[int, int] = {}
        lower = data.lower() if self._folded else data
        for literals, text in ((self._exact, data), (self._folded, lower)):
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


class Together:
    """Engines that each look for chains of their own."""

    def __init__(self, *engines: Engine) -> None:
        self._first, *self._others = engines

    def __call__(self, data: bytes) -> dict[int, int]:
        """See `Engine`."""
        found = self._first(data)
        for engine in self._others:
            for end, bits in engine(data).items():
                found[end] = found.get(end, 0) | bits
        return found


def plain(chains: Mapping[int, Chain], sample: bytes = b"") -> Engine:
    """Return the engine that is always there."""
    return Checked(chains, FindLiterals(chosen(chains, sample)))


def chosen(
    chains: Mapping[int, Chain], sample: bytes = b"", *, each: float = PASS
) -> dict[int, Group]:
    """Pick the group of each chain to look for, where one more literal takes `each` nanoseconds."""
    known: tuple[set[bytes], set[bytes]] = (set(), set())
    common = _frequencies(sample, {g for groups in chains.values() for g in groups})

    def price(group: Group) -> float:
        new = sum(literal not in known[group.folded] for literal in group.literals)
        guess = group.cost * (0.05 + new / len(group.literals))
        return new * each + common[group] * FALSE_HIT + guess / 1000 if common else guess

    found = {}
    for number, groups in chains.items():
        found[number] = min(groups, key=price)
        known[found[number].folded].update(found[number].literals)
    return found


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


def _holds(groups: Iterable[Group], line: bytes, lower: bytes) -> bool:
    """Say whether each group has a literal in the line, one behind the other."""
    start = 0
    for group in groups:
        find = (lower if group.folded else line).find
        if len(group.literals) == 1:
            at = find(group.literals[0], start)
            if at < 0:
                return False
            start = at + len(group.literals[0])
            continue
        behind = -1
        for literal in group.literals:
            at = find(literal, start)
            if at >= 0 and (behind < 0 or at + len(literal) < behind):
                behind = at + len(literal)
        if behind < 0:
            return False
        start = behind
    return True
