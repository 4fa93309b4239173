"""
A part of a busy log that need not be taken apart: bytes in, a `Slab` out, if they are plainly so. Pure.

Nearly all that floods is short lines of one output, in the order of their times. That this
part of a log is nothing else is seen without a look at each frame:

* No payload has an LF but at its end: so it is with the drivers that split what a container writes
  into lines (`json-file`, `local`). Behind an LF a frame begins then, or the LF is one of the bytes
  of a length; a header that names exactly the bytes up to the next LF tells the two apart.
* No frame of the other output and no error of the Engine's: what their headers begin with is nowhere.
* No line in pieces: a piece is 16 KiB without an LF, and somewhere in every 8 KiB there is one.
* The stamps of the first frame and of the last are in order and at most a second apart. The order of
  stamps that differ by less is never relied on (`cursor.INVERSION`).

A frame that ends without an LF (the last of a run) is not seen here. It stands before the next
one as if the two were one line, which `framed.whole` denies to whoever looks at it.

Whatever is in doubt is no slab, and taken apart as ever.
"""

from collections.abc import Iterator, Sequence
from typing import Final, overload

from dockerjail.docker.cursor import INVERSION
from dockerjail.framed import HEADER, complete, payloads, whole
from dockerjail.model import Cursor
from dockerjail.stamp import nanoseconds

Frame = tuple[int, bytes]

LEAST: Final = 16 * 1024
"""Bytes below which it takes less time to take frames apart than to look at them from outside."""

SPAN: Final = INVERSION
"""Nanoseconds from the first frame of a slab to its last, at most: their order is not looked at."""

_WINDOW: Final = 8192
_STAMP: Final = 30
_SECOND: Final = 20
_ZEROS: Final = b"\0\0\0"
_OTHERS: Final = {1: (b"\x02", b"\x03"), 2: (b"\x01", b"\x03")}


class Slab(Sequence[Frame]):
    """
    Frames of one output, each a whole line, as one piece of bytes; taken apart when asked for one.

    `first` is the stamp of the first, `cursor` where to resume after the last.
    """

    __slots__ = ("_frames", "cursor", "data", "first", "kind", "stamp")

    def __init__(self, data: bytes, *, first: bytes, stamp: bytes, cursor: Cursor) -> None:
        self.data = data
        self.kind = data[0]
        self.first = first
        self.stamp = stamp
        self.cursor = cursor
        self._frames: list[Frame] | None = None

    @property
    def frames(self) -> list[Frame]:
        """All of them."""
        if self._frames is None:
            self._frames = [(self.kind, payload) for payload in payloads(self.data)]
        return self._frames

    def has(self, stamp: bytes) -> bool:
        """Say whether one of the frames has this stamp."""
        at = self.data.find(stamp)
        while at >= 0:
            if at >= HEADER and whole(self.data, at - HEADER, self.data.find(b"\n", at)):
                return True
            at = self.data.find(stamp, at + 1)
        return False

    def __len__(self) -> int:
        return len(self.frames)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        return self.frames[index]


def slab(buffer: bytes) -> Slab | None:
    """Return the whole frames that `buffer` begins with, if it is plain that they are a slab."""
    if len(buffer) < LEAST or (others := _OTHERS.get(buffer[0])) is None:
        return None
    stop = buffer.rfind(b"\n") + 1
    last = buffer.rfind(b"\n", 0, max(stop - 1, 0)) + 1
    if stop < LEAST or not whole(buffer, last, stop - 1):
        return None
    if complete(buffer, stop):
        return None  # a frame without an LF
    if any(_begins(other, buffer, stop) for other in others):
        return None
    windows = range(0, stop - _WINDOW + 1, _WINDOW)
    if any(buffer.find(b"\n", at, at + _WINDOW) < 0 for at in windows):
        return None
    first, newest = _stamp(buffer, 0), _stamp(buffer, last)
    try:
        ns = nanoseconds(newest)
        if first[:_SECOND] != newest[:_SECOND] and not 0 <= ns - nanoseconds(first) <= SPAN:
            return None
    except ValueError:
        return None
    if first > newest:
        return None
    seen = 1
    while last > 0:
        end = last - 1
        last = buffer.rfind(b"\n", 0, end) + 1
        if not whole(buffer, last, end):
            return None
        if _stamp(buffer, last) != newest:
            return Slab(buffer[:stop], first=first, stamp=newest, cursor=Cursor(ns, seen))
        seen += 1
    return None


def _begins(kind: bytes, buffer: bytes, stop: int) -> bool:
    """Say whether a frame of this kind may begin before `stop`; its byte alone may be one of a length."""
    at = buffer.find(kind, 0, stop)
    while at >= 0:
        if buffer.startswith(_ZEROS, at + 1):
            return True
        at = buffer.find(kind, at + 1, stop)
    return False


def _stamp(buffer: bytes, start: int) -> bytes:
    """Return the stamp of the frame at `start`; what is none if it is not as the Engine writes it."""
    end = start + HEADER + _STAMP
    return buffer[start + HEADER : end] if buffer[end - 1 : end + 1] == b"Z " else b""
