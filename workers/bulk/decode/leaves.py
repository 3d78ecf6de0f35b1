"""Flat columns to an input's numbers or strings: types and gaps first, then the fitting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from storage.records.bulk import BulkFormat
from workers.bulk.decode.fitting import Part, fit_parts
from workers.bulk.decode.parsing import numbers_in
from workers.bulk.decode.reading import refuse_type
from workers.bulk.decode.texts import texts_of
from workers.bulk.decode.values import Kind, Values, values_of
from workers.bulk.decode.verdicts import Indices, Verdicts
from workers.inference.ports import Array

_NUMPY = (BulkFormat.NPY, BulkFormat.NPZ)


@dataclass(frozen=True, slots=True)
class Leaves:
    """Values of a column, one after another."""

    array: pa.Array
    row_of: Callable[[Indices], Indices]
    column: str


def fit_leaves(
    dtype: str, leaves: Sequence[Leaves], format: BulkFormat, verdicts: Verdicts
) -> list[Array]:
    """Each in the model's type. A null that no reason was found for yet is a wrong value."""
    read = [_read(dtype, one, format, verdicts) for one in leaves]
    if dtype == "string":
        return [
            np.full(len(one.array), "", dtype=object)
            if values is None
            else texts_of(values, one.row_of, f"column {one.column!r}", verdicts)
            for one, values in zip(leaves, read, strict=True)
        ]
    parts = [
        Part(
            np.zeros(len(one.array), dtype=np.dtype(dtype))
            if values is None or values.numbers is None
            else values.numbers,
            one.row_of,
            f"column {one.column!r}",
        )
        for one, values in zip(leaves, read, strict=True)
    ]
    return fit_parts(dtype, parts, verdicts)


def _read(dtype: str, one: Leaves, format: BulkFormat, verdicts: Verdicts) -> Values | None:
    """The column's values, if they can be the model's."""
    values = values_of(one.array)
    if dtype != "string" and values.kind is Kind.TEXT and format is BulkFormat.CSV:
        values = numbers_in(values.arrow, dtype)
    if format in _NUMPY and dtype == "bool" and values.arrow.type == pa.uint8():
        values = _bools(values, one, verdicts)
    if not _suits(dtype, values.kind):
        if len(one.array):
            wants = "strings" if dtype == "string" else dtype
            message = f"column {one.column!r} holds {values.what}, the model takes {wants}"
            rows = one.row_of(np.arange(len(one.array)))  # a row without values has none wrong
            refuse_type(format, verdicts, "wrong_dtype", message, rows)
        return None
    if dtype != "string":
        for mask, what in ((values.null, "null"), (values.bad, "no number")):
            if mask is not None:
                said = f"column {one.column!r}: {what} where the model takes {dtype}"
                verdicts.refuse_rows(one.row_of(np.flatnonzero(mask)), "wrong_dtype", said)
    return values


def _bools(values: Values, one: Leaves, verdicts: Verdicts) -> Values:
    """Arrow keeps no tensor of bools: they come as bytes."""
    assert values.numbers is not None
    beyond = np.flatnonzero(values.numbers > 1)
    said = f"column {one.column!r}: a bool is 0 or 1"
    verdicts.refuse_rows(one.row_of(beyond), "out_of_range", said)
    return replace(values, kind=Kind.BOOL, numbers=values.numbers.astype(np.bool_))


def _suits(dtype: str, kind: Kind) -> bool:
    if kind is Kind.NOTHING:
        return True
    if dtype == "string":
        return kind in (Kind.TEXT, Kind.BYTES)
    return kind is (Kind.BOOL if dtype == "bool" else Kind.NUMBER)
