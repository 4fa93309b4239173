"""
The Engine's timestamps: bytes in, nanoseconds out. Pure.

`2026-11-22T10:52:40.409746684Z`: RFC 3339 with a fraction padded to nine digits.
The `local` driver before Engine 25 and Podman before 5.8 write the daemon's own
zone (`+01:00`) and fewer digits or none; both are read.
"""

import calendar
from functools import lru_cache

NANO = 1_000_000_000


@lru_cache(maxsize=4096)
def _second(text: bytes) -> int:
    """Turn `2026-11-22T10:52:40` into seconds since the epoch."""
    if text[4] != 0x2D or text[7] != 0x2D or text[10] != 0x54 or text[13] != 0x3A:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    return calendar.timegm(
        (
            int(text[0:4]),
            int(text[5:7]),
            int(text[8:10]),
            int(text[11:13]),
            int(text[14:16]),
            int(text[17:19]),
        )
    )


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
        total += int(stamp[20:end].ljust(9, b"0")[:9])
    zone = stamp[end:]
    if zone == b"Z":
        return total
    if len(zone) != 6 or zone[:1] not in b"+-" or zone[3:4] != b":":
        raise ValueError(f"not an RFC 3339 time: {stamp!r}")
    offset = (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60) * NANO
    return total - offset if zone[:1] == b"+" else total + offset


def seconds(stamp: bytes) -> float:
    """Return `stamp` as seconds since the epoch; ValueError when it is none."""
    return nanoseconds(stamp) / NANO
