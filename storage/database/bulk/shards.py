"""Shards: what a worker's session does with them.

Claiming raises ``epoch``; everything after it is a compare-and-swap on (job, number, session,
epoch, running), so a session that lost its lease changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row

from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.bulk import ClaimedShard, NewPart, ShardNote, ShardState, Suspect
from storage.records.ids import is_id

_LOOKS = 2  # at the runs that wait, in one claim: others may take what was seen
_MOST_RUNS = 64  # looked at by one claim

# Whoever has something that anybody may claim. Scalar subqueries: an EXISTS may be made a join,
# planned while the tables were small.
_READY = """
    r.pool = :pool AND r.planned_at IS NOT NULL AND r.closed_at IS NULL
    AND r.paused_at IS NULL AND r.error_code IS NULL
    AND (SELECT COALESCE(l.cancel_requested_at, 0) FROM live AS l WHERE l.id = r.job_id) = 0
    AND (SELECT s.number FROM bulk_shards AS s
        WHERE s.job_id = r.job_id AND s.state = 'open' ORDER BY s.number LIMIT 1) IS NOT NULL
"""

WAITS = Statement(
    "Whether any shard of a pool waits to be claimed.",
    f"SELECT r.job_id FROM bulk_runs AS r WHERE {_READY} LIMIT 1",
)

READY = Statement(
    "Runs of which a shard waits: of tenants that have the least running first, then by rank.",
    f"""
    WITH ready AS MATERIALIZED (
        SELECT r.job_id, r.tenant, r.version_id, r.priority, r.rank, r.created_at
        FROM bulk_runs AS r WHERE {_READY}
    ), busy AS MATERIALIZED (
        SELECT o.tenant, count(*) AS running
        FROM bulk_shards AS s JOIN bulk_runs AS o ON o.job_id = s.job_id
        WHERE s.state = 'running' AND EXISTS (SELECT 1 FROM ready)
        GROUP BY o.tenant
    )
    SELECT ready.job_id, ready.tenant, ready.version_id, ready.priority, ready.created_at
    FROM ready LEFT JOIN busy ON busy.tenant = ready.tenant
    ORDER BY COALESCE(busy.running, 0), ready.rank, ready.job_id LIMIT :limit
    """,
)

TAKE = Statement(
    "The first open shard of a run that nobody else is taking becomes this session's.",
    """
    WITH session AS MATERIALIZED (
        SELECT s.id FROM sessions AS s
        WHERE s.id = :session AND COALESCE(s.ended_at, 0) = 0 AND s.lease_until + 0 > :now {share}
    ), free AS MATERIALIZED (
        SELECT j.job_id, j.number FROM bulk_shards AS j
        WHERE j.job_id = :job AND j.state = 'open' AND EXISTS (SELECT 1 FROM session)
        ORDER BY j.number LIMIT 1 {lock_free}
    )
    UPDATE bulk_shards SET state = 'running', session_id = :session, epoch = bulk_shards.epoch + 1
    FROM free WHERE bulk_shards.job_id = free.job_id AND bulk_shards.number = free.number
    RETURNING bulk_shards.number, file, start, stop, epoch, losses,
        suspect_start, suspect_stop, suspect_deaths
    """,
)

_CLAIM = {"job_id": "uuid", "number": "integer", "epoch": "integer"}
# Those of ``{rows}`` that the session still runs, held in the order of their keys.
_STILL_OURS = """
    FROM {rows} AS r JOIN bulk_shards AS j ON j.job_id = r.job_id AND j.number = r.number
    WHERE j.session_id = :session AND j.epoch = r.epoch AND j.state = 'running'
    ORDER BY j.job_id, j.number {lock}
"""

NOTE = Statement(
    "How far a session is with its shards beyond their last parts.",
    f"""
    WITH held AS MATERIALIZED (
        SELECT j.job_id, j.number, r.rows, r.failed, r.device_ms {_STILL_OURS}
    )
    UPDATE bulk_shards SET live_rows = held.rows, live_failed = held.failed,
        live_device_ms = held.device_ms
    FROM held WHERE bulk_shards.job_id = held.job_id AND bulk_shards.number = held.number
    RETURNING bulk_shards.job_id, bulk_shards.number
    """,
    {**_CLAIM, "rows": "bigint", "failed": "bigint", "device_ms": "bigint"},
)

RELEASE = Statement(
    "Shards are given back, as far as their last parts.",
    f"""
    WITH held AS MATERIALIZED (SELECT j.job_id, j.number {_STILL_OURS})
    UPDATE bulk_shards SET state = 'open', session_id = NULL,
        live_rows = 0, live_failed = 0, live_device_ms = 0
    FROM held WHERE bulk_shards.job_id = held.job_id AND bulk_shards.number = held.number
    """,
    _CLAIM,
)

PARENT = Statement(
    "A live job, which does not end before this transaction does.",
    "SELECT l.id FROM live AS l WHERE l.id = :job {keep}",
)

MOVE = Statement(
    "A shard's start moves behind a part, if it is still where the part begins and the session's.",
    """
    UPDATE bulk_shards SET start = :stop, state = CAST(:state AS text),
        session_id = CASE WHEN :state = 'running' THEN session_id END,
        suspect_start = CASE WHEN suspect_stop > :stop THEN suspect_start END,
        suspect_deaths = CASE WHEN suspect_stop > :stop THEN suspect_deaths END,
        suspect_stop = CASE WHEN suspect_stop > :stop THEN suspect_stop END,
        live_rows = 0, live_failed = 0, live_device_ms = 0
    WHERE job_id = :job AND number = :number AND session_id = :session AND epoch = :epoch
        AND state || '' = 'running' AND start = :start AND stop = :end
    """,
)

PART = Statement(
    "What was scored of it is a part.",
    """
    INSERT INTO bulk_parts (job_id, number, start, stop, file, epoch, rows, failed, skipped,
        size_bytes, object_key, digest, errors_key, errors_bytes, device_ms, committed_at)
    VALUES (:job, :number, :start, :stop, :file, :epoch, :row_count, :failed, :skipped,
        :size_bytes, :key, :digest, :errors_key, :errors_bytes, :device_ms, :now)
    """,
)


class Scoring(Store):
    """Shards are worked on."""

    def work_waits(self, pool: str) -> bool:
        """Whether there is a shard to claim. A look only: cheap enough for every second."""
        return self._work.row(WAITS, pool=pool) is not None

    def claim(self, session_id: str, pool: str) -> ClaimedShard | None:
        """One shard, of the tenant that has the least running; None when none waits, or when the
        session's lease is over by the database's clock."""
        work = self._work
        for _ in range(_LOOKS):
            ready = work.rows(READY, pool=pool, limit=_MOST_RUNS)
            for run in ready:
                taken = work.change(TAKE, session=session_id, job=run.job_id)
                if taken:
                    return _claimed(run, taken[0])
            if not ready:
                break
        return None

    def note(self, session_id: str, notes: Sequence[ShardNote]) -> frozenset[tuple[str, int]]:
        """Write how far the session is with shards; those that are still its own."""
        rows: list[dict[str, object]] = [
            {
                "job_id": one.job_id,
                "number": one.number,
                "epoch": one.epoch,
                "rows": one.rows,
                "failed": one.failed,
                "device_ms": one.device_ms,
            }
            for one in notes
        ]
        if not rows:
            return frozenset()
        ours = self._work.change(NOTE, session=session_id, rows=self._work.table(rows))
        return frozenset((row[0], row[1]) for row in ours)

    def commit(self, session_id: str, shard: ClaimedShard, part: NewPart, then: ShardState) -> bool:
        """A part is stored: the shard's start moves behind it. False when the shard is no longer
        the session's, or its job is over: then nothing was written, and the part is nobody's.

        ``then``: go on with the rest (RUNNING), give it back (OPEN), or nothing is left (DONE).
        A part that reaches the stop leaves nothing, so that OPEN is DONE there.
        """
        left = part.stop < shard.stop
        if not 0 <= part.start < part.stop <= shard.stop:
            raise ValueError(f"a part of {part.start}-{part.stop} in a shard up to {shard.stop}")
        if (then is ShardState.DONE) is left and (left or then is ShardState.RUNNING):
            raise ValueError(f"a part up to {part.stop} of {shard.stop}, and then {then}")
        work = self._work
        if work.row(PARENT, job=shard.job_id) is None:
            return False
        moved = work.count(
            MOVE,
            session=session_id,
            job=shard.job_id,
            number=shard.number,
            epoch=shard.epoch,
            start=part.start,
            stop=part.stop,
            end=shard.stop,
            state=(then if left else ShardState.DONE).value,
        )
        if moved:
            work.count(
                PART,
                job=shard.job_id,
                number=shard.number,
                start=part.start,
                stop=part.stop,
                file=shard.file,
                epoch=shard.epoch,
                row_count=part.rows,
                failed=part.failed,
                skipped=part.skipped,
                size_bytes=part.size_bytes,
                key=part.key,
                digest=part.digest,
                errors_key=part.errors_key,
                errors_bytes=part.errors_bytes,
                device_ms=part.device_ms,
            )
        return moved == 1

    def release(self, session_id: str, keys: Iterable[tuple[str, int, int]]) -> int:
        """Give shards back by (job, number, epoch); how many were still the session's."""
        rows: list[dict[str, object]] = [
            {"job_id": job_id, "number": number, "epoch": epoch}
            for job_id, number, epoch in keys
            if is_id(job_id)
        ]
        if not rows:
            return 0
        return self._work.count(RELEASE, session=session_id, rows=self._work.table(rows))


def _claimed(run: Row[Any], row: Row[Any]) -> ClaimedShard:
    suspect = None
    if row.suspect_start is not None:
        suspect = Suspect(row.suspect_start, row.suspect_stop, row.suspect_deaths)
    return ClaimedShard(
        job_id=run.job_id,
        tenant=run.tenant,
        number=row.number,
        file=row.file,
        start=row.start,
        stop=row.stop,
        epoch=row.epoch,
        losses=row.losses,
        version_id=run.version_id,
        priority=run.priority,
        created_at=run.created_at,
        suspect=suspect,
    )
