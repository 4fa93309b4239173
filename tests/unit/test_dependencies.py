"""What is depended on: bounded, locked by hash without addresses, and free to be used."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.lab.images import FLASK, TOP

PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
RUN = TOP / "requirements/run.txt"
FAST = TOP / "requirements/fast.txt"
LOCKS = [*sorted((TOP / "requirements").glob("*.txt")), FLASK / "requirements.txt"]

FREE = re.compile(
    r"MIT|ISC|BSD|Apache|PSF|Python Software Foundation|0BSD|Unlicense|Zlib", re.IGNORECASE
)
BOUND = re.compile(r"GPL|MPL|EUPL|CDDL|SSPL|BUSL|Commons Clause", re.IGNORECASE)
"""Licences that would bind who uses or passes on the image, unless another may be chosen."""


def entries(lock: Path) -> list[str]:
    """Return each entry of a lock file as one line."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pinned(lock: Path) -> dict[str, str]:
    """Return name and version of each entry."""
    found = (re.match(r"([\w.-]+)==(\S+)", entry) for entry in entries(lock))
    return {canonicalize_name(each[1]): each[2] for each in found if each}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_lock_names_exact_versions_by_hash_and_no_address(lock: Path) -> None:
    assert entries(lock)
    for entry in entries(lock):
        assert re.match(r"[\w.-]+==[\w.!+-]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert "://" not in lock.read_text(encoding="utf-8")


WANTED = [
    *((wanted, RUN) for wanted in PROJECT["project"]["dependencies"]),
    *((wanted, FAST) for wanted in PROJECT["project"]["optional-dependencies"]["fast"]),
]


@pytest.mark.parametrize(("wanted", "lock"), WANTED)
def test_what_is_locked_is_within_the_bounds_of_pyproject(wanted: str, lock: Path) -> None:
    requirement = Requirement(wanted)
    assert any(each.operator in ("<", "<=", "==", "~=") for each in requirement.specifier)
    assert requirement.specifier.contains(pinned(lock)[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("name", sorted({**pinned(RUN), **pinned(FAST)}))
def test_every_dependency_has_a_licence_that_an_mit_project_may_depend_on(name: str) -> None:
    told = importlib.metadata.metadata(name)
    written = [told.get("License-Expression") or "", (told.get("License") or "")[:100]]
    written += [each for each in told.get_all("Classifier") or () if each.startswith("License")]
    # "A or B": one may be chosen
    choices = [
        choice for text in written for choice in re.split(r"\bor\b", text, flags=re.IGNORECASE)
    ]
    free = [choice for choice in choices if FREE.search(choice) and not BOUND.search(choice)]
    assert free, f"{name}: {written}; if it is free, say so here"
