"""
Where the Engine is, and the certificates for it.

In comes what an operator wrote, and the environment and files that Docker's own command goes by;
out go an address and how to be sure who answers there. Nothing is connected.
"""

import os
import ssl
from pathlib import Path

from dockerjail.errors import ConfigError


def engine_at(url: str | None) -> str:
    """Return the Engine's address: what was said, else DOCKER_HOST, else one of the usual sockets."""
    return url or os.environ.get("DOCKER_HOST") or _usual_socket()


def certificates(url: str) -> ssl.SSLContext | None:
    """
    Read the certificates for a remote Engine as Docker's own command does.

    None for an address without. Raises `ConfigError` for an address that cannot be one, and for
    certificates that cannot be read.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not rest or scheme not in ("unix", "tcp", "http", "https"):
        raise ConfigError(
            f"Docker's address {url!r} cannot be used; write unix:///var/run/docker.sock, "
            "tcp://host:2375 or https://host:2376"
        )
    if scheme != "https" and not (scheme == "tcp" and os.environ.get("DOCKER_TLS_VERIFY")):
        return None
    directory = os.environ.get("DOCKER_CERT_PATH")
    if directory is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=str(Path(directory, "ca.pem")))
        context.load_cert_chain(Path(directory, "cert.pem"), Path(directory, "key.pem"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificates for Docker at {url} cannot be read: {error}; put ca.pem, "
            f"cert.pem and key.pem into DOCKER_CERT_PATH={directory}"
        ) from error
    return context


def _usual_socket() -> str:
    """Find the socket where one is when nothing was said; the first when there is none."""
    places = [Path("/var/run/docker.sock"), Path("/run/podman/podman.sock")]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        places += [Path(runtime, "docker.sock"), Path(runtime, "podman", "podman.sock")]
    found = next((place for place in places if place.is_socket()), places[0])
    return f"unix://{found}"
