"""
How bans grow for those who come back (fail2ban's `bantime.increment`). Pure.

In: a jail's bantime, how often a subject was banned before, a number between 0 and 1 for
chance. Out: how long the next ban lasts.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """
    How a bantime grows; times in seconds.

    `multipliers` overrule `formula`, empty is the doubling that fail2ban does by default. The
    result is at most `maxtime` (None: no limit), to which up to `rndtime` comes by chance. With
    `overalljails` bans in every jail count. An earlier ban counts until `decay` seconds after
    it began (None: as long as it is remembered).
    """

    factor: float = 1.0
    formula: str = ""
    multipliers: tuple[float, ...] = ()
    maxtime: float | None = None
    rndtime: float = 0.0
    overalljails: bool = False
    decay: float | None = None
