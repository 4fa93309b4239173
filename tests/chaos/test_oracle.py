"""The oracle sees what it is there to see: each kind of fault, and nothing where there is none."""

import dataclasses
import math
import struct
from collections import Counter

import pytest

from dockerjail.docker.cursor import Dialect
from dockerjail.docker.tail import Tail
from dockerjail.model import Container, Cursor, Stream
from dockerjail.retry import Backoff
from dockerjail.stamp import NANO
from tests.chaos import generator, oracle
from tests.chaos.oracle import JOINED, LAST, REMOVED, ROTATED, Box, Heard, Key, Printed, Row, Told
from tests.fakes import FakeEngine

ID = "0123456789ab"
RULES = {"fast": (4, 1.5), "slow": (5, 600.0)}
ABOUT = {
    "name": "box0",
    "gen": 0,
    "index": 0,
    "seed": 1,
    "fast": 0.0,
    "long": 0.5,
    "crowd": 250,
    "colour": False,
}


def key(number: int) -> Key:
    return Key("box0", 0, 0, number)


def row(number: int, *, at: float = 100.0, address: str = "203.0.113.7", kind: str = "slow") -> Row:
    text = f"chaos box0 0 0 {number} {kind} failed login from {address} end"
    return Row(f"{kind}@box0", f"{address}/32", at, text)


def box(count: int, *, log: bool = True, whole: bool = True, **how) -> Box:
    """A container that printed a line each second from 100 on, and that the Engine heard then."""
    printed = {key(n): Printed(100.0 + n, 1, done=True) for n in range(count)}
    heard = {each: Heard(line.at, whole) for each, line in printed.items()}
    return Box(name="box0", gen=0, id=ID, printed=printed, log=heard if log else None, **how)


def rows(*numbers: int) -> list[Row]:
    return [row(n, at=100.0 + n) for n in numbers]


def gap(behind: float | None, stream: int = 1) -> Told:
    """A gap behind the line with that number, before the first one (None), or at the end (infinite)."""
    if behind == math.inf:
        return Told(ID, None)
    return Told(ID, {} if behind is None else {stream: 100.0 + behind})


def judge(box: Box, rows: list[Row], *, told: tuple[Told, ...] = (), kills=(), bans=()):
    return oracle.judge([box], rows, bans, rules=RULES, told=told, kills=kills)


def test_what_was_read_once_is_well():
    verdict = judge(box(3), rows(0, 1, 2))
    assert (verdict.sent, verdict.judged, verdict.faults) == (3, 3, [])


def test_a_line_that_the_log_has_and_the_store_has_not_is_lost():
    verdict = judge(box(3), rows(0, 2))
    assert verdict.lost == [key(1)]
    assert verdict.faults


def test_a_line_that_is_stored_twice_is_doubled():
    verdict = judge(box(2), rows(0, 1, 1))
    assert verdict.doubled == [key(1)]
    assert verdict.faults


def test_a_row_for_nothing_is_strange():
    assert judge(box(1), rows(0, 7)).faults
    assert judge(box(1), [Row("slow@box0", "203.0.113.8/32", 100.0, row(0).text)]).faults
    assert judge(box(1), [row(0, at=101.0)]).faults


def test_half_a_line_may_count_or_not():
    assert not judge(box(1, whole=False), []).faults
    assert not judge(box(1, whole=False), [row(0)]).faults


def test_what_went_with_its_container_must_be_told():
    removed = box(3, log=False)
    assert judge(removed, rows(0)).silent == [key(1), key(2)]
    assert judge(removed, rows(0)).faults
    for told in (gap(0), gap(math.inf)):
        verdict = judge(removed, rows(0), told=(told,))
        assert (verdict.unread, verdict.unseen.total(), verdict.faults) == (2, 0, [])


def test_a_hole_before_what_was_read_of_a_removed_container_is_lost_told_or_not():
    verdict = judge(box(3, log=False), rows(0, 2), told=(gap(0), gap(math.inf)))
    assert verdict.lost == [key(1)]


def test_a_container_that_was_removed_before_anything_was_read_is_unseen():
    verdict = judge(box(3, log=False), [])
    assert (verdict.unseen, verdict.unread, verdict.faults) == ({REMOVED: 3}, 0, [])
    assert judge(box(3, log=False), [], told=(gap(None),)).unread == 3
    assert judge(box(3), []).lost == [key(0), key(1), key(2)]


def rotated(count: int, *gone: int, log: bool = True) -> Box:
    """A container of whose log the lines `gone`, and all before the last of them, are rotated away."""
    full = box(count, rotates=True, log=log)
    for number in range(max(gone) + 1) if log else ():
        full.log.pop(key(number))
    return full


def test_what_was_rotated_away_must_be_told():
    scarce = rotated(4, 1, 2)
    assert judge(scarce, rows(0, 3)).silent == [key(1), key(2)]
    verdict = judge(scarce, rows(0, 3), told=(gap(0),))
    assert (verdict.unread, verdict.faults) == (2, [])


@pytest.mark.parametrize("log", [True, False])
def test_a_told_gap_explains_one_stretch_of_missing_lines_and_no_other(log):
    scarce = rotated(6, 1, 4, log=log)
    read = rows(0, 2, 3, 5)
    assert judge(scarce, read, told=(gap(0),)).silent == [key(4)]
    assert judge(scarce, read, told=(gap(3),)).silent == [key(1)]
    assert judge(scarce, read, told=(gap(0), gap(0))).silent == [key(4)]
    assert judge(scarce, read, told=(gap(2), gap(5))).silent == [key(1), key(4)]
    assert judge(scarce, read, told=(gap(math.inf), gap(None))).silent == [key(1), key(4)]
    verdict = judge(scarce, read, told=(gap(3), gap(0)))
    assert (verdict.unread, verdict.faults) == (2, [])


def test_a_gap_explains_a_stretch_of_the_stream_it_names():
    scarce = rotated(4, 2)
    assert judge(scarce, rows(0, 1, 3), told=(gap(1, stream=2),)).silent == [key(2)]
    both = Told(ID, {1: 101.0, 2: 99.0})
    assert not judge(scarce, rows(0, 1, 3), told=(both,)).faults


def test_a_gap_in_another_container_explains_nothing():
    other = Told("ba9876543210", {1: 100.0})
    assert judge(rotated(4, 1, 2), rows(0, 3), told=(other,)).silent == [key(1), key(2)]


def test_of_a_stream_that_was_not_read_before_a_gap_its_beginning_may_be_missing():
    scarce = rotated(6, 4)
    for number in (1, 3, 5):
        scarce.printed[key(number)] = Printed(100.0 + number, 2, done=True)
    assert judge(scarce, rows(0, 4, 5), told=(gap(0),)).unread == 3
    assert judge(scarce, rows(0, 1, 4, 5), told=(gap(0),)).silent == [key(3)]


def test_what_was_rotated_away_before_anything_was_read_is_unseen():
    verdict = judge(rotated(3, 0), rows(1, 2))
    assert (verdict.unseen, verdict.unread, verdict.faults) == ({ROTATED: 1}, 0, [])
    verdict = judge(rotated(3, 0, log=False), rows(1, 2))
    assert (verdict.unseen, verdict.faults) == ({ROTATED: 1}, [])


def test_what_the_engine_has_dropped_at_the_beginning_of_a_log_that_does_not_rotate_is_dropped():
    whole = box(3)
    whole.log.pop(key(0))
    verdict = judge(whole, rows(1, 2))
    assert (verdict.dropped, verdict.unseen.total(), verdict.faults) == (1, 0, [])


def test_the_beginning_of_one_stream_is_not_unseen_when_the_other_was_read_before():
    scarce = rotated(5, 3)
    scarce.printed[key(1)] = Printed(100.5, 2, done=True)
    scarce.printed[key(3)] = Printed(102.5, 2, done=True)
    assert judge(scarce, rows(2, 4)).unseen == {ROTATED: 3}
    verdict = judge(scarce, rows(0, 2, 4))
    assert (verdict.unseen, verdict.silent) == ({ROTATED: 1}, [key(3)])


def test_of_a_removed_container_that_was_read_each_stream_must_be_told():
    removed = box(3, log=False)
    removed.printed[key(2)] = Printed(100.2, 2, done=True)
    assert judge(removed, rows(0, 1)).silent == [key(2)]
    assert judge(removed, rows(0, 1), told=(gap(1),)).unread == 1


def test_the_last_words_of_a_fleeting_container_may_be_unseen():
    removed = box(4, log=False, fleeting=True)
    verdict = judge(removed, rows(0, 1, 2))
    assert (verdict.unseen, verdict.faults) == ({LAST: 1}, [])
    assert judge(removed, rows(0, 1, 2), told=(gap(2),)).unread == 1


def test_what_was_unseen_is_said_by_the_case():
    assert oracle.cases(Counter()) == "unseen 0"
    assert oracle.cases(Counter({REMOVED: 2, LAST: 1})) == (
        "unseen 3: 1 last words of --rm, 2 removed before the first line read"
    )


def joined(*watched: float, lives: int = 3, log: bool = True, joined: bool = True) -> Box:
    """A container on Podman whose runs printed two lines each, from 100, 110 and 120 on."""
    keys = [Key("box0", 0, life, number) for life in range(lives) for number in (0, 1)]
    printed = {each: Printed(100.0 + 10 * each.life + each.number, 1, done=True) for each in keys}
    heard = {
        each: Heard(line.at, whole=True, joined=joined and each.number == 0 and each.life > 0)
        for each, line in printed.items()
    }
    return Box(
        name="box0",
        gen=0,
        id=ID,
        printed=printed,
        log=heard if log else None,
        joins=True,
        lives={life: 100.0 + 10 * life for life in range(lives)},
        watched=watched,
    )


def all_but(box: Box, *missing: tuple[int, int]) -> list[Row]:
    return [
        Row(
            "slow@box0",
            "203.0.113.7/32",
            line.at,
            row(0).text.replace(" 0 0 0 ", f" 0 {life} {n} "),
        )
        for (_, _, life, n), line in box.printed.items()
        if (life, n) not in missing
    ]


@pytest.mark.parametrize("log", [True, False])
def test_of_runs_that_nobody_watched_a_first_line_may_be_joined_with_last_words(log):
    box = joined(105.0, 110.5, 120.5, log=log)
    verdict = judge(box, all_but(box, (1, 0)))
    assert (verdict.unseen, verdict.lost) == ({JOINED: 1}, [])


def test_a_first_line_is_lost_when_its_run_was_watched_or_was_the_last_or_is_not_joined():
    box = joined(115.0)
    assert judge(box, all_but(box, (1, 0))).lost == [Key("box0", 0, 1, 0)]
    box = joined()
    assert judge(box, all_but(box, (2, 0))).lost == [Key("box0", 0, 2, 0)]
    assert judge(box, all_but(box, (1, 1))).lost == [Key("box0", 0, 1, 1)]
    box = joined(joined=False)
    assert judge(box, all_but(box, (1, 0))).lost == [Key("box0", 0, 1, 0)]
    box = dataclasses.replace(joined(), joins=False)
    assert judge(box, all_but(box, (1, 0))).lost == [Key("box0", 0, 1, 0)]


def test_a_line_behind_one_without_its_end_is_joined():
    line = b"chaos box0 0 0 2 slow failed login from 203.0.113.7 end"
    body = framed("40.000000001", line) + framed(
        "41.000000000", line.replace(b" 2 ", b" 3 ") + b"\n"
    )
    body += framed("41.000000000", line.replace(b" 2 ", b" 4 ") + b"\n")
    heard = oracle.heard(body, tty=False)
    assert [heard[key(n)].joined for n in (2, 3, 4)] == [False, True, False]


def test_what_dockerjail_judged_of_a_service_and_when_runs_began_is_known():
    log = (
        "2026-11-23 03:40:18,500 INFO    [slow@box1] Found 198.19.1.1 - 2026-11-23 03:40:15\n"
        "2026-11-23 03:40:19,500 INFO    [slow@box11] Found 198.19.1.1 - 2026-11-23 03:40:15\n"
    )
    (at,) = oracle.watched(log, "box1")
    assert at % 60 == 18.5
    assert oracle.lives("1.5 life 0\n2.5 print 0 0 2 1\n7.5 life 1\n") == {0: 1.5, 1: 7.5}


def test_more_than_its_last_words_must_be_told():
    removed = box(4, log=False, fleeting=True)
    assert judge(removed, rows(0, 1)).silent == [key(2)]
    assert judge(removed, rows(0, 3)).lost == [key(1), key(2)]
    assert judge(box(4, log=False), rows(0, 1, 2)).silent == [key(3)]
    assert judge(box(4, fleeting=True), rows(0, 1, 2)).lost == [key(3)]


def test_what_a_killed_engine_had_in_hand_is_its_own_loss():
    verdict = judge(box(3, log=False), rows(0, 1), kills=[102.5])
    assert (verdict.dropped, verdict.faults) == (1, [])


def test_the_window_is_strict():
    assert oracle.enough([0.0, 0.5, 1.0, 1.4], 4, 1.5)
    assert not oracle.enough([0.0, 0.5, 1.0, 1.5], 4, 1.5)
    assert not oracle.enough([0.0, 0.1, 0.2], 4, 1.5)
    assert oracle.enough([9.0, 0.0, 9.9, 9.5, 9.2], 4, 1.5)


def test_bans_that_are_missing_superfluous_or_double_are_wrong():
    full = box(5)
    full.log.clear()
    rows = [row(n) for n in range(5)]
    who = ("slow@box0", "203.0.113.7/32")
    assert not judge(full, rows, bans=[who]).faults
    assert judge(full, rows).faults
    assert judge(full, rows, bans=[who, who]).faults
    assert judge(full, rows[:4], bans=[who]).faults


def framed(stamp: str, text: bytes, stream: int = 1) -> bytes:
    payload = f"2026-11-22T10:52:{stamp}Z ".encode() + text
    return struct.pack(">BxxxI", stream, len(payload)) + payload


def test_lines_are_found_in_frames_whole_or_torn():
    one = b"chaos box0 0 0 1 slow failed login from 203.0.113.7 xxend"
    two = b"chaos box0 0 0 2 slow failed login from 203.0.113.7 xxx"
    body = (
        framed("40.000000001", one[:-4])
        + framed("41.000000000", b"chaos box0 0 0 3 fast failed login from ::1 end\n", 2)
        + framed("40.000000001", one[-4:] + b"\n")
        + framed("40.000000002", two)
        + framed("42.000000000", b"chaos box0 0 1 0 slow failed login from 203.0.113.7 end\r\n")
    )
    heard = oracle.heard(body, tty=False)
    assert {each: line.whole for each, line in heard.items()} == {
        key(1): True,
        key(2): False,
        key(3): True,
        Key("box0", 0, 1, 0): True,
    }
    assert heard[key(3)].at - heard[key(1)].at == pytest.approx(1.0)


def test_a_line_that_begins_within_another_is_none():
    line = b"chaos box0 0 0 2 slow failed login from 203.0.113.7 end"
    body = framed(
        "40.000000001", b"chaos box0 0 0 1 slow failed login from ::1 xxxx" + line + b"\n"
    )
    assert not any(found.whole for found in oracle.heard(body, tty=False).values())
    body = framed("40.000000001", b"\x1b[31m" + line + b"\x1b[0m\n")
    assert oracle.heard(body, tty=False)[key(2)].whole


def test_a_terminals_line_behind_a_torn_one_may_count_or_not():
    stamp = b"2026-11-22T10:52:40.000000001Z "
    line = b"chaos box0 0 0 2 slow failed login from 203.0.113.7 end\r\n"
    torn = stamp + b"chaos box0 0 0 1 slow failed login from 203.0.113.7 xxx"
    heard = oracle.heard(torn + stamp + line + stamp + line.replace(b" 2 ", b" 3 "), tty=True)
    assert {each.number: found.whole for each, found in heard.items()} == {
        1: False,
        2: False,
        3: True,
    }


def test_a_terminals_line_behind_the_rest_of_one_that_was_rotated_away_may_count_or_not():
    stamp = b"2026-11-22T10:52:40.000000001Z "
    line = b"chaos box0 0 0 2 slow failed login from 203.0.113.7 end\r\n"
    later = stamp + line + stamp + line.replace(b" 2 ", b" 3 ")
    first = b"chaos box0 0 0 1 slow failed login from 203.0.113.7 "
    for rest, whole in (
        (stamp + b"xxxend\r", False),
        (stamp + b"xxxend\r\n", True),
        (stamp + first + b"xxxend\r", True),
        (stamp + first + b"x" * (16384 - len(first)) + stamp + b"xxxend\r", True),
    ):
        heard = oracle.heard(rest + later, tty=True)
        assert heard[key(2)].whole is whole
        assert heard[key(3)].whole


def test_lines_are_found_in_a_terminals_log():
    stamp = b"2026-11-22T10:52:40.000000001Z "
    text = b"chaos box0 0 0 1 slow failed login from 203.0.113.7 " + b"x" * 20_000 + b"end\r\n"
    body = stamp + text[:16384] + stamp + text[16384:]
    body += stamp + b"chaos box0 0 0 2 slow failed login from 203.0.113.7 end\r\n"
    assert oracle.heard(body, tty=True).keys() == {key(1), key(2)}


def test_a_line_behind_one_that_lost_its_lf_has_its_own_time():
    stamp, later = b"2026-11-22T10:52:40.000000001Z ", b"2026-11-22T10:52:45.000000001Z "
    text = b"chaos box0 0 0 1 slow failed login from 203.0.113.7 " + b"x" * 20_000 + b"end\r"
    body = stamp + text[:16384] + stamp + text[16384:]
    body += later + b"chaos box0 0 0 2 slow failed login from 203.0.113.7 end\r\n"
    heard = oracle.heard(body, tty=True)
    assert heard[key(2)].at - heard[key(1)].at == pytest.approx(5.0)


def test_what_a_generator_prints_is_what_the_oracle_reads():
    texts = [generator.line(ABOUT, 0, n) for n in range(50)]
    assert texts == [generator.line(ABOUT, 0, n) for n in range(50)]
    assert any(len(text) > 16_000 for text in texts)
    body = b"".join(framed("40.000000001", text + b"\n") for text in texts)
    assert oracle.heard(body, tty=False).keys() == {key(n) for n in range(50)}
    assert {oracle.key_of(text.decode()) for text in texts} == {key(n) for n in range(50)}


def test_what_is_noted_and_not_done_may_have_been_printed():
    record = "1.5 life 0\n2.5 print 0 0 2 1\n2.6 done 0 0 2 1\n2.7 print 0 2 1 2\n"
    assert oracle.printed(record, "box0", 0) == {
        key(0): Printed(2.6, 1, done=True),
        key(1): Printed(2.6, 1, done=True),
        key(2): Printed(2.7, 2, done=False),
    }


def test_words_about_a_gap_say_where_it_is():
    log = (
        "2026 WARNING container web: its log was rotated away or truncated before it was read, "
        "lines may have been missed; allow larger files\n"
        "2026 INFO    container web: gap 1 of 0123456789ab behind the line of "
        "1970-01-01T00:01:40.500000000Z (stdout) and 1970-01-01T00:01:41.000000000Z (stderr)\n"
        "2026 INFO    container web: gap 2 of 0123456789ab before its first line\n"
        "2026 WARNING container ba9876543210: it was removed while dockerjail was away, "
        "lines may have been missed\n"
        "2026 WARNING container api: its jail is wrong\n"
    )
    assert oracle.gaps(log) == [
        Told("ba9876543210", None),
        Told("0123456789ab", {1: 100.5, 2: 101.0}),
        Told("0123456789ab", {}),
    ]


async def test_what_a_tail_says_of_a_gap_is_what_the_oracle_reads(caplog):
    caplog.set_level("INFO")
    container = Container(id=ID * 5, name="web", service="web")
    engine = FakeEngine(clock=lambda: 200.0)
    engine.start(container)
    tail = Tail(
        engine,
        container,
        _take,
        stored={Stream.STDERR: Cursor(100 * NANO + 5, 1)},
        start=0.0,
        dialect=lambda: Dialect.NEW,
        backoff=Backoff(),
        clock=lambda: 200.0,
    )
    engine.remove(container)
    await tail.run()
    assert oracle.gaps("\n".join(caplog.messages)) == [Told(ID, {2: 100.000000005})]


async def _take(_: object) -> None:
    """Take a chunk."""
