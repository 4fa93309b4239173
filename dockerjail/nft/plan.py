"""
What a change is made of: blocks and elements in, groups that each go into one message out. Pure.

Times come in as seconds since the epoch, and go out as milliseconds to live: 0 is for good.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dockerjail.model import Element
from dockerjail.nft import messages, ruleset
from dockerjail.nft.ruleset import BanSet
from dockerjail.ports import Block

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Group:
    """Elements of one set that go into one message: keys and milliseconds to live."""

    home: BanSet
    entries: Sequence[tuple[bytes, int]]

    def halves(self) -> Iterator["Group"]:
        """Yield the one half, then the other."""
        middle = len(self.entries) // 2
        yield Group(self.home, self.entries[:middle])
        yield Group(self.home, self.entries[middle:])


@dataclass(frozen=True, slots=True)
class Plan:
    """What to block and what to release, ready to be packed."""

    wanted: Sequence[Group]
    gone: Sequence[Group]

    def __str__(self) -> str:
        return f"blocking {count(self.wanted)} and releasing {count(self.gone)} elements"

    @property
    def homes(self) -> frozenset[BanSet]:
        """The sets that this takes."""
        return frozenset(group.home for group in self.wanted)


def plan(blocks: Iterable[Block], remove: Iterable[Element], now: float) -> Plan:
    """Sort out what has time left and what has not; the last block of an element wins."""
    wanted: dict[Element, int] = {}
    gone = dict.fromkeys(remove, 0)
    for block in blocks:
        element, until = block.element, block.until
        if until is None:
            wanted[element] = 0
        elif until > now:
            wanted[element] = min(math.ceil((until - now) * 1000), messages.LONGEST_MS)
        else:
            wanted.pop(element, None)
            gone[element] = 0
    for element in wanted:
        gone.pop(element, None)
    return Plan(grouped(wanted), grouped(gone))


def grouped(wanted: Mapping[Element, int]) -> list[Group]:
    """Sort elements into groups, with their milliseconds to live."""
    by_home: dict[BanSet, list[tuple[bytes, int]]] = {}
    for element, left in wanted.items():
        by_home.setdefault(ruleset.home(element), []).append((ruleset.key(element), left))
    return [Group(home, part) for home, entries in by_home.items() for part in portions(entries)]


def portions(entries: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield as many at a time as go into one message."""
    for at in range(0, len(entries), messages.PER_MESSAGE):
        yield entries[at : at + messages.PER_MESSAGE]


def count(these: Iterable[object]) -> int:
    """Return how many elements those of these that are groups have."""
    return sum(len(each.entries) for each in these if isinstance(each, Group))
