"""
Structured lines: JSON and logfmt as hostile as they come, through selectors of every kind.

Nothing raises. What is found is one line of text that a database takes, and a line that is
accepted has one of the literals that the sieve asks for.
"""

import json
from ipaddress import ip_network
from typing import Final

from dockerjail.jail.fields import Reader, parse, requires
from dockerjail.jail.rule import Format, Rule
from dockerjail.model import Subject
from tests.fuzz.material import Material, seed

LONGEST: Final = 4096

_PROXIES: Final[tuple[Subject, ...]] = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
_CHAIN: Final = ("headers.X-Forwarded-For", "remote")
_RULES: Final = (
    Rule(address=("ip",)),
    Rule(address=_CHAIN, trusted_proxies=_PROXIES, user="user"),
    Rule(where=((("event", ("login_failed",)),),), address=("a.b.0", "ip")),
    Rule(where=((("status", ("401", "40*")), ("ok", ("false",))),), address=("ip",)),
    Rule(failregex=("from <HOST>",), field="msg"),
    Rule(failregex=("from <HOST>",), format=Format.JSON, user="user.name"),
    Rule(where=((("failed", ("*",)),),), format=Format.LOGFMT, address=("ip",)),
)
_READERS: Final = tuple((Reader(rule), requires(rule)) for rule in _RULES)

SEEDS: Final = (
    seed('{"event":"login_failed","ip":"203.0.113.7","user":"bob","status":401}', choices=(2,)),
    seed(
        '{"remote":"10.0.0.1","headers":{"X-Forwarded-For":"203.0.113.7, 10.2.3.4"}}', choices=(1,)
    ),
    seed('{"log":"{\\"msg\\":\\"from 203.0.113.7\\\\n\\"}\\n","stream":"stderr"}', choices=(4,)),
    seed('{"a":{"b":["[2001:db8::7]:443"]},"event":"login_failed"}', choices=(2,)),
    seed(
        '{"user.name":"x","message":"from 203.0.113.7","a":1e999,"b":NaN,"c":"\\ud800"}',
        choices=(5,),
    ),
    seed('level=warn msg="from 203.0.113.7" ip="[2001:db8::7]:1" failed', choices=(6,)),
    seed('ip=203.0.113.7 ip=203.0.113.8 x="\\u00e9\\x41\\\\"', choices=(0,)),
    seed(
        '{"forwarded":"for=\\"[2001:db8::1]\\";proto=https","ip":"for=203.0.113.7"}', choices=(0,)
    ),
)


def check(data: bytes) -> None:
    """Look at a line by one rule."""
    material = Material(data)
    reader, literals = material.one_of(_READERS)
    text = material.text()
    seen = reader.look(text)
    for format in Format:
        found = parse(text, format)
        assert found is None or isinstance(found, dict)
    if text.startswith("{") and (found := parse(text, Format.JSON)) is not None:
        assert found.keys() == json.loads(text).keys()
    if seen is None:
        return
    assert seen.address is None or not seen.why
    for said in (seen.text or "", seen.user):
        said.encode()
        assert "\n" not in said
    written = text.encode()
    if literals and b"\\u00" not in written:
        assert any(literal in written for literal in literals)
