"""
Durations: what people write in, seconds out, and back. Pure.

The language is fail2ban's (read from its behaviour: `10m`, `1d12h`, `1 day 2 hours`,
`1h30` with bare seconds, `1.5h`, `1h+5m`, `60*60`); nothing is evaluated. One
difference, on purpose: `ms` is refused instead of meaning minutes.
"""

import math
import re

from dockerjail.config.mistake import Mistake, shown

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
WEEK = 7 * DAY
YEAR = 365.25 * DAY
MONTH = YEAR / 12

LONGEST = 100 * YEAR
"""Anything longer is a slip of the pen, or meant for good."""

FOR_GOOD = frozenset({"-1", "permanent", "forever", "for good"})

_UNITS = {
    name: seconds
    for names, seconds in (
        ("s ss sec second", 1.0),
        ("m mm min minute", MINUTE),
        ("h hh hou hour", HOUR),
        ("d dd da day", DAY),
        ("w ww wee week", WEEK),
        ("mo mon month", MONTH),
        ("y yy yea year", YEAR),
    )
    for singular in names.split()
    for name in (singular, singular + "s")
}
del _UNITS["ms"]  # who writes 500ms does not mean 500 minutes

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?P<unit>[a-z]*)|(?P<sign>[-+*]))",
    re.IGNORECASE | re.ASCII,
)
_LONGEST_TEXT = 100
_REMEDY = "write a duration such as 600, 10m, 1h30m, 1d or 2w"


def parse(value: object, *, zero: bool = False) -> float:
    """
    Return `value`, a number of seconds or a text such as `1h30m`, in seconds.

    More than zero (zero itself where `zero`), at most 100 years. Raises `Mistake`.
    """
    return _bounded(value, _seconds(value), zero=zero, remedy=_REMEDY)


def parse_bantime(value: object) -> float | None:
    """
    Return `value` in seconds as `parse` does, or None for good.

    For good is `-1`, `permanent`, `forever` or `for good`. Raises `Mistake`.
    """
    if isinstance(value, str) and " ".join(value.lower().split()) in FOR_GOOD:
        return None
    seconds = _seconds(value)
    if seconds == -1:
        return None
    return _bounded(value, seconds, zero=False, remedy=f"{_REMEDY}, or -1 for good")


def format(seconds: float | None) -> str:
    """Return a duration for people: `10m`, `1d12h`, `for good`; whole seconds from one on."""
    if seconds is None:
        return "for good"
    if seconds < 0:
        return "-" + format(-seconds)
    if seconds < 1:
        return f"{round(seconds, 3):g}s"
    rest = round(seconds)
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def _bounded(value: object, seconds: float, *, zero: bool, remedy: str) -> float:
    if not math.isfinite(seconds) or seconds > LONGEST:
        raise Mistake(f"{shown(value)} is longer than 100 years", remedy)
    if seconds < 0:
        raise Mistake(f"{shown(value)} is less than nothing", remedy)
    if seconds == 0 and not zero:
        raise Mistake(f"{shown(value)} is no time at all", remedy)
    return seconds


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Mistake(f"{shown(value)} is no duration", _REMEDY)
    if isinstance(value, str):
        return _sum(value)
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _sum(text: str) -> float:
    """Add up `text`; two quantities side by side add, as `1h30` does for fail2ban."""
    text = text.strip()
    if len(text) > _LONGEST_TEXT:
        raise Mistake(f"{shown(text)} is no duration", _REMEDY)
    total = product = 0.0
    sign = ""
    number_seen = False
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise Mistake(f"{shown(text)} is no duration", _REMEDY)
        position = token.end()
        if token["sign"]:
            if sign or (token["sign"] == "*" and not number_seen):
                raise Mistake(f"{shown(text)} is no duration", _REMEDY)
            sign = token["sign"]
            continue
        quantity = float(token["number"]) * _unit(text, token["unit"])
        if sign == "*":
            product *= quantity
        else:
            total += product
            product = -quantity if sign == "-" else quantity
        number_seen, sign = True, ""
    if sign or not number_seen:
        raise Mistake(f"{shown(text)} is no duration", _REMEDY)
    return total + product


def _unit(text: str, unit: str) -> float:
    if not unit:
        return 1.0
    seconds = _UNITS.get(unit.lower())
    if seconds is None:
        raise Mistake(
            f"{shown(text)} is no duration: {shown(unit)} is no unit",
            "write s, m, h, d, w, mo or y, such as 10m or 1d12h",
        )
    return seconds
