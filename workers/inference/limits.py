"""What a version's passes must keep to on this worker: its own plan, cut to the operator's bound.

Remembered beyond the model's stay in memory, as what was claimed for it is still to be answered.
"""

from __future__ import annotations

from storage.records.serving import DEFAULT_LATENCY_OBJECTIVE_MS
from workers.inference.batching import Limits
from workers.inference.ports import LoadedModel

_UNKNOWN = Limits(sizes=(1,), max_cost=None, objective_s=DEFAULT_LATENCY_OBJECTIVE_MS / 1000)


class LimitsOf:
    """Called with a version's id. Written by the loader, before anybody can ask."""

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._known: dict[str, Limits] = {}

    def __call__(self, version_id: str) -> Limits:
        return self._known.get(version_id, _UNKNOWN)

    def note(self, model: LoadedModel) -> None:
        """The model was loaded, maybe again."""
        serving = model.plan.serving
        sizes = tuple(size for size in model.plan.sizes if size <= self._max_batch)
        self._known[model.version_id] = Limits(
            sizes=sizes or model.plan.sizes[:1],
            max_cost=serving.max_cost,
            objective_s=serving.latency_objective_ms / 1000,
            instances=serving.instances,
        )
