"""From a chunk's outputs to the columns that are written; the numbers are those of online answers.

The arrays of the outputs are taken over without a copy: whoever gave them must not change them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.records.bulk import PartFormat
from storage.records.errors import InvalidInput
from storage.records.signatures import NUMBER_TYPES, OutputSpec, Signature, label_output_of
from workers.bulk.ports import Encoded, Positions
from workers.bulk.texts import cell_names
from workers.inference.encode import label_scores
from workers.inference.ports import Array, Ragged

ROW_ID = "row_id"
_NOT_FINITE = ("non_finite_output", "the model answered with NaN or infinity")

Mask = npt.NDArray[np.bool_]


class ChunkEncoder:
    """Makes the rows of one part file after another; all of them have ``schema``.

    Where JSON lines are written a kept column may change its type from chunk to chunk; elsewhere
    it is cast to the type that was said, or the file is refused (``mixed_types``).
    """

    def __init__(self, signature: Signature, kept: Sequence[pa.Field], form: PartFormat) -> None:
        self._signature = signature
        self._lax = form is PartFormat.JSONL
        self._label = label_output_of(signature) if signature.labels else None
        self._labels = pa.array(signature.labels, pa.string())
        self._kept = list(kept)
        self.schema: pa.Schema = pa.schema(_fields(signature, self._kept))

    def encode(
        self, file: int, positions: Positions, kept: pa.RecordBatch, outputs: Mapping[str, Ragged]
    ) -> Encoded:
        """The predictions of the rows at ``positions``; those that are no numbers are errors."""
        rows = len(positions)
        given = {spec.name: _checked(spec, outputs, rows) for spec in self._signature.outputs}
        finite = _all_finite(given, rows)
        errors: tuple[tuple[int, str, str], ...] = ()
        if finite is not None:
            errors = tuple((index, *_NOT_FINITE) for index in np.flatnonzero(~finite).tolist())
            positions, kept = positions[finite], kept.filter(pa.array(finite))
            given = {name: _only(output, finite) for name, output in given.items()}
        columns = [_row_ids(file, positions), *self._kept_columns(kept)]
        columns += self._labelled(given, len(positions))
        columns += [_column(spec, given[spec.name]) for spec in self._signature.outputs]
        schema = self.schema
        if self._lax:
            named = zip(schema, columns, strict=True)
            schema = pa.schema([pa.field(field.name, column.type) for field, column in named])
        return Encoded(pa.RecordBatch.from_arrays(columns, schema=schema), errors)

    def _kept_columns(self, kept: pa.RecordBatch) -> list[pa.Array]:
        pairs = zip(self._kept, kept.columns, strict=True)
        return [column if self._lax else _as_said(field, column) for field, column in pairs]

    def _labelled(self, given: Mapping[str, Ragged], rows: int) -> list[pa.Array]:
        """The best label and its score; of equal ones the earlier label."""
        if self._label is None:
            return []
        output = given[self._label.name]
        assert not isinstance(output, list), "a labelled output has one length"
        raw = output.reshape(rows, math.prod(output.shape[1:]))
        signature = self._signature
        every = np.ones(rows, dtype=np.bool_)
        scores = label_scores(raw, signature.scores, len(signature.labels), every)
        best = scores.argmax(axis=1)
        return [
            self._labels.take(pa.array(best)),
            pa.array(scores[np.arange(rows), best].astype(np.float32, copy=False)),
        ]


def column_types(schema: pa.Schema) -> list[dict[str, str]]:
    """What a manifest says of the columns."""
    return [{"name": field.name, "type": str(field.type)} for field in schema]


def _fields(signature: Signature, kept: Sequence[pa.Field]) -> list[pa.Field]:
    """Every column under a name that no other has, nor any cell that it becomes in a CSV."""
    fields = [pa.field(ROW_ID, pa.string())]
    taken = {ROW_ID}

    def add(prefix: str, name: str, kind: pa.DataType) -> None:
        field = pa.field(name, kind)
        while not taken.isdisjoint({field.name, *cell_names(field)}):
            field = field.with_name(prefix + field.name)
        taken.update({field.name, *cell_names(field)})
        fields.append(field)

    for one in kept:
        add("input_", one.name, pa.string() if pa.types.is_null(one.type) else one.type)
    if signature.labels:
        add("output_", "label", pa.string())
        add("output_", "score", pa.float32())
    only = len(signature.outputs) == 1
    for spec in signature.outputs:
        add("output_", "prediction" if only else spec.name, _type_of(spec))
    return fields


def _type_of(spec: OutputSpec) -> pa.DataType:
    kind = pa.string() if spec.dtype == "string" else pa.from_numpy_dtype(_dtype_of(spec))
    for length in reversed(spec.shape):
        kind = pa.list_(kind, length) if length else pa.list_(kind)
    return kind


def _dtype_of(spec: OutputSpec) -> np.dtype[Any]:
    if spec.dtype not in NUMBER_TYPES:
        raise RuntimeError(f"output {spec.name!r} of type {spec.dtype} cannot be written")
    return np.dtype("float32" if spec.dtype == "float16" else spec.dtype)  # few read halves


def _checked(spec: OutputSpec, outputs: Mapping[str, Ragged], rows: int) -> Ragged:
    """The output, with one answer a row and in the type that was declared."""
    output = outputs[spec.name]
    if len(output) != rows:
        raise RuntimeError(f"output {spec.name!r} has {len(output)} answers for {rows} rows")
    for shape in {a.shape for a in output} if isinstance(output, list) else {output.shape[1:]}:
        if len(shape) != len(spec.shape) or any(
            said not in (None, found) for said, found in zip(spec.shape, shape, strict=True)
        ):
            raise RuntimeError(f"output {spec.name!r} has shape {shape}, not {spec.shape}")
    if spec.dtype == "string":
        return output
    return [_typed(spec, a) for a in output] if isinstance(output, list) else _typed(spec, output)


def _all_finite(given: Mapping[str, Ragged], rows: int) -> Mask | None:
    """Which rows hold nothing but numbers; ``None`` where all do."""
    finite: Mask | None = None
    for output in given.values():
        found = _finite(output, rows)
        if found is not None:
            finite = found if finite is None else finite & found
    return finite


def _finite(output: Ragged, rows: int) -> Mask | None:
    if isinstance(output, list):
        each = [a.dtype.kind != "f" or bool(np.isfinite(a).all()) for a in output]
        return None if all(each) else np.array(each)
    if output.dtype.kind != "f" or np.isfinite(output).all():
        return None
    return np.asarray(np.isfinite(output.reshape(rows, -1)).all(axis=1))


def _only(output: Ragged, which: Mask) -> Ragged:
    if isinstance(output, list):
        return [array for array, good in zip(output, which.tolist(), strict=True) if good]
    return output[which]


def _row_ids(file: int, positions: Positions) -> pa.Array:
    return pc.binary_replace_slice(pa.array(positions).cast(pa.string()), 0, 0, f"{file}:")


def _as_said(field: pa.Field, column: pa.Array) -> pa.Array:
    said = pa.string() if pa.types.is_null(field.type) else field.type
    if column.type == said:
        return column
    try:
        return column.cast(said)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InvalidInput(
            f"the kept column {field.name!r} holds {column.type} where it held {said} before;"
            " leave it out of keep, or write JSON lines",
            code="mixed_types",
        ) from None


def _column(spec: OutputSpec, output: Ragged) -> pa.Array:
    """One value a row: lists of fixed size where the shape is fixed, else of any length."""
    if isinstance(output, list):
        flat = np.concatenate([a.reshape(-1) for a in output]) if output else np.zeros(0)
    else:
        flat = np.ascontiguousarray(output).reshape(-1)
    column = _texts(flat) if spec.dtype == "string" else pa.array(_typed(spec, flat))
    for axis, length in reversed(list(enumerate(spec.shape))):
        if length:
            column = pa.FixedSizeListArray.from_arrays(column, length)
        else:
            column = pa.ListArray.from_arrays(
                pa.array(_offsets(output, axis, len(spec.shape))), column
            )
    return column


def _typed(spec: OutputSpec, flat: Array) -> Array:
    return flat.astype(_dtype_of(spec), copy=False)


def _offsets(output: Ragged, axis: int, rank: int) -> npt.NDArray[np.int32]:
    """Where each of the lists along ``axis`` begins among all the values that these lists hold."""
    shapes = [a.shape for a in output] if isinstance(output, list) else [output.shape[1:]]
    known = np.array(shapes, dtype=np.int64).reshape(len(shapes), rank)
    if not isinstance(output, list):
        known = np.repeat(known, len(output), axis=0)
    lengths = np.repeat(known[:, axis], known[:, :axis].prod(axis=1))
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def _texts(flat: Array) -> pa.Array:
    """Strings arrive as bytes; what is no UTF-8 is replaced, as it is online."""
    values = flat.tolist()
    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        plain = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
        return pa.array(plain, pa.string())
