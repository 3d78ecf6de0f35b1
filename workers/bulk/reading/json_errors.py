"""What is wrong with lines of JSON, told line by line: for blocks of which Arrow says only that
something is."""

from __future__ import annotations

import json
from collections.abc import Mapping

import orjson
import pyarrow as pa

from workers.bulk.ports import RowError
from workers.bulk.reading.column_types import word_of
from workers.bulk.reading.lines import Lines

_SHOWN = 40  # characters of a wrong value
_INT64 = range(-(2**63), 2**63)
_CLASSES: Mapping[pa.DataType, tuple[type, ...]] = {
    pa.bool_(): (bool,),
    pa.int64(): (int,),
    pa.float64(): (int, float),
    pa.string(): (str,),
}

Types = Mapping[str, pa.DataType]


def misfits(lines: Lines, types: Types) -> dict[int, RowError]:
    """By its index, each line that is no JSON or has a value that does not fit its column."""
    found: dict[int, RowError] = {}
    for index, position in enumerate(lines.positions.tolist()):
        try:
            row = orjson.loads(lines.text(index))
        except orjson.JSONDecodeError as error:
            if not _is_depth(error):  # it may be in a column that is passed over: Arrow decides
                found[index] = bad_json(position, f"{error}")
            continue
        for name, type_ in types.items():
            if not _fits(row.get(name), type_):
                found[index] = _wrong_type(position, name, row[name], type_)
                break
    return found


def repeats(lines: Lines, types: Types) -> dict[int, RowError]:
    """By its index, each line that has a column's key twice."""
    found: dict[int, RowError] = {}
    for index, position in enumerate(lines.positions.tolist()):
        try:
            pairs = json.loads(lines.text(index), object_pairs_hook=list)
        except RecursionError:
            continue
        names = [name for name, _ in pairs if name in types]
        if len(names) > len(set(names)):
            found[index] = bad_json(position, "a key is there twice")
    return found


def refusal(position: int, text: bytes, column: str | None, types: Types) -> RowError:
    """The error of a line that Arrow refuses for this column's sake."""
    why = why_no_json(text)
    if why is None and column is not None:
        return _wrong_type(position, column, orjson.loads(text).get(column), types[column])
    return bad_json(position, why or "Arrow does not take it")


def why_no_json(text: bytes) -> str | None:
    """What is wrong with its syntax."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"{error}"
    return None


def bad_json(position: int, why: str) -> RowError:
    """The error of a line that cannot be parsed, or is no object."""
    return RowError(position, "bad_json", f"not a line of JSON with an object: {why}")


def _wrong_type(position: int, name: str, value: object, type_: pa.DataType) -> RowError:
    shown = orjson.dumps(value).decode()
    shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
    return RowError(
        position, "wrong_type", f"column {name!r} holds {shown}, which is no {word_of(type_)}"
    )


def _is_depth(error: orjson.JSONDecodeError) -> bool:
    return "depth limit" in str(error) or "ecursion" in str(error)


def _fits(value: object, type_: pa.DataType) -> bool:
    """Whether Arrow takes it as this type; True where only Arrow can tell."""
    if value is None:
        return True
    if pa.types.is_list(type_):
        return isinstance(value, list) and _all_fit(value, type_.value_type)
    classes = _CLASSES.get(type_)
    if classes is None:
        return True
    return type(value) in classes and (type_ != pa.int64() or value in _INT64)


def _all_fit(values: list[object], type_: pa.DataType) -> bool:
    classes = _CLASSES.get(type_)
    if classes is not None and type_ != pa.int64():  # no look at each of thousands
        return set(map(type, values)) <= {*classes, type(None)}
    return all(_fits(one, type_) for one in values)
