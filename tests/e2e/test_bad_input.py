"""What is wrong is said once, with its place and its remedy; whatever is healthy runs on."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from tests.lab import images, netns
from tests.lab.jailer import REGEX, banned, failed_login, follows, labels, say, serve

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("[docker\nhost = 1\n", ["dockerjail.toml", "line 1"]),
        ("[dokcer]\n", ["dokcer", "docker"]),
        ("[defaults]\nmaxretries = 5\n", ["maxretries", "maxretry", "line 2"]),
        ("[defaults]\nmaxretry = 'five'\n", ["maxretry", "'five'", "whole number"]),
        ("[defaults]\nfindtime = '3 fortnights'\n", ["findtime", "3 fortnights", "10m"]),
        ("[docker]\nlabels = 'all'\n", ["labels", "'all'", "define"]),
    ],
)
def test_a_wrong_setting_for_all_stops_the_start(settings, said, engine, jailer_for):
    jailer = jailer_for(engine, settings).start()
    assert jailer.ended() == 1
    for word in (str(jailer.config), *said):
        assert word in jailer.log
    assert "Traceback" not in jailer.log
    check = jailer.cli("check")
    assert check.returncode == 1
    for word in said:
        assert word in check.stdout


def test_several_mistakes_are_told_at_once(engine, jailer_for):
    jailer = jailer_for(engine, "[defaults]\nmaxretry = 0\nfindtime = 'x'\n").start()
    assert jailer.ended() == 1
    assert "maxretry" in jailer.log
    assert "findtime" in jailer.log


def test_a_wrong_jail_is_left_out_and_the_others_run(engine, attacker, jailer_for):
    settings = f"""
[jails.good]
failregex = ['{REGEX}']
[jails.nohost]
failregex = ['failed login']
[jails.broken]
failregex = ['failed ( login <HOST>']
[jails.number]
failregex = ['x <HOST>']
maxretry = 'five'
"""
    serve(engine, "web")
    jailer = jailer_for(engine, settings).ready()
    follows(jailer, "web")
    status = jailer.status()
    assert not status["ok"]
    told = {p["place"].split("[jails.")[-1].split("]")[0]: p for p in status["problems"]}
    assert told.keys() == {"nohost", "broken", "number"}
    assert "<HOST>" in str(told["nohost"])
    assert "'five'" in told["number"]["what"]
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    check = jailer.cli("check")
    assert check.returncode == 4
    assert "nohost" in check.stdout


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("jail.flask.maxretry=five", ["maxretry", "'five'", "whole number"]),
        ("jail.flask.maxretrys=5", ["maxretrys", "maxretry"]),
        ("jail.flask.failregex=failed login", ["failregex", "<HOST>"]),
        ("jail.flask.failregex=fail( <HOST>", ["failregex"]),
        ("jail.flask.bantime=soon", ["bantime", "'soon'"]),
        ("jail.flask.ports=80-", ["ports", "80-"]),
        ("jail.flask.ignoreip=10.0.0.1", ["ignoreip"]),
        ("jails=no-such-jail", ["no-such-jail"]),
        ("enabled=true", ["enabled", "enable"]),
        ("jail.flask.filter=no-such-filter", ["no-such-filter"]),
        ("jail.flask.stream=stdin", ["stream", "'stdin'"]),
    ],
)
def test_a_wrong_label_is_named_and_another_container_runs_on(
    label, said, engine, attacker, jailer_for
):
    engine.run(
        images.busybox(engine),
        *("sleep", "1000"),
        options=["--name", "broken", *labels(), "--label", f"dockerjail.{label}"],
    )
    serve(engine, "web")
    jailer = jailer_for(engine).ready()
    status = jailer.wait(
        lambda s: any(c["name"] == "web" and c["state"] == "following" for c in s["containers"])
    )
    unprotected = [c["name"] for c in status["containers"] if c["state"] == "unprotected"]
    assert unprotected in ([], ["broken"])
    found = [
        p for p in status["problems"] if "broken" in p["place"] and "cannot ban" not in p["what"]
    ]
    assert found, status["problems"]
    text = " ".join(map(str, found))
    for word in said:
        assert word in text
    assert jailer.log.count(found[0]["what"]) == 1
    checked = jailer.cli("check").stdout
    for word in said:
        assert word in checked
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)


def test_an_engine_that_is_not_there_is_waited_for_and_told_once(engine, attacker, jailer_for):
    serve(engine, "web", "--restart", "always")
    engine.stop()
    jailer = jailer_for(engine).start()
    status = jailer.wait(lambda s: bool(s["engine"]["error"]))
    assert not status["ok"]
    assert status["problems"][0]["place"] == "Docker Engine"
    assert str(engine.socket) in status["problems"][0]["what"]
    time.sleep(2)
    assert jailer.log.count("trying again until it works") == 1
    assert jailer.cli("status").returncode == 4
    engine.start()
    follows(jailer, "web")
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)


def test_a_database_that_is_none_stops_the_start(engine, jailer_for):
    jailer = jailer_for(engine)
    jailer.database.parent.mkdir()
    jailer.database.write_text(
        "this is not a database, but it is long enough to be looked at\n" * 9
    )
    jailer.start()
    assert jailer.ended() == 1
    assert str(jailer.database) in jailer.log
    assert "is not a SQLite database" in jailer.log
    assert "Traceback" not in jailer.log


def test_a_second_daemon_on_the_same_state_is_refused(engine, tmp_path, jailer_for):
    jailer_for(engine).ready()
    first = tmp_path / "0" / "state" / "dockerjail.sqlite3"
    settings = "[firewall]\ntable = 'dockerjail2'\n"
    second = jailer_for(engine, settings, DOCKERJAIL_STORE__PATH=str(first)).start()
    assert second.ended() == 1
    assert str(first) in second.log
    assert "Traceback" not in second.log


def test_two_daemons_do_not_share_a_table(engine, jailer_for):
    jailer_for(engine).ready()
    second = jailer_for(engine).start()
    assert second.ended() == 1
    assert "belongs to another dockerjail" in second.log
    assert "[firewall] table" in second.log
    third = jailer_for(engine, "[firewall]\ntable = 'dockerjail2'\n").ready()
    assert third.status()["ok"]
    third.kill()  # else it puts back what is deleted here
    engine.space.run("nft", "delete", "table", "inet", "dockerjail2")


def test_a_stranger_who_takes_the_tables_name_stops_nobody(engine, attacker, jailer_for):
    holder = (
        "import socket, time; s = socket.socket(socket.AF_UNIX); "
        "s.bind('\\0dockerjail/table/dockerjail'); s.listen(); print(1, flush=True); time.sleep(99)"
    )
    command = ("setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", holder)
    stranger = engine.space.popen(*command, stdout=subprocess.PIPE)
    try:
        assert stranger.stdout.readline() == b"1\n"
        jailer = jailer_for(engine).ready()
        assert "somebody else holds the name" in jailer.log
        assert jailer.status()["ok"]
    finally:
        stranger.kill()
        stranger.communicate()


def test_a_control_socket_that_cannot_be_made_stops_the_start(engine, tmp_path, jailer_for):
    (tmp_path / "file").write_text("")
    jailer = jailer_for(engine, DOCKERJAIL_CONTROL__SOCKET=str(tmp_path / "file" / "sock")).start()
    assert jailer.ended() == 1
    assert "control socket" in jailer.log
    assert "Traceback" not in jailer.log


def test_without_net_admin_it_says_which_right_is_missing(engine, jailer_for):
    jailer = jailer_for(engine)
    command = [
        *("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"),
        *(sys.executable, "-m", "dockerjail", "run", "--config", str(jailer.config)),
    ]
    done = subprocess.run(
        engine.space.command(*command),
        env=jailer._environ(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "CAP_NET_ADMIN" in done.stdout
    assert "--cap-add NET_ADMIN" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_in_the_wrong_network_namespace_it_says_that_bans_have_no_effect(engine, jailer_for):
    serve(engine, "web")
    with netns.create_unique("djlab-elsewhere") as elsewhere:
        jailer = jailer_for(engine)
        jailer.space = elsewhere
        jailer.ready()
        status = jailer.wait(lambda s: not s["ok"] and bool(s["containers"]))
        (problem,) = status["problems"]
        assert problem["place"] == "network namespace"
        assert "no effect" in problem["what"]
        assert "network_mode: host" in problem["remedy"]
        jailer.wait(lambda _: "bans have no effect" in jailer.log)
        check = jailer.cli("check")
        assert check.returncode == 4
        assert "no effect" in check.stdout


def test_a_log_that_cannot_be_read_is_told_and_not_tried_for_ever(engine, attacker, jailer_for):
    serve(engine, "mute", "--log-driver", "none", port=8081)
    serve(engine, "web")
    jailer = jailer_for(engine).ready()
    status = jailer.wait(
        lambda s: {c["state"] for c in s["containers"]} == {"following", "unreadable"}
    )
    (problem,) = status["problems"]
    assert problem["place"] == "container mute"
    assert "logging driver is none" in problem["what"]
    assert "json-file" in problem["remedy"]
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)


def test_a_lossy_log_is_followed_with_a_warning(engine, attacker, jailer_for):
    serve(engine, "web", "--log-opt", "mode=non-blocking")
    jailer = jailer_for(engine).ready()
    status = follows(jailer, "web")
    assert any("non-blocking" in p["what"] for p in status["problems"])
    bad = attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["ban", "not-an-address"], 1, "is not an address"),
        (["ban", "203.0.113.7", "--for", "soon"], 1, "'soon'"),
        (["ban", "203.0.113.7", "--ports", "80-"], 1, "80-"),
        (["ban"], 2, "ADDRESS"),
        (["unban", "203.0.113.99"], 1, "is not banned"),
        (["ban", "203.0.113.7", "--jail", "no-such-jail"], 1, "no jail no-such-jail"),
        (["ban", "2001:db8::7%eth0"], 1, "is not an address"),
        (["allow", "add", "the office"], 1, "or a host's name"),
        (["allow", "add", "file:/etc/friends"], 1, "ignoreip"),
        (["status", "no-such-jail"], 1, "no jail no-such-jail"),
        (["stauts"], 2, "stauts"),
        (["run", "--config", "/no/such/file.toml"], 1, "/no/such/file.toml"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(arguments, code, said, engine, jailer_for):
    jailer = jailer_for(engine).ready()
    done = jailer.cli(*arguments)
    assert done.returncode == code
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert banned(jailer.status()) == set()


def test_a_ban_by_hand_for_the_jail_that_counts_bans_says_what_to_do_instead(engine, jailer_for):
    jailer = jailer_for(engine, "[jails.recidive]\n").ready()
    done = jailer.cli("ban", "203.0.113.7", "--jail", "recidive")
    assert done.returncode == 1
    assert "leave the jail out" in done.stderr
    assert banned(jailer.status()) == set()


def test_check_names_files_and_names_of_ignoreip_that_are_not_there(engine, tmp_path, jailer_for):
    friends = tmp_path / "friends"
    friends.write_text("192.0.2.7 192.0.2.0/33\n")
    settings = f"""
[defaults]
ignoreip = ["file:{friends}", "localhost"]
[jails.login]
failregex = 'failed <HOST>$'
ignoreip = ["file:{tmp_path}/gone", "no-such-host.invalid"]
"""
    jailer = jailer_for(engine, settings)
    check = jailer.cli("check")
    assert check.stderr == ""
    said = check.stdout
    assert f"{friends}:1: '192.0.2.0/33' is neither" in said
    assert f"{tmp_path}/gone: cannot be read" in said
    assert "no-such-host.invalid does not resolve" in said
    assert "localhost" not in said


def test_check_does_not_promise_what_a_dry_run_will_not_do(engine, jailer_for):
    serve(engine, "web", mode="observe")
    jailer = jailer_for(engine)
    assert "jail flask only observes, and would keep out of 8080/tcp" in jailer.cli("check").stdout
    engine.remove_containers()
    serve(engine, "web")
    assert "jail flask keeps out of 8080/tcp" in jailer.cli("check").stdout
    jailer.config.write_text('[firewall]\nmode = "observe"\n[jails.recidive]\n')
    said = jailer.cli("check").stdout
    assert "would keep out of 8080/tcp" in said
    assert "would ban" in said


def test_help_and_version_need_nothing(tmp_path):
    for arguments in (["--help"], ["version"], ["status", "--help"], ["run", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "dockerjail", *arguments],
            capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": shutil.os.getcwd()},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_json_is_json_everywhere(engine, jailer_for):
    jailer = jailer_for(engine).ready()
    for arguments in (
        ["status"],
        ["bans"],
        ["check"],
        ["version"],
        ["ban", "203.0.113.7"],
        ["status", "manual"],
        ["unban", "203.0.113.7"],
    ):
        done = jailer.cli(*arguments, "--json")
        assert json.loads(done.stdout) is not None
