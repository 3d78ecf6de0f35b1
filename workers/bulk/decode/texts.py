"""Strings, checked as online: UTF-8 and no NUL."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from storage.records.bulk import BulkFormat
from storage.records.signatures import InputSpec
from workers.bulk.decode.reading import TEXT, Filled, column_of, refuse_null, refuse_type
from workers.bulk.decode.values import Kind, Values, plain, values_of
from workers.bulk.decode.verdicts import Indices, Verdicts
from workers.inference.ports import Array

_NULL = "null where the model takes strings"
_NUL = "the text holds a NUL character"
_NOT_UTF8 = "the text is not UTF-8"


class TextReader:
    """One text for each row, for a model that cuts it into tokens itself."""

    def __init__(self, spec: InputSpec, column: str, format: BulkFormat) -> None:
        self.columns = (column,)
        self.wanted = {column: TEXT}
        self._spec, self._format = spec, format

    def read(self, batch: pa.RecordBatch, verdicts: Verdicts) -> Mapping[str, Filled]:
        (name,) = self.columns
        values = values_of(plain(column_of(batch, name)))
        count = verdicts.count
        block = np.full(count, "", dtype=object)
        if values.kind in (Kind.TEXT, Kind.BYTES, Kind.NOTHING):
            refuse_null(verdicts, values.null, self._spec.name, name)
            block = texts_of(values, lambda places: places, f"column {name!r}", verdicts)
        else:
            message = f"column {name!r} holds {values.what}, the model takes strings"
            refuse_type(self._format, verdicts, "wrong_dtype", message)
        return {self._spec.name: block.reshape(count, *(1 for _ in self._spec.shape))}


def texts_of(
    values: Values,
    row_of: Callable[[Indices], Indices],
    label: str,
    verdicts: Verdicts,
    *,
    nul_code: str = "bad_text",
) -> Array:
    """Python strings; "" in the place of one that is refused. Of a row's the first is told."""
    if values.kind is Kind.NOTHING:
        rows = row_of(np.arange(len(values.arrow)))
        verdicts.refuse_rows(rows, "wrong_dtype", f"{label}: {_NULL}")
        return np.full(len(values.arrow), "", dtype=object)
    texts = values.arrow
    faults: dict[int, tuple[str, str]] = {}
    if values.null is not None:
        faults |= dict.fromkeys(np.flatnonzero(values.null).tolist(), ("wrong_dtype", _NULL))
        texts = pc.fill_null(texts, b"" if values.kind is Kind.BYTES else "")
    texts, broken = _valid(texts)
    faults |= dict.fromkeys(broken, ("bad_text", _NOT_UTF8))
    nul = pc.match_substring(texts, "\x00")
    if pc.any(nul).as_py():
        places = np.flatnonzero(nul.to_numpy(zero_copy_only=False))
        faults |= dict.fromkeys(places.tolist(), (nul_code, _NUL))
    for place in sorted(faults):
        (row,) = row_of(np.array([place])).tolist()
        code, said = faults[place]
        verdicts.refuse(row, code, f"{label}: {said}")
    found: Array = texts.to_numpy(zero_copy_only=False)
    return found if found.dtype == object else found.astype(object)


def _valid(texts: pa.Array) -> tuple[pa.Array, list[int]]:
    """As strings that are UTF-8, and which were not: files are not always what they say."""
    large = types.is_large_string(texts.type) or types.is_large_binary(texts.type)
    raw, wanted = (pa.large_binary(), pa.large_string()) if large else (pa.binary(), pa.string())
    texts = texts.cast(raw)
    try:
        return texts.cast(wanted), []
    except pa.ArrowInvalid:
        pass
    broken, kept = [], []
    for place, cell in enumerate(texts.to_pylist()):
        try:
            kept.append(cell.decode("utf-8"))
        except UnicodeDecodeError:
            broken.append(place)
            kept.append("")
    return pa.array(kept, type=wanted), broken
