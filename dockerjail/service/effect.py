"""
Whether bans work: failures of those who are banned in, problems out.

Whom the kernel keeps out cannot fail any more. If lines go on accusing him, his packets come
by another way than the ban closes: through a proxy or a CDN, or past this host.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from dockerjail.model import Address, Ban, Container, Failure, Problem, Subject, written
from dockerjail.ports import Flows

GRACE: Final = 3.0
"""Seconds after a ban in which lines of before may still come: slow requests end in them."""

ENOUGH: Final = 2
"""Failures after that which prove that a ban does not work."""

FRESH: Final = 300.0
"""Seconds after the last such line for which a ban is said not to work."""

MOST: Final = 10_000
"""Banned subjects that are watched at once."""


@dataclass(slots=True, kw_only=True)
class _Leak:
    """Failures of somebody banned; `last_at` is when the last was read, by the clock of `Effect`."""

    ban: Ban
    container: str
    count: int = 0
    last_at: float = 0.0


class Effect:
    """
    Watches over bans; `through` says by container on which way its clients seem to come.

    What is `now` is told by a clock that nobody sets.
    """

    def __init__(self) -> None:
        self._leaks: OrderedDict[tuple[str, Subject], _Leak] = OrderedDict()
        self._through: dict[str, str] = {}

    def note(self, ban: Ban, since: float, failure: Failure, now: float) -> bool:
        """
        Take a failure of somebody whom `ban` keeps out `since` a moment, of the clock that stamps lines.

        Says True once it is clear that the ban does not work, once.
        """
        if failure.at < since + GRACE:
            return False
        leak = self._leaks.get(ban.key)
        if leak is None or leak.ban.id != ban.id:
            self._leaks.pop(ban.key, None)
            if len(self._leaks) >= MOST:
                self._leaks.popitem(last=False)
            leak = self._leaks[ban.key] = _Leak(ban=ban, container=failure.container)
        leak.count += 1
        leak.last_at = now
        leak.container = failure.container
        return leak.count == ENOUGH

    def works(self, ban: Ban, now: float) -> bool:
        """Say whether a ban is not known to be without effect."""
        leak = self._leaks.get(ban.key)
        return leak is None or leak.ban.id != ban.id or not self._proven(leak, now)

    def leaking(self, now: float) -> frozenset[str]:
        """Return the names of the containers whose bans do not work."""
        return frozenset(leak.container for leak in self._leaks.values() if self._proven(leak, now))

    def explain(self, container: str, way: str) -> None:
        """Take over how the clients of a container seem to come."""
        self._through[container] = way

    def problems(self, now: float) -> list[Problem]:
        """Tell of each jail whose bans do not work."""
        by_jail: dict[str, list[_Leak]] = {}
        for leak in self._leaks.values():
            if self._proven(leak, now):
                by_jail.setdefault(leak.ban.jail, []).append(leak)
        found = []
        for jail, leaks in sorted(by_jail.items()):
            worst = max(leaks, key=lambda leak: leak.count)
            subject = written(worst.ban.subject)
            others = f" and {len(leaks) - 1} others" if len(leaks) > 1 else ""
            way = self._through.get(worst.container, "through a proxy or a CDN, or past this host")
            found.append(
                Problem(
                    place=f"jail {jail}",
                    what=f"the ban of {subject}{others} is not effective: {worst.count} failures "
                    f"since, in container {worst.container}; its traffic probably arrives {way}",
                    remedy="have bans close the way by which clients come: docs/status.md, "
                    '"A ban is not effective"',
                )
            )
        return found

    def prune(self, enforced: Callable[[tuple[str, Subject]], object], now: float) -> None:
        """Let go of bans that are over and of lines that are long past."""
        self._leaks = OrderedDict(
            (key, leak)
            for key, leak in self._leaks.items()
            if enforced(key) and leak.last_at > now - FRESH
        )
        named = {leak.container for leak in self._leaks.values()}
        self._through = {name: way for name, way in self._through.items() if name in named}

    def _proven(self, leak: _Leak, now: float) -> bool:
        return leak.count >= ENOUGH and leak.last_at > now - FRESH


async def way(container: Container, flows: Flows, others: Iterable[Container]) -> str:
    """
    Say in words by which way the clients of `container` seem to come.

    Empty when nobody stands out. Raises `FirewallError`.
    """
    clients: dict[Address, int] = {}
    for address in container.addresses:
        for source, count in (await flows.clients(address)).items():
            clients[source] = clients.get(source, 0) + count
    if not clients:
        return ""
    source, count = max(clients.items(), key=lambda client: client[1])
    if 2 * count < sum(clients.values()):
        return ""
    return f"through {_name(source, container, others)}"


def _name(source: Address, container: Container, others: Iterable[Container]) -> str:
    known: Mapping[Address, str] = {
        address: f"a proxy at {address}, container {other.name}"
        for other in others
        for address in other.addresses
    }
    if source in container.gateways:
        return f"the gateway {source} of its network"
    return known.get(source, f"a proxy at {source}")
