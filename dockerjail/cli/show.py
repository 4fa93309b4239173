"""Tables and JSON: the control socket's values in, text for people or programs out."""

import json
import os
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dockerjail.config.duration import format as duration
from dockerjail.escape import plain

Json = dict[str, Any]

PIPED = 140
"""Columns of a table where there is no terminal, as under `docker exec` without -t."""


def _console(*, stderr: bool) -> Console:
    """Make a console; COLUMNS in the environment overrules both widths."""
    console = Console(highlight=False, soft_wrap=True, stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED
    return console


out = _console(stderr=False)
err = _console(stderr=True)


def as_json(value: Json) -> None:
    """Print a value as JSON, one document; what a terminal would obey is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def say(text: str, *, console: Console | None = None) -> None:
    """Print a line of text that others may have chosen a part of."""
    (console or out).print(Text(plain(text)))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings; numbers to the right where a heading starts with `#`."""
    view = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify = "right" if column.startswith("#") else "left"
        view.add_column(column.lstrip("#"), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        view.add_row(*(Text(plain(cell)) for cell in row))
    out.print(view)


def heading(text: str) -> None:
    """Print the title of a section."""
    out.print(Text.assemble("\n", (plain(text), "bold")))


def problems(found: Sequence[Json]) -> None:
    """Print what needs attention, each with its remedy."""
    if not found:
        return
    heading("Needs attention")
    for problem in found:
        out.print(
            Text.assemble(("! ", "bold yellow"), plain(f"{problem['place']}: {problem['what']}"))
        )
        if problem["remedy"]:
            out.print(Text(f"    {plain(problem['remedy'])}"))


def bans(found: Sequence[Json]) -> None:
    """Print a table of bans, with a note where there is something to say."""
    notes = any(map(note, found))
    table(
        ["ADDRESS", "JAIL", "SINCE", "LEFT", "KEPT OUT OF", "#FAILURES", "#DROPPED"]
        + ["NOTE"] * notes,
        [
            (
                ban["address"],
                ban["jail"],
                moment(ban["at"]),
                "for good" if ban["left"] is None else duration(ban["left"]),
                kept_out(ban),
                str(ban["failures"] or "-"),
                packets(ban),
                *([note(ban)] if notes else ()),
            )
            for ban in found
        ],
    )


def note(ban: Json) -> str:
    """Say what is special about a ban: a dry run, without effect, the operator's reason."""
    said = [
        "observed only" if ban["mode"] == "observe" else "",
        "" if ban["effective"] else "NOT EFFECTIVE",
        "forced" if ban["forced"] else "",
        ban["reason"],
    ]
    return ", ".join(word for word in said if word)


def packets(ban: Json) -> str:
    """Say how many packets a ban has dropped."""
    return "-" if ban["packets"] is None else f"{ban['packets']}"


def ports(scope: Json | None) -> str:
    """Say from what a scope keeps out."""
    if scope is None:
        return "-"
    if scope["ports"] is None:
        return "everything"
    return ", ".join([*scope["ports"], *scope["addresses"]]) or "nothing"


def kept_out(ban: Json) -> str:
    """Say from what a ban keeps out, and how if it answers."""
    return ports(ban["scope"]) + (" by reject" if ban["blocktype"] == "reject" else "")


def moment(at: float | None) -> str:
    """Write a time: the clock's today, the day before that."""
    if at is None:
        return "-"
    then = datetime.fromtimestamp(at).astimezone()
    today = datetime.fromtimestamp(time.time()).astimezone().date()
    return f"{then:%H:%M:%S}" if then.date() == today else f"{then:%Y-%m-%d %H:%M}"


def ago(at: float | None) -> str:
    """Write how long ago something was."""
    return "-" if at is None else f"{duration(max(0, round(time.time() - at))) or '0s'} ago"


def many(count: int, what: str) -> str:
    """Write a number of things: `1 ban`, `2 bans`."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def size(count: int) -> str:
    """Write a number of bytes."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError
