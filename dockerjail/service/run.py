"""From settings to a running daemon and back: opens what it needs, stops on a signal."""

import asyncio
import logging
import signal
import time
from contextlib import AsyncExitStack

from dockerjail import __version__
from dockerjail.config.policies import longest_findtime
from dockerjail.config.settings import Settings
from dockerjail.docker.client import DockerEngine
from dockerjail.errors import FirewallError
from dockerjail.model import Mode
from dockerjail.nft.dryrun import DryRun
from dockerjail.nft.flows import Conntrack
from dockerjail.nft.host import ThisHost
from dockerjail.nft.kernel import Kernel
from dockerjail.ports import Firewall
from dockerjail.service.claim import claim
from dockerjail.service.control import serve
from dockerjail.service.daemon import Daemon, World
from dockerjail.service.ticker import ticking
from dockerjail.store.sqlite import SqliteStore

logger = logging.getLogger(__name__)


async def run(settings: Settings) -> None:
    """
    Run until SIGTERM or SIGINT.

    Raises `StoreError`, `FirewallUnavailable` or `ConfigError` when it cannot
    start, or cannot go on; in an exception group when a task found out.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    logger.info("dockerjail %s starts", __version__)
    for problem in settings.problems:
        logger.warning("%s", problem)
    async with AsyncExitStack() as stack:
        stack.enter_context(claim(settings.firewall.table))
        store = await stack.enter_async_context(
            SqliteStore(settings.store.path, keep=settings.store.keep)
        )
        firewall = await _firewall(settings, stack)
        engine = await stack.enter_async_context(DockerEngine(settings.docker.host))
        state = await store.load(now=time.time(), findtime=longest_findtime(settings))
        world = World(
            engine=engine, store=store, firewall=firewall, host=ThisHost(), flows=Conntrack()
        )
        daemon = Daemon(settings, world, state)
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
