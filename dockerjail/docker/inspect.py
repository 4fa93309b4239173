"""
The Engine's JSON about a container, read into a `Container`. Pure.

Any key may be missing: what one Engine always sends another leaves out (Podman;
Docker's API from 1.52 on has addresses only under `Networks`; a container that
does not run has no ports). What is missing is empty, never an error.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, cast

from dockerjail.model import Address, Container, Port, Problem, Protocol, Subject
from dockerjail.stamp import seconds

_BUILTIN_NETWORKS = frozenset({"bridge", "default", "host", "none", "podman", "ingress"})
_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_DIRECT_DRIVERS = frozenset({"json-file", "local", "journald", "k8s-file"})
_UNREADABLE_DRIVERS = frozenset({"none", "passthrough", "passthrough-tty"})

_DIGITS = re.compile(r"[0-9]{1,5}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")

Json = Mapping[str, Any]


def container(data: Json, *, owner: Json | None = None) -> Container:
    """
    Read the answer to `GET /containers/{id}/json`.

    `owner` is the same answer for the container whose network this one uses, see
    `network_owner`: ports and addresses are then the owner's.
    """
    labels = {str(key): str(value) for key, value in _part(data, "Config", "Labels").items()}
    name = str(data.get("Name") or "").removeprefix("/")
    state = _part(data, "State")
    log = _part(data, "HostConfig", "LogConfig")
    network = data if owner is None else owner
    published, exposed = _ports(network)
    networks, gateways, subnets = _networks(network)
    return Container(
        id=str(data.get("Id") or ""),
        name=name,
        service=service(labels, name),
        image=str(_part(data, "Config").get("Image") or data.get("ImageName") or ""),
        labels=labels,
        # While it waits for its restart policy the Engine says running and restarting.
        running=bool(state.get("Running")) and not state.get("Restarting"),
        tty=bool(_part(data, "Config").get("Tty")),
        host_network=_mode(network) == "host",
        published=published,
        exposed=exposed,
        networks=networks,
        gateways=gateways,
        subnets=subnets,
        log_driver=str(log.get("Type") or "json-file"),
        log_options={str(key): str(value) for key, value in _part(log, "Config").items()},
        created_at=_time(data.get("Created")),
        started_at=_time(state.get("StartedAt")),
    )


def network_owner(data: Json) -> str | None:
    """Return id or name of the container whose network this one uses, if it does."""
    kind, _, owner = _mode(data).partition(":")
    return owner if kind == "container" and owner else None


def service(labels: Mapping[str, str], name: str) -> str:
    """
    Say what replicas and successors of a container share: `shop-web`.

    Names that compose or swarm would not give are passed over: an image may carry
    any label, and this ends up in logs and tables.
    """
    project = labels.get("com.docker.compose.project", "")
    part = labels.get("com.docker.compose.service", "")
    if _NAME.fullmatch(project) and _NAME.fullmatch(part):
        return f"{project}-{part}"
    task = labels.get("com.docker.swarm.service.name", "")
    return task if _NAME.fullmatch(task) else name


def digest(item: Json) -> str:
    """Condense one item of `GET /containers/json`: it changes when a look is worth it."""
    networks = _part(item, "NetworkSettings", "Networks")
    facts = (
        sorted(item.get("Names") or ()),
        item.get("State"),
        item.get("Labels"),
        sorted(json.dumps(port, sort_keys=True) for port in item.get("Ports") or ()),
        sorted(
            (
                name,
                str(_part(networks, name).get("NetworkID")),
                str(_part(networks, name).get("Gateway")),
            )
            for name in networks
        ),
    )
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=12).hexdigest()


def readable(container: Container) -> tuple[bool, Problem | None]:
    """Judge the log driver: can the log be read, and what may be missing in it."""
    place = f"container {container.name}"
    driver = container.log_driver
    remedy = "use the logging driver json-file or local and create the container anew"
    if driver in _UNREADABLE_DRIVERS:
        what = f"its log cannot be read: the logging driver is {driver}"
        return False, Problem(place=place, what=what, remedy=remedy)
    if driver not in _DIRECT_DRIVERS:
        if container.log_options.get("cache-disabled") == "true":
            what = f"its log cannot be read: the logging driver is {driver} with cache-disabled"
            remedy = "remove the log option cache-disabled, or " + remedy
            return False, Problem(place=place, what=what, remedy=remedy)
        what = (
            f"lines may be missing: with the logging driver {driver} the Engine keeps only a "
            "copy, and drops lines from it under load or when the driver's server is away"
        )
        return True, Problem(place=place, what=what, remedy=remedy)
    if container.log_options.get("mode") == "non-blocking":
        what = "lines may be missing: the log option mode=non-blocking drops them under load"
        remedy = "remove the log option mode and create the container anew"
        return True, Problem(place=place, what=what, remedy=remedy)
    return True, None


def _part(data: Json, *path: str) -> Json:
    """Go down into `data`; empty when there is nothing, or null, on the way."""
    for key in path:
        part = data.get(key)
        if not isinstance(part, Mapping):
            return {}
        data = part
    return data


def _mode(data: Json) -> str:
    return str(_part(data, "HostConfig").get("NetworkMode") or "")


def _time(text: object) -> float:
    """Read a time; 0 for none (the Engine writes the year 1)."""
    try:
        return max(seconds(str(text).encode()), 0.0)
    except ValueError:
        return 0.0


def _port(key: str) -> Port | None:
    """Read `80/tcp`; a key without a protocol is tcp."""
    number, _, protocol = key.partition("/")
    protocol = protocol or "tcp"
    if not _DIGITS.fullmatch(number) or protocol not in _PROTOCOLS or not 0 < int(number) < 65536:
        return None
    return Port(int(number), cast(Protocol, protocol))


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(bindings: Json) -> Iterator[Port]:
    """
    List the host's ports in `{"80/tcp": [{"HostIp": ..., "HostPort": ...}]}`.

    A port bound to a loopback address is none that a client could address.
    """
    for key, places in bindings.items():
        inside = _port(key)
        if inside is None or not isinstance(places, list):
            continue
        for place in places:
            if not isinstance(place, Mapping):
                continue
            port = _port(f"{place.get('HostPort') or ''}/{inside.protocol}")
            if port is not None and not _loopback(str(place.get("HostIp") or "")):
                yield port


def _ports(data: Json) -> tuple[frozenset[Port], frozenset[Port]]:
    """
    Return the ports published on the host, and those of the container itself.

    Only a running container has its published ports resolved; of others the wish
    counts as far as it names a port: their last lines are still being judged.
    """
    actual = _part(data, "NetworkSettings", "Ports")
    wish = _part(data, "HostConfig", "PortBindings")
    exposed = {*actual, *wish, *_part(data, "Config", "ExposedPorts")}
    published: frozenset[Port] = frozenset()
    if _mode(data) != "host":
        published = frozenset(_bound(actual or wish))
    return published, frozenset(port for key in exposed if (port := _port(key)) is not None)


def _networks(
    data: Json,
) -> tuple[frozenset[str], frozenset[Address], frozenset[Subject]]:
    """Return ids of user-defined networks; gateways and subnets of all."""
    ids: set[str] = set()
    gateways: set[Address] = set()
    subnets: set[Subject] = set()
    settings = _part(data, "NetworkSettings")
    attached = _part(settings, "Networks")
    for name in attached:
        network = _part(attached, name)
        if network.get("NetworkID") and name not in _BUILTIN_NETWORKS:
            ids.add(str(network["NetworkID"]))
    # Before API 1.52 the default bridge stands at the top level as well; some
    # versions of Podman have it only there.
    for network in (settings, *(_part(attached, name) for name in attached)):
        for key in ("Gateway", "IPv6Gateway"):
            if (gateway := _address(network.get(key))) is not None:
                gateways.add(gateway)
        for key, length in (
            ("IPAddress", "IPPrefixLen"),
            ("GlobalIPv6Address", "GlobalIPv6PrefixLen"),
        ):
            own, prefix = _address(network.get(key)), network.get(length)
            if own is not None and isinstance(prefix, int) and 0 < prefix <= own.max_prefixlen:
                subnets.add(ip_network((own, prefix), strict=False))
    return frozenset(ids), frozenset(gateways), frozenset(subnets)


def _address(text: object) -> Address | None:
    """Read an address, with or without a prefix length behind it."""
    try:
        return ip_address(str(text).partition("/")[0])
    except ValueError:
        return None
