"""The lab itself keeps its promises: engines apart, attackers that arrive, nothing left behind."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import images, netns
from tests.lab.attacker import Answer, Attacker
from tests.lab.engine import Engine

pytestmark = pytest.mark.engine

SERVER = ("httpd", "-f", "-p", "80", "-h", "/etc")
PUBLISHED = ("--publish", "8080:80")
UDP_ECHO = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 5300))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(1500)
    s.sendto(peer[0].encode(), peer)
"""


def test_an_attacker_reaches_a_published_port_by_ipv4_and_ipv6(
    any_engine: Engine, attacker: Callable[[Engine], Attacker]
) -> None:
    any_engine.run(images.busybox(any_engine), *SERVER, options=PUBLISHED)
    host = attacker(any_engine)
    for address in (any_engine.address, f"[{any_engine.address6}]"):
        assert host.get(f"http://{address}:8080/passwd") == Answer(
            200, "root:x:0:0:root:/:/bin/sh\n"
        )


def test_attackers_come_from_their_own_addresses(
    engine: Engine, attacker: Callable[[Engine], Attacker]
) -> None:
    container = engine.run(
        images.python(engine), "python3", "-c", UDP_ECHO, options=["--network", "host"]
    )
    while "ready" not in engine.logs(container):
        assert engine.api("GET", f"/containers/{container}/json")["State"]["Running"]
    one, two = attacker(engine), attacker(engine)
    assert one.network6 != two.network6
    for host in (one, two):
        assert host.datagram(engine.address, 5300, b"") == f"::ffff:{host.address}".encode()
        assert host.datagram(engine.address6, 5300, b"") == host.address6.encode()


def test_a_container_survives_a_killed_engine_with_live_restore(any_engine: Engine) -> None:
    any_engine.restart("--live-restore")
    container = any_engine.run(images.busybox(any_engine), *SERVER)
    pid = any_engine.api("GET", f"/containers/{container}/json")["State"]["Pid"]
    any_engine.kill()
    assert not any_engine.running
    any_engine.start("--live-restore")
    state = any_engine.api("GET", f"/containers/{container}/json")["State"]
    assert (state["Running"], state["Pid"]) == (True, pid)


def test_engines_of_the_same_kind_stand_side_by_side_and_leave_nothing(engine: Engine) -> None:
    with Engine.claim("engine") as other:
        other.start()
        assert other.slot != engine.slot
        other.attacker()
        other.run(images.busybox(other), *SERVER, options=["--network", "host"])
        assert engine.docker("ps", "--quiet") == ""
        root, space = other.root, other.space
    assert not root.exists()
    assert not space.path.exists()
    assert not netns.Namespace(f"{space.name}-a1").path.exists()
    assert not [*Path("/sys/fs/cgroup").rglob(other.slot)]
