r"""
A regex in, lines that it matches out: each knows where its address is and where text is free. Pure.

The lines are made from the regex's own parts (`tree.py`). Looks and `\b` are passed over
on the way, so not every line that comes out matches: whoever needs one tries them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple

from dockerjail.lint import tree
from dockerjail.lint.tree import Again, Atomic, Chars, Either, Group, IfGroup, Node, Repeat

LONG: Final = 16
"""A repeat that goes on at least so often is room for somebody's text."""

FILLS: Final = ("x", " x ", "x y", "")
"""What is written where text is free, as far as it is accepted there."""

_ADDRESSES: Final = ("ip4", "ip6", "fid", "host")
_LIKELY: Final = "x1 a_-./:\"'[](){}@=,;<>|&?!*+#%\tXéA0"


class Room(NamedTuple):
    """Where a repeat of any length stands in a line, also if it is empty there."""

    start: int
    end: int
    repeat: Repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A line; `address` is where its address stands (None if it has none)."""

    text: str
    address: tuple[int, int] | None
    free: tuple[Room, ...]


def examples(pattern: str, *, prefix: str = "", address: str) -> Iterator[Example]:
    """
    Yield lines that `pattern` may match, the plainest first; raises `tree.Unknown`.

    `prefix` is a prefregex: the line is then one of that, with one of `pattern` in its
    `content`. Both are without tags.
    """
    inner = tree.parse(pattern)
    outer = tree.parse(prefix) if prefix else None
    seen: set[str] = set()
    for branch, options, fill in product(
        range(_ways((*inner, *(outer or ())))), (False, True), FILLS
    ):
        writer = _Writer(address, fill, branch, options=options, content=inner if outer else None)
        writer.write(outer if outer is not None else inner)
        made = writer.example()
        if made.text not in seen:
            seen.add(made.text)
            yield made


def _ways(nodes: tree.Sequence) -> int:
    """Return how many branches are tried: from the third on they bring little."""
    counts = (len(node.branches) for node in tree.inside(nodes) if isinstance(node, Either))
    return min(max(counts, default=1), 3)


def once(nodes: tree.Sequence) -> str:
    """Write `nodes` as shortly as they can be."""
    writer = _Writer("203.0.113.7", "x", 0, options=False, content=None)
    writer.write(nodes)
    return writer.example().text


class _Writer:
    """Writes one line."""

    def __init__(
        self, address: str, fill: str, branch: int, *, options: bool, content: tree.Sequence | None
    ) -> None:
        self._address = address
        self._fill = fill
        self._branch = branch
        self._options = options
        self._content = content
        self._text = ""
        self._at: tuple[int, int] | None = None
        self._free: list[Room] = []
        self._groups: dict[int, str] = {}

    def example(self) -> Example:
        return Example(text=self._text, address=self._at, free=tuple(self._free))

    def write(self, nodes: tree.Sequence) -> None:
        for node in nodes:
            if isinstance(node, Chars):
                self._text += node.literal or _char(node)
            else:
                self._write(node)

    def _write(self, node: Node) -> None:
        match node:
            case Either():
                self.write(self._choose(node))
            case Repeat():
                self._repeat(node)
            case Group():
                self._group(node)
            case Atomic():
                self.write(node.body)
            case Again():
                self._text += self._groups.get(node.number, "")
            case IfGroup():
                self.write(node.yes if node.number in self._groups else node.no)
            case _:
                pass

    def _group(self, node: Group) -> None:
        start = len(self._text)
        if node.name in _ADDRESSES and self._at is None:
            self._text += self._address
            self._at = start, len(self._text)
        elif node.name == "content" and self._content is not None:
            content, self._content = self._content, None
            self.write(content)
        else:
            self.write(node.body)
        self._groups[node.number] = self._text[start:]

    def _choose(self, node: Either) -> tree.Sequence:
        wanted = "ip6" if ":" in self._address else "ip4"
        for names in ((wanted,), _ADDRESSES):
            for branch in node.branches:
                if self._at is None and _captures(branch, names):
                    return branch
        return node.branches[self._branch % len(node.branches)]

    def _repeat(self, node: Repeat) -> None:
        start = len(self._text)
        if node.most < LONG:
            wanted = self._options or _captures(node.body, _ADDRESSES)
            times = max(node.least, min(node.most, 1)) if wanted else node.least
            for _ in range(times):
                self.write(node.body)
            return
        match node.body:
            case (Chars() as one,):
                fill = "".join(c for c in self._fill if one.accepts(c))
                fill += _char(one) * (node.least - len(fill))
                self._text += fill
            case _:
                for _ in range(min(max(node.least, bool(self._fill)), LONG)):
                    self.write(node.body)
        self._free.append(Room(start, len(self._text), node))


@lru_cache(maxsize=1024)
def _captures(nodes: tree.Sequence, names: tuple[str, ...]) -> bool:
    return any(isinstance(node, Group) and node.name in names for node in tree.inside(nodes))


@lru_cache(maxsize=1024)
def _char(one: Chars) -> str:
    """Return a character that fits; the first of those a log is likely to have."""
    if one.literal:
        return one.literal
    for char in one.likes[:1] + _LIKELY + one.likes:
        if one.accepts(char):
            return char
    return next((c for c in map(chr, range(1, 256)) if one.accepts(c)), "")
