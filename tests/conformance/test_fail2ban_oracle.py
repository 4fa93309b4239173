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

from dockerjail.jail.filter import Filter, read
from dockerjail.jail.memory import Memory
from dockerjail.jail.rule import Rule
from dockerjail.jail.window import Window
from tests.lab.oracle import Asked, Oracle

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


# Connections: lines that share an id

WHO = r"(?: from <HOST>)?(?: id=<F-ID>\S+</F-ID>)?"
USER = r"(?: user=<F-USER>\w+</F-USER>)?(?: or <F-ALT_USER>\w+</F-ALT_USER>)?(?: or else <F-ALT_USER_1>\w+</F-ALT_USER_1>)?"
CONNECTION = Rule(
    prefregex=r"^<F-MLFID>c\d+</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$",
    failregex=tuple(
        rf"^{what}{WHO}{USER}$"
        for what in (
            "<F-NOFAIL>hello</F-NOFAIL>",
            "fail",
            "<F-MLFFORGET>bye</F-MLFFORGET>",
            "<F-NOFAIL><F-MLFFORGET>close</F-MLFFORGET></F-NOFAIL>",
            "<F-MLFGAINED>ok</F-MLFGAINED>",
            "<F-MLFFORGET><F-MLFGAINED>accepted</F-MLFGAINED></F-MLFFORGET>",
        )
    ),
)
steps = st.builds(
    lambda number, what, who, user, wait: (f"c{number}: {what}{who}{user}", wait),
    st.integers(1, 2),
    st.sampled_from(("hello", "fail", "fail", "bye", "close", "ok", "accepted", "noise")),
    st.sampled_from(
        ("", "", " from 203.0.113.7", " from 2001:db8::7", " from evil.test", " id=198.51.100.1")
    ),
    st.sampled_from(
        ("", "", " user=alice", " user=bob", " or carol", " or else dave", " user=eve or frank")
    ),
    st.sampled_from((0, 1, 100, 299, 300, 301)),
)


@given(st.lists(steps, max_size=18))
@settings(deadline=None, max_examples=300)
def test_the_lines_of_a_connection_are_joined_as_fail2ban_joins_them(
    oracle: Oracle, steps: list[tuple[str, int]]
) -> None:
    theirs = oracle.make(CONNECTION)
    judge, memory = Filter(CONNECTION), Memory()
    now = 1_000_000.0
    asked = [Asked(text, now := now + wait, dated=False) for text, wait in steps]
    for (text, at, _), judged in zip(asked, theirs.feed(asked), strict=True):
        ours = judge.judge(read(text, at), memory)
        failures = [hit for hit in judged.hits if hit.id is not None]
        assert (ours is not None) == bool(failures), text
        if ours is None:
            continue
        (failure,) = failures
        assert ours.regex == failure.regex
        assert (str(ours.address) if ours.address else ours.name) == failure.id
        assert ours.fields.get("user") == failure.groups.get("user")
        users = failure.groups.get("users") or []
        assert ours.fields.get("users", "") == (", ".join(users) if len(users) > 1 else "")
        assert (ours.lines or (text,)) == failure.lines


# Several lines at once

SCROLLS = (
    ("^begin from <HOST><SKIPLINES>^denied",),
    ("^begin <F-USER>.*</F-USER>$<SKIPLINES>^denied <HOST>$",),
    ("^begin .*<SKIPLINES>^more<SKIPLINES>^denied <HOST>",),
    (r"^begin .*\n(?:more\n)*denied <HOST>$", "^alone from <HOST>$"),
    ("^alone from <HOST>$<SKIPLINES>^denied", "^denied <HOST>$"),
)
IGNORES: tuple[tuple[str, ...], ...] = ((), ("^more",), ("from 203.0.113.7$",))
scrolled = st.lists(
    st.sampled_from(
        (
            *("begin from 203.0.113.7", "begin bob", "more", "more", "denied", "noise"),
            *("denied 198.51.100.1", "denied 198.51.100.2", "alone from 203.0.113.7"),
        )
    ),
    max_size=14,
)


@given(st.sampled_from(SCROLLS), st.sampled_from(IGNORES), st.integers(2, 6), scrolled)
@settings(deadline=None, max_examples=400)
def test_several_lines_are_seen_at_once_as_fail2ban_sees_them(
    oracle: Oracle,
    failregex: tuple[str, ...],
    ignoreregex: tuple[str, ...],
    maxlines: int,
    lines: list[str],
) -> None:
    rule = Rule(failregex=failregex, ignoreregex=ignoreregex, maxlines=maxlines)
    judge, memory = Filter(rule), Memory(maxlines)
    asked = [Asked(line, dated=False) for line in lines]
    for line, judged in zip(lines, oracle.make(rule).feed(asked), strict=True):
        ours = judge.match(line, memory)
        theirs = [(hit.regex, hit.id, hit.groups.get("user"), hit.lines) for hit in judged.hits]
        assert theirs == (
            []
            if ours is None
            else [(ours.regex, str(ours.address), ours.fields.get("user"), ours.lines or (line,))]
        )
