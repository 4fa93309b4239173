"""
Text that should be an address: in as a log has it, out as an address, a network or None.

Pure. `ipaddress` takes microseconds per call, and the same few clients appear over and
over: answers are remembered, a bounded number of them.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from dockerjail.model import Address, Subject

LONGEST = 64
"""Characters that an address can have at most, with brackets and a zone; rest is not one."""

_OCTETS: Final = {str(number): number for number in range(256)}


def address(text: str) -> Address | None:
    """
    Return the address that `text` writes, None when it writes none.

    Brackets and an IPv6 zone are dropped, an IPv4-mapped IPv6 address is the IPv4
    address. `999.1.2.3` and `192.030.0.6` are none: the second is octal to some.
    """
    return _address(text) if len(text) <= LONGEST else None


def network(text: str, prefix: str) -> Subject | None:
    """Return `text`/`prefix` with its host bits cleared, None when it is no network."""
    return _network(text, prefix) if len(text) + len(prefix) <= LONGEST else None


@lru_cache(maxsize=16384)
def _address(text: str) -> Address | None:
    try:
        a, b, c, d = text.split(".")
        # what most are written like; a flood of addresses never seen before does little else
        return IPv4Address(_OCTETS[a] << 24 | _OCTETS[b] << 16 | _OCTETS[c] << 8 | _OCTETS[d])
    except (ValueError, KeyError):
        pass
    if text.startswith("["):
        text = text[1:].removesuffix("]")
    text = text.partition("%")[0]
    try:
        found = IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


@lru_cache(maxsize=1024)
def _network(text: str, prefix: str) -> Subject | None:
    base = address(text)
    if base is None:
        return None
    try:
        return ip_network(f"{base}/{prefix}", strict=False)
    except ValueError:
        return None
