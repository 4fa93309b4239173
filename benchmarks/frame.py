"""
What all benchmarks share: sides that take turns in, rows of a table out.

A `Comparison` is two sides that do the same work; they take turns, and what counts is the
median of the rounds' ratios: other work on the machine meets both. A `Figure` is a number
that has no rival. A `Growth` is one side at several sizes, and how steeply its cost rises.
Sides must come to the same result: that is asserted, also where nobody looks at the time.

    python -m benchmarks.bench_X [--rounds N] [--quick] [--check] [--only TEXT] [--json FILE]
"""

import argparse
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

ROUNDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a value must be: at most, or at least, so much."""

    value: float
    most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.value if self.most else value >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.most else '≥'} {_number(self.value)}"


def at_least(value: float) -> Bar:
    return Bar(value=value)


def at_most(value: float) -> Bar:
    return Bar(value=value, most=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """
    What one side took for one round: seconds, for so many pieces of work.

    `result` must be that of the other side.
    """

    seconds: float
    pieces: int = 1
    result: object = None

    @property
    def each(self) -> float:
        return self.seconds / self.pieces


Side = Callable[[], Turn]
"""Does its work once. What it needs for that is made before, or on no clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """Another side: what it is called, how it does the work, and how we must stand beside it."""

    name: str
    side: Side
    bar: Bar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """
    One thing done by us and by others; a row for each of these.

    The value is how many times as fast `ours` is, with a bar that is to be reached; with one
    that is not to be passed it is the share of the other's time that ours takes.
    """

    name: str
    ours: Side
    others: Sequence[Against]
    piece: str = "line"

    def rows(self, options: "Options") -> Iterable["Row"]:
        """Have all sides take turns, each round in another order."""
        sides = [self.ours, *(each.side for each in self.others)]
        names = ["ours", *(each.name for each in self.others)]
        taken: list[list[float]] = [[] for _ in sides]
        for number in range(options.rounds):
            order = [*range(len(sides))]
            if number % 2:
                order.reverse()
            turns = {index: sides[index]() for index in order}
            for index, name in enumerate(names):
                if turns[index].result != turns[0].result:
                    said = f"ours came to {turns[0].result!r}, {name} to {turns[index].result!r}"
                    raise Unequal(f"{self.name}: {said}")
                taken[index].append(turns[index].each)
        ours = taken[0]
        for each, theirs in zip(self.others, taken[1:], strict=True):
            most = each.bar is not None and each.bar.most
            ratios = [o / t if most else t / o for o, t in zip(ours, theirs, strict=True)]
            yield Row(
                name=self.name,
                against=each.name,
                value=median(ratios),
                low=min(ratios),
                high=max(ratios),
                unit="of its time" if most else "times as fast",
                bar=each.bar,
                detail=f"{_duration(median(ours))} and {_duration(median(theirs))} a {self.piece}",
            )


class Taken(NamedTuple):
    """A number, and what else is worth knowing of that round."""

    value: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number of our own, `unit` behind it."""

    name: str
    unit: str
    take: Callable[[], Taken]
    bar: Bar | None = None

    def rows(self, options: "Options") -> Iterable["Row"]:
        """Take it in each round."""
        rounds = [self.take() for _ in range(options.rounds)]
        values = [each.value for each in rounds]
        yield Row(
            name=self.name,
            against="",
            value=median(values),
            low=min(values),
            high=max(values),
            unit=self.unit,
            bar=self.bar,
            detail=rounds[-1].detail,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """
    One side at several sizes: what a piece costs at each, and how that rises.

    The value is the exponent by which a piece's cost grows with the size: 0 is not at all, 1
    is linear.
    """

    name: str
    of: str
    sizes: Sequence[int]
    side: Callable[[int], Side]
    bar: Bar | None = None
    piece: str = "line"

    def rows(self, options: "Options") -> Iterable["Row"]:
        sizes = self.sizes[: max(2, len(self.sizes) // 2)] if options.quick else self.sizes
        taken: dict[int, list[float]] = {size: [] for size in sizes}
        sides = {size: self.side(size) for size in sizes}
        for _ in range(options.rounds):
            for size in sizes:
                taken[size].append(sides[size]().each)
        points = [(size, median(taken[size])) for size in sizes]
        slopes = [
            slope([(size, taken[size][number]) for size in sizes])
            for number in range(options.rounds)
        ]
        yield Row(
            name=self.name,
            against="itself at other sizes",
            value=slope(points),
            low=min(slopes),
            high=max(slopes),
            unit=f"is the exponent over {self.of}",
            bar=self.bar,
            detail=", ".join(f"{size:,}: {_duration(each)}" for size, each in points)
            + f" a {self.piece}",
            points=points,
            of=self.of,
            piece=self.piece,
        )


Item = Comparison | Figure | Growth


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table."""

    name: str
    against: str
    value: float
    low: float
    high: float
    unit: str
    bar: Bar | None = None
    detail: str = ""
    points: Sequence[tuple[int, float]] = field(default=())
    of: str = ""
    piece: str = ""

    @property
    def met(self) -> bool | None:
        return None if self.bar is None else self.bar.met(self.value)

    def __str__(self) -> str:
        said = {None: "", True: "met", False: "NOT MET"}[self.met]
        bar = f"{self.bar} {said}" if self.bar is not None else ""
        return (
            f"{self.name:<60} {_number(self.value):>7} {self.unit} "
            f"[{_number(self.low)} to {_number(self.high)}] {bar}\n"
            f"{'':60}    {'; '.join(filter(None, (self.against, self.detail)))}"
        )

    def plain(self) -> Mapping[str, Any]:
        """Return what JSON can say of it."""
        bar = None if self.bar is None else str(self.bar)
        return {**asdict(self), "bar": bar, "met": self.met}


class Unequal(Exception):
    """Two sides did not do the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a benchmark is asked for."""

    rounds: int
    quick: bool
    only: str = ""

    def size(self, full: int, quick: int) -> int:
        """Return how much work to do."""
        return quick if self.quick else full


def run(doc: str | None, build: Callable[[Options], Iterable[Item]]) -> None:
    """Be the program of a benchmark: print its rows, keep them, judge them if asked to."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help=f"turns of each side (default: {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="hardly any work: does it run at all")
    parser.add_argument("--check", action="store_true", help="fail below a bar")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with this in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to keep the rows")
    asked = parser.parse_args()
    rounds = asked.rounds or (1 if asked.quick else ROUNDS)
    rows = measure(build, Options(rounds=rounds, quick=asked.quick, only=asked.only))
    if asked.json is not None:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(
            json.dumps([row.plain() for row in rows], indent=1, ensure_ascii=False) + "\n"
        )
    if asked.check and any(row.met is False for row in rows):
        sys.exit(1)


def measure(build: Callable[[Options], Iterable[Item]], options: Options) -> Sequence[Row]:
    """Take all rows of a benchmark, printing each."""
    rows = []
    for item in build(options):
        if options.only in item.name:
            for row in item.rows(options):
                print(row, flush=True)
                rows.append(row)
    return rows


def cpu() -> float:
    """Return the processor seconds of this process so far."""
    return time.process_time()


def children() -> float:
    """Return the processor seconds of the processes that this one waited for so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the exponent of the power that fits points best."""
    xs = [math.log(x) for x, _ in points]
    ys = [math.log(y) for _, y in points]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    below = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / below


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
