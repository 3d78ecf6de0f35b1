"""The end of a batch: one pack per tenant, one commit, then the acknowledgements.

The pack's row exists since the claim (``writing``) and goes live in the commit's transaction, so
no object is ever unknown to SQL and no result is ever seen before its bytes are stored.
Trouble of the storage blames nobody: the put is tried again while there is patience, then the
jobs are given back unspent; the commit is tried until the database answers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.objects.packs import PackWriter
from storage.records.errors import Conflict
from storage.records.jobs import JobError, Outcome, Verdict
from storage.records.packs import NewPack, PackSummary
from workers.inference.answers import answer
from workers.inference.batch import Batch, Work
from workers.inference.gate import TROUBLE, Gate
from workers.inference.intake import Intake
from workers.inference.session import Rate

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 2.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A batch whose results are stored, or given up: what its commit will say."""

    session_id: str
    ids: list[str]
    outcomes: Sequence[Outcome]
    packs: Sequence[PackSummary]


class Finisher:
    """``store`` runs on one thread and ``commit`` on the next: both mostly wait for others."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        gate: Gate,
        clock: Clock,
        rate: Rate,
        *,
        intake: Intake,
        put_patience_s: float,
        retry_back_off_s: float,
    ) -> None:
        self._database, self._objects, self._gate = database, objects, gate
        self._clock, self._rate, self._intake = clock, rate, intake
        self._put_patience_s, self._retry_back_off_s = put_patience_s, retry_back_off_s
        self.hurry = threading.Event()  # a stop is under way: one try, then give back

    def store(self, batch: Batch) -> Stored:
        """Encode, and put one pack per tenant; says what is to be committed."""
        packs: list[PackSummary] = []
        try:
            answers = answer(batch, retry_back_off_s=self._retry_back_off_s)
            outcomes = list(answers.outcomes)
            for tenant, group in _by_tenant(batch, answers.results).items():
                summary = self._store(batch.packs[tenant], group, outcomes)
                if summary is not None:
                    packs.append(summary)
        except Exception as fault:
            # A fault of ours. It spends attempts, so that it cannot go round for ever.
            log.error("a batch could not be finished: %s", type(fault).__name__, exc_info=fault)
            outcomes, packs = [_fault(work) for work in batch.works], []
        finally:
            batch.lease.release()
        return Stored(batch.session_id, batch.ids, outcomes, packs)

    def commit(self, stored: Stored) -> None:
        """One transaction, then the settling. Returns when the jobs are somebody's again."""
        closing = self._intake.detach(stored.ids)
        try:
            done = self._commit(stored.session_id, stored.outcomes, stored.packs)
        except Exception:
            closing.settle()  # the caller gives up the session, and its reaper the jobs
            raise
        if done:
            closing.settle()

    def _store(
        self,
        pack: NewPack,
        group: list[tuple[str, int, bool, bytes]],
        outcomes: list[Outcome],
    ) -> PackSummary | None:
        """Put one tenant's results; adds their verdicts. None when storage did not take them."""
        writer = PackWriter(pack.id)
        slices = [writer.add(job_id, data) for job_id, _, _, data in group]
        data, summary = writer.finish()
        if not self._put(pack.key, data):
            outcomes += [_released(job_id, epoch) for job_id, epoch, _, _ in group]
            return None
        for (job_id, epoch, entered, _), cut in zip(group, slices, strict=True):
            outcomes.append(Outcome(job_id, epoch, Verdict.SUCCEEDED, entered, result=cut))
        return summary

    def _put(self, key: str, data: bytes) -> bool:
        give_up_s = self._clock.monotonic_s() + self._put_patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                self._objects.put(key, data)
                return True
            except TROUBLE as trouble:
                self._gate.trip(trouble)
            if self._clock.monotonic_s() + pause_s > give_up_s or self.hurry.wait(pause_s):
                log.warning("a batch's results could not be stored; its jobs are given back")
                return False
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    def _commit(
        self, session_id: str, outcomes: Sequence[Outcome], packs: Sequence[PackSummary]
    ) -> bool:
        """Commit until the database answers. What another owner took meanwhile is discarded."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                with self._database.begin() as tx:
                    report = tx.jobs.commit(session_id, outcomes, packs=packs)
                break
            except Conflict:  # a collector took the pack: this batch was very late
                log.warning("a pack was collected before its commit; its jobs are given back")
                outcomes, packs = [_released(one.id, one.epoch) for one in outcomes], ()
                continue
            except TROUBLE as trouble:
                self._gate.trip(trouble)
            if self.hurry.wait(pause_s):
                log.warning("a batch could not be committed before the stop; it is run again")
                return False
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        if report.lost:
            log.warning("%d results came too late and were discarded", len(report.lost))
        self._rate.add(len(report.settled))
        return True


def _by_tenant(
    batch: Batch, results: dict[str, bytes]
) -> dict[str, list[tuple[str, int, bool, bytes]]]:
    """(id, epoch, entered the device, result) of those that have one, by tenant."""
    groups: dict[str, list[tuple[str, int, bool, bytes]]] = {}
    for work in batch.works:
        data = results.get(work.job.id)
        if data is not None:
            group = groups.setdefault(work.job.tenant, [])
            group.append((work.job.id, work.job.epoch, work.entered_device, data))
    return groups


def _released(job_id: str, epoch: int) -> Outcome:
    return Outcome(job_id, epoch, Verdict.RELEASED, False)


def _fault(work: Work) -> Outcome:
    job = work.job
    error = JobError("internal_error", "the answer could not be stored", job.attempts + 1)
    return Outcome(job.id, job.epoch, Verdict.RETRY, True, error=error, retry_in_ms=5_000)
