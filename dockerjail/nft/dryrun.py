"""
A packet filter that only remembers: for dry runs, and as the kernel's twin in tests.

In: blocks. Out: what would be blocked now. It keeps the promises of the real one
(`kernel`): elements end by the clock, a change needs a table that stands. Nothing
outside this object is read or changed.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dockerjail.errors import FirewallError
from dockerjail.model import Blocktype, Counter, Direct, Element, Problem, Subject
from dockerjail.nft import ruleset
from dockerjail.ports import Block


@dataclass(slots=True)
class _Table:
    """What outlives the one who put it."""

    standing: bool = False
    blocks: dict[Element, float | None] = field(default_factory=dict)
    generation: int = 0


class DryRun:
    """
    The `Firewall` port, in memory.

    `rejects` False is that of an old kernel, `ingress` False that of an older one. `after`
    is the one of an earlier process, whose table stands.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        rejects: bool = True,
        ingress: bool = True,
        after: "DryRun | None" = None,
    ) -> None:
        self._clock = clock
        self.rejects = rejects
        self._ingress = ingress
        self._table: _Table = _Table() if after is None else after._table  # noqa: SLF001  # of our own kind
        self._ours = False
        self._known: int | None = None
        self._changes: asyncio.Queue[str] = asyncio.Queue()
        self.allowed: frozenset[Subject] = frozenset()
        self.direct: frozenset[Direct] = frozenset()
        self._away: set[str] = set()

    @property
    def deaf(self) -> Mapping[str, str]:
        """Return the devices that are not there, or all of them."""
        return {
            device: "there is no such device" if device else "the device is not known"
            for device in sorted({each.device for each in self.direct})
            if not device or device in self._away or not self._ingress
        }

    def problems(self) -> Sequence[Problem]:
        """Return nothing: nobody else has a table here."""
        return ()

    async def adopt(self, *, allow: Collection[Subject], direct: Collection[Direct] = ()) -> bool:
        """Take over what an earlier one blocks, if that stands."""
        if not self._table.standing:
            return False
        self._take(allow, direct)
        return True

    async def replace(
        self,
        blocks: Iterable[Block],
        *,
        allow: Collection[Subject],
        direct: Collection[Direct] = (),
    ) -> None:
        """Forget everything and take these."""
        blocks = self._checked(blocks)
        self._table.blocks = {}
        self._table.standing = True
        self._take(allow, direct)
        self._put(blocks)

    async def apply(self, *, add: Sequence[Block] = (), remove: Sequence[Element] = ()) -> None:
        """Release and block; FirewallError when there is no table of ours, or it was lost."""
        self._must_stand("blocking")
        add = self._checked(add)
        for element in remove:
            self._table.blocks.pop(element, None)
        self._put(add)

    async def allow(self, networks: Collection[Subject]) -> None:
        """Let these pass; FirewallError when there is no table of ours, or it was lost."""
        self._must_stand("allowing")
        self.allowed = frozenset(networks)

    async def guard(self, direct: Collection[Direct]) -> None:
        """Remember these; FirewallError when there is no table of ours, or it was lost."""
        self._must_stand("guarding")
        self.direct = frozenset(direct)

    async def disturbed(self) -> bool:
        """Say whether the table was lost, or `disturb` called, since this was last asked."""
        known, self._known = self._known, self._table.generation
        return known != self._known

    async def blocked(self) -> Counter:
        """Return that nothing was blocked: no packet comes here."""
        return Counter(0, 0)

    async def present(self) -> Mapping[Element, float | None]:
        """Return what is blocked now, and until when."""
        now = self._clock()
        self._table.blocks = {
            element: until
            for element, until in self._table.blocks.items()
            if until is None or until > now
        }
        return dict(self._table.blocks)

    async def intact(self) -> bool:
        """Say whether a table was put or adopted, and not lost since."""
        return self._ours and self._table.standing

    async def counters(self, elements: Sequence[Element]) -> Mapping[Element, Counter]:
        """Return nothing blocked for each element that is blocked."""
        present = await self.present()
        return {element: Counter(0, 0) for element in elements if element in present}

    async def changes(self) -> AsyncGenerator[str]:
        """Yield a word for each time that the table was lost."""
        while True:
            yield await self._changes.get()

    def lose(self, word: str = "table deleted") -> None:
        """Lose the table, as when somebody flushes the kernel's ruleset."""
        self._table.blocks = {}
        self._table.standing = False
        self.disturb()
        self._changes.put_nowait(word)

    def disturb(self) -> None:
        """Change the ruleset elsewhere, as when somebody sets up another table."""
        self._table.generation += 1

    def plug(self, device: str, *, there: bool) -> None:
        """Have a device there, or away; at first, all are there."""
        if there:
            self._away.discard(device)
        else:
            self._away.add(device)
        if any(each.device == device for each in self.direct):
            self.disturb()

    def _take(self, allow: Collection[Subject], direct: Collection[Direct]) -> None:
        self._ours = True
        self.allowed = frozenset(allow)
        self.direct = frozenset(direct)
        if self._known is None:
            self._known = self._table.generation

    def _must_stand(self, doing: str) -> None:
        if not (self._ours and self._table.standing):
            raise FirewallError(f"{doing}: there is no table of ours; put it in place first")

    def _checked(self, blocks: Iterable[Block]) -> Sequence[Block]:
        blocks, now = tuple(blocks), self._clock()
        for element, until in ((block.element, block.until) for block in blocks):
            ruleset.key(element)  # refuses what no packet has
            wanted = until is None or until > now
            if wanted and element.blocktype is Blocktype.REJECT and not self.rejects:
                raise FirewallError("blocking: this packet filter cannot answer what it blocks")
        return blocks

    def _put(self, blocks: Iterable[Block]) -> None:
        now = self._clock()
        for block in blocks:
            element, until = block.element, block.until
            if until is None or until > now:
                self._table.blocks[element] = until
            else:
                self._table.blocks.pop(element, None)
