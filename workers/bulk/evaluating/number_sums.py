"""Numbers: sums over rows that errors are worked out of, group by group, as ``class_sums``.

A row of several numbers counts as the mean of theirs. R² is against each column's own mean, of all
columns together (scikit-learn's ``variance_weighted``). ``bias`` is how much too high the answers
are, on average.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workers.bulk.evaluating.intervals import Interval, around, of_mean
from workers.inference.ports import Array

Ints = npt.NDArray[np.int64]
NAMES = ("mse", "mae", "rmse", "r2", "bias")
_MOST_KEPT = 4 << 20  # numbers, for the interval of R²


class NumberSums:
    """Truth and answers are added as float64 (n, width)."""

    def __init__(self, width: int, groups: int = 1) -> None:
        self._width = width
        self._rows = np.zeros(groups, np.int64)
        self._sums = np.zeros((groups, 3))  # of squares, of distances, of differences
        self._squares = np.zeros((groups, 3))  # of these, row by row
        self._mean, self._spread = np.zeros((2, groups, width))
        self._kept: list[tuple[Array, Array]] | None = [] if groups == 1 else None
        self._kept_numbers = 0

    def add(self, group: Ints, truth: Array, said: Array) -> None:
        """Rows by their group's number."""
        off = said - truth
        each = np.stack([(off**2).mean(axis=1), np.abs(off).mean(axis=1), off.mean(axis=1)], axis=1)
        for one in np.unique(group).tolist():
            mine = group == one
            self._sums[one] += each[mine].sum(axis=0)
            self._squares[one] += (each[mine] ** 2).sum(axis=0)
            self._spread_of(one, truth[mine])
        if self._kept is not None:
            self._kept_numbers += truth.size
            self._kept.append((truth, each[:, 0]))
            if self._kept_numbers > _MOST_KEPT:
                self._kept = None

    def rows(self, group: int = 0) -> int:
        """Of a group."""
        return int(self._rows[group])

    def metrics(self, group: int = 0) -> tuple[dict[str, float | None], dict[str, Interval | None]]:
        """See ``NAMES``; ``r2`` is None where all rows have one value."""
        rows = self.rows(group)
        if not rows:
            return dict.fromkeys(NAMES), {}
        mse, mae, bias = (self._sums[group] / rows).tolist()
        spread = float(self._spread[group].sum())
        whole = self._width * float(self._sums[group, 0])
        r2 = 1.0 - whole / spread if spread > 0 else None
        figures = {"mse": mse, "mae": mae, "rmse": float(np.sqrt(mse)), "r2": r2, "bias": bias}
        intervals: dict[str, Interval | None] = {}
        for at, name in enumerate(("mse", "mae", "bias")):
            interval = of_mean(self._sums[group, at], self._squares[group, at], rows)
            if interval is not None and name != "bias":
                interval = (max(0.0, interval[0]), interval[1])
            intervals[name] = interval
        if (found := intervals["mse"]) is not None:
            intervals["rmse"] = (float(np.sqrt(found[0])), float(np.sqrt(found[1])))
        if r2 is not None and self._kept is not None:
            intervals["r2"] = self._of_r2(r2)
        return figures, intervals

    def _spread_of(self, group: int, truth: Array) -> None:
        """Squared distances from the columns' means, without a second look at the rows: the two
        parts' own, and what lies between their means."""
        before, rows = int(self._rows[group]), len(truth)
        mean = truth.mean(axis=0)
        apart = mean - self._mean[group]
        whole = before + rows
        self._spread[group] += ((truth - mean) ** 2).sum(axis=0) + apart**2 * before * rows / whole
        self._mean[group] += apart * rows / whole
        self._rows[group] = whole

    def _of_r2(self, r2: float) -> Interval | None:
        """By how much each row moves it (the delta method)."""
        assert self._kept is not None
        truth = np.concatenate([one for one, _ in self._kept])
        errors = np.concatenate([one for _, one in self._kept])
        spread = ((truth - self._mean[0]) ** 2).mean(axis=1)
        added = (errors - (1 - r2) * spread) / spread.mean() / len(errors)
        return around(r2, float(np.sum(added**2)), -np.inf, 1.0)
