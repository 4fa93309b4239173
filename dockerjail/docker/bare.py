"""
Imports without what nobody here uses of them: in nothing, out a context in which they find less.

* aiohttp reads all of the host's certificates as it is imported, twice, for connections that are never
  made here: an Engine with TLS has a context of its own (`address.certificates`), made later. They took
  2 MB of resident memory and 35 ms of a start's processor time. What aiohttp made trusts nobody, then.
* frozenlist, in which aiohttp keeps lists that nobody here adds to, has a C++ form beside its Python one. With
  that comes the C++ library: 1 MB.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LESS: Final = {"SSL_CERT_FILE": os.devnull, "FROZENLIST_NO_EXTENSIONS": "1"}
"""The first is what OpenSSL reads instead of the file it was built for (`man 7 openssl-env`)."""


@contextmanager
def bare() -> Iterator[None]:
    """Have what is imported meanwhile find no certificates, and Python's own FrozenList."""
    before = {name: os.environ.get(name) for name in _LESS}
    os.environ.update(_LESS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
