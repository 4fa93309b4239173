"""The intake against an Engine in memory: who is followed, from where, to which end."""

import asyncio
import contextlib
import re
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockerjail.docker import intake
from dockerjail.docker.intake import Intake
from dockerjail.docker.tail import State
from dockerjail.errors import ContainerUnknown, EngineUnavailable
from dockerjail.model import Container, Cursor, Direct, Problem, Stream
from dockerjail.retry import Backoff
from tests.fakes import FakeEngine

pytestmark = pytest.mark.looptime

OUT, ERR = Stream.STDOUT, Stream.STDERR
EPOCH = 1_795_000_000
WEB = Container(id="c1", name="web", service="web", labels={"dockerjail": "on"})
DB = Container(id="c2", name="db", service="db", labels={"dockerjail": "on"})
OTHER = Container(id="c3", name="other", service="other")


class House:
    """An Engine, an intake on it, and what was delivered."""

    def __init__(self, *, version="26.1.5", lookback=600.0):
        loop = asyncio.get_running_loop()
        self.clock = lambda: EPOCH + loop.time()
        self.engine = FakeEngine(clock=self.clock, version=version)
        self.lookback = lookback
        self.delivered = []
        self.cursors = {}
        self.gone = []
        self.changes = 0
        self.delay = 0.0
        self.want = True

    async def deliver(self, chunk):
        await asyncio.sleep(self.delay)
        for line in chunk.data.split(b"\n")[:-1]:
            self.delivered.append(
                (chunk.container.name, chunk.stream, line.partition(b" ")[2].decode())
            )
        self.cursors[chunk.container.id, chunk.stream] = chunk.cursor

    def change(self):
        self.changes += 1

    def open(self, **options):
        self.intake = Intake(
            self.engine,
            self.deliver,
            wanted=lambda container: "dockerjail" in container.labels and self.want,
            cursors=dict(self.cursors),
            lookback=lambda _: self.lookback,
            changed=self.change,
            gone=self.gone.append,
            backoff=Backoff(jitter=0),
            clock=self.clock,
            **options,
        )

    @contextlib.asynccontextmanager
    async def running(self, **options):
        self.open(**options)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.intake.run())
            await asyncio.sleep(0.1)
            yield self
            task.cancel()

    def say(self, *texts, container=WEB, **options):
        for text in texts:
            self.engine.say(container, text, **options)

    def texts(self, container=WEB, stream=None):
        return [
            text
            for name, where, text in self.delivered
            if name == container.name and stream in (None, where)
        ]

    @property
    def tail(self):
        return self.intake.tails[WEB.id]


async def test_lines_are_delivered_as_they_come():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        house.say("one")
        house.say("two", stream=ERR)
        await asyncio.sleep(0.1)
        assert house.delivered == [("web", OUT, "one"), ("web", ERR, "two")]
        assert house.tail.state is State.FOLLOWING
        assert (house.tail.lines, house.tail.bytes) == (2, 2 * (31 + 4))
        assert house.tail.last_at == pytest.approx(house.clock(), abs=0.2)


async def test_only_wanted_containers_are_followed_but_all_are_known():
    house = House()
    house.engine.start(WEB)
    house.engine.start(OTHER)
    async with house.running():
        house.say("not for us", container=OTHER)
        await asyncio.sleep(1)
        assert house.intake.containers.keys() == {"c1", "c3"}
        assert house.intake.tails.keys() == {"c1"}
        assert house.delivered == []


async def test_no_line_is_judged_before_all_containers_are_known():
    house = House()
    house.engine.start(WEB)
    house.say("attack")
    for number in range(40):
        house.engine.start(replace(OTHER, id=f"n{number}", name=f"n{number}"))
    known = []
    deliver = house.deliver

    async def watch(chunk):
        known.append(len(house.intake.containers))
        await deliver(chunk)

    house.deliver = watch
    async with house.running():
        assert known == [41]


async def test_a_new_container_is_followed_from_its_first_line():
    house = House()
    async with house.running():
        house.engine.start(WEB)
        house.say("first words")
        await asyncio.sleep(0.1)
        assert house.texts() == ["first words"]


async def test_a_container_met_running_is_read_from_the_lookback_on():
    house = House(lookback=60.0)
    house.engine.start(WEB)
    for age in range(120, 0, -1):
        house.say(str(age), at=EPOCH - age + 0.5)
    async with house.running():
        assert house.texts() == [str(age) for age in range(60, 0, -1)]
        assert house.tail.problems == []


@pytest.mark.parametrize("version", ["20.10.24", "26.1.5", "Podman 5.4.2"])
async def test_after_a_restart_each_line_is_delivered_once(version):
    house = House(version=version)
    house.engine.start(WEB)
    async with house.running():
        house.say("one", "two")
        house.say("three", stream=ERR)
        await asyncio.sleep(1)
    house.say("while", "away")
    async with house.running():
        house.say("back")
        await asyncio.sleep(1)
        assert house.texts() == ["one", "two", "three", "while", "away", "back"]
        assert house.tail.problems == []


@pytest.mark.parametrize("version", ["20.10.24", "26.1.5"])
@pytest.mark.parametrize("missed", [10, 5000, 9000])
async def test_resuming_opens_the_narrowest_window_that_leaves_nothing_out(version, missed):
    house = House(version=version)
    house.engine.start(WEB)
    house.say("seen")
    async with house.running():
        pass
    house.engine.log(WEB).opened.clear()
    house.say(*map(str, range(missed)))
    async with house.running():
        assert house.texts() == ["seen", *map(str, range(missed))]
        first = [tail for _, _, tail in house.engine.log(WEB).opened]
        sizes = (8, 256, 8192, 262144) if version < "23" else (256, 8192, 262144)
        expected = [size for size in sizes if size <= 32 * missed]
        assert first[: len(expected)] == expected
        if version == "20.10.24":
            assert all(since is None for _, since, _ in house.engine.log(WEB).opened)


async def test_a_cut_connection_is_resumed_quietly(caplog):
    house = House()
    house.engine.start(WEB)
    async with house.running():
        await asyncio.sleep(100)
        house.say("before")
        await asyncio.sleep(0)
        house.engine.cut()
        house.say("meanwhile")
        await asyncio.sleep(1)
        house.say("after")
        await asyncio.sleep(1)
        assert house.texts() == ["before", "meanwhile", "after"]
        assert house.tail.reconnects == 1
        assert not [r for r in caplog.records if "web" in r.getMessage()]


async def test_the_engine_going_away_is_retried_and_said():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        assert house.intake.connected
        house.engine.away = "cannot reach the Docker Engine"
        house.engine.cut()
        await asyncio.sleep(20)
        assert not house.intake.connected
        assert house.intake.error == "cannot reach the Docker Engine"
        house.say("meanwhile")
        house.engine.away = ""
        await asyncio.sleep(31)
        assert house.intake.connected
        assert house.intake.error == ""
        assert house.texts() == ["meanwhile"]


async def test_an_engine_away_at_the_start_is_waited_for():
    house = House()
    house.engine.start(WEB)
    house.engine.away = "no such socket"
    async with house.running():
        await asyncio.sleep(10)
        house.engine.away = ""
        await asyncio.sleep(10)
        house.say("hello")
        await asyncio.sleep(1)
        assert house.texts() == ["hello"]
        assert house.intake.engine_version == "26.1.5"


async def test_the_last_lines_of_a_dying_container_count():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        house.say("alive")
        house.engine.stop(WEB, last=["panic", "goodbye"])
        await asyncio.sleep(1)
        assert house.texts() == ["alive", "panic", "goodbye"]
        assert house.tail.state is State.ENDED
        assert house.intake.tails.keys() == {"c1"}


async def test_a_last_line_without_its_end_counts_when_the_container_ended():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        house.say("panic: no newline", end=b"")
        await asyncio.sleep(1)
        assert house.texts() == []
        house.engine.stop(WEB)
        await asyncio.sleep(1)
        assert house.texts() == ["panic: no newline"]
        house.engine.start(WEB)
        house.say("again")
        await asyncio.sleep(1)
        assert house.texts() == ["panic: no newline", "again"]


async def test_a_restart_is_followed_on():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        for run in range(3):
            house.say(f"run {run}")
            await asyncio.sleep(1)
            house.engine.stop(WEB, last=[f"end {run}"])
            if run != 1:  # once too quick for anyone to see it stopped
                await asyncio.sleep(1)
            house.engine.start(WEB)
        await asyncio.sleep(1)
        expected = [f"{what} {run}" for run in range(3) for what in ("run", "end")]
        assert house.texts() == expected
        assert house.tail.state is State.FOLLOWING


async def test_what_is_wanted_no_more_and_then_again_comes_once():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        house.say("wanted")
        await asyncio.sleep(1)
        house.want = False
        house.intake.reconsider("c1")
        house.say("meanwhile")
        await asyncio.sleep(1)
        assert house.intake.tails == {}
        assert house.texts() == ["wanted"]
        house.want = True
        house.intake.reconsider("c1")
        house.say("again")
        await asyncio.sleep(1)
        assert house.texts() == ["wanted", "meanwhile", "again"]


async def test_a_mind_changed_twice_at_once_ends_in_following():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        for wanted in (False, True):
            house.want = wanted
            house.intake.reconsider("c1")
        house.say("heard")
        await asyncio.sleep(31)
        assert house.texts() == ["heard"]
        assert house.tail.state is State.FOLLOWING


async def test_what_ran_and_ended_while_we_were_away_is_read():
    house = House()
    house.engine.start(WEB)
    house.say("short life")
    house.engine.stop(WEB)
    async with house.running():
        assert house.texts() == ["short life"]
        assert house.tail.state is State.ENDED


async def test_events_that_got_lost_are_made_up_for():
    house = House()
    house.engine.deaf = True
    async with house.running(reconcile_every=30.0):
        house.engine.start(WEB)
        house.say("unseen start")
        await asyncio.sleep(31)
        assert house.texts() == ["unseen start"]
        house.engine.stop(WEB)
        await asyncio.sleep(1)
        house.engine.start(WEB)
        house.say("second run")
        house.engine.stop(WEB)
        await asyncio.sleep(31)
        assert house.texts() == ["unseen start", "second run"]
        house.engine.remove(WEB)
        await asyncio.sleep(31)
        assert house.gone == ["c1"]
        assert house.intake.containers == {}


async def test_a_removed_container_is_forgotten_after_its_last_line():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        house.delay = 5.0
        house.say("last line")
        await asyncio.sleep(0.1)
        house.engine.stop(WEB)
        house.engine.remove(WEB)
        await asyncio.sleep(1)
        assert house.gone == []
        await asyncio.sleep(10)
        assert house.texts() == ["last line"]
        assert house.gone == ["c1"]
        assert house.intake.tails == {}
        assert house.intake.containers == {}


async def test_a_container_that_was_seen_and_gone_before_anybody_read_it_is_told_of(caplog):
    house = House()
    house.cursors = {(WEB.id, OUT): Cursor(1, 1)}
    house.open()
    async with asyncio.TaskGroup() as group:
        # found, and then the connection was cut before all had been looked at
        house.intake._learn(group, WEB.id, WEB)
        assert house.intake.tails == {}
        house.intake._learn(group, WEB.id, None)
        house.intake._learn(group, WEB.id, None)
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith("container c1: it was removed while dockerjail was away")
    assert house.gone == [WEB.id]


async def test_containers_removed_while_we_were_away_are_told_of_once_and_forgotten(caplog):
    house = House()
    house.cursors = {("old", OUT): Cursor(1, 1), ("old", ERR): Cursor(2, 1)}
    async with house.running(reconcile_every=1.0):
        assert house.gone == ["old"]
        await asyncio.sleep(5)
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith("container old: it was removed while dockerjail was away")
    assert "lines may have been missed" in said


async def test_nothing_is_said_of_a_container_that_was_read_to_its_end_and_removed(caplog):
    house = House()
    house.engine.start(WEB)
    async with house.running():
        house.say("last line")
        house.engine.stop(WEB)
        await asyncio.sleep(5)
        house.engine.remove(WEB)
        await asyncio.sleep(5)
        assert house.gone == ["c1"]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_an_unwanted_container_that_goes_is_forgotten():
    house = House()
    house.engine.start(OTHER)
    async with house.running():
        house.engine.remove(OTHER)
        await asyncio.sleep(1)
        assert house.intake.containers == {}


async def test_changes_of_any_container_are_told():
    house = House()
    async with house.running():
        before = house.changes
        house.engine.start(OTHER)
        await asyncio.sleep(0.1)
        assert house.changes == before + 1
        house.engine.start(replace(OTHER, name="renamed"))
        await asyncio.sleep(0.1)
        assert house.changes == before + 2
        assert house.intake.containers["c3"].name == "renamed"


async def test_many_hints_are_one_look():
    house = House()
    house.engine.start(OTHER)
    async with house.running():
        house.engine.inspected.clear()
        for _ in range(100):
            house.engine.start(OTHER)
        await asyncio.sleep(1)
        assert 1 <= len(house.engine.inspected) <= 3


async def test_an_unreadable_log_is_said_once_and_stops_nobody_else(caplog):
    house = House()
    house.engine.unreadable["c2"] = "configured logging driver does not support reading"
    house.engine.start(WEB)
    house.engine.start(DB)
    async with house.running(reconcile_every=1.0):
        await asyncio.sleep(100)
        house.say("still here")
        await asyncio.sleep(1)
        assert house.texts() == ["still here"]
        assert house.intake.tails["c2"].state is State.UNREADABLE
        assert "does not support reading" in house.intake.tails["c2"].problems[-1].what
        assert caplog.text.count("does not support reading") == 1


async def test_the_driver_none_is_never_asked():
    house = House()
    house.engine.start(replace(WEB, log_driver="none"))
    async with house.running():
        await asyncio.sleep(100)
        assert house.tail.state is State.UNREADABLE
        assert house.engine.log(WEB).opened == []


async def test_a_driver_that_may_lose_lines_is_followed_with_a_warning():
    house = House()
    house.engine.start(replace(WEB, log_driver="fluentd"))
    async with house.running():
        house.say("hello")
        await asyncio.sleep(1)
        assert house.texts() == ["hello"]
        assert "lines may be missing" in house.tail.problems[-1].what


async def test_a_log_rotated_away_is_said():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        house.say("one")
        await asyncio.sleep(1)
    house.say("lost")
    house.engine.log(WEB).frames.clear()
    house.say("two")
    async with house.running():
        await asyncio.sleep(1)
        assert house.texts() == ["one", "two"]
        assert "rotated away or truncated" in house.tail.problems[-1].what
        assert re.search(r" \(last \d{4}-\d\d-\d\d [0-9:]{8}\)$", house.tail.problems[-1].what)
        assert "max-size" in house.tail.problems[-1].remedy


@pytest.mark.parametrize("version", ["20.10.24", "26.1.5", "Podman 5.4.2"])
async def test_a_follower_gone_mute_is_noticed(version):
    house = House(version=version)
    house.engine.start(WEB)
    async with house.running():
        house.say("heard")
        await asyncio.sleep(1)
        house.engine.log(WEB).mute = True
        house.say("not sent")
        await asyncio.sleep(35)
        assert house.texts() == ["heard", "not sent"]


@pytest.mark.parametrize("version", ["20.10.24", "26.1.5"])
async def test_no_engine_is_trusted_to_follow_fast_rotation(version):
    house = House(version=version)
    house.engine.start(replace(WEB, log_options={"max-size": "10k", "max-file": "5"}))
    async with house.running():
        expected = [f"line {n} {'x' * 100}" for n in range(500)]
        for text in expected:
            house.say(text)
            await asyncio.sleep(0.01)
        assert house.tail.state is State.POLLING
        await asyncio.sleep(0.5)
        assert house.texts() == expected
        await asyncio.sleep(10)
        assert house.tail.state is State.FOLLOWING


async def test_a_silent_container_is_left_in_peace():
    house = House()
    house.engine.start(WEB)
    house.say("one line long ago")
    async with house.running():
        await asyncio.sleep(1000)
        house.engine.log(WEB).opened.clear()
        await asyncio.sleep(3000)
        assert len(house.engine.log(WEB).opened) <= 2 * 3000 / 30 + 2


async def test_a_silent_stream_of_podmans_stays_open():
    """To open one costs Podman a read of all of the log's file."""
    house = House(version="Podman 5.4.2")
    house.engine.start(WEB)
    house.say(*map(str, range(20)))
    async with house.running():
        await asyncio.sleep(1)
        house.engine.log(WEB).opened.clear()
        await asyncio.sleep(3000)
        house.say("after all")
        await asyncio.sleep(1)
        assert house.texts()[-1] == "after all"
        assert house.tail.state is State.FOLLOWING
        assert not any(follow for follow, _, _ in house.engine.log(WEB).opened)


async def test_stamps_of_whole_seconds_are_no_lag():
    house = House(version="Podman 5.4.2")
    house.engine.start(WEB)
    async with house.running():
        house.say("first")
        await asyncio.sleep(1)
        house.engine.log(WEB).opened.clear()
        for number in range(40):
            house.say(str(number))
            await asyncio.sleep(0.37)
        assert house.texts() == ["first", *map(str, range(40))]
        assert house.engine.log(WEB).opened == []


async def test_a_log_that_cannot_be_followed_any_more_is_polled():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        house.say("one")
        await asyncio.sleep(1)
        log = house.engine.log(WEB)
        log.frames.clear()
        log.mute = True
        await asyncio.sleep(60)
        house.say("two")
        await asyncio.sleep(2)
        assert house.texts() == ["one", "two"]
        log.mute = False
        await asyncio.sleep(60)
        assert house.tail.state is State.FOLLOWING


@pytest.mark.parametrize("version", ["20.10.24", "26.1.5"])
async def test_damage_in_a_log_is_hopped_over_and_said(version):
    house = House(version=version)
    house.engine.start(WEB)
    house.say(*(f"line {n}" for n in range(400)))
    house.engine.log(WEB).damaged.add(300)
    async with house.running():
        await asyncio.sleep(1)
        got = house.texts()
        assert got[:300] == [f"line {n}" for n in range(300)]
        assert got[-1] == "line 399"
        assert len(got) == len(set(got))
        assert "could not read a part" in house.tail.problems[-1].what
        house.say("live")
        await asyncio.sleep(1)
        assert house.texts()[-1] == "live"


async def test_a_slow_receiver_makes_the_follower_start_over_without_loss():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        await asyncio.sleep(1)
        house.delay = 0.5
        expected = [f"line {n}" for n in range(50)]
        for text in expected:
            house.say(text)
            await asyncio.sleep(0.05)
        house.delay = 0.0
        await asyncio.sleep(5)
        assert house.texts() == expected
        assert sum(not follow for follow, _, _ in house.engine.log(WEB).opened) > 2


@pytest.mark.parametrize("skew", [-100.0, 5.0])
async def test_an_engine_whose_clock_is_not_ours_is_followed(skew):
    house = House()
    ours = house.clock
    house.engine.start(WEB)
    house.clock = lambda: ours() + skew
    async with house.running():
        for number in range(10):
            house.say(f"line {number}")
            await asyncio.sleep(1)
        house.engine.log(WEB).opened.clear()
        for number in range(10, 20):
            house.say(f"line {number}")
            await asyncio.sleep(1)
        assert house.texts() == [f"line {n}" for n in range(20)]
        assert len(house.engine.log(WEB).opened) <= 2


async def test_a_container_seen_twice_is_followed_once():
    house = House()
    house.engine.start(WEB)
    async with house.running(reconcile_every=1.0):
        for _ in range(10):
            house.engine._tell("c1")
            await asyncio.sleep(0.3)
        assert len(house.engine.log(WEB).followers) == 1


LAN = ip_address("192.0.2.5")
ON_LAN = replace(WEB, addresses=frozenset({LAN}), direct=frozenset({Direct("eth0", LAN)}))


async def test_a_container_that_stopped_is_still_known_by_its_addresses():
    house = House()
    house.engine.start(ON_LAN)
    async with house.running():
        house.engine.stop(ON_LAN)
        await asyncio.sleep(0.1)
        stopped = house.intake.containers[WEB.id]
        assert not stopped.running
        assert (stopped.addresses, stopped.direct) == (ON_LAN.addresses, ON_LAN.direct)
        house.engine.start(WEB)
        await asyncio.sleep(0.1)
        assert house.intake.containers[WEB.id].direct == frozenset()


async def test_what_the_engine_does_not_tell_is_said_once_each_time(caplog):
    house = House()
    problem = Problem(place="Docker Engine", what="it does not tell", remedy="ask its proxy")
    house.engine.untold.append(problem)
    async with house.running(reconcile_every=1.0):
        await asyncio.sleep(5)
        assert caplog.text.count("it does not tell; ask its proxy") == 1
        house.engine.untold.clear()
        await asyncio.sleep(2)
        house.engine.untold.append(problem)
        await asyncio.sleep(2)
        assert caplog.text.count("it does not tell; ask its proxy") == 2


async def test_a_bug_in_the_receiver_stops_the_intake():
    house = House()
    house.engine.start(WEB)

    async def broken(chunk):
        raise ZeroDivisionError

    house.deliver = broken
    with pytest.raises(ExceptionGroup) as caught:
        async with house.running():
            house.say("line")
            await asyncio.sleep(10)
    assert caught.group_contains(ZeroDivisionError)


async def test_a_stop_while_the_engine_goes_away_is_a_stop():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        house.engine.cut()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_nothing_is_left_running_after_the_end():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        await asyncio.sleep(1)
    assert len(asyncio.all_tasks()) == 1
    assert house.engine.log(WEB).followers == []


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from((OUT, ERR)), st.integers(0, 40)),
        st.tuples(st.just("long"), st.sampled_from((OUT, ERR)), st.integers(16000, 50000)),
        st.tuples(st.just("wait"), st.floats(0, 40)),
        st.tuples(st.just("cut")),
        st.tuples(st.just("restart")),
        st.tuples(st.just("kill us")),
        st.tuples(st.just("away"), st.floats(0, 10)),
        st.tuples(st.just("slow"), st.sampled_from((0.0, 0.01, 0.5))),
    ),
    max_size=25,
)


@pytest.mark.parametrize("version", ["20.10.24", "26.1.5", "Podman 5.4.2", "Podman 5.8.0"])
@settings(max_examples=60, deadline=None)
@given(acts=ACTS)
def test_whatever_happens_each_line_is_delivered_once(version, acts):
    async def story():
        house = House(version=version, lookback=1e6)
        house.engine.start(WEB)
        said = {OUT: [], ERR: []}
        stack = contextlib.AsyncExitStack()
        await stack.enter_async_context(house.running())
        for number, (act, *how) in enumerate(acts):
            if act == "say":
                for again in range(how[1]):
                    said[how[0]].append(f"{number} {again}")
                    house.say(said[how[0]][-1], stream=how[0])
            elif act == "long":
                said[how[0]].append(f"{number} " + "".join(map(str, range(how[1] // 5))))
                house.say(said[how[0]][-1], stream=how[0])
            elif act == "wait":
                await asyncio.sleep(how[0])
            elif act == "cut":
                house.engine.cut()
            elif act == "restart":
                house.engine.stop(WEB)
                await asyncio.sleep(0.01)
                house.engine.start(WEB)
            elif act == "kill us":
                await stack.aclose()
                await stack.enter_async_context(house.running())
            elif act == "away":
                house.engine.away = "away"
                house.engine.cut()
                await asyncio.sleep(how[0])
                house.engine.away = ""
            elif act == "slow":
                house.delay = how[0]
        house.delay = 0.0
        await asyncio.sleep(120)
        await stack.aclose()
        for stream in Stream:
            assert house.texts(stream=stream) == said[stream]

    run_in_fake_time(story())


def run_in_fake_time(story):
    import looptime

    loop = looptime.new_event_loop()
    try:
        loop.run_until_complete(story)
    finally:
        loop.close()


async def test_a_container_that_cannot_be_looked_at_hides_no_other():
    house = House()
    house.engine.start(WEB)
    house.engine.start(DB)
    house.engine.unknown[DB.id] = "the Engine answers 500 'broken'"
    async with house.running(reconcile_every=30.0):
        house.say("first")
        await asyncio.sleep(1)
        assert house.intake.connected
        assert house.texts() == ["first"]
        assert DB.id not in house.intake.tails
        assert "500" in house.intake.unclear[DB.id].what
        del house.engine.unknown[DB.id]
        await asyncio.sleep(31)
        house.say("second", container=DB)
        await asyncio.sleep(1)
        assert house.texts(DB) == ["second"]
        assert house.intake.unclear == {}


async def test_what_was_known_of_a_container_stays_when_it_cannot_be_looked_at():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        house.engine.unknown[WEB.id] = "it hangs"
        house.engine.start(WEB)
        await asyncio.sleep(1)
        house.say("still followed")
        await asyncio.sleep(1)
        assert WEB.id in house.intake.containers
        assert house.texts() == ["still followed"]


async def test_whoever_changes_its_mind_about_a_container_is_asked_again():
    house = House()
    house.engine.start(OTHER)
    async with house.running():
        assert OTHER.id not in house.intake.tails
        house.intake._wanted = lambda container: True
        house.intake.reconsider(OTHER.id)
        house.say("now", container=OTHER)
        await asyncio.sleep(1)
        assert house.texts(OTHER) == ["now"]


async def test_a_container_that_cannot_be_looked_at_when_its_log_was_cut_is_asked_for_again():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        await asyncio.sleep(100)
        house.engine.unknown["c1"] = "the Engine does not answer within 15 seconds"
        house.engine.cut()
        house.say("meanwhile")
        await asyncio.sleep(10)
        house.engine.unknown.clear()
        await asyncio.sleep(31)
        assert house.texts() == ["meanwhile"]


class Slow(FakeEngine):
    """An Engine that takes its time about some containers; `asked` is how many at once, at most."""

    def __init__(self, **options):
        super().__init__(**options)
        self.slow = {}
        self.asking = self.asked = 0

    async def inspect(self, container):
        self.asking += 1
        self.asked = max(self.asked, self.asking)
        try:
            await asyncio.sleep(self.slow.get(container, 0.001))
            if container in self.slow:
                raise ContainerUnknown("the Engine does not answer within 15 seconds")
            return await super().inspect(container)
        finally:
            self.asking -= 1


def slow_house():
    house = House()
    house.engine = Slow(clock=house.clock)
    return house


async def test_containers_that_the_engine_hangs_on_hold_up_no_other():
    house = slow_house()
    for number in range(100):
        name = f"stuck{number:02}"
        house.engine.start(replace(OTHER, id=name, name=name))
        house.engine.slow[name] = 15.0
    house.engine.start(WEB)
    house.say("attack")
    async with house.running():
        await asyncio.sleep(8)
        assert house.texts() == ["attack"]
        assert house.intake.connected
        house.engine.start(DB)
        house.say("another", container=DB)
        await asyncio.sleep(8)
        assert house.texts(DB) == ["another"]
        await asyncio.sleep(20)
        assert len(house.intake.problems()) == 100


async def test_many_containers_are_looked_at_a_few_at_once():
    house = slow_house()
    for number in range(500):
        house.engine.start(replace(OTHER, id=f"n{number}", name=f"n{number}"))
    async with house.running():
        await asyncio.sleep(1)
        assert len(house.intake.containers) == 500
        assert 2 <= house.engine.asked <= 16


async def test_a_storm_of_hints_about_one_container_is_a_look_now_and_then():
    house = slow_house()
    house.engine.start(WEB)
    async with house.running():
        before = len(house.engine.inspected)
        for number in range(10_000):
            house.engine._known["c1"] = replace(house.engine._known["c1"], name=f"web{number}")
            house.engine._tell("c1")
            await asyncio.sleep(0.001)
        await asyncio.sleep(2)
        assert house.intake.containers["c1"].name == "web9999"
        assert len(house.engine.inspected) - before < 200


async def test_hints_about_more_containers_than_can_wait_are_made_up_for(monkeypatch):
    monkeypatch.setattr(intake, "_HINTS", 50)
    house = slow_house()
    async with house.running():
        for number in range(400):
            house.engine.start(replace(WEB, id=f"n{number}", name=f"n{number}"))
        await asyncio.sleep(0)
        assert len(house.intake._looking) <= 50
        await asyncio.sleep(2)
        assert len(house.intake.containers) == len(house.intake.tails) == 400
        for number in range(400):
            house.engine.remove(replace(WEB, id=f"n{number}"))
        await asyncio.sleep(2)
        assert not house.intake.containers
        assert len(house.gone) == 400


async def test_events_that_are_cut_after_a_while_are_taken_up_again_without_a_word(caplog):
    caplog.set_level("INFO")
    house = House()
    house.engine.start(WEB)
    async with house.running():
        for number in range(5):
            await asyncio.sleep(10)
            house.engine.cut("idle for too long")
            house.engine.deaf = True
            house.engine.start(replace(DB, id=f"db{number}", name=f"db{number}"))
            house.engine.deaf = False
            assert house.intake.connected
            await asyncio.sleep(1)
            assert f"db{number}" in house.intake.tails
        house.engine.start(replace(DB, id="last", name="last"))
        await asyncio.sleep(0.1)
        assert "last" in house.intake.tails
    assert not [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")]
    assert [r.getMessage() for r in caplog.records if r.levelname == "INFO"] == [
        "connected to Docker Engine 26.1.5"
    ]


async def test_events_that_have_fallen_silent_are_asked_for_anew():
    house = House()
    whole, asked = house.engine.events, []

    async def stalled(*, since):
        asked.append(since)
        if len(asked) == 1:  # the connection stands, and nothing comes
            await asyncio.Event().wait()
        async for event in whole(since=since):
            yield event

    house.engine.events = stalled
    async with house.running(reconcile_every=10_000.0):
        await asyncio.sleep(100)
        assert asked[1] < EPOCH  # so that nothing is left out
        assert house.intake.connected
        house.engine.start(DB)
        await asyncio.sleep(0.1)
        assert "c2" in house.intake.tails


async def test_another_engine_behind_a_cut_is_met_afresh():
    house = House(version="26.1.5")
    house.engine.start(WEB)
    async with house.running():
        await asyncio.sleep(100)
        house.engine._version = "20.10.24"
        house.engine.cut()
        await asyncio.sleep(5)
        assert house.intake.connected
        assert house.intake.engine_version == "20.10.24"


async def test_events_that_end_at_once_again_and_again_are_said_once(caplog):
    house = House()

    async def none(*, since):
        raise EngineUnavailable("ended its events")
        yield

    house.engine.events = none
    async with house.running():
        await asyncio.sleep(60)
        assert not house.intake.connected
    assert caplog.text.count("ended its events") == 1


async def test_no_more_containers_are_known_than_a_bound_and_that_is_said(monkeypatch, caplog):
    monkeypatch.setattr(intake, "MOST", 20)
    house = House()
    house.engine.start(WEB)
    for number in range(30):
        house.engine.start(replace(OTHER, id=f"n{number}", name=f"n{number}"))
    async with house.running(reconcile_every=1.0):
        house.engine.start(DB)
        house.say("still here")
        await asyncio.sleep(5)
        assert len(house.intake.containers) == 20
        assert house.texts() == ["still here"]
        (problem,) = house.intake.problems()
        assert "more than 20 containers: 12 are not looked at" in problem.what
        for number in range(30):
            house.engine.remove(replace(OTHER, id=f"n{number}"))
        await asyncio.sleep(5)
        assert house.intake.containers.keys() == {"c1", "c2"}
        assert house.intake.problems() == []
    assert caplog.text.count("are not looked at") == 1


async def test_giant_labels_and_names_are_not_kept_and_that_is_said_once(caplog):
    house = House()
    labels = {"dockerjail": "on"} | {f"label{number}": "x" * 100 for number in range(10_000)}
    house.engine.start(replace(WEB, labels=labels))
    house.engine.start(replace(DB, name="n" * 1000, service="n" * 1000))
    async with house.running(reconcile_every=1.0):
        await asyncio.sleep(5)
        assert house.intake.containers["c1"].labels == {}
        assert house.intake.tails.keys() == {"c2"}
        assert house.intake.containers["c2"].name == house.intake.containers["c2"].service == "c2"
        told = sorted(map(str, house.intake.problems()))
        assert "container c2: its name has 1000 characters" in told[0]
        assert "container web: its labels and log options have" in told[1]
        house.engine.remove(WEB)
        house.engine.remove(DB)
        await asyncio.sleep(5)
        assert house.intake.problems() == []
    assert caplog.text.count("its labels and log options have") == 1


class Reminded:
    """Who is shown the lines of before."""

    def __init__(self):
        self.lines = []

    def begin(self):
        self.lines.clear()
        return self.take

    async def take(self, chunk):
        self.lines += [
            (chunk.stream, line.partition(b" ")[2].decode())
            for line in chunk.data.split(b"\n")[:-1]
        ]


@pytest.mark.parametrize("version", ["20.10.24", "26.1.5", "Podman 5.4.2"])
async def test_whoever_remembers_is_shown_the_lines_of_before_a_restart_first(version):
    house, reminded = House(version=version), Reminded()
    house.engine.start(WEB)
    async with house.running(recall=lambda _: reminded.begin):
        house.say("a", "b")
        house.say("c", stream=ERR)
        await asyncio.sleep(1)
    assert not reminded.lines, "nothing was judged by an earlier process"
    house.delivered.clear()
    house.say("d")
    order = []
    house.deliver, deliver = None, house.deliver

    async def first(chunk):
        order.append("judged")
        await deliver(chunk)

    def reminding():
        take = reminded.begin()

        async def noting(chunk):
            order.append("reminded")
            await take(chunk)

        return noting

    house.deliver = first
    async with house.running(recall=lambda _: reminding):
        await asyncio.sleep(1)
        assert sorted(reminded.lines) == [(OUT, "a"), (OUT, "b"), (ERR, "c")]
        assert house.texts() == ["d"]
        assert order.index("judged") > max(i for i, what in enumerate(order) if what == "reminded")
        house.engine.cut()
        house.say("e")
        await asyncio.sleep(10)
    assert len(reminded.lines) == 3, "it is shown once"
    assert house.texts() == ["d", "e"]


async def test_whoever_remembers_is_shown_enough_also_when_much_was_written_meanwhile():
    house, reminded = House(), Reminded()
    house.engine.start(WEB)
    before = [f"before {number}" for number in range(100)]
    async with house.running():
        house.say(*before)
        await asyncio.sleep(1)
    house.say(*["meanwhile"] * 8150)
    async with house.running(recall=lambda _: reminded.begin):
        await asyncio.sleep(5)
        assert [text for _, text in reminded.lines] == before
        assert house.texts() == [*before, *["meanwhile"] * 8150]


async def test_whoever_remembers_begins_afresh_when_the_engine_goes_away_meanwhile():
    house, reminded = House(), Reminded()
    house.engine.start(WEB)
    async with house.running():
        house.say("a", "b")
        await asyncio.sleep(1)
    taken = []

    def begin():
        take = reminded.begin()

        async def cut_once(chunk):
            await take(chunk)
            if not taken:
                taken.append(chunk)
                raise EngineUnavailable("connection reset")

        return cut_once

    async with house.running(recall=lambda _: begin):
        await asyncio.sleep(10)
        assert taken
        assert reminded.lines == [(OUT, "a"), (OUT, "b")]
