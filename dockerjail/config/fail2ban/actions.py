"""
A jail's actions in, what a ban is to close out. Pure.

In: the references that `action` comes to, and the file of each action. Out: ports, or
everything; dropped or rejected; and the names of the actions that are no firewall's, which
nobody runs here (mail, reports to services elsewhere). dockerjail programs the kernel
itself, so of a firewall action only its parameters matter: `port`, `protocol`, `type`,
`blocktype`.

A packet is dropped unless the user asked for a reject, in brackets or in a file of his own
(`action.d/NAME.local`): the `blocktype` that fail2ban ships is nobody's wish.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, cast

from dockerjail.config import values
from dockerjail.config.fail2ban.definition import INIT, Definition
from dockerjail.config.fail2ban.merged import Merged
from dockerjail.config.fail2ban.mistakes import Fail2banError, problem, wrong
from dockerjail.config.fail2ban.reference import Reference
from dockerjail.config.mistake import Mistake, listed, shown
from dockerjail.model import Port, Problem, Protocol

FIREWALLS: Final = (
    "iptables",
    "nftables",
    "firewallcmd",
    "shorewall",
    "ufw",
    "ipfw",
    "bsd-ipfw",
    "osx-ipfw",
    "osx-afctl",
    "ipfilter",
    "pf",
    "npf",
    "apf",
    "route",
    "hostsdeny",
    "symbiosis-blacklist",
)
"""Names of actions that program a packet filter, also with `-` and more behind them."""

EVERYTHING: Final = (
    *("shorewall", "ufw", "ipfilter", "npf", "apf", "route", "hostsdeny", "osx-afctl"),
)
"""Those among them that know no ports, for when the file that shows it is missing."""

COMMANDS: Final = (
    "iptables",
    "ip6tables",
    "nft",
    "ipset",
    "ufw",
    "firewall-cmd",
    "shorewall",
    "shorewall6",
    "pfctl",
    "ipfw",
    "npfctl",
    "csf",
    "apf",
)
"""What the actionban of somebody's own firewall action runs; also `ip route` and `ip rule`."""

WHOLE: Final = range(1, 65536)
"""Every port there is; `0:65535` writes it."""

_COMMAND = re.compile(
    rf"(?:^|[\s;&|(`/])(?:{'|'.join(map(re.escape, COMMANDS))}|ip\s+(?:-\d\s+)?(?:route|rule))\s",
    re.MULTILINE,
)
_PASSES = frozenset({"return", "accept", "allow", "pass"})
_SPAN = re.compile(r"(?P<first>[0-9]{1,5})[:-](?P<last>[0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action as the jail refers to it, and its file, which is empty when there is none."""

    reference: Reference
    file: Merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """
    What a ban closes.

    `ports` None and not `everything`: no firewall action says. `reject` None: nobody chose. `skipped` are the names of
    actions that are not run.
    """

    ports: tuple[Port, ...] | None = None
    everything: bool = False
    reject: bool | None = None
    firewall: bool = False
    skipped: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


class Reader:
    """Reads the actions of one jail; `place` is where the jail names them."""

    def __init__(self, place: str, port_place: str) -> None:
        self._place = place
        self._port_place = port_place
        self._ports: dict[Port, None] = {}
        self._everything = False
        self._reject: bool | None = None
        self._firewall = False
        self._skipped: dict[str, None] = {}
        self._problems: list[Problem] = []

    def read(self, actions: Iterable[Action]) -> Enforcement:
        """Return what all actions together close. Raises `Fail2banError`."""
        for action in actions:
            name = action.reference.name
            try:
                definition = Definition(
                    action.file,
                    given=action.reference.options,
                    jail={},
                    standard=(),
                    place=self._place,
                    ipv4=True,
                )
                if not _is_firewall(name, definition):
                    self._skipped[name] = None
                    continue
                self._firewall = True
                self._blocktype(action, definition)
                self._close(action, definition)
            except Fail2banError:
                if _is_named(name):
                    raise
                # of what is not run here nobody has to mend anything
                self._skipped[name] = None
        return self._enforcement()

    def plain(self, port: str, protocol: str) -> Enforcement:
        """Return what the keys `port` and `protocol` of a jail close when no action says."""
        self._add(port, protocol)
        return self._enforcement()

    def _enforcement(self) -> Enforcement:
        everything = self._everything
        ports = tuple(self._ports)
        if not everything and len(ports) > values.MOST_PORTS:
            what = f"{len(ports)} ports are more than {values.MOST_PORTS}: bans keep out from everything"
            self._problems.append(problem(self._port_place, what, "write fewer ports"))
            everything = True
        return Enforcement(
            ports=None if everything or not ports else ports,
            everything=everything,
            reject=self._reject,
            firewall=self._firewall,
            skipped=tuple(self._skipped),
            problems=tuple(self._problems),
        )

    def _close(self, action: Action, definition: Definition) -> None:
        port = definition.text("port")
        if port is None or _closes_everything(action, definition):
            self._everything = True
        else:
            self._add(port, definition.text("protocol") or "tcp")

    def _add(self, port: str, protocol: str) -> None:
        protocols = _protocols(protocol)
        if protocols is None:
            known = (*values.PROTOCOLS, "all", "icmp")
            what = f"protocol {shown(protocol)} is none of {listed(known)}"
            raise wrong(self._port_place, what, "write tcp, udp or tcp,udp")
        for word in port.replace(",", " ").split():
            span = _SPAN.fullmatch(word)
            numbers: Iterable[int]
            if span and int(span["first"]) <= int(span["last"]) <= WHOLE[-1]:
                numbers = range(max(int(span["first"]), WHOLE[0]), int(span["last"]) + 1)
            else:
                numbers = self._named(word)
            if numbers == WHOLE:
                self._everything = True
            else:
                ports = (Port(number, each) for number in numbers for each in protocols)
                self._ports |= dict.fromkeys(ports)

    def _named(self, word: str) -> tuple[int, ...]:
        """Return the ports of a name or a single number."""
        if "/" in word:
            what = f"{shown(word)} is no port"
            raise wrong(self._port_place, what, "write the port alone, and protocol = udp")
        try:
            return tuple(port.number for port in values.ports(word))
        except Mistake as mistake:
            raise Fail2banError(mistake.at(self._port_place)) from None

    def _blocktype(self, action: Action, definition: Definition) -> None:
        own = action.file.own(INIT, "blocktype")
        if "blocktype" not in action.reference.options and (
            own is None or not own.file.endswith(".local")
        ):
            return
        word = (definition.text("blocktype") or "").strip().lower()
        if word.partition(" ")[0] in _PASSES:
            what = f"blocktype = {word}: its bans let in instead of keeping out"
            raise wrong(self._place, what, "use it with fail2ban: here a ban keeps out")
        reject = word.startswith(("reject", "unreach", "prohibit"))
        self._reject = self._reject or reject


def _closes_everything(action: Action, definition: Definition) -> bool:
    """Say whether the action has no use for ports, by its name, its type or its file."""
    name = action.reference.name
    kind = (definition.text("type") or "").strip().lower()
    if name.endswith("-allports") or kind == "allports":
        return True
    if "allports" in action.reference.options.get("actiontype", ""):
        return True
    if not action.file.sections:
        return _is_one_of(name, EVERYTHING)
    return not any(
        "<port>" in layers[-1].entry.text
        for section in action.file.sections.values()
        for layers in section.layers.values()
    )


def _is_firewall(name: str, definition: Definition) -> bool:
    return _is_named(name) or bool(_COMMAND.search(definition.text("actionban") or ""))


def _is_named(name: str) -> bool:
    return _is_one_of(name, FIREWALLS)


def _is_one_of(name: str, names: tuple[str, ...]) -> bool:
    return any(name == each or name.startswith(f"{each}-") for each in names)


def _protocols(text: str) -> tuple[Protocol, ...] | None:
    """Return the protocols in `tcp,udp`, None when one of them is unknown."""
    found: dict[Protocol, None] = {}
    for word in text.lower().replace(",", " ").split():
        if word in ("all", "any", "0"):
            found |= {"tcp": None, "udp": None}
        elif word in values.PROTOCOLS:
            found[cast(Protocol, word)] = None
        elif word not in ("icmp", "icmpv6", "ipv6-icmp", "icmp6"):
            return None
    return tuple(found)
