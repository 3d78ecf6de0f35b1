"""The area under the curve by ranks, with what each row adds to it. Pure arithmetic.

The interval is DeLong's: the variance of what the rows add. Of several labels, each against the
rest, a row's parts are averaged as the areas are, so rows that are hard for two labels count so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from workers.bulk.evaluating.intervals import Interval, around
from workers.inference.ports import Array

Ints = npt.NDArray[np.int64]


def auc_with_interval(
    truth: Ints, scores: Array, look: Callable[[], None]
) -> tuple[float | None, Interval | None]:
    """``scores`` (rows,) of the second of two labels, or (rows, labels): then the plain average of
    the labels that are there with others beside them. ``look`` is called between labels."""
    if not len(truth):
        return None, None
    columns = scores.reshape(len(scores), -1)
    single = columns.shape[1] == 1
    found, added = [], np.zeros(len(truth))
    for label in range(columns.shape[1]):
        look()
        one = _area(truth == (1 if single else label), columns[:, label])
        if one is not None:
            found.append(one[0])
            added += one[1]
    if not found:
        return None, None
    area = float(np.mean(found))
    return area, around(area, float(np.sum((added / len(found)) ** 2)), 0.0, 1.0)


def _area(positive: npt.NDArray[np.bool_], score: Array) -> tuple[float, Array] | None:
    """The chance that a positive row scores higher than a negative one, ties counting half, and
    by how much each row moves its estimate. None without rows of both kinds."""
    many = int(positive.sum())
    few = len(positive) - many
    if not many or not few or np.isnan(score).any():
        return None
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    hits = np.bincount(place, weights=positive, minlength=len(counts))
    misses = counts - hits
    beaten = (np.cumsum(misses) - misses / 2) / few  # by a positive row of each score
    beating = 1 - (np.cumsum(hits) - hits / 2) / many  # a negative row of each score
    area = float(np.sum(hits * beaten) / many)
    added = np.where(positive, (beaten[place] - area) / many, (beating[place] - area) / few)
    return area, added
