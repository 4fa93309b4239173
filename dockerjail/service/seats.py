"""
Which containers run which jail. Values only.

The containers of one service share its jails' counters, so they must agree on the
rule. Labels come with images: one that calls itself another's service must not
replace that service's rule, nor ban from its ports.
"""

from collections.abc import Callable, Collection, Iterable

from dockerjail.jail.policy import JailPolicy
from dockerjail.model import Container, Problem


class Seats:
    """Containers by jail (`name@service`), and who found no seat."""

    def __init__(self) -> None:
        self._by_jail: dict[str, set[str]] = {}
        self._by_container: dict[str, Collection[str]] = {}
        self._unseated: set[str] = set()

    def __len__(self) -> int:
        """Return how many jails have containers."""
        return len(self._by_jail)

    def of(self, jail: str) -> Collection[str]:
        """Return the ids of the containers that run a jail."""
        return self._by_jail.get(jail, ())

    def unseated(self) -> Collection[str]:
        """Return the ids of containers that wait for others to go."""
        return tuple(self._unseated)

    def choose(
        self,
        container: Container,
        asked: Iterable[JailPolicy],
        rule_of: Callable[[str, str], JailPolicy | None],
    ) -> tuple[list[JailPolicy], list[Problem]]:
        """
        Return which of the `asked` rules a container may run, and why not the others.

        `rule_of` tells the rule by which another running container runs a jail: the
        first rule stands until that container is gone.
        """
        wanted, problems = [], []
        self._unseated.discard(container.id)
        for policy in asked:
            standing = rule_of(f"{policy.name}@{container.service}", container.id)
            if standing is None or standing == policy:
                wanted.append(policy)
                continue
            self._unseated.add(container.id)
            problems.append(
                Problem(
                    place=f"container {container.name}, jail {policy.name}",
                    what=f"is left out: another container of service {container.service} runs it "
                    "by a different rule",
                    remedy="give both the same labels, or stop the other one",
                )
            )
        return wanted, problems

    def leave(self, container: str) -> None:
        """Let a container go."""
        self.take(container, ())
        self._unseated.discard(container)

    def take(self, container: str, jails: Collection[str]) -> None:
        """Note which jails a container runs now."""
        for jail in self._by_container.pop(container, ()):
            members = self._by_jail[jail]
            members.discard(container)
            if not members:
                del self._by_jail[jail]
        if not jails:
            return
        self._by_container[container] = jails
        for jail in jails:
            self._by_jail.setdefault(jail, set()).add(container)
