"""
From what a ban keeps out, asked with packets: the banned cannot reach what they attacked by any
way that was open before, and everything else stays open to them and to everybody.
"""

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.lab import images
from tests.lab.attacker import BLOCKED_AFTER, Attacker
from tests.lab.engine import Engine
from tests.lab.jailer import PATIENCE, Jailer, banned, failed_login, follows, labels, say
from tests.lab.lan import Lan

pytestmark = pytest.mark.e2e

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])

# Echoes TCP and UDP on a port, in both families, from the address that it was asked at.
ECHO = """
import selectors, socket, sys
port, six = int(sys.argv[1]), socket.IPPROTO_IPV6
tcp = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.setsockopt(six, socket.IPV6_V6ONLY, 0)
udp.setsockopt(six, socket.IPV6_RECVPKTINFO, 1)
udp.bind(("", port))
ready = selectors.DefaultSelector()
for each in (tcp, udp):
    ready.register(each, selectors.EVENT_READ)
while True:
    for key, _ in ready.select():
        who = key.fileobj
        if who is tcp:
            ready.register(tcp.accept()[0], selectors.EVENT_READ)
        elif who is udp:
            data, [(_, _, info)], _, client = udp.recvmsg(2000, 100)
            here = [(six, socket.IPV6_PKTINFO, info[:16] + bytes(4))]
            udp.sendmsg([data], here, 0, client)
        else:
            try:
                data = who.recv(2000)
            except OSError:
                data = b""
            if data:
                who.send(data)
            else:
                ready.unregister(who)
                who.close()
"""


def echo(engine: Engine, name: str, *options: str, port: int = 8000, jail: bool = True) -> str:
    """Start a container that echoes; by default one with the usual jail."""
    options = ("--name", name, *(labels() if jail else ()), *options)
    return engine.run(
        images.python(engine), "python3", "-u", "-c", ECHO, str(port), options=options
    )


def both(port: int, inside: int = 8000) -> tuple[str, ...]:
    """Return the options that publish a port by TCP and UDP."""
    return ("-p", f"{port}:{inside}", "-p", f"{port}:{inside}/udp")


def connect(client: Attacker, host: str, port: int) -> socket.socket:
    """Connect as soon as the service listens, and its address is past duplicate detection."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return client.connection(host, port, timeout=BLOCKED_AFTER)
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


@dataclass
class Way:
    """One way to a service, and a connection on it that was there before any ban."""

    client: Attacker
    host: str
    port: int
    held: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.held = connect(self.client, self.host, self.port)

    def ways(self, text: bytes = b"hello") -> set[str]:
        """Return by which of the three ways the service answers."""
        found = set()
        with contextlib.suppress(TimeoutError):
            self.held.sendall(text)
            if self.held.recv(100).endswith(text):
                found.add("established")
        if self.client.reaches(self.host, self.port):
            found.add("new")
        if self.client.datagram(self.host, self.port, text) == text:
            found.add("datagram")
        return found


ALL = {"established", "new", "datagram"}


@dataclass
class Ways:
    """Makes ways, and closes what they hold."""

    stack: contextlib.ExitStack

    def to(self, client: Attacker, host: str, port: int) -> Way:
        way = Way(client, host, port)
        self.stack.enter_context(way.held)
        assert way.ways() == ALL
        return way


@pytest.fixture
def ways() -> Iterator[Ways]:
    with contextlib.ExitStack() as stack:
        yield Ways(stack)


def accuse(
    jailer: Jailer, who: Attacker, family: int, *, container: str = "web"
) -> dict[str, object]:
    """Have a container accuse an attacker, and return the scope of the ban that comes of it."""
    address = who.address if family == 4 else who.address6
    say(jailer.engine, container, [failed_login(address)] * 5)
    (ban,) = jailer.wait_banned(address if family == 4 else who.network6)["bans"]
    scope: dict[str, object] = ban["scope"]
    return scope


def target(family: int, four: str, six: str) -> str:
    return four if family == 4 else six


def assert_only_closed(shut: Sequence[Way], still: Sequence[Way]) -> None:
    assert [way.ways() for way in shut] == [set()] * len(shut)
    assert [way.ways() for way in still] == [ALL] * len(still)


@FAMILIES
def test_published_ports_are_closed_and_nothing_else(
    family, any_engine, attacker, jailer_for, ways
):
    engine = any_engine
    echo(engine, "web", *both(8080))
    echo(engine, "other", *both(9090), jail=False)
    echo(engine, "host", "--network", "host", port=7070, jail=False)
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad, good = attacker(engine), attacker(engine)
    host = target(family, engine.address, engine.address6)
    shut = ways.to(bad, host, 8080)
    still = [ways.to(good, host, 8080), ways.to(bad, host, 9090), ways.to(bad, host, 7070)]
    scope = accuse(jailer, bad, family)
    assert (scope["ports"], scope["addresses"]) == (["8080/tcp", "8080/udp"], [])
    assert_only_closed([shut], still)


@FAMILIES
def test_on_the_host_network_exposed_ports_are_closed_and_nothing_else(
    family, any_engine, attacker, jailer_for, ways
):
    engine = any_engine
    echo(engine, "web", "--network", "host", "--expose", "8000", "--expose", "8000/udp")
    echo(engine, "other", "--network", "host", port=7070, jail=False)
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad, good = attacker(engine), attacker(engine)
    host = target(family, engine.address, engine.address6)
    shut = ways.to(bad, host, 8000)
    still = [ways.to(good, host, 8000), ways.to(bad, host, 7070)]
    scope = accuse(jailer, bad, family)
    assert scope["ports"] == ["8000/tcp", "8000/udp"]
    assert_only_closed([shut], still)


@FAMILIES
def test_behind_a_proxy_the_proxys_ports_are_closed_and_nothing_else(
    family, any_engine, attacker, jailer_for, ways
):
    engine = any_engine
    engine.docker("network", "create", "shop")
    engine.docker("network", "create", "elsewhere")
    echo(engine, "web", "--network", "shop")
    echo(engine, "proxy", "--network", "shop", *both(80), jail=False)
    echo(engine, "other", "--network", "elsewhere", *both(9090), jail=False)
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad, good = attacker(engine), attacker(engine)
    host = target(family, engine.address, engine.address6)
    shut = ways.to(bad, host, 80)
    still = [ways.to(good, host, 80), ways.to(bad, host, 9090)]
    scope = accuse(jailer, bad, family)
    assert scope["ports"] == ["80/tcp", "80/udp"]
    assert "proxy" in str(scope["why"])
    assert_only_closed([shut], still)


@pytest.mark.parametrize("network", ["bridge", "host"])
def test_a_service_still_reaches_out_to_whom_it_banned(network, engine, attacker, jailer_for):
    options = both(8000) if network == "bridge" else ("--expose", "8000")
    echo(engine, "web", "--network", network, *options)
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad = attacker(engine)
    listening = bad.call(socket.create_server, (bad.address, 5000))
    accuse(jailer, bad, 4)
    assert not bad.reaches(engine.address, 8000)
    calling = f"import socket; print(socket.create_connection(('{bad.address}', 5000)).recv(9))"
    with listening:
        listening.settimeout(20)
        done = engine.docker(
            "exec", "--detach", "web", "sh", "-c", f'python3 -c "{calling}" > /tmp/got'
        )
        assert done == ""
        called, _ = listening.accept()
        with called:
            called.sendall(b"out there")
    engine.docker("exec", "web", "sh", "-c", "until [ -s /tmp/got ]; do sleep 0.1; done")
    assert engine.docker("exec", "web", "cat", "/tmp/got") == "b'out there'"


# -- past the host -----------------------------------------------------------


@pytest.fixture
def lan(any_engine: Engine) -> Iterator[Lan]:
    with Lan(any_engine) as made:
        made.network()
        yield made


def addresses(engine: Engine, name: str) -> dict[int, str]:
    """Return a container's addresses in the local network."""
    found = engine.api("GET", f"/containers/{name}/json")["NetworkSettings"]["Networks"]["lan"]
    return {4: found["IPAddress"], 6: found["GlobalIPv6Address"]}


@FAMILIES
def test_on_macvlan_the_containers_own_address_is_closed_and_nothing_else(
    family, lan, jailer_for, ways
):
    engine = lan.engine
    echo(engine, "web", "--network", "lan")
    echo(engine, "other", "--network", "lan", jail=False)
    echo(engine, "published", *both(9090), jail=False)
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    web, other = (addresses(engine, name) for name in ("web", "other"))
    bad, good = lan.attacker(), lan.attacker()
    shut = ways.to(bad, web[family], 8000)
    still = [
        ways.to(good, web[family], 8000),
        ways.to(bad, other[family], 8000),
        ways.to(bad, target(family, lan.host, lan.host6), 9090),
    ]
    scope = accuse(jailer, bad, family)
    assert (scope["ports"], set(scope["addresses"])) == ([], set(web.values()))
    assert_only_closed([shut], still)
    status = jailer.status()
    assert status["ok"]
    assert status["bans"][0]["packets"] > 0
    assert jailer.cli("unban", bad.address if family == 4 else bad.network6).returncode == 0
    assert shut.ways() >= {"new", "datagram"}


@FAMILIES
def test_behind_a_proxy_on_macvlan_the_proxys_address_is_closed(family, lan, jailer_for, ways):
    engine = lan.engine
    engine.docker("network", "create", "shop")
    echo(engine, "web", "--network", "shop")
    echo(engine, "proxy", "--network", "lan", jail=False)
    engine.docker("network", "connect", "shop", "proxy")
    echo(engine, "other", "--network", "lan", jail=False)
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    proxy, other = (addresses(engine, name) for name in ("proxy", "other"))
    bad, good = lan.attacker(), lan.attacker()
    shut = ways.to(bad, proxy[family], 8000)
    still = [ways.to(good, proxy[family], 8000), ways.to(bad, other[family], 8000)]
    scope = accuse(jailer, bad, family)
    assert (scope["ports"], set(scope["addresses"])) == ([], set(proxy.values()))
    assert_only_closed([shut], still)


@FAMILIES
def test_a_ban_from_everything_closes_macvlan_containers_too(family, lan, jailer_for, ways):
    engine = lan.engine
    echo(engine, "web", "--network", "lan")
    echo(engine, "published", *both(9090), jail=False)
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    web = addresses(engine, "web")
    host = target(family, lan.host, lan.host6)
    bad, good = lan.attacker(), lan.attacker()
    shut = [ways.to(bad, web[family], 8000), ways.to(bad, host, 9090)]
    still = [ways.to(good, web[family], 8000), ways.to(good, host, 9090)]
    subject = bad.address if family == 4 else bad.network6
    assert jailer.cli("ban", subject).returncode == 0
    jailer.wait_banned(subject)
    assert_only_closed(shut, still)
    echo(engine, "later", "--network", "lan", jail=False)
    later = addresses(engine, "later")
    ways.to(good, later[family], 8000)
    jailer.wait(lambda _: not bad.reaches(later[family], 8000))


def test_a_ban_follows_a_macvlan_container_to_its_new_address(lan, jailer_for, ways):
    engine = lan.engine
    echo(engine, "web", "--network", "lan", "--ip", "192.0.2.150")
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad, good = lan.attacker(), lan.attacker()
    ways.to(bad, "192.0.2.150", 8000)
    scope = accuse(jailer, bad, 4)
    assert "192.0.2.150" in scope["addresses"]
    engine.docker("rm", "-f", "web")
    echo(engine, "web", "--network", "lan", "--ip", "192.0.2.160")
    jailer.wait(lambda s: "192.0.2.160" in s["bans"][0]["scope"]["addresses"])
    jailer.wait_banned(bad.address)
    ways.to(good, "192.0.2.160", 8000)
    assert not bad.reaches("192.0.2.160", 8000)
    echo(engine, "heir", "--network", "lan", "--ip", "192.0.2.150", jail=False)
    ways.to(bad, "192.0.2.150", 8000)


def test_a_client_of_a_macvlan_network_is_no_neighbour_of_the_engines(lan, jailer_for):
    """The subnet is the local network's: whoever attacks from there is banned, but its router not."""
    engine = lan.engine
    echo(engine, "web", "--network", "lan")
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    say(engine, "web", [failed_login("192.0.2.77")] * 5 + [failed_login(lan.gateway)] * 5)
    jailer.wait_banned("192.0.2.77")
    assert banned(jailer.status()) == {"192.0.2.77"}


# -- what changes ------------------------------------------------------------


def port_of(engine: Engine, name: str) -> int:
    """Return the port of the host that Docker chose for a container's 8000."""
    return int(engine.docker("port", name, "8000/tcp").split("\n")[0].rpartition(":")[2])


@pytest.mark.parametrize("how", ["restart", "recreate", "rename"])
def test_a_ban_follows_a_port_that_docker_chooses(how, any_engine, attacker, jailer_for):
    engine = any_engine
    compose = labelled("shop", "web")
    echo(engine, "shop-web-1", *compose, "-p", "8000")
    jailer = jailer_for(engine).ready()
    follows(jailer, "shop-web-1")
    bad, good = attacker(engine), attacker(engine)
    before = port_of(engine, "shop-web-1")
    connect(bad, engine.address, before).close()
    scope = accuse(jailer, bad, 4, container="shop-web-1")
    assert scope["ports"] == [f"{before}/tcp"]
    if how == "restart":
        name = "shop-web-1"
        engine.docker("restart", "-t", "0", name)
    elif how == "recreate":
        name = "shop-web-1"
        engine.docker("rm", "-f", name)
        echo(engine, name, *compose, "-p", "8000")
    else:  # as compose does when it recreates: the old one steps aside, then goes
        name = "shop-web-2"
        echo(engine, name, *compose, "-p", "8000")
        engine.docker("rm", "-f", "shop-web-1")
    after = port_of(engine, name)
    jailer.wait(lambda s: s["bans"][0]["scope"]["ports"] == [f"{after}/tcp"])
    jailer.wait_banned(bad.address)
    connect(good, engine.address, after).close()
    assert not bad.reaches(engine.address, after)
    if before != after:
        echo(engine, "heir", "-p", f"{before}:8000", jail=False)
        connect(bad, engine.address, before).close()


def labelled(project: str, service: str) -> tuple[str, ...]:
    """Return the options by which compose marks a container as its own."""
    return (
        *("--label", f"com.docker.compose.project={project}"),
        *("--label", f"com.docker.compose.service={service}"),
    )


def test_an_address_past_the_host_stays_closed_while_the_daemon_restarts(lan, jailer_for, ways):
    engine = lan.engine
    echo(engine, "web", "--network", "lan")
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad, good = lan.attacker(), lan.attacker()
    web = addresses(engine, "web")[4]
    shut, still = ways.to(bad, web, 8000), ways.to(good, web, 8000)
    accuse(jailer, bad, 4)
    jailer.kill()
    assert_only_closed([shut], [still])
    jailer.environ["DOCKER_HOST"] = f"unix://{jailer.root}/away.sock"
    jailer.start()
    jailer.wait(lambda s: not s["engine"]["connected"] and s["bans"])
    assert_only_closed([shut], [still])
    jailer.stop()
    assert_only_closed([shut], [still])
