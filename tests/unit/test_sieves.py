"""Which engine a log gets, and what happens when one holds a line back."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from dockerjail.errors import Overdue
from dockerjail.jail import audit, sieves
from dockerjail.jail import sieve as sieve_module
from dockerjail.jail.engine import Engine, plain
from dockerjail.jail.filter import Filter, Hit, Reading
from dockerjail.jail.hyperscan import Hyperscan, Unavailable
from dockerjail.jail.jail import Bench, Jails
from dockerjail.jail.memory import Memory
from dockerjail.jail.patience import Watch
from dockerjail.jail.policy import JailPolicy, Origin
from dockerjail.jail.rule import Rule
from dockerjail.jail.sieve import Plan
from dockerjail.jail.sieves import BUSY, REST, SAMPLE, Sieves
from dockerjail.jail.skeleton import Chain, Group
from dockerjail.model import Chunk, Container, Cursor, Failure, Stream
from tests.unit.engines import needs_native

STAMP = "2026-11-22T10:52:40.409746684Z "
WEB = Container(id="4f" * 32, name="web", service="web")
LOGIN = "login failed for .* from <HOST>"
SSHD = (
    "^<F-MLFID>conn \\d+</F-MLFID>: <F-NOFAIL>opened</F-NOFAIL> by <ADDR>$",
    "^<F-MLFID>conn \\d+</F-MLFID>: wrong password$",
)


def chunk(*lines: str, times: int = 1) -> Chunk:
    data = "".join(f"{STAMP}{line}\n" for line in lines).encode() * times
    return Chunk(container=WEB, stream=Stream.STDOUT, data=data, cursor=Cursor(0, 1))


def policy(*failregex: str, name: str = "login") -> JailPolicy:
    rule = Rule(failregex=failregex)
    return JailPolicy(name=name, origin=Origin.DAEMON, rule=rule, maxretry=10**6)


def seat(owner: Sieves, *policies: JailPolicy, watch: Watch | None = None) -> Bench:
    return Jails(sieves=owner, watch=watch).bench(WEB, policies or [policy(LOGIN)])


def failed(number: int) -> str:
    return f"login failed for bob from 203.0.113.{number}"


def failures(bench: Bench, *chunks: Chunk) -> list[tuple[str, str]]:
    entries = [entry for each in chunks for entry in bench.judge(each).entries]
    return [
        (entry.jail, str(entry.subject.network_address))
        for entry in entries
        if isinstance(entry, Failure)
    ]


class Broken(Hyperscan):
    """A library that finds nothing, once it is past its test."""

    def __init__(self) -> None:
        self.version = "0.9.9"
        self.broken = False
        self.meanwhile: Callable[[], object] = lambda: None

    def chains(self, chains: Mapping[int, Chain]) -> Engine:
        return self.literals(chains)

    def literals(self, chains: Mapping[int, Chain], sample: bytes = b"") -> Engine:
        search = plain(chains, sample)
        self.meanwhile()
        return lambda data: {} if self.broken else search(data)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broken]:
    library = Broken()
    monkeypatch.setattr(sieves, "Hyperscan", lambda: library)
    return library


MUCH = chunk("nothing to see here", times=SAMPLE // 40)
"""Enough of a log for it to be known."""


# -- which engine ----------------------------------------------------------------


def test_nothing_is_loaded_before_a_log_has_said_what_it_is_like(broken: Broken) -> None:
    owner = Sieves()
    bench = seat(owner)
    failures(bench, chunk(failed(1)))
    assert owner.engine == "python"
    failures(bench, MUCH, MUCH)
    assert owner.engine == "hyperscan 0.9.9"


def test_a_log_of_small_chunks_is_known_in_time(broken: Broken) -> None:
    owner = Sieves()
    bench = seat(owner)
    for _ in range(SAMPLE // 20):
        failures(bench, chunk("nothing to see here"))
    assert owner.engine == "hyperscan 0.9.9"


def test_without_the_library_all_goes_on_and_it_is_said_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> Hyperscan:
        raise Unavailable("hyperscan is not installed; pip install dockerjail[fast]")

    monkeypatch.setattr(sieves, "Hyperscan", missing)
    owner = Sieves()
    bench = seat(owner)
    assert len(failures(bench, MUCH, MUCH, chunk(failed(1)))) == 1
    assert owner.engine == "python"
    assert owner.why == "hyperscan is not installed; pip install dockerjail[fast]"
    assert owner.problems == []


def test_the_library_is_not_even_looked_for_when_it_is_turned_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never() -> Hyperscan:
        raise AssertionError("looked for")

    monkeypatch.setattr(sieves, "Hyperscan", never)
    owner = Sieves(native=False)
    assert len(failures(seat(owner), MUCH, MUCH, chunk(failed(1)))) == 1
    assert owner.engine == "python"


def test_engines_are_made_elsewhere_and_taken_over_here() -> None:
    asked = []
    owner = Sieves(wanted=lambda: asked.append(1))
    bench = seat(owner)
    failures(bench, MUCH, MUCH)
    assert asked
    assert owner.engine == "python"
    maker = threading.Thread(target=owner.prepare)
    maker.start()
    while maker.is_alive():
        assert len(failures(bench, chunk(failed(1)))) == 1
    maker.join()
    owner.settle()
    assert len(failures(bench, chunk(failed(2)))) == 1
    assert owner.why or owner.engine.startswith("hyperscan")


def test_the_fastest_engine_on_the_log_itself_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    took: dict[str, float] = {}
    now = [0.0]

    class Timed(Broken):
        def chains(self, chains: Mapping[int, Chain]) -> Engine:
            return self._timed("chains", chains)

        def literals(self, chains: Mapping[int, Chain], sample: bytes = b"") -> Engine:
            return self._timed("literals", chains)

        def _timed(self, name: str, chains: Mapping[int, Chain]) -> Engine:
            search = plain(chains)

            def engine(data: bytes) -> dict[int, int]:
                now[0] += took[name]
                used.append(name)
                return search(data)

            return engine

    used: list[str] = []
    monkeypatch.setattr(sieves, "Hyperscan", Timed)
    monkeypatch.setattr(sieves, "FEW", 0)
    busy = chunk("nothing to see here", times=BUSY // 50)
    for slow, fast in (("chains", "literals"), ("literals", "chains")):
        took.update({slow: 2.0, fast: 1.0})
        bench = seat(Sieves(clock=lambda: now[0]))
        failures(bench, busy, busy)
        used.clear()
        assert len(failures(bench, chunk(failed(1)))) == 1
        assert used == [fast]


def test_logs_with_the_same_filters_share_what_takes_long_to_make(broken: Broken) -> None:
    owner = Sieves()
    one, other = seat(owner), seat(owner)
    failures(one, MUCH)
    failures(other, MUCH)
    plans = {
        id(gate.sifter._sieve.plan) for bench in (one, other) for gate in bench._gates.values()
    }
    assert len(plans) == 1


@needs_native
def test_a_busy_log_leads_to_the_same_failures_with_every_engine() -> None:
    policies = [
        policy(LOGIN),
        policy('"GET .*(?:wp-login|xmlrpc)\\.php.*" 404 .* <HOST>', name="web"),
        policy("(?i)denied: <HOST>", "refused: <HOST>", name="deny"),
        policy(*SSHD, name="sshd"),
    ]
    lines = [
        'x "GET /index.html HTTP/1.1" 200 5',
        'x "GET /wp-login.php HTTP/1.1" 404 - 203.0.113.1',
        "DENIED: 203.0.113.2",
        "DEN\u0130ED: 203.0.113.3",
        "conn 1: opened by 203.0.113.4",
        "conn 1: wrong password",
        failed(5),
    ]
    noise = ["nothing to see here", "conn 9: closed"] * 30
    chunks = [chunk(*noise, *lines, times=n % 7 * 20 + 1) for n in range(30)]
    native, pure = Sieves(), Sieves(native=False)
    found = failures(seat(native, *policies), *chunks)
    assert native.engine.startswith("hyperscan")
    assert found == failures(seat(pure, *policies), *chunks)
    assert {jail for jail, _ in found} == {f"{each.name}@web" for each in policies}


def test_a_log_in_which_most_lines_concern_one_jail_is_sifted_for_the_others() -> None:
    filters = [
        Filter(policy(LOGIN).rule),
        *(Filter(Rule(failregex=(f"x{n} <HOST>",))) for n in range(9)),
    ]
    sifter = Sieves(native=False).sifter(filters, ["a"] * 10)
    for _ in range(3 * REST):
        for _, _, which in sifter.candidates(chunk(failed(1), times=100).data):
            assert which == (0,)


def test_a_log_in_which_most_lines_concern_all_is_not_sifted_for_a_while() -> None:
    sifter = Sieves(native=False).sifter([Filter(policy(LOGIN).rule)], ["login@web"])
    crowd, noise = chunk(failed(1), times=100).data, chunk("noise", times=100).data
    assert sifter.candidates(noise) == []
    assert len(sifter.candidates(crowd)) == 100
    for _ in range(REST):
        assert len(sifter.candidates(noise)) == 100
    assert sifter.candidates(noise) == []


def test_a_small_chunk_says_nothing_of_the_next() -> None:
    sifter = Sieves(native=False).sifter([Filter(policy(LOGIN).rule)], ["login@web"])
    assert len(sifter.candidates(chunk(failed(1)).data)) == 1
    assert sifter.candidates(chunk("noise").data) == []


# -- the test at the start, and the audit -----------------------------------------


def test_an_engine_that_fails_its_test_is_never_used(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.broken = True
    owner = Sieves()
    bench = seat(owner)
    assert len(failures(bench, MUCH, MUCH, chunk(failed(1)))) == 1
    assert owner.engine == "python"
    (problem,) = owner.problems
    assert "hyperscan 0.9.9 fails its test" in problem.what


def judged(owner: Sieves, bench: Bench) -> list[tuple[str, str]]:
    assert owner.engine.startswith("hyperscan")
    return failures(bench, chunk("hello", failed(1), failed(2), "bye"), chunk(failed(3)))


def test_a_line_that_an_engine_holds_back_counts_all_the_same(broken: Broken) -> None:
    owner = Sieves(audit=1)
    bench = seat(owner)
    failures(bench, MUCH, MUCH)
    broken.broken = True
    found = judged(owner, bench)
    assert [address for _, address in found] == ["203.0.113.1", "203.0.113.2", "203.0.113.3"]


def test_an_engine_that_holds_a_line_back_is_given_up_everywhere(broken: Broken) -> None:
    owner = Sieves(audit=1)
    bench, other = seat(owner), seat(owner, policy("denied: <HOST>"))
    failures(bench, MUCH, MUCH)
    failures(other, MUCH, MUCH)
    broken.broken = True
    judged(owner, bench)
    assert owner.engine == "python"
    assert owner.overlooked == 2
    problem = owner.problems[0]
    assert problem.place == "jail login@web"
    assert "hyperscan 0.9.9" in problem.what
    assert "xxxxx xxxxxx xxx xxx xxxx 999.9.999.9" in problem.what
    assert "bob" not in str(problem)
    owner.audit = 0
    assert len(failures(other, chunk("denied: 203.0.113.9"))) == 1


def test_what_was_being_made_when_an_engine_is_given_up_is_not_used(broken: Broken) -> None:
    owner = Sieves(audit=1, wanted=lambda: None)
    bench = seat(owner)
    failures(bench, MUCH, MUCH)
    owner.prepare()
    owner.settle()
    late = seat(owner)
    failures(late, MUCH, MUCH)

    def found_out() -> None:
        broken.meanwhile = lambda: None
        broken.broken = True
        judged(owner, bench)

    broken.meanwhile = found_out
    owner.prepare()
    owner.settle()
    assert owner.overlooked
    owner.audit = 0
    assert len(failures(late, chunk(failed(1)))) == 1


def test_a_filter_of_which_a_wrong_thing_is_looked_for_sees_every_line_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(pattern: str, prefregex: str) -> Chain:
        return (Group((b"never there",), folded=False),)

    monkeypatch.setattr(sieve_module, "_chain", wrong)
    owner = Sieves(native=False, audit=2)
    bench, other = seat(owner), seat(owner, policy(LOGIN), policy("x <HOST>", name="x"))
    assert failures(bench, chunk(failed(1))) == []  # not audited
    assert failures(other, chunk(failed(1))) == []
    assert len(failures(bench, chunk("hello", failed(2), failed(3)))) == 2
    assert owner.overlooked == 1  # it is always shown by the second
    assert len(failures(bench, chunk(failed(4)))) == 1
    assert len(failures(other, chunk(failed(5)))) == 1
    (problem,) = owner.problems
    assert "sees every line from now on" in problem.what
    late = seat(owner, policy(LOGIN), policy("y <HOST>", name="y"))
    assert len(failures(late, chunk(failed(6)))) == 1


@pytest.mark.parametrize("every", [0, 1, 3])
def test_an_audit_changes_nothing_where_nothing_was_held_back(every: int) -> None:
    chunks = [
        chunk("conn 1: opened by 203.0.113.4", failed(n), "noise", "conn 1: wrong password")
        for n in range(9)
    ]
    owner = Sieves(audit=every)
    bench = seat(owner, policy(LOGIN), policy(*SSHD, name="sshd"))
    found = failures(bench, *chunks)
    plainly = seat(Sieves(native=False), policy(LOGIN), policy(*SSHD, name="sshd"))
    assert found == failures(plainly, *chunks)
    assert owner.audited == (len(chunks) // every if every else 0)
    assert (owner.overlooked, owner.problems) == (0, [])
    assert [jail.lines_matched for jail in bench.jails] == [
        jail.lines_matched for jail in plainly.jails
    ]


def test_a_line_of_a_connection_that_is_held_back_is_noticed(broken: Broken) -> None:
    owner = Sieves(audit=1)
    bench = seat(owner, policy(*SSHD, name="sshd"))
    failures(bench, MUCH, MUCH)
    broken.broken = True
    found = failures(bench, chunk("conn 1: opened by 203.0.113.4", "conn 1: wrong password"))
    assert found == [("sshd@web", "203.0.113.4")]


def audited(filters: list[Filter], data: bytes, number: int, watch: Watch) -> tuple[int, int]:
    """Run one audit of a sieve that shows nothing; return how often it yields, and finds."""
    going = audit.overlooked(Plan(filters), data, [], number, watch)
    turns = 0
    while True:
        try:
            next(going)
        except StopIteration as end:
            return turns, len(end.value)
        turns += 1


def test_an_audit_is_bounded_and_looks_at_another_part_each_time() -> None:
    filters = [Filter(Rule(failregex=(f"failed {n} <HOST>",))) for n in range(100)]
    data = chunk("failed 7 203.0.113.1", times=400).data
    share = audit.JUDGED // len(filters)
    assert audited(filters, data, 0, Watch()) == (0, share)
    first = audit.overlooked(Plan(filters), data, [], 0, Watch())
    second = audit.overlooked(Plan(filters), data, [], 1, Watch())
    places = []
    for going in (first, second):
        with pytest.raises(StopIteration) as end:
            next(going)
        places.append({start for start, _, _ in end.value.value})
    assert not places[0] & places[1]


def test_an_audit_lets_others_have_their_turn_and_ends_when_it_takes_long() -> None:
    class Ticking(Watch):
        """A timer that ticks whenever it is looked at."""

        @property
        def due(self) -> bool:  # type: ignore[override]
            return True

        @due.setter
        def due(self, _: bool) -> None: ...

    turns, _ = audited([Filter(policy(LOGIN).rule)], chunk("x", times=400).data, 0, Ticking())
    assert turns == audit.TURNS


def test_an_audit_goes_on_behind_a_line_that_takes_too_long() -> None:
    class Slow(Filter):
        def judge(self, line: Reading, memory: Memory | None = None) -> Hit | None:
            if "slow" in line.whole:
                raise Overdue
            return super().judge(line, memory)

    watch = Watch()
    data = chunk("slow", failed(1), "slow").data
    assert audited([Slow(policy(LOGIN).rule)], data, 0, watch) == (0, 1)
    assert not watch.busy


def test_what_is_told_of_a_line_says_nothing_of_its_words() -> None:
    assert (
        audit.shape(b"user b\xc3\xb6b7 from 203.0.113.7\xff") == "xxxx xxx9 xxxx 999.9.999.9\ufffd"
    )


def test_a_jail_that_goes_on_by_another_rule_is_sifted_by_that() -> None:
    jails = Jails(sieves=Sieves())
    bench = jails.bench(WEB, [policy(LOGIN)])
    assert len(failures(bench, MUCH, MUCH, chunk(failed(1)))) == 1
    changed: Any = replace(policy("denied: <HOST>"))
    bench = jails.bench(WEB, [changed])
    assert len(failures(bench, MUCH, MUCH, chunk(failed(1), "denied: 203.0.113.8"))) == 1
