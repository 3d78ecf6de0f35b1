"""What sets bulk jobs and trainings apart from other live jobs, in SQL: each has a run of its own.

Scalar subqueries along primary keys: an EXISTS may be made a join, planned while tables were small.
"""

from __future__ import annotations

from storage.records.jobs import MOST_REST_MS


def paused_at(job_id: str) -> str:
    """When the run of this job was paused; NULL of one that is not, or has only to be ended."""
    held = "CASE WHEN t.result IS NULL AND t.error_code IS NULL THEN t.paused_at END"
    return _of_run(held, "CASE WHEN b.error_code IS NULL THEN b.paused_at END", job_id)


def begun_at(job_id: str) -> str:
    """NULL unless there is something to go on with: a plan, or what a training told. To have been
    claimed is not enough, as whoever has too much to do gives jobs back."""
    return _of_run("t.progressed_at", "b.planned_at", job_id)


def may_rest_until(row: str) -> str:
    """The new ``expires_at`` of this row of ``live``, which is given back or may go on: what has
    begun was started in time, however late it goes on."""
    rested = f":now + {MOST_REST_MS}"
    return f"""CASE WHEN {row}.expires_at > {rested} OR {begun_at(f"{row}.id")} IS NULL
            THEN {row}.expires_at ELSE {rested} END"""


def _of_run(of_training: str, of_bulk: str, job_id: str) -> str:
    return f"""COALESCE(
            (SELECT {of_training} FROM training_runs AS t WHERE t.job_id = {job_id}),
            (SELECT {of_bulk} FROM bulk_runs AS b WHERE b.job_id = {job_id}))"""
