"""Runs: created with their job, steered by their tenant, gone on with by whoever owns the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Row

from storage.database.bulk.runs import OWNED
from storage.database.bulk.told import told_of
from storage.database.statements import Statement
from storage.database.steering import steer
from storage.database.store import Store
from storage.database.training.told import RUN, control_of, json_text, run_of
from storage.records.ids import is_id
from storage.records.jobs import JobError, JobKind, NewJob
from storage.records.training_runs import TrainingControl, TrainingRun

CREATE = Statement(
    "Jobs that were just submitted are runs.",
    """
    INSERT INTO training_runs (job_id, tenant, version_id, created_at, lines, deaths)
    SELECT l.id, l.tenant, l.version_id, l.created_at, 0, 0
    FROM live AS l WHERE l.id {among_ids} AND l.tenant || '' = :tenant
    """,
)

GET = Statement("One run.", f"SELECT {RUN} FROM training_runs AS r WHERE r.job_id = :job")

STEERED = Statement(
    "Whether a run is paused, if its job is live and this tenant's; both stay as they are until"
    " this transaction ends.",
    """
    SELECT r.paused_at FROM live AS l JOIN training_runs AS r ON r.job_id = l.id
    WHERE l.id = :job AND l.tenant || '' = :tenant {own}
    """,
)

STEER = Statement(
    "A run is paused, or goes on.",
    "UPDATE training_runs SET paused_at = CAST(:at AS bigint) WHERE job_id = :job",
)

NOTED = Statement(
    "What was last noted of a run that this session owns, and what it is to do.",
    """
    SELECT r.progress, r.paused_at, r.error_code, l.cancel_requested_at
    FROM live AS l JOIN training_runs AS r ON r.job_id = l.id
    WHERE l.id = :job AND l.state || '' = 'running' AND l.session_id = :session
        AND l.epoch = :epoch
    """,
)

BUMP_OWNED = Statement(
    "The job's watchers have something to see, if this session owns it; it stays so until this"
    " transaction ends. A checkpoint makes up for the owners that were lost before it.",
    """
    UPDATE live SET seq = seq + 1, losses = CASE WHEN :further = 1 THEN 0 ELSE losses END
    WHERE id = :job AND state || '' = 'running' AND session_id = :session AND epoch = :epoch
    RETURNING cancel_requested_at
    """,
)

FORGET = Statement(
    "What was measured behind the checkpoint did not happen, unless the run is done.",
    """
    DELETE FROM training_measures WHERE job_id = :job AND step > (
        SELECT COALESCE(r.checkpoint_step, 0) FROM training_runs AS r
        WHERE r.job_id = :job AND r.result IS NULL)
    """,
)

DESCRIBE = Statement(
    "What preparing its data found.",
    "UPDATE training_runs SET data = :told WHERE job_id = :job",
)

DIED = Statement(
    "Its process died once more since the checkpoint.",
    "UPDATE training_runs SET deaths = deaths + 1 WHERE job_id = :job RETURNING deaths",
)

FAIL = Statement(
    "A run is to fail; what was said first stays.",
    """
    UPDATE training_runs SET error_code = :error_code, error_message = :error_message
    WHERE job_id = :job AND error_code IS NULL
    """,
)


class Going(Store):
    """Runs come into being, are steered, and are gone on with."""

    def create(self, tenant: str, jobs: Sequence[NewJob]) -> None:
        """The runs of those of the jobs that are trainings, in the transaction that submitted
        them."""
        ids = [job.id for job in jobs if job.kind is JobKind.TRAINING]
        if ids:
            self._work.count(CREATE, tenant=tenant, ids=self._work.ids(ids))

    def run(self, job_id: str, *, tenant: str | None = None) -> TrainingRun | None:
        """The run, if it is this tenant's."""
        if not is_id(job_id):
            return None
        row = self._work.row(GET, job=job_id)
        return None if row is None or tenant not in (None, row.tenant) else run_of(row)

    def pause(self, tenant: str, job_id: str) -> bool:
        """It stops with a checkpoint within a step; False when the tenant has no such live run."""
        return steer(self._work, STEERED, STEER, tenant, job_id, paused=True)

    def resume(self, tenant: str, job_id: str) -> bool:
        """It goes on from its checkpoint; False when the tenant has no such live run."""
        return steer(self._work, STEERED, STEER, tenant, job_id, paused=False)

    def begin(self, job_id: str, session_id: str, epoch: int) -> TrainingRun | None:
        """Somebody goes on from the checkpoint, or begins: what was measured behind it is
        forgotten, its log stays. The run, or None when this session does not own the job.

        A run with a result is done, and one with an error is to fail: nothing is left to do but
        to end the job.
        """
        work = self._work
        if work.row(OWNED, job=job_id, session=session_id, epoch=epoch) is None:
            return None
        work.count(FORGET, job=job_id)
        return self.run(job_id)

    def control(self, job_id: str, session_id: str, epoch: int) -> TrainingControl:
        """What whoever owns the job is to do. A look only. One that is to fail is to STOP."""
        row = self._work.row(NOTED, job=job_id, session=session_id, epoch=epoch)
        if row is None:
            return TrainingControl.LOST
        return control_of(
            cancel_requested_at=row.cancel_requested_at,
            paused_at=row.paused_at,
            error_code=row.error_code,
        )

    def describe(
        self, job_id: str, session_id: str, epoch: int, data: Mapping[str, object]
    ) -> bool:
        """Keep what preparing the data found, JSON. False when the job is not this session's."""
        if self._bump(job_id, session_id, epoch) is None:
            return False
        self._work.count(DESCRIBE, job=job_id, told=json_text(data))
        return True

    def died(self, job_id: str, session_id: str, epoch: int) -> int:
        """The process that trained died: how often it has since the checkpoint; 0 when the job is
        not this session's."""
        if self._bump(job_id, session_id, epoch) is None:
            return 0
        rows = self._work.change(DIED, job=job_id)
        return int(rows[0].deaths) if rows else 0

    def fail(self, job_id: str, session_id: str, epoch: int, error: JobError) -> bool:
        """The run is to fail: its owner will end the job. What was said first stays. False when
        the job is not this session's."""
        if self._bump(job_id, session_id, epoch) is None:
            return False
        self._work.count(FAIL, job=job_id, **told_of(error))
        return True

    def _bump(
        self, job_id: str, session_id: str, epoch: int, *, further: bool = False
    ) -> Row[int | None] | None:
        """Let watchers know, and hold the job; its ``cancel_requested_at``, or None when this
        session does not own it."""
        rows = self._work.change(
            BUMP_OWNED, job=job_id, session=session_id, epoch=epoch, further=int(further)
        )
        if not rows:
            return None
        self._work.tell([job_id])
        return rows[0]
