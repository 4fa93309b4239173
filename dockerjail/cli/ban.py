"""`dockerjail ban`: keep an address out by hand."""

from typing import Any

from dockerjail.cli import show
from dockerjail.cli.talk import Talk
from dockerjail.config.duration import format as duration


def ban(talk: Talk, order: dict[str, Any], *, json: bool) -> int:
    """Have an address banned; return 4 when the kernel does not enforce it yet."""
    report = talk.ban(order)
    if json:
        show.as_json(report)
    else:
        for made in report["bans"]:
            end = "for good" if made["left"] is None else f"for {duration(made['left'])}"
            observed = made["mode"] == "observe"
            is_ = "would be kept out of" if observed else "is kept out of"
            only = " (observed only)" if observed else ""
            show.say(f"{made['address']} {is_} {show.kept_out(made)} {end}{only}")
        warn(report)
    return 0 if report["in_sync"] else 4


def warn(report: dict[str, Any]) -> None:
    """Say so when the kernel has not taken an order over."""
    if not report["in_sync"]:
        show.say(f"stored, but the kernel is not in sync: {report['error']}", console=show.err)
