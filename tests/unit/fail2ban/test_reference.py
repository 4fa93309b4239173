"""Promises of `NAME[option=value]`."""

import pytest

from dockerjail.config.fail2ban.reference import one, several
from dockerjail.config.mistake import Mistake


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("f", {}),
        (" f ", {}),
        ("f[]", {}),
        ("f[a=1]", {"a": "1"}),
        ("f [a=1]", {"a": "1"}),
        ("f[ a = 1 , b=2 ]", {"a": "1", "b": "2"}),
        ("f[a=1][b=2]", {"a": "1", "b": "2"}),
        ("f[a=1] [b=2]", {"a": "1", "b": "2"}),
        ("f[a=1,]", {"a": "1"}),
        ("f[a=1, a=2]", {"a": "2"}),
        ("f[a=]", {"a": ""}),
        ("f[a=x y]", {"a": "x y"}),
        ('f[a="1,2]", b=\'"[3]"\']', {"a": "1,2]", "b": '"[3]"'}),
        ('f[a=" x ", b="1\n2"]', {"a": "x", "b": "1\n2"}),
        ('f[a="x" , b="y" ]', {"a": "x", "b": "y"}),
        ("f[\n  a=1,\n  b-c.d_e=2\n]", {"a": "1", "b-c.d_e": "2"}),
        ('f[a?family=inet6="x", b=1]', {"a?family=inet6": "x", "b": "1"}),
        ("f[a=1=2]", {"a": "1=2"}),
    ],
)
def test_options_are_read_however_they_are_quoted(text: str, options: dict[str, str]) -> None:
    found = one(text)
    assert (found.name, dict(found.options)) == ("f", options)


def test_several_references_are_separated_by_blanks_or_lines() -> None:
    found = several('a[x="1 2"]\nb  c[y=3][z=4] d\n\n')
    assert [(each.name, dict(each.options)) for each in found] == [
        ("a", {"x": "1 2"}),
        ("b", {}),
        ("c", {"y": "3", "z": "4"}),
        ("d", {}),
    ]
    assert several(" \n ") == ()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "names nothing"),
        ("a b", "more than one name"),
        ("[a=1]", "begins with a bracket"),
        ("f[a]", "'a]' is no option"),
        ("f[a=1", "write ] at its end"),
        ('f[a="1]', "is no option"),
        ('f[a="1"2]', "'2]' behind a is no option"),
        ("f[known/a=1]", "'known/a=1]' is no option"),
    ],
)
def test_a_bad_bracket_is_refused_with_where_it_begins(text: str, what: str) -> None:
    with pytest.raises(Mistake) as caught:
        one(text)
    assert what in str(caught.value)
    assert "write " in str(caught.value)
