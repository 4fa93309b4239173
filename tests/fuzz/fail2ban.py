"""
A directory of fail2ban's files, in any state that an editor can leave it in.

A jail or a filter can be used, or is a `Mistake` in words. Nothing else is raised, and
nothing grows without end.
"""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Final

from dockerjail.config.borrowed import Borrowed
from dockerjail.config.fail2ban.ini import parse
from dockerjail.config.mistake import Mistake
from dockerjail.config.settings import Defaults
from dockerjail.jail.policy import JailPolicy
from tests.fuzz.material import Material, seed
from tests.fuzz.patience import within

LONGEST: Final = 800

_FILES: Final = ("jail.local", "filter.d/x.conf", "action.d/y.conf", "filter.d/x.local")
_BASE: Final[JailPolicy] = Defaults().policy()

SEEDS: Final = (
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
    material = Material(data)
    for name, part in zip(_FILES, material.parts(len(_FILES)), strict=True):
        path = directory / name
        if part or name == _FILES[0]:
            path.write_bytes(part)
        else:
            path.unlink(missing_ok=True)
        for section in parse(part, name).sections.values():
            assert section.place
    with within(0.5):
        _everything(directory)


def _everything(directory: Path) -> None:
    found = Borrowed.open(directory)
    if found is None:
        return
    assert all(str(problem) for problem in found.problems)
    assert found.ignored is not None
    assert set(found.enabled) <= found.jails
    assert found.longest_findtime >= 0
    for name in sorted(found.jails)[:4]:
        found.stock(name)
        found.disabled(name)
        for problems in found.remarks(name):
            assert all(str(problem) for problem in problems)
        found.dormant(name, _BASE.growth or Defaults().dormant)
        try:
            policy = found.jail(name, _BASE)
        except Mistake as mistake:
            assert str(mistake)
        else:
            assert policy.recidive or policy.rule.failregex
            assert policy.maxretry >= 1
            assert policy.findtime > 0
    for reference in ("x", "x[mode=more]", "nobody", *sorted(found.filters)[:2]):
        try:
            assert found.rule(reference).failregex
        except Mistake as mistake:
            assert str(mistake)
