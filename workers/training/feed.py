"""An epoch's rows, group by group: the next one is read while the one before is learned."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from workers.training.ports import Batch, Order


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive batches."""

    batch: Batch
    start: int  # the first one's place in the epoch's order
    rows: int


class Feed:
    """One epoch's, from a row on. One group at a time is read ahead."""

    def __init__(
        self, take: Callable[[Order], Batch], order: Order, row: int, reader: ThreadPoolExecutor
    ) -> None:
        self._take, self._order, self._reader = take, order, reader
        self._row = row
        self._asked: Future[Group] | None = None

    def ask(self, rows: int) -> None:
        """Read so many rows more, or as many as there are."""
        start = self._row
        self._row = stop = min(start + rows, len(self._order))
        if stop == start:
            return
        self._asked = self._reader.submit(self._read, start, stop)

    def get(self) -> Group:
        """What was asked for."""
        asked, self._asked = self._asked, None
        assert asked is not None
        return asked.result()

    def drop(self) -> None:
        """What was asked for is not wanted any more; it is not being read afterwards."""
        asked, self._asked = self._asked, None
        if asked is not None and not asked.cancel():
            wait([asked])

    @property
    def next_row(self) -> int:
        """Where the next group to ask for begins."""
        return self._row

    def _read(self, start: int, stop: int) -> Group:
        return Group(self._take(self._order[start:stop]), start, stop - start)
