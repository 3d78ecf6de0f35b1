"""From what a block of a file turned out to hold to chunks of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.bulk.ports import Chunk, Positions, RowError

Where = Callable[[pa.RecordBatch], pa.BooleanArray | None]  # None: all of them


@dataclass(frozen=True, slots=True)
class Parsed:
    """A block's rows and errors, before anything is left out."""

    batch: pa.RecordBatch
    positions: Positions
    errors: Sequence[RowError]
    next: int


def chunks_of(
    parsed: Parsed, where: Where | None, columns: Sequence[str], *, max_rows: int, max_bytes: int
) -> Iterator[Chunk]:
    """The rows that ``where`` lets through, at most ``max_rows`` of them and of errors at a time.

    A chunk over ``max_bytes`` has one row.
    """
    batch, positions, left_out = parsed.batch, parsed.positions, np.empty(0, np.int64)
    if where is not None and (mask := where(batch)) is not None:
        chosen = pc.fill_null(mask, False)
        true = chosen.to_numpy(zero_copy_only=False)
        batch, positions, left_out = batch.filter(chosen), positions[true], positions[~true]
    batch = batch.select(list(columns))
    errors = sorted(parsed.errors, key=lambda one: one.position)
    wrong = np.fromiter((one.position for one in errors), np.int64, len(errors))
    if not len(positions) + len(errors) + len(left_out):
        return
    cuts = [*_cuts(batch, positions, wrong, max_rows, max_bytes), parsed.next]
    rows, fails, leaves = (_split(one, cuts) for one in (positions, wrong, left_out))
    for index, going_on in enumerate(cuts):
        begin, end = rows[index]
        yield Chunk(
            batch.slice(begin, end - begin),
            positions[begin:end],
            tuple(errors[slice(*fails[index])]),
            leaves[index][1] - leaves[index][0],
            going_on,
        )


def _split(positions: Positions, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """Between which indices the positions before each cut lie. Behind the last there is none."""
    inner = np.searchsorted(positions, cuts[:-1]).tolist()
    return list(pairwise([0, *inner, len(positions)]))


def _cuts(
    batch: pa.RecordBatch, positions: Positions, wrong: Positions, max_rows: int, max_bytes: int
) -> list[int]:
    """The positions at which a new chunk begins."""
    every = np.sort(np.concatenate([positions, wrong]))
    by_rows = every[max_rows::max_rows].tolist()
    cuts: list[int] = []
    for (begin, end), cut in zip(_split(positions, [*by_rows, 0]), [*by_rows, None], strict=True):
        cuts += [int(positions[row]) for row in _halved(batch, begin, end, max_bytes)]
        if cut is not None:
            cuts.append(cut)
    return cuts


def _halved(batch: pa.RecordBatch, begin: int, end: int, max_bytes: int) -> Iterator[int]:
    """Rows at which to cut so that no piece has more bytes, unless it is one row."""
    if end - begin > 1 and batch.slice(begin, end - begin).nbytes > max_bytes:
        middle = (begin + end) // 2
        yield from _halved(batch, begin, middle, max_bytes)
        yield middle
        yield from _halved(batch, middle, end, max_bytes)


def columns_to_read(
    columns: Sequence[str],
    every: Iterable[str],
    where: Where | None,
    where_columns: Collection[str] | None,
) -> list[str]:
    """Those that are asked for, and those that ``where`` looks at: any, if that is not known."""
    looked_at = () if where is None else every if where_columns is None else where_columns
    return list(dict.fromkeys([*columns, *looked_at]))


def as_batch(table: pa.Table) -> pa.RecordBatch:
    """The table's rows beside each other; nothing is copied where they were."""
    columns = [
        one.chunk(0) if one.num_chunks == 1 else one.combine_chunks() for one in table.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)
