"""Numbers: sums over rows that errors are worked out of, group by group, as ``class_sums``.

A row of several numbers counts as the mean of theirs. R² is against each column's own mean, of all
columns together (scikit-learn's ``variance_weighted``: one that never varies has no part in it).
``bias`` is how much too high the answers are, on average.
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
        self._mean, self._spread, self._errors = np.zeros((3, groups, width))
        self._least = np.full((groups, width), np.inf)
        self._most = np.full((groups, width), -np.inf)
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
            self._errors[one] += (off[mine] ** 2).sum(axis=0)
        if self._kept is not None:
            self._kept_numbers += truth.size
            self._kept.append((truth, off**2))
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
        varies = self._most[group] > self._least[group]  # sums of one value over have a remainder
        spread = float(self._spread[group][varies].sum())
        r2 = 1.0 - float(self._errors[group][varies].sum()) / spread if spread > 0 else None
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
            intervals["r2"] = self._of_r2(r2, varies)
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
        self._least[group] = np.minimum(self._least[group], truth.min(axis=0))
        self._most[group] = np.maximum(self._most[group], truth.max(axis=0))
        self._rows[group] = whole

    def _of_r2(self, r2: float, varies: npt.NDArray[np.bool_]) -> Interval | None:
        """By how much each row moves it (the delta method)."""
        assert self._kept is not None
        truth = np.concatenate([one for one, _ in self._kept])[:, varies]
        errors = np.concatenate([one for _, one in self._kept])[:, varies].mean(axis=1)
        spread = ((truth - self._mean[0][varies]) ** 2).mean(axis=1)
        added = (errors - (1 - r2) * spread) / spread.mean() / len(errors)
        return around(r2, float(np.sum(added**2)), -np.inf, 1.0)
