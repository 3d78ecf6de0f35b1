"""Classes: sums over rows that everything but the AUC is worked out of, group by group.

Group is what rows are told apart by: a value of a slice column; the whole is one group.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from workers.bulk.evaluating.calibration import Calibration
from workers.bulk.evaluating.intervals import Interval, of_mean, of_share
from workers.inference.ports import Array
from workers.training.scores import Tally, confusion, macro, shares

MOST_CONFUSED = 200  # labels
MOST_TOLD = 1_000  # of them
_DRAWN, _MOST_DRAWN = 500, 4_000_000  # times; counts in all of these
_SEED = 20_261_127  # the same rows have the same interval

Ints = npt.NDArray[np.int64]
Intervals = dict[str, Interval | None]
SHARES = ("precision", "recall", "f1")
PROBABLE = ("log_loss", "brier", "ece", "mce")
NAMES = ("accuracy", *SHARES, *(f"macro_{name}" for name in SHARES), "auc", *PROBABLE)


class ClassSums:
    """Rows are added as the labels' places, and with scores that are probabilities or not."""

    def __init__(self, labels: int, groups: int = 1) -> None:
        self._labels, self._groups = labels, groups
        self._hits, self._support, self._said = np.zeros((3, groups, labels), np.int64)
        few = groups == 1 and labels <= MOST_CONFUSED
        self.confusion: Ints | None = np.zeros((labels, labels), np.int64) if few else None
        self._sums = np.zeros((4, groups))  # of log losses, their squares; of Brier's, theirs
        self.calibration = Calibration(groups)

    def add(self, group: Ints, truth: Ints, said: Ints, scores: Array | None) -> None:
        """``scores``: probabilities, float64 (n, labels), or None where they are none."""
        right = truth == said
        at = group * self._labels
        self._hits += self._count((at + truth)[right])
        self._support += self._count(at + truth)
        self._said += self._count(at + said)
        if self.confusion is not None:
            self.confusion += confusion(truth, said, self._labels)
        if scores is not None:
            rows = np.arange(len(truth))
            loss, brier = _log_loss(scores[rows, truth]), _brier(scores, truth)
            for index, values in enumerate((loss, loss**2, brier, brier**2)):
                self._sums[index] += np.bincount(group, weights=values, minlength=self._groups)
            self.calibration.add(group, scores[rows, said], right)

    def rows(self, group: int = 0) -> int:
        """Of a group."""
        return int(self._support[group].sum())

    def metrics(
        self, group: int = 0, *, probable: bool = True
    ) -> tuple[dict[str, float | None], Intervals]:
        """All but ``auc``; ``probable``: whether every score was a probability."""
        rows = self.rows(group)
        if not rows:
            return dict.fromkeys(NAMES), {}
        found, hits = self._tally(group), int(self._hits[group].sum())
        figures: dict[str, float | None] = {"accuracy": hits / rows}
        intervals: Intervals = {"accuracy": of_share(hits, rows)}
        averages = macro(found)
        if self._labels == 2:
            figures |= {name: float(values[1]) for name, values in shares(found).items()}
            intervals |= _of_label(found, 1)
        else:
            figures |= averages
        figures |= {f"macro_{name}": value for name, value in averages.items()}
        figures |= {"auc": None, **dict.fromkeys(PROBABLE)}
        if probable:
            self._probable(group, rows, figures, intervals)
        if self.confusion is not None:
            intervals |= self._drawn(rows, [name for name in figures if name not in intervals])
        return figures, intervals

    def by_label(self, labels: tuple[str, ...]) -> list[dict[str, Any]]:
        """What the document says of each; of the whole. Of more than ``MOST_TOLD`` those that most
        rows have."""
        found = self._tally(0)
        each = shares(found)
        told = np.sort(np.argsort(-found.support, kind="stable")[:MOST_TOLD]).tolist()
        return [
            {
                "label": labels[at],
                "support": int(found.support[at]),
                **{name: float(each[name][at]) for name in SHARES},
                "intervals": {name: one for name, one in _of_label(found, at).items() if one},
            }
            for at in told
        ]

    def _count(self, at: Ints) -> Ints:
        counted = np.bincount(at, minlength=self._groups * self._labels)
        return counted.reshape(self._groups, self._labels).astype(np.int64)

    def _tally(self, group: int) -> Tally:
        return Tally(self._hits[group], self._support[group], self._said[group])

    def _probable(
        self, group: int, rows: int, figures: dict[str, float | None], intervals: Intervals
    ) -> None:
        for name, at in (("log_loss", 0), ("brier", 2)):
            total, squares = self._sums[at : at + 2, group].tolist()
            figures[name] = total / rows
            interval = of_mean(total, squares, rows)
            intervals[name] = (max(0.0, interval[0]), interval[1]) if interval else None
        errors = self.calibration.errors(group)
        if errors is not None:
            figures["ece"], figures["mce"] = errors

    def _drawn(self, rows: int, names: list[str]) -> Intervals:
        """Where there is no formula: by drawing as many rows again and again."""
        assert self.confusion is not None
        if self._labels**2 * _DRAWN > _MOST_DRAWN:
            return {}
        chance = np.random.default_rng(_SEED)
        share = (self.confusion / rows).reshape(-1)
        tables = chance.multinomial(rows, share, size=_DRAWN).reshape(-1, *self.confusion.shape)
        hits = np.diagonal(tables, axis1=1, axis2=2).astype(np.float64)
        support, said = tables.sum(axis=2), tables.sum(axis=1)
        precision, recall = _share(hits, said), _share(hits, support)
        each = (precision, recall, _share(2 * precision * recall, precision + recall))
        occurs = support + said > 0
        drawn: dict[str, Array] = {}
        for name, values in zip(SHARES, each, strict=True):
            average = values.sum(axis=1, where=occurs) / np.maximum(1, occurs.sum(axis=1))
            drawn[f"macro_{name}"] = average
            drawn[name] = values[:, 1] if self._labels == 2 else average
        found = {name: np.quantile(drawn[name], (0.025, 0.975)) for name in names if name in drawn}
        return {name: (float(low), float(high)) for name, (low, high) in found.items()}


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _of_label(found: Tally, at: int) -> Intervals:
    hits = int(found.hits[at])
    return {
        "precision": of_share(hits, int(found.said[at])),
        "recall": of_share(hits, int(found.support[at])),
    }


def _log_loss(chance: Array) -> Array:
    """Of the chance that was given to what is so; clipped, as scikit-learn does, so that one
    answer that was certain and wrong does not make the mean infinite."""
    least = float(np.finfo(np.float64).eps)
    loss: Array = -np.log(np.clip(chance, least, 1 - least))
    return loss


def _brier(scores: Array, truth: Ints) -> Array:
    """Squared distances; of two labels the second one's alone."""
    if scores.shape[1] == 2:
        return np.asarray((scores[:, 1] - (truth == 1)) ** 2)
    off = scores.copy()
    off[np.arange(len(truth)), truth] -= 1
    return np.asarray((off**2).sum(axis=1))
