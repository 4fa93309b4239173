"""
What SQLite and the system say when they refuse, in words that an operator can act on.

In: their error, and what was attempted on which file. Out: the `StoreError` that says whether trying
again may help, and what to do. Looks at the file system for whether it is full, and at nothing else.
"""

import errno
import os
import sqlite3
from pathlib import Path

from dockerjail.errors import StoreDamaged, StoreError, StoreUnavailable

_WRITABLE = "mount its directory writable and give dockerjail the right to write there"
ELSEWHERE = "or give another [store] path"

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""What says that the file is not as it was written."""

_PASSING = frozenset(
    {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
    }
)
"""What may be over when it is tried again."""

_SQLITE_SAYS = {
    sqlite3.SQLITE_NOTADB: (
        "it is not a SQLite database",
        f"move it away {ELSEWHERE}",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the database is damaged",
        "put a backup in its place, or move it away (sqlite3's `.recover` may save the rest)",
    ),
    sqlite3.SQLITE_NOMEM: (
        "there is no memory left",
        "give dockerjail more memory",
    ),
    sqlite3.SQLITE_READONLY: ("it is read-only", f"{_WRITABLE}, {ELSEWHERE}"),
    sqlite3.SQLITE_PERM: ("dockerjail has no right to do so", f"{_WRITABLE}, {ELSEWHERE}"),
    sqlite3.SQLITE_CANTOPEN: (
        "it, or its -wal and -shm files, cannot be opened",
        f"{_WRITABLE}, {ELSEWHERE}",
    ),
    sqlite3.SQLITE_FULL: (
        "the disk is full",
        f"make room on its file system {ELSEWHERE}",
    ),
    sqlite3.SQLITE_BUSY: (
        "another process has locked it",
        "end the sqlite3 shell or the backup that holds it",
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk reports an error",
        "look at the disk, its free space and the system's log",
    ),
}

_SYSTEM_SAYS = {
    errno.EROFS: ("it is on a read-only file system", f"{_WRITABLE}, {ELSEWHERE}"),
    errno.EACCES: ("dockerjail has no right to do so", f"{_WRITABLE}, {ELSEWHERE}"),
    errno.EPERM: ("dockerjail has no right to do so", f"{_WRITABLE}, {ELSEWHERE}"),
    errno.ENOSPC: ("the disk is full", f"make room on its file system {ELSEWHERE}"),
    errno.EDQUOT: ("the disk quota is used up", f"raise it {ELSEWHERE}"),
    errno.EISDIR: ("it is a directory", "give a file in it as [store] path"),
    errno.ENOTDIR: ("a part of the path is a file", "give another [store] path"),
    errno.EEXIST: ("a part of the path is a file", "give another [store] path"),
}


def refusal(path: Path, attempt: str, error: sqlite3.Error | OSError) -> StoreError:
    """Return what to raise instead of `error`: it came when somebody wanted to `attempt` on `path`."""
    detail = "; ".join([str(error), *getattr(error, "__notes__", ())])

    def told(what: str) -> str:
        return f"{path}: cannot {attempt}: {what} ({detail})"

    if isinstance(error, OSError):
        what, remedy = _SYSTEM_SAYS.get(
            error.errno or 0, ("the system refused", "give another [store] path")
        )
        return StoreUnavailable(told(what), remedy)
    # The module's own errors have no code; the lower byte is the family.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if not code and "decode" in str(error):  # text that nobody ever wrote
        code = sqlite3.SQLITE_CORRUPT
    if code == sqlite3.SQLITE_IOERR and _is_full(path):
        code = sqlite3.SQLITE_FULL  # it could not make room for what others are to see
    what, remedy = _SQLITE_SAYS.get(code, ("SQLite refused", "please report this"))
    if code in _DAMAGE:
        return StoreDamaged(told(what), remedy)
    if code in _PASSING:
        return StoreUnavailable(told(what), remedy)
    return StoreError(f"{told(what)}; {remedy}")


def _is_full(path: Path) -> bool:
    """Say whether the file system of a file has no room left."""
    try:
        system = os.statvfs(path.parent)
    except OSError:
        return False
    return system.f_blocks > 0 and system.f_bavail == 0
