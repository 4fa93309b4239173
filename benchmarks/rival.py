"""
fail2ban itself in this process, to be measured: plain lines in, failures counted.

It is the distribution's package, unpacked in the lab's cache (`tests/lab/fail2ban.py`); nothing
of it is in this repository. It has it easy: nothing is logged, no file is read, no database
and no actions follow, no name is looked up, and its clock is set to that of the lines.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

from benchmarks.ours import Counted
from benchmarks.workloads import START
from tests.lab import fail2ban

AHEAD = 30.0
"""Seconds that its clock is ahead of the first line."""


@cache
def package() -> fail2ban.Fail2banPackage:
    """Return the package, and make its modules known to this process."""
    found = fail2ban.package()
    os.environ["TZ"] = "UTC"  # what it reads of a date is local time
    time.tzset()
    sys.path.append(str(found.dist_packages))
    logging.getLogger("fail2ban").setLevel(logging.CRITICAL)
    return found


@cache
def version() -> str:
    """Return which fail2ban this is."""
    package()
    from fail2ban.version import version as said

    return str(said)


@dataclass(frozen=True, slots=True)
class Told:
    """What fail2ban's own readers say about a filter."""

    said: Mapping[str, Any]


@cache
def told(references: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]) -> Sequence[Told]:
    """Ask its own readers about filters, each a name and options."""
    asked = [("filter", name, dict(options)) for name, options in references]
    return [Told(said) for said in package().ask(asked)]


class _Jail:
    """As much of a jail as a filter asks for: a name, and a place for those to be banned."""

    def __init__(self, name: str, counted: Counted) -> None:
        self.name = name
        self.database = None
        self.idle = False
        self.filter = None
        self.actions = SimpleNamespace()
        self._counted = counted

    def putFailTicket(self, ticket: object) -> None:  # noqa: N802  (its name)
        self._counted.offences += 1


class Rival:
    """The filters of some jails, all shown the same lines."""

    def __init__(self, filters: Iterable[Told], *, maxretry: int = 5) -> None:
        package()
        from fail2ban.server.filter import Filter
        from fail2ban.server.mytime import MyTime

        MyTime.setTime(START + AHEAD)
        self.counted = Counted()
        self._filters = []
        for number, each in enumerate(filters):
            said = each.said
            made = Filter(_Jail(f"jail{number}", self.counted), useDns="no")
            made.ignoreSelf = False
            made.failManager.setMaxRetry(maxretry)
            made.failManager.setMaxTime(600)
            made.setMaxLines(int(said.get("maxlines") or 1))
            if said.get("prefregex"):
                made.prefRegex = said["prefregex"]
            for regex in said["addfailregex"]:
                made.addFailRegex(regex)
            for regex in said["addignoreregex"]:
                made.addIgnoreRegex(regex)
            if said.get("datepattern"):
                made.setDatePattern(said["datepattern"])
            self._filters.append(made)

    def feed(self, lines: Sequence[str]) -> None:
        """Take lines, each without its line end."""
        shown = [each.processLineAndAdd for each in self._filters]
        for line in lines:
            for show in shown:
                show(line)
        self.counted.failures = sum(e.failManager.getFailTotal() for e in self._filters)
