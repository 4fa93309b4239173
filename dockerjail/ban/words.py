"""
What the log says of failures, bans and exceptions: one in, a line of text out. Pure.

fail2ban's words first (`[jail] Found …`, `Ban`, `Unban`), so that people's greps go on working.
"""

from datetime import datetime
from typing import Final

from dockerjail.model import Allowance, Ban, Blocktype, Failure, Mode, UnbanReason, written


def found(failure: Failure) -> str:
    """Tell of a failure."""
    at = datetime.fromtimestamp(failure.at).astimezone()
    return f"[{failure.jail}] Found {written(failure.subject)} - {at:%Y-%m-%d %H:%M:%S}"


def banned(ban: Ban) -> str:
    """Tell of a ban: from what, how, until when, and why by hand."""
    how = " by reject" if ban.blocktype is Blocktype.REJECT else ""
    why = f" ({ban.reason})" if ban.reason else ""
    verb = "Ban" if ban.mode is Mode.ENFORCE else "Observe, would ban"
    return f"[{ban.jail}] {verb} {written(ban.subject)} from {ban.scope}{how} {end(ban)}{why}"


def restored(ban: Ban) -> str:
    """Tell of a ban that an earlier process made."""
    return f"[{ban.jail}] Restore Ban {written(ban.subject)}{_observed(ban)}"


_WHY_ENDED: Final = {
    UnbanReason.EXPIRED: "",
    UnbanReason.OPERATOR: " by an operator's word",
    UnbanReason.IGNORED: ": never banned any more",
    UnbanReason.REPLACED: ": another ban holds all of it",
}


def ended(ban: Ban, reason: UnbanReason) -> str:
    """Tell of the end of a ban, and why it ended before its time."""
    return f"[{ban.jail}] Unban {written(ban.subject)}{_observed(ban)}{_WHY_ENDED[reason]}"


def end(what: Ban | Allowance) -> str:
    """Say until when."""
    if what.until is None:
        return "for good"
    return f"until {datetime.fromtimestamp(what.until).astimezone():%Y-%m-%d %H:%M:%S}"


def _observed(ban: Ban) -> str:
    return " (only observed)" if ban.mode is Mode.OBSERVE else ""
