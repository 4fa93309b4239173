"""
What tests borrow: private Engines, attackers, images.

Nothing here costs anything until a test asks for it. Where root, nf_tables or
Docker's programs are missing, the tests that need them are skipped with the
reason; in CI they fail instead, so that nothing passes by not having run.
"""

import asyncio
import functools
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from hypothesis import settings

from tests.lab import fail2ban as fail2ban_lab
from tests.lab import images, machine, netns, tree
from tests.lab.attacker import Attacker
from tests.lab.engine import Engine
from tests.lab.podman import Podman

E = TypeVar("E", bound=Engine)

_started: dict[str, Engine] = {}


# What CI generates is the same each time: a red run is then this commit's doing.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_configure() -> None:
    """Have nobody make an event loop by asking for one: looptime does, and never closes it."""
    asyncio.set_event_loop(None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("engine") is None and item.get_closest_marker("e2e") is None:
        return
    reason = _unable()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI must run this test, but {reason}", pytrace=False)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The Engine that this machine's distribution has (Debian 12: 20.10), in a private place."""
    yield from _engine("engine", Engine.claim)


@pytest.fixture(scope="session")
def engine26() -> Iterator[Engine]:
    """Engine 26 of Debian 13, in a private place."""
    yield from _engine("engine26", lambda kind: Engine.claim(kind, tree=tree.engine_26()))


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """Podman 5 of Debian 13, behind Docker's API, in a private place."""
    yield from _engine("podman", Podman.claim)


@pytest.fixture(scope="session", params=["engine", "engine26"])
def any_engine(request: pytest.FixtureRequest) -> Engine:
    """Run the test once on each Engine."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def attacker() -> Iterator[Callable[[Engine], Attacker]]:
    """Make hosts on the internet of an Engine; each has addresses that no other test used."""
    made: list[Attacker] = []

    def make(engine: Engine) -> Attacker:
        made.append(engine.attacker())
        return made[-1]

    yield make
    for each in made:
        each.remove()


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    """Leave an Engine running and without containers, whatever the test did to it."""
    yield
    for engine in _started.values():
        engine.start()
        engine.remove_containers()
        if engine.options:
            engine.stop()
            engine.start()


@pytest.fixture(scope="session")
def busybox_image(engine: Engine) -> str:
    return images.busybox(engine)


@pytest.fixture(scope="session")
def flask_image(engine: Engine) -> str:
    return images.flask(engine)


@pytest.fixture(scope="session")
def nginx_image(engine: Engine) -> str:
    return images.nginx(engine)


@pytest.fixture(scope="session")
def dockerjail_image(engine: Engine) -> str:
    return images.dockerjail(engine)


def _engine(kind: str, claim: Callable[[str], E]) -> Iterator[E]:
    with claim(kind) as engine:
        engine.start()
        _started[kind] = engine
        try:
            yield engine
        finally:
            del _started[kind]


@functools.cache
def _unable() -> str | None:
    """Say why tests of the kernel and the Engine cannot run here, or None."""
    if os.geteuid() != 0:
        return "network namespaces and a private dockerd need root"
    if lacking := machine.missing():
        return f"{', '.join(lacking)} missing; run: python3 -m tests.lab.machine install"
    with netns.create_unique("djlab-probe") as space:
        made = space.run("nft", "add table inet probe", check=False)
    return f"the kernel has no nf_tables: {made.stderr}" if made.returncode else None


@pytest.fixture(scope="session")
def fail2ban() -> fail2ban_lab.Fail2banPackage:
    """The distribution's package; CI must have it."""
    if not fail2ban_lab.available():
        if os.environ.get("CI"):
            pytest.fail("CI must run this test, but there is no apt here", pytrace=False)
        pytest.skip("there is no apt here")
    return fail2ban_lab.package()
