"""
What a line costs: the Engine's bytes in, counted failures out, beside fail2ban and a naive loop.

    python -m benchmarks.bench_matching [--rounds N] [--quick] [--check] [--only TEXT] [--json FILE]

Ours is the whole way of a log from the socket's bytes (`ours.py`), once with the engine that is always
there and once, where it is installed, with the native one. fail2ban 1.0.2 is Debian's, its
`processLineAndAdd` called with the same lines (`rival.py`). The naive loop is `naive.py`. All count
the same failures and would ban the same addresses; where they do not, this ends with an error.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Final

from benchmarks import frame, rival
from benchmarks.frame import Against, Comparison, Options, at_least
from benchmarks.naive import Naive
from benchmarks.ours import PURE, Log, Ours, engines, policy
from benchmarks.rival import Rival, Told, told
from benchmarks.workloads import FLASK
from dockerjail.config.fail2ban.read import Fail2ban
from dockerjail.jail.policy import JailPolicy
from dockerjail.jail.rule import Rule

BUSY: Final = 12_000
"""Lines after which every engine is at work."""

AGGRESSIVE = "sshd[mode=aggressive]"
WEB = ("nginx-botsearch", "nginx-http-auth", "apache-auth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Jails over a log; `bars` are those beside fail2ban: at 1 %, the same in pure Python, at 100 %."""

    name: str
    log: str
    filters: tuple[str, ...]
    bars: tuple[float, float | None, float | None]
    lines: int = 100_000
    rivals: int = 10_000
    warm: int = 2000


@cache
def fail2ban() -> Fail2ban:
    """Return the distribution's configuration as a user's own."""
    found = Fail2ban.open(rival.package().etc)
    assert found is not None
    return found


def told_of(references: Sequence[str]) -> Sequence[Told]:
    """Have fail2ban read its filters, `name` or `name[key=value]`."""
    pairs = []
    for reference in references:
        name, _, options = reference.rstrip("]").partition("[")
        key, _, value = options.partition("=")
        pairs.append((name, ((key, value),) if key else ()))
    return told(tuple(pairs))


def cases() -> Iterable[Case]:
    """Yield what is measured."""
    yield Case(name="flask, 1 regex", log="flask", filters=(), bars=(100, 60, 4))
    yield Case(name="nginx and apache, 3 jails", log="web", filters=WEB, bars=(100, None, 4))
    yield Case(name="sshd aggressive", log="sshd", filters=(AGGRESSIVE,), bars=(60, None, 4))
    yield Case(
        name="sshd aggressive, 25 % Accepted",
        log="sshd accepted",
        filters=(AGGRESSIVE,),
        bars=(10, None, None),
    )
    every = fail2ban().filters
    for log in ("web", "flask", "sshd"):
        yield Case(
            name=f"all {len(every)} filters of Debian, {log}",
            log=log,
            filters=every,
            bars=(1000, None, 4),
            lines=10_000,
            rivals=200,
            warm=200,
        )


def jails(case: Case) -> tuple[Sequence[JailPolicy], Sequence[Told]]:
    """Return a case's jails, as we have them and as fail2ban does."""
    if not case.filters:
        rule = Rule(failregex=(FLASK,))
        return [policy("flask", rule)], [Told({"addfailregex": [FLASK], "addignoreregex": []})]
    ours = [policy(name, fail2ban().rule(name)) for name in case.filters]
    return ours, told_of(case.filters)


def comparisons(options: Options) -> Iterable[Comparison]:
    """Yield all rows."""
    for case in cases():
        for share in (0.01, 1.0):
            yield from _of(case, share, options)


def _of(case: Case, share: float, options: Options) -> Iterable[Comparison]:
    attack = share == 1.0
    wanted = case.lines // 5 if attack else case.lines
    log = Log(
        kind=case.log,
        share=share,
        lines=options.size(wanted, 500),
        compared=options.size(case.rivals, 100),
        warm=options.size(case.warm, 100),
        busy=options.size(BUSY, 100),
    )
    policies, told = jails(case)
    raw, plain = log.raw(), log.plain()
    many, pure, hit = case.bars
    for engine in engines():
        beside = hit if attack else pure if engine == PURE else many
        yield Comparison(
            name=f"{case.name}, {share:.0%} fail, {engine}",
            ours=raw.side(partial(Ours, policies, engine=engine)),
            others=[
                Against(
                    name=f"fail2ban {rival.version()}",
                    side=plain.side(partial(Rival, told)),
                    bar=None if beside is None else at_least(beside),
                ),
                Against(
                    name="a naive loop",
                    side=raw.side(partial(Naive, policies)),
                    bar=at_least(0.9),
                ),
            ],
        )


if __name__ == "__main__":
    frame.run(__doc__, comparisons)
