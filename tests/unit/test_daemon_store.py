"""What the whole daemon does, and says, while its store cannot be read or purged."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from dockerjail.ban.orders import Sentence
from dockerjail.errors import StoreDamaged, StoreError, StoreUnavailable
from dockerjail.service import daemon as daemon_module
from dockerjail.service.control import subject
from dockerjail.service.report import Report
from tests.fakes import MemoryStore
from tests.unit.test_daemon import daemon_of

pytestmark = pytest.mark.looptime


class Failing(MemoryStore):
    """Fails as `error` says, whatever it is asked once it runs."""

    error: StoreError | None = None
    purges = 0

    async def totals(self) -> Mapping[str, tuple[int, int]]:
        if self.error:
            raise self.error
        return await super().totals()

    async def purge(self, now: float) -> int:
        self.purges += 1
        if self.error:
            raise self.error
        return await super().purge(now)


async def test_status_answers_with_the_totals_of_before_and_says_so(tmp_path: Path) -> None:
    store = Failing()
    async with daemon_of(tmp_path, store=store) as (daemon, _):
        report = Report(daemon)
        await daemon.warden.ask(Sentence(subject=subject("203.0.113.7"), bantime=60))
        assert (await report.status())["bans_total"] == 1
        store.error = StoreUnavailable("the disk reports an error", "look at it")
        status = await report.status()
        assert status["bans_total"] == 1
        assert status["banned"] == 1
        assert not status["store"]["ok"]
        assert "the disk reports an error" in status["store"]["error"]
        assert [p["place"] for p in status["problems"]] == ["store"]
        store.error = None
        assert (await report.status())["ok"]


async def test_a_purge_that_fails_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Failing()
    async with daemon_of(tmp_path, store=store) as (daemon, _):
        store.error = StoreUnavailable("another process has locked it", "end it")
        await asyncio.sleep(10 * daemon_module.PURGE_EVERY)
        assert store.purges > 5
        assert daemon.unpurged == "another process has locked it; end it"
        store.error = None
        assert not (await Report(daemon).status())["ok"]
        await asyncio.sleep(2 * daemon_module.PURGE_EVERY)
        assert (await Report(daemon).status())["ok"]
    assert sum("old history is not purged" in record.message for record in caplog.records) == 1


async def test_damage_that_a_purge_finds_ends_the_daemon(tmp_path: Path) -> None:
    store = Failing()
    with pytest.raises(ExceptionGroup) as caught:
        async with daemon_of(tmp_path, store=store):
            store.error = StoreDamaged("garbage")
            await asyncio.sleep(10 * daemon_module.PURGE_EVERY)
    assert caught.group_contains(StoreDamaged)
