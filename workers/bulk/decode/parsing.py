"""Numbers and bools written as text, in files that have no types."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.bulk.decode.values import Kind, Values, values_of
from workers.bulk.decode.verdicts import Mask

_NUMBER = r"^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|nan|inf|infinity)$"
_INTEGER = r"^[+-]?[0-9]{1,18}$"  # int64 holds so many digits whatever they are
_TRUE, _FALSE = pa.array(["true", "1"]), pa.array(["false", "0"])


def numbers_in(text: pa.Array, dtype: str) -> Values:
    """What the cells say as the model's ``dtype`` is about to take it. An empty one is null."""
    cells = pc.utf8_lower(pc.utf8_trim_whitespace(text))
    null = _mask(pc.fill_null(pc.equal(cells, ""), True))
    if dtype == "bool":
        yes, no = _mask(pc.is_in(cells, _TRUE)), _mask(pc.is_in(cells, _FALSE))
        return _values(Kind.BOOL, text, null, yes, bad=~(yes | no))
    number = pc.fill_null(pc.match_substring_regex(cells, _NUMBER), False)
    cells = pc.utf8_ltrim(pc.if_else(number, cells, "0"), "+")
    numbers = values_of(cells.cast(pa.float64())).numbers
    if not dtype.startswith("float"):
        integers = pc.match_substring_regex(cells, _INTEGER)
        if pc.all(integers).as_py() is not False:
            numbers = values_of(cells.cast(pa.int64())).numbers
    return _values(Kind.NUMBER, text, null, numbers, bad=~_mask(number))


def _values(kind: Kind, text: pa.Array, null: Mask, numbers: Mask | None, bad: Mask) -> Values:
    bad &= ~null
    return Values(kind, text, null if null.any() else None, numbers, bad if bad.any() else None)


def _mask(array: pa.Array) -> Mask:
    mask: Mask = np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False))
    return mask
