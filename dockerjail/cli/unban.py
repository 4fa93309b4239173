"""`dockerjail unban`: let an address in again."""

from dockerjail.cli import show
from dockerjail.cli.ban import verdict, warn
from dockerjail.cli.talk import Talk


def unban(talk: Talk, address: str, jail: str | None, *, json: bool) -> int:
    """Have bans ended; return 4 when kernel or store do not know yet."""
    report = talk.unban(address, jail)
    if json:
        show.as_json(report)
    else:
        for ended in report["bans"]:
            is_ = "is let in again" if report["in_sync"] else "is to be let in again"
            show.say(f"{ended['address']} {is_} (jail {ended['jail']})")
        warn(report)
    return verdict(report)
