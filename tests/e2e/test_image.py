"""The image: built by both builders, and run with exactly the rights that the README names."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dockerjail import __version__
from tests.lab import images
from tests.lab.engine import Engine, EngineFailed

pytestmark = pytest.mark.e2e

RIGHTS = (
    *("--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--read-only"),
    *("--security-opt", "no-new-privileges", "--network", "host"),
)
PATIENCE = 30.0


def until(happened: Callable[[], object], otherwise: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.1)


def runs(engine: Engine, *options: str, socket: Path | None = None) -> str:
    """Start dockerjail from its image and wait until it answers."""
    container = engine.run(
        images.dockerjail(engine),
        options=[
            *RIGHTS,
            "--volume",
            f"{socket or engine.socket}:/var/run/docker.sock:ro",
            *options,
        ],
    )
    until(lambda: "ok" in status(engine, container), lambda: engine.logs(container))
    return container


def status(engine: Engine, container: str) -> dict[str, object]:
    printed = engine.docker("exec", container, "dockerjail", "status", "--json", check=False)
    found: dict[str, object] = json.loads(printed) if printed.startswith("{") else {}
    return found


def healthy(engine: Engine, container: str) -> bool:
    """Run the image's own health check."""
    test = engine.api("GET", f"/containers/{container}/json")["Config"]["Healthcheck"]["Test"]
    assert test[0] == "CMD-SHELL"
    script = f"({test[1]}); echo code $?"
    *_, code = engine.docker("exec", container, "sh", "-c", script).splitlines()
    assert code in ("code 0", "code 1")  # Docker reserves the others
    return code == "code 0"


@pytest.mark.parametrize("buildkit", [False, True], ids=["classic", "buildkit"])
def test_the_image_builds_without_a_network(engine: Engine, tmp_path: Path, buildkit: bool) -> None:
    context = images.context(tmp_path / "context")
    options = images.offline(engine)
    engine.build(context, "built", *options, buildkit=buildkit)
    printed = engine.docker("run", "--rm", *RIGHTS, "built", "version")
    assert printed == f"dockerjail {__version__}"


def test_the_build_context_holds_only_what_the_image_is_made_of(
    engine: Engine, tmp_path: Path
) -> None:
    context = images.context(tmp_path / "context")
    (context / "Dockerfile").write_text(f"FROM {images.busybox(engine)}\nCOPY . /context\n")
    engine.build(context, "context")
    listed = engine.docker("run", "--rm", "context", "ls", "-A", "/context").split()
    assert set(listed) == {
        *("dockerjail", "migrations", "requirements", "wheels"),
        *("pyproject.toml", "README.md", "LICENSE"),
    }


def test_it_runs_with_one_capability_and_a_read_only_root(engine: Engine) -> None:
    container = runs(engine)
    found = status(engine, container)
    assert found["problems"] == []
    assert healthy(engine, container)
    with pytest.raises(EngineFailed, match="Read-only file system"):
        engine.docker("exec", container, "touch", "/opt/dockerjail/x")


def test_it_runs_with_a_tmpfs_for_its_socket(engine: Engine) -> None:
    container = runs(engine, "--tmpfs", "/run/dockerjail:mode=0700")
    assert status(engine, container)["ok"]


def test_it_stops_when_docker_asks_it_to(engine: Engine) -> None:
    container = runs(engine)
    engine.docker("stop", "--time", "25", container)
    state = engine.api("GET", f"/containers/{container}/json")["State"]
    assert (state["Running"], state["ExitCode"]) == (False, 0)


def test_state_survives_a_new_container_on_the_same_volume(engine: Engine) -> None:
    options = ("--volume", "state:/var/lib/dockerjail")
    container = runs(engine, *options)
    engine.docker("exec", container, "dockerjail", "ban", "203.0.113.7", "--for", "1h")
    engine.docker("rm", "--force", container)
    container = runs(engine, *options)
    bans = json.loads(engine.docker("exec", container, "dockerjail", "bans", "--json"))["bans"]
    assert [ban["address"] for ban in bans] == ["203.0.113.7"]


def test_degraded_is_not_unhealthy(engine: Engine, tmp_path: Path) -> None:
    nobody = tmp_path / "docker.sock"
    nobody.touch()
    container = runs(engine, socket=nobody)
    assert not status(engine, container)["ok"]
    assert healthy(engine, container)


def test_a_daemon_that_does_not_answer_is_unhealthy(engine: Engine) -> None:
    container = engine.run(
        images.dockerjail(engine), "1000", options=[*RIGHTS, "--entrypoint", "sleep"]
    )
    assert not healthy(engine, container)


def test_it_searches_with_the_fast_engine(engine: Engine) -> None:
    look = "from dockerjail.jail.hyperscan import Hyperscan; print(Hyperscan())"
    container = engine.run(
        images.dockerjail(engine), "1000", options=[*RIGHTS, "--entrypoint", "sleep"]
    )
    assert engine.docker("exec", container, "python3", "-c", look).startswith("hyperscan ")


def test_nothing_that_builds_is_left_in_the_image(engine: Engine) -> None:
    look = "command -v gcc cc make; ls /build; ls /opt/dockerjail/bin"
    printed = engine.docker(
        *("run", "--rm", "--entrypoint", "sh", images.dockerjail(engine), "-c", look), check=False
    )
    assert "dockerjail" in printed
    assert not {"gcc", "cc", "make", "wheels", "pip"} & {Path(p).name for p in printed.split()}
