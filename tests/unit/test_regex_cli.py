import gzip
import io
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dockerjail.cli.dates import moment
from dockerjail.cli.main import main
from dockerjail.cli.trial import chunks

FLASK = "^.*WARNING Failed login attempt for user: <F-USER>.*</F-USER> from IP: <HOST>"
LOG = """\
2024-12-23 14:38:22,557 WARNING Failed login attempt for user: admin from IP: 203.0.113.7
2024-12-23 14:38:23,557 INFO ok
# a remark

2024-12-23 14:38:24,557 WARNING Failed login attempt for user: bob from IP: 203.0.113.7
2024-12-23 14:38:25,557 WARNING Failed login attempt for user: x from IP: evil.test
2024-12-23 14:38:26,557 WARNING Failed login attempt for user: me from IP: 127.0.0.1
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "app.log"
    path.write_text(LOG)
    return str(path)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    config = tmp_path / "dockerjail.toml"
    config.write_text(
        "[fail2ban]\nenabled = false\n[defaults]\nmaxretry = 2\nignoreip = ['192.0.2.0/24']\n"
        f"[jails.shop]\nfailregex = ['{FLASK}']\nmaxretry = 1\nbantime = '1h'\n"
    )
    monkeypatch.setenv("DOCKERJAIL_CONFIG", str(config))
    monkeypatch.setenv("TZ", "UTC")

    def call(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dockerjail", "regex", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return call


def report(run: Run, *words: str) -> Any:
    code, out, _ = run(*words, "--json")
    assert code == 0
    return json.loads(out)


def test_it_counts_what_fail2bans_users_look_for(run: Run, log: str) -> None:
    code, out, _ = run(log, FLASK)
    assert code == 0
    assert "Results\n=======" in out
    assert "Failregex: 3 total" in out
    assert f"|   1) [3] {FLASK}" in out
    assert "Lines: 5 lines, 0 ignored, 3 matched, 2 missed" in out
    assert "|- Missed line(s):" in out
    assert "|  2024-12-23 14:38:23,557 INFO ok" in out


def test_a_filter_of_many_regexes_that_misses_says_that_it_has_them(
    run: Run, log: str, tmp_path: Path
) -> None:
    many = tmp_path / "many.toml"
    many.write_text(f"failregex = {[f'^{number} <HOST>' for number in range(6)]}\n")
    _, out, _ = run(log, str(many))
    assert "Failregex: 0 total" in out
    assert "|   none of 6: -v lists them" in out


def test_a_name_is_a_miss_and_says_why(run: Run, log: str) -> None:
    _, out, _ = run(log, FLASK)
    assert "evil.test   ('evil.test' is a name" in out


def test_a_name_counts_where_names_would_be_looked_up(run: Run, log: str) -> None:
    found = report(run, log, FLASK, "--usedns", "yes")
    assert found["matched"] == 4
    assert found["forecast"]["names"] == 1


def test_a_jail_that_counts_bans_looks_at_no_line_and_says_so(run: Run, log: str) -> None:
    code, out, err = run(log, "recidive")
    assert code != 0
    assert "jail recidive counts the bans of other jails, and looks at no line" in out + err


def test_an_ignoreregex_on_the_command_line_lets_lines_pass(run: Run, log: str) -> None:
    found = report(run, log, FLASK, "user: bob")
    assert (found["matched"], found["ignored"], found["missed"]) == (2, 1, 2)
    assert "bob" in found["ignored_lines"][0]


def test_the_forecast_is_what_the_jail_would_do(run: Run, log: str) -> None:
    _, out, _ = run(log, FLASK)
    row = next(line for line in out.splitlines() if line.startswith("203.0.113.7"))
    at = datetime(2024, 12, 23, 14, 38, 24, 557000).astimezone()
    assert row.split() == ["203.0.113.7", "2", f"{at:%Y-%m-%d}", f"{at:%H:%M:%S}", *row.split()[4:]]
    assert f"{at.replace(minute=48):%Y-%m-%d %H:%M:%S}" in row
    assert "never banned: 127.0.0.1, a loopback address (1 failure)" in out


def test_the_forecast_goes_by_the_numbers_of_the_jail_that_is_named(run: Run, log: str) -> None:
    found = report(run, log, "shop")
    assert (found["filter"], found["forecast"]["maxretry"]) == ("jail shop", 1)
    assert found["forecast"]["bantime"] == 3600.0
    (who,) = found["forecast"]["addresses"]
    first = datetime.fromisoformat("2024-12-23T14:38:22.557").timestamp()
    assert len(who["bans"]) == 1
    assert who["bans"][0]["at"] == pytest.approx(first)
    assert who["bans"][0]["until"] == pytest.approx(first + 2 + 3600)


def test_the_numbers_can_be_tried_out(run: Run, log: str) -> None:
    found = report(run, log, "shop", "--maxretry", "3", "--bantime", "-1", "--findtime", "1d")
    assert found["forecast"]["addresses"] == [{"address": "203.0.113.7", "failures": 2, "bans": []}]
    assert (found["forecast"]["bantime"], found["forecast"]["findtime"]) == (None, 86400.0)


def test_ignoreip_of_the_configuration_is_respected(run: Run) -> None:
    found = report(run, "2024-12-23 14:38:22 user x from 192.0.2.9", "from <HOST>")
    assert found["forecast"]["addresses"] == []
    assert found["forecast"]["never_banned"][0]["address"] == "192.0.2.9"


def test_the_engines_stamps_are_the_time_where_there_are_any(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "t.log"
    path.write_text(
        "2026-01-01T00:00:00.5Z 2020-05-05 05:05:05 from 203.0.113.7\n"
        "2026-01-01T00:00:01.5Z # from 203.0.113.7\n"
    )
    found = report(run, str(path), "from <HOST>", "-v")
    assert found["lines"] == 2
    assert [line["at"] for line in found["matched_lines"]] == [1767225600.5, 1767225601.5]


def test_without_a_time_there_is_no_forecast(run: Run) -> None:
    _, out, _ = run("user x from 203.0.113.7", "from <HOST>")
    assert "no time in these lines: no forecast" in out


def test_a_shipped_filter_is_known_by_its_name(run: Run, log: str) -> None:
    assert report(run, log, "flask-login")["matched"] == 3


def test_a_filter_file_of_either_kind_is_read(run: Run, log: str, tmp_path: Path) -> None:
    toml, conf = tmp_path / "mine.toml", tmp_path / "mine.conf"
    toml.write_text("failregex = ['from IP: <ADDR>$']\n")
    conf.write_text("[Definition]\nfailregex = <lead>\\bfrom IP: <ADDR>$\n[Init]\nlead =\n")
    assert report(run, log, str(toml))["matched"] == 3
    assert report(run, log, str(conf))["matched"] == 3
    assert report(run, log, rf'{conf}[lead="bob\s"]')["matched"] == 1
    (tmp_path / "ignore.toml").write_text("failregex = ['x<HOST>']\nignoreregex = ['bob']\n")
    assert report(run, log, str(toml), str(tmp_path / "ignore.toml"))["ignored"] == 1


def test_a_line_that_takes_too_long_is_a_miss_as_it_is_to_the_daemon(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "app.log"
    path.write_text(f"{'a' * 40}!: refused 203.0.113.9\n" * 4 + "bob: refused 203.0.113.7\n")
    evil = r"^(?:\w+\s?)*: refused <HOST>$"
    told = report(run, str(path), evil)
    assert (told["matched"], told["missed"], told["too_slow"]) == (1, 4, 4)
    _, out, _ = run(str(path), evil)
    assert "Too slow: 4 of the missed lines took longer than 20 ms, as the daemon gives" in out
    assert "given up after 20 ms: failregex 1" in out


def test_the_log_may_come_by_pipe(run: Run) -> None:
    code, out, _ = run("-", FLASK, stdin=LOG.encode())
    assert code == 0
    assert "Lines: 5 lines, 0 ignored, 3 matched, 2 missed" in out


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("ip", ["203.0.113.7", "203.0.113.7", "127.0.0.1"]),
        ("id", ["203.0.113.7", "203.0.113.7", "127.0.0.1"]),
        ("user", ["admin", "bob", "me"]),
        ("<ip> <F-USER>!", ["203.0.113.7 admin!", "203.0.113.7 bob!", "127.0.0.1 me!"]),
        ("nosuch", ["", "", ""]),
    ],
)
def test_out_prints_one_thing_of_each_match_and_nothing_else(
    run: Run, log: str, wanted: str, said: list[str]
) -> None:
    _, out, _ = run(log, FLASK, "-o", wanted)
    assert out.split("\n")[:-1] == said


def test_out_row_is_as_fail2ban_writes_it(run: Run, log: str) -> None:
    _, out, _ = run(log, FLASK, "--out", "row")
    first = out.splitlines()[0]
    assert first.startswith("['203.0.113.7',\t")
    assert first.endswith(",\t{'user': 'admin'}],")


def test_many_missed_lines_are_only_counted_unless_all_are_wanted(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "many.log"
    path.write_text("".join(f"line {n}\n" for n in range(70)) + "from 203.0.113.7\n" * 3)
    _, out, _ = run(str(path), "from <HOST>")
    assert "Lines: 73 lines, 0 ignored, 3 matched, 70 missed" in out
    assert "Use --print-all-missed to print all 70 lines" in out
    _, out, _ = run(str(path), "from <HOST>", "--print-all-missed", "--print-all-matched")
    assert out.count("|  line ") == 70
    assert out.count("|  from 203.0.113.7") == 3
    _, out, _ = run(str(path), "from <HOST>", "--print-no-missed")
    assert "Missed" not in out


def test_what_a_terminal_would_obey_is_escaped(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "hostile.log"
    path.write_bytes(b"\x1b]0;owned\x07 [bold]x[/bold] \xff\xc2\x9b31m\n")
    _, out, _ = run(str(path), "from <HOST>")
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\x9b" not in out
    assert "[bold]x[/bold]" in out
    code, out, _ = run(str(path), "from <HOST>", "--json")
    assert code == 0
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "\x9b31m" in json.loads(out)["missed_lines"][0]["line"]
    _, out, _ = run("\x1b[2J from 203.0.113.7", "from <HOST>", "-o", "msg")
    assert "\x1b" not in out


def test_colours_are_taken_out_as_the_daemon_does(run: Run) -> None:
    found = report(run, "\x1b[31mfrom\x1b[0m 203.0.113.7", "^from <HOST>$")
    assert found["matched"] == 1


def test_lines_that_belong_together_are_judged_together(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "two.log"
    path.write_text("login failed\nfrom 203.0.113.7\n")
    regex = "^login failed<SKIPLINES>^from <HOST>$"
    assert report(run, str(path), regex, "--maxlines", "2")["matched"] == 1


def test_structured_lines_are_looked_into(run: Run, tmp_path: Path) -> None:
    rule = tmp_path / "json.toml"
    rule.write_text("format = 'json'\nwhere = {ok = false}\naddress = 'ip'\nuser = 'u'\n")
    path = tmp_path / "json.log"
    path.write_text('{"ok":false,"ip":"203.0.113.7","u":"bob"}\n{"ok":true,"ip":"203.0.113.8"}\n')
    code, out, _ = run(str(path), str(rule))
    assert code == 0
    assert "|   -) [1] ok = false" in out
    assert run(str(path), str(rule), "-o", "user")[1] == "bob\n"


def test_options_of_the_rule_can_be_tried_out(run: Run) -> None:
    line = "x |1| from 203.0.113.7"
    assert report(run, line, "^x  from <HOST>")["matched"] == 0
    assert report(run, line, "^x  from <HOST>", "-d", r"(\|\d\|)")["matched"] == 1
    assert report(run, "from 203.0.113.7", "^app: from <HOST>", "--prefix", "app: ")["matched"] == 1


def test_another_encoding_is_read(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "latin.log"
    path.write_bytes("Müller from 203.0.113.7\n".encode("latin-1"))
    assert report(run, str(path), "^Müller from <HOST>")["matched"] == 0
    assert report(run, str(path), "^Müller from <HOST>", "-e", "latin-1")["matched"] == 1


def test_lint_finds_and_exits_with_4(run: Run) -> None:
    code, out, _ = run("user x from 203.0.113.7", "user .*? from <HOST>", "--lint")
    assert code == 4
    assert "safer: user .* from <HOST>" in out
    assert run("--lint", "flask-login")[0] == 0
    code, out, _ = run("--lint", "user .*? from <HOST>", "--json")
    assert code == 4
    assert json.loads(out)["lint"][0]["kind"] == "spoof"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("x", "from ("), "failregex 1"),
        (("x", "from <HOTS>"), "<HOST>"),
        (("x", "flask-logni"), "flask-login"),
        (("/no/such/log", "flask-login"), "there is no such log"),
        (("access.log", "flask-login"), "access.log: there is no such log"),
        (("logs/access.log.1", "flask-login"), "there is no such log"),
        (("/", "flask-login"), "/: is a directory"),
        (("x", "/no/such.toml"), "no such filter file"),
    ],
)
def test_a_wrong_filter_or_log_is_an_error_that_says_what_to_do(
    run: Run, words: tuple[str, ...], said: str
) -> None:
    code, _, err = run(*words)
    assert code == 1
    assert said in err


@pytest.mark.parametrize(
    "words",
    [
        ("x",),
        ("x", "flask-login", "y", "z"),
        ("x", "flask-login", "--maxretry", "many"),
        ("x", "flask-login", "--encoding", "klingon"),
        ("x", "flask-login", "--format", "xml"),
        ("x", "flask-login", "--since", "1h"),
        ("x", "flask-login", "--tail", "5"),
        ("--container", "x", "flask-login", "--since", "yesterday"),
    ],
)
def test_wrong_usage_exits_with_2(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words)[0] == 2


def test_binary_rubbish_is_no_reason_to_stop(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(LOG.encode() * 50))
    assert run(str(path), FLASK)[0] == 0


def test_a_log_is_the_same_however_it_is_split() -> None:
    data = LOG.encode() + b"last without end"
    whole = b"".join(chunk.data for chunk in chunks(iter([data]), samples=True))
    for size in (1, 7, 64):
        pieces = [data[n : n + size] for n in range(0, len(data), size)]
        assert b"".join(chunk.data for chunk in chunks(iter(pieces), samples=True)) == whole
    assert whole.count(b"\n") == 6
    assert whole.endswith(b"last without end\n")


NOW = datetime.fromisoformat("2026-11-22T12:00").timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2005-01-23T21:59:59.981746Z x", "2005-01-23T21:59:59.981746+00:00"),
        ("[2005-01-23 21:59:59,5] x", "2005-01-23T21:59:59.5"),
        ("2005-01-23T21:59:59.123456789+01:00 x", "2005-01-23T21:59:59.123456+01:00"),
        ('1.1.1.1 - - [31/Oct/2006:09:22:55 +0200] "GET', "2006-10-31T09:22:55+02:00"),
        ("05/02/2008 01:57:39", "2008-02-05T01:57:39"),
        ("05/20/2008:01:57:39", "2008-05-20T01:57:39"),
        ("130322 11:46:11", "2013-03-22T11:46:11"),
        ("20050123-21:59:59.981", "2005-01-23T21:59:59.981"),
        ("Sun Jan 23 21:59:59.011 2005", "2005-01-23T21:59:59.011"),
        ("Jan 23, 2005 1:02:03 PM", "2005-01-23T13:02:03"),
        ("May  6 07:08:09 host sshd", "2026-05-06T07:08:09"),
        ("Dec 31 23:59:59 host sshd", "2025-12-31T23:59:59"),
        ("PDT Apr 16 21:05:29", "2026-04-16T21:05:29"),
        ("+00:00 Jan 23 21:59:59", "2026-01-23T21:59:59+00:00"),
        ("@4000000052f88ea32489532c x", "2014-02-10T08:32:25.612979+00:00"),
        ("[1138049999] y", "2006-01-23T20:59:59+00:00"),
        ("<09/16/08@05:03:30>", "2008-09-16T05:03:30"),
        ("Apr-27-13 02:33:06", "2013-04-27T02:33:06"),
    ],
)
def test_every_date_that_is_cut_can_be_read(text: str, expected: str) -> None:
    at = moment(text, NOW)
    assert at is not None
    assert at == pytest.approx(datetime.fromisoformat(expected).timestamp(), abs=1e-5)


def test_a_line_without_a_date_has_no_time() -> None:
    assert moment("from 203.0.113.7 port 22", NOW) is None
    assert moment("Feb 30 10:00:00 x", NOW) is None
