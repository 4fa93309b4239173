"""
DOOR to the Docker Engine: the only place for aiodocker and aiohttp's client.

In go ids and cursors, out come `Container`s, ids of containers to which something
happened, and the bytes of logs. Only GET is ever sent: `/version`, `/events`,
`/containers/json`, `/containers/{id}/json`, `/containers/{id}/logs`, `/networks`; a read-only
socket proxy that lets these pass is enough. One that does not pass `/networks` hides
which containers are reached past the host: that is a problem, and no reason to stop.
Podman is asked for `/libpod/containers/{id}/json` and `/libpod/networks/json` as well.

aiodocker holds the connection. What is asked goes over its public session, because its own
questions read an answer whatever its length, and lose the connection of one that is no JSON;
its own iterators hide a cut connection, drop the stream a line came from and keep the
connection after their end.

No answer is trusted to be short, complete, in time or what it should be: each is bounded in
bytes and, but for logs, in time; none leads elsewhere or is unpacked. What only concerns one
container is `ContainerUnknown`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from errno import EACCES, ECONNREFUSED, ENOENT, EPERM
from re import fullmatch
from types import TracebackType
from typing import Any, Self

from dockerjail.docker import inspect
from dockerjail.docker.address import certificates, engine_at
from dockerjail.docker.answers import ID, EventReader, ListReader
from dockerjail.docker.bare import bare
from dockerjail.errors import (
    ContainerGone,
    ContainerUnknown,
    EngineUnavailable,
    LogsUnreadable,
)
from dockerjail.model import Container, Problem
from dockerjail.stamp import NANO

with bare():
    import aiohttp
    from aiodocker import Docker

NEWEST_TESTED = (1, 45)
"""API of Engine 26.1; a newer Engine is asked in this version as long as it answers."""

_CONNECT = 5.0
_ANSWER = 60.0
_LOOK = 15.0
_COMPLAINT = 5.0
"""Seconds for a connection, an answer, what is asked for each container, the words of a refusal."""

_LONGEST = 4 * 1024 * 1024
"""Bytes of an answer about one container, or about the Engine; and of the words of a refusal:"""
_WORDS = 16 * 1024

_PULSE = 2.0
"""Seconds without a byte of a log after which that is said."""

_MOST = 100_000
"""Containers of an Engine; beyond, what answers is none."""

_ATTEMPTS = 3
"""How often one container is asked for when the connection is cut, as a proxy may do any time."""

_FILTERS = json.dumps(
    {
        "type": ["container", "network"],
        "event": [
            *("create", "start", "die", "destroy", "remove", "rename"),
            *("pause", "unpause", "update", "connect", "disconnect"),
        ],
    }
)

_LOST = (aiohttp.ClientError, OSError, TimeoutError)
"""What a broken or missing connection looks like."""

_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What reading an answer raises that is not of the shape it should be."""


class DockerEngine:
    """
    A Docker Engine (or Podman's Docker-compatible service) at one address.

    `url` is `unix:///path`, `tcp://host:port`, `http://` or `https://`; without it
    DOCKER_HOST counts, then the usual sockets. With `https://`, or DOCKER_TLS_VERIFY=1,
    certificates come from DOCKER_CERT_PATH. Raises `ConfigError` for an address that
    cannot be one. Close it with `close`, or use it as a context.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = engine_at(url)
        self._tls = certificates(self.url)
        self._docker: Docker | None = None
        self._version = ""
        self._server = ""
        self._networks: dict[str, inspect.Network] = {}
        self._untold: Problem | None = None
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; the next question opens new ones."""
        docker, self._docker = self._docker, None
        if docker is not None:
            await docker.session.close()
            await docker.close()

    async def version(self) -> str:
        """
        Ask for the Engine's version: `26.1.5`, or `Podman 5.4.2`; also renegotiates.

        After a reconnect another Engine may answer, so this is asked each time.
        """
        docker = self._open()
        try:
            async with self._get("version", within=_ANSWER, versioned=False) as response:
                if response.status != 200:
                    raise self._refused(response.status, await _words(response))
                answer = json.loads(await _whole(response))
                server = _server(response)
        except _LOST as error:
            raise self._lost(error) from error
        except _NONSENSE as error:
            raise EngineUnavailable(
                f"what answers at {self.url} is no Docker Engine: {_shortly(error)}"
            ) from error
        if not isinstance(answer, dict):
            raise EngineUnavailable(f"what answers at {self.url} is no Docker Engine")
        docker.api_version, self._server = _negotiate(answer), server
        podman = "podman" in json.dumps(answer.get("Components")).lower()
        number = " ".join(str(answer.get("Version") or "").split())[:64]
        self._version = f"Podman {number}" if podman else number
        self._networks.clear()
        self._untold = None
        return self._version

    async def list(self) -> Sequence[tuple[str, str]]:
        """List all containers, stopped ones too: id and a digest of their state."""
        await self._ready()
        if self._podman:  # it names networks, and a name may be given anew
            self._networks.clear()
        found: dict[str, str] = {}
        attached: dict[str, frozenset[str]] = {}
        reader = ListReader()
        try:
            async with self._get("containers/json", {"all": "1"}, within=_ANSWER) as response:
                if response.status != 200:
                    raise self._refused(response.status, await _words(response))
                self._same(response)
                seen, ended = 0, False
                while not ended:
                    data = await response.content.readany()
                    ended = not data
                    for id_, item in reader.feed(data) if data else reader.finish():
                        found[id_], attached[id_] = _digest(item)
                        seen += 1
                    if seen > _MOST:
                        raise ValueError(f"more than {_MOST} containers")
        except _LOST as error:
            raise self._lost(error) from error
        except _NONSENSE as error:
            raise EngineUnavailable(
                f"the list of containers from {self.url} cannot be read: {_shortly(error)}"
            ) from error
        await self._learn_networks(frozenset().union(*attached.values()), again=True)
        return [
            (id_, digest + "".join(str(self._networks.get(each)) for each in sorted(attached[id_])))
            for id_, digest in found.items()
        ]

    async def inspect(self, container: str) -> Container | None:
        """Look at one container by id; None when there is none."""
        data = await self._show(container)
        if data is None:
            return None
        owner = inspect.network_owner(data)
        shown = await self._show(owner) if owner else None
        try:
            await self._learn_networks(inspect.attached(data if shown is None else shown))
            told = await self._show(container, podman=True) if self._podman else None
            return inspect.container(data, owner=shown, networks=self._networks, podman=told)
        except _NONSENSE as error:
            raise ContainerUnknown(
                f"what the Engine says of it makes no sense: {_shortly(error)}"
            ) from error

    def problems(self) -> Sequence[Problem]:
        """List what it does not tell although bans need it."""
        return [] if self._untold is None else [self._untold]

    async def events(self, *, since: float) -> AsyncGenerator[str]:
        """
        Yield a container's id whenever something happened to it, from `since` on.

        Ends never but by `EngineUnavailable`. The Engine keeps 256 events at most
        and forgets them when it restarts: what comes is a hint where to look.
        """
        await self._ready()
        parameters = {"since": f"{since:.9f}", "filters": _FILTERS}
        reader = EventReader()
        try:
            async with self._get("events", parameters, headers_within=_ANSWER) as response:
                if response.status != 200:
                    raise self._refused(response.status, await _words(response))
                async for data in response.content.iter_any():
                    for container in reader.feed(data):
                        yield container
        except _LOST as error:
            raise self._lost(error) from error
        except ValueError as error:
            what = f"what {self.url} sends as an event is none: {_shortly(error)}"
            raise EngineUnavailable(what) from error
        raise EngineUnavailable(f"the Docker Engine at {self.url} ended its events")

    def logs(
        self,
        container: Container,
        *,
        follow: bool,
        since: int | None = None,
        until: int | None = None,
        tail: int | None = None,
    ) -> AbstractAsyncContextManager[AsyncGenerator[bytes]]:
        """
        Open the raw body of a container's log, with timestamps, both streams.

        `since` is inclusive, in nanoseconds, nothing later than `until` comes; `tail` the last N
        frames. Raises
        `LogsUnreadable` or `ContainerGone` for what trying again does not mend,
        `EngineUnavailable` for a cut connection. Leaving the context closes it.

        There is no time limit, not even for the headers: some Engines send them
        only with the first line. Empty bytes say that two seconds went by without any.
        """
        parameters = {
            "stdout": "1",
            "stderr": "1",
            "timestamps": "1",
            "follow": "1" if follow else "0",
            "tail": "all" if tail is None else str(tail),
        }
        for name, moment in (("since", since), ("until", until)):
            if moment is not None:
                parameters[name] = f"{moment // NANO}.{moment % NANO:09d}"
        return self._logs(container, parameters)

    @asynccontextmanager
    async def _logs(
        self, container: Container, parameters: Mapping[str, str]
    ) -> AsyncIterator[AsyncGenerator[bytes]]:
        await self._ready()
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(
                    self._get(f"containers/{container.id}/logs", parameters)
                )
            except _LOST as error:
                raise self._lost(error) from error
            if response.status != 200:
                raise self._unreadable(container, response.status, await _words(response))
            async with aclosing(self._body(response)) as body:
                yield body

    def _open(self) -> Docker:
        """
        Make the connection's parts; nothing is sent yet.

        The connector is ours: the default one stops at 100 connections, and then
        every question waits behind 100 followed logs.
        """
        if self._docker is None:
            scheme, _, rest = self.url.partition("://")
            connector: aiohttp.BaseConnector
            if scheme == "unix":
                connector, base = aiohttp.UnixConnector(rest, limit=0), "http://docker"
            elif self._tls is not None:
                connector, base = aiohttp.TCPConnector(limit=0, ssl=self._tls), f"https://{rest}"
            else:
                connector, base = aiohttp.TCPConnector(limit=0), f"http://{rest}"
            timeout = aiohttp.ClientTimeout(total=_ANSWER, sock_connect=_CONNECT)
            session = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            self._docker = Docker(
                url=base.rstrip("/"), connector=connector, session=session, timeout=timeout
            )
        return self._docker

    async def _ready(self) -> Docker:
        """Return the connection with its version negotiated."""
        docker = self._open()
        if docker.api_version == "auto":
            await self.version()
        return docker

    async def _show(self, container: str, *, podman: bool = False) -> Mapping[str, Any] | None:
        """
        Ask for all about one container, or Podman's own API; None when there is none.

        A proxy need not let Podman's own API pass: None then, too.

        ContainerUnknown for a refusal or silence about this one, and for a connection that is
        cut again and again: an Engine may hang or stumble over a broken container and serve all
        others. If it went away altogether, others notice.
        """
        await self._ready()
        if not ID.fullmatch(container):
            raise ContainerUnknown(f"{container[:80]!r} cannot be its id")
        ask = self._ask_podman if podman else self._ask
        cut = ""
        try:
            async with asyncio.timeout(_LOOK):
                for _ in range(_ATTEMPTS):
                    try:
                        status, answer = await ask(f"containers/{container}/json")
                    except aiohttp.ClientConnectorError as error:
                        raise self._lost(error) from error
                    except aiohttp.ClientError as error:
                        cut = _said(error)
                    else:
                        return None if podman and status != 200 else _about_one(status, answer)
        except TimeoutError as error:
            what = f"the Engine does not answer within {_LOOK:.0f} seconds"
            raise ContainerUnknown(what) from error
        except OSError as error:
            raise self._lost(error) from error
        except _NONSENSE as error:
            raise ContainerUnknown(
                f"the Engine's answer cannot be read: {_shortly(error)}"
            ) from error
        raise ContainerUnknown(f"the Engine does not come to an end of its answer: {cut}")

    @property
    def _podman(self) -> bool:
        return self._version.startswith("Podman")

    async def _learn_networks(self, wanted: frozenset[str], *, again: bool = False) -> None:
        """
        See to it that these networks are known: they never change.

        One question answers for all networks. If it is refused, only a list asks `again`.
        """
        async with self._asking:
            if wanted <= self._networks.keys() or (self._untold is not None and not again):
                return
            self._untold = await self._ask_networks()
            if self._untold is None:  # of one that has been removed nothing will be told
                gone = dict.fromkeys(wanted - self._networks.keys(), inspect.Network(""))
                self._networks.update(gone)

    async def _ask_networks(self) -> Problem | None:
        """Ask for all networks; say why there was no answer."""
        await self._ready()
        remedy = "it is asked again with the next list of containers"
        try:
            async with asyncio.timeout(_LOOK):
                status, answer = await self._ask("networks")
                if status == 200 and self._podman:
                    also, more = await self._ask_podman("networks/json")
                    answer += more if also == 200 else []
            if status == 200:
                self._networks.update(inspect.networks(answer, podman=self._podman))
                return None
            why = f"the answer is {status} {_message(answer)!r}"
            if status in (401, 403, 404, 405):
                remedy = "let the socket proxy pass GET on /networks (NETWORKS=1)"
        except TimeoutError:
            why = f"no answer within {_LOOK:.0f} seconds"
        except _LOST as error:
            raise self._lost(error) from error
        except _NONSENSE as error:
            why = f"the answer cannot be read: {_shortly(error)}"
        return Problem(
            place="Docker Engine",
            what="it does not tell which networks are macvlan or ipvlan, so no ban closes a "
            f"container's own address there: GET /networks: {why}",
            remedy=remedy,
        )

    async def _ask_podman(self, path: str) -> tuple[int, Any]:
        """Ask Podman's own API, which goes by Podman's versions."""
        return await self._ask(f"v{self._version.split()[-1]}/libpod/{path}", versioned=False)

    async def _ask(self, path: str, *, versioned: bool = True) -> tuple[int, Any]:
        """Ask for a short answer: what a 200 says as JSON, the words of anything else."""
        async with self._get(path, versioned=versioned) as response:
            if response.status != 200:
                return response.status, await _words(response)
            return 200, json.loads(await _whole(response))

    @asynccontextmanager
    async def _get(
        self,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        within: float | None = None,
        headers_within: float | None = None,
        versioned: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Send a GET; its answer, or only the beginning of that, may take so many seconds.

        What `_LOST` names is raised as it is.
        """
        docker = self._open()
        version = f"/{docker.api_version}" if versioned else ""
        async with asyncio.timeout(headers_within):
            response = await docker.session.get(
                f"{docker.docker_host}{version}/{path}",
                params=parameters,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=within, sock_connect=_CONNECT),
            )
        try:
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise aiohttp.ClientPayloadError("it compresses its answers, unasked")
            yield response
        finally:
            # Leaving a response half-read would keep its connection for ever; what
            # was read to its end has given it back.
            response.close()

    def _same(self, response: aiohttp.ClientResponse) -> None:
        """
        See to it that who answers is who was asked for its version.

        When a socket is put in another's place, connections that stand go on with the old
        Engine, and new ones go to the new. Raises `EngineUnavailable`: all is asked anew.
        """
        server = _server(response)
        if server and self._server and server != self._server:
            raise EngineUnavailable(
                f"another Engine answers at {self.url} now: {server}, no longer {self._server}"
            )

    async def _body(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        while True:
            data, silence = b"", asyncio.timeout(_PULSE)
            try:
                async with silence:
                    data = await response.content.readany()
            except _LOST as error:
                if not silence.expired():
                    raise self._lost(error) from error
            if not data and not silence.expired():
                return
            yield data

    def _unreadable(
        self, container: Container, status: int, text: str
    ) -> ContainerGone | LogsUnreadable | EngineUnavailable:
        """Tell from a refusal whether there is a point in asking for this log again."""
        what = _message(text)
        if status in (404, 409):
            return ContainerGone(f"container {container.name}: {what}")
        mute = ("does not support reading", "log driver", "logging driver")
        if status == 501 or (status == 500 and any(word in what.lower() for word in mute)):
            return LogsUnreadable(f"container {container.name}: its log cannot be read: {what}")
        return self._refused(status, text)

    def _refused(self, status: int, text: str) -> EngineUnavailable:
        what = f"the Docker Engine at {self.url} answers {status} {_message(text)!r}"
        remedy = ""
        if status in (401, 403):
            remedy = (
                "let the socket proxy pass GET on /version, /events, /containers and /networks "
                "(CONTAINERS=1, EVENTS=1, NETWORKS=1, VERSION=1)"
            )
        return EngineUnavailable(what, remedy)

    def _lost(self, error: BaseException) -> EngineUnavailable:
        """Say in an operator's words why there is no connection, and what to do."""
        number = getattr(error, "errno", None)
        remedy = ""
        if isinstance(error, TimeoutError):
            what = "it does not answer"
        elif number == ENOENT:
            what = "there is no such socket"
            remedy = (
                "start Docker, or mount its socket into this container "
                "(-v /var/run/docker.sock:/var/run/docker.sock), or set DOCKER_HOST"
            )
        elif number in (EACCES, EPERM):
            what = "permission denied"
            remedy = "run dockerjail as root or as a member of the socket's group"
        elif number == ECONNREFUSED:
            what = "connection refused"
            remedy = (
                "start Docker; if it runs, its socket is a new one since it was restarted: mount "
                "its directory instead of the socket, or restart this container"
            )
        else:
            what = _said(error)
        return EngineUnavailable(f"cannot reach the Docker Engine at {self.url}: {what}", remedy)


def _negotiate(answer: Mapping[str, Any]) -> str:
    """Choose the API's version: the newest that both sides know."""
    newest = _numbers(answer.get("ApiVersion")) or NEWEST_TESTED
    oldest = _numbers(answer.get("MinAPIVersion")) or (0, 0)
    major, minor = max(min(newest, NEWEST_TESTED), oldest)
    return f"v{major}.{minor}"


def _numbers(text: object) -> tuple[int, int] | None:
    found = fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", str(text))
    return (int(found[1]), int(found[2])) if found is not None else None


def _digest(item: Mapping[str, Any] | None) -> tuple[str, frozenset[str]]:
    """Condense an item of a list, as far as it can be; return the networks it is on, too."""
    if item is None:
        return "too long", frozenset()
    try:
        return inspect.digest(item), inspect.attached(item)
    except _NONSENSE:
        return "unreadable", frozenset()


def _server(response: aiohttp.ClientResponse) -> str:
    """Return what an Engine calls itself at each answer: `Docker/26.1.5 (linux)`."""
    return response.headers.get("Server", "")[:80]


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """Read a body to its end. Raises `ValueError` for one that is too long."""
    data = await _beginning(response, _LONGEST + 1)
    if len(data) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST >> 20} MiB")
    return data


async def _words(response: aiohttp.ClientResponse) -> str:
    """Read what a refusal says, as far as it is said soon, and shortly."""
    try:
        async with asyncio.timeout(_COMPLAINT):
            return (await _beginning(response, _WORDS)).decode(errors="replace")
    except _LOST as error:
        return _said(error)


async def _beginning(response: aiohttp.ClientResponse, most: int) -> bytes:
    parts, size = [], 0
    async for data in response.content.iter_any():
        parts.append(data)
        size += len(data)
        if size >= most:
            break
    return b"".join(parts)[:most]


def _about_one(status: int, answer: Any) -> Mapping[str, Any] | None:
    """Judge the answer to a question about one container; None when there is none."""
    if status == 404:
        return None
    if status != 200:
        raise ContainerUnknown(f"the Engine answers {status} {_message(answer)!r}")
    if not isinstance(answer, Mapping):
        raise ContainerUnknown("the Engine's answer is no JSON object")
    return answer


def _said(error: BaseException) -> str:
    """Say what became of a connection."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before the answer"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _shortly(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _message(text: str) -> str:
    """Take the words out of an error's body, whether it is JSON or not."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict) and body.get("message"):
        text = str(body["message"])
    return " ".join(text.split())[:300]
