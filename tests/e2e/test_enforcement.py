"""
Enforcement as an operator sees it: what he says on the command line and in the configuration,
what becomes of packets, and what he is told.
"""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab import images
from tests.lab.attacker import Attacker
from tests.lab.engine import Engine
from tests.lab.jailer import (
    REGEX,
    SERVE,
    Jailer,
    Json,
    banned,
    failed_login,
    follows,
    say,
    serve,
)

pytestmark = pytest.mark.e2e

NET = "203.0.113.0/24"
INSIDE = [f"203.0.113.{number}" for number in range(1, 7)]
DAEMONS = f"[jails.login]\nfailregex = ['{REGEX}']\nmaxretry = 2\n"
"""A jail of the daemon's file, which a ban from everything may come of."""


def fail(jailer: Jailer, *addresses: str, times: int = 5, container: str = "web") -> None:
    """Have a container tell of failed logins, by turns if there are several addresses."""
    say(jailer.engine, container, [failed_login(address) for address in addresses * times])


def other(engine: Engine, *options: str, port: int = 9090) -> None:
    """Start a service with which nobody has anything to do."""
    published = ("--name", "other", "--publish", f"{port}:8000")
    engine.run(images.busybox(engine), *SERVE, options=[*published, *options])


def selecting(engine: Engine, *jails: str, port: int = 8080) -> None:
    """Start `web` with jails that the daemon knows."""
    chosen = ("--label", "dockerjail.enable=true", "--label", f"dockerjail.jails={','.join(jails)}")
    published = ("--name", "web", "--publish", f"{port}:8000")
    engine.run(images.busybox(engine), *SERVE, options=[*published, *chosen])


def ok(jailer: Jailer, *command: str) -> str:
    """Run a command that has to succeed without a word of complaint; return what it printed."""
    done = jailer.cli(*command)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(jailer: Jailer, *command: str) -> str:
    """Run a command that has to be refused; return why."""
    done = jailer.cli(*command)
    assert (done.returncode, done.stdout) == (1, "")
    return " ".join(done.stderr.split())


def jail_named(status: Json, name: str) -> Json:
    (found,) = [jail for jail in status["jails"] if jail["name"] == name]
    return dict(found)


# -- allow -------------------------------------------------------------------


def test_who_is_allowed_is_let_in_at_once_and_only_for_his_time(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    fail(jailer, bad.address)
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)
    said = ok(jailer, "allow", "add", bad.address, "--for", "4s", "--comment", "the office")
    assert f"{bad.address} is let pass for " in said
    assert f"{bad.address} is let in again (jail flask@web)" in said
    assert bad.reaches(engine.address, 8080)
    text = ok(jailer, "allow", "list")
    assert bad.address in text
    assert "the office" in text
    (each,) = jailer.ask("allow", "list")["allowed"]
    assert (each["who"], each["comment"], each["networks"]) == (
        bad.address,
        "the office",
        [f"{bad.address}"],
    )
    assert 0 < each["left"] <= 4
    fail(jailer, bad.address)
    said = f"[flask@web] Ignore {bad.address}, accused by container web: an operator lets it pass"
    jailer.wait(lambda _: said in jailer.log)
    assert jailer.status()["allowed"] == 1
    assert banned(jailer.status()) == set()
    jailer.wait(lambda s: s["allowed"] == 0)
    assert "nobody is let pass" in ok(jailer, "allow", "list")
    fail(jailer, bad.address)
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)


def test_who_is_allowed_is_let_pass_after_a_restart_until_he_is_no_more(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    ok(jailer, "allow", "add", bad.address)
    jailer.kill()
    # as a ban that somebody forgot to end: whoever put it there, the kernel's allow set wins
    element = f"add element inet dockerjail all4_32 {{ {bad.address} }}"
    engine.space.run("nft", element)
    assert bad.reaches(engine.address, 8080)
    jailer.ready()
    follows(jailer, "web")
    (each,) = jailer.ask("allow", "list")["allowed"]
    assert (each["who"], each["until"], each["left"]) == (bad.address, None, None)
    fail(jailer, bad.address)
    jailer.wait(lambda _: f"Ignore {bad.address}" in jailer.log)
    assert banned(jailer.status()) == set()
    assert bad.reaches(engine.address, 8080)
    assert f"{bad.address} is let pass no more" in ok(jailer, "allow", "rm", bad.address)
    assert "is not let pass" in refused(jailer, "allow", "remove", bad.address)
    fail(jailer, bad.address)
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)


def test_a_network_that_is_allowed_frees_those_inside_and_wider_bans_spare_it(
    engine, attacker, guarded
):
    jailer = guarded(engine)
    bad = attacker(engine)
    bad.network(NET, *INSIDE)
    ok(jailer, "ban", INSIDE[0])
    ok(jailer, "ban", NET)
    assert not bad.reaches(engine.address, 8080, source=INSIDE[0])
    ok(jailer, "allow", "add", "203.0.113.0/30")
    jailer.wait(lambda s: banned(s) == {NET})
    assert bad.reaches(engine.address, 8080, source=INSIDE[0])
    assert not bad.reaches(engine.address, 8080, source=INSIDE[4])


def test_one_address_of_a_banned_network_is_allowed_and_its_neighbours_stay_out(
    engine, attacker, guarded
):
    jailer = guarded(engine)
    bad = attacker(engine)
    friend, neighbour = bad.address6, f"{bad.address6[:-1]}2"
    bad.also(neighbour)

    def reach() -> list[bool]:
        return [bad.reaches(engine.address6, 8080, source=each) for each in (friend, neighbour)]

    fail(jailer, friend)
    jailer.wait_banned(bad.network6)
    ok(jailer, "allow", "add", friend)
    assert reach() == [True, False]
    ok(jailer, "unban", bad.network6)
    assert reach() == [True, True]
    fail(jailer, neighbour, friend)
    jailer.wait_banned(neighbour)
    assert reach() == [True, False]


def test_a_name_is_allowed_by_its_addresses(engine, attacker, jailer_for, tmp_path):
    serve(engine, "web")
    bad = attacker(engine)
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{bad.address} office.test\n")
    jailer = jailer_for(engine)
    mounted = 'mount --bind "$0" /etc/hosts && exec "$@"'
    jailer.within = ("unshare", "--mount", "sh", "-c", mounted, str(hosts))
    jailer.ready()
    follows(jailer, "web")
    fail(jailer, bad.address)
    jailer.wait_banned(bad.address)
    said = ok(jailer, "allow", "add", "Office.test")
    assert f"office.test ({bad.address}) is let pass for good" in said
    assert bad.reaches(engine.address, 8080)
    jailer.stop()
    jailer.ready()
    follows(jailer, "web")
    fail(jailer, bad.address)
    jailer.wait(lambda _: f"Ignore {bad.address}" in jailer.log)
    assert banned(jailer.status()) == set()
    ok(jailer, "allow", "remove", "office.test")
    fail(jailer, bad.address)
    jailer.wait_banned(bad.address)


def test_what_cannot_be_meant_is_refused_and_changes_nothing(engine, guarded):
    jailer = guarded(engine)
    for command, why in (
        ("allow add nobody.invalid", "nobody.invalid does not resolve; write a name that has"),
        ("allow add 0.0.0.0/0", "is everybody"),
        ("allow add 203.0.113.300", "'203.0.113.300' is not an address"),
        ("allow add 203.0.113.7 --for soon", "soon"),
        ("allow remove 203.0.113.7", "203.0.113.7 is not let pass by an operator's word"),
        ("unban 203.0.113.7", "203.0.113.7 is not banned"),
        ("unban 203.0.113.7 --jail flask", "203.0.113.7 is not banned in jail flask"),
        ("ban 203.0.113.7 --jail nginx", "no jail nginx; the jails are: flask@web"),
        ("ban 203.0.113.0/33", "'203.0.113.0/33' is not an address"),
        ("ban 203.0.113.7 --ports 80-", "80-"),
        ("ban 203.0.113.7 --for", None),
        ("ban 203.0.113.7 --for 3fortnights", "3fortnights"),
    ):
        done = jailer.cli(*command.split())
        if why is None:
            assert done.returncode == 2
        else:
            assert done.returncode == 1
            assert why in " ".join(done.stderr.split())
        assert done.stdout == ""
    status = jailer.status()
    assert (status["bans"], status["allowed"], status["ok"]) == ([], 0, True)


# -- bans by hand ------------------------------------------------------------


def test_own_addresses_are_never_banned_not_even_by_force(engine, guarded):
    jailer = guarded(engine)
    for whom, why in (
        (engine.address, "an address of this host"),
        (engine.address6, "an address of this host"),
        ("172.17.0.1", "the gateway of container web's network"),
        ("172.17.0.99", "it is in a network of container web"),
        ("127.0.0.1", "loopback"),
        ("198.51.100.0/24", "an address of this host"),
        ("0.0.0.0/0", ""),
    ):
        for force in ([], ["--force"]):
            said = refused(jailer, "ban", whom, *force)
            assert "is never banned: " in said
            assert why in said
            assert "--force" not in said
    assert jailer.ask("bans")["bans"] == []


def test_who_is_in_ignoreip_is_banned_only_by_force(engine, attacker, jailer_for):
    serve(engine, "web")
    bad = attacker(engine)
    jailer = jailer_for(engine, f'[defaults]\nignoreip = "{bad.address}"\n').ready()
    follows(jailer, "web")
    said = refused(jailer, "ban", bad.address)
    assert "is never banned: it is in ignoreip; with --force" in said
    assert bad.reaches(engine.address, 8080)
    ok(jailer, "ban", bad.address, "--force")
    assert not bad.reaches(engine.address, 8080)
    (ban,) = jailer.wait_banned(bad.address)["bans"]
    assert ban["forced"]
    assert "forced" in ok(jailer, "bans")
    jailer.stop()
    jailer.ready()
    assert not bad.reaches(engine.address, 8080)
    ok(jailer, "unban", bad.address)
    assert bad.reaches(engine.address, 8080)
    fail(jailer, bad.address)
    jailer.wait(lambda _: f"Ignore {bad.address}" in jailer.log)
    assert banned(jailer.status()) == set()


def test_overlapping_bans_each_have_their_own_end(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    bad.network(NET, *INSIDE)
    first, second, *_, last = INSIDE

    def reach(*sources: str) -> list[bool]:
        return [bad.reaches(engine.address, 8080, source=source) for source in sources]

    ok(jailer, "ban", NET, "--for", "6s")
    ok(jailer, "ban", first, "--for", "1h")
    ok(jailer, "ban", "203.0.113.0/30", "--for", "1h", "--ports", "9999")
    assert reach(first, second, last) == [False, False, False]
    jailer.wait(lambda s: banned(s) == {first, "203.0.113.0/30"})
    assert reach(first, second, last) == [False, True, True]
    ok(jailer, "ban", NET, "--for", "1h")
    ok(jailer, "ban", second, "--for", "1s")
    jailer.wait(lambda s: banned(s) == {NET, first, "203.0.113.0/30"})
    assert reach(first, second, last) == [False, False, False]
    ok(jailer, "unban", NET)
    assert banned(jailer.status()) == set()
    assert reach(first, second, last) == [True, True, True]


def test_a_ban_by_hand_in_a_jail_follows_its_ports(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)
    ok(jailer, "ban", bad.address, "--jail", "flask")
    assert not bad.reaches(engine.address, 8080)
    engine.docker("rm", "-f", "web")
    serve(engine, "web", port=8181)
    jailer.wait(lambda s: s["bans"][0]["scope"]["ports"] == ["8181/tcp"])
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8181)


# -- observe -----------------------------------------------------------------


@pytest.mark.parametrize("by", ["label", "file"])
def test_a_jail_that_observes_says_whom_it_would_ban_and_blocks_nobody(
    by, engine, attacker, jailer_for
):
    bad = attacker(engine)
    if by == "label":
        serve(engine, "web", mode="observe")
        jailer = jailer_for(engine).ready()
    else:
        selecting(engine, "login")
        jailer = jailer_for(engine, f'{DAEMONS}mode = "observe"\n').ready()
    follows(jailer, "web")
    fail(jailer, bad.address)
    status = jailer.wait(lambda s: s["observed"] == 1)
    assert bad.reaches(engine.address, 8080)
    assert (status["banned"], status["mode"], status["ok"]) == (0, "enforce", True)
    (ban,) = status["bans"]
    assert (ban["mode"], ban["address"], ban["packets"]) == ("observe", bad.address, None)
    assert status["jails"][0]["mode"] == "observe"
    assert status["kernel"]["elements"] == 0
    assert "observed only" in ok(jailer, "status")
    assert "1 only observed" in ok(jailer, "status")
    assert "observed only" in ok(jailer, "bans")
    assert "observe: nobody is blocked" in ok(jailer, "status", status["jails"][0]["name"])
    assert f"Observe, would ban {bad.address} from 8080/tcp" in jailer.log
    assert f"] Ban {bad.address}" not in jailer.log
    assert "is let in again" in ok(jailer, "unban", bad.address)


def test_a_label_cannot_take_a_dry_run_back(engine, attacker, jailer_for):
    bad = attacker(engine)
    named = ("--label", "dockerjail.jails=login", "--label", "dockerjail.jail.login.mode=enforce")
    serving = ("--name", "web", "--publish", "8080:8000", "--label", "dockerjail.enable=true")
    engine.run(images.busybox(engine), *SERVE, options=[*serving, *named])
    jailer = jailer_for(engine, f'{DAEMONS}mode = "observe"\n').ready()
    follows(jailer, "web")
    (problem,) = jailer.status()["problems"]
    assert "mode" in problem["place"]
    fail(jailer, bad.address)
    jailer.wait(lambda s: s["observed"] == 1)
    assert bad.reaches(engine.address, 8080)


def test_a_daemon_that_only_observes_lets_all_in_and_bans_again_when_it_enforces(
    engine, attacker, guarded
):
    jailer = guarded(engine)
    bad, worse = attacker(engine), attacker(engine)
    fail(jailer, bad.address)
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)
    jailer.stop()
    jailer.config.write_text('[firewall]\nmode = "observe"\n')
    jailer.ready()
    follows(jailer, "web")
    assert bad.reaches(engine.address, 8080)
    assert "dockerjail" not in engine.space.run("nft", "list", "tables").stdout
    fail(jailer, worse.address)
    status = jailer.wait(lambda s: s["observed"] == 2)
    assert (status["mode"], status["banned"], status["ok"]) == ("observe", 0, True)
    assert worse.reaches(engine.address, 8080)
    assert "NOTHING IS BLOCKED" in ok(jailer, "status")
    assert "would be kept out" in ok(jailer, "ban", "203.0.113.7")
    assert 'mode = "observe": nothing is blocked' in jailer.log
    jailer.stop()
    jailer.config.write_text("")
    jailer.ready()
    follows(jailer, "web")
    status = jailer.wait(lambda s: s["banned"] >= 1)
    assert not bad.reaches(engine.address, 8080)
    assert status["mode"] == "enforce"
    assert worse.reaches(engine.address, 8080)
    fail(jailer, worse.address)
    jailer.wait(lambda s: s["banned"] == 2)
    assert not worse.reaches(engine.address, 8080)


# -- how long ----------------------------------------------------------------


def lasts(jailer: Jailer, jail: str, bad: Attacker) -> float:
    """Have an attacker banned and unbanned; return for how long the ban would have been."""
    fail(jailer, bad.address)
    (ban,) = jailer.wait_banned(bad.address)["bans"]
    assert ban["jail"] == jail
    ok(jailer, "unban", bad.address)
    return float(round(ban["until"] - ban["at"]))


@pytest.mark.parametrize("by", ["label", "defaults", "jail.local"])
def test_bans_of_who_comes_back_grow(by, engine, attacker, jailer_for, tmp_path):
    grow = {"bantime": "1h", "bantime.increment": "true", "bantime.maxtime": "3h"}
    settings, jail = "", "flask@web"
    if by == "label":
        serve(engine, "web", **grow)
    elif by == "defaults":
        serve(engine, "web", bantime="1h")
        settings = '[defaults]\n"bantime.increment" = true\n"bantime.maxtime" = "3h"\n'
    else:
        lines = "".join(f"{key} = {value}\n" for key, value in grow.items())
        settings = fail2ban_files(tmp_path, f"[DEFAULT]\n{lines}")
        selecting(engine, "shop")
        jail = "shop@web"
    jailer = jailer_for(engine, settings).ready()
    follows(jailer, "web")
    bad, good = attacker(engine), attacker(engine)
    assert [lasts(jailer, jail, bad) for _ in range(3)] == [3600, 7200, 10800]
    assert lasts(jailer, jail, good) == 3600
    (told,) = jailer.status()["jails"]
    assert told["bantime_grows"]
    assert "ban 1h and more" in " ".join(ok(jailer, "status").split())


def fail2ban_files(root: Path, jail_local: str) -> str:
    """Write a user's fail2ban files with the jail `shop`; return the settings that name them."""
    etc = root / "fail2ban"
    (etc / "filter.d").mkdir(parents=True)
    (etc / "jail.local").write_text(
        f"{jail_local}\n[shop]\nenabled = true\nfilter = shop\nport = 8080\nmaxretry = 5\n"
    )
    (etc / "filter.d" / "shop.conf").write_text(
        "[Definition]\nfailregex = ^.*WARNING Failed login attempt for user: .* from IP: <HOST>\n"
    )
    return f'[fail2ban]\npath = "{etc}"\n'


# -- recidive ----------------------------------------------------------------


def twice(jailer: Jailer, bad: Attacker) -> Json:
    """Have an attacker banned, unbanned and banned again; return what recidive made of it."""
    fail(jailer, bad.address)
    jailer.wait_banned(bad.address)
    ok(jailer, "unban", bad.address)
    fail(jailer, bad.address)
    status = jailer.wait(lambda s: len(s["bans"]) > 1)
    (found,) = [ban for ban in status["bans"] if ban["cause"] == "bans"]
    assert (found["failures"], found["reason"]) == (2, "banned 2 times")
    assert round(found["until"] - found["at"]) == 7 * 86400
    return dict(found)


def test_recidive_by_label_keeps_out_of_the_services_own_ports(engine, attacker, jailer_for):
    other(engine)
    recidive = ("--label", "dockerjail.jails=recidive")
    serve(engine, "web", *recidive, "--label", "dockerjail.jail.recidive.maxretry=2")
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad = attacker(engine)
    ban = twice(jailer, bad)
    assert (ban["jail"], ban["scope"]["ports"]) == ("recidive@web", ["8080/tcp"])
    ok(jailer, "unban", bad.address, "--jail", "flask")
    assert not bad.reaches(engine.address, 8080)
    assert bad.reaches(engine.address, 9090)


@pytest.mark.parametrize("whose", ["the daemon's", "a label's", "fail2ban's"])
def test_the_hosts_recidive_closes_everything_for_the_operators_jails_and_a_services_ports_for_its_labels(
    whose, engine, attacker, jailer_for, tmp_path
):
    other(engine)
    counting = "[jails.recidive]\nmaxretry = 2\n"
    if whose == "the daemon's":
        selecting(engine, "login")
        jailer = jailer_for(engine, f"{counting}{DAEMONS}")
    elif whose == "a label's":
        serve(engine, "web")
        jailer = jailer_for(engine, counting)
    else:
        selecting(engine, "shop")
        local = "[recidive]\nenabled = true\nmaxretry = 2\n"
        jailer = jailer_for(engine, fail2ban_files(tmp_path, local))
    jailer.ready()
    follows(jailer, "web")
    assert "looks for bans in other jails" in " ".join(ok(jailer, "status", "recidive").split())
    bad = attacker(engine)
    ban = twice(jailer, bad)
    found = (ban["jail"], ban["scope"]["ports"])
    assert found == (("recidive@web", ["8080/tcp"]) if whose == "a label's" else ("recidive", None))
    jails = [each["jail"] for each in jailer.ask("bans")["bans"]]
    for jail in jails:
        if not jail.startswith("recidive"):
            ok(jailer, "unban", bad.address, "--jail", jail)
    assert not bad.reaches(engine.address, 8080)
    assert bad.reaches(engine.address, 9090) is (whose == "a label's")
    assert jail_named(jailer.status(), "recidive")["banned"] == (whose != "a label's")


# -- networks ----------------------------------------------------------------


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_a_network_is_banned_when_enough_of_its_addresses_are(family, engine, attacker, guarded):
    jailer = guarded(engine, aggregate="3 in 1h", maxretry="1")
    bad, good = attacker(engine), attacker(engine)
    network, members, target = NET, INSIDE, engine.address
    if family == "IPv6":
        network, target = "2001:db8:99::/48", engine.address6
        members = [f"2001:db8:99:{number}::1" for number in range(1, 7)]
    bad.network(network, *members)
    fail(jailer, *members[:2], times=1)
    status = jailer.wait(lambda s: len(s["bans"]) == 2)
    assert network not in banned(status)
    assert bad.reaches(target, 8080, source=members[3])
    fail(jailer, members[2], times=1)
    status = jailer.wait(lambda s: network in banned(s))
    (wide,) = [ban for ban in status["bans"] if ban["address"] == network]
    assert (wide["cause"], wide["failures"], wide["scope"]["ports"]) == (
        "neighbours",
        3,
        ["8080/tcp"],
    )
    assert wide["reason"] == "3 of its addresses were banned"
    assert not bad.reaches(target, 8080, source=members[3])
    assert good.reaches(target, 8080)


def test_failures_of_a_whole_prefix_count_together_and_ban_it(engine, attacker, guarded):
    jailer = guarded(engine, ipv4_prefix="24")
    bad, good = attacker(engine), attacker(engine)
    bad.network(NET, *INSIDE)
    fail(jailer, *INSIDE[:4], times=1)
    jailer.wait(lambda s: s["jails"][0]["failures"] == 4)
    assert banned(jailer.status()) == set()
    assert bad.reaches(engine.address, 8080, source=INSIDE[5])
    fail(jailer, INSIDE[4], times=1)
    jailer.wait_banned(NET)
    assert not bad.reaches(engine.address, 8080, source=INSIDE[5])
    assert good.reaches(engine.address, 8080)


# -- against abuse of the log ------------------------------------------------


def test_a_container_beyond_its_budget_is_only_observed(engine, attacker, jailer_for):
    serve(engine, "web", maxretry="1")
    serve(engine, "shop", port=8081, maxretry="1")
    jailer = jailer_for(engine, "[budget]\nbans_per_minute = 3\n").ready()
    follows(jailer, "web", "shop")
    bad, worse = attacker(engine), attacker(engine)
    fail(jailer, *(f"203.0.113.{number}" for number in range(10)), times=1)
    status = jailer.wait(lambda s: s["banned"] + s["observed"] == 10)
    assert (status["banned"], status["observed"], status["kernel"]["elements"]) == (3, 7, 3)
    fail(jailer, bad.address, times=1)
    status = jailer.wait(lambda s: s["observed"] == 8)
    assert bad.reaches(engine.address, 8080)
    (problem,) = status["problems"]
    assert problem["place"] == "container web"
    assert "bans more than its budget (bans_per_minute = 3" in problem["what"]
    assert "8 bans since " in problem["what"]
    assert {c["name"]: c["over_budget"] for c in status["containers"]} == {
        "web": True,
        "shop": False,
    }
    assert jailer.log.count("container web bans more than its budget") == 1
    done = jailer.cli("status")
    assert done.returncode == 4
    assert "over budget" in done.stdout
    fail(jailer, worse.address, times=1, container="shop")
    jailer.wait(lambda s: s["banned"] == 4)
    assert not worse.reaches(engine.address, 8081)


def test_only_who_really_connected_is_banned_if_lines_have_to_be_borne_out(
    engine, attacker, guarded
):
    jailer = guarded(engine, verify="conntrack")
    bad = attacker(engine)
    assert bad.get(f"http://{engine.address}:8080/").body.strip() == "served"
    fail(jailer, "203.0.113.9", bad.address)
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)
    status = jailer.wait(lambda s: s["jails"][0]["unverified"] == 1)
    assert (banned(status), status["ok"]) == ({bad.address}, True)
    assert "Ignore 203.0.113.9: the kernel knows of no connection" in jailer.log
    text = " ".join(ok(jailer, "status", "flask").split())
    assert "verify conntrack; not banned since no connection was known: 1" in text


# -- whether it works --------------------------------------------------------


def test_a_ban_that_does_not_work_is_told_with_the_proxy_that_he_comes_through(
    engine, attacker, jailer_for
):
    engine.docker("network", "create", "shop")
    serve(engine, "web", "--network", "shop")
    engine.run(
        images.nginx(engine), options=["--name", "proxy", "--network", "shop", "-p", "80:80"]
    )
    networks = engine.api("GET", "/containers/proxy/json")["NetworkSettings"]["Networks"]
    address = networks["shop"]["IPAddress"]
    jailer = jailer_for(engine).ready()
    follows(jailer, "web")
    bad = attacker(engine)
    assert bad.get(f"http://{engine.address}/").body.strip() == "served"
    fail(jailer, bad.address)
    (ban,) = jailer.wait_banned(bad.address)["bans"]
    assert (ban["scope"]["ports"], ban["effective"]) == (["8080/tcp"], True)
    time.sleep(3.5)  # requests of before may end, and be logged, so late
    for _ in range(3):
        assert bad.get(f"http://{engine.address}/").body.strip() == "served"
        fail(jailer, bad.address, times=1)
    status = jailer.wait(lambda s: any("through a proxy at" in p["what"] for p in s["problems"]))
    (problem,) = status["problems"]
    assert problem["place"] == "jail flask@web"
    assert f"the ban of {bad.address} is not effective" in problem["what"]
    assert f"through a proxy at {address}, container proxy" in problem["what"]
    (ban,) = status["bans"]
    assert ban["effective"] is False
    assert "is not effective: container web goes on logging failures" in jailer.log
    assert "NOT EFFECTIVE" in ok(jailer, "bans")
    assert jailer.cli("status").returncode == 4


APPLICATION = """
import http.server

class Login(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        who = self.client_address[0].removeprefix("::ffff:")
        print("WARNING Failed login attempt for user: x from IP:", who, flush=True)
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("", 8000), Login).serve_forever()
"""


def test_clients_that_all_look_like_the_gateway_are_explained_and_not_banned(
    engine, attacker, guarded
):
    jailer = guarded(
        engine, image=images.python(engine), command=("python3", "-c", APPLICATION), maxretry="2"
    )
    engine.docker("exec", "web", "python3", "-c", WAIT)
    bad, worse = attacker(engine), attacker(engine)
    for each in (bad, worse) * 3:
        assert each.get(f"http://[{engine.address6}]:8080/").status == 401
    status = jailer.wait(lambda s: bool(s["problems"]))
    assert banned(status) == set()
    (problem,) = status["problems"]
    assert problem["place"] == "container web"
    assert "real addresses do not reach the container" in problem["what"]
    assert "userland-proxy" in problem["remedy"]
    assert bad.reaches(engine.address6, 8080)
    for _ in range(2):
        assert bad.get(f"http://{engine.address}:8080/").status == 401
    jailer.wait_banned(bad.address)


WAIT = """
import socket, time
while True:
    try:
        socket.create_connection(("127.0.0.1", 8000)).close()
        break
    except OSError:
        time.sleep(0.1)
"""


def test_what_bans_have_dropped_is_counted_and_outlives_the_daemon(engine, attacker, guarded):
    jailer = guarded(engine)
    bad = attacker(engine)

    def counted(status: Json) -> list[int]:
        places: list[Any] = [status["bans"][0], jail_named(status, "flask@web"), status["kernel"]]
        return [int(place["packets"] or 0) for place in places]

    fail(jailer, bad.address)
    jailer.wait_banned(bad.address)
    seen = [[0, 0, 0]]
    for _ in range(2):
        assert not bad.reaches(engine.address, 8080)
        last = seen[-1]
        status = jailer.wait(lambda s, last=last: all(map(int.__gt__, counted(s), last)))
        seen.append(counted(status))
        assert all(place["bytes"] > 40 for place in (status["bans"][0], status["kernel"]))
    jailer.stop()
    assert not bad.reaches(engine.address, 8080)
    jailer.ready()
    follows(jailer, "web")
    status = jailer.wait(lambda s: counted(s)[0] > seen[-1][0] and counted(s)[2] > seen[-1][2])
    assert f"{counted(status)[2]} packets" in ok(jailer, "status")
