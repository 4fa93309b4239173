"""
A filter tried on a log, and what its jail would have done: lines in, counts and bans out.

The lines go the daemon's own way (sieve, filter, window), so what comes out is what the
daemon would have made of them. Nothing is looked up, stored or banned.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count as counted
from typing import Final

from dockerjail.cli import dates
from dockerjail.framed import plain
from dockerjail.jail.filter import Filter, Hit, Reading
from dockerjail.jail.ignore import Ignore
from dockerjail.jail.jail import Bench, Jail, Jails, Outcome
from dockerjail.jail.memory import Memory
from dockerjail.jail.patience import LIMIT, Patience, Watch
from dockerjail.jail.policy import JailPolicy
from dockerjail.jail.rule import Rule, UseDns
from dockerjail.jail.sieve import lines
from dockerjail.model import (
    Address,
    Chunk,
    Container,
    Cursor,
    Offence,
    Stream,
    Subject,
)
from dockerjail.stamp import seconds

KEPT: Final = 20
"""Lines of a kind that are kept for being shown, unless all are wanted."""

UNSTAMPED: Final = b"1970-01-01T00:00:00Z "
"""What stands for a stamp before the lines of a file that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A line that a failregex hit; `at` is None when no time is known."""

    hit: Hit
    text: str
    at: float | None


@dataclass(slots=True, kw_only=True)
class Suspect:
    """What came of one subject: failures, and bans as from and until (None is for good)."""

    subject: Subject
    failures: int = 0
    last_at: float = 0.0
    bans: list[tuple[float, float | None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Of which lines all are to be kept, for being printed."""

    matched: bool = False
    missed: bool = False
    ignored: bool = False


class _Witness(Filter):
    """A filter that notes what it says of each line that it is shown."""

    def __init__(self, rule: Rule, note: Callable[[Reading, Hit | None, bool], None]) -> None:
        super().__init__(rule)
        self._note = note
        self._lenient = Filter(replace(rule, ignoreregex=())) if rule.ignoreregex else None
        self._memory = Memory(rule.maxlines)

    def judge(self, line: Reading, memory: Memory | None = None) -> Hit | None:
        """See `Filter.judge`."""
        hit = super().judge(line, memory)
        spared = False
        if self._lenient is not None and (hit is None or self.remembers):
            memory = self._memory if self.remembers else None
            spared = self._lenient.judge(line, memory) is not None and hit is None
        self._note(line, hit, spared)
        return hit


class Trial:
    """
    One filter and what it found so far; raises `FilterError` for one that cannot work.

    `matched` lines count against somebody or have a name to look up, `ignored` ones were
    let pass by an ignoreregex; `hits` counts by failregex from 0 (-1: a rule without one).
    `unread` are lines of a stream that the jail does not read, `slow` tells of those that
    took a regex too long, as far as somebody lets the `watch` tick.
    """

    def __init__(
        self,
        policy: JailPolicy,
        *,
        ignore: Ignore,
        wanted: Wanted,
        told: Callable[[Match], None] = lambda _: None,
    ) -> None:
        self.policy = policy
        self.forecast = Forecast(policy, ignore)
        self.lines = self.matched = self.ignored = self.missed = self.unread = 0
        self.hits: Counter[int] = Counter()
        self.matched_lines: list[Match] = []
        self.ignored_lines: list[str] = []
        self.missed_lines: list[tuple[str, str]] = []
        """Texts, and why a line that was hit is a miss all the same."""
        self._wanted = wanted
        self._told = told
        self._noted: list[tuple[Reading, Hit | None, bool]] = []
        # an hour between two looks: here nobody is suspended, whatever lines take
        self.watch = Watch(map(float, counted(step=3600)).__next__)
        self._owner = Jails(ignore, self.watch)
        self._note = lambda line, hit, spared: self._noted.append((line, hit, spared))
        self._filter = _Witness(policy.rule, self._note)
        self._bench: Bench | None = None
        self.slow = Patience()

    def feed(self, chunk: Chunk) -> None:
        """Judge the lines of a chunk, each with a stamp or with `UNSTAMPED`."""
        chunk = plain(chunk)
        bench = self._bench = self._bench or self._sit(chunk.container)
        if chunk.stream not in self.policy.streams:
            self.unread += chunk.data.count(b"\n")
            return
        if self._lacks():
            # one by one, to see which of them miss
            for number, (start, end) in enumerate(lines(chunk.data)):
                if number % KEPT == 0 and not self._lacks():
                    self._judge(bench, replace(chunk, data=chunk.data[start:]))
                    return
                self._judge(bench, replace(chunk, data=chunk.data[start : end + 1]))
        else:
            self._judge(bench, chunk)

    def _lacks(self) -> bool:
        """Say whether more lines that miss are wanted."""
        return self._wanted.missed or len(self.missed_lines) < KEPT

    def _sit(self, container: Container) -> Bench:
        jail = Jail(self.policy, container.service, ignore=self._owner.ignore, filter=self._filter)
        self.slow = jail.patience
        return Bench(self._owner, container, [jail], [])

    def _judge(self, bench: Bench, chunk: Chunk) -> None:
        self._noted.clear()
        before = self.slow.overdue
        bench.judge(chunk)
        count = chunk.data.count(b"\n")
        self.lines += count
        missed = count
        for line, hit, spared in self._noted:
            text = line.whole[:-1]
            if spared:
                missed -= 1
                self.ignored += 1
                if self._wanted.ignored or len(self.ignored_lines) < KEPT:
                    self.ignored_lines.append(text)
            elif hit is not None and self._counts(hit):
                missed -= 1
                self._matched(Match(hit=hit, text=text, at=line.at or dates.moment(text)))
        self.missed += missed
        if missed and count == 1 and self._lacks():
            why = next((hit.why for _, hit, _ in self._noted if hit is not None), "")
            if self.slow.overdue > before:
                why = f"given up after {LIMIT * 1000:.0f} ms: {self.slow.regex}"
            self.missed_lines.append((_text(chunk.data), why))

    def _counts(self, hit: Hit) -> bool:
        lookup = hit.name and self.policy.rule.usedns is not UseDns.NO
        return hit.address is not None or bool(lookup)

    def _matched(self, match: Match) -> None:
        self.matched += 1
        self.hits[match.hit.regex] += 1
        if self._wanted.matched:
            self.matched_lines.append(match)
        self._told(match)
        self.forecast.add(match)


class Forecast:
    """
    What the jail would have done about the matches, by its own numbers.

    `suspects` by subject; `spared` are those who are never banned, with why and how many
    failures; `untimed` matches have no time, `names` only a name that would be looked up.
    """

    def __init__(self, policy: JailPolicy, ignore: Ignore) -> None:
        self.policy = policy
        self.suspects: dict[Subject, Suspect] = {}
        self.spared: dict[Address, tuple[str, int]] = {}
        self.untimed = 0
        self.names = 0
        self._jail = Jail(policy, "forecast", ignore=ignore, filter=Filter(policy.rule))

    @property
    def banned(self) -> list[Suspect]:
        """Who would have been banned, by the time of the first ban."""
        return sorted(
            (suspect for suspect in self.suspects.values() if suspect.bans),
            key=lambda suspect: suspect.bans[0][0],
        )

    @property
    def others(self) -> list[Suspect]:
        """Who would not, by failures."""
        return sorted(
            (suspect for suspect in self.suspects.values() if not suspect.bans),
            key=lambda suspect: -suspect.failures,
        )

    def add(self, match: Match) -> None:
        """Count a match."""
        if match.hit.address is None:
            self.names += 1
            return
        if match.at is None:
            self.untimed += 1
            return
        outcome = Outcome()
        self._jail.weigh(match.hit, match.at, match.text, "", outcome)
        self.names += len(outcome.named)
        for _, who, why, _ in outcome.ignored:
            self.spared[who] = why, self.spared.get(who, (why, 0))[1] + 1
        for what in outcome.entries:
            if isinstance(what, Offence):
                self._ban(self.suspects[what.subject], what.at)
                continue
            known = self.suspects.setdefault(what.subject, Suspect(subject=what.subject))
            known.failures += 1
            known.last_at = max(known.last_at, what.at)

    def _ban(self, suspect: Suspect, at: float) -> None:
        """Ban, or prolong the ban that stands, as the daemon does."""
        until = None if self.policy.bantime is None else at + self.policy.bantime
        if suspect.bans:
            since, end = suspect.bans[-1]
            if end is None:
                return
            if at < end:
                suspect.bans[-1] = since, None if until is None else max(until, end)
                return
        suspect.bans.append((at, until))


def stamped(data: bytes) -> bool:
    """Say whether a log's lines begin with the Engine's stamps, as `docker logs -t` prints."""
    first = next((line for line in data.split(b"\n") if line.strip()), b"")
    try:
        seconds(first.partition(b" ")[0])
    except ValueError:
        return False
    return b" " in first and b"T" in first[:11]


def chunks(pieces: Iterator[bytes], *, samples: bool, encoding: str = "utf-8") -> Iterator[Chunk]:
    """
    Make chunks of a log's bytes, however they are split; the last line needs no LF.

    `samples` says that empty lines and those that begin with `#` are no part of it, as
    in fail2ban-regex. A log whose first line has a stamp of the Engine's has no such.
    """
    nobody = Container(id="", name="", service="")
    rest = b""
    own: bool | None = None
    for piece in _with_end(pieces):
        data = rest + piece
        cut = data.rfind(b"\n") + 1
        data, rest = data[:cut], data[cut:]
        if not data:
            continue
        if encoding != "utf-8":
            data = data.decode(encoding, "replace").encode()
        if own is None:
            own = stamped(data)
        if not own:
            data = _marked(data, samples=samples)
        if data:
            yield Chunk(container=nobody, stream=Stream.STDOUT, data=data, cursor=Cursor(0, 0))


def _with_end(pieces: Iterator[bytes]) -> Iterator[bytes]:
    last = b""
    for piece in pieces:
        last = piece or last
        yield piece
    if last and not last.endswith(b"\n"):
        yield b"\n"


def _marked(data: bytes, *, samples: bool) -> bytes:
    """Put `UNSTAMPED` before each line; leave out what is no line of the log."""
    if samples and (b"#" in data or b"\n\n" in data or data.startswith(b"\n")):
        kept = [
            line
            for line in data[:-1].split(b"\n")
            if line.strip() and not line.lstrip().startswith(b"#")
        ]
        data = b"".join(line + b"\n" for line in kept)
    if not data:
        return b""
    return UNSTAMPED + data[:-1].replace(b"\n", b"\n" + UNSTAMPED) + b"\n"


def _text(data: bytes) -> str:
    """Return the text of one line that has a stamp."""
    line = data.rstrip(b"\r\n")
    head, _, tail = line.partition(b" ")
    try:
        seconds(head)
    except ValueError:
        tail = line
    return tail.decode("utf-8", "replace")


def clock(at: float | None) -> str:
    """Write a moment for people; `for good` for None."""
    if at is None:
        return "for good"
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"
