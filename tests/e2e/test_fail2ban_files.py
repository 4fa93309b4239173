"""A user of fail2ban mounts what he has, puts labels on his containers, and it works."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import images
from tests.lab.engine import Engine
from tests.lab.fail2ban import Fail2banPackage
from tests.lab.jailer import SERVE, Jailer, banned, follows, say

pytestmark = pytest.mark.e2e

JAIL_LOCAL = """
[DEFAULT]
bantime  = 2h
findtime = 10m
maxretry = 4
ignoreip = 127.0.0.1/8 198.51.100.250
destemail = root@example.com
action = %(action_mwl)s

[sshd]
enabled = true
mode = aggressive
logpath = /var/log/auth.log

[shop]
enabled = true
filter = shop[level=WARNING]
port = 9443
maxretry = 3
logpath = /var/lib/docker/containers/*/*-json.log

[shop-again]
enabled = true
filter = shop[level="ERROR"]
port = 8080
maxretry = 1
banaction = iptables-multiport[blocktype="REJECT --reject-with icmp-port-unreachable"]

[everything]
enabled = true
filter = shop[level=FATAL]
maxretry = 1
banaction = %(banaction_allports)s

[broken]
enabled = true
filter =
failregex = ^no (address <HOST>

[away]
enabled = false
filter = shop
"""
SHOP = r"""
[INCLUDES]
before = common.conf

[Definition]
_daemon = shop
failregex = ^%(__prefix_line)s<level> login of <F-USER>.*</F-USER> failed, client <ADDR>$
ignoreregex = login of healthcheck

[Init]
level = INFO
"""
SSH = "Failed password for invalid user x from 203.0.113.9 port 1 from {} port 40000 ssh2"


@pytest.fixture
def theirs(fail2ban: Fail2banPackage, tmp_path: Path) -> Path:
    """A user's /etc/fail2ban: Debian's files, and his own beside them."""
    etc = tmp_path / "fail2ban"
    shutil.copytree(fail2ban.etc, etc)
    (etc / "jail.local").write_text(JAIL_LOCAL)
    (etc / "filter.d" / "shop.conf").write_text(SHOP)
    return etc


@pytest.fixture
def borrowing(theirs: Path, jailer_for: Callable[..., Jailer]) -> Callable[..., Jailer]:
    def make(engine: Engine, settings: str = "") -> Jailer:
        return jailer_for(engine, f'[fail2ban]\npath = "{theirs}"\n{settings}').ready()

    return make


def start(engine: Engine, name: str, *jails: str, port: int = 8080) -> None:
    labels = ["--label", "dockerjail.enable=true", "--label", f"dockerjail.jails={','.join(jails)}"]
    engine.run(
        images.busybox(engine),
        *SERVE,
        options=["--name", name, "-p", f"{port}:8000", *(labels if jails else [])],
    )


def test_a_jail_of_jail_local_bans_by_its_own_numbers(engine, attacker, borrowing):
    start(engine, "web", "shop")
    jailer = borrowing(engine)
    follows(jailer, "web")
    bad = attacker(engine)
    line = f"2026-11-22 10:00:00 WARNING login of bob failed, client {bad.address}"
    say(engine, "web", [line] * 2 + [line.replace("bob", "healthcheck")])
    jailer.wait(lambda s: s["jails"][0]["failures"] == 2)
    say(engine, "web", [line])
    status = jailer.wait_banned(bad.address)
    (ban,) = status["bans"]
    assert ban["jail"] == "shop@web"
    assert 7100 < ban["left"] <= 7200
    # what its file names, and what the container publishes
    assert ban["scope"]["ports"] == ["8080/tcp", "9443/tcp"]
    assert not bad.reaches(engine.address, 8080)
    assert status["ok"]


def test_stock_sshd_reads_what_sshd_prints_in_a_container(engine, attacker, borrowing):
    start(engine, "ssh", "sshd", port=2222)
    jailer = borrowing(engine)
    follows(jailer, "ssh")
    bad = attacker(engine)
    say(engine, "ssh", [SSH.format(bad.address)] * 4, stream=2)
    status = jailer.wait_banned(bad.address)
    assert status["bans"][0]["scope"]["ports"] == ["22/tcp", "2222/tcp"]
    assert not bad.reaches(engine.address, 2222)


def test_a_jail_for_all_ports_keeps_out_of_everything(engine, attacker, borrowing):
    start(engine, "web", "everything")
    start(engine, "other", port=9090)
    jailer = borrowing(engine)
    follows(jailer, "web")
    bad = attacker(engine)
    say(engine, "web", [f"FATAL login of bob failed, client {bad.address}"])
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)
    assert not bad.reaches(engine.address, 9090)


def test_a_blocktype_that_the_user_chose_is_what_the_kernel_does(engine, attacker, borrowing):
    start(engine, "web", "shop-again")
    jailer = borrowing(engine)
    follows(jailer, "web")
    bad = attacker(engine)
    say(engine, "web", [f"ERROR login of bob failed, client {bad.address}"])
    jailer.wait_banned(bad.address)
    with pytest.raises(ConnectionRefusedError):
        bad.get(f"http://{engine.address}:8080/")


def test_the_daemons_file_gives_a_jail_to_containers_without_labels(engine, attacker, borrowing):
    start(engine, "shop-1")
    jailer = borrowing(engine, '[containers."shop-*"]\njails = ["shop"]\n')
    follows(jailer, "shop-1")
    bad = attacker(engine)
    say(engine, "shop-1", [f"WARNING login of bob failed, client {bad.address}"] * 3)
    jailer.wait_banned(bad.address)


def test_ignoreip_of_jail_local_is_never_banned(engine, attacker, borrowing):
    start(engine, "web", "shop")
    jailer = borrowing(engine)
    follows(jailer, "web")
    bad = attacker(engine)
    lines = [f"WARNING login of bob failed, client {a}" for a in ("198.51.100.250", bad.address)]
    say(engine, "web", lines * 3)
    jailer.wait_banned(bad.address)


def test_one_bad_jail_is_left_out_with_its_line_and_the_others_run(engine, attacker, borrowing):
    start(engine, "web", "shop", "broken", "away")
    jailer = borrowing(engine)
    follows(jailer, "web")
    problems = {p["what"] + p["place"] for p in jailer.status()["problems"]}
    assert len(problems) == 2
    (broken,) = [problem for problem in problems if "'^no (address <HOST>'" in problem]
    assert "jail.local line " in broken
    assert "[broken]" in broken
    (away,) = [problem for problem in problems if "disabled" in problem]
    assert "jail.local line " in away
    bad = attacker(engine)
    say(engine, "web", [f"WARNING login of bob failed, client {bad.address}"] * 3)
    jailer.wait_banned(bad.address)


def test_check_lists_what_is_not_taken_over(engine, borrowing):
    start(engine, "web", "shop")
    jailer = borrowing(engine)
    follows(jailer, "web")
    check = jailer.cli("check")
    assert check.returncode == 0, check.stdout
    text = " ".join(check.stdout.split())
    assert "jails of fail2ban's files can be named by labels" in text
    assert "[shop] logpath" in text
    assert "is not needed" in text
    assert text.count("sendmail-whois-lines") == 1
    assert "no container names them: broken, everything, shop-again, sshd" in text


def test_check_says_what_nobody_has_asked_for(engine, borrowing):
    start(engine, "web", "shop", "api")
    start(engine, "spare", "shop", port=8081)
    settings = '[containers."wbe*"]\njails = ["shop"]\n[jails.api]\naddress = "ip"\n'
    jailer = borrowing(engine, settings)
    follows(jailer, "web", "spare")
    check = jailer.cli("check")
    assert check.returncode == 4
    text = " ".join(check.stdout.split())
    assert '[containers."wbe*"]: no container there is now has such a name' in text
    assert "jail api: every line that has an address counts as a failure" in text
    # what holds for all jails is said once, however many containers run one
    assert text.count("sendmail-whois-lines") == 1


def test_structured_lines_ban_whom_their_fields_name(engine, attacker, jailer_for):
    settings = """
[jails.api]
where = {event = "login_failed", status = [401, 403]}
address = ["request.headers.X-Forwarded-For", "request.remote_addr"]
trusted_proxies = ["10.0.0.0/8"]
maxretry = 2
"""
    start(engine, "api", "api")
    jailer = jailer_for(engine, settings).ready()
    follows(jailer, "api")
    bad, good = attacker(engine), attacker(engine)
    line = (
        '{"level":"warn","event":"login_failed","status":401,"user":"%s","request":'
        '{"remote_addr":"10.0.0.2:5555","headers":{"X-Forwarded-For":["%s, %s"]}}}'
    )
    forged = line % (good.address, good.address, bad.address)
    say(engine, "api", [forged, '{"event":"login_failed",', forged])
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)
    assert good.reaches(engine.address, 8080)
    assert banned(jailer.status()) == {bad.address}
