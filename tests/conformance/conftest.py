"""What suites over several implementations share: fail2ban, unpacked once and asked at will."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import fail2ban as lab
from tests.lab.oracle import Oracle


@pytest.fixture(scope="session")
def samples(fail2ban: lab.Fail2banPackage) -> Path:
    """The directory of fail2ban's samples; they are counted, so it must be this version's."""
    version = (fail2ban.dist_packages / "fail2ban/version.py").read_text()
    if '"1.0.2' in version:
        return fail2ban.logs
    why = "the samples are counted for fail2ban 1.0.2, and this distribution has another"
    if os.environ.get("CI"):
        pytest.fail(f"CI must run this test, but {why}", pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="session")
def oracle(fail2ban: lab.Fail2banPackage) -> Iterator[Oracle]:
    """fail2ban at work in a process of its own."""
    with Oracle(fail2ban.dist_packages) as running:
        yield running
