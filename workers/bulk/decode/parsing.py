"""Numbers and bools written as text, in files that have no types."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.bulk.decode.fitting import whole
from workers.bulk.decode.values import Kind, Values
from workers.bulk.decode.verdicts import Mask
from workers.inference.ports import Array

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
    floats = cells.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if dtype.startswith("float"):
        return _values(Kind.NUMBER, text, null, floats, bad=~_mask(number))
    # Each cell by itself: whether it keeps all its digits is no matter of what stands beside it.
    integer = pc.match_substring_regex(cells, _INTEGER)
    exact = pc.if_else(integer, cells, "0").cast(pa.int64()).to_numpy(zero_copy_only=False)
    fits = whole(floats)
    numbers = np.where(_mask(integer), exact, np.where(fits, floats, 0).astype(np.int64))
    return _values(Kind.NUMBER, text, null, numbers, bad=~_mask(number) | ~(_mask(integer) | fits))


def _values(kind: Kind, text: pa.Array, null: Mask, numbers: Array, bad: Mask) -> Values:
    bad &= ~null
    return Values(kind, text, null if null.any() else None, numbers, bad if bad.any() else None)


def _mask(array: pa.Array) -> Mask:
    mask: Mask = np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False))
    return mask
