"""
fail2ban itself, to compare with: unpacked at test time, never installed, never in this repository.

In: the machine's own apt. Out: where its modules, its configuration and its sample logs
are, and what its own readers make of a configuration directory.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import machine

_READERS = """
import json, logging, sys
sys.path.insert(0, sys.argv[1])
logging.disable(logging.CRITICAL)
from fail2ban.client.filterreader import FilterReader
from fail2ban.client.jailreader import JailReader
from fail2ban.client.jailsreader import JailsReader
from fail2ban.server.mytime import MyTime

def played(stream):
    # what the server would know after these commands
    said = {"addfailregex": [], "addignoreregex": [], "addignoreip": [], "actions": {}}
    for command in stream:
        words = list(command)
        if words[0] == "config-error":
            return {"error": words[1]}
        key, *rest = words[2:] if words[0] in ("set", "multi-set") else ("",)
        if key in ("addfailregex", "addignoreregex", "addignoreip"):
            for each in rest:
                said[key] += each if isinstance(each, list) else [each]
        elif key == "addaction":
            said["actions"][rest[0]] = {}
        elif key == "action":
            pairs = rest[1] if isinstance(rest[1], list) else [rest[1:3]]
            said["actions"][rest[0]].update(pairs)
        elif key in ("findtime", "bantime"):
            said[key] = MyTime.str2seconds(rest[0])
        elif key:
            said[key] = rest[0] if rest else None
    return said

etc = sys.argv[2]
shared = None
for line in sys.stdin:
    kind, name, options = json.loads(line)
    try:
        if kind == "jails":
            reader = JailsReader(basedir=etc, force_enable=True)
            reader.read()
            shared = reader.share_config
            answer = [each for each in reader.sections() if each not in ("INCLUDES", "DEFAULT")
                      and not each.startswith("KNOWN/")]
        elif kind == "jail":
            reader = JailReader(name, basedir=etc, force_enable=True, share_config=shared)
            reader.read()
            reader.getOptions()
            answer = played(reader.convert(allow_no_files=True))
        else:
            reader = FilterReader(name, name, dict(options), basedir=etc)
            if not reader.read():
                raise ValueError("no such filter")
            reader.applyAutoOptions("")
            reader.getOptions(None)
            answer = played(reader.convert())
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail2banPackage:
    """Where the parts of the distribution's package lie."""

    dist_packages: Path
    etc: Path
    logs: Path

    def ask(
        self, questions: Sequence[tuple[str, str, Mapping[str, str]]], *, etc: Path | None = None
    ) -> list[Any]:
        """
        Have fail2ban's own readers answer about a configuration directory.

        A question is `("jails", "", {})`, which has to come first, `("jail", NAME, {})` or
        `("filter", NAME, OPTIONS)`. Answers are what the server would be told, or `error`.
        """
        done = subprocess.run(
            [_python(), "-W", "ignore", "-c", _READERS, self.dist_packages, etc or self.etc],
            input="".join(json.dumps(question) + "\n" for question in questions),
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]


def _python() -> str:
    """Return the Python that the distribution's package was made for."""
    return shutil.which("python3", path="/usr/bin:/bin") or sys.executable


def available() -> bool:
    """Say whether this machine can fetch and unpack a package."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg"))


def package() -> Fail2banPackage:
    """Return the distribution's fail2ban, unpacked in the lab's cache."""
    root = machine.unpacked("fail2ban", "--extract")
    dist_packages = root / "usr/lib/python3/dist-packages"
    return Fail2banPackage(
        dist_packages=dist_packages,
        etc=root / "etc/fail2ban",
        logs=dist_packages / "fail2ban/tests/files/logs",
    )
