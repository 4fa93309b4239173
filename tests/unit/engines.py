"""
The engines there are, for tests that run with each: the plain one is always among them.

hyperscan is one of the development's dependencies; where there are no wheels of it, its tests are
skipped, but not in CI.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from dockerjail.jail.engine import Engine, plain
from dockerjail.jail.filter import Filter
from dockerjail.jail.hyperscan import Hyperscan, Unavailable
from dockerjail.jail.sieve import Candidate, Plan, Sieve
from dockerjail.jail.skeleton import Chain

Make = Callable[[Mapping[int, Chain]], Engine]


def _native() -> Hyperscan | None:
    try:
        return Hyperscan()
    except Unavailable:
        if os.environ.get("CI"):
            raise
        return None


NATIVE = _native()
MAKERS: Mapping[str, Make] = (
    {"plain": plain}
    if NATIVE is None
    else {"plain": plain, "chains": NATIVE.chains, "literals": NATIVE.literals}
)
needs_native = pytest.mark.skipif(NATIVE is None, reason="hyperscan is not installed")


def sieves(filters: Sequence[Filter]) -> Iterator[Sieve]:
    """Yield a sieve of the same filters with each engine."""
    plan = Plan(filters)
    for make in MAKERS.values():
        yield Sieve(plan=plan, engine=make(plan.chains) if plan.chains else None)


def candidates(filters: Sequence[Filter], data: bytes) -> list[Candidate]:
    """Return what a sieve lets through: the same with every engine."""
    first, *others = (sieve.candidates(data) for sieve in sieves(filters))
    assert all(each == first for each in others)
    return first
