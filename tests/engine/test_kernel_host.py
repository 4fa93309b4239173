"""What a host says of its own addresses, gateways and name servers."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from dockerjail.model import Address
from dockerjail.nft.host import ThisHost
from dockerjail.ports import Host
from tests.lab import netns

pytestmark = pytest.mark.engine


@pytest.fixture
def space() -> Iterator[netns.Namespace]:
    with netns.create_unique("djn") as here, netns.create_unique("djn") as there:
        netns.connect(
            here,
            there,
            left_addresses=["198.51.100.1/24", "198.51.100.7/24", "2001:db8::1/64"],
            right_addresses=["198.51.100.2/24"],
        )
        with here.inside():
            yield here


def addresses(*texts: str) -> set[Address]:
    return {ip_address(text) for text in texts}


# ---- addresses and gateways


async def test_every_address_of_the_host_is_its_own(space: netns.Namespace) -> None:
    space.run("ip", "addr", "add", "192.0.2.1", "peer", "192.0.2.2", "dev", "veth0")
    own = await ThisHost().addresses()
    link_local = {address for address in own if address.is_link_local}
    assert own - link_local == addresses(
        *("127.0.0.1", "::1", "198.51.100.1", "198.51.100.7", "2001:db8::1"),
        "192.0.2.1",  # and not the peer's
    )


async def test_a_thousand_addresses_are_all_its_own(space: netns.Namespace) -> None:
    more = [f"10.7.{number >> 8}.{number & 255}" for number in range(1000)]
    added = "\n".join(f"addr add {address}/32 dev lo" for address in more)
    space.run("ip", "-batch", "-", stdin=added)
    assert await ThisHost().addresses() >= addresses(*more)


async def test_a_host_without_default_route_has_no_gateway(space: netns.Namespace) -> None:
    space.run("ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.9")
    space.run("ip", "route", "add", "unreachable", "default", "table", "77")
    space.run("ip", "-6", "route", "add", "blackhole", "default", "table", "77")
    assert await ThisHost().gateways() == frozenset()


async def test_gateways_are_found_in_every_shape_of_a_default_route(space: netns.Namespace) -> None:
    for command in (
        "route add default via 198.51.100.2",
        "route add default via 2001:db8::2",
        "route add default table 77 nexthop via 198.51.100.3 nexthop via 198.51.100.4",
        "route add default table 78 via inet6 2001:db8::5 dev veth0",
        "route add default table 79 dev veth0",
        "-6 route add default table 80 nexthop via 2001:db8::6 nexthop via 2001:db8::7",
        "nexthop add id 1 via 198.51.100.8 dev veth0",
        "route add default table 81 nhid 1",
    ):
        space.run("ip", *command.split())
    assert await ThisHost().gateways() == addresses(
        *("198.51.100.2", "198.51.100.3", "198.51.100.4", "198.51.100.8"),
        *("2001:db8::2", "2001:db8::5", "2001:db8::6", "2001:db8::7"),
    )


async def test_the_gateway_is_found_among_the_routes_of_a_router(space: netns.Namespace) -> None:
    routes = [f"route add 10.{n >> 8}.{n & 255}.0/24 via 198.51.100.9" for n in range(5000)]
    routes.insert(2500, "route add default via 198.51.100.2")
    space.run("ip", "-batch", "-", stdin="\n".join(routes))
    assert await ThisHost().gateways() == addresses("198.51.100.2")


# ---- changes


@asynccontextmanager
async def watched() -> AsyncIterator[AsyncGenerator[None]]:
    """Listen for changes: the first word says that somebody does."""
    changes: AsyncGenerator[None] = ThisHost().changes()
    try:
        async with asyncio.timeout(20):
            await anext(changes)
            yield changes
    finally:
        await changes.aclose()


@pytest.fixture
def lonely() -> Iterator[netns.Namespace]:
    """A host whose only link is loopback: nothing changes by itself."""
    with netns.create_unique("djn") as here, here.inside():
        yield here


async def silence(changes: AsyncGenerator[None]) -> tuple[int, asyncio.Task[None]]:
    """Count the words until there is none; return also who waits for the next."""
    for count in itertools.count():
        following = asyncio.create_task(anext(changes))
        # what is over is in the socket already, and told at once
        if not (await asyncio.wait({following}, timeout=0.5))[0]:
            return count, following
    raise AssertionError


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ("", "addr add 192.0.2.1/32 dev veth0"),
        ("addr add 192.0.2.1/32 dev veth0", "addr del 192.0.2.1/32 dev veth0"),
        ("", "addr add 2001:db8:9::1/128 dev veth0 nodad"),
        ("", "route add default via 198.51.100.2"),
        ("route add default via 198.51.100.2", "route change default via 198.51.100.3"),
        ("route add default via 198.51.100.2", "route del default"),
        ("", "route add default via 2001:db8::2"),
        ("", "route add default via 198.51.100.2 table 77"),
    ],
)
async def test_a_change_of_addresses_or_routes_is_told(
    space: netns.Namespace, before: str, change: str
) -> None:
    if before:
        space.run("ip", *before.split())
    async with watched() as changes:
        space.run("ip", *change.split())
        await anext(changes)


async def test_what_changed_is_there_to_be_read_when_it_is_told(space: netns.Namespace) -> None:
    host: Host = ThisHost()
    async with watched() as changes:
        space.run("ip", "addr", "add", "192.0.2.1/32", "dev", "veth0")
        await anext(changes)
        assert ip_address("192.0.2.1") in await host.addresses()


async def test_a_burst_of_changes_is_one_word(lonely: netns.Namespace) -> None:
    async with watched() as changes:
        added = "\n".join(f"addr add 10.7.0.{number}/32 dev lo" for number in range(100))
        lonely.run("ip", "-batch", "-", stdin=added)
        count, following = await silence(changes)
        assert count == 1
        following.cancel()
        await asyncio.wait({following})


async def test_more_changes_than_a_socket_holds_are_told_and_the_next_one_too(
    lonely: netns.Namespace,
) -> None:
    async with watched() as changes:
        added = [f"addr add 10.{n >> 8}.{n & 255}.1/32 dev lo" for n in range(5000)]
        lonely.run("ip", "-batch", "-", stdin="\n".join(added))
        count, following = await silence(changes)
        assert count >= 1
        lonely.run("ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
        await following


async def test_changes_elsewhere_are_nobodys_business(lonely: netns.Namespace) -> None:
    async with watched() as changes:
        with netns.create_unique("djn") as other:
            other.run("ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
        count, following = await silence(changes)
        assert count == 0
        following.cancel()
        await asyncio.wait({following})


# ---- name servers


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("nameserver 192.0.2.53\n", ("192.0.2.53",)),
        ("search example.org\nnameserver\t192.0.2.53 \nnameserver 2001:db8::53", ("192.0.2.53", "2001:db8::53")),
        ("nameserver fe80::1%eth0\n", ("fe80::1",)),
        ("# nameserver 192.0.2.1\n;nameserver 192.0.2.2\noptions nameserver\n", ()),
        ("nameserver\nnameserver office\nnameserver 192.0.2.300\nnameserver 192.0.2.53\n", ("192.0.2.53",)),
        ("nameserver 127.0.0.53\n", ("127.0.0.53", "192.0.2.99")),
        ("\xff\x00\nnameserver 192.0.2.53", ("192.0.2.53",)),
    ],
)  # fmt: skip
async def test_name_servers_are_those_that_the_resolver_asks(
    tmp_path: Path, text: str, found: tuple[str, ...]
) -> None:
    usual, resolved = tmp_path / "resolv.conf", tmp_path / "resolved.conf"
    usual.write_text(text, encoding="latin-1")
    resolved.write_text("nameserver 192.0.2.99\n")
    host = ThisHost(resolv_conf=usual, resolved_conf=resolved)
    assert await host.resolvers() == addresses(*found)


async def test_a_host_without_resolver_asks_none(tmp_path: Path) -> None:
    assert await ThisHost(resolv_conf=tmp_path / "none").resolvers() == frozenset()
    assert await ThisHost(resolv_conf=tmp_path).resolvers() == frozenset()


async def test_a_stub_whose_own_file_is_out_of_sight_is_all_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    host = ThisHost(resolv_conf=tmp_path / "resolv.conf", resolved_conf=tmp_path / "none")
    assert await host.resolvers() == addresses("127.0.0.53")
