r"""
A filter's own date patterns: what is cut as the date instead of the default's. Pure.

fail2ban's language: a regex with `strptime`'s tokens (`%Y-%m-%d %H:%M:%S`), of which
group 1 is the date if it has a group; before it `{^LN-BEG}` (at the line's begin, behind
at most two signs) or `{UNB}` (touching whatever); `{DATE}`, `{EPOCH}`, `{LEPOCH}` and
`{TAI64N}` inside; or one of `{DEFAULT}`, `{NONE}`, `{^LN-BEG}`, `EPOCH`, `LEPOCH`,
`TAI64N` as a whole. No time is ever parsed: the Engine's stamp is the time of a line.

Of several patterns that match, the first that is bound to the line's begin counts, else
the one that matches leftmost. As for the default patterns (`datecut.py`), and unlike in
fail2ban, what is cut never touches a word character, unless the line begins with it.
`{DEFAULT}` beside other patterns adds the default ones; in fail2ban it adds nothing. The
hour of `%l` and `%Exl` may be padded with a zero; fail2ban finds no date then.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from dockerjail.jail import datecut, possessive

_MONTHS = "Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:tember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?"
_DAYS = (
    "Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?"
)
_OFFSET = r"[+-][01][0-9](?::?[0-9][0-9])?"

_TOKENS: Final = {
    "a": rf"(?i:{_DAYS})",
    "A": rf"(?i:{_DAYS})",
    "b": rf"(?i:{_MONTHS})",
    "B": rf"(?i:{_MONTHS})",
    "d": r"(?:3[01]|[12][0-9]|0?[1-9]|[ ][1-9])",
    "m": r"(?:1[0-2]|0?[1-9])",
    "Y": r"[0-9]{4}",
    "y": r"[0-9]{2}",
    "H": r"(?:2[0-3]|[01]?[0-9])",
    "I": r"(?:1[0-2]|0?[1-9])",
    "k": r"[ ]?(?:2[0-9]|[01]?[0-9])",
    "l": r"[ ]?[01]?[0-9]",
    "M": r"[0-5]?[0-9]",
    "S": r"(?:6[01]|[0-5]?[0-9])",
    "f": r"[0-9]{1,9}",
    "j": r"(?:36[0-6]|3[0-5][0-9]|[12][0-9][0-9]|0?(?:[1-9][0-9]|0[1-9])|[1-9])",
    "p": r"(?i:[AP]M)",
    "U": r"(?:5[0-3]|[0-4]?[0-9])",
    "W": r"(?:5[0-3]|[0-4]?[0-9])",
    "w": r"[0-6]",
    "z": rf"(?:Z|UTC|GMT|{_OFFSET})",
    "Z": r"(?:Z|[A-Z]{3,5})",
    "Exd": r"(?:3[01]|[12][0-9]|0[1-9])",
    "Exm": r"(?:1[0-2]|0[1-9])",
    "ExH": r"(?:2[0-3]|[01][0-9])",
    "ExM": r"[0-5][0-9]",
    "ExS": r"(?:6[01]|[0-5][0-9])",
    "Exk": r"[ ]?(?:2[0-3]|[01]?[0-9])",
    "Exl": r"[ ]?(?:1[0-2]|0?[0-9])",
    "ExY": r"(?:19|20)[0-9]{2}",
    "Exy": r"[0-9]{2}",
    "Exz": rf"(?:Z|UTC|GMT|[A-Z]{{3,5}}(?:{_OFFSET})?|{_OFFSET})",
    "ExZ": r"(?:Z|[A-Z]{3,5})",
    "c": rf"(?i:{_DAYS}) (?i:{_MONTHS}) [ 0-3][0-9] [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}} [0-9]{{4}}",
    "x": r"[0-9]{2}/[0-9]{2}/[0-9]{2}",
    "X": r"[0-9]{2}:[0-9]{2}:[0-9]{2}",
    "%": "%",
}
_TOKEN: Final = re.compile(r"%(Ex[A-Za-z]|.)", re.DOTALL)
_EPOCH = r"[0-9]{10,11}(?:\.[0-9]{3,6})?"
_LEPOCH = r"[0-9]{10,11}(?:[0-9]{3}(?:\.[0-9]{1,6}|[0-9]{3})?)?"
_WORDS: Final = {
    "EPOCH": _EPOCH,
    "LEPOCH": _LEPOCH,
    "TAI64N": r"@[0-9a-fA-F]{24}",
}
_PART: Final = re.compile(r"\{(DATE|EPOCH|LEPOCH|TAI64N)\}", re.IGNORECASE)
_BEGIN: Final = r"^(?:\W{0,2})?"
_LEFT: Final = r"(?=^|\b|\W)"
_RIGHT: Final = r"(?=\b|\W|$)"
_BOUND: Final = re.compile(r"\*\*|\((?:\?:)?\^|\^")
_OPEN_END: Final = re.compile(r"(?:\*\*|\$|\\[bs])\Z|(?:\$|\\[bs])\)\Z")

_BEGINS: Final = ("^{DATE}", "{^LN-BEG}{DATE}")
_BEGINNINGS: Final = (
    "{^LN-BEG}EPOCH",
    "{^LN-BEG}TAI64N",
    "^<%m/%d/%y@%H:%M:%S>",
    "^%b-%d-%y %k:%M:%S",
)
"""What fail2ban takes for a `{DATE}`, too, if nothing but the line's begin is before it."""

_word = re.compile(r"\w").match

Cut = Callable[[str], str]


class DatePatternError(ValueError):
    """A date pattern that cannot be meant: what is wrong, and what to write."""


class _Template(NamedTuple):
    """One way to find a date: `None` for the default ones at the line's begin."""

    at_begin: bool
    search: Callable[[str], re.Match[str] | None] | None


@lru_cache(maxsize=256)
def cutter(patterns: Sequence[str]) -> Cut:
    """
    Return what cuts a date by `patterns` out of a line; none is fail2ban's default.

    Raises `DatePatternError`, which names the pattern.
    """
    wanted = [pattern.strip() for pattern in patterns if pattern.strip()]
    default = [pattern for pattern in wanted if pattern.upper() == "{DEFAULT}"]
    templates = tuple(
        _template(part)
        for pattern in wanted
        if pattern not in default
        for part in (pattern, *(_BEGINNINGS if pattern.upper() in _BEGINS else ()))
    )
    if not templates:
        return datecut.cut
    if [(each.at_begin, each.search) for each in templates] == [(True, None)] and not default:
        return datecut.cut_at_begin

    def cut(text: str) -> str:
        span = _find(templates, text)
        if span is None:
            return datecut.cut(text) if default else text
        return text[: span[0]] + text[span[1] :]

    return cut


def _find(templates: Sequence[_Template], text: str) -> tuple[int, int] | None:
    """Return what to cut: the first at the line's begin, else the leftmost."""
    best: tuple[int, int] | None = None
    for template in templates:
        span = _span(template, text)
        if span is None:
            continue
        if template.at_begin:
            return span
        if best is None or span[0] < best[0]:
            best = span
    return best


def _span(template: _Template, text: str) -> tuple[int, int] | None:
    if template.search is None:
        return datecut.at_begin(text)
    found = template.search(text)
    if found is None:
        return None
    start, end = found.span(1)
    if start < 0 or (start > 0 and (_word(text, start - 1) or _word(text, end))):
        return None
    return start, end


def _template(pattern: str) -> _Template:
    """Read one pattern."""
    upper = pattern.upper()
    if upper == "{^LN-BEG}":
        return _Template(at_begin=True, search=None)
    if upper == "{NONE}":
        return _Template(at_begin=True, search=re.compile("^()").match)
    begin = free = False
    rest = pattern
    if upper.startswith("{^LN-BEG}"):
        begin, rest = True, pattern[len("{^LN-BEG}") :]
    elif upper.startswith("{UNB}"):
        free, rest = True, pattern[len("{UNB}") :]
    if rest.upper() in _WORDS:
        regex = _word_alone(rest.upper(), begin=begin)
    else:
        regex = _translate(pattern, rest, begin=begin, free=free)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = re.compile(regex)
    except (re.error, OverflowError, RecursionError) as error:
        raise DatePatternError(
            f"datepattern {pattern[:80]!r} is no regex ({error}); write strptime's tokens "
            r"such as %Y-%m-%d %H:%M:%S, and \( \[ \. for signs of the log"
        ) from None
    if possessive.forgets(regex):
        raise DatePatternError(
            f"datepattern {pattern[:80]!r} captures in a possessive repeat, which Python loses; "
            f"{possessive.REMEDY}"
        )
    if not compiled.groups:  # a comment that is not closed has swallowed it
        raise DatePatternError(f"datepattern {pattern[:80]!r} has no date; close its (?# with )")
    return _Template(at_begin=begin or rest.startswith(("^", "(^", "(?:^")), search=compiled.search)


def _word_alone(word: str, *, begin: bool) -> str:
    """Return the regex of `EPOCH`, `LEPOCH` or `TAI64N` as a whole pattern."""
    text = _WORDS[word]
    if begin:
        return rf"{_BEGIN}(?<!\w)({text})(?!\w)"
    if word == "TAI64N":
        return rf"(?<!\w)({text})(?!\w)"
    return rf"(?:^\[?|(?<=\baudit\())({text})(?!\w)"


def _translate(pattern: str, rest: str, *, begin: bool, free: bool) -> str:
    """Turn a regex with tokens into a regex of which group 1 is the date."""

    def token(found: re.Match[str]) -> str:
        known = _TOKENS.get(found[1])
        if known is None:
            raise DatePatternError(
                f"datepattern {pattern[:80]!r}: %{found[1]} is no token; write one of "
                "%Y %y %m %d %b %B %a %A %H %I %M %S %f %p %j %z %Z, or %% for a percent sign"
            )
        return known

    grouped = re.search(r"(?<!\\)\((?!\?)", rest) is not None
    if not grouped and not _TOKEN.search(rest) and not _PART.search(rest):
        raise DatePatternError(
            f"datepattern {pattern[:80]!r} has no date; write tokens such as %Y-%m-%d, or {{DATE}}"
        )
    starts, ends = not _BOUND.match(rest), not _OPEN_END.search(rest)
    bare = rest.removeprefix("**").removesuffix("**")
    parts = _PART.sub(lambda found: f"\0{found[1].upper()}\0", bare)
    regex = _TOKEN.sub(token, parts)
    for word, text in _WORDS.items():
        regex = regex.replace(f"\0{word}\0", f"(?:{text})")
    if not grouped or not _has_group(regex):
        # a day's blank, as in `bob 3.1.05`, is left where it would join two words
        regex = rf"(?<!\w)({regex})"
    regex = regex.replace("\0DATE\0", rf"(?:(?<!\w)(?:{datecut.DATE})(?!\w))", 1)
    if "\0" in regex:
        raise DatePatternError(f"datepattern {pattern[:80]!r} has {{DATE}} twice; write it once")
    if free:
        return regex
    left = _BEGIN if begin else _LEFT if starts else ""
    return f"{left}{regex}{_RIGHT if ends else ''}"


def _has_group(regex: str) -> bool:
    """Say whether a regex captures anything: the `(` of `[(]` opens nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(regex).groups > 0
    except (re.error, OverflowError, RecursionError):
        return True  # whoever compiles the whole says what is wrong with it
