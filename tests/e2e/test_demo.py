"""`make demo` tells the whole story, and leaves nothing behind however it ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import images

pytestmark = pytest.mark.e2e


def demo() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.lab.demo"],
        cwd=images.TOP,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def traces() -> set[Path]:
    """What demos have on this machine now; somebody else's may be running."""
    places = (Path("/run/netns").glob("djlab-demo*"), Path("/var/tmp/dockerjail-lab").glob("demo*"))
    return {path for place in places for path in place if path.suffix != ".lock"}


def test_the_demo_tells_the_whole_story_and_cleans_up() -> None:
    before = traces()
    process = demo()
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0, told
    story = [
        "A private Docker Engine",
        "docker compose up",
        "guesses passwords",
        "WARNING Failed login attempt for user: admin from IP: 198.51.100.1",
        "Banned, within",
        "Ban 198.51.100.1",
        "198.51.100.1  no answer: the kernel dropped",
        "198.51.100.2  200: Welcome.",
        "dockerjail status",
        "Nothing is left behind",
    ]
    places = [told.find(part) for part in story]
    assert -1 not in places, told
    assert places == sorted(places), told
    assert traces() <= before


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_cleans_up_and_says_so(how: signal.Signals) -> None:
    before = traces()
    process = demo()
    assert process.stdout is not None
    for line in process.stdout:
        if "Building the images" in line:
            process.send_signal(how)
            break
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "Interrupted; everything is cleaned up." in told
    assert traces() <= before
