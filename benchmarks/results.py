"""
All benchmarks, one after the other, and what came of them: `python -m benchmarks.results`.

In: benchmarks, as programs (`make bench`), or with `--only-draw` what they left in
`benchmarks/results/`. Out: `RESULTS.md`, a table with what machine it was, and charts beside it.
A benchmark that cannot run here (no root, no apt) is named there with its reason.
"""

import argparse
import ast
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
KEPT: Final = HERE / "results"
LONGEST: Final = 3600.0
"""Seconds that one benchmark may take."""

FIRST: Final = ("bench_matching", "bench_crowdsec", "bench_growth")
ALONE: Final = frozenset({"bench_soak"})
"""Those that take an hour and have no row are left to themselves."""


def benchmarks() -> Mapping[str, str]:
    """Return the heading of each benchmark, in the order of the table: its docstring's first line."""
    names = [file.stem for file in sorted(HERE.glob("bench_*.py")) if file.stem not in ALONE]
    names.sort(key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    headings = {}
    for name in names:
        said = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or name
        headings[name] = said.splitlines()[0].removesuffix(".")
    return headings


def machine() -> Mapping[str, str]:
    """Describe what this runs on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "hyperscan": _version("hyperscan"),
    }


def circumstances(options: Sequence[str]) -> str:
    """Say when, of what and beside how much else a benchmark is run now."""
    changed = " and changes" if _git("status", "--short", "--untracked-files=no") else ""
    commit = _git("rev-parse", "--short=12", "HEAD")
    asked = f", {' '.join(options)}" if options else ""
    load = f"load {os.getloadavg()[0]:.1f} before it"
    return f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}{changed}, {load}{asked}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git(*command: str) -> str:
    done = subprocess.run(["git", *command], cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip() if not done.returncode else ""


def take(name: str, options: Sequence[str]) -> bool:
    """Run one benchmark, and keep its rows; say whether it met its bars."""
    file = KEPT / f"{name}.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", *options, "--json", str(file)]
    print(f"\n{' '.join(command[1:])}", flush=True)
    done = subprocess.run(
        command, cwd=HERE.parent, stderr=subprocess.PIPE, text=True, timeout=LONGEST
    )
    if done.returncode and not ("--check" in options and file.exists()):
        last = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        print(f"left out: {last}", flush=True)
        file.write_text(json.dumps({"left out": last}) + "\n")
    return not done.returncode


def written(known: Mapping[str, str], runs: Mapping[str, str], kept: Mapping[str, Any]) -> str:
    """Write the table; `known` is of the machine, `runs` of each benchmark."""
    text = [
        "# What was measured",
        "",
        "Ratios of sides that took turns in one run: the median of the rounds, the lowest and the",
        "highest. Absolute times are this machine's, which others used meanwhile. Made by `make bench`;",
        "what each row is, the docstring of its module says.",
        "",
        *(f"* {key}: {value}" for key, value in known.items()),
        "",
        "![ratios](results/ratios.svg)",
        "",
        "![growth](results/growth.svg)",
    ]
    for name, heading in benchmarks().items():
        rows = kept.get(name)
        if rows is None:
            continue
        text += ["", f"## {heading}", "", f"`python -m benchmarks.{name}`; {runs[name]}", ""]
        if isinstance(rows, Mapping):
            text.append(f"Left out on this machine: {rows['left out']}")
            continue
        text += ["| what | beside | result | spread | bar | |", "|---|---|---|---|---|---|"]
        for row in rows:
            met = {True: "met", False: "**not met**", None: ""}[row["met"]]
            spread = f"{number(row['low'])} to {number(row['high'])}"
            cells = (
                *(row["name"], row["against"], f"{number(row['value'])} {row['unit']}", spread),
                *(row["bar"] or "", met),
            )
            text.append(f"| {' | '.join(cells)} |")
        text += ["", *(f"* {row['name']}: {row['detail']}" for row in rows if row["detail"])]
    return "\n".join(text) + "\n"


def number(value: float) -> str:
    """Write a number with three digits that count."""
    return f"{value:,.0f}" if value == 0 or abs(value) >= 100 else f"{value:.3g}"


def drawn(kept: Mapping[str, Any]) -> None:
    """Draw the ratios with their bars, and how cost grows."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "dockerjail"  # the same picture has the same bytes
    from matplotlib import pyplot

    rows = [row for each in kept.values() if isinstance(each, list) for row in each]
    ratios = [row for row in rows if row["unit"] == "times as fast"]
    figure, axes = pyplot.subplots(figsize=(11, 1 + 0.28 * max(len(ratios), 1)))
    for place, row in enumerate(reversed(ratios)):
        colour = {True: "#2a7f4f", False: "#b5482f", None: "#557"}[row["met"]]
        axes.barh(place, row["value"], color=colour, height=0.7)
        axes.plot([row["low"], row["high"]], [place, place], color="black", linewidth=1)
        if row["bar"]:
            wanted = float(row["bar"].split()[1].replace(",", ""))
            axes.plot([wanted, wanted], [place - 0.45, place + 0.45], color="black", linewidth=2)
    axes.set_yticks(range(len(ratios)))
    axes.set_yticklabels([f"{r['name']} / {r['against']}" for r in reversed(ratios)], fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color="grey", linewidth=0.5)
    axes.set_xlabel("times as fast; the thick line is the bar, the thin one the spread")
    _save(figure, KEPT / "ratios.svg")
    growths = [row for row in rows if row["points"]]
    columns = 3
    lines = max(1, math.ceil(len(growths) / columns))
    figure, grid = pyplot.subplots(lines, columns, figsize=(11, 3 * lines), squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(growths):
            axes.axis("off")
            continue
        row = growths[place]
        xs, ys = zip(*row["points"], strict=True)
        axes.plot(xs, [y * 1e6 for y in ys], marker="o", color="#2a7f4f")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(row["of"], fontsize=8)
        axes.set_ylabel(f"µs a {row['piece']}", fontsize=8)
        axes.set_title(row["name"], fontsize=8)
    _save(figure, KEPT / "growth.svg")


def _save(figure: Any, to: Path) -> None:
    figure.tight_layout()
    figure.savefig(to, metadata={"Date": None})


def main() -> None:
    """Run what is asked for, then write and draw what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="BENCHMARK", help="default: all")
    parser.add_argument("--rounds", help="of each")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true", help="fail below a bar")
    parser.add_argument("--only-draw", action="store_true", help="out of what was kept")
    asked = parser.parse_args()
    known = benchmarks()
    names = asked.names or [*known]
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no benchmark {unknown[0]}; there are {', '.join(known)}")
    KEPT.mkdir(exist_ok=True)
    options = [
        *(["--rounds", asked.rounds] if asked.rounds else []),
        *(["--quick"] if asked.quick else []),
        *(["--check"] if asked.check else []),
    ]
    about = KEPT / "machine.json"
    told = json.loads(about.read_text()) if about.exists() else {"runs": {}}
    fine = True
    if not asked.only_draw:
        told["machine"] = machine()
        for name in names:
            told["runs"][name] = circumstances(options)
            fine = take(name, options) and fine
            about.write_text(json.dumps(told, indent=1) + "\n")
    kept = {
        name: json.loads(file.read_text())
        for name in known
        if (file := KEPT / f"{name}.json").exists()
    }
    (HERE / "RESULTS.md").write_text(written(told["machine"], told["runs"], kept))
    drawn(kept)
    if not fine:
        sys.exit(1)


if __name__ == "__main__":
    main()
