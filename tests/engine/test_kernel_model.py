"""Thousands of random steps on the kernel's packet filter and on its twin in memory, side by side."""

import random
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from dockerjail.model import Blocktype, Direct, Element, Port
from dockerjail.nft import ruleset
from dockerjail.nft.dryrun import DryRun
from dockerjail.nft.kernel import Kernel
from dockerjail.ports import Block
from tests.lab import netns

pytestmark = pytest.mark.engine

STEPS = 1500
SOON = 0.5
"""Seconds around the end of an element in which the two clocks may tell different things."""

DEVICES = ("trunk0", "trunk1.7")


def an_element(dice: random.Random) -> Element:
    """Draw from so few that the same come again, in networks that overlap."""
    kind = dice.choice(("all", "port", "to"))
    blocktype = dice.choice(tuple(Blocktype)) if kind != "to" else Blocktype.DROP
    port = Port(dice.choice((53, 80)), dice.choice(("tcp", "udp"))) if kind == "port" else None
    if dice.random() < 0.6:
        to4 = IPv4Address(f"10.7.0.{dice.randrange(2, 4)}")
        address, prefix = f"192.0.2.{dice.randrange(8)}", dice.choice((8, 24, 31, 32))
        return Element(
            ip_network(f"{address}/{prefix}", strict=False),
            port,
            blocktype,
            to4 if kind == "to" else None,
        )
    address, prefix = (
        f"2001:db8:0:{dice.randrange(4)}::{dice.randrange(3)}",
        dice.choice((48, 64, 128)),
    )
    return Element(
        ip_network(f"{address}/{prefix}", strict=False),
        port,
        blocktype,
        IPv6Address("fd00::2") if kind == "to" else None,
    )


def some_blocks(dice: random.Random, most: int) -> list[Block]:
    now = time.time()
    ends = (None, now + 60, now + 3600, now + 2, now - 1)
    return [
        Block(element=an_element(dice), until=dice.choice(ends))
        for _ in range(dice.randrange(most))
    ]


def some_direct(dice: random.Random) -> list[Direct]:
    return [
        Direct(device, IPv4Address(f"10.7.0.{dice.randrange(2, 4)}"))
        for device in (*DEVICES, "never0", "")
        if dice.random() < 0.4
    ]


def by_hand(element: Element) -> str:
    """Write an element's key as `nft` does."""
    parts = [str(element.subject.network_address)]
    if element.port is not None:
        parts += [element.port.protocol, str(element.port.number)]
    if element.to is not None:
        parts.append(str(element.to))
    return " . ".join(parts)


def alike(present: Mapping[Element, float | None], model: Mapping[Element, float | None]) -> None:
    soon = time.time() + SOON

    def lasting(each: Mapping[Element, float | None]) -> set[Element]:
        return {element for element, until in each.items() if until is None or until > soon}

    missing, stray = lasting(model) - present.keys(), lasting(present) - model.keys()
    assert (missing, stray) == (set(), set())
    for element in lasting(model):
        until = model[element]
        assert present[element] == (None if until is None else pytest.approx(until, abs=1))


@pytest.mark.parametrize("owner", [False, True], ids=["plain", "owner"])
async def test_after_every_step_the_kernel_has_what_the_model_has(owner: bool) -> None:
    dice = random.Random(owner)
    links: set[str] = set()
    with netns.create_unique("k4") as space, space.inside():
        async with AsyncExitStack() as stack:
            kernel = await stack.enter_async_context(Kernel(owner=owner))
            if not (kernel.rejects and kernel.features.ingress):
                pytest.skip("this machine's kernel is older than 5.10")
            owned = owner and kernel.features.owner
            model = DryRun()
            for each in ("", "never0", *DEVICES):
                model.plug(each, there=False)
            for each in (kernel, model):
                await each.replace([], allow=[])
            for _ in range(STEPS):
                step = dice.random()
                if step < 0.70:
                    blocks = some_blocks(dice, 12)
                    remove = [an_element(dice) for _ in range(dice.randrange(6))]
                    for each in (kernel, model):
                        await each.apply(add=blocks, remove=remove)
                elif step < 0.75:
                    direct = some_direct(dice)
                    for each in (kernel, model):
                        await each.guard(direct)
                elif step < 0.80:
                    allow = [an_element(dice).subject for _ in range(dice.randrange(5))]
                    for each in (kernel, model):
                        await each.allow(allow)
                elif step < 0.85:
                    device = dice.choice(DEVICES)
                    there = device not in links
                    links ^= {device}
                    peer = f"p-{device}"
                    link = ("add", device, "type", "veth", "peer", "name", peer)
                    space.run("ip", "link", *(link if there else ("del", device)))
                    model.plug(device, there=there)
                    if not await kernel.intact():  # before Linux 6.16
                        await kernel.guard(list(model.direct))
                elif step < 0.90:
                    before = model
                    model = DryRun(after=before)
                    for each in ("", "never0", *(set(DEVICES) - links)):
                        model.plug(each, there=False)
                    await kernel.close()
                    kernel = await stack.enter_async_context(Kernel(owner=owner))
                    direct = some_direct(dice)
                    for each in (kernel, model):
                        assert await each.adopt(allow=before.allowed, direct=direct)
                elif step < 0.92:
                    blocks = some_blocks(dice, 30)
                    direct = some_direct(dice)
                    for each in (kernel, model):
                        await each.replace(blocks, allow=[], direct=direct)
                elif step < 0.97:
                    there = [
                        each for each in await kernel.present() if each in await model.present()
                    ]
                    if there:
                        gone = dice.choice(there)
                        command = f"delete element inet dockerjail {ruleset.home(gone).name}"
                        done = space.run("nft", f"{command} {{ {by_hand(gone)} }}", check=False)
                        if not done.returncode:
                            assert not owned
                            await model.apply(remove=[gone])
                else:
                    space.run("nft", "flush", "ruleset")
                    assert await kernel.intact() is owned
                    if not owned:
                        blocks = some_blocks(dice, 30)
                        for each in (kernel, model):
                            await each.replace(blocks, allow=[], direct=model.direct)
                alike(await kernel.present(), await model.present())
                assert kernel.deaf.keys() == model.deaf.keys()
                assert await kernel.intact()
