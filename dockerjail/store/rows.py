"""
Values into rows and back, and the SQL that writes and reads them. Pure.

Text that SQLite cannot hold (half surrogates) is spelled out on the way in; a row that
somebody else made unreadable is a `ValueError` on the way out.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from itertools import groupby, starmap
from typing import Any

from dockerjail.model import (
    Address,
    Allowance,
    Ban,
    Blocktype,
    Cause,
    Counter,
    Failure,
    Mode,
    Named,
    Port,
    Protocol,
    Scope,
    Subject,
    Unban,
    UnbanReason,
)
from dockerjail.ports import (
    Answered,
    BanRecord,
    Disallowed,
    Entry,
    Guarded,
    Rewound,
    Settled,
    Unguarded,
)

_LONGEST_CONTAINER = 255
"""Characters of a container that a ban remembers: ids have 64, names are for their owner to choose."""

_PROTOCOLS: Mapping[str, Protocol] = {"tcp": "tcp", "udp": "udp", "sctp": "sctp"}

SELECT_BAN = """
    SELECT id, jail, subject, scope, why, at, until, failures, count, reason, blocktype,
        cause, mode, container, forced, ended_at, ended_why, packets, bytes
    FROM ban
"""
SELECT_FAILURE = "SELECT jail, subject, at, container, text, fields FROM failure "

SELECT_NAMED = "SELECT id, jail, name, at, container, text, fields FROM waiting_name "

_WRITE_BAN = """
    INSERT INTO ban
        (id, jail, subject, scope, why, at, until, failures, count, reason, blocktype,
        cause, mode, container, forced)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        jail = excluded.jail, subject = excluded.subject, scope = excluded.scope,
        why = excluded.why, at = excluded.at, until = excluded.until,
        failures = excluded.failures, count = excluded.count, reason = excluded.reason,
        blocktype = excluded.blocktype, cause = excluded.cause, mode = excluded.mode,
        container = excluded.container, forced = excluded.forced,
        ended_at = NULL, ended_why = NULL, packets = NULL, bytes = NULL
"""
_WRITE_UNBAN = """
    UPDATE ban SET ended_at = ?, ended_why = ?, packets = ?, bytes = ?
    WHERE id = ? AND ended_at IS NULL
"""
_WRITE_ALLOWANCE = "INSERT OR REPLACE INTO allowance (who, at, until, comment) VALUES (?, ?, ?, ?)"
_WRITE_DISALLOWED = "DELETE FROM allowance WHERE who = ?"
_WRITE_GUARDED = "INSERT OR IGNORE INTO guarded (device, address) VALUES (?, ?)"
_WRITE_UNGUARDED = "DELETE FROM guarded WHERE device = ? AND address = ?"
_WRITE_SETTLED = """
    UPDATE failure SET spent = 1, ban = ? WHERE subject = ? AND jail = ? AND spent = 0
"""
_WRITE_FAILURE = """
    INSERT INTO failure (jail, subject, at, container, text, fields, spent, ban)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_WRITE_NAMED = """
    INSERT OR REPLACE INTO waiting_name (id, jail, name, at, container, text, fields)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_WRITE_REWOUND = """
    UPDATE ban SET at = at - :seconds, until = until - :seconds, ended_at = ended_at - :seconds
    WHERE at > :now
"""
REWIND = (
    """
    UPDATE ban SET at = :now, until = until - (at - :now), ended_at = ended_at - (at - :now)
    WHERE at > :now
    """,
    "UPDATE allowance SET at = :now, until = until - (at - :now) WHERE at > :now",
)
"""The same at a start, when nobody knows by how much the clock was set back."""

_WRITE_ANSWERED = "DELETE FROM waiting_name WHERE id = ?"
WRITE_CURSOR = "INSERT OR REPLACE INTO cursor (container, stream, ns, seen) VALUES (?, ?, ?, ?)"


def statements(entries: Sequence[Entry]) -> Iterator[tuple[str, Iterable[Any]]]:
    """
    Turn entries into few statements with many rows, to the same effect.

    What a `Settled` spends among the failures of the same call is known here:
    those are inserted as spent. Only failures of earlier calls need an update,
    which must come before the inserts. Bans stand first, to be referred to.
    """
    settled: list[tuple[int | None, str, str]] = []
    failures: list[tuple[Failure, Settled | None]] = []
    open_: dict[tuple[str, Subject], list[int]] = {}
    others: list[Entry] = []
    for entry in entries:
        match entry:
            case Failure():
                open_.setdefault((entry.jail, entry.subject), []).append(len(failures))
                failures.append((entry, None))
            case Settled():
                settled.append((entry.ban, str(entry.subject), entry.jail))
                for index in open_.pop((entry.jail, entry.subject), ()):
                    failures[index] = (failures[index][0], entry)
            case _:
                others.append(entry)
    for kind, run in groupby(others, type):
        sql, row = _WRITTEN[kind]
        yield sql, [row(entry) for entry in run]
    if settled:
        yield _WRITE_SETTLED, settled
    if failures:
        # Made into rows by the connection's thread, not by the event loop.
        yield _WRITE_FAILURE, starmap(_failure_row, failures)


def _ban_row(ban: Ban) -> tuple[Any, ...]:
    return (
        ban.id,
        ban.jail,
        str(ban.subject),
        str(ban.scope),
        _storable(ban.scope.why),
        ban.at,
        ban.until,
        ban.failures,
        ban.count,
        _storable(ban.reason),
        ban.blocktype.value,
        ban.cause.value,
        ban.mode.value,
        _storable(ban.container[:_LONGEST_CONTAINER]),
        int(ban.forced),
    )


def _unban_row(unban: Unban) -> tuple[Any, ...]:
    packets, octets = unban.blocked or (None, None)
    return unban.at, unban.reason.value, packets, octets, unban.ban.id


def _allowance_row(allowance: Allowance) -> tuple[Any, ...]:
    who, comment = _storable(allowance.who), _storable(allowance.comment)
    return who, allowance.at, allowance.until, comment


def _disallowed_row(end: Disallowed) -> tuple[Any, ...]:
    return (_storable(end.who),)


def _guarded_row(entry: Guarded | Unguarded) -> tuple[Any, ...]:
    return _storable(entry.direct.device), str(entry.direct.address)


def _named_row(named: Named) -> tuple[Any, ...]:
    return (
        named.id,
        _storable(named.jail),
        _storable(named.name),
        named.at,
        _storable(named.container),
        _storable(named.text),
        _fields(named.fields),
    )


def _answered_row(answered: Answered) -> tuple[Any, ...]:
    return (answered.id,)


def _rewound_row(step: Rewound) -> Mapping[str, float]:
    return {"seconds": step.seconds, "now": step.now}


_WRITTEN: Mapping[type, tuple[str, Callable[[Any], Any]]] = {
    Ban: (_WRITE_BAN, _ban_row),
    Unban: (_WRITE_UNBAN, _unban_row),
    Allowance: (_WRITE_ALLOWANCE, _allowance_row),
    Disallowed: (_WRITE_DISALLOWED, _disallowed_row),
    Guarded: (_WRITE_GUARDED, _guarded_row),
    Unguarded: (_WRITE_UNGUARDED, _guarded_row),
    Rewound: (_WRITE_REWOUND, _rewound_row),
    Named: (_WRITE_NAMED, _named_row),
    Answered: (_WRITE_ANSWERED, _answered_row),
}


def _failure_row(failure: Failure, settled: Settled | None) -> tuple[Any, ...]:
    return (
        failure.jail,
        str(failure.subject),
        failure.at,
        failure.container,
        _storable(failure.text),
        _fields(failure.fields),
        int(settled is not None),
        None if settled is None else settled.ban,
    )


def _fields(fields: Mapping[str, str]) -> str | None:
    return _storable(json.dumps(dict(fields), ensure_ascii=False)) if fields else None


def _storable(text: str) -> str:
    """Return `text` with half surrogates, which UTF-8 has no bytes for, spelled out."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@lru_cache(maxsize=4096)
def _subject(text: str) -> Subject:
    return ip_network(text)


def _scope(text: str, why: str) -> Scope:
    """Read what `Scope.__str__` wrote."""
    if text == "everything":
        return Scope(ports=None, why=why)
    if text == "nothing":
        return Scope(ports=(), why=why)
    ports: list[Port] = []
    addresses: list[Address] = []
    for part in text.split(", "):
        number, slash, protocol = part.partition("/")
        if not slash:
            addresses.append(ip_address(part))
        elif protocol in _PROTOCOLS:
            ports.append(Port(int(number), _PROTOCOLS[protocol]))
        else:
            raise ValueError(f"{part!r} is neither a port such as 80/tcp nor an address")
    return Scope(ports=tuple(ports), why=why, addresses=tuple(addresses))


def ban_record(row: Sequence[Any]) -> BanRecord:
    """Read a row of `SELECT_BAN`; ValueError when it is none of ours."""
    *values, ended_at, ended_why, packets, octets = row
    id_, jail, subject, scope, why, at, until, failures, count, reason, *more = values
    blocktype, cause, mode, container, forced = more
    ban = Ban(
        id=id_,
        jail=jail,
        subject=_subject(subject),
        scope=_scope(scope, why),
        at=at,
        until=until,
        failures=failures,
        count=count,
        reason=reason,
        blocktype=Blocktype(blocktype),
        cause=Cause(cause),
        mode=Mode(mode),
        container=container,
        forced=bool(forced),
    )
    return BanRecord(
        ban=ban,
        ended_at=ended_at,
        ended_why=None if ended_why is None else UnbanReason(ended_why),
        blocked=None if packets is None else Counter(packets, octets),
    )


def failure(row: Sequence[Any]) -> Failure:
    """Read a row of `SELECT_FAILURE`; ValueError when it is none of ours."""
    jail, subject, at, container, text, fields = row
    return Failure(
        jail=jail,
        subject=_subject(subject),
        at=at,
        container=container,
        text=text,
        fields={} if fields is None else json.loads(fields),
    )


def named(row: Sequence[Any]) -> Named:
    """Read a row of `SELECT_NAMED`; ValueError when it is none of ours."""
    id_, jail, name, at, container, text, fields = row
    return Named(
        id=id_,
        jail=jail,
        name=name,
        at=at,
        container=container,
        text=text,
        fields={} if fields is None else json.loads(fields),
    )
