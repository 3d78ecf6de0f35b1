"""The end of a batch: one pack per tenant, one commit, then the acknowledgements.

The pack's row exists (``writing``) before its object is put and goes live in the commit's
transaction, so no object is ever unknown to SQL and no result is ever seen before its bytes are
stored. Of a few jobs the pack is put while the commit is made ready (``putting``). Trouble of the
storage blames nobody: the put is tried again while there is patience, then the jobs are given back
unspent; the commit is tried until the database answers.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.objects.packs import PackWriter
from storage.queue.lanes import DEVICE_LANES
from storage.records.errors import Conflict
from storage.records.jobs import JobError, JobState, Outcome, PackSlice, Verdict
from storage.records.packs import PackSummary
from workers.inference.answers import answer
from workers.inference.batch import Batch, Work
from workers.inference.credit import Credit
from workers.inference.gate import TROUBLE, Gate
from workers.inference.intake import Intake
from workers.inference.meters import Meters
from workers.inference.pace import Pace
from workers.inference.pack_stock import PackStock
from workers.inference.putting import NotStored, Putters, Putting
from workers.inference.ready import Ready
from workers.inference.session import Rate

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 2.0
_FEW = 4  # jobs of a batch, up to which their pack is put beside their commit

T = TypeVar("T")
Announce = Callable[[Sequence[str]], None]


@dataclass(slots=True)
class Share:
    """What one session says of its jobs; nearly always there is one session."""

    outcomes: list[Outcome] = field(default_factory=list)
    packs: list[PackSummary] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stored:
    """A batch whose results are stored, or given up: what its commit will say."""

    works: list[Work]
    shares: Mapping[str, Share]  # by session
    putting: Putting | None = None  # still on its way


class Finisher:
    """``store`` runs on one thread and ``commit`` on the next, for each class: they mostly wait
    for others."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        gate: Gate,
        clock: Clock,
        rate: Rate,
        *,
        intake: Intake,
        credit: Credit,
        stock: PackStock,
        ready: Ready,
        meters: Meters,
        announce: Announce | None,
        put_patience_s: float,
        retry_back_off_s: float,
    ) -> None:
        self._database, self._objects, self._gate = database, objects, gate
        self._clock, self._rate, self._intake = clock, rate, intake
        self._credit, self._stock, self._ready = credit, stock, ready
        self._meters, self._announce = meters, announce
        self._pace = Pace()
        self._putters = Putters(objects.put, len(DEVICE_LANES))
        self._put_patience_s, self._retry_back_off_s = put_patience_s, retry_back_off_s
        self.hurry = threading.Event()  # a stop is under way: one try, then give back

    def store(self, batch: Batch) -> Stored:
        """Encode, and put one pack per tenant; says what is to be committed."""
        began_s = self._clock.monotonic_s()
        shares: dict[str, Share] = {}
        putting: Putting | None = None
        try:
            answers = answer(batch, retry_back_off_s=self._retry_back_off_s)
            said = {outcome.id: outcome for outcome in answers.outcomes}
            for work in batch.works:
                if work.job.id in said:
                    _share(shares, work).outcomes.append(said[work.job.id])
            groups = _by_owner(batch, answers.results)
            beside = len(groups) == 1 and len(batch.works) <= _FEW
            for group in groups:
                share = _share(shares, group[0])
                putting = self._store(group, answers.results, share, beside=beside)
        except Exception as fault:
            # A fault of ours. It spends attempts, so that it cannot go round for ever.
            log.error("a batch could not be finished: %s", type(fault).__name__, exc_info=fault)
            shares = _faults(batch.works)
        finally:
            batch.release()
        self._note("store", batch.works, began_s)
        return Stored(batch.works, shares, putting)

    def commit(self, stored: Stored) -> None:
        """One transaction, then the settling. Returns when the jobs are somebody's again."""
        began_s = self._clock.monotonic_s()
        closing = self._intake.detach([work.job.id for work in stored.works])
        try:
            settled = self._commit(stored)
        except Exception:
            closing.settle()  # the caller gives up the session, and its reaper the jobs
            raise
        finally:
            self._credit_back(stored.works)
        if settled is None:
            return
        if self._announce is not None:
            self._announce(list(settled))
        closing.settle()
        self._note("commit", stored.works, began_s)
        self._rate.add(len(settled))
        self._learn_pace(stored.works)
        counts = Counter(
            (work.job.version_id, work.job.tenant, state)
            for work in stored.works
            if (state := settled.get(work.job.id)) is not None
        )
        for (version_id, tenant, state), count in counts.items():
            self._meters.settled(version_id, tenant, state, count)

    def _credit_back(self, works: Sequence[Work]) -> None:
        bulk_before = self._credit.bulk_out
        for work in works:
            self._credit.claimed(work.line, -1)
        if bulk_before and not self._credit.bulk_out:
            self._intake.poke()

    def _learn_pace(self, works: Sequence[Work]) -> None:
        version_id = works[0].job.version_id
        more = version_id in self._intake.waiting_versions()  # another one may have to be loaded
        seconds = self._pace.finished(self._clock.monotonic_s(), more=more)
        if seconds is not None and works[0].entered_device:
            self._ready.observe_path(version_id, len(works), seconds)

    def _note(self, stage: str, works: Sequence[Work], began_s: float) -> None:
        seconds = self._clock.monotonic_s() - began_s
        version_id = works[0].job.version_id
        self._meters.stage(version_id, stage, len(works), seconds)
        if works[0].entered_device:
            self._ready.observe_stage(version_id, stage, len(works), seconds)

    def _store(
        self, group: Sequence[Work], results: Mapping[str, bytes], share: Share, *, beside: bool
    ) -> Putting | None:
        """Put one tenant's results, or begin to, and add their verdicts."""
        pack = self._patiently(lambda: self._stock.take(group[0].job.tenant))
        if pack is not None:
            writer = PackWriter(pack.id)
            done = []
            for work in group:
                done.append(_succeeded(work, writer.add(work.job.id, results[work.job.id])))
            data, summary = writer.finish()
            putting = None
            if beside and not self._database.has_one_writer:
                putting = self._putters.begin(pack.key, data)
            if putting or self._is_done(lambda: self._objects.put(pack.key, data)):
                share.packs.append(summary)
                share.outcomes += done
                return putting
        log.warning("a batch's results could not be stored; its jobs are given back")
        share.outcomes += [_released(work.job.id, work.job.epoch) for work in group]
        return None

    def _is_done(self, call: Callable[[], None]) -> bool:
        """Whether it was, within the patience there is."""

        def done() -> bool:
            call()
            return True

        return bool(self._patiently(done))

    def _patiently(self, call: Callable[[], T]) -> T | None:
        """What the call returns once the storage answers; None when it takes too long. Batches
        that wait behind each other have one patience: another worker may have better luck."""
        give_up_s = self._clock.monotonic_s() + self._put_patience_s - self._gate.closed_for_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return call()
            except TROUBLE as trouble:
                self._gate.trip(trouble)
            if self._clock.monotonic_s() + pause_s > give_up_s or self.hurry.wait(pause_s):
                return None
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    def _commit(self, stored: Stored) -> dict[str, JobState] | None:
        """Commit until the database answers; None when a stop came first. What another owner
        took meanwhile is discarded."""
        shares, putting = stored.shares, stored.putting
        pause_s = _FIRST_PAUSE_S
        while True:
            settled: dict[str, JobState] = {}
            lost = 0
            try:
                with self._database.begin() as tx:
                    for session_id, share in shares.items():
                        report = tx.jobs.commit(session_id, share.outcomes, packs=share.packs)
                        settled |= report.settled
                        lost += len(report.lost)
                    if putting is not None:
                        putting.require()
                break
            except NotStored:
                assert putting is not None
                shares, putting = self._put_late(stored, putting), None
                continue
            except Conflict:  # a collector took a pack: this batch was very late
                log.warning("a pack was collected before its commit; its jobs are given back")
                shares = {one: _given_back(share) for one, share in shares.items()}
                continue
            except TROUBLE as trouble:
                self._gate.trip(trouble)
            if self.hurry.wait(pause_s):
                log.warning("a batch could not be committed before the stop; it is run again")
                return None
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        if lost:
            log.warning("%d results came too late and were discarded", lost)
        return settled

    def _put_late(self, stored: Stored, putting: Putting) -> Mapping[str, Share]:
        """The transaction could not wait for it any longer: what is to be committed now."""
        try:
            if self._is_done(putting.finish):
                return stored.shares
        except Exception as fault:  # one of ours, as in ``store``
            log.error("a pack could not be put: %s", type(fault).__name__, exc_info=fault)
            return _faults(stored.works)
        log.warning("a batch's results could not be stored; its jobs are given back")
        return {one: _without_results(share) for one, share in stored.shares.items()}

    def close(self) -> None:
        """When nothing is stored any more."""
        self._putters.close()


def _share(shares: dict[str, Share], work: Work) -> Share:
    return shares.setdefault(work.session_id, Share())


def _by_owner(batch: Batch, results: Mapping[str, bytes]) -> list[list[Work]]:
    """Those that have a result, by session and tenant: each gets a pack of its own."""
    groups: dict[tuple[str, str], list[Work]] = {}
    for work in batch.works:
        if work.job.id in results:
            groups.setdefault((work.session_id, work.job.tenant), []).append(work)
    return list(groups.values())


def _succeeded(work: Work, result: PackSlice) -> Outcome:
    job = work.job
    return Outcome(job.id, job.epoch, Verdict.SUCCEEDED, work.entered_device, result=result)


def _released(job_id: str, epoch: int) -> Outcome:
    return Outcome(job_id, epoch, Verdict.RELEASED, False)


def _given_back(share: Share) -> Share:
    return Share([_released(one.id, one.epoch) for one in share.outcomes])


def _without_results(share: Share) -> Share:
    """The jobs whose results are not stored are given back; what failed has failed."""
    return Share(
        [
            _released(one.id, one.epoch) if one.verdict is Verdict.SUCCEEDED else one
            for one in share.outcomes
        ]
    )


def _faults(works: Sequence[Work]) -> dict[str, Share]:
    shares: dict[str, Share] = {}
    for work in works:
        _share(shares, work).outcomes.append(_fault(work))
    return shares


def _fault(work: Work) -> Outcome:
    job = work.job
    error = JobError("internal_error", "the answer could not be stored", job.attempts + 1)
    return Outcome(job.id, job.epoch, Verdict.RETRY, True, error=error, retry_in_ms=5_000)
