"""What the control socket does with visitors who mean no good, over the real socket, byte for byte."""

import asyncio
import contextlib
import json
import os
import resource
import socket
import stat
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path
from struct import pack
from typing import Any

import pytest

from dockerjail.ban.orders import EVERYTHING, Sentence
from dockerjail.cli.talk import Talk
from dockerjail.errors import ConfigError
from dockerjail.model import Ban, Subject
from dockerjail.service import control, door
from dockerjail.service.control import serve
from dockerjail.service.daemon import Daemon
from dockerjail.service.door import MOST_BYTES, MOST_CONNECTIONS, make_way
from tests.unit.test_daemon import WEB, daemon_of

GOOD = b'{"address": "203.0.113.7", "bantime": "1h", "reason": "it was him"}'


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[tuple[Daemon, Path]]:
    path = directory / "run" / "control.sock"
    async with daemon_of(directory, WEB) as (daemon, _), serve(daemon, path):
        yield daemon, path


def request(
    method: str, path: str, body: bytes = b"", kind: str = "application/json", more: str = ""
) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def say(path: Path, data: bytes) -> tuple[int, bytes]:
    """Send bytes; return the status of the first answer, 0 for none, and all that came."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 26)
    told = b""
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
        told = await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return int(told[9:12]) if told.startswith(b"HTTP/1.1 ") else 0, told


def body_of(told: bytes) -> Any:
    return json.loads(told.partition(b"\r\n\r\n")[2])


async def test_the_socket_is_its_owners_alone_from_its_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    listen = socket.socket.listen

    def look(self: socket.socket, *backlog: int) -> None:
        seen.append(stat.S_IMODE(Path(self.getsockname()).stat().st_mode))
        listen(self, *backlog)

    monkeypatch.setattr(socket.socket, "listen", look)
    before = os.umask(0)
    try:
        async with opened(tmp_path) as (_, path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
            assert os.umask(0) == 0
        assert set(seen) == {0o600}
        assert not path.exists()
    finally:
        os.umask(before)


def test_what_is_no_socket_is_not_taken_away(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("data")
    link = tmp_path / "link"
    link.symlink_to(file)
    for path in (file, link, tmp_path):
        with pytest.raises(ConfigError, match="something else is there"):
            make_way(path)
    assert file.read_text() == "data"


def test_a_socket_that_somebody_answers_at_is_left_to_him(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        make_way(path)  # nobody listens: a killed daemon left it
        assert not path.exists()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)
        for _ in range(3):  # the second and third find its queue full
            with pytest.raises(ConfigError, match="another process answers"):
                make_way(path)
        assert path.exists()


NO_ORDERS = [
    b'{"address": "203.0.113.7", "address": "203.0.113.7"}',
    b'{"address": "203.0.113.7", "bantime": NaN}',
    b'{"address": "203.0.113.7", "bantime": Infinity}',
    b'{"address": "203.0.113.7", "bantime": -Infinity}',
    b'{"address": "203.0.113.7", "bantime": 1e400}',
    b'{"address": "203.0.113.7", "bantime": 1' + b"0" * 400 + b"}",
    b'{"address": "203.0.113.7", "bantime": 1' + b"0" * 60000 + b"}",
    b'{"address": "203.0.113.7", "bantime": -2}',
    b'{"address": "203.0.113.7", "bantime": 0}',
    b'{"address": "203.0.113.7", "bantime": "-1h"}',
    b'{"address": "203.0.113.7", "bantime": true}',
    b'{"address": "203.0.113.7", "bantime": [600]}',
    b'{"address": "203.0.113.7", "bantime": {"s": 600}}',
    b'{"address": "203.0.113.7", "reason": "a\\u001b[2J"}',
    b'{"address": "203.0.113.7", "reason": "a\\nb"}',
    b'{"address": "203.0.113.7", "reason": "a\\u202eb"}',
    b'{"address": "203.0.113.7", "reason": "\\ud800"}',
    b'{"address": "203.0.113.7", "reason": "' + b"x" * 201 + b'"}',
    b'{"address": "203.0.113.7", "reason": 7}',
    b'{"address": "203.0.113.7", "reason": ["x"]}',
    b'{"address": "203.0.113.7", "force": "true"}',
    b'{"address": "203.0.113.7", "force": 1}',
    b'{"address": "203.0.113.7", "force": 0}',
    b'{"address": "203.0.113.7", "force": 1.0}',
    b'{"address": "203.0.113.7", "jail": ["manual"]}',
    b'{"address": "203.0.113.7", "jail": {}}',
    b'{"address": "203.0.113.7", "jail": 1}',
    b'{"address": "203.0.113.7", "ports": 80.5}',
    b'{"address": "203.0.113.7", "ports": []}',
    b'{"address": "203.0.113.7", "ports": [[80]]}',
    b'{"address": "203.0.113.7", "ports": {"80": 1}}',
    b'{"address": "203.0.113.7", "blocktype": true}',
    b'{"address": "203.0.113.7", "blocktype": "reset"}',
    b'{"address": "203.0.113.7", "until": 9}',
    b'{"address": "203.0.113.7", "\\ud800": 9}',
    b'{"address": "203.0.113.7%eth0"}',
    b'{"address": "fe80::1%eth0"}',
    b'{"address": "fe80::1%25eth0"}',
    b'{"address": ["203.0.113.7"]}',
    b'{"address": {"address": "203.0.113.7"}}',
    b'{"address": 3405803783}',
    b'{"address": "3405803783"}',
    b'{"address": "203.0.113.7/33"}',
    b'{"address": "203.0.113.07"}',
    b'{"address": "203.0.113.7\\u0000"}',
    b'{"address": "203.0.113.7\\n203.0.113.8"}',
    '{"address": "２03.0.113.7"}'.encode(),  # noqa: RUF001
    b'{"address": "0.0.0.0/0"}',
    b'{"address": "::/0", "force": true}',
    b'{"address": "203.0.113.7"}{"address": "203.0.113.8"}',
    b'{"address": "203.0.113.7"',
    b'{"address": "203.0.113.7",}',
    b"{'address': '203.0.113.7'}",
    b'\xef\xbb\xbf{"address": "203.0.113.7"}',
    b'{"address": "203.0.113.7", "reason": "\xff"}',
    b'[{"address": "203.0.113.7"}]',
    b'"203.0.113.7"',
    b"address=203.0.113.7",
]


@pytest.mark.parametrize("body", NO_ORDERS, ids=lambda body: body[:60].decode(errors="replace"))
async def test_nobody_is_banned_by_a_body_that_is_not_exactly_an_order(
    tmp_path: Path, body: bytes
) -> None:
    async with opened(tmp_path) as (daemon, path):
        status, told = await say(path, request("POST", "/v1/bans", body))
        assert (status, set(body_of(told))) == (409, {"error"})
        assert body_of(told)["error"].isprintable()
        assert not daemon.warden.bans


LONG = b'{"address": "203.0.113.7", "reason": "' + b" " * 65000 + b'"}'

ODD_REQUESTS = [
    request("GET", "/v1/bans", GOOD),
    request("DELETE", "/v1/bans/203.0.113.9", GOOD),
    request("GET", "/v1/bans", more="X-HTTP-Method-Override: POST\r\n"),
    request("GET", "/v1/bans?_method=POST", GOOD),
    request("PUT", "/v1/bans", GOOD),
    request("PATCH", "/v1/bans", GOOD),
    request("HEAD", "/v1/bans", GOOD),
    request("TRACE", "/v1/bans", GOOD),
    request("POST", "/v1/bans?force=true", GOOD),
    request("POST", "/v1/bans/", GOOD),
    request("POST", "//v1/bans", GOOD),
    request("POST", "/v1/./bans", GOOD),
    request("POST", "/v1/allow/../bans", GOOD),
    request("POST", "/v1/allow/%2e%2e/bans", GOOD),
    request("POST", "/v1/%62ans", GOOD),
    request("POST", "/v1%2fbans", GOOD),
    request("POST", "/v1/bans%00", GOOD),
    request("POST", "http://x/v1/bans", GOOD),
    request("POST", "http://x/../v1/bans", GOOD),
    request("POST", "*", GOOD),
    request("POST", "/v1/bans", GOOD, kind="text/plain"),
    request("POST", "/v1/bans", GOOD, kind="application/x-www-form-urlencoded"),
    request("POST", "/v1/bans", GOOD, kind="application/json; charset=utf-16"),
    request("POST", "/v1/bans", GOOD, kind=""),
    request("POST", "/v1/bans", GOOD, more="Content-Encoding: gzip\r\n"),
    request("POST", "/v1/bans", LONG),
    request("POST", "/v1/bans", GOOD + b" " * 70000),
    request("POST", "/v1/bans", GOOD, more="Transfer-Encoding: chunked\r\n"),
    request("POST", "/v1/bans", GOOD, more="Content-Length: 5\r\n"),
    request("POST", "/v1/bans", GOOD, more=f"X: {'x' * 9000}\r\n"),
    request("POST", "/v1/bans", GOOD, more="".join(f"X{n}: x\r\n" for n in range(20_000))),
    b"POST /v1/bans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + GOOD,
    b"POST /v1/bans HTTP/9.9\r\n\r\n" + GOOD,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"\r\n" * 100_000,
    GOOD,
]


@pytest.mark.parametrize("data", ODD_REQUESTS, ids=lambda data: data[:50].decode(errors="replace"))
async def test_nobody_is_banned_by_a_request_that_is_not_the_one_for_it(
    tmp_path: Path, data: bytes
) -> None:
    async with opened(tmp_path) as (daemon, path):
        status, told = await say(path, data)
        assert not daemon.warden.bans
        assert not daemon.warden.allowances
        if data.startswith(b"GET /v1/bans HTTP") and GOOD not in data:
            assert (status, body_of(told)) == (200, {"bans": []})
        else:
            assert status in (0, 400, 404, 405, 409, 413), told
        assert (await say(path, request("GET", "/v1/status")))[0] == 200


async def test_an_order_as_it_should_be_is_carried_out(tmp_path: Path) -> None:
    async with opened(tmp_path) as (daemon, path):
        status, told = await say(path, request("POST", "/v1/bans", GOOD))
        assert (status, body_of(told)["bans"][0]["reason"]) == (200, "it was him")
        assert len(daemon.warden.bans) == 1
        status, _ = await say(path, request("DELETE", "/v1/bans/203.0.113.7?jial=login"))
        assert (status, len(daemon.warden.bans)) == (409, 1)
        status, _ = await say(path, request("DELETE", "/v1/bans/203.0.113.7?jail=a&jail=manual"))
        assert (status, len(daemon.warden.bans)) == (409, 1)
        status, _ = await say(path, request("DELETE", "/v1/bans/203.0.113.0%2F24?jail=manual"))
        assert (status, len(daemon.warden.bans)) == (200, 0)


async def test_what_is_sent_behind_a_request_is_not_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as (daemon, path):
        other = GOOD.replace(b"113.7", b"113.8")
        status, told = await say(
            path, request("POST", "/v1/bans", GOOD) + request("POST", "/v1/bans", other) * 100
        )
        assert status == 200
        assert told.count(b"HTTP/1.1") == 1
        assert b"connection: close" in told.lower()
        assert [str(ban.subject) for ban in daemon.warden.bans] == ["203.0.113.7/32"]


async def test_no_more_comes_in_by_a_connection_than_an_order_needs(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"POST /v1/bans HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 100 * MOST_BYTES:
                writer.write(b"x" * 4096)
                sent += 4096
                await writer.drain()
        assert sent < 20 * MOST_BYTES  # what the socket itself holds comes on top
        with contextlib.suppress(ConnectionError):
            assert b" 200 " not in await reader.read()
        writer.close()


@pytest.fixture
def files() -> Iterator[None]:
    """Let this process open as many sockets as the test needs."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(4096, before[0]), max(4096, before[1])))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


HALVES = [
    b"",
    b"POST /v1/bans HTT",
    b"POST /v1/bans HTTP/1.1\r\nHost: x\r\n",
    request("POST", "/v1/bans", GOOD)[:-1],
]


@pytest.mark.parametrize("half", HALVES)
async def test_a_crowd_that_never_stops_coming_keeps_nobody_out(
    tmp_path: Path, files: None, monkeypatch: pytest.MonkeyPatch, half: bytes
) -> None:
    monkeypatch.setattr(door, "GRACE", 0.5)
    over = threading.Event()

    def come_and_come(path: Path) -> None:
        here: deque[socket.socket] = deque()
        while not over.is_set():
            one = socket.socket(socket.AF_UNIX)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, pack("ll", 1, 0))
            here.append(one)
            with contextlib.suppress(OSError):
                one.connect(str(path))
                one.send(half)
            if len(here) > 500:
                here.popleft().close()
        for one in here:
            one.close()

    async with opened(tmp_path) as (daemon, path):
        crowd = [threading.Thread(target=come_and_come, args=[path]) for _ in range(3)]
        for each in crowd:
            each.start()
        try:
            await asyncio.sleep(0.5)
            for _ in range(3):
                assert (await asyncio.to_thread(Talk(path).status))["engine"]["connected"]
            await asyncio.to_thread(Talk(path).ban, json.loads(GOOD))
        finally:
            over.set()
            for each in crowd:
                await asyncio.to_thread(each.join)
        assert len(daemon.warden.bans) == 1


async def test_connections_are_bounded_and_the_oldest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "GRACE", 0.0)
    made = []
    passed_on = door._Visitor.connection_lost
    monkeypatch.setattr(
        door._Visitor,
        "connection_lost",
        lambda self, exc: (made.append(self), passed_on(self, exc))[1],
    )
    async with opened(tmp_path) as (_, path), contextlib.AsyncExitStack() as crowd:
        readers = []
        for _ in range(MOST_CONNECTIONS + 3):
            reader, writer = await asyncio.open_unix_connection(str(path))
            crowd.callback(writer.close)
            readers.append(reader)
        for reader in readers[:3]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        await asyncio.sleep(0.1)
        assert len(made) == 3


@pytest.mark.looptime
async def test_a_visitor_who_waits_is_sent_away_after_a_minute(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /v1/status HTTP/1.1\r\n")
        await asyncio.sleep(door.LIFETIME - 1)
        assert not reader.at_eof()
        await asyncio.sleep(2)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        assert reader.at_eof() or reader.exception() is not None
        writer.close()


async def test_an_answer_that_nobody_reads_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = 0
    async with opened(tmp_path) as (daemon, path):
        for number in range(30_000):
            subject = ip_network((0xCB000000 + number, 32))
            daemon.warden._enforced.put(_ban(number, subject), 0.0)
        plain = control.Report.ban

        def count(self: Any, ban: Any, **more: Any) -> Any:
            nonlocal told
            told += 1
            return plain(self, ban, **more)

        monkeypatch.setattr(control.Report, "ban", count)
        _, writer = await asyncio.open_unix_connection(str(path), limit=1024)
        writer.write(request("GET", "/v1/bans"))
        for _ in range(20):  # whoever reads slowly holds up nobody
            status, _ = await say(path, request("GET", "/v1/allow"))
            assert status == 200
            await asyncio.sleep(0.02)
        assert 0 < told < 10_000
        writer.transport.abort()
        status, answer = await say(path, request("GET", "/v1/bans"))
        assert (status, b"ransfer-Encoding: chunked" in answer) == (200, True)
        assert answer.count(b'"address": "203.0.') == 30_000


def _ban(number: int, subject: Subject) -> Ban:
    return Ban(id=number, jail="manual", subject=subject, scope=EVERYTHING, at=number, until=None)


async def test_operators_let_a_bounded_number_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MOST_ALLOWED", 3)
    async with opened(tmp_path) as (daemon, path):
        for number in range(5):
            body = f'{{"who": "198.51.100.{number}"}}'.encode()
            status, _ = await say(path, request("POST", "/v1/allow", body))
            assert status == (200 if number < 3 else 409)
        assert len(daemon.warden.allowances) == 3


async def test_all_bans_that_an_order_ended_are_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as (daemon, path):
        for number in range(1, 1503):
            subject = ip_network((0xCB007100 + number, 32))
            await daemon.warden.ask(Sentence(subject=subject, bantime=600))
        status, told = await say(path, request("DELETE", "/v1/bans/203.0.0.0%2F16"))
        assert status == 200
        assert told.count(b'"address": "203.0.1') == 1502
        assert b'"in_sync": true' in told
        assert not daemon.warden.bans


def test_who_asks_while_a_crowd_stands_at_the_door_waits_his_turn(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        crowd = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                one = stack.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                one.connect(str(path))
                crowd += 1

        def answer() -> None:
            for _ in range(crowd):
                listener.accept()[0].close()
            operator, _ = listener.accept()
            with operator:
                operator.recv(4096)
                operator.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"ok": true}')

        opening = threading.Timer(0.3, answer)
        opening.daemon = True
        opening.start()
        assert Talk(path).status() == {"ok": True}
        opening.join()
