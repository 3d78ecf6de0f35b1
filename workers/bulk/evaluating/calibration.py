"""Whether answers that are sure to 90 % are right nine times of ten. Pure arithmetic.

The confidence of a row is the score of the label that it was said to be of. Rows lie in 15 bins of
equal width, each with its lower edge, the last with both. ECE is the mean distance between a bin's
mean confidence and the share of its rows that are right, by its rows; MCE the largest one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.inference.ports import Array

BINS = 15


class Calibration:
    """Of ``groups`` groups of rows."""

    def __init__(self, groups: int) -> None:
        self._rows = np.zeros((groups, BINS))
        self._confidence = np.zeros((groups, BINS))
        self._right = np.zeros((groups, BINS))

    def add(self, group: Array, confidence: Array, right: Array) -> None:
        """Rows by their group's number; ``confidence`` between 0 and 1, float64."""
        at = np.minimum((confidence * BINS).astype(np.int64), BINS - 1) + group * BINS
        for sums, weights in ((self._rows, None), (self._confidence, confidence)):
            sums += _counted(at, weights, sums.shape)
        self._right += _counted(at, right.astype(np.float64), self._right.shape)

    def errors(self, group: int) -> tuple[float, float] | None:
        """ECE and MCE of a group; None where it has no rows."""
        rows = self._rows[group]
        some = rows > 0
        if not some.any():
            return None
        gaps = np.abs(self._right[group][some] - self._confidence[group][some])
        return float(gaps.sum() / rows.sum()), float((gaps / rows[some]).max())

    def bins(self, group: int) -> list[dict[str, Any]]:
        """All of a group's, empty ones too."""
        told = []
        for at, rows in enumerate(self._rows[group].astype(int).tolist()):
            told.append(
                {
                    "from": at / BINS,
                    "to": (at + 1) / BINS,
                    "rows": rows,
                    "confidence": float(self._confidence[group, at] / rows) if rows else None,
                    "accuracy": float(self._right[group, at] / rows) if rows else None,
                }
            )
        return told


def _counted(at: Array, weights: Array | None, shape: tuple[int, ...]) -> Array:
    counted: Array = np.bincount(at, weights=weights, minlength=shape[0] * shape[1]).reshape(shape)
    return counted
