"""Chunks in, failures and offences out, for the jails of a container."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.jail.ignore import Ignore
from dockerjail.jail.jail import CROWD, IDLE, LONGEST_LINE, Bench, Jails, Outcome
from dockerjail.jail.policy import JailPolicy, Origin
from dockerjail.jail.rule import Format, Rule, UseDns
from dockerjail.jail.sieves import REST
from dockerjail.jail.window import ONCE
from dockerjail.model import Chunk, Container, Cursor, Failure, Offence, Stream

WEB = Container(id="4f" * 32, name="shop-web-1", service="shop-web")
POLICY = JailPolicy(
    name="login",
    origin=Origin.DAEMON,
    rule=Rule(failregex=("failed login of <F-USER>.*</F-USER> from <HOST>",)),
    maxretry=3,
)
AT = 1795344760.0
"""2026-11-22T10:52:40Z"""


def stamp(second: int) -> bytes:
    return b"2026-11-22T10:%02d:%02d.000000000Z" % divmod(52 * 60 + 40 + second, 60)


def chunk(
    *texts: str | bytes, container: Container = WEB, stream: Stream = Stream.STDOUT, at: int = 0
) -> Chunk:
    """Make a chunk whose lines are a second apart."""
    data = b"".join(
        stamp(at + n) + b" " + (text.encode() if isinstance(text, str) else text) + b"\n"
        for n, text in enumerate(texts)
    )
    return Chunk(container=container, stream=stream, data=data, cursor=Cursor(int(AT) * 10**9, 1))


def failed(address: str, user: str = "bob") -> str:
    return f"failed login of {user} from {address}"


def seat(*policies: JailPolicy, jails: Jails | None = None, container: Container = WEB) -> Bench:
    return (jails or Jails()).bench(container, policies or (POLICY,))


def kinds(entries: Sequence[Failure | Offence]) -> list[str]:
    return [
        f"{type(entry).__name__} {entry.jail.partition('@')[0]} {entry.subject}"
        for entry in entries
    ]


def test_a_failure_says_who_when_where_and_what() -> None:
    verdict = seat().judge(chunk("hello", failed("203.0.113.7")))
    assert verdict.entries == [
        Failure(
            jail="login@shop-web",
            subject=ip_network("203.0.113.7/32"),
            at=AT + 1,
            container="shop-web-1",
            text="failed login of bob from 203.0.113.7",
            fields={"user": "bob"},
        )
    ]
    assert not verdict.ignored


def test_an_offence_follows_the_failure_that_completes_it() -> None:
    verdict = seat().judge(chunk(*[failed("203.0.113.7")] * 3, failed("203.0.113.8")))
    assert kinds(verdict.entries) == [
        "Failure login 203.0.113.7/32",
        "Failure login 203.0.113.7/32",
        "Failure login 203.0.113.7/32",
        "Offence login 203.0.113.7/32",
        "Failure login 203.0.113.8/32",
    ]
    offence = verdict.entries[3]
    assert isinstance(offence, Offence)
    assert (offence.at, offence.failures) == (AT + 2, 3)


def test_an_offence_names_the_container_and_the_address_of_its_last_failure() -> None:
    jails = Jails()
    twin = replace(WEB, id="5a" * 32, name="shop-web-2")
    wide = replace(POLICY, ipv4_prefix=24)
    seat(wide, jails=jails).judge(chunk(failed("203.0.113.7"), failed("203.0.113.8")))
    verdict = seat(wide, jails=jails, container=twin).judge(
        chunk(failed("203.0.113.9"), at=2, container=twin)
    )
    offence = verdict.entries[-1]
    assert isinstance(offence, Offence)
    assert (offence.container, offence.address) == ("shop-web-2", ip_address("203.0.113.9"))
    assert offence.subject == ip_network("203.0.113.0/24")


def test_failures_add_up_over_chunks_and_streams() -> None:
    bench = seat()
    bench.judge(chunk(failed("203.0.113.7")))
    bench.judge(chunk(failed("203.0.113.7"), at=1, stream=Stream.STDERR))
    assert "Offence login 203.0.113.7/32" in kinds(
        bench.judge(chunk(failed("203.0.113.7"), at=2)).entries
    )


def test_a_jail_reads_only_its_streams() -> None:
    bench = seat(replace(POLICY, streams=frozenset({Stream.STDERR})))
    assert not bench.judge(chunk(failed("203.0.113.7"))).entries
    assert bench.judge(chunk(failed("203.0.113.7"), stream=Stream.STDERR)).entries


def test_the_jails_of_a_container_judge_apart_in_their_order() -> None:
    other = replace(
        POLICY, name="other", rule=Rule(failregex=("login .* from <HOST>",)), maxretry=1
    )
    verdict = seat(POLICY, other).judge(chunk(failed("203.0.113.7"), "login x from 203.0.113.8"))
    assert kinds(verdict.entries) == [
        "Failure login 203.0.113.7/32",
        "Failure other 203.0.113.7/32",
        "Offence other 203.0.113.7/32",
        "Failure other 203.0.113.8/32",
        "Offence other 203.0.113.8/32",
    ]


def test_replicas_share_their_counters() -> None:
    jails = Jails()
    twin = replace(WEB, id="5a" * 32, name="shop-web-2")
    first, second = seat(jails=jails), seat(jails=jails, container=twin)
    first.judge(chunk(failed("203.0.113.7"), failed("203.0.113.7")))
    verdict = second.judge(chunk(failed("203.0.113.7"), at=2, container=twin))
    assert kinds(verdict.entries)[-1] == "Offence login 203.0.113.7/32"
    assert len(list(jails)) == 1


def test_services_do_not_share_counters() -> None:
    jails = Jails()
    other = replace(WEB, id="5a" * 32, name="blog", service="blog")
    seat(jails=jails).judge(chunk(failed("203.0.113.7"), failed("203.0.113.7")))
    verdict = seat(jails=jails, container=other).judge(
        chunk(failed("203.0.113.7"), container=other)
    )
    assert kinds(verdict.entries) == ["Failure login 203.0.113.7/32"]
    assert sorted(jail.name for jail in jails) == ["login@blog", "login@shop-web"]


def test_a_changed_policy_keeps_the_counters_also_of_those_who_sit_already() -> None:
    jails = Jails()
    old = seat(jails=jails)
    old.judge(chunk(failed("203.0.113.7")))
    changed = replace(POLICY, maxretry=2, rule=Rule(failregex=("sorry .* <HOST>",)))
    seat(changed, jails=jails)
    assert not old.judge(chunk(failed("203.0.113.7"), at=1)).entries
    verdict = old.judge(chunk("sorry bob 203.0.113.7", at=2))
    assert kinds(verdict.entries)[-1] == "Offence login 203.0.113.7/32"
    jail = jails.get("login@shop-web")
    assert jail is not None
    assert jail.policy == changed


def test_a_jail_counts_what_it_does() -> None:
    jails = Jails()
    bench = seat(jails=jails)
    bench.judge(
        chunk(
            "x", failed("203.0.113.7"), failed("127.0.0.1"), failed("999.1.1.1"), failed("me.test")
        )
    )
    jail = jails.get("login@shop-web")
    assert jail is not None
    assert (jail.lines_matched, jail.failures_total, jail.refused_total) == (4, 1, 2)
    assert jail.last_failure_at == AT + 1
    assert "me.test" in jail.last_refused
    assert jail.failing(AT + 2) == 1
    assert jail.failing(AT + 601) == 0


def test_who_is_ignored_is_told_and_not_counted() -> None:
    ignore = Ignore({ip_network("172.18.0.1/32"): "gateway of network shop_default"})
    bench = seat(replace(POLICY, ignoreip=(ip_network("198.51.100.0/24"),)), jails=Jails(ignore))
    verdict = bench.judge(chunk(failed("172.18.0.1"), failed("198.51.100.9"), failed("::1")))
    assert not verdict.entries
    assert verdict.ignored == [
        ("login@shop-web", ip_address("172.18.0.1"), "gateway of network shop_default", AT),
        ("login@shop-web", ip_address("198.51.100.9"), "in ignoreip of jail login", AT + 1),
        ("login@shop-web", ip_address("::1"), "a loopback address", AT + 2),
    ]


def test_who_is_ignored_may_change_at_any_time() -> None:
    ignore = Ignore()
    bench = seat(jails=Jails(ignore))
    assert bench.judge(chunk(failed("203.0.113.7"))).entries
    ignore.update({ip_network("203.0.113.7/32"): "an address of this host"})
    assert bench.judge(chunk(failed("203.0.113.7"))).ignored
    ignore.update({})
    assert bench.judge(chunk(failed("203.0.113.7"))).entries


def test_whom_a_jail_exempts_is_ignored_at_once_and_only_there() -> None:
    jails = Jails()
    other = replace(POLICY, name="other")
    bench = seat(POLICY, other, jails=jails)
    assert len(bench.judge(chunk(failed("203.0.113.7"))).entries) == 2
    jail = jails.get("login@shop-web")
    assert jail is not None
    jail.exempt({ip_network("203.0.113.7/32"): "it is office.example.org"})
    verdict = bench.judge(chunk(failed("203.0.113.7"), at=1))
    assert kinds(verdict.entries) == ["Failure other 203.0.113.7/32"]
    assert verdict.ignored == [
        ("login@shop-web", ip_address("203.0.113.7"), "it is office.example.org", AT + 1)
    ]
    jail.exempt({})
    assert len(bench.judge(chunk(failed("203.0.113.7"), at=2)).entries) == 3


def test_whom_a_jail_exempts_stays_so_when_its_policy_changes() -> None:
    jails = Jails()
    bench = seat(jails=jails)
    jail = jails.get("login@shop-web")
    assert jail is not None
    jail.exempt({ip_network("203.0.113.7/32"): "the office"})
    seat(replace(POLICY, ignoreip=(ip_network("198.51.100.0/24"),)), jails=jails)
    assert not bench.judge(chunk(failed("203.0.113.7"), failed("198.51.100.9"))).entries


def test_a_network_with_an_exempted_neighbour_is_not_taken_whole() -> None:
    jails = Jails()
    bench = seat(replace(POLICY, ipv4_prefix=24), jails=jails)
    jail = jails.get("login@shop-web")
    assert jail is not None
    jail.exempt({ip_network("203.0.113.200/32"): "the office"})
    verdict = bench.judge(chunk(failed("203.0.113.7")))
    assert [str(entry.subject) for entry in verdict.entries] == ["203.0.113.7/32"]


def test_a_jail_says_why_it_ignores_somebody_or_a_network_around_him() -> None:
    jails = Jails(Ignore({ip_network("192.0.2.1/32"): "a gateway"}))
    seat(replace(POLICY, ignoreip=(ip_network("198.51.100.0/24"),)), jails=jails)
    jail = jails.get("login@shop-web")
    assert jail is not None
    jail.exempt({ip_network("2001:db8::5/128"): "the office"})
    assert jail.why(ip_address("198.51.100.9")) == "in ignoreip of jail login"
    assert jail.why(ip_network("198.51.100.9/32")) == "in ignoreip of jail login"
    why = jail.why(ip_network("198.51.0.0/16"))
    assert why == "it holds 198.51.100.0/24: in ignoreip of jail login"
    assert jail.why(ip_network("2001:db8::/64")) == "it holds 2001:db8::5: the office"
    assert jail.why(ip_address("2001:db8::6")) is None
    assert jail.why(ip_address("192.0.2.1")) is None


RECIDIVE = JailPolicy(name="recidive", origin=Origin.DAEMON, recidive=True, findtime=86400.0)


def test_a_jail_that_counts_bans_has_a_seat_and_is_shown_no_line() -> None:
    jails = Jails()
    bench = seat(RECIDIVE, POLICY, jails=jails)
    assert [jail.name for jail in bench.jails] == ["recidive@shop-web", "login@shop-web"]
    assert not bench.problems
    jail = jails.get("recidive@shop-web")
    assert jail is not None
    assert (jail.policy, jail.filter, jail.memory(WEB.id)) == (RECIDIVE, None, None)
    verdict = bench.judge(chunk(*[failed("203.0.113.7")] * 3))
    assert {entry.jail for entry in verdict.entries} == {"login@shop-web"}
    assert not seat(RECIDIVE).judge(chunk(failed("203.0.113.7"))).entries


def test_a_jail_may_turn_from_bans_to_lines_and_back() -> None:
    jails = Jails()
    lines = replace(POLICY, name="recidive")
    bench = seat(RECIDIVE, jails=jails)
    seat(lines, jails=jails)
    assert bench.judge(chunk(failed("203.0.113.7"))).entries
    seat(RECIDIVE, jails=jails)
    assert not bench.judge(chunk(failed("203.0.113.7"), at=1)).entries


@pytest.mark.parametrize(
    ("address", "prefixes", "subject"),
    [
        ("2001:db8:0:1:2:3:4:5", (32, 64), "2001:db8:0:1::/64"),
        ("2001:db8:0:1:2:3:4:5", (32, 128), "2001:db8:0:1:2:3:4:5/128"),
        ("203.0.113.7", (24, 64), "203.0.113.0/24"),
        ("::ffff:203.0.113.7", (32, 64), "203.0.113.7/32"),
    ],
)
def test_a_subject_is_the_network_that_the_jail_asks_for(
    address: str, prefixes: tuple[int, int], subject: str
) -> None:
    verdict = seat(replace(POLICY, ipv4_prefix=prefixes[0], ipv6_prefix=prefixes[1])).judge(
        chunk(failed(address))
    )
    assert [str(entry.subject) for entry in verdict.entries] == [subject]


def test_a_network_with_an_ignored_neighbour_is_not_taken_whole() -> None:
    ignore = Ignore({ip_network("2001:db8::5/128"): "an address of this host"})
    verdict = seat(jails=Jails(ignore)).judge(chunk(failed("2001:db8::6")))
    assert [str(entry.subject) for entry in verdict.entries] == ["2001:db8::6/128"]


def test_restored_failures_count_without_a_second_offence() -> None:
    jails = Jails()
    old = [
        Failure(
            jail="login@shop-web",
            subject=ip_network("203.0.113.7/32"),
            at=AT - n,
            container="shop-web-1",
            text="x",
        )
        for n in (3, 2)
    ]
    jails.restore(old[:1])
    bench = seat(jails=jails)
    jails.restore(old[1:])
    assert len(list(jails)) == 1
    assert kinds(bench.judge(chunk(failed("203.0.113.7"))).entries) == [
        "Failure login 203.0.113.7/32",
        "Offence login 203.0.113.7/32",
    ]


def test_a_bad_policy_is_a_problem_and_the_others_run() -> None:
    bad = replace(POLICY, name="bad", rule=Rule(failregex=("no address",)))
    bench = seat(bad, POLICY)
    assert [jail.name for jail in bench.jails] == ["login@shop-web"]
    (problem,) = bench.problems
    assert "shop-web-1" in str(problem)
    assert "jail bad" in str(problem)
    assert "write <HOST>" in str(problem)
    assert bench.judge(chunk(failed("203.0.113.7"))).entries


def test_jails_that_nobody_runs_and_that_count_are_bounded() -> None:
    jails = Jails()
    for number in range(IDLE + 7):
        service = f"shop-{number}"
        container = replace(WEB, id=f"{number}", name=service, service=service)
        bench = jails.bench(container, [POLICY])
        bench.judge(chunk(failed("203.0.113.7"), container=container))
    assert jails.room.used == (IDLE + 7) * ONCE
    names = [jail.name for jail in jails]
    assert jails.retire(names, AT + 1) == 7
    assert [jail.name for jail in jails] == names[7:]
    assert jails.room.used == IDLE * ONCE
    assert jails.retire(names, AT + 1) == 0
    assert jails.retire(names, AT + 601) == 0
    assert (list(jails), jails.room.used) == ([], 0)


def test_who_floods_one_service_takes_nothing_from_another_and_it_is_said() -> None:
    jails = Jails()
    jails.room.most = 500 * ONCE
    other = replace(WEB, id="1", name="blog", service="blog")
    web, blog = seat(jails=jails), seat(jails=jails, container=other)
    blog.judge(chunk(*[failed("203.0.113.7")] * 2, container=other))
    for block in range(100):
        lines = [failed(f"11.{block}.0.{number}") for number in range(60)]
        web.judge(chunk(*lines))
        assert jails.room.used <= jails.room.most
        assert len(web.jails[0]._known) <= CROWD + 1
    (offence,) = [
        each
        for each in blog.judge(chunk(failed("203.0.113.7"), container=other)).entries
        if isinstance(each, Offence)
    ]
    assert offence.jail == "login@blog"
    assert web.jails[0].crowded(AT)[0] > 5000
    assert web.jails[0].crowded(AT + 3600) == blog.jails[0].crowded(AT) == (0, 0)


def test_a_jail_that_counts_nothing_can_be_retired() -> None:
    jails = Jails()
    seat(jails=jails).judge(chunk(failed("203.0.113.7")))
    jails.retire(["login@shop-web", "unknown@x"], AT + 1)
    assert len(list(jails)) == 1
    jails.retire(["login@shop-web"], AT + 601)
    assert len(list(jails)) == 0


def test_a_log_full_of_failures_is_read_as_one_with_few() -> None:
    jails = Jails()
    bench = seat(replace(POLICY, maxretry=10**6), jails=jails)
    total = 0
    for n in range(3 * REST):
        many = ["hello"] * 99 if n >= REST else [failed("203.0.113.7")] * 99
        lines = [*many, failed("203.0.113.7")]
        total += len(bench.judge(chunk(*lines)).entries)
    assert total == 100 * REST + 2 * REST


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"no stamp at all: failed login of x from 203.0.113.7\n",
        b"failedloginofxfrom203.0.113.7\n",
        b"2026-99-99T99:99:99.000000000Z failed login of x from 203.0.113.7\n",
        b"2026-11-22T10:52:40.409746684Z",
        b"2026-11-22T10:52:40.409746684Z \n",
        b" \n \n",
        b"2026-11-22T10:52:40.Z failed login of x from 203.0.113.7\n",
        b"\xff\xff\xff\xff-\xff\xff-\xff\xff failed login of x from 203.0.113.7\n",
    ],
)
def test_a_malformed_line_never_raises(data: bytes) -> None:
    bench = seat()
    verdict = bench.judge(
        Chunk(container=WEB, stream=Stream.STDOUT, data=data, cursor=Cursor(int(AT) * 10**9, 1))
    )
    assert len(verdict.entries) == (b"failed login" in data)


@given(st.binary(max_size=300))
def test_no_bytes_ever_raise(data: bytes) -> None:
    bench = seat(POLICY, replace(POLICY, name="all", rule=Rule(failregex=("<HOST>",))))
    bench.judge(
        Chunk(container=WEB, stream=Stream.STDERR, data=data, cursor=Cursor(int(AT) * 10**9, 1))
    )


def test_a_line_without_a_stamp_has_the_time_of_its_chunk() -> None:
    data = b"failed login of x from 203.0.113.7\n"
    verdict = seat().judge(
        Chunk(container=WEB, stream=Stream.STDOUT, data=data, cursor=Cursor(int(AT) * 10**9, 1))
    )
    assert [entry.at for entry in verdict.entries] == [AT]


def test_a_carriage_return_at_the_end_is_no_part_of_a_line() -> None:
    policy = replace(POLICY, rule=Rule(failregex=("from <HOST>$",)))
    assert seat(policy).judge(chunk("from 203.0.113.7\r")).entries


def test_odd_bytes_are_kept_or_replaced() -> None:
    verdict = seat().judge(chunk(b"failed login of \x00\xff\xc3\xa9 from 203.0.113.7"))
    (failure,) = verdict.entries
    assert isinstance(failure, Failure)
    assert failure.fields == {"user": "\x00\ufffd\u00e9"}


def test_padding_a_line_does_not_hide_its_address() -> None:
    verdict = seat().judge(chunk(failed("203.0.113.7", user="x" * 5 * LONGEST_LINE)))
    (failure,) = verdict.entries
    assert isinstance(failure, Failure)
    assert str(failure.subject) == "203.0.113.7/32"
    assert len(failure.text) == 1000


def test_nothing_matches_across_the_place_where_a_long_line_was_shortened() -> None:
    half = LONGEST_LINE // 2
    line = "failed login of bob from 203.0.11" + "x" * 9
    text = line[:-9].rjust(half, "y") + "z" * 500 + "3.7".ljust(half, "w")
    assert len(text) > LONGEST_LINE
    assert not seat().judge(chunk(text)).entries


@given(
    st.lists(
        st.sampled_from(
            [failed("203.0.113.7"), failed("2001:db8::1", "é x"), "hello", "failed", ""]
        ),
        max_size=30,
    ),
    st.integers(0, 30),
)
def test_it_makes_no_difference_where_a_chunk_ends(texts: list[str], split: int) -> None:
    whole, halves = seat(), seat()
    at_once = list(whole.judge(chunk(*texts)).entries)
    apart = [
        *halves.judge(chunk(*texts[:split])).entries,
        *halves.judge(chunk(*texts[split:], at=min(split, len(texts)))).entries,
    ]
    assert at_once == apart


# Lines that span, are structured, coloured, or name nobody


CONNECTION = Rule(
    prefregex="^<F-MLFID>app\\[\\d+\\]: </F-MLFID><F-CONTENT>.+</F-CONTENT>$",
    failregex=(
        "^<F-NOFAIL>connect from</F-NOFAIL> <HOST>$",
        "^login failed for <F-USER>\\S+</F-USER>$",
    ),
)


def named(policy: JailPolicy, *texts: str) -> list[str]:
    return [str(e.subject) for e in seat(policy).judge(chunk(*texts)).entries]


def test_the_address_may_stand_in_another_line_of_the_connection() -> None:
    policy = replace(POLICY, rule=CONNECTION)
    bench = seat(policy)
    (failure,) = bench.judge(
        chunk(
            "app[1]: connect from 203.0.113.7",
            "app[2]: connect from 198.51.100.1",
            "app[1]: login failed for bob",
        )
    ).entries
    assert isinstance(failure, Failure)
    assert str(failure.subject) == "203.0.113.7/32"
    assert failure.fields["user"] == "bob"
    assert failure.text == "app[1]: connect from 203.0.113.7\napp[1]: login failed for bob"


def test_connections_of_other_containers_are_others() -> None:
    jails = Jails()
    policy = replace(POLICY, rule=CONNECTION)
    other = replace(WEB, id="5e" * 32, name="shop-web-2")
    seat(policy, jails=jails).judge(chunk("app[1]: connect from 203.0.113.7"))
    bench = seat(policy, jails=jails, container=other)
    assert not bench.judge(chunk("app[1]: login failed for bob", container=other)).entries


def test_a_connection_outlives_a_chunk_and_not_its_container() -> None:
    jails = Jails()
    policy = replace(POLICY, rule=CONNECTION)
    bench = seat(policy, jails=jails)
    bench.judge(chunk("app[1]: connect from 203.0.113.7"))
    assert bench.judge(chunk("app[1]: login failed for bob", at=5)).entries
    jails.leave(WEB.id)
    assert not bench.judge(chunk("app[1]: login failed for bob", at=6)).entries


def test_a_prefix_is_tried_when_a_line_misses_without_it_and_joins_no_lines() -> None:
    policy = replace(POLICY, rule=replace(CONNECTION, prefix="app[1]: "))
    assert named(policy, "app[7]: connect from 203.0.113.7", "app[7]: login failed for bob") == [
        "203.0.113.7/32"
    ]
    assert named(policy, "connect from 203.0.113.7", "login failed for bob") == []


def test_a_prefix_may_be_what_a_failregex_asks_for() -> None:
    rule = Rule(failregex=("^sshd\\[\\d+\\]: Failed password from <HOST>$",), prefix="sshd[1]: ")
    policy = replace(POLICY, rule=rule)
    lines = (
        "Failed password from 203.0.113.7",
        "2026-11-22 10:00:00 Failed password from 203.0.113.8",
    )
    assert named(policy, *lines) == ["203.0.113.7/32", "203.0.113.8/32"]
    assert named(policy, "xFailed password from 203.0.113.7") == []


def test_several_lines_are_seen_at_once_by_a_filter_that_asks_for_it() -> None:
    rule = Rule(failregex=("^refused: <F-USER>.*</F-USER><SKIPLINES>^peer <HOST>$",), maxlines=4)
    policy = replace(POLICY, rule=rule)
    assert named(policy, "refused: bob", "x", "peer 203.0.113.7", "peer 198.51.100.1") == [
        "203.0.113.7/32"
    ]
    assert named(policy, "refused: bob", "1", "2", "3", "peer 203.0.113.7") == []


def test_the_lines_of_two_streams_are_not_mixed() -> None:
    rule = Rule(failregex=("^refused<SKIPLINES>^peer <HOST>$",), maxlines=4)
    bench = seat(replace(POLICY, rule=rule))
    bench.judge(chunk("refused"))
    assert not bench.judge(chunk("peer 203.0.113.7", stream=Stream.STDERR)).entries
    assert bench.judge(chunk("peer 203.0.113.7")).entries


JSON = Rule(
    where=((("event", ("login_failed",)), ("status", ("401", "403"))),),
    address=("request.headers.X-Forwarded-For", "request.remote"),
    user="user",
    trusted_proxies=(ip_network("10.0.0.0/8"),),
)


def test_fields_of_a_line_say_who_failed() -> None:
    line = (
        '{"event":"login_failed","status":401,"user":"bob","request":{"remote":"10.0.0.2:443",'
        '"headers":{"X-Forwarded-For":["198.51.100.1, 203.0.113.7"]}}}'
    )
    (failure,) = seat(replace(POLICY, rule=JSON)).judge(chunk(line)).entries
    assert isinstance(failure, Failure)
    assert (str(failure.subject), failure.fields) == ("203.0.113.7/32", {"user": "bob"})


@pytest.mark.parametrize(
    "line",
    [
        '{"event":"login_failed","status":200,"request":{"remote":"203.0.113.7"}}',
        '{"event":"login_failed","status":401,"request":{"remote":"203.0.113.7"}',
        'x {"event":"login_failed","status":401,"request":{"remote":"203.0.113.7"}}',
        (
            '{"event":"search","q":"{\\"event\\":\\"login_failed\\",\\"status\\":401,'
            '\\"request\\":{\\"remote\\":\\"203.0.113.7\\"}}"}'
        ),
    ],
)
def test_what_only_looks_like_such_a_line_does_not_count(line: str) -> None:
    assert named(replace(POLICY, rule=JSON), line) == []


def test_an_ignoreregex_lets_a_structured_line_pass() -> None:
    rule = replace(JSON, ignoreregex=("^probe", '"user":"monitor"'), user="")
    line = '{"event":"login_failed","status":401,"message":"%s","user":"%s","request":{"remote":"203.0.113.7"}}'
    policy = replace(POLICY, rule=rule)
    assert named(policy, line % ("x", "bob")) == ["203.0.113.7/32"]
    assert named(policy, line % ("probe", "bob"), line % ("x", "monitor")) == []


def test_the_message_of_a_json_line_is_matched_when_the_format_says_so() -> None:
    rule = Rule(failregex=("^failed login of <F-USER>.*</F-USER> from <HOST>$",))
    line = '{"level":"warning","message":"failed login of bob from 203.0.113.7"}'
    escaped = '{"message":"\\u0066ailed login of \\"bob\\" from 203.0.113.7"}'
    assert named(replace(POLICY, rule=rule), line, escaped) == []
    policy = replace(POLICY, rule=replace(rule, format=Format.JSON))
    assert named(policy, line, escaped) == ["203.0.113.7/32", "203.0.113.7/32"]
    assert named(policy, "failed login of bob from 203.0.113.7") == []


def test_an_attacker_who_pads_a_structured_line_is_seen() -> None:
    line = (
        '{"event":"login_failed","status":401,"agent":"%s","request":{"remote":"203.0.113.7"}}'
        % ("x" * 40_000)
    )
    assert named(replace(POLICY, rule=JSON), line) == ["203.0.113.7/32"]


def test_colours_are_taken_out_unless_a_regex_asks_for_them() -> None:
    line = "\x1b[33mfailed\x1b[0m login of bob from \x1b[1;31m203.0.113.7\x1b[0m"
    assert named(POLICY, line) == ["203.0.113.7/32"]
    asks = replace(POLICY, rule=Rule(failregex=(r"^\x1b\[33mfailed.*? from .*?m<HOST>",)))
    assert named(asks, line) == ["203.0.113.7/32"]


def test_a_name_is_handed_on_only_if_the_jail_wants_it_looked_up() -> None:
    line = failed("evil.test")
    assert not seat().judge(chunk(line)).named
    wants = replace(POLICY, rule=replace(POLICY.rule, usedns=UseDns.WARN))
    jails = Jails()
    verdict = seat(wants, jails=jails).judge(chunk(line))
    (found,) = verdict.named
    assert (found.name, found.container, list(verdict.entries)) == ("evil.test", WEB.name, [])
    jail = jails.get(found.jail)
    assert jail is not None
    outcome = Outcome()
    jail.count(ip_address("203.0.113.7"), found, outcome)
    assert [type(entry) for entry in outcome.entries] == [Failure]


SESSIONS = replace(
    POLICY,
    name="mail",
    rule=Rule(
        failregex=(
            r"^<F-NOFAIL>conn</F-NOFAIL> <F-MLFID>\d+</F-MLFID> from <HOST>$",
            r"^<F-MLFID>\d+</F-MLFID> refused$",
        )
    ),
)


def test_lines_of_before_a_restart_are_remembered_and_do_not_count_again() -> None:
    before = chunk("conn 7 from 203.0.113.7", failed("203.0.113.8"), failed("203.0.113.8"))
    assert kinds(seat(SESSIONS).judge(chunk("7 refused", at=5)).entries) == []
    bench = seat(SESSIONS, POLICY)
    assert bench.remembers
    assert not list(bench.recall(before))
    entries = bench.judge(chunk("7 refused", failed("203.0.113.8"), at=5)).entries
    assert kinds(entries) == ["Failure mail 203.0.113.7/32", "Failure login 203.0.113.8/32"]


def test_a_jail_without_a_memory_needs_none() -> None:
    assert not seat(POLICY).remembers
