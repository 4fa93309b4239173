"""
dockerjail as its users run it: a process of its own beside a private Engine.

In: an Engine and a configuration. Out: a daemon to start, stop and kill, and the
command line talking to it. It runs from this work tree, in the Engine's network
namespace; `tests/e2e/test_image.py` runs the image instead.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from dockerjail.cli.talk import Talk
from dockerjail.errors import DaemonUnreachable
from tests.lab import images
from tests.lab.engine import Engine

Json = dict[str, Any]

REGEX = "^.*WARNING Failed login attempt for user: .* from IP: <HOST>"
RULE = {"failregex": REGEX, "maxretry": "5", "findtime": "10m", "bantime": "1h"}
SERVE = (
    "sh",
    "-c",
    (
        "mkdir -p /tmp/www; echo served > /tmp/www/index.html; "
        "httpd -p 8000 -h /tmp/www; exec sleep 100000"
    ),
)
"""A container that serves "served" over HTTP on port 8000."""

PATIENCE = 20.0
"""Seconds within which what was promised must have come true."""


class Jailer:
    """One dockerjail daemon; a context manager that leaves nothing behind."""

    def __init__(self, engine: Engine, root: Path, settings: str = "", **environ: str) -> None:
        self.engine = engine
        self.space = engine.space
        self.root = root
        self.socket = root / "run" / "control.sock"
        self.database = root / "state" / "dockerjail.sqlite3"
        self.config = root / "dockerjail.toml"
        self.config.write_text(settings)
        self.environ = environ
        self.within: tuple[str, ...] = ()
        """A command that runs the daemon, such as one that gives it mounts of its own."""
        self._process: subprocess.Popen[bytes] | None = None

    # Life

    def start(self) -> Self:
        """Start the daemon without waiting for anything."""
        with (self.root / "log").open("ab") as log:
            self._process = self.space.popen(
                *self.within,
                *(sys.executable, "-m", "dockerjail", "run", "--config", str(self.config)),
                env=self._environ(),
                stdout=log,
                stderr=log,
            )
        return self

    def ready(self) -> Self:
        """Start the daemon and wait until it follows what there is."""
        self.start()
        self.wait(lambda status: bool(status["engine"]["connected"]))
        return self

    def stop(self) -> int:
        """Stop it as Docker does; return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it without warning."""
        self._end(signal.SIGKILL)

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    def send(self, which: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(which)

    def ended(self) -> int:
        """Wait until it ends by itself; return its exit code."""
        assert self._process is not None
        return self._process.wait(PATIENCE)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything it has logged."""
        return (self.root / "log").read_text()

    def __enter__(self) -> Self:
        return self.ready()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.space.run("nft", "delete", "table", "inet", "dockerjail", check=False)

    # Use

    def cli(self, *arguments: str, within: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line to its end, `within` the mounts of another if need be."""
        command = [*within, sys.executable, "-m", "dockerjail", *arguments]
        return subprocess.run(
            self.space.command(*command),
            env=self._environ() | {"DOCKERJAIL_CONFIG": str(self.config)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ask(self, *arguments: str) -> Json:
        """Run a command with `--json`; return what it printed."""
        done = self.cli(*arguments, "--json")
        assert done.stdout, done.stderr
        found: Json = json.loads(done.stdout)
        return found

    def status(self) -> Json:
        """Ask for the status, over the socket as the command does, without its start-up."""
        return Talk(self.socket).status()

    def wait(self, promise: Callable[[Json], bool], within: float = PATIENCE) -> Json:
        """Wait until the status is as promised; return it."""
        end = time.monotonic() + within
        status: Json = {}
        while time.monotonic() < end:
            if self._process is not None and self._process.poll() is not None:
                raise AssertionError(f"dockerjail ended:\n{self.log}")
            with contextlib.suppress(DaemonUnreachable):  # it is still starting
                status = self.status()
                if promise(status):
                    return status
            time.sleep(0.05)
        told = status | {"bans": status.get("bans", [])[:10]}
        raise AssertionError(f"not so: {json.dumps(told, indent=1)}\n{self.log}")

    def wait_banned(self, *addresses: str) -> Json:
        """Wait until exactly these are banned, and the kernel has them."""
        return self.wait(
            lambda status: (
                banned(status) == set(addresses)
                and all(ban["packets"] is not None for ban in status["bans"])
            )
        )

    def kernel(self) -> str:
        """Return the table as `nft` prints it."""
        return self.space.run("nft", "list", "table", "inet", "dockerjail").stdout

    def _environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER", "DOCKERJAIL"))}
        return kept | {
            "DOCKER_HOST": self.engine.host,
            "DOCKERJAIL_CONTROL__SOCKET": str(self.socket),
            "DOCKERJAIL_STORE__PATH": str(self.database),
            **self.environ,
        }

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(PATIENCE)


def banned(status: Json) -> set[str]:
    """Return the addresses that a status shows as banned."""
    return {ban["address"] for ban in status["bans"]}


def say(engine: Engine, container: str, lines: Sequence[str], stream: int = 1) -> None:
    """Have a container print lines to its stdout (1) or stderr (2)."""
    script = f'printf "%s\\n" "$@" > /proc/1/fd/{stream}'
    engine.docker("exec", container, "sh", "-c", script, "sh", *lines)


def failed_login(address: str, user: str = "admin") -> str:
    """Return the line that the Flask application prints for a failed login."""
    return (
        f"2023-10-27 14:38:22,557 WARNING Failed login attempt for user: {user} from IP: {address}"
    )


def labels(**options: str) -> list[str]:
    """Return the docker options that opt a container in with one jail, `flask`."""
    rule = RULE | options
    found = ["--label", "dockerjail.enable=true"]
    for key, value in rule.items():
        found += ["--label", f"dockerjail.jail.flask.{key}={value}"]
    return found


def serve(
    engine: Engine,
    name: str,
    *options: str,
    port: int | None = 8080,
    image: str | None = None,
    command: Sequence[str] = SERVE,
    **rule: str,
) -> str:
    """Start a container that serves on 8000, published on `port`, with the jail's labels."""
    publish = ["-p", f"{port}:8000"] if port else []
    return engine.run(
        image or images.busybox(engine),
        *command,
        options=["--name", name, *publish, *labels(**rule), *options],
    )


def follows(jailer: Jailer, *names: str) -> Json:
    """Wait until exactly these containers are followed."""
    return jailer.wait(
        lambda s: (
            {c["name"] for c in s["containers"] if c["running"]} == set(names)
            and all(c["state"] == "following" for c in s["containers"] if c["running"])
        )
    )
