"""
Real Engines in broken surroundings: read-only proxies, cuts, another daemon at the socket, crowds.
"""

import asyncio
import http.client
import random
import re
import resource
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dockerjail.docker.client import DockerEngine
from tests.lab import images
from tests.lab.attacker import Attacker
from tests.lab.engine import Engine
from tests.lab.jailer import Jailer, failed_login, follows, say, serve
from tests.lab.lan import Lan
from tests.lab.proxy import NEEDED, Proxy, ReadOnly
from tests.lab.watch import PATIENCE, Watch, differences, printed, printer

pytestmark = pytest.mark.engine

PATHS = {
    "/version",
    "/events",
    "/containers/json",
    "/containers/ID/json",
    "/containers/ID/logs",
    "/networks",
}


def wait(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def troubles(jailer: Jailer) -> list[str]:
    """Return the lines of a daemon's log that tell of anything but bans."""
    lines = re.findall(r"^.*(?:WARNING|ERROR|CRITICAL).*$", jailer.log, re.MULTILINE)
    return [line for line in lines if not re.search(r"(Ban|Unban) ", line)]


# -- GET only -----------------------------------------------------------------


def test_reading_is_enough_and_idle_streams_may_be_cut(
    any_engine: Engine, attacker: Callable[[Engine], Attacker], tmp_path: Path
) -> None:
    engine = any_engine
    engine.docker("network", "create", "shop")
    serve(engine, "web", "--network", "shop", maxretry="12")
    bad, good = attacker(engine), attacker(engine)
    proxied = tmp_path / "proxy.sock"
    with (
        ReadOnly(engine.socket, proxied, idle=1.5) as proxy,
        Jailer(engine, tmp_path, DOCKER_HOST=proxy.host) as jailer,
    ):
        follows(jailer, "web")
        assert bad.reaches(engine.address, 8080)
        for count in (5, 4):
            cuts = proxy.cuts
            say(engine, "web", [failed_login(bad.address)] * count)
            wait(lambda cuts=cuts: proxy.cuts > cuts + 2)  # type: ignore[misc]
            assert jailer.status()["engine"]["connected"]
        say(engine, "web", [failed_login(bad.address)] * 2)
        cuts = proxy.cuts
        wait(lambda: proxy.cuts > cuts + 2)
        assert jailer.status()["bans"] == []  # had one come twice, that would be a ban
        engine.docker("restart", "-t", "0", "web")
        follows(jailer, "web")
        say(engine, "web", [failed_login(bad.address)])
        jailer.wait_banned(bad.address)  # had one got lost, there would be none
        assert not bad.reaches(engine.address, 8080)
        assert good.reaches(engine.address, 8080)
        assert jailer.cli("check").returncode == 0
        assert jailer.stop() == 0
        assert troubles(jailer) == []
        assert {each.method for each in proxy.asked} == {"GET"}
        assert {each.path for each in proxy.asked} == PATHS
        assert list(proxy.refused()) == []


def test_a_proxy_that_hides_networks_costs_macvlan_alone_and_that_is_said(
    engine: Engine, attacker: Callable[[Engine], Attacker], tmp_path: Path
) -> None:
    engine.docker("network", "create", "shop")
    serve(engine, "web", "--network", "shop")
    bad = attacker(engine)
    proxied = tmp_path / "proxy.sock"
    with (
        ReadOnly(engine.socket, proxied, allowed=NEEDED) as proxy,
        Jailer(engine, tmp_path, DOCKER_HOST=proxy.host) as jailer,
    ):
        follows(jailer, "web")
        assert "NETWORKS" not in str(jailer.status()["problems"])
        say(engine, "web", [failed_login(bad.address)] * 5)
        jailer.wait_banned(bad.address)
        assert not bad.reaches(engine.address, 8080)
        assert {each.path for each in proxy.refused()} == {"/networks"}
        with Lan(engine) as lan:
            lan.network()
            serve(engine, "reached", "--network", "lan", port=None)
            status = jailer.wait(lambda status: "NETWORKS=1" in str(status["problems"]))
            assert "no ban closes a container's own address" in str(status["problems"])


def test_the_proxy_of_the_lab_lets_nothing_but_these_gets_pass(
    engine: Engine, tmp_path: Path
) -> None:
    id_ = engine.run(images.busybox(engine), "sleep", "1000")
    with ReadOnly(engine.socket, tmp_path / "proxy.sock") as proxy:
        for method, target, status in (
            ("GET", f"/v1.41/containers/{id_}/json", 200),
            ("GET", "/info", 403),
            ("GET", "/version/../info", 403),
            ("GET", f"/containers/{id_}/archive?path=/etc", 403),
            ("GET", f"/containers/{id_}/json/../../json", 403),
            ("POST", f"/containers/{id_}/stop?t=0", 403),
            ("POST", "/containers/json", 403),
            ("DELETE", f"/v1.41/containers/{id_}?force=1", 403),
            ("HEAD", "/version", 403),
        ):
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(str(proxy.path))
                link.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                answer = http.client.HTTPResponse(link, method=method)
                answer.begin()
                assert (target, answer.status) == (target, status)
        refused = {each.target for each in proxy.refused()}
        assert len(refused) == 8
    assert engine.api("GET", f"/containers/{id_}/json")["State"]["Running"]


# -- cuts ---------------------------------------------------------------------


async def test_cut_at_any_byte_each_line_comes_once(any_engine: Engine, tmp_path: Path) -> None:
    rng = random.Random(5)
    watch = Watch(any_engine)
    with Proxy(any_engine.socket, tmp_path / "proxy.sock") as proxy:
        async with DockerEngine(proxy.host) as door, watch.running(client=door):
            proxy.cut_after = lambda: rng.choice((0, 1, 100, 5000, 50_000, None))
            proxy.cut()
            await watch.run("printer", printer(3000))
            await watch.until(lambda: watch.count("printer") >= 1500)
            proxy.closed = True
            proxy.cut()
            await watch.until(lambda: not watch.intake.connected)
            proxy.closed = False
            await watch.until(lambda: watch.count("printer") >= 2500)
            proxy.cut_after = lambda: None
            await watch.until(lambda: watch.count("printer") >= 3000 and watch.ended("printer"))
        assert proxy.cuts > 5
    assert differences(printed(3000), watch.lines["printer"]) == ""


async def test_what_happened_behind_a_cut_is_found_although_the_engine_forgot_it(
    any_engine: Engine, tmp_path: Path
) -> None:
    watch = Watch(any_engine)
    with Proxy(any_engine.socket, tmp_path / "proxy.sock") as proxy:
        async with DockerEngine(proxy.host) as door, watch.running(client=door):
            gone = await watch.run("gone", ["sleep", "1000"])
            await watch.until(lambda: gone in watch.intake.tails)
            proxy.closed = True
            proxy.cut()
            await watch.until(lambda: not watch.intake.connected)
            await watch.docker("rm", "-f", "gone")
            late = await watch.run("late", ["sh", "-c", "echo one; echo two; exec sleep 1000"])
            await asyncio.to_thread(rename, any_engine, late, 300)  # the Engine keeps 256 events
            proxy.closed = False
            await watch.until(lambda: watch.intake.connected)
            await watch.until(lambda: watch.of("renamed299") == ["one", "two"])
            await watch.until(lambda: gone in watch.gone)
            assert watch.intake.containers.keys() == {late}


def rename(engine: Engine, container: str, times: int) -> None:
    for number in range(times):
        engine.api("POST", f"/containers/{container}/rename?name=renamed{number}")


async def test_another_engine_at_the_same_socket_is_met_afresh(
    engine: Engine, engine26: Engine, tmp_path: Path
) -> None:
    place = tmp_path / "docker.sock"
    place.symlink_to(engine.socket)
    watch, second = Watch(engine), Watch(engine26)
    speak = ["sh", "-c", "echo hello; exec sleep 1000"]
    async with (
        DockerEngine(f"unix://{place}") as door,
        watch.running(client=door, reconcile_every=0.5),
    ):
        old = await watch.run("old", speak)
        await watch.until(lambda: watch.of("old") == ["hello"])
        assert watch.intake.engine_version.startswith("20.10")
        new = await second.run("new", speak)
        aside = tmp_path / "new.sock"
        aside.symlink_to(engine26.socket)
        await asyncio.to_thread(aside.replace, place)
        # the old Engine and its connections go on
        await watch.until(lambda: watch.of("new") == ["hello"])
        assert watch.intake.engine_version.startswith("26.")
        assert watch.intake.containers.keys() == {new}
        assert old not in watch.intake.containers
    await asyncio.to_thread(engine.remove_containers)


# -- crowds -------------------------------------------------------------------


async def test_a_crowd_of_containers_is_known_and_followed_at_once(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    image = await asyncio.to_thread(images.busybox, engine)
    script = "echo first; while read -r line; do echo $line; done < /tmp/orders; exec sleep 10000"
    running = 30

    def create(number: int) -> str:
        alive = number < running
        command = ["sh", "-c", f"mkfifo /tmp/orders; {script}"] if alive else ["true"]
        body = {"Image": image, "Cmd": command, "Labels": {"watch": "1"} if alive else {}}
        body |= {"HostConfig": {"NetworkMode": "none"}}
        answer = engine.api("POST", f"/containers/create?name=n{number}", body, timeout=120)
        if alive:
            engine.api("POST", f"/containers/{answer['Id']}/start", timeout=120)
        return str(answer["Id"])

    def remove(id_: str) -> None:
        engine.api("DELETE", f"/containers/{id_}?force=1", timeout=120)

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        made = await asyncio.to_thread(lambda: list(pool.map(create, range(500))))
    making = time.monotonic() - began
    watch = Watch(engine)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    async with watch.running():
        connected = time.monotonic() - began
        assert len(watch.intake.containers) == 500
        await watch.until(lambda: len(watch.lines) == running)
        followed = time.monotonic() - began
        storm = asyncio.to_thread(rename, engine, made[499], 1000)
        async with asyncio.TaskGroup() as group:
            group.create_task(storm)
            late = await watch.run("late", ["sh", "-c", "echo hello; exec sleep 1000"])
            await watch.until(lambda: watch.of("late") == ["hello"])
        await watch.until(
            lambda: "renamed999" in {each.name for each in watch.intake.containers.values()}
        )
        assert watch.intake.connected
        assert late in watch.intake.tails
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert all(watch.of(f"n{number}") == ["first"] for number in range(running))
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            await asyncio.to_thread(lambda: list(pool.map(remove, made)))
        await watch.until(lambda: watch.intake.containers.keys() == {late})
        await watch.until(lambda: set(watch.gone) == set(made))
        removing = time.monotonic() - began
    with capsys.disabled():
        print(
            f"\n500 containers made in {making:.1f} s, known in {connected:.2f} s, {running} of "
            f"them followed in {followed:.2f} s; memory grew by {grown // 1024} MB; "
            f"removed and forgotten in {removing:.1f} s"
        )
