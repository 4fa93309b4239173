"""
Who is never banned, whatever a line says: an address in, the reason in words out. Pure.

Loopback, unspecified, multicast and link-local addresses always; what else (gateways,
this host's addresses, `ignoreip`) comes in as a table from networks to reasons.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, ip_network
from typing import Final

from dockerjail.model import Address, Subject

ALWAYS: Final[Mapping[Subject, str]] = {
    ip_network("127.0.0.0/8"): "a loopback address",
    ip_network("::1/128"): "a loopback address",
    ip_network("0.0.0.0/8"): "an address of no host",
    ip_network("::/128"): "an address of no host",
    ip_network("169.254.0.0/16"): "a link-local address",
    ip_network("fe80::/10"): "a link-local address",
    ip_network("224.0.0.0/4"): "a multicast address",
    ip_network("ff00::/8"): "a multicast address",
    ip_network("255.255.255.255/32"): "the broadcast address",
}


class Ignore:
    """
    Answers why an address is never banned; the narrowest network has the word.

    `version` grows with each `update`, so that answers can be remembered meanwhile.
    """

    def __init__(self, reasons: Mapping[Subject, str] | None = None) -> None:
        self.version = 0
        self._tables: dict[int, list[tuple[int, dict[int, str]]]] = {4: [], 6: []}
        self._reasons: Mapping[Subject, str] = {}
        self.update(reasons or {})

    def update(self, reasons: Mapping[Subject, str]) -> None:
        """Take `reasons` in place of those before."""
        if reasons == self._reasons and self.version:
            return
        self._reasons = dict(reasons)
        by_length: dict[tuple[int, int], dict[int, str]] = {}
        for network, why in (*ALWAYS.items(), *reasons.items()):
            shift = network.max_prefixlen - network.prefixlen
            table = by_length.setdefault((network.version, shift), {})
            table[int(network.network_address) >> shift] = why
        tables: dict[int, list[tuple[int, dict[int, str]]]] = {4: [], 6: []}
        for version, shift in sorted(by_length):
            tables[version].append((shift, by_length[version, shift]))
        self._tables = tables
        self.version += 1

    def why(self, address: Address) -> str | None:
        """Return the reason in words why `address` is never banned; None if it may be."""
        number = int(address)
        for shift, table in self._tables[4 if isinstance(address, IPv4Address) else 6]:
            found = table.get(number >> shift)
            if found is not None:
                return found
        return None

    def inside(self, subject: Subject) -> str | None:
        """Return why somebody within `subject` is never banned; None if there is nobody."""
        if subject.prefixlen == subject.max_prefixlen:
            return None
        first, length = int(subject.network_address), subject.max_prefixlen - subject.prefixlen
        for shift, table in self._tables[subject.version]:
            if shift >= length:
                break
            for prefix, why in table.items():
                if (prefix << shift) >> length == first >> length:
                    return why
        return None
