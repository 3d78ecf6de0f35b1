"""Deaths: shards whose session is over are open again, and what killed it is remembered.

Positions that were on the device when its process died are *suspect*: whoever claims the shard
next does them with less beside them, until one row alone is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row

from storage.database.bulk.runs import Planning
from storage.database.jobs.running import SESSION
from storage.database.statements import Statement
from storage.records.bulk import Suspect
from storage.records.ids import is_id
from storage.records.jobs import MAX_LOSSES, JobError

Span = tuple[str, int, int, int]  # job, number of the shard, start, stop

ON_DEVICE = Statement(
    "Shards that a session runs, held until this transaction ends.",
    """
    SELECT j.job_id, j.number, j.start, j.stop, j.suspect_start, j.suspect_stop, j.suspect_deaths
    FROM {rows} AS r JOIN bulk_shards AS j ON j.job_id = r.job_id AND j.number = r.number
    WHERE j.session_id = :session AND j.state = 'running'
    ORDER BY j.job_id, j.number {lock}
    """,
    {"job_id": "uuid", "number": "integer"},
)

REOPEN = Statement(
    "Held shards are open again, each with what is suspected of it.",
    """
    WITH said AS MATERIALIZED (SELECT * FROM {rows} AS r)
    UPDATE bulk_shards SET state = 'open', session_id = NULL, suspect_start = said.start,
        suspect_stop = said.stop, suspect_deaths = said.deaths,
        live_rows = 0, live_failed = 0, live_device_ms = 0
    FROM said WHERE bulk_shards.job_id = said.job_id AND bulk_shards.number = said.number
    """,
    {
        "job_id": "uuid",
        "number": "integer",
        "start": "bigint",
        "stop": "bigint",
        "deaths": "integer",
    },
)

REAP = Statement(
    "Shards of sessions that ended are open again.",
    """
    WITH held AS MATERIALIZED (
        SELECT j.job_id, j.number FROM bulk_shards AS j
        WHERE j.state = 'running' AND EXISTS (
            SELECT 1 FROM sessions AS s WHERE s.id = j.session_id AND s.ended_at IS NOT NULL)
        LIMIT :limit {lock_free}
    )
    UPDATE bulk_shards SET state = 'open', session_id = NULL, losses = losses + 1,
        live_rows = 0, live_failed = 0, live_device_ms = 0
    FROM held WHERE bulk_shards.job_id = held.job_id AND bulk_shards.number = held.number
    RETURNING bulk_shards.job_id, losses
    """,
)

LOOKED_AFTER = Statement(
    "Planned runs whose job a session runs.",
    """
    SELECT l.id, l.epoch FROM bulk_runs AS r JOIN live AS l ON l.id = r.job_id
    WHERE r.planned_at IS NOT NULL AND r.closed_at IS NULL
        AND l.state || '' = 'running' AND l.session_id = :session
    ORDER BY l.id
    """,
)

CLOSE = Statement(
    "Runs whose job is over are looked at no more.",
    """
    WITH held AS MATERIALIZED (
        SELECT j.job_id FROM bulk_runs AS j
        WHERE j.planned_at IS NOT NULL AND j.closed_at IS NULL
            AND (SELECT l.id FROM live AS l WHERE l.id = j.job_id) IS NULL
        LIMIT :limit {lock_free}
    )
    UPDATE bulk_runs SET closed_at = :now FROM held WHERE bulk_runs.job_id = held.job_id
    """,
)

_LOST = JobError("lost", "the worker was lost each time it scored one of the shards")


class Dying(Planning):
    """Sessions end while they run shards."""

    def blame(self, session_id: str, spans: Sequence[Span], *, in_company: bool = False) -> int:
        """These positions were on the device when the process of the session died: their shards
        are open again, and the positions suspect. How many shards the session still had.

        One shard's positions alone on the device did it: just these once more means one death
        more, others that they were the first time. Of several shards, or ``in_company`` of
        something else that may have done it, nobody knows who did: no death is counted.
        """
        work = self._work
        hulls = _hulls(spans)
        if not hulls or work.row(SESSION, session=session_id) is None:
            return 0
        alone = len(hulls) == 1 and not in_company
        rows: list[dict[str, object]] = [
            {"job_id": job_id, "number": number} for job_id, number in sorted(hulls)
        ]
        held = work.change(ON_DEVICE, session=session_id, rows=work.table(rows))
        if not held:
            return 0
        said: list[dict[str, object]] = []
        for row in held:
            found = suspected(row, *hulls[(row.job_id, row.number)], alone=alone)
            said.append(
                {
                    "job_id": row.job_id,
                    "number": row.number,
                    "start": found and found.start,
                    "stop": found and found.stop,
                    "deaths": found and found.deaths,
                }
            )
        return work.count(REOPEN, rows=work.table(said))

    def looked_after(self, session_id: str) -> list[tuple[str, int]]:
        """(job, epoch) of the planned runs that the session owns. When its process dies of what it
        computed they are innocent: the owner of a planned run only watches."""
        return [(row.id, row.epoch) for row in self._work.rows(LOOKED_AFTER, session=session_id)]

    def reap(self, limit: int = 1000) -> int:
        """Shards of sessions that ended are open again; how many there were. Nobody is blamed,
        but the run of one that is lost too often fails. Runs whose job is over are closed."""
        work = self._work
        lost = work.change(REAP, limit=limit)
        worn = sorted({row.job_id for row in lost if row.losses > MAX_LOSSES})
        if worn:
            self._fail(worn, _LOST)
        work.count(CLOSE, limit=limit)
        return len(lost)


def suspected(row: Row[Any], start: int, stop: int, *, alone: bool) -> Suspect | None:
    """What is suspected of a shard after a death with these positions on the device."""
    start, stop = max(start, row.start), min(stop, row.stop)
    known = None
    if row.suspect_start is not None:
        known = Suspect(row.suspect_start, row.suspect_stop, row.suspect_deaths)
    if start >= stop:  # they are in a part by now
        return known
    before = known.deaths if known and (known.start, known.stop) == (start, stop) else 0
    return Suspect(start, stop, before + int(alone))


def _hulls(spans: Iterable[Span]) -> dict[tuple[str, int], tuple[int, int]]:
    """By shard the range that covers all its positions: two blocks of one are one suspicion."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for job_id, number, start, stop in spans:
        if is_id(job_id) and start < stop:
            first, last = found.get((job_id, number), (start, stop))
            found[(job_id, number)] = min(first, start), max(last, stop)
    return found
