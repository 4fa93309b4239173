"""
Network namespaces for tests: made, joined by veth pairs, entered, and removed.

In: names and addresses. Out: a `Namespace` to run programs in or to step into.
Nothing here touches the addresses, links or firewall of the machine itself:
links are born inside namespaces. Programs are started with `nsenter --net`;
`ip netns exec` would also remount /sys.
"""

import contextlib
import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Namespace:
    """A named network namespace (`ip netns`); use as a context manager to have it removed."""

    name: str

    @property
    def path(self) -> Path:
        """Where the namespace can be opened."""
        return Path("/run/netns") / self.name

    def command(self, *argv: str) -> list[str]:
        """Return the argument vector that runs `argv` inside."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    def run(
        self, *argv: str, check: bool = True, stdin: str | None = None, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end; with `check`, a failure raises with its stderr."""
        done = subprocess.run(
            self.command(*argv), capture_output=True, text=True, input=stdin, timeout=timeout
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)} in {self.name}: {done.stderr or done.stdout}")
        return done

    def popen(self, *argv: str, **options: object) -> subprocess.Popen[bytes]:
        """Start a program inside; the caller ends it."""
        return subprocess.Popen(self.command(*argv), **options)  # type: ignore[call-overload, no-any-return]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """
        Move the current thread into the namespace, and back at the end.

        A socket belongs to the namespace in which it was made, for ever: make
        sockets in here, use them anywhere. Threads started in here stay here.
        """
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)

    def delete(self) -> None:
        """Remove the name; the namespace goes when its last process and socket go."""
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()


def create(name: str) -> Namespace:
    """Make a namespace of exactly this name, with `lo` up; one left over is removed first."""
    space = Namespace(name)
    space.delete()
    _ip("netns", "add", name)
    space.run("ip", "link", "set", "lo", "up")
    return space


def create_unique(prefix: str) -> Namespace:
    """Make a namespace `PREFIX-xxxxxx` that nobody else has."""
    return create(f"{prefix}-{secrets.token_hex(3)}")


def connect(
    left: Namespace,
    right: Namespace,
    *,
    left_addresses: Sequence[str],
    right_addresses: Sequence[str],
    left_link: str = "veth0",
    right_link: str = "veth0",
) -> None:
    """
    Join two namespaces by a veth pair with addresses such as `10.0.0.1/24`, `fd00::1/64`.

    IPv6 addresses are usable at once (no duplicate address detection). A link's
    name must be free in its namespace.
    """
    left.run(
        *("ip", "link", "add", left_link, "type", "veth"),
        *("peer", "name", right_link, "netns", str(right.path)),
    )
    for space, link, addresses in (
        (left, left_link, left_addresses),
        (right, right_link, right_addresses),
    ):
        for address in addresses:
            add_address(space, link, address)
        space.run("ip", "link", "set", link, "up")


def add_address(space: Namespace, link: str, address: str) -> None:
    """Give a link one more address with its prefix length, usable at once."""
    nodad = ("nodad",) if ":" in address else ()
    space.run("ip", "addr", "add", address, "dev", link, *nodad)


def _ip(*argv: str) -> None:
    done = subprocess.run(["ip", *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"ip {' '.join(argv)}: {done.stderr}")


def _setns(descriptor: int) -> None:
    # os.setns is there from Python 3.12 on
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")
