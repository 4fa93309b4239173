"""Who is never banned, and why, in words."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.jail.ignore import ALWAYS, Ignore
from dockerjail.model import Subject, written


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("127.0.0.1", "loopback"),
        ("127.8.9.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "no host"),
        ("::", "no host"),
        ("224.0.0.251", "multicast"),
        ("ff02::1", "multicast"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("255.255.255.255", "broadcast"),
    ],
)
def test_some_addresses_are_never_banned(address: str, word: str) -> None:
    why = Ignore().why(ip_address(address))
    assert why is not None
    assert word in why


@pytest.mark.parametrize("address", ["203.0.113.7", "10.0.0.1", "2001:db8::1", "fd00::1"])
def test_others_may_be(address: str) -> None:
    assert Ignore().why(ip_address(address)) is None


def test_a_reason_comes_back_in_its_own_words() -> None:
    ignore = Ignore({ip_network("172.18.0.1/32"): "gateway of network shop_default"})
    assert ignore.why(ip_address("172.18.0.1")) == "gateway of network shop_default"
    assert ignore.why(ip_address("172.18.0.2")) is None


def test_the_narrowest_network_has_the_word() -> None:
    ignore = Ignore(
        {ip_network("172.18.0.0/16"): "network", ip_network("172.18.0.1/32"): "gateway"}
    )
    assert ignore.why(ip_address("172.18.0.1")) == "gateway"
    assert ignore.why(ip_address("172.18.0.2")) == "network"


def test_an_update_replaces_what_was_before_and_is_noticed() -> None:
    ignore = Ignore({ip_network("203.0.113.0/24"): "office"})
    before = ignore.version
    ignore.update({ip_network("198.51.100.0/24"): "branch"})
    assert ignore.version > before
    assert ignore.why(ip_address("203.0.113.7")) is None
    assert ignore.why(ip_address("198.51.100.7")) == "branch"
    assert ignore.why(ip_address("127.0.0.1")) is not None
    same = ignore.version
    ignore.update({ip_network("198.51.100.0/24"): "branch"})
    assert ignore.version == same


def test_somebody_inside_a_network_is_found_and_named() -> None:
    ignore = Ignore({ip_network("2001:db8::5/128"): "me", ip_network("2001:db8:101::/48"): "us"})
    assert ignore.inside(ip_network("2001:db8::/64")) == "it holds 2001:db8::5: me"
    assert ignore.inside(ip_network("2001:db8:100::/40")) == "it holds 2001:db8:101::/48: us"
    assert ignore.inside(ip_network("2001:db8:0:1::/64")) is None
    assert ignore.inside(ip_network("203.0.113.0/24")) is None


networks: st.SearchStrategy[Subject] = st.builds(
    lambda number, prefix: ip_network((number, prefix), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(8, 32),
)


@given(st.lists(networks, max_size=8), st.integers(0, 2**32 - 1))
def test_every_address_of_a_network_is_found_and_no_other(
    ignored: list[Subject], number: int
) -> None:
    address = ip_address(number)
    covering = [n for n in (*ignored, *ALWAYS) if address in n]
    why = Ignore({n: str(n) for n in ignored}).why(address)
    assert (why is not None) == bool(covering)


@given(st.lists(networks, max_size=8), networks)
def test_somebody_inside_is_found_if_a_narrower_network_is(
    ignored: list[Subject], subject: Subject
) -> None:
    inside = [
        n
        for n in (*ignored, *ALWAYS)
        if n.version == 4 and n != subject and n.prefixlen > subject.prefixlen and n[0] in subject
    ]
    why = Ignore({n: str(n) for n in ignored}).inside(subject)
    assert (why is not None) == bool(inside)
    if why is not None:
        reasons = {**ALWAYS, **{n: str(n) for n in ignored}}
        assert why in {f"it holds {written(n)}: {reasons[n]}" for n in inside}


def test_networks_that_begin_alike_are_told_apart() -> None:
    ignore = Ignore({ip_network("10.0.0.0/8"): "wide", ip_network("10.0.0.9/32"): "one"})
    assert ignore.inside(ip_network("10.0.0.0/24")) == "it holds 10.0.0.9: one"
    assert ignore.inside(ip_network("10.0.0.0/8")) == "it holds 10.0.0.9: one"
    assert ignore.inside(ip_network("10.0.0.0/29")) is None
    assert ignore.inside(ip_network("0.0.0.0/1")) is not None


def test_a_network_is_ignored_whole_only_if_a_network_around_it_is() -> None:
    ignore = Ignore({ip_network("198.51.100.0/24"): "office", ip_network("192.0.2.1/32"): "me"})
    assert ignore.around(ip_network("198.51.100.0/24")) == "office"
    assert ignore.around(ip_network("198.51.100.128/25")) == "office"
    assert ignore.around(ip_network("198.51.100.7/32")) == "office"
    assert ignore.around(ip_network("198.51.0.0/16")) is None
    assert ignore.around(ip_network("192.0.2.0/24")) is None
