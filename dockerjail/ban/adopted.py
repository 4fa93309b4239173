"""
Bans made of what the kernel blocks, when nobody remembers why. Elements in, bans out. Pure.

Nobody is let in because a database was lost: each element becomes part of a ban by hand with
its own end. What is blocked until another moment, or in another way, is another ban; there is
one ban for a jail and subject, so further ones are in jails `JAIL-2`, `JAIL-3` and so on.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dockerjail.ban.reconcile import SLACK, Ledger
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

    `rejects` as for `Ledger`.
    """
    ledger = Ledger(rejects=rejects)
    taken: dict[Subject, set[str]] = defaultdict(set)
    for ban in known:
        ledger.put(ban)
        taken[ban.subject].add(ban.jail)
    wanted = ledger.wanted()
    groups: dict[tuple[Subject, Blocktype, bool], list[tuple[float, Element]]] = defaultdict(list)
    for element, until in present.items():
        end = math.inf if until is None else until
        if end > at and not (element in wanted and _lasts(wanted[element], end)):
            everything = element.port is None and element.to is None
            groups[element.subject, element.blocktype, everything].append((end, element))
    bans: list[Ban] = []
    for (subject, blocktype, _), found in sorted(groups.items(), key=str):
        for end, elements in _together(found):
            free = _free(jail, taken[subject])
            taken[subject].add(free)
            bans.append(
                Ban(
                    id=first + len(bans),
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
    return bans


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
