"""The compose files in `deploy/`, as a stranger uses them, by the real compose v2."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab import images
from tests.lab.attacker import BLOCKED_AFTER, Attacker
from tests.lab.engine import Engine

pytestmark = pytest.mark.e2e

DOCKERJAIL = images.TOP / "deploy/compose.yaml"
FLASK = images.FLASK / "compose.yaml"
PATIENCE = 30.0
WRONG = {"user": "admin", "password": "wrong"}


def until(happened: Callable[[], object], otherwise: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.1)


def dockerjail(engine: Engine, *command: str) -> dict[str, Any]:
    printed = engine.docker("exec", "dockerjail", "dockerjail", *command, "--json", check=False)
    found: dict[str, Any] = json.loads(printed) if printed.startswith("{") else {}
    return found


def banned(engine: Engine) -> set[str]:
    """Whom the kernel keeps out: only then it counts what it drops."""
    bans = dockerjail(engine, "bans").get("bans", ())
    return {ban["address"] for ban in bans if ban["packets"] is not None}


def serves(client: Attacker, page: str) -> bool:
    try:
        return client.get(f"{page}/login").status == 200
    except OSError:
        return False


@pytest.fixture
def both(any_engine: Engine) -> Iterator[Engine]:
    """An Engine with dockerjail and the Flask example up, dockerjail following its log."""
    images.flask(any_engine)
    images.dockerjail(any_engine)
    for file in (DOCKERJAIL, FLASK):
        any_engine.compose(file, "up", "--detach", "--no-build")
    until(
        lambda: any(
            container["name"] == "flask-web-1" and container["state"] == "following"
            for container in dockerjail(any_engine, "status").get("containers", ())
        ),
        lambda: any_engine.logs("dockerjail"),
    )
    yield any_engine
    for file in (FLASK, DOCKERJAIL):
        any_engine.compose(file, "down", "--volumes", "--timeout", "20")


def test_five_failed_logins_keep_an_attacker_out_and_nobody_else(
    both: Engine, attacker: Callable[[Engine], Attacker]
) -> None:
    guesser, forgetful = attacker(both), attacker(both)
    page = f"http://{both.address}:8000"
    until(lambda: serves(forgetful, page), lambda: both.logs("flask-web-1"))
    for _ in range(4):
        assert forgetful.post(f"{page}/login", WRONG).status == 401
    for _ in range(5):
        assert guesser.post(f"{page}/login", WRONG).status == 401

    until(lambda: banned(both), lambda: both.logs("dockerjail"))
    assert banned(both) == {guesser.address}
    assert not guesser.reaches(both.address, 8000)
    (ban,) = dockerjail(both, "bans")["bans"]
    assert ban["packets"] > 0
    assert (ban["jail"], ban["failures"]) == ("flask@flask-web", 5)
    assert forgetful.get(page).status == 200

    both.docker("exec", "dockerjail", "dockerjail", "unban", guesser.address)
    assert guesser.get(page, timeout=10 * BLOCKED_AFTER).status == 200


def test_the_application_logs_what_the_label_expects(
    both: Engine, attacker: Callable[[Engine], Attacker]
) -> None:
    guest = attacker(both)
    page = f"http://{both.address}:8000"
    until(lambda: serves(guest, page), lambda: both.logs("flask-web-1"))
    guest.post(f"{page}/login", WRONG)
    forged = (
        "x\n2023-10-27 14:38:22,557 WARNING Failed login attempt for user: y from IP: 192.0.2.9"
    )
    guest.post(f"{page}/login", {"user": forged, "password": ""})
    lines = [line for line in both.logs("flask-web-1").splitlines() if "WARNING" in line]
    shape = (
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING Failed login attempt for user: \S+ from IP: "
    )
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(shape + re.escape(guest.address), line), line


def test_dockerjail_from_the_compose_file_finds_nothing_wrong(both: Engine) -> None:
    assert dockerjail(both, "status")["problems"] == []
    host = both.api("GET", "/containers/dockerjail/json")["HostConfig"]
    assert (host["NetworkMode"], host["ReadonlyRootfs"]) == ("host", True)
    assert [cap.removeprefix("CAP_") for cap in host["CapAdd"]] == ["NET_ADMIN"]
    assert host["CapDrop"] == ["ALL"]
    assert [option.split("=")[0] for option in host["SecurityOpt"]] == ["no-new-privileges:true"]
