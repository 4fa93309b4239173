"""
Memory that nobody uses any more, given back to the kernel. Nothing comes in or goes out.

What a log brings at once stands in the heap for a moment, between things that stay; so glibc cannot give
any of it back by itself. After 200 containers had said 100 KB each at once, 120 MiB were resident, and 83
after this (Python 3.11, glibc 2.36). It takes 0.1 ms when there is nothing to be given, 0.1 ms for each MiB else.
"""

import ctypes
from collections.abc import Callable
from typing import Final

_TRIM: Final[Callable[[int], int] | None] = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""glibc's; others, such as musl, have none and keep less."""


def give_back() -> None:
    """Have the C library give back whole pages that are free."""
    if _TRIM is not None:
        _TRIM(0)
