"""The oracle sees what it is there to see: each kind of fault, and nothing where there is none."""

import struct

import pytest

from tests.chaos import generator, oracle
from tests.chaos.oracle import Box, Heard, Key, Printed, Row

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


def box(count: int, *, log: bool = True, scarce: bool = False, whole: bool = True) -> Box:
    printed = {key(n): Printed(100.0 + n, 1, done=True) for n in range(count)}
    heard = {each: Heard(100.0, whole) for each in printed}
    return Box(
        name="box0", gen=0, id="abc", scarce=scarce, printed=printed, log=heard if log else None
    )


def judge(box: Box, rows: list[Row], *, reported: tuple[str, ...] = (), kills=(), bans=()):
    return oracle.judge([box], rows, bans, rules=RULES, reported=frozenset(reported), kills=kills)


def test_what_was_read_once_is_well():
    verdict = judge(box(3), [row(0), row(1), row(2)])
    assert (verdict.sent, verdict.judged, verdict.faults) == (3, 3, [])


def test_a_line_that_the_log_has_and_the_store_has_not_is_lost():
    verdict = judge(box(3), [row(0), row(2)])
    assert verdict.lost == [key(1)]
    assert verdict.faults


def test_a_line_that_is_stored_twice_is_doubled():
    verdict = judge(box(2), [row(0), row(1), row(1)])
    assert verdict.doubled == [key(1)]
    assert verdict.faults


def test_a_row_for_nothing_is_strange():
    assert judge(box(1), [row(0), row(7)]).faults
    assert judge(box(1), [Row("slow@box0", "203.0.113.8/32", 100.0, row(0).text)]).faults
    assert judge(box(1), [row(0, at=101.0)]).faults


def test_half_a_line_may_count_or_not():
    assert not judge(box(1, whole=False), []).faults
    assert not judge(box(1, whole=False), [row(0)]).faults


@pytest.mark.parametrize("told", ["box0", "abc"])
def test_what_went_with_its_container_must_be_told(told):
    removed = box(3, log=False)
    assert judge(removed, [row(0)]).silent == [key(1), key(2)]
    assert judge(removed, [row(0)]).faults
    verdict = judge(removed, [row(0)], reported=(told,))
    assert (verdict.unread, verdict.faults) == (2, [])


def test_a_hole_before_what_was_read_of_a_removed_container_is_lost_told_or_not():
    verdict = judge(box(3, log=False), [row(0), row(2)], reported=("box0",))
    assert verdict.lost == [key(1)]


def test_a_container_that_was_never_seen_cannot_be_told_of():
    assert not judge(box(3, log=False), []).faults


def test_what_was_rotated_away_must_be_told():
    rotated = box(4, scarce=True)
    rotated.log.pop(key(1))
    rotated.log.pop(key(2))
    assert judge(rotated, [row(0), row(3)]).silent == [key(1), key(2)]
    assert not judge(rotated, [row(0), row(3)], reported=("box0",)).faults


def test_what_was_rotated_away_before_anything_was_read_cannot_be_told():
    rotated = box(3, scarce=True)
    rotated.log.pop(key(0))
    verdict = judge(rotated, [row(1), row(2)])
    assert (verdict.unread, verdict.faults) == (1, [])


def test_what_a_killed_engine_had_in_hand_is_its_own_loss():
    verdict = judge(box(3, log=False), [row(0), row(1)], kills=[102.5])
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


def test_words_about_a_gap_name_the_container():
    log = (
        "2026 WARNING container web: its log was rotated away or truncated before it was read, "
        "lines may have been missed; allow larger files\n"
        "2026 WARNING container api: its jail is wrong\n"
    )
    assert oracle.reported(log) == {"web"}
