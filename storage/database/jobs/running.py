"""What a worker's session does with jobs: claim, commit, release, blame.

Claiming raises ``epoch``; everything after it is a compare-and-swap on (id, session, epoch,
running), so a session that lost its lease changes nothing. Lock order everywhere: the session's
row first, then jobs by id, then packs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from storage.database.jobs.leaving import (
    Ending,
    EndingRow,
    Held,
    Leave,
    Leaving,
    Requeueing,
    after_a_run,
    ending_row,
)
from storage.database.statements import SQLITE, Statement
from storage.records.jobs import (
    ClaimedJob,
    CommitReport,
    JobError,
    JobState,
    Outcome,
    PackSlice,
    Verdict,
)
from storage.records.packs import PackSummary

_CLAIM = """
    UPDATE live SET
        state = 'running', seq = live.seq + 1, epoch = live.epoch + 1, session_id = :session,
        started_at = :now, run_deadline_at = :now + live.run_timeout_ms
    -- Waits for rows instead of passing them over: a second relay that wanted to mark the same
    -- jobs holds them for a moment, and whoever passes an id over drops its wake-up.
    WHERE live.id {among_ids} AND live.state || '' = 'queued'
        AND live.not_before <= :now AND live.expires_at > :now
        AND EXISTS (SELECT 1 FROM session)
    RETURNING live.id, live.tenant, live.epoch, live.version_id, live.priority, live.attempts,
        live.max_attempts, live.created_at, live.expires_at, live.run_deadline_at,
        live.suspicions, live.started_at
"""
_LIVE_SESSION = """
    WITH session AS MATERIALIZED (
        SELECT s.id FROM sessions AS s
        WHERE s.id = :session AND COALESCE(s.ended_at, 0) = 0 AND s.lease_until + 0 > :now {share}
    )
"""
_INPUT = "p.body, p.pack_id, p.offset_bytes, p.length_bytes, p.digest"

CLAIM = Statement(
    "Queued jobs that may start become this session's (PostgreSQL: with their inputs).",
    f"""
    {_LIVE_SESSION}, taken AS ({_CLAIM})
    SELECT taken.*, {_INPUT} FROM taken CROSS JOIN LATERAL (
        SELECT * FROM payloads WHERE payloads.job_id = taken.id OFFSET 0
    ) AS p
    """,
    only="postgresql",
)

CLAIM_HERE = Statement("The same for SQLite.", _LIVE_SESSION + _CLAIM, only="sqlite")

PAYLOADS = Statement(
    "The inputs of claimed jobs.",
    f"SELECT p.job_id, {_INPUT} FROM payloads AS p WHERE p.job_id {{among_ids}}",
)

SESSION = Statement(
    "A session, which claims nothing while this transaction holds it.",
    "SELECT s.id FROM sessions AS s WHERE s.id = :session {own}",
)

_POISON = JobError("poison", "the device process died each time this job was on the device")
_SPENDS_NOTHING = frozenset({Verdict.RELEASED, Verdict.EXPIRED})
_ENDS = {
    Verdict.SUCCEEDED: JobState.SUCCEEDED,
    Verdict.FAILED: JobState.FAILED,
    Verdict.EXPIRED: JobState.EXPIRED,
}


class Running(Leaving):
    """Jobs are worked on."""

    def claim(self, session_id: str, ids: Sequence[str]) -> list[ClaimedJob]:
        """Those of the jobs that may start now, with their inputs, in the order of ``ids``.

        None when the session's lease is over by the database's clock. Spends no attempt.
        """
        work = self._work
        if work.dialect != SQLITE:
            rows = work.change(CLAIM, session=session_id, ids=work.ids(ids))
            taken = {row[0]: _claimed(row, row[12:]) for row in rows}
        elif rows := work.change(CLAIM_HERE, session=session_id, ids=work.ids(ids)):
            inputs = work.rows(PAYLOADS, ids=work.ids([row[0] for row in rows]))
            where = {row[0]: row[1:] for row in inputs}
            taken = {row[0]: _claimed(row, where[row[0]]) for row in rows}
        else:
            taken = {}
        return [taken.pop(one) for one in ids if one in taken]

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
        for outcome in outcomes:
            _check(outcome)
        if all(one.verdict in _ENDS for one in outcomes):
            settled = self._end([_ended(one) for one in outcomes], session_id, packs)
        else:
            settled = self._leave(self._decided(session_id, outcomes), session_id, packs)
        lost = frozenset(outcome.id for outcome in outcomes if outcome.id not in settled)
        return CommitReport(settled, lost)

    def _decided(self, session_id: str, outcomes: Sequence[Outcome]) -> Iterable[Leave]:
        """What becomes of the jobs that this session still runs under the claimed epoch."""
        held = {one.id: one for one in self._hold([outcome.id for outcome in outcomes])}
        for outcome in outcomes:
            one = held.get(outcome.id)
            if one and one.session_id == session_id and one.epoch == outcome.epoch:
                yield _settled(one, outcome)

    def release(self, session_id: str, claims: Sequence[tuple[str, int]]) -> frozenset[str]:
        """Give (id, epoch) pairs back without spending an attempt; which were still ours."""
        given_back = [Outcome(one, epoch, Verdict.RELEASED, False) for one, epoch in claims]
        return frozenset(self.commit(session_id, given_back).settled)

    def blame(
        self, session_id: str, ids: Sequence[str], *, in_company: bool = False
    ) -> dict[str, JobState]:
        """What becomes of the jobs that were on the device when its process died.

        One that was there alone did it: it spends an attempt, and fails as ``poison`` when none
        is left. Of several, or ``in_company`` of something else that may have done it, nobody
        knows who did: each is suspected once more (so it runs with fewer others next time) and
        spends nothing. All of them go back to the backlog, and whoever was asked to stop is
        cancelled. What else the session held is nobody's fault: close the session and let the
        reaper have it.
        """
        alone = len(set(ids)) == 1 and not in_company
        if self._work.row(SESSION, session=session_id) is None:
            return {}
        return self._leave(
            _blamed(one, alone)
            for one in self._hold(ids)
            if one.state is JobState.RUNNING and one.session_id == session_id
        )


def _claimed(row: Sequence[Any], where: Sequence[Any]) -> ClaimedJob:
    body, pack_id, *place = where
    payload = body if pack_id is None else PackSlice(pack_id, *place)
    return ClaimedJob(*[*row[:10], payload, row[10], row[11]])


def _check(outcome: Outcome) -> None:
    verdict = outcome.verdict
    if verdict is Verdict.SUCCEEDED:
        if outcome.result is None:
            raise ValueError(f"job {outcome.id} succeeded without a result")
    elif outcome.error is None and (verdict is Verdict.FAILED or verdict is Verdict.RETRY):
        raise ValueError(f"job {outcome.id} failed without an error")


def _spends(outcome: Outcome) -> int:
    return int(outcome.entered_device and outcome.verdict not in _SPENDS_NOTHING)


def _ended(outcome: Outcome) -> EndingRow:
    """For a verdict that ends the job, whatever its row says."""
    return ending_row(
        outcome.id,
        _ENDS[outcome.verdict],
        _spends(outcome),
        epoch=outcome.epoch,
        error=outcome.error,
        result=outcome.result,
    )


def _settled(held: Held, outcome: Outcome) -> Leave:
    spends = _spends(outcome)
    if outcome.verdict in _ENDS:
        state = _ENDS[outcome.verdict]
        return Ending(held.id, state, spends, error=outcome.error, result=outcome.result)
    last = outcome.verdict is Verdict.RETRY and held.attempts + spends >= held.max_attempts
    leave = after_a_run(held, spends=spends, failed=outcome.error if last else None)
    return replace(leave, in_ms=outcome.retry_in_ms) if isinstance(leave, Requeueing) else leave


def _blamed(held: Held, alone: bool) -> Leave:
    if alone:
        last = held.attempts + 1 >= held.max_attempts
        return after_a_run(held, spends=1, failed=_POISON if last else None)
    leave = after_a_run(held, failed=None)
    return replace(leave, suspects=1) if isinstance(leave, Requeueing) else leave
