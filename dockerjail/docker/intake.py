"""
The intake: all containers of an Engine, and one task on each log that is wanted.

In come events and lists of the Engine's; out go chunks to `deliver`. Events are
hints: they say of which container to ask, never what happened, since the Engine
forgets and repeats them; a list every half minute finds what they left out. Events
are subscribed to before the first list, so that nothing falls between.

Nothing is persisted here, and nobody is told that a container died: its tail ends
because its log ends.

One container hides no other: a look that takes long holds up nobody, one that is
hinted at again and again is looked at once in a while, and of what whoever makes
containers can make large (their number, labels, names) only so much is kept.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import islice

from dockerjail.docker.cursor import Dialect, dialect
from dockerjail.docker.inspect import bounded
from dockerjail.docker.recall import Recall
from dockerjail.docker.tail import State, Tail
from dockerjail.errors import ContainerUnknown, EngineUnavailable
from dockerjail.model import Chunk, Container, Cursor, Problem, Stream
from dockerjail.ports import CursorKey, Engine
from dockerjail.retry import Backoff, persevere

logger = logging.getLogger(__name__)

_REPLAY = 5.0
"""Seconds before now from which events are asked for: they are subscribed to a bit late."""

_QUESTIONS = 16
_LONG = 1.0
"""How many containers are looked at at once; who takes longer than so many seconds is not counted."""

_SETTLED = 5.0
"""Seconds after which lines are judged although some containers could not be looked at yet."""

_LOOKS = 10
"""Looks in a second at one container about which there is no end of hints."""

_HINTS = 10_000
"""Containers that wait for a look; what is hinted at beyond, the next list finds."""

_LIVED = 1.0
"""Seconds after which an end of the events is a cut and no failure: proxies end idle streams."""

_SILENT = 60.0
"""Seconds without an event after which they are asked for anew: what is stalled says nothing either."""

MOST = 10_000
"""Containers that are known at once."""


class Intake:
    """
    Follows the log of every wanted container.

    To be read, not written: `containers`, all of the Engine's by id, wanted or not;
    `tails`, one by id for each wanted; `unclear`, why a container cannot be looked at,
    by id, and `excess`, what of one is too large to be kept; `connected`, and if not,
    `error` why; the `engine_version`.
    """

    def __init__(
        self,
        engine: Engine,
        deliver: Callable[[Chunk], Awaitable[None]],
        *,
        wanted: Callable[[Container], bool],
        cursors: Mapping[CursorKey, Cursor],
        lookback: Callable[[Container], float],
        changed: Callable[[], None],
        gone: Callable[[str], None],
        recall: Callable[[Container], Recall | None] = lambda _: None,
        backoff: Backoff,
        reconcile_every: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Prepare; `run` does the work.

        `cursors` are those committed by an earlier process; a container without one
        is read from `lookback` seconds ago, all of it if it is younger than this intake.
        `changed` is
        called after `containers` changed, `gone` with the id of a removed container
        when its last line has been delivered: its cursors can be forgotten. `recall` tells
        who is to be shown the lines before the stored cursors of a container.
        """
        self._engine = engine
        self._recall = recall
        self._deliver = deliver
        self._wanted = wanted
        self._lookback = lookback
        self._changed = changed
        self._gone = gone
        self._backoff = backoff
        self._reconcile_every = reconcile_every
        self._clock = clock
        self._began = math.inf
        self._stored: dict[str, dict[Stream, Cursor]] = {}
        for (container, stream), cursor in cursors.items():
            self._stored.setdefault(container, {})[stream] = cursor
        self._untouched = set(self._stored)  # what an earlier process read, and nobody since
        self.containers: dict[str, Container] = {}
        self.tails: dict[str, Tail] = {}
        self.unclear: dict[str, Problem] = {}
        self.excess: dict[str, Problem] = {}
        self.connected = False
        self.error = ""
        self.remedy = ""
        self._asked: float | None = None
        self.engine_version = ""
        self._digests: dict[str, str] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._looking: set[str] = set()
        self._again: set[str] = set()
        self._untold: frozenset[Problem] = frozenset()
        self._seen_all = False
        self._settled = asyncio.Event()
        self._stirred = asyncio.Event()
        self._looks = Counter[str]()
        self._second = 0.0
        self._overrun = False
        self._left_out = 0
        self._room = asyncio.Semaphore(_QUESTIONS)
        self._tails: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Follow containers until cancelled; tries for ever while the Engine is away."""
        self._began = self._clock()
        async with asyncio.TaskGroup() as tails:
            self._tails = tails
            await persevere(
                "Docker Engine",
                partial(self._session, tails),
                retry_on=EngineUnavailable,
                backoff=self._backoff,
                on_failure=self._disconnected,
            )

    def reconsider(self, container: str) -> None:
        """Ask anew whether a container is wanted: for whoever changed its mind."""
        found = self.containers.get(container)
        if found is not None and self._seen_all and self._tails is not None:
            self._tend(self._tails, found)

    @property
    def unanswered(self) -> float:
        """For how many seconds the Engine has owed its list of containers."""
        return 0.0 if self._asked is None else asyncio.get_running_loop().time() - self._asked

    def problems(self) -> Sequence[Problem]:
        """List what keeps containers from being looked at or known as they are."""
        found = [*self.unclear.values(), *self.excess.values()]
        if self._left_out:
            what = f"it has more than {MOST} containers: {self._left_out} are not looked at"
            remedy = "remove those that are over: docker container prune"
            found.insert(0, Problem(place="Docker Engine", what=what, remedy=remedy))
        return found

    def _disconnected(self, error: Exception) -> None:
        self.connected, self.error = False, str(error)
        if isinstance(error, EngineUnavailable):
            self.error, self.remedy = error.what, error.remedy

    def _dialect(self) -> Dialect:
        return dialect(self.engine_version)

    async def _session(self, tails: asyncio.TaskGroup) -> None:
        """Stay with one Engine until it goes away."""
        self.engine_version = await self._engine.version()
        since = self._clock() - _REPLAY
        self._looking.clear()
        self._again.clear()
        async with _unwrapped(), asyncio.TaskGroup() as group:
            hint = partial(self._hint, group, tails)
            group.create_task(self._listen(since, hint), name="docker events")
            await self._reconcile(hint, afresh=True)
            if self._looking:
                self._settled.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SETTLED):
                        await self._settled.wait()
            if not self._seen_all:
                # Only now, since where a ban applies depends on neighbours' ports.
                self._seen_all = True
                for container in tuple(self.containers.values()):
                    self._tend(tails, container)
            logger.info("connected to Docker Engine %s", self.engine_version)
            self.connected, self.error, self.remedy = True, "", ""
            self._changed()
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._reconcile_every):
                        await self._stirred.wait()
                self._stirred.clear()
                await self._reconcile(hint, afresh=False)

    async def _listen(self, since: float, hint: Callable[[str], None]) -> None:
        """
        Take events at once: a reader that dawdles slows the whole Engine down.

        A stream that is cut or silent is taken up again without a word, unless it was cut at
        once, or the Engine behind it is away or another.
        """
        clock = asyncio.get_running_loop().time
        while True:
            opened, resume = clock(), self._clock() - _REPLAY
            try:
                async with aclosing(self._engine.events(since=since)) as events:
                    while True:
                        async with asyncio.timeout(_SILENT):
                            container = await anext(events)
                        resume = self._clock() - _REPLAY
                        hint(container)
            except TimeoutError:
                logger.debug("no event for %.0f s; they are asked for anew", _SILENT)
            except EngineUnavailable as error:
                if clock() - opened < _LIVED or await self._engine.version() != self.engine_version:
                    raise
                logger.debug("events are asked for anew: %s", error)
                self._stirred.set()  # the Engine may have forgotten what happened meanwhile
            since = resume

    async def _reconcile(self, hint: Callable[[str], None], *, afresh: bool) -> None:
        """Find what events left out."""
        self._asked = asyncio.get_running_loop().time()
        try:
            listed = dict(await self._engine.list())
        finally:
            self._asked = None
        before, self._digests = self._digests, listed
        left_out, self._left_out = self._left_out, max(len(listed) - MOST, 0)
        if self._left_out:
            self._digests = listed = dict(islice(listed.items(), MOST))
            if not left_out:
                logger.warning("%s", self.problems()[0])
        untold = frozenset(self._engine.problems())
        for problem in untold - self._untold:
            logger.warning("%s", problem)
        self._untold = untold
        known = self.containers.keys() | self._stored.keys()
        for container, digest in tuple(listed.items()):
            tail = self.tails.get(container)
            # Ended, or dropped and wanted again before its task was gone.
            idle = (
                tail is not None
                and tail.state is not State.UNREADABLE
                and container not in self._running
            )
            unclear = container in self.unclear
            if afresh or idle or unclear or before.get(container) != digest:
                hint(container)
        for container in known - listed.keys():
            hint(container)
        for container in self.unclear.keys() - listed.keys():
            del self.unclear[container]

    def _hint(self, group: asyncio.TaskGroup, tails: asyncio.TaskGroup, container: str) -> None:
        """Look at a container soon, however many hints there are."""
        if container in self._looking:
            self._again.add(container)
            return
        if len(self._looking) >= _HINTS:
            self._digests.pop(container, None)
            self._overrun = True
            return
        self._looking.add(container)
        group.create_task(self._look(tails, container), name=f"inspect {container[:12]}")

    async def _look(self, tails: asyncio.TaskGroup, container: str) -> None:
        try:
            again = True
            while again:
                await self._pace(container)
                self._again.discard(container)
                try:
                    async with self._turn():
                        found = await self._engine.inspect(container)
                except ContainerUnknown as error:
                    self._unclear(container, str(error))
                else:
                    self.unclear.pop(container, None)
                    self._learn(tails, container, found)
                again = container in self._again
        finally:
            self._looking.discard(container)
            if not self._looking:
                self._settled.set()
                if self._overrun:
                    self._overrun = False
                    self._stirred.set()

    async def _pace(self, container: str) -> None:
        """Wait if this container has been looked at often in this second."""
        now = asyncio.get_running_loop().time()
        if now - self._second >= 1.0:
            self._second = now
            self._looks.clear()
        self._looks[container] += 1
        if self._looks[container] > _LOOKS:
            await asyncio.sleep(self._second + 1.0 - now)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for a turn; who takes long lets others have theirs before it is over."""
        await self._room.acquire()
        released = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                self._room.release()

        long = asyncio.get_running_loop().call_later(_LONG, release)
        try:
            yield
        finally:
            long.cancel()
            release()

    def _unclear(self, container: str, why: str) -> None:
        """Keep what was known of a container; the next list asks again."""
        known = self.containers.get(container)
        name = known.name if known is not None else container[:12]
        problem = Problem(
            place=f"container {name}",
            what=why,
            remedy="what was known of it stays; it is looked at again with the next list",
        )
        if self.unclear.get(container) != problem:
            logger.warning("%s", problem)
        self.unclear[container] = problem
        self._digests.pop(container, None)

    def _learn(self, tails: asyncio.TaskGroup, name: str, container: Container | None) -> None:
        """Take in what was found."""
        before = self.containers.pop(name, None)
        if container is not None and before is None and len(self.containers) >= MOST:
            self._left_out = max(self._left_out, 1)
            return
        excess = None
        if container is not None:
            container, excess = bounded(_as_it_was(container, before))
            self.containers[container.id] = container
        if excess is None:
            self.excess.pop(name, None)
        elif self.excess.get(name) != excess:
            self.excess[name] = excess
            logger.warning("%s", excess)
        if container != before:
            self._changed()
        if container is None:
            self._digests.pop(name, None)
            known = before is not None or name in self.tails or name in self._stored
            if name in self._untouched:
                # Whether there was more than an earlier process has read, nobody knows any more.
                what = "it was removed while dockerjail was away, lines may have been missed"
                logger.warning("%s", Problem(place=f"container {name[:12]}", what=what))
            if known and name not in self._running:
                self._forget(name)
        elif self._seen_all:
            self._tend(tails, container)

    def _tend(self, tails: asyncio.TaskGroup, container: Container) -> None:
        """See to it that the container has the tail that it should have."""
        tail = self.tails.get(container.id)
        if not self._wanted(container):
            self._untouched.discard(container.id)
            if tail is not None:
                self._drop(container.id)
            return
        if container.id in self._running:
            return  # also by one that is being left: then only its end tells its cursors
        if tail is None:
            tail = self.tails[container.id] = self._open(container)
        begun = container.running or container.started_at > 0
        if begun and tail.state is not State.UNREADABLE and tail.finished != container.started_at:
            tail.container = container
            self._running[container.id] = tails.create_task(
                self._follow(tail), name=f"tail {container.name}"
            )

    def _open(self, container: Container) -> Tail:
        self._untouched.discard(container.id)
        young = container.created_at > self._began
        return Tail(
            self._engine,
            container,
            self._deliver,
            stored=self._stored.pop(container.id, {}),
            # Nothing in a log is older than the container, unless a clock was set back since.
            start=0.0 if young else self._clock() - self._lookback(container),
            dialect=self._dialect,
            backoff=self._backoff,
            clock=self._clock,
            recall=self._recall(container),
        )

    async def _follow(self, tail: Tail) -> None:
        """Follow to the end of the log; again if the container started anew meanwhile."""
        container = tail.container
        try:
            again = True
            while again:
                await tail.run()
                now = self.containers.get(container.id)
                again = (
                    now is not None
                    and self.tails.get(container.id) is tail
                    and tail.state is State.ENDED
                    and now.started_at > tail.finished
                )
                if now is not None and again:
                    tail.container = now
        finally:
            del self._running[container.id]
        if self.tails.get(container.id) is not tail:
            self._keep(container.id, tail)
        if container.id not in self.containers:
            self._forget(container.id)
        elif container.id not in self.tails:
            self.reconsider(container.id)  # it may be wanted again by now

    def _drop(self, container: str) -> None:
        """Stop following what is not wanted any more."""
        tail = self.tails.pop(container)
        if container in self._running:
            tail.leave()
        else:
            self._keep(container, tail)

    def _keep(self, container: str, tail: Tail) -> None:
        """Remember how far a log was read: should it be wanted again, nothing is to come twice."""
        if tail.consumed:
            self._stored[container] = tail.stand

    def _forget(self, container: str) -> None:
        self.tails.pop(container, None)
        self._stored.pop(container, None)
        self._untouched.discard(container)
        self._gone(container)


def _as_it_was(container: Container, before: Container | None) -> Container:
    """Keep the addresses that a container gave back when it stopped: its last lines are to come."""
    if container.running or container.addresses or before is None:
        return container
    return replace(container, addresses=before.addresses, direct=before.direct)


@asynccontextmanager
async def _unwrapped() -> AsyncIterator[None]:
    """Make one `EngineUnavailable` of a group of them: they have one cause."""
    lost: EngineUnavailable | None = None
    try:
        yield
    except* EngineUnavailable as group:
        leaf: BaseException = group
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        if isinstance(leaf, EngineUnavailable):
            lost = leaf
    if lost is not None:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # Before Python 3.13 a group that fails while it is cancelled forgets that.
            raise asyncio.CancelledError
        raise lost
