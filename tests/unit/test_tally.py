"""What bans have blocked adds up, however often the kernel begins anew."""

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from dockerjail.ban.tally import JAILS, Tally
from dockerjail.model import Counter, Element, Port

ONE, OTHER = (Element(ip_network(f"203.0.113.{n}"), Port(80)) for n in (1, 2))
HOLDERS = {ONE: ("a@web", "a@web", "b@web"), OTHER: ("b@web",)}


@given(st.lists(st.lists(st.integers(1, 9), min_size=1)))
def test_nothing_is_lost_or_counted_twice_when_an_element_is_put_anew(lives):
    """Each life of an element begins at nothing, and is looked at before it blocks anything."""
    tally, total = Tally(lambda element: HOLDERS[element]), 0
    for life in lives:
        now = 0
        tally.update({ONE: Counter(0, 0)})
        for more in life:
            now, total = now + more, total + more
            tally.update({ONE: Counter(now, 60 * now)})
            assert tally.of([ONE]) == Counter(total, 60 * total)


def test_each_jail_that_wants_an_element_has_what_it_blocked_once():
    tally = Tally(lambda element: HOLDERS[element])
    tally.update({ONE: Counter(3, 180), OTHER: Counter(4, 240)})
    tally.update({ONE: Counter(5, 300)})
    tally.update({ONE: Counter(1, 60)})  # put anew
    assert tally.of([ONE]) == Counter(6, 360)
    assert tally.of([ONE, OTHER]) == Counter(10, 600)
    assert tally.of_jail("a@web") == Counter(6, 360)
    assert tally.of_jail("b@web") == Counter(10, 600)


def test_what_was_never_counted_is_not_nothing():
    tally = Tally(lambda element: ())
    assert tally.of([ONE]) is None
    assert tally.of([]) is None
    assert tally.of_jail("a@web") == Counter(0, 0)


def test_a_jail_keeps_what_an_ended_ban_blocked():
    tally = Tally(lambda element: HOLDERS[element])
    tally.update({OTHER: Counter(4, 240)})
    tally.forget([OTHER])
    assert tally.of([OTHER]) is None
    tally.update({OTHER: Counter(1, 60)})
    assert tally.of_jail("b@web") == Counter(5, 300)


def test_what_ends_while_it_is_counted_leaves_nothing_behind():
    wanted = {ONE: ("a@web",)}
    tally = Tally(lambda element: wanted.get(element, ()))
    tally.update({ONE: Counter(3, 180)})
    wanted.clear()
    tally.forget([ONE])
    tally.update({ONE: Counter(4, 240), OTHER: Counter(1, 60)})
    assert tally.of([ONE, OTHER]) is None
    assert not tally._elements


def test_the_jails_whose_sums_are_kept_are_bounded_and_the_liveliest_stay():
    elements = [Element(ip_network((0x0B000000 + n, 32)), None) for n in range(JAILS + 100)]
    tally = Tally(lambda element: (f"{element.subject}",))
    for number, element in enumerate(elements, 1):
        tally.update({element: Counter(1, 60)})
        tally.update({elements[0]: Counter(number, 60 * number)})
        tally.forget([element])
    assert len(tally._jails) == JAILS
    assert tally.of_jail(f"{elements[0].subject}").packets >= JAILS
