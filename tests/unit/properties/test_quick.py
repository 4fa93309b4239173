"""Ways that are taken for their speed lead to where the plain ones do."""

from ipaddress import IPv6Address, ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from dockerjail.jail import datecut
from dockerjail.jail.address import address
from dockerjail.model import Address

OCTET = st.one_of(
    st.integers(0, 300).map(str), st.sampled_from(["", "01", "٣", "1 ", "+1", "1_0", "0x1"])
)
DOTTED = st.lists(OCTET, min_size=1, max_size=5).map(".".join)
ADDRESSES = st.one_of(
    DOTTED,
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map(lambda each: each.exploded),
    st.text("0123456789abf:.[]%", max_size=24),
    DOTTED.map(lambda text: f"::ffff:{text}"),
)
AROUND = st.sampled_from(["{}", "{}", "[{}]", "{}%eth0", "[{}", " {}", "{}\n"])


def _plain(text: str) -> Address | None:
    if text.startswith("["):
        text = text[1:].removesuffix("]")
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


@settings(max_examples=500)
@given(ADDRESSES, AROUND)
def test_an_address_is_what_the_library_says(text: str, around: str) -> None:
    written = around.format(text)
    assert address(written) == _plain(written)


PARTS = st.sampled_from(
    [
        *(
            "2026-11-22",
            "2026/11/22",
            "19.1.2026",
            "22/Nov/2026",
            "20261122",
            "1764000000",
            "26-11-22",
        ),
        *(
            "Nov 22",
            "nov  2",
            "Sun Nov 22",
            "Sat Jan 1 ",
            "Tue ",
            "PDT ",
            "UTC ",
            "WED ",
            "Dec 31, 2026",
        ),
        *(
            " ",
            "T",
            ":",
            "10:00:00",
            "1:2:3",
            ",123",
            ".5",
            "Z",
            "+01:00",
            " 2026",
            " AM",
            "[",
            "x",
            "\n",
        ),
    ]
)


@settings(max_examples=1000)
@given(st.lists(PARTS, max_size=8).map("".join))
def test_the_date_at_the_begin_is_what_all_patterns_find(text: str) -> None:
    found = datecut._AT_BEGIN(text)
    assert datecut.at_begin(text) == (None if found is None else found.span(1))
