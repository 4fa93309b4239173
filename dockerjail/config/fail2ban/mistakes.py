"""
What the readers of fail2ban's files raise. Pure.

In: what is wrong and what to write, from whoever sees it. Out: an error that carries the
`Problem`, with the file, the line and the section where an operator finds it.
"""

from typing import Final

from dockerjail.config.mistake import Mistake
from dockerjail.errors import ConfigError
from dockerjail.escape import plain
from dockerjail.model import Problem

LONGEST_NAME: Final = 60
"""Characters of a section's or an option's name that a message repeats; no true one is as long."""


class Fail2banError(ConfigError):
    """A jail, a filter or an action that cannot be used as it is written."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def wrong(place: str, what: str, remedy: str = "") -> Fail2banError:
    """Return the error to raise for a mistake at `place`; its text is made fit for a terminal."""
    return Fail2banError(Mistake(what, remedy).at(place))


def problem(place: str, what: str, remedy: str = "") -> Problem:
    """Return a problem that leaves nothing out; its text is made fit for a terminal."""
    return Mistake(what, remedy).at(place)


def where(file: str, line: int, section: str, key: str = "") -> str:
    """Return a place for a message, fit for a terminal whatever the file calls its sections and options."""
    place = f"{file} line {line}, [{_short(section)}] {_short(key)}".rstrip()
    return plain(place)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
