"""What the service answers of trainings beyond what it answers of any job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers.api.schemas import rfc3339
from storage.records.jobs import TERMINAL, Job, JobState, Millis
from storage.records.training_runs import Checkpoint, Phase, TrainingProgress, TrainingRun


def training_document(job: Job, run: TrainingRun | None, now: Millis) -> dict[str, object]:
    """How far a training is. ``now`` is the database's clock."""
    seen = TrainingProgress() if run is None else run.progress
    state = state_of(job, run)
    return {
        "state": state,
        "phase": seen.phase.value,
        "paused": run is not None and run.paused_at is not None,
        "epoch": seen.epoch,
        "epochs": seen.epochs,
        "step": seen.step,
        "steps": seen.steps,
        "share": round(seen.share, 6),
        "latest": dict(seen.latest),
        "rows_read": seen.rows_read,
        "rows_per_s": round(seen.rows_per_s, 3),
        "batch_size": seen.batch_size,
        "trained_s": round(seen.trained_s, 3),
        "estimated_end_at": rfc3339(end_of(seen, now) if state == "training" else None),
        "checkpoint": _checkpoint(None if run is None else run.checkpoint),
    }


def state_of(job: Job, run: TrainingRun | None) -> str:
    """One of ``TRAINING_STATES``. A job that waits for a new owner stays in the phase it was in."""
    if job.state in TERMINAL:
        return "ended"
    if run is None:
        return Phase.WAITING.value
    if run.paused_at is not None:
        return "paused"
    if run.progress.phase is Phase.WAITING and job.state is JobState.RUNNING:
        return Phase.PREPARING.value
    return run.progress.phase.value


def end_of(seen: TrainingProgress, now: Millis) -> Millis | None:
    """When its last step will be done, at the mean rate so far."""
    if not seen.step or not seen.steps or seen.trained_s <= 0:
        return None
    left_s = max(0, seen.steps - seen.step) * seen.trained_s / seen.step
    return now + round(left_s * 1000)


def _checkpoint(checkpoint: Checkpoint | None) -> dict[str, object] | None:
    """Where it could go on."""
    if checkpoint is None:
        return None
    return {
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "size_bytes": checkpoint.size_bytes,
        "made_at": rfc3339(checkpoint.made_at),
    }


def curves_document(
    job: Job, run: TrainingRun | None, curves: Mapping[str, Any], points: int
) -> dict[str, Any]:
    """All that was measured; of more than so many steps every second, third, … one."""
    steps: Mapping[str, list[Any]] = curves["steps"]
    numbers = steps.get("step", [])
    every = -(-len(numbers) // points) if numbers else 1
    seen = TrainingProgress() if run is None else run.progress
    return {
        "job": job.id,
        "model": f"{job.model_name}:{job.version}",
        "state": state_of(job, run),
        "epoch": seen.epoch,
        "epochs_total": seen.epochs,
        "step": seen.step,
        "steps_total": seen.steps,
        "every": every,
        "steps": {name: values[every - 1 :: every] for name, values in steps.items()},
        "epochs": curves["epochs"],
    }
