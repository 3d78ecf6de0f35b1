"""Rows as records: the one place that knows the order of a job's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from storage.records.jobs import Job, JobError, JobKind, JobState, PackSlice

# In the order of the fields of ``Job``. ``j`` is the job as submitted, ``l`` its live row, ``e``
# its end; one of the two is there.
COLUMNS = """
    j.id, j.tenant, j.kind, COALESCE(l.state, e.state) AS state, j.model_name, j.version,
    j.version_id, j.pool, j.priority, j.group_id, j.custom_id, j.metadata,
    COALESCE(l.seq, e.seq) AS seq, COALESCE(l.epoch, e.epoch) AS epoch,
    COALESCE(l.attempts, e.attempts) AS attempts, j.max_attempts,
    COALESCE(l.losses, e.losses) AS losses, COALESCE(l.session_id, e.session_id) AS session_id,
    j.created_at, j.expires_at, COALESCE(l.not_before, j.created_at) AS not_before,
    COALESCE(l.published_at, e.published_at) AS published_at,
    COALESCE(l.started_at, e.started_at) AS started_at,
    COALESCE(l.run_deadline_at, e.started_at + j.run_timeout_ms) AS run_deadline_at,
    j.run_timeout_ms,
    COALESCE(l.cancel_requested_at, e.cancel_requested_at) AS cancel_requested_at,
    e.finished_at, e.error_code, e.error_message, e.error_attempt,
    e.result_pack_id, e.result_offset_bytes, e.result_length_bytes, e.result_digest, j.retry_of
"""


def job_of(row: Sequence[Any]) -> Job:
    """The record of a row selected with ``COLUMNS``."""
    values = list(row)
    code, message, attempt, *result = values[27:34]
    values[2], values[3] = JobKind(values[2]), JobState(values[3])
    values[11] = orjson.loads(values[11]) if values[11] else {}
    error = None if code is None else JobError(code, message, attempt)
    values[27:34] = error, slice_of(*result)
    return Job(*values)


def slice_of(
    pack_id: str | None, offset_bytes: int, length_bytes: int, digest: str
) -> PackSlice | None:
    """The pointer that four columns make up, if there is one."""
    return None if pack_id is None else PackSlice(pack_id, offset_bytes, length_bytes, digest)


def payload_of(
    body: bytes | None, pack_id: str | None, offset_bytes: int, length_bytes: int, digest: str
) -> bytes | PackSlice:
    """The input that a payload's columns stand for."""
    where = slice_of(pack_id, offset_bytes, length_bytes, digest)
    return (body or b"") if where is None else where
