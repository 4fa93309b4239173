"""
A private Docker Engine: its own network, mounts, data and containers, apart from the machine's.

In: a name, and a Debian tree for another version than the machine's own. Out:
an Engine to start, stop, kill and clean up. It runs in a network namespace (so
its firewall rules and published ports are not the machine's) and a mount
namespace (so its mounts go when it goes). Needs root.

Engines of several runs stand side by side: each holds a numbered slot by a
lock that the kernel drops when the run dies; whoever takes the slot next clears
away what was left. Nothing of the machine's own Docker is used or changed.
"""

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.lab import cache, machine, netns
from tests.lab.attacker import Attacker

_ROOT = Path("/var/tmp/dockerjail-lab")  # on disk even where /tmp is memory; short, for sockets
_PREFIX = "djlab"
_CGROUP = "dockerjail-lab"
_SLOTS = 32
_START_WITHIN = 60.0
_STOP_WITHIN = 30.0

# Holds the mount namespace while the Engine stops and starts; ends with our end of the pipe.
_HOLD_MACHINE = """
set -e
for place in /etc/docker /run/docker /run/containerd; do
    mkdir -p $place; mount -t tmpfs tmpfs $place
done
echo ready; exec cat >/dev/null
"""
_HOLD_TREE = """
set -e
tree=$0
mount --bind "$tree" "$tree"
for place in /*; do
    case $place in
        /usr|/bin|/sbin|/lib*|/etc|/var|/run|/boot|/lost+found) continue ;;
    esac
    if [ -d "$place" ] && [ ! -L "$place" ]; then
        mkdir -p "$tree$place"; mount --rbind "$place" "$tree$place"
    fi
done
mount --rbind /var/tmp "$tree/var/tmp"
mount -t tmpfs tmpfs "$tree/run"
mkdir -p "$tree/etc/docker"; mount -t tmpfs tmpfs "$tree/etc/docker"
cd "$tree"; mkdir run/old; pivot_root . run/old; cd /; umount -l /run/old
echo ready; exec cat >/dev/null
"""


class EngineFailed(Exception):
    """The private Engine did not do what a test needs of it."""


class Engine:
    """A private dockerd. Make one with `claim`; use it as a context manager."""

    address = "198.51.100.254"
    address6 = "2001:db8:66::fe"
    """Where attackers reach the Engine's host."""

    program = "dockerd"
    networks = frozenset({"bridge", "host", "none"})
    """Those that nobody has made."""

    def __init__(self, slot: str, *, tree: Path | None, lock: int) -> None:
        self.slot = slot
        self.root = _ROOT / slot
        self.socket = self.root / "docker.sock"
        self.host = f"unix://{self.socket}"
        self.space = netns.Namespace(f"{_PREFIX}-{slot}")
        self.images: set[str] = set()
        self._tree = tree
        self._lock = lock
        self._holder: subprocess.Popen[str] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None
        self._attackers: dict[int, Attacker] = {}
        self.options: tuple[str, ...] = ()
        """What dockerd was started with beyond what it always is."""

    @classmethod
    def claim(cls, kind: str, *, tree: Path | None = None) -> Self:
        """Take a free slot of this kind, cleared of what a crashed run left there."""
        _own_root()
        for number in range(_SLOTS):
            slot = f"{kind}{number}"
            lock = _try_lock(_ROOT / f"{slot}.lock")
            if lock is not None:
                engine = cls(slot, tree=tree, lock=lock)
                engine.clean()
                return engine
        raise EngineFailed(f"all {_SLOTS} slots of {kind} are in use; see {_ROOT}, run make clean")

    # -- life ---------------------------------------------------------------

    def start(self, *options: str) -> None:
        """Start dockerd with more `options` and wait until it answers; running already is fine."""
        if self.running:
            return
        self.root.mkdir(mode=0o700, exist_ok=True)
        if not self.space.path.exists():
            self._make_network()
        if self._holder is None:
            self._hold()
        for stale in (self.socket, self.root / "docker.pid"):
            stale.unlink(missing_ok=True)
        self.options = options
        with (self.root / f"{self.program}.log").open("ab") as log:
            self._dockerd = subprocess.Popen(
                [*self.inside(), *self._command(), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=_environment(),
            )
        _wait(self._answers, _START_WITHIN, self._why_not)

    def stop(self) -> None:
        """Stop dockerd as a service manager does; images, containers and volumes stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill dockerd without warning."""
        self._end(signal.SIGKILL)

    def restart(self, *options: str) -> None:
        """Stop and start; with the options it had unless others are given."""
        self.stop()
        self.start(*(options or self.options))

    def clean(self) -> None:
        """Remove every trace, also of a run that crashed: processes, namespaces, files."""
        spaces = [space for space in _namespaces() if self._is_ours(space.name)]
        # dockerd first, so that it restarts nothing
        for space in sorted(spaces, key=lambda space: len(space.name)):
            kill_all(lambda space=space: _pids_in(space))
        for group in self._cgroups():
            kill_all(lambda group=group: _pids_below(group))
            for directory in sorted(group.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    directory.rmdir()
            for directory in (group, group.parent):  # the parent is other runs' too
                with contextlib.suppress(OSError):
                    directory.rmdir()
        for process in (self._holder, self._dockerd):
            if process:
                process.communicate()
        self._holder = self._dockerd = None
        for space in spaces:
            space.delete()
        self._attackers.clear()
        self.images.clear()
        cache.remove(self.root)

    def close(self) -> None:
        """Clean up and give the slot back."""
        try:
            self.clean()
        finally:
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether the dockerd process is there."""
        return self._dockerd is not None and self._dockerd.poll() is None

    @property
    def pid(self) -> int:
        """The process id of dockerd, which runs."""
        assert self._dockerd is not None
        return self._dockerd.pid

    @property
    def holds(self) -> bool:
        """Whether its mount namespace is there: `inside` can be entered."""
        return self._holder is not None

    # -- use ----------------------------------------------------------------

    def api(self, method: str, path: str, body: object = None, *, timeout: float = 30) -> Any:
        """Ask the Engine's API; return the decoded answer. Raises `EngineFailed` from 400 up."""
        data, kind = self._ask(method, path, body, timeout)
        return json.loads(data) if "json" in kind else data.decode()

    def raw(self, path: str, *, timeout: float = 60) -> bytes:
        """Return an answer as it is, such as the frames of a log. Raises `EngineFailed`."""
        return self._ask("GET", path, None, timeout)[0]

    def version(self) -> str:
        """Return the Engine's version, such as `20.10.24+dfsg1`."""
        return str(self.api("GET", "/version")["Version"])

    def docker(
        self,
        *arguments: str,
        check: bool = True,
        stdin: Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> str:
        """Run the docker command line against this Engine; return what it printed."""
        command = [_program("docker"), *arguments]
        environment = self.environment() | dict(env or {})
        with (stdin or Path(os.devnull)).open("rb") as source:
            done = subprocess.run(
                command,
                env=environment,
                stdin=source,
                capture_output=True,
                cwd=cwd,
                timeout=timeout,
                check=False,
            )
        printed = done.stdout.decode(errors="replace").strip()
        if check and done.returncode:
            raise EngineFailed(
                f"docker {' '.join(arguments)}: exit code {done.returncode}\n"
                f"{printed}\n{done.stderr.decode(errors='replace').strip()}"
            )
        return printed

    def environment(self) -> dict[str, str]:
        """Return the environment in which a docker client talks to this Engine, and to no other."""
        config = self.root / "config"
        config.mkdir(exist_ok=True)
        return _environment() | {
            "DOCKER_HOST": self.host,
            "DOCKER_SOCKET": str(self.socket),
            "DOCKER_CONFIG": str(config),
            "DOCKER_BUILDKIT": "0",
        }

    def compose(
        self, file: Path, *arguments: str, env: Mapping[str, str] | None = None, check: bool = True
    ) -> str:
        """Run compose v2 on a compose file."""
        self._plug_in()
        return self.docker("compose", "-f", str(file), *arguments, env=env, check=check)

    def build(self, context: Path, tag: str, *options: str, buildkit: bool = False) -> str:
        """Build an image, with the classic builder or BuildKit, without a network."""
        if buildkit:
            self._plug_in()
        return self.docker(
            *("build", "--network", "none", "--tag", tag, *options, str(context)),
            env={"DOCKER_BUILDKIT": "1" if buildkit else "0"},
            timeout=600,
        )

    def run(self, image: str, *command: str, options: Sequence[str] = ()) -> str:
        """Start a container in the background; return its id."""
        return self.docker("run", "--detach", *options, image, *command)

    def logs(self, container: str) -> str:
        """Return both streams of a container's log, stdout first."""
        command = [_program("docker"), "logs", container]
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout + done.stderr

    def remove_containers(self) -> None:
        """Remove all containers, and the networks and volumes that users made."""
        for container in self.api("GET", "/containers/json?all=1"):
            with contextlib.suppress(EngineFailed):  # --rm was faster
                self.api("DELETE", f"/containers/{container['Id']}?force=1&v=1", timeout=60)
        # A configuration goes after the networks that were made from it.
        for network in sorted(self.api("GET", "/networks"), key=lambda each: each["ConfigOnly"]):
            if network["Name"] not in self.networks:
                self.api("DELETE", f"/networks/{network['Id']}")
        for volume in self.api("GET", "/volumes")["Volumes"] or ():
            self.api("DELETE", f"/volumes/{volume['Name']}")

    def attacker(self, number: int | None = None) -> Attacker:
        """
        Add a host on the internet: 198.51.100.N and 2001:db8:66:N::1, routed to the Engine's host.

        Each has a /64 of its own. Without `number` it gets one that no other had.
        """
        number = self.unused_number() if number is None else number
        if not 1 <= number <= 250 or number in self._attackers:
            raise EngineFailed(f"attacker {number}: choose an unused number from 1 to 250")
        attacker = Attacker(netns.create(f"{self.space.name}-a{number}"), number)
        attacker.connect(self.space, self.address)
        self.adopt(attacker)
        return attacker

    def unused_number(self) -> int:
        """Return the number of the next attacker."""
        return max(self._attackers, default=0) + 1

    def adopt(self, attacker: Attacker) -> None:
        """Keep an attacker's number from being given again; who made it removes it."""
        self._attackers[attacker.number] = attacker

    # -- inside -------------------------------------------------------------

    def inside(self) -> list[str]:
        """Return how a command line begins that sees the Engine's network and files."""
        assert self._holder is not None
        return [
            *("nsenter", f"--target={self._holder.pid}", "--net", "--mount", "--root", "--wd=/"),
            "--",
        ]

    def _command(self) -> list[str]:
        (self.root / "daemon.json").write_text("{}\n")
        return [
            "/usr/sbin/dockerd" if self._tree else _program("dockerd"),
            *("--host", self.host),
            *("--data-root", str(self.root / "data"), "--exec-root", str(self.root / "exec")),
            *("--pidfile", str(self.root / "docker.pid")),
            # not the machine's /etc/docker/daemon.json, and no systemd to ask for cgroups
            *("--config-file", str(self.root / "daemon.json")),
            *("--exec-opt", "native.cgroupdriver=cgroupfs"),
            *("--cgroup-parent", f"/{_CGROUP}/{self.slot}"),
        ]

    def _cgroups(self) -> list[Path]:
        """Find the control groups of its containers: one in v2, one for each controller in v1."""
        tree = Path("/sys/fs/cgroup")
        return [*tree.glob(f"{_CGROUP}/{self.slot}"), *tree.glob(f"*/{_CGROUP}/{self.slot}")]

    def _ask(self, method: str, path: str, body: object, timeout: float) -> tuple[bytes, str]:
        connection = _UnixConnection(str(self.socket), timeout=timeout)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            got = answer.read()
        if answer.status >= 400:
            said = got.decode(errors="replace").strip()
            raise EngineFailed(f"{method} {path}: {answer.status} {said}")
        return got, answer.getheader("Content-Type") or ""

    def _make_network(self) -> None:
        netns.create(self.space.name)
        for address in (f"{self.address}/32", f"{self.address6}/128"):
            netns.add_address(self.space, "lo", address)
        self.space.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def _hold(self) -> None:
        script = [_HOLD_TREE, str(self._tree)] if self._tree else [_HOLD_MACHINE]
        command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", *script]
        self._holder = subprocess.Popen(
            self.space.command(*command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
            env=_environment(),
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise EngineFailed(f"no mount namespace for {self.slot}; is this root?")

    def _plug_in(self) -> None:
        """Give the docker command line its compose and buildx plugins."""
        link = Path(self.environment()["DOCKER_CONFIG"]) / "cli-plugins"
        if not link.exists():
            link.symlink_to(machine.plugins() / "cli-plugins")

    def _answers(self) -> bool:
        if not self.running:
            raise EngineFailed(self._why_not())
        with contextlib.suppress(OSError, http.client.HTTPException, EngineFailed):
            return bool(self.api("GET", "/_ping", timeout=5) == "OK")
        return False

    def _why_not(self) -> str:
        log = (self.root / f"{self.program}.log").read_text(errors="replace")
        return f"{self.program} of {self.slot} does not answer:\n" + "\n".join(
            log.splitlines()[-10:]
        )

    def _end(self, how: signal.Signals) -> None:
        if self._dockerd is None:
            return
        self._dockerd.send_signal(how)
        try:
            self._dockerd.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._dockerd.kill()
            self._dockerd.wait()
        self._bury_containerd()

    def _bury_containerd(self) -> None:
        """
        Wait until dockerd's containerd has gone with it, and remove its pid file.

        The next dockerd would take even a zombie for a containerd that works, and
        wait for it in vain.
        """
        file = self.root / "exec/containerd/containerd.pid"
        if file.exists() and (pid := file.read_text().strip()):
            _wait(lambda: _is_zombie(int(pid)), _STOP_WITHIN, lambda: f"containerd {pid} stays")
            file.unlink(missing_ok=True)

    def _is_ours(self, namespace: str) -> bool:
        return namespace == self.space.name or namespace.startswith(f"{self.space.name}-a")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, *, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def clean_up() -> None:
    """Clear away what runs that are over left behind, and all engines that nobody holds."""
    if not _ROOT.exists():
        return
    _own_root()
    for file in sorted(_ROOT.glob("*.lock")):
        lock = _try_lock(file)
        if lock is None:
            print(f"{file.stem} is in use and left alone")
            continue
        _kind(file.stem)(file.stem, tree=None, lock=lock).close()
        file.unlink()
    cache.sweep()


def _kind(slot: str) -> type[Engine]:
    from tests.lab.podman import Podman  # which is an Engine itself

    return Podman if slot.startswith(Podman.kind) else Engine


def _own_root() -> None:
    if os.geteuid() != 0:
        raise EngineFailed("a private Engine needs root")
    _ROOT.mkdir(mode=0o700, exist_ok=True)
    if _ROOT.is_symlink() or _ROOT.stat().st_uid != 0:
        raise EngineFailed(f"{_ROOT} is not root's; remove it")


def _try_lock(path: Path) -> int | None:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _program(name: str) -> str:
    found = shutil.which(name, path=_environment()["PATH"])
    if found is None:
        raise EngineFailed(f"{name} is not installed; run: python3 -m tests.lab.machine install")
    return found


def _environment() -> dict[str, str]:
    """Return the process's environment without what would lead a client to another Engine."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
    return kept | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"}


def _namespaces() -> Iterator[netns.Namespace]:
    place = Path("/run/netns")
    if place.is_dir():
        yield from (netns.Namespace(entry.name) for entry in place.iterdir())


def _pids_in(space: netns.Namespace) -> list[int]:
    listed = subprocess.run(
        ["ip", "netns", "pids", space.name], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in listed.stdout.split()]


def _pids_below(group: Path) -> list[int]:
    pids: list[int] = []
    for file in group.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            pids += [int(pid) for pid in file.read_text().split()]
    return pids


def kill_all(pids: Callable[[], list[int]]) -> None:
    """Kill until nobody is left; those that are killed may still be starting others."""

    def gone() -> bool:
        alive = [pid for pid in pids() if not _is_zombie(pid)]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not alive

    _wait(gone, _STOP_WITHIN, lambda: f"processes {pids()} do not die")


def _is_zombie(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"


def _wait(done: Callable[[], bool], within: float, why_not: Callable[[], str]) -> None:
    end = time.monotonic() + within
    while not done():
        if time.monotonic() > end:
            raise EngineFailed(why_not())
        time.sleep(0.05)


if __name__ == "__main__":
    clean_up()
