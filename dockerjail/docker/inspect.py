"""
The Engine's JSON about containers and networks, read into `Container`s. Pure.

Any key may be missing: what one Engine always sends another leaves out (Podman;
Docker's API from 1.52 on has addresses only under `Networks`; a container that
does not run has no ports). What is missing is empty, never an error.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any, cast

from dockerjail.model import Address, Container, Direct, Port, Problem, Protocol, Subject
from dockerjail.stamp import seconds

_BUILTIN_NETWORKS = frozenset({"bridge", "default", "host", "none", "podman", "ingress"})
_PAST_THE_HOST = {"macvlan": "dm-", "ipvlan": "di-"}
"""Drivers whose containers are reached past the host, and how Docker names the link that it
makes for a network without a parent, before 12 digits of the network's id."""

_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_DIRECT_DRIVERS = frozenset({"json-file", "local", "journald", "k8s-file"})
_UNREADABLE_DRIVERS = frozenset({"none", "passthrough", "passthrough-tty"})

LABELS = 256 * 1024
NAME = 255
"""Characters of a container's labels and log options in all, and of its name, that are kept."""

_DIGITS = re.compile(r"[0-9]{1,5}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")

_ASIDE = "(?:[0-9a-f]{12}-)?"
"""What compose puts before one of two names while it replaces a container: an id, cut off."""
_REPLICA = "(?:-(?:[0-9]+|run)(?:-[0-9a-f]+)?)?"
"""`shop-web-1`, `shop-web-run-1f2e3d4c5b6a`; compose 1.23 put an id behind the number, too."""
_TASK = r"\.[0-9a-z]+\.[0-9a-z]+"
"""A replica's number, or for a global service the node's id; then the task's id."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Network:
    """
    What a container's own JSON does not say of a network.

    `device` is the host's, by which packets come to containers that are reached
    `past_the_host`; empty when the Engine does not name it.
    """

    driver: str
    device: str = ""

    @property
    def past_the_host(self) -> bool:
        """Whether packets from outside reach its containers without meeting the host's chains."""
        return self.driver in _PAST_THE_HOST


Networks = Mapping[str, Network]
"""Networks by what a container's JSON has as `NetworkID`: an id, a name under Podman."""


def networks(listed: Iterable[Json], *, podman: bool) -> dict[str, Network]:
    """
    Read the answer to `GET /networks`.

    For Podman, which tells no parent there, what its own API lists may come behind.
    """
    listed = [_as_docker_writes(item) if "network_interface" in item else item for item in listed]
    parents = {str(item.get("Name")): _parent(item) for item in listed}
    found: dict[str, Network] = {}
    for item in listed:
        driver, id_ = str(item.get("Driver") or ""), str(item.get("Id") or "")
        # A network that swarm made from a `--config-only` one may leave its options there.
        device = _parent(item) or parents.get(str(_part(item, "ConfigFrom").get("Network")), "")
        if not device and driver in _PAST_THE_HOST and not podman:
            device = _PAST_THE_HOST[driver] + id_[:12]
        found[id_] = Network(driver, device)
        if podman:
            found[str(item.get("Name"))] = found[id_]
    return found


def attached(data: Json) -> frozenset[str]:
    """Return the ids of the networks of one container that its JSON does not tell all about."""
    places = _part(data, "NetworkSettings", "Networks")
    return frozenset(
        str(id_)
        for name in places
        if name not in _BUILTIN_NETWORKS and (id_ := _part(places, name).get("NetworkID"))
    )


def container(
    data: Json,
    *,
    owner: Json | None = None,
    networks: Networks | None = None,
    podman: Json | None = None,
) -> Container:
    """
    Read the answer to `GET /containers/{id}/json`.

    `owner` is the same answer for the container whose network this one uses, see
    `network_owner`: ports and addresses are then the owner's. A network that is not
    among `networks` is taken for a bridge. `podman` is what Podman's own API says of it,
    where that answers: in Docker's it calls its driver `json-file` and tells no limit.
    """
    labels = {str(key): str(value) for key, value in _part(data, "Config", "Labels").items()}
    name = str(data.get("Name") or "").removeprefix("/")
    driver, options = _logging(data if podman is None else podman)
    network = data if owner is None else owner
    known = networks or {}
    published, exposed = _ports(network, known)
    places = _places(network, known)
    return Container(
        id=str(data.get("Id") or ""),
        name=name,
        service=service(labels, name),
        image=str(_part(data, "Config").get("Image") or data.get("ImageName") or ""),
        labels=labels,
        running=_runs(data),
        tty=bool(_part(data, "Config").get("Tty")),
        host_network=_mode(network) == "host",
        published=published,
        exposed=exposed,
        networks=frozenset(places.networks),
        gateways=frozenset(places.gateways),
        subnets=frozenset(places.subnets),
        addresses=frozenset(places.addresses),
        direct=frozenset(places.direct),
        log_driver=driver,
        log_options=options,
        created_at=_time(data.get("Created")),
        started_at=_time(_part(data, "State").get("StartedAt")),
        finished_at=_time(_part(data, "State").get("FinishedAt")),
    )


def network_owner(data: Json) -> str | None:
    """Return id or name of the container whose network this one uses, if it does."""
    kind, _, owner = _mode(data).partition(":")
    return owner if kind == "container" and owner else None


def service(labels: Mapping[str, str], name: str) -> str:
    """
    Say what replicas and successors of a container share: `shop-web`.

    An image may carry any label, but the name of a container is chosen by whoever starts
    it. So labels count only beside the name that compose or swarm gives with them, else
    the container is a service of its own: one with a `container_name` is the only one
    anyway. What ends up in logs and tables is a name, too.
    """
    project = labels.get("com.docker.compose.project", "")
    part = labels.get("com.docker.compose.service", "")
    if _NAME.fullmatch(project) and _NAME.fullmatch(part):
        composed = f"{project}-{part}"
        if re.fullmatch(_ASIDE + re.escape(_plain(composed)) + _REPLICA, _plain(name)):
            return composed
    task = labels.get("com.docker.swarm.service.name", "")
    if _NAME.fullmatch(task) and re.fullmatch(re.escape(task) + _TASK, name):
        return task
    return name


def _plain(name: str) -> str:
    """Write a name as compose's first version and its second both do."""
    return name.replace("_", "-")


def digest(item: Json, networks: Networks | None = None) -> str:
    """Condense one item of `GET /containers/json`: it changes when a look is worth it."""
    places = _part(item, "NetworkSettings", "Networks")
    kinds = [(networks or {}).get(id_) for id_ in sorted(attached(item))]
    facts = (
        sorted(item.get("Names") or ()),
        item.get("State"),
        item.get("Labels"),
        sorted(json.dumps(port, sort_keys=True) for port in item.get("Ports") or ()),
        sorted(
            (
                name,
                str(_part(places, name).get("NetworkID")),
                str(_part(places, name).get("Gateway")),
            )
            for name in places
        ),
        [kind and (kind.driver, kind.device) for kind in kinds],
    )
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=12).hexdigest()


def readable(container: Container) -> tuple[bool, Problem | None]:
    """Judge the log driver: can the log be read, and what may be missing in it."""
    place = f"container {container.name}"
    driver = container.log_driver
    remedy = "use the logging driver json-file and create the container anew"
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
    if driver == "k8s-file" and (limit := container.log_options.get("max-size")):
        what = (
            f"lines may be missing: whenever its log has {limit} Podman throws all of it away, "
            "read or not (log option max-size)"
        )
        remedy = "remove max-size, or use the logging driver journald, and create it anew"
        return True, Problem(place=place, what=what, remedy=remedy)
    return True, None


def bounded(container: Container) -> tuple[Container, Problem | None]:
    """
    Leave out what of a container is too large to be kept, and say so.

    Whoever makes an image chooses its labels, and the Engine bounds neither them nor a name.
    A name that is cut off could be another's, so a part of the id takes its place.
    """
    name, whats, remedies = container.name, [], []
    if len(name) > NAME:
        service = container.id[:12] if container.service == name else container.service
        container = replace(container, name=container.id[:12], service=service)
        whats.append(f"its name has {len(name)} characters: it is known by its id")
        remedies.append(f"give it a name of at most {NAME}")
    told = (*container.labels.items(), *container.log_options.items())
    size = sum(len(key) + len(value) for key, value in told)
    if size > LABELS:
        container = replace(container, labels={}, log_options={})
        whats.append(f"its labels and log options have {size} characters: none of them is read")
        remedies.append(f"keep them to {LABELS} in all")
    if not whats:
        return container, None
    return container, Problem(
        place=f"container {container.name}", what=" and ".join(whats), remedy=" and ".join(remedies)
    )


def _part(data: Json, *path: str) -> Json:
    """Go down into `data`; empty when there is nothing, or null, on the way."""
    for key in path:
        part = data.get(key)
        if not isinstance(part, Mapping):
            return {}
        data = part
    return data


def _logging(data: Json) -> tuple[str, dict[str, str]]:
    """Return the log driver and its options; Podman's own API has a size, `0B` for none."""
    log = _part(data, "HostConfig", "LogConfig")
    options = {str(key): str(value) for key, value in _part(log, "Config").items()}
    if (size := str(log.get("Size") or "0B")) != "0B":
        options.setdefault("max-size", size)
    return str(log.get("Type") or "json-file"), options


def _as_docker_writes(network: Json) -> Json:
    """Translate a network of Podman's own API."""
    past = network.get("driver") in _PAST_THE_HOST  # of a bridge it is the bridge itself
    return {
        **{key.capitalize(): network.get(key) for key in ("name", "id", "driver")},
        "Options": {"parent": network["network_interface"]} if past else {},
    }


def _parent(network: Json) -> str:
    return str(_part(network, "Options").get("parent") or "")


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


def _runs(data: Json) -> bool:
    """Whether it runs; while it waits for its restart policy it is said to run and restart."""
    state = _part(data, "State")
    return bool(state.get("Running")) and not state.get("Restarting")


def _ports(data: Json, networks: Networks) -> tuple[frozenset[Port], frozenset[Port]]:
    """
    Return the ports published on the host, and those of the container itself.

    Only a running container has its published ports resolved; of others the wish
    counts as far as it names a port: their last lines are still being judged. A wish
    comes true on no network that is past the host.
    """
    settings = _part(data, "NetworkSettings")
    actual = _part(settings, "Ports")
    wish = _part(data, "HostConfig", "PortBindings")
    exposed = {*actual, *wish, *_part(data, "Config", "ExposedPorts")}
    places = _part(settings, "Networks")
    known = [networks.get(str(_part(places, name).get("NetworkID"))) for name in places]
    told = _runs(data) and isinstance(settings.get("Ports"), Mapping)
    in_vain = bool(known) and all(network and network.past_the_host for network in known)
    published: frozenset[Port] = frozenset()
    if _mode(data) != "host":
        published = frozenset(_bound(actual if actual or told or in_vain else wish))
    return published, frozenset(port for key in exposed if (port := _port(key)) is not None)


@dataclass(slots=True)
class _Places:
    """Where a container is attached; fields as in `Container`."""

    networks: set[str] = field(default_factory=set)
    gateways: set[Address] = field(default_factory=set)
    subnets: set[Subject] = field(default_factory=set)
    addresses: set[Address] = field(default_factory=set)
    direct: set[Direct] = field(default_factory=set)


def _places(data: Json, networks: Networks) -> _Places:
    """
    Collect what the container's networks are, and its addresses on them.

    Clients live in the subnet of a network past the host, whose other containers are no proxies.
    """
    found = _Places()
    settings = _part(data, "NetworkSettings")
    endpoints = _part(settings, "Networks")
    # Before API 1.52 the default bridge stands at the top level as well; some
    # versions of Podman have it only there.
    for name, endpoint in (
        ("", settings),
        *((name, _part(endpoints, name)) for name in endpoints),
    ):
        id_ = str(endpoint.get("NetworkID") or "")
        network = networks.get(id_)
        past_the_host = network is not None and network.past_the_host
        if id_ and name not in _BUILTIN_NETWORKS and not past_the_host:
            found.networks.add(id_)
        for key in ("Gateway", "IPv6Gateway"):
            if (gateway := _address(endpoint.get(key))) is not None:
                found.gateways.add(gateway)
        for key, length, wish in (
            ("IPAddress", "IPPrefixLen", "IPv4Address"),
            ("GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Address"),
        ):
            own, prefix = _address(endpoint.get(key)), endpoint.get(length)
            if own is None and past_the_host and not _runs(data):
                own = _address(_part(endpoint, "IPAMConfig").get(wish))
            if own is None:
                continue
            found.addresses.add(own)
            if network is not None and past_the_host:
                found.direct.add(Direct(network.device, own))
            elif type(prefix) is int and 0 < prefix <= own.max_prefixlen:
                # not `True`: `ipaddress` would remember for good that a /1 is a /True
                found.subnets.add(ip_network((own, prefix), strict=False))
    return found


def _address(text: object) -> Address | None:
    """Read an address, with or without a prefix length behind it."""
    try:
        return ip_address(str(text).partition("/")[0])
    except ValueError:
        return None
