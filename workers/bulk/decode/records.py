"""Columns of a record to one vector of features, or to single named inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from storage.records.bulk import BulkFormat
from storage.records.push_options import Column, ColumnType
from storage.records.signatures import InputSpec, Signature
from workers.bulk.decode.cells import Cells, read_cells
from workers.bulk.decode.fitting import Part, by_rows, fit_parts
from workers.bulk.decode.reading import BOOLS, INTEGERS, TEXT, Filled, column_of, word_for
from workers.bulk.decode.values import plain
from workers.bulk.decode.verdicts import Verdicts
from workers.inference.ports import Array


class RecordReader:
    """``names`` is the file's column for each of the model's; None: missing in every row."""

    def __init__(
        self, signature: Signature, names: Mapping[str, str | None], format: BulkFormat
    ) -> None:
        self.columns = tuple(dict.fromkeys(name for name in names.values() if name is not None))
        self.wanted = {
            name: _word(signature, column)
            for column in signature.columns
            if (name := names[column.name]) is not None
        }
        self._signature, self._names, self._format = signature, names, format

    def read(self, batch: pa.RecordBatch, verdicts: Verdicts) -> Mapping[str, Filled]:
        cells = [self._cells(column, batch, verdicts) for column in self._signature.columns]
        if not self._signature.columns_are_inputs:
            return {self._signature.asked[0].name: self._vector(cells, verdicts)}
        specs = self._signature.by_name
        return {
            column.name: self._scalar(column, specs[column.name], one, verdicts)
            for column, one in zip(self._signature.columns, cells, strict=True)
        }

    def _cells(self, column: Column, batch: pa.RecordBatch, verdicts: Verdicts) -> Cells:
        name = self._names[column.name]
        array = None if name is None else plain(column_of(batch, name))
        return read_cells(column, array, name or column.name, self._format, verdicts)

    def _vector(self, cells: list[Cells], verdicts: Verdicts) -> Array:
        columns, spec = self._signature.columns, self._signature.asked[0]
        width = sum(column.width for column in columns)
        block: Array = np.zeros((verdicts.count, width), dtype=np.dtype(spec.dtype))
        parts, places, at = [], [], 0
        for column, one in zip(columns, cells, strict=True):
            if column.one_hot:
                block[np.arange(verdicts.count), at + one.values] = 1
            else:
                parts.append(self._part(column, one))
                places.append(at)
            at += column.width
        for place, fitted in zip(places, fit_parts(spec.dtype, parts, verdicts), strict=True):
            block[:, place] = fitted
        for place, part in zip(places, parts, strict=True):
            if part.holes is not None:
                block[part.holes, place] = np.nan
        return block

    def _scalar(self, column: Column, spec: InputSpec, cells: Cells, verdicts: Verdicts) -> Array:
        shape = (verdicts.count, *(1 for _ in spec.shape))
        if spec.dtype == "string":
            if column.categories:
                words: Array = np.array([str(one) for one in column.categories], dtype=object)
                cells = Cells(words[cells.values])
            return cells.values.reshape(shape)
        part = self._part(column, cells)
        if spec.dtype == "bool":
            return np.not_equal(part.values, 0, dtype=np.bool_).reshape(shape)
        (fitted,) = fit_parts(spec.dtype, [part], verdicts)
        if part.holes is not None:
            fitted = np.where(part.holes, fitted.dtype.type("nan"), fitted)
        return fitted.reshape(shape)

    def _part(self, column: Column, cells: Cells) -> Part:
        label = f"column {self._names[column.name] or column.name!r}"
        return Part(cells.values, by_rows(1), label, cells.holes)


def _word(signature: Signature, column: Column) -> str:
    """What the column is read as, where the file does not say."""
    if column.type is ColumnType.CATEGORY:
        return TEXT if isinstance(column.categories[0], str) else INTEGERS
    if column.type in (ColumnType.STRING, ColumnType.BOOLEAN):
        return TEXT if column.type is ColumnType.STRING else BOOLS
    spec = signature.by_name.get(column.name, signature.asked[0])
    return word_for(spec.dtype)
