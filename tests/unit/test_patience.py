"""What a regex may cost, and what becomes of a jail that costs more."""

from dockerjail.errors import Overdue
from dockerjail.jail.patience import LIMIT, SHORT, STRIKES, SUSPENDED, WITHIN, Patience, Watch

LONG = "x" * (SHORT + 1)


def struck(patience: Patience, text: str, *moments: float) -> list[bool]:
    return [patience.strike(Overdue(), text, at) for at in moments]


def test_a_line_is_overdue_when_it_alone_has_used_up_the_limit() -> None:
    watch = Watch()
    watch.serial, watch.busy = 1, True
    assert not watch.tick(5.0), "it may have begun just now"
    assert not watch.tick(5.0 + LIMIT * 0.9)
    watch.serial = 2
    assert not watch.tick(5.0 + LIMIT * 1.8), "that was another line"
    assert watch.tick(5.0 + LIMIT * 2.9)


def test_what_is_overdue_is_stopped_again_if_it_goes_on_but_not_at_once() -> None:
    watch = Watch()
    watch.serial, watch.busy = 1, True
    ticks = [watch.tick(at * LIMIT * 0.6) for at in range(7)]
    assert ticks == [False, False, True, False, True, False, True]
    watch.busy = False
    assert not watch.tick(LIMIT * 10)


def test_nothing_is_overdue_while_nothing_is_judged() -> None:
    watch = Watch()
    assert not any(watch.tick(at * LIMIT) for at in range(5))


def test_each_tick_gives_others_their_turn() -> None:
    watch = Watch()
    watch.tick(0.0)
    assert watch.due


def test_a_few_overdue_lines_in_a_while_suspend_nobody() -> None:
    patience = Patience()
    moments = [n * (WITHIN / (STRIKES - 1) + 1) for n in range(20)]
    assert not any(struck(patience, LONG, *moments))
    assert patience.admits(10**6, moments[-1])
    assert patience.overdue == 20


def test_long_lines_that_take_too_long_suspend_a_jail_for_long_lines_only() -> None:
    patience = Patience()
    assert struck(patience, LONG, *[100.0] * STRIKES)[-1]
    assert patience.limited
    assert patience.admits(SHORT, 101.0)
    assert not patience.admits(SHORT + 1, 101.0)
    assert patience.judges(101.0) == SHORT
    assert patience.unjudged == 1


def test_short_lines_that_take_too_long_suspend_it_for_all() -> None:
    patience = Patience()
    struck(patience, LONG, *[100.0] * STRIKES)
    struck(patience, "short", *[110.0] * STRIKES)
    assert not patience.admits(1, 111.0)
    assert patience.suspended(111.0) == SUSPENDED - 1.0


def test_a_suspended_jail_is_tried_again() -> None:
    patience = Patience()
    struck(patience, "short", *[100.0] * STRIKES)
    assert not patience.admits(1, 100.0 + SUSPENDED - 0.1)
    assert patience.admits(10**6, 100.0 + SUSPENDED)
    assert not patience.limited
    assert patience.judges(100.0 + SUSPENDED) is None


def test_it_tells_what_took_too_long() -> None:
    patience, overdue = Patience(), Overdue()
    overdue.regex = "failregex 2 'a'"
    patience.strike(overdue, "y" * 5000, 7.0)
    assert (patience.regex, patience.length, patience.last_at) == ("failregex 2 'a'", 5000, 7.0)
    assert 0 < len(patience.sample) < 500
