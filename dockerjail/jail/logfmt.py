r"""
logfmt: one line in, its pairs out, or None when it is no logfmt. Pure.

`level=warn msg="login failed" status=401`, as go-kit, logrus, slog and Grafana write it.
A value is a word, or a text between double quotes with the escapes of Go and JSON.
Facts from go-logfmt's `encode.go`, logrus' `text_formatter.go`, Go's `strconv.Quote`.

What keeps a stranger's text from becoming a pair:

* The line begins with a pair, and every word is one. Sentences that have `a=b` somewhere
  are text. (`flags` lets words without `=` stand behind the first pair: who asks for it
  says that the log is logfmt.) A quote that is not closed, or stands inside a word, or
  has something right behind it, makes the whole line text.
* Only ASCII blanks and control characters part words: encoders quote those and let U+00A0
  pass. Single quotes are letters: encoders let them pass, too.
* A printable ASCII character behind `\x` or `\U` makes the line text. No encoder writes
  one so, and it would hide a word from whoever looks for it in the bytes.
"""

import re
from collections.abc import Sequence
from typing import Final

_WORD: Final = re.compile(
    r"""
    ( "(?:[^"\\]|\\.)*+" | [^\x00-\x20="]++ )           # a key; slog may quote it
    (?: (=) (?: "( (?:[^"\\]|\\.)*+ )" | ([^\x00-\x20"]*+) ) )?+
    (?: [\x00-\x20]++ | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?"
    r"|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|(.?))",
    re.DOTALL,
)
_PLAIN: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "/": "/",
}
_REPLACEMENT: Final = "\ufffd"
_BLANKS: Final = "".join(map(chr, range(0x21)))


class Twice(tuple[object, ...]):
    """
    The values of a key that a line has more than once, if they differ.

    An encoder that quotes keeps a stranger from writing a key, so one that is there twice
    comes from the application, or from a stranger whom nothing keeps. Nobody can tell
    which value is true: it has no address and no text; a condition holds if one value does.
    """

    __slots__ = ()


def gather(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Put pairs into a mapping; a key with several different values has a `Twice`."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    values: dict[str, list[object]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    for key, several in values.items():
        if any(value != several[0] for value in several):
            found[key] = Twice(several)
    return found


def parse(text: str, *, flags: bool = False) -> dict[str, object] | None:
    """
    Return the pairs of a line, None when it is no logfmt.

    Values are texts: `key=` is empty, `key` alone True. `flags` says whether there may be
    such keys alone, behind the first pair.
    """
    pairs: list[tuple[str, object]] = []
    at = len(text) - len(text.lstrip(_BLANKS))
    end = len(text)
    match = _WORD.match
    try:
        while at < end:
            word = match(text, at)
            if word is None:
                return None
            key, pair, quoted, bare = word.groups()
            if key[0] == '"':
                key = _unquote(key[1:-1])
            if quoted is not None:
                pairs.append((key, _unquote(quoted)))
            elif pair:
                pairs.append((key, bare))
            elif flags and pairs:
                pairs.append((key, True))
            else:
                return None
            at = word.end()
    except ValueError:
        return None
    return gather(pairs) if pairs else None


def _unquote(text: str) -> str:
    """Replace the escapes in a quoted text; ValueError when one is none."""
    return _ESCAPE.sub(_unescape, text) if "\\" in text else text


def _unescape(found: re.Match[str]) -> str:
    four, low, two, eight, one = found.groups()
    if one is not None:
        plain = _PLAIN.get(one)
        if plain is None:
            raise ValueError(f"no escape: {found[0]!r}")
        return plain
    code = int(four or two or eight, 16)
    if four:
        if low is not None and 0xD800 <= code < 0xDC00:
            return chr(0x10000 + ((code - 0xD800) << 10) + int(low, 16) - 0xDC00)
        return chr(code) + (chr(int(low, 16)) if low is not None else "")
    if 0x20 <= code < 0x7F or code > 0x10FFFF:
        raise ValueError(f"no encoder writes {found[0]!r}")
    return _REPLACEMENT if two and code > 0x7F else chr(code)
