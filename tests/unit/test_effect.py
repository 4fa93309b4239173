"""Whether a ban works, seen from the lines that go on accusing whom it holds."""

from ipaddress import ip_address, ip_network

import pytest

from dockerjail.model import Ban, Container, Failure, Scope
from dockerjail.service.effect import ENOUGH, FRESH, GRACE, MOST, Effect, way
from tests.fakes import FakeFlows

BAD = ip_network("203.0.113.7")
WEB = Container(
    id="c1",
    name="web",
    service="web",
    addresses=frozenset({ip_address("172.18.0.3")}),
    gateways=frozenset({ip_address("172.18.0.1")}),
)


def ban(number=1, subject=BAD, jail="a@web"):
    return Ban(
        id=number, jail=jail, subject=subject, scope=Scope(ports=None, why=""), at=0, until=None
    )


def failure(at, subject=BAD, jail="a@web"):
    return Failure(jail=jail, subject=subject, at=at, container="web", text="no")


def note(effect, ban, since, failure):
    """Have a failure read as soon as it is logged, where both clocks are one."""
    return effect.note(ban, since, failure, failure.at)


def test_lines_of_before_the_ban_and_just_after_prove_nothing():
    effect = Effect()
    for at in (90, 100, 100 + GRACE - 0.1):
        assert not note(effect, ban(), 100, failure(at))
    assert effect.problems(110) == []
    assert effect.works(ban(), 110)


def test_it_is_told_once_it_is_clear_and_forgotten_when_it_ends():
    effect = Effect()
    told = [note(effect, ban(), 100, failure(110 + n)) for n in range(ENOUGH + 3)]
    assert told == [n == ENOUGH - 1 for n in range(ENOUGH + 3)]
    assert effect.leaking(120) == {"web"}
    assert not effect.works(ban(), 120)
    assert effect.works(ban(number=2), 120)
    (problem,) = effect.problems(120)
    assert f"{ENOUGH + 3} failures since" in problem.what
    assert effect.problems(120 + FRESH) == []
    effect.prune(lambda key: None, 120)
    assert effect.leaking(120) == frozenset()


def test_many_bans_of_one_jail_without_effect_are_one_line():
    effect = Effect()
    for last in range(1, 200):
        subject = ip_network(f"203.0.113.{last}")
        for at in (110, 111):
            note(effect, ban(last, subject), 100, failure(at, subject))
    (problem,) = effect.problems(120)
    assert "and 198 others" in problem.what


@pytest.mark.parametrize(
    ("clients", "said"),
    [
        ({"172.18.0.2": 5, "198.51.100.1": 1}, "a proxy at 172.18.0.2, container traefik"),
        ({"172.18.0.1": 5}, "the gateway 172.18.0.1 of its network"),
        ({"198.51.100.9": 5}, "a proxy at 198.51.100.9"),
        ({"198.51.100.9": 1, "198.51.100.8": 1, "198.51.100.7": 1}, ""),
        ({}, ""),
    ],
)
async def test_the_way_is_where_most_connections_come_from(clients, said):
    flows = FakeFlows()
    flows.ends[ip_address("172.18.0.3")] = {ip_address(a): n for a, n in clients.items()}
    proxy = Container(
        id="c2", name="traefik", service="traefik", addresses=frozenset({ip_address("172.18.0.2")})
    )
    assert await way(WEB, flows, [WEB, proxy]) == (f"through {said}" if said else "")


def test_what_is_watched_is_bounded_and_nothing_stays_of_what_is_gone():
    effect = Effect()
    for number in range(2 * MOST):
        subject = ip_network((0x0B000000 + number, 32))
        note(effect, ban(number, subject), 100, failure(110, subject))
        effect.explain(f"web-{number}", "through a proxy")
        if number % 1000 == 0:
            effect.prune(lambda key: True, 111)
    assert len(effect._leaks) == MOST
    effect.prune(lambda key: True, 111)
    assert len(effect._through) <= 1
    effect.prune(lambda key: False, 111)
    assert not effect._leaks
    assert not effect._through
