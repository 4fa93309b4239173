"""`dockerjail status`: the operator's first command."""

import shlex
from typing import Any

from rich.text import Text

from dockerjail.cli import show
from dockerjail.cli.talk import Talk
from dockerjail.config.duration import format as duration
from dockerjail.escape import plain

Json = dict[str, Any]

SHOWN = 20
"""Bans that are shown of all, or of a jail; `dockerjail bans` shows them all."""


def overview(talk: Talk, *, json: bool) -> int:
    """Print what is going on; return 0, or 4 when something needs attention."""
    status = talk.status()
    if json:
        show.as_json(status)
    else:
        _head(status)
        show.problems(status["problems"])
        _containers(status["containers"])
        _jails(status["jails"])
        _bans(status["bans"], status["banned"] + status["observed"], "dockerjail bans")
    return 0 if status["ok"] else 4


def jail(talk: Talk, name: str, *, json: bool) -> int:
    """Print one jail: its rule, who is banned and the last lines that counted."""
    report = talk.jail(name)
    if json:
        show.as_json(report)
        return 0
    for each in report["jails"]:
        show.heading(each["name"])
        show.say(f"  rule       {_rule(each)}, defined by {each['defined_by']}")
        for regex in each["failregex"]:
            show.say(f"  failregex  {regex}")
        for what in each["looks_for"]:
            show.say(f"  looks for  {what}")
        _clients(each)
        why = f" ({each['scope']['why']})" if each["scope"] else ""
        show.say(f"  keeps from {_keeps_from(each)}{why}")
        show.say(f"  blocktype  {each['blocktype']}")
        show.say(
            f"  failures   {each['failures']} in all, failing now: {each['failing']}, "
            f"last {show.ago(each['last_failure_at'])}"
        )
        show.say(
            f"  bans       {each['bans']} in all, {each['banned']} now{_observed(each)}; they have "
            f"dropped {show.many(each['packets'], 'packet')} ({show.size(each['bytes'])})"
        )
        if each["overdue"]:
            lasting = duration(each["suspended"])
            show.say(
                f"  regexes    too slow for {show.many(each['overdue'], 'line')}; "
                f"{each['unjudged']} more passed while the jail was suspended"
                + (f"; suspended for {lasting} more" if each["suspended"] else "")
            )
        if each["mode"] == "observe":
            show.say("  mode       observe: nobody is blocked")
        if each["verify"] != "none":
            show.say(
                f"  verify     {each['verify']}; not banned since no connection was known: "
                f"{each['unverified']}"
            )
    _bans(report["bans"], len(report["bans"]), f"dockerjail bans --jail {shlex.quote(name)}")
    if report["last_failures"]:
        show.heading("Last failures")
        show.table(
            ["TIME", "ADDRESS", "CONTAINER", "LINE"],
            [
                (show.moment(f["at"]), f["address"], f["container"], f["line"])
                for f in report["last_failures"]
            ],
        )
    return 0


def _head(status: Json) -> None:
    count = len(status["problems"])
    verdict = (
        ("ok", "bold green")
        if status["ok"]
        else (f"DEGRADED: {show.many(count, 'thing')} to attend to", "bold red")
    )
    up = duration(status["uptime"])
    show.out.print(Text.assemble(f"dockerjail {plain(status['version'])}  ", verdict, f"  up {up}"))
    engine, kernel = status["engine"], status["kernel"]
    state = f"connected, version {engine['version']}" if engine["connected"] else "NOT CONNECTED"
    show.say(f"Engine   {state}")
    sync = "in sync" if kernel["in_sync"] else "NOT IN SYNC"
    if status["mode"] == "observe":
        sync = "NOTHING IS BLOCKED (mode observe)"
    mended = f", mended {show.many(kernel['healed'], 'time')}" if kernel["healed"] else ""
    show.say(
        f"Kernel   {sync}{mended}, table inet {kernel['table']}, {show.many(kernel['elements'], 'element')}, "
        f"{show.many(kernel['packets'], 'packet')} ({show.size(kernel['bytes'])}) dropped"
    )
    more = _observed(status)
    more += f", {show.many(status['allowed'], 'exception')} by allow" if status["allowed"] else ""
    show.say(f"Bans     {status['banned']} now, {status['bans_total']} in all{more}")


def _containers(containers: list[Json]) -> None:
    show.heading("Containers")
    if not containers:
        show.say("none opted in; give a container the label dockerjail.enable=true")
        return
    show.table(
        ["NAME", "STATE", "#LAG", "#LINES", "LAST LINE", "JAILS"],
        [
            (
                c["name"],
                c["state"]
                + (", over budget" if c["over_budget"] else "")
                + (f", {show.many(c['gaps'], 'gap')}" if c["gaps"] else ""),
                _lag(c["lag"]),
                str(c["lines"]),
                show.ago(c["last_line_at"]),
                ", ".join(c["jails"]),
            )
            for c in containers
        ],
    )


def _jails(jails: list[Json]) -> None:
    if not jails:
        return
    show.heading("Jails")
    show.table(
        ["JAIL", "RULE", "#FAILING", "#FAILURES", "#BANNED", "#BANS", "#DROPPED", "KEEPS FROM"],
        [
            (
                j["name"],
                _rule(j) + (", SUSPENDED" if j["suspended"] else ""),
                str(j["failing"]),
                str(j["failures"]),
                str(j["banned"]),
                str(j["bans"]),
                str(j["packets"]),
                _keeps_from(j),
            )
            for j in jails
        ],
    )


def _bans(newest: list[Json], count: int, command: str) -> None:
    """Show the newest of so many bans, and the command that shows all."""
    if not newest:
        return
    show.heading("Banned now")
    show.bans(newest[:SHOWN])
    if count > SHOWN:
        show.say(f"… and {count - SHOWN} more: {command}")


def _clients(jail: Json) -> None:
    """Say who is one client to a jail, and when it bans all of a network, if that is special."""
    widths = jail["ipv4_prefix"], jail["ipv6_prefix"]
    if widths != (32, 64):
        show.say("  client     a /{} of IPv4, a /{} of IPv6".format(*widths))
    if (asked := jail["aggregate"]) is not None:
        within = duration(asked["time"])
        show.say(
            f"  aggregate  {asked['addresses']} addresses of a /24 (IPv6: /48) in {within} "
            "ban all of it"
        )


def _observed(counted: Json) -> str:
    """Say how many bans are only recorded, if any."""
    return f", {counted['observed']} only observed" if counted["observed"] else ""


def _lag(lag: float | None) -> str:
    """Write a lag, rounded to what matters."""
    if lag is None:
        return "-"
    return f"{lag:.1f}s" if lag >= 0.1 else "0s"


def _rule(jail: Json) -> str:
    bantime = duration(jail["bantime"]) + (" and more" if jail["bantime_grows"] else "")
    return f"{jail['maxretry']} in {duration(jail['findtime'])}, ban {bantime}"


def _keeps_from(jail: Json) -> str:
    """Say from what a jail's bans keep out, or that they only would."""
    ports = show.ports(jail["scope"])
    return f"({ports}) observed only" if jail["mode"] == "observe" else ports
