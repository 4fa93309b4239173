"""The client's end of the control socket: a request in, JSON values out. Standard library only."""

import http.client
import json
import os
import socket
import tomllib
from pathlib import Path
from struct import pack
from typing import Any, Final
from urllib.parse import quote, urlencode

from dockerjail.errors import ConfigError, DaemonUnreachable, Refused

Json = dict[str, Any]

CONFIG: Final = Path("/etc/dockerjail/dockerjail.toml")
SOCKET: Final = Path("/run/dockerjail/control.sock")
TIMEOUT: Final = 30.0
"""Seconds to wait for an answer."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A crowd at the door is waited out by the kernel, in turn; with a timeout of Python's, which
        # makes the socket non-blocking, connect(2) would give up at once.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, pack("ll", int(TIMEOUT), 0))
        self.sock.connect(str(self._path))
        self.sock.settimeout(TIMEOUT)


def socket_path(config: Path | None) -> Path:
    """
    Find the control socket: environment, configuration file, default, in this order.

    Reads only that one setting, so that a command is quick and works beside a
    configuration that is otherwise wrong. Raises `ConfigError` for a file that
    was named and cannot be read.
    """
    if named := os.environ.get("DOCKERJAIL_CONTROL__SOCKET"):
        return Path(named)
    file = config or CONFIG
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        return Path(document["control"]["socket"])
    except (KeyError, TypeError):
        return SOCKET
    except (OSError, ValueError) as error:
        if config is None:
            return SOCKET
        raise ConfigError(f"{file}: {error}") from error


class Talk:
    """Asks the daemon; raises `DaemonUnreachable` or, for a refusal, `Refused`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def status(self) -> Json:
        """Ask what is going on."""
        return self._ask("GET", "/v1/status")

    def jail(self, name: str) -> Json:
        """Ask about one jail."""
        return self._ask("GET", f"/v1/jails/{quote(name, safe='@')}")

    def bans(self, jail: str | None = None) -> Json:
        """Ask who is banned, in one jail or in all."""
        query = f"?{urlencode({'jail': jail})}" if jail else ""
        return self._ask("GET", f"/v1/bans{query}")

    def ban(self, order: Json) -> Json:
        """Have somebody banned."""
        return self._ask("POST", "/v1/bans", {k: v for k, v in order.items() if v is not None})

    def unban(self, address: str, jail: str | None) -> Json:
        """Have bans ended."""
        query = f"?{urlencode({'jail': jail})}" if jail else ""
        return self._ask("DELETE", f"/v1/bans/{quote(address, safe='')}{query}")

    def allowed(self) -> Json:
        """Ask whom operators let pass."""
        return self._ask("GET", "/v1/allow")

    def allow(self, order: Json) -> Json:
        """Have somebody let pass."""
        return self._ask("POST", "/v1/allow", {k: v for k, v in order.items() if v is not None})

    def disallow(self, who: str) -> Json:
        """Have somebody let pass no more."""
        return self._ask("DELETE", f"/v1/allow/{quote(who, safe='')}")

    def _ask(self, method: str, path: str, body: Json | None = None) -> Json:
        connection = _UnixConnection(self._path)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            answer: Json = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DaemonUnreachable(
                f"no daemon answers at {self._path} ({_reason(error)}); is `dockerjail run` "
                "running? If it ended, its log says why. In a container: "
                "docker exec dockerjail dockerjail status"
            ) from error
        finally:
            connection.close()
        if response.status >= 400:
            raise Refused(str(answer.get("error", response.reason)))
        return answer


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    if isinstance(error, PermissionError):
        return "permission denied: the socket is its owner's alone, try sudo"
    if isinstance(error, BlockingIOError):
        return f"too many wait for it, for more than {TIMEOUT:.0f} seconds"
    return str(error) or type(error).__name__
