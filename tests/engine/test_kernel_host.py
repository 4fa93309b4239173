"""What a host says of its own addresses and gateways."""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from dockerjail.nft import host
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


async def test_every_address_of_the_host_is_its_own(space: netns.Namespace) -> None:
    space.run("ip", "addr", "add", "192.0.2.1", "peer", "192.0.2.2", "dev", "veth0")
    own = await host.own_addresses()
    link_local = {address for address in own if address.is_link_local}
    assert own - link_local == {
        ip_address(text)
        for text in (
            *("127.0.0.1", "::1", "198.51.100.1", "198.51.100.7", "2001:db8::1"),
            "192.0.2.1",  # and not the peer's
        )
    }


async def test_a_host_without_default_route_has_no_gateway(space: netns.Namespace) -> None:
    space.run("ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.9")
    assert await host.default_gateways() == frozenset()


async def test_gateways_are_found_in_every_shape_of_a_default_route(space: netns.Namespace) -> None:
    for command in (
        "route add default via 198.51.100.2",
        "route add default via 2001:db8::2",
        "route add default table 77 nexthop via 198.51.100.3 nexthop via 198.51.100.4",
        "route add default table 78 via inet6 2001:db8::5 dev veth0",
        "route add default table 79 dev veth0",
        "-6 route add default table 80 nexthop via 2001:db8::6 nexthop via 2001:db8::7",
    ):
        space.run("ip", *command.split())
    assert await host.default_gateways() == {
        ip_address(text)
        for text in (
            *("198.51.100.2", "198.51.100.3", "198.51.100.4"),
            *("2001:db8::2", "2001:db8::5", "2001:db8::6", "2001:db8::7"),
        )
    }
