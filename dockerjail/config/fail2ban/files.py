"""
The files of a fail2ban directory: the only room here that touches the disk.

In: the directory, and the base name of a configuration (`jail`, `filter.d/sshd`). Out: its
files merged, in fail2ban's order: BASE.conf, BASE.d/*.conf, BASE.local, BASE.d/*.local,
each behind what it includes `before` and ahead of what it includes `after`, each file and
each include followed by the `.local` beside it. A file is read once. Nothing is written.

What is not there is no error. What is there and cannot be read is a `Problem`.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dockerjail.config.fail2ban import ini
from dockerjail.config.fail2ban.interpolate import Names
from dockerjail.config.fail2ban.merged import INCLUDES, Merged
from dockerjail.config.fail2ban.mistakes import Fail2banError, problem
from dockerjail.config.mistake import shown
from dockerjail.model import Problem

LARGEST = 4_000_000
"""Bytes that a file can have; fail2ban's own are a hundredth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """
    The merged files of one base name; `problems` are those of files as a whole.

    `unread` are those of them that keep a file of that name from being read at all.
    """

    base: str
    files: tuple[str, ...]
    merged: Merged
    problems: tuple[Problem, ...]
    unread: tuple[Problem, ...] = ()


class Files:
    """A fail2ban directory, as it was when each of its files was first asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._read: dict[Path, ini.Ini | None] = {}
        self._unread: dict[Path, Problem] = {}
        self._bases: dict[str, Configuration] = {}

    def configuration(self, base: str) -> Configuration:
        """Return what all files of a base name say together; it has no files when there are none."""
        if base not in self._bases:
            self._bases[base] = self._configuration(base)
        return self._bases[base]

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names that have a file in a directory such as `filter.d`."""
        directory = self.directory / kind
        try:
            found = {
                path.stem for path in directory.iterdir() if path.suffix in (".conf", ".local")
            }
        except FileNotFoundError:
            return ()
        except OSError as error:
            self._unread.setdefault(directory, _unreadable(directory, error))
            return ()
        return tuple(sorted(found))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be read so far."""
        return tuple(self._unread.values())

    def _configuration(self, base: str) -> Configuration:
        stem = self.directory / base
        within = self._within(Path(f"{stem}.d"))
        main = [Path(f"{stem}.conf"), *(path for path in within if path.suffix == ".conf")]
        local = [Path(f"{stem}.local"), *(path for path in within if path.suffix == ".local")]
        problems: dict[Problem, None] = {}
        read = [
            file
            for path in self._with_local([path for path in (*main, *local) if self._there(path)])
            for file in self._expand(path, (), problems)
        ]
        merged = Merged(read, absent=tuple(problems))
        for file in read:
            problems |= dict.fromkeys(file.problems)
        return Configuration(
            base=base,
            files=tuple(dict.fromkeys(file.file for file in read)),
            merged=merged,
            problems=tuple(problems),
            unread=tuple(
                problem
                for path, problem in self._unread.items()
                if path in (*main, *local, Path(f"{stem}.d"))
            ),
        )

    def _within(self, directory: Path) -> list[Path]:
        try:
            found = list(directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._unread.setdefault(directory, _unreadable(directory, error))
            return []
        # a hidden file is none of fail2ban's: a shell's `*` leaves it out
        return sorted(path for path in found if not path.name.startswith("."))

    def _expand(
        self, path: Path, within: tuple[Path, ...], problems: dict[Problem, None]
    ) -> Iterator[ini.Ini]:
        """Yield what a file includes before it, the file, and what it includes after it."""
        file = self._parsed(path)
        if file is None:
            if path in self._unread:
                problems.setdefault(self._unread[path])
            return
        chain = (*within, path)
        yield from self._included(file, "before", chain, problems)
        yield file
        yield from self._included(file, "after", chain, problems)

    def _included(
        self, file: ini.Ini, key: str, chain: tuple[Path, ...], problems: dict[Problem, None]
    ) -> Iterator[ini.Ini]:
        if INCLUDES not in file.sections:
            return
        alone = Merged([file])
        try:
            alone.require(INCLUDES)
            text = Names(alone, INCLUDES).text(key) or ""
        except Fail2banError as error:
            problems.setdefault(error.problem)
            return
        for line in text.split("\n"):
            # lexically: a file that names itself by way of `..` would never be the same
            path = Path(os.path.normpath(chain[-1].parent / line.strip()))
            if not line.strip() or path in chain:
                continue
            if not self._there(path) and path not in self._unread and path.suffix != ".local":
                what = f"{shown(line.strip())} is not there"
                remedy = f"put it at {path}, or leave it out"
                problems.setdefault(problem(Names(alone, INCLUDES).place(key), what, remedy))
            for each in self._with_local([path]):
                if each not in chain:
                    yield from self._expand(each, chain, problems)

    def _with_local(self, paths: Sequence[Path]) -> Iterator[Path]:
        """Yield each path, and the `.local` beside it unless that is among them."""
        for path in paths:
            yield path
            local = path.with_suffix(".local")
            if local not in paths and self._there(local):
                yield local

    def _parsed(self, path: Path) -> ini.Ini | None:
        """Return a file, None when it is not there or cannot be read."""
        if path not in self._read:
            self._read[path] = None
            try:
                if path.is_dir():
                    what = "is a directory: Docker makes one of a mount whose source is not there"
                    self._unread[path] = problem(str(path), what, "mount the file, or remove it")
                elif path.is_file():
                    with path.open("rb") as file:
                        data = file.read(LARGEST + 1)
                    if len(data) > LARGEST:
                        what = f"is longer than {LARGEST} bytes"
                        self._unread[path] = problem(str(path), what, "write a shorter one")
                    else:
                        self._read[path] = ini.parse(data, str(path))
            except OSError as error:
                self._unread[path] = _unreadable(path, error)
        return self._read[path]

    def _there(self, path: Path) -> bool:
        try:
            return path.exists()
        except OSError as error:
            self._unread.setdefault(path, _unreadable(path, error))
            return False


def _unreadable(path: Path, error: OSError) -> Problem:
    what = f"cannot be read: {error.strerror or error}"
    return problem(str(path), what, "let dockerjail's user read it, or take it away")
