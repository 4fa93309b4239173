"""One suite over every packet filter: in memory, in the kernel, in the kernel without its news."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

import pytest

from dockerjail.errors import FirewallError
from dockerjail.model import Blocktype, Counter, Direct, Element, Port
from dockerjail.nft.dryrun import DryRun
from dockerjail.nft.kernel import Features, Kernel
from dockerjail.ports import Block, Firewall
from tests.lab import netns

# as of Linux 5.7 and 5.9
OLD = Features(
    update_timeout=False, destroy=False, set_count=False, reject=False, ingress=False, owner=False
)
KERNELS = {
    "kernel": None,
    "owning kernel": None,
    "old kernel": OLD,
    "old kernel that answers": replace(OLD, reject=True, ingress=True),
}


def element(
    subject: str,
    port: int | None = None,
    protocol: str = "tcp",
    blocktype: Blocktype = Blocktype.DROP,
) -> Element:
    return Element(ip_network(subject), None if port is None else Port(port, protocol), blocktype)


def rejected(element: Element) -> Element:
    return element._replace(blocktype=Blocktype.REJECT)


ONE_PORT = element("192.0.2.1/32", 80)
EVERYTHING = element("192.0.2.2/32")
SIX = element("2001:db8:1:2::/64", 443, "udp")
PAST = Element(ip_network("192.0.2.0/24"), None, to=ip_address("10.7.0.2"))
PAST_SIX = Element(ip_network("2001:db8:1:2::/64"), None, to=ip_address("fd00::2"))
DEVICE = "trunk0"
DIRECT = [Direct(DEVICE, ip_address("10.7.0.2")), Direct(DEVICE, ip_address("fd00::2"))]


@dataclass
class Bench:
    """A packet filter with what only a test may do to it and around it."""

    firewall: Firewall
    now: Callable[[], float]
    elapse: Callable[[float], Awaitable[None]]
    lose: Callable[[], None]
    disturb: Callable[[], None]
    plug: Callable[[bool], None]
    """Have the device there, or away."""
    heir: Callable[[], AbstractAsyncContextManager[Firewall]]
    """End the process, and start another."""

    def block(self, element: Element, seconds: float | None = 600) -> Block:
        return Block(element=element, until=None if seconds is None else self.now() + seconds)


@contextmanager
def in_namespace() -> Iterator[netns.Namespace]:
    with netns.create_unique("k4") as space, space.inside():
        yield space


FIREWALLS = [
    "dryrun",
    "old dryrun",
    *(pytest.param(kernel, marks=pytest.mark.engine) for kernel in KERNELS),
]
MUTE = [
    "old dryrun",
    *(name for name, features in KERNELS.items() if features and not features.reject),
]
"""Those that can only drop."""
BLIND = ["old dryrun", "old kernel"]
"""Those that see nothing of what goes past the host."""
OWNED = ["owning kernel"]
"""Those whose table nobody else can delete."""


def named(each: object) -> str:
    return str(getattr(each, "values", (each,))[0])


@contextmanager
def dry(name: str) -> Iterator[Bench]:
    clock = [1_000_000.0]

    def made(after: DryRun | None = None) -> DryRun:
        young = name == "dryrun"
        return DryRun(clock=lambda: clock[0], rejects=young, ingress=young, after=after)

    async def elapse(seconds: float) -> None:
        clock[0] += seconds

    def plug(there: bool) -> None:
        firewall.plug(DEVICE, there=there)

    @asynccontextmanager
    async def heir() -> AsyncIterator[Firewall]:
        yield made(after=firewall)

    firewall = made()
    plug(False)
    yield Bench(firewall, lambda: clock[0], elapse, firewall.lose, firewall.disturb, plug, heir)


@asynccontextmanager
async def real(name: str, space: netns.Namespace) -> AsyncIterator[Bench]:
    def made() -> Kernel:
        return Kernel(features=KERNELS[name], owner=name == "owning kernel")

    def lose() -> None:
        space.run("nft", "delete", "table", "inet", "dockerjail")

    def disturb() -> None:
        space.run("nft", "add table ip other; delete table ip other")

    def plug(there: bool) -> None:
        link = (
            ("add", DEVICE, "type", "veth", "peer", "name", "peer0") if there else ("del", DEVICE)
        )
        space.run("ip", "link", *link)

    @asynccontextmanager
    async def heir() -> AsyncIterator[Firewall]:
        await kernel.close()
        async with made() as other:
            yield other

    async with made() as kernel:
        yield Bench(kernel, time.time, asyncio.sleep, lose, disturb, plug, heir)


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[Bench]:
    """Open one of the packet filters."""
    if name.endswith("dryrun"):
        with dry(name) as bench:
            yield bench
    else:
        with in_namespace() as space:
            async with real(name, space) as bench:
                yield bench


@pytest.fixture(params=FIREWALLS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with opened(request.param) as bench:
        yield bench


@pytest.fixture
async def ready(bench: Bench) -> Bench:
    await bench.firewall.replace([], allow=[])
    return bench


@pytest.fixture(params=[each for each in FIREWALLS if named(each) not in OWNED])
async def losable(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """One whose table somebody else can delete."""
    async with opened(request.param) as bench:
        await bench.firewall.replace([], allow=[])
        yield bench


@pytest.fixture(params=[each for each in FIREWALLS if named(each) not in MUTE])
async def answering(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """One that can tell the banned so."""
    async with opened(request.param) as bench:
        if not bench.firewall.rejects:
            pytest.skip("this machine's kernel cannot reject before DNAT: it is older than 5.9")
        await bench.firewall.replace([], allow=[])
        yield bench


@pytest.fixture(params=[each for each in FIREWALLS if named(each) in MUTE])
async def mute(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """One that can only drop."""
    async with opened(request.param) as bench:
        assert not bench.firewall.rejects
        await bench.firewall.replace([], allow=[])
        yield bench


async def test_a_replaced_table_holds_exactly_what_was_given(bench: Bench) -> None:
    await bench.firewall.replace([bench.block(EVERYTHING)], allow=[])
    await bench.firewall.replace(
        [bench.block(ONE_PORT), bench.block(SIX, None)], allow=[ip_network("10.0.0.0/8")]
    )
    present = await bench.firewall.present()
    assert present.keys() == {ONE_PORT, SIX}
    assert present[SIX] is None
    assert present[ONE_PORT] == pytest.approx(bench.now() + 600, abs=5)


@pytest.mark.parametrize(
    "subject",
    [
        "192.0.2.1/32",
        "192.0.2.0/24",
        "192.0.2.128/25",
        "10.0.0.0/8",
        "2001:db8::1/128",
        "2001:db8::/48",
    ],
)
@pytest.mark.parametrize("port", [None, Port(80), Port(53, "udp"), Port(65535, "sctp")])
async def test_a_subject_of_any_length_comes_back_as_it_was_blocked(
    ready: Bench, subject: str, port: Port | None
) -> None:
    wanted = Element(ip_network(subject), port)
    await ready.firewall.apply(add=[ready.block(wanted)])
    assert list(await ready.firewall.present()) == [wanted]
    assert await ready.firewall.intact()


async def test_networks_that_overlap_are_blocked_side_by_side(ready: Bench) -> None:
    nested = {element("10.0.0.0/8"), element("10.1.0.0/16"), element("10.1.2.3/32")}
    await ready.firewall.apply(add=[ready.block(one) for one in nested])
    assert (await ready.firewall.present()).keys() == nested


async def test_an_element_ends_at_its_time(ready: Bench) -> None:
    await ready.firewall.apply(add=[ready.block(ONE_PORT, 0.2), ready.block(SIX)])
    await ready.elapse(0.5)
    assert (await ready.firewall.present()).keys() == {SIX}


async def test_an_element_whose_end_has_passed_is_not_written(ready: Bench) -> None:
    await ready.firewall.replace([ready.block(ONE_PORT, -1)], allow=[])
    await ready.firewall.apply(add=[ready.block(SIX, 0), ready.block(EVERYTHING, -0.001)])
    assert await ready.firewall.present() == {}


async def test_an_end_moved_into_the_past_releases_at_once(ready: Bench) -> None:
    await ready.firewall.apply(add=[ready.block(ONE_PORT)])
    await ready.firewall.apply(add=[ready.block(ONE_PORT, -1)])
    assert await ready.firewall.present() == {}


@pytest.mark.parametrize(
    ("first", "second"), [(60, 600), (600, 60), (600, 600), (60, None), (None, 60), (None, None)]
)
async def test_blocking_again_moves_the_end(
    ready: Bench, first: float | None, second: float | None
) -> None:
    for element in (ONE_PORT, SIX, EVERYTHING):
        await ready.firewall.apply(add=[ready.block(element, first)])
        again = ready.block(element, second)
        await ready.firewall.apply(add=[again])
        until = (await ready.firewall.present())[element]
        assert until == (None if again.until is None else pytest.approx(again.until, abs=5))


async def test_blocking_again_for_the_same_time_starts_afresh(ready: Bench) -> None:
    await ready.firewall.apply(add=[ready.block(ONE_PORT, 600)])
    await ready.elapse(1.5)
    again = ready.block(ONE_PORT, 600)
    await ready.firewall.apply(add=[again])
    until = (await ready.firewall.present())[ONE_PORT]
    assert until is not None
    assert again.until is not None
    assert until > again.until - 1


async def test_the_last_word_on_an_element_counts(ready: Bench) -> None:
    await ready.firewall.apply(
        add=[ready.block(ONE_PORT, 600), ready.block(SIX, 60), ready.block(ONE_PORT, None)]
    )
    present = await ready.firewall.present()
    assert present[ONE_PORT] is None
    assert present.keys() == {ONE_PORT, SIX}


async def test_released_elements_are_gone_and_others_stay(ready: Bench) -> None:
    await ready.firewall.apply(add=[ready.block(one) for one in (ONE_PORT, SIX, EVERYTHING)])
    await ready.firewall.apply(remove=[ONE_PORT, EVERYTHING])
    assert (await ready.firewall.present()).keys() == {SIX}


async def test_releasing_what_is_not_there_is_no_error(ready: Bench) -> None:
    await ready.firewall.apply(add=[ready.block(SIX)])
    await ready.firewall.apply(
        add=[ready.block(EVERYTHING)],
        remove=[ONE_PORT, ONE_PORT, element("203.0.113.0/24"), element("203.0.113.9/32")],
    )
    assert (await ready.firewall.present()).keys() == {SIX, EVERYTHING}


async def test_an_element_released_and_blocked_at_once_is_blocked(ready: Bench) -> None:
    await ready.firewall.apply(add=[ready.block(ONE_PORT)])
    await ready.firewall.apply(
        add=[ready.block(ONE_PORT), ready.block(SIX)], remove=[ONE_PORT, SIX]
    )
    assert (await ready.firewall.present()).keys() == {ONE_PORT, SIX}


async def test_changing_nothing_is_no_error(ready: Bench) -> None:
    await ready.firewall.apply()
    assert await ready.firewall.present() == {}


async def test_allowed_networks_may_overlap_and_touch(bench: Bench) -> None:
    allow = [
        ip_network(text)
        for text in (
            *("10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8", "10.1.0.0/16"),
            *("255.255.255.255/32", "0.0.0.0/32", "::1/128", "fd00::/8", "fd00:1::/32"),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
        )
    ]
    await bench.firewall.replace([bench.block(ONE_PORT)], allow=allow)
    assert (await bench.firewall.present()).keys() == {ONE_PORT}
    assert await bench.firewall.intact()


async def test_what_is_allowed_can_change_and_bans_stay(bench: Bench) -> None:
    await bench.firewall.replace([bench.block(ONE_PORT)], allow=[ip_network("10.0.0.0/8")])
    await bench.firewall.allow([ip_network("10.1.0.0/16"), ip_network("fd00::/8")])
    await bench.firewall.allow([])
    await bench.firewall.allow([ip_network("10.0.0.0/8")])
    assert set(await bench.firewall.present()) == {ONE_PORT}
    assert await bench.firewall.intact()


async def test_without_a_table_nothing_can_be_allowed(bench: Bench) -> None:
    with pytest.raises(FirewallError):
        await bench.firewall.allow([ip_network("10.0.0.0/8")])


async def test_everything_may_be_allowed(bench: Bench) -> None:
    await bench.firewall.replace([], allow=[ip_network("0.0.0.0/0"), ip_network("::/0")])
    assert await bench.firewall.intact()


async def test_counters_come_for_what_is_blocked_and_only_that(ready: Bench) -> None:
    many = [element(f"10.0.{n // 256}.{n % 256}/32", 80) for n in range(400)]
    blocked = [one for n, one in enumerate(many) if n % 7]
    await ready.firewall.apply(add=[ready.block(one) for one in (*blocked, SIX)])
    asked = [*many, SIX, EVERYTHING, element("203.0.113.0/24")]
    counters = await ready.firewall.counters(asked)
    assert counters == dict.fromkeys((*blocked, SIX), Counter(0, 0))


async def test_counters_of_nothing_are_nothing(ready: Bench) -> None:
    assert await ready.firewall.counters([]) == {}


async def test_a_table_stands_only_once_it_was_put(bench: Bench) -> None:
    assert not await bench.firewall.intact()
    assert await bench.firewall.present() == {}
    assert await bench.firewall.counters([ONE_PORT]) == {}
    with pytest.raises(FirewallError, match="table"):
        await bench.firewall.apply(add=[bench.block(ONE_PORT)])
    await bench.firewall.replace([], allow=[])
    assert await bench.firewall.intact()


async def test_a_lost_table_is_told_and_can_be_put_again(losable: Bench) -> None:
    await losable.firewall.apply(add=[losable.block(ONE_PORT)])
    changes = losable.firewall.changes()
    losable.lose()
    async with asyncio.timeout(10):
        assert (await anext(changes)).startswith("table deleted")
    await changes.aclose()
    assert not await losable.firewall.intact()
    assert await losable.firewall.present() == {}
    assert await losable.firewall.counters([ONE_PORT]) == {}
    for change in ({"add": [losable.block(SIX)]}, {"remove": [ONE_PORT]}):
        with pytest.raises(FirewallError):
            await losable.firewall.apply(**change)
    assert not await losable.firewall.intact()
    await losable.firewall.replace([losable.block(ONE_PORT)], allow=[])
    assert await losable.firewall.intact()
    assert (await losable.firewall.present()).keys() == {ONE_PORT}


async def test_thousands_are_put_blocked_and_released(ready: Bench) -> None:
    many = [element(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}/32", 80) for n in range(5000)]
    await ready.firewall.replace([ready.block(one) for one in many], allow=[])
    assert (await ready.firewall.present()).keys() == set(many)
    await ready.firewall.apply(add=[ready.block(one, None) for one in many], remove=many[:10])
    assert set((await ready.firewall.present()).values()) == {None}
    assert len(await ready.firewall.counters(many)) == 5000
    await ready.firewall.apply(remove=many[1:])
    assert (await ready.firewall.present()).keys() == {many[0]}
    assert await ready.firewall.intact()


async def test_changes_at_the_same_time_all_happen(ready: Bench) -> None:
    many = [element(f"10.0.0.{n}/32") for n in range(100)]
    async with asyncio.TaskGroup() as group:
        for one in many:
            group.create_task(ready.firewall.apply(add=[ready.block(one)]))
            group.create_task(ready.firewall.present())
    assert (await ready.firewall.present()).keys() == set(many)
    assert await ready.firewall.intact()


# ---- bans that answer


@pytest.mark.parametrize(
    "subject", ["192.0.2.1/32", "192.0.2.128/25", "2001:db8::1/128", "2001:db8::/64"]
)
@pytest.mark.parametrize("port", [None, Port(80), Port(53, "udp")])
async def test_an_element_to_reject_comes_back_as_one_to_reject(
    answering: Bench, subject: str, port: Port | None
) -> None:
    wanted = Element(ip_network(subject), port, Blocktype.REJECT)
    again = answering.block(wanted, None)
    await answering.firewall.apply(add=[answering.block(wanted)])
    assert list(await answering.firewall.present()) == [wanted]
    await answering.firewall.apply(add=[again])
    assert await answering.firewall.present() == {wanted: None}
    assert await answering.firewall.counters([wanted]) == {wanted: Counter(0, 0)}
    assert await answering.firewall.intact()
    await answering.firewall.apply(remove=[wanted])
    assert await answering.firewall.present() == {}
    assert await answering.firewall.intact()


async def test_dropped_and_rejected_are_two_elements_with_two_ends(answering: Bench) -> None:
    both = [ONE_PORT, rejected(ONE_PORT), EVERYTHING, rejected(EVERYTHING)]
    await answering.firewall.replace([answering.block(one) for one in both], allow=[])
    assert (await answering.firewall.present()).keys() == set(both)
    await answering.firewall.apply(
        add=[answering.block(rejected(ONE_PORT), 60)], remove=[ONE_PORT, rejected(EVERYTHING)]
    )
    present = await answering.firewall.present()
    assert present.keys() == {rejected(ONE_PORT), EVERYTHING}
    assert present[rejected(ONE_PORT)] == pytest.approx(answering.now() + 60, abs=5)
    counters = await answering.firewall.counters(both)
    assert counters.keys() == {rejected(ONE_PORT), EVERYTHING}


async def test_one_change_can_turn_a_drop_into_a_reject_and_back(answering: Bench) -> None:
    firewall = answering.firewall
    for port, old, new in (
        (ONE_PORT, ONE_PORT, rejected(ONE_PORT)),
        (ONE_PORT, rejected(ONE_PORT), ONE_PORT),
    ):
        await firewall.apply(add=[answering.block(old), answering.block(SIX)])
        await firewall.apply(add=[answering.block(new)], remove=[old])
        assert (await firewall.present()).keys() == {new, SIX}, port
    assert await firewall.intact()


async def test_what_is_allowed_can_change_and_rejects_stay(answering: Bench) -> None:
    await answering.firewall.apply(add=[answering.block(rejected(ONE_PORT))])
    await answering.firewall.allow([ip_network("10.0.0.0/8")])
    assert set(await answering.firewall.present()) == {rejected(ONE_PORT)}
    assert await answering.firewall.intact()


async def test_thousands_are_rejected_beside_thousands_dropped(answering: Bench) -> None:
    many = [
        element(f"10.0.{n >> 8}.{n & 255}/32", port, blocktype=blocktype)
        for n in range(1500)
        for port in (None, 80)
        for blocktype in Blocktype
    ]
    await answering.firewall.replace([answering.block(one) for one in many], allow=[])
    assert (await answering.firewall.present()).keys() == set(many)
    assert (await answering.firewall.counters(many)).keys() == set(many)
    assert await answering.firewall.intact()


async def test_where_nothing_can_be_rejected_it_is_an_error_and_changes_nothing(
    mute: Bench,
) -> None:
    await mute.firewall.apply(add=[mute.block(SIX)])
    with pytest.raises(FirewallError, match="answer"):
        await mute.firewall.apply(add=[mute.block(ONE_PORT), mute.block(rejected(ONE_PORT))])
    with pytest.raises(FirewallError, match="answer"):
        await mute.firewall.replace([mute.block(rejected(ONE_PORT))], allow=[])
    assert (await mute.firewall.present()).keys() == {SIX}
    await mute.firewall.apply(remove=[rejected(SIX)])
    assert (await mute.firewall.present()).keys() == {SIX}
    assert await mute.firewall.intact()


# ---- what goes past the host


@pytest.fixture(params=[each for each in FIREWALLS if named(each) not in BLIND])
async def seeing(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """One that can stand at devices, with a table and the device there."""
    async with opened(request.param) as bench:
        bench.plug(True)
        await bench.firewall.replace([], allow=[], direct=DIRECT)
        if bench.firewall.deaf and isinstance(bench.firewall, Kernel):
            pytest.skip("this machine's kernel has no ingress chains: it is older than 5.10")
        yield bench


@pytest.mark.parametrize("subject", ["192.0.2.1/32", "192.0.2.0/25", "0.0.0.0/0"])
async def test_an_element_past_the_host_comes_back_as_it_was_blocked(
    ready: Bench, subject: str
) -> None:
    wanted = PAST._replace(subject=ip_network(subject))
    again = ready.block(wanted, None)
    await ready.firewall.apply(add=[ready.block(wanted)])
    assert list(await ready.firewall.present()) == [wanted]
    await ready.firewall.apply(add=[again])
    assert await ready.firewall.present() == {wanted: None}
    assert await ready.firewall.counters([wanted, PAST_SIX]) == {wanted: Counter(0, 0)}
    assert await ready.firewall.intact()
    await ready.firewall.apply(remove=[wanted, PAST_SIX])
    assert await ready.firewall.present() == {}
    assert await ready.firewall.intact()


async def test_the_same_subject_is_blocked_in_every_way_side_by_side(ready: Bench) -> None:
    subject = ip_network("192.0.2.0/24")
    ways = {
        Element(subject, None),
        Element(subject, Port(80)),
        PAST,
        PAST._replace(to=ip_address("10.7.0.3")),
        PAST_SIX,
    }
    await ready.firewall.replace([ready.block(one) for one in ways], allow=[], direct=DIRECT)
    assert (await ready.firewall.present()).keys() == ways
    assert (await ready.firewall.counters(list(ways))).keys() == ways
    await ready.firewall.apply(remove=[PAST])
    assert (await ready.firewall.present()).keys() == ways - {PAST}


@pytest.mark.parametrize(
    "nonsense",
    [
        PAST._replace(port=Port(80)),
        PAST._replace(blocktype=Blocktype.REJECT),
        PAST._replace(to=ip_address("fd00::2")),
        ONE_PORT._replace(port=Port(70_000)),
    ],
    ids=["a port past the host", "an answer past the host", "two versions", "no such port"],
)
async def test_an_element_that_no_rule_can_block_is_refused_before_anything_happens(
    answering: Bench, nonsense: Element
) -> None:
    with pytest.raises(ValueError, match=r"past the host|no such port"):
        await answering.firewall.apply(add=[answering.block(SIX), answering.block(nonsense)])
    assert await answering.firewall.present() == {}


async def test_thousands_are_blocked_past_the_host(ready: Bench) -> None:
    many = [
        PAST_SIX._replace(subject=ip_network(f"2001:db8:{n:x}::/64"), to=ip_address(f"fd00::{to}"))
        for n in range(1500)
        for to in (2, 3)
    ]
    await ready.firewall.replace([ready.block(one) for one in many], allow=[], direct=DIRECT)
    assert (await ready.firewall.present()).keys() == set(many)
    await ready.firewall.apply(remove=many[1:])
    assert (await ready.firewall.present()).keys() == {many[0]}


async def test_what_is_guarded_can_change_and_bans_stay(ready: Bench) -> None:
    await ready.firewall.apply(add=[ready.block(PAST), ready.block(EVERYTHING)])
    await ready.firewall.guard(DIRECT)
    await ready.firewall.apply(add=[ready.block(PAST_SIX)])
    await ready.firewall.guard(DIRECT[:1])
    await ready.firewall.guard([])
    await ready.firewall.guard(DIRECT)
    assert (await ready.firewall.present()).keys() == {PAST, PAST_SIX, EVERYTHING}
    assert await ready.firewall.intact()
    assert not await ready.firewall.disturbed()


async def test_without_a_table_nothing_can_be_guarded(bench: Bench) -> None:
    with pytest.raises(FirewallError):
        await bench.firewall.guard(DIRECT)


async def test_a_device_that_is_there_is_not_deaf(seeing: Bench) -> None:
    assert seeing.firewall.deaf == {}
    await seeing.firewall.guard([])
    assert seeing.firewall.deaf == {}
    await seeing.firewall.guard(DIRECT)
    assert seeing.firewall.deaf == {}


async def test_a_device_that_nobody_can_name_is_told(seeing: Bench) -> None:
    await seeing.firewall.guard([*DIRECT, Direct("", ip_address("10.7.0.9"))])
    assert list(seeing.firewall.deaf) == [""]
    assert seeing.firewall.deaf[""]
    assert await seeing.firewall.intact()


async def test_a_device_that_goes_is_told_and_one_that_is_back_is_guarded_again(
    seeing: Bench,
) -> None:
    firewall = seeing.firewall
    await firewall.apply(add=[seeing.block(PAST)])
    assert not await firewall.disturbed()
    seeing.plug(False)
    assert list(firewall.deaf) == [DEVICE]
    assert await firewall.intact()
    await firewall.apply(add=[seeing.block(PAST_SIX)])
    await firewall.allow([])
    assert await firewall.intact()
    await firewall.disturbed()
    seeing.plug(True)
    assert await firewall.disturbed()
    if not await firewall.intact():
        await firewall.guard(DIRECT)
    assert firewall.deaf == {}
    assert await firewall.intact()
    assert (await firewall.present()).keys() == {PAST, PAST_SIX}


async def test_a_device_may_be_away_from_the_start(seeing: Bench) -> None:
    seeing.plug(False)
    await seeing.firewall.replace([seeing.block(PAST)], allow=[], direct=DIRECT)
    assert list(seeing.firewall.deaf) == [DEVICE]
    assert await seeing.firewall.intact()
    assert (await seeing.firewall.present()).keys() == {PAST}
    await seeing.firewall.guard(DIRECT)
    assert await seeing.firewall.intact()


@pytest.mark.parametrize("name", [each for each in FIREWALLS if named(each) in BLIND])
async def test_one_that_sees_nothing_past_the_host_says_so_and_does_the_rest(name: str) -> None:
    async with opened(name) as bench:
        bench.plug(True)
        await bench.firewall.replace(
            [bench.block(PAST), bench.block(ONE_PORT)], allow=[], direct=DIRECT
        )
        assert list(bench.firewall.deaf) == [DEVICE]
        assert (await bench.firewall.present()).keys() == {PAST, ONE_PORT}
        await bench.firewall.guard(DIRECT[:1])
        assert await bench.firewall.intact()


# ---- others' changes


async def test_others_changes_disturb_once_and_our_own_never(bench: Bench) -> None:
    firewall = bench.firewall
    await firewall.replace([bench.block(ONE_PORT)], allow=[])
    assert not await firewall.disturbed()
    await firewall.apply(add=[bench.block(SIX)])
    await firewall.apply(add=[bench.block(element("10.0.0.0/8"))], remove=[ONE_PORT])
    await firewall.apply()
    await firewall.allow([ip_network("10.0.0.0/8")])
    await firewall.guard(DIRECT)
    await firewall.replace([bench.block(ONE_PORT)], allow=[])
    assert not await firewall.disturbed()
    bench.disturb()
    assert await firewall.disturbed()
    assert not await firewall.disturbed()
    assert await firewall.intact()


@pytest.mark.parametrize("after", ["apply", "replace", "allow", "guard"])
async def test_our_own_change_beside_one_of_others_does_not_hide_it(
    ready: Bench, after: str
) -> None:
    firewall = ready.firewall
    assert not await firewall.disturbed()
    ready.disturb()
    match after:
        case "apply":
            await firewall.apply(add=[ready.block(ONE_PORT)])
        case "replace":
            await firewall.replace([], allow=[])
        case "allow":
            await firewall.allow([ip_network("10.0.0.0/8")])
        case _:
            await firewall.guard(DIRECT)
    assert await firewall.disturbed()
    assert not await firewall.disturbed()


async def test_the_end_of_an_element_disturbs_nobody(ready: Bench) -> None:
    await ready.firewall.apply(add=[ready.block(ONE_PORT, 0.1)])
    await ready.elapse(0.3)
    assert await ready.firewall.present() == {}
    assert not await ready.firewall.disturbed()


async def test_a_refused_change_disturbs_nobody(mute: Bench) -> None:
    with pytest.raises(FirewallError):
        await mute.firewall.apply(add=[mute.block(rejected(ONE_PORT))])
    assert not await mute.firewall.disturbed()


async def test_a_lost_table_disturbs(losable: Bench) -> None:
    assert not await losable.firewall.disturbed()
    losable.lose()
    assert await losable.firewall.disturbed()


async def test_at_first_nobody_has_blocked_anything(bench: Bench) -> None:
    assert await bench.firewall.blocked() == Counter(0, 0)
    await bench.firewall.replace([bench.block(ONE_PORT)], allow=[])
    assert await bench.firewall.blocked() == Counter(0, 0)


# ---- adoption


BANS = [ONE_PORT, EVERYTHING, SIX, PAST, element("10.0.0.0/8"), element("2001:db8::/32", 53, "udp")]


async def test_there_is_nothing_to_adopt_at_first(bench: Bench) -> None:
    assert not await bench.firewall.adopt(allow=[], direct=DIRECT)
    assert not await bench.firewall.intact()
    with pytest.raises(FirewallError):
        await bench.firewall.apply(add=[bench.block(ONE_PORT)])


@pytest.mark.parametrize("grown", [False, True], ids=["put at once", "grown"])
async def test_the_table_of_an_earlier_process_is_adopted_with_its_bans(
    bench: Bench, grown: bool
) -> None:
    blocks = [bench.block(one, None) for one in BANS]
    allow = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
    await bench.firewall.replace([] if grown else blocks, allow=allow, direct=DIRECT)
    if grown:
        for one in reversed(blocks):
            await bench.firewall.apply(add=[one])
    async with bench.heir() as heir:
        assert not await heir.intact()
        assert await heir.present() == dict.fromkeys(BANS)
        assert await heir.adopt(allow=[], direct=DIRECT[:1])
        assert await heir.intact()
        assert not await heir.disturbed()
        assert await heir.present() == dict.fromkeys(BANS)
        await heir.apply(add=[bench.block(element("203.0.113.0/24"), None)], remove=BANS[1:])
        await heir.allow(allow)
        await heir.guard(DIRECT)
        assert (await heir.present()).keys() == {ONE_PORT, element("203.0.113.0/24")}
        assert await heir.intact()
        assert not await heir.disturbed()
        assert await heir.adopt(allow=[])
        assert await heir.intact()
        bench.disturb()
        assert await heir.disturbed()
        assert await heir.intact()


async def test_a_table_that_allows_and_guards_nothing_is_adopted_as_well(ready: Bench) -> None:
    async with ready.heir() as heir:
        assert await heir.adopt(allow=[])
        assert not await heir.disturbed()
        assert await heir.intact()
        ready.disturb()
        assert await heir.disturbed()


async def test_ends_go_on_over_an_adoption(bench: Bench) -> None:
    await bench.firewall.replace([bench.block(ONE_PORT, 0.3), bench.block(SIX)], allow=[])
    async with bench.heir() as heir:
        assert await heir.adopt(allow=[])
        await bench.elapse(0.6)
        present = await heir.present()
        assert present.keys() == {SIX}
        assert present[SIX] == pytest.approx(bench.now() + 600, abs=5)


async def test_a_table_in_which_some_are_answered_is_adopted(answering: Bench) -> None:
    await answering.firewall.apply(add=[answering.block(ONE_PORT)])
    await answering.firewall.apply(
        add=[answering.block(rejected(EVERYTHING)), answering.block(rejected(ONE_PORT))]
    )
    await answering.firewall.apply(add=[answering.block(element("10.0.0.0/8"))])
    async with answering.heir() as heir:
        assert await heir.adopt(allow=[ip_network("fd00::/8")])
        assert await heir.intact()
        assert len(await heir.present()) == 4


async def test_a_table_is_replaced_where_it_could_have_been_adopted(bench: Bench) -> None:
    await bench.firewall.replace([bench.block(ONE_PORT)], allow=[], direct=DIRECT)
    async with bench.heir() as heir:
        await heir.replace([bench.block(SIX)], allow=[])
        assert await heir.intact()
        assert (await heir.present()).keys() == {SIX}
        assert heir.deaf == {}
