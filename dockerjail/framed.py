"""
Lines that still have the Engine's header before them: many in, one looked at or all taken out. Pure.

To take each frame of a busy log apart costs more than to search all of it for the few lines that
could matter. So a chunk may come as the Engine sent it (`Chunk.framed`): 8 bytes of header before
each line. Whoever looks at a line there first asks if it is a `whole` frame; whoever wants all
takes the `plain` chunk.
"""

from dataclasses import replace
from struct import Struct
from typing import Final

from dockerjail.model import Chunk

HEADER: Final = 8
"""Bytes before a payload: its kind, three zeros, its length (u32, big-endian)."""

_length = Struct(">xxxxI").unpack_from
_KINDS: Final = (b"\1\0\0\0", b"\2\0\0\0")


def whole(data: bytes, start: int, end: int) -> bool:
    """
    Say whether what stands from `start` to the LF at `end` is one frame of an output, and no more.

    `start` is behind an LF, or 0: one that is a byte of a frame's length tells itself by this.
    """
    if end - start < HEADER or data[start : start + 4] not in _KINDS:
        return False
    return bool(_length(data, start)[0] == end + 1 - start - HEADER)


def complete(data: bytes, start: int) -> bool:
    """Say whether all of the frame at `start` is there."""
    if len(data) - start < HEADER:
        return False
    return bool(_length(data, start)[0] <= len(data) - start - HEADER)


def payloads(data: bytes) -> list[bytes]:
    """Take whole frames apart."""
    found = []
    start, end = 0, len(data)
    while start < end:
        stop = start + HEADER + _length(data, start)[0]
        found.append(data[start + HEADER : stop])
        start = stop
    return found


def plain(chunk: Chunk) -> Chunk:
    """Return a chunk as its lines alone, each with its LF."""
    if not chunk.framed:
        return chunk
    found = payloads(chunk.data)
    # the last line of a run may have none
    lines = [each if each.endswith(b"\n") else each + b"\n" for each in found]
    return replace(chunk, data=b"".join(lines), framed=False)


def count(chunk: Chunk) -> int:
    """Return how many lines a chunk has."""
    if not chunk.framed:
        return chunk.data.count(b"\n")
    found = at = 0
    end = len(chunk.data)
    while at < end:
        at += HEADER + _length(chunk.data, at)[0]
        found += 1
    return found
