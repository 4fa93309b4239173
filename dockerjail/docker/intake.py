"""
The intake: all containers of an Engine, and one task on each log that is wanted.

In come events and lists of the Engine's; out go chunks to `deliver`. Events are
hints: they say of which container to ask, never what happened, since the Engine
forgets and repeats them; a list every half minute finds what they left out. Events
are subscribed to before the first list, so that nothing falls between.

Nothing is persisted here, and nobody is told that a container died: its tail ends
because its log ends.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial

from dockerjail.docker.cursor import Dialect, dialect
from dockerjail.docker.tail import State, Tail
from dockerjail.errors import ContainerUnknown, EngineUnavailable
from dockerjail.model import Chunk, Container, Cursor, Problem, Stream
from dockerjail.ports import CursorKey, Engine
from dockerjail.retry import Backoff, persevere

logger = logging.getLogger(__name__)

_REPLAY = 5.0
"""Seconds before now from which events are asked for: they are subscribed to a bit late."""

_QUESTIONS = 16
"""How many containers are looked at at once."""


class Intake:
    """
    Follows the log of every wanted container.

    To be read, not written: `containers`, all of the Engine's by id, wanted or not;
    `tails`, one by id for each wanted; `unclear`, why a container cannot be looked at,
    by id; `connected`, and if not, `error` why; the
    `engine_version`.
    """

    def __init__(
        self,
        engine: Engine,
        deliver: Callable[[Chunk], Awaitable[None]],
        *,
        wanted: Callable[[Container], bool],
        cursors: Mapping[CursorKey, Cursor],
        lookback: float,
        changed: Callable[[], None],
        gone: Callable[[str], None],
        backoff: Backoff,
        reconcile_every: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Prepare; `run` does the work.

        `cursors` are those committed by an earlier process; a container without one
        is read from `lookback` seconds ago, or from its creation. `changed` is
        called after `containers` changed, `gone` with the id of a removed container
        when its last line has been delivered: its cursors can be forgotten.
        """
        self._engine = engine
        self._deliver = deliver
        self._wanted = wanted
        self._lookback = lookback
        self._changed = changed
        self._gone = gone
        self._backoff = backoff
        self._reconcile_every = reconcile_every
        self._clock = clock
        self._stored: dict[str, dict[Stream, Cursor]] = {}
        for (container, stream), cursor in cursors.items():
            self._stored.setdefault(container, {})[stream] = cursor
        self.containers: dict[str, Container] = {}
        self.tails: dict[str, Tail] = {}
        self.unclear: dict[str, Problem] = {}
        self.connected = False
        self.error = ""
        self.engine_version = ""
        self._digests: dict[str, str] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._looking: set[str] = set()
        self._again: set[str] = set()
        self._untold: frozenset[Problem] = frozenset()
        self._seen_all = False
        self._settled = asyncio.Event()
        self._room = asyncio.Semaphore(_QUESTIONS)
        self._tails: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Follow containers until cancelled; tries for ever while the Engine is away."""
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

    def _disconnected(self, error: Exception) -> None:
        self.connected = False
        self.error = str(error)

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
                await self._settled.wait()
            if not self._seen_all:
                # Only now, since where a ban applies depends on neighbours' ports.
                self._seen_all = True
                for container in tuple(self.containers.values()):
                    self._tend(tails, container)
            logger.info("connected to Docker Engine %s", self.engine_version)
            self.connected, self.error = True, ""
            self._changed()
            while True:
                await asyncio.sleep(self._reconcile_every)
                await self._reconcile(hint, afresh=False)

    async def _listen(self, since: float, hint: Callable[[str], None]) -> None:
        """Take events at once: a reader that dawdles slows the whole Engine down."""
        async with aclosing(self._engine.events(since=since)) as events:
            async for container in events:
                hint(container)

    async def _reconcile(self, hint: Callable[[str], None], *, afresh: bool) -> None:
        """Find what events left out."""
        listed = dict(await self._engine.list())
        untold = frozenset(self._engine.problems())
        for problem in untold - self._untold:
            logger.warning("%s", problem)
        self._untold = untold
        known = self.containers.keys() | self._stored.keys()
        for container, digest in listed.items():
            tail = self.tails.get(container)
            # Ended, or dropped and wanted again before its task was gone.
            idle = (
                tail is not None
                and tail.state is not State.UNREADABLE
                and container not in self._running
            )
            unclear = container in self.unclear
            if afresh or idle or unclear or self._digests.get(container) != digest:
                hint(container)
        for container in known - listed.keys():
            hint(container)
        for container in self.unclear.keys() - listed.keys():
            del self.unclear[container]
        self._digests = listed

    def _hint(self, group: asyncio.TaskGroup, tails: asyncio.TaskGroup, container: str) -> None:
        """Look at a container soon, however many hints there are."""
        if container in self._looking:
            self._again.add(container)
            return
        self._looking.add(container)
        group.create_task(self._look(tails, container), name=f"inspect {container[:12]}")

    async def _look(self, tails: asyncio.TaskGroup, container: str) -> None:
        try:
            again = True
            while again:
                self._again.discard(container)
                try:
                    async with self._room:
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
        if container is not None:
            container = _as_it_was(container, before)
            self.containers[container.id] = container
        if container != before:
            self._changed()
        if container is None:
            self._digests.pop(name, None)
            known = before is not None or name in self.tails or name in self._stored
            if known and name not in self._running:
                self._forget(name)
        elif self._seen_all:
            self._tend(tails, container)

    def _tend(self, tails: asyncio.TaskGroup, container: Container) -> None:
        """See to it that the container has the tail that it should have."""
        tail = self.tails.get(container.id)
        if not self._wanted(container):
            if tail is not None:
                self._drop(container.id)
            return
        if tail is None:
            tail = self.tails[container.id] = self._open(container)
        if container.id in self._running:
            return
        begun = container.running or container.started_at > 0
        if begun and tail.state is not State.UNREADABLE and tail.finished != container.started_at:
            tail.container = container
            self._running[container.id] = tails.create_task(
                self._follow(tail), name=f"tail {container.name}"
            )

    def _open(self, container: Container) -> Tail:
        return Tail(
            self._engine,
            container,
            self._deliver,
            stored=self._stored.pop(container.id, {}),
            start=max(container.created_at - 1.0, self._clock() - self._lookback),
            dialect=self._dialect,
            backoff=self._backoff,
            clock=self._clock,
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
                    now is not None and tail.state is State.ENDED and now.started_at > tail.finished
                )
                if now is not None and again:
                    tail.container = now
        finally:
            del self._running[container.id]
        if container.id not in self.containers:
            self._forget(container.id)

    def _drop(self, container: str) -> None:
        """Stop following what is not wanted any more."""
        if (task := self._running.get(container)) is not None:
            task.cancel()
        tail = self.tails.pop(container)
        if tail.consumed:  # should it be wanted again, nothing is to come twice
            self._stored[container] = dict(tail.cursors)

    def _forget(self, container: str) -> None:
        self.tails.pop(container, None)
        self._stored.pop(container, None)
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
