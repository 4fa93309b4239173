"""Promises of the labels of a container, read as hostile text."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.config.labels import (
    MOST_CHARACTERS,
    MOST_JAILS,
    MOST_LABELS,
    MOST_PROBLEMS,
    MOST_WIDE,
    LabelPolicy,
    Labels,
    read,
)
from dockerjail.jail.policy import ScopeKind
from dockerjail.model import Port, Stream

ENABLE = {"dockerjail.enable": "true"}


def labels(
    more: Mapping[str, str], policy: LabelPolicy = LabelPolicy.DEFINE, prefix: str = "dockerjail"
) -> Labels:
    return read({**ENABLE, **more}, prefix=prefix, policy=policy)


def said(found: Labels) -> str:
    return "\n".join(map(str, found.problems))


def test_a_container_without_labels_asks_for_nothing_and_is_not_spoken_of() -> None:
    assert read({}, prefix="dockerjail", policy=LabelPolicy.DEFINE) == Labels()
    assert read({"com.example": "x"}, prefix="dockerjail", policy=LabelPolicy.DEFINE) == Labels()


def test_a_container_that_says_no_is_not_spoken_of_whatever_else_it_says() -> None:
    found = labels({"dockerjail.enable": "false", "dockerjail.nonsense": "x"})
    assert found == Labels()


def test_jails_are_listed_with_commas_or_blanks() -> None:
    assert labels({"dockerjail.jails": "a, b c,,a"}).jails == ("a", "b", "c")


def test_a_jail_with_an_option_need_not_be_listed() -> None:
    found = labels({"dockerjail.jails": "b", "dockerjail.jail.a.maxretry": "3"})
    assert found.jails == ("b", "a")
    assert found.options == {"a": {"maxretry": 3}}
    assert found.problems == ()


def test_every_option_is_read_as_the_value_it_is() -> None:
    found = labels(
        {
            "dockerjail.jail.a.filter": "sshd",
            "dockerjail.jail.a.failregex": "^a <HOST>\n^b <HOST>",
            "dockerjail.jail.a.ignoreregex": "",
            "dockerjail.jail.a.maxretry": "3",
            "dockerjail.jail.a.findtime": "1h",
            "dockerjail.jail.a.bantime": "-1",
            "dockerjail.jail.a.ports": "80,53/udp",
            "dockerjail.jail.a.scope": "host",
            "dockerjail.jail.a.stream": "stderr",
        }
    )
    assert found.problems == ()
    assert found.options["a"] == {
        "filter": "sshd",
        "failregex": ("^a <HOST>", "^b <HOST>"),
        "ignoreregex": (),
        "maxretry": 3,
        "findtime": 3600.0,
        "bantime": None,
        "ports": (Port(80), Port(53, "udp")),
        "scope": ScopeKind.HOST,
        "stream": {Stream.STDERR},
    }


def test_numbered_expressions_are_tried_in_the_order_of_their_numbers() -> None:
    found = labels(
        {
            "dockerjail.jail.a.failregex.10": "ten",
            "dockerjail.jail.a.failregex.2": "two\nand a half",
            "dockerjail.jail.a.failregex": "first",
            "dockerjail.jail.a.ignoreregex.1": "ignored",
        }
    )
    assert found.options["a"]["failregex"] == ("first", "two", "and a half", "ten")
    assert found.options["a"]["ignoreregex"] == ("ignored",)


def test_a_jails_name_may_hold_dots_and_even_an_option() -> None:
    found = labels(
        {
            "dockerjail.jail.shop.example.com.maxretry": "3",
            "dockerjail.jail.x.filter.bantime": "1h",
            "dockerjail.jail.y.failregex.failregex.1": "^z <HOST>",
        }
    )
    assert found.options == {
        "shop.example.com": {"maxretry": 3},
        "x.filter": {"bantime": 3600.0},
        "y.failregex": {"failregex": ("^z <HOST>",)},
    }
    assert found.problems == ()


def test_another_prefix_is_another_daemons() -> None:
    ours = {"org.example.jail.enable": "true", "org.example.jail.jails": "a"}
    found = read(
        {**ours, "dockerjail.enable": "x"}, prefix="org.example.jail", policy=LabelPolicy.DEFINE
    )
    assert found == Labels(enabled=True, jails=("a",))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("enable", "ture", "label dockerjail.enable: 'ture' is neither true nor false; write true"),
        ("jials", "a", "label dockerjail.jials: is no label known here; write dockerjail.jails"),
        (
            "enabled",
            "true",
            "label dockerjail.enabled: is no label known here; write dockerjail.en",
        ),
        ("jail", "a", "label dockerjail.jail: names no jail; write dockerjail.jail.NAME.OPTION"),
        ("jail.a", "x", "write dockerjail.jails=a to select it, or dockerjail.jail.a.failregex=…"),
        ("jaill.a.bantime", "1h", "write dockerjail.jail.a.bantime"),
        ("jails.a.bantime", "1h", "write dockerjail.jail.a.bantime"),
        ("maxretry", "3", "write dockerjail.jail.NAME.maxretry"),
        ("bantime.increment", "true", "write dockerjail.jail.NAME.bantime.increment"),
        ("budget.active", "0", "budget is never taken from a label"),
        ("firewall.mode", "observe", "firewall is never taken from a label"),
        ("jails", "a,b@c", "label dockerjail.jails: 'b@c' is no name; write 1 to 64 letters"),
        ("jail.a b.maxretry", "3", "'a b' is no name; write 1 to 64 letters"),
        ("ignoreip", "10.0.0.1", "ignoreip is never taken from a label; write it in the daemon's"),
        ("defaults.maxretry", "3", "defaults is never taken from a label"),
        ("something", "3", "label dockerjail.something: is no label known here; known: enable, "),
    ],
)
def test_a_wrong_label_is_answered_with_its_place_and_what_to_write(
    key: str, value: str, message: str
) -> None:
    assert message in said(labels({f"dockerjail.{key}": value}))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("maxretry", "five", "'five' is not a whole number; write a whole number such as 5"),
        ("maxretry", "", "'' is not a whole number"),
        ("findtime", "soon", "'soon' is no duration; write a duration such as 600, 10m"),
        ("findtime", "-1", "is less than nothing"),
        ("bantime", "never", "'never' is no duration; write a duration such as 600"),
        ("bantime", "3 fortnights", "'fortnights' is no unit; write s, m, h, d, w, mo or y"),
        ("bantime.formula", "open('x')", "'open'(…) may not be called; write one of float, int"),
        ("bantime.formula", "ban.Tyme", "'ban.Tyme' is not known; write a number, or one of"),
        ("bantime.incremnt", "true", "write dockerjail.jail.a.bantime.increment"),
        ("bantime.maxtime", "soon", "'soon' is no duration"),
        ("ipv4_prefix", "33", "'33' is no prefix length from 1 to 32; write 32 for single"),
        ("ipv6_prefix", "0", "'0' is no prefix length from 1 to 128; write 64 for a customer's"),
        ("mode", "dry", "'dry' is none of enforce, observe"),
        ("verify", "flow", "'flow' is none of conntrack, none"),
        ("aggregate", "1", "the addresses are a number from 2 to 256"),
        ("ports", "80-", "'80-' is no port; write ports such as 80, 443/tcp, 51820/udp or 8000"),
        ("ports", "eighty", "'eighty' is no port name known here; write the number"),
        ("scope", "world", "'world' is none of auto, host"),
        ("stream", "stdin", "'stdin' is none of both, stderr, stdout; write one of these"),
        ("filter", "a b", "'a b' is no name"),
        ("failregex", " ", "is empty; write an expression with <HOST> where the address is"),
        ("maxretrys", "3", "'maxretrys' is no option of a jail; write dockerjail.jail.a.maxretry"),
        ("failregex.one", "x", "'failregex.one' is no option of a jail; write "),
        (
            "maxretry.1",
            "3",
            "'maxretry.1' is no option of a jail; write dockerjail.jail.a.maxretry",
        ),
        ("ignoreip", "10.0.0.1", "ignoreip is never taken from a label; write it under [jails.a]"),
        ("enabled", "true", "enabled is never taken from a label; write it under [jails.a]"),
    ],
)
def test_a_wrong_option_takes_its_jail_with_it_and_no_other(
    option: str, value: str, message: str
) -> None:
    found = labels(
        {
            "dockerjail.jails": "a,b",
            "dockerjail.jail.a.bantime": "1h",
            f"dockerjail.jail.a.{option}": value,
            "dockerjail.jail.c.maxretry": "3",
        }
    )
    assert f"label dockerjail.jail.a.{option}: " in said(found)
    assert message in said(found)
    assert len(found.problems) == 1
    assert found.jails == ("b", "c")
    assert found.broken == {"a"}
    assert "a" not in found.options


def test_growing_bans_are_options_with_a_dot_also_of_a_jail_whose_name_has_dots() -> None:
    found = labels(
        {
            "dockerjail.jail.shop.bantime.increment": "true",
            "dockerjail.jail.shop.bantime.maxtime": "1w",
            "dockerjail.jail.a.b.bantime.multipliers": "1 5",
            "dockerjail.jail.a.b.bantime": "1h",
        }
    )
    assert found.problems == ()
    assert found.options == {
        "shop": {"bantime.increment": True, "bantime.maxtime": 604800.0},
        "a.b": {"bantime.multipliers": (1.0, 5.0), "bantime": 3600.0},
    }


def test_a_wrong_name_in_the_list_does_not_keep_the_others_out() -> None:
    assert labels({"dockerjail.jails": "a,b@c,d"}).jails == ("a", "d")


def test_labels_without_enable_are_answered_with_what_is_missing() -> None:
    found = read({"dockerjail.jails": "a"}, prefix="dockerjail", policy=LabelPolicy.DEFINE)
    assert not found.enabled
    assert said(found) == (
        "label dockerjail.enable: is missing beside other dockerjail labels; "
        "write dockerjail.enable=true"
    )


def test_a_prefix_in_the_wrong_case_is_answered() -> None:
    found = read({"DockerJail.enable": "true"}, prefix="dockerjail", policy=LabelPolicy.DEFINE)
    assert not found.enabled
    assert "label DockerJail.enable: is not read: the prefix is dockerjail" in said(found)


ALL = {
    "dockerjail.jails": "a",
    "dockerjail.jail.a.maxretry": "3",
    "dockerjail.jail.b.failregex": "^x <HOST>",
}


def test_with_off_labels_are_not_read_at_all() -> None:
    assert labels({**ALL, "dockerjail.nonsense": "x"}, LabelPolicy.OFF) == Labels()


def test_with_select_labels_only_choose_jails() -> None:
    found = labels(ALL, LabelPolicy.SELECT)
    assert found.jails == ("a",)
    assert found.options == {}
    assert "label dockerjail.jail.a.maxretry: is passed over: the daemon lets labels" in said(found)
    assert "write maxretry under [jails.a] in the daemon's file" in said(found)
    assert "or allow it there with labels = 'tune' under [docker]" in said(found)
    assert "or allow it there with labels = 'define' under [docker]" in said(found)


def test_with_tune_labels_define_no_jails() -> None:
    found = labels(ALL, LabelPolicy.TUNE)
    assert found.jails == ("a",)
    assert found.options == {"a": {"maxretry": 3}}
    assert len(found.problems) == 1
    assert "label dockerjail.jail.b.failregex: is passed over" in said(found)


def test_what_labels_may_not_set_does_not_keep_the_jail_from_running() -> None:
    more = {"dockerjail.jails": "a", "dockerjail.jail.a.failregex": "^x <HOST>"}
    assert labels(more, LabelPolicy.TUNE).jails == ("a",)


WORDS = st.sampled_from(
    [
        "enable",
        "jails",
        "jail",
        "a",
        "failregex",
        "ignoreregex",
        "maxretry",
        "1",
        "²",
        "",
        "ignoreip",
    ]
)
KEYS = st.text() | st.lists(WORDS | st.text(max_size=5), max_size=6).map(
    lambda parts: ".".join(["dockerjail", *parts])
)


@given(st.dictionaries(KEYS, st.text() | st.sampled_from(["true", "5", "10m", "80"])))
def test_no_label_whatever_brings_the_reader_down(hostile: dict[str, str]) -> None:
    for policy in LabelPolicy:
        found = read({**ENABLE, **hostile}, prefix="dockerjail", policy=policy)
        for problem in found.problems:
            assert str(problem).isprintable()
            assert len(str(problem)) < 1500
        assert not found.broken & {*found.jails}
        assert {*found.options} <= {*found.jails}


def test_a_label_of_control_characters_makes_no_endless_message() -> None:
    (problem,) = labels({f"dockerjail.jail.{chr(0xE0001) * 400}": "x"}).problems
    assert str(problem).isprintable()
    assert len(str(problem)) < 1500


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ({f"jail.j.failregex.{n}": "x" for n in range(MOST_LABELS)}, "more than the 500"),
        ({"jail.j.failregex": "x" * MOST_CHARACTERS}, "longer than the 16384 characters"),
        ({"jail.j.failregex": "[a-\\U0010ffff]" * (MOST_WIDE + 1)}, "sets of characters"),
        ({"jail.j.failregex": "[а-я]" * (MOST_WIDE + 1)}, "sets of characters"),  # noqa: RUF001
    ],
)
def test_of_labels_beyond_what_is_read_none_counts_and_it_is_said(
    ours: dict[str, str], said: str
) -> None:
    written = {"dockerjail.enable": "true", "dockerjail.jail.k.failregex": "bad <HOST>"}
    written |= {f"dockerjail.{key}": value for key, value in ours.items()}
    found = read(written, prefix="dockerjail", policy=LabelPolicy.DEFINE)
    assert (found.enabled, found.jails, dict(found.options)) == (True, (), {})
    assert [problem.place for problem in found.problems] == ["label dockerjail"]
    assert said in found.problems[0].what


def test_the_jails_that_labels_name_are_bounded_and_it_is_said() -> None:
    written = {"dockerjail.enable": "true"}
    written["dockerjail.jails"] = ",".join(f"j{n:04}" for n in range(2000))
    found = read(written, prefix="dockerjail", policy=LabelPolicy.DEFINE)
    assert found.jails == tuple(f"j{n:04}" for n in range(MOST_JAILS))
    assert "name 2000 jails; the first 50 run" in found.problems[0].what


def test_what_is_wrong_with_labels_is_told_up_to_a_number() -> None:
    for written in (
        {f"dockerjail.wrong{n}": "x" for n in range(400)},
        {f"Dockerjail.wrong{n}": "x" for n in range(10_000)},
        {"dockerjail.jails": " ".join(f"no!name{n}" for n in range(1000))},
    ):
        written["dockerjail.enable"] = "true"
        found = read(written, prefix="dockerjail", policy=LabelPolicy.DEFINE)
        assert len(found.problems) == MOST_PROBLEMS + 1
        assert "more labels are wrong" in found.problems[-1].what
