"""The runtime on TensorFlow: loads a version, completes its signature, warms it, computes.

Batches come in a few fixed sizes (powers of two), each tried once at load as far as the budget
goes: a first call costs more than all later ones. XLA stays off: on CPU it was slower, and on a
GPU it would compile for every size.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from storage.clock import Clock, SystemClock
from storage.records.errors import InvalidInput
from storage.records.models import ModelVersion
from storage.records.push_options import ScoreKind
from storage.records.signatures import (
    InputSpec,
    Signature,
    build_signature,
    label_output_of,
)
from workers.inference.ports import Array, ModelBroken, Plan
from workers.runtime.framework import Framework, is_models_fault, start
from workers.runtime.graphs import Graph, open_graph
from workers.runtime.probes import (
    check_batch_axis,
    check_rows_apart,
    made_up,
    seed_of,
    with_lengths,
)

log = logging.getLogger(__name__)

_PROBABLE = frozenset({"softmax", "sigmoid", "hard_sigmoid", "sparsemax", "sparse_sigmoid"})


def powers_of_two(max_batch: int) -> tuple[int, ...]:
    """1, 2, 4 … up to ``max_batch``, which is rounded down to one of them."""
    return tuple(1 << power for power in range(max(1, max_batch).bit_length()))


class LoadedKerasModel:
    """One version on the device."""

    def __init__(
        self,
        version_id: str,
        signature: Signature,
        batch_sizes: tuple[int, ...],
        graph: Graph,
        framework: Framework,
    ) -> None:
        self.version_id = version_id
        self.signature = signature
        self.batch_sizes = batch_sizes
        self._graph: Graph | None = graph
        self._framework = framework
        self.refusals: type[Exception] = framework.tf.errors.InvalidArgumentError

    @property
    def plan(self) -> Plan:
        """Allowed sizes and what was measured."""
        return Plan(self.batch_sizes, self.signature.serving)

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute one batch. Rows go in and come out in the same order."""
        if self._graph is None:
            raise RuntimeError(f"version {self.version_id} was closed")
        return _run(self._framework, self._graph, self.signature.inputs, inputs)

    def close(self) -> None:
        """Let go of the weights; Keras models are cycles, which only a collection frees."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
            gc.collect()


class KerasRuntime:
    """One device of this process. ``device`` is ``cpu`` or ``gpu:N``, as sessions show it."""

    def __init__(
        self,
        device: str = "cpu",
        *,
        max_batch: int = 128,
        threads: int | None = None,
        warm_budget_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self.device = device
        self._batch_sizes = powers_of_two(max_batch)
        self._threads = threads
        self._warm_budget_s = warm_budget_s
        self._clock = clock or SystemClock()

    @property
    def device_kind(self) -> str:
        """What it is."""
        return self.device

    def memory_budget_bytes(self) -> int:
        """How much of its memory models may hold together."""
        return 4 << 30

    def start(self) -> None:
        """Import TensorFlow now, so that the first load does not wait for it."""
        start(self.device, self._threads)

    def load(self, version: ModelVersion, artifact: Path) -> LoadedKerasModel:
        """Load, complete the signature and warm; ``ModelBroken`` when it is the model's fault."""
        framework = start(self.device, self._threads)
        began_s = self._clock.monotonic_s()
        try:
            pushed = Signature.from_json(version.signature)
            graph = open_graph(framework, version, artifact)
            try:
                graph.inputs = _agreed(pushed.inputs, graph.inputs)
                model = self._complete(framework, version, pushed, graph)
            except BaseException:
                graph.close()
                raise
        except ModelBroken:
            raise
        except InvalidInput as error:
            raise ModelBroken(error.message, code=error.stable_code) from error
        except Exception as error:
            if not is_models_fault(framework, error):
                raise
            text = f"{type(error).__name__}: {error}"
            raise ModelBroken(f"the model cannot be loaded: {text[:1_000]}") from error
        self._warm(model, began_s)
        return model

    def _complete(
        self, framework: Framework, version: ModelVersion, pushed: Signature, graph: Graph
    ) -> LoadedKerasModel:
        """Try the model on made-up rows and write down what it gives."""
        if not graph.outputs:
            raise ModelBroken("the model gives no output")
        signature = pushed
        if pushed.deferred is not None:
            signature = build_signature(
                graph.inputs, pushed.deferred, rescales_itself=graph.rescales_itself
            )
        try:
            outputs = self._probe(framework, version, signature, graph)
        except framework.tf.errors.InvalidArgumentError as error:
            # It refuses the made-up values (a vocabulary without a place for unknown words, say).
            log.warning("version %s was not tried: %s", version.id, type(error).__name__)
            outputs = {}
        specs = graph.outputs
        if outputs and not any(axis is None for spec in graph.inputs for axis in spec.shape):
            specs = tuple(with_lengths(spec, outputs[spec.name]) for spec in specs)
        signature = _with_scores(replace(signature, outputs=specs), graph, outputs)
        return LoadedKerasModel(version.id, signature, self._batch_sizes, graph, framework)

    def _probe(
        self, framework: Framework, version: ModelVersion, signature: Signature, graph: Graph
    ) -> dict[str, Array]:
        """What it gives for some made-up rows; ``ModelBroken`` where a batch cannot be trusted."""
        rows = min(4, self._batch_sizes[-1])
        seed = seed_of(version.id)
        tried = made_up(graph.inputs, rows, signature.image, seed)

        def forward(inputs: Mapping[str, Array]) -> dict[str, Array]:
            return _run(framework, graph, graph.inputs, inputs)

        outputs = forward(tried)
        check_batch_axis(outputs, rows)
        check_batch_axis(forward(made_up(graph.inputs, 1, signature.image, seed)), 1)
        if rows > 1:
            check_rows_apart(forward, tried, rows)
        return outputs

    def _warm(self, model: LoadedKerasModel, began_s: float) -> None:
        """Every size once, small ones first; what the budget leaves out warms when it comes."""
        for size in self._batch_sizes:
            if self._clock.monotonic_s() - began_s > self._warm_budget_s:
                log.info("version %s: batches from %d rows are not warm", model.version_id, size)
                return
            signature = model.signature
            try:
                model.forward(made_up(signature.inputs, size, signature.image, seed=size))
            except model.refusals:
                return
            except Exception as error:  # too large for the device, perhaps; smaller ones work
                log.warning(
                    "version %s: a batch of %d fails: %s", model.version_id, size, type(error)
                )
                model.batch_sizes = tuple(s for s in self._batch_sizes if s < size)
                if not model.batch_sizes:
                    raise
                return


def _run(
    framework: Framework, graph: Graph, specs: Sequence[InputSpec], inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """Arrays to tensors and back. Only tensors go in: a Python scalar would trace anew."""
    tf = framework.tf
    tensors = [tf.convert_to_tensor(inputs[spec.name], dtype=spec.dtype) for spec in specs]
    return {name: tensor.numpy() for name, tensor in graph.call(*tensors).items()}


def _agreed(pushed: tuple[InputSpec, ...], loaded: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
    """The loaded inputs under the names callers use, if they are what was pushed."""
    if not pushed:
        return loaded
    if len(pushed) == 1 and len(loaded) == 1:
        loaded = (replace(loaded[0], name=pushed[0].name),)
    if {spec.name: spec for spec in pushed} != {spec.name: spec for spec in loaded}:
        raise ModelBroken(
            f"the archive declares the inputs {_told(pushed)}, but the model takes {_told(loaded)}",
            code="signature_mismatch",
        )
    return loaded


def _told(specs: Sequence[InputSpec]) -> str:
    return ", ".join(f"{s.name} {s.dtype}{list(s.shape)}" for s in specs)


def _with_scores(signature: Signature, graph: Graph, outputs: Mapping[str, Array]) -> Signature:
    """Check the labels against the output, and find out what its numbers are."""
    if not signature.labels:
        return signature
    spec = label_output_of(signature)
    if not spec.dtype.startswith("float"):
        raise ModelBroken(
            f"labels need scores, but output {spec.name!r} holds {spec.dtype}",
            code="labels_mismatch",
        )
    if signature.scores is not ScoreKind.AUTO:
        return replace(signature, label_output=spec.name)
    activation = graph.activations.get(spec.name)
    if activation in _PROBABLE:
        probable = True
    elif activation == "linear":
        probable = False
    else:
        values = outputs.get(spec.name, np.zeros(1))
        probable = bool(((values >= 0) & (values <= 1)).all())
    kind = ScoreKind.PROBABILITIES if probable else ScoreKind.LOGITS
    return replace(signature, scores=kind, label_output=spec.name)
