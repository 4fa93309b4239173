"""What the warden promises, with twins of store and kernel and a clock that the test turns."""

import asyncio
import contextlib
import itertools
import logging
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from dockerjail.ban import backlog as backlog_module
from dockerjail.ban import warden as warden_module
from dockerjail.ban.adopted import adopted
from dockerjail.ban.budget import HOUSEHOLD, Budget
from dockerjail.ban.orders import Admit, Pardon, Report, Revoke, Sentence
from dockerjail.ban.sentencing import Bar
from dockerjail.ban.warden import Warden
from dockerjail.errors import (
    FirewallError,
    Refused,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
)
from dockerjail.jail.growth import Growth
from dockerjail.jail.policy import Aggregate, JailPolicy, Origin, Verify
from dockerjail.jail.rule import Rule
from dockerjail.model import (
    Allowance,
    Blocktype,
    Cause,
    Counter,
    Cursor,
    Direct,
    Element,
    Failure,
    Mode,
    Offence,
    Port,
    Scope,
    Stream,
)
from dockerjail.nft.dryrun import DryRun
from tests.fakes import FakeFlows, MemoryStore

pytestmark = pytest.mark.looptime

JAIL = "flask@web"
BAD = ip_network("203.0.113.7")
OWN = ip_network("192.0.2.1")
HTTP = Port(8080)
STREAM = ("c1", Stream.STDOUT)


class BrokenFirewall(DryRun):
    """Refuses the next changes, as a kernel out of memory does."""

    def __init__(self, *, refuses, **options):
        super().__init__(**options)
        self.refuses = refuses

    async def apply(self, **change):
        if self.refuses:
            self.refuses -= 1
            raise FirewallError("blocking: ENOMEM")
        await super().apply(**change)

    async def replace(self, *arguments, **options):
        if self.refuses:
            self.refuses -= 1
            raise FirewallError("the table: ENOMEM")
        await super().replace(*arguments, **options)


class House:
    def __init__(self, *, bantime=600.0, store=None, firewall=None, budget=None, observing=False):
        loop = asyncio.get_running_loop()
        self.ahead = 0.0
        self.clock = lambda: 1e9 + self.ahead + loop.time()
        self.store = store or MemoryStore()
        self.firewall = firewall or BrokenFirewall(refuses=0, clock=self.clock)
        self.scope = Scope(ports=(HTTP,), why="published")
        self.policy = JailPolicy(
            name="flask", origin=Origin.LABEL, rule=Rule(failregex=("x <HOST>",)), bantime=bantime
        )
        self.policies = {}
        self.ignored = {}
        self.flows = FakeFlows()
        self.warden = Warden(
            self.store,
            self.firewall,
            Bar(
                policies=self.policy_of,
                scopes=lambda jail: self.scope,
                protected=self.protected,
                excused=self.protected,
                clock=self.clock,
                flows=self.flows,
                observing=observing,
                chance=lambda: 0.5,
            ),
            budget=budget,
            local=self.local,
        )
        self.seen = 0

    def policy_of(self, jail):
        if jail.partition("@")[0] == "recidive":
            return self.policies.get(jail)
        return self.policies.get(jail, self.policy)

    def local(self, subject):
        return "it is ours" if subject.overlaps(OWN) else None

    def protected(self, subject, jail):
        return self.local(subject) or self.ignored.get(subject)

    @contextlib.asynccontextmanager
    async def running(self):
        state = await self.store.load(now=self.clock(), findtime=3600)
        await self.warden.restore(state, allow=frozenset({OWN}))
        if isinstance(self.firewall, BrokenFirewall):
            self.firewall.refuses = 0
        async with asyncio.TaskGroup() as house:
            house.create_task(self.warden.run())
            yield self
            await self.warden.close()

    async def offend(self, subject=BAD, jail=JAIL, failures=5):
        now = self.clock()
        self.seen += 1
        lines = [
            Failure(jail=jail, subject=subject, at=now, container="web", text=f"line {i}")
            for i in range(failures)
        ]
        offence = Offence(
            jail=jail,
            subject=subject,
            at=now,
            failures=failures,
            container="web",
            address=subject.network_address,
        )
        await self.warden.report(
            Report(entries=[*lines, offence], cursor=(STREAM, Cursor(self.seen, 1)))
        )
        await asyncio.sleep(0.01)

    @property
    def bans(self):
        return list(self.warden.bans)

    async def blocked(self):
        return set(await self.firewall.present())


async def test_an_offence_becomes_a_ban_a_row_and_an_element():
    async with House().running() as house:
        await house.offend()
        (ban,) = house.bans
        assert (ban.jail, ban.subject, ban.failures, ban.count) == (JAIL, BAD, 5, 1)
        assert ban.until == pytest.approx(house.clock() + 600, abs=0.1)
        assert await house.blocked() == {Element(BAD, HTTP)}
        assert len(await house.store.evidence(ban.id)) == 5
        assert (await house.store.load(now=house.clock(), findtime=3600)).cursors == {
            STREAM: Cursor(1, 1)
        }


async def test_a_ban_ends_after_bantime():
    async with House(bantime=600).running() as house:
        await house.offend()
        await asyncio.sleep(599)
        assert await house.blocked() == {Element(BAD, HTTP)}
        await asyncio.sleep(2)
        assert house.bans == []
        assert await house.blocked() == set()
        (record,) = await house.store.bans_of(JAIL)
        assert record.ended_why == "expired"


async def test_a_ban_for_good_does_not_end():
    async with House(bantime=None).running() as house:
        await house.offend()
        await asyncio.sleep(20 * 86400)
        assert len(house.bans) == 1


async def test_the_second_ban_of_a_subject_is_counted_as_such():
    async with House(bantime=60).running() as house:
        await house.offend()
        await asyncio.sleep(61)
        await house.offend()
        assert [ban.count for ban in house.bans] == [2]


async def test_offending_again_while_banned_makes_the_ban_longer_not_another():
    async with House().running() as house:
        await house.offend()
        (before,) = house.bans
        await asyncio.sleep(100)
        await house.offend()
        (after,) = house.bans
        assert after.id == before.id
        assert after.until == pytest.approx(before.until + 100, abs=1)
        assert (await house.firewall.present())[Element(BAD, HTTP)] == after.until
        await asyncio.sleep(550)
        assert len(house.bans) == 1


async def test_two_jails_one_address_one_port():
    async with House(bantime=60).running() as house:
        await house.offend(jail="a@web")
        house.policy = JailPolicy(name="b", origin=Origin.LABEL, bantime=120)
        await house.offend(jail="b@web")
        await asyncio.sleep(61)
        assert [ban.jail for ban in house.bans] == ["b@web"]
        assert await house.blocked() == {Element(BAD, HTTP)}
        await asyncio.sleep(60)
        assert await house.blocked() == set()


async def test_a_jail_that_rejects_makes_bans_that_reject_and_stay_so(caplog):
    caplog.set_level(logging.WARNING)
    house = House()
    house.policy = replace(house.policy, blocktype=Blocktype.REJECT)
    rejected = {Element(BAD, HTTP, Blocktype.REJECT)}
    async with house.running():
        await house.offend()
        assert [ban.blocktype for ban in house.bans] == [Blocktype.REJECT]
        assert await house.blocked() == rejected
        assert "Ban 203.0.113.7 from 8080/tcp by reject until" in caplog.text
        house.policy = replace(house.policy, blocktype=Blocktype.DROP)
        await house.offend()
        assert await house.blocked() == rejected
    async with House(store=house.store).running() as again:
        assert await again.blocked() == rejected
        again.scope = Scope(ports=(Port(8181),), why="published")
        await again.warden.rescope()
        await asyncio.sleep(0.01)
        assert await again.blocked() == {Element(BAD, Port(8181), Blocktype.REJECT)}


async def test_one_address_rejected_by_one_jail_and_dropped_by_another_is_both():
    async with House().running() as house:
        await house.offend(jail="a@web")
        house.policy = replace(house.policy, blocktype=Blocktype.REJECT)
        await house.offend(jail="b@web")
        dropped, rejected = Element(BAD, HTTP), Element(BAD, HTTP, Blocktype.REJECT)
        assert await house.blocked() == {dropped, rejected}
        await house.warden.ask(Pardon(subject=BAD, jail="a@web"))
        assert await house.blocked() == {rejected}


async def test_where_the_kernel_cannot_answer_a_ban_that_rejects_drops():
    firewall = DryRun(clock=lambda: 1e9 + asyncio.get_running_loop().time(), rejects=False)
    house = House(firewall=firewall)
    house.policy = replace(house.policy, blocktype=Blocktype.REJECT)
    async with house.running():
        await house.offend()
        assert await house.blocked() == {Element(BAD, HTTP)}
        assert [ban.blocktype for ban in house.bans] == [Blocktype.REJECT]
        await house.warden.verify("routine check")
        await asyncio.sleep(0.01)
        assert house.warden.sync.ok
        assert house.warden.sync.healed == 0
    async with House(store=house.store).running() as newer:
        assert await newer.blocked() == {Element(BAD, HTTP, Blocktype.REJECT)}


async def test_an_operator_can_ban_by_reject_and_change_his_mind():
    async with House().running() as house:
        order = Sentence(subject=BAD, bantime=60, blocktype=Blocktype.REJECT)
        (made,) = await house.warden.ask(order)
        assert made.blocktype is Blocktype.REJECT
        assert await house.blocked() == {Element(BAD, None, Blocktype.REJECT)}
        (again,) = await house.warden.ask(replace(order, blocktype=Blocktype.DROP))
        assert again.id == made.id
        assert await house.blocked() == {Element(BAD, None)}


async def test_an_address_of_ours_is_not_banned():
    async with House().running() as house:
        await house.offend(OWN)
        assert house.bans == []
        with pytest.raises(Refused, match="never banned: it is ours"):
            await house.warden.ask(Sentence(subject=OWN, bantime=60))
        with pytest.raises(Refused, match="it is ours"):
            await house.warden.ask(Sentence(subject=ip_network("192.0.2.0/24"), bantime=60))


async def test_nothing_to_ban_from_is_said_once_and_counts_the_failures_as_spent(caplog):
    async with House().running() as house:
        house.scope = Scope(ports=(), why="cannot ban: no port")
        await house.offend()
        await house.offend(ip_network("203.0.113.8"))
        assert house.bans == []
        assert caplog.text.count("cannot ban: no port") == 1
        assert (await house.store.load(now=house.clock(), findtime=3600)).failures == []


async def test_a_ban_that_would_be_over_already_is_not_made():
    async with House(bantime=60).running() as house:
        old = Offence(jail=JAIL, subject=BAD, at=house.clock() - 61, failures=5)
        await house.warden.report(Report(entries=[old], cursor=(STREAM, Cursor(1, 1))))
        await asyncio.sleep(1)
        assert house.bans == []


async def test_an_operator_can_ban_and_end_it():
    async with House().running() as house:
        (ban,) = await house.warden.ask(Sentence(subject=BAD, bantime=60, scope=house.scope))
        assert ban.jail == "manual"
        assert await house.blocked() == {Element(BAD, HTTP)}
        assert await house.warden.ask(Pardon(subject=BAD)) == [ban]
        assert await house.blocked() == set()
        assert await house.warden.ask(Pardon(subject=BAD)) == []


async def test_unban_of_an_address_ends_the_ban_of_its_prefix():
    async with House().running() as house:
        await house.offend(ip_network("2001:db8::/64"))
        assert await house.warden.ask(Pardon(subject=ip_network("2001:db8::7")))
        assert house.bans == []


async def test_unban_in_one_jail_leaves_the_others():
    async with House().running() as house:
        await house.offend(jail="a@web")
        await house.offend(jail="b@web")
        await house.warden.ask(Pardon(subject=BAD, jail="a"))
        assert [ban.jail for ban in house.bans] == ["b@web"]
        assert await house.blocked() == {Element(BAD, HTTP)}


async def test_a_new_port_of_the_service_takes_the_bans_along():
    async with House().running() as house:
        await house.offend()
        house.scope = Scope(ports=(Port(8181),), why="published")
        await house.warden.rescope()
        await asyncio.sleep(0.01)
        assert await house.blocked() == {Element(BAD, Port(8181))}
        (stored,) = (await house.store.load(now=house.clock(), findtime=3600)).bans
        assert stored.scope.ports == (Port(8181),)


@pytest.mark.parametrize("scope", [None, Scope(ports=(), why="gone")])
async def test_a_service_that_is_gone_keeps_its_bans(scope):
    async with House().running() as house:
        await house.offend()
        house.scope = scope
        await house.warden.rescope()
        await asyncio.sleep(0.01)
        assert await house.blocked() == {Element(BAD, HTTP)}


async def test_a_service_whose_ports_are_anothers_by_now_closes_them_no_more_until_it_is_back():
    async with House().running() as house:
        await house.offend()
        before, house.scope = house.scope, Scope(ports=(), why="another's", yields=True)
        await house.warden.rescope()
        await asyncio.sleep(0.01)
        assert await house.blocked() == set()
        assert len(house.bans) == 1
        house.scope = before
        await house.warden.rescope()
        await asyncio.sleep(0.01)
        assert await house.blocked() == {Element(BAD, HTTP)}


async def test_addresses_past_the_host_are_guarded_from_the_start():
    direct = frozenset({Direct("lan0", ip_address("192.0.2.9"))})
    first = House()
    async with first.running() as house:
        await house.warden.ground(frozenset({OWN}), direct)
    async with House(store=first.store).running() as house:
        assert house.firewall.direct == direct
        await house.warden.ground(frozenset({OWN}), frozenset())
    async with House(store=first.store).running() as house:
        assert house.firewall.direct == frozenset()


async def test_bans_come_back_after_a_restart():
    first = House()
    async with first.running() as house:
        await house.offend()
        (before,) = house.bans
    async with House(store=first.store).running() as house:
        assert house.bans == [before]
        assert await house.blocked() == {Element(BAD, HTTP)}
        await house.offend(ip_network("203.0.113.8"))
        assert len({ban.id for ban in house.bans}) == 2


async def test_a_refused_change_is_mended_by_putting_the_whole_table():
    async with House().running() as house:
        house.firewall.refuses = 1
        await house.offend()
        assert await house.blocked() == {Element(BAD, HTTP)}
        assert house.warden.sync.ok


async def test_a_kernel_that_refuses_everything_is_told_and_mended_later(caplog):
    async with House().running() as house:
        house.firewall.refuses = 3
        await house.offend()
        assert not house.warden.sync.ok
        assert "ENOMEM" in house.warden.sync.error
        assert len(house.bans) == 1
        await house.warden.verify("routine")
        await asyncio.sleep(0.01)
        assert not house.warden.sync.ok
        await house.warden.verify("routine")
        await asyncio.sleep(0.01)
        assert house.warden.sync.ok
        assert await house.blocked() == {Element(BAD, HTTP)}


async def test_a_kernel_that_refuses_each_ban_of_an_attack_is_told_once_until_it_is_well(caplog):
    async with House().running() as house:
        for _ in range(2):
            caplog.clear()
            house.firewall.refuses = 1000
            for n in range(1, 51):
                await house.offend(ip_network(f"198.51.100.{n}"))
            said = [r.message for r in caplog.records if "ENOMEM" in r.message]
            assert len(said) == 2
            assert "the kernel is not in sync" in said[1]
            house.firewall.refuses = 0
            await house.warden.verify()
            for ban in house.bans:
                await house.warden.ask(Pardon(subject=ban.subject))


async def test_an_element_that_somebody_else_removed_is_put_back():
    async with House().running() as house:
        await house.offend()
        await house.firewall.apply(remove=[Element(BAD, HTTP)])
        await house.warden.verify("element deleted")
        await asyncio.sleep(0.01)
        assert await house.blocked() == {Element(BAD, HTTP)}
        assert house.warden.sync.healed == 1


async def test_what_is_never_banned_reaches_the_kernel():
    async with House().running() as house:
        assert house.firewall.allowed == {OWN}
        await house.warden.ground(frozenset({OWN, ip_network("10.0.0.0/8")}))
        await asyncio.sleep(0.01)
        assert ip_network("10.0.0.0/8") in house.firewall.allowed
        assert house.warden.sync.healed == 0


async def test_whoever_waits_for_the_same_ground_waits_until_the_kernel_knows():
    house = House()
    await house.warden.restore(await house.store.load(now=0, findtime=1), allow=frozenset({OWN}))
    office = frozenset({OWN, ip_network("10.0.0.0/8")})
    waiting = [asyncio.create_task(house.warden.ground(office)) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(house.warden.run())
        await asyncio.wait(waiting)
        assert house.firewall.allowed == office
        await house.warden.close()


async def test_nobody_waits_for_ground_at_the_full_door_of_a_warden_that_ended():
    house = House()
    await house.warden.restore(await house.store.load(now=0, findtime=1), allow=frozenset({OWN}))
    await house.warden.close()
    for _ in range(warden_module.QUEUE - 1):
        await house.warden.rescope()
    waiting = asyncio.create_task(house.warden.ground(frozenset({OWN, BAD})))
    await asyncio.sleep(0)
    await house.warden.run()
    await asyncio.wait_for(waiting, 5)


async def test_a_ban_that_moves_to_other_ports_starts_to_count_anew():
    async with House().running() as house:
        await house.offend()
        for number in range(9000, 9100):
            await house.warden.count(house.bans)
            house.scope = Scope(ports=(Port(number),), why="published")
            await house.warden.rescope()
            await asyncio.sleep(0.01)
        await house.warden.count(house.bans)
        (ban,) = house.bans
        gone = Element(BAD, Port(9000))
        assert house.warden.tally.of(house.warden.elements_of(ban)) == Counter(0, 0)
        assert house.warden.tally.of([gone]) is None


async def test_cursors_that_nothing_came_of_are_written_when_nothing_waits():
    async with House().running() as house:
        house.warden.note(STREAM, Cursor(7, 1))
        await house.warden.flush()
        await asyncio.sleep(0.01)
        assert (await house.store.load(now=0, findtime=1)).cursors == {STREAM: Cursor(7, 1)}
        house.warden.forget("c1")
        await house.warden.flush()
        await asyncio.sleep(0.01)
        assert (await house.store.load(now=0, findtime=1)).cursors == {}


async def test_a_noted_cursor_never_overtakes_a_report_that_waits():
    async with House().running() as house:
        offence = Offence(jail=JAIL, subject=BAD, at=house.clock(), failures=5)
        await house.warden.report(Report(entries=[offence], cursor=(STREAM, Cursor(5, 1))))
        house.warden.note(STREAM, Cursor(6, 1))
        written = []
        record = house.store.record

        async def watched(entries, cursors, *, gone=()):
            written.append((bool(entries), dict(cursors)))
            await record(entries, cursors, gone=gone)

        house.store.record = watched
        await asyncio.sleep(0.01)
        assert written == [(True, {STREAM: Cursor(6, 1)})]


async def test_orders_in_hand_are_carried_out_before_the_end():
    house = House()
    async with house.running():
        await house.offend()
        offence = Offence(
            jail=JAIL, subject=ip_network("203.0.113.9"), at=house.clock(), failures=5
        )
        await house.warden.report(Report(entries=[offence], cursor=(STREAM, Cursor(9, 1))))
    assert len(house.bans) == 2


async def test_a_store_that_fails_brings_the_house_down():
    class Full(MemoryStore):
        async def record(self, *arguments, **options):
            raise StoreError("disk full")

    with pytest.raises(ExceptionGroup) as caught:
        async with House(store=Full()).running() as house:
            await house.offend()
    assert caught.group_contains(StoreError)


async def test_a_cursor_never_goes_back(monkeypatch):
    monkeypatch.setattr(warden_module, "BATCH", 1)
    async with House().running() as house:
        house.warden.note(STREAM, Cursor(1, 1))
        failure = Failure(jail=JAIL, subject=BAD, at=house.clock(), container="web", text="x")
        other = ("c2", Stream.STDOUT)
        for stream, cursor in ((STREAM, Cursor(2, 1)), (other, Cursor(3, 1))):
            await house.warden.report(Report(entries=[failure], cursor=(stream, cursor)))
        await asyncio.sleep(0.01)
        cursors = (await house.store.load(now=0, findtime=1)).cursors
        assert cursors == {STREAM: Cursor(2, 1), other: Cursor(3, 1)}


@pytest.mark.parametrize("read", [Cursor(9, 1), Cursor(900, 1)])
async def test_a_cursor_is_of_the_line_read_last_whatever_the_clock_says(read):
    async with House().running() as house:
        failure = Failure(jail=JAIL, subject=BAD, at=house.clock(), container="web", text="x")
        house.warden.note(STREAM, Cursor(500, 1))
        await house.warden.report(Report(entries=[failure], cursor=(STREAM, read)))
        await asyncio.sleep(0.01)
        assert (await house.store.load(now=0, findtime=1)).cursors == {STREAM: read}
        await house.warden.report(Report(entries=[failure], cursor=(STREAM, Cursor(500, 1))))
        house.warden.note(STREAM, read)
        await asyncio.sleep(0.01)
        assert (await house.store.load(now=0, findtime=1)).cursors == {STREAM: read}


async def test_of_a_container_that_is_gone_no_cursor_stays_behind(monkeypatch):
    monkeypatch.setattr(warden_module, "BATCH", 1)
    async with House().running() as house:
        for number in range(3):
            failure = Failure(jail=JAIL, subject=BAD, at=house.clock(), container="web", text="x")
            cursor = (STREAM, Cursor(number + 1, 1))
            await house.warden.report(Report(entries=[failure], cursor=cursor))
        house.warden.forget("c1")
        await asyncio.sleep(0.01)
        assert (await house.store.load(now=0, findtime=1)).cursors == {}


async def test_whoever_asks_a_warden_that_has_ended_is_refused():
    async with House().running() as house:
        pass
    with pytest.raises(Refused, match="stopping"):
        await house.warden.ask(Pardon(subject=BAD))


async def test_orders_in_hand_are_carried_out_and_answered_when_the_store_fails():
    class Broken(MemoryStore):
        async def record(self, *arguments, **options):
            raise StoreDamaged("garbage")

    house = House(store=Broken())
    await house.warden.restore(await house.store.load(now=0, findtime=1), allow=frozenset())
    sentences = [
        asyncio.create_task(
            house.warden.ask(Sentence(subject=ip_network(f"203.0.113.{n}"), bantime=60))
        )
        for n in range(3)
    ]
    with pytest.raises(StoreDamaged):
        await house.warden.run()
    assert [len(await sentence) for sentence in sentences] == [1, 1, 1]
    assert len(await house.blocked()) == 3
    assert house.warden.backlog.behind
    with pytest.raises(Refused, match="stopping"):
        await house.warden.ask(Pardon(subject=BAD))


async def test_an_idle_warden_ends_when_the_store_turns_out_damaged():
    class Damaged(MemoryStore):
        async def record(self, *arguments, **options):
            await asyncio.sleep(3)  # longer than a ban waits
            raise StoreDamaged("garbage")

    with pytest.raises(ExceptionGroup) as caught:
        async with House(store=Damaged()).running() as house:
            await house.offend()
            await asyncio.sleep(60)
    assert caught.group_contains(StoreDamaged)


# The store is away


class Moody(MemoryStore):
    """Refuses to write while `full` says why, to read while `mute` does; `slow` is seconds per write."""

    def __init__(self):
        super().__init__()
        self.full = self.mute = ""
        self.slow = 0.0
        self.written = []

    async def record(self, entries, cursors, *, gone=()):
        await asyncio.sleep(self.slow)
        if self.full:
            raise StoreUnavailable(self.full, "make room")
        self.written.append((list(entries), dict(cursors)))
        await super().record(entries, cursors, gone=gone)

    async def bans_against(self, *arguments, **options):
        if self.mute:
            raise StoreUnavailable(self.mute)
        return await super().bans_against(*arguments, **options)


async def test_a_full_disk_delays_no_ban_and_all_is_written_once_there_is_room(caplog):
    house = House(store=Moody())
    async with house.running():
        await house.offend()
        house.store.full = "the disk is full"
        for n in range(50):
            await house.offend(ip_network(f"198.51.100.{n}"))
        assert len(await house.blocked()) == len(house.bans) == 51
        assert await house.store.totals() == {JAIL: (5, 1)}
        (problem,) = house.warden.backlog.problems()
        assert problem.place == "store"
        assert problem.what.startswith("the disk is full: since 2001-")
        assert "nothing can be written, 350 rows wait; bans are enforced" in problem.what
        assert problem.remedy == "make room"
        house.store.full = ""
        await asyncio.sleep(30)
        assert list(house.warden.backlog.problems()) == []
        assert house.warden.backlog.rows == 0
        assert await house.store.totals() == {JAIL: (255, 51)}
        state = await house.store.load(now=house.clock(), findtime=3600)
        assert state.cursors == {STREAM: Cursor(51, 1)}
        assert {ban.subject for ban in state.bans} == {ban.subject for ban in house.bans}
        assert all([len(await house.store.evidence(ban.id)) == 5 for ban in state.bans])
    said = [r.message for r in caplog.records if "store" in r.message]
    assert len(said) == 2
    assert said[0].startswith("store: the disk is full; make room; bans are enforced")
    assert "works again after" in said[1]


async def test_a_cursor_is_never_written_before_the_rows_behind_it(monkeypatch):
    monkeypatch.setattr(backlog_module, "ROWS", 10)
    house = House(store=Moody())
    async with house.running():
        house.store.full = "the disk is full"
        for n in range(20):
            await house.offend(ip_network(f"198.51.100.{n}"))
        house.store.full = ""
        await asyncio.sleep(60)
    done = 0
    assert len(house.store.written) > 5
    for entries, cursors in house.store.written:
        done += sum(isinstance(entry, Failure) for entry in entries)
        assert cursors == {STREAM: Cursor(done // 5, 1)}
    assert done == 100


async def test_a_store_that_does_not_answer_delays_no_ban_and_is_told_of(caplog):
    house = House(store=Moody())
    async with house.running():
        house.store.slow = 120.0
        await house.offend()
        await asyncio.sleep(backlog_module.PATIENCE)
        assert await house.blocked() == {Element(BAD, HTTP)}
        await house.offend(ip_network("198.51.100.1"))
        assert len(await house.blocked()) == 2  # and the next ones not even that long
        assert list(house.warden.backlog.problems()) == []
        await asyncio.sleep(backlog_module.SLOW)
        (problem,) = house.warden.backlog.problems()
        assert problem.what.startswith("the store does not answer: since 2001-")
        silent = house.clock() - (house.warden.backlog.since or 0)
        assert (
            silent > backlog_module.SLOW
        )  # from the first row that waits, not from when it is told
        await asyncio.sleep(300)
        assert list(house.warden.backlog.problems()) == []
        assert await house.store.totals() == {JAIL: (10, 2)}
        house.store.slow = 0


async def test_lines_wait_when_too_much_is_unwritten(monkeypatch):
    monkeypatch.setattr(backlog_module, "MOST", 100)
    house = House(store=Moody())
    async with house.running():
        house.store.full = "the disk is full"
        sending = asyncio.create_task(
            forever(lambda n: house.offend(ip_network(f"198.51.100.{n % 250}")))
        )
        await asyncio.sleep(60)
        held = house.warden.backlog.rows
        assert 100 <= held < 120
        (problem,) = house.warden.backlog.problems()
        assert "no more lines are judged until they are written" in problem.what
        # operators are no lines
        assert await house.warden.ask(Sentence(subject=BAD, bantime=60))
        assert Element(BAD, None) in await house.blocked()
        house.store.full = ""
        await asyncio.sleep(60)
        assert house.warden.backlog.rows < 100
        assert (await house.store.totals())[JAIL][0] > 100
        sending.cancel()


async def forever(run):
    n = 0
    while True:
        await run(n)
        await asyncio.sleep(1)
        n += 1


async def test_a_ban_that_moves_again_and_again_while_nothing_is_written_fills_no_memory():
    house = House(store=Moody(), bantime=None)
    async with house.running():
        house.store.full = "the disk is full"
        for n in range(10):
            await house.offend(ip_network(f"198.51.100.{n}"))
        before = house.warden.backlog.rows
        for n in range(100):
            house.scope = Scope(ports=(Port(9000 + n),), why="published")
            await house.warden.rescope()
            await asyncio.sleep(1)
        assert house.warden.backlog.rows <= before + 40  # what an attempt had in hand is kept apart
        house.store.full = ""
        await asyncio.sleep(60)
        state = await house.store.load(now=house.clock(), findtime=3600)
        assert {ban.scope.ports for ban in state.bans} == {(Port(9099),)}


async def test_bans_that_are_not_written_yet_count_for_longer_bans_and_recidive():
    house = House(store=Moody(), bantime=60)
    house.policy = replace(house.policy, growth=Growth())
    house.policies["recidive@web"] = replace(
        house.policy, name="recidive", recidive=True, maxretry=3, findtime=3600, growth=None
    )
    async with house.running():
        house.store.full = house.store.mute = "the disk is full"
        for wait in 61, 121, 0:
            await house.offend()
            await asyncio.sleep(wait)
        assert sorted((ban.jail, ban.count) for ban in house.bans) == [
            (JAIL, 3),
            ("recidive@web", 1),
        ]
        house.store.full = house.store.mute = ""
        await asyncio.sleep(30)
        assert len(await house.store.bans_against(BAD, since=0)) == 4


async def test_history_is_asked_again_soon_also_when_the_clock_is_set_back():
    house = House(store=Moody(), bantime=60)
    house.policy = replace(house.policy, growth=Growth())
    async with house.running():
        await house.offend()
        await asyncio.sleep(61)
        house.store.mute = "the disk is broken"
        await house.offend(subject=ip_network("203.0.113.8"))
        house.store.mute = ""
        house.ahead = -86400.0
        await asyncio.sleep(10)
        await house.offend()
        assert [ban.count for ban in house.bans if ban.subject == BAD] == [2]


async def test_who_cannot_be_looked_up_is_banned_all_the_same(caplog):
    house = House(store=Moody(), bantime=60)
    house.policy = replace(house.policy, growth=Growth())
    async with house.running():
        await house.offend()
        await asyncio.sleep(61)
        house.store.mute = "the disk reports an error"
        await house.offend()
        (ban,) = house.bans
        assert ban.until == pytest.approx(house.clock() + 60, abs=1)
        (problem,) = house.warden.backlog.problems()
        assert "earlier bans cannot be read, so none makes a ban longer: the disk" in problem.what
        house.store.mute = ""
        await asyncio.sleep(61)
        await house.offend()
        (ban,) = house.bans
        assert ban.until > house.clock() + 200
        assert list(house.warden.backlog.problems()) == []
    assert sum("earlier bans cannot be read" in r.message for r in caplog.records) == 1


async def test_an_operators_order_is_carried_out_although_nothing_can_be_written():
    house = House(store=Moody())
    async with house.running():
        await house.offend()
        house.store.full = "the disk is full"
        await house.warden.ask(Sentence(subject=ip_network("198.51.100.1"), bantime=60))
        assert house.warden.backlog.behind
        await house.warden.ask(Pardon(subject=BAD))
        assert {each.subject for each in await house.blocked()} == {ip_network("198.51.100.1")}
        office = Allowance(who="198.51.100.9", at=house.clock(), until=None)
        await house.warden.ask(Admit(allowance=office, networks=[ip_network("198.51.100.9")]))
        house.store.full = ""
        await asyncio.sleep(30)
        assert not house.warden.backlog.behind
        state = await house.store.load(now=house.clock(), findtime=3600)
        assert [ban.subject for ban in state.bans] == [ip_network("198.51.100.1")] * (
            house.clock() < state.bans[0].until
        )
        assert state.allowances == [office]


async def test_a_stop_with_a_store_that_still_refuses_says_what_is_lost():
    house = House(store=Moody())
    with pytest.raises(ExceptionGroup) as caught:
        async with house.running():
            house.store.full = "the disk is full"
            await house.offend()
            await house.warden.ask(Sentence(subject=ip_network("198.51.100.1"), bantime=60))
    (error,) = caught.value.exceptions
    assert str(error) == (
        "the disk is full: 8 rows could not be written; what came from logs is read from there "
        "again at the next start, lost are the orders: ban 198.51.100.1; make room"
    )
    # nothing of it is in the store, so that the next start counts it once
    assert await house.store.totals() == {}
    assert (await house.store.load(now=0, findtime=1)).cursors == {}


async def test_a_stop_tries_once_more_before_it_gives_up():
    house = House(store=Moody())
    async with house.running():
        house.store.full = "the disk is full"
        await house.offend()
        await asyncio.sleep(300)
        house.store.full = ""
    assert await house.store.totals() == {JAIL: (5, 1)}


async def test_a_stop_does_not_wait_for_ever_for_a_store_that_does_not_answer():
    house = House(store=Moody())
    with pytest.raises(ExceptionGroup) as caught:
        async with house.running():
            house.store.slow = 1e6
            await house.offend()
    assert caught.group_contains(StoreError, match="the store does not answer: 7 rows could not")


async def test_a_proxy_that_goes_does_not_make_a_ban_wider():
    async with House().running() as house:
        await house.offend()
        house.scope = Scope(ports=None, why="neither the service nor its proxy publishes a port")
        await house.warden.rescope()
        await asyncio.sleep(0.01)
        assert await house.blocked() == {Element(BAD, HTTP)}


async def test_who_is_in_ignoreip_by_now_is_let_in():
    async with House().running() as house:
        await house.offend()
        house.ignored[BAD] = "it is in ignoreip"
        await house.warden.rescope()
        await asyncio.sleep(0.01)
        assert house.bans == []
        (record,) = await house.store.bans_of(JAIL)
        assert record.ended_why == "ignored"


async def test_a_ban_by_hand_stays_whatever_a_jail_ignores():
    async with House().running() as house:
        await house.warden.ask(Sentence(subject=BAD, bantime=60))
        house.ignored[BAD] = "it is in ignoreip"
        await house.warden.rescope()
        await asyncio.sleep(0.01)
        assert len(house.bans) == 1


async def test_prolonging_a_ban_for_ever_costs_no_memory():
    async with House().running() as house:
        for _ in range(1500):
            await house.offend(failures=0)
        assert len(house.warden._register._ends) < 600
        await asyncio.sleep(700)
        assert house.bans == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7/32", "203.0.113.0/24", True),
        ("203.0.113.0/24", "203.0.113.7/32", True),
        ("203.0.113.7/32", "203.0.113.8/32", False),
        ("0.0.0.0/0", "203.0.113.8/32", True),
        ("0.0.0.0/0", "2001:db8::/64", False),
        ("2001:db8::/64", "2001:db8::7/128", True),
        ("2001:db8:0:1::/64", "2001:db8::7/128", False),
    ],
)
def test_networks_overlap_when_one_contains_the_other(one, other, same):
    assert warden_module._overlap(ip_network(one), ip_network(other)) is same


# ---- how long


async def test_bans_grow_with_each_and_the_count_decays():
    house = House(bantime=60)
    growth = Growth(maxtime=1000, decay=3600)
    house.policy = replace(house.policy, growth=growth)
    async with house.running():
        lasted = []
        for _ in range(6):
            await house.offend()
            (ban,) = house.bans
            lasted.append(round(ban.until - ban.at))
            await asyncio.sleep(ban.until - ban.at + 1)
        assert lasted == [60, 120, 240, 480, 960, 1000]
        await asyncio.sleep(3600)
        await house.offend()
        (ban,) = house.bans
        assert (round(ban.until - ban.at), ban.count) == (60, 7)


async def test_bans_of_other_jails_make_a_ban_longer_only_with_overalljails():
    for overall, expected in ((False, 60), (True, 120)):
        house = House(bantime=60)
        house.policy = replace(house.policy, growth=Growth(overalljails=overall))
        async with house.running():
            await house.offend(jail="a@web")
            await asyncio.sleep(61)
            await house.offend(jail="b@web")
            (ban,) = house.bans
            assert round(ban.until - ban.at) == expected


async def test_a_ban_for_good_does_not_grow():
    house = House(bantime=None)
    house.policy = replace(house.policy, growth=Growth(maxtime=10))
    async with house.running():
        await house.offend()
        assert house.bans[0].until is None


# ---- recidive


def recidive(origin=Origin.SHIPPED, maxretry=3, **options):
    return JailPolicy(
        name="recidive", origin=origin, recidive=True, maxretry=maxretry, findtime=86400,
        bantime=604800, **options,
    )  # fmt: skip


async def again(house, times, jail=JAIL):
    """Offend so often, each time after the ban is over."""
    for _ in range(times):
        await house.offend(jail=jail)
        await asyncio.sleep(house.policy.bantime + 1)


async def test_whom_a_services_jails_ban_again_and_again_its_recidive_bans_from_its_ports():
    house = House(bantime=60)
    house.policies["recidive@web"] = recidive()
    async with house.running():
        await again(house, 2)
        await again(house, 5, jail="flask@other")
        assert house.bans == []
        await again(house, 1)
        (ban,) = house.bans
        assert (ban.jail, ban.cause, ban.failures) == ("recidive@web", Cause.BANS, 3)
        assert ban.reason == "banned 3 times"
        assert await house.blocked() == {Element(BAD, HTTP)}


async def test_each_ban_counts_once_in_recidive():
    house = House(bantime=60)
    house.policies["recidive@web"] = replace(recidive(), bantime=100.0)
    async with house.running():
        await again(house, 3)
        await asyncio.sleep(200)
        await again(house, 2)
        assert [ban.jail for ban in house.bans] == []
        await again(house, 1)
        assert [ban.jail for ban in house.bans] == ["recidive@web"]


async def test_bans_older_than_findtime_do_not_count_in_recidive():
    house = House(bantime=60)
    house.policies["recidive@web"] = replace(recidive(), findtime=150.0)
    async with house.running():
        await again(house, 2)
        await asyncio.sleep(60)
        await again(house, 1)
        assert house.bans == []


async def test_the_hosts_recidive_counts_the_daemons_own_jails_and_closes_everything():
    house = House(bantime=60)
    house.policy = replace(house.policy, origin=Origin.DAEMON)
    house.policies["recidive"] = recidive(Origin.DAEMON)
    async with house.running():
        await again(house, 2, jail="a@web")
        await again(house, 1, jail="b@shop")
        (ban,) = house.bans
        assert (ban.jail, ban.scope.ports) == ("recidive", None)


async def test_bans_of_labels_jails_count_only_within_their_service_for_the_hosts_recidive():
    house = House(bantime=60)
    house.policies["recidive"] = recidive(Origin.DAEMON)
    house.policies["recidive@web"] = house.policies["recidive@evil"] = recidive()
    async with house.running():
        await again(house, 9, jail="made-up@evil")
        assert {ban.jail for ban in house.bans} == {"recidive@evil"}
        await again(house, 2, jail="a@web")
        assert {ban.jail for ban in house.bans} == {"recidive@evil"}
        await again(house, 1, jail="b@web")
        assert {ban.jail for ban in house.bans} == {"recidive@evil", "recidive@web"}


async def test_bans_that_another_container_may_have_made_up_make_none_longer():
    house = House(bantime=60)
    house.policy = replace(house.policy, growth=Growth(overalljails=True))
    async with house.running():
        await again(house, 1, jail="made-up@evil")
        await house.offend(jail="a@web")
        (ban,) = house.bans
        assert round(ban.until - ban.at) == 60


async def test_bans_by_hand_and_longer_bans_do_not_count_in_recidive():
    house = House(bantime=60)
    house.policies["recidive@web"] = recidive()
    async with house.running():
        await house.offend()
        await house.offend()
        await house.offend()
        for _ in range(3):
            await house.warden.ask(Sentence(subject=BAD, bantime=1))
            await asyncio.sleep(2)
        assert {ban.jail for ban in house.bans} == {JAIL}


async def test_recidive_survives_a_restart():
    house = House(bantime=60)
    async with house.running():
        await again(house, 2)
    later = House(bantime=60, store=house.store)
    later.policies["recidive@web"] = recidive()
    async with later.running():
        await again(later, 1)
        assert [ban.jail for ban in later.bans] == ["recidive@web"]


# ---- aggregation


async def test_when_enough_of_a_network_is_banned_the_network_is():
    house = House()
    house.policy = replace(house.policy, aggregate=Aggregate(addresses=3, time=3600))
    async with house.running():
        for last in (1, 2, 2, 3):
            await house.offend(ip_network(f"203.0.113.{last}"))
        network = ip_network("203.0.113.0/24")
        (wide,) = [ban for ban in house.bans if ban.subject == network]
        assert (wide.jail, wide.cause, wide.failures) == (JAIL, Cause.NEIGHBOURS, 3)
        assert Element(network, HTTP) in await house.blocked()


async def test_bans_of_before_and_after_a_step_back_of_the_clock_count_towards_their_network():
    house = House()
    house.policy = replace(house.policy, aggregate=Aggregate(addresses=3, time=3600))
    async with house.running():
        await house.offend(ip_network("203.0.113.1"))
        await house.offend(ip_network("203.0.113.2"))
        await asyncio.sleep(20)
        house.ahead -= 86400
        await house.warden.set_back(86400)
        await house.offend(ip_network("203.0.113.3"))
        assert ip_network("203.0.113.0/24") in {ban.subject for ban in house.bans}


async def test_a_ban_stands_for_as_long_as_it_does_when_the_clock_is_set_back():
    async with House(bantime=1e6).running() as house:
        await house.offend()
        await asyncio.sleep(20)
        house.ahead -= 86400
        await house.offend(ip_network("203.0.113.9"))
        await house.warden.set_back(86400)
        await asyncio.sleep(1)
        for ban, age in zip(house.bans, (21, 1), strict=True):
            _, since = house.warden.enforced(ban.key)
            assert house.clock() - since == pytest.approx(age, abs=0.1)


async def test_bans_of_before_a_restart_count_towards_their_network():
    first = House(bantime=3600)
    async with first.running():
        for last in (1, 2):
            await first.offend(ip_network(f"203.0.113.{last}"))
    house = House(bantime=3600, store=first.store)
    house.policy = replace(house.policy, aggregate=Aggregate(addresses=3, time=3600))
    async with house.running():
        await house.offend(ip_network("203.0.113.3"))
        assert ip_network("203.0.113.0/24") in {ban.subject for ban in house.bans}


async def test_a_jail_that_verifies_cannot_where_packets_go_past_the_host(caplog):
    house = House()
    house.policy = replace(house.policy, verify=Verify.CONNTRACK)
    house.scope = Scope(ports=(), addresses=(ip_address("192.0.2.9"),), why="macvlan")
    async with house.running():
        await house.offend()
        assert house.bans == []
        assert "go past this host" in house.warden.sentencing.flows_error


async def test_a_network_with_somebody_ignored_in_it_is_not_banned_whole():
    house = House()
    house.policy = replace(house.policy, aggregate=Aggregate(addresses=2, time=3600))
    house.ignored[ip_network("203.0.113.0/24")] = "it contains the office"
    async with house.running():
        for last in (1, 2):
            await house.offend(ip_network(f"203.0.113.{last}"))
        assert len(house.bans) == 2


# ---- a dry run


async def test_a_jail_that_observes_records_bans_and_blocks_nobody(caplog):
    caplog.set_level(logging.WARNING)
    house = House(bantime=60)
    house.policy = replace(house.policy, mode=Mode.OBSERVE)
    async with house.running():
        await house.offend()
        (ban,) = house.bans
        assert ban.mode is Mode.OBSERVE
        assert await house.blocked() == set()
        assert house.warden.enforced(ban.key) is None
        assert "[flask@web] Observe, would ban 203.0.113.7" in caplog.text
        assert "] Ban " not in caplog.text
        await asyncio.sleep(61)
        assert house.bans == []
        assert "Unban 203.0.113.7 (only observed)" in caplog.text
    (record,) = await house.store.bans_of(JAIL)
    assert record.ban.mode is Mode.OBSERVE


async def test_a_jail_that_enforces_again_bans_at_the_next_offence():
    house = House()
    house.policy = replace(house.policy, mode=Mode.OBSERVE)
    async with house.running():
        await house.offend()
        (observed,) = house.bans
        house.policy = replace(house.policy, mode=Mode.ENFORCE)
        await house.offend()
        (ban,) = house.bans
        assert (ban.id, ban.mode) == (observed.id, Mode.ENFORCE)
        assert await house.blocked() == {Element(BAD, HTTP)}
        house.policy = replace(house.policy, mode=Mode.OBSERVE)
        await house.offend()
        assert house.bans == [ban]
        assert await house.blocked() == {Element(BAD, HTTP)}


async def test_a_daemon_that_observes_blocks_nobody_and_forgets_nothing():
    first = House(bantime=3600)
    async with first.running():
        await first.offend()
    dry = House(bantime=3600, store=first.store, observing=True)
    async with dry.running():
        await dry.offend(ip_network("203.0.113.8"))
        await dry.warden.ask(Sentence(subject=ip_network("203.0.113.9"), bantime=3600))
        await asyncio.sleep(60)
        await dry.offend()  # longer now
        dry.scope = Scope(ports=(Port(8181),), why="published")
        await dry.warden.rescope()
        await asyncio.sleep(0.01)
        assert [ban.mode for ban in dry.bans] == [Mode.OBSERVE] * 3
        assert await dry.blocked() == set()
    again = House(bantime=3600, store=first.store)
    async with again.running():
        assert await again.blocked() == {Element(BAD, Port(8181))}


async def test_bans_that_were_only_observed_do_not_count_in_a_recidive_that_enforces():
    house = House(bantime=60)
    house.policy = replace(house.policy, mode=Mode.OBSERVE)
    house.policies["recidive@web"] = recidive()
    async with house.running():
        await again(house, 3)
        assert house.bans == []
        house.policies["recidive@web"] = recidive(mode=Mode.OBSERVE)
        await again(house, 1)
        assert [(ban.jail, ban.mode) for ban in house.bans] == [("recidive@web", Mode.OBSERVE)]


@pytest.mark.parametrize("noticed", [True, False], ids=["while it runs", "while it is down"])
@pytest.mark.parametrize("step", [-86400.0, -864000.0])
async def test_bans_of_before_the_clock_was_set_back_count_in_recidive_for_its_findtime(
    step, noticed
):
    async def begin(wait, store):
        """Ban twice, set the clock back, wait, and offend once more."""
        house = House(bantime=60, store=store)
        house.policies["recidive@web"] = replace(recidive(), findtime=7200.0, bantime=100.0)
        async with house.running():
            await again(house, 2)
            house.ahead += step
            if noticed:
                await house.warden.set_back(-step)
                await asyncio.sleep(wait)
                await house.offend()
                return sorted(ban.jail for ban in house.bans)
        later = House(bantime=60, store=store)
        later.policies, later.ahead = house.policies, house.ahead
        async with later.running():
            await asyncio.sleep(wait)
            await later.offend()
            return sorted(ban.jail for ban in later.bans)

    assert await begin(60, MemoryStore()) == [JAIL, "recidive@web"]
    assert await begin(7201, MemoryStore()) == [JAIL]


async def test_recidive_of_before_the_clock_was_set_back_hides_no_later_bans():
    house = House(bantime=60)
    house.policies["recidive@web"] = replace(recidive(), findtime=7200.0, bantime=100.0)
    async with house.running():
        await again(house, 3)
        await asyncio.sleep(200)
        house.ahead -= 86400
        await house.warden.set_back(86400)
        await again(house, 2)
        assert house.bans == []
        await again(house, 1)
        assert [ban.jail for ban in house.bans] == ["recidive@web"]


async def test_a_ban_grows_with_those_of_before_the_clock_was_set_back_until_they_decay():
    for wait, expected in ((0, 240), (7201, 60)):
        house = House(bantime=60)
        house.policy = replace(house.policy, growth=Growth(decay=7200.0))
        async with house.running():
            for _ in range(2):
                await house.offend()
                await asyncio.sleep(130)
            house.ahead -= 86400
            await house.warden.set_back(86400)
            await asyncio.sleep(wait)
            await house.offend()
            (ban,) = house.bans
            assert round(ban.until - ban.at) == expected


# ---- against abuse of the log


async def test_a_container_beyond_its_budget_is_only_observed(caplog):
    caplog.set_level(logging.ERROR)
    async with House(budget=Budget(per_minute=3)).running() as house:
        for last in range(1, 7):
            await house.offend(ip_network(f"203.0.113.{last}"))
        modes = [ban.mode for ban in sorted(house.bans, key=lambda ban: ban.id)]
        assert modes == [Mode.ENFORCE] * 3 + [Mode.OBSERVE] * 3
        assert len(await house.blocked()) == 3
        assert caplog.text.count("bans more than its budget") == 1
        assert house.warden.over_budget("web") is not None
        await asyncio.sleep(601)
        assert house.warden.over_budget("web") is None


@pytest.mark.parametrize("step", [-86400.0, 86400.0])
async def test_a_budget_is_one_of_time_whatever_becomes_of_the_clock(step):
    async with House(budget=Budget(per_minute=3), bantime=1e6).running() as house:
        for last in range(1, 7):
            await house.offend(ip_network(f"203.0.113.{last}"))
        await asyncio.sleep(5)
        house.ahead += step
        since = house.warden.over_budget("web")
        assert since == pytest.approx(house.clock() - 5, abs=0.1)
        await house.offend(ip_network("203.0.113.9"))
        assert house.bans[-1].mode is Mode.OBSERVE
        await asyncio.sleep(601)
        assert house.warden.over_budget("web") is None


async def test_a_log_that_makes_up_attackers_fills_no_memory(caplog):
    async with House(budget=Budget(per_minute=3, active=10)).running() as house:
        for last in range(1, 41):
            await house.offend(ip_network(f"203.0.113.{last}"), failures=1)
        assert len(await house.blocked()) == 3
        assert len(house.bans) == 3 + 10
        assert caplog.text.count("no more are until some end") == 1
        await asyncio.sleep(601)
        assert house.bans == []
        await house.offend()
        assert [ban.mode for ban in house.bans] == [Mode.ENFORCE]


async def test_one_household_cannot_trip_the_budget_with_its_many_networks():
    async with House(budget=Budget(per_minute=3, active=3)).running() as house:
        for number in range(20):
            await house.offend(ip_network(f"2001:db8:1:{number:x}::/64"))
        assert {ban.mode for ban in house.bans} == {Mode.ENFORCE}
        assert house.warden.standing("web") == 1
        await house.warden.ask(Pardon(subject=ip_network("2001:db8:1::/48")))
        assert house.warden.standing("web") == 0
        for number in range(4):
            await house.offend(ip_network(f"2001:db8:2{number}::/64"))
        assert sorted(ban.mode for ban in house.bans) == [Mode.ENFORCE] * 2 + [Mode.OBSERVE] * 2


async def test_a_jail_that_verifies_bans_only_who_has_a_connection(caplog):
    house = House()
    house.policy = replace(house.policy, verify=Verify.CONNTRACK)
    async with house.running():
        await house.offend()
        assert house.bans == []
        assert house.warden.sentencing.unverified == {JAIL: 1}
        assert "knows of no connection from 203.0.113.7 to 8080/tcp" in caplog.text
        house.flows.known.add((BAD.network_address, HTTP))
        house.flows.away = "conntrack is not there"
        await house.offend()
        assert house.bans == []
        assert house.warden.sentencing.flows_error == "conntrack is not there"
        house.flows.away = ""
        await house.offend()
        assert len(house.bans) == 1
        assert house.warden.sentencing.flows_error == ""


# ---- who is let pass


def allowance(who="203.0.113.0/24", until=None):
    return Allowance(who=who, at=1e9, until=until, comment="office")


async def test_who_is_let_pass_is_let_in_at_once_and_remembered():
    house = House()
    async with house.running():
        await house.offend()
        await house.offend(ip_network("198.51.100.7"))
        order = Admit(allowance=allowance(), networks={ip_network("203.0.113.0/24")})
        assert [ban.subject for ban in await house.warden.ask(order)] == [BAD]
        assert [ban.subject for ban in house.bans] == [ip_network("198.51.100.7")]
        assert [each.who for each in house.warden.allowances] == ["203.0.113.0/24"]
    later = House(store=house.store)
    async with later.running():
        assert [each.comment for each in later.warden.allowances] == ["office"]
        assert await later.warden.ask(Revoke(who="203.0.113.0/24")) == []
        assert list(later.warden.allowances) == []
        with pytest.raises(Refused, match="is not let pass"):
            await later.warden.ask(Revoke(who="203.0.113.0/24"))


async def test_who_is_let_pass_for_a_while_is_not_any_more_after_it():
    house = House()
    told = []
    house.warden._admitted = lambda: told.append(len(house.warden.allowances))
    async with house.running():
        order = Admit(allowance=allowance(until=house.clock() + 60), networks=set())
        await house.warden.ask(order)
        await asyncio.sleep(59)
        assert told == [1]
        await asyncio.sleep(2)
        assert told == [1, 0]
    assert (await house.store.load(now=house.clock(), findtime=1)).allowances == []


async def test_a_ban_by_force_holds_who_is_ignored_but_never_this_host():
    async with House().running() as house:
        office = ip_network("203.0.113.0/24")
        house.ignored[BAD] = "it is in ignoreip"
        await house.warden.ground(frozenset({OWN, office}))
        with pytest.raises(Refused, match="it is in ignoreip; with --force"):
            await house.warden.ask(Sentence(subject=BAD, bantime=60))
        await house.warden.ask(Sentence(subject=BAD, bantime=60, force=True))
        assert await house.blocked() == {Element(BAD, None)}
        assert not any(BAD.subnet_of(net) for net in house.firewall.allowed)
        assert ip_network("203.0.113.128/25") in house.firewall.allowed
        await house.warden.ask(Pardon(subject=BAD))
        assert house.firewall.allowed == {OWN, office}
        with pytest.raises(Refused, match="it is ours"):
            await house.warden.ask(Sentence(subject=OWN, bantime=60, force=True))
        assert house.bans == []


async def test_a_ban_by_force_is_one_after_a_restart():
    house = House()
    async with house.running():
        house.ignored[BAD] = "it is in ignoreip"
        await house.warden.ask(Sentence(subject=BAD, bantime=60, force=True))
    later = House(store=house.store)
    state = await later.store.load(now=later.clock(), findtime=1)
    await later.warden.restore(state, allow=frozenset({ip_network("203.0.113.0/24")}))
    assert not any(BAD.subnet_of(net) for net in later.firewall.allowed)


# ---- the kernel stays right


async def test_whoever_changes_the_table_again_and_again_is_told_and_waited_for():
    async with House().running() as house:
        await house.offend()
        for _ in range(10):
            assert house.warden.table.pause() == 0
            house.firewall.lose("table deleted by nft, process 7")
            await house.warden.verify("table deleted by nft, process 7")
            await asyncio.sleep(0.01)
            assert await house.blocked() == {Element(BAD, HTTP)}
        assert house.warden.table.pause() > 0
        assert house.warden.table.storm() == "table deleted by nft, process 7"
        await asyncio.sleep(61)
        assert house.warden.table.pause() == 0
        await asyncio.sleep(600)
        assert house.warden.table.storm() == ""


@pytest.mark.parametrize("step", [-86400.0, 86400.0])
async def test_a_storm_lasts_as_long_as_it_does_whatever_becomes_of_the_clock(step):
    async with House().running() as house:
        await house.offend()
        for _ in range(10):
            house.firewall.lose("table deleted by nft, process 7")
            await house.warden.verify("table deleted by nft, process 7")
            await asyncio.sleep(0.01)
        house.ahead += step
        assert house.warden.table.pause() > 0
        assert house.warden.table.storm()
        await asyncio.sleep(61)
        assert house.warden.table.pause() == 0
        await asyncio.sleep(600)
        assert not house.warden.table.storm()


async def test_a_routine_check_reads_no_elements_while_nobody_changed_anything():
    async with House().running() as house:
        await house.offend()
        await house.warden.verify("a first look")
        await asyncio.sleep(0.01)
        reads = []
        present = house.firewall.present

        async def watched():
            reads.append(1)
            return await present()

        house.firewall.present = watched
        await house.warden.verify()
        await asyncio.sleep(0.01)
        assert reads == []
        assert house.warden.sync.verified_at == pytest.approx(house.clock(), abs=0.1)
        await house.firewall.apply(remove=[Element(BAD, HTTP)])
        house.firewall.lose()
        await house.warden.verify()
        await asyncio.sleep(0.01)
        assert await house.blocked() == {Element(BAD, HTTP)}


async def after_a_loss(*present, **options):
    """Make the house of a daemon that lost its database; the kernel goes on blocking."""
    house = House(**options)
    now = house.clock()
    blocks = {element: None if left is None else now + left for element, left in present}
    bans = adopted(blocks, [], jail="manual", first=1, at=now)
    await house.store.record(bans, {})
    return house


@pytest.mark.parametrize("left", [500, 900, None])
async def test_a_ban_kept_from_the_kernel_is_its_jails_again_when_the_log_says_why(left, caplog):
    caplog.set_level(logging.WARNING)
    house = await after_a_loss((Element(BAD, HTTP), left))
    async with house.running():
        before = await house.blocked()
        await house.offend()
        (made,) = house.bans
        assert (made.jail, made.subject, made.failures) == (JAIL, BAD, 5)
        # whatever made it last longer is forgotten, and nobody is let in sooner for that
        assert made.until == (left and pytest.approx(house.clock() + max(left, 600), abs=1))
        assert await house.blocked() == before
        assert len(await house.store.evidence(made.id)) == 5
        assert "[manual] Unban 203.0.113.7: another ban holds all of it" in caplog.text
        (old,) = await house.store.bans_of("manual")
        assert old.ended_why == "replaced"
    async with House(store=house.store).running() as again:
        assert [ban.jail for ban in again.bans] == [JAIL]


async def test_a_ban_kept_from_the_kernel_stays_where_its_jail_does_not_close_as_much():
    house = await after_a_loss((Element(BAD, None), 500))
    async with house.running():
        await house.offend()
        assert {ban.jail for ban in house.bans} == {JAIL, "manual"}
        assert await house.blocked() == {Element(BAD, HTTP), Element(BAD, None)}


async def test_bans_kept_from_the_kernel_are_never_only_observed_for_a_budget():
    others = [ip_network(f"198.51.100.{n}") for n in range(20)]
    house = await after_a_loss(
        *((Element(other, HTTP), 500) for other in others), budget=Budget(per_minute=5)
    )
    async with house.running():
        for other in others:
            await house.offend(other)
        assert {(ban.jail, ban.mode) for ban in house.bans} == {(JAIL, Mode.ENFORCE)}
        assert len(await house.blocked()) == len(house.bans) == 20


async def test_a_ban_kept_from_the_kernel_stays_while_its_jail_only_observes():
    house = await after_a_loss((Element(BAD, HTTP), 500))
    house.policy = replace(house.policy, mode=Mode.OBSERVE)
    async with house.running():
        await house.offend()
        assert await house.blocked() == {Element(BAD, HTTP)}


async def test_a_dry_run_ends_no_ban_kept_from_the_kernel():
    house = await after_a_loss((Element(BAD, HTTP), 500), observing=True)
    async with house.running():
        await house.offend()
    async with House(store=house.store).running() as again:
        assert await again.blocked() == {Element(BAD, HTTP)}


async def test_a_jail_that_is_gone_leaves_nothing_behind():
    house = House()
    house.policy = replace(house.policy, verify=Verify.CONNTRACK)
    async with house.running():
        await house.offend()
        house.warden.tally.update({Element(BAD, HTTP): Counter(1, 60)})
        assert house.warden.sentencing.unverified
        house.warden.forget_jails([JAIL])
        assert not house.warden.sentencing.unverified
        assert house.warden.tally.of_jail(JAIL) == Counter(0, 0)


async def test_what_a_ban_blocked_is_remembered_when_it_ends():
    class Counting(DryRun):
        async def counters(self, elements):
            return dict.fromkeys(await super().counters(elements), Counter(7, 420))

    firewall = Counting(clock=lambda: 1e9 + asyncio.get_running_loop().time())
    async with House(firewall=firewall).running() as house:
        await house.offend()
        await house.warden.ask(Pardon(subject=BAD))
        (record,) = await house.store.bans_of(JAIL)
        assert record.blocked == Counter(7, 420)
        assert house.warden.tally.of_jail(JAIL) == Counter(7, 420)


async def test_a_log_that_is_all_failures_delays_nobody_elses_ban():
    async with House().running() as house:
        now = house.clock()

        def accusing(subject, container):
            return Offence(jail=JAIL, subject=subject, at=now, failures=1, container=container)

        flood = [
            accusing(ip_network(number), "noisy") for number in range(1 << 24, (1 << 24) + 900)
        ]

        async def noisy():
            for _ in range(40):
                await house.warden.report(Report(entries=flood, cursor=None))

        async with asyncio.TaskGroup() as tails:
            behind = tails.create_task(noisy())
            await asyncio.sleep(0)
            order = Report(entries=[accusing(BAD, "web")], cursor=None)
            tails.create_task(house.warden.report(order))
            while house.warden.enforced((JAIL, BAD)) is None:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0)
            assert not behind.done()  # 35 of its reports are still to come
            assert house.warden.waiting < 10


async def test_many_offences_at_once_ask_the_store_once():
    class Asked(MemoryStore):
        asked = 0

        async def bans_against(self, *arguments, **options):
            self.asked += 1
            return await super().bans_against(*arguments, **options)

    house = House(store=Asked())
    house.policy = replace(house.policy, growth=Growth(multipliers=(1.0,)))
    house.policies["recidive"] = recidive("recidive", maxretry=1000)
    async with house.running():
        now = house.clock()
        offences = [
            Offence(jail=JAIL, subject=BAD, at=now - 1 + number / 1000, failures=1)
            for number in range(500)
        ]
        await house.warden.report(Report(entries=offences, cursor=None))
        await asyncio.sleep(0.01)
        (ban,) = house.bans
        assert ban.until == offences[-1].at + 600.0
        assert house.store.asked == 1


async def test_a_household_of_which_very_much_is_banned_is_banned_as_a_whole():
    async with House().running() as house:
        home = ip_network("2001:db8:7::/48")
        for net in itertools.islice(home.subnets(new_prefix=64), HOUSEHOLD + 100):
            await house.offend(net, failures=1)
        bans = [ban for ban in house.bans if ban.subject == home]
        assert [(ban.cause, ban.failures) for ban in bans] == [(Cause.NEIGHBOURS, HOUSEHOLD)]
        assert len(house.bans) == HOUSEHOLD + 1
        assert house.warden.standing("web") <= 5


async def test_no_more_bans_are_made_than_there_is_room_for_and_it_is_told(monkeypatch, caplog):
    monkeypatch.setattr(warden_module, "MOST_BANS", 3)
    async with House().running() as house:
        subjects = [ip_network(f"203.0.113.{n}") for n in range(1, 9)]
        for subject in subjects:
            await house.offend(subject)
        assert [ban.subject for ban in house.bans] == subjects[:3]
        assert house.warden.crowded
        assert sum("is not banned" in message for message in caplog.messages) == 1
        with pytest.raises(Refused, match="no more are made until some end"):
            await house.warden.ask(Sentence(subject=subjects[5], bantime=600))
        await house.offend(subjects[0])  # who is banned already goes on being banned
        await house.warden.ask(Pardon(subject=subjects[0]))
        assert not house.warden.crowded
        await house.offend(subjects[7])
        assert subjects[7] in [ban.subject for ban in house.bans]


async def test_no_more_elements_are_made_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(warden_module, "MOST_ELEMENTS", 20)
    async with House().running() as house:
        house.scope = Scope(ports=tuple(Port(n) for n in range(1, 11)), why="published")
        for number in range(1, 9):
            await house.offend(ip_network(f"203.0.113.{number}"))
        assert len(house.bans) == 2
        assert len(await house.blocked()) == 20
