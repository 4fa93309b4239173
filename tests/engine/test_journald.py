"""
Logs that Docker's `journald` driver keeps: from a real journal, each line once.

What is particular: a line's time is when journald received it, in microseconds, and each piece
of a long line has one of its own; followers are told of new lines four times a second; what is
removed are the journal's oldest files, whoever's lines are in them.
"""

import asyncio
import contextlib
import itertools
import random
import signal
from collections.abc import Iterator

import pytest

from dockerjail.docker.client import DockerEngine
from dockerjail.docker.tail import Tail
from dockerjail.model import Stream
from tests.lab.engine import Engine
from tests.lab.journald import Journal
from tests.lab.watch import Watch, differences, printed, printer

pytestmark = pytest.mark.engine

JOURNALD = ("--log-driver", "journald")
PIECE = 16384


@contextlib.contextmanager
def journal_of(engine: Engine, **sizes: str) -> Iterator[Journal]:
    with Journal(engine, **sizes) as journal:
        yield journal
        # Engine 26 waits for each container's last line, in vain when there is no journal.
        engine.remove_containers()


@pytest.fixture
def journal(any_engine: Engine) -> Iterator[Journal]:
    with journal_of(any_engine) as made:
        yield made


def tail_of(watch: Watch, name: str) -> Tail:
    tail = watch.tail(name)
    assert isinstance(tail, Tail)
    return tail


def sized(*lengths: int) -> list[str]:
    """Return a command that prints lines of these lengths, and a short one behind each."""
    script = "".join(
        f"head -c {length} /dev/zero | tr '\\0' x; echo; echo next{number};"
        for number, length in enumerate(lengths)
    )
    return ["sh", "-c", script]


@pytest.mark.parametrize("terminal", [False, True], ids=["streams", "terminal"])
async def test_each_line_is_delivered_once_whenever_we_are_stopped_and_files_rotate(
    journal, terminal
):
    watch = Watch(journal.engine)
    chance = random.Random(7)
    options = ("--tty",) if terminal else ()
    await watch.run("printer", printer(1000, both=not terminal), *JOURNALD, *options)
    for _ in range(4):
        async with watch.running():
            await asyncio.sleep(chance.uniform(0.0, 0.4))
            await asyncio.to_thread(journal.rotate)
        await asyncio.sleep(chance.choice((0.0, 0.2)))
    async with watch.running():
        await watch.until(lambda: watch.count("printer") >= 1000)
        await asyncio.to_thread(journal.rotate)
        await watch.until(lambda: watch.ended("printer"))
        assert tail_of(watch, "printer").gaps == 0
    assert not differences(printed(1000, both=not terminal), watch.lines["printer"])


async def test_a_line_of_any_length_ends_where_it_ends(journal):
    lengths = (PIECE - 1, PIECE + 1, 2 * PIECE + 5)
    watch = Watch(journal.engine)
    async with watch.running():
        await watch.run("web", sized(*lengths), *JOURNALD)
        await watch.until(lambda: watch.count("web") == 2 * len(lengths))
    got = watch.of("web")
    assert [len(line) for line in got[::2]] == list(lengths)
    assert got[1::2] == [f"next{number}" for number in range(len(lengths))]


async def test_a_line_of_exactly_a_piece_swallows_the_next_on_old_engines_only(journal):
    """Before Engine 23 what is empty is not read from a journal, and so is the end of such a line."""
    watch = Watch(journal.engine)
    async with watch.running():
        await watch.run("web", sized(PIECE, 2 * PIECE), *JOURNALD)
        await watch.until(lambda: bool(watch.of("web")) and "next1" in watch.of("web")[-1])
    lines = ["x" * PIECE, "next0", "x" * 2 * PIECE, "next1"]
    if journal.engine.version().startswith("20."):
        lines = ["".join(lines[:2]), "".join(lines[2:])]
    assert watch.of("web") == lines


async def test_last_words_without_a_newline_swallow_no_line_of_the_next_run(journal):
    watch = Watch(journal.engine)
    await watch.run("web", ["sh", "-c", "echo one; printf 'panic: two'"], *JOURNALD)
    await watch.docker("wait", "web")
    await watch.docker("start", "web")
    async with watch.running():
        await watch.until(lambda: watch.count("web") == 3)
    assert watch.of("web") == ["one", "panic: two", "one"]


class Counting(DockerEngine):
    """Counts how often a log is opened."""

    opened = 0

    @contextlib.asynccontextmanager
    async def logs(self, container, **options):
        self.opened += 1
        async with super().logs(container, **options) as body:
            yield body


async def test_a_follower_that_is_told_late_is_not_left_for_that(journal):
    watch = Watch(journal.engine)
    script = "for i in $(seq 1 25); do echo $i; usleep 70000; done; sleep 1000"
    async with Counting(journal.engine.host) as client, watch.running(client=client):
        await watch.run("web", ["sh", "-c", script], *JOURNALD)
        await watch.until(lambda: watch.count("web") == 25)
        assert client.opened < 8
    assert watch.of("web") == [str(n) for n in range(1, 26)]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_of_journald_doubles_nothing_and_loses_what_it_lost(journal, how):
    watch = Watch(journal.engine)
    script = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; echo $i >&2; usleep 4000; done"
    async with watch.running():
        await watch.run("web", ["sh", "-c", script], *JOURNALD)
        for count in (100, 300, 500):
            await watch.until(lambda count=count: watch.count("web") > count)
            await asyncio.to_thread(getattr(journal, how))
            await asyncio.to_thread(journal.start)
        await watch.until(lambda: all(watch.of("web", each)[-1] == "400" for each in Stream))
    logged = await asyncio.to_thread(journal.engine.logs, "web")
    assert [*watch.of("web"), *watch.of("web", Stream.STDERR)] == logged.splitlines()
    if how == "stop":
        numbers = [str(n) for n in range(1, 401)]
        assert logged.splitlines() == numbers * 2


async def test_what_journald_writes_after_the_end_of_a_container_is_delivered(journal):
    watch = Watch(journal.engine)
    async with watch.running():
        await watch.run("web", ["sh", "-c", "echo one; sleep 1; echo two"], *JOURNALD)
        await watch.until(lambda: watch.of("web") == ["one"])
        journal.send(signal.SIGSTOP)
        try:
            await watch.until(lambda: not tail_of(watch, "web").container.running)
            await asyncio.sleep(0.5)
        finally:
            journal.send(signal.SIGCONT)
        await watch.until(lambda: watch.of("web") == ["one", "two"])


async def test_a_vacuum_of_what_was_read_is_no_gap_and_of_what_was_not_is_one(journal):
    watch = Watch(journal.engine)
    script = """
        echo one; until [ -e /tmp/two ]; do usleep 50000; done; echo two
        until [ -e /tmp/three ]; do usleep 50000; done; echo three; sleep 1000
    """

    async def vacuum() -> None:
        await asyncio.to_thread(journal.rotate)
        await asyncio.to_thread(journal.vacuum)

    async with watch.running():
        await watch.run("web", ["sh", "-c", script], *JOURNALD)
        await watch.until(lambda: watch.of("web") == ["one"])
        await vacuum()
        await watch.docker("exec", "web", "touch", "/tmp/two")
        await watch.until(lambda: watch.of("web") == ["one", "two"])
    await vacuum()
    await watch.docker("exec", "web", "touch", "/tmp/three")
    async with watch.running():
        await watch.until(lambda: watch.of("web") == ["one", "two", "three"])
        await watch.until(lambda: tail_of(watch, "web").gaps == 1)
        assert "rotated away or truncated" in str(tail_of(watch, "web").problems)


async def test_a_flood_beyond_what_the_journal_may_hold_is_delivered_or_a_gap(any_engine):
    with journal_of(any_engine, most="2M", file="512K"):
        watch = Watch(any_engine)
        async with watch.running():
            await watch.run("flood", ["sh", "-c", "seq 1 5000"], *JOURNALD)
            await watch.until(lambda: watch.ended("flood"))
            gaps = tail_of(watch, "flood").gaps
    got = [int(line) for line in watch.of("flood")]
    holes = sum(later - earlier > 1 for earlier, later in itertools.pairwise(got))
    assert got == sorted(set(got))
    assert got[-1] == 5000
    assert holes <= gaps


async def test_whatever_happens_to_a_container_each_line_counts_once(journal):
    script = "trap 'echo bye; exit' TERM; echo hello; while :; do sleep 0.05; done"
    watch = Watch(journal.engine)
    async with watch.running():
        await watch.run("web", ["sh", "-c", script], *JOURNALD)
        await watch.until(lambda: watch.of("web") == ["hello"])
        await watch.docker("restart", "web")
        await watch.until(lambda: watch.count("web") == 3)
        await watch.docker("kill", "web")
        await watch.docker("start", "web")
        await watch.until(lambda: watch.count("web") == 4)
        await watch.docker("rm", "--force", "web")
        await watch.until(lambda: not watch.intake.tails)
        await watch.run("web", ["sh", "-c", script], *JOURNALD)
        await watch.until(lambda: watch.count("web") == 5)
    assert watch.of("web") == ["hello", "bye", "hello", "hello", "hello"]
