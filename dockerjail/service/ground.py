"""
Who is never banned, and why: this host, its networks, whom its operators let pass.

In: the host's own place (`ports.Host`), containers, settings, allowances, what words stand
for now (`exempt`). Out: reasons, for the jails and the warden, and the networks that the kernel lets
pass whatever a ban says.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from dockerjail.config.settings import Settings
from dockerjail.errors import FirewallError
from dockerjail.jail.ignore import Ignore, spared
from dockerjail.model import Address, Allowance, Container, Direct, Problem, Subject
from dockerjail.ports import Host
from dockerjail.service.exempt import Exempt


class Ground:
    """
    The reasons, kept up to date by whoever calls `look` and `take`.

    `ignore` has them all; `local` those of this host and its networks, which not even an operator's
    word overrules.
    """

    def __init__(self, settings: Settings, host: Host, exempt: Exempt) -> None:
        self._settings = settings
        self._host = host
        self._exempt = exempt
        self._error = ""
        self.ignore = Ignore()
        self.local = Ignore()
        self.own: frozenset[Address] = frozenset()
        self.allowed: frozenset[Subject] = frozenset()
        self.direct: frozenset[Direct] = frozenset()
        self._gateways: frozenset[Address] = frozenset()
        self._resolvers: frozenset[Address] = frozenset()

    async def look(self) -> None:
        """
        Read the host's own addresses, gateways and name servers as they are now.

        Raises `FirewallError` only when they were never read: a start without knowing whom never to
        ban is no start. Loopback and link-local addresses are left out: they are never banned
        anyway, and each container's link brings one.
        """
        try:
            own = await self._host.addresses()
            gateways = await self._host.gateways()
            resolvers = await self._host.resolvers()
        except FirewallError as error:
            if not self.own:
                raise
            self._error = str(error)
            return
        self._error = ""
        self.own, self._gateways, self._resolvers = map(_far, (own, gateways, resolvers))

    def take(self, containers: Iterable[Container], allowances: Iterable[Allowance]) -> None:
        """Take over what changed: afterwards `ignore`, `local`, `allowed` and `direct` are right."""
        containers = list(containers)
        local = self._local(containers)
        reasons = self._let_pass(allowances)
        self.allowed = frozenset(
            {ip_network("127.0.0.0/8"), ip_network("::1/128"), *local, *reasons}
        )
        # of stopped ones, too: their chain at the device need not go and come back with them
        self.direct = frozenset(direct for c in containers for direct in c.direct)
        self.local.update(local)
        self.ignore.update({**reasons, **local})

    def why(self, subject: Subject) -> str | None:
        """Return why somebody of `subject` is never banned."""
        return spared(subject, self.ignore)

    def why_all(self, subject: Subject) -> str | None:
        """Return why nobody at all of `subject` is ever banned."""
        return self.ignore.around(subject)

    def why_local(self, subject: Subject) -> str | None:
        """Return why somebody of `subject` is never banned, not even by force."""
        return spared(subject, self.local)

    def problems(self) -> list[Problem]:
        """Tell what could not be found out."""
        found = [*self._exempt.problems()]
        if self._error:
            found.append(
                Problem(
                    place="own addresses",
                    what=f"cannot be read: {self._error}",
                    remedy="those read before are never banned meanwhile",
                )
            )
        return found

    def _local(self, containers: Iterable[Container]) -> Mapping[Subject, str]:
        reasons: dict[Subject, str] = {}
        for address in self._resolvers:
            reasons[ip_network(address)] = "a name server that this host asks"
        for address in self._gateways:
            reasons[ip_network(address)] = "a gateway of this host"
        for container in containers:
            for subnet in container.subnets:
                reasons[subnet] = f"it is in a network of container {container.name}"
        for container in containers:
            for gateway in container.gateways:
                reasons[ip_network(gateway)] = (
                    f"the gateway of container {container.name}'s network"
                )
        for address in self.own:
            reasons.setdefault(ip_network(address), "an address of this host")
        return reasons

    def _let_pass(self, allowances: Iterable[Allowance]) -> Mapping[Subject, str]:
        defaults = self._settings.defaults
        reasons: dict[Subject, str] = dict.fromkeys(defaults.ignoreip, "it is in ignoreip")
        for word in defaults.ignorefrom:
            for network in self._exempt.networks(word):
                reasons[network] = f"it is in ignoreip, as {word}"
        for each in allowances:
            comment = f" ({each.comment})" if each.comment else ""
            for network in self.stands_for(each.who):
                reasons[network] = f"an operator lets it pass{comment}"
        return reasons

    def stands_for(self, who: str) -> frozenset[Subject]:
        """Return the networks that an allowance means now."""
        return self._exempt.networks(who) if is_name(who) else frozenset({ip_network(who)})


def is_name(who: str) -> bool:
    """Say whether an allowance is for a name, and not for an address or a network."""
    try:
        ip_network(who)
    except ValueError:
        return True
    return False


def _far(addresses: Iterable[Address]) -> frozenset[Address]:
    return frozenset(a for a in addresses if not a.is_loopback and not a.is_link_local)
