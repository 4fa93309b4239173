r"""
A filter: the text of a line in, whose failure it is out. Pure and immutable.

Compiled once and shared by all containers whose jails have the same regexes. Matching
is fail2ban's: the date is cut out, `$` and `^` mean the ends of what is left, the first
failregex that hits decides, then an ignoreregex may let the line pass.

One thing goes beyond it. If no failregex hits the line without its date, they are tried
on the line as written. fail2ban never matches `^\d{4}-\d\d-\d\d .* from <HOST>$`, to
everybody's surprise; here it works. It also closes a hole: who calls himself
`2005-01-23 21:59:59` has his name cut out as the date, and `user \S+ failed` misses.
Nothing that fail2ban matches is matched otherwise by it. An ignoreregex may hit either
text.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Final, NamedTuple

from dockerjail.errors import FilterError
from dockerjail.jail.address import address, network
from dockerjail.jail.datecut import cut
from dockerjail.jail.tags import Expanded, TagError, expand
from dockerjail.model import Address, Subject

_ADDRESSES: Final = ("fid", "ip4", "ip6", "host")
"""Groups that an address may be in, the first that has one counts; `host` is fail2ban's of old."""

_NOT_DATA: Final = frozenset(("ip4", "ip6", "dns", "cidr", "host"))
_LONGEST_FIELD: Final = 256
_WIDEST: Final = {4: 16, 6: 32}
"""The shortest prefix of a network that one line may accuse (`<CIDR>`)."""

_REMEDIES: Final = (
    ("unterminated subpattern", r"close the parenthesis, or write \( for one in the log"),
    ("unbalanced parenthesis", r"open it, or write \) for one in the log"),
    ("unterminated character set", r"close it with ], or write \[ for one in the log"),
    ("nothing to repeat", r"write \* \+ or \? for one in the log"),
    ("multiple repeat", r"write \* \+ or \? for one in the log"),
    ("bad character range", "put the - first or last between the brackets"),
    ("redefinition of group", "name an address or capture once; write a second failregex instead"),
    ("global flags not at the start", "write (?i:...) around the part that it is for"),
    ("bad escape (end of pattern)", r"write \\ for a backslash in the log"),
    ("bad escape", "leave the backslash out"),
    ("look-behind requires fixed-width", "write a (?<!...) of one fixed length, or none"),
    ("unknown group name", "name the group before it is used"),
    ("invalid group reference", "number the groups from 1 in the order they open"),
)


class Hit(NamedTuple):
    """
    What a failregex found in a line.

    `address` is whose failure it is, a network if the regex has `<CIDR>`; None when
    the line has none that counts, and `why` says so. `regex` counts from 0.
    """

    regex: int
    address: Address | Subject | None
    fields: Mapping[str, str]
    why: str = ""


class Filter:
    """
    The failregexes and ignoreregexes of a jail.

    Raises `FilterError`, which says which regex, where in it, what is wrong and what
    to write instead. Two filters of the same regexes are equal.
    """

    __slots__ = ("_fail", "_groups", "_ignore", "failregex", "ignoreregex", "patterns")

    failregex: Final[tuple[str, ...]]
    ignoreregex: Final[tuple[str, ...]]
    patterns: Final[tuple[str, ...]]
    """The failregexes with their tags replaced, for the sieve."""

    def __init__(self, failregex: Sequence[str], ignoreregex: Sequence[str] = ()) -> None:
        if not failregex:
            raise FilterError("no failregex; write at least one, with <HOST> where the address is")
        self.failregex = tuple(failregex)
        self.ignoreregex = tuple(ignoreregex)
        compiled = [
            _compile("failregex", n, source) for n, source in enumerate(self.failregex, start=1)
        ]
        for number, (source, regex) in enumerate(zip(self.failregex, compiled, strict=True), 1):
            _require_address(number, source, regex)
        self._fail = tuple(regex.search for regex in compiled)
        self._groups = tuple(
            tuple(name for name in _ADDRESSES if name in regex.groupindex) for regex in compiled
        )
        self._ignore = tuple(
            _compile("ignoreregex", n, source).search
            for n, source in enumerate(self.ignoreregex, start=1)
        )
        self.patterns = tuple(regex.pattern for regex in compiled)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Filter):
            return NotImplemented
        return (self.failregex, self.ignoreregex) == (other.failregex, other.ignoreregex)

    def __hash__(self) -> int:
        return hash((self.failregex, self.ignoreregex))

    def __repr__(self) -> str:
        return f"Filter({list(self.failregex)!r}, {list(self.ignoreregex)!r})"

    def match(self, text: str) -> Hit | None:
        """Judge one line as the container wrote it, without its line end."""
        return self.judge(cut(text) + "\n", text + "\n")

    def judge(self, bare: str, whole: str) -> Hit | None:
        """Judge a line that ends in LF: `bare` without its date, `whole` as written."""
        found = self._first(bare)
        if found is None and bare != whole:
            found = self._first(whole)
        if found is None:
            return None
        for ignored in self._ignore:
            if ignored(bare) is not None or ignored(whole) is not None:
                return None
        return self._read(*found)

    def _first(self, text: str) -> tuple[int, re.Match[str]] | None:
        for number, search in enumerate(self._fail):
            found = search(text)
            if found is not None:
                return number, found
        return None

    def _read(self, number: int, found: re.Match[str]) -> Hit | None:
        """Take the address and the fields out of a match."""
        groups = found.groupdict()
        if groups.get("nofail") or groups.get("mlfgained"):
            return None
        fields = _fields(groups) if len(groups) > 1 else _NOTHING
        refused = ""
        for name in self._groups[number]:
            text = groups[name]
            if not text:
                continue
            prefix = groups.get("cidr")
            who = address(text) if not prefix else network(text, prefix)
            if who is None:
                refused = f"{text[:64]!r} is no address"
            elif (
                isinstance(who, IPv4Network | IPv6Network) and who.prefixlen < _WIDEST[who.version]
            ):
                refused = f"{who} is wider than one line may accuse"
            else:
                return Hit(number, who, fields)
        if groups.get("dns"):
            refused = f"{groups['dns'][:64]!r} is a name; names are not resolved"
        return Hit(number, None, fields, refused or "the line has no address")


_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def _fields(groups: Mapping[str, str | None]) -> Mapping[str, str]:
    """Return the captures that go with a failure; `alt_user` fills an empty `user`."""
    fields = {
        name: text[:_LONGEST_FIELD]
        for name, text in groups.items()
        if text and name not in _NOT_DATA and not name.startswith("alt_")
    }
    for name in sorted(groups):
        text = groups[name]
        if text and name.startswith("alt_"):
            fields.setdefault(re.sub(r"_?\d+\Z", "", name[4:]), text[:_LONGEST_FIELD])
    return fields


def _compile(kind: str, number: int, source: str) -> re.Pattern[str]:
    """Compile one regex, or say what is wrong with it and where."""
    if not source.strip():
        raise FilterError(f"{kind} {number} is empty; write a regex or leave it out")
    expanded = None
    try:
        expanded = expand(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "possible nested set" helps nobody at run time
            return re.compile(expanded.pattern)
    except TagError as error:
        raise FilterError(_message(kind, number, source, error.at, str(error))) from None
    except re.error as error:
        raise FilterError(_explain(kind, number, source, expanded, error)) from None
    except (OverflowError, RecursionError, MemoryError):
        what = "it is too big or too deeply nested; write several failregexes"
        raise FilterError(_message(kind, number, source, 0, what)) from None


def _explain(
    kind: str, number: int, source: str, expanded: Expanded | None, error: re.error
) -> str:
    at = 0 if expanded is None else expanded.place(error.pos or 0)
    what = error.msg
    double = re.match(r"redefinition of group name '(\w+)'", what)
    if double is not None:
        what = f"redefinition of group {double[1]!r}"
    for part, remedy in _REMEDIES:
        if part in error.msg:
            what = f"{what}; {remedy}"
            break
    return _message(kind, number, source, at, what)


def _require_address(number: int, source: str, regex: re.Pattern[str]) -> None:
    if any(name in regex.groupindex for name in _ADDRESSES):
        return
    raise FilterError(
        f"failregex {number} {_shorten(source, 0)} has no address; "
        "write <HOST> where the address is"
    )


def _message(kind: str, number: int, source: str, at: int, what: str) -> str:
    return f"{kind} {number} {_shorten(source, at)}, position {at + 1}: {what}"


def _shorten(source: str, at: int, width: int = 60) -> str:
    """Quote at most `width` characters of `source`, those around `at`."""
    begin = max(0, min(at - width // 2, len(source) - width))
    end = begin + width
    head, tail = "..." if begin else "", "..." if end < len(source) else ""
    return f"{head}{source[begin:end]!r}{tail}"
