"""Who is held by which ban."""

from dataclasses import replace
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from dockerjail.ban.enforced import Enforced
from dockerjail.model import Ban, Mode, Port, Scope

SUBJECTS = ["203.0.113.7/32", "203.0.113.0/24", "203.0.112.0/20", "2001:db8::/64", "2001:db8::/48"]
JAILS = ["a@web", "b@web", "a@shop", "manual", "recidive"]

bans = st.builds(
    lambda jail, subject, everything, mode: Ban(
        id=1,
        jail=jail,
        subject=ip_network(subject),
        scope=Scope(ports=None if everything else (Port(80),), why=""),
        at=0,
        until=None,
        mode=mode,
    ),
    st.sampled_from(JAILS),
    st.sampled_from(SUBJECTS),
    st.booleans(),
    st.sampled_from(Mode),
)


@given(
    st.lists(st.tuples(st.booleans(), bans), max_size=20),
    st.sampled_from(JAILS),
    st.sampled_from(SUBJECTS),
)
def test_somebody_is_held_by_a_ban_around_him_that_closes_what_the_jail_watches(steps, jail, text):
    enforced, model, subject = Enforced(), {}, ip_network(text)
    for put, ban in steps:
        if put:
            enforced.put(ban, 1.0)
            model[ban.key] = ban
        else:
            enforced.drop(ban.key)
            model.pop(ban.key, None)
    assert list(enforced.bans) == list(model.values())
    assert len(enforced) == len(model)
    holding = [
        ban
        for ban in model.values()
        if ban.mode is Mode.ENFORCE
        and ban.subject.version == subject.version
        and subject.subnet_of(ban.subject)
        and (
            ban.scope.ports is None
            or ban.jail == jail
            or ("@" in jail and ban.jail.partition("@")[2] == jail.partition("@")[2])
        )
    ]
    found = enforced.holding(jail, subject)
    assert (found is None) == (not holding)
    assert found is None or found[0] in holding


def test_a_ban_stands_since_it_was_first_carried_out():
    (subject,) = map(ip_network, SUBJECTS[:1])
    ban = Ban(id=1, jail="a@web", subject=subject, scope=Scope(ports=None, why=""), at=0, until=9)
    enforced = Enforced()
    enforced.put(replace(ban, mode=Mode.OBSERVE), 1.0)
    assert enforced.get(ban.key) is None
    enforced.put(ban, 2.0)
    enforced.put(replace(ban, until=99), 3.0)
    assert enforced.get(ban.key) == (replace(ban, until=99), 2.0)
