"""The door to pyroute2: no more of it is loaded than is used, and that is the same as ever."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from dockerjail.nft import netlink
from dockerjail.nft.netlink import put_off


def ran(*lines: str) -> str:
    """Run lines in a Python of their own; return what they print."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose own file says so when it is run."""
    place = tmp_path / "stx_large"
    place.mkdir()
    (place / "__init__.py").write_text("import stx_large.other\nwhole = True\n")
    (place / "part.py").write_text("from stx_large import beside\nname = beside.name\n")
    (place / "beside.py").write_text("name = 'part'\n")
    (place / "other.py").write_text("from stx_large.part import name\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield place
    for name in [each for each in sys.modules if each.startswith("stx_large")]:
        del sys.modules[name]


def test_no_more_of_pyroute2_is_loaded_than_is_used() -> None:
    said = ran(
        "import sys, dockerjail.nft.kernel, dockerjail.nft.flows",
        "print(*[name for name in sys.modules if name.startswith('pyroute2.')])",
    )
    assert not {"pyroute2.ndb", "pyroute2.iproute", "pyroute2.ipdb"} & {*said.split()}
    assert len(said.split()) < 30


def test_who_asks_for_the_rest_of_pyroute2_gets_it_with_the_same_classes() -> None:
    ran(
        "from dockerjail.nft import netlink",
        "import pyroute2, sys",
        "from pyroute2.conntrack import AsyncConntrack",
        "assert 'pyroute2.ndb' not in sys.modules",
        "from pyroute2 import IPRoute, AsyncNFTSocket",
        "assert 'pyroute2.ndb' in sys.modules and pyroute2.__version__",
        "assert AsyncNFTSocket is netlink.AsyncNFTSocket",
        "assert AsyncConntrack is pyroute2.AsyncConntrack",
    )


def test_the_classes_are_those_of_the_whole_library() -> None:
    tell = (
        "from dockerjail.nft import netlink",
        "for name in netlink.__all__:",
        "    one = getattr(netlink, name)",
        "    print(name, getattr(one, '__module__', one), getattr(one, '__mro__', ()))",
        "    print(getattr(one, 'nla_map', ()), getattr(one, 'fields', ()))",
    )
    apart = ran(*tell)
    whole = ran("import pyroute2", "assert pyroute2.NDB", *tell)
    assert apart == whole
    assert apart.count("\n") == 2 * len(netlink.__all__)


def test_all_of_pyroute2_is_imported_if_it_cannot_be_put_off() -> None:
    ran(
        "import importlib.util, sys",
        "importlib.util.find_spec = lambda name: None",
        "from dockerjail.nft import kernel, flows, netlink",
        "assert 'pyroute2.ndb' in sys.modules",
        "assert sys.modules['pyroute2'].AsyncNFTSocket is netlink.AsyncNFTSocket",
    )


def test_a_package_that_was_put_off_is_run_once_it_is_asked_for_more(package: Path) -> None:
    with put_off("stx_large"):
        part = import_module("stx_large.part")
    assert part.name == "part"
    assert "stx_large.other" not in sys.modules
    large = import_module("stx_large")
    assert large.part is part
    assert "stx_large.other" not in sys.modules
    assert large.whole
    assert sys.modules["stx_large.other"].name == "part"
    assert import_module("stx_large.part") is part
    with pytest.raises(AttributeError):
        _ = large.never


def test_a_package_that_is_there_already_stays_as_it_is(package: Path) -> None:
    large = import_module("stx_large")
    with put_off("stx_large"):
        assert import_module("stx_large") is large
    assert large.whole


def test_a_package_that_needs_its_own_file_is_forgotten_and_can_be_imported_whole(
    package: Path,
) -> None:
    (package / "__init__.py").write_text("setting = 'needed'\nfrom stx_large import part\n")
    (package / "part.py").write_text("from stx_large import beside, setting\n")
    with pytest.raises(ImportError), put_off("stx_large"):
        import_module("stx_large.part")
    assert not [name for name in sys.modules if name.startswith("stx_large")]
    assert import_module("stx_large").part.setting == "needed"


def test_a_package_that_is_not_there_is_told_as_any_other() -> None:
    with pytest.raises(ImportError, match="stx_nowhere"), put_off("stx_nowhere"):
        pass
