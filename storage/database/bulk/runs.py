"""Runs: created with their job, planned once by its owner, steered by their tenant.

The owner is whoever runs the job: what it writes names ``(job, session, epoch)`` and changes
nothing once the job is somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storage.database.bulk.told import (
    RUN,
    plan_text,
    progress_text,
    run_of,
    size_bytes_of,
    told_of,
)
from storage.database.statements import Statement
from storage.database.steering import steer
from storage.database.store import Store
from storage.records.bulk import BulkProgress, BulkRun, Control, Plan, ShardPlan
from storage.records.ids import is_id
from storage.records.jobs import BULK_KINDS, JobError, NewJob

_MOST_UNITS = 2**63 - 1

CREATE = Statement(
    "Jobs that were just submitted are runs.",
    """
    INSERT INTO bulk_runs (job_id, tenant, pool, version_id, priority, rank, created_at)
    SELECT l.id, l.tenant, l.pool, l.version_id, l.priority, l.rank, l.created_at
    FROM live AS l WHERE l.id {among_ids} AND l.tenant || '' = :tenant
    """,
)

GET = Statement("One run.", f"SELECT {RUN} FROM bulk_runs AS r WHERE r.job_id = :job")

STEERED = Statement(
    "Whether a run is paused, if its job is live and this tenant's; both stay as they are until"
    " this transaction ends.",
    """
    SELECT r.paused_at FROM live AS l JOIN bulk_runs AS r ON r.job_id = l.id
    WHERE l.id = :job AND l.tenant || '' = :tenant {own}
    """,
)

STEER = Statement(
    "A run is paused, or goes on.",
    "UPDATE bulk_runs SET paused_at = CAST(:at AS bigint) WHERE job_id = :job",
)

OWNED = Statement(
    "A job that this session runs, and that nobody takes from it in this transaction.",
    """
    SELECT l.id FROM live AS l
    WHERE l.id = :job AND l.state || '' = 'running' AND l.session_id = :session
        AND l.epoch = :epoch {share}
    """,
)

PLANNED = Statement(
    "The plan is written, once.",
    """
    UPDATE bulk_runs SET planned_at = :now, plan = :plan, shards = :shards,
        units_total = :units, rows_total = CAST(:row_count AS bigint)
    WHERE job_id = :job AND planned_at IS NULL
    """,
)

SHARDS = Statement(
    "The shards that the plan cuts it into.",
    """
    INSERT INTO bulk_shards (job_id, number, file, start, stop, state, epoch, losses,
        live_rows, live_failed, live_device_ms)
    SELECT CAST(:job AS {uuid}), r.number, r.file, r.start, r.stop,
        CASE WHEN r.start < r.stop THEN 'open' ELSE 'done' END, 0, 0, 0, 0, 0
    FROM {rows} AS r
    """,
    {"number": "integer", "file": "integer", "start": "bigint", "stop": "bigint"},
)

ADOPT = Statement(
    "A run goes on with the plan of another one of its tenant that is over.",
    """
    UPDATE bulk_runs SET planned_at = :now, plan = o.plan, shards = o.shards,
        units_total = o.units_total, rows_total = o.rows_total
    FROM bulk_runs AS o
    WHERE bulk_runs.job_id = :job AND bulk_runs.planned_at IS NULL
        AND o.job_id = :old_job AND o.planned_at IS NOT NULL AND o.tenant = bulk_runs.tenant
        AND (SELECT l.id FROM live AS l WHERE l.id = :old_job) IS NULL
    """,
)

ADOPT_SHARDS = Statement(
    "Its shards: what is done stays so. Epochs go on, so that no two parts are named alike.",
    """
    INSERT INTO bulk_shards (job_id, number, file, start, stop, state, epoch, losses,
        suspect_start, suspect_stop, suspect_deaths, live_rows, live_failed, live_device_ms)
    SELECT CAST(:job AS {uuid}), s.number, s.file, s.start, s.stop,
        CASE WHEN s.start < s.stop THEN 'open' ELSE 'done' END, s.epoch, 0,
        s.suspect_start, s.suspect_stop, s.suspect_deaths, 0, 0, 0
    FROM bulk_shards AS s WHERE s.job_id = :old_job
    """,
)

ADOPT_PARTS = Statement(
    "And its parts.",
    """
    INSERT INTO bulk_parts (job_id, number, start, stop, file, epoch, rows, failed, skipped,
        size_bytes, object_key, digest, errors_key, errors_bytes, device_ms, committed_at)
    SELECT CAST(:job AS {uuid}), p.number, p.start, p.stop, p.file, p.epoch, p.rows, p.failed,
        p.skipped, p.size_bytes, p.object_key, p.digest, p.errors_key, p.errors_bytes, p.device_ms,
        p.committed_at
    FROM bulk_parts AS p WHERE p.job_id = :old_job
    """,
)

WAS_PLANNED = Statement(
    "Whether a run has its plan.",
    "SELECT r.job_id FROM bulk_runs AS r WHERE r.job_id = :job AND r.planned_at IS NOT NULL",
)

FAIL = Statement(
    "Runs are to fail; what was said first stays.",
    """
    UPDATE bulk_runs SET error_code = :error_code, error_message = :error_message
    WHERE job_id {among_ids} AND error_code IS NULL
    """,
)

NOTED = Statement(
    "What was last noted of a run that this session owns.",
    """
    SELECT r.progress FROM live AS l JOIN bulk_runs AS r ON r.job_id = l.id
    WHERE l.id = :job AND l.state || '' = 'running' AND l.session_id = :session
        AND l.epoch = :epoch
    """,
)

BUMP_OWNED = Statement(
    "The same for whoever owns it.",
    """
    UPDATE live SET seq = seq + 1, losses = CASE WHEN :further = 1 THEN 0 ELSE losses END
    WHERE id = :job AND state || '' = 'running' AND session_id = :session AND epoch = :epoch
    """,
)

TOUCH = Statement(
    "How far a run is.",
    "UPDATE bulk_runs SET progress = :progress, progressed_at = :now WHERE job_id = :job",
)

WATCH = Statement(
    "What is to be done with shards of these runs. A run whose job is not live is left out.",
    """
    SELECT r.job_id, CASE
        WHEN r.error_code IS NOT NULL THEN 'stop'
        WHEN (SELECT COALESCE(l.cancel_requested_at, 0) FROM live AS l WHERE l.id = r.job_id) = 0
            THEN CASE WHEN r.paused_at IS NULL THEN 'go' ELSE 'pause' END
        ELSE 'stop' END AS control
    FROM bulk_runs AS r WHERE r.job_id {among_ids}
    """,
)


class Planning(Store):
    """Runs come into being and are steered."""

    def create(self, tenant: str, jobs: Sequence[NewJob]) -> None:
        """The runs of those of the jobs that are bulk jobs or evaluations, in the transaction that
        submitted them."""
        ids = [job.id for job in jobs if job.kind in BULK_KINDS]
        if ids:
            self._work.count(CREATE, tenant=tenant, ids=self._work.ids(ids))

    def run(self, job_id: str, *, tenant: str | None = None) -> BulkRun | None:
        """The run, if it is this tenant's; its progress is what its owner noted last."""
        if not is_id(job_id):
            return None
        row = self._work.row(GET, job=job_id)
        return None if row is None or tenant not in (None, row.tenant) else run_of(row)

    def pause(self, tenant: str, job_id: str) -> bool:
        """Nobody claims its shards any more; False when the tenant has no such live run."""
        return steer(self._work, STEERED, STEER, tenant, job_id, paused=True)

    def resume(self, tenant: str, job_id: str) -> bool:
        """Its shards are claimed again; False when the tenant has no such live run."""
        return steer(self._work, STEERED, STEER, tenant, job_id, paused=False)

    def plan(
        self, job_id: str, session_id: str, epoch: int, plan: Plan, shards: Sequence[ShardPlan]
    ) -> bool:
        """Write the plan and its shards, unless there is one: then that one stays. False when
        this session does not own the job any more."""
        work = self._work
        if work.row(OWNED, job=job_id, session=session_id, epoch=epoch) is None:
            return False
        first = work.count(
            PLANNED,
            job=job_id,
            plan=plan_text(plan),
            shards=len(shards),
            units=min(_MOST_UNITS, sum(one.stop - one.start for one in shards)),
            row_count=plan.rows,
        )
        if first and shards:
            rows = [
                {"number": one.number, "file": one.file, "start": one.start, "stop": one.stop}
                for one in shards
            ]
            work.count(SHARDS, job=job_id, rows=work.table(rows))
        return bool(first) or work.row(WAS_PLANNED, job=job_id) is not None

    def adopt(self, job_id: str, old_job_id: str, session_id: str, epoch: int) -> bool:
        """Go on where another run stopped: with its plan, its parts and what is left of its
        shards; nothing happens to a run that is planned already.

        False when this session does not own the job any more, or when there is nothing to go on
        with: the old run is another tenant's, was never planned, or its job is still live.
        """
        work = self._work
        if not is_id(old_job_id):
            return False
        if work.row(OWNED, job=job_id, session=session_id, epoch=epoch) is None:
            return False
        if work.count(ADOPT, job=job_id, old_job=old_job_id):
            work.count(ADOPT_SHARDS, job=job_id, old_job=old_job_id)
            work.count(ADOPT_PARTS, job=job_id, old_job=old_job_id)
            return True
        return work.row(WAS_PLANNED, job=job_id) is not None

    def fail(self, job_id: str, error: JobError) -> bool:
        """The run is to fail: its owner will end it. False when it was to fail already."""
        return self._fail([job_id], error) == 1

    def _fail(self, ids: Sequence[str], error: JobError) -> int:
        return self._work.count(FAIL, ids=self._work.ids(ids), **told_of(error))

    def touch(self, job_id: str, session_id: str, epoch: int, progress: BulkProgress) -> bool:
        """Note how far the run is, and let watchers know if that is news. Parts since the last note
        make up for the owners that it lost. False when this session does not own the job any more.
        """
        work = self._work
        row = work.row(NOTED, job=job_id, session=session_id, epoch=epoch)
        if row is None:
            return False
        told = progress_text(progress)
        if row.progress == told:
            return True
        further = progress.size_bytes > (size_bytes_of(row.progress) if row.progress else 0)
        if not work.count(
            BUMP_OWNED, job=job_id, session=session_id, epoch=epoch, further=int(further)
        ):
            return False
        work.count(TOUCH, job=job_id, progress=told)
        work.tell([job_id])
        return True

    def watch(self, job_ids: Sequence[str]) -> Mapping[str, Control]:
        """What a worker is to do with the shards that it has of these runs."""
        rows = self._work.rows(WATCH, ids=self._work.ids(job_ids))
        return dict.fromkeys(job_ids, Control.STOP) | {
            row.job_id: Control(row.control) for row in rows
        }
