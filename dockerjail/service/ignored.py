"""
Who was accused by a container's log and is never banned. Values in, problems out.

A log whose clients all look like a gateway is a misconfiguration to explain, not
an attacker to ban.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from dockerjail.model import Address, Container, Problem

GATEWAY_MEMORY: Final = 3600.0
"""Seconds for which a gateway seen as a client stays a thing to attend to."""

SAMPLE: Final = 100
"""Failures of a container, the last, of which most must come from its gateway."""

ACCUSED: Final = 1024
"""Addresses of containers that are told apart."""

CONTAINERS: Final = 4096
"""Containers of which that is known."""


NOBODY: Final[deque[Address | None]] = deque(maxlen=0)
"""The failures of a container that was forgotten: thousands of others came since."""


@dataclass(slots=True, kw_only=True)
class _Seen:
    """
    Failures that a container ascribed to an address that is never banned.

    `last_at` is when the last was read, by a clock that nobody sets.
    """

    why: str
    count: int = 0
    last_at: float = 0.0


@dataclass(slots=True)
class Ignored:
    """Who was accused and is never banned, by container and address."""

    by: dict[tuple[str, Address], _Seen] = field(default_factory=dict)
    _last: dict[str, deque[Address | None]] = field(default_factory=dict)

    def counted(self, container: str) -> None:
        """Take note of a failure of somebody who may be banned."""
        self._note(container, None)

    def _note(self, container: str, address: Address | None) -> None:
        if container not in self._last:
            if len(self._last) >= CONTAINERS:
                self._last.pop(next(iter(self._last)))
            self._last[container] = deque(maxlen=SAMPLE)
        self._last[container].append(address)

    def note(self, container: str, address: Address, why: str, at: float) -> bool:
        """Count one failure, read `at` a moment, that was ignored because of `why`; say whether it is the first."""
        if len(self.by) >= ACCUSED and (container, address) not in self.by:
            self.by.pop(next(iter(self.by)))
        self._note(container, address)
        seen = self.by.setdefault((container, address), _Seen(why=why))
        seen.count += 1
        seen.last_at = at
        return seen.count == 1

    def problems(self, containers: Iterable[Container], now: float) -> list[Problem]:
        """Explain the accused addresses that are a container's own gateway, if most are."""
        gateways = {c.name: c.gateways for c in containers}
        return [
            Problem(
                place=f"container {name}",
                what=f"{seen.count} failures come from {address}, {seen.why}: the clients' real "
                "addresses do not reach the container, so nobody is banned",
                remedy="if somebody tried from this host itself, that is all; behind a proxy, log the address that it passes on (X-Forwarded-For, "
                "PROXY protocol); for IPv6 clients enable IPv6 on the Docker network, or set "
                '"userland-proxy": false in daemon.json; rootless Docker needs a port driver '
                "that keeps the source address",
            )
            for (name, address), seen in self.by.items()
            if address in gateways.get(name, ())
            and seen.last_at > now - GATEWAY_MEMORY
            and 2 * (last := self._last.get(name, NOBODY)).count(address) > len(last)
        ]
