"""Promises of `%(name)s`."""

import pytest

from dockerjail.config.fail2ban import ini
from dockerjail.config.fail2ban.interpolate import Names
from dockerjail.config.fail2ban.merged import Merged
from dockerjail.config.fail2ban.mistakes import Fail2banError


def names(*files: str, section: str = "a", **more: dict[str, str]) -> Names:
    merged = Merged(ini.parse(text.encode(), f"f{n}") for n, text in enumerate(files))
    return Names(merged, section, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[DEFAULT]\ny = d\n[a]\nx = <%(y)s>", "<d>"),
        ("[DEFAULT]\ny = d\n[a]\ny = own\nx = <%(Y)s>", "<own>"),
        ("[DEFAULT]\ny = d\n[a]\ny = own\nx = <%(default/y)s>", "<d>"),
        ("[DEFAULT]\nx = <%(y)s>\n[a]\ny = own", "<own>"),
        ("[b]\ny = <%(z)s>\nz = b\n[a]\nz = own\nx = %(b/y)s", "<own>"),
        ("[DEFAULT]\ny = d\n[b]\n[a]\nx = %(b/y)s", "d"),
        ("[a]\nx = %(__name__)s", "a"),
        ("[a]\nx = 100%% %%(y)s", "100% %(y)s"),
        ("[a]\nx = %(y)s%(y)s\ny = 1\n  2", "1\n21\n2"),
    ],
)
def test_a_name_is_looked_up_where_fail2ban_looks(text: str, value: str) -> None:
    assert names(text).text("x") == value


def test_known_is_the_value_before_each_override_however_many_there_are() -> None:
    files = ["[a]\nx = 1", *(f"[a]\nx = %(known/x)s {n}" for n in range(2, 9))]
    assert names(*files).text("x") == "1 2 3 4 5 6 7 8"


def test_known_of_another_key_is_what_that_was_before() -> None:
    assert names("[a]\ny = old", "[a]\ny = new\nx = %(known/y)s").text("x") == "old"


def test_known_of_a_key_that_nobody_overrides_is_its_value() -> None:
    assert names("[a]\ny = only", "[a]\nx = %(known/y)s").text("x") == "only"


def test_known_of_a_key_without_a_value_before_is_the_default() -> None:
    assert names("[DEFAULT]\nx = d\n[a]\nx = %(known/x)s own").text("x") == "d own"


def test_known_in_the_defaults_goes_back_too() -> None:
    assert names("[DEFAULT]\nx = d\n[a]", "[DEFAULT]\nx = %(known/x)s e").text("x") == "d e"


def test_a_file_read_twice_is_no_override_of_itself() -> None:
    files = [ini.parse(b"[a]\nx = 1", "f"), ini.parse(b"[a]\nx = %(known/x)s 2", "g")]
    assert Names(Merged([*files, files[1]]), "a").text("x") == "1 2"


def test_what_is_handed_over_wins_and_what_is_built_in_does_not() -> None:
    text = "[a]\ny = own\nx = %(y)s %(v)s"
    found = names(text, given={"y": "given"}, builtin={"y": "no", "v": "built in"})
    assert found.text("x") == "given built in"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[a]\nx = %(y)s", "%(y)s is defined nowhere; write y = … in the same section"),
        ("[a]\nporti = 1\nx = %(portt)s", "%(portt)s is defined nowhere; write %(porti)s"),
        ("[a]\nx = %(b/y)s", "%(b/y)s is defined nowhere"),
        ("[a]\nx = %(action_mw)s", "it is in fail2ban's own jail.conf: put that beside this file"),
        ("[a]\nx = 50% off", "'% off': a lone % means nothing; write %% for a percent sign"),
        ("[a]\nx = %(y)", "a lone % means nothing"),
        ("[a]\nx = %(x)s 1", "%(x)s refers to itself; write %(known/x)s for what it was before"),
        ("[a]\nx = %(y)s\ny = %(x)s", "%(x)s refers to itself"),
        (
            "[a]\nx = %(k0)s\n" + "".join(f"k{n} = %(k{n + 1})s\n" for n in range(20)) + "k20 = 1",
            "more than 10 values refer to each other",
        ),
        (
            "[a]\nx = %(k0)s\n"
            + "".join(f"k{n} = {f'%(k{n + 1})s' * 20}\n" for n in range(8))
            + "k8 = 0123456789",
            "grows without end",
        ),
    ],
)
def test_a_name_that_cannot_be_meant_is_refused_with_its_place(text: str, what: str) -> None:
    with pytest.raises(Fail2banError) as caught:
        names(text).text("x")
    assert what in str(caught.value)
    assert caught.value.problem.place.startswith("f0 line ")


def test_a_key_that_nobody_set_is_none() -> None:
    assert names("[a]\ny = 1").text("x") is None


def test_a_conditional_section_gives_its_section_conditional_keys() -> None:
    merged = Merged([ini.parse(b"[Init]\nx = 4\n[Init?family=inet6]\nx = 6", "f")])
    assert list(merged.sections["Init"].layers) == ["x", "x?family=inet6"]
