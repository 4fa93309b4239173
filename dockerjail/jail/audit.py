r"""
Whether what holds lines back can be trusted: lines judged without it, and a test at the start. Pure.

A line that the sieve holds back is a missed ban, and nobody would see it. So of every so many chunks
one is judged a second time, line after line by each filter that was not shown it: a part of it if
there are many filters, so that it costs no more than a chunk of an attack. What a filter would have
hit is then shown to it after all; whose mistake it was is found out by `sieves.py`.

Nothing is counted here, and what filters remember is not touched.
"""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final

from dockerjail.errors import Overdue
from dockerjail.jail.engine import Engine
from dockerjail.jail.filter import Filter, Reading, read
from dockerjail.jail.memory import Groups, Joined, Memory
from dockerjail.jail.patience import Watch
from dockerjail.jail.sieve import Candidate, Plan, lines
from dockerjail.jail.skeleton import Chain, Group

JUDGED: Final = 1000
"""Lines that one audit shows to a filter, those of all filters together: some milliseconds."""

TURNS: Final = 5
"""After so many ticks (`Watch.due`) an audit ends: its lines take the filters too long."""

LONGEST: Final = 4096
"""Characters of a line that is audited."""

SHAPE: Final = 200
"""Characters that are told of a line: what it looks like, and nothing of what it says."""

Overlooked = tuple[int, int, int]
"""A line that was held back from a filter that hits it: start, end, and the filter."""


def overlooked(
    plan: Plan, data: bytes, shown: Sequence[Candidate], number: int, watch: Watch
) -> Generator[None, None, list[Overlooked]]:
    """
    Look for lines that were held back; yields whenever others should get their turn.

    `number` counts the audits: each looks at another part of its chunk.
    """
    sifted = [i for i in plan.all if i not in plan.always and plan.filters[i].rule.maxlines == 1]
    every = list(lines(data))
    if not sifted or not every:
        return []
    known = {end: which for _, end, which in shown}
    count = max(1, JUDGED // len(sifted))
    first = number * count % len(every)
    found: list[Overlooked] = []
    turns = 0
    for start, end in every[first : first + count]:
        if end - start > LONGEST:
            continue
        text = data[start:end].partition(b" ")[2].removesuffix(b"\r").decode("utf-8", "replace")
        line, seen = read(text), known.get(end, ())
        for index in sifted:
            if index in seen:
                continue
            if watch.due:
                watch.due = False
                turns += 1
                yield
                if turns >= TURNS:
                    return found
            if _hits(plan.filters[index], line, watch):
                found.append((start, end, index))
    return found


def _hits(each: Filter, line: Reading, watch: Watch) -> bool:
    """Say whether a filter hits a line, or the line belongs to a connection that it follows."""
    witness = _Witness()
    try:
        watch.serial += 1
        watch.busy = True
        hit = each.judge(line, witness)
        watch.busy = False
    except Overdue:
        watch.busy = False
        return False
    return hit is not None or witness.asked


class _Witness(Memory):
    """A memory that only says whether anything was to be remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False

    def join(
        self,
        found: Groups,
        line: str,
        at: float,
        match: re.Match[str] | None = None,
    ) -> Joined | None:
        """See `Memory.join`."""
        self.asked = True
        return None


def with_overlooked(shown: Sequence[Candidate], found: Sequence[Overlooked]) -> list[Candidate]:
    """Return what was shown together with what should have been."""
    which = {end: (start, filters) for start, end, filters in shown}
    for start, end, index in found:
        _, filters = which.get(end, (start, ()))
        which[end] = start, tuple(sorted({*filters, index}))
    return [(start, end, filters) for end, (start, filters) in sorted(which.items())]


def shape(line: bytes) -> str:
    """Return what a line looks like without what it says: letters are x, digits 9."""
    text = line.decode("utf-8", "replace")[:SHAPE]
    return re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", text))


# -- the test at the start ------------------------------------------------------


def _group(*literals: bytes, folded: bool = False) -> Group:
    return Group(literals, folded=folded)


_CHAINS: Final[Mapping[int, Chain]] = {
    0: (_group(b"Failed "), _group(b" from ")),
    1: (_group(b'"GET ', b'"POST '), _group(b"wp-login.php", b"xmlrpc.php")),
    2: (_group(b"login failed", folded=True),),
    3: (_group(b"\xc3\xa9\x00\xff"),),
    4: (_group(b"abc"), _group(b"cd")),
    5: (_group(b"[error]"), _group(b"user ", folded=True), _group(b"(1)")),
}
_LINES: Final[Sequence[tuple[bytes, int]]] = (
    (b"Failed password for root from 203.0.113.7", 0b000001),
    (b"connection from 203.0.113.7 Failed password", 0b000000),
    (b'"POST /xmlrpc.php HTTP/1.1" "GET /wp-login.php', 0b000010),
    (b'xmlrpc.php "GET / HTTP/1.1"', 0b000000),
    (b"LOGIN Failed from Login fAILED", 0b000100),
    (b"\x00\xc3\xa9\x00\xff\xfe", 0b001000),
    (b"\xc3\xa9\x00\xfe", 0b000000),
    (b"abcd", 0b000000),
    (b"abc abcd cd cd cd", 0b010000),
    (b"", 0b000000),
    (b"[error] USER x (1) Failed  from  Login Failed\r", 0b100101),
    (b"[errors user (1)", 0b000000),
    (b"Failed " + b"x" * 9000 + b" from ", 0b000001),
    (b" from Failed", 0b000000),
)


def flaw(make: Callable[[Mapping[int, Chain]], Engine]) -> str:
    """Return what is wrong with what a new engine finds in lines that are known; empty if nothing."""
    engine = make(_CHAINS)
    data = b"".join(line + b"\n" for line, _ in _LINES)
    expected = {end: bits for (_, end), (_, bits) in zip(lines(data), _LINES, strict=True) if bits}
    for text in (data, data + data[:-1], data[:-1]):
        wanted = {
            base + end: bits
            for base in range(0, len(text), len(data))
            for end, bits in expected.items()
            if base + end <= len(text)
        }
        found = engine(text)
        if found != wanted:
            return f"found {_told(found)} where {_told(wanted)} is right"
    return ""


def _told(found: Mapping[int, int]) -> str:
    return ", ".join(f"{end}:{bits:b}" for end, bits in sorted(found.items())) or "nothing"
