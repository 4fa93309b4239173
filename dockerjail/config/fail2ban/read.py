"""
A user's own fail2ban directory in, its jails and filters out, each when it is asked for.

Nothing here decides what runs: a jail runs on the containers whose label names it. Only
`files.py` touches the disk. A mistake in one jail or filter is that one's alone.
"""

from itertools import islice
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Final

from dockerjail.config import values
from dockerjail.config.fail2ban import filters, jails
from dockerjail.config.fail2ban.files import Files
from dockerjail.config.fail2ban.filters import FilterReading
from dockerjail.config.fail2ban.ini import DEFAULT
from dockerjail.config.fail2ban.interpolate import Names
from dockerjail.config.fail2ban.jails import Fail2banJail, Library
from dockerjail.config.fail2ban.merged import Merged
from dockerjail.config.fail2ban.mistakes import Fail2banError, wrong
from dockerjail.jail.rule import Rule
from dockerjail.model import Problem

VERSION: Final = "1.1.0"
"""What `%(fail2ban_version)s` is: the version whose files are read as it reads them."""

_STOCK: Final = frozenset({"jail.conf", "defaults-debian.conf"})
"""Files with jails that come with fail2ban; the second is Debian's, and enables sshd."""

_SHARED = "common"
"""How files end that filters include and nobody uses as a filter."""


class Fail2ban:
    """A fail2ban directory, as it was when each of its files was first asked for."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.directory = files.directory
        self._jails = files.configuration("jail")
        self._library = Library(filter=self._filter, action=self._action, filters=self._known)
        self._builtin = MappingProxyType(
            {
                "fail2ban_version": VERSION,
                "fail2ban_confpath": str(files.directory),
                "logpath": "",  # not needed here, so an action that is not run may ask for it
            }
        )
        self.jails: tuple[str, ...] = jails.names(self._jails.merged)
        self._made: dict[str, Fail2banJail | Fail2banError] = {}

    @classmethod
    def open(cls, directory: Path) -> "Fail2ban | None":
        """Read the jail files of a directory; None when there is no such directory."""
        try:
            if not directory.is_dir():
                return None
        except OSError:
            # what lies in a directory that may not be entered is a problem of its files
            pass
        return cls(Files(directory))

    @property
    def filters(self) -> tuple[str, ...]:
        """The names in filter.d, without those that others only include."""
        return tuple(name for name in self._known() if not name.endswith(_SHARED))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """
        What is wrong with files as a whole, and with what fail2ban itself would die of.

        A header that lost its bracket is a mistake of the section above it, and the jail
        that it should begin is none: nobody would hear of it by asking for that jail.
        """
        found = dict.fromkeys((*self._jails.problems, *self._files.problems))
        for section in self._jails.merged.sections.values():
            found |= dict.fromkeys(section.mistakes)
        return tuple(found | dict.fromkeys(jails.misnamed(self._jails.merged)))

    @property
    def enabled(self) -> tuple[str, ...]:
        """The jails that fail2ban would run; those with a mistake are not asked."""
        return tuple(name for name in self.jails if jails.enabled(name, self._jails.merged))

    def stock(self, name: str) -> bool:
        """Say whether a jail is fail2ban's own, and no file of the user's speaks of it."""
        parts = self._jails.merged.sections[name].parts
        return all(PurePath(part.file).name in _STOCK for part in parts)

    def added_to(self, name: str) -> bool:
        """Say whether there is more of a filter than the one file that comes with fail2ban."""
        found = self._files.configuration(f"filter.d/{name}")
        own = [file for file in found.files if PurePath(file).stem == name]
        return any(PurePath(file).suffix == ".local" for file in found.files) or len(own) > 1

    @property
    def ignored(self) -> values.Ignored:
        """Return whom `[DEFAULT]` lets pass, in every jail that says nothing else."""
        names = Names(self._jails.merged, DEFAULT, builtin=self._builtin)
        try:
            text = names.text("ignoreip")
        except Fail2banError:
            return values.NOBODY  # told when a jail is asked for
        return jails.ignored(text or "")[0]

    def saying(self, key: str) -> tuple[str, ...]:
        """Return the jails whose own section has `key`; one more if the default has."""
        merged = self._jails.merged
        own = tuple(name for name in self.jails if merged.own(name, key) is not None)
        others = (name for name in self.jails if name not in own)
        return (*own, *islice(others, 1)) if merged.own(DEFAULT, key) is not None else own

    def jail(self, name: str) -> Fail2banJail:
        """Return the jail of a name, enabled or not. Raises `Fail2banError`."""
        if self._jails.unread:
            # without what stands there, ignoreip above all, it would be another jail
            raise Fail2banError(self._jails.unread[0])
        made = self._made.get(name)
        if made is None:
            try:
                made = jails.read(name, self._jails.merged, self._library, builtin=self._builtin)
            except Fail2banError as error:
                made = error
            self._made[name] = made
        if isinstance(made, Fail2banError):
            raise Fail2banError(made.problem)
        return made

    def filter(self, text: str) -> FilterReading:
        """
        Return what a reference such as `sshd[mode=aggressive]` means on its own.

        Only a name in filter.d is one: who writes a label reads no other file. Raises
        `Fail2banError`.
        """
        place = f"filter {text}"
        found, merged = jails.load_filter(text, self._library, place)
        if found.name not in self._known():
            raise jails.no_filter(found.name, self._known(), place)
        definition = filters.definition(merged, found, jail={}, place=place)
        reading = filters.read(found.name, definition, jail={}, places={})
        if not reading.rule.failregex:
            raise wrong(place, "has no failregex", "name a filter that has one")
        return reading

    def rule(self, text: str) -> Rule:
        """Return the rule of such a reference. Raises `Fail2banError`."""
        return self.filter(text).rule

    def _known(self) -> tuple[str, ...]:
        return self._files.names("filter.d")

    def _filter(self, name: str) -> Merged | None:
        found = self._merged("filter.d", name)
        if found is None and "\0" not in name:
            absent = self._files.configuration(f"filter.d/{name}").problems
            if absent:
                raise Fail2banError(absent[0])
        return found

    def _action(self, name: str) -> Merged | None:
        return self._merged("action.d", name)

    def _merged(self, kind: str, name: str) -> Merged | None:
        if "\0" in name:
            return None
        found = self._files.configuration(f"{kind}/{name}")
        return found.merged if found.files else None
