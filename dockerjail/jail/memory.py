"""
What a filter remembers of the lines before, for one container. Pure: times come with the lines.

Two things span lines, both fail2ban's. `<F-MLFID>` joins the lines of one connection:
the address may stand in one, the failure in another (`Session`). `maxlines` shows a
failregex the last lines of a stream at once (`Scroll`).

Everything is bounded: an attacker opens as many connections as he likes.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple

from dockerjail.model import Stream

SESSIONS: Final = 1000
"""Connections remembered at once; beyond it the one opened first is forgotten (fail2ban: 100)."""

LIFE: Final = 300.0
"""Seconds from its first line that a connection is remembered, as fail2ban does."""

LINES: Final = 20
"""Lines of one connection that go with a failure."""

NAMES: Final = 20
"""Users of one connection that are told apart; two make a failure of a log-in."""

LONGEST: Final = 1000
"""Characters kept of a line, of what was captured, and of a connection's id."""

ROOM: Final = 1 << 20
"""Characters of all connections together; beyond it, too, the one opened first is forgotten."""

TOGETHER: Final = 65536
"""Characters that the lines of a `Scroll` have together at most; a single one may be longer."""

_MARKS: Final = frozenset(("mlfid", "content", "nofail", "mlfforget", "mlfgained"))
_IDENTITIES: Final = ("fid", "ip4", "ip6", "host", "dns")

Groups = Mapping[str, str | None]


class Joined(NamedTuple):
    """A failure of a connection: what its lines captured, who tried, and the lines."""

    groups: dict[str, str | None]
    users: frozenset[str]
    lines: tuple[str, ...]


@dataclass(slots=True)
class Session:
    """One connection: what is known of it so far."""

    since: float
    groups: dict[str, str | None] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    """Lines of failures."""
    aside: list[str] = field(default_factory=list)
    """Lines that are no failure by themselves."""
    quiet: bool = False
    """The last line was no failure."""
    pending: bool = False
    """A failure waits for a line that says whose it is."""
    size: int = 0
    """Characters of all this, as they were counted last."""

    def measure(self) -> int:
        """Count the characters."""
        known = (text for text in self.groups.values() if text)
        return sum(map(len, chain(known, self.users, self.lines, self.aside)))


class Scroll:
    """The last `most` lines of one stream, fewer if they are long."""

    def __init__(self, most: int) -> None:
        self.lines: deque[str] = deque(maxlen=most)

    def add(self, line: str) -> str:
        """
        Take in a line with its LF; return the lines put together.

        Of very long lines there are fewer, at least the last: all are searched again with each
        line, and whoever has long ones logged chooses what that costs.
        """
        self.lines.append(line)
        size = sum(map(len, self.lines))
        while size > TOGETHER and len(self.lines) > 1:
            size -= len(self.lines.popleft())
        return "".join(self.lines)

    def clear(self) -> None:
        """Forget the lines."""
        self.lines.clear()

    def take(self, start: int, end: int, skipped: list[tuple[int, int]]) -> tuple[str, ...]:
        """
        Return the lines that a match touched, and drop them.

        `start` and `end` count in the lines put together, each with its LF; what lies
        within `skipped` stays.
        """
        taken, kept = [], []
        at = 0
        for line in self.lines:
            behind = at + len(line)
            touched = at < end and behind > start
            if touched and not any(a <= at and behind <= b for a, b in skipped):
                taken.append(line)
            else:
                kept.append(line)
            at = behind
        self.lines.clear()
        self.lines.extend(kept)
        return tuple(line.rstrip("\n") for line in taken)


class Memory:
    """
    What one filter remembers of one container.

    `forgotten` counts the connections that had to make room while they could still matter,
    `forgotten_at` is when one last did.
    """

    def __init__(self, maxlines: int = 1) -> None:
        self._maxlines = maxlines
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._scrolls: dict[Stream, Scroll] = {}
        self._size = 0
        self.forgotten = 0
        self.forgotten_at = 0.0

    def __len__(self) -> int:
        return len(self._sessions)

    def scroll(self, stream: Stream) -> Scroll:
        """Return the last lines of `stream`."""
        if stream not in self._scrolls:
            self._scrolls[stream] = Scroll(self._maxlines)
        return self._scrolls[stream]

    def join(self, found: Groups, line: str, at: float) -> Joined | None:
        """
        Take in what a failregex found in a line of a connection; return a failure if it is one.

        A line marked `nofail` is none by itself, nor is one that gains access
        (`mlfgained`), unless the connection has a failure that waits for its address or
        has tried two users. A failure without an address waits for one.
        """
        key = (found["mlfid"] or "")[:LONGEST]
        failure = self._join(key, found, line, at)
        session = self._sessions.get(key)
        if session is not None:
            self._size -= session.size
            session.size = len(key) + session.measure()
            self._size += session.size
        if len(self._sessions) > SESSIONS:
            self._make_room(at)
        if self._size > ROOM:
            # counted anew: whoever is interrupted for taking too long may have lost count
            self._size = sum(session.size for session in self._sessions.values())
            while self._size > ROOM - ROOM // 8 and len(self._sessions) > 1:
                self._make_room(at)
        return failure

    def _join(self, key: str, found: Groups, line: str, at: float) -> Joined | None:
        forget = bool(found.get("mlfforget"))
        gained = bool(found.get("mlfgained"))
        quiet = gained or bool(found.get("nofail"))
        user = found.get("user")
        session = self._known(key, at)
        if session is not None:
            if gained:
                session.pending = False
            if not session.quiet and not session.pending:
                session.lines.clear()  # they went with an earlier failure
            if forget:
                self._drop(key)
        else:
            session = Session(since=at)
            if not forget:
                self._sessions[key] = session
        if user and len(session.users) < NAMES:
            session.users.add(user[:LONGEST])
        session.groups.update(
            (name, text[:LONGEST])
            for name, text in found.items()
            if text is not None and name not in _MARKS
        )
        if session.pending or len(session.users) > 1:
            quiet = gained = False
        session.pending = False
        session.quiet = quiet
        if quiet:
            if not forget:
                _append(session.aside, line)
            return None
        session.lines = [*session.aside, *session.lines][:LINES]
        session.aside = []
        if not gained:
            _append(session.lines, line)
        if not any(session.groups.get(name) for name in _IDENTITIES):
            session.pending = True
            return None
        return Joined(dict(session.groups), frozenset(session.users), tuple(session.lines))

    def _known(self, key: str, at: float) -> Session | None:
        session = self._sessions.get(key)
        if session is not None and not -LIFE < at - session.since < LIFE:
            self._drop(key)
            return None
        return session

    def _drop(self, key: str) -> Session:
        session = self._sessions.pop(key)
        self._size -= session.size
        return session

    def _make_room(self, at: float) -> None:
        """Forget the connection that was opened first."""
        session = self._drop(next(iter(self._sessions)))
        if -LIFE < at - session.since < LIFE:
            self.forgotten += 1
            self.forgotten_at = at


def _append(lines: list[str], line: str) -> None:
    if len(lines) < LINES:
        lines.append(line.rstrip("\n")[:LONGEST])
