"""`dockerjail regex --container`: a running container's own log, read as the daemon reads it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import images
from tests.lab.engine import Engine
from tests.lab.jailer import REGEX, Jailer

pytestmark = pytest.mark.engine

FAILED = "WARNING Failed login attempt for user: admin from IP: 203.0.113.7"
PRINT = (
    f"for n in 1 2 3; do echo '{FAILED}'; done; echo '# just a line'; "
    "echo 'WARNING Failed login attempt for user: x from IP: 198.51.100.1' >&2; "
    "exec sleep 100000"
)


@pytest.fixture
def tool(any_engine: Engine, tmp_path: Path) -> Iterator[Jailer]:
    """The command line beside an Engine, without a daemon."""
    settings = "[fail2ban]\nenabled = false\n[defaults]\nmaxretry = 3\n"
    with Jailer(any_engine, tmp_path, settings) as jailer:
        yield jailer


def serve(engine: Engine, name: str, *options: str, lines: int) -> None:
    engine.run(images.busybox(engine), "sh", "-c", PRINT, options=("--name", name, *options))
    until = time.monotonic() + 30
    while len(engine.logs(name).splitlines()) < lines:
        assert time.monotonic() < until, engine.logs(name)
        time.sleep(0.1)


def report(tool: Jailer, *words: str) -> Any:
    done = tool.cli("regex", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_both_streams_of_a_container_are_read_with_the_engines_times(tool: Jailer) -> None:
    serve(tool.engine, "rx-web", lines=5)
    found = report(tool, "--container", "rx-web", REGEX, "-v")
    assert (found["lines"], found["matched"], found["missed"]) == (5, 4, 1)
    assert found["missed_lines"] == [{"line": "# just a line", "why": ""}]
    banned = {each["address"]: each["bans"] for each in found["forecast"]["addresses"]}
    (ban,) = banned["203.0.113.7"]
    assert banned["198.51.100.1"] == []
    assert found["matched_lines"][2]["at"] == ban["at"]


def test_a_terminals_log_is_read_as_well(tool: Jailer) -> None:
    serve(tool.engine, "rx-tty", "--tty", lines=5)
    found = report(tool, "--container", "rx-tty", REGEX + "$")
    assert found["matched"] == 4


def test_only_the_end_of_a_log_is_read_if_that_is_wanted(tool: Jailer) -> None:
    serve(tool.engine, "rx-tail", "--tty", lines=5)
    assert report(tool, "--container", "rx-tail", "--tail", "2", REGEX)["lines"] == 2
    assert report(tool, "--container", "rx-tail", "--since", "1h", REGEX)["lines"] == 5


def test_a_jail_of_the_containers_own_labels_is_known(tool: Jailer) -> None:
    labels = {
        "dockerjail.enable": "true",
        "dockerjail.jail.login.failregex": REGEX,
        "dockerjail.jail.login.maxretry": "2",
        "dockerjail.jail.login.stream": "stderr",
    }
    options = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    serve(tool.engine, "rx-own", *options, lines=5)
    found = report(tool, "--container", "rx-own", "login")
    assert found["filter"] == "jail login of the container"
    assert found["forecast"]["maxretry"] == 2
    assert (found["lines"], found["matched"], found["unread"]) == (1, 1, 4)


def test_a_container_that_is_not_there_is_an_error_that_says_so(tool: Jailer) -> None:
    done = tool.cli("regex", "--container", "rx-nobody", REGEX)
    assert done.returncode == 1
    assert "there is no container 'rx-nobody'" in done.stderr


def test_check_shows_a_regex_that_accuses_the_wrong_one(tool: Jailer) -> None:
    label = "dockerjail.jail.login.failregex=user .*? from <HOST>"
    serve(tool.engine, "rx-fooled", "--label", "dockerjail.enable=true", "--label", label, lines=5)
    found = json.loads(tool.cli("check", "--json").stdout)["findings"]
    (finding,) = [each for each in found if each["line"]]
    assert finding["place"] == "container rx-fooled, jail login"
    assert not finding["ok"]
    assert "198.51.100.1" in finding["line"]
    assert finding["remedy"] == "write user .* from <HOST>"
