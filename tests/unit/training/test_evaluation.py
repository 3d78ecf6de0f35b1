"""An evaluation says what the rows say, of every kind of target."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from storage.records.training import Named
from tests.support.numpy_learner import ArrayRows, NumpyLearner, rows_of_numbers, spec_of_numbers
from workers.training.evaluation import evaluate, of_classes, said_of, threshold_of
from workers.training.held_out import HeldOut
from workers.training.ports import Array, OutOfMemory, Part, Prepared, Target


class Saying(NumpyLearner):
    """Says what its input is."""

    most: int = 10**9

    def predict(self, inputs: Mapping[str, Array]) -> Array:
        if len(inputs["columns"]) > self.most:
            raise OutOfMemory("too many")
        return inputs["columns"]

    def loss_and_metrics(self, batches: Any) -> dict[str, float]:
        assert sum(len(one.target) for one in batches)
        return {"loss": 0.5, "accuracy": float("nan")}


def judged(
    outputs: Any, truth: Any, target: Target, labels: tuple[str, ...], loss: Named, most: int = 99
) -> dict[str, Any]:
    outputs = np.asarray(outputs, np.float32)
    rows = ArrayRows({part: (outputs, np.asarray(truth)) for part in Part})
    prepared = Prepared(rows.prepared.features, target, labels, rows.prepared.rows)
    rows._prepared = prepared
    learner = Saying()
    learner.most = most
    held = HeldOut(rows, Part.TEST, lambda: None)
    return evaluate(spec_of_numbers(loss=loss), held, np.asarray(truth), learner, 8)


def test_of_several_labels() -> None:
    outputs = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]
    loss = Named("sparse_categorical_crossentropy")
    found = judged(outputs, [0, 1, 2, 2], Target.INDEX, ("a", "b", "c"), loss)
    assert found["confusion"] == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert found["accuracy"] == 0.75 and found["on"] == "test" and found["rows"] == 4
    assert found["labels"][2] == {
        "label": "c",
        "support": 2,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    assert found["auc"] == pytest.approx(np.mean([1.0, 1.0, 1.0]))
    assert found["metrics"] == {"loss": 0.5, "accuracy": None}
    assert "positive" not in found


def test_logits_of_several_labels_are_ranked_by_their_softmax() -> None:
    """The second row's logits are all high, which says nothing for any of its labels."""
    logits = [[2.0, 0.0, 0.0], [5.0, 9.0, 5.0], [0.0, 1.0, 4.0]]
    loss = Named("sparse_categorical_crossentropy", {"from_logits": True})
    found = judged(logits, [0, 1, 2], Target.INDEX, ("a", "b", "c"), loss)
    assert found["auc"] == 1.0
    plain = Named("sparse_categorical_crossentropy")
    assert judged(logits, [0, 1, 2], Target.INDEX, ("a", "b", "c"), plain)["auc"] < 1.0


@pytest.mark.parametrize("most", [99, 1])
def test_of_two_labels_the_second_is_the_positive_one(most: int) -> None:
    outputs = [[0.2], [0.6], [0.4], [0.9]]
    loss = Named("binary_crossentropy")
    found = judged(outputs, [0, 0, 1, 1], Target.BINARY, ("no", "yes"), loss, most)
    assert found["confusion"] == [[1, 1], [1, 1]] and found["auc"] == 0.75
    assert found["positive"] == {"label": "yes", "precision": 0.5, "recall": 0.5, "f1": 0.5}


def test_where_a_single_output_is_cut() -> None:
    def cut(target: Target, loss: Named, labels: tuple[str, ...] = ("a", "b")) -> float | None:
        prepared = Prepared((), target, labels, {})
        return threshold_of(spec_of_numbers(loss=loss), prepared)

    assert cut(Target.BINARY, Named("binary_crossentropy")) == 0.5
    assert cut(Target.BINARY, Named("binary_crossentropy", {"from_logits": True})) == 0.0
    assert cut(Target.SIGNED, Named("hinge")) == 0.0
    assert cut(Target.SIGNED, Named("hinge"), ("a", "b", "c")) is None
    assert cut(Target.ONE_HOT, Named("categorical_crossentropy")) is None
    assert said_of(np.array([[-0.1], [0.2]]), 0.0).tolist() == [0, 1]


def test_more_labels_than_anybody_reads_have_no_matrix() -> None:
    labels = tuple(f"l{i}" for i in range(201))
    prepared = Prepared((), Target.INDEX, labels, {})
    truth = np.arange(201)
    found = of_classes(prepared, truth, truth, None)
    assert found["confusion"] is None and found["accuracy"] == 1.0 and found["auc"] is None


def test_the_memory_of_an_evaluation_grows_with_the_labels_not_with_their_square() -> None:
    count = 3_000
    prepared = Prepared((), Target.INDEX, tuple(f"l{i}" for i in range(count)), {})
    truth = np.arange(count)
    tracemalloc.start()
    try:
        found = of_classes(prepared, truth, np.roll(truth, 1), None)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found["accuracy"] == 0.0
    assert peak_bytes < count * count


def test_of_numbers() -> None:
    rows, learner = rows_of_numbers(test=40), NumpyLearner()
    held = HeldOut(rows, Part.TEST, lambda: None)
    truth = rows.labels_of(Part.TEST)
    found = evaluate(spec_of_numbers(), held, truth, learner, 8)
    assert found["task"] == "numbers"
    assert found["mse"] == pytest.approx(float(np.mean(truth.astype(float) ** 2)))
    assert found["r2"] == pytest.approx(1 - found["mse"] / float(np.var(truth.astype(float))))
    assert found["metrics"]["loss"] == pytest.approx(found["mse"], rel=1e-6)
