import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiosqlite
import pytest

from dockerjail.errors import StoreError
from dockerjail.store.migrate import APPLICATION_ID, Migration, migrate, read, shipped

FIRST = Migration(
    number=1,
    name="0001_first.sql",
    sql=f"PRAGMA application_id = {APPLICATION_ID}; CREATE TABLE a (x INTEGER) STRICT;",
)
SECOND = Migration(
    number=2, name="0002_second.sql", sql="INSERT INTO a VALUES (1); CREATE TABLE b (y INTEGER);"
)
BROKEN = Migration(
    number=2, name="0002_second.sql", sql="INSERT INTO a VALUES (1); CREATE TABLE a (y INTEGER);"
)


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(tmp_path / "state.db", isolation_level=None) as connection:
        yield connection


async def ask(db: aiosqlite.Connection, sql: str) -> Sequence[object]:
    return [row[0] for row in await db.execute_fetchall(sql)]


TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"


async def test_an_empty_database_gets_every_migration(db: aiosqlite.Connection) -> None:
    assert await migrate(db, [FIRST, SECOND], path="state.db") == 0
    assert await ask(db, "PRAGMA user_version") == [2]
    assert await ask(db, "SELECT x FROM a") == [1]


async def test_an_old_database_gets_only_what_it_has_not_had(db: aiosqlite.Connection) -> None:
    await migrate(db, [FIRST], path="state.db")
    await db.execute("INSERT INTO a VALUES (7)")
    assert await migrate(db, [FIRST, SECOND], path="state.db") == 1
    assert await migrate(db, [FIRST, SECOND], path="state.db") == 2
    assert await ask(db, "SELECT x FROM a") == [7, 1]


async def test_a_migration_that_fails_half_way_leaves_no_trace(db: aiosqlite.Connection) -> None:
    await migrate(db, [FIRST], path="state.db")
    with pytest.raises(sqlite3.OperationalError, match="already exists") as caught:
        await migrate(db, [FIRST, BROKEN], path="state.db")
    assert caught.value.__notes__ == ["0002_second.sql"]
    assert await ask(db, "PRAGMA user_version") == [1]
    assert await ask(db, "SELECT x FROM a") == []
    assert await migrate(db, [FIRST, SECOND], path="state.db") == 1


KILLED = """
import asyncio, os, signal, sys, aiosqlite
from dockerjail.store.migrate import Migration, migrate
from tests.unit.test_migrate import FIRST

async def main():
    async with aiosqlite.connect(sys.argv[1], isolation_level=None) as db:
        await migrate(db, [FIRST], path="state.db")
        await db.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
        sql = "CREATE TABLE b (y INTEGER); INSERT INTO a VALUES (1); SELECT die();"
        await migrate(db, [FIRST, Migration(number=2, name="x", sql=sql)], path="state.db")

asyncio.run(main())
"""


def run(code: str, path: Path) -> int:
    return subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
        check=False,
    ).returncode


async def test_a_migration_killed_half_way_leaves_no_trace(
    tmp_path: Path, db: aiosqlite.Connection
) -> None:
    assert run(KILLED, tmp_path / "state.db") == -signal.SIGKILL
    assert await ask(db, "PRAGMA user_version") == [1]
    assert await ask(db, TABLES) == ["a"]
    assert await migrate(db, [FIRST, SECOND], path="state.db") == 1


async def test_a_database_of_a_newer_dockerjail_is_refused(db: aiosqlite.Connection) -> None:
    await migrate(db, [FIRST, SECOND], path="state.db")
    with pytest.raises(
        StoreError,
        match=r"^state\.db: was written by a newer dockerjail \(.*version 2.* 1\): "
        r"upgrade, or give another \[store\] path$",
    ):
        await migrate(db, [FIRST], path="state.db")
    assert await ask(db, TABLES) == ["a", "b"]


async def test_a_database_of_another_program_is_refused(db: aiosqlite.Connection) -> None:
    await db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match=r"another program's database; give another \[store\]"):
        await migrate(db, [FIRST], path="state.db")
    assert await ask(db, TABLES) == ["theirs"]


async def test_the_shipped_migrations_make_a_dockerjail_database(db: aiosqlite.Connection) -> None:
    assert await migrate(db, shipped(), path="state.db") == 0
    assert await ask(db, "PRAGMA application_id") == [APPLICATION_ID]
    assert await migrate(db, shipped(), path="state.db") == len(shipped())
    assert await ask(db, "PRAGMA integrity_check") == ["ok"]


def test_migrations_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "0002_more.sql").write_text("SELECT 2;")
    (tmp_path / "0001_initial.sql").write_text("SELECT 1;")
    (tmp_path / "README.md").write_text("not a migration")
    assert read(tmp_path) == [
        Migration(number=1, name="0001_initial.sql", sql="SELECT 1;"),
        Migration(number=2, name="0002_more.sql", sql="SELECT 2;"),
    ]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["0001_a.sql", "0003_c.sql"], "0003_c.sql stands where 0002 belongs"),
        (["0001_a.sql", "0001_b.sql"], "0001_b.sql stands where 0002 belongs"),
        (["0002_b.sql"], "0002_b.sql stands where 0001 belongs"),
        (["0001_a.sql", "2_b.sql"], "2_b.sql: not a migration's name; write NNNN_what.sql"),
        ([], "no migrations; install dockerjail again, whole"),
    ],
)
def test_a_hole_or_a_strange_name_is_refused(
    tmp_path: Path, names: list[str], complaint: str
) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(StoreError) as caught:
        read(tmp_path)
    assert complaint in str(caught.value)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="install dockerjail again"):
        read(tmp_path / "migrations")


KILLS = """
import asyncio, os, random, shutil, signal, sys, time
from pathlib import Path
import aiosqlite
from dockerjail.store.migrate import migrate, shipped
from tests.unit.test_sqlite import NOW, ban, store_at

here, seeded = Path(sys.argv[1]), random.Random(sys.argv[2])
steps = shipped()

def child(run, kill_after=None):
    pid = os.fork()
    if not pid:
        asyncio.run(run())
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def migrating(path, upto, die_at=None):
    async def run():
        async with aiosqlite.connect(path, isolation_level=None) as db:
            await db.execute_fetchall("PRAGMA journal_mode = WAL")
            done = 0
            def count():
                nonlocal done
                done += 1
                if done == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            await db.set_progress_handler(count, 1)
            await migrate(db, steps[:upto], path=path)
            (here / "count").write_text(str(done))
            if not upto == len(steps):
                return
            await db.set_progress_handler(lambda: None, 0)
    return run

def filled(path):
    async def run():
        async with aiosqlite.connect(path, isolation_level=None) as db:
            tables = await db.execute_fetchall("SELECT name FROM sqlite_schema WHERE name = 'ban'")
            if tables:
                await db.execute(
                    "INSERT INTO ban (id, jail, subject, scope, why, at, until, failures, count,"
                    " reason) VALUES (1, 'a', '203.0.113.7/32', '443/tcp', '', ?, NULL, 5, 1, '')",
                    (NOW,))
                await db.commit()
    return run

def complete(path, bans):
    async def run():
        async with store_at(path) as store:
            assert store.loss is None
            state = await store.load(now=NOW, findtime=600)
            assert len(state.bans) == bans, state
            await store.record([ban(2)], {})
        async with aiosqlite.connect(path) as db:
            assert list(await db.execute_fetchall("PRAGMA integrity_check")) == [("ok",)]
            assert list(await db.execute_fetchall("PRAGMA user_version")) == [(len(steps),)]
    return run

killed = 0
for version in range(len(steps)):
    base, path = here / f"base{version}", here / f"state{version}.db"
    assert child(migrating(base, version)) == 0
    assert child(filled(base)) == 0
    shutil.copy(base, path)
    began = time.monotonic()
    assert child(migrating(path, len(steps))) == 0
    took = time.monotonic() - began
    ops = int((here / "count").read_text())
    points = [(seeded.randrange(1, ops + 1), None) for _ in range(12)] + [(1, None), (ops, None)]
    points += [(None, seeded.uniform(0, took)) for _ in range(6)]
    for die_at, after in points:
        for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            each.unlink(missing_ok=True)
        shutil.copy(base, path)
        code = child(migrating(path, len(steps), die_at), after)
        assert code == -signal.SIGKILL or after is not None, (code, die_at)
        killed += code == -signal.SIGKILL
        assert child(complete(path, int(version > 0))) == 0, (version, die_at, after)
print(killed)
"""


def test_a_migration_killed_at_any_moment_is_completed_by_the_next_start(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path), "seed 5"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert int(ended.stdout) >= 14 * len(shipped())
