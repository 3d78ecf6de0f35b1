"""Measures and log lines: written in few statements however many there are, read in order."""

from __future__ import annotations

from collections.abc import Sequence

from storage.database.statements import Statement
from storage.database.texts import storable
from storage.database.training.runs import NOTED, Going
from storage.database.training.told import (
    control_of,
    json_text,
    measures_of,
    progress_text,
)
from storage.records.ids import is_id
from storage.records.training_runs import (
    LogLine,
    Measures,
    Scope,
    TrainingControl,
    TrainingProgress,
)

TOUCH = Statement(
    "How far a run is, and how long its log.",
    """
    UPDATE training_runs SET progress = :progress, progressed_at = :now, lines = lines + :lines
    WHERE job_id = :job RETURNING lines, paused_at, error_code
    """,
)

MEASURE = Statement(
    "What was measured. Said again, as the answer to the first time was lost, it is the same.",
    """
    INSERT INTO training_measures (job_id, step, scope, told)
    SELECT CAST(:job AS {uuid}), r.step, r.scope, r.told FROM {rows} AS r WHERE true
    ON CONFLICT (job_id, step, scope) DO UPDATE SET told = excluded.told
    """,
    {"step": "bigint", "scope": "text", "told": "text"},
)

SAY = Statement(
    "What was said.",
    """
    INSERT INTO training_log (job_id, number, at, line)
    SELECT CAST(:job AS {uuid}), r.number, :now, r.line FROM {rows} AS r
    """,
    {"number": "integer", "line": "text"},
)

MEASURES = Statement(
    "What a run measured, in the order of its steps.",
    """
    SELECT m.step, m.scope, m.told FROM training_measures AS m
    WHERE m.job_id = :job AND m.step > :after
        AND (CAST(:scope AS text) IS NULL OR m.scope = :scope)
    ORDER BY m.step, m.scope
    """,
)

LOG = Statement(
    "A page of a run's log.",
    """
    SELECT g.number, g.at, g.line FROM training_log AS g
    WHERE g.job_id = :job AND g.number > :after ORDER BY g.number LIMIT :limit
    """,
)


class Measuring(Going):
    """Runs say how they go on."""

    def note(
        self,
        job_id: str,
        session_id: str,
        epoch: int,
        progress: TrainingProgress,
        measures: Sequence[Measures] = (),
        lines: Sequence[str] = (),
    ) -> TrainingControl:
        """Write how far the run is, what it measured and what it said since the last note, and
        let watchers know if anything is new. What whoever runs it is to do.

        Lines are cut to 4,000 characters. LOST: nothing was written.
        """
        work = self._work
        noted = work.row(NOTED, job=job_id, session=session_id, epoch=epoch)
        if noted is None:
            return TrainingControl.LOST
        told = progress_text(progress)
        if noted.progress == told and not measures and not lines:
            return control_of(
                cancel_requested_at=noted.cancel_requested_at,
                paused_at=noted.paused_at,
                error_code=noted.error_code,
            )
        job = self._bump(job_id, session_id, epoch)
        if job is None:
            return TrainingControl.LOST
        run = work.change(TOUCH, job=job_id, progress=told, lines=len(lines))[0]
        self._measure(job_id, measures)
        self._say(job_id, run.lines - len(lines), lines)
        return control_of(
            cancel_requested_at=job.cancel_requested_at,
            paused_at=run.paused_at,
            error_code=run.error_code,
        )

    def _measure(self, job_id: str, measures: Sequence[Measures]) -> None:
        last = {(one.step, one.scope): json_text(one.values) for one in measures}
        rows: list[dict[str, object]] = [
            {"step": step, "scope": scope.value, "told": told}
            for (step, scope), told in last.items()
        ]
        if rows:
            self._work.count(MEASURE, job=job_id, rows=self._work.table(rows))

    def _say(self, job_id: str, before: int, lines: Sequence[str]) -> None:
        rows: list[dict[str, object]] = [
            {"number": number, "line": storable(line)}
            for number, line in enumerate(lines, start=before + 1)
        ]
        if rows:
            self._work.count(SAY, job=job_id, rows=self._work.table(rows))

    def measures(
        self, job_id: str, *, scope: Scope | None = None, after_step: int = 0
    ) -> list[Measures]:
        """What was measured behind a step, in the order of steps; an epoch's after its last
        steps. Whoever reads on should ask from the step before the last one that it saw: an epoch
        is noted a moment after the last of its steps. Of any tenant: look at ``run`` first."""
        if not is_id(job_id):
            return []
        rows = self._work.rows(
            MEASURES, job=job_id, after=after_step, scope=None if scope is None else scope.value
        )
        found = [measures_of(row) for row in rows]
        return sorted(found, key=lambda one: (one.step, one.scope is Scope.EPOCH))

    def log(self, job_id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        """The lines after one of this number, oldest first. Of any tenant: look at ``run``
        first."""
        if not is_id(job_id):
            return []
        return [LogLine(*row) for row in self._work.rows(LOG, job=job_id, after=after, limit=limit)]
