"""Promises of one jail."""

import math
from ipaddress import ip_network
from pathlib import Path

import pytest

from dockerjail.config.fail2ban.jails import Fail2banJail
from dockerjail.jail.rule import NOTHING, Format, UseDns
from tests.unit.fail2ban.directory import STOCK, opened, refused


def jail(tmp_path: Path, lines: str, name: str = "web") -> Fail2banJail:
    return opened(tmp_path, STOCK, {"jail.local": f"[{name}]\n{lines}\n"}).jail(name)


def whats(found: Fail2banJail) -> list[str]:
    return [problem.what for problem in found.problems]


def test_a_jail_takes_its_numbers_from_its_section_and_the_defaults(tmp_path: Path) -> None:
    found = jail(tmp_path, "maxretry = 2\nbantime = 1d12h\nfindtime = %(maxretry)sm")
    assert (found.maxretry, found.findtime, found.bantime) == (2, 120, 129600)
    assert found.place == f"{tmp_path}/jail.local line 1, [web]"


def test_names_are_looked_up_only_if_a_file_of_the_users_own_says_so(tmp_path: Path) -> None:
    found = jail(tmp_path, "")
    assert found.rule.usedns is UseDns.NO
    assert any(note.place.endswith("[DEFAULT] usedns") for note in found.notes)
    assert jail(tmp_path, "usedns = warn").rule.usedns is UseDns.WARN
    own = opened(tmp_path, {"jail.local": "[DEFAULT]\nusedns = yes\n[web]\n"}).jail("web")
    assert own.rule.usedns is UseDns.YES


def test_a_ban_can_be_for_good(tmp_path: Path) -> None:
    assert jail(tmp_path, "bantime = -1").bantime is None


def test_without_any_numbers_those_built_into_fail2ban_hold(tmp_path: Path) -> None:
    found = opened(tmp_path, {"jail.local": "[a]\nfilter =\nfailregex = ^<HOST>"}).jail("a")
    assert (found.maxretry, found.findtime, found.bantime) == (3, 600, 600)
    assert (found.ports, found.everything) == (None, False)


def test_mode_in_the_jail_reaches_the_filter(tmp_path: Path) -> None:
    assert jail(tmp_path, "mode = more").rule.failregex == ("^more <HOST>", "^more <HOST>")


def test_the_jails_own_failregex_replaces_the_filters(tmp_path: Path) -> None:
    assert jail(tmp_path, "failregex = ^own <HOST> <mode>").rule.failregex == (
        "^own <HOST> <mode>",
    )


def test_known_in_a_jail_is_what_its_filter_says(tmp_path: Path) -> None:
    found = jail(tmp_path, "failregex = %(known/failregex)s\n  ^own <HOST>")
    assert found.rule.failregex == ("^normal <HOST>", "^usual <HOST>", "^own <HOST>")


def test_a_percent_sign_of_the_filter_survives_known(tmp_path: Path) -> None:
    files = {
        "filter.d/web.conf": "[Definition]\nfailregex = ^<HOST>\ndatepattern = ^%%Y",
        "jail.local": "[web]\ndatepattern = %(known/datepattern)s\n  ^%%d",
    }
    assert opened(tmp_path, STOCK, files).jail("web").rule.datepattern == ("^%Y", "^%d")


def test_a_failregex_in_brackets_stands_before_the_jails(tmp_path: Path) -> None:
    found = jail(tmp_path, "filter = web[failregex='^a <HOST>']\nfailregex = ^b <HOST>")
    assert found.rule.failregex == ("^a <HOST>", "^b <HOST>")


def test_an_empty_ignoreregex_in_the_jail_clears_the_filters(tmp_path: Path) -> None:
    files = {
        "filter.d/web.local": "[Definition]\nignoreregex = ^ignored",
        "jail.local": "[plain]\nfilter = web\n[cleared]\nfilter = web\nignoreregex =\n",
    }
    fail2ban = opened(tmp_path, STOCK, files)
    assert fail2ban.jail("plain").rule.ignoreregex == ("^ignored",)
    assert fail2ban.jail("cleared").rule.ignoreregex == ()


def test_a_jail_without_a_filter_runs_on_its_own_failregex(tmp_path: Path) -> None:
    assert jail(tmp_path, "filter =\nfailregex = ^<HOST>").rule.failregex == ("^<HOST>",)


def test_a_jail_that_looks_for_nothing_is_refused(tmp_path: Path) -> None:
    problem = refused(opened(tmp_path, STOCK, {"jail.local": "[a]\nfilter =\n"}), "a")
    assert problem.what == "has no failregex"


def test_addresses_names_and_files_to_ignore_are_taken_and_what_is_none_is_told(
    tmp_path: Path,
) -> None:
    found = jail(
        tmp_path,
        "ignoreip = 127.0.0.1/8 ::1,192.0.2.0/255.255.255.0\n"
        "  Home.example 1.2.3 file:/etc/friends file:friends",
    )
    assert found.ignored.addresses == (
        ip_network("127.0.0.0/8"),
        ip_network("::1"),
        ip_network("192.0.2.0/24"),
    )
    assert found.ignored.sources == ("home.example", "file:/etc/friends")
    assert whats(found) == [
        "'1.2.3' is neither an address nor a network, and no name of a host: it is not ignored",
        "'file:friends' is no file with an absolute path: it is not ignored",
    ]


def test_growing_bans_are_read_as_fail2ban_reads_them_and_what_is_empty_says_nothing(
    tmp_path: Path,
) -> None:
    found = jail(
        tmp_path,
        """bantime.increment = yes
bantime.factor = 3.0 / 2
bantime.formula = ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)
bantime.multipliers = 1 5 30
bantime.maxtime = 5w
bantime.rndtime =
bantime.overalljails = maybe""",
    )
    growth = dict(found.growth)
    formula = growth.pop("bantime.formula")
    assert formula.seconds(600, 1, 1.0) == pytest.approx(600 * math.e)
    assert growth == {
        "bantime.increment": True,
        "bantime.factor": 1.5,
        "bantime.multipliers": (1.0, 5.0, 30.0),
        "bantime.maxtime": 5 * 7 * 86400,
        "bantime.overalljails": False,
    }
    assert whats(found) == []
    assert jail(tmp_path, "").growth == {}


def test_recidive_counts_bans_whatever_its_filter_and_log_are(tmp_path: Path) -> None:
    lines = """logpath = /var/log/fail2ban.log
banaction = %(banaction_allports)s
bantime = 2w
maxretry = 3"""
    found = jail(tmp_path, lines, "recidive")
    assert found.recidive
    assert (found.rule, found.ports, found.everything) == (NOTHING, None, False)
    assert (found.maxretry, found.findtime, found.bantime) == (3, 86400, 14 * 86400)
    assert [note.what.partition(":")[0] for note in found.notes] == ["counts bans as they are made"]
    assert whats(found) == []


def test_recidive_has_a_day_and_a_week_whatever_the_defaults_are(tmp_path: Path) -> None:
    files = {"jail.local": "[DEFAULT]\nfindtime = 5m\nbantime = 1h\nmaxretry = 4\n[recidive]\n"}
    found = opened(tmp_path, STOCK, files).jail("recidive")
    assert (found.maxretry, found.findtime, found.bantime) == (4, 86400, 7 * 86400)


def test_another_jail_for_fail2bans_own_log_is_told_that_nobody_writes_it(tmp_path: Path) -> None:
    files = {
        "filter.d/recidive.conf": "[Definition]\nfailregex = Ban <HOST>\n",
        "jail.local": "[again]\nfilter = recidive\n",
    }
    (problem,) = opened(tmp_path, STOCK, files).jail("again").problems
    assert problem.what == "the filter recidive reads fail2ban's own log, which nobody writes here"
    assert problem.remedy == "write its options under [recidive], which needs no log"


@pytest.mark.parametrize(
    ("lines", "disabled"),
    [
        ("", ""),
        ("enabled = true", ""),
        ("enabled = YES", ""),
        ("enabled = false", "jail.local line 2, [web] enabled"),
        ("enabled = maybe", "jail.local line 2, [web] enabled"),
    ],
)
def test_only_a_jails_own_section_disables_it(tmp_path: Path, lines: str, disabled: str) -> None:
    found = jail(tmp_path, lines).disabled
    assert found == (f"{tmp_path}/{disabled}" if disabled else "")


def test_what_is_not_needed_is_a_note_and_no_problem(tmp_path: Path) -> None:
    found = jail(tmp_path, "backend = systemd\njournalmatch = _COMM=x\nlogencoding = utf-8")
    assert [note.place.rpartition(" ")[2] for note in found.notes] == [
        *("usedns", "logpath", "backend", "journalmatch", "logencoding"),
    ]
    assert whats(found) == []


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("ignorecommand = /bin/true <ip>", "ignorecommand is not run"),
        ("bantime.maxtime = soon", "'soon' is no duration"),
        ("bantime.incremnt = true", "'bantime.incremnt' is no option of fail2ban's, and says"),
        ("bantime.decay = 1d", "'bantime.decay' is no option of fail2ban's, and says nothing"),
        ("usedns = raw", "usedns = raw would ban a name"),
        ("action = %(action_mw)s", "not run here: sendmail-whois"),
        ("failregex = ^a ; (?:b)? <HOST>$", "failregex holds ' ;'"),
        ("dockerjail.prefx = a", "dockerjail has no key 'dockerjail.prefx'"),
    ],
)
def test_what_is_not_taken_over_is_a_problem_with_its_place(
    tmp_path: Path, lines: str, what: str
) -> None:
    (problem,) = jail(tmp_path, lines).problems
    assert problem.what.startswith(what)
    assert problem.place.startswith(f"{tmp_path}/jail.local line 2, [web]")
    assert problem.remedy


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("maxretry = 0", "[web] maxretry: 0 is less than 1"),
        ("findtime = soon", "[web] findtime: 'soon' is no duration"),
        ("bantime = 5x", "[web] bantime: '5x' is no duration"),
        (
            "bantime.formula = open(ban.Count)\nbantime.increment = true",
            "[web] bantime.formula: 'open'(…) may not be called",
        ),
        (
            "bantime.multipliers = 1 two\nbantime.increment = true",
            "[web] bantime.multipliers: 'two' is no number",
        ),
        ("maxlines = x", "[web] maxlines: 'x' is not a whole number"),
        ("filter = %(nothing)s", "[web] filter: %(nothing)s is defined nowhere"),
        ("dockerjail.format = yaml", "[web] dockerjail.format: 'yaml' is none of"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_place(
    tmp_path: Path, lines: str, text: str
) -> None:
    problem = refused(opened(tmp_path, STOCK, {"jail.local": f"[web]\n{lines}\n"}), "web")
    assert str(problem).startswith(f"{tmp_path}/jail.local line 2, {text}")


@pytest.mark.parametrize(
    ("text", "prefix"),
    [("shelld[9]:", "shelld[9]: "), ('"shelld: "', "shelld: "), ("", "")],
)
def test_a_jail_may_carry_keys_of_ours(tmp_path: Path, text: str, prefix: str) -> None:
    lines = f"dockerjail.prefix = {text}\ndockerjail.format = json\ndockerjail.Ports = 80/tcp"
    found = jail(tmp_path, lines, "shell")
    assert found.rule.prefix == prefix
    assert found.rule.format is Format.JSON
    assert found.ours["ports"] == "80/tcp"
    assert not found.problems


def test_a_jail_gets_the_prefix_of_its_filter(tmp_path: Path) -> None:
    assert jail(tmp_path, "", "shell").rule.prefix == "shelld[1]: "
    own = jail(tmp_path, "prefregex = %(known/prefregex)s", "shell")
    assert own.rule.prefix == "shelld[1]: "


def test_terminal_codes_in_a_file_do_not_reach_a_message(tmp_path: Path) -> None:
    problem = refused(
        opened(tmp_path, STOCK, {"jail.local": "[web]\nmaxretry = \x1b[2Jx\n"}), "web"
    )
    assert "\x1b" not in str(problem)


@pytest.mark.parametrize("name", ["w\x1beb", "a b", "ä", "x" * 65])
def test_a_section_whose_name_no_label_could_say_is_refused(tmp_path: Path, name: str) -> None:
    fail2ban = opened(tmp_path, STOCK, {"jail.local": f"[{name}]\nfilter=web\n"})
    problem = refused(fail2ban, name)
    assert problem.what.endswith("is no name")
    assert str(problem).isprintable()


@pytest.mark.parametrize(
    ("key", "meant"), [("maxrety", "maxretry"), ("failrgex", "failregex"), ("ban_time", "bantime")]
)
def test_a_misspelt_key_is_told(tmp_path: Path, key: str, meant: str) -> None:
    (problem,) = jail(tmp_path, f"{key} = 1").problems
    assert problem.place == f"{tmp_path}/jail.local line 2, [web] {key}"
    assert problem.what == f"'{key}' is no option of a jail, and says nothing"
    assert problem.remedy == f"write {meant}"


@pytest.mark.parametrize(
    "lines", ["ports = 1\nport = %(ports)s", "maxretries = 3\nmaxretry = 3", "shop = 1"]
)
def test_a_name_for_the_jails_own_use_is_no_misspelt_key(tmp_path: Path, lines: str) -> None:
    assert jail(tmp_path, lines).problems == ()
