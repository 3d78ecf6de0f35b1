"""Trials: a candidate beside the version that an alias stands for.

In a *canary* a share of what is submitted to the alias goes to the candidate; which jobs is
decided by a hash of the job's id when it is submitted, and recorded in the job as any version is.
In a *shadow* every job is answered by the alias's own version, and a share of the inputs is scored
by the candidate as well, in internal jobs of the lowest priority that nobody is told of.

The jobs that take part carry the id of their *arm*: ``base``, ``candidate``, or ``shadow`` for the
internal ones. Whatever crosses a limit ends the trial: the candidate is *returned*.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from storage.records.jobs import Millis

MIN_JOBS = 50  # of the candidate, before a share says anything
RECENT_JOBS = 1_000  # of each arm: as many of the last ones are judged


class TrialKind(StrEnum):
    """What the candidate gets to see."""

    CANARY = "canary"
    SHADOW = "shadow"


class TrialState(StrEnum):
    """Where a trial stands."""

    RUNNING = "running"
    PROMOTED = "promoted"  # the alias stands for the candidate now
    RETURNED = "returned"  # a limit was crossed, or the candidate broke
    STOPPED = "stopped"  # somebody ended it


@dataclass(frozen=True, slots=True)
class Limits:
    """What the candidate may come to. None: no limit."""

    error_share: float | None = 0.05  # failed jobs among those that ended
    latency_ratio: float | None = None  # its p95 from start to end, to that of the base
    latency_ms: float | None = None  # its p95 from start to end
    disagreement: float | None = None  # answers that differ from the base's, of those compared
    min_jobs: int = MIN_JOBS
    tolerance: float = 1e-3  # relative: numbers that differ by less agree


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial. ``seen`` is what was last counted, by arm."""

    id: str
    tenant: str
    name: str
    alias: str
    kind: TrialKind
    base_version_id: str
    base_version: int
    candidate_version_id: str
    candidate_version: int
    base_arm_id: str
    candidate_arm_id: str
    shadow_arm_id: str
    share: float
    limits: Limits
    state: TrialState
    reason: str | None
    started_by: str | None
    created_at: Millis
    ended_at: Millis | None
    settled_at: Millis | None
    repointed: int = 0  # queued jobs that went back to the base
    compared: int = 0
    disagreed: int = 0
    seen: Mapping[str, Any] = field(default_factory=dict)

    def takes(self, job_id: str) -> bool:
        """Whether a job with this id goes to the candidate (of a canary), or is scored again (of a
        shadow). The trial's own id is part of it, so that no job is always among the few."""
        return chance_of(self.id, job_id) < self.share


def chance_of(trial_id: str, job_id: str) -> float:
    """Between 0 and 1, evenly, and always the same for these two."""
    digest = hashlib.sha256(f"{trial_id}/{job_id}".encode()).digest()
    return int.from_bytes(digest[:7]) / (1 << 56)


def limits_to_json(limits: Limits) -> dict[str, Any]:
    """As a trial's row holds them."""
    return asdict(limits)


def limits_from_json(told: Mapping[str, Any]) -> Limits:
    """What ``limits_to_json`` wrote."""
    return Limits(**told)
