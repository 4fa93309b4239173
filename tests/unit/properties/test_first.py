"""That a regex is not tried takes no match away."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dockerjail.jail import possessive
from dockerjail.jail.filter import Filter
from dockerjail.jail.first import begin, tries
from dockerjail.jail.rule import Rule

PIECES = st.sampled_from(
    [
        *(
            "a",
            "B",
            "k",
            "s",
            "i",
            "[ab]",
            "[^a]",
            "[a-c]",
            r"\s",
            r"\S",
            r"\d",
            r"\w",
            r"\W",
            ".",
            "é",
        ),
        *(
            "(?:a|b)",
            "(?:ab|)",
            "(?i:k)",
            "(?i:[i-s])",
            "(?-i:a)",
            "(?>a|ab)",
            "[\u0130-\u0180]",
            r"\.",
        ),
        *(
            "(?=a)",
            "(?!a)",
            r"\b",
            "$",
            "(?<!a)",
            "(?P<x>a)?(?(x)b|c)",
            "(a)?\\1",
            "(?#x)",
            "[\\s\\d]",
        ),
    ]
)
REPEATED = st.tuples(PIECES, st.sampled_from(["", "", "?", "*", "+", "{2}", "*?", "?+"])).map(
    lambda each: f"(?:{each[0]}){each[1]}"
)
BEGINS = st.sampled_from(["^", "^", "^", r"\A", "(?i)^", "(?a)^", "(?m)^", "", "(?:^)", "^*"])


def _pattern(begins: str, pieces: list[str], also: list[str]) -> str:
    inner = "".join(pieces)
    return f"{begins}{inner}|^{''.join(also)}" if also else f"{begins}{inner}"


PATTERNS = st.builds(
    _pattern, BEGINS, st.lists(REPEATED, max_size=4), st.lists(REPEATED, max_size=2)
).filter(lambda pattern: _compiles(pattern))
TEXTS = st.text("aAbBcCkKsSiI\u0130\u0131\u017f\u212aé .1\n", min_size=1, max_size=6)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return not possessive.forgets(pattern)


@settings(max_examples=500, deadline=None)
@given(st.lists(PATTERNS, min_size=1, max_size=4), TEXTS)
def test_what_a_regex_matches_begins_as_it_must(patterns: list[str], text: str) -> None:
    compiled = [re.compile(pattern) for pattern in patterns]
    every, by_first = tries([(each.pattern, each.search) for each in compiled])
    tried = by_first.get(text[:1], every)
    assert [number for number, _ in tried] == sorted({number for number, _ in tried})
    left_out = set(range(len(patterns))).difference(number for number, _ in tried)
    assert not any(compiled[number].search(text) for number in left_out)
    for each in compiled:
        if begin(each.pattern).anchored:
            found = each.search(text)
            assert (found and found.span()) == ((again := each.match(text)) and again.span())


@settings(max_examples=200, deadline=None)
@given(st.lists(PATTERNS, min_size=1, max_size=5), TEXTS, st.booleans())
def test_the_first_failregex_that_matches_a_line_decides(
    patterns: list[str], text: str, narrowed: bool
) -> None:
    assume("\n" not in text)
    rule = Rule(
        failregex=tuple(f"(?:{each})(?P<ip4>[0-9.]*)" for each in map(_unflagged, patterns)),
        prefregex="^(?P<content>.*)$" if narrowed else "",
    )
    expected = None
    for number, each in enumerate(rule.failregex):
        if re.search(each, f"{text}\n"):
            expected = number
            break
    hit = Filter(rule).match(text)
    assert (None if hit is None else hit.regex) == expected


def _unflagged(pattern: str) -> str:
    return (
        re.sub(r"^\(\?([ima])\)(.*)", r"(?\1:\2)", pattern)
        if "(?a)" not in pattern
        else pattern[4:]
    )


@pytest.mark.parametrize(
    ("pattern", "chars"),
    [
        ("^Failed ", "F"),
        ("^[iI](?:llegal|nvalid) user", "iI"),
        (r"^(?:error: )?Unable", "eU"),
        ("^(?i:k)x", "kK"),
        (r"^\d+:", "0123456789"),
        ("^(?:Accepted|(?P<x>Connection) from)", "AC"),
    ],
)
def test_how_a_text_must_begin_is_known(pattern: str, chars: str) -> None:
    assert begin(pattern).chars == frozenset(chars)


@pytest.mark.parametrize("pattern", ["Failed", "(?m)^Failed", "^", "^a?", r"^.*from", "^(?:|a)"])
def test_what_may_begin_with_anything_is_always_tried(pattern: str) -> None:
    other = re.compile("^zzz")
    _, by_first = tries([(pattern, re.compile(pattern).search), (other.pattern, other.search)])
    assert [number for number, _ in by_first["F"]] == [0]
