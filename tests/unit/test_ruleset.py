"""The table as data."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.model import Blocktype, Element, Port, Subject
from dockerjail.nft import ruleset
from dockerjail.nft.ruleset import BanSet, Interval, Kind, Rule, Verdict

V4 = st.builds(
    lambda address, prefix: ip_network((address, prefix), strict=False),
    st.integers(0, 2**32 - 1).map(IPv4Address),
    st.integers(0, 32),
)
V6 = st.builds(
    lambda address, prefix: ip_network((address, prefix), strict=False),
    st.integers(0, 2**128 - 1).map(IPv6Address),
    st.integers(0, 128),
)
PORTS = st.builds(Port, st.integers(0, 65535), st.sampled_from(["tcp", "udp", "sctp"]))
AT_THE_HOST = st.builds(Element, V4 | V6, st.none() | PORTS, st.sampled_from(Blocktype), st.none())
PAST_THE_HOST = st.tuples(V4, st.ip_addresses(v=4)) | st.tuples(V6, st.ip_addresses(v=6))
ELEMENTS = AT_THE_HOST | PAST_THE_HOST.map(lambda pair: Element(pair[0], None, to=pair[1]))
REJECT = Blocktype.REJECT


@given(ELEMENTS)
def test_an_element_is_found_again_by_its_set_and_key(element: Element) -> None:
    home = ruleset.home(element)
    key = ruleset.key(element)
    assert len(key) == home.key_length
    assert ruleset.element(home, key) == element
    assert ruleset.parse_name(home.name) == home


@given(ELEMENTS, ELEMENTS)
def test_two_elements_never_share_set_and_key(one: Element, other: Element) -> None:
    places = [(ruleset.home(each), ruleset.key(each)) for each in (one, other)]
    assert (places[0] == places[1]) == (one == other)


def test_names_say_kind_version_prefix_and_whether_there_is_an_answer() -> None:
    assert {home.name for home in ruleset.USUAL} == {"port4_32", "port6_64", "all4_32", "all6_64"}
    assert ruleset.home(Element(ip_network("10.0.0.0/24"), None)).name == "all4_24"
    assert ruleset.home(Element(ip_network("10.0.0.0/24"), None, REJECT)).name == "all4_24_reject"


def test_a_key_holds_address_protocol_and_port_each_padded_to_four_bytes() -> None:
    element = Element(ip_network("192.0.2.1/32"), Port(8080, "udp"))
    assert ruleset.key(element) == b"\xc0\x00\x02\x01\x11\0\0\0\x1f\x90\0\0"


@pytest.mark.parametrize(
    "name",
    [
        *("allow4", "port4", "port4_", "port4_33", "all6_129", "all5_32", "all4_032", "all4_-1"),
        *("all4_x", "ALL4_32", "all4_32_", "", "_32", "all4_\u0663\u0662"),
        *("all4_32_drop", "all4_32_rejec", "all4_32_reject_", "all4_reject", "all4_32reject"),
        *("to4_32_reject", "to4", "direct4", "to4_33"),
    ],
)
def test_a_name_that_is_none_of_ours_is_no_set_of_bans(name: str) -> None:
    assert ruleset.parse_name(name) is None


@pytest.mark.parametrize(
    ("home", "key"),
    [
        (BanSet(Kind.ALL, 4, 24), b"\xc0\0\2\1"),
        (BanSet(Kind.ALL, 4, 32), b"\xc0\0\2"),
        (BanSet(Kind.ALL, 4, 32), bytes(16)),
        (BanSet(Kind.PORT, 4, 32), b"\xc0\0\2\1\x01\0\0\0\0\x50\0\0"),
        (BanSet(Kind.ALL, 6, 64), bytes(15) + b"\1"),
        (BanSet(Kind.TO, 4, 24), b"\xc0\0\2\1\x0a\0\0\1"),
        (BanSet(Kind.TO, 4, 32), b"\xc0\0\2\1"),
    ],
    ids=[
        *("host bits", "too short", "too long", "not a protocol of ours", "IPv6 host bits"),
        *("host bits past the host", "too short past the host"),
    ],
)
def test_a_key_that_we_would_not_write_is_no_element(home: BanSet, key: bytes) -> None:
    assert ruleset.element(home, key) is None


@pytest.mark.parametrize("port", [Port(65536), Port(-1), Port(80, "icmp")])  # type: ignore[arg-type]
def test_a_port_that_no_packet_has_is_refused(port: Port) -> None:
    with pytest.raises(ValueError, match="no such port"):
        ruleset.key(Element(ip_network("192.0.2.1/32"), port))


def _covered(interval: Interval, version: int) -> range:
    width = 4 if version == 4 else 16
    after = 1 << width * 8 if interval.after is None else int.from_bytes(interval.after, "big")
    return range(int.from_bytes(interval.first, "big"), after)


@given(st.lists(V4 | V6))
def test_allowed_networks_become_ranges_that_never_touch_and_miss_nothing(
    networks: list[Subject],
) -> None:
    for version in ruleset.VERSIONS:
        ranges = [_covered(one, version) for one in ruleset.intervals(networks, version)]
        assert all(one.stop < after.start for one, after in pairwise(ranges))
        edges = {
            edge
            for network in networks
            if network.version == version
            for edge in (int(network.network_address), int(network.broadcast_address))
        }
        assert all(any(edge in one for one in ranges) for edge in edges)
        assert {edge for one in ranges for edge in (one.start, one.stop - 1)} <= edges


def test_ranges_that_overlap_or_touch_become_one() -> None:
    networks = [ip_network(text) for text in ("10.1.0.0/16", "10.0.0.0/8", "11.0.0.0/8")]
    assert ruleset.intervals(networks, 4) == [Interval(b"\x0a\0\0\0", b"\x0c\0\0\0")]


def test_the_last_address_has_nothing_behind_it() -> None:
    assert ruleset.intervals([ip_network("255.255.255.255/32")], 4) == [
        Interval(b"\xff\xff\xff\xff", None)
    ]
    assert ruleset.intervals([ip_network("::/0")], 6) == [Interval(bytes(16), None)]


def test_allowed_networks_come_first_in_every_chain() -> None:
    whole = ruleset.whole([BanSet(Kind.ALL, 4, 24), BanSet(Kind.PORT, 6, 48, REJECT)])
    bases = [chain for chain in whole.chains if chain.hook is not None]
    assert len(bases) == 4
    for chain in (*(chain.name for chain in bases), "direct"):
        rules = [rule for rule in whole.rules if rule.chain == chain]
        looked_up = [
            dict(step.attributes)["set"]
            for rule in rules
            for step in rule.expressions
            if step.name == "lookup"
        ]
        assert looked_up[:2] == ["allow4", "allow6"]
        assert rules[0].expressions[-1] == rules[1].expressions[-1]


def _looked_up(rule: Rule) -> list[object]:
    return [dict(step.attributes)["set"] for step in rule.expressions if step.name == "lookup"]


def _dropping(rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in rules if dict(rule.expressions[-1].attributes)["data"] == Verdict(0)]


def test_every_set_of_bans_has_one_rule_that_drops_where_the_host_is_reached() -> None:
    homes = ruleset.USUAL | {BanSet(Kind.ALL, 4, 0), BanSet(Kind.PORT, 6, 48)}
    whole = ruleset.whole(homes)
    drops = [
        name
        for rule in _dropping(whole.rules)
        if rule.chain != "direct"
        for name in _looked_up(rule)
    ]
    assert sorted(map(str, drops)) == sorted(home.name for home in homes)
    named = {"allow4", "allow6", "direct4", "direct6"}
    assert {one.name for one in whole.sets} == {*named, *drops}


def test_past_the_host_bans_of_an_address_are_looked_for_and_bans_of_everything() -> None:
    homes = [
        BanSet(Kind.ALL, 4, 24),
        BanSet(Kind.ALL, 6, 64, REJECT),
        BanSet(Kind.PORT, 4, 24),
        BanSet(Kind.TO, 4, 32),
        BanSet(Kind.TO, 6, 64),
    ]
    rules = [rule for rule in ruleset.extension(homes).rules if rule.chain == "direct"]
    assert _dropping(rules) == rules
    assert [_looked_up(rule) for rule in rules] == [
        ["all4_24", "direct4"],
        ["all6_64_reject", "direct6"],
        ["to4_32"],
        ["to6_64"],
    ]
    assert all(any(step.name == "counter" for step in rule.expressions) for rule in rules)


def test_what_is_looked_for_past_the_host_lies_in_registers_without_a_gap() -> None:
    for home, wanted in ((BanSet(Kind.TO, 4, 32), [1, 9]), (BanSet(Kind.TO, 6, 128), [1, 2])):
        (rule,) = ruleset.extension([home]).rules
        loaded = [dict(step.attributes) for step in rule.expressions if step.name == "payload"]
        assert [each["dreg"] for each in loaded] == wanted
        assert sum(int(str(each["len"])) for each in loaded) == home.key_length


def test_a_door_sees_one_device_and_goes_on_to_the_bans() -> None:
    door = ruleset.door("eth0.50")
    (chain,) = door.chains
    (rule,) = door.rules
    assert (chain.name, chain.device) == ("ingress_eth0_2e50", "eth0.50")
    assert rule.chain == chain.name
    assert dict(rule.expressions[0].attributes)["data"] == Verdict(-4, "direct")
    assert not door.sets


@given(st.text(min_size=1, max_size=15), st.text(min_size=1, max_size=15))
def test_two_devices_never_share_a_chain(one: str, other: str) -> None:
    names = [ruleset.door_name(device) for device in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert name.isascii()
        assert name.replace("_", "").isalnum()
        assert ruleset.is_door(name)


def test_no_other_chain_is_taken_for_a_door() -> None:
    whole = ruleset.whole(ANSWERING)
    assert not [chain.name for chain in whole.chains if ruleset.is_door(chain.name)]


def test_a_table_and_its_rules_can_be_put_in_the_order_of_another() -> None:
    grown = [*sorted(ruleset.USUAL), BanSet(Kind.TO, 4, 24), BanSet(Kind.ALL, 4, 8)]
    usual, more = ruleset.whole(), ruleset.extension(grown[-2:])
    whole = ruleset.whole(grown)
    assert list(whole.sets) == [*usual.sets, *more.sets]
    for chain in whole.chains:
        assert [rule for rule in whole.rules if rule.chain == chain.name] == [
            rule for rule in (*usual.rules, *more.rules) if rule.chain == chain.name
        ]


@pytest.mark.parametrize(
    "element",
    [
        Element(ip_network("192.0.2.1/32"), Port(80), to=IPv4Address("10.0.0.1")),
        Element(ip_network("192.0.2.1/32"), None, REJECT, IPv4Address("10.0.0.1")),
        Element(ip_network("192.0.2.1/32"), None, to=IPv6Address("fd00::1")),
        Element(ip_network("2001:db8::/64"), None, to=IPv4Address("10.0.0.1")),
    ],
    ids=["a port", "an answer", "IPv4 to IPv6", "IPv6 to IPv4"],
)
def test_past_the_host_only_whole_addresses_can_be_closed(element: Element) -> None:
    with pytest.raises(ValueError, match="past the host"):
        ruleset.key(element)


def test_a_whole_table_is_the_usual_one_and_its_extensions() -> None:
    more = BanSet(Kind.ALL, 4, 24)
    usual, whole, extra = ruleset.whole(), ruleset.whole([more]), ruleset.extension([more])
    assert set(whole.sets) == {*usual.sets, *extra.sets}
    assert set(whole.rules) == {*usual.rules, *extra.rules}
    assert not extra.chains


def _verdicts(rules: Iterable[Rule], chain: str) -> list[Verdict]:
    """Return how each rule of a chain that looks for bans ends."""
    return [
        verdict
        for rule in rules
        if rule.chain == chain
        and any(step.name == "counter" for step in rule.expressions)
        and isinstance(verdict := dict(rule.expressions[-1].attributes)["data"], Verdict)
    ]


ANSWERING = [BanSet(Kind.PORT, 4, 32, REJECT), BanSet(Kind.ALL, 6, 64, REJECT)]


def test_a_table_in_which_nobody_is_answered_has_no_chains_for_it() -> None:
    assert {chain.name for chain in ruleset.whole().chains} == {
        *("raw_prerouting", "ct_prerouting", "direct")
    }


@pytest.mark.parametrize("first", ANSWERING)
def test_the_chains_that_answer_come_with_the_first_set_and_only_then(first: BanSet) -> None:
    (second,) = (home for home in ANSWERING if home != first)
    usual = ruleset.whole()
    one = ruleset.extension([first], beside=ruleset.USUAL)
    two = ruleset.extension([second], beside=ruleset.USUAL | {first})
    whole = ruleset.whole(ANSWERING)
    assert one.chains
    assert not two.chains
    for part in ("sets", "chains", "rules"):
        grown = [*getattr(usual, part), *getattr(one, part), *getattr(two, part)]
        assert sorted(grown, key=repr) == sorted(getattr(whole, part), key=repr)


def test_what_drops_stands_before_what_answers_and_both_before_dnat() -> None:
    whole = ruleset.whole(ANSWERING)
    answers = {REJECT: [], Blocktype.DROP: []}
    for chain in (chain for chain in whole.chains if chain.hook is not None):
        for verdict in _verdicts(whole.rules, chain.name):
            kind = REJECT if verdict.chain else Blocktype.DROP
            answers[kind].append(chain.priority)
    assert max(answers[Blocktype.DROP]) < min(answers[REJECT])
    conntrack, dnat = -200, -100
    assert all(conntrack < priority < dnat for priority in answers[REJECT])


def test_only_a_ban_from_everything_passes_over_standing_connections() -> None:
    rules = ruleset.whole(ANSWERING).rules
    assert _verdicts(rules, "reject_port") == [Verdict(-4, "answer")]
    assert _verdicts(rules, "reject_all") == [Verdict(-4, "answer_new")]


def test_rules_go_only_to_chains_that_stand_by_then() -> None:
    for part in (ruleset.whole(ANSWERING), ruleset.extension(ANSWERING), ruleset.trial()):
        chains = {chain.name: chain for chain in part.chains}
        for rule in part.rules:
            goal = dict(rule.expressions[-1].attributes).get("data")
            if isinstance(goal, Verdict) and goal.chain:
                assert chains[goal.chain].hook is None


@pytest.mark.parametrize(
    ("home", "mask"),
    [
        (BanSet(Kind.ALL, 4, 20), b"\xff\xff\xf0\0"),
        (BanSet(Kind.PORT, 4, 1), b"\x80\0\0\0"),
        (BanSet(Kind.ALL, 4, 0), bytes(4)),
        (BanSet(Kind.PORT, 6, 64), b"\xff" * 8 + bytes(8)),
        (BanSet(Kind.ALL, 6, 127), b"\xff" * 15 + b"\xfe"),
        (BanSet(Kind.ALL, 4, 32), None),
        (BanSet(Kind.PORT, 6, 128), None),
        (BanSet(Kind.TO, 4, 24), b"\xff\xff\xff\0"),
        (BanSet(Kind.TO, 6, 128), None),
    ],
)
def test_a_rule_masks_the_address_to_the_length_of_its_set(
    home: BanSet, mask: bytes | None
) -> None:
    for rule in ruleset.extension([home]).rules:
        masks = [
            dict(step.attributes)["mask"] for step in rule.expressions if step.name == "bitwise"
        ]
        assert masks == ([] if mask is None else [mask])
