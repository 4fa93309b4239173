"""
The daemon's own log: records in, plain lines out, and never a flood of them.

A line that an attacker has a container write becomes at most one line here (`Found`), and a
million of them would fill the disk and hide the bans. So of each kind, of each jail, only so many
are written; how many were left out is said. Bans and their ends are always told.
"""

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TextIO

from dockerjail.escape import plain

FORMAT: Final = "%(asctime)s %(levelname)-7s %(message)s"

BURST: Final = 1000
PER_SECOND: Final = 50.0
"""Lines of one kind that are written at once, and then each second."""

PAUSE: Final = 10.0
"""Seconds between two words on what was left out."""

KINDS: Final = 1000
"""Kinds that are told apart: of most there is one for each jail."""


@dataclass(slots=True)
class _Kind:
    """What is left to be written of a kind, and what was left out since `since`."""

    tokens: float
    at: float
    left_out: int = 0
    since: float = 0.0


class Flood:
    """Counts lines by kind. Pure: `at` is in seconds, and may jump."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[str, _Kind] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kinds)

    def admit(self, kind: str, at: float) -> bool:
        """Say whether one more line of a kind is written."""
        found = self._kinds.get(kind)
        if found is None:
            if len(self._kinds) >= KINDS:
                self._kinds.popitem(last=False)
            found = self._kinds[kind] = _Kind(tokens=BURST, at=at)
        self._kinds.move_to_end(kind)
        found.tokens = min(BURST, found.tokens + max(0.0, at - found.at) * PER_SECOND)
        found.at = at
        if found.tokens >= 1:
            found.tokens -= 1
            return True
        found.since = found.since if found.left_out else at
        found.left_out += 1
        return False

    def left_out(self, at: float, *, pause: float = PAUSE) -> list[tuple[str, int]]:
        """Return, once, how many lines of which kinds were left out `pause` seconds ago and since."""
        told = []
        for name, kind in self._kinds.items():
            if kind.left_out and not 0 <= at - kind.since < pause:
                told.append((name, kind.left_out))
                kind.left_out = 0
        return told


class PlainFormatter(logging.Formatter):
    """Writes a record on one line, a traceback on its own; nothing that a terminal obeys."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, D102 -- logging names it
        record.message = plain(record.message)
        return super().formatMessage(record)

    def formatException(self, ei) -> str:  # type: ignore[no-untyped-def]  # noqa: N802, D102 -- logging names it
        return "\n".join(map(plain, super().formatException(ei).split("\n")))


class Journal(logging.StreamHandler[TextIO]):
    """Writes records to a stream."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(PlainFormatter(FORMAT))
        self._flood = Flood()
        self._looked = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless there were too many of its kind; then the next says how many."""
        kind = _kind(record)
        if not 0 <= record.created - self._looked < 1:
            self._looked = record.created
            self._confess(record.created)
        if kind is None or self._flood.admit(kind, record.created):
            super().emit(record)

    def close(self) -> None:
        """Say what was left out last."""
        self._confess(self._looked, pause=0.0)
        super().close()

    def _confess(self, at: float, *, pause: float = PAUSE) -> None:
        for kind, count in self._flood.left_out(at, pause=pause):
            text = f"{kind}: {count} more such lines were left out, too many at once"
            super().emit(logging.LogRecord(__name__, logging.WARNING, "", 0, text, (), None))


def _kind(record: logging.LogRecord) -> str | None:
    """Say what a record is one of many of; None for what is always written: bans, errors."""
    words, said = str(record.msg), record.args
    if record.levelno >= logging.ERROR or (words == "%s" and record.levelno >= logging.WARNING):
        return None
    if words == "%s":  # the warden's: a jail and a verb, then whom
        words = " ".join(record.getMessage().split(" ", 2)[:2])
    elif words.startswith("[%s]") and isinstance(said, tuple) and said:
        words = f"[{said[0]}]{words[4:]}"
    return words[:200]
