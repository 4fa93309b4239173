"""What an attacker writes must not reach the operator's terminal as it is."""

import io
import json
import logging
from collections.abc import Callable
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dockerjail.cli import allow, ban, bans, show, status, unban
from dockerjail.config.mistake import Mistake
from dockerjail.escape import plain
from dockerjail.service.journal import BURST, KINDS, PER_SECOND, Flood, Journal

EVIL = "\x1b[2J\x1b]0;owned\x07\r\n\x08\x9b31m\u202eevil\u2066\ufeff\ud800[bold]/[link=x]"


def harmless(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_escaped_is_one_printable_line(text: str) -> None:
    assert plain(text).isprintable()
    assert plain(text) == text or not text.isprintable()


@given(st.text(st.characters(exclude_categories=())))
def test_a_mistake_is_fit_for_a_terminal(text: str) -> None:
    assert str(Mistake(text, text)).isprintable()


def poisoned(value: Any) -> Any:
    """Put hostile text in place of all texts but those that choose a branch."""
    if isinstance(value, dict):
        return {key: poisoned(each) for key, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each) for each in value]
    return EVIL if value == "?" else value


SCOPE = {"ports": ["?"], "addresses": ["?"], "why": "?"}
BAN = {
    "address": "?",
    "jail": "?",
    "at": 0.0,
    "left": None,
    "scope": SCOPE,
    "blocktype": "?",
    "failures": 3,
    "packets": None,
    "mode": "?",
    "effective": False,
    "forced": True,
    "reason": "?",
}
JAIL = {
    "name": "?",
    "maxretry": 5,
    "findtime": 600.0,
    "bantime": None,
    "bantime_grows": False,
    "defined_by": "?",
    "failregex": ["?"],
    "looks_for": ["?"],
    "ipv4_prefix": 32,
    "ipv6_prefix": 64,
    "aggregate": None,
    "scope": SCOPE,
    "blocktype": "?",
    "failures": 1,
    "failing": 1,
    "last_failure_at": None,
    "bans": 1,
    "banned": 1,
    "observed": 0,
    "packets": 0,
    "bytes": 0,
    "mode": "?",
    "verify": "?",
    "unverified": 0,
    "overdue": 3,
    "unjudged": 2,
    "suspended": 59.4,
}
CONTAINER = {
    "name": "?",
    "state": "?",
    "over_budget": False,
    "gaps": 0,
    "lag": None,
    "lines": 0,
    "last_line_at": None,
    "jails": ["?"],
}
KEPT = {"stored": False, "store_error": "?"}
MADE = {"bans": [BAN], "in_sync": False, "error": "?", **KEPT}
STATUS = {
    "version": "?",
    "ok": False,
    "problems": [{"place": "?", "what": "?", "remedy": "?"}],
    "uptime": 1.0,
    "mode": "enforce",
    "engine": {"connected": True, "version": "?"},
    "kernel": {
        "in_sync": True,
        "healed": 0,
        "table": "?",
        "elements": 0,
        "packets": 0,
        "bytes": 0,
    },
    "banned": 1,
    "bans_total": 1,
    "observed": 0,
    "allowed": 0,
    "bans": [BAN],
    "containers": [CONTAINER],
    "jails": [JAIL],
}
ALLOWED = {"who": "?", "networks": ["?"], "at": 0.0, "left": None, "comment": "?"}


class Told:
    """A daemon whose every answer is hostile."""

    def status(self) -> Any:
        return poisoned(STATUS)

    def jail(self, name: str) -> Any:
        failure = {"jail": "?", "address": "?", "at": 0.0, "container": "?", "line": "?"}
        return poisoned({"jails": [JAIL], "bans": [BAN], "last_failures": [failure]})

    def bans(self, jail: str | None = None) -> Any:
        return poisoned({"bans": [BAN]})

    def ban(self, order: Any) -> Any:
        return poisoned(MADE)

    def unban(self, address: str, jail: str | None) -> Any:
        return poisoned(MADE)

    def allowed(self) -> Any:
        return poisoned({"allowed": [ALLOWED]})

    def allow(self, order: Any) -> Any:
        return poisoned({"allowed": ALLOWED, **MADE})

    def disallow(self, who: str) -> Any:
        return poisoned({"revoked": "?", **KEPT})


VERBS: dict[str, Callable[[Any, bool], object]] = {
    "status": lambda talk, json: status.overview(talk, json=json),
    "status JAIL": lambda talk, json: status.jail(talk, "x", json=json),
    "bans": lambda talk, json: bans.bans(talk, json=json),
    "ban": lambda talk, json: ban.ban(talk, {}, json=json),
    "unban": lambda talk, json: unban.unban(talk, "x", None, json=json),
    "allow": lambda talk, json: allow.show_all(talk, json=json),
    "allow WHO": lambda talk, json: allow.add(talk, {}, json=json),
    "allow --remove": lambda talk, json: allow.remove(talk, "x", json=json),
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_command_prints_what_a_terminal_obeys(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = io.StringIO()
    console = Console(file=seen, color_system=None, highlight=False, soft_wrap=True, width=4000)
    monkeypatch.setattr(show, "out", console)
    monkeypatch.setattr(show, "err", console)
    VERBS[verb](Told(), False)
    assert "evil" in seen.getvalue()
    assert harmless(seen.getvalue())
    assert "[bold]/[link=x]" in seen.getvalue()  # and nothing was taken for markup


@pytest.mark.parametrize(
    ("in_sync", "said"), [(True, "is kept out of"), (False, "is to be kept out of")]
)
def test_nobody_is_called_kept_out_whom_the_kernel_does_not_have(
    capsys: pytest.CaptureFixture[str], in_sync: bool, said: str
) -> None:
    class Ordered(Told):
        def ban(self, order: Any) -> Any:
            return MADE | {"in_sync": in_sync, "stored": True}

    assert ban.ban(cast(Any, Ordered()), {}, json=False) == (0 if in_sync else 4)
    out, err = capsys.readouterr()
    assert said in out
    assert ("the kernel may not do it yet" in err) is not in_sync


def test_a_suspended_jail_is_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    status.overview(cast(Any, Told()), json=False)
    assert "SUSPENDED" in capsys.readouterr().out
    status.jail(cast(Any, Told()), "x", json=False)
    said = capsys.readouterr().out
    assert "too slow for 3 lines; 2 more passed while the jail was suspended" in said
    assert "suspended for 59s more" in said


class Crowded(Told):
    """A daemon that bans fifty, ten of them only in name."""

    BANS: ClassVar = [{**BAN, "address": f"203.0.113.{n}"} for n in range(50)]

    def status(self) -> Any:
        return {**STATUS, "bans": self.BANS, "banned": 40, "observed": 10}

    def jail(self, name: str) -> Any:
        return {"jails": [], "bans": self.BANS, "last_failures": []}

    def bans(self, jail: str | None = None) -> Any:
        return {"bans": self.BANS}


def test_of_many_bans_a_screen_shows_the_newest_and_says_how_to_see_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    talk = cast(Any, Crowded())
    status.overview(talk, json=False)
    whole = capsys.readouterr().out
    status.jail(talk, "it's@web", json=False)
    of_one = capsys.readouterr().out
    for said, command in (
        (whole, "dockerjail bans\n"),
        (of_one, "dockerjail bans --jail 'it'\"'\"'s@web'\n"),
    ):
        assert said.count("203.0.113.") == status.SHOWN
        assert f"… and {50 - status.SHOWN} more: {command}" in said
    bans.bans(talk, "login", json=False)
    assert capsys.readouterr().out.count("203.0.113.") == 50
    status.jail(talk, "login", json=True)
    assert len(json.loads(capsys.readouterr().out)["bans"]) == 50


def test_json_loses_nothing_and_harms_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    status.overview(Told(), json=True)  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert harmless(printed)
    assert json.loads(printed) == poisoned(STATUS)


def journal() -> tuple[logging.Logger, Journal, io.StringIO]:
    stream = io.StringIO()
    handler = Journal(stream)
    logger = logging.getLogger(f"test.{id(stream)}")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    return logger, handler, stream


def test_a_line_of_the_log_is_one_line_and_harmless() -> None:
    logger, _, stream = journal()
    logger.warning("container %s: %s", EVIL, "x\n2026-11-22 [web] Ban 203.0.113.7")
    logger.error("%s", EVIL)
    assert stream.getvalue().count("\n") == 2
    assert harmless(stream.getvalue())


def test_a_traceback_stays_readable_and_harmless() -> None:
    logger, _, stream = journal()
    try:
        int(EVIL)
    except ValueError:
        logger.exception("it failed")
    assert stream.getvalue().count("\n") > 3
    assert harmless(stream.getvalue())


def test_a_flood_of_failures_is_cut_short_and_told_and_hides_no_ban() -> None:
    logger, handler, stream = journal()
    for number in range(5 * BURST):
        logger.info("%s", f"[web@shop] Found 203.0.113.{number % 256} - then")
        logger.info("[%s] %s already banned", "web@shop", number)
    for _ in range(2 * BURST):
        logger.warning("%s", "[web@shop] Ban 203.0.113.7 from 80/tcp")
        logger.error("it is grave")
    logger.info("%s", "[mail@shop] Found 203.0.113.7 - then")
    handler.close()
    written = stream.getvalue()
    assert BURST <= written.count("[web@shop] Found 2") < 2 * BURST
    assert written.count("[web@shop] Ban") == written.count("it is grave") == 2 * BURST
    assert written.count("[mail@shop] Found") == 1
    left = [line for line in written.splitlines() if "more such lines" in line]
    assert any("[web@shop] Found" in line for line in left)
    assert any("already banned" in line for line in left)


def test_after_a_flood_lines_are_written_again() -> None:
    flood = Flood()
    assert sum(flood.admit("Found", 0.0) for _ in range(2 * BURST)) == BURST
    assert flood.left_out(5.0) == []
    assert flood.left_out(10.0) == [("Found", BURST)]
    assert flood.left_out(20.0) == []
    assert sum(flood.admit("Found", 60.0) for _ in range(2 * BURST)) == min(BURST, 60 * PER_SECOND)
    assert not flood.admit("Found", -86400.0)  # the clock was set back


def test_the_kinds_that_are_told_apart_are_bounded() -> None:
    flood = Flood()
    for number in range(10 * KINDS):
        flood.admit(str(number), 0.0)
    assert len(flood) == KINDS
