"""What the lab keeps on disk is complete, made once, and made anew when it would differ."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.lab import cache, images


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "kept"))
    return cache.home()


class Maker:
    def __init__(self) -> None:
        self.made = 0

    def __call__(self, place: Path) -> None:
        self.made += 1
        (place / "thing").write_text("whole")


def test_a_thing_is_made_once() -> None:
    make = Maker()
    first, second = (cache.keep("tree", "debian 13", make) for _ in range(2))
    assert first == second
    assert (first / "thing").read_text() == "whole"
    assert make.made == 1


def test_a_thing_that_depends_on_something_else_is_another_thing() -> None:
    make = Maker()
    assert cache.keep("tree", "debian 12", make) != cache.keep("tree", "debian 13", make)
    assert make.made == 2


def test_a_failed_making_leaves_nothing_to_be_taken_for_the_thing() -> None:
    def fail(place: Path) -> None:
        (place / "thing").write_text("ha")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        cache.keep("tree", "debian 13", fail)
    assert not cache.kept("tree", "debian 13")
    make = Maker()
    assert (cache.keep("tree", "debian 13", make) / "thing").read_text() == "whole"


def test_a_killed_making_is_cleared_away(home: Path) -> None:
    die = (
        "import os, signal; from tests.lab import cache\n"
        "cache.keep('tree', 'debian 13', lambda place: os.kill(os.getpid(), signal.SIGKILL))"
    )
    subprocess.run([sys.executable, "-c", die], cwd=images.TOP, check=False)
    assert list(home.glob(".tree-*.part-*"))
    cache.keep("tree", "debian 13", Maker())
    assert not list(home.glob(".tree-*.part-*"))


def test_two_that_want_the_same_thing_make_it_once() -> None:
    entered, go = threading.Event(), threading.Event()

    def slowly(place: Path) -> None:
        entered.set()
        go.wait()
        (place / "thing").write_text("first")

    make = Maker()
    one = threading.Thread(target=cache.keep, args=("tree", "debian 13", slowly))
    one.start()
    entered.wait()
    two = threading.Thread(target=cache.keep, args=("tree", "debian 13", make))
    two.start()
    go.set()
    for thread in (one, two):
        thread.join()
    assert make.made == 0
    assert (cache.keep("tree", "debian 13", make) / "thing").read_text() == "first"


def test_only_what_nobody_asked_for_in_a_month_is_swept_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = cache.keep("tree", "debian 12", Maker())
    month = time.time() + 31 * 86400
    monkeypatch.setattr(time, "time", lambda: month)
    cache.sweep()
    assert not old.exists()
    new = cache.keep("tree", "debian 13", Maker())
    monkeypatch.undo()
    monkeypatch.setenv("LAB_CACHE", str(new.parent))
    cache.sweep()
    assert new.exists()
