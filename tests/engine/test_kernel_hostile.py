"""
A kernel that lacks something, loses answers, or has somebody else at its ruleset all the time.

The kernel is the real one. Where it lacks nothing, what it is asked for is changed on the way to
something that no kernel has: its answer is then the one that it gives for a missing module.
"""

import asyncio
import contextlib
import errno
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_network

import pytest

from dockerjail.ban.table import Table
from dockerjail.errors import FirewallError, FirewallUnavailable
from dockerjail.model import Ban, Cause, Port, Scope
from dockerjail.nft import messages
from dockerjail.nft.conversation import Conversation
from dockerjail.nft.kernel import Kernel
from tests.lab.packets import (
    ATTACKER,
    DEVICE,
    SERVER,
    Lab,
    block,
    blocked,
    connected,
    element,
)

pytestmark = pytest.mark.engine

BANNED = element(f"{ATTACKER}/32", 80)


@pytest.fixture
async def kernel(lab: Lab) -> AsyncIterator[Kernel]:
    async with Kernel(patience=30.0) as opened:
        await opened.replace([block(BANNED)], allow=[])
        yield opened


def ban(subject: str, number: int = 1, seconds: float | None = 600) -> Ban:
    now = time.time()
    return Ban(
        id=number,
        jail="manual",
        subject=ip_network(subject),
        scope=Scope(ports=(Port(80),), why="a test"),
        at=now,
        until=None if seconds is None else now + seconds,
        cause=Cause.OPERATOR,
    )


async def kept(kernel: Kernel) -> Table:
    """Have a table that the warden would keep, with one ban."""
    table = Table(kernel, clock=time.time)
    await table.restore([ban(f"{ATTACKER}/32")])
    assert table.sync.ok
    return table


async def add(table: Table, *bans: Ban) -> None:
    change = [table.put(one) for one in bans]
    await table.change(add=[block for one in change for block in one.add], remove=[])


def listed(lab: Lab) -> str:
    """Return the table without what changes by itself."""
    text = lab.host.run("nft", "list", "table", "inet", "dockerjail").stdout
    return re.sub(r" (packets|bytes|expires|timeout) \S+", "", text)


def over(netlink: Conversation) -> Kernel:
    """Make the kernel's packet filter with another conversation than its own."""
    kernel = Kernel()
    kernel._netlink = netlink
    return kernel


def shrink(connection: socket.socket, which: int) -> None:
    """Leave a socket as little room as the kernel allows: two kilobytes."""
    connection.setsockopt(socket.SOL_SOCKET, which, 1)


# ---- answers that get lost


async def test_an_answer_that_gets_lost_is_said_and_the_next_change_works(
    lab: Lab, kernel: Kernel
) -> None:
    shrink(kernel._netlink.connection, socket.SO_RCVBUF)
    with pytest.raises(FirewallError, match=r"ENOBUFS .*answer got lost") as lost:
        await kernel.replace([block(BANNED)], allow=[])
    assert not isinstance(lost.value, FirewallUnavailable)
    await kernel.replace([block(BANNED)], allow=[])
    assert await kernel.intact()
    assert (await kernel.present()).keys() == {BANNED}


async def test_what_was_left_unread_keeps_no_answer_away(lab: Lab, kernel: Kernel) -> None:
    many = {element(f"10.0.{n >> 8}.{n & 255}/32") for n in range(3000)}
    await kernel.apply(add=[block(one) for one in many])
    shrink(kernel._netlink.connection, socket.SO_RCVBUF)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(kernel.present())
        await asyncio.sleep(0)
        reading.cancel()
    # the queue is full of what nobody reads: there is no room for the answer to come
    await kernel.apply(add=[block(element("192.0.2.1/32"))])
    assert element("192.0.2.1/32") in await kernel.present()


async def test_a_lost_answer_to_a_ban_leads_to_a_ban_all_the_same(lab: Lab, kernel: Kernel) -> None:
    table = await kept(kernel)
    shrink(kernel._netlink.connection, socket.SO_RCVBUF)
    # a network of a length that was not in use: the answer tells of new sets and rules
    await add(table, *(ban(f"10.0.0.0/{length}", length) for length in range(8, 30)))
    assert (table.sync.ok, table.sync.error) == (True, "")
    assert len(await kernel.present()) == 23
    assert await kernel.intact()


async def test_little_room_for_what_is_sent_is_made_more(lab: Lab, kernel: Kernel) -> None:
    shrink(kernel._netlink.connection, socket.SO_SNDBUF)
    many = {element(f"10.0.{n >> 8}.{n & 255}/32", 80) for n in range(800)}
    await kernel.apply(add=[block(one) for one in many])
    assert (await kernel.present()).keys() == {BANNED, *many}


async def test_news_that_get_lost_lead_to_a_look_at_everything(lab: Lab, kernel: Kernel) -> None:
    table = await kept(kernel)
    shrink(kernel._netlink.events, socket.SO_RCVBUF)
    elements = ", ".join(f"10.0.{n >> 8}.{n & 255} . tcp . 80" for n in range(5000))
    commands = (
        f"flush set inet dockerjail port4_32\nadd element inet dockerjail port4_32 {{ {elements} }}"
    )
    changes = kernel.changes()
    lab.host.run("nft", "-f", "-", stdin=commands)
    async with asyncio.timeout(10):
        told = await anext(changes)
    await changes.aclose()
    assert told == "events lost"
    await table.verify(told)
    assert table.sync.ok
    assert table.sync.healed == 1
    assert (await kernel.present()).keys() == {BANNED}


# ---- no memory


class Starved(Conversation):
    """Has nothing sent while there is no memory for it."""

    starved = False

    async def _send(self, data: bytes, what: str) -> None:
        if self.starved:
            raise FirewallError(f"{what}: {messages.Refusal(errno.ENOMEM)}")
        await super()._send(data, what)


async def test_a_kernel_out_of_memory_is_told_and_tried_again(lab: Lab) -> None:
    netlink = Starved(patience=10.0)
    async with over(netlink) as kernel:
        table = await kept(kernel)
        netlink.starved = True
        await add(table, ban("203.0.113.7/32", 2))
        assert not table.sync.ok
        assert "ENOMEM" in table.sync.error
        await table.verify()
        assert "ENOMEM" in table.sync.error
        netlink.starved = False
        await table.verify()
        assert table.sync.ok
        assert (await kernel.present()).keys() == {BANNED, element("203.0.113.7/32", 80)}


# ---- sets that are full


async def test_more_bans_than_fit_a_set_of_65535_are_all_held(lab: Lab, kernel: Kernel) -> None:
    many = [element(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32", 80) for n in range(70_000)]
    await kernel.apply(add=[block(one) for one in many])
    assert len(await kernel.present()) == 70_001
    assert (await kernel.counters([many[0], many[-1]])).keys() == {many[0], many[-1]}


class Skipping(Conversation):
    """Leaves out half of a set when it is first read, as the kernel may while the set grows."""

    skipped = False

    async def ask(self, message, read, what, **more):
        found = await super().ask(message, read, what, **more)
        if self.skipped or not what.startswith("reading set"):
            return found
        self.skipped = True
        return found[::2]


async def test_what_a_reading_leaves_out_while_a_set_grows_is_read_again(lab: Lab) -> None:
    many = {element(f"10.0.{n >> 8}.{n & 255}/32") for n in range(300)}
    netlink = Skipping(patience=10.0)
    async with over(netlink) as kernel:
        if not kernel.features.set_count:
            pytest.skip("this kernel does not tell the size of a set")
        await kernel.replace([block(one) for one in many], allow=[])
        assert (await kernel.present()).keys() == many
    assert netlink.skipped


async def test_a_set_that_somebody_made_too_small_is_put_anew_with_all_bans(
    lab: Lab, kernel: Kernel
) -> None:
    table = await kept(kernel)
    small = "set port4_32 { type ipv4_addr . inet_proto . inet_service; flags timeout; size 2; }"
    lab.host.run(
        "nft",
        "-f",
        "-",
        stdin=f"delete table inet dockerjail\ntable inet dockerjail {{\n{small}\n}}",
    )
    many = [ban(f"203.0.113.{n}/32", n) for n in range(10)]
    await add(table, *many)
    await table.verify("table changed")
    assert table.sync.ok
    assert len(await kernel.present()) == 11
    assert await kernel.intact()


# ---- rights that are lost on the way

LOSING = """
import asyncio
from dockerjail.nft.kernel import Kernel
from tests.engine.test_kernel_hostile import ban, kept, add
from tests.lab.privilege import drop, take

async def main():
    async with asyncio.timeout(30):
        async with Kernel() as kernel:
            table = await kept(kernel)
            drop()
            await add(table, ban("203.0.113.7/32", 2))
            print(table.sync.ok, table.sync.error)
            await table.verify()
            print(table.sync.ok, len(table))
            take()
            await table.verify()
            print(table.sync.ok, len(await kernel.present()))

asyncio.run(main())
"""


async def test_a_right_that_is_lost_is_told_and_nothing_is_forgotten(lab: Lab) -> None:
    said = lab.host.run(sys.executable, "-c", LOSING)
    lost, still, again = said.stdout.splitlines()
    assert lost.startswith("False")
    assert "EPERM" in lost
    assert "CAP_NET_ADMIN is missing" in lost
    assert still == "False 2"
    assert again == "True 2"


# ---- somebody is at it all the time

BUSY = """
import asyncio, sys
from ipaddress import ip_network
from dockerjail.model import Element
from dockerjail.nft.kernel import Kernel
from dockerjail.ports import Block

async def main():
    one = Element(ip_network("192.0.2.1/32"), None)
    async with Kernel(table="other") as kernel:
        await kernel.replace([], allow=[])
        print("busy", flush=True)
        while True:
            await kernel.apply(add=[Block(element=one, until=None)])
            await kernel.apply(remove=[one])

asyncio.run(main())
"""


@contextlib.contextmanager
def busy(lab: Lab, *command: str) -> Iterator[None]:
    """Have another program change tables of its own, thousands of times a second."""
    process = lab.host.popen(*command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


class Interrupted(Conversation):
    """Reads while somebody else changes tables of his own between any two pieces of an answer."""

    def __init__(self, other: Kernel) -> None:
        super().__init__(patience=10.0)
        self._other = other
        self.torn = 0

    async def _receive(self, what: str) -> bytes:
        data = await super()._receive(what)
        found = list(messages.replies(data))
        self.torn += any(reply.flags & messages.DUMP_INTERRUPTED for reply in found)
        if what.startswith("reading"):
            await self._other.apply(add=[block(BANNED)])
            await self._other.apply(remove=[BANNED])
        return data


async def test_a_ruleset_that_others_change_all_the_time_can_be_read(lab: Lab) -> None:
    chains = "\n".join(f"add chain inet many c{number}" for number in range(3000))
    lab.host.run("nft", "-f", "-", stdin=f"add table inet many\n{chains}\n")
    other = Kernel(table="other")
    netlink = Interrupted(other)
    async with other, over(netlink) as kernel:
        await other.replace([], allow=[])
        table = await kept(kernel)
        assert await kernel.intact()
        assert (await kernel.present()).keys() == {BANNED}
        await table.verify("somebody else")
        assert (table.sync.ok, table.sync.healed) == (True, 0)
        assert netlink.torn > 2


async def test_a_table_that_others_change_under_the_reading_is_not_taken_for_whole(
    lab: Lab,
) -> None:
    async with Kernel(table="other") as other, over(Interrupted(other)) as kernel:
        await other.replace([], allow=[])
        await kernel.replace([block(BANNED)], allow=[])
        lab.host.run("nft", "insert rule inet dockerjail raw_prerouting accept")
        assert not await kernel.intact()


async def test_every_change_happens_however_many_write_at_once(lab: Lab, kernel: Kernel) -> None:
    script = "while :; do nft 'add table ip x; add chain ip x c; delete table ip x'; done"
    with busy(lab, "sh", "-c", f"echo busy; {script}"), busy(lab, sys.executable, "-c", BUSY):
        many = {element(f"10.0.{n >> 8}.{n & 255}/32") for n in range(300)}
        for one in many:
            await kernel.apply(add=[block(one)])
        await kernel.apply(remove=list(many)[:100])
        assert len(await kernel.present()) == 201
        assert await kernel.intact()


# ---- parts of nf_tables that are not there


class Lacking(Conversation):
    """Asks for what no kernel has in place of something else."""

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        super().__init__(patience=10.0)
        self._change = change

    async def _send(self, data: bytes, what: str) -> None:
        await super()._send(self._change(data), what)


def without(name: str) -> Kernel:
    """Lack an expression: what rules are made of, and sets count with."""
    return over(Lacking(lambda data: data.replace(name.encode() + b"\0", b"x" * len(name) + b"\0")))


def without_tables_for_both_families() -> Kernel:
    inet = re.compile(rb"\x01(?=\x00\x00\x00.\x00\x01\x00dockerjail)", re.DOTALL)
    return over(Lacking(lambda data: inet.sub(b"\x0b", data)))


def without_nf_tables() -> Kernel:
    """Have transactions go to a part of netfilter that is not there."""
    begin = messages.batch([], 1)[:20]
    return over(
        Lacking(lambda data: data[:18] + b"\0\0" + data[20:] if data[:8] == begin[:8] else data)
    )


@pytest.mark.parametrize("name", ["ct", "counter", "payload", "lookup"])
async def test_a_module_that_is_missing_is_told_at_the_start_with_what_to_load(
    lab: Lab, name: str
) -> None:
    with pytest.raises(FirewallUnavailable, match=r"ENOENT.*modprobe -a nf_tables nft_ct"):
        await without(name).open()
    assert lab.host.run("nft", "list", "ruleset").stdout == ""


async def test_a_kernel_without_tables_for_both_families_is_told(lab: Lab) -> None:
    with pytest.raises(FirewallUnavailable, match=r"(EAFNOSUPPORT|ENOTSUP).*NF_TABLES_INET"):
        await without_tables_for_both_families().open()


async def test_a_kernel_without_nf_tables_is_told(lab: Lab) -> None:
    with pytest.raises(FirewallUnavailable, match=r"has no nf_tables; run `modprobe nf_tables`"):
        await without_nf_tables().open()


async def test_a_kernel_that_can_answer_nobody_does_the_rest(lab: Lab) -> None:
    lab.listen(SERVER, 80)
    async with without("reject") as kernel:
        assert not kernel.rejects
        await kernel.replace([block(BANNED)], allow=[])
        knocking = lab.knock(ATTACKER, SERVER, 80)
        await blocked(kernel, BANNED)
        assert not connected(knocking)


# ---- somebody else's table of our name

STRANGE = {
    "empty": "table inet dockerjail {}",
    "asleep": "table inet dockerjail { flags dormant; }",
    "chains that drop everything": "table inet dockerjail {"
    " chain raw_prerouting { type filter hook prerouting priority -500; policy drop; }"
    " chain out { type filter hook output priority 0; policy drop; } }",
    "sets of other types": "table inet dockerjail {"
    " set all4_32 { type ipv6_addr; flags interval; size 7; elements = { fd00::/8 } }"
    " set port4_32 { type mark; }"
    " set allow4 { type inet_service; elements = { 80 } } }",
    "maps and objects": "table inet dockerjail {"
    " counter hits {}"
    " quota q { 1 mbytes }"
    " map all6_64 { type ipv4_addr : verdict; elements = { 192.0.2.1 : jump other } }"
    " map m { type inet_service : mark; }"
    " chain other { counter name hits; quota name q drop; }"
    " chain nat { type nat hook prerouting priority -100; ip saddr vmap @all6_64;"
    " tcp dport 81 redirect to :82; } }",
    "a flowtable": "table inet dockerjail {"
    f" flowtable f {{ hook ingress priority 0; devices = {{ {DEVICE} }}; }}"
    " chain forward { type filter hook forward priority 0; ip protocol tcp flow add @f; } }",
    "chains at devices": "table inet dockerjail {"
    f' chain ingress_{DEVICE} {{ type filter hook ingress device "{DEVICE}" priority 7;'
    " policy drop; } }",
}


LOST = {
    "empty": "",
    "asleep": "",
    "chains that drop everything": "it had 2 chains (raw_prerouting, out)",
    "sets of other types": "it had 3 sets or maps (all4_32, port4_32, allow4)",
    "maps and objects": "it had 2 chains (other, nat) with 4 rules, 2 sets or maps (all6_64, m), 2 other objects",
    "a flowtable": "1 chain (forward) with 1 rule, 1 other object",
    "chains at devices": f"it had 1 chain (ingress_{DEVICE})",
}
"""What is told of them when they have given way."""


def forms(lab: Lab, name: str) -> str:
    done = lab.host.run("nft", "-f", "-", stdin=STRANGE[name].replace("} ", "}\n"), check=False)
    if done.returncode and name == "a flowtable":
        pytest.skip(f"this kernel has no flowtables: {done.stderr}")
    assert not done.returncode, done.stderr
    return lab.host.run("nft", "list", "ruleset").stdout


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("when", ["before the start", "while it runs"])
async def test_a_strangers_table_of_our_name_gives_way_as_a_whole(
    lab: Lab, name: str, when: str
) -> None:
    lab.listen(SERVER, 80)
    async with Kernel() as kernel:
        table = await kept(kernel)
        ours = listed(lab)
        lab.host.run("nft", "delete", "table", "inet", "dockerjail")
        forms(lab, name)
        if when == "before the start":
            table = await kept(kernel)
        else:
            await table.verify("table changed")
        assert table.sync.ok
        assert listed(lab) == ours
        had = LOST[name]
        assert [had in problem.what for problem in kernel.problems()] == ([True] if had else [])
        knocking = lab.knock(ATTACKER, SERVER, 80)
        await blocked(kernel, BANNED)
        assert not connected(knocking)


OUR_OWN = [
    "delete chain inet dockerjail raw_prerouting",
    "flush table inet dockerjail",
    "flush chain inet dockerjail raw_prerouting",
    "delete rule inet dockerjail ct_prerouting handle {last}",
    "add chain inet dockerjail more",
    "add table inet dockerjail { flags dormant; }",
    f"add chain inet dockerjail ingress_{DEVICE}",
]


@pytest.mark.parametrize("command", OUR_OWN)
async def test_a_table_of_ours_is_called_nobody_elses_whatever_was_done_to_it(
    lab: Lab, command: str
) -> None:
    async with Kernel() as kernel:
        await kernel.replace([block(BANNED)], allow=[])
    chain = lab.host.run("nft", "-a", "list", "chain", "inet", "dockerjail", "ct_prerouting").stdout
    last = chain.rpartition("# handle ")[2].partition("\n")[0]
    lab.host.run("nft", command.replace("{last}", last))
    async with Kernel() as kernel:
        table = await kept(kernel)
        assert kernel.problems() == ()
        lab.host.run("nft", command.replace("{last}", last), check=False)
        await table.verify("table changed")
        assert kernel.problems() == ()
    async with Kernel() as kernel:
        assert await kernel.adopt(allow=[])


async def test_a_strangers_table_is_not_removed_by_a_dry_run(lab: Lab) -> None:
    forms(lab, "maps and objects")
    before = listed(lab)
    async with Kernel() as kernel:
        with pytest.raises(FirewallError, match="it is somebody else's: it has 2 chains"):
            await kernel.remove()
    assert listed(lab) == before


@pytest.mark.parametrize("name", STRANGE)
async def test_a_ban_made_into_a_strangers_table_ends_in_ours(lab: Lab, name: str) -> None:
    async with Kernel() as kernel:
        table = await kept(kernel)
        lab.host.run("nft", "delete", "table", "inet", "dockerjail")
        forms(lab, name)
        await add(table, ban("203.0.113.7/32", 2))
        await table.verify("table changed")
        assert table.sync.ok
        assert await kernel.intact()
        assert (await kernel.present()).keys() == {BANNED, element("203.0.113.7/32", 80)}


async def test_a_table_that_another_process_owns_is_left_to_it_and_told(lab: Lab) -> None:
    async with Kernel(owner=True) as other:
        if not other.features.owner:
            pytest.skip("this machine's kernel has no tables with an owner: it is older than 6.9")
        await other.replace([], allow=[])
        before = listed(lab)
        async with Kernel() as kernel:
            table = Table(kernel, clock=time.time)
            with pytest.raises(FirewallError, match="belongs to another process"):
                await table.restore([ban(f"{ATTACKER}/32")])
        assert listed(lab) == before


async def test_a_running_table_that_somebody_takes_as_his_own_is_told_until_he_is_gone(
    lab: Lab, kernel: Kernel
) -> None:
    table = await kept(kernel)
    lab.host.run("nft", "delete", "table", "inet", "dockerjail")
    async with Kernel(owner=True) as other:
        if not other.features.owner:
            pytest.skip("this machine's kernel has no tables with an owner: it is older than 6.9")
        await other.replace([], allow=[])
        await table.verify("table deleted")
        assert not table.sync.ok
        assert "belongs to another process" in table.sync.error
        assert len(table) == 1
    await table.verify()
    assert table.sync.ok
    assert (await kernel.present()).keys() == {BANNED}
