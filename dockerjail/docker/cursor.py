"""
How far a log has been consumed, and how to ask for the rest. Pure.

In come frames with their stamps, out goes whether a frame is new: of all that the
Engine repeats when a log is opened again, each frame counts once. The source of
every rule here is measurement on Engines 20.10 and 26.1 and on Podman.

A cursor belongs to one stream of a container: inside a stream the log is in the
order of its stamps, between stdout and stderr it is not (1-3 inversions in 1000
lines). Several frames may share a stamp: all pieces of a long line do, and with
Podman before 5.8 all lines of a second; so a cursor counts them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache

from dockerjail.model import Cursor, Stream
from dockerjail.stamp import NANO, nanoseconds

ROUND = 10
"""Seconds of Engine time that one round of chunks spans at most when both streams speak."""

_INVERSION = 1 * NANO
"""Further apart than this, order of stamps is order in the log, for both streams."""

_TAILS = (256, 8192, 262144)
_TINY = 8
"""
Asked for first where damage in a log ends it without a word: what is seen here must
have been seen at the end of a wider window.
"""


class Dialect(Enum):
    """Which habits an Engine has; named by what is to be done about them."""

    OLD = "docker before 23"
    """
    `since` skips compressed files and drops live lines, so it is never used. A
    rotation while following repeats frames.
    """
    NEW = "docker"
    PODMAN = "podman"
    """
    `tail` with `follow` leaves a gap, so it is never used. Stamps may be whole
    seconds, pieces of a line may differ in theirs.
    """


def dialect(version: str) -> Dialect:
    """Tell from what `Engine.version` returns: `26.1.5`, `Podman 5.4.2`."""
    if version.lower().startswith("podman"):
        return Dialect.PODMAN
    major = re.match(r"\d+", version)
    return Dialect.OLD if major is not None and int(major[0]) < 23 else Dialect.NEW


@lru_cache(maxsize=1024)
def _second(second: int) -> bytes:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19].encode()


def stamp(ns: int) -> bytes:
    """Write nanoseconds since the epoch as the Engine does: 30 bytes, UTC."""
    second, fraction = divmod(ns, NANO)
    return b"%b.%09dZ" % (_second(second), fraction)


class Position:
    """
    Where one stream stands while it is being read.

    Stamps are kept as the Engine's 30 bytes, whose order is that of time: that is
    four times as fast as numbers, and this is asked for every frame.
    """

    __slots__ = ("_at_stamp", "_met", "_repeats", "seen", "stamp")

    def __init__(self, cursor: Cursor | None, *, repeats: bool = False) -> None:
        """With `repeats` a frame with the newest stamp and a known payload is not new."""
        self.stamp = stamp(cursor.ns) if cursor is not None else b""
        self.seen = cursor.seen if cursor is not None else 0
        self._met = 0
        self._repeats = repeats
        self._at_stamp: set[int] = set()

    def admit(self, payload: bytes) -> bool:
        """
        Say whether this frame, which starts with a stamp, is new; if so, move on to it.

        Raises ValueError when there is no stamp.
        """
        moment = payload[:30]
        # where stamps are shorter, a client's words may have any byte at any place
        if payload.find(b" ") != 30 or moment[29:] != b"Z":
            moment = stamp(nanoseconds(payload[: payload.index(b" ")]))
        if moment > self.stamp:
            self.stamp = moment
            self.seen = self._met = 1
            if self._repeats:
                self._at_stamp = {hash(payload)}
            return True
        if moment < self.stamp:
            self._met = 0
            return False
        self._met += 1
        if self._met <= self.seen:
            return False
        if self._repeats:
            # Before Engine 23 a rotation makes a follower read the new file again
            # from its start; when that is a frame with the newest stamp, counting
            # alone does not show that it is a repetition.
            if hash(payload) in self._at_stamp:
                self._met -= 1
                return False
            self._at_stamp.add(hash(payload))  # not the payload: a line may be gigabytes
        self.seen += 1
        return True

    @property
    def cursor(self) -> Cursor:
        """Everything admitted so far is consumed; ValueError if the stamp is none."""
        return Cursor(nanoseconds(self.stamp), self.seen) if self.stamp else Cursor(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    What is known about a container's log when it is opened once more.

    `real` is whether any frame was ever consumed, or the cursors only say from
    where on lines are wanted. `exact` is whether the cursors of both streams are
    known to belong to the same moment: they do within a process, but of two chunks
    only one may have been committed before it died. `held` is the stamp of the
    oldest piece of a line whose end had not come yet.
    """

    cursors: Mapping[Stream, Cursor]
    real: bool
    exact: bool
    held: int | None = None

    @property
    def newest(self) -> int:
        """The newest stamp consumed, in nanoseconds."""
        return max((cursor.ns for cursor in self.cursors.values()), default=0)

    @property
    def reach(self) -> int:
        """All frames up to here are consumed, in nanoseconds, both streams."""
        oldest = min((cursor.ns for cursor in self.cursors.values()), default=0)
        newest = self.newest
        reach = newest if self.exact else max(oldest, newest - (ROUND + 1) * NANO)
        if self.held is not None:
            reach = min(reach, self.held)
        return reach - _INVERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How much of a log to ask for; `since` in nanoseconds, inclusive."""

    tail: int | None = None
    since: int | None = None


def windows(progress: Progress, dialect: Dialect) -> tuple[Window, ...]:
    """
    List what to ask for, narrowest first; the last is all there is.

    A narrow one is good if its first frame shows that it `reaches` back to what is
    consumed; then resuming in a log of gigabytes takes milliseconds.
    """
    reach = max(progress.reach, 0)
    if not progress.cursors:
        return (Window(),)
    if dialect is Dialect.PODMAN:
        return (Window(since=max(reach // NANO - 1, 0) * NANO),)
    if dialect is Dialect.OLD:
        return (*(Window(tail=tail) for tail in (_TINY, *_TAILS)), Window())
    if progress.real and progress.exact and progress.held is None:
        # The newest consumed frame is itself in the window; and with `since` the
        # Engine need not unpack its compressed files.
        return (*(Window(tail=tail, since=reach) for tail in _TAILS), Window(since=reach))
    return (*(Window(tail=tail) for tail in _TAILS), Window(since=reach))


def reaches(progress: Progress, window: Window, kind: int, moment: int) -> bool:
    """Say whether a window that begins with this frame leaves nothing out."""
    if moment <= progress.reach:
        return True
    if not progress.exact or progress.held is not None:
        return False
    own = next((c for stream, c in progress.cursors.items() if stream == kind), None)
    if own is None or not progress.real:
        return False
    # Frames that share the newest stamp can only be counted from the first of them.
    return moment < own.ns or (moment == own.ns and window.tail != _TINY)


def narrower(tail: int | None) -> tuple[Window, ...]:
    """List windows to hop over damage with: what lies behind it is readable."""
    sizes = (2**power for power in range(17, -1, -1))
    return tuple(Window(tail=size) for size in sizes if tail is None or size < tail)


def first_sight(moment: float) -> dict[Stream, Cursor]:
    """Make cursors that want every line from `moment`, seconds, on."""
    return dict.fromkeys(Stream, Cursor(max(int(moment * NANO), 0), 0))


def resumed(stored: Mapping[Stream, Cursor]) -> dict[Stream, Cursor]:
    """
    Complete stored cursors: a stream without one had nothing to consume.

    At least not up to a round before the newest line of the other stream.
    """
    newest = max(cursor.ns for cursor in stored.values())
    missing = Cursor(max(newest - (ROUND + 1) * NANO, 0), 0)
    return {stream: stored.get(stream, missing) for stream in Stream}
