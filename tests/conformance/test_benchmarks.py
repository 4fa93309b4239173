"""
The benchmarks run, and their sides come to the same results; what anything took is not asked.

Each is a process of its own, as by hand: fail2ban sets the clock and the time zone of its process.
Those that need root are in `tests/engine/test_benchmarks.py`.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.lab.fail2ban import Fail2banPackage

TOP = Path(__file__).parent.parent.parent
PATIENCE = 300


def rows(name: str, directory: Path) -> Sequence[Mapping[str, Any]]:
    """Run a benchmark at its smallest; it ends with an error where two sides differ."""
    kept = directory / "rows.json"
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", kept],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    found: Sequence[Mapping[str, Any]] = json.loads(kept.read_text())
    return found


def test_we_and_fail2ban_and_the_naive_loop_count_the_same_failures(
    samples: Path, tmp_path: Path
) -> None:
    found = rows("bench_matching", tmp_path)
    for log in ("flask", "nginx", "sshd aggressive", "sshd aggressive, 25 %", "all 89 filters"):
        mine = [row for row in found if row["name"].startswith(log)]
        assert {row["against"] for row in mine} == {"fail2ban 1.0.2", "a naive loop"}
        for share in ("1% fail", "100% fail"):
            assert any(f", {share}" in row["name"] for row in mine)


@pytest.mark.parametrize("name", ["bench_growth", "bench_backtracking", "bench_store"])
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    assert all(row["value"] != 0 for row in rows(name, tmp_path))


def test_a_workload_can_be_profiled(fail2ban: Fail2banPackage) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.profile", "nginx", "--lines", "200", "--top", "3"],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert "µs a line" in done.stdout
