"""
The kernel's packet filter, by a `Conversation` over netlink.

In: blocks and elements. Out: one nf_tables transaction for each change, what the
kernel blocks, and a word when somebody else changes our table. Touches only the
table `inet dockerjail` of the network namespace that `open` was called in (and,
for a moment in `open` and `adopt`, the one of `probe` beside it), and runs no program.

pyroute2 gives the codecs of tables, chains, sets and rules (`encode`), and the socket.
Transactions, elements and answers are ours (`messages`): pyroute2's calls for
nf_tables hang without CAP_NET_ADMIN, truncate dumps and lose errors (0.9.7).
"""

import asyncio
import errno
import logging
import time
from collections.abc import (
    AsyncGenerator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import NamedTuple, Self, TypeVar

from dockerjail.errors import FirewallError
from dockerjail.model import Blocktype, Counter, Direct, Element, Problem, Subject
from dockerjail.nft import encode, messages, ruleset, survey
from dockerjail.nft.conversation import Conversation, Rejected, committed, deleted, touch
from dockerjail.nft.messages import (
    CREATE,
    DUMP,
    Kind,
    Landmark,
    Message,
    Refusal,
    Reply,
    Standing,
)
from dockerjail.nft.plan import Group, Plan, count, grouped, portions
from dockerjail.nft.plan import plan as planned
from dockerjail.nft.probe import OWNED_FOR_GOOD, Features, Probe
from dockerjail.nft.ruleset import BanSet
from dockerjail.ports import Block

logger = logging.getLogger(__name__)

_PER_REQUEST = 100
"""Elements that one request asks for."""

_LONGEST_DEVICE = 15
_WITH_THE_ELEMENT = frozenset(
    {
        errno.EINVAL,
        errno.ERANGE,
        errno.EEXIST,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EOVERFLOW,
        errno.EBUSY,
    }
)
"""What the kernel answers when one element is at fault, and not the table or the machine."""

_TOLD_FOR = 86400.0
"""Seconds for which it is told that somebody else's table gave way."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Door:
    """The chain that stands at a device, which the kernel may refuse without harm to the rest."""

    device: str


class _Put(NamedTuple):
    """What the kernel made of a change: its echoes, elements it took, doors it refused."""

    echoes: Sequence[Reply]
    accepted: int
    refused: Mapping[str, Refusal]


class _Look(NamedTuple):
    """
    What changes when somebody changes the ruleset, or a device of ours comes or goes.

    `devices` are those of ours with their index, 0 while they are away: one that went and
    came again has a new index.
    """

    generation: int
    devices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Stranger:
    """What stood in place of our table and gave way, and when: for people, and steadily."""

    had: str
    at: float
    steady: float


class Kernel:
    """
    The `Firewall` port on nf_tables: one socket, one writer.

    With `owner`, nobody else may change the table while this process runs, where the
    kernel can do that: `nft flush ruleset` leaves it, and an administrator has to stop
    the process before deleting it. `clock` tells seconds since the epoch; `patience` is how
    many seconds the kernel may take for an answer. `features` None finds out in `open`.
    """

    def __init__(
        self,
        *,
        table: str = "dockerjail",
        owner: bool = False,
        clock: Callable[[], float] = time.time,
        patience: float = 10.0,
        features: Features | None = None,
    ) -> None:
        self.table = table
        self._owner = owner
        self._clock = clock
        self._netlink = Conversation(patience=patience)
        self._features = features
        self._lock = asyncio.Lock()
        self._homes: frozenset[BanSet] = frozenset()
        self._standing: Sequence[Landmark] | None = None
        self._direct: frozenset[Direct] = frozenset()
        self._refused: Mapping[str, Refusal] = {}  # by device
        self._waiting: frozenset[str] = frozenset()  # devices refused since they were away
        # the last look in which all stood as we put it, and the last for `disturbed`
        self._seen: _Look | None = None
        self._known: _Look | None = None
        self._stranger: _Stranger | None = None

    async def open(self) -> None:
        """
        Take up the connection and find out what the kernel can do.

        FirewallUnavailable says in plain words what is missing, and the remedy.
        """
        try:
            self._netlink.open()
            if self._features is None:
                self._features = await self._probe.features()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the connection; what the kernel blocks stays blocked."""
        self._netlink.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def features(self) -> Features:
        """What the kernel can do; known once `open` is through."""
        if self._features is None:
            raise FirewallError("the packet filter is not open")
        return self._features

    @property
    def rejects(self) -> bool:
        """Whether this kernel can answer what it blocks; known once `open` is through."""
        return self.features.reject

    @property
    def deaf(self) -> Mapping[str, str]:
        """At which devices of direct addresses no chain stands now, and why."""
        devices = {each.device for each in self._direct}
        return {
            device: words
            for device in sorted(devices)
            if (words := self._deafness(device)) is not None
        }

    def problems(self) -> Sequence[Problem]:
        """Tell for a day of somebody else's table that had our name and gave way."""
        gone = self._stranger
        if gone is None or time.monotonic() - gone.steady >= _TOLD_FOR:
            return ()
        at = datetime.fromtimestamp(gone.at).astimezone()
        return [
            Problem(
                place="kernel",
                what=f"table inet {self.table} was somebody else's: it had {gone.had}. "
                f"{at:%Y-%m-%d %H:%M:%S} dockerjail put its own in its place",
                remedy="to have both, give dockerjail's another name ([firewall] table), restart it, and have "
                "the other one loaded again",
            )
        ]

    async def adopt(self, *, allow: Collection[Subject], direct: Collection[Direct] = ()) -> bool:
        """
        Take over the table of an earlier process, elements and counters as they are.

        False, and nothing is changed, unless it stands rule for rule as `replace` would put it
        with the same sets of bans: for comparison, such a table stands beside it for a moment,
        asleep. What is allowed, and the chains at devices, are put anew.
        """
        what = f"adopting table {self.table}"
        async with self._lock:
            before = await self._generation()
            found = await self._netlink.table(self.table)
            tables = [messages.standing(reply) for reply in found if reply.kind == Kind.NEWTABLE]
            homes = survey.homes(found)
            if not tables:
                return False
            probe = None
            if self._adoptable(tables[0], homes):
                probe = await self._probe.shapes(ruleset.whole(homes), what)
            if probe is None or survey.core_shapes(found) != probe:
                logger.info(
                    "table inet %s stands, but not as it should: not taken over", self.table
                )
                return False
            standing = survey.landmarks(found, self.table)
            commits = 2  # the table beside it, made and deleted
            if tables[0].flags != self._flags:
                # by itself: in a transaction that does this, no chain can be made
                owned = [touch(self.table), encode.table_(self.table, self._flags)]
                echoes = survey.landmarks(await self._commit(owned, what), self.table)
                standing = [*echoes, *(mark for mark in standing if mark.kind != Kind.NEWTABLE)]
                commits += 1
            fixed = [
                *self._emptied(ruleset.allow_name, ruleset.direct_name),
                *self._deleted_doors(standing, keep=()),
                *self._encode_allow(allow),
                *self._encode_direct(direct),
            ]
            put = await self._write(fixed, self._doors(direct), what)
            self._homes = frozenset(homes)
            core = survey.core(standing)
            self._standing = survey.ordered([*core, *survey.landmarks(put.echoes, self.table)])
            self._stand_at(direct, put)
            commits += committed(put.echoes) is not None
            # with any more, somebody else was at it meanwhile
            look = self._look(await self._generation())
            self._seen = look if look.generation == before + commits else None
            self._known = self._known or self._seen
            return True

    async def replace(
        self,
        blocks: Iterable[Block],
        *,
        allow: Collection[Subject],
        direct: Collection[Direct] = (),
    ) -> None:
        """
        Put table, rules and elements in place of what was there, in one transaction.

        An element that the kernel does not want is logged and left out. Somebody else's table
        of our name gives way, and is told of. FirewallError when it belongs to another process that runs.
        """
        blocks = list(blocks)
        async with self._lock:
            stranger = await self._whose()
            plan = await _aside(len(blocks), partial(planned, blocks, (), self._clock()))
            homes = ruleset.USUAL | plan.homes
            what = f"putting table {self.table} in place with {count(plan.wanted)} elements"
            self._check(plan, what)
            fixed = [
                deleted(self.table),
                encode.table_(self.table, self._flags),
                *encode.everything(self.table, ruleset.whole(homes)),
                *self._encode_allow(allow),
                *self._encode_direct(direct),
            ]
            put = await self._write(fixed, [*self._doors(direct), *plan.wanted], what)
            self._homes = homes
            self._standing = survey.landmarks(put.echoes, self.table)
            self._stand_at(direct, put)
            generation = committed(put.echoes)
            self._seen = None if generation is None else self._look(generation)
            self._known = self._known or self._seen
            if stranger:
                self._stranger = _Stranger(stranger, self._clock(), time.monotonic())
                for problem in self.problems():
                    logger.error("%s", problem)

    async def _whose(self) -> str:
        """Say what the table of our name has if it is not ours."""
        try:
            return survey.stranger(await self._netlink.table(self.table))
        except FirewallError as error:  # what cannot be read now gives way all the same
            logger.info("it cannot be told whose table inet %s is: %s", self.table, error)
            return ""

    async def remove(self) -> None:
        """
        Take our table away with all that it blocks, whichever process left it; none is no error.

        FirewallError when it is somebody else's.
        """
        what = f"removing table {self.table}"
        async with self._lock:
            if stranger := await self._whose():
                raise FirewallError(f"{what}: it is somebody else's: it has {stranger}")
            await self._commit([touch(self.table), deleted(self.table)], what)
            self._standing = None

    async def apply(self, *, add: Sequence[Block] = (), remove: Sequence[Element] = ()) -> None:
        """
        Release and block in one transaction; an element in both is blocked.

        FirewallError with ENOENT when the table is not there: `replace` then. An
        element that the kernel does not want is logged and left out, or raised when
        there is no other.
        """
        async with self._lock:
            plan = await _aside(
                len(add) + len(remove), partial(planned, add, remove, self._clock())
            )
            what = str(plan)
            self._check(plan, what)
            if self._standing is None:
                raise FirewallError(f"{what}: there is no table of ours; put it in place first")
            gone = [group for group in plan.gone if group.home in self._homes]
            if not plan.wanted and not gone:
                return
            new = plan.homes - self._homes
            deletions = await _aside(count(gone), partial(self._deletions, gone))
            fixed = [
                *encode.everything(self.table, ruleset.extension(new, beside=self._homes)),
                *deletions,
            ]
            if count(plan.wanted) > 1:
                echoes, accepted, _ = await self._write(fixed, plan.wanted, what)
                if not accepted:
                    raise FirewallError(f"{what}: the kernel refused every element, see the log")
            else:
                echoes = await self._commit(self._batch(fixed, plan.wanted)[0], what)
            if new:
                self._homes |= new
                self._standing = survey.ordered(
                    [*self._standing, *survey.landmarks(echoes, self.table)]
                )

    async def allow(self, networks: Collection[Subject]) -> None:
        """Put these in place of what passes whatever a ban says; bans and counters stay."""
        what = f"allowing {len(networks)} networks"
        async with self._lock:
            if self._standing is None:
                raise FirewallError(f"{what}: there is no table of ours; put it in place first")
            batch = [
                touch(self.table),
                *self._emptied(ruleset.allow_name),
                *self._encode_allow(networks),
            ]
            await self._commit(batch, what)

    async def guard(self, direct: Collection[Direct]) -> None:
        """
        Stand before these addresses in place of those before, at the devices that are there.

        Also puts back what went with a device that was away. Bans and counters stay.
        """
        what = f"guarding {len(direct)} addresses past the host"
        async with self._lock:
            if self._standing is None:
                raise FirewallError(f"{what}: there is no table of ours; put it in place first")
            found = await self._survey()
            as_put = {
                each
                for each in self._doors(direct)
                if (marks := survey.at(each.device, found))
                and marks == survey.at(each.device, self._standing)
            }
            fixed = [
                *self._emptied(ruleset.direct_name),
                *self._deleted_doors(found, keep=as_put),
                *self._encode_direct(direct),
            ]
            missing = [each for each in self._doors(direct) if each not in as_put]
            put = await self._write(fixed, missing, what)
            kept = [mark for each in as_put for mark in survey.at(each.device, self._standing)]
            core = survey.core(self._standing)
            self._standing = survey.ordered(
                [*core, *kept, *survey.landmarks(put.echoes, self.table)]
            )
            self._stand_at(direct, put)

    async def disturbed(self) -> bool:
        """
        Say whether anybody else has changed the ruleset since this was last asked.

        Or a device of ours came or went, and with it, before Linux 6.16, the chain at it.
        Costs one question to the kernel, whatever the size of the ruleset.
        """
        async with self._lock:
            look = self._look(await self._generation())
            known, self._known = self._known, look
            return look != known

    async def blocked(self) -> Counter:
        """Read what all of it has blocked, from the counters of the rules; no set is read."""
        async with self._lock:
            asked = Message(Kind.GETRULE, DUMP, messages.named(self.table))
            counted = await self._netlink.ask(
                asked, lambda reply: [messages.counted(reply)], "reading the counters", missing=True
            )
        return Counter(sum(each[0] for each in counted), sum(each[1] for each in counted))

    async def present(self) -> Mapping[Element, float | None]:
        """Read what the kernel blocks now, and until when; nothing if the table is not there."""
        blocked: dict[Element, float | None] = {}
        async with self._lock:
            for home, count in (await self._sets()).items():
                if count != 0:
                    await self._read_set(home, count, blocked)
        return blocked

    async def intact(self) -> bool:
        """
        Say whether table, chains, rules and sets stand as we put them.

        Looks at the ruleset's generation first, and at the table only if somebody
        else moved it. Elements do not count, nor what stood at a device that is away.
        """
        async with self._lock:
            if self._standing is None:
                return False
            look = self._look(await self._generation())
            if look != self._seen:
                if any(look.devices.get(device) for device in self._waiting):
                    return False
                away = [device for device, index in look.devices.items() if not index]
                found = await self._survey()
                if survey.except_at(away, found) != survey.except_at(away, self._standing):
                    return False
                self._seen = look
            return True

    async def counters(self, elements: Sequence[Element]) -> Mapping[Element, Counter]:
        """Read what the given elements have blocked; those not blocked are left out."""
        groups = await _aside(len(elements), lambda: grouped(dict.fromkeys(elements, 0)))
        counted: dict[Element, Counter] = {}
        async with self._lock:
            there = await self._sets()
            for group in groups:
                if there.get(group.home, 0) != 0:
                    keys = [key for key, _ in group.entries]
                    for found in await self._look_up(group.home, keys):
                        element = ruleset.element(group.home, found.key)
                        if element is not None:
                            counted[element] = Counter(found.packets, found.bytes)
        return counted

    async def changes(self) -> AsyncGenerator[str]:
        """
        Yield a word on each change to our table by others since `open`.

        Such as `table deleted by nft, process 4711`; `events lost` when there were
        too many to tell. Our own are filtered out by the kernel.
        """
        async with aclosing(self._netlink.changes(self.table)) as told:
            async for word in told:
                yield word

    # ---- devices

    @property
    def _probe(self) -> Probe:
        """What tries things out beside our table."""
        return Probe(self._netlink, self.table)

    @property
    def _flags(self) -> int:
        """The flags of a table as we would put it."""
        return OWNED_FOR_GOOD if self._owner and self.features.owner else 0

    def _doors(self, direct: Iterable[Direct]) -> Sequence[_Door]:
        """Return where chains are to stand, as far as a chain can."""
        if not self.features.ingress:
            return ()
        return [
            _Door(device)
            for device in sorted({each.device for each in direct})
            if _nameable(device)
        ]

    def _stand_at(self, direct: Collection[Direct], put: _Put) -> None:
        """Note what is guarded from now on, and which doors the kernel refused."""
        self._direct = frozenset(direct)
        self._refused = dict(put.refused)
        devices = self._devices()
        self._waiting = frozenset(each for each in put.refused if not devices[each])
        for device, refusal in put.refused.items():
            if device not in self._waiting:
                logger.error("no chain can stand at device %s: %s", device, refusal)
        # what counts as a device of ours is our own change
        if self._seen is not None:
            self._seen = self._seen._replace(devices=devices)
        if self._known is not None:
            self._known = self._known._replace(devices=devices)

    def _look(self, generation: int) -> _Look:
        return _Look(generation, self._devices())

    def _devices(self) -> Mapping[str, int]:
        """Return our devices with their index, 0 for one that is away."""
        return {each.device: self._netlink.index(each.device) for each in self._doors(self._direct)}

    def _deafness(self, device: str) -> str | None:
        if not device:
            return "which device its packets come in by is not known"
        if not self.features.ingress:
            return "this kernel has no ingress chains for inet tables, which need Linux 5.10"
        if not _nameable(device):
            return "no device can have this name"
        if not self._netlink.index(device):
            return "there is no such device"
        refusal = self._refused.get(device)
        return None if refusal is None else f"the kernel refused a chain there: {refusal}"

    # ---- writing

    def _check(self, plan: Plan, what: str) -> None:
        if not self.rejects and any(home.blocktype is Blocktype.REJECT for home in plan.homes):
            raise FirewallError(
                f"{what}: this kernel cannot answer what it blocks before DNAT, "
                "which needs Linux 5.9 or later"
            )

    async def _write(
        self, fixed: Sequence[Message], wanted: Sequence[Group | _Door], what: str
    ) -> _Put:
        """
        Commit fixed messages, doors and elements in one transaction.

        Elements that the kernel refuses are narrowed down, logged and left out; doors
        that it refuses are left out.
        """
        echoes, bad = await self._try(fixed, wanted, what)
        accepted = count(wanted)
        refused: dict[str, Refusal] = {}
        while bad:
            part, refusal = bad.pop()
            if isinstance(part, _Door):
                refused[part.device] = refusal
            elif len(part.entries) > 1:
                _, more = await self._try([], list(part.halves()), what)
                bad += more
            else:
                accepted -= 1
                element = ruleset.element(part.home, part.entries[0][0])
                logger.error("%s: %s refused: %s", what, element, refusal)
        return _Put(echoes, accepted, refused)

    async def _try(
        self, fixed: Sequence[Message], parts: Sequence[Group | _Door], what: str
    ) -> tuple[Sequence[Reply], list[tuple[Group | _Door, Refusal]]]:
        """Commit, and hand back those doors, and groups with an element, that the kernel refused."""
        bad: list[tuple[Group | _Door, Refusal]] = []
        while fixed or parts:
            batch, owners = await _aside(count(parts), partial(self._batch, fixed, parts))
            try:
                return await self._commit(batch, what), bad
            except Rejected as rejected:
                failed: dict[int, Refusal] = {}
                for index, refusal in sorted(rejected.refusals.items()):
                    one = owners.get(index)
                    if one is None or not _is_to_blame(parts[one], refusal):
                        raise
                    # the first is the cause: a rule fails after its chain
                    failed.setdefault(one, refusal)
                bad += ((parts[one], refusal) for one, refusal in failed.items())
                parts = [part for one, part in enumerate(parts) if one not in failed]
        return [], bad

    def _batch(
        self, fixed: Sequence[Message], parts: Sequence[Group | _Door]
    ) -> tuple[list[Message], dict[int, int]]:
        """Put messages together, and say which of them belong to which part."""
        batch = [touch(self.table), *fixed]
        owners: dict[int, int] = {}
        for one, part in enumerate(parts):
            if isinstance(part, _Door):
                more = encode.everything(self.table, ruleset.door(part.device))
            else:
                more = self._upsert(part)
            owners |= dict.fromkeys(range(len(batch), len(batch) + len(more)), one)
            batch += more
        return batch, owners

    def _upsert(self, group: Group) -> list[Message]:
        name = group.home.name
        entries = messages.timed(group.entries)
        put = messages.elements(Kind.NEWSETELEM, self.table, name, entries, flags=CREATE)
        if self.features.update_timeout:
            return [put]
        # older kernels leave the end of an element that stands as it is
        keys = messages.keys(key for key, _ in group.entries)
        return [put, messages.elements(Kind.DELSETELEM, self.table, name, keys), put]

    def _deletions(self, gone: Iterable[Group]) -> list[Message]:
        deletions = []
        for group in gone:
            name = group.home.name
            keys = messages.keys(key for key, _ in group.entries)
            if self.features.destroy:
                deletions.append(messages.elements(Kind.DESTROYSETELEM, self.table, name, keys))
            else:
                # a deletion of what is missing would sink the transaction
                put = messages.timed(group.entries)
                deletions += [
                    messages.elements(Kind.NEWSETELEM, self.table, name, put, flags=CREATE),
                    messages.elements(Kind.DELSETELEM, self.table, name, keys),
                ]
        return deletions

    def _encode_allow(self, allow: Collection[Subject]) -> Iterator[Message]:
        for version in ruleset.VERSIONS:
            name = ruleset.allow_name(version)
            yield from self._encode_intervals(name, allow, version)

    def _encode_direct(self, direct: Collection[Direct]) -> Iterator[Message]:
        addresses = ruleset.direct_addresses(direct)
        for version in ruleset.VERSIONS:
            yield from self._encode_intervals(ruleset.direct_name(version), addresses, version)

    def _encode_intervals(
        self, name: str, networks: Collection[Subject], version: ruleset.Version
    ) -> Iterator[Message]:
        for part in portions(ruleset.intervals(networks, version)):
            entries = messages.intervals(part)
            yield messages.elements(Kind.NEWSETELEM, self.table, name, entries, flags=CREATE)

    def _emptied(self, *names: Callable[[ruleset.Version], str]) -> list[Message]:
        return [
            messages.emptied(self.table, name(version))
            for name in names
            for version in ruleset.VERSIONS
        ]

    def _deleted_doors(
        self, found: Iterable[Landmark], *, keep: Collection[_Door]
    ) -> list[Message]:
        """Delete the chains that stand at devices, but those to keep."""
        names = survey.doors(found, keep=[each.device for each in keep])
        return [messages.chain_gone(self.table, name) for name in names]

    async def _commit(self, batch: Sequence[Message], what: str) -> Sequence[Reply]:
        """Carry out one transaction, begun by `touch`; take note of it, return the echoes."""
        echoes = await self._netlink.commit(batch, what)
        generation = committed(echoes)
        if generation is not None:
            self._seen = _next(self._seen, generation)
            self._known = _next(self._known, generation)
        return echoes

    # ---- reading

    def _elements(self, home: BanSet, reply: Reply) -> Iterator[tuple[Element, float | None]]:
        now = self._clock()
        for found in messages.found(reply):
            element = ruleset.element(home, found.key)
            if element is not None and found.left_ms != 0:
                left = found.left_ms
                yield element, None if left is None else now + left / 1000

    async def _sets(self) -> dict[BanSet, int | None]:
        """List the sets of bans in the kernel with their sizes, as far as it tells them."""

        def read(reply: Reply) -> Iterator[tuple[BanSet, int | None]]:
            home = ruleset.parse_name(messages.set_name(reply))
            if home is not None:
                yield home, messages.set_count(reply)

        asked = Message(Kind.GETSET, DUMP, messages.named(self.table))
        return dict(await self._netlink.ask(asked, read, "listing the sets", missing=True))

    async def _read_set(
        self, home: BanSet, count: int | None, into: dict[Element, float | None]
    ) -> None:
        """
        Read what a set holds; again, if that is less than it has and more may come.

        While the kernel makes room in a set that grew, a dump leaves elements out without a word
        (Linux 6.18: a hundredth of 70 000, in one of five readings right after they were put).
        """
        asked = Message(Kind.GETSETELEM, DUMP, messages.named(self.table, home.name))
        read = partial(self._elements, home)
        others, before = len(into), -1
        while before < len(into) - others < (1 if count is None else count):
            before = len(into) - others
            found = await self._netlink.ask(asked, read, f"reading set {home.name}")
            for part in portions(found):
                into.update(part)
                await asyncio.sleep(0)  # hashing networks takes its time

    async def _look_up(self, home: BanSet, keys: Sequence[bytes]) -> list[messages.Found]:
        """Read the elements with these keys; the kernel stops at the first that is missing."""
        found: list[messages.Found] = []
        at = 0
        while at < len(keys):
            entries = messages.keys(keys[at : at + _PER_REQUEST])
            asked = messages.elements(Kind.GETSETELEM, self.table, home.name, entries)
            what = f"reading counters of set {home.name}"
            some = await self._netlink.ask(asked, messages.found, what, missing=True)
            found += some
            at += min(len(some) + 1, _PER_REQUEST)
        return found

    async def _generation(self) -> int:
        asked = Message(Kind.GETGEN, 0, b"")
        read = await self._netlink.ask(
            asked, lambda reply: [messages.generation(reply)], "reading the ruleset's generation"
        )
        return read[0]

    async def _survey(self) -> Sequence[Landmark]:
        """Read what stands in our table."""
        return survey.landmarks(await self._netlink.table(self.table), self.table)

    def _adoptable(self, table: Standing, homes: Collection[BanSet]) -> bool:
        """Say whether it makes sense to look closer at a table."""
        if any(home.blocktype is Blocktype.REJECT for home in homes) and not self.rejects:
            return False
        ours = self._netlink.port
        if table.flags & messages.OWNED:
            return table.flags == self._flags and table.owner == ours
        # whose owner is gone has only the other flag
        return table.flags == self._flags & ~messages.OWNED


async def _aside(size: int, work: Callable[[], T]) -> T:
    """Do work on many elements in a thread, on few at once."""
    return await asyncio.to_thread(work) if size > messages.PER_MESSAGE else work()


def _is_to_blame(part: Group | _Door, refusal: Refusal) -> bool:
    return isinstance(part, _Door) or refusal.code in _WITH_THE_ELEMENT


def _nameable(device: str) -> bool:
    """Say whether a device could have this name, as the kernel checks it."""
    size = len(device.encode(errors="surrogateescape"))
    return (
        0 < size <= _LONGEST_DEVICE
        and device not in (".", "..")
        and not any(each in "/:\0" or each.isspace() for each in device)
    )


def _next(look: _Look | None, generation: int) -> _Look | None:
    """Note a change of our own, if none by others came before it."""
    if look is not None and generation == look.generation + 1:
        return look._replace(generation=generation)
    return look
