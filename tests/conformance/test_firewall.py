"""One suite over every packet filter: in memory, in the kernel, in the kernel without its news."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network

import pytest

from dockerjail.errors import FirewallError
from dockerjail.model import Blocktype, Counter, Element, Port
from dockerjail.nft.dryrun import DryRun
from dockerjail.nft.kernel import Features, Kernel
from dockerjail.ports import Block, Firewall
from tests.lab import netns

# as of Linux 5.7 and 5.9
OLD = Features(
    update_timeout=False, destroy=False, set_count=False, reject=False, ingress=False, owner=False
)
KERNELS = {"kernel": None, "old kernel": OLD, "old kernel that answers": replace(OLD, reject=True)}


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


@dataclass
class Bench:
    """A packet filter with what only a test may do to it."""

    firewall: Firewall
    now: Callable[[], float]
    elapse: Callable[[float], Awaitable[None]]
    lose: Callable[[], None]

    def block(self, element: Element, seconds: float | None = 600) -> Block:
        return Block(element=element, until=None if seconds is None else self.now() + seconds)


@contextmanager
def in_namespace() -> Iterator[netns.Namespace]:
    with netns.create_unique("djn") as space, space.inside():
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


def named(each: object) -> str:
    return str(getattr(each, "values", (each,))[0])


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[Bench]:
    """Open one of the packet filters."""
    if name.endswith("dryrun"):
        clock = [1_000_000.0]

        async def elapse(seconds: float) -> None:
            clock[0] += seconds

        dry = DryRun(clock=lambda: clock[0], rejects=name == "dryrun")
        yield Bench(dry, lambda: clock[0], elapse, dry.lose)
        return
    with in_namespace() as space:
        async with Kernel(features=KERNELS[name]) as kernel:
            yield Bench(
                kernel,
                time.time,
                asyncio.sleep,
                lambda: space.run("nft", "delete", "table", "inet", "dockerjail") and None,
            )


@pytest.fixture(params=FIREWALLS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with opened(request.param) as bench:
        yield bench


@pytest.fixture
async def ready(bench: Bench) -> Bench:
    await bench.firewall.replace([], allow=[])
    return bench


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


async def test_a_lost_table_is_told_and_can_be_put_again(ready: Bench) -> None:
    await ready.firewall.apply(add=[ready.block(ONE_PORT)])
    changes = ready.firewall.changes()
    ready.lose()
    async with asyncio.timeout(10):
        assert (await anext(changes)).startswith("table deleted")
    await changes.aclose()
    assert not await ready.firewall.intact()
    assert await ready.firewall.present() == {}
    assert await ready.firewall.counters([ONE_PORT]) == {}
    for change in ({"add": [ready.block(SIX)]}, {"remove": [ONE_PORT]}):
        with pytest.raises(FirewallError):
            await ready.firewall.apply(**change)
    assert not await ready.firewall.intact()
    await ready.firewall.replace([ready.block(ONE_PORT)], allow=[])
    assert await ready.firewall.intact()
    assert (await ready.firewall.present()).keys() == {ONE_PORT}


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
