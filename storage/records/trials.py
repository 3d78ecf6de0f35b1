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
from collections.abc import Mapping, Sequence
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
class ArmSeen:
    """What became of the last jobs of an arm, ``RECENT_JOBS`` at most. Cancelled and expired ones
    say nothing of a version, nor do those that lost their workers."""

    jobs: int = 0
    failed: int = 0
    p95_ms: float | None = None  # from start to end, of those that succeeded

    @property
    def error_share(self) -> float:
        """Failed jobs among them."""
        return self.failed / self.jobs if self.jobs else 0.0


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two answers to one input that differ, as they are shown."""

    job_id: str
    base: Any
    candidate: Any


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the comparing is: up to which shadow's end, how the last ones came out (a letter for
    each, ``RECENT_JOBS`` at most: d where they differ), and the last disagreements."""

    at: Millis = 0
    id: str = ""
    recent: str = ""
    examples: tuple[Disagreement, ...] = ()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a job of the alias goes."""

    version_id: str
    version: int
    arm_id: str | None


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
    state: TrialState = TrialState.RUNNING
    reason: str | None = None
    started_by: str | None = None
    created_at: Millis = 0
    ended_at: Millis | None = None
    settled_at: Millis | None = None
    repointed: int = 0  # queued jobs that went back to the base
    compared: int = 0
    disagreed: int = 0
    seen: Mapping[str, ArmSeen] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    def takes(self, job_id: str) -> bool:
        """Whether a job with this id goes to the candidate (of a canary), or is scored again (of a
        shadow). The trial's own id is part of it, so that no job is always among the few."""
        return chance_of(self.id, job_id) < self.share

    def place(self, job_id: str) -> Placement:
        """Where a job that is submitted now goes."""
        taken = self.takes(job_id)
        if taken and self.kind is TrialKind.CANARY:
            return Placement(
                self.candidate_version_id, self.candidate_version, self.candidate_arm_id
            )
        arm_id = self.base_arm_id if taken or self.kind is TrialKind.CANARY else None
        return Placement(self.base_version_id, self.base_version, arm_id)

    @property
    def compares(self) -> bool:
        """Whether inputs are scored by both versions."""
        return self.kind is TrialKind.SHADOW or self.limits.disagreement is not None

    @property
    def compared_arm_id(self) -> str:
        """Whose jobs are scored again: those with answers of the one version alone."""
        return self.base_arm_id if self.kind is TrialKind.SHADOW else self.candidate_arm_id

    @property
    def other_version(self) -> tuple[str, int]:
        """The version that scores them again: id and number."""
        if self.kind is TrialKind.SHADOW:
            return self.candidate_version_id, self.candidate_version
        return self.base_version_id, self.base_version

    @property
    def judged_arm_id(self) -> str:
        """Where the candidate's own jobs are."""
        return self.shadow_arm_id if self.kind is TrialKind.SHADOW else self.candidate_arm_id


def chance_of(trial_id: str, job_id: str) -> float:
    """Between 0 and 1, evenly, and always the same for these two."""
    digest = hashlib.sha256(f"{trial_id}/{job_id}".encode()).digest()
    return int.from_bytes(digest[:7]) / (1 << 56)


def judge(
    limits: Limits, candidate: ArmSeen, base: ArmSeen, compared: int, disagreed: int
) -> str | None:
    """Which limit the candidate is over, with figures; None while it is within all of them. Of the
    answers compared the last ones count, as of the jobs."""
    if limits.disagreement is not None and compared >= limits.min_jobs:
        share = disagreed / compared
        if share > limits.disagreement:
            return (
                f"{disagreed} of {compared} answers differ ({share:.3g}), more than"
                f" {limits.disagreement:g}"
            )
    if candidate.jobs < limits.min_jobs:
        return None
    if limits.error_share is not None and candidate.error_share > limits.error_share:
        return (
            f"{candidate.failed} of {candidate.jobs} jobs failed ({candidate.error_share:.3g}),"
            f" more than {limits.error_share:g}"
        )
    p95_ms = candidate.p95_ms
    if p95_ms is None:
        return None
    if limits.latency_ms is not None and p95_ms > limits.latency_ms:
        return f"its p95 is {p95_ms:.0f} ms, more than {limits.latency_ms:g}"
    if limits.latency_ratio is None or base.jobs < limits.min_jobs or base.p95_ms is None:
        return None
    # Clocks count whole milliseconds: below one nothing is slow.
    if p95_ms > limits.latency_ratio * max(1.0, base.p95_ms):
        return (
            f"its p95 is {p95_ms:.0f} ms, more than {limits.latency_ratio:g} times the base's"
            f" {base.p95_ms:.0f} ms"
        )
    return None


def p95(values_ms: Sequence[float]) -> float | None:
    """The smallest that 95 of 100 do not exceed."""
    if not values_ms:
        return None
    return sorted(values_ms)[max(0, -(-len(values_ms) * 95 // 100) - 1)]


def limits_to_json(limits: Limits) -> dict[str, Any]:
    """As a trial's row holds them."""
    return asdict(limits)


def limits_from_json(told: Mapping[str, Any]) -> Limits:
    """What ``limits_to_json`` wrote."""
    return Limits(**told)


def progress_to_json(progress: Progress) -> dict[str, Any]:
    """As a trial's row holds it."""
    return asdict(progress)


def progress_from_json(told: Mapping[str, Any]) -> Progress:
    """What ``progress_to_json`` wrote."""
    examples = tuple(Disagreement(**one) for one in told["examples"])
    return Progress(told["at"], told["id"], told["recent"], examples)
