"""
fail2ban itself, asked line by line: what would it do?

In: regexes, lines with times, failures. Out: what fail2ban's own `Filter`,
`DateDetector` and `FailManager` make of them. They run in a process of their own
(`oracle_process.py`), which fixes their clock and their time zone; it ends with the
`with` block, and by itself when this process dies.
"""

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from dockerjail.jail.rule import Rule

NOON = 1124013600.0
"""When fail2ban's own samples are read: 2005-08-14, 12:00 in Zurich."""

_ZURICH = "CET-01CEST-02,M3.5.0,M10.5.0"
_PATIENCE = 60.0
"""Seconds that an answer may take: a regex that backtracks must not hang a test run."""


class OracleError(RuntimeError):
    """fail2ban refused what it was asked, or is gone."""


class Asked(NamedTuple):
    """A line to show; one that is not `dated` is not searched for a date."""

    text: str
    at: float = NOON
    dated: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleHit:
    """A failure, in fail2ban's words: `id` is None for one that waits for whose it is."""

    regex: int
    id: str | None
    groups: Mapping[str, Any]
    lines: tuple[str, ...]

    @property
    def captured(self) -> Mapping[str, Any]:
        """What was captured, without what was not."""
        return {name: said for name, said in self.groups.items() if said is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What fail2ban makes of a line: its failures, and the text that its regexes saw."""

    hits: tuple[OracleHit, ...] = field(default=())
    text: str


class OracleFilter:
    """A filter at work there; it remembers lines, as fail2ban does."""

    def __init__(self, oracle: "Oracle", number: int) -> None:
        self._oracle = oracle
        self._number = number

    def feed(self, lines: Sequence[Asked]) -> list[Judged]:
        """Show lines in their order."""
        said = self._oracle.ask("feed", number=self._number, lines=lines)
        return [
            Judged(
                hits=tuple(
                    OracleHit(
                        regex=hit["regex"],
                        id=hit["id"],
                        groups=hit["groups"],
                        lines=tuple(hit["lines"]),
                    )
                    for hit in each["hits"]
                ),
                text=each["text"],
            )
            for each in said
        ]

    def patterns(self) -> list[str]:
        """Return the failregexes with their tags replaced."""
        said: list[str] = self._oracle.ask("patterns", number=self._number)
        return said

    def one(self, text: str, *, dated: bool = True) -> OracleHit | None:
        """Show one line; return the first failure."""
        (judged,) = self.feed([Asked(text, dated=dated)])
        return judged.hits[0] if judged.hits else None


class Oracle:
    """The process. Raises `OracleError` with what fail2ban said."""

    def __init__(self, dist_packages: Path) -> None:
        self._modules = dist_packages

    def __enter__(self) -> Self:
        self._complaints = tempfile.TemporaryFile()
        # of its own interpreter only the program: no site, no settings of this one
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-W", "ignore", _PROGRAM, self._modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            bufsize=0,
            env={**os.environ, "TZ": _ZURICH, "LC_ALL": "C.UTF-8"},
        )
        self._waiting = selectors.DefaultSelector()
        self._waiting.register(self._process.stdout, selectors.EVENT_READ)
        self._rest = b""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.close()
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._complaints.close()

    def make(self, rule: Rule | Mapping[str, Any], **more: Any) -> OracleFilter:
        """
        Make a filter of a rule's regexes.

        Names count as ids. `usedns="no"` has `<HOST>` match addresses only, `every=True`
        tries all failregexes, as fail2ban's own tests do.
        """
        if isinstance(rule, Rule):
            rule = {
                "prefregex": rule.prefregex,
                "failregex": rule.failregex,
                "ignoreregex": rule.ignoreregex,
                "datepattern": rule.datepattern,
                "maxlines": rule.maxlines,
            }
        return OracleFilter(self, self.ask("make", rule={**rule, **more}))

    def named(self, etc: Path, name: str, options: Mapping[str, str]) -> Mapping[str, Any]:
        """Read a filter of a configuration directory; the answer can be made."""
        said: Mapping[str, Any] = self.ask("named", etc=str(etc), name=name, options=options)
        return said

    def dates(self, patterns: Sequence[str], lines: Sequence[str]) -> list[tuple[int, int] | None]:
        """
        Return where each line's date begins and ends; no pattern means the default ones.

        Each line is the first that the detector sees.
        """
        said = self.ask("dates", patterns=patterns, lines=lines)
        return [None if span is None else (span[0], span[1]) for span in said]

    def count(
        self, maxretry: int, findtime: float, failures: Sequence[tuple[str, float]]
    ) -> list[bool]:
        """Count failures by ids at times; say of each whether it led to a ban."""
        said: list[bool] = self.ask(
            "count", maxretry=maxretry, findtime=findtime, failures=failures
        )
        return said

    def grow(
        self,
        options: Mapping[str, Any],
        bantime: float,
        *,
        bans: Sequence[str] = ("jail",),
        earlier: int = 0,
        chance: float = 0.0,
    ) -> list[float]:
        """
        Ban one id in the jails `bans`, in this order; return how long each ban lasts, in seconds.

        `options` are those of `bantime.` without that word. The first jail has banned the id
        `earlier` times before; `chance` is what random() returns.
        """
        said: list[float] = self.ask(
            "grow", options=options, bantime=bantime, bans=bans, earlier=earlier, chance=chance
        )
        return said

    def forget(self) -> None:
        """Drop all filters made so far."""
        self.ask("forget")

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send one request and wait for its answer."""
        request = json.dumps({"do": do, **arguments}).encode() + b"\n"
        try:
            sent = 0
            while sent < len(request):  # a pipe takes what fits
                sent += self._process.stdin.write(request[sent:]) or 0
        except BrokenPipeError:
            raise OracleError(f"fail2ban is gone: {self._last_words()}") from None
        said = json.loads(self._line())
        if "error" in said:
            raise OracleError(said["error"])
        return said["answer"]

    def _line(self) -> bytes:
        while b"\n" not in self._rest:
            if not self._waiting.select(_PATIENCE):
                self._process.kill()
                raise OracleError(f"no answer within {_PATIENCE:.0f} s; the process was ended")
            more = os.read(self._process.stdout.fileno(), 1 << 20)
            if not more:
                raise OracleError(f"fail2ban is gone: {self._last_words()}")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _last_words(self) -> str:
        self._complaints.seek(0)
        return self._complaints.read().decode("utf-8", "replace")[-2000:]


_PROGRAM = Path(__file__).with_name("oracle_process.py")
