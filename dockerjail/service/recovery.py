"""
A start after the database was lost: what can still be read of it, and what the kernel holds.

In: a fresh store that knows of its loss, and the packet filter. Out: the bans of both in the
store, each once, so that nobody is let in. Killed half-way, it is done again at the next start.
"""

import logging
from collections.abc import Iterable, Sequence

from dockerjail.ban.adopted import adopted
from dockerjail.ban.orders import MANUAL
from dockerjail.ban.reconcile import BanKey
from dockerjail.model import Ban, Unban, UnbanReason
from dockerjail.ports import Entry, Firewall, State
from dockerjail.store.sqlite import SqliteStore

logger = logging.getLogger(__name__)


async def recover(store: SqliteStore, firewall: Firewall, *, now: float, findtime: float) -> State:
    """Return what the store remembers after it was told; raises `StoreError`, `FirewallError`."""
    entries: list[Entry] = [*await store.salvaged(now)]
    read = len(entries)
    state = await store.load(now=now, findtime=findtime)
    known = [*state.bans, *entries]
    in_force, doubled = _standing(known, now)
    entries += (Unban(ban=ban, at=now, reason=UnbanReason.REPLACED) for ban in doubled)
    kept = adopted(
        await firewall.present(),
        in_force,
        jail=MANUAL,
        first=max(state.next_ban, *(each.id + 1 for each in known if isinstance(each, Ban)), 1),
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


def _standing(known: Iterable[Entry], now: float) -> tuple[Sequence[Ban], Sequence[Ban]]:
    """
    Return the bans in force, one for each jail and subject, and those that are too many.

    Pages of a damaged database may be of different moments: one tells of a new ban, another does
    not yet tell that the one before had ended. The newest counts.
    """
    by_id: dict[int, Ban] = {}
    for entry in known:
        if isinstance(entry, Ban):
            by_id[entry.id] = entry
        elif isinstance(entry, Unban):
            by_id.pop(entry.ban.id, None)
    standing: dict[BanKey, Ban] = {}
    doubled = []
    for _, ban in sorted(by_id.items()):
        if ban.until is not None and ban.until <= now:
            continue
        if ban.key in standing:
            doubled.append(standing[ban.key])
        standing[ban.key] = ban
    return [*standing.values()], doubled
