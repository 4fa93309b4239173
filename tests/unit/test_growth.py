"""How long the next ban lasts."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.jail.formula import Formula
from dockerjail.jail.growth import CENTURY, Growth, grown

DEFAULT = Formula("ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor")

growths = st.builds(
    Growth,
    factor=st.floats(0, 100),
    formula=st.sampled_from(
        [
            None,
            DEFAULT,
            Formula("ban.Time / (banFactor - 2)"),
            Formula("-ban.Count"),
            Formula("1e9"),
        ]
    ),
    multipliers=st.lists(st.floats(0, 1e6), max_size=5).map(tuple),
    maxtime=st.none() | st.floats(1, 1e9),
    rndtime=st.floats(0, 1e5),
)
bantimes = st.floats(1, 1e8)
chances = st.floats(0, 1, exclude_max=True)


def lengths(growth: Growth, bans: int, bantime: float = 600.0, chance: float = 0.0) -> list[float]:
    return [grown(bantime, growth, earlier, chance) for earlier in range(bans)]


def test_bans_double_by_default() -> None:
    assert lengths(Growth(), 5) == [600, 1200, 2400, 4800, 9600]


def test_doubling_ends_at_twenty() -> None:
    assert grown(1.0, Growth(), 20, 0) == grown(1.0, Growth(), 10**6, 0) == 2**20


def test_the_first_multiplier_is_nobodys_and_the_last_is_everybodys_after() -> None:
    growth = Growth(multipliers=(1, 5, 30, 60))
    assert lengths(growth, 6) == [600, 3000, 18000, 36000, 36000, 36000]


def test_multipliers_overrule_a_formula_and_may_shorten() -> None:
    growth = Growth(multipliers=(1, 0.5), formula=Formula("7000"), factor=0.5)
    assert lengths(growth, 2) == [600, 150]


def test_a_formula_never_shortens() -> None:
    assert lengths(Growth(formula=Formula("ban.Count * 500")), 4) == [600, 600, 1000, 1500]


def test_the_first_ban_lasts_bantime_whatever_else_is_set() -> None:
    growth = Growth(maxtime=60.0, rndtime=60.0, multipliers=(9,))
    assert grown(600.0, growth, 0, 0.5) == 600


def test_chance_comes_on_top_of_maxtime() -> None:
    assert grown(600.0, Growth(maxtime=1000.0, rndtime=60.0), 3, 0.5) == 1030


@pytest.mark.parametrize(
    "growth",
    [
        Growth(multipliers=(1, 0)),
        Growth(multipliers=(1, 2), factor=-1.0),
        Growth(multipliers=(1, math.inf), factor=0.0),
        Growth(formula=Formula("ban.Time / (banFactor - 1)")),
        Growth(formula=Formula("-ban.Time * ban.Count")),
        Growth(factor=0.0),
    ],
)
def test_what_is_no_length_of_time_is_the_bantime(growth: Growth) -> None:
    assert grown(600.0, growth, 1, 0) == 600


def test_what_is_more_than_any_number_is_as_long_as_may_be() -> None:
    endless = Growth(formula=Formula("math.exp(ban.Time * ban.Count)"))
    assert grown(3600.0, endless, 1, 0) == CENTURY
    assert grown(3600.0, replace(endless, maxtime=86400.0), 1, 0) == 86400
    assert grown(2 * CENTURY, endless, 1, 0) == 2 * CENTURY


@given(bantimes, st.integers(0, 100), chances, growths)
def test_the_default_formula_written_out_is_the_default(
    bantime: float, earlier: int, chance: float, growth: Growth
) -> None:
    default = replace(growth, formula=None)
    written = replace(growth, formula=DEFAULT)
    assert grown(bantime, default, earlier, chance) == pytest.approx(
        grown(bantime, written, earlier, chance)
    )


@given(bantimes, st.integers(0, 10**6), chances, growths)
def test_a_ban_is_always_some_time_and_never_more_than_is_allowed(
    bantime: float, earlier: int, chance: float, growth: Growth
) -> None:
    length = grown(bantime, growth, earlier, chance)
    assert length > 0
    if earlier:
        assert length <= (growth.maxtime or max(bantime, CENTURY)) + growth.rndtime


@given(bantimes, st.integers(1, 50), st.floats(1, 100), st.none() | st.floats(1e3, 1e9))
def test_who_comes_back_more_often_is_never_banned_for_less(
    bantime: float, bans: int, factor: float, maxtime: float | None
) -> None:
    growth = Growth(factor=factor, maxtime=maxtime)
    found = lengths(growth, bans, bantime)[1:]
    assert found == sorted(found)
