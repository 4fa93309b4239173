"""
DOOR to python-dateutil: the text of a log line in, the time that it says out.

Only for trying a filter on a file: the daemon goes by the Engine's stamps and reads no
date. What is taken for the date is what the daemon cuts out of the line.
"""

import re
import time
from datetime import datetime
from functools import lru_cache
from typing import Final

from dateutil import parser

from dockerjail.jail.datecut import cut

_EPOCH: Final = re.compile(r"[0-9]{10,11}(?:\.[0-9]+)?")
_TAI: Final = re.compile(r"@([0-9a-fA-F]{16})([0-9a-fA-F]{8})")
_TAI_AT_EPOCH: Final = (1 << 62) + 10
_MEANT: Final = tuple(
    (re.compile(pattern), meant)
    for pattern, meant in (
        (r"^<|>$", ""),
        # 31/Oct/2006:09:22:55, 09/16/08@05:03:30
        (r"^([0-9]{1,2}[-/](?:[0-9]{1,2}|[A-Za-z]{3})[-/][0-9]{2,4})[:@]", r"\1 "),
        # 130322 11:46:11
        (r"^([0-9]{2})([0-9]{2})([0-9]{2}) ", r"20\1-\2-\3 "),
        # 20050123-21:59:59
        (r"^([0-9]{8})-", r"\1T"),
        # +00:00 Jan 23 21:59:59; a zone that is a name is passed over
        (r"^([+-][0-9:]+) +(.*)$", r"\2 \1"),
        (r"^[A-Z]{2,4} (?=[A-Z])", ""),
    )
)
"""What dateutil reads in another way than it was meant, or not at all."""

_YEARLESS: Final = 86400.0
"""Seconds that a date without a year may lie ahead and still be this year's."""


def moment(text: str, now: float | None = None) -> float | None:
    """
    Return the time in seconds since the epoch of a line's first date; None without one.

    A date without a zone is in this machine's. One without a year is the last such date
    before `now` (by default the present), one without a day is today's.
    """
    now = time.time() if now is None else now
    bare = cut(text)
    size = len(text) - len(bare)
    if not size:
        return None
    start = next((n for n, (a, b) in enumerate(zip(text, bare, strict=False)) if a != b), len(bare))
    return _read(text[start : start + size].strip(), now // 3600 * 3600)


@lru_cache(maxsize=4096)
def _read(date: str, now: float) -> float | None:
    if _EPOCH.fullmatch(date):
        return float(date)
    tai = _TAI.fullmatch(date)
    if tai is not None:
        return int(tai[1], 16) - _TAI_AT_EPOCH + int(tai[2], 16) / 1e9
    plain = date
    for pattern, meant in _MEANT:
        plain = pattern.sub(meant, plain)
    today = datetime.fromtimestamp(now).astimezone().replace(tzinfo=None)
    default = today.replace(hour=0, minute=0, second=0, microsecond=0)
    first_is_day = re.match(r"[0-9]{1,2}[-/][0-9]{1,2}[-/]", plain) is not None
    try:
        found: datetime = parser.parse(plain, default=default, dayfirst=first_is_day)
        at = found.timestamp()
        if at > now + _YEARLESS and str(found.year) not in plain and found.year == default.year:
            at = found.replace(year=found.year - 1).timestamp()
    except (ValueError, OverflowError):
        return None
    return at
