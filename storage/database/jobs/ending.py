"""Cancelling, and failing what can never run: ends that a session has no part in.

A queued job is cancelled at once. A running one is only asked: the commit decides, and whoever
commits first wins. A training whose model is made is done, though its job has not ended yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from storage.database.groups import COUNTS, counts_of
from storage.database.job_rows import job_of
from storage.database.jobs.leaving import ASK, HELD, Ending, Held, Leaving, held_of
from storage.database.jobs.reading import GET
from storage.database.statements import Statement
from storage.records.ids import is_id
from storage.records.jobs import GroupCounts, Job, JobError, JobState

OF_TENANT = Statement(
    "One live job, if it is this tenant's.",
    f"""
    SELECT {HELD} FROM live AS j
    WHERE j.id {{among_ids}} AND j.tenant || '' = :tenant ORDER BY j.id {{lock}}
    """,
)

OF_GROUP = Statement(
    "Every live job of a group that nobody asked to stop yet.",
    f"""
    SELECT {HELD} FROM live AS j
    WHERE j.id {{among}}(
            SELECT m.id FROM jobs AS m
            WHERE m.group_id = :group
                AND EXISTS (SELECT 1 FROM groups AS g WHERE g.id = :group AND g.tenant = :tenant)
        ){{end_among}} AND j.cancel_requested_at IS NULL
    ORDER BY j.id {{lock}}
    """,
)

MADE = Statement(
    "Those of these jobs, held before, that are trainings with a result.",
    "SELECT r.job_id FROM training_runs AS r WHERE r.job_id {among_ids} AND r.result IS NOT NULL",
)

OF_VERSION = Statement(
    "Queued jobs of a version, but for those that it was given to try: they go to the other one.",
    f"""
    SELECT {HELD} FROM live AS j
    WHERE j.tenant = (SELECT v.tenant FROM versions AS v WHERE v.id = :version)
        AND j.state = 'queued' AND j.run_deadline_at IS NULL AND j.version_id = :version
        AND (j.arm_id IS NULL OR (
            SELECT t.id FROM trials AS t WHERE t.settled_at IS NULL AND t.state <> 'promoted'
                AND t.candidate_arm_id = j.arm_id LIMIT 1) IS NULL)
    LIMIT :limit {{lock_free}}
    """,
)

OF_ARM = Statement(
    "Live jobs of a trial's arm that nobody asked to stop yet.",
    f"""
    SELECT {HELD} FROM live AS j
    WHERE j.arm_id = :arm AND j.cancel_requested_at IS NULL
    ORDER BY j.id LIMIT :limit {{lock}}
    """,
)


class Stopping(Leaving):
    """Jobs are ended from outside."""

    def request_cancel(self, tenant: str, job_id: str) -> Job | None:
        """The job after the request; unchanged when it is terminal or was asked before, or when
        it is a training that is done."""
        if not is_id(job_id):
            return None
        work = self._work
        ids = work.ids([job_id])
        self._stop(held_of(work.change(OF_TENANT, tenant=tenant, ids=ids)))
        row = work.row(GET, tenant=tenant, ids=ids)
        return None if row is None else job_of(row)

    def cancel_group(self, tenant: str, group_id: str) -> GroupCounts | None:
        """The group's counts after every live job of it was cancelled or asked to stop."""
        if not is_id(group_id):
            return None
        work = self._work
        self._stop(held_of(work.change(OF_GROUP, tenant=tenant, group=group_id)))
        counts = counts_of(work.rows(COUNTS, group=group_id))
        return next((one for one in counts if one.tenant == tenant), None)

    def cancel_arm(self, arm_id: str, limit: int = 1000) -> int:
        """Up to ``limit`` live jobs of a trial's arm are cancelled or asked to stop; how many."""
        held = held_of(self._work.change(OF_ARM, arm=arm_id, limit=limit))
        self._stop(held)
        return len(held)

    def _stop(self, held: Iterable[Held]) -> None:
        queued: list[str] = []
        running: list[str] = []
        wanted = [one for one in held if not one.asked]
        made = self._made([one.id for one in wanted if one.epoch])
        for one in wanted:
            if one.id not in made:
                (queued if one.state is JobState.QUEUED else running).append(one.id)
        self._leave(Ending(one, JobState.CANCELLED) for one in queued)
        if running:
            self._work.count(ASK, ids=self._work.ids(running))
            self._work.tell(running)

    def _made(self, begun: Sequence[str]) -> set[str]:
        """Those of the jobs that have made their model: its version is filled in by now."""
        rows = self._work.rows(MADE, ids=self._work.ids(begun)) if begun else []
        return {row.job_id for row in rows}

    def fail(self, ids: Sequence[str], error: JobError) -> int:
        """Fail those of the jobs that are queued; how many there were."""
        queued = [one.id for one in self._hold(ids) if one.state is JobState.QUEUED]
        return len(self._leave(Ending(one, JobState.FAILED, error=error) for one in queued))

    def fail_version(self, version_id: str, error: JobError, limit: int = 1000) -> int:
        """Fail up to ``limit`` queued jobs of a version; how many there were. Jobs of a trial that
        it was the candidate of are not among them, however late they came."""
        held = held_of(self._work.change(OF_VERSION, version=version_id, limit=limit))
        return len(self._leave(Ending(one.id, JobState.FAILED, error=error) for one in held))
