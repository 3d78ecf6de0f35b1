"""What the demo tells about a group of jobs: counted from the jobs' own rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from storage.records.jobs import Job


@dataclass(frozen=True, slots=True)
class Figures:
    """Measured on one group, submitted in one request."""

    jobs: int
    correct: int
    accuracy: float
    batches: int
    mean_batch: float
    elapsed_s: float  # from the submit to the moment that the group was seen done
    jobs_per_s: float
    latency_p50_ms: float  # from accepted to finished, on the database's clock
    latency_p99_ms: float

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def figures(
    members: Sequence[Job], answers: Mapping[str, str], truth: Mapping[str, str], elapsed_s: float
) -> Figures:
    """``answers`` and ``truth`` hold a label for each custom id.

    Every batch writes its results as one pack, so the packs are counted for the batches.
    """
    right = sum(answers.get(custom_id) == label for custom_id, label in truth.items())
    packs = {job.result.pack_id for job in members if job.result is not None}
    latencies = sorted(
        float(job.finished_at - job.created_at) for job in members if job.finished_at is not None
    )
    return Figures(
        jobs=len(members),
        correct=right,
        accuracy=right / max(1, len(truth)),
        batches=len(packs),
        mean_batch=len(members) / max(1, len(packs)),
        elapsed_s=elapsed_s,
        jobs_per_s=len(members) / elapsed_s,
        latency_p50_ms=percentile(latencies, 50),
        latency_p99_ms=percentile(latencies, 99),
    )


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of sorted values; 0 of none."""
    if not ascending:
        return 0.0
    rank = -(-len(ascending) * percent // 100)
    return ascending[max(0, min(len(ascending), int(rank)) - 1)]
