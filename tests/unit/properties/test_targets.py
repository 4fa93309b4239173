"""
What is fuzzed holds for what fuzzing began with and has found, and for some bytes more.

`make fuzz` runs the same targets for a million inputs each, guided by what they reach.
"""

import importlib
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.material import BETWEEN, Material, seed
from tests.fuzz.run import TARGETS

SLOW = {"control": 25, "fail2ban": 25, "filters": 40, "settings": 25, "lint": 10}
"""Targets of which a run takes milliseconds, and how often they run here."""

WORDS = st.sampled_from([BETWEEN, b"\n", b" ", b"=", b"[", b"]", b'"', b"'", b"\\", b"(", b"\0"])


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"tests.fuzz.{request.param}")


def test_every_target_holds_for_its_seeds(target: ModuleType) -> None:
    assert target.SEEDS
    for data in target.SEEDS:
        assert len(data) <= target.LONGEST
        target.check(data)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_holds_for_bytes_like_its_seeds(name: str) -> None:
    target = importlib.import_module(f"tests.fuzz.{name}")

    @settings(max_examples=SLOW.get(name, 100), deadline=None, database=None)
    @given(near(target.SEEDS))
    def holds(data: bytes) -> None:
        target.check(data)

    holds()


def near(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Bytes, or a seed in which a piece was replaced."""
    piece = WORDS | st.binary(max_size=8) | st.sampled_from(seeds).map(lambda data: data[:40])
    changed = st.tuples(st.sampled_from(seeds), st.integers(0, 80), st.integers(0, 6), piece).map(
        lambda drawn: drawn[0][: drawn[1]] + drawn[3] + drawn[0][drawn[1] + drawn[2] :]
    )
    return changed | st.binary(max_size=200)


@given(st.lists(st.text("ab\x00 \n"), min_size=1, max_size=4), st.lists(st.integers(0, 9)))
def test_a_seed_is_read_as_it_was_written(texts: list[str], choices: list[int]) -> None:
    material = Material(seed(*texts, choices=choices))
    assert [material.number(9) for _ in choices] == choices
    assert material.texts(len(texts)) == texts
    assert (material.rest(), material.number(9)) == (b"", 0)
