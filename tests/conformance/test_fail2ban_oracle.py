"""
Decision by decision with fail2ban: random rules, lines, dates and failures, judged by both.

fail2ban 1.0.2 or later answers itself, in a process of its own (`tests/lab/oracle.py`).
Where we differ from it on purpose, the test says exactly when, and asserts what holds
instead.
"""

from collections.abc import Sequence
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockerjail.jail.window import Window
from tests.lab.oracle import Oracle

thorough = settings(deadline=None, max_examples=150)
"""Each example asks about many lines."""


# Counting

FINDTIME = 600.0
CLIENTS = tuple(f"192.0.2.{n}" for n in (1, 2))

failures = st.lists(
    st.tuples(
        st.sampled_from(CLIENTS),
        st.one_of(st.integers(0, 30), st.integers(0, 300), st.just(600), st.integers(500, 1300)),
    ),
    min_size=1,
    max_size=25,
).map(lambda steps: in_order(steps))


def in_order(steps: Sequence[tuple[str, int]]) -> list[tuple[str, float]]:
    """Turn waits into moments."""
    now, found = 1_000_000.0, []
    for who, wait in steps:
        now += wait
        found.append((who, now))
    return found


def ours(maxretry: int, failures: Sequence[tuple[str, float]]) -> list[bool]:
    window = Window(maxretry, FINDTIME)
    return [window.add(ip_network(who), at) is not None for who, at in failures]


@given(maxretry=st.integers(1, 6), failures=failures)
@thorough
def test_failures_within_one_findtime_lead_to_the_same_bans(
    oracle: Oracle, maxretry: int, failures: list[tuple[str, float]]
) -> None:
    start = failures[0][1]
    close = [(who, at) for who, at in failures if at - start < FINDTIME]
    assert ours(maxretry, close) == oracle.count(maxretry, FINDTIME, close)


@given(maxretry=st.integers(1, 6), failures=failures)
@thorough
def test_each_ban_of_ours_is_one_that_fail2ban_makes_of_the_last_failures_alone(
    oracle: Oracle, maxretry: int, failures: list[tuple[str, float]]
) -> None:
    for place, banned in enumerate(ours(maxretry, failures)):
        if banned:
            who = failures[place][0]
            last = [each for each in failures[: place + 1] if each[0] == who][-maxretry:]
            assert oracle.count(maxretry, FINDTIME, last) == [False] * (maxretry - 1) + [True]


@given(maxretry=st.integers(1, 6), failures=failures)
@thorough
def test_a_ban_that_only_fail2ban_makes_counts_failures_a_findtime_old(
    oracle: Oracle, maxretry: int, failures: list[tuple[str, float]]
) -> None:
    for who in CLIENTS:
        alone = [each for each in failures if each[0] == who]
        mine = ours(maxretry, alone)
        began = 0
        for place, banned in enumerate(oracle.count(maxretry, FINDTIME, alone)):
            at = alone[place][1]
            if place > began and alone[place - 1][1] <= at - FINDTIME:
                began = place  # it had forgotten the client
            if banned:
                assert any(mine[began : place + 1]) or at - alone[began][1] >= FINDTIME
                began = place + 1


@pytest.mark.parametrize(
    ("moments", "we", "they"),
    [
        # three within ten minutes: fail2ban scales the first two down to one at 840, and again
        ((0, 540, 840, 1080), True, False),
        # two within ten minutes: fail2ban scales the first two down to 1.8, which is two
        ((0, 120, 660), False, True),
        # a failure that is findtime old counts no more, or still
        ((0, 1, 600), False, True),
    ],
)
def test_the_smallest_differences_in_counting_are_these(
    oracle: Oracle, moments: tuple[int, ...], we: bool, they: bool
) -> None:
    failures = [("192.0.2.1", 1_000_000.0 + at) for at in moments]
    assert any(ours(3, failures)) is we
    assert any(oracle.count(3, FINDTIME, failures)) is they
