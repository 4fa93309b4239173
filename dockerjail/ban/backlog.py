"""
What the store has not taken yet, in order, and the task that gets it there.

In: what a turn of the warden writes. Out: transactions, and word whether they went through.
A store that refuses for a reason that may pass (disk full, locked, read-only), or that does not
answer, delays no ban: what is unwritten waits here and goes later, each cursor with or after
the rows of the lines before it. So a kill loses nothing either: what was not written is
read from the logs again. Only operators' orders are in no log.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from dockerjail.config import duration
from dockerjail.errors import StoreError, StoreUnavailable
from dockerjail.model import (
    Allowance,
    Ban,
    Cause,
    Cursor,
    Problem,
    Subject,
    Unban,
    UnbanReason,
    written,
)
from dockerjail.ports import CursorKey, Disallowed, Entry, Store
from dockerjail.retry import Backoff

logger = logging.getLogger(__name__)

ROWS: Final = 2000
"""Rows after which a transaction takes no more."""

MOST: Final = 20_000
"""
Rows that may wait before no more lines are judged; they go on waiting in the Engine's logs.

A failure remembers a thousand characters at most: that is some forty megabytes.
"""

PATIENCE: Final = 0.5
"""Seconds that a ban waits at most for the store to write it, or to say who was banned before."""

SLOW: Final = 5.0
"""Seconds after which a store that does not answer is told of."""

LAST_WORDS: Final = 6.0
"""Seconds that the last attempt may take at a stop."""

TOLD: Final = 10
"""Orders that are lost which a stop names."""


@dataclass(slots=True)
class _Page:
    """What one transaction writes."""

    entries: list[Entry] = field(default_factory=list)
    cursors: dict[CursorKey, Cursor] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)


class Backlog:
    """Writes in the background what the warden decides; one task (`run`) does so."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float],
        backoff: Backoff | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Make an empty one; `changed` is called when there is room again, and when it gives up."""
        self._store = store
        self._clock = clock
        self._backoff = backoff or Backoff(ceiling=15.0)
        self._changed = changed
        self._pages: deque[_Page] = deque()
        self._writing = False
        self._late = False
        self._closing = False
        self._work = asyncio.Event()
        self._hurry = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._bans: dict[Subject, dict[int, Ban]] = {}
        self._places: dict[int, tuple[_Page, int]] = {}  # where a ban waits to be written
        self._deaf_until = -math.inf  # by the loop's clock, which nobody sets
        self.rows = 0
        self.since: float | None = None
        self._began = 0.0  # the same moment by the loop's clock
        self.trouble: StoreUnavailable | None = None
        self.unread: StoreError | None = None
        self.broken: StoreError | None = None

    # What others may ask

    @property
    def full(self) -> bool:
        """Whether so much waits that no more may come."""
        return self.rows >= MOST

    @property
    def behind(self) -> bool:
        """Whether what is enforced is not written yet."""
        return bool(self._pages) and (
            self._late or self.trouble is not None or self.broken is not None
        )

    def problems(self) -> Iterator[Problem]:
        """Tell what an operator can mend."""
        if self.trouble is not None and self.since is not None:
            at = datetime.fromtimestamp(self.since).astimezone()
            waits = f"since {at:%Y-%m-%d %H:%M:%S} nothing can be written, {self.rows} rows wait"
            reads = "; no more lines are judged until they are written" if self.full else ""
            yield Problem(
                place="store",
                what=f"{self.trouble.what}: {waits}; bans are enforced all the same{reads}",
                remedy=self.trouble.remedy,
            )
        if self.unread is not None:
            yield Problem(
                place="store",
                what=f"earlier bans cannot be read, so none makes a ban longer: {self.unread}",
            )

    async def bans_against(self, subject: Subject, *, since: float) -> Sequence[Ban]:
        """
        Return the bans that a subject has had, the newest first: written ones and others.

        If the store does not tell soon, those that are not written yet: no ban waits for history.
        """
        stored: Sequence[Ban] = ()
        if asyncio.get_running_loop().time() >= self._deaf_until:
            try:
                async with asyncio.timeout(PATIENCE):
                    stored = await self._store.bans_against(subject, since=since)
            except TimeoutError:
                self._unread(StoreUnavailable("the store does not answer"))
            except StoreError as error:
                self._unread(error)
            else:
                self.unread = None
        fresh = self._bans.get(subject)
        if not fresh:
            return stored
        known = {ban.id: ban for ban in stored} | {
            number: ban for number, ban in fresh.items() if ban.at >= since
        }
        return sorted(known.values(), key=lambda ban: (ban.at, ban.id), reverse=True)

    def _unread(self, error: StoreError) -> None:
        self._deaf_until = asyncio.get_running_loop().time() + SLOW
        if self.unread is None:
            logger.error("earlier bans cannot be read, so none makes a ban longer: %s", error)
        self.unread = error

    # What the warden says

    def put(
        self,
        entries: Collection[Entry],
        cursors: Mapping[CursorKey, Cursor],
        gone: Collection[str] = (),
    ) -> None:
        """Take what one turn wants written, as one: the cursors are those behind these entries."""
        if not (entries or cursors or gone):
            return
        page = self._pages[-1] if self._pages else None
        if page is None or len(page.entries) >= ROWS or (self._writing and len(self._pages) == 1):
            page = _Page()
            self._pages.append(page)
        for entry in entries:
            self._add(entry, page)
        page.cursors |= cursors
        page.gone |= set(gone)
        if self.trouble is None and not self.broken:
            self._settled.clear()
        self._work.set()

    def _add(self, entry: Entry, page: _Page) -> None:
        """Add an entry; a ban that waits already is replaced, so that a ban that moves fills no memory."""
        if isinstance(entry, Unban):
            self._places.pop(entry.ban.id, None)
        elif isinstance(entry, Ban):
            self._bans.setdefault(entry.subject, {})[entry.id] = entry
            where, number = self._places.get(entry.id, (None, 0))
            if where is not None and not (self._writing and where is self._pages[0]):
                where.entries[number] = entry
                return
            self._places[entry.id] = page, len(page.entries)
        page.entries.append(entry)
        self.rows += 1

    async def settle(self) -> None:
        """Return when all is written; or, since no ban may wait longer, when that takes its time."""
        if self._late:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self._settled.wait()
        except TimeoutError:
            self._late = True

    def close(self) -> None:
        """Have what is left tried once more, and `run` end."""
        self._closing = True
        self._work.set()
        self._hurry.set()

    def check(self) -> None:
        """Raise the `StoreError` that ended it, or that says what was never written."""
        if self.broken is not None:
            raise self.broken
        if not self._pages:
            return
        why = self.trouble.what if self.trouble else "the store does not answer"
        lost = [told for page in self._pages for entry in page.entries if (told := _order(entry))]
        more = f" and {len(lost) - TOLD} more" if len(lost) > TOLD else ""
        raise StoreUnavailable(
            f"{why}: {self.rows} rows could not be written; what came from logs is read from there "
            "again at the next start"
            + (f", lost are the orders: {', '.join(lost[:TOLD])}{more}" if lost else ""),
            self.trouble.remedy if self.trouble else "",
        )

    # The work

    async def run(self) -> None:
        """Write until closed, or until the store cannot be trusted any more."""
        while await self._write_all():
            if self._closing:
                return
            await self._work.wait()

    async def _write_all(self) -> bool:
        """Write what there is, waiting between attempts; say whether to go on."""
        delays = self._backoff.delays()
        while self._pages:
            try:
                await self._write(self._pages[0])
            except StoreUnavailable as error:
                self._begin(error)
                if self._closing:
                    return False
                with suppress(TimeoutError):
                    async with asyncio.timeout(next(delays)):
                        await self._hurry.wait()
            except StoreError as error:
                self.broken = error
                self._settled.set()
                self._changed()
                return False
            else:
                delays = self._backoff.delays()
        self._end()
        return True

    async def _write(self, page: _Page) -> None:
        self._writing = True
        slow = asyncio.get_running_loop().call_later(SLOW, self._begin, _SILENT, SLOW)
        try:
            await self._store.record(page.entries, page.cursors, gone=page.gone)
        finally:
            slow.cancel()
            self._writing = False
        self._pages.popleft()
        self.rows -= len(page.entries)
        for entry in page.entries:
            if isinstance(entry, Ban):
                self._forget(entry, page)
        self._changed()

    def _forget(self, ban: Ban, page: _Page) -> None:
        """Let go of a ban that the store knows now, unless it has changed since."""
        if self._places.get(ban.id, (None, 0))[0] is page:
            del self._places[ban.id]
        fresh = self._bans.get(ban.subject, {})
        if fresh.get(ban.id) is ban:
            del fresh[ban.id]
            if not fresh:
                del self._bans[ban.subject]

    def _begin(self, error: StoreUnavailable, lasting: float = 0.0) -> None:
        """Take note of trouble that has been `lasting` for so many seconds."""
        if self.trouble is None:
            self.since = self._clock() - lasting
            self._began = asyncio.get_running_loop().time() - lasting
            logger.error(
                "store: %s; bans are enforced all the same, and written when it works again", error
            )
        self.trouble = error
        self._settled.set()

    def _end(self) -> None:
        if self.trouble is not None:
            lasted = asyncio.get_running_loop().time() - self._began
            logger.warning(
                "store: it works again after %s, and everything is written",
                duration.format(max(1, round(lasted))),
            )
        self.trouble = self.since = None
        self._late = False
        self._work.clear()
        self._settled.set()


_SILENT: Final = StoreUnavailable(
    "the store does not answer", "look at the disk, and at the system's log"
)


def _order(entry: Entry) -> str:
    """Write an operator's order as he would give it; empty for what stands in some log."""
    match entry:
        case Ban(cause=Cause.OPERATOR):
            return f"ban {written(entry.subject)}"
        case Unban(reason=UnbanReason.OPERATOR):
            return f"unban {written(entry.ban.subject)}"
        case Allowance():
            return f"allow add {entry.who}"
        case Disallowed():
            return f"allow remove {entry.who}"
    return ""
