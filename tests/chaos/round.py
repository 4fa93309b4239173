"""
One round of chaos: containers print, plugs are pulled, and then everything is counted.

In: a private Engine, a seed, a directory. Out: a `Result`. All that is chosen comes from
the seed: what the containers print, which plugs are pulled, when. What processes make
of it does not, so a seed that failed may pass, and is worth repeating.

Three scripts run at the same time: one kills dockerjail, one the Engine and its
containers, one spoils the connection between them. Then all is left in peace; what
dockerjail has stored when it has read everything is compared with what it should have. It
is killed and started once more, since what is read twice would be stored twice.
"""

import asyncio
import contextlib
import itertools
import json
import random
import shlex
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from dockerjail.errors import DaemonUnreachable
from tests.chaos import generator, oracle
from tests.lab import images
from tests.lab.engine import Engine, EngineFailed
from tests.lab.jailer import Jailer
from tests.lab.journald import Journal
from tests.lab.proxy import Proxy

LASTS = 8.0
"""Seconds in which plugs are pulled."""

PATIENCE = 60.0
"""Seconds in which what a log still has must be in the store, once all is left in peace."""

RULES = {"fast": (4, 1.5), "slow": (5, 600.0)}
"""maxretry and findtime of the two jails of each container."""

_PLENTY = ("--log-opt", "max-size=100k", "--log-opt", "max-file=100")
_SCARCE = ("--log-opt", "max-size=150k", "--log-opt", "max-file=2")
_LOCAL = ("--log-driver", "local")
DRIVERS = {
    "json-file": (),
    "json-file rotated": _PLENTY,
    "json-file compressed": (*_PLENTY, "--log-opt", "compress=true"),
    "json-file scarce": _SCARCE,
    "local": _LOCAL,
    "local rotated": (*_LOCAL, *_PLENTY),
    "local scarce": (*_LOCAL, *_SCARCE),
    "journald": ("--log-driver", "journald"),
    "syslog cached": ("--log-driver", "syslog", "--log-opt", "syslog-address=udp://127.0.0.1:514"),
}
_ON_PODMAN = {
    "k8s-file": ("--log-driver", "k8s-file"),
    "k8s-file large": ("--log-driver", "k8s-file", "--log-opt", "max-size=50m"),
}

_SETTINGS = """
[docker]
lookback = "1h"
[budget]
bans_per_minute = 0
active = 0
"""

_GONE = (EngineFailed, OSError, HTTPException, subprocess.TimeoutExpired)
"""What an order to an Engine raises while that is being restarted."""


@dataclass(slots=True)
class Box:
    """A container of the round, in one generation: the program by name, and what it is told."""

    about: dict[str, Any]
    driver: str
    tty: bool
    rm: bool
    id: str = ""
    paused: bool = False

    @property
    def name(self) -> str:
        return str(self.about["name"])

    @property
    def gen(self) -> int:
        return int(self.about["gen"])


@dataclass(slots=True)
class Result:
    """What came of a round."""

    seed: int
    engine: str
    drivers: str
    verdict: oracle.Verdict
    plugs: Counter[str]
    faults: list[str]
    seconds: float
    place: Path

    def __str__(self) -> str:
        v = self.verdict
        pulled = " ".join(f"{plug}:{count}" for plug, count in sorted(self.plugs.items()))
        return (
            f"seed {self.seed} {self.engine} [{self.drivers}] {self.seconds:.0f} s: "
            f"sent {v.sent} judged {v.judged} lost {len(v.lost)} silent {len(v.silent)} "
            f"doubled {len(v.doubled)} (Engine dropped {v.dropped}, told as unread {v.unread}, "
            f"{oracle.cases(v.unseen)}) "
            f"bans {v.bans_found} of {v.bans_expected} | {pulled}"
        )


async def play(engine: Engine, seed: int, place: Path) -> Result:
    """Play a round; `place` is an empty directory, for all that is worth keeping if it fails."""
    began = time.monotonic()
    kind = type(engine).__name__.lower()
    chance = random.Random(f"{kind} {seed}")
    options = _options(engine, chance)
    if engine.running and engine.options != options:
        await asyncio.to_thread(engine.stop)
    await asyncio.to_thread(engine.start, *options)
    version = await asyncio.to_thread(engine.version)
    journal = None if kind == "podman" else Journal(engine)
    with (
        journal or contextlib.nullcontext(),
        Proxy(engine.socket, place / "proxy.sock") as proxy,
        _sink(engine),
    ):
        jailer = Jailer(engine, place, _SETTINGS, DOCKER_HOST=proxy.host)
        round_ = Round(engine, jailer, proxy, seed, place, chance, journal)
        round_.old = int(version.partition(".")[0]) < 23 and not round_.podman
        verdict = oracle.Verdict()
        try:
            verdict = await round_.play()
        except _GONE as error:
            round_.faults.append(f"the lab failed, not dockerjail: {error!r}")
        except AssertionError as error:
            round_.faults.append(str(error))  # dockerjail did not start
        finally:
            await asyncio.to_thread(jailer.__exit__)
            await asyncio.to_thread(round_.clear)
    faults = [*round_.faults, *verdict.faults]
    result = Result(
        seed,
        version,
        ", ".join(sorted({box.driver for box in round_.boxes})),
        verdict,
        round_.plugs,
        faults,
        time.monotonic() - began,
        place,
    )
    (place / "result").write_text("\n".join([str(result), *faults, *round_.story]) + "\n")
    return result


class Round:
    """What happens between an Engine that runs and a verdict."""

    def __init__(
        self,
        engine: Engine,
        jailer: Jailer,
        proxy: Proxy,
        seed: int,
        place: Path,
        chance: random.Random,
        journal: Journal | None,
    ) -> None:
        self.engine = engine
        self.journal = journal
        self.jailer = jailer
        self.proxy = proxy
        self.boxes: list[Box] = []
        self.plugs: Counter[str] = Counter()
        self.faults: list[str] = []
        self.story: list[str] = []
        self.old = False  # Engines that may keep back a container's last lines
        self._seed = seed
        self._place = place
        self._chance = chance
        self._kills: list[float] = []
        self._current: dict[str, Box] = {}
        self._until = 0.0
        self._said = 0  # how much dockerjail had logged when it was started last
        self._hits = place / "hits"
        self._hits.mkdir()
        (place / "generator.py").write_bytes(Path(generator.__file__).read_bytes())

    # -- the round --------------------------------------------------------------

    async def play(self) -> oracle.Verdict:
        """Let it happen, wait for peace, count."""
        late = self._chance.random() < 0.3  # dockerjail comes when containers print already
        if not late:
            await asyncio.to_thread(self.jailer.ready)
        for index in range(self._chance.randint(2, 4)):
            await self._create(self._describe(index, 0))
        if late:
            await asyncio.to_thread(self.jailer.ready)
        self._until = time.monotonic() + LASTS
        async with asyncio.TaskGroup() as scripts:
            for script in (self._hurt_dockerjail, self._hurt_engine, self._hurt_connection):
                own = random.Random(f"{script.__name__} {self._seed}")
                scripts.create_task(script(own), name=script.__name__)
        await self._make_peace()
        await self._identify()
        logs = {box.id: await asyncio.to_thread(self._log, box) for box in self.boxes if box.id}
        wanted = {key for log in logs.values() if log for key, h in log.items() if h.whole}
        await self._wait_for(wanted)
        self._stop("kill")
        self._start()
        await self._wait_until_read()
        verdict = self._count(logs)
        await self._look_at_kernel(verdict)
        if self.faults or verdict.faults:
            self._keep_evidence(logs)
            self.story += self._explain(verdict, logs)
        return verdict

    def clear(self) -> None:
        """Leave the Engine as it was."""
        try:
            self.engine.start(*self.engine.options)
            self.engine.remove_containers()
        except _GONE as error:
            self.story.append(f"the Engine has to be made anew: {error}")
            self.engine.clean()
            self.engine.start()

    # -- plugs ------------------------------------------------------------------

    @property
    def _goes_on(self) -> bool:
        # Scripts are not cancelled: a thread in the middle of an order would go on alone.
        return time.monotonic() < self._until

    async def _hurt_dockerjail(self, chance: random.Random) -> None:
        while self._goes_on:
            await asyncio.sleep(chance.uniform(0.3, 3.0))
            how = chance.choice(("kill", "kill", "stop"))
            await asyncio.to_thread(self._stop, how)
            self._pulled(f"dockerjail {how}")
            await asyncio.sleep(chance.choice((0.0, 0.3, chance.uniform(0.5, 2.5))))
            self._start()

    async def _hurt_engine(self, chance: random.Random) -> None:
        plugs: dict[str, tuple[int, Callable[[random.Random], Awaitable[None]]]] = {
            "stop": (2, self._plug_stop),
            "restart": (2, self._plug_restart),
            "kill": (2, self._plug_kill),
            "pause": (2, self._plug_pause),
            "remove": (2, self._plug_remove),
            "engine": (2, self._plug_engine),
        }
        if any(box.driver == "journald" for box in self.boxes):
            plugs["journal"] = (2, self._plug_journal)
        while self._goes_on:
            await asyncio.sleep(chance.uniform(0.1, 1.2))
            names = list(plugs)
            (name,) = chance.choices(names, [plugs[each][0] for each in names])
            with contextlib.suppress(*_GONE):
                await plugs[name][1](chance)
            for box in list(self._current.values()):
                if chance.random() < 0.6:
                    await self._revive(box)

    async def _plug_stop(self, chance: random.Random) -> None:
        await self._order(self._choose(chance), "stop?t=2", "stop")

    async def _plug_restart(self, chance: random.Random) -> None:
        await self._order(self._choose(chance), "restart?t=2", "restart")

    async def _plug_kill(self, chance: random.Random) -> None:
        await self._order(self._choose(chance), "kill", "kill")

    async def _plug_pause(self, chance: random.Random) -> None:
        box = self._choose(chance)
        await self._order(box, "pause", "pause")
        box.paused = True
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        await self._unpause(box)

    async def _plug_remove(self, chance: random.Random) -> None:
        """Remove a container, and put another in its place."""
        box = self._choose(chance)
        if box.id:
            path = f"/containers/{box.id}?force=1"
            await asyncio.to_thread(self.engine.api, "DELETE", path)
            self._pulled("rm -f")
        await asyncio.sleep(chance.choice((0.0, 0.3)))
        await self._create(self._describe(box.about["index"], box.gen + 1))

    async def _plug_engine(self, chance: random.Random) -> None:
        if chance.random() < 0.5:
            await asyncio.to_thread(self.engine.stop)
            self._pulled("Engine SIGTERM")
        else:
            self._kills.append(time.time())
            await asyncio.to_thread(self.engine.kill)
            self._pulled("Engine SIGKILL")
        await asyncio.sleep(chance.choice((0.0, 0.5)))
        await asyncio.to_thread(self.engine.start, *self.engine.options)

    async def _plug_journal(self, chance: random.Random) -> None:
        """Have journald begin new files, or stop it for a while; its socket keeps what is sent."""
        assert self.journal is not None
        if chance.random() < 0.5:
            await asyncio.to_thread(self.journal.rotate)
            self._pulled("journald rotate")
            return
        await asyncio.to_thread(self.journal.stop)
        self._pulled("journald stop")
        await asyncio.sleep(chance.choice((0.0, 0.3, 1.0)))
        await asyncio.to_thread(self.journal.start)

    async def _hurt_connection(self, chance: random.Random) -> None:
        proxy = self.proxy

        def bytes_(share: float) -> Callable[[], int | None]:
            return lambda: int(2 ** chance.uniform(3, 18)) if chance.random() < share else None

        while self._goes_on:
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            match chance.choice(("cut", "cut", "cuts", "hang", "closed", "peace")):
                case "cut":
                    await asyncio.to_thread(proxy.cut)
                    self._pulled("cut")
                case "cuts":
                    proxy.cut_after = bytes_(0.5)
                    await asyncio.to_thread(proxy.cut)
                    self._pulled("cut anywhere")
                case "hang":
                    proxy.stall_after = bytes_(0.3)
                    await asyncio.to_thread(proxy.cut)
                    self._pulled("hang")
                    await asyncio.sleep(chance.uniform(0.5, 4.0))
                    proxy.stall_after = _never
                    await asyncio.to_thread(proxy.cut)
                case "closed":
                    proxy.closed = True
                    await asyncio.to_thread(proxy.cut)
                    self._pulled("refused")
                    await asyncio.sleep(chance.uniform(0.2, 1.5))
                    proxy.closed = False
                case _:
                    proxy.cut_after = _never

    # -- containers ---------------------------------------------------------------

    def _describe(self, index: int, gen: int) -> Box:
        """Choose what a container is: by the seed, whenever it is made."""
        chance = random.Random(f"{self._seed} box {index}")
        drivers = _ON_PODMAN if self.podman else DRIVERS
        tty = chance.random() < 0.2
        rate = chance.choice((20, 60, 150, 400))
        about = {
            "name": f"box{index}",
            "gen": gen,
            "index": index,
            "seed": self._seed,
            "fast": 0.3,
            # of some the failures that make a ban lie before and behind a kill
            "crowd": chance.choice((6, 20, 60, 250)),
            "long": chance.choice((0.0, 0.0, 0.01, 0.05)),
            "rate": rate,
            "bursty": chance.choice((0.0, 0.005, 0.02)),
            "burst": chance.choice((60, 400, 1000)),
            "streams": (1,) if tty else chance.choice(((1,), (2,), (1, 2), (1, 2))),
            "crlf": not tty and chance.random() < 0.2,
            "colour": chance.random() < 0.2,
            # Where a terminal's line without LF ends the Engine does not say: the next run's
            # first line is a part of it. Nobody can tell that from what a client wrote.
            "open_end": not tty and chance.random() < 0.5,
            "most": chance.choice((300, 3000, 3000)),
            "ends": chance.random() < 0.2,
        }
        return Box(about, chance.choice(list(drivers)), tty, rm=chance.random() < 0.15)

    async def _create(self, box: Box) -> None:
        """Make a container and start it; an Engine that is away makes none."""
        self.boxes.append(box)
        self._current[box.name] = box
        drivers = _ON_PODMAN if self.podman else DRIVERS
        options = [
            *("--name", box.name, "--publish", f"{8100 + box.about['index']}:80"),
            *("--volume", f"{self._place}:/chaos", *drivers[box.driver]),
            *(["--tty"] if box.tty else []),
            *(["--rm"] if box.rm else []),
            *_labels(box.gen),
        ]
        command = ["python3", "-B", "/chaos/generator.py", json.dumps(box.about), "/chaos/hits"]
        image = await asyncio.to_thread(images.python, self.engine)
        with contextlib.suppress(*_GONE):
            box.id = await asyncio.to_thread(self.engine.run, image, *command, options=options)
            self.story.append(f"{time.time():.3f} {box.name}.{box.gen} is {box.id[:12]}")

    async def _revive(self, box: Box) -> None:
        """Start a container that does not run; one that is gone gets a successor."""
        try:
            await asyncio.to_thread(self.engine.api, "POST", f"/containers/{box.name}/start")
        except EngineFailed as error:
            if "No such container" in str(error) or "no such container" in str(error):
                await self._create(self._describe(box.about["index"], box.gen + 1))
        except (OSError, HTTPException):
            pass

    async def _order(self, box: Box, what: str, plug: str) -> None:
        await asyncio.to_thread(self.engine.api, "POST", f"/containers/{box.name}/{what}")
        self._pulled(plug)

    async def _unpause(self, box: Box) -> None:
        with contextlib.suppress(*_GONE):
            await asyncio.to_thread(self.engine.api, "POST", f"/containers/{box.name}/unpause")
            box.paused = False

    def _choose(self, chance: random.Random) -> Box:
        return self._current[chance.choice(sorted(self._current))]

    @property
    def podman(self) -> bool:
        return type(self.engine).__name__ == "Podman"

    # -- peace, and the count -----------------------------------------------------

    async def _make_peace(self) -> None:
        """Have everything run and talk to each other, and the containers end."""
        proxy, engine = self.proxy, self.engine
        proxy.cut_after = proxy.stall_after = _never
        proxy.closed = False
        await asyncio.to_thread(proxy.cut)
        (self._hits / generator.STOP).touch()
        await asyncio.to_thread(engine.start, *engine.options)
        for box in self._current.values():
            await self._unpause(box)
        if not self.jailer.running:
            self._start()
        end = time.monotonic() + 20
        fleeting = {box.id for box in self.boxes if box.rm}
        while left := await asyncio.to_thread(engine.api, "GET", "/containers/json?all=1"):
            running = [each for each in left if each["State"] not in ("exited", "created")]
            if not running and not any(each["Id"] in fleeting for each in left):
                return  # what was to be removed is, so that the logs that are left stay
            if time.monotonic() > end:
                if not running:
                    return
                for each in running:
                    with contextlib.suppress(*_GONE):
                        path = f"/containers/{each['Id']}/kill"
                        await asyncio.to_thread(engine.api, "POST", path)
                end += 20
            await asyncio.sleep(0.1)

    async def _identify(self) -> None:
        """Find the containers of which the Engine was killed before it told their ids."""
        listed = await asyncio.to_thread(self.engine.api, "GET", "/containers/json?all=1")
        known = {box.id for box in self.boxes}
        for id_ in {each["Id"] for each in listed} - known:
            found = await asyncio.to_thread(self.engine.api, "GET", f"/containers/{id_}/json")
            for box in self.boxes:
                if not box.id and json.dumps(box.about) in found["Config"]["Cmd"]:
                    box.id = id_
                    self.story.append(f"{box.name}.{box.gen} was made all the same: {id_[:12]}")

    async def _wait_for(self, wanted: set[oracle.Key]) -> None:
        """Wait until all these lines are in the store; what never comes the verdict tells."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self._alive()
            rows = await asyncio.to_thread(self._rows)
            if wanted <= {key for row in rows if (key := oracle.key_of(row.text))}:
                return
            await asyncio.sleep(0.3)

    async def _wait_until_read(self) -> None:
        """Wait until dockerjail has read every log to its end."""
        left = {each["Id"] for each in self.engine.api("GET", "/containers/json?all=1")}
        end = time.monotonic() + PATIENCE
        told: dict[str, str] = {}
        while time.monotonic() < end:
            self._alive()
            with contextlib.suppress(DaemonUnreachable):
                status = await asyncio.to_thread(self.jailer.status)
                told = {each["id"]: each["state"] for each in status["containers"]}
                done = {id_ for id_ in left if told.get(id_[:12]) == "ended"}
                if status["engine"]["connected"] and done == left and not status["queue"]:
                    return
            await asyncio.sleep(0.1)
        self.faults.append(f"after {PATIENCE:.0f} s in peace not all logs were read: {told}")

    def _count(self, logs: dict[str, dict[oracle.Key, oracle.Heard] | None]) -> oracle.Verdict:
        said = self.jailer.log
        boxes = [
            oracle.Box(
                name=box.name,
                gen=box.gen,
                id=box.id,
                printed=self._record(box),
                log=logs.get(box.id),
                rotates="max-size" in " ".join(DRIVERS.get(box.driver, ())),
                fleeting=box.rm and self.old,
                joins=self.podman,
                lives=oracle.lives(self._notes(box)),
                watched=oracle.watched(said, box.name),
            )
            for box in self.boxes
        ]
        return oracle.judge(
            boxes,
            self._rows(),
            self._bans(),
            rules=RULES,
            told=oracle.gaps(said),
            kills=self._kills,
        )

    def _record(self, box: Box) -> dict[oracle.Key, oracle.Printed]:
        return oracle.printed(self._notes(box), box.name, box.gen)

    def _notes(self, box: Box) -> str:
        """Return what a generator noted, nothing if it never ran."""
        record = self._hits / f"{box.name}.{box.gen}.record"
        return record.read_text() if record.exists() else ""

    async def _look_at_kernel(self, verdict: oracle.Verdict) -> None:
        """See that what the store bans is in force."""
        with contextlib.suppress(DaemonUnreachable):
            status = await asyncio.to_thread(self.jailer.status)
            if status["banned"] != verdict.bans_found or not status["kernel"]["in_sync"]:
                self.faults.append(
                    f"the store has {verdict.bans_found} bans, in force are {status['banned']}; "
                    f"kernel: {status['kernel']}"
                )
            return
        self.faults.append("dockerjail does not answer at the end")

    def _alive(self) -> None:
        """Take note if dockerjail ended by itself, and start it again."""
        if not self.jailer.running:
            self.faults.append(f"dockerjail ended by itself: {self.jailer.log[-500:]}")
            self._start()

    def _start(self) -> None:
        log = self._place / "log"
        self._said = len(self.jailer.log) if log.exists() else 0
        self.jailer.start()

    def _stop(self, how: str) -> None:
        if not self.jailer.running:
            self.faults.append(f"dockerjail ended by itself: {self.jailer.log[-500:]}")
            return
        try:
            if how == "kill":
                self.jailer.kill()
            else:
                silent = self._said == len(self.jailer.log)
                code = self.jailer.stop()
                # Python itself was still starting, and takes SIGTERM as it comes.
                if code and not (silent and code == -signal.SIGTERM):
                    self.faults.append(f"exit code {code} after SIGTERM: {self.jailer.log[-500:]}")
        except subprocess.TimeoutExpired:
            self.faults.append("dockerjail does not end when told to")
            self.jailer.kill()

    def _log(self, box: Box) -> dict[oracle.Key, oracle.Heard] | None:
        """Return what the Engine has of a log; behind damage it is only found from the end."""
        lines: dict[oracle.Key, oracle.Heard] = {}
        try:
            for tail in ("50", "1000", "all"):
                lines |= oracle.heard(self.engine.raw(_body(box, tail)), tty=box.tty)
        except EngineFailed:
            return None
        return lines

    def _rows(self) -> list[oracle.Row]:
        return [
            oracle.Row(*row)
            for row in self._query("SELECT jail, subject, at, substr(text, 1, 200) FROM failure")
        ]

    def _bans(self) -> list[tuple[str, str]]:
        return [(jail, subject) for jail, subject in self._query("SELECT jail, subject FROM ban")]

    def _query(self, sql: str) -> list[Any]:
        uri = f"file:{self.jailer.database}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=10)) as base:
            return base.execute(sql).fetchall()

    def _keep_evidence(self, logs: dict[str, dict[oracle.Key, oracle.Heard] | None]) -> None:
        for box in self.boxes:
            if logs.get(box.id) is not None:
                with contextlib.suppress(*_GONE):
                    file = self._place / f"{box.name}.{box.gen}.log"
                    file.write_bytes(self.engine.raw(_body(box, "all")))
        for box in self.boxes:
            self.story.append(f"{box.name}.{box.gen} {box.driver} tty={box.tty} rm={box.rm}")
            self.story.append(f"    {shlex.quote(json.dumps(box.about))}")
        with contextlib.suppress(DaemonUnreachable):
            (self._place / "status").write_text(json.dumps(self.jailer.status(), indent=1))

    def _explain(
        self, verdict: oracle.Verdict, logs: dict[str, dict[oracle.Key, oracle.Heard] | None]
    ) -> Iterator[str]:
        """Yield each line that went wrong: what the Engine has of it, and when it was printed."""
        records = {(box.name, box.gen): (box, self._record(box)) for box in self.boxes}
        for what in ("lost", "silent", "doubled"):
            for key in getattr(verdict, what):
                box, printed = records[key.name, key.gen]
                log = logs.get(box.id)
                has = "removed" if log is None else log.get(key, "not in the log")
                yield f"{what} {key.name}.{key.gen} {key.life}/{key.number} {has} {printed.get(key)}"

    def _pulled(self, plug: str) -> None:
        self.plugs[plug] += 1
        self.story.append(f"{time.time():.3f} {plug}")


def _body(box: Box, tail: str) -> str:
    """Return the path of a log with timestamps."""
    return f"/containers/{box.id}/logs?stdout=1&stderr=1&timestamps=1&tail={tail}"


def _options(engine: Engine, chance: random.Random) -> tuple[str, ...]:
    """Choose what dockerd is started with."""
    live = chance.random() < 0.5
    return ("--live-restore",) if live and type(engine) is Engine else ()


def _labels(gen: int) -> Iterator[str]:
    """Yield the options that opt a container in; each generation has a fast jail of its own."""
    labels = {"enable": "true"}
    for kind, (maxretry, findtime) in RULES.items():
        name = f"jail.{kind}{gen if kind == 'fast' else ''}"
        labels |= {
            f"{name}.failregex": rf"^chaos \S+ \d+ \d+ \d+ {kind} failed login from <HOST> ",
            f"{name}.maxretry": str(maxretry),
            f"{name}.findtime": f"{findtime}s",
            f"{name}.bantime": "1h",
        }
    return itertools.chain.from_iterable(
        ("--label", f"dockerjail.{name}={value}") for name, value in labels.items()
    )


@contextlib.contextmanager
def _sink(engine: Engine) -> Iterator[None]:
    """Give syslog somewhere to go, so that the Engine's copy is complete."""
    import socket

    with engine.space.inside():
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sink:
        sink.bind(("127.0.0.1", 514))
        yield


def _never() -> None:
    return None
