"""The wire format of nf_tables, against datagrams put together by hand."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.nft import messages
from dockerjail.nft.messages import (
    ACK,
    CREATE,
    ECHO,
    INET,
    NETLINK_DONE,
    NETLINK_ERROR,
    REQUEST,
    Events,
    Found,
    Kind,
    Landmark,
    Message,
    Refusal,
    Reply,
)
from dockerjail.nft.ruleset import Interval

NESTED = 0x8000


def header(length: int, kind: int, flags: int, sequence: int, sender: int = 0) -> bytes:
    return struct.pack("=IHHII", length, kind, flags, sequence, sender)


def sent(
    kind: int, *attributes: bytes, family: int = INET, flags: int = 0, sequence: int = 7
) -> bytes:
    """Put together a message of nf_tables as the kernel sends it."""
    body = bytes([family, 0, 0, 10]) + b"".join(attributes)
    return header(16 + len(body), 10 << 8 | kind, flags, sequence, 99) + body


def one(data: bytes) -> Reply:
    (reply,) = messages.replies(data)
    return reply


def string(kind: int, text: str) -> bytes:
    return messages.attribute(kind, text.encode() + b"\0")


def be(kind: int, value: int, width: int = 4) -> bytes:
    return messages.attribute(kind, value.to_bytes(width, "big"))


def nest(kind: int, *inside: bytes) -> bytes:
    return messages.attribute(kind | NESTED, b"".join(inside))


# ---- out


def test_a_batch_is_begun_numbered_acknowledged_once_and_ended() -> None:
    first = Message(Kind.NEWTABLE, ECHO, messages.named("t"))
    last = Message(Kind.NEWSETELEM, CREATE, messages.named("t", "s"))
    begin, one, two, end = messages.replies(messages.batch([first, last], 40))
    assert (begin.type, begin.flags, begin.sequence) == (0x10, REQUEST, 40)
    assert (one.type, one.flags, one.sequence) == (10 << 8 | 0, REQUEST | ECHO, 41)
    assert (two.type, two.flags, two.sequence) == (10 << 8 | 12, REQUEST | CREATE | ACK, 42)
    assert (end.type, end.flags, end.sequence) == (0x11, REQUEST, 43)
    # the subsystem, in network order, in the resource id
    assert bytes(begin.body) == bytes(end.body) == b"\0\0\0\x0a"
    assert bytes(one.body[:4]) == bytes([INET, 0, 0, 0])


@pytest.mark.parametrize(
    ("text", "size"), [("", 8), ("abc", 8), ("abcd", 12), ("abcdefg", 12), ("abcdefgh", 16)]
)
def test_attributes_are_padded_to_four_bytes_and_their_length_is_not(text: str, size: int) -> None:
    packed = messages.named(text)
    assert len(packed) == size
    assert struct.unpack_from("=HH", packed) == (len(text) + 5, 1)
    assert [(kind, bytes(value)) for kind, value in messages.attributes(memoryview(packed))] == [
        (1, text.encode() + b"\0")
    ]


KEYS = st.sampled_from([4, 12, 16, 24]).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
)


def written(message: Message) -> list[Found]:
    """Read elements back that were packed to be sent; the format is the same."""
    return list(messages.found(one(message.pack(1))))


@given(st.lists(st.tuples(KEYS, st.integers(0, 2**70)), max_size=20))
def test_timed_elements_carry_their_key_and_time(entries: list[tuple[bytes, int]]) -> None:
    message = messages.elements(Kind.NEWSETELEM, "t", "s", messages.timed(entries))
    assert written(message) == [
        Found(key, min(left, messages.LONGEST_MS) or None, 0, 0) for key, left in entries
    ]


def test_an_element_has_timeout_and_expiration_alike() -> None:
    packed = messages.timed([(b"\xc0\0\2\1", 600_000)])
    ((_, item),) = messages.attributes(memoryview(packed))
    values = {kind: bytes(value) for kind, value in messages.attributes(item)}
    assert values[4] == values[5] == (600_000).to_bytes(8, "big")


def test_an_element_for_good_says_so_and_has_no_expiration() -> None:
    packed = messages.timed([(b"\xc0\0\2\1", 0)])
    ((_, item),) = messages.attributes(memoryview(packed))
    values = {kind: bytes(value) for kind, value in messages.attributes(item)}
    assert values[4] == bytes(8)
    assert 5 not in values


@pytest.mark.parametrize("size", [4, 12, 16, 24, 32])
def test_a_full_message_stays_within_sixteen_bits(size: int) -> None:
    entries = [(bytes(size), 600_000)] * messages.PER_MESSAGE
    message = messages.elements(Kind.NEWSETELEM, "dockerjail", "port6_128", messages.timed(entries))
    assert len(written(message)) == messages.PER_MESSAGE


@given(st.lists(KEYS, max_size=20))
def test_keys_alone_carry_no_time(keys: list[bytes]) -> None:
    packed = messages.keys(keys)
    for _, item in messages.attributes(memoryview(packed)):
        assert [kind for kind, _ in messages.attributes(item)] == [1]
    message = messages.elements(Kind.DELSETELEM, "t", "s", packed)
    assert [found.key for found in written(message)] == keys


def test_an_interval_is_closed_behind_its_last_address_unless_it_is_the_very_last() -> None:
    packed = messages.intervals(
        [Interval(b"\x0a\0\0\0", b"\x0b\0\0\0"), Interval(b"\xff\0\0\0", None)]
    )
    items = [
        {kind: bytes(value) for kind, value in messages.attributes(item)}
        for _, item in messages.attributes(memoryview(packed))
    ]
    assert [item[1][4:] for item in items] == [b"\x0a\0\0\0", b"\x0b\0\0\0", b"\xff\0\0\0"]
    assert [item.get(3) for item in items] == [None, b"\0\0\0\1", None]


# ---- in


def test_messages_of_one_datagram_are_told_apart() -> None:
    data = sent(Kind.NEWTABLE, string(1, "odd")) + sent(Kind.NEWGEN, be(1, 5), sequence=8)
    first, second = messages.replies(data)
    assert (first.kind, first.sequence, first.sender) == (Kind.NEWTABLE, 7, 99)
    assert (second.kind, messages.generation(second)) == (Kind.NEWGEN, 5)


def test_messages_of_another_subsystem_are_not_taken_for_ours() -> None:
    assert one(header(20, 1 << 8 | Kind.DELTABLE, 0, 1) + bytes(4)).kind is None
    assert one(header(20, NETLINK_DONE, 0, 1) + bytes(4)).kind is None


@given(st.binary(max_size=200))
def test_junk_is_read_to_an_end(data: bytes) -> None:
    for reply in messages.replies(data):
        list(messages.attributes(reply.body))
    list(messages.attributes(memoryview(data)))


@given(st.integers(0, 60))
def test_a_cut_datagram_yields_only_what_is_whole(cut: int) -> None:
    data = sent(Kind.NEWTABLE, string(1, "one")) + sent(Kind.NEWTABLE, string(1, "two"))
    assert len(list(messages.replies(data[:cut]))) == cut // (len(data) // 2)


def error(code: int, flags: int, rest: bytes = b"") -> Reply:
    body = struct.pack("=i", -code) + rest
    return one(header(16 + len(body), NETLINK_ERROR, flags, 3) + body)


def test_no_error_is_an_acknowledgement() -> None:
    assert messages.refusal(error(0, 0x100, header(60, 0xA0C, 5, 3))) is None


def test_the_end_of_a_dump_is_no_refusal_unless_it_has_an_errno() -> None:
    assert messages.refusal(one(header(20, NETLINK_DONE, 2, 3) + bytes(4))) is None
    assert messages.refusal(one(header(16, NETLINK_DONE, 2, 3))) is None
    failed = one(header(20, NETLINK_DONE, 2, 3) + struct.pack("=i", -errno.EINTR))
    assert messages.refusal(failed) == Refusal(errno.EINTR)


def test_a_refusal_names_its_errno() -> None:
    refusal = messages.refusal(error(errno.ENOENT, 0x100, header(60, 0xA0C, 5, 3)))
    assert refusal == Refusal(errno.ENOENT)
    assert str(refusal) == "ENOENT (No such file or directory)"
    assert str(Refusal(99999)).startswith("99999 ")


def test_the_kernels_own_words_are_read_whether_it_echoes_the_request_or_not() -> None:
    words = be(2, 24) + string(1, "chain is busy")
    capped = error(errno.EBUSY, 0x100 | 0x200, header(60, 0xA0C, 5, 3) + words)
    request = header(22, 0xA0C, 5, 3) + b"abcdef" + b"\0\0"
    echoed = error(errno.EBUSY, 0x200, request + words)
    for reply in (capped, echoed):
        assert messages.refusal(reply) == Refusal(errno.EBUSY, "chain is busy")
    assert str(messages.refusal(capped)).endswith(": chain is busy")


def counted(key: bytes, *more: bytes, packets: int = 3, octets: int = 180) -> bytes:
    counter = nest(2, be(1, octets, 8), be(2, packets, 8))
    return nest(
        1, nest(1, messages.attribute(1, key)), *more, nest(7, string(1, "counter"), counter)
    )


def test_elements_are_read_with_time_left_and_counter() -> None:
    data = sent(
        Kind.NEWSETELEM,
        string(1, "t"),
        string(2, "s"),
        nest(
            3,
            counted(b"\xc0\0\2\1", be(4, 600_000, 8), be(5, 1234, 8)),
            counted(b"\xc0\0\2\2", packets=0, octets=0),
            counted(b"\xc0\0\2\3", be(4, 0, 8)),
            nest(1, nest(1, messages.attribute(1, b"\xc0\0\2\4")), be(4, 5, 8), be(5, 0, 8)),
        ),
    )
    assert list(messages.found(one(data))) == [
        Found(b"\xc0\0\2\1", 1234, 3, 180),
        Found(b"\xc0\0\2\2", None, 0, 0),
        Found(b"\xc0\0\2\3", None, 3, 180),
        Found(b"\xc0\0\2\4", 0, 0, 0),
    ]


def test_an_empty_set_has_no_elements() -> None:
    assert list(messages.found(one(sent(Kind.NEWSETELEM, string(1, "t"), string(2, "s"))))) == []


def test_another_expression_on_an_element_is_no_counter() -> None:
    item = nest(
        1,
        nest(1, messages.attribute(1, b"abcd")),
        nest(7, string(1, "limit"), nest(2, be(1, 9, 8))),
    )
    data = sent(Kind.NEWSETELEM, string(1, "t"), string(2, "s"), nest(3, item))
    assert list(messages.found(one(data))) == [Found(b"abcd", None, 0, 0)]


def test_a_set_tells_its_size_where_the_kernel_does() -> None:
    old = sent(Kind.NEWSET, string(1, "t"), string(2, "all4_32"))
    new = sent(Kind.NEWSET, string(1, "t"), string(2, "all4_32"), be(20, 17))
    assert messages.set_name(one(old)) == "all4_32"
    assert messages.set_count(one(old)) is None
    assert messages.set_count(one(new)) == 17


RULE = (string(1, "t"), string(2, "raw"), be(3, 12, 8))


def test_a_landmark_is_known_by_name_and_handle() -> None:
    rule = messages.landmark(one(sent(Kind.NEWRULE, *RULE)), "t")
    assert rule is not None
    assert rule[:3] == (Kind.NEWRULE, "raw", 12)
    found = messages.landmark(
        one(sent(Kind.NEWSET, string(1, "t"), string(2, "s"), be(16, 4, 8))), "t"
    )
    assert found is not None
    assert found[:3] == (Kind.NEWSET, "s", 4)


def test_what_can_change_under_a_handle_is_part_of_the_landmark() -> None:
    def chain(policy: int, packets: int) -> Landmark | None:
        return messages.landmark(
            one(
                sent(
                    Kind.NEWCHAIN,
                    *(string(1, "t"), string(3, "raw"), be(2, 1, 8), be(5, policy)),
                    nest(8, be(1, packets, 8)),
                )
            ),
            "t",
        )

    def table(flags: int, used: int) -> Landmark | None:
        data = sent(Kind.NEWTABLE, string(1, "t"), be(2, flags), be(3, used), be(4, 1, 8))
        return messages.landmark(one(data), "t")

    def rule(verdict: int, packets: int) -> Landmark | None:
        steps = [
            nest(1, string(1, "counter"), nest(2, be(2, packets, 8))),
            nest(1, string(1, "immediate"), nest(2, be(1, verdict))),
        ]
        return messages.landmark(one(sent(Kind.NEWRULE, *RULE, nest(4, *steps))), "t")

    def timed(timeout: int, size: int) -> Landmark | None:
        values = string(1, "t"), string(2, "s"), be(16, 4, 8), be(11, timeout, 8), be(20, size)
        return messages.landmark(one(sent(Kind.NEWSET, *values)), "t")

    assert chain(1, 5) == chain(1, 6) != chain(0, 5)
    assert table(0, 5) == table(0, 6) != table(1, 5)
    assert rule(0, 5) == rule(0, 6) != rule(1, 5)
    assert timed(0, 5) == timed(0, 6) != timed(1, 5)


def test_what_is_of_another_table_or_family_is_no_landmark() -> None:
    assert messages.landmark(one(sent(Kind.NEWRULE, *RULE)), "other") is None
    assert messages.landmark(one(sent(Kind.NEWRULE, *RULE, family=2)), "t") is None
    assert messages.landmark(one(sent(Kind.NEWGEN, be(1, 5))), "t") is None
    assert messages.landmark(one(sent(Kind.DELRULE, *RULE)), "t") is None


def step(name: str, *inside: bytes) -> bytes:
    return nest(1, string(1, name), nest(2, *inside))


def counter(packets: int, octets: int) -> bytes:
    return step("counter", be(1, octets, 8), be(2, packets, 8))


def rule(*steps: bytes, table: str = "t", handle: int = 12) -> Reply:
    place = string(1, table), string(2, "raw"), be(3, handle, 8)
    return one(sent(Kind.NEWRULE, *place, nest(4, *steps), be(6, 11, 8)))


def test_a_rule_tells_what_its_counters_counted() -> None:
    drop = step("immediate", be(1, 0))
    assert messages.counted(rule(counter(3, 180), drop)) == (3, 180)
    assert messages.counted(rule(counter(3, 180), drop, counter(1, 20))) == (4, 200)
    assert messages.counted(rule(drop)) == (0, 0)
    assert messages.counted(one(sent(Kind.NEWRULE, *RULE))) == (0, 0)


def test_rules_look_alike_whatever_their_table_handle_and_count() -> None:
    drop, accept = step("immediate", be(1, 0)), step("immediate", be(1, 1))
    first = messages.shape(rule(counter(3, 180), drop))
    assert first is not None
    assert (first.kind, first.name) == (Kind.NEWRULE, "raw")
    assert first == messages.shape(rule(counter(0, 0), drop, table="u", handle=99))
    assert first != messages.shape(rule(counter(3, 180), accept))
    assert first != messages.shape(rule(drop, counter(3, 180)))
    assert first != messages.shape(rule(drop))


def test_a_chain_looks_like_its_hook_and_policy_and_a_set_like_its_type() -> None:
    def chain(policy: int, used: int, handle: int) -> Reply:
        values = string(1, "t"), string(3, "raw"), be(2, handle, 8), be(5, policy), be(6, used)
        return one(sent(Kind.NEWCHAIN, *values))

    assert messages.shape(chain(1, 5, 7)) == messages.shape(chain(1, 6, 8))
    assert messages.shape(chain(1, 5, 7)) != messages.shape(chain(0, 5, 7))

    def home(key_type: int, size: int, handle: int) -> Reply:
        values = string(1, "t"), string(2, "s"), be(4, key_type), be(20, size), be(16, handle, 8)
        return one(sent(Kind.NEWSET, *values))

    assert messages.shape(home(7, 5, 1)) == messages.shape(home(7, 6, 2))
    assert messages.shape(home(7, 5, 1)) != messages.shape(home(8, 5, 1))


def test_a_table_has_no_shape_but_flags_and_an_owner() -> None:
    owned = one(sent(Kind.NEWTABLE, string(1, "t"), be(2, 6), be(7, 4711)))
    plain = one(sent(Kind.NEWTABLE, string(1, "t"), be(2, 0)))
    assert messages.shape(owned) is None
    assert messages.standing(owned) == messages.Standing(6, 4711)
    assert messages.standing(plain) == messages.Standing(0, 0)


def test_a_chain_is_deleted_by_its_name() -> None:
    message = messages.chain_gone("t", "ingress_eth0")
    assert message.kind is Kind.DELCHAIN
    found = messages.fields(one(message.pack(1)))
    assert {number: messages.text(value) for number, value in found.items()} == {
        1: "t",
        3: "ingress_eth0",
    }


NEWGEN = sent(Kind.NEWGEN, be(1, 5), be(2, 4711), string(3, "nft"))


def test_the_gravest_of_several_changes_is_told_with_its_author() -> None:
    flush = b"".join(
        sent(kind, string(1, "t"))
        for kind in (Kind.DELSETELEM, Kind.DELRULE, Kind.DELTABLE, Kind.DELCHAIN)
    )
    told = messages.events(flush, "t") + messages.events(NEWGEN, "t")
    assert told == Events(Kind.DELTABLE, "nft, process 4711")
    assert str(told) == "table deleted by nft, process 4711"


def test_changes_of_other_tables_tell_nothing() -> None:
    data = sent(Kind.DELTABLE, string(1, "u")) + sent(Kind.DELTABLE, string(1, "t"), family=2)
    assert messages.events(data, "t") == Events()
    assert messages.events(sent(20, string(1, "t")), "t") == Events()
    assert messages.events(NEWGEN, "t").gravest is None


def test_an_author_that_the_kernel_does_not_name_is_somebody() -> None:
    assert messages.events(sent(Kind.NEWGEN, be(1, 5)), "t").author == "somebody"


@pytest.mark.parametrize("kind", messages.CHANGES)
def test_every_change_has_its_word(kind: Kind) -> None:
    assert str(messages.events(sent(kind, string(1, "t")), "t")) == messages.CHANGES[kind]
