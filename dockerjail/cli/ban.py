"""`dockerjail ban`: keep an address out by hand."""

from typing import Any

from dockerjail.cli import show
from dockerjail.cli.talk import Talk
from dockerjail.config.duration import format as duration


def ban(talk: Talk, order: dict[str, Any], *, json: bool) -> int:
    """Have an address banned; return 4 when it is not enforced or not stored yet."""
    report = talk.ban(order)
    if json:
        show.as_json(report)
    else:
        for made in report["bans"]:
            end = "for good" if made["left"] is None else f"for {duration(made['left'])}"
            observed = made["mode"] == "observe"
            is_ = (
                "would be kept out of"
                if observed
                else "is kept out of"
                if report["in_sync"]
                else "is to be kept out of"
            )
            only = " (observed only)" if observed else ""
            show.say(f"{made['address']} {is_} {show.kept_out(made)} {end}{only}")
        warn(report)
    return verdict(report)


def warn(report: dict[str, Any]) -> None:
    """Say so when the kernel or the store has not taken an order over."""
    if not report.get("in_sync", True):
        show.say(
            f"noted, but the kernel may not do it yet; it is tried again by itself: {report['error']}",
            console=show.err,
        )
    if not report["stored"]:
        show.say(
            f"not stored yet, so a restart would forget it: {report['store_error']}",
            console=show.err,
        )


def verdict(report: dict[str, Any]) -> int:
    """Return the exit code for an order: 4 when something about it needs attention."""
    return 0 if report.get("in_sync", True) and report["stored"] else 4
