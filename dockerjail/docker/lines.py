"""
Frames in, chunks of complete lines out. Pure.

Frames that were consumed before are left out, the pieces of long lines are glued
together, and all lines of one stream that came with one read leave as one chunk,
whose cursor stands behind its last line: pieces of a line whose end has not come
are not consumed. If that takes long, a chunk without lines says so in its cursor. Bytes
pass as they are (NUL, invalid UTF-8, a lone CR); only the CR that a terminal puts before
each LF goes.

A line is bounded: what is over the limit is cut off its end, and counted.
"""

from collections.abc import Mapping, Sequence

from dockerjail.docker.cursor import ROUND, Dialect, Position, Progress, positions, stamp, waiting
from dockerjail.docker.frames import JOURNALD, PIECE, SYSTEM_ERROR
from dockerjail.docker.slab import Frame, Slab
from dockerjail.errors import EngineUnavailable
from dockerjail.model import Chunk, Container, Cursor, Stream
from dockerjail.stamp import NANO, nanoseconds

LIMIT = 64 * 1024
"""How many bytes of text a line may have; the rest is dropped and counted."""

_USUAL = 128
"""Bytes of a usual frame: of a slab nobody counts them."""

_LONG_WAIT = ROUND * NANO // 2
"""Nanoseconds of log behind a piece; while it waits for fewer, whoever resumes finds it anyway."""

_BUCKET = 18
"""As much of a stamp as is the same for ten seconds (`cursor.ROUND`)."""


class _Strand:
    """One stream while it is being read."""

    __slots__ = (
        *(
            "before",
            "done",
            "frames",
            "lines",
            "marked",
            "met",
            "other",
            "piece_stamp",
            "pieces",
            "place",
        ),
        *("position", "size", "stream", "torn"),
    )

    def __init__(self, stream: Stream, position: Position) -> None:
        self.stream = stream
        self.position = position
        self.lines: list[bytes] = []
        self.pieces: list[bytes] = []  # `STAMP SP`, then texts
        self.piece_stamp = b""
        self.frames = 0  # that the pieces came in
        self.size = 0  # of the pieces' text, with what was cut off
        self.before = position.cursor  # where the stream stood before the pieces
        self.marked = False  # whether it was told that the pieces wait
        self.other = self
        self.met = False
        self.place = self.done = 0  # of the newest frame, and of the newest that is consumed
        self.torn = False  # what comes is the rest of a line whose beginning is lost


class Lines:
    """
    Makes chunks of one request's frames.

    Counts while it works: `fresh` new frames (of a slab about), `overlong` lines that were cut,
    `dropped` bytes that were cut off; `errors` are those that the Engine put into
    the stream. `oldest` is the stamp of the first new frame of the last `feed`,
    None when it had none, `newest` that of the last new frame ever; nanoseconds.
    """

    def __init__(
        self,
        container: Container,
        cursors: Mapping[Stream, Cursor],
        *,
        dialect: Dialect,
        limit: int = LIMIT,
        stand: Mapping[Stream, Position] | None = None,
        ahead: int | None = None,
    ) -> None:
        """
        Leave out what `cursors` say is consumed, by its stamps; or what `stand` says is.

        With `ahead`, nanoseconds, `reached` says whether a frame of that stamp came, or a later one.
        """
        self._ahead = ahead
        self.reached = ahead is None
        self._container = container
        self._limit = limit
        self._glue = dialect is Dialect.PODMAN
        self._began = int(container.started_at * NANO)
        self._restamped = container.log_driver == JOURNALD and not self._glue
        if stand is None:
            stand = positions(Progress(cursors=cursors, real=False))
        self._strands: Mapping[int, _Strand] = {
            stream: _Strand(stream, stand[stream]) for stream in Stream
        }
        out, err = self._strands.values()
        out.other, err.other = err, out
        # When a log is full Podman throws it away, the first pieces of a line included; its
        # rest begins with words that a client may have chosen.
        self._tears = self._glue and "max-size" in container.log_options
        out.torn, err.torn = (self._tears and strand.position.lost for strand in (out, err))
        self._bucket = b""
        self._chunks: list[Chunk] = []
        self.fresh = 0
        self.overlong = 0
        self.dropped = 0
        self.errors: list[str] = []
        self.oldest: int | None = None
        self.newest: int | None = None
        self._place = 0
        self._joint = b""

    def feed(self, frames: Sequence[Frame]) -> list[Chunk]:
        """
        Return the lines that `frames` complete.

        Of two chunks with lines of both streams neither spans more than ten
        seconds: whoever commits only the first can still find the second. Raises
        `EngineUnavailable` when this is no log; nothing is consumed then.
        """
        if isinstance(frames, Slab) and (chunk := self._leap(frames)) is not None:
            return [chunk]
        strands = self._strands
        limit = self._limit
        first = last = self._joint = b""
        place = self._place
        try:
            for kind, payload in frames:
                strand = strands.get(kind)
                if strand is None:
                    self._error(kind, payload)
                    continue
                if strand.other.lines and payload[:_BUCKET] != self._bucket:
                    self._close_round()
                if strand.torn:
                    new = strand.position.admit(payload)
                    strand.torn = payload[-1:] != b"\n"
                elif payload[-1:] != b"\n" or strand.pieces or len(payload) > limit:
                    new = self._piece(strand, payload)
                elif new := strand.position.admit(payload):
                    self._line(strand, payload)
                if new:
                    self.fresh += 1
                    first = first or payload
                    last = payload
                    strand.place = place = place + 1
                    if not strand.pieces:
                        strand.done = place
                elif strand.position.met and not strand.met:
                    strand.met = True
                    strand.place = strand.done = place = place + 1
            self._place = place
            self._close_round()
            self.oldest = _moment(first) if first else None
            if last:
                self.newest = _moment(last)
            if self._ahead is not None and not self.reached:
                top = max((line[:30] for kind, line in frames if kind in strands), default=b"")
                self.reached = bool(top) and _moment(top + b" ") >= self._ahead
        except ValueError as error:
            raise EngineUnavailable(f"the Engine sent a log line without a time: {error}") from None
        chunks, self._chunks = self._chunks, []
        return chunks

    def _leap(self, slab: Slab) -> Chunk | None:
        """Take a slab as it is, if all in it is new and nothing stands before it."""
        strand = self._strands[slab.kind]
        if strand.pieces or strand.other.pieces or strand.torn:
            return None
        cursor = slab.cursor
        if not strand.position.leap(slab.first, slab.stamp, cursor.seen):
            return None
        self.fresh += len(slab.data) // _USUAL + 1
        self.oldest, self.newest = nanoseconds(slab.first), cursor.ns
        if self._ahead is not None and not self.reached:
            self.reached = cursor.ns >= self._ahead or slab.has(stamp(self._ahead))
        self._joint = b""
        self._place += 1
        strand.place = strand.done = self._place
        return Chunk(
            container=self._container,
            stream=strand.stream,
            data=slab.data,
            cursor=cursor,
            framed=True,
        )

    def tear(self) -> None:
        """Take nothing for a line up to the first end of one, if the log may begin amid one."""
        for strand in self._strands.values():
            strand.torn = self._tears

    def finish(self) -> list[Chunk]:
        """Return last lines that have no LF: only when nothing can follow any more."""
        for strand in self._strands.values():
            if strand.pieces:
                self._complete(strand)
        self._close_round()
        chunks, self._chunks = self._chunks, []
        return chunks

    @property
    def doubtful(self) -> bool:
        """Whether something came live that only a read of the whole log can judge."""
        return any(strand.position.doubtful for strand in self._strands.values())

    @property
    def astray(self) -> bool:
        """Whether something later came before the frame of a cursor, so far."""
        return any(s.position.later and not s.position.passed for s in self._strands.values())

    @property
    def lost(self) -> frozenset[Stream]:
        """The streams whose cursors' frames were not found although they should have been."""
        return frozenset(s.stream for s in self._strands.values() if not s.position.found)

    @property
    def met(self) -> frozenset[Stream]:
        """The streams whose cursors' frames came."""
        return frozenset(s.stream for s in self._strands.values() if s.position.met)

    @property
    def last(self) -> Stream | None:
        """The stream whose newest consumed frame stands last in the log, as far as it is known."""
        last = max(self._strands.values(), key=lambda strand: strand.done)
        return last.stream if last.done else None

    @property
    def stands(self) -> tuple[tuple[bytes, int], ...]:
        """Where both streams stand by their newest frames, consumed or not: stamps and numbers."""
        return tuple((s.position.stamp, s.position.seen) for s in self._strands.values())

    @property
    def fell(self) -> int:
        """By how many nanoseconds the stamps of new frames went back, at most."""
        return max(strand.position.fell for strand in self._strands.values())

    @property
    def regressed(self) -> bool:
        """Whether behind frames of the log there are some with earlier stamps."""
        return any(strand.position.regressed for strand in self._strands.values())

    @property
    def pending(self) -> int:
        """How many of the new frames wait for the end of their line."""
        return sum(strand.frames for strand in self._strands.values() if strand.pieces)

    @property
    def joined(self) -> int | None:
        """
        The stamp, in nanoseconds, of the newest piece that the last `feed` put behind another.

        One that brought nothing but the end of a line is none.
        """
        return nanoseconds(self._joint) if self._joint else None

    @property
    def held(self) -> int | None:
        """The stamp, in nanoseconds, of the oldest piece that still waits for its end."""
        return min(
            (nanoseconds(s.piece_stamp) for s in self._strands.values() if s.pieces), default=None
        )

    def _error(self, kind: int, payload: bytes) -> None:
        if kind != SYSTEM_ERROR:
            raise EngineUnavailable(f"what came as a log is none: frame of kind {kind}")
        self.errors.append(payload.decode(errors="replace").strip())

    def _line(self, strand: _Strand, line: bytes) -> None:
        if not strand.lines and not strand.other.lines:
            self._bucket = line[:_BUCKET]
        strand.lines.append(line)

    def _piece(self, strand: _Strand, payload: bytes) -> bool:
        """Take a frame that may not be a whole line by itself; say whether it is new."""
        position = strand.position
        before, met = position.cursor, position.met
        if not position.admit(payload):
            # No cursor stands amid a line: this one is another that takes its place. Unless it is the
            # last of a run that has ended: then the run that goes on began later.
            last = position.met and not met and self._began >= nanoseconds(position.stamp)
            strand.torn = self._tears and payload[-1:] != b"\n" and not last
            return False
        # Another stamp ends a line, because sometimes its LF is missing: at the
        # end of a run, and for long lines with the `local` driver before Engine 23.
        # Podman splits where a read ended, and the stamps of pieces may differ.
        if strand.pieces and not self._glue and self._stands_alone(strand):
            self._complete(strand)
        start = payload.index(b" ") + 1
        ends = payload[-1:] == b"\n"
        text = payload[start:-1] if ends else payload[start:]
        if not strand.pieces:
            nanoseconds(payload[: start - 1])  # `held` is asked for it
            strand.pieces.append(payload[:start])
            strand.piece_stamp, strand.before = position.stamp, before
            strand.size = strand.frames = 0
        elif text and self._glue:
            self._joint = max(self._joint, position.stamp)
        strand.frames += 1
        room = self._limit - strand.size
        strand.size += len(text)
        if room > 0:
            strand.pieces.append(text[:room])
        if ends:
            self._complete(strand)
        return True

    def _stands_alone(self, strand: _Strand) -> bool:
        """Say whether what is in hand, which has no LF, is a line: the frame admitted now is another."""
        if self._restamped:
            return strand.size % PIECE > 0  # only the last piece of a line is shorter
        return strand.position.stamp != strand.piece_stamp

    def _complete(self, strand: _Strand) -> None:
        """Glue the pieces together: a line."""
        if strand.size > self._limit:
            self.overlong += 1
            self.dropped += strand.size - self._limit
        line = b"".join((*strand.pieces, b"\n"))
        strand.pieces, strand.marked = [], False
        strand.done = strand.place
        self._line(strand, line)

    def _close_round(self) -> None:
        """Make chunks of the lines so far; everything admitted is a line or a held piece."""
        for strand in self._strands.values():
            if strand.pieces and strand.other.lines and not (strand.lines or strand.marked):
                self._mark(strand)
        for strand in self._strands.values():
            if lines := strand.lines:
                strand.lines = []
                self._chunks.append(
                    Chunk(
                        container=self._container,
                        stream=strand.stream,
                        data=self._join(lines),
                        cursor=strand.before if strand.pieces else strand.position.cursor,
                    )
                )

    def _mark(self, strand: _Strand) -> None:
        """
        Tell, by a chunk without lines, that a line of one stream waits while the other goes on.

        Whoever resumed from the other's cursor would else begin behind the waiting pieces.
        """
        first = nanoseconds(strand.piece_stamp)
        if nanoseconds(strand.other.position.stamp) - first > _LONG_WAIT:
            cursor, strand.marked = waiting(strand.before, first), True
            self._chunks.append(
                Chunk(container=self._container, stream=strand.stream, data=b"", cursor=cursor)
            )

    def _join(self, lines: list[bytes]) -> bytes:
        data = b"".join(lines)
        if self._container.tty:
            data = data.replace(b"\r\n", b"\n")
        if data.count(b"\n") != len(lines):
            # Some logging driver let a LF pass inside a message; a part of a line
            # must not stand where a stamp belongs.
            data = b"".join(line[:-1].replace(b"\n", b" ") + b"\n" for line in lines)
        return data


def _moment(payload: bytes) -> int:
    return nanoseconds(payload[: payload.index(b" ")])
