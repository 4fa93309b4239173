"""
A container's labels, as an image's author writes them.

Nothing raises. Each label leads to jails that can run and keep to the container's own ports,
or to a problem in a line that a terminal can be shown.
"""

import functools
from typing import Final

from dockerjail.config.policies import policies
from dockerjail.config.settings import Settings, load
from dockerjail.jail.policy import Origin, ScopeKind
from dockerjail.model import Container, Port
from tests.fuzz.material import Material
from tests.fuzz.patience import within

LONGEST: Final = 600

_POLICIES: Final = ("define", "tune", "select", "off")
_DEFINE: Final = b"\0"

SEEDS: Final = (
    b"jail.x.failregex=^login failed from <HOST>$\njail.x.maxretry=3\njail.x.bantime=1d" + _DEFINE,
    b"jails=sshd, nginx-http-auth\njail.sshd.findtime=2h30m\njail.sshd.ports=22,2222/tcp,51820/udp"
    + _DEFINE,
    b"jail.x.filter=sshd[mode=aggressive]\njail.x.scope=host\nformat=json" + _DEFINE,
    b"jails=sshd\njail.sshd.scope=host\njail.sshd.ports=all\njail.recidive.scope=host" + _DEFINE,
    b"jail.x.where=event=login_failed, status=401|403\njail.x.address=ip xff\njail.x.user=u"
    + _DEFINE,
    b"jail.x.failregex.1=a <ADDR>\njail.x.failregex.2=b <ADDR>\njail.x.ignoreregex=c" + _DEFINE,
    b"jail.a.b.bantime.increment=true\njail.a.b.bantime.formula=ban.Time*2**ban.Count\njail.a.b.failregex=<HOST>"
    + _DEFINE,
    b"jail.x.aggregate=5 in 1h\njail.x.failregex=<HOST>\njail.x.ipv6_prefix=56\njail.x.mode=observe"
    + _DEFINE,
    b"enable=maybe\nignoreip=0.0.0.0/0\ndocker.host=x" + _DEFINE,
    b"jail.x.datepattern=%Y\njail.x.failregex=(?<x\njail.x.maxlines=5\njail.x.usedns=warn"
    + _DEFINE,
)


@functools.cache
def _settings(policy: str) -> Settings:
    return load(
        None,
        {"DOCKERJAIL_DOCKER__LABELS": policy, "DOCKERJAIL_FAIL2BAN__ENABLED": "false"},
    )


def check(data: bytes) -> None:
    """Take each line of the text for one label, `KEY=VALUE`."""
    material = Material(data)
    settings = _settings(material.one_of(_POLICIES))
    given = dict(line.partition("=")[::2] for line in material.text().split("\n"))
    container = Container(
        id="c",
        name="c",
        service="c",
        labels={"dockerjail.enable": "true"} | {f"dockerjail.{key}": given[key] for key in given},
        published=frozenset({Port(80)}),
    )
    with within(0.2):
        chosen, problems = policies(container, settings)
        assert chosen or problems or settings.docker.labels == "off"
        for jail in chosen:
            assert jail.rule.failregex or jail.rule.address or jail.recidive
            assert jail.scope is ScopeKind.AUTO
            assert jail.origin is not Origin.DAEMON or jail.recidive
        for problem in problems:
            assert str(problem).isprintable()
            assert len(str(problem)) < 1500
