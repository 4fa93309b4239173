"""
The main job with as few rights as possible, and without any other program.

Everything here bans an attacker by what a container logs, sees his packets dropped, and lets him
in again: with the image and one capability, as a user other than root, under a tracer, and with
the right to change the packet filter gone half-way.
"""

import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import images
from tests.lab.attacker import BLOCKED_AFTER, Attacker
from tests.lab.engine import Engine
from tests.lab.jailer import Jailer, Json, banned, failed_login, follows, say, serve

pytestmark = pytest.mark.e2e

PATIENCE = 40.0
SECRET = "correct-horse-battery-staple"
NET_ADMIN = 1 << 12
USER = 4711

LEAST = (
    *("--network", "host", "--read-only", "--security-opt", "no-new-privileges"),
    *("--cap-drop", "ALL", "--cap-add", "NET_ADMIN"),
    *("--tmpfs", "/run/dockerjail:mode=0700", "--pids-limit", "128"),
)
"""What docs/security.md tells to give it."""

AS_USER = (
    *("--network", "host", "--read-only", "--security-opt", "no-new-privileges"),
    *("--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--cap-add", "SETUID", "--cap-add", "SETGID"),
    *("--cap-add", "SETPCAP"),
    *("--tmpfs", f"/run/dockerjail:uid={USER},mode=0700"),
    *("--tmpfs", f"/var/lib/dockerjail:uid={USER},mode=0700"),
    *("--entrypoint", "setpriv"),
)
STEP_DOWN = (
    *(f"--reuid={USER}", f"--regid={USER}", "--inh-caps=-all,+net_admin"),
    *("--ambient-caps=-all,+net_admin", "--bounding-set=-all,+net_admin", "--no-new-privs"),
)


def until(happened: Callable[[], object], otherwise: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.1)


def runs(engine: Engine, container: str) -> bool:
    return bool(engine.api("GET", f"/containers/{container}/json")["State"]["Running"])


def as_user(user: int) -> tuple[str, ...]:
    # without the right to pass over modes, not even root may use another one's control socket
    return ("--user", str(user)) if user else ()


def ask(engine: Engine, container: str, *command: str, user: int = 0) -> Json:
    printed = engine.docker(
        "exec", *as_user(user), container, "dockerjail", *command, "--json", check=False
    )
    found: Json = json.loads(printed) if printed.startswith("{") else {}
    return found


def rights(engine: Engine, container: str) -> dict[str, str]:
    """Return what the kernel says of the daemon's process."""
    told = engine.docker("exec", container, "cat", "/proc/1/status")
    return dict(re.findall(r"^(\w+):\s+(.*)$", told, re.MULTILINE))


def does_the_main_job(engine: Engine, container: str, bad: Attacker, user: int = 0) -> None:
    """See an attacker banned by what `web` logs, and let in again."""

    def follows_it() -> bool:
        assert runs(engine, container), engine.logs(container)
        listed = ask(engine, container, "status", user=user).get("containers", ())
        return any(each["name"] == "web" and each["state"] == "following" for each in listed)

    until(follows_it, lambda: engine.logs(container))
    assert bad.reaches(engine.address, 8080)
    say(engine, "web", [failed_login(bad.address)] * 5)
    until(
        lambda: (
            [
                ban["address"]
                for ban in ask(engine, container, "bans", user=user).get("bans", ())
                if ban["packets"] is not None
            ]
            == [bad.address]
        ),
        lambda: engine.logs(container),
    )
    assert not bad.reaches(engine.address, 8080)
    assert ask(engine, container, "bans", user=user)["bans"][0]["packets"] > 0
    engine.docker("exec", *as_user(user), container, "dockerjail", "unban", bad.address)
    assert bad.reaches(engine.address, 8080, timeout=10 * BLOCKED_AFTER)


def test_one_capability_and_no_place_to_write_are_enough(
    engine: Engine, attacker: Callable[[Engine], Attacker]
) -> None:
    serve(engine, "web")
    container = engine.run(
        images.dockerjail(engine),
        options=[*LEAST, "--volume", f"{engine.socket}:/var/run/docker.sock:ro"],
    )
    does_the_main_job(engine, container, attacker(engine))
    found = rights(engine, container)
    for which in ("CapEff", "CapPrm", "CapBnd"):
        assert int(found[which], 16) == NET_ADMIN
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    # all that changed below / are the places for mounts
    changed = engine.docker("diff", container).splitlines()
    assert {line.split()[1].split("/")[1] for line in changed} <= {"run", "var", "etc"}
    assert ask(engine, container, "status")["problems"] == []


def test_a_user_other_than_root_who_may_only_change_the_packet_filter_is_enough(
    engine: Engine, attacker: Callable[[Engine], Attacker]
) -> None:
    serve(engine, "web")
    group = engine.socket.stat().st_gid
    container = engine.run(
        images.dockerjail(engine),
        *STEP_DOWN,
        f"--groups={group}",
        *("dockerjail", "run"),
        options=[*AS_USER, "--volume", f"{engine.socket}:/var/run/docker.sock:ro"],
    )
    does_the_main_job(engine, container, attacker(engine), USER)
    found = rights(engine, container)
    assert set(found["Uid"].split()) == {str(USER)}
    for which in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(found[which], 16) == NET_ADMIN


def test_without_the_capability_it_says_so_and_ends(engine: Engine) -> None:
    options = [option for option in LEAST if option not in ("--cap-add", "NET_ADMIN")]
    container = engine.run(
        images.dockerjail(engine),
        options=[*options, "--volume", f"{engine.socket}:/var/run/docker.sock:ro"],
    )
    until(
        lambda: not runs(engine, container),
        lambda: engine.logs(container),
    )
    assert engine.api("GET", f"/containers/{container}/json")["State"]["ExitCode"] == 1
    assert "CAP_NET_ADMIN is missing" in engine.logs(container)
    assert "Traceback" not in engine.logs(container)


@pytest.fixture(autouse=True)
def _no_table_is_left(engine: Engine) -> Iterator[None]:
    """Take away what a daemon in a container has left in the Engine's network."""
    yield
    engine.remove_containers()
    engine.space.run("nft", "delete", "table", "inet", "dockerjail", check=False)


@pytest.fixture
def traced(engine: Engine, jailer_for: Callable[..., Jailer], tmp_path: Path) -> Iterator[Jailer]:
    """Make a daemon of which every new program and process is written down in `trace`."""
    strace = shutil.which("strace")
    assert strace, "strace is not installed; run: python3 -m tests.lab.machine install"
    jailer = jailer_for(engine, '[defaults]\nignoreip = ["localhost"]\n')
    calls = "trace=execve,execveat,fork,vfork,clone,clone3"
    jailer.within = (
        strace,
        "-D",
        "-f",
        "-q",
        "-e",
        calls,
        "-e",
        "signal=none",
        "-o",
        str(jailer.root / "trace"),
    )
    return jailer


def test_no_other_program_is_started_through_a_whole_main_job(
    engine: Engine, traced: Jailer, attacker: Callable[[Engine], Attacker]
) -> None:
    serve(engine, "web")
    jailer, bad = traced.ready(), attacker(engine)
    follows(jailer, "web")
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    assert not bad.reaches(engine.address, 8080)
    engine.docker("restart", "--time", "0", "web")
    follows(jailer, "web")
    engine.space.run("nft", "flush", "chain", "inet", "dockerjail", "raw_prerouting")
    jailer.wait(lambda status: status["kernel"]["healed"] == 1 and status["kernel"]["in_sync"])
    assert jailer.cli("unban", bad.address).returncode == 0
    assert jailer.cli("allow", "add", "localhost", "--for", "1h").returncode == 0
    assert jailer.cli("ban", "203.0.113.7", "--for", "1h").returncode == 0
    assert jailer.stop() == 0
    # the tracer ends a moment after whom it traced
    until(lambda: "+++ exited with 0" in trace(jailer), lambda: trace(jailer))
    calls = re.findall(r"^\d+ +(\w+)\((.*)", trace(jailer), re.MULTILINE)
    programs = [what for call, what in calls if call.startswith("execve")]
    assert len(programs) == 1, programs
    made = [what for call, what in calls if not call.startswith("execve")]
    assert made, "not even a thread was seen"
    assert all("CLONE_THREAD" in what for what in made), made


def trace(jailer: Jailer) -> str:
    return (jailer.root / "trace").read_text()


def test_secrets_of_containers_are_in_no_log_no_status_and_no_file(
    engine: Engine, jailer_for: Callable[..., Jailer], attacker: Callable[[Engine], Attacker]
) -> None:
    secret = ("--env", f"API_KEY={SECRET}", "--label", f"traefik.basicauth=admin:{SECRET}")
    serve(engine, "web", *secret)
    serve(engine, "bad", *secret, port=None, failregex="no address in here")
    jailer, bad = jailer_for(engine, DOCKERJAIL_LOG__LEVEL="debug").ready(), attacker(engine)
    say(engine, "web", [failed_login(bad.address)] * 5)
    jailer.wait_banned(bad.address)
    assert len(jailer.status()["problems"]) == 1
    for command in (["status"], ["status", "flask"], ["bans"], ["check"]):
        assert SECRET not in jailer.cli(*command, "--json").stdout
    assert jailer.stop() == 0
    assert SECRET not in jailer.log
    for file in jailer.database.parent.iterdir():
        assert SECRET.encode() not in file.read_bytes()


def sockets(jailer: Jailer, kind: str) -> set[str]:
    """Return the inodes of the daemon's sockets of one kind, as /proc/net lists them."""
    links = [str(each.readlink()) for each in Path(f"/proc/{jailer.pid}/fd").iterdir()]
    own = {found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}
    listed = jailer.space.run("cat", f"/proc/net/{kind}").stdout
    return {word for line in listed.splitlines() for word in line.split()} & own


def test_no_port_is_listened_at(engine: Engine, jailer_for: Callable[..., Jailer]) -> None:
    jailer = jailer_for(engine).ready()
    assert sockets(jailer, "unix")
    for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"):
        assert not sockets(jailer, kind), kind


LOSING = """
import runpy, signal, sys
from tests.lab.privilege import drop, take
signal.signal(signal.SIGUSR1, lambda *_: drop())
signal.signal(signal.SIGUSR2, lambda *_: take())
sys.argv = sys.argv[3:]
runpy.run_module("dockerjail", run_name="__main__", alter_sys=True)
"""


def test_a_right_that_is_lost_half_way_is_told_and_its_bans_follow_when_it_is_back(
    engine: Engine, jailer_for: Callable[..., Jailer], attacker: Callable[[Engine], Attacker]
) -> None:
    serve(engine, "web")
    first, second = attacker(engine), attacker(engine)
    jailer = jailer_for(engine)
    jailer.within = (sys.executable, "-c", LOSING)
    jailer.ready()
    follows(jailer, "web")
    say(engine, "web", [failed_login(first.address)] * 5)
    jailer.wait_banned(first.address)

    jailer.send(signal.SIGUSR1)
    say(engine, "web", [failed_login(second.address)] * 5)
    status = jailer.wait(lambda status: banned(status) == {first.address, second.address})
    assert not status["ok"]
    (problem,) = status["problems"]
    assert problem["place"] == "kernel"
    assert "CAP_NET_ADMIN is missing" in problem["what"]
    assert jailer.cli("status").returncode == 4
    # who was banned before stays out, who is banned since is remembered
    assert not first.reaches(engine.address, 8080)
    assert second.reaches(engine.address, 8080)

    jailer.send(signal.SIGUSR2)
    jailer.wait(lambda status: status["ok"])
    assert not first.reaches(engine.address, 8080)
    assert not second.reaches(engine.address, 8080)
    assert jailer.log.count("the kernel is not in sync") <= 2
