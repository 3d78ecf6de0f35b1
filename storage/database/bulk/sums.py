"""Sums: how far a run is, and what came of it so far."""

from __future__ import annotations

from storage.database.statements import Statement
from storage.database.store import Store
from storage.records.bulk import BulkProgress, NewPart, Part
from storage.records.ids import is_id

# One statement sees one moment: what is committed in between is counted once. Units as floats: the
# last position of a gzip file is a guess, and may be as far away as numbers go.
COUNT = Statement(
    "What a run was planned to be, what is in its parts, and what is being done to its shards.",
    """
    SELECT r.rows_total, r.units_total, r.shards,
        part.done, part.failed, part.skipped, part.device_ms, part.size_bytes, part.units,
        doing.running, doing.done AS done_now, doing.failed AS failed_now,
        doing.device_ms AS device_ms_now,
        (SELECT count(*) FROM bulk_shards AS o
            WHERE o.job_id = :job AND o.state = 'open') AS waiting
    FROM bulk_runs AS r
    CROSS JOIN (
        SELECT COALESCE(sum(p.rows), 0) AS done, COALESCE(sum(p.failed), 0) AS failed,
            COALESCE(sum(p.skipped), 0) AS skipped, COALESCE(sum(p.device_ms), 0) AS device_ms,
            COALESCE(sum(p.size_bytes), 0) AS size_bytes,
            COALESCE(sum(CAST(p.stop - p.start AS double precision)), 0) AS units
        FROM bulk_parts AS p WHERE p.job_id = :job
    ) AS part
    CROSS JOIN (
        SELECT count(*) AS running, COALESCE(sum(s.live_rows), 0) AS done,
            COALESCE(sum(s.live_failed), 0) AS failed,
            COALESCE(sum(s.live_device_ms), 0) AS device_ms
        FROM bulk_shards AS s WHERE s.job_id = :job AND s.state = 'running'
    ) AS doing
    WHERE r.job_id = :job
    """,
)

UNFINISHED = Statement(
    "How many shards of a run are not done.",
    """
    SELECT (SELECT count(*) FROM bulk_shards AS o WHERE o.job_id = :job AND o.state = 'open')
        + (SELECT count(*) FROM bulk_shards AS s WHERE s.job_id = :job AND s.state = 'running')
        AS shards
    """,
)

PARTS = Statement(
    "The parts of a run, in the order of the input.",
    """
    SELECT p.number, p.file, p.epoch, p.start, p.stop, p.rows, p.failed, p.size_bytes,
        p.object_key, p.digest, p.errors_key, p.errors_bytes, p.device_ms, p.skipped,
        p.committed_at
    FROM bulk_parts AS p
    WHERE p.job_id = :job AND (CAST(:tenant AS text) IS NULL OR :tenant = (
        SELECT r.tenant FROM bulk_runs AS r WHERE r.job_id = :job))
    ORDER BY p.file, p.start
    """,
)


class Counting(Store):
    """Runs are summed up."""

    def count(self, job_id: str) -> BulkProgress:
        """How far the run is now, without its speed. Units are of what is in parts."""
        row = self._work.row(COUNT, job=job_id)
        if row is None or row.shards is None:
            return BulkProgress()
        return BulkProgress(
            rows_done=int(row.done + row.done_now),
            rows_failed=int(row.failed + row.failed_now),
            rows_skipped=int(row.skipped),
            rows_total=row.rows_total,
            units_done=int(row.units),
            units_total=row.units_total,
            shards_done=row.shards - row.running - row.waiting,
            shards_running=row.running,
            shards_total=row.shards,
            device_ms=int(row.device_ms + row.device_ms_now),
            size_bytes=int(row.size_bytes),
        )

    def unfinished(self, job_id: str) -> int:
        """How many shards of the run are not done."""
        return int(self._work.rows(UNFINISHED, job=job_id)[0].shards)

    def parts(self, job_id: str, *, tenant: str | None = None) -> list[Part]:
        """The parts so far, in the order of the input, if the run is this tenant's."""
        if not is_id(job_id):
            return []
        rows = self._work.rows(PARTS, job=job_id, tenant=tenant)
        return [
            Part(row[0], row[1], row[2], NewPart(*row[3:14]), committed_at=row[14]) for row in rows
        ]
