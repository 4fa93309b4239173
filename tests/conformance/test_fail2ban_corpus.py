"""
fail2ban 1.0.2's own samples: every line that must match does, with our reader and our filter.

The samples are those of the distribution's package, unpacked at test time
(`tests/lab/fail2ban.py`). Their format: a comment `failJSON: {...}` says what is expected
of the next line, `filterOptions: ...` with which options of the filter the lines behind
it are run (each set of options is a filter of its own, which remembers), `fileOptions`
what is added to all of them, `addFILE` which file follows. A line without a comment must
not match. No time is compared: the Engine's stamp is the time of a line here. Instead
the text that is left after the date was cut must be fail2ban's.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from dockerjail.config.fail2ban.read import Fail2ban
from dockerjail.jail.datepattern import cutter
from dockerjail.jail.filter import Filter, Hit, Reading, read
from dockerjail.jail.ignore import Ignore
from dockerjail.jail.jail import Jails
from dockerjail.jail.memory import Memory
from dockerjail.jail.policy import JailPolicy, Origin
from dockerjail.jail.rule import Rule
from dockerjail.model import Chunk, Container, Cursor, Failure, Stream, written
from tests.lab.fail2ban import Fail2banPackage
from tests.lab.oracle import NOON, Asked, Oracle
from tests.unit.engines import sieves

FILTERS = tuple(
    """
    3proxy apache-auth apache-badbots apache-botsearch apache-fakegooglebot apache-modsecurity
    apache-nohome apache-noscript apache-overflows apache-pass apache-shellshock assp asterisk
    bitwarden centreon counter-strike courier-auth courier-smtp cyrus-imap directadmin domino-smtp
    dovecot dropbear drupal-auth ejabberd-auth exim exim-spam freeswitch froxlor-auth gitlab grafana
    groupoffice gssftpd guacamole haproxy-http-auth horde kerio lighttpd-auth mongodb-auth monit
    monitorix mssql-auth murmur mysqld-auth nagios named-refused nginx-bad-request nginx-botsearch
    nginx-http-auth nginx-limit-req nsd openhab openwebmail oracleims pam-generic perdition
    php-url-fopen phpmyadmin-syslog portsentry postfix proftpd pure-ftpd qmail recidive roundcube-auth
    scanlogd screensharingd selinux-ssh sendmail-auth sendmail-reject sieve slapd softethervpn
    sogo-auth solid-pop3d squid squirrelmail sshd stunnel suhosin tine20 traefik-auth uwimap-auth
    vsftpd webmin-auth wuftpd xinetd-fail zoneminder znc-adminlog
""".split()  # noqa: SIM905 - a list of 89 lines
)
"""The names of the filters of fail2ban 1.0.2: one test each."""

STAMP = b"2026-11-22T10:52:40.409746684Z "
_DIRECTIVE = re.compile(r"#+ ?(failJSON|fileOptions|filterOptions|addFILE):(.+)")
_CAPTURED = ("user", "ip4", "ip6", "dns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line, run with one set of options. `journal`: it comes without a date."""

    place: str
    text: str
    options: Mapping[str, str]
    expected: Mapping[str, Any] = field(default_factory=dict)
    journal: bool = False

    @property
    def matches(self) -> bool:
        return bool(self.expected.get("match"))

    @property
    def key(self) -> str:
        """What makes it another filter, with a memory of its own."""
        return json.dumps(dict(self.options), sort_keys=True)

    def reading(self) -> Reading:
        if not self.journal:
            return read(self.text, NOON)
        whole = f"{self.text}\n"
        return Reading(whole, whole, NOON, Stream.STDOUT, bare=whole)


def _holds(expression: str | None, **names: object) -> bool:
    """Evaluate a condition of a sample: a small Python expression."""
    return not expression or bool(eval(expression, {"__builtins__": {}}, names))


def checks_of(logs: Path, name: str) -> Iterator[Check]:
    """Read the samples of a filter, in their order."""
    files = [name]
    shared: dict[str, str] = {}
    active: list[dict[str, str]] = [{}]
    for file in files:
        expected: dict[str, Any] | None = None
        skipping = False
        text = (logs / file).read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.split("\n"), start=1):
            said = _DIRECTIVE.match(line) if expected is None else None
            if said is not None:
                value = json.loads(said[2])
                match said[1]:
                    case "addFILE":
                        files.append(value)
                    case "fileOptions":
                        shared = value
                    case "failJSON":
                        expected = value
                    case "filterOptions":
                        sets = value if isinstance(value, list) else [value]
                        merged = [{**shared, **each} for each in sets]
                        active = [m for m in merged if _holds(m.get("test.condition"), name=name)]
                        skipping = not active
                        active = active or [{}]
                continue
            if expected is None and (line.startswith("#") or not line.strip()):
                continue
            what, expected = expected or {}, None
            if skipping:
                continue
            for options in active:
                if not _holds(what.get("constraint"), name=name, opts=options):
                    continue
                journal = options.get("logtype") == "journal"
                before = options.get("test.prefix-line", "") if journal else ""
                yield Check(
                    place=f"{file}:{number}",
                    text=before + line.rstrip("\r"),
                    options={k: v for k, v in options.items() if not k.startswith("test.")},
                    expected=what,
                    journal=journal,
                )


@pytest.fixture(scope="module")
def reader(fail2ban: Fail2banPackage) -> Fail2ban:
    found = Fail2ban.open(fail2ban.etc)
    assert found is not None
    return found


@pytest.fixture
def checks(samples: Path, name: str) -> list[Check]:
    return list(checks_of(samples, name))


def reference(name: str, options: Mapping[str, str]) -> str:
    """Write a filter with options as a jail does."""
    quoted = ", ".join(f'{key}="{value}"' for key, value in options.items())
    return f"{name}[{quoted}]" if options else name


def rules(reader: Fail2ban, name: str, checks: Sequence[Check]) -> dict[str, Rule]:
    """Return the rule of each set of options."""
    return {check.key: reader.rule(reference(name, check.options)) for check in checks}


def wrong(check: Check, hit: Hit | None) -> str:
    """Say what is wrong with what a line led to, if anything is."""
    if hit is None or not check.matches:
        return "" if (hit is not None) == check.matches else f"{hit}, expected {check.matches}"
    expected = check.expected
    host = expected.get("host")
    if host is not None:
        try:
            if hit.address != ip_address(host):
                return f"{hit.address}, expected {host}"
        except ValueError:
            # a name, or 192.030.0.6: found as it stands, and never banned
            if hit.written != host or hit.address is not None or not hit.why:
                return f"{hit.written!r} {hit.address}, expected {host!r}, not banned"
    seen: dict[str, Any] = {
        "user": hit.fields.get("user"),
        "ip4": hit.written if hit.address is None or hit.address.version == 4 else None,
        "ip6": hit.written if hit.address is None or hit.address.version == 6 else None,
        "dns": hit.name or None,
    }
    if hit.name:
        seen["ip4"] = seen["ip6"] = None
    for key in _CAPTURED:
        if key in expected and seen[key] != expected[key]:
            return f"{key} {seen[key]!r}, expected {expected[key]!r}"
    if "users" in expected:
        users = hit.fields.get("users", hit.fields.get("user", "")).split(", ")
        if set(users) != set(expected["users"]):
            return f"users {users}, expected {expected['users']}"
    if "attempts" in expected and expected["attempts"] != max(1, len(hit.lines)):
        return f"{len(hit.lines)} lines, expected {expected['attempts']}"
    return ""


def mistakes(checks: Sequence[Check], hits: Sequence[Hit | None]) -> list[str]:
    found = [(check, wrong(check, hit)) for check, hit in zip(checks, hits, strict=True)]
    return [f"{check.place} {check.key}: {what}" for check, what in found if what]


class _Judges:
    """A filter for each set of options, each with what it remembers."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.filters = {key: Filter(rule) for key, rule in rules.items()}
        self._memories = {key: Memory(rule.maxlines) for key, rule in rules.items()}

    def judge(self, check: Check) -> Hit | None:
        return self.filters[check.key].judge(check.reading(), self._memories[check.key])


@pytest.mark.parametrize("name", FILTERS)
def test_every_sample_is_judged_as_fail2ban_expects(
    name: str, reader: Fail2ban, checks: list[Check]
) -> None:
    judges = _Judges(rules(reader, name, checks))
    assert mistakes(checks, [judges.judge(check) for check in checks]) == []


@pytest.mark.parametrize("name", FILTERS)
def test_no_sample_that_must_match_is_held_back_by_the_sieve(
    name: str, reader: Fail2ban, checks: list[Check]
) -> None:
    judges = _Judges(rules(reader, name, checks))
    sifted = {key: tuple(sieves([each])) for key, each in judges.filters.items()}
    hits = []
    for check in checks:
        data = STAMP + check.text.encode() + b"\n"
        first, *others = (sieve.candidates(data) for sieve in sifted[check.key])
        assert all(each == first for each in others), check.place
        hits.append(judges.judge(check) if first else None)
    assert mistakes(checks, hits) == []


SIFTED = frozenset(FILTERS) - {"ejabberd-auth", "guacamole", "mongodb-auth", "slapd"}
"""All but those that see several lines at once."""


@pytest.mark.parametrize("name", sorted(SIFTED))
def test_a_stock_filter_is_not_shown_every_line(name: str, reader: Fail2ban) -> None:
    sieve = next(sieves([Filter(reader.rule(name))]))
    assert not sieve.always
    assert sieve.candidates(STAMP + b"nothing to see here\n") == []


def test_all_stock_filters_together_let_the_same_samples_through_with_every_engine(
    reader: Fail2ban, samples: Path
) -> None:
    data = b"".join(
        STAMP + check.text.encode() + b"\n"
        for name in FILTERS
        for check in checks_of(samples, name)
    )
    first, *others = sieves([Filter(reader.rule(name)) for name in sorted(SIFTED)])
    shown = first.candidates(data)
    assert len(shown) > 1000
    for sieve in others:
        assert sieve.candidates(data) == shown


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("name", FILTERS)
def test_a_jail_counts_the_same_failures_whatever_the_chunks(
    name: str, size: int, reader: Fail2ban, checks: list[Check]
) -> None:
    container = Container(id="4f" * 32, name="samples", service="samples")
    nobody = Ignore()  # loopback and the like, which no jail counts
    for key, rule in rules(reader, name, checks).items():
        policy = JailPolicy(
            name="samples",
            origin=Origin.DAEMON,
            rule=rule,
            maxretry=10_000,
            ipv4_prefix=32,
            ipv6_prefix=128,
        )
        bench = Jails().bench(container, [policy])
        assert bench.problems == ()
        lines = [check.text for check in checks if check.key == key]
        counted = []
        for start in range(0, len(lines), size):
            data = b"".join(STAMP + line.encode() + b"\n" for line in lines[start : start + size])
            chunk = Chunk(container=container, stream=Stream.STDOUT, data=data, cursor=Cursor(0, 1))
            for entry in bench.judge(chunk).entries:
                assert isinstance(entry, Failure)
                counted.append((written(entry.subject), entry.fields.get("user")))
        each, memory = Filter(rule), Memory(rule.maxlines)
        hits = [each.match(line, memory) for line in lines]
        assert counted == [
            (str(hit.address), hit.fields.get("user"))
            for hit in hits
            if hit is not None and hit.address is not None and nobody.why(hit.address) is None
        ]


@pytest.mark.parametrize("name", FILTERS)
def test_the_same_text_is_left_when_the_date_is_cut(
    name: str, fail2ban: Fail2banPackage, reader: Fail2ban, oracle: Oracle, checks: list[Check]
) -> None:
    for key, rule in rules(reader, name, checks).items():
        dated = [check for check in checks if check.key == key and not check.journal]
        options = json.loads(key)
        theirs = oracle.make(oracle.named(fail2ban.etc, name, options), every=True)
        judged = theirs.feed([Asked(check.text) for check in dated])
        cut = cutter(rule.datepattern)
        ours = [cut(f"{check.text}\n").removesuffix("\n") for check in dated]
        assert ours == [each.text for each in judged]


@pytest.mark.parametrize("name", FILTERS)
def test_fail2ban_asked_by_us_says_what_its_samples_say(
    name: str, fail2ban: Fail2banPackage, oracle: Oracle, checks: list[Check]
) -> None:
    theirs = {
        key: oracle.make(oracle.named(fail2ban.etc, name, json.loads(key)), every=True)
        for key in dict.fromkeys(check.key for check in checks)
    }
    for check in checks:
        (judged,) = theirs[check.key].feed([Asked(check.text, dated=not check.journal)])
        failures = [
            hit for hit in judged.hits if hit.id is not None and not hit.groups.get("nofail")
        ]
        assert len(failures) == check.matches, check.place


def test_no_filter_and_no_sample_is_left_out(samples: Path, reader: Fail2ban) -> None:
    assert sorted(FILTERS) == sorted(reader.filters)
    run = [check for name in FILTERS for check in checks_of(samples, name)]
    must = sum(check.matches for check in run)
    assert (len(run), must, len(run) - must) == (1381, 1135, 246)
