"""
What searches the logs: has engines made beside the line, and says what became of it.

To make one takes up to seconds, in a thread that nobody waits for at the end. What `jail/sieves.py`
decides is told here: once in the log, and to `status`.
"""

import asyncio
import logging
import threading
import time
from typing import Any

from dockerjail.config.settings import MatchingSettings, Search
from dockerjail.jail.sieves import Sieves
from dockerjail.model import Problem

logger = logging.getLogger(__name__)


class Matching:
    """The sieves of a daemon."""

    def __init__(self, settings: MatchingSettings) -> None:
        self._wanted = asyncio.Event()
        self.sieves = Sieves(
            native=settings.engine is Search.AUTO,
            audit=settings.audit,
            clock=time.thread_time,
            wanted=self._wanted.set,
        )
        self._engine = ""
        self._told = 0

    async def run(self) -> None:
        """Have the engines made that logs want, for as long as there are logs."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            made = asyncio.Event()
            threading.Thread(
                target=self._make, args=(loop, made), name="engines", daemon=True
            ).start()
            await made.wait()
            self.sieves.settle()
            self._introduce()
            self.tell()

    def _make(self, loop: asyncio.AbstractEventLoop, made: asyncio.Event) -> None:
        try:
            self.sieves.prepare()
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(made.set)

    def _introduce(self) -> None:
        """Log what searches, when it is first known and when that changes."""
        if self._engine == self.sieves.engine:
            return
        self._engine = self.sieves.engine
        why = f" ({self.sieves.why})" if self.sieves.why else ""
        logger.info("logs are searched by %s%s", self._engine, why)

    def tell(self) -> None:
        """Log what turned out wrong since the last time."""
        for problem in self.sieves.problems[self._told :]:
            logger.error("%s", problem)
        self._told = len(self.sieves.problems)

    def problems(self) -> list[Problem]:
        """List what turned out wrong, and holds until the next start."""
        return list(self.sieves.problems)

    def told(self) -> dict[str, Any]:
        """Tell `status` what searches, and what the audits found."""
        return {
            "engine": self.sieves.engine,
            "why": self.sieves.why,
            "audited": self.sieves.audited,
            "overlooked": self.sieves.overlooked,
        }
