"""JSON lines: one object of columns a line, parsed by Arrow a block at a time.

Strict: no NaN, no second key of a column that is read. A column may hold numbers, booleans, text
and lists of these, nested as deep as they are; what is missing is null, what is not asked for is
passed over. An integer where the column has doubles is one of them; the other way round it is an
error of its row.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json

from storage.records.bulk import BulkFormat
from workers.bulk.ports import RowError
from workers.bulk.reading.chunking import Parsed, as_batch
from workers.bulk.reading.culprits import refused
from workers.bulk.reading.json_errors import (
    Types,
    bad_json,
    misfits,
    refusal,
    repeats,
    why_no_json,
)
from workers.bulk.reading.json_types import infer_types
from workers.bulk.reading.line_source import LineSource
from workers.bulk.reading.lines import Lines

_OPEN, _CLOSE = ord("{"), ord("}")
_SPACE = b" \t\r"
# Arrow takes these where a value may stand; in a text such a thing may stand too.
_NO_JSON = re.compile(rb"[:\[,][ \t]*-?(?:NaN|Inf)")
_NONE = "\ufffe"  # a name that nothing has


class JsonlSource(LineSource):
    """One file of JSON lines. Errors of a row: ``bad_json``, ``wrong_type``."""

    format = BulkFormat.JSONL

    def columns(self) -> tuple[str, ...]:
        """Those of the types: as given, or that the sample has."""
        return tuple(self.types())

    def _infer(self, lines: Lines | None, numbers: Collection[str]) -> Mapping[str, str]:
        if lines is None:
            return {}
        return infer_types((lines.text(index) for index in range(len(lines))), numbers)

    def _parse(self, lines: Lines, types: Types) -> Parsed:
        errors, going_on = list(lines.errors), lines.next
        wrong = dict(_no_objects(lines))
        if wrong:
            positions = lines.positions
            errors += [bad_json(int(positions[at]), why) for at, why in wrong.items()]
            lines = lines.pick(np.delete(np.arange(len(lines)), list(wrong)))
        for find in (misfits, repeats, _refused):
            table = _read(lines, types)
            if table is not None:
                break
            found = find(lines, types)
            errors += found.values()
            lines = lines.pick(np.delete(np.arange(len(lines)), list(found)))
        else:
            table = _read(lines, types)
            assert table is not None, "each line was taken alone"
        return Parsed(as_batch(table), lines.positions, errors, going_on)


def _no_objects(lines: Lines) -> Iterator[tuple[int, str]]:
    """Lines that Arrow would take for a part of an object, or for one though JSON has none such."""
    every = np.frombuffer(lines.data, np.uint8)
    odd = (every[lines.starts] != _OPEN) | (every[lines.ends - 1] != _CLOSE)
    for index in np.flatnonzero(odd).tolist():
        text = lines.text(index).strip(_SPACE)
        if not (text.startswith(b"{") and text.endswith(b"}")):
            yield index, why_no_json(lines.text(index)) or "the line is not an object"
    if any(one[:1] in lines.data and one in lines.data for one in (b"NaN", b"Inf")):
        places = np.array([one.start() for one in _NO_JSON.finditer(lines.data)], np.int64)
        for index in np.unique(lines.owners(places)[1]).tolist():
            if why := why_no_json(lines.text(index)):
                yield index, why


def _read(lines: Lines, types: Types) -> pa.Table | None:
    """The rows; None if one of the lines is not exactly one of them."""
    schema = pa.schema(list(types.items()) or [(_NONE, pa.null())])
    if not len(lines):
        return schema.empty_table()
    text = lines.joined()
    try:
        table = pa_json.read_json(
            pa.BufferReader(pa.py_buffer(text)),
            read_options=pa_json.ReadOptions(use_threads=False, block_size=lines.parse_bytes),
            parse_options=pa_json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowInvalid:
        return None
    return table if table.num_rows == len(lines) else None


def _refused(lines: Lines, types: Types) -> dict[int, RowError]:
    """By its index, each line that Arrow refuses, by halving: where nothing else tells."""
    found: dict[int, RowError] = {}
    for index in refused(
        np.arange(len(lines)), lambda some: _read(lines.pick(some), types) is not None
    ).tolist():
        line = lines.pick(np.array([index]))
        column = next((name for name in types if _read(line, {name: types[name]}) is None), None)
        found[index] = refusal(int(line.positions[0]), line.text(0), column, types)
    return found
