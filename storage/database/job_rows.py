"""Rows as records: the one place that knows the order of a job's columns."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Row

from storage.records.jobs import Job, JobError, JobKind, JobState, PackSlice

COLUMN_NAMES = (
    "id",
    "tenant",
    "kind",
    "state",
    "model_name",
    "version",
    "version_id",
    "pool",
    "priority",
    "group_id",
    "custom_id",
    "metadata",
    "seq",
    "epoch",
    "attempts",
    "max_attempts",
    "losses",
    "session_id",
    "created_at",
    "expires_at",
    "not_before",
    "published_at",
    "started_at",
    "run_deadline_at",
    "run_timeout_ms",
    "cancel_requested_at",
    "finished_at",
    "error_code",
    "error_message",
    "error_attempt",
    "result_pack_id",
    "result_offset_bytes",
    "result_length_bytes",
    "result_digest",
    "retry_of",
)
COLUMNS = ", ".join(f"j.{name}" for name in COLUMN_NAMES)


def job_of(row: Row[Any]) -> Job:
    """The record of a row selected with ``COLUMNS``."""
    return Job(
        id=row.id,
        tenant=row.tenant,
        kind=JobKind(row.kind),
        state=JobState(row.state),
        model_name=row.model_name,
        version=row.version,
        version_id=row.version_id,
        pool=row.pool,
        priority=row.priority,
        group_id=row.group_id,
        custom_id=row.custom_id,
        metadata=orjson.loads(row.metadata) if row.metadata else {},
        seq=row.seq,
        epoch=row.epoch,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        losses=row.losses,
        session_id=row.session_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        not_before=row.not_before,
        published_at=row.published_at,
        started_at=row.started_at,
        run_deadline_at=row.run_deadline_at,
        run_timeout_ms=row.run_timeout_ms,
        cancel_requested_at=row.cancel_requested_at,
        finished_at=row.finished_at,
        error=(
            None
            if row.error_code is None
            else JobError(row.error_code, row.error_message, row.error_attempt)
        ),
        result=slice_of(
            row.result_pack_id, row.result_offset_bytes, row.result_length_bytes, row.result_digest
        ),
        retry_of=row.retry_of,
    )


def slice_of(
    pack_id: str | None, offset_bytes: int, length_bytes: int, digest: str
) -> PackSlice | None:
    """The pointer that four columns make up, if there is one."""
    return None if pack_id is None else PackSlice(pack_id, offset_bytes, length_bytes, digest)


def payload_of(row: Row[Any]) -> bytes | PackSlice:
    """The input of a row that has a payload's columns."""
    where = slice_of(row.pack_id, row.offset_bytes, row.length_bytes, row.digest)
    return bytes(row.body) if where is None else where
