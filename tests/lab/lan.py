"""
A local network beside a private Engine, for containers that clients reach past the host.

In: an Engine. Out: a macvlan network of Docker's whose parent is a link in the Engine's
namespace, a router on its other end, and attackers behind the router, each with an address of
its own. Everything is gone with the context, containers on the network included.
"""

from typing import Self

from tests.lab import netns
from tests.lab.attacker import Attacker
from tests.lab.engine import Engine


class Lan:
    """The network `lan`: 192.0.2.0/24 and 2001:db8:77::/64, its router at .1 and ::1."""

    device = "lan0"
    """The parent, a link of the Engine's host."""
    gateway, gateway6 = "192.0.2.1", "2001:db8:77::1"
    host, host6 = "192.0.2.10", "2001:db8:77::10"
    """Where the Engine's host is in it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.router = netns.Namespace(f"{engine.space.name}-ar")

    def __enter__(self) -> Self:
        netns.create(self.router.name)
        forward = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.router.run("sysctl", "-qw", *forward)
        netns.connect(
            self.engine.space,
            self.router,
            left_addresses=(f"{self.host}/24", f"{self.host6}/64"),
            right_addresses=(f"{self.gateway}/24", f"{self.gateway6}/64"),
            left_link=self.device,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.remove_containers()
        self.router.delete()
        # A deleted namespace goes a moment later, and its links with it.
        self.engine.space.run("ip", "link", "delete", self.device, check=False)

    def network(self, name: str = "lan", *options: str, driver: str = "macvlan") -> str:
        """Make a network of Docker's on the link; return its id."""
        return self.engine.docker(
            *("network", "create", "--driver", driver, "--opt", f"parent={self.device}"),
            *(
                "--subnet",
                "192.0.2.0/24",
                "--gateway",
                self.gateway,
                "--ip-range",
                "192.0.2.128/25",
            ),
            *("--ipv6", "--subnet", "2001:db8:77::/64", "--gateway", self.gateway6),
            *(*options, name),
        )

    def attacker(self) -> Attacker:
        """Add a host on the internet that comes in by the router."""
        number = self.engine.unused_number()
        made = Attacker(netns.create(f"{self.engine.space.name}-a{number}"), number)
        made.connect(self.router, self.gateway)
        for network, gateway in (
            (f"{made.address}/32", self.gateway),
            (made.network6, self.gateway6),
        ):
            self.engine.space.run("ip", "route", "replace", network, "via", gateway)
        self.engine.adopt(made)
        return made
