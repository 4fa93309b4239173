"""
CrowdSec itself, to compare with: unpacked at test time, never installed, never in this repository.

In: the machine's own apt, and a directory to run in. Out: an agent that replays a file with the
parsers and scenarios that the package enables, beside a local API of its own (a replay is refused
without one). It must be started where no network can be reached.
"""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import machine

_HUB = ("blockers", "collections", "parsers", "postoverflows", "scenarios", ".index.json")
_PORT = 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdSec:
    """A configuration of its own in a directory, ready to run."""

    program: Path
    etc: Path

    def replay(self, log: Path, kind: str) -> list[str]:
        """Return the command that reads a file to its end; `kind` is `syslog`, `nginx`, ..."""
        told = ["-c", f"{self.etc}/config.yaml", "-no-api"]
        return [str(self.program), *told, "-dsn", f"file://{log}", "-type", kind]

    @contextmanager
    def api(self) -> Iterator[None]:
        """Run the API that an agent reports to."""
        with (self.etc.parent / "api.log").open("wb") as output:
            command = [self.program, "-c", self.etc / "config.yaml", "-no-cs"]
            process = subprocess.Popen(command, stdout=output, stderr=output)
            try:
                self._wait(process)
                yield
            finally:
                process.terminate()
                process.wait(30)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", _PORT), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        log = (self.etc.parent / "api.log").read_text()
        raise RuntimeError(f"CrowdSec's API did not start: {log[-500:]}")


def version(program: Path) -> str:
    """Return what a program says it is."""
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=True)
    found = re.search(r"version: v([\d.]+)", said.stdout + said.stderr)
    return found[1] if found else "unknown"


def package() -> Path:
    """Return the distribution's package, unpacked in the lab's cache; its scripts are in `DEBIAN`."""
    return machine.unpacked("crowdsec", "--raw-extract")


def set_up(directory: Path) -> CrowdSec:
    """
    Make what the package's own script makes, in a directory: the offline hub, three collections.

    One thing is mended: a list that a scenario asks for is shipped by another name, and 18 KB about
    that would be logged for each line of nginx's.
    """
    root = package()
    shared = root / "usr/share/crowdsec"
    etc, hub, data = directory / "etc", directory / "hub", directory / "data"
    shutil.copytree(root / "etc/crowdsec", etc)
    shutil.copytree(shared / "data", data)
    shutil.copy(data / "path_traversal.txt", data / "http_path_traversal.txt")
    hub.mkdir()
    for name in _HUB:
        (hub / name).symlink_to(shared / "hub" / name)
    script = (root / "DEBIAN/postinst").read_text()
    (items,) = re.findall(r"UPSTREAM_ITEMS=\$\(cat <<EOF\n(.*?)\nEOF", script, re.DOTALL)
    for item in items.split():
        path = Path(item)
        link = etc / path.parent.parent / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(hub / item)
    (etc / "online_api_credentials.yaml").write_text("# none\n")
    settings = (etc / "config.yaml").read_text()
    for old, new in (
        ("/etc/crowdsec/", f"{etc}/"),
        ("/var/lib/crowdsec/data/", f"{data}/"),
        ("/var/lib/crowdsec/hub/", f"{hub}/"),
        ("/var/log/", f"{directory}/"),
        ("daemonize: true", "daemonize: false"),
        ("log_media: file", "log_media: stdout"),
        ("prometheus:\n  enabled: true", "prometheus:\n  enabled: false"),
    ):
        settings = settings.replace(old, new)
    (etc / "config.yaml").write_text(settings)
    credentials = etc / "local_api_credentials.yaml"
    subprocess.run(
        [
            *(root / "usr/bin/cscli", "-c", etc / "config.yaml", "machines", "add", "bench"),
            *("--password", "bench", "--force", "-f", credentials),
            *("-u", f"http://127.0.0.1:{_PORT}"),
        ],
        check=True,
        capture_output=True,
    )
    return CrowdSec(program=root / "usr/bin/crowdsec", etc=etc)
