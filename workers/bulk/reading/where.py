"""Which rows a ``where`` lets through.

As in SQL a comparison with a missing value is false, also ``!=``. What a column is compared with
comes from JSON and is taken as the column's type: text for dates and times (ISO 8601; without a
zone it is UTC), a number for decimals. An integer column is compared exactly with any number; a
float column with the nearest number that it can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from storage.records.bulk import Condition
from storage.records.errors import InvalidInput
from workers.bulk.reading.trouble import unknown_column
from workers.bulk.reading.where_values import holds


class Known(Protocol):
    """What is known of a column's values before they are read (Parquet's statistics)."""

    has_min_max: bool
    min: Any
    max: Any
    null_count: int | None
    num_values: int  # that are not missing


class Where:
    """All conditions of one input; ``uri`` names the file in messages. Thread-safe."""

    def __init__(self, conditions: Sequence[Condition], uri: str) -> None:
        self._conditions, self._uri = tuple(conditions), uri

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that have to be read for it, each once."""
        return tuple(dict.fromkeys(one.column for one in self._conditions))

    def __call__(self, batch: pa.RecordBatch) -> pa.BooleanArray | None:
        """Which rows it lets through, without a null; None for all. ``InvalidInput``
        (``bad_where``, ``unknown_column``)."""
        self.check_names(batch.schema.names)
        masks = [holds(one, batch.column(one.column)) for one in self._conditions]
        return reduce(pc.and_, masks) if masks else None

    def check_names(self, columns: Sequence[str]) -> None:
        """``InvalidInput`` (``unknown_column``) unless the file has all that are compared."""
        for name in self.columns:
            if name not in columns:
                raise unknown_column(self._uri, name, columns)

    def check(self, schema: pa.Schema) -> None:
        """What is wrong with it, found before a row is read."""
        self.check_names(schema.names)
        for one in self._conditions:
            holds(one, pa.nulls(0, schema.field(one.column).type))

    def leaves_out_all(self, schema: pa.Schema, known: Callable[[str], Known | None]) -> bool:
        """Whether no row can hold by what is ``known``; False where that does not tell."""
        for one in self._conditions:
            told = known(one.column)
            if told is not None and _none_holds(one, schema.field(one.column).type, told):
                return True
        return False


def _none_holds(one: Condition, kind: pa.DataType, known: Known) -> bool:
    if one.op == "is_null":
        return known.null_count == 0
    if one.op == "not_null":
        return known.null_count is not None and known.num_values == 0
    if one.op == "!=" or not known.has_min_max or pa.types.is_dictionary(kind):
        return False  # a NaN is in no bounds, and unequal
    try:
        bounds = pa.array([known.min, known.max], kind)
        if one.op == "in":
            values = one.value if isinstance(one.value, list | tuple) else ()
            return all(_outside(one, value, bounds) for value in values)
        if one.op == "=":
            return _outside(one, one.value, bounds)
        least, most = holds(one, bounds).to_pylist()
        return not (least if one.op[0] == "<" else most)
    except (pa.ArrowException, InvalidInput, OverflowError, TypeError, ValueError):
        return False


def _outside(one: Condition, value: object, bounds: pa.Array) -> bool:
    below = holds(Condition(one.column, "<=", value), bounds).to_pylist()[0]
    above = holds(Condition(one.column, ">=", value), bounds).to_pylist()[1]
    return not (below and above)
