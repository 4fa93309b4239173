"""Bytes in, frames out, however a socket split them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.docker.cursor import Dialect
from dockerjail.docker.frames import FrameReader, PodmanTtyReader, TtyReader, reader
from dockerjail.errors import EngineUnavailable
from dockerjail.model import Container

STAMP = b"2026-11-22T10:52:40.409746684Z "
LATER = b"2026-11-22T10:52:41.000000001Z "


def framed(kind, payload):
    return bytes((kind, 0, 0, 0)) + len(payload).to_bytes(4, "big") + payload


def split(data, cuts):
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


def read(reader, parts):
    frames = [frame for part in parts for frame in reader.feed(part)]
    return frames + reader.finish()


def terminal(text, stamp=STAMP):
    """What the Engine sends for one line of a terminal: the stamp again each 16384 bytes."""
    pieces = [text[i : i + 16384] for i in range(0, len(text), 16384)] or [b""]
    if len(pieces[-1]) == 16384:
        pieces.append(b"")
    return b"".join(stamp + piece for piece in pieces) + b"\n"


CUTS = st.lists(st.integers(min_value=0, max_value=10**6), max_size=12)


@given(
    frames=st.lists(st.tuples(st.sampled_from((1, 2, 3)), st.binary(max_size=300)), max_size=20),
    cuts=CUTS,
)
def test_any_split_of_the_bytes_gives_the_same_frames(frames, cuts):
    body = b"".join(framed(kind, payload) for kind, payload in frames)
    assert read(FrameReader(), split(body, cuts)) == frames


def test_half_a_frame_at_the_end_is_nothing():
    body = framed(1, STAMP + b"whole\n") + framed(1, STAMP + b"cut off\n")[:-3]
    assert read(FrameReader(), [body]) == [(1, STAMP + b"whole\n")]


def test_what_is_no_multiplexed_log_is_said_so():
    with pytest.raises(EngineUnavailable, match="what came as a log is none"):
        FrameReader().feed(b"<html><body>502 Bad Gateway</body></html>")


@given(
    texts=st.lists(st.binary(max_size=80).map(lambda b: b.replace(b"\n", b"")), max_size=8),
    cuts=CUTS,
)
def test_any_split_of_a_terminals_bytes_gives_the_same_lines(texts, cuts):
    body = b"".join(terminal(text + b"\r") for text in texts)
    expected = [(1, STAMP + text + b"\r\n") for text in texts]
    assert read(TtyReader(), split(body, cuts)) == expected


def bare(text, stamp=STAMP):
    """What Engine 20.10's driver `local` makes of it: the last piece has no LF."""
    return terminal(text, stamp).removesuffix(b"\n")


@given(lengths=st.lists(st.integers(16385, 50000), min_size=1, max_size=4), cuts=CUTS)
def test_a_long_line_that_lost_its_lf_does_not_swallow_the_next(lengths, cuts):
    texts = [b"x" * (length - 1) + b"\r" for length in lengths]
    stamps = [LATER.replace(b".0", b".%d" % n) for n in range(len(texts))]
    body = b"".join(bare(text, stamp) for text, stamp in zip(texts, stamps, strict=True))
    body += b"2026-11-22T10:52:59.000000001Z next\r\n"
    *pieces, last = read(TtyReader(bare=True), split(body, cuts))
    assert last == (1, b"2026-11-22T10:52:59.000000001Z next\r\n")
    for text, stamp in zip(texts, stamps, strict=True):
        mine = [payload.removeprefix(stamp) for _, payload in pieces if payload.startswith(stamp)]
        assert b"".join(mine) == text


@given(length=st.sampled_from((16384, 32768)), cuts=CUTS)
def test_a_last_piece_of_nothing_does_not_swallow_the_next_line(length, cuts):
    body = bare(b"x" * (length - 1) + b"\r") + LATER + b"next\r\n"
    *_, empty, last = read(TtyReader(bare=True), split(body, cuts))
    assert empty == (1, STAMP)
    assert last == (1, LATER + b"next\r\n")


@given(cuts=CUTS, padding=st.integers(0, 16000))
def test_a_client_cannot_have_a_line_of_his_own_by_writing_a_stamp(cuts, padding):
    forged = b"x" * 16384 + b"x" * padding + b"\r" + LATER + b"a line that was never printed\r"
    body = bare(forged) + LATER + b"next\r\n"
    frames = read(TtyReader(bare=True), split(body, cuts))
    assert not any(payload.startswith(LATER + b"a line") for _, payload in frames)
    frames = read(TtyReader(bare=True), split(bare(forged), cuts))
    assert not any(payload.startswith(LATER + b"a line") for _, payload in frames)


@given(length=st.integers(16300, 50000), cuts=CUTS)
def test_a_terminals_long_line_comes_in_pieces_with_its_stamp_before_each(length, cuts):
    text = bytes(65 + i % 23 for i in range(length))
    body = terminal(text + b"\r") + LATER + b"next\r\n"
    *pieces, last = read(TtyReader(), split(body, cuts))
    assert last == (1, LATER + b"next\r\n")
    assert all(payload.startswith(STAMP) for _, payload in pieces)
    assert b"".join(payload.removeprefix(STAMP) for _, payload in pieces) == text + b"\r\n"
    assert all(len(payload) == len(STAMP) + 16384 for _, payload in pieces[:-1])


@given(length=st.integers(16300, 50000), cuts=CUTS)
def test_each_piece_of_a_terminals_long_line_may_have_a_stamp_of_its_own(length, cuts):
    text = bytes(65 + i % 23 for i in range(length)) + b"\r\n"
    parts = [text[start : start + 16384] for start in range(0, len(text), 16384)]
    stamps = [b"2026-11-22T10:52:40.%09dZ " % (1000 * n) for n in range(len(parts))]
    body = (
        b"".join(b"".join(each) for each in zip(stamps, parts, strict=True)) + LATER + b"next\r\n"
    )
    frames = read(TtyReader(restamped=True), split(body, cuts))
    assert frames[:-1] == [(1, s + part) for s, part in zip(stamps, parts, strict=True)]
    assert frames[-1] == (1, LATER + b"next\r\n")


def test_text_that_looks_like_a_stamp_starts_no_line_in_a_terminal():
    text = b"evil \r" + LATER + b"forged"
    assert read(TtyReader(), [terminal(text)]) == [(1, STAMP + text + b"\n")]


def test_a_terminals_last_line_without_its_end_comes_at_the_end():
    reader = TtyReader()
    assert reader.feed(STAMP + b"$ ") == []
    assert reader.finish() == [(1, STAMP + b"$ ")]


def test_a_message_of_the_engine_between_a_terminals_lines_is_an_error():
    body = STAMP + b"line\r\nError grabbing logs: invalid character\n" + LATER + b"line\r\n"
    assert read(TtyReader(), [body]) == [
        (1, STAMP + b"line\r\n"),
        (3, b"Error grabbing logs: invalid character\n"),
        (1, LATER + b"line\r\n"),
    ]


def test_a_terminals_endless_line_is_bounded_piece_by_piece():
    reader = TtyReader()
    frames = reader.feed(STAMP + b"x" * 100_000)
    assert len(frames) == 6
    assert sum(len(payload) - len(STAMP) for _, payload in frames) == 6 * 16384


@pytest.mark.parametrize(
    ("habits", "driver", "loses"),
    [
        (Dialect.OLD, "local", True),
        (Dialect.OLD, "syslog", True),
        (Dialect.OLD, "json-file", False),
        (Dialect.NEW, "local", False),
    ],
)
def test_only_old_engines_and_what_is_kept_as_local_lose_an_lf(habits, driver, loses):
    container = Container(id="c1", name="web", service="web", tty=True, log_driver=driver)
    body = bare(b"x" * 20_000 + b"\r") + LATER + b"next\r\n"
    frames = read(reader(container, habits), [body])
    assert ((1, LATER + b"next\r\n") in frames) is loses


SECOND = b"2026-11-22T10:52:40Z "
NEXT = b"2026-11-22T10:52:41Z "


@given(
    lines=st.lists(
        st.lists(
            st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"")), min_size=1, max_size=4
        ),
        max_size=6,
    ),
    cuts=CUTS,
)
def test_any_split_of_podmans_terminal_gives_the_same_pieces(lines, cuts):
    whole = [[piece or b"." for piece in line] for line in lines]
    body = b"".join(SECOND + NEXT.join(line) + b"\r\n" for line in whole)
    frames = read(PodmanTtyReader(), split(body, cuts))
    assert frames == read(PodmanTtyReader(), [body])
    assert all(payload.startswith(SECOND) for _, payload in frames)
    got = b"".join(payload.removeprefix(SECOND) for _, payload in frames)
    assert got == b"".join(b"".join(line) + b"\r\n" for line in whole)


@pytest.mark.parametrize(
    "words",
    [b"2031-01-01T00:00:00Z ", b"2001-01-01T00:00:00Z ", b"2026-99-99T99:99:99Z ", NEXT],
)
def test_what_a_client_writes_is_no_time_of_podmans(words):
    """A stamp of the future would hide all that comes until then."""
    frames = read(PodmanTtyReader(), [SECOND + b"user " + words + b"failed\r\n"])
    assert {payload[: len(SECOND)] for _, payload in frames} == {SECOND}


def test_an_endless_line_of_podmans_terminal_is_passed_on_piece_by_piece():
    reader = PodmanTtyReader()
    frames = []
    for _ in range(100):
        frames += reader.feed(SECOND + b"x" * 8000)
    assert len(frames) > 80
    assert len(frames) + len(reader.finish()) == 100
