"""Promises of `<name>`."""

import pytest

from dockerjail.config.fail2ban import tags
from dockerjail.config.fail2ban.mistakes import Fail2banError


def fill(text: str, own: str = "", **known: str) -> str:
    return tags.fill(text, known.get, own=own, place="f line 1")


def test_the_innermost_name_is_replaced_first() -> None:
    found = fill("<re-<mode>> <HOST>", **{"mode": "two", "re-two": "(<re-one>)", "re-one": "1"})
    assert found == "(1) <HOST>"


def test_what_nobody_knows_stays() -> None:
    text = "<HOST> <F-USER>\\S+</F-USER> user=<<F-X>[^>]*</F-X>> <a b> <>"
    assert fill(text) == text


def test_an_empty_value_takes_the_name_away() -> None:
    assert fill("a<x>b", x="") == "ab"


@pytest.mark.parametrize(
    "known",
    [{"x": "<x>"}, {"x": "<y>", "y": "<x>"}, {"x": "a<y>", "y": "b<z>", "z": "c<y>"}],
)
def test_a_value_that_would_contain_itself_is_refused(known: dict[str, str]) -> None:
    with pytest.raises(Fail2banError, match=r"f line 1: <.> stands for itself"):
        fill("<x>", own="x", **known)
    with pytest.raises(Fail2banError, match=r"f line 1: <.> stands for itself"):
        fill("<x>", **known)


def test_a_value_that_doubles_with_each_name_ends() -> None:
    known = {f"k{n}": f"<k{n + 1}>" * 20 for n in range(20)}
    with pytest.raises(Fail2banError, match="grow without end"):
        fill("<k0>", **known)
