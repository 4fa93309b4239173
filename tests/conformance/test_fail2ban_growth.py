"""
How long the next ban lasts: `grown` and fail2ban's own arithmetic, beside each other.

fail2ban hands formulas to eval; ours are read. Where it has no answer (it raises, or comes to
less than nothing) ours is a length of time all the same.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dockerjail.jail.formula import Formula, FormulaError, constant
from dockerjail.jail.growth import CENTURY, Growth, grown
from tests.lab.oracle import Oracle

STOCK = (
    "ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor",
    "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)",
    "ban.Time * (1<<ban.Count)",
    "86400 if ban.Count > 3 else ban.Time",
)
"""fail2ban's own default, the one that jail.conf suggests, and what users write."""

terms = st.recursive(
    st.sampled_from(
        ["ban.Time", "ban.Count", "banFactor", "0", "1", "2", "3", "60", "0.5", "1.25"]
    ),
    lambda inner: st.one_of(
        st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from(["+", "-", "*", "/", "//", "%", "<", "<=", "==", "and", "or"]),
            inner,
        ),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("({} << min(ban.Count, 7))".format, st.integers(0, 9)),
        st.builds("(min(abs({}), 1000) ** 2)".format, inner),
        st.builds(
            "{}({})".format,
            st.sampled_from(["int", "float", "abs", "round", "math.floor", "math.ceil", "not "]),
            inner,
        ),
        st.builds("math.sqrt(abs({}))".format, inner),
        st.builds("math.log(1 + abs({}))".format, inner),
        st.builds("math.exp(min({}, 9))".format, inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner),
    ),
    max_leaves=8,
)
factors = st.none() | st.sampled_from(["1", "2", "0.5", "2.0 / 2.885385", "0.1+0.2", "10"])
lots = st.lists(st.integers(1, 3000), min_size=1, max_size=8)
seconds = st.integers(1, 10**7) | st.floats(1, 1e7)
earlier = st.integers(0, 30) | st.integers(0, 10**6)

EXAMPLES = settings(
    deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def both(
    oracle: Oracle,
    options: dict[str, Any],
    bantime: float,
    earlier: int,
    chance: float = 0.0,
) -> tuple[float, float]:
    """Return what fail2ban says and what we do; `options` are fail2ban's, None is not set."""
    options = {key: value for key, value in options.items() if value is not None}
    growth = Growth(
        factor=constant(options.get("factor", "1")),
        formula=Formula(options["formula"]) if "formula" in options else None,
        multipliers=tuple(map(float, options.get("multipliers", "").split())),
        maxtime=options.get("maxtime"),
        rndtime=options.get("rndtime", 0.0),
    )
    (theirs,) = oracle.grow({"increment": True, **options}, bantime, earlier=earlier, chance=chance)
    if growth.maxtime is None:
        theirs = min(theirs, max(bantime, CENTURY))
    return theirs, grown(float(bantime), growth, earlier, chance)


def test_bans_grow_one_after_the_other_as_fail2bans_do(oracle: Oracle) -> None:
    for options, growth in (
        ({}, Growth()),
        ({"multipliers": "1 5 30 60"}, Growth(multipliers=(1, 5, 30, 60))),
        ({"factor": "3", "maxtime": "1h"}, Growth(factor=3.0, maxtime=3600.0)),
    ):
        theirs = oracle.grow({"increment": True, **options}, 600, bans=["jail"] * 8)
        assert theirs == [grown(600.0, growth, count, 0.0) for count in range(8)]


@EXAMPLES
@given(
    bantime=seconds,
    earlier=earlier,
    factor=factors,
    maxtime=st.none() | seconds,
    rndtime=st.none() | seconds,
    chance=st.floats(0, 1, exclude_max=True),
)
def test_doubling_is_fail2bans(
    oracle: Oracle,
    bantime: float,
    earlier: int,
    factor: str | None,
    maxtime: float | None,
    rndtime: float | None,
    chance: float,
) -> None:
    options = {"factor": factor, "maxtime": maxtime, "rndtime": rndtime}
    theirs, ours = both(oracle, options, bantime, earlier, chance)
    if maxtime is None and rndtime is not None:
        assume(theirs < CENTURY)  # theirs has no end to which chance could be added
    assert ours == pytest.approx(theirs)


@EXAMPLES
@given(bantime=seconds, earlier=earlier, lots=lots, factor=factors, maxtime=st.none() | seconds)
def test_multipliers_are_fail2bans(
    oracle: Oracle,
    bantime: float,
    earlier: int,
    lots: list[int],
    factor: str | None,
    maxtime: float | None,
) -> None:
    written = " ".join(map(str, lots))
    options = {"multipliers": written, "factor": factor, "maxtime": maxtime, "formula": "1"}
    theirs, ours = both(oracle, options, bantime, earlier)
    assert ours == pytest.approx(theirs)


@EXAMPLES
@given(
    bantime=seconds,
    earlier=st.integers(0, 60),
    formula=st.sampled_from(STOCK) | terms,
    factor=factors,
    maxtime=st.none() | seconds,
)
def test_a_formula_says_what_it_says_in_fail2ban(
    oracle: Oracle,
    bantime: float,
    earlier: int,
    formula: str,
    factor: str | None,
    maxtime: float | None,
) -> None:
    options = {"formula": formula, "factor": factor, "maxtime": maxtime}
    try:
        Formula(formula)
    except FormulaError:
        return  # it gives nothing after one, two, three, ten or a hundred bans
    theirs, ours = both(oracle, options, bantime, earlier)
    if maxtime is not None and theirs == bantime != ours:
        # it raised, and fail2ban forgot maxtime too
        assert ours == maxtime
        return
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("options", "theirs", "ours"),
    [
        ({"multipliers": "1 0"}, 0, 600),
        ({"multipliers": "1 2", "factor": "-1"}, -1200, 600),
        ({"formula": "math.exp(ban.Time * 2)"}, 600, CENTURY),
        ({"formula": "math.exp(ban.Time * 2)", "maxtime": 7200}, 600, 7200),
        ({"formula": "1 / (banFactor - 1)"}, 600, 600),
    ],
)
def test_where_fail2ban_comes_to_nothing_a_ban_lasts_all_the_same(
    oracle: Oracle, options: dict[str, Any], theirs: float, ours: float
) -> None:
    assert both(oracle, options, 600, 1) == (theirs, ours)


def test_fail2ban_counts_bans_of_several_jails_more_than_once(oracle: Oracle) -> None:
    """It adds up counts that have each other's in them; ours are the bans that there were."""
    options = {"increment": True, "overalljails": True}
    bans = ["a", "b", "a", "b"]
    assert oracle.grow(options, 600, bans=bans) == [600, 1200, 4800, 38400]
    growth = Growth(overalljails=True)
    assert [grown(600.0, growth, n, 0.0) for n in range(4)] == [600, 1200, 2400, 4800]
    assert oracle.grow(options, 600, bans=["a"] * 4) == [600, 1200, 2400, 4800]
