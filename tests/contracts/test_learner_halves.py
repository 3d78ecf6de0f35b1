"""A course on TensorFlow's learner goes on with half the batch where a step does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from storage.clock import SystemClock
from storage.records.training import Named
from tests.support.learning import columns, recipe, rows_of, spec_of
from tests.unit.training.noting_desk import NotingDesk
from workers.runtime.learning.opening import open_learning
from workers.training.course import Course
from workers.training.ports import Array, Batch, Learner, Order, OutOfMemory, Part, Prepared

ROWS = 50


class Made:
    """Rows in memory, all of them to train on."""

    def __init__(self) -> None:
        self.prepared: Prepared = replace(columns(), rows={Part.TRAIN: ROWS})
        self._all = rows_of(self.prepared, ROWS)

    def take(self, part: Part, order: Order) -> Batch:
        return Batch(
            {k: v[order] for k, v in self._all.inputs.items()}, self._all.target[order], None
        )

    def labels_of(self, part: Part) -> Array:
        return self._all.target

    def close(self) -> None:
        pass


def course(most_rows: int | None, **said: Any) -> tuple[Course, Learner, NotingDesk]:
    """Steps of more than ``most_rows`` rows are refused as TensorFlow refuses them."""
    rows, learning, desk = Made(), open_learning("cpu"), NotingDesk()
    network = recipe("dense", units=[8], dropout=0.2)
    spec = spec_of(network, optimizer=Named("adam"), epochs=2, **said)
    learner = learning.open_learner(spec, rows.prepared, None)
    if most_rows is not None:
        _bound(learner, most_rows, learning.framework.tf.errors)
    return Course(spec, rows, learner, desk, SystemClock()), learner, desk


def _bound(learner: Any, most_rows: int, errors: Any) -> None:
    steps = learner._steps
    whole = steps.whole

    def bounded(batch_size: int, weighted: bool) -> Any:
        def refused(*_: object) -> None:
            raise errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

        return refused if batch_size > most_rows else whole(batch_size, weighted)

    steps.whole = bounded


def test_a_batch_that_does_not_fit_is_halved_and_ends_as_if_it_had_been_smaller() -> None:
    halved, learner, desk = course(8, batch_size=32, halve_batch=True)
    assert halved.run().batch_size == 8
    assert [line for line in desk.lines if "from step 1 on they are of 8" in line]
    plain, other, _ = course(None, batch_size=8)
    plain.run()
    for name, weights in other.weights().items():
        np.testing.assert_array_equal(weights, learner.weights()[name], err_msg=name)


def test_without_leave_to_halve_it_says_so() -> None:
    with pytest.raises(OutOfMemory, match="batch_size to 16 or less, or halve_batch to true"):
        course(8, batch_size=32)[0].run()
