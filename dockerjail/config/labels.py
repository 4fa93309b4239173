"""
Labels of one container in, what they ask for out. Pure.

`P.enable=true`, `P.jails=a,b`, `P.format=json`, `P.jail.NAME.OPTION=value`, where `P` is
the daemon's label prefix. A label comes with an image, so it is read as hostile text: nothing here
raises, every mistake is a `Problem`. Which jails there are is not known here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dockerjail.config import values
from dockerjail.config.mistake import Mistake, meant, nearest, shown
from dockerjail.config.options import DEFINING, FILE, LABEL, Options
from dockerjail.jail.rule import Format
from dockerjail.model import Problem


class LabelPolicy(StrEnum):
    """What the daemon lets labels say; each word includes those before it."""

    OFF = "off"
    SELECT = "select"
    TUNE = "tune"
    DEFINE = "define"


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """
    What one container's labels ask for.

    `format` is how all its lines are written. `jails` are the names that run, listed ones first; `options` what is said about
    them, as `options.LABEL` reads it. Jails in `broken` have a wrong label and must be
    left out; they are not in `jails`. A place in `problems` is `label KEY`.
    """

    enabled: bool = False
    format: Format | None = None
    jails: tuple[str, ...] = ()
    options: Mapping[str, Options] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()


MOST_LABELS = 500
MOST_CHARACTERS = 16 * 1024
MOST_WIDE = 10
"""
Labels of ours that one container may have, characters of all their keys and values, and sets of
characters beyond U+00FF in their expressions.

Expressions are compiled while everybody's lines wait: so long ones take half a second at worst, and
Python takes 0.05 s for `(?i:[a-\\U0010ffff])`.
"""

MOST_JAILS = 50
"""Jails that one container's labels may name; each of its lines is shown to all."""

MOST_PROBLEMS = 20
"""What is wrong with one container's labels that is told one by one."""

NUMBERED = ("failregex", "ignoreregex")
"""Options of which there may be several, as `failregex.1`, `failregex.2`."""

GLOBAL = frozenset(
    {
        *("ignoreip", "docker", "store", "control", "firewall", "budget", "log", "fail2ban"),
        *("defaults", "containers"),
    }
)
"""What the daemon's file sets for all, and a label for nobody."""

_FIRST = ("enable", "jails", "format", "jail")
_WIDE = re.compile(r"\[[^\]]*?(?:\\[uUN]|[^\x00-\xff])")
_NUMBER = re.compile(r"[0-9]{1,6}")


def read(labels: Mapping[str, str], *, prefix: str, policy: LabelPolicy) -> Labels:
    """
    Read the labels under `prefix`, as far as `policy` lets them speak.

    A container that is not enabled asks for nothing. A label that `policy` does not
    grant is reported and is as if not written; a wrong one takes its jail with it.
    """
    if policy is LabelPolicy.OFF:
        return Labels()
    ours = {
        key[len(prefix) + 1 :]: value
        for key, value in labels.items()
        if key.startswith(prefix + ".") or key == prefix
    }
    problems = list(_misspelt(labels, prefix))
    enabled, doubt = _enabled(ours, prefix)
    if not enabled:
        wanted = "enable" not in ours or doubt
        return Labels(problems=_bounded((*problems, *doubt), prefix) if wanted else ())
    if (excess := _excess(ours, prefix)) is not None:
        return Labels(enabled=True, problems=_bounded((excess, *problems), prefix))
    reader = _Reader(prefix, policy)
    for key in sorted(ours, key=_in_order):
        reader.take(key, ours[key])
    mentioned = dict.fromkeys((*reader.listed, *sorted(reader.mentioned)))
    sound = [name for name in mentioned if name not in reader.broken]
    if len(sound) > MOST_JAILS:
        what = f"the labels name {len(sound)} jails; the first {MOST_JAILS} run"
        problems.insert(0, Mistake(what, "name fewer").at(f"label {prefix}.jails"))
    jails = tuple(sound[:MOST_JAILS])
    return Labels(
        enabled=True,
        format=reader.format,
        jails=jails,
        options={name: reader.options[name] for name in jails if name in reader.options},
        broken=frozenset(reader.broken),
        problems=_bounded((*problems, *reader.problems), prefix),
    )


def _excess(ours: Mapping[str, str], prefix: str) -> Problem | None:
    """Say that there is more than anybody reads, if there is."""
    if len(ours) > MOST_LABELS:
        what = f"there are {len(ours)} labels, more than the {MOST_LABELS} that are read"
    elif sum(len(key) + len(value) for key, value in ours.items()) > MOST_CHARACTERS:
        what = f"the labels are longer than the {MOST_CHARACTERS} characters that are read"
    elif sum(len(_WIDE.findall(value)) for value in ours.values()) > MOST_WIDE:
        what = f"more than {MOST_WIDE} sets of characters have such beyond U+00FF"
    else:
        return None
    remedy = "none of them counts; write fewer, or define the jails in the daemon's file"
    return Mistake(what, remedy).at(f"label {prefix}")


def _bounded(problems: tuple[Problem, ...], prefix: str) -> tuple[Problem, ...]:
    """Return the first problems, each once, and how many more there are."""
    found = tuple(dict.fromkeys(problems))
    if len(found) <= MOST_PROBLEMS:
        return found
    more = Mistake(f"{len(found) - MOST_PROBLEMS} more labels are wrong")
    return (*found[:MOST_PROBLEMS], more.at(f"label {prefix}"))


def _enabled(ours: Mapping[str, str], prefix: str) -> tuple[bool, tuple[Problem, ...]]:
    """Say whether the container opted in, and what speaks against its being meant."""
    place = f"label {prefix}.enable"
    if "enable" in ours:
        try:
            return values.boolean(ours["enable"]), ()
        except Mistake as mistake:
            return False, (mistake.at(place),)
    if ours:
        forgotten = Mistake(
            f"is missing beside other {prefix} labels", f"write {prefix}.enable=true"
        )
        return False, (forgotten.at(place),)
    return False, ()


def _misspelt(labels: Mapping[str, str], prefix: str) -> Iterator[Problem]:
    """Find labels whose prefix differs in case only: Docker tells them apart."""
    start = f"{prefix}.".lower()
    for key in labels:
        if key.lower().startswith(start) and not key.startswith(f"{prefix}."):
            what = f"is not read: the prefix is {prefix}"
            yield Mistake(what, f"write {prefix}{key[len(prefix) :]}").at(f"label {_short(key)}")


def _short(key: str) -> str:
    """Return a key for a message: on one line, bounded."""
    return key if key.isprintable() and len(key) <= 150 else shown(key)


def _in_order(key: str) -> tuple[str, int, str]:
    """Sort `failregex`, `failregex.2`, `failregex.10` in this order."""
    head, _, last = key.rpartition(".")
    return (head, int(last), key) if _NUMBER.fullmatch(last) and head else (key, -1, key)


class _Reader:
    """What has been understood so far of one container's labels."""

    def __init__(self, prefix: str, policy: LabelPolicy) -> None:
        self._prefix = prefix
        self._policy = policy
        self.format: Format | None = None
        self.listed: list[str] = []
        self.mentioned: set[str] = set()
        self.options: dict[str, dict[str, Any]] = {}
        self.broken: set[str] = set()
        self.problems: list[Problem] = []

    def take(self, key: str, value: str) -> None:
        """Understand one label; `key` is what follows the prefix and its dot."""
        place = f"label {_short(f'{self._prefix}.{key}' if key else self._prefix)}"
        try:
            self._take(key, value)
        except Mistake as mistake:
            self.problems.append(mistake.at(place))

    def _take(self, key: str, value: str) -> None:
        if key == "enable":
            return
        if key == "jails":
            self._list(value)
            return
        if key == "format":
            if self._policy is LabelPolicy.SELECT:
                raise self._refused_format()
            self.format = values.format(value)
            return
        first, _, rest = key.partition(".")
        if first != "jail" or not rest:
            raise self._unknown(first, key)
        jail, option = self._split(rest)
        if self._refused(option):
            raise self._refusal(jail, option)
        self.mentioned.add(jail)
        try:
            self._set(jail, option, value)
        except Mistake:
            self.broken.add(jail)
            raise

    def _list(self, value: str) -> None:
        """Select the names in `value`; a wrong one does not keep the others out."""
        for word in value.replace(",", " ").split():
            try:
                self.listed.append(self._name(word))
            except Mistake as mistake:
                self.problems.append(mistake.at(f"label {self._prefix}.jails"))

    def _name(self, word: str) -> str:
        name, bracket, options = word.partition("[")
        if name and bracket and "=" in options:
            remedy = f"write {self._prefix}.jail.{name}.filter={word} in its place"
            raise Mistake(f"{shown(word)} is a filter with options, and no jail", remedy)
        return values.name(word)

    def _set(self, jail: str, option: str, value: str) -> None:
        if option not in LABEL:
            raise self._unknown_option(jail, option)
        found = LABEL[option](value)
        if option == "failregex" and not found:
            raise Mistake("is empty", "write an expression with <HOST> where the address is")
        own = self.options.setdefault(jail, {})
        if option in NUMBERED:
            found = (*own.get(option, ()), *values.regexes(value))
        own[option] = found

    def _split(self, rest: str) -> tuple[str, str]:
        """Split `NAME.OPTION` or `NAME.failregex.2`; the name may hold dots itself."""
        parts = rest.split(".")
        if len(parts) > 2 and _NUMBER.fullmatch(parts[-1]) and parts[-2] in NUMBERED:
            parts.pop()
        if len(parts) < 2:
            raise Mistake(
                "names a jail, but no option",
                f"write {self._prefix}.jails={rest} to select it, or "
                f"{self._prefix}.jail.{rest}.failregex=… to define it",
            )
        *name, option = parts
        if len(name) > 1 and option not in FILE and name[-1] in LABEL:
            option = f"{name.pop()}.{option}"
        return values.name(".".join(name)), option

    def _refused(self, option: str) -> bool:
        if option not in LABEL:
            return False
        if self._policy is LabelPolicy.SELECT:
            return True
        return self._policy is LabelPolicy.TUNE and option in DEFINING

    def _refusal(self, jail: str, option: str) -> Mistake:
        needed = LabelPolicy.DEFINE if option in DEFINING else LabelPolicy.TUNE
        return Mistake(
            f"is passed over: the daemon lets labels {self._policy} jails, not set {option}",
            f"write {option} under [jails.{_quoted(jail)}] in the daemon's file, "
            f"or allow it there with labels = '{needed}' under [docker]",
        )

    def _refused_format(self) -> Mistake:
        return Mistake(
            f"is passed over: the daemon lets labels {self._policy} jails, not set format",
            'write format under [containers."NAME"] in the daemon\'s file, '
            f"or allow it there with labels = '{LabelPolicy.TUNE}' under [docker]",
        )

    def _unknown_option(self, jail: str, option: str) -> Mistake:
        start = f"{self._prefix}.jail.{jail}."
        if option in FILE:
            return Mistake(
                f"{option} is never taken from a label",
                f"write it under [jails.{_quoted(jail)}] in the daemon's file",
            )
        owner = option.partition(".")[0]
        if owner in NUMBERED:
            return Mistake(
                f"{shown(option)} is no option of a jail", f"write {start}{owner}.1, .2 and so on"
            )
        close = option if nearest(option, LABEL) else owner
        return Mistake(f"{shown(option)} is no option of a jail", meant(close, LABEL, prefix=start))

    def _unknown(self, first: str, key: str) -> Mistake:
        prefix = self._prefix
        last = key.rpartition(".")[2]
        if first in GLOBAL:
            return Mistake(f"{first} is never taken from a label", "write it in the daemon's file")
        if first in LABEL:
            return Mistake("is no label known here", f"write {prefix}.jail.NAME.{key}")
        if first == "jails" and last in LABEL:
            return Mistake("is no label known here", f"write {prefix}.jail.{key.partition('.')[2]}")
        if not key:
            return Mistake("is no label known here", f"write {prefix}.enable=true")
        if first == "jail":
            return Mistake("names no jail", f"write {prefix}.jail.NAME.OPTION")
        if first in _FIRST:
            return Mistake("is no label known here", f"write {prefix}.{first}")
        close = meant(first, _FIRST, prefix=f"{prefix}.")
        if close == f"write {prefix}.jail":
            close += key[len(first) :] if "." in key else ".NAME.OPTION"
        return Mistake("is no label known here", close)


def _quoted(jail: str) -> str:
    """Return a jail's name as TOML wants it in a header."""
    return f'"{jail}"' if "." in jail else jail
