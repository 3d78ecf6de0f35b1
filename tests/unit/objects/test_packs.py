"""Packs: what is written is what is read, and what was changed or cut is never taken for whole."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.objects.packs import (
    MAX_GAP_BYTES,
    PackWriter,
    entries,
    pack_key,
    read_slice,
    read_slices,
    retention_day,
)
from storage.records.errors import InvalidInput, ObjectCorrupt
from storage.records.jobs import PackSlice
from storage.records.packs import PackKind, PackSummary

steady = settings(deadline=None)  # a busy machine is no failure
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
contents = st.dictionaries(ids, st.binary(max_size=300), min_size=1, max_size=12)


class OneObject:
    """Just enough of a store to count how often it is asked."""

    def __init__(self, data):
        self.data, self.asked = data, 0

    def get_range(self, key, offset_bytes, length_bytes):
        self.asked += 1
        assert offset_bytes + length_bytes <= len(self.data)
        return self.data[offset_bytes : offset_bytes + length_bytes]


def packed(content):
    writer = PackWriter("p1")
    slices = {entry_id: writer.add(entry_id, data) for entry_id, data in content.items()}
    assert len(writer) == len(content)
    data, summary = writer.finish()
    assert summary == PackSummary("p1", len(content), len(data))
    return data, slices


@steady
@given(contents)
def test_an_auditor_finds_exactly_what_was_added_in_order(content):
    data, slices = packed(content)
    found = list(entries(data))
    assert [(one.id, one.data) for one in found] == list(content.items())
    for one in found:
        assert slices[one.id] == PackSlice("p1", one.offset_bytes, len(one.data), one.digest)


@steady
@given(contents, st.randoms(use_true_random=False))
def test_slices_read_back_one_by_one_and_together_in_the_order_asked(content, random):
    data, slices = packed(content)
    store = OneObject(data)
    wanted = random.sample(list(content), len(content))
    for entry_id in wanted:
        assert read_slice(store, "k", slices[entry_id]) == content[entry_id]
    together = read_slices(store, "k", [slices[entry_id] for entry_id in wanted])
    assert together == [content[entry_id] for entry_id in wanted]


@steady
@given(contents, st.data())
def test_a_pack_cut_short_anywhere_is_detected(content, draw):
    data, _ = packed(content)
    length = draw.draw(st.integers(0, len(data) - 1))
    with pytest.raises(ObjectCorrupt):
        list(entries(data[:length]))


@steady
@given(contents, st.data())
def test_any_changed_byte_is_detected(content, draw):
    data, _ = packed(content)
    at = draw.draw(st.integers(0, len(data) - 1))
    changed = bytearray(data)
    changed[at] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(ObjectCorrupt):
        list(entries(bytes(changed)))


@steady
@given(contents, st.binary(min_size=1, max_size=80))
def test_a_pack_with_something_behind_its_trailer_is_detected(content, more):
    data, _ = packed(content)
    with pytest.raises(ObjectCorrupt):
        list(entries(data + more))


@steady
@given(st.binary(max_size=200))
def test_bytes_that_are_no_pack_are_refused(data):
    with pytest.raises(ObjectCorrupt):
        list(entries(data))


def test_a_dropped_entry_is_detected_even_where_every_digest_is_right():
    data, _ = packed({"a": b"first", "b": b"second", "c": b"third"})
    found = list(entries(data))
    frame = found[1].offset_bytes - found[0].offset_bytes - len(b"first")
    start = found[0].offset_bytes + len(b"first")
    without_b = data[:start] + data[start + frame + len(b"second") :]
    with pytest.raises(ObjectCorrupt, match="trailer"):
        list(entries(without_b))


def test_a_pack_of_a_later_version_is_refused_by_name():
    data, _ = packed({"a": b"1"})
    with pytest.raises(ObjectCorrupt, match="version"):
        list(entries(data.replace(b"FBPACK01", b"FBPACK02", 1)))


def test_a_slice_whose_bytes_changed_is_never_returned():
    data, slices = packed({"a": b"right answer", "b": b"other answer"})
    store = OneObject(data.replace(b"right", b"wrong"))
    with pytest.raises(ObjectCorrupt):
        read_slice(store, "k", slices["a"])
    with pytest.raises(ObjectCorrupt):
        read_slices(store, "k", [slices["b"], slices["a"]])
    swapped = PackSlice("p1", slices["b"].offset_bytes, 12, slices["a"].digest)
    with pytest.raises(ObjectCorrupt):
        read_slice(OneObject(data), "k", swapped)


def test_neighbours_are_read_by_one_range_and_far_ones_by_their_own():
    far = MAX_GAP_BYTES + 1
    data, slices = packed({"a": b"1" * 200, "b": b"2" * 200, "gap": b"x" * far, "c": b"3"})
    store = OneObject(data)
    wanted = [slices["c"], slices["a"], slices["b"]]
    assert read_slices(store, "k", wanted) == [b"3", b"1" * 200, b"2" * 200]
    assert store.asked == 2
    assert read_slices(store, "k", []) == []


def test_an_id_is_used_once_and_never_empty():
    writer = PackWriter("p1")
    writer.add("a", b"1")
    for wrong in ("a", "", "x" * 70_000):
        with pytest.raises(ValueError):
            writer.add(wrong, b"2")
    data, summary = writer.finish()
    assert summary.entries == 1 and [one.data for one in entries(data)] == [b"1"]


def test_an_empty_pack_is_not_written():
    with pytest.raises(ValueError, match="without entries"):
        PackWriter("p1").finish()


def test_the_size_is_known_before_the_end():
    writer = PackWriter("p1")
    writer.add("a", b"12345")
    expected = writer.size_bytes
    assert len(writer.finish()[0]) == expected


def test_a_batch_is_packed_in_far_less_than_the_millisecond_it_may_cost():
    names = [f"0199aaaa-bbbb-7ccc-8ddd-{n:012d}" for n in range(128)]
    best_s = 1.0
    for _ in range(50):
        started = time.process_time()
        writer = PackWriter("p1")
        for name in names:
            writer.add(name, b"x" * 200)
        writer.finish()
        best_s = min(best_s, time.process_time() - started)
    assert best_s < 0.001, f"{best_s * 1000:.2f} ms"


def test_tens_of_thousands_of_entries_fit():
    content = {str(n): b"%d" % n for n in range(30_000)}
    data, slices = packed(content)
    assert sum(1 for _ in entries(data)) == 30_000
    assert read_slice(OneObject(data), "k", slices["29999"]) == b"29999"


def test_the_key_holds_tenant_and_retention_day():
    day = retention_day(1_767_225_599_999, 30)  # the last millisecond of 2025
    assert day == "2026-01-30"
    assert pack_key(PackKind.RESULT, "acme", day, "p1") == "packs/result/acme/2026-01-30/p1.pack"


@pytest.mark.parametrize(
    ("tenant", "day", "pack_id"),
    [
        ("../other", "2026-01-30", "p1"),
        ("a/b", "2026-01-30", "p1"),
        ("..", "2026-01-30", "p1"),
        ("acme", "tomorrow", "p1"),
        ("acme", "2026-01-30\n", "p1"),
        ("acme", "2026-01-30", "../../p1"),
        ("", "2026-01-30", "p1"),
    ],
)
def test_a_key_never_leads_into_another_tenants_folder(tenant, day, pack_id):
    with pytest.raises(InvalidInput):
        pack_key(PackKind.INPUT, tenant, day, pack_id)
