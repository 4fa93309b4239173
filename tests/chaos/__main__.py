"""
The long form: `make chaos ROUNDS=200 [SEED=7] [ENGINES=engine26]`.

In: how many rounds, from which seed on, on which Engines. Out: a line for each round, the
sums, and exit code 1 if any went wrong; then its seed, how to repeat it and where its
remains are. Each Engine plays its rounds beside the others'.
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos import oracle
from tests.chaos.round import Result, play
from tests.lab import images, tree
from tests.lab.engine import Engine
from tests.lab.podman import Podman

KINDS: dict[str, Callable[[], Engine]] = {
    "engine": lambda: Engine.claim("engine"),
    "engine26": lambda: Engine.claim("engine26", tree=tree.engine_26()),
    "podman": Podman.claim,
}


def main() -> int:
    """Play; return the exit code."""
    options = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    options.add_argument("--rounds", type=int, default=20, help="in all")
    options.add_argument("--seed", type=int, help="of the first round; the next has one more")
    options.add_argument("--engines", default="engine,engine26", help=", ".join(KINDS))
    asked = options.parse_args()
    kinds = asked.engines.split(",")
    if unknown := set(kinds) - KINDS.keys():
        options.error(f"there is no {', '.join(unknown)}; the Engines are {', '.join(KINDS)}")
    first = random.randrange(10**6) if asked.seed is None else asked.seed
    seeds = list(range(first, first + -(-asked.rounds // len(kinds))))
    place = Path(tempfile.mkdtemp(prefix="dockerjail-chaos-", dir="/var/tmp"))
    began = time.monotonic()
    results = asyncio.run(_all(kinds, seeds, place))
    _sum_up(results, time.monotonic() - began)
    failed = [(kind, result) for kind, result in results if result.faults]
    for kind, result in failed:
        print(f"\nFAILED: {result}")
        print(*(f"  {fault}" for fault in result.faults), sep="\n")
        print(f"  its remains: {result.place}")
        print(f"  again: make chaos ROUNDS=1 SEED={result.seed} ENGINES={kind}")
    if not failed:
        shutil.rmtree(place)
    return 1 if failed else 0


async def _all(kinds: list[str], seeds: list[int], place: Path) -> list[tuple[str, Result]]:
    results: list[tuple[str, Result]] = []
    async with asyncio.TaskGroup() as engines:
        for kind in kinds:
            engines.create_task(_rounds(kind, seeds, place, results))
    return results


async def _rounds(
    kind: str, seeds: list[int], place: Path, results: list[tuple[str, Result]]
) -> None:
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(await asyncio.to_thread(KINDS[kind]))
        await asyncio.to_thread(engine.start)
        await asyncio.to_thread(images.python, engine)
        for seed in seeds:
            mine = place / f"{kind}-{seed}"
            mine.mkdir()
            result = await play(engine, seed, mine)
            results.append((kind, result))
            print("FAIL" if result.faults else "ok  ", result, flush=True)
            if not result.faults:
                shutil.rmtree(mine)


def _sum_up(results: list[tuple[str, Result]], seconds: float) -> None:
    verdicts = [result.verdict for _, result in results]
    print(
        f"\n{len(results)} rounds in {seconds:.0f} s: "
        f"sent {sum(v.sent for v in verdicts)}, judged {sum(v.judged for v in verdicts)}, "
        f"lost {sum(len(v.lost) for v in verdicts)}, "
        f"gone without a word {sum(len(v.silent) for v in verdicts)}, "
        f"doubled {sum(len(v.doubled) for v in verdicts)}; "
        f"dropped by the Engine {sum(v.dropped for v in verdicts)}, "
        f"told as unread {sum(v.unread for v in verdicts)}; "
        f"{oracle.cases(sum((v.unseen for v in verdicts), Counter()))}; "
        f"bans {sum(v.bans_found for v in verdicts)} of {sum(v.bans_expected for v in verdicts)}; "
        f"rounds with faults {sum(bool(result.faults) for _, result in results)}"
    )


if __name__ == "__main__":
    sys.exit(main())
