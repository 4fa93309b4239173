"""
dockerjail's whole way of a line, as a tail and a daemon go it: the Engine's bytes in, failures out.

Only names that the modules have for each other are used.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, Protocol

from benchmarks.frame import Side, Turn, cpu
from benchmarks.workloads import before, framed, lines
from dockerjail.docker.cursor import Dialect
from dockerjail.docker.frames import reader
from dockerjail.docker.lines import Lines
from dockerjail.jail.hyperscan import Hyperscan, Unavailable
from dockerjail.jail.jail import Jails
from dockerjail.jail.policy import JailPolicy, Origin
from dockerjail.jail.rule import Rule
from dockerjail.jail.sieves import Sieves
from dockerjail.model import Container, Failure, Offence

READ: Final = 64 * 1024
"""Bytes that come from the socket at once."""

WEB: Final = Container(id="4f" * 32, name="web", service="web", created_at=1.0)
PURE: Final = "pure Python"
AUDIT: Final = 1000
"""As the daemon has it."""

FAR: Final = 4e9
"""A moment after all lines: none is from the future."""


def policy(name: str, rule: Rule, *, maxretry: int = 5) -> JailPolicy:
    """Make a jail of a rule."""
    return JailPolicy(name=name, origin=Origin.DAEMON, rule=rule, maxretry=maxretry)


@cache
def engines() -> Sequence[str]:
    """Return the names of the engines that can be used here."""
    try:
        native = str(Hyperscan())
    except Unavailable:
        return (PURE,)
    return PURE, native


class Counted:
    """What came of lines: the failures that counted, and whom they would have banned."""

    def __init__(self) -> None:
        self.failures = 0
        self.offences = 0

    @property
    def both(self) -> tuple[int, int]:
        return self.failures, self.offences


def make(engine: str) -> Jails:
    """Make the jails of a daemon that uses an engine."""
    return Jails(sieves=Sieves(native=engine != PURE, audit=AUDIT, clock=time.perf_counter))


class Judge(Protocol):
    """Whoever takes a log piece by piece and counts."""

    counted: Counted

    def feed(self, piece: Any, /) -> None: ...


class Ours:
    """One container's log being judged."""

    def __init__(
        self,
        policies: Sequence[JailPolicy],
        container: Container = WEB,
        jails: Jails | None = None,
        *,
        engine: str = PURE,
    ) -> None:
        self.jails = make(engine) if jails is None else jails
        self.bench = self.jails.bench(container, policies)
        assert not self.bench.problems, self.bench.problems
        self._reader = reader(container, Dialect.NEW)
        self._lines = Lines(container, {}, dialect=Dialect.NEW)
        self.counted = Counted()

    def feed(self, data: bytes) -> None:
        """Take one read."""
        counted = self.counted
        for chunk in self._lines.feed(self._reader.feed(data)):
            for entry in self.bench.judge(chunk, FAR).entries:
                if isinstance(entry, Failure):
                    counted.failures += 1
                elif isinstance(entry, Offence):
                    counted.offences += 1


def reads(data: bytes, size: int = READ) -> Iterator[bytes]:
    """Cut a log as a socket delivers it."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A log in the pieces that a side takes, with a place to compare what came of it so far."""

    warm: Sequence[Any]
    compared: Sequence[Any]
    more: Sequence[Any] = ()
    count: int

    def side(self, make: Callable[[], Judge]) -> Side:
        """Return what has a judge made, warms it up, and times how it takes the rest."""
        return partial(self._shown, make)

    def _shown(self, make: Callable[[], Judge]) -> Turn:
        judge = make()
        for piece in self.warm:
            judge.feed(piece)
        ahead = judge.counted.both
        gc.collect()
        began = cpu()
        for piece in self.compared:
            judge.feed(piece)
        so_far = tuple(b - a for a, b in zip(ahead, judge.counted.both, strict=True))
        for piece in self.more:
            judge.feed(piece)
        return Turn(seconds=cpu() - began, pieces=self.count, result=so_far)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """
    Lines for several sides, of one kind, so many in a hundred of which fail.

    A slow side is shown the first `compared` alone; what comes of these must be the same on all
    sides. Other lines come before the clock is started: enough for everybody to be at his best.
    """

    kind: str
    share: float
    lines: int
    compared: int
    warm: int
    """Lines that a slow side is warmed up with; who searches bytes gets more."""
    busy: int
    """Those that he gets."""

    def raw(self) -> Pieces:
        """Return all of it as the Engine sends it."""
        texts = lines(self.kind, self.lines, self.share)
        first, more = texts[: self.compared], texts[self.compared :]
        return Pieces(
            warm=[*reads(framed(before(self.kind, self.busy, self.share), first=-self.busy))],
            compared=[*reads(framed(first))],
            more=[*reads(framed(more, first=self.compared))],
            count=self.lines,
        )

    def plain(self) -> Pieces:
        """Return the first lines as lines."""
        return Pieces(
            warm=[before(self.kind, self.warm, self.share)],
            compared=[lines(self.kind, self.lines, self.share)[: self.compared]],
            count=self.compared,
        )
