"""A line that a filter matches always comes through the sieve, and few others do."""

import json
import re
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from dockerjail.jail.filter import Filter
from dockerjail.jail.rule import Format, Rule
from dockerjail.jail.sieve import Sieve, lines
from tests.unit.engines import candidates, sieves

STAMP = "2026-11-22T10:52:40.409746684Z "
NOISE = "2026-11-22T10:52:40.409746684Z nothing to see here\n"


def data(*texts: str) -> bytes:
    return "".join(f"{STAMP}{text}\n" for text in texts).encode("utf-8", "surrogateescape")


def texts_of(filters: Sequence[Filter], chunk: bytes) -> list[tuple[str, tuple[int, ...]]]:
    return [
        (chunk[start:end].decode("utf-8", "replace").partition(" ")[2], which)
        for start, end, which in candidates(filters, chunk)
    ]


def sieve(*regexes: str) -> list[Filter]:
    return [Filter(Rule(failregex=(regex,))) for regex in regexes]


def test_only_lines_that_could_match_come_through() -> None:
    chunk = data("login ok from 203.0.113.7", "login failed from 203.0.113.7", "user failed")
    assert texts_of(sieve("login failed from <HOST>"), chunk) == [
        ("login failed from 203.0.113.7", (0,))
    ]


def test_a_line_names_the_filters_that_could_match_it() -> None:
    both = sieve("failed .*from <HOST>", "denied .*from <HOST>")
    chunk = data("failed from x", "denied from x", "failed and denied from x", "ok from x")
    assert [which for _, which in texts_of(both, chunk)] == [(0,), (1,), (0, 1)]


def test_the_whole_chain_must_be_there_in_its_order() -> None:
    chunk = data("user x failed from y", "from y failed user x", "user x failed")
    assert texts_of(sieve("user .* failed .*from <HOST>"), chunk) == [
        ("user x failed from y", (0,))
    ]


def test_a_filter_that_requires_nothing_sees_every_line() -> None:
    chunk = data("a", "failed from x", "b")
    assert [which for _, which in texts_of(sieve("<HOST>", "failed from <HOST>"), chunk)] == [
        (0,),
        (0, 1),
        (0,),
    ]


def test_one_regex_that_requires_nothing_shows_its_filter_every_line() -> None:
    each = Filter(Rule(failregex=("failed from <HOST>", r"^\S+ <HOST>")))
    assert len(texts_of([each], data("a", "b", "c"))) == 3


def test_nothing_comes_of_nothing() -> None:
    assert candidates([], data("a")) == []
    assert candidates(sieve("failed from <HOST>"), b"") == []


def test_a_last_line_without_an_end_is_a_line() -> None:
    chunk = data("x", "failed from y")[:-1]
    assert len(texts_of(sieve("failed from <HOST>"), chunk)) == 1
    assert len(list(lines(chunk))) == 2


def test_letters_that_fold_into_ascii_are_found() -> None:
    folding = sieve("(?i)sink failed from <HOST>")
    chunk = data("\u017f\u0131n\u212a FAILED from 203.0.113.7", "SINK failed from x", "nothing")
    assert len(texts_of(folding, chunk)) == 2


def test_broken_bytes_do_not_hide_a_line() -> None:
    chunk = STAMP.encode() + b"\xff\xfe failed \x00 from 203.0.113.7\n"
    assert len(candidates(sieve("failed .* from <HOST>"), chunk)) == 1


def test_a_prefregex_says_what_a_line_needs_too() -> None:
    rule = Rule(
        prefregex=r"^\[auth\] (?:warning|error): <F-CONTENT>.+</F-CONTENT>$",
        failregex=(r"^<HOST>$", r"^user \S+ from <HOST>$"),
    )
    chunk = data("[auth] error: 203.0.113.7", "user x from 203.0.113.7", "203.0.113.7")
    assert [text for text, _ in texts_of([Filter(rule)], chunk)] == ["[auth] error: 203.0.113.7"]


@pytest.mark.parametrize(
    "prefregex",
    [
        r"^(?:\[auth\] <F-CONTENT>.+</F-CONTENT>)?",
        r"^\[auth\] <F-CONTENT>.*</F-CONTENT>",
        r"^\[auth\] <F-CONTENT>.*?</F-CONTENT>",
        r"^\[auth\] (?:<F-CONTENT>x+</F-CONTENT>)? ?",
        r"^\[auth\] ",
        r"(?:\[auth\] <F-CONTENT>.+</F-CONTENT>|user)",
    ],
)
def test_nothing_is_asked_of_the_order_where_the_content_may_be_nothing(prefregex: str) -> None:
    for failregex in (r"user \S+ from <ADDR>", r"auth. user \S+ from <ADDR>"):
        each = Filter(Rule(prefregex=prefregex, failregex=(failregex,)))
        for text in ("user x from 203.0.113.7", "[auth] user x from 203.0.113.7", "[auth] "):
            assert not missed([each], text)


@pytest.mark.parametrize(
    "regex",
    [
        r"^app\[\d+\]: failed login from <ADDR>",
        r"^app\S+ failed login from <ADDR>",
        r"\]: failed login from <ADDR>",
        r" failed login from <ADDR>",
        r"(?i)^APP\[1\]: FAILED login from <ADDR>",
    ],
)
def test_of_a_literal_that_begins_in_the_prefix_the_rest_is_looked_for(regex: str) -> None:
    each = Filter(Rule(failregex=(regex,), prefix="app[1]: "))
    text = "failed login from 203.0.113.7"
    assert each.match(text) is not None
    assert not missed([each], text)
    assert not missed([each], with_date(f" {text}", DATES[0], 0))
    assert not next(sieves([each])).always
    assert candidates([each], data("nothing to see here")) == []


def test_filters_that_require_the_same_share_the_search() -> None:
    many = [Filter(Rule(failregex=("failed from <HOST>",), prefix=f"{n}: ")) for n in range(50)]
    each = Sieve(many)
    assert len(each.plan.chains) == 1
    assert candidates(many, data("failed from x"))[0][2] == tuple(range(50))


def test_a_list_of_names_is_looked_for_as_a_whole() -> None:
    names = "|".join(f"robot{n:03}" for n in range(400))
    each = Filter(Rule(failregex=(f'^<HOST> .*"GET .*(?:{names})"$',)))
    assert texts_of([each], data('a "GET / robot399"', 'a "GET / robot400"', "a robot001")) == [
        ('a "GET / robot399"', (0,))
    ]


quantifiers = st.sampled_from(["?", "*", "+", "{2}", "{1,3}", "*?", "+?", "{10,}"])
words = st.sampled_from(["ab", "[ik]s", "é7", "b "])
ALPHABET = 'abIKSiks \u00e9\u0130\u0131\u017f\u212a\u00df.-[]":,_7'
atoms = st.one_of(
    st.text(ALPHABET, min_size=1, max_size=5).map(re.escape),
    st.sampled_from(
        [r"\s", r"\S", r"\w", r"\W", r"\d", ".", r"\b", "[ab]", "[^a]", "[a-c7]", "[iks]"]
    ),
)


plain = st.lists(atoms, min_size=1, max_size=3).map("".join)
branches = st.lists(plain, min_size=2, max_size=3).map("|".join)
disjoint = st.sampled_from([r"ab|7\u00e9", "s|_-", r"\.a|kk|\]"])
repeated = st.one_of(
    st.tuples(
        st.one_of(
            plain, disjoint, plain.map(lambda s: f"(?i:{s})"), disjoint.map("(?i:{})".format)
        ),
        quantifiers,
    ),
    st.tuples(branches, st.sampled_from(["?", "{2}", "{1,3}"])),
).map(lambda both: f"(?:{both[0]}){both[1]}")
"""
What repeats without end holds nothing that repeats, and no branches that can match
the same text: either takes `re` for ever.
"""


def wrap(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=1, max_size=3).map("".join)
    return st.one_of(
        several,
        st.lists(several, min_size=2, max_size=3).map(lambda b: f"(?:{'|'.join(b)})"),
        several.map(lambda s: f"({s})"),
        several.map(lambda s: f"(?i:{s})"),
        several.map(lambda s: f"(?:{s})?"),
        st.tuples(words, inner, words).map("".join),
    )


patterns = st.recursive(st.one_of(atoms, repeated), wrap, max_leaves=8).filter(
    lambda pattern: len(re.findall(r"[*+]|0,", pattern)) <= 2
)
"""At most two that repeat without end: each one more is one more power of the text's length."""

DATES = [
    "2005-01-23 21:59:59",
    "[31/Oct/2006:09:22:55 +0200]",
    "Jan 23 21:59:59",
    "20050123T215959Z",
]


def with_date(text: str, date: str, place: int) -> str:
    """Insert a date where it can be: no word character on either side."""
    places = [
        at
        for at in range(len(text) + 1)
        if not re.match(r"\w", text[at - 1 : at] or " ")
        and not re.match(r"\w", text[at : at + 1] or " ")
    ]
    at = places[place % len(places)] if places else 0
    return text[:at] + date + text[at:] if places else text


def missed(filters: Sequence[Filter], text: str) -> list[int]:
    """Return the filters that match `text` and are held back from it."""
    chunk = (NOISE + STAMP + text + "\n" + NOISE).encode("utf-8", "surrogatepass")
    shown = {
        i for start, _, which in candidates(filters, chunk) if start == len(NOISE) for i in which
    }
    raw = chunk[len(NOISE) + len(STAMP) : -len(NOISE) - 1].decode("utf-8", "replace")
    return [i for i, each in enumerate(filters) if each.match(raw) is not None and i not in shown]


PREFREGEXES = st.sampled_from(
    [
        "",
        r"^.*?<F-CONTENT>.+</F-CONTENT>$",
        r"<F-CONTENT>.*</F-CONTENT>",
        r"(?i)s?[^k]*<F-CONTENT>\S.*</F-CONTENT>",
        r"(?:<F-CONTENT>.{3,}</F-CONTENT>)?",
    ]
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), patterns, PREFREGEXES, st.sampled_from(["", "ab: ", "k[7]:", "S "]))
def test_no_match_behind_a_prefregex_or_a_prefix_is_held_back(
    draw: st.DataObject, pattern: str, prefregex: str, prefix: str
) -> None:
    middle = draw.draw(st.from_regex(pattern))
    assume("\n" not in middle)
    each = Filter(Rule(failregex=(f"{pattern}.*<ADDR>",), prefregex=prefregex, prefix=prefix))
    text = f"{middle} 203.0.113.7"
    assert not missed([each], text)
    begun = len(prefix) if text.startswith(prefix) else 0
    assert not missed([each], text[begun:] or "x")


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), patterns, st.sampled_from(DATES), st.integers(0, 50))
def test_no_match_is_ever_held_back(
    draw: st.DataObject, pattern: str, date: str, place: int
) -> None:
    middle = draw.draw(st.from_regex(pattern))
    assume("\n" not in middle)
    text = f"{middle} 203.0.113.7"
    each = Filter(Rule(failregex=(f"{pattern}.*<ADDR>",)))
    assert not missed([each], text)
    assert not missed([each], with_date(text, date, place))


@settings(max_examples=200, deadline=None)
@given(st.lists(patterns, min_size=1, max_size=4), st.text(ALPHABET, max_size=40))
def test_no_match_of_any_filter_is_held_back_from_arbitrary_text(
    regexes: list[str], text: str
) -> None:
    filters = [Filter(Rule(failregex=(f"{regex}.*<ADDR>",))) for regex in regexes]
    assert not missed(filters, f"{text} 203.0.113.7")


@settings(deadline=None)
@example("error: [] user")
@given(st.text(ALPHABET, min_size=1, max_size=20))
def test_a_literal_is_found_with_a_date_in_every_legal_place(literal: str) -> None:
    each = Filter(Rule(failregex=(f"{re.escape(literal)} <ADDR>",)))
    for place in range(len(literal) + 2):
        assert not missed([each], with_date(f"{literal} 203.0.113.7", DATES[0], place))


@pytest.mark.parametrize("flags", ["(?i)", "(?s)", "(?x)", "(?a)", "(?ai)"])
def test_flags_at_the_begin_are_respected(flags: str) -> None:
    each = Filter(Rule(failregex=(f"{flags}failed.login.*<ADDR>",)))
    assert not missed([each], "failed login 203.0.113.7")
    assert not missed([each], "FAILED LOG\u0130N 203.0.113.7")


STRUCTURED = (
    Rule(failregex=("login failed from <HOST>",), format=Format.JSON),
    Rule(failregex=("(?i)kiosk/login: <HOST>",), field="a.b"),
    Rule(where=((("event", ("fail/ed", "den*")),),), address=("client",)),
    Rule(where=((("ok", ("false",)), ("a.b", ("*",))),), address=("client",)),
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *("login failed from 203.0.113.7", "K\u0131o\u017fk/LOG\u0130N: 203.0.113.7"),
            *("\u212aiosk/login: 203.0.113.7", "fail/ed", "denied", "203.0.113.7"),
            *(False, None, 401),
        ]
    ),
    st.text(max_size=5),
)
OBJECTS = st.dictionaries(
    st.sampled_from(["msg", "event", "client", "ok", "a.b"]), VALUES, max_size=5
)


@settings(deadline=None)
@given(
    line=OBJECTS,
    nested=VALUES,
    ascii_only=st.booleans(),
    slashes=st.booleans(),
    envelope=st.booleans(),
)
@example(
    line={"a.b": "K\u0131o\u017fk/LOG\u0130N: 203.0.113.7"},
    nested="",
    ascii_only=True,
    slashes=False,
    envelope=False,
)
def test_a_structured_line_comes_through_however_it_is_encoded(
    line: dict[str, object], nested: object, ascii_only: bool, slashes: bool, envelope: bool
) -> None:
    text = json.dumps({"a": {"b": nested}} | line, ensure_ascii=ascii_only)
    if slashes:
        text = text.replace("/", r"\/").replace("d", r"\u0064")
    if envelope:
        text = json.dumps({"log": text, "stream": "stdout"}, ensure_ascii=ascii_only)
    filters = [Filter(rule) for rule in STRUCTURED]
    shown = {i for _, _, which in candidates(filters, data(text)) for i in which}
    assert {i for i, each in enumerate(filters) if each.match(text) is not None} <= shown
