"""
The small texts: durations, ports, addresses, formulas, conditions, files of `ignoreip`.

Each reader gives a value within its bounds, or its own error in words.
"""

import math
from collections.abc import Callable
from typing import Final

from dockerjail.config import duration, values
from dockerjail.config.mistake import Mistake
from dockerjail.config.options import FILE
from dockerjail.errors import Refused
from dockerjail.jail.address import address, network
from dockerjail.jail.fields import _endpoint
from dockerjail.jail.formula import Formula, FormulaError
from dockerjail.service.control import subject
from dockerjail.service.exempt import content
from dockerjail.stamp import nanoseconds
from tests.fuzz.material import Material, seed

LONGEST: Final = 200


def _duration(text: str) -> None:
    seconds = duration.parse(text)
    assert seconds > 0
    assert math.isfinite(seconds)
    assert duration.parse(duration.format(seconds)) > 0


def _ports(text: str) -> None:
    ports = values.ports(text)
    assert 1 <= len(ports) <= values.MOST_PORTS
    assert all(1 <= port.number <= 65535 for port in ports)
    assert values.ports(",".join(map(str, ports))) == ports


def _formula(text: str) -> None:
    made = Formula(text)
    for earlier in (0, 1, 5, 10**9):
        assert isinstance(made.seconds(600.0, earlier, 1.5), float)


def _subject(text: str) -> None:
    for alone in (True, False):
        found = subject(text, alone=alone)
        assert found == subject(str(found))


def _address(text: str) -> None:
    found = address(text)
    assert found is None or address(str(found)) == found
    assert network(text, "24") is None or found is not None
    network("203.0.113.7", text)
    written = _endpoint(text)
    assert written is None or address(str(written)) == written


def _content(text: str) -> None:
    found = content("/list", text.encode())
    assert all(str(problem).isprintable() for problem in found.problems)


def _stamp(text: str) -> None:
    nanoseconds(text.encode())


_READERS: Final[tuple[Callable[[str], object], ...]] = (
    _duration,
    _ports,
    _formula,
    _subject,
    _address,
    _content,
    _stamp,
    duration.parse_bantime,
    values.host,
    *(FILE[option] for option in sorted(FILE)),
)


def _of(reader: Callable[[str], object]) -> tuple[int]:
    return (_READERS.index(reader),)


SEEDS: Final = (
    seed("1d12h 30m", choices=_of(_duration)),
    seed("1y2mo3w", choices=_of(_duration)),
    seed("80,443/tcp,51820/udp,8000-8010,https", choices=_of(_ports)),
    seed("0,65535", choices=_of(_ports)),
    seed("1000-1255,7", choices=_of(_ports)),
    seed("ban.Time * 2 ** min(ban.Count, 20) if ban.Count else math.exp(1)", choices=_of(_formula)),
    seed("2001:db8::/48", choices=_of(_subject)),
    seed("::ffff:203.0.113.7", choices=_of(_subject)),
    seed("[2001:db8::7%eth0]:443", choices=_of(_address)),
    seed('for="[2001:db8::1]:80";proto=https', choices=_of(_address)),
    seed("10.0.0.0/8, office.test # us\n203.0.113.7;x", choices=_of(_content)),
    seed("2026-11-22T10:52:40.409746684+01:00", choices=_of(_stamp)),
    seed("event=login_failed, status=401|403; a=b", choices=_of(FILE["where"])),
    seed("5 in 1h", choices=_of(FILE["aggregate"])),
    seed("10.0.0.0/8 file:/etc/list office.test", choices=_of(FILE["ignoreip"])),
)


def check(data: bytes) -> None:
    """Read a text by one reader."""
    material = Material(data)
    reader = material.one_of(_READERS)
    try:
        reader(material.text())
    except (Mistake, FormulaError, Refused) as error:
        assert str(error)
    except ValueError:
        assert reader is _stamp
