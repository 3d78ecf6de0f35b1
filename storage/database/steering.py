"""Pausing a job that has a record of its own, and letting it go on."""

from __future__ import annotations

from storage.database.statements import Statement
from storage.database.work import Work
from storage.records.ids import is_id

BUMP = Statement(
    "A live job's watchers have something to see.",
    "UPDATE live SET seq = seq + 1 WHERE id = :job",
)


def steer(
    work: Work, steered: Statement, change: Statement, tenant: str, job_id: str, *, paused: bool
) -> bool:
    """Whether the tenant has such a live job, which is paused, or is not, from here on.
    ``steered`` tells whether it is, ``change`` makes it so."""
    if not is_id(job_id):
        return False
    row = work.row(steered, job=job_id, tenant=tenant)
    if row is None:
        return False
    if (row.paused_at is not None) is paused:
        return True
    if not work.count(BUMP, job=job_id):
        return False  # it ended just now
    work.count(change, job=job_id, at=work.now() if paused else None)
    work.tell([job_id])
    return True
