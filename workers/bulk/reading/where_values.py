"""One comparison of a ``where`` on one column, by Arrow's kernels."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.records.bulk import Condition
from storage.records.errors import InvalidInput

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def holds(one: Condition, column: Any) -> Any:
    """Which values it holds for; no nulls among the answers. ``InvalidInput`` (``bad_where``)."""
    if one.op == "is_null":
        return pc.is_null(column)
    if one.op == "not_null":
        return pc.is_valid(column)
    if one.op != "in" and one.op not in COMPARE:
        raise _bad(one, "there is no such comparison")
    try:
        return pc.fill_null(_compared(one, _plain(column), _values_of(one)), False)
    except (pa.ArrowException, OverflowError, ValueError, InvalidOperation) as error:
        raise _bad(one, str(error)[:200]) from None


def _plain(column: Any) -> Any:
    """The column as a type that the kernels compare."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    return column


def _values_of(one: Condition) -> list[object]:
    if one.op != "in":
        values = [one.value]
    elif isinstance(one.value, list | tuple):
        values = list(one.value)
    else:
        raise _bad(one, "it takes a list")
    if any(value is None for value in values):
        raise _bad(one, "nothing equals null: use is_null or not_null")
    return values


def _compared(one: Condition, column: Any, values: Sequence[object]) -> Any:
    kind = column.type
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.bool_())
    if pa.types.is_integer(kind):
        return _integers(one, column, [_number(one, value) for value in values])
    scalars = [_scalar(one, kind, value) for value in values]
    if one.op != "in":
        return COMPARE[one.op](column, scalars[0])
    if all(scalar.type == kind for scalar in scalars):
        return pc.is_in(column, pa.array([scalar.as_py() for scalar in scalars], kind))
    return reduce(pc.or_, [pc.equal(column, scalar) for scalar in scalars])


def _integers(one: Condition, column: Any, numbers: list[int | float]) -> Any:
    """Exactly, whatever the number: 2.5 is between two, and 300 is more than a byte can be."""
    kind, op = column.type, one.op
    signed = pa.types.is_signed_integer(kind)
    least = -(1 << kind.bit_width - 1) if signed else 0
    most = (1 << kind.bit_width - signed) - 1
    if op == "in":
        within = [int(n) for n in numbers if n == int(n) and least <= n <= most]
        return pc.is_in(column, pa.array(within, kind))
    number = numbers[0]
    if number != int(number):
        if op in ("=", "!="):
            return _always(column, op == "!=")
        number, op = (math.floor(number), "<=") if op[0] == "<" else (math.ceil(number), ">=")
    if number > most:
        return _always(column, op in ("<", "<=", "!="))
    if number < least:
        return _always(column, op in (">", ">=", "!="))
    return COMPARE[op](column, pa.scalar(int(number), kind))


def _always(column: Any, answer: bool) -> Any:
    """The same for every value that is not missing."""
    return pc.and_(pc.is_valid(column), pa.scalar(answer))


def _scalar(one: Condition, kind: Any, value: object) -> Any:
    types = pa.types
    if types.is_floating(kind):
        return pa.scalar(float(_number(one, value)), kind)
    if types.is_boolean(kind) and isinstance(value, bool) and one.op in ("=", "!=", "in"):
        return pa.scalar(value, kind)
    if types.is_decimal(kind):
        return pa.scalar(Decimal(str(_number(one, value))))
    if isinstance(value, str):
        if types.is_string(kind) or types.is_large_string(kind):
            return pa.scalar(value, kind)
        if types.is_date(kind):
            return pa.scalar(dt.date.fromisoformat(value), kind)
        if types.is_time(kind):
            return pa.scalar(dt.time.fromisoformat(value), pa.time64("us"))
        if types.is_timestamp(kind):
            return pa.scalar(_moment(one, kind, value), pa.timestamp("us", kind.tz))
    raise _bad(one, f"the column holds {kind}, and {str(value)[:60]!r} cannot be compared with it")


def _moment(one: Condition, kind: Any, value: str) -> dt.datetime:
    moment = dt.datetime.fromisoformat(value)
    if kind.tz is not None and moment.tzinfo is None:
        return moment.replace(tzinfo=dt.UTC)
    if kind.tz is None and moment.tzinfo is not None:
        raise _bad(one, f"the column holds {kind}, which has no zone: write the time without one")
    return moment


def _number(one: Condition, value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad(one, f"the column holds numbers, and {str(value)[:60]!r} is none")
    if not math.isfinite(value):
        raise _bad(one, f"{value} is no number to compare with")
    return value


def _bad(one: Condition, why: str) -> InvalidInput:
    return InvalidInput(
        f"the comparison {one.op!r} of column {one.column[:100]!r} cannot be made: {why}",
        code="bad_where",
        field="input.where",
    )
