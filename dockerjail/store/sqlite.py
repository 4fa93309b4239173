"""
The door to SQLite: bans, failures, allowances and cursors in one file.

In come entries in the order they happened and the cursors behind them; both are
on disk together or not at all. Out go the state for a start, and answers for the
operator. Nothing here knows what time it is: `now` comes in.

One connection writes, another reads, so a long answer never delays a ban. The
journal is a WAL with `synchronous=NORMAL`: a killed process loses nothing, a
power cut may lose the last moments, cursors with failures, which are then read
from the logs again. Each connection has its thread; the event loop never waits.
"""

import asyncio
import errno
import fcntl
import json
import os
import socket
import sqlite3
from collections.abc import (
    AsyncIterator,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiosqlite

from dockerjail.errors import StoreError
from dockerjail.model import (
    Allowance,
    Ban,
    Cursor,
    Direct,
    Failure,
    Stream,
    Subject,
)
from dockerjail.ports import (
    BanRecord,
    CursorKey,
    Entry,
    History,
    State,
)
from dockerjail.store.migrate import examine, migrate, shipped
from dockerjail.store.rows import (
    SELECT_BAN,
    SELECT_FAILURE,
    WRITE_CURSOR,
    ban_record,
    failure,
    statements,
)

_OLDEST_SQLITE = (3, 37, 0)
"""The first with STRICT tables."""

_PURGE_STEP = 500
"""Rows that one transaction of a purge deletes: what a ban may have to wait for."""

_VACUUM_STEP = 256
"""Pages that one transaction gives back to the file system."""

_SPARE_PAGES = 1024
"""Free pages that stay in the file: those of a steady purge are soon used again."""

_JOURNAL_LIMIT = 64 * 1024 * 1024
"""Bytes of journal kept once a long reader has let it grow."""

_PURGE = (
    # What led to no ban. `:counting` is the moment before which no window looks.
    """
    DELETE FROM failure WHERE id IN (
        SELECT id FROM failure
        WHERE ban IS NULL AND at < :forgotten AND (spent = 1 OR at < :counting)
        ORDER BY at LIMIT :step)
    """,
    # What led to a ban goes when the ban goes, and before it.
    """
    DELETE FROM failure WHERE id IN (
        SELECT failure.id FROM ban JOIN failure ON failure.ban = ban.id
        WHERE coalesce(ban.ended_at, ban.until) < :forgotten LIMIT :step)
    """,
    """
    DELETE FROM ban WHERE id IN (
        SELECT id FROM ban
        WHERE coalesce(ended_at, until) < :forgotten
            AND NOT EXISTS (SELECT 1 FROM failure WHERE failure.ban = ban.id)
        LIMIT :step)
    """,
    """
    DELETE FROM allowance WHERE who IN (
        SELECT who FROM allowance WHERE until <= :now LIMIT :step)
    """,
)

_WRITABLE = "mount its directory writable and give dockerjail the right to write there"
_ELSEWHERE = "or give another [store] path"

_SQLITE_SAYS = {
    sqlite3.SQLITE_NOTADB: (
        "it is not a SQLite database",
        f"move it away {_ELSEWHERE}",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the database is damaged",
        "put a backup in its place, or move it away (sqlite3's `.recover` may save the rest)",
    ),
    sqlite3.SQLITE_READONLY: ("it is read-only", f"{_WRITABLE}, {_ELSEWHERE}"),
    sqlite3.SQLITE_PERM: ("dockerjail has no right to do so", f"{_WRITABLE}, {_ELSEWHERE}"),
    sqlite3.SQLITE_CANTOPEN: (
        "it, or its -wal and -shm files, cannot be opened",
        f"{_WRITABLE}, {_ELSEWHERE}",
    ),
    sqlite3.SQLITE_FULL: (
        "the disk is full",
        f"make room on its file system {_ELSEWHERE}",
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
    errno.EROFS: ("it is on a read-only file system", f"{_WRITABLE}, {_ELSEWHERE}"),
    errno.EACCES: ("dockerjail has no right to do so", f"{_WRITABLE}, {_ELSEWHERE}"),
    errno.EPERM: ("dockerjail has no right to do so", f"{_WRITABLE}, {_ELSEWHERE}"),
    errno.ENOSPC: ("the disk is full", f"make room on its file system {_ELSEWHERE}"),
    errno.EDQUOT: ("the disk quota is used up", f"raise it {_ELSEWHERE}"),
    errno.EISDIR: ("it is a directory", "give a file in it as [store] path"),
    errno.ENOTDIR: ("a part of the path is a file", "give another [store] path"),
    errno.EEXIST: ("a part of the path is a file", "give another [store] path"),
}


class SqliteStore:
    """
    The `Store` in a SQLite file; an async context manager.

    `path` is created if need be, its directory too (0700, the file 0600: log
    lines are private). `keep` is for how many seconds history is kept, and so
    how long an earlier ban counts for a longer one. `busy_timeout` is for how
    many seconds a write waits for another process. Every method raises
    `StoreError` and nothing else; nothing was written then.
    """

    def __init__(self, path: Path, *, keep: float, busy_timeout: float = 5.0) -> None:
        self._path = path
        self._keep = keep
        self._busy_timeout = busy_timeout
        self._findtime = float("inf")
        self._writing = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """
        Take the file for this process alone, and bring its tables up to date.

        Others may read it all the while.
        """
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise StoreError(
                f"SQLite {sqlite3.sqlite_version} is too old for the store: "
                f"run dockerjail where there is {'.'.join(map(str, _OLDEST_SQLITE))} or newer"
            )
        async with AsyncExitStack() as stack:
            with self._saying("open it"):
                path = _prepare(self._path)
                stack.enter_context(_only_user(path))
                _create(path)
                writer = await stack.enter_async_context(self._connect(path))
                migrations = shipped()
                # Before anything is set, which would write to a file that is not ours.
                await examine(writer, migrations, path=self._path)
                await self._set_up(writer)
            with self._saying("bring its tables up to date"):
                await migrate(writer, migrations, path=self._path)
                await writer.execute_fetchall("PRAGMA foreign_keys = ON")
            with self._saying("open it for reading"):
                reader = await stack.enter_async_context(self._connect(path))
                await reader.execute_fetchall("PRAGMA query_only = ON")
            self._writer, self._reader = writer, reader
            self._stack = stack.pop_all()

    async def close(self) -> None:
        """Let go of the file; a store that is not open is left as it is."""
        self._writer = self._reader = None
        with self._saying("close it"):
            await self._stack.aclose()

    async def load(self, *, now: float, findtime: float) -> State:
        """See `Store.load`."""
        self._findtime = findtime
        # Nobody writes meanwhile, so the six answers fit together. `+id` sorts what
        # an index found; plain `id` would make SQLite walk through all of history.
        async with self._writing:
            bans = await self._bans(
                "WHERE ended_at IS NULL AND (until IS NULL OR until > ?) ORDER BY +id", now
            )
            failures = await self._failures(
                "WHERE ban IS NULL AND spent = 0 AND at > ? ORDER BY +id", now - findtime
            )
            cursors = await self._read("SELECT container, stream, ns, seen FROM cursor")
            last = await self._read("SELECT seq FROM sqlite_sequence WHERE name = 'ban'")
            allowances = await self._read(
                "SELECT who, at, until, comment FROM allowance"
                " WHERE until IS NULL OR until > ? ORDER BY at, who",
                now,
            )
            guarded = await self._read("SELECT device, address FROM guarded")
        with self._decoding():
            return State(
                bans=[record.ban for record in bans],
                failures=failures,
                cursors={(row[0], Stream(row[1])): Cursor(*row[2:]) for row in cursors},
                next_ban=last[0][0] + 1 if last else 1,
                allowances=[
                    Allowance(who=who, at=at, until=until, comment=comment)
                    for who, at, until, comment in allowances
                ],
                direct=frozenset(Direct(device, ip_address(text)) for device, text in guarded),
            )

    async def record(
        self,
        entries: Sequence[Entry],
        cursors: Mapping[CursorKey, Cursor],
        *,
        gone: Collection[str] = (),
    ) -> None:
        """See `Store.record`."""
        work = [*statements(entries)]
        if cursors:
            rows = [(id_, int(stream), *cursor) for (id_, stream), cursor in cursors.items()]
            work.append((WRITE_CURSOR, rows))
        if gone:
            ids = [(id_,) for id_ in gone]
            work.append(("DELETE FROM cursor WHERE container = ?", ids))
        if not work:
            return
        with self._saying("write failures, bans and cursors"):
            async with self._transaction() as db:
                for sql, parameters in work:
                    await db.executemany(sql, parameters)

    async def bans_against(
        self, subject: Subject, *, since: float, limit: int = 1000
    ) -> Sequence[Ban]:
        """See `Store.bans_against`."""
        records = await self._bans(
            "WHERE subject = ? AND at >= ? ORDER BY at DESC, id DESC LIMIT ?",
            str(subject),
            since,
            limit,
        )
        return [record.ban for record in records]

    async def totals(self) -> Mapping[str, tuple[int, int]]:
        """See `Store.totals`."""
        rows = await self._read("SELECT jail, failures, bans FROM total ORDER BY jail")
        return {jail: (failures, bans) for jail, failures, bans in rows}

    async def evidence(self, ban: int) -> Sequence[Failure]:
        """See `Store.evidence`."""
        return await self._failures("WHERE ban = ? ORDER BY at, id", ban)

    async def bans_of(self, jail: str, *, limit: int = 100) -> Sequence[BanRecord]:
        """See `Store.bans_of`."""
        return await self._bans("WHERE jail = ? ORDER BY id DESC LIMIT ?", jail, limit)

    async def last_failures(self, jail: str, *, limit: int = 100) -> Sequence[Failure]:
        """See `Store.last_failures`."""
        return await self._failures("WHERE jail = ? ORDER BY id DESC LIMIT ?", jail, limit)

    async def history(self, subject: Subject, *, limit: int = 100) -> History:
        """See `Store.history`."""
        around = [str(subject.supernet(new_prefix=n)) for n in range(subject.prefixlen + 1)]
        # By the index on each; SQLite has a limit on `?`, not on the length of a list.
        where = "WHERE subject IN (SELECT value FROM json_each(?)) ORDER BY id DESC LIMIT ?"
        return History(
            bans=await self._bans(where, json.dumps(around), limit),
            failures=await self._failures(where, json.dumps(around), limit),
        )

    async def purge(self, now: float) -> int:
        """
        See `Store.purge`.

        Works in small transactions, between which others get their turn. Before
        `load` has said how far back windows look, every failure still counts.
        """
        forgotten = now - self._keep
        limits = {
            "forgotten": forgotten,
            "counting": min(forgotten, now - self._findtime),
            "now": now,
            "step": _PURGE_STEP,
        }
        purged = 0
        with self._saying("purge old history"):
            for sql in _PURGE:
                while rows := await self._purge_step(sql, limits):
                    purged += rows
            while await self._free_pages() > _SPARE_PAGES:
                async with self._transaction() as db:
                    await db.execute_fetchall(f"PRAGMA incremental_vacuum({_VACUUM_STEP})")
        return purged

    async def _purge_step(self, sql: str, limits: Mapping[str, float]) -> int:
        async with self._transaction() as db, db.execute(sql, limits) as cursor:
            return cursor.rowcount

    async def _free_pages(self) -> int:
        ((pages,),) = await self._read("PRAGMA freelist_count")
        return int(pages)

    def _connect(self, path: Path) -> aiosqlite.Connection:
        """Make a connection in autocommit mode: transactions are begun by name."""
        return aiosqlite.connect(path, timeout=self._busy_timeout, isolation_level=None)

    async def _set_up(self, db: aiosqlite.Connection) -> None:
        """Set what a connection forgets, and what must stand before the first table."""
        await db.execute_fetchall("PRAGMA auto_vacuum = INCREMENTAL")
        ((mode,),) = await db.execute_fetchall("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise StoreError(
                f"{self._path}: its file system cannot share memory, which the journal needs; "
                "give a [store] path on a local disk"
            )
        await db.execute_fetchall("PRAGMA synchronous = NORMAL")
        await db.execute_fetchall(f"PRAGMA journal_size_limit = {_JOURNAL_LIMIT}")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """
        Be the only writer until the end, then commit; undo everything on an error.

        A cancellation too is undone: what was handed to the connection's thread
        runs there in order, so the rollback comes before the next `BEGIN`.
        """
        async with self._writing:
            db = self._opened(self._writer)
            try:
                await db.execute_fetchall("BEGIN IMMEDIATE")
                yield db
                await db.commit()
            except BaseException:
                await db.rollback()
                raise

    async def _bans(self, where: str, *parameters: object) -> Sequence[BanRecord]:
        rows = await self._read(SELECT_BAN + where, *parameters)
        with self._decoding():
            return [ban_record(row) for row in rows]

    async def _failures(self, where: str, *parameters: object) -> Sequence[Failure]:
        rows = await self._read(SELECT_FAILURE + where, *parameters)
        with self._decoding():
            return [failure(row) for row in rows]

    async def _read(self, sql: str, *parameters: object) -> Sequence[Any]:
        with self._saying("read it"):
            return [*await self._opened(self._reader).execute_fetchall(sql, parameters)]

    def _opened(self, connection: aiosqlite.Connection | None) -> aiosqlite.Connection:
        if connection is None:
            raise StoreError(f"{self._path}: the store is not open")
        return connection

    @contextmanager
    def _saying(self, attempt: str) -> Iterator[None]:
        """Turn what SQLite and the system say into what an operator can act on."""
        try:
            yield
        except sqlite3.Error as error:
            # The module's own errors have no code; the lower byte is the family.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            what, remedy = _SQLITE_SAYS.get(code, ("SQLite refused", "please report this"))
            raise StoreError(self._message(attempt, what, error, remedy)) from error
        except OSError as error:
            what, remedy = _SYSTEM_SAYS.get(
                error.errno or 0, ("the system refused", "give another [store] path")
            )
            raise StoreError(self._message(attempt, what, error, remedy)) from error

    def _message(self, attempt: str, what: str, error: Exception, remedy: str) -> str:
        detail = "; ".join([str(error), *getattr(error, "__notes__", ())])
        return f"{self._path}: cannot {attempt}: {what} ({detail}); {remedy}"

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        """Report a row that somebody else changed into something unreadable."""
        try:
            yield
        except ValueError as error:
            raise StoreError(
                f"{self._path}: a row is not as dockerjail writes it ({error}); "
                "mend it with sqlite3, or move the file away to start empty"
            ) from error


def _prepare(path: Path) -> Path:
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


def _create(path: Path) -> None:
    """
    Create the file, readable by its user only, or make sure that it can be written.

    Only before the first connection: closing any descriptor of the file drops
    the locks that SQLite holds on it in this process (fcntl(2)).
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


@contextmanager
def _only_user(path: Path) -> Iterator[None]:
    """
    Keep every other dockerjail off the file; the kernel ends that with the process.

    The lock is on a file beside it, which stays: removing it would let two
    processes each lock a file of that name.
    """
    lock = path.with_name(f"{path.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            raise StoreError(
                f"{path}: another dockerjail is running on it ({holder or 'just starting'}); "
                f"stop that one {_ELSEWHERE}"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
