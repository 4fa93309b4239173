"""From what a ban keeps out: the rule of README's table, one promise a test."""

from ipaddress import ip_address

import pytest

from dockerjail.ban.scope import elsewhere, resolve
from dockerjail.config.values import MOST_PORTS
from dockerjail.jail.policy import JailPolicy, Origin, ScopeKind
from dockerjail.jail.rule import Rule
from dockerjail.model import Container, Direct, Port

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


LAN4, LAN6, LAN_OTHER = map(ip_address, ("192.0.2.5", "2001:db8::5", "192.0.2.9"))


def on_lan(name, *addresses, device="eth0", **options):
    direct = frozenset(Direct(device, address) for address in addresses)
    options = {"addresses": frozenset(addresses)} | options
    return container(name, direct=direct, **options)


@pytest.mark.parametrize("origin", Origin)
def test_on_macvlan_it_is_the_containers_own_addresses(origin):
    app = on_lan("app", LAN6, LAN4, exposed=frozenset({HTTP}))
    scope = scope_of(policy(origin), app, others=[on_lan("other", LAN_OTHER), WEB])
    assert (scope.ports, scope.addresses) == ((), (LAN4, LAN6))
    assert not scope.nothing
    assert (
        scope.why == "addresses of the service past the host (macvlan, ipvlan) are closed as wholes"
    )


@pytest.mark.parametrize("origin", Origin)
def test_who_publishes_and_is_on_macvlan_too_has_both_closed(origin):
    app = on_lan("app", LAN4, published=frozenset({HTTP}))
    scope = scope_of(policy(origin), app)
    assert (scope.ports, scope.addresses) == ((HTTP,), (LAN4,))
    assert scope.why.startswith("published by the service; addresses of the service past the host")


@pytest.mark.parametrize("origin", Origin)
def test_an_address_is_closed_as_a_whole_whatever_ports_a_label_names(origin):
    app = on_lan("app", LAN4)
    scope = scope_of(policy(origin, ports=(Port(22),), ports_by_label=True), app)
    assert (scope.ports, scope.addresses) == ((), (LAN4,))
    assert "ports that the jail's label names do not matter" in scope.why
    assert "closed as wholes" in scope.why


def test_a_label_still_chooses_among_the_ports_of_who_is_on_macvlan_too():
    app = on_lan("app", LAN4, published=frozenset({HTTP, ALT}))
    scope = scope_of(policy(ports=(ALT, Port(22)), ports_by_label=True), app)
    assert (scope.ports, scope.addresses) == ((ALT,), (LAN4,))


@pytest.mark.parametrize("by_file", [False, True])
def test_the_daemons_jail_closes_its_ports_and_the_services_addresses(by_file):
    jail = policy(Origin.DAEMON, ports=(Port(22),), and_published=by_file)
    scope = scope_of(jail, on_lan("app", LAN4))
    assert (scope.ports, scope.addresses) == ((Port(22),), (LAN4,))


def test_the_whole_host_includes_what_is_past_it():
    scope = scope_of(policy(Origin.DAEMON, scope=ScopeKind.HOST), on_lan("app", LAN4))
    assert (scope.ports, scope.addresses) == (None, ())


@pytest.mark.parametrize("origin", Origin)
def test_behind_a_proxy_on_macvlan_it_is_the_proxys_addresses(origin):
    app = container("app", networks=frozenset({"net1"}))
    proxy = on_lan("nginx", LAN4, networks=frozenset({"net1"}))
    stranger = on_lan("db", LAN_OTHER, networks=frozenset({"net2"}))
    scope = scope_of(policy(origin), app, others=[proxy, stranger])
    assert (scope.ports, scope.addresses) == ((), (LAN4,))
    assert "nginx on the same network" in scope.why


@pytest.mark.parametrize("origin", Origin)
@pytest.mark.parametrize("ports", [None, (HTTP,)])
def test_an_address_without_a_device_cannot_be_closed_and_that_is_said(origin, ports):
    app = on_lan("app", LAN4, device="")
    scope = scope_of(policy(origin, ports=ports, ports_by_label=True), app)
    assert scope.nothing
    what, _, remedy = scope.why.partition("; ")
    assert what.startswith("cannot be enforced: 192.0.2.5 of the service is reached past the host")
    assert "option parent" in remedy


def test_what_can_be_closed_is_closed_beside_what_cannot():
    app = on_lan("app", LAN4, device="", published=frozenset({HTTP}))
    scope = scope_of(policy(), app)
    assert (scope.ports, scope.addresses) == ((HTTP,), ())
    assert "192.0.2.5 stays open" in scope.why


@pytest.mark.parametrize("owner_runs", [True, False])
def test_an_address_that_another_container_got_meanwhile_is_not_closed(owner_runs):
    app = on_lan("app", LAN4, LAN6, running=False)
    heir = on_lan("heir", LAN4, running=owner_runs)
    scope = scope_of(policy(), app, others=[heir])
    assert scope.addresses == ((LAN6,) if owner_runs else (LAN4, LAN6))


def test_replicas_that_run_count_with_their_addresses():
    one, stopped = on_lan("app-1", LAN4), on_lan("app-2", LAN6, running=False)
    assert scope_of(policy(), one, stopped).addresses == (LAN4,)


RTP = [Port(number, "udp") for number in range(10_000, 20_000)]
PBX = container("pbx", published=frozenset(RTP))


def test_as_many_ports_as_may_be_written_are_closed_one_by_one():
    pbx = container("pbx", published=frozenset(RTP[:MOST_PORTS]))
    for origin in Origin:
        scope = scope_of(policy(origin), pbx)
        assert scope.ports == tuple(RTP[:MOST_PORTS])
        assert scope.why == "published by the service"


def test_of_thousands_of_ports_the_daemons_jail_closes_everything_and_says_so():
    scope = scope_of(policy(Origin.DAEMON), PBX)
    assert (scope.ports, scope.addresses) == (None, ())
    assert "10000 ports are more than 256, so everything is closed" in scope.why
    assert "published by the service" in scope.why
    assert scope.why.endswith("name those that matter with the jail's option ports")


@UNTRUSTED
def test_of_thousands_of_ports_a_labels_choice_closes_the_lowest_and_says_what_to_do(origin):
    scope = scope_of(policy(origin), PBX)
    assert scope.ports == tuple(RTP[:MOST_PORTS])
    assert "only the 256 lowest of 10000 ports are closed" in scope.why
    assert "label ports=" in scope.why


@pytest.mark.parametrize("origin", Origin)
def test_a_label_that_names_some_of_thousands_of_ports_has_those_closed(origin):
    scope = scope_of(policy(origin, ports=tuple(RTP[-2:]), ports_by_label=True), PBX)
    assert scope.ports == tuple(RTP[-2:])


def test_a_proxys_thousands_of_ports_are_bounded_and_its_addresses_stay_closed():
    app = container("app", networks=frozenset({"net1"}))
    proxy = on_lan("proxy", LAN4, networks=frozenset({"net1"}), published=frozenset(RTP))
    scope = scope_of(policy(), app, others=[proxy])
    assert len(scope.ports) == MOST_PORTS
    assert scope.addresses == (LAN4,)


def test_ports_of_a_fail2ban_file_and_thousands_that_are_published_are_everything():
    jail = policy(Origin.DAEMON, ports=(Port(5060, "udp"),), and_published=True)
    assert scope_of(jail, PBX).ports is None


def test_thousands_of_exposed_ports_on_the_host_network_are_bounded_too():
    pbx = container("pbx", host_network=True, exposed=frozenset(RTP))
    assert len(scope_of(policy(), pbx).ports) == MOST_PORTS
    assert scope_of(policy(Origin.DAEMON), pbx).ports is None


GATEWAY = ip_address("172.17.0.1")
BRIDGED = container("web", published=frozenset({HTTP}), gateways=frozenset({GATEWAY}))


def test_ports_behind_a_gateway_of_ours_are_here():
    assert elsewhere([BRIDGED], [GATEWAY]) is None


def test_ports_behind_a_strange_gateway_are_elsewhere():
    assert "no effect" in elsewhere([BRIDGED], [ip_address("172.17.0.2")]).what


def test_a_network_that_cannot_publish_tells_nothing():
    macvlan = container("lan", gateways=frozenset({ip_address("192.168.1.1")}))
    assert elsewhere([macvlan], [ip_address("192.168.1.7")]) is None


@pytest.mark.parametrize("origin", list(Origin))
def test_a_stopped_service_yields_ports_that_another_container_publishes_by_now(origin):
    gone = container("web", published=frozenset({Port(80), Port(443)}), running=False)
    asked = policy(origin)
    assert resolve(asked, [gone], [gone]).ports == (Port(80), Port(443))
    other = container("other", published=frozenset({Port(80)}))
    assert resolve(asked, [gone], [gone, other]).ports == (Port(443),)
    both = container("other", published=frozenset({Port(80), Port(443)}))
    scope = resolve(asked, [gone], [gone, both])
    assert scope.nothing
    assert scope.yields
    again = container("web", published=frozenset({Port(80), Port(443)}))
    assert resolve(asked, [again], [again]).ports == (Port(80), Port(443))
