"""Shards: every position in exactly one, in order, and none much shorter or longer than aimed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.bulk import ShardPlan
from storage.records.errors import InvalidInput
from workers.bulk import cutting
from workers.bulk.cutting import FileToCut, cut

A_MS = 0.001


def seconds(shards: list[ShardPlan], s_per_row: float = A_MS, bytes_per_row: float = 1) -> list:
    return [(one.stop - one.start) / bytes_per_row * s_per_row for one in shards]


@st.composite
def files_to_cut(draw) -> list[FileToCut]:
    files = []
    for number in range(draw(st.integers(0, 6))):
        bytes_per_row = draw(st.sampled_from([None, 1.0, 37.5, 4_000.0]))
        rows = draw(st.one_of(st.integers(0, 3_000), st.integers(0, 3_000_000)))
        stop = round(rows * (bytes_per_row or 1))
        group = draw(st.sampled_from([0, 1, 500, 65_536, 1 << 20]))
        cuts = list(range(group, stop, max(group, 1 + stop // 5_000))) if group else []
        known = bytes_per_row is None or draw(st.booleans())
        files.append(
            FileToCut(
                file=number,
                stop=stop,
                rows=rows if known else None,
                cuts=cuts,
                splittable=draw(st.booleans()),
                bytes_per_row=bytes_per_row,
            )
        )
    return files


@settings(deadline=None, max_examples=60)
@given(
    files_to_cut(),
    st.one_of(st.none(), st.floats(1e-7, 100)),
    st.integers(1, 64),
)
def test_every_position_is_in_exactly_one_shard_in_order(files, s_per_row, workers) -> None:
    shards = cut(files, device_s_per_row=s_per_row, workers=workers)
    assert [one.number for one in shards] == list(range(len(shards)))
    assert len(shards) <= cutting.MAX_SHARDS
    places = [(one.file, one.start, one.stop) for one in shards]
    assert places == sorted(places)
    for file in files:
        own = [one for one in shards if one.file == file.file]
        assert all(one.start < one.stop for one in own)
        ends = [0, *(one.stop for one in own)]
        assert [one.start for one in own] == ends[:-1]
        assert ends[-1] == file.stop
        assert file.splittable or len(own) <= 1


@settings(deadline=None, max_examples=60)
@given(files_to_cut(), st.floats(1e-6, 10), st.integers(1, 16))
def test_shards_of_a_file_that_is_cut_have_a_fair_size(files, s_per_row, workers) -> None:
    shards = cut(files, device_s_per_row=s_per_row, workers=workers)
    if len(shards) > cutting.MAX_SHARDS // 2:
        return  # cut more coarsely, so that they are not too many
    for file in files:
        own = [one for one in shards if one.file == file.file]
        if not file.splittable:
            continue
        for one in own:
            rows = (one.stop - one.start) / file.positions_per_row
            slack = 2 * s_per_row
            if rows > cutting.FEWEST_ROWS * 3 + 2:
                assert rows * s_per_row <= 60 + slack
            if len(own) > 1:
                fewest = min(cutting.FEWEST_ROWS, 20 / s_per_row)
                assert rows >= fewest - 2
                assert rows * s_per_row >= cutting.FINEST_S * 2 / 3 - slack


def test_a_long_run_has_shards_of_half_a_minute() -> None:
    shards = cut([FileToCut(0, 6_000_000, rows=6_000_000)], device_s_per_row=A_MS)
    assert len(shards) == 200
    assert set(seconds(shards)) == {30.0}


def test_an_unknown_cost_is_taken_for_a_millisecond_a_row() -> None:
    files = [FileToCut(0, 6_000_000, rows=6_000_000)]
    assert cut(files, device_s_per_row=None) == cut(files, device_s_per_row=A_MS)


@pytest.mark.parametrize(
    ("rows", "workers", "count"),
    [
        (240_000, 1, 8),  # 240 s: eight of half a minute
        (80_000, 1, 8),  # 80 s: of 10 s
        (12_000, 1, 8),  # 12 s: of 1.5 s
        (8_000, 1, 5),  # 8 s: not below about a thousand rows each
        (1_000, 1, 1),
        (80_000, 4, 16),  # four for each worker
        (80_000, 100, 52),
    ],
)
def test_a_short_run_is_cut_finer_so_that_workers_share_it(rows, workers, count) -> None:
    shards = cut([FileToCut(0, rows, rows=rows)], device_s_per_row=A_MS, workers=workers)
    assert len(shards) == count


def test_rows_that_cost_nothing_are_not_cut_to_crumbs() -> None:
    shards = cut([FileToCut(0, 100_000, rows=100_000)], device_s_per_row=3e-5)
    assert len(shards) == 6  # of half a second each
    assert len(cut([FileToCut(0, 9_000, rows=9_000)], device_s_per_row=0.01)) == 6


def test_rows_that_cost_much_make_short_shards() -> None:
    shards = cut([FileToCut(0, 6_000, rows=6_000)], device_s_per_row=1.0)
    assert set(seconds(shards, 1.0)) == {30.0}


def test_a_shard_ends_with_a_row_group_when_one_ends_near() -> None:
    groups = list(range(25_000, 1_000_000, 25_000))
    shards = cut([FileToCut(0, 1_000_000, rows=1_000_000, cuts=groups)], device_s_per_row=A_MS)
    assert {one.stop for one in shards[:-1]} <= set(groups)
    assert min(seconds(shards)) >= 20 and max(seconds(shards)) <= 60


def test_a_row_group_far_longer_than_a_shard_is_cut_anywhere() -> None:
    shards = cut([FileToCut(0, 1_000_000, rows=1_000_000, cuts=[999_999])], device_s_per_row=A_MS)
    assert len(shards) == 33


def test_text_is_cut_by_bytes() -> None:
    file = FileToCut(0, 60_000_000, bytes_per_row=100.0)  # 600,000 rows
    shards = cut([file], device_s_per_row=A_MS)
    assert len(shards) == 20
    assert set(seconds(shards, bytes_per_row=100)) == {30.0}


def test_a_compressed_file_is_one_shard_and_its_unknown_end_counts_for_nothing() -> None:
    endless = FileToCut(0, 1 << 62, splittable=False, bytes_per_row=100.0)
    shards = cut([endless, FileToCut(1, 80_000, rows=80_000)], device_s_per_row=A_MS)
    assert shards[0] == ShardPlan(0, 0, 0, 1 << 62)
    assert len(shards) == 9


def test_small_files_are_one_shard_each_and_empty_ones_none() -> None:
    files = [FileToCut(number, 100 * (number % 3), rows=100) for number in range(3_000)]
    shards = cut(files, device_s_per_row=A_MS)
    assert [one.file for one in shards] == [n for n in range(3_000) if n % 3]


def test_there_are_never_more_shards_than_can_be_kept() -> None:
    rows = 10**12
    shards = cut([FileToCut(0, rows, rows=rows), FileToCut(1, 5, rows=5)], device_s_per_row=A_MS)
    assert cutting.MAX_SHARDS * 0.8 < len(shards) <= cutting.MAX_SHARDS
    with pytest.raises(InvalidInput, match="20,001 files") as caught:
        cut([FileToCut(n, 1, rows=1) for n in range(20_001)], device_s_per_row=A_MS)
    assert caught.value.stable_code == "too_many_files"
