"""
DOOR to the Docker Engine: the only place for aiodocker and aiohttp's client.

In go ids and cursors, out come `Container`s, ids of containers to which something
happened, and the bytes of logs. Only GET is ever sent: `/version`, `/events`,
`/containers/json`, `/containers/{id}/json`, `/containers/{id}/logs`, `/networks`; a read-only
socket proxy that lets these pass is enough. One that does not pass `/networks` hides
which containers are reached past the host: that is a problem, and no reason to stop.

aiodocker makes the connection and asks for versions, lists and details. Events and
logs go over its public session, because its own iterators hide a cut connection,
drop the stream a line came from and keep the connection after their end.
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from errno import EACCES, ECONNREFUSED, ENOENT, EPERM
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiodocker import Docker, DockerError

from dockerjail.docker import inspect
from dockerjail.errors import (
    ConfigError,
    ContainerGone,
    ContainerUnknown,
    EngineUnavailable,
    LogsUnreadable,
)
from dockerjail.model import Container, Problem
from dockerjail.stamp import NANO

NEWEST_TESTED = (1, 45)
"""API of Engine 26.1; a newer Engine is asked in this version as long as it answers."""

_CONNECT = 5.0
_ANSWER = 60.0
_LOOK = 15.0
_LONGEST_EVENT = 1024 * 1024

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

_NONSENSE = (ValueError, TypeError, LookupError, AttributeError)
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
        self.url = url or os.environ.get("DOCKER_HOST") or _usual_socket()
        self._tls = _tls(self.url)
        self._docker: Docker | None = None
        self._version = ""
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
            async with docker.session.get(
                f"{docker.docker_host}/version", timeout=aiohttp.ClientTimeout(total=_ANSWER)
            ) as response:
                if response.status != 200:
                    raise self._refused(response.status, await response.text())
                answer = await response.json(content_type=None)
        except _LOST as error:
            raise self._lost(error) from error
        except ValueError as error:
            raise EngineUnavailable(
                f"what answers at {self.url} is no Docker Engine: {error}"
            ) from error
        if not isinstance(answer, dict):
            raise EngineUnavailable(f"what answers at {self.url} is no Docker Engine")
        docker.api_version = _negotiate(answer)
        podman = "podman" in json.dumps(answer.get("Components")).lower()
        number = str(answer.get("Version") or "")
        self._version = f"Podman {number}" if podman else number
        self._networks.clear()
        self._untold = None
        return self._version

    async def list(self) -> Sequence[tuple[str, str]]:
        """List all containers, stopped ones too: id and a digest of their state."""
        docker = await self._ready()
        keys = ("Names", "State", "Labels", "Ports", "NetworkSettings")
        if self._podman:  # it names networks, and a name may be given anew
            self._networks.clear()
        try:
            listed = [
                (str(item["Id"]), {key: _get(item, key) for key in keys})
                for item in await docker.containers.list(all="1")
            ]
            await self._learn_networks([item for _, item in listed], again=True)
            return [(id_, inspect.digest(item, self._networks)) for id_, item in listed]
        except DockerError as error:
            raise self._translate(error) from error
        except _LOST as error:
            raise self._lost(error) from error
        except _NONSENSE as error:
            raise EngineUnavailable(
                f"the list of containers from {self.url} cannot be read: {error!r}"
            ) from error

    async def inspect(self, container: str) -> Container | None:
        """Look at one container by id; None when there is none."""
        data = await self._show(container)
        if data is None:
            return None
        owner = inspect.network_owner(data)
        shown = await self._show(owner) if owner else None
        await self._learn_networks([data if shown is None else shown])
        try:
            return inspect.container(data, owner=shown, networks=self._networks)
        except _NONSENSE as error:
            raise ContainerUnknown(f"what the Engine says of it makes no sense: {error}") from error

    def problems(self) -> Sequence[Problem]:
        """List what it does not tell although bans need it."""
        return [] if self._untold is None else [self._untold]

    async def events(self, *, since: float) -> AsyncGenerator[str]:
        """
        Yield a container's id whenever something happened to it, from `since` on.

        Ends never but by `EngineUnavailable`. The Engine keeps 256 events at most
        and forgets them when it restarts: what comes is a hint where to look.
        """
        docker = await self._ready()
        parameters = {"since": f"{since:.9f}", "filters": _FILTERS}
        async with self._get("events", parameters) as response:
            if response.status != 200:
                raise self._refused(response.status, await response.text())
            rest = b""
            async for data in self._body(response):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if container := _subject(line):
                        yield container
                if len(rest) > _LONGEST_EVENT:
                    raise EngineUnavailable(f"what {self.url} sends as events are none")
        raise EngineUnavailable(f"the Docker Engine at {docker.docker_host} ended its events")

    def logs(
        self,
        container: Container,
        *,
        follow: bool,
        since: int | None = None,
        tail: int | None = None,
    ) -> AbstractAsyncContextManager[AsyncGenerator[bytes]]:
        """
        Open the raw body of a container's log, with timestamps, both streams.

        `since` is inclusive, in nanoseconds; `tail` the last N frames. Raises
        `LogsUnreadable` or `ContainerGone` for what trying again does not mend,
        `EngineUnavailable` for a cut connection. Leaving the context closes it.

        There is no time limit, not even for the headers: some Engines send them
        only with the first line.
        """
        return self._logs(container, follow=follow, since=since, tail=tail)

    @asynccontextmanager
    async def _logs(
        self, container: Container, *, follow: bool, since: int | None, tail: int | None
    ) -> AsyncIterator[AsyncGenerator[bytes]]:
        await self._ready()
        parameters = {
            "stdout": "1",
            "stderr": "1",
            "timestamps": "1",
            "follow": "1" if follow else "0",
            "tail": "all" if tail is None else str(tail),
        }
        if since is not None:
            parameters["since"] = f"{since // NANO}.{since % NANO:09d}"
        async with self._get(f"containers/{container.id}/logs", parameters) as response:
            if response.status != 200:
                raise self._unreadable(container, response.status, await response.text())
            body = self._body(response)
            try:
                yield body
            finally:
                await body.aclose()

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
            session = aiohttp.ClientSession(connector=connector, timeout=timeout)
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

    async def _show(self, container: str) -> Mapping[str, Any] | None:
        """
        Ask for all about one container; None when there is none.

        ContainerUnknown for a refusal or silence about this one: an Engine may hang
        on a broken container and serve all others.
        """
        docker = await self._ready()
        try:
            async with asyncio.timeout(_LOOK):
                data = await docker.containers.container(container).show()
        except TimeoutError as error:
            what = f"the Engine does not answer within {_LOOK:.0f} seconds"
            raise ContainerUnknown(what) from error
        except DockerError as error:
            if error.status == 404:
                return None
            if isinstance(error.__cause__ or error.__context__, _LOST):
                raise self._translate(error) from error
            what = f"the Engine answers {error.status} {_message(str(error.message))!r}"
            raise ContainerUnknown(what) from error
        except _LOST as error:
            raise self._lost(error) from error
        except _NONSENSE as error:
            raise ContainerUnknown(f"the Engine's answer cannot be read: {error!r}") from error
        if not isinstance(data, Mapping):
            raise ContainerUnknown("the Engine's answer is no JSON object")
        return data

    @property
    def _podman(self) -> bool:
        return self._version.startswith("Podman")

    async def _learn_networks(
        self, containers: Sequence[Mapping[str, Any]], *, again: bool = False
    ) -> None:
        """
        See to it that the networks of these containers are known: they never change.

        One question answers for all networks. If it is refused, only a list asks `again`.
        """
        wanted = frozenset[str]().union(*map(inspect.attached, containers))
        async with self._asking:
            if wanted <= self._networks.keys() or (self._untold is not None and not again):
                return
            self._untold = await self._ask_networks()
            if self._untold is None:  # of one that has been removed nothing will be told
                gone = dict.fromkeys(wanted - self._networks.keys(), inspect.Network(""))
                self._networks.update(gone)

    async def _ask_networks(self) -> Problem | None:
        """Ask for all networks; say why there was no answer."""
        docker = await self._ready()
        remedy = "it is asked again with the next list of containers"
        try:
            async with asyncio.timeout(_LOOK):
                listed = await docker.networks.list()
            self._networks.update(inspect.networks(listed, podman=self._podman))
        except TimeoutError:
            why = f"no answer within {_LOOK:.0f} seconds"
        except DockerError as error:
            if isinstance(error.__cause__ or error.__context__, _LOST):
                raise self._translate(error) from error
            why = f"the answer is {error.status} {_message(str(error.message))!r}"
            if error.status in (401, 403, 404, 405):
                remedy = "let the socket proxy pass GET on /networks (NETWORKS=1)"
        except _LOST as error:
            raise self._lost(error) from error
        except _NONSENSE as error:
            why = f"the answer cannot be read: {error!r}"
        else:
            return None
        return Problem(
            place="Docker Engine",
            what="it does not tell which networks are macvlan or ipvlan, so no ban closes a "
            f"container's own address there: GET /networks: {why}",
            remedy=remedy,
        )

    @asynccontextmanager
    async def _get(
        self, path: str, parameters: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a GET whose answer may take for ever."""
        docker = self._open()
        try:
            response = await docker.session.get(
                f"{docker.docker_host}/{docker.api_version}/{path}",
                params=parameters,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
            )
        except _LOST as error:
            raise self._lost(error) from error
        try:
            yield response
        finally:
            # Leaving a response half-read would keep its connection for ever.
            response.close()

    async def _body(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        try:
            async for data in response.content.iter_any():
                yield data
        except _LOST as error:
            raise self._lost(error) from error

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
        if status in (401, 403):
            what += (
                "; let the socket proxy pass GET on /version, /events, /containers and /networks "
                "(CONTAINERS=1, EVENTS=1, NETWORKS=1, VERSION=1)"
            )
        return EngineUnavailable(what)

    def _translate(self, error: DockerError) -> EngineUnavailable:
        """Find what aiodocker wraps: status 900 is its word for no connection."""
        cause = error.__cause__ or error.__context__
        if isinstance(cause, _LOST):
            return self._lost(cause)
        return self._refused(error.status, error.message)

    def _lost(self, error: BaseException) -> EngineUnavailable:
        """Say in an operator's words why there is no connection, and what to do."""
        number = getattr(error, "errno", None)
        remedy = ""
        if isinstance(error, TimeoutError):
            what = "it does not answer"
        elif number == ENOENT:
            what = "there is no such socket"
            remedy = (
                "; start Docker, or mount its socket into this container "
                "(-v /var/run/docker.sock:/var/run/docker.sock), or set DOCKER_HOST"
            )
        elif number in (EACCES, EPERM):
            what = "permission denied"
            remedy = "; run dockerjail as root or as a member of the socket's group"
        elif number == ECONNREFUSED:
            what = "connection refused"
            remedy = "; nothing listens there: is Docker running?"
        else:
            what = str(error) or type(error).__name__
        return EngineUnavailable(f"cannot reach the Docker Engine at {self.url}: {what}{remedy}")


def _negotiate(answer: Mapping[str, Any]) -> str:
    """Choose the API's version: the newest that both sides know."""
    newest = _numbers(answer.get("ApiVersion")) or NEWEST_TESTED
    oldest = _numbers(answer.get("MinAPIVersion")) or (0, 0)
    major, minor = max(min(newest, NEWEST_TESTED), oldest)
    return f"v{major}.{minor}"


def _numbers(text: object) -> tuple[int, int] | None:
    major, _, minor = str(text).partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def _subject(line: bytes) -> str:
    """Return the id of the container that an event is about; empty for none."""
    try:
        event = json.loads(line) if line.strip() else {}
    except ValueError as error:
        raise EngineUnavailable(f"an event that is no JSON: {error}") from error
    if not isinstance(event, Mapping):
        return ""
    actor = event.get("Actor")
    if not isinstance(actor, Mapping):
        return ""
    if event.get("Type") != "network":
        return str(actor.get("ID") or "")
    attributes = actor.get("Attributes")
    return str(attributes.get("container") or "") if isinstance(attributes, Mapping) else ""


def _message(text: str) -> str:
    """Take the words out of an error's body, whether it is JSON or not."""
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("message"):
        text = str(body["message"])
    return " ".join(text.split())[:300]


def _get(item: Any, key: str) -> Any:
    try:
        return item[key]
    except KeyError:
        return None


def _usual_socket() -> str:
    """Find the socket where one is when nothing was said; the first when there is none."""
    places = [Path("/var/run/docker.sock"), Path("/run/podman/podman.sock")]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        places += [Path(runtime, "docker.sock"), Path(runtime, "podman", "podman.sock")]
    found = next((place for place in places if place.is_socket()), places[0])
    return f"unix://{found}"


def _tls(url: str) -> ssl.SSLContext | None:
    """Read the certificates for a remote Engine as Docker's own command does."""
    scheme, separator, rest = url.partition("://")
    if not separator or not rest or scheme not in ("unix", "tcp", "http", "https"):
        raise ConfigError(
            f"Docker's address {url!r} cannot be used; write unix:///var/run/docker.sock, "
            "tcp://host:2375 or https://host:2376"
        )
    if scheme != "https" and not (scheme == "tcp" and os.environ.get("DOCKER_TLS_VERIFY")):
        return None
    directory = os.environ.get("DOCKER_CERT_PATH")
    if directory is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=str(Path(directory, "ca.pem")))
        context.load_cert_chain(Path(directory, "cert.pem"), Path(directory, "key.pem"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificates for Docker at {url} cannot be read: {error}; put ca.pem, "
            f"cert.pem and key.pem into DOCKER_CERT_PATH={directory}"
        ) from error
    return context
