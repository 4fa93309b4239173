"""After a loss of the database nobody who is banned is let in."""

import os
import time
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

from dockerjail.model import Ban, Element, Port, Scope
from dockerjail.nft.dryrun import DryRun
from dockerjail.ports import Block
from dockerjail.service.recovery import recover
from dockerjail.store.sqlite import SqliteStore

KNOWN, LOST = ip_network("203.0.113.7/32"), ip_network("2001:db8::/64")
HTTP = Port(80)


def ban(number: int, now: float) -> Ban:
    scope = Scope(ports=(HTTP,), why="published by shop-web")
    return Ban(id=number, jail="web@shop", subject=KNOWN, scope=scope, at=now, until=now + 600)


async def kernel(now: float) -> DryRun:
    """Make the packet filter that a daemon left behind."""
    firewall = DryRun()
    elements = {Element(KNOWN, HTTP): now + 600, Element(LOST, None): now + 300}
    blocks = [Block(element=element, until=until) for element, until in elements.items()]
    await firewall.replace(blocks, allow=())
    return firewall


async def test_bans_that_can_be_read_stay_and_others_come_from_the_kernel(tmp_path: Path) -> None:
    path, now = tmp_path / "state.db", time.time()
    async with SqliteStore(path, keep=86_400.0) as store:
        over = replace(ban(9, now - 900), subject=LOST)
        await store.record([ban(4, now), over], {})
    firewall = await kernel(now)
    async with SqliteStore(path, keep=86_400.0, distrust="it is damaged") as store:
        state = await recover(store, firewall, now=now, findtime=600)
        assert store.loss is None
    known, kept = state.bans
    assert known == ban(4, now)
    assert (kept.id, kept.jail, kept.subject, kept.until) == (10, "manual", LOST, now + 300)
    assert kept.scope.ports is None
    assert state.next_ban == 11
    async with SqliteStore(path, keep=86_400.0) as store:
        assert (await store.load(now=now, findtime=600)).bans == [known, kept]
        assert len((await store.history(LOST)).bans) == 2  # history was read, too


async def test_a_recovery_killed_half_way_is_done_again_and_makes_no_ban_twice(
    tmp_path: Path,
) -> None:
    path, now = tmp_path / "state.db", time.time()
    async with SqliteStore(path, keep=86_400.0) as store:
        await store.record([ban(4, now)], {})
    os.truncate(path, 0)
    firewall = await kernel(now)
    bans = []
    for _ in range(3):
        async with SqliteStore(path, keep=86_400.0) as store:
            assert store.loss is not None
            loss, lock = store.loss, store._lock
            state = await recover(store, firewall, now=now, findtime=600)
            bans.append(state.bans)
            assert lock is not None
            lock.lose(loss)  # as if it had not come so far
    assert bans[0] == bans[1] == bans[2]
    assert {each.subject for each in bans[0]} == {KNOWN, LOST}


async def test_of_two_bans_that_damage_left_for_one_jail_and_address_the_newest_stands(
    tmp_path: Path,
) -> None:
    path, now = tmp_path / "state.db", time.time()
    async with SqliteStore(path, keep=86_400.0) as store:
        older, newer = replace(ban(4, now - 60), until=None), ban(5, now)
        await store.record([older, newer], {})
    async with SqliteStore(path, keep=86_400.0, distrust="it is damaged") as store:
        state = await recover(store, await kernel(now), now=now, findtime=600)
        assert [each.id for each in state.bans if each.jail == "web@shop"] == [5]
