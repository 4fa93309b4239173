"""The door to the Engine: what it asks, and in which words it says what went wrong."""

import asyncio
import contextlib
import json
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from dockerjail.docker import client
from dockerjail.docker.client import DockerEngine
from dockerjail.errors import (
    ConfigError,
    ContainerGone,
    ContainerUnknown,
    EngineUnavailable,
    LogsUnreadable,
)
from dockerjail.model import Container, Direct

WEB = Container(id="c1", name="web", service="web")
VERSION = {"Version": "26.1.5", "ApiVersion": "1.45", "MinAPIVersion": "1.24"}


class Dockerd:
    """Answers HTTP on a Unix socket with what a test says, and notes what was asked."""

    def __init__(self, path):
        self.url = f"unix://{path}"
        self.path = path
        self.answers = {"/version": (200, VERSION)}
        self.asked = []
        self.left = asyncio.Event()

    async def serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = head.decode().split("\r\n")[0].split(" ")
                self.asked.append(f"{method} {target}")
                status, body = next(
                    (a for path, a in self.answers.items() if path in target),
                    (404, {"message": "page not found"}),
                )
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                length = b"" if status == 299 else b"Content-Length: %d\r\n" % len(data)
                kind = b"text/plain" if isinstance(body, bytes) else b"application/json"
                writer.write(
                    b"HTTP/1.1 %d X\r\nContent-Type: %b\r\n"
                    % (200 if status == 299 else status, kind)
                )
                writer.write(length + b"\r\n" + data)
                await writer.drain()
                if status == 299:  # a body that goes on until the other side leaves
                    await reader.read()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.left.set()
            writer.close()


@pytest.fixture
async def dockerd(tmp_path):
    fake = Dockerd(tmp_path / "docker.sock")
    server = await asyncio.start_unix_server(fake.serve, fake.path)
    yield fake
    server.close()


@pytest.fixture
async def engine(dockerd):
    async with DockerEngine(dockerd.url) as client:
        yield client


async def test_no_socket_is_said_with_what_to_do(tmp_path):
    async with DockerEngine(f"unix://{tmp_path}/docker.sock") as engine:
        with pytest.raises(EngineUnavailable) as caught:
            await engine.version()
    assert str(tmp_path) in str(caught.value)
    assert "no such socket" in str(caught.value)
    assert "-v /var/run/docker.sock:/var/run/docker.sock" in str(caught.value)


async def test_a_socket_where_nobody_listens_is_said(tmp_path):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as deaf:
        deaf.bind(f"{tmp_path}/docker.sock")
        async with DockerEngine(f"unix://{tmp_path}/docker.sock") as engine:
            for ask in (engine.version, engine.list, lambda: engine.inspect("c1")):
                with pytest.raises(EngineUnavailable, match=r"connection refused; start Docker"):
                    await ask()


async def test_a_port_where_nobody_listens_is_said():
    with contextlib.closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        async with DockerEngine(f"tcp://127.0.0.1:{held.getsockname()[1]}") as engine:
            with pytest.raises(EngineUnavailable, match=r"tcp://127.0.0.1:\d+: connection refused"):
                await engine.version()


async def test_something_else_at_the_address_is_said(dockerd, engine):
    dockerd.answers["/version"] = (200, b"<html>hello</html>")
    with pytest.raises(EngineUnavailable, match="no Docker Engine"):
        await engine.version()


async def test_a_proxy_that_forbids_is_said_with_what_it_must_pass(dockerd, engine):
    dockerd.answers["containers/json"] = (403, b"Forbidden")
    with pytest.raises(EngineUnavailable, match="answers 403 'Forbidden'; let the socket proxy"):
        await engine.list()


@pytest.mark.parametrize("url", ["/var/run/docker.sock", "ssh://host", "unix://", "docker"])
def test_an_address_that_cannot_be_one_is_said_with_examples(url):
    with pytest.raises(ConfigError, match=r"write unix:///var/run/docker.sock"):
        DockerEngine(url)


def test_docker_host_counts_when_nothing_else_is_said(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    assert DockerEngine().url == "tcp://192.0.2.1:2375"
    assert DockerEngine("unix:///x").url == "unix:///x"


def test_certificates_that_cannot_be_read_are_said(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"put ca.pem, cert.pem and key.pem into DOCKER"):
        DockerEngine("https://192.0.2.1:2376")


@pytest.mark.parametrize(
    ("newest", "oldest", "used"),
    [
        ("1.41", "1.12", "v1.41"),
        ("1.45", "1.24", "v1.45"),
        ("1.54", "1.40", "v1.45"),
        ("1.60", "1.48", "v1.48"),
    ],
)
async def test_the_newest_version_that_both_know_is_spoken(dockerd, engine, newest, oldest, used):
    dockerd.answers["/version"] = (
        200,
        {"Version": "x", "ApiVersion": newest, "MinAPIVersion": oldest},
    )
    dockerd.answers["containers/json"] = (200, [])
    await engine.version()
    await engine.list()
    assert dockerd.asked == ["GET /version", f"GET /{used}/containers/json?all=1"]


async def test_the_version_is_asked_anew_after_an_upgrade(dockerd, engine):
    assert await engine.version() == "26.1.5"
    dockerd.answers["/version"] = (200, VERSION | {"Version": "27.0.0", "ApiVersion": "1.46"})
    assert await engine.version() == "27.0.0"


async def test_podman_is_told_from_docker(dockerd, engine):
    dockerd.answers["/version"] = (
        200,
        {"Version": "5.4.2", "ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}]},
    )
    assert await engine.version() == "Podman 5.4.2"


async def test_a_container_that_is_not_there_is_none(dockerd, engine):
    dockerd.answers["containers/c1/json"] = (404, {"message": "No such container: c1"})
    assert await engine.inspect("c1") is None


@pytest.mark.parametrize("status", [404, 409])
async def test_the_log_of_a_removed_container_is_gone(dockerd, engine, status):
    dockerd.answers["/logs"] = (status, {"message": "marked for removal"})
    with pytest.raises(ContainerGone, match="web: marked for removal"):
        async with engine.logs(WEB, follow=True):
            pass


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (501, "configured logging driver does not support reading"),
        (500, "configured logging driver does not support reading"),
        (500, "this container is using the 'none' log driver, cannot read logs"),
    ],
)
async def test_a_log_that_cannot_be_read_is_given_up(dockerd, engine, status, text):
    dockerd.answers["/logs"] = (status, {"message": text})
    with pytest.raises(LogsUnreadable, match=text):
        async with engine.logs(WEB, follow=False):
            pass


async def test_any_other_refusal_is_tried_again(dockerd, engine):
    dockerd.answers["/logs"] = (500, {"message": "out of memory"})
    with pytest.raises(EngineUnavailable, match="answers 500 'out of memory'"):
        async with engine.logs(WEB, follow=False):
            pass


async def test_a_log_is_asked_for_to_the_nanosecond(dockerd, engine):
    dockerd.answers["/logs"] = (200, b"body")
    async with engine.logs(WEB, follow=False, since=1_795_000_000_000_000_007, tail=256) as body:
        assert [data async for data in body] == [b"body"]
    assert dockerd.asked[-1] == (
        "GET /v1.45/containers/c1/logs?stdout=1&stderr=1&timestamps=1&follow=0&tail=256"
        "&since=1795000000.000000007"
    )


async def test_leaving_a_log_closes_its_connection(dockerd, engine):
    dockerd.answers["/logs"] = (299, b"first")
    async with engine.logs(WEB, follow=True) as body:
        assert await anext(body) == b"first"
        assert not dockerd.left.is_set()
    async with asyncio.timeout(10):
        await dockerd.left.wait()


async def test_a_body_cut_short_is_no_end(dockerd, engine):
    async def cut(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        writer.close()

    await engine.version()
    path = Path(dockerd.path).with_name("cut.sock")
    server = await asyncio.start_unix_server(cut, path)
    async with DockerEngine(f"unix://{path}") as other:
        other._open().api_version = "v1.45"
        with pytest.raises(EngineUnavailable, match="cannot reach the Docker Engine"):
            async with other.logs(WEB, follow=True) as body:
                assert await anext(body) == b"hello"
                await anext(body)
    server.close()


async def test_events_name_the_container_they_are_about(dockerd, engine):
    events = [
        {
            "Type": "container",
            "Action": "start",
            "Actor": {"ID": "c1", "Attributes": {"name": "x"}},
        },
        {
            "Type": "network",
            "Action": "connect",
            "Actor": {"ID": "n", "Attributes": {"container": "c2"}},
        },
        {"Type": "network", "Action": "create", "Actor": {"ID": "n", "Attributes": {}}},
        {"Type": "container", "Action": "die", "id": "c3", "Actor": {"ID": "c3"}},
    ]
    dockerd.answers["/events"] = (200, b"".join(json.dumps(e).encode() + b"\n" for e in events))
    got = []
    with pytest.raises(EngineUnavailable, match="ended its events"):
        async for container in engine.events(since=1000.5):
            got.append(container)  # noqa: PERF401 -- it ends by an error
    assert got == ["c1", "c2", "c3"]
    assert "since=1000.500000000" in dockerd.asked[-1]


LAN_ID = "a" * 64
LAN = {"Name": "lan", "Id": LAN_ID, "Driver": "macvlan", "Options": {"parent": "eth0"}}
PLACES = {"Networks": {"lan": {"NetworkID": LAN_ID, "IPAddress": "192.0.2.2", "IPPrefixLen": 24}}}
ITEM = {"Id": "c1", "Names": ["/web"], "State": "running", "NetworkSettings": PLACES}
SHOWN = {"Id": "c1", "Name": "/web", "NetworkSettings": PLACES}
DIRECT = frozenset({Direct("eth0", ip_address("192.0.2.2"))})


@pytest.fixture
def on_lan(dockerd):
    dockerd.answers |= {
        "containers/json": (200, [ITEM]),
        "containers/c1/json": (200, SHOWN),
        "/networks": (200, [LAN]),
    }
    return dockerd


def questions(dockerd):
    return dockerd.asked.count("GET /v1.45/networks")


async def test_networks_are_asked_for_once(on_lan, engine):
    for _ in range(3):
        await engine.list()
        assert (await engine.inspect("c1")).direct == DIRECT
    assert questions(on_lan) == 1
    assert engine.problems() == []


async def test_many_looks_at_once_ask_for_networks_once(on_lan, engine):
    found = await asyncio.gather(*(engine.inspect("c1") for _ in range(16)))
    assert {container.direct for container in found} == {DIRECT}
    assert questions(on_lan) == 1


async def test_networks_that_every_engine_has_are_not_asked_for(on_lan, engine):
    places = {"Networks": {"bridge": {"NetworkID": "b" * 64, "IPAddress": "172.17.0.2"}}}
    on_lan.answers["containers/json"] = (200, [ITEM | {"NetworkSettings": places}])
    on_lan.answers["containers/c1/json"] = (200, SHOWN | {"NetworkSettings": places})
    await engine.list()
    await engine.inspect("c1")
    assert questions(on_lan) == 0


async def test_a_new_network_is_asked_for(on_lan, engine):
    await engine.list()
    id_ = "9" * 64
    places = {"Networks": {"new": PLACES["Networks"]["lan"] | {"NetworkID": id_}}}
    on_lan.answers["containers/c1/json"] = (200, SHOWN | {"NetworkSettings": places})
    on_lan.answers["/networks"] = (200, [LAN, LAN | {"Id": id_, "Options": {"parent": "eth9"}}])
    assert {d.device for d in (await engine.inspect("c1")).direct} == {"eth9"}
    assert questions(on_lan) == 2


async def test_a_network_that_is_gone_is_not_asked_for_again(on_lan, engine):
    on_lan.answers["/networks"] = (200, [])
    for _ in range(3):
        await engine.list()
        assert (await engine.inspect("c1")).direct == frozenset()
    assert questions(on_lan) == 1
    assert engine.problems() == []


@pytest.mark.parametrize("status", [403, 404])
async def test_a_proxy_that_hides_networks_is_a_problem_with_a_remedy(on_lan, engine, status):
    on_lan.answers["/networks"] = (status, b"Forbidden")
    listed = await engine.list()
    assert [(await engine.inspect("c1")).direct for _ in range(3)] == [frozenset()] * 3
    assert questions(on_lan) == 1
    (problem,) = engine.problems()
    assert "macvlan" in problem.what
    assert f"{status} 'Forbidden'" in problem.what
    assert "NETWORKS=1" in problem.remedy

    on_lan.answers["/networks"] = (200, [LAN])
    assert await engine.list() != listed  # so that each container is looked at again
    assert engine.problems() == []
    assert (await engine.inspect("c1")).direct == DIRECT


@pytest.mark.parametrize("answer", [b"[{", None, [1], {"x": 1}, 7])
async def test_strange_networks_are_a_problem_and_no_end(on_lan, engine, answer):
    on_lan.answers["/networks"] = (200, answer)
    await engine.list()
    assert (await engine.inspect("c1")).direct == frozenset()
    (problem,) = engine.problems()
    assert "cannot be read" in problem.what


async def test_another_engine_has_other_networks(on_lan, engine):
    await engine.list()
    on_lan.answers["/networks"] = (200, [LAN | {"Options": {"parent": "eth9"}}])
    await engine.version()
    assert {d.device for d in (await engine.inspect("c1")).direct} == {"eth9"}


async def test_podmans_networks_go_by_names_that_may_be_given_anew(on_lan, engine):
    on_lan.answers["/version"] = (
        200,
        VERSION | {"Version": "5.4.2", "Components": [{"Name": "Podman Engine"}]},
    )
    places = {"Networks": {"lan": PLACES["Networks"]["lan"] | {"NetworkID": "lan"}}}
    on_lan.answers["containers/json"] = (200, [ITEM | {"NetworkSettings": places}])
    on_lan.answers["containers/c1/json"] = (200, SHOWN | {"NetworkSettings": places})
    on_lan.answers["/networks"] = (200, [LAN | {"Options": {}}])
    await engine.list()
    assert {d.device for d in (await engine.inspect("c1")).direct} == {""}
    on_lan.answers["/networks"] = (200, [LAN | {"Driver": "bridge", "Options": {}}])
    await engine.list()
    assert (await engine.inspect("c1")).direct == frozenset()


PODMAN = VERSION | {"Version": "5.4.2", "Components": [{"Name": "Podman Engine"}]}


async def test_podman_is_asked_itself_for_what_dockers_api_does_not_tell(on_lan, engine):
    on_lan.answers["/version"] = (200, PODMAN)
    on_lan.answers["/networks"] = (200, [LAN | {"Options": {}}])
    lan = {"name": LAN["Name"], "id": LAN["Id"], "driver": "macvlan", "network_interface": "eth7"}
    logging = {"HostConfig": {"LogConfig": {"Type": "k8s-file", "Size": "10MB"}}}
    on_lan.answers = {
        "/v5.4.2/libpod/networks/json": (200, [lan]),
        "/v5.4.2/libpod/containers/c1/json": (200, logging),
        **on_lan.answers,
    }
    found = await engine.inspect("c1")
    assert {d.device for d in found.direct} == {"eth7"}
    assert (found.log_driver, found.log_options["max-size"]) == ("k8s-file", "10MB")


async def test_a_proxy_need_not_let_podmans_own_api_pass(on_lan, engine):
    on_lan.answers["/version"] = (200, PODMAN)
    on_lan.answers = {"/libpod/": (403, "no"), **on_lan.answers}
    found = await engine.inspect("c1")
    assert found.name == "web"
    assert list(engine.problems()) == []


async def test_a_log_that_is_silent_says_so(dockerd, engine, monkeypatch):
    monkeypatch.setattr(client, "_PULSE", 0.01)
    dockerd.answers["/logs"] = (299, b"")
    async with engine.logs(WEB, follow=True) as body:
        assert [await anext(body), await anext(body)] == [b"", b""]


async def test_only_get_is_ever_sent(dockerd, engine):
    dockerd.answers |= {
        "containers/json": (200, []),
        "/events": (200, b""),
        "/logs": (200, b""),
        "containers/c1/json": (200, SHOWN),
        "/networks": (200, [LAN]),
    }
    await engine.version()
    await engine.list()
    await engine.inspect("c1")
    async with engine.logs(WEB, follow=True) as body:
        assert [data async for data in body] == []
    with pytest.raises(EngineUnavailable):
        await anext(engine.events(since=0))
    assert {line.split(" ")[0] for line in dockerd.asked} == {"GET"}


@pytest.mark.parametrize("answer", [[], None, 1, "x", {"Components": [1]}, {"ApiVersion": "x.y"}])
async def test_a_strange_version_is_no_crash(dockerd, engine, answer):
    dockerd.answers["/version"] = (200, answer)
    with contextlib.suppress(EngineUnavailable):
        await engine.version()


@pytest.mark.parametrize("answer", [[1], None, [{}], [None], {"x": 1}, b"[{", b"\xff"])
async def test_a_strange_list_is_told(dockerd, engine, answer):
    dockerd.answers["/containers/json"] = (200, answer)
    with pytest.raises(EngineUnavailable):
        await engine.list()


@pytest.mark.parametrize(
    ("status", "answer"), [(500, {"message": "broken"}), (200, []), (200, b'{"Id"'), (200, None)]
)
async def test_a_container_that_cannot_be_told_about_is_unknown_alone(
    dockerd, engine, status, answer
):
    dockerd.answers["/containers/c1/json"] = (status, answer)
    with pytest.raises(ContainerUnknown):
        await engine.inspect("c1")


@pytest.mark.parametrize("line", [[1], None, 1, {"Actor": 1}, {"Type": "network", "Actor": {}}])
async def test_a_strange_event_is_passed_over(dockerd, engine, line):
    good = json.dumps({"Type": "container", "Actor": {"ID": "c9"}}).encode()
    dockerd.answers["/events"] = (200, json.dumps(line).encode() + b"\n" + good + b"\n")
    events = engine.events(since=0)
    assert await anext(events) == "c9"
    await events.aclose()
