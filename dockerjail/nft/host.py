"""
The host's own addresses and gateways, through rtnetlink. The second DOOR to pyroute2.

In: nothing. Out: addresses that must never be banned, of the network namespace
that the process is in. Reads only, and needs no right.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_address
from typing import Any

from pyroute2.iproute import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dockerjail.errors import FirewallError
from dockerjail.model import Address

_PATIENCE = 10.0
"""Seconds that the kernel may take for an answer."""


async def own_addresses() -> frozenset[Address]:
    """Return every address of every link, loopback's too. Raises FirewallError."""
    return await _collect("addresses", lambda route: route.addr("dump"), _local)


async def default_gateways() -> frozenset[Address]:
    """Return where default routes lead, in all routing tables. Raises FirewallError."""
    return await _collect("routes", lambda route: route.route("dump"), _gateways)


async def _collect(
    what: str, dump: Callable[[Any], Awaitable[Any]], read: Callable[[Any], Iterator[str]]
) -> frozenset[Address]:
    try:
        async with asyncio.timeout(_PATIENCE), AsyncIPRoute() as route:
            return frozenset(
                [
                    ip_address(text.partition("%")[0])
                    async for message in await dump(route)
                    for text in read(message)
                ]
            )
    except TimeoutError as error:
        raise FirewallError(
            f"reading this host's {what}: the kernel gave no answer within {_PATIENCE:g} s"
        ) from error
    except (NetlinkError, OSError) as error:
        raise FirewallError(f"reading this host's {what}: {error}") from error


def _local(message: Any) -> Iterator[str]:
    # on a point-to-point link IFA_ADDRESS is the other end
    text = message.get("local") or message.get("address")
    if text:
        yield text


def _gateways(message: Any) -> Iterator[str]:
    if message["dst_len"]:
        return
    for hop in (message, *(message.get("multipath") or ())):
        attributes = dict(hop["attrs"])
        if "RTA_GATEWAY" in attributes:
            yield attributes["RTA_GATEWAY"]
        if "RTA_VIA" in attributes:
            yield attributes["RTA_VIA"]["addr"]
