"""
Write the lock files: exact versions with the hashes of their wheels, no addresses.

    make lock               newest versions that pyproject.toml allows
    make lock LOCK=keep     only what pyproject.toml no longer agrees with

One file serves every supported Python on Linux. The resolver (uv) comes from
the package index into a throw-away environment; installing needs only pip:
`pip install --require-hashes -r requirements/dev.txt`.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

TOP = Path(__file__).parent.parent
HERE = TOP / "requirements"
FLASK = TOP / "deploy/examples/flask"
FUZZ = ["atheris>=3,<3.1"]  # later ones have no wheel for Python 3.11
PYTHON = "3.11"  # the oldest supported; the locks hold from there up


def main() -> None:
    """Write all lock files."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    run = project["project"]["dependencies"]
    fast = project["project"]["optional-dependencies"]["fast"]
    build = project["build-system"]["requires"]
    development = project["dependency-groups"]["dev"]
    charts = project["dependency-groups"]["bench"]
    flask = (FLASK / "requirements.in").read_text().split()
    upgrade = "keep" not in sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        venv.create(work / "venv", with_pip=True)
        pip = [work / "venv/bin/python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "uv"], check=True)  # noqa: S603
        lock(work, run, HERE / "run.txt", upgrade=upgrade)
        lock(work, fast, HERE / "fast.txt", HERE / "run.txt", upgrade=upgrade)
        lock(work, build, HERE / "build.txt", upgrade=upgrade)
        editable = "editables"  # hatchling asks for it when the project is installed in place
        everything = [*run, *fast, *build, editable, *development]
        fixed = (HERE / "run.txt", HERE / "fast.txt", HERE / "build.txt")
        lock(work, everything, HERE / "dev.txt", *fixed, upgrade=upgrade)
        lock(work, charts, HERE / "bench.txt", HERE / "dev.txt", upgrade=upgrade)
        lock(work, FUZZ, HERE / "fuzz.txt", upgrade=upgrade)
        lock(work, flask, FLASK / "requirements.txt", upgrade=upgrade)


def lock(work: Path, wanted: list[str], to: Path, *fixed: Path, upgrade: bool) -> None:
    """Resolve `wanted` within the versions in `fixed`, and write the file `to`."""
    source = work / "pyproject.toml"
    source.write_text(
        f'[project]\nname = "wanted"\nversion = "0"\nrequires-python = ">={PYTHON}"\n'
        f"dependencies = {json.dumps(wanted)}\n"
        "[tool.uv]\nenvironments = [\"sys_platform == 'linux'\"]\n"
    )
    command = [
        *(work / "venv/bin/uv", "pip", "compile", source, "--quiet"),
        *("--universal", "--python-version", PYTHON),
        *("--no-python-downloads", "--python", sys.executable, "--cache-dir", work / "cache"),
        *("--generate-hashes", "--no-annotate", "--custom-compile-command", "make lock"),
        *("--output-file", to),
    ]
    for file in fixed:
        command += ["--constraint", file]
    if upgrade:
        command.append("--upgrade")
    subprocess.run(command, check=True, cwd=work)  # noqa: S603


if __name__ == "__main__":
    main()
