"""What was measured of a version on a device: the words in which it is kept and read.

One row per (version, device kind, shape bucket, batch bucket). Workers learn them while they run,
write them now and then, and read them when they load the version again.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.records.jobs import DEFAULT_PRIORITY, Millis


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """One bucket's passes. ``shape`` is spelled by the runtime, "" where there is only one."""

    version_id: str
    device: str  # the kind of device, not its number: "cpu", "NVIDIA H200"
    shape: str
    bucket: int  # rows of one pass, padding included
    count: int  # passes measured
    mean_s: float
    p95_s: float
    updated_at: Millis = 0


@dataclass(frozen=True, slots=True)
class VersionCost:
    """One version's costs on one kind of device, beside its passes."""

    version_id: str
    device: str
    device_s_per_job: float  # device time that one job takes, lately
    path_s_per_job: float  # wall time per job of a worker that always had work, lately
    load_s: float  # how long the last load took, warming included
    memory_bytes: int  # what it held on the device when it was warm
    safe_rows: int | None = None  # the largest pass known to fit after memory ran out
    updated_at: Millis = 0


@dataclass(frozen=True, slots=True)
class QueuedLoad:
    """What waits of one tenant for one version in one pool, of one priority."""

    tenant: str
    model_name: str
    version: int
    version_id: str
    jobs: int
    oldest_at: Millis  # created_at of the one that waits longest
    priority: int = DEFAULT_PRIORITY
