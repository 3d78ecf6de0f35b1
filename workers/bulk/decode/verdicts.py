"""Which rows of a batch are wrong, and why: the first reason stands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


class Verdicts:
    """Of the rows of one batch."""

    def __init__(self, count: int) -> None:
        self._said: dict[int, tuple[str, str]] = {}
        self._wrong = np.zeros(count, dtype=np.bool_)

    @property
    def count(self) -> int:
        """Rows, right and wrong."""
        return len(self._wrong)

    def is_wrong(self, row: int) -> bool:
        """Whether there is a reason already."""
        return bool(self._wrong[row])

    def refuse(self, row: int, code: str, message: str) -> None:
        """One row."""
        if not self._wrong[row]:
            self._wrong[row] = True
            self._said[row] = (code, message)

    def refuse_rows(self, rows: Indices | None, code: str, message: str) -> None:
        """These rows; None: all of them."""
        mask = np.ones(self.count, dtype=np.bool_)
        if rows is not None:
            mask[...] = False
            mask[rows] = True
        for row in np.flatnonzero(mask & ~self._wrong).tolist():
            self._said[row] = (code, message)
        self._wrong |= mask

    def refuse_each(self, rows: Indices, code: str, say: Callable[[int], str]) -> None:
        """``rows`` ascends and repeats; ``say`` gets the place in it of a row's first entry."""
        firsts = np.flatnonzero(np.diff(rows, prepend=-1))
        for first, row in zip(firsts.tolist(), rows[firsts].tolist(), strict=True):
            if not self._wrong[row]:
                self.refuse(row, code, say(first))

    def good(self) -> Indices:
        """The rows that are left."""
        return np.flatnonzero(~self._wrong).astype(np.int64, copy=False)

    def errors(self) -> tuple[tuple[int, str, str], ...]:
        """Row, code and message of the others, ascending."""
        return tuple((row, *self._said[row]) for row in sorted(self._said))
