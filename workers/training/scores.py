"""How good answers are, from labels and predictions alone. Pure arithmetic.

Labels are indices ``0 … labels - 1``. Where a share has nothing to be a share of (no row was said
to be of a label, none is), it is 0, as is usual; an average leaves such labels out that are neither
among the rows nor among the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tally:
    """Rows by label, (labels,) each: it takes no matrix to know them, which of ten thousand labels
    is a gigabyte."""

    hits: Ints  # were of it, and were said to be
    support: Ints  # were of it
    said: Ints  # were said to be of it


def tally(truth: Ints, said: Ints, labels: int) -> Tally:
    """Counted."""

    def count(some: Ints) -> Ints:
        return np.bincount(some, minlength=labels).astype(np.int64)

    return Tally(count(truth[truth == said]), count(truth), count(said))


def confusion(truth: Ints, said: Ints, labels: int) -> Ints:
    """How many rows of label ``i`` were said to be of label ``j``: (labels, labels)."""
    counts = np.bincount(truth * labels + said, minlength=labels * labels)
    return counts.reshape(labels, labels).astype(np.int64)


def shares(found: Tally) -> dict[str, Floats]:
    """By label: ``precision``, ``recall``, ``f1``."""
    hits = found.hits.astype(np.float64)
    precision, recall = _share(hits, found.said), _share(hits, found.support)
    both = precision + recall
    return {"precision": precision, "recall": recall, "f1": _share(2 * precision * recall, both)}


def macro(found: Tally) -> dict[str, float]:
    """The plain averages of ``shares`` over the labels that occur."""
    occurs = (found.support + found.said) > 0
    each = shares(found)
    return {name: float(one[occurs].mean()) if occurs.any() else 0.0 for name, one in each.items()}


def auc(positive: npt.NDArray[np.bool_], score: Floats) -> float | None:
    """The chance that a positive row scores higher than a negative one, ties counting half: exact,
    by ranks. None without rows of both kinds, and where a score is no number."""
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few or np.isnan(score).any():
        return None
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[place.reshape(-1)]  # from 1; of equal ones their middle
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))


def auc_macro(truth: Ints, scores: Floats) -> float | None:
    """Each label against the rest, and the plain average of those that can be told."""
    each = [auc(truth == label, scores[:, label]) for label in range(scores.shape[1])]
    known = [one for one in each if one is not None]
    return float(np.mean(known)) if known else None


def errors_of_numbers(truth: Floats, said: Floats) -> dict[str, float | None]:
    """``mse``, ``mae``, ``rmse``, ``r2`` (None where all rows have one value). Any shape: the mean
    over all numbers, R² against each column's own mean (scikit-learn's ``variance_weighted``)."""
    truth = np.asarray(truth, np.float64).reshape(len(truth), -1)
    said = np.asarray(said, np.float64).reshape(truth.shape)
    off = said - truth
    mse = float(np.mean(off**2))
    # One that never varies has no part in R²: its sums of one value over have a remainder.
    varies = truth.max(axis=0) > truth.min(axis=0) if len(truth) else np.zeros(0, np.bool_)
    spread = float(np.sum((truth - truth.mean(axis=0))[:, varies] ** 2))
    return {
        "mse": mse,
        "mae": float(np.mean(np.abs(off))),
        "rmse": float(np.sqrt(mse)),
        "r2": 1.0 - float(np.sum(off[:, varies] ** 2)) / spread if spread > 0 else None,
    }


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
