"""From what a ban keeps out: the rule of README's table, one promise a test."""

from ipaddress import ip_address

import pytest

from dockerjail.ban.scope import elsewhere, resolve
from dockerjail.jail.policy import JailPolicy, Origin, ScopeKind
from dockerjail.jail.rule import Rule
from dockerjail.model import Container, Port

HTTP, ALT, DNS = Port(8080), Port(8443), Port(53, "udp")
UNTRUSTED = pytest.mark.parametrize("origin", [Origin.LABEL, Origin.SHIPPED])


def policy(origin=Origin.LABEL, **options):
    return JailPolicy(name="flask", origin=origin, rule=Rule(failregex=("x <HOST>",)), **options)


def container(name, *, service=None, **options):
    return Container(id=f"id-{name}", name=name, service=service or name, **options)


WEB = container("web", published=frozenset({HTTP, DNS}))


def scope_of(policy, *members, others=()):
    return resolve(policy, members, [*members, *others])


def test_auto_is_what_the_service_publishes():
    scope = scope_of(policy(), WEB, others=[container("other", published=frozenset({ALT}))])
    assert scope.ports == (DNS, HTTP)
    assert "published by the service" in scope.why


def test_all_replicas_count():
    one = container("web-1", published=frozenset({HTTP}))
    two = container("web-2", published=frozenset({ALT}))
    assert scope_of(policy(), one, two).ports == (HTTP, ALT)


def test_a_stopped_replica_does_not_while_another_runs():
    one = container("web-1", published=frozenset({HTTP}))
    stopped = container("web-2", published=frozenset({ALT}), running=False)
    assert scope_of(policy(), one, stopped).ports == (HTTP,)


def test_a_stopped_service_still_has_its_ports():
    stopped = container("web", published=frozenset({ALT}), running=False)
    assert scope_of(policy(), stopped).ports == (ALT,)


def test_nothing_is_said_about_a_jail_that_runs_nowhere():
    assert resolve(policy(), [], [WEB]) is None


def test_behind_a_proxy_it_is_what_the_proxy_publishes():
    app = container("app", networks=frozenset({"net1"}))
    proxy = container("nginx", networks=frozenset({"net1"}), published=frozenset({HTTP}))
    stranger = container("db", networks=frozenset({"net2"}), published=frozenset({ALT}))
    scope = scope_of(policy(), app, others=[proxy, stranger])
    assert scope.ports == (HTTP,)
    assert "nginx" in scope.why


@pytest.mark.parametrize("origin", Origin)
def test_a_proxy_that_restarts_does_not_widen_a_ban(origin):
    app = container("app", networks=frozenset({"net1"}))
    proxy = container(
        "nginx", networks=frozenset({"net1"}), published=frozenset({HTTP}), running=False
    )
    assert scope_of(policy(origin), app, others=[proxy]).ports == (HTTP,)


def test_without_any_port_the_daemons_jail_bans_from_everything():
    assert scope_of(policy(Origin.DAEMON), container("app")).ports is None


@UNTRUSTED
def test_without_any_port_a_labels_choice_bans_from_nothing_and_says_so(origin):
    scope = scope_of(policy(origin), container("app"))
    assert scope.ports == ()
    assert scope.why.startswith("cannot ban: the service publishes no port")


def test_the_daemons_jail_may_name_any_ports():
    assert scope_of(policy(Origin.DAEMON, ports=(Port(22),)), WEB).ports == (Port(22),)


@pytest.mark.parametrize("origin", Origin)
def test_ports_that_a_label_names_are_kept_to_those_of_its_service(origin):
    scope = scope_of(policy(origin, ports=(HTTP, Port(22)), ports_by_label=True), WEB)
    assert scope.ports == (HTTP,)
    assert "22/tcp left out" in scope.why


@UNTRUSTED
def test_a_label_that_names_only_others_ports_bans_from_nothing(origin):
    scope = scope_of(policy(origin, ports=(Port(22),), ports_by_label=True), WEB)
    assert scope.ports == ()
    assert "22/tcp" in scope.why
    assert "53/udp, 8080/tcp" in scope.why


def test_the_whole_host_is_for_jails_of_the_daemons_file():
    host = {"scope": ScopeKind.HOST}
    assert scope_of(policy(Origin.DAEMON, **host), WEB).ports is None
    assert scope_of(policy(Origin.SHIPPED, **host), WEB).ports == (DNS, HTTP)
    assert scope_of(policy(Origin.LABEL, **host), WEB).ports == (DNS, HTTP)


def test_on_the_host_network_it_is_the_exposed_ports():
    app = container("app", host_network=True, exposed=frozenset({HTTP}))
    assert scope_of(policy(), app).ports == (HTTP,)


def test_on_the_host_network_stated_ports_win():
    app = container("app", host_network=True, exposed=frozenset({HTTP}))
    assert scope_of(policy(ports=(ALT,), ports_by_label=True), app).ports == (ALT,)


@UNTRUSTED
def test_on_the_host_network_without_ports_a_label_gets_nothing(origin):
    app = container("app", host_network=True)
    assert scope_of(policy(origin), app).ports == ()
    assert scope_of(policy(Origin.DAEMON), app).ports is None


GATEWAY = ip_address("172.17.0.1")
BRIDGED = container("web", published=frozenset({HTTP}), gateways=frozenset({GATEWAY}))


def test_ports_behind_a_gateway_of_ours_are_here():
    assert elsewhere([BRIDGED], [GATEWAY]) is None


def test_ports_behind_a_strange_gateway_are_elsewhere():
    assert "no effect" in elsewhere([BRIDGED], [ip_address("172.17.0.2")]).what


def test_a_network_that_cannot_publish_tells_nothing():
    macvlan = container("lan", gateways=frozenset({ip_address("192.168.1.1")}))
    assert elsewhere([macvlan], [ip_address("192.168.1.7")]) is None
