"""
Dates in lines, and date patterns of one's own.

A cut takes one piece out and joins no two words; a pattern works or is a `DatePatternError`.
"""

import re
from collections.abc import Callable
from typing import Final

from dockerjail.jail.datecut import cut
from dockerjail.jail.datepattern import DatePatternError, cutter
from tests.fuzz.material import Material, seed
from tests.fuzz.patience import within

LONGEST: Final = 400

SEEDS: Final = (
    seed("2026-11-22 10:52:40,557 WARNING x"),
    seed('203.0.113.7 - - [31/Oct/2026:09:22:55 +0200] "GET / HTTP/1.1" 401 0'),
    seed("Sun Nov 22 21:59:59.011 2026 sshd[1]: failed"),
    seed("audit(1138049999.981:99): x @4000000052f88ea32489532c"),
    seed("[1138049999] x", "{^LN-BEG}EPOCH"),
    seed("PDT Apr 16 21:05:29 x +00:00 Jan 23 21:59:59", "%b %d %H:%M:%S"),
    seed("a 22.11.2026 10:52 b", r"^a (%d\.%m\.%Y %H:%M)"),
    seed("x 2026-11-22T10:52:40Z y", "{UNB}{DATE}"),
    seed("20261122T105240 <09/16/08@05:03:30>", "{DEFAULT}"),
    seed("x 2026 y", r"(?:(\d)|(x)|y)*+%Y"),
    seed("time=1 2", r"time=(?:%Exd|%ExH)**"),
)
_BOUND: Final = re.compile(r"\w")


def check(data: bytes) -> None:
    """Cut the date out of a line, by the default and by a pattern."""
    line, pattern = Material(data).texts(2)
    _one_piece(cut, line, joins=False)
    if not pattern.strip():
        return
    try:
        own = cutter((pattern,))
    except DatePatternError as error:
        assert str(error)
        return
    with within(0.05):
        _one_piece(own, line, joins=True)
    cutter.cache_clear()


def _one_piece(by: Callable[[str], str], line: str, *, joins: bool) -> None:
    left = by(line)
    gone = len(line) - len(left)
    assert gone >= 0
    starts = [at for at in range(len(left) + 1) if line[:at] + line[at + gone :] == left]
    assert starts
    if gone and not joins:
        assert any(
            not (_BOUND.match(line[at - 1 : at]) or _BOUND.match(line[at + gone : at + gone + 1]))
            for at in starts
        )
