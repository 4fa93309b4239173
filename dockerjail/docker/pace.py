"""
How fast the files of a log turn over, and whether a follower can keep up with that. Pure: told the time.

An Engine has a follower skip, without a word, whole files that came and went while it was busy
elsewhere. So in go bytes as they come, out comes whether to follow at all.
"""

import re
from collections.abc import Mapping

FILE_LIFE = 5.0
"""
Seconds: files that rotate faster are read and not followed, since a follower that was busy
elsewhere for the life of a file skips it. (Engine 26.1, 150 000 lines at once into files of 2 MB: 1 of
60 runs went from the first file to the last.)
"""

SMALL = 8_000_000
"""
Files of fewer bytes than this are never followed: a burst fills one within the tenth of a
second that a follower may be held up, before anybody could tell that it is a burst.
"""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def file_size(driver: str, options: Mapping[str, str]) -> float:
    """Return how many bytes make a log begin a new file; 0 when none do."""
    default = "20m" if driver == "local" else ""
    size = _SIZE.fullmatch(options.get("max-size", default))
    return float(size[1]) * _UNITS[size[2].lower()] if size is not None else 0.0


class Pace:
    """
    The pace of one log whose files have `size` bytes, 0 for one file without end.

    To be read: `small`, whether they are too small to be followed at all.
    """

    __slots__ = ("_at", "_flood", "_rate", "small")

    def __init__(self, size: float) -> None:
        self.small = 0 < size < SMALL
        self._rate = size / FILE_LIFE
        self._flood = 0.0
        self._at = 0.0

    def pour(self, size: int, at: float) -> None:
        """Let `size` bytes into a bucket that empties at the rate a follower can be trusted at."""
        left = max(self._flood - (at - self._at) * self._rate, 0.0)
        self._flood = min(left + size, self._rate * FILE_LIFE)
        self._at = at

    def hasty(self, at: float) -> bool:
        """Say whether its files rotate too fast to be followed."""
        self.pour(0, at)
        return self._flood > self._rate
