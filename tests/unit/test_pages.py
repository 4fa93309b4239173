"""Pages that name tests and numbers: both are there, and those of the code."""

import ast
import importlib
import re
from functools import cache

import pytest

from tests.lab.images import TOP

PAGES = {name: (TOP / "docs" / name).read_text("utf-8") for name in ("bounds.md", "security.md")}
TESTS = sorted(
    {found for text in PAGES.values() for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)}
)
NUMBERS = re.findall(
    r"([0-9]+(?: [0-9]{3})*) ?(KiB|MiB|ms)?[^0-9|()`]*\(`([a-z_.]+)\.([A-Z_]+)`\)",
    PAGES["bounds.md"],
)
UNITS = {"KiB": 1024, "MiB": 1024 * 1024, "ms": 0.001}


def rows(text: str) -> list[str]:
    """Return the rows of all tables, without headings and rules."""
    lines = text.splitlines()
    return [
        line
        for line, below in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("| ") and not below.startswith("|---")
    ]


@cache
def functions_in(file: str) -> frozenset[str]:
    tree = ast.parse((TOP / file).read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, functions))


def test_there_is_something_to_see_to() -> None:
    assert all(len(rows(text)) > 20 for text in PAGES.values())
    assert len(TESTS) > 80
    assert len(NUMBERS) > 40
    assert len(NUMBERS) == len(re.findall(r"\(`[a-z_.]+\.[A-Z_]+`\)", PAGES["bounds.md"]))


@pytest.mark.parametrize("row", [row for text in PAGES.values() for row in rows(text)])
def test_each_row_names_a_test(row: str) -> None:
    assert "::test_" in row.rstrip("| ").rpartition("|")[2]


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_a_test_that_a_page_names_exists(file: str, name: str) -> None:
    assert name in functions_in(file)


@pytest.mark.parametrize(("number", "unit", "module", "name"), NUMBERS)
def test_a_number_on_a_page_is_the_codes(number: str, unit: str, module: str, name: str) -> None:
    said = int(number.replace(" ", "")) * UNITS.get(unit, 1)
    assert getattr(importlib.import_module(f"dockerjail.{module}"), name) == said
