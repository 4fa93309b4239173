"""Frames in, chunks of complete lines out; nothing lost, nothing twice."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.docker.cursor import Dialect, Mark, Position, stamp
from dockerjail.docker.lines import Lines
from dockerjail.errors import EngineUnavailable
from dockerjail.model import Container, Cursor, Stream
from dockerjail.stamp import NANO

T = 1_795_000_000 * NANO
OUT, ERR = Stream.STDOUT, Stream.STDERR
WEB = Container(id="c1", name="web", service="web")
JOURNALED = replace(WEB, log_driver="journald")
TERMINAL = Container(id="c2", name="tty", service="tty", tty=True)


def frame(ns, text, kind=OUT):
    return kind, stamp(ns) + b" " + text


def assembly(container=WEB, cursors=None, dialect=Dialect.NEW, **options):
    return Lines(container, cursors or {}, dialect=dialect, **options)


def pieces(ns, text, kind=OUT):
    """A line as the Engine stores it."""
    parts = [text[i : i + 16384] for i in range(0, len(text), 16384)] or [b""]
    if len(parts[-1]) == 16384:
        parts.append(b"")
    parts[-1] += b"\n"
    return [frame(ns, part, kind) for part in parts]


def texts(chunks, stream=OUT):
    data = b"".join(chunk.data for chunk in chunks if chunk.stream is stream)
    return [line[31:] for line in data.split(b"\n")[:-1]]


def test_all_lines_of_one_read_leave_as_one_chunk():
    lines = assembly()
    (chunk,) = lines.feed([frame(T + i, b"line %d\n" % i) for i in range(1000)])
    assert chunk.data.count(b"\n") == 1000
    assert chunk.data.startswith(stamp(T) + b" line 0\n")
    assert chunk.cursor == Cursor(T + 999, 1)
    assert chunk.container is WEB


def test_the_streams_leave_apart():
    chunks = assembly().feed([frame(T, b"o\n"), frame(T + 1, b"e\n", ERR), frame(T + 2, b"p\n")])
    assert [(chunk.stream, chunk.data[31:]) for chunk in chunks] == [
        (OUT, b"o\n" + stamp(T + 2) + b" p\n"),
        (ERR, b"e\n"),
    ]
    assert [chunk.cursor for chunk in chunks] == [Cursor(T + 2, 1), Cursor(T + 1, 1)]


@pytest.mark.parametrize("length", [16383, 16384, 16385, 32768, 50_000])
def test_a_long_line_is_glued_together(length):
    text = bytes(65 + i % 26 for i in range(length))
    lines = assembly()
    chunks = lines.feed([*pieces(T, text), frame(T + 1, b"next\n")])
    assert texts(chunks) == [text, b"next"]
    assert lines.held is None


def test_pieces_without_their_end_are_not_consumed():
    lines = assembly()
    long = pieces(T + 1, b"x" * 20000)
    (chunk,) = lines.feed([frame(T, b"before\n"), long[0]])
    assert chunk.cursor == Cursor(T, 1)
    assert lines.held == T + 1
    (chunk,) = lines.feed(long[1:])
    assert chunk.cursor == Cursor(T + 1, 2)
    assert texts([chunk]) == [b"x" * 20000]


def test_a_line_without_lf_ends_where_another_moment_begins():
    chunks = assembly().feed([frame(T, b"last words"), frame(T + 1, b"new run\n")])
    assert texts(chunks) == [b"last words", b"new run"]


def test_podmans_pieces_are_glued_whatever_their_stamps():
    lines = assembly(dialect=Dialect.PODMAN)
    chunks = lines.feed([frame(T, b"half "), frame(T + NANO, b"and half\n")])
    assert texts(chunks) == [b"half and half"]
    assert chunks[0].data.startswith(stamp(T))
    assert chunks[0].cursor == Cursor(T + NANO, 1)


@pytest.mark.parametrize("dialect", [Dialect.OLD, Dialect.NEW])
def test_journalds_pieces_are_glued_though_each_has_a_stamp_of_its_own(dialect):
    """Else a client could have a line of his own by padding it to where a piece begins."""
    text = b"x" * 16384 + b"y" * 16384 + b"Failed login from 192.0.2.1"
    parts = [payload[31:] for _, payload in pieces(T, text)]
    lines = assembly(JOURNALED, dialect=dialect)
    chunks = lines.feed([frame(T + 1000 * i, part) for i, part in enumerate(parts)])
    assert texts(chunks) == [text]
    assert chunks[0].data.startswith(stamp(T))
    assert chunks[0].cursor == Cursor(T + 2000, 1)


def test_journalds_last_words_without_an_end_are_no_part_of_the_next_line():
    lines = assembly(JOURNALED)
    words = [frame(T, b"x" * 16384), frame(T + 1000, b"panic"), frame(T + 2000, b"next\n")]
    assert texts(lines.feed(words)) == [b"x" * 16384 + b"panic", b"next"]


def test_the_rest_of_a_line_that_podman_threw_away_is_no_line():
    lost = Position(Cursor(T, 1), mark=Mark.LOST)
    lines = Lines(
        replace(WEB, log_options={"max-size": "10MB"}),
        {},
        dialect=Dialect.PODMAN,
        stand={Stream.STDOUT: lost, Stream.STDERR: Position(None)},
    )
    rest = [frame(T + NANO, b"login failed from "), frame(T + NANO, b"192.0.2.1\n")]
    chunks = lines.feed([*rest, frame(T + NANO, b"whole\n")])
    assert texts(chunks) == [b"whole"]
    assert chunks[0].cursor == Cursor(T + NANO, 3)


@pytest.mark.parametrize(("began", "expected"), [(-5, [b"whole"]), (5, [b"first", b"whole"])])
def test_behind_a_consumed_piece_the_rest_is_no_line_unless_a_run_ended_there(began, expected):
    bounded = replace(WEB, log_options={"max-size": "10MB"}, started_at=T / NANO + began)
    stand = {
        Stream.STDOUT: Position(Cursor(T, 1), mark=Mark.FRAME),
        Stream.STDERR: Position(None),
    }
    lines = Lines(bounded, {}, dialect=Dialect.PODMAN, stand=stand)
    log = [frame(T, b"a piece"), frame(T + 9 * NANO, b"first\n"), frame(T + 9 * NANO, b"whole\n")]
    assert texts(lines.feed(log)) == expected


def test_the_old_local_driver_that_drops_the_lf_of_long_lines_is_understood():
    text = b"y" * 16000 + b"z" * 16768
    first, second, last = pieces(T, text)
    chunks = assembly(dialect=Dialect.OLD).feed(
        [first, second, (last[0], last[1].rstrip(b"\n")), frame(T + 1, b"next\n")]
    )
    assert texts(chunks) == [text, b"next"]


def test_at_the_end_of_the_log_a_line_without_lf_counts():
    lines = assembly()
    assert lines.feed([frame(T, b"panic: "), frame(T, b"no newline")]) == []
    (chunk,) = lines.finish()
    assert texts([chunk]) == [b"panic: no newline"]
    assert chunk.cursor == Cursor(T, 2)
    assert lines.finish() == []


def test_a_line_over_the_limit_is_cut_and_counted():
    lines = assembly(limit=20000)
    chunks = lines.feed([*pieces(T, b"a" * 16384 + b"b" * 33616), frame(T + 1, b"next\n")])
    assert texts(chunks) == [b"a" * 16384 + b"b" * 3616, b"next"]
    assert (lines.overlong, lines.dropped) == (1, 30000)


def test_a_single_frame_over_the_limit_is_cut_too():
    lines = assembly(limit=100)
    chunks = lines.feed([frame(T, b"c" * 150 + b"\n"), frame(T + 1, b"d" * 100 + b"\n")])
    assert texts(chunks) == [b"c" * 100, b"d" * 100]
    assert (lines.overlong, lines.dropped) == (1, 50)


def test_bytes_pass_as_they_are():
    text = b"nul \x00 invalid \xff\xfe lone cr \r here\r\n"
    (chunk,) = assembly().feed([frame(T, text)])
    assert chunk.data == stamp(T) + b" " + text


def test_a_terminals_carriage_return_goes():
    (chunk,) = assembly(TERMINAL).feed([frame(T, b"one \r two\r\n"), frame(T + 1, b"three\r\n")])
    assert texts([chunk]) == [b"one \r two", b"three"]


def test_a_terminals_carriage_return_goes_even_between_two_pieces():
    text = b"q" * 16383 + b"\r"
    (chunk,) = assembly(TERMINAL).feed([frame(T, text), frame(T, b"\n")])
    assert chunk.data == stamp(T) + b" " + b"q" * 16383 + b"\n"


def test_a_lf_inside_a_message_makes_no_second_line():
    (chunk,) = assembly().feed([frame(T, b"one\nForged from 192.0.2.1\n"), frame(T + 1, b"two\n")])
    assert texts([chunk]) == [b"one Forged from 192.0.2.1", b"two"]


def test_errors_of_the_engine_are_kept_apart_from_lines():
    lines = assembly()
    chunks = lines.feed([frame(T, b"line\n"), (3, b"Error grabbing logs: bad\n")])
    assert texts(chunks) == [b"line"]
    assert lines.errors == ["Error grabbing logs: bad"]


@pytest.mark.parametrize(
    "rubbish", [(1, b"no stamp here\n"), (1, b"\n"), (2, b"nothing"), (7, b"x")]
)
def test_what_is_no_log_line_is_refused(rubbish):
    with pytest.raises(EngineUnavailable):
        assembly().feed([rubbish])


def test_two_streams_never_leave_in_one_round_of_more_than_ten_seconds():
    log = [frame(T + i * NANO, b"%d\n" % i, OUT if i % 3 else ERR) for i in range(100)]
    chunks = assembly().feed(log)
    assert len(texts(chunks)) + len(texts(chunks, ERR)) == 100
    newest = {OUT: 0, ERR: 0}
    for number, chunk in enumerate(chunks):
        newest[chunk.stream] = chunk.cursor.ns
        unread = [
            int(line.split()[-1])
            for later in chunks[number + 1 :]
            for line in later.data.splitlines()
        ]
        if unread:
            assert T + min(unread) * NANO > max(newest.values()) - 10 * NANO


TEXT = st.one_of(
    st.binary(max_size=60),
    st.integers(16380, 16390).map(lambda n: bytes(65 + i % 26 for i in range(n))),
    st.integers(32000, 50000).map(lambda n: bytes(97 + i % 26 for i in range(n))),
).map(lambda text: text.replace(b"\n", b" "))


@given(
    log=st.lists(
        st.tuples(st.sampled_from((OUT, ERR)), TEXT, st.sampled_from((1, 1000, 12 * NANO))),
        max_size=12,
    ),
    data=st.data(),
)
def test_however_often_it_is_cut_each_line_is_delivered_once(log, data):
    frames, moment = [], T
    for kind, text, gap in log:
        moment += gap
        frames += pieces(moment, text, kind)
    got, cursors = {OUT: [], ERR: []}, {}
    for stop in [*data.draw(st.lists(st.integers(0, len(frames)), max_size=5)), len(frames)]:
        lines = assembly(cursors=cursors)
        middle = data.draw(st.integers(0, stop))
        for part in (frames[:middle], frames[middle:stop]):
            for chunk in lines.feed(part):
                got[chunk.stream] += texts([chunk], chunk.stream)
                cursors[chunk.stream] = chunk.cursor
    for stream in Stream:
        assert got[stream] == [text for kind, text, _ in log if kind == stream]
