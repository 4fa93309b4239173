"""
The timer that stops a regex which backtracks: signals in, `Overdue` out of the judge's midst.

CPython's regex engine looks for signals while it works, and what a handler raises ends the
match. The timer counts the processor time of this process and not the wall's, so it costs nothing
while nothing is done, and a busy machine makes no line overdue. Main thread only.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dockerjail.errors import Overdue
from dockerjail.jail.patience import Watch

TICK = 0.01
"""Seconds of processor time between two looks."""


@contextmanager
def ticking(watch: Watch, tick: float = TICK) -> Iterator[None]:
    """Have `watch` watched while the context lasts."""

    def look(_signal: int, _frame: FrameType | None) -> None:
        # other threads' time makes it tick sooner, but only this thread's is the judge's
        if watch.tick(time.thread_time()):
            raise Overdue

    before = signal.signal(signal.SIGVTALRM, look)
    signal.setitimer(signal.ITIMER_VIRTUAL, tick, tick)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)
