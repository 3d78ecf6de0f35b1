"""Rows that are looked at and not learned from, as many at a time as memory suffices for."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator

import numpy as np

from workers.training.ports import Array, Batch, Learner, OutOfMemory, Part, Prepared, Rows

log = logging.getLogger(__name__)

_LEAST_ROWS = 256  # of a batch: nothing is kept for a gradient, so more of them fit
_MOST_BYTES = 16 << 20


def row_bytes(prepared: Prepared) -> int:
    """What one row's features take."""
    return sum(np.dtype(one.dtype).itemsize * math.prod(one.shape) for one in prepared.features)


class HeldOut:
    """One part of the rows. ``look`` is called between batches, and may raise."""

    def __init__(self, rows: Rows, part: Part, look: Callable[[], None]) -> None:
        self._rows, self.part, self._look = rows, part, look
        self.prepared = rows.prepared
        self.count = self.prepared.rows.get(part, 0)
        self._most = max(1, _MOST_BYTES // max(1, row_bytes(rows.prepared)))

    def loss_and_metrics(self, learner: Learner, batch_size: int) -> dict[str, float]:
        """Over all of its rows."""
        size = self._size(batch_size)
        while True:
            try:
                return learner.loss_and_metrics(self._batches(size))
            except OutOfMemory:
                size = _half(size)

    def predictions(self, learner: Learner, batch_size: int) -> Iterator[Array]:
        """The network's output, batch by batch, in the rows' own order."""
        size, row = self._size(batch_size), 0
        while row < self.count:
            self._look()
            stop = min(row + size, self.count)
            try:
                yield learner.predict(self._take(row, stop).inputs)
            except OutOfMemory:
                size = _half(size)
                continue
            row = stop

    def _size(self, batch_size: int) -> int:
        return min(self._most, max(batch_size, _LEAST_ROWS))

    def _batches(self, size: int) -> Iterator[Batch]:
        for row in range(0, self.count, size):
            self._look()
            yield self._take(row, min(row + size, self.count))

    def _take(self, start: int, stop: int) -> Batch:
        return self._rows.take(self.part, np.arange(start, stop, dtype=np.int64))


def _half(size: int) -> int:
    if size == 1:
        raise OutOfMemory("the device's memory does not suffice for a single row")
    log.warning("memory does not suffice for %d rows at once", size)
    return size // 2
