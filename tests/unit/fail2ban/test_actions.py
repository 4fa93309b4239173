"""Promises of what a jail's actions close."""

from pathlib import Path

import pytest

from dockerjail.config.fail2ban.jails import Fail2banJail
from dockerjail.model import Port
from tests.unit.fail2ban.directory import STOCK, opened, refused


def jail(tmp_path: Path, lines: str, **files: str) -> Fail2banJail:
    own = {name.replace("__", ".d/").replace("_", "."): text for name, text in files.items()}
    return opened(tmp_path, STOCK, {"jail.local": f"[web]\n{lines}\n", **own}).jail("web")


def tcp(*numbers: int) -> tuple[Port, ...]:
    return tuple(Port(number) for number in numbers)


@pytest.mark.parametrize(
    ("lines", "ports"),
    [
        ("", tcp(80, 443)),
        ("port = 22", tcp(22)),
        ("port = 22 , ssh,80:82 8000-8001", tcp(22, 80, 81, 82, 8000, 8001)),
        ("port = ftp-data,imap2,ldaps,sip", tcp(20, 143, 636, 5060)),
        ("port = domain\nprotocol = udp", (Port(53, "udp"),)),
        ("port = 53\nprotocol = tcp,udp", (Port(53), Port(53, "udp"))),
        ("port = 53\nprotocol = all", (Port(53), Port(53, "udp"))),
        ("port = 53\nprotocol = tcp,icmp", tcp(53)),
        ("banaction = iptables-multiport[port=25]", tcp(80, 443)),
        ("action = iptables-multiport[port=25]", tcp(25)),
        ("action = iptables-multiport", tcp(22)),
        ("action = nftables[type=multiport, port=25]", tcp(25)),
        (
            "macro = %(default/action_)s\naction = %(macro)s[protocol=tcp]\n  %(macro)s[protocol=udp]",
            (*tcp(80, 443), Port(80, "udp"), Port(443, "udp")),
        ),
    ],
)
def test_ports_are_those_of_the_firewall_actions(
    tmp_path: Path, lines: str, ports: tuple[Port, ...]
) -> None:
    found = jail(tmp_path, lines)
    assert set(found.ports or ()) == set(ports)
    assert not found.everything
    assert not found.problems


@pytest.mark.parametrize(
    "lines",
    [
        "port = 0:65535",
        "port = 1:65535",
        "port = 22,0-65535",
        "banaction = %(banaction_allports)s",
        "action = iptables[type=allports, port=22]",
        "action = nftables-allports",
        "action = firewallcmd-ipset[actiontype=<allports>, port=22]",
        "action = iptables-multiport[port=22]\n  iptables-allports",
        "action = route",
        "action = hostsdeny[port=22]",
        "action = ufw[port=22]",
    ],
)
def test_a_ban_from_all_ports_is_a_ban_from_everything(tmp_path: Path, lines: str) -> None:
    found = jail(tmp_path, lines)
    assert (found.everything, found.ports, found.problems) == (True, None, ())


def test_an_action_whose_file_has_no_use_for_ports_keeps_out_from_everything(
    tmp_path: Path,
) -> None:
    own = "[Definition]\nactionban = /usr/sbin/csf -d <ip>"
    assert jail(tmp_path, "action = mine[port=22]", action__mine_conf=own).everything


@pytest.mark.parametrize(
    "command",
    [
        "iptables -I INPUT -s <ip> -p <protocol> --dport <port> -j DROP",
        "x=1; /usr/sbin/nft add element inet x y { <ip> } # <port>",
        "<tool> add x <ip> # <port>",
        "ip route add blackhole <ip> # <port>",
        "echo x | firewall-cmd --add-rule <port>",
    ],
)
def test_ones_own_action_that_runs_a_firewalls_command_counts(tmp_path: Path, command: str) -> None:
    own = f"[Definition]\nactionban = true\n  {command}\n[Init]\nport = 25\ntool = ipset\n[Init?family=inet6]\ntool = x"
    found = jail(tmp_path, "action = mine[port=26]", action__mine_conf=own)
    assert (found.ports, found.problems) == (tcp(26), ())


@pytest.mark.parametrize("command", ["mail root", "curl https://iptables.example/nft", "echo <ip>"])
def test_what_is_no_firewall_is_named_and_not_run(tmp_path: Path, command: str) -> None:
    own = f"[Definition]\nactionban = {command}"
    found = jail(tmp_path, "action = %(action_)s\n  mine[x=1]", action__mine_conf=own)
    (problem,) = found.problems
    assert problem.place == f"{tmp_path}/jail.local line 2, [web] action"
    assert problem.what == "not run here: mine"
    assert found.ports == tcp(80, 443)


def test_a_jail_that_only_reports_is_told_that_it_bans_all_the_same(tmp_path: Path) -> None:
    found = jail(tmp_path, "action = sendmail-whois\n  gone")
    assert [problem.what for problem in found.problems] == [
        "not run here: gone, sendmail-whois",
        "no action of this jail is a firewall's, and dockerjail bans all the same",
    ]
    assert found.ports == tcp(80, 443)


def test_without_any_action_the_jails_own_port_counts(tmp_path: Path) -> None:
    found = jail(tmp_path, "action =\nport = 81")
    assert (found.ports, found.problems) == (tcp(81), ())


@pytest.mark.parametrize(
    ("lines", "reject"),
    [
        ("", None),
        ("banaction = iptables-multiport[blocktype=DROP]", False),
        ("banaction = iptables-multiport[blocktype='REJECT --reject-with icmp-x']", True),
        ("banaction = nftables-multiport[blocktype=reject]", True),
        ("banaction = nftables-multiport[blocktype=drop]", False),
    ],
)
def test_how_a_packet_is_blocked_is_what_somebody_chose_and_nothing_that_merely_came_with_it(
    tmp_path: Path, lines: str, reject: bool | None
) -> None:
    assert jail(tmp_path, lines).reject is reject


def test_a_reject_in_ones_own_local_file_is_a_wish(tmp_path: Path) -> None:
    local = "[Init]\nblocktype = REJECT"
    assert jail(tmp_path, "", **{"action__iptables-multiport_local": local}).reject


def test_a_jail_whose_bans_let_in_is_refused(tmp_path: Path) -> None:
    own = "[web]\naction = %(action_)s[blocktype=RETURN, returntype=DROP]"
    problem = refused(opened(tmp_path, STOCK, {"jail.local": own}), "web")
    assert "let in instead of keeping out" in problem.what


@pytest.mark.parametrize(
    ("lines", "line", "text"),
    [
        ("port = nosuch", 2, "'nosuch' is no port name known here"),
        ("port = 0", 2, "a port is a number from 1 to 65535"),
        ("port = 70000", 2, "a port is a number from 1 to 65535"),
        ("port = 82:80", 2, "'82:80' ends before it begins; write 80-82"),
        ("port = 53/udp", 2, "write the port alone, and protocol = udp"),
        ("port = 53\nprotocol = upd", 2, "protocol 'upd' is none of"),
        ("action = iptables[port=1", 2, "write ] at its end"),
        (
            "action = %(banactoin)s",
            2,
            "%(banactoin)s is defined nowhere; write %(banaction)s",
        ),
    ],
)
def test_a_port_that_cannot_be_meant_is_refused(
    tmp_path: Path, lines: str, line: int, text: str
) -> None:
    problem = refused(opened(tmp_path, STOCK, {"jail.local": f"[web]\n{lines}\n"}), "web")
    assert problem.place.startswith(f"{tmp_path}/jail.local line {line}, [web] ")
    assert text in str(problem)


def test_more_ports_than_a_set_should_hold_are_everything_and_said(tmp_path: Path) -> None:
    for lines in ("port = 10000:20000", "port = 10000:20000\naction ="):
        found = jail(tmp_path, lines)
        assert found.everything
        assert found.problems[0].what.startswith("10001 ports are more than 256")
