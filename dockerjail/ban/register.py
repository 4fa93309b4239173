"""
The register of bans that are decided on: bans in, and who is asked for by what out. Pure: times come in.

One ban stands for a jail and subject at most. Beside the bans it keeps what would take
a walk through all of them: who ends next, who is banned because of which container, who by force,
whom only the kernel knew.
"""

import heapq
from collections.abc import Collection, Iterator, Sequence, Sized
from typing import Final

from dockerjail.ban.adopted import is_adopted
from dockerjail.ban.budget import Crowd
from dockerjail.ban.reconcile import BanKey
from dockerjail.model import Ban, Mode, Subject

SPARE: Final = 512
"""Ends of bans that were prolonged since, beyond which they are cleared away."""


class Register:
    """Bans by jail and subject, also those that are only observed."""

    def __init__(self) -> None:
        self._bans: dict[BanKey, Ban] = {}
        self._ends: list[tuple[float, int, BanKey]] = []
        self._by_container: dict[tuple[str, Mode], Crowd] = {}
        self._forced: set[BanKey] = set()
        self._adopted: dict[Subject, set[BanKey]] = {}

    def __len__(self) -> int:
        return len(self._bans)

    def __contains__(self, key: BanKey) -> bool:
        return key in self._bans

    def __iter__(self) -> Iterator[Ban]:
        """Go through the bans as they are now: they may be changed meanwhile."""
        return iter(list(self._bans.values()))

    def get(self, key: BanKey) -> Ban | None:
        """Return the ban of a jail and subject, if there is one."""
        return self._bans.get(key)

    def enter(self, ban: Ban) -> None:
        """Enter a ban in place of the one that its jail and subject had."""
        self.strike(ban.key)
        self._bans[ban.key] = ban
        if ban.forced:
            self._forced.add(ban.key)
        if is_adopted(ban):
            self._adopted.setdefault(ban.subject, set()).add(ban.key)
        if ban.container:
            self._by_container.setdefault((ban.container, ban.mode), Crowd()).add(ban.subject)
        if ban.until is not None:
            heapq.heappush(self._ends, (ban.until, ban.id, ban.key))
        if len(self._ends) > 2 * len(self._bans) + SPARE:  # prolonged bans left theirs behind
            self._ends = [
                (each.until, each.id, each.key)
                for each in self._bans.values()
                if each.until is not None
            ]
            heapq.heapify(self._ends)

    def strike(self, key: BanKey) -> None:
        """Strike a ban out, if there is one."""
        ban = self._bans.pop(key, None)
        self._forced.discard(key)
        if ban is not None and is_adopted(ban):
            self._adopted[ban.subject].discard(key)
            if not self._adopted[ban.subject]:
                del self._adopted[ban.subject]
        if ban is not None and ban.container:
            crowd = self._by_container[ban.container, ban.mode]
            crowd.drop(ban.subject)
            if not crowd:
                del self._by_container[ban.container, ban.mode]

    @property
    def forced(self) -> Collection[Subject]:
        """Who is banned in spite of all."""
        return {self._bans[key].subject for key in self._forced}

    def adopted(self, subject: Subject) -> Sequence[Ban]:
        """Return the bans of a subject that were made of what the kernel blocked."""
        return [self._bans[key] for key in self._adopted.get(subject, ())]

    @property
    def next_end(self) -> float | None:
        """When the next ban ends, as early as that may be; None when none ends."""
        return self._ends[0][0] if self._ends else None

    def over(self, now: float) -> Sequence[Ban]:
        """Return the bans whose end has come; each once."""
        found = []
        while self._ends and self._ends[0][0] <= now:
            until, number, key = heapq.heappop(self._ends)
            ban = self._bans.get(key)
            if ban is not None and (ban.id, ban.until) == (number, until):
                found.append(ban)
        return found

    def because_of(self, container: str, mode: Mode) -> Sized:
        """Return the households that are banned, or observed, because of a container."""
        return self._by_container.get((container, mode), ())

    def of_household(self, container: str, home: Subject) -> int:
        """Return how many bans of one household there are because of a container."""
        crowds = (self._by_container.get((container, mode)) for mode in Mode)
        return sum(crowd.of(home) for crowd in crowds if crowd is not None)
