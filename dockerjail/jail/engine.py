r"""
How chains are searched for: many lines in, which chains each of them holds out. Pure.

An engine answers one question (`Engine`), exactly, so two of them are told apart by their
speed alone. `PlainEngine` is the one that is always there: `bytes.find` for the literals
of one group of each chain, the cheapest by what the log itself looks like, and the rest of the
chain on the lines where one was found. It is fast as long as there are few literals.
`hyperscan.py` makes the other, which looks for all chains in one pass.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from dockerjail.jail.skeleton import Chain, Group

PASS = 25
FALSE_HIT = 700
"""Nanoseconds per line that one more literal takes, and that a line in vain takes."""


class Engine(Protocol):
    """
    Looks for chains, each known by its number, in lines that end in LF.

    Returns the end of each line that holds some (the place of its LF, of a last line without
    one the length of `data`), with the bits of all that it holds: `1 << number` for each.
    No more than these, and no fewer. Never shared by threads.
    """

    def __call__(self, data: bytes) -> dict[int, int]:
        """Search `data`."""
        ...


class PlainEngine:
    """The engine that is always there; fitted to a `sample` of the log, if there is one."""

    def __init__(self, chains: Mapping[int, Chain], sample: bytes = b"") -> None:
        self._chains = dict(chains)
        self._folds = any(g.folded for groups in chains.values() for g in groups)
        exact, folded = self._choose(sample)
        self._exact = tuple(exact.items())
        self._folded = tuple(folded.items())
        self._certain = all(len(groups) == 1 for groups in chains.values())
        self._doubts = lru_cache(maxsize=4096)(self._unpack)

    def __call__(self, data: bytes) -> dict[int, int]:
        """See `Engine`."""
        lower = data.lower() if self._folds else data
        found: dict[int, int] = {}
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
        if self._certain:
            return found
        held = {}
        for end, bits in found.items():
            left = self._verified(bits, data, lower, end)
            if left:
                held[end] = left
        return held

    def _verified(self, bits: int, data: bytes, lower: bytes, end: int) -> int:
        """Take the chains out of `bits` that the line does not hold as a whole."""
        doubts = self._doubts(bits)
        if doubts:
            start = data.rfind(b"\n", 0, end) + 1
            for bit, groups in doubts:
                if not _holds(groups, data, lower, start, end):
                    bits ^= bit
        return bits

    def _choose(self, sample: bytes) -> tuple[dict[bytes, int], dict[bytes, int]]:
        """Pick the group of each chain to search for."""
        tables: tuple[dict[bytes, int], dict[bytes, int]] = ({}, {})
        common = _frequencies(sample, {g for groups in self._chains.values() for g in groups})

        def price(group: Group) -> float:
            known = tables[group.folded]
            new = sum(literal not in known for literal in group.literals)
            if common:
                return 1 + new * PASS + common[group] * FALSE_HIT
            return group.cost * (0.05 + new / len(group.literals))

        for number, groups in self._chains.items():
            first = min(groups, key=price)
            into = tables[first.folded]
            for literal in first.literals:
                into[literal] = into.get(literal, 0) | 1 << number
        return tables

    def _unpack(self, bits: int) -> tuple[tuple[int, Chain], ...]:
        """Return those of these chains that have more groups than the one that was found."""
        return tuple(
            (1 << number, groups)
            for number, groups in self._chains.items()
            if bits >> number & 1 and len(groups) > 1
        )


class BothEngines:
    """Several engines that look for different chains."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = tuple(engines)

    def __call__(self, data: bytes) -> dict[int, int]:
        """See `Engine`."""
        first, *others = self._engines
        found = first(data)
        for engine in others:
            for end, bits in engine(data).items():
                found[end] = found.get(end, 0) | bits
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


def _holds(groups: Iterable[Group], data: bytes, lower: bytes, start: int, end: int) -> bool:
    """Say whether each group has a literal in the line, one behind the other."""
    for group in groups:
        find = (lower if group.folded else data).find
        behind = -1
        for literal in group.literals:
            at = find(literal, start, end)
            if at >= 0 and (behind < 0 or at + len(literal) < behind):
                behind = at + len(literal)
        if behind < 0:
            return False
        start = behind
    return True
