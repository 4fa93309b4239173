"""
A window: failures of one jail in, the moment a subject has enough of them out. Pure.

Strict: an offence is `maxretry` failures of a subject of which none is `findtime` or
more older than the last, no fewer, and always then. (fail2ban estimates a rate, and
bans four failures in ten minutes when they go on for long.) After an offence the
subject starts from nothing.

The lines of stdout and stderr, and of replicas, arrive slightly out of order. A failure
is put in its place by its own time; what is up to a `findtime` late counts exactly.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from dockerjail.model import Subject

LIMIT: Final = 65536
"""Subjects that one window keeps; beyond it the one heard of longest ago is dropped."""


class Full(NamedTuple):
    """A subject has failed often enough: how often, and when the last time was."""

    failures: int
    at: float


class Window:
    """
    Counts failures per subject; `findtime` in seconds.

    `add` is constant on average. Memory is bounded: a subject keeps fewer than twice
    `maxretry` times, and is forgotten when the last is two findtimes old.
    """

    def __init__(self, maxretry: int, findtime: float, *, limit: int = LIMIT) -> None:
        self.maxretry = maxretry
        self.findtime = findtime
        self._limit = limit
        self._times: OrderedDict[Subject, list[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def retune(self, maxretry: int, findtime: float) -> None:
        """Count with other numbers from now on; what was counted stays."""
        self.maxretry = maxretry
        self.findtime = findtime

    def add(self, subject: Subject, at: float) -> Full | None:
        """Count a failure at `at`, seconds since the epoch; say if it is the last of enough."""
        times = self._put(subject, at)
        self._sweep(at)
        place = bisect_right(times, at) - 1
        last = min(place + self.maxretry, len(times)) - 1
        while last >= place:
            first = last - self.maxretry + 1
            if first >= 0 and times[first] > times[last] - self.findtime:
                since = times[last] - self.findtime
                full = Full(sum(since < t <= times[last] for t in times), times[last])
                del self._times[subject]
                return full
            last -= 1
        return None

    def restore(self, failures: Iterable[tuple[Subject, float]]) -> None:
        """
        Put back failures that a store remembers; makes no offence of them.

        If they are enough for one already (`maxretry` was lowered meanwhile), the
        subject's next failure is it.
        """
        for subject, at in failures:
            self._put(subject, at)
            self._sweep(at)

    def count(self, subject: Subject, at: float) -> int:
        """Return how many failures of `subject` count at the moment `at`."""
        return sum(t > at - self.findtime for t in self._times.get(subject, ()))

    def failing(self, at: float) -> int:
        """Return how many subjects have failures that count at the moment `at`."""
        since = at - self.findtime
        return sum(times[-1] > since for times in self._times.values())

    def forget(self, subject: Subject) -> None:
        """Start from nothing for `subject`."""
        self._times.pop(subject, None)

    def _put(self, subject: Subject, at: float) -> list[float]:
        """Put a time in its place and drop those that no late failure can need."""
        times = self._times.get(subject)
        if times is None:
            times = self._times[subject] = []
        else:
            self._times.move_to_end(subject)
        if not times or at >= times[-1]:
            times.append(at)
        else:
            times.insert(bisect_right(times, at), at)
        old = times[-1] - 2 * self.findtime
        if times[0] <= old:
            del times[: bisect_right(times, old)]
        return times

    def _sweep(self, at: float) -> None:
        """Drop subjects that stopped failing, two for each that fails."""
        old = at - 2 * self.findtime
        for _ in range(2):
            subject, times = next(iter(self._times.items()))
            if times and times[-1] > old and len(self._times) <= self._limit:
                return
            if len(self._times) == 1:
                return
            del self._times[subject]
