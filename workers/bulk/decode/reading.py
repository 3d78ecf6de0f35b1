"""What a reader of columns is, and what readers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from storage.records.bulk import BulkFormat
from storage.records.errors import InvalidInput
from storage.records.image_spec import Layout
from storage.records.input_check import shape_text
from storage.records.signatures import InputSpec, Shape, Signature
from workers.bulk.decode.verdicts import Indices, Mask, Verdicts
from workers.inference.ports import Array

Filled = Array | list[Array | None]
"""An input of all rows: one array, or one for each where their lengths differ. What is in the
place of a wrong row means nothing."""

FLOATS, INTEGERS, BOOLS, TEXT = WANTED = ("double", "int64", "bool", "string")
_UNTYPED = (BulkFormat.CSV, BulkFormat.JSONL)


class Reader(Protocol):
    """From some columns to some inputs."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Which it reads."""
        ...

    @property
    def wanted(self) -> Mapping[str, str]:
        """What some of them had best be read as, where the file does not say: a word of
        ``WANTED``."""
        ...

    def read(self, batch: pa.RecordBatch, verdicts: Verdicts) -> Mapping[str, Filled]:
        """By input. Raises ``InvalidInput`` for a column that can hold no right row."""
        ...


def column_of(batch: pa.RecordBatch, name: str) -> pa.Array:
    """The column."""
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise InvalidInput(
            f"there is no column {name!r}; the file has {listed(batch.schema.names)}",
            code="unknown_column",
            field="input.columns",
        )
    return batch.column(index)


def word_for(dtype: str) -> str:
    """What a column for an input of this type is read as."""
    if dtype in ("bool", "string"):
        return BOOLS if dtype == "bool" else TEXT
    return FLOATS if dtype.startswith("float") else INTEGERS


def refuse_type(
    format: BulkFormat, verdicts: Verdicts, code: str, message: str, rows: Indices | None = None
) -> None:
    """A column whose type no right row has. Where the file says the type the file is wrong; where
    it was guessed from the rows that came together, it is these rows (None: all)."""
    if format not in _UNTYPED:
        raise InvalidInput(message, code=code, field="input.columns")
    verdicts.refuse_rows(rows, code, message)


def refuse_null(verdicts: Verdicts, null: Mask | None, name: str, column: str) -> None:
    """An input that is not given."""
    if null is not None:
        message = f"input {name!r} is missing: column {column!r} is null"
        verdicts.refuse_rows(np.flatnonzero(null), "missing_input", message)


def closed_shape(signature: Signature, spec: InputSpec) -> Shape:
    """The input's shape; the sides of a picture are as its decoder makes them."""
    image = signature.image
    if image is None or image.height is None or image.width is None or None not in spec.shape:
        return spec.shape
    match image.layout:
        case Layout.NONE:
            return (image.height, image.width)
        case Layout.FIRST:
            return (image.channels, image.height, image.width)
        case Layout.LAST:
            return (image.height, image.width, image.channels)


def empty_block(count: int, shape: Shape, dtype: str) -> Array | None:
    """Room for all rows; None where their shapes differ."""
    if None in shape:
        return None
    lengths = [axis for axis in shape if axis is not None]
    if dtype == "string":
        return np.full((count, *lengths), "", dtype=object)
    return np.zeros((count, *lengths), dtype=np.dtype(dtype))


def listed(names: Sequence[str], most: int = 30) -> str:
    """Names as a message has them."""
    shown = ", ".join(name[:80] for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"


def takes(spec: InputSpec, shape: Shape) -> str:
    """What an input wants, as a message has it."""
    return f"input {spec.name!r} takes {spec.dtype} of shape {shape_text(shape)}"
