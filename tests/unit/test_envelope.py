"""Regexes that were written for the files of Docker's json-file driver."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.jail.envelope import inside, wrap
from dockerjail.jail.filter import Filter
from dockerjail.jail.rule import Rule
from dockerjail.jail.sieve import Sieve
from dockerjail.model import Stream

STAMP = "2026-11-22T10:52:40.409746684Z "
AT = 1795344760.409746


def test_a_line_is_wrapped_as_the_driver_does() -> None:
    assert wrap('a <b> "c"\t\u00e9', AT, Stream.STDERR) == (
        '{"log":"a \\u003cb\\u003e \\"c\\"\\t\u00e9\\n","stream":"stderr",'
        '"time":"2026-11-22T10:52:40.409746Z"}'
    )


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\n")))
def test_what_is_wrapped_is_one_line_of_json(text: str) -> None:
    line = wrap(text, AT, Stream.STDOUT)
    assert "\n" not in line
    assert json.loads(line)["log"] == f"{text}\n"


@pytest.mark.parametrize(
    "regex",
    [
        r'^\{"log":".*login failed for \\"bob\\" from <HOST>\\n","stream":"stdout","time":".*$',
        r'^{"log":"\[[^\]]*\] login failed .* from <HOST>\\n',
        r'"log"\s*:\s*".*login failed.* from <HOST>.*"stream":"stdout"',
        r'^\{"log":"\\tlogin failed .*from <HOST>.*","time":""\}$',
        r'.*"time":"[^"]*".*login|^\{"log":.* from <HOST>\\n',
    ],
)
@pytest.mark.parametrize(
    "line", ['[x] login failed for "bob" from 203.0.113.7', "\tlogin failed from 203.0.113.7"]
)
def test_a_regex_for_such_a_file_matches_the_bare_line(regex: str, line: str) -> None:
    rule = Rule(failregex=(regex,), wrapped=True)
    hit = Filter(rule).match(line)
    there = Filter(Rule(failregex=(regex,))).match(wrap(line, 0.0, Stream.STDOUT))
    assert (hit and hit.address) == (there and there.address)
    if hit is not None:
        assert list(Sieve([Filter(rule)]).candidates(f"{STAMP}{line}\n".encode()))


def test_no_text_of_a_client_can_leave_the_frame() -> None:
    rule = Rule(
        failregex=(r'^\{"log":"login failed for [^"]* from <HOST>\\n","stream"',), wrapped=True
    )
    forged = r'login failed for x from 198.51.100.1\n","stream":"stdout"} from 203.0.113.7'
    assert Filter(rule).match(forged) is None


@pytest.mark.parametrize(
    ("literal", "pieces"),
    [
        (b'failed\\n","stream":"stdout', (b"failed",)),
        (b'{"log":"', ()),
        (b"\\tfoo bar", (b"foo bar",)),
        (b"2026-11", ()),
        (b"a/bc <x> of", (b"bc ", b" of")),
    ],
)
def test_of_a_literal_counts_what_stands_in_the_bare_line(
    literal: bytes, pieces: tuple[bytes, ...]
) -> None:
    assert inside(literal) == pieces
