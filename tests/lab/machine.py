"""
The machine the lab runs on: its distribution, its mirror, and its missing packages.

Everything is asked of the machine's own apt; no address is written here. Docker
is installed without its service ever being started: a system dockerd would
change the machine's firewall, and the lab needs only the programs.

    python3 -m tests.lab.machine check [TOOL...]   exit code 1 when something is missing
    python3 -m tests.lab.machine install           install it, as root
"""

import contextlib
import functools
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cache

TOOLS = {
    "dockerd": ("docker.io",),
    "docker": ("docker-cli", "docker.io"),
    "debootstrap": ("debootstrap",),
    "ip": ("iproute2",),
    "nft": ("nftables",),
    "iptables": ("iptables",),
    "busybox": ("busybox-static",),
    "nsenter": ("util-linux",),
    "sysctl": ("procps",),
    "strace": ("strace",),
    "systemd-journald": ("systemd",),
    "python3-venv": ("python3-venv",),
}
"""Each program that the lab runs, and the packages that may bring it, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A release of a distribution that a tree can be made of."""

    name: str
    keyring: Path
    components: str
    mirror: str | None
    """None: the one that debootstrap knows for this suite."""


def missing() -> list[str]:
    """Return the lab's programs that this machine lacks."""
    lacking = [tool for tool in TOOLS if not _has(tool)]
    if _distribution() != "debian" and not _debian_keyring().exists():
        lacking.append("debian-archive-keyring")
    return lacking


def _has(tool: str) -> bool:
    if tool == "python3-venv":
        return importlib.util.find_spec("ensurepip") is not None
    found = _which(tool)
    # an image with nothing but busybox needs one without libraries
    return found is not None and (tool != "busybox" or _is_static(Path(found)))


def install() -> None:
    """Install what is missing, by apt. Needs root."""
    lacking = missing()
    if not lacking:
        return
    if shutil.which("apt-get") is None:
        sys.exit(f"missing: {', '.join(lacking)}; install them (this machine has no apt)")
    if os.geteuid() != 0:
        sys.exit(f"missing: {', '.join(lacking)}; run this as root to have them installed")
    apt("update")
    packages = list(dict.fromkeys(_package(tool) for tool in lacking))
    print(f"installing {', '.join(packages)}", flush=True)
    services = ["docker.service", "docker.socket"]
    if _which("containerd") is None:
        services.append("containerd.service")
    with _no_services():
        apt("install", "--no-install-recommends", *packages)
    if "dockerd" in lacking and Path("/run/systemd/system").is_dir():
        # not at the next boot either: whoever wants it says so
        subprocess.run(["systemctl", "disable", "--quiet", *services], check=False)
        print("the docker service is left disabled: the lab runs an Engine of its own")


def apt(*arguments: str, config: Path | None = None, cwd: Path | None = None) -> None:
    """Run `apt-get` quietly; on failure show what it said and raise."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    if config:
        environment["APT_CONFIG"] = str(config)
    command = ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=120", *arguments]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def unpacked(package: str, how: str) -> Path:
    """Return a package of this machine's release, unpacked in the cache as `dpkg-deb` is told, not installed."""

    def make(place: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch)
            work.chmod(0o755)  # apt fetches as a user of its own
            apt("download", package, cwd=work)
            (deb,) = work.glob(f"{package}_*.deb")
            subprocess.run(["dpkg-deb", how, deb, place], check=True)

    return cache.keep(package, own_suite().name, make)


@functools.cache
def own_suite() -> Suite:
    """Return the release that this machine itself runs."""
    return _suite(_os_release()["VERSION_CODENAME"], _distribution())


@functools.cache
def debian_13() -> Suite:
    """Return Debian 13, from this machine's mirror when that has it."""
    return _suite("trixie", "debian")


@functools.cache
def proxy() -> dict[str, str]:
    """Return the environment that makes wget use the proxy that apt uses."""
    found = subprocess.run(
        ["apt-config", "shell", "P", "Acquire::http::Proxy"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    value = found.removeprefix("P='").removesuffix("'")
    return {"http_proxy": value} if value and value != "DIRECT" else {}


def plugins() -> Path:
    """
    Return a DOCKER_CONFIG directory with the compose v2 and buildx plugins.

    Unpacked from the distribution's packages, not installed: from this machine's
    own suite when that has them (Ubuntu), else from Debian 13.
    """
    own = _distribution() == "ubuntu"
    suite = own_suite() if own else debian_13()
    names = ("docker-compose-v2" if own else "docker-compose", "docker-buildx")

    def make(place: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch)
            work.chmod(0o755)
            if own:
                apt("update")
                apt("download", *names, cwd=work)
            else:
                apt("download", *names, config=_foreign_apt(work, suite), cwd=work)
            for package in work.glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, work / "unpacked"], check=True)
            target = place / "cli-plugins"
            target.mkdir()
            for plugin in (work / "unpacked").glob("usr/**/cli-plugins/docker-*"):
                shutil.copy2(plugin, target / plugin.name)

    return cache.keep("plugins", f"{suite.name} {names} {platform.machine()}", make)


def _foreign_apt(work: Path, suite: Suite) -> Path:
    """Make an apt of our own in `work` that knows only `suite`; return its configuration."""
    root = work / "apt"
    for directory in ("etc/apt", "var/lib/apt/lists/partial", "var/lib/dpkg", "var/cache/apt"):
        (root / directory).mkdir(parents=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    if suite.mirror is None:
        raise RuntimeError(f"no mirror for {suite.name}; name one in /etc/apt/sources.list")
    (root / "etc/apt/sources.list").write_text(
        f"deb [signed-by={suite.keyring}] {suite.mirror} {suite.name} main\n"
    )
    config = root / "apt.conf"
    config.write_text(
        f'Dir "{root}/";\n'
        f'Dir::State::status "{root}/var/lib/dpkg/status";\n'
        # the machine's proxy and TLS settings hold here too
        'Dir::Etc::Parts "/etc/apt/apt.conf.d";\n'
        'APT::Sandbox::User "root";\n'
    )
    apt("update", config=config)
    return config


def _suite(name: str, distribution: str) -> Suite:
    keyring = (
        _debian_keyring()
        if distribution == "debian"
        else Path(f"/usr/share/keyrings/{distribution}-archive-keyring.gpg")
    )
    components = "main" if distribution == "debian" else "main,universe"
    mirror = _mirror() if distribution == _distribution() else None
    return Suite(name=name, keyring=keyring, components=components, mirror=mirror)


def _mirror() -> str | None:
    """Return the mirror that this machine's apt takes its own release from."""
    codename = _os_release()["VERSION_CODENAME"]
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for target in targets.splitlines():
        site, release, component = target.split()
        if (release, component) != (codename, "main"):
            continue
        if site.startswith("mirror+file:"):  # cloud images name their mirrors in a file
            lines = (
                Path("/" + site.removeprefix("mirror+file:").lstrip("/")).read_text().split("\n")
            )
            site = next(line.split()[0] for line in lines if line.startswith("http"))
        if site.startswith(("http", "file:/")):
            return site
    return None


def _package(tool: str) -> str:
    names = TOOLS.get(tool, (tool,))
    return next((name for name in names if _candidate(name)), names[-1])


def _candidate(package: str) -> bool:
    done = subprocess.run(
        ["apt-cache", "policy", package], capture_output=True, text=True, check=False
    )
    found = [line.split()[1] for line in done.stdout.splitlines() if "Candidate:" in line]
    return bool(found) and found[0] != "(none)"


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep packages from starting services while they are installed."""
    policy = Path("/usr/sbin/policy-rc.d")
    aside = policy.with_name("policy-rc.d.before-dockerjail")
    had = policy.exists() or policy.is_symlink()
    if had and not aside.exists():
        policy.rename(aside)
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
        if aside.exists() or aside.is_symlink():
            aside.rename(policy)


def _which(tool: str) -> str | None:
    usual = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/lib/systemd:/lib/systemd"
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{usual}")


def _is_static(program: Path) -> bool:
    # a dynamic program names its loader near the start of the file
    return b"/ld-linux" not in program.read_bytes()[:4096]


def _debian_keyring() -> Path:
    return Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def _distribution() -> str:
    return _os_release().get("ID", "")


@functools.cache
def _os_release() -> dict[str, str]:
    return platform.freedesktop_os_release()


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["check", *tools]:
            lacking = missing()
            sys.exit(int(bool(set(lacking) & set(tools or lacking))))
        case ["install"]:
            install()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
