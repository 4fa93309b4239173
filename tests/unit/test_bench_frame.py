"""Promises of what all benchmarks share: who is compared, and when that is a fault."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from benchmarks import frame, results
from benchmarks.frame import (
    Against,
    Bar,
    Comparison,
    Figure,
    Growth,
    Item,
    Options,
    Row,
    Side,
    Taken,
    Turn,
    Unequal,
    at_least,
    at_most,
)

ONCE = Options(rounds=1, quick=False)


def taking(*seconds: float, pieces: int = 1, result: object = None) -> Side:
    """Return a side that says it took these times, one a round."""
    left = list(seconds)
    return lambda: Turn(seconds=left.pop(0), pieces=pieces, result=result)


def compared(ours: Side, theirs: Side, bar: Bar | None = None, rounds: int = 1) -> Row:
    item = Comparison(name="x", ours=ours, others=[Against(name="y", side=theirs, bar=bar)])
    (row,) = item.rows(Options(rounds=rounds, quick=False))
    return row


def test_the_result_is_the_median_of_the_rounds_ratios() -> None:
    row = compared(taking(1, 1, 2), taking(10, 90, 40), at_least(15), rounds=3)
    assert (row.value, row.low, row.high, row.met) == (20, 10, 90, True)


def test_sides_may_do_different_amounts_of_the_same_work() -> None:
    assert compared(taking(1, pieces=100), taking(1, pieces=10)).value == pytest.approx(10)


def test_a_bar_that_must_not_be_passed_asks_for_our_share_of_their_time() -> None:
    row = compared(taking(7), taking(10), at_most(0.7))
    assert (row.value, row.met, str(row.bar)) == (0.7, True, "≤ 0.7")
    assert compared(taking(8), taking(10), at_most(0.7)).met is False


def test_sides_that_come_to_different_results_are_a_fault() -> None:
    with pytest.raises(Unequal, match="x: ours came to 3, y to 4"):
        compared(taking(1, result=3), taking(1, result=4))


def test_each_other_round_goes_the_other_way_round() -> None:
    order: list[str] = []

    def side(name: str) -> Side:
        def turn() -> Turn:
            order.append(name)
            return Turn(seconds=1)

        return turn

    compared(side("ours"), side("theirs"), rounds=2)
    assert order == ["ours", "theirs", "theirs", "ours"]


@pytest.mark.parametrize(("power", "per"), [(0.0, 5.0), (1.0, 0.1), (2.0, 0.1)])
def test_growth_is_the_exponent_of_the_cost_over_the_size(power: float, per: float) -> None:
    def at(size: int) -> Side:
        return lambda: Turn(seconds=per * size**power)

    item = Growth(name="x", of="sizes", sizes=(1, 10, 100), side=at, bar=at_most(1))
    (row,) = item.rows(ONCE)
    assert row.value == pytest.approx(power)
    assert row.met is (power <= 1)


def items(options: Options) -> Iterable[Item]:
    yield Figure(name="a figure", unit="ms", take=lambda: Taken(3.0, "why"), bar=at_most(2))
    yield Figure(name="another", unit="ms", take=lambda: Taken(1.0), bar=at_most(2))


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *options])
    frame.run("what it is", items)


def test_below_a_bar_it_fails_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch)
    assert "NOT MET" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--check")
    assert ended.value.code == 1
    run(monkeypatch, "--check", "--only", "another")


def test_the_table_names_what_was_not_met_and_what_was_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "rows.json"
    run(monkeypatch, "--json", str(file))
    kept = {"bench_matching": json.loads(file.read_text()), "bench_kernel": {"left out": "no root"}}
    runs = {"bench_matching": "commit abc", "bench_kernel": ""}
    text: Sequence[str] = results.written({"processor": "a fast one"}, runs, kept).splitlines()
    assert "* processor: a fast one" in text
    assert "`python -m benchmarks.bench_matching`; commit abc" in text
    assert "| a figure |  | 3 ms | 3 to 3 | ≤ 2 | **not met** |" in text
    assert "| another |  | 1 ms | 1 to 1 | ≤ 2 | met |" in text
    assert "* a figure: why" in text
    assert "Left out on this machine: no root" in text


def test_every_benchmark_has_a_heading_and_matching_comes_first() -> None:
    headings = results.benchmarks()
    assert next(iter(headings)) == "bench_matching"
    assert "bench_soak" not in headings
    for name, heading in headings.items():
        assert heading[0].isupper(), name
