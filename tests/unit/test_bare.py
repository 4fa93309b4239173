"""What is imported with less, and that everybody else still has all."""

import os
import subprocess
import sys

import pytest

from dockerjail.docker.bare import bare

SEEN = """
import ssl
usual = ssl.create_default_context().cert_store_stats()
from dockerjail.docker import client
from aiohttp import connector
assert "libstdc++" not in open("/proc/self/maps").read()
made = [connector._SSL_CONTEXT_VERIFIED, connector._SSL_CONTEXT_UNVERIFIED]
assert [each.cert_store_stats()["x509"] for each in made] == [0, 0], made
assert made[0].verify_mode is ssl.CERT_REQUIRED
remote = client.DockerEngine("https://engine.test:2376")._tls
assert remote.cert_store_stats() == usual, (remote.cert_store_stats(), usual)
"""


def test_the_engines_client_reads_no_certificates_that_it_has_no_use_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEEN],
        env={k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not done.returncode, done.stderr


@pytest.mark.parametrize("before", [None, "/etc/ssl/mine.pem"])
def test_an_operators_own_file_of_certificates_is_there_again_afterwards(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if before is not None:
        monkeypatch.setenv("SSL_CERT_FILE", before)
    with pytest.raises(ImportError), bare():
        assert os.environ["SSL_CERT_FILE"] == os.devnull
        raise ImportError
    assert os.environ.get("SSL_CERT_FILE") == before
