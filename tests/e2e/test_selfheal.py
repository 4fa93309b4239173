"""
The kernel stays right: whatever others do to the firewall, a thousand bans hold.

Each test changes the firewall as some other program or an administrator would, while two banned
attackers send without a pause: one banned from everything, one from a port. How long they
got through is printed (`pytest -rP`), never asserted.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dockerjail.model import Ban, Cause, Port, Scope
from dockerjail.store.sqlite import SqliteStore
from tests.lab.attacker import Attacker
from tests.lab.engine import Engine
from tests.lab.jailer import PATIENCE, Jailer, follows, serve
from tests.lab.trickle import Trickle, trickles

pytestmark = pytest.mark.e2e

TABLE = "inet dockerjail"
EVERYTHING, PORT = 5001, 5002
"""Where who is banned from everything sends, and who is banned from this port."""
BANS = 1000


def bans(everything: Attacker, port: Attacker) -> Sequence[Ban]:
    """Make a thousand bans of all kinds, two of them of attackers that are there."""
    closed = Scope(ports=(Port(PORT, "udp"),), why="a test")
    all_ = Scope(ports=None, why="a test")
    whom = [(everything.address, all_), (port.address, closed)]
    for number in range(BANS - len(whom)):
        address = ip_address("10.0.0.1") + number * 256
        six = ip_address("2001:db8:9000::") + (number << 64)
        kinds = [(f"{address}", all_), (f"{address}", closed), (f"{address - 1}/24", closed)]
        kinds += [(f"{six}/64", all_), (f"{six}/64", closed), (f"{address}", closed)]
        whom.append(kinds[number % len(kinds)])
    now = time.time()
    return [
        Ban(
            id=number,
            jail="manual",
            subject=ip_network(subject),
            scope=scope,
            at=now,
            until=now + 3600,
            cause=Cause.OPERATOR,
        )
        for number, (subject, scope) in enumerate(whom, start=1)
    ]


def stored(path: Path, made: Sequence[Ban]) -> None:
    """Put bans into the store of a daemon that does not run."""

    async def record() -> None:
        async with SqliteStore(path, keep=86_400.0) as store:
            await store.record(made, {})

    path.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(record())


@dataclass
class Siege:
    """A daemon that holds a thousand bans, and two of the banned who never stop trying."""

    jailer: Jailer
    bad: Attacker
    trickles: Sequence[Trickle]

    @property
    def engine(self) -> Engine:
        return self.jailer.engine

    def nft(self, commands: str) -> float:
        """Have somebody else change the firewall; return the moment when it was done."""
        self.engine.space.run("nft", "-f", "-", stdin=commands + "\n")
        return time.monotonic()

    def holds(self) -> bool:
        return not any(trickle.flows() for trickle in self.trickles)

    def healed(self) -> int:
        return int(self.jailer.status()["kernel"]["healed"])

    def whole(self, what: str, since: float, healed: int = 1) -> None:
        """
        Wait until nobody banned gets through and this is the `healed`-th mend; say how long it took.

        The daemon is not asked before that: an answer with a thousand bans keeps it busy.
        """
        end = time.monotonic() + PATIENCE
        while not self.holds():
            assert time.monotonic() < end, f"the banned get through after: {what}"
        through = [
            f"{(arrived[-1] - since) * 1000:.1f} ms" if arrived else "never"
            for arrived in (trickle.arrived(since) for trickle in self.trickles)
        ]
        print(f"{what}: got through for {', '.join(through)}")
        self.jailer.wait(lambda s: s["kernel"]["healed"] == healed and s["kernel"]["in_sync"])


@pytest.fixture
def siege(
    engine: Engine, attacker: Callable[[Engine], Attacker], jailer_for: Callable[..., Jailer]
) -> Iterator[Callable[..., Siege]]:
    with contextlib.ExitStack() as stack:

        def make(settings: str = "") -> Siege:
            bad, worse = attacker(engine), attacker(engine)
            jailer = jailer_for(engine, settings, DOCKERJAIL_LOG__LEVEL="warning")
            stored(jailer.database, bans(bad, worse))
            jailer.ready()
            sending = stack.enter_context(trickles(engine, {EVERYTHING: bad, PORT: worse}))
            made = Siege(jailer, bad, sending)
            assert made.holds()
            assert jailer.status()["banned"] == BANS
            return made

        yield make


def handles(engine: Engine) -> str:
    """
    Return the table with its handles, without what changes by itself.

    That is counters, times, and who is never banned: a new network of Docker's brings some.
    """
    listed = engine.space.run("nft", "-a", "list", "table", *TABLE.split()).stdout
    allowed = re.compile(r"(set allow. .*?)elements = \{.*?\}", re.DOTALL)
    return re.sub(r" (packets|bytes|expires) \S+", "", allowed.sub(r"\1", listed))


def rule(engine: Engine, chain: str, words: str) -> str:
    """Return the handle of the rule in which these words stand."""
    listed = engine.space.run("nft", "-a", "list", "chain", *TABLE.split(), chain).stdout
    (found,) = re.findall(rf"^.*{re.escape(words)}.*# handle (\d+)$", listed, re.MULTILINE)
    return str(found)


CHANGES = {
    "flush ruleset": "flush ruleset",
    "delete table": f"delete table {TABLE}",
    "flush table": f"flush table {TABLE}",
    "delete chain": f"flush chain {TABLE} ct_prerouting; delete chain {TABLE} ct_prerouting",
    "flush chain": f"flush chain {TABLE} raw_prerouting",
    "delete set": f"flush chain {TABLE} ct_prerouting; flush chain {TABLE} direct; "
    f"delete set {TABLE} all4_32",
    "flush set": f"flush set {TABLE} port4_32; flush set {TABLE} all4_32",
    "accept all": f"insert rule {TABLE} ct_prerouting accept; "
    f"insert rule {TABLE} raw_prerouting accept",
    "allow all": f"add element {TABLE} allow4 {{ 198.51.100.0/25 }}",
    "dormant": f"add table {TABLE} {{ flags dormant; }}",
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_others_do_to_the_table_is_mended(what, siege):
    made = siege()
    try:
        since = made.nft(CHANGES[what])
        # what stands in the allow sets is put anew without a look, and so not counted
        made.whole(what, since, healed=0 if what == "allow all" else 1)
        status = made.jailer.status()
        assert status["ok"]
        assert status["banned"] == BANS
        assert re.search(
            r" again: \w+ \w+ by nft, process \d+$|put back", made.jailer.log, re.MULTILINE
        )
    finally:
        if what == "flush ruleset":  # the Engine's own rules are gone too
            made.engine.restart()


def test_single_elements_and_rules_are_mended(siege, attacker):
    made = siege()
    good = attacker(made.engine)
    with trickles(made.engine, {5003: good}) as (passing,):
        assert passing.flows()
        whom = f"all4_32 {{ {made.bad.address} }}"
        made.whole("delete element", made.nft(f"delete element {TABLE} {whom}"))
        handle = rule(made.engine, "raw_prerouting", "@port4_32")
        since = made.nft(f"delete rule {TABLE} raw_prerouting handle {handle}")
        made.whole("delete rule", since, healed=2)
        handle = rule(made.engine, "raw_prerouting", "@port4_32")
        since = made.nft(f"replace rule {TABLE} raw_prerouting handle {handle} accept")
        made.whole("replace rule", since, healed=3)
        assert passing.flows()
        since = made.nft(f"add element {TABLE} all4_32 {{ {good.address} }}")
        time.sleep(0.5)
        made.jailer.wait(lambda s: s["kernel"]["healed"] == 4)
        assert passing.flows()
        blocked = (passing.arrived(since)[0] - since) * 1000
        print(f"add element: kept out for {blocked:.1f} ms at most")
        since = made.nft(f"flush set {TABLE} allow4\nadd element {TABLE} all4_32 {{ 0.0.0.0 }}")
        made.whole("flush set of the never banned", since, healed=5)
    assert (
        "127.0.0.0" in made.engine.space.run("nft", "list", "set", *TABLE.split(), "allow4").stdout
    )
    log = made.jailer.log
    assert "1 elements put back, 0 taken out (" in log
    assert "0 elements put back, 1 taken out (" in log
    assert re.search(r"the table is in place again: .* by nft, process \d+", log)


def test_an_end_that_somebody_else_gave_a_ban_is_not_its_end(siege):
    made = siege()
    since = made.nft(f"add element {TABLE} all4_32 {{ {made.bad.address} timeout 2s }}")
    time.sleep(2.5)
    assert made.holds()
    assert not any(trickle.arrived(since) for trickle in made.trickles)
    assert made.jailer.status()["kernel"]["in_sync"]


@pytest.mark.parametrize("how", ["flush", "merge"])
def test_a_copy_of_the_table_that_somebody_loads_again_frees_and_blocks_nobody(
    how, siege, attacker
):
    made = siege()
    jailer, freed = made.jailer, attacker(made.engine)
    assert jailer.cli("ban", freed.address).returncode == 0
    jailer.wait(lambda s: s["kernel"]["elements"] == BANS + 1)
    saved = jailer.kernel()
    assert freed.address in saved
    with trickles(made.engine, {5003: freed}) as (passing,):
        assert not passing.flows()
        assert jailer.cli("unban", freed.address).returncode == 0
        assert passing.flows()
        first = f"delete table {TABLE}\n" if how == "flush" else ""
        since = made.nft(first + saved)
        made.whole(f"loaded again, {how}", since)
        assert passing.flows()


def test_what_others_do_to_their_own_tables_leaves_ours_untouched(siege, attacker):
    made = siege()
    engine, jailer = made.engine, made.jailer
    before, since = handles(engine), time.monotonic()
    packets = jailer.status()["kernel"]["packets"]
    for program in ("iptables", "ip6tables"):
        saved = engine.space.run(f"{program}-save").stdout
        engine.space.run(program, "-F")
        engine.space.run(program, "-t", "nat", "-F")
        engine.space.run(f"{program}-restore", stdin=saved)
    made.nft("add table inet other\nadd chain inet other c\ndelete table inet other")
    engine.restart()
    serve(engine, "web")
    follows(jailer, "web")
    engine.docker("network", "create", "later")
    assert handles(engine) == before
    assert made.holds()
    assert not any(trickle.arrived(since) for trickle in made.trickles)
    kernel = jailer.wait(lambda s: s["kernel"]["packets"] > packets)["kernel"]
    assert (kernel["healed"], kernel["in_sync"]) == (0, True)
    log = jailer.log
    assert "in place again" not in log
    assert "put back" not in log


def test_who_changes_the_table_again_and_again_is_told_of_and_slowed_down(siege):
    made = siege()
    for _ in range(30):
        # it may not be there: that is what the pause is for
        made.engine.space.run("nft", "delete", "table", *TABLE.split(), check=False)
        assert made.jailer.status()["banned"] == BANS
        time.sleep(0.1)
    status = made.jailer.wait(lambda s: s["kernel"]["in_sync"] and not s["ok"])
    assert 10 <= status["kernel"]["healed"] < 20
    (problem,) = status["problems"]
    assert problem["place"] == "kernel"
    assert (
        "somebody changes the table again and again, last: table deleted by nft"
        in (problem["what"])
    )
    assert "owner = true" in problem["remedy"]
    assert made.jailer.log.count("the table was changed 10 times within a minute") == 1
    done = made.jailer.cli("status")
    assert done.returncode == 4
    assert "again and again" in done.stdout
    made.whole("after a storm", time.monotonic(), healed=made.healed())


def test_a_table_with_an_owner_is_nobody_elses(siege, attacker):
    made = siege("[firewall]\nowner = true\n")
    engine, jailer = made.engine, made.jailer
    if "flags owner" not in engine.space.run("nft", "list", "table", *TABLE.split()).stdout:
        pytest.skip("this machine's kernel has no tables with an owner: it is older than 6.9")
    before, since = handles(engine), time.monotonic()
    try:
        engine.space.run("nft", "flush", "ruleset")
        for command in ("delete table", "flush table"):
            done = engine.space.run("nft", *command.split(), *TABLE.split(), check=False)
            assert "Operation not permitted" in done.stderr
    finally:
        engine.restart()
    assert handles(engine) == before
    jailer.kill()
    assert made.holds()
    jailer.ready()
    assert made.holds()
    assert handles(engine) == before
    assert not any(trickle.arrived(since) for trickle in made.trickles)
    jailer.kill()
    jailer.config.write_text("")
    jailer.ready()
    assert made.holds()
    status = jailer.status()
    assert (status["ok"], status["banned"]) == (True, BANS)
    assert "flags owner" not in jailer.kernel()
    assert not any(trickle.arrived(since) for trickle in made.trickles)


def test_a_killed_daemon_leaves_its_bans_and_the_next_takes_them_over(siege):
    made = siege()
    engine, jailer = made.engine, made.jailer
    before, since = handles(engine), time.monotonic()
    jailer.kill()
    assert made.holds()
    packets = counted(engine, made.bad)
    assert packets > 0
    jailer.ready()
    assert made.holds()
    assert handles(engine) == before
    assert counted(engine, made.bad) > packets
    assert not any(trickle.arrived(since) for trickle in made.trickles)


def counted(engine: Engine, attacker: Attacker) -> int:
    """Return what the ban of an attacker from everything has dropped, as nft says."""
    found = engine.space.run(
        "nft", "get", "element", *TABLE.split(), "all4_32", f"{{ {attacker.address} }}"
    ).stdout
    (packets,) = re.findall(rf"{re.escape(attacker.address)} counter packets (\d+)", found)
    return int(packets)
