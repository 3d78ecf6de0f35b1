"""The steps of a training as traced functions: as many as a batch holds in one call.

A call goes through a loop inside TensorFlow, so that Python has its part once a call and not once
a step. Slices have a fixed size; the shorter one at an epoch's end is a function of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from storage.records.errors import InvalidInput
from workers.runtime.framework import Framework
from workers.runtime.learning.blame import laid_to
from workers.runtime.learning.measuring import Gauges
from workers.runtime.learning.refusals import bad_loss, bad_network, bad_optimizer

Tensors = Sequence[Any]


class Steps:
    """The functions for one network. Each takes inputs in their order, target and weights; with
    ``weighted`` false the weights are not looked at."""

    def __init__(
        self,
        framework: Framework,
        model: Any,
        optimizer: Any,
        loss: Any,
        gauges: Gauges,
        exact: bool,
    ) -> None:
        """``exact``: no bit of a metric depends on how many steps a call has."""
        self._framework, self._model = framework, model
        self._optimizer, self._loss, self._gauges = optimizer, loss, gauges
        self._measures_each = exact and gauges.add_fractions
        self._measures_all = gauges.any and not self._measures_each
        self._variables = list(model.trainable_variables)
        self._known: dict[tuple[str, int, bool], Any] = {}

    def whole(self, batch_size: int, weighted: bool) -> Any:
        """Steps of ``batch_size`` rows each, over all rows given: their losses, the metrics."""
        tf = self._framework.tf

        def whole(inputs: Tensors, target: Any, weights: Any) -> Any:
            count = tf.shape(target)[0] // batch_size
            losses = tf.TensorArray(tf.float32, size=count)
            outputs = tf.TensorArray(tf.float32, size=count if self._measures_all else 0)

            def rows(tensor: Any, step: Any) -> Any:
                rest = tensor.shape[1:].as_list()
                begin = tf.stack([step * batch_size, *[0] * len(rest)])
                return tf.slice(tensor, begin, [batch_size, *rest])

            def body(step: Any, losses: Any, outputs: Any) -> Any:
                truth = rows(target, step)
                loss, output = self._step(
                    [rows(one, step) for one in inputs],
                    truth,
                    rows(weights, step) if weighted else None,
                )
                if self._measures_all:
                    outputs = outputs.write(step, output)
                elif self._measures_each:
                    self._gauges.update(truth, output)
                return step + 1, losses.write(step, loss), outputs

            _, losses, outputs = tf.while_loop(
                lambda step, *_: step < count,
                body,
                (0, losses, outputs),
            )
            if self._measures_all:
                self._gauges.update(target, outputs.concat())
            return losses.stack(), self._gauges.results()

        return self._traced("whole", batch_size, weighted, whole)

    def single(self, weighted: bool) -> Any:
        """One step over all rows given, however many."""

        def single(inputs: Tensors, target: Any, weights: Any) -> Any:
            loss, output = self._step(inputs, target, weights if weighted else None)
            if self._gauges.any:
                self._gauges.update(target, output)
            return loss[None], self._gauges.results()

        return self._traced("single", 0, weighted, single)

    def judged(self, gauges: Gauges, weighted: bool) -> Any:
        """The loss of some rows, and the metrics over all so far; nothing is learned."""
        tf = self._framework.tf

        def judged(inputs: Tensors, target: Any, weights: Any) -> Any:
            output = self._model(self._given(inputs), training=False)
            loss = self._loss_of(target, output, weights if weighted else None)
            if gauges.any:
                gauges.update(target, tf.cast(output, tf.float32))
            return loss, gauges.results()

        return self._traced("judged", 0, weighted, judged)

    def outputs(self) -> Any:
        """The network's output; nothing is learned."""
        tf = self._framework.tf

        def outputs(inputs: Tensors) -> Any:
            return tf.cast(self._model(self._given(inputs), training=False), tf.float32)

        return self._traced("outputs", 0, False, outputs)

    def _step(self, inputs: Tensors, target: Any, weights: Any) -> tuple[Any, Any]:
        tf, optimizer = self._framework.tf, self._optimizer
        with self._laid_to(bad_network, "the network cannot be trained"):
            with tf.GradientTape() as tape:
                output = self._model(self._given(inputs), training=True)
                loss = self._loss_of(target, output, weights)
                scaled = optimizer.scale_loss(loss) if optimizer.loss_scale_factor else loss
            gradients = tape.gradient(scaled, self._variables)
        with self._laid_to(bad_optimizer, "the optimizer cannot take a step"):
            optimizer.apply(gradients, self._variables)
        return loss, tf.cast(output, tf.float32)

    def _loss_of(self, target: Any, output: Any, weights: Any) -> Any:
        tf = self._framework.tf
        with self._laid_to(bad_loss, "the loss does not fit what the network gives"):
            loss = tf.cast(self._loss(target, output, sample_weight=weights), tf.float32)
        penalties = [tf.cast(one, tf.float32) for one in self._model.losses]
        return tf.add_n([loss, *penalties]) if penalties else loss

    def _laid_to(self, refusal: Callable[[str], InvalidInput], says: str) -> Any:
        return laid_to(self._framework, refusal, says)

    def _given(self, inputs: Tensors) -> Any:
        """The rows in the type that the network takes: a version's may be another one."""
        tf = self._framework.tf
        asked = self._model.inputs
        cast = [
            one if str(one.dtype.name) == str(want.dtype) else tf.cast(one, want.dtype)
            for one, want in zip(inputs, asked, strict=True)
        ]
        single = self._framework.keras.tree.is_nested(self._model.input)
        if not single or isinstance(self._model, self._framework.keras.Sequential):
            return cast[0]
        named = dict(zip((one.name for one in asked), cast, strict=True))
        return self._framework.keras.tree.map_structure(
            lambda tensor: named[tensor.name], self._model.input
        )

    def _traced(self, name: str, size: int, weighted: bool, function: Any) -> Any:
        """The function, traced at its first call for any number of rows: never again."""
        key = (name, size, weighted)

        def call(*given: Any) -> Any:
            if key not in self._known:
                tf, tree = self._framework.tf, self._framework.keras.tree
                signature = tree.map_structure(
                    lambda one: tf.TensorSpec(
                        (None, *one.shape[1:]) if one.shape.rank else (), one.dtype
                    ),
                    list(given),
                )
                self._known[key] = tf.function(function, autograph=False, input_signature=signature)
            return self._known[key](*given)

        return call
