"""What the control socket promises to whoever writes to it, with a real socket."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dockerjail.ban.orders import Sentence
from dockerjail.model import Address
from dockerjail.service.control import serve
from dockerjail.service.daemon import Daemon
from tests.unit.test_daemon import WEB, daemon_of

OFFICE = "198.51.100.77"


class Client:
    """Speaks to the socket, byte for byte."""

    def __init__(self, daemon: Daemon, session: aiohttp.ClientSession) -> None:
        self.daemon = daemon
        self._session = session

    async def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, Any]:
        headers = {"Content-Type": kind}
        url = f"http://dockerjail{path}"
        async with self._session.request(method, url, data=body, headers=headers) as answer:
            return answer.status, await answer.json()


async def office(name: str) -> Sequence[Address]:
    return (ip_address(OFFICE),) if name == "office.test" else ()


@contextlib.asynccontextmanager
async def client(directory: Path) -> AsyncIterator[Client]:
    socket = directory / "control.sock"
    async with (
        daemon_of(directory, WEB, resolve=office) as (daemon, _),
        serve(daemon, socket),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
    ):
        yield Client(daemon, session)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[" * 60_000, "application/json"),
        (b'{"address":' * 5000, "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"", "application/json"),
        (b"null", "application/json"),
        (b'{"address": "203.0.113.7"}', "application/json; charset=nosuch"),
        (b'{"address": "203.0.113.7"}', "application/json; charset=utf-16"),
    ],
)
async def test_a_body_that_is_no_order_is_refused_in_words(
    tmp_path: Path, body: bytes, kind: str
) -> None:
    async with client(tmp_path) as control:
        status, answer = await control.ask("POST", "/v1/bans", body, kind)
        assert status == 409
        assert "JSON" in answer["error"]
        assert not control.daemon.warden.bans


@pytest.mark.parametrize("name", ["office.test", "office.test.", " Office.TEST. "])
async def test_a_name_that_is_let_pass_is_let_pass_at_once(tmp_path: Path, name: str) -> None:
    async with client(tmp_path) as control:
        status, answer = await control.ask("POST", "/v1/allow", f'{{"who": "{name}"}}'.encode())
        assert (status, answer["allowed"]["networks"]) == (200, [OFFICE])
        status, answer = await control.ask(
            "POST", "/v1/bans", f'{{"address": "{OFFICE}"}}'.encode()
        )
        assert status == 409
        assert "lets it pass" in answer["error"]
        _, answer = await control.ask("GET", "/v1/allow")
        assert [(a["who"], a["networks"]) for a in answer["allowed"]] == [("office.test", [OFFICE])]
        status, _ = await control.ask("DELETE", f"/v1/allow/{name.strip()}")
        assert (status, len(control.daemon.warden.allowances)) == (200, 0)


@pytest.mark.parametrize("name", ["a..b", "-a.test", "a-.test", "203.0.113.7.1", "x" * 64, "%"])
async def test_what_no_host_can_be_called_is_not_let_pass(tmp_path: Path, name: str) -> None:
    async with client(tmp_path) as control:
        status, answer = await control.ask("POST", "/v1/allow", f'{{"who": "{name}"}}'.encode())
        assert status == 409
        assert answer["error"]
        assert not control.daemon.warden.allowances


async def test_all_bans_are_told_however_many(tmp_path: Path) -> None:
    async with client(tmp_path) as control:
        assert await control.ask("GET", "/v1/bans") == (200, {"bans": []})
        for number in range(1, 1003):
            order = Sentence(subject=ip_network(f"203.0.{number >> 8}.{number & 255}"), bantime=600)
            await control.daemon.warden.ask(order)
        status, answer = await control.ask("GET", "/v1/bans")
        assert (status, len(answer["bans"])) == (200, 1002)
        assert {ban["address"] for ban in answer["bans"]} >= {"203.0.0.1", "203.0.3.234"}
        status, answer = await control.ask("GET", "/v1/jails/manual")
        assert (status, len(answer["bans"])) == (200, 1002)
        assert (answer["jails"], answer["last_failures"]) == ([], [])


async def test_the_bans_of_one_jail_are_told_by_either_name(tmp_path: Path) -> None:
    async with client(tmp_path) as control:
        for number, jail in enumerate(("login@web", "login@shop", "sshd@web", "manual"), start=1):
            order = Sentence(subject=ip_network(f"203.0.113.{number}"), bantime=600, jail=jail)
            await control.daemon.warden.ask(order)
        for name, count in (("login", 2), ("login@web", 1), ("manual", 1), ("", 4)):
            status, answer = await control.ask("GET", f"/v1/bans?jail={name}")
            assert (status, len(answer["bans"])) == (200, count)
        status, answer = await control.ask("GET", "/v1/bans?jail=web")
        assert (status, answer["error"]) == (409, "no jail web; the jails are: none runs")
