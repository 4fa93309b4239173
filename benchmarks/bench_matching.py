"""
What the sieve saves: `python -m benchmarks.bench_matching`. Prints ratios, has no gate.

Both sides judge the same chunks with the same jails, in turns, in one process: the line
as it is, and a naive loop that takes every line apart and shows it to every failregex.
The ratio of their CPU times carries over to other machines; the times do not.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from dockerjail.jail.filter import read
from dockerjail.jail.jail import Bench, Jails, _line
from dockerjail.jail.policy import JailPolicy, Origin
from dockerjail.jail.rule import Rule
from dockerjail.jail.sieve import lines
from dockerjail.model import Chunk, Container, Cursor, Failure, Offence, Stream

CHUNK = 64 * 1024
WEB = Container(id="4f" * 32, name="web", service="web")

FLASK = (r"^.*WARNING Failed login attempt for user: .* from IP: <HOST>",)
AUTH = (
    r'^ \[error\] \d+#\d+: \*\d+ user "[^"]*" was not found in "[^"]*", client: <ADDR>, ',
    r'^ \[error\] \d+#\d+: \*\d+ user "[^"]*": password mismatch, client: <ADDR>, ',
    r"^ \[error\] \d+#\d+: \*\d+ limiting requests, excess: [\d.]+ by zone \S+, client: <ADDR>, ",
    r"^ \[error\] \d+#\d+: \*\d+ access forbidden by rule, client: <ADDR>, ",
    r"^ \[error\] \d+#\d+: \*\d+ limiting connections by zone \S+, client: <ADDR>, ",
)
SCAN = (
    r'^<ADDR> - \S+ \[\] "GET /(?:wp-login|xmlrpc)\.php[^"]*" 404 ',
    r'^<ADDR> - \S+ \[\] "GET /\.(?:env|git)[^"]*" 404 ',
    r'^<ADDR> - \S+ \[\] "[A-Z]+ [^"]*/(?:phpmyadmin|pma)/[^"]*" 404 ',
    r'^<ADDR> - \S+ \[\] "GET /cgi-bin/[^"]*" 404 ',
    r'^<ADDR> - \S+ \[\] "(?:CONNECT|PROPFIND) [^"]*" 40[05] ',
)
APACHE = (
    r"^\[\] \[auth_basic:error\] \[pid \d+[^\]]*\] \[client <ADDR>(?::\d+)?\] AH01617: user .*: authentication failure",
    r"^\[\] \[auth_basic:error\] \[pid \d+[^\]]*\] \[client <ADDR>(?::\d+)?\] AH01618: user .* not found",
    r"^\[\] \[auth_digest:error\] \[pid \d+[^\]]*\] \[client <ADDR>(?::\d+)?\] AH01790: user ",
    r"^\[\] \[authz_core:error\] \[pid \d+[^\]]*\] \[client <ADDR>(?::\d+)?\] AH01630: client denied",
    r"^\[\] \[evasive20:error\] \[pid \d+[^\]]*\] \[client <ADDR>(?::\d+)?\] client denied",
)

AGENTS = ("curl/8.5.0", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0")
PATHS = (
    "/",
    "/static/app.js",
    "/api/v1/items?page=2",
    "/login",
    "/images/banner-7.png",
    "/healthz",
)


def flask_line(dice: random.Random, who: str, *, fails: bool) -> str:
    date = (
        f"2026-11-22 10:{dice.randrange(60):02}:{dice.randrange(60):02},{dice.randrange(1000):03}"
    )
    if fails:
        user = dice.choice(("admin", "root", "bob"))
        return f"{date} WARNING Failed login attempt for user: {user} from IP: {who}"
    kind = dice.random()
    if kind < 0.7:
        return (
            f'{date} INFO {who} - - "GET {dice.choice(PATHS)} HTTP/1.1" '
            f"{dice.choice((200, 304, 404))} {dice.randrange(900)}ms rid={dice.getrandbits(32):08x}"
        )
    if kind < 0.9:
        return f"{date} DEBUG sqlalchemy.engine.Engine SELECT items.id FROM items WHERE items.id = {dice.randrange(9999)}"
    return f"{date} WARNING Slow query detected ({dice.randrange(5000)} ms) in view items.index"


def web_line(dice: random.Random, who: str, *, fails: bool) -> str:
    clock = f"10:{dice.randrange(60):02}:{dice.randrange(60):02}"
    agent = dice.choice(AGENTS)
    if not fails:
        status = dice.choice((200, 200, 200, 304, 302, 404))
        return (
            f'{who} - - [22/Nov/2026:{clock} +0000] "GET {dice.choice(PATHS)} HTTP/1.1" '
            f'{status} {dice.randrange(90000)} "-" "{agent}"'
        )
    kind = dice.random()
    if kind < 0.6:
        path = dice.choice(("/wp-login.php", "/.env", "/x/phpmyadmin/setup.php", "/cgi-bin/phf"))
        return f'{who} - - [22/Nov/2026:{clock} +0000] "GET {path} HTTP/1.1" 404 162 "-" "{agent}"'
    if kind < 0.8:
        return (
            f'2026/11/22 {clock} [error] 29#0: *{dice.randrange(9999)} user "admin" was not found in '
            f'"/etc/nginx/htpasswd", client: {who}, server: example.org, request: "GET / HTTP/1.1"'
        )
    return (
        f"[Sun Nov 22 {clock}.123456 2026] [auth_basic:error] [pid 9:tid 139] [client {who}:4711] "
        "AH01618: user admin not found: /admin"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Chunks of a log, and who judges them."""

    name: str
    share: float
    jails: tuple[tuple[str, ...], ...]
    line: Callable[..., str]

    def chunks(self, count: int) -> list[Chunk]:
        dice = random.Random(f"{self.name} {self.share}")
        chunks, data = [], bytearray()
        clients = [f"11.{dice.randrange(255)}.7.{dice.randrange(255)}" for _ in range(3000)]
        for number in range(count):
            who = dice.choice(clients)
            text = self.line(dice, who, fails=dice.random() < self.share)
            second = number * 600 // count
            stamp = f"2026-11-22T10:{second // 60:02}:{second % 60:02}.{number % 10**9:09}Z"
            data += f"{stamp} {text}\n".encode()
            if len(data) >= CHUNK or number == count - 1:
                chunks.append(
                    Chunk(
                        container=WEB, stream=Stream.STDOUT, data=bytes(data), cursor=Cursor(0, 0)
                    )
                )
                data.clear()
        return chunks

    def bench(self) -> Bench:
        policies = [
            JailPolicy(
                name=f"jail{n}", origin=Origin.DAEMON, rule=Rule(failregex=regexes), maxretry=10**6
            )
            for n, regexes in enumerate(self.jails)
        ]
        return Jails().bench(WEB, policies)


def naive(bench: Bench, chunk: Chunk) -> Sequence[Failure | Offence]:
    """Judge a chunk line by line."""
    entries: list[Failure | Offence] = []
    for start, end in lines(chunk.data):
        line, _ = _line(chunk, chunk.data, start, end)
        reading = read(line.text)
        for jail in bench.jails:
            hit = jail.filter.judge(reading)
            if hit is not None:
                entries += [
                    e for e in jail.weigh(hit, line, "web") if isinstance(e, Failure | Offence)
                ]
    return entries


def compare(workload: Workload, count: int, rounds: int) -> tuple[float, float, int]:
    """Return both sides' CPU seconds per million lines, medians of `rounds`, and the failures."""
    chunks = workload.chunks(count)
    sifted: list[float] = []
    plain: list[float] = []
    hits = 0
    for _ in range(rounds):
        bench, other = workload.bench(), workload.bench()
        begin = time.process_time()
        hits = sum(len(bench.judge(chunk).entries) for chunk in chunks)
        middle = time.process_time()
        expected = sum(len(naive(other, chunk)) for chunk in chunks)
        end = time.process_time()
        assert hits == expected, (hits, expected)
        sifted.append((middle - begin) / count * 1e6)
        plain.append((end - middle) / count * 1e6)
    return median(sifted), median(plain), hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{'workload':<24}{'failing':>8}{'sieve':>12}{'naive':>12}{'ratio':>8}")
    for name, jails, line in (
        ("flask, 1 regex", (FLASK,), flask_line),
        ("web, 3 jails, 15 regexes", (AUTH, SCAN, APACHE), web_line),
    ):
        for share in (0.001, 0.01, 0.1, 1.0):
            workload = Workload(name=name, share=share, jails=jails, line=line)
            ours, theirs, _ = compare(workload, arguments.lines, arguments.rounds)
            print(
                f"{name:<24}{share:>8.1%}{1 / ours:>9.2f} M/s{1 / theirs:>9.2f} M/s"
                f"{theirs / ours:>8.1f}"
            )


if __name__ == "__main__":
    main()
