"""Keras's own metrics for what a network gives: truth and output as each of them takes it.

Left to itself a metric takes every output for a probability and cuts it at one half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.records.training import Named
from workers.runtime.framework import Framework
from workers.runtime.learning.names import class_of, known, made, plain
from workers.runtime.learning.refusals import METRICS, bad_metric, first_line, unknown
from workers.training.ports import Target

if TYPE_CHECKING:
    from workers.runtime.learning.measuring import Measured

OWN = ("accuracy", "precision", "recall", "f1", "auc", "mae", "mse", "r2")  # in sums

_METRICS, _BAD = "keras.metrics", ("bad_metric", METRICS)
_SHORT = {
    "mae": "mean_absolute_error",
    "mse": "mean_squared_error",
    "f1score": "f1",
    "r2score": "r2",
}
_HITS = {"categoricalaccuracy", "sparsecategoricalaccuracy"}
_COUNTS = {"truepositives", "truenegatives", "falsepositives", "falsenegatives"}
_CUTTING = {*_COUNTS, "binaryaccuracy"}
_OF_EACH = {"categoricalcrossentropy", "sparsecategoricalcrossentropy"}
_OF_SHARES = {*_OF_EACH, "binarycrossentropy"}
_OF_EACH_SHARE = {*_CUTTING, "binarycrossentropy", "auc"}  # by itself, of several
_TOP = {"topkcategoricalaccuracy", "sparsetopkcategoricalaccuracy"}
_OF_ZERO_OR_ONE = {*_CUTTING, "auc", "categoricalhinge"}


def own_name(name: str, measured: Measured) -> str:
    """The name of ours for the same thing, or the name itself."""
    word = plain(name)
    if measured.target is not Target.NUMBER and (
        word in _HITS or (word == "binaryaccuracy" and measured.single)
    ):
        return "accuracy"
    return _SHORT.get(word, name)


@dataclass(frozen=True, slots=True)
class Meter:
    """One of Keras's metrics. ``update_state`` and ``result`` are called inside a traced
    function."""

    framework: Framework
    metric: Any
    word: str  # its plain name
    measured: Measured

    @property
    def variables(self) -> list[Any]:
        """What has been counted."""
        return list(self.metric.variables)

    def update_state(self, target: Any, output: Any) -> None:
        """Some rows more, as the loss has them."""
        self.metric.update_state(self._truth(target), self._output(output))

    def result(self) -> Any:
        """So far."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Count anew."""
        self.metric.reset_state()

    def _truth(self, target: Any) -> Any:
        tf, measured = self.framework.tf, self.measured
        if measured.target is Target.INDEX:
            sparse = self.word.startswith("sparse")
            return target if sparse else tf.one_hot(target, measured.labels)
        if measured.target is Target.NUMBER or measured.single:
            signed = measured.target is Target.SIGNED and self.word in _OF_ZERO_OR_ONE
            return tf.cast(target > 0, tf.float32) if signed else target
        if self.word.startswith("sparse"):
            return tf.argmax(target, -1)
        return tf.cast(target > 0, tf.float32) if self.word in _OF_ZERO_OR_ONE else target

    def _output(self, output: Any) -> Any:
        shares = _has_many_logits(self.measured) and self.word in _OF_EACH_SHARE
        return self.framework.tf.nn.softmax(output) if shares else output


def auc_of(framework: Framework, measured: Measured) -> Meter:
    """The area under the curve: of one output, or the mean over labels."""
    linear = measured.head.activation == "linear" and not _has_many_logits(measured)
    told: dict[str, Any] = {"from_logits": linear, "name": "auc"}
    if not measured.single:
        told |= {"multi_label": True, "num_labels": measured.labels}
    return Meter(framework, framework.keras.metrics.AUC(**told), "auc", measured)


def meter_of(framework: Framework, name: str, measured: Measured) -> Meter:
    """Any other one of Keras's, tried on two made-up rows; ``bad_metric``."""
    tf, word = framework.tf, plain(name)
    if class_of(framework.keras.metrics, _METRICS, name) is None:
        raise bad_metric(unknown("metric", name, {*OWN, *known(_METRICS)}))
    if word in _OF_SHARES and measured.target is Target.SIGNED:
        raise bad_metric(f"{name} is of probabilities, and this loss gives none: take hinge")
    if word in _OF_EACH | _TOP and measured.single:
        takes = f"{name} takes an output for each label, and there is one for both"
        raise bad_metric(f"{takes}: take accuracy or binary_crossentropy")
    named = Named(name, _arguments(word, measured))
    meter = Meter(
        framework, made(framework.keras.metrics, _METRICS, named, "metric", _BAD), word, measured
    )
    shape = {Target.INDEX: (2,), Target.ONE_HOT: (2, measured.labels)}.get(
        measured.target, (2, measured.head.units)
    )
    dtype = tf.int64 if measured.target is Target.INDEX else tf.float32
    try:
        meter.update_state(tf.zeros(shape, dtype), tf.fill((2, measured.head.units), 0.5))
        float(meter.result())
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise bad_metric(f"{name} does not fit this output: {first_line(error)}") from error
    meter.reset_state()
    return meter


def _arguments(word: str, measured: Measured) -> dict[str, Any]:
    """Where it cuts, or that it is given logits."""
    cut = 0.0 if measured.target is Target.SIGNED else 0.5
    if measured.single:
        cut = measured.threshold
    if word in _COUNTS:
        return {"thresholds": cut}
    if word == "binaryaccuracy":
        return {"threshold": cut}
    as_logits = {"binarycrossentropy"} if measured.single else _OF_EACH
    return {"from_logits": True} if _has_logits(measured) and word in as_logits else {}


def _has_logits(measured: Measured) -> bool:
    """Whether what it gives becomes probabilities only in the loss."""
    linear = measured.head.activation == "linear"
    return linear and measured.target not in (Target.NUMBER, Target.SIGNED)


def _has_many_logits(measured: Measured) -> bool:
    return _has_logits(measured) and not measured.single
