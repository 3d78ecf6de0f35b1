"""The runtime on TensorFlow: loads a version, completes its signature, warms it, computes.

Batches come in a few fixed sizes, each tried once at load as far as the budget goes: a first call
costs more than all later ones. XLA stays off unless a version asks for it: on CPU it was slower,
and it compiles for every size.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from storage.clock import Clock, SystemClock
from storage.records.errors import InvalidInput
from storage.records.models import ModelVersion
from storage.records.serving import DEFAULT_MAX_BATCH
from storage.records.signatures import Signature
from workers.inference.ports import Array, DeviceOutOfMemory, ModelBroken, Plan
from workers.inference.shapes import allowed_sizes
from workers.runtime.completing import complete, run
from workers.runtime.framework import Framework, device_kind, is_models_fault, start
from workers.runtime.graphs import Graph, open_graph
from workers.runtime.memory import Memory, PassGauge, open_memory
from workers.runtime.warming import warm

log = logging.getLogger(__name__)


class LoadedKerasModel:
    """One version on the device."""

    def __init__(
        self,
        version_id: str,
        signature: Signature,
        plan: Plan,
        graph: Graph,
        framework: Framework,
        gauge: PassGauge,
    ) -> None:
        self.version_id = version_id
        self.signature = signature
        self.plan = plan
        self.gauge = gauge
        self._graph: Graph | None = graph
        self._framework = framework
        errors = framework.tf.errors
        self._too_much = (errors.ResourceExhaustedError, MemoryError)
        self.refusals: type[Exception] = errors.InvalidArgumentError

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute one batch. Rows go in and come out in the same order."""
        graph = self._graph
        if graph is None:
            raise RuntimeError(f"version {self.version_id} was closed")
        units = sum(array.size for array in inputs.values())
        try:
            if self.gauge.knows(units):
                return run(self._framework, graph, inputs)
            return self.gauge.watch(units, lambda: run(self._framework, graph, inputs))
        except self._too_much as error:
            raise DeviceOutOfMemory("the device has not enough memory for this pass") from error

    def close(self) -> None:
        """Let go of the weights; Keras models are cycles, which only a collection frees."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
            gc.collect()


class KerasRuntime:
    """One device of this process. ``device`` is ``cpu`` or ``gpu:N``, as sessions show it.

    ``threads`` are TensorFlow's own, for all versions of the process: they are set before it
    starts. ``max_batch`` is the operator's bound on what a version's pusher may ask for.
    """

    def __init__(
        self,
        device: str = "cpu",
        *,
        max_batch: int = DEFAULT_MAX_BATCH,
        threads: int | None = None,
        warm_budget_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self.device = device
        self._max_batch = max_batch
        self._threads = threads
        self._warm_budget_s = warm_budget_s
        self._clock = clock or SystemClock()
        self._memory: Memory | None = None

    @property
    def device_kind(self) -> str:
        """``cpu``, or the GPU's name."""
        return device_kind(start(self.device, self._threads))

    def memory_budget_bytes(self) -> int:
        """How much of the device's memory models may hold together."""
        return self._gauged().budget_bytes()

    def start(self) -> None:
        """Import TensorFlow now, so that the first load does not wait for it, and measure what
        there is before anything is loaded."""
        self._gauged()

    def load(self, version: ModelVersion, artifact: Path) -> LoadedKerasModel:
        """Load, complete the signature and warm; ``ModelBroken`` when it is the model's fault."""
        framework = start(self.device, self._threads)
        memory = self._gauged()
        began_s, held_bytes = self._clock.monotonic_s(), memory.held_bytes()
        graph: Graph | None = None
        try:
            graph = open_graph(framework, version, artifact)
            model = self._serve(framework, version, graph, memory)
            self._warm(model)
        except BaseException as error:
            if graph is not None:
                graph.close()
            raise _blamed(framework, error) from error
        model.plan = replace(
            model.plan,
            load_s=self._clock.monotonic_s() - began_s,
            memory_bytes=max(graph.weights_bytes, memory.held_bytes() - held_bytes),
            pass_bytes=model.gauge.most_bytes,
        )
        return model

    def _gauged(self) -> Memory:
        if self._memory is None:
            self._memory = open_memory(start(self.device, self._threads))
        return self._memory

    def _serve(
        self, framework: Framework, version: ModelVersion, graph: Graph, memory: Memory
    ) -> LoadedKerasModel:
        pushed = Signature.from_json(version.signature)
        signature, follows = complete(framework, version, pushed, graph, memory.budget_bytes())
        plan = Plan(
            allowed_sizes(signature.serving, self._max_batch), signature.serving, follows=follows
        )
        return LoadedKerasModel(version.id, signature, plan, graph, framework, PassGauge(memory))

    def _warm(self, model: LoadedKerasModel) -> None:
        sizes = warm(
            model.signature,
            model.plan.sizes,
            model.forward,
            refusals=model.refusals,
            budget_s=self._warm_budget_s,
            monotonic_s=self._clock.monotonic_s,
        )
        if sizes != model.plan.sizes:
            log.warning("version %s: batches have at most %d rows", model.version_id, sizes[-1])
            model.plan = replace(model.plan, sizes=sizes)


def _blamed(framework: Framework, error: BaseException) -> BaseException:
    """The same error, as ``ModelBroken`` where it is the model's fault."""
    if isinstance(error, framework.tf.errors.ResourceExhaustedError | MemoryError):
        return DeviceOutOfMemory("the device has not enough memory for this model")
    if isinstance(error, InvalidInput):
        return ModelBroken(error.message, code=error.stable_code)
    if (
        isinstance(error, ModelBroken | DeviceOutOfMemory)
        or not isinstance(error, Exception)
        or not is_models_fault(framework, error)
    ):
        return error
    text = f"{type(error).__name__}: {error}"
    return ModelBroken(f"the model cannot be loaded: {text[:1_000]}")
