"""Promises of a filter with its options."""

from pathlib import Path

import pytest

from dockerjail.config.fail2ban.daemon import a_name
from dockerjail.config.fail2ban.mistakes import Fail2banError
from dockerjail.jail.rule import UseDns
from tests.unit.fail2ban.directory import STOCK, opened, refused


def test_an_option_in_brackets_reaches_tags_and_names(tmp_path: Path) -> None:
    text = "[Definition]\nfailregex = ^%(x)s <x> <HOST>\nx = own"
    fail2ban = opened(tmp_path, {"filter.d/a.conf": text})
    assert fail2ban.rule("a").failregex == ("^own own <HOST>",)
    assert fail2ban.rule('a[x="b,c"]').failregex == ("^b,c b,c <HOST>",)


def test_an_option_of_init_is_known_even_when_it_is_overridden(tmp_path: Path) -> None:
    text = "[Definition]\nfailregex = ^<block> <HOST>\n[Init]\nblock = a|b"
    fail2ban = opened(tmp_path, {"filter.d/a.conf": text})
    assert fail2ban.rule("a").failregex == ("^a|b <HOST>",)
    assert fail2ban.rule('a[block="c|<known/block>"]').failregex == ("^c|a|b <HOST>",)


def test_a_list_of_regexes_is_chosen_by_mode(tmp_path: Path) -> None:
    fail2ban = opened(tmp_path, STOCK)
    assert fail2ban.rule("web").failregex == ("^normal <HOST>", "^usual <HOST>")
    assert fail2ban.rule("web[mode=more]").failregex == ("^more <HOST>", "^more <HOST>")


def test_all_that_a_filter_says_is_in_the_rule(tmp_path: Path) -> None:
    text = (
        "[Definition]\nfailregex = ^<HOST>\n  ^b <HOST>\nignoreregex = ^c\n"
        "prefregex = ^p <F-CONTENT>.*</F-CONTENT>\nmaxlines = 3\nusedns = Yes\n"
        "datepattern = ^%%Y\n  {^LN-BEG}\n"
    )
    rule = opened(tmp_path, {"filter.d/a.conf": text}).rule("a")
    assert rule.failregex == ("^<HOST>", "^b <HOST>")
    assert rule.ignoreregex == ("^c",)
    assert rule.prefregex == "^p <F-CONTENT>.*</F-CONTENT>"
    assert rule.datepattern == ("^%Y", "{^LN-BEG}")
    assert (rule.maxlines, rule.usedns, rule.prefix) == (3, UseDns.YES, "")


@pytest.mark.parametrize(
    ("word", "remark"),
    [
        ("no", ""),
        ("raw", "would ban a name, and only addresses can be banned"),
        ("perhaps", "is none of yes, warn and no"),
    ],
)
def test_a_name_is_never_banned(tmp_path: Path, word: str, remark: str) -> None:
    text = f"[Definition]\nfailregex = ^<HOST>\nusedns = {word}"
    reading = opened(tmp_path, {"filter.d/a.conf": text}).filter("a")
    assert reading.rule.usedns is UseDns.NO
    assert [remark in problem.what for problem in reading.problems] == [True] * bool(remark)


def test_a_filter_that_needs_syslogs_prefix_gets_one(tmp_path: Path) -> None:
    fail2ban = opened(tmp_path, STOCK)
    assert fail2ban.rule("shell[_daemon=shell]").prefix == "shell[1]: "
    assert fail2ban.rule("shell").prefix == "shelld[1]: "
    assert fail2ban.rule("shell[_daemon='(?:a|b)+/[c-e]{2}']").prefix == "a/cc[1]: "
    assert fail2ban.rule("web").prefix == ""


def test_a_prefix_that_the_filter_would_not_take_is_not_put(tmp_path: Path) -> None:
    assert opened(tmp_path, STOCK).rule("shell[logtype=rfc5424]").prefix == ""


def test_a_filter_that_wants_the_prefix_and_no_content_gets_none(tmp_path: Path) -> None:
    text = "[INCLUDES]\nbefore = common.conf\n[Definition]\nfailregex = ^%(__prefix_line)sx <HOST>"
    assert opened(tmp_path, STOCK, {"filter.d/a.conf": text}).rule("a").prefix == ""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[Definition]\nx = 1", "has no failregex"),
        ("[Definition]\nfailregex = ^<HOST>\nmaxlines = two", "'two' is not a whole number"),
        ("[Definition]\nfailregex = ^<HOST>\nmaxlines = 100000", "is more than 1000"),
        ("[Definition]\nfailregex = <a> <HOST>\na = <b>\nb = <a>", "stands for itself"),
        ("[Definition]\nfailregex = %(nothing)s", "%(nothing)s is defined nowhere"),
        ("[Definition]\nfailregex = <s/x> <HOST>\n[s]\nx = 1\nx = 2", "x stands here again"),
    ],
)
def test_a_filter_that_cannot_work_is_refused(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(Fail2banError) as caught:
        opened(tmp_path, {"filter.d/a.conf": text}).rule("a")
    assert what in str(caught.value)


def test_a_section_with_a_mistake_that_nobody_asks_for_does_no_harm(tmp_path: Path) -> None:
    text = "[Definition]\nfailregex = ^<HOST>\n[s]\nx = 1\nx = 2"
    assert opened(tmp_path, {"filter.d/a.conf": text}).rule("a").failregex == ("^<HOST>",)


def test_a_truncated_regex_is_told_of(tmp_path: Path) -> None:
    text = "[Definition]\nfailregex = ^a ; (?:b)? <HOST>$"
    reading = opened(tmp_path, {"filter.d/a.conf": text}).filter("a")
    assert reading.rule.failregex == ("^a ; (?:b)? <HOST>$",)
    (problem,) = reading.problems
    assert problem.place == f"{tmp_path}/filter.d/a.conf line 2, [Definition]"


@pytest.mark.parametrize(
    ("regex", "name"),
    [
        ("sshd", "sshd"),
        (r"postfix(-\w+)?/\w+(?:/smtp[ds])?", "postfix/a"),
        (r"(?:sendmail|sm-(?:mta|acceptingconnections))", "sendmail"),
        (r"\S*", ""),
        (r"\S+", "a"),
        (r"[^a]\d{3}", "b111"),
        (r"[^\s]x", "ax"),
        (r"a.b", "aab"),
        (r"(?!a)a", ""),
        (r"(?i:Ab)(?=)", "Ab"),
        (r"(a)\1", ""),
        (r"((a{40}){40}){40}", ""),
        (r"a++b", "ab"),
        ("(", ""),
    ],
)
def test_a_name_is_found_that_the_regex_matches_as_a_whole(regex: str, name: str) -> None:
    assert a_name(regex) == name


@pytest.mark.parametrize(
    "regex",
    [
        r'^\{"log":".* login failed from <HOST>\\n".*$',
        r'^{"log":"login failed from <HOST>',
        r'"log"\s*:\s*".*failed.*<HOST>',
        r"\"log\":\".*<HOST>",
    ],
)
def test_a_regex_for_the_json_files_of_docker_is_known(tmp_path: Path, regex: str) -> None:
    text = f"[Definition]\nfailregex = {regex}\n"
    found = opened(tmp_path, {"filter.d/a.conf": text}).filter("a")
    assert found.rule.wrapped
    assert found.problems == ()


def test_a_regex_for_an_applications_own_json_is_not(tmp_path: Path) -> None:
    text = '[Definition]\nfailregex = ^{"logger":"auth","catalog":"x","ip":"<HOST>"\n'
    assert not opened(tmp_path, {"filter.d/a.conf": text}).filter("a").rule.wrapped


def test_a_mode_that_the_filter_does_not_have_is_told(tmp_path: Path) -> None:
    (problem,) = opened(tmp_path, STOCK).filter("web[mode=mroe]").problems
    assert problem.what == "the failregex '^<re-mroe>' stands for nothing that is defined"
    assert problem.place == f"{tmp_path}/filter.d/web.conf line 2, [Definition] failregex"


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("[definition]\nfailregex = ^<HOST>", "line 1, [definition]", "write [Definition]"),
        (
            "[Definition]\nx = 1\nfailrgex = ^<HOST>",
            "line 3, [Definition] failrgex",
            "write failregex",
        ),
        (
            "[Definition]\nx = 1",
            "line 1, [Definition]",
            "write failregex = … with <HOST> where the address is",
        ),
        (
            "[Definition]\nfailregex = ^<HOST>\n[Init]\nmaxlines = ten",
            "line 4, [Init] maxlines",
            "write a whole number such as 5",
        ),
        ("failregex = ^<HOST>", "line 1", "write [Definition] above it"),
    ],
)
def test_a_mistake_in_a_filter_is_told_where_it_stands(
    tmp_path: Path, text: str, place: str, remedy: str
) -> None:
    files = {"filter.d/a.conf": text, "jail.local": "[a]\nfilter = a\n"}
    problem = refused(opened(tmp_path, files), "a")
    assert problem.place == f"{tmp_path}/filter.d/a.conf {place}"
    assert problem.remedy == remedy
