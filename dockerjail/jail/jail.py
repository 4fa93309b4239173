"""
Jails: the chunks of a container in, failures and offences out. Pure: no clock, no await.

A `Jail` runs as `name@service`: one filter, one window, shared by the replicas and the
re-created containers of a service. A `Bench` is where the jails of one container sit
and judge its chunks; `Jails` knows them all. A jail that counts the bans of others
(`recidive`) sits among them and is shown no line.

Colours are taken out of the lines first (ANSI's SGR sequences), unless a regex asks for
them. What an exact match costs is bounded by time (`patience`): a line that takes a jail too
long is given up, and a chunk is judged in slices, between which others get their turn.
"""

import math
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NamedTuple

from dockerjail.errors import FilterError, Overdue
from dockerjail.framed import HEADER, plain, whole
from dockerjail.jail.filter import Filter, Hit, read
from dockerjail.jail.ignore import Ignore, spared
from dockerjail.jail.memory import Memory
from dockerjail.jail.patience import Patience, Watch
from dockerjail.jail.policy import JailPolicy
from dockerjail.jail.rule import Rule, UseDns
from dockerjail.jail.sieves import Sieves
from dockerjail.jail.window import Room, Window, number
from dockerjail.model import (
    Address,
    Chunk,
    Container,
    Failure,
    Named,
    Offence,
    Problem,
    Stream,
    Subject,
)
from dockerjail.stamp import NANO, Clock

LONGEST_LINE: Final = 16384
"""Characters that the regexes see of a line: of a longer one its two ends."""

LONGEST_TEXT: Final = 1000
"""Characters of a line that go with a failure."""

_CR: Final = 0x0D

CROWD: Final = 4096
"""Addresses whose subject a jail remembers: each takes almost a KiB, and there are many jails."""

IDLE: Final = 1000
"""Jails that no container runs any more and that are kept for what they count."""

Ignored = tuple[str, Address, str, float]
"""A failure that did not count: the jail, whose it was, why, and when."""


_COLOUR: Final = re.compile(rb"\x1b\[[0-9;:]*[mK]")
_ESCAPE: Final = re.compile(r"\x1b|\\x1b|\\033|\\e\[", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What came of a chunk, each in the order it happened.

    `suspended` are jails whose regexes took too long, once more than they may.
    """

    entries: Sequence[Failure | Offence] = ()
    ignored: Sequence[Ignored] = ()
    named: Sequence[Named] = ()
    suspended: Sequence["Jail"] = ()


NOTHING: Final = Verdict()


class Outcome:
    """A verdict while it is being reached."""

    __slots__ = ("entries", "ignored", "named", "suspended")

    def __init__(self) -> None:
        self.entries: list[Failure | Offence] = []
        self.ignored: list[Ignored] = []
        self.named: list[Named] = []
        self.suspended: list[Jail] = []

    def verdict(self) -> Verdict:
        """Return what came of it all."""
        if not self.entries and not self.ignored and not self.named and not self.suspended:
            return NOTHING
        return Verdict(
            entries=self.entries,
            ignored=self.ignored,
            named=self.named,
            suspended=self.suspended,
        )


class _Accused(NamedTuple):
    """Whom a failure counts against, why it does not if it does not, and his number."""

    subject: Subject
    why: str | None
    key: int


class Trial:
    """The judging of a chunk: iterate, and let others have their turn each time; then it has a `verdict`."""

    def __init__(self, steps: Generator[None, None, Verdict]) -> None:
        self.verdict = NOTHING
        self._steps = steps

    def __iter__(self) -> Iterator[None]:
        self.verdict = yield from self._steps


class Jail:
    """
    One policy at work for one service.

    `lines_matched` counts the lines that a failregex hit, `failures_total` those that
    counted against somebody, `refused_total` those without an address that can be
    banned; `last_refused` says why the last was not. All since the process started.
    `patience` knows what its regexes have cost.
    Without a `filter` it reads no lines.
    """

    def __init__(
        self,
        policy: JailPolicy,
        service: str,
        *,
        ignore: Ignore,
        filter: Filter | None,
        room: Room | None = None,
    ) -> None:
        self.name = f"{policy.name}@{service}"
        self.service = service
        self.policy = policy
        self.filter = filter
        self.window = Window(policy.maxretry, policy.findtime, room=room)
        self.lines_matched = 0
        self.failures_total = 0
        self.refused_total = 0
        self.last_failure_at = 0.0
        self.last_refused = ""
        self.patience = Patience()
        self._everywhere = ignore
        self._here = _own(policy)
        self._exempt = Ignore()
        self._known: dict[Address | Subject | str, _Accused] = {}
        self._known_at = ignore.version
        self._memories: dict[str, Memory] = {}

    def memory(self, container: str) -> Memory | None:
        """Return what the filter remembers of the container with this id, if it remembers."""
        if self.filter is None or not self.filter.remembers:
            return None
        if container not in self._memories:
            self._memories[container] = Memory(self.policy.rule.maxlines)
        return self._memories[container]

    def leave(self, container: str) -> None:
        """Forget the lines of a container that is gone."""
        self._memories.pop(container, None)

    def crowded(self, since: float) -> tuple[int, int]:
        """
        Return how many subjects, and how many connections, were forgotten for want of room.

        None if the last of them was before `since`, by the time of the lines.
        """
        memories = [m for m in self._memories.values() if m.forgotten_at >= since]
        subjects = self.window.forgotten if self.window.forgotten_at >= since else 0
        return subjects, sum(memory.forgotten for memory in memories)

    def exempt(self, networks: Mapping[Subject, str]) -> None:
        """
        Take whom the policy's `ignorefrom` stands for by now, with the reason in words.

        They are ignored beside its `ignoreip`, from the next line on, also by a policy that
        it goes on by.
        """
        before = self._exempt.version
        self._exempt.update(networks)
        if self._exempt.version != before:
            self._known.clear()

    def why(self, found: Address | Subject) -> str | None:
        """
        Return the reason in words why this jail ignores somebody, or somebody within a network.

        By its own `ignoreip` and whom it exempts: None says nothing of what others protect.
        """
        own = _network(found)
        # nearly no jail has any of these
        return (spared(own, self._here) if self._here.more else None) or (
            spared(own, self._exempt) if self._exempt.more else None
        )

    def follow(self, policy: JailPolicy, filter: Filter | None) -> None:
        """Go on by another policy of the same name; what was counted stays."""
        if filter != self.filter:
            self._memories.clear()
            self.patience = Patience()
        self.policy = policy
        self.filter = filter
        self.window.retune(policy.maxretry, policy.findtime)
        self._here = _own(policy)
        self._known.clear()

    def failing(self, at: float) -> int:
        """Return how many subjects have failures that count at the moment `at`."""
        return self.window.failing(at)

    def weigh(self, hit: Hit, at: float, text: str, container: str, into: "Outcome") -> None:
        """Add what comes of a line that the filter hit; `at` is its time, `text` all of it."""
        self.lines_matched += 1
        if hit.lines:
            text = "\n".join(hit.lines)[-LONGEST_TEXT:]
        elif len(text) > LONGEST_TEXT:
            text = text[:LONGEST_TEXT]
        if hit.address is not None:
            self._count(hit.address, hit.written, at, text, hit.fields, container, into)
        elif hit.name and self.policy.rule.usedns is not UseDns.NO:
            into.named.append(
                Named(
                    jail=self.name,
                    name=hit.name,
                    at=at,
                    container=container,
                    text=text,
                    fields=hit.fields,
                )
            )
        else:
            self.refused_total += 1
            self.last_refused = hit.why

    def count(self, found: Address, named: Named, into: "Outcome") -> None:
        """Add what comes of a failure by a name that is `found`'s."""
        self._count(found, "", named.at, named.text, named.fields, named.container, into)

    def _count(
        self,
        found: Address | Subject,
        written: str,
        at: float,
        text: str,
        fields: Mapping[str, str],
        container: str,
        into: "Outcome",
    ) -> None:
        if self._known_at != self._everywhere.version or len(self._known) > CROWD:
            self._known.clear()
            self._known_at = self._everywhere.version
        # as a text an address is looked up ten times as fast; a network has more than was written
        known_by = written if written and isinstance(found, IPv4Address | IPv6Address) else found
        accused = self._known.get(known_by)
        if accused is None:
            whom, why = self._look_up(found)
            accused = self._known[known_by] = _Accused(whom, why, number(whom))
        subject, why, key = accused
        if why is not None:
            into.ignored.append((self.name, _one(found), why, at))
            return
        self.failures_total += 1
        if at > self.last_failure_at:
            self.last_failure_at = at
        into.entries.append(Failure(self.name, subject, at, container, text, fields))
        full = self.window.fail(key, at)
        if full is not None:
            into.entries.append(
                Offence(
                    jail=self.name,
                    subject=subject,
                    at=full.at,
                    failures=full.failures,
                    container=container,
                    address=_one(found),
                )
            )

    def _look_up(self, found: Address | Subject) -> tuple[Subject, str | None]:
        """Widen an address to what the jail counts by; never over one that is ignored."""
        own = _network(found)
        prefix = self.policy.ipv4_prefix if own.version == 4 else self.policy.ipv6_prefix
        why = spared(own, self._everywhere) or self.why(own)
        if why is not None:
            return own, why
        if prefix >= own.prefixlen:
            return own, None
        around = own.supernet(new_prefix=prefix)
        if any(each.inside(around) for each in (self._everywhere, self._here, self._exempt)):
            return own, None
        return around, None


class Bench:
    """
    The jails of one container.

    `problems` are those of its policies that cannot run; they are left out.
    """

    def __init__(
        self, owner: "Jails", container: Container, jails: Sequence[Jail], problems: list[Problem]
    ) -> None:
        self.container = container
        self.jails = tuple(jails)
        self.problems = tuple(problems)
        self._owner = owner
        self._clock = Clock()
        self._version = -1
        self._gates: Mapping[Stream, _Gate] = {}
        self._recalling: Mapping[Stream, _Gate] = {}

    def judge(self, chunk: Chunk, now: float = math.inf) -> Verdict:
        """Judge a chunk in one go, whoever waits; never raises."""
        trial = self.trial(chunk, now)
        for _ in trial:
            pass
        return trial.verdict

    def trial(self, chunk: Chunk, now: float = math.inf) -> Trial:
        """
        Show the lines of `chunk` to the jails that read its stream.

        A line that is stamped later than `now`, since a clock was set back after it was written, is
        one of now: beside one of tomorrow all that comes today would be too old to count.
        """
        return Trial(self._steps(chunk, now))

    def _steps(self, chunk: Chunk, now: float) -> Generator[None, None, Verdict]:
        self._renew()
        gate = self._gates[chunk.stream]
        if not gate.jails:
            return NOTHING
        outcome = Outcome()
        yield from self._judge(gate, chunk, now, outcome)
        return outcome.verdict()

    @property
    def remembers(self) -> bool:
        """Whether any of its jails judges lines by those before them."""
        return any(jail.filter is not None and jail.filter.remembers for jail in self.jails)

    def recall(self, chunk: Chunk, now: float = math.inf) -> Generator[None, None, None]:
        """
        Show lines that an earlier process judged to the jails that remember; yields like `trial`.

        Nothing comes of them but what those jails remember.
        """
        self._renew()
        gate = self._recalling[chunk.stream]
        if gate.jails:
            yield from self._judge(gate, chunk, now, None)

    def _renew(self) -> None:
        """Sieve for what the jails' rules are now."""
        if self._version == self._owner.version:
            return
        self._version = self._owner.version
        by_stream = {
            stream: [
                (jail, jail.filter)
                for jail in self.jails
                if jail.filter is not None and stream in jail.policy.streams
            ]
            for stream in Stream
        }
        sieves = self._owner.sieves
        self._gates = {stream: _Gate(jails, sieves) for stream, jails in by_stream.items()}
        self._recalling = {
            stream: _Gate([(jail, filter) for jail, filter in jails if filter.remembers], sieves)
            for stream, jails in by_stream.items()
        }

    def _judge(
        self, gate: "_Gate", chunk: Chunk, now: float, into: "Outcome | None"
    ) -> Generator[None, None, None]:
        """
        Show the lines of `chunk` to the filters; yields whenever others should get their turn.

        What comes of them is added to `into`, if anything is to.
        """
        watch = self._owner.watch
        clock = self._clock
        container, stream = chunk.container, chunk.stream
        coloured = gate.colourless and b"\x1b" in chunk.data
        if chunk.framed and (coloured or gate.sifter.sees_all):
            chunk = plain(chunk)
        data = _COLOUR.sub(b"", chunk.data) if coloured else chunk.data
        found = gate.sifter.candidates(data)
        header = 0
        if chunk.framed:
            if all(whole(data, start, end) for start, end, _ in found):
                header = HEADER
            else:
                data = plain(chunk).data
                found = gate.sifter.candidates(data)
        if gate.sifter.due:
            found = yield from gate.sifter.audited(data, found, watch)
        for start, end, which in found:
            if watch.due:
                watch.due = False
                yield
            start += header
            begin, at = clock.read(data, start, end)
            if not begin:
                begin, at = start, chunk.cursor.ns / NANO
            at = min(at, now)
            text, full = _text(data, begin, end)
            line = read(text, at, stream, full=full)
            for index in which:
                jail, filter = gate.jails[index]
                patience = jail.patience
                if patience.limited and not patience.admits(len(text), watch.clock()):
                    continue
                memory = jail.memory(container.id) if filter.remembers else None
                try:
                    watch.serial += 1
                    watch.busy = True
                    hit = filter.judge(line, memory)
                    watch.busy = False
                except Overdue as overdue:
                    watch.busy = False
                    if patience.strike(overdue, text, watch.clock()) and into is not None:
                        into.suspended.append(jail)
                    continue
                if hit is not None and into is not None:
                    jail.weigh(hit, at, text, container.name, into)


class Jails:
    """
    All the jails that run, by name; iterating yields them.

    A jail goes by name and service: whoever brings the same again gets the same
    counters, with the numbers and regexes that it brings.
    """

    def __init__(
        self,
        ignore: Ignore | None = None,
        watch: Watch | None = None,
        sieves: Sieves | None = None,
    ) -> None:
        self.ignore = ignore if ignore is not None else Ignore()
        self.watch = watch if watch is not None else Watch()
        self.sieves = sieves if sieves is not None else Sieves()
        self.version = 0
        self.room = Room()
        self._jails: dict[str, Jail] = {}
        self._waiting: dict[str, list[tuple[Subject, float]]] = {}

    def __iter__(self) -> Iterator[Jail]:
        return iter(self._jails.values())

    def get(self, name: str) -> Jail | None:
        """Return the jail `name@service`, None if none runs."""
        return self._jails.get(name)

    def bench(self, container: Container, policies: Iterable[JailPolicy]) -> Bench:
        """Seat the jails of `container`; a policy that cannot run becomes a problem."""
        jails: dict[str, Jail] = {}
        problems: list[Problem] = []
        for policy in policies:
            try:
                jail = self._seat(policy, container.service)
            except FilterError as error:
                place = f"container {container.name}, jail {policy.name}"
                problems.append(Problem(place=place, what=str(error)))
                continue
            jails[jail.name] = jail
        return Bench(self, container, list(jails.values()), problems)

    def restore(self, failures: Iterable[Failure]) -> None:
        """
        Put back failures that a store remembers, also for jails that do not run yet.

        They count, and make no offence themselves.
        """
        for failure in failures:
            jail = self._jails.get(failure.jail)
            if jail is None:
                self._waiting.setdefault(failure.jail, []).append((failure.subject, failure.at))
            else:
                jail.window.restore([(failure.subject, failure.at)])

    def retire(self, names: Iterable[str], at: float) -> int:
        """
        Drop those of `names` that count nothing any more at the moment `at`.

        Of the others those that ran first, if there are more than `IDLE`; returns how many these were.
        """
        idle = [jail for name in names if (jail := self._jails.get(name)) is not None]
        counting = [jail for jail in idle if jail.failing(at)]
        early = counting[: max(0, len(counting) - IDLE)]
        for jail in {*idle}.difference(counting).union(early):
            jail.window.clear()  # others want its room, whoever still knows it
            del self._jails[jail.name]
        return len(early)

    def leave(self, container: str) -> None:
        """Forget the lines of a container that is gone."""
        for jail in self._jails.values():
            jail.leave(container)

    def forget(self, before: float) -> None:
        """Let go of restored failures of jails that never ran again, from `before` a moment."""
        for name, waiting in list(self._waiting.items()):
            young = [(subject, at) for subject, at in waiting if at >= before]
            if young:
                self._waiting[name] = young
            else:
                del self._waiting[name]

    def _seat(self, policy: JailPolicy, service: str) -> Jail:
        compiled = None if policy.recidive else _filter(policy.rule)
        jail = self._jails.get(f"{policy.name}@{service}")
        if jail is None:
            jail = Jail(policy, service, ignore=self.ignore, filter=compiled, room=self.room)
            self._jails[jail.name] = jail
            jail.window.restore(self._waiting.pop(jail.name, ()))
        elif jail.policy != policy:
            jail.follow(policy, compiled)
            self.version += 1
        return jail


class _Gate:
    """
    What lies before the jails that read one stream of one container: their sieve.

    A jail that reads no colours has them taken out before.
    """

    def __init__(self, jails: Sequence[tuple[Jail, Filter]], sieves: Sieves) -> None:
        self.jails = tuple(jails)
        filters = tuple(filter for _, filter in jails)
        self.colourless = not any(
            _ESCAPE.search(regex)
            for each in filters
            for regex in (each.rule.prefregex, *each.rule.failregex)
        )
        """Whether colours can be taken out of the lines."""
        self.sifter = sieves.sifter(filters, [jail.name for jail, _ in jails])


@lru_cache(maxsize=1024)
def _filter(rule: Rule) -> Filter:
    """Compile once what many containers share."""
    return Filter(rule)


def _own(policy: JailPolicy) -> Ignore:
    return Ignore(dict.fromkeys(policy.ignoreip, f"in ignoreip of jail {policy.name}"))


def _one(found: Address | Subject) -> Address:
    """Return an address, for a network its first."""
    return found if isinstance(found, IPv4Address | IPv6Address) else found.network_address


def _network(found: Address | Subject) -> Subject:
    """Return a network, for an address the one of it alone."""
    if isinstance(found, IPv4Address):
        return IPv4Network((int(found), 32))
    return IPv6Network((int(found), 128)) if isinstance(found, IPv6Address) else found


def _text(data: bytes, start: int, end: int) -> tuple[str, str]:
    """
    Take the text of a line out of its bytes, without CR at the end.

    Of a long line its two ends are kept, since an attacker who pads his name must not push the
    address out of sight; U+FFFD is where it was cut. Such a line's whole text is returned
    beside it, else nothing.
    """
    if end > start and data[end - 1] == _CR:
        end -= 1
    text = data[start:end].decode("utf-8", "replace")
    if len(text) <= LONGEST_LINE:
        return text, ""
    half = LONGEST_LINE // 2
    return f"{text[:half]}\ufffd{text[-half:]}", text
