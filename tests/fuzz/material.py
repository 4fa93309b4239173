"""
Bytes that a fuzzer made up in, the values that a target wants out. Pure.

Text is taken from the front, where a fuzzer can read and change it; numbers and choices
from the end, a byte each, so that they do not move when the text grows. When the bytes are
used up, everything is 0 and empty.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

BETWEEN: Final = b"\x1e"
"""What stands between two parts of the text: ASCII's record separator."""


EXPRESSIONS: Final = (
    *(
        "<HOST>",
        "<ADDR>",
        "<IP4>",
        "<IP6>",
        "<SUBNET>",
        "<CIDR>",
        "<DNS>",
        "<F-ID/>",
        "<SKIPLINES>",
    ),
    *("<F-USER>", "</F-USER>", "<F-ID>", "</F-ID>", "<F-MLFID>", "</F-MLFID>", "<F-NOFAIL>"),
    *("</F-NOFAIL>", "<F-CONTENT>", "</F-CONTENT>", "<F-ALT_USER>", "</F-ALT_USER>"),
    *("(?:", "(?i)", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?P<x>", "(?P=x)", "(?(1)", ")"),
    *("|", "^", "$", ".*", ".+", ".*?", ")*", ")+", ")?", "{2,3}", "{0,}", "*+", "++", "?+"),
    *(
        r"\d+",
        r"\S+",
        r"\s*",
        r"\w",
        r"\b",
        r"\B",
        r"\A",
        r"\Z",
        r"\1",
        "[^ ]*",
        "[a-z]+",
        "[^",
        "\u0130",
    ),
)
"""What expressions are made of, for a target's `WORDS`: a fuzzer puts these in, too."""


class Material:
    """What is left of the bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def number(self, most: int) -> int:
        """Take a number from 0 to `most`, which is 255 at most."""
        if not self._data:
            return 0
        last = self._data[-1]
        self._data = self._data[:-1]
        return last % (most + 1)

    def flag(self) -> bool:
        """Take a truth value."""
        return self.number(1) == 1

    def one_of(self, options: Sequence[T]) -> T:
        """Take one of a few things."""
        return options[self.number(len(options) - 1)]

    def rest(self) -> bytes:
        """Take all that is left."""
        rest, self._data = self._data, b""
        return rest

    def text(self) -> str:
        """Take all that is left as a text; what is no UTF-8 is replaced, as in a line."""
        return self.rest().decode("utf-8", "replace")

    def parts(self, count: int) -> list[bytes]:
        """Take all that is left in so many parts; the last ones may be empty."""
        found = self.rest().split(BETWEEN, count - 1)
        return found + [b""] * (count - len(found))

    def texts(self, count: int) -> list[str]:
        """Take all that is left as so many texts."""
        return [part.decode("utf-8", "replace") for part in self.parts(count)]


def seed(*parts: str | bytes, choices: Sequence[int] = ()) -> bytes:
    """Write bytes of which a `Material` gives these texts, and these numbers in this order."""
    text = BETWEEN.join(part.encode() if isinstance(part, str) else part for part in parts)
    return text + bytes(reversed(choices))
