"""
One container's log, from the last consumed line to its end.

In come a container and its cursors, out go chunks to `deliver`, each line exactly
once. What `deliver` has accepted is consumed; nothing is persisted here. A tail
ends because its log ended, never because somebody said that the container died:
the last lines of a crash count.

A frame is new when it stands behind the one that the cursor names; stamps only say
where to look for that, since the Engine's clock may be set back. When it is not in the log
any more, lines may have been missed: that is a gap, counted and said.

The order of things, each measured on real Engines:

1. Read without following until a read brings little that is new: such a read is
   consistent over rotated files, a follower's backlog is not.
2. Follow. A live line that comes late means that the follower lags; more than one
   rotation behind it would skip lines silently, so back to 1. So does a line whose
   stamp goes back. A silent stream is opened anew from time to time, since some Engines
   let it go mute. Where a follower cannot be trusted at all, keep to 1: where files are
   small, following only tells that there is something to read.
3. When the stream ended, for whatever reason, read once more: the last lines of a
   run are sometimes not sent to followers. If the container does not run, that was
   the end.

Nobody waits for `deliver` with a follower open: it would fall behind, and skip. A read that
does not follow stays open meanwhile, since it keeps files that are rotated away.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from enum import Enum, StrEnum, auto

from dockerjail.docker.cursor import (
    Dialect,
    Progress,
    Window,
    first_sight,
    narrower,
    parting,
    positions,
    reaches,
    resumed,
    settled,
    stamp,
    windows,
)
from dockerjail.docker.frames import JOURNALD, SYSTEM_ERROR, Reader
from dockerjail.docker.frames import reader as frames_of
from dockerjail.docker.inspect import bounded, readable
from dockerjail.docker.lateness import Lateness
from dockerjail.docker.lines import LIMIT, Lines
from dockerjail.docker.pace import Pace, file_size
from dockerjail.docker.recall import Recall, recall
from dockerjail.docker.slab import Frame, Slab
from dockerjail.errors import ContainerGone, ContainerUnknown, EngineUnavailable, LogsUnreadable
from dockerjail.framed import count
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

_LAG_JOURNALD = 1.0
"""The same for the driver journald: it tells of new lines after 0.25 s, and its journal is large."""

_LAST_WORDS = 3.0
"""
Seconds without a new line until the log of a run that ended is over, for the driver journald: what
was sent to it in time it may write later. (Engine 26 itself waits 2 s for that, 20.10 not at all.)
"""

_QUIET_FIRST, _QUIET_LONGEST = 2.0, 30.0
"""Seconds of silence until a followed stream is opened anew; grows while nothing was missed."""

_UNSAID = 5.0
"""Seconds more until a stream that does not even say that nothing comes is opened anew."""

_BRIEF = 5.0
"""A stream that lived shorter failed at once: the next one waits."""

_STUCK, _STUCK_FAR = 30.0, 300.0
"""
Seconds without a byte at which a read that does not follow is given up. To find a moment in
a log of gigabytes takes the Engine 10 s for each.
"""

_POLL = 1.0
_POLLS = 30
"""Seconds between reads of a truncated log; after how many of them following is tried again."""

_HASTY_POLL = 0.25
"""Seconds between reads of a log whose files are not to be followed."""

_AGAIN = 0.3
"""Seconds until a frame that is not in the log is looked for again: a file may just be compressed."""

_HELD_UP = 1.0
"""Seconds that a follower stays open while nobody takes what it brought."""

_NEAR = 8192
"""Frames from the end of a log that are searched for where a silent stream stood."""

_SLICE = 32 * 1024
"""Bytes that are taken apart before others get a turn."""

_ASKEW = 3.0
"""Seconds by which stamps, which may be whole seconds, and our clock are apart at most."""

_STANDS = 86400.0
"""Seconds for which something that is over, but may have cost lines, stays a problem."""


class State(StrEnum):
    """What a tail is doing, in a word."""

    WAITING = "waiting"
    CATCHING_UP = "catching up"
    FOLLOWING = "following"
    POLLING = "polling"
    HELD_UP = "held up"
    """What it has read waits to be taken."""
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
    """The last frame that is consumed; else a wider one is tried."""
    SAY = auto()
    """The same; but it is all there is, and nothing wider can be tried."""
    SEEK = auto()
    """
    The same; but nothing is taken, it is only to be known which cursors' frames are there. So
    it must be no narrower than what is read then.
    """
    PART = auto()
    """Nothing: it ends where a run of the container did, perhaps before that frame."""
    NOTHING = auto()


class _Silence(Exception):
    """Nothing came for longer than we have patience."""


class _Restarted(Exception):
    """The container ended or began a run while its log was read."""


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
    them; `gaps`, how often lines may have been missed; `problems`.
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
        recall: Recall | None = None,
    ) -> None:
        """
        Resume from `stored`; with none, take lines from `start` (seconds) on.

        With `stored`, whoever is to `recall` what stood before is shown it first.
        """
        self._recall = recall if stored else None
        self._engine = engine
        self._deliver = deliver
        self._dialect = dialect
        self._backoff = backoff
        self._clock = clock
        self._limit = limit
        self.container = container
        self._held: int | None = None
        self.cursors = first_sight(start)
        if stored:
            self.cursors, self._held = resumed(stored)
        self._told: dict[Stream, Cursor] = {}
        self.state = State.WAITING
        self.lines = 0
        self.bytes = 0
        self.last_at = 0.0
        self.reconnects = 0
        self.overlong = 0
        self.dropped = 0
        self.gaps = 0
        self.error = ""
        self.finished = -1.0
        self._problems: dict[str, tuple[Problem, float, float]] = {}
        self._real = bool(stored)
        self._last: Stream | None = None
        self._found: frozenset[Stream] = frozenset()
        self._lost: frozenset[Stream] = frozenset()
        self._regressed = False
        self._sure = False
        self._doubted: frozenset[Stream] = frozenset()
        self._whole = False
        self._empty = False
        self._parted = -1.0
        self._inspected = -math.inf
        self._assembly: Lines | None = None
        self._quiet = _QUIET_FIRST
        self._lateness = Lateness()
        self._lag = self._lag_at = 0.0
        self._waiting_since: float | None = None
        self._missed = False
        self._polls = 0
        self._ahead: int | None = None
        self._stood: Mapping[Stream, Cursor] = {}
        self._pace = Pace(file_size(container.log_driver, container.log_options))
        self._busy = False
        self._reset = False
        self._task: asyncio.Task[None] | None = None
        self._delivering = False
        self._leaving = False
        self._closers: asyncio.TaskGroup

    async def run(self) -> None:
        """
        Deliver the log until it ends; call it again when the container starts anew.

        Keeps trying while the Engine is away. What cannot be mended it reports in
        `problems`, and returns.
        """
        able, problem = readable(self.container)
        if problem is not None:
            self._report("driver", problem, stands=math.inf)
        if not able:
            self.state = State.UNREADABLE
            return
        task = self._task = asyncio.current_task()
        self._whole = False
        try:
            async with asyncio.TaskGroup() as self._closers:
                await self._through()
        except asyncio.CancelledError:
            if task is None or not self._leaving or task.uncancel():
                raise
        finally:
            self._task = None

    def leave(self) -> None:
        """Have `run` return soon, between two chunks: what is being delivered is delivered."""
        self._leaving = True
        if self._task is not None and not self._delivering:
            self._task.cancel()

    @property
    def consumed(self) -> bool:
        """Whether any line was ever delivered, now or by an earlier process."""
        return self._real

    @property
    def stand(self) -> dict[Stream, Cursor]:
        """What to resume from, some time later."""
        return {**self.cursors, **self._told}

    @property
    def lag(self) -> float:
        """How many seconds late the newest line came, or is by now if it or the next still waits."""
        since = self._waiting_since
        if since is None and self.state in (State.CATCHING_UP, State.POLLING) and self._lag:
            since = self._lag_at  # an Engine may take long to find the next
        if since is None:
            return self._lag
        return self._lag + asyncio.get_running_loop().time() - since

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong, or was within a day; then with the moment when it was so last."""
        now = asyncio.get_running_loop().time()
        self._problems = {k: v for k, v in self._problems.items() if v[1] > now}
        return [
            problem if until == math.inf else replace(problem, what=f"{problem.what} ({_when(at)})")
            for problem, until, at in self._problems.values()
        ]

    async def _through(self) -> None:
        try:
            await self._persist()
        except ContainerGone:
            await self._finish(State.GONE)
            if not self._whole:
                self._gap("it was removed before its log was read to the end", "")
        except LogsUnreadable as error:
            self.state = State.UNREADABLE
            what = f"its log cannot be read, the Engine says: {error}"
            remedy = "use the logging driver json-file or local and create it anew"
            self._warn("unreadable", what, remedy, stands=math.inf)

    async def _persist(self) -> None:
        """Read and follow until the container does not run; retry what may get better."""
        clock = asyncio.get_running_loop().time
        delays = self._backoff.delays()
        look = wait = False
        while not self._leaving:
            began = clock()
            try:
                if look:
                    self.container = await self._look()
                running = self.container.running
                if self._recall is not None:
                    await self._remind(self._recall)
                    self._recall = None
                await self._catch_up()
                if not running:
                    if not await self._over():
                        look = True
                        continue
                    await self._finish(State.ENDED)
                    return
                if wait:
                    await asyncio.sleep(next(delays))
                began = clock()
                look = wait = await self._follow() is _End.CLOSED
            except (EngineUnavailable, ContainerUnknown, _Restarted) as error:
                # A cut connection is normal (restarts, proxies that end idle
                # streams): only one that fails again at once has to wait.
                logger.debug("log of %s: %s", self.container.name, error)
                self.error = str(error)
                self.state = State.WAITING
                self._whole = False
                look, wait = True, False
                if clock() - began < _BRIEF:
                    await asyncio.sleep(next(delays))
            if look:
                self.reconnects += 1
            if clock() - began >= _BRIEF:
                delays, wait = self._backoff.delays(), False

    async def _over(self) -> bool:
        """Say whether nothing comes any more of a run that ended and was read."""
        if self.container.log_driver != JOURNALD:
            return True
        self._whole = True
        quiet, read = 0.0, (self.cursors.copy(), self._held)
        while quiet < _LAST_WORDS:
            await asyncio.sleep(_LAST_WORDS / 6)
            await self._catch_up()
            quiet = quiet + _LAST_WORDS / 6 if read == (self.cursors, self._held) else 0.0
            read = self.cursors.copy(), self._held
        before, self.container = self.container, await self._look()
        return not self.container.running and self.container.started_at == before.started_at

    async def _remind(self, begin: Recall) -> None:
        """Show what an earlier process has judged to who has forgotten it."""
        try:
            async with _patience(_STUCK_FAR):
                await recall(
                    self._engine,
                    self.container,
                    self.cursors,
                    begin,
                    dialect=self._dialect(),
                    limit=self._limit,
                )
        except _Silence:
            logger.warning(
                "container %s: what stood in its log before could not be read within %.0f s: "
                "lines that continue earlier ones may be missed",
                self.container.name,
                _STUCK_FAR,
            )

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
        self._lag = 0.0
        self.finished = self.container.started_at
        self.state = state

    async def _catch_up(self) -> None:
        """Read without following until there is little left."""
        if self.state is not State.POLLING:
            self.state = State.POLLING if self._polls else State.CATCHING_UP
        self._look_at_clocks()
        total, fresh = 0, _LITTLE
        while fresh >= _LITTLE:
            _, fresh = await self._read(follow=False)
            total += fresh
        if total >= _LITTLE:
            self._lateness.caught_up()
        if total and self._missed:
            self._quiet = _QUIET_FIRST
        self._missed = self._reset = False
        self._busy = total > 0
        self._lag = 0.0

    async def _follow(self) -> _End:
        """Follow until there is a reason not to."""
        self._whole = False
        if self._polls:
            self._polls -= 1
            await asyncio.sleep(_POLL)
            return _End.HASTY
        now = asyncio.get_running_loop().time()
        if self._pace.hasty(now) or (self._busy and self._pace.small):
            self.state = State.POLLING
            await asyncio.sleep(_HASTY_POLL)
            return _End.HASTY
        end, _ = await self._read(follow=True)
        self._whole = end is _End.CLOSED
        if end is _End.QUIET:
            self._missed = True  # if the log has lines that did not come
            self._quiet = min(self._quiet * 2, _QUIET_LONGEST)
        return end

    async def _read(self, *, follow: bool) -> tuple[_End, int]:
        """Read through the narrowest window that leaves nothing out."""
        plan = self._plan(follow=follow)
        end, fresh, window = _End.UNREACHED, 0, plan[-1]
        self._ahead = None
        self._stood = dict(self.cursors)
        if not follow:
            plan = await self._seek(plan)
            if self._parted != self.container.started_at and (left := await self._part()):
                fresh += left
                plan = await self._seek(self._plan(follow=False))
        self._doubted = frozenset()
        for self._sure in (False, True):
            # what is to be believed lost must not be in any part of the log
            for window in plan[-1:] if self._doubted else plan:
                need = _Need.REACH if window is not plan[-1] else _Need.SAY
                end, new = await self._request(window, need, follow=follow)
                fresh += new
                if end is not _End.UNREACHED:
                    break
            if end is not _End.UNREACHED or follow:
                break
            await asyncio.sleep(_AGAIN)
        if end is _End.UNREACHED and self._lost and not follow:
            # All there is, once more: what has taken the place of the lost frame.
            window = Window()
            end, new = await self._request(window, _Need.SAY, follow=False)
            fresh += new
        while end is _End.DAMAGED:
            # Damage ends the stream even before lines that are readable; a window
            # that begins behind it brings them.
            self._gap(
                "the Engine could not read a part of its log",
                "look for a full or a failing disk",
            )
            for smaller in narrower(window.tail):
                window = smaller
                end, new = await self._request(window, _Need.NOTHING, follow=follow)
                fresh += new
                if end is not _End.DAMAGED:
                    break
            else:
                raise EngineUnavailable("the Engine cannot read the end of the log")
        return end, fresh

    async def _seek(self, plan: Sequence[Window]) -> Sequence[Window]:
        """
        Look up which cursors' frames are in the log, if their order or stamps do not tell.

        Returns what is left of the plan: narrower windows do not reach back to them.
        """
        progress = self._progress()
        unsure = progress.real and not progress.exact and progress.ahead(self._now)
        if not (progress.torn or unsure):
            return plan
        wanted = self._wanted
        newest = max(wanted, key=progress.at, default=None)
        for number, window in enumerate(plan):
            end, _ = await self._request(window, _Need.SEEK, follow=False)
            if end is not _End.UNREACHED:
                return plan[number:]
            if newest in self._found and _far(plan[number + 1 :]):
                # of a stream that has long been silent all the log would have to be read
                return plan[number:]
        return plan

    @property
    def _wanted(self) -> frozenset[Stream]:
        """The streams whose cursors' frames should be in the log."""
        return frozenset(s for s, c in self.cursors.items() if c.seen and s not in self._lost)

    async def _part(self) -> int:
        """
        Read what runs before this one left, if nothing else ends their last lines.

        Returns how many frames were new.
        """
        started, progress = self.container.started_at, self._progress()
        until = parting(self.container, progress, self._dialect())
        fresh = 0
        if until is not None and not self._reset and not progress.ahead(self._now):
            window = replace(self._plan(follow=True)[-1], until=until)
            before, earlier = self._last, self._assembly
            try:
                end, fresh = await self._request(window, _Need.PART, follow=False)
                read = self._assembly
                if read is not None and read is not earlier and end is _End.CLOSED:
                    fresh += read.pending
                    await self._give(read, read.finish())
            finally:
                # what is behind may be consumed of the other stream: no last frame is known
                self._last = None
            self._assembly = self._held = None
            if not fresh:
                self._last = before
        self._parted = started
        return fresh

    async def _see_that_it_runs_on(self, joint: int) -> None:
        """
        Raise `_Restarted` if the pieces of a line may be of two runs; the last is stamped `joint`.

        Podman's followers may go on from one run to the next without a word.
        """
        known = self.container
        if known.tty or joint / NANO + _ASKEW < self._inspected:
            return
        asked = self._now
        found = await self._engine.inspect(known.id)
        if found is None:
            return  # no run can have begun
        if (found.started_at, found.finished_at) != (known.started_at, known.finished_at):
            raise _Restarted(f"container {known.name} was started anew")
        self._inspected = asked

    async def _brought_all(self, lines: Lines) -> bool:
        """
        Say whether a silent stream has brought `lines` all there is; False to open it anew.

        Podman reads all of a log's file to open a stream, but only the end of it for this.
        """
        if self._dialect() is not Dialect.PODMAN:
            return False
        await self._read(follow=False)
        if self._assembly is None or self._assembly.stands == lines.stands:
            return True
        self._quiet = _QUIET_FIRST
        return False

    def _progress(self) -> Progress:
        return Progress(
            cursors=self.cursors,
            real=self._real,
            last=self._last,
            held=self._held,
            found=self._found,
            lost=self._lost,
            regressed=self._regressed,
        )

    @property
    def _now(self) -> float:
        """The Engine's time, as far as its lines tell how it differs from ours."""
        return self._clock() - self._lateness.offset

    def _plan(self, *, follow: bool) -> Sequence[Window]:
        if self._empty:
            return (Window(),)
        progress = self._progress()
        reset = self._reset or bool(progress.ahead(self._now))
        plan = windows(progress, self._dialect(), reset=self._real and reset, follow=follow)
        return plan[-1:] if self._polls else plan

    async def _request(self, window: Window, need: _Need, *, follow: bool) -> tuple[_End, int]:
        """Open the log once; return how that ended and how many frames of lines were new."""
        searched = window.tail is None and window.since is not None
        patience = self._quiet if follow else _STUCK_FAR if searched else _STUCK
        progress = self._progress()
        reader = frames_of(self.container, self._dialect())
        stand = positions(
            progress,
            trusting=need is _Need.NOTHING,
            seeking=need is _Need.SEEK,
            ahead=progress.ahead(self._now),
            live=follow,
            repeats=self._dialect() is Dialect.OLD,
        )
        lines = Lines(
            self.container,
            self.cursors,
            dialect=self._dialect(),
            limit=self._limit,
            stand=stand,
            ahead=self._ahead,
        )
        clock = asyncio.get_running_loop().time
        met = False
        count = 0
        end = _End.CLOSED
        async with AsyncExitStack() as stack:
            try:
                async with _patience(patience):
                    # Some Engines send even the headers only with the first line.
                    body = await stack.enter_async_context(
                        self._engine.logs(
                            self.container,
                            follow=follow,
                            since=window.since,
                            until=window.until,
                            tail=window.tail,
                        )
                    )
                if follow:
                    self.state = State.FOLLOWING
                data: bytes | None = b""
                spoke = clock()
                while data is not None and end is _End.CLOSED:
                    async with _patience(patience + _UNSAID):
                        data = await anext(body, None)
                    if follow and self._look_at_clocks() and not self._real:
                        return _End.LAGGED, 0  # what came may be wanted by now
                    if data == b"":
                        if clock() - spoke < patience:
                            continue
                        if follow and await self._brought_all(lines):
                            self._quiet = patience = min(patience * 2, _QUIET_LONGEST)
                        else:
                            end = _End.QUIET
                    spoke = clock()
                    sure = need is _Need.PART
                    for frames in _frames(reader, data):
                        if not met and frames and frames[0][0] != SYSTEM_ERROR:
                            met = True
                            if not self._accept(progress, window, frames[0], need):
                                return _End.UNREACHED, 0
                            if not follow and self._begins_late(progress, window, frames[0]):
                                lines.tear()
                        chunks = lines.feed(frames)
                        count += (
                            0 if isinstance(frames, Slab) else len(frames)
                        )  # behind the cursors' frames
                        if need is _Need.SEEK:
                            await asyncio.sleep(0)
                            continue
                        if lines.joined is not None and not sure:
                            await self._see_that_it_runs_on(lines.joined)
                            sure = True
                        if follow and (why := self._unsure(lines, chunks, count, window)):
                            self._assembly = None
                            # frames of one stamp may stand apart: a wider window has them all
                            narrow = why is _End.LAGGED and lines.astray and need is _Need.REACH
                            return _End.UNREACHED if narrow else why, 0
                        self._assembly = lines
                        if chunks and await self._take(lines, chunks, stack if follow else None):
                            end = _End.LAGGED
                            break
                        if lines.errors:
                            end = _End.DAMAGED
                            break
                        await asyncio.sleep(0)
                    # what came last may be hundreds of lines, and nothing may come for days
                    data, frames, chunks = data and b"", (), []
            except _Silence:
                end = _End.QUIET
        if end is _End.QUIET and not follow:
            raise EngineUnavailable(f"no byte of a log for {patience:.0f} s")
        if not follow and end is _End.CLOSED:
            end = self._conclude(lines, window, need, met=met)
        if met and need is not _Need.SEEK:
            self._empty = False
            if self._assembly is lines and end is not _End.UNREACHED:
                self._held = lines.held
        return end, lines.fresh - lines.pending  # those will be new to the next, too

    def _conclude(self, lines: Lines, window: Window, need: _Need, *, met: bool) -> _End:
        """Judge a window that was read to its end; take note of what it showed."""
        if need is _Need.PART:
            return _End.CLOSED
        if need is _Need.SEEK:
            self._found = lines.met
            return _End.CLOSED if self._wanted <= lines.met else _End.UNREACHED
        if not met:
            return _End.CLOSED if self._accept_nothing(window, need) else _End.UNREACHED
        if not lines.reached and not self._regressed:
            # A narrower window showed something newer: it is behind damage, at which
            # Engines before 23 stop without a word.
            return _End.DAMAGED
        if lines.fell:
            self._fell(lines.fell)
        self._regressed = self._regressed or lines.regressed
        if self._regressed:
            self._polls = 0  # no window was empty because of a truncated file
        if need is not _Need.NOTHING:
            # The other stream's frame may be found by now, and hide that this one's is not.
            hidden = self._doubted - lines.met - lines.lost
            self._doubted = lines.lost
            if need is _Need.SAY and self._sure and (lines.lost or hidden):
                self._lose(lines.lost, hidden)
                self._doubted = frozenset()
            if lines.lost:
                return _End.UNREACHED
        self._last, self._found = lines.last or self._last, frozenset()
        return _End.CLOSED

    def _unsure(
        self, lines: Lines, chunks: Sequence[Chunk], count: int, window: Window
    ) -> _End | None:
        """
        Say why to leave a follower without taking what it brought, if there is a reason.

        What is in hand may be from behind a gap already.
        """
        if lines.doubtful:
            return _End.LAGGED
        if lines.astray and (not self._regressed or count > (window.tail or math.inf)):
            return _End.LAGGED
        if lines.oldest is not None and self._lags(lines.oldest):
            return _End.LAGGED
        now = asyncio.get_running_loop().time()
        self._pace.pour(sum(len(chunk.data) for chunk in chunks), now)
        if self._pace.hasty(now) or (self._pace.small and lines.fresh):
            return _End.HASTY
        return None

    def _accept(self, progress: Progress, window: Window, first: Frame, need: _Need) -> bool:
        """Judge a window by its first frame."""
        kind, payload = first
        try:
            moment = nanoseconds(payload[: payload.find(b" ")])
        except ValueError as error:
            raise EngineUnavailable(f"the Engine sent a log line without a time: {error}") from None
        judged = need is _Need.REACH or (need is _Need.SEEK and (window.tail or 0) > _NEAR)
        if not judged or reaches(progress, window, kind, moment, self._dialect()):
            return True
        if need is _Need.REACH and self._ahead is None:
            self._ahead = moment
        return False

    def _begins_late(self, progress: Progress, window: Window, first: Frame) -> bool:
        """Say whether a log may have lost, with its beginning, a part of what is read now."""
        kind, payload = first
        moment = nanoseconds(payload[: payload.find(b" ")])
        return progress.real and not reaches(progress, window, kind, moment, self._dialect())

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
            wanted = frozenset(s for s, cursor in self.cursors.items() if cursor.seen)
            if wanted - self._lost:
                self._lose(wanted)
                return window.since is None
        return True

    def _lose(self, streams: frozenset[Stream], hidden: frozenset[Stream] = frozenset()) -> None:
        """
        Take note that the last lines that were read are not in the log any more.

        Of `hidden` streams they are not either, but what is new is told by the other stream.
        """
        self._lost |= {stream for stream in streams if self.cursors[stream].seen}
        self._last = None
        self._gap(
            "its log was rotated away or truncated before it was read",
            "allow larger or more files (log options max-size and max-file)",
            streams | hidden,
            # of a stream whose frame is gone what is there may have been delivered by now
            stood=self._stood,
        )

    def _fell(self, by: int) -> None:
        """Tell that the Engine's clock was set back."""
        self._warn(
            "clock",
            f"the Engine's clock was set back by {by / NANO:.1f} s: its lines are followed on, "
            "and count by the new time",
            "let a time service slew the clock instead of setting it",
        )

    def _look_at_clocks(self) -> bool:
        """Say whether this host's clock was set back since the last look."""
        step = self._lateness.look(self._clock(), asyncio.get_running_loop().time())
        if step >= 0:
            return False
        self._reset = True
        for stream, cursor in self.cursors.items():
            if not cursor.seen:  # from where on lines are wanted: that moment is earlier now
                self.cursors[stream] = Cursor(max(cursor.ns + int(step * NANO), 0), 0)
        return True

    def _lags(self, moment: int) -> bool:
        """Say whether a live line comes too late."""
        self._look_at_clocks()
        late = self._clock() - moment / NANO
        self._lateness.see(late)
        if self._dialect() is Dialect.PODMAN:
            return False  # its stamps are up to a second old, and to leave it would help nothing
        most = _LAG_JOURNALD if self.container.log_driver == JOURNALD else _LAG
        return self._lateness.lags(late, most)

    async def _take(
        self, lines: Lines, chunks: Sequence[Chunk], follower: AsyncExitStack | None
    ) -> bool:
        """
        Have chunks taken; close the `follower` if that takes long, and say so.

        Somebody who is asked to leave meanwhile leaves behind the chunk in hand.
        """
        before, self._waiting_since = self.state, None
        closed = False

        def hold_up() -> None:
            nonlocal closed
            self.state = State.HELD_UP
            self._waiting_since = asyncio.get_running_loop().time() - _HELD_UP
            if follower is not None:
                closed = True
                self._closers.create_task(follower.aclose(), name=f"close {self.container.name}")

        alarm = asyncio.get_running_loop().call_later(_HELD_UP, hold_up)
        try:
            await self._give(lines, chunks)
        finally:
            alarm.cancel()
            self._waiting_since = None
            if self.state is State.HELD_UP:
                self.state = before
        return closed

    async def _give(self, lines: Lines, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            self._delivering = True
            try:
                await self._deliver(chunk)
            finally:
                self._delivering = False
            self._told[chunk.stream] = chunk.cursor
            self.cursors[chunk.stream] = settled(chunk.cursor)
            self._held = lines.held
            self._lost -= {chunk.stream}
            self._real = True
            self.lines += count(chunk)
            self.bytes += len(chunk.data)
            if self._leaving and self._task is not None:
                self._task.cancel()
                await asyncio.sleep(0)
        if chunks and lines.newest is not None:
            self.last_at = lines.newest / NANO
            self._lag = max(self._clock() - self.last_at - self._lateness.offset, 0.0)
            self._lag_at = asyncio.get_running_loop().time()
        if self._last is not None:
            self._last = lines.last or self._last
        self.overlong += lines.overlong
        self.dropped += lines.dropped
        lines.overlong = lines.dropped = 0

    def _gap(
        self,
        what: str,
        remedy: str,
        streams: frozenset[Stream] = frozenset(Stream),
        *,
        stood: Mapping[Stream, Cursor] | None = None,
    ) -> None:
        """Count and tell that lines may have been missed, and of each gap behind which line."""
        self.gaps += 1
        self._warn(what, f"{what}, lines may have been missed", remedy)
        cursors = self.cursors if stood is None else stood
        read = ((s, c) for s, c in cursors.items() if s in streams and self._real and c.seen)
        behind = [f"{stamp(c.ns).decode()} ({s.name.lower()})" for s, c in read]
        where = "behind the line of " + " and ".join(behind) if behind else "before its first line"
        name = self.container.name
        logger.info("container %s: gap %d of %.12s %s", name, self.gaps, self.container.id, where)

    def _warn(self, kind: str, what: str, remedy: str, *, stands: float | None = None) -> None:
        problem = Problem(place=f"container {self.container.name}", what=what, remedy=remedy)
        self._report(kind, problem, stands=_STANDS if stands is None else stands)

    def _report(self, kind: str, problem: Problem, *, stands: float) -> None:
        """Log a problem once, and keep it for so many seconds."""
        now = asyncio.get_running_loop().time()
        known, until, _ = self._problems.get(kind, (None, 0.0, 0.0))
        if problem != known or until <= now:
            logger.warning("%s", problem)
        self._problems[kind] = problem, now + stands, self._clock()


def _far(plan: Sequence[Window]) -> bool:
    """Say whether the next window takes more than a moment to read."""
    return not plan or plan[0].tail is None or plan[0].tail > _NEAR


def _when(at: float) -> str:
    """Write the moment when something was so last."""
    return f"last {datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"


def _frames(reader: Reader, data: bytes | None) -> Iterator[Sequence[Frame]]:
    """Take `data` apart, a slice at a time; None is the end of the log."""
    if data is None:
        yield reader.finish()
        return
    for start in range(0, len(data), _SLICE):
        yield reader.feed(data[start : start + _SLICE])
