"""A stamp is a time or none, and no text behind it changes which."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.docker.cursor import Dialect, Position, stamp
from dockerjail.docker.lines import Lines
from dockerjail.errors import EngineUnavailable
from dockerjail.model import Container, Cursor, Stream
from dockerjail.stamp import NANO, Clock, nanoseconds

SECOND = 1_795_345_136
WEB = Container(id="c1", name="web", service="web")

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30))  # noqa: DTZ001 naive is what it wants
ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def short(moment: datetime, digits: int) -> bytes:
    """Write a time with so many digits behind the second, in its own zone."""
    zone = moment.strftime("%z")
    fraction = f".{moment.microsecond:06}000"[: digits + 1] if digits else ""
    offset = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:5]}"
    return f"{moment.isoformat()[:19]}{fraction}{offset}".encode()


@given(MOMENTS, ZONES | st.just(UTC), st.integers(0, 9))
def test_a_time_is_read_in_any_zone_and_with_any_number_of_digits(moment, zone, digits):
    local = moment.replace(tzinfo=UTC).astimezone(zone)
    kept = local.replace(microsecond=0) if not digits else local
    want = int((kept.replace(microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    fraction = f"{local.microsecond:06}000"[:digits].ljust(9, "0")
    assert nanoseconds(short(local, digits)) == want * NANO + int(fraction)


@pytest.mark.parametrize(
    "text",
    [
        b"2026-11-22T10:52\xba40.409746684Z",
        b"2026-11-22T10:52: 4.409746684Z",
        b"2026-11-22T10:5_0:40.409746684Z",
        b"2026-13-22T10:52:40.409746684Z",
        b"2026-02-30T10:52:40.409746684Z",
        b"2026-11-22T24:52:40.409746684Z",
        b"2026-11-22T10:60:40.409746684Z",
        b"2026-11-22T10:52:40.Z",
        b"2026-11-22T10:52:40+1:000",
        b"2026-11-22T10:52:40+99:99",
        b"2026-11-22T10:52:40\n+01:00",
        b"0000-11-22T10:52:40Z",
    ],
)
def test_what_is_nearly_a_time_is_none(text):
    with pytest.raises(ValueError, match=r".+"):
        nanoseconds(text)


@given(st.text(st.sampled_from("Zx .0"), max_size=16), st.integers(0, 9))
def test_no_text_behind_a_short_stamp_is_taken_for_a_part_of_it(text, digits):
    moment = datetime.fromtimestamp(SECOND, UTC)
    written = short(moment, digits) + b" " + text.encode() + b"\n"
    position = Position(None)
    assert position.admit(written)
    assert position.cursor == Cursor(SECOND * NANO, 1)
    assert position.admit(written)
    assert position.cursor == Cursor(SECOND * NANO, 2)


def test_a_client_that_writes_a_z_where_longer_stamps_end_hides_no_line_behind_his():
    lines = Lines(WEB, {}, dialect=Dialect.PODMAN)
    texts = [b"2026-11-22T10:58:56Z GET /aaaZ x\n", b"2026-11-22T10:58:56Z login failed\n"]
    (chunk,) = lines.feed([(Stream.STDOUT, text) for text in texts])
    assert chunk.data == b"".join(texts)
    assert chunk.cursor.seen == 2


def test_the_time_of_a_year_long_ago_is_as_long_as_any():
    assert stamp(nanoseconds(b"0001-01-01T00:00:00Z")) == b"0001-01-01T00:00:00.000000000Z"


def test_a_piece_without_a_time_is_no_log_even_between_others():
    good = b"2026-11-22T10:58:56.000000000Z one\n"
    later = b"2026-11-22T10:58:57.000000000Z two\n"
    lines = Lines(WEB, {}, dialect=Dialect.NEW)
    with pytest.raises(EngineUnavailable, match="without a time"):
        lines.feed([(1, good), (2, b"2026-11-22T10:58:5x.000000000Z half"), (1, later)])
    assert lines.held is None


LINES = st.lists(
    st.tuples(
        st.sampled_from([SECOND, SECOND, SECOND + 1, SECOND - 86400]),
        st.integers(0, NANO - 1),
        st.sampled_from(["Z", "Z", "Z", "+01:00", "z", ""]),
        st.integers(0, 9),
        st.sampled_from([" ", " ", " ", "  ", "", "\t"]),
        st.sampled_from(["text", "", "2026-11-22T10:52:40.409746684Z x", "9"]),
    ),
    max_size=12,
)


@given(LINES, st.booleans())
def test_many_stamps_one_after_the_other_are_what_each_is_by_itself(lines, ended):
    written = []
    for second, fraction, zone, digits, blank, text in lines:
        moment = datetime.fromtimestamp(second, UTC).isoformat()[:19]
        point = f".{fraction:09}"[: digits + 1] if digits else ""
        written.append(f"{moment}{point}{zone}{blank}{text}".encode())
    data = b"\n".join(written) + (b"\n" if ended else b"")
    clock, start = Clock(), 0
    for line in written:
        end = start + len(line)
        stamped, blank, _ = line.partition(b" ")
        try:
            want = (start + len(stamped) + 1, nanoseconds(stamped) / NANO)
        except ValueError:
            want = (0, 0.0)
        if not blank:
            want = (0, 0.0)
        assert clock.read(data, start, end) == want, line
        start = end + 1
