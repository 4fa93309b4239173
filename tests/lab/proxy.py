"""
A proxy between dockerjail and an Engine, Unix socket to Unix socket, as users put one there.

In: the Engine's socket and what may pass. Out: a socket to give to dockerjail, and a record
of all that was asked. `ReadOnly` lets a list of GETs pass and answers 403 to all else, as
docker-socket-proxy does; `Proxy` passes bytes and knows no HTTP. Both can hurt: cut streams
that are idle (haproxy's `timeout server`), cut each connection after so many bytes, keep it
open and say nothing more, close it as soon as it is made.

It runs in a thread of its own, so that tests with and without a loop can use it. What hurts
can be set while it runs.
"""

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PIECE = 64 * 1024
_HEAD = b"\r\n\r\n"

NEEDED = (
    r"/version",
    r"/events",
    r"/containers/json",
    r"/containers/[0-9a-f]{64}/json",
    r"/containers/[0-9a-f]{64}/logs",
)
"""What dockerjail cannot do without."""

NETWORKS = r"/networks"
"""What tells it of macvlan and ipvlan."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came, and whether it passed."""

    method: str
    target: str
    passed: bool

    @property
    def path(self) -> str:
        """The path without the API's version and parameters, ids written as `ID`."""
        path = re.sub(r"^/v[0-9.]+(?=/)", "", self.target.partition("?")[0])
        return re.sub(r"[0-9a-f]{64}", "ID", path)


def _never() -> None:
    return None


class Proxy:
    """
    Passes bytes on. A context manager.

    To be set: `idle`, seconds without a byte from the Engine after which a connection is
    cut; `cut_after` and `stall_after`, asked for each new connection how many bytes of the
    Engine's come through before it is cut, or before nothing more comes (None: no limit);
    `closed`, whether new connections are closed at once. To be read: `made`, how many
    connections were made; `cuts`, how many of them the proxy ended.
    """

    def __init__(self, upstream: Path, path: Path, *, idle: float | None = None) -> None:
        self.upstream = upstream
        self.path = path
        self.host = f"unix://{path}"
        self.idle = idle
        self.cut_after: Callable[[], int | None] = _never
        self.stall_after: Callable[[], int | None] = _never
        self.closed = False
        self.made = 0
        self.cuts = 0
        self._open: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread
        self._done: asyncio.Event

    def __enter__(self) -> Self:
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._run(ready),), name=f"proxy {self.path.name}"
        )
        self._thread.start()
        ready.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()
        self.path.unlink(missing_ok=True)

    def cut(self) -> None:
        """Cut every connection now; return when they are."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()

    # -- the thread's own -----------------------------------------------------

    async def _run(self, ready: "Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        try:
            server = await asyncio.start_unix_server(self._come, self.path)
        except OSError as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        await self._done.wait()
        server.close()
        await self._end()

    async def _end(self) -> None:
        tasks = tuple(self._open)
        self.cuts += len(tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.made += 1
        try:
            if not self.closed:
                await self._serve(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # either side may go at any time, and so may we
        finally:
            self._open.discard(task)
            if not writer.transport.is_closing():
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._join(b"", reader, writer)

    async def _join(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send `first` to the Engine, then carry bytes both ways until either side ends."""
        from_engine, to_engine = await asyncio.open_unix_connection(self.upstream)
        to_engine.write(first)
        try:
            up = asyncio.create_task(self._up(reader, to_engine))
            down = asyncio.create_task(self._down(from_engine, writer))
            try:
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (up, down):
                    task.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        finally:
            to_engine.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left, silent = self.cut_after(), self.stall_after()
        while True:
            try:
                async with asyncio.timeout(self.idle):
                    data = await reader.read(_PIECE)
            except TimeoutError:
                self.cuts += 1
                return
            if silent is not None:
                data, silent = data[:silent], max(silent - len(data), 0)
            if left is not None:
                data, left = data[:left], left - len(data)
            writer.write(data)
            await writer.drain()
            if silent == 0:
                await asyncio.Event().wait()
            if left is not None and left <= 0:
                self.cuts += 1
                # What was written before has to arrive: an abort would throw it away.
                writer.close()
                await writer.wait_closed()
                return
            if not data:  # the Engine ended it
                writer.close()
                await writer.wait_closed()
                return


class ReadOnly(Proxy):
    """
    Lets GETs of some paths pass, without the API's version in front; answers 403 to all else.

    `asked` is all that ever came.
    """

    def __init__(
        self,
        upstream: Path,
        path: Path,
        *,
        allowed: tuple[str, ...] = (*NEEDED, NETWORKS),
        idle: float | None = None,
    ) -> None:
        super().__init__(upstream, path, idle=idle)
        self.asked: list[Asked] = []
        self._allowed = re.compile(rf"(/v[0-9]+\.[0-9]+)?({'|'.join(allowed)})(\?.*)?")

    def passed(self) -> Iterator[Asked]:
        """List what passed."""
        return (each for each in tuple(self.asked) if each.passed)

    def refused(self) -> Iterator[Asked]:
        """List what was answered with 403."""
        return (each for each in tuple(self.asked) if not each.passed)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(_HEAD)
        method, target, _ = head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
        asked = Asked(method, target, method == "GET" and bool(self._allowed.fullmatch(target)))
        self.asked.append(asked)
        if asked.passed:
            # One request for a connection: what follows need not be understood.
            await self._join(
                head.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n", reader, writer
            )
            return
        body = b"<html><body><h1>403 Forbidden</h1></body></html>\n"
        writer.write(
            b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        with contextlib.suppress(OSError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()
