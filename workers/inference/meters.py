"""What the pipeline counts about itself, in one place that every stage may call.

The sums travel as a document (``storage.records.counts``) in the session's row, where the API
finds them. So the verbs must be cheap (a lock and a few additions), and the document bounded:
versions and tenants are counted by name only while they are among those that count most.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

from storage.clock import Clock
from storage.records.counts import (
    BULK,
    ONLINE,
    StageCounts,
    TenantCounts,
    VersionCounts,
    WorkerCounts,
)

MAX_VERSIONS, MAX_TENANTS = 24, 32  # by name; a full document stays below 64 KiB
MAX_OUTSIDE = 1_000  # names without counts of their own whose weight is remembered
MAX_LOADED = 64
FADING = 0.98  # of a name's weight with every document, so that the present decides
LEAST_LEAD = 2.0  # how much more a name must weigh than the one whose place it takes
LEAST_SPAN_S = 1.0  # a busy share over less than this says nothing


class _Sum(Protocol):
    def add(self, other: Self) -> None: ...


S = TypeVar("S", bound=_Sum)


class Top(Generic[S]):
    """Counts by name for the few names that weigh most, and together for all the others.

    Who loses its name leaves its counts with the others: each sum grows or starts anew, as a
    counter may, and nothing is lost from the total.
    """

    def __init__(self, most: int, make: Callable[[], S]) -> None:
        self.named: dict[str, S] = {}
        self.other = make()
        self._most, self._make = most, make
        self._weights: dict[str, float] = {}

    def of(self, name: str, weight: float = 0.0) -> S:
        """Where to count for ``name``; ``weight`` is what this adds to its importance."""
        found = self.named.get(name)
        if found is None:
            if len(self.named) < self._most:
                found = self.named[name] = self._make()
            else:
                found = self.other
                if name not in self._weights and len(self._weights) >= self._most + MAX_OUTSIDE:
                    return found
        if weight:
            self._weights[name] = self._weights.get(name, 0.0) + weight
        return found

    def settle(self) -> None:
        """Give names to those who weigh most now. Called once a document."""
        fading = {name: weight * FADING for name, weight in self._weights.items()}
        self._weights = {name: weight for name, weight in fading.items() if weight >= 0.5}
        outside = [name for name in self._weights if name not in self.named]
        for name in sorted(outside, key=self._weight, reverse=True):
            least = min(self.named, key=self._weight)
            if self._weight(name) < LEAST_LEAD * self._weight(least):
                return
            self.other.add(self.named.pop(least))
            self.named[name] = self._make()

    def _weight(self, name: str) -> float:
        return self._weights.get(name, 0.0)


class Meters:
    """Shared by all threads of a process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began_s = self._told_s = clock.monotonic_s()
        self._busy_s = self._told_busy_s = 0.0
        self._busy_ratio = 0.0
        self._versions: Top[VersionCounts] = Top(MAX_VERSIONS, VersionCounts)
        self._tenants: Top[TenantCounts] = Top(MAX_TENANTS, TenantCounts)
        self._loaded: dict[str, int] = {}

    def batch(self, version_id: str, rows: int, bucket: int, bulk: bool, device_s: float) -> None:
        """A pass of ``rows`` ran in a bucket of so many."""
        with self._lock:
            counts = self._versions.of(version_id, rows).of_class(BULK if bulk else ONLINE)
            counts.rows.observe(rows)
            counts.fill.observe(rows / max(1, bucket))
            counts.slots += bucket
            counts.device_s += device_s

    def stage(self, version_id: str, stage: str, jobs: int, seconds: float) -> None:
        """A stage (one of ``storage.records.counts.STAGES``) took so long for so many jobs."""
        with self._lock:
            stages = self._versions.of(version_id).stages
            counts = stages.get(stage)
            if counts is None:
                counts = stages[stage] = StageCounts()
            counts.batches += 1
            counts.jobs += jobs
            counts.seconds += seconds

    def waited(self, version_id: str, *seconds: float, bulk: bool = False) -> None:
        """Jobs entered the device so long after they were created; any number in one call."""
        with self._lock:
            observe = self._versions.of(version_id).of_class(BULK if bulk else ONLINE).age_s.observe
            for one in seconds:
                observe(max(0.0, one))

    def settled(self, version_id: str, tenant: str, state: str, count: int) -> None:
        """A commit brought so many jobs into this state (``queued``: they are tried again)."""
        state = str(state)
        with self._lock:
            for settled in (
                self._versions.of(version_id).settled,
                self._tenants.of(tenant, count).settled,
            ):
                settled[state] = settled.get(state, 0) + count

    def expired(self, version_id: str, tenant: str, n: int) -> None:
        """Claimed jobs were answered as too late, before they entered the device."""
        with self._lock:
            self._versions.of(version_id).expired += n
            self._tenants.of(tenant).expired += n

    def bisected(self, version_id: str) -> None:
        """A pass failed and was split."""
        with self._lock:
            self._versions.of(version_id).bisections += 1

    def out_of_memory(self, version_id: str) -> None:
        """A pass did not fit."""
        with self._lock:
            self._versions.of(version_id).out_of_memory += 1

    def busy(self, seconds: float) -> None:
        """The device computed for so long."""
        with self._lock:
            self._busy_s += seconds

    def loaded(self, version_id: str, seconds: float, memory_bytes: int = 0) -> None:
        """A version is on the device, warm."""
        with self._lock:
            counts = self._versions.of(version_id)
            counts.loads += 1
            counts.load_s += seconds
            if len(self._loaded) < MAX_LOADED:
                self._loaded[version_id] = memory_bytes

    def unloaded(self, version_id: str, *, evicted: bool = True) -> None:
        """A version left the device; ``evicted`` when it had to make room."""
        with self._lock:
            self._loaded.pop(version_id, None)
            if evicted:
                self._versions.of(version_id).evictions += 1

    def snapshot(self) -> dict[str, Any]:
        """The document, for the session's row."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            span_s = now_s - self._told_s
            if span_s >= LEAST_SPAN_S:
                self._busy_ratio = min(1.0, (self._busy_s - self._told_busy_s) / span_s)
                self._told_s, self._told_busy_s = now_s, self._busy_s
                self._versions.settle()
                self._tenants.settle()
            return WorkerCounts(
                uptime_s=now_s - self._began_s,
                busy_s=self._busy_s,
                busy_ratio=self._busy_ratio,
                versions=self._versions.named,
                other_versions=self._versions.other,
                tenants=self._tenants.named,
                other_tenants=self._tenants.other,
                loaded=self._loaded,
            ).to_json()
