"""
How many bans the log of one container may lead to. Pure: times come in, of a clock that nobody sets.

Who can write into a log can have others banned. A container that bans more than its budget
goes to observation: its bans are recorded and not carried out, until it has kept
within its budget for a while.

Somebody's /48 of IPv6 is one household: it has 65 536 networks to be banned with, and who could trip the
budget with those would have turned all bans of the container into observed ones. So it is one ban to the
budget, and becomes one when it is many.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Final

from dockerjail.model import Subject

REST: Final = 600.0
"""Seconds that a container has to keep within its budget before its bans are carried out again."""

CONTAINERS: Final = 4096
"""Containers that are remembered; the one that banned longest ago is forgotten first."""

SHARE: Final = 64
"""Bans of one household that count as one ban in force."""

HOUSEHOLD: Final = 256
"""Bans of one household because of one container; with the next the household is banned as a whole."""

MOST_BANS: Final = 250_000
MOST_ELEMENTS: Final = 500_000
"""
Bans that stand at a time, and elements that enforce them, whoever made them; no more are made then.

A ban takes about 3 KiB here and 200 bytes in the kernel. Each port of a ban is an element.
"""

_MINUTE: Final = 60.0
_SITE: Final = 48

_ENOUGH: Final = 1 - 1e-9
"""A coin, but for what is lost by adding fractions."""


@dataclass(slots=True, kw_only=True)
class _Purse:
    """
    One container's coins: a ban takes one, and they come back with time, up to a full purse.

    `paid` is for which households, and when, within the last minute. `since` is when its bans
    began to be observed, `over_at` when one last did not fit.
    """

    coins: float
    at: float
    paid: OrderedDict[Subject, float] = field(default_factory=OrderedDict)
    since: float | None = None
    over_at: float = 0.0
    held: int = 0
    untold: bool = False


class Crowd:
    """The bans that stand because of one container, by household; `len` is what a budget counts."""

    def __init__(self) -> None:
        self._homes: Counter[Subject] = Counter()
        self._more = 0

    def __len__(self) -> int:
        return len(self._homes) + self._more

    def of(self, home: Subject) -> int:
        """Return how many bans there are of a household."""
        return self._homes[home]

    def add(self, subject: Subject) -> None:
        """Count a ban."""
        home = household(subject)
        self._homes[home] += 1
        self._more += self._homes[home] % SHARE == 1 and self._homes[home] > 1

    def drop(self, subject: Subject) -> None:
        """Count a ban less."""
        home = household(subject)
        self._more -= self._homes[home] % SHARE == 1 and self._homes[home] > 1
        self._homes[home] -= 1
        if not self._homes[home]:
            del self._homes[home]


class Budget:
    """
    Bans by container: `per_minute`, as many at once, and `active` at a time; 0 is no limit.

    `rest` is in seconds.
    """

    def __init__(self, per_minute: int = 200, active: int = 5000, rest: float = REST) -> None:
        self.per_minute = per_minute
        self.active = active
        self.rest = rest
        self._purses: OrderedDict[str, _Purse] = OrderedDict()

    def __len__(self) -> int:
        return len(self._purses)

    def admit(self, container: str, subject: Subject, at: float, active: int) -> bool:
        """
        Say whether a ban of `subject` at `at` is carried out; if not, it is to be observed.

        `active` are the households that are banned already because of the container's lines.
        """
        purse = self._purse(container, at)
        fits = self._pay(purse, household(subject), at) and not self.crowded(active)
        if purse.since is not None and at >= purse.over_at + self.rest and not self.crowded(active):
            purse.since = None  # it had recovered before this ban
        if not fits:
            purse.over_at = max(purse.over_at, at)
            if purse.since is None:
                purse.since, purse.held, purse.untold = at, 0, True
        if purse.since is None:
            return True
        purse.held += 1
        return False

    def newly_tripped(self, container: str) -> bool:
        """Say whether a container went beyond its budget; of each time only the first to ask learns."""
        purse = self._purses.get(container)
        if purse is None or not purse.untold:
            return False
        purse.untold = False
        return True

    def tripped(self, container: str, at: float, active: int = 0) -> float | None:
        """Return since when a container's bans are observed, None if the next would not be."""
        purse = self._purses.get(container)
        if purse is None:
            return None
        rested = at >= purse.over_at + self.rest and not self.crowded(active)
        return None if rested else purse.since

    def observed(self, container: str) -> int:
        """Return how many bans were held back since a container last went beyond its budget."""
        purse = self._purses.get(container)
        return purse.held if purse else 0

    def forget(self, container: str) -> None:
        """Let go of a container that is gone."""
        self._purses.pop(container, None)

    def crowded(self, active: int) -> bool:
        """Say whether so many bans at a time are as many as a container may have."""
        return bool(self.active) and active >= self.active

    def _purse(self, container: str, at: float) -> _Purse:
        """Return a container's purse, with the coins that came back until `at`."""
        purse = self._purses.get(container)
        if purse is None:
            if len(self._purses) >= CONTAINERS:
                self._purses.popitem(last=False)
            purse = self._purses[container] = _Purse(coins=self.per_minute, at=at)
        self._purses.move_to_end(container)
        if at > purse.at:
            back = (at - purse.at) * self.per_minute / 60
            purse.coins = min(self.per_minute, purse.coins + back)
            purse.at = at
        return purse

    def _pay(self, purse: _Purse, whom: Subject, at: float) -> bool:
        """Take a coin for a household, unless it was paid for within a minute; say if there was one."""
        while purse.paid and next(iter(purse.paid.values())) <= at - _MINUTE:
            purse.paid.popitem(last=False)
        if not self.per_minute or whom in purse.paid:
            return True
        if purse.coins < _ENOUGH:
            return False
        purse.coins = max(0.0, purse.coins - 1)
        purse.paid[whom] = at
        return True


def household(subject: Subject) -> Subject:
    """Return the network that is most likely all one client's: for IPv6 the /48 around a narrower one."""
    if subject.version == 6 and subject.prefixlen > _SITE:
        return subject.supernet(new_prefix=_SITE)
    return subject
