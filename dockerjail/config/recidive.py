"""
The jail that counts bans: the same words as fail2ban's `recidive`, and no log file. Pure.

In: what `[defaults]` says, how long history is kept. Out: the built-in jail, and what is
wrong with one that counts further back than anybody remembers.
"""

from dataclasses import replace
from typing import Final

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


def forgotten(policy: JailPolicy, keep: float) -> tuple[str, Mistake] | None:
    """Say which option of a jail asks for bans older than `keep` seconds, and that none are kept."""
    longest = {"findtime": policy.findtime} if policy.recidive else {}
    if policy.growth is not None and policy.growth.decay is not None:
        longest["bantime.decay"] = policy.growth.decay
    for option, seconds in longest.items():
        if seconds > keep:
            what = (
                f"{duration.format(seconds)} is longer than bans are remembered: "
                f"{duration.format(keep)}, by keep under [store]"
            )
            remedy = f'write keep = "{duration.format(seconds)}" there, or a shorter {option}'
            return option, Mistake(what, remedy)
    return None
