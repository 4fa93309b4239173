"""
What nft's listing of a table says that it blocks: a reader that shares nothing with ours.

In: the text of `nft list table`. Out: each element that a rule looks up in the right way, with
its end, and what is never blocked. An element that no rule meets is not there: this is about
what becomes of packets, not about how sets are called.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import (
    IPv4Network,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
    summarize_address_range,
)

from dockerjail.model import Blocktype, Element, Port, Subject

_BLOCK = re.compile(r"^\t(set|chain) (\S+) \{\n(.*?)^\t\}$", re.MULTILINE | re.DOTALL)
_ELEMENTS = re.compile(r"elements = \{(.*?)\}", re.DOTALL)
_EXPIRES = re.compile(r" expires (\S+)")
_DOOR = re.compile(r'hook ingress device "(.*?)".*goto direct', re.DOTALL)
_UNIT = re.compile(r"(\d+)(ms|[dhms])")
_SECONDS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_LOOKUP = re.compile(
    r"(?P<version>ip6?) saddr"
    r"(?: & (?P<mask>[0-9a-f.:]+))?"
    r"(?P<port> \. meta l4proto \. th dport)?"
    r"(?P<to> \. ip6? daddr)?"
    r"(?: ==)? @(?P<set>\S+)"
    r"(?P<past> ip6? daddr @direct[46])?"
    r" counter packets \d+ bytes \d+ (?P<verdict>drop|goto \S+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """
    What a table says.

    `blocked` is seconds to live by element, infinity for good. `past` are the subjects of those
    from everything that are looked for past the host too, `direct` the addresses there, `doors` the devices
    at which it stands. `open` are the rules before and beside the bans by chain, without
    their counters; `sets` and `chains` are names,
    `filled` those of sets that are not empty.
    """

    blocked: Mapping[Element, float]
    past: frozenset[Subject]
    direct: frozenset[Subject]
    doors: frozenset[str]
    allowed: frozenset[Subject]
    open: Mapping[str, tuple[str, ...]]
    sets: tuple[str, ...]
    filled: tuple[str, ...]
    chains: tuple[str, ...]


def read(text: str) -> Listing:
    """Read a listing; of no table nothing is blocked."""
    blocks = {
        kind: {name: body for which, name, body in _BLOCK.findall(text) if which == kind}
        for kind in ("set", "chain")
    }
    members = {name: [*_members(body)] for name, body in blocks["set"].items()}
    blocked: dict[Element, float] = {}
    past: set[Subject] = set()
    fixed: dict[str, tuple[str, ...]] = {}
    for chain, body in blocks["chain"].items():
        rest = []
        for line in map(str.strip, body.splitlines()):
            match = _LOOKUP.match(line)
            if match is None:
                rest.append(re.sub(r" counter packets \d+ bytes \d+", "", line))
                continue
            for element, left in _met(match, members.get(match["set"], [])):
                if match["past"]:
                    past.add(element.subject)
                else:
                    blocked[element] = max(left, blocked.get(element, 0.0))
        fixed[chain] = tuple(line for line in rest if line)
    return Listing(
        blocked=blocked,
        past=frozenset(past),
        direct=_networks(members, "direct"),
        doors=frozenset(
            door[1] for body in blocks["chain"].values() if (door := _DOOR.search(body))
        ),
        allowed=_networks(members, "allow"),
        open=fixed,
        sets=tuple(blocks["set"]),
        filled=tuple(name for name in blocks["set"] if members[name]),
        chains=tuple(blocks["chain"]),
    )


def keys(text: str) -> list[str]:
    """Return the keys in a listing of one set, as they are written."""
    return [key for key, _ in _members(text)]


def _members(body: str) -> Iterator[tuple[str, float]]:
    """Yield the keys of a set as they are written, and how many seconds each has left."""
    found = _ELEMENTS.search(body)
    for each in found[1].split(",") if found else ():
        key = re.split(r" (?:counter|timeout|expires) ", each.strip())[0]
        expires = _EXPIRES.search(each)
        left = math.inf
        if expires:
            left = sum(int(n) * _SECONDS[unit] for n, unit in _UNIT.findall(expires[1]))
        yield key, left


def _met(rule: re.Match[str], members: list[tuple[str, float]]) -> Iterator[tuple[Element, float]]:
    """Yield what a rule blocks: not what has bits below its mask, for that it never meets."""
    longest = 32 if rule["version"] == "ip" else 128
    prefix = int(ip_address(rule["mask"])).bit_count() if rule["mask"] else longest
    blocktype = Blocktype.DROP if rule["verdict"] == "drop" else Blocktype.REJECT
    for key, left in members:
        source, *rest = key.split(" . ")
        try:
            subject = ip_network(f"{source}/{prefix}")
        except ValueError:
            continue
        port = Port(int(rest[1]), rest[0]) if rule["port"] else None  # type: ignore[arg-type]
        to = ip_address(rest[0]) if rule["to"] else None
        yield Element(subject, port, blocktype, to), left


def _networks(members: Mapping[str, list[tuple[str, float]]], name: str) -> frozenset[Subject]:
    """Return the networks in the sets of both versions, as few as can be."""
    found: list[Subject] = []
    for written, _ in (*members.get(f"{name}4", ()), *members.get(f"{name}6", ())):
        first, _, last = written.partition("-")
        if last:
            found += summarize_address_range(ip_address(first), ip_address(last))
        else:
            found.append(ip_network(first))
    return collapsed(found)


def collapsed(networks: Iterable[Subject]) -> frozenset[Subject]:
    """Return as few networks as have the same addresses."""
    networks = [*networks]
    four = [net for net in networks if isinstance(net, IPv4Network)]
    six = [net for net in networks if isinstance(net, IPv6Network)]
    return frozenset([*collapse_addresses(four), *collapse_addresses(six)])
