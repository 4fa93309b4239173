"""
Ask PyPI's advisories about everything that the lock files name.

    make audit

pip-audit comes from the package index into a throw-away environment; nothing that is locked is
installed or run. Exit code 1 when a weakness is known, and when something could not be asked
about: an audit that did not happen is none.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TOP = Path(__file__).parent.parent
LOCKS = (
    *sorted((TOP / "requirements").glob("*.txt")),
    TOP / "deploy/examples/flask/requirements.txt",
)


def main() -> int:
    """Audit each lock file; return the exit code."""
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = Path(scratch) / "bin/python"
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "pip-audit"], check=True)  # noqa: S603
        for lock in LOCKS:
            name = lock.relative_to(TOP)
            sys.stdout.write(f"== {name}\n")
            sys.stdout.flush()
            # with --strict, what the service does not know is an error
            command = [python, "-m", "pip_audit", "--strict", "--disable-pip", "--require-hashes"]
            done = subprocess.run(  # noqa: S603
                [*command, "--progress-spinner", "off", "--requirement", lock], check=False
            )
            if done.returncode:
                failed.append(str(name))
    if failed:
        sys.stderr.write(
            f"not clean, or not audited: {', '.join(failed)}. A weakness: raise the bound in "
            "pyproject.toml, then `make lock`. An error: audit where PyPI's own service is reachable\n"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
