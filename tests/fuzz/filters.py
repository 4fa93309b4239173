"""
Any expression, any line: compiling, matching, the sieve.

A filter works or is a `FilterError`. It matches what a plain search for its expressions does.
What it matches, the sieve lets through, among other lines and other filters. Expressions that
backtrack are given up on.

Where no line is given, those are tried that the linter makes of the expressions: few of what
a fuzzer makes up would match.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from dockerjail.errors import FilterError
from dockerjail.jail import tags
from dockerjail.jail.datecut import cut
from dockerjail.jail.filter import Filter, Hit, read
from dockerjail.jail.memory import Memory
from dockerjail.jail.rule import Format, Rule
from dockerjail.jail.sieve import Sieve
from dockerjail.lint import tree
from dockerjail.lint.example import examples
from tests.fuzz.material import EXPRESSIONS, Material, seed
from tests.fuzz.patience import within

LONGEST: Final = 200

PATIENCE: Final = 0.005
"""Seconds of processor time for one step of an input."""

_STAMP: Final = b"2026-11-22T10:52:40.409746684Z "
_BEFORE: Final = _STAMP + b"login failed x from 203.0.113.7 or \xff\n"
_BESIDE: Final = Filter(Rule(failregex=("login failed .* from <IP4>",)))
_DATE: Final = "2026-11-22T10:52:40Z"
_FOLDED: Final = str.maketrans("ksi\u00e9", "\u212a\u017f\u0131\u00c9")
_WORD: Final = re.compile(r"\w").match
_JOINED: Final = frozenset({"mlfid", "nofail", "mlfgained"})
_WHOSE: Final = ("fid", "ip4", "ip6", "host", "dns")

WORDS: Final = (*EXPRESSIONS, "203.0.113.7", "2026-11-22 10:52:40", "[31/Oct/2026:09:22:55 +0200]")

SEEDS: Final = (
    seed(
        "^login failed for <F-USER>\\S+</F-USER> from <HOST>$",
        "login failed for bob from 203.0.113.7",
        choices=(0, 0, 0),
    ),
    seed(
        "from <IP4>(?: port \\d+)?",
        "x from 203.0.113.7 port 22",
        "user (?:a|b)",
        choices=(0, 0, 0),
    ),
    seed(
        "(?i)denied.*<SUBNET>",
        "Denied 203.0.113.0/24",
        "",
        "^x: <F-CONTENT>.+</F-CONTENT>$",
        choices=(0, 0, 0),
    ),
    seed("^<F-MLFID>\\d+</F-MLFID> <IP4> fail", "7 203.0.113.7 fail", choices=(0, 0, 0)),
    seed("a<SKIPLINES>b <IP4>", "b 203.0.113.7", choices=(3, 0, 0)),
    seed("((?i)x)[[:alpha:]]{2,3}(?=y)(?<!z)\\1 <DNS>", "xaby x evil.test", choices=(0, 0, 0)),
    seed("(?:a|ab)(?>c+)d*+(?(1)e|f) <IP4>", "abcdf 203.0.113.7", choices=(0, 0, 0)),
    seed("<F-ID>\\S+</F-ID> <hst>", "x", choices=(0, 0, 0)),
    seed("^\\s*\\S+ (?P<x>\u00e9|\u017f|K)/<CIDR>", "a \u017f/64", choices=(0, 0, 0)),
    seed("", '{"a": "203.0.113.7"}', choices=(0, 4, 0)),
    seed("^a b\n^.*b=<F-USER>\\S+</F-USER> <IP4>$\n(?:x|yy?)+ <F-ID/>", "", "c", choices=(0, 8, 0)),
    seed("^ ?login a <IP4>", "2026-11-22 10:52:40 login a 203.0.113.7", "^2026", choices=(0, 0, 0)),
    seed(r"^\d{4}-\d\d-\d\d \S+ x <IP4>$", "2026-11-22 10:52:40 x 203.0.113.7", choices=(0, 0, 0)),
    seed("(?:ab+|cd+) .*xxy (?:cd|ef)* <IP4>", "ab xxy cd 203.0.113.7", choices=(0, 0, 0)),
    seed("(?i)x+: kiss  ab <IP4>", choices=(0, 0, 23)),
    # found by fuzzing the linter: Python raises SystemError (python/cpython#101955)
    seed("((x)|y|<IP4>)*+z", "xy203.0.113.7z", choices=(0, 0, 0)),
    seed("<IP4>(?:(?P<x>b)|c|(d))++", "203.0.113.7 bcd", "((x)|y|z)*+", choices=(0, 0, 0)),
    seed("(?i)caf\u00e9: ab <IP4>", choices=(0, 0, 22)),
    seed("x: y  ab <IP4>", choices=(0, 0, 8)),
    seed(".{0,2}b <IP4>", choices=(0, 0, 1)),
    seed("^x <IP4>", "", "", "^\\S+: <F-CONTENT>.+</F-CONTENT>$", choices=(0, 0, 0)),
    seed(
        "^ ?login (?:a|b) <IP4>",
        "2026-11-22 10:52:40 login a 203.0.113.7\nlogin b 203.0.113.8",
        choices=(0, 0, 0),
    ),
)


def prepare() -> None:
    """Let tags stand for less: to read what they stand for takes `re` longer than all the rest."""
    short = dict.fromkeys(tags._TAGS, r"(?P<ip4>[0-9]{1,3}(?:\.[0-9]{1,3}){3})")
    short |= {tag: tags._TAGS[tag] for tag in ("CIDR", "F-CIDR/", "F-ID/", "F-PORT/")}
    tags._TAGS = short  # type: ignore[misc]


def check(data: bytes) -> None:
    """Make a filter, and show it lines."""
    material = Material(data)
    maxlines = 1 + material.number(3)
    more = material.number(15)
    changes = material.number(255)
    failregex, line, ignoreregex, prefregex = material.texts(4)
    rule = Rule(
        failregex=_lines(failregex),
        ignoreregex=_lines(ignoreregex),
        prefregex=prefregex.replace("\n", " "),
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
        memory = Memory(made.rule.maxlines) if made.remembers else None
        for text in _lines(line) or _made_up(made):
            _judged(made, memory, _changed(text, changes), sampled=bool(more & 8))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split("\n", 2)[:2]))


def _made_up(made: Filter) -> Iterator[str]:
    """Yield lines that a failregex may match, as far as a container can write them."""
    prefix = tags.expand(made.rule.prefregex).pattern if made.rule.prefregex else ""
    for pattern in made.patterns:
        try:
            for each in islice(examples(pattern, prefix=prefix, address="203.0.113.7"), 1):
                yield each.text.encode("utf-8", "replace").decode().replace("\n", " ")
        except tree.Unknown:
            continue


def _changed(line: str, how: int) -> str:
    """Write a line in another way that a regex may match, too: the sieve must not mind."""
    if how & 1:
        line = f"zz {line}"
    if how & 2:
        line = line.translate(_FOLDED)
    at = how >> 2
    if at and at < len(line) and not (_WORD(line[at - 1]) or _WORD(line[at])):
        line = f"{line[:at]}{_DATE}{line[at:]}"
    return line


def _judged(made: Filter, memory: Memory | None, line: str, *, sampled: bool) -> None:
    hit = made.judge(read(line, 1795000000.0), memory)
    _plainly(made, line, hit)
    if hit is None:
        return
    assert hit.address is not None or hit.why or hit.name
    chunk = _BEFORE + _STAMP + line.encode() + b"\n" + _BEFORE
    sieve = Sieve([_BESIDE, made], chunk if sampled else b"")
    start, end = len(_BEFORE), len(chunk) - len(_BEFORE) - 1
    assert any(
        (first, last) == (start, end) and 1 in which
        for first, last, which in sieve.candidates(chunk)
    ), "held back"


def _plainly(made: Filter, line: str, hit: Hit | None) -> None:
    """Compare with the simplest search, where the rule is one that it is enough for."""
    rule = made.rule
    if rule.structured or rule.prefregex or rule.prefix or rule.wrapped or rule.maxlines > 1:
        return
    whole = f"{line}\n"
    texts = (cut(whole), whole)
    found = next(
        (
            match
            for text in texts
            for pattern in made.patterns
            if (match := re.compile(pattern).search(text)) and match.start() < len(text)
        ),
        None,
    )
    if found is None:
        assert hit is None
        return
    if not _JOINED.isdisjoint(found.re.groupindex) or "<F-ALT" in str(rule.failregex):
        return
    ignored = (re.compile(tags.expand(source).pattern) for source in rule.ignoreregex)
    if any(regex.search(each) for regex in ignored for each in texts):
        assert hit is None
        return
    assert hit is not None
    said = found.groupdict()
    assert hit.written == next((said[name] for name in _WHOSE if said.get(name)), "")
