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

_Step = Callable[[int], Iterator[int]]
"""From a place in the line to all the places where a part can end, in `re`'s order."""


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
    return _Search(text, budget).run(tree.parse(pattern))


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
        did = work(pattern, before + pump * first + behind + "\n")
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
        if isinstance(room.body[0], Chars) and len(room.body) == 1 and room.body[0].accepts(char)
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
    search = _Search(text, budget)
    try:
        return any(end == len(text) for end in search.ends(nodes))
    except _Enough:
        return False


class _Search:
    """One search in one line."""

    def __init__(self, text: str, budget: int) -> None:
        self._text = text
        self._end = len(text)
        self._left = budget
        self._budget = budget
        self._groups: dict[int, tuple[int, int]] = {}

    def run(self, nodes: tree.Sequence) -> Work:
        steps = self._steps(nodes)
        anchored = bool(nodes) and _anchored(nodes[0])
        try:
            for start in range(self._end + 1):
                self._left -= RUN
                for _ in self._all(steps, start):
                    return Work(self._budget - self._left, found=True)
                if anchored:
                    break
        except _Enough:
            return Work(self._budget, over=True)
        return Work(self._budget - self._left)

    def ends(self, nodes: tree.Sequence) -> Iterator[int]:
        """Yield where `nodes` can end that start at the line's begin."""
        return self._all(self._steps(nodes), 0)

    def _pay(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise _Enough

    def _steps(self, nodes: tree.Sequence) -> tuple[_Step, ...]:
        following: list[Node | None] = [*nodes[1:], None]
        return tuple(self._step(node, after) for node, after in zip(nodes, following, strict=False))

    def _step(self, node: Node, after: Node | None) -> _Step:
        match node:
            case Chars():
                return self._chars(node)
            case Either():
                return self._either(tuple(map(self._steps, node.branches)))
            case Repeat(body=(Chars() as one,)):
                return self._run(node, one, after)
            case Repeat():
                steps = self._steps(node.body)
                if node.style is Style.LAZY:
                    return self._lazy(node, steps)
                again = self._greedy(node, steps)
                return self._once(again) if node.style is Style.POSSESSIVE else again
            case Group():
                return self._group(node, self._steps(node.body))
            case Atomic():
                steps = self._steps(node.body)
                return self._once(lambda at: self._all(steps, at))
            case Look():
                return self._look(node, self._steps(node.body))
            case Place():
                return self._place(node)
            case Again():
                return self._again(node)
            case IfGroup():
                return self._if(node, self._steps(node.yes), self._steps(node.no))

    def _all(self, steps: Sequence[_Step], at: int) -> Iterator[int]:
        """Yield where `steps` one behind the other can end."""
        if not steps:
            yield at
            return
        open_: list[Iterator[int]] = [steps[0](at)]
        while open_:
            end = next(open_[-1], None)
            if end is None:
                open_.pop()
            elif len(open_) == len(steps):
                yield end
            else:
                open_.append(steps[len(open_)](end))

    def _chars(self, node: Chars) -> _Step:
        def step(at: int) -> Iterator[int]:
            self._pay(TRY)
            if at < self._end and node.accepts(self._text[at]):
                yield at + 1

        return step

    def _either(self, branches: Sequence[Sequence[_Step]]) -> _Step:
        def step(at: int) -> Iterator[int]:
            for branch in branches:
                self._pay(TRY)
                yield from self._all(branch, at)

        return step

    def _run(self, node: Repeat, one: Chars, after: Node | None) -> _Step:
        """Repeat one character, which `re` does in a tight loop."""
        wanted = after.literal if isinstance(after, Chars) else ""

        def step(at: int) -> Iterator[int]:
            self._pay(TRY)
            if node.style is Style.LAZY:
                most, end = min(self._end, at + node.most), at
                while True:
                    if end - at >= node.least and (not wanted or self._at(end, wanted)):
                        self._pay(TRY)
                        yield end
                    if end >= most or not one.accepts(self._text[end]):
                        return
                    self._pay(RUN)
                    end += 1
            end = at
            most = min(self._end, at + node.most)
            while end < most and one.accepts(self._text[end]):
                end += 1
            self._pay(RUN * (end - at))
            if node.style is Style.POSSESSIVE:
                if end - at >= node.least:
                    yield end
                return
            while end - at >= node.least:
                self._pay(RUN)
                if not wanted or self._at(end, wanted):
                    self._pay(TRY)
                    yield end
                end -= 1

        return step

    def _at(self, place: int, char: str) -> bool:
        return place < self._end and self._text[place] == char

    def _greedy(self, node: Repeat, steps: Sequence[_Step]) -> _Step:
        def step(at: int) -> Iterator[int]:
            self._pay(TRY)
            places = [at]
            open_: list[Iterator[int]] = [self._all(steps, at) if node.most else iter(())]
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
                    open_.append(self._all(steps, end))

        return step

    def _lazy(self, node: Repeat, steps: Sequence[_Step]) -> _Step:
        def step(at: int) -> Iterator[int]:
            self._pay(TRY)
            if node.least == 0:
                yield at
            open_ = [self._all(steps, at)] if node.most else []
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
                if len(open_) < node.most and end != places[-1]:
                    places.append(end)
                    open_.append(self._all(steps, end))

        return step

    def _once(self, inner: _Step) -> _Step:
        def step(at: int) -> Iterator[int]:
            self._pay(TRY)
            end = next(inner(at), None)
            if end is not None:
                yield end

        return step

    def _group(self, node: Group, steps: Sequence[_Step]) -> _Step:
        def step(at: int) -> Iterator[int]:
            before = self._groups.get(node.number)
            for end in self._all(steps, at):
                self._groups[node.number] = at, end
                yield end
                if before is None:
                    self._groups.pop(node.number, None)
                else:
                    self._groups[node.number] = before

        return step

    def _look(self, node: Look, steps: Sequence[_Step]) -> _Step:
        size = tree.width(node.body)

        def step(at: int) -> Iterator[int]:
            self._pay(TRY)
            start = at - size if node.behind else at
            found = start >= 0 and next(self._all(steps, start), None) is not None
            if found is not node.negative:
                yield at

        return step

    def _place(self, node: Place) -> _Step:
        name = node.name

        def step(at: int) -> Iterator[int]:
            self._pay(TRY)
            if self._holds(name, at, multiline=node.multiline):
                yield at

        return step

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

    def _again(self, node: Again) -> _Step:
        def step(at: int) -> Iterator[int]:
            self._pay(TRY)
            place = self._groups.get(node.number)
            if place is not None:
                text = self._text[slice(*place)]
                self._pay(RUN * len(text))
                if self._text.startswith(text, at):
                    yield at + len(text)

        return step

    def _if(self, node: IfGroup, yes: Sequence[_Step], no: Sequence[_Step]) -> _Step:
        def step(at: int) -> Iterator[int]:
            return self._all(yes if node.number in self._groups else no, at)

        return step


@lru_cache(maxsize=256)
def _word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _anchored(node: Node) -> bool:
    r"""Say whether a search can only start at the line's begin, as CPython knows it."""
    return isinstance(node, Place) and node.name.startswith("AT_BEGINNING") and not node.multiline
