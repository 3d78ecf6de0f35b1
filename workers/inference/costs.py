"""Keeps what the latency book learned: read when a version runs here first, written now and then.

A worker that starts so knows at once how long a pass takes, and what did not fit into memory.
"""

from __future__ import annotations

import logging

from storage.database import Database
from workers.inference.gate import TROUBLE
from workers.inference.limits import LimitsOf
from workers.inference.ports import LoadedModel
from workers.inference.ready import Ready

log = logging.getLogger(__name__)


class CostKeeper:
    """Reads on the loader, before a version's first batch; writes with every renewal."""

    def __init__(
        self, database: Database, ready: Ready, limits: LimitsOf, device_kind: str
    ) -> None:
        self._database, self._ready, self._limits = database, ready, limits
        self._device = device_kind
        self._seen: set[str] = set()

    def note(self, model: LoadedModel) -> None:
        """A version was loaded. The first time go on from what is known of it on devices of this
        kind; what this process measured since is better."""
        self._limits.note(model)
        if model.version_id not in self._seen:
            self._seen.add(model.version_id)
            self._restore(model.version_id)
        plan = model.plan
        with self._ready.changed:
            self._ready.book.observe_load(model.version_id, plan.load_s, plan.memory_bytes)

    def _restore(self, version_id: str) -> None:
        try:
            with self._database.read() as tx:
                rows = tx.latency.of_version(version_id)
                costs = tx.latency.costs([version_id])
        except TROUBLE as trouble:
            log.warning("learned latency cannot be read: %s", type(trouble).__name__)
            return
        with self._ready.changed:
            self._ready.book.restore([row for row in rows if row.device == self._device])
            self._ready.book.restore_costs([one for one in costs if one.device == self._device])

    def save(self) -> None:
        """Write down what has changed. What cannot be written is learned again."""
        with self._ready.changed:
            rows = self._ready.book.rows(self._device)
            costs = self._ready.book.costs(self._device)
        if not rows and not costs:
            return
        try:
            with self._database.begin(lasting=False) as tx:
                tx.latency.save(rows)
                tx.latency.save_costs(costs)
        except TROUBLE as trouble:
            log.debug("learned latency cannot be written: %s", type(trouble).__name__)
        except Exception:
            log.exception("learned latency could not be written")
