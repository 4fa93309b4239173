"""Promises of how labels and settings make the jails of one container."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from dockerjail.ban.scope import resolve
from dockerjail.config.filters import Shipped
from dockerjail.config.flaw import flaw
from dockerjail.config.mistake import Mistake
from dockerjail.config.policies import longest_findtime, policies
from dockerjail.config.settings import Settings, load
from dockerjail.docker import inspect
from dockerjail.jail.formula import Formula
from dockerjail.jail.growth import Growth
from dockerjail.jail.policy import JailPolicy, Origin, ScopeKind, Verify
from dockerjail.jail.rule import NOTHING, Format
from dockerjail.model import Blocktype, Container, Mode, Port, Stream
from tests.unit.fail2ban.directory import write

FILE = """
[defaults]
maxretry = 4
ignoreip = "192.0.2.1"

[filters.web]
failregex = '^web <HOST>'
ignoreregex = '^health'

[jails.web-slow]
filter = "web"
findtime = "1d"
scope = "host"
ignoreip = "198.51.100.0/24"

[jails.off]
filter = "web"
enabled = false

[jails.broken]
failregex = "no address"
"""

Ask = Callable[..., tuple[tuple[JailPolicy, ...], str]]


@pytest.fixture
def daemon(tmp_path: Path) -> Callable[..., Settings]:
    path = tmp_path / "dockerjail.toml"
    path.write_text(FILE, encoding="utf-8")
    return lambda **environ: load(path, environ)


@pytest.fixture
def ask(daemon: Callable[..., Settings]) -> Ask:
    def ask(labels: dict[str, str], **environ: str) -> tuple[tuple[JailPolicy, ...], str]:
        container = Container(
            id="c1",
            name="shop-web-1",
            service="shop-web",
            labels={"dockerjail.enable": "true"}
            | {f"dockerjail.{key}": value for key, value in labels.items()},
        )
        chosen, problems = policies(container, daemon(**environ))
        assert all(
            problem.remedy or "regex 1 " in problem.what or "; write " in problem.what
            for problem in problems
        )
        return chosen, "\n".join(map(str, problems))

    return ask


def test_a_selected_jail_is_the_daemons_own(ask: Ask, daemon: Callable[..., Settings]) -> None:
    chosen, problems = ask({"jails": "web, web-slow"})
    assert problems == ""
    assert chosen == (daemon().jails["web"], daemon().jails["web-slow"])
    assert chosen[1].origin is Origin.DAEMON
    assert chosen[1].scope is ScopeKind.HOST


def test_a_container_without_labels_has_no_jails_and_no_problems(
    daemon: Callable[..., Settings],
) -> None:
    container = Container(id="c1", name="x", service="x", labels={"com.example": "x"})
    assert policies(container, daemon()) == ((), ())


def test_a_jail_defined_by_labels_has_the_daemons_defaults_and_the_labels_origin(ask: Ask) -> None:
    chosen, problems = ask(
        {
            "jail.login.failregex": "^failed from <HOST>",
            "jail.login.bantime": "-1",
            "jail.login.ports": "80,53/udp",
            "jail.login.stream": "stderr",
        }
    )
    assert problems == ""
    (jail,) = chosen
    assert (jail.name, jail.origin) == ("login", Origin.LABEL)
    assert jail.rule.failregex == ("^failed from <HOST>",)
    assert (jail.maxretry, jail.findtime, jail.bantime) == (4, 600.0, None)
    assert [str(address) for address in jail.ignoreip] == ["192.0.2.1/32"]
    assert jail.ports == (Port(80), Port(53, "udp"))
    assert jail.streams == {Stream.STDERR}


def test_labels_do_not_define_more_than_everybody_can_bear(ask: Ask) -> None:
    five = [f"^no{number} <HOST>" for number in range(5)]
    one = {f"jail.j{number:02}.failregex": "\n".join(five) for number in range(45)}
    chosen, problems = ask(one)
    assert len(chosen) == 40
    assert "j40.failregex: with this jail the labels define more than 200 expressions" in problems
    many = {"jail.big.failregex": "\n".join(five * 41), "jail.small.failregex": "^x <HOST>"}
    chosen, problems = ask({**many, "jails": "web-slow"})
    assert [policy.name for policy in chosen] == ["web-slow", "small"]
    assert "big.failregex" in problems


def test_a_label_tunes_a_known_jail_and_leaves_it_the_daemons(ask: Ask) -> None:
    chosen, problems = ask({"jail.web.maxretry": "2", "jail.web.ports": "80"})
    assert problems == ""
    (jail,) = chosen
    assert (jail.maxretry, jail.ports, jail.origin) == (2, (Port(80),), Origin.DAEMON)
    assert jail.ports_by_label
    assert jail.rule.failregex == ("^web <HOST>",)


def test_a_label_does_not_widen_a_jail_of_the_daemon_to_the_whole_host(ask: Ask) -> None:
    chosen, problems = ask({"jail.web.scope": "host"})
    assert [jail.scope for jail in chosen] == [ScopeKind.AUTO]
    assert problems == (
        "container shop-web-1, label dockerjail.jail.web.scope: is passed over: a label keeps to "
        "its own service's ports; write scope = \"host\" for jail web in the daemon's file, "
        "or scope=auto"
    )


def test_a_label_may_repeat_a_scope_that_the_daemon_gave(ask: Ask) -> None:
    chosen, problems = ask({"jail.web-slow.scope": "host"})
    assert problems == ""
    assert [jail.scope for jail in chosen] == [ScopeKind.HOST]


def test_a_label_may_use_a_filter_of_the_daemon_for_a_jail_of_its_own(ask: Ask) -> None:
    chosen, problems = ask({"jail.mine.filter": "web", "jail.mine.ignoreregex": ""})
    assert problems == ""
    (jail,) = chosen
    assert (jail.rule.failregex, jail.rule.ignoreregex) == (("^web <HOST>",), ())
    assert jail.origin is Origin.LABEL


@pytest.mark.parametrize(
    "label", [("failregex", "^x <HOST>"), ("ignoreregex", "^x"), ("filter", "web")]
)
def test_a_label_that_says_what_to_look_for_takes_the_daemons_trust_from_a_jail(
    ask: Ask, label: tuple[str, str]
) -> None:
    option, value = label
    chosen, problems = ask({f"jail.web-slow.{option}": value})
    assert problems == ""
    (jail,) = chosen
    assert (jail.origin, jail.scope) == (Origin.LABEL, ScopeKind.AUTO)
    assert jail.findtime == 86400.0
    assert "198.51.100.0/24" in map(str, jail.ignoreip)


def test_a_jail_of_a_label_never_bans_from_the_whole_host(ask: Ask) -> None:
    chosen, problems = ask({"jail.mine.failregex": "^x <HOST>", "jail.mine.scope": "host"})
    assert [jail.scope for jail in chosen] == [ScopeKind.AUTO]
    assert problems == (
        "container shop-web-1, label dockerjail.jail.mine.scope: is passed over: a label keeps to "
        "its own service's ports; write scope = \"host\" for jail mine in the daemon's file, "
        "or scope=auto"
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {},
            "label dockerjail.enable: is true, but no jail is named; add dockerjail.jails=NAME (",
        ),
        ({"jails": ""}, "or dockerjail.jail.NAME.failregex=… to define one"),
        (
            {"jails": "wbe"},
            (
                "label dockerjail.jails: there is no jail 'wbe'; write web, "
                "or dockerjail.jail.wbe.failregex=… to define it here"
            ),
        ),
        (
            {"jail.flask.maxretry": "3"},
            "label dockerjail.jail.flask.maxretry: there is no jail 'flask'; ",
        ),
        (
            {"jail.flask.maxretry": "five"},
            (
                "label dockerjail.jail.flask.maxretry: 'five' is not a whole number; "
                "write a whole number such as 5"
            ),
        ),
        (
            {"jail.mine.failregex": "no address"},
            (
                "label dockerjail.jail.mine.failregex: failregex 1 'no address' has no address; "
                "write <HOST> where the address is"
            ),
        ),
        (
            {"jail.mine.failregex": "(<HOST>"},
            "label dockerjail.jail.mine.failregex: failregex 1 '(<HOST>', position 1: missing )",
        ),
        (
            {"jail.mine.filter": "web", "jail.mine.ignoreregex": "("},
            "label dockerjail.jail.mine.ignoreregex: ignoreregex 1 '('",
        ),
        (
            {"jail.mine.ignoreregex": "x"},
            (
                "label dockerjail.jail.mine.ignoreregex: there is nothing to look for: no failregex; "
                "write dockerjail.jail.mine.failregex=… or .filter=…"
            ),
        ),
        (
            {"jail.mine.filter": "wbe"},
            "label dockerjail.jail.mine.filter: there is no filter 'wbe'; write web",
        ),
        ({"jails": "off"}, "label dockerjail.jails: jail off is disabled at "),
        (
            {"jail.off.failregex": "<HOST>"},
            "label dockerjail.jail.off.failregex: jail off is disabled at ",
        ),
        ({"jails": "broken"}, "label dockerjail.jails: jail broken is left out for a mistake at "),
        (
            {"jails": "web[mode=more]"},
            (
                "label dockerjail.jails: 'web[mode=more]' is a filter with options, and no jail; "
                "write dockerjail.jail.web.filter=web[mode=more] in its place"
            ),
        ),
        (
            {"jail.api.address": "ip", "jail.api.format": "text"},
            (
                "label dockerjail.jail.api.format: is text, and address asks for fields; "
                "write json, logfmt or auto"
            ),
        ),
    ],
)
def test_a_jail_that_cannot_run_is_answered_with_its_place_and_what_to_write(
    ask: Ask, labels: dict[str, str], message: str
) -> None:
    chosen, problems = ask(labels)
    assert chosen == ()
    assert f"container shop-web-1, {message}" in problems or (
        problems.startswith("container shop-web-1, ") and message in problems
    )
    assert "\n" not in problems


def test_one_wrong_label_takes_its_jail_with_it_and_no_other(ask: Ask) -> None:
    chosen, problems = ask(
        {
            "jails": "web,nobody",
            "jail.mine.failregex": "^x <HOST>",
            "jail.other.failregex": "^y <HOST>",
            "jail.other.maxretry": "five",
            "nonsense": "x",
        }
    )
    assert [jail.name for jail in chosen] == ["web", "mine"]
    assert len(problems.split("\n")) == 3


def test_numbered_expressions_become_one_filter(ask: Ask) -> None:
    chosen, _ = ask({"jail.a.failregex.2": "^b <HOST>", "jail.a.failregex.1": "^a <HOST>"})
    assert chosen[0].rule.failregex == ("^a <HOST>", "^b <HOST>")


def test_with_select_a_container_runs_the_daemons_jails_as_they_are(ask: Ask) -> None:
    chosen, problems = ask(
        {"jails": "web", "jail.web.maxretry": "1", "jail.x.failregex": "<HOST>"},
        DOCKERJAIL_DOCKER__LABELS="select",
    )
    assert [(jail.name, jail.maxretry) for jail in chosen] == [("web", 4)]
    assert problems.count("is passed over") == 2


def test_with_tune_a_container_is_not_told_to_define_jails(ask: Ask) -> None:
    for labels in ({}, {"jails": "nobody-knows-it"}):
        chosen, problems = ask(labels, DOCKERJAIL_DOCKER__LABELS="tune")
        assert chosen == ()
        assert "web" in problems
        assert "failregex" not in problems


def test_with_off_nothing_is_followed(ask: Ask) -> None:
    assert ask({"jails": "web"}, DOCKERJAIL_DOCKER__LABELS="off") == ((), "")


def test_another_prefix_is_used_and_named(ask: Ask) -> None:
    prefix = {"DOCKERJAIL_DOCKER__LABEL_PREFIX": "dockerjail.x"}
    assert ask({"x.enable": "true", "x.jails": "web"}, **prefix)[0][0].name == "web"
    assert (
        "label dockerjail.x.jails: there is no jail 'y'"
        in ask({"x.enable": "true", "x.jails": "y"}, **prefix)[1]
    )


WORDS = st.sampled_from(
    ["jails", "jail", "web", "off", "mine", "filter", "failregex", "ignoreregex", "1", "scope"]
)
VALUES = st.sampled_from(["web", "off", "<HOST>", "(", "host", "5", "10m", "80", ""]) | st.text()


@effort(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.lists(WORDS, max_size=4).map(".".join), VALUES, max_size=8))
def test_no_labels_whatever_bring_the_chooser_down(
    daemon: Callable[..., Settings], labels: dict[str, str]
) -> None:
    given_labels = {f"dockerjail.{key}": value for key, value in labels.items()}
    container = Container(
        id="c", name="c", service="c", labels={"dockerjail.enable": "true", **given_labels}
    )
    chosen, problems = policies(container, daemon())
    assert chosen or problems
    for jail in chosen:
        assert jail.rule.failregex
        assert jail.origin is not Origin.LABEL or jail.scope is ScopeKind.AUTO
    for problem in problems:
        assert problem.place.startswith("container c, label dockerjail")


def test_the_longest_findtime_is_found_without_reading_a_shipped_filter(
    daemon: Callable[..., Settings],
) -> None:
    settings = daemon(DOCKERJAIL_JAILS__WEB_SLOW__FINDTIME="3d")
    assert longest_findtime(settings) == 3 * 86400
    assert not settings.jails._made


# Jails that the daemon's file gives to containers


MAPPED = """
[jails.web]
failregex = '^web <HOST>'
[containers."shop-*"]
jails = ["web", "flask-login"]
format = "json"
"""


Mapped = Callable[..., list[JailPolicy]]


@pytest.fixture
def mapped(tmp_path: Path) -> Mapped:
    def mapped(container: Container, text: str = MAPPED) -> list[JailPolicy]:
        path = tmp_path / "dockerjail.toml"
        path.write_text(text, encoding="utf-8")
        settings = load(path, {})
        assert settings.problems == ()
        chosen, problems = policies(container, settings)
        assert problems == ()
        return list(chosen)

    return mapped


@pytest.mark.parametrize(
    ("name", "service", "covered"),
    [("shop-web-1", "other", True), ("0a_shop-web-1", "shop-web", True), ("web", "web", False)],
)
def test_the_daemons_file_gives_jails_by_name_and_service(
    mapped: Mapped, name: str, service: str, covered: bool
) -> None:
    container = Container(id="a" * 64, name=name, service=service)
    assert [jail.name for jail in mapped(container)] == (["web", "flask-login"] if covered else [])


def test_an_image_that_calls_itself_a_service_gets_nothing_of_what_the_file_gives(
    mapped: Mapped,
) -> None:
    """Compose's labels can come with an image: with those alone it could ban from everything."""
    labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
    image = inspect.container({"Name": "/dazzling_curie", "Config": {"Labels": labels}})
    assert mapped(image) == []
    assert mapped(image, '[docker]\nlabels = "off"\n' + MAPPED) == []
    composed = inspect.container({"Name": "/shop_web_1", "Config": {"Labels": labels}})
    assert len(mapped(composed)) == 2


def test_a_shipped_jail_given_by_the_daemons_file_is_trusted_as_its_own(mapped: Mapped) -> None:
    container = Container(id="a" * 64, name="shop-1", service="shop-1")
    assert {jail.origin for jail in mapped(container)} == {Origin.DAEMON}


def test_what_the_file_gives_needs_no_label_and_labels_can_tune_it(mapped: Mapped) -> None:
    labels = {"dockerjail.enable": "true", "dockerjail.jail.web.maxretry": "2"}
    container = Container(id="a" * 64, name="shop-1", service="shop-1", labels=labels)
    web, flask = mapped(container)
    assert (web.name, web.maxretry) == ("web", 2)
    assert flask.name == "flask-login"
    off = mapped(container, '[docker]\nlabels = "off"\n' + MAPPED)
    assert [jail.maxretry for jail in off] == [5, 5]


@pytest.mark.parametrize(("label", "format"), [(None, Format.JSON), ("logfmt", Format.LOGFMT)])
def test_a_format_holds_for_all_jails_of_a_container(
    mapped: Mapped, label: str | None, format: Format
) -> None:
    labels = {"dockerjail.enable": "true", "dockerjail.format": label} if label else {}
    container = Container(id="a" * 64, name="shop-1", service="shop-1", labels=labels)
    assert {jail.rule.format for jail in mapped(container)} == {format}


def test_a_format_of_text_takes_no_jail_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "dockerjail.toml"
    path.write_text(
        '[containers."*"]\njails = ["api", "web"]\nformat = "text"\n[jails.api]\n'
        'address = "ip"\n[jails.web]\nfailregex = "^<HOST>"\n'
    )
    chosen, problems = policies(Container(id="c", name="c", service="c", labels={}), load(path, {}))
    assert [jail.rule.format for jail in chosen] == [Format.AUTO, Format.TEXT]
    assert not problems


def test_a_pattern_with_an_unknown_jail_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "dockerjail.toml"
    path.write_text('[containers."*"]\njails = ["flask-login", "flask-logn"]\nfoo = 1\n')
    settings = load(path, {})
    assert [str(problem).replace(str(path), "FILE") for problem in settings.problems] == [
        'FILE line 3, [containers."*"] foo: is no option known here; known: format, jails',
        "FILE line 2, [containers.\"*\"] jails: there is no jail 'flask-logn'; write flask-login",
    ]
    assert settings.containers[0].jails == ("flask-login",)


def theirs(
    tmp_path: Path, jail_local: str, filter_: str = "[Definition]\nfailregex = ^x <HOST>\n"
) -> Settings:
    write(tmp_path / "f", {"jail.local": jail_local, "filter.d/own.conf": filter_})
    path = tmp_path / "dockerjail.toml"
    path.write_text(f"[fail2ban]\npath = {str(tmp_path / 'f')!r}\n", encoding="utf-8")
    return load(path, {})


def test_a_wrong_regex_of_fail2ban_is_told_in_the_file_in_which_it_stands(tmp_path: Path) -> None:
    known = theirs(tmp_path, "[own]\nfilter = own\n", "[Definition]\nfailregex = ^(x <HOST>\n")
    labels = {"dockerjail.enable": "true", "dockerjail.jails": "own"}
    chosen, (problem,) = policies(Container(id="c", name="c", service="c", labels=labels), known)
    assert not chosen
    assert f"{tmp_path}/f/filter.d/own.conf line 2, [Definition] failregex: " in problem.what


def test_a_filter_of_fail2ban_without_a_jail_says_what_does_not_hold_for_it(
    tmp_path: Path,
) -> None:
    known = theirs(tmp_path, "[DEFAULT]\nignoreip = 192.0.2.1\n[other]\nfilter = own\n")
    jails = known.jails
    ((remark,), notes) = jails.remarks(jails["own"])
    assert "a filter own and no jail" in remark.what
    assert remark.remedy == "write [own] in jail.local, if it should be otherwise"
    assert not notes
    assert jails.remarks(jails["other"]) == ((), ())
    assert jails.remarks(replace(jails["own"], origin=Origin.LABEL)) == ((), ())
    assert jails.remarks(jails["nginx-http-auth"]) == ((), ())


def test_a_jail_that_only_came_with_fail2ban_makes_way_for_a_shipped_one(tmp_path: Path) -> None:
    write(tmp_path / "f", {"jail.conf": "[grafana]\nfilter = own\n[gitea]\nfilter = own\n"})
    known = theirs(tmp_path, "[gitea]\nmaxretry = 2\n")
    own = known.jails["own"].rule
    assert known.jails["gitea"].rule == own
    assert known.jails["grafana"].rule == Shipped()["grafana"].rule
    assert known.jails["grafana"].origin is Origin.SHIPPED
    assert known.jails.remarks(known.jails["grafana"]) == ((), ())


def test_a_filter_that_only_came_with_fail2ban_makes_way_unless_options_ask_for_it(
    tmp_path: Path,
) -> None:
    stock = {"filter.d/grafana.conf": "[Definition]\nfailregex = ^<mode> <HOST>\nmode = stock\n"}
    write(tmp_path / "f", stock)
    filters = theirs(tmp_path, "[x]\nfilter = own\n").filters
    assert filters["grafana"].rule == Shipped()["grafana"].rule
    assert filters["grafana[mode=mine]"].rule.failregex == ("^mine <HOST>",)
    write(tmp_path / "f", {"filter.d/grafana.local": "[Definition]\nmode = local\n"})
    filters = theirs(tmp_path, "[x]\nfilter = own\n").filters
    assert filters["grafana"].rule.failregex == ("^local <HOST>",)


def test_a_table_of_the_daemons_file_lies_over_the_jail_that_a_label_would_get(
    tmp_path: Path,
) -> None:
    write(tmp_path / "f", {"jail.conf": "[grafana]\nfilter = own\n[gitea]\nfilter = own\n"})
    theirs(tmp_path, "[gitea]\nmaxretry = 2\n")
    path = tmp_path / "dockerjail.toml"
    path.write_text(
        f"[fail2ban]\npath = {str(tmp_path / 'f')!r}\n"
        "[jails.grafana]\nfindtime = '1h'\n[jails.gitea]\nfindtime = '1h'\n"
    )
    jails = load(path, {}).jails
    assert jails["grafana"].rule == Shipped()["grafana"].rule
    assert (jails["gitea"].rule.failregex, jails["gitea"].maxretry) == (("^x <HOST>",), 2)
    assert {jails["grafana"].findtime, jails["gitea"].findtime} == {3600.0}


def test_a_format_of_the_container_does_not_spoil_a_filter_made_for_text(tmp_path: Path) -> None:
    labels = {
        "dockerjail.enable": "true",
        "dockerjail.format": "json",
        "dockerjail.jail.a.failregex": "^x <HOST>",
        "dockerjail.jail.a.prefix": "sshd[1]: ",
        "dockerjail.jail.b.failregex": "^x <HOST>",
        "dockerjail.jail.b.maxlines": "3",
    }
    known = theirs(tmp_path, "[x]\nfilter = own\n")
    chosen, problems = policies(Container(id="c", name="c", service="c", labels=labels), known)
    assert not problems
    assert [(jail.rule.format, flaw(jail.rule)) for jail in chosen] == [
        (Format.JSON, None),
        (Format.AUTO, None),
    ]


def test_whom_jail_local_lets_pass_no_jail_bans(tmp_path: Path) -> None:
    known = theirs(tmp_path, "[DEFAULT]\nignoreip = 127.0.0.1/8 192.0.2.1\n[x]\nfilter = own\n")
    office = ip_network("192.0.2.1")
    assert office in known.defaults.ignoreip
    assert office in known.jails["flask-login"].ignoreip


def test_a_jail_file_that_cannot_be_read_takes_all_jails_of_fail2ban_with_it(
    tmp_path: Path,
) -> None:
    known = theirs(tmp_path, "[x]\nfilter = own\n")
    assert "x" in known.jails
    (tmp_path / "f" / "jail.local").unlink()
    (tmp_path / "f" / "jail.local").mkdir()
    write(tmp_path / "f", {"jail.conf": "[x]\nfilter = own\n"})
    known = load(tmp_path / "dockerjail.toml", {})
    assert known.problems
    with pytest.raises(Mistake, match=r"jail\.local"):
        known.jails["x"]


def test_a_label_gets_no_further_with_what_only_came_with_fail2ban(tmp_path: Path) -> None:
    """Stock fail2ban brings ninety jails, eleven that keep out of everything: nobody chose them."""
    stock = "[stock]\nfilter = own\nport = ssh\n[all]\nfilter = own\nport = 0:65535\n"
    write(tmp_path / "f", {"jail.conf": stock + "[mine]\nfilter = own\nport = ssh\n"})
    write(tmp_path / "f", {"jail.d/defaults-debian.conf": "[stock]\nenabled = true\n"})
    known = theirs(tmp_path, "[mine]\nmaxretry = 2\n")
    labels = {"dockerjail.enable": "true", "dockerjail.jails": "stock,all,own,mine"}
    container = Container(
        id="c", name="c", service="c", labels=labels, published=frozenset({Port(8080)})
    )

    def scopes(settings: Settings) -> dict[str, str]:
        chosen, problems = policies(container, settings)
        assert not problems
        return {jail.name: str(resolve(jail, [container], [container])) for jail in chosen}

    own = "8080/tcp"
    both = "22/tcp, 8080/tcp"
    assert scopes(known) == {"stock": own, "all": own, "own": own, "mine": both}
    container = replace(container, published=frozenset())
    assert scopes(known)["own"] == "nothing"
    path = tmp_path / "dockerjail.toml"
    given = '\n[containers.c]\njails = ["stock", "all", "own"]\n'
    path.write_text(path.read_text() + given)
    container = replace(container, published=frozenset({Port(8080)}))
    assert scopes(load(path, {})) == {"stock": both, "all": "everything", "own": own, "mine": both}


# Growing bans, recidive and the like


def test_a_label_may_have_bans_grow_as_the_daemon_said_they_would(
    ask: Ask, daemon: Callable[..., Settings]
) -> None:
    environ = {
        "DOCKERJAIL_DEFAULTS__BANTIME_MAXTIME": "1w",
        "DOCKERJAIL_JAILS__WEB_SLOW__BANTIME_FACTOR": "2",
    }
    assert daemon(**environ).jails["web-slow"].growth is None
    labels = {
        "jail.web-slow.bantime.increment": "true",
        "jail.web.bantime.increment": "yes",
        "jail.web.bantime.formula": "ban.Time * 3",
        "jail.mine.failregex": "^x <HOST>",
        "jail.mine.bantime.increment": "1",
        "jail.other.failregex": "^x <HOST>",
        "jail.other.bantime.multipliers": "1 5",
    }
    chosen, problems = ask(labels, **environ)
    assert problems == ""
    week = 7 * 86400.0
    assert {jail.name: jail.growth for jail in chosen} == {
        "web-slow": Growth(factor=2.0, maxtime=week),
        "web": Growth(formula=Formula("ban.Time * 3"), maxtime=week),
        "mine": Growth(maxtime=week),
        "other": None,
    }


def test_a_label_may_change_one_thing_of_bans_that_grow_already(ask: Ask) -> None:
    chosen, problems = ask(
        {"jail.web.bantime.rndtime": "5m", "jail.web-slow.bantime.increment": "false"},
        DOCKERJAIL_DEFAULTS__BANTIME_INCREMENT="true",
        DOCKERJAIL_DEFAULTS__BANTIME_FACTOR="3",
    )
    assert problems == ""
    assert {jail.name: jail.growth for jail in chosen} == {
        "web": Growth(factor=3.0, rndtime=300.0),
        "web-slow": None,
    }


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "findtime",
            "2d",
            "2d is longer than a label may ask for; write 1d at most, or set it for",
        ),
        (
            "ipv4_prefix",
            "23",
            "/23 is wider than a label may ask for; write 24 at least, or set it",
        ),
        (
            "ipv6_prefix",
            "47",
            "/47 is wider than a label may ask for; write 48 at least, or set it",
        ),
    ],
)
def test_a_label_asks_for_no_more_than_it_may(
    ask: Ask, option: str, value: str, message: str
) -> None:
    for jail in ("web", "mine"):
        chosen, problems = ask({"jail.mine.filter": "web", f"jail.{jail}.{option}": value})
        assert [each.name for each in chosen] == ([] if jail == "mine" else ["mine"])
        assert problems.startswith(
            f"container shop-web-1, label dockerjail.jail.{jail}.{option}: {message}"
        )


def test_a_label_may_ask_for_a_prefix_as_wide_as_the_daemons_own(ask: Ask) -> None:
    wide = {"DOCKERJAIL_DEFAULTS__IPV4_PREFIX": "16", "DOCKERJAIL_DEFAULTS__IPV6_PREFIX": "32"}
    chosen, problems = ask({"jail.web.ipv4_prefix": "16", "jail.web.ipv6_prefix": "32"}, **wide)
    assert problems == ""
    assert [(jail.ipv4_prefix, jail.ipv6_prefix) for jail in chosen] == [(16, 32)]
    chosen, problems = ask({"jail.web.ipv4_prefix": "24", "jail.web.ipv6_prefix": "48"})
    assert problems == ""
    assert [(jail.ipv4_prefix, jail.ipv6_prefix) for jail in chosen] == [(24, 48)]
    assert "write 16 at least" in ask({"jail.web.ipv4_prefix": "15"}, **wide)[1]


def test_a_label_may_ask_for_a_dry_run_and_a_proof_and_not_take_them_back(ask: Ask) -> None:
    chosen, problems = ask({"jail.web.mode": "observe", "jail.web.verify": "conntrack"})
    assert problems == ""
    assert [(jail.mode, jail.verify) for jail in chosen] == [(Mode.OBSERVE, Verify.CONNTRACK)]
    chosen, problems = ask(
        {"jail.web.mode": "enforce", "jail.web.verify": "none", "jail.web.maxretry": "2"},
        DOCKERJAIL_JAILS__WEB__MODE="observe",
        DOCKERJAIL_DEFAULTS__VERIFY="conntrack",
    )
    assert [(jail.mode, jail.verify, jail.maxretry) for jail in chosen] == [
        (Mode.OBSERVE, Verify.CONNTRACK, 2)
    ]
    why = {"mode": "the daemon only observes here", "verify": "the daemon asks for conntrack here"}
    assert problems.split("\n") == [
        f"container shop-web-1, label dockerjail.jail.web.{option}: is passed over: {reason}, and a "
        f"label cannot take that back; write {option} for jail web in the daemon's file"
        for option, reason in why.items()
    ]


def test_a_label_may_repeat_what_holds(ask: Ask) -> None:
    assert ask({"jail.web.mode": "enforce", "jail.web.verify": "none"})[1] == ""


def test_recidive_is_named_by_a_label_like_any_shipped_jail(ask: Ask) -> None:
    chosen, problems = ask(
        {"jails": "web,recidive", "format": "json", "jail.recidive.maxretry": "2"}
    )
    assert problems == ""
    jail = chosen[1]
    assert (jail.name, jail.recidive, jail.origin) == ("recidive", True, Origin.SHIPPED)
    assert (jail.maxretry, jail.findtime, jail.bantime) == (2, 86400.0, 604800.0)
    assert jail.rule == NOTHING
    chosen, problems = ask({"jail.recidive.scope": "host"})
    assert [jail.scope for jail in chosen] == [ScopeKind.AUTO]
    assert "is passed over" in problems
    assert "2d is longer than a label may ask for" in ask({"jail.recidive.findtime": "2d"})[1]


def test_recidive_given_by_the_daemons_file_is_the_daemons(tmp_path: Path) -> None:
    path = tmp_path / "dockerjail.toml"
    path.write_text('[containers.c]\njails = ["recidive"]\n')
    chosen, problems = policies(Container(id="c", name="c", service="c"), load(path, {}))
    assert not problems
    assert [(jail.recidive, jail.origin) for jail in chosen] == [(True, Origin.DAEMON)]


@pytest.mark.parametrize("option", ["failregex", "filter", "where"])
def test_a_label_does_not_make_another_jail_of_recidive(ask: Ask, option: str) -> None:
    value = {"failregex": "^x <HOST>", "filter": "web", "where": "a=b"}[option]
    chosen, problems = ask({f"jail.recidive.{option}": value})
    assert chosen == ()
    assert problems == (
        f"container shop-web-1, label dockerjail.jail.recidive.{option}: jail recidive counts the "
        f"bans of other jails, and {option} is for one that reads lines; leave it out, or give the "
        "jail another name"
    )


def test_a_container_that_counts_bans_which_are_forgotten_is_told(ask: Ask) -> None:
    chosen, problems = ask({"jails": "recidive"}, DOCKERJAIL_STORE__KEEP="1h")
    assert len(chosen) == 1
    assert problems.startswith(
        "container shop-web-1, label dockerjail.jails: 1d is longer than bans are remembered: 1h"
    )
    _, problems = ask(
        {"jail.web.bantime.decay": "1y", "jail.web.bantime.increment": "true"},
    )
    assert "label dockerjail.jail.web.bantime.decay: 365d6h is longer than bans are" in problems
    assert ask({"jails": "recidive"})[1] == ""


# The same in fail2ban's files


def test_bans_grow_as_the_users_fail2ban_files_say(tmp_path: Path) -> None:
    known = theirs(
        tmp_path,
        """[DEFAULT]
bantime.increment = true
bantime.maxtime = 5w
[grows]
filter = own
bantime.multipliers = 1 5 30
[stays]
filter = own
bantime.increment = false
dockerjail.bantime.decay = 30d
dockerjail.mode = observe
dockerjail.ipv6_prefix = 56
""",
    )
    assert known.problems == ()
    weeks = 35 * 86400.0
    assert known.jails["grows"].growth == Growth(multipliers=(1.0, 5.0, 30.0), maxtime=weeks)
    stays = known.jails["stays"]
    assert (stays.growth, stays.mode, stays.ipv6_prefix) == (None, Mode.OBSERVE, 56)
    assert known.jails["sshd"].growth is None  # those of jail.local are for its own jails
    assert known.jails.remarks(known.jails["grows"]) == ((), ())
    labels = {"dockerjail.enable": "true", "dockerjail.jail.stays.bantime.increment": "true"}
    (jail,), _ = policies(Container(id="c", name="c", service="c", labels=labels), known)
    assert jail.growth == Growth(maxtime=weeks)


def test_the_daemons_file_has_fail2bans_jails_grow_where_no_file_of_theirs_speaks_of_it(
    tmp_path: Path,
) -> None:
    theirs(tmp_path, "[own]\nfilter = own\nbantime.factor = 2\nbantime = 1h\n")
    path = tmp_path / "dockerjail.toml"
    given = path.read_text() + "[defaults.bantime]\nincrement = true\nmaxtime = '1w'\n"
    path.write_text(given + "[jails.own]\n'bantime.rndtime' = 60\n")
    jail = load(path, {}).jails["own"]
    assert jail.growth == Growth(factor=2.0, maxtime=7 * 86400.0, rndtime=60.0)
    assert jail.bantime == 3600.0


def test_a_reject_of_the_defaults_holds_where_fail2bans_files_do_not_choose(tmp_path: Path) -> None:
    chosen = "banaction = iptables-multiport[blocktype=DROP]\naction = %(banaction)s\n"
    theirs(tmp_path, f"[a]\nfilter = own\n[b]\nfilter = own\n{chosen}")
    path = tmp_path / "dockerjail.toml"
    path.write_text(path.read_text() + "[defaults]\nblocktype = 'reject'\n")
    jails = load(path, {}).jails
    assert (jails["a"].blocktype, jails["b"].blocktype) == (Blocktype.REJECT, Blocktype.DROP)


STOCK_RECIDIVE = {
    "jail.conf": "[DEFAULT]\nenabled = false\nmaxretry = 5\n"
    "[recidive]\nlogpath = /var/log/fail2ban.log\nbantime = 1w\nfindtime = 1d\n"
    "filter = recidive\n",
    "filter.d/recidive.conf": "[Definition]\nfailregex = ^Ban <HOST>\n",
}


@pytest.mark.parametrize(
    ("jail_local", "host", "numbers"),
    [
        ("[own]\nenabled = true\n", False, (5, 86400.0, 604800.0)),
        ("[recidive]\nenabled = true\nmaxretry = 2\n", True, (2, 86400.0, 604800.0)),
        ("[recidive]\nbantime = 3w\n", False, (5, 86400.0, 3 * 604800.0)),
        ("[DEFAULT]\nenabled = true\nmaxretry = 7\nbantime = 1m\n", True, (7, 86400.0, 604800.0)),
    ],
)
def test_recidive_of_fail2bans_files_counts_for_the_host_where_fail2ban_would_run_it(
    tmp_path: Path, jail_local: str, host: bool, numbers: tuple[int, float, float]
) -> None:
    write(tmp_path / "f", STOCK_RECIDIVE)
    known = theirs(tmp_path, jail_local)
    assert known.problems == ()
    jail = known.jails["recidive"]
    assert jail.recidive
    assert jail.rule == NOTHING
    assert (jail.maxretry, jail.findtime, jail.bantime) == numbers
    expected = replace(jail, scope=ScopeKind.HOST, origin=Origin.DAEMON)
    assert known.recidive == (expected if host else None)
    assert "recidive" not in known.jails.enabled


def test_recidive_disabled_in_ones_own_fail2ban_files_runs_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "f", STOCK_RECIDIVE)
    known = theirs(tmp_path, "[recidive]\nenabled = false\n")
    assert known.recidive is None
    labels = {"dockerjail.enable": "true", "dockerjail.jails": "recidive"}
    chosen, (problem,) = policies(Container(id="c", name="c", service="c", labels=labels), known)
    assert not chosen
    assert "is disabled at" in problem.what


def test_a_recidive_of_fail2bans_files_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    known = theirs(tmp_path, "[recidive]\nenabled = true\nbantime = soon\n")
    assert known.recidive is None
    (problem,) = known.problems
    assert "jail.local line 3, [recidive] bantime: 'soon' is no duration" in problem.what


def test_the_daemons_recidive_lies_over_that_of_fail2bans_files(tmp_path: Path) -> None:
    write(tmp_path / "f", STOCK_RECIDIVE)
    theirs(tmp_path, "[recidive]\nmaxretry = 2\nbantime = 3w\n")
    path = tmp_path / "dockerjail.toml"
    path.write_text(path.read_text() + "[jails.recidive]\nmaxretry = 9\n")
    found = load(path, {}).recidive
    assert found is not None
    assert (found.maxretry, found.bantime, found.origin) == (9, 3 * 604800.0, Origin.DAEMON)


def test_names_and_files_whom_jail_local_lets_pass_no_jail_bans(tmp_path: Path) -> None:
    known = theirs(
        tmp_path,
        "[DEFAULT]\nignoreip = home.example file:/etc/friends\n"
        "[x]\nfilter = own\nignoreip = 192.0.2.1 office.example\n",
    )
    assert known.problems == ()
    everywhere = ("home.example", "file:/etc/friends")
    assert known.defaults.ignorefrom == everywhere
    assert known.jails["flask-login"].ignorefrom == everywhere
    assert known.jails["x"].ignorefrom == (*everywhere, "office.example")
    assert known.jails.remarks(known.jails["x"]) == ((), ())
