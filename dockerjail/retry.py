"""Keep going when the world outside does not."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before each new attempt, in seconds."""

    first: float = 0.5
    factor: float = 2.0
    ceiling: float = 30.0
    jitter: float = 0.1
    steady: float = 30.0
    """An attempt that lasted longer was a success for a while: the delays start afresh."""

    def delays(self) -> Iterator[float]:
        """Yield growing delays, for ever."""
        delay = self.first
        while True:
            yield delay * random.uniform(1 - self.jitter, 1 + self.jitter)
            delay = min(delay * self.factor, self.ceiling)


async def persevere(
    name: str,
    run: Callable[[], Awaitable[None]],
    *,
    retry_on: type[Exception] | tuple[type[Exception], ...],
    backoff: Backoff,
    on_failure: Callable[[Exception], None] | None = None,
) -> None:
    """
    Call `run` until it returns, waiting between attempts.

    Only `retry_on` is retried; anything else is a bug or a reason to stop, and
    goes up to the task group. An attempt that lasted longer than `backoff.steady`
    starts the delays afresh. The same failure is logged once, not at each
    attempt; `on_failure` hears of every one.
    """
    clock = asyncio.get_running_loop().time
    delays = backoff.delays()
    said = ""
    while True:
        started = clock()
        try:
            await run()
        except retry_on as error:
            if clock() - started > backoff.steady:
                delays, said = backoff.delays(), ""
            if on_failure is not None:
                on_failure(error)
            if str(error) != said:
                said = str(error)
                logger.warning("%s: %s; trying again until it works", name, error)
            await asyncio.sleep(next(delays))
        else:
            return
