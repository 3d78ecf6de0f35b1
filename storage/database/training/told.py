"""What a run holds as JSON, and its row as a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from storage.records.jobs import JobError
from storage.records.training_runs import (
    Checkpoint,
    Measures,
    Phase,
    Scope,
    TrainingControl,
    TrainingProgress,
    TrainingRun,
)

# In the order in which ``run_of`` takes them.
RUN = """
    r.job_id, r.tenant, r.version_id, r.created_at, r.paused_at, r.progress, r.deaths, r.data,
    r.result, r.error_code, r.error_message, r.checkpoint_pack_id, r.checkpoint_key,
    r.checkpoint_digest, r.checkpoint_bytes, r.checkpoint_epoch, r.checkpoint_step, r.checkpoint_at
"""


def json_text(told: Mapping[str, object]) -> str:
    """JSON as it is stored; NaN and infinities are null."""
    return orjson.dumps(told).decode()


def progress_text(progress: TrainingProgress) -> str:
    """The progress as it is stored."""
    return orjson.dumps(progress).decode()


def progress_of(text: str | None) -> TrainingProgress:
    """What ``progress_text`` wrote. What was no number is not among the latest."""
    if text is None:
        return TrainingProgress()
    told: dict[str, Any] = orjson.loads(text)
    latest = {name: value for name, value in told["latest"].items() if value is not None}
    return TrainingProgress(**{**told, "phase": Phase(told["phase"]), "latest": latest})


def done_text(text: str | None) -> str:
    """A stored progress, of a run that is done."""
    return progress_text(replace(progress_of(text), phase=Phase.DONE))


def measures_of(row: Sequence[Any]) -> Measures:
    """The record of a row of ``step, scope, told``."""
    step, scope, told = row
    return Measures(Scope(scope), step, orjson.loads(told))


def run_of(row: Sequence[Any]) -> TrainingRun:
    """The record of a row selected with ``RUN``."""
    job_id, tenant, version_id, created_at, paused_at, progress, deaths, data, result = row[:9]
    code, message, *checkpoint = row[9:]
    return TrainingRun(
        job_id=job_id,
        tenant=tenant,
        version_id=version_id,
        created_at=created_at,
        paused_at=paused_at,
        progress=progress_of(progress),
        checkpoint=None if checkpoint[0] is None else Checkpoint(*checkpoint),
        deaths=deaths,
        data=None if data is None else orjson.loads(data),
        result=None if result is None else orjson.loads(result),
        error=None if code is None else JobError(code, message),
    )


def control_of(
    *, cancel_requested_at: int | None, paused_at: int | None, error_code: str | None
) -> TrainingControl:
    """What whoever owns the job is to do."""
    if cancel_requested_at is not None or error_code is not None:
        return TrainingControl.STOP
    return TrainingControl.GO if paused_at is None else TrainingControl.PAUSE
