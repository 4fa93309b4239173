"""What tests of the kernel borrow: a host with clients, in namespaces of each test's own."""

from collections.abc import Iterator

import pytest

from tests.lab.packets import Lab, opened


@pytest.fixture
def lab() -> Iterator[Lab]:
    with opened("engine") as made:
        yield made
