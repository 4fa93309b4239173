"""
An Engine that says what a test makes it say: a real HTTP server on a Unix socket.

In: a version of Docker and its API, containers, and faults. Out: answers of the shape
that such an Engine gives, lines and events as they are told, and a record of what was asked.
A fault answers in place of the Engine wherever its pattern stands in the request: any
bytes, then an end, a reset, or silence.

What it says is written after Docker's API reference and what real Engines were seen to say.
"""

import asyncio
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, unquote

Json = dict[str, Any]

ENGINES = {
    "20.10.24": ("1.41", "1.12"),
    "23.0.6": ("1.42", "1.12"),
    "26.1.5": ("1.45", "1.24"),
    "28.5.2": ("1.51", "1.24"),
    "29.1.0": ("1.52", "1.44"),
    "29.7.2": ("1.55", "1.40"),
    "99.0.0": ("1.99", "1.60"),
}
"""Versions of Docker, with the newest and the oldest API that each speaks; the last is to come."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Raw bytes in place of an answer, and what comes after them: an end, silence, or no end."""

    data: bytes = b""
    then: Literal["close", "reset", "hang", "more"] = "close"
    more: bytes = b""
    """What `more` sends again and again, until the other side leaves."""


def reply(status: int, body: bytes, kind: str = "application/json", *more: str) -> bytes:
    """Write a whole answer."""
    head = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *more]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def error(status: int, message: object) -> bytes:
    """Write an error as an Engine does."""
    return reply(status, json.dumps({"message": message}).encode())


def frame(stream: int, text: bytes, at: float | None = None) -> bytes:
    """Write a line as it stands in a multiplexed log."""
    second, fraction = divmod(time.time_ns() if at is None else int(at * 10**9), 10**9)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    payload = f"{stamp}.{fraction:09d}Z ".encode() + text
    return bytes((stream, 0, 0, 0)) + len(payload).to_bytes(4, "big") + payload


@dataclass(slots=True)
class Scripted:
    """One Engine at one socket; a context manager."""

    path: Path
    version: str = "26.1.5"
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    connections: int = 0
    at_once: Counter[str] = field(default_factory=Counter)
    """How many answers of a kind were in the making at once, at most."""
    slow: float = 0.0
    """Seconds that each look at a container takes."""
    containers: dict[str, Json] = field(default_factory=dict)
    _logs: dict[str, list[bytes]] = field(default_factory=dict)
    _followers: dict[str, set[asyncio.Queue[bytes]]] = field(default_factory=dict)
    _listeners: set[asyncio.Queue[bytes]] = field(default_factory=set)
    _now: Counter[str] = field(default_factory=Counter)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _open: set["asyncio.Task[None]"] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    @property
    def api(self) -> tuple[str, str]:
        """The newest and the oldest API that it speaks."""
        return ENGINES[self.version]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._come, self.path, backlog=4096)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End every connection, and listen no more; the socket's file goes."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        if self._open:
            await asyncio.wait(tuple(self._open))
        self.path.unlink(missing_ok=True)

    def cut(self) -> None:
        """End every connection."""
        for task in self._open:
            task.cancel()

    def fault(
        self, pattern: str, data: bytes = b"", then: Any = "close", more: bytes = b""
    ) -> None:
        """Answer requests that contain `pattern` like this from now on."""
        self.faults.insert(0, (pattern, Fault(data, then, more)))

    async def was_asked(self, pattern: str) -> None:
        """Wait for a question."""
        while not any(pattern in asked for asked in self.asked):  # noqa: ASYNC110 -- the other side has no event for it
            await asyncio.sleep(0)

    # -- what happens ---------------------------------------------------------

    def add(self, name: str, labels: Mapping[str, str] | None = None, **more: Any) -> str:
        """Start a container on the usual bridge; return its id."""
        number = next(self._numbers)
        id_ = f"{number:064x}"
        address = f"172.17.{number // 250}.{number % 250 + 2}"
        place = {"IPAddress": address, "IPPrefixLen": 16, "Gateway": "172.17.0.1"}
        settings: Json = {
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(8000 + number)}]},
            "Networks": {"bridge": place | {"NetworkID": "b" * 64}},
        }
        if self.speaks() < (1, 52):
            settings |= place
        self.containers[id_] = {
            "Id": id_,
            "Created": "2026-01-01T00:00:00.000000001Z",
            "State": {"Running": True, "StartedAt": "2026-01-01T00:00:01.000000001Z"},
            "Name": f"/{name}",
            "HostConfig": {
                "LogConfig": {"Type": "json-file", "Config": {}},
                "NetworkMode": "bridge",
            },
            "Config": {"Image": "image", "Labels": dict(labels or {}), "Tty": False},
            "NetworkSettings": settings,
        } | more
        self._logs[id_] = []
        self._followers[id_] = set()
        self.tell(id_, "start", name=name, **(labels or {}))
        return id_

    def remove(self, id_: str) -> None:
        """Remove a container."""
        del self.containers[id_]
        for follower in self._followers.pop(id_):
            follower.put_nowait(b"")
        self.tell(id_, "destroy")

    def tell(self, id_: str, action: str, **attributes: str) -> None:
        """Send an event of this version's shape."""
        event: Json = {
            "Type": "container",
            "Action": action,
            "Actor": {"ID": id_, "Attributes": attributes},
            "scope": "local",
            "timeNano": time.time_ns(),
        }
        if self.speaks() < (1, 52):
            event = {"status": action, "id": id_, "from": "image"} | event
        for listener in self._listeners:
            listener.put_nowait(json.dumps(event).encode() + b"\n")

    def say(self, id_: str, text: str, stream: int = 1) -> None:
        """Write a line into a container's log."""
        data = frame(stream, text.encode() + b"\n")
        self._logs[id_].append(data)
        for follower in self._followers[id_]:
            follower.put_nowait(data)

    def speaks(self) -> tuple[int, ...]:
        """Return the newest API as numbers."""
        return tuple(map(int, self.api[0].split(".")))

    # -- HTTP -----------------------------------------------------------------

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            while self._server is not None:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
                self.asked.append(f"{method} {target}")
                await self._answer(unquote(target), reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for pattern, fault in self.faults:
            if pattern in target:
                await _commit(fault, reader, writer)
                raise EOFError
        path, _, query = target.partition("?")
        asked = {key: values[-1] for key, values in parse_qs(query).items()}
        spoken = re.match(r"/v(\d+)\.(\d+)/", path)
        path = re.sub(r"^/v[0-9.]+/", "/", path)
        kind = re.sub(r"[0-9a-f]{64}", "ID", path)
        self._now[kind] += 1
        self.at_once[kind] = max(self.at_once[kind], self._now[kind])
        try:
            data = self._refusal(spoken) or await self._short(path)
            if data is not None:
                writer.write(data)
                await writer.drain()
            elif path == "/events":
                await self._stream(self._listeners, [], reader, writer)
            elif path.endswith("/logs"):
                id_ = path.split("/")[2]
                backlog = self._logs[id_][-int(asked["tail"]) :] if asked["tail"] != "all" else None
                await self._stream(
                    self._followers[id_] if asked["follow"] == "1" else None,
                    self._logs[id_] if backlog is None else backlog,
                    reader,
                    writer,
                )
        finally:
            self._now[kind] -= 1

    def _refusal(self, spoken: "re.Match[str] | None") -> bytes:
        """Refuse an API that this Engine does not speak."""
        if spoken is None:
            return b""
        newest, oldest = (tuple(map(int, each.split("."))) for each in self.api)
        wanted = (int(spoken[1]), int(spoken[2]))
        text = f"client version {spoken[1]}.{spoken[2]} is too"
        if wanted < oldest:
            return error(400, f"{text} old. Minimum supported API version is {self.api[1]}")
        if wanted > newest:
            return error(400, f"{text} new. Maximum supported API version is {self.api[0]}")
        return b""

    async def _short(self, path: str) -> bytes | None:
        """Give an answer that has an end."""
        body: object
        found = re.fullmatch(r"/containers/([^/]+)/(json|logs)", path)
        if path == "/version":
            body = {
                "Platform": {"Name": "Docker Engine - Community"},
                "Components": [{"Name": "Engine", "Version": self.version}],
                "Version": self.version,
                "ApiVersion": self.api[0],
                "MinAPIVersion": self.api[1],
            }
        elif path == "/containers/json":
            body = [_item(each) for each in self.containers.values()]
        elif path == "/networks":
            body = []
        elif found is not None and found[1] not in self.containers:
            return error(404, f"No such container: {found[1]}")
        elif found is not None and found[2] == "json":
            await asyncio.sleep(self.slow)
            body = self.containers[found[1]]
        elif path == "/events" or found is not None:
            return None
        else:
            return error(404, "page not found")
        return reply(
            200,
            json.dumps(body).encode() + b"\n",
            "application/json",
            f"Server: {self._server_name}",
        )

    @property
    def _server_name(self) -> str:
        return f"Docker/{self.version} (linux)"

    async def _stream(
        self,
        listeners: "set[asyncio.Queue[bytes]] | None",
        backlog: list[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Send chunks until there is an end, or the other side leaves."""
        mine: asyncio.Queue[bytes] = asyncio.Queue()
        kind = "application/vnd.docker.multiplexed-stream"
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nServer: {self._server_name}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        if data := b"".join(backlog):
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()
        if listeners is not None:
            listeners.add(mine)
            left = asyncio.ensure_future(reader.read(1))
            left.add_done_callback(lambda _: mine.put_nowait(b""))
            try:
                while data := await mine.get():
                    writer.write(b"%x\r\n%b\r\n" % (len(data), data))
                    await writer.drain()
            finally:
                listeners.discard(mine)
                left.cancel()
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _item(container: Json) -> Json:
    """Write a container as a list does."""
    return {
        "Id": container["Id"],
        "Names": [container["Name"]],
        "Image": "image",
        "State": "running" if container["State"]["Running"] else "exited",
        "Labels": container["Config"]["Labels"],
        "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
        "NetworkSettings": {"Networks": container["NetworkSettings"]["Networks"]},
    }


async def _commit(fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(fault.data)
    await writer.drain()
    if fault.then == "reset":
        writer.transport.abort()
    while fault.then == "more":
        writer.write(fault.more)
        await writer.drain()
    if fault.then == "hang":
        await reader.read()
