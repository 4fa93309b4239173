"""What may be said at the warden's door. Values only."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dockerjail.model import Ban, Blocktype, Cursor, Failure, Offence, Scope, Subject
from dockerjail.ports import CursorKey

MANUAL: Final = "manual"
"""The jail of bans that an operator makes without naming one."""


EVERYTHING: Final = Scope(ports=None, why="an operator's order")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What one chunk led to, in order, and the cursor after that chunk.

    What was found out later, by looking up a name, has no cursor: the lines are long past.
    """

    entries: Sequence[Failure | Offence]
    cursor: tuple[CursorKey, Cursor] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """An operator's order to ban; `bantime` in seconds, None for good."""

    subject: Subject
    bantime: float | None
    scope: Scope = EVERYTHING
    jail: str = MANUAL
    reason: str = ""
    blocktype: Blocktype = Blocktype.DROP


@dataclass(frozen=True, slots=True, kw_only=True)
class Pardon:
    """An operator's order to end the bans that hold `subject`, in one jail or in all."""

    subject: Subject
    jail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An order with somebody waiting for the answer: the bans made or ended."""

    order: Sentence | Pardon
    answer: asyncio.Future[Sequence[Ban]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescope:
    """Containers changed: look the ports of the active bans up anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush:
    """Write the cursors that nothing came of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """What is never to be blocked has changed; the warden knows what it is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Compare the kernel with what it should hold."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """No order follows."""


Order = Report | Asked | Rescope | Flush | Allow | Verify | Close
