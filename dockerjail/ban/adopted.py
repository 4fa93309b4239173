"""
Bans made of what the kernel blocks, when nobody remembers why. Elements in, bans out. Pure.

Nobody is let in because a database was lost: each element becomes part of a ban by hand with
its own end. What is blocked until another moment, or in another way, is another ban; there is
one ban for a jail and subject, so further ones are in jails `JAIL-2`, `JAIL-3` and so on. A ban that
is known, and all of which the kernel blocks for longer, was prolonged: it is no second one.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from dockerjail.ban.reconcile import SLACK, Ledger, sortable
from dockerjail.model import Ban, Blocktype, Cause, Element, Scope, Subject

REASON = "kept from the kernel: the database was lost"


def adopted(
    present: Mapping[Element, float | None],
    known: Iterable[Ban],
    *,
    jail: str,
    first: int,
    at: float,
    rejects: bool = True,
) -> Sequence[Ban]:
    """
    Return bans in `jail`, numbered from `first` on, for what is `present` and not wanted by `known` ones.

    And those of the `known` that have to last longer. `rejects` as for `Ledger`.
    """
    ledger = Ledger(rejects=rejects)
    taken: dict[Subject, set[str]] = defaultdict(set)
    known = list(known)
    for ban in known:
        ledger.put(ban)
        taken[ban.subject].add(ban.jail)
    prolonged = list(_prolonged(known, ledger, present))
    wanted = ledger.wanted()
    groups: dict[tuple[Subject, Blocktype, bool], list[tuple[float, Element]]] = defaultdict(list)
    for element, until in present.items():
        end = sortable(until)
        if end > at and not (element in wanted and _lasts(wanted[element], end)):
            everything = element.port is None and element.to is None
            groups[element.subject, element.blocktype, everything].append((end, element))
    made: list[Ban] = []
    for (subject, blocktype, _), found in sorted(groups.items(), key=str):
        for end, elements in _together(found):
            free = _free(jail, taken[subject])
            taken[subject].add(free)
            made.append(
                Ban(
                    id=first + len(made),
                    jail=free,
                    subject=subject,
                    scope=_scope(elements),
                    at=at,
                    until=None if end == math.inf else end,
                    reason=REASON,
                    blocktype=blocktype,
                    cause=Cause.OPERATOR,
                )
            )
    return [*prolonged, *made]


def is_adopted(ban: Ban) -> bool:
    """Say whether a ban was made of what the kernel blocked."""
    return ban.cause is Cause.OPERATOR and ban.reason == REASON


def _prolonged(
    known: Iterable[Ban], ledger: Ledger, present: Mapping[Element, float | None]
) -> Iterator[Ban]:
    """Yield, and enter, bans all of which the kernel blocks until the same later moment."""
    for ban in sorted(known, key=lambda each: sortable(each.until), reverse=True):
        wanted = ledger.of(ban.key)
        if not wanted or not all(element in present for element in wanted):
            continue
        ends = [sortable(present[element]) for element in wanted]
        first, last = min(ends), max(ends)
        held = max(sortable(ledger.end(element)) for element in wanted)
        if first > held + SLACK and (first == last or last - first <= SLACK):
            longer = replace(ban, until=None if last == math.inf else last)
            ledger.put(longer)
            yield longer


def _lasts(until: float | None, end: float) -> bool:
    """Say whether what is wanted until a moment lasts as long as what the kernel has."""
    return until is None or until >= end - SLACK


def _together(found: list[tuple[float, Element]]) -> Iterator[tuple[float, Sequence[Element]]]:
    """Yield what ends at the same moment, as exactly as that can be read, with the last such."""
    found.sort(key=lambda each: each[0])
    group: list[Element] = []
    last = first = 0.0
    for end, element in found:
        if group and end > first + SLACK:
            yield last, group
            group = []
        first = end if not group else first
        last = end
        group.append(element)
    yield last, group


def _scope(elements: Iterable[Element]) -> Scope:
    """Return what elements of one kind close."""
    ports = sorted({each.port for each in elements if each.port is not None})
    addresses = sorted({each.to for each in elements if each.to is not None}, key=str)
    if ports or addresses:
        return Scope(ports=tuple(ports), why=REASON, addresses=tuple(addresses))
    return Scope(ports=None, why=REASON)


def _free(jail: str, taken: set[str]) -> str:
    """Return the next jail's name that a subject has no ban in."""
    number, name = 1, jail
    while name in taken:
        number += 1
        name = f"{jail}-{number}"
    return name
