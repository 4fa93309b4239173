r"""
Structured lines: one line in, what a rule's fields say of it out. Pure.

A line is one whole JSON object, or logfmt (`logfmt.py` says what counts as such), else it
is text and none of this room's business. Nothing raises, whatever the bytes.

Selectors name fields: `request.headers.X-Real-Ip.0`. A key that is written with its dots
(`"client.address"`, as ECS does) is found too, the longest first. A list's index is never
part of such a key: whoever names a header `X-Real-Ip.0` would take its place.

JSON in JSON is read in two cases. A selector that goes deeper looks into a text that is
an object: `msg.client`. And a selector not found outside is looked for inside an
*envelope*: what a log driver or shipper puts around a line, with `stream` or `source`
saying stdout or stderr and the line in `log`, `message` or `msg`. Any other object's text
is not looked into unasked: many applications log a stranger's words as `message`, and his
`{"client": ...}` would be read as theirs.

The client is found from the right: each proxy appends whom it was called by, so that only
what trusted proxies wrote is believed. What is no address ends the search. Values are cut
at each comma, quoted or not: nobody behind it can be reached by an open quote before it.

A line that was cut is text: what is missing may be what counts.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from dockerjail.errors import FilterError
from dockerjail.jail import logfmt
from dockerjail.jail.address import address as read_address
from dockerjail.jail.logfmt import Twice, gather
from dockerjail.jail.rule import Condition, Format, Rule
from dockerjail.jail.skeleton import SHORTEST
from dockerjail.model import Address, Subject

CUT_FROM: Final = 16384
"""A longer line with U+FFFD in its middle was cut there (`jail.LONGEST_LINE`)."""

LONGEST: Final = 65_000
"""Bytes of a line from which on it may have lost its end (`docker.lines.LIMIT`)."""

LEVELS: Final = 3
"""Objects within one another's texts that are looked into, with the outermost."""

DEEPEST: Final = 100
"""Objects and lists within one another; how many Python's decoder bears differs by version."""

TEXTS: Final = (
    "message",
    "msg",
    "event",
    "log",
    "MESSAGE",
    "@message",
    "text",
    "@m",
    "short_message",
)
"""Where the text is, if the rule does not say: the first that is a text and not empty."""

LINE_BREAK: Final = "\u2028"
"""Stands for LF in a text: no regex takes it for the end of a line."""

Fields = Mapping[str, object]
"""A parsed line: dict, list, `Twice`, str, `Number`, bool or None in it."""


class Number(str):
    """A number as the line writes it: `401` is not `401.0`, and no size is too big."""

    __slots__ = ()


_decode: Final = json.JSONDecoder(
    object_pairs_hook=gather, parse_int=Number, parse_float=Number, parse_constant=Number
).decode


def parse(text: str, format: Format = Format.AUTO, *, uncut: bool = False) -> Fields | None:
    """
    Return the fields of a line; None when it has none, is malformed or was cut.

    AUTO is JSON if the line begins with `{`, else logfmt. Numbers are `Number`; a key with
    several different values has a `Twice` of them. `uncut` says that nobody has taken the
    middle out of the line: then a U+FFFD there is a stranger's, who would not be read.
    """
    if format is Format.TEXT or not (uncut or _has_middle(text)) or not _has_end(text):
        return None
    if format is Format.LOGFMT:
        return logfmt.parse(text, flags=True)
    if text.lstrip(" \t")[:1] == "{":
        return _object(text)
    return None if format is Format.JSON else logfmt.parse(text)


def _has_middle(text: str) -> bool:
    """Say whether nothing was cut out of a line, with a line end or without."""
    length = len(text) - text.endswith("\n")
    return length <= CUT_FROM or text[length // 2] != "\ufffd"


def _has_end(text: str) -> bool:
    """Say whether nothing can have been cut off a line."""
    length = len(text) - text.endswith("\n")
    return length < LONGEST // 4 or (
        length < LONGEST and len(text.encode("utf-8", "surrogatepass")) < LONGEST
    )


def _object(text: str) -> Fields | None:
    if _is_deep(text):
        return None
    try:
        found = _decode(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_deep(text: str) -> bool:
    """Say whether objects and lists are nested deeper than any logger's are."""
    if text.count("{") + text.count("[") <= DEEPEST:
        return False
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "{[":
            depth += 1
            if depth > DEEPEST:
                return True
        elif token[0] in "}]":
            depth -= 1
    return False


_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)
_STREAMS: Final = ("stdout", "stderr")


def levels(line: Fields) -> tuple[Fields, ...]:
    """Return the line, and the lines that it is an envelope around, from the outermost in."""
    found = [line]
    while len(found) < LEVELS:
        if line.get("stream") not in _STREAMS and line.get("source") not in _STREAMS:
            break
        inside = None
        for name in ("log", "message", "msg"):
            text = line.get(name)
            if type(text) is str:
                inside = parse(text, uncut=True)
                break
        if inside is None:
            break
        found.append(inside)
        line = inside
    return tuple(found)


_ABSENT: Final = object()


class Selector:
    """The place of a field, such as `request.headers.X-Forwarded-For.-1`; made once, used often."""

    __slots__ = ("_steps", "name", "text")

    def __init__(self, text: str) -> None:
        self.text: Final = text
        parts = text.split(".")
        self._steps: Final = tuple(tuple(_keys(parts, at)) for at in range(len(parts)))
        self.name: Final = next((part for part in reversed(parts) if not _is_index(part)), "")
        """The last name in it: stands in each line that has the field."""

    def __repr__(self) -> str:
        return f"Selector({self.text!r})"

    def find(self, lines: Sequence[Fields]) -> object:
        """Return the first value at this place in `lines` (see `levels`); `_ABSENT` if none."""
        for depth, line in enumerate(lines, start=1):
            found = self._down(line, 0, LEVELS - depth)
            if found is not _ABSENT:
                return found
        return _ABSENT

    def _down(self, value: object, at: int, texts: int) -> object:
        """Follow the steps from `at` on; `texts` is how many may still be looked into."""
        if at == len(self._steps):
            return value
        if type(value) is str and texts and value.lstrip()[:1] == "{":
            value, texts = _object(value), texts - 1
        if isinstance(value, dict):
            for key, behind in self._steps[at]:
                if key in value:
                    found = self._down(value[key], behind, texts)
                    if found is not _ABSENT:
                        return found
        elif isinstance(value, list) and _is_index(part := self._steps[at][-1][0]):
            index = int(part)
            if -len(value) <= index < len(value):
                return self._down(value[index], at + 1, texts)
        return _ABSENT


def _keys(parts: Sequence[str], at: int) -> Iterator[tuple[str, int]]:
    """Yield the keys that can stand at one place, the longest first, and where they end."""
    for end in range(len(parts), at, -1):
        taken = parts[at:end]
        if end == at + 1 or not any(map(_is_index, taken)):
            yield ".".join(taken), end


_INDEX: Final = re.compile(r"-?[0-9]{1,6}")


def _is_index(part: str) -> bool:
    return _INDEX.fullmatch(part) is not None


def _text(value: object) -> str | None:
    """Return the text of a plain value; None for an object or a list."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return None


class _Allowed:
    """The values that a condition lets a field have."""

    __slots__ = ("_anything", "_exact", "_patterns")

    def __init__(self, alternatives: Iterable[str]) -> None:
        patterns = [tuple(each.split("*")) for each in alternatives]
        self._exact = frozenset(each[0] for each in patterns if len(each) == 1)
        self._patterns = tuple(each for each in patterns if len(each) > 1)
        self._anything = any(not any(each) for each in self._patterns)

    def holds(self, value: object) -> bool:
        """Say whether `value`, or one of its items, is allowed."""
        if self._anything:
            return True
        if isinstance(value, list | Twice):
            return any(map(self._holds, value))
        return self._holds(value)

    def _holds(self, value: object) -> bool:
        text = _text(value)
        if text is None:
            return False
        return text in self._exact or any(_like(text, pieces) for pieces in self._patterns)


def _like(text: str, pieces: tuple[str, ...]) -> bool:
    """Say whether `text` is `pieces` with anything between them; never goes back."""
    at, end = len(pieces[0]), len(text) - len(pieces[-1])
    if at > end or not text.startswith(pieces[0]) or not text.endswith(pieces[-1]):
        return False
    for piece in pieces[1:-1]:
        at = text.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


class Trusted:
    """The proxies that are believed."""

    __slots__ = ("_tables",)

    def __init__(self, networks: Iterable[Subject]) -> None:
        tables: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            tables.setdefault((network.version, shift), set()).add(
                int(network.network_address) >> shift
            )
        self._tables = tuple((*key, frozenset(prefixes)) for key, prefixes in tables.items())

    def __contains__(self, who: Address) -> bool:
        version, number = 4 if isinstance(who, IPv4Address) else 6, int(who)
        return any(
            version == of and number >> shift in prefixes for of, shift, prefixes in self._tables
        )


def client(
    lines: Sequence[Fields], selectors: Sequence[Selector], trusted: Trusted
) -> tuple[Address | None, str]:
    """
    Return the client's address, or None and why there is none.

    `selectors` lead from the client to the nearest proxy, and the last of them must be in
    the line: without it the first address of the others would be whatever a stranger sent.
    A value is an address, with a port or not, a list of them with commas, a `Forwarded`
    header (RFC 7239), or a list of such values.
    """
    for selector in reversed(selectors):
        nearest = selector is selectors[-1]
        value = selector.find(lines)
        if isinstance(value, Twice):
            return None, f"{selector.text} is written twice"
        hops = 0
        for hop in _hops(value):
            hops += 1
            who = _endpoint(hop)
            if who is None:
                return None, f"{hop[:64]!r} in {selector.text} is no address"
            if who not in trusted:
                return who, ""
        if nearest and not hops:
            return None, f"the line has no {selector.text}"
    return None, "every address in it is a trusted proxy's"


def _hops(value: object) -> Iterator[str]:
    """Yield what should be addresses, from the nearest on."""
    if value is _ABSENT or value is None:
        return
    for item in reversed(value) if isinstance(value, list) else (value,):
        if type(item) is str:
            for hop in reversed(item.split(",")):
                stripped = hop.strip()
                if stripped:
                    yield stripped
        else:
            yield _text(item) or "an object"


_ENDPOINT: Final = re.compile(
    r"/?(?:\[([^\[\]]+)\]|([0-9]{1,3}(?:\.[0-9]{1,3}){3}))(?::[0-9]{1,5})?"
)
_PARAMETER: Final = r"""[\w!#$%&'*+.^`|~-]++[ \t]*+=[ \t]*+(?:"[^"\\]*+"|[^\s",;=\\]*+)"""
_FORWARDED: Final = re.compile(rf"{_PARAMETER}(?:[ \t]*+;[ \t]*+{_PARAMETER})*+[ \t]*+;?")
_FOR: Final = re.compile(_PARAMETER)


def _endpoint(text: str) -> Address | None:
    """Read an address with what stands around it; a leading slash is Java's."""
    if "=" in text:
        if _FORWARDED.fullmatch(text) is None:
            return None
        named = (each.partition("=") for each in _FOR.findall(text))
        given = [to.strip(' \t"') for name, _, to in named if name.strip().lower() == "for"]
        if len(given) != 1:
            return None
        text = given[0]
    elif len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    found = _ENDPOINT.fullmatch(text)
    if found is not None:
        return read_address(found[1] or found[2])
    return None if "[" in text else read_address(text.removeprefix("/"))


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _clean(text: str) -> str:
    """
    Make one line of a text that the database takes.

    A JSON text may have line breaks, which would let a stranger begin a line, and halves
    of surrogate pairs, which are no UTF-8.
    """
    text = text.rstrip("\r\n")
    if "\n" in text:
        text = text.replace("\n", LINE_BREAK)
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def message(lines: Sequence[Fields], field: Selector | None = None) -> str | None:
    """
    Return the text for the failregexes, None when there is none.

    That is the value of `field`, or the only one in a list; without a `field` the first
    of `TEXTS`, of the innermost line that has one.
    """
    if field is not None:
        value = field.find(lines)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        text = None if value is None else _text(value)
        return None if text is None else _clean(text)
    for line in reversed(lines):
        for name in TEXTS:
            found = line.get(name)
            if type(found) is str and found:
                return _clean(found)
    return None


_LONGEST_USER: Final = 256


class Seen(NamedTuple):
    """
    What a structured line says.

    `text` is for the failregexes. `address` is None when the rule has no selector for it,
    or when the line has none that counts, and then `why` says so. `user` may be empty.
    """

    text: str | None
    address: Address | None
    why: str
    user: str


class Reader:
    """
    Reads lines as one rule says; made once for a rule, without state.

    Raises `FilterError` for a selector or a condition that says nothing.
    """

    __slots__ = ("_address", "_conditions", "_field", "_format", "_trusted", "_user", "requires")

    def __init__(self, rule: Rule) -> None:
        self._format = rule.format
        self._conditions = tuple(
            tuple(
                (_selector(selector, "where"), _allowed(selector, alternatives))
                for selector, alternatives in condition
            )
            for condition in rule.where
        )
        self._address = tuple(_selector(each, "address") for each in rule.address)
        self._field = _selector(rule.field, "field") if rule.field else None
        self._user = _selector(rule.user, "user") if rule.user else None
        self._trusted = Trusted(rule.trusted_proxies)
        self.requires: Final = requires(rule)
        """See `requires`."""

    def look(self, text: str) -> Seen | None:
        """
        Return what a line says; None when it is not structured or no condition holds.

        `text` is the whole line, however long: never one without its middle.
        """
        line = parse(text, self._format, uncut=True)
        if line is None:
            return None
        lines = levels(line)
        if self._conditions and not any(self._holds(each, lines) for each in self._conditions):
            return None
        who, why = client(lines, self._address, self._trusted) if self._address else (None, "")
        user = message(lines, self._user) if self._user is not None else None
        return Seen(message(lines, self._field), who, why, (user or "")[:_LONGEST_USER])

    def _holds(
        self, condition: tuple[tuple[Selector, _Allowed], ...], lines: Sequence[Fields]
    ) -> bool:
        for selector, allowed in condition:
            value = selector.find(lines)
            if value is _ABSENT or not allowed.holds(value):
                return False
        return True


def _selector(text: str, kind: str) -> Selector:
    if not text.strip():
        raise FilterError(
            f"{kind} has an empty selector; write the field's name, such as request.remote_ip"
        )
    return Selector(text)


def _allowed(selector: str, alternatives: Sequence[str]) -> _Allowed:
    if not alternatives:
        raise FilterError(
            f"where {selector} has no values; write at least one, or * for a field that is there"
        )
    return _Allowed(alternatives)


_SAFE: Final = re.compile(rb"[A-Za-z0-9 _.:,;-]{%d,}" % SHORTEST)


def safe_pieces(literal: bytes) -> tuple[bytes, ...]:
    r"""
    Return the pieces of `literal` that encoders write as they are, the longest first.

    Quotes, backslashes, slashes, `<>&'+=`, control and non-ASCII characters are escaped
    by some encoder or other (Go's and Gson's HTML-safe JSON, PHP's slashes, .NET's default
    encoder). Letters written as \uXXXX are the caller's business: see `requires`.
    """
    return tuple(sorted(_SAFE.findall(literal), key=len, reverse=True))


def requires(rule: Rule) -> tuple[bytes, ...]:
    r"""
    Return literals of which one is in the bytes of each line that `Reader.look` accepts.

    Empty means that nothing can be said: show every line. Plain ASCII characters written
    as `\u0041` are not provided for: a line with `\u00` in it is to be shown, always.

    The field of `address` is not required: a line without it is accepted, and that there
    is no address in it is the only sign of a wrong selector.
    """
    literals: set[bytes] = set()
    for condition in rule.where:
        best = _best(condition)
        if best is None:
            return ()
        literals |= best
    return tuple(sorted(a for a in literals if not any(a != b and b in a for b in literals)))


def _best(condition: Condition) -> frozenset[bytes] | None:
    """Return the literals that say most of what a condition requires."""
    options: list[tuple[bool, float, frozenset[bytes]]] = []
    for selector, alternatives in condition:
        for is_name, texts in (
            (False, [_value(each) for each in alternatives]),
            (True, [Selector(selector).name]),
        ):
            pieces = [
                next(iter(safe_pieces(each.encode("utf-8", "replace"))), b"") for each in texts
            ]
            if pieces and all(pieces):
                cost = len(pieces) * (1 + 16 * 0.6 ** min(map(len, pieces)))
                options.append((is_name, cost, frozenset(pieces)))
    return min(options, key=lambda each: each[:2])[2] if options else None


def _value(alternative: str) -> str:
    """Return what must stand in the line for a value; a bare logfmt key is true without it."""
    return "" if _Allowed((alternative,)).holds(True) else alternative
