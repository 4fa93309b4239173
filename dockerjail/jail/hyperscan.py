r"""
The door to hyperscan, an optional library (`pip install dockerjail[fast]`): chains in, an engine out.

All chains become one automaton that goes through a chunk once, however many there are. Each
is a pattern of its literals with `[^\n]*` between and `[^\n]*\n` behind: a match then ends where
the line does, so it is told once for each line and chain, however often an attacker repeats
a literal. Letters are folded in ASCII only, as by `bytes.lower`; what else Python folds is the
sieve's business.

What is known of the library (0.9.1, its `extension.c`):

* A call to compile gives up the GIL and takes up to seconds, so it may have a thread of its own.
* A scan gives it up, too, and takes it back for each match. Scratch space belongs to the
  database: only one thread may scan with one.
* It is built for x86-64-v2, and asks no CPU whether it is one: an older one dies of SIGILL. So
  that is asked here, before the import; nothing else is read.
"""

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from dockerjail.jail.engine import BothEngines, Engine, PlainEngine
from dockerjail.jail.skeleton import Chain, Group

OLDEST: Final = (0, 8)
"""The first version that scans bytes without copying them."""

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

    def compile(self, chains: Mapping[int, Chain]) -> Engine:
        """
        Return an engine for these chains; takes up to seconds.

        Those that the library refuses are looked for by a `PlainEngine` beside it.
        """
        try:
            return _Scan(self._database(chains))
        except self._library.error:
            pass
        refused = {number: chain for number, chain in chains.items() if not self._accepts(chain)}
        taken = {number: chain for number, chain in chains.items() if number not in refused}
        plain = PlainEngine(refused or chains)
        if not refused or not taken:
            return plain
        try:
            return BothEngines([_Scan(self._database(taken)), plain])
        except self._library.error:  # each is taken, but not all together
            return PlainEngine(chains)

    def _accepts(self, chain: Chain) -> bool:
        try:
            self._database({0: chain})
        except self._library.error:
            return False
        return True

    def _database(self, chains: Mapping[int, Chain]) -> Any:
        database = self._library.Database(mode=self._library.HS_MODE_BLOCK)
        database.compile(
            expressions=[pattern(chain) for chain in chains.values()],
            ids=[*chains],
            flags=[0] * len(chains),
        )
        return database


class _Scan:
    """One pass over the bytes for all chains."""

    __slots__ = ("_scan",)

    def __init__(self, database: Any) -> None:
        self._scan: Callable[..., None] = database.scan

    def __call__(self, data: bytes) -> dict[int, int]:
        """See `Engine`."""
        found: dict[int, int] = {}
        get = found.get

        def note(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            end -= 1
            found[end] = get(end, 0) | 1 << number

        if data.endswith(b"\n"):
            self._scan(data, match_event_handler=note)
        else:
            self._scan(data + b"\n", match_event_handler=note)
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
