"""`dockerjail allow`: whom no ban keeps out."""

from typing import Any

from dockerjail.cli import show
from dockerjail.cli.ban import verdict, warn
from dockerjail.cli.talk import Talk
from dockerjail.config.duration import format as duration

Json = dict[str, Any]


def add(talk: Talk, order: Json, *, json: bool) -> int:
    """Let somebody pass; return 4 when kernel or store do not know yet."""
    report = talk.allow(order)
    if json:
        show.as_json(report)
    else:
        allowed = report["allowed"]
        show.say(f"{_who(allowed)} is let pass {_end(allowed)}")
        for ended in report["bans"]:
            show.say(f"{ended['address']} is let in again (jail {ended['jail']})")
        warn(report)
    return verdict(report)


def remove(talk: Talk, who: str, *, json: bool) -> int:
    """Let somebody pass no more; return 4 when the store does not know yet."""
    report = talk.disallow(who)
    if json:
        show.as_json(report)
    else:
        show.say(f"{report['revoked']} is let pass no more")
        warn(report)
    return verdict(report)


def show_all(talk: Talk, *, json: bool) -> int:
    """Print whom operators let pass."""
    report = talk.allowed()
    if json:
        show.as_json(report)
    elif report["allowed"]:
        show.table(
            ["WHO", "SINCE", "LEFT", "COMMENT"],
            [
                (
                    _who(each),
                    show.moment(each["at"]),
                    "for good" if each["left"] is None else duration(each["left"]),
                    each["comment"],
                )
                for each in report["allowed"]
            ],
        )
    else:
        show.say("nobody is let pass by an operator's word; ignoreip is another matter")
    return 0


def _who(allowed: Json) -> str:
    """Write who it is, a name with what it stands for."""
    networks = ", ".join(allowed["networks"])
    return allowed["who"] if networks == allowed["who"] else f"{allowed['who']} ({networks})"


def _end(allowed: Json) -> str:
    return "for good" if allowed["left"] is None else f"for {duration(allowed['left'])}"
