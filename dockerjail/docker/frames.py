"""
The Engine's log body: bytes in, however they were split, frames out. Pure.

In come the bytes of `GET /containers/{id}/logs?timestamps=1`; out go `(kind,
payload)`: kind 1 is stdout, 2 stderr, 3 an error that the Engine put into the
stream; the payload of 1 and 2 is `STAMP SP TEXT`, with the LF if the line ends
there. A payload is no line yet: a line over 16 KiB comes in pieces. Whether a log
is framed at all says the container's `tty`, never the content type, which some
Engines get wrong (26.1 with an API before 1.42).
"""

import re
from collections.abc import Sequence

from dockerjail.docker.cursor import Dialect
from dockerjail.docker.slab import Frame, slab
from dockerjail.errors import EngineUnavailable
from dockerjail.framed import HEADER
from dockerjail.model import Container
from dockerjail.stamp import NANO, nanoseconds

STDOUT = 1
SYSTEM_ERROR = 3
PIECE = 16384
"""The Engine splits longer lines into pieces of this many bytes."""

_LONGEST = 16 * 1024 * 1024
"""A length beyond this is not a frame's: what was read is something else."""

_LONGEST_STAMP = 40

_LONGEST_BARE = PIECE + _LONGEST_STAMP
"""Within so many bytes a last piece ends and the next line's stamp stands."""

_SPLIT_AT_LF = frozenset({"json-file", "local"})
"""Drivers whose messages are what stood between two LFs."""

JOURNALD = "journald"
"""The logging driver whose pieces of a long line each have a time of their own."""

_KEEP_LF = frozenset({"json-file", JOURNALD})

_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d) ")


_ANY_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d) ")
_SLOWEST = 3600 * NANO
"""As long as a line of a terminal may take to be written, in nanoseconds."""

_HELD = 64 * 1024
"""How much of a terminal's line is kept until it ends, before its pieces are passed on."""


def reader(container: Container, dialect: Dialect) -> "Reader":
    """Return what takes the log of this container apart."""
    if not container.tty:
        lines = dialect is not Dialect.PODMAN and container.log_driver in _SPLIT_AT_LF
        return FrameReader(slabs=lines)
    if dialect is Dialect.PODMAN:
        return PodmanTtyReader()
    driver = container.log_driver
    bare = dialect is Dialect.OLD and driver not in _KEEP_LF
    return TtyReader(bare=bare, restamped=driver == JOURNALD)


class FrameReader:
    """
    Takes a multiplexed log apart: 8 bytes of header (kind, 0, 0, 0, u32 length), payload.

    If it may, it leaves `slabs` as they are: where no payload has an LF but at its end.
    """

    __slots__ = ("_rest", "_slabs")

    def __init__(self, *, slabs: bool = False) -> None:
        self._rest = b""
        self._slabs = slabs

    def feed(self, data: bytes) -> Sequence[Frame]:
        """
        Return the frames that `data` completes.

        Raises `EngineUnavailable` when this cannot be a multiplexed log.
        """
        buffer = self._rest + data if self._rest else data
        if self._slabs and (plain := slab(buffer)) is not None:
            self._rest = buffer[len(plain.data) :]
            return plain
        frames: list[Frame] = []
        start, end = 0, len(buffer)
        number = int.from_bytes
        while end - start >= HEADER:
            stop = start + HEADER + number(buffer[start + 4 : start + 8], "big")
            if stop > end:
                if stop - start > _LONGEST:
                    raise EngineUnavailable(
                        f"what came as a log is none: frame header {buffer[start : start + 8]!r}"
                    )
                break
            frames.append((buffer[start], buffer[start + HEADER : stop]))
            start = stop
        self._rest = buffer[start:]
        return frames

    def finish(self) -> list[Frame]:
        """Return what the end of the log leaves; half a frame is nothing."""
        self._rest = b""
        return []


class TtyReader:
    """
    Takes the log of a container with a terminal apart: lines, all of them stdout.

    Each line is `STAMP SP TEXT CR LF`. In a line of more than 16 KiB the same
    stamp stands again after each 16384 bytes; there a piece ends, as it does in a
    multiplexed log. A line without a stamp is an error of the Engine's. Where it is `restamped`,
    each piece has a stamp of its own.

    Before Engine 23 the driver `local` (and the copy that is kept for drivers which cannot
    be read) loses the LF of such a line's last piece: `bare`. The next line's stamp
    then follows the CR. A client that writes CRs can have what looks like a stamp in its
    own words: where there are two that could be the end, none is believed, and the lines
    stay one.

    Where the last line of a run has no LF (a prompt), or a killed Engine tore a line, no
    terminal's log shows where it ends: the next run's first line is a part of it.
    """

    __slots__ = ("_bare", "_prefix", "_rest", "_restamped")

    def __init__(self, *, bare: bool = False, restamped: bool = False) -> None:
        self._rest = b""
        self._prefix = b""  # `STAMP SP` of the line whose next piece is to come
        self._bare = bare
        self._restamped = restamped

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes."""
        buffer = self._rest + data if self._rest else data
        frames: list[Frame] = []
        start, end = 0, len(buffer)
        while start < end:
            newline = buffer.find(b"\n", start)
            prefix = self._prefix
            if prefix:
                if newline < 0 and end - start < len(prefix):
                    break
                repeated = buffer.startswith(prefix, start)
                text = start + len(prefix) if repeated else start
                if self._bare and not buffer.startswith(prefix, text + PIECE):
                    if newline < 0 and end - text <= _LONGEST_BARE:
                        break  # more may come that could be the end, too
                    if (stop := _bare_end(buffer, text, newline)) >= 0:
                        frames.append((STDOUT, prefix + buffer[text:stop]))
                        start, self._prefix = stop, b""
                        continue
            else:
                if newline < 0 and end - start < _LONGEST_STAMP:
                    break
                text = _text_start(buffer, start, newline if newline >= 0 else end)
                if not text:
                    if newline < 0:
                        break
                    frames.append((SYSTEM_ERROR, buffer[start : newline + 1]))
                    start = newline + 1
                    continue
                prefix = buffer[start:text]
            if (newline if newline >= 0 else end) - text >= PIECE:
                stop, self._prefix = text + PIECE, b"" if self._restamped else prefix
            elif newline >= 0:
                stop, self._prefix = newline + 1, b""
            else:
                break
            frames.append((STDOUT, prefix + buffer[text:stop]))
            start = stop
        self._rest = buffer[start:]
        if len(self._rest) > _LONGEST:
            raise EngineUnavailable("what came as a terminal's log is none: no line in 16 MiB")
        return frames

    def finish(self) -> list[Frame]:
        """Return what the end of the log leaves: a last line without its LF."""
        rest, prefix = self._rest, self._prefix
        self._rest = self._prefix = b""
        if not rest:
            return []
        if prefix:
            return [(STDOUT, prefix + rest.removeprefix(prefix))]
        return [(STDOUT if _text_start(rest, 0, len(rest)) else SYSTEM_ERROR, rest)]


class PodmanTtyReader:
    """
    Takes the log of a container with a terminal apart as Podman writes it.

    A line comes in pieces that end where a read did, each with a stamp of its own before
    it; nothing but that stamp says that a piece begins. What looks like one may be a
    client's words, so it ends a piece and is left out, but never counts as a time.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes."""
        *lines, rest = (self._rest + data).split(b"\n")
        frames = [frame for line in lines for frame in _podman_pieces(line + b"\n")]
        if len(rest) > _HELD:
            *whole, (kind, last) = _podman_pieces(rest)
            frames += whole
            rest = last if kind == STDOUT else rest
        if len(rest) > _LONGEST:
            raise EngineUnavailable("what came as a terminal's log is none: no line in 16 MiB")
        self._rest = rest
        return frames

    def finish(self) -> list[Frame]:
        """Return what the end of the log leaves: a last line without its LF."""
        rest, self._rest = self._rest, b""
        return _podman_pieces(rest) if rest else []


Reader = FrameReader | TtyReader | PodmanTtyReader


def _podman_pieces(line: bytes) -> list[Frame]:
    """Return a line of a terminal piece by piece, each with the line's stamp before it."""
    start = _text_start(line, 0, len(line))
    if not start:
        return [(SYSTEM_ERROR, line)]
    prefix = line[:start]
    frames: list[Frame] = []
    for found in _ANY_STAMP.finditer(line, start + 1):
        if _may_follow(prefix, found[0]):
            frames.append((STDOUT, prefix + line[start : found.start()]))
            start = found.end()
    frames.append((STDOUT, prefix + line[start:]))
    return frames


def _may_follow(first: bytes, stamp: bytes) -> bool:
    """Say whether a piece with this stamp may belong to a line that began with that one."""
    if len(stamp) != len(first):
        return False
    try:
        return 0 <= nanoseconds(stamp[:-1]) - nanoseconds(first[:-1]) <= _SLOWEST
    except ValueError:
        return False


def _text_start(buffer: bytes, start: int, end: int) -> int:
    """Return where the text behind the stamp of the line at `start` begins; 0 if it has none."""
    blank = buffer.find(b" ", start, min(start + _LONGEST_STAMP, end))
    if blank - start < 20 or buffer[start + 4 : start + 5] != b"-":
        return 0
    return blank + 1 if buffer[start + 10 : start + 11] == b"T" else 0


def _bare_end(buffer: bytes, text: int, newline: int) -> int:
    """Return where a last piece without LF ends: at the one stamp there is; -1 if not at one."""
    stop = newline if newline >= 0 else len(buffer)
    found = [
        stamp.start()
        for stamp in _STAMP.finditer(buffer, text, min(stop, text + _LONGEST_BARE))
        if stamp.start() == text or buffer[stamp.start() - 1 : stamp.start()] == b"\r"
    ]
    return found[0] if len(found) == 1 else -1
