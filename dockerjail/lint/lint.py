r"""
What is wrong with a rule that compiles: a rule in, findings with a line that shows each out. Pure.

A finding is proven, not suspected. The filter itself accuses the wrong address in the line
that is shown (`spoof.py`); `re` needs seconds for the line that is shown (`redos.py`); what
can never match cannot for a reason in its own parts. A regex that cannot be taken apart is
passed over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from dockerjail.errors import FilterError
from dockerjail.jail.address import address
from dockerjail.jail.filter import Filter
from dockerjail.jail.possessive import forgets
from dockerjail.jail.rule import Rule, UseDns
from dockerjail.jail.tags import TagError, expand
from dockerjail.lint import tree
from dockerjail.lint.example import Example, examples
from dockerjail.lint.redos import LONGEST, Explosion, explodes, explosion
from dockerjail.lint.spoof import GUILTY, caught, rooms, spoof, text_only
from dockerjail.lint.tree import Atomic, Chars, Either, Group, IfGroup, Place, Repeat

_TRIED: Final = 24
"""Regexes that are tried in place of a slow one."""

_SHOWN: Final = 100
"""Characters of the lines that keep `re` busy, as they are shown: real ones are longer."""


class Kind(StrEnum):
    """What a finding is about."""

    SPOOF = "spoof"
    """A text in a line puts the blame on somebody else."""
    SLOW = "slow"
    """A line keeps the daemon busy."""
    NEVER = "never"
    """It can never match, or never count."""
    CUT = "cut"
    """fail2ban reads only a part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One thing that is wrong with a regex.

    `where` is which (`failregex 2`), `line` an example that shows it, `safer` a regex to
    write instead; both may be empty.
    """

    kind: Kind
    where: str
    what: str
    line: str = ""
    safer: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@lru_cache(maxsize=256)
def lint(rule: Rule, *, fail2ban: bool = False) -> tuple[Finding, ...]:
    """
    Return what is wrong with `rule`; nothing for one that `Filter` refuses.

    `fail2ban` says that fail2ban reads the same file.
    """
    try:
        Filter(rule)
    except FilterError:
        return ()
    regexes = tuple(_regexes(rule))
    return (
        *(found for where, source in regexes for found in _never(rule, where, source)),
        *_outdone(rule),
        *_spoofed(rule),
        *(found for where, source in regexes for found in _slow(rule, where, source)),
        *(found for where, source in regexes for found in _cut(where, source) if fail2ban),
    )


def _regexes(rule: Rule) -> Iterator[tuple[str, str]]:
    if rule.prefregex:
        yield "prefregex", rule.prefregex
    for kind, sources in (("failregex", rule.failregex), ("ignoreregex", rule.ignoreregex)):
        for number, source in enumerate(sources, start=1):
            yield f"{kind} {number}", source


# Whom it accuses


def _spoofed(rule: Rule) -> Iterator[Finding]:
    for number in range(1, len(rule.failregex) + 1):
        found = spoof(rule, number)
        if found is not None:
            yield Finding(
                kind=Kind.SPOOF,
                where=f"failregex {number}",
                what=f"a text that a client chooses can put the blame on {found.innocent}",
                line=found.line,
                safer=found.safer,
            )


# How long it takes


def _slow(rule: Rule, where: str, source: str) -> Iterator[Finding]:
    try:
        found = explosion(expand(source).pattern)
    except tree.Unknown:
        return
    if found is not None:
        yield Finding(
            kind=Kind.SLOW,
            where=where,
            what=f"a line of {LONGEST} characters with {found.pump!r} again and again "
            f"keeps the daemon busy {_long(found.seconds)}",
            line=found.line(_SHOWN),
            safer=_quicker(rule, where, source, found),
        )


def _long(seconds: float) -> str:
    for unit, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * unit:
            many = seconds / unit
            return f"for about {many:.0f} {name}" if many < 1000 else "practically for ever"
    return f"for about {seconds:.0f} seconds"


def _quicker(rule: Rule, where: str, source: str, found: Explosion) -> str:
    """Return a regex that catches the same lines and does not explode."""
    good = _good(rule, where, source)
    if not good:
        return ""
    tried = 0
    for candidate in _firmer(source):
        try:
            regex = re.compile(expand(candidate).pattern)
            if forgets(regex.pattern) or not all(map(regex.search, good)):
                continue
            tried += 1
            if tried > _TRIED:
                return ""
            if not explodes(regex.pattern, found) and explosion(regex.pattern) is None:
                return candidate if _still_right(rule, where, candidate) else ""
        except (re.error, TagError, tree.Unknown):
            continue
    return ""


def _good(rule: Rule, where: str, source: str) -> list[str]:
    """Return lines that a regex hits now."""
    kind, _, number = where.partition(" ")
    if kind == "failregex" and not rule.prefregex and rule.maxlines == 1 and not rule.address:
        return [f"{each.text}\n" for each, _ in caught(text_only(rule), int(number))]
    pattern = expand(source).pattern
    return [
        text
        for each in examples(pattern, address=GUILTY[0])
        if re.search(pattern, text := f"{each.text}\n")
    ]


def _still_right(rule: Rule, where: str, candidate: str) -> bool:
    """Say whether a failregex in place of another accuses nobody wrong because of that."""
    kind, _, number = where.partition(" ")
    if kind != "failregex":
        return True
    regexes = list(rule.failregex)
    regexes[int(number) - 1] = candidate
    changed = replace(rule, failregex=tuple(regexes))
    return spoof(changed, int(number)) is None or spoof(rule, int(number)) is not None


def _firmer(source: str) -> Iterator[str]:
    """Yield regexes that give back less, the smallest change first."""
    if source.startswith((".*", ".+")):
        yield f"^{source}"
    ends = [end for end, lazy in _quantifiers(source) if not lazy]
    for end in ends:
        yield f"{source[:end]}+{source[end:]}"
    firm = [
        (span, f"(?>{room.atom}{room.many}?{literal})")
        for room, literal, span in rooms(source)
        if literal
    ]
    for count in range(1, len(firm) + 1):
        text = source
        for (start, end), atomic in reversed(firm[:count]):
            text = text[:start] + atomic + text[end:]
        yield text
    for first in ends:
        for second in ends:
            if first < second:
                yield f"{source[:first]}+{source[first:second]}+{source[second:]}"


_QUANTIFIER: Final = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|<[^<>\s]+>|\(\?"
    r"|(?P<many>(?:[*+]|\{\d*,\d*\}))(?P<lazy>[?+]?)",
    re.DOTALL,
)


def _quantifiers(source: str) -> Iterator[tuple[int, bool]]:
    """Yield where each repeat of any length ends, and whether it is lazy or possessive."""
    for token in _QUANTIFIER.finditer(source):
        if token["many"]:
            yield token.end("many"), bool(token["lazy"])


# What can never match


def _never(rule: Rule, where: str, source: str) -> Iterator[Finding]:
    pattern = expand(source).pattern
    try:
        parts = tree.parse(pattern)
    except tree.Unknown:
        return
    if rule.maxlines == 1:
        for what, safer in dict.fromkeys(_dead(parts, source)):
            yield Finding(kind=Kind.NEVER, where=where, what=what, safer=safer)
    if where.startswith("ignoreregex") and re.search(pattern, "") and re.search(pattern, "x\n"):
        yield Finding(
            kind=Kind.NEVER,
            where=where,
            what="it hits every line, even an empty one, so no failregex counts",
            line="",
        )
    if where.startswith("failregex") and not rule.prefregex and not rule.address:
        names = re.compile(pattern).groupindex
        if (
            rule.usedns is UseDns.NO
            and "dns" in names
            and not {"ip4", "ip6", "fid", "host"} & {*names}
        ):
            yield Finding(
                kind=Kind.NEVER,
                where=where,
                what="it finds only names, and usedns = no looks none up; "
                "write <HOST> where the address is",
                safer=source.replace("<F-DNS/>", "<HOST>").replace("<DNS>", "<HOST>"),
            )


def _dead(parts: tree.Sequence, source: str) -> Iterator[tuple[str, str]]:
    """Yield why a regex, or a branch of it, can match nothing."""
    for branch, why in _dead_ways(parts, (), before=()):
        what = (
            f"it can never match: {why}" if branch is None else f"its alternative {branch}: {why}"
        )
        safer = source.replace(r"\Z", "$") if r"\Z" in source and why is _AT_END else ""
        yield what, safer


_AT_BEGIN = "^ stands behind what must come before it, and is the line's begin"
_AT_END = r"\Z is behind the LF that ends every line; $ is before it"
_BEHIND = "$ is the line's end, and something must follow it"


def _dead_ways(
    nodes: tree.Sequence, behind: tree.Sequence, *, before: tree.Sequence
) -> Iterator[tuple[int | None, str]]:
    """Yield which branch cannot match (None: not even the whole), and why."""
    for index, node in enumerate(nodes):
        earlier = (*before, *nodes[:index])
        later = (*nodes[index + 1 :], *behind)
        match node:
            case Place(multiline=False):
                why = _misplaced(node, earlier, later)
                if why:
                    yield None, why
            case Group() | Atomic():
                yield from _dead_ways(node.body, later, before=earlier)
            case Repeat(least=least) if least > 0:
                yield from _dead_ways(node.body, (), before=earlier)
            case Either():
                found = [
                    next(_dead_ways(branch, later, before=earlier), None)
                    for branch in node.branches
                ]
                if all(found) and found[0] is not None:
                    yield found[0]
                else:
                    for number, dead in enumerate(found, start=1):
                        if dead is not None:
                            yield dead[0] or number, dead[1]
            case _:
                pass


def _misplaced(place: Place, before: tree.Sequence, behind: tree.Sequence) -> str:
    if place.name.startswith("AT_BEGINNING"):
        return _AT_BEGIN if tree.width(before) > 0 else ""
    if place.name == "AT_END":
        return _BEHIND if _must_show(behind) else ""
    if place.name == "AT_END_STRING":
        if tree.width(behind) > 0:
            return _BEHIND
        return "" if _may_end_in_newline(before) else _AT_END
    return ""


def _must_show(nodes: tree.Sequence) -> bool:
    """Say whether `nodes` must take a character that is no LF, or more than one."""
    if tree.width(nodes) > 1:
        return True
    return any(
        isinstance(node, Chars) and not node.accepts("\n") for node in nodes if tree.width((node,))
    )


def _may_end_in_newline(nodes: tree.Sequence) -> bool:
    for node in reversed(nodes):
        match node:
            case Chars():
                return node.accepts("\n")
            case Repeat() | Group() | Atomic():
                if _may_end_in_newline(node.body):
                    return True
            case Either():
                if any(map(_may_end_in_newline, node.branches)):
                    return True
            case IfGroup():
                return True
            case _:
                continue
        if tree.width((node,)) > 0:
            return False
    return False


def _outdone(rule: Rule) -> Iterator[Finding]:
    """Yield failregexes that others leave nothing to, or that the date keeps from matching."""
    seen: dict[str, int] = {}
    for number, source in enumerate(rule.failregex, start=1):
        pattern = expand(source).pattern
        first = seen.setdefault(pattern, number)
        if first != number:
            yield Finding(
                kind=Kind.NEVER,
                where=f"failregex {number}",
                what=f"it is the same as failregex {first}, which always comes first",
            )
        elif not rule.prefregex and not rule.address and rule.maxlines == 1:
            yield from _undated(rule, number, pattern)


def _undated(rule: Rule, number: int, pattern: str) -> Iterator[Finding]:
    """Yield a failregex that hits a line, but not once the date is cut out of it."""
    text = text_only(rule)
    alone = Filter(replace(text, failregex=(rule.failregex[number - 1],), ignoreregex=()))
    missed: Example | None = None
    try:
        for example in examples(pattern, address=GUILTY[0]):
            if not re.search(pattern, example.text + "\n"):
                continue
            hit = alone.match(example.text)
            if hit is not None and hit.address == address(GUILTY[0]):
                return
            missed = missed or (example if hit is None else None)
    except tree.Unknown:
        return
    if missed is not None:
        yield Finding(
            kind=Kind.NEVER,
            where=f"failregex {number}",
            what="what it looks for is cut out of the line as its date; leave it out of the regex",
            line=missed.text,
        )


# What fail2ban makes of it


def _cut(where: str, source: str) -> Iterator[Finding]:
    at = re.search(r"\s;", source)
    if at is not None:
        yield Finding(
            kind=Kind.CUT,
            where=where,
            what=f"fail2ban takes ` ;` for a comment and reads only {source[: at.start()]!r}",
            safer=re.sub(r"(\s);", r"\1[;]", source) if not _in_class(source, at.start()) else "",
        )


def _in_class(source: str, place: int) -> bool:
    for token in re.finditer(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", source):
        if token.start() <= place < token.end():
            return token[0].startswith("[")
    return False
