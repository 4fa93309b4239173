"""That the benchmark of starts starts what it measures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import fail2ban

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not fail2ban.available(), reason="needs apt-get and dpkg"),
]

TOP = Path(__file__).parent.parent.parent


def test_every_start_gets_ready_and_every_row_has_a_number(tmp_path: Path) -> None:
    kept = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks.bench_start", "--quick", "--json", str(kept)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr
    rows = json.loads(kept.read_text())
    assert len(rows) == 14
    assert sum(row["bar"] is not None for row in rows) == 9
    idle = [row["value"] for row in rows if "idle" in row["name"]]
    assert min(row["value"] for row in rows if "idle" not in row["name"]) > 0
    assert min(idle) >= 0
