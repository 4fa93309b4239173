"""What a filter remembers of the lines before: connections, and the last lines of a stream."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockerjail.jail.filter import Filter, Hit, read
from dockerjail.jail.memory import (
    LIFE,
    LINES,
    LONGEST,
    NAMES,
    ROOM,
    SESSIONS,
    TOGETHER,
    Memory,
    Scroll,
    Session,
)
from dockerjail.jail.rule import Rule
from dockerjail.model import Stream

SSH = Rule(
    prefregex=r"^<F-MLFID>app\[\d+\]</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$",
    failregex=(
        "^<F-NOFAIL>hello</F-NOFAIL> from <ADDR>$",
        "^fail(?: of <F-USER>.*</F-USER>)?(?: from <ADDR>)?$",
        "^<F-NOFAIL>try</F-NOFAIL> of <F-USER>.*</F-USER>$",
        "^<F-NOFAIL><F-MLFFORGET>close</F-MLFFORGET></F-NOFAIL>(?: from <ADDR>)?$",
        "^<F-MLFGAINED>welcome</F-MLFGAINED> <F-USER>.*</F-USER>$",
    ),
)


class Log:
    """A filter and what it remembers of one container; lines are a second apart."""

    def __init__(self, rule: Rule = SSH) -> None:
        self.filter = Filter(rule)
        self.memory = Memory(rule.maxlines)
        self.now = 1000.0

    def __call__(self, text: str, stream: Stream = Stream.STDOUT) -> Hit | None:
        self.now += 1
        return self.filter.judge(read(text, self.now, stream), self.memory)

    def who(self, text: str, stream: Stream = Stream.STDOUT) -> str | None:
        hit = self(text, stream)
        return None if hit is None else str(hit.address)


@pytest.fixture
def log() -> Log:
    return Log()


# Connections


def test_an_address_of_an_earlier_line_counts(log: Log) -> None:
    assert log("app[1]: hello from 203.0.113.7") is None
    assert log.who("app[1]: fail of bob") == "203.0.113.7"
    assert log.who("app[1]: fail of bob") == "203.0.113.7"


def test_a_failure_without_an_address_waits_for_one(log: Log) -> None:
    assert log("app[1]: fail of bob") is None
    assert log.who("app[1]: close from 203.0.113.7") == "203.0.113.7"


def test_failures_that_wait_are_one_failure_with_all_its_lines(log: Log) -> None:
    log("app[1]: fail of bob")
    log("app[1]: fail of eve")
    hit = log("app[1]: close from 203.0.113.7")
    assert hit is not None
    assert hit.lines == (
        "app[1]: fail of bob",
        "app[1]: fail of eve",
        "app[1]: close from 203.0.113.7",
    )
    assert hit.fields["users"] == "bob, eve"


def test_a_connection_knows_nothing_of_another(log: Log) -> None:
    log("app[1]: hello from 203.0.113.7")
    assert log("app[2]: fail of bob") is None
    assert log.who("app[2]: close from 203.0.113.8") == "203.0.113.8"
    assert log.who("app[1]: fail of bob") == "203.0.113.7"


def test_a_connection_that_is_closed_is_forgotten(log: Log) -> None:
    log("app[1]: hello from 203.0.113.7")
    assert log("app[1]: close") is None
    assert len(log.memory) == 0
    assert log("app[1]: fail of bob") is None


def test_a_line_marked_as_no_failure_is_none(log: Log) -> None:
    log("app[1]: hello from 203.0.113.7")
    assert log("app[1]: try of bob") is None
    assert log("app[1]: welcome bob") is None


def test_who_tries_two_names_before_he_gets_in_has_failed(log: Log) -> None:
    log("app[1]: hello from 203.0.113.7")
    log("app[1]: try of root")
    hit = log("app[1]: welcome bob")
    assert hit is not None
    assert (str(hit.address), hit.fields["users"]) == ("203.0.113.7", "bob, root")


def test_getting_in_settles_a_failure_that_waits(log: Log) -> None:
    log("app[1]: fail of bob")
    log("app[1]: welcome bob")
    assert log("app[1]: close from 203.0.113.7") is None


def test_lines_of_a_failure_do_not_go_with_the_next(log: Log) -> None:
    log("app[1]: hello from 203.0.113.7")
    first, second = log("app[1]: fail of bob"), log("app[1]: fail of bob")
    assert first is not None
    assert second is not None
    assert first.lines == ("app[1]: hello from 203.0.113.7", "app[1]: fail of bob")
    assert second.lines == ()


def test_a_second_name_for_the_user_counts_in_its_own_line_only() -> None:
    user = r"(?: of <F-USER>\w+</F-USER>)?(?: or <F-ALT_USER_1>\w+</F-ALT_USER_1>)?"
    log = Log(Rule(failregex=(rf"^<F-MLFID>\w+</F-MLFID>: fail from <ADDR>{user}$",)))
    log("a: fail from 203.0.113.7 or eve")
    hit = log("a: fail from 203.0.113.7 of bob")
    assert hit is not None
    assert hit.fields == {"user": "bob", "users": "bob, eve"}


@pytest.mark.parametrize(("pause", "known"), [(LIFE - 2, True), (LIFE - 1, False), (1e6, False)])
def test_a_connection_is_remembered_from_its_first_line_on(pause: float, known: bool) -> None:
    log = Log()
    log("app[1]: hello from 203.0.113.7")
    log.now += pause
    assert (log("app[1]: fail of bob") is not None) is known


def test_a_later_line_does_not_make_it_live_longer(log: Log) -> None:
    log("app[1]: hello from 203.0.113.7")
    log.now += LIFE - 10
    assert log("app[1]: fail of bob") is not None
    log.now += 10
    assert log("app[1]: fail of bob") is None


def test_a_clock_that_was_set_back_keeps_no_connection_alive(log: Log) -> None:
    log("app[1]: hello from 203.0.113.7")
    log.now -= 2 * LIFE
    assert log("app[1]: fail of bob") is None


def test_of_too_many_connections_the_one_opened_first_is_forgotten(log: Log) -> None:
    for number in range(SESSIONS + 1):
        log(f"app[{number}]: hello from 203.0.113.7")
        log.now -= 1
    assert len(log.memory) == SESSIONS
    assert log("app[0]: fail of bob") is None  # which opens it anew, for the next one
    assert log("app[1]: fail of bob") is None
    assert log.who(f"app[{SESSIONS}]: fail of bob") == "203.0.113.7"


def _characters(known: tuple[str, Session]) -> int:
    key, session = known
    return sum(map(len, (key, *filter(None, session.groups.values()), *session.users))) + sum(
        map(len, (*session.lines, *session.aside))
    )


def test_connections_with_long_lines_are_bounded_in_all_and_what_is_forgotten_is_counted() -> None:
    memory = Memory()
    for number in range(3 * SESSIONS):
        found = {"mlfid": f"{number}", "nofail": "x", "note": f"{number:0{LONGEST}}"}
        for _ in range(LINES):
            memory.join({**found}, "x" * 2 * LONGEST, 1000.0 + number / 10)
        if number % 50 == 0:
            assert sum(map(_characters, memory.sessions())) <= ROOM
    assert 0 < len(memory) < SESSIONS
    assert memory.forgotten + len(memory) == 3 * SESSIONS
    assert 1290.0 < memory.forgotten_at < 1300.0
    memory.join({"mlfid": "late", "nofail": "x"}, "x", 5000.0)
    assert memory.forgotten + len(memory) <= 3 * SESSIONS + 1


def test_who_lost_count_of_the_room_finds_it_again() -> None:
    memory = Memory()
    for number in range(10):
        memory.join({"mlfid": f"{number}", "nofail": "x"}, "x", 1000.0)
    memory._size += 2 * ROOM  # as if a line that took too long had been interrupted here
    memory.join({"mlfid": "10", "nofail": "x"}, "x", 1000.0)
    assert (len(memory), memory.forgotten) == (11, 0)


def test_what_is_kept_of_a_connection_is_bounded() -> None:
    memory = Memory()
    for number in range(10 * LINES):
        user = f"{number} {'x' * 5000}"
        found = {"mlfid": "x" * 99999, "user": user, "kind": user}
        assert memory.join(found, user, 1000.0) is None
    joined = memory.join({"mlfid": "x" * 99999, "ip4": "203.0.113.7"}, "end", 1001.0)
    assert joined is not None
    assert len(joined.lines) == LINES
    assert len(joined.users) == NAMES
    kept = [*joined.lines, *joined.users, *filter(None, joined.groups.values())]
    assert max(map(len, kept)) == LONGEST


def test_the_names_that_go_with_a_failure_are_shortened_as_any_capture(log: Log) -> None:
    log("app[1]: hello from 203.0.113.7")
    log(f"app[1]: fail of {'x' * 200}")
    hit = log(f"app[1]: fail of {'y' * 200}")
    assert hit is not None
    assert len(hit.fields["users"]) == 256


def test_an_id_that_is_empty_joins_nothing() -> None:
    log = Log(Rule(failregex=(r"^<F-MLFID>\d*</F-MLFID>(?:hello from <ADDR>|fail)$",)))
    assert log.who("hello from 203.0.113.7") == "203.0.113.7"
    hit = log("fail")
    assert hit is not None
    assert hit.address is None


@given(st.lists(st.sampled_from(("hello from 203.0.113.7", "fail", "try of bob", "close"))))
def test_two_connections_in_turn_are_judged_as_each_alone(texts: list[str]) -> None:
    alone, both = Log(), Log()
    for text in texts:
        expected = alone(f"app[1]: {text}")
        found = [both(f"app[{number}]: {text}") for number in (1, 2)]
        assert [hit and hit.address for hit in found] == [expected and expected.address] * 2
        both.now -= 1


# The last lines of a stream

LATER = Rule(failregex=(r"^denied$<SKIPLINES>^client <ADDR>$",), maxlines=3)


def test_a_failure_in_several_lines_is_found_with_the_last() -> None:
    log = Log(LATER)
    assert log("denied") is None
    hit = log("client 203.0.113.7")
    assert hit is not None
    assert (str(hit.address), hit.lines) == ("203.0.113.7", ("denied", "client 203.0.113.7"))


def test_lines_between_may_be_skipped_and_are_not_part_of_it() -> None:
    log = Log(LATER)
    log("denied")
    log("noise")
    hit = log("client 203.0.113.7")
    assert hit is not None
    assert hit.lines == ("denied", "client 203.0.113.7")


def test_no_more_lines_are_seen_at_once_than_the_rule_says() -> None:
    log = Log(LATER)
    for text in ("denied", "noise", "noise"):
        log(text)
    assert log("client 203.0.113.7") is None


SEVERAL = (
    Rule(failregex=(r"^denied$<SKIPLINES>^client <ADDR>$",), maxlines=3),
    Rule(failregex=(r"^denied\n.*client <ADDR>$", r"(?:refus|den)ied\nwho: <ADDR>$"), maxlines=4),
    Rule(failregex=("(?i)^DENIED$<SKIPLINES>^client <ADDR>$",), maxlines=2),
    Rule(
        failregex=(r"^a \S+<SKIPLINES>^client <ADDR>$",),
        prefregex=".*<F-CONTENT>.+</F-CONTENT>",
        maxlines=3,
    ),
)


@pytest.mark.parametrize("rule", SEVERAL)
@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *("denied", "2005-01-23 21:59:59 denied", "Denied", "refused", "noise", "a b"),
                *("client 203.0.113.7", "who: 203.0.113.8", "x client 203.0.113.9"),
            ]
        ),
        max_size=14,
    )
)
def test_lines_that_cannot_be_a_failure_are_told_without_their_regexes(
    rule: Rule, texts: list[str]
) -> None:
    quick, slow = Log(rule), Log(rule)
    slow.filter._keys = ()
    for text in texts:
        assert quick(text) == slow(text)
        scrolls = [log.memory.scroll(Stream.STDOUT).lines for log in (quick, slow)]
        assert scrolls[0] == scrolls[1]


def test_of_long_lines_fewer_are_seen_at_once_and_always_the_last() -> None:
    """Each line has all of them searched again: long ones would stall the daemon."""
    scroll = Scroll(100)
    for number in range(100):
        text = scroll.add(f"{number} {'x' * 16_000}\n")
        assert len(text) <= TOGETHER
        assert text.splitlines()[-1].startswith(f"{number} ")
    assert len(scroll.add("y" * 2 * TOGETHER + "\n")) > TOGETHER


@pytest.mark.parametrize("prefregex", ["", ".*web: <F-CONTENT>.*</F-CONTENT>$"])
def test_a_regex_that_begins_with_any_text_finds_its_line_among_several(prefregex: str) -> None:
    log = Log(Rule(failregex=(".*denied <ADDR>",), prefregex=prefregex, maxlines=3))
    log("noise")
    assert log.who("web: denied 203.0.113.7") == "203.0.113.7"
    assert log("noise") is None


def test_a_line_counts_in_one_failure_only() -> None:
    log = Log(LATER)
    log("denied")
    assert log("client 203.0.113.7") is not None
    assert log("client 203.0.113.7") is None


def test_a_skipped_line_may_still_be_part_of_another_failure() -> None:
    log = Log(Rule(failregex=("^a$<SKIPLINES>^A <ADDR>$", "^b$<SKIPLINES>^B <ADDR>$"), maxlines=4))
    log("a")
    log("b")
    assert log.who("A 203.0.113.7") == "203.0.113.7"
    assert log.who("B 203.0.113.8") == "203.0.113.8"


def test_the_lines_of_stdout_and_stderr_are_not_mixed() -> None:
    log = Log(LATER)
    log("denied", Stream.STDERR)
    assert log("client 203.0.113.7") is None
    assert log.who("client 203.0.113.8", Stream.STDERR) == "203.0.113.8"


def test_a_line_to_be_ignored_hides_no_failure_behind_it() -> None:
    log = Log(Rule(failregex=LATER.failregex, ignoreregex=("monitor", "8$"), maxlines=3))
    log("monitor was here")
    log("denied")
    assert log.who("client 203.0.113.7") == "203.0.113.7"
    log("denied")
    assert log("client 203.0.113.8") is None


def test_dates_are_cut_from_each_of_several_lines() -> None:
    log = Log(LATER)
    log("2005-01-23 21:59:59 denied")
    assert log("2005-01-23 21:59:59 client 203.0.113.7") is None  # a blank is left
    log = Log(Rule(failregex=(r"^ denied\n client <ADDR>$",), maxlines=2))
    log("2005-01-23 21:59:59 denied")
    assert log.who("2005-01-23 21:59:59 client 203.0.113.7") == "203.0.113.7"


@given(st.lists(st.text("ab", max_size=3), max_size=6), st.data())
def test_what_a_match_touches_is_taken_and_the_rest_stays(
    texts: list[str], data: st.DataObject
) -> None:
    scroll = Scroll(10)
    scroll.lines.extend(f"{text}\n" for text in texts)
    length = sum(map(len, scroll.lines))
    start = data.draw(st.integers(0, length))
    end = data.draw(st.integers(start, length))
    before = list(scroll.lines)
    taken = [f"{line}\n" for line in scroll.take(start, end, [])]
    kept = list(scroll.lines)
    at = 0
    for line in before:
        touched = at < end and at + len(line) > start
        where = taken if touched else kept
        assert where.pop(0) == line
        at += len(line)
    assert taken == kept == []
