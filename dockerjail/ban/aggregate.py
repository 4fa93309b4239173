"""
Neighbours: bans of one jail in, the network that has enough of them out. Pure: times come in.

Who owns a /24 or a /48 has more addresses than a jail can ban one by one.
"""

from bisect import insort
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dockerjail.jail.policy import Aggregate
from dockerjail.model import Subject

WIDTH: Final = {4: 24, 6: 48}
"""The prefix lengths of the networks that are banned as wholes: what is given to one user."""

LIMIT: Final = 65536
"""Bans that are remembered; beyond it the network heard of longest ago is forgotten."""

CROWD: Final = 1024
"""Bans that are remembered of one network: more than twice what a jail can ask for."""


class _Banned(NamedTuple):
    """A ban, to be kept in the order of time."""

    at: float
    subject: Subject


@dataclass(slots=True)
class _Network:
    """The bans of one jail in one network, and when the last of them count no more."""

    bans: list[_Banned] = field(default_factory=list)
    until: float = 0.0


class Neighbours:
    """
    Counts whom jails banned, by network: strictly, as a window counts failures.

    Bans may come late and in any order: what is up to `Aggregate.time` late counts exactly.
    """

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit = limit
        self._networks: OrderedDict[tuple[str, Subject], _Network] = OrderedDict()
        self._bans = 0

    def __len__(self) -> int:
        return self._bans

    def add(self, jail: str, subject: Subject, at: float, aggregate: Aggregate) -> Subject | None:
        """
        Count the ban of `subject` at `at`; return the network if it completes one.

        That is the /24 or /48 around it when `aggregate.addresses` different subjects in it were
        banned, none `aggregate.time` seconds or more before the last. It starts from nothing
        then. A subject as wide or wider is no neighbour.
        """
        width = WIDTH[subject.version]
        if subject.prefixlen <= width:
            return None
        around = subject.supernet(new_prefix=width)
        key = jail, around
        network = self._networks.setdefault(key, _Network())
        self._networks.move_to_end(key)
        self._put(network, _Banned(at, subject), aggregate.time)
        if _enough(network.bans, at, aggregate):
            self._drop(key)
            return around
        self._sweep(at)
        return None

    def set_back(self, seconds: float, after: float, now: float) -> None:
        """Follow a clock that was set back; what was banned from `after` to `now` goes by its new time."""
        for network in self._networks.values():
            counting = network.until - network.bans[-1].at
            network.bans = sorted(
                (
                    each if after <= each.at <= now else each._replace(at=each.at - seconds)
                    for each in network.bans
                ),
                key=lambda each: each.at,
            )
            network.until = network.bans[-1].at + counting

    def forget(self, jail: str) -> None:
        """Let go of what a jail banned: it runs no more."""
        for key in [key for key in self._networks if key[0] == jail]:
            self._drop(key)

    def _put(self, network: _Network, banned: _Banned, time: float) -> None:
        """Put a ban in its place, and drop those that no late one can need."""
        before = len(network.bans)
        insort(network.bans, banned, key=lambda each: each.at)
        last = network.bans[-1].at
        network.until = last + 2 * time
        network.bans = [each for each in network.bans if each.at > last - 2 * time][-CROWD:]
        self._bans += len(network.bans) - before

    def _sweep(self, at: float) -> None:
        """Drop networks that stopped misbehaving, two for each ban, and what is too much."""
        for _ in range(2):
            key, network = next(iter(self._networks.items()))
            if network.until > at and self._bans <= self._limit:
                return
            if len(self._networks) == 1:
                return
            self._drop(key)
        while self._bans > self._limit and len(self._networks) > 1:
            self._drop(next(iter(self._networks)))

    def _drop(self, key: tuple[str, Subject]) -> None:
        self._bans -= len(self._networks.pop(key).bans)


def _enough(bans: list[_Banned], at: float, aggregate: Aggregate) -> bool:
    """Say whether some stretch of time that holds the moment `at` has enough subjects."""
    inside: Counter[Subject] = Counter()
    first = 0
    for last in bans:
        if last.at >= at + aggregate.time:
            return False
        inside[last.subject] += 1
        while bans[first].at <= last.at - aggregate.time:
            gone = bans[first].subject
            inside[gone] -= 1
            if not inside[gone]:
                del inside[gone]
            first += 1
        if last.at >= at and len(inside) >= aggregate.addresses:
            return True
    return False
