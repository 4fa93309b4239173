"""What becomes of bans when somebody sets this host's clock."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from dockerjail.ban.orders import Admit, Sentence
from dockerjail.config.settings import load
from dockerjail.model import Allowance, Container, Direct, Element, Port, Subject
from dockerjail.nft.dryrun import DryRun
from dockerjail.ports import Block
from dockerjail.service.daemon import Daemon, World
from tests.fakes import FakeEngine, FakeFlows, FakeHost, MemoryStore

pytestmark = pytest.mark.looptime

BAD = ip_network("203.0.113.7")


class Clock:
    """The wall's clock, which can be set, and the kernel's, which cannot."""

    def __init__(self) -> None:
        self.steady = asyncio.get_running_loop().time
        self.ahead = 1.8e9

    def __call__(self) -> float:
        return self.steady() + self.ahead


class Timers(DryRun):
    """Ends what it blocks as the kernel does: after so many seconds, whatever the wall says."""

    def __init__(self, wall: Clock) -> None:
        super().__init__(clock=wall.steady)
        self._wall = wall

    def _timed(self, blocks: Iterable[Block]) -> list[Block]:
        return [
            each if each.until is None else replace(each, until=each.until - self._wall.ahead)
            for each in blocks
        ]

    async def replace(
        self,
        blocks: Iterable[Block],
        *,
        allow: Collection[Subject],
        direct: Collection[Direct] = (),
    ) -> None:
        await super().replace(self._timed(blocks), allow=allow, direct=direct)

    async def apply(self, *, add: Sequence[Block] = (), remove: Sequence[Element] = ()) -> None:
        await super().apply(add=self._timed(add), remove=remove)

    async def present(self) -> Mapping[Element, float | None]:
        found = await super().present()
        return {e: None if end is None else end + self._wall.ahead for e, end in found.items()}


@pytest.mark.parametrize(("step", "changed"), [(-3600.0, 0), (300.0, 1)])
async def test_a_ban_that_is_told_is_in_force_also_when_the_clock_was_set(
    tmp_path: Path, step: float, changed: int, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    file = tmp_path / "dockerjail.toml"
    file.write_text("")
    firewall, store = Timers(clock), MemoryStore()
    world = World(
        engine=FakeEngine(clock=clock),
        store=store,
        firewall=firewall,
        host=FakeHost("192.0.2.1"),
        flows=FakeFlows(),
    )
    state = await store.load(now=clock(), findtime=3600)
    daemon = Daemon(load(file, {}), world, state, clock=clock)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as house:
        house.create_task(daemon.run(stop))
        await daemon.ready.wait()
        await daemon.warden.ask(Sentence(subject=BAD, bantime=600.0))
        clock.ahead += step
        for _ in range(8):
            await asyncio.sleep(97)  # not in the very moment of its end
            assert bool(await firewall.present()) == bool(daemon.warden.bans)
        assert daemon.warden.sync.ok
        assert not daemon.warden.sync.healed  # nobody has changed the table
        stop.set()
    said = [record.message for record in caplog.records if "the clock was set" in record.message]
    assert said == [f"the clock was set by {step:+.0f} seconds: elements with a new end: {changed}"]
    assert "again" not in caplog.text


DAY = 86400.0
SETTINGS = """
[jails.login]
failregex = '^failed <HOST>$'
maxretry = 3
bantime = 600
[containers.web]
jails = ['login']
"""
WEB = Container(id="c1", name="web", service="web", published=frozenset({Port(80)}))


class House:
    """A daemon, the clock it goes by, and a container that an attacker knocks at."""

    def __init__(self, place: Path) -> None:
        self.clock = Clock()
        self.file = place / "dockerjail.toml"
        self.file.write_text(SETTINGS)
        self.store = MemoryStore()
        self.engine = FakeEngine(clock=self.clock)
        self.engine.start(WEB)
        self.daemon: Daemon

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Daemon]:
        firewall = self.firewall = Timers(self.clock)
        world = World(
            engine=self.engine,
            store=self.store,
            firewall=firewall,
            host=FakeHost("192.0.2.1"),
            flows=FakeFlows(),
        )
        state = await self.store.load(now=self.clock(), findtime=DAY)
        self.daemon = Daemon(load(self.file, {}), world, state, clock=self.clock)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as house:
            house.create_task(self.daemon.run(stop))
            await self.daemon.ready.wait()
            yield self.daemon
            stop.set()

    async def knock(self, times: int = 3) -> None:
        for _ in range(times):
            # the engine's own stamps never go back; these are what the clock says
            self.engine.say(WEB, f"failed {BAD.network_address}", at=self.clock())
            await asyncio.sleep(1)


@pytest.mark.parametrize("step", [-DAY, -7200.0, -30.0])
async def test_no_ban_lasts_longer_when_the_clock_is_set_back(tmp_path: Path, step: float) -> None:
    house = House(tmp_path)
    async with house.running() as daemon:
        await house.knock()
        assert len(daemon.warden.bans) == 1
        house.clock.ahead += step
        await asyncio.sleep(400)
        assert len(daemon.warden.bans) == 1
        assert await house.firewall.present()
        await asyncio.sleep(250)
        assert not daemon.warden.bans
        assert not await house.firewall.present()


async def test_no_ban_lasts_longer_when_the_clock_is_set_back_while_we_are_down(
    tmp_path: Path,
) -> None:
    house = House(tmp_path)
    async with house.running():
        await house.knock()
    house.clock.ahead -= DAY
    async with house.running() as daemon:
        assert len(daemon.warden.bans) == 1
        await asyncio.sleep(610)
        assert not daemon.warden.bans


async def test_who_knocks_after_the_clock_was_set_back_is_banned_as_ever(tmp_path: Path) -> None:
    house = House(tmp_path)
    async with house.running() as daemon:
        house.clock.ahead -= DAY
        await asyncio.sleep(1)
        await house.knock()
        await asyncio.sleep(40)
        (ban,) = daemon.warden.bans
        assert ban.until is not None
        assert 500 < ban.until - house.clock() <= 600


async def test_lines_of_a_time_that_has_not_come_lead_to_no_longer_ban(tmp_path: Path) -> None:
    house = House(tmp_path)
    async with house.running() as daemon:
        for number in range(3):
            house.engine.say(WEB, f"failed {BAD.network_address}", at=house.clock() + DAY + number)
        await asyncio.sleep(5)
        (ban,) = daemon.warden.bans
        assert ban.until is not None
        assert ban.until - house.clock() <= 600


async def test_a_line_of_a_time_that_has_not_come_makes_nobody_immune(tmp_path: Path) -> None:
    house = House(tmp_path)
    async with house.running() as daemon:
        # it was written before the clock was set back, and is read after that
        house.engine.say(WEB, f"failed {BAD.network_address}", at=house.clock() + DAY)
        await asyncio.sleep(1)
        await house.knock(2)
        await asyncio.sleep(40)
        (ban,) = daemon.warden.bans
        assert ban.failures == 3


async def test_nobody_is_let_pass_longer_when_the_clock_is_set_back(tmp_path: Path) -> None:
    house = House(tmp_path)
    who = ip_network("198.51.100.7")

    async def admit(daemon: Daemon) -> None:
        at = house.clock()
        allowance = Allowance(who=str(who), at=at, until=at + 600)
        await daemon.warden.ask(Admit(allowance=allowance, networks=[who]))

    async def lasts(daemon: Daemon, seconds: float) -> None:
        await asyncio.sleep(seconds - 20)
        assert daemon.warden.allowances
        await asyncio.sleep(40)
        assert not daemon.warden.allowances

    async with house.running() as daemon:
        for step in (-DAY, -30.0):
            await admit(daemon)
            house.clock.ahead += step
            await lasts(daemon, 600)
        await admit(daemon)
        await asyncio.sleep(100)
    house.clock.ahead -= DAY
    async with house.running() as daemon:
        await lasts(daemon, 600)


@pytest.mark.parametrize("step", [-DAY, -7200.0])
async def test_failures_of_before_and_after_a_step_back_count_together(
    tmp_path: Path, step: float
) -> None:
    house = House(tmp_path)
    async with house.running() as daemon:
        await house.knock(2)
        house.clock.ahead += step
        await house.knock(1)
        await asyncio.sleep(40)
        (ban,) = daemon.warden.bans
        assert ban.failures == 3


@pytest.mark.parametrize(
    ("findtime", "lookback", "counts"),
    [("10m", "", False), ("1h", "", True), ("1h", "10m", False), ("10m", "1h", False)],
)
async def test_a_container_seen_for_the_first_time_counts_back_as_far_as_its_jails(
    tmp_path: Path, findtime: str, lookback: str, *, counts: bool
) -> None:
    house = House(tmp_path)
    text = SETTINGS.replace("bantime = 600", f"bantime = 7200\nfindtime = '{findtime}'")
    house.file.write_text(text + (f"[docker]\nlookback = '{lookback}'\n" if lookback else ""))
    for age in (1900, 1800, 30):
        house.engine.say(WEB, f"failed {BAD.network_address}", at=house.clock() - age)
    async with house.running() as daemon:
        await asyncio.sleep(5)
        assert bool(daemon.warden.bans) is counts
        read = 3 if "1h" in (lookback or findtime) else 1
        assert await house.store.totals() == {"login@web": (read, int(counts))}
