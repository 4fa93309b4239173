"""
The jail that counts bans: the same words as fail2ban's `recidive`, and no log file. Pure.

In: what `[defaults]` says, how long history is kept. Out: the built-in jail, and what is
wrong with one that counts further back than anybody remembers.
"""

from dataclasses import replace
from typing import Final, NamedTuple

from dockerjail.config import duration
from dockerjail.config.mistake import Mistake
from dockerjail.jail.policy import JailPolicy, Origin, Verify
from dockerjail.jail.rule import NOTHING

RECIDIVE: Final = "recidive"
"""Its name; fail2ban's users have it under this one."""

FINDTIME: Final = duration.DAY
BANTIME: Final[float | None] = duration.WEEK
"""What it has unless its own section says otherwise, as fail2ban's; in seconds."""


def builtin(base: JailPolicy) -> JailPolicy:
    """Return the jail that counts bans, with the maxretry and all else of `base`."""
    return replace(
        base,
        name=RECIDIVE,
        origin=Origin.SHIPPED,
        rule=NOTHING,
        findtime=FINDTIME,
        bantime=BANTIME,
        verify=Verify.NOTHING,  # there is no line to be borne out
        recidive=True,
    )


def defined(option: str) -> Mistake:
    """Return what is wrong with an `option` that says which lines the jail is to look for."""
    what = (
        f"jail {RECIDIVE} counts the bans of other jails, and {option} is for one that reads lines"
    )
    return Mistake(what, "leave it out, or give the jail another name")


class Forgotten(NamedTuple):
    """An option of a jail that asks for bans of so many `seconds` ago, and how many are kept."""

    option: str
    seconds: float
    keep: float

    def mistake(self) -> Mistake:
        """Say so."""
        wanted = duration.format(self.seconds)
        what = (
            f"{wanted} is longer than bans are remembered: "
            f"{duration.format(self.keep)}, by keep under [store]"
        )
        return Mistake(what, f'write keep = "{wanted}" there, or a shorter {self.option}')


def forgotten(policy: JailPolicy, keep: float) -> Forgotten | None:
    """Return which option of a jail asks for bans that are older than `keep` seconds."""
    longest = {"findtime": policy.findtime} if policy.recidive else {}
    if policy.growth is not None and policy.growth.decay is not None:
        longest["bantime.decay"] = policy.growth.decay
    for option, seconds in longest.items():
        if seconds > keep:
            return Forgotten(option, seconds, keep)
    return None
