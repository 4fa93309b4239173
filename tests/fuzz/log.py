"""
The Engine's log: whatever its bytes, however they are split, however often it is read anew.

What is no log is `EngineUnavailable`, nothing else. What is one gives the same lines, cursors
and counts in one piece and in many; and who stops anywhere and reads it all once more from
where he stood has every line once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from dockerjail.docker.cursor import Dialect, Progress, positions, resumed
from dockerjail.docker.frames import FrameReader, TtyReader
from dockerjail.docker.lines import Lines
from dockerjail.errors import EngineUnavailable
from dockerjail.model import Chunk, Container, Cursor, Stream
from dockerjail.stamp import NANO, nanoseconds
from tests.fuzz.material import Material, seed

LONGEST: Final = 512

_PLAIN: Final = Container(id="c", name="c", service="c")
_TTY: Final = Container(id="t", name="t", service="t", tty=True)
_STAMP: Final = "2026-11-22T10:52:40.409746684Z"


def _frame(kind: int, text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


SEEDS: Final = (
    seed(
        _frame(1, f"{_STAMP} one\n") + _frame(2, f"{_STAMP} two\n"), choices=(0, 1, 0, 0, 2, 9, 30)
    ),
    seed(
        _frame(1, f"{_STAMP} half ") + _frame(1, f"{_STAMP} and half\n") + _frame(3, "broken\n"),
        choices=(0, 0, 1, 0, 1, 50),
    ),
    seed(
        _frame(1, "2026-11-22T10:52:40Z a\n") * 2 + _frame(2, "2026-11-22T11:52:41+01:00 b\n"),
        choices=(0, 2, 0, 0, 3, 8, 9, 40),
    ),
    seed(f"{_STAMP} one\r\n{_STAMP} two\r\nError grabbing logs\n", choices=(1, 1, 0, 0, 1, 20)),
    seed(f"{_STAMP} a\r\n{_STAMP} a\r\n{_STAMP} b", choices=(1, 0, 1, 0, 1, 3)),
    # as long as a line may be, and one more
    seed(
        _frame(1, f"{_STAMP} {'x' * 40}\n") + _frame(2, f"{_STAMP} {'x' * 41}\n"),
        choices=(0, 1, 1, 0, 0),
    ),
    # found by fuzzing: a line without a stamp that took its blank from the next line
    seed(f"2026-21a\r\nT10:52:40.40974668 {_STAMP}\r\n", choices=(1, 1, 0, 0, 1, 12)),
    # found: a stamp that only nearly is one, and text that ends where longer stamps do
    seed(b"2026-11-22T10:52\xba40.409746684Z b\r\n", choices=(1, 0, 1, 0, 0)),
    seed("2026-11-22T10:52:40.46684Z b4Z b\r\n" * 2, choices=(1, 2, 0, 0, 1, 34)),
)


class _Read:
    """What one reading of a log brought."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.overlong = self.dropped = 0
        self.held: int | None = None
        self.failed = False

    def lines(self, stream: Stream) -> list[bytes]:
        data = b"".join(chunk.data for chunk in self.chunks if chunk.stream is stream)
        return data.split(b"\n")[:-1]

    @property
    def written(self) -> int:
        """How many bytes of text the lines have, without their stamps."""
        lines = (line for stream in Stream for line in self.lines(stream))
        return sum(len(line.partition(b" ")[2]) for line in lines)

    def cursors(self, count: int | None = None) -> dict[Stream, Cursor]:
        return {chunk.stream: chunk.cursor for chunk in self.chunks[:count]}


def check(data: bytes) -> None:
    """Read a log whole, in pieces, and once more from where it was left."""
    material = Material(data)
    container = _TTY if material.flag() else _PLAIN
    dialect = material.one_of(tuple(Dialect))
    limit = material.one_of((65536, 40))
    killed = material.number(15)
    cuts = [material.number(255) for _ in range(material.number(5))]
    body = material.rest()
    whole = _read(container, dialect, limit, [body], {})
    split = _read(container, dialect, limit, _pieces(body, cuts), {})
    assert split.failed or not whole.failed
    for chunk in (*whole.chunks, *split.chunks):
        assert chunk.data.endswith(b"\n")
        assert chunk.cursor.seen > 0
    if split.failed:
        return
    for stream in Stream:
        assert whole.lines(stream) == split.lines(stream)
    assert whole.cursors() == split.cursors()
    assert (whole.overlong, whole.dropped) == (split.overlong, split.dropped)
    assert whole.held == split.held
    if _in_order(container, body):
        if not container.tty and dialect is not Dialect.OLD:
            assert _written(body) == whole.written + whole.dropped
        _again(container, dialect, limit, body, split, 1 + killed)


def _again(
    container: Container, dialect: Dialect, limit: int, body: bytes, before: _Read, count: int
) -> None:
    """Be killed behind so many chunks, and read all of it anew with the cursors of then."""
    if count > len(before.chunks):
        return
    after = _read(container, dialect, limit, [body], before.cursors(count), stored=True)
    assert not after.failed
    for stream in Stream:
        done = [line for c in before.chunks[:count] if c.stream is stream for line in _of(c)]
        assert done + after.lines(stream) == before.lines(stream), (count, before.cursors())


def _in_order(container: Container, body: bytes) -> bool:
    """
    Say whether an Engine whose clock nobody sets can have written this.

    Each stream in the order of its stamps, the two of them nearly so, and the pieces of a
    line with one stamp.
    """
    reader = TtyReader() if container.tty else FrameReader()
    newest = dict.fromkeys(Stream, 0)
    partial: dict[int, bool] = {}
    for kind, payload in (*reader.feed(body), *reader.finish()):
        if kind not in newest:
            continue
        try:
            moment = nanoseconds(payload.partition(b" ")[0])
        except ValueError:
            return False
        if moment < newest[Stream(kind)] or moment < max(newest.values()) - NANO:
            return False
        if partial.get(kind) and moment != newest[Stream(kind)]:
            return False
        newest[Stream(kind)] = moment
        partial[kind] = not payload.endswith(b"\n")
    return not any(partial.values())


def _written(body: bytes) -> int:
    """Count the bytes of text in frames, without line ends."""
    frames = [payload for kind, payload in FrameReader().feed(body) if kind in tuple(Stream)]
    return sum(len(p.partition(b" ")[2]) - p.endswith(b"\n") for p in frames)


def _of(chunk: Chunk) -> list[bytes]:
    return chunk.data.split(b"\n")[:-1]


def _read(
    container: Container,
    dialect: Dialect,
    limit: int,
    pieces: Iterable[bytes],
    cursors: Mapping[Stream, Cursor],
    *,
    stored: bool = False,
) -> _Read:
    reader = TtyReader() if container.tty else FrameReader()
    cursors = resumed(cursors) if stored else cursors
    stand = positions(Progress(cursors=cursors, real=stored), repeats=dialect is Dialect.OLD)
    lines = Lines(container, cursors, dialect=dialect, limit=limit, stand=stand)
    found = _Read()
    try:
        for piece in pieces:
            found.chunks += lines.feed(reader.feed(piece))
        found.chunks += lines.feed(reader.finish())
        found.held = lines.held
        found.chunks += lines.finish()
    except EngineUnavailable:
        found.failed = True
    assert not lines.lost
    found.overlong, found.dropped = lines.overlong, lines.dropped
    for chunk in found.chunks:
        _stamped(chunk)
        assert all(len(line.partition(b" ")[2]) <= limit for line in _of(chunk))
    return found


def _stamped(chunk: Chunk) -> None:
    """Every line begins with a stamp that can be read, or with one that the judge passes over."""
    for line in _of(chunk):
        stamp, blank, _ = line.partition(b" ")
        assert blank
        try:
            nanoseconds(stamp)
        except ValueError:
            assert len(stamp) == 29 or len(line) > 30


def _pieces(body: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    at = 0
    for cut in cuts:
        yield body[at : at + cut]
        at += cut
    yield body[at:]
