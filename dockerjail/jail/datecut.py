"""
A line in, the same line without its first date out. Pure; no time is ever parsed.

The Engine's stamp is the time of a line. What the application wrote as a date is only
cut, so that a failregex made for fail2ban finds what it expects: `2023-10-27
14:38:22,557 WARNING x` becomes ` WARNING x`, the blank stays. Which dates and which of
several follows fail2ban's default detector: the first pattern of the list that matches
at the line's begin (behind at most two signs such as `[`), else the leftmost match.

Differences on purpose. A fraction has up to nine digits and always goes with its date.
No word character touches a date on either side, so that before and behind a cut there
is never one: the sieve relies on it (`skeleton.py`). Years are those from 1900 to 2099.
With a date goes the name of a time zone before it, not any word of three to five letters
(fail2ban cuts `host Jan 23 21:59:59` as a whole). And a TAI64N stamp has no precedence
over a date before it.
"""

import re
from typing import Final

_YEAR = r"(?:19|20)[0-9][0-9]"
_MONTH = r"(?:1[0-2]|0?[1-9])"
_DAY = r"(?:3[01]|[12][0-9]|[ 0]?[1-9])"
_MM = r"(?:1[0-2]|0[1-9])"
_DD = r"(?:3[01]|[12][0-9]|0[1-9])"
_HH = r"(?:2[0-3]|[01][0-9])"
_NAME = r"(?i:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_WEEKDAY = r"(?:(?i:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?"
_CLOCK = r"(?:2[0-3]|[01]?[0-9]):[0-5]?[0-9]:(?:6[01]|[0-5]?[0-9])"
_PADDED = rf" {{1,2}}{_CLOCK}"
_FRACTION = r"(?:[.,][0-9]{1,9})?"
_OFFSET = r"[+-][01][0-9](?::?[0-9][0-9])?"
_ZONE = rf"(?:[ \t]*(?:Z|UTC|GMT|{_OFFSET}))?"
_ZONE_NAME = r"(?:Z|UTC|MSK|(?=[A-Z]{3})(?:CE|EE|WE|AE|AC|AW|NZ|AK|[A-Z]{1,2})(?:ST|DT|T))"
_SYSLOG = rf"{_WEEKDAY}{_NAME} {_DAY}{_PADDED}{_FRACTION}(?: {_YEAR})?"

_DIGIT_FIRST: Final = (
    # 2005-01-23T21:59:59.981746Z, 2005/01/23 21:59:59
    rf"{_YEAR}(?P<a>[-/.]){_MONTH}(?P=a){_DAY}(?:T| {{1,2}}){_CLOCK}{_FRACTION}{_ZONE}",
    # 23/01/2005 21:59:59, 17-07-08 17:23:25
    rf"{_DAY}(?P<b>[-/]){_MONTH}(?P=b)(?:{_YEAR}|[0-9][0-9]){_PADDED}{_FRACTION}",
    # 31/Oct/2006:09:22:55 +0200
    rf"{_DAY}(?P<c>[-/]){_NAME}(?P=c){_YEAR}[ :]?{_CLOCK}{_FRACTION}{_ZONE}",
    # 05/20/2008:01:57:39
    rf"{_MONTH}/{_DAY}/{_YEAR}:{_CLOCK}",
    # 01-27-2012 16:22:44.252
    rf"{_MONTH}-{_DAY}-{_YEAR}{_PADDED}{_FRACTION}",
    # 130322 11:46:11
    rf"[0-9][0-9]{_MM}{_DD} {{1,2}}{_CLOCK}",
    # 20050123T215959, 20050123  215959, 20050123-21:59:59.981
    rf"{_YEAR}{_MM}{_DD}(?:[T-]| {{1,2}}){_HH}:?[0-5][0-9]:?(?:6[01]|[0-5][0-9]){_FRACTION}{_ZONE}",
)
_LETTER_FIRST: Final = (
    # Sun Jan 23 21:59:59.011 2005
    _SYSLOG,
    # Jan 23 2005 21:59:59.011
    rf"{_WEEKDAY}{_NAME} {_DAY} {_YEAR}{_PADDED}{_FRACTION}",
    # Jan 23, 2005 1:02:03 PM
    rf"{_NAME} {_DAY}, {_YEAR} {_CLOCK} (?i:[AP]M)",
    # PDT Apr 16 21:05:29
    rf"{_ZONE_NAME} {_SYSLOG}",
)
_SIGN_FIRST: Final = (
    # +00:00 Jan 23 21:59:59
    rf"{_OFFSET} {_SYSLOG}",
    # TAI64N: @4000000052f88ea32489532c
    r"@[0-9a-fA-F]{24}",
)
_BEGIN_ONLY: Final = (
    # Epoch: 1138049999, 1138049999.981, [1138049999], audit(1138049999.981:99)
    r"[0-9]{10,11}(?:\.[0-9]{3,6})?",
    # 21:59:59
    rf"{_CLOCK}{_FRACTION}",
    # <09/16/08@05:03:30>
    rf"<{_MONTH}/{_DAY}/[0-9][0-9]@{_CLOCK}>",
    # Apr-27-13 02:33:06
    rf"{_NAME}-{_DAY}-[0-9][0-9]{_PADDED}",
)

DATE: Final = "|".join((*_DIGIT_FIRST, *_LETTER_FIRST, *_SIGN_FIRST, _CLOCK + _FRACTION))
"""
What a date looks like in a date pattern that contains `{DATE}`, as a regex.

As in fail2ban, a clock alone is one there: the pattern around it says where it stands.
"""

_AT_BEGIN: Final = re.compile(
    r"\W{0,2}(?<!\w)("
    + "|".join((*_DIGIT_FIRST, *_LETTER_FIRST, *_SIGN_FIRST, *_BEGIN_ONLY))
    + r")(?!\w)"
).match
_ANYWHERE: Final = re.compile(
    r"(?<!\w)(?:(?=[ 0-9])(?:"
    + "|".join(_DIGIT_FIRST)
    + r")|(?=[A-Za-z])(?:"
    + "|".join(_LETTER_FIRST)
    + r")|(?=[@+-])(?:"
    + "|".join(_SIGN_FIRST)
    + r")|(?<=\baudit\()[0-9]{10,11}\.[0-9]{3,6}(?=:[0-9]))(?!\w)"
).search
_HINT: Final = re.compile(
    r"[0-9]:[0-5]?[0-9]:[0-9]|(?:19|20)[0-9]{6}[T -]|@[0-9a-fA-F]{24}|audit\("
).search
"""What every date contains but an epoch at the begin; most lines without one do not."""

_EPOCH: Final = re.compile(r"\W{0,2}[0-9]{10}").match
_ACCESS_LOG: Final = re.compile(_DIGIT_FIRST[2] + r"(?!\w)").match


_ISO: Final = re.compile(_DIGIT_FIRST[0] + r"(?!\w)").match
_OF_SYSLOG: Final = re.compile(_SYSLOG + r"(?!\w)").match
_USUAL: Final = {
    **dict.fromkeys("12", _ISO),
    **dict.fromkeys("JFMASONDTWjfmasondtw", _OF_SYSLOG),
}
"""
The first pattern that could match, for a text that begins with such a character.

Whatever it matches, `_AT_BEGIN` matches just so, and takes half as long again.
"""


def at_begin(text: str) -> tuple[int, int] | None:
    """Return where the date that `text` begins with is, behind at most two signs; None without."""
    usual = _USUAL.get(text[:1])
    if usual is not None:
        found = usual(text)
        if found is not None:
            return found.span()
    found = _AT_BEGIN(text)
    return None if found is None else found.span(1)


def cut(text: str) -> str:
    """Return `text` without its first date; what stood around it touches now."""
    bracket = text.find("[", 1, 128)
    if bracket > 0 and text.startswith("/", bracket + 3):
        # an access log: three times faster than asking all the patterns at every place
        found = _ACCESS_LOG(text, bracket + 1)
        if found is not None and _HINT(text, 0, bracket) is None and _EPOCH(text) is None:
            return text[: found.start()] + text[found.end() :]
    return _cut(text)


def cut_at_begin(text: str) -> str:
    """Return `text` without the date that it begins with."""
    span = at_begin(text)
    return text if span is None else text[: span[0]] + text[span[1] :]


def _cut(text: str) -> str:
    span = at_begin(text)
    if span is not None:
        return text[: span[0]] + text[span[1] :]
    hint = _HINT(text)
    if hint is None:
        return text
    # what stands before the clock of a date, at most: a zone, a weekday, a day, a year
    found = _ANYWHERE(text, max(0, hint.start() - 40))
    if found is None:
        return text
    start, end = found.span()
    return text[:start] + text[end:]
