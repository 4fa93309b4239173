"""
A window: failures of one jail in, the moment a subject has enough of them out. Pure.

Strict: an offence is `maxretry` failures of a subject of which none is `findtime` or
more older than the last, no fewer, and always then. (fail2ban estimates a rate, and
bans four failures in ten minutes when they go on for long.) After an offence the
subject starts from nothing.

The lines of stdout and stderr, and of replicas, arrive slightly out of order. A failure
is put in its place by its own time; what is up to a `findtime` late counts exactly, and
what is up to `LATE` in any case.

An attacker has more addresses than there is memory: a /32 of IPv6, or whatever he writes into
X-Forwarded-For. All windows share a `Room`. When it is full the largest window gives way, so that
who floods one jail takes nothing from another; first go subjects that have failed but once, those
heard of longest ago before others, so that who floods does not clear his own account.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple
from weakref import WeakSet

from dockerjail.model import Subject

ONCE: Final = 240
OFTEN: Final = 336
TIME: Final = 32
"""
Bytes that a subject takes that has failed once, that has more often, and each failure of those.

Measured with CPython 3.11: 159 for IPv4, 175 for IPv6, half as much again after millions have come and
gone, and 80 more for a list.
"""

LATE: Final = 12.0
"""
Seconds that a failure may come late however short the `findtime`: of a log that is caught up on
the lines of one stream may come ten seconds of them before those of the other (`docker.cursor.ROUND`).
"""

MOST: Final = 128 * 1024 * 1024
"""Bytes for all windows together: more than half a million addresses that have failed once."""

COUNTED: Final = 5000
"""Subjects of either kind that `failing` looks at: half a million take a tenth of a second."""

SHED: Final = 256
"""The part of all that is dropped in one go: 2 ms of work."""

SWEEP: Final = 16
"""After so many failures those who stopped failing are looked for: of either kind two for each."""

NEWCOMERS: Final = 4
"""The part of a full window that is for those who have failed once, however many failed more often."""


class Full(NamedTuple):
    """A subject has failed often enough: how often, and when the last time was."""

    failures: int
    at: float


class Room:
    """Memory that windows share: `most` bytes, and how many are `used`."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.used = 0
        self._windows: WeakSet[Window] = WeakSet()

    def enter(self, window: "Window") -> None:
        """Let a window in; whoever drops one that holds something clears it first."""
        self._windows.add(window)

    def take(self, more: int) -> None:
        """Count bytes that a window takes, fewer than none if it gives them back."""
        self.used += more
        if self.used > self.most:
            self._shed()

    def _shed(self) -> None:
        """Have the largest window forget, and then who is the largest, until there is some room."""
        enough = self.most - self.most // SHED
        while self.used > enough:
            largest = max(self._windows, key=lambda window: window.size)
            if len(largest) <= 1:
                return  # a single subject's times are bounded
            largest.shed(self.used - enough)


class Window:
    """
    Counts failures per subject; `findtime` in seconds.

    `add` is constant on average. Memory is bounded: a subject keeps fewer than `maxretry`
    times for each findtime in two of them, or in one and `LATE`, and is forgotten when the last
    is as old as that. `forgotten` counts the
    subjects dropped for want of room, `forgotten_at` is the time of the failure that the last
    had to make room for.
    """

    def __init__(self, maxretry: int, findtime: float, *, room: Room | None = None) -> None:
        self.retune(maxretry, findtime)
        self.forgotten = 0
        self.forgotten_at = 0.0
        self._room = room if room is not None else Room()
        self._room.enter(self)
        self._once: OrderedDict[int, float] = OrderedDict()
        self._often: OrderedDict[int, list[float]] = OrderedDict()
        self._size = 0
        self._paid = 0
        self._now = 0.0
        self._unswept = 0

    def __len__(self) -> int:
        return len(self._once) + len(self._often)

    @property
    def size(self) -> int:
        """How many bytes it takes, about."""
        return self._size

    def retune(self, maxretry: int, findtime: float) -> None:
        """Count with other numbers from now on; what was counted stays."""
        self.maxretry = maxretry
        self.findtime = findtime
        # seconds behind the newest that a failure may still count with one that comes late
        self._kept = findtime + max(findtime, LATE)

    def add(self, subject: Subject, at: float) -> Full | None:
        """Count a failure at `at`, seconds since the epoch; say if it is the last of enough."""
        return self.fail(number(subject), at)

    def fail(self, key: int, at: float) -> Full | None:
        """Do what `add` does, of a subject whose `number` is known."""
        # in one piece, since each line of an attack comes by here
        often = self._often
        times = often.get(key)
        if times is None:
            times = self._begin(key, at)
        else:
            often.move_to_end(key)
            times.append(at)
            self._size += TIME
            if at < times[-2] or times[0] <= at - self._kept:
                times = self._order(key, times)
        full = None
        if len(times) >= self.maxretry:
            full = self._full(times, at)
            if full is not None:
                self._drop(key)
        self._now = at
        self._unswept += 1
        if self._unswept >= SWEEP:
            self._sweep(at)
        more = self._size - self._paid
        if more:
            self._paid = self._size
            room = self._room
            room.used += more
            if room.used > room.most:
                room.take(0)
        return full

    def restore(self, failures: Iterable[tuple[Subject, float]]) -> None:
        """
        Put back failures that a store remembers; makes no offence of them.

        If they are enough for one already (`maxretry` was lowered meanwhile), the
        subject's next failure is it.
        """
        for subject, at in failures:
            self._put(number(subject), at)
            self._unswept += 1
            self._sweep(at)
            self._pay()

    def count(self, subject: Subject, at: float) -> int:
        """Return how many failures of `subject` count at the moment `at`."""
        return sum(t > at - self.findtime for t in self._of(number(subject)))

    def failing(self, at: float) -> int:
        """
        Return how many subjects have failures that count at the moment `at`.

        Of very many at least so many: only those heard of last are looked at.
        """
        since = at - self.findtime
        once = islice(reversed(self._once.values()), COUNTED)
        often = islice(reversed(self._often.values()), COUNTED)
        return sum(last > since for last in once) + sum(times[-1] > since for times in often)

    def forget(self, subject: Subject) -> None:
        """Start from nothing for `subject`."""
        self._drop(number(subject))
        self._pay()

    def clear(self) -> None:
        """Start from nothing for all, and take no room any more."""
        self._once.clear()
        self._often.clear()
        self._size = 0
        self._pay()

    def shed(self, size: int) -> None:
        """Forget subjects until it takes `size` bytes less: whom it is the least danger to."""
        self.forgotten_at = self._now
        wanted = self.size - size
        while self.size > wanted and len(self) > 1:
            if self._once and NEWCOMERS * len(self._once) >= len(self):
                self._once.popitem(last=False)
                self._size -= ONCE
            else:
                _, times = self._often.popitem(last=False)
                self._size -= OFTEN + TIME * len(times)
            self.forgotten += 1
        self._settle()

    def _of(self, key: int) -> list[float]:
        once = self._once.get(key)
        return [once] if once is not None else self._often.get(key, [])

    def set_back(self, seconds: float, now: float) -> None:
        """Follow a clock that was set back to `now`: what it had stamped is as long ago as it was."""
        for key, at in self._once.items():
            if at > now:
                self._once[key] = at - seconds
        for times in self._often.values():
            if times[-1] > now:
                times[:] = sorted(at - seconds if at > now else at for at in times)

    def _put(self, key: int, at: float) -> list[float]:
        """Put a time in its place and drop those that no late failure can need."""
        self._now = at
        times = self._often.get(key)
        if times is None:
            return self._begin(key, at)
        self._often.move_to_end(key)
        times.append(at)
        self._size += TIME
        return self._order(key, times)

    def _begin(self, key: int, at: float) -> list[float]:
        """Put the first or second time of a subject in its place."""
        first = self._once.pop(key, None)
        if first is None:
            self._once[key] = at
            self._size += ONCE
            return [at]
        times = self._often[key] = [first, at]
        self._size += OFTEN + 2 * TIME - ONCE
        return self._order(key, times)

    def _order(self, key: int, times: list[float]) -> list[float]:
        """Put the last of a subject's times in its place, and drop those that are too old."""
        if times[-1] < times[-2]:
            times.sort()
        old = times[-1] - self._kept
        if times[0] <= old:
            before = len(times)
            del times[: bisect_right(times, old)]
            self._size -= TIME * (before - len(times))
            if len(times) == 1:
                self._drop(key)
                self._once[key] = times[0]
                self._size += ONCE
        return times

    def _full(self, times: Sequence[float], at: float) -> Full | None:
        """Say whether `times`, of which `at` is one, hold an offence that has it among them."""
        maxretry, count = self.maxretry, len(times)
        if count < maxretry:
            return None
        place = count - 1 if times[-1] == at else bisect_right(times, at) - 1
        for last in range(min(place + maxretry, count) - 1, place - 1, -1):
            first = last - maxretry + 1
            if first >= 0 and times[first] > times[last] - self.findtime:
                since = times[last] - self.findtime
                return Full(
                    bisect_right(times, times[last]) - bisect_right(times, since), times[last]
                )
        return None

    def _drop(self, key: int) -> None:
        if self._once.pop(key, None) is not None:
            self._size -= ONCE
        elif key in self._often:
            self._size -= OFTEN + TIME * len(self._often.pop(key))

    def _sweep(self, at: float) -> None:
        """Drop subjects that stopped failing: of either kind two for each failure since the last time."""
        most, self._unswept = 2 * self._unswept, 0
        old = at - self._kept
        once, often = self._once, self._often
        for _ in range(most):
            if not once:
                break
            key = next(iter(once))
            if once[key] > old:
                break
            self._drop(key)
        for _ in range(most):
            if not often:
                break
            key = next(iter(often))
            if often[key][-1] > old:
                break
            self._drop(key)

    def _pay(self) -> None:
        """Tell the room what was taken or given back."""
        more, self._paid = self._size - self._paid, self._size
        if more:
            self._room.take(more)

    def _settle(self) -> None:
        """Give back what was dropped at the room's own word."""
        self._room.used += self._size - self._paid
        self._paid = self._size


def number(subject: Subject) -> int:
    """Write a subject as one number: a fraction of the object's size, and quick to look up."""
    family = 256 if subject.version == 6 else 0
    return int(subject.network_address) << 9 | family | subject.prefixlen
