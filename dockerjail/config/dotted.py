"""
`bantime.increment` and its kin as TOML may write them: tables in, options by name out. Pure.

In TOML a dotted key is a table, `bantime.increment = true` as well as `[jails.x.bantime]`;
in fail2ban's files, in labels and here it is the name of an option. The bantime itself, for
which such a table leaves no room, is its key `time`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dockerjail.config.places import Path

TABLE: Final = "bantime"
_SELF: Final = "time"
_LINE = re.compile(r"""\s*(?:(?P<quote>["']?)bantime(?P=quote)\s*[.=]|\[[^]]*\.\s*bantime\s*\])""")


def flattened(tree: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Return a file's tree with the options of `[defaults]` and jails by name, and what stands twice."""
    found = dict(tree)
    twice: list[Path] = []
    for path in tuple(_tables(tree)):
        above: dict[str, Any] = found
        for part in path[:-1]:
            above[part] = dict(above[part])
            above = above[part]
        above[path[-1]] = _options(above[path[-1]], path, twice)
    return found, tuple(twice)


def _tables(tree: Mapping[str, Any]) -> Iterator[Path]:
    """Yield where options of a jail stand."""
    if isinstance(tree.get("defaults"), dict):
        yield ("defaults",)
    jails = tree.get("jails")
    if isinstance(jails, dict):
        yield from (("jails", name) for name, table in jails.items() if isinstance(table, dict))


def _options(table: Mapping[str, Any], path: Path, twice: list[Path]) -> dict[str, Any]:
    inner = table.get(TABLE)
    if not isinstance(inner, dict):
        return dict(table)
    found = {option: value for option, value in table.items() if option != TABLE}
    for key, value in inner.items():
        option = TABLE if key == _SELF else f"{TABLE}.{key}"
        if option in found:
            twice.append((*path, option))
        found[option] = value
    return found


def beside(line: str) -> bool:
    """Say whether a line that TOML refuses sets the bantime or something of it."""
    return _LINE.match(line) is not None
