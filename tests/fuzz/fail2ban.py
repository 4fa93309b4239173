"""
A directory of fail2ban's files, in any state that an editor can leave it in.

A jail or a filter can be used, or is a `Mistake` in words: a line that a terminal can be shown.
Nothing else is raised, and nothing grows without end.
"""

import atexit
import functools
import math
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dockerjail.config.borrowed import Borrowed
from dockerjail.config.fail2ban.ini import parse
from dockerjail.config.flaw import flaw
from dockerjail.config.mistake import Mistake
from dockerjail.config.settings import Defaults
from dockerjail.jail.policy import JailPolicy
from dockerjail.model import Problem
from tests.fuzz.material import Material, seed
from tests.fuzz.patience import within

LONGEST: Final = 800

_FILES: Final = ("jail.local", "filter.d/x.conf", "action.d/y.conf", "filter.d/x.local")
_BASE: Final[JailPolicy] = Defaults().policy()

WORDS: Final = (
    *("[DEFAULT]", "[x]", "[y]", "[Definition]", "[Init]", "[INCLUDES]", "[x?family=inet6]"),
    *(
        "before = x.local",
        "after = ",
        "enabled = true",
        "filter = x",
        "filter = x[a=b]",
        "action = y",
    ),
    *("failregex = ^<HOST>$", "ignoreregex = ", "prefregex = ", "datepattern = ", "maxlines = 5"),
    *(
        "usedns = yes",
        "port = http",
        "protocol = all",
        "findtime = 1h",
        "bantime = -1",
        "maxretry = 2",
    ),
    *("ignoreip = ::1", "bantime.increment = true", "bantime.factor = 2", "dockerjail.prefix = "),
    *(
        "dockerjail.bantime = 1d",
        "%(known/failregex)s",
        "%(default/port)s",
        "%(__name__)s",
        "%(a)s",
    ),
    *(
        "<known/failregex>",
        "<Definition/a>",
        "<a>",
        "<<a>>",
        "\n ",
        "\n",
        "=",
        "%%",
        " ;",
        "# ",
        "[",
        "]",
    ),
    *("iptables -p <protocol> -j <blocktype>", "actionban = nft drop", "blocktype = REJECT"),
)

SEEDS: Final = (
    seed(
        "[x]\nfilter = x\nbantime.incr" + 400 * "\0" + " = 1\n",
        "[Definition]\nfailregex=<HOST>\n",
        "",
    ),
    seed(
        "[DEFAULT]\nmaxretry = 3\nfindtime=1h\nignoreip = 127.0.0.1/8 ::1\n[x]\nport = http,https\naction = y[a=b]\n",
        "[Definition]\nfailregex = ^no <HOST>$\n            ^never %(who)s\nwho = <ADDR>\n",
        "[Definition]\nactionban = iptables -p <protocol> -j <blocktype>\n[Init]\nprotocol = tcp\nblocktype = DROP\n",
    ),
    seed(
        "[x]\nfilter = x[mode=more, a='b']\nenabled = yes\nbantime.increment = true\n",
        "[INCLUDES]\nbefore = x.local\n[Definition]\nfailregex = <re-<mode>>\nre-more = ^a <HOST>\nmode = usual\n",
        "",
        "[Definition]\nre-usual = %(known/failregex)s\n",
    ),
    seed(
        "[x]\nfailregex = a ;b <HOST>\n [y]\nignoreregex: c\n# no\nmaxlines = 3\n", "[Definition\n"
    ),
    seed(
        "[a]\nport = %(x/port)s\n[x]\nport = 0:65535\nprotocol=udp\n[x?family=inet6]\nq=%%\n", "x"
    ),
    seed(
        "[DEFAULT]\na = %(b)s\nb = %(a)s\n[x]\nfilter = %(__name__)s\nbantime = %(a)s",
        "[Definition]\nfailregex=<a>\na=<a>",
    ),
    seed(
        "[x]\nfilter = x\n",
        "[Definition]\n_daemon = (?:x|y\n__prefix_line = %(_daemon)s\\[\\d+\\]: \nfailregex = ^no <HOST>\n"
        "prefregex = ^%(__prefix_line)s<F-CONTENT>.+</F-CONTENT>$\n",
    ),
    seed(
        "\ufeff[x]\r\nusedns = no\rdatepattern = {^LN-BEG}\nlogencoding",
        "[Definition]\nfailregex=<HOST>\nprefregex=^<F-CONTENT>.+</F-CONTENT>$",
    ),
)


@functools.cache
def _directory() -> Path:
    memory = Path("/dev/shm")
    made = tempfile.mkdtemp(prefix="dockerjail-fuzz-", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    for name in ("filter.d", "action.d"):
        (Path(made) / name).mkdir()
    return Path(made)


def check(data: bytes) -> None:
    """Write the files, and ask for everything in them."""
    directory = _directory()
    parts = Material(data).parts(len(_FILES))
    for name, part in zip(_FILES, parts, strict=True):
        _put(directory / name, part if part or name == _FILES[0] else None)
    # read also where no jail names it
    for section in parse(parts[2], _FILES[2]).sections.values():
        assert section.place
    with within(0.5):
        _everything(directory)


_there: dict[Path, bytes | None] = {}


def _put(path: Path, data: bytes | None) -> None:
    """Have a file say this, or not be there; most are as they were for the input before."""
    if path not in _there or _there[path] != data:
        _there[path] = data
        if data is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(data)


def _everything(directory: Path) -> None:
    found = Borrowed.open(directory)
    if found is None:
        return
    _told(found.problems)
    assert found.ignored is not None
    assert set(found.enabled) <= found.jails
    assert found.longest_findtime >= 0
    for name in sorted(found.jails)[:3]:
        found.stock(name)
        found.dormant(name, _BASE.growth or Defaults().dormant)
        for problems in found.remarks(name):
            _told(problems)
        try:
            policy = found.jail(name, _BASE)
        except Mistake as mistake:
            _told([mistake])
        else:
            _runs(policy)
            assert not found.disabled(name) or name not in found.enabled
    for reference in dict.fromkeys(("x", "x[mode=more]", *sorted(found.filters)[:2])):
        try:
            assert found.rule(reference).failregex
        except Mistake as mistake:
            _told([mistake])


def _runs(policy: JailPolicy) -> None:
    """A jail that is no mistake can be started as it is."""
    assert policy.recidive or flaw(policy.rule) is None
    assert policy.recidive or policy.rule.failregex
    assert policy.maxretry >= 1
    assert 0 < policy.findtime < math.inf
    assert policy.bantime is None or 0 < policy.bantime < math.inf
    assert policy.ports is None or all(0 < port.number < 65536 for port in policy.ports)


def _told(problems: Iterable[Problem | Mistake]) -> None:
    """What is wrong is said in a line that a terminal can be shown."""
    for each in problems:
        said = str(each)
        assert said.isprintable()
        assert 0 < len(said) < 1500
