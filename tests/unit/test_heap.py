"""Memory that was used for a moment is given back."""

import asyncio
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockerjail.service.daemon import FLUSH_EVERY
from dockerjail.service.heap import give_back
from tests.unit.test_daemon import daemon_of

pytestmark = [
    pytest.mark.looptime,
    pytest.mark.skipif(
        not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library is not glibc"
    ),
]

MANY, SIZE = 2000, 20_000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def scattered() -> Iterator[int]:
    """Leave free memory between what stays; yields how much was resident."""
    pieces = [b"x" * SIZE for _ in range(2 * MANY)]
    del pieces[::2]
    yield resident()
    assert len(pieces) == MANY


def test_what_is_free_between_what_stays_is_given_back(scattered: int) -> None:
    give_back()
    assert scattered - resident() > MANY * SIZE / 2


async def test_a_daemon_gives_back_what_was_used_for_a_moment(
    tmp_path: Path, scattered: int
) -> None:
    async with daemon_of(tmp_path):
        await asyncio.sleep(FLUSH_EVERY + 1)
        assert scattered - resident() > MANY * SIZE / 2
