"""Parquet: every row of a range once and as it is, in bounded pieces, by few requests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.records.bulk import BulkFormat, Condition
from storage.records.errors import InvalidInput, ObjectsUnavailable
from tests.unit.bulk.files import found, positions, read, table
from workers.bulk.reading import parquet as parquet_module
from workers.bulk.reading.parquet import ParquetSource
from workers.bulk.reading.where import Where

steady = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


def rows(count: int) -> pa.Table:
    return pa.table(
        {
            "n": np.arange(count),
            "t": [f"row {n}" if n % 7 else None for n in range(count)],
            "f": np.arange(count, dtype=np.float32) / 3,
        }
    )


def write(path: Path, content: pa.Table, **options: Any) -> Path:
    pq.write_table(content, path, **options)
    return path


def opened(path: Path, *conditions: Condition) -> ParquetSource:
    return ParquetSource(found(path), Where(conditions, str(path)))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path / "small.parquet", rows(1000), row_group_size=300)


def test_the_footer_tells_what_planning_has_to_know(small: Path) -> None:
    source = opened(small)
    planned = source.planned()
    assert (planned.format, planned.rows, planned.stop) == (BulkFormat.PARQUET, 1000, 1000)
    assert planned.size_bytes == small.stat().st_size and planned.digest is not None
    assert source.columns() == ("n", "t", "f")
    assert source.cuts() == [0, 300, 600, 900]


@steady
@given(st.lists(st.integers(0, 1000), max_size=6), st.integers(1, 400), st.integers(100, 20_000))
def test_however_a_file_is_cut_each_row_is_read_once(
    small: Path, cuts: list[int], max_rows: int, max_bytes: int
) -> None:
    source, edges = opened(small), [0, *sorted(cuts), 1000]
    chunks = [
        chunk
        for start, stop in pairwise(edges)
        for chunk in read(source, ["t", "n"], start, stop, max_rows=max_rows, max_bytes=max_bytes)
    ]
    assert positions(chunks) == list(range(1000))
    assert table(chunks).equals(rows(1000).select(["t", "n"]))
    assert all(c.batch.nbytes <= max_bytes or c.batch.num_rows == 1 for c in chunks)


@steady
@given(st.integers(-10, 1010), st.integers(0, 999), st.integers(0, 1000))
def test_a_where_leaves_out_exactly_what_does_not_hold(
    small: Path, bound: int, start: int, stop: int
) -> None:
    source = opened(small, Condition("n", ">=", bound), Condition("t", "not_null"))
    chunks = read(source, ["f"], start, stop, max_rows=128)
    wanted = [n for n in range(start, stop) if n >= bound and n % 7]
    assert positions(chunks) == wanted
    assert sum(chunk.skipped for chunk in chunks) == max(stop - start, 0) - len(wanted)
    if wanted:
        assert table(chunks)["f"].to_pylist() == rows(1000)["f"].take(wanted).to_pylist()


class Counting:
    """A store that notes which ranges it is asked for."""

    def __init__(self, objects: Any) -> None:
        self._objects, self.asked = objects, []
        self.before: Callable[[], None] = lambda: None

    def get_range(self, key: str, offset: int, length: int, **_: Any) -> bytes:
        self.asked.append((offset, length))
        self.before()
        return self._objects.get_range(key, offset, length)  # type: ignore[no-any-return]

    def info(self, key: str) -> Any:
        return self._objects.info(key)


def counted(path: Path, *conditions: Condition) -> tuple[ParquetSource, Counting]:
    one = found(path)
    store = Counting(one.place.objects)
    place = replace(one.place, objects=store)  # type: ignore[arg-type]
    return ParquetSource(replace(one, place=place), Where(conditions, str(path))), store


def test_only_the_columns_and_row_groups_that_are_needed_are_fetched(tmp_path: Path) -> None:
    wide = pa.table({f"c{n}": np.random.default_rng(n).random(20_000) for n in range(20)})
    path = write(tmp_path / "wide.parquet", wide, row_group_size=5_000, compression="none")
    source, store = counted(path)
    assert len(store.asked) == 1  # the footer
    store.asked.clear()
    read(source, ["c3"], 5_000, 10_000)
    assert len(store.asked) == 1 and store.asked[0][1] < 100_000
    store.asked.clear()
    read(source, list(wide.schema.names), 0, 20_000)
    assert len(store.asked) == 4  # neighbours are fetched together
    assert sum(length for _, length in store.asked) < path.stat().st_size


def test_a_row_group_in_which_no_row_can_hold_is_not_fetched(tmp_path: Path) -> None:
    content = pa.table({"n": np.arange(400_000), "x": np.random.default_rng(1).random(400_000)})
    path = write(tmp_path / "many.parquet", content, row_group_size=100_000)
    group = pq.ParquetFile(path).metadata.row_group(1)
    begins = group.column(0).dictionary_page_offset
    ends = begins + sum(group.column(n).total_compressed_size for n in range(2))
    source, store = counted(path, Condition("n", ">", 150_000), Condition("n", "<=", 150_003))
    store.asked.clear()
    chunks = read(source, ["x"])
    assert positions(chunks) == [150_001, 150_002, 150_003]
    assert sum(chunk.skipped for chunk in chunks) == 399_997
    assert store.asked and all(
        begins <= offset and offset + length <= ends for offset, length in store.asked
    )


def test_a_row_group_too_large_to_be_held_is_read_through_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = pa.table({"x": np.random.default_rng(3).random(200_000), "n": np.arange(200_000)})
    path = write(tmp_path / "one.parquet", content, compression="none", use_dictionary=False)
    monkeypatch.setattr(parquet_module, "HOLD_BYTES", 600_000)
    monkeypatch.setattr(parquet_module, "MIN_WINDOW_BYTES", 1_000)
    source, store = counted(path)
    chunks = read(source, ["x", "n"], 1_000, 200_000, max_rows=10_000)
    assert positions(chunks) == list(range(1_000, 200_000))
    assert table(chunks).equals(content.slice(1_000))
    assert max(length for _, length in store.asked) < 1_100_000


def test_columns_of_every_kind_pass_as_they_are(tmp_path: Path) -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678)
    content = pa.table(
        {
            "dictionary": pa.array(["a", "b", None]).dictionary_encode(),
            "decimal": pa.array([Decimal("1.10"), None, Decimal("-2.00")]),
            "moment": pa.array([moment, None, moment], pa.timestamp("us", "Europe/Berlin")),
            "list": pa.array([[1, 2], [], None], pa.list_(pa.int16())),
            "fixed": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
            "struct": pa.array([{"x": 1, "y": {"z": "q"}}, None, {"x": None, "y": None}]),
            "binary": pa.array([b"\x00\xff", b"", None]),
            "bool": pa.array([True, None, False]),
            "dotted.name": pa.array([1, 2, 3]),
            "ünï cödé": pa.array([1, 2, 3], pa.uint8()),
            "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(
                np.arange(18, dtype=np.uint8).reshape(3, 2, 3)
            ),
        }
    )
    path = write(tmp_path / "kinds.parquet", content)
    source = opened(path, Condition("dotted.name", "!=", 2))
    assert source.columns() == tuple(content.schema.names)
    for name in content.schema.names:
        assert (
            table(read(source, [name]))[name].to_pylist() == content[name].take([0, 2]).to_pylist()
        )
    assert table(read(opened(path), content.schema.names)).schema.equals(content.schema)
    left = opened(path, Condition("dotted.name", ">", 7))
    chunks = read(left, content.schema.names)
    assert table(chunks).schema.equals(content.schema) and chunks[0].skipped == 3


def test_no_column_at_all_still_counts_rows(small: Path) -> None:
    assert positions(read(opened(small), [])) == list(range(1000))


def test_zero_rows_and_zero_row_groups_are_files_too(tmp_path: Path) -> None:
    path = write(tmp_path / "none.parquet", rows(0))
    source = opened(path, Condition("n", "=", 1))
    assert source.planned().rows == 0 and read(source, ["n"]) == []


def test_a_column_that_is_not_there_is_named_before_reading(small: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'m'.* n, t, f") as caught:
        opened(small).chunks(0, 10, ["m"], max_rows=1, max_bytes=1)
    assert caught.value.stable_code == "unknown_column"
    for condition, code in ((Condition("m", "=", 1), "unknown_column"),
                            (Condition("t", "=", 1), "bad_where")):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            opened(small, condition)
        assert caught.value.stable_code == code


def test_two_columns_of_one_name_are_trouble_only_for_who_asks_for_them(tmp_path: Path) -> None:
    content = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "b", "a"])
    source = opened(write(tmp_path / "twice.parquet", content))
    assert table(read(source, ["b"]))["b"].to_pylist() == [2]
    with pytest.raises(InvalidInput) as caught:
        source.chunks(0, 1, ["a"], max_rows=1, max_bytes=1)
    assert caught.value.stable_code == "bad_file"


@pytest.mark.parametrize("kept", [0, 4, 7, 100, 3000, -1])
def test_a_file_that_is_not_whole_is_refused_by_name(small: Path, kept: int) -> None:
    small.write_bytes(small.read_bytes()[:kept])
    with pytest.raises(InvalidInput, match=r"small\.parquet") as caught:
        opened(small)
    assert caught.value.stable_code == "bad_file"


def test_damage_inside_is_found_when_it_is_read(small: Path) -> None:
    data = bytearray(small.read_bytes())
    data[200:2000] = b"\xff" * 1800
    small.write_bytes(bytes(data))
    with pytest.raises(InvalidInput) as caught:
        read(opened(small), ["n"])
    assert caught.value.stable_code == "bad_file"


@steady
@given(st.data())
def test_no_damage_does_more_than_refuse_the_file(small: Path, data: st.DataObject) -> None:
    whole = small.read_bytes()
    spoiled = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        spoiled[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    other = small.with_name("spoiled.parquet")
    other.write_bytes(bytes(spoiled))
    try:
        read(opened(other), ["n", "t"])
    except InvalidInput as error:
        assert error.stable_code in ("bad_file", "unknown_column")


def test_storage_that_does_not_answer_is_not_the_file_s_fault(small: Path) -> None:
    source, store = counted(small)

    def away() -> None:
        raise ObjectsUnavailable("away")

    store.before = away
    with pytest.raises(ObjectsUnavailable):
        read(source, ["n"])


def test_a_reader_may_stop_anywhere(small: Path) -> None:
    chunks = opened(small).chunks(0, 1000, ["n"], max_rows=10, max_bytes=10_000)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
