"""
The door of the control socket: connections in, as many bytes and seconds of each as an order needs.

Behind it stands whatever speaks HTTP, as an `asyncio.Protocol` of its own for each connection. Who
sends half a request and waits, or never reads an answer, keeps nobody else out: when there are
too many, the oldest goes. Not before he had time for his answer: until then the others wait in the
kernel's queue, in turn, however fast a crowd comes.
"""

import asyncio
import logging
import os
import socket
import stat
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast

from dockerjail.errors import ConfigError

logger = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 256
GRACE: Final = 5.0
"""Connections at once; one more ends the oldest, as soon as that has lasted for so many seconds."""

MOST_BYTES: Final = 128 * 1024
"""Bytes that come in by one connection: a request with all its headers."""

LIFETIME: Final = 60.0
"""Seconds that a connection lasts: the command line waits for half a minute."""

BACKLOG: Final = 100
"""Connections that may wait to be accepted."""

PAUSE: Final = 1.0
"""Seconds until it is tried again to let somebody in when there are no descriptors left."""


class _Hall:
    """Who is inside, and since when; the oldest first."""

    def __init__(self) -> None:
        self._since: OrderedDict[_Visitor, float] = OrderedDict()
        self._left = asyncio.Event()

    def enter(self, visitor: "_Visitor") -> None:
        self._since[visitor] = asyncio.get_running_loop().time()

    def leave(self, visitor: "_Visitor") -> None:
        self._since.pop(visitor, None)
        self._left.set()

    async def room(self) -> None:
        """Wait until there is room for one more, and make some if nobody leaves by himself."""
        while len(self._since) >= MOST_CONNECTIONS:
            oldest, since = next(iter(self._since.items()))
            self._left.clear()
            try:
                async with asyncio.timeout_at(since + GRACE):
                    await self._left.wait()
            except TimeoutError:
                self.leave(oldest)
                oldest.leave()


class _Visitor(asyncio.Protocol):
    """One connection: passes everything on until it is too much."""

    def __init__(self, inside: asyncio.Protocol, hall: _Hall) -> None:
        self._inside = inside
        self._hall = hall
        self._bytes = 0
        self._transport: asyncio.Transport | None = None
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._end = asyncio.get_running_loop().call_later(LIFETIME, self.leave)
        self._hall.enter(self)
        self._inside.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hall.leave(self)
        if self._end is not None:
            self._end.cancel()
        self._inside.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            self.leave()
        else:
            self._inside.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inside.eof_received()

    def pause_writing(self) -> None:
        self._inside.pause_writing()

    def resume_writing(self) -> None:
        self._inside.resume_writing()

    def leave(self) -> None:
        """End the connection, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def door(inside: Callable[[], asyncio.Protocol], path: Path) -> AsyncGenerator[None]:
    """
    Let visitors in at the socket `path`, which is its owner's alone, while the context lasts.

    Raises `ConfigError`. Whoever is inside at the end is for `inside` to see out.
    """
    make_way(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)  # the socket is never anybody else's, not for a moment
        try:
            listener.setblocking(False)
            listener.bind(str(path))
            listener.listen(BACKLOG)
        except OSError as error:
            raise _unwritable(path, error) from error
        finally:
            os.umask(before)
        try:
            async with asyncio.TaskGroup() as house:
                porter = house.create_task(_let_in(listener, inside), name="control socket")
                yield
                porter.cancel()
        finally:
            _take_away(path)


async def _let_in(listener: socket.socket, inside: Callable[[], asyncio.Protocol]) -> None:
    """Let visitors in, one by one, until cancelled."""
    loop = asyncio.get_running_loop()
    hall = _Hall()
    while True:
        try:
            visitor, _ = await loop.sock_accept(listener)
        except OSError as error:
            logger.warning("nobody can be let in at the control socket for now: %s", error)
            await asyncio.sleep(PAUSE)
            continue
        try:
            await hall.room()
            await loop.connect_accepted_socket(lambda: _Visitor(inside(), hall), visitor)
        except BaseException:
            visitor.close()
            raise


def make_way(path: Path) -> None:
    """
    Make the directory for a socket and take away one that a killed daemon left.

    Raises `ConfigError` also for what is no socket, or one at which somebody answers: neither is
    ours to take away.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(
                f"control socket {path}: something else is there; take it away, or give another "
                "[control] socket"
            )
        if _answers(path):
            raise ConfigError(
                f"control socket {path}: another process answers there; stop it, or give another "
                "[control] socket"
            )
        path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unwritable(path, error) from error


def _take_away(path: Path) -> None:
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Say whether somebody listens at a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        try:
            caller.connect(str(path))
        except BlockingIOError:
            return True  # so many wait to be let in that there is no room
        except OSError:
            return False
        return True


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"control socket {path}: {error.strerror or error}; "
        "give a writable [control] socket, or mount a tmpfs there"
    )
