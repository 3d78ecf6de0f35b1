"""A column of lists, however deep, as flat leaves with the shape of each row.

Fixed-size lists and tensors have one shape by their type, and their leaves are not copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from workers.bulk.decode.values import is_list, null_mask, plain
from workers.bulk.decode.verdicts import Indices, Mask
from workers.inference.ports import Array

RAGGED = -1
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nested:
    """``shapes`` has one line for each row, with ``RAGGED`` where its lists differ in length or
    one of them is null. A row that is null has no leaves."""

    leaves: pa.Array
    bounds: Indices  # row i has the leaves bounds[i] … bounds[i + 1]
    shapes: npt.NDArray[np.int64]
    null: Mask | None
    order: Shape | None = None  # of the axes of a tensor that is stored in another

    @property
    def depth(self) -> int:
        return int(self.shapes.shape[1])

    def kinds(self) -> list[tuple[Shape, Indices | None]]:
        """The shapes that occur as the model would see them, each with its rows; None: all."""
        if not len(self.shapes):
            return []
        shapes = self.shapes if self.order is None else self.shapes[:, self.order]
        if (shapes == shapes[0]).all():
            return [(tuple(shapes[0].tolist()), None)]
        found, which = np.unique(shapes, axis=0, return_inverse=True)
        which = which.reshape(-1)
        rows = np.argsort(which, kind="stable").astype(np.int64, copy=False)
        ends = np.cumsum(np.bincount(which))[:-1]
        return [
            (tuple(one.tolist()), some)
            for one, some in zip(found, np.split(rows, ends), strict=True)
        ]

    def in_order(self, leaves: Array) -> Array:
        """Rows of leaves (all of one shape, by the type) as the model would see them."""
        if self.order is None or not len(self.shapes):
            return leaves
        stored = leaves.reshape(-1, *self.shapes[0].tolist())
        turned = stored.transpose(0, *(axis + 1 for axis in self.order))
        return np.ascontiguousarray(turned).reshape(leaves.shape)


def nested(array: pa.Array) -> Nested:
    """The column taken apart."""
    count = len(array)
    shape: Shape | None = None
    order: Shape | None = None
    if isinstance(array.type, pa.FixedShapeTensorType):
        shape = tuple(array.type.shape)
        axes = array.type.permutation
        if axes is not None and list(axes) != sorted(axes):
            order = tuple(axes)
    level = plain(array)
    null = null_mask(level)
    bounds = np.arange(count + 1, dtype=np.int64)
    columns: list[npt.NDArray[np.int64]] = []
    while is_list(level.type):
        lengths = _lengths(level)
        columns.append(_each(lengths, bounds))
        ends = np.concatenate([[0], np.cumsum(np.maximum(lengths, 0))])
        bounds = ends[bounds]
        level = plain(level.flatten())
    if shape is not None:
        shapes = np.tile(np.array(shape, dtype=np.int64), (count, 1))
    else:
        shapes = np.stack(columns, axis=1) if columns else np.zeros((count, 0), dtype=np.int64)
    return Nested(level, bounds, shapes, null, order)


def reshapes(have: Shape, want: Shape) -> bool:
    """Whether the one is the other with neighbouring axes joined or cut: the order of the numbers
    leaves no doubt. 28 × 28 and 784 are, 3 × 32 and 32 × 3 are not."""
    if have == want:
        return True
    if RAGGED in have or 0 in have or 0 in want:
        return False
    ours, theirs = set(accumulate(have, mul, initial=1)), set(accumulate(want, mul, initial=1))
    return max(ours) == max(theirs) and (ours <= theirs or theirs <= ours)


def _lengths(level: pa.Array) -> npt.NDArray[np.int64]:
    """Of each list; ``RAGGED`` for null."""
    if types.is_fixed_size_list(level.type) and not level.null_count:
        return np.full(len(level), level.type.list_size, dtype=np.int64)
    lengths = pc.list_value_length(level).cast(pa.int64())
    if lengths.null_count:
        lengths = lengths.fill_null(RAGGED)
    found: npt.NDArray[np.int64] = lengths.to_numpy(zero_copy_only=False)
    return found


def _each(lengths: npt.NDArray[np.int64], bounds: Indices) -> npt.NDArray[np.int64]:
    """The length that all lists of a row have, for every row."""
    count = len(bounds) - 1
    if len(lengths) == count and (np.diff(bounds) == 1).all():
        return lengths
    each = np.full(count, RAGGED, dtype=np.int64)
    some = np.diff(bounds) > 0
    if some.any():
        at = bounds[:-1][some]
        least, most = np.minimum.reduceat(lengths, at), np.maximum.reduceat(lengths, at)
        each[some] = np.where(least == most, least, RAGGED)
    return each
