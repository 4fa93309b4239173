"""fail2ban's tag language, what a filter finds, and what it says of a bad regex."""

from ipaddress import ip_address, ip_network

import pytest

from dockerjail.errors import FilterError
from dockerjail.jail.filter import Filter
from dockerjail.jail.memory import Memory
from dockerjail.jail.rule import Rule

SEED = r"^.*WARNING Failed login attempt for user: .* from IP: <HOST>"
LINE = "2023-10-27 14:38:22,557 WARNING Failed login attempt for user: {} from IP: {}"


def who(regex: str, line: str) -> str | None:
    hit = Filter(Rule(failregex=(regex,))).match(line)
    return None if hit is None or hit.address is None else str(hit.address)


def refused(regex: str, line: str) -> str:
    hit = Filter(Rule(failregex=(regex,))).match(line)
    assert hit is not None
    assert hit.address is None
    return hit.why


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("[203.0.113.7]", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:DB8:0:0::7]:443", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:203.0.113.7", "203.0.113.7"),
        ("0:0:0:0:0:ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        ("203.0.113.7:54321", "203.0.113.7"),
        ("203.0.113.7, port 22", "203.0.113.7"),
        ("203.0.113.7. Bye", "203.0.113.7"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
    ],
)
def test_an_address_is_read_in_every_form(written: str, meant: str) -> None:
    assert who(SEED, LINE.format("admin", written)) == meant


@pytest.mark.parametrize("written", ["999.1.2.3", "192.030.0.6", "256.1.1.1", "1:2:3::4:5:6:7:8:9"])
def test_what_looks_like_an_address_and_is_none_is_a_miss(written: str) -> None:
    assert "no address" in refused(SEED, LINE.format("admin", written))


def test_a_name_is_a_miss_and_is_not_resolved() -> None:
    assert "not resolved" in refused(SEED, LINE.format("admin", "evil.test"))


def test_the_last_address_counts_when_the_user_name_contains_another() -> None:
    assert who(SEED, LINE.format("x from IP: 198.51.100.1", "203.0.113.7")) == "203.0.113.7"


@pytest.mark.parametrize("client", ["evil.test", "203.0.113.7.evil.test", "999.9.9.9", "unknown"])
def test_a_client_without_an_address_cannot_have_another_banned(client: str) -> None:
    assert who(SEED, LINE.format("x from IP: 198.51.100.1", client)) is None


def test_an_address_is_taken_whole_behind_a_greedy_gap() -> None:
    assert who("^.*<HOST>", "from 203.0.113.7") == "203.0.113.7"
    assert who("^.*<HOST>", "from 2001:db8::77") == "2001:db8::77"
    assert who("^.*<ADDR>", "source:2001:db8::77") == "2001:db8::77"


def test_an_address_with_a_port_leaves_the_port_to_the_regex() -> None:
    assert who(r"from <HOST>:\d+ ", "from 203.0.113.7:80 x") == "203.0.113.7"
    assert who(r"from <HOST>:\d+ ", "from 2001:db8::7:8080 x") == "2001:db8::7"


@pytest.mark.parametrize(
    ("regex", "line", "meant"),
    [
        ("from <IP4>", "from 203.0.113.7", "203.0.113.7"),
        ("from <IP4>", "from 2001:db8::7", None),
        ("from <IP6>", "from 2001:db8::7", "2001:db8::7"),
        ("from <IP6>", "from 203.0.113.7", None),
        ("from <ADDR>", "from evil.test", None),
        ("from <F-IP4/>", "from 203.0.113.7", "203.0.113.7"),
        ("from <F-IP6/>", "from 2001:db8::7", "2001:db8::7"),
        ("from <F-ADDR/>", "from [2001:db8::7]", "2001:db8::7"),
        ("from <IP4>/<CIDR>", "from 203.0.113.7/24", "203.0.113.0/24"),
        ("from <SUBNET>", "from 203.0.113.7/24", "203.0.113.0/24"),
        ("from <SUBNET>", "from 203.0.113.7", "203.0.113.7"),
        ("from <F-SUBNET/>", "from [2001:db8::7]/64", "2001:db8::/64"),
        ("client <F-ID/> failed", "client 203.0.113.7 failed", "203.0.113.7"),
        ("<F-ID>[0-9.]+</F-ID> for <HOST>", "203.0.113.7 for 198.51.100.1", "203.0.113.7"),
        ("<F-ID>[a-z]+</F-ID> for <HOST>", "bob for 198.51.100.1", "198.51.100.1"),
        (r"from (?P<host>\S+)", "from ::ffff:203.0.113.7", "203.0.113.7"),
        (r"from (?P<host>\S+)", "from evil.test", None),
    ],
)
def test_each_tag_finds_what_it_stands_for(regex: str, line: str, meant: str | None) -> None:
    assert who(regex, line) == meant


def test_one_line_cannot_accuse_half_the_internet() -> None:
    assert "wider" in refused("from <SUBNET>", "from 128.0.0.0/1")
    assert "wider" in refused("from <SUBNET>", "from ::/0")


def test_networks_and_addresses_have_their_own_types() -> None:
    hit = Filter(Rule(failregex=("from <SUBNET>",))).match("from 203.0.113.7/24")
    assert hit is not None
    assert hit.address == ip_network("203.0.113.0/24")
    hit = Filter(Rule(failregex=("from <SUBNET>",))).match("from 203.0.113.7")
    assert hit is not None
    assert hit.address == ip_address("203.0.113.7")


def test_captures_go_with_the_failure() -> None:
    regex = (
        r"user <F-USER>.*</F-USER> port <F-PORT/> via <F-AUTH-KIND>\w+</F-AUTH-KIND> from <HOST>"
    )
    hit = Filter(Rule(failregex=(regex,))).match("user a b port 22 via pam from 203.0.113.7")
    assert hit is not None
    assert hit.fields == {"user": "a b", "fport": "22", "auth_kind": "pam"}


def test_an_alternative_capture_fills_an_empty_one() -> None:
    regex = r"(?:user <F-USER>\w+</F-USER>|id <F-ALT_USER>\w+</F-ALT_USER>) from <HOST>"
    hit = Filter(Rule(failregex=(regex,))).match("id bob from 203.0.113.7")
    assert hit is not None
    assert hit.fields == {"user": "bob"}


def test_a_long_capture_is_shortened() -> None:
    hit = Filter(Rule(failregex=("user <F-USER>.*</F-USER> from <HOST>",))).match(
        f"user {'x' * 9999} from 203.0.113.7"
    )
    assert hit is not None
    assert len(hit.fields["user"]) == 256


def test_a_regex_marked_as_no_failure_ends_the_search() -> None:
    judge = Filter(
        Rule(
            failregex=(
                "<F-NOFAIL>Accepted</F-NOFAIL> for .* from <HOST>",
                "from <HOST>",
            )
        )
    )
    assert judge.match("Accepted for bob from 203.0.113.7") is None
    assert judge.match("Failed for bob from 203.0.113.7") is not None


def test_the_first_failregex_that_hits_decides() -> None:
    judge = Filter(
        Rule(
            failregex=(
                "^a from <HOST>",
                "from <HOST> or",
                "or <HOST>",
            )
        )
    )
    hit = judge.match("from 203.0.113.7 or 203.0.113.8")
    assert hit is not None
    assert (hit.regex, str(hit.address)) == (1, "203.0.113.7")


def test_a_hit_without_an_address_is_not_given_to_the_next_failregex() -> None:
    judge = Filter(
        Rule(
            failregex=(
                "client: <HOST>",
                "server: <HOST>",
            )
        )
    )
    hit = judge.match("client: 999.1.1.1 server: 203.0.113.7")
    assert hit is not None
    assert (hit.regex, hit.address) == (0, None)


def test_an_ignoreregex_lets_a_line_pass() -> None:
    judge = Filter(
        Rule(
            failregex=("from <HOST>",),
            ignoreregex=(
                "user monitor ",
                "^2023-10-27 ",
            ),
        )
    )
    assert judge.match("user bob from 203.0.113.7") is not None
    assert judge.match("user monitor from 203.0.113.7") is None
    assert judge.match("2023-10-27 14:38:22 user bob from 203.0.113.7") is None


def test_the_date_is_cut_before_the_regex_looks() -> None:
    assert who("^ WARNING .* from <HOST>$", "2023-10-27 14:38:22,557 WARNING x from 203.0.113.7")
    assert who(r"^\[\] x <HOST>$", "[27/Oct/2023:14:38:22 +0000] x 203.0.113.7")


def test_a_regex_with_a_date_works_on_the_line_as_written() -> None:
    regex = r"^\d{4}-\d\d-\d\d .* from IP: <HOST>$"
    assert who(regex, LINE.format("admin", "203.0.113.7")) == "203.0.113.7"


def test_a_user_named_like_a_date_does_not_hide() -> None:
    regex = r"^user \S+ failed from <HOST>$"
    assert who(regex, "user 2005-01-23T21:59:59Z failed from 203.0.113.7") == "203.0.113.7"


def test_the_ends_of_a_line_are_where_it_ends() -> None:
    assert who("from <HOST>$", "from 203.0.113.7") == "203.0.113.7"
    assert who("from <HOST>$", "from 203.0.113.7 ") is None
    assert who(r"from <HOST>\s*$", "from 203.0.113.7 ") == "203.0.113.7"


def test_flags_behind_a_parenthesis_mean_what_they_meant_before_python_3_11() -> None:
    assert who("((?i)failed) from <HOST>", "FAILED from 203.0.113.7") == "203.0.113.7"
    assert who("(?:(?i)failed) from <HOST>", "FAILED FROM 203.0.113.7") is None


@pytest.mark.parametrize(
    "text", ["<a href>", "<NULL>", "<unknown>", "<W>", "<>", "a<b>c", r"\<HOST\>"]
)
def test_what_is_no_tag_is_plain_text(text: str) -> None:
    plain = text.replace("\\", "")
    assert who(f"{text} from <ADDR>", f"{plain} from 203.0.113.7") == "203.0.113.7"


@pytest.mark.parametrize(
    ("regex", "expected"),
    [
        ("^failed login", ["no address", "write <HOST>"]),
        ("   ", ["failregex 2 is empty"]),
        ("(from <HOST>", ["position 1:", "unterminated subpattern", r"\("]),
        ("from <HOST>)", ["position 12:", "unbalanced parenthesis", r"\)"]),
        ("from <HOST> [a", ["position 13:", "unterminated character set", r"\["]),
        ("from <HOST> or <HOST>", ["position", "redefinition of group 'ip4'", "second failregex"]),
        ("<IP> failed", ["position 1:", "<IP> is no tag", "write <HOST>"]),
        ("from <host>", ["position 6:", "<host> is no tag", "write <HOST>"]),
        ("from <HOSTS>", ["<HOSTS> is no tag", "write <HOST>"]),
        ("<F-USER>x from <HOST>", ["position 1:", "never closed", "</F-USER>"]),
        ("x</F-USER> from <HOST>", ["position 2:", "closes what is not open"]),
        ("x<SKIPLINES>from <HOST>", ["one line at a time", "maxlines = 10"]),
        ("**<HOST>", ["position 1:", "nothing to repeat", r"\*"]),
        ("x(?i)y<HOST>", ["position 2:", "(?i:...)"]),
        (f"{'x' * 500}(<HOST>", ["position 501:", "..."]),
    ],
)
def test_a_bad_regex_is_named_with_what_to_write_instead(regex: str, expected: list[str]) -> None:
    with pytest.raises(FilterError) as caught:
        Filter(
            Rule(
                failregex=(
                    "from <HOST>",
                    regex,
                )
            )
        )
    message = str(caught.value)
    assert message.startswith("failregex 2 ")
    assert len(message) < 300
    for part in expected:
        assert part in message


def test_a_bad_ignoreregex_is_named() -> None:
    with pytest.raises(FilterError, match=r"ignoreregex 1 .*position 1"):
        Filter(Rule(failregex=("from <HOST>",), ignoreregex=("(x",)))


def test_a_filter_without_failregex_is_refused() -> None:
    with pytest.raises(FilterError, match="no failregex"):
        Filter(Rule())


def test_filters_of_the_same_regexes_are_equal() -> None:
    assert Filter(Rule(failregex=("a <HOST>",), ignoreregex=("b",))) == Filter(
        Rule(failregex=("a <HOST>",), ignoreregex=("b",))
    )
    assert hash(Filter(Rule(failregex=("a <HOST>",)))) == hash(
        Filter(Rule(failregex=("a <HOST>",)))
    )
    assert Filter(Rule(failregex=("a <HOST>",))) != Filter(Rule(failregex=("b <HOST>",)))


SYSLOG = Rule(
    prefregex=r"^<F-MLFID>\s*(?:\S+ )?(?:sshd(?:\[\d+\])?: )?</F-MLFID><F-CONTENT>.+</F-CONTENT>$",
    failregex=(r"^[iI]nvalid user <F-USER>.*?</F-USER> from <HOST>",),
    prefix="sshd[1]: ",
)


@pytest.mark.parametrize(
    "begin", ["", "sshd[7]: ", "host sshd[7]: ", "sshd: ", "host sshd: ", "2026-11-22 10:00:00 "]
)
def test_a_line_may_have_the_prefix_that_its_filter_expects_or_none(begin: str) -> None:
    hit = Filter(SYSLOG).match(f"{begin}Invalid user bob from 203.0.113.7 port 5", Memory())
    assert hit is not None
    assert str(hit.address) == "203.0.113.7"


def test_the_first_word_of_a_message_is_no_host_name() -> None:
    """OpenSSH 7.4 says this of whoever calls himself `Invalid user x from 198.51.100.1`."""
    line = "input_userauth_request: invalid user Invalid user x from 198.51.100.1 [preauth]"
    assert Filter(SYSLOG).match(line, Memory()) is None


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Rule(address=("ip",), maxlines=3), "maxlines is for lines of text"),
        (Rule(address=("ip",), prefix="sshd[1]: "), "prefix is for lines of text"),
        (Rule(failregex=("<HOST>",), prefix="a: ", maxlines=3), "prefix is put before single"),
        (Rule(failregex=("<F-MLFID>x</F-MLFID>",), address=("ip",)), "<F-MLFID> joins lines"),
    ],
)
def test_options_that_cannot_work_together_are_refused(rule: Rule, said: str) -> None:
    with pytest.raises(FilterError, match=said) as caught:
        Filter(rule)
    assert "leave one out" in str(caught.value)
