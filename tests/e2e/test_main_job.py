"""
The main job on the real thing: real containers, a real kernel, real packets.

Containers print failures with an attacker's address; what is asked is whether
that address can still reach them, and what `status` says.
"""

import contextlib
import sqlite3
import time

import pytest

from tests.lab import images
from tests.lab.jailer import REGEX, SERVE, banned, failed_login, follows, say, serve

pytestmark = pytest.mark.e2e

UDP_ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 5353))
while True:
    data, who = s.recvfrom(2000)
    s.sendto(data, who)
"""


def test_five_failures_ban_and_four_do_not(any_engine, attacker, guarded):
    engine = any_engine
    jailer = guarded(engine)
    bad, good = attacker(engine), attacker(engine)
    for each in (bad, good):
        assert each.reaches(engine.address, 8080)

    say(engine, "web", [failed_login(bad.address)] * 4)
    status = jailer.wait(lambda s: s["jails"][0]["failures"] == 4)
    assert banned(status) == set()
    assert status["jails"][0]["failing"] == 1
    assert bad.reaches(engine.address, 8080)

    say(engine, "web", [failed_login(bad.address)])
    status = jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)
    assert good.reaches(engine.address, 8080)

    status = jailer.status()
    (ban,) = status["bans"]
    assert ban["jail"] == "flask@web"
    assert ban["scope"]["ports"] == ["8080/tcp"]
    assert ban["packets"] > 0
    assert 3500 < ban["left"] <= 3600
    assert status["ok"]
    text = jailer.cli("status").stdout
    for word in (bad.address, "flask@web", "8080/tcp", "in sync", "web"):
        assert word in text


def test_an_established_connection_is_cut_too(engine, attacker, guarded):
    command = ("sh", "-c", "nc -ll -p 8000 -e cat & exec sleep 100000")
    jailer = guarded(engine, command=command)
    bad = attacker(engine)
    with bad.connection(engine.address, 8080) as connection:
        connection.sendall(b"before\n")
        assert connection.recv(100) == b"before\n"
        say(engine, "web", [failed_login(bad.address)] * 5)
        jailer.wait_banned(bad.address)
        connection.settimeout(1.5)
        connection.sendall(b"after\n")
        with pytest.raises(TimeoutError):
            connection.recv(100)


def test_only_the_services_ports_are_closed_to_the_banned(engine, attacker, jailer_for):
    serve(engine, "web")
    engine.run(images.busybox(engine), *SERVE, options=["--name", "other", "-p", "9090:8000"])
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)
    assert bad.reaches(engine.address, 9090)


def test_stderr_counts_as_well(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 3)
    say(engine, "web", [failed_login(bad.address)] * 2, stream=2)
    jailer.wait_banned(bad.address)


def test_a_tty_container_is_followed(any_engine, attacker, guarded):
    engine = any_engine
    jailer = guarded(engine, "--tty")
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)


def test_a_ban_ends_by_the_kernel_even_with_the_daemon_killed(engine, attacker, guarded):
    jailer = guarded(engine, bantime="6s")
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    jailer.kill()
    assert not bad.reaches(engine.address, 8080)
    time.sleep(6)
    assert bad.reaches(engine.address, 8080)


def test_a_ban_ends_after_bantime_and_the_daemon_says_so(engine, attacker, guarded):
    jailer = guarded(engine, bantime="3s")
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    jailer.wait_banned()
    assert bad.reaches(engine.address, 8080)
    assert f"Unban {bad.address}" in jailer.log


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_bans_survive_a_daemon_restart(end, engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    before = jailer.wait_banned(bad.address)["bans"][0]
    getattr(jailer, end)()
    assert not bad.reaches(engine.address, 8080)
    engine.space.run("nft", "delete", "table", "inet", "dockerjail")
    after = jailer.ready().wait_banned(bad.address)["bans"][0]
    assert (after["id"], after["until"]) == (before["id"], before["until"])
    assert not bad.reaches(engine.address, 8080)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_failures_survive_a_daemon_restart_and_count_once(end, engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 3)
    jailer.wait(lambda s: s["jails"][0]["failures"] == 3)
    getattr(jailer, end)()
    say(engine, "web", [failed_login(bad.address)])
    status = jailer.ready().wait(lambda s: s["jails"] and s["jails"][0]["failures"] == 4)
    assert banned(status) == set()
    say(engine, "web", [failed_login(bad.address)])
    jailer.wait_banned(bad.address)


def test_unban_works_at_once(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)
    done = jailer.cli("unban", bad.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert bad.address in done.stdout
    assert bad.reaches(engine.address, 8080)
    again = jailer.cli("unban", bad.address)
    assert again.returncode == 1
    assert f"{bad.address} is not banned" in again.stderr


def test_a_ban_by_hand_closes_everything(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    assert jailer.cli("ban", bad.address, "--for", "10m", "--reason", "a test").returncode == 0
    assert not bad.reaches(engine.address, 8080)
    (ban,) = jailer.ask("bans")["bans"]
    assert (ban["jail"], ban["reason"], ban["scope"]["ports"]) == ("manual", "a test", None)
    assert jailer.cli("unban", bad.address).returncode == 0
    assert bad.reaches(engine.address, 8080)


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_a_jail_that_rejects_refuses_the_banned_at_once(family, any_engine, attacker, guarded):
    engine = any_engine
    jailer = guarded(engine, blocktype="REJECT --reject-with icmp-port-unreachable")
    bad, good = attacker(engine), attacker(engine)
    whom, address = bad.address, engine.address
    subject = whom
    if family == "IPv6":
        whom, subject, address = bad.address6, bad.network6, engine.address6
    assert bad.reaches(address, 8080)
    say(engine, "web", [failed_login(whom)] * 5)
    (ban,) = jailer.wait_banned(subject)["bans"]
    assert (ban["blocktype"], ban["scope"]["ports"]) == ("reject", ["8080/tcp"])
    with pytest.raises(ConnectionRefusedError):
        bad.reaches(address, 8080)
    assert good.reaches(address, 8080)
    jailer.stop()
    engine.space.run("nft", "delete", "table", "inet", "dockerjail")
    (ban,) = jailer.ready().wait_banned(subject)["bans"]
    assert ban["blocktype"] == "reject"
    with pytest.raises(ConnectionRefusedError):
        bad.reaches(address, 8080)
    status = jailer.status()
    assert status["ok"]
    assert [jail["blocktype"] for jail in status["jails"]] == ["reject"]
    assert status["bans"][0]["packets"] > 0
    assert "8080/tcp by reject" in jailer.cli("bans").stdout
    assert jailer.cli("unban", whom).returncode == 0
    assert bad.reaches(address, 8080)


def test_a_ban_by_hand_rejects_if_asked_or_if_its_jail_does(engine, attacker, guarded):
    jailer = guarded(engine, blocktype="reject")
    bad = attacker(engine)
    by = [
        ["--blocktype", "reject"],
        ["--jail", "flask"],
        ["--jail", "flask", "--blocktype", "drop"],
    ]
    expected = [("manual", None, "reject"), ("flask@web", ["8080/tcp"], "reject")]
    expected.append(("flask@web", ["8080/tcp"], "drop"))
    for options, (jail, ports, blocktype) in zip(by, expected, strict=True):
        assert jailer.cli("ban", bad.address, *options).returncode == 0
        (ban,) = jailer.ask("bans")["bans"]
        assert (ban["jail"], ban["scope"]["ports"], ban["blocktype"]) == (jail, ports, blocktype)
        if blocktype == "reject":
            with pytest.raises(ConnectionRefusedError):
                bad.reaches(engine.address, 8080)
        else:
            assert not bad.reaches(engine.address, 8080)
        assert jailer.cli("unban", bad.address).returncode == 0
    wrong = jailer.cli("ban", bad.address, "--blocktype", "accept")
    assert wrong.returncode == 1
    assert "'accept' is none of drop, reject" in wrong.stderr


def test_an_ipv6_attacker_is_banned_with_its_64(engine, attacker, guarded):
    jailer = guarded(engine)
    bad, good = attacker(engine), attacker(engine)
    assert bad.reaches(engine.address6, 8080)
    say(engine, "web", [failed_login(bad.address6)] * 5)
    jailer.wait_banned(bad.network6)
    assert not bad.reaches(engine.address6, 8080)
    neighbour = bad.address6[:-1] + "2"
    bad.also(neighbour)
    assert not bad.reaches(engine.address6, 8080, source=neighbour)
    assert good.reaches(engine.address6, 8080)
    assert bad.reaches(engine.address, 8080)


def test_an_ipv4_address_written_as_ipv6_is_the_ipv4_address(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    say(engine, "web", [failed_login(f"::ffff:{bad.address}")] * 5)
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)


def test_udp_is_blocked_too(engine, attacker, jailer_for):
    serve(
        engine,
        "dns",
        "-p",
        "5353:5353/udp",
        port=None,
        image=images.python(engine),
        command=("python3", "-c", UDP_ECHO),
    )
    jailer = jailer_for(engine).ready()
    follows(jailer, "dns")
    bad, good = attacker(engine), attacker(engine)
    assert bad.datagram(engine.address, 5353, b"hello") == b"hello"
    say(engine, "dns", [failed_login(bad.address)] * 5)
    status = jailer.wait_banned(bad.address)
    assert status["bans"][0]["scope"]["ports"] == ["5353/udp"]
    assert bad.datagram(engine.address, 5353, b"hello") is None
    assert good.datagram(engine.address, 5353, b"hello") == b"hello"


def test_a_host_network_container_names_its_ports(engine, attacker, guarded):
    jailer = guarded(engine, "--network", "host", port=None, ports="8000")
    bad, good = attacker(engine), attacker(engine)
    assert bad.reaches(engine.address, 8000)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8000)
    assert good.reaches(engine.address, 8000)


def test_a_host_network_container_without_ports_cannot_ban_and_says_so(engine, guarded):
    jailer = guarded(engine, "--network", "host", port=None)
    say(engine, "web", [failed_login("203.0.113.7")] * 5)
    status = jailer.wait(lambda s: s["jails"][0]["failures"] == 5)
    assert banned(status) == set()
    assert not status["ok"]
    assert any("cannot ban" in p["what"] and "ports=" in p["remedy"] for p in status["problems"])
    assert jailer.cli("status").returncode == 4


def test_behind_a_proxy_the_proxys_ports_are_closed(any_engine, attacker, jailer_for):
    engine = any_engine
    engine.docker("network", "create", "shop")
    serve(engine, "web", "--network", "shop", port=None)
    engine.run(
        images.nginx(engine), options=["--name", "proxy", "--network", "shop", "-p", "80:80"]
    )
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad, good = attacker(engine), attacker(engine)
    url = f"http://{engine.address}/"
    assert bad.get(url).body.strip() == "served"
    say(engine, "web", [failed_login(bad.address)] * 5)
    status = jailer.wait_banned(bad.address)
    assert status["bans"][0]["scope"]["ports"] == ["80/tcp"]
    assert "proxy" in status["bans"][0]["scope"]["why"]
    assert not bad.reaches(engine.address, 80)
    assert good.get(url).body.strip() == "served"


def test_a_label_jail_of_a_container_that_nobody_can_reach_bans_nobody(engine, jailer_for):
    serve(engine, "web", port=None)
    jailer = jailer_for(engine).ready()
    status = follows(jailer, "web")
    assert not status["ok"]
    assert any("cannot ban" in p["what"] for p in status["problems"])
    say(engine, "web", [failed_login("203.0.113.7")] * 5)
    status = jailer.wait(lambda s: s["jails"][0]["failures"] == 5)
    assert banned(status) == set()


def test_a_jail_that_the_daemon_defines_bans_from_everything_then(engine, attacker, jailer_for):
    settings = f"[jails.login]\nfailregex = ['{REGEX}']\nmaxretry = 2\n"
    engine.run(
        images.busybox(engine),
        *SERVE,
        options=[
            "--name",
            "web",
            "--label",
            "dockerjail.enable=true",
            "--label",
            "dockerjail.jails=login",
        ],
    )
    engine.run(images.busybox(engine), *SERVE, options=["--name", "other", "-p", "9090:8000"])
    jailer = jailer_for(engine, settings).ready()
    follows(jailer, "web")
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 2)
    status = jailer.wait_banned(bad.address)
    assert status["bans"][0]["scope"]["ports"] is None
    assert not bad.reaches(engine.address, 9090)


def test_a_container_is_followed_through_its_life(any_engine, attacker, jailer_for):
    engine = any_engine
    jailer = jailer_for(engine).ready()
    serve(engine, "web")
    follows(jailer, "web")
    failures = 0

    def fail_once():
        nonlocal failures
        failures += 1
        say(engine, "web", [failed_login(f"203.0.113.{failures}")])
        jailer.wait(lambda s: s["jails"][0]["failures"] == failures)

    fail_once()
    engine.docker("stop", "-t", "0", "web")
    jailer.wait(lambda s: not s["containers"] or not s["containers"][0]["running"])
    engine.docker("start", "web")
    follows(jailer, "web")
    fail_once()
    engine.docker("restart", "-t", "0", "web")
    follows(jailer, "web")
    fail_once()
    engine.docker("rm", "-f", "web")
    jailer.wait(lambda s: s["containers"] == [])
    serve(engine, "web")
    follows(jailer, "web")
    fail_once()
    assert jailer.status()["ok"]


def test_a_ban_follows_a_recreated_container_to_its_new_port(engine, attacker, guarded):
    jailer = guarded(engine, port=8080)
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    engine.docker("rm", "-f", "web")
    serve(engine, "web", port=8181)
    follows(jailer, "web")
    jailer.wait(lambda s: s["bans"][0]["scope"]["ports"] == ["8181/tcp"])
    assert not bad.reaches(engine.address, 8181)


def test_failures_add_up_over_a_recreation(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 3)
    jailer.wait(lambda s: s["jails"][0]["failures"] == 3)
    engine.docker("rm", "-f", "web")
    serve(engine, "web")
    follows(jailer, "web")
    say(engine, "web", [failed_login(bad.address)] * 2)
    jailer.wait_banned(bad.address)


def test_the_last_lines_of_a_dying_container_count(any_engine, attacker, guarded):
    engine = any_engine
    jailer = guarded(engine)
    bad = attacker(engine)
    line = failed_login(bad.address)
    engine.docker(
        "exec",
        "web",
        "sh",
        "-c",
        f'for i in 1 2 3 4 5; do echo "{line}"; done > /proc/1/fd/1; kill -9 -1',
        check=False,
    )
    engine.docker("kill", "web", check=False)
    jailer.wait_banned(bad.address)


def test_services_do_not_share_counters_and_replicas_do(engine, jailer_for):
    def replica(name, service, port):
        serve(
            engine, name,
            "--label", "com.docker.compose.project=shop",
            "--label", f"com.docker.compose.service={service}",
            port=port,
        )  # fmt: skip

    replica("shop-web-1", "web", 8080)
    replica("shop-web-2", "web", 8081)
    replica("shop-api-1", "api", 8082)
    jailer = jailer_for(engine).ready()
    follows(jailer, "shop-web-1", "shop-web-2", "shop-api-1")
    say(engine, "shop-web-1", [failed_login("203.0.113.7")] * 2)
    say(engine, "shop-api-1", [failed_login("203.0.113.7")] * 4)
    jailer.wait(lambda s: sum(j["failures"] for j in s["jails"]) == 6)
    assert banned(jailer.status()) == set()
    say(engine, "shop-web-2", [failed_login("203.0.113.7")] * 3)
    (ban,) = jailer.wait_banned("203.0.113.7")["bans"]
    assert ban["jail"] == "flask@shop-web"
    assert ban["scope"]["ports"] == ["8080/tcp", "8081/tcp"]


def test_the_gateway_is_refused_with_an_explanation(engine, attacker, guarded):
    jailer = guarded(engine)
    inspected = engine.api("GET", "/containers/web/json")
    gateway = inspected["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    say(engine, "web", [failed_login(gateway)] * 7)
    status = jailer.wait(lambda s: bool(s["problems"]))
    assert banned(status) == set()
    (problem,) = status["problems"]
    assert gateway in problem["what"]
    assert "real addresses do not reach the container" in problem["what"]
    assert "X-Forwarded-For" in problem["remedy"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "198.51.100.254", "172.17.0.99"])
def test_own_addresses_are_never_banned_by_hand(address, engine, guarded):
    jailer = guarded(engine)
    done = jailer.cli("ban", address)
    assert done.returncode == 1
    assert "never banned" in done.stderr
    assert jailer.ask("bans")["bans"] == []


def test_sigterm_stops_the_daemon_in_seconds_with_bans_in_force(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    assert jailer.stop() == 0
    assert not bad.reaches(engine.address, 8080)
    done = jailer.cli("status")
    assert done.returncode == 3
    assert "no daemon answers" in done.stderr


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_an_engine_restart_loses_nothing(how, any_engine, attacker, guarded):
    engine = any_engine
    jailer = guarded(engine, "--restart", "always")
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 4)
    jailer.wait(lambda s: s["jails"][0]["failures"] == 4)
    if how == "restart":
        engine.restart()
    else:
        engine.kill()
        jailer.wait(lambda s: not s["engine"]["connected"] and not s["ok"])
        engine.start()
    follows(jailer, "web")
    assert jailer.status()["jails"][0]["failures"] == 4
    say(engine, "web", [failed_login(bad.address)])
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)


def test_a_failure_whose_address_stood_in_a_line_before_a_kill_counts(
    any_engine, attacker, guarded
):
    engine = any_engine
    jailer = guarded(
        engine,
        failregex=r"^<F-NOFAIL>connection</F-NOFAIL> <F-MLFID>\d+</F-MLFID> from <HOST>$"
        "\n"
        r"^<F-MLFID>\d+</F-MLFID> refused$",
        maxretry="2",
    )
    bad, other = attacker(engine), attacker(engine)
    say(engine, "web", [f"connection 7 from {bad.address}", f"connection 8 from {other.address}"])
    say(engine, "web", ["7 refused"])
    jailer.wait(lambda s: s["jails"][0]["failures"] == 1)
    jailer.kill()
    say(engine, "web", ["7 refused"])
    jailer.ready()
    jailer.wait_banned(bad.address)
    assert jailer.status()["jails"][0]["failures"] == 2, "what was judged does not count again"
    assert other.reaches(engine.address, 8080)


def test_a_foreign_flush_of_the_ruleset_is_mended(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    engine.space.run("nft", "delete", "table", "inet", "dockerjail")
    jailer.wait(lambda s: s["kernel"]["healed"] == 1 and s["kernel"]["in_sync"])
    assert bad.address in jailer.kernel()


def test_a_daemon_that_starts_late_finds_the_recent_failures(engine, attacker, jailer_for):
    serve(engine, "web")
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer = jailer_for(engine).ready()
    jailer.wait_banned(bad.address)


def test_killed_again_and_again_it_counts_every_failure_once(any_engine, jailer_for):
    engine = any_engine
    lines = 3000
    chatter = (
        f"i=0; while [ $i -lt {lines} ]; do i=$((i+1)); "
        f'echo "{failed_login("203.0.113.$((i % 250))", "u$i")}" >&$((i % 2 + 1)); '
        "[ $((i % 50)) -ne 0 ] || usleep 20000; done; exec sleep 100000"
    )
    jailer = jailer_for(engine).ready()
    serve(engine, "web", command=("sh", "-c", chatter), maxretry="9999")
    follows(jailer, "web")
    for _ in range(5):
        time.sleep(0.15)
        jailer.kill()
        jailer.ready()
    jailer.wait(lambda s: s["jails"] and s["jails"][0]["failures"] >= lines)
    with contextlib.closing(sqlite3.connect(jailer.database)) as database:
        texts = [text for (text,) in database.execute("SELECT text FROM failure")]
    assert len(texts) == len(set(texts)) == lines


SHOP = ("--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=web")
SPOOF = {"dockerjail.jail.spoof.failregex": "accuse <HOST>", "dockerjail.jail.spoof.maxretry": "1"}
ALSO_SPOOF = tuple(word for item in SPOOF.items() for word in ("--label", "=".join(item)))


def test_an_image_that_calls_itself_another_service_is_one_of_its_own(engine, jailer_for):
    serve(engine, "shop-web-1", *SHOP)
    serve(engine, "evil", *SHOP, *ALSO_SPOOF, port=9090)
    jailer = jailer_for(engine).ready()
    status = follows(jailer, "shop-web-1", "evil")
    assert {c["name"]: c["service"] for c in status["containers"]} == {
        "shop-web-1": "shop-web",
        "evil": "evil",
    }
    say(engine, "evil", [failed_login("203.0.113.7")] * 5 + ["accuse 203.0.113.9"])
    say(engine, "shop-web-1", [failed_login("203.0.113.8")] * 5)
    bans = jailer.wait_banned("203.0.113.7", "203.0.113.8", "203.0.113.9")["bans"]
    assert {(ban["jail"], *ban["scope"]["ports"]) for ban in bans} == {
        ("flask@evil", "9090/tcp"),
        ("spoof@evil", "9090/tcp"),
        ("flask@shop-web", "8080/tcp"),
    }


def test_a_replica_with_another_rule_gets_neither_the_services_rule_nor_its_ports(
    engine, jailer_for
):
    serve(engine, "shop-web-1", *SHOP)
    jailer = jailer_for(engine).ready()
    follows(jailer, "shop-web-1")
    serve(engine, "shop-web-2", *SHOP, *ALSO_SPOOF, port=9090, failregex="nothing <HOST>")
    status = follows(jailer, "shop-web-1", "shop-web-2")
    (problem,) = status["problems"]
    assert problem["place"] == "container shop-web-2, jail flask"
    assert "different rule" in problem["what"]
    say(engine, "shop-web-2", ["accuse 203.0.113.9"])
    (ban,) = jailer.wait_banned("203.0.113.9")["bans"]
    assert (ban["jail"], ban["scope"]["ports"]) == ("spoof@shop-web", ["9090/tcp"])
    say(engine, "shop-web-1", [failed_login("203.0.113.7")] * 5)
    jailer.wait_banned("203.0.113.9", "203.0.113.7")
    engine.docker("rm", "-f", "shop-web-1")
    jailer.wait(lambda s: not s["problems"])


def test_a_sidecar_closes_the_ports_of_the_container_whose_network_it_uses(engine, jailer_for):
    engine.run(images.busybox(engine), *SERVE, options=["--name", "pod", "--publish", "8080:8000"])
    serve(
        engine, "side", "--network", "container:pod", port=None, command=("sleep", "100000")
    )  # fmt: skip
    jailer = jailer_for(engine).ready()
    follows(jailer, "side")
    say(engine, "side", [failed_login("203.0.113.7")] * 5)
    (ban,) = jailer.wait_banned("203.0.113.7")["bans"]
    assert ban["scope"]["ports"] == ["8080/tcp"]


def test_a_shipped_jail_needs_no_more_than_its_name(engine, attacker, jailer_for):
    engine.run(
        images.busybox(engine),
        *SERVE,
        options=[
            *("--name", "web", "--publish", "8080:8000"),
            *("--label", "dockerjail.enable=true", "--label", "dockerjail.jails=flask-login"),
        ],
    )
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address, "x from IP: 203.0.113.99")] * 5)
    (ban,) = jailer.wait_banned(bad.address)["bans"]
    assert ban["jail"] == "flask-login@web"
    assert not bad.reaches(engine.address, 8080)


def test_a_new_network_is_no_false_alarm(engine, jailer_for):
    jailer = jailer_for(engine).ready()
    engine.docker("network", "create", "later")
    serve(engine, "web", "--network", "later")
    status = follows(jailer, "web")
    assert status["problems"] == []
    assert jailer.status()["ok"]


def test_a_ban_by_hand_in_a_jail_is_the_jails(engine, attacker, jailer_for):
    serve(engine, "web", bantime="2h")
    engine.run(
        images.busybox(engine), *SERVE, options=["--name", "other", "--publish", "9090:8000"]
    )
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad = attacker(engine)
    assert jailer.cli("ban", bad.address, "--jail", "flask", "--reason", "seen").returncode == 0
    (ban,) = jailer.wait_banned(bad.address)["bans"]
    assert (ban["jail"], ban["scope"]["ports"]) == ("flask@web", ["8080/tcp"])
    assert 7100 < ban["left"] <= 7200
    assert not bad.reaches(engine.address, 8080)
    assert bad.reaches(engine.address, 9090)
    assert "seen" in jailer.cli("bans").stdout
    assert "(seen)" in jailer.log
    assert jailer.cli("unban", bad.address, "--jail", "flask@web").returncode == 0
    assert bad.reaches(engine.address, 8080)


def test_an_ipv6_address_banned_by_hand_takes_its_64_along(engine, attacker, jailer_for):
    jailer = jailer_for(engine).ready()
    bad = attacker(engine)
    assert jailer.cli("ban", bad.address6).returncode == 0
    jailer.wait_banned(bad.network6)
    assert jailer.cli("unban", bad.address6).returncode == 0
    jailer.wait_banned()
    assert jailer.cli("ban", f"{bad.address6}/128").returncode == 0
    jailer.wait_banned(bad.address6)


def test_an_engine_is_followed_over_tcp(engine, attacker, jailer_for):
    engine.restart("--host", "tcp://127.0.0.1:2375", "--tls=false")
    serve(engine, "web")
    jailer = jailer_for(engine, DOCKER_HOST="tcp://127.0.0.1:2375").ready()
    follows(jailer, "web")
    assert jailer.status()["engine"]["address"] == "tcp://127.0.0.1:2375"
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)
