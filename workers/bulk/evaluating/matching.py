"""Two scorings of the same files side by side: both come in the order of (file, position)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from workers.bulk.evaluating.reading import Scored
from workers.bulk.ports import Positions
from workers.inference.ports import Array

Pair = tuple[Scored, Scored]
"""The same rows as they were answered before, and after."""


class Matching:
    """Holds a chunk of each side. ``missing`` counts the rows so far that only one side has."""

    def __init__(self) -> None:
        self.missing = 0

    def pairs(self, before: Iterable[Scored], after: Iterable[Scored]) -> Iterator[Pair]:
        """What both have answered, in their order."""
        left, right = _with_rows(before), _with_rows(after)
        one, other = next(left, None), next(right, None)
        while one is not None and other is not None:
            lasts = [(side.file, int(side.positions[-1])) for side in (one, other)]
            file, last = min(lasts)
            here, there = _until(one, file, last), _until(other, file, last)
            if here and there:
                ours, theirs = _shared(one.positions[:here], other.positions[:there])
                self.missing += here + there - 2 * len(ours)
                if len(ours):
                    yield taken(one, ours), taken(other, theirs)
            else:
                self.missing += here + there
            one = next(left, None) if here == len(one.positions) else _after(one, here)
            other = next(right, None) if there == len(other.positions) else _after(other, there)
        for side, rest in ((one, left), (other, right)):
            if side is not None:
                self.missing += len(side.positions) + sum(len(chunk.positions) for chunk in rest)


def taken(rows: Scored, which: Array) -> Scored:
    """Some of the rows, by their indices."""
    if len(which) == len(rows.positions):
        return rows
    indices = pa.array(which)
    return Scored(
        rows.file,
        rows.positions[which],
        {name: column.take(indices) for name, column in rows.kept.items()},
        None if rows.label is None else rows.label.take(indices),
        None if rows.score is None else rows.score[which],
        {name: output[which] for name, output in rows.outputs.items()},
    )


def _with_rows(chunks: Iterable[Scored]) -> Iterator[Scored]:
    return (chunk for chunk in chunks if len(chunk.positions))


def _until(rows: Scored, file: int, last: int) -> int:
    """How many of them come no later than that position."""
    if rows.file != file:
        return 0  # the other side's file comes first
    return int(np.searchsorted(rows.positions, last, side="right"))


def _after(rows: Scored, first: int) -> Scored:
    return taken(rows, np.arange(first, len(rows.positions))) if first else rows


def _shared(one: Positions, other: Positions) -> tuple[Array, Array]:
    """The indices of the positions that are in both."""
    _, ours, theirs = np.intersect1d(one, other, assume_unique=True, return_indices=True)
    return ours, theirs
