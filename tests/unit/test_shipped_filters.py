"""Every shipped filter catches and lets pass the lines that it is shipped with."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

import dockerjail
from dockerjail.config.filters import parse
from dockerjail.config.options import RULE
from dockerjail.jail.filter import Filter
from tests.lab import filters_page
from tests.unit.engines import sieves

FILTERS = Path(dockerjail.__file__).parent / "filters"
FILES = sorted(FILTERS.glob("*.toml"))
STAMP = "2026-11-22T10:52:40.409746684Z "


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def compiled(path: Path) -> Filter:
    return Filter(parse(read(path)))


def lines_of(kind: str) -> list[Any]:
    return [
        pytest.param(path, each, id=f"{path.stem}-{kind}-{number}")
        for path in FILES
        for number, each in enumerate(read(path)[kind], start=1)
    ]


def test_there_are_filters() -> None:
    assert len(FILES) >= 10


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_filter_says_what_it_is_for_and_how_it_is_known(path: Path) -> None:
    data = read(path)
    assert set(data) <= {"description", "source", "stream", "catch", "pass", *RULE}
    assert data["description"]
    assert data["source"]
    assert all(set(each) == {"line", "address"} for each in data["catch"])
    assert all(set(each) == {"line", "why"} for each in data["pass"])
    assert len(data["pass"]) >= 3


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_filter_has_a_line_in_which_an_attacker_chose_the_text(path: Path) -> None:
    data = read(path)
    lines = [each["line"] for kind in ("catch", "pass") for each in data[kind]]
    assert any("198.51.100.1" in line for line in lines)
    assert not any(each["address"].startswith("198.51.100.") for each in data["catch"])


@pytest.mark.parametrize(("path", "each"), lines_of("catch"))
def test_it_catches(path: Path, each: dict[str, str]) -> None:
    hit = compiled(path).match(each["line"].rstrip("\r"))
    assert hit is not None
    assert str(hit.address) == each["address"]


@pytest.mark.parametrize(("path", "each"), lines_of("pass"))
def test_it_lets_pass(path: Path, each: dict[str, str]) -> None:
    hit = compiled(path).match(each["line"])
    assert hit is None or hit.address is None, each["why"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_failregex_is_needed_for_a_line(path: Path) -> None:
    each, data = compiled(path), read(path)
    used = {each.match(catch["line"]).regex for catch in data["catch"]}  # type: ignore[union-attr]
    assert used == (set(range(len(data.get("failregex", ())))) or {-1})


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_sieve_holds_back_no_line_and_can_hold_back_others(path: Path) -> None:
    catch = [f"{STAMP}{each['line']}\n".encode() for each in read(path)["catch"]]
    for sieve in sieves([compiled(path)]):
        assert not sieve.always
        assert all(map(sieve.candidates, catch))
        assert len(sieve.candidates(b"".join(catch))) == len(catch)
        assert not sieve.candidates(f"{STAMP}nothing to see here\n".encode())


@pytest.mark.parametrize(("path", "each"), lines_of("catch"))
def test_long_hostile_text_does_not_stall_it(path: Path, each: dict[str, str]) -> None:
    judge = compiled(path)
    for stuff in ("a", " ", '"', "[", "203.0.113.7 ", " from ", "1.1.1.1.", "::", "\\"):
        line = each["line"]
        judge.match(line + stuff * (2000 // len(stuff)) + "\x00")
        judge.match(stuff * (2000 // len(stuff)) + line)


def test_the_documentation_lists_every_shipped_filter() -> None:
    remedy = "run python -m tests.lab.filters_page"
    assert filters_page.table() in filters_page.PAGE.read_text(encoding="utf-8"), remedy
