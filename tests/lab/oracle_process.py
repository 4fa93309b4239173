"""
fail2ban's own matching and counting behind a pipe: requests in, answers out, JSON lines.

Started by `oracle.py` with the directory of fail2ban's modules; ends when its input
does. fail2ban asks the clock in several ways: all of them are set to what a request
says, and none moves by itself.
"""

import json
import logging
import sys
import time
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, sys.argv[1])

from fail2ban.client.filterreader import FilterReader
from fail2ban.server import jail as jails
from fail2ban.server import strptime, utils
from fail2ban.server.database import Fail2BanDb
from fail2ban.server.datedetector import DateDetector
from fail2ban.server.failmanager import FailManager, FailManagerEmpty
from fail2ban.server.filter import Filter
from fail2ban.server.mytime import MyTime
from fail2ban.server.observer import ObserverThread
from fail2ban.server.ticket import FailTicket

NOON = 1124013600
"""When fail2ban's own samples are read: 2005-08-14, 12:00 in Zurich."""

clock = {"now": float(NOON)}
filters: list[Filter] = []


def set_clock(now: float) -> None:
    clock["now"] = now
    MyTime.setTime(now)


def make(rule: dict[str, Any]) -> int:
    """Make a filter that has no jail, and no opinion on old lines."""
    each = Filter(None)
    each.checkFindTime = False
    each.setUseDns(rule.get("usedns", "raw"))
    each.returnRawHost = rule.get("usedns", "raw") == "raw"
    each.checkAllRegex = bool(rule.get("every"))
    if rule.get("prefregex"):
        each.prefRegex = rule["prefregex"]
    each.setMaxLines(int(rule.get("maxlines", 1)))
    for regex in rule.get("failregex", ()):
        each.addFailRegex(regex)
    for regex in rule.get("ignoreregex", ()):
        each.addIgnoreRegex(regex)
    if rule.get("datepattern"):
        each.setDatePattern("\n".join(rule["datepattern"]))
    filters.append(each)
    return len(filters) - 1


def patterns(number: int) -> list[str]:
    """Return a filter's failregexes with their tags replaced."""
    return list(filters[number].getFailRegex())


def named(etc: str, name: str, options: dict[str, str]) -> dict[str, Any]:
    """Read a filter of a configuration directory as the server would be told of it."""
    reader = FilterReader(name, "jail", options, basedir=etc, share_config={})
    reader.read()
    reader.getOptions({})
    rule: dict[str, Any] = {"failregex": [], "ignoreregex": [], "datepattern": []}
    for command in reader.convert():
        several = command[0] == "multi-set"
        for value in command[3] if several else [command[3]]:
            kind = command[2]
            if kind in ("addfailregex", "addignoreregex"):
                rule[kind[3:]].append(value)
            elif kind == "datepattern":
                rule[kind] += [line for line in value.split("\n") if line.strip()]
            elif kind in ("prefregex", "maxlines"):
                rule[kind] = value
    return rule


def plain(value: Any) -> Any:
    """Turn what fail2ban captured into what JSON can say."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, set):
        return sorted(map(str, value))
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return str(value)


def feed(number: int, lines: list[tuple[str, float, bool]]) -> list[dict[str, Any]]:
    """Show lines to a filter, each at its time; a line that is not dated is not searched for a date."""
    each = filters[number]
    answers = []
    for text, at, dated in lines:
        set_clock(at)
        found = each.processLine(text) if dated else each.processLine(("", "", text), at)
        hits = [
            {
                "regex": regex,
                "id": None if who is None else str(who),
                "groups": {
                    key: plain(value)
                    for key, value in groups.items()
                    if key not in ("matches", "nofail-matches")
                },
                "lines": ["".join(match[::2]) for match in groups.get("matches", ())],
            }
            for regex, who, _, groups in found
        ]
        answers.append({"hits": hits, "text": each.processedLine()})
    return answers


def dates(patterns: list[str], lines: list[str]) -> list[tuple[int, int] | None]:
    """Find the date in each line, by a detector that has seen no line before."""
    answers: list[tuple[int, int] | None] = []
    for line in lines:
        detector = DateDetector()
        for pattern in patterns:
            detector.appendTemplate(pattern)
        match, _ = detector.matchTime(line)
        answers.append(None if match is None else match.span(1))
    return answers


def count(maxretry: int, findtime: float, failures: list[tuple[str, float]]) -> list[bool]:
    """Count failures as a jail does; say of each whether it led to a ban."""
    manager = FailManager()
    manager.setMaxRetry(maxretry)
    manager.setMaxTime(findtime)
    answers = []
    for who, at in failures:
        set_clock(at)
        manager.cleanup(at)
        attempts = manager.addFailure(FailTicket(who, at))
        banned = False
        if attempts >= maxretry:
            try:
                banned = manager.toBan(who) is not None
            except FailManagerEmpty:
                banned = False
        answers.append(banned)
    return answers


class Idle(jails.Jail):
    """A jail that reads nothing, and is asked all the same."""

    def isAlive(self) -> bool:  # noqa: N802 - fail2ban's word
        return True


def grow(
    options: dict[str, Any], bantime: float, bans: list[str], earlier: int, chance: float
) -> list[float]:
    """
    Ban one id in the named jails, one ban after the other; say how long each lasts.

    Before, the first jail has banned it `earlier` times.
    """
    jails.random = SimpleNamespace(random=lambda: chance)
    observer = ObserverThread()
    database = Fail2BanDb(":memory:")
    every: dict[str, Idle] = {}
    answers = []

    def note(jail: Idle, at: int, count: int, length: float) -> None:
        ticket = FailTicket("192.0.2.1", at)
        ticket.setBanCount(count)
        ticket.setBanTime(length)
        database.addBan(jail, ticket)

    for name in bans:
        if name in every:
            continue
        jail = every[name] = Idle(name, "polling", database)
        database.addJail(jail)
        for option, value in options.items():
            jail.setBanTimeExtra(option, value)
    if earlier:
        note(every[bans[0]], NOON, earlier, bantime)
    for number, name in enumerate(bans, start=1):
        ticket = FailTicket("192.0.2.1", NOON + number)
        ticket.incrBanCount()  # as who hands out bans does
        length = observer.incrBanTime(every[name], bantime, ticket)
        answers.append(length)
        if number < len(bans):  # SQLite has no room for the longest
            note(every[name], NOON + number, ticket.getBanCount(), length)
    return answers


def answer(request: dict[str, Any]) -> Any:
    kind = request.pop("do")
    if kind == "forget":
        filters.clear()
        return None
    known = {
        "make": make,
        "patterns": patterns,
        "named": named,
        "feed": feed,
        "dates": dates,
        "count": count,
        "grow": grow,
    }
    return known[kind](**request)


def main() -> None:
    logging.disable(logging.CRITICAL)
    MyTime.setAlternateNow(NOON)
    set_clock(NOON)
    strptime._updateTimeRE()
    # what a connection is remembered by goes by this module's clock
    utils.time = SimpleNamespace(
        **{**vars(time), "time": lambda: clock["now"]}  # the rest is the real one
    )
    for line in sys.stdin:
        try:
            said = {"answer": answer(json.loads(line))}
        except Exception as error:  # noqa: BLE001 - whatever fail2ban raises is its answer
            said = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
