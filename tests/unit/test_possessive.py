"""Regexes that CPython's `re` gets wrong are refused, and others like them are not."""

import re

import pytest

from dockerjail.errors import FilterError
from dockerjail.jail.datepattern import DatePatternError, cutter
from dockerjail.jail.filter import Filter
from dockerjail.jail.possessive import forgets
from dockerjail.jail.rule import Rule
from dockerjail.lint.lint import lint

LOST = (
    *(
        r"((x)|y|z)*+",
        r"(?:(x)|y)++",
        r"(?:(?P<ip4>x)|y){2,3}+z",
        r"(?:a(?:b(x)?)*)?+",
        r"(?>(x)?+)",
    ),
    *(r"(?=(?:(x)|y)*+)", r"a|(?:(x)|y)*+", r"(a)?(?(1)(?:(x)|y)*+|b)", r"(?:(?:(x))*)*+"),
)
KEPT = (
    r"(x)(?:a|b)*+",
    r"(?>(?:(x)|y)*)",
    r"[^ ]*+(x)",
    r"\d++",
    r"(?:(?:ab)+|c)?+",
    r"((x)|y|z)*",
    "(",
)


@pytest.mark.parametrize("pattern", LOST)
def test_a_group_in_a_possessive_repeat_is_seen(pattern: str) -> None:
    re.compile(pattern)
    assert forgets(pattern)


@pytest.mark.parametrize("pattern", KEPT)
def test_what_re_gets_right_is_let_be(pattern: str) -> None:
    assert not forgets(pattern)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(failregex=("((x)|y|<IP4>)*+z",)),
        Rule(failregex=("^x <IP4>",), ignoreregex=("((x)|y|z)*+",)),
        Rule(failregex=("^x <IP4>",), prefregex="^(?:(x)|y)*+<F-CONTENT>.+</F-CONTENT>$"),
    ],
)
def test_a_regex_that_would_end_the_daemon_is_refused_with_what_to_write(rule: Rule) -> None:
    with pytest.raises(FilterError, match=r"regex(?: 1)? '.*': Python loses .*; write \(\?>"):
        Filter(rule)


def test_a_date_pattern_that_would_end_the_daemon_is_refused() -> None:
    with pytest.raises(DatePatternError, match="write"):
        cutter((r"(?:(\d)|(x)|y)*+%Y",))


def test_the_linter_tries_no_regex_that_re_gets_wrong() -> None:
    source = r"(?i)[^ ]*  (?:a<IP4>b|a(?:c3.0.113.7\0|d)){2,}!(?P<x>y)(?P=x)(?(x)1|2) "
    for finding in lint(Rule(failregex=(source,))):
        assert not finding.safer or not forgets(finding.safer)


def test_nothing_again_and_again_is_linted() -> None:
    assert isinstance(lint(Rule(failregex=("(?:)+ (?:b|b)*c <IP4>",))), tuple)
