"""What the kernel knows of connections bears out a log line, and a forged packet does not."""

import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
from pyroute2.conntrack import AsyncConntrack
from pyroute2.netlink.nfnetlink.nfctsocket import IPS_SEEN_REPLY, NFCTAttrTuple

from dockerjail.errors import FirewallError
from dockerjail.model import Port
from dockerjail.nft import flows
from dockerjail.nft.flows import Conntrack
from dockerjail.ports import Flows
from tests.lab import netns
from tests.lab.packets import (
    ATTACKER,
    ATTACKER6,
    NEIGHBOUR,
    NEIGHBOUR6,
    SERVER,
    SERVER6,
    Lab,
    family,
    opened,
    until,
)

pytestmark = pytest.mark.engine

CONTAINER, CONTAINER6 = "172.30.0.2", "fd00:30::2"
PUBLISHED, INNER = 8080, 80

RULES = f"""
table inet lab {{
    chain published {{
        type nat hook prerouting priority dstnat;
        ip daddr {SERVER} tcp dport {PUBLISHED} dnat ip to {CONTAINER}:{INNER}
        ip daddr {SERVER} udp dport {PUBLISHED} dnat ip to {CONTAINER}:{INNER}
        ip6 daddr {SERVER6} tcp dport {PUBLISHED} dnat ip6 to [{CONTAINER6}]:{INNER}
        ip6 daddr {SERVER6} udp dport {PUBLISHED} dnat ip6 to [{CONTAINER6}]:{INNER}
    }}
}}
"""

SIDES = pytest.mark.parametrize(
    ("server", "client", "other", "container"),
    [
        (SERVER, ATTACKER, NEIGHBOUR, CONTAINER),
        (SERVER6, ATTACKER6, NEIGHBOUR6, CONTAINER6),
    ],
    ids=["IPv4", "IPv6"],
)


@dataclass
class Street:
    """A host that publishes a container's port, and clients outside."""

    lab: Lab
    container: netns.Namespace
    known: Flows
    tcp: socket.socket = field(init=False)
    udp: socket.socket = field(init=False)

    def serve(self, address: str) -> None:
        """Have the container take TCP connections and datagrams."""
        with self.container.inside():
            self.tcp = self.lab.keep(socket.create_server((address, INNER), family=family(address)))
        self.udp = self.lab.udp(self.container, address, INNER)

    def ask(self, client: str, server: str) -> None:
        """Send a datagram, and get an answer."""
        asking = self.lab.udp(self.lab.outside, client)
        asking.sendto(b"hello", (server, PUBLISHED))
        said, who = self.udp.recvfrom(100)
        self.udp.sendto(said, who)
        assert asking.recv(100) == b"hello"

    def deafen(self, verdict: str) -> None:
        """Keep from the clients what is sent to them: whoever forges an address hears nothing."""
        self.lab.outside.run("nft", "-f", "-", stdin=DEAF.format(verdict=verdict))


DEAF = """
table inet deaf {{
    chain hearing {{
        type filter hook input priority filter;
        meta l4proto tcp {verdict}
        meta l4proto udp drop
    }}
}}
"""


@pytest.fixture
def street() -> Iterator[Street]:
    with opened("h4") as lab, netns.create_unique("h4") as container:
        netns.connect(
            lab.host,
            container,
            left_addresses=["172.30.0.1/24", "fd00:30::1/64"],
            right_addresses=[f"{CONTAINER}/24", f"{CONTAINER6}/64"],
            left_link="inner",
        )
        container.run("ip", "route", "add", "default", "via", "172.30.0.1")
        container.run("ip", "route", "add", "default", "via", "fd00:30::1")
        lab.outside.run("ip", "route", "add", "default", "via", SERVER)
        lab.outside.run("ip", "route", "add", "default", "via", SERVER6)
        for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            lab.host.run("sh", "-c", f"echo 1 > /proc/sys/net/{switch}")
        lab.host.run("nft", "-f", "-", stdin=RULES)
        yield Street(lab, container, Conntrack())


def tcp(*numbers: int) -> list[Port]:
    return [Port(number) for number in numbers]


async def tracked(client: str, *, answered: bool) -> None:
    """Wait until the kernel has a flow of a client, as another reader of it sees it."""

    async def there() -> bool:
        space = family(client)
        async with AsyncConntrack(nfgen_family=space) as conntrack:
            return any(
                [
                    entry.tuple_orig.saddr == client
                    and bool(entry.status & IPS_SEEN_REPLY) == answered
                    async for entry in await conntrack.dump_entries()
                ]
            )

    await until(there)


# ---- who was seen


@SIDES
async def test_one_look_answers_many_questions_but_none_about_what_came_later(
    street: Street, server: str, client: str, other: str, container: str
) -> None:
    street.serve(container)
    street.lab.connect(client, server, PUBLISHED)
    who, stranger = ip_address(client), ip_address(other)
    looks = set()
    for _ in range(2 * flows.OFTEN):
        since = time.time()
        for _ in range(flows.OFTEN):
            assert await street.known.seen(who, tcp(PUBLISHED), since=since)
            assert not await street.known.seen(who, tcp(INNER), since=since)
            assert not await street.known.seen(stranger, None, since=since)
        looks |= {view.at for view in street.known._views.values()}
    assert looks
    street.lab.connect(other, server, PUBLISHED)
    assert await street.known.seen(stranger, tcp(PUBLISHED), since=time.time())


async def test_a_look_is_not_believed_for_longer_when_the_clock_is_set_back(
    street: Street,
) -> None:
    ahead = 0.0
    known = Conntrack(clock=lambda: time.time() + ahead)
    street.serve(CONTAINER)
    street.lab.connect(ATTACKER, SERVER, PUBLISHED)
    stranger = ip_address(NEIGHBOUR)
    for _ in range(flows.OFTEN):
        assert not await known.seen(stranger, None, since=0.0)
    ahead = -86400.0
    street.lab.connect(NEIGHBOUR, SERVER, PUBLISHED)
    assert await known.seen(stranger, tcp(PUBLISHED), since=time.time() + ahead)


@SIDES
async def test_a_client_is_seen_at_the_port_that_it_called(
    street: Street, server: str, client: str, other: str, container: str
) -> None:
    street.serve(container)
    street.lab.connect(client, server, PUBLISHED)
    who = ip_address(client)
    assert await street.known.seen(who, tcp(PUBLISHED))
    assert await street.known.seen(who, tcp(1, PUBLISHED, 3))
    assert await street.known.seen(who, None)
    assert not await street.known.seen(who, tcp(INNER))
    assert not await street.known.seen(who, [Port(PUBLISHED, "udp")])
    assert not await street.known.seen(who, [])
    assert not await street.known.seen(ip_address(other), None)
    assert not await street.known.seen(ip_address(server), None)


@SIDES
@pytest.mark.parametrize("rude", [False, True], ids=["closed", "reset"])
async def test_a_connection_that_is_over_still_bears_witness(
    street: Street, rude: bool, server: str, client: str, other: str, container: str
) -> None:
    street.serve(container)
    connection = street.lab.connect(client, server, PUBLISHED)
    if rude:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    accepted, _ = street.tcp.accept()
    connection.close()
    if rude:
        with accepted, pytest.raises(ConnectionResetError):
            accepted.recv(1)
    else:
        with accepted:
            assert accepted.recv(1) == b""
    assert await street.known.seen(ip_address(client), tcp(PUBLISHED))


@SIDES
async def test_a_datagram_that_was_answered_bears_witness(
    street: Street, server: str, client: str, other: str, container: str
) -> None:
    street.serve(container)
    street.ask(client, server)
    assert await street.known.seen(ip_address(client), [Port(PUBLISHED, "udp")])
    assert not await street.known.seen(ip_address(client), tcp(PUBLISHED))


async def test_a_client_of_the_host_itself_is_seen(street: Street) -> None:
    street.lab.listen(SERVER, 22)
    street.lab.connect(ATTACKER, SERVER, 22)
    assert await street.known.seen(ip_address(ATTACKER), tcp(22))


async def test_a_client_is_found_among_thousands_of_flows(street: Street) -> None:
    street.serve(CONTAINER)
    street.lab.connect(ATTACKER, SERVER, PUBLISHED)
    await crowd(street, 3000)
    assert await street.known.seen(ip_address(ATTACKER), tcp(PUBLISHED))
    assert await street.known.seen(ip_address(OFTEN), tcp(443))
    assert not await street.known.seen(ip_address(OFTEN), tcp(PUBLISHED))
    assert not await street.known.seen(ip_address(NEIGHBOUR), None)


# ---- what a forger can make


@SIDES
async def test_a_forged_datagram_that_nobody_answers_is_no_witness(
    street: Street, server: str, client: str, other: str, container: str
) -> None:
    street.serve(container)
    street.lab.udp(street.lab.outside, client).sendto(b"forged", (server, PUBLISHED))
    await tracked(client, answered=False)
    assert not await street.known.seen(ip_address(client), None)


@SIDES
@pytest.mark.parametrize("verdict", ["drop", "reject with tcp reset"])
async def test_a_forged_syn_is_no_witness_though_the_port_answers_it(
    street: Street, verdict: str, server: str, client: str, other: str, container: str
) -> None:
    street.serve(container)
    street.deafen(verdict)
    street.lab.knock(client, server, PUBLISHED)
    await tracked(client, answered=True)
    assert not await street.known.seen(ip_address(client), None)
    assert not await street.known.clients(ip_address(container))


async def test_a_connection_that_the_host_opened_is_no_witness(street: Street) -> None:
    """A container may be made to call its victim."""
    with street.lab.outside.inside():
        street.lab.keep(socket.create_server((ATTACKER, PUBLISHED)))
    street.lab.connect(CONTAINER, ATTACKER, PUBLISHED, space=street.container)
    await tracked(CONTAINER, answered=True)
    assert not await street.known.seen(ip_address(ATTACKER), None)


# ---- who a container's clients are


@SIDES
async def test_clients_are_counted_at_the_container_that_they_reach(
    street: Street, server: str, client: str, other: str, container: str
) -> None:
    street.serve(container)
    for _ in range(3):
        street.lab.connect(client, server, PUBLISHED)
    street.ask(other, server)
    street.lab.connect(other, container, INNER)
    clients = await street.known.clients(ip_address(container))
    assert clients == {ip_address(client): 3, ip_address(other): 2}
    assert await street.known.clients(ip_address(server)) == {}


async def test_whom_a_container_calls_is_not_its_client(street: Street) -> None:
    with street.lab.outside.inside():
        street.lab.keep(socket.create_server((ATTACKER, PUBLISHED)))
    street.lab.connect(CONTAINER, ATTACKER, PUBLISHED, space=street.container)
    await tracked(CONTAINER, answered=True)
    assert await street.known.clients(ip_address(CONTAINER)) == {}


async def test_of_a_crowd_of_flows_only_so_many_are_counted(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    await crowd(street, 500)
    assert sum((await street.known.clients(ip_address(BUSY))).values()) == 500
    monkeypatch.setattr(flows, "MOST", 100)
    counted = await street.known.clients(ip_address(BUSY))
    assert sum(counted.values()) == 100


# ---- when there is nothing to ask


async def test_where_nothing_is_tracked_silence_is_no_answer() -> None:
    with opened("h4") as lab:
        lab.listen(SERVER, 22)
        lab.connect(ATTACKER, SERVER, 22)
        with pytest.raises(FirewallError, match=r"tracks no connection at all.*host's network"):
            await Conntrack().seen(ip_address(ATTACKER), tcp(22))


TRY = """
import asyncio
from ipaddress import ip_address
from dockerjail.errors import FirewallError
from dockerjail.nft.flows import Conntrack

async def main():
    for asked in (Conntrack().seen(ip_address("192.0.2.1"), None), Conntrack().clients(ip_address("192.0.2.1"))):
        try:
            async with asyncio.timeout(20):
                await asked
        except FirewallError as error:
            print(error)

asyncio.run(main())
"""


async def test_without_cap_net_admin_the_message_says_so(street: Street) -> None:
    dropped = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    said = street.lab.host.run(*dropped, sys.executable, "-c", TRY)
    assert said.stderr == ""
    first, second = said.stdout.splitlines()
    for line in (first, second):
        assert "192.0.2.1: EPERM" in line
        assert "CAP_NET_ADMIN is missing; start the container with --cap-add NET_ADMIN" in line


async def test_a_kernel_that_does_not_answer_in_time_is_named(street: Street) -> None:
    await crowd(street, 1000)
    with pytest.raises(FirewallError, match=r"looking for connections to .* no answer within"):
        await Conntrack(patience=0.0).clients(ip_address(BUSY))


# ---- a crowd

OFTEN, BUSY = "10.9.9.9", "172.30.0.3"


async def crowd(street: Street, count: int) -> None:
    """Put flows into the kernel's table, half of them of one client, as if there had been packets."""
    assured = 0xE
    async with AsyncConntrack() as conntrack:
        for number in range(count):
            client = OFTEN if number % 2 else f"10.{number >> 8}.{number & 255}.1"
            await conntrack.entry(
                "add",
                timeout=300,
                status=assured,
                tuple_orig=NFCTAttrTuple(
                    saddr=client, daddr=SERVER, proto=6, sport=1000 + number, dport=443
                ),
                tuple_reply=NFCTAttrTuple(
                    saddr=BUSY, daddr=client, proto=6, sport=INNER, dport=1000 + number
                ),
            )
