"""`dockerjail bans`: who is banned now."""

from dockerjail.cli import show
from dockerjail.cli.talk import Talk


def bans(talk: Talk, jail: str | None = None, *, json: bool) -> int:
    """Print the bans in force, in one jail or in all, the newest first."""
    report = talk.bans(jail)
    if json:
        show.as_json(report)
    elif report["bans"]:
        show.bans(report["bans"])
    else:
        show.say("nobody is banned" + (f" by jail {jail}" if jail else ""))
    return 0
