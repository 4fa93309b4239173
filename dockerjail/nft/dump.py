"""
One question to the kernel over netlink, and the whole of its answer.

In: the question as bytes, and what to make of each message of the answer. Out: all that
was made. A socket for each question, in the network namespace that the process is in:
nothing is left over from a question that was given up, and nothing has to be reopened.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from dockerjail.errors import FirewallError
from dockerjail.nft import messages
from dockerjail.nft.messages import Refusal, Reply

PATIENCE: Final = 10.0
"""Seconds that the kernel may take for the whole of an answer."""

_DATAGRAM = 1 << 16
"""Longer than any datagram of a dump, which has 32 KiB at most."""

_TRIES = 5
"""How often to read what changes under the reading."""

_HEADER = struct.Struct("=IHHII")
_NUMBER = 1

T = TypeVar("T")


async def dump(
    protocol: int,
    kind: int,
    body: bytes,
    read: Callable[[Reply], Iterable[T]],
    what: str,
    *,
    most: int | None = None,
    remedies: Mapping[int, str] | None = None,
    patience: float = PATIENCE,
) -> list[T]:
    """
    Ask the kernel's `protocol` (NETLINK_*) for all that it has of a `kind`.

    `body` is the question behind netlink's own header. With `most`, what comes after so
    many finds is not read. What changes under the reading is read again, and what was
    found before is kept: rather too much than too little. Raises FirewallError, which says
    `what` was attempted and, for an errno in `remedies`, what to do.
    """
    found: list[T] = []
    try:
        async with asyncio.timeout(patience):
            for _ in range(_TRIES):
                if await _once(protocol, kind, body, read, found, most):
                    break
    except TimeoutError as error:
        raise FirewallError(f"{what}: the kernel gave no answer within {patience:g} s") from error
    except OSError as error:
        code = error.errno or errno.EIO
        remedy = (remedies or {}).get(code)
        raise FirewallError(
            f"{what}: {Refusal(code)}" + (f"; {remedy}" if remedy else "")
        ) from error
    return found


async def _once(
    protocol: int,
    kind: int,
    body: bytes,
    read: Callable[[Reply], Iterable[T]],
    found: list[T],
    most: int | None,
) -> bool:
    """Ask once; False when something changed under the reading. Raises OSError."""
    loop = asyncio.get_running_loop()
    flags = messages.REQUEST | messages.DUMP
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol
    ) as connection:
        connection.bind((0, 0))
        connection.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, _NUMBER, 0) + body)
        whole = True
        while True:
            for reply in messages.replies(await loop.sock_recv(connection, _DATAGRAM)):
                if reply.sequence != _NUMBER:
                    continue
                whole = whole and not reply.flags & messages.DUMP_INTERRUPTED
                if reply.type in (messages.NETLINK_ERROR, messages.NETLINK_DONE):
                    refusal = messages.refusal(reply)
                    if refusal is not None:
                        raise OSError(refusal.code, str(refusal))
                    return whole
                found += read(reply)
            if most is not None and len(found) >= most:
                del found[most:]
                return True
            await asyncio.sleep(0)  # a long answer is there at once, and others want their turn
