"""`dockerjail run` as a shell starts it: the same as ever, with less loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOADED = """
import sys
from pathlib import Path
from dockerjail.cli import entry
from dockerjail.cli.run import load
from dockerjail.config.borrowed import Borrowed
load(Path(sys.argv[1]))
assert Borrowed.open(Path("/nowhere/fail2ban")) is None
print(*sys.modules)
"""


def python(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("DOCKERJAIL")}
    return subprocess.run(
        [sys.executable, *arguments],
        env=plain | environ,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_daemon_carries_nothing_that_it_has_no_use_for(tmp_path: Path) -> None:
    file = tmp_path / "dockerjail.toml"
    file.write_text("[fail2ban]\nenabled = false\n")
    done = python("-c", LOADED, str(file))
    assert not done.returncode, done.stderr
    loaded = {*done.stdout.split()}
    assert "dockerjail.service.daemon" in loaded
    unused = ("typer", "rich", "dateutil", "hyperscan", "unittest", "pyroute2.ndb")
    ours = ("dockerjail.lint.lint", "dockerjail.cli.main", "dockerjail.config.fail2ban.read")
    assert loaded.isdisjoint((*unused, *ours))


@pytest.mark.parametrize("text", ["[docker]\nhost = 5\n", "[["])
def test_a_mistake_in_the_configuration_is_told_the_same_however_the_file_is_named(
    text: str, tmp_path: Path
) -> None:
    file = tmp_path / "dockerjail.toml"
    file.write_text(text)
    short = python("-m", "dockerjail", "run", DOCKERJAIL_CONFIG=str(file))
    long = python("-m", "dockerjail", "run", "--config", str(file))
    assert (short.returncode, short.stdout) == (1, "")
    assert "dockerjail.toml" in short.stderr
    assert "Traceback" not in short.stderr
    assert (short.returncode, short.stdout, short.stderr) == (
        long.returncode,
        long.stdout,
        long.stderr,
    )


def test_all_else_is_parsed() -> None:
    assert "Usage" in python("-m", "dockerjail", "run", "--help").stdout
    assert python("-m", "dockerjail", "run", "--no-such").returncode == 2
    assert "dockerjail" in python("-m", "dockerjail", "--version").stdout
