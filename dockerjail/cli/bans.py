"""`dockerjail bans`: who is banned now."""

from dockerjail.cli import show
from dockerjail.cli.talk import Talk


def bans(talk: Talk, *, json: bool) -> int:
    """Print the bans in force, the newest first."""
    report = talk.bans()
    if json:
        show.as_json(report)
    elif report["bans"]:
        show.bans(report["bans"])
    else:
        show.say("nobody is banned")
    return 0
