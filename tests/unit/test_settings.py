"""Promises of the daemon's file and environment, and of their mistakes."""

import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.config import settings as module
from dockerjail.config.dotted import flattened
from dockerjail.config.filters import FilterText, Shipped
from dockerjail.config.jails import read as read_jails
from dockerjail.config.labels import LabelPolicy
from dockerjail.config.options import FILE
from dockerjail.config.places import lines
from dockerjail.config.policies import policies
from dockerjail.config.settings import Settings, load
from dockerjail.errors import ConfigError
from dockerjail.jail.formula import Formula
from dockerjail.jail.growth import Growth
from dockerjail.jail.policy import Aggregate, JailPolicy, Origin, ScopeKind, Verify
from dockerjail.jail.rule import NOTHING, Rule
from dockerjail.model import Blocktype, Container, Mode, Port, Stream

ROOT = Path(__file__).parents[2]


class Desk:
    """A place to write a settings file and read it back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, text: str, **environ: str) -> Settings:
        self.path.write_text(text, encoding="utf-8")
        return load(self.path, environ)

    def mistakes(self, text: str, **environ: str) -> str:
        with pytest.raises(ConfigError) as caught:
            self.load(text, **environ)
        return str(caught.value).replace(str(self.path), "FILE")

    def problems(self, text: str, **environ: str) -> str:
        found = self.load(text, **environ)
        return "\n".join(map(str, found.problems)).replace(str(self.path), "FILE")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "dockerjail.toml")


@pytest.fixture(autouse=True)
def _no_file_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_PATH", tmp_path / "absent.toml")


def test_without_file_and_environment_the_defaults_hold() -> None:
    found = load(None, {})
    assert found.source is None
    assert found.docker.host == "unix:///var/run/docker.sock"
    assert found.docker.label_prefix == "dockerjail"
    assert found.docker.labels is LabelPolicy.DEFINE
    assert found.docker.lookback is None
    assert found.store.path == Path("/var/lib/dockerjail/dockerjail.sqlite3")
    assert found.store.keep == 90 * 86400
    assert found.store.max_size == 1024**3
    assert found.control.socket == Path("/run/dockerjail/control.sock")
    assert found.firewall.table == "dockerjail"
    assert found.firewall.mode is Mode.ENFORCE
    assert found.firewall.owner is False
    assert (found.budget.bans_per_minute, found.budget.active) == (200, 5000)
    assert found.log.level == "INFO"
    assert (found.defaults.maxretry, found.defaults.findtime, found.defaults.bantime) == (
        5,
        600,
        600,
    )
    assert found.defaults.ignoreip == ()
    assert found.problems == ()


def test_settings_cannot_be_changed() -> None:
    found = load(None, {})
    with pytest.raises(ValueError, match="frozen"):
        found.docker.host = "x"
    with pytest.raises(AttributeError):
        found.docker = found.docker  # type: ignore[misc]


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(desk: Desk) -> None:
    found = desk.load(
        "[docker]\nlabels = 'select'\nlookback = '1h'\n[defaults]\nmaxretry = 3\nbantime = -1\n",
        DOCKERJAIL_DOCKER__LABELS="tune",
        DOCKERJAIL_DEFAULTS__IGNOREIP="10.0.0.0/8 192.0.2.1",
        DOCKERJAIL_LOG__LEVEL="Debug",
    )
    assert found.source == desk.path
    assert found.docker.labels is LabelPolicy.TUNE
    assert found.docker.lookback == 3600
    assert desk.load("[docker]\nlookback = 'findtime'\n").docker.lookback is None
    assert found.docker.label_prefix == "dockerjail"
    assert found.defaults.maxretry == 3
    assert found.defaults.bantime is None
    assert found.defaults.ignoreip == (ip_network("10.0.0.0/8"), ip_network("192.0.2.1"))
    assert found.log.level == "DEBUG"


def test_the_engine_is_the_files_then_docker_host_then_the_usual_socket(desk: Desk) -> None:
    text = "[docker]\nhost = 'tcp://[::1]:2375'\n"
    assert desk.load(text, DOCKER_HOST="unix:///x").docker.host == "tcp://[::1]:2375"
    assert desk.load("", DOCKER_HOST="unix:///x").docker.host == "unix:///x"
    assert desk.load("", DOCKER_HOST="").docker.host == "unix:///var/run/docker.sock"


def test_a_variable_that_is_empty_is_not_set(desk: Desk) -> None:
    assert desk.load("", DOCKERJAIL_DOCKER__LABELS="", DOCKERJAIL_CONFIG="").problems == ()


def test_the_file_may_be_named_by_the_environment(desk: Desk) -> None:
    desk.path.write_text("[log]\nlevel = 'error'\n", encoding="utf-8")
    assert load(None, {"DOCKERJAIL_CONFIG": str(desk.path)}).log.level == "ERROR"


def test_the_usual_file_is_read_where_there_is_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.path.write_text("[log]\nlevel = 'error'\n", encoding="utf-8")
    monkeypatch.setattr(module, "DEFAULT_PATH", desk.path)
    assert load(None, {}).log.level == "ERROR"


# What is wrong for all


def test_a_named_file_that_is_missing_is_a_mistake(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    for path, environ in ((missing, {}), (None, {"DOCKERJAIL_CONFIG": str(missing)})):
        with pytest.raises(ConfigError, match=r"none\.toml: there is no such file; write it, or"):
            load(path, environ)


def test_a_directory_in_the_files_place_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load(tmp_path, {})


def test_a_file_that_is_not_text_is_a_mistake(desk: Desk) -> None:
    desk.path.write_bytes(b"[docker]\nhost = '\xff'\n")
    with pytest.raises(ConfigError, match=r"is not UTF-8 \(byte 18\); save it as UTF-8"):
        load(desk.path, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[docker]\nlabels tune\n", "FILE: is not TOML at line 2 column 8: Expected '='"),
        ("[docker\n", "FILE: is not TOML at line 1 column 8: Expected ']'"),
        ("[docker]\nhost = 'x\n", "FILE: is not TOML"),
        ("[log]\n[log]\n", "FILE: is not TOML at line 2 column 5: Cannot declare"),
        ("x = [", "FILE: is not TOML: "),
        ("x = " + "9" * 5000, "FILE: is not TOML: "),
        ("x = " + "[" * 5000, "FILE: is not TOML: "),
    ],
)
def test_broken_toml_is_answered_with_line_and_column(desk: Desk, text: str, message: str) -> None:
    assert desk.mistakes(text).startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "[defaults]\nbantime = '1h'\nbantime.increment = true\n",
        "[defaults]\nbantime.increment = true\nbantime = '1h'\n",
        "[jails.sshd]\nbantime = '1h'\n[jails.sshd.bantime]\nincrement = true\n",
    ],
)
def test_a_dotted_key_beside_bantime_is_answered_with_quotes(desk: Desk, text: str) -> None:
    assert desk.mistakes(text).endswith(
        'write "bantime.increment" with its quotes beside bantime: '
        "without them TOML takes bantime for a table"
    )


def test_what_is_said_in_quotes_and_in_a_table_too_stands_twice(desk: Desk) -> None:
    assert desk.mistakes(
        "[jails.sshd]\n'bantime.increment' = true\n[jails.sshd.bantime]\nincrement = false\n"
    ).startswith('FILE line 2, [jails.sshd] "bantime.increment": stands twice; leave one out')


def test_a_regex_in_double_quotes_is_answered_with_single_quotes(desk: Desk) -> None:
    found = desk.mistakes('[jails.a]\nfailregex = "^\\d+ <HOST>"\n')
    assert "FILE: is not TOML at line 2 column" in found
    assert found.endswith("write an expression in single quotes: '…'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[docker]\n'\t' = 1", r'[docker] "\t": is no setting'),
        ("'\t' = 1", r"FILE line 1, \t: is no section"),
        ('"\\u001b[2J" = 1', r"FILE, \x1b[2J: is no section"),
    ],
)
def test_a_key_that_a_terminal_would_obey_is_told_escaped(desk: Desk, text: str, said: str) -> None:
    assert said in desk.mistakes(text)


def test_a_name_that_a_terminal_would_obey_is_told_escaped(desk: Desk) -> None:
    assert r'[containers."w\t"] format:' in desk.problems("[containers.'w\t']\nformat = 'x'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dockre]\n", "FILE line 1, dockre: is no section known here; write docker"),
        ("[jail.x]\nmaxretry = 3\n", "FILE line 1, jail: is no section known here; write jails"),
        (
            "\nbantime = 3\n",
            "FILE line 2, bantime: stands in no section; write it under [defaults]",
        ),
        (
            "[docker]\nlable_prefix = 'x'\n",
            "FILE line 2, [docker] lable_prefix: is no setting known here; write label_prefix",
        ),
        (
            "[store]\nzzz = 1\n",
            "[store] zzz: is no setting known here; known: keep, max_size, path",
        ),
        ("docker = 5\n", "FILE line 1, docker: 5 is no section; write [docker] on a line of its"),
        ("[[docker]]\n", "FILE line 1, docker: a list is no section"),
        ("jails = 5\n", "FILE line 1, jails: 5 is no section; write [jails] on a line of its own"),
        (
            "[defaults]\nmaxretry = 'five'\n",
            "FILE line 2, [defaults] maxretry: 'five' is not a whole number; write a whole number",
        ),
        (
            "[defaults]\nbantime = 2026-01-01\n",
            "FILE line 2, [defaults] bantime: a date is no duration; write a duration such as",
        ),
        (
            "[defaults]\nignoreip = ['1.2.3']\n",
            "FILE line 2, [defaults] ignoreip: '1.2.3' is neither an address nor a network, and no",
        ),
        ("[defaults]\nipv4_prefix = 33\n", "ipv4_prefix: 33 is no prefix length from 1 to 32"),
        ("[defaults]\nblocktype = 'accept'\n", "[defaults] blocktype: 'accept' is none of drop"),
        (
            "[defaults]\nbantime.formula = 'exec(1)'\n",
            "FILE line 2, [defaults] \"bantime.formula\": 'exec'(…) may not be called; write one of",
        ),
        (
            "[defaults]\n'bantime.incremnt' = true\n",
            '"bantime.incremnt": is no setting known here; write bantime.increment',
        ),
        (
            "[defaults.bantime]\nincrement = 'perhaps'\n",
            "FILE line 2, [defaults] \"bantime.increment\": 'perhaps' is neither true nor false",
        ),
        ("[defaults]\nignoreip = [true]\n", "true cannot stand in a list here"),
        (
            "[docker]\nlabels = 'defien'\n",
            "[docker] labels: 'defien' is none of define, off, select, tune; write define",
        ),
        ("[docker]\nlabels = false\n", "[docker] labels: false is not a text"),
        ("[docker]\nlookback = '-1'\n", "[docker] lookback: '-1' is less than nothing"),
        ("[docker]\nlabel_prefix = 'a.'\n", "[docker] label_prefix: 'a.' is no prefix of a label"),
        (
            "[docker]\nhost = '/run/docker.sock'\n",
            "'/run/docker.sock' has no scheme; write unix:///run/docker.sock",
        ),
        ("[docker]\nhost = 'tcp://engine'\n", "has no port; write tcp://engine:2375"),
        ("[docker]\nhost = 'ssh://engine:22'\n", "is no address of an Engine; write unix:///var"),
        ("[docker]\nhost = 'tcp://engine:x'\n", "is no address of an Engine"),
        ("[docker]\nhost = 'unix://run/docker.sock'\n", "is no address of an Engine"),
        ("[store]\npath = 'data.sqlite3'\n", "'data.sqlite3' is no absolute path; write the whole"),
        ("[control]\nsocket = '/" + "x" * 107 + "'\n", "is longer than 107 bytes, the kernel's"),
        ("[firewall]\ntable = 'a b'\n", "[firewall] table: 'a b' is no name of a table"),
        ("[firewall]\nmode = 'dry'\n", "[firewall] mode: 'dry' is none of enforce, observe; write"),
        ("[firewall]\nowner = 'perhaps'\n", "owner: 'perhaps' is neither true nor false"),
        ("[budget]\nactive = -1\n", "[budget] active: -1 is less than 0; write a whole number"),
        ("[log]\nlevel = 'INF'\n", "'INF' is none of debug, error, info, warning; write info"),
    ],
)
def test_a_wrong_setting_is_answered_with_its_place_and_what_to_write(
    desk: Desk, text: str, message: str
) -> None:
    found = desk.mistakes(text)
    assert message in found
    assert "\n" not in found


@pytest.mark.parametrize(
    "host",
    [
        *("tcp://admin:s3cret@proxy:2375", "https://s3cret@proxy", "tcp://admin:s3cret@proxy:x"),
        *("tcp://admin:/s3cret@proxy:2375", "http://admin:s3cret@[proxy"),
    ],
)
def test_a_password_in_the_engines_address_is_refused_and_not_repeated(
    desk: Desk, host: str
) -> None:
    for found in (
        desk.mistakes(f"[docker]\nhost = '{host}'\n"),
        desk.mistakes("", DOCKER_HOST=host),
    ):
        assert "holds a name or a password" in found
        assert "s3cret" not in found


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DOCKERJAIL_DOCKER__LABLES", "tune", ": is no setting; write DOCKERJAIL_DOCKER__LABELS"),
        ("DOCKERJAIL_DOCKER_HOST", "x", ": is no setting; write DOCKERJAIL_DOCKER__HOST"),
        ("DOCKERJAIL_LOGLEVEL", "x", ": is no setting; write DOCKERJAIL_LOG__LEVEL"),
        ("DOCKERJAIL_CONFIGS", "x", ": is no setting; write DOCKERJAIL_CONFIG"),
        ("DOCKERJAIL_LOG", "x", ": is no setting; write one of DOCKERJAIL_LOG__LEVEL"),
        ("DOCKERJAIL_JAILS__A", "x", ": is no setting; write DOCKERJAIL_JAILS__NAME__OPTION"),
        ("DOCKERJAIL_", "x", ": is no setting; write DOCKERJAIL_SECTION__OPTION with a section of"),
        ("DOCKERJAIL_XYZ__QQQ__A", "x", "with a section of budget, control, defaults, docker, "),
        ("DOCKERJAIL_DEFAULTS__MAXRETRY", "five", ": 'five' is not a whole number; write a whole"),
        (
            "DOCKERJAIL_DEFAULTS__BANTIME_INCREMNT",
            "true",
            ": is no setting; write DOCKERJAIL_DEFAULTS__BANTIME_INCREMENT",
        ),
        ("DOCKERJAIL_DEFAULTS__BANTIME_RNDTIME", "soon", ": 'soon' is no duration; write a"),
        ("DOCKERJAIL_Log__Level", "loud", ": 'loud' is none of debug, error, info, warning"),
        ("DOCKER_HOST", "ssh://x", ": 'ssh://x' is no address of an Engine; write unix:///var/run"),
    ],
)
def test_a_wrong_variable_is_named_as_it_was_written(
    desk: Desk, variable: str, value: str, message: str
) -> None:
    found = desk.mistakes("", **{variable: value})
    assert found.startswith(f"environment variable {variable}{message}") or (
        found.startswith(f"environment variable {variable}: ") and message in found
    )
    assert "\n" not in found


def test_all_mistakes_are_told_at_once_one_to_a_line(desk: Desk) -> None:
    found = desk.mistakes(
        "[docker]\nlabels = 'x'\n[defaults]\nmaxretry = 0\nfindtime = 'soon'\n"
        "[jails.a]\nfailregex = 'no address'\n[unknown]\n",
        DOCKERJAIL_LOG__LEVL="x",
        DOCKER_HOST="ssh://x",
    ).split("\n")
    assert len(found) == 7
    for part in ("[docker] labels", "maxretry", "findtime", "unknown", "LEVL", "DOCKER_HOST"):
        assert sum(part in line for line in found) == 1, part
    assert any("[jails.a] failregex" in line for line in found)


def test_mistakes_in_the_environment_are_told_even_if_the_file_is_broken(desk: Desk) -> None:
    found = desk.mistakes("[", DOCKERJAIL_LOG__LEVL="x")
    assert "FILE: is not TOML" in found
    assert "DOCKERJAIL_LOG__LEVL" in found


def test_with_labels_off_it_is_said_that_nothing_is_followed(desk: Desk) -> None:
    assert desk.problems("[docker]\nlabels = 'off'\n") == (
        "FILE line 2, [docker] labels: labels are not read, so no container is followed; "
        "write labels = 'select', 'tune' or 'define', or [containers.\"NAME\"] jails = [...]"
    )
    found = desk.problems("", DOCKERJAIL_DOCKER__LABELS="off")
    assert found.startswith("environment variable DOCKERJAIL_DOCKER__LABELS: labels are not read")


# Jails and filters


def test_a_jail_of_the_file_has_all_its_options_and_else_the_defaults(desk: Desk) -> None:
    found = desk.load(
        """
        [defaults]
        maxretry = 4
        findtime = "2m"
        ignoreip = "192.0.2.1"
        [jails.a]
        failregex = '''
            ^a <HOST>
            ^b <HOST>
        '''
        [jails.b]
        failregex = ['^b <HOST>']
        ignoreregex = 'healthcheck'
        maxretry = 3
        findtime = 60
        bantime = -1
        ignoreip = ['10.0.0.0/8', '192.0.2.1']
        ports = [80, '53/udp']
        scope = 'host'
        stream = 'stderr'
        """
    )
    assert found.problems == ()
    assert found.jails["a"] == JailPolicy(
        name="a",
        origin=Origin.DAEMON,
        rule=Rule(failregex=("^a <HOST>", "^b <HOST>")),
        maxretry=4,
        findtime=120.0,
        ignoreip=(ip_network("192.0.2.1"),),
    )
    assert found.jails["b"] == JailPolicy(
        name="b",
        origin=Origin.DAEMON,
        rule=Rule(failregex=("^b <HOST>",), ignoreregex=("healthcheck",)),
        maxretry=3,
        findtime=60.0,
        bantime=None,
        ignoreip=(ip_network("192.0.2.1"), ip_network("10.0.0.0/8")),
        ports=(Port(80), Port(53, "udp")),
        scope=ScopeKind.HOST,
        streams=frozenset({Stream.STDERR}),
    )


def test_ignoreip_holds_names_and_files_beside_addresses(desk: Desk) -> None:
    found = desk.load(
        """
        [defaults]
        ignoreip = ["192.0.2.1", "home.example.org", "file:/absent/friends"]
        [jails.a]
        failregex = '^a <HOST>'
        ignoreip = "db, file:/absent/friends 198.51.100.0/24"
        """
    )
    assert found.problems == ()
    assert found.defaults.ignoreip == (ip_network("192.0.2.1"),)
    assert found.defaults.ignorefrom == ("home.example.org", "file:/absent/friends")
    jail = found.jails["a"]
    assert jail.ignoreip == (ip_network("192.0.2.1"), ip_network("198.51.100.0/24"))
    assert jail.ignorefrom == ("home.example.org", "file:/absent/friends", "db")
    assert found.jails["sshd"].ignorefrom == found.defaults.ignorefrom


def test_a_budget_of_nothing_is_no_limit(desk: Desk) -> None:
    found = desk.load("[budget]\nbans_per_minute = 0\n", DOCKERJAIL_BUDGET__ACTIVE="0")
    assert (found.budget.bans_per_minute, found.budget.active) == (0, 0)


def test_a_dry_run_of_everything_is_one_word(desk: Desk) -> None:
    assert desk.load("[firewall]\nmode = 'observe'\n").firewall.mode is Mode.OBSERVE
    assert desk.load("", DOCKERJAIL_FIREWALL__MODE="Observe").firewall.mode is Mode.OBSERVE
    assert desk.load("[firewall]\nowner = true\n").firewall.owner is True


def test_defaults_hold_for_every_jail_that_says_nothing_else(desk: Desk) -> None:
    found = desk.load(
        """
        [defaults]
        blocktype = "reject"
        ipv4_prefix = 28
        ipv6_prefix = 56
        aggregate = 10
        mode = "observe"
        verify = "conntrack"
        "bantime.increment" = true
        "bantime.maxtime" = "1w"
        [jails.a]
        failregex = '^a <HOST>'
        blocktype = "drop"
        ipv4_prefix = 32
        ipv6_prefix = 128
        aggregate = "off"
        mode = "enforce"
        verify = "none"
        "bantime.increment" = false
        """
    )
    assert found.problems == ()
    growth = Growth(maxtime=7 * 86400.0)
    sshd = found.jails["sshd"]
    assert (sshd.blocktype, sshd.ipv4_prefix, sshd.ipv6_prefix) == (Blocktype.REJECT, 28, 56)
    assert (sshd.aggregate, sshd.mode) == (Aggregate(addresses=10, time=3600.0), Mode.OBSERVE)
    assert (sshd.verify, sshd.growth) == (Verify.CONNTRACK, growth)
    assert found.jails["a"] == JailPolicy(
        name="a",
        origin=Origin.DAEMON,
        rule=Rule(failregex=("^a <HOST>",)),
        ipv6_prefix=128,
    )


@pytest.mark.parametrize(
    "text",
    [
        '[jails.sshd]\nbantime = "1h"\n"bantime.increment" = true\n"bantime.maxtime" = "1w"\n',
        '[jails.sshd]\nbantime.time = "1h"\nbantime.increment = true\nbantime.maxtime = "1w"\n',
        '[jails.sshd.bantime]\ntime = "1h"\nincrement = true\nmaxtime = "1w"\n',
        '[jails.sshd]\nbantime = {time = "1h", increment = true, maxtime = "1w"}\n',
        '[defaults.bantime]\ntime = "1h"\nmaxtime = "1w"\n[jails.sshd]\nbantime.increment = true\n',
    ],
)
def test_growing_bans_may_be_written_as_toml_likes_it(desk: Desk, text: str) -> None:
    found = desk.load(text)
    assert found.problems == ()
    assert found.jails["sshd"].bantime == 3600.0
    assert found.jails["sshd"].growth == Growth(maxtime=7 * 86400.0)


def test_growing_bans_may_be_variables_over_the_file(desk: Desk) -> None:
    found = desk.load(
        "[defaults.bantime]\ntime = '1h'\nfactor = 2\n[jails.a-b.bantime]\nrndtime = '1m'\n"
        "[jails.a-b]\nfailregex = '<HOST> x'\n",
        DOCKERJAIL_DEFAULTS__BANTIME_INCREMENT="true",
        DOCKERJAIL_DEFAULTS__BANTIME="2h",
        DOCKERJAIL_JAILS__A_B__BANTIME_MULTIPLIERS="1 5",
    )
    jail = found.jails["a-b"]
    assert (jail.bantime, jail.growth) == (
        7200.0,
        Growth(factor=2.0, multipliers=(1.0, 5.0), rndtime=60.0),
    )


def test_how_bans_grow_says_nothing_without_increment_and_waits_for_it(desk: Desk) -> None:
    found = desk.load(
        """
        [defaults]
        "bantime.factor" = "6.0 / 2"
        "bantime.formula" = "ban.Time * (ban.Count + 1)"
        [jails.sshd]
        "bantime.decay" = "30d"
        """
    )
    assert found.problems == ()
    assert found.jails["sshd"].growth is None
    assert found.defaults.dormant == Growth(
        factor=3.0, formula=Formula("ban.Time * (ban.Count + 1)")
    )
    assert found.jails.dormant("sshd") == replace(found.defaults.dormant, decay=30 * 86400.0)
    assert found.jails.dormant("postfix-sasl") == found.defaults.dormant


def test_a_formula_that_may_not_be_takes_only_its_jail_out(desk: Desk) -> None:
    found = desk.load(
        "[jails.sshd]\n'bantime.formula' = '().__class__'\n[jails.postfix-sasl]\nmaxretry = 1\n"
    )
    (problem,) = found.problems
    assert str(problem).startswith(f'{desk.path} line 2, [jails.sshd] "bantime.formula": ')
    assert "().__class__" in problem.what
    assert problem.remedy.startswith("write ")
    assert "sshd" not in found.jails
    assert found.jails["postfix-sasl"].maxretry == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bantime = '3 fortnights'", "bantime: '3 fortnights' is no duration: 'fortnights' is no"),
        ("ipv4_prefix = 33", "ipv4_prefix: 33 is no prefix length from 1 to 32; write 32 for"),
        ("ports = '80-'", "ports: '80-' is no port; write ports such as 80, 443/tcp, 51820/udp"),
        ("aggregate = '1 in 1h'", "aggregate: '1 in 1h': the addresses are a number from 2 to 256"),
        ("mode = 'dry'", "mode: 'dry' is none of enforce, observe"),
        ("verify = true", "verify: true is not a text; write it in quotes"),
        ("ignoreip = 'file:friends'", "ignoreip: 'file:friends' is no file with an absolute path"),
        (
            "bantime.incremnt = true",
            '"bantime.incremnt": is no option known here; write bantime.in',
        ),
        ("bantime.increment.x = true", '"bantime.increment": a table is neither true nor false'),
    ],
)
def test_a_wrong_option_of_a_jail_is_answered_with_its_place_and_what_to_write(
    desk: Desk, line: str, message: str
) -> None:
    found = desk.problems(f"[jails.sshd]\n{line}\n")
    assert found.startswith("FILE line 2, [jails.sshd] ")
    assert message in found


# Recidive


def test_recidive_is_known_without_a_filter_and_counts_a_day_for_a_week(desk: Desk) -> None:
    found = desk.load("[defaults]\nmaxretry = 3\nfindtime = '1m'\nbantime = '1m'\n")
    jail = found.jails["recidive"]
    assert jail.recidive
    assert (jail.origin, jail.rule, jail.scope) == (Origin.SHIPPED, NOTHING, ScopeKind.AUTO)
    assert (jail.maxretry, jail.findtime, jail.bantime) == (3, 86400.0, 7 * 86400.0)
    assert found.recidive is None
    assert found.filters.get("recidive") is None


def test_recidive_written_in_the_file_counts_for_the_whole_host(desk: Desk) -> None:
    found = desk.load("[jails.recidive]\nmaxretry = 2\nbantime = -1\n")
    jail = found.jails["recidive"]
    assert (jail.origin, jail.recidive, jail.maxretry) == (Origin.DAEMON, True, 2)
    assert (jail.findtime, jail.bantime, jail.scope) == (86400.0, None, ScopeKind.AUTO)
    assert found.recidive == replace(jail, scope=ScopeKind.HOST)
    assert desk.load("", DOCKERJAIL_JAILS__RECIDIVE__ENABLED="true").recidive is not None


def test_recidive_can_be_taken_away_everywhere(desk: Desk) -> None:
    found = desk.load("[jails.recidive]\nenabled = false\n")
    assert found.recidive is None
    assert "recidive" not in found.jails
    assert "is disabled at" in found.withheld["recidive"]


@pytest.mark.parametrize("line", ["failregex = '^x <HOST>'", "filter = 'sshd'", "where = 'a=b'"])
def test_recidive_reads_no_lines_whoever_writes_it(desk: Desk, line: str) -> None:
    found = desk.load(f"[jails.recidive]\n{line}\n")
    (problem,) = found.problems
    assert "counts the bans of other jails" in problem.what
    assert problem.remedy == "leave it out, or give the jail another name"
    assert (found.recidive, "recidive" in found.jails) == (None, False)


def test_a_wrong_recidive_is_told_and_does_not_run(desk: Desk) -> None:
    found = desk.load("[jails.recidive]\nmaxretry = 0\n")
    assert "[jails.recidive] maxretry: 0 is less than 1" in str(found.problems[0])
    assert found.recidive is None


def test_nothing_of_recidive_has_failures_kept_any_longer(desk: Desk) -> None:
    assert desk.load("[jails.recidive]\nfindtime = '60d'\n").jails.longest_findtime == 600.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[store]\nkeep = '7d'\n[jails.recidive]\nfindtime = '30d'\n",
            "FILE line 4, [jails.recidive] findtime: 30d is longer than bans are remembered: 7d",
        ),
        (
            "[defaults]\nbantime.increment = true\nbantime.decay = '1y'\n[jails.sshd]\nmaxretry=3\n",
            'FILE line 3, [defaults] "bantime.decay": 365d6h is longer than bans are remembered: 90d',
        ),
        (
            "[jails.sshd.bantime]\nincrement = true\ndecay = '91d'\n",
            'FILE line 3, [jails.sshd] "bantime.decay": 91d is longer than bans are remembered: 90d',
        ),
    ],
)
def test_who_wants_to_know_of_bans_that_are_forgotten_by_then_is_told(
    desk: Desk, text: str, message: str
) -> None:
    found = desk.problems(text)
    assert found.startswith(f"{message}, by keep under [store]; write keep = ")
    assert "\n" not in found


def test_a_decay_that_says_nothing_is_no_problem(desk: Desk) -> None:
    assert desk.load("[defaults]\n'bantime.decay' = '1y'\n[store]\nkeep = '1h'\n").problems == ()


def test_a_filter_of_the_file_is_a_jail_of_its_name_too(desk: Desk) -> None:
    found = desk.load("[filters.f]\nfailregex = '^f <HOST>'\n[defaults]\nmaxretry = 2\n")
    assert found.filters["f"].rule.failregex == ("^f <HOST>",)
    assert found.jails["f"].rule.failregex == ("^f <HOST>",)
    assert found.jails["f"].maxretry == 2
    assert found.jails["f"].origin is Origin.DAEMON


def test_a_jail_uses_the_filter_of_its_own_name_or_another(desk: Desk) -> None:
    found = desk.load(
        "[filters.f]\nfailregex = '^f <HOST>'\nignoreregex = '^i'\n"
        "[jails.f]\nmaxretry = 3\n"
        "[jails.g]\nfilter = 'f'\nignoreregex = ''\n"
        "[jails.h]\nfilter = 'f'\nfailregex = '^h <HOST>'\n"
    )
    assert found.problems == ()
    assert (found.jails["f"].rule.failregex, found.jails["f"].maxretry) == (("^f <HOST>",), 3)
    assert (found.jails["g"].rule.failregex, found.jails["g"].rule.ignoreregex) == (
        ("^f <HOST>",),
        (),
    )
    assert (found.jails["h"].rule.failregex, found.jails["h"].rule.ignoreregex) == (
        ("^h <HOST>",),
        ("^i",),
    )


def test_a_jail_may_stand_wholly_in_the_environment(desk: Desk) -> None:
    found = desk.load("", DOCKERJAIL_JAILS__Web_Login__FAILREGEX="^a <HOST>\n^b <HOST>")
    assert found.jails["web_login"].rule.failregex == ("^a <HOST>", "^b <HOST>")


def test_a_variable_finds_the_jail_whose_name_a_shell_cannot_write(desk: Desk) -> None:
    found = desk.load(
        "[jails.Web-login]\nfailregex = '^a <HOST>'\nmaxretry = 9\n",
        DOCKERJAIL_JAILS__WEB_LOGIN__MAXRETRY="3",
    )
    assert found.jails["Web-login"].maxretry == 3
    assert "web_login" not in found.jails


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("maxretry = 'five'", "FILE line 3, [jails.a] maxretry: 'five' is not a whole number; "),
        ("bantime = 'x'", "FILE line 3, [jails.a] bantime: 'x' is no duration; write a duration"),
        (
            "maxretri = 3",
            "FILE line 3, [jails.a] maxretri: is no option known here; write maxretry",
        ),
        ("enabled = 'maybe'", "[jails.a] enabled: 'maybe' is neither true nor false; write true"),
        (
            "failregex = 'x'",
            "FILE line 3, [jails.a] failregex: failregex 1 'x' has no address; write",
        ),
        (
            "failregex = '(<HOST>'",
            "[jails.a] failregex: failregex 1 '(<HOST>', position 1: missing )",
        ),
        ("failregex = []", "[jails.a] failregex: is empty; write an expression with <HOST>"),
        ("failregex = 5", "[jails.a] failregex: 5 is no expression; write a text, or a list"),
        ("failregex = [5]", "[jails.a] failregex: 5 is no expression; write it in single quotes"),
        ("ignoreregex = '('\nfailregex = '<HOST>'", "[jails.a] ignoreregex: ignoreregex 1 '('"),
        ("filter = 'sdhs'", "FILE line 3, [jails.a] filter: there is no filter 'sdhs'"),
        ("filter = 'god'", "[jails.a] filter: there is no filter 'god'; write good"),
        ("filter = 'bad'", "[jails.a] filter: its filter is left out for a mistake at FILE line"),
        (
            "maxretry = 3",
            "FILE line 2, [jails.a]: has neither filter nor failregex; write filter =",
        ),
    ],
)
def test_a_wrong_jail_is_left_out_and_the_others_run(desk: Desk, text: str, message: str) -> None:
    text = (
        f"# the file\n[jails.a]\n{text}\n[filters.bad]\nfailregex = 'x'\n"
        "[filters.good]\nfailregex = '^g <HOST>'\n[jails.b]\nfailregex = '^b <HOST>'\n"
    )
    problems = desk.problems(text)
    assert message in problems
    assert len(problems.split("\n")) == 2, "and the filter"
    found = load(desk.path, {})
    assert "a" not in found.jails
    assert {"b", "good"} <= {*found.jails}
    assert found.withheld["a"].startswith("is left out for a mistake at ")


def test_a_wrong_option_in_the_environment_is_that_jails_mistake(desk: Desk) -> None:
    text = "[jails.a]\nfailregex = '^a <HOST>'\n"
    problems = desk.problems(text, DOCKERJAIL_JAILS__A__MAXRETRY="five")
    assert problems.startswith("environment variable DOCKERJAIL_JAILS__A__MAXRETRY: 'five' is not")
    problems = desk.problems(text, DOCKERJAIL_JAILS__A__MAXRETRI="5")
    assert problems.endswith(
        "DOCKERJAIL_JAILS__A__MAXRETRI: is no option known here; write maxretry"
    )


def test_a_jail_that_is_no_table_is_left_out(desk: Desk) -> None:
    problems = desk.problems("[jails]\na = 5\n")
    assert problems == (
        "FILE line 2, [jails.a]: 5 is no table of options; "
        "write [jails.a] on a line of its own, its options below"
    )


def test_a_jail_with_a_wrong_name_is_left_out(desk: Desk) -> None:
    assert "FILE line 1, [jails.\"a b\"]: 'a b' is no name" in desk.problems(
        "[jails.'a b']\nfailregex = '<HOST>'\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("failregex = 'x'", "FILE line 2, [filters.f] failregex: failregex 1 'x' has no address"),
        ("ignoreregex = 'x'", "FILE line 1, [filters.f]: has no failregex; write failregex = ["),
        ("failregxe = 'x'", "[filters.f] failregxe: is no option known here; write failregex"),
        ("maxretry = 3\nfailregex = '<HOST>'", "[filters.f] maxretry: is no option known here"),
    ],
)
def test_a_wrong_filter_is_left_out(desk: Desk, text: str, message: str) -> None:
    assert message in desk.problems(f"[filters.f]\n{text}\n")
    found = load(desk.path, {})
    assert "f" not in found.filters
    assert "f" not in found.jails
    assert found.withheld["f"].startswith("is left out for a mistake at ")


def test_a_disabled_jail_is_gone_whatever_else_is_said_of_it(desk: Desk) -> None:
    found = desk.load("[jails.a]\nfailregex = 'x'\nenabled = false\n")
    assert "a" not in found.jails
    assert found.problems == ()
    assert found.withheld["a"] == f"is disabled at {desk.path} line 3, [jails.a] enabled"


# Shipped filters

SSH = FilterText(
    name="ssh", origin=Origin.SHIPPED, rule=Rule(failregex=("^ssh <HOST>",), ignoreregex=("^root",))
)
BASE = JailPolicy(name="", origin=Origin.DAEMON, maxretry=7)


def test_a_shipped_filter_is_a_jail_with_the_default_numbers() -> None:
    known = read_jails({}, {}, shipped={"ssh": SSH}, base=BASE, place=str)
    assert known.jails["ssh"] == JailPolicy(
        name="ssh",
        origin=Origin.SHIPPED,
        rule=Rule(failregex=("^ssh <HOST>",), ignoreregex=("^root",)),
        maxretry=7,
    )


def test_the_file_lays_over_a_shipped_filter_what_it_says_and_no_more() -> None:
    known = read_jails(
        {"ssh": {"ignoreregex": "^x"}}, {}, shipped={"ssh": SSH}, base=BASE, place=str
    )
    assert known.jails["ssh"].rule.failregex == ("^ssh <HOST>",)
    assert known.jails["ssh"].rule.ignoreregex == ("^x",)
    assert known.jails["ssh"].origin is Origin.DAEMON


def test_a_shipped_jail_can_be_tuned_and_disabled() -> None:
    shipped = {"ssh": SSH, "ftp": SSH}
    known = read_jails(
        {},
        {"ssh": {"maxretry": 2}, "ftp": {"enabled": False}},
        shipped=shipped,
        base=BASE,
        place=str,
    )
    assert known.jails["ssh"].maxretry == 2
    assert known.jails["ssh"].rule.failregex == ("^ssh <HOST>",)
    assert "ftp" not in known.jails
    assert "ftp" in known.filters


def test_a_shipped_filter_is_read_only_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text(
        "description = 'd'\nsource = 's'\nfailregex = ['^a <HOST>']\ncatch = []\npass = []\n",
        encoding="utf-8",
    )
    (tmp_path / "unreadable.toml").write_text("[", encoding="utf-8")
    shipped = Shipped(tmp_path)
    assert [*shipped] == ["good", "unreadable"]
    assert "good" in shipped
    assert shipped["good"] == FilterText(
        name="good", origin=Origin.SHIPPED, rule=Rule(failregex=("^a <HOST>",)), description="d"
    )
    with pytest.raises(KeyError):
        shipped["other"]


def test_all_shipped_filters_are_jails_that_a_container_can_select() -> None:
    found = load(None, {})
    for name in found.filters:
        container = Container(
            id="1",
            name="x",
            service="x",
            labels={"dockerjail.enable": "true", "dockerjail.jails": name},
        )
        (policy,), problems = policies(container, found)
        assert policy.origin is Origin.SHIPPED
        assert problems == ()


# Places


def test_lines_are_found_past_texts_that_look_like_keys() -> None:
    found = lines(
        "a.b = 1\n[jails.'x.y']\nfailregex = '''\nmaxretry = 3\n'''\nmaxretry = 4\n"
        '[[list]]\n"k" = """one"""\nlast = 1\n'
    )
    assert found == {
        ("a",): 1,
        ("a", "b"): 1,
        ("jails",): 2,
        ("jails", "x.y"): 2,
        ("jails", "x.y", "failregex"): 3,
        ("jails", "x.y", "maxretry"): 6,
        ("list",): 7,
        ("list", "k"): 8,
        ("list", "last"): 9,
    }


@given(st.text() | st.text("[]\"'=.\nab #"))
def test_any_text_is_searched_for_lines_without_an_error(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in lines(text).values())


TOML = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), TOML), st.dictionaries(st.text(), TOML))
def test_no_table_of_jails_brings_the_reader_down(
    filters: Mapping[str, object], jails: Mapping[str, object]
) -> None:
    known = read_jails(filters, jails, shipped={}, base=BASE, place=str)
    assert not {*known.jails} & {*known.withheld}
    assert {*jails} <= {*known.withheld} | {*known.jails}


@given(
    st.dictionaries(
        st.sampled_from(["defaults", "jails", "x"]),
        st.dictionaries(
            st.sampled_from(["bantime", "bantime.time", "recidive", "sshd"]),
            st.dictionaries(st.sampled_from(["bantime", "time", "increment"]), TOML) | TOML,
        )
        | TOML,
    )
)
def test_whatever_stands_where_a_bantime_may_is_flattened_and_the_file_left_as_it_is(
    tree: dict[str, object],
) -> None:
    before = repr(tree)
    found, _ = flattened(tree)
    assert repr(tree) == before
    assert found.keys() == tree.keys()


@given(st.dictionaries(st.sampled_from(sorted(FILE)), TOML, max_size=6))
def test_an_option_with_any_value_is_taken_or_takes_its_jail_out(table: dict[str, object]) -> None:
    known = read_jails({}, {"sshd": table}, shipped=Shipped(), base=BASE, place=str)
    assert ("sshd" in known.jails) is not ("sshd" in known.withheld)
    assert all(problem.what and len(str(problem)) < 1500 for problem in known.problems)


# What the papers say


def blocks(kind: str) -> list[str]:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)


def pairs(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.strip().split("\n"))


def test_the_documented_files_load_without_a_problem(desk: Desk) -> None:
    assert len(blocks("toml")) >= 2
    for block in blocks("toml"):
        assert desk.load(block).problems == ()


def test_the_documented_defaults_are_the_defaults(desk: Desk) -> None:
    (block,) = (block for block in blocks("toml") if block.startswith("[docker]"))
    written, built_in = desk.load(block), load(None, {})
    for section in module.SECTIONS:
        assert getattr(written, section) == getattr(built_in, section)


def test_the_documented_environment_loads_without_a_problem(desk: Desk) -> None:
    (block,) = blocks("environment")
    found = desk.load("", **pairs(block))
    assert found.problems == ()
    assert found.docker.host == "tcp://127.0.0.1:2375"


def test_the_documented_labels_ask_for_jails_that_run(desk: Desk) -> None:
    (block,) = (block for block in blocks("toml") if "[filters.shop-login]" in block)
    found = desk.load(block)
    assert len(blocks("labels")) >= 3
    for block in blocks("labels"):
        container = Container(id="1", name="x", service="x", labels=pairs(block))
        chosen, problems = policies(container, found)
        assert problems == ()
        assert len(chosen) == 1


def test_every_option_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for section, known in module.OPTIONS.items():
        for option in known:
            assert re.search(rf"`(?:{section})?\.?{option}`", text), (section, option)


def test_the_example_file_loads_as_it_is_and_with_its_examples_uncommented(desk: Desk) -> None:
    text = (ROOT / "deploy" / "dockerjail.toml").read_text(encoding="utf-8")
    assert desk.load(text) is not None
    assert desk.load(text).docker == load(None, {}).docker
    uncommented = re.sub(r"(?m)^# (?=\S+ = |\[|\]|    ')", "", text)
    found = desk.load(uncommented)
    assert found.problems == ()
    assert found.jails["shop-login"].maxretry == 3
    for section in module.SECTIONS:
        assert getattr(found, section) == getattr(load(None, {}), section)
