"""Structured lines: what is read of real logs, and what a stranger's text must not become."""

import json
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.docker.lines import LIMIT
from dockerjail.errors import FilterError
from dockerjail.jail import fields
from dockerjail.jail.fields import (
    LINE_BREAK,
    Reader,
    Seen,
    Selector,
    Trusted,
    levels,
    parse,
    requires,
    safe_pieces,
)
from dockerjail.jail.jail import LONGEST_LINE
from dockerjail.jail.logfmt import Twice
from dockerjail.jail.rule import Condition, Format, Rule

TRUE = "203.0.113.7"
EVIL = "198.51.100.1"


def where(**fields: str | tuple[str, ...]) -> tuple[Condition, ...]:
    return (
        tuple(
            (name.replace("__", "."), (values,) if isinstance(values, str) else values)
            for name, values in fields.items()
        ),
    )


def look(text: str | Mapping[str, Any], **rule: Any) -> Seen | None:
    line = text if isinstance(text, str) else json.dumps(text)
    return Reader(Rule(**rule)).look(line)


def who(text: str | Mapping[str, Any], **rule: Any) -> str | None:
    seen = look(text, **rule)
    assert seen is not None
    return None if seen.address is None else str(seen.address)


def why(text: str | Mapping[str, Any], **rule: Any) -> str:
    seen = look(text, **rule)
    assert seen is not None
    assert seen.address is None
    return seen.why


# Lines as real programs write them

CADDY = (
    '{"level":"info","ts":1646861401.5241024,"logger":"http.log.access","msg":"handled request",'
    '"request":{"remote_ip":"10.0.0.2","remote_port":"41342","client_ip":"203.0.113.7","proto":'
    '"HTTP/2.0","method":"GET","host":"example.com","uri":"/","headers":{"User-Agent":'
    '["curl/7.82.0"],"X-Forwarded-For":["198.51.100.1, 203.0.113.7"]},"tls":{"resumed":false}},'
    '"user_id":"bob","duration":0.000929675,"size":10900,"status":401,"resp_headers":{}}'
)
TRAEFIK = (
    '{"ClientAddr":"203.0.113.7:41694","ClientHost":"203.0.113.7","ClientPort":"41694",'
    '"ClientUsername":"-","DownstreamStatus":401,"Duration":176911,"RequestMethod":"GET",'
    '"RequestPath":"/","level":"info","msg":"","time":"2026-07-18T08:03:58Z"}'
)
PINO = (
    '{"level":40,"time":1531171074631,"pid":657,"hostname":"web","req":{"id":1,"method":"POST",'
    '"url":"/login","headers":{"host":"localhost:3000","x-forwarded-for":"203.0.113.7"},'
    '"remoteAddress":"::ffff:10.0.0.2","remotePort":51842},"res":{"statusCode":401},'
    '"msg":"request completed"}'
)
MONGO = (
    '{"t":{"$date":"2022-11-30T19:55:36.227+00:00"},"s":"I",  "c":"ACCESS",   "id":20249,   '
    '"ctx":"conn3","msg":"Authentication failed","attr":{"mechanism":"SCRAM-SHA-256",'
    '"principalName":"root","remote":"203.0.113.7:48328","extraInfo":{},"error":"UserNotFound: '
    'Could not find user \\"root\\" for db \\"admin\\""}}'
)
STRUCTLOG = '{"ip": "203.0.113.7", "event": "login_failed", "level": "warning", "user": "bob"}'
PYTHON = (
    '{"message": "login failed", "levelname": "WARNING", "remote": "203.0.113.7", "user": null}'
)
ZAP = (
    '{"level":"warn","ts":1.6e9,"caller":"a/b.go:7","msg":"bad login","peer":"[2001:db8::7]:4711"}'
)
ZEROLOG = '{"level":"warn","ip":"203.0.113.7","ok":false,"time":1516134303,"message":"bad login"}'
BUNYAN = (
    '{"name":"app","hostname":"h","pid":1,"level":40,"req":{"method":"GET","url":"/",'
    '"remoteAddress":"203.0.113.7"},"msg":"denied","time":"2012-02-03T19:02:46Z","v":0}'
)
SLOG = (
    '{"time":"2022-11-08T15:28:26.0-05:00","level":"WARN","msg":"denied",'
    '"request":{"remote":"203.0.113.7:1234"}}'
)
SERILOG = (
    '{"@t":"2016-06-07T03:44:57.8532799Z","@m":"Login of \\u0022bob\\u0022 failed","@i":"7a8b9c0d",'
    '"@l":"Warning","ClientIp":"203.0.113.7"}'
)
GELF = (
    '{"version":"1.1","host":"web","short_message":"login failed","level":4,'
    '"_client_ip":"203.0.113.7"}'
)
ECS = (
    '{"@timestamp":"2026-01-01T00:00:00Z","message":"login failed","event":{"outcome":"failure"},'
    '"client.address":"203.0.113.7","source":{"ip":"10.0.0.2"}}'
)
LOGRUS = 'time="2026-01-01T00:00:00Z" level=warning msg="login failed" remote="203.0.113.7:4711"'
GRAFANA = (
    "logger=context userId=0 orgId=0 uname= t=2025-07-17T13:08:42.281472211Z level=info "
    'msg="Request Completed" method=POST path=/login status=401 remote_addr=203.0.113.7 '
    'time_ms=15 referer="https://x/?orgId=1" errorMessageID=password-auth.failed '
    'error="failed to authenticate identity: [identity.not-found] no user found"'
)
SLOG_TEXT = (
    'time=2022-11-08T15:28:26.000-05:00 level=WARN msg="login failed" request.remote=203.0.113.7 '
    '"request.a b"="x ip=198.51.100.1"'
)
TRAEFIK_TEXT = 'time="2026-01-01T00:00:00Z" level=error msg="no such host" entryPointName=web'
HEROKU = 'at=info method=GET path="/?a=b" host=x.test fwd="203.0.113.7" status=401 bytes=0'


@pytest.mark.parametrize(
    ("line", "condition", "address", "text"),
    [
        (CADDY, where(status=("401", "403")), "request.client_ip", "handled request"),
        (TRAEFIK, where(DownstreamStatus="401"), "ClientAddr", None),
        (TRAEFIK, where(DownstreamStatus="401"), "ClientHost", None),
        (MONGO, where(msg="Authentication failed"), "attr.remote", "Authentication failed"),
        (MONGO, where(attr__error="UserNotFound: *"), "attr.remote", "Authentication failed"),
        (STRUCTLOG, where(event="login_failed"), "ip", "login_failed"),
        (PYTHON, where(user="null"), "remote", "login failed"),
        (ZEROLOG, where(ok="false"), "ip", "bad login"),
        (BUNYAN, where(level="40"), "req.remoteAddress", "denied"),
        (SLOG, where(level="WARN"), "request.remote", "denied"),
        (SERILOG, where(**{"@l": "Warning"}), "ClientIp", 'Login of "bob" failed'),
        (GELF, where(level="4"), "_client_ip", "login failed"),
        (ECS, where(event__outcome="failure"), "client.address", "login failed"),
        (LOGRUS, where(level="warning"), "remote", "login failed"),
        (GRAFANA, where(errorMessageID="*auth*"), "remote_addr", "Request Completed"),
        (HEROKU, where(status="401"), "fwd", None),
    ],
)
def test_the_logs_of_real_programs_are_read(
    line: str, condition: tuple[Condition, ...], address: str, text: str | None
) -> None:
    seen = look(line, where=condition, address=(address,))
    assert seen == Seen(text, ip_address(TRUE), "", "")


def test_an_ipv6_peer_with_a_port_is_read() -> None:
    assert who(ZAP, where=where(level="warn"), address=("peer",)) == "2001:db8::7"


def test_slogs_groups_are_found_by_their_path_and_its_quoted_keys_are_keys() -> None:
    assert who(SLOG_TEXT, address=("request.remote",)) == TRUE
    assert look(SLOG_TEXT, where=where(**{"request.a b": "x ip=*"})) is not None
    assert why(SLOG_TEXT, address=("ip",)) == "the line has no ip"


def test_a_plain_logfmt_line_of_traefik_is_read() -> None:
    assert parse(TRAEFIK_TEXT) == {
        "time": "2026-01-01T00:00:00Z",
        "level": "error",
        "msg": "no such host",
        "entryPointName": "web",
    }


# What is structured, and what is not


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "plain text",
        "login failed user=bob ip=203.0.113.7",
        "user=bob logged in from 203.0.113.7",
        'user=x status=401 msg=" logged in',
        'a="b"c=d',
        'a=b"c',
        'a="b',
        "=b",
        "a=b =c",
        '"a"',
        '{"a":1',
        '{"a":1} trailing',
        'prefix {"a":1}',
        "[1]",
        "{'a':1}",
        '{"a":"\\x22"}',
        "{a=b}",
        'a="\\q"',
        'a="\\x41"',
        'a="\\U00000041"',
        'a="\\U00110000"',
    ],
)
def test_what_is_not_wholly_structured_is_text(text: str) -> None:
    assert parse(text) is None


def test_a_rule_for_text_looks_into_nothing() -> None:
    assert parse('{"a":1}', Format.TEXT) is None


def test_a_rule_for_json_does_not_take_logfmt_nor_the_other_way_round() -> None:
    assert parse("a=b", Format.JSON) is None
    assert parse('{"a":"b"}', Format.LOGFMT) is None


def test_words_alone_are_flags_if_the_log_is_said_to_be_logfmt() -> None:
    assert parse("a=b debug c=d", Format.LOGFMT) == {"a": "b", "debug": True, "c": "d"}
    assert parse("a=b debug c=d") is None
    assert parse("debug a=b", Format.LOGFMT) is None


def test_logfmt_values_are_unescaped_as_go_and_json_write_them() -> None:
    line = r'a="x\"y\\z\n\t" b="é\u00e9\U0001f600\ud83d\ude00" c= d="" "e f"=g h="\xff\x00"'
    assert parse(line) == {
        "a": 'x"y\\z\n\t',
        "b": "éé😀😀",
        "c": "",
        "d": "",
        "e f": "g",
        "h": "\ufffd\0",
    }


def test_only_ascii_blanks_part_the_words_of_logfmt() -> None:
    assert parse("user=x\u00a0ip=198.51.100.1 ip=203.0.113.7") == {
        "user": "x\u00a0ip=198.51.100.1",
        "ip": "203.0.113.7",
    }


def test_single_quotes_are_letters_in_logfmt() -> None:
    assert parse("user='x ip=203.0.113.7 agent=y'") == {
        "user": "'x",
        "ip": "203.0.113.7",
        "agent": "y'",
    }


def test_numbers_are_as_written_and_never_too_big() -> None:
    digits = "9" * 20_000
    assert parse(f'{{"a":{digits},"b":401.0,"c":NaN}}') == {"a": digits, "b": "401.0", "c": "NaN"}


@pytest.mark.parametrize(
    "text",
    ['{"a":' * 10_000, '{"a":' * 9_000 + "1" + "}" * 9_000, '{"a":' + "[" * 60_000],
)
def test_deep_nesting_is_text(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("depth", [10, 300, 900, 2000])
def test_deep_objects_written_twice_do_not_raise(depth: int) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    line = f'{{"b":{deep},"b":{deep},"ip":"{TRUE}"}}'
    assert look(line, address=("ip",)) in (None, Seen(None, ip_address(TRUE), "", ""))


def test_a_line_of_ten_megabytes_is_text() -> None:
    assert parse('{"a":"%s"}' % ("x" * 10_000_000)) is None


def _cut(text: str) -> str:
    half = LONGEST_LINE // 2
    return f"{text[:half]}\ufffd{text[-half:]}"


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_that_was_cut_is_text_even_if_its_ends_fit(end: str) -> None:
    padded = json.dumps({"path": "x" * 20_000, "ip": TRUE, "agent": "y" * 20_000})
    assert json.loads(_cut(padded))  # the address is gone, and nothing looks wrong
    assert parse(_cut(padded) + end) is None
    assert parse("a=" + "x" * 20_000 + " b=c")
    assert parse(_cut("a=" + "x" * 20_000 + " b=c") + end) is None


def test_a_long_line_that_was_not_cut_is_read() -> None:
    assert parse('{"a":"%s","ip":"x"}' % ("\ufffd" * 17_000)) is None
    assert who('{"a":"%s","ip":"203.0.113.7"}' % ("x" * 40_000), address=("ip",)) == TRUE


@pytest.mark.parametrize("envelope", [False, True])
def test_who_sends_what_stands_for_a_cut_is_read_all_the_same(envelope: bool) -> None:
    """A name of nothing but U+FFFD has one in the middle of the line, wherever that is."""
    line = '{"user":"%s","ip":"203.0.113.7"}' % ("\ufffd" * 17_000)
    if envelope:
        line = json.dumps({"log": line, "stream": "stdout"}, ensure_ascii=False)
    assert who(line, address=("ip",)) == TRUE


def test_a_line_that_may_have_lost_its_end_is_text() -> None:
    line = ("a=" + "é" * LIMIT + " ip=203.0.113.77").encode()[:LIMIT].decode(errors="replace")
    assert parse(line) is None
    line = "a=" + "x" * (LIMIT - 17) + " ip=203.0.113.77"
    assert parse(line[:LIMIT]) is None


def test_the_limits_are_those_of_who_cuts() -> None:
    assert fields.CUT_FROM == LONGEST_LINE
    assert fields.LONGEST < LIMIT


# Keys written twice


@pytest.mark.parametrize(
    "line",
    [
        '{"ip":"203.0.113.7","user":"x","ip":"198.51.100.1"}',
        "ip=203.0.113.7 user=x ip=198.51.100.1",
    ],
)
def test_an_address_written_twice_accuses_nobody(line: str) -> None:
    assert why(line, address=("ip",)) == "ip is written twice"


@pytest.mark.parametrize("line", ['{"a":"x","a":"y","b":"z"}', "a=x a=y b=z"])
def test_a_key_written_twice_has_no_text_but_fulfils_a_condition(line: str) -> None:
    assert parse(line) == {"a": Twice(("x", "y")), "b": "z"}
    assert look(line, where=where(a="y"), field="a", user="a") == Seen(None, None, "", "")


@pytest.mark.parametrize("line", ['{"a":"x","a":"x"}', "a=x a=x"])
def test_a_key_written_twice_alike_is_no_matter(line: str) -> None:
    assert parse(line) == {"a": "x"}


# Selectors


@pytest.mark.parametrize(
    ("line", "selector"),
    [
        ({"a": {"b": {"c": "x"}}}, "a.b.c"),
        ({"a.b.c": "x"}, "a.b.c"),
        ({"a.b": {"c": "x"}}, "a.b.c"),
        ({"a": {"b.c": "x"}}, "a.b.c"),
        ({"a": 1, "a.b": {"d": 1}, "a.b.c": "x"}, "a.b.c"),
        ({"a.b": {"d": 1}, "a": {"b": {"c": "x"}}}, "a.b.c"),
        ({"a": ["y", "x"]}, "a.1"),
        ({"a": ["y", "x"]}, "a.-1"),
        ({"a": ["x", "y"]}, "a.-2"),
        ({"a": [{"b": "x"}]}, "a.0.b"),
        ({"a": {"0": "x"}}, "a.0"),
        ({"a": '{"b": "x"}'}, "a.b"),
        ({"a": '{"b": "{\\"c\\": \\"x\\"}"}'}, "a.b.c"),
    ],
)
def test_a_selector_finds_its_field(line: Mapping[str, Any], selector: str) -> None:
    seen = look(line, where=where(**{selector: "x"}))
    assert seen is not None


@pytest.mark.parametrize(
    ("line", "selector"),
    [
        ({"a": ["x"]}, "a.1"),
        ({"a": ["x"]}, "a.-2"),
        ({"a": ["x"]}, "a.b"),
        ({"a": "x"}, "a.b"),
        ({"a": "x"}, "A"),
        ({"a": '{"b": "x"'}, "a.b"),
        ({"a": "[1]"}, "a.0"),
        ({"a": json.dumps({"b": json.dumps({"c": json.dumps({"d": "x"})})})}, "a.b.c.d"),
    ],
)
def test_a_selector_finds_nothing_else(line: Mapping[str, Any], selector: str) -> None:
    assert look(line, where=where(**{selector: "*"})) is None


def test_a_header_named_like_a_list_index_does_not_take_the_place_of_a_header() -> None:
    headers = {"X-Real-Ip.0": EVIL, "X-Real-Ip": [TRUE]}
    assert who({"request": {"headers": headers}}, address=("request.headers.X-Real-Ip.0",)) == TRUE


# JSON in JSON


def _docker(text: str, **more: str) -> Mapping[str, str]:
    return {"log": text + "\n", "stream": "stdout", "time": "2026-01-01T00:00:00Z", **more}


@pytest.mark.parametrize("line", [STRUCTLOG, "event=login_failed ip=203.0.113.7 user=bob"])
def test_a_line_in_an_envelope_is_read(line: str) -> None:
    seen = look(_docker(line), where=where(event="login_failed"), address=("ip",), user="user")
    assert seen == Seen("login_failed", ip_address(TRUE), "", "bob")


def test_envelopes_within_envelopes_are_opened_three_deep_in_all() -> None:
    two = _docker(json.dumps(_docker(STRUCTLOG)))
    assert look(two, where=where(event="login_failed")) is not None
    assert look(_docker(json.dumps(two)), where=where(event="login_failed")) is None
    assert len(levels(_docker(json.dumps(two)))) == fields.LEVELS


def test_the_text_in_an_envelope_is_its_line_without_the_line_end() -> None:
    assert look(_docker("Failed login from 203.0.113.7")) == Seen(
        "Failed login from 203.0.113.7", None, "", ""
    )


def test_a_strangers_json_in_a_message_is_not_read_as_the_applications() -> None:
    said = json.dumps({"event": "login_failed", "ip": EVIL})
    for line in ({"message": said}, {"level": "info", "msg": said}, {"log": said, "level": 30}):
        assert look(line, where=where(event="login_failed"), address=("ip",)) is None
    assert who({"ip": TRUE, "message": said}, address=("ip",)) == TRUE


def test_what_an_envelope_says_itself_comes_first() -> None:
    line = _docker(json.dumps({"time": "never", "stream": "x"}))
    assert look(line, where=where(stream="x")) is None


def test_json_in_a_message_is_read_when_the_selector_says_so() -> None:
    line = {"level": "info", "msg": json.dumps({"ip": TRUE})}
    assert who(line, address=("msg.ip",)) == TRUE


# Conditions


@pytest.mark.parametrize(
    ("value", "alternative"),
    [
        (401, "401"),
        (-1.5, "-1.5"),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        ("", ""),
        ("x", "x"),
        (["y", "x"], "x"),
        (["y", 401], "401"),
        ("login failed", "login*"),
        ("login failed", "*failed"),
        ("login failed", "l*g*n*d"),
        ("login failed", "*"),
        ("", "*"),
        ({}, "*"),
        ([], "*"),
        ("aXbXc", "a*b*c"),
        ("ab", "a*b"),
        (401, "4*"),
    ],
)
def test_a_condition_holds(value: Any, alternative: str) -> None:
    assert look({"a": value}, where=where(a=alternative)) is not None


@pytest.mark.parametrize(
    ("value", "alternative"),
    [
        (401, "40"),
        ("X", "x"),
        ("x ", "x"),
        (["y"], "x"),
        ([["x"]], "x"),
        ({"x": 1}, "x"),
        ("a", "a*a"),
        ("aba", "a*b*ba"),
        ("x[y]", "x[xy]"),
        ("xy", "x?"),
        (True, "True"),
        ("nullx", "null"),
    ],
)
def test_a_condition_does_not_hold(value: Any, alternative: str) -> None:
    assert look({"a": value}, where=where(a=alternative)) is None


def test_all_pairs_of_one_condition_must_hold_and_one_condition_is_enough() -> None:
    both = where(a="x", b=("y", "z"))
    assert look({"a": "x", "b": "z"}, where=both) is not None
    assert look({"a": "x"}, where=both) is None
    assert look({"a": "x"}, where=both + where(a="x")) is not None


def test_without_conditions_every_structured_line_counts() -> None:
    assert look({}) == Seen(None, None, "", "")
    assert look("text") is None


def test_a_value_cannot_make_a_pattern_slow() -> None:
    pattern = "*a" * 30 + "*b"
    assert look({"a": "a" * 60_000}, where=where(a=pattern)) is None


# Whose it is

CHAIN = ("xff", "remote")
PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:a::/48"))


@pytest.mark.parametrize(
    "written",
    [
        "203.0.113.7",
        "203.0.113.7:4711",
        "[203.0.113.7]:4711",
        "/203.0.113.7:4711",
        "::ffff:203.0.113.7",
        "[::ffff:203.0.113.7]:1",
        " 203.0.113.7 ",
        '"203.0.113.7"',
        "198.51.100.1, 203.0.113.7",
        "198.51.100.1,203.0.113.7,",
        ["198.51.100.1", "203.0.113.7"],
        ["198.51.100.1, 203.0.113.7"],
        "for=203.0.113.7",
        'For="203.0.113.7:4711";proto=https;by=10.0.0.1',
        'for=198.51.100.1, by=10.0.0.1; for="203.0.113.7" ;host="a.test"',
        'for="[::ffff:203.0.113.7]:4711"',
    ],
)
def test_an_address_is_read_in_every_form(written: Any) -> None:
    assert who({"remote": written}, address=("remote",)) == TRUE


@pytest.mark.parametrize(
    "written",
    ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:4711", "[2001:db8::1%eth0]:1", "2001:db8::1%2"],
)
def test_an_ipv6_address_is_read_in_every_form(written: str) -> None:
    assert who({"remote": written}, address=("remote",)) == "2001:db8::1"


@pytest.mark.parametrize(
    "written",
    [
        "unknown",
        "-",
        "_hidden",
        "evil.test",
        "999.1.2.3",
        "203.0.113.7.evil.test",
        "198.51.100.1, unknown",
        "198.51.100.1, for=203.0.113.7.evil",
        "198.51.100.1, by=10.0.0.1",
        "for=198.51.100.1;for=203.0.113.7",
        "for=unknown",
        'for=198.51.100.1"',
        '198.51.100.1;x="',
        "[198.51.100.1",
        7,
        True,
        {"ip": "198.51.100.1"},
        ["198.51.100.1", {"ip": "198.51.100.1"}],
        ["198.51.100.1", ["198.51.100.1"]],
        "\ud800",
    ],
)
def test_what_is_no_address_stops_the_search(written: Any) -> None:
    assert "is no address" in why({"remote": written}, address=("remote",))


@pytest.mark.parametrize("written", [None, "", " , ", []])
def test_an_empty_address_is_as_good_as_none(written: Any) -> None:
    assert why({"remote": written}, address=("remote",)) == "the line has no remote"


def test_without_trusted_proxies_the_nearest_is_the_client() -> None:
    assert who({"xff": EVIL, "remote": TRUE}, address=CHAIN) == TRUE


def test_trusted_proxies_are_passed_from_the_right() -> None:
    line = {"xff": f"{EVIL}, {TRUE}, 2001:db8:a::1", "remote": "10.0.0.2"}
    assert who(line, address=CHAIN, trusted_proxies=PROXIES) == TRUE


def test_a_forged_chain_before_a_stranger_is_not_read() -> None:
    line = {"xff": EVIL, "remote": TRUE}
    assert who(line, address=CHAIN, trusted_proxies=PROXIES) == TRUE


def test_only_trusted_proxies_are_nobody() -> None:
    line = {"xff": "10.1.1.1", "remote": "10.0.0.2"}
    assert "trusted proxy" in why(line, address=CHAIN, trusted_proxies=PROXIES)
    assert "trusted proxy" in why({"remote": "10.0.0.2"}, address=CHAIN, trusted_proxies=PROXIES)


def test_without_the_nearest_proxy_the_rest_is_not_believed() -> None:
    assert why({"xff": EVIL}, address=CHAIN) == "the line has no remote"


def test_an_open_quote_in_a_forged_header_hides_nobody_behind_it() -> None:
    forged = 'for=198.51.100.1;x="'
    assert who({"f": f"{forged}, for=203.0.113.7"}, address=("f",)) == TRUE
    assert who({"f": f'{forged}, for="[2001:db8::1]"'}, address=("f",)) == "2001:db8::1"


def test_a_forged_host_in_a_forwarded_header_accuses_nobody() -> None:
    line = {"f": 'for=203.0.113.7;host="a, for=198.51.100.1"'}
    assert "no address" in why(line, address=("f",))


def test_an_ipv4_proxy_is_trusted_when_it_is_written_as_ipv6() -> None:
    assert who({"xff": TRUE, "remote": "::ffff:10.0.0.2"}, address=CHAIN, trusted_proxies=PROXIES)


def test_pinos_proxy_chain_is_followed() -> None:
    address = ("req.headers.x-forwarded-for", "req.remoteAddress")
    assert who(PINO, address=address, trusted_proxies=PROXIES) == TRUE


def test_caddys_header_lists_are_followed() -> None:
    address = ("request.headers.X-Forwarded-For", "request.remote_ip")
    assert who(CADDY, address=address, trusted_proxies=PROXIES) == TRUE


def test_a_trusted_network_is_not_all_addresses_of_its_bits() -> None:
    trusted = Trusted((ip_network("10.0.0.0/8"), ip_network("::/0")))
    assert ip_address("10.255.0.1") in trusted
    assert ip_address("11.0.0.1") not in trusted
    assert ip_address("2001:db8::1") in trusted


# Texts


def test_the_first_usual_field_with_a_text_is_the_message() -> None:
    assert look({"text": "t", "msg": "m"}) == Seen("m", None, "", "")
    assert look({"event": {"a": 1}, "msg": "", "log": 7, "MESSAGE": "M"}) == Seen("M", None, "", "")
    assert look({"a": "b"}) == Seen(None, None, "", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (7, "7"),
        (True, "true"),
        (["x"], "x"),
        (None, None),
        ({}, None),
        (["x", "y"], None),
    ],
)
def test_the_field_that_a_rule_names_is_the_message(value: Any, text: str | None) -> None:
    assert look({"msg": "m", "a": value}, field="a") == Seen(text, None, "", "")


def test_a_rule_may_name_a_field_that_is_not_there() -> None:
    assert look({"msg": "m"}, field="a") == Seen(None, None, "", "")


def test_a_line_break_in_a_text_begins_no_line() -> None:
    seen = look({"msg": "login of x\nlogin of y failed from 198.51.100.1\n"})
    assert seen is not None
    assert seen.text == f"login of x{LINE_BREAK}login of y failed from 198.51.100.1"


def test_half_a_surrogate_pair_is_replaced() -> None:
    seen = look('{"msg":"a\\ud800b","user":"\\udfff"}', user="user")
    assert seen == Seen("a\ufffdb", None, "", "\ufffd")


def test_a_users_name_is_bounded() -> None:
    seen = look({"user": "x" * 5000}, user="user")
    assert seen is not None
    assert len(seen.user) == 256


# What is wrong with a rule


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"address": ("",)}, "address has an empty selector"),
        ({"where": ((("", ("x",)),),)}, "where has an empty selector"),
        ({"where": ((("a", ()),),)}, "where a has no values"),
    ],
)
def test_a_rule_that_says_nothing_is_refused_with_a_remedy(rule: dict[str, Any], says: str) -> None:
    with pytest.raises(FilterError, match=says):
        Reader(Rule(**rule))


# What a line must contain


@pytest.mark.parametrize(
    ("conditions", "literals"),
    [
        ((), ()),
        (where(event="login_failed"), (b"login_failed",)),
        (where(status=("401", "403")), (b"401", b"403")),
        (where(level="info", event="login_failed"), (b"login_failed",)),
        (where(uri="/api/login*", status="401"), (b"login",)),
        (where(ok="true"), (b"ok",)),
        (where(flag="t*"), (b"flag",)),
        (where(req__user="*"), (b"user",)),
        (where(items__0="*"), (b"items",)),
        (where(event="a<b&c"), (b"event",)),
        (where(event="é"), (b"event",)),
        (where(é="é"), ()),
        (where(a="x1") + where(b="y2"), (b"x1", b"y2")),
        (where(a="x1") + where(é="é"), ()),
        (where(a="login") + where(b="login failed"), (b"login",)),
        (where(a=("login", "é")), ()),
        (where(name=("login", "é")), (b"name",)),
    ],
)
def test_what_a_rule_requires_in_the_bytes(
    conditions: tuple[Condition, ...], literals: tuple[bytes, ...]
) -> None:
    assert requires(Rule(where=conditions, address=("ip",))) == literals


def test_the_pieces_of_a_literal_that_no_encoder_changes() -> None:
    assert safe_pieces(b'user "bob" failed, <x>/login') == (
        b" failed, ",
        b"user ",
        b"login",
        b"bob",
    )
    assert safe_pieces("é".encode()) == ()


KEYS = st.sampled_from(["a", "bc", "user", "log", "msg", "message", "x.y", "é", "a b", "0"])
WORDS = st.sampled_from(
    [
        "",
        "a",
        "login",
        "login failed",
        "true",
        "null",
        "401",
        "a/b",
        "é",
        'q"q',
        "a*",
        "*",
        "<b>",
        "-_",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | WORDS | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3).map(json.dumps)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)
PAIRS = st.tuples(
    st.lists(KEYS, min_size=1, max_size=3).map(".".join),
    st.lists(WORDS, min_size=1, max_size=3).map(tuple),
)
RULES = st.builds(
    Rule,
    where=st.lists(st.lists(PAIRS, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3).map(
        tuple
    ),
    address=st.sampled_from([(), ("a",), ("x.y", "user")]),
    format=st.sampled_from([Format.AUTO, Format.JSON, Format.LOGFMT]),
)


@st.composite
def lines_and_rules(draw: st.DrawFn) -> tuple[dict[str, Any], Rule]:
    """Draw an object, and a rule whose conditions have something of it in them."""
    value = draw(OBJECTS)
    conditions = list(draw(RULES).where)
    for _ in range(draw(st.integers(1, 2))):
        pairs = []
        for _ in range(draw(st.integers(1, 2))):
            path: list[str | int] = []
            at: Any = value
            while isinstance(at, dict | list) and at:
                keys = sorted(at) if isinstance(at, dict) else list(range(len(at)))
                path.append(key := draw(st.sampled_from(keys)))
                at = at[key]
                if isinstance(at, str) and at.startswith("{"):
                    at = json.loads(at)
            text = at if isinstance(at, str) else json.dumps(at)
            cut = draw(st.integers(0, len(text)))
            text = draw(st.sampled_from([text, f"{text[:cut]}*", f"*{text[cut:]}"]))
            others = draw(st.lists(WORDS, max_size=1))
            pairs.append((".".join(map(str, path)) or "a", (text, *others)))
        conditions.insert(0, tuple(pairs))
    return value, Rule(where=tuple(conditions))


STYLES: list[Callable[[Any], str]] = [
    json.dumps,
    lambda value: json.dumps(value, ensure_ascii=False),
    lambda value: json.dumps(value, separators=(",", ":")),
    lambda value: json.dumps({"stream": "stdout", "log": json.dumps(value)}),
    lambda value: json.dumps(value).replace("/", "\\/").replace("<", "\\u003c"),
    lambda value: (
        " ".join(
            f"{key.replace(' ', '_')}={json.dumps(str(each), ensure_ascii=False)}"
            for key, each in value.items()
        )
        + " flag"
    ),
]


@given(lines_and_rules(), st.sampled_from(STYLES))
def test_no_line_that_is_accepted_is_held_back(
    drawn: tuple[dict[str, Any], Rule], style: Callable[[Any], str]
) -> None:
    value, rule = drawn
    line = style(value)
    data = line.encode("utf-8", "surrogatepass")
    required = requires(rule)
    if Reader(rule).look(line) is not None and b"\\u00" not in data:
        assert not required or any(literal in data for literal in required)


@given(st.text(), st.sampled_from(STYLES))
def test_a_safe_piece_of_a_text_stands_in_every_encoding(
    text: str, style: Callable[[Any], str]
) -> None:
    data = style({"a": text}).encode("utf-8", "surrogatepass")
    for piece in safe_pieces(text.encode("utf-8", "replace")):
        assert piece in data


@given(
    st.text()
    | OBJECTS.map(json.dumps)
    | st.lists(st.sampled_from(["a=", '"', "\\", " ", "x", "=", "{", "}", "\\u", "d800", ":"])).map(
        "".join
    ),
    RULES,
)
def test_no_text_raises(text: str, rule: Rule) -> None:
    seen = Reader(rule).look(text)
    if seen is not None and seen.text is not None:
        seen.text.encode()
    for format in Format:
        parse(text, format)


@given(st.text() | VALUES, st.text(max_size=6))
def test_no_address_raises(value: Any, text: str) -> None:
    line = {"xff": text, "remote": value}
    Reader(Rule(address=CHAIN, trusted_proxies=PROXIES)).look(json.dumps(line))


@given(st.dictionaries(st.from_regex(r"[a-z.@]+", fullmatch=True), st.text()))
def test_what_a_logfmt_encoder_quotes_is_read_back(pairs: dict[str, str]) -> None:
    line = " ".join(
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in pairs.items()
    )
    assert parse(line) == (pairs or None)


@given(st.text(), st.booleans())
def test_a_strangers_text_in_a_quoted_value_adds_no_pair(text: str, ascii: bool) -> None:
    line = f"user={json.dumps(text, ensure_ascii=ascii)} ip={TRUE}"
    assert parse(line) == {"user": text, "ip": TRUE}


def test_a_selector_names_what_stands_in_the_line() -> None:
    assert Selector("a.b.-1").name == "b"
    assert Selector("0").name == ""
