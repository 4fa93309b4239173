"""
The one DOOR to pyroute2: its classes for nf_tables and conntrack, and nothing of the rest.

In: nothing. Out: the names below. To import anything of pyroute2 imports all of it: `pyroute2/__init__` wants a
hundred and fifty modules for links, routes and network databases that nobody here asks for. They are 7 MB of
resident memory and 60 ms of a start's processor time (0.9.7, Python 3.11), an eighth of either. So that one
file is put off: a package of its name and place stands in while the two modules are imported, and becomes
the whole one as soon as anybody asks it for more. If anything about that goes wrong, all is imported.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

__all__ = [
    "IPS_ASSURED",
    "IPS_SEEN_REPLY",
    "AsyncNFTSocket",
    "NFCTAttrTuple",
    "nfct_msg",
    "nft_chain_msg",
    "nft_rule_msg",
    "nft_set_msg",
    "nft_table_msg",
]


@contextmanager
def put_off(library: str) -> Iterator[None]:
    """
    Have the modules of a package imported without the package's own file.

    That is run, in the same module, when the package is asked for what is not there by then. What
    was imported is forgotten when an import fails; raises `ImportError` then. A package
    that is there already stays as it is.
    """
    if library in sys.modules:
        yield
        return
    spec = find_spec(library)
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no package {library}", name=library)
    package = sys.modules[library] = module_from_spec(spec)
    try:
        yield
    except BaseException:
        for name in [each for each in sys.modules if f"{each}.".startswith(f"{library}.")]:
            del sys.modules[name]
        raise
    _complete(package, spec.loader)


def _complete(package: ModuleType, loader: Loader) -> None:
    """Have a package's own file run when it is asked for what it has not."""

    def missing(name: str) -> Any:
        del vars(package)["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    vars(package)["__getattr__"] = missing


try:
    with put_off("pyroute2"):
        import_module("pyroute2.netlink.nfnetlink.nfctsocket")
        import_module("pyroute2.netlink.nfnetlink.nftsocket")
except (ImportError, AttributeError):
    import_module("pyroute2")

from pyroute2.netlink.nfnetlink.nfctsocket import (  # noqa: E402  -- what is above is the point
    IPS_ASSURED,
    IPS_SEEN_REPLY,
    NFCTAttrTuple,
    nfct_msg,
)
from pyroute2.netlink.nfnetlink.nftsocket import (  # noqa: E402
    AsyncNFTSocket,
    nft_chain_msg,
    nft_rule_msg,
    nft_set_msg,
    nft_table_msg,
)
