"""
fail2ban's own readers and ours, on the same files: the same jails come out.

The distribution's package is unpacked at test time (`tests/lab/fail2ban.py`).
"""

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dockerjail.config.fail2ban.mistakes import Fail2banError
from dockerjail.config.fail2ban.read import Fail2ban
from dockerjail.config.options import UNSAID, growth
from dockerjail.jail.growth import grown
from dockerjail.jail.rule import Rule
from dockerjail.model import Port
from tests.lab import fail2ban as lab
from tests.lab.oracle import Oracle

LETS_IN = {"pass2allow-ftp"}
"""A stock jail whose bans let in instead of keeping out: refused here."""

OPTIONS: tuple[Mapping[str, str], ...] = (
    {},
    *({"mode": mode} for mode in ("normal", "more", "ddos", "extra", "aggressive", "auth", "rbl")),
    *({"logtype": kind} for kind in ("file", "short", "journal", "rfc5424")),
    {"mode": "aggressive", "logtype": "journal", "publickey": "any", "failregex": "^own <HOST>$"},
    {"_daemon": "other", "__prefix_line": "<_daemon>:", "knocking_url": "/knock <mode>"},
    {"block": "/x|<known/block>", "maxlines": "7", "ignoreregex": "<HOST> ignored"},
)

OWN = {
    "jail.local": """
[INCLUDES]
before = own/names.conf
after = own/late.conf

[DEFAULT]
bantime = 1h
findtime = 1d12h
maxretry = %(own_retry)s
banaction = nftables-multiport
banaction_allports = nftables-allports
ignoreip = 127.0.0.1/8 ::1,
           192.0.2.0/24 home.example
bantime.factor = 2.0/2.885385
bantime.maxtime = 5w
bantime.overalljails = no

[sshd]
# aggressive, and with an option that the stock jail does not hand on
mode: aggressive
port = 22,2222 ; two of them
filter = %(__name__)s[mode=%(mode)s, publickey=invalid]
maxretry=4

[recidive]
maxretry = 3
bantime = 2w

[grow-doubling]
filter = own-percent
bantime.increment = true
bantime.maxtime =

[grow-by-formula]
filter = own-percent
bantime.increment = 1
bantime.formula = ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)
bantime.overalljails = on

[grow-by-multipliers]
filter = own-percent
bantime.increment = yes
bantime.multipliers = 1 5 30 60 300
bantime.factor = %(own_retry)s / 2
bantime.maxtime = 1d12h
bantime.rndtime = 30m

[grow-not]
filter = own-percent
bantime.increment = false
bantime.multipliers = 1 5

[nginx-http-auth]
failregex = %(known/failregex)s
            ^ own addition <HOST>$

            ^ after a blank line <HOST>
ignoreregex = ^ nothing of <HOST>
maxretry = %(default/maxretry)s
bantime = -1

[postfix]
mode = extra
port = smtp,submissions,1000:1003
banaction = iptables-multiport[blocktype=DROP]

[dovecot]
filter = dovecot[mode="aggressive"][logtype='journal']
action = %(action_)s
         %(mta)s-whois[name=%(__name__)s, dest="a@b.c, d@e.f"]
         nftables[type=allports, protocol="tcp,udp"]

[asterisk]
action_ = %(default/action_)s[name=%(__name__)s-both, protocol="tcp,udp"]
PORT = 5060:5061

[own-known]
port = 8080
known_extra = x
datepattern = ^%%Y-%%m-%%d
usedns = no

[own-nested]
filter = own-nested[kind=two,
    third="a,b [c]", empty=]
port = %(own_port)s
prefregex = ^own <F-CONTENT>.+</F-CONTENT>
maxlines = 3

[own-init]
filter = own-init[block="extra|<known/block>"]
banaction = %(banaction_allports)s

[own-both]
filter = own-both[failregex="^in brackets <HOST>"]
failregex = ^in the jail <HOST> <mode>
port = 1

[own-conditional]
action = own-conditional[port="1,2:3", protocol=udp]

[own-percent]
filter = own-percent[word="50%%"]
port = 2

[own-elsewhere]
port = %(sshd/port)s,%(own-known/port)s
mode = %(sshd/mode)s
findtime = %(late)s

[own-empty]
filter =
failregex = ^alone <HOST>
port = 3
""",
    "own/names.conf": """
[DEFAULT]
own_retry = 7
own_port = %(own_number)s
late = 5m
""",
    "own/names.local": "[DEFAULT]\nown_number = 4444\n",
    "own/late.conf": "[INCLUDES]\nbefore = names.conf\n[DEFAULT]\nlate = 6m\n",
    "jail.d/10-first.conf": "[own-known]\nport = 80\nenabled = true\n",
    "jail.d/20-second.conf": "[own-known]\nport = %(known/port)s,81\n[own-nested]\nmaxretry = 9\n",
    "jail.d/30-third.local": "[own-known]\nport = %(known/port)s,82\n",
    "filter.d/own-known.conf": r"""
[INCLUDES]
before = common.conf
[Definition]
_daemon = own
failregex = ^%(__prefix_line)sfirst <HOST>$
ignoreregex = ^ignored
maxlines = 2
datepattern = ^%%d/%%m
              {^LN-BEG}
""",
    "filter.d/own-known.d/a.conf": """
[Definition]
failregex = %(known/failregex)s
            ^second <HOST>
""",
    "filter.d/own-known.local": """
[Definition]
ignoreregex =
_daemon = renamed
""",
    "filter.d/own-nested.conf": """
[INCLUDES]
before = own-shared.conf
[Definition]
failregex = <re-<kind>>
            <shared/text>
            <Shared/text>
            ^%(shared/text)s <HOST>
            <known/nothing> <HOST> <deep-<deeper-<kind>>>
re-one = ^one <HOST>
re-two = ^two <third> <HOST>
         ^two again <kind> <HOST> <empty>
         <re-one>
deeper-two = 2
deep-2 = <third>
ignoreregex = <empty>
prefregex = ^never used
[shared]
text = own <__name__> %(inner)s
inner = <kind>
[Shared]
text = other case
""",
    "filter.d/own-shared.conf": """
[DEFAULT]
kind = one
inner = of default
[shared]
text = overridden
""",
    "filter.d/own-shared.local": "[DEFAULT]\nthird = of the local file\ninner = of the local one\n",
    "filter.d/own-init.conf": """
[Definition]
failregex = ^"(?:%(verb)s) /(?:<block>) <HOST>
            ^<kind>\\[%(__name__)s\\] <HOST>
verb = GET|POST
kind = of the definition
ignoreregex = ^<verb>
[Init]
block = admin|<verb>
kind = of init
maxlines = 4
""",
    "filter.d/own-init.local": "[Init]\nkind = of the local init %(block)s\n",
    "filter.d/own-both.conf": "[Definition]\nfailregex = ^in the filter <HOST>\nmode = m\n",
    "filter.d/own-conditional.conf": """
[Definition]
failregex = ^<HOST> <what>
[Init]
what = four
[Init?family=inet6]
what = six
""",
    "filter.d/own-percent.conf": "[Definition]\nfailregex = ^<word> 100%% %%(x)s <HOST>\nword = w\n",
    "filter.d/own-elsewhere.conf": "[Definition]\nfailregex = ^<HOST> <mode>$\nmode = none\n",
    "action.d/own-conditional.conf": """
[INCLUDES]
before = iptables.conf
[Definition]
type = multiport
[Init]
blocktype = DROP
[Init?family=inet6]
blocktype = DROP
""",
}


@pytest.fixture
def own(fail2ban: lab.Fail2banPackage, tmp_path: Path) -> Path:
    etc = tmp_path / "fail2ban"
    shutil.copytree(fail2ban.etc, etc)
    for name, text in OWN.items():
        path = etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return etc


def opened(etc: Path) -> Fail2ban:
    found = Fail2ban.open(etc)
    assert found is not None
    return found


def expected_rule(said: Mapping[str, Any]) -> dict[str, Any]:
    dates = (said.get("datepattern") or "").split("\n")
    return {
        "failregex": said["addfailregex"],
        "ignoreregex": said["addignoreregex"],
        "prefregex": said.get("prefregex") or "",
        "datepattern": [each for each in dates if each],
        "maxlines": said.get("maxlines", 1),
        "usedns": said.get("usedns", "no"),
    }


def as_said(rule: Rule) -> dict[str, Any]:
    return {
        "failregex": list(rule.failregex),
        "ignoreregex": list(rule.ignoreregex),
        "prefregex": rule.prefregex,
        "datepattern": list(rule.datepattern),
        "maxlines": rule.maxlines,
        "usedns": rule.usedns.value,
    }


def expected_ports(actions: Mapping[str, Mapping[str, str]]) -> set[Port] | None:
    """Return what the actions that fail2ban was given close; None is everything."""
    found: set[Port] = set()
    for name, options in actions.items():
        if not name.startswith(("iptables", "nftables", "own")):
            continue
        start = options["actionstart"]
        if "allports" in name or "-allports" in start or "meta l4proto" in start:
            return None
        for word in options["port"].split(","):
            first, _, last = word.partition(":")
            if word == "0:65535":
                return None
            for protocol in options["protocol"].split(","):
                numbers = [number(each, protocol) for each in (first, last or first)]
                found |= {
                    Port(each, "udp" if protocol == "udp" else "tcp")
                    for each in range(numbers[0], numbers[1] + 1)
                }
    return found


def number(word: str, protocol: str) -> int:
    return int(word) if word.isdigit() else socket.getservbyname(word, protocol)


def compare_jails(package: lab.Fail2banPackage, etc: Path) -> None:
    ours = opened(etc)
    (names,) = package.ask([("jails", "", {})], etc=etc)
    assert list(ours.jails) == names
    questions: list[tuple[str, str, Mapping[str, str]]] = [("jail", name, {}) for name in names]
    _, *answers = package.ask([("jails", "", {}), *questions], etc=etc)
    for name, said in zip(names, answers, strict=True):
        assert "error" not in said, name
        if name in LETS_IN:
            with pytest.raises(Fail2banError, match="let in instead of keeping out"):
                ours.jail(name)
            continue
        jail = ours.jail(name)
        assert {
            "maxretry": jail.maxretry,
            "findtime": jail.findtime,
            "bantime": -1 if jail.bantime is None else jail.bantime,
        } == {key: said[key] for key in ("maxretry", "findtime", "bantime")}, name
        assert [*map(str, jail.ignored.addresses), *jail.ignored.sources] == [
            {"127.0.0.1/8": "127.0.0.0/8", "::1": "::1/128"}.get(each, each)
            for each in said["addignoreip"]
        ]
        if jail.recidive:
            assert name == "recidive"  # its lines and ports are not needed
            continue
        ports = expected_ports(said["actions"])
        expected = expected_rule(said)
        if expected["usedns"] == "warn":
            expected["usedns"] = "no"  # jail.conf's own default, which nobody chose
        assert (name, as_said(jail.rule)) == (name, expected)
        assert (name, jail.everything) == (name, ports is None)
        assert (name, set(jail.ports or ())) == (name, ports or set())


def test_every_stock_jail_means_what_it_means_to_fail2ban(fail2ban: lab.Fail2banPackage) -> None:
    compare_jails(fail2ban, fail2ban.etc)


def test_every_stock_filter_means_what_it_means_to_fail2ban_with_any_options(
    fail2ban: lab.Fail2banPackage,
) -> None:
    ours = opened(fail2ban.etc)
    cases = [(name, options) for name in ours.filters for options in OPTIONS]
    answers = fail2ban.ask([("filter", name, options) for name, options in cases])
    compared = 0
    for (name, options), said in zip(cases, answers, strict=True):
        brackets = ", ".join(f'{key}="{value}"' for key, value in options.items())
        if "error" in said or not said["addfailregex"]:
            with pytest.raises(Fail2banError):
                ours.rule(f"{name}[{brackets}]")
            continue
        rule = ours.rule(f"{name}[{brackets}]")
        assert (name, options, as_said(rule)) == (name, options, expected_rule(said))
        compared += 1
    assert compared > 1000


def test_overrides_includes_and_tags_of_ones_own_mean_what_they_mean_to_fail2ban(
    fail2ban: lab.Fail2banPackage, own: Path
) -> None:
    compare_jails(fail2ban, own)


def test_bans_grow_by_what_fail2bans_readers_make_of_the_same_files(
    fail2ban: lab.Fail2banPackage, own: Path, oracle: Oracle
) -> None:
    ours = opened(own)
    names = [name for name in ours.jails if name.startswith("grow-")]
    questions: list[tuple[str, str, Mapping[str, str]]] = [("jail", name, {}) for name in names]
    _, *answers = fail2ban.ask([("jails", "", {}), *questions], etc=own)
    grew = {}
    for name, said in zip(names, answers, strict=True):
        given = {
            key.removeprefix("bantime."): value
            for key, value in said.items()
            if key.startswith("bantime.")
        }
        jail = ours.jail(name)
        assert bool(given.pop("increment")) is jail.growth["bantime.increment"]
        assert bool(given.get("overalljails")) is jail.growth["bantime.overalljails"]
        growing = growth(UNSAID, jail.growth)
        assert jail.bantime is not None
        lengths = []
        for earlier in (0, 1, 2, 3, 5, 19, 40):
            (theirs,) = oracle.grow(
                {"increment": True, **given}, jail.bantime, earlier=earlier, chance=0.5
            )
            lengths.append(grown(jail.bantime, growing, earlier, 0.5))
            assert lengths[-1] == pytest.approx(theirs), (name, earlier)
        grew[name] = lengths
    assert len(grew) == 4
    assert len({tuple(lengths) for lengths in grew.values()}) == 4
