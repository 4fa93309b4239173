"""
Can a text that a client chose put the blame on somebody else? A rule in, a line that does out. Pure.

Nothing is guessed: a line is made that the failregex matches, then text is put where it
lets any text stand, and the filter itself is asked whom it accuses. What a line begins
with is left alone, since it is the logger's own: date, level, host.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from dockerjail.errors import FilterError
from dockerjail.jail.address import address
from dockerjail.jail.filter import Filter
from dockerjail.jail.rule import Format, Rule
from dockerjail.jail.tags import expand
from dockerjail.lint import tree
from dockerjail.lint.example import Example, examples
from dockerjail.lint.redos import fits

GUILTY: Final = ("203.0.113.7", "2001:db8::7")
INNOCENT: Final = ("198.51.100.1", "2001:db8:bad::1")
"""The client's address and the one that he writes, of each family."""

_EXAMPLES: Final = 6
"""Lines that are made of a failregex, different in what stands where text is free."""

_PATIENCE: Final = 100_000
"""How much work (`redos.py`) it may be to see whether a text fits."""

_DELIMITERS: Final = "\"'`])}>,;|"
_TAG: Final = re.compile(r"<(?:HOST|ADDR|IP4|IP6|SUBNET|F-[A-Z0-9]+/)>|\(\?P<(?:ip4|ip6|host|fid)>")
_QUANTIFIED: Final = re.compile(
    r"(?P<atom>\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|<[^<>\s]+>|\(\?P?[<=!:>]|.)(?P<many>[*+]|\{\d*,\d*\})?(?P<lazy>[?+])?",
    re.DOTALL,
)
_PLAIN: Final = re.compile(r"\\[^\w]|[^\\\[\](){}|^$.?*+<]")
_ANYTHING: Final = re.compile(r"\.|\\S|\[\^[^\]\\]{1,3}\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoof:
    """
    A line of one client that accuses another: `innocent`, who only stands in a text.

    `safer` is a failregex that does not fall for it, empty if none was found.
    """

    line: str
    innocent: str
    safer: str = ""


def spoof(rule: Rule, number: int) -> Spoof | None:
    """Return how failregex `number` (from 1) of `rule` can be fooled; None if no way was found."""
    if rule.maxlines > 1 or rule.address:
        return None
    rule = text_only(rule)
    try:
        found = _attack(rule, number)
    except (FilterError, tree.Unknown):
        return None
    if found is None:
        return None
    return replace(found, safer=_safer(rule, number, found))


def text_only(rule: Rule) -> Rule:
    """Return `rule` for the text alone in which its failregexes look."""
    return replace(rule, format=Format.TEXT, where=(), address=(), field="", user="")


def caught(rule: Rule, number: int) -> Sequence[tuple[Example, str]]:
    """
    Return lines that failregex `number` hits, and whom it accuses in them.

    The rule's other failregexes, and its ignoreregexes, have no say here.
    """
    alone = Filter(replace(rule, failregex=(rule.failregex[number - 1],), ignoreregex=()))
    prefix = expand(rule.prefregex).pattern if rule.prefregex else ""
    found = []
    for guilty in GUILTY:
        for example in examples(alone.patterns[0], prefix=prefix, address=guilty):
            hit = alone.match(example.text)
            if hit is not None and hit.address == address(guilty):
                found.append((example, guilty))
            if len(found) == _EXAMPLES:
                break
        if found:
            break
    return found


def _attack(rule: Rule, number: int) -> Spoof | None:
    """Find a line that accuses an innocent although it is a guilty one's."""
    whole = Filter(rule)
    alone = Filter(replace(rule, failregex=(rule.failregex[number - 1],), ignoreregex=()))
    for example, guilty in caught(rule, number):
        innocent = INNOCENT[GUILTY.index(guilty)]
        wrong = address(innocent)
        if not _accuses(whole, example.text, guilty):
            continue  # another failregex sees to it
        for line in _hostile(example, innocent):
            hit = alone.match(line)
            if hit is not None and hit.address == wrong and _accuses(whole, line, innocent):
                return Spoof(line=line, innocent=innocent)
    return None


def _accuses(judge: Filter, line: str, who: str) -> bool:
    hit = judge.match(line)
    return hit is not None and hit.address == address(who)


def _hostile(example: Example, innocent: str) -> Iterator[str]:
    """
    Yield the line with its own words around another address wherever any text may stand.

    Only where the failregex itself takes such a text for a part of the line: digits, or
    what ends at a quote, is not the place for it.
    """
    if example.address is None:
        return
    text = example.text
    start, end = example.address
    edges = {edge for room in example.free for edge in room[:2]}
    begins = sorted({0, *(edge for edge in edges if edge <= start)}, reverse=True)
    ends = sorted({end, len(text), *(edge for edge in edges if edge >= end)})
    words = dict.fromkeys(text[a:start] + innocent + text[end:b] for a in begins for b in ends)
    for first, last, repeat in example.free:
        if first == 0:
            continue
        own = text[first:last]
        for word in words:
            if not _may_hold(repeat, word):
                continue
            for said in (own + word, own + word + own, word, own + word + " x", word + " " + own):
                if fits((repeat,), said, budget=_PATIENCE):
                    yield text[:first] + said + text[last:]


def _may_hold(repeat: tree.Repeat, text: str) -> bool:
    """Say, quickly, whether each character of `text` is one that `repeat` knows at all."""
    return all(_knows(repeat, char) for char in set(text))


@lru_cache(maxsize=2048)
def _knows(repeat: tree.Repeat, char: str) -> bool:
    return any(
        isinstance(node, tree.Again) or (isinstance(node, tree.Chars) and node.accepts(char))
        for node in tree.inside(repeat.body)
    )


def _safer(rule: Rule, number: int, found: Spoof) -> str:
    """Return a failregex that catches what the old one does and is not fooled."""
    source = rule.failregex[number - 1]
    good = caught(rule, number)
    for examples_ in (good, good[:1]):
        for candidate in _candidates(source):
            changed = _with(rule, number, candidate)
            try:
                judge = Filter(changed)
                if (
                    all(_accuses(judge, each.text, guilty) for each, guilty in examples_)
                    and not _accuses(judge, found.line, found.innocent)
                    and _attack(changed, number) is None
                ):
                    return candidate
            except (FilterError, tree.Unknown):
                continue
    return ""


def _with(rule: Rule, number: int, source: str) -> Rule:
    regexes = list(rule.failregex)
    regexes[number - 1] = source
    return replace(rule, failregex=tuple(regexes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A catch-all in a regex: what, how often, and where; `behind` is what follows it."""

    atom: str
    many: str
    lazy: str
    behind: str
    first: bool
    """Nothing but `^` stands before it."""
    late: bool
    """It stands behind the address."""


def _candidates(source: str) -> Iterator[str]:
    """Yield failregexes that mean the same and leave less room, the smallest change first."""
    changed = dict.fromkeys(
        _change(source, change)
        for change in (_greedy, _as_it_is, _until, _word, lambda room: _early(room, _until), _early)
    )
    for each in changed:
        if each != source:
            yield each
        ended = each if each.endswith("$") else re.sub(r"\.\*\??\Z", "", each) + r"\s*$"
        if ended != each:
            yield ended


def _as_it_is(room: Room) -> str:
    return room.atom + room.many + room.lazy


def _greedy(room: Room) -> str:
    """Let the last address count."""
    return room.atom + room.many


def _until(room: Room) -> str:
    """Let a text end where the character behind it stands."""
    char = room.behind.removeprefix("\\")
    if room.atom not in (".", r"\S") or len(char) != 1 or char not in _DELIMITERS:
        return _as_it_is(room)
    blank = r"\s" if room.atom == r"\S" else ""
    return f"[^{blank}{re.escape(char)}]{room.many}"


def _word(room: Room) -> str:
    """Let no blank stand in a text before the address."""
    return _as_it_is(room) if room.first or room.late else rf"\S{room.many}"


def _early(room: Room, otherwise: Callable[[Room], str] = _word) -> str:
    """Let what the line is known by stand as early as it can."""
    return f"{room.atom}{room.many}?" if room.first else otherwise(room)


def _change(source: str, change: Callable[[Room], str]) -> str:
    """Rewrite each catch-all of `source`."""
    for room, _, (start, _) in reversed(list(rooms(source))):
        end = start + len(room.atom + room.many + room.lazy)
        source = source[:start] + change(room) + source[end:]
    return source


def rooms(source: str) -> Iterator[tuple[Room, str, tuple[int, int]]]:
    """
    Yield the catch-alls of a regex, the plain text behind each, and where both stand.

    The text ends before whatever is not a plain character.
    """
    tag = _TAG.search(source)
    place = tag.start() if tag else len(source)
    tokens = list(_QUANTIFIED.finditer(source))
    for number, token in enumerate(tokens):
        if token["many"] not in ("*", "+") or not _ANYTHING.fullmatch(token["atom"]):
            continue
        plain = []
        for each in tokens[number + 1 :]:
            if each["many"] or each["lazy"] or not _PLAIN.fullmatch(each["atom"]):
                break
            plain.append(each[0])
        following = tokens[number + 1]["atom"] if number + 1 < len(tokens) else ""
        room = Room(
            atom=token["atom"],
            many=token["many"],
            lazy=token["lazy"] or "",
            behind=following,
            first=not source[: token.start()].strip("^"),
            late=token.start() > place,
        )
        literal = "".join(plain)
        yield room, literal, (token.start(), token.end() + len(literal))
