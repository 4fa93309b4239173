"""Promises of the values that people write in settings, labels and orders."""

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dockerjail.config import values
from dockerjail.config.mistake import Mistake, nearest
from dockerjail.jail.policy import Aggregate, ScopeKind, Verify
from dockerjail.model import Blocktype, Mode, Port, Stream

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def test_ports_are_numbers_with_a_protocol_and_ranges() -> None:
    assert values.ports("80,443/tcp, 51820/UDP 8000-8002") == (
        Port(80),
        Port(443),
        Port(51820, "udp"),
        Port(8000),
        Port(8001),
        Port(8002),
    )


def test_ports_of_the_file_may_be_a_list() -> None:
    assert values.ports([80, "443/tcp", "53/udp,53"]) == (
        Port(80),
        Port(443),
        Port(53, "udp"),
        Port(53),
    )
    assert values.ports(8080) == (Port(8080),)


def test_a_port_is_named_once() -> None:
    assert values.ports("80,80/tcp,79-81") == (Port(80), Port(79), Port(81))


def test_ports_can_be_written_by_name_and_with_fail2bans_colon() -> None:
    assert values.ports("http,https,domain/udp,8000:8001") == (
        Port(80),
        Port(443),
        Port(53, "udp"),
        Port(8000),
        Port(8001),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no port; write ports such as 80,443"),
        (",", "names no port"),
        ("0", "a port is a number from 1 to 65535; write ports such as"),
        ("65536", "a port is a number from 1 to 65535"),
        ("99999999999999", "a port is a number from 1 to 65535"),
        ("0-65535", "write scope=host to keep out from everything"),
        ("any", "write scope=host to keep out from everything"),
        ("90-80", "'90-80' ends before it begins; write 80-90"),
        ("1-65535", "more than 256 ports; write fewer, or scope=host"),
        ("80/icmp", "'icmp' is none of tcp, udp, sctp"),
        ("80/", "'80/' is no port; write ports such as 80, 443/tcp"),
        ("dns", "'dns' is no port name known here; write the number, or one of ftp, ssh"),
        ("٨٠", "is no port"),
        ("80;443", "'80;443' is no port"),
        ("-80", "is no port"),
        ("80-", "'80-' is no port; write ports such as 80, 443/tcp, 51820/udp or 8000-8010"),
    ],
)
def test_wrong_ports_are_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(Mistake) as caught:
        values.ports(text)
    assert message in str(caught.value)


@given(st.text() | st.text("0123456789-/:, tcpud") | ANYTHING)
def test_any_ports_are_a_bounded_list_or_a_mistake(value: object) -> None:
    try:
        ports = values.ports(value)
    except Mistake:
        return
    assert 0 < len(ports) <= values.MOST_PORTS
    assert all(1 <= port.number <= 65535 for port in ports)
    assert len(set(ports)) == len(ports)


@given(
    st.lists(
        st.tuples(st.integers(1, 65535), st.sampled_from(values.PROTOCOLS)),
        min_size=1,
        max_size=20,
        unique=True,
    )
)
def test_ports_as_they_are_shown_can_be_written_back(pairs: list[tuple[int, str]]) -> None:
    ports = tuple(Port(number, protocol) for number, protocol in pairs)  # type: ignore[arg-type]
    assert values.ports(", ".join(map(str, ports))) == ports


def test_addresses_are_hosts_and_networks_of_both_families() -> None:
    assert values.addresses("192.0.2.1, 10.0.0.0/8 192.168.7.9/255.255.255.0 2001:db8::/32") == (
        ip_network("192.0.2.1/32"),
        ip_network("10.0.0.0/8"),
        ip_network("192.168.7.0/24"),
        ip_network("2001:db8::/32"),
    )
    assert values.addresses(["::1", "2001:db8::5/ffff:ffff::"]) == (
        ip_network("::1/128"),
        ip_network("2001:db8::/32"),
    )
    assert values.addresses("") == ()


def test_a_mapped_address_is_the_ipv4_address() -> None:
    assert values.addresses("::ffff:192.0.2.1 ::ffff:10.0.0.0/104") == (
        ip_network("192.0.2.1/32"),
        ip_network("10.0.0.0/8"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost", "'localhost' is a name, and names are not looked up here; write an address"),
        ("example.com", "is a name"),
        ("999.1.2.3", "'999.1.2.3' is neither an address nor a network; write an address such as"),
        ("192.0.2.010", "is neither an address nor a network"),
        ("192.0.2.0/33", "is neither an address nor a network"),
        ("192.0.2.0/", "is neither an address nor a network"),
        ("10.0.0.1/255.0.255.0", "is neither an address nor a network"),
        ("2001:db8::/ff00:ff00::", "is neither an address nor a network"),
        ("fe80::1%eth0", "'fe80::1%eth0' names an interface; write fe80::1"),
        ("203.0.113.7;203.0.113.8", "is neither an address nor a network"),
    ],
)
def test_what_is_no_address_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(Mistake) as caught:
        values.addresses(text)
    assert message in str(caught.value)


def test_whom_to_ignore_are_addresses_names_of_hosts_and_files() -> None:
    found = values.ignored("192.0.2.1 Home.Example.org,db file:/etc/friends, 10.0.0.0/8 db")
    assert found.addresses == (ip_network("192.0.2.1"), ip_network("10.0.0.0/8"))
    assert found.sources == ("home.example.org", "db", "file:/etc/friends")
    assert values.ignored(["cafe.de", "File:/absent"]).sources == ("cafe.de", "file:/absent")
    assert values.ignored("") == values.NOBODY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.2.3", "'1.2.3' is neither an address nor a network, and no name of a host; write an"),
        ("999.1.2.3", "and no name of a host"),
        ("10.0.0.0/33", "and no name of a host"),
        ("example..org", "and no name of a host"),
        ("-x.org", "and no name of a host"),
        ("x" * 64 + ".org", "and no name of a host"),
        ("home.example.org/24", "and no name of a host"),
        ("fe80::1%eth0", "'fe80::1%eth0' names an interface; write fe80::1"),
        ("file:friends", "is no file with an absolute path; write the whole path, from / on"),
        ("file:", "is no file with an absolute path"),
        ("/etc/friends", "'/etc/friends' is no address; write file:/etc/friends"),
    ],
)
def test_what_is_nobody_to_ignore_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(Mistake) as caught:
        values.ignored(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(("value", "meant"), [(1, 1), ("24", 24), ("/24", 24), (32, 32)])
def test_a_prefix_is_how_many_bits_make_a_client(value: object, meant: int) -> None:
    assert values.ipv4_prefix(value) == meant
    assert values.ipv6_prefix(value) == meant
    assert values.ipv6_prefix(128) == 128


@pytest.mark.parametrize("value", [33, 0, -1, "", "all", True, 24.0, None])
def test_a_prefix_out_of_range_is_refused_with_the_range(value: object) -> None:
    with pytest.raises(Mistake, match="is no prefix length from 1 to 32; write 32 for single"):
        values.ipv4_prefix(value)


def test_an_ipv6_prefix_has_its_own_range() -> None:
    assert values.ipv6_prefix(33) == 33
    with pytest.raises(Mistake, match="129 is no prefix length from 1 to 128; write 64 for a cust"):
        values.ipv6_prefix(129)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("10 in 1h", Aggregate(addresses=10, time=3600.0)),
        ("3 IN 2 days 1h", Aggregate(addresses=3, time=49 * 3600.0)),
        ("2", Aggregate(addresses=2, time=3600.0)),
        (256, Aggregate(addresses=256, time=3600.0)),
        ("off", None),
        (" No ", None),
        (False, None),
    ],
)
def test_neighbours_are_a_number_within_a_time(value: object, meant: Aggregate | None) -> None:
    assert values.aggregate(value) == meant


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1, "1: the addresses are a number from 2 to 256; write how many addresses, and within"),
        ("0", "the addresses are a number from 2 to 256"),
        (257, "the addresses are a number from 2 to 256"),
        (True, "true is no number of addresses in a time"),
        ("many", "'many' is no number of addresses in a time; write how many"),
        ("10 in", "is no number of addresses in a time"),
        ("10 in 3 fortnights", "'fortnights' is no unit; write s, m, h, d, w"),
        ("10 in 0", "is no time at all"),
        (10.0, "is no number of addresses in a time"),
    ],
)
def test_wrong_neighbours_are_refused_with_what_to_write(value: object, message: str) -> None:
    with pytest.raises(Mistake) as caught:
        values.aggregate(value)
    assert message in str(caught.value)


def test_modes_and_proofs_are_words() -> None:
    assert values.mode("Observe") is Mode.OBSERVE
    assert values.verify("conntrack") is Verify.CONNTRACK
    assert values.verify("none") is Verify.NOTHING
    with pytest.raises(Mistake, match="'obsrve' is none of enforce, observe; write observe"):
        values.mode("obsrve")
    with pytest.raises(Mistake, match="'flow' is none of conntrack, none"):
        values.verify("flow")


def test_multipliers_are_numbers_in_a_text_or_a_list() -> None:
    assert values.multipliers("1 5, 30") == values.multipliers([1, "5", 30.0]) == (1.0, 5.0, 30.0)
    assert values.multipliers(2) == (2.0,)
    assert values.multipliers("") == values.multipliers([]) == ()


@pytest.mark.parametrize("value", ["1 two", "0", -1, [True], "nan", "inf", 10**400, {}, [[1]]])
def test_a_multiplier_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(Mistake, match=r"is no number.*; write numbers such as 1 5 30 60 300"):
        values.multipliers(value)


def test_multipliers_are_not_endless() -> None:
    with pytest.raises(Mistake, match="more than 100 numbers"):
        values.multipliers("2 " * 101)


def test_a_factor_is_a_number_or_what_a_calculation_comes_to() -> None:
    assert values.factor(2) == values.factor("2") == values.factor("6.0 / 3") == 2.0


@pytest.mark.parametrize("value", ["ban.Time", "open('x')", "", 0, "-1", True, None, "1/0"])
def test_what_is_no_factor_is_refused(value: object) -> None:
    with pytest.raises(Mistake) as caught:
        values.factor(value)
    assert caught.value.remedy.startswith(("write ", "leave "))


def test_a_formula_is_read_and_none_is_the_doubling_that_holds_without_one() -> None:
    formula = values.formula(" ban.Time * (ban.Count + 1) ")
    assert formula is not None
    assert formula.seconds(600, 2, 1.0) == 1800
    assert values.formula(" ") is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("__import__('os').system('x')", "may not be called"),
        ("ban.Tyme * 2", "'ban.Tyme' is not known; write a number, or one of ban.Time, ban.Count"),
        ("random.random()", "leave it out, and set rndtime"),
        ("ban.Time *", "is no formula"),
        (5, "5 is no formula; write it in quotes"),
    ],
)
def test_a_formula_that_cannot_be_meant_is_refused_with_what_to_write(
    value: object, message: str
) -> None:
    with pytest.raises(Mistake) as caught:
        values.formula(value)
    assert message in str(caught.value)


@given(st.ip_addresses())
def test_every_address_can_be_written(address: object) -> None:
    (subject,) = values.addresses(str(address))
    assert subject.num_addresses == 1


@pytest.mark.parametrize("text", ["true", "True", " TRUE ", "1", "yes", "on", True, 1])
def test_true_is_written_as_traefiks_users_do(text: object) -> None:
    assert values.boolean(text) is True


@pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", "off", False, 0])
def test_false_is_written_as_traefiks_users_do(text: object) -> None:
    assert values.boolean(text) is False


@pytest.mark.parametrize("text", ["", "ture", "2", "enabled", 2, None, [], {}, 1.0])
def test_what_is_neither_true_nor_false_is_refused(text: object) -> None:
    with pytest.raises(Mistake, match="is neither true nor false; write true or false"):
        values.boolean(text)


def test_a_count_is_a_whole_number() -> None:
    assert values.count("5") == values.count(5) == values.count(" 5 ") == 5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("five", "'five' is not a whole number; write a whole number such as 5"),
        ("", "'' is not a whole number"),
        ("5.0", "is not a whole number"),
        (5.0, "5.0 is not a whole number"),
        (True, "true is not a whole number"),
        ("\u0665", "is not a whole number"),
        (0, "0 is less than 1"),
        (-3, "-3 is less than 1"),
        (10_001, "10001 is more than 10000"),
        (10**400, "a huge number is more than 10000"),
        ("9" * 5000, "is not a whole number"),
        (None, "a NoneType is not a whole number"),
    ],
)
def test_what_is_no_count_is_refused_with_what_to_write(value: object, message: str) -> None:
    with pytest.raises(Mistake) as caught:
        values.count(value)
    assert message in str(caught.value)
    assert caught.value.remedy == "write a whole number such as 5"
    assert len(str(caught.value)) < 200


def test_expressions_stand_one_to_a_line() -> None:
    assert values.regexes(" ^a <HOST>$ \n\n  ^b, <HOST>\r\n") == ("^a <HOST>$", "^b, <HOST>")
    assert values.regexes(["^a", "^b\n^c"]) == ("^a", "^b", "^c")
    assert values.regexes("") == ()


def test_streams_and_scopes_are_words() -> None:
    assert values.streams("stdout") == {Stream.STDOUT}
    assert values.streams("STDERR") == {Stream.STDERR}
    assert values.streams("both") == values.streams("stdout,stderr") == set(Stream)
    assert values.scope("Auto") is ScopeKind.AUTO
    assert values.scope("host") is ScopeKind.HOST


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("drop", Blocktype.DROP),
        (" DROP ", Blocktype.DROP),
        ("reject", Blocktype.REJECT),
        ("Reject", Blocktype.REJECT),
        ("reject with tcp reset", Blocktype.REJECT),
        ("REJECT --reject-with icmp-port-unreachable", Blocktype.REJECT),
    ],
)
def test_a_blocktype_may_be_written_as_for_fail2ban(written: str, meant: Blocktype) -> None:
    assert values.blocktype(written) is meant


@pytest.mark.parametrize("text", ["", "accept", "RETURN", "no reject", None, True, 1])
def test_any_other_blocktype_is_a_mistake(text: object) -> None:
    with pytest.raises(Mistake):
        values.blocktype(text)


def test_a_wrong_word_is_answered_with_the_nearest_right_one() -> None:
    with pytest.raises(Mistake, match="'sdterr' is none of both, stderr, stdout; write stderr"):
        values.streams("sdterr")
    with pytest.raises(Mistake, match="'hots' is none of auto, host; write host"):
        values.scope("hots")
    with pytest.raises(Mistake, match="'rejekt' is none of drop, reject; write reject"):
        values.blocktype("rejekt")
    with pytest.raises(Mistake, match="none of auto, host; write one of these"):
        values.scope("xyz")


@pytest.mark.parametrize("text", ["", "a b", "a/b", "a" * 65, "ä", "a@b", None, 5])
def test_a_name_is_short_and_plain(text: object) -> None:
    with pytest.raises(Mistake):
        values.name(text)


@pytest.mark.parametrize("text", ["[sshd]", "'sshd'", "sshd;", '["sshd"'])
def test_a_name_in_brackets_or_quotes_is_told_bare(text: str) -> None:
    with pytest.raises(Mistake) as caught:
        values.name(text)
    assert caught.value.remedy == "write sshd"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("$.request.ip", "request.ip"),
        (".request.ip", "request.ip"),
        ("request.ip.", "request.ip"),
        ("clients[0].ip", "clients.0.ip"),
        ("$[0]", "0"),
    ],
)
def test_a_field_as_jq_writes_it_is_told_as_we_do(text: str, meant: str) -> None:
    with pytest.raises(Mistake) as caught:
        values.selector(text)
    assert caught.value.remedy == f"write {meant}"
    assert values.selector(meant) == meant


@pytest.mark.parametrize("text", ["@message", "x-forwarded-for", "$ip", "a[b]", "0", "a.0.b"])
def test_a_field_may_have_odd_signs(text: str) -> None:
    assert values.selector(text) == text


@given(st.text(), st.lists(st.text()))
def test_the_nearest_word_is_a_known_one_or_none(word: str, known: list[str]) -> None:
    assert nearest(word, known) in {*known, None}


@pytest.mark.parametrize(
    "read",
    [
        values.addresses,
        values.aggregate,
        values.blocktype,
        values.boolean,
        values.count,
        values.factor,
        values.formula,
        values.ignored,
        values.ipv4_prefix,
        values.ipv6_prefix,
        values.mode,
        values.multipliers,
        values.name,
        values.names,
        values.regexes,
        values.scope,
        values.streams,
        values.text,
        values.verify,
    ],
)
@example(value="0\x1f")
@given(value=st.text() | ANYTHING)
def test_any_value_is_read_or_refused(read: Callable[[object], object], value: object) -> None:
    with suppress(Mistake):
        read(value)


@given(st.text(), st.text())
def test_a_message_stays_on_one_line_whatever_it_repeats(what: str, remedy: str) -> None:
    message = str(Mistake(what, remedy))
    assert message.isprintable()
    assert "\n" not in message


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (
            {"event": "login_failed", "status": [401, 403]},
            ((("event", ("login_failed",)), ("status", ("401", "403"))),),
        ),
        (
            "event=login_failed, status=401|403",
            ((("event", ("login_failed",)), ("status", ("401", "403"))),),
        ),
        ("a=1; b=2", ((("a", ("1",)),), (("b", ("2",)),))),
        ([{"a": True}, {"b": "x*"}], ((("a", ("true",)),), (("b", ("x*",)),))),
        ("a=", ((("a", ("",)),),)),
        ('msg="login failed"|\'x\', b="', ((("msg", ("login failed", "x")), ("b", ('"',))),)),
    ],
)
def test_conditions_are_tables_or_text(written: object, meant: object) -> None:
    assert values.conditions(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        *("event", "=x", "a==b", "a!=b", "", " ; ", 5, [1], {}, {"a": {}}, {"a": []}, {"a b": 1}),
    ],
)
def test_a_wrong_condition_says_what_to_write(written: object) -> None:
    with pytest.raises(Mistake) as caught:
        values.conditions(written)
    assert caught.value.remedy.startswith("write ")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sshd", "sshd"),
        ("sshd[mode=aggressive]", "sshd[mode=aggressive]"),
        ("sshd [mode=x]", "sshd[mode=x]"),
    ],
)
def test_a_filter_may_have_options(written: str, meant: str) -> None:
    assert values.reference(written) == meant


@pytest.mark.parametrize("written", ["sshd[mode=x", "[mode=x]", "a/b[x=y]", "sshd]"])
def test_a_wrong_reference_to_a_filter_is_a_mistake(written: str) -> None:
    with pytest.raises(Mistake):
        values.reference(written)


def test_a_reference_to_a_filter_is_bounded() -> None:
    """A label writes it, and options that name each other take seconds at a megabyte."""
    with pytest.raises(Mistake, match="longer than 2000"):
        values.reference(f"sshd[x={'y' * 2000}]")


def test_a_prefix_keeps_its_blank() -> None:
    assert values.prefix("sshd[1]: ") == "sshd[1]: "
    with pytest.raises(Mistake, match="prefix"):
        values.prefix("a\nb")


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("1 GiB", 1024**3),
        ("512m", 512 * 1024**2),
        ("20000kB", 20_000 * 1024),
        (16 * 1024**2, 16 * 1024**2),
        ("33554432 B", 33_554_432),
        ("0", 0),
        (0, 0),
    ],
)
def test_a_size_has_a_unit_or_is_a_number_of_bytes(text: object, octets: int) -> None:
    assert values.size(text) == octets


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("1 MiB", "is less than 16 MiB"),
        ("90d", "is no size"),
        ("-1", "is no size"),
        (1.5, "is no size"),
        (True, "is no size"),
        ([1], "is no size"),
        ("9999 GiB", "is more than 1 TiB"),
    ],
)
def test_what_is_no_size_is_refused_in_words(text: object, what: str) -> None:
    with pytest.raises(Mistake, match=what):
        values.size(text)
