"""A column's rows come out as online: the same values, and the same code for the same wrong row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records.push_options import parse_push_options
from storage.records.signatures import NUMBER_TYPES, InputSpec, Shape, Signature, build_signature
from tests.unit.bulk.decode.oracle import (
    EXACT,
    assert_same,
    decode,
    is_endless,
    online,
    outcomes,
    spelled,
)

LEAVES = {
    "int8": pa.int8(),
    "uint8": pa.uint8(),
    "int16": pa.int16(),
    "uint16": pa.uint16(),
    "int32": pa.int32(),
    "uint32": pa.uint32(),
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
MISSING = object()
FLOAT_WIDTHS = {"float16": 16, "float32": 32, "float64": 64}


def cells(leaf: str, dtype: str, narrow: bool = False) -> st.SearchStrategy[Any]:
    """Values of a leaf; mostly such as the model may take."""
    if leaf == "bool":
        return st.booleans()
    if leaf == "string":
        return st.sampled_from(["", "a", "wörter", "1", "x" * 40, "nul\x00nul"])
    if leaf in FLOAT_WIDTHS:
        width = FLOAT_WIDTHS[leaf]
        small = st.integers(-3, 300).map(float)
        some = st.floats(width=width, allow_nan=True, allow_infinity=True)
        return st.one_of(small, small, some, st.sampled_from([0.5, -0.0, 65504.0]))
    bits = int(leaf.lstrip("uint"))
    low, high = (0, 2**bits - 1) if leaf[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if narrow or dtype.startswith("float"):
        low, high = max(low, -EXACT), min(high, EXACT)
    return st.one_of(st.integers(max(low, -2), min(high, 127)), st.integers(low, high))


def listed(shape: tuple[int, ...], leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    for length in reversed(shape):
        leaf = st.lists(leaf, min_size=length, max_size=length)
    return leaf


@st.composite
def tensor_columns(draw: st.DrawFn) -> tuple[Signature, pa.Array, list[Any], bool]:
    dtype = draw(st.sampled_from([*NUMBER_TYPES, "string"]))
    shape: Shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, None]), max_size=3)))
    leaf = draw(st.one_of(st.just(dtype), st.just(dtype), st.sampled_from(list(LEAVES))))
    flat = draw(st.booleans()) and shape.count(None) <= 1 and len(shape) != 1
    cell = cells(leaf, dtype)
    cell = st.one_of(cell, cell, cell, cell, st.none()) if draw(st.booleans()) else cell
    rows: list[Any] = []
    for _ in range(draw(st.integers(0, 6))):
        # Online, an empty list has neither a type nor more than one axis.
        least = int(dtype == "bool" or flat)
        lengths = tuple(draw(st.integers(least, 3)) if n is None else n for n in shape)
        if flat:
            lengths = (math.prod(lengths) + draw(st.sampled_from([0, 0, 0, 1])),)
        elif shape and draw(st.integers(0, 5)) == 0:
            lengths = tuple(draw(st.integers(least, 3)) for _ in shape)
        value = draw(listed(lengths, cell))
        if len(lengths) > 1 and lengths[0] and draw(st.integers(0, 6)) == 0:
            value[0] = draw(st.one_of(st.none(), listed((2, *lengths[2:]), cell)))
        rows.append(None if draw(st.integers(0, 8)) == 0 else value)
    kind = LEAVES[leaf]
    for _ in range(1 if flat else len(shape)):
        kind = draw(st.sampled_from([pa.list_, pa.large_list]))(kind)
    before = draw(st.integers(0, 2))
    array = pa.array([*[None] * before, *rows, None], type=kind).slice(before, len(rows))
    model = build_signature(
        [InputSpec("x", dtype, shape), InputSpec("other", "bool", ())],
        parse_push_options({"input": "tensor"}),
    )
    return model, array, rows, flat


def shaped(flat: list[Any], lengths: list[int]) -> Any:
    if not lengths:
        return flat[0]
    step = math.prod(lengths[1:])
    return [shaped(flat[at * step : (at + 1) * step], lengths[1:]) for at in range(lengths[0])]


def finite(value: Any) -> Any:
    if isinstance(value, list):
        return [finite(one) for one in value]
    return 0 if is_endless(value) else value


def only_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(only_numbers, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def expected(model: Signature, dtype: str, value: Any) -> Any:
    """One row, of which ``value`` is given for the input x."""
    whole = dtype.startswith(("int", "uint"))
    given_x = {} if value is MISSING else {"x": spelled(finite(value)) if whole else finite(value)}
    found = online(model, {"inputs": given_x | {"other": True}})
    typed = dtype not in ("bool", "string") and only_numbers(value)
    return "not_finite" if is_endless(value) and typed and found != "wrong_shape" else found


def in_shape(shape: Shape, value: Any) -> Any:
    """A flat list as the model's shape has it, if it can be."""
    rest = math.prod(n for n in shape if n is not None)
    if None in shape and len(value) % rest == 0:
        return shaped(value, [len(value) // rest if n is None else n for n in shape])
    if None not in shape and len(value) == rest:
        return shaped(value, [n for n in shape if n is not None])
    return value


def without_ones(shape: Shape, value: Any) -> Any:
    """In the model's shape, if axes of length one are all that stands elsewhere."""
    try:
        array = np.array(value, dtype=object)
    except ValueError:
        return value
    long = [n for n in shape if n != 1]
    if None in shape or array.ndim != len(shape) or long != [n for n in array.shape if n != 1]:
        return value
    return shaped(array.reshape(-1).tolist(), list(shape)) if array.size else value


@settings(max_examples=200, deadline=None)
@given(tensor_columns())
def test_a_column_of_tensors(case: tuple[Signature, pa.Array, list[Any], bool]) -> None:
    model, array, rows, flat = case
    spec = model.asked[0]
    columns = {"x": array, "other": pa.array([True] * len(rows))}
    got = outcomes(model, decode(model, columns), len(rows))
    for one, value in zip(got, array.to_pylist(), strict=True):
        told = MISSING if value is None else value
        if value is not None:
            told = in_shape(spec.shape, value) if flat else without_ones(spec.shape, value)
        assert_same(one, expected(model, spec.dtype, told), (spec, str(array.type), value))


@st.composite
def single_columns(draw: st.DrawFn) -> tuple[Signature, list[pa.Array]]:
    dtype = draw(st.sampled_from([*NUMBER_TYPES, "string"]))
    shape: Shape = draw(st.sampled_from([(2,), (3,), (None,), (2, 2), (4, 1)]))
    width = 3 if None in shape else math.prod(n for n in shape if n is not None)
    some = st.one_of(st.just(dtype), st.just(dtype), st.sampled_from(list(LEAVES)))
    leaves = [draw(some) for _ in range(width)]
    if dtype == "string":  # a type is seen before a text, online they come as they come
        leaves = [leaves[0]] * width
    signed = any(leaf in FLOAT_WIDTHS or leaf.startswith("int") for leaf in leaves)
    count = draw(st.integers(0, 6))
    arrays = []
    for leaf in leaves:
        cell = cells(leaf, dtype, narrow=signed and leaf in ("int64", "uint64"))
        cell = st.one_of(cell, cell, cell, st.none()) if draw(st.booleans()) else cell
        values = draw(st.lists(cell, min_size=count, max_size=count))
        array = pa.array([None, *values], type=LEAVES[leaf]).slice(1)
        arrays.append(array.dictionary_encode() if leaf == "string" else array)
    model = build_signature(
        [InputSpec("x", dtype, shape), InputSpec("other", "bool", ())],
        parse_push_options({"input": "tensor"}),
    )
    return model, arrays


@settings(max_examples=150, deadline=None)
@given(single_columns())
def test_columns_side_by_side(case: tuple[Signature, list[pa.Array]]) -> None:
    model, arrays = case
    spec, count = model.asked[0], len(arrays[0])
    names = [f"c{index}" for index in range(len(arrays))]
    columns = dict(zip(names, arrays, strict=True)) | {"other": pa.array([True] * count)}
    got = outcomes(model, decode(model, columns, {"x": tuple(names)}), count)
    for one, values in zip(got, zip(*(a.to_pylist() for a in arrays), strict=True), strict=True):
        told = MISSING if None in values else in_shape(spec.shape, list(values))
        assert_same(one, expected(model, spec.dtype, told), (spec, names, values))


NUMERIC = ["int8", "uint16", "int64", "float32", "float64"]


@st.composite
def records(draw: st.DrawFn) -> tuple[Signature, list[pa.Array]]:
    vector = draw(st.booleans())
    dtype = draw(st.sampled_from(["float32", "float64", "float16", "int64", "uint8"]))
    said: list[dict[str, Any]] = []
    dtypes: list[str] = []
    arrays: list[pa.Array] = []
    count = draw(st.integers(0, 6))
    for index in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["number", "integer", "boolean", "category", "string"]))
        own = dtype if vector else draw(st.sampled_from([dtype, "bool", "int32"]))
        if kind == "string":
            if vector:
                kind = "number"
            else:
                own = "string"
        column: dict[str, Any] = {"name": f"c{index}", "type": kind}
        fills: list[Any] = {
            "number": [0, 3],
            "integer": [-1, 7],
            "boolean": [True],
            "category": ["a", 7],
            "string": ["none"],
        }[kind]
        if kind == "category":
            column["categories"] = ["a", "b", 7, -3, "7"]
            column["one_hot"] = vector and draw(st.booleans())
            if not vector and draw(st.booleans()):
                own = "string"
        policies: list[Any] = ["refuse", {"fill": draw(st.sampled_from(fills))}]
        if kind == "number" and own.startswith("float"):
            policies.append("nan")
        column["missing"] = draw(st.sampled_from(policies))
        likely = {
            "number": NUMERIC,
            "integer": ["int8", "int64", "uint16", "float64"],
            "boolean": ["bool"],
            "category": ["string", "int64", "float64"],
            "string": ["string"],
        }[kind]
        leaf = draw(st.one_of(*[st.sampled_from(likely)] * 6, st.sampled_from(list(LEAVES))))
        cell = cells(leaf, dtype, narrow=True)
        if kind == "category" and leaf == "string":
            cell = st.sampled_from(["a", "b", "7", "z"])
        elif kind == "category":
            cell = st.one_of(cell, st.just(7)) if leaf.startswith("int") else cell
        cell = st.one_of(cell, cell, cell, st.none()) if draw(st.booleans()) else cell
        values = draw(st.lists(cell, min_size=count, max_size=count))
        arrays.append(pa.array([None, *values, None], type=LEAVES[leaf]).slice(1, count))
        said.append(column)
        dtypes.append(own)
    if vector:
        width = sum(len(one["categories"]) if one.get("one_hot") else 1 for one in said)
        inputs = [InputSpec("x", dtype, (width,))]
    else:
        inputs = [
            InputSpec(one["name"], own, draw(st.sampled_from([(), (1,)])))
            for one, own in zip(said, dtypes, strict=True)
        ]
    return build_signature(inputs, parse_push_options({"columns": said})), arrays


@settings(max_examples=250, deadline=None)
@given(records())
def test_records(case: tuple[Signature, list[pa.Array]]) -> None:
    model, arrays = case
    count = len(arrays[0])
    columns = {column.name: array for column, array in zip(model.columns, arrays, strict=True)}
    got = outcomes(model, decode(model, columns), count)
    for one, values in zip(got, zip(*(a.to_pylist() for a in arrays), strict=True), strict=True):
        assert_same(one, expected_record(model, values), (model, values))


def expected_record(model: Signature, values: tuple[Any, ...]) -> Any:
    """Column by column as the online decoder goes, so that the first wrong one is known."""
    record: dict[str, Any] = {}
    endless: set[str] = set()
    for column, value in zip(model.columns, values, strict=True):
        value = spelled(value)
        if is_endless(value):
            if column.missing == "nan" and math.isnan(value):
                value = None
            elif column.type in ("number", "integer"):
                endless.add(column.name)
                value = None
            else:
                value = 0.5  # as wrong as it is
        record[column.name] = value
    if not endless:
        return online(model, {"record": record})
    first = min(index for index, column in enumerate(model.columns) if column.name in endless)
    # Whatever is wrong before it is told first: those behind it are given what is right.
    for index, column in enumerate(model.columns):
        if index >= first:
            record[column.name] = RIGHT[column.type]
    found = online(model, {"record": record})
    early = ("missing_column", "unknown_category", "wrong_dtype")
    if found in early and not (found == "wrong_dtype" and fraction_in_vector(model, record)):
        return found
    return "not_finite"


RIGHT = {"number": 1, "integer": 1, "boolean": True, "category": "a", "string": "a"}


def fraction_in_vector(model: Signature, record: dict[str, Any]) -> bool:
    """A fraction is right for a column of numbers, and only wrong for a vector of integers."""
    return any(
        column.type == "number" and isinstance(record[column.name], float)
        for column in model.columns
    ) and not any(
        column.type != "number" and type(record[column.name]) is float for column in model.columns
    )
