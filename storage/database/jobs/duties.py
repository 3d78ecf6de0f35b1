"""What a keeper does for jobs: a deadline on every state, and nobody waits for ever.

Every duty is one bounded statement that takes what nobody else holds. It says how many jobs it
moved: as long as that is the limit, there may be more.
"""

from __future__ import annotations

from storage.database.jobs.leaving import LEAVE_RUNNING, NO_RESULT
from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.jobs import MAX_LOSSES

EXPIRE = Statement(
    "Queued jobs whose time to start has passed.",
    """
    WITH held AS (
        SELECT j.id FROM jobs AS j
        WHERE j.state = 'queued' AND j.finished_at IS NULL AND j.expires_at <= :now
        ORDER BY j.expires_at LIMIT :limit {lock_free}
    )
    UPDATE jobs SET state = 'expired', seq = jobs.seq + 1, finished_at = :now
    FROM held WHERE jobs.id = held.id
    RETURNING jobs.id
    """,
)

TIME_OUT = Statement(
    "Running jobs past their deadline: their session lives, but does not get on with them.",
    """
    WITH held AS (
        SELECT j.id, j.attempts + 1 AS attempts, j.max_attempts, j.losses, j.suspicions,
            j.cancel_requested_at
        FROM jobs AS j WHERE j.state = 'running' AND j.run_deadline_at <= :now
        ORDER BY j.run_deadline_at LIMIT :limit {lock_free}
    ), decided AS (
        SELECT id, attempts, losses, suspicions, cancel_requested_at,
            CAST(:now AS bigint) AS not_before,
            'run_timeout' AS error_code,
            'the job was still running when its run_timeout_s had passed' AS error_message,
    """
    + NO_RESULT
    + """,
            CASE
                WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN attempts >= max_attempts THEN 'failed'
                ELSE 'queued'
            END AS next
        FROM held
    )
    """
    + LEAVE_RUNNING,
)

SWEEP = Statement(
    "Published jobs that nobody claimed: their message is lost, so they are published again.",
    """
    WITH held AS (
        SELECT j.id FROM jobs AS j
        WHERE j.state = 'queued' AND j.published_at IS NOT NULL AND j.published_at <= :before
        LIMIT :limit {lock_free}
    )
    UPDATE jobs SET published_at = NULL FROM held WHERE jobs.id = held.id
    """,
)

END_SESSIONS = Statement(
    "Sessions whose lease has passed are over for good.",
    """
    UPDATE sessions SET ended_at = :now WHERE id IN (
        SELECT j.id FROM sessions AS j WHERE j.ended_at IS NULL AND j.lease_until <= :now
        LIMIT :limit {lock_free}
    )
    """,
)

REAP = Statement(
    "Running jobs of sessions that ended: back to the backlog, nobody is blamed.",
    """
    WITH held AS (
        SELECT j.id, j.attempts, j.losses + 1 AS losses, j.suspicions, j.cancel_requested_at
        FROM jobs AS j
        WHERE j.state = 'running' AND EXISTS (
            SELECT 1 FROM sessions AS s WHERE s.id = j.session_id AND s.ended_at IS NOT NULL)
        ORDER BY j.run_deadline_at LIMIT :limit {lock_free}
    ), decided AS (
        SELECT id, attempts, losses, suspicions, cancel_requested_at,
            CAST(:now AS bigint) AS not_before,
            'lost' AS error_code,
            'the worker was lost each time it ran this job' AS error_message,
    """
    + NO_RESULT
    + """,
            CASE
                WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN losses > :max_losses THEN 'failed'
                ELSE 'queued'
            END AS next
        FROM held
    )
    """
    + LEAVE_RUNNING,
)


class Duties(Store):
    """Jobs are looked after."""

    def expire(self, limit: int = 1000) -> int:
        """Queued jobs past ``expires_at`` become expired."""
        return self._moved(EXPIRE, now=self._work.now(), limit=limit)

    def time_out(self, limit: int = 1000) -> int:
        """Running jobs past their deadline spend an attempt: requeued, or failed for good."""
        return self._moved(TIME_OUT, now=self._work.now(), limit=limit)

    def sweep(self, publish_ttl_ms: int, limit: int = 1000) -> int:
        """Jobs published that long ago and still unclaimed return to the backlog."""
        return self._work.count(SWEEP, before=self._work.now() - publish_ttl_ms, limit=limit)

    def reap(self, limit: int = 1000) -> int:
        """End sessions whose lease has passed, and requeue what ended sessions were running.

        Only sessions marked as ended are reaped, and the mark is final: a lease that is renewed
        while this runs is never mistaken for a dead one.
        """
        now = self._work.now()
        self._work.count(END_SESSIONS, now=now, limit=limit)
        return self._moved(REAP, now=now, limit=limit, max_losses=MAX_LOSSES)

    def _moved(self, statement: Statement, **parameters: object) -> int:
        moved = [row.id for row in self._work.change(statement, **parameters)]
        self._work.tell(moved)
        return len(moved)
