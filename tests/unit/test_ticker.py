"""A regex that backtracks, stopped by the real timer in the middle of the real judge."""

import asyncio
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.errors import Overdue
from dockerjail.jail.filter import Filter, Hit
from dockerjail.jail.jail import Bench, Jails, Trial, Verdict
from dockerjail.jail.patience import LIMIT, SHORT, STRIKES, Watch
from dockerjail.jail.policy import JailPolicy, Origin
from dockerjail.jail.rule import Rule
from dockerjail.model import Chunk, Container, Cursor, Failure, Stream
from dockerjail.service.ticker import ticking

EVIL = r"^(?:\w+\s?)*: refused <HOST>$"
"""Takes the age of the universe on forty letters and a `!`."""

HOSTILE = "a" * 40 + "!: refused 203.0.113.9"
GOOD = "bob: refused 203.0.113.7"

SLOW = JailPolicy(name="slow", origin=Origin.DAEMON, rule=Rule(failregex=(r"^no <HOST>$", EVIL)))
QUICK = replace(SLOW, name="quick", rule=Rule(failregex=(r": refused <HOST>$",)))


def container(number: int) -> Container:
    return Container(id=f"{number:064x}", name=f"web-{number}", service=f"web-{number}")


def chunk(number: int, *texts: str) -> Chunk:
    data = b"".join(b"2026-11-22T10:52:40.000000000Z %b\n" % text.encode() for text in texts)
    return Chunk(
        container=container(number), stream=Stream.STDOUT, data=data, cursor=Cursor(10**18, 1)
    )


def addresses(verdict: Verdict, jail: str) -> list[str]:
    failures = [e for e in verdict.entries if isinstance(e, Failure) and e.jail.startswith(jail)]
    return [str(each.subject.network_address) for each in failures]


@pytest.fixture
def jails() -> Iterator[Jails]:
    watch = Watch()
    with ticking(watch, 0.002):
        yield Jails(watch=watch)


def bench(jails: Jails, *policies: JailPolicy, number: int = 0) -> Bench:
    return jails.bench(container(number), policies)


def test_a_line_that_takes_too_long_is_given_up_by_that_jail_alone(jails: Jails) -> None:
    verdict = bench(jails, SLOW, QUICK).judge(chunk(0, GOOD, HOSTILE, GOOD))
    assert addresses(verdict, "slow") == ["203.0.113.7", "203.0.113.7"]
    assert addresses(verdict, "quick") == ["203.0.113.7", "203.0.113.9", "203.0.113.7"]


def test_the_regex_is_named_and_the_line_quoted(jails: Jails) -> None:
    bench(jails, SLOW).judge(chunk(0, HOSTILE))
    found = jails.get("slow@web-0")
    assert found is not None
    assert found.patience.regex == f"failregex 2 '{EVIL}'"
    assert found.patience.sample == HOSTILE


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        (
            Rule(failregex=("<HOST>$",), prefregex=EVIL[:12] + ": <F-CONTENT>.*</F-CONTENT>$"),
            "pref",
        ),
        (Rule(failregex=("<HOST>$",), ignoreregex=(r"^never$", r"^(?:\w+\s?)*$")), "ignoreregex 2"),
        (Rule(failregex=("<HOST>$",), datepattern=(r"^(?:\w+\s?)*: %Y-",)), "datepattern"),
        (Rule(failregex=(EVIL,), maxlines=3), "failregex 1"),
    ],
)
def test_whichever_regex_it_is(jails: Jails, rule: Rule, named: str) -> None:
    bench(jails, replace(SLOW, rule=rule)).judge(chunk(0, HOSTILE))
    found = jails.get("slow@web-0")
    assert found is not None
    assert found.patience.overdue == 1
    assert found.patience.regex.startswith(named)


def test_a_scroll_with_such_a_line_does_not_take_as_long_with_every_line_after_it(
    jails: Jails,
) -> None:
    sits = bench(jails, replace(SLOW, rule=Rule(failregex=(EVIL,), maxlines=5)))
    verdict = sits.judge(chunk(0, HOSTILE, GOOD, GOOD))
    assert addresses(verdict, "slow") == ["203.0.113.7", "203.0.113.7"]


def test_a_jail_to_which_it_happens_again_and_again_is_suspended(jails: Jails) -> None:
    sits = bench(jails, SLOW, QUICK)
    verdict = sits.judge(chunk(0, *[HOSTILE] * (STRIKES + 5), GOOD))
    assert [jail.name for jail in verdict.suspended] == ["slow@web-0"]
    assert not addresses(verdict, "slow"), "its short lines take too long"
    assert len(addresses(verdict, "quick")) == STRIKES + 6
    found = jails.get("slow@web-0")
    assert found is not None
    assert (found.patience.overdue, found.patience.unjudged) == (STRIKES, 6)


def test_long_lines_do_not_keep_a_jail_from_the_short_ones(jails: Jails) -> None:
    verdict = bench(jails, SLOW).judge(
        chunk(0, *["a" * SHORT + HOSTILE] * (STRIKES + 5), GOOD, "b" * SHORT + GOOD)
    )
    assert addresses(verdict, "slow") == ["203.0.113.7"]


async def test_others_have_their_turn_between_such_lines(jails: Jails) -> None:
    order: list[str] = []

    async def judge(sits: Bench, what: Chunk, name: str) -> None:
        for _ in sits.trial(what):
            await asyncio.sleep(0)
        order.append(name)

    hostile, friendly = bench(jails, SLOW), bench(jails, QUICK, number=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(judge(hostile, chunk(0, *[HOSTILE] * STRIKES, *[GOOD] * 5), "hostile"))
        for _ in range(2):
            group.create_task(judge(friendly, chunk(1, GOOD), "friendly"))
    assert order == ["friendly", "friendly", "hostile"]


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_a_verdict_does_not_depend_on_where_others_had_their_turn(turns: list[bool]) -> None:
    watch = Watch()
    texts = [f"bob: refused 203.0.113.{n % 7}" for n in range(60)]
    whole = Jails().bench(container(0), [QUICK]).judge(chunk(0, *texts))
    trial = Jails(watch=watch).bench(container(0), [QUICK]).trial(chunk(0, *texts))
    assert _sliced(trial, watch, iter(turns)) == whole


def _sliced(trial: Trial, watch: Watch, turns: Iterator[bool]) -> Verdict:
    watch.due = next(turns, False)
    for _ in trial:
        watch.due = next(turns, False)
    return trial.verdict


def test_the_timer_goes_with_who_asked_for_it() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with ticking(Watch()):
        assert signal.getitimer(signal.ITIMER_VIRTUAL)[1] > 0
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) == before


def test_nothing_is_raised_outside_of_the_judge() -> None:
    watch = Watch()
    try:
        with ticking(watch, 0.001):
            total = sum(n * n for n in range(500_000))
    except Overdue:
        pytest.fail("the timer stopped what is not the judge's")
    assert watch.due
    assert total > 0


class Collected:
    """Something whose end is told while garbage is collected, where Python drops what is raised."""

    def __del__(self) -> None:
        end = time.thread_time() + 2 * LIMIT
        while time.thread_time() < end:
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_line_is_given_up_though_python_dropped_the_first_word_of_it(
    jails: Jails, monkeypatch: pytest.MonkeyPatch
) -> None:
    sits = bench(jails, SLOW)
    judge = Filter.judge

    def collecting(self: Filter, *words: Any) -> Hit | None:
        Collected()
        return judge(self, *words)

    monkeypatch.setattr(Filter, "judge", collecting)
    sits.judge(chunk(0, HOSTILE))
    found = jails.get("slow@web-0")
    assert found is not None
    assert found.patience.overdue == 1
