"""
Images for tests and the demo, made without a registry.

In: an Engine. Out: the name of an image that it now has. Python's base image is
a tree of the machine's own distribution; wheels come from the package index of
the machine's pip, by hash, and go into the build context: a build needs no network.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab import cache, tree
from tests.lab.engine import Engine

TOP = Path(__file__).parents[2]
FLASK = TOP / "deploy/examples/flask"

_NGINX = """\
daemon off;
error_log /dev/stderr;
events {}
http {
    access_log /dev/stdout combined;
    resolver 127.0.0.11;
    server {
        listen 80;
        listen [::]:80;
        location / {
            set $upstream http://web:8000;
            proxy_pass $upstream;
            proxy_set_header X-Forwarded-For $remote_addr;
        }
        location = /nginx { return 200 "nginx\\n"; }
    }
}
"""


def busybox(engine: Engine) -> str:
    """Return an image with busybox only: 2 MB, `sh` and friends."""
    name = "lab/busybox"
    if name not in engine.images:
        program = shutil.which("busybox")
        assert program, "busybox is not installed"
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch) / "root"
            for directory in ("bin", "tmp", "etc", "proc", "sys", "dev"):
                (root / directory).mkdir(parents=True)
            shutil.copy2(program, root / "bin/busybox")
            applets = subprocess.run(
                [program, "--list"], capture_output=True, text=True, check=True
            )
            for applet in set(applets.stdout.split()) - {"busybox"}:
                (root / "bin" / applet).symlink_to("busybox")
            (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
            archive = Path(scratch) / "root.tar"
            subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
            _import(engine, archive, name, "ENV PATH=/bin", 'CMD ["sh"]')
    return name


def python(engine: Engine) -> str:
    """Return a base image with python3, its venv, and nginx; stands in for `python:X-slim`."""
    name = "lab/python"
    if name not in engine.images:
        _import(engine, tree.base() / "base.tar", name, 'CMD ["python3"]')
    return name


def nginx(engine: Engine) -> str:
    """Return a reverse proxy: port 80, to the container called `web`, port 8000, on its network."""
    name = "lab/nginx"
    if name not in engine.images:
        with tempfile.TemporaryDirectory() as scratch:
            context = Path(scratch)
            (context / "nginx.conf").write_text(_NGINX)
            (context / "Dockerfile").write_text(
                f"FROM {python(engine)}\n"
                "COPY nginx.conf /etc/nginx/nginx.conf\n"
                'STOPSIGNAL SIGQUIT\nCMD ["nginx"]\n'
            )
            engine.build(context, name)
        engine.images.add(name)
    return name


def flask(engine: Engine) -> str:
    """Return the example application of `deploy/examples/flask`, built by its own Dockerfile."""
    name = "flask-example"
    if name not in engine.images:
        with tempfile.TemporaryDirectory() as scratch:
            context = Path(scratch) / "context"
            shutil.copytree(FLASK, context)
            add_wheels(context, FLASK / "requirements.txt")
            engine.build(context, name, *offline(engine))
        engine.images.add(name)
    return name


def dockerjail(engine: Engine) -> str:
    """Return the image of dockerjail itself, built from the work tree."""
    name = "dockerjail"
    if name not in engine.images:
        with tempfile.TemporaryDirectory() as scratch:
            engine.build(context(Path(scratch) / "context"), name, *offline(engine))
        engine.images.add(name)
    return name


def context(to: Path) -> Path:
    """Copy the project to `to`, and add the wheels of an offline build."""
    hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "wheels")
    shutil.copytree(TOP, to, symlinks=True, ignore=hidden)
    shutil.copy2(TOP / ".dockerignore", to / ".dockerignore")
    locks = TOP / "requirements"
    add_wheels(to, locks / "run.txt", locks / "fast.txt", locks / "build.txt")
    return to


def offline(engine: Engine) -> list[str]:
    """Return the build arguments for a build without registry and package index."""
    return [
        *("--build-arg", f"BASE={python(engine)}"),
        *("--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/build/wheels"),
    ]


def add_wheels(to: Path, *locks: Path) -> None:
    """Put the wheels that `locks` name into `to/wheels`, for the Python of the base image."""
    (to / "wheels").mkdir()
    for lock in locks:
        for wheel in _wheels(lock).glob("*.whl"):
            shutil.copy2(wheel, to / "wheels" / wheel.name)


def _wheels(lock: Path) -> Path:
    target = json.loads((tree.base() / "python.json").read_text())

    def make(place: Path) -> None:
        glibc = int(target["glibc"].split(".")[1])
        platforms = [f"manylinux_2_{minor}_{target['machine']}" for minor in range(glibc, 4, -1)]
        command = [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
            *("--require-hashes", "--no-deps", "--only-binary", ":all:"),
            *("--python-version", target["python"], "--implementation", "cp"),
            *(f"--platform={platform}" for platform in platforms),
            *("--dest", str(place), "--requirement", str(lock)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"wheels of {lock} cannot be had:\n{done.stderr}")

    return cache.keep("wheels", f"{target} {lock.read_text()}", make)


def _import(engine: Engine, archive: Path, name: str, *changes: str) -> None:
    options = [option for change in changes for option in ("--change", change)]
    engine.docker("import", *options, "-", name, stdin=archive)
    engine.images.add(name)
