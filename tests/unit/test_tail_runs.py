"""Lines whose end does not come: at the end of a run, and for long while the other stream goes on."""

import asyncio
from dataclasses import replace

import pytest

from dockerjail.docker.cursor import Dialect, Progress, parting, resumed, settled, waiting
from dockerjail.docker.lines import Lines
from dockerjail.model import Container, Cursor, Stream
from tests.unit import test_clock
from tests.unit.test_intake import EPOCH, WEB, House
from tests.unit.test_lines import frame

pytestmark = pytest.mark.looptime

OUT, ERR = Stream.STDOUT, Stream.STDERR
PODMANS = ("Podman 5.4.2", "Podman 5.8.0")
VERSIONS = ("20.10.24", "26.1.5", *PODMANS)
T = EPOCH * 10**9


# -- two runs ----------------------------------------------------------------------


async def run_anew(house, container=WEB, *, unnoticed=False):
    house.engine.stop(container, unnoticed=unnoticed)
    await asyncio.sleep(0.3)
    house.engine.start(container)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("unnoticed", [False, True])
async def test_the_last_line_of_a_run_is_not_joined_with_the_first_of_the_next(version, unnoticed):
    house = House(version=version)
    house.engine.start(WEB)
    async with house.running():
        house.say("hello")
        await asyncio.sleep(10)
        for turn in range(3):
            house.say(f"last {turn}", end=b"")
            house.say(f"err {turn}", stream=ERR)
            await asyncio.sleep(0.02)
            # one whose followers go on from run to run is a Podman
            await run_anew(house, unnoticed=unnoticed and version in PODMANS)
            house.say(f"first {turn}")
            await asyncio.sleep(20)
        assert house.tail.gaps == 0
    runs = [f"{which} {turn}" for turn in range(3) for which in ("last", "first")]
    assert house.texts(stream=OUT) == ["hello", *runs]
    assert house.texts(stream=ERR) == ["err 0", "err 1", "err 2"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ended", [False, True], ids=["it runs", "it has ended"])
async def test_two_runs_are_told_apart_by_who_comes_later(version, ended):
    house = House(version=version)
    house.engine.start(WEB)
    async with house.running():
        house.say("hello")
        house.say("err", stream=ERR)
        await asyncio.sleep(10)
    house.say("cut ", end=b"")
    house.say("short", end=b"")
    await asyncio.sleep(0.02)
    await run_anew(house)
    house.say("err again", stream=ERR)
    house.say("first")
    if ended:
        await asyncio.sleep(0.1)
        house.engine.stop(WEB)
    for _ in range(2):
        async with house.running():
            await asyncio.sleep(20)
            assert house.tail.gaps == 0
    last = ["cut short"] if version in PODMANS else ["cut ", "short"]
    assert house.texts(stream=OUT) == ["hello", *last, "first"]
    assert house.texts(stream=ERR) == ["err", "err again"]


@pytest.mark.parametrize("version", PODMANS)
async def test_a_run_that_ends_without_a_newline_takes_nothing_from_the_next_where_logs_are_bounded(
    version,
):
    web = replace(WEB, log_driver="k8s-file", log_options={"max-size": "50MB"})
    house = House(version=version)
    house.engine.start(web)
    async with house.running():
        house.say("hello")
        await asyncio.sleep(10)
    house.say("cut short", end=b"")
    await asyncio.sleep(0.02)
    await run_anew(house, web)
    house.say("first")
    for turn in range(2):
        async with house.running():
            await asyncio.sleep(20)
            house.say(f"live {turn}")
            await asyncio.sleep(5)
            assert house.tail.gaps == 0
    assert house.texts() == ["hello", "cut short", "first", "live 0", "live 1"]


async def test_pieces_of_one_run_are_one_line_however_late_they_come():
    house = House(version="Podman 5.4.2")
    house.engine.start(WEB)
    async with house.running():
        house.say("before")
        await asyncio.sleep(0.1)
        await run_anew(house)
        for text in ("a ", "long ", "time"):
            house.say(text, end=b"")
            await asyncio.sleep(33)
        house.say(" ago")
        await asyncio.sleep(3)
    assert house.texts() == ["before", "a long time ago"]


async def test_an_end_of_a_line_by_itself_asks_podman_nothing():
    """Many programs write a line and its end separately."""
    house = House(version="Podman 5.4.2")
    house.engine.start(WEB)
    async with house.running():
        await asyncio.sleep(5)
        house.engine.inspected.clear()
        for number in range(20):
            house.say(str(number), end=b"")
            house.say("")
            await asyncio.sleep(0.3)
        assert house.texts() == [str(number) for number in range(20)]
        assert house.engine.inspected == []


def container(*, started=0, finished=0, **options):
    return Container(
        id="c", name="web", service="web", started_at=started, finished_at=finished, **options
    )


PROGRESS = Progress(cursors=dict.fromkeys(Stream, Cursor(T, 1)), real=True)


def test_a_run_that_goes_on_is_parted_where_the_one_before_ended():
    runs = container(started=EPOCH + 2, finished=EPOCH + 1)
    assert parting(runs, PROGRESS, Dialect.PODMAN) == T + 1_010_000_000
    assert parting(runs, PROGRESS, Dialect.NEW) is None
    assert parting(container(started=EPOCH + 2), PROGRESS, Dialect.PODMAN) is None


def test_a_run_that_is_over_is_parted_just_before_it_began():
    over = container(started=EPOCH + 2, finished=EPOCH + 9, running=False)
    assert parting(over, PROGRESS, Dialect.PODMAN) == T + 1_900_000_000


def test_what_is_consumed_is_not_parted():
    runs = container(started=EPOCH - 1, finished=EPOCH - 2)
    assert parting(runs, PROGRESS, Dialect.PODMAN) is None


# -- a line that waits --------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("first", [True, False], ids=["the first line", "a later line"])
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("stream", Stream)
async def test_a_line_that_waits_long_for_its_end_survives_a_kill(version, first, many, stream):
    other = ERR if stream is OUT else OUT
    house = House(version=version, lookback=1e6)
    house.engine.start(WEB)
    said = {OUT: [], ERR: []}

    def say(text, where=other, **options):
        said[where].append(text)
        house.say(text, stream=where, **options)

    async with house.running():
        if not first:
            say("before", stream)
        await asyncio.sleep(5)
        say("half and half", stream, end=b"")
        begun = house.engine.log(WEB).frames[-1]
        begun.text = b"half"
        for number in range(40):
            say(f"meanwhile {number}")
            await asyncio.sleep(0.7)
        if many:
            for number in range(700):
                say(f"many {number}")
            await asyncio.sleep(1)
    for turn in range(3):
        async with house.running():
            say(f"again {turn}")
            await asyncio.sleep(30)
            assert house.tail.gaps == 0
    # Docker stamps all pieces of a line like the first
    at = None if version in PODMANS else begun.ns / 1e9
    async with house.running():
        await asyncio.sleep(1)
        house.engine.say(WEB, " and half", stream=stream, at=at)
        if at is not None:
            house.engine.log(WEB).frames[-1].ns = begun.ns  # to the nanosecond
        say("behind")
        await asyncio.sleep(40)
        assert house.tail.gaps == 0
    for where in Stream:
        assert house.texts(stream=where) == said[where]


async def test_a_container_wanted_again_brings_a_line_that_waited():
    house = House()
    house.engine.start(WEB)
    async with house.running():
        house.say("half", end=b"")
        for number in range(30):
            house.say(str(number), stream=ERR)
            await asyncio.sleep(1)
        house.want = False
        house.intake.reconsider(WEB.id)
        await asyncio.sleep(3)
        house.want = True
        house.intake.reconsider(WEB.id)
        await asyncio.sleep(3)
        house.engine.log(WEB).frames[0].text += b" and half\n"
        house.engine.cut()
        await asyncio.sleep(10)
    assert house.texts(stream=OUT) == ["half and half"]
    assert house.texts(stream=ERR) == [str(number) for number in range(30)]


async def test_a_line_that_waits_is_stored_with_what_the_other_stream_leads_to(tmp_path):
    house = test_clock.House(tmp_path)
    web, bad = test_clock.WEB, test_clock.BAD.network_address
    async with house.running():
        house.engine.say(web, "before")
        house.engine.say(web, "half of a line", end=b"")
        for _ in range(2):
            await asyncio.sleep(8)
            house.engine.say(web, f"failed {bad}", stream=ERR)
        await asyncio.sleep(1)
        # not only in memory until it is written at leisure
        cursors = (await house.store.load(now=house.clock(), findtime=3600)).cursors
        assert cursors[web.id, OUT].seen == -1
        assert cursors[web.id, ERR].seen == 1
    house.engine.log(web).frames[1].text = f"failed {bad}\n".encode()
    async with house.running() as daemon:
        await asyncio.sleep(1)
        assert len(daemon.warden.bans) == 1


def test_a_waiting_line_is_told_once_and_before_what_the_other_stream_brings():
    made = Lines(WEB, {}, dialect=Dialect.NEW)
    made.feed([frame(T, b"read\n"), frame(T + 1, b"half")])
    second = 10**9
    assert [c.stream for c in made.feed([frame(T + 3 * second, b"soon\n", kind=2)])] == [ERR]
    told, brought = made.feed([frame(T + 20 * second, b"late\n", kind=2)])
    assert (told.stream, told.data, told.cursor) == (OUT, b"", Cursor(T, -1))
    assert brought.stream is ERR
    assert [c.stream for c in made.feed([frame(T + 40 * second, b"later\n", kind=2)])] == [ERR]
    (whole,) = made.feed([frame(T + 1, b" line\n")])
    assert whole.data.endswith(b" half line\n")
    assert whole.cursor == Cursor(T + 1, 2)


def test_whoever_resumes_goes_back_to_a_line_that_waits():
    cursor = waiting(Cursor(T, 3), T + 7)
    assert settled(cursor) == Cursor(T, 3)
    far = Cursor(T + 10**12, 1)
    assert resumed({OUT: cursor, ERR: far}) == ({OUT: Cursor(T, 3), ERR: far}, T)
    first = waiting(Cursor(0, 0), T + 7)  # nothing was consumed before
    assert resumed({OUT: first, ERR: far}) == ({OUT: Cursor(T + 6, 0), ERR: far}, T + 6)
    assert resumed({OUT: Cursor(T, 3), ERR: far})[1] is None


async def test_pieces_of_a_line_that_stand_apart_are_read_without_haste():
    """Before Engine 23 a narrow window may begin between two frames of one stamp."""
    house = House(version="20.10.24")
    house.engine.start(WEB)
    async with house.running():
        house.say("half", stream=ERR, end=b"")
        begun = house.engine.log(WEB).frames[-1]
        for number in range(12):
            house.say(str(number))
            await asyncio.sleep(2)
        house.say(" and half", stream=ERR)
        house.engine.log(WEB).frames[-1].ns = begun.ns
        house.say("next", stream=ERR, end=b"")
        await asyncio.sleep(10)
        house.engine.log(WEB).opened.clear()
        await asyncio.sleep(30)
        assert len(house.engine.log(WEB).opened) < 200
        assert house.texts(stream=ERR) == ["half and half"]
