"""
One container's log, from the last consumed line to its end.

In come a container and its cursors, out go chunks to `deliver`, each line exactly
once. What `deliver` has accepted is consumed; nothing is persisted here. A tail
ends because its log ended, never because somebody said that the container died:
the last lines of a crash count.

The order of things, each measured on real Engines:

1. Read without following until a read brings little that is new: such a read is
   consistent over rotated files, a follower's backlog is not.
2. Follow. A live line that comes late means that the follower lags; more than one
   rotation behind it would skip lines silently, so back to 1. A silent stream is
   opened anew from time to time, since some Engines let it go mute. Where a
   follower cannot be trusted at all, keep to 1.
3. When the stream ended, for whatever reason, read once more: the last lines of a
   run are sometimes not sent to followers. If the container does not run, that was
   the end.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum, StrEnum, auto

from dockerjail.docker.cursor import (
    Dialect,
    Progress,
    Window,
    first_sight,
    narrower,
    reaches,
    resumed,
    windows,
)
from dockerjail.docker.frames import SYSTEM_ERROR, Frame, FrameReader, TtyReader
from dockerjail.docker.inspect import bounded, readable
from dockerjail.docker.lines import LIMIT, Lines
from dockerjail.errors import ContainerGone, ContainerUnknown, EngineUnavailable, LogsUnreadable
from dockerjail.model import Chunk, Container, Cursor, Problem, Stream
from dockerjail.ports import Engine
from dockerjail.retry import Backoff
from dockerjail.stamp import NANO, nanoseconds

logger = logging.getLogger(__name__)

Deliver = Callable[[Chunk], Awaitable[None]]

_LITTLE = 2000
"""A read with fewer new frames is near enough to the end to start following."""

_LAG = 0.3
"""Seconds behind the usual at which a follower is given up: 3 s lost lines, 0.3 s none."""

_QUIET_FIRST, _QUIET_LONGEST = 2.0, 30.0
"""Seconds of silence until a followed stream is opened anew; grows while nothing was missed."""

_BRIEF = 5.0
"""A stream that lived shorter failed at once: the next one waits."""

_STUCK = 300.0
"""Seconds without a byte at which a read that does not follow is given up."""

_POLL = 1.0
_POLLS = 30
"""How often a truncated log is read, and after how many reads following is tried again."""

_FILE_LIFE = 5.0
_HASTY_POLL = 0.25
"""
Files that rotate faster than this many seconds are read and not followed: a follower
that was busy elsewhere for the life of a file skips it. (Engine 26.1, 150 000 lines at
once into files of 2 MB: 1 of 60 runs went from the first file to the last.)
"""


class State(StrEnum):
    """What a tail is doing, in a word."""

    WAITING = "waiting"
    CATCHING_UP = "catching up"
    FOLLOWING = "following"
    POLLING = "polling"
    ENDED = "ended"
    GONE = "gone"
    UNREADABLE = "unreadable"


class _End(Enum):
    """How one request ended."""

    CLOSED = auto()
    QUIET = auto()
    LAGGED = auto()
    UNREACHED = auto()
    DAMAGED = auto()
    HASTY = auto()


class _Need(Enum):
    """What a window must show to be good."""

    REACH = auto()
    """That it reaches back to what is consumed; else a wider one is tried."""
    SAY = auto()
    """Nothing, it is all there is; but say so if it does not reach back."""
    NOTHING = auto()


class _Silence(Exception):
    """Nothing came for longer than we have patience."""


@asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise _Silence from None


class Tail:
    """
    Follows one container, and says how that goes.

    To be read, not written: `state`; `lines` and `bytes` delivered; `last_at`, the
    Engine's time of the newest line, and `lag`, how many seconds late it came;
    `reconnects`, and `error` why; `overlong` lines cut and `dropped` bytes cut off
    them; `problem`.
    `finished` is the `started_at` of the run whose log was read to its end.
    """

    def __init__(
        self,
        engine: Engine,
        container: Container,
        deliver: Deliver,
        *,
        stored: Mapping[Stream, Cursor],
        start: float,
        dialect: Callable[[], Dialect],
        backoff: Backoff,
        clock: Callable[[], float],
        limit: int = LIMIT,
    ) -> None:
        """Resume from `stored`; with none, take lines from `start` (seconds) on."""
        self._engine = engine
        self._deliver = deliver
        self._dialect = dialect
        self._backoff = backoff
        self._clock = clock
        self._limit = limit
        self.container = container
        self.cursors = resumed(stored) if stored else first_sight(start)
        self.state = State.WAITING
        self.lines = 0
        self.bytes = 0
        self.last_at = 0.0
        self.lag = 0.0
        self.reconnects = 0
        self.overlong = 0
        self.dropped = 0
        self.problem: Problem | None = None
        self.error = ""
        self.finished = -1.0
        self._real = bool(stored)
        self._exact = not stored
        self._held: int | None = None
        self._empty = False
        self._assembly: Lines | None = None
        self._quiet = _QUIET_FIRST
        self._offset = 0.0
        self._late: float | None = None
        self._missed = False
        self._polls = 0
        self._ahead: int | None = None
        self._rate = _rate(container)
        self._flood = 0.0
        self._poured_at = 0.0

    async def run(self) -> None:
        """
        Deliver the log until it ends; call it again when the container starts anew.

        Keeps trying while the Engine is away. What cannot be mended it reports in
        `problem`, and returns.
        """
        able, problem = readable(self.container)
        if problem is not None:
            self._report(problem)
        if not able:
            self.state = State.UNREADABLE
            return
        try:
            await self._persist()
        except ContainerGone:
            await self._finish(State.GONE)
        except LogsUnreadable as error:
            self.state = State.UNREADABLE
            what = f"its log cannot be read, the Engine says: {error}"
            self._warn(what, "use the logging driver json-file or local and create it anew")

    @property
    def consumed(self) -> bool:
        """Whether any line was ever delivered, now or by an earlier process."""
        return self._real

    async def _persist(self) -> None:
        """Read and follow until the container does not run; retry what may get better."""
        clock = asyncio.get_running_loop().time
        delays = self._backoff.delays()
        look = wait = False
        while True:
            began = clock()
            try:
                if look:
                    self.container = await self._look()
                running = self.container.running
                await self._catch_up()
                if not running:
                    await self._finish(State.ENDED)
                    return
                if wait:
                    await asyncio.sleep(next(delays))
                began = clock()
                look = wait = await self._follow() is _End.CLOSED
            except (EngineUnavailable, ContainerUnknown) as error:
                # A cut connection is normal (restarts, proxies that end idle
                # streams): only one that fails again at once has to wait.
                logger.debug("log of %s: %s", self.container.name, error)
                self.error = str(error)
                self.state = State.WAITING
                look, wait = True, False
                if clock() - began < _BRIEF:
                    await asyncio.sleep(next(delays))
            if look:
                self.reconnects += 1
            if clock() - began >= _BRIEF:
                delays, wait = self._backoff.delays(), False

    async def _look(self) -> Container:
        container = await self._engine.inspect(self.container.id)
        if container is None:
            raise ContainerGone(f"container {self.container.name} is removed")
        return bounded(container)[0]

    async def _finish(self, state: State) -> None:
        """Deliver a last line that has no LF: nothing can follow it any more."""
        if self._assembly is not None:
            await self._give(self._assembly, self._assembly.finish())
        self._assembly = self._held = None
        self.lag = 0.0
        self.finished = self.container.started_at
        self.state = state

    async def _catch_up(self) -> None:
        """Read without following until there is little left."""
        self.state = State.POLLING if self._polls else State.CATCHING_UP
        total, fresh = 0, _LITTLE
        while fresh >= _LITTLE:
            _, fresh = await self._read(follow=False)
            total += fresh
        if total >= _LITTLE:
            self._late = None
        if total and self._missed:
            self._quiet = _QUIET_FIRST
        self._missed = False

    async def _follow(self) -> _End:
        """Follow until there is a reason not to."""
        if self._polls:
            self._polls -= 1
            await asyncio.sleep(_POLL)
            return _End.HASTY
        if self._hasty:
            self.state = State.POLLING
            await asyncio.sleep(_HASTY_POLL)
            return _End.HASTY
        end, _ = await self._read(follow=True)
        if end is _End.QUIET:
            self._missed = True  # if the log has lines that did not come
            self._quiet = min(self._quiet * 2, _QUIET_LONGEST)
        return end

    async def _read(self, *, follow: bool) -> tuple[_End, int]:
        """Read through the narrowest window that leaves nothing out."""
        plan = self._plan()
        end, fresh, window = _End.UNREACHED, 0, plan[-1]
        self._ahead = None
        for window in plan:
            need = _Need.REACH if window is not plan[-1] else _Need.SAY
            end, new = await self._request(window, need, follow=follow)
            fresh += new
            if end is not _End.UNREACHED:
                break
        if end is _End.CLOSED and not follow and self._falls_short:
            end = _End.DAMAGED  # Engines before 23 stop there without a word
        while end is _End.DAMAGED:
            # Damage ends the stream even before lines that are readable; a window
            # that begins behind it brings them.
            self._warn(
                "the Engine could not read a part of its log, lines may have been missed",
                "look for a full or a failing disk",
            )
            for smaller in narrower(window.tail):
                window = smaller
                end, new = await self._request(window, _Need.NOTHING, follow=follow)
                fresh += new
                if end is not _End.DAMAGED and not self._falls_short:
                    break
            else:
                raise EngineUnavailable("the Engine cannot read the end of the log")
        return end, fresh

    @property
    def _falls_short(self) -> bool:
        """Whether a narrow window showed something newer than all that was read then."""
        seen = self._progress().newest
        if self._assembly is not None and self._assembly.newest is not None:
            seen = max(seen, self._assembly.newest)
        return self._ahead is not None and seen < self._ahead

    def _progress(self) -> Progress:
        return Progress(cursors=self.cursors, real=self._real, exact=self._exact, held=self._held)

    def _plan(self) -> Sequence[Window]:
        if self._empty:
            return (Window(),)
        plan = windows(self._progress(), self._dialect())
        return plan[-1:] if self._polls else plan

    async def _request(self, window: Window, need: _Need, *, follow: bool) -> tuple[_End, int]:
        """Open the log once; return how that ended and how many frames were new."""
        patience = self._quiet if follow else _STUCK
        progress = self._progress()
        reader = TtyReader() if self.container.tty else FrameReader()
        lines = Lines(self.container, self.cursors, dialect=self._dialect(), limit=self._limit)
        met = False
        end = _End.CLOSED
        async with AsyncExitStack() as stack:
            try:
                async with _patience(patience):
                    # Some Engines send even the headers only with the first line.
                    body = await stack.enter_async_context(
                        self._engine.logs(
                            self.container, follow=follow, since=window.since, tail=window.tail
                        )
                    )
                if follow:
                    self.state = State.FOLLOWING
                data: bytes | None = b""
                while data is not None and end is _End.CLOSED:
                    async with _patience(patience):
                        data = await anext(body, None)
                    frames = reader.feed(data) if data is not None else reader.finish()
                    if not met and frames and frames[0][0] != SYSTEM_ERROR:
                        met = True
                        if not self._accept(progress, window, frames[0], need):
                            return _End.UNREACHED, 0
                    chunks = lines.feed(frames)
                    if follow and lines.oldest is not None and self._lags(lines.oldest):
                        # What is in hand may be from behind a gap already: leave it.
                        self._assembly = None
                        return _End.LAGGED, 0
                    self._assembly = lines
                    await self._give(lines, chunks)
                    if lines.errors:
                        end = _End.DAMAGED
                    elif follow and self._hasty:
                        end = _End.HASTY
            except _Silence:
                if not follow:
                    raise EngineUnavailable(f"no byte of a log for {_STUCK:.0f} s") from None
                end = _End.QUIET
        if met:
            self._empty = False
            self._held = lines.held
        elif not follow and end is _End.CLOSED and not self._accept_nothing(window, need):
            return _End.UNREACHED, 0
        if not follow and end is _End.CLOSED:
            self._exact = True
        return end, lines.fresh

    def _accept(self, progress: Progress, window: Window, first: Frame, need: _Need) -> bool:
        """Judge a window by its first frame."""
        kind, payload = first
        try:
            moment = nanoseconds(payload[: payload.find(b" ")])
        except ValueError as error:
            raise EngineUnavailable(f"the Engine sent a log line without a time: {error}") from None
        if need is _Need.REACH:
            good = reaches(progress, window, kind, moment)
            if not good and self._ahead is None:
                self._ahead = moment
            return good
        if need is _Need.SAY and progress.real and moment > progress.newest:
            self._say_lost()
        return True

    def _accept_nothing(self, window: Window, need: _Need) -> bool:
        """Judge a window in which there is not a single frame."""
        if not self._real:
            self._empty = window.since is None
            return True
        if need is _Need.REACH:
            if self._dialect() is Dialect.NEW:
                # Somebody truncated the file: from then on neither `tail` nor
                # `follow` works, but reading all of it does.
                self._polls = _POLLS
            return False
        if need is _Need.SAY:
            self._say_lost()
        return True

    def _lags(self, moment: int) -> bool:
        """
        Say whether a live line comes too late.

        Usual is how late lines come anyway, when the Engine's clock is not ours:
        what two lines in a row are late without anything to catch up on between.
        """
        late = self._clock() - moment / NANO
        self._offset = min(self._offset, late)
        if late - self._offset <= _LAG:
            self._late = None
            return False
        if self._late is not None and abs(late - self._late) <= _LAG:
            self._offset, self._late = late, None
            return False
        self._late = late
        return True

    async def _give(self, lines: Lines, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            await self._deliver(chunk)
            self.cursors[chunk.stream] = chunk.cursor
            self._real = True
            self.lines += chunk.data.count(b"\n")
            self.bytes += len(chunk.data)
            self._pour(len(chunk.data))
        if chunks and lines.newest is not None:
            self.last_at = lines.newest / NANO
            self.lag = max(self._clock() - self.last_at - self._offset, 0.0)
        self.overlong += lines.overlong
        self.dropped += lines.dropped
        lines.overlong = lines.dropped = 0

    def _pour(self, size: int) -> None:
        """Let `size` bytes into a bucket that empties at the rate a follower can be trusted at."""
        if self._rate:
            now = asyncio.get_running_loop().time()
            left = max(self._flood - (now - self._poured_at) * self._rate, 0.0)
            self._flood = min(left + size, self._rate * _FILE_LIFE)
            self._poured_at = now

    @property
    def _hasty(self) -> bool:
        """Whether the files of the log rotate too fast to be followed."""
        if not self._rate:
            return False
        self._pour(0)
        return self._flood > self._rate

    def _say_lost(self) -> None:
        self._warn(
            "its log was rotated away or truncated before it was read, lines may have been missed",
            "allow larger or more files (log options max-size and max-file)",
        )

    def _warn(self, what: str, remedy: str) -> None:
        self._report(Problem(place=f"container {self.container.name}", what=what, remedy=remedy))

    def _report(self, problem: Problem) -> None:
        if problem != self.problem:
            self.problem = problem
            logger.warning("%s", problem)


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def _rate(container: Container) -> float:
    """Return how many bytes a second make the log's files rotate too fast; 0 for no limit."""
    default = "20m" if container.log_driver == "local" else ""
    size = _SIZE.fullmatch(container.log_options.get("max-size", default))
    return float(size[1]) * _UNITS[size[2].lower()] / _FILE_LIFE if size is not None else 0.0
