"""
A start after the database was lost: what can still be read of it, and what the kernel holds.

In: a fresh store that knows of its loss, and the packet filter. Out: the bans of both in the
store, so that nobody is let in. Killed half-way, it is done again at the next start.
"""

import logging

from dockerjail.ban.adopted import adopted
from dockerjail.ban.orders import MANUAL
from dockerjail.model import Ban, Unban
from dockerjail.ports import Entry, Firewall, State
from dockerjail.store.sqlite import SqliteStore

logger = logging.getLogger(__name__)


async def recover(store: SqliteStore, firewall: Firewall, *, now: float, findtime: float) -> State:
    """Return what the store remembers after it was told; raises `StoreError`, `FirewallError`."""
    entries: list[Entry] = [*await store.salvaged(now)]
    read = len(entries)
    state = await store.load(now=now, findtime=findtime)
    bans = {ban.id: ban for ban in state.bans}
    standing = dict(bans)
    for entry in entries:
        if isinstance(entry, Ban):
            bans[entry.id] = entry
            standing[entry.id] = entry
        elif isinstance(entry, Unban):
            standing.pop(entry.ban.id, None)
    in_force = [ban for ban in standing.values() if ban.until is None or ban.until > now]
    kept = adopted(
        await firewall.present(),
        in_force,
        jail=MANUAL,
        first=max(state.next_ban, *(number + 1 for number in bans), 1),
        at=now,
        rejects=firewall.rejects,
    )
    await store.recover([*entries, *kept])
    logger.warning(
        "of the database that was lost %d rows could be read; bans kept from the kernel: %d",
        read,
        len(kept),
    )
    return await store.load(now=now, findtime=findtime)
