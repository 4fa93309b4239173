"""
What stood in a log before the lines that are still to be judged, once more.

In come a container and its cursors; out go the lines up to these, for whoever judges a line by
those before it and has forgotten them with an earlier process. Nothing is consumed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Final

from dockerjail.docker.cursor import Dialect, Mark, Position
from dockerjail.docker.frames import reader
from dockerjail.docker.lines import LIMIT, Lines
from dockerjail.docker.slab import Frame
from dockerjail.errors import EngineUnavailable
from dockerjail.jail.memory import LIFE
from dockerjail.model import Chunk, Container, Cursor, Stream
from dockerjail.ports import Engine
from dockerjail.stamp import NANO

_TAILS: Final = (8192, 262144)
"""Frames from the end of the log that are asked for; the second if most of the first are new."""

Take = Callable[[Chunk], Awaitable[None]]
Recall = Callable[[], Take]
"""Forgets what it was shown, and returns who takes the lines."""


async def recall(
    engine: Engine,
    container: Container,
    cursors: Mapping[Stream, Cursor],
    begin: Recall,
    *,
    dialect: Dialect,
    limit: int = LIMIT,
) -> None:
    """
    Hand over the last lines up to the cursors, oldest first; whenever from the start, `begin` is called.

    Raises what `Engine.logs` raises. A log that has grown by more than can be asked for since
    brings nothing.
    """
    newest = max(cursor.ns for cursor in cursors.values())
    # `since` of Engines before 23 leaves out whole files; on the others it spares them work
    since = None if dialect is Dialect.OLD else max(newest - int(LIFE * NANO), 0)
    for tail in _TAILS:
        lines = Lines(container, {}, dialect=dialect, limit=limit)
        stand: dict[int, Position] = {
            stream: Position(cursor, mark=Mark.STAMP) for stream, cursor in cursors.items()
        }
        frames = reader(container, dialect)
        take = begin()
        count = shown = 0
        async with engine.logs(container, follow=False, since=since, tail=tail) as body:
            async for data in body:
                some = frames.feed(data)
                old = list(_old(some, stand))
                count += len(some)
                shown += len(old)
                for chunk in lines.feed(old):
                    await take(chunk)
                await asyncio.sleep(0)
        if count < tail or shown >= tail // 2:
            return


def _old(frames: Iterable[Frame], stand: Mapping[int, Position]) -> Iterator[Frame]:
    """Yield the frames that are consumed; raises `EngineUnavailable` when this is no log."""
    for kind, payload in frames:
        position = stand.get(kind)
        try:
            if position is not None and not position.admit(payload):
                yield kind, payload
        except ValueError as error:
            raise EngineUnavailable(f"the Engine sent a log line without a time: {error}") from None
