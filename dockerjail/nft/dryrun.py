"""
A packet filter that only remembers: for dry runs, and as the kernel's twin in tests.

In: blocks. Out: what would be blocked now. It keeps the promises of the real one
(`kernel`): elements end by the clock, a change needs a table that stands. Nothing
outside this object is read or changed.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence

from dockerjail.errors import FirewallError
from dockerjail.model import Blocktype, Counter, Element, Subject
from dockerjail.ports import Block


class DryRun:
    """The `Firewall` port, in memory; `rejects` False is that of an old kernel."""

    def __init__(self, *, clock: Callable[[], float] = time.time, rejects: bool = True) -> None:
        self._clock = clock
        self.rejects = rejects
        self._blocks: dict[Element, float | None] = {}
        self._standing = False
        self._changes: asyncio.Queue[str] = asyncio.Queue()
        self.allowed: frozenset[Subject] = frozenset()

    async def replace(self, blocks: Iterable[Block], *, allow: Collection[Subject]) -> None:
        """Forget everything and take these."""
        blocks = self._checked(blocks)
        self._blocks = {}
        self._standing = True
        self.allowed = frozenset(allow)
        self._put(blocks)

    async def apply(self, *, add: Sequence[Block] = (), remove: Sequence[Element] = ()) -> None:
        """Release and block; FirewallError when `replace` never put a table, or it was lost."""
        if not self._standing:
            raise FirewallError("blocking: there is no table; put it in place first")
        add = self._checked(add)
        for element in remove:
            self._blocks.pop(element, None)
        self._put(add)

    async def allow(self, networks: Collection[Subject]) -> None:
        """Let these pass; FirewallError when `replace` never put a table, or it was lost."""
        if not self._standing:
            raise FirewallError("allowing: there is no table; put it in place first")
        self.allowed = frozenset(networks)

    async def present(self) -> Mapping[Element, float | None]:
        """Return what is blocked now, and until when."""
        now = self._clock()
        self._blocks = {
            element: until
            for element, until in self._blocks.items()
            if until is None or until > now
        }
        return dict(self._blocks)

    async def intact(self) -> bool:
        """Say whether a table was put and not lost since."""
        return self._standing

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
        self._blocks = {}
        self._standing = False
        self._changes.put_nowait(word)

    def _checked(self, blocks: Iterable[Block]) -> Sequence[Block]:
        blocks, now = tuple(blocks), self._clock()
        for element, until in ((block.element, block.until) for block in blocks):
            wanted = until is None or until > now
            if wanted and element.blocktype is Blocktype.REJECT and not self.rejects:
                raise FirewallError("blocking: this packet filter cannot answer what it blocks")
        return blocks

    def _put(self, blocks: Iterable[Block]) -> None:
        now = self._clock()
        for block in blocks:
            element, until = block.element, block.until
            if until is None or until > now:
                self._blocks[element] = until
            else:
                self._blocks.pop(element, None)
