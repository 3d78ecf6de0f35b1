"""Arrays keep the numbers that are in their files, and a gap in one is a gap."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.records.bulk import Condition
from storage.records.errors import InvalidInput
from storage.records.training import MissingRule, Preparation
from tests.support.bulk_files import npz
from tests.support.training_data import DataDesk, everything, spec_of
from workers.bulk.reading import line_source
from workers.training.data.kept_rows import KeptRows
from workers.training.ports import Part

BYTES = np.arange(48, dtype=np.uint8).reshape(12, 4)
LABELS = np.arange(12) % 2
X = {"features": ("x",)}


def rows_of(rows: KeptRows, name: str = "x") -> Any:
    """In the order of their first number."""
    every = np.concatenate([everything(rows, part).inputs[name] for part in Part])
    return every[np.argsort(every.reshape(len(every), -1)[:, 0])]


def shards(desk: DataDesk, *arrays: Any) -> str:
    folder = f"shards-{len(list(desk.folder.iterdir()))}"
    for number, one in enumerate(arrays):
        desk.write(f"{folder}/{number}.npz", npz(x=one, label=LABELS[: len(one)]))
    return desk.uri(f"{folder}/*.npz")


@pytest.mark.parametrize("more", [np.float32(0.5), np.int16(300), np.int16(-1), np.float64(1e6)])
def test_files_of_another_type_keep_their_numbers(desk: DataDesk, more: Any) -> None:
    other = np.full((4, 4), more)
    want = np.concatenate([BYTES.astype(np.float32), other.astype(np.float32)])
    want = want[np.argsort(want[:, 0])]
    for order in ((BYTES, other), (other, BYTES)):
        rows = desk.prepare(spec_of(shards(desk, *order)))
        assert rows.prepared.features[0].dtype == "float32"
        assert np.array_equal(np.sort(rows_of(rows), axis=0), np.sort(want, axis=0))


def test_the_same_numbers_in_another_type_are_bytes_still(desk: DataDesk) -> None:
    rows = desk.prepare(spec_of(shards(desk, BYTES[:6], BYTES[6:].astype(np.int64))))
    assert rows.prepared.features[0].dtype == "uint8"
    assert np.array_equal(rows_of(rows), BYTES)


def lists(gaps: str) -> pa.Array:
    told: list[Any] = BYTES.tolist()
    if gaps == "row":
        told[7] = None
    elif gaps == "number":
        told[7][2] = None
    return pa.array(told, pa.list_(pa.uint8()))


def tensors(gaps: str) -> pa.Array:
    storage = lists(gaps).cast(pa.list_(pa.uint8(), 4))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), [2, 2]), storage)


def parquet_of(desk: DataDesk, column: pa.Array, name: str = "x") -> str:
    out = io.BytesIO()
    columns = {"x": column, "n": pa.array(range(len(column))), "label": LABELS[: len(column)]}
    pq.write_table(pa.table(columns), out, row_group_size=5)
    return desk.write(f"{name}.parquet", out.getvalue())


@pytest.mark.parametrize("gaps", ["row", "number"])
@pytest.mark.parametrize("make", [lists, tensors])
def test_a_gap_in_a_column_of_bytes_is_refused_dropped_or_filled(
    desk: DataDesk, make: Any, gaps: str
) -> None:
    uri = parquet_of(desk, make(gaps))
    with pytest.raises(InvalidInput) as caught:
        desk.prepare(spec_of(uri, data=X))
    assert caught.value.stable_code == "feature_missing"
    assert "row 8 of" in caught.value.message

    dropped = desk.prepare(spec_of(uri, data=X, prepare=Preparation(missing=MissingRule.DROP)))
    assert dropped.prepared.note["dropped"] == {"missing": 1}
    assert dropped.prepared.features[0].dtype == "uint8"
    assert np.array_equal(rows_of(dropped).reshape(-1, 4), np.delete(BYTES, 7, axis=0))

    for fill, dtype in ((200, "uint8"), (-1, "float32")):
        filling = Preparation(missing=MissingRule.FILL, fill={"x": fill})
        filled = desk.prepare(spec_of(uri, data=X, prepare=filling))
        assert filled.prepared.features[0].dtype == dtype
        assert np.count_nonzero(rows_of(filled) == fill) == (4 if gaps == "row" else 1)


@pytest.mark.parametrize("make", [lists, tensors])
def test_without_a_gap_bytes_are_bytes(desk: DataDesk, make: Any) -> None:
    rows = desk.prepare(spec_of(parquet_of(desk, make("")), data=X))
    assert rows.prepared.features[0].dtype == "uint8"
    assert np.array_equal(rows_of(rows).reshape(-1, 4), BYTES)


def test_an_array_may_be_called_as_the_vector_of_the_other_columns(desk: DataDesk) -> None:
    numbers = np.arange(12.0)
    uri = desk.write("x.npz", npz(features=BYTES, n=numbers, label=LABELS))
    rows = desk.prepare(spec_of(uri))
    assert [one.name for one in rows.prepared.features] == ["features", "features_vector"]
    batch = everything(rows)
    which = batch.inputs["features_vector"][:, 0].astype(int)
    assert np.array_equal(batch.inputs["features"], BYTES[which])
    assert np.array_equal(batch.target, LABELS[which])


# ---- lists


def jsonl_of(desk: DataDesk, lists: list[Any]) -> str:
    lines = [{"n": n, "x": one, "label": n % 2} for n, one in enumerate(lists)]
    return desk.write("x.jsonl", "".join(json.dumps(one) + "\n" for one in lines))


@pytest.mark.parametrize("first", [None, [], "where"])
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_lists_are_arrays_whatever_the_first_row_is(desk: DataDesk, form: str, first: Any) -> None:
    told: list[Any] = (BYTES + (0.5 if form == "parquet" else 0)).tolist()
    want = np.array(told[6:])
    told[:6] = [None if first == "where" else first] * 6
    uri = (
        jsonl_of(desk, told)
        if form == "jsonl"
        else parquet_of(desk, pa.array(told, pa.list_(pa.float32())))
    )
    data: dict[str, Any] = X
    if first == "where":
        data = {**X, "where": (Condition("n", ">", 5),)}
    elif first == []:
        with pytest.raises(InvalidInput, match="and others of") as caught:
            desk.prepare(spec_of(uri, data=X))
        assert caught.value.stable_code == "shape_mismatch"
        return
    rows = desk.prepare(spec_of(uri, data=data, prepare=Preparation(missing=MissingRule.DROP)))
    assert np.array_equal(rows_of(rows), want)


def test_lists_that_only_the_second_file_has(desk: DataDesk) -> None:
    nothing = pa.array([None] * 12, pa.list_(pa.uint8()))
    parquet_of(desk, nothing, "1")
    parquet_of(desk, lists(""), "2")
    spec = spec_of(desk.uri("*.parquet"), data=X, prepare=Preparation(missing=MissingRule.DROP))
    rows = desk.prepare(spec)
    assert rows.prepared.note["dropped"] == {"missing": 12}
    assert np.array_equal(rows_of(rows), BYTES)


def test_lists_without_a_number_are_told_so(desk: DataDesk) -> None:
    uri = parquet_of(desk, pa.array([None, []] * 6, pa.list_(pa.uint8())))
    with pytest.raises(InvalidInput, match="none with a number in it") as caught:
        desk.prepare(spec_of(uri, data=X))
    assert caught.value.stable_code == "bad_feature"


def test_a_file_without_rows_says_nothing_of_the_others(desk: DataDesk) -> None:
    parquet_of(desk, lists("")[:0], "1")
    with pytest.raises(InvalidInput) as caught:
        desk.prepare(spec_of(desk.uri("1.parquet"), data=X))
    assert caught.value.stable_code == "data_empty"
    parquet_of(desk, lists(""), "2")
    rows = desk.prepare(spec_of(desk.uri("*.parquet"), data=X))
    assert np.array_equal(rows_of(rows), BYTES)


def test_whole_numbers_in_lists_are_followed_by_fractions(
    desk: DataDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_source, "_SAMPLE_BYTES", 100)
    told = BYTES.tolist()
    told[10][1] = 0.5
    rows = desk.prepare(spec_of(jsonl_of(desk, told), data=X))
    assert np.array_equal(rows_of(rows), np.array(told))
