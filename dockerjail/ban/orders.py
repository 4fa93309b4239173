"""What may be said at the warden's door. Values only."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from dockerjail.model import (
    Allowance,
    Ban,
    Blocktype,
    Cursor,
    Failure,
    Named,
    Offence,
    Scope,
    Subject,
)
from dockerjail.ports import Answered, CursorKey

MANUAL: Final = "manual"
"""The jail of bans that an operator makes without naming one."""


EVERYTHING: Final = Scope(ports=None, why="an operator's order")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What one chunk led to, in order, and the cursor after that chunk.

    What was found out later, by looking up a name, has no cursor: the lines are long past.
    It begins with the answer to who waited for that.
    """

    entries: Sequence[Failure | Offence | Named | Answered]
    cursor: tuple[CursorKey, Cursor] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """
    An operator's order to ban; `bantime` in seconds, None for good.

    With `force` also somebody who is ignored, but never this host and its networks.
    """

    subject: Subject
    bantime: float | None
    scope: Scope = EVERYTHING
    jail: str = MANUAL
    reason: str = ""
    blocktype: Blocktype = Blocktype.DROP
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pardon:
    """An operator's order to end the bans that hold `subject`, in one jail or in all."""

    subject: Subject
    jail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """
    An operator's order to let somebody pass from now on; ends the bans of all within `networks`.

    These are what `allowance.who` stands for now.
    """

    allowance: Allowance
    networks: Collection[Subject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    """An operator's order that this `who` is let pass no more."""

    who: str


Request = Sentence | Pardon | Admit | Revoke


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An order with somebody waiting for the answer: the bans made or ended."""

    order: Request
    answer: asyncio.Future[Sequence[Ban]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescope:
    """Containers changed: look the ports of the active bans up anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush:
    """Write the cursors that nothing came of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is never to be blocked, or where to stand, has changed; the warden knows it."""

    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """
    Compare the kernel with what it should hold; without a `reason` only if others changed it.

    What differs is somebody else's doing, unless it is `ours`: the clock was set.
    """

    reason: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetBack:
    """The host's clock was set back by so many seconds: the ends of bans go with it."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """No order follows."""


Order = Report | Asked | Rescope | Flush | Ground | Verify | SetBack | Close
