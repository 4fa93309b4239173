"""Promises of the reader of one file."""

import configparser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.config.fail2ban import ini
from dockerjail.model import Problem

LINES = (
    *("[a]", "[b]", "[DEFAULT]", " [c]", "[a] x", "[x]y]", "[]", "["),
    *(
        "key = v",
        "KEY = z",
        "k2: w",
        "k3 = x;y ; z",
        "k4",
        "k5 =",
        "= q",
        "k6 = a = b",
        "k7 : c = d",
    ),
    *("  cont", "\tcont", "    deep = 1", "", " ", "# c", " ; c", "v ; comment", "  ; inside"),
    *("failregex = ^a", "  ^b", "k8 = #x", "k10 = ;", "k 11 = m  ", "\x0bk12 = 1", "k13 = \x0c2"),
)


def values(text: str) -> dict[str, dict[str, str]]:
    return {
        name: {key: entry.text for key, entry in section.entries.items()}
        for name, section in ini.parse(text.encode(), "f").sections.items()
    }


def mistakes(data: str | bytes) -> dict[str, list[Problem]]:
    file = ini.parse(data if isinstance(data, bytes) else data.encode(), "/etc/f")
    return {
        name: list(section.mistakes) for name, section in file.sections.items() if section.mistakes
    }


@given(st.lists(st.sampled_from(LINES), max_size=10).map("\n".join))
def test_a_file_means_what_it_means_to_pythons_configparser(text: str) -> None:
    parser = configparser.ConfigParser(inline_comment_prefixes=";", interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        assert mistakes(text)
        return
    expected = {name: dict(parser[name]) for name in parser.sections()}
    for section in expected.values():
        for key, value in parser.defaults().items():
            if section[key] == value:
                del section[key]
    found = values(text)
    defaults = found.pop("DEFAULT", {})
    assert defaults == dict(parser.defaults())
    assert {name: {**defaults, **own} for name, own in found.items()} == {
        name: {**defaults, **own} for name, own in expected.items()
    }
    assert not mistakes(text)


def test_a_value_knows_its_file_and_line() -> None:
    section = ini.parse(b"# c\n\n[web]\nport = 1\n\nmaxretry = 2\n", "/etc/jail.local").sections[
        "web"
    ]
    assert section.place == "/etc/jail.local line 3, [web]"
    assert section.entries["maxretry"].place == "/etc/jail.local line 6, [web] maxretry"


def test_lines_of_a_value_are_kept_and_comments_between_them_vanish() -> None:
    text = "[a]\nfailregex = ^one\n\n   ^two\n   # not this\n   ; nor this\n   ^three\n\n\nb = c"
    assert values(text) == {"a": {"failregex": "^one\n\n^two\n^three", "b": "c"}}


def test_windows_line_ends_mean_nothing() -> None:
    assert values("[a]\r\nx = 1\r\n  2\r\n") == {"a": {"x": "1\n2"}}


@pytest.mark.parametrize(
    ("text", "section", "place", "what"),
    [
        (
            "[a]\nx = 1\nX = 2\n[b]\ny = 1",
            "a",
            "/etc/f line 3, [a]",
            "x stands here again, after line 2",
        ),
        (
            "[a]\nx = 1\n[b]\ny = 1\n[a]\n",
            "a",
            "/etc/f line 5, [a]",
            "stands here again, after line 1",
        ),
        ("[a]\nx = 1\nport 22\n[b]\ny = 1", "a", "/etc/f line 3, [a]", "'port 22' is neither"),
        ("[a]\n= 22\n[b]\ny = 1", "a", "/etc/f line 2, [a]", "'= 22' is neither"),
        ("y = 1\n[b]\ny = 1", "DEFAULT", "/etc/f line 1", "'y = 1' stands before any section"),
    ],
)
def test_what_fail2ban_dies_of_is_a_mistake_of_its_section_alone(
    text: str, section: str, place: str, what: str
) -> None:
    found = mistakes(text)
    assert list(found) == [section]
    assert found[section][0].place == place
    assert what in found[section][0].what
    assert found[section][0].remedy
    assert values(text)["b"] == {"y": "1"}


def test_bytes_that_are_no_utf8_are_a_mistake_of_their_section_alone() -> None:
    data = b"[a]\nx = \xe9\n[b]\ny = \xc3\xa9\n# caf\xe9\n"
    (mistake,) = mistakes(data)["a"]
    assert (mistake.place, mistake.remedy) == ("/etc/f line 2, [a]", "save the file as UTF-8")
    assert ini.parse(data, "f").sections["b"].entries["y"].text == "é"
    assert list(mistakes(data)) == ["a"]


def test_a_header_that_is_no_utf8_takes_what_is_below_it_along() -> None:
    data = b"[a]\nx = 1\n[\xe9]\nx = 2\n"
    assert list(mistakes(data)) == ["\ufffd"]
    assert ini.parse(data, "f").sections["a"].entries["x"].text == "1"


def test_a_byte_order_mark_is_remarked_upon_and_nothing_is_lost() -> None:
    file = ini.parse(b"\xef\xbb\xbf[a]\nx = 1\n", "f")
    assert file.sections["a"].entries["x"].text == "1"
    assert "byte order mark" in file.problems[0].what
    assert not mistakes(b"\xef\xbb\xbf[a]\nx = 1\n")


@pytest.mark.parametrize(
    "regex",
    [
        r"^a ;b <HOST>$",
        r"^a ; ruser=\S* <HOST>",
        r"^(?:x ; y)? <HOST>",
        r"^a ;<F-USER>.*</F-USER> <ADDR>",
        r"^<HOST> a ; [^b]",
    ],
)
def test_a_regex_with_a_semicolon_behind_a_blank_is_kept_whole_and_remarked_upon(
    regex: str,
) -> None:
    section = ini.parse(f"[Definition]\nfailregex = {regex}\n  ^x\n".encode(), "f").sections[
        "Definition"
    ]
    assert section.entries["failregex"].text == f"{regex}\n^x"
    assert "fail2ban cuts it there" in section.remarks[0].what
    assert section.remarks[0].place == "f line 2, [Definition]"
    more = ini.parse(f"[Definition]\nfailregex = ^x\n  {regex}\n".encode(), "f").sections[
        "Definition"
    ]
    assert more.entries["failregex"].text == f"^x\n{regex}"
    assert more.remarks


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("failregex = ^a <HOST>$ ; since version 2", "^a <HOST>$"),
        ("failregex = ^a;b <HOST>$", "^a;b <HOST>$"),
        (r"port = 1 ; was \d+ $", "1"),
    ],
)
def test_a_comment_behind_a_value_is_cut_without_a_word(line: str, text: str) -> None:
    section = ini.parse(f"[Definition]\n{line}\n".encode(), "f").sections["Definition"]
    assert [entry.text for entry in section.entries.values()] == [text]
    assert not section.remarks


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    ini.parse(data, "f")
    ini.parse(b"[a]\n" + data, "f")
