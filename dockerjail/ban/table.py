"""
The packet filter as the warden keeps it: what the bans want, and whether the kernel has it.

In: changes of the ledger, who is never blocked, word that somebody else changed the table.
Out: calls to the `Firewall`, and `sync`, which says whether it holds what it should. A
refusal is never raised: it stays in `sync` until a later attempt succeeds.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from dockerjail.ban.reconcile import BanKey, Change, Ledger, reconcile
from dockerjail.errors import FirewallError
from dockerjail.model import Ban, Direct, Element, Subject
from dockerjail.ports import Block, Firewall

logger = logging.getLogger(__name__)

STORM: Final = 10
MINUTE: Final = 60.0
"""So many mends within so many seconds are a storm."""

LONGEST_PAUSE: Final = 5.0
"""Seconds that a mend waits at most while somebody changes the table again and again."""

REMEMBERED: Final = 600.0
"""Seconds for which a storm is told of."""

MANY: Final = 5000
"""Elements from which on what goes through them all does so beside the event loop."""

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Sync:
    """
    Whether the kernel holds what it should, as far as the warden knows.

    `verified_at` is the clock's time, `storm_at` the loop's, which nobody sets.
    """

    ok: bool = False
    error: str = "the table is not in place yet"
    verified_at: float = 0.0
    healed: int = 0
    storm_at: float = -math.inf
    storm_by: str = ""


class Table:
    """Has one firewall hold what the bans want."""

    def __init__(self, firewall: Firewall, *, clock: Callable[[], float]) -> None:
        self._firewall = firewall
        self._clock = clock
        self._ledger = Ledger()
        self._mends: deque[float] = deque(maxlen=STORM)  # by the loop's clock
        self._allow: frozenset[Subject] = frozenset()
        self._forced: frozenset[Subject] = frozenset()
        self._direct: frozenset[Direct] = frozenset()
        self.sync = Sync()
        self._told = ""

    def __len__(self) -> int:
        return len(self._ledger)

    @property
    def direct(self) -> frozenset[Direct]:
        """Before which addresses past the host bans stand."""
        return self._direct

    # What the bans want

    def put(self, ban: Ban) -> Change:
        """Enter a ban, or its new end or scope; return what to `change`."""
        return self._ledger.put(ban)

    def drop(self, key: BanKey) -> Change:
        """Strike out a ban; return what to `change`."""
        return self._ledger.drop(key)

    def elements_of(self, key: BanKey) -> Sequence[Element]:
        """Return the elements of a ban."""
        return self._ledger.of(key)

    def holders(self, element: Element) -> Iterable[str]:
        """Return the jails whose bans want an element."""
        return self._ledger.holders(element)

    # What the kernel has

    async def restore(self, bans: Iterable[Ban]) -> None:
        """
        Have the kernel hold exactly `bans`, no moment without protection.

        A table that an earlier process left is taken over with its counters. Raises
        `FirewallError`: a start that cannot enforce is no start.
        """
        self._ledger = Ledger(rejects=self._firewall.rejects)
        for ban in bans:
            self._ledger.put(ban)
        if await self._adopted():
            logger.info("the table of an earlier process is taken over")
        else:
            await self._put_all()
        self._well()

    async def _adopted(self) -> bool:
        """Take over a table that stands as it should; what goes wrong with that is no matter."""
        try:
            if not await self._firewall.adopt(allow=self._effective(), direct=self._direct):
                return False
            change = await self._difference()
            if change:
                await self._firewall.apply(add=change.add, remove=change.remove)
        except FirewallError as error:
            logger.info("the table of an earlier process is not taken over: %s", error)
            return False
        return True

    def ground(self, allow: frozenset[Subject], direct: frozenset[Direct]) -> bool:
        """Take note of who is never blocked, and where to stand; say if that is new."""
        changed = (allow, direct) != (self._allow, self._direct)
        self._allow, self._direct = allow, direct
        return changed

    def force(self, forced: Iterable[Subject]) -> bool:
        """Take note of who is blocked although somebody lets him pass; say if that is new."""
        subjects = frozenset(forced)
        changed = subjects != self._forced
        self._forced = subjects
        return changed

    async def change(
        self, *, add: Sequence[Block], remove: Sequence[Element], ground: bool = False
    ) -> None:
        """Write a change, and with `ground` who is never blocked; if refused, put it all anew."""
        try:
            if ground:
                await self._firewall.allow(self._effective())
                await self._firewall.guard(self._direct)
            if add or remove:
                await self._firewall.apply(add=add, remove=remove)
        except FirewallError as error:
            if _reason(error) != self._told:
                logger.warning("%s; putting the whole table in place again", error)
            self.sync.ok, self.sync.error = False, str(error)
            await self.verify(str(error))

    async def verify(self, reason: str = "", *, ours: bool = False) -> None:
        """
        Mend what differs; without a `reason` look only whether anybody changed something.

        What differs is counted as somebody else's doing, unless the reason is `ours`.
        """
        try:
            if not reason and self.sync.ok and not await self._firewall.disturbed():
                self.sync.verified_at = self._clock()
                return
            named, reason = bool(reason), reason or "routine check"
            if not self.sync.ok or not await self._stands():
                await self._put_all()
                self._mended(reason)
                logger.warning("the table is in place again: %s", reason)
            else:
                # put anew unseen: that costs less than to read what stands in this set
                await self._firewall.allow(self._effective())
                change = await self._difference()
                if change:
                    await self._firewall.apply(add=change.add, remove=change.remove)
                if ours:
                    logger.warning("%s: elements with a new end: %d", reason, len(change.add))
                elif change:
                    self._mended(reason)
                    logger.warning(
                        "%d elements put back, %d taken out (%s)",
                        len(change.add),
                        len(change.remove),
                        reason,
                    )
                elif named:  # of who is never banned, if there was anything to mend at all
                    logger.warning("the table holds what it should again: %s", reason)
        except FirewallError as error:
            if _reason(error) != self._told:
                self._told = _reason(error)
                logger.error("the kernel is not in sync: %s", error)
            self.sync.ok, self.sync.error = False, str(error)
        else:
            self._well()

    async def _stands(self) -> bool:
        """Say whether the table is whole; a chain that went with its device is put back first."""
        if self._direct:
            with suppress(FirewallError):  # the table itself may be gone
                await self._firewall.guard(self._direct)
        return await self._firewall.intact()

    def pause(self) -> float:
        """
        Return for how many seconds not to mend: somebody changes the table again and again.

        Two programs that each put back what the other changed would do nothing else.
        """
        since = asyncio.get_running_loop().time() - MINUTE
        if len(self._mends) < STORM or self._mends[0] < since:
            return 0.0
        return LONGEST_PAUSE

    def doubt(self, reason: str) -> None:
        """Take note that the kernel may not hold what it should, and is looked at after a pause."""
        self.sync.ok = False
        self.sync.error = f"{reason}; it is looked at after {LONGEST_PAUSE:g} seconds"

    def storm(self) -> str:
        """Say who changed the table again and again lately; empty if nobody did."""
        lately = asyncio.get_running_loop().time() - self.sync.storm_at < REMEMBERED
        return self.sync.storm_by if lately else ""

    def _mended(self, reason: str) -> None:
        self.sync.healed += 1
        now = asyncio.get_running_loop().time()
        self._mends.append(now)
        if self.pause():
            if not self.storm():
                logger.error(
                    "the table was changed %d times within a minute, last: %s; "
                    "from now on it is mended every %g seconds",
                    STORM,
                    reason,
                    LONGEST_PAUSE,
                )
            self.sync.storm_at, self.sync.storm_by = now, reason

    def _well(self) -> None:
        self.sync.ok, self.sync.error, self._told = True, "", ""
        self.sync.verified_at = self._clock()

    async def _put_all(self) -> None:
        blocks = await self._aside(self._blocks)
        await self._firewall.replace(blocks, allow=self._effective(), direct=self._direct)

    def _blocks(self) -> Sequence[Block]:
        wanted = self._ledger.wanted()
        return [Block(element=element, until=until) for element, until in wanted.items()]

    async def _difference(self) -> Change:
        """Return what makes the kernel hold what the bans want."""
        present = await self._firewall.present()
        return await self._aside(lambda: reconcile(self._ledger.wanted(), present))

    async def _aside(self, work: Callable[[], T]) -> T:
        """Do work on many elements in a thread: nobody changes the ledger while its owner waits."""
        return await asyncio.to_thread(work) if len(self._ledger) > MANY else work()

    def _effective(self) -> frozenset[Subject]:
        """Return who is never blocked, less who is all the same."""
        return without(self._allow, self._forced) if self._forced else self._allow


def _reason(error: FirewallError) -> str:
    """Return why something was refused, whatever it was: each ban would be another."""
    return str(error).rpartition(": ")[2]


def without(networks: Collection[Subject], holes: Collection[Subject]) -> frozenset[Subject]:
    """Return `networks` with all addresses of `holes` taken out."""
    left = set(networks)
    for hole in holes:
        for network in [one for one in left if one.version == hole.version and one.overlaps(hole)]:
            left.remove(network)
            if network != hole and network.prefixlen < hole.prefixlen:
                # both are of one version, which the type of address_exclude cannot say
                left.update(cast(Iterable[Subject], network.address_exclude(hole)))  # type: ignore[arg-type]
    return frozenset(left)
