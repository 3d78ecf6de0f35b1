"""Tensors: only values that are exactly what the model takes get in."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.records.errors import ItemError, NotFound, ObjectsUnavailable
from storage.records.push_options import parse_push_options
from storage.records.signatures import NUMBER_TYPES, InputSpec, Signature, build_signature
from workers.inference.decode import decode_input
from workers.inference.ports import Row


def signature(*inputs: InputSpec, **said: object) -> Signature:
    return build_signature(inputs, parse_push_options(said))


def one(model: Signature, value: object, **options: object) -> Row:
    payload = value if isinstance(value, bytes) else orjson.dumps(value)
    decoded = decode_input(model, payload, **options)
    assert not decoded.is_list
    (row,) = decoded.rows
    assert not isinstance(row, ItemError)
    return row


def code_of(model: Signature, value: object, **options: object) -> str:
    with pytest.raises(ItemError) as caught:
        one(model, value, **options)
    return caught.value.stable_code


def vector(dtype: str, length: int | None = 3) -> Signature:
    return signature(InputSpec("x", dtype, (length,)))


def binary(array: np.ndarray) -> dict[str, object]:
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "b64": base64.b64encode(array.tobytes()).decode(),
    }


@pytest.mark.parametrize("dtype", [name for name in NUMBER_TYPES if name != "bool"])
def test_lists_and_binary_tensors_mean_the_same(dtype: str) -> None:
    listed = one(vector(dtype), {"tensor": [0, 1, 2]})["x"]
    packed = one(vector(dtype), {"tensor": binary(np.array([0, 1, 2], dtype=dtype))})["x"]
    assert listed.dtype == packed.dtype == np.dtype(dtype)
    assert listed.tolist() == packed.tolist() == [0, 1, 2]
    assert packed.flags.owndata or packed.flags.c_contiguous


@pytest.mark.parametrize(
    ("dtype", "values", "code"),
    [
        ("uint8", [0, 1, 300], "out_of_range"),
        ("uint8", [0, -1, 2], "out_of_range"),
        ("int8", [0, 1, 128], "out_of_range"),
        ("int64", [0, 1, 2**63], "out_of_range"),
        ("uint64", [0, 1, -1], "out_of_range"),
        ("int64", [2**63, -1, 0], "out_of_range"),
        ("int32", [1, 2, 3.5], "wrong_dtype"),
        ("int32", [1.0, 2.0, 3.0], "wrong_dtype"),
        ("float16", [1, 2, 70_000], "out_of_range"),
        ("float32", [1, 2, 1e39], "out_of_range"),
        ("float32", [1, None, 3], "wrong_dtype"),
        ("float32", [1, "2", 3], "wrong_dtype"),
        ("float32", [1, True, 3], "wrong_dtype"),
        ("int32", [True, False, True], "wrong_dtype"),
        ("float32", [1, {}, 3], "wrong_dtype"),
        ("float32", [[1], 2, 3], "wrong_shape"),
        ("float32", [1, 2], "wrong_shape"),
        ("float32", [], "wrong_shape"),
        ("float32", 5, "wrong_shape"),
        ("float32", [[1, 2, 3]], "wrong_shape"),
        ("bool", [0, 1, 1], "wrong_dtype"),
        ("string", ["a", "b", 3], "wrong_dtype"),
        ("string", ["a", "b", "c\x00"], "bad_text"),
        ("string", ["a", "b"], "wrong_shape"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(dtype: str, values: object, code: str) -> None:
    assert code_of(vector(dtype), {"tensor": values}) == code


def test_ragged_lists_are_refused_wherever_they_are() -> None:
    square = signature(InputSpec("x", "float32", (3, 2)))
    assert code_of(square, {"tensor": [[1, 2], [3, 4], [5]]}) == "wrong_shape"
    assert code_of(square, {"tensor": [[1, 2], [3, 4], 5]}) == "wrong_shape"
    words = signature(InputSpec("x", "string", (2, 2)))
    assert code_of(words, {"tensor": [["a", "b"], ["c"]]}) == "wrong_shape"


def test_nan_and_infinity_get_in_by_no_door() -> None:
    for bad in (math.nan, math.inf, -math.inf):
        array = np.array([1, bad, 2], dtype="float32")
        assert code_of(vector("float32"), {"tensor": binary(array)}) == "not_finite"
        assert code_of(vector("float64"), {"tensor": binary(array)}) == "not_finite"
        assert code_of(vector("int32"), {"tensor": binary(array)}) == "wrong_dtype"
    assert code_of(vector("float32"), b'{"tensor": [1, NaN, 2]}') == "invalid_json"
    assert code_of(vector("float32"), b'{"tensor": [1, 1e999, 2]}') == "number_out_of_range"


def test_a_binary_tensor_is_measured_before_it_is_decoded() -> None:
    sound = binary(np.zeros(3, dtype="float32"))
    assert code_of(vector("float32"), {"tensor": {**sound, "shape": [4]}}) == "wrong_size"
    assert code_of(vector("float32"), {"tensor": {**sound, "shape": [2**40]}}) == "wrong_size"
    assert code_of(vector("float32"), {"tensor": {**sound, "dtype": "object"}}) == "wrong_dtype"
    assert code_of(vector("float32"), {"tensor": {**sound, "more": 1}}) == "wrong_form"
    broken = {**sound, "b64": "!" + str(sound["b64"])[1:]}
    assert code_of(vector("float32"), {"tensor": broken}) == "bad_base64"
    umlaut = {**sound, "b64": "ä" * 16}
    assert code_of(vector("float32"), {"tensor": umlaut}) == "bad_base64"
    flags = {"dtype": "bool", "shape": [3], "b64": base64.b64encode(b"\x00\x01\x02").decode()}
    assert code_of(vector("bool"), {"tensor": flags}) == "out_of_range"


def test_a_binary_tensor_is_narrowed_where_its_values_survive() -> None:
    wide = np.array([1, 2, 3], dtype="int64")
    assert one(vector("uint8"), {"tensor": binary(wide)})["x"].dtype == np.uint8
    assert one(vector("float32"), {"tensor": binary(wide.astype("float64"))})["x"].tolist() == [
        1,
        2,
        3,
    ]
    assert code_of(vector("uint8"), {"tensor": binary(wide * 200)}) == "out_of_range"
    assert code_of(vector("float32"), {"tensor": binary(wide.astype(bool))}) == "wrong_dtype"


def test_scalars_axes_of_any_length_and_empty_ones() -> None:
    assert one(signature(InputSpec("x", "float32", ())), {"tensor": 5})["x"].shape == ()
    assert one(vector("float32", None), {"tensor": [1, 2, 3, 4]})["x"].shape == (4,)
    assert one(vector("float32", None), {"tensor": []})["x"].shape == (0,)
    assert one(vector("int32", None), {"tensor": []})["x"].dtype == np.int32


def test_named_inputs_must_be_complete_and_known() -> None:
    pair = signature(InputSpec("a", "float32", (2,)), InputSpec("b", "int32", ()))
    row = one(pair, {"inputs": {"b": 7, "a": [1, 2]}})
    assert list(row) == ["a", "b"]
    assert code_of(pair, {"inputs": {"a": [1, 2]}}) == "missing_input"
    assert code_of(pair, {"inputs": {"a": [1, 2], "b": 1, "c": 1}}) == "unknown_input"
    assert code_of(pair, {"tensor": [1, 2]}) == "wrong_form"
    assert code_of(pair, {"inputs": [1]}) == "wrong_form"


@given(
    st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=6),
    st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]),
)
@example([0, 2**63], "uint64")
@example([2**64 - 1, 1], "uint64")
@example([-1, 2**63], "uint64")
@example([0, 2**63], "int64")
def test_an_integer_arrives_unchanged_or_not_at_all(values: list[int], dtype: str) -> None:
    limits = np.iinfo(dtype)
    model, value = vector(dtype, None), {"tensor": values}
    if all(limits.min <= v <= limits.max for v in values):
        assert one(model, value)["x"].tolist() == values
    else:
        assert code_of(model, value) == "out_of_range"


def test_items_fail_one_by_one_and_keep_their_places() -> None:
    model = vector("uint8")
    items = [{"tensor": [1, 2, 3]}, {"tensor": [1, 2, 300]}, {"image": "x"}, {"tensor": [4, 5, 6]}]
    decoded = decode_input(model, orjson.dumps({"items": items}))
    assert decoded.is_list
    codes = [
        row.stable_code if isinstance(row, ItemError) else row["x"].tolist() for row in decoded.rows
    ]
    assert codes == [[1, 2, 3], "out_of_range", "wrong_form", [4, 5, 6]]
    first_error = decoded.rows[1]
    assert isinstance(first_error, ItemError)
    assert first_error.field == "input.items[1].tensor"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "invalid_json"),
        (b"[1]", "wrong_form"),
        (b'{"items": []}', "wrong_form"),
        (b'{"items": 3}', "wrong_form"),
        (b'{"items": [{}], "x": 1}', "wrong_form"),
        (orjson.dumps({"items": [{"tensor": [1, 2, 3]}] * 1025}), "too_many_items"),
        (b'{"tensor": ' + b"[" * 70 + b"]" * 70 + b"}", "too_deep"),
    ],
)
def test_a_wrong_whole_is_one_error(payload: bytes, code: str) -> None:
    assert code_of(vector("uint8"), payload) == code


def npy(array: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def test_a_reference_may_hold_an_array_of_numpys() -> None:
    model = vector("float32")
    row = one(model, {"ref": "r"}, fetch_ref=lambda _: npy(np.arange(3.0)))
    assert row["x"].tolist() == [0, 1, 2]
    for bad in (
        npy(np.array([1, "x", None], dtype=object), allow_pickle=True),
        npy(np.arange(3.0))[:-4],
        b"\x93NUMPY\x01\x00\xff\xff",
        b"\x93NUMPY\x09\x09" + bytes(200),
    ):
        assert code_of(model, {"ref": "r"}, fetch_ref=lambda _, bad=bad: bad) == "bad_npy"
    huge = npy(np.zeros(3)).replace(b"(3,)", b"(3000000000,)"[:4].ljust(4))
    assert huge
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }"
    text = header.ljust(117) + b"\n"
    declared = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(24)
    assert code_of(model, {"ref": "r"}, fetch_ref=lambda _: declared) == "bad_npy"


def test_a_reference_may_hold_an_input_as_json_but_no_further_reference() -> None:
    model = vector("float32")
    assert one(model, {"ref": "r"}, fetch_ref=lambda _: b'{"tensor": [1, 2, 3]}')["x"].shape == (3,)
    assert code_of(model, {"ref": "r"}, fetch_ref=lambda _: b'{"ref": "s"}') == "wrong_form"
    assert code_of(model, {"ref": "r"}, fetch_ref=lambda _: b"\xff\xfe") == "invalid_json"
    assert code_of(model, {"ref": "r"}) == "ref_not_allowed"


def test_a_missing_reference_is_the_items_fault_and_an_outage_is_not() -> None:
    def missing(uri: str) -> bytes:
        raise NotFound("no such file", code="object_not_found")

    def down(uri: str) -> bytes:
        raise ObjectsUnavailable("storage is down")

    model = vector("float32")
    assert code_of(model, {"ref": "r"}, fetch_ref=missing) == "ref_not_found"
    with pytest.raises(ObjectsUnavailable):
        decode_input(model, b'{"items": [{"ref": "r"}]}', fetch_ref=down)


def test_text_reaches_the_model_as_it_is() -> None:
    for shape in ((), (1,)):
        model = signature(InputSpec("t", "string", shape), input="text")
        assert one(model, {"text": "grüße 🎈"})["t"].shape == shape
        assert one(model, {"text": "grüße 🎈"})["t"].reshape(-1)[0] == "grüße 🎈"
        assert one(model, {"ref": "r"}, fetch_ref=lambda _: "ä".encode())["t"].reshape(-1)[0] == "ä"
        assert code_of(model, {"ref": "r"}, fetch_ref=lambda _: b"\xff") == "bad_text"
        assert code_of(model, {"text": "a\x00"}) == "bad_text"
        assert code_of(model, {"text": 3}) == "wrong_dtype"
