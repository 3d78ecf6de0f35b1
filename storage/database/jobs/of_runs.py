"""What sets bulk jobs and trainings apart from other live jobs, in SQL: each has a run of its own.

Scalar subqueries along primary keys: an EXISTS may be made a join, planned while tables were small.
"""

from __future__ import annotations


def begun_at(job_id: str) -> str:
    """NULL unless there is something to go on with: a plan, or what a training told. To have been
    claimed is not enough, as whoever has too much to do gives jobs back."""
    return _of_run("progressed_at", "planned_at", job_id)


def _of_run(of_training: str, of_bulk: str, job_id: str) -> str:
    return f"""COALESCE(
            (SELECT t.{of_training} FROM training_runs AS t WHERE t.job_id = {job_id}),
            (SELECT b.{of_bulk} FROM bulk_runs AS b WHERE b.job_id = {job_id}))"""
