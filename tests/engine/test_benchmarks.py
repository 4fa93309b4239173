"""The benchmarks that need root run; what anything took is not asked."""

from pathlib import Path

import pytest

from tests.conformance.test_benchmarks import rows
from tests.lab import fail2ban

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    "name",
    [
        "bench_kernel",
        pytest.param(
            "bench_crowdsec",
            marks=pytest.mark.skipif(
                not fail2ban.available(), reason="packages are fetched with apt"
            ),
        ),
    ],
)
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    assert all(row["value"] != 0 for row in rows(name, tmp_path))
