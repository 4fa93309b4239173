"""Bans made of what the kernel holds block exactly that."""

import random
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from dockerjail.ban.adopted import REASON, adopted
from dockerjail.ban.reconcile import SLACK, Ledger, reconcile
from dockerjail.model import Ban, Blocktype, Cause, Element, Mode, Port, Scope

NOW = 1_800_000_000.0
BAD = ip_network("203.0.113.7/32")
HTTP, HTTPS = Port(80), Port(443)


def test_elements_that_end_together_are_one_ban_with_their_end():
    present = {Element(BAD, HTTP): NOW + 60, Element(BAD, HTTPS): NOW + 60.4}
    (ban,) = adopted(present, [], jail="manual", first=7, at=NOW)
    assert (ban.id, ban.jail, ban.subject, ban.at, ban.until) == (7, "manual", BAD, NOW, NOW + 60.4)
    assert (ban.scope.ports, ban.scope.addresses) == ((HTTP, HTTPS), ())
    assert (ban.reason, ban.cause, ban.mode) == (REASON, Cause.OPERATOR, Mode.ENFORCE)


def test_what_ends_later_does_not_make_the_rest_last_as_long():
    present = {Element(BAD, HTTP): NOW + 60, Element(BAD, None): None, Element(BAD, HTTPS): NOW + 9}
    found = {
        (b.jail, b.scope.ports, b.until)
        for b in adopted(present, [], jail="manual", first=1, at=NOW)
    }
    assert {(ports, until) for _, ports, until in found} == {
        ((HTTP,), NOW + 60),
        ((HTTPS,), NOW + 9),
        (None, None),
    }
    assert {jail for jail, _, _ in found} == {"manual", "manual-2", "manual-3"}


def test_macvlan_addresses_and_rejecting_elements_stay_what_they_are():
    inside = ip_address("192.0.2.5")
    present = {
        Element(BAD, HTTP, Blocktype.REJECT): NOW + 60,
        Element(BAD, None, Blocktype.DROP, inside): NOW + 60,
    }
    bans = adopted(present, [], jail="manual", first=1, at=NOW)
    assert {(b.blocktype, b.scope.ports, b.scope.addresses) for b in bans} == {
        (Blocktype.REJECT, (HTTP,), ()),
        (Blocktype.DROP, (), (inside,)),
    }


def test_what_a_known_ban_holds_is_not_adopted_unless_it_ends_too_soon():
    scope = Scope(ports=(HTTP,), why="published")
    known = Ban(id=3, jail="web@shop", subject=BAD, scope=scope, at=NOW, until=NOW + 60)
    assert adopted({Element(BAD, HTTP): NOW + 61}, [known], jail="manual", first=4, at=NOW) == []
    half = replace(known, scope=Scope(ports=(HTTP, HTTPS), why="published"))
    present = {Element(BAD, HTTP): NOW + 600, Element(BAD, HTTPS): NOW + 60}
    (longer,) = adopted(present, [half], jail="manual", first=4, at=NOW)
    assert (longer.id, longer.scope.ports, longer.until) == (4, (HTTP,), NOW + 600)
    taken = replace(half, jail="manual")
    (other,) = adopted(present, [taken], jail="manual", first=4, at=NOW)
    assert other.jail == "manual-2"


@pytest.mark.parametrize("until", [NOW + 600, None])
def test_a_known_ban_that_the_kernel_has_for_longer_was_prolonged_and_is_no_second_one(until):
    scope = Scope(ports=(HTTP, HTTPS), why="published")
    known = Ban(id=3, jail="web@shop", subject=BAD, scope=scope, at=NOW, until=NOW + 60)
    other = replace(known, id=2, jail="admin@shop", until=NOW + 30)
    present = {Element(BAD, port): until for port in (HTTP, HTTPS)}
    (longer,) = adopted(present, [other, known], jail="manual", first=4, at=NOW)
    assert longer == replace(known, until=until)


def test_what_is_over_is_not_adopted():
    assert adopted({Element(BAD, HTTP): NOW - 1}, [], jail="manual", first=1, at=NOW) == []


def test_the_kernel_need_not_be_changed_after_an_adoption():
    seeded = random.Random(5)
    subjects = [ip_network(text) for text in ("10.0.0.1/32", "10.0.0.0/24", "2001:db8::/64")]
    ports = [None, HTTP, HTTPS, Port(53, "udp")]
    ends = [None, *(NOW + 60 * n for n in range(1, 5))]
    for _ in range(300):
        present = {}
        for _ in range(seeded.randrange(12)):
            subject, port = seeded.choice(subjects), seeded.choice(ports)
            to = ip_address("192.0.2.5") if port is None and subject.version == 4 else None
            to = to if seeded.random() < 0.5 else None
            blocktype = Blocktype.DROP if to else seeded.choice(list(Blocktype))
            present[Element(subject, port, blocktype, to)] = seeded.choice(ends)
        known = adopted(dict(list(present.items())[:3]), [], jail="manual", first=1, at=NOW)
        found = adopted(present, known, jail="manual", first=100, at=NOW)
        bans = [*{ban.id: ban for ban in [*known, *found]}.values()]
        assert len({ban.key for ban in bans}) == len({ban.id for ban in bans}) == len(bans)
        ledger = Ledger()
        for ban in bans:
            ledger.put(ban)
        assert not reconcile(ledger.wanted(), present), SLACK
