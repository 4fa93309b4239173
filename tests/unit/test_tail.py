"""A tail against an Engine in memory: clocks that are set, doors that are shut, gaps, streams that hang."""

import asyncio
import contextlib
import gc
import itertools
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dockerjail.docker.cursor import dialect, stamp
from dockerjail.docker.slab import Slab
from dockerjail.docker.tail import State, Tail
from dockerjail.errors import EngineUnavailable
from dockerjail.framed import plain
from dockerjail.model import Container, Cursor, Stream
from dockerjail.retry import Backoff
from tests.fakes import FakeEngine

pytestmark = pytest.mark.looptime

OUT, ERR = Stream.STDOUT, Stream.STDERR
WEB = Container(id="c1", name="web", service="web")
SMALL = replace(WEB, log_options={"max-size": "100k", "max-file": "3"})
DAY = 86400.0
VERSIONS = ("20.10.24", "26.1.5", "Podman 5.8.0")


class Clock:
    """The wall's clock of one host, which can be set."""

    def __init__(self):
        self.steady = asyncio.get_running_loop().time
        self.ahead = 1_795_000_000.0

    def __call__(self):
        return self.steady() + self.ahead


class SteppedEngine(FakeEngine):
    """An Engine whose stamps follow the clock also when it is set back; hides what Podman hides."""

    def _entry(self, stream, text, at):
        ns = int((self._clock() if at is None else at) * 1_000_000_000)
        if at is None:
            near = abs(ns - self._newest) < 400_000_000
            ns = self._newest = max(ns, self._newest + 1) if near else ns
        return replace(super()._entry(stream, text, 0.0), ns=ns)


class Desk:
    """An Engine, a tail on it, and what was delivered with which cursors."""

    def __init__(self, version="26.1.5", container=WEB):
        self.clock = Clock()
        self.version = version
        self.container = container
        self.engine = SteppedEngine(clock=self.clock, version=version)
        self.engine.start(container)
        self.cursors = {}
        self.delivered = []
        self.door = asyncio.Event()
        self.door.set()
        self.tails = []

    async def deliver(self, chunk):
        await self.door.wait()
        for line in plain(chunk).data.split(b"\n")[:-1]:
            self.delivered.append((chunk.stream, line[31:].decode()))
        self.cursors[chunk.stream] = chunk.cursor

    @contextlib.asynccontextmanager
    async def running(self, *, start=0.0):
        self.tails.append(self.open(start))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.tail.run())
            await asyncio.sleep(0.1)
            yield self
            task.cancel()

    def open(self, start=0.0):
        return Tail(
            self.engine,
            self.container,
            self.deliver,
            stored=dict(self.cursors),
            start=start,
            dialect=lambda: dialect(self.version),
            backoff=Backoff(jitter=0),
            clock=self.clock,
        )

    def say(self, *texts, **options):
        for text in texts:
            self.engine.say(self.container, text, **options)

    def texts(self, stream=None):
        return [text for where, text in self.delivered if stream in (None, where)]

    @property
    def tail(self):
        return self.tails[-1]

    @property
    def said(self):
        return "; ".join(map(str, self.tail.problems))

    @property
    def log(self):
        return self.engine.log(self.container)


# -- the clock ---------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("step", [-DAY, -30.0, -1.0, 0.3, 30.0, DAY])
async def test_no_line_is_lost_or_doubled_when_the_clock_is_set(version, step, caplog):
    desk = Desk(version)
    async with desk.running():
        for number in range(20):
            desk.say(f"before {number}", stream=OUT if number % 3 else ERR)
            await asyncio.sleep(0.3)
        desk.clock.ahead += step
        for number in range(20):
            desk.say(f"after {number}", stream=OUT if number % 3 else ERR)
            await asyncio.sleep(0.3)
        await asyncio.sleep(40)
        for stream in Stream:
            expected = [
                f"{when} {n}"
                for when in ("before", "after")
                for n in range(20)
                if (OUT if n % 3 else ERR) is stream
            ]
            assert desk.texts(stream) == expected
        assert desk.tail.state is State.FOLLOWING
        assert desk.tail.gaps == 0
        assert desk.tail.lag < 1
        told = [r for r in caplog.records if "clock was set back" in r.getMessage()]
        assert len(told) == (step < -0.5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("step", [-DAY, -60.0, DAY])
@pytest.mark.parametrize("missed", [0, 3, 600])
async def test_no_line_is_lost_or_doubled_when_the_clock_is_set_while_we_are_down(
    version, step, missed
):
    desk = Desk(version)
    async with desk.running():
        desk.say(*(f"a {n}" for n in range(300)))
        desk.say("quiet", stream=ERR)
        desk.say(*(f"b {n}" for n in range(5)))
        await asyncio.sleep(1)
    desk.say(*(f"c {n}" for n in range(missed)))
    desk.clock.ahead += step
    desk.say(*(f"d {n}" for n in range(missed)))
    desk.say("still quiet", stream=ERR)
    async with desk.running():
        await asyncio.sleep(5)
        desk.say("live")
        await asyncio.sleep(5)
    async with desk.running():
        desk.say("and again")
        await asyncio.sleep(40)
        assert desk.tail.gaps == 0
    counts = (("a", 300), ("b", 5), ("c", missed), ("d", missed))
    expected = [f"{which} {n}" for which, count in counts for n in range(count)]
    assert desk.texts(OUT) == [*expected, "live", "and again"]
    assert desk.texts(ERR) == ["quiet", "still quiet"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("step", [-DAY, -3.0])
async def test_cursors_on_both_sides_of_a_step_are_told_apart_after_a_restart(version, step):
    desk = Desk(version)
    async with desk.running():
        desk.say("out before")
        desk.say("err before", stream=ERR)
        desk.clock.ahead += step
        desk.say("out after")
        await asyncio.sleep(5)
    async with desk.running():
        await asyncio.sleep(10)
    assert desk.texts(OUT) == ["out before", "out after"]
    assert desk.texts(ERR) == ["err before"]


@pytest.mark.parametrize("version", VERSIONS[:2])
async def test_a_log_that_begins_before_a_step_back_and_goes_on_after_it_is_not_read_again(version):
    """Of one stream there is a frame of a later stamp before that of the cursor."""
    desk = Desk(version)
    async with desk.running():
        desk.say("before", stream=ERR)
        desk.clock.ahead -= DAY
        desk.say("between", stream=ERR)
        desk.clock.ahead += DAY
        desk.say(*(f"after {n}" for n in range(16)))
        await asyncio.sleep(5)
    async with desk.running():
        await asyncio.sleep(10)
    assert desk.texts(ERR) == ["before", "between"]
    assert desk.texts(OUT) == [f"after {n}" for n in range(16)]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_clock_set_back_again_and_again_loses_nothing(version):
    desk = Desk(version)
    expected = []
    for turn, step in enumerate((-DAY, 100.0, -50.0, -DAY, 2 * DAY, -5.0)):
        async with desk.running():
            expected += [f"{turn} {n}" for n in range(30)]
            desk.say(*expected[-30:])
            await asyncio.sleep(3)
            desk.clock.ahead += step
            expected.append(f"{turn} behind")
            desk.say(expected[-1])
            await asyncio.sleep(35)
        expected.append(f"{turn} down")
        desk.say(expected[-1])
        desk.clock.ahead += step / 7
    async with desk.running():
        await asyncio.sleep(40)
    assert desk.texts() == expected


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_log_that_is_all_from_after_the_step_is_read(version):
    desk = Desk(version)
    async with desk.running():
        desk.say("before")
        await asyncio.sleep(1)
    desk.log.frames.clear()
    desk.clock.ahead -= DAY
    desk.say(*(f"after {n}" for n in range(20)))
    async with desk.running():
        await asyncio.sleep(5)
        assert desk.texts() == ["before", *(f"after {n}" for n in range(20))]
        assert "rotated away or truncated" in desk.said
        assert desk.tail.gaps == 1


class Cutting(SteppedEngine):
    """Cuts a connection once, after so many bytes."""

    cut_after = 0

    async def _body(self, *asked):
        async for data in super()._body(*asked):
            if 0 < self.cut_after < len(data):
                yield data[: self.cut_after]
                self.cut_after = 0
                raise EngineUnavailable("cut")
            yield data


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_first_read_that_is_cut_behind_a_step_back_loses_nothing(version):
    desk = Desk(version)
    desk.engine = Cutting(clock=desk.clock, version=version)
    desk.engine.start(WEB)
    desk.say("first", "second")
    desk.clock.ahead -= DAY
    desk.say(*(f"err {n}" for n in range(9)), stream=ERR)
    desk.engine.cut_after = 50  # behind the first line
    async with desk.running():
        await asyncio.sleep(60)
    assert desk.texts(OUT) == ["first", "second"]
    assert desk.texts(ERR) == [f"err {n}" for n in range(9)]


async def test_after_a_step_a_large_log_is_not_read_whole_again_and_again():
    desk = Desk("26.1.5")
    async with desk.running():
        desk.say(*(f"line {n}" for n in range(9000)))
        await asyncio.sleep(1)
        desk.clock.ahead -= DAY
        desk.say("after")
        await asyncio.sleep(40)
        desk.log.opened.clear()
        await asyncio.sleep(300)
        assert desk.texts()[-1] == "after"
        assert {tail for _, _, tail in desk.log.opened} == {256}


async def test_a_container_first_seen_after_a_step_is_read_from_then_on():
    desk = Desk()
    desk.say("old")
    desk.clock.ahead -= DAY
    desk.say("new")
    async with desk.running(start=desk.clock() - 600):
        desk.say("live")
        await asyncio.sleep(1)
        assert desk.texts() == ["old", "new", "live"]


async def test_a_jump_forward_leaves_no_lag():
    desk = Desk()
    async with desk.running():
        await asyncio.sleep(1)
        desk.say("slept over")
        desk.clock.ahead += DAY  # before anybody could read it
        await asyncio.sleep(10)
        assert desk.texts() == ["slept over"]
        assert desk.tail.lag < 1
        opened = len(desk.log.opened)
        desk.say("awake")
        await asyncio.sleep(1)
        assert desk.tail.lag < 1
        assert len(desk.log.opened) <= opened + 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from((OUT, ERR)), st.integers(1, 20)),
        st.tuples(st.just("long"), st.sampled_from((OUT, ERR))),
        st.tuples(st.just("wait"), st.floats(0, 40)),
        st.tuples(st.just("step"), st.sampled_from((-DAY, -100.0, -3.0, 3.0, 100.0, DAY))),
        st.tuples(st.just("cut")),
        st.tuples(st.just("down")),
        st.tuples(st.just("up")),
    ),
    max_size=25,
)


BEHIND_A_STEP = [
    ("long", ERR),
    ("up",),
    ("step", -DAY),
    ("say", OUT, 7),
    ("step", DAY),
    ("say", OUT, 1),
]
"""A window that begins with the first of the seven has an early stamp, and does not reach back."""
SILENT = [("long", ERR), ("step", -3.0), ("long", ERR), ("wait", 12.0), ("say", OUT, 5), ("up",)]
"""The stream that is silent stands at a stamp that is earlier than its lines before."""


@pytest.mark.parametrize("version", ["20.10.24", "26.1.5"])
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
@example(steps=BEHIND_A_STEP)
@example(steps=SILENT)
def test_whatever_the_clock_does_each_line_is_delivered_once(version, steps):
    async def story():
        desk = Desk(version)
        said = {OUT: [], ERR: []}
        stack = contextlib.AsyncExitStack()
        await stack.enter_async_context(desk.running())
        for number, (what, *how) in enumerate(steps):
            if what == "say":
                for again in range(how[1]):
                    said[how[0]].append(f"{number} {again}")
                    desk.say(said[how[0]][-1], stream=how[0])
            elif what == "long":
                said[how[0]].append(f"{number} " + "A" * 50_000)
                desk.say(said[how[0]][-1], stream=how[0])
            elif what == "wait":
                await asyncio.sleep(how[0])
            elif what == "step":
                desk.clock.ahead += how[0]
            elif what == "cut":
                desk.engine.cut()
            elif what == "down":
                await stack.aclose()
            elif what == "up":
                await stack.aclose()
                await stack.enter_async_context(desk.running())
        await stack.aclose()
        async with desk.running():
            await asyncio.sleep(120)
        for stream in Stream:
            assert desk.texts(stream) == said[stream]

    import looptime

    loop = looptime.new_event_loop()
    try:
        loop.run_until_complete(story())
    finally:
        loop.close()


# -- doors, gaps, streams that hang ------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_nobody_keeps_a_follower_waiting_while_the_door_is_shut(version):
    desk = Desk(version)
    async with desk.running():
        await asyncio.sleep(1)
        desk.door.clear()
        desk.say("first")
        await asyncio.sleep(3)
        assert desk.tail.state is State.HELD_UP
        assert desk.tail.lag == pytest.approx(3, abs=0.5)
        assert desk.log.followers == []
        desk.say(*(f"meanwhile {n}" for n in range(1000)))
        await asyncio.sleep(17)
        assert desk.tail.lag == pytest.approx(20, abs=0.5)
        desk.door.set()
        await asyncio.sleep(3)
        assert desk.texts() == ["first", *(f"meanwhile {n}" for n in range(1000))]
        assert desk.tail.state is State.FOLLOWING
        assert desk.tail.lag < 1
        assert desk.tail.gaps == 0


async def test_a_lag_grows_while_an_engine_searches_a_large_log():
    desk = Desk()
    bodies = desk.engine._body

    async def searching(*asked):
        async for data in bodies(*asked):
            yield data
            await asyncio.sleep(20)  # frames that were consumed before, say

    desk.engine._body = searching
    for number in range(10):
        desk.say(str(number), at=desk.clock() - 30)
    async with desk.running():
        for waited in (5, 15):
            await asyncio.sleep(waited - asyncio.get_running_loop().time())
            assert desk.tail.state is State.CATCHING_UP
            assert desk.tail.lag == pytest.approx(30 + waited, abs=0.5)
        await asyncio.sleep(10)
        assert desk.tail.lag < 1


async def test_a_short_wait_at_the_door_keeps_the_follower():
    desk = Desk()
    async with desk.running():
        await asyncio.sleep(1)
        opened = len(desk.log.opened)
        desk.door.clear()
        desk.say("one")
        await asyncio.sleep(0.5)
        desk.door.set()
        desk.say("two")
        await asyncio.sleep(0.5)
        assert desk.texts() == ["one", "two"]
        assert len(desk.log.opened) == opened


async def test_who_is_asked_to_leave_leaves_between_two_chunks():
    desk = Desk()
    async with desk.running():
        desk.door.clear()
        desk.say("judged")
        await asyncio.sleep(0.5)
        desk.say("not yet")
        desk.tail.leave()
        await asyncio.sleep(20)
        assert desk.tail.cursors[OUT].seen == 0
        desk.door.set()
        await asyncio.sleep(1)
        assert desk.texts() == ["judged"]
        assert desk.tail.cursors == {OUT: desk.cursors[OUT], ERR: desk.tail.cursors[ERR]}
        assert desk.log.followers == []


@pytest.mark.parametrize("after", [0.0, 0.05, 1.0, 3.0])
async def test_who_is_asked_to_leave_while_nothing_comes_leaves_at_once(after):
    desk = Desk()
    async with asyncio.TaskGroup() as group:
        desk.tails.append(desk.open())
        task = group.create_task(desk.tail.run())
        await asyncio.sleep(after)
        desk.tail.leave()
        await asyncio.sleep(0.2)
        assert task.done()
        assert not task.cancelled()
    assert desk.log.followers == []


async def test_a_small_log_is_never_consumed_from_a_follower():
    desk = Desk(container=SMALL)
    async with desk.running():
        desk.say("one")
        await asyncio.sleep(3)
        assert desk.texts() == ["one"]
        assert desk.tail.state is State.FOLLOWING
        # A follower that has skipped a file shows what comes behind it, and nothing tells.
        mute, desk.log.mute = desk.log.mute, True
        desk.say("skipped")
        desk.log.mute = mute
        desk.say("behind")
        await asyncio.sleep(3)
        assert desk.texts() == ["one", "skipped", "behind"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("count", [200, 2000])
async def test_a_follower_that_waits_keeps_no_lines_in_memory(version, count):
    gc.collect()
    others = [each for each in gc.get_objects() if is_log(each)]  # what other tests left
    desk = Desk(version)
    async with desk.running():
        desk.say(*(f"line {number}" for number in range(count)))
        await asyncio.sleep(1)
        desk.engine.cut()  # what a follower is shown first is the last of what was read before
        await asyncio.sleep(1)
        assert desk.tail.state is State.FOLLOWING
        assert len(desk.texts()) == count
        known = set(map(id, others))
        assert [each for each in gc.get_objects() if is_log(each) and id(each) not in known] == []


def is_log(one):
    """Say whether this is a part of a log, taken apart or not."""
    if type(one) is not list:
        return isinstance(one, Slab)
    first = one[0] if len(one) > 20 else None
    return type(first) is tuple and len(first) == 2 and type(first[1]) is bytes


async def test_gaps_are_counted_and_said_once_each(caplog):
    desk = Desk()
    async with desk.running():
        desk.say("one")
        await asyncio.sleep(1)
    for turn in range(3):
        desk.say("lost")
        desk.log.frames.clear()
        desk.say(f"two {turn}")
        async with desk.running():
            await asyncio.sleep(100)
            assert desk.tail.gaps == 1
    assert desk.texts() == ["one", "two 0", "two 1", "two 2"]
    assert caplog.text.count("rotated away or truncated") == 3


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("count", [3, 600])
async def test_a_gap_in_one_stream_is_said_though_the_other_goes_on(version, count, caplog):
    desk = Desk(version)
    async with desk.running():
        desk.say("read", stream=ERR)
        await asyncio.sleep(1)
    desk.say("lost", stream=OUT)
    desk.say("lost", stream=ERR)
    desk.log.frames.clear()
    later = [(f"later {n}", OUT if n % 2 else ERR) for n in range(count)]
    for text, stream in later:
        desk.say(text, stream=stream)
    async with desk.running():
        await asyncio.sleep(100)
        assert desk.tail.gaps == 1
    assert caplog.text.count("rotated away or truncated") == 1
    for stream in (OUT, ERR):
        before = ["read"] if stream is ERR else []
        assert desk.texts(stream) == before + [text for text, where in later if where is stream]


async def test_each_gap_is_logged_with_the_line_behind_which_it_is(caplog):
    caplog.set_level("INFO")
    desk = Desk()
    expected = []
    async with desk.running():
        desk.say("read", stream=OUT)
        desk.say("read", stream=ERR)
        for number in (1, 2):
            await asyncio.sleep(5)
            behind = [
                f"{stamp(desk.cursors[stream].ns).decode()} ({stream.name.lower()})"
                for stream in (OUT, ERR)
            ]
            where = " and ".join(behind)
            expected.append(
                f"container web: gap {number} of {WEB.id[:12]} behind the line of {where}"
            )
            desk.engine.cut()
            desk.say("lost")
            desk.log.frames.clear()
            desk.say("next", stream=OUT)
            desk.say("next", stream=ERR)
        await asyncio.sleep(30)
    assert [text for text in caplog.messages if ": gap " in text] == expected
    assert caplog.text.count("rotated away or truncated") == 1


async def test_a_gap_is_no_problem_for_ever(monkeypatch):
    monkeypatch.setattr("dockerjail.docker.tail._STANDS", 600.0)
    desk = Desk()
    async with desk.running():
        desk.say("one")
        await asyncio.sleep(1)
    desk.log.frames.clear()
    async with desk.running():
        await asyncio.sleep(60)
        assert "may have been missed" in desk.said
        await asyncio.sleep(600)
        assert desk.said == ""
        assert desk.tail.gaps == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_power_cut_that_took_the_last_lines_read_doubles_nothing(version):
    desk = Desk(version)
    async with desk.running():
        desk.say(*(f"line {n}" for n in range(50)))
        await asyncio.sleep(1)
    del desk.log.frames[40:]  # what was not on disk yet
    async with desk.running():
        await asyncio.sleep(5)
        desk.say("after the cut")
        await asyncio.sleep(5)
        assert desk.texts() == [*(f"line {n}" for n in range(50)), "after the cut"]
        assert desk.tail.gaps == 1


async def test_a_container_removed_before_it_was_read_to_the_end_is_a_gap(caplog):
    desk = Desk()
    async with desk.running():
        desk.say("read")
        await asyncio.sleep(10)
        desk.engine.cut()
        desk.engine.remove(desk.container)
        await asyncio.sleep(5)
        assert desk.tail.state is State.GONE
        assert "removed before its log was read to the end" in caplog.text


async def test_a_gap_at_the_end_is_behind_the_last_words_that_had_no_end(caplog):
    caplog.set_level("INFO")
    desk = Desk()
    async with desk.running():
        desk.say("read")
        desk.say("no end", end=b"")
        await asyncio.sleep(10)
        desk.engine.cut()
        desk.engine.remove(desk.container)
        await asyncio.sleep(5)
        assert desk.texts() == ["read", "no end"]
    last = stamp(desk.cursors[OUT].ns).decode()
    assert f"gap 1 of c1 behind the line of {last} (stdout)" in caplog.text


async def test_a_container_removed_after_its_end_is_none(caplog):
    desk = Desk()
    async with desk.running():
        desk.say("read")
        await asyncio.sleep(10)
        desk.engine.remove(desk.container)
        await asyncio.sleep(5)
        assert desk.tail.state is State.GONE
        assert desk.tail.gaps == 0
        assert "missed" not in caplog.text


JOURNALED = replace(WEB, log_driver="journald")


async def test_what_journald_writes_after_the_end_of_a_run_is_delivered():
    desk = Desk(container=JOURNALED)
    async with desk.running():
        desk.say("one")
        await asyncio.sleep(10)
        desk.engine.stop(JOURNALED)
        await asyncio.sleep(2)
        desk.say("two")
        await asyncio.sleep(2)
        desk.say("three", end=b"")
        assert desk.tail.state is not State.ENDED
        await asyncio.sleep(5)
        assert desk.texts() == ["one", "two", "three"]
        assert desk.tail.state is State.ENDED


async def test_a_run_that_begins_while_journald_may_still_write_is_followed():
    desk = Desk(container=JOURNALED)
    async with desk.running():
        desk.say("one")
        await asyncio.sleep(10)
        desk.engine.stop(JOURNALED)
        await asyncio.sleep(1)
        desk.engine.start(JOURNALED)
        desk.say("two")
        await asyncio.sleep(10)
        assert desk.tail.state is State.FOLLOWING
        assert desk.texts() == ["one", "two"]


async def test_a_removal_while_journald_may_still_write_is_no_gap():
    desk = Desk(container=JOURNALED)
    async with desk.running():
        desk.say("one")
        await asyncio.sleep(10)
        desk.engine.stop(JOURNALED)
        await asyncio.sleep(1)
        desk.engine.remove(JOURNALED)
        await asyncio.sleep(10)
        assert desk.tail.state is State.GONE
        assert desk.tail.gaps == 0


@pytest.mark.parametrize(("driver", "left"), [("journald", False), ("json-file", True)])
async def test_a_follower_of_a_journal_may_be_told_late(driver, left):
    desk = Desk(container=replace(WEB, log_driver=driver))
    async with desk.running():
        for _ in range(10):
            desk.say("in time")
            await asyncio.sleep(1)
            desk.say("late", at=desk.clock() - 0.5)
            await asyncio.sleep(0.5)
        assert (sum(follow for follow, *_ in desk.log.opened) > 5) is left
        assert desk.texts() == ["in time", "late"] * 10


class Stalling(SteppedEngine):
    """Keeps the first connections open and says nothing: `stalls` is how many of them."""

    stalls = 0

    @contextlib.asynccontextmanager
    async def logs(self, container, **options):
        if self.stalls:
            self.stalls -= 1
            if self.stalls % 2:
                await asyncio.sleep(1e9)  # not even headers
            yield self.nothing()
            return
        async with super().logs(container, **options) as body:
            yield body

    async def nothing(self):
        await asyncio.sleep(1e9)
        yield b""


@pytest.mark.parametrize("stalls", [1, 2, 3, 4])
async def test_a_stream_that_hangs_is_given_up(stalls):
    desk = Desk()
    desk.engine = Stalling(clock=desk.clock)
    desk.engine.start(WEB)
    async with desk.running():
        await asyncio.sleep(1)
        desk.engine.stalls = stalls
        desk.engine.cut()
        desk.say("meanwhile")
        await asyncio.sleep(150)
        assert desk.texts() == ["meanwhile"]
        assert desk.tail.state is State.FOLLOWING


async def test_what_a_containers_own_clock_says_is_of_no_account():
    desk = Desk()
    lines = ["1970-01-01T00:00:00Z boot", "2099-12-31T23:59:59Z later", "1999-01-01 earlier"]
    async with desk.running():
        for line in lines:
            desk.say(line)
            await asyncio.sleep(1)
        assert desk.texts() == lines
        assert desk.tail.last_at == pytest.approx(desk.clock() - 1, abs=0.1)
        assert desk.tail.problems == []


async def test_the_end_of_a_stream_in_an_error_is_no_end_of_the_log():
    desk = Desk()
    async with desk.running():
        for number in range(10):
            desk.say(f"line {number}")
            desk.engine.cut(str(EngineUnavailable("cut")))
            await asyncio.sleep(2)
        assert desk.texts() == [f"line {number}" for number in range(10)]


async def test_a_cursor_whose_stamp_is_shared_is_found_by_counting():
    desk = Desk()
    moment = desk.clock()
    desk.say(*(f"line {n}" for n in range(9)), at=moment)
    desk.cursors = {OUT: Cursor(int(moment * 1_000_000_000), 4)}
    async with desk.running():
        assert desk.texts() == [f"line {n}" for n in range(4, 9)]


async def test_a_flood_that_was_read_at_once_leaves_others_their_turn():
    desk = Desk()
    desk.say(*(f"line {number}" for number in range(5_000)))
    turns, seen = 0, []

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    deliver = desk.deliver

    async def watch(chunk):
        seen.append((turns, len(chunk.data)))
        await deliver(chunk)

    desk.deliver = watch
    async with asyncio.TaskGroup() as group:
        task = group.create_task(others())
        tail = group.create_task(desk.open().run())
        while len(desk.delivered) < 5_000:  # noqa: ASYNC110 -- time stands still while others run
            await asyncio.sleep(0)
        task.cancel()
        tail.cancel()
    assert len(seen) > 5
    assert all(after[0] > before[0] for before, after in itertools.pairwise(seen))
    assert max(size for _, size in seen) <= 33 * 1024  # a slice, and the line that it ends
