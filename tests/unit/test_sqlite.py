"""What only the store in SQLite promises: files, crashes, and words for the operator."""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from dockerjail.errors import StoreDamaged, StoreError, StoreUnavailable
from dockerjail.model import (
    Allowance,
    Ban,
    Blocktype,
    Cause,
    Cursor,
    Failure,
    Mode,
    Port,
    Scope,
    Stream,
    Unban,
    UnbanReason,
)
from dockerjail.ports import Settled
from dockerjail.store import sqlite as sqlite_module
from dockerjail.store.damage import name_aside, set_aside
from dockerjail.store.migrate import shipped
from dockerjail.store.sqlite import _MOST_TOTALS, SqliteStore

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000.0
JAIL = "nginx-auth@shop-web"
ATTACKER = ip_network("203.0.113.7/32")
WEB = "aa" * 32
KEY = (WEB, Stream.STDOUT)


def store_at(path: Path, *, keep: float = 86_400.0) -> SqliteStore:
    return SqliteStore(path, keep=keep, busy_timeout=0.05)


def failure(at: float = NOW, text: str = "401") -> Failure:
    return Failure(jail=JAIL, subject=ATTACKER, at=at, container=WEB, text=text)


def ban(number: int = 1, until: float | None = NOW + 600) -> Ban:
    scope = Scope(ports=(Port(443),), why="published by shop-web")
    return Ban(id=number, jail=JAIL, subject=ATTACKER, scope=scope, at=NOW, until=until)


async def complaint(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        async with store_at(path):
            pass
    assert str(path) in str(caught.value)
    return str(caught.value)


def python(
    code: str, *arguments: object, unshare: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, if asked in a mount namespace of its own."""
    own = ["unshare", "--mount", "--map-root-user"] if unshare else []
    return subprocess.run(
        [*own, sys.executable, "-c", PRELUDE + code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )


PRELUDE = """
import asyncio, os, subprocess, sys
from pathlib import Path
from dockerjail.errors import StoreError
from dockerjail.model import Cursor
from tests.unit.test_sqlite import KEY, NOW, failure, store_at

path = Path(sys.argv[1])

def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)

async def use():
    async with store_at(path) as store:
        await store.record([failure()], {})

def say(run):
    try:
        asyncio.run(run())
    except StoreError as error:
        print(error)
"""

can_mount = pytest.mark.skipif(
    subprocess.run(
        ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        check=False,
    ).returncode
    != 0,
    reason="needs a mount namespace of its own (unshare --mount --map-root-user)",
)


# What survives


async def test_a_ban_survives_a_restart(tmp_path: Path) -> None:
    async with store_at(tmp_path / "state.db") as store:
        await store.record([failure(), Settled(jail=JAIL, subject=ATTACKER, ban=1), ban()], {})
    async with store_at(tmp_path / "state.db") as store:
        assert (await store.load(now=NOW, findtime=600)).bans == [ban()]
        assert await store.evidence(1) == [failure()]
        assert await store.totals() == {JAIL: (1, 1)}


WRITER = """
async def main():
    async with store_at(path) as store:
        state = await store.load(now=NOW, findtime=1e9)
        done = state.cursors[KEY].seen if KEY in state.cursors else 0
        print(len(state.failures), done, flush=True)
        while True:
            batch = [failure(NOW + n, str(n)) for n in range(done, done + 1 + done % 50)]
            done += len(batch)
            await store.record(batch, {KEY: Cursor(1, done)})
            print(done, flush=True)

asyncio.run(main())
"""


def started(script: str, path: Path) -> subprocess.Popen[str]:
    """Start a process that writes to a store and prints how far it is."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_after_a_kill_failures_and_cursors_are_of_one_moment(tmp_path: Path) -> None:
    written = 0
    for kill in range(6):
        with started(WRITER, tmp_path / "state.db") as child:
            assert child.stdout is not None
            failures, done = map(int, child.stdout.readline().split())
            assert failures == done
            assert done >= written
            for _ in range(3 + 7 * kill):
                written = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((count,),) = db.execute("SELECT count(*) FROM failure")
        assert db.execute("SELECT seen FROM cursor").fetchall() == [(count,)]
        assert db.execute("SELECT failures FROM total").fetchall() == [(count,)]
        texts = [int(text) for (text,) in db.execute("SELECT text FROM failure ORDER BY id")]
        assert texts == list(range(count))
        assert count >= written


def of_one_moment(path: Path) -> int:
    """Open what a crash left; return how many failures it remembers, after looking at them."""

    async def look() -> int:
        async with store_at(path) as store:
            assert store.loss is None
            state = await store.load(now=NOW, findtime=1e9)
            await store.record([failure(text="after")], {})
        done = state.cursors[KEY].seen if KEY in state.cursors else 0
        numbers = [int(each.text.partition(" ")[0]) for each in state.failures]
        assert numbers == list(range(done))
        return done

    found = asyncio.run(look())
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return found


QUICK_WRITER = """
async def main():
    async with store_at(path) as store:
        done = 0
        while True:
            batch = [failure(NOW, f"{n} {'x' * 3000}") for n in range(done, done + 3)]
            done += len(batch)
            await store.record(batch, {KEY: Cursor(1, done)})
            print(done, flush=True)

asyncio.run(main())
"""


def test_the_files_as_they_are_at_any_moment_open_as_of_one_moment(tmp_path: Path) -> None:
    seeded, written = random.Random(5), 0
    with started(QUICK_WRITER, tmp_path / "state.db") as child:
        assert child.stdout is not None
        for moment in range(8):
            for _ in range(seeded.randrange(1, 60)):
                written = int(child.stdout.readline())
            time.sleep(seeded.uniform(0, 0.003))
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED)
            there = tmp_path / f"moment {moment}"
            there.mkdir()
            for name in ("state.db", "state.db-wal"):
                (there / name).write_bytes((tmp_path / name).read_bytes())
            child.send_signal(signal.SIGCONT)
            assert of_one_moment(there / "state.db") >= written
        child.send_signal(signal.SIGKILL)


def test_after_a_power_cut_the_last_moments_are_lost_whole(tmp_path: Path) -> None:
    code = """
import signal
async def main():
    async with store_at(path) as store:
        done = 0
        for n in range(60):
            batch = [failure(NOW + m, str(m)) for m in range(done, done + 5)]
            done += len(batch)
            await store.record(batch, {KEY: Cursor(1, done)})
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    path = tmp_path / "state.db"
    assert python(code, path).returncode == -signal.SIGKILL
    database, journal = path.read_bytes(), (tmp_path / "state.db-wal").read_bytes()
    seeded, seen = random.Random(5), set()
    for cut in [len(journal), *(seeded.randrange(len(journal)) for _ in range(12))]:
        # what was not synced yet may be missing, or be there in name only
        for rest in b"", b"\0" * (len(journal) - cut):
            there = tmp_path / f"cut {cut} {len(rest)}"
            there.mkdir(exist_ok=True)
            (there / "state.db").write_bytes(database)
            (there / "state.db-wal").write_bytes(journal[:cut] + rest)
            seen.add(of_one_moment(there / "state.db"))
    assert max(seen) == 300
    assert len(seen) > 8
    assert all(done % 5 == 0 for done in seen)


async def test_a_cancelled_write_leaves_the_store_whole_and_usable(tmp_path: Path) -> None:
    async with store_at(tmp_path / "state.db") as store:
        for turns in range(12):
            async with asyncio.TaskGroup() as group:
                batch = [failure(text=str(turns))] * 10
                task = group.create_task(store.record(batch, {KEY: Cursor(turns, 1)}))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
        await store.record([failure(text="last")], {})
        state = await store.load(now=NOW, findtime=600)
        texts = [failure.text for failure in state.failures]
        assert texts[-1] == "last"
        assert all(texts.count(text) == 10 for text in texts[:-1])


async def test_a_refused_write_changes_nothing_and_the_next_works(tmp_path: Path) -> None:
    async with store_at(tmp_path / "state.db") as store:
        with pytest.raises(StoreError, match="FOREIGN KEY"):
            await store.record([failure(), Settled(jail=JAIL, subject=ATTACKER, ban=9)], {})
        await store.record([failure(NOW + 1)], {})
        assert await store.last_failures(JAIL) == [failure(NOW + 1)]


async def test_writes_from_many_tasks_are_whole(tmp_path: Path) -> None:
    async with store_at(tmp_path / "state.db") as store:
        async with asyncio.TaskGroup() as group:
            for n in range(50):
                group.create_task(store.record([failure(text=str(n))] * 3, {KEY: Cursor(n, 1)}))
                group.create_task(store.last_failures(JAIL))
                group.create_task(store.purge(NOW))
        assert await store.totals() == {JAIL: (150, 0)}
        texts = [failure.text for failure in await store.last_failures(JAIL, limit=1000)]
        assert all(len({*texts[i : i + 3]}) == 1 for i in range(0, 150, 3))


# Whose file it is


async def test_a_missing_directory_is_made_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "var" / "lib" / "dockerjail" / "state.db"
    async with store_at(path) as store:
        await store.record([failure()], {})
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == dict.fromkeys(
            ["state.db", "state.db-wal", "state.db-shm", "state.db.lock"], 0o600
        )
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_second_dockerjail_on_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with store_at(path) as store:
        refused = python("say(use)", path)
        assert refused.returncode == 0, refused.stderr
        assert f"another dockerjail is running on it (process {os.getpid()} on" in refused.stdout
        assert "stop that one or give another [store] path" in refused.stdout
        await store.record([failure(NOW + 1)], {})
        assert await store.totals() == {JAIL: (1, 0)}


async def test_a_second_dockerjail_is_refused_by_any_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path / "data")
    async with store_at(tmp_path / "data" / "state.db"):
        with pytest.raises(StoreError, match="another dockerjail is running"):
            await store_at(tmp_path / "alias" / "state.db").open()


async def test_the_file_is_free_after_a_close_and_after_a_failed_open(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("no database")
    await complaint(path)
    path.unlink()
    for _ in range(2):
        async with store_at(path):
            pass


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = store_at(tmp_path / "state.db")
    await store.close()
    with pytest.raises(StoreError, match=r"state\.db: the store is not open"):
        await store.totals()
    async with store:
        pass
    with pytest.raises(StoreError, match=r"state\.db: the store is not open"):
        await store.record([failure()], {})


async def test_the_operator_can_read_while_the_daemon_writes(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with store_at(path) as store:
        await store.record([failure(), ban(until=None), ban(2, until=1.0)], {})
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            banned = reader.execute(
                "SELECT id, subject, scope, blocktype, mode, cause, forced, until FROM banned"
            ).fetchall()
            how = "drop", "enforce", "failures", "no"
            assert banned == [(1, "203.0.113.7/32", "443/tcp", *how, "for good")]
            failed = reader.execute("SELECT jail, container, text, spent FROM failed").fetchall()
            assert failed == [(JAIL, WEB[:12], "401", "no")]
            unban = Unban(ban=ban(), at=NOW, reason=UnbanReason.OPERATOR)
            await store.record([failure(NOW + 1), unban], {})
            assert await store.totals() == {JAIL: (2, 2)}


async def test_the_operator_can_read_whom_he_lets_pass(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    office = Allowance(who="198.51.100.7", at=NOW, until=None, comment="office")
    over = Allowance(who="198.51.100.8", at=1.0, until=2.0)
    async with store_at(path) as store:
        await store.record([office, over], {})
        with closing(sqlite3.connect(path)) as reader:
            allowed = reader.execute("SELECT who, until, comment FROM allowed").fetchall()
            assert allowed == [("198.51.100.7", "for good", "office")]


async def test_bans_of_a_database_from_before_blocktypes_drop(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(shipped()[0].sql)
        db.execute("PRAGMA user_version = 1")
        db.execute(
            "INSERT INTO ban (id, jail, subject, scope, why, at, until, failures, count, reason)"
            " VALUES (3, ?, '203.0.113.7/32', '443/tcp', 'published', ?, NULL, 5, 2, '')",
            (JAIL, NOW),
        )
        db.execute(
            "INSERT INTO ban VALUES (4, ?, '203.0.113.8/32', 'everything', '', 1, 2, 5, 1, '', 2,"
            " 'expired')",
            (JAIL,),
        )
        db.commit()
    async with store_at(path) as store:
        (old,) = (await store.load(now=NOW, findtime=600)).bans
        assert (old.id, old.until, old.count) == (3, None, 2)
        assert [record.ban.blocktype for record in await store.bans_of(JAIL)] == ["drop", "drop"]
        assert await store.totals() == {JAIL: (0, 2)}
        rejects = replace(old, blocktype=Blocktype.REJECT)
        await store.record([rejects], {})
        assert (await store.load(now=NOW, findtime=600)).bans == [rejects]
        with closing(sqlite3.connect(path)) as reader:
            assert reader.execute("SELECT id, blocktype FROM banned").fetchall() == [(3, "reject")]


async def test_bans_of_a_database_from_before_modes_are_enforced(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as db:
        for migration in shipped()[:2]:
            db.executescript(migration.sql)
        db.execute("PRAGMA user_version = 2")
        row = "INSERT INTO ban VALUES (?, ?, ?, ?, '', ?, ?, ?, 1, ?, ?, ?, 'reject')"
        seven, eight, nine = (f"203.0.113.{n}/32" for n in (7, 8, 9))
        db.execute(row, (3, JAIL, seven, "443/tcp", NOW, None, 5, "", None, None))
        db.execute(row, (4, "hand", eight, "everything", NOW, NOW + 9, 0, "rude", None, None))
        db.execute(row, (5, JAIL, nine, "nothing", NOW, NOW + 9, 5, "", NOW, "expired"))
        for at, container, number in (NOW - 1, WEB, 3), (NOW - 2, "bb" * 32, 3), (NOW, WEB, None):
            db.execute(
                "INSERT INTO failure (jail, subject, at, container, text, spent, ban)"
                " VALUES (?, ?, ?, ?, '401', ?, ?)",
                (JAIL, seven, at, container, number is not None, number),
            )
        db.commit()
    async with store_at(path) as store:
        state = await store.load(now=NOW, findtime=600)
        judged, by_hand = state.bans
        assert (judged.id, judged.cause, judged.container) == (3, Cause.FAILURES, WEB)
        assert (by_hand.id, by_hand.cause, by_hand.container) == (4, Cause.OPERATOR, "")
        assert {(ban.mode, ban.forced, ban.blocktype) for ban in state.bans} == {
            (Mode.ENFORCE, False, Blocktype.REJECT)
        }
        assert [failure.at for failure in state.failures] == [NOW]
        assert (state.allowances, state.next_ban) == ([], 6)
        (over,) = (await store.history(ip_network(nine))).bans
        assert (over.ended_at, over.ended_why, over.blocked) == (NOW, UnbanReason.EXPIRED, None)
        assert await store.bans_against(ATTACKER, since=0.0) == [judged]


# How large it gets


async def test_the_bans_against_a_subject_are_found_by_an_index_however_many_there_are(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.db"
    asked: list[str] = []
    async with store_at(path) as store:
        assert store._reader is not None
        await store._reader.set_trace_callback(asked.append)
        await store.bans_against(ATTACKER, since=NOW, limit=10)
    (question,) = [sql for sql in asked if "FROM ban" in sql]
    with closing(sqlite3.connect(path)) as db:
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {question}")]
    assert plan == ["SEARCH ban USING INDEX ban_subject (subject=? AND at>?)"]


async def test_a_purge_gives_the_space_back(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with store_at(path) as store:
        await store.load(now=NOW, findtime=600)
        for _ in range(10):
            await store.record([failure(text="x" * 1000)] * 2000, {})
    full = path.stat().st_size
    async with store_at(path) as store:
        await store.load(now=NOW, findtime=600)
        assert await store.purge(NOW + 100_000) == 20_000
    assert path.stat().st_size < full / 4


async def test_a_start_reads_the_newest_failures_and_no_more_than_it_can_bear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_module, "_MOST_LOADED", 50)
    async with store_at(tmp_path / "state.db") as store:
        await store.load(now=NOW, findtime=600)
        await store.record([failure(at=NOW - number, text=f"{number}") for number in range(60)], {})
        found = (await store.load(now=NOW, findtime=600)).failures
        assert [each.text for each in found] == [f"{number}" for number in range(10, 60)]
    assert any("the newest 50" in message for message in caplog.messages)


async def test_totals_of_jails_of_which_nothing_else_is_known_are_bounded(tmp_path: Path) -> None:
    async with store_at(tmp_path / "state.db") as store:
        await store.load(now=NOW, findtime=600)
        known = failure()._replace(at=NOW + 100_000)
        ever_new = [failure()._replace(jail=f"j{n}@web-{n}") for n in range(_MOST_TOTALS + 700)]
        lively = [failure()._replace(jail="old@web")] * 3
        await store.record([*lively, *ever_new, known], {})
        await store.purge(NOW)
        assert len(await store.totals()) == _MOST_TOTALS + 702
        await store.purge(NOW + 100_000)
        totals = await store.totals()
        assert len(totals) == _MOST_TOTALS
        assert (totals["old@web"], known.jail in totals) == ((3, 0), True)


# What is wrong, in words


@pytest.mark.parametrize("content", [b"hello", b"# a text\n" * 1000, b"\0" * 5000])
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(content)
    said = await complaint(path)
    assert "is not a SQLite database" in said
    assert "move it away or give another [store] path" in said
    assert path.read_bytes() == content


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    assert "another program's database; give another [store] path" in await complaint(path)
    assert path.read_bytes() == before


async def test_a_database_of_a_newer_dockerjail_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with store_at(path) as store:
        await store.record([ban()], {})
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 999")
    said = await complaint(path)
    assert "was written by a newer dockerjail" in said
    assert "upgrade, or give another [store] path" in said
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM ban").fetchall() == [(1,)]


# What is damaged


async def filled(path: Path) -> None:
    """Make a database of many pages, with bans and an allowance among them."""
    async with store_at(path) as store:
        await store.record([failure(text="x" * 500)] * 200, {KEY: Cursor(1, 200)})
        await store.record([ban(), Allowance(who="198.51.100.7", at=NOW, until=None)], {})


def asides(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.glob("state.db.damaged-*[0-9]"))


def root(path: Path, table: str) -> int:
    """Return where the first page of a table begins."""
    with closing(sqlite3.connect(path)) as db:
        ((page,),) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,))
    return (int(page) - 1) * 4096


def spoil(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * length)


async def test_a_header_of_garbage_is_set_aside_once_the_file_was_ours(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    spoil(path, 0, 100)
    damaged = path.read_bytes()
    async with store_at(path) as store:
        assert store.loss is not None
        assert "is not a SQLite database" in store.loss.why
        assert (await store.load(now=NOW, findtime=600)).bans == []
        await store.record([failure()], {})
        assert await store.salvaged(NOW) == []
    (aside,) = asides(path)
    assert (tmp_path / aside).read_bytes() == damaged


async def test_a_database_that_was_set_aside_is_told_for_a_day_or_until_it_is_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    spoil(path, 0, 100)
    async with store_at(path) as store:
        assert len(store.problems()) == 1
    (aside,) = asides(path)
    async with store_at(path) as store:  # after a restart, too
        (problem,) = store.problems()
        assert (problem.place, aside in problem.remedy) == ("store", True)
        assert "the database was damaged" in problem.what
        (tmp_path / aside).rename(tmp_path / "elsewhere")
        assert not store.problems()
        (tmp_path / "elsewhere").rename(tmp_path / aside)
        monkeypatch.setattr(sqlite_module, "_TOLD_FOR", 0.0)
        assert not store.problems()


@pytest.mark.parametrize("size", [0, 100, 4096, 20_000])
async def test_a_truncated_file_is_set_aside(tmp_path: Path, size: int) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    os.truncate(path, size)
    async with store_at(path) as store:
        assert store.loss is not None
        await store.record([failure()], {})
    assert len(asides(path)) == 1


async def test_an_empty_file_that_was_never_ours_is_taken_for_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch()
    async with store_at(path) as store:
        assert store.loss is None
    assert asides(path) == []


async def test_of_a_database_with_a_damaged_page_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    spoil(path, root(path, "failure"), 4096)
    async with store_at(path) as store:
        assert store.loss is not None
        office = Allowance(who="198.51.100.7", at=NOW, until=None)
        assert await store.salvaged(NOW) == [ban(), office]
        assert (await store.load(now=NOW, findtime=600)).cursors == {}
        await store.recover(await store.salvaged(NOW))
        assert store.loss is None
    async with store_at(path) as store:
        state = await store.load(now=NOW, findtime=600)
        assert (state.bans, state.allowances, state.next_ban) == ([ban()], [office], 2)


async def test_bans_on_both_sides_of_a_damaged_page_are_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    made = [
        replace(ban(n), subject=ip_network(f"10.0.{n >> 8}.{n & 255}/32")) for n in range(1, 601)
    ]
    async with store_at(path) as store:
        await store.record(made, {})
    interior = path.read_bytes()[root(path, "ban") :]
    pointers = int.from_bytes(interior[3:5], "big")
    cell = int.from_bytes(interior[12 + 2 * (pointers // 2) : 14 + 2 * (pointers // 2)], "big")
    middle = int.from_bytes(interior[cell : cell + 4], "big")
    spoil(path, (middle - 1) * 4096, 4096)
    async with store_at(path) as store:
        kept = {entry.id for entry in await store.salvaged(NOW) if isinstance(entry, Ban)}
    assert {1, 2, 599, 600} <= kept
    assert 500 < len(kept) < 600


def killed_after_a_ban(path: Path) -> None:
    """Leave a second ban in the journal alone."""
    code = """
import signal
from tests.unit.test_sqlite import ban
async def main():
    async with store_at(path) as store:
        await store.record([ban(2)], {})
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    assert python(code, path).returncode == -signal.SIGKILL


async def test_what_only_the_journal_has_is_read_of_a_damaged_database(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    killed_after_a_ban(path)
    spoil(path, 4096 * 40, 100)  # a page of failures
    async with store_at(path) as store:
        assert store.loss is not None
        bans = [each.id for each in await store.salvaged(NOW) if isinstance(each, Ban)]
        assert bans == [1, 2]
        assert (await store.load(now=NOW, findtime=600)).bans == []


async def test_a_journal_goes_with_its_database(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    killed_after_a_ban(path)
    journal = (tmp_path / "state.db-wal").read_bytes()
    set_aside(path, name_aside(path))
    (aside,) = asides(path)
    assert (tmp_path / f"{aside}-wal").read_bytes() == journal
    assert not (tmp_path / "state.db-wal").exists()
    assert not (tmp_path / "state.db-shm").exists()


async def test_a_header_that_the_journal_has_whole_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    killed_after_a_ban(path)
    spoil(path, 0, 100)
    async with store_at(path) as store:
        assert store.loss is None
        assert [each.id for each in (await store.load(now=NOW, findtime=600)).bans] == [1, 2]


async def test_a_loss_is_remembered_until_it_is_made_good(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    os.truncate(path, 20_000)
    for _ in range(2):  # as if killed in between
        async with store_at(path) as store:
            loss = store.loss
            assert loss is not None
    assert asides(path) == [loss.aside]


@pytest.mark.parametrize("step", ["rename", "unlink"])
async def test_a_kill_while_a_database_is_set_aside_loses_nothing_of_it(
    tmp_path: Path, step: str
) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    spoil(path, root(path, "failure"), 4096)
    code = f"""
import signal
from dockerjail.store import damage
done = damage.Path.{step}
def die(self, *arguments, **options):
    done(self, *arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
damage.Path.{step} = die
(path.parent / "state.db-shm").touch()
asyncio.run(use())
"""
    assert python(code, path).returncode == -signal.SIGKILL
    async with store_at(path) as store:
        assert store.loss is not None
        assert [each for each in await store.salvaged(NOW) if isinstance(each, Ban)] == [ban()]
        assert asides(path) == [store.loss.aside]


def test_few_damaged_databases_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def recover() -> None:
        async with store_at(path) as store:
            await store.recover([])

    for _ in range(5):
        asyncio.run(filled(path))
        os.truncate(path, 20_000)
        asyncio.run(recover())
    assert len(asides(path)) == 2
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {"state.db", "state.db.lock", *asides(path)}


@pytest.mark.parametrize("name", ["state.db-wal", "state.db-shm"])
async def test_damage_in_the_journal_costs_at_most_its_last_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / "state.db"
    code = """
import signal
async def main():
    async with store_at(path) as store:
        for n in range(1, 101):
            await store.record([failure(NOW + n, str(n))], {KEY: Cursor(1, n)})
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    assert python(code, path).returncode == -signal.SIGKILL
    journal = tmp_path / name
    spoil(journal, journal.stat().st_size // 2, 64)
    async with store_at(path) as store:
        assert store.loss is None
        state = await store.load(now=NOW, findtime=600)
        assert [int(f.text) for f in state.failures] == list(range(1, state.cursors[KEY].seen + 1))
        assert state.cursors[KEY].seen == 100 or name == "state.db-wal"


async def test_damage_that_shows_later_ends_all_writing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    async with store_at(path) as store:
        spoil(path, 8192, path.stat().st_size - 8192)
        with pytest.raises(StoreDamaged, match=r"the database is damaged"):
            await store.last_failures(JAIL)
        with pytest.raises(StoreDamaged, match=r"the database is damaged"):
            await store.record([failure()], {})
        # whoever does nothing but read is told, and what is done at intervals ends it
        (problem,) = store.problems()
        assert "the database is damaged" in problem.what
        with pytest.raises(StoreDamaged, match=r"the database is damaged"):
            await store.purge(NOW)
    async with SqliteStore(path, keep=1.0, distrust="it is damaged") as store:
        assert store.loss is not None
        await store.record([failure()], {})


async def test_a_file_that_is_taken_away_while_in_use_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with store_at(path) as store:
        await store.record([ban()], {})
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(StoreDamaged, match="was moved, deleted or replaced"):
            await store.purge(NOW)
        with pytest.raises(StoreDamaged, match="was moved, deleted or replaced"):
            await store.record([failure()], {})


def deleted(path: Path) -> None:
    for each in path.parent.iterdir():
        if each.name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            each.unlink()


def deleted_with_its_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def moved_away_and_back(path: Path) -> None:
    moved(path)


def replaced(path: Path) -> None:
    other = path.with_name("other.db")
    shutil.copy(path, other)
    other.rename(path)


async def whole(store: SqliteStore) -> list[object]:
    return [
        await store.load(now=NOW, findtime=600),
        await store.totals(),
        await store.history(ATTACKER),
    ]


@pytest.mark.parametrize(
    "take", [deleted, deleted_with_its_directory, moved, moved_away_and_back, replaced]
)
@pytest.mark.parametrize("noticed", [False, True])
async def test_a_database_that_is_taken_away_while_in_use_is_written_anew_whole(
    tmp_path: Path, take: Callable[[Path], None], *, noticed: bool
) -> None:
    path = tmp_path / "state" / "state.db"
    await filled(path)
    async with store_at(path) as store:
        await store.record([failure(), ban(2)], {KEY: Cursor(7, 7)})
        await store.load(now=NOW, findtime=600)  # as any start does
        take(path)
        await store.record([failure(), ban(3)], {KEY: Cursor(9, 9)})
        before = await whole(store)
        assert len(before[0].bans) == 3  # type: ignore[attr-defined]
        (problem,) = store.problems()
        assert "was moved, deleted or replaced while it was in use" in problem.what
        assert "within half a minute it is written anew" in problem.remedy
        if noticed:
            with pytest.raises(StoreDamaged):
                await store.purge(NOW)
        if take is moved_away_and_back:
            path.with_name("elsewhere").rename(path)
    async with SqliteStore(path, keep=1e9, distrust="it was moved" * noticed) as store:
        assert store.loss is None
        assert await whole(store) == before
        await store.record([failure(), ban(4)], {})
        await store.purge(NOW)
        told = "; ".join(problem.what for problem in store.problems())
        back = take is moved_away_and_back and not noticed
        assert ("it was written anew" in told and "nothing is lost" in told) is not back
        assert ("what stood in its place is now state.db.damaged-" in told) is (
            take is replaced or (noticed and take is moved_away_and_back)
        )
        assert "the database was damaged" not in told
    assert path.stat().st_mode & 0o777 == 0o600
    async with store_at(path) as store:
        assert len((await store.load(now=NOW, findtime=600)).bans) == 4
        assert len(store.problems()) == (not back)
    assert {each.name for each in path.parent.iterdir()} <= {
        *asides(path), "elsewhere", "state.db", "state.db.lock",
    }  # fmt: skip


async def test_a_database_that_was_taken_away_is_told_of_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    async with store_at(path):
        deleted(path)
    async with store_at(path) as store:
        assert len(store.problems()) == 1
        monkeypatch.setattr(sqlite_module, "_TOLD_FOR", 0.0)
        assert not store.problems()


async def test_what_cannot_be_written_anew_is_a_loss_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with store_at(path) as store:
        await store.record([ban()], {})
        deleted(path)
        (tmp_path / "state.db.saving").mkdir()
    (tmp_path / "state.db.saving").rmdir()
    async with SqliteStore(path, keep=1.0, distrust="it was deleted") as store:
        assert store.loss is not None
        await store.recover([ban()])
        (problem,) = store.problems()
        assert "a fresh one was begun" in problem.what


async def test_a_database_that_is_missing_after_a_kill_is_a_loss_and_after_a_stop_none(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.db"
    killed_after_a_ban(path)
    deleted(path)
    async with store_at(path) as store:
        assert store.loss is not None
        await store.recover([])
    deleted(path)  # its user wants to start from nothing
    async with store_at(path) as store:
        assert store.loss is None


# How much it may become


async def test_what_is_too_much_goes_the_oldest_history_first(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    text = "x" * 900
    counting = [failure(NOW, f"counts {n}") for n in range(20)]
    evidence = [failure(NOW, text)._replace(jail="a", subject=ip_network("10.0.0.1/32"))] * 50
    led = Settled(jail="a", subject=evidence[0].subject, ban=1)
    old = [failure(NOW - 3600 + n / 10, f"{n} {text}") for n in range(6000)]
    ended = [replace(ban(n), jail="b", until=NOW - 10) for n in range(2, 200)]
    async with SqliteStore(path, keep=1e9, most=2_000_000) as store:
        await store.load(now=NOW, findtime=600)
        await store.record([*evidence, led, ban(), *ended, *old, *counting], {KEY: Cursor(1, 1)})
        assert await store.purge(NOW) > 3000
        left = [f.text for f in await store.last_failures(JAIL, limit=10_000)]
        assert left[:20] == [f"counts {n}" for n in reversed(range(20))]
        numbers = [int(text.partition(" ")[0]) for text in left[20:]]
        assert numbers == list(reversed(range(numbers[-1], 6000)))
        assert 500 < len(numbers) < 2500
        assert len(await store.evidence(1)) == 50
        assert len(await store.bans_of("b", limit=1000)) == 198
        assert (await store.load(now=NOW, findtime=600)).bans == [ban()]
        assert store.problems() == []
    # some free pages stay for a steady purge
    assert path.stat().st_size < 2_000_000 + 1024 * 4096


async def test_a_flood_comes_in_no_faster_than_old_rows_go(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqliteStore(path, keep=1e9, most=1_000_000) as store:
        await store.load(now=NOW, findtime=600)
        for _ in range(3):
            await store.record([failure(NOW - 3600, "x" * 300)] * 2000, {})
        async with asyncio.TaskGroup() as group:
            purging = group.create_task(store.purge(NOW))
            for _ in range(25):
                await store.record([failure(NOW - 3600, "x" * 300)] * 2000, {})
                assert path.stat().st_size < 12_000_000  # of 30
            await purging


async def test_what_may_not_go_is_told_when_it_is_too_much(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqliteStore(path, keep=1e9, most=100_000) as store:
        await store.load(now=NOW, findtime=600)
        many = [replace(ban(n), subject=ip_network(n)) for n in range(1, 1000)]
        await store.record([*many, *[failure(NOW, "counts")] * 1000], {})
        await store.purge(NOW)
        assert len(await store.last_failures(JAIL, limit=2000)) == 1000
        assert len((await store.load(now=NOW, findtime=600)).bans) == 999
        (problem,) = store.problems()
        assert (problem.place, problem.remedy) == ("store", "raise max_size under [store]")
        await store.purge(NOW + 1000)  # nothing counts any more, and the bans are over
        assert store.problems() == []


async def test_a_ban_waits_for_few_rows_while_much_goes(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    steps: list[str] = []
    async with SqliteStore(path, keep=1e9, most=100_000) as store:
        await store.load(now=NOW, findtime=600)
        await store.record([failure(NOW - 3600, "x" * 500)] * 5000, {})
        store._most = await store._excess() - 900_000
        assert store._writer is not None
        await store._writer.set_trace_callback(steps.append)
        await store.purge(NOW)
    deleted = [sql for sql in steps if sql.lstrip().startswith("DELETE FROM failure WHERE id >")]
    assert len(deleted) >= 2
    lasts = [int(sql.split("<=")[1].split()[0]) for sql in deleted]
    assert lasts == [500 * (step + 1) for step in range(len(deleted))]


async def test_a_journal_that_a_reader_lets_grow_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "_JOURNAL_LIMIT", 1_000_000)
    path = tmp_path / "state.db"
    async with SqliteStore(path, keep=1e9, most=500_000) as store:
        await store.load(now=NOW, findtime=600)
        await store.record([failure()], {})
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM failure").fetchall()
            await store.record([failure(NOW - 3600, "x" * 900)] * 2000, {})
            with pytest.raises(StoreUnavailable, match="another process has been reading it"):
                await store.purge(NOW)
            size = (tmp_path / "state.db-wal").stat().st_size
            with pytest.raises(StoreUnavailable, match="end the sqlite3 shell"):
                await store.record([failure()], {})
            assert (tmp_path / "state.db-wal").stat().st_size == size
            reader.execute("ROLLBACK")
        await store.record([failure()], {})
        await store.purge(NOW)
        await store.record([failure()], {})
        assert (tmp_path / "state.db-wal").stat().st_size <= 1_000_000
        assert await store.totals() == {JAIL: (2003, 0)}


# What is wrong with its place


async def test_a_directory_is_named(tmp_path: Path) -> None:
    assert "it is a directory" in await complaint(tmp_path)


async def test_a_file_where_a_directory_belongs_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "a part of the path is a file" in await complaint(tmp_path / "file" / "state.db")
    assert "a part of the path is a file" in await complaint(tmp_path / "file" / "a" / "state.db")


async def test_a_lock_by_another_program_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with store_at(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"another process has locked it.*sqlite3 shell"):
                await store.record([failure()], {})
            shell.execute("ROLLBACK")
        await store.record([failure(NOW + 1)], {})
        assert await store.last_failures(JAIL) == [failure(NOW + 1)]


@pytest.mark.parametrize(
    "change",
    [
        "subject = '203.0.113.7/8'",
        "subject = 'attacker'",
        "scope = 'the web'",
        "scope = '80/icmp'",
        "scope = '80/tcp, 192.0.2'",
        "cause = 'spite'",
        "mode = 'maybe'",
        "ended_at = 1, ended_why = 'mercy'",
    ],
)
async def test_a_row_changed_by_hand_into_nonsense_is_named(tmp_path: Path, change: str) -> None:
    path = tmp_path / "state.db"
    async with store_at(path) as store:
        await store.record([ban()], {})
        with closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute(f"UPDATE ban SET {change}")
        with pytest.raises(StoreError, match=r"a row is not as dockerjail writes it .*mend it"):
            await store.bans_of(JAIL)


@can_mount
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_a_read_only_directory_is_named(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "state.db"
    if existing:
        assert python("asyncio.run(use())", path).returncode == 0
    code = """
mount("--bind", path.parent, path.parent)
mount("-o", "remount,bind,ro", path.parent)
say(use)
"""
    ended = python(code, path, unshare=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"{path}: cannot open it: it is on a read-only file system")
    assert "mount its directory writable" in ended.stdout


@can_mount
def test_a_disk_that_is_full_is_named_and_nothing_is_half_written(tmp_path: Path) -> None:
    code = """
mount("-t", "tmpfs", "-o", "size=1m", "none", path.parent)

async def fill():
    async with store_at(path) as store:
        await store.load(now=NOW, findtime=1e9)
        done = 0
        try:
            while True:
                await store.record([failure(text="x" * 500)] * 20, {KEY: Cursor(1, done + 20)})
                done += 20
        except StoreError as error:
            print(error)
        state = await store.load(now=NOW, findtime=1e9)
        assert len(state.failures) == state.cursors[KEY].seen == done > 0
        mount("-o", "remount,size=8m", path.parent)
        await store.record([failure(text="room again")], {})
        assert len(await store.last_failures(failure().jail, limit=10_000)) == done + 1

asyncio.run(fill())
"""
    ended = python(code, tmp_path / "state.db", unshare=True)
    assert ended.returncode == 0, ended.stderr
    assert "cannot write failures, bans and cursors: the disk is full" in ended.stdout
    assert "make room on its file system or give another [store] path" in ended.stdout


@can_mount
def test_a_full_disk_at_the_start_is_named(tmp_path: Path) -> None:
    code = """
mount("-t", "tmpfs", "-o", "size=64k", "none", path.parent)
(path.parent / "hog").write_bytes(b"x" * 60_000)
say(use)
"""
    ended = python(code, tmp_path / "state.db", unshare=True)
    assert ended.returncode == 0, ended.stderr
    assert "the disk is full" in ended.stdout


@can_mount
@pytest.mark.parametrize("name", ["state.db", "a state\\of things.db"])
def test_a_file_mounted_without_its_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere.db").touch()
    (tmp_path / name).touch()
    code = """
mount("--bind", path.parent / "elsewhere.db", path)
say(use)
"""
    ended = python(code, tmp_path / name, unshare=True)
    assert ended.returncode == 0, ended.stderr
    assert "is mounted as a single file" in ended.stdout
    assert "mount its directory instead" in ended.stdout
