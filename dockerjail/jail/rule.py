"""
A rule: what a filter looks for, as files, labels and shipped filters all end in it. Pure.

Text is matched by fail2ban's means: `prefregex`, `failregex`, `ignoreregex`, `datepattern`,
`maxlines`. A structured line (JSON, logfmt) is looked into by the others: `where` says
which lines count, `address` where the client is, `field` which text the failregexes see.
`filter.py` makes a rule work.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dockerjail.model import Subject


class Format(StrEnum):
    """How a line is written; `AUTO` looks at each line, if the rule has a selector."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"
    LOGFMT = "logfmt"


class UseDns(StrEnum):
    """Whether a name in place of an address is looked up; `WARN` says so in the log."""

    NO = "no"
    WARN = "warn"
    YES = "yes"


Condition = tuple[tuple[str, tuple[str, ...]], ...]
"""Pairs of a selector and the values that it may have; all pairs must hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    What counts as a failure, and whose it is.

    `failregex`, `ignoreregex`, `prefregex` are regexes with fail2ban's tags; `datepattern`
    what is cut as the date (none: the default detectors); `maxlines` how many lines a
    failregex sees at once. `prefix` is put before a line that misses without it; if
    `wrapped`, such a line is tried as it stands in the files of Docker's json-file driver.

    `where` are conditions of which one must hold (none: every line). `address` are
    selectors, read as one list from the client to the nearest proxy: the right-most
    address that is not in `trusted_proxies` counts. `field` selects the text for the
    failregexes (empty: the usual message fields), `user` who tried.
    """

    failregex: tuple[str, ...] = ()
    ignoreregex: tuple[str, ...] = ()
    prefregex: str = ""
    datepattern: tuple[str, ...] = ()
    maxlines: int = 1
    usedns: UseDns = UseDns.NO
    prefix: str = ""
    wrapped: bool = False
    format: Format = Format.AUTO
    field: str = ""
    where: tuple[Condition, ...] = ()
    address: tuple[str, ...] = ()
    user: str = ""
    trusted_proxies: tuple[Subject, ...] = ()

    @property
    def structured(self) -> bool:
        """Say whether only a structured line can match."""
        selects = self.where or self.address or self.field
        return bool(selects) or self.format in (Format.JSON, Format.LOGFMT)


NOTHING: Final = Rule()
"""The rule that looks for nothing yet."""
