"""The ledger against a model, and what it says to change."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from dockerjail.ban.reconcile import Ledger, elements, reconcile
from dockerjail.model import Ban, Blocktype, Element, Mode, Port, Scope

SUBJECTS = [ip_network("203.0.113.7"), ip_network("2001:db8::/64")]
PORTS = [Port(80), Port(443), Port(53, "udp")]
LAN4, LAN6 = ip_address("192.0.2.5"), ip_address("2001:db8:1::5")


def ban(jail, subject, ports, until, blocktype=Blocktype.DROP, addresses=(), mode=Mode.ENFORCE):
    scope = Scope(ports=ports, why="", addresses=addresses)
    return Ban(
        id=1,
        jail=jail,
        subject=subject,
        scope=scope,
        at=0,
        until=until,
        blocktype=blocktype,
        mode=mode,
    )


bans = st.builds(
    ban,
    st.sampled_from(["a@x", "b@x", "c@y"]),
    st.sampled_from(SUBJECTS),
    st.none() | st.lists(st.sampled_from(PORTS), unique=True).map(tuple),
    st.none() | st.sampled_from([10.0, 20.0, 30.0]),
    st.sampled_from(Blocktype),
    st.sampled_from([(), (LAN4,), (LAN4, LAN6)]),
    st.sampled_from(Mode),
)
steps = st.lists(st.tuples(st.booleans(), bans), max_size=30)


@given(steps)
def test_changes_applied_one_after_the_other_give_what_is_wanted(steps):
    ledger, kernel, standing = Ledger(), {}, {}
    for put, each in steps:
        change = ledger.put(each) if put else ledger.drop(each.key)
        if put:
            standing[each.key] = each
        else:
            standing.pop(each.key, None)
        for element in change.remove:
            del kernel[element]
        for block in change.add:
            kernel[block.element] = block.until
        model = {}
        for one in standing.values():
            for element in elements(one):
                ends = [b.until for b in standing.values() if element in elements(b)]
                model[element] = None if None in ends else max(ends)
        assert kernel == model == ledger.wanted()
        assert len(ledger) == len(model)


def test_an_element_stays_until_its_last_ban_ends():
    ledger = Ledger()
    short = ban("a@x", SUBJECTS[0], (Port(80),), 10.0)
    long = ban("b@x", SUBJECTS[0], (Port(80),), 20.0)
    ledger.put(short)
    ledger.put(long)
    assert not ledger.drop(short.key)
    assert ledger.drop(long.key).remove == (Element(SUBJECTS[0], Port(80)),)


def test_a_ban_that_drops_and_one_that_rejects_each_have_their_element():
    ledger = Ledger()
    drops = ban("a@x", SUBJECTS[0], (Port(80),), 10.0)
    rejects = ban("b@x", SUBJECTS[0], (Port(80), Port(443)), 20.0, Blocktype.REJECT)
    ledger.put(drops)
    ledger.put(rejects)
    assert ledger.wanted() == {
        Element(SUBJECTS[0], Port(80)): 10.0,
        Element(SUBJECTS[0], Port(80), Blocktype.REJECT): 20.0,
        Element(SUBJECTS[0], Port(443), Blocktype.REJECT): 20.0,
    }
    assert ledger.drop(drops.key).remove == (Element(SUBJECTS[0], Port(80)),)


def test_a_ban_that_changes_its_blocktype_moves():
    ledger = Ledger()
    ledger.put(ban("a@x", SUBJECTS[0], None, 10.0))
    change = ledger.put(ban("a@x", SUBJECTS[0], None, 10.0, Blocktype.REJECT))
    assert [block.element for block in change.add] == [Element(SUBJECTS[0], None, Blocktype.REJECT)]
    assert change.remove == (Element(SUBJECTS[0], None),)


def test_where_nothing_can_be_rejected_every_ban_drops():
    ledger = Ledger(rejects=False)
    ledger.put(ban("a@x", SUBJECTS[0], (Port(80),), 10.0))
    ledger.put(ban("b@x", SUBJECTS[0], (Port(80),), 20.0, Blocktype.REJECT))
    assert ledger.wanted() == {Element(SUBJECTS[0], Port(80)): 20.0}


def test_an_address_past_the_host_is_closed_to_its_own_family_and_only_dropped():
    both = ban("a@x", SUBJECTS[0], (Port(80),), 10.0, Blocktype.REJECT, (LAN4, LAN6))
    assert elements(both) == (
        Element(SUBJECTS[0], Port(80), Blocktype.REJECT),
        Element(SUBJECTS[0], None, Blocktype.DROP, LAN4),
    )
    six = ban("a@x", SUBJECTS[1], (), 10.0, addresses=(LAN4, LAN6))
    assert elements(six) == (Element(SUBJECTS[1], None, Blocktype.DROP, LAN6),)


def test_a_ban_that_is_only_observed_has_nothing_in_the_kernel():
    ledger = Ledger()
    enforced = ban("a@x", SUBJECTS[0], None, 10.0, addresses=(LAN4,))
    observed = ban("a@x", SUBJECTS[0], None, 10.0, addresses=(LAN4,), mode=Mode.OBSERVE)
    assert not ledger.put(observed)
    ledger.put(enforced)
    assert ledger.put(observed).remove == (Element(SUBJECTS[0], None),)
    assert len(ledger) == 0


ends = st.none() | st.floats(0, 1e9)
kernels = st.dictionaries(
    st.builds(
        Element, st.sampled_from(SUBJECTS), st.sampled_from(PORTS), st.sampled_from(Blocktype)
    )
    | st.builds(Element, st.just(SUBJECTS[0]), st.none(), st.just(Blocktype.DROP), st.just(LAN4)),
    ends,
)


@given(kernels, kernels)
def test_reconciling_makes_the_present_the_wanted(wanted, present):
    change = reconcile(wanted, present)
    after = {k: v for k, v in present.items() if k not in change.remove}
    after |= {block.element: block.until for block in change.add}
    assert after.keys() == wanted.keys()
    assert not reconcile(wanted, after)


@given(kernels)
def test_what_is_as_it_should_be_is_left_alone(wanted):
    near = {k: v if v is None else v + 1.5 for k, v in wanted.items()}
    assert not reconcile(wanted, near)
