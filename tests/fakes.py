"""
Twins of what stands outside, in memory: they implement a port and take the same
conformance suite as the real thing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dockerjail.errors import StoreError
from dockerjail.model import Ban, Cursor, Failure, Subject, Unban
from dockerjail.ports import BanRecord, CursorKey, Entry, History, Settled, State


@dataclass(slots=True, kw_only=True)
class _Counted:
    """A failure as the store remembers it."""

    failure: Failure
    spent: bool = False
    ban: int | None = None


class MemoryStore:
    """The `Store` as plain lists: what SqliteStore promises, without a file."""

    def __init__(self, *, keep: float = float("inf")) -> None:
        self._keep = keep
        self._findtime = float("inf")
        self._failures: list[_Counted] = []
        self._bans: dict[int, BanRecord] = {}
        self._cursors: dict[CursorKey, Cursor] = {}
        self._totals: dict[str, tuple[int, int]] = {}
        self._next_ban = 1

    async def load(self, *, now: float, findtime: float) -> State:
        self._findtime = findtime
        return State(
            bans=[
                record.ban
                for record in sorted(self._bans.values(), key=lambda record: record.ban.id)
                if record.ended_at is None and (record.ban.until is None or record.ban.until > now)
            ],
            failures=[
                row.failure
                for row in self._failures
                if not row.spent and row.failure.at > now - findtime
            ],
            cursors=dict(self._cursors),
            next_ban=self._next_ban,
        )

    async def record(
        self,
        entries: Sequence[Entry],
        cursors: Mapping[CursorKey, Cursor],
        *,
        gone: Collection[str] = (),
    ) -> None:
        known = {*self._bans, *(entry.id for entry in entries if isinstance(entry, Ban))}
        for entry in entries:
            if isinstance(entry, Settled) and entry.ban is not None and entry.ban not in known:
                raise StoreError(f"no ban {entry.ban} to settle {entry.subject} with")
        for entry in entries:
            self._write(entry)
        self._cursors.update(cursors)
        self._cursors = {key: at for key, at in self._cursors.items() if key[0] not in gone}

    def _write(self, entry: Entry) -> None:
        match entry:
            case Failure():
                self._failures.append(_Counted(failure=entry))
                self._count(entry.jail, failures=1)
            case Settled():
                for row in self._failures:
                    key = (row.failure.jail, row.failure.subject)
                    if key == (entry.jail, entry.subject) and not row.spent:
                        row.spent, row.ban = True, entry.ban
            case Ban():
                if entry.id not in self._bans:
                    self._count(entry.jail, bans=1)
                self._bans[entry.id] = BanRecord(ban=entry)
                self._next_ban = max(self._next_ban, entry.id + 1)
            case Unban():
                record = self._bans.get(entry.ban.id)
                if record is not None and record.ended_at is None:
                    self._bans[entry.ban.id] = BanRecord(
                        ban=record.ban, ended_at=entry.at, ended_why=entry.reason
                    )

    def _count(self, jail: str, *, failures: int = 0, bans: int = 0) -> None:
        before = self._totals.get(jail, (0, 0))
        self._totals[jail] = (before[0] + failures, before[1] + bans)

    async def times_banned(self, jail: str, subject: Subject) -> int:
        return sum(record.ban.key == (jail, subject) for record in self._bans.values())

    async def totals(self) -> Mapping[str, tuple[int, int]]:
        return dict(self._totals)

    async def evidence(self, ban: int) -> Sequence[Failure]:
        led = [row.failure for row in self._failures if row.ban == ban]
        return sorted(led, key=lambda failure: failure.at)

    async def bans_of(self, jail: str, *, limit: int = 100) -> Sequence[BanRecord]:
        return [record for record in self._newest_bans() if record.ban.jail == jail][:limit]

    async def last_failures(self, jail: str, *, limit: int = 100) -> Sequence[Failure]:
        return [f for f in self._newest_failures() if f.jail == jail][:limit]

    async def history(self, subject: Subject, *, limit: int = 100) -> History:
        around = {subject.supernet(new_prefix=n) for n in range(subject.prefixlen + 1)}
        bans = [record for record in self._newest_bans() if record.ban.subject in around]
        failures = [f for f in self._newest_failures() if f.subject in around]
        return History(bans=bans[:limit], failures=failures[:limit])

    def _newest_bans(self) -> list[BanRecord]:
        return [self._bans[number] for number in sorted(self._bans, reverse=True)]

    def _newest_failures(self) -> list[Failure]:
        return [row.failure for row in reversed(self._failures)]

    async def purge(self, now: float) -> int:
        before = len(self._failures) + len(self._bans)
        forgotten = now - self._keep
        counting = min(forgotten, now - self._findtime)
        self._bans = {
            number: record
            for number, record in self._bans.items()
            if not _is_over(record, before=forgotten)
        }
        self._failures = [
            row
            for row in self._failures
            if row.ban in self._bans
            or (row.ban is None and row.failure.at >= (forgotten if row.spent else counting))
        ]
        return before - len(self._failures) - len(self._bans)


def _is_over(record: BanRecord, *, before: float) -> bool:
    end = record.ban.until if record.ended_at is None else record.ended_at
    return end is not None and end < before
