"""From waiting ids to claimed jobs: one transaction for ids of several versions.

A claim is not flushed to disk: one that a crash of the database loses leaves queued jobs, and a
worker whose commit finds that they are not its own. Whoever was not claimed (terminal, running
elsewhere, unknown, not due) needs nothing more from this process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from storage.clock import Clock
from storage.database import Database
from storage.queue.lanes import Lane
from storage.records.bulk import is_bulk_payload
from storage.records.jobs import ClaimedJob
from storage.records.training import is_training_payload
from workers.inference.batch import Work
from workers.inference.credit import Credit
from workers.inference.gate import TROUBLE, Gate
from workers.inference.intake import Intake, Taken
from workers.inference.meters import Meters
from workers.inference.pack_stock import PackStock
from workers.inference.ready import Ready
from workers.inference.session import SessionKeeper
from workers.inference.versions import Lease, Standing, Versions
from workers.inference.waiting import Line

log = logging.getLogger(__name__)


Adopt: TypeAlias = Callable[[ClaimedJob, str], None]
"""Told of a claimed bulk job, and the session it is claimed under: it is theirs from now on."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Jobs of this process that have yet to be decoded, and the models they are for."""

    works: list[Work]
    leases: dict[str, Lease]


class Claimer:
    """Runs on a claim thread for each lane; ``give_back`` on any."""

    def __init__(
        self,
        database: Database,
        intake: Intake,
        versions: Versions,
        sessions: SessionKeeper,
        gate: Gate,
        clock: Clock,
        credit: Credit,
        ready: Ready,
        stock: PackStock,
        meters: Meters,
        *,
        max_batch: int,
        wait_patience_s: float,
    ) -> None:
        self._database, self._intake, self._versions = database, intake, versions
        self._sessions, self._gate, self._clock = sessions, gate, clock
        self._credit, self._ready = credit, ready
        self._stock, self._meters = stock, meters
        self._max_batch, self._wait_patience_s = max_batch, wait_patience_s
        self.adopt: Adopt | None = None  # whoever looks after bulk jobs

    def next(self, lane: Lane, timeout_s: float) -> Claimed | None:
        """Jobs of a lane to decode, or None when there are none within the time."""
        if not self._gate.wait_open(timeout_s):
            return None
        session_id = self._sessions.wait_current(timeout_s)
        if session_id is None:
            return None
        self._ask_for_versions()
        taken = self._intake.take(lane, self._max_batch, self._room, timeout_s)
        return None if taken is None else self._claim(session_id, taken)

    def give_back(self, works: Sequence[Work]) -> None:
        """Claimed, but they shall not run: back to the backlog, nothing spent."""
        if not works:
            return
        closing = self._intake.detach([work.job.id for work in works])
        for work in works:
            self._credit.claimed(work.line, -1)
        claims: dict[str, list[tuple[str, int]]] = {}
        for work in works:
            claims.setdefault(work.session_id, []).append((work.job.id, work.job.epoch))
        try:
            with self._database.begin() as tx:
                for session_id, pairs in claims.items():
                    tx.jobs.release(session_id, pairs)
        except Exception as trouble:
            self.trouble(trouble)
            for session_id in claims:
                self._sessions.retire(session_id)  # the reaper gives them back then
        closing.settle()

    def trouble(self, trouble: Exception) -> None:
        """Whatever goes wrong on the way in blames no item; the gate keeps it from going round
        fast."""
        if not isinstance(trouble, TROUBLE):
            log.error("claiming failed: %s", type(trouble).__name__, exc_info=trouble)
        self._gate.trip(trouble)

    def _room(self, line: Line) -> int:
        if not self._gate.is_open or not self._versions.is_loaded(line.version_id):
            return 0
        if line.lane is Lane.BULK:
            if self._credit.bulk_out and self._ready.online_seen():
                return 0
            most = self._ready.bulk_cap(line.version_id)
        else:
            most = self._ready.claim_most(line.version_id)
        return self._credit.room(line, most)

    def _ask_for_versions(self) -> None:
        self._intake.let_go_older_than(self._wait_patience_s)
        for version_id in self._intake.waiting_versions():
            standing = self._versions.standing(version_id)
            if standing is Standing.LOADED:
                continue
            if standing is Standing.BROKEN:
                self._intake.let_go(version_id)
                self._versions.reconsider(version_id)
            elif standing is Standing.NOBODYS:
                self._intake.let_go(version_id)
                self._versions.forget(version_id)
            else:
                self._versions.want(version_id)

    def _claim(self, session_id: str, taken: Taken) -> Claimed | None:
        leases: dict[str, Lease] = {}
        for line, ids in taken.parts:
            self._credit.spend(line, len(ids))
            if line.version_id not in leases:
                lease = self._versions.acquire(line.version_id)
                if lease is not None:
                    leases[line.version_id] = lease
        commits = False
        began_s = self._clock.monotonic_s()
        try:
            with self._database.begin(lasting=False) as tx:
                jobs = tx.jobs.claim(session_id, taken.ids)
                runs, items = _runs_apart(jobs)
                works, strange = _sorted_out(session_id, taken, items, leases, began_s)
                if self.adopt is None:
                    runs, strange = [], strange + runs
                if strange:
                    tx.jobs.release(session_id, [(job.id, job.epoch) for job in strange])
                commits = True
        except Exception as trouble:
            self.trouble(trouble)
            if commits:  # it may have gone through or not: nobody here knows the epochs
                self._sessions.retire(session_id)
            self._undo(taken, leases)
            return None
        if not jobs and not self._sessions.is_live(session_id):
            self._undo(taken, leases)
            return None
        self._note(taken, works, self._clock.monotonic_s() - began_s)
        for job in runs:
            assert self.adopt is not None
            self.adopt(job, session_id)
        if not works:
            _release(leases.values())
            return None
        self._stock.foresee({work.job.tenant for work in works})
        return Claimed(works, leases)

    def _note(self, taken: Taken, works: Sequence[Work], seconds: float) -> None:
        """Settle whoever was not claimed, and count the others."""
        mine = {work.job.id for work in works}
        for line, ids in taken.parts:
            here = sum(job_id in mine for job_id in ids)
            self._credit.spend(line, here - len(ids))
            self._credit.claimed(line, here)
            if here:
                share_s = seconds * here / len(mine)
                self._meters.stage(line.version_id, "claim", here, share_s)
                self._ready.observe_stage(line.version_id, "claim", here, share_s)
        gone = [job_id for job_id in taken.ids if job_id not in mine]
        if gone:
            self._intake.settle(gone)

    def _undo(self, taken: Taken, leases: dict[str, Lease]) -> None:
        _release(leases.values())
        for line, ids in taken.parts:
            self._credit.spend(line, -len(ids))
        self._intake.put_back(taken)


def _runs_apart(jobs: Sequence[ClaimedJob]) -> tuple[list[ClaimedJob], Sequence[ClaimedJob]]:
    """Bulk jobs, which bring no rows of their own; and all others."""
    runs = [job for job in jobs if is_bulk_payload(job.payload)]
    return runs, [job for job in jobs if job not in runs] if runs else jobs


def _sorted_out(
    session_id: str,
    taken: Taken,
    jobs: Sequence[ClaimedJob],
    leases: dict[str, Lease],
    claimed_s: float,
) -> tuple[list[Work], list[ClaimedJob]]:
    """What can run, and what cannot: its model left meanwhile, or the message that brought it
    named another version than the job has, or it is a training, which no device takes."""
    lines = {job_id: line for line, ids in taken.parts for job_id in ids}
    works, strange = [], []
    for job in jobs:
        line = lines[job.id]
        is_of_line = job.version_id == line.version_id and job.version_id in leases
        if is_of_line and not is_training_payload(job.payload):
            works.append(Work(job, session_id, line, claimed_s))
        else:
            strange.append(job)
    return works, strange


def _release(leases: Iterable[Lease]) -> None:
    for lease in leases:
        lease.release()
