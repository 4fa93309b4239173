"""
A conversation with nf_tables over netlink, through pyroute2's socket.

In: transactions and questions, packed by `messages`. Out: the kernel's echoes and answers, what it
refuses as `Rejected`, and a word on each change by others. Knows of answers that get lost or come too
late, of dumps that were cut through, and of how much room a socket has; nothing of what is in a table.

One conversation at a time: whoever uses it sees to that.
"""

import asyncio
import errno
import fcntl
import socket
import struct
from array import array
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from dockerjail.errors import FirewallError, FirewallUnavailable
from dockerjail.nft import messages
from dockerjail.nft.messages import ACK, DUMP, ECHO, Kind, Message, Refusal, Reply
from dockerjail.nft.netlink import AsyncNFTSocket

_DATAGRAM = 1 << 16
"""Longer than any datagram of nf_tables: a dump comes in pieces of at most 32 KiB."""

_DUMPS = 5
"""How often to repeat a dump that a change of the ruleset cut through."""

_AUTHOR_PATIENCE = 0.05
"""How long to wait for the name of who made a change, in seconds."""

_EVENTS_BUFFER = 4 << 20

_ANSWERS_BUFFER = 16 << 20
"""Bytes of answers that may wait, once those to one change were too many for the usual room."""

_LONG = 80_000
"""Bytes of a batch from which on the kernel takes long: 1000 elements are 60 KB and 3 ms."""

_WHOLE = -1
"""The place of a refusal that means the whole transaction."""

_SEQUENCE_END = 0x7FFF0000

_SIOCGIFINDEX = 0x8933
_INTERFACE = struct.Struct("16si20x")

# linux/netlink.h, linux/nfnetlink.h, asm-generic/socket.h; `socket` has no names for them
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 1, 10, 11
_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 7
_SO_ATTACH_FILTER, _SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 26, 32, 33

T = TypeVar("T")


class Rejected(FirewallError):
    """A transaction that the kernel refused; `refusals` by the number of the message."""

    def __init__(self, words: str, refusals: Mapping[int, Refusal]) -> None:
        super().__init__(words)
        self.refusals = refusals


class Conversation:
    """
    One socket for what we say and are told, another for what others change.

    `patience` is how many seconds the kernel may take for an answer. Everything raises
    `FirewallError`, or `FirewallUnavailable` with what is missing and the remedy.
    """

    def __init__(self, *, patience: float) -> None:
        self._patience = patience
        self._netlink: Any = None
        self._connection: socket.socket | None = None
        self._events: socket.socket | None = None
        self._sequence = 1

    def open(self) -> None:
        """Take up the connection, in the network namespace of this thread."""
        what = "opening a netlink socket"
        try:
            self._netlink = AsyncNFTSocket()
            self._connection = self._netlink.socket
            self._connection.setblocking(False)
            self._connection.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._connection.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._connection.bind((0, 0))
            self._events = _listen(ignoring=self.port)
        except OSError as error:
            raise _broken(what, error) from error

    def close(self) -> None:
        """Let go of the connection."""
        if self._events is not None:
            self._events.close()
        if self._netlink is not None:
            self._netlink.close()
        self._events = self._connection = self._netlink = None

    @property
    def connection(self) -> socket.socket:
        """What is said goes out by this, and answers come in."""
        if self._connection is None:
            raise FirewallError("the packet filter is not open")
        return self._connection

    @property
    def events(self) -> socket.socket:
        """What others change is told by this."""
        if self._events is None:
            raise FirewallError("watching for changes: the packet filter is not open")
        return self._events

    @property
    def port(self) -> int:
        """The number by which the kernel knows us, and a table its owner."""
        number: int = self.connection.getsockname()[0]
        return number

    def index(self, device: str) -> int:
        """
        Return a device's index, 0 when there is none.

        In the network namespace of our socket, which the thread may have left.
        """
        request = _INTERFACE.pack(device.encode(errors="surrogateescape"), 0)
        try:
            answer = fcntl.ioctl(self.connection, _SIOCGIFINDEX, request)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return 0
            raise _broken(f"looking for device {device}", error) from error
        index: int = _INTERFACE.unpack(answer)[1]
        return index

    async def commit(self, batch: Sequence[Message], what: str) -> Sequence[Reply]:
        """
        Carry out one transaction, begun by `touch`, and return the kernel's echoes.

        `Rejected` names the messages that the kernel refused; nothing is changed then.
        """
        base = self._numbers(len(batch) + 2)
        data = messages.batch(batch, base)
        echoes: list[Reply] = []
        refusals: dict[int, Refusal] = {}
        answered = False
        self._clear(what)
        await self._send(data, what)
        while not answered:
            # all answers are there when the send is through: read until there is no more
            data = await self._receive(what)
            while data:
                for reply in messages.replies(data):
                    index = reply.sequence - base - 1
                    if not -1 <= index <= len(batch):
                        continue
                    if reply.type != messages.NETLINK_ERROR:
                        # what is touched only to be deleted is no landmark
                        if index or reply.kind == Kind.NEWGEN:
                            echoes.append(reply)
                        continue
                    answered = True
                    refusal = messages.refusal(reply)
                    if refusal is not None:
                        refusals.setdefault(index, refusal)
                data = self._queued(what)
        if refusals:
            raise _rejection(what, batch, refusals)
        return echoes

    async def ask(
        self,
        message: Message,
        read: Callable[[Reply], Iterable[T]],
        what: str,
        *,
        missing: bool = False,
        alike: Callable[[T], object] = lambda one: one,
    ) -> list[T]:
        """
        Ask and return all that `read` makes of the answers.

        With `missing`, an ENOENT only ends the list. A dump that the kernel found
        inconsistent is asked for again, unless it says the same as the one before, as far as
        `alike` tells: programs that change their own tables all the time do not keep us from
        reading ours.
        """
        before: list[object] | None = None
        for _ in range(_DUMPS):
            number = self._numbers(1)
            self._clear(what)
            await self._send(message.pack(number, 0 if message.flags & DUMP else ACK), what)
            answers: list[T] = []
            whole = True
            done = False
            while not done:
                for reply in messages.replies(await self._receive(what)):
                    if reply.sequence != number:
                        continue
                    whole = whole and not reply.flags & messages.DUMP_INTERRUPTED
                    if reply.type in (messages.NETLINK_ERROR, messages.NETLINK_DONE):
                        done = True
                        refusal = messages.refusal(reply)
                        if refusal is None or (missing and refusal.code == errno.ENOENT):
                            continue
                        raise _rejection(what, [message], {_WHOLE: refusal})
                    answers += read(reply)
                await asyncio.sleep(0)
            told = [] if whole else [alike(one) for one in answers]
            if whole or told == before:
                return answers
            before = told
        raise FirewallError(f"{what}: the ruleset changed under the reading, {_DUMPS} times")

    async def table(self, table: str) -> Sequence[Reply]:
        """Read a table but its elements; nothing if it is not there."""
        named = messages.named(table)
        found: list[Reply] = []

        def its(reply: Reply) -> list[Reply]:
            return [reply] if messages.is_of(reply, table) else []

        for asked in (
            Message(Kind.GETTABLE, 0, named),
            Message(Kind.GETCHAIN, DUMP, b""),
            Message(Kind.GETRULE, DUMP, named),
            Message(Kind.GETSET, DUMP, named),
        ):
            found += await self.ask(
                asked,
                its,
                f"reading table {table}",
                missing=True,
                alike=lambda reply: messages.landmark(reply, table),
            )
        return found

    def _numbers(self, count: int) -> int:
        if self._sequence + count > _SEQUENCE_END:
            self._sequence = 1
        first, self._sequence = self._sequence, self._sequence + count
        return first

    async def _send(self, data: bytes, what: str) -> None:
        """Hand data to the kernel; what takes it long, it does in a thread."""
        connection = self.connection
        try:
            if len(data) > _LONG:
                # beyond what the administrator allows (net.core.wmem_max)
                connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, len(data))
                await asyncio.to_thread(connection.send, data)
                return
            try:
                connection.send(data)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                # an administrator allows less than usual (net.core.wmem_default)
                connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _LONG)
                connection.send(data)
        except OSError as error:
            raise _broken(what, error) from error

    async def _receive(self, what: str) -> bytes:
        """Wait for the next datagram."""
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.get_running_loop().sock_recv(self.connection, _DATAGRAM)
        except TimeoutError as error:
            raise FirewallError(
                f"{what}: ETIMEDOUT: the kernel gave no answer within {self._patience:g} s"
            ) from error
        except OSError as error:
            raise self._failed(what, error) from error

    def _queued(self, what: str) -> bytes:
        """Return a datagram that is there already, else nothing."""
        try:
            return self.connection.recv(_DATAGRAM)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._failed(what, error) from error

    def _clear(self, what: str) -> None:
        """
        Read away the rest of a conversation that was cut short; a dump goes on until read.

        While anything is left, the kernel throws away what it has no room for without a word,
        and an answer would be waited for in vain.
        """
        while True:
            try:
                self.connection.recv(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # which is of what was before
                    raise _broken(what, error) from error

    def _failed(self, what: str, error: OSError) -> FirewallError:
        """Tell of an answer that could not be read, and make room if that was what it lacked."""
        if error.errno != errno.ENOBUFS:
            return _broken(what, error)
        with suppress(OSError):  # without the right, things stay as they are
            self.connection.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ANSWERS_BUFFER)
        return FirewallError(
            f"{what}: {Refusal(errno.ENOBUFS)}: the kernel's answer got lost, "
            "whether it did that is not known"
        )

    async def changes(self, table: str) -> AsyncGenerator[str]:
        """Yield a word on each change of `table` by others since `open`, or `events lost`."""
        loop = asyncio.get_running_loop()
        told = messages.Events()
        while True:
            patience = None if told.gravest is None else _AUTHOR_PATIENCE
            try:
                async with asyncio.timeout(patience):
                    told += messages.events(await loop.sock_recv(self.events, _DATAGRAM), table)
            except TimeoutError:
                pass
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise _broken("watching for changes", error) from error
                yield "events lost"
                told = messages.Events()
                continue
            else:
                if told.author is None:
                    continue
            if told.gravest is not None:
                yield str(told)
            told = messages.Events()


def touch(table: str) -> Message:
    """
    Open a transaction: say that the table is there, which changes nothing where it is.

    The kernel looks into the first message of a batch for whether to echo the
    generation that it commits; echoes of elements would cost more than they tell.
    """
    return Message(Kind.NEWTABLE, ECHO, messages.named(table), f"table {table}")


def deleted(table: str) -> Message:
    """Delete a table, behind `touch`: a deletion of what is missing fails before Linux 6.3."""
    return Message(Kind.DELTABLE, 0, messages.named(table), f"table {table}")


def committed(echoes: Iterable[Reply]) -> int | None:
    """Return the generation that a transaction made, if its echoes tell."""
    for reply in echoes:
        if reply.kind == Kind.NEWGEN:
            return messages.generation(reply)
    return None


def _listen(*, ignoring: int) -> socket.socket:
    """Subscribe to the changes of nf_tables that come not from port id `ignoring`."""
    events = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER
    )
    try:
        events.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENTS_BUFFER)
        # classic BPF loads big-endian, the port id is in the machine's order
        (echo,) = struct.unpack(">I", struct.pack("=I", ignoring))
        steps = (
            (0x20, 0, 0, 12),  # load nlmsg_pid of the first message
            (0x15, 0, 1, echo),  # ours?
            (0x06, 0, 0, 0),  # drop
            (0x06, 0, 0, 0xFFFFFFFF),  # keep
        )
        code = array("B", b"".join(struct.pack("=HBBI", *step) for step in steps))
        program = struct.pack("@HP", len(steps), code.buffer_info()[0])
        events.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        events.bind((0, 0))
        events.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _GROUP_NFTABLES)
    except OSError:
        events.close()
        raise
    return events


def _rejection(
    what: str, batch: Sequence[Message], refusals: Mapping[int, Refusal]
) -> FirewallError:
    index, refusal = min(refusals.items())
    if index == _WHOLE:
        return _unusable(what, refusal.code) or FirewallError(f"{what}: {refusal}")
    about = batch[index].about if index < len(batch) else ""
    if refusal.code == errno.EPERM:
        about += " belongs to another process that is running; stop that one first"
    return Rejected(f"{what}: {refusal}" + (f" ({about})" if about else ""), refusals)


def _broken(what: str, error: OSError) -> FirewallError:
    code = error.errno or 0
    return _unusable(what, code) or FirewallError(f"{what}: {Refusal(code)}")


def _unusable(what: str, code: int) -> FirewallUnavailable | None:
    """Say what is missing, if this errno means that the packet filter cannot be used at all."""
    if code == errno.EPERM:
        return FirewallUnavailable(
            f"{what}: {Refusal(code)}: the right CAP_NET_ADMIN is missing; "
            "start the container with --cap-add NET_ADMIN, as root inside"
        )
    if code in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
        return FirewallUnavailable(
            f"{what}: {Refusal(code)}: this kernel has no nf_tables; "
            "run `modprobe nf_tables` on the host, which needs Linux 5.7 or later"
        )
    return None
