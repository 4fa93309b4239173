"""What the whole daemon says of itself, with twins of the Engine, the store and the kernel."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dockerjail.ban.orders import Sentence
from dockerjail.config.settings import load
from dockerjail.model import Address, Blocktype, Container, Port, Problem
from dockerjail.nft.dryrun import DryRun
from dockerjail.service.daemon import Daemon, World
from dockerjail.service.report import Report
from tests.fakes import FakeEngine, MemoryStore

pytestmark = pytest.mark.looptime

WHY = (
    "bans with blocktype=reject drop instead: this kernel cannot answer what it blocks before DNAT"
)


async def no_addresses() -> frozenset[Address]:
    return frozenset()


@contextlib.asynccontextmanager
async def running(directory: Path, *, rejects: bool, blocktype: str = "") -> AsyncIterator[Daemon]:
    """Run a daemon beside one container whose jail perhaps has a blocktype."""
    file = directory / "dockerjail.toml"
    file.write_text("")
    settings = load(file, {})
    engine, store = FakeEngine(clock=time.time), MemoryStore()
    labels = {"dockerjail.enable": "true", "dockerjail.jail.login.failregex": "^no <HOST>$"}
    if blocktype:
        labels["dockerjail.jail.login.blocktype"] = blocktype
    engine.start(
        Container(
            id="c1", name="web", service="web", labels=labels, published=frozenset({Port(80)})
        )
    )
    world = World(
        engine=engine, store=store, firewall=DryRun(rejects=rejects), addresses=no_addresses
    )
    daemon = Daemon(settings, world, await store.load(now=time.time(), findtime=3600))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as house:
        house.create_task(daemon.run(stop))
        await daemon.ready.wait()
        yield daemon
        stop.set()


def of_the_kernel(problems: list[Problem]) -> list[str]:
    return [problem.what for problem in problems if problem.place == "kernel"]


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
        assert of_the_kernel(daemon.problems()) == said
        assert sum(WHY in message for message in caplog.messages) == len(said)
        (jail,) = (await Report(daemon).status())["jails"]
        assert jail["blocktype"] == (blocktype or "drop")


async def test_a_ban_by_hand_that_cannot_answer_is_told_while_it_stands(tmp_path: Path) -> None:
    async with running(tmp_path, rejects=False) as daemon:
        order = Sentence(subject=ip_network("203.0.113.7"), bantime=60, blocktype=Blocktype.REJECT)
        await daemon.warden.ask(order)
        assert of_the_kernel(daemon.problems()) == [WHY]
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
    file = tmp_path / "dockerjail.toml"
    file.write_text(
        f"[jails.login]\nfailregex = '^no <HOST>$'\nmaxretry = 3\nusedns = '{usedns}'\n"
        "[containers.web]\njails = ['login']\n"
    )
    engine, store = FakeEngine(clock=time.time), MemoryStore()
    web = Container(id="c1", name="web", service="web", published=frozenset({Port(80)}))
    engine.start(web)
    world = World(
        engine=engine,
        store=store,
        firewall=DryRun(),
        addresses=no_addresses,
        resolve=two_addresses,
    )
    state = await store.load(now=time.time(), findtime=3600)
    daemon = Daemon(load(file, {}), world, state)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as house:
        house.create_task(daemon.run(stop))
        await daemon.ready.wait()
        for name in ("evil.test", "unknown.test") * 3:
            engine.say(web, f"no {name}")
        await asyncio.sleep(5)
        assert [str(ban.subject) for ban in daemon.warden.bans] == banned
        stop.set()
    assert ("'evil.test' of container web is a name; looked up" in caplog.text) is bool(banned)


async def test_lines_too_long_to_be_read_by_their_fields_are_told(tmp_path: Path) -> None:
    file = tmp_path / "dockerjail.toml"
    file.write_text(
        "[jails.api]\nwhere = {event = 'failed'}\naddress = 'ip'\n"
        "[containers.api]\njails = ['api']\n[containers.web]\njails = ['flask-login']\n"
    )
    engine, store = FakeEngine(clock=time.time), MemoryStore()
    both = [Container(id=name, name=name, service=name) for name in ("api", "web")]
    for each in both:
        engine.start(each)
    world = World(engine=engine, store=store, firewall=DryRun(), addresses=no_addresses)
    state = await store.load(now=time.time(), findtime=3600)
    daemon = Daemon(load(file, {}), world, state)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as house:
        house.create_task(daemon.run(stop))
        await daemon.ready.wait()
        for each in both:
            engine.say(each, '{"event":"failed","ip":"203.0.113.7","name":"%s"}' % ("x" * 70_000))
        await asyncio.sleep(5)
        told = [problem for problem in daemon.problems() if "64 KiB" in problem.what]
        assert [problem.place for problem in told] == ["container api"]
        assert told[0].what.startswith("1 lines were longer")
        stop.set()
