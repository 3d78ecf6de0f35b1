"""Which columns of a part hold what: kept columns, the best label, the outputs as numbers.

The names are those that writing gave them. A Parquet part has an output as lists of fixed size, a
text part as lists or as a cell for each number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa

from storage.records.bulk import PartFormat
from storage.records.errors import InvalidInput
from storage.records.signatures import OutputSpec, Signature
from workers.bulk.encode import ROW_ID, ChunkEncoder
from workers.bulk.texts import cell_names
from workers.inference.ports import Array


@dataclass(frozen=True, slots=True)
class _Numbers:
    """An output of one length, and the columns that its numbers lie in."""

    spec: OutputSpec
    columns: tuple[str, ...]

    def of(self, batch: pa.RecordBatch) -> Array:
        """(n, *shape), in the type that was written."""
        rows, shape = batch.num_rows, tuple(axis or 0 for axis in self.spec.shape)
        flat = [_flat(batch.column(name)) for name in self.columns]
        every = flat[0] if len(flat) == 1 else np.stack(flat, axis=1)
        dtype = "float32" if self.spec.dtype == "float16" else self.spec.dtype
        return every.astype(dtype, copy=False).reshape(rows, *shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """Of a run's parts. ``read``: the columns that are asked of them; ``types``: what those of a
    text file are read as, None of Parquet."""

    read: tuple[str, ...]
    types: Mapping[str, str] | None
    _kept: Mapping[str, str]  # the parts' names by their own
    _label: tuple[str, str] | None
    _numbers: Sequence[_Numbers]

    def kept(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """The kept columns by their own names."""
        return {name: batch.column(called) for name, called in self._kept.items()}

    def best(self, batch: pa.RecordBatch) -> tuple[pa.Array | None, Array | None]:
        """The best label and its score, float32."""
        if self._label is None:
            return None, None
        label, score = self._label
        return batch.column(label), _flat(batch.column(score)).astype(np.float32, copy=False)

    def outputs(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """The outputs of numbers whose shape is fixed, by name."""
        return {one.spec.name: one.of(batch) for one in self._numbers}


def layout_of(
    signature: Signature, kept: pa.Schema, form: PartFormat, columns: Sequence[str]
) -> Layout:
    """For reading these kept ``columns``. ``InvalidInput`` (``unknown_column``)."""
    fields = list(ChunkEncoder(signature, list(kept), form).schema)
    beside = 1 + len(kept)
    called = dict(zip(kept.names, (field.name for field in fields[1:beside]), strict=True))
    for name in columns:
        if name not in called:
            raise InvalidInput(
                f"the run kept no column {name[:200]!r} beside its predictions: score the rows"
                " again and keep it",
                code="unknown_column",
            )
    label = (fields[beside].name, fields[beside + 1].name) if signature.labels else None
    outputs = fields[beside + (2 if label else 0) :]
    numbers = []
    for spec, field in zip(signature.outputs, outputs, strict=True):
        if spec.dtype != "string" and None not in spec.shape and 0 not in spec.shape:
            cells = cell_names(field) if form is PartFormat.CSV else [field.name]
            numbers.append(_Numbers(spec, tuple(cells)))
    read = [ROW_ID, *(called[name] for name in columns), *(label or ())]
    read += [name for one in numbers for name in one.columns]
    by_name = {field.name: field.type for field in fields}
    types = None
    if form is not PartFormat.PARQUET:
        types = {name: _word(by_name.get(name), form) for name in read}
    return Layout(tuple(read), types, {name: called[name] for name in columns}, label, numbers)


def _word(kind: pa.DataType | None, form: PartFormat) -> str:
    """What a text file's column is read as; None is a cell of a list of numbers."""
    if kind is None or pa.types.is_floating(kind):
        return "double"
    if pa.types.is_integer(kind):
        return "int64"
    if pa.types.is_boolean(kind):
        return "bool"
    if form is PartFormat.JSONL and pa.types.is_fixed_size_list(kind):
        return f"list<{_word(kind.value_type, form)}>"
    return "string"


def _flat(column: pa.Array) -> Array:
    """All numbers of a column, row for row, however its lists nest."""
    if pa.types.is_string(column.type):  # a list too wide for cells, as JSON
        lists = [orjson.loads(text) for text in column.to_pylist()]
        return np.asarray(lists).reshape(-1)
    while pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type):
        column = column.flatten()
    if column.null_count:
        raise ValueError("an output has a null")
    found: Array = column.to_numpy(zero_copy_only=False)
    return found
