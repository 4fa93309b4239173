"""An offence is maxretry failures within findtime: never before, always then."""

import tracemalloc
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from dockerjail.jail.window import COUNTED, OFTEN, ONCE, TIME, Full, Room, Window
from dockerjail.model import Subject

A: Subject = ip_network("203.0.113.7/32")
B: Subject = ip_network("203.0.113.8/32")


def many(count: int) -> list[Subject]:
    return [ip_network((0x0B000000 + n, 32)) for n in range(count)]


def test_an_offence_is_the_last_of_maxretry_failures() -> None:
    window = Window(3, 600.0)
    assert [window.add(A, at) for at in (0.0, 10.0, 20.0)] == [None, None, Full(3, 20.0)]


def test_the_counter_starts_from_nothing_after_an_offence() -> None:
    window = Window(2, 600.0)
    assert [window.add(A, at) is not None for at in (0.0, 1.0, 2.0, 3.0)] == [False, True] * 2


def test_maxretry_one_is_an_offence_at_once() -> None:
    assert Window(1, 600.0).add(A, 5.0) == Full(1, 5.0)


def test_a_failure_a_findtime_ago_does_not_count() -> None:
    window = Window(2, 600.0)
    window.add(A, 0.0)
    assert window.count(A, 599.0) == 1
    assert window.count(A, 600.0) == 0
    assert window.add(A, 600.0) is None
    assert window.add(A, 1199.0) == Full(2, 1199.0)


def test_what_comes_ten_seconds_late_counts_however_short_the_findtime() -> None:
    window = Window(4, 1.5)
    for at in (100.0, 100.3, 101.0, 104.0, 110.9):
        assert window.add(A, at) is None
    for at in (109.0, 110.0):
        window.add(B, at)
    assert window.add(A, 100.9) == Full(4, 101.0)


def test_a_slow_trickle_is_never_an_offence() -> None:
    window = Window(5, 600.0)
    assert not any(window.add(A, at) for at in range(0, 100000, 150))


def test_subjects_count_apart() -> None:
    window = Window(2, 600.0)
    assert [window.add(s, 0.0) for s in (A, B)] == [None, None]
    assert window.failing(1.0) == 2
    assert window.failing(600.0) == 0


def test_a_late_line_counts_by_its_own_time() -> None:
    window = Window(3, 600.0)
    window.add(A, 100.0)
    window.add(A, 50.0)
    assert window.add(A, 99.0) == Full(3, 100.0)


def test_a_late_line_completes_an_earlier_offence() -> None:
    window = Window(2, 100.0)
    assert window.add(A, 0.0) is None
    assert window.add(A, 150.0) is None
    assert window.add(A, 60.0) == Full(2, 150.0)


def test_new_numbers_count_what_was_counted() -> None:
    window = Window(5, 600.0)
    for at in (0.0, 1.0, 2.0):
        window.add(A, at)
    window.retune(3, 600.0)
    assert window.add(A, 3.0) == Full(4, 3.0)


def test_restored_failures_count_and_make_no_offence() -> None:
    window = Window(3, 600.0)
    window.restore([(A, 0.0), (A, 1.0), (A, 2.0), (A, 3.0)])
    assert window.count(A, 4.0) == 4
    assert window.add(A, 4.0) == Full(5, 4.0)
    assert window.count(A, 4.0) == 0


def test_subjects_that_stopped_failing_are_forgotten() -> None:
    window = Window(5, 600.0)
    for subject in many(1000):
        window.add(subject, 0.0)
    for at in range(1201, 1801):
        window.add(A, float(at) if at % 200 else 1201.0)
    assert len(window) < 10


def test_the_number_of_subjects_is_bounded_and_what_is_forgotten_is_counted() -> None:
    room = Room(100 * ONCE)
    window = Window(2, 600.0, room=room)
    for subject in many(1000):
        window.add(subject, 5.0)
        assert room.used == window.size <= room.most
    assert 90 < len(window) <= 100
    assert window.count(many(1000)[-1], 5.0) == 1
    assert window.forgotten == 1000 - len(window)
    assert window.forgotten_at == 5.0


def test_a_flood_does_not_clear_the_account_of_who_has_failed_before() -> None:
    window = Window(3, 600.0, room=Room(100 * ONCE))
    for at in (0.0, 1.0):
        window.add(A, at)
    for subject in many(5000):
        window.add(subject, 2.0)
    assert window.add(A, 3.0) == Full(3, 3.0)


def test_a_flood_of_pairs_does_not_keep_newcomers_from_being_counted() -> None:
    window = Window(3, 600.0, room=Room(400 * ONCE))
    for subject in many(5000):
        window.add(subject, 1.0)
        window.add(subject, 1.0)
    strangers = [ip_network((0x0C000000 + n, 32)) for n in range(20)]
    for at in (2.0, 3.0):
        for stranger in strangers:
            window.add(stranger, at)
    assert all(window.add(stranger, 4.0) == Full(3, 4.0) for stranger in strangers)


def test_who_floods_one_jail_takes_nothing_from_another() -> None:
    room = Room(1000 * ONCE)
    quiet, flooded, half = (Window(3, 600.0, room=room) for _ in range(3))
    mine = many(300)
    for subject in mine:
        quiet.add(subject, 0.0)
    for number, subject in enumerate(many(100_000)):
        flooded.add(subject, 1.0)
        if number < 200:
            half.add(subject, 1.0)
    assert [quiet.count(subject, 2.0) for subject in mine] == [1] * 300
    assert (quiet.forgotten, half.forgotten) == (0, 0)
    assert flooded.forgotten > 99_000
    assert room.used == quiet.size + flooded.size + half.size <= room.most


def test_a_window_that_is_cleared_gives_its_room_back() -> None:
    room = Room(100 * ONCE)
    window, other = Window(2, 600.0, room=room), Window(2, 600.0, room=room)
    for subject in many(90):
        window.add(subject, 0.0)
    window.clear()
    assert room.used == 0
    for subject in many(90):
        other.add(subject, 0.0)
    assert (len(other), other.forgotten) == (90, 0)


def test_the_bytes_that_a_subject_is_said_to_take_are_what_it_takes() -> None:
    for shift, base in ((32, 0x0B000000), (64, 0x2001 << 112)):
        subjects = [ip_network((base + (n << (shift - 32) * 2), shift)) for n in range(5_000)]
        for failures, limit in ((1, 1.2), (3, 1.3)):
            window = Window(100, 600.0)
            tracemalloc.start()
            for at in range(failures):
                for number, subject in enumerate(subjects):
                    window.add(subject, at + number / 1e6)
            taken, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert len(window) == 5_000
            assert taken < limit * window.size


def test_how_many_fail_is_told_of_a_flood_without_looking_at_all() -> None:
    window = Window(3, 600.0)
    for subject in many(3 * COUNTED):
        window.add(subject, 0.0)
        window.add(subject, 1.0)
    for subject in many(5 * COUNTED)[3 * COUNTED :]:
        window.add(subject, 2.0)
    assert window.failing(3.0) == 2 * COUNTED
    assert window.failing(1000.0) == 0


def test_a_subject_keeps_a_bounded_number_of_times() -> None:
    window = Window(10, 600.0)
    for at in range(0, 600000, 67):
        assert window.add(A, float(at)) is None
        assert window.size < OFTEN + 20 * TIME


times = st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 300)), max_size=60)


@given(times, st.integers(1, 6), st.integers(1, 120))
def test_in_order_an_offence_is_exactly_maxretry_within_findtime(
    events: list[tuple[Subject, int]], maxretry: int, findtime: int
) -> None:
    window = Window(maxretry, float(findtime))
    model: dict[Subject, list[int]] = {A: [], B: []}
    for subject, at in sorted(events, key=lambda e: e[1]):
        model[subject].append(at)
        recent = [t for t in model[subject] if t > at - findtime]
        full = window.add(subject, float(at))
        if len(recent) >= maxretry:
            assert full == Full(maxretry, float(at))
            model[subject] = []
        else:
            assert full is None
            assert window.count(subject, float(at)) == len(recent)
    now = max((at for _, at in events), default=0)
    live = sum(any(t > now - findtime for t in each) for each in model.values())
    assert window.failing(float(now)) == live


@given(times, st.integers(1, 6), st.integers(300, 900))
def test_out_of_order_by_less_than_a_findtime_nothing_is_lost(
    events: list[tuple[Subject, int]], maxretry: int, findtime: int
) -> None:
    window = Window(maxretry, float(findtime))
    counted = {A: 0, B: 0}
    for subject, at in events:
        counted[subject] += 1
        full = window.add(subject, float(at))
        assert (full is not None) == (counted[subject] == maxretry)
        if full is not None:
            counted[subject] = 0


@given(times, st.integers(2, 5), st.integers(10, 60))
def test_in_any_order_an_offence_has_maxretry_failures_within_findtime(
    events: list[tuple[Subject, int]], maxretry: int, findtime: int
) -> None:
    window = Window(maxretry, float(findtime))
    seen: dict[Subject, list[int]] = {A: [], B: []}
    for subject, at in events:
        seen[subject].append(at)
        full = window.add(subject, float(at))
        if full is not None:
            inside = [t for t in seen[subject] if full.at - findtime < t <= full.at]
            assert maxretry <= full.failures <= len(inside)
            assert full.at - findtime < at <= full.at
            seen[subject] = []
