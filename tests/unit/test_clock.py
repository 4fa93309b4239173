"""What becomes of bans when somebody sets this host's clock."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from dockerjail.ban.orders import Sentence
from dockerjail.config.settings import load
from dockerjail.model import Direct, Element, Subject
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


@pytest.mark.parametrize("step", [-3600.0, 300.0])
async def test_a_ban_that_is_told_is_in_force_also_when_the_clock_was_set(
    tmp_path: Path, step: float
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
            await asyncio.sleep(100)
            assert bool(await firewall.present()) == bool(daemon.warden.bans)
        assert daemon.warden.sync.ok
        stop.set()
