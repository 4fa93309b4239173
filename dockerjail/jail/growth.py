"""
How bans grow for those who come back (fail2ban's `bantime.increment`). Pure.

In: a jail's bantime, how often a subject was banned before, a number between 0 and 1 for
chance. Out: how long the next ban lasts.
"""

from dataclasses import dataclass
from typing import Final

from dockerjail.jail.formula import Formula

CENTURY: Final = 100 * 365.25 * 86400.0
"""Seconds that a ban lasts at most for which nobody set a maxtime."""

DOUBLINGS: Final = 20
"""How often a bantime doubles when nobody says otherwise; fail2ban's default formula has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """
    How a bantime grows; times in seconds.

    `multipliers` overrule `formula`, None is the doubling that fail2ban does by default. The
    result is at most `maxtime` (None: no limit), to which up to `rndtime` comes by chance. With
    `overalljails` bans in every jail count. An earlier ban counts until `decay` seconds after
    it began (None: as long as it is remembered).
    """

    factor: float = 1.0
    formula: Formula | None = None
    multipliers: tuple[float, ...] = ()
    maxtime: float | None = None
    rndtime: float = 0.0
    overalljails: bool = False
    decay: float | None = None


def grown(bantime: float, growth: Growth, earlier: int, chance: float) -> float:
    """
    Return how many seconds a ban lasts after `earlier` ones; `chance` is in [0, 1).

    fail2ban's arithmetic (1.0.2): a first ban lasts `bantime`, whatever maxtime and rndtime.
    A later one takes the multiplier whose index is `earlier`, the last if there are fewer: so
    the first is nobody's. A formula makes no ban shorter than `bantime`, multipliers and
    maxtime may; rndtime comes on top of maxtime.

    Where fail2ban raises or comes to no length of time (a division by zero, a multiplier
    of 0) it is `bantime`, and what is more than any number is maxtime, or a century.
    """
    if earlier <= 0:
        return bantime
    if growth.multipliers:
        last = len(growth.multipliers) - 1
        longer = bantime * growth.factor * growth.multipliers[min(earlier, last)]
    elif growth.formula is not None:
        longer = max(bantime, growth.formula.seconds(bantime, earlier, growth.factor))
    else:
        longer = max(bantime, bantime * (1 << min(earlier, DOUBLINGS)) * growth.factor)
    if not longer > 0:  # also true of NaN
        longer = bantime
    longest = max(bantime, CENTURY) if growth.maxtime is None else growth.maxtime
    return min(longer, longest) + chance * growth.rndtime
