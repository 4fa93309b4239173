"""
A process that gives up the right to change the packet filter, and takes it again.

In: nothing. Out: the effective capabilities of the calling thread, and of those that it starts
from then on, without CAP_NET_ADMIN or with it. What is permitted stays, so that it can be taken again.
"""

import ctypes
import os
from collections.abc import Callable

_LIBC = ctypes.CDLL(None, use_errno=True)
_VERSION_3 = 0x20080522
_NET_ADMIN = 1 << 12


def drop() -> None:
    """Give CAP_NET_ADMIN up for now."""
    _effective(lambda now: now & ~_NET_ADMIN)


def take() -> None:
    """Have CAP_NET_ADMIN again."""
    _effective(lambda now: now | _NET_ADMIN)


def _effective(change: Callable[[int], int]) -> None:
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    # effective, permitted, inheritable of the lower 32 capabilities, then of the upper
    data = (ctypes.c_uint32 * 6)()
    _checked(_LIBC.capget(header, data))
    data[0] = change(data[0])
    _checked(_LIBC.capset(header, data))


def _checked(failed: int) -> None:
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
