"""
Podman 5 behind Docker's API: what containers print is delivered, each line once.

What it does otherwise than Docker: stamps of whole seconds, so that thousands of frames
share one; lines in pieces that end where a read did; `since` exclusive and a log file that
is thrown away when it is full; containers that run on without the service.
"""

import asyncio
import contextlib
import random
from ipaddress import ip_address

import pytest

from dockerjail.docker.tail import State
from dockerjail.model import Direct, Stream
from tests.lab import images
from tests.lab.lan import Lan
from tests.lab.watch import Watch, differences, printed, printer

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("options", [(), ("--tty",)], ids=["streams", "terminal"])
async def test_each_line_is_delivered_once_whenever_we_are_stopped(podman, options):
    watch = Watch(podman)
    chance = random.Random(7)
    both = not options
    await watch.run("printer", printer(5000, both=both), *options)
    for _ in range(10):
        async with watch.running():
            await asyncio.sleep(chance.uniform(0.0, 0.3))
        await asyncio.sleep(chance.choice((0.0, 0.1, 0.3)))
    async with watch.running():
        await watch.until(lambda: watch.ended("printer"))
    assert not differences(printed(5000, both=both), watch.lines["printer"])


async def test_lines_that_share_one_stamp_are_told_apart(podman):
    """Six thousand lines within one second or two, read in many goes."""
    watch = Watch(podman)
    script = "for n in 1 2 3; do seq $((n*2000-1999)) $((n*2000)); sleep 0.2; done; sleep 1000"
    await watch.run("burst", ["sh", "-c", script])
    while watch.count("burst") < 6000:
        async with watch.running():
            before = watch.count("burst")
            await watch.until(lambda: watch.count("burst") > before)  # noqa: B023 -- called before the next round
    async with watch.running():
        await asyncio.sleep(0.5)
    assert watch.of("burst") == [str(n) for n in range(1, 6001)]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_service_that_goes_away_and_comes_back_loses_and_repeats_nothing(podman, how):
    watch = Watch(podman)
    script = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; sleep 0.01; done"
    async with watch.running():
        await watch.run("web", ["sh", "-c", script])
        await watch.until(lambda: watch.count("web") > 50)
        await asyncio.to_thread(getattr(podman, how))
        await watch.until(lambda: not watch.intake.connected)
        await asyncio.to_thread(podman.start)
        await watch.until(lambda: watch.intake.connected)
        await watch.until(lambda: watch.ended("web"))
    assert watch.of("web") == [str(n) for n in range(1, 401)]


async def test_stop_start_restart_and_kill_lose_and_repeat_nothing(podman):
    script = "trap 'echo bye; exit' TERM; echo hello; while :; do sleep 0.05; done"
    watch = Watch(podman)
    async with watch.running():
        await watch.run("web", ["sh", "-c", script])
        await watch.until(lambda: watch.of("web") == ["hello"])
        await watch.docker("stop", "web")
        await watch.until(lambda: watch.ended("web"))
        assert watch.of("web") == ["hello", "bye"]
        await watch.docker("start", "web")
        await watch.until(lambda: watch.count("web") == 3)
        await watch.docker("restart", "web")
        await watch.docker("kill", "web")
        await watch.until(lambda: watch.ended("web"))
        await watch.docker("start", "web")
        # Podman itself does not always log the last words before a restart.
        logged = (await asyncio.to_thread(podman.logs, "web")).split()
        await watch.until(lambda: watch.of("web")[-1:] == ["hello"] and watch.count("web") >= 5)
        assert watch.of("web") == logged
    assert logged[:3] == ["hello", "bye", "hello"]


async def test_a_paused_container_is_followed_on(podman):
    watch = Watch(podman)
    async with watch.running():
        await watch.run("web", printer(1000, pause=0.2))
        await watch.until(lambda: watch.count("web") > 200)
        await watch.docker("pause", "web")
        await asyncio.sleep(3)
        await watch.docker("unpause", "web")
        await watch.until(lambda: watch.ended("web"))
    assert not differences(printed(1000), watch.lines["web"])


async def test_a_recreated_container_is_followed_and_the_old_one_forgotten(podman):
    watch = Watch(podman)
    async with watch.running():
        old = await watch.run("web", ["sh", "-c", "echo old; sleep 1000"])
        await watch.until(lambda: watch.of("web") == ["old"])
        await watch.docker("rm", "--force", "web")
        await watch.until(lambda: watch.gone == [old])
        new = await watch.run("web", ["sh", "-c", "echo new; sleep 1000"])
        await watch.until(lambda: watch.of("web") == ["old", "new"])
        assert list(watch.intake.tails) == [new]


async def test_a_container_that_removes_itself_is_read(podman):
    watch = Watch(podman)
    async with watch.running():
        command = ["sh", "-c", '"$0" "$@"; sleep 1', *printer(500)]
        name = await watch.run("once", command, "--rm")
        await watch.until(lambda: watch.gone == [name])
    assert not differences(printed(500), watch.lines["once"])


async def test_last_words_without_a_newline_are_delivered(podman):
    watch = Watch(podman)
    async with watch.running():
        await watch.run("web", ["sh", "-c", "echo one; printf 'panic: two'"])
        await watch.until(lambda: watch.ended("web"))
        assert watch.of("web") == ["one", "panic: two"]
        await watch.docker("start", "web")
        await watch.until(lambda: watch.count("web") == 4)
        await watch.until(lambda: watch.ended("web"))
    assert watch.of("web") == ["one", "panic: two"] * 2


TALKER = """
trap 'printf "last words"; exit' TERM
echo hello; printf 'a cry'; sleep 0.1; echo ' of joy'; echo err >&2; printf 'not the end' >&2; echo running
while :; do sleep 0.02; done
"""


@pytest.mark.parametrize("down", [False, True], ids=["while we follow", "while we are down"])
@pytest.mark.parametrize("how", [("restart", "-t", "2"), ("kill",), ("stop", "-t", "2")])
async def test_a_last_line_without_a_newline_is_not_joined_with_the_next_run(podman, how, down):
    """Podman leaves nothing between two runs, whose lines may stand in the same second."""
    watch = Watch(podman)
    runs = 4
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(watch.running())
        await watch.run("web", ["sh", "-c", TALKER])
        for run in range(1, runs):
            await watch.until(lambda: watch.of("web").count("running") == run)  # noqa: B023 -- called before the next round
            if down:
                await stack.aclose()
            await watch.docker(*how, "web")
            if how[0] != "restart":
                await watch.docker("start", "web")
            if down:
                await stack.enter_async_context(watch.running())
        await watch.until(lambda: watch.of("web").count("running") == runs)
        # Podman itself does not always log the last words before a restart
        logged = (await asyncio.to_thread(podman.logs, "web")).count("last words")
    run = ["hello", "a cry of joy", "running"]
    assert [line for line in watch.of("web") if line != "last words"] == run * runs
    assert watch.of("web").count("last words") == logged
    assert watch.of("web", Stream.STDERR) == [*["err", "not the end"] * (runs - 1), "err"]


async def test_a_log_that_podman_throws_away_is_told_and_no_part_of_a_line_is_taken_for_one(podman):
    watch = Watch(podman)
    chance = random.Random(7)
    await watch.run("printer", printer(4000), "--log-opt", "max-size=300k")
    said = set()
    for _ in range(8):
        async with watch.running():
            await asyncio.sleep(chance.uniform(0.1, 0.4))
            tails = watch.intake.tails.values()
            said |= {problem.what for tail in tails for problem in tail.problems}
        await asyncio.sleep(chance.choice((0.0, 0.1, 0.4)))
    async with watch.running():
        await watch.until(lambda: watch.ended("printer"))
    assert any("whenever its log has 300kB Podman throws all of it away" in each for each in said)
    for stream in Stream:
        expected = {line: place for place, line in enumerate(printed(4000)[stream])}
        got = watch.of("printer", stream)
        assert [line[:30] for line in got if line not in expected] == []
        places = [expected[line] for line in got]
        assert places == sorted(set(places))
        assert len(got) > 100


@pytest.mark.parametrize("driver", ["none", "passthrough"])
async def test_a_container_that_logs_nowhere_is_reported(podman, driver):
    watch = Watch(podman)
    async with watch.running():
        await watch.run("mute", ["sleep", "1000"], "--log-driver", driver)
        await watch.until(lambda: len(watch.intake.tails) == 1)
        (tail,) = watch.intake.tails.values()
        await watch.until(lambda: tail.state is State.UNREADABLE)
        (problem,) = tail.problems
        assert f"logging driver is {driver}" in problem.what
        assert "json-file" in problem.remedy


async def test_containers_are_seen_as_a_bans_scope_needs_them(podman):
    watch = Watch(podman)
    image = images.busybox(podman)
    await watch.docker("network", "create", "inner")

    async def run(name, *options):
        options = ("--name", name, *options)
        return await asyncio.to_thread(podman.run, image, "sleep", "1000", options=options)

    one = await run("one", "-p", "8080:80", "-p", "5353:53/udp", "-p", "81", "--expose", "99")
    two = await run("two", "--network", "host")
    three = await run("three", "--network", "inner", "-p", "127.0.0.1:90:90")
    four = await run("four", "--network", "container:one", "--tty")
    async with watch.running():
        found = watch.intake.containers
        assert watch.intake.engine_version.startswith("Podman 5.")
        assert found.keys() == {one, two, three, four}
        published = {str(port) for port in found[one].published}
        assert {"8080/tcp", "5353/udp"} < published
        assert len(published) == 3
        assert found[one].gateways
        assert found[one].subnets
        assert found[one].networks == frozenset()
        assert found[two].host_network
        assert len(found[three].networks) == 1
        assert found[three].published == frozenset()
        assert found[four].published == found[one].published
        assert found[four].subnets == found[one].subnets
        assert found[four].tty
        await watch.docker("rename", "three", "drei")
        await watch.until(lambda: watch.intake.containers[three].name == "drei")
        await watch.docker("kill", "drei")
        await watch.until(lambda: not watch.intake.containers[three].running)
        await watch.docker("rm", "drei")
        await watch.until(lambda: three not in watch.intake.containers)


async def test_a_container_on_macvlan_is_seen_with_its_own_address_and_device(podman):
    watch = Watch(podman)
    image = images.busybox(podman)
    with Lan(podman) as lan:
        await watch.docker(
            *("network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24"),
            *("-o", f"parent={lan.device}", "lan"),
        )
        options = ("--network", "lan", "--ip", "192.0.2.200")
        name = await asyncio.to_thread(podman.run, image, "sleep", "1000", options=options)
        async with watch.running():
            direct = watch.intake.containers[name].direct
            assert direct == {Direct(lan.device, ip_address("192.0.2.200"))}
