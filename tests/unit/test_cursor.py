"""Each frame counts once, however often the Engine repeats it."""

from hypothesis import given
from hypothesis import strategies as st

from dockerjail.docker.cursor import (
    Dialect,
    Position,
    Progress,
    Window,
    dialect,
    first_sight,
    narrower,
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


def test_an_old_engine_repeating_the_newest_frame_after_a_rotation_is_not_believed():
    position = Position(Cursor(T, 1), repeats=True)
    assert position.admit(frame(T + 1, b"first of the new file"))
    assert not position.admit(frame(T + 1, b"first of the new file"))
    assert position.admit(frame(T + 1, b"another of that very moment"))
    assert position.admit(frame(T + 2))
    assert position.cursor == Cursor(T + 2, 1)


def test_a_rotation_replay_that_begins_further_back_is_not_believed():
    position = Position(None, repeats=True)
    log = [frame(T + i) for i in range(5)]
    assert all(position.admit(payload) for payload in log)
    assert not any(position.admit(payload) for payload in log[2:])
    assert position.admit(frame(T + 9))


def test_dialects_are_told_by_version():
    assert dialect("20.10.24+dfsg1") is Dialect.OLD
    assert dialect("23.0.0") is dialect("26.1.5+dfsg1") is dialect("29.1") is Dialect.NEW
    assert dialect("Podman 4.3.1") is Dialect.PODMAN
    assert dialect("") is Dialect.NEW


def progress(out=T, err=T, **options):
    cursors = {OUT: Cursor(out, 1), ERR: Cursor(err, 1)}
    return Progress(**{"cursors": cursors, "real": True, "exact": True} | options)


def test_engines_before_23_are_never_asked_with_since():
    for state in (progress(), progress(exact=False), progress(held=T - 5)):
        plan = windows(state, Dialect.OLD)
        assert all(window.since is None for window in plan)
        assert plan[-1] == Window()


def test_podman_is_never_asked_with_tail_and_from_whole_seconds():
    plan = windows(progress(T + 700), Dialect.PODMAN)
    assert [window.tail for window in plan] == [None]
    assert plan[0].since % NANO == 0
    assert plan[0].since < T


def test_every_plan_widens_until_it_is_all_there_is():
    for state in (progress(), progress(exact=False), progress(real=False), progress(held=T - 1)):
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
    state = progress(out=T, err=T - 4 * NANO, exact=False)
    assert not reaches(state, WIDE, OUT, T)
    assert not reaches(state, WIDE, OUT, T - 4 * NANO)
    assert reaches(state, WIDE, OUT, T - 5 * NANO)


def test_a_stream_silent_for_days_does_not_make_resuming_slow():
    state = progress(out=T, err=T - 86400 * NANO, exact=False)
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
    cursors = resumed({OUT: Cursor(T, 3)})
    assert cursors[OUT] == Cursor(T, 3)
    assert T - 15 * NANO < cursors[ERR].ns < T - 10 * NANO


def test_hopping_over_damage_gets_narrower_down_to_one_frame():
    assert [window.tail for window in narrower(256)] == [128, 64, 32, 16, 8, 4, 2, 1]
    assert narrower(1) == ()
    assert narrower(None)[-1] == Window(tail=1)
