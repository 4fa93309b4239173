"""Who is never blocked, less who is blocked all the same."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from dockerjail.ban.table import without

networks = st.frozensets(
    st.builds(
        lambda number, length: ip_network((0xCB007100 | number, length), strict=False),
        st.integers(0, 255),
        st.integers(24, 32),
    ),
    max_size=5,
)


def addresses(found):
    return {int(address) for network in found for address in network}


@given(networks, networks)
def test_what_is_left_is_every_address_but_those_of_the_holes(allowed, holes):
    assert addresses(without(allowed, holes)) == addresses(allowed) - addresses(holes)


def test_a_hole_of_one_version_leaves_the_other_alone():
    both = frozenset({ip_network("0.0.0.0/0"), ip_network("::/0")})
    left = without(both, [ip_network("2001:db8::/64")])
    assert ip_network("0.0.0.0/0") in left
    assert not any(ip_address("2001:db8::7") in network for network in left)
    assert any(ip_address("2001:db8:0:1::") in network for network in left)
