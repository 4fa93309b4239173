"""
What this kernel can do, and what our rules look like in it: by trying, in a table beside ours.

In: a `Conversation`. Out: `Features`, and shapes to compare with. The table beside ours blocks nobody, and
is gone when a question is answered.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from dockerjail.errors import FirewallUnavailable
from dockerjail.nft import encode, messages, ruleset, survey
from dockerjail.nft.conversation import Conversation, Rejected, deleted, touch
from dockerjail.nft.messages import CREATE, DUMP, Kind, Message, Shape
from dockerjail.nft.ruleset import BanSet, Ruleset

_LACKING = frozenset({errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT})
"""What the kernel answers to a table like ours when a module that it takes is not there."""

_DORMANT = 0x1
OWNED_FOR_GOOD = messages.OWNED | messages.PERSISTENT

_TRYING = "trying out the packet filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """
    What the kernel can do, found by trying; nothing of it is needed.

    `update_timeout`: a new end for an element that stands (Linux 6.12).
    `destroy`: deletion of what may be missing (6.3). `set_count`: the size of a
    set without a dump. `reject`: an answer to what is blocked before DNAT (5.9).
    `ingress`: chains at a device, for containers past the host (5.10). `owner`: a table
    that only its own process may change, and that outlives it (6.9).
    """

    update_timeout: bool
    destroy: bool
    set_count: bool
    reject: bool
    ingress: bool
    owner: bool

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {'yes' if there else 'no'}"
            for name, there in (
                ("timeout update", self.update_timeout),
                ("destroy", self.destroy),
                ("set count", self.set_count),
                ("reject", self.reject),
                ("ingress", self.ingress),
                ("owner", self.owner),
            )
        )


class Probe:
    """Tries things out in the table `NAME_probe`."""

    def __init__(self, netlink: Conversation, table: str) -> None:
        self._netlink = netlink
        self._beside = f"{table}_probe"

    async def features(self) -> Features:
        """
        Find out what this kernel can do.

        FirewallUnavailable when it lacks what bans cannot do without, with what to do about it.
        """
        table = self._beside
        home = BanSet(ruleset.Kind.ALL, 4, 32)
        key = b"\xc0\0\2\1"

        def put(milliseconds: int) -> Message:
            entries = messages.timed([(key, milliseconds)])
            return messages.elements(Kind.NEWSETELEM, table, home.name, entries, flags=CREATE)

        await self._try_out_the_core()
        sets = Ruleset(sets=ruleset.extension([home]).sets)
        await self._commit(
            touch(table),
            deleted(table),
            encode.table_(table, 0),
            *encode.everything(table, sets),
            put(60_000),
        )
        try:
            await self._commit(touch(table), put(120_000))
            asked = messages.elements(Kind.GETSETELEM, table, home.name, messages.keys([key]))
            left = [one.left_ms for one in await self._netlink.ask(asked, messages.found, _TRYING)]
            asked = Message(Kind.GETSET, DUMP, messages.named(table))
            counts = await self._netlink.ask(
                asked, lambda reply: [messages.set_count(reply)], _TRYING
            )
            reject = await self._takes(touch(table), *encode.everything(table, ruleset.trial()))
            door = encode.everything(table, Ruleset(chains=ruleset.door("lo").chains))
            ingress = await self._takes(touch(table), *door)
            owned = encode.table_(table, OWNED_FOR_GOOD)
            owner = await self._takes(touch(table), deleted(table), owned)
        finally:
            destroy = await self._try_to_destroy()
        return Features(
            update_timeout=any(one is not None and one > 60_000 for one in left),
            destroy=destroy,
            set_count=bool(counts) and counts[0] is not None,
            reject=reject,
            ingress=ingress,
            owner=owner,
        )

    async def shapes(self, rules: Ruleset, what: str) -> Sequence[Shape] | None:
        """Tell what rules look like in this kernel, None if it refuses them; takes two commits."""
        try:
            await self._netlink.commit(self._asleep(rules), what)
        except Rejected:
            return None
        try:
            return survey.core_shapes(await self._netlink.table(self._beside))
        finally:
            await self._netlink.commit([touch(self._beside), deleted(self._beside)], what)

    def _asleep(self, rules: Ruleset) -> list[Message]:
        """Put rules into a table in which no packet comes by."""
        table = self._beside
        sleeping = [encode.table_(table, _DORMANT), *encode.everything(table, rules)]
        return [touch(table), deleted(table), *sleeping]

    async def _try_out_the_core(self) -> None:
        """Put all that bans cannot do without into a sleeping table; FirewallUnavailable if refused."""
        try:
            await self._commit(*self._asleep(ruleset.whole()))
        except Rejected as rejected:
            if {refusal.code for refusal in rejected.refusals.values()} <= _LACKING:
                raise FirewallUnavailable(
                    f"{rejected}: this kernel lacks a part of nf_tables; "
                    "run `modprobe -a nf_tables nft_ct nft_counter` on the host, whose kernel must "
                    "be built with NF_TABLES_INET"
                ) from rejected
            raise

    async def _takes(self, *batch: Message) -> bool:
        """Say whether this kernel takes these messages."""
        try:
            await self._commit(*batch)
        except (Rejected, FirewallUnavailable):  # EOPNOTSUPP comes for a rule or for the whole
            return False
        return True

    async def _try_to_destroy(self) -> bool:
        """Delete the table, in the new way if this kernel knows it; say whether it does."""
        table = self._beside
        try:
            destroy = Message(Kind.DESTROYTABLE, 0, messages.named(table), f"table {table}")
            await self._commit(touch(table), destroy)
        except Rejected:
            await self._commit(touch(table), deleted(table))
            return False
        return True

    async def _commit(self, *batch: Message) -> None:
        await self._netlink.commit(batch, _TRYING)
