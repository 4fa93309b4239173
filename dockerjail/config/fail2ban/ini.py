"""
The text of one of fail2ban's files: bytes in, sections of raw values out. Pure.

The dialect is that of Python's configparser as fail2ban sets it up (established by running
fail2ban 1.0.2): `=` or `:` between key and value, keys in any case, `#` and `;` begin a
line of comment, ` ;` a comment behind a value, what is indented deeper than its key goes
on with it. What fail2ban dies of (a key or a section that stands twice, a line without
`=`, bytes that are no UTF-8) is a mistake of the section it stands in, and everything else
is read. A byte order mark is only remarked upon.

` ;` inside a regex is a trap: fail2ban cuts the regex there and says nothing. Where what
follows it looks like more of a failregex, ignoreregex or prefregex, the whole is kept, and
a remark says so; elsewhere it begins a comment, as for fail2ban.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dockerjail.config.fail2ban.mistakes import problem, where
from dockerjail.config.mistake import shown
from dockerjail.model import Problem

DEFAULT = "DEFAULT"
"""The section whose values hold in all others."""

REGEXES = frozenset({"failregex", "ignoreregex", "prefregex"})
"""Keys whose values are regexes, one per line."""

_HEADER = re.compile(r"\[(?P<name>.+)\]")
_ENTRY = re.compile(r"(?P<key>.*?)\s*[=:]\s*(?P<text>.*)", re.DOTALL)
_COMMENT = re.compile(r"(?<!\S);")
_MORE_REGEX = re.compile(r"\\.|</?[A-Z]|[.\])][*+?]|\(\?|\[\^|\$\s*\Z")
_UNDECODED = re.compile("[\udc80-\udcff]")
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A key with its raw value (lines joined by LF), and where it stands."""

    file: str
    line: int
    section: str
    key: str
    text: str

    @property
    def place(self) -> str:
        """Where an operator finds it."""
        return where(self.file, self.line, self.section, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """
    A section of one file.

    `mistakes` forbid to use it; `remarks` are what its author should know.
    """

    file: str
    line: int
    name: str
    entries: Mapping[str, Entry] = field(default_factory=dict)
    mistakes: tuple[Problem, ...] = ()
    remarks: tuple[Problem, ...] = ()

    @property
    def place(self) -> str:
        """Where an operator finds it."""
        return where(self.file, self.line, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ini:
    """One file; `problems` are those of the file as a whole."""

    file: str
    sections: Mapping[str, Section] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def parse(data: bytes, file: str) -> Ini:
    """Read the bytes of one file; `file` is how messages call it. Never raises."""
    return _Reader(file).read(data)


class _Reader:
    """What has been understood of one file so far."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._section: _Draft | None = None
        self._drafts: dict[str, _Draft] = {}
        self._indent = 0
        self._line = 0

    def read(self, data: bytes) -> Ini:
        problems = []
        if data.startswith(_MARK):
            data = data.removeprefix(_MARK)
            what = "begins with a byte order mark, of which fail2ban itself dies"
            problems.append(problem(self._file, what, "save it as UTF-8 without one"))
        text = data.decode("utf-8", errors="surrogateescape")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        for self._line, line in enumerate(text.split("\n"), start=1):
            self._take(line)
        sections = {name: draft.finished() for name, draft in self._drafts.items()}
        return Ini(file=self._file, sections=sections, problems=tuple(problems))

    def _take(self, line: str) -> None:
        stripped = line.strip()
        if stripped.startswith(("#", ";")):
            return
        if not stripped:
            if self._section is not None:
                self._section.blank()
            return
        if _UNDECODED.search(line):
            header = _HEADER.match(stripped)
            if header:
                self._open(_UNDECODED.sub("\ufffd", header["name"]))
            self._mistake("holds bytes that are no UTF-8", "save the file as UTF-8")
            return
        indent = len(line) - len(line.lstrip())
        if indent > self._indent and self._section is not None and self._section.key:
            self._section.go_on(self._uncommented(stripped, self._section.key))
            return
        self._indent = indent
        header = _HEADER.match(_COMMENT.split(stripped, maxsplit=1)[0].strip())
        if header:
            self._open(header["name"])
        else:
            self._set(stripped)

    def _open(self, name: str) -> None:
        known = self._drafts.get(name)
        if known is None:
            known = self._drafts[name] = _Draft(self._file, self._line, name)
        elif name != DEFAULT:
            what = f"stands here again, after line {known.line}"
            known.mistakes.append(
                problem(self._here(name), what, "write everything of it below one header")
            )
            # whose values would hold is nobody's guess: they are read for their mistakes
            known = _Draft(self._file, self._line, name, mistakes=known.mistakes)
        known.key = ""
        self._section = known

    def _set(self, line: str) -> None:
        found = _ENTRY.fullmatch(line)
        key = found["key"].strip().lower() if found else ""
        cut = self._uncommented(line, key)
        found = _ENTRY.fullmatch(cut)
        if found is None or not found["key"]:
            what = f"{shown(cut)} is neither KEY = VALUE nor a section"
            self._mistake(what, "write KEY = VALUE, or # before a comment")
            return
        if self._section is None:
            header = "Definition" if key in REGEXES else DEFAULT
            self._mistake(f"{shown(cut)} stands before any section", f"write [{header}] above it")
            return
        key = found["key"].strip().lower()
        former = self._section.entries.get(key)
        if former is not None:
            what = f"{key} stands here again, after line {former[0]}"
            self._mistake(what, "write it once, with all that it should be")
            return
        self._section.key = key
        self._section.entries[key] = (self._line, [found["text"].strip()])

    def _uncommented(self, line: str, key: str) -> str:
        """Return a line without the comment at its end."""
        begin = _COMMENT.search(line)
        if begin is None:
            return line
        rest = line[begin.end() :]
        if key in REGEXES and self._section is not None and _MORE_REGEX.search(rest):
            what = f"{key} holds ' ;': fail2ban cuts it there, here the whole regex is used"
            remedy = r"write \x3b or [;] for a semicolon behind a blank"
            self._section.remarks.append(problem(self._here(self._section.name), what, remedy))
            return line
        return line[: begin.start()].strip()

    def _mistake(self, what: str, remedy: str) -> None:
        if self._section is None:
            # what stands above every section was meant for all of them
            draft = self._drafts.setdefault(DEFAULT, _Draft(self._file, self._line, DEFAULT))
            draft.mistakes.append(problem(f"{self._file} line {self._line}", what, remedy))
        else:
            self._section.mistakes.append(problem(self._here(self._section.name), what, remedy))

    def _here(self, section: str) -> str:
        return where(self._file, self._line, section)


class _Draft:
    """A section while it is read; `key` is the one that a deeper line goes on with."""

    def __init__(
        self, file: str, line: int, name: str, *, mistakes: list[Problem] | None = None
    ) -> None:
        self.file = file
        self.line = line
        self.name = name
        self.key = ""
        self.entries: dict[str, tuple[int, list[str]]] = {}
        self.mistakes: list[Problem] = [] if mistakes is None else mistakes
        self.remarks: list[Problem] = []

    def blank(self) -> None:
        if self.key:
            self.entries[self.key][1].append("")

    def go_on(self, text: str) -> None:
        if text:
            self.entries[self.key][1].append(text)

    def finished(self) -> Section:
        entries = {
            key: Entry(
                file=self.file,
                line=line,
                section=self.name,
                key=key,
                text="\n".join(lines).rstrip(),
            )
            for key, (line, lines) in self.entries.items()
        }
        return Section(
            file=self.file,
            line=self.line,
            name=self.name,
            entries=entries,
            mistakes=tuple(self.mistakes),
            remarks=tuple(self.remarks),
        )
