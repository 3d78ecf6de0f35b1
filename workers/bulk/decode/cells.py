"""One column of a record to numbers or strings, by its own type, missing rule and categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from storage.records.bulk import BulkFormat
from storage.records.push_options import Column, ColumnType, Missing
from workers.bulk.decode.fitting import whole
from workers.bulk.decode.parsing import numbers_in
from workers.bulk.decode.reading import refuse_type
from workers.bulk.decode.texts import texts_of
from workers.bulk.decode.values import Kind, Values, values_of
from workers.bulk.decode.verdicts import Mask, Verdicts
from workers.inference.ports import Array

_KINDS = {
    ColumnType.NUMBER: Kind.NUMBER,
    ColumnType.INTEGER: Kind.NUMBER,
    ColumnType.BOOLEAN: Kind.BOOL,
    ColumnType.STRING: Kind.TEXT,
}
_PARSED = {ColumnType.NUMBER: "float64", ColumnType.INTEGER: "int64", ColumnType.BOOLEAN: "bool"}


@dataclass(frozen=True, slots=True)
class Cells:
    """Numbers (a category's index among them), or strings; ``holes`` are NaN on purpose."""

    values: Array
    holes: Mask | None = None


def read_cells(
    column: Column, array: pa.Array | None, name: str, format: BulkFormat, verdicts: Verdicts
) -> Cells:
    """The column's cells; without an array all of them are missing."""
    if array is None:
        array = pa.nulls(verdicts.count)
    return _Reading(column, f"column {name!r}", format, verdicts).read(array)


@dataclass(frozen=True, slots=True)
class _Reading:
    column: Column
    label: str
    format: BulkFormat
    verdicts: Verdicts

    def read(self, array: pa.Array) -> Cells:
        values = values_of(array)
        if self.format is BulkFormat.CSV and values.kind is Kind.TEXT:
            dtype = _PARSED.get(self.column.type)
            if dtype is not None:
                values = numbers_in(values.arrow, dtype)
        null = values.null
        if values.kind is Kind.NUMBER and self.column.missing is Missing.NAN:
            assert values.numbers is not None
            if values.numbers.dtype.kind == "f":  # NaN in a file is what null is
                nan = np.isnan(values.numbers)
                null = nan if null is None else null | nan
        if null is not None and self.column.missing is Missing.REFUSE:
            rows = np.flatnonzero(null)
            self.verdicts.refuse_rows(rows, "missing_column", f"{self.label} is missing")
        if values.bad is not None:
            self._refuse(values.bad, "wrong_dtype")
        match self.column.type:
            case ColumnType.CATEGORY:
                return Cells(self._indices(values, null))
            case ColumnType.STRING:
                return Cells(self._strings(values, null))
            case _:
                return self._numbers(values, null)

    def _numbers(self, values: Values, null: Mask | None) -> Cells:
        count, column = self.verdicts.count, self.column
        if values.kind not in (_KINDS[column.type], Kind.NOTHING):
            self._mismatch(values, null)
            values = Values(Kind.NOTHING, values.arrow, null)
        numbers = np.zeros(count, dtype=np.int8) if values.numbers is None else values.numbers
        if numbers.dtype.kind == "f":
            endless = ~np.isfinite(numbers)
            if endless.any():
                wrong = endless if null is None else endless & ~null
                said = f"{self.label}: NaN and infinity are no numbers"
                self.verdicts.refuse_rows(np.flatnonzero(wrong), "not_finite", said)
                numbers = np.where(endless, 0, numbers)
            if column.type is ColumnType.INTEGER:
                self._refuse(~whole(numbers) & _given(null), "wrong_dtype")
        if numbers.dtype.kind == "b":
            numbers = numbers.view(np.uint8)
        if null is None:
            return Cells(numbers)
        if column.missing is Missing.FILL:
            assert not isinstance(column.fill, str) and column.fill is not None
            return Cells(_filled(numbers, null, column.fill))
        if column.missing is Missing.NAN:
            return Cells(numbers, null)
        return Cells(numbers)

    def _strings(self, values: Values, null: Mask | None) -> Array:
        if values.kind not in (Kind.TEXT, Kind.BYTES, Kind.NOTHING):
            self._mismatch(values, null)
            values = Values(Kind.NOTHING, values.arrow, null)
        if values.kind is Kind.NOTHING:
            texts = np.full(self.verdicts.count, "", dtype=object)
        else:
            given = values.arrow
            if values.null is not None:
                given = pc.fill_null(given, b"" if values.kind is Kind.BYTES else "")
            flat = Values(values.kind, given, None)
            texts = texts_of(
                flat,
                lambda places: places,
                self.label,
                self.verdicts,
                nul_code="wrong_dtype",  # as the record's own rules have it
            )
        if null is not None and self.column.missing is Missing.FILL:
            texts = np.where(null, np.array(self.column.fill, dtype=object), texts)
        return texts

    def _indices(self, values: Values, null: Mask | None) -> Array:
        """Where in the column's categories each cell stands."""
        categories = self.column.categories
        found = np.full(self.verdicts.count, -1, dtype=np.int64)
        words = {one: at for at, one in enumerate(categories) if isinstance(one, str)}
        numbers = {one: at for at, one in enumerate(categories) if not isinstance(one, str)}
        untyped = self.format is BulkFormat.CSV
        if values.kind in (Kind.TEXT, Kind.BYTES):
            if untyped:
                words = {str(one): at for one, at in numbers.items()} | words
            found = _looked_up(values.arrow, words, found)
        elif values.kind is Kind.NUMBER and values.numbers is not None:
            if untyped:
                numbers = {int(w): at for w, at in words.items() if w.isdecimal()} | numbers
            found = _whole_looked_up(values.numbers, numbers, found)
        elif values.kind is not Kind.NOTHING:
            self._mismatch(values, null, "unknown_category")
        if null is not None and self.column.missing is Missing.FILL:
            assert isinstance(self.column.fill, str | int)
            found = np.where(null, categories.index(self.column.fill), found)
        self._refuse(found < 0, "unknown_category")
        return np.maximum(found, 0)

    def _mismatch(self, values: Values, null: Mask | None, code: str = "wrong_dtype") -> None:
        rows = None if null is None else np.flatnonzero(~null)
        if self.verdicts.count:
            said = f"{self.label} holds {values.what}, the model takes {self._wanted()}"
            refuse_type(self.format, self.verdicts, code, said, rows)

    def _refuse(self, wrong: Mask, code: str) -> None:
        rows = np.flatnonzero(wrong)
        if len(rows):
            self.verdicts.refuse_rows(rows, code, f"{self.label} takes {self._wanted()}")

    def _wanted(self) -> str:
        return "one of its categories" if self.column.categories else f"a {self.column.type.value}"


def _given(null: Mask | None) -> Mask | bool:
    return True if null is None else ~null


def _filled(numbers: Array, null: Mask, fill: float | int | bool) -> Array:
    value = np.array(int(fill) if isinstance(fill, bool) else fill)
    kind = numbers.dtype
    if kind.kind != "f" and not (value.dtype.kind in "iu" and _holds(kind, int(value))):
        kind = np.result_type(kind, value)
    return np.where(null, value.astype(kind), numbers.astype(kind, copy=False))


def _holds(kind: np.dtype[Any], value: int) -> bool:
    limits = np.iinfo(kind)
    return limits.min <= value <= limits.max


def _looked_up(texts: pa.Array, words: dict[str, int], found: Array) -> Array:
    if not words:
        return found
    known: list[str] | list[bytes] = list(words)
    if types.is_binary(texts.type) or types.is_large_binary(texts.type):
        known = [word.encode() for word in words]
    at = pc.index_in(texts, pa.array(known, type=texts.type))
    places = pc.fill_null(at, -1).to_numpy(zero_copy_only=False)
    indices: Array = np.array([*words.values(), -1], dtype=np.int64)[places]
    return indices


def _whole_looked_up(values: Array, numbers: dict[int, int], found: Array) -> Array:
    known = sorted(number for number in numbers if -(2**63) <= number < 2**63)
    if not known or values.dtype.kind == "b":
        return found
    if values.dtype.kind == "f":
        fits = whole(values)
        values = np.where(fits, values, 0)
    else:
        fits = values <= np.iinfo(np.int64).max
    integers = values.astype(np.int64)
    places = np.minimum(np.searchsorted(known, integers), len(known) - 1)
    fits &= np.array(known, dtype=np.int64)[places] == integers
    index = np.array([numbers[number] for number in known], dtype=np.int64)
    return np.where(fits, index[places], -1)
