"""A fail2ban directory with the files of one test."""

from collections.abc import Mapping
from pathlib import Path

from dockerjail.config.fail2ban.mistakes import Fail2banError
from dockerjail.config.fail2ban.read import Fail2ban
from dockerjail.model import Problem

STOCK = {
    "jail.conf": """
[DEFAULT]
enabled = false
mode = normal
filter = %(__name__)s[mode=%(mode)s]
maxretry = 5
findtime = 10m
bantime = 10m
usedns = warn
port = 0:65535
protocol = tcp
chain = <known/chain>
banaction = iptables-multiport
banaction_allports = iptables-allports
action_ = %(banaction)s[port="%(port)s", protocol="%(protocol)s", chain="%(chain)s"]
action_mw = %(action_)s
            sendmail-whois[name=%(__name__)s, dest="root@localhost"]
action = %(action_)s

[web]
port = http,https
logpath = /var/log/web.log

[shell]
port = ssh
""",
    "filter.d/web.conf": "[Definition]\nfailregex = ^<mode> <HOST>\n            ^<re-<mode>>\nmode = normal\nre-normal = usual <HOST>\nre-more = more <HOST>\n",
    "filter.d/shell.conf": r"""
[INCLUDES]
before = common.conf
[Definition]
_daemon = shelld(?:-\w+)?
prefregex = ^%(__prefix_line)s<F-CONTENT>.+</F-CONTENT>$
failregex = ^Failed from <HOST>
""",
    "filter.d/common.conf": r"""
[DEFAULT]
logtype = file
_daemon = \S*
__prefix_line = <lt_<logtype>/__prefix_line>
[lt_file]
__prefix_line = (?:\S+ )?(?:<_daemon>(?:\[\d+\])?: )?
[lt_rfc5424]
__prefix_line = \S+ <_daemon> \d+ - -
""",
    "action.d/iptables.conf": """
[Definition]
type = oneport
actionban = iptables -I f2b-<name> 1 -s <ip> -j <blocktype>
rule = -p <protocol> --dport <port>
[Init]
port = ssh
protocol = tcp
blocktype = REJECT --reject-with icmp-port-unreachable
""",
    "action.d/iptables-multiport.conf": "[INCLUDES]\nbefore = iptables.conf\n[Definition]\ntype = multiport\n",
    "action.d/iptables-allports.conf": "[INCLUDES]\nbefore = iptables.conf\n[Definition]\ntype = allports\n",
    "action.d/sendmail-whois.conf": "[Definition]\nactionban = mail <dest>\n",
}
"""A small directory of the shape that fail2ban's own has."""


def write(directory: Path, *layers: Mapping[str, str | bytes]) -> Path:
    """Write the files of all layers; later ones replace earlier ones."""
    for files in layers:
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return directory


def opened(directory: Path, *layers: Mapping[str, str | bytes]) -> Fail2ban:
    found = Fail2ban.open(write(directory, *layers))
    assert found is not None
    return found


def refused(fail2ban: Fail2ban, jail: str) -> Problem:
    """Return what is wrong with a jail that cannot be used."""
    try:
        fail2ban.jail(jail)
    except Fail2banError as error:
        return error.problem
    raise AssertionError(f"[{jail}] is not refused")
