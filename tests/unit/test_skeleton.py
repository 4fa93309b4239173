"""What of a regex can be looked for in bytes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.jail import skeleton
from dockerjail.jail.filter import Filter
from dockerjail.jail.rule import Rule
from dockerjail.jail.skeleton import absorbs, chain


def literals(regex: str) -> list[set[str]]:
    return [{text.decode() for text in group.literals} for group in chain(regex)]


@pytest.mark.parametrize(
    ("regex", "expected"),
    [
        ("^Failed password for .* from ", [{"Failed password for "}, {" from "}]),
        (
            '"(?:GET|POST) /.*(?:wp-login|xmlrpc)\\.php',
            [{'"GET ', '"POST '}, {"wp-login.php", "xmlrpc.php"}],
        ),
        ("for (?:invalid user )?.* from", [{"for "}, {" from"}]),
        ("(?:user bob|client .* has)x", [{"user bob", "client "}]),
        ("code 40[134] ", [{"code 401 ", "code 403 ", "code 404 "}]),
        ("abc(?:def)+ghi", [{"abcdef"}, {"ghi"}]),
        ("(?:ab){3}c", [{"abababc"}]),
        ("a{2,}bb", [{"aa"}, {"bb"}]),
        ("(?P<x>ab)cd(?P=x)ef", [{"abcd"}, {"ef"}]),
        ("(ab)?(?(1)cd|ef)gh", [{"cdgh", "efgh"}]),
        ("ab(?=cd)c(?!x)d$", [{"abcd"}]),
        ("caf\u00e9 \u20ac", [{"caf\u00e9 "}]),
        ("(?>abc)d++ef", [{"abcd"}, {"ef"}]),
    ],
)
def test_a_chain_is_what_every_match_contains(regex: str, expected: list[set[str]]) -> None:
    assert literals(regex) == expected


@pytest.mark.parametrize(
    ("regex", "expected"),
    [
        ('] "GET /x', [{'"GET '}, {"/x"}]),
        ("error: user", [{"error:"}, {" user"}]),
        ("by - of", [{"by "}, {" of"}]),
        ('name", client: ', [{'name"'}, {" client:"}]),
        ("(?:a: b|cc)dd", [{"a:", "cc"}, {"dd"}]),
        ('"GET /\\.(?:env|git)', [{'"GET '}, {".env", ".git"}]),
        ("(?:ab |cd)[(-]ef", [{"ab ", "cd"}, {"(ef", "-ef"}]),
    ],
)
def test_a_literal_is_split_where_a_date_may_have_been(
    regex: str, expected: list[set[str]]
) -> None:
    assert literals(regex) == expected


@pytest.mark.parametrize(
    "regex", [".*", r"\S+ \d+", "[a-z]+", "x", "(?:ab)?", "(?:ab|.*)", "a?b?c?"]
)
def test_a_regex_that_requires_nothing_has_no_chain(regex: str) -> None:
    assert chain(regex) == ()


def test_ignored_case_is_folded() -> None:
    (group,) = chain("(?i)FAILED Login")
    assert group == skeleton.Group((b"failed login",), folded=True)


def test_case_ignored_in_a_part_folds_all_that_touches_it() -> None:
    (group,) = chain("User (?i:Bob)\u00c9X")
    assert group == skeleton.Group(("user bob\u00c9x".encode(),), folded=True)


def test_the_end_of_a_line_and_broken_bytes_are_never_looked_for() -> None:
    assert literals("ab\ncd\ufffdef") == [{"ab"}, {"cd"}, {"ef"}]


def test_a_parser_that_is_not_understood_makes_a_regex_unfilterable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(skeleton, "import_module", refuse)
    assert chain("Failed password for") == ()


def test_a_tag_requires_nothing_by_itself() -> None:
    for tag in ("<HOST>", "<ADDR>", "<IP4>", "<IP6>", "<SUBNET>", "<F-ID/>"):
        assert chain(Filter(Rule(failregex=(f"client={tag} refused",))).patterns[0]) == chain(
            "client=.* refused"
        )


@pytest.mark.parametrize("inner", ["a", "(?:ab|cd)", "(?:(?:a{8}){8}|b)"])
def test_nested_repeats_do_not_multiply_without_bound(inner):
    pattern = inner
    for _ in range(12):
        pattern = f"(?:{pattern}){{8}}"
    assert chain(f"start {pattern} end") is not None


@pytest.mark.parametrize("pattern", [".*a", ".*?a", ".+a", "(?i).*x", "(?s).*a"])
def test_a_regex_that_begins_with_any_text_is_known(pattern: str) -> None:
    assert absorbs(pattern)


@pytest.mark.parametrize("pattern", ["^.*a", "(?<=x).*a", "[^x]*a", ".*a|b", ".{0,5}a", "a.*", ""])
def test_one_that_may_begin_elsewhere_is_not_taken_for_one(pattern: str) -> None:
    assert not absorbs(pattern)


@given(
    st.sampled_from(
        [".*a", ".*?b", ".+?ab", ".*(?P<x>a+)b", ".*$", ".+\\n", "(?i).*A.", ".*\\bab"]
    ),
    st.text(alphabet="ab A\r\u2028\x85", max_size=20),
)
def test_such_a_regex_finds_at_the_begin_what_it_finds_anywhere(pattern: str, line: str) -> None:
    regex = re.compile(pattern)
    anywhere, begin = regex.search(line + "\n"), regex.match(line + "\n")
    assert (anywhere is None) == (begin is None)
    if anywhere is not None and begin is not None:
        assert anywhere.regs == begin.regs
