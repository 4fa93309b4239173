"""
What must be in the store after a round, and what is wrong with what is there. Pure.

In: what the generators noted of what they printed, what the Engine still has of their
logs, the rows of the store, the bans, and what dockerjail said. Out: a `Verdict`.

A line is known by container, generation, life and number. Of a log that is all there the
Engine's own copy says what it was given to deliver: each whole line in it must be one row.
Where the Engine has thrown lines away (rotation, removal), what the generators noted
takes its place; such lines may be missing, but not without a word about it. A line that
was cut in two by a kill may count or not.
"""

import bisect
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dockerjail.stamp import seconds

NEAR = 1.5
"""Seconds before a SIGKILL of the Engine in which it may have held lines that it lost."""

_HEAD = re.compile(
    rb"chaos (?P<name>\S+) (?P<gen>\d+) (?P<life>\d+) (?P<number>\d+) (?P<kind>fast|slow) "
    rb"failed login from (?P<address>\S+) (?P<whole>x*end)?"
)
_TTY_STAMP = re.compile(rb"(?:(?<=[\r\nx])|^)(\d{4}-\d\d-\d\dT[0-9:.]{8,18}(?:Z|[+-]\d\d:\d\d)) ")
_GAP = re.compile(r"container (\S+): .*lines may (?:be|have been) (?:missing|missed|lost)")
_COLOUR = b"\x1b[31m"
_HEADER = 8


class Key(NamedTuple):
    """Which line."""

    name: str
    gen: int
    life: int
    number: int


@dataclass(frozen=True, slots=True)
class Heard:
    """A line in the Engine's log: its stamp (seconds), and whether all of it is there."""

    at: float
    whole: bool


@dataclass(frozen=True, slots=True)
class Printed:
    """A line that a generator noted: when (seconds), on which stream, and if it came to an end."""

    at: float
    stream: int
    done: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A failure in the store."""

    jail: str
    subject: str
    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A container of the round; `log` is what the Engine has of it, None when it is removed."""

    name: str
    gen: int
    id: str
    scarce: bool
    """Whether the Engine throws away parts of its log: by rotation, or a lossy copy."""
    printed: Mapping[Key, Printed]
    log: Mapping[Key, Heard] | None


@dataclass(slots=True)
class Verdict:
    """What came out; `faults` is what must not be, in words."""

    sent: int = 0
    judged: int = 0
    lost: list[Key] = field(default_factory=list)
    silent: list[Key] = field(default_factory=list)
    doubled: list[Key] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    dropped: int = 0
    """Lines that the Engine itself did not keep."""
    unread: int = 0
    """Lines that went with their container or their file before they were read, as was said."""
    bans_expected: int = 0
    bans_found: int = 0
    bans_wrong: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Say what is wrong."""
        told = []
        for what, keys in (
            ("lost", self.lost),
            ("gone without a word", self.silent),
            ("doubled", self.doubled),
        ):
            if keys:
                told.append(f"{what}: {len(keys)}: {_some(keys)}")
        told += (f"strange: {each}" for each in self.strange[:10])
        told += (f"ban: {each}" for each in self.bans_wrong[:10])
        return told


def judge(
    boxes: Sequence[Box],
    rows: Sequence[Row],
    bans: Sequence[tuple[str, str]],
    *,
    rules: Mapping[str, tuple[int, float]],
    reported: frozenset[str],
    kills: Sequence[float],
) -> Verdict:
    """
    Compare.

    `bans` are jail and subject; `rules` maxretry and findtime by the jail's kind (`fast`,
    `slow`); `reported` the containers, by name or id, of which dockerjail said that lines may be
    missing; `kills` when the Engine was killed.
    """
    verdict = Verdict()
    found: Counter[Key] = Counter()
    known = {key for box in boxes for key in box.printed}
    for row in rows:
        head = _HEAD.match(row.text.encode())
        key = _key(head) if head else None
        if head is None or key is None or key not in known:
            verdict.strange.append(f"a row for what was never printed: {row.text[:80]!r}")
            continue
        found[key] += 1
        if head["address"].decode() not in _addresses(row.subject):
            verdict.strange.append(f"{key} counts against {row.subject}, not {head['address']!r}")
    verdict.judged = len(found)
    verdict.doubled = sorted(key for key, count in found.items() if count > 1)
    for box in boxes:
        told = bool(reported & {box.name, box.id[:12]})
        _lines(box, found, verdict, reported=told, kills=kills)
    _stamps(boxes, rows, verdict)
    _bans(rows, bans, rules, verdict)
    return verdict


def _lines(
    box: Box, found: Mapping[Key, int], verdict: Verdict, *, reported: bool, kills: Sequence[float]
) -> None:
    done = {key for key, line in box.printed.items() if line.done}
    log = box.log or {}
    verdict.sent += len(done | {key for key, heard in log.items() if heard.whole})
    for key, heard in log.items():
        if heard.whole and not found.get(key):
            verdict.lost.append(key)
    gone = [key for key in sorted(done) if key not in log and not found.get(key)]
    by_kill = {key for key in gone if _near(box.printed[key].at, kills)}
    verdict.dropped += len(by_kill)
    left = [key for key in gone if key not in by_kill]
    if box.log is not None and not box.scarce:
        verdict.dropped += len(left)  # what the Engine has is what it delivers
        return
    if box.log is None and not box.scarce:
        # Removed: only what was last may not have been read any more.
        holes = set(_holes(box, found, left))
        verdict.lost += sorted(holes)
        left = [key for key in left if key not in holes]
    first = min((key for key in box.printed if found.get(key)), default=None)
    for key in left:
        # Whoever never saw the beginning, or any of it, cannot know that there was one.
        if reported or first is None or (box.log is not None and key < first):
            verdict.unread += 1
        else:
            verdict.silent.append(key)


def _holes(box: Box, found: Mapping[Key, int], missing: Iterable[Key]) -> Iterator[Key]:
    """Yield the missing lines after which lines of the same stream were read."""
    last: dict[int, Key] = {}
    for key, line in box.printed.items():
        if found.get(key):
            last[line.stream] = max(key, last.get(line.stream, key))
    for key in missing:
        stream = box.printed[key].stream
        if stream in last and key < last[stream]:
            yield key


def _stamps(boxes: Sequence[Box], rows: Sequence[Row], verdict: Verdict) -> None:
    """See that failures have the Engine's time."""
    heard = {key: line.at for box in boxes for key, line in (box.log or {}).items()}
    for row in rows:
        head = _HEAD.match(row.text.encode())
        if head and abs(heard.get(_key(head), row.at) - row.at) > 1e-5:
            verdict.strange.append(f"{_key(head)} has the time {row.at}, not {heard[_key(head)]}")


def _bans(
    rows: Sequence[Row],
    bans: Sequence[tuple[str, str]],
    rules: Mapping[str, tuple[int, float]],
    verdict: Verdict,
) -> None:
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        times[row.jail, row.subject].append(row.at)
    expected = {
        who for who, at in times.items() if enough(at, *rules[who[0].partition("@")[0][:4]])
    }
    got = Counter(bans)
    verdict.bans_expected, verdict.bans_found = len(expected), got.total()
    verdict.bans_wrong = [
        *(f"missing: {who}: {_ages(times[who])}" for who in sorted(expected - got.keys())),
        *(f"superfluous: {who}: {_ages(times[who])}" for who in sorted(got.keys() - expected)),
        *(f"{count} bans of {who}" for who, count in sorted(got.items()) if count > 1),
    ]


def enough(times: Iterable[float], maxretry: int, findtime: float) -> bool:
    """Say whether `maxretry` of these lie within less than `findtime`."""
    at = sorted(times)
    return any(last - first < findtime for first, last in zip(at, at[maxretry - 1 :], strict=False))


def printed(record: str, name: str, gen: int) -> dict[Key, Printed]:
    """Read a generator's record."""
    lines: dict[Key, Printed] = {}
    for text in record.splitlines():
        at, what, *numbers = text.split(" ")
        if what == "life":
            continue
        life, first, count, stream = map(int, numbers)
        for number in range(first, first + count):
            lines[Key(name, gen, life, number)] = Printed(float(at), stream, what == "done")
    return lines


def heard(body: bytes, *, tty: bool) -> dict[Key, Heard]:
    """Read the body of a log, with timestamps, by nothing of dockerjail's own code."""
    lines: dict[Key, Heard] = {}
    for text, starts, stamps in _texts(body, tty=tty):
        for head in _HEAD.finditer(text):
            piece = bisect.bisect_right(starts, head.start()) - 1
            # A kill of the Engine's can lose what is between the middles of two lines.
            begins = text[starts[piece] : head.start()] in (b"", _COLOUR)
            if tty and piece and text[starts[piece] - 1 : starts[piece]] not in (b"\n", b"\r"):
                begins = False  # behind a torn line, where a terminal's log shows no end
            whole = begins and head["whole"] is not None
            lines[_key(head)] = Heard(seconds(stamps[piece]), whole)
    return lines


def _texts(body: bytes, *, tty: bool) -> Iterator[tuple[bytes, list[int], list[bytes]]]:
    """Yield the text of each stream, where its pieces start, and their stamps."""
    pieces: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    if tty:
        _, *parts = _TTY_STAMP.split(body)
        pieces[1] = list(zip(parts[::2], parts[1::2], strict=True))
    else:
        at = 0
        while at < len(body):
            end = at + _HEADER + int.from_bytes(body[at + 4 : at + _HEADER], "big")
            stamp, _, text = body[at + _HEADER : end].partition(b" ")
            pieces[body[at]].append((stamp, text))
            at = end
    for stream in (1, 2):
        starts, length = [], 0
        for _, text in pieces[stream]:
            starts.append(length)
            length += len(text)
        yield b"".join(text for _, text in pieces[stream]), starts, [s for s, _ in pieces[stream]]


def key_of(text: str) -> Key | None:
    """Return which line this is, None if it is none of a generator's."""
    head = _HEAD.match(text.encode())
    return _key(head) if head else None


def reported(log: str) -> frozenset[str]:
    """Return of which containers dockerjail said that lines may be missing."""
    return frozenset(_GAP.findall(log))


def _key(head: re.Match[bytes]) -> Key:
    return Key(head["name"].decode(), int(head["gen"]), int(head["life"]), int(head["number"]))


def _addresses(subject: str) -> Iterable[str]:
    """Return the one address that the generators have in this network."""
    address, _, prefix = subject.partition("/")
    return (f"{address}7",) if prefix == "64" else (address,)


def _near(at: float, kills: Iterable[float]) -> bool:
    return any(-NEAR <= at - kill <= 0.5 for kill in kills)


def _ages(times: Sequence[float]) -> str:
    at = sorted(times)
    return "at " + ", ".join(f"{t - at[0]:.3f}" for t in at[:12]) if at else "no failures"


def _some(keys: Sequence[Key]) -> str:
    first = ", ".join(f"{k.name}.{k.gen} {k.life}/{k.number}" for k in keys[:6])
    return first + (", ..." if len(keys) > 6 else "")
