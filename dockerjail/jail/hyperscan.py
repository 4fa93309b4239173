r"""
The door to hyperscan, an optional library (`pip install dockerjail[fast]`): chains in, engines out.

It looks for all chains in one pass over a chunk, however many there are, in one of two ways. Whole
chains (`chains`) are patterns of their literals with `[^\n]*` between and `[^\n]*\n` behind:
a match ends where the line does, so it is told once for each line and chain, however
often a literal is repeated, and nothing is left to check. One group of each (`literals`) is
found two to five times as fast if it is rare in the log, and made in a twentieth of the time.
Letters are folded in ASCII only, as by `bytes.lower`; what else Python folds is the sieve's business.

What is known of the library (0.9.1, its `extension.c`):

* To compile, it gives up the GIL, and takes up to seconds: so that may have a thread of its own.
* To scan, it gives it up, too, and takes it back for each match. Scratch space belongs to the
  database: an engine must not be used by two threads at once, though one may make it for another.
* It is built for x86-64-v2, and asks no processor whether it is one: an older one dies of SIGILL.
  That is asked here, before the import; nothing else is read.
"""

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from dockerjail.jail.engine import (
    Checked,
    Engine,
    Finder,
    FindLiterals,
    Together,
    chosen,
    plain,
)
from dockerjail.jail.skeleton import Chain, Group

OLDEST: Final = (0, 8)
"""The first version that scans bytes without copying them."""

_EACH: Final = 0.3
"""Nanoseconds per line that one more literal takes: hardly any."""

_Scan = Callable[..., None]

_CPU: Final = Path("/proc/cpuinfo")
_PLAIN: Final = frozenset(
    b'0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz _"/:;<>=@,%'
)


class Unavailable(Exception):
    """There is no hyperscan that could be used here; says why, and what to do."""


class Hyperscan:
    """
    The library at work; raises `Unavailable` if there is none, or none that fits.

    `version` is the library's own.
    """

    def __init__(self) -> None:
        if _lacks_sse42():
            raise Unavailable("this processor has no SSE4.2, which hyperscan needs")
        try:
            self._library: Any = import_module("hyperscan")
        except ImportError as error:
            remedy = "pip install dockerjail[fast]"
            raise Unavailable(f"hyperscan is not installed ({error}); {remedy}") from None
        self.version = str(getattr(self._library, "__version__", "unknown"))
        if _numbers(self.version) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            remedy = "pip install --upgrade dockerjail[fast]"
            raise Unavailable(f"hyperscan {self.version} is older than {oldest}; {remedy}")

    def __str__(self) -> str:
        return f"hyperscan {self.version}"

    def chains(self, chains: Mapping[int, Chain]) -> Engine:
        """Return an engine that looks for whole chains; takes up to seconds."""
        scan, refused = self._compile({n: pattern(groups) for n, groups in chains.items()})
        beside = [plain({n: chains[n] for n in refused})] if refused else []
        return Together(*([] if scan is None else [_Lines(scan)]), *beside)

    def literals(self, chains: Mapping[int, Chain], sample: bytes = b"") -> Engine:
        """Return an engine that looks for the rarest group of each chain; takes milliseconds."""
        groups = chosen(chains, sample, each=_EACH)
        scan, refused = self._compile({n: _one_of(group) for n, group in groups.items()})
        beside: list[Finder] = [FindLiterals({n: groups[n] for n in refused})] if refused else []
        return Checked(chains, Together(*([] if scan is None else [_Places(scan)]), *beside))

    def _compile(self, patterns: Mapping[int, bytes]) -> tuple[_Scan | None, frozenset[int]]:
        """Return what scans for patterns, and which the library refuses: too large, as a rule."""
        refused: frozenset[int] = frozenset()
        while len(refused) < len(patterns):
            taken = {n: each for n, each in patterns.items() if n not in refused}
            try:
                return self._database(taken).scan, refused
            except self._library.error:
                alone = {n for n in taken if not self._compiles({n: taken[n]})}
                refused |= alone or taken.keys()  # each is taken, but not all together
        return None, refused

    def _compiles(self, patterns: Mapping[int, bytes]) -> bool:
        try:
            self._database(patterns)
        except self._library.error:
            return False
        return True

    def _database(self, patterns: Mapping[int, bytes]) -> Any:
        database = self._library.Database(mode=self._library.HS_MODE_BLOCK)
        database.compile(
            expressions=[*patterns.values()], ids=[*patterns], flags=[0] * len(patterns)
        )
        return database


class _Lines:
    """One pass for patterns that end with their line."""

    __slots__ = ("_scan",)

    def __init__(self, scan: _Scan) -> None:
        self._scan = scan

    def __call__(self, data: bytes) -> dict[int, int]:
        """See `Engine`."""
        found: dict[int, int] = {}
        get = found.get

        def note(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            end -= 1
            found[end] = get(end, 0) | 1 << number

        whole = data if data.endswith(b"\n") else data + b"\n"
        self._scan(whole, match_event_handler=note)
        return found


class _Places:
    """One pass for patterns that end where a literal does."""

    __slots__ = ("_scan",)

    def __init__(self, scan: _Scan) -> None:
        self._scan = scan

    def __call__(self, data: bytes) -> dict[int, int]:
        """See `Finder`."""
        found: dict[int, int] = {}
        get, find, whole = found.get, data.find, len(data)

        def note(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            end = find(b"\n", end)
            if end < 0:
                end = whole
            found[end] = get(end, 0) | 1 << number

        self._scan(data, match_event_handler=note)
        return found


def pattern(chain: Chain) -> bytes:
    r"""Return what matches up to the LF of a line that holds the chain."""
    return rb"[^\n]*".join(map(_one_of, chain)) + rb"[^\n]*\n"


def _one_of(group: Group) -> bytes:
    literals = b"|".join(map(_escaped, group.literals))
    return (b"(?i:%b)" if group.folded else b"(?:%b)") % literals


def _escaped(literal: bytes) -> bytes:
    return b"".join(bytes([c]) if c in _PLAIN else b"\\x%02x" % c for c in literal)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version; of one that has none, what passes for new."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers) or OLDEST


def _lacks_sse42() -> bool:
    """Say whether this is an x86 processor from before 2009, or an emulated one."""
    if os.uname().machine != "x86_64":
        return False
    try:
        told = _CPU.read_bytes()
    except OSError:
        return False  # nothing says so, and nearly none does
    return b"sse4_2" not in told
