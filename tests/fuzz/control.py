"""
Requests at the control socket, to a daemon that runs beside twins of the world.

Every answer is JSON, an order or a refusal in words; nobody is banned, and nobody let pass,
by a body that is not exactly an order.
"""

import asyncio
import atexit
import contextlib
import functools
import json
import logging
import tempfile
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from dockerjail.model import Container, Port
from dockerjail.service.control import MAX_BODY, Control
from dockerjail.service.daemon import Daemon
from tests.fuzz.material import Material, seed
from tests.unit.test_daemon import daemon_of

LONGEST: Final = 400

ENOUGH: Final = 2000
"""Requests that a daemon answers before another takes its place."""

_WEB: Final = Container(
    id="c1",
    name="web",
    service="web",
    labels={"dockerjail.enable": "true", "dockerjail.jail.login.failregex": "^no <HOST>$"},
    published=frozenset({Port(80)}),
)
_REQUESTS: Final = (
    ("POST", "/v1/bans"),
    ("POST", "/v1/allow"),
    ("DELETE", "/v1/bans/"),
    ("DELETE", "/v1/allow/"),
    ("GET", "/v1/jails/"),
    ("GET", "/v1/"),
)
_ORDER: Final = {"address", "bantime", "ports", "blocktype", "jail", "reason", "force"}
_ALLOWANCE: Final = {"who", "for", "comment"}
_KINDS: Final = ("application/json", "application/json; charset=utf-16", "text/plain", "x")

WORDS: Final = (
    *(f'"{key}": ' for key in sorted(_ORDER | _ALLOWANCE)),
    *('"x": 1', ", ", "{", "}", "[", "]", "null", "true", '"203.0.113.7"', '"1h"', "-1", "1e400"),
    *('"::ffff:203.0.113.7"', '"198.51.100.0/24"', '"login"', '"reject"', '"80/tcp"', "NaN"),
)

SEEDS: Final = (
    seed(
        '{"address": "203.0.113.7", "bantime": "1h", "ports": "80,443", "reason": "x"}',
        choices=(0, 0),
    ),
    seed(
        '{"address": "2001:db8::/48", "jail": "login", "blocktype": "reject", "force": true}',
        choices=(0, 0),
    ),
    seed('{"address": ["203.0.113.7"], "ports": [1], "bantime": -1}', choices=(0, 0)),
    seed('{"address": "203.0.113.8"}', choices=(0, 1)),
    seed('[{"address": "203.0.113.9"}]', choices=(0, 0)),
    seed('{"address": "203.0.113.9", "x": 1}', choices=(0, 0)),
    seed('{"address": "203.0.113.9", "address": "203.0.113.9"}', choices=(0, 0)),
    seed('{"who": "198.51.100.0/24", "for": "2d", "comment": null}', choices=(1, 0)),
    seed('{"who": "office.test"}', choices=(1, 0)),
    seed("203.0.113.7?jail=login", choices=(2, 0)),
    seed("office.test", choices=(3, 0)),
    seed("login@web", choices=(4, 0)),
    seed("status", choices=(5, 0)),
)


class _House:
    """A daemon and its control socket's application, in a loop of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = contextlib.AsyncExitStack()
        self._directory = tempfile.TemporaryDirectory()
        self.asked = 0
        self.daemon, self._app = self.run(self._open())

    async def _open(self) -> tuple[Daemon, web.Application]:
        daemon, _ = await self._stack.enter_async_context(
            daemon_of(Path(self._directory.name), _WEB)
        )
        app = Control(daemon).app()
        runner = web.AppRunner(app)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        return daemon, app

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._loop.close()
        self._directory.cleanup()

    async def ask(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, Any]:
        self.asked += 1
        payload = StreamReader(_Protocol(), 2**16, loop=self._loop)
        payload.feed_data(body)
        payload.feed_eof()
        request = web.Request(
            _MESSAGE._replace(
                method=method,
                path=path,
                url=URL.build(
                    path=path.partition("?")[0], query_string=path.partition("?")[2], encoded=True
                ),
                headers=CIMultiDictProxy(CIMultiDict({"Content-Type": kind})),
            ),
            payload,
            _Protocol(),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            self._loop,
            client_max_size=MAX_BODY,
        )
        try:
            answer = await self._app._handle(request)
        except web.HTTPException as error:
            return error.status, None
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        return answer.status, json.loads(answer.body)


class _Transport:
    """What a request wants to know of its connection."""

    def get_extra_info(self, name: str) -> None:
        return None


class _Protocol(asyncio.Protocol):
    """A connection: aiohttp's own test double remembers every request."""

    transport = _Transport()
    ssl_context = peername = sockname = None
    _reading_paused = False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self, resume_parser: bool = True) -> None:
        pass


_MESSAGE: Final = make_mocked_request("GET", "/")._message


@functools.cache
def _houses() -> list[_House]:
    found: list[_House] = []
    atexit.register(lambda: [house.close() for house in found])
    return found


def _house() -> _House:
    houses = _houses()
    if houses and houses[-1].asked > ENOUGH:
        houses.pop().close()
    if not houses:
        houses.append(_House())
    return houses[-1]


def prepare() -> None:
    """Keep the daemon quiet: a line for each order takes long."""
    logging.disable(logging.CRITICAL)


def check(data: bytes) -> None:
    """Ask for one thing, and look at what became of it."""
    material = Material(data)
    method, path = material.one_of(_REQUESTS)
    kind = material.one_of(_KINDS)
    house = _house()
    body = material.rest()
    if method != "POST":
        whom, _, query = body.decode("utf-8", "replace").partition("?")
        path, body = f"{path}{quote(whom)}?{quote(query, safe='=&')}", b""
    warden = house.daemon.warden
    before = {*warden.bans, *warden.allowances}
    status, answer = house.run(house.ask(method, path, body, kind))
    assert status in (200, 404, 405, 409, 413), status
    new = {*warden.bans, *warden.allowances} - before  # others may have ended meanwhile
    if status == 409:
        assert answer["error"]
    if status == 200 and method == "POST":
        _is_order(path, body, kind)
    else:
        assert not new


def _is_order(path: str, body: bytes, kind: str) -> None:
    """Nobody is banned or let pass by what is no order."""
    order = json.loads(body.decode("utf-16" if "utf-16" in kind else "utf-8"))
    assert isinstance(order, dict)
    assert set(order) <= (_ORDER if path.endswith("bans") else _ALLOWANCE)
    assert isinstance(order["address" if path.endswith("bans") else "who"], str)
