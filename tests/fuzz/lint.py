"""
The linter on any rule that compiles: what it finds has words and is so, and it comes to an end.

Whom it says a line accuses, the filter accuses. What it says can never match does not match. What
it counts the work of is what `re` does: it ends in a match where `re` finds one.

An input takes a hundred times as long here as elsewhere: the linter tries many lines.
"""

import contextlib
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from dockerjail.errors import FilterError
from dockerjail.jail.filter import Filter
from dockerjail.jail.rule import Rule
from dockerjail.jail.tags import expand
from dockerjail.lint import lint as linter
from dockerjail.lint import redos, spoof, tree
from dockerjail.lint.lint import Finding, Kind, lint
from tests.fuzz import filters
from tests.fuzz.material import EXPRESSIONS, Material, seed
from tests.fuzz.patience import within

LONGEST: Final = 120

WORDS: Final = (*EXPRESSIONS, "203.0.113.7")

SEEDS: Final = (
    seed("^login failed for <F-USER>.*</F-USER> from <IP4>$", choices=(0,)),
    seed(
        "(?:a+)+ (?:b|b)*c <HOST>",
        "aab 203.0.113.7",
        "^x: <F-CONTENT>.+</F-CONTENT>$",
        choices=(1,),
    ),
    seed("\\d{4}-\\d\\d a(?=b)c <ADDR>|x$y", "2026-11 ab", choices=(0,)),
    seed("(?i)[^ ]* (?:ab|a(?:c|d)){2,} (?P<x>y)(?P=x)(?(x)1|2) <IP4>", "x abad yy1", choices=(1,)),
    seed("a*ab+bc|[^ ]*x?x <IP4>", "aaabbbc 203.0.113.7", choices=(0,)),
    seed("a*aab <IP4>", "aaab 203.0.113.7", choices=(0,)),
    seed("(?:x*+){2,3}y <IP4>", "y 203.0.113.7", choices=(0,)),
    seed("(?:a|b?)*?c(?:x?){2,3}y.{2,}?z <IP4>", "abcy  z 203.0.113.7", choices=(0,)),
    # found: what is tried in place of it made `re` raise a SystemError
    seed(
        "(?i)[^ ]*  (?:a<IP4>b|a(?:c3.0.113.7\x00|d)){2,}!(?P<x>y)(?P=x)(?(x)1|2) <",
        "x abad yy1",
        choices=(1,),
    ),
    # found by fuzzing: nothing, again and again
    seed("(?:)+ (?:b|b)*c <HOST>", choices=(0,)),
    seed("x ;y (?:ab?)*+ <IP4>\\Z", "x ;y ab 203.0.113.7", choices=(1,)),
)


def prepare() -> None:
    """Let it give up sooner: what it does then is what else would come after a second."""
    filters.prepare()
    redos.ENOUGH, redos._ALL = 3_000, 20_000  # type: ignore[misc]
    spoof._PATIENCE, linter._TRIED = 2_000, 3  # type: ignore[misc]


def check(data: bytes) -> None:
    """Lint a rule."""
    material = Material(data)
    fail2ban = material.flag()
    failregex, line, prefregex = (text.replace("\n", " ") for text in material.texts(3))
    rule = Rule(failregex=(failregex,), prefregex=prefregex)
    with within(0.2):
        try:
            made = Filter(rule)
        except FilterError:
            return
        for pattern in (*made.patterns, *(expand(prefregex).pattern for _ in prefregex[:1])):
            for text in (f"{line}\n", *islice(_examples(pattern), 1)):
                _searched(pattern, text)
        for finding in lint(rule, fail2ban=fail2ban):
            assert str(finding)
            _so(rule, made, finding, f"{line}\n")


def _searched(pattern: str, text: str) -> None:
    try:
        nodes = tree.parse(pattern)
        did = redos.work(pattern, text, budget=5_000)
    except tree.Unknown:
        return
    # in `re` groups keep what they held on ways that were given up, and case has more sides
    if did.over or redos._remembers(nodes) or not (pattern + text).isascii():
        return
    assert did.found is (re.compile(pattern).search(text) is not None)


def _so(rule: Rule, made: Filter, finding: Finding, text: str) -> None:
    if finding.kind is Kind.SPOOF:
        innocent = next(who for who in spoof.INNOCENT if finding.what.endswith(f" {who}"))
        assert str(_accused(made, finding.line)) == innocent
        if finding.safer:
            safer = Filter(Rule(failregex=(finding.safer,), prefregex=rule.prefregex))
            assert str(_accused(safer, finding.line)) != innocent
    elif finding.kind is Kind.NEVER and "it can never match" in finding.what:
        source = rule.prefregex if finding.where == "prefregex" else rule.failregex[0]
        found = re.compile(expand(source).pattern)
        assert not any(found.search(each) for each in (text, *_examples(found.pattern)))
    elif finding.kind is Kind.SLOW and finding.safer:
        re.compile(expand(finding.safer).pattern)


def _accused(judge: Filter, line: str) -> object:
    hit = judge.match(line)
    return hit and hit.address


def _examples(pattern: str) -> Iterator[str]:
    with contextlib.suppress(tree.Unknown):
        for each in linter.examples(pattern, address="203.0.113.7"):
            yield f"{each.text}\n"
