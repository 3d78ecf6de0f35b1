"""From rows that were read to chunks: the ones that are wanted, a bounded number of bytes each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from workers.bulk.ports import Chunk, Positions
from workers.bulk.reading.where import Where


def chosen(
    batch: pa.RecordBatch, positions: Positions, where: Where, columns: list[str], next: int
) -> Chunk:
    """The rows that ``where`` lets through, with the columns that were asked for."""
    skipped = 0
    mask = where(batch)
    if mask is not None and mask.true_count < len(mask):
        skipped = len(mask) - mask.true_count
        batch = batch.filter(mask)
        positions = positions[mask.to_numpy(zero_copy_only=False)]
    return Chunk(batch.select(columns), positions, (), skipped, next)


def left_out(schema: pa.Schema, rows: int, next: int) -> Chunk:
    """Rows of which none is let through, and none was read."""
    none = [pa.nulls(0, column.type) for column in schema]
    batch = pa.RecordBatch.from_arrays(none, schema=schema)
    return Chunk(batch, np.empty(0, np.int64), (), rows, next)


def within_bytes(batch: pa.RecordBatch, max_bytes: int) -> Iterator[pa.RecordBatch]:
    """The same rows in views of at most ``max_bytes``; of one row where that is more."""
    if batch.num_rows <= 1 or batch.nbytes <= max_bytes:
        if batch.num_rows:
            yield batch
        return
    half = batch.num_rows // 2
    yield from within_bytes(batch.slice(0, half), max_bytes)
    yield from within_bytes(batch.slice(half), max_bytes)
