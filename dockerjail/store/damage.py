"""
A database that cannot be trusted: set aside under another name, and read as far as it goes.

In: its path. Out: files beside it that nobody writes to again (few are kept), and those rows that
can still be read: bans, allowances, where containers past the host were. Failures and cursors
are not taken from it: with rows missing between them they would say that lines were
counted which were not; so the last lines of the logs are read again instead.
"""

import calendar
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar

from dockerjail.model import Allowance, Ban, Direct, Unban
from dockerjail.ports import BanRecord, Entry, Guarded
from dockerjail.store.rows import SELECT_BAN, ban_record

KEPT: Final = 2
"""Damaged databases that are kept: each may be as large as the store may become."""

T = TypeVar("T")


def name_aside(path: Path) -> str:
    """Return a new name for a damaged database, with the moment in UTC."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    name, number = f"{path.name}.damaged-{stamp}", 1
    while path.with_name(name).exists():
        number += 1
        name = f"{path.name}.damaged-{stamp}-{number:03}"
    return name


def set_aside(path: Path, name: str) -> None:
    """Rename a database and its journal; let the oldest of earlier ones go."""
    aside = path.with_name(name)
    with suppress(FileNotFoundError):
        path.rename(aside)
    # after the database: a journal without one is thrown away, one of an older database is believed
    with suppress(FileNotFoundError):
        path.with_name(f"{path.name}-wal").rename(f"{aside}-wal")
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    for old in earlier(path)[KEPT:]:
        for each in (old, Path(f"{old}-wal"), Path(f"{old}-shm")):
            each.unlink(missing_ok=True)


def earlier(path: Path) -> Sequence[Path]:
    """Return the damaged databases beside `path`, the newest first."""
    prefix = f"{path.name}.damaged-"
    found = [
        each
        for each in path.parent.iterdir()
        if each.name.startswith(prefix) and not each.name.endswith(("-wal", "-shm"))
    ]
    return sorted(found, reverse=True)


def set_aside_at(path: Path) -> float | None:
    """Return when a database got its name by `name_aside`, in seconds since the epoch."""
    stamp = path.name.rpartition(".damaged-")[2][: len("20261122-234031")]
    try:
        return float(calendar.timegm(time.strptime(stamp, "%Y%m%d-%H%M%S")))
    except ValueError:
        return None


def salvage(path: Path, now: float) -> Sequence[Entry]:
    """Return as entries what can be read of a damaged database; nothing if none of it can."""
    if not path.exists():
        return []
    entries: list[Entry] = []
    # a reader writes nothing into it, not even when it closes
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        db.text_factory = lambda octets: octets.decode("utf-8", "replace")
        records = {r.ban.id: r for r in _rows(db, SELECT_BAN, "id", ban_record)}
        for _, record in sorted(records.items()):
            entries.append(record.ban)
            entries.extend(_end(record))
        asked = "SELECT who, at, until, comment FROM allowance"
        allowances = {each.who: each for each in _rows(db, asked, "who", _allowance)}
        entries += [each for each in allowances.values() if each.until is None or each.until > now]
        asked = "SELECT device, address FROM guarded"
        entries += {Guarded(direct=each) for each in _rows(db, asked, "device", _direct)}
    return entries


def _rows(
    db: sqlite3.Connection, sql: str, key: str, read: Callable[[Sequence[Any]], T]
) -> Iterator[T]:
    """Yield the rows of a table from both ends: what is damaged lies between. Some come twice."""
    for order in ("ASC", "DESC"):
        try:
            for row in db.execute(f"{sql} ORDER BY {key} {order}"):
                with suppress(ValueError, TypeError):  # a row of garbage: others may be good
                    yield read(row)
        except sqlite3.Error:
            continue
        return


def _end(record: BanRecord) -> Iterator[Unban]:
    ban: Ban = record.ban
    if record.ended_at is not None and record.ended_why is not None:
        at, why = record.ended_at, record.ended_why
        yield Unban(ban=ban, at=at, reason=why, blocked=record.blocked)


def _allowance(row: Sequence[Any]) -> Allowance:
    who, at, until, comment = row
    return Allowance(who=str(who), at=float(at), until=until, comment=str(comment))


def _direct(row: Sequence[Any]) -> Direct:
    device, address = row
    return Direct(str(device), ip_address(address))
