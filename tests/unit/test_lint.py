import re

import pytest

from dockerjail.config.filters import Shipped
from dockerjail.jail.address import address
from dockerjail.jail.filter import Filter
from dockerjail.jail.rule import Format, Rule, UseDns
from dockerjail.jail.tags import expand
from dockerjail.lint.example import examples
from dockerjail.lint.lint import Finding, Kind, lint
from dockerjail.lint.redos import explosion, fits, work
from dockerjail.lint.tree import Unknown, parse

GUILTY, INNOCENT = address("203.0.113.7"), address("198.51.100.1")

FOOLED = [
    r"user .*? from <HOST>",
    r"^login failed: (.+?) \(ip: <HOST>\)",
    r"user=\S*,ip=<HOST>,agent=\S*$",
    r'^Denied <F-USER>.*?</F-USER> from <ADDR>, agent "[^"]*"',
    r'^.*user .* from <HOST> agent ".*"$',
    r"^x (?:[^:]+: )*?from=<IP4>",
]
NOT_FOOLED = [
    r"^.*WARNING Failed login attempt for user: .* from IP: <HOST>",
    r"\bWARNING\b.*?\bFailed login attempt for user: <F-USER>.*</F-USER> from IP: <HOST>\s*$",
    r"^Invalid user \S+ from <HOST> port \d+$",
    r'^<ADDR> \S+ \S+ \[[^\]]*\] "(?:GET|POST) [^"]*" 40[13] ',
    r"^login failed: (.+) \(ip: <HOST>\)$",
    r"Failed login from <HOST>",
]
SLOW = [
    r"^(a+)+ <HOST>$",
    r"^(?:\w+\s?)+ from <HOST>$",
    r'^(?:[^"]+|x)*" <HOST>',
    r"^(?:a|ab|b)*c <HOST>",
    r"user .*.*.* from <HOST>",
    r"^(.*?,)+ip=<HOST>$",
    r"^.*a.*b.*c.*d <HOST>$",
]
QUICK = [
    *NOT_FOOLED,
    r"^(?:[a-z]+, )+ <HOST>$",
    r"^(?:\w+ )*from <HOST>$",
    r'^"(?:[^"\\]|\\.)*" <HOST>',
    r"^(?:a++)+ <HOST>",
    r"^(?>a+)+ <HOST>",
]


def found(regex: str, kind: Kind, **more: object) -> Finding | None:
    rule = Rule(failregex=(regex,), **more)  # type: ignore[arg-type]
    return next((each for each in lint(rule) if each.kind is kind), None)


@pytest.mark.parametrize("regex", FOOLED)
def test_a_regex_that_accuses_the_wrong_one_is_shown_the_line(regex: str) -> None:
    finding = found(regex, Kind.SPOOF)
    assert finding is not None
    hit = Filter(Rule(failregex=(regex,))).match(finding.line)
    assert hit is not None
    assert hit.address == INNOCENT
    assert "203.0.113.7" in finding.line


@pytest.mark.parametrize("regex", FOOLED[:4])
def test_a_safer_regex_is_not_fooled_by_that_line_nor_by_another(regex: str) -> None:
    finding = found(regex, Kind.SPOOF)
    assert finding is not None
    assert finding.safer
    hit = Filter(Rule(failregex=(finding.safer,))).match(finding.line)
    assert hit is None or hit.address == GUILTY
    assert found(finding.safer, Kind.SPOOF) is None


@pytest.mark.parametrize("regex", NOT_FOOLED)
def test_a_regex_that_keeps_to_the_right_one_is_left_in_peace(regex: str) -> None:
    assert lint(Rule(failregex=(regex,))) == ()


def test_what_a_line_begins_with_is_the_loggers_own() -> None:
    assert found(r"^.*?Failed login from <HOST>", Kind.SPOOF) is None


def test_a_line_that_another_failregex_or_an_ignoreregex_sees_to_is_no_finding() -> None:
    fooled = r"user .*? from <HOST>"
    assert found(fooled, Kind.SPOOF) is not None
    seen_to = Rule(failregex=(r"user .* from <HOST>", fooled))
    assert not [each for each in lint(seen_to) if each.kind is Kind.SPOOF]
    spared = Rule(failregex=(fooled,), ignoreregex=("from .* from",))
    assert not [each for each in lint(spared) if each.kind is Kind.SPOOF]


def test_a_regex_behind_a_prefregex_is_shown_whole_lines() -> None:
    rule = Rule(
        prefregex=r"^app\[\d+\]: <F-CONTENT>.+</F-CONTENT>$",
        failregex=(r"^user .*? from <ADDR>",),
    )
    finding = next(each for each in lint(rule) if each.kind is Kind.SPOOF)
    assert finding.line.startswith("app[")
    hit = Filter(rule).match(finding.line)
    assert hit is not None
    assert hit.address == INNOCENT


def test_a_regex_for_one_field_of_a_structured_line_is_tried_on_that_text() -> None:
    assert found(r"^user .*? from <HOST>", Kind.SPOOF, format=Format.JSON, field="msg")


def test_an_address_of_ip6_only_is_put_to_the_test_too() -> None:
    finding = found(r"^user .*? from <IP6>", Kind.SPOOF)
    assert finding is not None
    assert "2001:db8:bad::1" in finding.line


@pytest.mark.parametrize("regex", SLOW)
def test_a_regex_that_explodes_is_found_with_a_line_that_shows_it(regex: str) -> None:
    finding = found(regex, Kind.SLOW)
    assert finding is not None
    assert len(finding.line) < 300
    assert "busy" in finding.what


@pytest.mark.parametrize("regex", SLOW)
def test_the_work_of_an_exploding_regex_outgrows_its_line(regex: str) -> None:
    pattern = expand(regex).pattern
    worst = explosion(pattern)
    assert worst is not None
    short = work(pattern, worst.line(16), budget=10_000_000)
    longer = work(pattern, worst.line(64), budget=10_000_000)
    assert longer.over or longer.cost > 16 * short.cost


@pytest.mark.parametrize("regex", QUICK)
def test_a_regex_that_is_quick_enough_is_left_in_peace(regex: str) -> None:
    assert found(regex, Kind.SLOW) is None


@pytest.mark.parametrize("regex", SLOW[:2])
def test_a_quicker_regex_catches_the_same_lines(regex: str) -> None:
    finding = found(regex, Kind.SLOW)
    assert finding is not None
    assert finding.safer
    assert found(finding.safer, Kind.SLOW) is None
    old, new = re.compile(expand(regex).pattern), re.compile(expand(finding.safer).pattern)
    lines = [each.text for each in examples(expand(regex).pattern, address="203.0.113.7")]
    caught = [line for line in lines if old.search(line)]
    assert caught
    assert all(map(new.search, caught))


def test_a_slow_ignoreregex_or_prefregex_is_found_as_well() -> None:
    rule = Rule(
        prefregex=r"^(x+)+: <F-CONTENT>.+</F-CONTENT>$",
        failregex=("from <HOST>",),
        ignoreregex=(r"^(\d+)*!",),
    )
    slow = {each.where for each in lint(rule) if each.kind is Kind.SLOW}
    assert slow == {"prefregex", "ignoreregex 1"}


@pytest.mark.parametrize("regex", [*SLOW, *QUICK])
@pytest.mark.parametrize(
    "text",
    ["", "a a ab", "from 203.0.113.7", "aaaa 1.2.3.4\n", "x" * 12, 'x "y" ::1', "a,b,ip=::1"],
)
def test_the_counted_search_finds_what_re_finds(regex: str, text: str) -> None:
    pattern = expand(regex).pattern
    did = work(pattern, text, budget=50_000_000)
    assert did.over or did.found == (re.search(pattern, text) is not None)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(a)?(?(1)b|c)", "ab"),
        (r"(?<!x)y\b", "y"),
        (r"(\w+) \1$", "ab ab"),
        (r"a{2,3}?b", "aaab"),
        (r"(?:ab){1,2}+c", "ababc"),
        (r"(?i:ABC)", "xabc"),
        (r"(?m:^b$)", "a\nb\nc"),
        (r"[^\W\d]+\d*?$", "ab1"),
        (r"(?:x|xy)*?z", "xyxz"),
        (r"(?s:.)\Z", "\n"),
        (r"(?:a|b)*+c", "ababc"),
        (r"(?=ab)a", "ab"),
        (r"(?:)*x", "x"),
        (r"(?:a?)*b", "aab"),
        (r"(?:a?){2,3}b", "ab"),
        (r"(?:a?|c){2,}b", "b"),
        (r"(?:a?){3,4}?b", "ab"),
        (r"(?:a?){2,}+b", "b"),
    ],
)
def test_the_counted_search_knows_all_that_a_regex_can_say(pattern: str, text: str) -> None:
    for each in (text, "", text[1:], text + "!", "z" + text):
        assert work(pattern, each).found == (re.search(pattern, each) is not None), each


def test_whether_a_text_fits_is_about_all_of_it() -> None:
    assert fits(parse(r"[^,]*"), "a b")
    assert not fits(parse(r"[^,]*"), "a,b")
    assert not fits(parse(r"(a+)+b"), "a" * 60, budget=10_000)


def test_a_regex_that_cannot_be_taken_apart_is_said_to_be_so() -> None:
    with pytest.raises(Unknown):
        parse("(")


@pytest.mark.parametrize(
    ("regex", "word"),
    [
        (r"x ^from <HOST>", "^"),
        (r"<HOST>$ port", "$"),
        (r"from <HOST>\Z", r"\Z"),
        (r"(?:^from|to ^x|y) <HOST>", "alternative 2"),
        (r"(?P<dns>\S+) failed", "names"),
    ],
)
def test_what_can_never_match_is_said_to_be_so(regex: str, word: str) -> None:
    finding = found(regex, Kind.NEVER)
    assert finding is not None
    assert word in finding.what


@pytest.mark.parametrize(
    "regex",
    [
        r"^from <HOST>$",
        r"(?:^|x )from <HOST>",
        r"\s*^from <HOST>",
        r"from <HOST>\s*\Z",
        r"from <HOST>$\s*",
        r"from <HOST>(?: port \d+$|$)",
        r"(?:^from|to) <HOST>",
    ],
)
def test_anchors_in_their_place_are_left_in_peace(regex: str) -> None:
    assert found(regex, Kind.NEVER) is None


def test_the_right_anchor_is_offered_for_the_end() -> None:
    finding = found(r"from <HOST>\Z", Kind.NEVER)
    assert finding is not None
    assert finding.safer == "from <HOST>$"


def test_names_are_no_finding_where_they_are_looked_up() -> None:
    assert found(r"^(?P<dns>\S+) failed", Kind.NEVER, usedns=UseDns.YES) is None


def test_a_failregex_that_stands_there_twice_is_found() -> None:
    rule = Rule(failregex=("from <HOST>$", "by <HOST>$", "from <HOST>$"))
    (finding,) = lint(rule)
    assert (finding.kind, finding.where) == (Kind.NEVER, "failregex 3")
    assert "failregex 1" in finding.what


def test_an_ignoreregex_that_lets_every_line_pass_is_found() -> None:
    rule = Rule(failregex=("from <HOST>$",), ignoreregex=("from root", "x?"))
    (finding,) = lint(rule)
    assert (finding.kind, finding.where) == (Kind.NEVER, "ignoreregex 2")


def test_a_date_in_a_failregex_is_no_finding_since_the_whole_line_is_tried() -> None:
    assert found(r"^2020-01-01 00:00:00 <HOST>$", Kind.NEVER) is None


def test_a_blank_and_a_semicolon_are_found_where_fail2ban_reads_the_file() -> None:
    rule = Rule(failregex=(r"^denied ; from <HOST>$",))
    assert lint(rule) == ()
    (finding,) = lint(rule, fail2ban=True)
    assert finding.kind is Kind.CUT
    assert "'^denied'" in finding.what
    assert finding.safer == r"^denied [;] from <HOST>$"
    hit = Filter(Rule(failregex=(finding.safer,))).match("denied ; from 203.0.113.7")
    assert hit is not None


def test_a_rule_that_the_filter_refuses_is_not_linted() -> None:
    assert lint(Rule(failregex=("no address",))) == ()
    assert lint(Rule(failregex=("(<HOST>",))) == ()


def test_a_rule_without_a_regex_is_linted_without_a_word() -> None:
    assert lint(Rule(format=Format.JSON, address=("ip",))) == ()


SHIPPED = Shipped()


@pytest.mark.parametrize("name", SHIPPED)
def test_no_shipped_filter_can_be_fooled_or_stalled(name: str) -> None:
    assert lint(SHIPPED[name].rule) == ()
