"""
Root file systems made by debootstrap: where images come from when no registry is reachable.

In: a suite and packages. Out: a directory (or a tar file) kept in the cache. The
machine itself is not changed. Needs root.
"""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab import cache, machine

_PYTHON = ("python3", "python3-venv", "ca-certificates", "nginx")
_ENGINE = ("docker.io", "docker-cli", "containerd", "runc", "iptables", "procps", "iproute2")
# crun, which is podman's first choice, refuses a machine with both versions of cgroups
_PODMAN = (
    "podman",
    "runc",
    "conmon",
    "netavark",
    "aardvark-dns",
    "nftables",
    "iptables",
    "iproute2",
)
_LEFT_OUT = (
    *("./proc/*", "./sys/*", "./dev/*", "./run/*", "./tmp/*"),
    *("./var/cache/apt/*", "./var/lib/apt/lists/*", "./var/log/*"),
    *("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/info/*"),
)
_ABOUT_PYTHON = """
import json, os, platform, sys
print(json.dumps({
    "python": "%d.%d" % sys.version_info[:2],
    "glibc": os.confstr("CS_GNU_LIBC_VERSION").split()[1],
    "machine": platform.machine(),
}))
"""


def base() -> Path:
    """
    Return where `base.tar` is: this machine's own release with python3, its venv, and nginx.

    `python.json` beside it says which Python that is, for choosing wheels.
    """
    suite = machine.own_suite()

    def make(place: Path) -> None:
        with tempfile.TemporaryDirectory(dir=cache.home(), prefix=".base-") as scratch:
            tree = Path(scratch) / "tree"
            _debootstrap(suite, _PYTHON, tree)
            said = subprocess.run(
                ["chroot", tree, "python3", "-c", _ABOUT_PYTHON], capture_output=True, check=True
            )
            (place / "python.json").write_bytes(said.stdout)
            left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
            tar = ["tar", "--numeric-owner", "-C", tree, *left_out, "-cf", place / "base.tar", "."]
            subprocess.run(tar, check=True)

    return cache.keep("base", _base_identity(), make)


def kept() -> bool:
    """Say whether the base is there already, so that nobody has to wait for it."""
    return cache.kept("base", _base_identity())


def engine_26() -> Path:
    """Return the root of Debian 13 with its Docker Engine, 26.1."""
    suite = machine.debian_13()

    def make(place: Path) -> None:
        _debootstrap(suite, _ENGINE, place / "root")

    return cache.keep("engine26", _identity(suite, _ENGINE), make) / "root"


def podman_5() -> Path:
    """Return the root of Debian 13 with its Podman, 5.4."""
    suite = machine.debian_13()

    def make(place: Path) -> None:
        _debootstrap(suite, _PODMAN, place / "root")

    return cache.keep("podman5", _identity(suite, _PODMAN), make) / "root"


def _base_identity() -> str:
    return f"{_identity(machine.own_suite(), _PYTHON)} {_LEFT_OUT} {_ABOUT_PYTHON}"


def _identity(suite: machine.Suite, packages: Sequence[str]) -> str:
    return f"{suite.name} {suite.components} {packages} {platform.machine()}"


def _debootstrap(suite: machine.Suite, packages: Sequence[str], tree: Path) -> None:
    # a copy of the downloaded packages would only take space
    command = [
        *("debootstrap", "--variant=minbase", "--force-check-gpg"),
        *(f"--keyring={suite.keyring}", f"--components={suite.components}"),
        *(f"--include={','.join(packages)}", suite.name, str(tree)),
        *([suite.mirror] if suite.mirror else []),
    ]
    environment = os.environ | machine.proxy() | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        log = tree / "debootstrap/debootstrap.log"
        said = log.read_text()[-2000:] if log.exists() else ""
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr}{said}")
    shutil.rmtree(tree / "var/cache/apt/archives", ignore_errors=True)
