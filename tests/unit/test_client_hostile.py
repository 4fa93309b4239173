"""
The Engine as a broken surrounding: whatever it answers, each error is one of ours,
memory is bounded, and the other containers go on.
"""

import asyncio
import contextlib
import gzip
import itertools
import json
import os
import re
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dockerjail.docker import client, intake
from dockerjail.docker.client import DockerEngine
from dockerjail.docker.intake import Intake
from dockerjail.errors import ContainerUnknown, EngineError, EngineUnavailable
from dockerjail.model import Container, Cursor
from dockerjail.retry import Backoff
from tests.lab.scripted import ENGINES, Scripted, error, frame, reply

PATIENCE = 30
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
GIANT = b"x" * 20_000_000
ASKS = ("version", "list", "inspect", "events", "logs")
PLACES = {
    "version": "/version",
    "list": "/containers/json",
    "inspect": "0001/json",
    "events": "/events",
    "logs": "/logs",
}


@pytest.fixture
async def scripted(tmp_path):
    async with Scripted(tmp_path / "docker.sock") as engine:
        engine.add("web", {"watch": "1"})
        yield engine


@pytest.fixture
async def asking(scripted):
    async with DockerEngine(scripted.url) as door:
        yield door


async def ask(door, what):
    """Ask one thing and read the answer to its end, or its first bytes."""
    web = Container(id=f"{1:064x}", name="web", service="web")
    match what:
        case "version":
            return await door.version()
        case "list":
            return await door.list()
        case "inspect":
            return await door.inspect(web.id)
        case "events":
            async with contextlib.aclosing(door.events(since=0)) as events:
                return await anext(events)
        case "logs":
            async with door.logs(web, follow=False) as body:
                return [data async for data in body]


def hurry(monkeypatch):
    for limit in ("_ANSWER", "_LOOK", "_COMPLAINT"):
        monkeypatch.setattr(client, limit, 0.1)


class House:
    """An intake on a scripted Engine, and what it delivered."""

    def __init__(self, scripted):
        self.scripted = scripted
        self.lines = {}
        self.cursors: dict[tuple[str, int], Cursor] = {}

    async def deliver(self, chunk):
        mine = self.lines.setdefault(chunk.container.name, [])
        mine += [line.split(b" ", 1)[1].decode() for line in chunk.data.split(b"\n")[:-1]]
        self.cursors[chunk.container.id, chunk.stream] = chunk.cursor

    @contextlib.asynccontextmanager
    async def running(self, **options):
        async with DockerEngine(self.scripted.url) as door, asyncio.TaskGroup() as group:
            self.intake = Intake(
                door,
                self.deliver,
                wanted=lambda container: "watch" in container.labels,
                cursors=self.cursors,
                lookback=lambda _: 3600.0,
                changed=lambda: None,
                gone=lambda _: None,
                backoff=Backoff(first=0.02, ceiling=0.1),
                **options,
            )
            task = group.create_task(self.intake.run())
            try:
                yield self
            finally:
                task.cancel()

    async def until(self, reached):
        async with asyncio.timeout(PATIENCE):
            while not reached():  # noqa: ASYNC110 -- what is waited for is outside
                await asyncio.sleep(0.01)


# -- versions -----------------------------------------------------------------


@pytest.mark.parametrize("version", ENGINES)
async def test_every_engine_is_spoken_to_in_a_version_that_it_knows(tmp_path, version):
    async with Scripted(tmp_path / "docker.sock", version=version) as engine:
        web = engine.add("web", {"watch": "1"})
        house = House(engine)
        async with house.running():
            await house.until(lambda: house.intake.connected)
            engine.say(web, "one")
            late = engine.add("late", {"watch": "1"})
            engine.say(late, "two")
            await house.until(lambda: house.lines == {"web": ["one"], "late": ["two"]})
            found = house.intake.containers[web]
            assert {str(each) for each in found.gateways} == {"172.17.0.1"}
            assert {str(each) for each in found.addresses} == {"172.17.0.3"}
            assert {port.number for port in found.published} == {8001}
            engine.remove(late)
            await house.until(lambda: late not in house.intake.containers)
            assert house.intake.engine_version == version
        newest, oldest = ENGINES[version]
        (spoken,) = {
            match[1] for asked in engine.asked if (match := re.search(r"/v1\.(\d+)/", asked))
        }
        assert int(oldest[2:]) <= int(spoken) <= int(newest[2:])


async def test_an_engine_that_was_upgraded_is_spoken_to_in_its_new_version(tmp_path):
    house = House(Scripted(tmp_path / "docker.sock", version="20.10.24"))
    async with house.scripted, house.running():
        await house.until(lambda: house.intake.engine_version == "20.10.24")
        await house.scripted.stop()
        async with Scripted(tmp_path / "docker.sock", version="29.1.0") as upgraded:
            web = upgraded.add("web", {"watch": "1"})
            upgraded.say(web, "after")
            await house.until(lambda: house.lines == {"web": ["after"]})
            assert house.intake.engine_version == "29.1.0"
            assert not [asked for asked in upgraded.asked if "/v1.41/containers" in asked]


async def test_another_engine_in_the_place_of_one_that_goes_on_is_noticed(tmp_path):
    old = Scripted(tmp_path / "docker.sock", version="26.1.5")
    new = Scripted(tmp_path / "new.sock", version="28.5.2")
    async with old, new:
        before = old.add("before", {"watch": "1"})
        after = new.add("after", {"watch": "1"}, Name="/after")
        new.containers["f" * 64] = new.containers.pop(after) | {"Id": "f" * 64}
        new._logs["f" * 64], new._followers["f" * 64] = [], set()
        house = House(old)
        async with house.running(reconcile_every=0.1):
            await house.until(lambda: before in house.intake.tails)
            os.rename(new.path, old.path)  # noqa: PTH104 -- as systemd puts a socket in place
            await house.until(lambda: house.intake.engine_version == "28.5.2")
            await house.until(lambda: set(house.intake.containers) == {"f" * 64})
            new.say("f" * 64, "hello")
            await house.until(lambda: house.lines == {"after": ["hello"]})


# -- refusals -----------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        error(500, "driver failed"),
        error(500, {"nested": ["driver failed"]}),
        reply(500, b'{"message": "driver fai', "application/json"),
        reply(500, b"[" * 200_000, "application/json"),
        reply(500, b"", "application/json"),
        reply(500, b'{"error": 7}', "application/json"),
        reply(502, HTML, "text/html"),
        reply(502, b"\xff\xfe\x00\x1b[31m", "text/html; charset=utf-9"),
        reply(503, GIANT, "text/plain"),
        reply(500, json.dumps({"message": "m" * 1_000_000}).encode()),
        b"HTTP/1.1 500 X\r\n\r\nno length",
        b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
@pytest.mark.parametrize("what", ASKS)
async def test_a_refusal_is_told_shortly_whatever_its_body(scripted, asking, what, body):
    await asking.version()
    scripted.fault(PLACES[what], body)
    with pytest.raises(EngineError) as caught:
        await ask(asking, what)
    kind = ContainerUnknown if what == "inspect" else EngineUnavailable
    assert type(caught.value) is kind
    assert len(str(caught.value)) < 700
    scripted.faults.clear()
    assert await ask(asking, "inspect")


@pytest.mark.parametrize("what", ASKS)
async def test_a_refusal_without_end_ends(scripted, asking, what):
    await asking.version()
    head = b"HTTP/1.1 500 X\r\nContent-Type: text/plain\r\n\r\n"
    scripted.fault(PLACES[what], head, "more", b"bla " * 10_000)
    with pytest.raises(EngineError, match="bla bla"):
        await ask(asking, what)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 399])
@pytest.mark.parametrize("what", ASKS)
async def test_nobody_is_sent_elsewhere(scripted, asking, what, status):
    await asking.version()
    there = f"Location: http://docker/elsewhere?{what}"
    scripted.fault(PLACES[what], reply(status, b"", "text/plain", there))
    with pytest.raises(EngineError, match=str(status)):
        await ask(asking, what)
    assert not [asked for asked in scripted.asked if "elsewhere" in asked]


@pytest.mark.parametrize("what", ASKS)
async def test_what_comes_compressed_is_not_unpacked(scripted, asking, what):
    await asking.version()
    bomb = gzip.compress(b"[" + b" " * 10_000_000 + b"]")
    scripted.fault(PLACES[what], reply(200, bomb, "application/json", "Content-Encoding: gzip"))
    with pytest.raises(EngineError, match="compresses its answers"):
        await ask(asking, what)


# -- half an answer -----------------------------------------------------------


def whole(what, scripted):
    """Return a good answer."""
    id_ = f"{1:064x}"
    bodies = {
        "version": {"Version": "26.1.5", "ApiVersion": "1.45", "MinAPIVersion": "1.24"},
        "list": [{"Id": id_, "Names": ["/web"], "State": "running", "Labels": {}}],
        "inspect": scripted.containers[id_],
    }
    server = "Server: Docker/26.1.5 (linux)"
    if what in bodies:
        return reply(200, json.dumps(bodies[what]).encode(), "application/json", server)
    data = frame(1, b"line\n") * 3
    if what == "events":
        data = json.dumps({"Type": "container", "Actor": {"ID": id_}}).encode() + b"\n"
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    head = f"HTTP/1.1 200 OK\r\n{server}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + chunk


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("what", ASKS)
async def test_an_answer_cut_at_any_byte_is_no_answer(scripted, asking, what, then):
    await asking.version()
    answer = whole(what, scripted)
    scripted.fault(PLACES[what], answer)
    good = await ask(asking, what)
    assert good
    for cut in sorted({*range(0, len(answer), max(len(answer) // 40, 1)), len(answer) - 1}):
        scripted.faults.clear()
        scripted.fault(PLACES[what], answer[:cut], then)
        with contextlib.suppress(ContainerUnknown if what == "inspect" else EngineUnavailable):
            assert await ask(asking, what) == good
            assert what == "events", "only an event may have come whole"


async def test_a_look_that_is_cut_is_asked_for_again_at_once(scripted, asking):
    await asking.version()
    scripted.fault("0001/json", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{")
    asking_again = asyncio.create_task(asking.inspect(f"{1:064x}"))
    async with asyncio.timeout(PATIENCE):
        await scripted.was_asked("0001/json")
    scripted.faults.clear()
    assert (await asking_again).name == "web"


@pytest.mark.parametrize("what", ["version", "list", "inspect", "events"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
async def test_an_answer_that_stops_half_way_is_given_up(
    scripted, asking, monkeypatch, what, share
):
    await asking.version()
    hurry(monkeypatch)
    answer = whole(what, scripted)
    if what == "events":  # once it has begun it may be silent for ever
        answer = answer[: answer.index(b"\r\n\r\n")]
    scripted.fault(PLACES[what], answer[: int(len(answer) * share)], "hang")
    with pytest.raises(EngineError, match=r"not answer|no answer|cannot reach"):
        await ask(asking, what)


async def test_a_network_question_that_hangs_holds_nobody_up_for_long(
    scripted, asking, monkeypatch
):
    await asking.version()
    place = {"lan": {"NetworkID": "a" * 64}}
    scripted.containers[f"{1:064x}"]["NetworkSettings"]["Networks"] = place
    scripted.fault("/networks", b"", "hang")
    hurry(monkeypatch)
    assert await asking.list()
    assert (await asking.inspect(f"{1:064x}")).name == "web"
    (problem,) = asking.problems()
    assert "no answer within" in problem.what


# -- nonsense -----------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -5",
        b"Content-Length: 99999999999999999999999",
        b"Content-Length: five",
        b"Content-Length: 3\r\nContent-Length: 7",
        b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 100_000,
        b"Transfer-Encoding: gzip, chunked, chunked",
        b"X: " + b"x" * 1_000_000,
        b"\r\n".join(b"X%d: x" % number for number in range(100_000)),
        b"\x00: \x00",
    ],
)
@pytest.mark.parametrize("what", ASKS)
async def test_absurd_lengths_and_headers_are_no_answer(scripted, asking, what, head):
    await asking.version()
    scripted.fault(PLACES[what], b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
    with pytest.raises(EngineError):
        await ask(asking, what)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(ASKS),
    st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 "]),
    st.binary(max_size=200),
    st.sampled_from(["close", "reset"]),
)
async def test_any_bytes_are_an_answer_or_an_error_of_ours(
    scripted, asking, what, head, data, then
):
    scripted.faults.clear()
    await asking.version()
    scripted.fault(PLACES[what], head + data, then)
    with contextlib.suppress(EngineError):
        await ask(asking, what)


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 200_000, b"1" * 5000])
@pytest.mark.parametrize("what", ["version", "list", "inspect", "events"])
async def test_what_no_parser_can_take_is_an_error_of_ours(scripted, asking, what, body):
    await asking.version()
    server = "Server: Docker/26.1.5 (linux)"
    scripted.fault(PLACES[what], reply(200, body + b"\n", "application/json", server))
    with pytest.raises(EngineError):
        await ask(asking, what)


NONSENSE = [None, True, -1, 1e308, "", "x", "9" * 5000, [], [1], {}, {"x": 1}, [[]] * 3, {"": None}]


def damaged(value, at=()):
    """Yield the paths of everything within a JSON value."""
    yield at
    if isinstance(value, dict):
        for key in value:
            yield from damaged(value[key], (*at, key))
    elif isinstance(value, list):
        for number in range(len(value)):
            yield from damaged(value[number], (*at, number))


def replaced(value, at, new):
    if not at:
        return new
    copy = value.copy()
    copy[at[0]] = replaced(value[at[0]], at[1:], new)
    return copy


@pytest.mark.parametrize("what", ["inspect", "list", "version", "events"])
async def test_a_wrong_type_anywhere_is_a_container_or_an_error_of_ours(scripted, asking, what):
    await asking.version()
    place = {"lan": {"NetworkID": "a" * 64, "IPAddress": "192.0.2.1", "IPAMConfig": {}}}
    scripted.containers[f"{1:064x}"]["NetworkSettings"]["Networks"] |= place
    data = whole(what, scripted).partition(b"\r\n\r\n")[2]
    if what == "events":
        data = data.split(b"\r\n")[1]
    good = json.loads(data)
    for at, new in itertools.product(damaged(good), NONSENSE):
        body = json.dumps(replaced(good, at, new)).encode() + b"\n"
        scripted.faults.clear()
        scripted.fault(
            PLACES[what], reply(200, body, "application/json", "Server: Docker/26.1.5 (linux)")
        )
        with contextlib.suppress(EngineError):
            await ask(asking, what)


@pytest.mark.parametrize("id_", ["../../info", "a/b", "a?b", "a%2fb", "", "x" * 300, "a b", "\x1b"])
async def test_an_id_that_would_ask_for_something_else_is_not_asked_for(scripted, asking, id_):
    await asking.version()
    with pytest.raises(ContainerUnknown, match="cannot be its id"):
        await asking.inspect(id_)
    owned = scripted.containers[f"{1:064x}"]
    owned["HostConfig"] = {"NetworkMode": f"container:{id_}"} if id_ else {}
    asked = len(scripted.asked)
    with contextlib.suppress(ContainerUnknown):
        await asking.inspect(owned["Id"])
    assert len(scripted.asked) == asked + 1


# -- too much -----------------------------------------------------------------


async def test_a_look_or_a_version_that_is_too_long_is_said(scripted, asking):
    await asking.version()
    scripted.fault("json", reply(200, b'{"Id": "' + GIANT + b'"}'))
    with pytest.raises(ContainerUnknown, match="longer than 4 MiB"):
        await ask(asking, "inspect")
    scripted.fault("version", reply(200, b'{"Version": "' + GIANT + b'"}'))
    with pytest.raises(EngineUnavailable, match="longer than 4 MiB"):
        await asking.version()


LIST = b"HTTP/1.1 200 OK\r\nServer: Docker/26.1.5 (linux)\r\n\r\n["


async def test_a_list_without_end_ends_and_is_not_kept(scripted, asking, monkeypatch):
    monkeypatch.setattr(client, "_MOST", 60)
    await asking.version()
    item = json.dumps({"Id": "c1", "Labels": {"x": "y" * 900_000}}).encode() + b","
    scripted.fault("containers/json", LIST, "more", item)
    tracemalloc.start()
    try:
        with pytest.raises(EngineUnavailable, match="more than 60 containers"):
            await asking.list()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


async def test_a_container_without_end_in_a_list_is_not_kept(scripted, asking, monkeypatch):
    monkeypatch.setattr(client, "_ANSWER", 1.0)
    await asking.version()
    head = LIST + b'{"Id": "c1", "Labels": {"x": "'
    scripted.fault("containers/json", head, "more", b"y" * 100_000)
    tracemalloc.start()
    try:
        with pytest.raises(EngineUnavailable):
            await asking.list()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


async def test_a_giant_container_in_a_list_hides_no_other(scripted, asking):
    giant = scripted.add("giant", {"x": '}]"\\' * 1_000_000})
    late = scripted.add("late")
    assert dict(await asking.list()).keys() == {f"{1:064x}", giant, late}


async def test_a_container_with_giant_labels_hides_no_other(scripted, caplog):
    house = House(scripted)
    async with house.running(reconcile_every=0.2):
        await house.until(lambda: house.intake.connected)
        many = {f"watch{number}": "x" * 90 for number in range(10_000)}
        large = scripted.add("large", {"watch": "1", "large": "x" * 1_000_000})
        several = scripted.add("several", {"watch": "1"} | many)
        giant = scripted.add("giant", {"watch": "1", "giant": "x" * 6_000_000})
        late = scripted.add("late", {"watch": "1"})
        scripted.say(late, "line")
        await house.until(lambda: "late" in house.lines)
        await house.until(lambda: len(house.intake.problems()) == 3)
        told = "\n".join(map(str, house.intake.problems()))
        assert "container large: its labels and log options have" in told
        assert "container several: its labels and log options have" in told
        assert f"container {giant[:12]}: the Engine's answer cannot be read" in told
        assert house.intake.containers.keys() >= {large, several, late}
        for id_ in (large, several, giant):
            scripted.remove(id_)
        await house.until(lambda: not house.intake.problems())
        assert house.intake.connected
    assert "cannot reach" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"\x01\0\0\0\xff\xff\xff\xff" + b"x" * 1000,
        b"\x01\0\0\0\x7f\xff\xff\xff",
        b"\x07\0\0\0\0\0\0\x05hello",
        b"\x01\0\0\0\0\0\0\0" * 1000,
        b"\x01\0\0\0\0\0\0\x05hello",
        b"Error grabbing logs: invalid character",
        b"\x1f\x8b\x08" + b"\0" * 1000,
    ],
)
async def test_a_log_that_is_none_stops_no_other(scripted, body):
    house = House(scripted)
    other = scripted.add("other", {"watch": "1"})
    scripted.fault("0001/logs", reply(200, body, "application/octet-stream"))
    async with house.running():
        await house.until(lambda: other in house.intake.tails)
        for number in range(3):
            scripted.say(other, f"line {number}")
            await asyncio.sleep(0.05)
        await house.until(lambda: len(house.lines.get("other", ())) == 3)
        assert house.intake.connected
        assert "web" not in house.lines
        scripted.faults.clear()
        scripted.say(f"{1:064x}", "mended")
        await house.until(lambda: house.lines.get("web") == ["mended"])


@pytest.mark.parametrize("then", ["hang", "close", "reset"])
async def test_a_container_that_the_engine_stumbles_over_stops_no_other(
    scripted, monkeypatch, then
):
    monkeypatch.setattr(client, "_LOOK", 0.5)
    monkeypatch.setattr(intake, "_SETTLED", 0.1)
    house = House(scripted)
    other = scripted.add("other", {"watch": "1"})
    scripted.say(other, "line")
    scripted.fault("0001/json", b"", then)
    async with house.running(reconcile_every=0.1):
        await house.until(lambda: house.lines == {"other": ["line"]})
        await house.until(lambda: len(house.intake.problems()) == 1)
        assert house.intake.connected
        scripted.faults.clear()
        scripted.say(f"{1:064x}", "at last")
        await house.until(lambda: house.lines.get("web") == ["at last"])
        assert house.intake.problems() == []


async def test_ten_thousand_events_at_once_are_taken_at_once_and_cost_few_looks(scripted):
    house = House(scripted)
    ids = [scripted.add(f"n{number}") for number in range(50)]
    async with house.running(reconcile_every=1000.0):
        await house.until(lambda: house.intake.connected)
        before = len(scripted.asked)
        for number in range(10_000):
            scripted.tell(ids[number % 50], "rename", name=f"n{number}")
        last = scripted.add("last", {"watch": "1"})
        await house.until(lambda: last in house.intake.tails)
        assert len(scripted.asked) - before < 1500
        assert house.intake.connected


async def test_five_hundred_containers_are_followed_at_once_and_each_line_comes_once(scripted):
    house = House(scripted)
    ids = [scripted.add(f"n{number}", {"watch": "1"}) for number in range(500)]
    for id_ in ids:
        scripted.say(id_, "before")
    async with house.running():
        await house.until(lambda: len(house.lines) == 500)
        for number in range(3):
            for id_ in ids:
                scripted.say(id_, f"line {number}")
        expected = ["before", "line 0", "line 1", "line 2"]
        await house.until(lambda: all(len(lines) >= 4 for lines in house.lines.values()))
        assert all(lines == expected for lines in house.lines.values())
        assert scripted.at_once["/containers/ID/json"] <= 16


async def test_connections_are_used_again_and_given_back(scripted, asking):
    for _ in range(10):
        for what in ("version", "list", "inspect"):
            await ask(asking, what)
    assert scripted.connections == 1
    scripted.fault("0001/json", reply(200, b"<html>", "text/html"))
    for _ in range(10):
        with pytest.raises(ContainerUnknown):
            await ask(asking, "inspect")
    docker = asking._open()
    assert not docker.session.connector._acquired


# -- the socket ---------------------------------------------------------------


async def test_a_socket_that_may_not_be_used_is_said(tmp_path):
    async with Scripted(tmp_path / "docker.sock") as engine:
        tmp_path.chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            async with DockerEngine(engine.url) as door:
                with pytest.raises(
                    EngineUnavailable, match=r"permission denied; run dockerjail as"
                ):
                    await door.version()
        finally:
            if root:
                os.seteuid(0)
            tmp_path.chmod(0o700)


async def test_a_mounted_socket_whose_engine_was_restarted_is_said_with_what_to_do(tmp_path):
    old = tmp_path / "docker.sock"
    async with Scripted(old) as engine:
        mounted = tmp_path / "mounted.sock"
        os.link(old, mounted)
        async with DockerEngine(f"unix://{mounted}") as door:
            assert await door.version() == engine.version
    async with Scripted(old), DockerEngine(f"unix://{mounted}") as door:
        with pytest.raises(EngineUnavailable, match="mount its directory"):
            await door.version()


async def test_a_socket_that_is_made_anew_is_found(tmp_path):
    house = House(Scripted(tmp_path / "docker.sock"))
    async with house.running():
        await house.until(lambda: "no such socket" in house.intake.error)
        for number in range(3):
            async with Scripted(tmp_path / "docker.sock") as engine:
                web = engine.add(f"web{number}", {"watch": "1"})
                engine.say(web, "line")
                await house.until(lambda number=number: f"web{number}" in house.lines)
            await house.until(lambda: not house.intake.connected)
