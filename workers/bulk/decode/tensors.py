"""Columns to one tensor: a column that has all of it in each row, or several side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.types as types

from storage.records.bulk import BulkFormat
from storage.records.signatures import InputSpec
from storage.records.signatures import Shape as AnyShape
from workers.bulk.decode.fitting import by_bounds, by_rows
from workers.bulk.decode.leaves import Leaves, fit_leaves
from workers.bulk.decode.nesting import RAGGED, Nested, Shape, nested, reshapes
from workers.bulk.decode.reading import Filled, column_of, refuse_null, refuse_type, takes, word_for
from workers.bulk.decode.values import null_mask, plain
from workers.bulk.decode.verdicts import Indices, Verdicts
from workers.inference.ports import Array

Shapes = Sequence[tuple[Shape, Indices | None]]


class TensorReader:
    """One input, of this shape, from these columns."""

    def __init__(
        self, spec: InputSpec, shape: AnyShape, columns: tuple[str, ...], format: BulkFormat
    ) -> None:
        self.columns = columns
        self.wanted = dict.fromkeys(columns, word_for(spec.dtype))
        self._spec, self._shape, self._format = spec, shape, format

    def read(self, batch: pa.RecordBatch, verdicts: Verdicts) -> Mapping[str, Filled]:
        arrays = [column_of(batch, name) for name in self.columns]
        if len(arrays) == 1:
            return {self._spec.name: self.whole(arrays[0], verdicts)}
        return {self._spec.name: self._side_by_side(arrays, verdicts)}

    def whole(self, array: pa.Array, verdicts: Verdicts) -> Filled:
        """A column that has all of the tensor in each row."""
        (name,) = self.columns
        found = nested(array)
        refuse_null(verdicts, found.null, self._spec.name, name)
        shapes = self._shapes(found, verdicts)
        size = _size(self._shape)
        uniform = bool(size and shapes) and shapes[0][1] is None and found.null is None
        row_of = by_rows(size) if uniform and size else by_bounds(found.bounds)
        leaves = Leaves(found.leaves, row_of, name)
        (flat,) = fit_leaves(self._spec.dtype, [leaves], self._format, verdicts)
        if size is None:
            return _one_by_one(flat, found, shapes, verdicts)
        block = flat if uniform else _gathered(flat, found, shapes, size)
        return found.in_order(block).reshape(verdicts.count, *self._closed())

    def _shapes(self, found: Nested, verdicts: Verdicts) -> Shapes:
        """What the rows of a fitting shape are to be given as."""
        taken: list[tuple[Shape, Indices | None]] = []
        for have, rows in found.kinds():
            want = target(have, self._shape)
            if not have and types.is_null(found.leaves.type):
                continue  # nothing was given, in whatever shape
            if want is not None:
                taken.append((want, rows))
                continue
            given = f"tensors of shape {list(have)}"
            if RAGGED in have:
                given = "lists of unequal length"
            elif not have:
                given = "single values"
            message = f"column {self.columns[0]!r} has {given}, {takes(self._spec, self._shape)}"
            if have:
                verdicts.refuse_rows(rows, "wrong_shape", message)
            else:
                refuse_type(self._format, verdicts, "wrong_shape", message)
        return taken

    def _side_by_side(self, arrays: Sequence[pa.Array], verdicts: Verdicts) -> Filled:
        """Columns of single values, in the order of the tensor's numbers."""
        count, leaves = verdicts.count, []
        for name, array in zip(self.columns, map(plain, arrays), strict=True):
            refuse_null(verdicts, null_mask(array), self._spec.name, name)
            leaves.append(Leaves(array, by_rows(1), name))
        dtype = object if self._spec.dtype == "string" else np.dtype(self._spec.dtype)
        block = np.empty((count, len(leaves)), dtype=dtype)
        fitted = fit_leaves(self._spec.dtype, leaves, self._format, verdicts)
        for index, one in enumerate(fitted):
            block[:, index] = one
        shape = target((len(leaves),), self._shape)
        assert shape is not None, "looked at when the columns were chosen"
        block = block.reshape(count, *shape)
        return block if None not in self._shape else list(block)

    def _closed(self) -> Shape:
        return tuple(axis for axis in self._shape if axis is not None)


def target(have: Shape, want: AnyShape) -> Shape | None:
    """The model's shape that a row's numbers are given in; None: they do not fit."""
    closed = tuple(axis for axis in want if axis is not None)
    if len(closed) == len(want):
        return closed if reshapes(have, closed) else None
    if RAGGED in have:
        return None
    if len(have) == len(want):
        same = all(axis in (None, length) for length, axis in zip(have, want, strict=True))
        return have if same else None
    rest = math.prod(closed)
    if len(have) == 1 and len(closed) == len(want) - 1 and rest and not have[0] % rest:
        return tuple(have[0] // rest if axis is None else axis for axis in want)
    return None


def _size(shape: AnyShape) -> int | None:
    """Numbers of a row; None where rows differ."""
    return None if None in shape else math.prod(axis for axis in shape if axis is not None)


def _gathered(flat: Array, found: Nested, shapes: Shapes, size: int) -> Array:
    """A row for each, where some have no fitting numbers."""
    count = len(found.bounds) - 1
    block = np.full((count, size), "" if flat.dtype == object else 0, dtype=flat.dtype)
    right = np.zeros(count, dtype=np.bool_)
    for _, rows in shapes:
        right[slice(None) if rows is None else rows] = True
    right &= np.diff(found.bounds) == size  # what is null has none
    if len(flat) == size * np.count_nonzero(right):  # nothing lies between them
        block[right] = flat.reshape(-1, size)
    else:
        starts = found.bounds[:-1][right]
        block[right] = flat[starts[:, np.newaxis] + np.arange(size)]
    return block


def _one_by_one(
    flat: Array, found: Nested, shapes: Shapes, verdicts: Verdicts
) -> list[Array | None]:
    out: list[Array | None] = [None] * verdicts.count
    bounds = found.bounds.tolist()
    for shape, rows in shapes:
        for row in range(verdicts.count) if rows is None else rows.tolist():
            if not verdicts.is_wrong(row):
                out[row] = flat[bounds[row] : bounds[row + 1]].reshape(shape)
    return out
