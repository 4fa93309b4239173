"""
Whether the wall's clock was set, told by a clock beside it that nobody can set. Pure.

In go readings of both, in seconds; out comes the step between two of them. A clock that is
slewed, or that runs otherwise than the steady one, is not set.
"""


class Steps:
    """
    Tells steps of the wall's clock of at least so many seconds.

    One that `gathers` adds up what is less until it is as much: for who keeps times by the steady
    clock, and would in the end be wrong by all of it.
    """

    __slots__ = ("_ahead", "_gathers", "_least")

    def __init__(self, least: float, *, gathers: bool = False) -> None:
        self._least = least
        self._gathers = gathers
        self._ahead: float | None = None

    def look(self, wall: float, steady: float) -> float:
        """Return by how much the wall's clock was set since the last look; 0.0 if it was not."""
        ahead, before = wall - steady, self._ahead
        if before is None:
            self._ahead = ahead
            return 0.0
        step = ahead - before if abs(ahead - before) >= self._least else 0.0
        if step or not self._gathers:
            self._ahead = ahead
        return step
