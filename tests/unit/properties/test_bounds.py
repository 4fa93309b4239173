"""Whoever comes with many addresses, connections or lines fills nothing."""

from collections import defaultdict
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from dockerjail.jail.memory import LINES, LONGEST, NAMES, TOGETHER, Memory, Scroll
from dockerjail.jail.window import ONCE, Room, Window
from dockerjail.model import Subject

SUBJECTS: list[Subject] = [ip_network((0x0B000000 + number, 32)) for number in range(40)]

FAILURES = st.lists(st.tuples(st.sampled_from(SUBJECTS), st.integers(0, 5000)), max_size=120)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(SUBJECTS), st.integers(0, 5000))),
    st.integers(1, 6),
    st.integers(1, 2000),
    st.integers(4000, 9000),
)
def test_windows_share_their_room_whatever_the_order(failures, maxretry, findtime, most):
    room = Room(most)
    windows = [Window(retries, float(findtime), room=room) for retries in (maxretry, 20)]
    for which, subject, at in failures:
        windows[which].add(subject, float(at))
        assert room.used == sum(window.size for window in windows)
        assert room.used <= most
        assert all(window.size >= ONCE * len(window) for window in windows)


@given(FAILURES, st.integers(1, 6), st.integers(1, 2000))
def test_a_window_does_in_order_what_a_list_of_all_failures_does(failures, maxretry, findtime):
    window = Window(maxretry, float(findtime))
    naive: dict[Subject, list[int]] = defaultdict(list)
    for subject, at in sorted(failures, key=lambda failure: failure[1]):
        naive[subject].append(at)
        counted = [t for t in naive[subject] if t > at - findtime]
        assert (window.add(subject, float(at)) is not None) == (len(counted) >= maxretry)
        if len(counted) >= maxretry:
            naive[subject].clear()


WORDS = st.sampled_from(["", "a", "b" * 5000, None])
FOUND = st.fixed_dictionaries(
    {"mlfid": st.sampled_from([f"{number}" for number in range(30)] + ["x" * 3000])},
    optional={
        "user": st.integers(0, 60).map(str) | WORDS,
        "ip4": WORDS,
        "nofail": WORDS,
        "mlfgained": WORDS,
        "mlfforget": WORDS,
        "other": WORDS,
    },
)


@given(st.lists(st.tuples(FOUND, st.text(max_size=3), st.floats(-1e4, 1e4)), max_size=60))
def test_a_memory_of_connections_is_bounded_in_every_direction(lines):
    memory = Memory()
    for found, text, at in lines:
        joined = memory.join(found, text * 2000, at)
        for key, session in memory.sessions():
            assert len(key) <= LONGEST
            assert len(session.users) <= NAMES
            assert len(session.lines) <= LINES
            assert len(session.aside) <= LINES
            kept = (*session.users, *session.lines, *session.aside, *session.groups.values())
            assert all(len(each or "") <= LONGEST for each in kept)
        assert joined is None or (len(joined.lines) <= LINES and len(joined.users) <= NAMES)


@given(st.lists(st.integers(0, 40_000), max_size=12), st.integers(1, 5))
def test_a_scroll_keeps_its_last_lines_within_its_bounds(sizes, most):
    scroll = Scroll(most)
    for number, size in enumerate(sizes):
        line = f"{number % 10}" * size + "\n"
        text = scroll.add(line)
        assert text.endswith(line)
        assert len(scroll.lines) <= most
        assert len(text) <= TOGETHER or len(scroll.lines) == 1
