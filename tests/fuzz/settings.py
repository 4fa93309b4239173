"""
The daemon's file and its environment: any TOML, and what is none.

Settings come out of it, or a `ConfigError` whose lines can be printed.
"""

import atexit
import functools
import os
import tempfile
from pathlib import Path
from typing import Final

from dockerjail.config import settings
from dockerjail.config.filters import Shipped
from dockerjail.errors import ConfigError
from tests.fuzz.material import Material, seed
from tests.fuzz.patience import within

LONGEST: Final = 600

WORDS: Final = (
    *(
        "[docker]",
        "[defaults]",
        "[jails.x]",
        "[jails.x.bantime]",
        "[filters.y]",
        "[containers.'w*']",
    ),
    *("[budget]", "[store]", "[control]", "[firewall]", "[fail2ban]", "[log]", "[[jails]]", "= {}"),
    *(
        "filter = ",
        "failregex = ['^<HOST>']",
        "maxretry = ",
        "findtime = ",
        "bantime = ",
        "ports = ",
    ),
    *("ignoreip = ", "where = {a = 1}", "address = 'a.b'", "format = 'json'", "scope = 'host'"),
    *("= 0", "= -1", "= ''", "= true", "= [0]", "= ['x', 1]", "= 1e400", "= 1979-05-27", "= '1d'"),
    *(
        '"\\u001b"',
        "DOCKERJAIL_JAILS__X__MAXRETRY=",
        "DOCKERJAIL_STORE__KEEP=",
        "DOCKERJAIL_CONFIG=",
    ),
)

SEEDS: Final = (
    seed("[docker]\nhost = 'unix:///var/run/docker.sock'\nlabels = 'tune'\nlookback = '10m'\n"),
    seed(
        "[defaults]\nmaxretry = 3\nbantime = '1d'\n'bantime.increment' = true\nignoreip = ['10.0.0.0/8']\n"
    ),
    seed(
        "[jails.x]\nfilter = 'sshd'\nports = [22, '2222/tcp']\n[jails.x.bantime]\ntime = 600\nfactor = 2\n"
    ),
    seed(
        "[filters.y]\nfailregex = ['^a <HOST>', '(']\nwhere = {a = [1, true]}\n[jails.y]\nmaxretry = 0\n"
    ),
    seed(
        "[containers.'web*']\njails = ['sshd']\nformat = 'json'\n[budget]\nactive = 0\n",
        "DOCKERJAIL_LOG__LEVEL=debug",
    ),
    seed(
        "[store]\npath = '/x'\nkeep = '90d'\n[control]\nsocket = '/run/x.sock'\n",
        "DOCKER_HOST=tcp://[::1]:2375",
    ),
    seed(
        "docker = 1\n[[jails]]\nx = {}\n[firewall]\ntable = 'a b'\n",
        "DOCKERJAIL_JAILS__SSHD__MAXRETRY=x",
    ),
    seed(
        '[jails.recidive]\nfailregex = "\\d"\nenabled = false\nfindtime = 1e400\n', "DOCKERJAIL_X"
    ),
    # found by fuzzing: a variable's name is shown as it is
    seed("", "DOCKERJAIL_JAILS__\x1f_SSHD__MAXRERTRY=x"),
    # found: so was that of a table
    seed("[containers.'w\t']\nformat = 'x'\n[docker]\n'\t' = 1\n"),
    seed("'\t' = 1\n[jails.x]\n\"\\u001b\" = 1\n"),
)


def prepare() -> None:
    """Read what the package comes with only once: it takes longer than all the rest."""
    settings.Shipped = functools.cache(Shipped)  # type: ignore[assignment,misc]


@functools.cache
def _file() -> Path:
    memory = Path("/dev/shm")
    number, name = tempfile.mkstemp(
        prefix="dockerjail-fuzz-", suffix=".toml", dir=memory if memory.is_dir() else None
    )
    os.close(number)
    atexit.register(Path(name).unlink, missing_ok=True)
    return Path(name)


def check(data: bytes) -> None:
    """Load the file, with one variable beside it."""
    text, variable = Material(data).parts(2)
    name, _, value = variable.decode("utf-8", "replace").partition("=")
    path = _file()
    path.write_bytes(text)
    with within(0.5):
        try:
            found = settings.load(path, {"DOCKERJAIL_FAIL2BAN__ENABLED": "false", name: value})
        except ConfigError as error:
            assert all(line.isprintable() and line for line in str(error).split("\n"))
            return
        assert found.docker.host
        assert not set(found.withheld) & set(found.jails)
        assert all(str(problem).isprintable() for problem in found.problems)
