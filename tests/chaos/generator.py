"""
What runs in a container of a chaos round: prints numbered lines, and keeps a record of them.

In: a description (JSON, first argument) and a directory that outlives the container
(second argument). Out: lines on stdout and stderr, each a failure of some address;
beside them `NAME.GEN.record`, which says before a write what is about to be printed and
after it that it was. Only the standard library: it runs alone, in an image with nothing
but Python. The same seed prints the same lines, life after life.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

STOP = "stop"
"""A file of this name in the directory ends all generators."""

Description = dict[str, Any]


def line(about: Description, life: int, number: int) -> bytes:
    """Return a line without its end; a life's line with a number is always the same."""
    name, gen = about["name"], about["gen"]
    chance = random.Random(f"{about['seed']} {name} {gen} {life} {number}")
    kind = "fast" if chance.random() < about["fast"] else "slow"
    padding = ""
    if chance.random() < about["long"]:
        padding = "x" * chance.choice((16_384 - 40, 16_384, chance.randint(16_000, 60_000)))
    text = (
        f"chaos {name} {gen} {life} {number} {kind} failed login "
        f"from {address(about, kind, chance)} {padding}end"
    )
    return f"\x1b[31m{text}\x1b[0m".encode() if about["colour"] else text.encode()


def address(about: Description, kind: str, chance: random.Random) -> str:
    """Choose who failed: few who go on, and a crowd who fail now and then, or once."""
    box = about["index"]
    if kind == "fast":  # of their own in each generation, so that its window is its alone
        return f"198.18.{box * 16 + about['gen'] % 16}.{chance.randint(1, 8)}"
    if chance.random() < 0.3:
        return f"198.19.{box}.{chance.randint(1, about['crowd'])}"
    number = chance.randint(1, 8)
    return f"203.0.113.{box * 16 + number}" if number < 6 else f"2001:db8:{box + 1}:{number}::7"


class Generator:
    """One life of a container's program."""

    def __init__(self, about: Description, place: Path) -> None:
        self._about = about
        self._stop = place / STOP
        record = place / f"{about['name']}.{about['gen']}.record"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._record = os.open(record, flags, 0o644)
        self._life = record.read_bytes().count(b"life")
        self._number = 0
        self._chance = random.Random(f"{about['seed']} {about['name']} {about['gen']} {self._life}")
        self._note("life", self._life)

    def run(self) -> None:
        """Print until told to stop, or until there is nothing more to say."""
        chance, about = self._chance, self._about
        while not self._stop.exists():
            if self._number >= about["most"]:
                if about["ends"]:
                    break
                time.sleep(0.05)
                continue
            burst = chance.random() < about["bursty"]
            count = chance.randint(50, about["burst"]) if burst else 1
            self._print(count, chance.choice(about["streams"]), b"\n")
            time.sleep(min(chance.expovariate(about["rate"]), 1.0))
        self.end()

    def end(self) -> None:
        """Say a last line, perhaps without its LF."""
        self._print(1, self._about["streams"][0], b"" if self._about["open_end"] else b"\n")

    def _print(self, count: int, stream: int, end: bytes) -> None:
        """Print some lines by one write, so that they are as close together as can be."""
        first, about = self._number, self._about
        self._number += count
        cr = b"\r" if about["crlf"] else b""
        lines = [line(about, self._life, n) for n in range(first, first + count)]
        data = (cr + b"\n").join(lines) + (cr + end if end else b"")
        self._note("print", self._life, first, count, stream)
        while data:
            data = data[os.write(stream, data) :]
        self._note("done", self._life, first, count, stream)

    def _note(self, *words: object) -> None:
        text = " ".join(map(str, (f"{time.time():.6f}", *words)))
        os.write(self._record, text.encode() + b"\n")


class Terminated(BaseException):
    """Docker wants the container to stop."""


def _terminated(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def main() -> None:
    """Run as the program of a container."""
    signal.signal(signal.SIGTERM, _terminated)
    generator = Generator(json.loads(sys.argv[1]), Path(sys.argv[2]))
    try:
        generator.run()
    except Terminated:
        generator.end()


if __name__ == "__main__":
    main()
