"""
The command line's front door: what can be said, and what the exit codes mean.

    0 ok   1 error   2 wrong usage   3 no daemon answers   4 works, but needs attention

Each verb's work is in its own file; heavy imports happen where they are needed,
since `status` is what people and health checks run most.
"""

import asyncio
from enum import IntEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dockerjail import __version__
from dockerjail.errors import DaemonUnreachable, DockerjailError

CODES = """
Exit codes: 0 ok, 1 error, 2 wrong usage, 3 no daemon answers, 4 works but something needs
attention.
"""


class Exit(IntEnum):
    """What a command's exit code says."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNREACHABLE = 3
    DEGRADED = 4


app = typer.Typer(
    name="dockerjail",
    help="Bans the addresses that misbehave in container logs." + CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"dockerjail {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="DOCKERJAIL_CONFIG",
        show_default="/etc/dockerjail/dockerjail.toml",
        help="The configuration file.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
JailOption = Annotated[str | None, typer.Option("--jail", "-j", help="The jail, such as flask.")]


@app.command()
def run(config: Config = None) -> None:
    """Run the daemon until SIGTERM."""
    from dockerjail.cli import run as verb

    _leave(verb.run(config))


@app.command()
def status(
    jail: Annotated[
        str | None, typer.Argument(metavar="JAIL", help="Only this jail, in detail.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """
    Show whether it works, what is followed, who is banned, what needs attention.

    Exits with 4 when something needs attention.
    """
    from dockerjail.cli import status as verb
    from dockerjail.cli.talk import Talk, socket_path

    talk = Talk(socket_path(config))
    _leave(verb.jail(talk, jail, json=json) if jail else verb.overview(talk, json=json))


@app.command()
def bans(jail: JailOption = None, config: Config = None, json: Json = False) -> None:
    """List the bans in force, in every jail or in one."""
    from dockerjail.cli import bans as verb
    from dockerjail.cli.talk import Talk, socket_path

    _leave(verb.bans(Talk(socket_path(config)), jail, json=json))


@app.command()
def ban(
    address: Annotated[
        str,
        typer.Argument(metavar="ADDRESS", help="An address, or a network such as 203.0.113.0/24."),
    ],
    bantime: Annotated[
        str | None,
        typer.Option(
            "--for",
            show_default="the jail's bantime, else 1h",
            help="How long: 10m, 1h, 1d12h, or -1 for good.",
        ),
    ] = None,
    ports: Annotated[
        str | None,
        typer.Option(
            show_default="the jail's, else everything",
            help="Only these host ports, such as 80,443/tcp.",
        ),
    ] = None,
    blocktype: Annotated[
        str | None,
        typer.Option(
            metavar="drop|reject",
            show_default="the jail's, else drop",
            help="Give no answer at all, or one that says no.",
        ),
    ] = None,
    jail: JailOption = None,
    reason: Annotated[str | None, typer.Option(help="Why, for whoever looks later.")] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also somebody in ignoreip or allowed; never this host."),
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """
    Ban an address by hand; an IPv6 address with its /64 unless a prefix is given.

    It takes the place of a ban by hand that is there. With --jail it is that jail's ban: from its
    ports, for its bantime, by its blocktype, and enforced also where that jail only observes. Addresses
    of this host, its gateways, name servers and the Engine's networks are refused.
    """
    from dockerjail.cli import ban as verb
    from dockerjail.cli.talk import Talk, socket_path

    order = {
        "address": address,
        "bantime": bantime,
        "ports": ports,
        "blocktype": blocktype,
        "jail": jail,
        "reason": reason,
        "force": force or None,
    }
    _leave(verb.ban(Talk(socket_path(config)), order, json=json))


@app.command()
def unban(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="An address or network.")],
    jail: JailOption = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """
    End the bans of an address, in every jail or in one.

    Also bans of networks that hold it, and of all that a network holds: 0.0.0.0/0 and ::/0 end all
    bans. To let in one address of a banned network use `dockerjail allow add`.
    """
    from dockerjail.cli import unban as verb
    from dockerjail.cli.talk import Talk, socket_path

    _leave(verb.unban(Talk(socket_path(config)), address, jail, json=json))


allow = typer.Typer(
    name="allow",
    help="Let somebody pass whatever a ban says: an address, a network, or a host's name.",
    no_args_is_help=True,
)
app.add_typer(allow)

Who = Annotated[
    str,
    typer.Argument(
        metavar="WHO", help="An address, a network such as 198.51.100.0/24, or a host's name."
    ),
]


@allow.command("add")
def allow_add(
    who: Who,
    lasting: Annotated[
        str | None,
        typer.Option("--for", show_default="for good", help="How long: 8h, 7d."),
    ] = None,
    comment: Annotated[str | None, typer.Option(help="Why, for whoever looks later.")] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """
    Let somebody pass from now on, and end his bans.

    The ban of a wider network stays for the rest of it. It outlives restarts. A name is looked up again and again; one that is there already gets the
    new end and comment. `ignoreip` in the configuration does the same for good.
    """
    from dockerjail.cli import allow as verb
    from dockerjail.cli.talk import Talk, socket_path

    order = {"who": who, "for": lasting, "comment": comment}
    _leave(verb.add(Talk(socket_path(config)), order, json=json))


@allow.command("remove")
@allow.command("rm", hidden=True)
def allow_remove(who: Who, config: Config = None, json: Json = False) -> None:
    """Let somebody pass no more, as written in `allow list`."""
    from dockerjail.cli import allow as verb
    from dockerjail.cli.talk import Talk, socket_path

    _leave(verb.remove(Talk(socket_path(config)), who, json=json))


@allow.command("list")
def allow_list(config: Config = None, json: Json = False) -> None:
    """List whom `allow add` lets pass."""
    from dockerjail.cli import allow as verb
    from dockerjail.cli.talk import Talk, socket_path

    _leave(verb.show_all(Talk(socket_path(config)), json=json))


@app.command()
def check(config: Config = None, json: Json = False) -> None:
    """
    Check the configuration, the running containers' labels, the sockets and the kernel.

    Changes nothing (to try the kernel it makes an empty table and removes it) and works with or
    without a running daemon. Exits with 1 when something keeps the daemon from working, 3 when
    none answers, 4 when something is left out.
    """
    from dockerjail.cli import check as verb

    _leave(asyncio.run(verb.check(config, json=json)))


@app.command(no_args_is_help=True)
def regex(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[LOG] FILTER [IGNOREREGEX]",
            help="LOG: a file, - for stdin, or a line. FILTER: a jail, a filter, name[mode=…], "
            "a .toml or .conf file, or a regex. With --container there is no LOG.",
        ),
    ],
    container: Annotated[
        str, typer.Option(help="Read the log of this container.", show_default=False)
    ] = "",
    since: Annotated[
        str, typer.Option(help="Only what it logged since then: 1h.", show_default=False)
    ] = "",
    tail: Annotated[
        int | None, typer.Option(min=1, help="Only the last so many lines of the container.")
    ] = None,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            show_default=False,
            help="Print only this of each match: id, ip, user, msg, row, a capture's name, "
            "or a text with tags: '<ip> <F-USER>'.",
        ),
    ] = "",
    all_matched: Annotated[bool, typer.Option("--print-all-matched")] = False,
    all_missed: Annotated[bool, typer.Option("--print-all-missed")] = False,
    all_ignored: Annotated[bool, typer.Option("--print-all-ignored")] = False,
    no_missed: Annotated[bool, typer.Option("--print-no-missed")] = False,
    no_ignored: Annotated[bool, typer.Option("--print-no-ignored")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say who each match was.")
    ] = False,
    datepattern: Annotated[
        str | None, typer.Option("--datepattern", "-d", help="What is cut out as the date.")
    ] = None,
    maxlines: Annotated[
        str | None, typer.Option("--maxlines", "-L", help="How many lines a regex sees at once.")
    ] = None,
    usedns: Annotated[
        str | None, typer.Option(help="no: a name in place of an address is a miss.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Put before a line that misses: 'sshd[1]: '.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="auto, text, json or logfmt.")
    ] = None,
    encoding: Annotated[str, typer.Option("--encoding", "-e", help="Of the file.")] = "utf-8",
    maxretry: Annotated[str | None, typer.Option(help="For the forecast: 5.")] = None,
    findtime: Annotated[str | None, typer.Option(help="For the forecast: 10m.")] = None,
    bantime: Annotated[str | None, typer.Option(help="For the forecast: 1h, -1 for good.")] = None,
    lint: Annotated[
        bool, typer.Option("--lint", help="Also look for what is wrong with the regexes.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """
    Try a filter on a log, as fail2ban-regex does, and foretell whom its jail would ban.

    Needs no daemon and changes nothing. Exits with 0 whatever was matched, 1 for a wrong filter
    or a log that cannot be read, 4 when --lint finds something.
    """
    from dockerjail.cli import regex as verb

    try:
        asked = verb.Asked(
            words=tuple(words),
            container=container,
            since=since,
            tail=tail,
            out=out,
            all_matched=all_matched,
            all_missed=all_missed,
            all_ignored=all_ignored,
            no_missed=no_missed,
            no_ignored=no_ignored,
            verbose=verbose,
            encoding=verb.encoding(encoding),
            rule=verb.changes(
                datepattern=datepattern,
                maxlines=maxlines,
                usedns=usedns,
                prefix=prefix,
                format=format_,
            ),
            numbers=verb.changes(maxretry=maxretry, findtime=findtime, bantime=bantime),
            json=json,
            lint=lint,
            config=config,
        )
        _leave(verb.regex(asked))
    except verb.WrongUsage as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def version(json: Json = False) -> None:
    """Print the version."""
    from dockerjail.cli import show

    if json:
        show.as_json({"version": __version__})
    else:
        show.say(f"dockerjail {__version__}")


def _leave(code: int) -> None:
    if code:
        raise typer.Exit(code)


def main() -> NoReturn:
    """Run the command line."""
    try:
        app(prog_name="dockerjail")
    except DockerjailError as error:
        fail(error)
    raise SystemExit(Exit.OK)


def fail(error: DockerjailError) -> NoReturn:
    """Say what is wrong, and exit with its code."""
    _say(error)
    raise SystemExit(
        Exit.UNREACHABLE if isinstance(error, DaemonUnreachable) else Exit.ERROR
    ) from None


def _say(error: Exception) -> None:
    from dockerjail.cli import show

    for line in str(error).splitlines():
        show.say(f"dockerjail: {line}", console=show.err)
