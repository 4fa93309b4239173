"""What one container's log may do to others is bounded."""

from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import count, islice

from hypothesis import given
from hypothesis import strategies as st

from dockerjail.ban.budget import CONTAINERS, REST, Budget, Crowd, household
from dockerjail.model import Subject

AT = 1795344760.0

_numbers = count(0x0B000000)


def anybody() -> Subject:
    """Return an address that was never banned before."""
    return ip_network(next(_numbers))


def ask(budget: Budget, *times: float, container: str = "web", active: int = 0) -> list[bool]:
    return [budget.admit(container, anybody(), AT + each, active) for each in times]


def test_a_minutes_bans_may_come_at_once_and_no_more() -> None:
    assert ask(Budget(3), 0, 0, 0, 0) == [True, True, True, False]


def test_bans_that_keep_to_the_rate_are_carried_out_for_ever() -> None:
    budget = Budget(3)
    assert all(ask(budget, *(20.0 * n for n in range(500))))
    assert all(ask(Budget(7), *(60 * n / 7 for n in range(500))))


def test_too_many_active_bans_are_beyond_the_budget_too() -> None:
    budget = Budget(100, active=2)
    assert ask(budget, 0, active=1) == [True]
    assert ask(budget, 0, active=2) == [False]
    assert budget.newly_tripped("web")


def test_zero_is_no_limit() -> None:
    assert all(ask(Budget(0, 0), *[0] * 1000, active=10**6))
    assert ask(Budget(0, 1), *[0] * 3, active=1) == [False] * 3
    assert all(ask(Budget(10**6, 0), *[0] * 3, active=10**6))


def test_containers_do_not_share_a_budget() -> None:
    budget = Budget(1)
    assert ask(budget, 0, 0) == [True, False]
    assert ask(budget, 0, container="blog") == [True]
    assert budget.tripped("blog", AT) is None


def test_a_container_is_observed_until_it_has_rested() -> None:
    budget = Budget(2, rest=600.0)
    ask(budget, 0, 0, 5)
    assert budget.tripped("web", AT + 6) == AT + 5
    assert ask(budget, 100, 300, 604.9) == [False, False, False]
    assert budget.observed("web") == 4
    assert budget.tripped("web", AT + 604.9) == AT + 5
    assert budget.tripped("web", AT + 605) is None
    assert ask(budget, 605) == [True]
    assert budget.tripped("web", AT + 605) is None


def test_each_ban_that_does_not_fit_makes_it_rest_anew() -> None:
    budget = Budget(1, rest=600.0)
    ask(budget, 0, 0, 400, 400)
    assert ask(budget, 700, 999) == [False, False]
    assert budget.tripped("web", AT + 999) == AT
    assert ask(budget, 1000) == [False]  # beyond it: the coin of 999 has not come back yet
    assert ask(budget, 1700) == [True]


def test_a_container_with_too_many_active_bans_stays_observed_until_there_are_fewer() -> None:
    budget = Budget(100, active=2, rest=600.0)
    assert ask(budget, 0, 700, active=2) == [False, False]
    assert budget.newly_tripped("web")
    assert ask(budget, 1400, active=2) == [False]
    assert not budget.newly_tripped("web")
    assert budget.tripped("web", AT + 9000, 2) == AT
    assert ask(budget, 2100, active=1) == [True]


def test_going_beyond_is_told_once_each_time() -> None:
    budget = Budget(1, rest=600.0)
    assert not budget.newly_tripped("web")
    ask(budget, 0)
    assert not budget.newly_tripped("web")
    ask(budget, 0, 0)
    assert budget.newly_tripped("web")
    ask(budget, 0)
    assert not budget.newly_tripped("web")
    assert ask(budget, 700, 700) == [True, False]
    assert budget.newly_tripped("web")
    assert budget.observed("web") == 1
    assert budget.tripped("web", AT + 700) == AT + 700


def test_a_container_that_is_gone_is_forgotten() -> None:
    budget = Budget(1)
    ask(budget, 0, 0)
    budget.forget("web")
    budget.forget("never heard of")
    assert budget.tripped("web", AT) is None
    assert budget.observed("web") == 0
    assert ask(budget, 0) == [True]


def test_memory_is_bounded_and_the_quietest_container_is_forgotten() -> None:
    budget = Budget(1)
    ask(budget, 0, 0, container="first")
    ask(budget, 0, 0, container="second")
    ask(budget, 1, container="first")
    for number in range(CONTAINERS - 1):
        ask(budget, 2, container=f"more {number}")
    assert len(budget) == CONTAINERS
    assert budget.tripped("first", AT + 3) == AT
    assert budget.tripped("second", AT + 3) is None


def test_a_clock_that_goes_back_gives_nothing() -> None:
    budget = Budget(2)
    assert ask(budget, 100, 0, 0, 20) == [True, True, False, False]


@dataclass
class Model:
    """The same in exact numbers: coins in sixtieths, whole seconds."""

    per_minute: int
    active: int
    rest: int
    coins: int = field(init=False)
    at: int | None = None
    over: list[int] = field(default_factory=list)
    observing: bool = False
    trips: int = 0

    def __post_init__(self) -> None:
        self.coins = 60 * self.per_minute

    def admit(self, at: int, active: int) -> bool:
        since = at if self.at is None else self.at
        self.coins = min(60 * self.per_minute, self.coins + (at - since) * self.per_minute)
        self.at = at
        full = active >= self.active
        if self.observing and not full and at >= self.over[-1] + self.rest:
            self.observing = False
        paid = self.coins >= 60
        if paid:
            self.coins -= 60
        if full or not paid:
            self.over.append(at)
            self.trips += not self.observing
            self.observing = True
        return not self.observing


steps = st.lists(
    st.tuples(st.integers(0, 40) | st.integers(0, 900), st.integers(0, 4)), max_size=60
)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 700), steps)
def test_it_does_what_a_simple_model_does(
    per_minute: int, active: int, rest: int, asked: list[tuple[int, int]]
) -> None:
    budget, model = Budget(per_minute, active, rest), Model(per_minute, active, rest)
    at, trips = 0, 0
    for wait, standing in asked:
        at += wait
        expected = model.admit(at, standing)
        assert (budget.tripped("web", AT + at, standing) is None) or not expected
        assert budget.admit("web", anybody(), AT + at, standing) is expected
        trips += budget.newly_tripped("web")
        assert trips == model.trips
        assert (budget.tripped("web", AT + at, standing) is not None) is (
            model.observing and (rest > at - model.over[-1] or standing >= active)
        )


@given(st.integers(1, 20), st.lists(st.floats(0, 30), max_size=100))
def test_no_stretch_of_time_has_more_bans_than_its_share(
    per_minute: int, waits: list[float]
) -> None:
    budget, at, admitted = Budget(per_minute, rest=REST), 0.0, []
    for wait in waits:
        at += wait
        if budget.admit("web", anybody(), at, 0):
            admitted.append(at)
    for n, first in enumerate(admitted):
        for m, last in enumerate(admitted[n:], start=1):
            assert m <= per_minute + (last - first) * per_minute / 60 + 1e-6


def test_one_household_pays_once_a_minute_however_many_of_its_networks_are_banned() -> None:
    budget = Budget(1)
    home = [ip_network(f"2001:db8:7:{number:x}::/64") for number in range(50)]
    assert all(budget.admit("web", each, AT + 59, 0) for each in home)
    assert not budget.admit("web", ip_network("2001:db8:8::/64"), AT + 60, 0)


def test_only_what_is_narrower_than_a_48_is_in_a_household() -> None:
    for text, home in (
        ("2001:db8:7:1::/64", "2001:db8:7::/48"),
        ("2001:db8:7:1::7/128", "2001:db8:7::/48"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("203.0.113.7/32", "203.0.113.7/32"),
    ):
        assert household(ip_network(text)) == ip_network(home)


def test_a_crowd_of_one_household_counts_as_a_few_bans() -> None:
    crowd = Crowd()
    homes = [ip_network((0x20010DB8 << 96 | n << 80, 48)) for n in range(3)]
    nets = [net for home in homes for net in islice(home.subnets(new_prefix=64), 200)]
    for net in nets:
        crowd.add(net)
    assert len(crowd) == 3 * 4
    assert [crowd.of(home) for home in homes] == [200] * 3
    for number in range(5):
        crowd.add(ip_network((0x0B000000 + number, 32)))
    assert len(crowd) == 3 * 4 + 5
    for net in nets:
        crowd.drop(net)
        assert len(crowd) >= 5
    assert (len(crowd), crowd.of(homes[0])) == (5, 0)
    assert len(crowd._homes) == 5
