"""Metrics over many steps: a few sums, brought up to date once for all rows of a call.

A step does not compute its metrics, it only keeps its outputs: ten small operations less in each.
Sums are float64, so that no count is rounded. Sums of fractions are: their last bits depend on how
rows come together, so a training that is to be exact brings those up to date in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workers.runtime.framework import Framework
from workers.runtime.learning.heads import Head
from workers.runtime.learning.meters import Meter, auc_of, meter_of, own_name
from workers.runtime.learning.refusals import bad_metric
from workers.training.ports import Prepared, Target

_BY_CLASS = ("precision", "recall", "f1", "auc")
_ERRORS = ("mean_absolute_error", "mean_squared_error", "r2")


@dataclass(frozen=True, slots=True)
class Measured:
    """What the metrics have to know of a network's output."""

    target: Target
    labels: int
    head: Head

    @property
    def single(self) -> bool:
        """One output for two labels."""
        return self.target is not Target.NUMBER and self.head.units == 1

    @property
    def threshold(self) -> float:
        """Of a single output: above it is the second label."""
        return 0.5 if self.head.activation == "sigmoid" else 0.0


def measured_of(prepared: Prepared, head: Head) -> Measured:
    """For this data."""
    return Measured(prepared.target, len(prepared.labels), head)


class Gauges:
    """The metrics of a spec. ``update`` and ``results`` are called inside a traced function."""

    def __init__(self, framework: Framework, names: Sequence[str], measured: Measured) -> None:
        """``bad_metric`` for a name that Keras has not, or one that this output has no use for."""
        self._framework, self._measured = framework, measured
        self._meters: dict[str, Meter] = {}
        self._sums: dict[str, Any] = {}
        self._told = {name: own_name(name, measured) for name in names}
        numbers = measured.target is Target.NUMBER
        for name in self._told.values():
            if name in _ERRORS and numbers:
                self._need("rows", "absolute", "squared", "truth", "truth_squared")
            elif name == "accuracy" and not numbers:
                self._need("rows", "hits")
            elif name in _BY_CLASS and not numbers:
                if name == "auc":
                    self._meters[name] = auc_of(framework, measured)
                else:
                    self._need("true", "said", "both", width=measured.labels)
            elif name in ("accuracy", *_BY_CLASS):
                raise bad_metric(f"{name} is of labels, and the loss is of numbers")
            else:
                self._meters[name] = meter_of(framework, name, measured)

    @property
    def any(self) -> bool:
        """Whether there is something to measure."""
        return bool(self._told)

    @property
    def add_fractions(self) -> bool:
        """Whether anything is added up but counts (which those of ``auc`` are, too)."""
        numbers = bool(self._sums) and self._measured.target is Target.NUMBER
        return numbers or bool(self._meters.keys() - {"auc"})

    @property
    def variables(self) -> list[Any]:
        """What has been counted, in a stable order."""
        own = [self._sums[key] for key in sorted(self._sums)]
        return own + [v for key in sorted(self._meters) for v in self._meters[key].variables]

    def reset(self) -> None:
        """Count anew."""
        for variable in self._sums.values():
            variable.assign(variable * 0)
        for meter in self._meters.values():
            meter.reset_state()

    def update(self, target: Any, output: Any) -> None:
        """Some rows more."""
        tf, sums = self._framework.tf, self._sums
        if self._measured.target is Target.NUMBER:
            truth = tf.cast(tf.reshape(target, (-1,)), tf.float64)
            gap = tf.cast(tf.reshape(output, (-1,)), tf.float64) - truth
            self._add("rows", lambda: tf.cast(tf.size(truth), tf.float64))
            self._add("absolute", lambda: tf.reduce_sum(tf.abs(gap)))
            self._add("squared", lambda: tf.reduce_sum(gap * gap))
            self._add("truth", lambda: tf.reduce_sum(truth))
            self._add("truth_squared", lambda: tf.reduce_sum(truth * truth))
        elif sums:
            true, said = self._indices(target, output)
            hit = tf.cast(tf.equal(true, said), tf.float64)
            ones, width = tf.ones_like(hit), self._measured.labels
            self._add("rows", lambda: tf.reduce_sum(ones))
            self._add("hits", lambda: tf.reduce_sum(hit))
            self._add("true", lambda: tf.math.unsorted_segment_sum(ones, true, width))
            self._add("said", lambda: tf.math.unsorted_segment_sum(ones, said, width))
            self._add("both", lambda: tf.math.unsorted_segment_sum(hit, true, width))
        for meter in self._meters.values():
            meter.update_state(target, output)

    def results(self) -> dict[str, Any]:
        """Each metric so far, as a tensor; 0 where there is nothing to divide by."""
        tf = self._framework.tf
        return {
            name: tf.cast(
                self._meters[own].result() if own in self._meters else self._ratio(own), tf.float64
            )
            for name, own in self._told.items()
        }

    def _ratio(self, name: str) -> Any:
        tf, sums = self._framework.tf, self._sums
        over = tf.math.divide_no_nan
        if name == "accuracy":
            return over(sums["hits"], sums["rows"] + 0.0)
        if name == "mean_absolute_error":
            return over(sums["absolute"], sums["rows"] + 0.0)
        if name == "mean_squared_error":
            return over(sums["squared"], sums["rows"] + 0.0)
        if name == "r2":
            spread = sums["truth_squared"] - over(sums["truth"] ** 2, sums["rows"] + 0.0)
            return tf.where(spread > 0, 1 - over(sums["squared"] + 0.0, spread), 0.0)
        true, said, both = (tf.identity(sums[key]) for key in ("true", "said", "both"))
        each = {
            "precision": over(both, said),
            "recall": over(both, true),
            "f1": over(2 * both, true + said),
        }[name]
        if self._measured.single:
            return each[1]
        seen = tf.cast(true + said > 0, tf.float64)  # a label that nobody met counts for nothing
        return over(tf.reduce_sum(each * seen), tf.reduce_sum(seen))

    def _indices(self, target: Any, output: Any) -> tuple[Any, Any]:
        """The label that is true and the one that was said, int64."""
        tf, measured = self._framework.tf, self._measured
        if measured.single:
            middle = 0.0 if measured.target is Target.SIGNED else 0.5
            true, said = target[:, 0] > middle, output[:, 0] > measured.threshold
            return tf.cast(true, tf.int64), tf.cast(said, tf.int64)
        true = target if measured.target is Target.INDEX else tf.argmax(target, -1)
        return tf.cast(true, tf.int64), tf.argmax(output, -1)

    def _need(self, *names: str, width: int | None = None) -> None:
        tf = self._framework.tf
        for name in names:
            if name not in self._sums:
                zero = tf.zeros(() if width is None else (width,), tf.float64)
                self._sums[name] = tf.Variable(zero, trainable=False, name=name)

    def _add(self, name: str, more: Any) -> None:
        if name in self._sums:
            self._sums[name].assign_add(more())
