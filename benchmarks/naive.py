"""
The plain way to do it: every line taken apart and shown to every failregex. To compare with.

The Engine's bytes in, failures counted. It knows frames, stamps, dates and addresses by public
names of dockerjail or by itself, and has none of its speed: no sieve, no chunks. Nor has it
its care: no line is too long, no regex takes too long, nobody is ignored. What looks at several
lines at once it leaves to dockerjail's own filter.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from benchmarks.ours import Counted
from dockerjail.jail.address import address
from dockerjail.jail.datecut import cut
from dockerjail.jail.datepattern import cutter
from dockerjail.jail.filter import Filter, read
from dockerjail.jail.memory import Memory
from dockerjail.jail.policy import JailPolicy
from dockerjail.jail.tags import expand

_HEADER = 8


class _Jail:
    """One jail's regexes and counters."""

    def __init__(self, policy: JailPolicy) -> None:
        rule = policy.rule
        self.maxretry = policy.maxretry
        self.findtime = policy.findtime
        self.pref = re.compile(expand(rule.prefregex).pattern) if rule.prefregex else None
        self.fail = [re.compile(expand(each).pattern) for each in rule.failregex]
        self.ignore = [re.compile(expand(each).pattern) for each in rule.ignoreregex]
        self.cut = cutter(rule.datepattern) if rule.datepattern else None
        self.counts: dict[object, list[float]] = {}
        self.scrolling = Filter(rule) if rule.maxlines > 1 else None
        self.memory = Memory(rule.maxlines)

    def judge(self, line: str, bare: str) -> str | None:
        """Return whose failure a line is."""
        if self.scrolling is not None:
            hit = self.scrolling.judge(read(line.removesuffix("\n")), self.memory)
            return None if hit is None else hit.written
        if self.cut is not None:
            bare = self.cut(line)
        for text in (bare,) if bare == line else (bare, line):
            outer: Mapping[str, str | None] = {}
            shown = text
            if self.pref is not None:
                narrowed = self.pref.search(text)
                if narrowed is None:
                    continue
                outer = narrowed.groupdict()
                if outer.get("content"):
                    shown = f"{outer['content']}\n"
            for regex in self.fail:
                match = regex.search(shown)
                if match is not None:
                    if any(each.search(text) for each in self.ignore):
                        return None
                    groups = {**outer, **match.groupdict()}
                    if groups.get("nofail") or groups.get("mlfgained"):
                        return None
                    for name in ("fid", "ip4", "ip6", "host"):
                        if groups.get(name):
                            return groups[name]
                    return None
        return None


class Naive:
    """The jails of one container."""

    def __init__(self, policies: Sequence[JailPolicy]) -> None:
        self.counted = Counted()
        self._jails = [_Jail(policy) for policy in policies]
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take one read."""
        counted = self.counted
        data = self._rest + data
        start = 0
        while start + _HEADER <= len(data):
            stop = start + _HEADER + int.from_bytes(data[start + 4 : start + _HEADER], "big")
            if stop > len(data):
                break
            stamp, _, line = data[start + _HEADER : stop].decode(errors="replace").partition(" ")
            start = stop
            bare = cut(line)
            for jail in self._jails:
                who = jail.judge(line, bare)
                if who is None:
                    continue
                found = address(who)
                if found is None:
                    continue
                at = datetime.fromisoformat(stamp).timestamp()
                counted.failures += 1
                times = [t for t in jail.counts.get(found, ()) if t > at - jail.findtime]
                times.append(at)
                jail.counts[found] = times
                if len(times) >= jail.maxretry:
                    del jail.counts[found]
                    counted.offences += 1
        self._rest = data[start:]
