"""
The demonstration: a login page is attacked, and the attacker is banned before your eyes.

In: nothing but root and a work tree. Out: the story on standard output; exit
code 0 when all of it happened, else 1. Everything is real (Engine, containers
from the compose files in `deploy/`, packets, kernel) and apart from the machine;
it is cleared away in the end, also after Ctrl-C.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from tests.lab import cache, images, machine, tree
from tests.lab.attacker import BLOCKED_AFTER, Attacker
from tests.lab.engine import Engine, EngineFailed

DEPLOY = images.TOP / "deploy"
MAXRETRY = 5
PATIENCE = 30.0

_COLOURS = {"title": "1;36", "good": "1;32", "bad": "1;31", "quiet": "2"}


class Failed(Exception):
    """Something that the demo promises did not happen."""


def main() -> int:
    """Tell the story; return the exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    began = time.monotonic()
    print("A login page under attack, in network namespaces of its own: this machine's")
    print("containers, firewall and addresses are not touched.")
    try:
        with Engine.claim("demo") as engine:
            try:
                story(engine)
            except (Failed, EngineFailed, OSError) as error:
                show(f"\nThis went wrong: {error}", "bad")
                afterwards(engine)
                return 1
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # let the clean-up finish
                step("Cleaning up")
    except KeyboardInterrupt:
        show("\nInterrupted; everything is cleaned up.", "bad")
        return 130
    except (EngineFailed, RuntimeError) as error:
        show(f"\nThis went wrong: {error}", "bad")
        return 1
    show(
        f"All of it happened, in {time.monotonic() - began:.0f} seconds. Nothing is left behind.",
        "good",
    )
    return 0


def story(engine: Engine) -> None:
    """Attack and be banned; raises `Failed` where the story takes another turn."""
    prepare(engine)
    attacker, visitor = engine.attacker(), engine.attacker()
    page = f"http://{engine.address}:8000"
    start(engine, visitor, page)
    attack(engine, attacker, page)
    blocked(engine, attacker, visitor, page)
    step("What dockerjail says:  dockerjail status")
    show(engine.docker("exec", "dockerjail", "dockerjail", "status", check=False))


def prepare(engine: Engine) -> None:
    """Start the Engine and build the images."""
    engine.start()
    step(f"A private Docker Engine {engine.version()} runs")
    if not tree.kept():
        suite = machine.own_suite().name
        step(f"Only this first time: a base image of {suite} and wheels, kept in {cache.home()}")
    images.python(engine)
    step("Building the images: deploy/examples/flask and dockerjail, without a registry")
    images.flask(engine)
    images.dockerjail(engine)


def start(engine: Engine, visitor: Attacker, page: str) -> None:
    """Start both compose files and wait until they work."""
    step("docker compose up:  deploy/compose.yaml, deploy/examples/flask/compose.yaml")
    for file in ("compose.yaml", "examples/flask/compose.yaml"):
        engine.compose(DEPLOY / file, "up", "--detach", "--no-build")
    labels = engine.api("GET", "/containers/flask-web-1/json")["Config"]["Labels"]
    for name, value in sorted(labels.items()):
        if name.startswith("dockerjail."):
            show(f"   {name}={value}", "quiet")
    until(lambda: answers(visitor, page), "the login page does not answer")
    until(lambda: follows(engine), "dockerjail does not follow the application's log")


def attack(engine: Engine, attacker: Attacker, page: str) -> None:
    """Log in with wrong passwords until the attacker is banned."""
    step(f"{attacker.address} guesses passwords at {page}/login")
    for number in range(1, MAXRETRY + 1):
        if bans(engine):
            raise Failed(f"banned before attempt {number} of {MAXRETRY}")
        answer = attacker.post(f"{page}/login", {"user": "admin", "password": f"secret{number}"})
        if answer.status != 401:
            raise Failed(f"attempt {number} was answered with {answer.status}, not 401")
    at = time.monotonic()
    until(lambda: any(enforced(ban) for ban in bans(engine)), "nobody is banned")
    took = time.monotonic() - at
    until(lambda: engine.logs("flask-web-1").count("Failed login") == MAXRETRY, "no log lines")
    for line in engine.logs("flask-web-1").splitlines():
        if "Failed login" in line:
            show(f"   {line}", "quiet")
    found = [ban["address"] for ban in bans(engine)]
    if found != [attacker.address]:
        raise Failed(f"banned is {found}, not the attacker alone")
    step(f"Banned, within {took:.1f} seconds of the last attempt")
    for line in engine.logs("dockerjail").splitlines():
        if " Ban " in line:
            show(f"   {line}", "quiet")


def blocked(engine: Engine, attacker: Attacker, visitor: Attacker, page: str) -> None:
    """Show that the kernel blocks the attacker, and nobody else."""
    step("The next request of the attacker, and one of somebody else")
    if attacker.reaches(engine.address, 8000, timeout=2 * BLOCKED_AFTER):
        raise Failed("the attacker still gets through")
    (ban,) = bans(engine)
    if not ban["packets"]:
        raise Failed("the attacker got no answer, but the kernel counted no dropped packet")
    show(f"   {attacker.address}  no answer: the kernel dropped {ban['packets']} packets", "bad")
    answer = visitor.get(f"{page}/")
    if answer.status != 200:
        raise Failed(f"another client got {answer.status}")
    show(f"   {visitor.address}  {answer.status}: {answer.body.strip()}", "good")


def answers(client: Attacker, page: str) -> bool:
    """Say whether the page is served yet."""
    try:
        return client.get(f"{page}/login").status == 200
    except OSError:
        return False


def follows(engine: Engine) -> bool:
    """Say whether dockerjail reads the application's log yet."""
    status = ask(engine, "status")
    return any(
        container["name"] == "flask-web-1" and container["state"] == "following"
        for container in status.get("containers", ())
    )


def bans(engine: Engine) -> list[dict[str, Any]]:
    """Return the bans in force."""
    found: list[dict[str, Any]] = ask(engine, "bans").get("bans", [])
    return found


def enforced(ban: dict[str, Any]) -> bool:
    """Say whether the kernel has the ban: only then it counts what it drops."""
    return ban["packets"] is not None


def ask(engine: Engine, verb: str) -> dict[str, Any]:
    """Ask dockerjail in its container; nothing while it is starting."""
    command = ("exec", "dockerjail", "dockerjail", verb, "--json")
    printed = engine.docker(*command, check=False)
    found: dict[str, Any] = json.loads(printed) if printed.startswith("{") else {}
    return found


def until(happened: Callable[[], object], otherwise: str) -> None:
    """Wait for something that must happen soon."""
    end = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > end:
            raise Failed(otherwise)
        time.sleep(0.1)


def afterwards(engine: Engine) -> None:
    """Show what helps to see why the story went wrong."""
    for container in ("flask-web-1", "dockerjail"):
        show(f"\nThe last lines of {container}:")
        show("\n".join(engine.logs(container).splitlines()[-20:]), "quiet")


def step(text: str) -> None:
    """Announce what comes next."""
    print()
    show(f"=> {text}", "title")


def show(text: str, how: str | None = None) -> None:
    """Print, with colour on a terminal."""
    if how and sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        text = f"\x1b[{_COLOURS[how]}m{text}\x1b[0m"
    print(text, flush=True)


def _terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
