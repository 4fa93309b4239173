"""
One daemon for one table: two would throw out each other's bans without end.

In: a table's name. Out: a claim on it, or `FirewallUnavailable`. An abstract Unix
socket belongs to a network namespace, as a table does, and goes with its process.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dockerjail.errors import FirewallUnavailable

logger = logging.getLogger(__name__)

_CREDENTIALS = struct.Struct("3i")
_PATIENCE = 1.0


@contextmanager
def claim(table: str) -> Iterator[None]:
    """
    Be the only dockerjail that writes this table while the context lasts.

    Raises `FirewallUnavailable` when another of our own user is. Anybody on the host can
    take the name; that keeps nobody from starting. Needs a running event loop.
    """
    name = f"\0dockerjail/table/{table}"
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as flag:
        flag.setblocking(False)
        try:
            flag.bind(name)
            flag.listen()
        except OSError as error:
            if _user_at(name) == os.geteuid():
                raise FirewallUnavailable(
                    f"table inet {table} belongs to another dockerjail that runs on this host; "
                    "stop it, or give this one its own [firewall] table, [store] path and "
                    "[control] socket"
                ) from error
            logger.warning("somebody else holds the name of table %s; going on without it", table)
            yield
            return
        loop.add_reader(flag, _dismiss, flag)
        try:
            yield
        finally:
            loop.remove_reader(flag)


def _dismiss(flag: socket.socket) -> None:
    """Let go of somebody who only wanted to see us: a full queue would hide us."""
    with suppress(OSError):
        flag.accept()[0].close()


def _user_at(name: str) -> int | None:
    """Return the user id of whoever listens at a Unix socket; None if nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(_PATIENCE)
        try:
            caller.connect(name)
            found = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    return int(_CREDENTIALS.unpack(found)[1])
