"""
Where the database stands: its directory, the file, and what can be told of it from outside.

In: a path. Out: a directory and a file that are their user's alone, and whether the file is one of ours.
A database that somebody takes away while it is in use is written to `PATH.saved`, from where the
next start puts it back. Nothing here opens it as a database.
"""

import errno
import os
from pathlib import Path

from dockerjail.errors import StoreError
from dockerjail.store.migrate import APPLICATION_ID


def prepare(path: Path) -> Path:
    """Make the directory; return the real path, so that every name meets the same lock."""
    path = path.resolve()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _is_mounted_alone(path):
        raise StoreError(
            f"{path}: is mounted as a single file, so the journal beside it would be lost "
            "with the container; mount its directory instead"
        )
    return path


def _is_mounted_alone(path: Path) -> bool:
    """Say whether `path` itself is a mount point (`-v state.db:/data/state.db`)."""
    # As the kernel writes it (proc(5)).
    point = os.fsencode(path).replace(b"\\", b"\\134")
    for character in b" ", b"\t", b"\n":
        point = point.replace(character, b"\\%03o" % ord(character))
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes()
    except FileNotFoundError:
        return False
    return any(line.split(b" ")[4] == point for line in mounts.splitlines())


def create(path: Path) -> None:
    """
    Create the file, readable by its user only, or make sure that it can be written.

    Only before the first connection: closing any descriptor of the file drops
    the locks that SQLite holds on it in this process (fcntl(2)).
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def saved(path: Path) -> Path:
    """Return where a database is written to that was taken away."""
    return path.with_name(f"{path.name}.saved")


def saving(path: Path) -> Path:
    """Return an empty file to write that database to, until it is whole."""
    discard_half(path)
    create(_half(path))
    return _half(path)


def discard_half(path: Path) -> None:
    """Delete a database that was not written to its end."""
    _half(path).unlink(missing_ok=True)


def save(path: Path) -> None:
    """Have what was written to `saving` survive a power cut, under the name of a whole one."""
    half = _half(path)
    descriptor = os.open(half, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    half.rename(saved(path))


def _half(path: Path) -> Path:
    return path.with_name(f"{path.name}.saving")


def put_back(path: Path) -> None:
    """Put a saved database where it belongs."""
    saved(path).rename(path)


def discard_journal(path: Path) -> None:
    """Delete the journal of a database that was taken away: any other would believe it."""
    for journal in ("-wal", "-shm"):
        path.with_name(f"{path.name}{journal}").unlink(missing_ok=True)


def is_marked(path: Path) -> bool:
    """Say whether a header names dockerjail, whatever else of the file is damaged."""
    try:
        with path.open("rb") as file:
            return file.read(100)[68:72] == APPLICATION_ID.to_bytes(4, "big")
    except FileNotFoundError:
        return False


def size_of(path: Path) -> int | None:
    """Return how many bytes a file has, None if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def inode_of(path: Path) -> int:
    """Return which file stands there, 0 if there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
