"""How good answers are, worked out while they are read: of all rows, and slice by slice.

What is kept of all rows is what the AUC needs, up to a bound: beyond it there is no AUC (None), and
everything else is the same. So a million rows of ten labels take forty megabytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from storage.records.push_options import ScoreKind
from workers.bulk.evaluating.class_sums import PROBABLE, ClassSums
from workers.bulk.evaluating.number_sums import NumberSums
from workers.bulk.evaluating.ranks import auc_with_interval
from workers.bulk.evaluating.reading import Scored
from workers.bulk.evaluating.slices import Values
from workers.bulk.evaluating.target import CLASSES, Target
from workers.bulk.evaluating.truth import Mask, Truth
from workers.inference.encode import label_scores
from workers.inference.ports import Array

MOST_SCORES = 32 << 20  # numbers that are kept for the AUC
_SUM_IS_ONE = 1e-3  # of a row's probabilities: as far as float16 may be off

Told = dict[str, Any]
Look = Callable[[], None]


class Measures:
    """Of one target; ``add`` the rows, then ask what they come to."""

    def __init__(self, target: Target, slices: Mapping[str, Values] | None = None) -> None:
        self.truth = Truth(target)
        self._slices = dict(slices or {})
        self._of: _Classes | _Numbers
        self._of = (
            _Classes(target, self._slices)
            if target.task == CLASSES
            else _Numbers(target, self._slices)
        )

    @property
    def rows(self) -> int:
        """That have an answer and a label."""
        return self._of.rows()

    def add(self, rows: Scored, label: pa.Array, slices: Mapping[str, pa.Array]) -> None:
        """``label`` and the ``slices``' columns as they were kept, row for row."""
        truth, good = self.truth.read(label)
        if not good.any():
            return
        groups = {name: values.places(slices[name])[good] for name, values in self._slices.items()}
        self._of.add(rows, good, truth[good], groups)

    def told(self, look: Look) -> Told:
        """The document's ``metrics``, ``intervals``, ``labels``, ``confusion``, ``calibration``,
        ``slices``. ``look`` is called now and then, and may raise."""
        figures, intervals = self._of.figures(None, 0, look)
        return {
            "metrics": figures,
            "intervals": intervals,
            **self._of.details(),
            "slices": [self._sliced(name, values, look) for name, values in self._slices.items()],
        }

    def _sliced(self, name: str, values: Values, look: Look) -> Told:
        told = []
        for group, word in enumerate(values.words):
            look()
            figures, intervals = self._of.figures(name, group, look)
            rows = self._of.rows(name, group)
            told.append({"value": word, "rows": rows, "metrics": figures, "intervals": intervals})
        others = self._of.rows(name, values.groups - 1)
        return {
            "column": name,
            "values": told,
            "other_values": values.others,
            "other_rows": others,
        }


class _Classes:
    """Sums by slice column (None: the whole), and the scores for the AUC."""

    def __init__(self, target: Target, slices: Mapping[str, Values]) -> None:
        self._target = target
        labels = len(target.labels)
        self._sums: dict[str | None, ClassSums] = {None: ClassSums(labels)}
        self._sums |= {name: ClassSums(labels, one.groups) for name, one in slices.items()}
        self._probable = True
        self._ranked: list[tuple[Array, Array]] | None = []  # truth, scores
        self._placed: dict[str, list[Array]] = {name: [] for name in slices}
        self._kept = 0
        self._joined: tuple[Array, Array] | None = None

    def rows(self, name: str | None = None, group: int = 0) -> int:
        return self._sums[name].rows(group)

    def add(self, rows: Scored, good: Mask, truth: Array, groups: Mapping[str, Array]) -> None:
        target = self._target
        raw = rows.outputs[target.output].reshape(len(rows.positions), -1)[good]
        every = np.ones(len(raw), np.bool_)
        online = label_scores(raw, target.scores, len(target.labels), every)
        said = online.argmax(axis=1).astype(np.int64)
        scores = online.astype(np.float64)
        if raw.shape[1] == 1:  # the other one's, as exactly as it can be told
            scores[:, 0] = 1 - scores[:, 1]
        self._probable = self._probable and _are_probabilities(scores)
        chances = scores if self._probable else None
        whole = np.zeros(len(truth), np.int64)
        for name, sums in self._sums.items():
            sums.add(whole if name is None else groups[name], truth, said, chances)
        self._keep(truth, scores, online, groups)

    def figures(self, name: str | None, group: int, look: Look) -> tuple[Told, Told]:
        figures, intervals = self._sums[name].metrics(group, probable=self._probable)
        truth, scores = self._ranks(name, group)
        figures["auc"], intervals["auc"] = auc_with_interval(truth, scores, look)
        return _plain(figures), _intervals(intervals)

    def details(self) -> Told:
        sums, table = self._sums[None], self._sums[None].confusion
        errors = sums.metrics(probable=self._probable)[0]
        calibration = {name: errors[name] for name in ("ece", "mce", "brier")}
        known = self._probable and errors[PROBABLE[0]] is not None
        return {
            "labels": sums.by_label(self._target.labels),
            "confusion": None if table is None else table.tolist(),
            "calibration": calibration | {"bins": sums.calibration.bins(0)} if known else None,
        }

    def _keep(
        self, truth: Array, scores: Array, online: Array, groups: Mapping[str, Array]
    ) -> None:
        if self._ranked is None:
            return
        if scores.shape[1] == 2:
            raw = self._target.scores is ScoreKind.AUTO and self._target.width == 2
            ranked = scores[:, 1] - scores[:, 0] if raw else scores[:, 1]
        else:
            ranked = online
        self._kept += ranked.size
        if self._kept > MOST_SCORES:
            self._ranked, self._placed = None, {}
            return
        self._ranked.append((truth.astype(np.int32), ranked))
        for name, places in groups.items():
            self._placed[name].append(places.astype(np.int16))

    def _ranks(self, name: str | None, group: int) -> tuple[Array, Array]:
        """Truth and scores of a group; of no row where too many scores were to be kept."""
        if not self._ranked:
            return np.empty(0, np.int32), np.empty(0)
        if self._joined is None:
            truth = np.concatenate([one for one, _ in self._ranked])
            scores = np.concatenate([one for _, one in self._ranked])
            self._joined = truth, scores
            self._ranked = [self._joined]
            self._placed = {one: [np.concatenate(all_)] for one, all_ in self._placed.items()}
        truth, scores = self._joined
        if name is None:
            return truth, scores
        mine = self._placed[name][0] == group
        return truth[mine], scores[mine]


class _Numbers:
    """Sums by slice column (None: the whole)."""

    def __init__(self, target: Target, slices: Mapping[str, Values]) -> None:
        self._target = target
        self._sums: dict[str | None, NumberSums] = {None: NumberSums(target.width)}
        self._sums |= {name: NumberSums(target.width, one.groups) for name, one in slices.items()}

    def rows(self, name: str | None = None, group: int = 0) -> int:
        return self._sums[name].rows(group)

    def add(self, rows: Scored, good: Mask, truth: Array, groups: Mapping[str, Array]) -> None:
        said = rows.outputs[self._target.output].reshape(len(rows.positions), -1)[good]
        whole = np.zeros(len(truth), np.int64)
        for name, sums in self._sums.items():
            at = whole if name is None else groups[name]
            sums.add(at, truth, said.astype(np.float64))

    def figures(self, name: str | None, group: int, look: Look) -> tuple[Told, Told]:
        figures, intervals = self._sums[name].metrics(group)
        return _plain(figures), _intervals(intervals)

    def details(self) -> Told:
        return {"labels": [], "confusion": None, "calibration": None}


def _are_probabilities(scores: Array) -> bool:
    """Whether each row's are between 0 and 1 and come to 1."""
    sums = scores.sum(axis=1)
    return bool(scores.min() >= 0 and scores.max() <= 1 and np.abs(sums - 1).max() <= _SUM_IS_ONE)


def _plain(figures: Mapping[str, float | None]) -> Told:
    """What JSON can hold."""
    return {
        name: float(value) if value is not None and math.isfinite(value) else None
        for name, value in figures.items()
    }


def _intervals(found: Mapping[str, tuple[float, float] | None]) -> Told:
    return {
        name: [float(one[0]), float(one[1])]
        for name, one in found.items()
        if one is not None and math.isfinite(one[0]) and math.isfinite(one[1])
    }
