"""
The tables, brought up to what this version of the code needs.

In comes an open database and the `NNNN_what.sql` files of `dockerjail/migrations`;
out goes a database whose `PRAGMA user_version` is the number of the last file.
Each file is one transaction, so a crash leaves the version before or after it,
never between. A file that was released is never edited: its number is all that
a database remembers of it.
"""

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from aiosqlite import Connection

from dockerjail.errors import StoreError

APPLICATION_ID = 0x646A6C31
"""What the first migration writes in the header: this file is dockerjail's."""

_NAME = re.compile(r"(?P<number>[0-9]{4})_[a-z0-9_]+\.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step from version `number - 1` to `number`."""

    number: int
    name: str
    sql: str


def shipped() -> Sequence[Migration]:
    """Read the migrations that came with the code, in order."""
    return read(resources.files("dockerjail") / "migrations")


def read(directory: Traversable) -> Sequence[Migration]:
    """
    Read the migrations in `directory`, in order.

    Raises `StoreError` when there are none, one has a name of another form, or
    the numbers do not run from 0001 without a hole.
    """
    found: list[Migration] = []
    for file in directory.iterdir() if directory.is_dir() else ():
        if not file.name.endswith(".sql"):
            continue
        match = _NAME.fullmatch(file.name)
        if match is None:
            raise StoreError(f"{file}: not a migration's name; write NNNN_what.sql")
        number = int(match["number"])
        found.append(Migration(number=number, name=file.name, sql=file.read_text("utf-8")))
    found.sort(key=lambda migration: migration.name)
    if not found:
        raise StoreError(f"{directory}: no migrations; install dockerjail again, whole")
    for number, migration in enumerate(found, start=1):
        if migration.number != number:
            raise StoreError(f"{directory}: {migration.name} stands where {number:04} belongs")
    return found


async def examine(db: Connection, migrations: Sequence[Migration], *, path: object) -> int:
    """
    Return how many of `migrations` the database has had, without touching it.

    `path` is what messages call the file. Raises `StoreError` for a database
    that another program or a newer dockerjail wrote.
    """
    if await _is_foreign(db):
        raise StoreError(f"{path}: is another program's database; give another [store] path")
    version = await _pragma(db, "user_version")
    newest = len(migrations)
    if version > newest:
        raise StoreError(
            f"{path}: was written by a newer dockerjail (its tables have version {version}, "
            f"this one knows {newest}): upgrade, or give another [store] path"
        )
    return version


async def migrate(db: Connection, migrations: Sequence[Migration], *, path: object) -> int:
    """
    Apply to `db` what it has not had yet; return the version it had before.

    `db` must be in autocommit mode. Raises what `examine` does, and `sqlite3.Error`
    with the name of the file as a note when a step fails; it leaves no trace then.
    """
    version = await examine(db, migrations, path=path)
    for migration in migrations[version:]:
        try:
            await db.executescript(
                f"BEGIN IMMEDIATE;\n{migration.sql}\n"
                f"PRAGMA user_version = {migration.number};\nCOMMIT;"
            )
        except sqlite3.Error as error:
            error.add_note(migration.name)
            raise
        finally:
            await db.rollback()
    return version


async def _is_foreign(db: Connection) -> bool:
    """Tell a file of some other program from an empty one and from our own."""
    if await _pragma(db, "application_id") == APPLICATION_ID:
        return False
    ((tables,),) = await db.execute_fetchall("SELECT count(*) FROM sqlite_schema")
    return bool(tables)


async def _pragma(db: Connection, name: str) -> int:
    ((value,),) = await db.execute_fetchall(f"PRAGMA {name}")
    return int(value)
