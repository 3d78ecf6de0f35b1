"""A record of columns to one feature vector, or to named scalar inputs."""

from __future__ import annotations

import numpy as np

from storage.records.errors import ItemError
from storage.records.push_options import Column, ColumnType, Missing, column_accepts
from storage.records.signatures import InputSpec, Signature
from workers.inference.decode_tensor import fit, text_cell
from workers.inference.ports import Array, Row

Cell = float | int | bool | str


def decode_record(signature: Signature, content: object, where: str) -> Row:
    """The record's values in the model's tensors; every column by its own rules."""
    if not isinstance(content, dict):
        raise ItemError("record must be an object", code="wrong_form", field=where)
    columns = signature.columns
    cells = {column.name: _cell(column, content, where) for column in columns}
    if len(content) > len(columns) or not content.keys() <= cells.keys():
        unknown = next(key for key in content if key not in cells)
        raise ItemError(
            f"the model has no column {unknown[:80]!r}", code="unknown_column", field=where
        )
    if signature.columns_are_inputs:
        specs = signature.by_name
        return {
            c.name: _scalar(c, specs[c.name], cells[c.name], f"{where}.{c.name}") for c in columns
        }
    spec = signature.asked[0]
    vector: list[float | int | bool] = []
    for column in columns:
        vector.extend(_features(column, cells[column.name]))
    return {spec.name: _fit_cells(spec, np.array(vector), where, _may_be_nan(columns))}


def _cell(column: Column, content: dict[str, object], where: str) -> Cell:
    value = content.get(column.name)
    if value is None:
        if column.missing is Missing.FILL:
            assert column.fill is not None
            return column.fill
        if column.missing is Missing.NAN:
            return float("nan")
        raise ItemError(f"column {column.name!r} is missing", code="missing_column", field=where)
    if not column_accepts(column.type, value, column.categories):
        code = "unknown_category" if column.type is ColumnType.CATEGORY else "wrong_dtype"
        wanted = "one of its categories" if column.categories else f"a {column.type.value}"
        raise ItemError(
            f"column {column.name!r} takes {wanted}", code=code, field=f"{where}.{column.name}"
        )
    assert isinstance(value, float | int | bool | str)
    return value


def _features(column: Column, value: Cell) -> list[float | int | bool]:
    if column.type is ColumnType.CATEGORY:
        assert isinstance(value, str | int)
        index = column.categories.index(value)
        if column.one_hot:
            return [int(position == index) for position in range(len(column.categories))]
        return [index]
    assert not isinstance(value, str)
    return [int(value) if isinstance(value, bool) else value]


def _scalar(column: Column, spec: InputSpec, value: Cell, where: str) -> Array:
    if spec.dtype == "string":
        return text_cell(spec, str(value))
    (number,) = _features(column, value)
    cell = np.array(number if spec.dtype != "bool" else bool(number)).reshape(
        (1,) * len(spec.shape)
    )
    return _fit_cells(spec, cell, where, _may_be_nan((column,)))


def _fit_cells(spec: InputSpec, values: Array, where: str, may_be_nan: bool) -> Array:
    if not may_be_nan or values.dtype.kind != "f":
        return fit(spec, values, where)
    holes = np.isnan(values)
    fitted = fit(spec, np.where(holes, 0.0, values), where)
    return np.where(holes, fitted.dtype.type("nan"), fitted)


def _may_be_nan(columns: tuple[Column, ...]) -> bool:
    return any(column.missing is Missing.NAN for column in columns)
