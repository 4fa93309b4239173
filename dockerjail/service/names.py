"""
Names that stand where an address should: looked up beside the line, which never waits.

In: failures of somebody of whom only a name is known, of jails with `usedns = yes` or
`warn`. Out: the addresses that the name has now. What is asked too fast is dropped, and
counted: an attacker chooses his name, and a resolver takes its time. Who waits has a number, by
which the store knows him: a kill before the answer loses nobody.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Final

from dockerjail.model import Address, Named, Problem

logger = logging.getLogger(__name__)

WAITING: Final = 1000
"""Failures that wait for a look-up at most."""

AT_ONCE: Final = 4
"""Look-ups under way at once."""

PATIENCE: Final = 10.0
"""Seconds that a look-up may take."""

THREADS: Final = 32
"""Look-ups that may hang at once: nobody waits for them any more, and nobody can end them."""

MOST: Final = 16
"""Addresses of one name that count: who owns the name chooses how many it has."""

REMEMBERED: Final = 1000
LIFE: Final = 300.0
"""Answers kept, also that there is none, and for how many seconds; fail2ban's numbers."""

Resolve = Callable[[str], Awaitable[Sequence[Address]]]


_threads = threading.BoundedSemaphore(THREADS)


async def look_up(name: str) -> Sequence[Address]:
    """
    Ask the host's resolver; nothing when it knows none, takes too long, or too many wait for it.

    In a thread that nobody waits for at the end: a resolver that hangs must not keep
    the daemon from stopping.
    """
    if not _threads.acquire(blocking=False):
        return ()
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[Address]] = loop.create_future()

    def tell(found: Sequence[Address]) -> None:
        if not answer.done():
            answer.set_result(found)

    def ask() -> None:
        try:
            infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            infos = []
        finally:
            _threads.release()
        found = [ip_address(str(info[4][0]).partition("%")[0]) for info in infos]
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody wants to know
            loop.call_soon_threadsafe(tell, tuple(dict.fromkeys(found)))

    threading.Thread(target=ask, name=f"look-up of {name[:64]}", daemon=True).start()
    try:
        async with asyncio.timeout(PATIENCE):
            return await answer
    except TimeoutError:
        return ()


class Names:
    """
    The look-ups of all jails; `found` is told each failure with the addresses of its name.

    `dropped` counts failures that were not looked up since too many waited.
    """

    def __init__(
        self,
        found: Callable[[Named, Sequence[Address]], Awaitable[None]],
        *,
        clock: Callable[[], float],
        ask: Resolve,
        restored: Sequence[Named] = (),
    ) -> None:
        """Begin with nobody waiting; `restored`, of an earlier process, wait for `resume`."""
        self.dropped = 0
        self._restored = restored
        self._next = max((each.id for each in restored), default=0) + 1
        self._waiting: set[int] = set()
        self._found = found
        self._clock = clock
        self._ask = ask
        self._queue: asyncio.Queue[Named] = asyncio.Queue()
        self._known: OrderedDict[str, tuple[float, Sequence[Address]]] = OrderedDict()

    def admit(self, named: Named) -> Named | None:
        """Give a failure its number; None when too many wait: it is dropped."""
        if len(self._waiting) >= WAITING:
            self.dropped += 1
            return None
        numbered = replace(named, id=self._next)
        self._next += 1
        self._waiting.add(numbered.id)
        return numbered

    def put(self, named: Named) -> None:
        """Have the name looked up of a failure that has a number; returns at once."""
        self._waiting.add(named.id)
        self._queue.put_nowait(named)

    def resume(self) -> None:
        """Have the names looked up that an earlier process had no answer to."""
        restored, self._restored = self._restored, ()
        for named in restored:
            self.put(named)

    def problems(self) -> list[Problem]:
        """Say so when names were not looked up."""
        if not self.dropped:
            return []
        return [
            Problem(
                place="names",
                what=f"{self.dropped} failures were not looked up: too many names at once",
                remedy="have the application log addresses, or set usedns = no",
            )
        ]

    async def run(self) -> None:
        """Look names up until cancelled."""
        async with asyncio.TaskGroup() as helpers:
            for number in range(AT_ONCE):
                helpers.create_task(self._work(), name=f"look-ups {number}")

    async def _work(self) -> None:
        while True:
            named = await self._queue.get()
            await self._found(named, await self._look_up(named.name))
            self._waiting.discard(named.id)

    async def _look_up(self, name: str) -> Sequence[Address]:
        known = self._known.get(name)
        if known is not None and 0 < known[0] - self._clock() <= LIFE:  # a clock can be set back
            return known[1]
        addresses = (await self._ask(name))[:MOST]
        self._known.pop(name, None)
        self._known[name] = (self._clock() + LIFE, addresses)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return addresses
