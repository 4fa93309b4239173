"""
The door for the operator: HTTP and JSON on a Unix socket.

In: requests from the command line. Out: what `report` tells, and orders to the
warden. The socket is for its owner alone (`door`); a body that is not exactly an order
changes nothing. Only this module and `docker/client` import aiohttp.

    GET    /v1/status                what is going on
    GET    /v1/jails/{jail}          one jail: its rule, bans and last failures
    GET    /v1/bans                  the bans in force
    POST   /v1/bans                  {"address", "bantime"?, "ports"?, "blocktype"?, "jail"?,
                                     "reason"?, "force"?}; what is not said is the jail's;
                                     without a jail from everything, by drop
    DELETE /v1/bans/{address}?jail=  end the bans that hold an address
    GET    /v1/allow                 whom operators let pass
    POST   /v1/allow                 {"who", "for"?, "comment"?}: an address, network or name;
                                     ends its bans
    DELETE /v1/allow/{who}           let him pass no more
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, cast

from aiohttp import web

from dockerjail.ban.orders import EVERYTHING, MANUAL, Admit, Pardon, Revoke, Sentence
from dockerjail.config import duration, values
from dockerjail.config.recidive import RECIDIVE
from dockerjail.errors import ConfigError, DockerjailError, Refused
from dockerjail.jail.jail import Jail
from dockerjail.model import Allowance, Ban, Blocktype, Scope, Subject, written
from dockerjail.service.daemon import RESOLVED_WITHIN, Daemon
from dockerjail.service.door import door
from dockerjail.service.report import STRETCH, Report

Json = dict[str, Any]

MAX_BODY: Final = 64 * 1024
"""Bytes that a request may have at most."""

BANTIME: Final = 3600.0
"""Seconds that a ban by hand lasts unless it says otherwise."""

LAST_WORDS: Final = 1.0
"""Seconds that requests in hand may take at a stop."""

ORDER: Final = frozenset({"address", "bantime", "ports", "blocktype", "jail", "reason", "force"})
ALLOWANCE: Final = frozenset({"who", "for", "comment"})

LONGEST_COMMENT: Final = 200
"""Characters that an operator's words may have."""

MOST_ALLOWED: Final = 10_000
"""Of whom operators let pass; each is looked at whenever somebody is banned."""


class Control:
    """The routes, and what each of them does."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._report = Report(daemon)

    def app(self) -> web.Application:
        """Build the application."""
        app = web.Application(middlewares=[_errors], client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.get("/v1/status", self._status, allow_head=False),
                web.get("/v1/jails/{jail}", self._jail, allow_head=False),
                web.get("/v1/bans", self._bans, allow_head=False),
                web.post("/v1/bans", self._ban),
                web.delete("/v1/bans/{address:.+}", self._unban),
                web.get("/v1/allow", self._allowed, allow_head=False),
                web.post("/v1/allow", self._allow),
                web.delete("/v1/allow/{who:.+}", self._disallow),
            ]
        )
        return app

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(await self._report.status())

    async def _jail(self, request: web.Request) -> web.StreamResponse:
        told, bans = await self._report.jail(request.match_info["jail"])
        return await self._tell(request, told, bans, counted=True)

    async def _bans(self, request: web.Request) -> web.StreamResponse:
        bans = await self._report.standing(request.query.get("jail") or None)
        return await self._tell(request, {}, bans, counted=True)

    async def _made(
        self, request: web.Request, bans: Sequence[Ban], **more: Any
    ) -> web.StreamResponse:
        """Tell which bans an order made or ended, and whether the kernel knows it."""
        return await self._tell(request, {**more, **self._report.made()}, bans)

    async def _tell(
        self, request: web.Request, answer: Json, bans: Sequence[Ban], *, counted: bool = False
    ) -> web.StreamResponse:
        """
        Add `bans` to an answer and send it.

        Many are written in stretches, so that others get a turn, and only as fast as they are read.
        """
        if len(bans) <= STRETCH:
            told = [self._report.ban(ban, counted=counted) for ban in bans]
            return web.json_response({**answer, "bans": told})
        response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
        response.force_close()
        await response.prepare(request)
        before = json.dumps(answer).removesuffix("}")
        await response.write(f'{before}{", " if answer else ""}"bans": ['.encode())
        for at in range(0, len(bans), STRETCH):
            some = (self._report.ban(ban, counted=counted) for ban in bans[at : at + STRETCH])
            text = ", ".join(map(json.dumps, some))
            await response.write(f"{', ' if at else ''}{text}".encode())
            await asyncio.sleep(0)
        await response.write(b"]}")
        await response.write_eof()
        return response

    async def _ban(self, request: web.Request) -> web.StreamResponse:
        order = await _order(request, ORDER)
        whom = subject(order.get("address"), alone=False)
        jail = self._jail_named(order.get("jail"))
        bantime = jail.policy.bantime if jail else BANTIME
        if order.get("bantime") is not None:
            bantime = duration.parse_bantime(order["bantime"])
        blocktype = jail.policy.blocktype if jail else Blocktype.DROP
        if order.get("blocktype") is not None:
            blocktype = values.blocktype(order["blocktype"])
        bans = await self._daemon.warden.ask(
            Sentence(
                subject=whom,
                bantime=bantime,
                scope=self._scope(jail, order.get("ports")),
                jail=jail.name if jail else MANUAL,
                reason=_words(order, "reason"),
                blocktype=blocktype,
                force=_force(order),
            )
        )
        return await self._made(request, bans)

    def _jail_named(self, name: object) -> Jail | None:
        """Find the jail that an order is for, by `name@service` or by its bare name."""
        if not isinstance(name, str | None):
            raise Refused("jail is no text")
        if name is None or name == MANUAL:
            return None
        found = [j for j in self._daemon.jails if name in (j.name, j.policy.name)]
        names = ", ".join(sorted(j.name for j in found or self._daemon.jails)) or "none runs"
        if not found and name == RECIDIVE and self._daemon.settings.recidive is not None:
            raise Refused(
                f"jail {name} counts bans, and has no ports to keep somebody out of; "
                "leave the jail out to keep him out of everything"
            )
        if not found:
            raise Refused(f"no jail {name}; the jails are: {names}")
        if len(found) > 1:
            raise Refused(f"several jails are called {name}; name one of: {names}")
        return found[0]

    def _scope(self, jail: Jail | None, ports: object) -> Scope:
        """Choose from what an order keeps out: its ports, its jail's, or everything."""
        if ports is not None:
            return Scope(ports=values.ports(ports), why=EVERYTHING.why)
        if jail is None:
            return EVERYTHING
        scope = self._daemon.scope(jail.name)
        if scope is None or scope.nothing:
            why = scope.why if scope else "cannot ban: its service is gone"
            raise Refused(f"jail {jail.name} {why}; or name ports, or no jail for everything")
        return scope

    async def _unban(self, request: web.Request) -> web.StreamResponse:
        whom = subject(request.match_info["address"])
        bans = await self._daemon.warden.ask(
            Pardon(subject=whom, jail=request.query.get("jail") or None)
        )
        if not bans:
            where = f" in jail {request.query['jail']}" if request.query.get("jail") else ""
            raise Refused(f"{request.match_info['address']} is not banned{where}")
        return await self._made(request, bans)

    async def _allowed(self, _: web.Request) -> web.Response:
        return web.json_response(self._report.allowed())

    async def _allow(self, request: web.Request) -> web.StreamResponse:
        order = await _order(request, ALLOWANCE)
        comment = _words(order, "comment")
        if len(self._daemon.warden.allowances) >= MOST_ALLOWED:
            raise Refused(f"{MOST_ALLOWED} are let pass already; end some, or write networks")
        who, networks = await self._whom(order.get("who"))
        now = self._daemon.clock()
        lasting = order.get("for")
        seconds = None if lasting is None else duration.parse_bantime(lasting)
        allowance = Allowance(
            who=who,
            at=now,
            until=None if seconds is None else now + seconds,
            comment=comment,
        )
        ended = await self._daemon.warden.ask(Admit(allowance=allowance, networks=networks))
        await self._daemon.protect(waiting=RESOLVED_WITHIN)
        allowed = {
            **self._report.allowance(allowance),
            "networks": sorted(map(written, networks)),
        }
        return await self._made(request, ended, allowed=allowed)

    async def _whom(self, who: object) -> tuple[str, frozenset[Subject]]:
        """Return whom an order lets pass, and the networks that means now."""
        name = values.host(who.strip()) if isinstance(who, str) else None
        if name is not None:
            found = await self._daemon.world.resolve(name)
            if not found:
                raise Refused(
                    f"{name} does not resolve; write a name that has an address, "
                    "or an address such as 203.0.113.7"
                )
            return name, frozenset(map(ip_network, found))
        if isinstance(who, str) and who.strip().startswith(values.FILE):
            raise Refused("a file is for ignoreip in the configuration; name who is to pass")
        network = subject(who, ", or a host's name")
        if not network.prefixlen:
            raise Refused(
                f"{network} is everybody; to ban nobody write mode = 'observe' under [firewall]"
            )
        return written(network), frozenset({network})

    async def _disallow(self, request: web.Request) -> web.Response:
        word = request.match_info["who"]
        who = values.host(word) or written(subject(word))
        await self._daemon.warden.ask(Revoke(who=who))
        await self._daemon.protect()
        return web.json_response({"revoked": who, **self._report.kept()})


def subject(text: object, too: str = "", *, alone: bool = True) -> Subject:
    """
    Read an address or a network; raises `Refused` with what to write, `too` what else.

    An IPv6 address stands for its /64 unless `alone`: who has one address has them all.
    """
    if not isinstance(text, str) or not text.strip():
        raise Refused("no address given; write one such as 203.0.113.7 or 2001:db8::7")
    try:
        # an address with a zone is of one link only: no set of the kernel can hold it
        found: Subject = ip_network("" if "%" in text else text.strip(), strict=False)
    except ValueError:
        raise Refused(
            f"{text.strip()[:60]!r} is not an address; "
            f"write one such as 203.0.113.7, 2001:db8::7 or 203.0.113.0/24{too}"
        ) from None
    mapped = found.network_address.ipv4_mapped if isinstance(found, IPv6Network) else None
    if mapped is not None and found.prefixlen >= 96:
        return ip_network(f"{mapped}/{found.prefixlen - 96}", strict=False)
    if not alone and found.version == 6 and "/" not in text:
        return found.supernet(new_prefix=64)
    return found


async def _order(request: web.Request, known: Collection[str]) -> dict[str, Any]:
    """Read an order: a JSON object of known keys, each once, in plain text; raises `Refused`."""
    charset = (request.charset or "utf-8").lower()
    json_in_utf8 = request.content_type == "application/json" and charset in ("utf-8", "utf8")
    if not json_in_utf8 or "Content-Encoding" in request.headers:
        raise Refused("the body is not JSON in UTF-8, as Content-Type: application/json says")
    try:
        order = json.loads(
            (await request.read()).decode(), parse_constant=_no_number, object_pairs_hook=_object
        )
    except (ValueError, RecursionError):  # too deep
        raise Refused("the body is not JSON") from None
    if not isinstance(order, dict):
        raise Refused("the body is not a JSON object")
    unknown = sorted(set(order).difference(known))
    if unknown:
        raise Refused(f"unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return order


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON's")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of what a body says; of a key that is there twice nobody knows which counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key in found if sum(key == other for other, _ in pairs) > 1)
        raise Refused(f"the key {twice[:LONGEST_COMMENT]!r} stands there twice")
    return found


def _words(order: Mapping[str, Any], key: str) -> str:
    """Return an operator's own words; raises `Refused` for what is no plain text."""
    text = order.get(key)
    if text is None:
        return ""
    if not isinstance(text, str) or not text.isprintable():
        raise Refused(f"{key} is no plain text on one line")
    if len(text) > LONGEST_COMMENT:
        raise Refused(f"{key} is longer than {LONGEST_COMMENT} characters")
    return text


def _force(order: Mapping[str, Any]) -> bool:
    force = order.get("force")
    if force not in (None, True, False) or isinstance(force, int | float) != isinstance(
        force, bool
    ):
        raise Refused("force is neither true nor false")
    return force is True


def _exact(request: web.Request) -> None:
    """
    Refuse what is written in another way than here: it is meant for somebody else.

    A path with `..` or `%62ans`, a query that nobody reads, a body where none belongs.
    """
    resource = request.match_info.route.resource
    if resource is None:
        return
    path = request.raw_path.partition("?")[0]
    if not path.startswith(resource.canonical.partition("{")[0]):
        raise Refused(f"write the path as it is: {resource.canonical}")
    of_bans = resource.canonical.startswith("/v1/bans")
    known = ("jail",) if of_bans and request.method in ("GET", "DELETE") else ()
    if not set(request.query) <= set(known) or len(request.query) > len(known):
        raise Refused(f"the query may hold {' '.join(known) or 'nothing'}, once")
    if request.method != "POST" and request.can_read_body:
        raise Refused(f"a {request.method} has no body")


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """
    Answer our own errors as JSON; anything else is a bug and goes up.

    Each connection is for one request: what is sent behind it is not read.
    """
    try:
        _exact(request)
        answer = await handler(request)
    except (Refused, ConfigError) as error:
        answer = web.json_response({"error": str(error)}, status=409)
    except DockerjailError as error:
        answer = web.json_response({"error": str(error)}, status=500)
    except web.HTTPException as error:
        answer = web.json_response({"error": error.text or error.reason}, status=error.status)
    answer.force_close()
    return answer


@asynccontextmanager
async def serve(daemon: Daemon, path: Path) -> AsyncGenerator[None]:
    """Answer at the socket `path` while the context lasts; raises `ConfigError`."""
    runner = web.AppRunner(
        Control(daemon).app(),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=LAST_WORDS,
        auto_decompress=False,  # 64 KiB would become 64 MiB before anybody looks at them
    )
    await runner.setup()
    try:
        async with door(cast(web.Server, runner.server), path):
            yield
    finally:
        await runner.cleanup()
