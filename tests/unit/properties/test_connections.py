"""What is remembered of connections is what keeping all of it would tell."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from dockerjail.jail.filter import Filter, read
from dockerjail.jail.memory import LIFE, LINES, LONGEST, Memory
from dockerjail.jail.rule import Rule

MARKS = ("mlfid", "nofail", "mlfgained", "mlfforget")


@dataclass
class Connection:
    """All that is known of a connection, as it is told."""

    since: float
    groups: dict[str, str] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    pending: bool = False
    quiet: bool = False


class Plain:
    """The rules of `Memory.join` and nothing else: no bounds, no haste."""

    def __init__(self) -> None:
        self.connections: dict[str, Connection] = {}

    def join(
        self, found: Mapping[str, str | None], line: str, at: float
    ) -> tuple[dict[str, str], set[str], list[str]] | None:
        key = found["mlfid"] or ""
        forget, gained = found.get("mlfforget"), found.get("mlfgained")
        known = self.connections.get(key)
        if known is not None and not -LIFE < at - known.since < LIFE:
            del self.connections[key]
            known = None
        if known is None:
            known = Connection(at)
        else:
            known.pending = known.pending and not gained
            if not known.quiet and not known.pending:
                known.lines.clear()
        self.connections[key] = known
        if forget:
            del self.connections[key]
        if found.get("user"):
            known.users.add(str(found["user"]))
        known.groups |= {n: s for n, s in found.items() if s is not None and n not in MARKS}
        quiet = bool(gained or found.get("nofail"))
        if known.pending or len(known.users) > 1:
            quiet = gained = False
        known.pending, known.quiet = False, quiet
        if quiet:
            known.aside = [*known.aside, line.rstrip("\n")][:LINES]
            return None
        known.lines = [*known.aside, *known.lines][:LINES]
        known.aside = []
        if not gained:
            known.lines = [*known.lines, line.rstrip("\n")][:LINES]
        if not any(known.groups.get(name) for name in ("ip4", "ip6", "dns", "fid", "host")):
            known.pending = True
            return None
        users = {*known.users} if len(known.users) > 1 else set()
        return dict(known.groups), users, known.lines[:] if len(known.lines) > 1 else []


IDS = st.sampled_from(["1", "2", ""])
SAID = st.sampled_from(["", "a", "b", "a\0b", "\0", None])
MARK = st.sampled_from(["x", "", None])
FOUND = st.fixed_dictionaries(
    {"mlfid": IDS},
    optional={
        "user": SAID,
        "ip4": SAID,
        "host": SAID,
        "other": SAID,
        "nofail": MARK,
        "mlfgained": MARK,
        "mlfforget": MARK,
    },
)


@settings(max_examples=400)
@given(st.lists(st.tuples(FOUND, st.sampled_from(["one\n", "two\n", "\n"]), st.integers(0, 400))))
def test_a_memory_tells_of_connections_what_all_their_lines_tell(lines) -> None:
    memory, plain = Memory(), Plain()
    for found, line, at in lines:
        expected = plain.join(found, line, float(at))
        told = memory.join({**found}, line, float(at))
        if told is None:
            assert expected is None
            continue
        groups = {name: said for name, said in told.groups.items() if said is not None}
        users = {*told.users} if len(told.users) > 1 else set()
        assert (groups, users, list(told.lines) if len(told.lines) > 1 else []) == expected


@given(st.lists(st.tuples(FOUND, st.sampled_from(["one\n", "two\n"]), st.integers(0, 400))))
def test_what_connections_take_is_counted_to_the_character(lines) -> None:
    memory = Memory()
    for found, line, at in lines:
        memory.join({**found}, line, float(at))
        total = 0
        for key, session in memory.sessions():
            kept = (key, *session.groups.values(), *session.users, *session.lines, *session.aside)
            assert session.size == sum(map(len, filter(None, kept)))
            total += session.size
        assert memory.size == total


RULE = Rule(
    prefregex=r"^<F-MLFID>app\[\d+\]</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$",
    failregex=(
        "^(?P<nofail>hello)? ?from <ADDR>$",
        "^fail(?: of (?P<user>[ab]*))?(?: from <ADDR>)?(?P<other> x+)?$",
        "^(?P<nofail>try) of (?P<user>.*)$",
        "^(?P<mlfforget>close)(?P<nofail> it)?(?: from <HOST>)?$",
        "^(?P<mlfforget>(?P<mlfgained>bye))? ?(?P<mlfgained1>welcome)? (?P<user>.*)$",
        "^(?P<mlfgained>welcome)(?P<ip4>[0-9.]*)$",
    ),
)
LINES_OF_IT = st.tuples(
    st.sampled_from("123"),
    st.sampled_from(
        [
            *(
                "hello from 203.0.113.7",
                "from 203.0.113.8",
                "from 2001:db8::1",
                "hello from 10.0.0.1",
            ),
            *(
                "fail",
                "fail of a",
                "fail of b",
                "fail of  from 203.0.113.9",
                "fail of a from 192.0.2.1",
            ),
            *(
                "try of a",
                "try of b",
                "try of ",
                "close",
                "close it",
                "close from a.test",
                "close it from b",
            ),
            *(
                "bye a",
                "bye b",
                "welcome",
                "welcome192.0.2.2",
                " a",
                "fail x",
                f"fail {'x' * LONGEST}",
            ),
            *(f"try of {'a' * LONGEST}", "welcome b", "other"),
        ]
    ),
    st.integers(0, 400),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(LINES_OF_IT, max_size=12))
def test_a_filter_makes_of_lines_what_all_lines_of_a_connection_tell(lines) -> None:
    judge, memory, plain = Filter(RULE), Memory(), Plain()
    regexes = [re.compile(pattern) for pattern in judge.patterns]
    for number, text, at in lines:
        line = f"app[{number}]: {text}"
        hit = judge.judge(read(line, float(at)), memory)
        assert memory.size == sum(known.size for known in memory._sessions.values())
        found = next(filter(None, (regex.search(f"{text}\n") for regex in regexes)), None)
        if found is None:
            assert hit is None
            continue
        told = plain.join({**found.groupdict(), "mlfid": f"app[{number}]"}, f"{line}\n", float(at))
        if told is None:
            assert hit is None
            continue
        groups, users, kept = told
        assert hit is not None
        assert hit.lines == tuple(each[:LONGEST] for each in kept)
        addresses = [groups[name] for name in ("ip4", "ip6") if groups.get(name)]
        assert hit.written == ((addresses or [""])[0] or groups.get("dns", ""))
        for name in ("user", "other"):
            assert hit.fields.get(name) == (groups[name][:256] if name in groups else None)
        assert (
            hit.fields.get("users", "") == ", ".join(sorted(each[:LONGEST] for each in users))[:256]
        )
