"""What every `Store` promises: the one in SQLite, and its twin in memory."""

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dockerjail.errors import StoreError
from dockerjail.model import (
    Allowance,
    Ban,
    Blocktype,
    Cause,
    Counter,
    Cursor,
    Direct,
    Failure,
    Mode,
    Named,
    Port,
    Scope,
    Stream,
    Subject,
    Unban,
    UnbanReason,
)
from dockerjail.ports import (
    Answered,
    BanRecord,
    Disallowed,
    Guarded,
    Rewound,
    Settled,
    State,
    Store,
    Unguarded,
)
from dockerjail.store.sqlite import SqliteStore
from tests.fakes import MemoryStore

NOW = 1_800_000_000.0
KEEP = 86_400.0
FINDTIME = 600.0

JAIL = "nginx-auth@shop-web"
OTHER_JAIL = "sshd@bastion"
ATTACKER = ip_network("203.0.113.7/32")
OTHER = ip_network("198.51.100.9/32")
SIX = ip_network("2001:db8:1:2::/64")
WEB, DB = "aa" * 32, "bb" * 32
EVERYTHING = Scope(ports=None, why="asked for by the jail")
EMPTY = State(bans=[], failures=[], cursors={}, next_ban=1, allowances=[], names=[])


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore(keep=KEEP)
    else:
        async with SqliteStore(tmp_path / "state.db", keep=KEEP) as opened:
            yield opened


def failure(
    at: float = NOW,
    *,
    subject: Subject = ATTACKER,
    jail: str = JAIL,
    text: str = "401 POST /login",
    **fields: str,
) -> Failure:
    return Failure(jail=jail, subject=subject, at=at, container=WEB, text=text, fields=fields)


def ban(
    number: int = 1,
    *,
    subject: Subject = ATTACKER,
    jail: str = JAIL,
    scope: Scope = EVERYTHING,
    at: float = NOW,
    until: float | None = NOW + 600,
    count: int = 1,
    blocktype: Blocktype = Blocktype.DROP,
) -> Ban:
    return Ban(
        id=number,
        jail=jail,
        subject=subject,
        scope=scope,
        at=at,
        until=until,
        failures=5,
        count=count,
        reason="seen before",
        blocktype=blocktype,
    )


def settled(number: int | None = None, *, subject: Subject = ATTACKER, jail: str = JAIL) -> Settled:
    return Settled(jail=jail, subject=subject, ban=number)


async def load(store: Store, now: float = NOW) -> State:
    return await store.load(now=now, findtime=FINDTIME)


# What a start finds


async def test_a_new_store_is_empty(store: Store) -> None:
    assert await load(store) == EMPTY


@pytest.mark.parametrize(
    "scope",
    [
        Scope(ports=None, why="the jail says host"),
        Scope(ports=(), why="a label may not ban from more than its own ports; it has none"),
        Scope(ports=(Port(80), Port(443), Port(53, "udp")), why="published by shop-web"),
        Scope(ports=(), addresses=(ip_address("192.0.2.9"),), why="shop-web is on a macvlan"),
        Scope(
            ports=(Port(80), Port(53, "udp")),
            addresses=(ip_address("192.0.2.9"), ip_address("2001:db8::9")),
            why="shop-web is on a macvlan too",
        ),
    ],
)
@pytest.mark.parametrize("subject", [ATTACKER, SIX, ip_network("192.0.2.0/24")])
@pytest.mark.parametrize("blocktype", Blocktype)
async def test_a_ban_comes_back_as_it_was_written(
    store: Store, scope: Scope, subject: Subject, blocktype: Blocktype
) -> None:
    written = ban(7, scope=scope, subject=subject, count=3, blocktype=blocktype)
    await store.record([written], {})
    assert (await load(store)).bans == [written]


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("forced", [False, True])
async def test_a_ban_comes_back_with_what_it_was_made_for_and_how(
    store: Store, cause: Cause, mode: Mode, forced: bool
) -> None:
    written = replace(ban(), cause=cause, mode=mode, forced=forced, container=WEB)
    await store.record([written], {})
    assert (await load(store)).bans == [written]
    assert await store.bans_against(ATTACKER, since=NOW) == [written]


async def test_a_container_with_an_endless_name_is_remembered_by_its_beginning(
    store: Store,
) -> None:
    await store.record([replace(ban(), container="shop-" + "x" * 100_000)], {})
    (remembered,) = (await load(store)).bans
    assert remembered.container == "shop-" + "x" * 250


async def test_a_failure_comes_back_as_it_was_written(store: Store) -> None:
    written = failure(
        NOW - 0.123456, subject=SIX, text='"GET /\t\0é漢"', user="jürgen", path="/a b"
    )
    await store.record([written], {})
    assert (await load(store)).failures == [written]


async def test_failures_come_back_in_the_order_they_were_written(store: Store) -> None:
    written = [failure(NOW - 3), failure(NOW - 5), failure(NOW - 4, subject=SIX), failure(NOW - 5)]
    await store.record(written[:2], {})
    await store.record(written[2:], {})
    assert (await load(store)).failures == written


async def test_failures_out_of_every_window_are_not_loaded(store: Store) -> None:
    young = failure(NOW - FINDTIME + 1)
    await store.record([failure(NOW - FINDTIME), young], {})
    assert (await load(store)).failures == [young]


async def test_a_ban_whose_time_has_passed_is_not_in_force(store: Store) -> None:
    for_good = ban(2, subject=OTHER, until=None)
    await store.record([ban(1, until=NOW + 10), for_good], {})
    assert (await load(store, NOW + 9.5)).bans == [ban(1, until=NOW + 10), for_good]
    assert (await load(store, NOW + 10)).bans == [for_good]


async def test_an_ended_ban_is_not_in_force(store: Store) -> None:
    await store.record([ban(1), ban(2, subject=OTHER)], {})
    await store.record([Unban(ban=ban(1), at=NOW + 1, reason=UnbanReason.OPERATOR)], {})
    assert (await load(store)).bans == [ban(2, subject=OTHER)]


async def test_a_ban_number_is_never_given_twice(store: Store) -> None:
    await store.record([ban(41, until=NOW + 1)], {})
    assert (await load(store)).next_ban == 42
    await store.purge(NOW + 10 * KEEP)
    assert (await load(store)).next_ban == 42


# Cursors


async def test_cursors_come_back_exactly(store: Store) -> None:
    cursors = {
        (WEB, Stream.STDOUT): Cursor(1_800_000_000_123_456_789, 3),
        (WEB, Stream.STDERR): Cursor(1_800_000_000_123_456_788, 1),
        (DB, Stream.STDOUT): Cursor(1, 1),
    }
    await store.record([], cursors)
    assert (await load(store)).cursors == cursors


async def test_a_cursor_moves_on(store: Store) -> None:
    key = (WEB, Stream.STDOUT)
    await store.record([], {key: Cursor(10, 2)})
    await store.record([failure()], {key: Cursor(11, 1)})
    assert (await load(store)).cursors == {key: Cursor(11, 1)}


async def test_cursors_go_with_their_container(store: Store) -> None:
    both = {(WEB, stream): Cursor(5, 1) for stream in Stream}
    await store.record([failure()], {**both, (DB, Stream.STDOUT): Cursor(6, 1)})
    await store.record([], {}, gone=[WEB, "never seen"])
    state = await load(store)
    assert state.cursors == {(DB, Stream.STDOUT): Cursor(6, 1)}
    assert state.failures == [failure()]


async def test_a_removed_container_leaves_no_cursor_even_if_it_just_moved(store: Store) -> None:
    await store.record([], {(WEB, Stream.STDOUT): Cursor(5, 1)}, gone={WEB})
    assert (await load(store)).cursors == {}


# Settling


async def test_settled_failures_count_no_more(store: Store) -> None:
    await store.record([failure(), failure(), ban(), settled(1)], {})
    assert (await load(store)).failures == []


async def test_a_settlement_reaches_what_earlier_calls_wrote(store: Store) -> None:
    await store.record([failure(NOW - 2), failure(NOW - 1)], {})
    await store.record([failure(NOW), settled(1), ban(1)], {})
    assert await store.evidence(1) == [failure(NOW - 2), failure(NOW - 1), failure(NOW)]
    assert (await load(store)).failures == []


async def test_failures_after_a_settlement_count(store: Store) -> None:
    await store.record([failure(NOW - 1), settled(), failure(NOW)], {})
    assert (await load(store)).failures == [failure(NOW)]


async def test_a_settlement_leaves_other_subjects_and_jails_alone(store: Store) -> None:
    others = [failure(subject=OTHER), failure(jail=OTHER_JAIL)]
    await store.record([*others, failure(), settled()], {})
    assert (await load(store)).failures == others


async def test_each_ban_has_its_own_evidence(store: Store) -> None:
    first, second, third = (failure(NOW + n) for n in range(3))
    await store.record([first], {})
    await store.record([settled(1), ban(1), second, settled(2), ban(2), third], {})
    assert await store.evidence(1) == [first]
    assert await store.evidence(2) == [second]
    assert (await load(store)).failures == [third]


async def test_evidence_is_in_order_of_time(store: Store) -> None:
    late, early = failure(NOW), failure(NOW - 5)
    await store.record([late, early, ban(), settled(1)], {})
    assert await store.evidence(1) == [early, late]


async def test_an_offence_without_a_ban_leaves_no_evidence_and_no_count(store: Store) -> None:
    await store.record([failure(), settled(None)], {})
    assert (await load(store)).failures == []
    assert await store.last_failures(JAIL) == [failure()]


async def test_settling_with_an_unknown_ban_is_refused_and_writes_nothing(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.record([failure(), settled(99)], {(WEB, Stream.STDOUT): Cursor(5, 1)})
    state = await load(store)
    assert (state.failures, state.cursors) == ([], {})
    assert await store.totals() == {}


# Bans replaced and ended


async def test_a_known_ban_is_replaced(store: Store) -> None:
    await store.record([ban(until=NOW + 10)], {})
    wider = ban(until=None, scope=Scope(ports=(Port(22),), why="sshd publishes it"))
    await store.record([wider], {})
    assert (await load(store)).bans == [wider]
    assert await store.totals() == {JAIL: (0, 1)}
    changed = replace(wider, mode=Mode.OBSERVE, cause=Cause.BANS, container=DB, forced=True)
    await store.record([changed], {})
    assert (await load(store)).bans == [changed]


async def test_the_last_word_on_a_ban_stands(store: Store) -> None:
    longer = ban(until=NOW + 9000)
    unban = Unban(ban=ban(), at=NOW + 1, reason=UnbanReason.OPERATOR)
    await store.record([ban(), longer, ban(2, subject=OTHER), unban, longer], {})
    assert (await load(store)).bans == [longer, ban(2, subject=OTHER)]
    await store.record([longer, unban], {})
    assert (await load(store)).bans == [ban(2, subject=OTHER)]


async def test_the_first_end_of_a_ban_stands(store: Store) -> None:
    await store.record([ban()], {})
    await store.record([Unban(ban=ban(), at=NOW + 1, reason=UnbanReason.IGNORED)], {})
    await store.record([Unban(ban=ban(), at=NOW + 2, reason=UnbanReason.OPERATOR)], {})
    ended = BanRecord(ban=ban(), ended_at=NOW + 1, ended_why=UnbanReason.IGNORED)
    assert await store.bans_of(JAIL) == [ended]


@pytest.mark.parametrize("blocked", [None, Counter(0, 0), Counter(7, 3_000_000_000_000)])
async def test_what_a_ban_had_blocked_is_remembered_when_it_ends(
    store: Store, blocked: Counter | None
) -> None:
    end = Unban(ban=ban(), at=NOW + 1, reason=UnbanReason.EXPIRED, blocked=blocked)
    await store.record([ban(), end], {})
    record = BanRecord(ban=ban(), ended_at=NOW + 1, ended_why=UnbanReason.EXPIRED, blocked=blocked)
    assert await store.bans_of(JAIL) == [record]
    assert (await store.history(ATTACKER)).bans == [record]


async def test_a_ban_that_is_in_force_again_has_blocked_nothing_yet(store: Store) -> None:
    end = Unban(ban=ban(), at=NOW + 1, reason=UnbanReason.OPERATOR, blocked=Counter(7, 420))
    await store.record([ban(), end, ban()], {})
    assert await store.bans_of(JAIL) == [BanRecord(ban=ban())]


async def test_the_end_of_an_unknown_ban_changes_nothing(store: Store) -> None:
    await store.record([Unban(ban=ban(), at=NOW, reason=UnbanReason.EXPIRED)], {})
    assert await store.bans_of(JAIL) == []
    assert await store.totals() == {}


async def test_writing_nothing_is_allowed(store: Store) -> None:
    await store.record([], {})
    assert await load(store) == EMPTY


# Where bans stand past the host


async def test_guarded_addresses_come_back_until_they_are_guarded_no_more(store: Store) -> None:
    four, six = Direct("lan0", ip_address("192.0.2.9")), Direct("lan0", ip_address("2001:db8::9"))
    await store.record([Guarded(direct=four), Guarded(direct=six), Guarded(direct=four)], {})
    assert (await load(store)).direct == {four, six}
    away = Direct("lan1", four.address)
    await store.record([Unguarded(direct=four), Unguarded(direct=away)], {})
    assert (await load(store)).direct == {six}


NAMED = Named(
    jail=JAIL,
    name="évil.test",
    at=NOW - 5,
    container="shop-web-1",
    text="from \udcff évil.test",
    fields={"user": "bob"},
    id=7,
)


async def test_who_waits_for_a_name_comes_back_until_it_is_answered(store: Store) -> None:
    other = replace(NAMED, id=8, fields={}, text="x")
    await store.record([NAMED, other], {(WEB, Stream.STDOUT): Cursor(1, 1)})
    found = (await load(store)).names
    assert [each.id for each in found] == [7, 8]
    assert (found[0].name, found[0].fields, found[1]) == (NAMED.name, NAMED.fields, other)
    await store.record([Answered(id=7), Answered(id=99), failure(at=NOW - 5)], {})
    state = await load(store)
    assert list(state.names) == [other]
    assert len(state.failures) == 1


async def test_who_waits_for_a_name_longer_than_anything_counts_is_forgotten(store: Store) -> None:
    await store.record([NAMED], {})
    assert not (await load(store, NOW + FINDTIME)).names
    await store.purge(NOW + FINDTIME)
    assert not (await load(store)).names


# Whom operators let pass


OFFICE = Allowance(who="198.51.100.0/24", at=NOW, until=NOW + 600, comment="the office")
HOME = Allowance(who="jürgen.example.org", at=NOW - 1, until=None)


async def test_an_allowance_comes_back_as_it_was_written(store: Store) -> None:
    await store.record([OFFICE, HOME], {})
    assert (await load(store)).allowances == [HOME, OFFICE]


async def test_an_allowance_whose_time_has_passed_is_over(store: Store) -> None:
    await store.record([OFFICE, HOME], {})
    assert (await load(store, NOW + 599.5)).allowances == [HOME, OFFICE]
    assert (await load(store, NOW + 600)).allowances == [HOME]


async def test_a_known_allowance_is_replaced(store: Store) -> None:
    for_good = replace(OFFICE, at=NOW + 1, until=None, comment="")
    await store.record([OFFICE], {})
    await store.record([for_good], {})
    assert (await load(store, NOW + 1)).allowances == [for_good]


async def test_what_was_stamped_before_the_clock_was_set_back_is_as_long_ago_as_it_was(
    store: Store,
) -> None:
    over = ban(1, at=NOW + 5000, until=NOW + 5600)
    stands, younger = ban(2, at=NOW + 6000, until=None, jail="b@web"), ban(3, at=NOW)
    unban = Unban(ban=over, at=NOW + 5100, reason=UnbanReason.OPERATOR)
    await store.record([over, unban, stands, younger], {})
    await store.record([Rewound(seconds=7000, now=NOW - 100), replace(younger, at=NOW - 7000)], {})
    found = {record.ban.id: record for record in (await store.history(ATTACKER)).bans}
    assert (found[1].ban.at, found[1].ban.until) == (NOW - 2000, NOW - 1400)
    assert found[1].ended_at == NOW - 1900
    assert (found[2].ban.at, found[2].ban.until) == (NOW - 1000, None)
    assert found[3].ban.at == NOW - 7000
    await store.record([Rewound(seconds=7000, now=NOW - 100)], {})
    assert {r.ban.id: r for r in (await store.history(ATTACKER)).bans} == found


async def test_a_start_after_the_clock_was_set_back_finds_nothing_that_is_yet_to_begin(
    store: Store,
) -> None:
    over = ban(1, at=NOW + 5000, until=NOW + 5600)
    unban = Unban(ban=over, at=NOW + 5100, reason=UnbanReason.OPERATOR)
    stands, forever = ban(2, at=NOW + 6000, until=NOW + 6600), ban(3, at=NOW + 1, until=None)
    allowance = Allowance(who="198.51.100.7", at=NOW + 900, until=NOW + 1000)
    await store.record([over, unban, stands, forever, allowance], {})
    for _ in range(2):  # the second start finds it as the first has left it
        state = await load(store)
        assert state.bans == [
            replace(stands, at=NOW, until=NOW + 600),
            replace(forever, at=NOW),
        ]
        assert state.allowances == [replace(allowance, at=NOW, until=NOW + 100)]
        (first,) = [r for r in (await store.history(ATTACKER)).bans if r.ban.id == 1]
        assert (first.ban.at, first.ban.until, first.ended_at) == (NOW, NOW + 600, NOW + 100)
    assert (await load(store, NOW + 50)).bans[0].at == NOW


async def test_a_disallowed_address_is_no_longer_let_pass(store: Store) -> None:
    await store.record([OFFICE, HOME], {})
    await store.record([Disallowed(who=OFFICE.who), Disallowed(who="never.allowed")], {})
    assert (await load(store)).allowances == [HOME]


async def test_the_last_word_on_an_allowance_stands(store: Store) -> None:
    end = Disallowed(who=OFFICE.who)
    await store.record([OFFICE, end, ban(), OFFICE, HOME, Disallowed(who=HOME.who)], {})
    state = await load(store)
    assert (state.allowances, state.bans) == ([OFFICE], [ban()])


async def test_allowances_are_purged_when_they_are_over_and_no_sooner(store: Store) -> None:
    await load(store)
    await store.record([OFFICE, HOME], {})
    assert await store.purge(NOW + 599) == 0
    assert await store.purge(NOW + 600) == 1
    assert (await load(store)).allowances == [HOME]
    assert await store.purge(NOW + 1000 * KEEP) == 0


# Questions


async def test_the_bans_against_a_subject_are_those_of_every_jail_newest_first(
    store: Store,
) -> None:
    over = Unban(ban=ban(1), at=NOW, reason=UnbanReason.EXPIRED)
    late_told = ban(3, jail=OTHER_JAIL, at=NOW - 5)
    await store.record([ban(1), ban(2), late_told, ban(4, subject=OTHER), over], {})
    assert await store.bans_against(ATTACKER, since=0.0) == [ban(2), ban(1), late_told]
    assert await store.bans_against(ATTACKER, since=NOW) == [ban(2), ban(1)]
    assert await store.bans_against(ATTACKER, since=NOW + 1) == []
    assert await store.bans_against(ATTACKER, since=0.0, limit=1) == [ban(2)]
    assert await store.bans_against(SIX, since=0.0) == []


async def test_the_bans_against_an_address_are_not_those_of_its_network(store: Store) -> None:
    network = ip_network("203.0.113.0/24")
    await store.record([ban(1, subject=network), ban(2)], {})
    assert await store.bans_against(ATTACKER, since=0.0) == [ban(2)]
    assert await store.bans_against(network, since=0.0) == [ban(1, subject=network)]


async def test_totals_count_everything_there_ever_was(store: Store) -> None:
    await store.record([failure(), failure(), ban(), settled(1), failure(jail=OTHER_JAIL)], {})
    await store.record([ban(2, jail="by-hand")], {})
    expected = {JAIL: (2, 1), OTHER_JAIL: (1, 0), "by-hand": (0, 1)}
    assert await store.totals() == expected
    await store.purge(NOW + 10 * KEEP)
    assert await store.totals() == expected


async def test_the_last_bans_of_a_jail_come_newest_first(store: Store) -> None:
    await store.record([ban(1), ban(2, subject=OTHER), ban(3, jail=OTHER_JAIL), ban(4)], {})
    assert [record.ban.id for record in await store.bans_of(JAIL)] == [4, 2, 1]
    assert [record.ban.id for record in await store.bans_of(JAIL, limit=2)] == [4, 2]


async def test_the_last_failures_of_a_jail_come_newest_first(store: Store) -> None:
    first, second, third = (failure(NOW + n) for n in range(3))
    await store.record([first, failure(jail=OTHER_JAIL), second, settled(), third], {})
    assert await store.last_failures(JAIL) == [third, second, first]
    assert await store.last_failures(JAIL, limit=1) == [third]


async def test_the_history_of_an_address_has_its_bans_and_failures(store: Store) -> None:
    other = failure(subject=OTHER)
    again = failure(NOW + 1, jail=OTHER_JAIL)
    await store.record([failure(), settled(1), ban(1), other, again, ban(2, subject=OTHER)], {})
    history = await store.history(ATTACKER)
    assert history.bans == [BanRecord(ban=ban(1))]
    assert history.failures == [again, failure()]


@pytest.mark.parametrize(
    ("counted", "asked"),
    [("2001:db8:1:2::/64", "2001:db8:1:2::5/128"), ("203.0.113.0/24", "203.0.113.7/32")],
)
async def test_the_history_of_an_address_has_that_of_its_network(
    store: Store, counted: str, asked: str
) -> None:
    subject = ip_network(counted)
    await store.record([failure(subject=subject), ban(subject=subject)], {})
    await store.record([failure(subject=OTHER), ban(2, subject=OTHER)], {})
    history = await store.history(ip_network(asked))
    assert history.bans == [BanRecord(ban=ban(subject=subject))]
    assert history.failures == [failure(subject=subject)]


async def test_a_history_is_as_long_as_asked_for(store: Store) -> None:
    await store.record([failure(NOW), failure(NOW + 1), ban(1), ban(2)], {})
    history = await store.history(ATTACKER, limit=1)
    assert [record.ban.id for record in history.bans] == [2]
    assert history.failures == [failure(NOW + 1)]


# What is forgotten, and what never is


async def test_old_history_is_purged(store: Store) -> None:
    await load(store)
    await store.record([failure(), failure(), settled(1), ban(1), failure(), settled()], {})
    assert await store.purge(NOW + KEEP + 601) == 4
    assert await store.bans_of(JAIL) == []
    assert await store.last_failures(JAIL) == []
    assert await store.evidence(1) == []


async def test_young_history_is_not_purged(store: Store) -> None:
    await load(store)
    await store.record([failure(), settled(1), ban(1), failure(), settled(), failure()], {})
    assert await store.purge(NOW + KEEP) == 0
    assert len(await store.last_failures(JAIL)) == 3
    assert await store.purge(NOW + KEEP) == 0


async def test_history_is_counted_from_the_end_of_a_ban(store: Store) -> None:
    await load(store)
    ended_early = Unban(ban=ban(1), at=NOW + 1, reason=UnbanReason.OPERATOR)
    await store.record([ban(1, until=NOW + 600), ban(2, until=NOW + 600), ended_early], {})
    assert await store.purge(NOW + KEEP + 300) == 1
    assert [record.ban.id for record in await store.bans_of(JAIL)] == [2]


async def test_a_ban_in_force_keeps_its_evidence_for_ever(store: Store) -> None:
    await load(store)
    await store.record([failure(), settled(1), ban(1, until=None)], {})
    assert await store.purge(NOW + 1000 * KEEP) == 0
    assert (await load(store, NOW + 1000 * KEEP)).bans == [ban(1, until=None)]
    assert await store.evidence(1) == [failure()]


async def test_a_failure_that_still_counts_is_never_purged(store: Store) -> None:
    long_window = 10 * KEEP
    await store.load(now=NOW, findtime=long_window)
    await store.record([failure()], {})
    assert await store.purge(NOW + long_window) == 0
    assert (await store.load(now=NOW + KEEP, findtime=long_window)).failures == [failure()]


async def test_a_failure_that_led_to_nothing_is_purged_when_it_counts_no_more(store: Store) -> None:
    await load(store)
    await store.record([failure()], {})
    assert await store.purge(NOW + KEEP + 1) == 1


async def test_nothing_that_may_count_is_purged_before_windows_are_known(store: Store) -> None:
    await store.record([failure()], {})
    assert await store.purge(NOW + 1000 * KEEP) == 0


async def test_cursors_are_not_purged_by_age(store: Store) -> None:
    await load(store)
    await store.record([], {(WEB, Stream.STDOUT): Cursor(5, 1)})
    await store.purge(NOW + 1000 * KEEP)
    assert (await load(store)).cursors == {(WEB, Stream.STDOUT): Cursor(5, 1)}


async def test_a_purge_takes_as_many_steps_as_it_needs(store: Store) -> None:
    await load(store)
    entries = [failure(NOW + n / 1000) for n in range(1700)]
    await store.record([*entries, settled(1), ban(1), *entries, settled()], {})
    assert await store.purge(NOW + 2 * KEEP) == 3401
    assert await store.last_failures(JAIL) == []


# What attackers write


async def test_text_that_is_not_unicode_does_not_stop_the_store(store: Store) -> None:
    half = b"user \xff\xfe".decode("utf-8", "surrogateescape")
    await store.record([failure(text=half, user=half), failure(NOW + 1)], {})
    first, second = (await load(store)).failures
    assert first.text.startswith("user ")
    assert second == failure(NOW + 1)


async def test_text_that_looks_like_sql_is_text(store: Store) -> None:
    hostile = "'); DROP TABLE failure; --"
    await store.record([failure(text=hostile, user=hostile, jail=hostile)], {})
    assert await store.last_failures(hostile) == [failure(text=hostile, user=hostile, jail=hostile)]
