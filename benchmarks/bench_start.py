"""
From nothing to READY, and the memory that is held then.

A whole `dockerjail run`, compiled as when installed, in a network namespace of its own: the real
kernel, a real database, and an Engine that says what it is told (`tests/lab/scripted.py`). Ready is
when its log says so; fail2ban's server, in the foreground and with one jail as well, when it prints so. The two
take turns. Wall time includes whatever else the machine does; processor time is the process's own.
Memory is all that is resident, in millions of bytes; `python -m benchmarks.parts` tells whose it is. As root.
"""

import asyncio
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, Self, TypeVar

from benchmarks import frame
from benchmarks.frame import Against, Comparison, Figure, Item, Options, Taken, Turn, at_most
from dockerjail.service.daemon import FLUSH_EVERY
from tests.lab import fail2ban, netns
from tests.lab.scripted import Scripted

TOP = Path(__file__).parent.parent
MB = 1e6

BURST = 1000
"""Lines that a container logs at once before memory is looked at: 100 KB."""

MANY = 200

EACH = 5
"""Lines a second of each of these."""

TALK = 15.0
"""Seconds for which they do."""

PATIENCE = 120.0
"""Seconds that anything may take on a busy machine before it counts as stuck."""

SETTLED = FLUSH_EVERY + 2
"""Seconds after which the daemon has kept house once."""

T = TypeVar("T")

SETTINGS = r"""
[docker]
host = "unix://{place}/engine.sock"
[store]
path = "{place}/state/dockerjail.sqlite3"
[control]
socket = "{place}/control.sock"
[fail2ban]
enabled = false
[matching]
engine = "{engine}"
[jails.login]
failregex = '^failed login of \S+ from <HOST>$'
maxretry = 2
[containers."web*"]
jails = ["login"]
"""

RIVAL = """
[Definition]
dbfile = {place}/fail2ban.sqlite3
socket = {place}/fail2ban.sock
pidfile = {place}/fail2ban.pid
"""
RIVAL_JAIL = r"""
[login]
enabled = true
filter =
failregex = ^failed login of \S+ from <HOST>$
logpath = {place}/log
backend = polling
maxretry = 2
"""
PYTHON = "/usr/bin/python3"
"""What the distribution's package is made for."""

TEXT = "(the rest of a line as long as those of access logs are)"


@dataclass(slots=True)
class Process:
    """A program whose output is watched; a context manager that ends it."""

    command: Sequence[str | Path]
    environ: Mapping[str, str]
    said: list[str] = field(default_factory=list)
    began: float = 0.0
    _process: "subprocess.Popen[str] | None" = None

    def __enter__(self) -> Self:
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            self.command,
            cwd=TOP,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()  # how long a stop takes is not the question
        self._process.communicate()

    def until(self, word: str, times: int = 1) -> None:
        """Read on until a word was said so many times."""
        assert self._process is not None
        assert self._process.stdout is not None
        watch = threading.Timer(PATIENCE, self._process.kill)
        watch.start()
        try:
            for line in self._process.stdout:
                self.said.append(line)
                times -= word in line
                if not times:
                    return
        finally:
            watch.cancel()
        sys.exit(f"it ended before it said {word!r}: {''.join(self.said)[-2000:]}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def cpu(self) -> float:
        """Processor seconds so far."""
        return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3) of a process

    @property
    def resident(self) -> float:
        """Millions of bytes that are in memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MB

    @property
    def woken(self) -> int:
        """How often one of its threads waited for something and was woken so far."""
        word = "voluntary_ctxt_switches:"
        told = [each.read_text() for each in Path(f"/proc/{self.pid}/task").glob("*/status")]
        return sum(int(text.partition(f"\n{word}")[2].split()[0]) for text in told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What one start took: seconds until ready, those of the processor, and memory."""

    wall: float
    cpu: float
    resident: float

    @classmethod
    def of(cls, process: Process) -> Self:
        """Look at a process that just got ready."""
        wall = time.perf_counter() - process.began
        return cls(wall=wall, cpu=process.cpu, resident=process.resident)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """
    What many containers take: memory when ready, talking and after a burst; idle and talking.

    `woken` a second, `idle` and `talking` as shares of a processor.
    """

    ready: float
    woken: float
    idle: float
    talking: float
    talked: float
    burst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Talker:
    """An Engine in a thread: has its containers log, once each or for a time, and ends."""

    burst: Callable[[int], None]
    talk: Callable[[float], None]
    stop: Callable[[], None]


@contextmanager
def engine(place: Path, containers: int) -> Iterator[Talker]:
    """Have an Engine with so many containers answer at a socket in `place`."""
    made: Future[Talker] = Future()

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        async with Scripted(place / "engine.sock") as scripted, asyncio.TaskGroup() as group:
            ids = [scripted.add(f"web{number}") for number in range(containers)]
            lines = itertools.count()

            def say(id_: str) -> None:
                scripted.say(id_, f"GET /page/{next(lines)} 200 {TEXT}")

            def burst(count: int) -> None:
                for number, id_ in enumerate(ids):
                    for _ in range(count):
                        say(id_)
                    scripted.say(id_, f"failed login of root from 198.51.100.{number}")

            async def talk(seconds: float) -> None:
                begun = loop.time()
                for number, id_ in enumerate(itertools.cycle(ids)):
                    due = begun + number / EACH / len(ids)
                    if due > begun + seconds:
                        return
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    say(id_)

            def call(work: Callable[..., object], *arguments: object) -> None:
                loop.call_soon_threadsafe(work, *arguments)

            made.set_result(
                Talker(
                    burst=lambda count: call(burst, count),
                    talk=lambda seconds: call(lambda: group.create_task(talk(seconds))),
                    stop=lambda: call(stop.set),
                )
            )
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="engine")
    thread.start()
    talker = made.result(PATIENCE)
    try:
        yield talker
    finally:
        talker.stop()
        thread.join()


class Ground:
    """Where all starts take place: a directory, and an environment with compiled modules."""

    def __init__(self, place: Path, *, many: int = MANY, hurry: bool = False) -> None:
        self._place = place
        self._many = many
        self._hurry = hurry
        self._starts = 0
        self._rival = fail2ban.package()
        self._environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {
            "PYTHONPYCACHEPREFIX": str(place / "compiled"),
            "PYTHONUNBUFFERED": "1",
        }

    def ours(self) -> Start:
        """Start dockerjail beside one container."""
        with self._ready(1) as (process, _):
            return Start.of(process)

    def judged(self, search: str) -> Taken:
        """Return the memory of one jail after its container's log was judged."""
        with self._ready(1, search) as (process, talker):
            talker.burst(BURST)
            process.until("] Found ")
            self._wait(SETTLED)
            return Taken(process.resident, f"after {BURST:,} lines")

    def crowd(self) -> Crowd:
        """Follow many containers: idle, then talking, then after all logged much at once."""
        with self._ready(self._many) as (process, talker):
            ready = process.resident
            self._wait(SETTLED)
            woken, idle = self._during(process, SETTLED)
            talker.talk(self._of(TALK))
            _, talking = self._during(process, TALK)
            talked = process.resident
            talker.burst(BURST)
            process.until("] Found ", self._many)
            self._wait(SETTLED)
            return Crowd(
                ready=ready,
                woken=woken,
                idle=idle,
                talking=talking,
                talked=talked,
                burst=process.resident,
            )

    def theirs(self) -> Start:
        """Start fail2ban's server."""
        place = self._fresh()
        (place / "log").touch()
        etc = shutil.copytree(self._rival.etc, place / "etc")
        (etc / "jail.d" / "defaults-debian.conf").unlink(missing_ok=True)
        (etc / "fail2ban.local").write_text(RIVAL.format(place=place))
        (etc / "jail.local").write_text(RIVAL_JAIL.format(place=place))
        server = self._rival.dist_packages.parents[2] / "bin" / "fail2ban-server"
        command: list[str | Path] = [
            *(PYTHON, server, "-f"),
            *("--logtarget", "STDOUT", "--conf", etc),
        ]
        environ = {**self._environ, "PYTHONPATH": str(self._rival.dist_packages)}
        with Process(command=command, environ=environ) as process:
            process.until("Server ready")
            return Start.of(process)

    @contextmanager
    def _ready(self, containers: int, search: str = "auto") -> Iterator[tuple[Process, Talker]]:
        place = self._fresh()
        config = place / "dockerjail.toml"
        config.write_text(SETTINGS.format(place=place, engine=search))
        command: list[str | Path] = [sys.executable, "-m", "dockerjail", "run"]
        environ = {**self._environ, "DOCKERJAIL_CONFIG": str(config)}
        with (
            engine(place, containers) as talker,
            Process(command=command, environ=environ) as process,
        ):
            process.until(f"ready; containers followed: {containers}")
            yield process, talker

    def _during(self, process: Process, seconds: float) -> tuple[float, float]:
        """Return how often a second it is woken, and the share of a processor that it takes."""
        woken, cpu, began = process.woken, process.cpu, time.perf_counter()
        self._wait(seconds)
        took = time.perf_counter() - began
        return (process.woken - woken) / took, (process.cpu - cpu) / took

    def _wait(self, seconds: float) -> None:
        time.sleep(self._of(seconds))

    def _of(self, seconds: float) -> float:
        return 0.2 if self._hurry else seconds

    def _fresh(self) -> Path:
        self._starts += 1
        place = self._place / str(self._starts)
        place.mkdir()
        return place


class Samples(Generic[T]):
    """What was measured of one thing, for several rows that each tell something of it."""

    def __init__(self, measure: Callable[[], T]) -> None:
        self._measure = measure
        self._taken: list[T] = []

    def another(self) -> T:
        """Measure once more."""
        self._taken.append(self._measure())
        return self._taken[-1]

    def tell(self, read: Callable[[T], float], detail: str = "") -> Callable[[], Taken]:
        """Return what goes through the samples, and measures where there are no more."""
        numbers = itertools.count()

        def take() -> Taken:
            number = next(numbers)
            sample = self._taken[number] if number < len(self._taken) else self.another()
            return Taken(read(sample), detail)

        return take


def items(options: Options) -> Iterable[Item]:
    """Yield all rows."""
    if os.geteuid():
        sys.exit("this needs root, for a network namespace; write sudo")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        netns.create_unique("bench") as space,
        space.inside(),
    ):
        many = options.size(MANY, 3)
        ground = Ground(Path(directory), many=many, hurry=options.quick)
        ground.ours()  # compiles
        ground.theirs()
        ours, theirs = Samples(ground.ours), Samples(ground.theirs)
        crowd = Samples(ground.crowd)
        yield Comparison(
            name="start to READY, one container, one jail",
            ours=lambda: Turn(seconds=ours.another().wall),
            others=[
                Against(
                    name="fail2ban-server, one jail",
                    side=lambda: Turn(seconds=theirs.another().wall),
                )
            ],
            piece="start",
        )
        for name, unit, take, bar in (
            ("start to READY", "s", ours.tell(lambda s: s.wall), 0.6),
            ("start to READY, of the processor", "s", ours.tell(lambda s: s.cpu), 0.6),
            ("fail2ban-server's start, of the processor", "s", theirs.tell(lambda s: s.cpu), None),
            ("memory when READY, one jail", "MB", ours.tell(lambda s: s.resident), 60),
            ("memory, one jail, Python's engine", "MB", partial(ground.judged, "python"), 60),
            ("memory, one jail, the fastest engine", "MB", partial(ground.judged, "auto"), 60),
            ("fail2ban-server's memory, one jail", "MB", theirs.tell(lambda s: s.resident), None),
            (f"{many} containers, memory when READY", "MB", crowd.tell(lambda c: c.ready), 90),
            (
                f"{many} containers, memory, each {EACH} lines a second",
                "MB",
                crowd.tell(lambda c: c.talked),
                90,
            ),
            (
                f"{many} containers, memory after each logged {BURST:,} lines at once",
                "MB",
                crowd.tell(lambda c: c.burst),
                90,
            ),
            (
                f"{many} containers, each {EACH} lines a second",
                "of a processor",
                crowd.tell(lambda c: c.talking),
                0.05,
            ),
            (f"{many} idle containers", "of a processor", crowd.tell(lambda c: c.idle), None),
            (f"{many} idle containers", "wake-ups a second", crowd.tell(lambda c: c.woken), None),
        ):
            yield Figure(name=name, unit=unit, take=take, bar=None if bar is None else at_most(bar))


if __name__ == "__main__":
    frame.run(__doc__, items)
