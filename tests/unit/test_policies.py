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
from dockerjail.jail.policy import JailPolicy, Origin, ScopeKind
from dockerjail.jail.rule import Format
from dockerjail.model import Container, Port, Stream
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
    [("shop-web-1", "other", True), ("web", "shop-web", True), ("myshop-web", "web", False)],
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
    image = Container(id="a" * 64, name="dazzling_curie", service="shop-web")
    assert mapped(image) == []
    assert mapped(image, '[docker]\nlabels = "off"\n' + MAPPED) == []
    composed = Container(id="b" * 64, name="shop_web_1", service="shop-web")
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
