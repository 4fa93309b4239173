"""
Things that are expensive to make, made once and kept on disk.

In: a name, what the thing depends on, and a function that makes it in an empty
directory. Out: the directory where it stands complete. A crash while making
leaves nothing that could be taken for the thing; two runs at once make it once.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_KEEP_UNUSED = 30 * 86400


def home() -> Path:
    """Return the directory of all kept things: `LAB_CACHE`, else the user's cache."""
    if named := os.environ.get("LAB_CACHE"):
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "dockerjail-lab"


def keep(name: str, depends_on: str, make: Callable[[Path], None]) -> Path:
    """
    Return the directory of the thing called `name`, made by `make` when it is missing.

    `depends_on` is everything that would make it another thing: versions,
    suites, contents of input files. Others that want the same wait meanwhile.
    """
    place = _place(name, depends_on)
    root = place.parent
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f".{place.name}.lock"):
        if not place.is_dir():
            for abandoned in root.glob(f".{place.name}.part-*"):
                remove(abandoned)
            part = Path(tempfile.mkdtemp(prefix=f".{place.name}.part-", dir=root))
            part.chmod(0o755)
            make(part)
            part.rename(place)
        os.utime(place)
    return place


def kept(name: str, depends_on: str) -> bool:
    """Say whether the thing is there, so that `keep` will return at once."""
    return _place(name, depends_on).is_dir()


def _place(name: str, depends_on: str) -> Path:
    digest = hashlib.sha256(depends_on.encode()).hexdigest()[:12]
    return home() / f"{name}-{digest}"


def sweep() -> None:
    """Remove what no run has asked for in a month."""
    for place in home().glob("[!.]*-????????????"):
        with locked(place.with_name(f".{place.name}.lock")):
            if time.time() - place.stat().st_mtime > _KEEP_UNUSED:
                remove(place)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for it; the kernel lets go of it when the process dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Delete a directory tree, after everything mounted below it."""
    with Path("/proc/self/mountinfo").open() as mounts:
        points = [line.split()[4].encode().decode("unicode_escape") for line in mounts]
    for point in sorted((p for p in points if p.startswith(f"{path}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
    if path.exists():
        shutil.rmtree(path)


if __name__ == "__main__":
    remove(home())
