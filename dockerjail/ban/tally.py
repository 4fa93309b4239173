"""
What bans have blocked: counters of elements in, sums by ban and jail out. Pure.

The kernel counts from zero whenever an element, or the whole table, is put anew, and forgets
what it counted when an element ends. Here it is added up: a counter that is lower than it was began anew.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from dockerjail.model import Counter, Element

NOTHING: Final = Counter(0, 0)

JAILS: Final = 10_000
"""Jails whose sums are kept; beyond it the one whose bans blocked something longest ago is forgotten."""


class Tally:
    """Adds up; `holders` names the jails whose bans want an element: without one nothing is kept."""

    def __init__(self, holders: Callable[[Element], Iterable[str]]) -> None:
        self._holders = holders
        self._elements: dict[Element, tuple[Counter, Counter]] = {}
        self._jails: OrderedDict[str, Counter] = OrderedDict()

    def update(self, counted: Mapping[Element, Counter]) -> None:
        """Take what elements have counted since they were last put."""
        for element, now in counted.items():
            jails = set(self._holders(element))
            if not jails:
                continue  # it ended while the kernel was asked, and nobody would forget it
            last, total = self._elements.get(element, (NOTHING, NOTHING))
            more = _less(now, last) if now.packets >= last.packets else now
            self._elements[element] = (now, _sum(total, more))
            if more.packets:
                for jail in jails:
                    self._jails[jail] = _sum(self._jails.get(jail, NOTHING), more)
                    self._jails.move_to_end(jail)
                    if len(self._jails) > JAILS:
                        self._jails.popitem(last=False)

    def of(self, elements: Iterable[Element]) -> Counter | None:
        """Return what the elements of a ban have blocked; None when none was ever counted."""
        found = [self._elements[element][1] for element in elements if element in self._elements]
        if not found:
            return None
        return Counter(sum(c.packets for c in found), sum(c.bytes for c in found))

    def of_jail(self, jail: str) -> Counter:
        """Return what the bans of a jail have blocked, also those that are over."""
        return self._jails.get(jail, NOTHING)

    def forget(self, elements: Iterable[Element]) -> None:
        """Let go of elements that nobody wants any more."""
        for element in elements:
            self._elements.pop(element, None)

    def forget_jail(self, jail: str) -> None:
        """Let go of a jail that runs no more and bans nobody."""
        self._jails.pop(jail, None)


def _sum(one: Counter, other: Counter) -> Counter:
    return Counter(one.packets + other.packets, one.bytes + other.bytes)


def _less(one: Counter, other: Counter) -> Counter:
    return Counter(one.packets - other.packets, one.bytes - other.bytes)
