"""Promises of a whole fail2ban directory."""

import os
from pathlib import Path

import pytest

from dockerjail.config.fail2ban.mistakes import Fail2banError
from dockerjail.config.fail2ban.read import Fail2ban
from tests.unit.fail2ban.directory import STOCK, opened, refused, write


def test_a_directory_that_is_not_there_is_no_fail2ban(tmp_path: Path) -> None:
    assert Fail2ban.open(tmp_path / "fail2ban") is None


def test_an_empty_directory_has_no_jails(tmp_path: Path) -> None:
    fail2ban = opened(tmp_path)
    assert (fail2ban.jails, fail2ban.filters, fail2ban.problems) == ((), (), ())


def test_jails_and_filters_are_known_by_name(tmp_path: Path) -> None:
    fail2ban = opened(tmp_path, STOCK, {"filter.d/own.local": "[Definition]\nfailregex = ^<HOST>"})
    assert fail2ban.jails == ("web", "shell")
    assert fail2ban.filters == ("own", "shell", "web")
    assert fail2ban.rule("own").failregex == ("^<HOST>",)


def test_later_files_override_earlier_ones_in_fail2bans_order(tmp_path: Path) -> None:
    files = {
        "jail.conf": "[a]\nchain = 1\nfilter =\nfailregex = ^<HOST>\n",
        "jail.d/b.conf": "[a]\nchain = %(known/chain)s 3",
        "jail.d/a.conf": "[a]\nchain = %(known/chain)s 2",
        "jail.d/.hidden.conf": "[a]\nchain = hidden",
        "jail.d/other.txt": "[a]\nchain = other",
        "jail.local": "[a]\nchain = %(known/chain)s 4",
        "jail.d/a.local": "[a]\nchain = %(known/chain)s 5\nfailregex = ^%(chain)s <HOST>",
    }
    assert opened(tmp_path, files).jail("a").rule.failregex == ("^1 2 3 4 5 <HOST>",)


def test_includes_go_before_and_after_with_the_local_file_beside(tmp_path: Path) -> None:
    files = {
        "filter.d/a.conf": "[INCLUDES]\nbefore = b.conf\n  c.conf\nafter = sub/d.conf\n[Definition]\nx = %(known/x)s a\nfailregex = ^<x> <HOST>",
        "filter.d/b.conf": "[Definition]\nx = b",
        "filter.d/b.local": "[Definition]\nx = %(known/x)s b.local",
        "filter.d/c.conf": "[Definition]\nx = %(known/x)s c",
        "filter.d/sub/d.conf": "[INCLUDES]\nbefore = e.local\n[Definition]\nx = %(known/x)s d",
        "filter.d/sub/e.local": "[Definition]\nx = %(known/x)s e",
    }
    assert opened(tmp_path, files).rule("a").failregex == ("^b b.local c a e d <HOST>",)


@pytest.mark.parametrize("back", ["a.conf", "../filter.d/a.conf", "b.conf", "./b.conf"])
def test_files_that_include_each_other_are_read_once(tmp_path: Path, back: str) -> None:
    files = {
        "filter.d/a.conf": "[INCLUDES]\nbefore = b.conf\n[Definition]\nfailregex = ^%(x)s <HOST>",
        "filter.d/b.conf": f"[INCLUDES]\nafter = {back}\n[DEFAULT]\nx = b",
    }
    assert opened(tmp_path, files).rule("a").failregex == ("^b <HOST>",)


def test_a_missing_include_is_a_problem_unless_it_is_somebodys_own(tmp_path: Path) -> None:
    text = "[INCLUDES]\nbefore = gone.conf\nafter = own.local\n[DEFAULT]\nfilter =\n[a]\nfailregex = ^<HOST>"
    fail2ban = opened(tmp_path, {"jail.conf": text})
    (problem,) = fail2ban.problems
    assert problem.place == f"{tmp_path}/jail.conf line 2, [INCLUDES] before"
    assert problem.what == "'gone.conf' is not there"
    assert fail2ban.jail("a").rule.failregex == ("^<HOST>",)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a device")
def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, STOCK)
    os.mkfifo(tmp_path / "jail.local")
    assert opened(tmp_path).jail("web").maxretry == 5


def test_a_jail_file_that_cannot_be_read_takes_all_jails_with_it(tmp_path: Path) -> None:
    """Without what stands there, ignoreip above all, each would be another jail."""
    write(tmp_path, STOCK)
    (tmp_path / "jail.local").symlink_to("jail.local")
    (tmp_path / "jail.d").mkdir()
    (tmp_path / "jail.d/long.conf").write_bytes(b"#" * 5_000_000)
    fail2ban = opened(tmp_path)
    assert [problem.place for problem in fail2ban.problems] == [f"{tmp_path}/jail.d/long.conf"]
    assert refused(fail2ban, "web").place == f"{tmp_path}/jail.d/long.conf"


def test_one_bad_jail_touches_no_other(tmp_path: Path) -> None:
    own = "[web]\nmaxretry = five\n[twice]\nport = 1\nport = 2\n[lost]\nfilter = shel\n[x]\nfilter = web[a\n"
    fail2ban = opened(tmp_path, STOCK, {"jail.local": own})
    where = f"{tmp_path}/jail.local line"
    assert str(refused(fail2ban, "web")) == (
        f"{where} 2, [web] maxretry: 'five' is not a whole number; write a whole number such as 5"
    )
    assert str(refused(fail2ban, "twice")) == (
        f"{where} 5, [twice]: port stands here again, after line 4; write it once, with all that it should be"
    )
    assert str(refused(fail2ban, "lost")) == (
        f"{where} 7, [lost] filter: there is no filter 'shel'; write shell"
    )
    assert str(refused(fail2ban, "x")).startswith(f"{where} 9, [x] filter: 'a' is no option")
    assert fail2ban.jail("shell").maxretry == 5
    # of the other mistakes fail2ban does not die: who asks for the jail hears of them
    assert [problem.place for problem in fail2ban.problems] == [f"{where} 5, [twice]"]


def test_one_bad_filter_takes_only_its_jails_along(tmp_path: Path) -> None:
    bad = {"filter.d/web.local": "[Definition]\nfailregex = ^<HOST>\nfailregex = ^a <HOST>\n"}
    fail2ban = opened(tmp_path, STOCK, bad)
    assert refused(fail2ban, "web").place == f"{tmp_path}/filter.d/web.local line 3, [Definition]"
    assert fail2ban.jail("shell").rule.failregex


def test_a_mistake_in_the_defaults_is_every_jails_and_said_once(tmp_path: Path) -> None:
    fail2ban = opened(tmp_path, STOCK, {"jail.local": "[DEFAULT]\nbantime 1h\n"})
    (problem,) = fail2ban.problems
    assert problem.place == f"{tmp_path}/jail.local line 2, [DEFAULT]"
    assert refused(fail2ban, "web") == refused(fail2ban, "shell") == problem


def test_an_unknown_jail_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    assert refused(opened(tmp_path, STOCK), "shel").remedy == "write shell"


@pytest.mark.parametrize("name", ["../jail", "/etc/passwd", "common/../web", "sub/d", "", "a\0b"])
def test_a_reference_reads_no_file_outside_of_filter_d(tmp_path: Path, name: str) -> None:
    files = {"filter.d/sub/d.conf": "[Definition]\nfailregex = ^<HOST>"}
    with pytest.raises(Fail2banError):
        opened(tmp_path, STOCK, files).rule(name)


def test_a_jail_file_without_fail2bans_own_says_what_is_missing(tmp_path: Path) -> None:
    fail2ban = opened(
        tmp_path, {"jail.local": "[a]\nfilter =\nfailregex = ^<HOST>\naction = %(action_)s"}
    )
    assert refused(fail2ban, "a").remedy.startswith("it is in fail2ban's own jail.conf")
    fail2ban = opened(tmp_path / "b", {"jail.local": "[sshd]\nfilter = sshd\n"})
    assert refused(fail2ban, "sshd").remedy == "put fail2ban's own filter.d beside jail.conf"


def test_nothing_is_asked_of_a_filter_before_its_jail_is(tmp_path: Path) -> None:
    fail2ban = opened(tmp_path, STOCK)
    (tmp_path / "filter.d/web.conf").unlink()
    assert refused(fail2ban, "web").what == "there is no filter 'web'"
    assert fail2ban.jail("shell").rule.failregex


def test_jails_that_set_a_key_are_found_with_one_that_has_the_default(tmp_path: Path) -> None:
    files = {"jail.local": "[shell]\nfindtime = 1d\nbackend = auto\n[broken\n"}
    fail2ban = opened(tmp_path, STOCK, files)
    assert fail2ban.saying("findtime") == ("shell", "web")
    assert fail2ban.saying("backend") == ("shell",)


def test_a_mail_action_may_ask_for_a_logpath_that_nobody_set(tmp_path: Path) -> None:
    own = '[shell]\naction = %(action_)s\n  mail-lines[logpath="%(logpath)s"]\n'
    found = opened(tmp_path, STOCK, {"jail.local": own}).jail("shell")
    assert [str(port) for port in found.ports or ()] == ["22/tcp"]


def test_a_header_without_its_bracket_is_told_to_everybody(tmp_path: Path) -> None:
    own = "[web]\nmaxretry = 2\n[own\nfilter = web\n"
    fail2ban = opened(tmp_path, STOCK, {"jail.local": own})
    assert "own" not in fail2ban.jails
    (problem,) = fail2ban.problems
    assert problem.place == f"{tmp_path}/jail.local line 3, [web]"
    assert problem.what == "'[own' is neither KEY = VALUE nor a section"


@pytest.mark.parametrize("header", ["default", "Default", "DEFAULTS"])
def test_a_default_section_in_other_letters_is_told(tmp_path: Path, header: str) -> None:
    (problem,) = opened(
        tmp_path, STOCK, {"jail.local": f"[{header}]\nignoreip = 192.0.2.1\n"}
    ).problems
    assert problem.place == f"{tmp_path}/jail.local line 1, [{header}]"
    assert problem.remedy == "write [DEFAULT]"


def test_a_header_that_no_jail_can_have_is_told(tmp_path: Path) -> None:
    (problem,) = opened(tmp_path, STOCK, {"jail.local": "[my app]\nfilter = web\n"}).problems
    assert "'my app' is no name" in problem.what


def test_jails_that_fail2ban_would_run_are_known(tmp_path: Path) -> None:
    own = "[web]\nenabled = true\n[shell]\nenabled = %(nothing)s\n[twice]\nenabled = true\nx = 1\nx = 2\n"
    assert opened(tmp_path, STOCK, {"jail.local": own}).enabled == ("web",)


def test_a_directory_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "jail.local").mkdir()
    (tmp_path / "filter.d/own.conf").mkdir(parents=True)
    fail2ban = opened(tmp_path, STOCK, {"jail.d/own.conf": "[own]\nfilter = own\n"})
    (problem,) = fail2ban.problems
    assert problem.place == f"{tmp_path}/jail.local"
    assert "Docker makes one of a mount whose source is not there" in problem.what
    assert refused(fail2ban, "own") == problem
    (tmp_path / "jail.local").rmdir()
    fail2ban = opened(tmp_path)
    assert refused(fail2ban, "own").place == f"{tmp_path}/filter.d/own.conf"


def test_a_filter_that_is_a_link_to_nowhere_is_told(tmp_path: Path) -> None:
    fail2ban = opened(tmp_path, STOCK, {"jail.local": "[own]\nfilter = own\n"})
    (tmp_path / "filter.d/own.conf").symlink_to("/nowhere/own.conf")
    assert str(refused(fail2ban, "own")) == (
        f"{tmp_path}/jail.local line 2, [own] filter: the filter 'own' is a link that leads "
        "nowhere; mend it, or mount what it leads to, too"
    )


def test_a_missing_include_is_named_with_the_name_that_it_would_define(tmp_path: Path) -> None:
    text = "[INCLUDES]\nbefore = comon.conf\n[Definition]\nfailregex = ^%(prefix)s <HOST>\n"
    files = {"filter.d/own.conf": text, "jail.local": "[own]\nfilter = own\n"}
    problem = refused(opened(tmp_path, files), "own")
    assert problem.place == f"{tmp_path}/filter.d/own.conf line 4, [Definition] failregex"
    assert problem.what.startswith("%(prefix)s is defined nowhere, and ")
    assert (
        f"own.conf line 2, [INCLUDES] before: 'comon.conf' is not there; put it at {tmp_path}"
        in (problem.what)
    )
