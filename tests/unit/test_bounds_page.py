"""The page of bounds names a test for each of them, and numbers: both are those of the code."""

import ast
import importlib
import re
from functools import cache

import pytest

from tests.lab.images import TOP

PAGE = (TOP / "docs/bounds.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
NUMBERS = re.findall(
    r"([0-9]+(?: [0-9]{3})*) ?(KiB|MiB|ms)?[^0-9|()`]*\(`([a-z_.]+)\.([A-Z_]+)`\)", PAGE
)
UNITS = {"KiB": 1024, "MiB": 1024 * 1024, "ms": 0.001}
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "shown by" not in line]


def test_there_is_something_to_see_to() -> None:
    assert len(TESTS) > 45
    assert len(NUMBERS) > 40
    assert len(NUMBERS) == len(re.findall(r"\(`[a-z_.]+\.[A-Z_]+`\)", PAGE))


@pytest.mark.parametrize("row", ROWS)
def test_each_bound_names_a_test(row: str) -> None:
    assert "::test_" in row.rstrip("| ").rpartition("|")[2]


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((TOP / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, functions))


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    assert name in names_in(file)


@pytest.mark.parametrize(("number", "unit", "module", "name"), NUMBERS)
def test_a_number_on_the_page_is_the_codes(number: str, unit: str, module: str, name: str) -> None:
    said = int(number.replace(" ", "")) * UNITS.get(unit, 1)
    assert getattr(importlib.import_module(f"dockerjail.{module}"), name) == said
