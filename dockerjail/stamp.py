"""
The Engine's timestamps: bytes in, nanoseconds out. Pure.

`2026-11-22T10:52:40.409746684Z`: RFC 3339 with a fraction padded to nine digits.
The `local` driver before Engine 25 and Podman before 5.8 write the daemon's own
zone (`+01:00`) and fewer digits or none; both are read. What is nearly a time is none: two
that are the same moment must never be told apart by how damaged they are.
"""

import calendar
import re
from functools import lru_cache

NANO = 1_000_000_000

_POINT = ord(".")
_SECOND = re.compile(rb"(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)")
_ZONE = re.compile(rb"([+-])([01]\d|2[0-3]):([0-5]\d)")


@lru_cache(maxsize=4096)
def _second(text: bytes) -> int:
    """Turn `2026-11-22T10:52:40` into seconds since the epoch."""
    found = _SECOND.fullmatch(text)
    if found is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    year, month, day, *clock = map(int, found.groups())
    if not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise ValueError(f"no day of any month: {text!r}")
    return calendar.timegm((year, month, day, *clock))


def nanoseconds(stamp: bytes) -> int:
    """Return `stamp` as nanoseconds since the epoch; ValueError when it is none."""
    if len(stamp) < 20:
        raise ValueError(f"not an RFC 3339 time: {stamp!r}")
    total = _second(stamp[:19]) * NANO
    end = 19
    if stamp[19] == 0x2E:
        end = 20
        while end < len(stamp) and 0x30 <= stamp[end] <= 0x39:
            end += 1
        if end == 20:
            raise ValueError(f"not an RFC 3339 time: {stamp!r}")
        total += int(stamp[20:end].ljust(9, b"0")[:9])
    zone = stamp[end:]
    if zone == b"Z":
        return total
    offset = _ZONE.fullmatch(zone)
    if offset is None:
        raise ValueError(f"not an RFC 3339 time: {stamp!r}")
    ahead = (int(offset[2]) * 3600 + int(offset[3]) * 60) * NANO
    return total - ahead if offset[1] == b"+" else total + ahead


def seconds(stamp: bytes) -> float:
    """Return `stamp` as seconds since the epoch; ValueError when it is none."""
    return nanoseconds(stamp) / NANO


class Clock:
    """
    Reads the stamps of a log's lines; quick while many are of one second.

    Lines of a busy log share all but their stamp's fraction.
    """

    __slots__ = ("_begin", "_second")

    def __init__(self) -> None:
        self._second = b"-"  # `2026-11-22T10:52:40.`: nothing begins so yet
        self._begin = 0

    def read(self, data: bytes, start: int, end: int) -> tuple[int, float]:
        """
        Read the stamp of the line from `start` to `end`: where its text begins, and seconds.

        The text begins at 0 if the line has no stamp that can be read.
        """
        if data.startswith(self._second, start) and data[start + 29 : start + 31] == b"Z ":
            fraction = data[start + 20 : start + 29]
            if fraction.isdigit():
                return start + 31, (self._begin + int(fraction)) / NANO
        blank = data.find(b" ", start, end)
        try:
            at = nanoseconds(data[start : max(start, blank)])
        except ValueError:
            return 0, 0.0
        if blank == start + 30 and data[start + 19] == _POINT:
            self._second = data[start : start + 20]
            self._begin = _second(data[start : start + 19]) * NANO
        return blank + 1, at / NANO
