"""
What must be in the store after a round, and what is wrong with what is there. Pure.

In: what the generators noted of what they printed, what the Engine still has of their
logs, the rows of the store, the bans, and what dockerjail said. Out: a `Verdict`.

A line is known by container, generation, life and number. Of a log that is all there the
Engine's own copy says what it was given to deliver: each whole line in it must be one row.
A line that was cut in two by a kill may count or not.

Where the Engine has thrown lines away (rotation, removal), what the generators noted
takes its place. Such lines may be missing, but not without a word about them: a gap that
dockerjail told of explains the one stretch of missing lines that lies behind the line it names, and
no other. What nobody can see missing counts as unseen, in these cases alone:

* `ROTATED`: the beginning of a log was thrown away before its first line was read.
* `REMOVED`: a container was removed before its first line was read.
* `LAST`: an Engine before 23 ended the stream of a `--rm` container before its last words.
* `JOINED`: Podman joined a run's first line with the last words of the one before, and the run after it
  had begun, too, when dockerjail looked again.
"""

import bisect
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from dockerjail.stamp import seconds

NEAR = 1.5
"""Seconds before a SIGKILL of the Engine in which it may have held lines that it lost."""

ROTATED = "rotated before the first line read"
REMOVED = "removed before the first line read"
LAST = "last words of --rm"
JOINED = "joined with last words"
"""What nobody can see missing."""

INVERSION = 1.0
"""Seconds by which stdout and stderr may be out of order in a log."""

NOTICED = 1.0
"""Seconds after its begin from which on a run that is watched is known to be another."""

LAST_WORDS = 1.0
"""Seconds before a container's last line in which an Engine before 23 may not send its lines."""

_HEAD = re.compile(
    rb"chaos (?P<name>\S+) (?P<gen>\d+) (?P<life>\d+) (?P<number>\d+) (?P<kind>fast|slow) "
    rb"failed login from (?P<address>\S+) (?P<whole>x*end)?"
)
_TTY_STAMP = re.compile(rb"(?:(?<=[\r\nx])|^)(\d{4}-\d\d-\d\dT[0-9:.]{8,18}(?:Z|[+-]\d\d:\d\d)) ")
_GAP = re.compile(
    r"container \S+: gap \d+ of (?P<id>[0-9a-f]+) "
    r"(?:before its first line|behind the line of (?P<behind>.*))$",
    re.MULTILINE,
)
_BEHIND = re.compile(r"(\S+) \((stdout|stderr)\)")
_AWAY = re.compile(
    r"container ([0-9a-f]{12}): it was removed while dockerjail was away, "
    r"lines may have been missed$",
    re.MULTILINE,
)
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
    """
    A line in the Engine's log: its stamp (seconds), and whether all of it is there.

    One that is `joined` stands behind something that has no LF.
    """

    at: float
    whole: bool
    joined: bool = False


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


@dataclass(frozen=True, slots=True)
class Told:
    """
    A gap that dockerjail told of, in the log of a container (the first 12 digits of its id).

    It is `behind` the line of each stream that has this time; of a stream that is not named, before
    its first line. None is the end of the log.
    """

    id: str
    behind: Mapping[int, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A container of the round; `log` is what the Engine has of it, None when it is removed."""

    name: str
    gen: int
    id: str
    printed: Mapping[Key, Printed]
    log: Mapping[Key, Heard] | None
    rotates: bool = False
    """Whether the Engine throws away the beginning of its log when it gets long."""
    fleeting: bool = False
    """Whether it was removed as soon as it ended, by an Engine that may keep back its last words."""
    joins: bool = False
    """Whether its Engine, a Podman, tells only when its last run began and the one before ended."""
    lives: Mapping[int, float] = field(default_factory=dict)
    """When its runs began, seconds."""
    watched: Sequence[float] = ()
    """When dockerjail said that it had judged a line of it, seconds."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """
    Lines in a row that were printed on one stream and not read.

    `after` is the Engine's time of the line read before them, minus infinity when there is none,
    `before` that of the one after, infinity when there is none.
    """

    stream: int
    after: float
    before: float
    keys: Sequence[Key]


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
    unseen: Counter[str] = field(default_factory=Counter)
    """Lines that went so while nobody could see it, by the case."""
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
    told: Sequence[Told],
    kills: Sequence[float],
) -> Verdict:
    """
    Compare.

    `bans` are jail and subject; `rules` maxretry and findtime by the jail's kind (`fast`,
    `slow`); `told` the gaps that dockerjail told of; `kills` when the Engine was killed.
    """
    verdict = Verdict()
    found: Counter[Key] = Counter()
    at: dict[Key, float] = {}
    known = {key for box in boxes for key in box.printed}
    for row in rows:
        head = _HEAD.match(row.text.encode())
        key = _key(head) if head else None
        if head is None or key is None or key not in known:
            verdict.strange.append(f"a row for what was never printed: {row.text[:80]!r}")
            continue
        found[key] += 1
        at[key] = row.at
        if head["address"].decode() not in _addresses(row.subject):
            verdict.strange.append(f"{key} counts against {row.subject}, not {head['address']!r}")
    verdict.judged = len(found)
    verdict.doubled = sorted(key for key, count in found.items() if count > 1)
    for box in boxes:
        _lines(box, at, verdict, told=[gap for gap in told if gap.id == box.id[:12]], kills=kills)
    _stamps(boxes, rows, verdict)
    _bans(rows, bans, rules, verdict)
    return verdict


def _lines(
    box: Box,
    at: Mapping[Key, float],
    verdict: Verdict,
    *,
    told: Sequence[Told],
    kills: Sequence[float],
) -> None:
    """Judge a container's lines; `at` is when those that were read came, by the Engine's time."""
    done = {key for key, line in box.printed.items() if line.done}
    log = box.log or {}
    verdict.sent += len(done | {key for key, heard in log.items() if heard.whole})
    lost = [key for key, heard in log.items() if heard.whole and key not in at]
    gone = {key for key in done if key not in log and key not in at}
    kept = _kept(box, gone, kills)
    verdict.dropped += len(gone - kept)
    first = min((at[key] for key in box.printed if key in at), default=math.inf)
    for stretch in _stretches(box, at, kept):
        hole = stretch.before < math.inf
        if hole and not box.rotates:
            lost += stretch.keys  # what was removed as a whole has no holes
        elif _is_told(stretch, told):
            verdict.unread += len(stretch.keys)
        else:
            for key in stretch.keys:
                if (case := _unseen(box, stretch, box.printed[key].at, first)) is None:
                    verdict.silent.append(key)
                else:
                    verdict.unseen[case] += 1
    joined = {key for key in lost if _is_joined(box, key)}
    verdict.unseen += Counter({JOINED: len(joined)})
    verdict.lost += [key for key in lost if key not in joined]


def _is_joined(box: Box, key: Key) -> bool:
    """
    Say whether nobody could tell a line from the last words of the run before.

    Whoever looks while a run goes on is told when the one before ended.
    """
    if not box.joins or not (box.log[key].joined if box.log is not None else _is_first(box, key)):
        return False
    began, ended = box.lives[key.life], box.lives.get(key.life + 1)
    return ended is not None and not any(began + NOTICED < at < ended for at in box.watched)


def _is_first(box: Box, key: Key) -> bool:
    """Say whether a line is the first of its run on its stream."""
    stream = box.printed[key].stream
    own = (each for each, line in box.printed.items() if line.stream == stream)
    return key == min(each for each in own if each.life == key.life)


def _kept(box: Box, gone: Iterable[Key], kills: Sequence[float]) -> set[Key]:
    """Return those of the lines that the Engine had in its log once, as far as anybody can tell."""
    gone = {key for key in gone if not _near(box.printed[key].at, kills)}
    if box.log is None:
        return gone
    if not box.rotates or not box.log:
        return set()  # what the Engine has is what it delivers
    begins: dict[int, Key] = {}
    for key in box.log.keys() & box.printed.keys():
        stream = box.printed[key].stream
        begins[stream] = min(key, begins.get(stream, key))
    oldest = min(heard.at for heard in box.log.values())

    def rotated(key: Key) -> bool:
        line = box.printed[key]
        begin = begins.get(line.stream)
        return key < begin if begin is not None else line.at < oldest

    return {key for key in gone if rotated(key)}


def _stretches(box: Box, at: Mapping[Key, float], missing: Collection[Key]) -> Iterator[Stretch]:
    """Yield the missing lines, those together between which none of their stream was read."""
    for stream in sorted({line.stream for line in box.printed.values()}):
        after, keys = -math.inf, list[Key]()
        for key in sorted(each for each, line in box.printed.items() if line.stream == stream):
            if key in missing:
                keys.append(key)
            elif key in at:
                if keys:
                    yield Stretch(stream, after, at[key], keys)
                after, keys = at[key], []
        if keys:
            yield Stretch(stream, after, math.inf, keys)


def _is_told(stretch: Stretch, told: Sequence[Told]) -> bool:
    """Say whether one of these gaps lies where these lines are missing."""
    after, before = stretch.after, stretch.before
    for gap in told:
        if gap.behind is None:
            good = before == math.inf
        elif (behind := gap.behind.get(stretch.stream)) is not None:
            good = after <= behind < before or after == behind == before
        else:
            good = after == -math.inf
        if good:
            return True
    return False


def _unseen(box: Box, stretch: Stretch, printed: float, first: float) -> str | None:
    """
    Say by which case nobody could see that a line was missing; None if somebody could.

    `first` is the Engine's time of the first line of the container that was read.
    """
    if first == math.inf and box.log is None:
        return REMOVED
    if box.rotates and stretch.after == -math.inf and printed < first + INVERSION:
        return ROTATED
    last = max(line.at for line in box.printed.values() if line.done)
    if (
        box.fleeting
        and box.log is None
        and stretch.before == math.inf
        and printed > last - LAST_WORDS
    ):
        return LAST
    return None


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


def lives(record: str) -> dict[int, float]:
    """Return from a generator's record when its lives began."""
    texts = (text.split(" ") for text in record.splitlines())
    return {int(life): float(at) for at, what, life, *_ in texts if what == "life"}


def watched(log: str, name: str) -> list[float]:
    """Return when dockerjail said in its log that it had judged a line of a service."""
    found = re.findall(rf"^(\S+ \S+) INFO    \[\w+@{re.escape(name)}\] Found ", log, re.MULTILINE)
    return [datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp() for at in found]


def heard(body: bytes, *, tty: bool) -> dict[Key, Heard]:
    """Read the body of a log, with timestamps, by nothing of dockerjail's own code."""
    lines: dict[Key, Heard] = {}
    for text, starts, stamps in _texts(body, tty=tty):
        for head in _HEAD.finditer(text):
            piece = bisect.bisect_right(starts, head.start()) - 1
            # A kill of the Engine's can lose what is between the middles of two lines.
            begins = text[starts[piece] : head.start()] in (b"", _COLOUR)
            last = text[max(starts[piece] - 1, 0) : starts[piece]]
            if tty and piece and last not in (b"\n", b"\r"):
                begins = False  # behind a torn line, where a terminal's log shows no end
            if tty and piece == 1 and last == b"\r" and not _HEAD.search(text, 0, starts[1]):
                begins = False  # nor that of a line whose beginning is rotated away
            whole = begins and head["whole"] is not None
            joined = last not in (b"", b"\n")
            lines[_key(head)] = Heard(seconds(stamps[piece]), whole, joined)
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


def gaps(log: str) -> list[Told]:
    """Return the gaps that dockerjail told of in its log."""
    told = [Told(id_, None) for id_ in _AWAY.findall(log)]
    for found in _GAP.finditer(log):
        streams = _BEHIND.findall(found["behind"] or "")
        told.append(
            Told(
                found["id"],
                {1 + (name == "stderr"): seconds(moment.encode()) for moment, name in streams},
            )
        )
    return told


def cases(unseen: Counter[str]) -> str:
    """Write how many lines went while nobody could see it, and in which cases."""
    each = ", ".join(f"{count} {case}" for case, count in sorted(unseen.items()))
    return f"unseen {unseen.total()}" + (f": {each}" if each else "")


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
