"""``Learner`` on Keras: a network and its optimiser, taken step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from workers.runtime.framework import Framework
from workers.runtime.learning import state
from workers.runtime.learning.blame import fit_for_its_rows
from workers.runtime.learning.measuring import Gauges
from workers.runtime.learning.memory import within_memory
from workers.runtime.learning.networks import served
from workers.runtime.learning.steps import Steps as Traced
from workers.training.ports import Array, Batch, Feature, Prepared, Steps

T = TypeVar("T")

_PASS_ROWS = 256  # in one pass that learns nothing
_OPTIMIZER, _METRICS, _MODEL = "optimizer", "metrics", "model"


class KerasLearner:
    """See the port. After ``OutOfMemory`` some of the call's steps may be done, one of them in
    part: restore a state before going on. Where TensorFlow has no answer to missing memory but to
    end the process (convolutions on a CPU), nothing can be raised."""

    def __init__(
        self,
        framework: Framework,
        model: Any,
        optimizer: Any,
        loss: Any,
        gauges: Callable[[], Gauges],
        features: Sequence[Feature],
        exact: bool,
    ) -> None:
        """``exact``: no bit of what it measures depends on how steps are put into calls."""
        self._framework, self._model, self._optimizer = framework, model, optimizer
        self._features = [feature.name for feature in features]
        self._learning, self._judging = gauges(), gauges()
        optimizer.build(model.trainable_variables)
        self._steps = Traced(framework, model, optimizer, loss, self._learning, exact)
        own = list(model.variables)
        weights = {id(variable) for variable in model.weights}
        by_name = state.named(_MODEL, own)
        self._weights = {name: one for name, one in by_name.items() if id(one) in weights}
        self._state = {
            **by_name,
            **state.named(_OPTIMIZER, optimizer.variables),
            **state.named(_METRICS, self._learning.variables),
        }

    @property
    def network(self) -> Any:
        """Keras's model, as it trains."""
        return self._model

    def run(self, batch: Batch, batch_size: int) -> Steps:
        """As the port says."""
        rows = len(batch.target)
        whole = rows - rows % batch_size
        weighted = batch.weights is not None
        done: list[tuple[Any, Any]] = []

        def step() -> None:
            if whole:
                done.append(
                    self._steps.whole(batch_size, weighted)(*self._tensors(batch, 0, whole))
                )
            if whole < rows:
                done.append(self._steps.single(weighted)(*self._tensors(batch, whole, rows)))

        if not rows:
            return Steps(np.zeros(0, np.float32), {})
        self._within_memory(step, min(batch_size, rows))
        losses = [loss.numpy() for loss, _ in done]
        return Steps(
            losses[0] if len(losses) == 1 else np.concatenate(losses), _numbers(done[-1][1])
        )

    def predict(self, inputs: Mapping[str, Array]) -> Array:
        """As the port says."""
        rows = len(inputs[self._features[0]])
        call = self._steps.outputs()

        def passes() -> list[Array]:
            found: list[Array] = []
            for start, stop in _pieces(rows):
                found.append(call(self._inputs(inputs, start, stop)).numpy())
            return found

        found = self._within_memory(passes, min(rows, _PASS_ROWS))
        if not found:
            return np.zeros((0, *self._model.output_shape[1:]), np.float32)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def loss_and_metrics(self, batches: Iterable[Batch]) -> dict[str, float]:
        """As the port says; the loss is the mean over rows, each batch's weights as given."""
        gauges, total, rows = self._judging, 0.0, 0
        gauges.reset()
        results: Mapping[str, Any] = {}
        for batch in batches:
            call = self._steps.judged(gauges, batch.weights is not None)
            for start, stop in _pieces(len(batch.target)):

                def one(batch: Batch = batch, start: int = start, stop: int = stop) -> Any:
                    loss, found = call(*self._tensors(batch, start, stop))  # noqa: B023
                    return float(loss), found

                loss, results = self._within_memory(one, stop - start)
                total += loss * (stop - start)
                rows += stop - start
        return {"loss": total / rows if rows else 0.0, **_numbers(results)}

    def begin_epoch(self) -> None:
        """As the port says."""
        self._learning.reset()

    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self._optimizer.learning_rate)

    def state(self) -> dict[str, Array]:
        """As the port says."""
        return state.taken(self._state)

    def restore(self, found: Mapping[str, Array]) -> None:
        """As the port says."""
        state.put(self._state, found, "the checkpoint")

    def weights(self) -> dict[str, Array]:
        """As the port says."""
        return state.taken(self._weights)

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """As the port says."""
        state.put(self._weights, weights, "the best epoch")

    def export(self, path: Path, prepared: Prepared) -> None:
        """As the port says; ``path`` may end as it likes."""
        model = served(self._framework, self._model, prepared)
        named = path if path.suffix == ".keras" else path.with_name(path.name + ".keras")
        model.save(named)
        if named != path:
            named.replace(path)

    def _tensors(self, batch: Batch, start: int, stop: int) -> tuple[list[Any], Any, Any]:
        constant = self._framework.tf.constant
        weights = batch.weights
        return (
            self._inputs(batch.inputs, start, stop),
            constant(batch.target[start:stop]),
            constant(0.0 if weights is None else weights[start:stop]),
        )

    def _inputs(self, inputs: Mapping[str, Array], start: int, stop: int) -> list[Any]:
        constant = self._framework.tf.constant
        return [constant(inputs[name][start:stop]) for name in self._features]

    def _within_memory(self, call: Callable[[], T], rows: int) -> T:
        too_much = f"the device has not enough memory for a batch of {rows} rows"
        with within_memory(self._framework, too_much), fit_for_its_rows(self._framework):
            return call()


def _pieces(rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, rows, _PASS_ROWS):
        yield start, min(rows, start + _PASS_ROWS)


def _numbers(results: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in results.items()}
