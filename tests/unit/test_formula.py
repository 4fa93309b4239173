"""Formulas are arithmetic, and nothing else."""

import math
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dockerjail.jail.formula import LONGEST, Formula, FormulaError, constant

DEFAULT = "ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor"
DOCUMENTED = "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEFAULT, 4800),
        (DOCUMENTED, 600 * math.exp(3)),
        (" ban.Time\n", 600),
        ("1 if ban.Count > 3 else 2", 2),
        ("ban.Time << ban.Count", 4800),
        ("ban.Time >> 1", 300),
        ("ban.Time // 7 + ban.Time % 7 - 2 ** 3 / 4", 85 + 5 - 2),
        ("-ban.Time + +1", -599),
        ("1 < ban.Count < 4 and 7", 7),
        ("1 < ban.Count < 3 or 8", 8),
        ("not ban.Count", 0),
        ("(ban.Count == 3) * 5 + (ban.Count != 3) * 6 + (3 >= 3) + (3 <= 2)", 6),
        ("min(ban.Time, 5, 9) + max(1, 2)", 7),
        ("abs(-3) + pow(2, 3) + math.pow(2, 3)", 19),
        ("round(2.5) + round(2.25, 1) + round(1234, -2)", 2 + 2.2 + 1200),
        ("math.floor(2.9) + math.ceil(2.1) + int(-2.9)", 3),
        ("math.sqrt(16) + math.log(8, 2) + math.log(math.exp(1))", 8),
        ("1 << round(2.2)", 4),
        ("(1 << 70) >> 68", 4),
        ("(2 ** 70 + 1) % 2", 1),
    ],
)
def test_a_formula_is_worked_out_as_python_would(text: str, expected: float) -> None:
    assert Formula(text).seconds(600.0, 3, 1.0) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("math.exp(ban.Time * 2)", math.inf),
        ("10.0 ** 400", math.inf),
        ("2 ** 2 ** 2 ** 2 ** 2 ** 2", math.inf),
        ("(-10.0) ** 401", -math.inf),
        ("(-10) ** 10 ** 9", math.inf),
        ("1 << (1 << 40)", math.inf),
        ("-1 << 10 ** 30", -math.inf),
        ("0 << 10 ** 30", 0),
        ("1 >> 10 ** 30", 0),
        ("9 ** 300 * 9 ** 300", math.inf),
        ("int(1e308 * 10)", math.inf),
        ("math.floor(-1e308 * 10)", -math.inf),
        ("round(1e308 * 10)", math.inf),
        ("round(1.7976931348623157e308, -308)", math.inf),
        ("round(15, -10 ** 100)", 0),
        ("round(1.5, 10 ** 100)", 1.5),
        ("min(2 ** 5000, 100)", 100),
        ("2 ** -(2 ** 1000)", 0),
        ("1 / (1e308 * 10)", 0),
    ],
)
def test_what_is_too_large_is_infinite_at_once(text: str, expected: float) -> None:
    assert Formula(text).seconds(600.0, 1, 1.0) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 / 0", "division by zero"),
        ("ban.Time / (ban.Count - 3)", "ban.Count is 3.*division by zero"),
        ("ban.Count // (ban.Count - ban.Count)", "zero"),
        ("math.sqrt(-ban.Count)", "gives nothing"),
        ("(-ban.Count) ** 0.5", "negative"),
        ("(-1e300) ** 2.5", "negative"),
        ("math.log(0)", "gives nothing"),
        ("1 << ban.Count / 2", "whole numbers"),
        ("1.0 >> 1", "whole numbers"),
        ("1 << -ban.Count", "negative shift"),
        ("round(1.5, 0.5)", "whole number of digits"),
        ("1e308 * 10 - 1e308 * 10", "not a number"),
        ("0 * math.exp(10 ** 9)", "not a number"),
        ("int(1e308 * 10 - 1e308 * 10)", "gives nothing"),
    ],
)
def test_a_formula_that_is_no_number_is_found_when_it_is_read(text: str, why: str) -> None:
    with pytest.raises(FormulaError, match=why):
        Formula(text)


def test_a_formula_that_needs_its_own_factor_is_taken_and_is_no_number_without() -> None:
    formula = Formula("ban.Time / (banFactor - 2)")
    assert math.isnan(formula.seconds(600.0, 1, 2.0))
    assert formula.seconds(600.0, 1, 4.0) == 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty; write a number, or one of ban.Time"),
        ("ban", "'ban' is not known; write a number, or one of ban.Time, ban.Count, banFactor"),
        ("ban.time", "'ban.time' is not known.*ban.Time"),
        ("ban.Time.real", "not known"),
        ("ban.__class__", "not known"),
        ("(1).__class__", "not known"),
        ("math.pi", "not known"),
        ("math.exp", r"is a function; write math\.exp\(…\)"),
        ("random.random()", "may not be called; leave it out, and set rndtime"),
        ("__import__('os').system('true')", "may not be called; write one of float, int"),
        ("().__class__.__bases__[0].__subclasses__()", "may not be called"),
        ("eval('1')", "may not be called"),
        ("(lambda: 1)()", "may not be called"),
        ("math.exp(1)(2)", "may not be called"),
        ("lambda: 1", "a lambda is not known; write what it returns"),
        ("[1 for x in (1, 2)][0]", "is not allowed; write it with numbers"),
        ("sum(x for x in [1])", "may not be called"),
        ("max([1, 2])", r"has 1 numbers in its parentheses; write two numbers or more"),
        ("min(*[1, 2])", "without names and stars"),
        ("round(1.5, ndigits=1)", "without names and stars"),
        ("int(**{})", "without names and stars"),
        ("pow(2, 3, 5)", "has 3 numbers.*write two numbers"),
        ("float()", "write one number"),
        ("'600'", "is no number"),
        ("b'6'", "is no number"),
        ("f'{6}'", "is not allowed"),
        ("True", "is no number"),
        ("None", "is no number"),
        ("...", "is no number"),
        ("6j", "is no number"),
        ("1e999", "too large"),
        ("9" * 400, "too large"),
        ("ban.Time ^ 2", r"\^ is no power here; write \*\*"),
        ("ban.Time & 2", "& is not known; write and"),
        ("~1", "not allowed"),
        ("1 in (1, 2)", "not allowed"),
        ("1 is 1", "not allowed"),
        ("(1, 2)", "not allowed"),
        ("{1: 2}", "not allowed"),
        ("(x := 1)", ":= is not known"),
        ("await 1", "not allowed|is no formula"),
        ("yield", "not allowed|is no formula"),
        ("x = 1", "is no formula.*write one such as"),
        ("import os", "is no formula"),
        ("1 +", "is no formula"),
        ("3 fortnights", "is no formula"),
        ("1\0", "is no formula"),
        ("\ud800", "is no formula"),
        ("(" * 300, "is no formula"),
        ("-" * 400 + "1", "nested"),
        ("1+" * 200 + "1", "nested"),
        ("1" + " " * LONGEST + "+1", "characters long; write 500 at most"),
    ],
)
def test_what_is_not_arithmetic_is_refused_with_what_to_write(text: str, words: str) -> None:
    with pytest.raises(FormulaError, match=words) as raised:
        Formula(text)
    assert str(raised.value) == f"{raised.value.what}; {raised.value.remedy}"
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1.0), ("2.0/2.885385", 2 / 2.885385), ("-1", -1)]
)
def test_a_factor_is_a_number_that_may_be_worked_out(text: str, number: float) -> None:
    assert constant(text) == number


@pytest.mark.parametrize(
    "text", ["ban.Time", "banFactor", "1/0", "1e300*1e300", "", "one", "1 << -1"]
)
def test_a_factor_is_nothing_else(text: str) -> None:
    with pytest.raises(FormulaError):
        constant(text)


def test_formulas_are_values() -> None:
    assert Formula(DEFAULT) == Formula(DEFAULT)
    assert hash(Formula(DEFAULT)) == hash(Formula(DEFAULT))
    assert Formula("1") != Formula("2")
    assert repr(Formula("1")) == "Formula(text='1')"


atoms = st.sampled_from(
    ["ban.Time", "ban.Count", "banFactor", "0", "1", "2", "-3", "0.5", "1e308", "10**9", "1<<1000"]
)
terms = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from(
                "+ - * / // % ** << >> < <= > >= == != and or".split()  # noqa: SIM905 -- a list of 17 signs
            ),
            inner,
        ),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("(not {})".format, inner),
        st.builds(
            "{}({})".format,
            st.sampled_from(
                ["int", "float", "abs", "round", "math.exp", "math.log", "math.sqrt", "math.floor"]
            ),
            inner,
        ),
        st.builds(
            "{}({}, {})".format,
            st.sampled_from(["min", "max", "pow", "round", "math.pow", "math.log"]),
            inner,
            inner,
        ),
    ),
    max_leaves=12,
)
moments = st.tuples(
    st.floats(1, 1e12, allow_nan=False), st.integers(1, 10**6), st.floats(-1e6, 1e6)
)


def tried(text: str, moment: tuple[float, int, float]) -> Any:
    try:
        return Formula(text).seconds(*moment)
    except FormulaError:
        return None


@given(terms, moments)
@example("round(10**9, 1<<1000)", (1.0, 1, 1.0))
@example("((1<<1000) ** (1<<1000))", (1.0, 1, 1.0))
@example("math.log((1<<1000), 0.5)", (1.0, 1, 1.0))
def test_arithmetic_always_ends_in_a_float_or_the_formulas_own_error(
    text: str, moment: tuple[float, int, float]
) -> None:
    assert isinstance(tried(text, moment), float | None)


@given(st.text(st.sampled_from(string.printable + "é\ud800\0…"), max_size=60), moments)
def test_no_text_raises_anything_but_the_formulas_own_error(
    text: str, moment: tuple[float, int, float]
) -> None:
    assert isinstance(tried(text, moment), float | None)
