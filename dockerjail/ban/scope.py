"""
From what a ban keeps its subject out. Pure: a policy and the containers in, a `Scope` out.

Bans are matched before DNAT (`nft/ruleset`), so ports here are ports of the
host, as a client addresses them.
"""

from collections.abc import Collection, Iterable

from dockerjail.jail.policy import JailPolicy, Origin, ScopeKind
from dockerjail.model import Address, Container, Port, Problem, Scope


def resolve(
    policy: JailPolicy, members: Collection[Container], containers: Collection[Container]
) -> Scope | None:
    """
    Find the scope of a ban by `policy` among all the Engine's containers.

    `members` are the containers on which the jail runs; those that run count, else those
    that ran. None without any: whoever asks keeps what it had. Only a jail of the daemon's
    own file reaches beyond the ports of its service, or of its proxy.
    """
    trusted = policy.origin is Origin.DAEMON
    if trusted and policy.scope is ScopeKind.HOST:
        return Scope(ports=None, why="the jail's scope is the whole host")
    if trusted and policy.ports is not None and policy.and_published:
        own, _ = _ports_of([m for m in members if m.running] or members, containers)
        return Scope(
            ports=_sorted((*policy.ports, *own)),
            why="the jail's fail2ban file names ports" + (", and the service's" if own else ""),
        )
    if trusted and policy.ports is not None and not policy.ports_by_label:
        return Scope(ports=_sorted(policy.ports), why="the jail names its ports")
    if not members:
        return None
    members = [member for member in members if member.running] or members
    own, why = _ports_of(members, containers)
    if any(member.host_network for member in members):
        return _on_the_host_network(policy, own)
    if policy.ports is not None:
        return _named_by_label(policy.ports, own, why)
    if own:
        return Scope(ports=_sorted(own), why=why)
    if not trusted:
        return Scope(
            ports=(),
            why="cannot ban: the service publishes no port and no container on its networks does; "
            "publish a port, put its proxy on a user-defined network with it, "
            "or define the jail in dockerjail's own configuration",
        )
    return Scope(ports=None, why="neither the service nor its proxy publishes a port")


def _ports_of(
    members: Collection[Container], containers: Collection[Container]
) -> tuple[set[Port], str]:
    """
    Collect what the members publish; if nothing, what shares a network with them does.

    A proxy that does not run counts when no other does: it may be about to start again.
    """
    own = {port for member in members for port in member.published}
    own |= {port for member in members if member.host_network for port in member.exposed}
    if own:
        return own, "published by the service"
    networks = {network for member in members for network in member.networks}
    proxies = [c for c in containers if c.published and c.networks & networks]
    proxies = [c for c in proxies if c.running] or proxies
    names = ", ".join(sorted({c.name for c in proxies}))
    return (
        {port for proxy in proxies for port in proxy.published},
        f"published by {names} on the same network",
    )


def _on_the_host_network(policy: JailPolicy, own: set[Port]) -> Scope:
    """Choose for a container without a network of its own: stated ports, else exposed ones."""
    if policy.ports is not None:
        return Scope(ports=_sorted(policy.ports), why="the jail names its ports")
    if own:
        return Scope(ports=_sorted(own), why="published or exposed by the service")
    if policy.origin is not Origin.DAEMON:
        return Scope(
            ports=(),
            why="cannot ban: the service is on the host network and its image exposes no port; "
            "name them with the jail's label ports=",
        )
    return Scope(ports=None, why="the service is on the host network and exposes no port")


def _named_by_label(ports: tuple[Port, ...], own: set[Port], why: str) -> Scope:
    """Keep of the ports that a label names those that its service may ban from."""
    allowed = own.intersection(ports)
    refused = [port for port in ports if port not in own]
    if not refused:
        return Scope(ports=_sorted(allowed), why="the jail's label names its ports")
    names = ", ".join(map(str, refused))
    if allowed:
        return Scope(
            ports=_sorted(allowed),
            why=f"the jail's label names its ports; {names} left out: not published by the service",
        )
    theirs = ", ".join(map(str, _sorted(own))) or "none"
    return Scope(
        ports=(),
        why=f"cannot ban: the label names {names}, which the service does not publish "
        f"({why}: {theirs}); name published host ports",
    )


def _sorted(ports: Iterable[Port]) -> tuple[Port, ...]:
    return tuple(sorted(set(ports)))


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
