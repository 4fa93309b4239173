"""A start that finds a table: what is taken over, with packets, and what must never be."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from dockerjail.model import Blocktype, Counter, Direct
from dockerjail.nft.kernel import Kernel
from dockerjail.ports import Block
from tests.lab.packets import (
    ATTACKER,
    CONTAINER,
    DEVICE,
    NEIGHBOUR,
    SERVER,
    Lab,
    block,
    blocked,
    connected,
    element,
    past_the_host,
)

pytestmark = pytest.mark.engine

BANNED = element(f"{ATTACKER}/32", 53, "udp")
ALLOW = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
DIRECT = [Direct(DEVICE, ip_address(CONTAINER))]


def kinds() -> Sequence[Block]:
    """Return a block of every kind, each for the next ten minutes."""
    return [
        block(BANNED),
        block(element("192.0.2.0/24")),
        block(element("2001:db8::/48", 80, blocktype=Blocktype.REJECT)),
        block(element("2001:db8::/48", blocktype=Blocktype.REJECT)),
        block(element("192.0.2.0/24", to=CONTAINER)),
    ]


@pytest.fixture(params=[False, True], ids=["plain", "owner"])
async def left(lab: Lab, request: pytest.FixtureRequest) -> AsyncIterator[Kernel]:
    """The table of a process that has ended, and the next process."""
    async with Kernel(owner=request.param) as kernel:
        if request.param and not kernel.features.owner:
            pytest.skip("this machine's kernel has no tables with an owner: it is older than 6.9")
        if not (kernel.rejects and kernel.features.ingress):
            pytest.skip("this machine's kernel is older than 5.10")
        await kernel.replace(kinds(), allow=ALLOW, direct=DIRECT)
    async with Kernel(owner=request.param) as kernel:
        yield kernel


def listing(lab: Lab) -> str:
    return lab.host.run("nft", "-s", "list", "ruleset").stdout


def rules(lab: Lab) -> list[str]:
    """Return the listing without its first lines, which say who has the table."""
    return listing(lab).partition("\tset ")[2].splitlines()


# ---- taken over


async def test_an_adopted_table_goes_on_blocking_and_counting(lab: Lab) -> None:
    client = lab.udp(lab.outside, ATTACKER)
    async with Kernel() as kernel:
        await kernel.replace([block(BANNED)], allow=[])
        client.sendto(b"x", (SERVER, 53))
        before = await blocked(kernel, BANNED)
    client.sendto(b"nobody is there", (SERVER, 53))
    async with Kernel() as kernel:
        assert await kernel.adopt(allow=[])
        client.sendto(b"x", (SERVER, 53))
        counted = await blocked(kernel, BANNED, packets=3)
        assert counted.bytes > before.bytes
        assert await kernel.blocked() == counted
        await kernel.apply(add=[block(element(f"{NEIGHBOUR}/32"))])
        await kernel.guard(DIRECT)
        await kernel.allow(ALLOW)
        assert await kernel.blocked() == counted
        await kernel.replace([block(BANNED)], allow=[])
        assert await kernel.blocked() == Counter(0, 0)


async def test_what_is_allowed_and_guarded_after_an_adoption_is_what_was_given(lab: Lab) -> None:
    banned = element(f"{ATTACKER}/32")
    async with Kernel() as kernel:
        await kernel.replace(
            [block(banned)],
            allow=[ip_network(f"{ATTACKER}/32")],
            direct=[Direct("gone0", ip_address("10.7.0.2"))],
        )
    lab.listen(SERVER, 80)
    lab.connect(ATTACKER, SERVER, 80)
    with past_the_host(lab) as container:
        lab.listen(CONTAINER, 80, space=container)
        async with Kernel() as kernel:
            assert await kernel.adopt(allow=ALLOW, direct=DIRECT)
            for target in (SERVER, CONTAINER):
                before = (await kernel.counters([banned]))[banned].packets
                knocking = lab.knock(ATTACKER, target, 80)
                await blocked(kernel, banned, packets=before + 1)
                assert not connected(knocking)
    chains = lab.host.run("nft", "list", "chains").stdout
    assert f"ingress_{DEVICE}" in chains
    assert "ingress_gone0" not in chains


async def test_adopting_changes_no_rule_and_leaves_nothing_beside(lab: Lab, left: Kernel) -> None:
    before = rules(lab)
    assert await left.adopt(allow=ALLOW, direct=DIRECT)
    assert await left.intact()
    assert rules(lab) == before


async def test_the_elements_of_a_table_do_not_matter_for_its_adoption(
    lab: Lab, left: Kernel
) -> None:
    lab.host.run("nft", "flush", "set", "inet", "dockerjail", "port4_32")
    lab.host.run("nft", "add element inet dockerjail all4_32 { 203.0.113.7 }")
    assert await left.adopt(allow=ALLOW, direct=DIRECT)
    present = await left.present()
    assert BANNED not in present
    assert element("203.0.113.7/32") in present


# ---- not taken over


TAMPERED = [
    "insert rule inet dockerjail raw_prerouting accept",
    "add rule inet dockerjail ct_prerouting accept",
    "add rule inet dockerjail direct accept",
    "add rule inet dockerjail answer accept",
    "flush chain inet dockerjail raw_prerouting",
    "delete chain inet dockerjail raw_prerouting",
    "add chain inet dockerjail more",
    "add chain inet dockerjail more { type filter hook input priority 0; policy drop; }",
    "chain inet dockerjail ct_prerouting { policy drop; }",
    "add set inet dockerjail more { type ipv4_addr; }",
    "add set inet dockerjail all4_16 { type ipv4_addr; flags timeout; counter; gc-interval 1m; }",
    "add set inet dockerjail all4_9 { type ipv6_addr; }",
]


@pytest.mark.parametrize("command", TAMPERED)
async def test_a_table_that_somebody_changed_is_not_adopted_nor_touched(
    lab: Lab, left: Kernel, command: str
) -> None:
    lab.host.run("nft", command)
    before = listing(lab)
    assert not await left.adopt(allow=[], direct=[])
    assert listing(lab) == before
    assert not await left.intact()
    await left.replace([block(BANNED)], allow=[])
    assert await left.intact()


async def test_a_table_that_sleeps_is_not_adopted(lab: Lab) -> None:
    async with Kernel() as kernel:
        await kernel.replace(kinds(), allow=ALLOW)
    lab.host.run("nft", "add table inet dockerjail { flags dormant; }")
    async with Kernel() as kernel:
        assert not await kernel.adopt(allow=ALLOW)


@pytest.mark.parametrize("index", range(9))
async def test_a_table_that_lacks_any_one_rule_is_not_adopted(lab: Lab, index: int) -> None:
    async with Kernel() as kernel:
        await kernel.replace([], allow=[])
    found = [
        (chain, line.rpartition("handle ")[2])
        for chain in ("raw_prerouting", "ct_prerouting", "direct")
        for line in lab.host.run(
            "nft", "-a", "list", "chain", "inet", "dockerjail", chain
        ).stdout.splitlines()
        if "comment" in line
    ]
    chain, handle = found[index]
    lab.host.run("nft", "delete", "rule", "inet", "dockerjail", chain, "handle", handle)
    async with Kernel() as kernel:
        assert not await kernel.adopt(allow=[])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@port4_32 counter packets 0 bytes 0 drop", "@port4_32 counter accept"),
        ("@port4_32 counter packets 0 bytes 0 drop", "@port4_32 drop"),
        ("@all4_32 counter packets 0 bytes 0 drop", "@all4_32 counter jump direct"),
        ("@all4_32 ip daddr @direct4", "@all4_32 ip daddr != @direct4"),
        ("ip saddr @allow4", "ip daddr @allow4"),
        ("reply", "original"),
        ("priority raw - 10", "priority raw - 9"),
        ("hook prerouting priority mangle", "hook input priority mangle"),
        ("gc-interval 1m", "gc-interval 2m"),
        ("flags timeout\n\t\tcounter", "flags timeout"),
        ("flags timeout\n", "flags timeout\n\t\tsize 65535\n"),
        ("bans of ports", "bans of nothing"),
    ],
)
async def test_a_table_that_differs_in_one_word_is_not_adopted(
    lab: Lab, old: str, new: str
) -> None:
    async with Kernel() as kernel:
        await kernel.replace([], allow=[])
    text = lab.host.run("nft", "list", "table", "inet", "dockerjail").stdout
    assert old in text
    changed = text.replace(old, new, 1)
    for again, adopted in ((text, True), (changed, False)):
        lab.host.run("nft", "-f", "-", stdin=f"delete table inet dockerjail\n{again}")
        async with Kernel() as kernel:
            assert await kernel.adopt(allow=[]) is adopted


async def test_the_table_of_an_older_dockerjail_is_not_adopted(lab: Lab) -> None:
    async with Kernel() as kernel:
        await kernel.replace([block(BANNED)], allow=ALLOW)
    # the first ones had neither
    for name in ("direct4", "direct6"):
        lab.host.run("nft", "flush", "chain", "inet", "dockerjail", "direct")
        lab.host.run("nft", "delete", "set", "inet", "dockerjail", name)
    lab.host.run("nft", "delete", "chain", "inet", "dockerjail", "direct")
    async with Kernel() as kernel:
        assert not await kernel.adopt(allow=ALLOW)
        assert (await kernel.present()).keys() == {BANNED}


async def test_a_table_that_answers_is_not_adopted_by_one_that_cannot(lab: Lab) -> None:
    async with Kernel() as kernel:
        await kernel.replace(kinds(), allow=ALLOW)
        old = replace(kernel.features, reject=False)
    async with Kernel(features=old) as kernel:
        assert not await kernel.adopt(allow=ALLOW)
        assert await kernel.present()


async def test_a_probe_left_over_does_no_harm(lab: Lab, left: Kernel) -> None:
    lab.host.run("nft", "add table inet dockerjail_probe; add chain inet dockerjail_probe c")
    assert await left.adopt(allow=ALLOW)
    assert "dockerjail_probe" not in listing(lab)


async def test_a_change_beside_the_adoption_is_found_afterwards(lab: Lab, left: Kernel) -> None:
    assert await left.adopt(allow=ALLOW)
    lab.host.run("nft", "add rule inet dockerjail direct accept", check=False)
    owned = bool(left._flags)
    assert await left.intact() is owned
    assert await left.disturbed() is not owned
    assert (await left.present())[BANNED] > time.time()
