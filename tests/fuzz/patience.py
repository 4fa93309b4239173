"""Gives up on what takes too long, by a timer that counts processor time."""

import contextlib
import gc
import signal
from collections.abc import Iterator
from types import FrameType

from dockerjail.errors import Overdue


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """
    Let the block take so much processor time; what comes after it in the block is left out.

    `re` looks for signals while it backtracks. A fuzzer's own timer counts real time, so the
    two do not meet.
    """

    armed = True

    def ring(number: int, frame: FrameType | None) -> None:
        if armed:
            raise Overdue

    before = signal.signal(signal.SIGVTALRM, ring)
    collects = gc.isenabled()
    gc.disable()  # what is raised in a callback of the collector's is lost
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
    try:
        with contextlib.suppress(Overdue):
            yield
            armed = False  # a late ring would be raised where nobody expects it
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        if collects:
            gc.enable()
