"""Long answers of the Engine: any split of the bytes gives the same, whatever is in them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerjail.docker import answers
from dockerjail.docker.answers import EventReader, ListReader

ID = "0123456789abcdef" * 4
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ITEMS = st.lists(st.dictionaries(st.text(min_size=3), JSON, max_size=4), max_size=4)


def read(data, cuts=()):
    reader, found, start = ListReader(), [], 0
    for stop in (*sorted(cut % (len(data) + 1) for cut in cuts), len(data)):
        found += reader.feed(data[start:stop])
        start = stop
    return found + reader.finish()


def hints(data, cuts=()):
    reader, found, start = EventReader(), [], 0
    for stop in (*sorted(cut % (len(data) + 1) for cut in cuts), len(data)):
        found += reader.feed(data[start:stop])
        start = stop
    return found


def listed(*items):
    return [{"Id": f"c{number}"} | item for number, item in enumerate(items)]


@given(
    ITEMS, st.lists(st.integers(0, 10**6), max_size=5), st.sampled_from([None, 1]), st.booleans()
)
def test_any_split_of_a_list_gives_the_same_containers(items, cuts, indent, ascii_only):
    whole = listed(*items)
    data = json.dumps(whole, indent=indent, ensure_ascii=ascii_only).encode(errors="replace")
    expected = json.loads(data)
    assert read(data, cuts) == [(item["Id"], item) for item in expected]


@given(st.lists(st.integers(0, 10**6), max_size=5), st.integers(0, 3))
def test_an_endless_item_is_named_and_hides_no_other(cuts, where):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "ITEM", 300)
        patch.setattr(answers, "_SMALL", 50)
        items = listed({"a": 1}, {"b": ["]}", '"']}, {"c": "\\"})
        items.insert(where, {"Id": "giant", "Labels": {'x"[{\\': '\\"]}[' * 90}})
        found = dict(read(json.dumps(items).encode(), cuts))
    assert found == {item["Id"]: item for item in items} | {"giant": None}


@given(st.lists(st.integers(0, 10**6), max_size=5), st.integers(50_000, 400_000))
def test_an_item_that_is_long_comes_whole(cuts, size):
    items = listed({"a": "x" * size}, {"b": 1})
    assert read(json.dumps(items).encode(), cuts) == [(item["Id"], item) for item in items]


def test_a_giant_list_is_never_held_as_a_whole():
    reader = ListReader()
    item = json.dumps({"Id": ID, "Labels": {"x": "y" * 1000}}).encode()
    assert reader.feed(b"[") == []
    for _ in range(10_000):
        assert [id_ for id_, _ in reader.feed(item + b",")] == [ID]
    assert len(reader._rest) < 10
    for _ in range(200):
        reader.feed(b'{"Id":"c1","Labels":{"' + b"y" * 100_000)
    assert len(reader._rest) <= 3 * answers.ITEM


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"null",
        b"7",
        b"[1]",
        b"[{}]",
        b'[{"Id": 1}]',
        b'[{"Id": "../../info"}]',
        b'[{"Id": "a"}',
        b'[{"Id": "a"}] 1',
        b'[{"Id": "a",}]',
        b"[\xff]",
        b"<html>",
        b'[{"Id": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
        b'[{"Id": 1' + b"1" * 5000 + b"}]",
        b"[{" + b" " * (answers.ITEM + 9),
    ],
)
def test_what_is_no_list_of_containers_is_said(answer):
    with pytest.raises(ValueError, match=r"."):
        read(answer)


def event(id_=ID, **attributes):
    actor = {"ID": id_, "Attributes": attributes}
    return json.dumps({"Type": "container", "Action": "start", "Actor": actor}).encode() + b"\n"


@given(st.lists(st.integers(0, 10**6), max_size=8))
def test_any_split_of_events_gives_the_same(cuts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "EVENT", 400)
        data = event("a1") + event(label="x" * 1000) + b"\n" + event("a2") + event("..%2f") + b"7\n"
        assert hints(data, cuts) == ["a1", ID, "a2"]


def test_an_event_with_giant_labels_says_whom_it_is_about_and_is_not_kept():
    reader = EventReader()
    data = event(label="x" * 5_000_000)
    found = []
    for start in range(0, len(data), 65536):
        found += reader.feed(data[start : start + 65536])
        assert len(reader._rest) + len(reader._head) <= 2 * answers.EVENT
    assert found == [ID]
    assert reader.feed(event("a1")) == ["a1"]


@pytest.mark.parametrize("line", [b"{", b"\xff", b"[" * 100_000, b"1" * 5000, b"<html>"])
def test_what_is_no_event_is_said(line):
    with pytest.raises(ValueError, match=r"."):
        EventReader().feed(line + b"\n")


@pytest.mark.parametrize(
    "line", [b"[1]", b"null", b"7", b'{"Actor":1}', b'{"Actor":{"ID":7}}', b'{"Type":"network"}']
)
def test_an_event_that_is_about_no_container_is_passed_over(line):
    assert EventReader().feed(line + b"\n") == []
