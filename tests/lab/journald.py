"""
A private systemd-journald for a private Engine: containers can log to it, and be read from it.

In: an Engine that runs. Out: a `Journal` to stop, kill, start, rotate and shrink. It has
a mount namespace of its own (its /run, /var/log and configuration are not the machine's) and
the Engine's network; nothing of the machine's own journal is read or written, the kernel's log
and audit are left alone. It ends with the Engine at the latest. Needs root.

Its socket outlives it, as it does where systemd holds it: what is sent while no journald
runs waits there.
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Self

from tests.lab.engine import Engine, EngineFailed

_WITHIN = 30.0
_PROGRAMS = ("/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald")

_CONFIGURATION = """\
[Journal]
Storage=volatile
RateLimitIntervalSec=0
RuntimeMaxUse={most}
RuntimeMaxFileSize={file}
RuntimeKeepFree=1M
ForwardToSyslog=no
ForwardToWall=no
ReadKMsg=no
Audit=
"""

# Arguments: the directory, then the machine's journald. Only what is mounted here is not the machine's.
_HOLD = """
set -e
place=$0
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
mount --bind "$place/run" /run/systemd/journal
mount --bind "$place/log" /run/log/journal
mount -t tmpfs tmpfs /var/log
mount -t tmpfs tmpfs /etc/systemd
cp "$place/journald.conf" /etc/systemd/journald.conf
mount --bind "$place/machine-id" /etc/machine-id
echo ready; exec cat >/dev/null
"""

# In the Engine's own mount namespace: it sends to and reads from that journal, and no other.
_SHOW = """
set -e
place=$0
for each in /run/systemd /run/log /var/log/journal; do
    if [ "$each" != /var/log/journal ]; then mkdir -p $each; fi
    if [ -d $each ]; then mount -t tmpfs tmpfs $each; fi
done
mkdir -p /run/systemd/journal /run/log/journal
mount --bind "$place/run" /run/systemd/journal
mount --bind "$place/log" /run/log/journal
"""

# journald knows a socket that it is given by the very path that it was bound to.
_BIND = """
import socket
made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
made.bind("/run/systemd/journal/socket")
made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
socket.send_fds(socket.socket(fileno=0), [b"."], [made.fileno()])
"""
_RUN = 'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0"'


class Journal:
    """The journal of a private Engine; use it as a context manager, before containers start."""

    def __init__(self, engine: Engine, *, most: str = "200M", file: str = "32M") -> None:
        """Keep at most so much, in files of at most so much."""
        self.engine = engine
        self.place = engine.root / "journal"
        self._most, self._file = most, file
        self._holder: subprocess.Popen[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        for part in ("run", "log"):
            (self.place / part).mkdir(parents=True)
        (self.place / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        text = _CONFIGURATION.format(most=self._most, file=self._file)
        (self.place / "journald.conf").write_text(text)
        try:
            self._hold()
            self._show()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._process, self._holder):
            if process is not None:
                process.kill()
                process.communicate()
        if self._socket is not None:
            self._socket.close()
        with contextlib.suppress(EngineFailed):
            self._hide()
        shutil.rmtree(self.place, ignore_errors=True)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start journald; what was sent since it ended it takes now."""
        with (self.place / "journald.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._inside(), "sh", "-c", _RUN, _program()],
                stdin=self._socket,
                stdout=log,
                stderr=log,
            )
        ready = self.place / "run/stdout"  # the last socket that it makes before it reads
        end = time.monotonic() + _WITHIN
        while not ready.exists():
            if not self.running or time.monotonic() > end:
                said = (self.place / "journald.log").read_text(errors="replace")
                raise EngineFailed(f"no journald for {self.engine.slot}:\n{said[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop journald as systemd does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill journald without warning."""
        self._end(signal.SIGKILL)

    def send(self, which: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(which)

    def rotate(self) -> None:
        """Have it begin new files."""
        before = self.files()
        self.send(signal.SIGUSR2)
        end = time.monotonic() + _WITHIN
        while self.files() == before:
            if time.monotonic() > end:
                raise EngineFailed("journald does not rotate")
            time.sleep(0.02)

    def vacuum(self) -> None:
        """Remove all files that are not being written."""
        command = ("journalctl", "--directory=/run/log/journal", "--vacuum-size=1")
        subprocess.run(
            [*self._inside(), *command], check=True, capture_output=True, timeout=_WITHIN
        )

    def files(self) -> list[str]:
        """Name the journal's files."""
        return sorted(file.name for file in self.place.glob("log/*/*.journal"))

    def _hold(self) -> None:
        unshare = ("unshare", "--mount", "--propagation", "private")
        self._holder = subprocess.Popen(
            self.engine.space.command(*unshare, "sh", "-c", _HOLD, str(self.place)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise EngineFailed("no mount namespace for a journal")
        here, there = socket.socketpair()
        with here, there:
            command = [*self._inside(), sys.executable, "-c", _BIND]
            subprocess.run(command, stdin=there, check=True, timeout=_WITHIN)
            _, (descriptor,), _, _ = socket.recv_fds(here, 1, 1)
        self._socket = socket.socket(fileno=descriptor)

    def _show(self) -> None:
        self._within_engine("sh", "-c", _SHOW, str(self.place))

    def _hide(self) -> None:
        if self.engine.holds:
            hidden = ("/run/systemd", "/run/log", "/var/log/journal")
            self._within_engine("umount", "--lazy", "--recursive", *hidden, check=False)

    def _within_engine(self, *command: str, check: bool = True) -> None:
        done = subprocess.run(
            [*self.engine.inside(), *command], capture_output=True, text=True, timeout=_WITHIN
        )
        if check and done.returncode:
            raise EngineFailed(f"{' '.join(command)}: {done.stderr}")

    def _inside(self) -> list[str]:
        assert self._holder is not None
        return ["nsenter", f"--target={self._holder.pid}", "--net", "--mount", "--wd=/", "--"]

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self.send(how)
        self._process.wait(_WITHIN)
        (self.place / "run/stdout").unlink(missing_ok=True)


def _program() -> str:
    found = next((program for program in _PROGRAMS if Path(program).exists()), None)
    if found is None:
        raise EngineFailed(
            "systemd-journald is not there; run: python3 -m tests.lab.machine install"
        )
    return found
