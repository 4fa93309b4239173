"""Engines: however lines are searched, the same lines are found. And what happens without the fast one."""

import itertools
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockerjail.jail import hyperscan as door
from dockerjail.jail.audit import flaw
from dockerjail.jail.engine import chosen, plain
from dockerjail.jail.hyperscan import Hyperscan, Unavailable
from dockerjail.jail.sieve import lines
from dockerjail.jail.skeleton import Chain, Group
from tests.unit.engines import MAKERS, NATIVE, Make, needs_native

library: Any = NATIVE and import_module("hyperscan")


def group(*literals: bytes, folded: bool = False) -> Group:
    return Group(literals, folded)


def naive(chains: Mapping[int, Chain], data: bytes) -> dict[int, int]:
    """Say the same as an engine in the plainest words there are."""
    found: dict[int, int] = {}
    for start, end in lines(data):
        for number, groups in chains.items():
            if holds(groups, data[start:end]):
                found[end] = found.get(end, 0) | 1 << number
    return found


def holds(groups: Chain, line: bytes) -> bool:
    if not groups:
        return True
    first, *others = groups
    text = line.lower() if first.folded else line
    return any(
        text[at:].startswith(literal) and holds(tuple(others), line[at + len(literal) :])
        for literal in first.literals
        for at in range(len(text))
    )


@pytest.fixture(params=[*MAKERS])
def make(request: pytest.FixtureRequest) -> Make:
    return MAKERS[request.param]


def test_every_engine_passes_the_test_of_the_start(make: Make) -> None:
    assert flaw(make) == ""


BYTES = st.sampled_from(
    [*(bytes([c]) for c in b'aAbBkK .["\\^$*0\r'), b"\x00", b"\xff", b"\xc3\xa9"]
)
TEXTS = st.lists(BYTES, min_size=2, max_size=4).map(b"".join)
GROUPS = st.builds(
    lambda literals, folded: Group(
        tuple(sorted({t.lower() if folded else t for t in literals})), folded
    ),
    st.lists(TEXTS, min_size=1, max_size=3),
    st.booleans(),
)
CHAINS = st.lists(st.lists(GROUPS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(CHAINS, st.lists(st.lists(BYTES, max_size=14).map(b"".join), max_size=6), st.booleans())
def test_all_engines_find_what_the_plainest_search_finds(
    chains: list[Chain], written: list[bytes], ended: bool
) -> None:
    numbered = dict(enumerate(dict.fromkeys(chains)))
    # what was asked for stands in one line, else hardly any would hold anything
    written = [*written, b" ".join(g.literals[0] for g in chains[0])]
    data = b"\n".join(written) + (b"\n" if ended else b"")
    wanted = naive(numbered, data)
    for name, make_one in MAKERS.items():
        assert make_one(numbered)(data) == wanted, name
    assert plain(numbered, data + b"\n")(data) == wanted
    if NATIVE is not None:
        assert NATIVE.literals(numbered, data + b"\n")(data) == wanted


def test_a_literal_repeated_without_end_is_found_once(make: Make) -> None:
    data = b"failed " * 3000 + b"from x\n" + b"nothing\n"
    found = make({0: (group(b"failed"), group(b"from"))})(data)
    assert found == {data.index(b"\n"): 1}


def test_hundreds_of_chains_are_told_apart(make: Make) -> None:
    chains = {n: (group(b"word%03d" % n), group(b"end")) for n in range(300)}
    data = b"".join(b"x word%03d y end\n" % n for n in range(300))
    ends = [end for _, end in lines(data)]
    assert make(chains)(data) == {end: 1 << n for n, end in enumerate(ends)}


def test_the_group_that_is_rare_in_the_log_is_looked_for() -> None:
    chains = {0: (group(b'"GET '), group(b"/wp-login"))}
    web = b'x "GET /index HTTP/1.1"\n' * 50
    assert chosen(chains, web) == {0: chains[0][1]}
    assert chosen(chains, b"/wp-login is what everybody asks for\n" * 50) == {0: chains[0][0]}


class Picky:
    """hyperscan as it is, but it refuses some patterns, or some matches get lost."""

    def __init__(self, *, refuses: bytes = b"", together: int = 10**6, loses: bool = False) -> None:
        self._refuses = refuses
        self._together = together
        self._loses = loses
        self.error: type[Exception] = library.error
        self.HS_MODE_BLOCK = library.HS_MODE_BLOCK
        self.__version__ = "0.9.1"

    def Database(self, mode: int) -> Any:  # noqa: N802 - the library's own name
        real = library.Database(mode=mode)

        def compile(expressions: list[bytes], ids: list[int], flags: list[int]) -> None:
            if self._refuses and any(self._refuses in each for each in expressions):
                raise library.error("too large")
            if len(expressions) > self._together:
                raise library.error("too many")
            real.compile(expressions=expressions, ids=ids, flags=flags)

        def scan(data: bytes, match_event_handler: Callable[..., None]) -> None:
            seen = itertools.count()

            def sometimes(*found: object) -> None:
                if not self._loses or next(seen) % 3:
                    match_event_handler(*found)

            real.scan(data, match_event_handler=sometimes)

        return SimpleNamespace(compile=compile, scan=scan)


def installed(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    def find(name: str) -> object:
        if isinstance(module, Exception):
            raise module
        return module

    monkeypatch.setattr(door, "import_module", find)


@needs_native
@pytest.mark.parametrize("what", [{"refuses": b"refused"}, {"together": 1}, {}])
def test_a_pattern_that_is_refused_is_looked_for_beside_the_others(
    what: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, Picky(**what))
    native = Hyperscan()
    chains = {
        3: (group(b"refused"), group(b"from")),
        5: (group(b"taken"), group(b"from")),
        6: (group(b"also refused"),),
    }
    data = b"refused from\ntaken from\ntaken\nalso refused, taken from\n"
    for make_one in (native.chains, native.literals):
        assert make_one(chains)(data) == naive(chains, data)
        assert make_one({3: chains[3]})(data) == naive({3: chains[3]}, data)


@needs_native
def test_an_engine_that_loses_a_match_fails_the_test_of_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, Picky(loses=True))
    native = Hyperscan()
    assert "is right" in flaw(native.chains)
    assert "is right" in flaw(native.literals)


def test_a_library_that_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ModuleNotFoundError("No module named 'hyperscan'"))
    with pytest.raises(Unavailable, match=r"not installed.*pip install dockerjail\[fast\]"):
        Hyperscan()


@pytest.mark.parametrize("version", ["0.7.30", "0.1", "0.0.1.dev3"])
def test_a_library_that_is_too_old_is_not_used(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, SimpleNamespace(__version__=version))
    with pytest.raises(Unavailable, match=rf"hyperscan {version} is older than 0\.8"):
        Hyperscan()


@pytest.mark.parametrize("version", ["0.8.0", "0.10", "1.0", "unknown"])
def test_a_library_that_is_new_enough_is_used(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, SimpleNamespace(__version__=version))
    assert str(Hyperscan()) == f"hyperscan {version}"


def test_an_old_processor_never_sees_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu sse sse2 ssse3\n")
    monkeypatch.setattr(door, "_CPU", cpuinfo)
    monkeypatch.setattr(door.os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    installed(monkeypatch, AssertionError("imported, and the process would be dead"))
    with pytest.raises(Unavailable, match=r"SSE4\.2"):
        Hyperscan()
