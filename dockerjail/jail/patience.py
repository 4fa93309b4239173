"""
How long a regex may take, and what becomes of a jail whose regexes take longer. Pure: told the time.

Backtracking takes hours on a line made for it, and what is made for it a client may write. A timer
that counts processor time ticks (`Watch.tick`) while the judge works; whoever owns the timer raises
`Overdue` in the judge's midst when a tick says so. Between ticks the judge lets others have their turn.

A line that took too long is not judged by that jail. A jail to which that happens again and again is
suspended for a while: first for long lines only, since nearly all that backtracks needs length and
those who attack by the usual means have short ones; then for all.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from dockerjail.errors import Overdue

LIMIT: Final = 0.02
"""Seconds of processor time that one line may take in one jail: usual lines take 3 ms at most."""

STRIKES: Final = 3
WITHIN: Final = 60.0
"""So many overdue lines within so many seconds suspend a jail."""

SUSPENDED: Final = 60.0
"""Seconds that a jail is suspended for."""

SHORT: Final = 512
"""Characters of a line that a jail still judges when long ones have suspended it."""

REMEMBERED: Final = 3600.0
"""Seconds for which a line that took too long is told of."""

LONGEST_SAMPLE: Final = 120
"""Characters of a line that is shown as an example."""


class Watch:
    """
    What the timer and the judge know of each other; one for a process.

    The judge counts `serial` up and sets `busy` before it shows a line to a filter, and clears
    `busy` behind it; `due` says that others should get their turn. `clock` counts seconds.
    """

    __slots__ = ("_serial", "_since", "busy", "clock", "due", "serial")

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.clock = clock
        self.busy = False
        self.due = False
        self.serial = 0
        self._serial = -1
        self._since = 0.0

    def tick(self, used: float) -> bool:
        """
        Say whether what the judge does now is overdue; `used` is its thread's time so far.

        What goes on all the same is overdue once more after as long again: Python drops what is
        raised while it collects garbage.
        """
        self.due = True
        if not self.busy:
            return False
        if self._serial != self.serial:
            self._serial, self._since = self.serial, used
            return False
        if used - self._since < LIMIT:
            return False
        self._since = used
        return True


class Patience:
    """
    What a jail's regexes have cost.

    `overdue` lines were given up on, `unjudged` were not shown to the jail while it was suspended;
    `regex` is the last that took too long, `last_at` when, `sample` the beginning of its line and
    `length` that line's characters. `limited` is whether `admits` has to be asked.
    """

    __slots__ = (
        "_longest",
        "_strikes",
        "_until",
        "last_at",
        "length",
        "limited",
        "overdue",
        "regex",
        "sample",
        "unjudged",
    )

    def __init__(self) -> None:
        self.overdue = 0
        self.unjudged = 0
        self.regex = ""
        self.sample = ""
        self.length = 0
        self.last_at = -REMEMBERED
        self.limited = False
        self._longest = 0
        self._until = 0.0
        self._strikes: deque[float] = deque(maxlen=STRIKES)

    def admits(self, length: int, now: float) -> bool:
        """Say whether a line of so many characters is judged; count it if not."""
        if now >= self._until:
            self.limited = False
            return True
        if length <= self._longest:
            return True
        self.unjudged += 1
        return False

    def strike(self, overdue: Overdue, text: str, now: float) -> bool:
        """Take note of a line that took too long; say whether the jail is suspended for it."""
        self.overdue += 1
        self.last_at = now
        self.regex = overdue.regex
        self.sample = text[:LONGEST_SAMPLE]
        self.length = len(text)
        self._strikes.append(now)
        if len(self._strikes) < STRIKES or now - self._strikes[0] > WITHIN:
            return False
        self._strikes.clear()
        self._longest = SHORT if len(text) > SHORT else 0
        self._until = now + SUSPENDED
        self.limited = True
        return True

    def suspended(self, now: float) -> float:
        """Return for how many seconds the jail is suspended yet; 0 if it is not."""
        return max(self._until - now, 0.0)

    def judges(self, now: float) -> int | None:
        """Return up to how many characters lines are judged now; None when all are."""
        return self._longest if self.suspended(now) else None
