"""`dockerjail run`: the daemon in the foreground, its log on stdout."""

import asyncio
import logging
import sys
from pathlib import Path

from dockerjail.config.settings import load
from dockerjail.errors import DockerjailError
from dockerjail.service.run import run as serve

logger = logging.getLogger("dockerjail")


def run(config: Path | None) -> int:
    """Run the daemon; return 1 with one clear message when it cannot go on."""
    settings = load(config)
    logging.basicConfig(
        level=settings.log.level,
        stream=sys.stdout,
        format="%(asctime)s %(levelname)-7s %(message)s",
    )
    try:
        asyncio.run(serve(settings))
    except* DockerjailError as group:
        for error in _leaves(group):
            logger.critical("%s", error)
        return 1
    return 0


def _leaves(group: BaseExceptionGroup[DockerjailError]) -> list[BaseException]:
    """Return the errors in a group of groups."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
