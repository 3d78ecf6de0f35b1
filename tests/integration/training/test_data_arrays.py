"""Arrays keep the numbers that are in their files, and a gap in one is a gap."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.records.errors import InvalidInput
from storage.records.training import MissingRule, Preparation
from tests.support.bulk_files import npz
from tests.support.training_data import DataDesk, everything, spec_of
from workers.training.data.kept_rows import KeptRows
from workers.training.ports import Part

BYTES = np.arange(48, dtype=np.uint8).reshape(12, 4)
LABELS = np.arange(12) % 2


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


def parquet_of(desk: DataDesk, column: pa.Array) -> str:
    out = io.BytesIO()
    pq.write_table(pa.table({"x": column, "label": pa.array(LABELS)}), out, row_group_size=5)
    return desk.write("x.parquet", out.getvalue())


@pytest.mark.parametrize("gaps", ["row", "number"])
@pytest.mark.parametrize("make", [lists, tensors])
def test_a_gap_in_a_column_of_bytes_is_refused_dropped_or_filled(
    desk: DataDesk, make: Any, gaps: str
) -> None:
    uri = parquet_of(desk, make(gaps))
    with pytest.raises(InvalidInput) as caught:
        desk.prepare(spec_of(uri))
    assert caught.value.stable_code == "feature_missing"
    assert "row 8 of" in caught.value.message

    dropped = desk.prepare(spec_of(uri, prepare=Preparation(missing=MissingRule.DROP)))
    assert dropped.prepared.note["dropped"] == {"missing": 1}
    assert dropped.prepared.features[0].dtype == "uint8"
    assert np.array_equal(rows_of(dropped).reshape(-1, 4), np.delete(BYTES, 7, axis=0))

    for fill, dtype in ((200, "uint8"), (-1, "float32")):
        filling = Preparation(missing=MissingRule.FILL, fill={"x": fill})
        filled = desk.prepare(spec_of(uri, prepare=filling))
        assert filled.prepared.features[0].dtype == dtype
        assert np.count_nonzero(rows_of(filled) == fill) == (4 if gaps == "row" else 1)


@pytest.mark.parametrize("make", [lists, tensors])
def test_without_a_gap_bytes_are_bytes(desk: DataDesk, make: Any) -> None:
    rows = desk.prepare(spec_of(parquet_of(desk, make(""))))
    assert rows.prepared.features[0].dtype == "uint8"
    assert np.array_equal(rows_of(rows).reshape(-1, 4), BYTES)
