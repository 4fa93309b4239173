"""
What stands in a table, from what the kernel tells of it: replies in, answers out. Pure.

Whether it is what was put there, whether it does what ours does, and where chains stand at devices
(doors), which come and go with these.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from dockerjail.nft import messages, ruleset
from dockerjail.nft.messages import Kind, Landmark, Reply, Shape
from dockerjail.nft.ruleset import BanSet

_NAMED: Final = 4
"""Chains, and sets, of a stranger's table that are named."""


def landmarks(found: Iterable[Reply], table: str) -> Sequence[Landmark]:
    """Return what stands in `table`, to be compared."""
    marks = (messages.landmark(reply, table) for reply in found)
    return ordered(mark for mark in marks if mark is not None)


def ordered(marks: Iterable[Landmark]) -> Sequence[Landmark]:
    """Sort, but leave the rules of each chain in their order."""
    return sorted(marks, key=lambda mark: (mark.kind, mark.name))


def homes(found: Iterable[Reply]) -> Sequence[BanSet]:
    """Return the sets of bans in a table, in its order."""
    names = [messages.set_name(reply) for reply in found if reply.kind == Kind.NEWSET]
    parsed = [ruleset.parse_name(name) for name in names]
    return [home for home in parsed if home is not None]


def stranger(found: Sequence[Reply]) -> str:
    """
    Say what a table has that is not dockerjail's; empty if it is, or has nothing.

    Ours, of any version and whatever was done to it, has a rule with one of our comments, or if
    somebody has flushed them the chains and sets that these are for.
    """
    tables = [messages.standing(reply) for reply in found if reply.kind == Kind.NEWTABLE]
    rules = [messages.comment(reply) for reply in found if reply.kind == Kind.NEWRULE]
    if not tables or any(ruleset.is_signed(chain, comment) for chain, comment in rules):
        return ""
    shapes = [shape for reply in found if (shape := messages.shape(reply)) is not None]
    chains = [shape.name for shape in shapes if shape.kind == Kind.NEWCHAIN]
    sets = [shape.name for shape in shapes if shape.kind == Kind.NEWSET]
    flushed = {ruleset.RAW_CHAIN, ruleset.CT_CHAIN}.issubset(chains)
    if flushed and {ruleset.allow_name(version) for version in ruleset.VERSIONS}.issubset(sets):
        return ""
    others = tables[0].objects - len(chains) - len(sets)
    told = [
        _listed("chain", chains) + (f" with {_many('rule', len(rules))}" if rules else ""),
        _listed("set or map", sets),
        _many("other object", others) if others > 0 else "",
    ]
    return ", ".join(each for each in told if each)


def _listed(what: str, names: Sequence[str]) -> str:
    """Say how many there are, and the names of the first."""
    if not names:
        return ""
    more = ", …" if len(names) > _NAMED else ""
    return f"{_many(what, len(names))} ({', '.join(names[:_NAMED])}{more})"


def _many(what: str, number: int) -> str:
    if number == 1:
        return f"1 {what}"
    return f"{number} " + " or ".join(f"{word}s" for word in what.split(" or "))


def at_a_door(mark: Landmark | Shape) -> bool:
    """Say whether this is a chain at a device, or a rule in one."""
    return mark.kind in (Kind.NEWCHAIN, Kind.NEWRULE) and ruleset.is_door(mark.name)


def at(device: str, marks: Iterable[Landmark]) -> Sequence[Landmark]:
    """Return what stands at a device."""
    name = ruleset.door_name(device)
    return [mark for mark in marks if mark.name == name and at_a_door(mark)]


def except_at(devices: Iterable[str], marks: Iterable[Landmark]) -> Sequence[Landmark]:
    """Return all but what stands at some devices."""
    names = {ruleset.door_name(device) for device in devices}
    return [mark for mark in marks if not (at_a_door(mark) and mark.name in names)]


def core(marks: Iterable[Landmark]) -> Sequence[Landmark]:
    """Return all but what stands at any device."""
    return [mark for mark in marks if not at_a_door(mark)]


def doors(marks: Iterable[Landmark], *, keep: Collection[str]) -> Sequence[str]:
    """Return the names of the chains at devices, but those at the devices to `keep`."""
    kept = {ruleset.door_name(device) for device in keep}
    return [
        mark.name
        for mark in marks
        if mark.kind == Kind.NEWCHAIN and at_a_door(mark) and mark.name not in kept
    ]


def core_shapes(found: Iterable[Reply]) -> Sequence[Shape]:
    """Return what all but the chains at devices looks like; the rules of a chain in their order."""
    shapes = (messages.shape(reply) for reply in found)
    return sorted(
        (each for each in shapes if each is not None and not at_a_door(each)),
        key=lambda each: (each.kind, each.name),
    )
