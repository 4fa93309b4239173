"""When enough addresses of a network are banned, it is the network that misbehaves."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.ban.aggregate import CROWD, Neighbours
from dockerjail.jail.policy import Aggregate
from dockerjail.model import Subject

AT = 1795344760.0
THREE = Aggregate(addresses=3, time=600.0)


def add(
    neighbours: Neighbours,
    *bans: tuple[str, float],
    jail: str = "login@web",
    aggregate: Aggregate = THREE,
) -> list[str]:
    found = [neighbours.add(jail, ip_network(s), AT + at, aggregate) for s, at in bans]
    return [str(network) for network in found if network is not None]


@pytest.mark.parametrize(
    ("subjects", "network"),
    [
        (("203.0.113.1", "203.0.113.2", "203.0.113.255"), "203.0.113.0/24"),
        (("203.0.113.0/28", "203.0.113.16/28", "203.0.113.99"), "203.0.113.0/24"),
        (("2001:db8:1:1::/64", "2001:db8:1:2::/64", "2001:db8:1:ffff::/64"), "2001:db8:1::/48"),
        (("2001:db8:1::1", "2001:db8:1::2", "2001:db8:1:2::/64"), "2001:db8:1::/48"),
    ],
)
def test_a_network_is_found_when_enough_of_it_are_banned(
    subjects: tuple[str, ...], network: str
) -> None:
    neighbours = Neighbours()
    assert add(neighbours, *((each, 0) for each in subjects[:-1])) == []
    assert add(neighbours, (subjects[-1], 1)) == [network]


def test_a_network_is_found_once_and_starts_from_nothing() -> None:
    neighbours = Neighbours()
    bans = [(f"203.0.113.{n}", float(n)) for n in range(1, 7)]
    assert add(neighbours, *bans[:5]) == ["203.0.113.0/24"]
    assert add(neighbours, bans[5]) == ["203.0.113.0/24"]
    assert len(neighbours) == 0


def test_who_is_banned_again_is_one_neighbour() -> None:
    bans = [("203.0.113.1", float(n)) for n in range(10)]
    assert add(Neighbours(), *bans, ("203.0.113.2", 10)) == []


def test_bans_of_other_networks_and_jails_do_not_add_up() -> None:
    neighbours = Neighbours()
    add(neighbours, ("203.0.113.1", 0), ("203.0.112.2", 0), ("198.51.100.1", 0))
    assert add(neighbours, ("203.0.113.2", 1), ("203.0.113.3", 1), jail="other@web") == []
    assert add(neighbours, ("203.0.113.2", 1)) == []
    assert add(neighbours, ("203.0.113.3", 1)) == ["203.0.113.0/24"]


@pytest.mark.parametrize("subject", ["203.0.113.0/24", "203.0.0.0/16", "2001:db8::/48", "::/0"])
def test_a_network_as_wide_or_wider_is_no_neighbour(subject: str) -> None:
    neighbours = Neighbours()
    assert add(neighbours, *[(subject, n) for n in range(9)]) == []
    assert len(neighbours) == 0


def test_a_ban_that_is_the_time_old_counts_no_more() -> None:
    others = ("203.0.113.2", 300.0), ("203.0.113.3", 600.0)
    assert add(Neighbours(), ("203.0.113.1", 0.0), *others) == []
    assert add(Neighbours(), ("203.0.113.1", 0.1), *others) == ["203.0.113.0/24"]


def test_bans_may_come_in_any_order() -> None:
    neighbours = Neighbours()
    add(neighbours, ("203.0.113.1", 1000), ("203.0.113.2", 500))
    assert add(neighbours, ("203.0.113.3", 550)) == ["203.0.113.0/24"]
    add(neighbours, ("203.0.113.1", 1000), ("203.0.113.2", 450), ("203.0.113.1", 440))
    assert add(neighbours, ("203.0.113.3", 430)) == ["203.0.113.0/24"]


def test_a_jail_that_runs_no_more_is_forgotten() -> None:
    neighbours = Neighbours()
    add(neighbours, ("203.0.113.1", 0), ("203.0.113.2", 0), ("198.51.100.1", 0))
    add(neighbours, ("203.0.113.1", 0), ("203.0.113.2", 0), jail="other@web")
    neighbours.forget("login@web")
    neighbours.forget("never@heard")
    assert len(neighbours) == 2
    assert add(neighbours, ("203.0.113.3", 1)) == []
    assert add(neighbours, ("203.0.113.3", 1), jail="other@web") == ["203.0.113.0/24"]


def test_memory_is_bounded_and_the_quietest_network_is_forgotten() -> None:
    neighbours = Neighbours(limit=10)
    add(neighbours, ("203.0.113.1", 0), ("198.51.100.1", 0), ("203.0.113.2", 1))
    add(neighbours, *((f"10.0.{n}.1", 2) for n in range(8)))
    assert len(neighbours) == 10
    assert add(neighbours, ("203.0.113.3", 3)) == ["203.0.113.0/24"]


def test_one_network_cannot_fill_the_memory() -> None:
    neighbours = Neighbours()
    add(neighbours, *(("203.0.113.1", n / 100) for n in range(2 * CROWD)))
    assert len(neighbours) == CROWD


def test_networks_that_stopped_misbehaving_are_forgotten() -> None:
    neighbours = Neighbours()
    add(neighbours, *((f"10.0.{n}.1", 0) for n in range(100)))
    add(neighbours, *((f"10.1.{n}.1", 1200) for n in range(60)))
    assert len(neighbours) == 60


def model(
    bans: list[tuple[Subject, float]], addresses: int, time: float
) -> list[tuple[int, Subject]]:
    """Look at all stretches of time that end with a ban and hold the one that is new."""
    seen: dict[Subject, list[tuple[Subject, float]]] = {}
    found = []
    for number, (subject, at) in enumerate(bans):
        network = subject.supernet(new_prefix=24)
        known = seen.setdefault(network, [])
        known.append((subject, at))
        for _, last in known:
            inside = {who for who, when in known if last - time < when <= last}
            if last - time < at <= last and len(inside) >= addresses:
                found.append((number, network))
                seen[network] = []
                break
    return found


subjects = st.builds(
    lambda net, host, prefix: ip_network((0xCB007100 + net * 256 + host, prefix), strict=False),
    st.integers(0, 1),
    st.integers(0, 7),
    st.sampled_from([32, 32, 32, 31]),
)


@given(
    st.lists(st.tuples(subjects, st.integers(0, 3), st.integers(0, 9)), max_size=40),
    st.integers(2, 5),
)
def test_late_bans_count_as_if_all_were_known(
    asked: list[tuple[Subject, int, int]], addresses: int
) -> None:
    """Each is at most `time` older than any before it: these count exactly."""
    time, now, bans = 10.0, 0, []
    for subject, wait, late in asked:
        now += wait
        bans.append((subject, float(now - late)))
    neighbours = Neighbours()
    found = [
        (number, network)
        for number, (subject, at) in enumerate(bans)
        if (network := neighbours.add("x", subject, at, Aggregate(addresses=addresses, time=time)))
    ]
    assert found == model(bans, addresses, time)


@given(st.lists(st.tuples(subjects, st.floats(0, 1e6)), max_size=40), st.integers(1, 12))
def test_memory_stays_bounded_whatever_comes(bans: list[tuple[Subject, float]], limit: int) -> None:
    neighbours = Neighbours(limit=limit)
    for subject, at in bans:
        neighbours.add("x", subject, at, Aggregate(addresses=6, time=600.0))
        assert len(neighbours) <= limit or len(neighbours._networks) == 1


def test_after_a_step_back_of_the_clock_bans_are_as_long_ago_as_they_were() -> None:
    neighbours, aggregate = Neighbours(), Aggregate(addresses=3, time=100.0)
    net = [ip_network(f"203.0.113.{n}/32") for n in range(4)]
    neighbours.add("a@web", net[0], 100_000.0, aggregate)
    neighbours.add("a@web", net[1], 100_050.0, aggregate)
    neighbours.set_back(86_400.0, 13_670.0, 13_680.0)  # at 100 080
    assert neighbours.add("a@web", net[2], 13_690.0, aggregate) == ip_network("203.0.113.0/24")
    neighbours.add("a@web", net[0], 100_000.0, aggregate)
    neighbours.add("a@web", net[1], 100_050.0, aggregate)
    neighbours.set_back(86_400.0, 13_670.0, 13_680.0)
    assert neighbours.add("a@web", net[2], 13_701.0, aggregate) is None
