"""What a version's passes must keep to on this worker: its own plan, cut to the operator's bound.

Remembered beyond the model's stay in memory, as what was claimed for it is still to be answered.
"""

from __future__ import annotations

import threading

from workers.inference.batching import Limits
from workers.inference.ports import LoadedModel
from workers.inference.versions import Versions

_UNKNOWN = Limits(sizes=(1,), max_cost=None, objective_s=0.05)
_REMEMBERED = 1024


class LimitsOf:
    """Called with a version's id."""

    def __init__(self, versions: Versions, max_batch: int) -> None:
        self._versions, self._max_batch = versions, max_batch
        self._lock = threading.Lock()
        self._known: dict[str, Limits] = {}

    def __call__(self, version_id: str) -> Limits:
        found = self._known.get(version_id)
        if found is not None:
            return found
        lease = self._versions.acquire(version_id)
        if lease is None:
            return _UNKNOWN
        try:
            return self.note(lease.model)
        finally:
            lease.release()

    def note(self, model: LoadedModel) -> Limits:
        """The model was loaded, maybe again."""
        serving = model.plan.serving
        sizes = tuple(size for size in model.plan.sizes if size <= self._max_batch)
        limits = Limits(
            sizes=sizes or model.plan.sizes[:1],
            max_cost=serving.max_cost,
            objective_s=serving.latency_objective_ms / 1000,
            instances=serving.instances,
        )
        with self._lock:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[model.version_id] = limits
        return limits
