"""What outsiders can make the daemon remember is bounded: its rooms after many times the bound."""

import asyncio
import gc
import types
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from dockerjail.jail import jail as jail_module
from dockerjail.jail.window import ONCE
from dockerjail.model import Container, Port
from dockerjail.service import attention, ignored
from dockerjail.service import daemon as daemon_module
from dockerjail.service.attention import of_bounds, problems
from tests.fakes import MemoryStore
from tests.unit.test_daemon import daemon_of

pytestmark = pytest.mark.looptime

WEB = Container(
    id="c1",
    name="web",
    service="web",
    labels={"dockerjail.enable": "true", "dockerjail.jail.login.failregex": "^no <HOST>$"},
    published=frozenset({Port(80)}),
)


def sizes(root: object) -> Iterator[tuple[int, str]]:
    """Yield how much each dict, list and so on holds that can be reached from `root`, and a sight of it."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | types.ModuleType | types.FunctionType):
            continue
        seen.add(id(each))
        if isinstance(each, dict | set | list | deque):
            yield len(each), str(each) if len(each) > 100 else ""
        if (type(each).__module__ or "").startswith("dockerjail") or isinstance(
            each, dict | set | frozenset | list | tuple | deque
        ):
            waiting += gc.get_referents(each)


async def test_addresses_without_end_are_forgotten_and_it_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with daemon_of(tmp_path, WEB) as (daemon, engine):
        daemon.jails.room.most = 300 * ONCE
        for number in range(3000):
            engine.say(WEB, f"no {ip_address(0x0B000000 + number)}")
        await asyncio.sleep(6)
        assert daemon.jails.room.used <= 300 * ONCE
        (problem,) = of_bounds(daemon)
        assert (problem.place, problem in problems(daemon)) == ("jail login@web", True)
        assert "2700 addresses" in problem.what or "2701 addresses" in problem.what
        for _ in range(10):
            engine.say(WEB, "no 203.0.113.7")
        await asyncio.sleep(20)
        assert sum("were forgotten" in message for message in caplog.messages) == 1
        assert [str(ban.subject) for ban in daemon.warden.bans] == ["203.0.113.7/32"]
        await asyncio.sleep(attention.LATELY)
        assert not list(of_bounds(daemon))


class Forgetful(MemoryStore):
    """A store without history, which is the disk's, and bounded there."""

    async def record(self, entries: object, cursors: object, *, gone: object = ()) -> None:
        pass


async def test_containers_that_come_and_go_under_ever_new_names_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (jail_module, daemon_module):
        monkeypatch.setattr(module, "IDLE", 20)
    monkeypatch.setattr(ignored, "CONTAINERS", 50)
    async with daemon_of(tmp_path, WEB, store=Forgetful()) as (daemon, engine):
        for number in range(150):
            each = replace(
                WEB,
                id=f"x{number}",
                name=f"x{number}",
                service=f"x{number}",
                labels={
                    "dockerjail.enable": "true",
                    f"dockerjail.jail.j{number}.failregex": f"^no{number} <HOST>$",
                    "dockerjail.jails": "unknown",
                },
            )
            engine.start(each)
            await asyncio.sleep(0.3)
            engine.say(each, f"no{number} 203.0.113.{number % 200}")
            await asyncio.sleep(0.3)
            engine.stop(each)
            engine.remove(each)
            await asyncio.sleep(0.3)
        await asyncio.sleep(60)
        assert sum(1 for _ in daemon.jails) <= 21
        held = [(size, what[:300]) for size, what in sizes(daemon) if size > 100]
        assert any("are forgotten with what they counted" in message for message in caplog.messages)
        await asyncio.sleep(7200)
        assert [jail.name for jail in daemon.jails] == ["login@web"]
        assert not held


async def test_what_a_start_reads_is_not_kept(tmp_path: Path) -> None:
    async with daemon_of(tmp_path, WEB) as (daemon, _):
        assert not daemon._state.failures
        assert not daemon._state.bans
        assert not daemon._state.cursors


async def test_the_things_to_attend_to_are_told_up_to_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MOST", 5)
    wrong = [
        replace(WEB, id=f"w{n}", name=f"w{n}", labels={"dockerjail.enable": f"perhaps{n}"})
        for n in range(20)
    ]
    async with daemon_of(tmp_path, *wrong) as (daemon, _):
        found = problems(daemon)
        assert (len(found), found[-1].what) == (6, "15 more things need attention")
