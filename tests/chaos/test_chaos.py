"""The short form: some rounds in `make test`; `make chaos` is the long one."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.chaos.round import Result, play
from tests.lab import images
from tests.lab.engine import Engine

SEEDS = (1, 2, 7, 9)
"""Chosen so that each driver occurs, terminals, --rm, and Engines with and without live-restore."""


@pytest.mark.engine
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_line_counts_once_whichever_plug_is_pulled(engine, engine26, seed):
    place = Path(tempfile.mkdtemp(prefix="dockerjail-chaos-", dir="/var/tmp"))
    results: list[Result] = []

    async def on(each: Engine) -> None:
        await asyncio.to_thread(images.python, each)
        mine = place / each.slot
        mine.mkdir()
        results.append(await play(each, seed, mine))

    async with asyncio.TaskGroup() as rounds:
        for each in (engine, engine26):
            rounds.create_task(on(each))
    for result in results:
        print(result)
    faults = [f"{result}\n{result.place}: {fault}" for result in results for fault in result.faults]
    assert not faults, "\n".join(faults)
    assert all(result.verdict.judged for result in results)
    shutil.rmtree(place)
