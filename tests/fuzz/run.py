"""
Runs the targets of this directory under atheris: `make fuzz TARGET=log RUNS=1000000`.

    python -m tests.fuzz.run [--runs N] [--seconds N] [TARGET...]

Without a target, all of them one after the other. Each runs in a process of its own, in
which dockerjail is instrumented, or the part that it is about. What makes one fail is
written to `.fuzz/`, and can be run again: `python -m tests.fuzz.run TARGET
.fuzz/TARGET-crash-...`. It becomes a regression case in the target's `SEEDS`. Nothing else is
kept.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parent.parent
FOUND = TOP / ".fuzz"
NOT_TARGETS = {"__init__", "material", "patience", "run"}
PARTS = {"filters": "dockerjail.jail", "lint": "dockerjail.lint"}
"""What of dockerjail is instrumented, where that is not all: it takes time to follow."""

TARGETS = tuple(sorted({path.stem for path in HERE.glob("*.py")} - NOT_TARGETS))


def main() -> int:
    """Run what was asked for; the result is 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("what", nargs="*", metavar="TARGET|FILE", help=", ".join(TARGETS))
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs for each target")
    parser.add_argument(
        "--seconds", type=int, default=0, help="for each target at most; 0: no limit"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked, flags = parser.parse_known_args()
    if asked.inside:
        return _inside(asked.what[0], flags)
    targets = [word for word in asked.what if word in TARGETS] or list(TARGETS)
    inputs = [word for word in asked.what if word not in TARGETS]
    if unknown := [word for word in inputs if not Path(word).is_file()]:
        parser.error(f"{unknown[0]} is neither a target nor a file; targets: {', '.join(TARGETS)}")
    if inputs:
        for target in targets:
            for path in inputs:
                importlib.import_module(f"tests.fuzz.{target}").check(Path(path).read_bytes())
        return 0
    return max(_one(target, asked.runs, asked.seconds) for target in targets)


def _one(target: str, runs: int, seconds: int) -> int:
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dockerjail-fuzz-") as scratch:
        corpus = Path(scratch) / "corpus"
        corpus.mkdir()
        print(f"{target}: {runs} inputs", flush=True)
        began = time.monotonic()
        code = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.run", "--inside", target),
                *(f"-runs={runs}", f"-max_total_time={seconds}", "-timeout=20", "-len_control=0"),
                *("-rss_limit_mb=2048", f"-artifact_prefix={FOUND}/{target}-", str(corpus)),
            ],
            check=False,
            cwd=TOP,
            # each input of a target that reads the environment reads all of it
            env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        ).returncode
        took = time.monotonic() - began
        print(f"{target}: {'FAILED' if code else 'nothing found'} after {took:.0f} s", flush=True)
    return 1 if code else 0


def _inside(target: str, flags: list[str]) -> int:
    import atheris

    within = PARTS.get(target, "dockerjail")
    with atheris.instrument_imports(include=[within]):
        module = importlib.import_module(f"tests.fuzz.{target}")
    getattr(module, "prepare", bool)()
    *flags, corpus = flags
    for number, seed in enumerate(module.SEEDS):
        (Path(corpus) / str(number)).write_bytes(seed)
    if words := getattr(module, "WORDS", ()):
        dictionary = Path(f"{corpus}.words")
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words))
        flags.append(f"-dict={dictionary}")
    atheris.Setup(
        [target, f"-max_len={module.LONGEST}", "-print_final_stats=1", *flags, corpus],
        module.check,
    )
    atheris.Fuzz()
    return 0


def _escaped(word: str) -> str:
    """Write a word as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


if __name__ == "__main__":
    sys.exit(main())
