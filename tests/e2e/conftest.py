"""What tests of the whole borrow."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.engine import Engine
from tests.lab.jailer import Jailer, follows, serve


@pytest.fixture
def jailer_for(tmp_path: Path) -> Iterator[Callable[..., Jailer]]:
    """Make daemons beside an Engine; none outlives the test."""
    made: list[Jailer] = []

    def make(engine: Engine, settings: str = "", **environ: str) -> Jailer:
        root = tmp_path / str(len(made))
        root.mkdir()
        made.append(Jailer(engine, root, settings, **environ))
        return made[-1]

    yield make
    for each in made:
        each.__exit__()


@pytest.fixture
def guarded(jailer_for: Callable[..., Jailer]) -> Callable[..., Jailer]:
    """Start the container `web`, by default with the usual rule, and a daemon that follows it."""

    def make(engine: Engine, *options: str, **rule: Any) -> Jailer:
        serve(engine, "web", *options, **rule)
        jailer = jailer_for(engine).ready()
        follows(jailer, "web")
        return jailer

    return make
