"""What is cut out of a line before a failregex sees it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.jail import datecut
from dockerjail.jail.datecut import cut

DATES = [
    "2005-01-23T21:59:59.981746Z",
    "2005-01-23T21:59:59+02:00",
    "2005-01-23 21:59:59,981",
    "2005-01-23 21:59:59.123456789Z",
    "2005/01/23 21:59:59",
    "2006.12.21 06:43:20",
    "2005-01-23 21:59:59 UTC",
    "Sun Jan 23 21:59:59.011 2005",
    "Jan 23 21:59:59",
    "Jan  3 21:59:59",
    "Jan 23 2005 21:59:59.011",
    "23/01/2005 21:59:59",
    "17-07-2008 17:23:25",
    "23/01/05 21:59:59",
    "31/Oct/2006:09:22:55 +0200",
    "31-Oct-2006 09:22:55.252",
    "05/20/2008:01:57:39",
    "01-27-2012 16:22:44.252",
    "130322 11:46:11",
    "Jan 23, 2005 1:02:03 PM",
    "20050123T215959",
    "20050123-21:59:59.981",
    "PDT Apr 16 21:05:29",
    "+00:00 Jan 23 21:59:59",
    "@4000000052f88ea32489532c",
]
AT_BEGIN = [
    "1138049999",
    "1138049999.981",
    "21:59:59",
    "<09/16/08@05:03:30>",
    "Apr-27-13 02:33:06",
]


@pytest.mark.parametrize("date", DATES + AT_BEGIN)
def test_a_date_at_the_begin_is_cut_and_the_blank_stays(date: str) -> None:
    assert cut(f"{date} WARNING x") == " WARNING x"
    assert cut(f"[{date}] WARNING x") == "[] WARNING x"


@pytest.mark.parametrize("date", DATES)
def test_a_date_further_on_is_cut(date: str) -> None:
    assert cut(f"203.0.113.7 - bob [{date}] x") == "203.0.113.7 - bob [] x"


@pytest.mark.parametrize("date", AT_BEGIN)
def test_what_is_a_date_only_at_the_begin_stays_elsewhere(date: str) -> None:
    assert cut(f"some host {date} x") == f"some host {date} x"


def test_the_seed_line_loses_its_date() -> None:
    line = "2023-10-27 14:38:22,557 WARNING Failed login attempt for user: admin"
    assert cut(line) == " WARNING Failed login attempt for user: admin"


def test_the_time_of_an_audit_record_is_cut() -> None:
    assert cut("type=USER msg=audit(1138049999.981:99): x") == "type=USER msg=audit(:99): x"


@pytest.mark.parametrize(
    "line",
    [
        "no date at 12:34 here",
        "x2005-01-23 21:59:59 touches a word",
        "2005-01-23 21:59:59x touches a word",
        "2005-13-23 21:59:59 is no month",
        "10.20.30.40 - - nothing",
        "",
        "[",
    ],
)
def test_what_is_no_date_stays(line: str) -> None:
    assert cut(line) == line


def test_a_level_is_not_taken_for_a_zone() -> None:
    assert cut("2005-01-23 21:59:59 INFO x") == " INFO x"
    assert cut("2005-01-23 21:59:59 - x") == " - x"


def test_a_date_at_the_begin_goes_before_one_further_left_in_the_list() -> None:
    assert cut("21:59:59 then 2005-01-23 21:59:59") == " then 2005-01-23 21:59:59"


def test_the_leftmost_of_two_dates_is_cut() -> None:
    line = "from x Jan 23 21:59:59 and 2005-01-23 21:59:59"
    assert cut(line) == "from x  and 2005-01-23 21:59:59"


def test_only_one_date_is_cut() -> None:
    line = "2005-01-23 21:59:59 user 2005-01-23 21:59:58 failed"
    assert cut(line) == " user 2005-01-23 21:59:58 failed"


pieces = st.lists(
    st.one_of(
        st.sampled_from(DATES + AT_BEGIN),
        st.sampled_from(
            [" ", "[", "] ", "-", '"', "x", "7", "é", "(", "audit(", ":99)", "\x00", "@"]
        ),
        st.text(max_size=5),
    ),
    max_size=8,
).map("".join)


@given(pieces)
def test_no_word_character_ever_touches_a_cut(text: str) -> None:
    short = cut(text)
    if short == text:
        return
    possible = [
        at
        for at in range(len(short) + 1)
        if text.startswith(short[:at]) and text.endswith(short[at:])
    ]
    assert any(
        (at == 0 or not re.match(r"\w", short[at - 1]))
        and (at == len(short) or not re.match(r"\w", short[at]))
        for at in possible
    )


@given(pieces)
def test_the_short_cuts_change_nothing(text: str) -> None:
    found = datecut._AT_BEGIN(text)
    span = found.span(1) if found else None
    if span is None and (found := datecut._ANYWHERE(text)):
        span = found.span()
    assert cut(text) == (text if span is None else text[: span[0]] + text[span[1] :])
