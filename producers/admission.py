"""Back-pressure: a tenant whose backlog is full gets 429 and is told when to come back.

The depth is *sampled*: counting rows at every submit costs more than the submit, and one counter
row would make all submits queue up behind each other. Between two samples a process adds what it
accepted itself; other processes' work shows at the next sample. So the limit is approximate, by
about a second's worth of submits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from storage.database import Transaction
from storage.records.errors import Overloaded

SAMPLE_EVERY_S = 1.0
COST_FACTOR = 20.0  # a sample that took 0.2 s holds for at least 4 s
RETRY_AFTER_S = 5.0
MAX_TENANTS = 10_000


@dataclass(slots=True)
class _Sample:
    depth: int
    good_until_s: float


class Admission:
    """Shared by the submit threads."""

    def __init__(self, max_backlog_jobs: int, monotonic_s: Callable[[], float]) -> None:
        self._limit = max_backlog_jobs
        self._monotonic_s = monotonic_s
        self._samples: dict[str, _Sample] = {}
        self._lock = threading.Lock()

    def check(self, tx: Transaction, tenant: str, jobs: int) -> None:
        """Raise ``Overloaded`` unless the tenant's backlog has room for ``jobs`` more."""
        depth = self._depth(tx, tenant)
        if depth + jobs > self._limit:
            raise Overloaded(
                f"{depth} of your jobs are waiting already; {jobs} more would pass the limit of"
                f" {self._limit}",
                code="backlog_full",
                retry_after_s=RETRY_AFTER_S,
            )

    def accepted(self, tenant: str, jobs: int) -> None:
        """``jobs`` were written."""
        with self._lock:
            sample = self._samples.get(tenant)
            if sample is not None:
                sample.depth += jobs

    def _depth(self, tx: Transaction, tenant: str) -> int:
        began_s = self._monotonic_s()
        with self._lock:
            sample = self._samples.get(tenant)
            if sample is not None and began_s < sample.good_until_s:
                return sample.depth
        depth = tx.backlog.depth(tenant, self._limit)
        now_s = self._monotonic_s()
        hold_s = max(SAMPLE_EVERY_S, COST_FACTOR * (now_s - began_s))
        with self._lock:
            if len(self._samples) >= MAX_TENANTS:
                self._samples.clear()
            self._samples[tenant] = _Sample(depth, now_s + hold_s)
        return depth
