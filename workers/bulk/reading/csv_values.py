"""Which cells Arrow would not take as a column's type: it tells of a block only that one is."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from workers.bulk.reading.lines import Bools

_OPTIONS = pa_csv.ConvertOptions()
_NULLS = "|".join(map(re.escape, _OPTIONS.null_values))
_BOOLEANS = "|".join([*_OPTIONS.true_values, *_OPTIONS.false_values])
_INTEGER = "-?[0-9]+|0[xX][0-9a-fA-F]{1,16}"
_DOUBLE = (
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
    r"|(?i:inf(?:inity)?|nan(?:\([0-9a-zA-Z_]*\))?))"
)
_GRAMMAR = {  # exactly what Arrow takes: a test compares
    pa.int64(): rf"\A(?:[ \t]*(?:{_INTEGER})[ \t]*|{_NULLS})\z",
    pa.float64(): rf"\A(?:[ \t]*(?:{_DOUBLE})[ \t]*|{_NULLS})\z",
    pa.bool_(): rf"\A(?:{_BOOLEANS}|{_NULLS})\z",
}
_LONG_INTEGER = r"\A[ \t]*-?[0-9]{19,}[ \t]*\z"
_INT64 = range(-(2**63), 2**63)


def do_not_fit(cells: pa.ChunkedArray, type_: pa.DataType) -> Bools:
    """Of a column read as text. Of types other than ``int64``, ``double`` and ``bool`` none is
    told."""
    grammar = _GRAMMAR.get(type_)
    if grammar is None:
        return np.zeros(len(cells), np.bool_)
    wrong: Bools = ~pc.match_substring_regex(cells, grammar).to_numpy()
    if type_ == pa.int64():
        for index in np.flatnonzero(pc.match_substring_regex(cells, _LONG_INTEGER)).tolist():
            wrong[index] = not _is_int64(cells[index].as_py().strip())
    return wrong


def _is_int64(text: str) -> bool:
    # Thousands of digits are refused by their number: int() would raise on them.
    digits = text.lstrip("-").lstrip("0")
    return len(digits) < 20 and int("-" * text.startswith("-") + (digits or "0")) in _INT64
