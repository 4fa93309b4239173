"""What searches the logs is made beside the line, and told once."""

import asyncio
import logging

import pytest

from dockerjail.config.settings import MatchingSettings, Search
from dockerjail.jail import sieves
from dockerjail.jail.filter import Filter
from dockerjail.jail.hyperscan import Hyperscan, Unavailable
from dockerjail.jail.rule import Rule
from dockerjail.jail.sieves import SAMPLE
from dockerjail.service.matching import Matching
from tests.unit.engines import needs_native

LOG = b"2026-11-22T10:52:40.409746684Z nothing to see here\n" * (SAMPLE // 20)
FILTERS = [Filter(Rule(failregex=("failed from <HOST>",)))]


async def searched(matching: Matching) -> None:
    """Run until the engines of a log are made."""
    sifter = matching.sieves.sifter(FILTERS, ["login@web"])
    before = sifter._sieve.engine
    running = asyncio.ensure_future(matching.run())
    sifter.candidates(LOG)
    async with asyncio.timeout(30):
        while sifter._sieve.engine is before:  # noqa: ASYNC110 - it says so to nobody but the log
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])


@needs_native
async def test_engines_are_made_while_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    matching = Matching(MatchingSettings())
    await searched(matching)
    assert matching.told()["engine"].startswith("hyperscan ")
    assert [r.message for r in caplog.records] == [
        f"logs are searched by {matching.told()['engine']}"
    ]


async def test_whoever_wants_no_native_code_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> Hyperscan:
        raise AssertionError("loaded")

    monkeypatch.setattr(sieves, "Hyperscan", never)
    matching = Matching(MatchingSettings(engine=Search.PYTHON))
    await searched(matching)
    assert matching.told() == {
        "engine": "python",
        "why": "native engines are turned off",
        "audited": 0,
        "overlooked": 0,
    }


async def test_a_missing_library_is_one_line_in_the_log_and_no_problem(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> Hyperscan:
        raise Unavailable("hyperscan is not installed; pip install dockerjail[fast]")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sieves, "Hyperscan", missing)
    matching = Matching(MatchingSettings())
    await searched(matching)
    await searched(matching)
    (record,) = caplog.records
    assert record.message == (
        "logs are searched by python (hyperscan is not installed; pip install dockerjail[fast])"
    )
    assert matching.problems() == []


@needs_native
async def test_an_engine_that_is_wrong_is_told_of_once_and_stays_in_status(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sieves, "flaw", lambda _: "found nothing where 7:1 is right")
    matching = Matching(MatchingSettings())
    await searched(matching)
    matching.tell()
    errors = [r.message for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "fails its test: found nothing where 7:1 is right" in errors[0]
    (problem,) = matching.problems()
    assert problem.place == "matching"
    assert matching.told()["engine"] == "python"
