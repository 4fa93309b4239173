"""
The values of settings and labels: what people write in, what the rooms use out. Pure.

Each reader takes what TOML or a label gives (a text, or where it fits a number or a
list) and raises `Mistake` with what is wrong and what to write.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address, IPv6Network, ip_network
from pathlib import PurePosixPath
from typing import NamedTuple, cast

from dockerjail.config import duration
from dockerjail.config.mistake import LISTED, Mistake, listed, nearest, shown
from dockerjail.jail.formula import Formula, FormulaError, constant
from dockerjail.jail.policy import ALL_STREAMS, Aggregate, ScopeKind, Verify
from dockerjail.jail.rule import Condition, Format, UseDns
from dockerjail.model import Blocktype, Mode, Port, Protocol, Stream, Subject

PROTOCOLS = ("tcp", "udp", "sctp")

GIBIBYTE = 1024**3

_SIZES = {"b": 1, "k": 1024, "m": 1024**2, "g": GIBIBYTE}
_SIZE = re.compile(
    r"\s*(?P<number>[0-9]{1,15})\s*(?P<unit>b|[kmg](?:i?b)?)?\s*", re.IGNORECASE | re.ASCII
)
_LEAST_SIZE = 16 * 1024**2
_MOST_SIZE = 1024 * GIBIBYTE

SERVICES: Mapping[str, int] = {
    "ftp": 21,
    "ssh": 22,
    "smtp": 25,
    "domain": 53,
    "http": 80,
    "pop3": 110,
    "imap": 143,
    "https": 443,
    "submissions": 465,
    "submission": 587,
    "imaps": 993,
    "pop3s": 995,
    "sieve": 4190,
    "ftp-data": 20,
    "telnet": 23,
    "tftp": 69,
    "kerberos": 88,
    "sunrpc": 111,
    "nntp": 119,
    "ntp": 123,
    "imap2": 143,
    "snmp": 161,
    "irc": 194,
    "imap3": 220,
    "ldap": 389,
    "microsoft-ds": 445,
    "ssmtp": 465,
    "smtps": 465,
    "urd": 465,
    "isakmp": 500,
    "printer": 515,
    "nntps": 563,
    "ipp": 631,
    "ldaps": 636,
    "domain-s": 853,
    "rsync": 873,
    "rndc": 953,
    "ftps-data": 989,
    "ftps": 990,
    "telnets": 992,
    "socks": 1080,
    "openvpn": 1194,
    "ms-sql-s": 1433,
    "l2tp": 1701,
    "radius": 1812,
    "mqtt": 1883,
    "nfs": 2049,
    "mysql": 3306,
    "ms-wbt-server": 3389,
    "svn": 3690,
    "ipsec-nat-t": 4500,
    "sip": 5060,
    "sips": 5061,
    "sip-tls": 5061,
    "xmpp-client": 5222,
    "xmpp-server": 5269,
    "postgresql": 5432,
    "amqps": 5671,
    "amqp": 5672,
    "redis": 6379,
    "ircs-u": 6697,
    "http-alt": 8080,
    "secure-mqtt": 8883,
    "git": 9418,
    "webmin": 10000,
    "mumble": 64738,
}
"""
Port names that fail2ban's users write, those of messages first; any other port by number.

IANA's numbers, or what Debian's /etc/services says where IANA has no such name.
"""

MOST_PORTS = 256
"""Each port of a ban is an element of a kernel set; beyond this, `scope = host` is meant."""

MOST_LINES = 100
"""Lines that a failregex may see at once; each is kept, and searched again and again."""

LONGEST_PREFIX = 100

LONGEST_REFERENCE = 2000
"""Characters of a filter's name with its options, which are put into one another, and then again."""

MOST_NEIGHBOURS = 256
"""Addresses of a /24; more than that cannot be banned before it is."""

MOST_MULTIPLIERS = 100

MOST_TIMES = 1e9
"""By how much a bantime may be multiplied: a second to more than thirty years."""

FILE = "file:"
"""What a word of `ignoreip` begins with that is a file of such words."""

_SELECTOR = re.compile(r"(?!\$?\.|\$\[)(?!.*(?:\.\.|\.\Z|\[\d+\]))[^\s=,;|]{1,200}")
"""Keys with dots between them; how jq and JSONPath write them is no such thing."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_COUNT = re.compile(r"[0-9]{1,9}")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(
    rf"(?=.{{1,253}}\Z)(?!.*\.[0-9]+\Z){_LABEL}(?:\.{_LABEL})*", re.IGNORECASE | re.ASCII
)
_AGGREGATE = re.compile(r"(?P<addresses>[0-9]{1,9})(?:\s+in\s+(?P<time>.+))?", re.IGNORECASE)
_PORT = re.compile(
    r"(?P<first>[a-z0-9]+)(?:[-:](?P<last>[a-z0-9]+))?(?:/(?P<protocol>[a-z]+))?", re.ASCII
)
_MAPPED = 96
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


class Ignored(NamedTuple):
    """
    Whom an `ignoreip` lets pass.

    `sources` are the words for addresses that change: names of hosts, and `file:/path`.
    """

    addresses: tuple[Subject, ...] = ()
    sources: tuple[str, ...] = ()

    def __or__(self, other: "Ignored") -> "Ignored":
        """Return whom either of the two lets pass."""
        return Ignored(
            tuple(dict.fromkeys((*self.addresses, *other.addresses))),
            tuple(dict.fromkeys((*self.sources, *other.sources))),
        )


NOBODY = Ignored()


def boolean(value: object) -> bool:
    """Return a truth value, written as Traefik's users do; any case."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Mistake(f"{shown(value)} is neither true nor false", "write true or false")


def count(value: object, *, least: int = 1, most: int = 10_000) -> int:
    """Return a whole number from `least` to `most`."""
    remedy = f"write a whole number such as {max(least, 5)}"
    if isinstance(value, str) and _COUNT.fullmatch(value.strip()):
        value = int(value.strip())
    if isinstance(value, bool) or not isinstance(value, int):
        raise Mistake(f"{shown(value)} is not a whole number", remedy)
    if value < least:
        raise Mistake(f"{shown(value)} is less than {least}", remedy)
    if value > most:
        raise Mistake(f"{shown(value)} is more than {most}", remedy)
    return value


def size(value: object) -> int:
    """Return a number of bytes such as `512 MiB`, at least 16 MiB; 0 is no limit."""
    remedy = "write a size such as 512 MiB or 1 GiB, or 0 for no limit"
    found = _SIZE.fullmatch(str(value)) if not isinstance(value, bool | float) else None
    if found is None:
        raise Mistake(f"{shown(value)} is no size", remedy)
    octets = int(found["number"]) * _SIZES[(found["unit"] or "b")[0].lower()]
    if octets and octets < _LEAST_SIZE:
        raise Mistake(f"{shown(value)} is less than 16 MiB", remedy)
    if octets > _MOST_SIZE:
        raise Mistake(f"{shown(value)} is more than 1 TiB", remedy)
    return octets


def text(value: object) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str):
        raise Mistake(f"{shown(value)} is not a text", "write it in quotes")
    if not value.strip():
        raise Mistake("is empty", "write a value, or leave it out")
    return value.strip()


def choice(value: object, known: Iterable[str]) -> str:
    """Return which of the `known` words was written; any case."""
    names = tuple(known)
    word = text(value).lower()
    if word not in names:
        close = nearest(word, names)
        remedy = f"write {close}" if close else "write one of these"
        raise Mistake(f"{shown(value)} is none of {listed(names)}", remedy)
    return word


def name(value: object) -> str:
    """Return the name of a jail or filter."""
    word = text(value)
    if not _NAME.fullmatch(word):
        remedy = "write 1 to 64 letters, digits, dots, dashes and underscores"
        bare = word.strip("[]\"';,")
        if bare != word and _NAME.fullmatch(bare):
            remedy = f"write {bare}"
        raise Mistake(f"{shown(word)} is no name", remedy)
    return word


def names(value: object) -> tuple[str, ...]:
    """Return the names in a list, separated by commas or blanks; none is fine."""
    return tuple(dict.fromkeys(name(word) for word in _words(value)))


def regexes(value: object) -> tuple[str, ...]:
    """Return the expressions in a text, one per line, or in a list; none is fine."""
    if not isinstance(value, str | list | tuple):
        raise Mistake(f"{shown(value)} is no expression", "write a text, or a list of texts")
    found = []
    for item in [value] if isinstance(value, str) else value:
        if not isinstance(item, str):
            raise Mistake(f"{shown(item)} is no expression", "write it in single quotes")
        found += [line.strip() for line in item.split("\n") if line.strip()]
    return tuple(found)


def regex(value: object) -> str:
    """Return one expression, or none from an empty text."""
    found = regexes(value)
    if len(found) > 1:
        raise Mistake("holds several expressions, and one is wanted", "put them together with |")
    return found[0] if found else ""


def reference(value: object) -> str:
    """Return the name of a filter, for one of fail2ban's with its options: `sshd[mode=ddos]`."""
    word = text(value)
    head, bracket, rest = word.partition("[")
    name(head)
    if bracket and (not rest.rstrip().endswith("]") or "\n" in rest):
        raise Mistake(f"{shown(word)} has a [ without its ]", "write NAME[option=value]")
    if len(word) > LONGEST_REFERENCE:
        what = f"{shown(word)} is longer than {LONGEST_REFERENCE} characters"
        raise Mistake(what, "write the options in a file of fail2ban's filter.d")
    return head.strip() + bracket + rest.rstrip()


def lines(value: object) -> int:
    """Return how many lines are looked at together."""
    return count(value, most=MOST_LINES)


def usedns(value: object) -> UseDns:
    """Return whether names are looked up; fail2ban's `raw` is refused, nobody can ban a name."""
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return UseDns(choice(value, tuple(UseDns)))


def format(value: object) -> Format:
    """Return the format meant by `auto`, `text`, `json` or `logfmt`."""
    return Format(choice(value, tuple(Format)))


def prefix(value: object) -> str:
    """Return a text to put before lines; a blank at its end counts."""
    if not isinstance(value, str):
        raise Mistake(f"{shown(value)} is not a text", "write it in quotes: 'sshd[1]: '")
    if len(value) > LONGEST_PREFIX or not value.isprintable():
        remedy = f"write at most {LONGEST_PREFIX} plain characters, such as 'sshd[1]: '"
        raise Mistake(f"{shown(value)} is no prefix", remedy)
    return value


def selector(value: object) -> str:
    """Return where in a structured line something is, such as `request.remote_ip`."""
    word = text(value)
    if not _SELECTOR.fullmatch(word):
        remedy = "write a key, or keys with dots between them, such as request.remote_ip"
        bare = re.sub(r"\[(\d+|\*)\]", r".\1", word.removeprefix("$")).strip(".")
        if _SELECTOR.fullmatch(bare):
            remedy = f"write {bare}"
        raise Mistake(f"{shown(word)} is no field of a line", remedy)
    return word


def selectors(value: object) -> tuple[str, ...]:
    """Return where in a structured line the addresses are, client first, nearest proxy last."""
    return tuple(dict.fromkeys(selector(word) for word in _words(value)))


def conditions(value: object) -> tuple[Condition, ...]:
    """
    Return conditions of which one must hold.

    A table of fields and what they may be, or a list of such tables; in a text
    `event=login_failed, status=401|403`, with `;` between alternatives.
    """
    remedy = "write {event = 'login_failed', status = [401, 403]}"
    if isinstance(value, str):
        remedy = "write event=login_failed, status=401|403"
        tables: list[object] = [_table(part, remedy) for part in value.split(";") if part.strip()]
        if not tables:
            raise Mistake("is empty, and every line would count", remedy)
    elif isinstance(value, dict):
        tables = [value]
    elif isinstance(value, list | tuple):
        tables = list(value)
    else:
        raise Mistake(f"{shown(value)} is no condition", remedy)
    found: list[Condition] = []
    for table in tables:
        if not isinstance(table, dict):
            raise Mistake(f"{shown(table)} is no condition", remedy)
        if not table:
            raise Mistake("is an empty condition, which every line meets", remedy)
        found.append(tuple((selector(key), _alternatives(key, table[key])) for key in table))
    return tuple(dict.fromkeys(found))


def _table(part: str, remedy: str) -> dict[str, list[str]]:
    """Read `event=login_failed, status=401|403`."""
    table: dict[str, list[str]] = {}
    for pair in part.split(","):
        key, equals, rest = pair.partition("=")
        if not equals or not key.strip() or rest.startswith("=") or key.endswith("!"):
            raise Mistake(f"{shown(pair.strip())} is no condition", remedy)
        table[key.strip()] = [_unquoted(word.strip()) for word in rest.split("|")]
    return table


def _unquoted(word: str) -> str:
    """Take the quotes off that people copy from a line in logfmt or JSON."""
    quoted = len(word) > 1 and word[0] == word[-1] and word[0] in "\"'"
    return word[1:-1] if quoted else word


def _alternatives(key: str, value: object) -> tuple[str, ...]:
    """Return what a field may be, as text: `401`, `true`, `null`."""
    items = value if isinstance(value, list | tuple) else [value]
    found = []
    for item in items:
        if isinstance(item, bool):
            found.append("true" if item else "false")
        elif isinstance(item, str | int | float):
            found.append(str(item))
        else:
            remedy = "write a text, a number, true or false, or a list of them"
            raise Mistake(f"{key}: {shown(item)} is nothing that a field can be", remedy)
    if not found:
        raise Mistake(f"{key} has no value that it may be", "write one, or leave it out")
    return tuple(dict.fromkeys(found))


def ports(value: object) -> tuple[Port, ...]:
    """
    Return the ports in `80,443/tcp,51820/udp,8000-8010`; tcp where nothing is said.

    Names are those of `SERVICES`. At most 256 ports in all.
    """
    found: dict[Port, None] = {}
    for word in _words(value):
        for port in _range(word):
            found[port] = None
            if len(found) > MOST_PORTS:
                raise Mistake(
                    f"{shown(value)} is more than {MOST_PORTS} ports",
                    "write fewer, or scope=host to keep out from everything",
                )
    if not found:
        raise Mistake("names no port", "write ports such as 80,443 or 51820/udp, or leave it out")
    return tuple(found)


def _range(word: str) -> Iterator[Port]:
    remedy = "write ports such as 80, 443/tcp, 51820/udp or 8000-8010"
    if word.lower() in ("any", "all"):
        raise Mistake(f"{shown(word)} is no port", "write scope=host to keep out from everything")
    name, _, rest = word.lower().partition("/")
    if "-" in name and name in SERVICES:  # elsewhere a dash is a range
        word = f"{SERVICES[name]}/{rest or 'tcp'}"
    parts = _PORT.fullmatch(word.lower())
    if parts is None:
        raise Mistake(f"{shown(word)} is no port", remedy)
    protocol = parts["protocol"] or "tcp"
    if protocol not in PROTOCOLS:
        raise Mistake(f"{shown(word)}: {shown(protocol)} is none of {', '.join(PROTOCOLS)}", remedy)
    first = _port(word, parts["first"], remedy)
    last = _port(word, parts["last"], remedy) if parts["last"] else first
    if last < first:
        raise Mistake(f"{shown(word)} ends before it begins", f"write {last}-{first}")
    for number in range(first, last + 1):
        yield Port(number, cast(Protocol, protocol))


def _port(word: str, part: str, remedy: str) -> int:
    if not part.isdigit():
        number = SERVICES.get(part)
        if number is None:
            raise Mistake(
                f"{shown(word)}: {shown(part)} is no port name known here",
                f"write the number, or one of {', '.join(list(SERVICES)[:LISTED])}, …",
            )
        return number
    number = int(part) if len(part) <= 5 else 65536
    if not 1 <= number <= 65535:
        if number == 0 and word.lower().startswith(("0-65535", "0:65535")):
            remedy = "write scope=host to keep out from everything"
        raise Mistake(f"{shown(word)}: a port is a number from 1 to 65535", remedy)
    return number


def addresses(value: object) -> tuple[Subject, ...]:
    """
    Return the addresses and networks in a list, separated by commas or blanks.

    `192.0.2.1`, `192.0.2.0/24`, `192.0.2.0/255.255.255.0`, `2001:db8::/32`. Bits beyond
    the mask are cleared, IPv4-mapped IPv6 becomes IPv4. Names are refused.
    """
    return tuple(dict.fromkeys(address(word) for word in _words(value)))


def address(value: object) -> Subject:
    """Return one address or network, as `addresses` reads it."""
    word = text(value)
    host, slash, mask = word.partition("/")
    if "%" in word:
        remedy = f"write {host.partition('%')[0]}{slash}{mask}"
        raise Mistake(f"{shown(word)} names an interface", remedy)
    try:
        if ":" in mask:
            mask = str(_prefix(IPv6Address(mask)))
        network = ip_network(host + slash + mask, strict=False)
    except ValueError:
        raise _not_an_address(word) from None
    if isinstance(network, IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= _MAPPED:
            return ip_network((mapped, network.prefixlen - _MAPPED))
    return network


def ignored(value: object) -> Ignored:
    """
    Return whom a list lets pass, separated by commas or blanks.

    Addresses and networks as `addresses` reads them, names of hosts, and files that hold
    such words: `file:/etc/dockerjail/friends`. Nothing is looked up or opened here.
    """
    found = NOBODY
    for word in _words(value):
        found |= _ignored(word)
    return found


def host(word: str) -> str | None:
    """Return the name of a host in small letters, without the dot at its end; None if it is none."""
    name = word.lower().removesuffix(".")
    return name if _HOST.fullmatch(name) and re.search("[a-z]", name) else None


def _ignored(word: str) -> Ignored:
    if word.lower().startswith(FILE):
        path = word[len(FILE) :]
        if not PurePosixPath(path).is_absolute() or not path.isprintable():
            remedy = f"write the whole path, from / on: {FILE}/etc/dockerjail/friends"
            raise Mistake(f"{shown(word)} is no file with an absolute path", remedy)
        return Ignored(sources=(FILE + path,))
    if word.startswith("/"):
        raise Mistake(f"{shown(word)} is no address", f"write {FILE}{word}")
    if (name := host(word)) is not None:
        return Ignored(sources=(name,))
    try:
        return Ignored(addresses=(address(word),))
    except Mistake:
        if "%" in word:
            raise
        what = f"{shown(word)} is neither an address nor a network, and no name of a host"
        remedy = (
            "write an address such as 192.0.2.7, a network such as 10.0.0.0/8, "
            f"the name of a host, or {FILE}/PATH"
        )
        raise Mistake(what, remedy) from None


def _prefix(mask: IPv6Address) -> int:
    bits = f"{int(mask):0128b}"
    prefix = bits.count("1")
    if "1" in bits[prefix:]:
        raise ValueError("a mask is ones, then zeros")
    return prefix


def _not_an_address(word: str) -> Mistake:
    remedy = "write an address such as 192.0.2.7 or 2001:db8::7, or a network such as 10.0.0.0/8"
    if re.search("[g-zG-Z]", word):
        return Mistake(f"{shown(word)} is a name, and names are not looked up here", remedy)
    return Mistake(f"{shown(word)} is neither an address nor a network", remedy)


def streams(value: object) -> frozenset[Stream]:
    """Return the streams meant by `stdout`, `stderr`, `both` or a list of them."""
    known = {
        "stdout": frozenset({Stream.STDOUT}),
        "stderr": frozenset({Stream.STDERR}),
        "both": ALL_STREAMS,
    }
    found: frozenset[Stream] = frozenset()
    for word in _words(value):
        found |= known[choice(word, known)]
    if not found:
        raise Mistake("names no stream", "write stdout, stderr or both")
    return found


def scope(value: object) -> ScopeKind:
    """Return the scope meant by `auto` or `host`."""
    return ScopeKind(choice(value, tuple(ScopeKind)))


def blocktype(value: object) -> Blocktype:
    """
    Return how to block: `drop` or `reject`, in any case, whatever follows.

    So fail2ban's `REJECT --reject-with icmp-port-unreachable` is understood.
    """
    word = text(value)
    for known in Blocktype:
        if word.lower().startswith(known):
            return known
    return Blocktype(choice(word, tuple(Blocktype)))


def ipv4_prefix(value: object) -> int:
    """Return how many bits of an IPv4 address tell one client from another."""
    return _bits(value, 32, "32 for single addresses, 24 for their /24")


def ipv6_prefix(value: object) -> int:
    """Return how many bits of an IPv6 address tell one client from another."""
    return _bits(value, 128, "64 for a customer's network, 56 or 48 for larger ones")


def _bits(value: object, most: int, usual: str) -> int:
    if isinstance(value, str):
        value = value.strip().removeprefix("/")
    try:
        return count(value, most=most)
    except Mistake:
        what = f"{shown(value)} is no prefix length from 1 to {most}"
        raise Mistake(what, f"write {usual}") from None


def mode(value: object) -> Mode:
    """Return the mode meant by `enforce` or `observe`."""
    return Mode(choice(value, tuple(Mode)))


def verify(value: object) -> Verify:
    """Return what must bear a line out, by `none` or `conntrack`."""
    return Verify(choice(value, tuple(Verify)))


def aggregate(value: object) -> Aggregate | None:
    """Return `10 in 1h`, or 10 alone, which is within an hour; None for `off`."""
    if value is False or (isinstance(value, str) and value.strip().lower() in _FALSE - {"0"}):
        return None
    remedy = "write how many addresses, and within what time: 10 in 1h, or off"
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Mistake(f"{shown(value)} is no number of addresses in a time", remedy)
    addresses, time = value, duration.HOUR
    if isinstance(addresses, str):
        parts = _AGGREGATE.fullmatch(addresses.strip())
        if parts is None:
            raise Mistake(f"{shown(value)} is no number of addresses in a time", remedy)
        addresses = int(parts["addresses"])
        time = duration.parse(parts["time"]) if parts["time"] else time
    if not 2 <= addresses <= MOST_NEIGHBOURS:
        what = f"{shown(value)}: the addresses are a number from 2 to {MOST_NEIGHBOURS}"
        raise Mistake(what, remedy)
    return Aggregate(addresses=addresses, time=time)


def multipliers(value: object) -> tuple[float, ...]:
    """Return the numbers in `1 5 30 60`, by which a bantime is multiplied; none is fine."""
    found = []
    remedy = "write numbers such as 1 5 30 60 300"
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int | float | str):
            raise Mistake(f"{shown(item)} is no number", remedy)
        for word in str(item).replace(",", " ").split() if isinstance(item, str) else [item]:
            try:
                number = float(word)
            except (ValueError, OverflowError):
                raise Mistake(f"{shown(word)} is no number", remedy) from None
            if not 0 < number < MOST_TIMES:
                raise Mistake(f"{shown(word)} is no number more than 0", remedy)
            found.append(number)
    if len(found) > MOST_MULTIPLIERS:
        raise Mistake(
            f"is more than {MOST_MULTIPLIERS} numbers", "write fewer: the last one goes on"
        )
    return tuple(found)


def factor(value: object) -> float:
    """Return by how much a grown bantime is multiplied: a number, or what `2.0/2.885` comes to."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Mistake(f"{shown(value)} is no number", "write a number such as 2 or 1.5")
    try:
        number = constant(value) if isinstance(value, str) else float(value)
    except FormulaError as error:
        raise Mistake(error.what, error.remedy) from None
    except OverflowError:
        number = MOST_TIMES
    if not 0 < number < MOST_TIMES:
        raise Mistake(f"{shown(value)} is no number more than 0", "write a number such as 2 or 1.5")
    return number


def formula(value: object) -> Formula | None:
    """Return how a bantime grows, as fail2ban's users write it; None from an empty text."""
    if not isinstance(value, str):
        remedy = "write it in quotes: 'ban.Time * 2 ** ban.Count'"
        raise Mistake(f"{shown(value)} is no formula", remedy)
    if not value.strip():
        return None
    try:
        return Formula(value.strip())
    except FormulaError as error:
        raise Mistake(error.what, error.remedy) from None


def _words(value: object) -> Iterator[str]:
    """Yield what a list holds: a TOML list, or a text split at commas and blanks."""
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        if isinstance(item, int) and not isinstance(item, bool):
            item = shown(item)
        if not isinstance(item, str):
            raise Mistake(f"{shown(item)} cannot stand in a list here", "write a text in quotes")
        yield from item.replace(",", " ").split()
