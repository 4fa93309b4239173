"""Each frame counts once, however often the Engine repeats it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.docker.cursor import (
    Dialect,
    Mark,
    Position,
    Progress,
    Window,
    dialect,
    first_sight,
    narrower,
    positions,
    reaches,
    resumed,
    stamp,
    windows,
)
from dockerjail.model import Cursor, Stream
from dockerjail.stamp import NANO, nanoseconds

T = 1_795_000_000 * NANO
OUT, ERR = Stream.STDOUT, Stream.STDERR


WIDE, TINY = Window(tail=256), Window(tail=8)


def frame(ns, text=b"line"):
    return stamp(ns) + b" " + text + b"\n"


@given(st.integers(0, 4_000_000_000 * NANO))
def test_a_stamp_is_read_as_it_was_written(ns):
    assert len(stamp(ns)) == 30
    assert nanoseconds(stamp(ns)) == ns


@given(
    gaps=st.lists(st.sampled_from((0, 0, 1, 500, NANO)), min_size=1, max_size=60),
    data=st.data(),
)
def test_after_any_stop_each_frame_is_admitted_exactly_once(gaps, data):
    moments = [T + sum(gaps[: i + 1]) for i in range(len(gaps))]
    log = [frame(ns, b"%d" % i) for i, ns in enumerate(moments)]
    got, cursor = [], None
    while len(got) < len(log):
        position = Position(cursor)
        new = [payload for payload in log if position.admit(payload)]
        taken = data.draw(st.integers(1, len(new)))
        position = Position(cursor)
        for payload in log:
            if taken and position.admit(payload):
                got.append(payload)
                taken -= 1
        cursor = position_after(cursor, log, len(got))
    assert got == log


def position_after(cursor, log, count):
    position = Position(None)
    for payload in log[:count]:
        position.admit(payload)
    return position.cursor


def test_frames_of_one_second_are_counted_as_podman_stamps_them():
    log = [b"2026-11-22T12:18:56+01:00 %d\n" % i for i in range(900)]
    position = Position(Cursor(nanoseconds(b"2026-11-22T11:18:56Z"), 400))
    assert [payload for payload in log if position.admit(payload)] == log[400:]
    assert position.cursor == Cursor(nanoseconds(b"2026-11-22T11:18:56Z"), 900)


def live(cursor=None, **options):
    return Position(cursor, live=True, repeats=True, **options)


def test_an_old_engine_repeating_the_newest_frame_live_leaves_doubt():
    position = live(Cursor(T, 1))
    assert position.admit(frame(T + 1, b"first of the new file"))
    assert position.admit(frame(T + 1, b"another of that very moment"))
    assert not position.doubtful
    assert not position.admit(frame(T + 1, b"first of the new file"))
    assert position.doubtful


def test_an_old_engine_repeating_the_frame_that_was_resumed_at_leaves_doubt():
    position = live(Cursor(T, 1), mark=Mark.FRAME)
    assert not position.admit(frame(T, b"resumed at"))
    assert not position.admit(frame(T, b"resumed at"))
    assert position.doubtful


def test_alike_frames_of_one_moment_count_where_nothing_is_repeated():
    position = Position(None, repeats=True)
    assert [position.admit(frame(T, b"A" * 16384)) for _ in range(5)] == [True] * 5
    again = Position(position.cursor, mark=Mark.FRAME, repeats=True)
    assert [again.admit(frame(T, b"A" * 16384)) for _ in range(7)] == [False] * 5 + [True] * 2


def test_what_is_remembered_of_a_line_of_gigabytes_is_bounded():
    position = live()
    admitted = sum(position.admit(frame(T, b"%d" % n)) for n in range(5000))
    assert admitted < 5000
    assert position.doubtful


def test_a_rotation_replay_that_begins_further_back_leaves_doubt():
    position = live()
    log = [frame(T + i) for i in range(5)]
    assert all(position.admit(payload) for payload in log)
    assert not position.admit(log[2])
    assert position.doubtful


DAY = 86400 * NANO
STEPPED = [T - 2, T - 1, T, T - DAY, T - DAY + 1, T - 1, T, T + 1]
"""A log over whose fourth frame the clock was set back by a day; time has caught up at the end."""


@pytest.mark.parametrize("taken", range(1, len(STEPPED)))
def test_what_stands_behind_the_cursors_frame_is_new_whatever_the_clock_said(taken):
    moments = [ns + i * 10 for i, ns in enumerate(STEPPED)]
    log = [frame(ns, b"%d" % i) for i, ns in enumerate(moments)]
    position = Position(Cursor(moments[taken - 1], 1), mark=Mark.FRAME)
    assert [payload for payload in log if position.admit(payload)] == log[taken:]
    assert position.found
    assert position.cursor == Cursor(moments[-1], 1)
    assert position.regressed is (taken < 4 or moments[taken - 1] < max(moments[:taken]))


def test_a_window_without_the_cursors_frame_shows_nothing_and_says_so():
    position = Position(Cursor(T, 1), mark=Mark.FRAME)
    assert not any(position.admit(frame(ns)) for ns in (T - DAY, T - DAY + 1, T + 1))
    assert not position.found


def test_a_stream_that_is_led_is_new_behind_the_leaders_frame():
    leader = Position(Cursor(T, 1), mark=Mark.FRAME)
    led = Position(Cursor(T - DAY, 1), mark=Mark.FRAME, leader=leader)
    assert not led.admit(frame(T - 5))
    assert not led.found
    assert not leader.admit(frame(T))
    assert led.found
    assert led.admit(frame(T + 1))


def test_a_stream_of_which_nothing_was_consumed_is_new_behind_the_others_frame():
    stand = positions(Progress(cursors=resumed({OUT: Cursor(T, 1)})[0], real=True))
    assert not stand[ERR].admit(frame(T - DAY))
    assert not stand[OUT].admit(frame(T))
    assert stand[ERR].admit(frame(T - DAY + 1))
    assert stand[ERR].admit(frame(T - DAY + 2))


def test_a_stream_whose_frame_is_before_the_window_goes_by_its_stamps():
    leader = Position(Cursor(T, 1), mark=Mark.FRAME)
    options = {"mark": Mark.EITHER, "leader": leader, "ceiling": T + NANO}
    quiet = Position(Cursor(T - DAY, 1), **options)
    assert not quiet.admit(frame(T + 2 * NANO))  # from before a step: not yet
    leader.admit(frame(T))
    assert not quiet.found
    quiet = Position(Cursor(T - DAY, 1), **options)
    assert quiet.admit(frame(T - 5))
    assert quiet.found


def test_a_stream_with_older_frames_and_without_its_own_is_not_believed():
    leader = Position(Cursor(T, 1), mark=Mark.FRAME)
    quiet = Position(Cursor(T - 50, 1), mark=Mark.EITHER, leader=leader, ceiling=T + NANO)
    assert not any(quiet.admit(frame(ns)) for ns in (T - 60, T - 40))
    assert not quiet.found


def test_of_a_lost_stream_what_is_later_or_behind_a_step_is_new():
    later = Position(Cursor(T, 1), mark=Mark.LOST)
    assert [later.admit(frame(T + d)) for d in (-9, -8, 5, 6)] == [False, False, True, True]
    back = Position(Cursor(T, 1), mark=Mark.LOST)
    steps = (-9, -8, -DAY, 6 - DAY, 5)
    assert [back.admit(frame(T + d)) for d in steps] == [False, False, True, True, True]
    ahead = Position(Cursor(T, 1), mark=Mark.ALL)
    assert [ahead.admit(frame(T + d)) for d in (-DAY, 1 - DAY)] == [True, True]


def test_only_lost_streams_and_podmans_are_asked_for_without_a_time_when_the_clock_was_set():
    assert windows(progress(lost=frozenset({OUT})), Dialect.NEW, reset=True) == (Window(),)
    assert windows(progress(), Dialect.PODMAN, reset=True) == (Window(),)
    assert windows(progress(), Dialect.NEW, reset=True) == windows(progress(), Dialect.NEW)


def test_a_cursor_is_ahead_when_its_time_has_not_come():
    assert progress().ahead(T / NANO - 60) == {OUT, ERR}
    assert progress(err=T - DAY).ahead(T / NANO - 60) == {OUT}
    assert progress().ahead(T / NANO) == frozenset()


def test_dialects_are_told_by_version():
    assert dialect("20.10.24+dfsg1") is Dialect.OLD
    assert dialect("23.0.0") is dialect("26.1.5+dfsg1") is dialect("29.1") is Dialect.NEW
    assert dialect("Podman 4.3.1") is Dialect.PODMAN
    assert dialect("") is Dialect.NEW


def progress(out=T, err=T, **options):
    cursors = {OUT: Cursor(out, 1), ERR: Cursor(err, 1)}
    last = OUT if out >= err else ERR
    return Progress(**{"cursors": cursors, "real": True, "last": last} | options)


def test_engines_before_23_are_never_asked_with_since():
    for state in (progress(), progress(last=None), progress(held=T - 5)):
        plan = windows(state, Dialect.OLD)
        assert all(window.since is None for window in plan)
        assert plan[-1] == Window()


def test_podman_is_never_followed_with_a_tail_and_asked_from_whole_seconds():
    (window,) = windows(progress(T + 700), Dialect.PODMAN, follow=True)
    assert window.tail is None
    assert window.since % NANO == 0
    assert window.since < T


def test_a_read_of_podmans_log_begins_at_its_end():
    *narrow, widest = windows(progress(T + 700), Dialect.PODMAN)
    assert [(w.tail, w.since) for w in narrow] == [(256, None), (8192, None), (262144, None)]
    assert widest.tail is None


def test_a_window_of_podmans_that_may_begin_amid_a_second_is_too_narrow():
    state = progress(T)
    assert not reaches(state, WIDE, OUT, T, Dialect.PODMAN)
    assert not reaches(state, WIDE, OUT, T - NANO, Dialect.PODMAN)
    assert reaches(state, WIDE, OUT, T - 2 * NANO, Dialect.PODMAN)


def test_every_plan_widens_until_it_is_all_there_is():
    for state in (progress(), progress(last=None), progress(real=False), progress(held=T - 1)):
        *narrow, widest = windows(state, Dialect.NEW)
        assert widest.tail is None
        assert [window.tail for window in narrow] == sorted(window.tail for window in narrow)


def test_a_window_is_good_when_its_first_frame_was_consumed():
    assert reaches(progress(), WIDE, OUT, T)
    assert not reaches(progress(), WIDE, OUT, T + 1)


def test_frames_that_share_the_newest_stamp_are_counted_from_a_wider_window():
    assert reaches(progress(), TINY, OUT, T - 1)
    assert not reaches(progress(), TINY, OUT, T)


def test_a_frame_of_the_other_stream_between_the_cursors_is_no_proof():
    assert not reaches(progress(out=T, err=T - 3), WIDE, ERR, T - 1)


def test_cursors_that_may_not_belong_together_are_resumed_behind_the_older():
    state = progress(out=T, err=T - 4 * NANO, last=None)
    assert not reaches(state, WIDE, OUT, T)
    assert not reaches(state, WIDE, OUT, T - 4 * NANO)
    assert reaches(state, WIDE, OUT, T - 5 * NANO)


def test_a_stream_silent_for_days_does_not_make_resuming_slow():
    state = progress(out=T, err=T - 86400 * NANO, last=None)
    assert reaches(state, WIDE, OUT, T - 15 * NANO)


def test_a_piece_that_waits_for_its_end_is_read_again():
    state = progress(held=T - 60 * NANO)
    assert not reaches(state, WIDE, OUT, T)
    assert reaches(state, WIDE, OUT, T - 62 * NANO)
    assert all(w.since is None or w.since < T - 60 * NANO for w in windows(state, Dialect.NEW))


def test_first_sight_claims_nothing_before_its_moment():
    cursors = first_sight(1000.5)
    position = Position(cursors[ERR])
    assert not position.admit(frame(1000 * NANO))
    assert position.admit(frame(1000 * NANO + NANO // 2))


def test_a_stream_without_a_stored_cursor_starts_a_round_before_the_other():
    cursors, _ = resumed({OUT: Cursor(T, 3)})
    assert cursors[OUT] == Cursor(T, 3)
    assert T - 15 * NANO < cursors[ERR].ns < T - 10 * NANO


def test_hopping_over_damage_gets_narrower_down_to_one_frame():
    assert [window.tail for window in narrower(256)] == [128, 64, 32, 16, 8, 4, 2, 1]
    assert narrower(1) == ()
    assert narrower(None)[-1] == Window(tail=1)
