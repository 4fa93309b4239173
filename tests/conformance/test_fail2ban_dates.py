"""
Dates, cut out of a line by fail2ban and by us: the same text is left.

fail2ban answers itself, in a process of its own (`tests/lab/oracle.py`). Where we differ
from it on purpose, `agreed` and `touches` say exactly when.
"""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dockerjail.jail.datecut import cut
from dockerjail.jail.datepattern import cutter
from tests.lab.oracle import Oracle

thorough = settings(deadline=None, max_examples=150)
"""Each example asks about many lines."""


def two(number: int) -> str:
    return f"{number:02d}"


years = st.integers(2000, 2029).map(str)
months = st.integers(1, 12)
days = st.integers(1, 28)
names = st.sampled_from(
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
)
weekdays = st.sampled_from(
    ("", *(f"{day} " for day in ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]))
)
padded_days = days.map(lambda day: f"{day:2d}") | days.map(two)
loose = st.integers(1, 28).map(str) | days.map(two)
loose_months = months.map(str) | months.map(two)
clocks = st.times().map(lambda time: time.strftime("%H:%M:%S"))
loose_clocks = clocks | st.times().map(lambda t: f"{t.hour}:{t.minute}:{t.second}")
fractions = st.just("") | st.from_regex(r"[.][0-9]{1,6}", fullmatch=True)
either_fraction = fractions | st.from_regex(r",[0-9]{1,6}", fullmatch=True)
offsets = st.from_regex(r"[+-]0[0-9](:?[0-5]0)?", fullmatch=True)
zones = st.sampled_from(("", "Z", "UTC", "GMT", " Z", " UTC", "  GMT")) | st.one_of(
    offsets, offsets.map(lambda offset: f" {offset}")
)
zone_names = st.sampled_from(["UTC", "CET", "CEST", "PDT", "EST", "MSK", "NZDT", "AKST"])


def written(template: str, **parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.fixed_dictionaries(parts).map(lambda drawn: template.format(**drawn))


asctimes = written(
    "{a}{b} {d} {t}{f}{y}",
    a=weekdays,
    b=names,
    d=padded_days | loose,
    t=loose_clocks,
    f=fractions,
    y=st.just("") | years.map(lambda year: f" {year}"),
)
separators = st.sampled_from("-/.")
DATES: dict[str, st.SearchStrategy[str]] = {
    "iso": st.builds(
        lambda sep, y, m, d, gap, t, f, z: f"{y}{sep}{m}{sep}{d}{gap}{t}{f}{z}",
        separators,
        years,
        loose_months,
        loose,
        st.sampled_from(("T", " ", "  ")),
        loose_clocks,
        either_fraction,
        zones,
    ),
    "syslog": asctimes,
    "asctime with the year behind the day": written(
        "{a}{b} {d} {y} {t}{f}", a=weekdays, b=names, d=loose, y=years, t=loose_clocks, f=fractions
    ),
    "day first": st.builds(
        lambda sep, d, m, y, t: f"{d}{sep}{m}{sep}{y} {t}",
        st.sampled_from("-/"),
        loose,
        loose_months,
        years | st.integers(0, 99).map(two),
        loose_clocks,
    ),
    "access log": st.builds(
        lambda sep, d, b, y, gap, t, f, z: f"{d}{sep}{b}{sep}{y}{gap}{t}{f}{z}",
        st.sampled_from("-/"),
        loose,
        names,
        years,
        st.sampled_from((" ", ":", "")),
        clocks,
        fractions,
        st.just("") | offsets.map(lambda offset: f" {offset}"),
    ),
    "cpanel": written("{m}/{d}/{y}:{t}", m=loose_months, d=loose, y=years, t=loose_clocks),
    "month first": written(
        "{m}-{d}-{y} {t}{f}", m=loose_months, d=loose, y=years, t=loose_clocks, f=fractions
    ),
    "epoch": written(
        "{s}{f}",
        s=st.integers(10**9, 2 * 10**9).map(str),
        f=st.just("") | st.from_regex(r"\.[0-9]{3,6}", fullmatch=True),
    ),
    "clock": loose_clocks,
    "in angle brackets": written(
        "<{m}/{d}/{y}@{t}>", m=loose_months, d=loose, y=st.integers(0, 99).map(two), t=clocks
    ),
    "mysql": written(
        "{y}{m}{d}{gap}{t}",
        y=st.integers(0, 99).map(two),
        m=months.map(two),
        d=days.map(two),
        gap=st.sampled_from((" ", "  ")),
        t=loose_clocks,
    ),
    "tomcat": written(
        "{b} {d}, {y} {h}:{ms} {p}",
        b=names,
        d=loose,
        y=years,
        h=months.map(str),
        ms=clocks.map(lambda t: t[3:]),
        p=st.sampled_from(("AM", "PM", "am")),
    ),
    "assp": written(
        "{b}-{d}-{y} {t}", b=names, d=loose, y=st.integers(0, 99).map(two), t=loose_clocks
    ),
    "digits": written(
        "{y}{m}{d}{gap}{t}{f}{z}",
        y=years,
        m=months.map(two),
        d=days.map(two),
        gap=st.sampled_from(("T", " ", "  ")),
        t=clocks.map(lambda t: t.replace(":", "")),
        f=either_fraction,
        z=zones,
    ),
    "with a zone's name": written("{z} {t}", z=zone_names, t=asctimes),
    "with an offset": written("{z} {t}", z=offsets, t=asctimes),
    "tai64n": st.from_regex(r"@[0-9a-f]{24}", fullmatch=True),
}
"""One strategy for each of fail2ban's 17 default patterns."""

before = st.sampled_from(
    (
        "",
        "[",
        "<",
        "([",
        " ",
        '"',
        "- ",
        "x ",
        "host app[7]: ",
        "10.0.0.1 - [",
        'a "b" {',
        "é ",
        "==> ",
    )
)
after = st.sampled_from(
    (
        "",
        "]",
        ">",
        "] x",
        ' "GET /" 401',
        " user failed from 203.0.113.7",
        ": é",
        ",",
        ", x",
        " - x=1",
    )
)
dated = st.one_of(*(st.tuples(before, date, after).map("".join) for date in DATES.values()))


def left(line: str, span: tuple[int, int] | None) -> str:
    return line if span is None else line[: span[0]] + line[span[1] :]


def touches(line: str, span: tuple[int, int] | None) -> bool:
    """Say whether a date has a word character beside it."""
    return span is not None and bool(
        re.match(r"\w", line[span[0] - 1 : span[0]]) or re.match(r"\w", line[span[1] :])
    )


def agreed(line: str, span: tuple[int, int] | None, ours: str) -> bool:
    """
    Say whether `ours` is what fail2ban leaves of a line with a date at `span`.

    These differ: a fraction goes with its date, even if fail2ban's pattern knows none, no
    comma before it, or no more than six digits; an offset without a blank, too. A word before a date stays, unless it is
    the name of a zone. What fail2ban looks for only as the very begin may be behind two
    signs, as others are.
    """
    behind = _BEHIND_SIGNS.match(line)
    if ours == left(line, span) or _NO_TIME.search(line):
        return True
    if behind is not None and ours == left(line, behind.span(1)):
        return True
    if span is None:
        return False
    start, end = span
    word = _WORD_BEFORE.match(line, start)
    fraction = _FRACTION.match(line, end)
    starts = {start, start if word is None else word.end()}
    ends = {end} if fraction is None else {end, max(end, fraction.end(1)), fraction.end()}
    return any(ours == left(line, (a, b)) for a in starts for b in ends)


_NO_TIME = re.compile("19[0-9][0-9]|20[3-9][0-9]|2[4-9]:")
"""A year that fail2ban takes for none, and an hour that only it takes for one."""
_BEHIND_SIGNS = re.compile(
    r"\W{1,2}(<[0-9/]+@[0-9:]+>|[A-Z][a-z]{2}-[0-9-]+  ?[0-9]+:[0-9]+:[0-9]+)"
)
_WORD_BEFORE = re.compile(r"[A-Za-z]{3,5} (?=[A-Z])")
_FRACTION = re.compile(
    r"([.,][0-9]{1,9})?(?:[ \t]*(?:Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)| 20[0-9]{2})?"
)


@pytest.mark.parametrize("kind", DATES)
def test_a_date_of_each_kind_is_cut_where_fail2ban_cuts_it(kind: str, oracle: Oracle) -> None:
    @given(st.lists(st.tuples(before, DATES[kind], after).map("".join), min_size=1, max_size=20))
    @settings(deadline=None, max_examples=25)
    def run(lines: list[str]) -> None:
        for line, span in zip(lines, oracle.dates([], lines), strict=True):
            assert touches(line, span) or agreed(line, span, cut(line)), (line, span)

    run()


@given(st.lists(dated, min_size=1, max_size=3).map(" ".join))
@thorough
def test_of_several_dates_the_same_is_cut(oracle: Oracle, line: str) -> None:
    (span,) = oracle.dates([], [line])
    if span is not None and line[span[0]] == "@" and re.search("[0-9]:|[0-9]{8}", line[: span[0]]):
        return  # its last pattern, TAI64N, wins over dates before it; here the leftmost does
    assert touches(line, span) or agreed(line, span, cut(line))


@st.composite
def broken(draw: st.DrawFn) -> str:
    """A line with a date in which one character is another, missing, or too much."""
    line = draw(dated)
    place = draw(st.integers(0, min(len(line) - 1, 45)))
    new = draw(st.text("0123456789 :/-.,+TZ[]aJ@", max_size=1))
    return line[:place] + new + line[place + draw(st.integers(0, 1)) :]


@given(st.lists(broken(), min_size=1, max_size=20))
@thorough
def test_what_is_almost_a_date_is_cut_alike(oracle: Oracle, lines: list[str]) -> None:
    for line, span in zip(lines, oracle.dates([], lines), strict=True):
        assert touches(line, span) or agreed(line, span, cut(line)), (line, span)


TOKENS: dict[str, st.SearchStrategy[str]] = {
    "%Y": years,
    "%ExY": years,
    "%y": st.integers(0, 99).map(two),
    "%m": loose_months,
    "%Exm": months.map(two),
    "%d": padded_days | loose,
    "%Exd": days.map(two),
    "%b": names,
    "%B": st.sampled_from(("January", "May", "september")),
    "%a": st.sampled_from(("Mon", "SUN")),
    "%A": st.sampled_from(("Monday", "sunday")),
    "%H": st.integers(0, 23).map(str) | st.integers(0, 23).map(two),
    "%ExH": st.integers(0, 23).map(two),
    "%k": st.integers(0, 23).map(lambda hour: f"{hour:2d}"),
    "%Exk": st.integers(0, 23).map(str) | st.integers(0, 23).map(lambda hour: f"{hour:2d}"),
    "%I": months.map(two),
    "%l": months.map(lambda hour: f"{hour:2d}"),
    "%Exl": months.map(str) | months.map(lambda hour: f"{hour:2d}"),
    "%M": st.integers(0, 59).map(two),
    "%S": st.integers(0, 59).map(two),
    "%f": st.from_regex("[0-9]{1,6}", fullmatch=True),
    "%p": st.sampled_from(("AM", "pm")),
    "%j": st.integers(1, 366).map(lambda day: f"{day:03d}") | st.integers(1, 366).map(str),
    "%z": st.sampled_from(("Z", "UTC", "GMT")) | offsets,
    "%Z": st.sampled_from(("UTC", "CEST", "AKST")),
    "%Exz": st.sampled_from(("Z", "UTC", "CET")) | offsets,
    "%%": st.just("%"),
}
SHAPES = (
    "{}",
    "{{^LN-BEG}}{}",
    "^{}",
    "^\\[{}\\]",
    "\\[({})\\]",
    "^[^ ]* {}",
    "{{UNB}}{}",
    "**{}**",
    "{}$",
    "t=({})",
)
"""Where a pattern's tokens may stand; braces are doubled."""


@st.composite
def pattern_and_lines(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A date pattern, and lines with such a date in several places."""
    groups: set[str] = set()
    tokens: list[str] = []
    for token in draw(st.lists(st.sampled_from(sorted(TOKENS)), min_size=2, max_size=5)):
        group = {"k": "H", "l": "I"}.get(token[-1], token[-1])
        if group in groups or (not tokens and group != token[-1]):
            continue  # a pattern has each once; one that begins with a blank hour is refused there
        groups.add(group)
        tokens.append(token)
    tokens = tokens or ["%Y"]
    gaps = draw(st.lists(st.sampled_from("-/: T.,"), min_size=len(tokens), max_size=len(tokens)))
    tokens_pattern = "".join(
        token + (re.escape(gap) if gap in ".-" else gap)
        for token, gap in zip(tokens, gaps, strict=True)
    ).rstrip("-/: T.,\\")
    lines = []
    for _ in range(draw(st.integers(1, 4))):
        date = "".join(draw(TOKENS[token]) + gap for token, gap in zip(tokens, gaps, strict=True))
        lines.append(draw(before | st.just("t=")) + date.rstrip("-/: T.,") + draw(after))
    return draw(st.sampled_from(SHAPES)).format(tokens_pattern), lines


@given(case=pattern_and_lines())
@example(case=(r"%ExH\.%j", ["10.0.0.1 - [00.001"]))  # no year has a day 0
@example(case=(r"%y\.%l", ["10.0.0.1 - [00. 7"]))  # but a clock may have an hour 0
@thorough
def test_a_date_pattern_of_ones_own_cuts_what_it_cuts_in_fail2ban(
    oracle: Oracle, case: tuple[str, list[str]]
) -> None:
    pattern, lines = case
    ours = cutter((pattern,))
    for line, span in zip(lines, oracle.dates([pattern], lines), strict=True):
        assert touches(line, span) or ours(line) == left(line, span), (line, span)


WHOLE = (
    "EPOCH", "{^LN-BEG}EPOCH", "LEPOCH", "{^LN-BEG}LEPOCH", "TAI64N", "{^LN-BEG}TAI64N", "epoch",
    "{^LN-BEG}", "{DEFAULT}", "{NONE}",
    "^{DATE}", "{^LN-BEG}{DATE}", "^[^\\[]*\\[({DATE})", "^\\S+ {DATE}", "t=({DATE})",
    "^t={EPOCH}", "^[^=]*={LEPOCH}", "\\[{EPOCH}\\]",
)  # fmt: skip
long_epochs = st.sampled_from((10, 11, 13, 16)).flatmap(
    lambda length: st.integers(10 ** (length - 1), 2 * 10 ** (length - 1)).map(str)
)


@given(
    st.sampled_from(WHOLE),
    st.lists(
        dated
        | st.tuples(before | st.just("t="), st.one_of(*DATES.values(), long_epochs), after).map(
            "".join
        ),
        min_size=1,
        max_size=10,
    ),
)
@thorough
def test_a_date_pattern_of_a_word_cuts_what_it_cuts_in_fail2ban(
    oracle: Oracle, pattern: str, lines: list[str]
) -> None:
    ours = cutter((pattern,))
    for line, span in zip(lines, oracle.dates([pattern], lines), strict=True):
        if "{DATE}" in pattern and re.search("@[0-9a-f]{24}", line):
            continue  # there, {DATE} means all kinds but TAI64N
        assert touches(line, span) or agreed(line, span, ours(line)), (line, span, ours(line))
