"""Containers that clients reach past the host (macvlan), with real packets and real devices."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest

from dockerjail.errors import FirewallError
from dockerjail.model import Blocktype, Direct
from dockerjail.nft import encode, ruleset
from dockerjail.nft.kernel import Kernel, _Door
from dockerjail.nft.plan import plan
from tests.lab import netns
from tests.lab.packets import (
    ATTACKER,
    ATTACKER6,
    CONTAINER,
    CONTAINER6,
    DEVICE,
    NEIGHBOUR,
    NEIGHBOUR6,
    OTHER,
    OTHER6,
    SERVER,
    SERVER6,
    Lab,
    block,
    blocked,
    connected,
    element,
    past_the_host,
    silent,
)

pytestmark = pytest.mark.engine

DIRECT = [Direct(DEVICE, ip_address(each)) for each in (CONTAINER, CONTAINER6)]


@dataclass(frozen=True)
class Side:
    """The addresses of one IP version; `direct` is the container's that is guarded."""

    direct: str
    other: str
    server: str
    attacker: str
    neighbour: str
    subject: str


FOUR = Side(CONTAINER, OTHER, SERVER, ATTACKER, NEIGHBOUR, f"{ATTACKER}/32")
SIX = Side(CONTAINER6, OTHER6, SERVER6, ATTACKER6, NEIGHBOUR6, "2001:db8:0:1::/64")
SIDES = pytest.mark.parametrize("side", [FOUR, SIX], ids=["IPv4", "IPv6"])


@pytest.fixture
def container(lab: Lab) -> Iterator[netns.Namespace]:
    with past_the_host(lab) as made:
        yield made


@pytest.fixture
async def kernel(lab: Lab) -> AsyncIterator[Kernel]:
    async with Kernel() as opened:
        if not opened.features.ingress:
            pytest.skip("this machine's kernel has no ingress chains: it is older than 5.10")
        await opened.replace([], allow=[], direct=DIRECT)
        yield opened


# ---- packets


@SIDES
async def test_a_banned_client_gets_no_new_connection_past_the_host_and_others_do(
    lab: Lab, kernel: Kernel, container: netns.Namespace, side: Side
) -> None:
    for address in (side.direct, side.other):
        lab.listen(address, 80, space=container)
    lab.listen(side.server, 80)
    lab.connect(side.attacker, side.direct, 80)
    banned = element(side.subject, to=side.direct)
    await kernel.apply(add=[block(banned)])
    knocking = lab.knock(side.attacker, side.direct, 80)
    await blocked(kernel, banned)
    assert not connected(knocking)
    lab.connect(side.attacker, side.other, 80)
    lab.connect(side.neighbour, side.direct, 80)
    await kernel.apply(remove=[banned])
    lab.connect(side.attacker, side.direct, 80)


@SIDES
async def test_a_ban_past_the_host_leaves_the_hosts_own_ports_alone(
    lab: Lab, kernel: Kernel, container: netns.Namespace, side: Side
) -> None:
    listening = lab.listen(side.server, 80)
    before = lab.connect(side.attacker, side.server, 80)
    accepted, _ = listening.accept()
    with accepted:
        await kernel.apply(add=[block(element(side.subject, to=side.direct))])
        before.sendall(b"still there")
        assert accepted.recv(100) == b"still there"
        lab.connect(side.attacker, side.server, 80)


@SIDES
async def test_a_ban_cuts_an_established_connection_past_the_host(
    lab: Lab, kernel: Kernel, container: netns.Namespace, side: Side
) -> None:
    listening = lab.listen(side.direct, 80, space=container)
    client = lab.connect(side.attacker, side.direct, 80)
    accepted, _ = listening.accept()
    with accepted:
        accepted.settimeout(10)
        client.sendall(b"before")
        assert accepted.recv(100) == b"before"
        banned = element(side.subject, to=side.direct)
        await kernel.apply(add=[block(banned)])
        client.sendall(b"after")
        await blocked(kernel, banned)
        assert silent(accepted)


@SIDES
async def test_a_banned_client_gets_no_udp_past_the_host_and_others_do(
    lab: Lab, kernel: Kernel, container: netns.Namespace, side: Side
) -> None:
    service = lab.udp(container, side.direct, 53)
    bad, good = lab.udp(lab.outside, side.attacker), lab.udp(lab.outside, side.neighbour)
    bad.sendto(b"before", (side.direct, 53))
    assert service.recv(100) == b"before"
    banned = element(side.subject, to=side.direct)
    await kernel.apply(add=[block(banned)])
    bad.sendto(b"after", (side.direct, 53))
    counted = await blocked(kernel, banned)
    assert await kernel.blocked() == counted
    good.sendto(b"neighbour", (side.direct, 53))
    assert service.recv(100) == b"neighbour"


@SIDES
@pytest.mark.parametrize("blocktype", Blocktype)
async def test_a_ban_from_everything_holds_past_the_host_and_only_for_guarded_addresses(
    lab: Lab, kernel: Kernel, container: netns.Namespace, side: Side, blocktype: Blocktype
) -> None:
    services = [lab.udp(container, each, 53) for each in (side.direct, side.other)]
    bad, good = lab.udp(lab.outside, side.attacker), lab.udp(lab.outside, side.neighbour)
    banned = element(side.subject, blocktype=blocktype)
    await kernel.apply(add=[block(banned)])
    bad.sendto(b"banned", (side.direct, 53))
    await blocked(kernel, banned)
    bad.sendto(b"not guarded", (side.other, 53))
    assert services[1].recv(100) == b"not guarded"
    good.sendto(b"neighbour", (side.direct, 53))
    assert services[0].recv(100) == b"neighbour"
    await kernel.guard([*DIRECT, Direct(DEVICE, ip_address(side.other))])
    before = (await kernel.counters([banned]))[banned].packets
    bad.sendto(b"guarded now", (side.other, 53))
    await blocked(kernel, banned, packets=before + 1)
    assert silent(services[1])


@SIDES
async def test_who_is_allowed_passes_whatever_a_ban_past_the_host_says(
    lab: Lab, kernel: Kernel, container: netns.Namespace, side: Side
) -> None:
    lab.listen(side.direct, 80, space=container)
    bans = [element(side.subject, to=side.direct), element(side.subject)]
    await kernel.apply(add=[block(one) for one in bans])
    knocking = lab.knock(side.attacker, side.direct, 80)
    await blocked(kernel, bans[1])
    assert not connected(knocking)
    await kernel.allow([ip_network(side.attacker)])
    lab.connect(side.attacker, side.direct, 80)


@pytest.mark.parametrize("subject", ["0.0.0.0/0", "198.51.0.0/17", "198.51.100.0/25"])
async def test_a_ban_past_the_host_meets_a_network_whatever_the_prefix(
    lab: Lab, kernel: Kernel, container: netns.Namespace, subject: str
) -> None:
    service = lab.udp(container, CONTAINER, 53)
    banned = element(subject, to=CONTAINER)
    await kernel.apply(add=[block(banned)])
    lab.udp(lab.outside, ATTACKER).sendto(b"x", (CONTAINER, 53))
    await blocked(kernel, banned)
    assert silent(service)


async def test_a_ban_past_the_host_leaves_neighbours_findable(
    lab: Lab, kernel: Kernel, container: netns.Namespace
) -> None:
    await kernel.apply(add=[block(element(SIX.subject, to=CONTAINER6))])
    for space in (container, lab.outside):
        space.run("ip", "-6", "neigh", "flush", "all")
    # unknown neighbours are found by ICMPv6; the one outside the banned /64 is answered
    lab.listen(CONTAINER6, 80, space=container)
    lab.connect(NEIGHBOUR6, CONTAINER6, 80)


# ---- devices that come and go


def pair(lab: Lab, device: str) -> None:
    lab.host.run("ip", "link", "add", device, "type", "veth", "peer", "name", f"p-{device}")


async def test_a_device_that_is_not_there_is_told_and_all_else_works(lab: Lab) -> None:
    away = Direct("trunk0.7", ip_address("10.7.0.2"))
    async with Kernel() as kernel:
        await kernel.replace(
            [block(element("192.0.2.1/32", to="10.7.0.2"))], allow=[], direct=[*DIRECT, away]
        )
        assert list(kernel.deaf) == ["trunk0.7"]
        assert "no such device" in kernel.deaf["trunk0.7"]
        assert await kernel.intact()
        assert not await kernel.disturbed()
        pair(lab, "trunk0.7")
        assert await kernel.disturbed()
        if not await kernel.intact():  # before Linux 6.16 the chain can only be put now
            await kernel.guard([*DIRECT, away])
        assert kernel.deaf == {}
        assert await kernel.intact()
        assert await kernel.disturbed() in (False, True)
        assert not await kernel.disturbed()


async def test_a_chain_is_whole_again_when_its_device_is_back(lab: Lab) -> None:
    direct = [Direct("trunk0", ip_address("10.7.0.2"))]
    pair(lab, "trunk0")
    async with Kernel() as kernel:
        banned = element("10.7.0.3/32", to="10.7.0.2")
        await kernel.replace([block(banned)], allow=[], direct=direct)
        assert kernel.deaf == {}
        lab.host.run("ip", "link", "del", "trunk0")
        assert await kernel.disturbed()
        assert await kernel.intact()
        assert list(kernel.deaf) == ["trunk0"]
        await kernel.apply(add=[block(element("10.7.0.0/24", to="10.7.0.2"))])
        assert await kernel.intact()
        pair(lab, "trunk0")
        assert await kernel.disturbed()
        if not await kernel.intact():
            await kernel.guard(direct)
        assert await kernel.intact()
        assert kernel.deaf == {}
        for link, address in (("trunk0", "10.7.0.1"), ("p-trunk0", "10.7.0.3")):
            netns.add_address(lab.host, link, f"{address}/24")
            lab.host.run("ip", "link", "set", link, "up")
        lab.host.run("ip", "link", "set", "p-trunk0", "netns", str(lab.outside.path))
        netns.add_address(lab.outside, "p-trunk0", "10.7.0.3/24")
        lab.outside.run("ip", "link", "set", "p-trunk0", "up")
        netns.add_address(lab.host, "trunk0", "10.7.0.2/24")
        lab.udp(lab.outside, "10.7.0.3").sendto(b"x", ("10.7.0.2", 53))
        await blocked(kernel, banned)


async def test_a_device_that_went_and_came_between_two_looks_is_noticed(lab: Lab) -> None:
    pair(lab, "trunk0")
    async with Kernel() as kernel:
        await kernel.replace([], allow=[], direct=[Direct("trunk0", ip_address("10.7.0.2"))])
        assert not await kernel.disturbed()
        lab.host.run("ip", "link", "del", "trunk0")
        pair(lab, "trunk0")
        # before Linux 6.16 the chain went without a word
        assert await kernel.disturbed()
        assert not await kernel.disturbed()


async def test_a_chain_that_went_with_its_device_is_put_again_by_guard(
    lab: Lab, kernel: Kernel
) -> None:
    # what kernels before 6.16 do by themselves when the device goes
    lab.host.run("nft", "delete", "chain", "inet", "dockerjail", f"ingress_{DEVICE}")
    assert not await kernel.intact()
    await kernel.guard(DIRECT)
    assert await kernel.intact()
    chain = lab.host.run("nft", "list", "chain", "inet", "dockerjail", f"ingress_{DEVICE}").stdout
    assert "goto direct" in chain


async def test_only_devices_in_use_have_a_chain(lab: Lab, kernel: Kernel) -> None:
    pair(lab, "trunk0")
    direct = [Direct("trunk0", ip_address("10.7.0.2")), Direct("trunk0", ip_address("fd00::2"))]

    def chains() -> set[str]:
        words = lab.host.run("nft", "list", "chains", "inet").stdout.split()
        return {word for word in words if word.startswith("ingress_")}

    assert chains() == {f"ingress_{DEVICE}"}
    await kernel.guard([*direct, *DIRECT])
    assert chains() == {f"ingress_{DEVICE}", "ingress_trunk0"}
    await kernel.guard(direct)
    assert chains() == {"ingress_trunk0"}
    await kernel.guard([])
    assert chains() == set()
    assert await kernel.intact()
    assert not await kernel.disturbed()
    await kernel.replace([], allow=[], direct=direct)
    assert chains() == {"ingress_trunk0"}
    await kernel.replace([], allow=[])
    assert chains() == set()
    assert kernel.deaf == {}


@pytest.mark.parametrize("device", ["", ".", "a/b", "sixteen-letters-", "a b", "a:b"])
async def test_a_device_that_cannot_be_is_told_and_all_else_works(
    lab: Lab, kernel: Kernel, device: str
) -> None:
    await kernel.guard([*DIRECT, Direct(device, ip_address("10.7.0.2"))])
    assert list(kernel.deaf) == [device]
    assert await kernel.intact()
    await kernel.replace([], allow=[], direct=[*DIRECT, Direct(device, ip_address("10.7.0.2"))])
    assert list(kernel.deaf) == [device]
    assert await kernel.intact()


@pytest.mark.parametrize("device", ["eth-0.50", "br_0", "dm-0123456789ab", "a@b\u00e9"])
async def test_nft_can_read_back_what_stands_at_a_device_of_any_name(
    lab: Lab, kernel: Kernel, device: str
) -> None:
    lab.host.run("ip", "link", "add", device, "type", "veth", "peer", "name", "peer0")
    await kernel.guard([Direct(device, ip_address("10.7.0.2"))])
    assert kernel.deaf == {}
    listing = lab.host.run("nft", "list", "table", "inet", "dockerjail").stdout
    lab.host.run("nft", "-c", "-f", "-", stdin=listing)


async def test_a_chain_that_the_kernel_refuses_does_not_sink_the_rest(
    lab: Lab, kernel: Kernel
) -> None:
    # a name too long stands for a device that is missing, which kernels from 6.16 on take
    wanted = plan([block(element("192.0.2.1/32", to=CONTAINER))], [], time.time())
    fixed = encode.everything(kernel.table, ruleset.extension(wanted.homes))
    parts = [_Door("sixteen-letters-"), *wanted.wanted]
    echoes, accepted, refused = await kernel._write(fixed, parts, "trying")
    assert echoes
    assert accepted == 1
    assert list(refused) == ["sixteen-letters-"]
    assert list(await kernel.present()) == [element("192.0.2.1/32", to=CONTAINER)]
    assert f"ingress_{DEVICE}" in lab.host.run("nft", "list", "chains").stdout


async def test_without_a_table_nothing_can_be_guarded(lab: Lab) -> None:
    async with Kernel() as kernel:
        with pytest.raises(FirewallError, match="no table of ours"):
            await kernel.guard(DIRECT)


async def test_guarding_a_lost_table_is_an_error_and_changes_nothing(
    lab: Lab, kernel: Kernel
) -> None:
    lab.host.run("nft", "delete", "table", "inet", "dockerjail")
    with pytest.raises(FirewallError):
        await kernel.guard([])
    assert not await kernel.intact()
    await kernel.replace([], allow=[], direct=DIRECT)
    assert await kernel.intact()


async def test_many_devices_at_once_are_guarded(lab: Lab, kernel: Kernel) -> None:
    direct = [Direct(f"trunk{n}", ip_address(f"10.7.{n}.2")) for n in range(20)]
    for each in direct[::2]:
        pair(lab, each.device)
    async with asyncio.TaskGroup() as group:
        group.create_task(kernel.guard(direct[:10]))
        group.create_task(kernel.guard(direct))
    assert kernel.deaf.keys() == {each.device for each in direct[1::2]}
    assert await kernel.intact()
