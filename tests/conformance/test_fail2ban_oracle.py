"""
Decision by decision with fail2ban: random rules, lines, dates and failures, judged by both.

fail2ban 1.0.2 or later answers itself, in a process of its own (`tests/lab/oracle.py`).
Where we differ from it on purpose, the test says exactly when, and asserts what holds
instead.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockerjail.jail.datecut import cut
from dockerjail.jail.filter import Filter, Hit, read
from dockerjail.jail.memory import Memory
from dockerjail.jail.rule import Rule
from dockerjail.jail.tags import expand
from dockerjail.jail.window import Window
from tests.lab.oracle import Asked, Oracle, OracleHit

thorough = settings(deadline=None, max_examples=150)
"""Each example asks about many lines."""


# Counting

FINDTIME = 600.0
CLIENTS = tuple(f"192.0.2.{n}" for n in (1, 2))

failures = st.lists(
    st.tuples(
        st.sampled_from(CLIENTS),
        st.one_of(st.integers(0, 30), st.integers(0, 300), st.just(600), st.integers(500, 1300)),
    ),
    min_size=1,
    max_size=25,
).map(lambda steps: in_order(steps))


def in_order(steps: Sequence[tuple[str, int]]) -> list[tuple[str, float]]:
    """Turn waits into moments."""
    now, found = 1_000_000.0, []
    for who, wait in steps:
        now += wait
        found.append((who, now))
    return found


def ours(maxretry: int, failures: Sequence[tuple[str, float]]) -> list[bool]:
    window = Window(maxretry, FINDTIME)
    return [window.add(ip_network(who), at) is not None for who, at in failures]


@given(maxretry=st.integers(1, 6), failures=failures)
@thorough
def test_failures_within_one_findtime_lead_to_the_same_bans(
    oracle: Oracle, maxretry: int, failures: list[tuple[str, float]]
) -> None:
    start = failures[0][1]
    close = [(who, at) for who, at in failures if at - start < FINDTIME]
    assert ours(maxretry, close) == oracle.count(maxretry, FINDTIME, close)


@given(maxretry=st.integers(1, 6), failures=failures)
@thorough
def test_each_ban_of_ours_is_one_that_fail2ban_makes_of_the_last_failures_alone(
    oracle: Oracle, maxretry: int, failures: list[tuple[str, float]]
) -> None:
    for place, banned in enumerate(ours(maxretry, failures)):
        if banned:
            who = failures[place][0]
            last = [each for each in failures[: place + 1] if each[0] == who][-maxretry:]
            assert oracle.count(maxretry, FINDTIME, last) == [False] * (maxretry - 1) + [True]


@given(maxretry=st.integers(1, 6), failures=failures)
@thorough
def test_a_ban_that_only_fail2ban_makes_counts_failures_a_findtime_old(
    oracle: Oracle, maxretry: int, failures: list[tuple[str, float]]
) -> None:
    for who in CLIENTS:
        alone = [each for each in failures if each[0] == who]
        mine = ours(maxretry, alone)
        began = 0
        for place, banned in enumerate(oracle.count(maxretry, FINDTIME, alone)):
            at = alone[place][1]
            if place > began and alone[place - 1][1] <= at - FINDTIME:
                began = place  # it had forgotten the client
            if banned:
                assert any(mine[began : place + 1]) or at - alone[began][1] >= FINDTIME
                began = place + 1


@pytest.mark.parametrize(
    ("moments", "we", "they"),
    [
        # three within ten minutes: fail2ban scales the first two down to one at 840, and again
        ((0, 540, 840, 1080), True, False),
        # two within ten minutes: fail2ban scales the first two down to 1.8, which is two
        ((0, 120, 660), False, True),
        # a failure that is findtime old counts no more, or still
        ((0, 1, 600), False, True),
    ],
)
def test_the_smallest_differences_in_counting_are_these(
    oracle: Oracle, moments: tuple[int, ...], we: bool, they: bool
) -> None:
    failures = [("192.0.2.1", 1_000_000.0 + at) for at in moments]
    assert any(ours(3, failures)) is we
    assert any(oracle.count(3, FINDTIME, failures)) is they


# One line: prefregex, failregex, ignoreregex, captures

USERS = (
    *("alice", "bob", "", "x y", "a]b[", "user: eve", "from 198.51.100.1", "x from 198.51.100.1"),
    *("2005-01-23 21:59:59", "failed", "[198.51.100.2]", "x from IP: 2001:db8::66 port 22"),
)
CLIENTS_WRITTEN = (
    *("203.0.113.7", "203.0.113.8", "[203.0.113.7]", "::ffff:203.0.113.7", "203.0.113.7:22"),
    *("2001:db8::7", "2001:DB8:0::7", "[2001:db8::7]", "[2001:db8::7]:443", "::1"),
    *("evil.test", "203.0.113.7.evil.test", "999.1.2.3", "192.030.0.6", "unknown", "a-b.example"),
    *("203.0.113.7/24", "2001:db8::7/64", "203.0.113.7.", "203.0.113.7,", "12:34", "1::2::3"),
)
DATED = ("", "", "2005-01-23 21:59:59 ", "[23/Jan/2005:21:59:59 +0000] ", "Jan 23 21:59:59 ")
WORDS = ("failed", "login", "from", "user:", "IP:", "port 22", "rhost=", "-", "[x]")

Piece = tuple[str, st.SearchStrategy[str]]


def literal(word: str) -> Piece:
    return re.escape(word), st.just(word)


user_texts = st.sampled_from(USERS)
words = st.sampled_from([literal(word) for word in WORDS])
gaps = st.sampled_from(
    [
        (".*", user_texts),
        (".*?", user_texts),
        (r"\S+", st.sampled_from(("alice", "198.51.100.1", "[7]:"))),
        (r"\S*", st.sampled_from(("alice", "", "user:"))),
        ("[^:]*", st.sampled_from(("alice", "", "x y"))),
        ("(?:failed|denied)", st.sampled_from(("failed", "denied"))),
        ("(?:login )?", st.sampled_from(("login ", ""))),
        (r"(?:port \d+)?", st.sampled_from(("port 7", ""))),
    ]
)
who_tried = st.sampled_from(
    [
        ("<F-USER>.*</F-USER>", user_texts),
        ("<F-USER>.*?</F-USER>", user_texts),
        (r"<F-USER>\S*</F-USER>", st.sampled_from(("alice", ""))),
        (r"(?:by <F-USER>\w+</F-USER>|for <F-ALT_USER>\w+</F-ALT_USER>)",
         st.sampled_from(("by alice", "for bob"))),
        (r"<F-ALT_USER>\w*</F-ALT_USER> <F-USER>\w*</F-USER>",
         st.sampled_from(("alice bob", "alice ", " bob"))),
        (r"<F-KIND>\w+</F-KIND>", st.just("pam")),
        (r"<F-ID>\S+</F-ID>", st.sampled_from(("198.51.100.9", "session-7"))),
        (r"port <F-PORT/>", st.just("port 22")),
    ]
)  # fmt: skip
clients = st.sampled_from(CLIENTS_WRITTEN)


def addressed(tag: str) -> Piece:
    return tag, clients


@st.composite
def judged_lines(draw: st.DrawFn, tags: st.SearchStrategy[str]) -> tuple[Rule, list[str]]:
    """A rule, and lines made for it, some of them broken."""
    regexes: list[list[Piece]] = []
    for _ in range(draw(st.integers(1, 4))):
        pieces = draw(st.lists(words | gaps, min_size=1, max_size=4))
        if draw(st.booleans()):
            pieces.insert(draw(st.integers(0, len(pieces))), draw(who_tried))
        pieces.insert(draw(st.integers(1, len(pieces))), addressed(draw(tags)))
        regexes.append(pieces)
    failregex = tuple(
        draw(st.sampled_from(("", "^", "^ ?", r"^\s*")))
        + " ".join(regex for regex, _ in pieces)
        + draw(st.sampled_from(("", "$", r"\s*$", r"\b")))
        for pieces in regexes
    )
    rule = Rule(
        failregex=failregex,
        prefregex=draw(
            st.sampled_from(
                (
                    *("", "", "^<F-CONTENT>.*</F-CONTENT>$", "<F-CONTENT>[fl].*</F-CONTENT>$"),
                    *(r"^\S* ?<F-CONTENT>.+</F-CONTENT>$", "from"),
                    r"^(?:<F-WHERE>\w+</F-WHERE>: )?<F-CONTENT>.+</F-CONTENT>$",
                )
            )
        ),
        ignoreregex=tuple(
            draw(
                st.lists(
                    st.sampled_from(("alice", "^failed", "203.0.113.8", "2005-01")), max_size=2
                )
            )
        ),
    )
    lines = []
    for _ in range(draw(st.integers(1, 5))):
        pieces = draw(st.sampled_from(regexes))
        line = draw(st.sampled_from(DATED)) + " ".join(draw(text) for _, text in pieces)
        if line and draw(st.integers(0, 3)) == 0:
            place = draw(st.integers(0, len(line) - 1))
            line = (
                line[:place] + draw(st.sampled_from(("", " ", ".", "7", ":"))) + line[place + 1 :]
            )
        lines.append(line)
    return rule, lines


def address_of(text: str | None, prefix: str | None = None) -> str:
    """Return whom `text` accuses, in our writing; nothing if it is no address."""
    try:
        found = ip_address((text or "").strip("[]"))
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return str(ip_network(f"{found}/{prefix}", strict=False) if prefix else found)
    except ValueError:
        return ""


def accused(hit: OracleHit) -> str:
    """
    Return whom fail2ban's captures accuse: the first of its groups that has an address.

    fail2ban takes the first that has anything, and hands `192.030.0.6` to the firewall.
    """
    found = [
        address_of(hit.groups.get(name), hit.groups.get("cidr")) for name in ("fid", "ip4", "ip6")
    ]
    return next(filter(None, found), "")


def data_of(hit: OracleHit) -> dict[str, str]:
    """Return the captures of a failure that are not about whose it is."""
    about = ("ip4", "ip6", "dns", "cidr", "ip", "mlfid", "users", "nofail")
    return {
        name: said
        for name, said in hit.captured.items()
        if name not in about and not name.startswith("alt_")
    }


def expanded(rule: Rule) -> dict[str, object]:
    """Return a rule whose tags are replaced by us, for fail2ban to work with."""
    return {
        "prefregex": expand(rule.prefregex).pattern,
        "failregex": [expand(regex).pattern for regex in rule.failregex],
        "ignoreregex": [expand(regex).pattern for regex in rule.ignoreregex],
    }


def agree(oracle_hit: OracleHit | None, ours: Hit | None) -> bool:
    """Say whether the same regex accused the same, with the same captures."""
    if oracle_hit is None or ours is None:
        return oracle_hit is ours
    if ours.regex != oracle_hit.regex or ours.fields != data_of(oracle_hit):
        return False
    if ours.address is None:
        return bool(ours.why) and (not accused(oracle_hit) or "wider" in ours.why)
    return str(ours.address) == accused(oracle_hit)


TAGS = ("<HOST>", "<HOST>", "<ADDR>", "<IP4>", "<IP6>", "<SUBNET>", "<ADDR>/<CIDR>", "<F-IP4/>")


@given(judged_lines(st.sampled_from((*TAGS, "<DNS>"))))
@settings(deadline=None, max_examples=400)
def test_a_line_goes_through_prefregex_failregex_and_ignoreregex_as_in_fail2ban(
    oracle: Oracle, case: tuple[Rule, list[str]]
) -> None:
    rule, lines = case
    judge, theirs = Filter(rule), oracle.make(expanded(rule))
    for line in lines:
        ours, bare = judge.match(line), cut(line)
        hit = theirs.one(bare, dated=False)
        if hit is None and ours is not None:
            hit = theirs.one(line, dated=False)  # what misses without its date is tried with it
        if ours is None and any(
            re.search(i, text) for i in rule.ignoreregex for text in (line, bare)
        ):
            continue  # fail2ban shows an ignoreregex all of the line only if there are few of them
        assert agree(hit, ours), (line, hit, ours)


# Tags

contexts = st.sampled_from(
    [
        ("from {}", "from {}"),
        ("from {}$", "from {}"),
        ("^.*{}", "x from {}"),
        ("^.* {}$", "x from 198.51.100.1 {}"),
        (r"\[{}\]", "[{}]"),
        (r"from {}(?::\d+)? ", "from {} x"),
        (r"from {}:\d+", "from {}:22"),
        ("rhost={} ", "rhost={}  user=x"),
        ("<{}>", "<{}>"),
        (r"\({}\)", "({})"),
        ("by {}, ", "by {}, y"),
        (r"{}\s+-", "{} - -"),
    ]
)


def stands_whole(text: str, start: int, end: int) -> bool:
    """
    Say whether nothing that belongs to an address or a name touches text[start:end].

    A port may stand behind an address, and `::ffff:` before one of IPv4.
    """
    before, behind = text[:start], re.sub(r"^(?::[0-9]+)*", "", text[end:])
    if "." in text[start:end]:
        before = before.removesuffix("::ffff:")
    return not re.search(r"[\w.:-]\Z", before) and not re.match(r"[.:-]*\w", behind)


@given(contexts, st.sampled_from(TAGS), st.lists(clients, min_size=1, max_size=6))
@settings(deadline=None, max_examples=400)
def test_a_tag_finds_the_addresses_that_fail2bans_finds_and_only_whole_ones(
    oracle: Oracle, context: tuple[str, str], tag: str, written: list[str]
) -> None:
    regex, shape = context[0].replace("{}", tag), context[1]
    rule = Rule(failregex=(regex,))
    theirs = oracle.make(rule)
    (pattern,) = theirs.patterns()
    judge = Filter(rule)
    for client in written:
        line = shape.replace("{}", client)
        ours, hit = judge.match(line), theirs.one(line, dated=False)
        found = re.search(pattern, f"{line}\n")
        name = next((n for n in ("ip4", "ip6") if hit is not None and hit.groups.get(n)), "")
        if found is not None and name and stands_whole(line, *found.span(name)):
            # what it takes whole we take, too, if it is an address
            assert hit is not None
            whose = "" if ours is None else str(ours.address or "")
            assert whose == accused(hit), (line, hit, ours)
        elif ours is not None and ours.address is not None:
            at = line.find(ours.written)
            assert stands_whole(line, at, at + len(ours.written)), (line, ours)


@pytest.mark.parametrize(
    ("regex", "text"),
    [("", ""), (":", ":"), (r"\.", "."), (r"-\d+", "-22"), (r"\.\d+", ".22"), (r"(?: |-)", "-")],
)
def test_a_client_with_a_name_has_an_earlier_address_banned_only_by_fail2ban(
    oracle: Oracle, regex: str, text: str
) -> None:
    rule = Rule(failregex=(f"user: .* from IP: <HOST>{regex}",))
    line = f"user: x from IP: 198.51.100.1{text} from IP: evil.test{text} x"
    hit, ours = oracle.make(rule, usedns="no").one(line), Filter(rule).match(line)
    assert hit is not None
    assert ours is not None
    assert (hit.id, ours.address, ours.name) == ("198.51.100.1", None, "evil.test")


def test_what_is_no_address_is_handed_to_the_firewall_only_by_fail2ban(oracle: Oracle) -> None:
    rule = Rule(failregex=("from <HOST>",))
    hit, ours = oracle.make(rule).one("from 192.030.0.6"), Filter(rule).match("from 192.030.0.6")
    assert hit is not None
    assert ours is not None
    assert (hit.id, ours.address) == ("192.030.0.6", None)


def test_a_line_marked_as_no_failure_is_one_to_fail2ban_if_it_has_no_connection(
    oracle: Oracle,
) -> None:
    rule = Rule(failregex=("<F-NOFAIL>hello</F-NOFAIL> from <HOST>",))
    hit, ours = (
        oracle.make(rule).one("hello from 203.0.113.7"),
        Filter(rule).match("hello from 203.0.113.7"),
    )
    assert hit is not None
    assert (hit.id, ours) == ("203.0.113.7", None)


# Connections: lines that share an id

WHO = r"(?: from <HOST>)?(?: id=<F-ID>\S+</F-ID>)?"
USER = r"(?: user=<F-USER>\w+</F-USER>)?(?: or <F-ALT_USER>\w+</F-ALT_USER>)?(?: or else <F-ALT_USER_1>\w+</F-ALT_USER_1>)?"
CONNECTION = Rule(
    prefregex=r"^<F-MLFID>c\d+</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$",
    failregex=tuple(
        rf"^{what}{WHO}{USER}$"
        for what in (
            "<F-NOFAIL>hello</F-NOFAIL>",
            "fail",
            "<F-MLFFORGET>bye</F-MLFFORGET>",
            "<F-NOFAIL><F-MLFFORGET>close</F-MLFFORGET></F-NOFAIL>",
            "<F-MLFGAINED>ok</F-MLFGAINED>",
            "<F-MLFFORGET><F-MLFGAINED>accepted</F-MLFGAINED></F-MLFFORGET>",
        )
    ),
)
steps = st.builds(
    lambda number, what, who, user, wait: (f"c{number}: {what}{who}{user}", wait),
    st.integers(1, 2),
    st.sampled_from(("hello", "fail", "fail", "bye", "close", "ok", "accepted", "noise")),
    st.sampled_from(
        ("", "", " from 203.0.113.7", " from 2001:db8::7", " from evil.test", " id=198.51.100.1")
    ),
    st.sampled_from(
        ("", "", " user=alice", " user=bob", " or carol", " or else dave", " user=eve or frank")
    ),
    st.sampled_from((0, 1, 100, 299, 300, 301)),
)


@given(st.lists(steps, max_size=18))
@settings(deadline=None, max_examples=300)
def test_the_lines_of_a_connection_are_joined_as_fail2ban_joins_them(
    oracle: Oracle, steps: list[tuple[str, int]]
) -> None:
    theirs = oracle.make(CONNECTION)
    judge, memory = Filter(CONNECTION), Memory()
    now = 1_000_000.0
    asked = [Asked(text, now := now + wait, dated=False) for text, wait in steps]
    for (text, at, _), judged in zip(asked, theirs.feed(asked), strict=True):
        ours = judge.judge(read(text, at), memory)
        failures = [hit for hit in judged.hits if hit.id is not None]
        assert (ours is not None) == bool(failures), text
        if ours is None:
            continue
        (failure,) = failures
        assert ours.regex == failure.regex
        assert (str(ours.address) if ours.address else ours.name) == failure.id
        assert ours.fields.get("user") == failure.groups.get("user")
        users = failure.groups.get("users") or []
        assert ours.fields.get("users", "") == (", ".join(users) if len(users) > 1 else "")
        assert (ours.lines or (text,)) == failure.lines


# Several lines at once

SCROLLS = (
    ("^begin from <HOST><SKIPLINES>^denied",),
    ("^begin <F-USER>.*</F-USER>$<SKIPLINES>^denied <HOST>$",),
    ("^begin .*<SKIPLINES>^more<SKIPLINES>^denied <HOST>",),
    (r"^begin .*\n(?:more\n)*denied <HOST>$", "^alone from <HOST>$"),
    ("^alone from <HOST>$<SKIPLINES>^denied", "^denied <HOST>$"),
)
IGNORES: tuple[tuple[str, ...], ...] = ((), ("^more",), ("from 203.0.113.7$",))
scrolled = st.lists(
    st.sampled_from(
        (
            *("begin from 203.0.113.7", "begin bob", "more", "more", "denied", "noise"),
            *("denied 198.51.100.1", "denied 198.51.100.2", "alone from 203.0.113.7"),
        )
    ),
    max_size=14,
)


@given(st.sampled_from(SCROLLS), st.sampled_from(IGNORES), st.integers(2, 6), scrolled)
@settings(deadline=None, max_examples=400)
def test_several_lines_are_seen_at_once_as_fail2ban_sees_them(
    oracle: Oracle,
    failregex: tuple[str, ...],
    ignoreregex: tuple[str, ...],
    maxlines: int,
    lines: list[str],
) -> None:
    if ignoreregex:
        # which of two equal lines fail2ban finds decides what of the match it would ignore
        lines = list(dict.fromkeys(lines))
    rule = Rule(failregex=failregex, ignoreregex=ignoreregex, maxlines=maxlines)
    judge, memory = Filter(rule), Memory(maxlines)
    asked = [Asked(line, dated=False) for line in lines]
    for line, judged in zip(lines, oracle.make(rule).feed(asked), strict=True):
        ours = judge.match(line, memory)
        # of two equal lines fail2ban finds the wrong one again, and tells them in another order
        theirs = [
            (hit.regex, hit.id, hit.groups.get("user"), sorted(hit.lines)) for hit in judged.hits
        ]
        assert theirs == (
            []
            if ours is None
            else [
                (
                    ours.regex,
                    str(ours.address),
                    ours.fields.get("user"),
                    sorted(ours.lines or (line,)),
                )
            ]
        )
