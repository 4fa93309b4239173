"""
The door to SQLite: bans, failures, allowances and cursors in one file.

In come entries in the order they happened and the cursors behind them; both are
on disk together or not at all. Out go the state for a start, and answers for the
operator. Nothing here knows what time it is: `now` comes in.

A file that was ours and is damaged is set aside at a start, and a fresh one begun (`loss`);
damage that shows later ends all writing, so that the start which follows does the same. One that is
taken away while it is in use (deleted, moved, replaced) is written anew when it is closed.
Size is bounded as well as age, that of the journal too.

One connection writes, another reads, so a long answer never delays a ban. The
journal is a WAL with `synchronous=NORMAL`: a killed process loses nothing, a
power cut may lose the last moments, cursors with failures, which are then read
from the logs again. Each connection has its thread; the event loop never waits.
"""

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import (
    AsyncIterator,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiosqlite

from dockerjail.errors import StoreDamaged, StoreError, StoreUnavailable
from dockerjail.model import (
    Allowance,
    Ban,
    Cursor,
    Direct,
    Failure,
    Problem,
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
from dockerjail.store.damage import earlier, name_aside, salvage, set_aside, set_aside_at
from dockerjail.store.lock import Lock, Loss, Taken, only_user
from dockerjail.store.migrate import examine, migrate, shipped
from dockerjail.store.place import (
    create,
    discard_half,
    discard_journal,
    inode_of,
    is_marked,
    prepare,
    put_back,
    save,
    saved,
    saving,
    size_of,
)
from dockerjail.store.refusal import ELSEWHERE, refusal
from dockerjail.store.rows import (
    REWIND,
    SELECT_BAN,
    SELECT_FAILURE,
    SELECT_NAMED,
    WRITE_CURSOR,
    ban_record,
    failure,
    named,
    statements,
)

logger = logging.getLogger(__name__)

_OLDEST_SQLITE = (3, 37, 0)
"""The first with STRICT tables."""

_PURGE_STEP = 500
"""Rows that one transaction of a purge deletes: what a ban may have to wait for."""

_FLOOD_STEP = 4000
"""
Rows that one transaction looks at instead when the size is far beyond its bound.

More than a write has, or history would come in faster than it goes.
"""

_LONGEST_ROW = 2048
"""Bytes that hardly any failure takes: so many more rows than `_PURGE_STEP` may go as do not fit."""

_VACUUM_STEP = 256
"""Pages that one transaction gives back to the file system."""

_SPARE_PAGES = 1024
"""Free pages that stay in the file: those of a steady purge are soon used again."""

_CHECKED_WITHIN = 5.0
"""Seconds that a start looks for damage."""

_TOLD_FOR = 86400.0
"""Seconds for which it is told that a database was set aside, or taken away."""

_TAKEN_AWAY = "was moved, deleted or replaced while it was in use"

_CHECKED_MOST = 512 * 1024 * 1024
"""
Bytes from which on a start does not look through the failures.

One call of SQLite's before 3.42 does that, which nobody can end early.
"""

_JOURNAL_LIMIT = 64 * 1024 * 1024
"""Bytes of journal kept once a long reader has let it grow."""

_MOST_LOADED = 200_000
"""
Failures that a start reads: with all that a day of a flood has left, it would not get beyond that.

A quarter of a gigabyte for a moment; windows keep what they can use of it.
"""

_MOST_TOTALS = 10_000
"""Jails whose totals are kept though nothing else is known of them: those with the most."""

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
    """
    DELETE FROM waiting_name WHERE id IN (
        SELECT id FROM waiting_name WHERE at <= :unasked LIMIT :step)
    """,
    # Jails of which nothing else is known any more: containers come with ever new ones.
    f"""
    DELETE FROM total WHERE jail IN (
        SELECT jail FROM total
        WHERE NOT EXISTS (SELECT 1 FROM failure WHERE failure.jail = total.jail)
            AND NOT EXISTS (SELECT 1 FROM ban WHERE ban.jail = total.jail)
        ORDER BY failures + bans
        LIMIT min(:step, max(0, (SELECT count(*) FROM total) - {_MOST_TOTALS})))
    """,  # noqa: S608  # a number of our own
)

_SHRINK = (
    # What counts no more, but for what led to bans in force.
    (
        "failure",
        """
        CASE WHEN ban IS NULL THEN spent = 1 OR at < :counting
        ELSE EXISTS (
            SELECT 1 FROM ban WHERE ban.id = failure.ban AND coalesce(ended_at, until) <= :now)
        END
        """,
    ),
    # Bans last of all history: those who come back are banned for longer because of them.
    (
        "ban",
        """
        coalesce(ended_at, until) <= :now
            AND NOT EXISTS (SELECT 1 FROM failure WHERE failure.ban = ban.id)
        """,
    ),
    ("failure", "spent = 1"),
)
"""What may go when there is too much, in this order; the oldest of each first."""


class SqliteStore:
    """
    The `Store` in a SQLite file; an async context manager.

    `path` is created if need be, its directory too (0700, the file 0600: log
    lines are private). `keep` is for how many seconds history is kept, and so
    how long an earlier ban counts for a longer one; `most` how many bytes the
    database may have, 0 for any number, and its journal once more. `busy_timeout`
    is for how many seconds a write waits for another process. With a reason to `distrust`
    what is there, it is set aside unseen. Every method raises `StoreError` and nothing else;
    nothing was written then.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep: float,
        most: int = 0,
        busy_timeout: float = 5.0,
        distrust: str = "",
    ) -> None:
        self._path = path
        self._keep = keep
        self._most = most
        self._busy_timeout = busy_timeout
        self._distrust = distrust
        self._findtime = float("inf")
        self._writing = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None
        self._lock: Lock | None = None
        self._inode = 0
        self._damage = ""
        self._taken = False
        self._stuck: StoreUnavailable | None = None
        self._overfull = 0
        self._aside: Path | None = None

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
        self._damage, self._taken, self._stuck = "", False, None
        async with AsyncExitStack() as stack:
            with self._saying("open it"):
                path = prepare(self._path)
                lock = stack.enter_context(only_user(path, ELSEWHERE))
                stack.callback(lock.leave)
                discard_half(path)
                if lock.loss is not None and lock.loss.aside and not path.exists():
                    set_aside(path, lock.loss.aside)  # an earlier process did half of it
                put = saved(path).exists()
                if put:
                    self._put_back(path, lock)
                ours = lock.ours or is_marked(path)
                if self._distrust and not put:
                    self._lose(path, lock, self._distrust)
                elif lock.used and not path.exists():
                    self._lose(path, lock, f"{self._path}: {_TAKEN_AWAY}")
                elif lock.ours and size_of(path) == 0:
                    self._lose(path, lock, f"{self._path}: is empty")
            try:
                await self._connect_to(path, stack)
            except StoreDamaged as error:
                if not ours:
                    remedy = f"; {error.remedy}" if error.remedy else ""
                    raise StoreError(f"{error}{remedy}") from error
                with self._saying("set it aside"):
                    self._lose(path, lock, str(error))
                await self._connect_to(path, stack)
            with self._saying("open it"):
                lock.own()
            self._lock, self._distrust = lock, ""
            self._aside = next(iter(earlier(path)), None)
            self._stack = stack.pop_all()

    async def _connect_to(self, path: Path, stack: AsyncExitStack) -> None:
        """Open the connections, with tables up to date; raises `StoreDamaged`."""
        async with AsyncExitStack() as ours:
            with self._saying("open it"):
                create(path)
                writer = await ours.enter_async_context(self._connect(path))
                migrations = shipped()
                # Before anything is set, which would write to a file that is not ours.
                await examine(writer, migrations, path=self._path)
                await self._check(writer, path)
                await self._set_up(writer)
            with self._saying("bring its tables up to date"):
                await migrate(writer, migrations, path=self._path)
                await writer.execute_fetchall("PRAGMA foreign_keys = ON")
            with self._saying("open it for reading"):
                reader = await ours.enter_async_context(self._connect(path))
                await reader.execute_fetchall("PRAGMA query_only = ON")
                self._inode = inode_of(path)
            self._writer, self._reader = writer, reader
            stack.push_async_exit(ours.pop_all())

    async def _check(self, db: aiosqlite.Connection, path: Path) -> None:
        """
        Raise `StoreDamaged` if the tables are; in bounded time, so not always all of them.

        What is not seen here shows when it is read.
        """
        last = "failure"  # the largest by far, and that which bans need least
        tables = await db.execute_fetchall(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            " ORDER BY name = ?",
            (last,),
        )
        end = time.monotonic() + _CHECKED_WITHIN
        await db.set_progress_handler(lambda: time.monotonic() > end, 10_000)
        try:
            for (name,) in tables:
                if name == last and (size_of(path) or 0) > _CHECKED_MOST:
                    break
                found = [
                    str(row[0]) for row in await db.execute_fetchall(f"PRAGMA quick_check({name})")
                ]
                if found != ["ok"]:
                    raise StoreDamaged(f"{self._path}: the database is damaged ({found[0][:200]})")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
                raise
        finally:
            await db.set_progress_handler(lambda: None, 0)

    def _lose(self, path: Path, lock: Lock, why: str) -> None:
        """Set the file aside; what is to be done about that survives a kill from here on."""
        self._damage = ""
        aside = name_aside(path) if path.exists() else ""
        lock.lose(Loss(why=why, aside=aside))
        if aside:
            set_aside(path, aside)
        else:
            lock.take(Taken(at=time.time(), whole=False))
        logger.error(
            "%s; %s; a fresh one is begun with the bans that can be read and those in the kernel",
            why,
            f"it is set aside as {path.with_name(aside)}" if aside else "it is gone",
        )

    def _put_back(self, path: Path, lock: Lock) -> None:
        """Put a database that was taken away back in its place."""
        discard_journal(path)
        aside = name_aside(path) if path.exists() else ""
        if aside:
            set_aside(path, aside)
        lock.take(Taken(at=time.time(), whole=True, aside=aside))
        put_back(path)
        logger.warning("%s: is in place again, with all that it held", self._path)

    @property
    def loss(self) -> Loss | None:
        """Why there is a fresh database in place of another, until `recover` is through."""
        return self._lock.loss if self._lock else None

    async def salvaged(self, now: float) -> Sequence[Entry]:
        """Read what can be read of the database that was lost."""
        if self.loss is None or not self.loss.aside:
            return []
        aside = self._path.resolve().with_name(self.loss.aside)
        with self._saying("read what was set aside"):
            try:
                return await asyncio.to_thread(salvage, aside, now)
            except sqlite3.DatabaseError as error:
                logger.warning("%s: nothing can be read of it: %s", aside, error)
                return []

    async def recover(self, entries: Sequence[Entry]) -> None:
        """Write what is known in spite of the loss, which is over then."""
        for at in range(0, len(entries), _PURGE_STEP):
            await self.record(entries[at : at + _PURGE_STEP], {})
        with self._saying("open it"):
            if self._lock is not None:
                self._lock.lose(None)

    def problems(self) -> Sequence[Problem]:
        """See `Store.problems`."""
        found = [*self._lately_taken(), *self._lately_damaged()]
        if self._is_taken():
            what = f"{self._path}: {_TAKEN_AWAY}"
            remedy = "within half a minute it is written anew; find out what took it away"
            found.append(Problem(place="store", what=what, remedy=remedy))
        elif self._damage:
            remedy = "within half a minute it is set aside, and a fresh one begun"
            found.append(Problem(place="store", what=self._damage, remedy=remedy))
        if self._overfull:
            what = (
                f"{self._path} takes {_mebibytes(self._overfull)}, more than max_size: bans in "
                "force and failures that still count alone do, and are kept"
            )
            remedy = "raise max_size under [store]"
            found.append(Problem(place="store", what=what, remedy=remedy))
        return found

    def _lately_taken(self) -> Iterator[Problem]:
        """Tell for a day that the database was taken away, also after a restart."""
        taken = self._lock.taken if self._lock else None
        if taken is None or not 0 <= time.time() - taken.at < _TOLD_FOR:
            return
        when = datetime.fromtimestamp(taken.at).astimezone()
        healed = (
            f"it was written anew {when:%Y-%m-%d %H:%M:%S}, and nothing is lost"
            if taken.whole
            else f"a fresh one was begun {when:%Y-%m-%d %H:%M:%S}; bans were kept, failures and "
            "unbans may be forgotten"
        )
        other = f"; what stood in its place is now {taken.aside}" if taken.aside else ""
        yield Problem(
            place="store",
            what=f"{self._path}: {_TAKEN_AWAY}; {healed}{other}",
            remedy="find out what took it away; stop dockerjail before its database is moved",
        )

    def _lately_damaged(self) -> Iterator[Problem]:
        """Tell for a day of a database that was set aside, also after a restart."""
        if self._aside is None or not self._aside.exists():
            return
        if self._lock and self._lock.taken and self._lock.taken.aside == self._aside.name:
            return  # that one was not dockerjail's
        at = set_aside_at(self._aside)
        if at is None or not 0 <= time.time() - at < _TOLD_FOR:
            return
        when = datetime.fromtimestamp(at).astimezone()
        yield Problem(
            place="store",
            what=f"{self._path}: the database was damaged, and a fresh one was begun "
            f"{when:%Y-%m-%d %H:%M:%S}; bans were kept, failures and unbans may be forgotten",
            remedy=f"look at the disk and at `dockerjail bans`, then move {self._aside.name} away",
        )

    async def close(self) -> None:
        """Let go of the file; a store that is not open is left as it is."""
        await self._save()
        self._writer = self._reader = None
        with self._saying("close it"):
            await self._stack.aclose()

    async def _save(self) -> None:
        """Write a database that was taken away to where the next start puts it back from."""
        taken = self._taken or (self._is_taken() and not self._damage)
        if self._writer is None or not taken:
            return
        try:
            path = prepare(self._path)
            async with self._writing:
                if self._writer.in_transaction:
                    await self._writer.rollback()
                await self._writer.execute_fetchall("VACUUM INTO ?", (str(saving(path)),))
            save(path)
        except (sqlite3.Error, OSError, StoreError) as error:
            logger.error("%s: was taken away, and cannot be written anew: %s", self._path, error)

    def _is_taken(self) -> bool:
        """Say whether another file, or none, stands where the open one did."""
        try:
            return self._writer is not None and inode_of(self._path) != self._inode
        except OSError:  # of a directory that cannot be read just now
            return False

    async def load(self, *, now: float, findtime: float) -> State:
        """See `Store.load`."""
        self._findtime = findtime
        await self._rewind(now)
        # Nobody writes meanwhile, so the seven answers fit together. `+id` sorts what
        # an index found; plain `id` would make SQLite walk through all of history.
        async with self._writing:
            bans = await self._bans(
                "WHERE ended_at IS NULL AND (until IS NULL OR until > ?) ORDER BY +id", now
            )
            failures = await self._failures(
                "WHERE id IN (SELECT id FROM failure WHERE ban IS NULL AND spent = 0 AND at > ?"
                " ORDER BY +id DESC LIMIT ?) ORDER BY +id",
                now - findtime,
                _MOST_LOADED,
            )
            cursors = await self._read("SELECT container, stream, ns, seen FROM cursor")
            last = await self._read("SELECT seq FROM sqlite_sequence WHERE name = 'ban'")
            allowances = await self._read(
                "SELECT who, at, until, comment FROM allowance"
                " WHERE until IS NULL OR until > ? ORDER BY at, who",
                now,
            )
            guarded = await self._read("SELECT device, address FROM guarded")
            names = await self._read(SELECT_NAMED + "WHERE at > ? ORDER BY id", now - findtime)
        if len(failures) == _MOST_LOADED:
            logger.warning("more failures may count than the newest %d that do", _MOST_LOADED)
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
                names=[*map(named, names)],
            )

    async def _rewind(self, now: float) -> None:
        """Have nothing begin later than `now`."""
        sql = "SELECT EXISTS (SELECT 1 FROM ban WHERE at > ?) OR EXISTS (SELECT 1 FROM allowance WHERE at > ?)"
        ((later,),) = await self._read(sql, now, now)
        if later:
            with self._saying("follow a clock that was set back"):
                async with self._transaction() as db:
                    for each in REWIND:
                        await db.execute(each, {"now": now})

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
        if self._damage:
            raise StoreDamaged(self._damage)
        if self._stuck is not None:
            await self._bound_journal()
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
            "unasked": now - self._findtime,
            "now": now,
            "step": _PURGE_STEP,
        }
        purged = 0
        with self._saying("purge old history"):
            self._must_be_sound()
            for sql in _PURGE:
                while rows := await self._purge_step(sql, limits):
                    purged += rows
            purged += await self._shrink(now)
            while await self._pragma("freelist_count") > _SPARE_PAGES:
                async with self._transaction() as db:
                    await db.execute_fetchall(f"PRAGMA incremental_vacuum({_VACUUM_STEP})")
        await self._bound_journal()
        return purged

    async def _shrink(self, now: float) -> int:
        """Have the oldest history go, kind by kind, until the rest is no more than it may be."""
        shrunk = 0
        for table, condition in _SHRINK:
            after = 0
            while used := await self._excess():
                rows = min(_FLOOD_STEP, max(_PURGE_STEP, (used - self._most) // _LONGEST_ROW))
                last = await self._last_of_step(table, after, rows)
                if last is None:
                    break
                limits = {
                    "after": after,
                    "last": last,
                    "now": now,
                    "counting": now - self._findtime,
                }
                shrunk += await self._purge_step(
                    f"DELETE FROM {table} WHERE id > :after AND id <= :last AND {condition}",  # noqa: S608  # both from `_SHRINK`
                    limits,
                )
                after = last
        overfull = await self._excess()
        if overfull and not self._overfull:
            logger.error("store: what it has to keep alone is larger than max_size")
        self._overfull = overfull
        return shrunk

    async def _excess(self) -> int:
        """Return how many bytes are in use if these are more than may be, else 0."""
        if not self._most:
            return 0
        pages = await self._pragma("page_count") - await self._pragma("freelist_count")
        used = pages * await self._pragma("page_size")
        return used if used > self._most else 0

    async def _last_of_step(self, table: str, after: int, rows: int) -> int | None:
        """Return the last id of those `rows` that a step looks at: it may delete none of them."""
        sql = f"SELECT max(id) FROM (SELECT id FROM {table} WHERE id > ? ORDER BY id LIMIT ?)"  # noqa: S608  # from `_SHRINK`
        ((last,),) = await self._read(sql, after, rows)
        return None if last is None else int(last)

    async def _bound_journal(self) -> None:
        """
        Empty the journal; raises `StoreUnavailable` when it is too large and somebody holds it.

        While another process reads, what is written since stays in the journal, however long.
        """
        with self._saying("empty the journal"):
            async with self._writing:
                db = self._opened(self._writer)
                ((_, frames, emptied),) = await db.execute_fetchall(
                    "PRAGMA wal_checkpoint(PASSIVE)"
                )
        size = frames * await self._pragma("page_size")
        limit = max(self._most, _JOURNAL_LIMIT)
        if not self._most or size <= limit or frames == emptied:
            self._stuck = None
            return
        self._stuck = StoreUnavailable(
            f"{self._path}: another process has been reading it for so long that the journal "
            f"beside it takes {_mebibytes(size)}",
            "end the sqlite3 shell or the backup that reads it",
        )
        raise self._stuck

    def _must_be_sound(self) -> None:
        """Raise `StoreDamaged` if it was seen to be, or somebody has taken the file away."""
        if self._damage:
            raise StoreDamaged(self._damage)
        if self._is_taken():
            self._taken = True
            self._damage = f"{self._path}: {_TAKEN_AWAY}"
            raise StoreDamaged(self._damage)

    async def _purge_step(self, sql: str, limits: Mapping[str, float]) -> int:
        async with self._transaction() as db, db.execute(sql, limits) as cursor:
            return cursor.rowcount

    async def _pragma(self, name: str) -> int:
        ((value,),) = await self._read(f"PRAGMA {name}")
        return int(value)

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
                if db.in_transaction:  # what could not even be undone is by now, or is again
                    await db.rollback()
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
        except (sqlite3.Error, OSError) as error:
            refused = refusal(self._path, attempt, error)
            if isinstance(refused, StoreDamaged):
                self._damage = str(refused)
            raise refused from error

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


def _mebibytes(octets: int) -> str:
    return f"{octets / 1024 / 1024:.0f} MiB"
