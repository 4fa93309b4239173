"""What the whole daemon says of itself, with twins of the Engine, the store and the kernel."""

import asyncio
import contextlib
import gc
import re
import time
import weakref
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dockerjail.ban.orders import Sentence
from dockerjail.config.settings import load
from dockerjail.errors import Refused
from dockerjail.model import (
    Address,
    Blocktype,
    Chunk,
    Container,
    Cursor,
    Port,
    Problem,
    Stream,
    Subject,
    written,
)
from dockerjail.nft.dryrun import DryRun
from dockerjail.ports import Firewall
from dockerjail.service.attention import problems
from dockerjail.service.daemon import Daemon, World
from dockerjail.service.names import Resolve
from dockerjail.service.report import Report
from tests.fakes import FakeEngine, FakeFlows, FakeHost, MemoryStore

pytestmark = pytest.mark.looptime

WHY = (
    "bans with blocktype=reject drop instead: this kernel cannot answer what it blocks before DNAT"
)


@contextlib.asynccontextmanager
async def daemon_of(
    directory: Path,
    *containers: Container,
    settings: str = "",
    firewall: Firewall | None = None,
    host: FakeHost | None = None,
    flows: FakeFlows | None = None,
    store: MemoryStore | None = None,
    resolve: Resolve | None = None,
) -> AsyncIterator[tuple[Daemon, FakeEngine]]:
    """Run a daemon with these settings beside running containers, until it follows them."""
    file = directory / "dockerjail.toml"
    file.write_text(settings)
    start, loop = time.time(), asyncio.get_running_loop()

    def clock() -> float:
        return start + loop.time()

    engine, store = FakeEngine(clock=clock), store or MemoryStore()
    for each in containers:
        engine.start(each)
    world = World(
        engine=engine,
        store=store,
        firewall=firewall or DryRun(clock=clock),
        host=host or FakeHost("192.0.2.1", "172.18.0.1"),
        flows=flows or FakeFlows(),
        resolve=resolve or nobody,
    )
    state = await store.load(now=clock(), findtime=3600)
    daemon = Daemon(load(file, {}), world, state, clock=clock)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as house:
        house.create_task(daemon.run(stop))
        await daemon.ready.wait()
        yield daemon, engine
        stop.set()


async def nobody(name: str) -> Sequence[Address]:
    return ()


@contextlib.asynccontextmanager
async def running(directory: Path, *, rejects: bool, blocktype: str = "") -> AsyncIterator[Daemon]:
    """Run a daemon beside one container whose jail perhaps has a blocktype."""
    labels = {"dockerjail.enable": "true", "dockerjail.jail.login.failregex": "^no <HOST>$"}
    if blocktype:
        labels["dockerjail.jail.login.blocktype"] = blocktype
    web = Container(
        id="c1", name="web", service="web", labels=labels, published=frozenset({Port(80)})
    )
    async with daemon_of(directory, web, firewall=DryRun(rejects=rejects)) as (daemon, _):
        yield daemon


def of_the_kernel(found: list[Problem]) -> list[str]:
    return [problem.what for problem in found if problem.place == "kernel"]


class Displacing(DryRun):
    """Put its table where somebody else's stood."""

    def problems(self) -> Sequence[Problem]:
        return [Problem(place="kernel", what="it had 1 chain", remedy="another name")]


async def test_status_tells_of_a_table_that_gave_way(tmp_path: Path) -> None:
    async with daemon_of(tmp_path, firewall=Displacing()) as (daemon, _):
        status = await Report(daemon).status()
        assert [problem["what"] for problem in status["problems"]] == ["it had 1 chain"]
        assert status["kernel"]["in_sync"]


@pytest.mark.parametrize(
    ("rejects", "blocktype", "said"),
    [(False, "reject", [WHY]), (False, "drop", []), (False, "", []), (True, "reject", [])],
)
async def test_a_jail_whose_bans_cannot_answer_is_told_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    rejects: bool,
    blocktype: str,
    said: list[str],
) -> None:
    async with running(tmp_path, rejects=rejects, blocktype=blocktype) as daemon:
        assert of_the_kernel(problems(daemon)) == said
        assert sum(WHY in message for message in caplog.messages) == len(said)
        (jail,) = (await Report(daemon).status())["jails"]
        assert jail["blocktype"] == (blocktype or "drop")


async def test_a_ban_by_hand_that_cannot_answer_is_told_while_it_stands(tmp_path: Path) -> None:
    async with running(tmp_path, rejects=False) as daemon:
        order = Sentence(subject=ip_network("203.0.113.7"), bantime=60, blocktype=Blocktype.REJECT)
        await daemon.warden.ask(order)
        assert of_the_kernel(problems(daemon)) == [WHY]
        (ban,) = (await Report(daemon).bans())["bans"]
        assert ban["blocktype"] == "reject"
        (element,) = await daemon.world.firewall.present()
        assert element.blocktype is Blocktype.DROP


async def two_addresses(name: str) -> Sequence[Address]:
    return (ip_address("203.0.113.7"), ip_address("127.0.0.1")) if name == "evil.test" else ()


@pytest.mark.parametrize(("usedns", "banned"), [("warn", ["203.0.113.7/32"]), ("no", [])])
async def test_a_name_is_banned_by_its_addresses_if_its_jail_looks_names_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, usedns: str, banned: list[str]
) -> None:
    settings = (
        f"[jails.login]\nfailregex = '^no <HOST>$'\nmaxretry = 3\nusedns = '{usedns}'\n"
        "[containers.web]\njails = ['login']\n"
    )
    web = Container(id="c1", name="web", service="web", published=frozenset({Port(80)}))
    running = daemon_of(tmp_path, web, settings=settings, resolve=two_addresses)
    async with running as (daemon, engine):
        for name in ("evil.test", "unknown.test") * 3:
            engine.say(web, f"no {name}")
        await asyncio.sleep(5)
        assert [str(ban.subject) for ban in daemon.warden.bans] == banned
    assert ("'evil.test' of container web is a name; looked up" in caplog.text) is bool(banned)


async def test_who_waits_for_a_name_at_a_stop_counts_after_the_next_start_once(
    tmp_path: Path,
) -> None:
    settings = (
        "[jails.login]\nfailregex = '^no <HOST>$'\nmaxretry = 3\nusedns = 'yes'\n"
        "[containers.web]\njails = ['login']\n"
    )
    web = Container(id="c1", name="web", service="web", published=frozenset({Port(80)}))
    store = MemoryStore()

    async def silent(name: str) -> Sequence[Address]:
        await asyncio.Event().wait()
        return ()

    async with daemon_of(tmp_path, web, settings=settings, store=store, resolve=silent) as (
        _,
        engine,
    ):
        for _ in range(2):
            engine.say(web, "no evil.test")
        await asyncio.sleep(5)
    assert not (await store.totals())
    assert len(store._names) == 2
    for _ in range(2):
        running = daemon_of(tmp_path, web, settings=settings, store=store, resolve=two_addresses)
        async with running as (daemon, engine):
            await asyncio.sleep(5)
            assert await store.totals() == {"login@web": (2, 0)}
            assert not daemon.warden.bans
    async with daemon_of(tmp_path, web, settings=settings, store=store, resolve=two_addresses) as (
        daemon,
        engine,
    ):
        engine.say(web, "no evil.test")
        await asyncio.sleep(5)
        assert [str(ban.subject) for ban in daemon.warden.bans] == ["203.0.113.7/32"]


async def test_lines_too_long_to_be_read_by_their_fields_are_told(tmp_path: Path) -> None:
    settings = (
        "[jails.api]\nwhere = {event = 'failed'}\naddress = 'ip'\n"
        "[containers.api]\njails = ['api']\n[containers.web]\njails = ['flask-login']\n"
    )
    both = [Container(id=name, name=name, service=name) for name in ("api", "web")]
    async with daemon_of(tmp_path, *both, settings=settings) as (daemon, engine):
        for each in both:
            engine.say(each, '{"event":"failed","ip":"203.0.113.7","name":"%s"}' % ("x" * 70_000))
        await asyncio.sleep(5)
        told = [problem for problem in problems(daemon) if "64 KiB" in problem.what]
        assert [problem.place for problem in told] == ["container api"]
        assert told[0].what.startswith("1 lines were longer")


# ---- who is never banned

LOGIN = "[jails.login]\nfailregex = '^no <HOST>$'\nmaxretry = 2\n"
WEB = Container(
    id="c1",
    name="web",
    service="web",
    published=frozenset({Port(80)}),
    addresses=frozenset({ip_address("172.18.0.3")}),
    gateways=frozenset({ip_address("172.18.0.1")}),
    subnets=frozenset({ip_network("172.18.0.0/16")}),
)


def banned(daemon: Daemon) -> set[str]:
    return {written(ban.subject) for ban in daemon.warden.bans}


async def fail(engine: FakeEngine, *addresses: str, times: int = 2) -> None:
    for address in addresses * times:
        engine.say(WEB, f"no {address}")
    await asyncio.sleep(1)


def allowed(daemon: Daemon) -> Collection[Subject]:
    firewall = daemon.world.firewall
    assert isinstance(firewall, DryRun)
    return firewall.allowed


async def test_addresses_that_the_host_gets_later_are_never_banned_and_let_in(
    tmp_path: Path,
) -> None:
    host = FakeHost("192.0.2.1")
    settings = LOGIN + "[containers.web]\njails = ['login']\n"
    async with daemon_of(tmp_path, WEB, settings=settings, host=host) as (daemon, engine):
        await fail(engine, "203.0.113.7", "203.0.113.8", "192.0.2.1")
        assert banned(daemon) == {"203.0.113.7", "203.0.113.8"}
        host.move("192.0.2.1", "203.0.113.7")
        await asyncio.sleep(0.1)
        assert ip_network("203.0.113.7") in allowed(daemon)
        host.move("192.0.2.1")
        await asyncio.sleep(0.1)
        assert ip_network("203.0.113.7") not in allowed(daemon)


async def test_gateways_and_name_servers_of_the_host_are_never_banned(tmp_path: Path) -> None:
    host = FakeHost("192.0.2.1")
    host.routers = frozenset({ip_address("192.0.2.254")})
    host.servers = frozenset({ip_address("192.0.2.53"), ip_address("127.0.0.53")})
    settings = LOGIN + "[containers.web]\njails = ['login']\n"
    async with daemon_of(tmp_path, WEB, settings=settings, host=host) as (daemon, engine):
        await fail(engine, "192.0.2.254", "192.0.2.53", "192.0.2.77")
        assert banned(daemon) == {"192.0.2.77"}
        assert {ip_network("192.0.2.254"), ip_network("192.0.2.53")} <= set(allowed(daemon))
        with pytest.raises(Refused, match="a gateway of this host"):
            await daemon.warden.ask(
                Sentence(subject=ip_network("192.0.2.254"), bantime=60, force=True)
            )


async def test_the_engines_networks_are_never_banned_not_even_by_force(tmp_path: Path) -> None:
    settings = LOGIN + "[containers.web]\njails = ['login']\n"
    async with daemon_of(tmp_path, WEB, settings=settings) as (daemon, engine):
        await fail(engine, "172.18.0.9", "192.0.2.77")
        assert banned(daemon) == {"192.0.2.77"}
        with pytest.raises(Refused, match="in a network of container web"):
            await daemon.warden.ask(
                Sentence(subject=ip_network("172.18.0.9"), bantime=60, force=True)
            )


async def test_a_name_in_ignoreip_follows_its_address(tmp_path: Path) -> None:
    office = ["203.0.113.7"]

    async def resolve(name: str) -> Sequence[Address]:
        return [ip_address(each) for each in office] if name == "office.test" else ()

    settings = "[defaults]\nignoreip = ['office.test']\n" + LOGIN
    settings += "[containers.web]\njails = ['login']\n"
    running = daemon_of(tmp_path, WEB, settings=settings, resolve=resolve)
    async with running as (daemon, engine):
        await fail(engine, "203.0.113.7")
        assert banned(daemon) == set()
        assert ip_network("203.0.113.7") in allowed(daemon)
        office[:] = ["203.0.113.9"]
        await asyncio.sleep(120)
        await fail(engine, "203.0.113.7", "203.0.113.9")
        assert banned(daemon) == {"203.0.113.7"}


async def test_a_file_in_a_jails_ignoreip_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    friends = tmp_path / "friends"
    friends.write_text("203.0.113.7 # the office\n")
    settings = LOGIN + f"ignoreip = ['file:{friends}']\n[containers.web]\njails = ['login']\n"
    async with daemon_of(tmp_path, WEB, settings=settings) as (daemon, engine):
        await fail(engine, "203.0.113.7", "203.0.113.8")
        assert banned(daemon) == {"203.0.113.8"}
        friends.write_text("203.0.113.8\n203.0.113.0/29 oops/\n")
        await asyncio.sleep(10)
        assert banned(daemon) == set()
        assert any("friends" in each.place + each.what for each in problems(daemon))


# ---- whether bans work


async def test_a_ban_whose_subject_goes_on_failing_is_told_with_the_way_he_comes(
    tmp_path: Path,
) -> None:
    flows = FakeFlows()
    proxy = replace(
        WEB, id="c2", name="traefik", service="traefik", published=frozenset(),
        addresses=frozenset({ip_address("172.18.0.2")}),
    )  # fmt: skip
    flows.ends[ip_address("172.18.0.3")] = {ip_address("172.18.0.2"): 9}
    settings = LOGIN + "[containers.web]\njails = ['login']\n"
    running = daemon_of(tmp_path, WEB, proxy, settings=settings, flows=flows)
    async with running as (daemon, engine):
        await fail(engine, "203.0.113.7", times=3)
        assert (await Report(daemon).bans())["bans"][0]["effective"]
        await asyncio.sleep(5)
        await fail(engine, "203.0.113.7", times=1)
        assert problems(daemon) == []
        await fail(engine, "203.0.113.7", times=1)
        await asyncio.sleep(5)
        (problem,) = problems(daemon)
        assert problem.place == "jail login@web"
        assert "the ban of 203.0.113.7 is not effective" in problem.what
        assert "through a proxy at 172.18.0.2, container traefik" in problem.what
        (ban,) = (await Report(daemon).bans())["bans"]
        assert not ban["effective"]
        await asyncio.sleep(400)
        assert problems(daemon) == []


async def test_a_ban_by_hand_and_one_of_a_network_without_effect_are_told_too(
    tmp_path: Path,
) -> None:
    settings = LOGIN.replace("= 2", "= 9") + "[containers.web]\njails = ['login']\n"
    async with daemon_of(tmp_path, WEB, settings=settings) as (daemon, engine):
        await daemon.warden.ask(Sentence(subject=ip_network("203.0.113.0/24"), bantime=600))
        await asyncio.sleep(5)
        await fail(engine, "203.0.113.7")
        (problem,) = problems(daemon)
        assert problem.place == "jail manual"
        assert "the ban of 203.0.113.0/24 is not effective" in problem.what


async def test_a_container_whose_clients_are_all_its_gateway_is_told(tmp_path: Path) -> None:
    settings = LOGIN + "[containers.web]\njails = ['login']\n"
    async with daemon_of(tmp_path, WEB, settings=settings) as (daemon, engine):
        await fail(engine, "203.0.113.7", "203.0.113.8", times=3)
        await fail(engine, "172.18.0.1", times=1)
        assert problems(daemon) == []
        await fail(engine, "172.18.0.1", times=30)
        (problem,) = problems(daemon)
        assert "31 failures come from 172.18.0.1" in problem.what
        assert "userland-proxy" in problem.remedy


async def test_thousands_of_containers_that_fail_do_not_keep_status_from_answering(
    tmp_path: Path,
) -> None:
    async with daemon_of(tmp_path, WEB) as (daemon, _):
        daemon.ignored.note("web", ip_address("172.18.0.1"), "a gateway", daemon.steady())
        for number in range(5000):
            daemon.ignored.counted(f"job-{number}")
        assert problems(daemon) == []


async def test_what_the_hosts_recidive_ignores_is_let_in(tmp_path: Path) -> None:
    settings = "[jails.recidive]\nignoreip = '198.51.100.0/24 host.test'\n"

    async def office(name: str) -> Sequence[Address]:
        return (ip_address("192.0.2.77"),) if name == "host.test" else ()

    async with daemon_of(tmp_path, WEB, settings=settings, resolve=office) as (daemon, _):
        for subject, spared in (
            ("198.51.100.7/32", True),
            ("198.0.0.0/8", True),
            ("192.0.2.77/32", True),
            ("203.0.113.7/32", False),
        ):
            assert bool(daemon.excused(ip_network(subject), "recidive")) == spared
            assert daemon.excused(ip_network(subject), "login@web") is None


async def test_a_dry_run_says_so_everywhere(tmp_path: Path) -> None:
    settings = "[firewall]\nmode = 'observe'\n" + LOGIN + "[containers.web]\njails = ['login']\n"
    async with daemon_of(tmp_path, WEB, settings=settings) as (daemon, engine):
        await fail(engine, "203.0.113.7")
        status = await Report(daemon).status()
        assert (status["mode"], status["banned"], status["observed"]) == ("observe", 0, 1)
        assert [jail["mode"] for jail in status["jails"]] == ["observe"]
        assert [(jail["banned"], jail["observed"]) for jail in status["jails"]] == [(0, 1)]
        assert [ban["mode"] for ban in status["bans"]] == ["observe"]
        assert await daemon.world.firewall.present() == {}


async def test_what_is_told_of_a_jail_begins_with_its_newest_ban_and_names_its_aggregate(
    tmp_path: Path,
) -> None:
    asked = LOGIN + "aggregate = '10 in 1h'\n[containers.web]\njails = ['login']\n"
    async with daemon_of(tmp_path, WEB, settings=asked) as (daemon, engine):
        for address in ("203.0.113.9", "203.0.113.7", "203.0.113.8"):
            await fail(engine, address)
            await asyncio.sleep(1)
        told, bans = await Report(daemon).jail("login")
        assert [str(ban.subject.network_address)[-1] for ban in bans] == ["8", "7", "9"]
        (jail,) = told["jails"]
        assert jail["aggregate"] == {"addresses": 10, "time": 3600.0}


@pytest.mark.parametrize(("bantime", "grows"), [("10m", True), ("-1", False)])
async def test_a_ban_for_good_is_not_told_to_grow(
    tmp_path: Path, bantime: str, grows: bool
) -> None:
    settings = (
        f"[defaults]\nbantime = '{bantime}'\n'bantime.increment' = true\n{LOGIN}"
        "[containers.web]\njails = ['login']\n"
    )
    async with daemon_of(tmp_path, WEB, settings=settings) as (daemon, _):
        (jail,) = (await Report(daemon).status())["jails"]
        assert jail["bantime_grows"] is grows


async def test_the_page_on_status_names_each_key_and_no_other(tmp_path: Path) -> None:
    settings = LOGIN + "[containers.web]\njails = ['login']\n"
    async with daemon_of(tmp_path, WEB, settings=settings) as (daemon, engine):
        await fail(engine, "203.0.113.7")
        status = await Report(daemon).status()
    assert keys("The whole") == set(status)
    assert keys("A container") == set(status["containers"][0])
    assert keys("A jail") == set(status["jails"][0])
    assert keys("A ban") == set(status["bans"][0])


async def test_what_of_a_container_is_too_large_to_be_known_is_told(tmp_path: Path) -> None:
    large = replace(WEB, labels={**WEB.labels, "large": "x" * 1_000_000})
    async with daemon_of(tmp_path, large, settings=LOGIN) as (daemon, _):
        assert "its labels and log options have" in " ".join(map(str, problems(daemon)))


def keys(section: str) -> set[str]:
    """Return what stands in the first column of the table of a section of the page on status."""
    page = Path(__file__).parents[2] / "docs" / "status.md"
    text = page.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2]
    rows = [row for row in text.partition("\n## ")[0].splitlines() if row.startswith("| `")]
    return {word for row in rows for word in re.findall("`(\\w+)`", row.split("|")[1])}


# ---- the kernel stays right


async def test_a_thousand_changes_by_others_are_mended_once(tmp_path: Path) -> None:
    async with daemon_of(tmp_path) as (daemon, _):
        firewall = daemon.world.firewall
        assert isinstance(firewall, DryRun)
        for _ in range(1000):
            firewall.lose()
        await asyncio.sleep(0.1)
        assert (daemon.warden.sync.healed, daemon.warden.sync.ok) == (1, True)


async def test_the_kernel_is_not_in_sync_while_who_changes_it_again_and_again_is_waited_for(
    tmp_path: Path,
) -> None:
    async with daemon_of(tmp_path) as (daemon, _):
        firewall = daemon.world.firewall
        assert isinstance(firewall, DryRun)
        for _ in range(10):
            firewall.lose()
            await asyncio.sleep(0.1)
        assert daemon.warden.sync.healed == 10
        for _ in range(30):
            firewall.lose("table deleted by nft, process 7")
            await asyncio.sleep(0.01)
        kernel = (await Report(daemon).status())["kernel"]
        assert not kernel["in_sync"]
        assert "table deleted by nft, process 7" in kernel["error"]
        await asyncio.sleep(5)
        assert await firewall.intact()
        assert (await Report(daemon).status())["kernel"]["in_sync"]


async def test_a_jail_that_can_close_nothing_is_told_while_a_container_runs_it(
    tmp_path: Path,
) -> None:
    labels = {"dockerjail.enable": "true", "dockerjail.jail.login.failregex": "^no <HOST>$"}
    web = Container(id="c1", name="web", service="web", labels=labels)
    async with daemon_of(tmp_path, web) as (daemon, engine):
        assert [p.place for p in problems(daemon)] == ["jail login@web"]
        await asyncio.sleep(60)  # idle jails are looked for after five seconds, and each hour then
        engine.stop(web)
        engine.remove(web)
        await asyncio.sleep(60)
        assert [jail.name for jail in daemon.jails] == ["login@web"]
        assert not problems(daemon)


async def test_an_engine_that_is_back_is_found_within_seconds_however_long_it_was_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with daemon_of(tmp_path) as (daemon, engine):
        engine.away = "cannot reach the Docker Engine"
        engine.cut()
        await asyncio.sleep(1000)
        (problem,) = problems(daemon)
        assert (problem.place, problem.what) == ("Docker Engine", engine.away)
        assert problem.remedy == "containers are followed again when it answers"
        assert sum(engine.away in message for message in caplog.messages) == 1
        engine.away = ""
        await asyncio.sleep(6)
        assert daemon.intake.connected
        assert not problems(daemon)


async def test_an_engine_that_hangs_is_told_before_it_is_given_up(tmp_path: Path) -> None:
    async with daemon_of(tmp_path) as (daemon, engine):
        engine.tardy = 50.0
        await asyncio.sleep(45)
        assert daemon.intake.connected
        (problem,) = problems(daemon)
        assert problem.place == "Docker Engine"
        assert "has not answered for" in problem.what
        engine.tardy = 0.0
        await asyncio.sleep(60)
        assert not problems(daemon)


async def test_a_daemon_that_ended_is_garbage_for_whoever_begins_anew(tmp_path: Path) -> None:
    async with daemon_of(tmp_path, WEB) as (daemon, _):
        known = weakref.ref(daemon)
        assert gc.get_freeze_count()
    del daemon, _
    gc.collect()
    assert known() is None


async def test_others_have_their_turn_while_a_chunk_is_judged(tmp_path: Path) -> None:
    asked = LOGIN + "[containers.web]\njails = ['login']\n"
    async with daemon_of(tmp_path, WEB, settings=asked) as (daemon, _):
        lines = b"2026-11-22T10:52:40Z no 203.0.113.7\n" * 20
        chunk = Chunk(container=WEB, stream=Stream.STDOUT, data=lines, cursor=Cursor(1, 1))
        turns = 0
        async with asyncio.TaskGroup() as group:
            judging = group.create_task(daemon._deliver(chunk))
            while not judging.done():
                daemon.watch.due = True  # as the timer says when somebody has waited
                turns += 1
                await asyncio.sleep(0)
        assert turns > 20
