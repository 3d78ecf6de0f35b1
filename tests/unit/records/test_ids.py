"""Ids: spelled one way, ordered by time, never the same twice."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from storage.records.ids import is_id, unix_ms_of, uuid7, uuid7_series

times = st.integers(0, 2**48 - 1)
bits = st.integers(0, 2**80 - 1)


@given(times, bits)
def test_an_id_is_a_uuid_of_version_7_that_knows_its_time(unix_ms, random_bits):
    made = uuid7(unix_ms, random_bits)
    parsed = uuid.UUID(made)
    assert (str(parsed), parsed.version, parsed.variant) == (made, 7, uuid.RFC_4122)
    assert unix_ms_of(made) == unix_ms
    assert is_id(made)


@given(times, times, bits, bits)
def test_later_ids_sort_later(first_ms, second_ms, one, other):
    if first_ms == second_ms:
        return
    early, late = sorted((first_ms, second_ms))
    assert uuid7(early, one) < uuid7(late, other)


@given(times, bits)
def test_every_random_bit_counts(unix_ms, random_bits):
    seen = {uuid7(unix_ms, random_bits ^ (1 << bit)) for bit in range(74)}
    assert len(seen) == 74


@given(st.integers(1, 300), times, bits)
def test_a_series_ascends_within_its_millisecond(count, unix_ms, random_bits):
    series = uuid7_series(count, unix_ms, random_bits)
    assert series == sorted(set(series))
    assert len(series) == count
    assert {unix_ms_of(one) for one in series} == {unix_ms}


def test_the_highest_seed_leaves_room_for_a_request():
    series = uuid7_series(10_000, 0, 2**80 - 1)
    assert series == sorted(set(series))


def test_other_spellings_are_no_ids():
    made = uuid7(1, 2)
    for other in (
        made.upper().replace("7", "A"),
        made.replace("-", ""),
        f"{{{made}}}",
        made + "\n",
    ):
        assert not is_id(other)
