"""Which rows of which works are meant, without an object for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload


class RowRef(NamedTuple):
    """Which row of which work: how an answer finds back to its question."""

    work: int
    row: int


class Spans(Sequence[RowRef]):
    """Ranges of rows of works; reads like the list of their refs, and is cut like it."""

    __slots__ = ("_rows", "parts")

    def __init__(self, parts: Sequence[tuple[int, int, int]]) -> None:
        """``parts``: work, first row, behind the last; none of them empty."""
        self.parts = parts
        self._rows = sum(last - first for _, first, last in parts)

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[RowRef]:
        for work, first, last in self.parts:
            for row in range(first, last):
                yield RowRef(work, row)

    @overload
    def __getitem__(self, index: int) -> RowRef: ...

    @overload
    def __getitem__(self, index: slice) -> Spans: ...

    def __getitem__(self, index: int | slice) -> RowRef | Spans:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._rows)
            assert step == 1, "spans are cut into runs only"
            return Spans(list(_cut(self.parts, start, stop)))
        for work, first, last in self.parts:
            if index < last - first:
                return RowRef(work, first + index)
            index -= last - first
        raise IndexError(index)


def _cut(
    parts: Sequence[tuple[int, int, int]], start: int, stop: int
) -> Iterator[tuple[int, int, int]]:
    at = 0
    for work, first, last in parts:
        low, high = max(start - at, 0), min(stop - at, last - first)
        if low < high:
            yield work, first + low, first + high
        at += last - first
