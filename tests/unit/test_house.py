"""The plan of the house in DESIGN.md: every room is on it, and what it calls pure is held to that."""

import ast
import re
import tomllib

import pytest

from tests.lab.images import TOP

DESIGN = (TOP / "DESIGN.md").read_text("utf-8")
PLAN = DESIGN[DESIGN.index("## 2. ") : DESIGN.index("## 3. ")]
CONTRACTS = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
PURE = next(
    each["source_modules"] for each in CONTRACTS["contracts"] if "pure" in each["name"].casefold()
)
MODULES = {
    ".".join(path.relative_to(TOP).with_suffix("").parts): path
    for path in sorted((TOP / "dockerjail").rglob("*.py"))
    if not path.stem.startswith("__") and "cli" not in path.parts
}


def on_the_plan(module: str) -> str:
    """Return the part of the plan where a module's room is drawn."""
    _, *rooms, name = module.split(".")
    part = PLAN
    for room in rooms:
        part = part.partition(f" {room}/ ")[2]
    found = re.search(rf"(?<![\w/]){name}(\*?)(?!\w)", part)
    return "" if found is None else found[0]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_on_the_plan(module: str) -> None:
    assert on_the_plan(module)


@pytest.mark.parametrize("module", MODULES)
def test_what_calls_itself_pure_is_held_to_it(module: str) -> None:
    held = any(module == each or module.startswith(f"{each}.") for each in PURE)
    plate = ast.get_docstring(ast.parse(MODULES[module].read_text("utf-8"))) or ""
    assert on_the_plan(module).endswith("*") == held
    if re.search(r"\bPure[.:]", plate):
        assert held


def test_nothing_is_held_twice() -> None:
    assert len(PURE) == len(set(PURE))
