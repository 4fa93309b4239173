"""
The Engine's long answers: bytes in, however they were split, what we need of them out. Pure.

A list of containers and a stream of events are as long as whoever makes containers and
labels likes. So neither is ever held as a whole: one item, one event at a time, each
bounded. What is beyond its bound is passed over, and still says whom it is about: one
container with giant labels must not hide the others.
"""

import codecs
import json
import re
from collections.abc import Mapping
from typing import Any

ITEM = 1024 * 1024
"""Characters of one container in a list, beyond which it is only named."""

EVENT = 256 * 1024
"""Bytes of one event beyond which it is only named: it carries all labels of its container."""

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
"""Whatever names a container in a path; anything else could ask for something else."""

_NAMED = re.compile(r'\{\s*"Id"\s*:\s*"([A-Za-z0-9][A-Za-z0-9_.-]{0,254})"')
_ACTOR = re.compile(rb'"Actor"\s*:\s*\{\s*"ID"\s*:\s*"([0-9a-f]{64})"')
_BLANK = re.compile(r"[ \t\r\n]*")
_OUTSIDE = re.compile(r'["\[\]{}]')
_INSIDE = re.compile(r'["\\]')
_SMALL = 64 * 1024

Item = tuple[str, Mapping[str, Any] | None]


class ListReader:
    """
    Takes `[{...}, {...}]` apart: an id and the object, or None for one that is too long.

    Raises `ValueError` for what is no such list.
    """

    __slots__ = ("_again", "_begun", "_decode", "_depth", "_done", "_quoted", "_rest", "_utf8")

    def __init__(self) -> None:
        self._decode = json.JSONDecoder().raw_decode
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._begun = self._done = False
        self._again = 0  # as long as the rest is shorter, another attempt is in vain
        self._depth = 0  # of an item that is being passed over
        self._quoted = False

    def feed(self, data: bytes) -> list[Item]:
        """Return the items that `data` completes."""
        self._rest += self._utf8.decode(data)
        found: list[Item] = []
        at = 0
        while True:
            if self._depth:
                at = self._pass_over(at)
                if self._depth:
                    break
            at, ready = self._to_item(at)
            if not ready or len(self._rest) - at < self._again:
                break
            try:
                item, end = self._decode(self._rest, at)
            except json.JSONDecodeError:
                length = len(self._rest) - at
                if length <= ITEM:
                    self._again = 2 * length if length > _SMALL else 0
                    break
                named = _NAMED.match(self._rest, at)
                if named is None:
                    raise ValueError("an endless item that has no Id") from None
                found.append((named[1], None))
                self._again, self._depth, self._quoted, at = 0, 1, False, at + 1
                continue
            except RecursionError:
                raise ValueError("an item that is nested too deeply") from None
            found.append((_id(item), item if end - at <= ITEM else None))
            self._again, at = 0, end
        self._rest = self._rest[at:]
        return found

    def finish(self) -> list[Item]:
        """Return the items that are left when this was all; `ValueError` when something is missing."""
        self._again = 0
        found = self.feed(b"")
        if not self._done:
            raise ValueError("it ends in the middle")
        return found

    def _to_item(self, at: int) -> tuple[int, bool]:
        """Go to where the next item begins; say whether one does."""
        rest = self._rest
        while (at := _skip(rest, at)) < len(rest):
            sign = rest[at]
            if self._done:
                raise ValueError(f"{sign!r} behind its end")
            if not self._begun:
                if sign != "[":
                    raise ValueError(f"{sign!r} where a list should begin")
                self._begun = True
            elif sign == "{":
                return at, True
            elif sign == "]":
                self._done = True
            elif sign != ",":
                raise ValueError(f"{sign!r} where a container should begin")
            at += 1
        return at, False

    def _pass_over(self, at: int) -> int:
        """Go behind the end of an item, or of what there is."""
        rest = self._rest
        while self._depth:
            sign = (_INSIDE if self._quoted else _OUTSIDE).search(rest, at)
            if sign is None:
                return len(rest)
            at = sign.end()
            if sign[0] == "\\":
                if at == len(rest):
                    return at - 1
                at += 1
            elif sign[0] == '"':
                self._quoted = not self._quoted
            else:
                self._depth += 1 if sign[0] in "[{" else -1
        return at


class EventReader:
    """Takes a stream of events apart; what comes out are ids of containers."""

    __slots__ = ("_head", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._head = b""  # the beginning of an event that is being passed over

    def feed(self, data: bytes) -> list[str]:
        """Return whom the events are about that `data` completes. ValueError for what is none."""
        *lines, rest = (self._rest + data).split(b"\n")
        if self._head and lines:
            lines[0], self._head = self._head, b""
        if self._head or len(rest) > EVENT:
            self._head = self._head or rest[:EVENT]
            rest = b""
        self._rest = rest
        return [found for line in lines if (found := _subject(line))]


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank is not None else at


def _id(item: Any) -> str:
    found = item.get("Id")
    if not isinstance(found, str) or not ID.fullmatch(found):
        raise ValueError(f"a container whose Id is {str(found)[:80]!r}")
    return found


def _subject(line: bytes) -> str:
    """Return the id of the container that an event is about; empty for none."""
    if len(line) >= EVENT:
        named = _ACTOR.search(line[:EVENT])
        return named[1].decode() if named is not None else ""
    try:
        event = json.loads(line) if line.strip() else {}
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    actor = event.get("Actor") if isinstance(event, Mapping) else None
    if not isinstance(event, Mapping) or not isinstance(actor, Mapping):
        return ""
    found = actor.get("ID")
    if event.get("Type") == "network":
        attributes = actor.get("Attributes")
        found = attributes.get("container") if isinstance(attributes, Mapping) else ""
    return found if isinstance(found, str) and ID.fullmatch(found) else ""
