"""
The file beside the database that keeps every other dockerjail off it, and remembers what it is.

In: the database's path. Out: a lock that the kernel ends with the process, and some lines: who
holds it; that the database was dockerjail's (so that garbage there now is damage, and not a
user's wrong path); that it is in use (so that a file that is missing was taken away meanwhile, and
is not one that a user did away with after a stop); that it was lost, until the bans in the kernel were
taken over; and when it was last taken away.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from dockerjail.errors import StoreError

_OURS: Final = "its database is dockerjail's"
_USED: Final = "it is in use"
_LOST: Final = "lost: "
_TAKEN: Final = "taken away: "
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """That a database was set aside, why, and under what name beside it; empty if it is gone."""

    why: str
    aside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """
    That a database was taken away while it was in use, and when that was made good.

    `whole`: it was written anew with all that it held. `aside` is the name that what stood in its place got, if anything did.
    """

    at: float
    whole: bool
    aside: str = ""


class Lock:
    """What the lock's file says; each change is on disk when it returns."""

    def __init__(self, descriptor: int, said: str) -> None:
        self._descriptor = descriptor
        lines = said.splitlines()
        self.ours = _OURS in lines
        self.used = _USED in lines
        """Whether the process before ended without a word, or this one uses it."""
        self.loss = next((_loss(line) for line in lines if line.startswith(_LOST)), None)
        self.taken = next((_taken(line) for line in lines if line.startswith(_TAKEN)), None)
        self._mine = False

    def own(self) -> None:
        """Take note that the database is dockerjail's, and in use from now on."""
        self.ours = self.used = self._mine = True
        self.write()

    def leave(self) -> None:
        """Take note that it is in use no more, if it was by this process."""
        if self._mine:
            self.used = self._mine = False
            with suppress(
                OSError
            ):  # of a disk that is broken: then the next start takes it for in use
                self.write()

    def take(self, taken: Taken) -> None:
        """Take note that it was taken away, to be told of."""
        self.taken = taken
        self.write()

    def lose(self, loss: Loss | None) -> None:
        """Take note that the database was lost, or that this is over."""
        self.loss = loss
        self.write()

    def write(self) -> None:
        """Write who holds the lock, and what is known."""
        lines = [f"process {os.getpid()} on {socket.gethostname()}"]
        if self.ours:
            lines.append(_OURS)
        if self.used:
            lines.append(_USED)
        if self.taken is not None:
            lines.append(_TAKEN + json.dumps(asdict(self.taken)))
        if self.loss is not None:
            told = {"why": self.loss.why, "aside": self.loss.aside}
            lines.append(_LOST + json.dumps(told))
        data = "".join(f"{line}\n" for line in lines).encode()
        os.pwrite(self._descriptor, data, 0)
        os.ftruncate(self._descriptor, len(data))
        os.fsync(self._descriptor)


@contextmanager
def only_user(path: Path, remedy: str) -> Iterator[Lock]:
    """
    Keep every other dockerjail off the database `path`; raises `StoreError` if one is there.

    The lock's file stays: removing it would let two processes each lock a file of that name.
    """
    lock = path.with_name(f"{path.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        said = os.pread(descriptor, _LONGEST, 0).decode("utf-8", "replace")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = said.partition("\n")[0][:200] or "just starting"
            raise StoreError(
                f"{path}: another dockerjail is running on it ({holder}); stop that one {remedy}"
            ) from None
        found = Lock(descriptor, os.pread(descriptor, _LONGEST, 0).decode("utf-8", "replace"))
        found.write()
        yield found
    finally:
        os.close(descriptor)


def _taken(line: str) -> Taken | None:
    """Read what `write` wrote; one that cannot be read is not told of."""
    try:
        told = json.loads(line.removeprefix(_TAKEN))
        return Taken(at=float(told["at"]), whole=bool(told["whole"]), aside=str(told["aside"]))
    except (ValueError, TypeError, LookupError):
        return None


def _loss(line: str) -> Loss:
    """Read what `write` wrote; a line cut off by a full disk still says that there was a loss."""
    try:
        told = json.loads(line.removeprefix(_LOST))
        return Loss(why=str(told["why"]), aside=str(told["aside"]))
    except (ValueError, TypeError, LookupError):
        return Loss(why="the database was damaged")
