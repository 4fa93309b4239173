"""Whether a clock was set, and how late lines come by it."""

from dockerjail.clock import Steps
from dockerjail.docker.lateness import Lateness


def test_a_clock_that_is_set_is_told_once_by_how_much():
    steps = Steps(2.0)
    assert steps.look(1000.0, 10.0) == 0.0  # there is nothing to compare with yet
    assert steps.look(1005.0, 15.0) == 0.0
    assert steps.look(910.0, 20.0) == -100.0
    assert steps.look(911.0, 21.0) == 0.0
    assert steps.look(1012.0, 22.0) == 100.0


def test_a_clock_that_drifts_is_not_set():
    steps = Steps(2.0)
    assert not any(steps.look(second * 1.01, second) for second in range(0, 1000, 10))


def test_drift_is_told_when_it_has_gathered():
    steps = Steps(2.0, gathers=True)
    told = [steps.look(second * 1.125, second) for second in range(0, 80, 8)]
    assert told == [0.0, 0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0]


def test_what_two_lines_in_a_row_are_late_is_usual():
    lateness = Lateness()
    assert not lateness.lags(0.2, 0.3)
    assert lateness.lags(7.0, 0.3)  # the first says nothing
    assert not lateness.lags(7.1, 0.3)
    assert lateness.offset == 7.1
    assert not lateness.lags(7.3, 0.3)
    assert lateness.lags(9.0, 0.3)


def test_no_line_is_early():
    lateness = Lateness()
    lateness.see(-5.0)
    assert lateness.offset == -5.0
    assert lateness.lags(0.0, 0.3)


def test_what_is_late_behind_much_to_catch_up_on_is_not_usual():
    lateness = Lateness()
    assert lateness.lags(7.0, 0.3)
    lateness.caught_up()
    assert lateness.lags(7.0, 0.3)


def test_nothing_is_usual_any_more_when_this_clock_was_set():
    lateness = Lateness()
    lateness.look(100.0, 0.0)
    lateness.see(-5.0)
    assert lateness.look(100.25, 0.0) == 0.0
    assert lateness.offset == -5.0
    assert lateness.look(40.25, 0.0) == -60.0
    assert lateness.offset == 0.0
