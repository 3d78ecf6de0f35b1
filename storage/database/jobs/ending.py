"""Cancelling, and failing what can never run: ends that a session has no part in.

A queued job is cancelled at once. A running one is only asked: the commit decides, and whoever
commits first wins.
"""

from __future__ import annotations

from storage.database.groups import COUNTS, counts_of
from storage.database.job_rows import job_of
from storage.database.jobs.reading import GET
from storage.database.statements import Statement
from storage.database.store import Store
from storage.database.texts import storable
from storage.records.ids import is_id
from storage.records.jobs import GroupCounts, Job, JobError

_CANCEL = """
    state = CASE jobs.state WHEN 'queued' THEN 'cancelled' ELSE jobs.state END,
    seq = jobs.seq + 1,
    cancel_requested_at = :now,
    finished_at = CASE jobs.state WHEN 'queued' THEN CAST(:now AS bigint) END
"""

CANCEL = Statement(
    "One job: ended if it is queued, asked to stop if it runs.",
    f"""
    UPDATE jobs SET {_CANCEL}
    WHERE id = :id AND tenant = :tenant AND finished_at IS NULL AND cancel_requested_at IS NULL
    """,
)

CANCEL_GROUP = Statement(
    "Every live job of a group, in the same way.",
    f"""
    WITH held AS (
        SELECT j.id FROM jobs AS j
        WHERE j.group_id = :group AND j.finished_at IS NULL AND j.cancel_requested_at IS NULL
            AND EXISTS (SELECT 1 FROM groups AS g WHERE g.id = :group AND g.tenant = :tenant)
        ORDER BY j.id {{lock}}
    )
    UPDATE jobs SET {_CANCEL} FROM held WHERE jobs.id = held.id RETURNING jobs.id
    """,
)

FAIL_VERSION = Statement(
    "Queued jobs of a version that turned out broken.",
    """
    WITH held AS (
        SELECT j.id FROM jobs AS j
        WHERE j.state = 'queued' AND j.session_id IS NULL AND j.version_id = :version
        LIMIT :limit {lock_free}
    )
    UPDATE jobs SET
        state = 'failed', seq = jobs.seq + 1, finished_at = :now,
        error_code = :code, error_message = :message, error_attempt = jobs.attempts
    FROM held WHERE jobs.id = held.id
    RETURNING jobs.id
    """,
)


class Ending(Store):
    """Jobs are ended from outside."""

    def request_cancel(self, tenant: str, job_id: str) -> Job | None:
        """The job after the request; unchanged when it is terminal or was asked before."""
        if not is_id(job_id):
            return None
        work = self._work
        if work.count(CANCEL, tenant=tenant, id=job_id, now=work.now()):
            work.tell([job_id])
        row = work.row(GET, tenant=tenant, ids=work.ids([job_id]))
        return None if row is None else job_of(row)

    def cancel_group(self, tenant: str, group_id: str) -> GroupCounts | None:
        """The group's counts after every live job of it was cancelled or asked to stop."""
        if not is_id(group_id):
            return None
        work = self._work
        asked = work.change(CANCEL_GROUP, tenant=tenant, group=group_id, now=work.now())
        work.tell(row.id for row in asked)
        counts = counts_of(work.rows(COUNTS, ids=work.ids([group_id])))
        return next((one for one in counts if one.tenant == tenant), None)

    def fail_version(self, version_id: str, error: JobError, limit: int = 1000) -> int:
        """Fail up to ``limit`` queued jobs of a version; how many there were."""
        failed = self._work.change(
            FAIL_VERSION,
            version=version_id,
            code=error.code,
            message=storable(error.message),
            now=self._work.now(),
            limit=limit,
        )
        self._work.tell(row.id for row in failed)
        return len(failed)
