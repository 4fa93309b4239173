"""
The table of shipped filters in docs/filters.md: `python -m tests.lab.filters_page` writes it.

In: the filters' files. Out: one row for each. A test compares.
"""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILTERS = ROOT / "dockerjail" / "filters"
PAGE = ROOT / "docs" / "filters.md"
HEAD = "| filter | catches |\n|---|---|\n"


def table() -> str:
    """Return the table."""
    rows = []
    for path in sorted(FILTERS.glob("*.toml")):
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        description = data["description"].rstrip(".").replace("|", "\\|")
        rows.append(f"| `{path.stem}` | {description} |\n")
    return HEAD + "".join(rows)


def write(page: Path = PAGE) -> None:
    """Put the table in place of the one that is there."""
    before, _, rest = page.read_text(encoding="utf-8").partition(HEAD)
    behind = rest.lstrip("\n")
    while behind.startswith("|"):
        behind = behind.partition("\n")[2]
    page.write_text(f"{before}{table()}\n{behind.lstrip()}", encoding="utf-8")


if __name__ == "__main__":
    write()
