"""What a worker's session does with jobs: claim, commit, release, blame.

Claiming raises ``epoch``; everything after it is a compare-and-swap on (id, session, epoch,
running), so a session that lost its lease changes nothing. Lock order everywhere: the session's
row first, then jobs by id, then packs.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.database.job_rows import payload_of
from storage.database.jobs.leaving import LEAVE_RUNNING, NO_RESULT
from storage.database.packs import PUBLISH_MANY, summary_rows
from storage.database.statements import Statement
from storage.database.store import Store
from storage.database.texts import storable
from storage.records.errors import Conflict
from storage.records.jobs import ClaimedJob, CommitReport, JobState, Outcome, Verdict
from storage.records.packs import PackSummary

_CLAIM = """
WITH live AS (
    SELECT s.id FROM sessions AS s
    WHERE s.id = :session AND s.ended_at IS NULL AND s.lease_until > :now {share}
), held AS (
    -- By id alone: with the state among the conditions a planner whose statistics are old may
    -- walk the whole backlog instead of the primary key.
    SELECT j.id, j.state, j.not_before, j.expires_at FROM jobs AS j
    WHERE j.id {among_ids} AND EXISTS (SELECT 1 FROM live)
    -- Waits for the rows instead of passing them over: a second relay that wanted to mark the
    -- same jobs holds them for a moment, and whoever passes an id over drops its wake-up.
    ORDER BY j.id {lock}
), ready AS (
    SELECT id FROM held
    WHERE state = 'queued' AND not_before <= :now AND expires_at > :now
)
UPDATE jobs SET
    state = 'running', seq = jobs.seq + 1, epoch = jobs.epoch + 1, session_id = :session,
    started_at = :now, run_deadline_at = :now + jobs.run_timeout_ms
FROM ready WHERE jobs.id = ready.id
RETURNING jobs.id, jobs.tenant, jobs.epoch, jobs.version_id, jobs.priority, jobs.attempts,
    jobs.max_attempts, jobs.created_at, jobs.expires_at, jobs.run_deadline_at, jobs.suspicions
"""

CLAIM = Statement("Queued jobs that may start become this session's.", _CLAIM)

PAYLOADS = Statement(
    "The inputs of claimed jobs.",
    """
    SELECT p.job_id, p.body, p.pack_id, p.offset_bytes, p.length_bytes, p.digest
    FROM payloads AS p WHERE p.job_id {among_ids}
    """,
)

COMMIT = Statement(
    "A batch's verdicts, for the jobs this session still holds under the claimed epoch.",
    """
    WITH said AS (SELECT * FROM {rows} AS r),
    held AS (
        SELECT j.id, j.state, j.session_id, j.epoch, j.attempts, j.max_attempts, j.losses,
            j.suspicions, j.cancel_requested_at
        FROM jobs AS j WHERE j.id IN (SELECT said.id FROM said)
        ORDER BY j.id {lock}
    ), spent AS (
        SELECT held.*, said.verdict, said.retry_in_ms, said.pack_id, said.offset_bytes,
            said.length_bytes, said.digest, said.error_code, said.error_message,
            held.attempts + said.spends AS attempts_now
        FROM held JOIN said ON said.id = held.id
        WHERE held.state = 'running' AND held.session_id = :session AND held.epoch = said.epoch
    ), decided AS (
        SELECT id, attempts_now AS attempts, losses, suspicions, cancel_requested_at, error_code,
            error_message, pack_id, offset_bytes, length_bytes, digest,
            CAST(:now AS bigint) + retry_in_ms AS not_before,
            CASE
                WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN verdict = 'retry' AND attempts_now >= max_attempts THEN 'failed'
                WHEN verdict IN ('retry', 'released') THEN 'queued'
                ELSE verdict
            END AS next
        FROM spent
    )
    """
    + LEAVE_RUNNING,
    {
        "id": "uuid",
        "epoch": "integer",
        "verdict": "text",
        "spends": "integer",
        "retry_in_ms": "bigint",
        "pack_id": "uuid",
        "offset_bytes": "bigint",
        "length_bytes": "bigint",
        "digest": "text",
        "error_code": "text",
        "error_message": "text",
    },
)

BLAME = Statement(
    "Jobs that were on the device when its process died: one alone spends an attempt, of several"
    " each is suspected.",
    """
    WITH dead AS (SELECT s.id FROM sessions AS s WHERE s.id = :session {own}),
    held AS (
        SELECT j.id, j.state, j.session_id, j.max_attempts, j.losses, j.cancel_requested_at,
            j.attempts + CAST(:spends AS integer) AS attempts,
            j.suspicions + CAST(:suspects AS integer) AS suspicions
        FROM jobs AS j WHERE j.id {among_ids} AND EXISTS (SELECT 1 FROM dead)
        ORDER BY j.id {lock}
    ), decided AS (
        SELECT id, attempts, losses, suspicions, cancel_requested_at,
            CAST(:now AS bigint) AS not_before,
            'poison' AS error_code, CAST(:message AS text) AS error_message,
    """
    + NO_RESULT
    + """,
            CASE
                WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN attempts >= max_attempts THEN 'failed'
                ELSE 'queued'
            END AS next
        FROM held WHERE state = 'running' AND session_id = :session
    )
    """
    + LEAVE_RUNNING,
)


_SPENDS_NOTHING = frozenset({Verdict.RELEASED, Verdict.EXPIRED})


class Running(Store):
    """Jobs are worked on."""

    def claim(self, session_id: str, ids: Sequence[str]) -> list[ClaimedJob]:
        """Those of the jobs that may start now, with their inputs, in the order of ``ids``.

        None when the session's lease is over by the database's clock. Spends no attempt.
        """
        work = self._work
        now = work.now()
        taken = {
            row.id: row
            for row in work.change(CLAIM, session=session_id, now=now, ids=work.ids(ids))
        }
        if not taken:
            return []
        inputs = {row.job_id: row for row in work.rows(PAYLOADS, ids=work.ids(taken))}
        return [
            ClaimedJob(
                id=row.id,
                tenant=row.tenant,
                epoch=row.epoch,
                version_id=row.version_id,
                priority=row.priority,
                attempts=row.attempts,
                max_attempts=row.max_attempts,
                created_at=row.created_at,
                expires_at=row.expires_at,
                run_deadline_at=row.run_deadline_at,
                payload=payload_of(inputs[row.id]),
                suspicions=row.suspicions,
                claimed_at=now,
            )
            for row in (taken[one] for one in dict.fromkeys(ids) if one in taken)
        ]

    def commit(
        self,
        session_id: str,
        outcomes: Sequence[Outcome],
        *,
        packs: Sequence[PackSummary] = (),
    ) -> CommitReport:
        """Settle a batch and let its packs go live: one transaction, one effect.

        A job whose cancel was requested becomes cancelled whatever its verdict. A pack that no
        settled job points to stays ``writing``, for the collector. ``Conflict`` with code
        ``pack_not_writable`` when a collector took a pack that is needed: put it again under a
        new id, or release the jobs.
        """
        if not outcomes:
            return CommitReport({}, frozenset())
        work = self._work
        rows = [_outcome_row(outcome) for outcome in outcomes]
        changed = work.change(COMMIT, session=session_id, now=work.now(), rows=work.table(rows))
        settled = {row.id: JobState(row.state) for row in changed}
        work.tell(settled)
        needed = {
            outcome.result.pack_id
            for outcome in outcomes
            if outcome.result and settled.get(outcome.id) is JobState.SUCCEEDED
        }
        self._publish([pack for pack in packs if pack.id in needed])
        lost = frozenset(outcome.id for outcome in outcomes if outcome.id not in settled)
        return CommitReport(settled, lost)

    def _publish(self, packs: Sequence[PackSummary]) -> None:
        if not packs:
            return
        live = self._work.count(PUBLISH_MANY, rows=self._work.table(summary_rows(packs)))
        if live != len(packs):
            raise Conflict("a pack is no longer being written", code="pack_not_writable")

    def release(self, session_id: str, claims: Sequence[tuple[str, int]]) -> frozenset[str]:
        """Give (id, epoch) pairs back without spending an attempt; which were still ours."""
        given_back = [Outcome(one, epoch, Verdict.RELEASED, False) for one, epoch in claims]
        return frozenset(self.commit(session_id, given_back).settled)

    def blame(self, session_id: str, ids: Sequence[str]) -> dict[str, JobState]:
        """What becomes of the jobs that were on the device when its process died.

        One that was there alone did it: it spends an attempt, and fails as ``poison`` when none
        is left. Of several nobody knows who did it: each is suspected once more (so it runs with
        fewer others next time) and spends nothing. All of them go back to the backlog, and
        whoever was asked to stop is cancelled. What else the session held is nobody's fault:
        close the session and let the reaper have it.
        """
        alone = len(set(ids)) == 1
        rows = self._work.change(
            BLAME,
            session=session_id,
            now=self._work.now(),
            ids=self._work.ids(ids),
            spends=int(alone),
            suspects=int(not alone),
            message="the device process died each time this job was on the device",
        )
        blamed = {row.id: JobState(row.state) for row in rows}
        self._work.tell(blamed)
        return blamed


def _outcome_row(outcome: Outcome) -> dict[str, object]:
    verdict, result, error = outcome.verdict, outcome.result, outcome.error
    if verdict is Verdict.SUCCEEDED and result is None:
        raise ValueError(f"job {outcome.id} succeeded without a result")
    if verdict in (Verdict.FAILED, Verdict.RETRY) and error is None:
        raise ValueError(f"job {outcome.id} failed without an error")
    spends = outcome.entered_device and verdict not in _SPENDS_NOTHING
    return {
        "id": outcome.id,
        "epoch": outcome.epoch,
        "verdict": verdict.value,
        "spends": int(spends),
        "retry_in_ms": outcome.retry_in_ms,
        "pack_id": result.pack_id if result else None,
        "offset_bytes": result.offset_bytes if result else None,
        "length_bytes": result.length_bytes if result else None,
        "digest": result.digest if result else None,
        "error_code": error.code if error else None,
        "error_message": storable(error.message) if error else None,
    }
