"""What a keeper does for jobs: a deadline on every state, and nobody waits for ever.

Every duty is one bounded step over what nobody else holds. It says how many jobs it moved: as
long as that is the limit, there may be more.
"""

from __future__ import annotations

from storage.database.jobs.leaving import HELD, Ending, Leaving, after_a_run, held_of
from storage.database.jobs.of_runs import paused_at
from storage.database.statements import Statement
from storage.records.jobs import MAX_LOSSES, MOST_REST_MS, JobError, JobState

# Conditions that always hold, and let each statement take its own index alone: see tables.py.
EXPIRED = Statement(
    "Queued jobs whose time to start has passed.",
    f"""
    SELECT {HELD} FROM live AS j
    WHERE j.state = 'queued' AND j.started_at IS NULL AND j.expires_at <= :now
    ORDER BY j.expires_at LIMIT :limit {{lock_free}}
    """,
)

TIMED_OUT = Statement(
    "Running jobs past their deadline: their session lives, but does not get on with them. One that"
    " is paused has the time that is left when it goes on; its owner is to give it back at once.",
    f"""
    SELECT {HELD} FROM live AS j
    WHERE j.state = 'running' AND j.run_deadline_at <= :now
        AND (j.cancel_requested_at IS NOT NULL OR {paused_at("j.id")} IS NULL
            OR j.run_deadline_at <= :now - {MOST_REST_MS})
    LIMIT :limit {{lock_free}}
    """,
)

SWEEP = Statement(
    "Published jobs that nobody claimed: their message is lost, so they are published again.",
    """
    WITH held AS (
        SELECT j.id FROM live AS j
        WHERE j.state = 'queued' AND j.published_at IS NOT NULL
            AND j.published_at <= :now - CAST(:age AS bigint)
        LIMIT :limit {lock_free}
    )
    UPDATE live SET published_at = NULL FROM held WHERE live.id = held.id
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

LOST = Statement(
    "Running jobs of sessions that ended.",
    f"""
    SELECT {HELD} FROM live AS j
    WHERE j.state = 'running' AND EXISTS (
        SELECT 1 FROM sessions AS s WHERE s.id = j.session_id AND s.ended_at IS NOT NULL)
    LIMIT :limit {{lock_free}}
    """,
)

_TIMED_OUT = JobError("run_timeout", "the job was still running when its run_timeout_s had passed")
_LOST = JobError("lost", "the worker was lost each time it ran this job")


class Duties(Leaving):
    """Jobs are looked after."""

    def expire(self, limit: int = 1000) -> int:
        """Queued jobs past ``expires_at`` become expired."""
        held = held_of(self._work.change(EXPIRED, limit=limit))
        return len(self._leave(Ending(one.id, JobState.EXPIRED) for one in held))

    def time_out(self, limit: int = 1000) -> int:
        """Running jobs past their deadline spend an attempt: requeued, or failed for good."""
        held = held_of(self._work.change(TIMED_OUT, limit=limit))
        return len(
            self._leave(
                after_a_run(
                    one,
                    spends=1,
                    failed=_TIMED_OUT if one.attempts + 1 >= one.max_attempts else None,
                )
                for one in held
            )
        )

    def sweep(self, publish_ttl_ms: int, limit: int = 1000) -> int:
        """Jobs published that long ago and still unclaimed return to the backlog."""
        return self._work.count(SWEEP, age=publish_ttl_ms, limit=limit)

    def reap(self, limit: int = 1000) -> int:
        """End sessions whose lease has passed, and requeue what ended sessions were running.

        Only sessions marked as ended are reaped, and the mark is final: a lease that is renewed
        while this runs is never mistaken for a dead one. Nobody is blamed.
        """
        self._work.count(END_SESSIONS, limit=limit)
        held = held_of(self._work.change(LOST, limit=limit))
        return len(
            self._leave(
                after_a_run(one, loses=1, failed=_LOST if one.losses >= MAX_LOSSES else None)
                for one in held
            )
        )
