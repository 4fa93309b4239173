"""
Imports without certificates: in nothing, out a context in which OpenSSL finds none by default.

aiohttp reads all of the host's certificates as it is imported, twice, for connections that nobody here
makes: an Engine with TLS has a context of its own (`address.certificates`), made later. That took 2 MB of
resident memory and 35 ms of a start's processor time. What aiohttp made trusts nobody, then.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_FILE = "SSL_CERT_FILE"
"""What OpenSSL reads instead of the file it was built for (`man 7 openssl-env`)."""


@contextmanager
def without_certificates() -> Iterator[None]:
    """Have what is imported meanwhile find an empty file of certificates."""
    before = os.environ.get(_FILE)
    os.environ[_FILE] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FILE]
        else:
            os.environ[_FILE] = before
