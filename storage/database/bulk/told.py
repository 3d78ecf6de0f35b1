"""What a run holds as JSON: its plan and its progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from storage.database.texts import storable
from storage.records.bulk import (
    BulkFormat,
    BulkProgress,
    BulkRun,
    Plan,
    PlannedFile,
)
from storage.records.jobs import JobError

# In the order in which ``run_of`` takes them.
RUN = """
    r.job_id, r.tenant, r.created_at, r.paused_at, r.planned_at, r.plan,
    r.error_code, r.error_message, r.progress, r.rows_total, r.units_total, r.shards
"""


def plan_text(plan: Plan) -> str:
    """The plan as it is stored."""
    return orjson.dumps(plan).decode()


def plan_of(text: str) -> Plan:
    """What ``plan_text`` wrote."""
    told = orjson.loads(text)
    files = [PlannedFile(**{**one, "format": BulkFormat(one["format"])}) for one in told["files"]]
    return Plan(tuple(files), tuple(told["columns"]), told["base"], told["rows"], told["extra"])


def progress_text(progress: BulkProgress) -> str:
    """The progress as it is stored."""
    return orjson.dumps(progress).decode()


def size_bytes_of(text: str) -> int:
    """How much was in parts, of what ``progress_text`` wrote."""
    return int(orjson.loads(text)["size_bytes"])


def run_of(row: Sequence[Any]) -> BulkRun:
    """The record of a row selected with ``RUN``."""
    job_id, tenant, created_at, paused_at, planned_at, plan, code, message, told, *totals = row
    progress = BulkProgress(**orjson.loads(told)) if told else BulkProgress()
    if told is None and planned_at is not None:
        rows, units, shards = totals
        progress = replace(progress, rows_total=rows, units_total=units, shards_total=shards)
    return BulkRun(
        job_id,
        tenant,
        created_at,
        paused_at,
        planned_at,
        None if plan is None else plan_of(plan),
        None if code is None else JobError(code, message),
        progress,
    )


def told_of(error: JobError) -> dict[str, str]:
    """An error as two columns take it."""
    return {"error_code": error.code, "error_message": storable(error.message)}
