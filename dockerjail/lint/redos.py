"""
What a search costs: a regex and a line in, the work that `re` has with them out. Pure.

`re` tries one way after another, and an attacker's line can make it try for hours. How
long is found out without a clock: the same tries are made here, in the same order, and
each is counted at what it takes in CPython's engine, about a nanosecond a unit. Short
lines are enough. How the work grows with them tells what a long line costs.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import inf, log2
from typing import Final

from dockerjail.lint import tree
from dockerjail.lint.example import LONG, examples, once
from dockerjail.lint.tree import (
    Again,
    Atomic,
    Chars,
    Either,
    Group,
    IfGroup,
    Look,
    Node,
    Place,
    Repeat,
    Style,
)

RUN: Final = 1
TRY: Final = 8
"""Nanoseconds for a character in a run of one class, and for any other try."""

ENOUGH: Final = 1_000_000
"""Nanoseconds of `re`'s work after which a search is not counted to its end."""

LONGEST: Final = 16384
"""Characters of a line that a failregex sees (`jail.LONGEST_LINE`)."""

TOO_LONG: Final = 3e9
"""Nanoseconds that one line may take; few logs have such a line by themselves."""

_FIRST: Final = 8
_DOUBLED: Final = 5
"""About how many characters are repeated in the first line that is counted; and how many lines."""

_FOR_EVER: Final = 1e6
"""Seconds beyond which it does not matter how many."""

_ALL: Final = 8_000_000
"""Nanoseconds of work after which one regex is given up as harmless."""

_One = Callable[[int], int]
"""From a place in the line to where a part ends; -1 when it is not there."""

_Many = Callable[[int], Iterator[int]]
"""From a place in the line to all the places where a part can end, in `re`'s order."""


@dataclass(frozen=True, slots=True)
class _End:
    """A part that ends in one place at most."""

    of: _One


@dataclass(frozen=True, slots=True)
class _Ends:
    """A part that can end in several places."""

    of: _Many


_Part = _End | _Ends


class _Enough(Exception):
    """The budget is used up."""


@dataclass(frozen=True, slots=True)
class Work:
    """
    What a search took, in nanoseconds of `re`'s time, roughly.

    `over` says that it was not counted to its end; `found` whether it matched.
    """

    cost: int
    over: bool = False
    found: bool = False


def work(pattern: str, text: str, *, budget: int = ENOUGH) -> Work:
    """Count what `re.search(pattern, text)` takes; raises `tree.Unknown`."""
    return _of_pattern(pattern).run(text, budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explosion:
    """
    A line that keeps `re` busy: `before`, then `pump` again and again, then `behind`.

    `seconds` is what one as long as a line can be takes, roughly; may be infinite.
    """

    before: str
    pump: str
    behind: str
    seconds: float

    def line(self, size: int) -> str:
        """Return such a line of about `size` characters."""
        return self.before + self.pump * max(2, size // len(self.pump)) + self.behind


@lru_cache(maxsize=1024)
def explosion(pattern: str) -> Explosion | None:
    """Find a line for which a search of `pattern` takes too long; raises `tree.Unknown`."""
    purse = _Purse(_ALL)
    worst: Explosion | None = None
    for before, pump, behind in _pumped(pattern):
        seconds = _seconds(pattern, before, pump, behind, purse)
        if seconds is None:
            break
        if seconds * 1e9 > TOO_LONG and (worst is None or seconds > worst.seconds):
            worst = Explosion(before=before, pump=pump, behind=behind, seconds=seconds)
            if seconds > _FOR_EVER:
                break
    return worst


def explodes(pattern: str, known: Explosion) -> bool:
    """Say whether `pattern` takes too long for lines of a kind that is known to be bad."""
    purse = _Purse(_ALL)
    seconds = _seconds(pattern, known.before, known.pump, known.behind, purse)
    return seconds is None or seconds * 1e9 > TOO_LONG


class _Purse:
    """What may still be spent on one regex."""

    def __init__(self, left: int) -> None:
        self.left = left


def _seconds(pattern: str, before: str, pump: str, behind: str, purse: _Purse) -> float | None:
    """Foretell what the longest line of a kind takes; None when nothing is left to find out."""
    costs: list[int] = []
    first = max(1, round(_FIRST / len(pump)))
    longer = LONGEST / len(pump) / first
    for _ in range(_DOUBLED):
        if purse.left <= 0:
            return None
        did = work(pattern, before + pump * first + behind + "\n", budget=ENOUGH)
        purse.left -= did.cost
        if did.over:
            break
        costs.append(did.cost)
        if len(costs) > 2 and _grown(costs[-1], costs[-1] / costs[-2], longer, 0.5) < TOO_LONG / 9:
            return 0.0
        first, longer = first * 2, longer / 2
    longer *= 2
    if len(costs) < 2:
        return inf
    if len(costs) == 2:
        return _grown(costs[1], costs[1] / costs[0], longer) / 1e9
    slope = (costs[-1] - costs[-2]) / max(costs[-2] - costs[-3], 1)
    return _grown(costs[-1], slope, longer) / 1e9


def _grown(cost: int, doubled: float, longer: float, more: float = 0.0) -> float:
    """Foretell a cost from what twice the length does to it; `more` is for doubt."""
    power = min(log2(max(doubled, 1.0)) + more, 60.0)
    return float(cost * longer**power)


def _pumped(pattern: str) -> Iterator[tuple[str, str, str]]:
    """Yield what could be repeated, with what stands before it and behind it."""
    nodes = tree.parse(pattern)
    rooms = [node for node in tree.inside(nodes) if isinstance(node, Repeat) and node.most > LONG]
    if not rooms:
        return
    base = next(examples(pattern, address="203.0.113.7"))
    text = base.text
    shared = Counter(
        char
        for room in rooms
        for char in "x1 -.a:\"'/,_"
        if len(room.body) == 1 and isinstance(room.body[0], Chars) and room.body[0].accepts(char)
    )
    chars = [char for char, _ in shared.most_common(3)]
    bodies = [once(body) for room in rooms for body in _ways(room.body)]
    ends = [room.end for room in base.free]
    # words between two places where text is free, which lead from one repeat to the next
    steps = [text[a:b] for a, b in pairwise(sorted({0, *ends, len(text)}))]
    ways = [text[a:b] for a in sorted({0, *ends}) for b in ends if a < b]
    ways = sorted(ways, key=len, reverse=True)[:6]
    places = {room.end: text[room.end : -1] for room in base.free} | {0: text[:-1]}
    for pump in dict.fromkeys((*bodies, *chars, *steps[:8], *ways)):
        if pump:
            for place, rest in places.items():
                for behind in dict.fromkeys(("\0", f"{rest}\0")):
                    yield text[:place], pump, behind


def _ways(body: tree.Sequence) -> Iterator[tree.Sequence]:
    """Yield what a repeat can repeat: its body, and if that branches, each branch and all in turn."""
    yield body
    if len(body) == 1 and isinstance(body[0], Group):
        body = body[0].body
    if len(body) == 1 and isinstance(body[0], Either):
        yield from body[0].branches
        yield tuple(node for branch in body[0].branches for node in branch)


def fits(nodes: tree.Sequence, text: str, *, budget: int = ENOUGH) -> bool:
    """Say whether `nodes` can be all of `text`; too much work is taken for a no."""
    try:
        return any(end == len(text) for end in _of_parts(nodes).ends(text, budget))
    except _Enough:
        return False


@lru_cache(maxsize=16)
def _of_pattern(pattern: str) -> "_Search":
    return _Search(tree.parse(pattern))


@lru_cache(maxsize=64)
def _of_parts(nodes: tree.Sequence) -> "_Search":
    return _Search(nodes)


_SUCH: Final = "1"
_NOT: Final = "0"


class _Known(dict[int, str]):
    """Which characters a class accepts, for `str.translate`."""

    def __init__(self, one: Chars) -> None:
        self._accepts = one.accepts

    def __missing__(self, code: int) -> str:
        found = self[code] = _SUCH if self._accepts(chr(code)) else _NOT
        return found


class _Search:
    """
    A regex, to be searched for in one line after another.

    What can end in one place only is a plain call; only what can end in several remembers where
    it is. Nearly all of most regexes is of the first kind.
    """

    def __init__(self, nodes: tree.Sequence) -> None:
        self._text = ""
        self._end = 0
        self._left = 0
        self._line = 0
        self._groups: dict[int, tuple[int, int]] = {}
        self._remembers = _remembers(nodes)
        self._anchored = bool(nodes) and _anchored(nodes[0])
        self._whole = self._sequence(nodes)

    def run(self, text: str, budget: int) -> Work:
        """Count what it takes in `text`."""
        self._begin(text, budget)
        found = _first(self._whole)
        try:
            for start in range(self._end + 1):
                self._left -= RUN
                if found(start) >= 0:
                    return Work(budget - self._left, found=True)
                if self._anchored:
                    break
        except _Enough:
            return Work(budget, over=True)
        return Work(budget - self._left)

    def ends(self, text: str, budget: int) -> Iterator[int]:
        """Yield where it can end that starts at the begin of `text`; raises `_Enough`."""
        self._begin(text, budget)
        return _each(self._whole)(0)

    def _begin(self, text: str, budget: int) -> None:
        self._text = text
        self._end = len(text)
        self._left = budget
        self._line += 1
        self._groups.clear()

    def _pay(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise _Enough

    # One behind the other

    def _sequence(self, nodes: tree.Sequence) -> _Part:
        """Make one part of several."""
        between: list[list[_One]] = [[]]
        several: list[_Many] = []
        for part in self._parts(nodes):
            if isinstance(part, _Ends):
                several.append(part.of)
                between.append([])
            else:
                between[-1].append(part.of)
        ones = tuple(map(_in_turn, between))
        if not several:
            return _End(ones[0] or _here)
        if len(several) == 1 and ones == (None, None):
            return _Ends(several[0])
        return _Ends(_among(ones, tuple(several)))

    def _parts(self, nodes: tree.Sequence) -> Iterator[_Part]:
        plain = ""
        for node, after in zip(nodes, (*nodes[1:], None), strict=False):
            if isinstance(node, Chars) and node.literal:
                plain += node.literal
                if isinstance(after, Chars) and after.literal:
                    continue
                yield _End(self._plain(plain))
                plain = ""
            else:
                yield self._part(node, after)

    def _part(self, node: Node, after: Node | None) -> _Part:
        match node:
            case Chars():
                return _End(self._chars(node))
            case Either():
                return _Ends(self._either(tuple(map(self._sequence, node.branches))))
            case Repeat(body=(Chars() as one,)):
                return self._run(node, one, after)
            case Repeat():
                body = self._sequence(node.body)
                if node.style is Style.LAZY:
                    return _Ends(self._lazy(node, body))
                again = _Ends(self._greedy(node, body))
                return _End(self._once(again)) if node.style is Style.POSSESSIVE else again
            case Group():
                body = self._sequence(node.body)
                return _Ends(self._group(node, _each(body))) if self._remembers else body
            case Atomic():
                return _End(self._once(self._sequence(node.body)))
            case Look():
                return _End(self._look(node, _first(self._sequence(node.body))))
            case Place():
                return _End(self._place(node))
            case Again():
                return _End(self._again(node))
            case IfGroup():
                return _Ends(self._if(node, self._sequence(node.yes), self._sequence(node.no)))

    # Characters

    def _chars(self, node: Chars) -> _One:
        accepts = node.accepts

        def end(at: int) -> int:
            self._pay(TRY)
            return at + 1 if at < self._end and accepts(self._text[at]) else -1

        return end

    def _plain(self, word: str) -> _One:
        """Find characters that are each one only."""
        size = len(word)
        whole = TRY * size

        def end(at: int) -> int:
            text = self._text
            if text.startswith(word, at):
                self._left -= whole
                if self._left < 0:
                    raise _Enough
                return at + size
            same = 0
            while text[at + same : at + same + 1] == word[same]:
                same += 1
            self._left -= TRY * (same + 1)
            if self._left < 0:
                raise _Enough
            return -1

        return end

    def _stretch(self, one: Chars) -> _One:
        """Return what tells, for a place in the line, up to where all characters are such."""
        known = _Known(one)
        line = -1
        mask = ""

        def stretch(at: int) -> int:
            nonlocal line, mask
            if line != self._line:
                line = self._line
                mask = self._text.translate(known)
            end = mask.find(_NOT, at)
            return end if end >= 0 else self._end

        return stretch

    def _run(self, node: Repeat, one: Chars, after: Node | None) -> _Part:
        """Repeat one character, which `re` does in a tight loop."""
        wanted = after.literal if isinstance(after, Chars) else ""
        stretch = self._stretch(one)
        if node.style is Style.LAZY:
            return _Ends(self._run_lazy(node, wanted, stretch))
        if node.style is Style.POSSESSIVE:
            return _End(self._run_once(node, stretch))
        return _Ends(self._run_greedy(node, wanted, stretch))

    def _run_once(self, node: Repeat, stretch: _One) -> _One:
        least, most = node.least, node.most

        def end(at: int) -> int:
            last = min(stretch(at), at + most)
            self._pay(TRY + RUN * (last - at))
            return last if last - at >= least else -1

        return end

    def _run_greedy(self, node: Repeat, wanted: str, stretch: _One) -> _Many:
        least, most = node.least, node.most

        def ends(at: int) -> Iterator[int]:
            last = min(stretch(at), at + most)
            self._pay(TRY + RUN * (last - at))
            first = at + least
            if not wanted:
                while last >= first:
                    self._left -= RUN + TRY
                    if self._left < 0:
                        raise _Enough
                    yield last
                    last -= 1
                return
            while last >= first:
                place = self._text.rfind(wanted, first, last + 1)
                if place < 0:
                    self._pay(RUN * (last - first + 1))
                    return
                self._pay(RUN * (last - place + 1) + TRY)
                yield place
                last = place - 1

        return ends

    def _run_lazy(self, node: Repeat, wanted: str, stretch: _One) -> _Many:
        least, most = node.least, node.most

        def ends(at: int) -> Iterator[int]:
            last = min(stretch(at), at + most)
            place = at + least
            self._pay(TRY + RUN * (min(last, place) - at))
            while place <= last:
                found = self._text.find(wanted, place, last + 1) if wanted else place
                if found < 0:
                    self._pay(RUN * (last - place))
                    return
                self._pay(RUN * (found - place) + TRY)
                yield found
                if found == last:
                    return
                self._pay(RUN)
                place = found + 1

        return ends

    # What branches and repeats

    def _either(self, branches: Sequence[_Part]) -> _Many:
        ways = tuple(
            (part.of, None) if isinstance(part, _End) else (None, part.of) for part in branches
        )

        def ends(at: int) -> Iterator[int]:
            for one, many in ways:
                self._left -= TRY
                if self._left < 0:
                    raise _Enough
                if one is not None:
                    end = one(at)
                    if end >= 0:
                        yield end
                elif many is not None:
                    yield from many(at)

        return ends

    def _greedy(self, node: Repeat, body: _Part) -> _Many:
        if isinstance(body, _End):
            return self._greedy_one(node, body.of)
        many = body.of

        def ends(at: int) -> Iterator[int]:
            self._pay(TRY)
            places = [at]
            open_ = [many(at) if node.most else iter(())]
            while open_:
                end = next(open_[-1], None)
                if end is None:
                    open_.pop()
                    place = places.pop()
                    if len(open_) >= node.least:
                        yield place
                elif len(open_) >= node.most:
                    yield end
                elif end != places[-1] or len(open_) < node.least:
                    self._pay(TRY)
                    places.append(end)
                    open_.append(many(end))
                elif len(open_) == node.least:
                    yield end  # often enough, and nothing the last time

        return ends

    def _greedy_one(self, node: Repeat, one: _One) -> _Many:
        """Repeat what can end in one place only."""
        least, most = node.least, node.most

        def ends(at: int) -> Iterator[int]:
            self._pay(TRY)
            places = [at]
            while most:
                end = one(places[-1])
                if end < 0:
                    break
                if len(places) >= most:
                    yield end
                    break
                if end == places[-1] and len(places) >= least:
                    if len(places) == least:
                        yield end  # often enough, and nothing the last time
                    break
                self._pay(TRY)
                places.append(end)
            while places:
                place = places.pop()
                if len(places) >= least:
                    yield place

        return ends

    def _lazy(self, node: Repeat, body: _Part) -> _Many:
        many = _each(body)

        def ends(at: int) -> Iterator[int]:
            self._pay(TRY)
            if node.least == 0:
                yield at
            open_ = [many(at)] if node.most else []
            places = [at]
            while open_:
                end = next(open_[-1], None)
                if end is None:
                    open_.pop()
                    places.pop()
                    continue
                self._pay(TRY)
                if len(open_) >= node.least:
                    yield end
                if len(open_) < node.most and (end != places[-1] or len(open_) < node.least):
                    places.append(end)
                    open_.append(many(end))

        return ends

    def _once(self, inner: _Part) -> _One:
        first = _first(inner)

        def end(at: int) -> int:
            self._pay(TRY)
            return first(at)

        return end

    # What takes no characters, or those of before

    def _group(self, node: Group, body: _Many) -> _Many:
        def ends(at: int) -> Iterator[int]:
            before = self._groups.get(node.number)
            for end in body(at):
                self._groups[node.number] = at, end
                yield end
                if before is None:
                    self._groups.pop(node.number, None)
                else:
                    self._groups[node.number] = before

        return ends

    def _look(self, node: Look, body: _One) -> _One:
        size = tree.width(node.body) if node.behind else 0

        def end(at: int) -> int:
            self._pay(TRY)
            start = at - size
            found = start >= 0 and body(start) >= 0
            return at if found is not node.negative else -1

        return end

    def _place(self, node: Place) -> _One:
        name, multiline = node.name, node.multiline

        def end(at: int) -> int:
            self._pay(TRY)
            return at if self._holds(name, at, multiline=multiline) else -1

        return end

    def _holds(self, name: str, at: int, *, multiline: bool) -> bool:
        if name in ("AT_BOUNDARY", "AT_NON_BOUNDARY"):
            before = at > 0 and _word(self._text[at - 1])
            after = at < self._end and _word(self._text[at])
            return (before is not after) is (name == "AT_BOUNDARY")
        if name in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            return at == 0 or (multiline and name == "AT_BEGINNING" and self._text[at - 1] == "\n")
        if name == "AT_END_STRING":
            return at == self._end
        last = at == self._end or (at == self._end - 1 and self._text[at] == "\n")
        return last or (multiline and self._text[at] == "\n")

    def _again(self, node: Again) -> _One:
        def end(at: int) -> int:
            self._pay(TRY)
            place = self._groups.get(node.number)
            if place is None:
                return -1
            text = self._text[slice(*place)]
            self._pay(RUN * len(text))
            return at + len(text) if self._text.startswith(text, at) else -1

        return end

    def _if(self, node: IfGroup, yes: _Part, no: _Part) -> _Many:
        ways = _each(no), _each(yes)
        return lambda at: ways[node.number in self._groups](at)


def _here(at: int) -> int:
    """Nothing: it ends where it begins."""
    return at


def _first(part: _Part) -> _One:
    """Return what tells the first place where a part can end."""
    if isinstance(part, _End):
        return part.of
    ends = part.of
    return lambda at: next(ends(at), -1)


def _each(part: _Part) -> _Many:
    """Return what tells all places where a part can end."""
    if isinstance(part, _Ends):
        return part.of
    one = part.of

    def ends(at: int) -> Iterator[int]:
        end = one(at)
        if end >= 0:
            yield end

    return ends


def _in_turn(ones: Sequence[_One]) -> _One | None:
    """Make one of some that each end in one place only; None when there are none."""
    if len(ones) < 2:
        return ones[0] if ones else None

    def end(at: int) -> int:
        for one in ones:
            at = one(at)
            if at < 0:
                return -1
        return at

    return end


def _among(between: Sequence[_One | None], several: Sequence[_Many]) -> _Many:
    """Make one of parts that can end in several places, with what stands around each."""
    last = len(several)
    before = between[0]

    def ends(at: int) -> Iterator[int]:
        if before is not None:
            at = before(at)
            if at < 0:
                return
        open_ = [several[0](at)]
        while open_:
            depth = len(open_)
            behind = between[depth]
            for place in open_[-1]:
                end = place if behind is None else behind(place)
                if end < 0:
                    continue
                if depth == last:
                    yield end
                else:
                    open_.append(several[depth](end))
                    break
            else:
                open_.pop()

    return ends


def _remembers(nodes: tree.Sequence) -> bool:
    """Say whether it matters what groups have captured."""
    for node in nodes:
        match node:
            case Again() | IfGroup():
                return True
            case Either():
                if any(map(_remembers, node.branches)):
                    return True
            case Repeat() | Group() | Atomic() | Look():
                if _remembers(node.body):
                    return True
            case _:
                pass
    return False


@lru_cache(maxsize=256)
def _word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _anchored(node: Node) -> bool:
    r"""Say whether a search can only start at the line's begin, as CPython knows it."""
    return isinstance(node, Place) and node.name.startswith("AT_BEGINNING") and not node.multiline
