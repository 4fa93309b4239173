"""The Engine's JSON about a container: what is read from it, and that nothing must be there."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.docker.inspect import (
    Network,
    attached,
    container,
    digest,
    network_owner,
    networks,
    readable,
    service,
)
from dockerjail.model import Container, Direct, Port

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
        addresses=frozenset(map(ip_address, ("172.18.0.5", "172.17.0.2", "fd00:1::5"))),
        log_driver="json-file",
        log_options={"max-size": "1m"},
        created_at=1795344759.5,
        started_at=pytest.approx(1795344760.409746684),
    )


def test_an_environment_is_not_kept():
    found = container(changed(Config={"Env": ["API_KEY=s3cret", "PATH=/bin"], "Cmd": ["s3cret"]}))
    assert "s3cret" not in repr(found)


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


def composed(project, part):
    return {"com.docker.compose.project": project, "com.docker.compose.service": part}


SHOP = composed("shop", "web")
STACK = {"com.docker.swarm.service.name": "stack_web"}
TASK = "2xvfq0exm5ubg1djugsi3hmkn"


@pytest.mark.parametrize(
    "name",
    [
        "shop-web-1",
        "shop_web_12",
        "shop_web_1_0a1b2c3d4e5f",
        "shop-web",
        "shop-web-run-0a1b2c3d4e5f",
        "shop_web_run_1",
        "0a1b2c3d4e5f_shop-web-1",
    ],
)
def test_replicas_and_successors_that_compose_names_share_a_service(name):
    assert service(SHOP, name) == "shop-web"


def test_compose_takes_dots_dashes_and_underscores_into_names():
    assert service(composed("my_shop", "web.api"), "my_shop-web.api-2") == "my_shop-web.api"
    assert service(composed("my_shop", "web.api"), "my_shop-webxapi-2") == "my_shop-webxapi-2"
    assert service(composed("0a1b2c3d4e5f", "web"), "0a1b2c3d4e5f-web-1") == "0a1b2c3d4e5f-web"


@pytest.mark.parametrize("replica", ["1", "p6nvzs1hlvzqzmgbofvmvgmtk"])
def test_tasks_that_swarm_names_share_a_service(replica):
    assert service(STACK, f"stack_web.{replica}.{TASK}") == "stack_web"


@pytest.mark.parametrize("labels", [{}, SHOP, STACK, SHOP | STACK, {**composed("shop", "")}])
@pytest.mark.parametrize(
    "name",
    [
        "evil",
        "dazzling_curie",
        "web",
        "web-1",
        "shop",
        "evil-shop-web-1",
        "shop-web-1.evil",
        "shop-webmail-1",
        "shop-web-admin",
        "shop-web-admin-1",
        "shop-web-1-evil",
        "shop-web-1-2-3",
        "shop-web-1\n",
        "stack_web",
        "stack-web.1." + TASK,
        "stack_web.1",
        "stack_web.1.2.3",
        "evil.stack_web.1." + TASK,
        "",
    ],
)
def test_labels_of_a_service_of_which_the_name_does_not_tell_are_an_images_own(labels, name):
    assert service(labels, name) == name


def test_an_image_under_one_orchestrator_gains_nothing_by_the_labels_of_the_other():
    swarmed = "stack_evil.1." + TASK
    assert service(SHOP | {"com.docker.swarm.service.name": "stack_evil"}, swarmed) == "stack_evil"
    assert service(composed("shop", "evil") | STACK, "shop-evil-1") == "shop-evil"


NAMES = st.text("ab.-_1(", min_size=1, max_size=6)


@given(NAMES, NAMES, NAMES)
def test_no_label_names_a_service_that_the_containers_name_does_not_begin_with(one, two, name):
    for labels in (composed(one, two), {"com.docker.swarm.service.name": one}):
        found = service(labels, name)
        assert name.replace("_", "-").startswith(found.replace("_", "-"))


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


LAN4, LAN6 = ip_address("192.0.2.2"), ip_address("2001:db8:77::2")
LAN = {
    "NetworkID": "a" * 64,
    "Gateway": "192.0.2.1",
    "IPAddress": "192.0.2.2",
    "IPPrefixLen": 24,
    "IPv6Gateway": "2001:db8:77::1",
    "GlobalIPv6Address": "2001:db8:77::2",
    "GlobalIPv6PrefixLen": 64,
}
BRIDGE = WEB["NetworkSettings"]["Networks"]["shop_default"]
KNOWN = {"a" * 64: Network("macvlan", "eth0"), "n1": Network("bridge")}


def at(*names, running=True, **changes):
    """What Docker says of a container on these networks that wishes to publish 80."""
    places = {"lan": LAN | changes, "shop_default": BRIDGE}
    return changed(
        State={"Running": running},
        HostConfig={"PortBindings": {"8000/tcp": [{"HostIp": "", "HostPort": "80"}]}},
        NetworkSettings={"Ports": {}, "Networks": {name: places[name] for name in names}},
    )


def test_on_macvlan_clients_reach_the_containers_own_addresses():
    found = container(at("lan"), networks=KNOWN)
    assert found.direct == {Direct("eth0", LAN4), Direct("eth0", LAN6)}
    assert found.addresses == {LAN4, LAN6}


def test_the_subnet_of_a_macvlan_network_is_the_clients_but_its_gateway_a_gateway():
    found = container(at("lan"), networks=KNOWN)
    assert found.subnets == frozenset()
    assert found.networks == frozenset()
    assert found.gateways == {ip_address("192.0.2.1"), ip_address("2001:db8:77::1")}


def test_a_prefix_that_is_no_number_changes_nobody_elses_networks():
    nonsense = {"NetworkID": "n1", "IPAddress": "192.0.2.1", "IPPrefixLen": True}
    found = container(changed(NetworkSettings={"Networks": {"shop_default": nonsense}}))
    assert found.subnets == frozenset()
    assert str(ip_network((0, 1))) == "0.0.0.0/1"


def test_each_network_counts_as_what_it_is():
    found = container(at("lan", "shop_default"), networks=KNOWN)
    assert {direct.address for direct in found.direct} == {LAN4, LAN6}
    assert found.networks == {"n1"}
    assert ip_network("172.18.0.0/16") in found.subnets
    assert ip_address("172.18.0.5") in found.addresses


def test_a_network_of_which_nothing_is_told_is_taken_for_a_bridge():
    found = container(at("lan"))
    assert found.direct == frozenset()
    assert ip_network("192.0.2.0/24") in found.subnets
    assert found.networks == {"a" * 64}


@pytest.mark.parametrize("running", [True, False])
def test_macvlan_publishes_nothing_whatever_is_wished(running):
    assert container(at("lan", running=running), networks=KNOWN).published == frozenset()


def test_what_does_not_run_publishes_what_it_will_on_its_bridge():
    data = at("lan", "shop_default", running=False)
    assert container(data, networks=KNOWN).published == {Port(80)}


def test_what_runs_publishes_only_what_came_true():
    assert container(at("shop_default")).published == frozenset()


def test_a_stopped_containers_fixed_address_is_its_own():
    """Others have given theirs back."""
    given_back = {"IPAddress": "", "GlobalIPv6Address": ""}
    assert container(at("lan", running=False, **given_back), networks=KNOWN).direct == frozenset()
    fixed = {"IPAMConfig": {"IPv4Address": "192.0.2.2"}} | given_back
    found = container(at("lan", running=False, **fixed), networks=KNOWN)
    assert found.direct == {Direct("eth0", LAN4)}


def test_a_sidecar_is_reached_where_its_owner_is():
    sidecar = changed(
        HostConfig={"NetworkMode": "container:owner"},
        NetworkSettings={"Ports": {}, "Networks": {}},
    )
    found = container(sidecar, owner=at("lan"), networks=KNOWN)
    assert found.direct == container(at("lan"), networks=KNOWN).direct
    assert found.addresses == {LAN4, LAN6}


def test_networks_that_every_engine_has_need_no_question():
    assert attached(WEB) == {"n1"}
    assert attached({}) == frozenset()


LISTED = [
    {"Name": "bridge", "Id": "b" * 64, "Driver": "bridge", "Options": {}},
    {"Name": "lan", "Id": "a" * 64, "Driver": "macvlan", "Options": {"parent": "eth0.10"}},
    {"Name": "l3", "Id": "c" * 64, "Driver": "ipvlan", "Options": {"ipvlan_mode": "l3"}},
    {"Name": "inner", "Id": "d" * 64, "Driver": "macvlan", "Options": None},
    {"Name": "conf", "Id": "e" * 64, "Driver": "null", "Options": {"parent": "eth1"}},
    {
        "Name": "swarmed",
        "Id": "f" * 64,
        "Driver": "macvlan",
        "Scope": "swarm",
        "ConfigFrom": {"Network": "conf"},
    },
]


def test_the_device_of_a_network_is_its_parent():
    found = networks(LISTED, podman=False)
    assert found["a" * 64] == Network("macvlan", "eth0.10")
    assert found["b" * 64] == Network("bridge")
    assert not found["b" * 64].past_the_host


def test_docker_makes_a_link_for_a_network_without_a_parent():
    found = networks(LISTED, podman=False)
    assert found["d" * 64].device == "dm-dddddddddddd"
    assert found["c" * 64].device == "di-cccccccccccc"


def test_a_network_may_have_its_parent_from_a_configuration():
    assert networks(LISTED, podman=False)["f" * 64] == Network("macvlan", "eth1")


def test_podman_names_networks_and_tells_no_parent():
    found = networks([{"Name": "lan", "Id": "a" * 64, "Driver": "macvlan"}], podman=True)
    assert found["lan"] == Network("macvlan", "")


def test_podmans_own_api_tells_the_parent_of_a_network():
    listed = [
        {"Name": "lan", "Id": "a" * 64, "Driver": "macvlan", "Options": {}},
        {"Name": "bridge", "Id": "b" * 64, "Driver": "bridge", "Options": {}},
        {"name": "lan", "id": "a" * 64, "driver": "macvlan", "network_interface": "eth1"},
        {"name": "podman", "id": "b" * 64, "driver": "bridge", "network_interface": "podman0"},
    ]
    found = networks(listed, podman=True)
    assert found["a" * 64] == found["lan"] == Network("macvlan", "eth1")
    assert found["b" * 64] == Network("bridge", "")


def told_by_podman(driver, size="0B"):
    return {"HostConfig": {"LogConfig": {"Type": driver, "Config": None, "Size": size}}}


def test_podmans_own_api_tells_how_a_container_logs():
    compat = changed(HostConfig={"LogConfig": {"Type": "json-file", "Config": None}})
    found = container(compat, podman=told_by_podman("k8s-file"))
    assert (found.log_driver, found.log_options) == ("k8s-file", {})
    assert readable(found) == (True, None)
    assert container(compat).log_driver == "json-file"


def test_a_log_that_podman_throws_away_when_it_is_full_is_told():
    able, problem = readable(container(WEB, podman=told_by_podman("k8s-file", "10MB")))
    assert able
    assert "10MB" in problem.what
    assert "max-size" in problem.remedy


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
    assert isinstance(container({**WEB, part: broken}, networks=KNOWN), Container)
    assert networks([{**LISTED[1], part: broken, key: value}], podman=False)


ITEM = {
    "Id": "f" * 64,
    "Names": ["/web"],
    "State": "running",
    "Status": "Up 3 minutes",
    "Labels": {"a": "b"},
    "Ports": [{"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 81}],
    "NetworkSettings": {"Networks": {"net": {"NetworkID": "n1", "Gateway": "172.18.0.1"}}},
}


def test_a_digest_changes_when_more_is_known_of_a_network():
    known = {"n1": Network("macvlan", "eth0")}
    assert digest(ITEM, known) != digest(ITEM)
    assert digest(ITEM, known | {"n2": Network("bridge")}) == digest(ITEM, known)


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
    for told in ("mine", f"{name}-web-1"):
        assert service(composed(name, "web"), told) == told
    for told in ("mine", f"{name}.1.{TASK}"):
        assert service({"com.docker.swarm.service.name": name}, told) == told
