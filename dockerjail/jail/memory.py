"""
What a filter remembers of the lines before, for one container. Pure: times come with the lines.

Two things span lines, both fail2ban's. `<F-MLFID>` joins the lines of one connection:
the address may stand in one, the failure in another (`Session`). `maxlines` shows a
failregex the last lines of a stream at once (`Scroll`).

Everything is bounded: an attacker opens as many connections as he likes.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
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

Groups = Mapping[str, str | None]


class Joined(NamedTuple):
    """A failure of a connection: what its lines captured, and users and lines if they are several."""

    groups: Groups
    users: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


class Session:
    """
    One connection: what is known of it so far.

    `groups` are the captures of all its lines, the last of each name; `lines` those of a failure
    that waits, `aside` those that are none by themselves. `pending` is whether a failure waits for a line that
    says whose it is. `size` are the characters of all this and of the connection's id.
    """

    __slots__ = ("aside", "groups", "lines", "pending", "since", "size", "users")

    def __init__(self, since: float, size: int) -> None:
        self.since = since
        self.groups: Groups = _NOTHING
        self.users: tuple[str, ...] = ()
        self.lines: tuple[str, ...] = ()
        self.aside: tuple[str, ...] = ()
        self.pending = False
        self.size = size

    def tell(
        self, found: Groups, user: str, line: str, *, quiet: bool, gained: bool
    ) -> Joined | None:
        """Take in a line; return a failure if it is one."""
        if gained and self.pending:
            self.pending = False
            self.size -= _size(self.lines)
            self.lines = ()
        if user and user not in self.users and len(self.users) < NAMES:
            self.users += (user,)
            self.size += len(user)
        self._learn(found)
        if self.pending or len(self.users) > 1:
            quiet = gained = False
        self.pending = False
        if quiet:
            if len(self.aside) < LINES:
                self.aside += (line,)
                self.size += len(line)
            return None
        lines = self.aside + self.lines if self.aside else self.lines
        self.aside = ()
        if len(lines) < LINES and not gained:
            lines += (line,)
            self.size += len(line)
        elif len(lines) > LINES:
            self.size -= _size(lines[LINES:])
            lines = lines[:LINES]
        self.pending = not any(map(self.groups.get, _IDENTITIES))
        if self.pending:
            self.lines = lines
            return None
        self.lines = ()
        self.size -= _size(lines)
        return Joined(self.groups, self.users, lines)

    def _learn(self, found: Groups) -> None:
        """Keep what a line captured."""
        before = self.groups
        new = {name: said for name, said in found.items() if said is not None}
        self.size += _size(new.values()) - _size(filter(None, map(before.get, new)))
        self.groups = {**before, **new}


class Once(NamedTuple):
    """
    A connection with one line so far, as most have; a `Session` in little.

    An attacker has as many as he likes, and each object in memory that nobody has looked at for
    long takes its time to be found again and let go. `match` is where its failregex hit, `aside` the
    line if it was no failure by itself.
    """

    since: float
    size: int
    match: re.Match[str]
    aside: str | None

    def opened(self, key: str) -> Session:
        """Return what it is when a second line comes; `key` is its id."""
        session = Session(self.since, len(key))
        groups = self.match.groupdict()
        for name in _MARKS:
            groups.pop(name, None)
        session.groups = groups
        user = groups.get("user")
        if user:
            session.users = (user,)
        if self.aside is not None:
            session.aside = (self.aside,)
        session.size += _size(groups.values()) + _size(session.users) + _size(session.aside)
        return session


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
        self._sessions: OrderedDict[str, Session | Once] = OrderedDict()
        self._scrolls: dict[Stream, Scroll] = {}
        self._size = 0
        self.forgotten = 0
        self.forgotten_at = 0.0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def size(self) -> int:
        """How many characters all connections take together."""
        return self._size

    def scroll(self, stream: Stream) -> Scroll:
        """Return the last lines of `stream`."""
        if stream not in self._scrolls:
            self._scrolls[stream] = Scroll(self._maxlines)
        return self._scrolls[stream]

    def sessions(self) -> Iterator[tuple[str, Session]]:
        """Yield the id of each connection and what is known of it, from the one opened first on."""
        for key, known in self._sessions.items():
            yield key, known if isinstance(known, Session) else known.opened(key)

    def alone(self, key: str, match: re.Match[str], at: float) -> bool:
        """
        Take in a failure that says whose it is, if it is the first line of its connection.

        `match` has what it captured, and says nothing else of the connection. If this returns
        False nothing is done: then `join` knows what it is.
        """
        length = len(match.string)
        if length > LONGEST or len(key) > LONGEST or key in self._sessions:
            return False
        length += len(key)
        self._put(key, _new(Once, (at, length, match, None)), length, at)
        return True

    def join(
        self,
        found: dict[str, str | None],
        line: str,
        at: float,
        match: re.Match[str] | None = None,
    ) -> Joined | None:
        """
        Take in what a failregex found in a line of a connection; return a failure if it is one.

        A line marked `nofail` is none by itself, nor is one that gains access
        (`mlfgained`), unless the connection has a failure that waits for its address or
        has tried two users. A failure without an address waits for one. `found` is the memory's
        from now on: what only marks a line is taken out of it. `match` has it too, if that is all.
        """
        take = found.pop
        key = (take("mlfid") or "")[:LONGEST]
        forget = take("mlfforget", None)
        gained = take("mlfgained", None)
        quiet = bool(take("nofail", None) or gained)
        known = self._sessions.get(key)
        if known is not None and not -LIFE < at - known.since < LIFE:
            self._drop(key)
            known = None
        if known is None and forget:
            if quiet:
                return None  # nothing waits for it, and nothing is to come
            if found.get("ip4") or found.get("ip6"):
                return Joined(found)
        take("content", None)
        line = line.rstrip("\n")[:LONGEST]
        if known is None and quiet and match is not None and len(match.string) <= LONGEST:
            size = len(key) + len(match.string) + len(line)
            self._put(key, Once(at, size, match, line), size, at)
            return None
        if known is None:
            session, before = Session(at, len(key)), 0
        else:
            before = known.size
            session = known if isinstance(known, Session) else known.opened(key)
            if forget:
                self._drop(key)
        if len("".join(filter(None, found.values()))) > LONGEST:
            found = {name: said and said[:LONGEST] for name, said in found.items()}
        failure = session.tell(
            found, found.get("user") or "", line, quiet=quiet, gained=bool(gained)
        )
        if not forget:
            self._put(key, session, session.size - before, at)
        return failure

    def _put(self, key: str, session: Session | Once, more: int, at: float) -> None:
        """Keep what is known of a connection, which takes so many more characters than before."""
        self._sessions[key] = session
        self._size += more
        if len(self._sessions) > SESSIONS:
            self._make_room(at)
        if self._size > ROOM:
            # counted anew: whoever is interrupted for taking too long may have lost count
            self._size = sum(session.size for session in self._sessions.values())
            while self._size > ROOM - ROOM // 8 and len(self._sessions) > 1:
                self._make_room(at)

    def _drop(self, key: str) -> None:
        self._size -= self._sessions.pop(key).size

    def _make_room(self, at: float) -> None:
        """Forget the connection that was opened first."""
        _, session = self._sessions.popitem(last=False)
        self._size -= session.size
        if -LIFE < at - session.since < LIFE:
            self.forgotten += 1
            self.forgotten_at = at


_IDENTITIES: Final = ("ip4", "ip6", "dns", "fid", "host")
_MARKS: Final = ("mlfid", "content", "nofail", "mlfforget", "mlfgained")
_NOTHING: Final[Groups] = MappingProxyType({})
_new: Final = tuple.__new__


def _size(texts: Iterable[str | None]) -> int:
    """Count the characters of texts."""
    return sum(map(len, filter(None, texts)))
