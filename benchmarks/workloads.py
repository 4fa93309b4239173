"""
Logs to measure with: nothing in, lines out, always the same ones.

Each line is what an application writes, 100 to 150 bytes. They come as a flood does, 100 000 a
second. Every `round(1 / share)`-th line fails, so that each piece of a log has its share.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

START: Final = int(datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC).timestamp())
"""When every log begins, in seconds since the epoch."""

PACE: Final = 10_000
"""Nanoseconds between two lines."""

ATTACKERS: Final = 3000
CLIENTS: Final = 2000
"""How many of each there are."""

ATTACKING: Final = "11.47."

Dice = random.Random

_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)",
    "curl/8.5.0",
    "kube-probe/1.29",
)
_PATHS = (
    *("/", "/static/app.js", "/static/css/main.css", "/favicon.ico", "/login", "/logout"),
    *("/api/v1/items?page={}", "/api/v1/users/{}", "/images/banner-{}.png", "/healthz"),
)
_PROBES = (
    "/wp-login.php",
    "/phpmyadmin/scripts/setup.php",
    "/cgi-bin/phf",
    "/pma/scripts/setup.php",
)
_NAMES = ("admin", "root", "oracle", "pi", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a line is written, in the ways that logs say it; `number` counts the lines."""

    number: int
    iso: str
    access: str
    error: str
    apache: str
    syslog: str


@lru_cache(maxsize=1024)
def _second(at: int) -> tuple[str, str, str, str]:
    moment = datetime.fromtimestamp(at, UTC)
    return (
        f"{moment:%Y-%m-%d %H:%M:%S}",
        f"{moment:%d/%b/%Y:%H:%M:%S}",
        f"{moment:%Y/%m/%d %H:%M:%S}",
        f"{moment:%a %b %d %H:%M:%S}",
    )


def _moment(number: int) -> Moment:
    ns = number * PACE
    second, rest = divmod(ns, 10**9)
    iso, access, error, apache = _second(START + second)
    return Moment(
        number=number,
        iso=f"{iso},{rest // 10**6:03}",
        access=f"{access} +0000",
        error=error,
        apache=f"{apache}.{rest // 1000:06} 2026",
        syslog=apache[4:],
    )


def _client(dice: Dice) -> str:
    number = dice.randrange(CLIENTS)
    return f"198.18.{number >> 8}.{number & 255}"


def attacker(number: int) -> str:
    """Return an address that fails."""
    return f"{ATTACKING}{number >> 8 & 255}.{number & 255}"


def _attacker(dice: Dice) -> str:
    return attacker(dice.randrange(ATTACKERS))


def _path(dice: Dice) -> str:
    return dice.choice(_PATHS).format(dice.randrange(1, 9999))


def _flask(dice: Dice, at: Moment) -> str:
    kind = dice.random()
    if kind < 0.6:
        return (
            f'{at.iso} INFO {_client(dice)} - - "{dice.choice(("GET", "GET", "POST"))} {_path(dice)} HTTP/1.1" '
            f"{dice.choice((200, 200, 304, 404, 302))} {dice.randrange(900)}ms rid={dice.getrandbits(64):016x} "
            f"session={dice.getrandbits(48):012x}"
        )
    if kind < 0.8:
        return (
            f"{at.iso} DEBUG sqlalchemy.engine.Engine SELECT items.id, items.name FROM items WHERE "
            f"items.id = {dice.randrange(10**6)} LIMIT {dice.randrange(1, 50)} OFFSET 0"
        )
    if kind < 0.9:
        return (
            f"{at.iso} WARNING Slow query detected ({dice.randrange(100, 5000)} ms) in view items.index "
            f"for user id {dice.randrange(9999)}, see the query log for details"
        )
    if kind < 0.97:
        return (
            f"{at.iso} INFO Login successful for user: user{dice.randrange(999)} from IP: {_client(dice)} "
            f"with session {dice.getrandbits(128):032x}"
        )
    return (
        f"{at.iso} ERROR Unhandled exception in worker {dice.randrange(16)}: Traceback (most recent "
        f"call last): ValueError: bad id {dice.randrange(10**6)}"
    )


def _flask_fails(dice: Dice, at: Moment) -> str:
    return (
        f"{at.iso} WARNING Failed login attempt for user: {dice.choice(_NAMES)} from IP: "
        f"{_attacker(dice)}"
    )


def _web(dice: Dice, at: Moment) -> str:
    kind = dice.random()
    if kind < 0.92:
        return (
            f'{_client(dice)} - - [{at.access}] "{dice.choice(("GET", "GET", "GET", "POST"))} {_path(dice)} '
            f'HTTP/1.1" {dice.choice((200, 200, 200, 304, 302, 404))} {dice.randrange(90000)} "-" '
            f'"{dice.choice(_AGENTS)}"'
        )
    if kind < 0.96:
        return (
            f"{at.error} [error] 29#29: *{dice.randrange(10**6)} connect() failed (111: Connection refused) "
            f'while connecting to upstream, client: {_client(dice)}, server: example.org, request: "GET '
            f'{_path(dice)} HTTP/1.1", host: "example.org"'
        )
    return (
        f"[{at.apache}] [core:notice] [pid {dice.randrange(999)}] AH00094: Command line: "
        "'/usr/sbin/apache2 -D FOREGROUND'"
    )


def _web_fails(dice: Dice, at: Moment) -> str:
    kind, who = dice.random(), _attacker(dice)
    if kind < 0.6:
        return (
            f'{who} - - [{at.access}] "GET {dice.choice(_PROBES)} HTTP/1.1" 404 162 "-" '
            f'"{dice.choice(_AGENTS)}"'
        )
    if kind < 0.8:
        return (
            f'{at.error} [error] 29#29: *{dice.randrange(10**6)} user "{dice.choice(_NAMES)}" was not found '
            f'in "/etc/nginx/.htpasswd", client: {who}, server: example.org, request: "GET /admin HTTP/1.1", '
            'host: "example.org"'
        )
    return (
        f"[{at.apache}] [auth_basic:error] [pid 9:tid 139] [client {who}:{dice.randrange(1024, 65000)}] "
        f"AH01618: user {dice.choice(_NAMES)} not found: /admin"
    )


def _sshd(dice: Dice, at: Moment, accepted: float = 0.25) -> str:
    # each connection has a process of its own: nothing is joined to a line before it
    head = f"{at.syslog} bastion"
    own = f"sshd[{at.number + 10**6}]"
    if dice.random() < accepted:
        return (
            f"{head} {own}: Accepted publickey for deploy from {_client(dice)} port "
            f"{dice.randrange(1024, 65000)} ssh2: RSA SHA256:{dice.getrandbits(128):032x}"
        )
    kind = dice.random()
    if kind < 0.3:
        return f"{head} {own}: pam_unix(sshd:session): session opened for user deploy(uid=1000) by (uid=0)"
    if kind < 0.55:
        return f"{head} {own}: pam_unix(sshd:session): session closed for user deploy, it lasted a while"
    if kind < 0.75:
        return (
            f"{head} CRON[{dice.randrange(300, 32000)}]: (root) CMD (   cd / && run-parts --report "
            "/etc/cron.hourly)"
        )
    if kind < 0.9:
        number = dice.randrange(1, 32000)
        return (
            f"{head} systemd[1]: Started session-{number}.scope - Session {number} of User deploy on seat0, "
            "as it asked for."
        )
    return f"{head} {own}: Server listening on 0.0.0.0 port 22, and on :: port 22, as before the restart."


def _sshd_fails(dice: Dice, at: Moment) -> str:
    head = f"{at.syslog} bastion sshd[{at.number + 10**6}]:"
    who, port, kind = _attacker(dice), dice.randrange(1024, 65000), dice.random()
    if kind < 0.6:
        return f"{head} Failed password for invalid user {dice.choice(_NAMES)} from {who} port {port} ssh2"
    if kind < 0.8:
        return f"{head} Invalid user {dice.choice(_NAMES)} from {who} port {port}"
    return f"{head} Connection closed by authenticating user root {who} port {port} [preauth]"


def _sshd_alone(dice: Dice, at: Moment) -> str:
    return _sshd(dice, at, 0.0)


_WRITERS: Mapping[str, tuple[Callable[[Dice, Moment], str], Callable[[Dice, Moment], str]]] = {
    "flask": (_flask, _flask_fails),
    "web": (_web, _web_fails),
    "sshd": (_sshd_alone, _sshd_fails),
    "sshd accepted": (_sshd, _sshd_fails),
}

FLASK: Final = r"^.*WARNING Failed login attempt for user: .* from IP: <HOST>"


@lru_cache(maxsize=8)
def lines(kind: str, count: int, share: float) -> Sequence[str]:
    """Return `count` lines of which `share` fail; the first of more are the same."""
    return _written(random.Random(f"{kind} {share}"), kind, share, range(count))


def before(kind: str, count: int, share: float) -> Sequence[str]:
    """Return `count` lines like those of `lines` that come before them, and whose failures are others'."""
    found = _written(random.Random(f"before {kind} {share}"), kind, share, range(-count, 0))
    return [line.replace(ATTACKING, "12.47.") for line in found]


def _written(dice: Dice, kind: str, share: float, numbers: range) -> list[str]:
    harmless, fails = _WRITERS[kind]
    every = round(1 / share)
    return [
        (fails if number % every == every - 1 else harmless)(dice, _moment(number))
        for number in numbers
    ]


def stamp(number: int) -> str:
    """Return when the Engine got a line, as it writes it."""
    second, ns = divmod(number * PACE + 4321, 10**9)
    return f"{datetime.fromtimestamp(START + second, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09}Z"


def framed(texts: Sequence[str], *, first: int = 0) -> bytes:
    """Write lines as the Engine sends them: a header of 8 bytes, a stamp, the text."""
    parts: list[bytes] = []
    for number, text in enumerate(texts, first):
        line = f"{stamp(number)} {text}\n".encode()
        parts += (b"\x01\0\0\0" + len(line).to_bytes(4, "big"), line)
    return b"".join(parts)
