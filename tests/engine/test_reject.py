"""Bans that answer, with real packets: who is told no, how soon, and who is let in by it."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network

import pytest

from dockerjail.model import Blocktype, Counter, Element
from dockerjail.nft import ruleset
from dockerjail.nft.kernel import Kernel
from tests.lab import netns
from tests.lab.packets import (
    ATTACKER,
    ATTACKER6,
    NEIGHBOUR,
    NEIGHBOUR6,
    SERVER,
    SERVER6,
    Lab,
    block,
    blocked,
    connected,
    element,
    family,
    silent,
    until,
)

pytestmark = pytest.mark.engine

REJECT = Blocktype.REJECT
NET6 = "2001:db8:0:1::/64"

SIDES = pytest.mark.parametrize(
    ("server", "attacker", "neighbour", "subject"),
    [
        (SERVER, ATTACKER, NEIGHBOUR, f"{ATTACKER}/32"),
        (SERVER6, ATTACKER6, NEIGHBOUR6, NET6),
    ],
    ids=["IPv4", "IPv6"],
)


def scopes(port: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("port", [None, port], ids=["everything", "one port"])


@pytest.fixture
async def kernel(lab: Lab) -> AsyncIterator[Kernel]:
    async with Kernel() as opened:
        if not opened.rejects:
            pytest.skip("this kernel cannot answer before DNAT")
        await opened.replace([], allow=[])
        yield opened


# ---- who is answered, and how


@SIDES
@scopes(80)
async def test_a_rejected_client_is_refused_at_once_and_let_in_when_it_ends(
    lab: Lab, kernel: Kernel, server: str, attacker: str, neighbour: str, subject: str, port: int
) -> None:
    lab.listen(server, 80)
    lab.listen(server, 81)
    banned = element(subject, port, blocktype=REJECT)
    await kernel.apply(add=[block(banned)])
    with pytest.raises(ConnectionRefusedError):
        lab.connect(attacker, server, 80)
    assert (await kernel.counters([banned]))[banned].packets == 1
    lab.connect(neighbour, server, 80)
    if port is not None:
        lab.connect(attacker, server, 81)
    assert await kernel.intact()
    await kernel.apply(remove=[banned])
    lab.connect(attacker, server, 80)


@SIDES
@scopes(53)
async def test_a_rejected_datagram_is_answered_with_an_icmp_error(
    lab: Lab, kernel: Kernel, server: str, attacker: str, neighbour: str, subject: str, port: int
) -> None:
    service = lab.udp(lab.host, server, 53)
    banned = element(subject, port, "udp", REJECT)
    await kernel.apply(add=[block(banned)])
    bad, good = lab.udp(lab.outside, attacker), lab.udp(lab.outside, neighbour)
    bad.connect((server, 53))
    bad.send(b"query")
    with pytest.raises(ConnectionRefusedError):
        bad.recv(100)
    good.sendto(b"neighbour", (server, 53))
    assert service.recv(100) == b"neighbour"
    await kernel.apply(remove=[banned])
    bad.send(b"again")
    assert service.recv(100) == b"again"


async def test_one_address_is_rejected_on_one_port_and_dropped_on_another(
    lab: Lab, kernel: Kernel
) -> None:
    lab.listen(SERVER, 80)
    lab.listen(SERVER, 81)
    dropped, rejected = element(f"{ATTACKER}/32", 80), element(f"{ATTACKER}/32", 81)
    await kernel.apply(add=[block(dropped), block(rejected._replace(blocktype=REJECT))])
    with pytest.raises(ConnectionRefusedError):
        lab.connect(ATTACKER, SERVER, 81)
    knocking = lab.knock(ATTACKER, SERVER, 80)
    await blocked(kernel, dropped, packets=2)
    assert not connected(knocking)


@pytest.mark.parametrize("subject", ["0.0.0.0/0", "198.51.0.0/17", "198.51.100.0/25"])
@scopes(80)
async def test_a_network_is_rejected_whatever_the_prefix(
    lab: Lab, kernel: Kernel, subject: str, port: int | None
) -> None:
    lab.listen(SERVER, 80)
    await kernel.apply(add=[block(element(subject, port, blocktype=REJECT))])
    for address in (ATTACKER, NEIGHBOUR):
        with pytest.raises(ConnectionRefusedError):
            lab.connect(address, SERVER, 80)


async def test_an_allowed_network_wins_over_every_reject(lab: Lab, kernel: Kernel) -> None:
    bans = [
        element(subject, port, blocktype=REJECT)
        for subject in (f"{ATTACKER}/32", NET6)
        for port in (None, 80)
    ]
    allow = [ip_network(f"{ATTACKER}/32"), ip_network(f"{ATTACKER6}/128")]
    await kernel.apply(add=[block(one) for one in bans])
    await kernel.allow(allow)
    lab.listen(SERVER, 80)
    lab.listen(SERVER6, 80)
    lab.connect(ATTACKER, SERVER, 80)
    lab.connect(ATTACKER6, SERVER6, 80)
    await kernel.allow([])
    with pytest.raises(ConnectionRefusedError):
        lab.connect(ATTACKER, SERVER, 80)


@SIDES
async def test_the_hosts_own_connections_to_a_rejected_address_live_on(
    lab: Lab, kernel: Kernel, server: str, attacker: str, neighbour: str, subject: str
) -> None:
    with lab.outside.inside():
        listening = lab.keep(socket.create_server((attacker, 25), family=family(attacker)))
    before = lab.connect(server, attacker, 25, space=lab.host)
    accepted, _ = listening.accept()
    with accepted:
        await kernel.apply(add=[block(element(subject, blocktype=REJECT))])
        accepted.sendall(b"and back")
        assert before.recv(100) == b"and back"
        # a new one, and from scratch: IPv6 must first find its neighbour
        lab.host.run("ip", "neigh", "flush", "all")
        lab.connect(server, attacker, 25, space=lab.host)
    with pytest.raises(ConnectionRefusedError):
        lab.connect(attacker, server, 80)


# ---- drop wins


@pytest.mark.parametrize("port", [None, 80], ids=["everything", "one port"])
@pytest.mark.parametrize("other", [None, 80], ids=["reject everything", "reject one port"])
@pytest.mark.parametrize("wide", [f"{ATTACKER}/32", "198.51.100.2/31"], ids=["same", "wider"])
async def test_who_is_both_dropped_and_rejected_is_dropped_until_that_ends(
    lab: Lab, kernel: Kernel, port: int | None, other: int | None, wide: str
) -> None:
    lab.listen(SERVER, 80)
    rejected = element(f"{ATTACKER}/32", other, blocktype=REJECT)
    dropped = element(wide, port)
    await kernel.apply(add=[block(rejected)])
    await kernel.apply(add=[block(dropped)])
    knocking = lab.knock(ATTACKER, SERVER, 80)
    counted = await blocked(kernel, dropped, packets=2)
    assert not connected(knocking)
    assert counted.packets >= 2
    assert (await kernel.counters([rejected]))[rejected] == Counter(0, 0)
    await kernel.apply(remove=[dropped])
    with pytest.raises(ConnectionRefusedError):
        lab.connect(ATTACKER, SERVER, 80)


# ---- hosts that forward and filter

PUBLISHED = """
table ip nat {
    chain pre {
        type nat hook prerouting priority -100;
        fib daddr type local tcp dport 8080 dnat to 172.31.9.2:80;
        fib daddr type local udp dport 8053 dnat to 172.31.9.2:53;
    }
}
table ip6 nat {
    chain pre {
        type nat hook prerouting priority -100;
        fib daddr type local tcp dport 8080 dnat to [fd99::2]:80;
        fib daddr type local udp dport 8053 dnat to [fd99::2]:53;
    }
}
"""

FORWARDING = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


@pytest.fixture
def container(lab: Lab) -> Iterator[netns.Namespace]:
    """Yield a namespace whose ports 80 and 53/udp the host publishes as 8080 and 8053/udp."""
    with netns.create_unique("rj") as inside:
        netns.connect(
            lab.host,
            inside,
            left_addresses=["172.31.9.1/24", "fd99::1/64"],
            right_addresses=["172.31.9.2/24", "fd99::2/64"],
            left_link="bridge0",
        )
        inside.run("ip", "route", "add", "default", "via", "172.31.9.1")
        inside.run("ip", "-6", "route", "add", "default", "via", "fd99::1")
        lab.host.run("sysctl", "-q", "-w", *FORWARDING)
        lab.host.run("nft", "-f", "-", stdin=PUBLISHED)
        yield inside


def serve(lab: Lab, inside: netns.Namespace, server: str) -> tuple[socket.socket, socket.socket]:
    """Listen on both published ports; return the sockets."""
    address = "fd99::2" if ":" in server else "172.31.9.2"
    with inside.inside():
        tcp = lab.keep(socket.create_server((address, 80), family=family(address)))
    return tcp, lab.udp(inside, address, 53)


@SIDES
@pytest.mark.parametrize("everything", [True, False], ids=["everything", "one port"])
async def test_published_ports_are_rejected_by_the_port_that_the_client_used(
    lab: Lab,
    kernel: Kernel,
    container: netns.Namespace,
    server: str,
    attacker: str,
    neighbour: str,
    subject: str,
    everything: bool,
) -> None:
    _, udp = serve(lab, container, server)
    lab.connect(attacker, server, 8080)
    bad = lab.udp(lab.outside, attacker)
    bad.connect((server, 8053))
    bad.send(b"before")
    received, client = udp.recvfrom(100)
    assert received == b"before"
    udp.sendto(b"answer", client)  # now the flow stands
    assert bad.recv(100) == b"answer"
    both = [element(subject, 8080), element(subject, 8053, "udp")]
    wanted = [element(subject)] if everything else both
    await kernel.apply(add=[block(one._replace(blocktype=REJECT)) for one in wanted])
    with pytest.raises(ConnectionRefusedError):
        lab.connect(attacker, server, 8080)
    bad.send(b"after")
    with pytest.raises(ConnectionRefusedError):
        bad.recv(100)
    lab.connect(neighbour, server, 8080)
    assert silent(udp)


@SIDES
async def test_a_reject_of_a_port_cuts_a_standing_connection_with_a_reset(
    lab: Lab,
    kernel: Kernel,
    container: netns.Namespace,
    server: str,
    attacker: str,
    neighbour: str,
    subject: str,
) -> None:
    tcp, _ = serve(lab, container, server)
    lab.listen(server, 80)
    clients = [lab.connect(attacker, server, port) for port in (80, 8080)]
    accepted = lab.keep(tcp.accept()[0])
    bans = [element(subject, port, blocktype=REJECT) for port in (80, 8080)]
    await kernel.apply(add=[block(one) for one in bans])
    for client in clients:
        client.sendall(b"more")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    assert silent(accepted)


WATCH = """
table inet watch {
    counter resets { }
    chain out {
        type filter hook output priority 100;
        tcp flags & rst != 0 counter name resets
    }
}
"""


def resets(host: netns.Namespace) -> int:
    listing = json.loads(host.run("nft", "-j", "list", "counters", "table", "inet", "watch").stdout)
    (packets,) = (one["counter"]["packets"] for one in listing["nftables"] if "counter" in one)
    return int(packets)


@SIDES
async def test_a_reject_of_everything_gives_a_standing_connection_no_reset_to_ignore(
    lab: Lab,
    kernel: Kernel,
    server: str,
    attacker: str,
    neighbour: str,
    subject: str,
) -> None:
    # after a reset conntrack forgets who opened the connection, see `ruleset`
    lab.host.run("nft", "-f", "-", stdin=WATCH)
    listening = lab.listen(server, 80)
    client = lab.connect(attacker, server, 80)
    accepted = lab.keep(listening.accept()[0])
    banned = element(subject, blocktype=REJECT)
    await kernel.apply(add=[block(banned)])
    client.sendall(b"more")
    await blocked(kernel, banned, packets=2)
    assert resets(lab.host) == 0
    assert silent(accepted)
    with pytest.raises(ConnectionRefusedError):
        lab.connect(attacker, server, 80)
    assert resets(lab.host) == 1


STATEFUL = """
table inet firewall {
    chain out {
        type filter hook output priority 0; policy drop;
        ct state invalid drop
        ct state established,related accept
        meta l4proto ipv6-icmp accept
    }
}
"""


@SIDES
@pytest.mark.parametrize("everything", [True, False], ids=["everything", "one port"])
async def test_answers_leave_a_host_that_lets_out_only_what_belongs_to_a_connection(
    lab: Lab,
    kernel: Kernel,
    container: netns.Namespace,
    server: str,
    attacker: str,
    neighbour: str,
    subject: str,
    everything: bool,
) -> None:
    lab.host.run("nft", "-f", "-", stdin=STATEFUL)
    ports = [element(subject, 80), element(subject, 8080), element(subject, 53, "udp")]
    wanted = [element(subject)] if everything else ports
    await kernel.apply(add=[block(one._replace(blocktype=REJECT)) for one in wanted])
    for port in (80, 8080):
        with pytest.raises(ConnectionRefusedError):
            lab.connect(attacker, server, port)
    client = lab.udp(lab.outside, attacker)
    client.connect((server, 53))
    client.send(b"query")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


# ---- the table


async def test_rejects_outlive_the_process_and_end_by_themselves(lab: Lab, kernel: Kernel) -> None:
    lab.listen(SERVER, 80)
    short, long = element(f"{ATTACKER}/32", 80), element(f"{NEIGHBOUR}/32")
    wanted = [block(short._replace(blocktype=REJECT), 2), block(long._replace(blocktype=REJECT))]
    async with Kernel() as other:
        await other.replace(wanted, allow=[])
    with pytest.raises(ConnectionRefusedError):
        lab.connect(ATTACKER, SERVER, 80)

    async def only_the_long_one() -> bool:
        return (await kernel.present()).keys() == {long._replace(blocktype=REJECT)}

    await until(only_the_long_one)
    lab.connect(ATTACKER, SERVER, 80)
    with pytest.raises(ConnectionRefusedError):
        lab.connect(NEIGHBOUR, SERVER, 80)


@pytest.mark.parametrize(
    "command",
    [
        "flush chain inet dockerjail answer",
        "flush chain inet dockerjail reject_port",
        "insert rule inet dockerjail answer_new accept",
        "chain inet dockerjail reject_all { policy drop; }",
    ],
)
async def test_tampering_with_the_answers_is_found_and_mended(
    lab: Lab, kernel: Kernel, command: str
) -> None:
    banned = element(f"{ATTACKER}/32", 80, blocktype=REJECT)
    await kernel.apply(add=[block(banned)])
    assert await kernel.intact()
    lab.host.run("nft", command)
    assert not await kernel.intact()
    await kernel.replace([block(banned)], allow=[])
    assert await kernel.intact()
    with pytest.raises(ConnectionRefusedError):
        lab.connect(ATTACKER, SERVER, 80)


@pytest.mark.parametrize("at_once", [True, False], ids=["replaced", "one after the other"])
async def test_nft_lists_the_answers_that_we_think_we_put(
    lab: Lab, kernel: Kernel, at_once: bool
) -> None:
    wanted = [
        element("192.0.2.0/24", 80, blocktype=REJECT),
        element("192.0.2.1/32", blocktype=REJECT),
        element("2001:db8:7::/64", 53, "udp", REJECT),
    ]
    if at_once:
        await kernel.replace([block(one) for one in wanted], allow=[])
    else:
        for one in wanted:
            await kernel.apply(add=[block(one)])
    assert (await kernel.present()).keys() == set(wanted)
    chains = {name: _rules(lab, name) for name in ("answer", "answer_new", "reject_all")}
    assert chains == {
        "answer": ["meta l4proto tcp reject with tcp reset", "reject"],
        "answer_new": ["meta l4proto tcp ct state established drop", "goto answer"],
        "reject_all": [
            "ip saddr @allow4 accept",
            "ip6 saddr @allow6 accept",
            "ct direction reply accept",
            "meta l4proto ipv6-icmp accept",
            "ip saddr @all4_32_reject counter goto answer_new",
        ],
    }
    place = ". meta l4proto . th dport"
    assert sorted(_rules(lab, "reject_port")[2:]) == [
        f"ip saddr & 255.255.255.0 {place} @port4_24_reject counter goto answer",
        f"ip6 saddr & ffff:ffff:ffff:ffff:: {place} @port6_64_reject counter goto answer",
    ]


def _rules(lab: Lab, chain: str) -> list[str]:
    text = lab.host.run("nft", "-s", "list", "chain", "inet", "dockerjail", chain).stdout
    return [
        line.strip().partition(" comment")[0] for line in text.splitlines() if "comment" in line
    ]


async def test_a_kernel_that_refuses_answers_is_found_out_and_works_without(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    # no kernel lets a rule answer at postrouting, as none did at prerouting before 5.9
    postrouting = 4
    refused = ruleset.Chain(name=ruleset.REJECT_PORT_CHAIN, hook=postrouting)
    monkeypatch.setitem(ruleset._BASES, ruleset.REJECT_PORT_CHAIN, refused)
    async with Kernel() as kernel:
        assert not kernel.rejects
        assert "reject no" in str(kernel.features)
        assert lab.host.run("nft", "list", "ruleset").stdout == ""
        banned: Element = element(f"{ATTACKER}/32", 80)
        await kernel.replace([block(banned)], allow=[])
        knocking = lab.knock(ATTACKER, SERVER, 80)
        await blocked(kernel, banned)
        assert not connected(knocking)
