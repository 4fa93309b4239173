"""
A private Podman that serves Docker's API, with the same face as a private Docker Engine.

In: nothing. Out: a `Podman` to start, stop, kill and clean up; Docker's command
line and `Engine`'s methods work on it. The service is a process that may come and
go: containers run on without it, and their monitors (conmon) go on writing logs.
Needs root.
"""

import contextlib
import subprocess
from pathlib import Path
from typing import Self

from tests.lab.engine import Engine, kill_all
from tests.lab.tree import podman_5

# Of what Podman would choose by itself this depends on nothing that the machine is or lacks:
# no systemd for cgroups, events and logs, no overlay file system, no wide limits.
_CONFIGURATION = """\
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
stop_timeout = 2

[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"

[network]
network_config_dir = "{root}/networks"
"""


class Podman(Engine):
    """A private `podman system service`. Make one with `claim`; use it as a context manager."""

    kind = "podman"
    program = "podman"
    networks = frozenset({"podman", "bridge", "host", "none"})

    @classmethod
    def claim(cls, kind: str = kind, *, tree: Path | None = None) -> Self:
        """Take a free slot, cleared of what a crashed run left there; by default Podman 5.4."""
        return super().claim(kind, tree=tree or podman_5())

    def remove_containers(self) -> None:
        """Remove all containers, and the networks and volumes that users made."""
        command = [*self.podman(), "rm", "--all", "--force", "--time=0", "--volumes"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        super().remove_containers()

    def clean(self) -> None:
        """Remove every trace, also the empty control groups that Podman leaves."""
        # First: the service's main thread may have got stuck in a container's network
        # namespace, and is then in none that is ours.
        kill_all(self._pids)
        super().clean()
        for group in _groups("libpod_parent/conmon"):
            for directory in (group, group.parent):  # other Podmans' too
                with contextlib.suppress(OSError):
                    directory.rmdir()

    def podman(self) -> list[str]:
        """Return how a command line of Podman's own begins: `[*podman(), "run", ...]`."""
        return [*self.inside(), *self._podman()]

    def _pids(self) -> list[int]:
        """Find the service and the monitors, by the storage that they are told to use."""
        pids, mine = [], str(self.root / "storage").encode()
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if mine in place.read_bytes().split(b"\0"):
                    pids.append(int(place.parent.name))
        return pids

    def _podman(self) -> list[str]:
        configuration = self.root / "containers.conf"
        configuration.write_text(_CONFIGURATION.format(root=self.root))
        return [
            # nsenter's working directory is outside of the tree, where conmon cannot tell it
            *("env", "--chdir=/", f"CONTAINERS_CONF={configuration}", "/usr/bin/podman"),
            *("--root", str(self.root / "storage"), "--runroot", str(self.root / "run")),
            *("--tmpdir", str(self.root / "tmp"), "--storage-driver", "vfs"),
        ]

    def _command(self) -> list[str]:
        return [*self._podman(), "system", "service", "--time", "0", self.host]

    def _cgroups(self) -> list[Path]:
        # Podman puts all containers of the machine into one group; those here are told by id.
        ids = [place.name for place in self.root.glob("storage/vfs-containers/*/")]
        return [group for id_ in ids for group in _groups(f"libpod_parent/libpod-{id_}")]


def _groups(path: str) -> list[Path]:
    tree = Path("/sys/fs/cgroup")
    return [*tree.glob(path), *tree.glob(f"*/{path}")]
