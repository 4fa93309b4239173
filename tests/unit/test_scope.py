"""From what a ban keeps out: the rule of README's table, one promise a test."""

import pytest

from dockerjail.ban.scope import resolve
from dockerjail.jail.policy import JailPolicy, Origin, ScopeKind
from dockerjail.model import Container, Port

HTTP, ALT, DNS = Port(8080), Port(8443), Port(53, "udp")


def policy(origin=Origin.LABEL, **options):
    return JailPolicy(name="flask", origin=origin, failregex=("x <HOST>",), **options)


def container(name, *, service=None, **options):
    return Container(id=f"id-{name}", name=name, service=service or name, **options)


WEB = container("web", published=frozenset({HTTP, DNS}))


def test_auto_is_what_the_service_publishes():
    scope = resolve(policy(), "web", [WEB, container("other", published=frozenset({ALT}))])
    assert scope.ports == (DNS, HTTP)
    assert "published by the service" in scope.why


def test_all_replicas_count():
    one = container("web-1", service="web", published=frozenset({HTTP}))
    two = container("web-2", service="web", published=frozenset({ALT}))
    assert resolve(policy(), "web", [one, two]).ports == (HTTP, ALT)


def test_a_stopped_replica_does_not():
    stopped = container("web-2", service="web", published=frozenset({ALT}), running=False)
    assert resolve(
        policy(), "web", [container("web-1", service="web", published=frozenset({HTTP})), stopped]
    ).ports == (HTTP,)


@pytest.mark.parametrize("containers", [[], [container("web", running=False)]])
def test_nothing_is_said_about_a_service_that_does_not_run(containers):
    assert resolve(policy(), "web", containers) is None


def test_behind_a_proxy_it_is_what_the_proxy_publishes():
    app = container("app", networks=frozenset({"net1"}))
    proxy = container("nginx", networks=frozenset({"net1"}), published=frozenset({HTTP}))
    stranger = container("db", networks=frozenset({"net2"}), published=frozenset({ALT}))
    scope = resolve(policy(), "app", [app, proxy, stranger])
    assert scope.ports == (HTTP,)
    assert "nginx" in scope.why


@pytest.mark.parametrize("origin", [Origin.DAEMON, Origin.SHIPPED])
def test_without_any_port_the_daemons_jail_bans_from_everything(origin):
    assert resolve(policy(origin), "app", [container("app")]).ports is None


def test_without_any_port_a_labels_jail_bans_from_nothing_and_says_so():
    scope = resolve(policy(), "app", [container("app")])
    assert scope.ports == ()
    assert scope.why.startswith("cannot ban: the service publishes no port")


def test_the_daemons_jail_may_name_any_ports():
    scope = resolve(policy(Origin.DAEMON, ports=(Port(22),)), "web", [WEB])
    assert scope.ports == (Port(22),)


def test_a_labels_jail_keeps_to_the_ports_of_its_service():
    scope = resolve(policy(ports=(HTTP, Port(22))), "web", [WEB])
    assert scope.ports == (HTTP,)
    assert "22/tcp left out" in scope.why


def test_a_labels_jail_that_names_only_others_ports_bans_from_nothing():
    scope = resolve(policy(ports=(Port(22),)), "web", [WEB])
    assert scope.ports == ()
    assert "22/tcp" in scope.why
    assert "53/udp, 8080/tcp" in scope.why


def test_the_whole_host_is_for_jails_that_the_daemon_knows():
    host = {"scope": ScopeKind.HOST}
    assert resolve(policy(Origin.DAEMON, **host), "web", [WEB]).ports is None
    assert resolve(policy(**host), "web", [WEB]).ports == (DNS, HTTP)


def test_on_the_host_network_it_is_the_exposed_ports():
    app = container("app", host_network=True, exposed=frozenset({HTTP}))
    assert resolve(policy(), "app", [app]).ports == (HTTP,)


def test_on_the_host_network_stated_ports_win():
    app = container("app", host_network=True, exposed=frozenset({HTTP}))
    assert resolve(policy(ports=(ALT,)), "app", [app]).ports == (ALT,)


def test_on_the_host_network_without_ports_a_label_gets_nothing():
    app = container("app", host_network=True)
    assert resolve(policy(), "app", [app]).ports == ()
    assert resolve(policy(Origin.DAEMON), "app", [app]).ports is None


def test_a_sidecar_has_the_ports_of_the_container_whose_network_it_uses():
    side = container("side", network_of="id-web")
    assert resolve(policy(), "side", [WEB, side]).ports == (DNS, HTTP)
