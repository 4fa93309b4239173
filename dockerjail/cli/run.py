"""`dockerjail run`: the daemon in the foreground, its log on stdout."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from dockerjail.config.settings import load
from dockerjail.errors import DockerjailError
from dockerjail.service.journal import Journal
from dockerjail.service.run import run as serve

logger = logging.getLogger("dockerjail")


def run(config: Path | None) -> int:
    """Run the daemon; return 1 with one clear message when it cannot go on."""
    settings = load(config)
    logging.basicConfig(level=settings.log.level, handlers=[Journal(sys.stdout)])
    errors: list[DockerjailError] = []
    try:
        asyncio.run(serve(settings))
    except* DockerjailError as group:
        errors += _leaves(group)
    for error in errors:
        logger.critical("%s", error)
    return 1 if errors else 0


def _leaves(group: BaseExceptionGroup[DockerjailError]) -> Iterator[DockerjailError]:
    """Yield the errors in a group of groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
