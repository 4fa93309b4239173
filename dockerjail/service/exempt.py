"""
Who is let pass by words that stand for changing addresses: names of hosts, files of words.

In: the words wanted now, as `ignoreip` and operators write them (`office.example.org`,
`file:/etc/dockerjail/friends`). Out: the networks that each stands for, told at once, as
they were a minute (names) or two seconds ago (files); a call when one has changed. Reads
files and asks the host's resolver, and whatever these hold or answer becomes a `Problem`
at worst, logged when it begins: what was known before goes on to hold.
"""

import asyncio
import itertools
import logging
import os
import random
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Final, NamedTuple

from dockerjail.config import values
from dockerjail.config.mistake import Mistake, shown
from dockerjail.model import Problem, Subject
from dockerjail.service.names import Resolve

logger = logging.getLogger(__name__)

EVERY: Final = 60.0
"""Seconds after which a name is looked up again, give or take a tenth."""

AGAIN: Final = 5.0
"""Seconds after which a name that did not resolve is looked up again; each time it is twice that."""

AT_ONCE: Final = 4
"""Look-ups under way at once."""

MOST_NAMES: Final = 1000
MOST_ANSWERS: Final = 100
"""Names that are looked up at most, and addresses that count of one."""

POLL: Final = 0.5
"""Seconds between two looks at a file."""

SETTLED: Final = 3
"""Looks after which a file that goes on changing is read nevertheless."""

MOST_BYTES: Final = 1 << 20
MOST_ENTRIES: Final = 10_000
"""
Bytes and words of a file that are read; what comes behind is not, and `problems` says so.

Ten times as many networks hold up the loop for 0.15 s whenever the garbage collector walks
them, and make slow work for the kernel's interval sets.
"""

MOST_PROBLEMS: Final = 5
"""Bad words of a file that are told one by one."""

_NOBODY: Final[frozenset[Subject]] = frozenset()


class _Stamp(NamedTuple):
    """What changes with a file."""

    changed_ns: int
    size: int
    device: int
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a file holds: networks, names, and what is wrong with the rest."""

    networks: frozenset[Subject] = _NOBODY
    names: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(slots=True)
class _File:
    """A file as it was read last; `trouble` is why it cannot be read now."""

    path: str
    looked_at: bool = False
    stamp: _Stamp | None = None
    content: Content = field(default_factory=Content)
    trouble: str = ""
    changing: _Stamp | None = None
    looks: int = 0

    def is_due(self, now: _Stamp) -> bool:
        """Say whether to read it: once it stands still, so that no half of it is taken."""
        if now == self.stamp:
            self.looks = 0
            return False
        still = self.stamp is None or now == self.changing
        self.changing = now
        self.looks += 1
        if not still and self.looks <= SETTLED:
            return False
        self.looks = 0
        return True


@dataclass(slots=True)
class _Name:
    """A name as it was looked up last; `asked` None when it never was."""

    name: str
    networks: frozenset[Subject] = _NOBODY
    asked: float | None = None
    failures: int = 0
    pause: float = 0.0
    in_hand: bool = False

    def is_due(self, now: float) -> bool:
        """Say whether to look it up; also when the clock was set back."""
        if self.in_hand:
            return False
        return self.asked is None or not 0 <= now - self.asked < self.pause


class Exempt:
    """
    Words and what they stand for; `changed` is called when that is something else.

    `clock` tells seconds, from whenever. Nothing is known before `run` runs.
    """

    def __init__(
        self, *, ask: Resolve, clock: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._changed = changed
        self._wanted: dict[str, values.Ignored] = {}
        self._wrong: tuple[Problem, ...] = ()
        self._files: dict[str, _File] = {}
        self._names: dict[str, _Name] = {}
        self._too_many = 0
        self._known: dict[str, frozenset[Subject]] = {}
        self._due: asyncio.Queue[_Name] = asyncio.Queue()
        self._new_names = asyncio.Event()
        self._new_files = asyncio.Event()
        self._complete = asyncio.Event()
        self._complete.set()

    def want(self, words: Iterable[str]) -> None:
        """Take these words in place of those before; what is known of one stays known."""
        wanted = dict.fromkeys(words)
        if wanted.keys() == self._wanted.keys():
            return
        self._wanted = {}
        wrong = []
        for word in wanted:
            self._wanted[word] = values.NOBODY
            try:
                self._wanted[word] = values.ignored(word)
            except Mistake as mistake:
                wrong.append(mistake.at("ignoreip"))
        self._wrong = tuple(wrong)
        self._arrange()
        self._new_files.set()
        self._known = {word: self._stands_for(word) for word in self._wanted}

    def networks(self, word: str) -> frozenset[Subject]:
        """Return what a wanted word stands for now; nobody as long as that is not known."""
        return self._known.get(word, _NOBODY)

    def problems(self) -> list[Problem]:
        """Tell what could not be read or looked up, and what of it holds nevertheless."""
        found = list(self._wrong)
        for file in self._files.values():
            if file.trouble:
                found.append(_unreadable(file))
            found += file.content.problems
        found += (self._unknown(name) for name in self._names.values() if name.failures)
        if self._too_many:
            found.append(
                Problem(
                    place="ignoreip",
                    what=f"{self._too_many} names are beyond the {MOST_NAMES} that are looked up",
                    remedy="write networks in place of names",
                )
            )
        return found

    async def ready(self, within: float) -> bool:
        """Wait until something is known of each word, at most so many seconds; say whether it is."""
        try:
            async with asyncio.timeout(within):
                await self._complete.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Keep up with names and files until cancelled."""
        async with asyncio.TaskGroup() as helpers:
            helpers.create_task(self._follow_files(), name="files of ignoreip")
            helpers.create_task(self._follow_names(), name="names in ignoreip")
            for number in range(AT_ONCE):
                helpers.create_task(self._look_up(), name=f"look-ups of ignoreip {number}")

    # ---- what stands for what

    def _arrange(self) -> None:
        """Have exactly those files and names followed that the wanted words lead to."""
        paths, names = _sources(itertools.chain(*(i.sources for i in self._wanted.values())))
        self._files = {path: self._files.get(path) or _File(path) for path in paths}
        for file in self._files.values():
            names.update(dict.fromkeys(file.content.names))
        self._too_many = max(0, len(names) - MOST_NAMES)
        self._names = {
            name: self._names.get(name) or _Name(name)
            for name in itertools.islice(names, MOST_NAMES)
        }
        self._new_names.set()
        self._note()

    def _note(self) -> None:
        """Say whether something is known of all."""
        files = all(file.looked_at for file in self._files.values())
        if files and all(name.asked is not None for name in self._names.values()):
            self._complete.set()
        else:
            self._complete.clear()

    def _spread(self) -> None:
        """Carry on what was learned."""
        before = self._known
        self._known = {word: self._stands_for(word) for word in self._wanted}
        if self._known != before:
            self._changed()

    def _stands_for(self, word: str) -> frozenset[Subject]:
        ignored = self._wanted[word]
        paths, names = _sources(ignored.sources)
        parts = [frozenset(ignored.addresses)]
        for path in paths:
            content = self._files[path].content
            parts.append(content.networks)
            names.update(dict.fromkeys(content.names))
        parts += (self._names[name].networks for name in names if name in self._names)
        parts = [part for part in parts if part]
        return _NOBODY.union(*parts) if len(parts) > 1 else next(iter(parts), _NOBODY)

    def _home(self, name: str) -> str:
        """Say where a name is written."""
        if not any(name in ignored.sources for ignored in self._wanted.values()):
            for file in self._files.values():
                if name in file.content.names:
                    return file.path
        return "ignoreip"

    # ---- names

    def _unknown(self, name: _Name) -> Problem:
        held = "its last addresses go on to count" if name.networks else "nobody has it"
        return Problem(
            place=self._home(name.name),
            what=f"the name {name.name} does not resolve; {held}",
            remedy="write it right, or an address in its place",
        )

    async def _follow_names(self) -> None:
        """Hand out the names whose time has come."""
        while True:
            self._new_names.clear()
            now = self._clock()
            for name in self._names.values():
                if name.is_due(now):
                    name.in_hand = True
                    self._due.put_nowait(name)
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0 if self._names else None):
                    await self._new_names.wait()

    async def _look_up(self) -> None:
        while True:
            name = await self._due.get()
            if self._names.get(name.name) is not name:
                continue  # nobody wants it any more
            answer = (await self._ask(name.name))[:MOST_ANSWERS]
            name.in_hand = False
            name.asked = self._clock()
            if answer:
                name.failures = 0
                name.networks = frozenset(ip_network(address) for address in answer)
                name.pause = EVERY * random.uniform(0.9, 1.1)
            else:
                name.pause = min(EVERY, AGAIN * 2 ** min(name.failures, 10))
                name.failures += 1
                if name.failures == 1:
                    logger.warning("%s", self._unknown(name))
            self._note()
            self._spread()

    # ---- files

    async def _follow_files(self) -> None:
        """Look at the files again and again, one after the other."""
        while True:
            self._new_files.clear()
            for file in list(self._files.values()):
                if await self._look_at(file):
                    self._arrange()
                    self._spread()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL if self._files else None):
                    await self._new_files.wait()

    async def _look_at(self, file: _File) -> bool:
        """Read a file if it has changed; say whether there is news."""
        first = not file.looked_at
        try:
            if not file.is_due(await asyncio.to_thread(_stamp, file.path)):
                file.trouble = ""
                return first
            file.stamp, file.content = await asyncio.to_thread(_read, file.path)
        except OSError as error:
            before, file.trouble = file.trouble, error.strerror or str(error)
            if file.trouble != before:
                logger.warning("%s", _unreadable(file))
            return first
        finally:
            file.looked_at = True  # not before: a name that answers meanwhile asks for it
        file.trouble = ""
        for problem in file.content.problems:
            logger.warning("%s", problem)
        return True


def _unreadable(file: _File) -> Problem:
    held = "what it held before goes on to count" if file.stamp else "nobody is in it"
    return Problem(
        place=file.path,
        what=f"cannot be read: {file.trouble}; {held}",
        remedy="put it there, readable for the daemon, or take it out of ignoreip",
    )


def _sources(words: Iterable[str]) -> tuple[dict[str, None], dict[str, None]]:
    """Part the paths of files from the names of hosts; each once, in their order."""
    paths: dict[str, None] = {}
    names: dict[str, None] = {}
    for word in words:
        if word.startswith(values.FILE):
            paths[word.removeprefix(values.FILE)] = None
        else:
            names[word] = None
    return paths, names


def _stamp(path: str) -> _Stamp:
    """Look at a file; raises OSError."""
    return _stamped(Path(path).stat())


def _stamped(found: os.stat_result) -> _Stamp:
    return _Stamp(found.st_mtime_ns, found.st_size, found.st_dev, found.st_ino)


def _read(path: str) -> tuple[_Stamp, Content]:
    """Read a file; raises OSError, also for what is no file."""
    # a pipe would be waited for
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    return _stamped(found), content(path, data)


def content(path: str, data: bytes) -> Content:
    """
    Read the words of a file: between blanks and commas, up to a `#` or `;`.

    Whole lines within `MOST_BYTES`, and `MOST_ENTRIES` words. One that is neither an address,
    a network nor a name becomes a problem with its line; the rest holds.
    """
    networks: set[Subject] = set()
    names: dict[str, None] = {}
    problems: list[Problem] = []
    bad = 0
    more = len(data) > MOST_BYTES
    if more:
        data = data[:MOST_BYTES].rpartition(b"\n")[0]  # half an address is somebody else's
    for count, (line, word) in enumerate(_words(data)):
        if count == MOST_ENTRIES:
            more = True
            break
        try:
            found = _entry(word)
        except Mistake as mistake:
            bad += 1
            if bad <= MOST_PROBLEMS:
                problems.append(mistake.at(f"{path}:{line}"))
        else:
            networks.update(found.addresses)
            names.update(dict.fromkeys(found.sources))
    if bad > MOST_PROBLEMS:
        what = f"{bad - MOST_PROBLEMS} more words are neither addresses, networks nor names"
        problems.append(Problem(place=path, what=what, remedy="write a # before a comment"))
    if more:
        what = f"only {MOST_BYTES} bytes and {MOST_ENTRIES} words are read, and there are more"
        problems.append(Problem(place=path, what=what, remedy="write networks, or several files"))
    return Content(networks=frozenset(networks), names=tuple(names), problems=tuple(problems))


def _entry(word: str) -> values.Ignored:
    if word.lower().startswith(values.FILE):
        raise Mistake(f"{shown(word)}: a file cannot name another one", "name both in ignoreip")
    return values.ignored(word)


def _words(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield each word with the number of its line."""
    for number, line in enumerate(data.decode(errors="replace").split("\n"), 1):
        bare = line.partition("#")[0].partition(";")[0]
        for word in bare.replace(",", " ").split():
            yield number, word
