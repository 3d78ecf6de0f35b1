"""However Arrow keeps a column, the model gets the same rows; without a copy where it can be."""

from __future__ import annotations

import decimal
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from storage.records.bulk import BulkFormat
from storage.records.errors import InvalidInput
from storage.records.push_options import parse_push_options
from storage.records.signatures import InputSpec, Shape, Signature, build_signature
from tests.unit.bulk.decode.oracle import decode
from workers.bulk.ports import Decoded

PARQUET = BulkFormat.PARQUET
PIXELS = np.arange(4 * 6, dtype=np.float32).reshape(4, 2, 3)
LISTS = PIXELS.tolist()


def tensor(dtype: str, shape: Shape) -> Signature:
    return build_signature([InputSpec("x", dtype, shape)], parse_push_options({"input": "tensor"}))


def block(decoded: Decoded) -> np.ndarray[Any, Any]:
    assert decoded.block is not None
    return decoded.block["x"]


def codes(decoded: Decoded) -> dict[int, str]:
    return {row: code for row, code, _ in decoded.errors}


def fixed(array: pa.Array, *sizes: int) -> pa.Array:
    for size in reversed(sizes):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


FLAT = pa.array(PIXELS.reshape(-1))


@pytest.mark.parametrize(
    "array",
    [
        pa.array(LISTS, pa.list_(pa.list_(pa.float64()))),
        pa.array(LISTS, pa.large_list(pa.list_(pa.float32(), 3))),
        pa.array(LISTS, pa.list_view(pa.large_list_view(pa.int16()))),
        pa.array(PIXELS.reshape(4, 6).tolist(), pa.list_(pa.uint8())),
        pa.array(PIXELS.reshape(4, 1, 6, 1).tolist()),
        fixed(FLAT, 6),
        fixed(FLAT, 2, 3),
        fixed(FLAT.cast(pa.float16()), 2, 3),
        fixed(FLAT.cast(pa.decimal128(9, 2)), 2, 3),
        pa.FixedShapeTensorArray.from_numpy_ndarray(PIXELS),
        pa.FixedShapeTensorArray.from_numpy_ndarray(PIXELS.astype(np.int32).reshape(4, 6)),
    ],
    ids=lambda array: str(array.type)[:60],
)
def test_lists_and_tensors_of_any_kind(array: pa.Array) -> None:
    for model in (tensor("float32", (2, 3)), tensor("float32", (2, 3, 1)), tensor("uint8", (6,))):
        got = block(decode(model, {"x": array}, format=PARQUET))
        assert got.dtype == np.dtype(model.asked[0].dtype)
        assert np.array_equal(got, PIXELS.reshape(4, *model.asked[0].shape))
        cut = block(decode(model, {"x": array.slice(1, 2)}, format=PARQUET))
        assert np.array_equal(cut, PIXELS[1:3].reshape(2, *model.asked[0].shape))
        assert block(decode(model, {"x": array.slice(4)}, format=PARQUET)).shape[0] == 0


@pytest.mark.parametrize("shape", [(3, 2), (1, 3, 2), (5,), (2, 2), (7, 1)])
def test_numbers_in_another_order_are_not_taken_for_these(shape: tuple[int, ...]) -> None:
    decoded = decode(tensor("float32", shape), {"x": fixed(FLAT, 2, 3)}, format=PARQUET)
    assert set(codes(decoded).values()) == {"wrong_shape"} and len(decoded.good) == 0


def test_a_tensor_stored_in_another_order_of_axes_is_turned() -> None:
    turned = np.ascontiguousarray(PIXELS.transpose(0, 2, 1))
    kind = pa.fixed_shape_tensor(pa.float32(), [3, 2], permutation=[1, 0])
    array = pa.ExtensionArray.from_storage(kind, fixed(pa.array(turned.reshape(-1)), 6))
    model = tensor("float32", (2, 3))
    assert np.array_equal(block(decode(model, {"x": array}, format=PARQUET)), PIXELS)
    gaps = pa.ExtensionArray.from_storage(
        kind, pa.array([turned[0].reshape(-1).tolist(), None], pa.list_(pa.float32(), 6))
    )
    decoded = decode(model, {"x": gaps}, format=PARQUET)
    assert codes(decoded) == {1: "missing_input"}
    assert np.array_equal(block(decoded), PIXELS[:1])


@pytest.mark.parametrize(
    "array",
    [
        fixed(FLAT, 6),
        fixed(FLAT, 2, 3),
        pa.array(LISTS, pa.list_(pa.list_(pa.float32()))),
        pa.FixedShapeTensorArray.from_numpy_ndarray(PIXELS),
    ],
)
@pytest.mark.parametrize("start", [0, 1])
def test_what_lies_as_the_model_takes_it_is_not_copied(array: pa.Array, start: int) -> None:
    got = block(decode(tensor("float32", (2, 3)), {"x": array.slice(start)}, format=PARQUET))
    assert np.array_equal(got, PIXELS[start:])
    (data,) = {buffer.address: buffer for buffer in array.buffers() if buffer}.popitem()[1:]
    address = got.__array_interface__["data"][0]
    assert data.address <= address < data.address + data.size


def test_a_wrong_row_leaves_the_others_as_they_are() -> None:
    rows: list[Any] = [[1, 2], None, [1], [3, None], [float("inf"), 0], [1e300, 0], [5, 6], []]
    array = pa.array(rows, pa.list_(pa.float64()))
    decoded = decode(tensor("float32", (2,)), {"x": array}, format=PARQUET)
    assert codes(decoded) == {
        1: "missing_input",
        2: "wrong_shape",
        3: "wrong_dtype",
        4: "not_finite",
        5: "out_of_range",
        7: "wrong_shape",
    }
    assert decoded.good.tolist() == [0, 6] and block(decoded).tolist() == [[1, 2], [5, 6]]
    assert [row for row, _, _ in decoded.errors] == sorted(codes(decoded))
    assert all("column 'x'" in message for _, _, message in decoded.errors)


def test_whole_numbers_in_a_column_of_floats_are_integers_as_far_as_floats_tell() -> None:
    rows = [1.0, -1.0, 2.5, float("nan"), 256.0, 2.0**60, 2.0**64, None]
    decoded = decode(tensor("uint8", ()), {"x": pa.array(rows)}, format=PARQUET)
    assert block(decoded).tolist() == [1]
    assert list(codes(decoded).values()) == [
        "out_of_range",
        "wrong_dtype",
        "not_finite",
        "out_of_range",
        "wrong_dtype",
        "out_of_range",
        "missing_input",
    ]


def test_integers_of_64_bits_keep_their_digits() -> None:
    rows = [2**63 + 1, 2**64 - 1, 0]
    column = {"x": pa.array(rows, pa.uint64())}
    assert block(decode(tensor("uint64", ()), column, format=PARQUET)).tolist() == rows
    assert codes(decode(tensor("int64", ()), column, format=PARQUET)) == dict.fromkeys(
        (0, 1), "out_of_range"
    )


@pytest.mark.parametrize(
    ("dtype", "array"),
    [
        ("float32", pa.array([datetime(2026, 1, 1)])),
        ("float32", pa.array([datetime(2026, 1, 1).date()])),
        ("float32", pa.array(["1"])),
        ("float32", pa.array([True])),
        ("float32", pa.array([{"a": 1}])),
        ("bool", pa.array([1])),
        ("string", pa.array([1])),
        ("string", pa.array([datetime(2026, 1, 1)])),
    ],
)
def test_a_type_that_holds_no_right_row_is_the_files_fault_or_each_rows(
    dtype: str, array: pa.Array
) -> None:
    model = tensor(dtype, ())
    with pytest.raises(InvalidInput) as caught:
        decode(model, {"x": array}, format=PARQUET)
    assert caught.value.stable_code == "wrong_dtype" and "'x'" in caught.value.message
    # What a text file's column holds was guessed from its rows.
    assert codes(decode(model, {"x": array}, format=BulkFormat.JSONL)) == {0: "wrong_dtype"}


def test_single_values_for_a_model_that_takes_many() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(tensor("float32", (3,)), {"x": pa.array([1.0])}, format=PARQUET)
    assert caught.value.stable_code == "wrong_shape" and "single values" in caught.value.message


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", None, "wörter"]),
        pa.array(["a", None, "wörter"], pa.large_string()),
        pa.array(["a", None, "wörter"], pa.string_view()),
        pa.array(["a", None, "wörter"]).dictionary_encode(),
        pa.array([b"a", None, "wörter".encode()]),
        pa.array([b"a", None, "wörter".encode()], pa.binary_view()),
        pc.run_end_encode(pa.array(["a", None, "wörter"])),
    ],
    ids=lambda array: str(array.type)[:60],
)
def test_text_of_any_kind(array: pa.Array) -> None:
    model = build_signature([InputSpec("x", "string", (1,))], parse_push_options(None))
    decoded = decode(model, {"x": array}, format=PARQUET)
    assert codes(decoded) == {1: "missing_input"}
    assert block(decoded).tolist() == [["a"], ["wörter"]]
    assert block(decoded).dtype == object


def test_text_that_the_model_cannot_take_is_its_rows_error() -> None:
    model = build_signature([InputSpec("x", "string", ())], parse_push_options(None))
    raw = pa.array([b"fine", b"\xff\xfe", b"a\x00b", b"", None])
    broken = pa.Array.from_buffers(pa.string(), 5, raw.buffers())
    for array in (raw, broken):
        decoded = decode(model, {"x": array}, format=PARQUET)
        assert codes(decoded) == {1: "bad_text", 2: "bad_text", 4: "missing_input"}
        assert block(decoded).tolist() == ["fine", ""]


def test_decimals_are_numbers() -> None:
    rows = [decimal.Decimal("1.25"), None, decimal.Decimal("3")]
    decoded = decode(tensor("float32", ()), {"x": pa.array(rows)}, format=PARQUET)
    assert block(decoded).tolist() == [1.25, 3] and codes(decoded) == {1: "missing_input"}
    whole = pa.array([decimal.Decimal(10**17 + 1)], pa.decimal128(18, 0))
    assert block(decode(tensor("int64", ()), {"x": whole}, format=PARQUET)).tolist() == [10**17 + 1]


def test_bools_of_numpy_files_come_as_bytes() -> None:
    array = pa.FixedShapeTensorArray.from_numpy_ndarray(np.array([[0, 1], [1, 2]], np.uint8))
    decoded = decode(tensor("bool", (2,)), {"x": array}, format=BulkFormat.NPY)
    assert block(decoded).tolist() == [[False, True]] and codes(decoded) == {1: "out_of_range"}
    with pytest.raises(InvalidInput):
        decode(tensor("bool", (2,)), {"x": array}, format=PARQUET)


def test_rows_of_any_length_come_one_by_one() -> None:
    said = {"input": "tensor", "serving": {"pad": {"x": {"sizes": [2, 4]}}}}
    model = build_signature([InputSpec("x", "int32", (None,))], parse_push_options(said))
    rows: list[Any] = [[1, 2], None, [1, 2, 3], [1, 2, 3, 4, 5], []]
    decoded = decode(model, {"x": pa.array(rows, pa.list_(pa.int64()))}, format=PARQUET)
    assert decoded.block is None and decoded.rows is not None
    assert [row["x"].tolist() for row in decoded.rows] == [[1, 2], [1, 2, 3], []]
    assert all(row["x"].dtype == np.int32 for row in decoded.rows)
    assert decoded.good.tolist() == [0, 2, 4]
    assert codes(decoded) == {1: "missing_input", 3: "too_long"}


def test_a_column_of_nothing_and_a_batch_of_nothing() -> None:
    model = tensor("float32", (2,))
    decoded = decode(model, {"x": pa.nulls(3)}, format=PARQUET)
    assert codes(decoded) == dict.fromkeys(range(3), "missing_input")
    assert block(decoded).shape == (0, 2)
    assert block(decode(model, {"x": pa.nulls(0)}, format=PARQUET)).shape == (0, 2)


def test_csv_cells_of_text_are_read_as_what_they_say() -> None:
    cells = ["1", " 2.5 ", "", None, "abc", "nan", "1e3", "+7", "0x10", "1_000"]
    decoded = decode(tensor("float32", ()), {"x": pa.array(cells)}, format=BulkFormat.CSV)
    assert block(decoded).tolist() == [1, 2.5, 1000, 7]
    assert codes(decoded) == {
        2: "wrong_dtype",
        3: "missing_input",
        4: "wrong_dtype",
        5: "not_finite",
        8: "wrong_dtype",
        9: "wrong_dtype",
    }
    whole = pa.array([str(2**58 + 1), "5.0", "2.5", "1e300"])
    decoded = decode(tensor("int64", ()), {"x": whole}, format=BulkFormat.CSV)
    assert block(decoded).tolist() == [2**58 + 1, 5]
    assert codes(decoded) == dict.fromkeys((2, 3), "wrong_dtype")
    bools = pa.array(["true", "0", "yes"])
    decoded = decode(tensor("bool", ()), {"x": bools}, format=BulkFormat.CSV)
    assert block(decoded).tolist() == [True, False] and codes(decoded) == {2: "wrong_dtype"}
