"""Files in a folder as the sources of bulk scoring are given them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.objects import open_objects
from workers.bulk.places import Found, Place
from workers.bulk.ports import Chunk, Source

MANY = 1 << 30


def found(path: Path) -> Found:
    """The file as ``Places`` would find it."""
    objects = open_objects(f"file://{path.parent}")
    info = objects.info(path.name)
    return Found(Place(objects, path.name, f"file://{path}"), info.size_bytes, info.etag)


def read(
    source: Source,
    columns: Sequence[str],
    start: int = 0,
    stop: int | None = None,
    *,
    max_rows: int = MANY,
    max_bytes: int = MANY,
) -> list[Chunk]:
    """All chunks of a range, each of them checked for what every chunk has to be."""
    stop = source.planned().stop if stop is None else stop
    at, chunks = start, []
    for chunk in source.chunks(start, stop, columns, max_rows=max_rows, max_bytes=max_bytes):
        assert chunk.batch.schema.names == list(columns)
        assert chunk.batch.num_rows == len(chunk.positions) <= max_rows
        assert chunk.positions.dtype == np.int64
        assert all(at <= one < chunk.next for one in chunk.positions.tolist())
        assert sorted(set(chunk.positions.tolist())) == chunk.positions.tolist()
        assert at < chunk.next <= stop
        at = chunk.next
        chunks.append(chunk)
    assert at == stop or not chunks
    return chunks


def table(chunks: Sequence[Chunk]) -> pa.Table:
    """Their rows as one table."""
    return pa.Table.from_batches([chunk.batch for chunk in chunks])


def positions(chunks: Sequence[Chunk]) -> list[int]:
    """Their rows' positions."""
    return [one for chunk in chunks for one in chunk.positions.tolist()]
