"""
The linter on any rule that compiles: what it finds has words, and it comes to an end.

An input takes a hundred times as long here as elsewhere: the linter tries many lines.
"""

from typing import Final

from dockerjail.errors import FilterError
from dockerjail.jail.filter import Filter
from dockerjail.jail.rule import Rule
from dockerjail.lint.lint import lint
from tests.fuzz.material import Material, seed
from tests.fuzz.patience import within

LONGEST: Final = 120

SEEDS: Final = (
    seed("^login failed for <F-USER>.*</F-USER> from <IP4>$", choices=(0,)),
    seed("(?:a+)+ (?:b|b)*c <HOST>", "^x: <F-CONTENT>.+</F-CONTENT>$", choices=(1,)),
    seed("\\d{4}-\\d\\d a(?=b)c <ADDR>|x$y", choices=(0,)),
    seed("(?i)[^ ]* (?:ab|a(?:c|d)){2,} (?P<x>y)(?P=x)(?(x)1|2) <IP4>", choices=(1,)),
)


def check(data: bytes) -> None:
    """Lint a rule."""
    material = Material(data)
    fail2ban = material.flag()
    failregex, prefregex = (text.replace("\n", " ") for text in material.texts(2))
    rule = Rule(failregex=(failregex,), prefregex=prefregex)
    with within(0.2):
        try:
            Filter(rule)
        except FilterError:
            return
        assert all(str(finding) for finding in lint(rule, fail2ban=fail2ban))
