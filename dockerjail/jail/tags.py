"""
fail2ban's tags: a failregex in, the Python regex that it stands for out. Pure.

| tag | is |
|---|---|
| `<HOST>` | an address, or a host name; see below |
| `<ADDR>`, `<F-ADDR/>` | an IPv4 or IPv6 address, brackets around it allowed |
| `<IP4>` `<IP6>`, `<F-IP4/>` `<F-IP6/>` | one kind only; `::ffff:` may precede IPv4 |
| `<CIDR>`, `<F-CIDR/>` | a prefix length: turns the address into a network |
| `<SUBNET>`, `<F-SUBNET/>` | an address with an optional `/` prefix length |
| `<F-ID/>`, `<F-ID>...</F-ID>` | what to ban instead of the address, if it is one |
| `<F-USER>...</F-USER>`, any `<F-NAME>` | a named capture that goes with the failure |
| `<DNS>`, `<F-DNS/>` | a host name |
| `<SKIPLINES>` | any number of whole lines, for a filter that sees several at once |

`<HOST>` matches names also where names are not looked up: the line is then a miss.
If it did not, the regex would go on looking, and find what an attacker with a name for
an address wrote earlier in the line: `user: x from IP: 198.51.100.1 from IP: evil.test`.

An address is taken whole: never the tail of a longer number (`.*<HOST>` is greedy) nor
the head of a name that starts like an address (`203.0.113.7.evil.test`).
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

_OCTETS = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_HEX = r"[0-9A-Fa-f]{1,4}"
_NOT_INSIDE_IP6 = "".join(rf"(?<!\b[0-9A-Fa-f]{{{n}}}:)" for n in (1, 2, 3, 4)) + "(?<!::)"

_IP4 = (
    r"(?:::[Ff]{4}:|(?:0{1,4}:){5}[Ff]{4}:)?"
    rf"(?P<ip4>(?<![0-9]){_OCTETS}(?![0-9])(?![\w.-]{{0,253}}?[A-Za-z]))"
)
_IP6 = (
    rf"(?P<ip6>(?<![0-9A-Fa-f]){_NOT_INSIDE_IP6}"
    rf"(?:(?:{_HEX}:){{7}}{_HEX}|(?:{_HEX}(?::{_HEX}){{0,6}})?::(?:{_HEX}(?::{_HEX}){{0,6}})?)"
    r"(?!\w|::|\.[0-9]{1,3}\.|:[0-9]{1,3}\.[0-9]{1,3}\.))"
)
_ADDR = rf"\[?(?:{_IP4}|{_IP6})\]?"
# given back label by label (`<HOST>-\d+` behind a name): by characters, `.*<HOST>` took a second
# a line; not at all, it went on to an address that a client with a name wrote before
_NAME = rf"(?P<dns>(?<!\w)(?<![0-9]\.){_NOT_INSIDE_IP6}(?:(?>[.^-]{{0,8}}\w+)){{1,127}})"
_CIDR = r"(?P<cidr>[0-9]{1,3})"

_TAGS: Final = {
    "HOST": rf"(?:{_ADDR}|{_NAME})",
    "ADDR": _ADDR,
    "IP4": _IP4,
    "IP6": _IP6,
    "CIDR": _CIDR,
    "SUBNET": rf"{_ADDR}(?:/{_CIDR})?\]?",
    "F-ADDR/": _ADDR,
    "F-IP4/": _IP4,
    "F-IP6/": _IP6,
    "F-CIDR/": _CIDR,
    "F-SUBNET/": rf"{_ADDR}(?:/{_CIDR})?\]?",
    "F-ID/": r"(?P<fid>\S+)",
    "F-PORT/": r"(?P<fport>\w+)",
    "DNS": _NAME,
    "F-DNS/": _NAME,
}
_SKIPLINES: Final = r"\n(?P<skiplines{}>(?:.*\n)*?)"
_MEANT: Final = {
    "IP": "HOST",
    "IPV4": "IP4",
    "IPV6": "IP6",
    "HOSTNAME": "HOST",
    "CLIENT": "HOST",
    "ADDRESS": "ADDR",
    "USER": "F-USER",
    "ID": "F-ID/",
    "PORT": "F-PORT/",
}
GROUPS: Final = {"id": "fid", "port": "fport"}
"""Groups that a capture of another name goes into: `<F-ID>` into `fid`."""

_TOKEN: Final = re.compile(
    r"\\.|\(\?P?[<=!(]"
    r"|(?P<flags>\((?:\?:)?\(\?(?P<letters>[ims]+)\))"
    r"|<(?P<tag>/?[A-Za-z][A-Za-z0-9_-]*/?)>",
    re.DOTALL,
)


class TagError(ValueError):
    """A tag that cannot be meant; `at` is its place in the failregex."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(what)
        self.at = at


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """A regex without tags; `places` says where each piece of it was written."""

    pattern: str
    places: tuple[tuple[int, int], ...]

    def place(self, position: int) -> int:
        """Return where in the source the character at `position` of the pattern was."""
        index = bisect_right(self.places, (position, 1 << 60)) - 1
        begin, source = self.places[max(index, 0)]
        following = self.places[index + 1 : index + 2]
        offset = position - begin
        if following:
            offset = min(offset, max(0, following[0][1] - source - 1))
        return source + offset


def expand(source: str) -> Expanded:
    """Replace the tags of `source`; raises `TagError` for one that cannot be meant."""
    pieces: list[str] = []
    places: list[tuple[int, int]] = []
    opened: list[tuple[str, int]] = []
    length = done = skipped = 0

    def put(text: str, at: int) -> None:
        nonlocal length
        if text:
            pieces.append(text)
            places.append((length, at))
            length += len(text)

    for token in _TOKEN.finditer(source):
        if token["tag"] is None and token["flags"] is None:
            continue
        at = token.start()
        if token["flags"] is not None:
            # `((?i)x)` was allowed before Python 3.11; scoped, it means the same
            text: str | None = f"(?{token['letters']}:"
        elif token["tag"] == "SKIPLINES":
            text = _SKIPLINES.format(skipped)
            skipped += 1
        else:
            text = _tag(token["tag"], at, opened)
        if text is None:
            continue
        put(source[done:at], done)
        put(text, at)
        done = token.end()
    put(source[done:], done)
    if opened:
        name, at = opened[-1]
        raise TagError(at, f"<{name}> is never closed; write </{name}> where the capture ends")
    places.append((length, len(source)))
    return Expanded(pattern="".join(pieces), places=tuple(places))


def _tag(tag: str, at: int, opened: list[tuple[str, int]]) -> str | None:
    """Return what `tag` stands for, None when it is plain text."""
    if tag in _TAGS:
        return _TAGS[tag]
    if tag.startswith("/F-"):
        if not opened or opened[-1][0] != tag[1:]:
            raise TagError(at, f"<{tag}> closes what is not open; write <{tag[1:]}> before it")
        opened.pop()
        return ")"
    if re.fullmatch(r"F-[A-Z][A-Z0-9_-]*", tag):
        name = tag[2:].lower().replace("-", "_")
        opened.append((tag, at))
        return f"(?P<{GROUPS.get(name, name)}>"
    meant = _meant(tag)
    if meant is None:
        return None
    raise TagError(
        at,
        f"<{tag}> is no tag; write <{meant}>, or [<]{tag}> if the log contains these very letters",
    )


def _meant(tag: str) -> str | None:
    """Guess which tag somebody had in mind; None when the text is hardly meant as one."""
    name = tag.upper()
    if name in _MEANT and tag == name:
        return _MEANT[name]
    if name in _TAGS and tag != name:
        return name
    if name.startswith(("F-", "/F-")):
        return name
    if tag == name:
        near = get_close_matches(name, [t for t in _TAGS if "-" not in t], n=1, cutoff=0.75)
        return near[0] if near else None
    return None
