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
from enum import Enum, auto
from functools import lru_cache

from dockerjail.model import Container, Cursor, Stream
from dockerjail.stamp import NANO, nanoseconds

ROUND = 10
"""Seconds of Engine time that one round of chunks spans at most when both streams speak."""

INVERSION = 1 * NANO
"""Further apart than this, order of stamps is order in the log, for both streams."""

_ASKEW = 2.0
"""Seconds that a cursor may be ahead of the Engine's time: clocks are read one after the other."""

_SLACK = 600
"""Seconds of Podman's log that are read again after a start: `since` hides what a clock that
was set back meanwhile stamped earlier."""

_TICK = 10_000_000
"""Nanoseconds by which a moment that an Engine takes from a file may be too early."""

_HEADSTART = 100_000_000
"""
Nanoseconds by which a first line may be stamped before the start: 1 ms on an idle machine, more
than 20 on a busy one. No run follows another as soon: from its end on that took 280 ms at least.
"""

_TAILS = (256, 8192, 262144)
_TINY = 8
"""
Asked for first where damage in a log ends it without a word: what is seen here must
have been seen at the end of a wider window.
"""


_ALIKE = 4096
"""Frames of one stamp, live, that are told apart by their text; a line of 64 MB has as many."""


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
    `tail` with `follow` leaves a gap, so it is never used; and `since` without `tail` reads
    all of the log's file (2.5 s of CPU for 160 MB), so a stream is kept open while it is
    silent. Stamps may be whole seconds, pieces of a line may differ in theirs.
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


class Mark(Enum):
    """By what the first new frame of a stream is known when a log is opened once more."""

    STAMP = auto()
    """It is the first that is stamped later. Holds while nobody sets the Engine's clock back."""
    FRAME = auto()
    """It stands behind the frame that the cursor names, whatever their stamps."""
    EITHER = auto()
    """So it does; or the window begins behind that frame, and then any that is later is new."""
    LOST = auto()
    """
    The frame is not in the log any more: the first that is later, or that is earlier than the
    one before it because a clock was set back between the two.
    """
    ALL = auto()
    """The frame is gone, and its time has not come: all that is there was written since."""


class Position:
    """
    Where one stream stands while it is being read.

    Stamps are kept as the Engine's 30 bytes, whose order is that of time: that is
    four times as fast as numbers, and this is asked for every frame.

    To be read: `passed`, whether what comes now is new; `met`, whether the cursor's own
    frame came; `older` and `later`, whether there were frames of an earlier and of a later
    stamp before that; `fell`, by how many nanoseconds stamps went back in what is new;
    `doubtful`, whether something came live that only a read of the whole log can judge.
    """

    __slots__ = (
        *("_at_stamp", "_ceiling", "_count", "_last", "_leader", "_live", "_mark", "_repeats"),
        *("doubtful", "fell", "later", "met", "older", "passed", "seen", "stamp"),
    )

    def __init__(
        self,
        cursor: Cursor | None,
        *,
        mark: Mark = Mark.STAMP,
        leader: "Position | None" = None,
        ceiling: int | None = None,
        live: bool = False,
        repeats: bool = False,
    ) -> None:
        """
        Stand at `cursor`.

        By `FRAME`, and where nothing was consumed, also what is behind the `leader`'s cursor is
        new; by `EITHER` nothing before it that is stamped later than `ceiling`, in nanoseconds. `live` is a stream that is
        followed; with `repeats`, an Engine that repeats frames in one.
        """
        self.stamp = stamp(cursor.ns) if cursor is not None else b""
        self.seen = cursor.seen if cursor is not None else 0
        self.passed = mark is Mark.ALL
        self.met = self.older = self.later = self.doubtful = False
        self.fell = 0
        self._mark = mark
        self._leader = leader
        self._ceiling = stamp(ceiling) if ceiling is not None else b""
        self._live = live
        self._repeats = live and repeats
        self._count = 0
        self._last = b""
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
        if not self.passed and not self._passes(moment, payload):
            return False
        if moment > self.stamp:
            self.stamp = moment
            self.seen = 1
            if self._repeats:
                self._at_stamp = {hash(payload)}
            return True
        if moment == self.stamp:
            if self._repeats and not self._another(payload):
                self.doubtful = True
                return False
            self.seen += 1
            return True
        if self._live:
            # Either the clock was set back, or an Engine before 23 reads a file again.
            self.doubtful = True
            return False
        self.fell = max(self.fell, nanoseconds(self.stamp) - nanoseconds(moment))
        self.stamp = moment
        self.seen = 1
        return True

    def leap(self, first: bytes, last: bytes, seen: int) -> bool:
        """
        Move on over frames that need not be looked at one by one; say whether they are all new.

        They begin with the stamp `first` and end with `seen` frames of the stamp `last`.
        """
        if not self.passed or self._repeats or first <= self.stamp:
            return False
        self.stamp, self.seen = last, seen
        return True

    def _passes(self, moment: bytes, payload: bytes) -> bool:
        """Judge a frame that comes while everything was old so far."""
        led = self._mark is Mark.FRAME or not self.seen
        if led and self._leader is not None and self._leader.passed:
            self.passed = True
            return True
        before, self._last = self._last, moment
        if moment < self.stamp:
            self._count = 0
            self._at_stamp.clear()
            self.older = True
            self.passed = self._mark is Mark.LOST and moment < before
            return self.passed
        if moment == self.stamp and self._count < self.seen:
            self._count += 1
            if self._repeats:
                self._at_stamp.add(hash(payload))
            self.met = self.passed = self._count == self.seen
            return False
        if self._mark is Mark.FRAME or (self._mark is Mark.EITHER and self._stands_apart(moment)):
            self.later = True
            return False
        self.passed = True
        return True

    def _stands_apart(self, moment: bytes) -> bool:
        """Say whether a later frame proves nothing: not after older ones, nor far ahead."""
        led = self._leader is None or self._leader.passed
        return self.older or self._count > 0 or (not led and moment > self._ceiling)

    def _another(self, payload: bytes) -> bool:
        """
        Say whether a live frame with the newest stamp is surely none that came before.

        Before Engine 23 a rotation makes a follower read the new file again from its start;
        when that is a frame with the newest stamp, nothing but its text tells the two apart.
        """
        known = hash(payload)  # not the payload: a line may be gigabytes
        if known in self._at_stamp or len(self._at_stamp) >= _ALIKE:
            return False
        self._at_stamp.add(known)
        return True

    @property
    def lost(self) -> bool:
        """Whether the cursor's frame is not in the log any more."""
        return self._mark in (Mark.LOST, Mark.ALL)

    @property
    def found(self) -> bool:
        """Whether, at the end of the log, what is old and what is new was told apart."""
        if self.passed or self._mark in (Mark.STAMP, Mark.LOST):
            return True
        if self._mark is Mark.FRAME:
            return self._leader is not None and self._leader.passed
        return not (self.older or self.later or self._count)

    @property
    def regressed(self) -> bool:
        """Whether stamps are not in order: behind frames of the log there are earlier ones."""
        return self.fell > 0 or (self.later and self.passed)

    @property
    def cursor(self) -> Cursor:
        """Everything admitted so far is consumed; ValueError if the stamp is none."""
        return Cursor(nanoseconds(self.stamp), self.seen) if self.stamp else Cursor(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    What is known about a container's log when it is opened once more.

    `real` is whether any frame was ever consumed, or the cursors only say from
    where on lines are wanted. `last` is the stream whose newest consumed frame stands
    last in the log; None when that is not known: of two chunks only one may have been
    committed before a process died. `held` is the stamp of the oldest piece of a line
    whose end had not come yet. `found` are streams whose newest consumed frame was looked
    for, and is in the log; `lost` those whose frame is not in it any more.
    `regressed` is whether behind frames of the log there are some with earlier stamps.
    """

    cursors: Mapping[Stream, Cursor]
    real: bool
    last: Stream | None = None
    held: int | None = None
    found: frozenset[Stream] = frozenset()
    lost: frozenset[Stream] = frozenset()
    regressed: bool = False

    @property
    def exact(self) -> bool:
        """Whether everything up to one frame is consumed, of both streams."""
        return self.real and self.last is not None and self.held is None

    @property
    def newest(self) -> int:
        """The newest stamp consumed, in nanoseconds."""
        return max((cursor.ns for cursor in self.cursors.values()), default=0)

    @property
    def reach(self) -> int:
        """All frames up to here are consumed, in nanoseconds, both streams."""
        oldest = min((cursor.ns for cursor in self.cursors.values()), default=0)
        newest = self.newest
        if self.last is not None:
            reach = self.cursors[self.last].ns
        else:
            reach = max(oldest, newest - (ROUND + 1) * NANO) if self.real else oldest
        if self.held is not None:
            reach = min(reach, self.held)
        return reach - INVERSION

    @property
    def torn(self) -> bool:
        """
        Whether nobody knows where in the log the frames of the cursors stand.

        Their stamps do not tell: the clock may have been set back between the two, or behind the
        only one, and then a window that begins with an earlier stamp does not reach back to it.
        """
        if not self.real or self.exact or (self.last is not None and not self.regressed):
            return False
        return any(c.seen and s not in self.lost for s, c in self.cursors.items())

    def at(self, stream: Stream) -> int:
        """Return the stamp of a stream's cursor, in nanoseconds."""
        return self.cursors[stream].ns

    def ahead(self, now: float) -> frozenset[Stream]:
        """Return the streams whose cursors lie behind the Engine's time `now`, in seconds."""
        soon = int((now + _ASKEW) * NANO)
        return frozenset(stream for stream, cursor in self.cursors.items() if cursor.ns > soon)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How much of a log to ask for; `since` and `until` in nanoseconds, inclusive."""

    tail: int | None = None
    since: int | None = None
    until: int | None = None


def windows(
    progress: Progress, dialect: Dialect, *, reset: bool = False, follow: bool = False
) -> tuple[Window, ...]:
    """
    List what to ask for, narrowest first; the last is all there is.

    A narrow one is good if the cursor's own frame is in it; that its first frame `reaches`
    back to what is consumed lets hope so. Then resuming in a log of gigabytes takes
    milliseconds. With `reset` the Engine's clock may have been set back since, or a frame
    was lost: then `since` could hide what is new.
    """
    reach = max(progress.reach, 0)
    if not progress.cursors:
        return (Window(),)
    if reset and progress.lost:
        return (Window(),)
    if dialect is Dialect.PODMAN:
        if reset:
            return (Window(),)
        margin = 1 if progress.exact else _SLACK
        since = Window(since=max(reach // NANO - margin, 0) * NANO)
        if follow or progress.regressed:
            return (since,)
        return (*(Window(tail=tail) for tail in _TAILS), since)
    if dialect is Dialect.OLD:
        return (*(Window(tail=tail) for tail in (_TINY, *_TAILS)), Window())
    if progress.exact:
        # The newest consumed frame is itself in the window; and with `since` the
        # Engine need not unpack its compressed files.
        return (*(Window(tail=tail, since=reach) for tail in _TAILS), Window(since=reach))
    return (*(Window(tail=tail) for tail in _TAILS), Window(since=reach))


def reaches(
    progress: Progress, window: Window, kind: int, moment: int, dialect: Dialect = Dialect.NEW
) -> bool:
    """Say whether a window that begins with this frame should leave nothing out."""
    if dialect is Dialect.PODMAN:
        # Of frames with one second's stamp the first may have been left out.
        return moment // NANO < progress.reach // NANO
    if moment <= progress.reach or (progress.regressed and progress.exact):
        return True
    if not progress.exact:
        return False
    own = next((c for stream, c in progress.cursors.items() if stream == kind), None)
    if own is None:
        return False
    # Frames that share the newest stamp can only be counted from the first of them.
    return moment < own.ns or (moment == own.ns and window.tail != _TINY)


def positions(
    progress: Progress,
    *,
    trusting: bool = False,
    seeking: bool = False,
    ahead: frozenset[Stream] = frozenset(),
    live: bool = False,
    repeats: bool = False,
) -> dict[Stream, Position]:
    """
    Stand at the cursors of both streams, to tell the new frames of a window.

    `trusting` the stamps is for what lies behind damage, where the cursors' frames cannot
    be; `seeking` for finding out whether they are there at all. Of a `lost` stream that is `ahead` of the Engine's time everything is new.
    """
    real = [s for s, cursor in progress.cursors.items() if cursor.seen and s not in progress.lost]
    leader = progress.last if progress.exact else max(real, key=progress.at, default=None)
    made: dict[Stream, Position] = {}

    def stand(stream: Stream) -> Position:
        cursor = progress.cursors.get(stream)
        mark = Mark.STAMP
        if trusting or not progress.real or cursor is None:
            pass
        elif cursor.seen and (seeking or stream in progress.found):
            return Position(cursor, mark=Mark.FRAME, live=live, repeats=repeats)
        elif stream in progress.lost:
            mark = Mark.ALL if stream in ahead else Mark.LOST
        elif stream == leader or progress.exact:
            mark = Mark.FRAME
        elif cursor.seen:
            mark = Mark.EITHER
        first = made.get(leader) if leader is not None and stream != leader else None
        ceiling = progress.newest + INVERSION
        return Position(
            cursor, mark=mark, leader=first, ceiling=ceiling, live=live, repeats=repeats
        )

    if leader is not None:
        made[leader] = stand(leader)
    for stream in Stream:
        if stream not in made:
            made[stream] = stand(stream)
    return made


def narrower(tail: int | None) -> tuple[Window, ...]:
    """List windows to hop over damage with: what lies behind it is readable."""
    sizes = (2**power for power in range(17, -1, -1))
    return tuple(Window(tail=size) for size in sizes if tail is None or size < tail)


def parting(container: Container, progress: Progress, dialect: Dialect) -> int | None:
    """
    Return a moment between a container's run and the one before, in nanoseconds.

    None where nobody asks: on Docker another stamp ends a line anyway, a terminal's log does
    not show where a run began, and what is consumed cannot be parted any more. Podman sets down
    the end of a run when its log is written, by the time of a file. Of a container that does not
    run the end of the run before is not known any more, only when the last one began.
    """
    if dialect is not Dialect.PODMAN or container.tty or progress.regressed:
        return None
    start, end = (int(at * NANO) for at in (container.started_at, container.finished_at))
    if not start or (container.running and not end):
        return None
    moment = end + _TICK if container.running or 0 < end < start else start - _HEADSTART
    wanted = min((cursor.ns for cursor in progress.cursors.values()), default=0)
    return moment if wanted <= moment else None


def first_sight(moment: float) -> dict[Stream, Cursor]:
    """Make cursors that want every line from `moment`, seconds, on."""
    return dict.fromkeys(Stream, Cursor(max(int(moment * NANO), 0), 0))


def waiting(cursor: Cursor, first: int) -> Cursor:
    """Have a cursor say that a line behind it waits for its end; `first` is the line's stamp."""
    return Cursor(cursor.ns, -cursor.seen) if cursor.seen else Cursor(first - 1, 0)


def settled(cursor: Cursor) -> Cursor:
    """Return what a cursor says is consumed, whatever waits."""
    return Cursor(cursor.ns, abs(cursor.seen))


def resumed(stored: Mapping[Stream, Cursor]) -> tuple[dict[Stream, Cursor], int | None]:
    """
    Complete stored cursors: a stream without one had nothing to consume.

    At least not up to a round before the newest line of the other stream; or since the moment,
    in nanoseconds, that is returned if some line waited for its end.
    """
    newest = max(cursor.ns for cursor in stored.values())
    missing = Cursor(max(newest - (ROUND + 1) * NANO, 0), 0)
    held = min((cursor.ns for cursor in stored.values() if cursor.seen <= 0), default=None)
    return {stream: settled(stored.get(stream, missing)) for stream in Stream}, held
