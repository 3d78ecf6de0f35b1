"""Pausing a job that has a record of its own, and letting it go on.

A paused job that is queued is set apart: the relay passes it over and nobody claims it, so that it
takes no place from others. One that runs is given back by its owner when it has come to rest, and
is set apart then (``REQUEUE``). The time of a pause does not count for its ``run_timeout_s``; it
has an end of its own (``MOST_REST_MS``).
"""

from __future__ import annotations

from storage.database.jobs.of_runs import may_rest_until
from storage.database.statements import Statement
from storage.database.work import Work
from storage.records.ids import is_id
from storage.records.jobs import NEVER

HALT = Statement(
    "A live job is paused, out of everybody's reach if it is queued; its watchers have something"
    " to see.",
    f"""
    UPDATE live SET seq = seq + 1,
        not_before = CASE state WHEN 'queued' THEN {NEVER} ELSE not_before END,
        published_at = CASE state WHEN 'queued' THEN NULL ELSE published_at END
    WHERE id = :job
    """,
)

GO_ON = Statement(
    "It goes on: from the backlog, or with as much time as it had when it was paused.",
    f"""
    UPDATE live SET seq = seq + 1,
        not_before = CASE state WHEN 'queued' THEN :now ELSE not_before END,
        expires_at = CASE state WHEN 'queued' THEN {may_rest_until("live")} ELSE expires_at END,
        run_deadline_at = run_deadline_at + (:now - CAST(:since AS bigint))
    WHERE id = :job
    """,
)


def steer(
    work: Work, steered: Statement, change: Statement, tenant: str, job_id: str, *, paused: bool
) -> bool:
    """Whether the tenant has such a live job, which is paused, or is not, from here on.
    ``steered`` tells whether it is and holds it, ``change`` makes it so."""
    if not is_id(job_id):
        return False
    rows = work.change(steered, job=job_id, tenant=tenant)
    if not rows:
        return False
    since = rows[0].paused_at
    if (since is not None) is paused:
        return True
    if paused:
        work.count(HALT, job=job_id)
    else:
        work.count(GO_ON, job=job_id, since=since)
    work.count(change, job=job_id, at=work.now() if paused else None)
    work.tell([job_id])
    return True
