r"""
A filter: the text of a line in, whose failure it is out. Pure and immutable.

Compiled once from a `Rule` and shared by all containers whose jails have the same. What
it must remember of the lines before is handed in (`memory.py`). Matching is fail2ban's:
the date is cut out, a prefregex may narrow the text to what counts, `$` and `^` mean the
ends of what is left, the first failregex that hits decides, then an ignoreregex may let
the line pass.

Some things go beyond it. If no failregex hits the line without its date, they are tried
on the line as written. fail2ban never matches `^\d{4}-\d\d-\d\d .* from <HOST>$`, to
everybody's surprise; here it works. It also closes a hole: who calls himself
`2005-01-23 21:59:59` has his name cut out as the date, and `user \S+ failed` misses.
Nothing that fail2ban matches is matched otherwise by it. An ignoreregex may hit any of
these texts. A line that still misses is tried with the rule's `prefix` before it: stock
filters expect syslog's, which a container does not print. An id of a connection that
lies in that prefix says nothing: such a line is judged alone.

A structured rule sees only what is in the fields of a line. Any other sees the line as
text, also if it is JSON: its message may be a stranger's words from the first to the last,
and an anchored failregex would believe them. Who knows better sets `format` or `field`.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from dockerjail.errors import FilterError, Overdue
from dockerjail.jail import possessive
from dockerjail.jail.address import address, network
from dockerjail.jail.datecut import cut
from dockerjail.jail.datepattern import DatePatternError, cutter
from dockerjail.jail.envelope import wrap
from dockerjail.jail.fields import Reader, Seen
from dockerjail.jail.first import begin, tries
from dockerjail.jail.memory import Groups, Memory
from dockerjail.jail.rule import Rule
from dockerjail.jail.skeleton import absorbs, keys
from dockerjail.jail.tags import GROUPS, Expanded, TagError, expand
from dockerjail.model import Address, Stream, Subject

_ADDRESSES: Final = ("fid", "ip4", "ip6", "host")
"""Groups that an address may be in, the first that has one counts; `host` is fail2ban's of old."""

_WHOSE: Final = frozenset((*_ADDRESSES, "dns", "mlfid"))
"""Groups of which a failregex, or the prefregex, must have one."""

_NOT_DATA: Final = frozenset(
    ("ip4", "ip6", "dns", "cidr", "host", "content", "mlfid", "nofail", "mlfforget", "mlfgained")
)
_QUICK: Final = frozenset((*_ADDRESSES, "dns")) - {"fid"}
"""Groups of a failregex that says nothing but whose failure a line is."""
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


class Reading:
    """
    A line as filters see it, each text with its LF.

    `whole` is as written, `bare` undated. `full` is a long line before its middle was
    cut out: what is left of an object without its middle says nothing.
    """

    __slots__ = ("_bare", "at", "full", "stream", "whole")

    def __init__(self, whole: str, full: str, at: float, stream: Stream, bare: str = "") -> None:
        self.whole: Final = whole
        self.full: Final = full
        self.at: Final = at
        self.stream: Final = stream
        self._bare = bare

    @property
    def bare(self) -> str:
        """The line without its date; cut for the first who asks."""
        bare = self._bare
        if not bare:
            bare = self._bare = cut(self.whole)
        return bare


def read(text: str, at: float = 0.0, stream: Stream = Stream.STDOUT, *, full: str = "") -> Reading:
    """Prepare one line, without its line end, for any number of filters."""
    whole = f"{text}\n"
    return Reading(whole, full or whole, at, stream)


class Hit(NamedTuple):
    """
    What a failregex found in a line.

    `address` is whose failure it is, a network if the regex has `<CIDR>`; None when
    the line has none that counts, and `why` says so. `written` is what stood in its
    place, `name` the host name if it was one. `regex` counts from 0; it is -1 when the
    rule has none. `lines` are all lines of the failure if they are several.
    """

    regex: int
    address: Address | Subject | None
    fields: Mapping[str, str]
    why: str = ""
    written: str = ""
    name: str = ""
    lines: tuple[str, ...] = ()


_Found = tuple[int, re.Match[str], dict[str, str | None]]
"""The number of a failregex that hit, where, and what it and the prefregex captured."""


class _Sense(NamedTuple):
    """
    What the groups of a failregex are for, those of its prefregex among them.

    `whose` may have an address, `data` go with a failure, `alternates` stand in for another group;
    `marks` says whether any group says more of a line than that. `alone` is whether a match of the
    failregex has all of it but for the id of a connection.
    """

    whose: tuple[str, ...]
    data: tuple[str, ...]
    alternates: tuple[tuple[str, str], ...]
    marks: bool
    alone: bool


class Filter:
    """
    A rule at work.

    Raises `FilterError`, which says which regex, where in it, what is wrong and what
    to write instead. Two filters of the same rule are equal.
    """

    __slots__ = (
        "_cut",
        "_fail",
        "_fail_by_first",
        "_ignore",
        "_joined",
        "_keys",
        "_narrows",
        "_outer",
        "_outer_alternates",
        "_pref",
        "_quick",
        "_reader",
        "_scrolls",
        "_senses",
        "patterns",
        "remembers",
        "rule",
    )

    rule: Final[Rule]
    patterns: Final[tuple[str, ...]]
    """The failregexes with their tags replaced, for the sieve."""
    remembers: Final[bool]
    """Whether a line is judged by lines before it: `judge` wants a `Memory`."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        if not rule.failregex and not rule.address:
            raise FilterError("no failregex; write at least one, with <HOST> where the address is")
        self._scrolls = rule.maxlines > 1
        flags = re.MULTILINE if self._scrolls else 0
        pref = _compile("prefregex", 0, rule.prefregex) if rule.prefregex else None
        fail = [_compile("failregex", n, text, flags) for n, text in enumerate(rule.failregex, 1)]
        ignore = [_compile("ignoreregex", n, text) for n, text in enumerate(rule.ignoreregex, 1)]
        _require(rule, fail, pref)
        search = _search_lines if self._scrolls else _search
        self._pref = None if pref is None else search(pref)
        self._fail, self._fail_by_first = tries(
            [(regex.pattern, search(regex)) for regex in fail], flags
        )
        outer = () if pref is None else tuple(pref.groupindex)
        self._narrows = "content" in outer
        self._outer = tuple(name for name in outer if name != "content")
        self._outer_alternates = _alternates(outer)
        self._senses = tuple(_sense(tuple(regex.groupindex), outer) for regex in fail)
        self._joined = _sense([name for regex in fail for name in regex.groupindex], outer)
        self._ignore = tuple(regex.search for regex in ignore)
        try:
            self._cut = cutter(rule.datepattern) if rule.datepattern else None
        except DatePatternError as error:
            raise FilterError(str(error)) from None
        self._reader = Reader(rule) if rule.structured else None
        self.patterns = tuple(regex.pattern for regex in fail)
        self._keys = keys(self.patterns) if self._scrolls else ()
        narrows = pref is not None or bool(rule.prefix) or rule.wrapped or rule.structured
        self._quick = None if narrows or self._scrolls else tuple(map(_accused, fail))
        groups = (regex.groupindex for regex in (*fail, *([pref] if pref else [])))
        self.remembers = self._scrolls or any("mlfid" in names for names in groups)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Filter):
            return NotImplemented
        return self.rule == other.rule

    def __hash__(self) -> int:
        return hash(self.rule)

    def __repr__(self) -> str:
        return f"Filter({self.rule!r})"

    def match(self, text: str, memory: Memory | None = None) -> Hit | None:
        """Judge one line as the container wrote it, without its line end."""
        return self.judge(read(text), memory)

    def judge(self, line: Reading, memory: Memory | None = None) -> Hit | None:
        """
        Judge a line; `memory` is what this filter remembers of the container, if it does.

        `Overdue`, which a timer may raise in its midst, tells which regex was at work.
        """
        if self._reader is not None:
            return self._structured(self._reader, line, memory)
        bare = line.bare if self._cut is None else self._undated(self._cut, line.whole)
        if self._quick is not None:
            return self._plain(self._quick, bare, line, memory)
        if self._scrolls and memory is not None:
            return self._scrolled(bare, line, memory)
        whole = line.whole
        found = self._first(bare)
        if found is None and bare != whole:
            found = self._first(whole)
        if found is not None:
            if self._ignore and self._ignores(found[1].string, bare, whole):
                return None
            return self._make(found, bare, line.at, memory)
        hit = self._prefixed(bare, line, memory) if self.rule.prefix else None
        return self._wrapped(line, memory) if hit is None and self.rule.wrapped else hit

    # What is looked at

    def _plain(
        self, quick: Sequence[Sequence[str]], bare: str, line: Reading, memory: Memory | None
    ) -> Hit | None:
        """Judge a line as most filters do; most failregexes capture an address and nothing else."""
        found = self._find(bare)
        if found is None:
            found = self._find(line.whole) if bare != line.whole else None
            if found is None:
                return None
        number, match = found
        if self._ignore and self._ignores(match.string, bare, line.whole):
            return None
        for name in quick[number]:
            said = match[name]
            if said:
                who = address(said)
                if who is not None:
                    return _new(Hit, (number, who, _NOTHING, "", said, "", ()))
        groups = match.groupdict()
        if self._senses[number].alternates:
            _fill(groups, self._senses[number].alternates)
        return self._make((number, match, groups), bare, line.at, memory)

    def _find(self, text: str) -> tuple[int, re.Match[str]] | None:
        """Find the first failregex that hits `text`."""
        number = 0
        try:
            for number, search in self._fail_by_first.get(text[:1], self._fail):
                found = search(text)
                if found is not None:
                    return number, found
        except Overdue as overdue:
            source = _shorten(self.rule.failregex[number], 0)
            overdue.regex = f"failregex {number + 1} {source}"
            raise
        return None

    def _structured(self, reader: Reader, line: Reading, memory: Memory | None) -> Hit | None:
        """Judge a line by its fields."""
        seen = reader.look(line.full)
        if seen is None:
            return None
        if self._ignores(line.full, *([f"{seen.text}\n"] if seen.text is not None else [])):
            return None
        if not self.patterns:
            return Hit(
                -1,
                seen.address,
                {"user": seen.user[:_LONGEST_FIELD]} if seen.user else _NOTHING,
                why="" if seen.address is not None else seen.why,
            )
        if seen.text is None:
            return None
        # never taken apart at an LF inside: a proper encoder kept it from beginning a line
        whole = seen.text.rstrip("\r\n") + "\n"
        bare = cut(whole) if self._cut is None else self._undated(self._cut, whole)
        found = self._either(bare, whole)
        if found is None:
            return None
        return self._weigh(found, (bare, whole, line.whole), line.at, memory, seen)

    def _prefixed(self, bare: str, line: Reading, memory: Memory | None) -> Hit | None:
        """Judge a line with the rule's prefix before it."""
        prefix = self.rule.prefix
        text = prefix + bare.lstrip(" ")
        found = self._first(text)
        if found is None:
            return None
        narrowed = None if self._pref is None else self._pref(text)
        for match in (narrowed, found[1] if found[1].string is text else None):
            if match is not None and "mlfid" in match.re.groupindex:
                start, end = match.span("mlfid")
                if start >= 0 and end <= len(prefix):
                    memory = None  # the same for every connection: it joins nothing
        return self._weigh(found, (bare, line.whole), line.at, memory)

    def _wrapped(self, line: Reading, memory: Memory | None) -> Hit | None:
        """Judge a line as Docker's json-file driver writes it."""
        whole = wrap(line.whole[:-1], line.at, line.stream) + "\n"
        bare = cut(whole) if self._cut is None else self._undated(self._cut, whole)
        found = self._either(bare, whole)
        if found is None:
            return None
        return self._weigh(found, (bare, whole, line.whole), line.at, memory)

    def _scrolled(self, bare: str, line: Reading, memory: Memory) -> Hit | None:
        """Judge a line together with those before it."""
        scroll = memory.scroll(line.stream)
        text = scroll.add(bare)
        if self._keys and not any(map(text.__contains__, self._keys)):
            return None
        try:
            found = self._first(text)
        except Overdue:
            scroll.clear()  # else it would take as long with each line that follows
            raise
        if found is None:
            return None
        match = found[1]
        whole = match.string is text
        skipped = [match.span(name) for name in match.re.groupindex if _SKIPPED(name)]
        start, end = match.span() if whole else (0, len(text))
        lines = scroll.take(start, end, skipped if whole else [])
        # only those: whoever prints a line to be ignored hides nobody's lines behind it
        if self._ignores("\n".join(lines) + "\n"):
            return None
        return self._make(found, match.string, line.at, memory, lines=lines)

    def _either(self, bare: str, whole: str) -> _Found | None:
        """Find the first failregex that hits a text without its date, else with it."""
        found = self._first(bare)
        return self._first(whole) if found is None and bare != whole else found

    def _first(self, text: str) -> _Found | None:
        """Find the first failregex that hits `text`, or what the prefregex makes of it."""
        narrowed = None
        if self._pref is not None:
            try:
                narrowed = self._pref(text)
            except Overdue as overdue:
                overdue.regex = f"prefregex {_shorten(self.rule.prefregex, 0)}"
                raise
            if narrowed is None:
                return None
            content = narrowed["content"] if self._narrows else None
            if content:
                if self.rule.prefix and self._is_no_prefix(text[: narrowed.start("content")]):
                    return None
                text = content + "\n"
        hit = self._find(text)
        if hit is None:
            return None
        number, match = hit
        groups = match.groupdict()
        alternates = self._senses[number].alternates
        if alternates:
            _fill(groups, alternates)
        if narrowed is not None:
            if self._outer_alternates:
                self._add_outer(groups, narrowed)
            else:
                for name in self._outer:
                    if groups.get(name) is None:
                        groups[name] = narrowed[name]
        return number, match, groups

    def _add_outer(self, groups: dict[str, str | None], narrowed: re.Match[str]) -> None:
        """Add what the prefregex captured, or its alternates, and the failregex did not."""
        outer = narrowed.groupdict()
        _fill(outer, self._outer_alternates)
        for name, said in outer.items():
            if groups.get(name) is None:
                groups[name] = said

    def _is_no_prefix(self, before: str) -> bool:
        """
        Say whether a prefregex took a line's own first word for the host's name.

        syslog's prefix names the daemon or its process, at least. `input_userauth_request:
        invalid user NAME` begins with a word of the message, and NAME would stand where a
        message begins: a client would write it.
        """
        if "[" in before:
            return False
        word = before.strip()
        daemon = self.rule.prefix.partition("[")[0].strip()
        return _ONE_WORD(word) is not None and not word.startswith(daemon or word)

    def _undated(self, cut: Callable[[str], str], whole: str) -> str:
        """Cut the date out by the rule's own pattern."""
        try:
            return cut(whole)
        except Overdue as overdue:
            overdue.regex = f"datepattern {_shorten(self.rule.datepattern[0], 0)}"
            raise

    # What comes of it

    def _weigh(
        self,
        found: _Found,
        texts: Sequence[str],
        at: float,
        memory: Memory | None,
        seen: Seen | None = None,
    ) -> Hit | None:
        """Make of a match what it is, unless an ignoreregex hits a text that the line has."""
        if self._ignores(found[1].string, *texts):
            return None
        return self._make(found, texts[0], at, memory, seen)

    def _ignores(self, *texts: str) -> bool:
        for number, ignored in enumerate(self._ignore):
            try:
                if any(map(ignored, texts)):
                    return True
            except Overdue as overdue:
                source = _shorten(self.rule.ignoreregex[number], 0)
                overdue.regex = f"ignoreregex {number + 1} {source}"
                raise
        return False

    def _make(
        self,
        found: _Found,
        line: str,
        at: float,
        memory: Memory | None,
        seen: Seen | None = None,
        *,
        lines: tuple[str, ...] = (),
    ) -> Hit | None:
        """Make of a match what it is: a failure, nothing, or a part of something longer."""
        number, match, groups = found
        sense = self._senses[number]
        marked = sense.marks and (
            groups.get("nofail") or groups.get("mlfgained") or groups.get("mlfforget")
        )
        key = groups.get("mlfid")
        if memory is None or not key:
            if marked and (groups.get("nofail") or groups.get("mlfgained")):
                return None
        elif not (
            sense.alone
            and not marked
            and (groups.get("ip4") or groups.get("ip6"))
            and memory.alone(key, match, at)
        ):
            joined = memory.join(groups, line, at, match if sense.alone else None)
            if joined is None:
                return None
            hit = self._hit(number, self._joined, joined.groups, seen)
            if len(joined.users) > 1:
                names = ", ".join(sorted(joined.users))[:_LONGEST_FIELD]
                hit = hit._replace(fields={**hit.fields, "users": names})
            return hit._replace(lines=joined.lines) if len(joined.lines) > 1 else hit
        hit = self._hit(number, sense, groups, seen)
        return hit._replace(lines=lines) if len(lines) > 1 else hit

    def _hit(self, number: int, sense: _Sense, groups: Groups, seen: Seen | None) -> Hit:
        """Take the address and the fields out of what was captured."""
        get = groups.get
        fields: Mapping[str, str] = _NOTHING
        if sense.data:
            fields = captured = {}
            for name in sense.data:
                said = get(name)
                if said is not None:
                    captured[name] = said[:_LONGEST_FIELD]
        if seen is not None:
            if seen.user:
                fields = {"user": seen.user[:_LONGEST_FIELD], **fields}
            if self.rule.address:
                return Hit(
                    number, seen.address, fields, "" if seen.address is not None else seen.why
                )
        refused = written = ""
        prefix = get("cidr")
        for name in sense.whose:
            text = get(name)
            if not text:
                continue
            written = written or text
            if not prefix:
                who = address(text)
                if who is not None:
                    return _new(Hit, (number, who, fields, "", written, "", ()))
                refused = f"{text[:64]!r} is no address"
                continue
            whole = network(text, prefix)
            if whole is None:
                refused = f"{text[:64]!r} is no address"
            elif whole.prefixlen < _WIDEST[whole.version]:
                refused = f"{whole} is wider than one line may accuse"
            else:
                return Hit(number, whole, fields, written=written)
        host = get("dns") or ""
        if host:
            refused = f"{host[:64]!r} is a name; names are not resolved"
        why = refused or "the line has no address"
        return Hit(number, None, fields, why, written=written or host, name=host)


_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_ONE_WORD: Final = re.compile(r"[^\s\[\]]+").fullmatch
_PARTS: Final = ("alt_", "skiplines")
_SKIPPED: Final = re.compile(r"skiplines[0-9]+").fullmatch
_MARKS: Final = frozenset(("nofail", "mlfgained", "mlfforget"))

_new: Final = tuple.__new__
"""Makes a `Hit` in half the time that its own constructor takes: one for each line of an attack."""


def _accused(regex: re.Pattern[str]) -> tuple[str, ...]:
    """Return the groups for an address, if a regex has no other that matters to a failure."""
    names = set(regex.groupindex)
    if names <= _QUICK:
        return tuple(name for name in _ADDRESSES if name in names)
    return ()


def _sense(names: Sequence[str], outer: Sequence[str]) -> _Sense:
    """Tell what groups of these names are for, of failregexes and what is around them."""
    alternates = _alternates(names)
    others = _alternates(outer)
    every = dict.fromkeys((*outer, *names, *(meant for _, meant in (*others, *alternates))))
    return _Sense(
        whose=tuple(name for name in _ADDRESSES if name in every),
        data=tuple(n for n in every if n not in _NOT_DATA and not n.startswith(_PARTS)),
        alternates=alternates,
        marks=not _MARKS.isdisjoint(every),
        alone=not alternates and {*outer} <= {"mlfid", "content"},
    )


def _alternates(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return which of these groups stand in for which: `alt_user`, `alt_user_1` for a `user`."""
    found = []
    for name in sorted(name for name in names if name.startswith("alt_")):
        meant = re.sub(r"_?\d+\Z", "", name[4:])
        found.append((name, GROUPS.get(meant, meant)))
    return tuple(found)


def _fill(groups: dict[str, str | None], alternates: Iterable[tuple[str, str]]) -> None:
    """Have captures stand in for those that the line does not have."""
    for name, meant in alternates:
        if groups[name] and not groups.get(meant):
            groups[meant] = groups[name]


def _compile(kind: str, number: int, source: str, flags: int = 0) -> re.Pattern[str]:
    """Compile one regex, or say what is wrong with it and where; 0 is the only one of its kind."""
    if not source.strip():
        raise FilterError(f"{_which(kind, number)} is empty; write a regex or leave it out")
    expanded = None
    try:
        expanded = expand(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "possible nested set" helps nobody at run time
            compiled = re.compile(expanded.pattern, flags)
    except TagError as error:
        raise FilterError(_message(kind, number, source, error.at, str(error))) from None
    except re.error as error:
        raise FilterError(_explain(kind, number, source, expanded, error)) from None
    except (OverflowError, RecursionError, MemoryError):
        what = "it is too big or too deeply nested; write several failregexes"
        raise FilterError(_message(kind, number, source, 0, what)) from None
    if possessive.forgets(compiled.pattern):
        what = f"Python loses what is captured in a possessive repeat; {possessive.REMEDY}"
        raise FilterError(f"{_which(kind, number)} {_shorten(source, 0)}: {what}")
    return compiled


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


def _search(regex: re.Pattern[str]) -> Callable[[str], re.Match[str] | None]:
    """Return what finds the first match of `regex` in one line."""
    if begin(regex.pattern, regex.flags).anchored or absorbs(regex.pattern):
        return regex.match
    return regex.search


def _search_lines(regex: re.Pattern[str]) -> Callable[[str], re.Match[str] | None]:
    """Return what finds the first match of `regex` in several lines, each with its LF."""
    if not absorbs(regex.pattern):
        return regex.search

    def search(text: str) -> re.Match[str] | None:
        start = 0
        while start < len(text):
            found = regex.match(text, start)
            if found is not None:
                return found
            start = text.find("\n", start) + 1 or len(text)
        return None

    return search


def _require(rule: Rule, fail: Sequence[re.Pattern[str]], pref: re.Pattern[str] | None) -> None:
    """Refuse what can never match, or can say in no way whose failure it is."""
    if rule.structured and (rule.maxlines > 1 or rule.prefix):
        option = "maxlines" if rule.maxlines > 1 else "prefix"
        raise FilterError(f"{option} is for lines of text, and this reads fields; leave one out")
    if rule.prefix and rule.maxlines > 1:
        raise FilterError(
            "prefix is put before single lines, and maxlines looks at several; leave one out"
        )
    if rule.address and any(
        "mlfid" in regex.groupindex for regex in (*fail, *([pref] if pref else []))
    ):
        raise FilterError(
            "<F-MLFID> joins lines to find an address, and address names the field that has it; "
            "leave one out"
        )
    whose = bool(rule.address) or (pref is not None and not _WHOSE.isdisjoint(pref.groupindex))
    for number, (source, regex) in enumerate(zip(rule.failregex, fail, strict=True), start=1):
        if not whose and _WHOSE.isdisjoint(regex.groupindex):
            raise FilterError(
                f"failregex {number} {_shorten(source, 0)} has no address; "
                "write <HOST> where the address is"
            )
        if rule.maxlines == 1 and any(map(_SKIPPED, regex.groupindex)):
            raise FilterError(
                f"failregex {number} has <SKIPLINES> and sees one line at a time; "
                "write maxlines = 10, the number of lines that it is to see"
            )


def _message(kind: str, number: int, source: str, at: int, what: str) -> str:
    return f"{_which(kind, number)} {_shorten(source, at)}, position {at + 1}: {what}"


def _which(kind: str, number: int) -> str:
    return f"{kind} {number}" if number else kind


def _shorten(source: str, at: int, width: int = 60) -> str:
    """Quote at most `width` characters of `source`, those around `at`."""
    begin = max(0, min(at - width // 2, len(source) - width))
    end = begin + width
    head, tail = "..." if begin else "", "..." if end < len(source) else ""
    return f"{head}'{source[begin:end]}'{tail}"
