"""
fail2ban's tags in any text: where they stand, what they become, what is said when they cannot be meant.

What becomes of an expression can be traced to where it was written, character by character.
"""

import re
from typing import Final

from dockerjail.jail.tags import TagError, expand
from tests.fuzz.material import Material, seed

LONGEST: Final = 300

_TAG: Final = re.compile(r"<[^<>]*>|\((?:\?:)?\(\?[ims]+\)")
"""Whatever may become something else; all that is not in one stays."""

SEEDS: Final = (
    seed("^login failed for <F-USER>\\S+</F-USER> from <HOST>$"),
    seed("<ADDR> <IP4> <IP6> <CIDR> <SUBNET> <DNS> <F-ID/> <F-PORT/> <F-ADDR/>"),
    seed("a<SKIPLINES>b<SKIPLINES>c \\<HOST> (?<=<) [<]HOST>"),
    seed("((?i)x)(?:(?ms)y) <F-MLFID>\\d+</F-MLFID><F-NOFAIL>z</F-NOFAIL>"),
    seed("<F-USER><F-ALT_USER>x</F-ALT_USER></F-USER> </F-X>"),
    seed("<host> <HOTS> <f-user> <USER> <IPV4> <unknown>"),
)


def check(data: bytes) -> None:
    """Expand an expression."""
    source = Material(data).text()
    try:
        found = expand(source)
    except TagError as error:
        assert 0 <= error.at <= len(source)
        assert str(error)
        return
    last = 0
    kept = set()
    for position in range(len(found.pattern) + 1):
        place = found.place(position)
        assert last <= place <= len(source)
        last = place
        if source[place : place + 1] == found.pattern[position : position + 1]:
            kept.add(place)
    tags = (range(*tag.span()) for tag in _TAG.finditer(source))
    assert kept.issuperset(set(range(len(source))).difference(*tags))
