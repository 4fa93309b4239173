"""
What the kernel should hold, and what to change so that it does. Pure.

Several bans may want the same element (two jails, one address, one port): it
stays until the last of them ends. If one drops and the other rejects, these are two
elements; that a drop wins is decided by the order in which the kernel looks. A ban that is
only observed wants none.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dockerjail.model import Ban, Blocktype, Element, Mode, Subject
from dockerjail.ports import Block

BanKey = tuple[str, Subject]

SLACK = 2.0
"""Seconds by which an element's end may differ from the wanted one: jiffies, rounding and the
time between writing and reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What to write into the kernel, and what to take out."""

    add: tuple[Block, ...] = ()
    remove: tuple[Element, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


def elements(ban: Ban, *, rejects: bool = True) -> tuple[Element, ...]:
    """
    Return the elements that enforce `ban`; all drop if the packet filter never `rejects`.

    What goes past the host can only be dropped, and no packet leads from one family's
    address to one of the other.
    """
    if ban.mode is Mode.OBSERVE:
        return ()
    subject, scope = ban.subject, ban.scope
    blocktype = ban.blocktype if rejects else Blocktype.DROP
    if scope.ports is None:
        return (Element(subject, None, blocktype),)
    ports = (Element(subject, port, blocktype) for port in scope.ports)
    past = (
        Element(subject, None, Blocktype.DROP, address)
        for address in scope.addresses
        if address.version == subject.version
    )
    return (*ports, *past)


class Ledger:
    """Which ban wants which elements, and until when; `rejects` as for `elements`."""

    def __init__(self, *, rejects: bool = True) -> None:
        self._rejects = rejects
        self._wants: dict[BanKey, tuple[Element, ...]] = {}
        self._holders: dict[Element, dict[BanKey, float]] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def put(self, ban: Ban) -> Change:
        """Enter `ban`, or its new end or scope; return what that changes in the kernel."""
        old, new = self._wants.get(ban.key, ()), elements(ban, rejects=self._rejects)
        before = {element: self._end(element) for element in (*old, *new)}
        self._leave(ban.key, old)
        for element in new:
            self._holders.setdefault(element, {})[ban.key] = sortable(ban.until)
        self._wants[ban.key] = new
        return self._change(before)

    def drop(self, key: BanKey) -> Change:
        """Strike a ban out; return what that changes in the kernel."""
        old = self._wants.pop(key, ())
        before = {element: self._end(element) for element in old}
        self._leave(key, old)
        return self._change(before)

    def wanted(self) -> dict[Element, float | None]:
        """Return every element with its end, None for one that has none."""
        return {element: _none(max(ends.values())) for element, ends in self._holders.items()}

    def holders(self, element: Element) -> tuple[str, ...]:
        """Return the jails whose bans want an element."""
        return tuple(jail for jail, _ in self._holders.get(element, ()))

    def end(self, element: Element) -> float | None:
        """Return when an element that somebody wants ends, None if never."""
        return _none(max(self._holders[element].values()))

    def of(self, key: BanKey) -> tuple[Element, ...]:
        """Return the elements of one ban."""
        return self._wants.get(key, ())

    def _leave(self, key: BanKey, wants: Iterable[Element]) -> None:
        for element in wants:
            holders = self._holders[element]
            del holders[key]
            if not holders:
                del self._holders[element]

    def _end(self, element: Element) -> float | None:
        """Return when an element ends; None when nobody wants it."""
        holders = self._holders.get(element)
        return max(holders.values()) if holders else None

    def _change(self, before: Mapping[Element, float | None]) -> Change:
        add, remove = [], []
        for element, was in before.items():
            end = self._end(element)
            if end is None:
                remove.append(element)
            elif end != was:
                add.append(Block(element=element, until=_none(end)))
        return Change(add=tuple(add), remove=tuple(remove))


def reconcile(
    wanted: Mapping[Element, float | None], present: Mapping[Element, float | None]
) -> Change:
    """Return what makes `present` be `wanted`, letting ends differ by `SLACK` seconds."""
    add = [
        Block(element=element, until=until)
        for element, until in wanted.items()
        if element not in present or _differ(sortable(until), sortable(present[element]))
    ]
    remove = [element for element in present if element not in wanted]
    return Change(add=tuple(add), remove=tuple(remove))


def _differ(one: float, other: float) -> bool:
    return one != other and not abs(one - other) <= SLACK


def sortable(until: float | None) -> float:
    """Turn "for good" into a time later than any."""
    return math.inf if until is None else until


def _none(end: float) -> float | None:
    return None if end == math.inf else end
