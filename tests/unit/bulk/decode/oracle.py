"""What the online decoder says of the same values, row by row.

Three things a JSON input cannot say are put into its words here: a column of floats may hold whole
numbers where integers are wanted, NaN and infinity are ``not_finite``, and an input that is null
is missing.
"""

from __future__ import annotations

import math

import numpy as np
import orjson
import pyarrow as pa

from storage.records.bulk import BulkFormat
from storage.records.errors import ItemError
from storage.records.signatures import Signature
from workers.bulk.decode import ChunkDecoder
from workers.bulk.ports import Decoded
from workers.inference.decode import decode_input
from workers.inference.ports import Row

EXACT = 2**53


def online(model: Signature, value: object) -> Row | str:
    """The row, or the code of its error."""
    try:
        decoded = decode_input(model, orjson.dumps(value))
    except ItemError as error:
        return error.stable_code
    (row,) = decoded.rows
    return row.stable_code if isinstance(row, ItemError) else row


def spelled(value: object) -> object:
    """As JSON: whole floats are integers, because a column cannot tell them apart."""
    if isinstance(value, list):
        return [spelled(one) for one in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return int(value)
    return value


def is_endless(value: object) -> bool:
    """Whether NaN or infinity is somewhere in it."""
    if isinstance(value, list):
        return any(is_endless(one) for one in value)
    return isinstance(value, float) and not math.isfinite(value)


def decode(
    model: Signature,
    columns: dict[str, pa.Array],
    said: dict[str, tuple[str, ...]] | None = None,
    format: BulkFormat = BulkFormat.JSONL,
    **options: object,
) -> Decoded:
    """A batch of these columns through the decoder under test."""
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    decoder = ChunkDecoder(model, said or {}, list(columns), format=format, **options)
    return decoder.decode(batch.select(list(decoder.columns)))


def outcomes(model: Signature, decoded: Decoded, count: int) -> list[Row | str]:
    """Of every row: its tensors, or the code of its error."""
    found: list[Row | str | None] = [None] * count
    for row, code, message in decoded.errors:
        assert found[row] is None and message
        found[row] = code
    assert (decoded.block is None) != (decoded.rows is None)
    assert decoded.good.tolist() == sorted(set(range(count)) - {one[0] for one in decoded.errors})
    for place, row in enumerate(decoded.good.tolist()):
        if decoded.rows is not None:
            found[row] = decoded.rows[place]
        else:
            assert decoded.block is not None
            for array in decoded.block.values():
                assert len(array) == len(decoded.good)
            found[row] = {name: array[place, ...] for name, array in decoded.block.items()}
    assert None not in found
    return [one for one in found if one is not None]


def assert_same(got: Row | str, expected: Row | str, told: object) -> None:
    """The same values of the same type, or the same code."""
    if isinstance(got, str) or isinstance(expected, str):
        assert got == expected, told
        return
    assert got.keys() == expected.keys()
    for name, array in got.items():
        other = expected[name]
        assert array.dtype == other.dtype and array.shape == other.shape, told
        nan = array.dtype.kind == "f"
        assert np.array_equal(array, other, equal_nan=nan), told
