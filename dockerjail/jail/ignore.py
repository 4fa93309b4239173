"""
Who is never banned, whatever a line says: an address in, the reason in words out. Pure.

Loopback, unspecified, multicast and link-local addresses always; what else (gateways,
this host's addresses, `ignoreip`) comes in as a table from networks to reasons.
"""

from bisect import bisect_left
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Final

from dockerjail.model import Address, Subject, written

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

    The table may be long (a file of `ignoreip`): no answer takes longer by it than a search
    in order does. `version` grows with each `update`, so that answers can be remembered meanwhile.
    """

    def __init__(self, reasons: Mapping[Subject, str] | None = None) -> None:
        self.version = 0
        self._tables: dict[int, list[tuple[int, dict[int, str]]]] = {4: [], 6: []}
        self._begins: dict[int, list[tuple[int, int, str]]] = {}
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
        self._begins.clear()
        self.version += 1

    @property
    def more(self) -> bool:
        """Whether anybody is ignored beside those who always are."""
        return bool(self._reasons)

    def why(self, address: Address) -> str | None:
        """Return the reason in words why `address` is never banned; None if it may be."""
        number = int(address)
        for shift, table in self._tables[4 if isinstance(address, IPv4Address) else 6]:
            found = table.get(number >> shift)
            if found is not None:
                return found
        return None

    def around(self, subject: Subject) -> str | None:
        """Return why nobody at all of `subject` is ever banned; None if somebody may be."""
        number, length = int(subject.network_address), subject.max_prefixlen - subject.prefixlen
        for shift, table in self._tables[subject.version]:
            found = table.get(number >> shift) if shift >= length else None
            if found is not None:
                return found
        return None

    def inside(self, subject: Subject) -> str | None:
        """Return why somebody within `subject` is never banned; None if there is nobody."""
        if subject.prefixlen == subject.max_prefixlen:
            return None
        length = subject.max_prefixlen - subject.prefixlen
        first = int(subject.network_address)
        begins = self._begins.get(subject.version) or self._sort(subject.version)
        # what lies within begins within; where several begin, the narrowest comes first
        place = bisect_left(begins, (first,))
        if place < len(begins) and begins[place][0] == first and begins[place][1] >= length:
            place = bisect_left(begins, (first + 1,))
        if place == len(begins) or begins[place][0] >= first + (1 << length):
            return None
        begin, shift, why = begins[place]
        network = IPv4Network if subject.version == 4 else IPv6Network
        return f"it holds {written(network((begin, subject.max_prefixlen - shift)))}: {why}"

    def _sort(self, version: int) -> list[tuple[int, int, str]]:
        """Put the networks in order, when somebody asks: most jails count single addresses."""
        begins = self._begins[version] = sorted(
            (prefix << shift, shift, why)
            for shift, table in self._tables[version]
            for prefix, why in table.items()
        )
        return begins


def spared(subject: Subject, ignore: Ignore) -> str | None:
    """Return why a network, or somebody within it, is never banned."""
    return ignore.around(subject) or ignore.inside(subject)
