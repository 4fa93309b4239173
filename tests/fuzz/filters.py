"""
Any expression, any line: compiling, matching, the sieve.

A filter works or is a `FilterError`. What it matches, the sieve lets through. Expressions that
backtrack are given up on.
"""

from typing import Final

from dockerjail.errors import FilterError
from dockerjail.jail import tags
from dockerjail.jail.filter import Filter, read
from dockerjail.jail.memory import Memory
from dockerjail.jail.rule import Format, Rule
from dockerjail.jail.sieve import Sieve
from tests.fuzz.material import Material, seed
from tests.fuzz.patience import within

LONGEST: Final = 160

PATIENCE: Final = 0.005
"""Seconds of processor time for one step of an input."""

_STAMP: Final = b"2026-11-22T10:52:40.409746684Z "

SEEDS: Final = (
    seed(
        "^login failed for <F-USER>\\S+</F-USER> from <HOST>$",
        "login failed for bob from 203.0.113.7",
        choices=(0, 0),
    ),
    seed(
        "from <IP4>(?: port \\d+)?",
        "x from 203.0.113.7 port 22",
        "user (?:a|b)",
        choices=(0, 0),
    ),
    seed(
        "(?i)denied.*<SUBNET>",
        "Denied 203.0.113.0/24",
        "",
        "^x: <F-CONTENT>.+</F-CONTENT>$",
        choices=(0, 0),
    ),
    seed("^<F-MLFID>\\d+</F-MLFID> <IP4> fail", "7 203.0.113.7 fail", choices=(0, 0)),
    seed("a<SKIPLINES>b <IP4>", "b 203.0.113.7", choices=(3, 0)),
    seed("((?i)x)[[:alpha:]]{2,3}(?=y)(?<!z)\\1 <DNS>", "xaby x evil.test", choices=(0, 0)),
    seed("(?:a|ab)(?>c+)d*+(?(1)e|f) <IP4>", "abcdf 203.0.113.7", choices=(0, 0)),
    seed("<F-ID>\\S+</F-ID> <hst>", "x", choices=(0, 0)),
    seed("^\\s*\\S+ (?P<x>\u00e9|\u017f|K)/<CIDR>", "a \u017f/64", choices=(0, 0)),
    seed("", '{"a": "203.0.113.7"}', choices=(0, 4)),
)


def prepare() -> None:
    """Let tags stand for less: to read what they stand for takes `re` longer than all the rest."""
    short = dict.fromkeys(tags._TAGS, r"(?P<ip4>[0-9]{1,3}(?:\.[0-9]{1,3}){3})")
    short |= {tag: tags._TAGS[tag] for tag in ("CIDR", "F-CIDR/", "F-ID/", "F-PORT/")}
    tags._TAGS = short  # type: ignore[misc]


def check(data: bytes) -> None:
    """Make a filter, and show it a line."""
    material = Material(data)
    maxlines = 1 + material.number(3)
    more = material.number(7)
    failregex, line, ignoreregex, prefregex = (
        text.replace("\n", " ") for text in material.texts(4)
    )
    rule = Rule(
        failregex=tuple(filter(None, (failregex,))),
        ignoreregex=tuple(filter(None, (ignoreregex,))),
        prefregex=prefregex,
        maxlines=maxlines,
        prefix="sshd[1]: " if more & 1 else "",
        wrapped=bool(more & 2),
        format=Format.JSON if more & 4 else Format.AUTO,
    )
    with within(PATIENCE):
        try:
            made = Filter(rule)
        except FilterError as error:
            assert str(error)
            return
        _judged(made, line)


def _judged(made: Filter, line: str) -> None:
    memory = Memory(made.rule.maxlines) if made.remembers else None
    hit = made.judge(read(line, 1795000000.0), memory)
    if hit is None:
        return
    assert hit.address is not None or hit.why or hit.name
    chunk = _STAMP + line.encode() + b"\n"
    assert any(which for _, _, which in Sieve([made]).candidates(chunk)), "held back"
