"""A filter's own date patterns: what they cut, and what is said of one that cannot be meant."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.errors import FilterError
from dockerjail.jail import datecut
from dockerjail.jail.datepattern import DatePatternError, cutter
from dockerjail.jail.filter import Filter
from dockerjail.jail.rule import Rule


def left(line: str, *patterns: str) -> str:
    return cutter(patterns)(line)


@pytest.mark.parametrize(
    ("pattern", "line", "rest"),
    [
        ("%Y-%m-%d %H:%M:%S", "2005-01-23 21:59:59 x", " x"),
        ("%d.%m.%y, %k:%M", "user bob 3.1.05,  7:59 x", "user bob  x"),
        ("%a %b %d %I:%M %p", "[sun JAN  3 09:59 pm] x", "[] x"),
        ("%A %B %d", "Sunday January 23 x", " x"),
        ("%Y%j", "2005023 x", " x"),
        (r"%ExH\.%j", "10.0.0.1 at 00.001 x", "10.0.0.1 at  x"),
        ("day %j", "day 000, day 00, day 0, day 9 x", "day 000, day 00, day 0,  x"),
        ("day %j", "day 367, day 366 x", "day 367,  x"),
        ("%m %Exk:%M", "1  9:05 x", " x"),
        ("%m %Exk:%M", "1 29:05 x", "1 29:05 x"),
        ("%m %Exl:%M %p", "1  9:05 PM x", " x"),
        ("%m %l:%M %p", "1 09:05 PM x", " x"),
        ("%s", None, None),
        ("%H:%M:%S.%f %z", "21:59:59.123456789 +02:00 x", " x"),
        ("%H:%M:%S %Z", "21:59:59 CEST x", " x"),
        ("%ExY%Exm%Exd%ExH%ExM%ExS", "20050123215959 x", " x"),
        ("%Exy-%Exm", "x 05-01 x", "x  x"),
        ("100%% %Y", "100% 2005 x", " x"),
        ("%c", "Sun Jan 23 21:59:59 2005 x", " x"),
        ("%x %X", "01/23/05 21:59:59 x", " x"),
    ],
)
def test_each_token_stands_for_what_strptime_says(
    pattern: str, line: str | None, rest: str | None
) -> None:
    if line is None or rest is None:
        with pytest.raises(DatePatternError, match=re.escape(f"{pattern} is no token")):
            cutter((pattern,))
        return
    assert left(line, pattern) == rest


@pytest.mark.parametrize(
    ("pattern", "line", "rest"),
    [
        # at the line's begin, behind at most two signs
        ("{^LN-BEG}%H:%M", "21:59 x", " x"),
        ("{^LN-BEG}%H:%M", "([21:59] x", "([] x"),
        ("{^LN-BEG}%H:%M", "x 21:59 x", "x 21:59 x"),
        ("^%H:%M", "21:59 x", " x"),
        ("^%H:%M", "[21:59] x", "[21:59] x"),
        # a group of one's own: only that is cut
        (r"^[^\[]*\[(%H:%M)\]", "host [21:59] x", "host [] x"),
        (r"^[^\[]*\[({DATE})", "host [23/Jan/2005:21:59:59 +0200] x", "host [] x"),
        (r"at (?:about )?%H:%M", "x at about 21:59 x", "x  x"),
        # a date of any of the default kinds
        ("^<[0-9]+>1 {DATE}", "<34>1 2005-01-23T21:59:59Z x", " x"),
        ("t={DATE}", "x t=21:59:59 x", "x  x"),
        # whole words
        ("EPOCH", "1138049999 x", " x"),
        ("EPOCH", "[1138049999.981] x", "[] x"),
        ("EPOCH", "x 1138049999 x", "x 1138049999 x"),
        ("EPOCH", "type=X msg=audit(1138049999.981:99): x", "type=X msg=audit(:99): x"),
        ("epoch", "1138049999 x", " x"),
        ("LEPOCH", "1138049999981 x", " x"),
        ("{^LN-BEG}LEPOCH", "[1138049999981000] x", "[] x"),
        ("TAI64N", "x @4000000052f88ea32489532c x", "x  x"),
        ("^ts={EPOCH}", "ts=1138049999.981 x", " x"),
        ("ts={LEPOCH}", "a ts=1138049999981 x", "a  x"),
        # none at all, and the default ones
        ("{NONE}", "2005-01-23 21:59:59 x", "2005-01-23 21:59:59 x"),
        ("{DEFAULT}", "x 2005-01-23 21:59:59 x", "x  x"),
        ("{^LN-BEG}", "2005-01-23 21:59:59 x", " x"),
        ("{^LN-BEG}", "x 2005-01-23 21:59:59 x", "x 2005-01-23 21:59:59 x"),
        ("^{DATE}", "1138049999 x", " x"),
    ],
)
def test_a_pattern_says_where_the_date_is(pattern: str, line: str, rest: str) -> None:
    assert left(line, pattern) == rest


def test_without_patterns_the_default_ones_hold() -> None:
    assert cutter(()) is datecut.cut
    assert cutter(("", " ")) is datecut.cut


def test_with_a_pattern_the_default_ones_do_not_hold() -> None:
    assert left("2005-01-23 21:59:59 x", "%d/%m/%Y") == "2005-01-23 21:59:59 x"


def test_the_default_ones_can_be_added() -> None:
    patterns = ("{DEFAULT}", r"day %j")
    assert left("day 023 2005-01-23 21:59:59 x", *patterns) == " 2005-01-23 21:59:59 x"
    assert left("2005-01-23 21:59:59 x", *patterns) == " x"


def test_of_several_patterns_the_one_at_the_begin_counts() -> None:
    patterns = ("%H:%M", "{^LN-BEG}%d/%m")
    assert left("23/01 21:59 x", *patterns) == " 21:59 x"


def test_of_several_patterns_the_leftmost_counts() -> None:
    assert left("x 23/01 21:59 x", "%H:%M", "%d/%m") == "x  21:59 x"
    assert left("x 21:59 23/01 x", "%H:%M", "%d/%m") == "x  23/01 x"


@pytest.mark.parametrize("line", ["x21:59", "x 21:59y", "_21:59 x", "121:59 x"])
def test_what_is_cut_touches_no_word(line: str) -> None:
    assert left(f"a {line}", "{UNB}%H:%M") == f"a {line}"


@given(
    st.lists(
        st.sampled_from(("%H:%M", "{UNB}%d/%m", "t=(%j)", "{DATE}", "**%y**", "{^LN-BEG}%M")),
        min_size=1,
        max_size=3,
    ),
    st.text("0123456789:/ =txé[]", max_size=30),
)
def test_nothing_is_changed_but_one_piece_that_is_left_out(patterns: list[str], line: str) -> None:
    rest = left(line, *patterns)
    assert any(
        rest == line[:start] + line[start + len(line) - len(rest) :]
        for start in range(len(rest) + 1)
    )


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("%Q-%m", ["%Q is no token", "%Y"]),
        ("no date", ["has no date", "%Y-%m-%d"]),
        ("", None),
        ("%Y[a", ["is no regex", r"\["]),
        ("(%Y", ["is no regex", r"\("]),
        ("{DATE} and {DATE}", ["{DATE} twice"]),
        ("x" * 500 + "%Q", ["%Q is no token"]),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_named(pattern: str, said: list[str] | None) -> None:
    if said is None:
        assert cutter((pattern,)) is datecut.cut
        return
    with pytest.raises(DatePatternError) as caught:
        cutter((pattern,))
    message = str(caught.value)
    assert message.startswith("datepattern ")
    assert len(message) < 300
    for part in said:
        assert part in message


def test_a_filter_with_a_bad_pattern_is_refused() -> None:
    with pytest.raises(FilterError, match="datepattern '%Q': %Q is no token"):
        Filter(Rule(failregex=("from <HOST>",), datepattern=("%Q",)))


def test_a_failregex_sees_the_line_without_the_date_of_its_pattern() -> None:
    judge = Filter(Rule(failregex=(r"^\[\] denied <HOST>$",), datepattern=("%d.%m.%y %H:%M",)))
    hit = judge.match("[23.01.05 21:59] denied 203.0.113.7")
    assert hit is not None
    assert str(hit.address) == "203.0.113.7"


@pytest.mark.parametrize("pattern", [r"[(]%Y-%m-%d[)]", r"[(]{DATE}[)]", r"(?#(x)%Y-%m-%d"])
def test_a_parenthesis_that_opens_no_group_does_no_harm(pattern: str) -> None:
    """A label writes patterns, too: what raises here would bring the daemon down."""
    date = "2005-01-23 21:59:59" if "DATE" in pattern else "2005-01-23"
    assert "2005" not in left(f"fail ({date}) from 192.0.2.7", pattern)


def test_a_pattern_whose_date_lies_in_a_comment_is_refused() -> None:
    with pytest.raises(DatePatternError, match="no date"):
        cutter((r"(?#x(%Y",))


def test_a_group_without_a_date_leaves_the_date_to_the_next_pattern() -> None:
    assert left("x 2005-01-23 y", "(%Y/%m/%d)?x", "%Y-%m-%d") == "x  y"
