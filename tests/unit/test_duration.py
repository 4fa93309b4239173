"""Promises of the durations that people write in settings, labels and orders."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.config import duration
from dockerjail.config.mistake import Mistake


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (600, 600),
        (1.5, 1.5),
        ("600", 600),
        (" 600 ", 600),
        ("10m", 600),
        ("10 m", 600),
        ("1h", 3600),
        ("1d12h", 129600),
        ("1d12h30m", 131400),
        ("1h30", 3630),
        ("1.5h", 5400),
        (".5h", 1800),
        ("1 day 2 hours", 93600),
        ("1h+5m", 3900),
        ("1h + 5m", 3900),
        ("1year-6mo", 15778800),
        ("60*60", 3600),
        ("2*1h+30m", 9000),
        ("1M", 60),
        ("1H", 3600),
        ("2Weeks", 1209600),
        ("1w", 604800),
        ("1mo", 2629800),
        ("1y6mo", 47336400),
        ("5secs", 5),
        ("5mins", 300),
        ("5minutes", 300),
        ("2hours", 7200),
        ("1sec", 1),
        ("1ss", 1),
        ("1mm", 60),
        ("1hh", 3600),
        ("1dd", 86400),
        ("1ww", 604800),
        ("1mon", 2629800),
        ("1yy", 31557600),
        ("1hou", 3600),
        ("1da", 86400),
        ("1wee", 604800),
        ("1yea", 31557600),
    ],
)
def test_a_duration_means_what_it_means_to_fail2ban(text: object, seconds: float) -> None:
    assert duration.parse(text) == seconds
    assert duration.parse_bantime(text) == seconds


@pytest.mark.parametrize("text", [-1, -1.0, "-1", " -1 ", "permanent", "Forever", "for  good"])
def test_a_bantime_can_be_for_good(text: object) -> None:
    assert duration.parse_bantime(text) is None


@pytest.mark.parametrize("text", [-1, "-1", "permanent"])
def test_only_a_bantime_can_be_for_good(text: object) -> None:
    with pytest.raises(Mistake, match="write a duration such as 600, 10m"):
        duration.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "five",
        "h",
        "10m!",
        "1h+",
        "+",
        "*5",
        "1h--5m",
        "1,5h",
        "10 minutes ago",
        "__import__('os')",
        "1e3",
        "(1h)",
        "٣m",
        "1\x00",
        "1h" * 100,
        None,
        True,
        [],
        {},
        0,
        "0",
        "0m",
        "5m-5m",
        "5m-1h",
        -5,
        "-5m",
        "101y",
        "9" * 90,
        10**400,
        math.inf,
        -math.inf,
        math.nan,
    ],
)
def test_what_is_no_duration_is_refused_with_what_to_write(text: object) -> None:
    for parse in (duration.parse, duration.parse_bantime):
        with pytest.raises(Mistake) as caught:
            parse(text)
        assert caught.value.remedy.startswith("write ")
        assert len(str(caught.value)) < 300


def test_an_unknown_unit_is_named() -> None:
    with pytest.raises(Mistake, match="'10x' is no duration: 'x' is no unit; write s, m, h, d"):
        duration.parse("10x")


def test_milliseconds_are_not_taken_for_minutes() -> None:
    with pytest.raises(Mistake, match="'ms' is no unit"):
        duration.parse("500ms")


def test_the_remedy_for_a_bantime_says_how_to_ban_for_good() -> None:
    with pytest.raises(Mistake, match="or -1 for good"):
        duration.parse_bantime("-5m")


def test_zero_is_taken_only_where_it_makes_sense() -> None:
    assert duration.parse("0", zero=True) == 0
    with pytest.raises(Mistake, match="is no time at all"):
        duration.parse("0")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "for good"),
        (0, "0s"),
        (0.25, "0.25s"),
        (1, "1s"),
        (59.6, "1m"),
        (600, "10m"),
        (3600, "1h"),
        (5400, "1h30m"),
        (90061, "1d1h1m1s"),
        (604800, "7d"),
        (-90, "-1m30s"),
    ],
)
def test_people_read_durations_in_units(seconds: float | None, text: str) -> None:
    assert duration.format(seconds) == text


@given(st.integers(min_value=1, max_value=int(duration.LONGEST)))
def test_what_is_shown_can_be_written_back(seconds: int) -> None:
    assert duration.parse(duration.format(seconds)) == seconds


def test_for_good_can_be_written_back() -> None:
    assert duration.parse_bantime(duration.format(None)) is None


@given(st.text() | st.text("0123456789.+-* smhdwyo"))
def test_any_text_is_a_duration_within_bounds_or_a_mistake(text: str) -> None:
    try:
        seconds = duration.parse(text)
    except Mistake:
        return
    assert 0 < seconds <= duration.LONGEST
