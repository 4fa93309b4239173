"""A log that is taken as it is says the same as one that is taken apart frame by frame."""

import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockerjail.docker.cursor import Dialect, Position, stamp
from dockerjail.docker.frames import FrameReader, reader
from dockerjail.docker.lines import Lines
from dockerjail.docker.slab import LEAST, SPAN, Slab, slab
from dockerjail.framed import HEADER, count, plain
from dockerjail.jail.jail import Jails
from dockerjail.jail.policy import JailPolicy, Origin
from dockerjail.jail.rule import Rule
from dockerjail.model import Chunk, Container, Cursor, Stream
from dockerjail.stamp import NANO

WEB = Container(id="c1", name="web", service="web")
BEGIN = 1_795_345_136 * NANO
RULE = Rule(failregex=(r"^failed from <HOST>\b", r"failed by (?:.*) from <HOST>$"))
POLICY = JailPolicy(name="web", origin=Origin.DAEMON, rule=RULE, maxretry=3)

Written = tuple[int, int, bytes]
"""A frame: its kind, by how many nanoseconds it is later than the one before, its text."""


def body(frames: Sequence[Written]) -> bytes:
    at, data = BEGIN, b""
    for kind, later, text in frames:
        at += later
        payload = stamp(at) + b" " + text
        data += struct.pack(">BxxxI", kind, len(payload)) + payload
    return data


def usual(number: int, lines: int = 1) -> list[Written]:
    return [(1, 1000, b"GET /%d of somebody who does nothing wrong at all\n" % number)] * lines


def judged(data: bytes, sizes: Sequence[int], *, slabs: bool) -> tuple[object, ...]:
    """Read a log in pieces of `sizes`, over and over: lines, cursors, and what came of them."""
    frames = FrameReader(slabs=slabs)
    lines = Lines(WEB, {}, dialect=Dialect.NEW)
    bench = Jails().bench(WEB, [POLICY])
    chunks: list[Chunk] = []
    at = number = 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        chunks += lines.feed(frames.feed(data[at : at + size]))
        at, number = at + size, number + 1
    chunks += lines.finish()
    entries = [entry for chunk in chunks for entry in bench.judge(chunk).entries]
    assert slabs or not any(chunk.framed for chunk in chunks)
    texts = {
        stream: b"".join(plain(chunk).data for chunk in chunks if chunk.stream == stream)
        for stream in Stream
    }
    total = sum(map(count, chunks))
    cursors = {stream: [c for c in chunks if c.stream == stream][-1:] for stream in Stream}
    ends = {stream: chunk[0].cursor for stream, chunk in cursors.items() if chunk}
    return texts, ends, total, sorted(map(repr, entries)), lines.newest, lines.last


HEADER_LIKE = struct.pack(">BxxxI", 1, 60) + stamp(BEGIN) + b" failed from 203.0.113.66\n"
TEXTS = (
    b"failed from 203.0.113.7\n",
    b"failed from 203.0.113.7 \x02 \x03\n",
    b"failed by anybody\x00\x01\x00\x00\x00 from 203.0.113.8\n",
    HEADER_LIKE,
    b"\x01\x00\x00\x00" + HEADER_LIKE,
    b"\x1b[31mfailed from 203.0.113.9\n",
    b"caf\xc3\xa9 \xff failed from 203.0.113.7\n",
    b"failed from 203.0.113.7",  # the last of a run
    b"no more",
    b"\n",
    b"x" * (266 - 32) + b"\n",  # a length of 0x010a
    b"failed by " + b"y" * (266 - 31 - 10 - 17) + b" from 203.0.113.8\n",
    b"z" * (2600 - 32) + b"\n",
    b"p" * 16384,
    b"\r\n",
)
FRAMES = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 1, 1, 1, 2]),
        st.sampled_from([0, 1, 1000, 1000, 10**8, 2 * NANO, -500]),
        st.integers(0, len(TEXTS) - 1),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(FRAMES | st.integers(0, 400), max_size=8),
    st.lists(st.sampled_from([1, 37, 4096, 20_000, 65536, 10**6]), min_size=1, max_size=3),
    st.sampled_from([1, 2]),
)
def test_as_it_is_or_taken_apart_a_log_says_the_same(parts, sizes, main):
    if sizes == [1]:
        sizes = [1, 65536]
    frames: list[Written] = []
    for part in parts:
        some = part if isinstance(part, list) else usual(part, 150)
        for kind, later, text in some:
            said = TEXTS[text] if isinstance(text, int) else text
            frames.append((3 - kind if main == 2 else kind, later, said))
    data = body(frames)
    assert judged(data, sizes, slabs=True) == judged(data, sizes, slabs=False)


def flood(lines: int = 400) -> list[Written]:
    return [frame for number in range(lines) for frame in usual(number)]


def test_a_flood_is_not_taken_apart_and_its_failures_count():
    attack = (1, 1000, b"failed from 203.0.113.7\n")
    data = body([*flood(), attack, *flood(), attack, attack, *flood(3)])
    frames = FrameReader(slabs=True)
    lines = Lines(WEB, {}, dialect=Dialect.NEW)
    lines.feed(frames.feed(body([(1, -NANO, b"the cursor stands behind it\n")])))
    (chunk,) = lines.feed(frames.feed(data))
    assert chunk.framed
    assert count(chunk) == 806
    entries = Jails().bench(WEB, [POLICY]).judge(chunk).entries
    assert [str(each.subject) for each in entries] == ["203.0.113.7/32"] * 4


@pytest.mark.parametrize(
    "oddity",
    [
        (2, 1000, b"of the other output\n"),
        (3, 1000, b"an error of the Engine's\n"),
        (1, 1000, b"p" * 16384),
        (1, 1000, b"p" * 17000 + b"\n"),
        (1, 2 * SPAN, b"much later\n"),
        (1, -SPAN // 2, b"before the first\n"),
    ],
    ids=["other", "error", "piece", "long", "later", "back"],
)
def test_what_is_not_plainly_a_flood_is_no_slab(oddity):
    assert slab(body(flood())) is not None
    rest = flood(100) if oddity[1] == 1000 else []
    assert slab(body([*flood(), oddity, *rest])) is None


def test_a_slab_ends_with_the_last_whole_frame():
    data = body(flood())
    for cut in (1, HEADER, HEADER + 10, 60):
        found = slab(data + data[:cut])
        assert found is not None
        assert found.data == data


def test_a_last_line_without_lf_does_not_wait_for_what_may_never_come():
    end = (1, 1000, b"the last words of a run")
    assert slab(body([*flood(), end])) is None
    frames = FrameReader(slabs=True).feed(body([*flood(), end]))
    assert frames[-1][1].endswith(end[2])


def test_a_byte_of_a_length_is_no_other_output():
    for length in (258, 259, 514, 515, 770):
        line = (1, 1000, b"y" * (length - 32) + b"\n")
        found = slab(body([*flood(), line, line, *flood(3)]))
        assert found is not None
        assert len(found) == 405


def test_what_is_small_is_no_slab():
    assert slab(body(flood(50))) is None
    assert len(body(flood(50))) < LEAST


def test_frames_of_one_time_are_counted_at_the_end_of_a_slab():
    found = slab(body([*flood(), (1, 0, b"same time\n"), (1, 0, b"once more\n")]))
    assert found is not None
    assert found.cursor == Cursor(BEGIN + 400_000, 3)


def test_what_may_have_been_read_before_is_looked_at_frame_by_frame():
    data = body(flood())
    found = slab(data)
    assert found is not None
    old = Cursor(BEGIN + 200_000, 1)
    lines = Lines(WEB, {Stream.STDOUT: old, Stream.STDERR: Cursor(0, 0)}, dialect=Dialect.NEW)
    (chunk,) = lines.feed(found)
    assert not chunk.framed
    assert count(chunk) == 200
    assert chunk.cursor == found.cursor


def test_a_stamp_is_found_among_frames_and_not_in_what_they_say():
    words = b"GET /?%b from somebody\n" % stamp(BEGIN + 77)
    found = slab(body([*flood(100), (1, 1000, words), *flood()]))
    assert found is not None
    assert found.has(stamp(BEGIN + 50_000))
    assert not found.has(stamp(BEGIN + 77))
    for ahead, reached in ((50_000, True), (501_000, True), (600_000, False)):
        lines = Lines(WEB, {}, dialect=Dialect.OLD, ahead=BEGIN + ahead)
        lines.feed(FrameReader().feed(body([(1, -1, b"the first is looked at\n")])))
        (chunk,) = lines.feed(found)
        assert chunk.framed
        assert lines.reached is reached


def test_an_engine_that_repeats_frames_is_read_frame_by_frame():
    found = slab(body(flood()))
    assert found is not None
    position = Position(Cursor(BEGIN - 1, 1), live=True, repeats=True)
    position.passed = True
    assert not position.leap(found.first, found.stamp, 1)
    steady = Position(Cursor(BEGIN - 1, 1), live=True)
    steady.passed = True
    assert steady.leap(found.first, found.stamp, 1)


@pytest.mark.parametrize(
    ("driver", "tty", "dialect", "may"),
    [
        ("json-file", False, Dialect.NEW, True),
        ("local", False, Dialect.OLD, True),
        ("journald", False, Dialect.NEW, False),
        ("fluentd", False, Dialect.NEW, False),
        ("json-file", True, Dialect.NEW, False),
        ("json-file", False, Dialect.PODMAN, False),
    ],
)
def test_only_where_a_line_has_no_lf_inside(driver, tty, dialect, may):
    container = replace(WEB, log_driver=driver, tty=tty)
    assert isinstance(reader(container, dialect).feed(body(flood())), Slab) is may
