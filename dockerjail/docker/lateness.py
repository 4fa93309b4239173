"""
How late lines come, and what that tells of the Engine's clock. Pure: told the time.

In go moments of live lines, and readings of this host's clocks; out comes whether a follower
lags behind. Usual is how late lines come anyway, when the Engine's clock is not ours.
"""

from dockerjail.clock import Steps

_STEP = 0.5
"""Seconds by which this host's clock must jump to have been set."""


class Lateness:
    """
    How late the lines of one log come, by this host's clock.

    To be read: `offset`, what of that is usual, in seconds.
    """

    __slots__ = ("_late", "_steps", "offset")

    def __init__(self) -> None:
        self.offset = 0.0
        self._late: float | None = None
        self._steps = Steps(_STEP)

    def look(self, wall: float, steady: float) -> float:
        """Return by how many seconds this host's clock was set since the last look, mostly 0.0."""
        step = self._steps.look(wall, steady)
        if step:
            self.offset, self._late = 0.0, None
        return step

    def see(self, late: float) -> None:
        """Take in by how many seconds a line was late: no line is early."""
        self.offset = min(self.offset, late)

    def lags(self, late: float, most: float) -> bool:
        """
        Say whether a live line comes more than `most` seconds later than usual.

        What two lines in a row are late, without anything to catch up on between, is usual.
        """
        if late - self.offset <= most:
            self._late = None
            return False
        if self._late is not None and abs(late - self._late) <= most:
            self.offset, self._late = late, None
            return False
        self._late = late
        return True

    def caught_up(self) -> None:
        """Think nothing of the last late line: there was much to catch up on."""
        self._late = None
