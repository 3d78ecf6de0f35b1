"""Metrics that cut an output, or take it for a probability, know what the loss makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from storage.records.errors import InvalidInput
from storage.records.training import Named
from tests.support.learning import columns, rows_of, spec_of
from workers.runtime.learning.opening import open_learning
from workers.training.ports import Array, Learner, Prepared, Target

pytestmark = [pytest.mark.tensorflow]

TWO = ("a", "b")
COUNTS = ("true_positives", "true_negatives", "false_positives", "false_negatives")
LOGITS = {"from_logits": True}


def opened(prepared: Prepared, loss: str | Named, metrics: tuple[str, ...]) -> Learner:
    said = {"metrics": metrics, "optimizer": Named("sgd", {"learning_rate": 0.05})}
    return open_learning("cpu").open_learner(spec_of("linear", loss, **said), prepared, None)


def measured(
    prepared: Prepared, loss: str | Named, metrics: tuple[str, ...]
) -> tuple[Array, Array, dict[str, float]]:
    """What it gives for some rows after a few steps, which labels are true (0 or 1 for each
    output), and what is measured."""
    learner, rows = opened(prepared, loss, metrics), rows_of(prepared, 80)
    learner.run(rows, 16)
    output, target = learner.predict(rows.inputs), rows.target
    if prepared.target is Target.INDEX:
        target = np.eye(len(prepared.labels))[target]
    return output, target > 0, learner.loss_and_metrics([rows])


def counted(said: Array, true: Array) -> dict[str, float]:
    return {
        "true_positives": np.sum(said & true),
        "true_negatives": np.sum(~said & ~true),
        "false_positives": np.sum(said & ~true),
        "false_negatives": np.sum(~said & true),
    }


@pytest.mark.parametrize(
    ("target", "loss", "cut"),
    [
        (Target.SIGNED, "hinge", 0.0),
        (Target.SIGNED, "squared_hinge", 0.0),
        (Target.BINARY, Named("binary_crossentropy", LOGITS), 0.0),
        (Target.BINARY, "binary_crossentropy", 0.5),
    ],
    ids=["hinge", "squared hinge", "logits", "probabilities"],
)
def test_two_labels_are_told_apart_where_the_loss_does(
    target: Target, loss: str | Named, cut: float
) -> None:
    metrics = ("accuracy", "binary_accuracy", "categorical_accuracy", *COUNTS)
    output, true, found = measured(columns(target, labels=TWO), loss, metrics)
    said = output > cut
    assert 0 < np.mean(said) < 1
    for name in metrics[:3]:
        assert found[name] == pytest.approx(np.mean(said == true)), name
    for name, count in counted(said, true).items():
        assert found[name] == count, name


@pytest.mark.parametrize(
    ("target", "loss"),
    [
        (Target.SIGNED, "hinge"),
        (Target.INDEX, "sparse_categorical_crossentropy"),
        (Target.INDEX, Named("sparse_categorical_crossentropy", LOGITS)),
        (Target.ONE_HOT, Named("categorical_crossentropy", LOGITS)),
    ],
    ids=["hinge", "probabilities", "logits", "one-hot logits"],
)
def test_of_several_labels_each_is_cut_as_its_output_is_meant(
    target: Target, loss: str | Named
) -> None:
    metrics = ("sparse_categorical_accuracy", "binary_accuracy", *COUNTS, "auc")
    output, true, found = measured(columns(target), loss, metrics)
    best = np.argmax(output, -1) == np.argmax(true, -1)
    assert found["sparse_categorical_accuracy"] == pytest.approx(np.mean(best))
    if isinstance(loss, Named):
        output = np.exp(output) / np.exp(output).sum(-1, keepdims=True)
    said = output > (0.0 if target is Target.SIGNED else 0.5)
    assert 0 < np.mean(said) < 1
    assert found["binary_accuracy"] == pytest.approx(np.mean(said == true))
    for name, count in counted(said, true).items():
        assert found[name] == count, name
    metric = open_learning("cpu").framework.keras.metrics.AUC(multi_label=True, num_labels=3)
    shares = 1 / (1 + np.exp(-output)) if target is Target.SIGNED else output
    metric.update_state(true, shares)
    assert found["auc"] == pytest.approx(float(metric.result()), abs=1e-3)


@pytest.mark.parametrize(
    ("target", "labels", "loss", "names"),
    [
        (Target.BINARY, TWO, "binary_crossentropy", ("binary_crossentropy",)),
        (
            Target.ONE_HOT,
            ("a", "b", "c"),
            "categorical_crossentropy",
            ("categorical_crossentropy", "sparse_categorical_crossentropy"),
        ),
    ],
)
@pytest.mark.parametrize("arguments", [{}, LOGITS], ids=["probabilities", "logits"])
def test_a_crossentropy_is_that_of_the_loss(
    target: Target, labels: tuple[str, ...], loss: str, names: tuple[str, ...], arguments: Any
) -> None:
    found = measured(columns(target, labels=labels), Named(loss, arguments), names)[2]
    for name in names:
        assert found[name] == pytest.approx(found["loss"], rel=1e-4)


def test_the_crossentropy_of_each_label_is_that_of_its_share() -> None:
    loss = Named("categorical_crossentropy", LOGITS)
    output, true, found = measured(columns(Target.ONE_HOT), loss, ("binary_crossentropy",))
    shares = np.exp(output) / np.exp(output).sum(-1, keepdims=True)
    each = -np.log(np.where(true, shares, 1 - shares))
    assert found["binary_crossentropy"] == pytest.approx(each.mean(), rel=1e-4)


def test_the_hinge_between_labels_takes_them_as_one_of_all() -> None:
    output, true, found = measured(columns(Target.SIGNED), "hinge", ("categorical_hinge",))
    other = np.max(np.where(true, 0, output), -1)
    hinge = np.maximum(0, 1 + other - np.sum(output * true, -1))
    assert found["categorical_hinge"] == pytest.approx(hinge.mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("target", "loss", "metric", "says"),
    [
        (Target.SIGNED, "hinge", "binary_crossentropy", "of probabilities"),
        (Target.SIGNED, "hinge", "sparse_top_k_categorical_accuracy", "for each label"),
        (Target.BINARY, "binary_crossentropy", "top_k_categorical_accuracy", "for each label"),
        (Target.BINARY, "binary_crossentropy", "categorical_crossentropy", "for each label"),
        (Target.BINARY, "binary_crossentropy", "sparse_categorical_crossentropy", "for each label"),
    ],
)
def test_what_means_nothing_for_the_output_is_refused(
    target: Target, loss: str, metric: str, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        opened(columns(target, labels=TWO), loss, (metric,))
    assert (caught.value.stable_code, caught.value.field) == ("bad_metric", "spec.metrics")
