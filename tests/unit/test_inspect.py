"""The Engine's JSON about a container: what is read from it, and that nothing must be there."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.docker.inspect import container, digest, network_owner, readable, service
from dockerjail.model import Container, Port

WEB = {
    "Id": "f" * 64,
    "Name": "/shop-web-1",
    "Created": "2026-11-22T10:52:39.5Z",
    "State": {"Running": True, "StartedAt": "2026-11-22T10:52:40.409746684Z"},
    "Config": {
        "Image": "shop/web:3",
        "Tty": False,
        "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
        "ExposedPorts": {"9000/udp": {}},
    },
    "HostConfig": {
        "NetworkMode": "shop_default",
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": ""}]},
    },
    "NetworkSettings": {
        "Ports": {
            "80/tcp": [
                {"HostIp": "0.0.0.0", "HostPort": "32768"},
                {"HostIp": "::", "HostPort": "32769"},
            ],
            "443/udp": [{"HostIp": "", "HostPort": "8443"}],
            "81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8081"}],
            "7777/tcp": None,
        },
        "Networks": {
            "shop_default": {
                "NetworkID": "n1",
                "Gateway": "172.18.0.1",
                "IPAddress": "172.18.0.5",
                "IPPrefixLen": 16,
                "IPv6Gateway": "fd00:1::1",
                "GlobalIPv6Address": "fd00:1::5",
                "GlobalIPv6PrefixLen": 64,
            },
            "bridge": {
                "NetworkID": "n0",
                "Gateway": "172.17.0.1",
                "IPAddress": "172.17.0.2",
                "IPPrefixLen": 16,
                "IPv6Gateway": "",
                "GlobalIPv6Address": "",
                "GlobalIPv6PrefixLen": 0,
            },
        },
    },
}


def changed(**parts):
    """WEB with some of its parts replaced key by key."""
    return WEB | {
        name: {**WEB[name], **part} if isinstance(part, dict) else part
        for name, part in parts.items()
    }


def test_a_compose_container_is_read_whole():
    found = container(WEB)
    assert found == Container(
        id="f" * 64,
        name="shop-web-1",
        service="shop-web",
        image="shop/web:3",
        labels=WEB["Config"]["Labels"],
        running=True,
        published=frozenset({Port(32768), Port(32769), Port(8443, "udp")}),
        exposed=frozenset({Port(80), Port(443, "udp"), Port(81), Port(7777), Port(9000, "udp")}),
        networks=frozenset({"n1"}),
        gateways=frozenset(map(ip_address, ("172.18.0.1", "172.17.0.1", "fd00:1::1"))),
        subnets=frozenset(map(ip_network, ("172.18.0.0/16", "172.17.0.0/16", "fd00:1::/64"))),
        log_driver="json-file",
        log_options={"max-size": "1m"},
        created_at=1795344759.5,
        started_at=pytest.approx(1795344760.409746684),
    )


def test_a_port_bound_to_loopback_is_not_published_to_clients():
    assert Port(8081) not in container(WEB).published


def test_a_stopped_container_publishes_what_it_will_publish():
    stopped = changed(
        State={"Running": False},
        NetworkSettings={"Ports": {}},
        HostConfig={
            "PortBindings": {
                "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
                "90/tcp": [{"HostPort": "9000-9010"}],
                "91/tcp": [{"HostPort": ""}],
            }
        },
    )
    assert container(stopped).published == {Port(8080)}
    assert not container(stopped).running


def test_a_container_waiting_for_its_restart_does_not_run():
    assert not container(changed(State={"Running": True, "Restarting": True})).running


def test_a_paused_container_runs():
    assert container(changed(State={"Running": True, "Paused": True})).running


def test_the_hosts_network_publishes_nothing_of_its_own():
    host = changed(
        HostConfig={"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
        NetworkSettings={"Ports": {}, "Networks": {"host": {"NetworkID": "h"}}},
    )
    found = container(host)
    assert found.host_network
    assert found.published == frozenset()
    assert found.networks == frozenset()
    assert Port(9000, "udp") in found.exposed


def test_a_sidecar_has_the_ports_and_networks_of_the_container_it_sits_on():
    sidecar = changed(
        Name="/sidecar",
        HostConfig={"NetworkMode": f"container:{'f' * 64}", "PortBindings": None},
        NetworkSettings={"Ports": {}, "Networks": {}},
    )
    assert network_owner(sidecar) == "f" * 64
    assert network_owner(WEB) is None
    found = container(sidecar, owner=WEB)
    assert found.name == "sidecar"
    assert found.published == container(WEB).published
    assert found.networks == {"n1"}
    assert container(sidecar).published == frozenset()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}, "shop-web"),
        ({"com.docker.swarm.service.name": "stack_web"}, "stack_web"),
        ({"com.docker.compose.project": "shop"}, "web.1"),
        ({}, "web.1"),
    ],
)
def test_replicas_and_successors_share_a_service(labels, expected):
    assert service(labels, "web.1") == expected


def test_the_default_bridge_of_older_engines_stands_at_the_top_level():
    old = changed(
        NetworkSettings={
            "Networks": None,
            "Gateway": "10.88.0.1",
            "IPAddress": "10.88.0.4",
            "IPPrefixLen": 16,
        }
    )
    found = container(old)
    assert found.gateways == {ip_address("10.88.0.1")}
    assert found.subnets == {ip_network("10.88.0.0/16")}


def test_never_started_is_no_time():
    assert container(changed(State={"StartedAt": "0001-01-01T00:00:00Z"})).started_at == 0.0


def test_nothing_at_all_is_an_empty_container():
    assert container({}) == Container(id="", name="", service="", running=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("80/tcp", "x", "Type", "Config")), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.sampled_from(tuple(WEB)),
    st.sampled_from(("", *WEB["NetworkSettings"], *WEB["Config"])),
    JSON,
)
def test_nothing_that_an_engine_leaves_out_or_makes_up_is_an_error(part, key, value):
    whole = WEB[part]
    broken = {**whole, key: value} if isinstance(whole, dict) and key else value
    assert isinstance(container({**WEB, part: broken}), Container)


ITEM = {
    "Id": "f" * 64,
    "Names": ["/web"],
    "State": "running",
    "Status": "Up 3 minutes",
    "Labels": {"a": "b"},
    "Ports": [{"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 81}],
    "NetworkSettings": {"Networks": {"net": {"NetworkID": "n1", "Gateway": "172.18.0.1"}}},
}


def test_a_digest_stays_while_only_time_passes():
    later = ITEM | {"Status": "Up 4 minutes", "Ports": ITEM["Ports"][::-1]}
    assert digest(later) == digest(ITEM)


@pytest.mark.parametrize(
    "change",
    [
        {"State": "exited"},
        {"Names": ["/other"]},
        {"Labels": {}},
        {"Ports": []},
        {"NetworkSettings": {"Networks": {}}},
    ],
)
def test_a_digest_changes_when_a_look_is_worth_it(change):
    assert digest(ITEM | change) != digest(ITEM)


def logging_to(driver, **options):
    return Container(id="c", name="web", service="web", log_driver=driver, log_options=options)


@pytest.mark.parametrize("driver", ["json-file", "local", "journald"])
def test_drivers_that_keep_every_line_pass_in_silence(driver):
    assert readable(logging_to(driver)) == (True, None)


def test_a_container_that_logs_nowhere_is_refused_with_a_remedy():
    able, problem = readable(logging_to("none"))
    assert not able
    assert "logging driver is none" in problem.what
    assert "json-file" in problem.remedy


def test_a_driver_without_its_cache_is_refused():
    able, problem = readable(logging_to("syslog", **{"cache-disabled": "true"}))
    assert not able
    assert "cache-disabled" in problem.remedy


@pytest.mark.parametrize(
    "loses", [logging_to("fluentd"), logging_to("json-file", mode="non-blocking")]
)
def test_what_may_lose_lines_is_read_and_warned_about(loses):
    able, problem = readable(loses)
    assert able
    assert "lines may be missing" in problem.what
    assert problem.remedy


@pytest.mark.parametrize("key", ["9" * 5000 + "/tcp", "²/tcp", "-1/tcp", "65536/tcp", "0"])
def test_a_port_that_is_none_is_passed_over(key):
    data = {"Config": {"ExposedPorts": {key: {}}}}
    assert container(data).exposed == frozenset()


@pytest.mark.parametrize("name", ["shop\nweb", "x" * 300, "", "shop web", "-shop"])
def test_a_label_that_no_orchestrator_writes_names_no_service(name):
    labels = {"com.docker.compose.project": name, "com.docker.compose.service": "web"}
    assert service(labels, "mine") == "mine"
    assert service({"com.docker.swarm.service.name": name}, "mine") == "mine"
