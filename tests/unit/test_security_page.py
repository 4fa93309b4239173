"""The threat model names a test for each of its words: they are there."""

import ast
import re

import pytest

from tests.lab.images import TOP

PAGE = (TOP / "docs/security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def rows() -> list[str]:
    """Return the rows of all tables, without headings and rules."""
    lines = PAGE.splitlines()
    return [
        line
        for number, line in enumerate(lines)
        if line.startswith("|")
        and not line.startswith("|---")
        and not lines[number + 1].startswith("|---")
    ]


def test_there_is_something_to_see_to() -> None:
    assert len(NAMED) > 40
    assert len(rows()) > 20


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    tree = ast.parse((TOP / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in tree.body if isinstance(node, functions)}


@pytest.mark.parametrize("row", rows())
def test_each_row_names_a_test(row: str) -> None:
    assert "::test_" in row.rstrip("| ").rpartition("|")[2]
