"""From settings to a running daemon and back: opens what it needs, stops on a signal."""

import asyncio
import logging
import math
import signal
import time
from contextlib import AsyncExitStack

from dockerjail import __version__
from dockerjail.config.policies import longest_findtime
from dockerjail.config.settings import Settings
from dockerjail.docker.client import DockerEngine
from dockerjail.errors import FirewallError, StoreDamaged
from dockerjail.model import Mode
from dockerjail.nft.dryrun import DryRun
from dockerjail.nft.flows import Conntrack
from dockerjail.nft.host import ThisHost
from dockerjail.nft.kernel import Kernel
from dockerjail.ports import Firewall
from dockerjail.service.claim import claim
from dockerjail.service.control import serve
from dockerjail.service.daemon import Daemon, World
from dockerjail.service.recovery import recover
from dockerjail.service.ticker import ticking
from dockerjail.store.sqlite import SqliteStore

logger = logging.getLogger(__name__)

ANEW_EVERY = 600.0
"""Seconds within which a second damaged database is one too many: the disk is broken."""


async def run(settings: Settings) -> None:
    """
    Run until SIGTERM or SIGINT.

    A database that turns out damaged is begun anew without leaving the process: who is banned
    stays so, whether or not anybody would start it again. Raises `StoreError`,
    `FirewallUnavailable` or `ConfigError` when it cannot start, or cannot go on; in an
    exception group when a task found out.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    logger.info("dockerjail %s starts", __version__)
    for problem in settings.problems:
        logger.warning("%s", problem)
    distrust, since = "", -math.inf
    while True:
        damaged = ""
        try:
            await _serve(settings, stop, distrust)
        except* StoreDamaged as group:
            # what a start does with a damaged file is all that can be done about it
            if loop.time() - since < ANEW_EVERY:
                raise
            damaged, since = str(_first(group)), loop.time()
        if not damaged:
            return
        logger.error("%s; starting anew", damaged)
        distrust = damaged


def _first(group: BaseExceptionGroup[StoreDamaged]) -> StoreDamaged:
    """Return one of the errors in a group of groups."""
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one


async def _serve(settings: Settings, stop: asyncio.Event, distrust: str) -> None:
    """Open all that is needed, and run until `stop` is set; `distrust` is why not to read the store."""
    async with AsyncExitStack() as stack:
        stack.enter_context(claim(settings.firewall.table))
        store = await stack.enter_async_context(
            SqliteStore(
                settings.store.path,
                keep=settings.store.keep,
                most=settings.store.max_size,
                distrust=distrust,
            )
        )
        firewall = await _firewall(settings, stack)
        engine = await stack.enter_async_context(DockerEngine(settings.docker.host))
        now, findtime = time.time(), longest_findtime(settings)
        if store.loss is None:
            state = await store.load(now=now, findtime=findtime)
        else:
            state = await recover(store, firewall, now=now, findtime=findtime)
        world = World(
            engine=engine, store=store, firewall=firewall, host=ThisHost(), flows=Conntrack()
        )
        daemon = Daemon(settings, world, state)
        del state  # it is as large as the database, and everybody has what is his
        stack.enter_context(ticking(daemon.watch))
        await stack.enter_async_context(serve(daemon, settings.control.socket))
        await daemon.run(stop)


async def _firewall(settings: Settings, stack: AsyncExitStack) -> Firewall:
    """Open the kernel's packet filter, or in a dry run one that only remembers."""
    kernel = Kernel(table=settings.firewall.table, owner=settings.firewall.owner)
    if settings.firewall.mode is Mode.ENFORCE:
        return await stack.enter_async_context(kernel)
    try:
        async with kernel:
            await kernel.remove()
    except FirewallError as error:
        # a dry run needs no rights; but what an earlier run blocks then stays blocked
        logger.warning("the table of an earlier run, if there is one, is not removed: %s", error)
    logger.warning('[firewall] mode = "observe": nothing is blocked, bans are only recorded')
    return DryRun()
