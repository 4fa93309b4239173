"""Words that stand for changing addresses, and who is let pass by them now."""

import asyncio
import itertools
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.model import Address, Subject
from dockerjail.service import exempt
from dockerjail.service.exempt import (
    AT_ONCE,
    EVERY,
    MOST_ANSWERS,
    MOST_PROBLEMS,
    SETTLED,
    Exempt,
    content,
)

pytestmark = pytest.mark.looptime

OFFICE = "office.example.org"


class Office:
    """A resolver whose answers change, and whoever waits for news of them."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.under_way = self.most_under_way = 0
        self.open = asyncio.Event()
        self.open.set()
        self.changes = 0
        self.exempt = Exempt(ask=self._ask, clock=self._time, changed=self._changed)

    def _time(self) -> float:
        return asyncio.get_running_loop().time()

    def _changed(self) -> None:
        self.changes += 1

    async def _ask(self, name: str) -> Sequence[Address]:
        self.asked.append(name)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.open.wait()
        self.under_way -= 1
        return [ip_address(answer) for answer in self.answers.get(name, ())]

    @property
    def problems(self) -> list[str]:
        return [str(problem) for problem in self.exempt.problems()]

    async def settled(self) -> None:
        """Wait until something is known of each word; the loop's time is not the files'."""
        give_up = time.monotonic() + 30
        while not await self.exempt.ready(0.1):
            assert time.monotonic() < give_up

    async def known(self, word: str, *expected: str) -> None:
        """Wait until a word stands for these."""
        wanted = networks(*expected)
        await until(lambda: self.exempt.networks(word) == wanted)


async def until(true: Callable[[], bool]) -> None:
    """Wait as long as it takes; the loop's time is not the files'."""
    give_up = time.monotonic() + 30
    while not true():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.1)


@asynccontextmanager
async def office(*words: str, **answers: list[str]) -> AsyncIterator[Office]:
    """Run somebody who follows these words, with answers by the first label of a name."""
    it = Office()
    it.answers = {f"{name}.example.org": found for name, found in answers.items()}
    it.exempt.want(words)
    task = asyncio.create_task(it.exempt.run())
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.wait([task])
        with pytest.raises(asyncio.CancelledError):
            task.result()


def networks(*texts: str) -> frozenset[Subject]:
    return frozenset(ip_network(text) for text in texts)


def write(path: Path, text: str) -> str:
    """Put a file in place at once, as careful people do; return the word for it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)
    return f"file:{path}"


# ---- names


async def test_a_name_stands_for_every_single_address_that_it_has() -> None:
    async with office(OFFICE, office=["203.0.113.7", "2001:db8::7", "127.0.0.1"]) as it:
        assert it.exempt.networks(OFFICE) == frozenset()
        assert await it.exempt.ready(5)
        assert it.exempt.networks(OFFICE) == networks("203.0.113.7", "2001:db8::7", "127.0.0.1")
        assert it.changes == 1
        assert it.problems == []


async def test_a_name_is_looked_up_again_and_its_old_address_is_nobodys() -> None:
    async with office(OFFICE, office=["203.0.113.7"]) as it:
        await it.exempt.ready(5)
        it.answers[OFFICE] = ["203.0.113.8"]
        await asyncio.sleep(EVERY * 1.1 + 2)
        assert it.exempt.networks(OFFICE) == networks("203.0.113.8")
        assert it.changes == 2
        await asyncio.sleep(EVERY * 10)
        assert 9 <= len(it.asked) <= 15
        assert it.changes == 2


async def test_a_failed_look_up_keeps_the_last_answer_and_is_a_problem() -> None:
    async with office(OFFICE, office=["203.0.113.7"]) as it:
        await it.exempt.ready(5)
        it.answers[OFFICE] = []
        await asyncio.sleep(EVERY * 2)
        assert it.exempt.networks(OFFICE) == networks("203.0.113.7")
        (problem,) = it.problems
        assert problem.startswith(f"ignoreip: the name {OFFICE} does not resolve; its last addr")
        it.answers[OFFICE] = ["203.0.113.8"]
        await asyncio.sleep(EVERY * 2)
        assert it.exempt.networks(OFFICE) == networks("203.0.113.8")
        assert it.problems == []


async def test_what_cannot_be_known_is_logged_once_each_time_it_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    friends = tmp_path / "friends"
    async with office(OFFICE, f"file:{friends}") as it:
        await it.settled()
        assert sorted(caplog.messages) == sorted(it.problems)
        await asyncio.sleep(10 * EVERY)
        assert len(caplog.messages) == 2
        write(friends, "192.0.2.7 nobody!")
        it.answers[OFFICE] = ["192.0.2.8"]
        await it.known(OFFICE, "192.0.2.8")
        await it.known(f"file:{friends}", "192.0.2.7")
        assert "nobody!" in caplog.messages[-1]
        friends.unlink()
        it.answers.clear()
        await until(lambda: len(caplog.messages) == 5)
        assert sorted(caplog.messages[-2:]) == sorted(
            problem for problem in it.problems if "goes on" in problem or "go on" in problem
        )


async def test_a_name_that_never_resolved_is_tried_again_soon_then_every_minute() -> None:
    async with office(OFFICE) as it:
        assert await it.exempt.ready(5)  # that nobody has it is known
        (problem,) = it.problems
        assert problem.startswith(f"ignoreip: the name {OFFICE} does not resolve; nobody has it; ")
        it.answers[OFFICE] = ["203.0.113.7"]
        await asyncio.sleep(10)
        assert it.exempt.networks(OFFICE) == networks("203.0.113.7")
        assert it.problems == []
        it.answers[OFFICE] = []
        await asyncio.sleep(EVERY * 20)
        assert 18 <= len(it.asked) <= 28


async def test_a_resolver_that_hangs_holds_up_nothing_but_few_look_ups() -> None:
    names = [f"n{number}.example.org" for number in range(20)]
    it = Office()
    it.open.clear()
    it.exempt.want([*names, "192.0.2.0/24"])
    task = asyncio.create_task(it.exempt.run())
    assert not await it.exempt.ready(5)
    assert it.exempt.networks("192.0.2.0/24") == networks("192.0.2.0/24")
    assert len(it.asked) == AT_ONCE
    it.open.set()
    assert await it.exempt.ready(5)
    assert sorted(it.asked) == sorted(names)
    assert it.most_under_way == AT_ONCE
    task.cancel()
    await asyncio.wait([task])


async def test_who_owns_a_name_does_not_choose_how_many_addresses_count() -> None:
    async with office(OFFICE, office=[f"2001:db8::{n:x}" for n in range(1000)]) as it:
        await it.exempt.ready(5)
        assert len(it.exempt.networks(OFFICE)) == MOST_ANSWERS


async def test_more_names_than_can_be_looked_up_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exempt, "MOST_NAMES", 3)
    async with office(*(f"n{number}.example.org" for number in range(5))) as it:
        assert await it.exempt.ready(5)
        assert len(it.asked) == 3
        assert "ignoreip: 2 names are beyond the 3 that are looked up" in it.problems[-1]


async def test_a_clock_that_was_set_back_does_not_stop_the_look_ups() -> None:
    ahead = 1e6
    it = Office()
    it.exempt = Exempt(ask=it._ask, clock=lambda: it._time() + ahead, changed=it._changed)
    it.exempt.want([OFFICE])
    task = asyncio.create_task(it.exempt.run())
    await it.exempt.ready(5)
    ahead, it.answers[OFFICE] = 0.0, ["203.0.113.7"]
    await asyncio.sleep(EVERY)
    assert it.exempt.networks(OFFICE) == networks("203.0.113.7")
    task.cancel()
    await asyncio.wait([task])


# ---- what is wanted


async def test_what_is_wanted_anew_is_followed_and_what_is_not_is_forgotten() -> None:
    async with office(OFFICE, office=["203.0.113.7"], home=["203.0.113.9"]) as it:
        await it.exempt.ready(5)
        it.exempt.want([OFFICE, "home.example.org"])
        assert it.exempt.networks(OFFICE) == networks("203.0.113.7")  # is not asked for again
        assert await it.exempt.ready(5)
        assert it.exempt.networks("home.example.org") == networks("203.0.113.9")
        it.exempt.want(["home.example.org"])
        assert it.exempt.networks(OFFICE) == frozenset()
        it.asked.clear()
        await asyncio.sleep(EVERY * 2)
        assert set(it.asked) == {"home.example.org"}


async def test_nothing_wanted_is_ready_at_once_and_asks_nobody() -> None:
    async with office() as it:
        assert await it.exempt.ready(5)
        await asyncio.sleep(EVERY)
        assert it.asked == []


@pytest.mark.parametrize("word", ["192.0.2.300", "file:friends", "a..b", "", "x" * 300, "\x00", "fe80::1%eth0"])  # fmt: skip
async def test_a_word_that_means_nothing_is_a_problem_and_nobody(word: str) -> None:
    async with office(word, OFFICE, office=["203.0.113.7"]) as it:
        assert await it.exempt.ready(5)
        assert it.exempt.networks(word) == frozenset()
        assert it.exempt.networks(OFFICE) == networks("203.0.113.7")
        assert all(problem.startswith("ignoreip: ") for problem in it.problems)
        assert len(it.problems) == (1 if word else 0)


# ---- files


async def test_a_file_stands_for_the_addresses_networks_and_names_in_it(tmp_path: Path) -> None:
    text = f"""\
    # friends
    192.0.2.1, 192.0.2.0/24  ; the office
    2001:db8::/32,{OFFICE}
    198.51.100.7"""
    word = write(tmp_path / "friends", text)
    async with office(word, office=["203.0.113.7"]) as it:
        await it.settled()
        assert it.exempt.networks(word) == networks(
            *("192.0.2.1", "192.0.2.0/24", "2001:db8::/32", "198.51.100.7", "203.0.113.7")
        )
        assert it.problems == []


async def test_a_file_is_waited_for_also_when_a_name_answers_first(tmp_path: Path) -> None:
    word = write(tmp_path / "friends", "192.0.2.7")
    gate = threading.Event()
    with ThreadPoolExecutor(1) as disk:
        asyncio.get_running_loop().set_default_executor(disk)
        disk.submit(gate.wait)
        try:
            async with office(OFFICE, word, office=["203.0.113.7"]) as it:
                await it.known(OFFICE, "203.0.113.7")
                assert not await it.exempt.ready(1)
                gate.set()
                await it.settled()
                assert it.exempt.networks(word) == networks("192.0.2.7")
        finally:
            gate.set()


async def test_a_changed_file_is_read_again_however_it_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "friends"
    word = write(path, "192.0.2.1\n")
    async with office(word) as it:
        await it.known(word, "192.0.2.1")
        write(path, "192.0.2.2\n")
        await it.known(word, "192.0.2.2")
        with path.open("a") as file:
            file.write("192.0.2.3\n")
        await it.known(word, "192.0.2.2", "192.0.2.3")
        path.write_text("192.0.2.9\n")
        await it.known(word, "192.0.2.9")
        before = it.changes
        os.utime(path)
        await asyncio.sleep(60)
        assert it.changes == before


async def test_a_name_in_a_file_is_followed_as_long_as_it_stands_there(tmp_path: Path) -> None:
    path = tmp_path / "friends"
    word = write(path, f"{OFFICE} home.example.org")
    async with office(word, office=["203.0.113.7"]) as it:
        await it.known(word, "203.0.113.7")
        await until(lambda: bool(it.problems))
        (problem,) = it.problems
        assert problem.startswith(f"{path}: the name home.example.org does not resolve; nobody")
        write(path, "192.0.2.1")
        await it.known(word, "192.0.2.1")
        assert it.problems == []


async def test_a_file_that_goes_away_keeps_what_it_held_and_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "friends"
    word = write(path, "192.0.2.1")
    async with office(word) as it:
        await it.known(word, "192.0.2.1")
        path.unlink()
        await until(lambda: bool(it.problems))
        (problem,) = it.problems
        assert problem.startswith(
            f"{path}: cannot be read: No such file or directory; what it held"
        )
        assert it.exempt.networks(word) == networks("192.0.2.1")
        write(path, "192.0.2.2")
        await it.known(word, "192.0.2.2")
        assert it.problems == []


async def test_a_file_that_is_not_there_is_nobody_until_it_is(tmp_path: Path) -> None:
    path = tmp_path / "friends"
    async with office(f"file:{path}") as it:
        await it.settled()
        (problem,) = it.problems
        assert "No such file or directory; nobody is in it" in problem
        write(path, "192.0.2.1")
        await it.known(f"file:{path}", "192.0.2.1")
        assert it.problems == []


async def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    words = [f"file:{tmp_path / 'pipe'}", f"file:{tmp_path}", "file:/dev/zero"]
    async with office(*words) as it:
        await it.settled()
        assert ["no regular file" in problem for problem in it.problems] == [True] * 3


async def test_a_bad_word_names_its_line_and_the_rest_holds(tmp_path: Path) -> None:
    path = tmp_path / "friends"
    word = write(path, "192.0.2.1\n\n192.0.2.300 192.0.2.2\nfile:/etc/passwd\n")
    async with office(word) as it:
        await it.known(word, "192.0.2.1", "192.0.2.2")
        first, second = it.problems
        assert first.startswith(f"{path}:3: '192.0.2.300' is neither an address nor a network")
        assert second.startswith(f"{path}:4: 'file:/etc/passwd': a file cannot name another one")


def test_a_file_is_read_when_it_stands_still_or_never_does() -> None:
    """Who writes into a file in place empties it first."""
    numbers = itertools.count()

    def stamp() -> exempt._Stamp:
        return exempt._Stamp(next(numbers), 0, 0, 0)

    file = exempt._File("/friends")
    first = stamp()
    assert file.is_due(first)  # it was never read
    file.stamp = first
    assert not file.is_due(first)
    emptied, filled = stamp(), stamp()
    assert [file.is_due(each) for each in (emptied, filled, filled)] == [False, False, True]
    file.stamp = filled
    assert [file.is_due(stamp()) for _ in range(SETTLED + 1)] == [False] * SETTLED + [True]


# ---- the text of a file


def test_a_file_full_of_rubbish_is_told_in_few_words() -> None:
    read = content("/friends", b"what is this?\n" * 1000 + b"192.0.2.1")
    assert len(read.problems) == MOST_PROBLEMS + 1
    assert read.networks == networks("192.0.2.1")
    assert "more words are neither addresses" in str(read.problems[-1])


def test_of_a_file_that_is_too_long_no_half_address_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exempt, "MOST_BYTES", 20)
    read = content("/friends", b"192.0.2.1\n192.0.2.177\n192.0.2.3\n")
    assert read.networks == networks("192.0.2.1")
    (problem,) = read.problems
    assert "only 20 bytes" in str(problem)


def test_of_too_many_words_only_so_many_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exempt, "MOST_ENTRIES", 2)
    assert content("/friends", b"192.0.2.1\n192.0.2.2").problems == ()
    read = content("/friends", b"192.0.2.1\n192.0.2.2\n192.0.2.3")
    assert read.networks == networks("192.0.2.1", "192.0.2.2")
    assert "and 2 words are read, and there are more" in str(read.problems[0])


@given(st.binary() | st.text().map(str.encode))
def test_no_text_of_a_file_is_too_strange(data: bytes) -> None:
    for problem in content("/friends", data).problems:
        assert str(problem).isprintable()
