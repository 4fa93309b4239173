"""
The store under every misfortune, for real: a disk that is full, broken or silent, a lock that others
hold, pages of garbage; the whole daemon beside a real Engine and a real kernel.

The daemon's state is on a small disk of its own, in a mount namespace that outlives the process.
What is asked is whether bans hold meanwhile, and whether each line is counted once in the end.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.lab.attacker import Attacker
from tests.lab.engine import Engine
from tests.lab.jailer import Jailer, Json, banned, failed_login, follows, say, serve

pytestmark = pytest.mark.engine


ASKED = """
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
whom = "substr(subject, 1, instr(subject, '/') - 1)"
failures, bans = ([who for who, in db.execute(f"SELECT {whom} FROM {t}")] for t in ("failure", "ban"))
print(json.dumps([failures, bans, *db.execute("SELECT sum(failures) FROM total").fetchone()]))
"""
LOCKED = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


class Disk:
    """An ext4 of a few megabytes in a mount namespace of its own; a context manager."""

    SCRIPT = 'mount -o loop "$0" "$1" && echo mounted && exec sleep 1000'

    def __init__(self, image: Path, point: Path) -> None:
        self._point = point
        with image.open("wb") as file:
            file.truncate(8 * 1024 * 1024)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", self.SCRIPT, str(image), str(point)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline()
        if said != "mounted\n":
            self.__exit__()
            pytest.skip(f"needs loop devices: {said.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.kill()
        self._keeper.wait()
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()

    @property
    def command(self) -> tuple[str, ...]:
        """The words before a command that is to see the disk."""
        return "nsenter", "--mount", f"--target={self._keeper.pid}"

    @property
    def path(self) -> Path:
        """Where others see it."""
        return Path(f"/proc/{self._keeper.pid}/root{self._point}")

    def run(self, *command: str) -> None:
        subprocess.run([*self.command, *command], check=True)

    def python(self, code: str, *arguments: object) -> subprocess.Popen[str]:
        """Start a program that sees the disk: SQLite follows a path to where the test sees it."""
        command = [*self.command, sys.executable, "-c", code, *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def ask(self, database: Path) -> tuple[list[str], list[str], int]:
        """Return whose failures and whose bans are in a database, and how many failures were counted."""
        with self.python(ASKED, database) as program:
            said, _ = program.communicate()
        assert program.returncode == 0
        failures, bans, total = json.loads(said)
        return failures, bans, total

    @contextlib.contextmanager
    def locked(self, database: Path) -> Iterator[None]:
        """Have another process write to a database, and not end."""
        with self.python(LOCKED, database) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "locked\n"
            try:
                yield
            finally:
                program.communicate()

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.path / "hog").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 1024)

    def make_room(self) -> None:
        (self.path / "hog").unlink()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Have nothing that is written to it end, nor fail."""
        self.run("fsfreeze", "--freeze", str(self._point))
        try:
            yield
        finally:
            self.run("fsfreeze", "--unfreeze", str(self._point))

    def break_down(self) -> None:
        """Have whatever is written fail from now on, as ext4 does after an error of the disk."""
        self.run("mount", "-o", "remount,abort", str(self._point))

    def mend(self) -> None:
        """Mount it anew; nobody may use it."""
        device = subprocess.run(
            [*self.command, "findmnt", "-no", "SOURCE", str(self._point)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        # in one go: a loop device that nobody has mounted goes
        script = 'exec 9<"$0" && umount "$1" && mount "$0" "$1"'
        self.run("sh", "-c", script, device, str(self._point))


class House:
    """A daemon with its disk, and the container `web` that it follows."""

    def __init__(self, engine: Engine, root: Path, disk: Disk) -> None:
        self.engine = engine
        self.disk = disk
        self.jailer = Jailer(engine, root)
        self.jailer.within = disk.command

    @property
    def database(self) -> Path:
        return self.disk.path / self.jailer.database.name

    def start(self) -> None:
        self.jailer.ready()
        follows(self.jailer, "web")

    def fail(self, *addresses: str) -> None:
        """Have the container log five failures of each address."""
        say(self.engine, "web", [failed_login(address) for address in addresses for _ in range(5)])

    def fail_and_be_banned(self, *addresses: str) -> None:
        """Have each fail five times; wait until all are in the kernel."""
        self.fail(*addresses)
        self.jailer.wait(lambda s: set(addresses) <= banned(s))
        table = self.jailer.kernel()
        assert all(f"{address} " in table for address in addresses)

    def wait_trouble(self) -> Json:
        """Wait until the daemon says that something is wrong with the store; return what."""

        def of_the_store(status: Json) -> list[Json]:
            return [p for p in status["problems"] if p["place"] == "store"]

        status = self.jailer.wait(lambda s: bool(s["store"]["error"]) and bool(of_the_store(s)))
        found: Json = of_the_store(status)[0]
        return found

    def wait_written(self) -> None:
        """Wait until all is well with the store again."""
        status = self.jailer.wait(lambda s: s["store"]["ok"] and not s["store"]["unwritten"])
        assert [p for p in status["problems"] if p["place"] == "store"] == []

    def exact(self, addresses: Sequence[str], by_hand: Sequence[str] = ()) -> None:
        """Say whether each line was counted once, and each ban stored once."""
        failures, bans, total = self.disk.ask(self.jailer.database)
        assert sorted(failures) == sorted([*addresses] * 5)
        assert sorted(bans) == sorted([*addresses, *by_hand])
        assert total == 5 * len(addresses)


@pytest.fixture
def house(engine: Engine, tmp_path: Path) -> Iterator[House]:
    """Start a daemon on a small disk, following the container `web`."""
    serve(engine, "web")
    (tmp_path / "state").mkdir()
    with Disk(tmp_path / "disk", tmp_path / "state") as disk:
        made = House(engine, tmp_path, disk)
        try:
            made.start()
            yield made
        finally:
            made.jailer.__exit__()


def others(count: int, net: str = "100.64.1") -> list[str]:
    return [f"{net}.{n}" for n in range(1, count + 1)]


def test_a_full_disk_delays_no_ban_and_nothing_is_lost(
    house: House, attacker: Callable[[Engine], Attacker]
) -> None:
    bad, early, late = attacker(house.engine), others(20), others(60, "100.64.2")
    house.fail_and_be_banned(*early)
    house.disk.fill()
    assert bad.reaches(house.engine.address, 8080)
    house.fail_and_be_banned(*late, bad.address)
    assert not bad.reaches(house.engine.address, 8080)
    problem = house.wait_trouble()
    assert "the disk is full" in problem["what"]
    assert "bans are enforced all the same" in problem["what"]
    assert "make room on its file system" in problem["remedy"]

    # what an operator orders is carried out, and he is told the truth
    ended = house.jailer.cli("unban", late[0])
    assert ended.returncode == 4
    assert "is let in again" in ended.stdout
    assert "not stored yet, so a restart would forget it" in ended.stderr
    assert f"{late[0]} " not in house.jailer.kernel()
    assert house.jailer.ask("ban", "100.64.9.9")["stored"] is False
    assert house.jailer.cli("status").returncode == 4

    house.disk.make_room()
    house.wait_written()
    house.exact([*early, *late, bad.address], by_hand=["100.64.9.9"])
    assert house.jailer.ask("unban", "100.64.9.9")["stored"] is True
    assert house.jailer.log.count("bans are enforced all the same") == 1
    assert house.jailer.log.count("store: it works again") == 1


def test_killed_with_a_full_disk_it_counts_each_line_once(house: House) -> None:
    first, second, third = others(10), others(40, "100.64.2"), others(10, "100.64.3")
    house.fail_and_be_banned(*first)
    house.disk.fill()
    house.fail_and_be_banned(*second)
    house.wait_trouble()
    house.jailer.kill()
    house.disk.make_room()
    house.fail(*third)
    house.start()
    house.jailer.wait(lambda s: banned(s) == {*first, *second, *third})
    assert house.jailer.stop() == 0
    house.exact([*first, *second, *third])


def test_a_stop_with_a_full_disk_says_what_is_lost(house: House) -> None:
    house.disk.fill()
    house.fail_and_be_banned(*others(40))
    house.jailer.cli("ban", "100.64.9.9")
    house.wait_trouble()
    assert house.jailer.stop() == 1
    (last,) = [line for line in house.jailer.log.splitlines() if "CRITICAL" in line]
    assert "the disk is full" in last
    assert "what came from logs is read from there again at the next start" in last
    assert "lost are the orders: ban 100.64.9.9; make room" in last
    house.disk.make_room()
    house.start()
    house.jailer.wait(lambda s: banned(s) == set(others(40)))
    assert house.jailer.stop() == 0
    house.exact(others(40))


def test_a_start_with_a_full_disk_names_it(house: House) -> None:
    assert house.jailer.stop() == 0
    house.disk.fill()
    assert house.jailer.start().ended() == 1
    (last,) = [line for line in house.jailer.log.splitlines() if "CRITICAL" in line]
    assert "cannot open it: the disk is full" in last
    check = house.jailer.cli("check", within=house.disk.command)
    assert check.returncode == 1
    assert "store: " in check.stdout
    assert "the disk is full" in check.stdout
    house.disk.make_room()
    house.start()


def test_a_disk_that_does_not_answer_delays_no_ban(house: House) -> None:
    early, late = others(10), others(10, "100.64.2")
    house.fail_and_be_banned(*early)
    with house.disk.silent():
        house.fail_and_be_banned(*late)
        assert "does not answer" in house.wait_trouble()["what"]
    house.wait_written()
    house.exact([*early, *late])


def test_a_disk_that_breaks_down_delays_no_ban(house: House) -> None:
    early, late = others(10), others(10, "100.64.2")
    house.fail_and_be_banned(*early)
    house.disk.break_down()
    house.fail_and_be_banned(*late)
    house.wait_trouble()
    house.jailer.kill()
    house.disk.mend()
    house.start()
    house.jailer.wait(lambda s: banned(s) == {*early, *late})
    assert house.jailer.stop() == 0
    house.exact([*early, *late])


def test_a_lock_that_another_process_holds_delays_no_ban(house: House) -> None:
    with house.disk.locked(house.jailer.database):
        house.fail_and_be_banned(*others(10))
        problem = house.wait_trouble()
        # as long as SQLite itself waits for the lock, nothing else is known
        assert "another process has locked it" in problem["what"] or "answer" in problem["what"]
    house.wait_written()
    house.exact(others(10))


def spoiled(database: Path) -> None:
    """Write over all but the first pages, as a broken disk does."""
    with database.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (database.stat().st_size - 8192))


def emptied(database: Path) -> None:
    os.truncate(database, 0)


@pytest.mark.parametrize("misfortune", [spoiled, emptied])
def test_nobody_is_let_in_because_the_database_was_lost(
    house: House,
    attacker: Callable[[Engine], Attacker],
    misfortune: Callable[[Path], None],
) -> None:
    bad, worse = attacker(house.engine), attacker(house.engine)
    house.fail_and_be_banned(bad.address)
    assert house.jailer.cli("ban", worse.address, "--for", "1d").returncode == 0
    before = house.jailer.status()
    assert house.jailer.stop() == 0
    misfortune(house.database)
    house.start()
    status = house.jailer.wait(lambda s: banned(s) == {bad.address, worse.address})
    for each in bad, worse:
        assert not each.reaches(house.engine.address, 8080)
    assert "a fresh one is begun with the bans that can be read" in house.jailer.log
    assert "an earlier process is taken over" in house.jailer.log
    # each is listed once, also when the last lines of the log have been read again
    status = house.jailer.wait(
        lambda s: [b["jail"] for b in s["bans"] if b["address"] == bad.address] == ["flask@web"]
    )
    assert len(status["bans"]) == 2
    ends = {ban["address"]: ban["until"] for ban in before["bans"]}
    for ban in status["bans"]:
        assert abs(ban["until"] - ends[ban["address"]]) < 5
        if ban["address"] == worse.address and misfortune is emptied:
            assert ban["reason"] == "kept from the kernel: the database was lost"
    # and it is a store like any other
    house.fail_and_be_banned(*others(5))
    assert house.jailer.stop() == 0
    house.start()
    house.jailer.wait(lambda s: banned(s) == {bad.address, worse.address, *others(5)})


def test_damage_that_shows_while_it_runs_lets_nobody_in(
    house: House, attacker: Callable[[Engine], Attacker]
) -> None:
    bad = attacker(house.engine)
    everybody = {bad.address, "100.64.2.1", *others(40)}
    house.fail_and_be_banned(bad.address, *others(40))
    assert house.jailer.stop() == 0  # so that pages are read from the file, not from the journal
    house.start()
    spoiled(house.database)
    house.jailer.cli("status", "flask@web")  # reads rows
    house.fail("100.64.2.1")
    house.jailer.wait(lambda s: "starting anew" in house.jailer.log)
    house.jailer.wait(lambda s: banned(s) == everybody)
    assert not bad.reaches(house.engine.address, 8080)
    assert house.jailer.log.count(" starts\n") == 2  # two times by this test, never by another
    assert house.jailer.stop() == 0
    house.start()
    house.jailer.wait(lambda s: banned(s) == everybody)


def delete(house: House) -> None:
    for each in house.disk.path.glob(f"{house.database.name}*"):
        if not each.name.endswith(".lock"):
            each.unlink()


def taken_away(status: Json) -> list[str]:
    return [p["what"] for p in status["problems"] if "was moved, deleted or replaced" in p["what"]]


def test_a_database_that_is_deleted_while_it_runs_is_told_of_and_loses_nothing(
    house: House, attacker: Callable[[Engine], Attacker]
) -> None:
    bad = attacker(house.engine)
    house.fail_and_be_banned(bad.address, *others(5))
    assert house.jailer.ask("allow", "add", "203.0.113.7")["stored"] is True
    delete(house)
    assert taken_away(house.jailer.status())
    house.fail_and_be_banned(*others(5, "100.64.2"))
    everybody = {bad.address, *others(5), *others(5, "100.64.2")}
    status = house.jailer.wait(
        lambda s: any("nothing is lost" in what for what in taken_away(s)), within=60
    )
    assert banned(status) == everybody
    assert len(status["bans"]) == len(everybody)
    assert {ban["jail"] for ban in status["bans"]} == {"flask@web"}
    assert (status["allowed"], status["bans_total"]) == (1, len(everybody))
    assert not bad.reaches(house.engine.address, 8080)
    follows(house.jailer, "web")
    house.fail_and_be_banned("100.64.3.1")
    delete(house)  # and stopped before it was noticed
    assert house.jailer.stop() == 0
    house.start()
    status = house.jailer.wait(lambda s: banned(s) == everybody | {"100.64.3.1"})
    assert taken_away(status)
    assert house.jailer.stop() == 0
    house.exact(sorted(everybody | {"100.64.3.1"}))


def test_a_database_that_is_missing_after_a_kill_lets_nobody_in(house: House) -> None:
    house.fail_and_be_banned(*others(5))
    house.jailer.kill()
    delete(house)
    house.start()
    # the jail's own bans, of the last lines of the log
    status = house.jailer.wait(lambda s: {b["jail"] for b in s["bans"]} == {"flask@web"})
    assert banned(status) == {*others(5)}
    assert len(status["bans"]) == 5
    assert "bans were kept" in taken_away(status)[0]
