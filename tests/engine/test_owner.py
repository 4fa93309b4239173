"""Tables that only their own process may change, with packets and with other processes."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network

import pytest

from dockerjail.errors import FirewallError, FirewallUnavailable
from dockerjail.model import Direct
from dockerjail.nft import messages
from dockerjail.nft.kernel import Kernel
from tests.lab.packets import (
    ATTACKER,
    DEVICE,
    SERVER,
    Lab,
    block,
    blocked,
    connected,
    element,
)

pytestmark = pytest.mark.engine

BANNED = element(f"{ATTACKER}/32", 80)


@pytest.fixture
async def kernel(lab: Lab) -> AsyncIterator[Kernel]:
    async with Kernel(owner=True) as opened:
        if not opened.features.owner:
            pytest.skip("this machine's kernel has no tables with an owner: it is older than 6.9")
        await opened.replace([block(BANNED)], allow=[])
        yield opened


async def blocks(lab: Lab, kernel: Kernel) -> None:
    before = (await kernel.counters([BANNED]))[BANNED].packets
    knocking = lab.knock(ATTACKER, SERVER, 80)
    await blocked(kernel, BANNED, packets=before + 1)
    assert not connected(knocking)


@pytest.mark.parametrize(
    "command",
    [
        "delete table inet dockerjail",
        "flush table inet dockerjail",
        "flush chain inet dockerjail raw_prerouting",
        "insert rule inet dockerjail raw_prerouting accept",
        "flush set inet dockerjail port4_32",
        f"delete element inet dockerjail port4_32 {{ {ATTACKER} . tcp . 80 }}",
        "add element inet dockerjail allow4 { 198.51.100.0/24 }",
        "add table inet dockerjail { flags dormant; }",
    ],
)
async def test_nobody_else_can_change_the_table(lab: Lab, kernel: Kernel, command: str) -> None:
    lab.listen(SERVER, 80)
    assert not await kernel.disturbed()
    assert "not permitted" in lab.host.run("nft", command, check=False).stderr
    assert await kernel.intact()
    assert not await kernel.disturbed()
    assert (await kernel.present()).keys() == {BANNED}
    await blocks(lab, kernel)


async def test_a_flushed_ruleset_leaves_the_table(lab: Lab, kernel: Kernel) -> None:
    lab.listen(SERVER, 80)
    lab.host.run("nft", "add table ip other")
    lab.host.run("nft", "flush ruleset")
    assert "other" not in lab.host.run("nft", "list", "tables").stdout
    assert await kernel.intact()
    await blocks(lab, kernel)


async def test_the_owner_itself_can_change_everything(lab: Lab, kernel: Kernel) -> None:
    await kernel.apply(add=[block(element("192.0.2.0/24"))], remove=[BANNED])
    await kernel.allow([ip_network("10.0.0.0/8")])
    await kernel.guard([Direct(DEVICE, ip_address("10.7.0.2"))])
    await kernel.replace([block(BANNED)], allow=[])
    assert await kernel.intact()
    assert not await kernel.disturbed()


async def test_the_owners_own_changes_are_not_echoed(lab: Lab, kernel: Kernel) -> None:
    await kernel.apply(add=[block(element("192.0.2.0/24"))], remove=[BANNED])
    await kernel.guard([Direct(DEVICE, ip_address("10.7.0.2"))])
    await kernel.replace([block(BANNED)], allow=[])
    lab.host.run("nft", "add table inet other")
    told = messages.Events()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        while told.author is None:
            told += messages.events(
                await loop.sock_recv(kernel._netlink.events, 1 << 16), "dockerjail"
            )
    assert str(told.author).startswith("nft, process")
    assert told.gravest is None


async def test_the_table_stays_with_its_bans_when_its_owner_is_gone(lab: Lab) -> None:
    lab.listen(SERVER, 80)
    async with Kernel(owner=True) as kernel:
        await kernel.replace([block(BANNED)], allow=[])
    async with Kernel() as reader:
        await blocks(lab, reader)
    # nobody has it: an administrator may
    lab.host.run("nft", "delete", "table", "inet", "dockerjail")


@pytest.mark.parametrize("owner", [False, True], ids=["who owns none", "who owns"])
async def test_a_second_process_is_told_that_the_table_has_an_owner(
    lab: Lab, kernel: Kernel, owner: bool
) -> None:
    async with Kernel(owner=owner) as second:
        assert not await second.adopt(allow=[])
        with pytest.raises(FirewallError, match="belongs to another process") as refused:
            await second.replace([], allow=[])
        assert not isinstance(refused.value, FirewallUnavailable)
        assert "EPERM" in str(refused.value)
        assert not await second.intact()
    assert await kernel.intact()
    assert (await kernel.present()).keys() == {BANNED}


@pytest.mark.parametrize("first", [False, True], ids=["plain", "owner"])
@pytest.mark.parametrize("then", [False, True], ids=["then plain", "then owner"])
async def test_the_next_process_goes_on_whichever_kind_the_last_was(
    lab: Lab, first: bool, then: bool
) -> None:
    lab.listen(SERVER, 80)
    async with Kernel(owner=first) as kernel:
        await kernel.replace([block(BANNED)], allow=[])
    async with Kernel(owner=then) as kernel:
        if not kernel.features.owner:
            pytest.skip("this machine's kernel has no tables with an owner: it is older than 6.9")
        assert await kernel.adopt(allow=[]) is (first is then)
        if first is not then:
            await kernel.replace([block(BANNED)], allow=[])
        assert await kernel.intact()
        await blocks(lab, kernel)
        lab.host.run("nft", "delete", "table", "inet", "dockerjail", check=not then)
        assert await kernel.intact() is then


async def test_an_adopted_table_is_owned_again(lab: Lab, kernel: Kernel) -> None:
    await kernel.close()
    async with Kernel(owner=True) as heir:
        assert await heir.adopt(allow=[], direct=[Direct(DEVICE, ip_address("10.7.0.2"))])
        assert heir.deaf == {}
        lab.host.run("nft", "flush", "ruleset")
        assert await heir.intact()
        assert (await heir.present()).keys() == {BANNED}
