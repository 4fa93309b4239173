"""
Where in a TOML file a key stands, so that a message can say the line. Pure.

In: the text of a file that `tomllib` has read. Out: line numbers by path. `tomllib`
keeps none, so headers and keys are found again by their look; a key inside an inline
table or an array has none of its own and is found by the table it is in.
"""

import re
from collections.abc import Mapping

from dockerjail.escape import plain

Path = tuple[str, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_KEY})\s*\]")
_ASSIGN = re.compile(rf"\s*({_KEY})\s*=")
_QUOTES = re.compile(r'"""|' + "'''")


def lines(text: str) -> Mapping[Path, int]:
    """Return the line, counted from 1, of each table and key in `text`."""
    found: dict[Path, int] = {}
    table: Path = ()
    inside: str | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if inside is None:
            if header := _HEADER.match(line):
                path = table = _parts(header[1])
            elif assign := _ASSIGN.match(line):
                path = (*table, *_parts(assign[1]))
            else:
                path = ()
            for depth in range(1, len(path) + 1):
                found.setdefault(path[:depth], number)
        for quotes in _QUOTES.findall(line):
            if inside is None:
                inside = quotes
            elif inside == quotes:
                inside = None
    return found


def header(path: Path) -> str:
    """Return a path as a reader of the file knows it, in one line: `[jails.x] maxretry`, `docker`."""
    if len(path) == 1:
        return plain(path[0])
    quoted = [
        part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{plain(part)}"' for part in path
    ]
    depth = 2 if path[0] in ("jails", "filters", "containers") else 1
    return f"[{'.'.join(quoted[:depth])}] {'.'.join(quoted[depth:])}".rstrip()


def _parts(key: str) -> Path:
    return tuple(part.strip("\"'") for part in re.findall(_PART, key))
