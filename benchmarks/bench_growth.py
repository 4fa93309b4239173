"""
How the cost of a line grows: with jails, regexes, addresses, exempt networks, containers.

    python -m benchmarks.bench_growth [--rounds N] [--quick] [--check] [--only TEXT] [--json FILE]

Each row is dockerjail at several sizes; the value is the exponent by which the cost of one line (or
failure) grows with the size: 0 is flat, and 1 is linear. And a hundred jails beside one.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network

from benchmarks import frame
from benchmarks.frame import Against, Comparison, Growth, Item, Options, Side, Turn, at_most, cpu
from benchmarks.ours import WEB, Log, Ours, engines, make, policy, reads
from benchmarks.workloads import FLASK, before, framed, lines
from dockerjail.jail.policy import JailPolicy
from dockerjail.jail.rule import Rule
from dockerjail.model import Subject

FASTEST = engines()[-1]
SHARE = 0.01
MANY = (1, 3, 10, 30, 100, 300, 1000)
FIRST = 0x0B000000


def regex(number: int) -> str:
    """Return a failregex; of more than one each is for an application of its own."""
    return (
        rf"^.*(?:WARNING|ERROR) app{number}\.auth: rejected .* from <HOST> \(attempt \d+\)"
        if number
        else FLASK
    )


def several_jails(count: int) -> Sequence[JailPolicy]:
    """Return so many jails; the first is the one that the log is for."""
    return [policy(f"jail{n}", Rule(failregex=(regex(n),))) for n in range(count)]


def several_regexes(count: int) -> Sequence[JailPolicy]:
    """Return one jail with so many failregexes."""
    return [policy("jail", Rule(failregex=tuple(map(regex, range(count)))))]


def over_policies(log: Log, make: Callable[[int], Sequence[JailPolicy]], size: int) -> Side:
    """Return what judges a log by some policies."""
    return log.raw().side(partial(Ours, make(size), engine=FASTEST))


def failing(numbers: Iterable[int]) -> Iterator[str]:
    """Yield lines in which one address after the other fails."""
    for n in numbers:
        who = f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"
        yield f"2026-11-22 10:00:00,123 WARNING Failed login attempt for user: root from IP: {who}"


def over_addresses(count: int, size: int) -> Side:
    """Return what judges failures by so many addresses, each of which failed before."""
    known = [*range(FIRST, FIRST + size)]
    shuffled = random.Random(size).choices(known, k=count)
    data = framed([*failing(shuffled)])
    rule = Rule(failregex=(FLASK,))

    def run() -> Turn:
        side = Ours([policy("flask", rule, maxretry=1000)], engine=FASTEST)
        for start in range(0, size, 10_000):
            for piece in reads(
                framed([*failing(known[start : start + 10_000])], first=-size + start)
            ):
                side.feed(piece)
        return timed([side], [data], count)

    return run


def over_exempt(count: int, size: int) -> Side:
    """Return what judges failures while so many networks are never to be banned."""
    data = framed([*failing(random.Random(size).choices(range(FIRST, FIRST + 3000), k=count))])
    exempt: dict[Subject, str] = {
        IPv4Network((0x64000000 + n * 16, 28 + n % 5)): "trusted" for n in range(size)
    }
    rule = Rule(failregex=(FLASK,))

    def run() -> Turn:
        jails = make(FASTEST)
        jails.ignore.update(exempt)
        side = Ours([policy("flask", rule)], jails=jails)
        return timed([side], [data], count)

    return run


def over_containers(count: int, size: int) -> Side:
    """Return what judges a log that so many containers of as many services share in."""
    per = max(500, count // size)
    data = framed(lines("flask", per, SHARE))
    ahead = max(200, 12_000 // size)
    warm = framed(before("flask", ahead, SHARE), first=-ahead)

    def run() -> Turn:
        jails = make(FASTEST)
        sides = []
        for number in range(size):
            container = replace(
                WEB, id=f"{number:064x}", name=f"web{number}", service=f"web{number}"
            )
            sides.append(Ours(several_jails(3), container, jails))
        for side in sides:
            for piece in reads(warm):
                side.feed(piece)
        return timed(sides, [data] * size, per * size)

    return run


def timed(sides: Sequence[Ours], data: Sequence[bytes], count: int) -> Turn:
    """Time how each side judges its log, all in turns."""
    pieces = [[*reads(each)] for each in data]
    began = cpu()
    for number in range(max(map(len, pieces))):
        for side, mine in zip(sides, pieces, strict=True):
            if number < len(mine):
                side.feed(mine[number])
    return Turn(seconds=cpu() - began, pieces=count)


def items(options: Options) -> Iterable[Item]:
    """Yield all rows."""
    count = options.size(100_000, 500)
    busy = options.size(12_000, 200)
    log = Log(kind="flask", share=SHARE, lines=count, compared=count, warm=0, busy=busy)
    yield Comparison(
        name="100 jails on one container",
        ours=over_policies(log, several_jails, 100),
        others=[
            Against(name="1 jail", side=over_policies(log, several_jails, 1), bar=at_most(2)),
        ],
    )
    yield Growth(
        name="a line, over jails on one container",
        of="jails",
        sizes=MANY,
        side=partial(over_policies, log, several_jails),
        bar=at_most(1),
    )
    yield Growth(
        name="a line, over failregexes of one jail",
        of="failregexes",
        sizes=MANY,
        side=partial(over_policies, log, several_regexes),
        bar=at_most(1),
    )
    hits = options.size(50_000, 500)
    yield Growth(
        name="a failure, over addresses that are counted",
        of="addresses",
        sizes=(10, 100, 1000, 10_000, 100_000, 1_000_000),
        side=partial(over_addresses, hits),
        bar=at_most(0.25),
        piece="failure",
    )
    yield Growth(
        name="a failure, over networks that are exempt",
        of="networks",
        sizes=(1, 10, 100, 1000, 10_000, 100_000),
        side=partial(over_exempt, hits),
        bar=at_most(0.25),
        piece="failure",
    )
    yield Growth(
        name="a line, over containers with 3 jails each",
        of="containers",
        sizes=(1, 3, 10, 30, 100, 300),
        side=partial(over_containers, count),
        bar=at_most(0.25),
    )


if __name__ == "__main__":
    frame.run(__doc__, items)
