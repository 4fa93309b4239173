"""
The intake on real Engines: what containers print is delivered, each line once.

What was delivered is compared, line by line and in order, with what the program in
the container is known to print.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dockerjail.docker.client import DockerEngine
from dockerjail.docker.tail import State
from dockerjail.model import Container, Direct
from tests.lab import images
from tests.lab.engine import Engine
from tests.lab.lan import Lan
from tests.lab.watch import Watch, differences, printed, printer

pytestmark = pytest.mark.engine


def edit_log(engine: Engine, container: str, edit: Callable[[bytes], bytes]) -> None:
    """Change the json-file that the Engine has open."""
    path = Path(engine.root, "data", "containers", container, f"{container}-json.log")
    with path.open("r+b") as file:
        new = edit(file.read())
        file.seek(0)
        file.truncate()
        file.write(new)


def damaged(log: bytes) -> bytes:
    """Replace the 700th line by what a power failure leaves."""
    lines = log.split(b"\n")
    lines[699] = b"\0" * len(lines[699])
    return b"\n".join(lines)


# More than all that is printed fits into the files: what is missing was not read.
LOGGING = {
    "json-file": ("--log-driver", "json-file"),
    "json-file rotated": ("--log-opt", "max-size=300k", "--log-opt", "max-file=20"),
    "json-file compressed": (
        *("--log-opt", "max-size=300k", "--log-opt", "max-file=20"),
        *("--log-opt", "compress=true"),
    ),
    "local": ("--log-driver", "local"),
    "local rotated": (
        *("--log-driver", "local", "--log-opt", "max-size=300k"),
        *("--log-opt", "max-file=20"),
    ),
}


@pytest.mark.parametrize("logging", LOGGING.values(), ids=LOGGING)
async def test_each_line_of_both_streams_is_delivered_once(any_engine, logging):
    watch = Watch(any_engine)
    async with watch.running():
        await watch.run("printer", printer(4000), *logging)
        await watch.until(lambda: watch.ended("printer"))
    assert not differences(printed(4000), watch.lines["printer"])


async def test_each_line_of_a_terminal_is_delivered_once(any_engine):
    watch = Watch(any_engine)
    async with watch.running():
        await watch.run("printer", printer(2000, both=False), "--tty")
        await watch.until(lambda: watch.ended("printer"))
    assert not differences(printed(2000, both=False), watch.lines["printer"])


@pytest.mark.parametrize("logging", LOGGING.values(), ids=LOGGING)
async def test_each_line_is_delivered_once_whenever_we_are_stopped(any_engine, logging):
    watch = Watch(any_engine)
    chance = random.Random(7)
    await watch.run("printer", printer(6000), *logging)
    for _ in range(12):
        async with watch.running():
            await asyncio.sleep(chance.uniform(0.0, 0.4))
        await asyncio.sleep(chance.choice((0.0, 0.1, 0.4)))
    async with watch.running():
        await watch.until(lambda: watch.ended("printer"))
    assert not differences(printed(6000), watch.lines["printer"])


async def test_a_burst_faster_than_any_follower_is_delivered_whole(any_engine):
    watch = Watch(any_engine)
    async with watch.running():
        await watch.run(
            "burst",
            ["sh", "-c", "seq 1 150000"],
            *("--log-opt", "max-size=2m", "--log-opt", "max-file=20"),
        )
        await watch.until(lambda: watch.ended("burst"))
    assert watch.of("burst") == [str(n) for n in range(1, 150001)]


async def test_stop_start_restart_and_kill_lose_and_repeat_nothing(any_engine):
    script = "trap 'echo bye; exit' TERM; echo hello; while :; do sleep 0.05; done"
    watch = Watch(any_engine)
    async with watch.running():
        await watch.run("web", ["sh", "-c", script])
        await watch.until(lambda: watch.of("web") == ["hello"])
        await watch.docker("stop", "web")
        await watch.until(lambda: watch.ended("web"))
        assert watch.of("web") == ["hello", "bye"]
        await watch.docker("start", "web")
        await watch.until(lambda: watch.count("web") == 3)
        await watch.docker("restart", "web")
        await watch.until(lambda: watch.count("web") == 5)
        await watch.docker("kill", "web")
        await watch.until(lambda: watch.ended("web"))
        await watch.docker("start", "web")
        await watch.until(lambda: watch.count("web") == 6)
    assert watch.of("web") == ["hello", "bye", "hello", "bye", "hello", "hello"]


async def test_a_recreated_container_is_followed_and_the_old_one_forgotten(any_engine):
    watch = Watch(any_engine)
    async with watch.running():
        old = await watch.run("web", ["sh", "-c", "echo old; sleep 1000"])
        await watch.until(lambda: watch.of("web") == ["old"])
        await watch.docker("rm", "--force", "web")
        await watch.until(lambda: watch.gone == [old])
        new = await watch.run("web", ["sh", "-c", "echo new; sleep 1000"])
        await watch.until(lambda: watch.of("web") == ["old", "new"])
        assert list(watch.intake.containers) == [new]
        assert list(watch.intake.tails) == [new]


async def test_a_container_that_removes_itself_is_read(any_engine):
    watch = Watch(any_engine)
    async with watch.running():
        command = [*printer(500)]
        name = await watch.run("once", ["sh", "-c", '"$0" "$@"; sleep 1', *command], "--rm")
        await watch.until(lambda: watch.gone == [name])
    assert not differences(printed(500), watch.lines["once"])


async def test_last_words_without_a_newline_are_delivered(any_engine):
    watch = Watch(any_engine)
    async with watch.running():
        await watch.run("web", ["sh", "-c", "echo one; printf 'panic: two'"])
        await watch.until(lambda: watch.ended("web"))
        assert watch.of("web") == ["one", "panic: two"]
        await watch.docker("start", "web")
        await watch.until(lambda: watch.count("web") == 4)
        await watch.until(lambda: watch.ended("web"))
    assert watch.of("web") == ["one", "panic: two"] * 2


async def test_a_restart_policy_is_followed_through(any_engine):
    watch = Watch(any_engine)
    async with watch.running():
        await watch.run(
            "loop", ["sh", "-c", "echo start; sleep 0.3; echo end"], "--restart", "on-failure:5"
        )
        await watch.run(
            "crash",
            ["sh", "-c", "echo start; sleep 0.3; echo end; exit 1"],
            "--restart=on-failure:3",
        )
        await watch.until(lambda: watch.count("crash") == 8)
        await watch.until(lambda: watch.ended("crash") and watch.ended("loop"))
    assert watch.of("crash") == ["start", "end"] * 4
    assert watch.of("loop") == ["start", "end"]


async def test_a_paused_container_is_followed_on(any_engine):
    watch = Watch(any_engine)
    async with watch.running():
        await watch.run("web", printer(2000, pause=0.1))
        await watch.until(lambda: watch.count("web") > 200)
        await watch.docker("pause", "web")
        await asyncio.sleep(3)
        await watch.docker("unpause", "web")
        await watch.until(lambda: watch.ended("web"))
    assert not differences(printed(2000), watch.lines["web"])


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_of_dockerd_loses_and_repeats_nothing(any_engine, how):
    watch = Watch(any_engine)
    script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"
    async with watch.running():
        await watch.run("web", ["sh", "-c", script])
        await watch.until(lambda: watch.count("web") > 50)
        await asyncio.to_thread(getattr(any_engine, how))
        await watch.until(lambda: not watch.intake.connected)
        await asyncio.to_thread(any_engine.start)
        await watch.until(lambda: watch.intake.connected)
        await watch.until(lambda: watch.ended("web"))
        first = len(watch.of("web"))
        await watch.docker("start", "web")
        await watch.until(lambda: watch.count("web") > first + 50)
        await watch.docker("kill", "web")
        await watch.until(lambda: watch.ended("web"))
    logged = (await asyncio.to_thread(any_engine.logs, "web")).splitlines()
    assert watch.of("web") == logged
    assert logged[:first] == [str(n) for n in range(1, first + 1)]


async def test_live_restore_keeps_lines_while_dockerd_is_away(engine):
    watch = Watch(engine)
    await asyncio.to_thread(engine.restart, "--live-restore")
    script = "i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo $i; sleep 0.01; done"
    async with watch.running():
        await watch.run("web", ["sh", "-c", script])
        await watch.until(lambda: watch.count("web") > 50)
        await asyncio.to_thread(engine.kill)
        await asyncio.to_thread(engine.start, "--live-restore")
        await watch.until(lambda: watch.ended("web"))
    assert watch.of("web") == [str(n) for n in range(1, 601)]


async def test_120_containers_at_once_hang_nobody(engine):
    watch = Watch(engine)
    room = asyncio.Semaphore(6)

    async def start(number: int) -> None:
        async with room:
            script = "echo ready; until [ -e /tmp/go ]; do sleep 1; done; echo went; sleep 1000"
            await watch.run(f"n{number}", ["sh", "-c", script], "--network", "none")

    async with asyncio.TaskGroup() as group:
        for number in range(120):
            group.create_task(start(number))
    async with watch.running():
        assert len(watch.intake.containers) == 120
        await watch.until(lambda: all(watch.of(f"n{n}") == ["ready"] for n in range(120)))
        await watch.until(
            lambda: all(t.state is State.FOLLOWING for t in watch.intake.tails.values())
        )
        await watch.docker("exec", "n119", "touch", "/tmp/go")
        await watch.until(lambda: watch.of("n119") == ["ready", "went"])
        async with DockerEngine(engine.host) as other:
            assert len(await other.list()) == 120


async def test_a_container_that_logs_nowhere_is_reported_once(any_engine, caplog):
    watch = Watch(any_engine)
    async with watch.running(reconcile_every=0.2):
        await watch.run("mute", ["sh", "-c", "echo hello; sleep 1000"], "--log-driver", "none")
        await watch.until(lambda: len(watch.intake.tails) == 1)
        await asyncio.sleep(1)
        (tail,) = watch.intake.tails.values()
        assert tail.state is State.UNREADABLE
        assert tail.problems
        assert "logging driver is none" in tail.problems[-1].what
        assert caplog.text.count("logging driver is none") == 1


async def test_a_driver_that_turns_out_unreadable_is_reported_once(any_engine, caplog):
    """The engine's own word counts as well as what inspect says."""
    watch = Watch(any_engine)
    await watch.run(
        "mute",
        ["sh", "-c", "echo hello; sleep 1000"],
        *("--log-driver", "syslog", "--log-opt", "syslog-address=udp://127.0.0.1:9"),
        *("--log-opt", "cache-disabled=true"),
    )
    async with watch.running(reconcile_every=0.2):
        await asyncio.sleep(1)
        (tail,) = watch.intake.tails.values()
        assert tail.state is State.UNREADABLE
        assert caplog.text.count("cannot be read") == 1


async def test_a_truncated_log_is_read_on(any_engine):
    watch = Watch(any_engine)
    script = "echo one; until [ -e /tmp/go ]; do sleep 0.1; done; echo two; sleep 1000"
    async with watch.running():
        name = await watch.run("web", ["sh", "-c", script])
        await watch.until(lambda: watch.of("web") == ["one"])
        edit_log(any_engine, name, lambda log: b"")
        await watch.docker("exec", "web", "touch", "/tmp/go")
        await watch.until(lambda: watch.of("web") == ["one", "two"])


async def test_damage_in_the_log_is_hopped_over(any_engine):
    watch = Watch(any_engine)
    name = await watch.run("web", ["sh", "-c", "seq 1 3000"])
    await watch.docker("wait", "web")
    edit_log(any_engine, name, damaged)
    async with watch.running():
        await watch.until(lambda: watch.ended("web"))
        got = watch.of("web")
    assert got[:200] == [str(n) for n in range(1, 201)]
    assert got[-500:] == [str(n) for n in range(2501, 3001)]
    assert len(got) == len(set(got))


class Counting(DockerEngine):
    """Counts the bytes of logs that come from the Engine."""

    received = 0

    @contextlib.asynccontextmanager
    async def logs(self, container, **options):
        async with super().logs(container, **options) as body:
            yield self.counted(body)

    async def counted(self, body):
        async for data in body:
            self.received += len(data)
            yield data


async def test_an_old_log_costs_nothing_but_its_end(any_engine):
    watch = Watch(any_engine)
    name = await watch.run("web", ["echo", "new"])
    await watch.docker("wait", "web")
    old = [
        f'{{"log":"old {n}\\n","stream":"stdout","time":"2020-01-01T00:{n // 3600:02}:{n // 60 % 60:02}'
        f'.{n % 60:09}Z"}}\n'
        for n in range(200_000)
    ]
    edit_log(any_engine, name, lambda log: "".join(old).encode() + log)
    async with Counting(any_engine.host) as client, watch.running(client=client):
        await watch.until(lambda: watch.ended("web"))
        first = client.received
    async with Counting(any_engine.host) as client, watch.running(client=client):
        await watch.until(lambda: watch.ended("web"))
        second = client.received
    assert watch.of("web") == ["new"]
    assert max(first, second) < 200_000


async def test_the_time_of_a_line_is_the_engines(any_engine):
    watch = Watch(any_engine)
    async with watch.running():
        before = time.time()
        name = await watch.run("web", ["sh", "-c", "echo now; sleep 1000"])
        await watch.until(lambda: watch.count("web") == 1)
        tail = watch.intake.tails[name]
        assert before < tail.last_at < time.time()


async def test_containers_are_seen_as_a_bans_scope_needs_them(any_engine):
    watch = Watch(any_engine)
    image = images.busybox(any_engine)
    await watch.docker("network", "create", "inner")
    sleep = ("sleep", "1000")

    def run(name: str, *options: str) -> str:
        return any_engine.run(image, *sleep, options=("--name", name, *options))

    one = await asyncio.to_thread(run, "one", "-p", "8080:80", "-p", "53:53/udp", "-p", "81")
    two = await asyncio.to_thread(run, "two", "--network", "host")
    three = await asyncio.to_thread(run, "three", "--network", "inner", "-p", "127.0.0.1:90:90")
    four = await asyncio.to_thread(run, "four", "--network", "container:one", "-t")
    async with watch.running():
        found: Mapping[str, Container] = watch.intake.containers
        assert found.keys() == {one, two, three, four}
        published = {str(port) for port in found[one].published}
        assert {"8080/tcp", "53/udp"} < published
        assert len(published) > 2
        assert found[one].gateways
        assert found[one].subnets
        assert found[one].networks == frozenset()
        assert found[two].host_network
        assert len(found[three].networks) == 1
        assert found[three].published == frozenset()
        assert found[four].published == found[one].published
        assert found[four].subnets == found[one].subnets
        assert found[four].tty
        await watch.docker("network", "connect", "inner", "one")
        await watch.until(lambda: watch.intake.containers[one].networks == found[three].networks)
        await watch.docker("rename", "three", "drei")
        await watch.until(lambda: watch.intake.containers[three].name == "drei")
        await watch.docker("kill", "drei")
        await watch.until(lambda: not watch.intake.containers[three].running)
        await watch.docker("rm", "drei")
        await watch.until(lambda: three not in watch.intake.containers)


async def test_containers_on_macvlan_are_seen_with_their_own_addresses(any_engine):
    watch = Watch(any_engine)
    image = images.busybox(any_engine)
    with Lan(any_engine) as lan:
        lan.network("lan")
        await watch.docker("network", "create", "inner")

        async def run(name: str, *options: str) -> str:
            options = ("--name", name, *options)
            return await asyncio.to_thread(any_engine.run, image, "sleep", "1000", options=options)

        one = await run("one", "--network", "lan", "-p", "8080:80", "--expose", "81")
        two = await run("two", "--network", "container:one")
        fixed = ("--ip", "192.0.2.200", "--ip6", "2001:db8:77::200")
        three = await run("three", "--network", "inner", "-p", "8080:80")
        await watch.docker("network", "connect", *fixed, "lan", "three")
        async with watch.running():
            found: Mapping[str, Container] = watch.intake.containers
            own = {d.address for d in found[one].direct}
            assert found[one].direct == {Direct("lan0", address) for address in own}
            assert {address.version for address in own} == {4, 6}
            assert found[one].addresses == own
            assert all(a in ip_network(("192.0.2.0", 24)) for a in own if a.version == 4)
            assert (found[one].published, found[one].subnets) == (frozenset(), frozenset())
            assert found[one].networks == frozenset()
            assert ip_address(Lan.gateway) in found[one].gateways
            assert found[two].direct == found[one].direct
            theirs = frozenset(map(ip_address, ("192.0.2.200", "2001:db8:77::200")))
            assert {d.address for d in found[three].direct} == theirs
            # Its default route has moved to the other network, and Docker closed the port.
            assert found[three].published == frozenset()
            assert len(found[three].networks) == 1
            await watch.docker("kill", "one", "three")
            await watch.until(lambda: not watch.intake.containers[one].running)
            await watch.until(lambda: not watch.intake.containers[three].running)
            assert watch.intake.containers[one].addresses == own
            await watch.docker("network", "disconnect", "lan", "three")
            await watch.docker("start", "three")
            await watch.until(lambda: watch.intake.containers[three].running)
            assert watch.intake.containers[three].direct == frozenset()
            published = watch.intake.containers[three].published
            assert {str(port) for port in published} == {"8080/tcp"}


async def test_a_network_made_from_a_configuration_has_its_parent(any_engine):
    watch = Watch(any_engine)
    image = images.busybox(any_engine)
    with Lan(any_engine) as lan:
        await watch.docker(
            *("network", "create", "--config-only", "--subnet", "192.0.2.0/24"),
            *("--opt", f"parent={lan.device}", "plan"),
        )
        await watch.docker("network", "create", "-d", "macvlan", "--config-from", "plan", "made")
        name = await asyncio.to_thread(
            any_engine.run, image, "sleep", "1000", options=("--network", "made")
        )
        async with watch.running():
            (direct,) = watch.intake.containers[name].direct
            assert direct.device == lan.device


async def test_a_swarm_service_on_macvlan_is_seen_with_its_own_address(any_engine):
    """A network of the swarm has no options of its own: they are in each node's configuration."""
    watch = Watch(any_engine)
    image = images.busybox(any_engine)
    with Lan(any_engine) as lan:
        here = ("--advertise-addr", lan.host, "--listen-addr", f"{lan.host}:2377")
        await watch.docker("swarm", "init", *here)
        try:
            await watch.docker(
                *("network", "create", "--config-only", "--subnet", "192.0.2.0/24"),
                *("--opt", f"parent={lan.device}", "plan"),
            )
            made = ("-d", "macvlan", "--scope", "swarm", "--config-from", "plan", "swarmed")
            await watch.docker("network", "create", *made)
            async with watch.running():
                service = ("--name", "web", "--network", "swarmed", image, "sleep", "1000")
                await watch.docker("service", "create", "--detach", *service)
                found = watch.intake.containers
                await watch.until(lambda: any(c.direct for c in found.values()))
                (container,) = found.values()
                assert container.service == "web"
                assert container.subnets == frozenset()
                (direct,) = container.direct
                assert direct.device == lan.device
                await watch.docker("service", "rm", "web")
                await watch.until(lambda: not found)
        finally:
            await watch.docker("swarm", "leave", "--force")
