"""Names are looked up beside the line, which never waits for them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from dockerjail.model import Address, Named
from dockerjail.service import names
from dockerjail.service.names import AT_ONCE, LIFE, MOST, THREADS, WAITING, Names, look_up


def named(name: str) -> Named:
    return Named(
        jail="login@web", name=name, at=1000.0, container="web", text=f"failed from {name}"
    )


class House:
    """Names with a resolver that counts, and answers when it is let."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[str] = []
        self.found: list[tuple[str, Sequence[Address]]] = []
        self.told = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.names = Names(self._found, clock=lambda: self.now, ask=self._ask)

    def put(self, name: str) -> None:
        if (numbered := self.names.admit(named(name))) is not None:
            self.names.put(numbered)

    async def _found(self, named: Named, addresses: Sequence[Address]) -> None:
        self.found.append((named.name, addresses))
        self.told.set()

    async def _ask(self, name: str) -> Sequence[Address]:
        self.asked.append(name)
        await self.open.wait()
        if name == "many.test":
            return tuple(ip_address(n) for n in range(2**24, 2**24 + 1000))
        return () if name == "unknown.test" else (ip_address("203.0.113.7"), ip_address("::7"))


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    it = House()
    task = asyncio.create_task(it.names.run())
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(it: House, count: int) -> None:
    while len(it.found) < count:
        await it.told.wait()
        it.told.clear()


async def test_every_address_of_a_name_is_told_and_none_of_an_unknown_one() -> None:
    async with house() as it:
        it.put("evil.test")
        it.put("unknown.test")
        await until(it, 2)
        assert it.found == [
            ("evil.test", (ip_address("203.0.113.7"), ip_address("::7"))),
            ("unknown.test", ()),
        ]


async def test_an_answer_is_not_believed_for_longer_when_the_clock_is_set_back() -> None:
    async with house() as it:
        it.now = 86400.0
        it.put("evil.test")
        await until(it, 1)
        it.now = 0.0
        it.put("evil.test")
        await until(it, 2)
        assert it.asked == ["evil.test"] * 2


async def test_a_name_with_a_thousand_addresses_accuses_a_few() -> None:
    async with house() as it:
        it.put("many.test")
        await until(it, 1)
        assert len(it.found[0][1]) == MOST


async def test_an_answer_is_remembered_for_a_while_also_that_there_is_none() -> None:
    async with house() as it:
        for count, name in enumerate(["evil.test", "unknown.test", "evil.test", "unknown.test"], 1):
            it.put(name)
            await until(it, count)
        assert it.asked == ["evil.test", "unknown.test"]
        it.now = LIFE + 1
        it.put("evil.test")
        await until(it, 5)
        assert it.asked == ["evil.test", "unknown.test", "evil.test"]


async def test_a_resolver_that_hangs_never_holds_up_who_asks() -> None:
    async with house() as it:
        it.open.clear()
        for number in range(WAITING + 5):
            it.put(f"{number}.test")
            await asyncio.sleep(0)
        assert len(it.asked) == AT_ONCE
        assert it.names.dropped == 5
        (problem,) = it.names.problems()
        assert "5 failures" in problem.what
        it.open.set()
        await until(it, WAITING)


async def test_who_waits_has_a_number_that_nobody_had_before() -> None:
    async with house() as it:
        first, second = it.names.admit(named("a.test")), it.names.admit(named("b.test"))
        assert first is not None
        assert second is not None
        assert 0 < first.id < second.id
    again = Names(it._found, clock=lambda: 0.0, ask=it._ask, restored=[second])
    third = again.admit(named("c.test"))
    assert third is not None
    assert third.id > second.id


async def test_the_hosts_resolver_is_asked_and_may_know_nothing() -> None:
    assert ip_address("127.0.0.1") in await look_up("localhost")
    assert await look_up("no such name..") == ()


@pytest.mark.parametrize("name", ["x" * 300, "\x00", "\udcff", ""])
async def test_a_strange_name_is_an_unknown_one(name: str) -> None:
    assert all(address.is_loopback for address in await look_up(name))


async def test_a_resolver_that_hangs_does_not_fill_the_process_with_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_go = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        let_go.wait(30)
        return []

    monkeypatch.setattr(names.socket, "getaddrinfo", hang)
    monkeypatch.setattr(names, "PATIENCE", 0.01)
    before = threading.active_count()
    for number in range(3 * THREADS):
        assert await look_up(f"n{number}.test") == ()
        assert threading.active_count() <= before + THREADS
    let_go.set()
    for thread in threading.enumerate():
        if thread.name.startswith("look-up"):
            thread.join(30)
    monkeypatch.setattr(names.socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("::7", 0))])
    monkeypatch.setattr(names, "PATIENCE", 10.0)
    assert await look_up("works.test") == (ip_address("::7"),)
