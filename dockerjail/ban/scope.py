"""
From what a ban keeps its subject out. Pure: a policy and the containers in, a `Scope` out.

Bans are matched before DNAT (`nft/ruleset`), so ports here are ports of the
host, as a client addresses them. A container on a macvlan or ipvlan network is reached
past the host, at an address of its own: that address is closed as a whole.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from dockerjail.config.values import MOST_PORTS
from dockerjail.jail.policy import JailPolicy, Origin, ScopeKind
from dockerjail.model import Address, Container, Port, Problem, Scope

_UNNAMED = "the Engine does not name the device of its macvlan or ipvlan network"
_NAME_IT = "run it under Docker on a network with the option parent, or publish its ports"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reach:
    """
    Where clients reach `who`: at ports of the host, and at addresses past it.

    Of the `hidden` addresses nobody knows by which device their packets come.
    """

    who: str
    ports: frozenset[Port]
    addresses: frozenset[Address]
    hidden: frozenset[Address]

    @property
    def nowhere(self) -> bool:
        return not (self.ports or self.addresses or self.hidden)


def resolve(
    policy: JailPolicy, members: Collection[Container], containers: Collection[Container]
) -> Scope | None:
    """
    Find the scope of a ban by `policy` among all the Engine's containers.

    `members` are the containers on which the jail runs; those that run count, else those
    that ran. None without any: whoever asks keeps what it had. Only a jail of the daemon's
    own file reaches beyond the ports and addresses of its service, or of its proxy.

    A service may publish thousands of ports (RTP). Each would be an element of a kernel set
    for every ban, so more than `MOST_PORTS` are never closed one by one.
    """
    scope = _resolved(policy, members, containers)
    if scope is None or scope.ports is None or len(scope.ports) <= MOST_PORTS:
        return scope
    if policy.origin is Origin.DAEMON:
        why = (
            f"{len(scope.ports)} ports are more than {MOST_PORTS}, so everything is closed "
            f"({scope.why}); name those that matter with the jail's option ports"
        )
        return Scope(ports=None, why=why)
    why = (
        f"{scope.why}; only the {MOST_PORTS} lowest of {len(scope.ports)} ports are closed: "
        "name those that matter with the jail's label ports="
    )
    return replace(scope, ports=scope.ports[:MOST_PORTS], why=why)


def _resolved(
    policy: JailPolicy, members: Collection[Container], containers: Collection[Container]
) -> Scope | None:
    """Find the scope of a ban, however many ports it has."""
    trusted, asked = policy.origin is Origin.DAEMON, members
    if trusted and policy.scope is ScopeKind.HOST:
        return Scope(ports=None, why="the jail's scope is the whole host")
    members = [member for member in members if member.running] or _left(members, containers)
    if trusted and policy.ports is not None and policy.and_published:
        own = _reach(members, containers)
        why = "the jail's fail2ban file names ports" + (", and the service's" if own.ports else "")
        return _scope({*policy.ports, *own.ports}, own, why)
    if trusted and policy.ports is not None and not policy.ports_by_label:
        return _scope(policy.ports, _own(members, containers), "the jail names its ports")
    if not members:
        return None
    if any(m.published for m in asked) and not any(m.running or m.published for m in members):
        return Scope(ports=(), why="its ports are another container's by now", yields=True)
    reach = _reach(members, containers)
    if any(member.host_network for member in members):
        return _on_the_host_network(policy, reach)
    if policy.ports is not None:
        return _named_by_label(policy.ports, reach)
    if not reach.nowhere:
        return _scope(reach.ports, reach, f"published by {reach.who}" if reach.ports else "")
    if not trusted:
        return Scope(
            ports=(),
            why="cannot ban: the service publishes no port and no container on its networks does; "
            "publish a port, put its proxy on a user-defined network with it, "
            "or define the jail in dockerjail's own configuration",
        )
    return Scope(ports=None, why="neither the service nor its proxy publishes a port")


def _left(
    stopped: Collection[Container], containers: Collection[Container]
) -> Collection[Container]:
    """Return containers that do not run without the ports that others publish by now."""
    services = {each.service for each in stopped}
    others = [c for c in containers if c.running and c.service not in services]
    lost = frozenset(port for other in others for port in other.published)
    return [replace(each, published=each.published - lost) for each in stopped]


def _reach(members: Collection[Container], containers: Collection[Container]) -> _Reach:
    """
    Collect where the members are reached; if nowhere, where those beside them are.

    A proxy that does not run counts when no other does: it may be about to start again.
    """
    own = _own(members, containers)
    if not own.nowhere:
        return own
    networks = {network for member in members for network in member.networks}
    proxies = [c for c in containers if (c.published or c.direct) and c.networks & networks]
    proxies = [c for c in proxies if c.running] or proxies
    names = ", ".join(sorted({c.name for c in proxies}))
    who = f"{names} on the same network" if names else "the service"
    ports = {port for proxy in proxies for port in proxy.published}
    return _past_the_host(who, proxies, containers, ports)


def _own(members: Collection[Container], containers: Collection[Container]) -> _Reach:
    """Collect where the members themselves are reached."""
    ports = {port for member in members for port in member.published}
    ports |= {port for member in members if member.host_network for port in member.exposed}
    return _past_the_host("the service", members, containers, ports)


def _past_the_host(
    who: str, them: Collection[Container], containers: Collection[Container], ports: set[Port]
) -> _Reach:
    """Add to their `ports` the addresses that clients reach past the host."""
    ids = {each.id for each in them}
    # One that has stopped may have lost its address to another.
    lost = {a for c in containers if c.running and c.id not in ids for a in c.addresses}
    direct = [d for each in them for d in each.direct if each.running or d.address not in lost]
    return _Reach(
        who=who,
        ports=frozenset(ports),
        addresses=frozenset(d.address for d in direct if d.device),
        hidden=frozenset(d.address for d in direct if not d.device),
    )


def _scope(ports: Iterable[Port], reach: _Reach, why: str) -> Scope:
    """Close these ports and all of the addresses; say what of them cannot be closed."""
    closed, words = tuple(sorted(set(ports))), [why] if why else []
    if reach.addresses:
        words.append(
            f"addresses of {reach.who} past the host (macvlan, ipvlan) are closed as wholes"
        )
    if reach.hidden:
        names = ", ".join(map(str, _ordered(reach.hidden)))
        if not closed and not reach.addresses:
            why = f"cannot be enforced: {names} of {reach.who} is reached past the host, and "
            return Scope(ports=(), why=f"{why}{_UNNAMED}; {_NAME_IT}")
        words.append(f"{names} stays open: {_UNNAMED}")
    return Scope(ports=closed, addresses=_ordered(reach.addresses), why="; ".join(words))


def _on_the_host_network(policy: JailPolicy, reach: _Reach) -> Scope:
    """Choose for a container without a network of its own: stated ports, else exposed ones."""
    if policy.ports is not None:
        return _scope(policy.ports, reach, "the jail names its ports")
    if not reach.nowhere:
        return _scope(reach.ports, reach, "published or exposed by the service")
    if policy.origin is not Origin.DAEMON:
        return Scope(
            ports=(),
            why="cannot ban: the service is on the host network and its image exposes no port; "
            "name them with the jail's label ports=",
        )
    return Scope(ports=None, why="the service is on the host network and exposes no port")


def _named_by_label(ports: tuple[Port, ...], reach: _Reach) -> Scope:
    """Keep of the ports that a label names those that its service may ban from."""
    allowed = reach.ports.intersection(ports)
    refused = [port for port in ports if port not in reach.ports]
    if not allowed and (reach.addresses or reach.hidden):
        return _scope((), reach, "the ports that the jail's label names do not matter")
    if not refused:
        return _scope(allowed, reach, "the jail's label names its ports")
    names = ", ".join(map(str, refused))
    if allowed:
        why = f"the jail's label names its ports; {names} left out: not published by the service"
        return _scope(allowed, reach, why)
    theirs = ", ".join(map(str, sorted(reach.ports))) or "none"
    return Scope(
        ports=(),
        why=f"cannot ban: the label names {names}, which the service does not publish "
        f"(published by {reach.who}: {theirs}); name published host ports",
    )


def _ordered(addresses: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(sorted(addresses, key=lambda address: (address.version, int(address))))


def elsewhere(containers: Iterable[Container], own: Collection[Address]) -> Problem | None:
    """
    Say so when the containers' published ports live in another network namespace than ours.

    A container that publishes ports has a bridge, whose gateway is an address of the
    Engine's host; macvlan and overlay networks, whose gateway is elsewhere, cannot publish.
    """
    bridged = [c for c in containers if c.running and c.published and c.gateways]
    if not bridged or any(c.gateways.intersection(own) for c in bridged):
        return None
    return Problem(
        place="network namespace",
        what="bans have no effect: none of the Engine's gateways is an address of this "
        "network namespace, so the packets to published ports pass elsewhere",
        remedy="run dockerjail with network_mode: host (--network host) beside the Engine "
        "that it follows",
    )
