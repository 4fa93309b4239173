"""The register tells who is banned, who ends next and because of whom, however bans change."""

import random
from dataclasses import replace
from ipaddress import ip_network

from dockerjail.ban.budget import household
from dockerjail.ban.register import SPARE, Register
from dockerjail.model import Ban, Mode, Scope

NOW = 1_800_000_000.0
BAD = ip_network("203.0.113.7/32")
BAN = Ban(
    id=1,
    jail="web@shop",
    subject=BAD,
    scope=Scope(ports=None, why="everything"),
    at=NOW,
    until=NOW + 60,
    container="web",
)


def test_each_ban_is_over_once_and_at_its_newest_end():
    register = Register()
    register.enter(BAN)
    register.enter(replace(BAN, until=NOW + 90))
    assert register.over(NOW + 60) == []
    assert register.over(NOW + 90) == [replace(BAN, until=NOW + 90)]
    assert register.over(NOW + 99) == []
    assert BAN.key in register  # until it is struck out
    register.strike(BAN.key)
    register.strike(BAN.key)
    assert not register
    assert register.next_end is None


def test_prolonging_a_ban_for_ever_takes_no_memory():
    register = Register()
    for more in range(10 * SPARE):
        register.enter(replace(BAN, until=NOW + more))
    assert len(register) == 1
    assert len(register._ends) <= SPARE + 3


def test_it_counts_by_container_and_household_what_stands_after_any_changes():
    seeded = random.Random(7)
    register, standing = Register(), {}
    for number in range(2000):
        subject = ip_network((0x2001_0DB8_0000_0000 + (seeded.randrange(90) << 12) << 64, 64))
        ban = replace(
            BAN,
            id=number,
            subject=subject,
            container=seeded.choice(["a", "b", ""]),
            mode=seeded.choice(list(Mode)),
            forced=seeded.random() < 0.1,
        )
        if seeded.random() < 0.6:
            register.enter(ban)
            standing[ban.key] = ban
        else:
            register.strike(ban.key)
            standing.pop(ban.key, None)
    assert {ban.key: ban for ban in register} == standing
    assert set(register.forced) == {ban.subject for ban in standing.values() if ban.forced}
    for container in "a", "b":
        of_it = [ban for ban in standing.values() if ban.container == container]
        for home in {household(ban.subject) for ban in of_it}:
            count = sum(household(ban.subject) == home for ban in of_it)
            assert register.of_household(container, home) == count
        for mode in Mode:
            homes = {household(ban.subject) for ban in of_it if ban.mode is mode}
            assert len(register.because_of(container, mode)) >= len(homes)
            assert bool(homes) == bool(register.because_of(container, mode))
