"""From waiting ids to a batch that can run: claim, bring the inputs, decode item by item.

One claim is one transaction; it also opens the rows of the packs that the results will go to,
which saves a transaction per batch. Whoever was not claimed (terminal, running elsewhere,
unknown, not due) needs nothing more from this process.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from storage.clock import Clock, random_bits
from storage.database import Database
from storage.objects.packs import pack_key, retention_day
from storage.records.errors import ItemError
from storage.records.ids import uuid7
from storage.records.jobs import ClaimedJob
from storage.records.packs import NewPack, PackKind
from workers.inference.batch import Batch, Work
from workers.inference.batcher import split
from workers.inference.decode import decode_input
from workers.inference.gate import TROUBLE, Gate
from workers.inference.intake import Intake, Taken
from workers.inference.payloads import Payload, Payloads
from workers.inference.refs import RefReader, RefUnavailable
from workers.inference.session import SessionKeeper
from workers.inference.versions import Lease, Standing, Versions

log = logging.getLogger(__name__)

_POSTPONE_MS = 30_000  # for a job whose reference lies in a storage that does not answer


class Claimer:
    """Runs on the claim thread."""

    def __init__(
        self,
        database: Database,
        intake: Intake,
        versions: Versions,
        sessions: SessionKeeper,
        gate: Gate,
        clock: Clock,
        payloads: Payloads,
        refs: RefReader,
        *,
        max_batch: int,
        max_claim_bytes: int,
        wait_patience_s: float,
        retention_days: int,
    ) -> None:
        self._database, self._intake, self._versions = database, intake, versions
        self._sessions, self._gate, self._clock = sessions, gate, clock
        self._payloads, self._refs = payloads, refs
        self._max_batch, self._max_bytes = max_batch, max_claim_bytes
        self._wait_patience_s, self._retention_days = wait_patience_s, retention_days
        self._ready: deque[Batch] = deque()  # of one claim: too many bytes, or suspects

    def next(self, timeout_s: float) -> Batch | None:
        """A batch to run, or None when there is none within the time."""
        if not self._ready:
            if not self._gate.wait_open(timeout_s):
                return None
            session_id = self._sessions.wait_current(timeout_s)
            if session_id is None:
                return None
            self._ask_for_versions()
            taken = self._intake.take(self._max_batch, self._versions.is_loaded, timeout_s)
            if taken is not None:
                self._claim(session_id, taken)
        while self._ready:
            batch = self._ready.popleft()
            if self._prepare(batch):
                return batch
        return None

    def give_back(self, batch: Batch) -> None:
        """Claimed, but it shall not run: back to the backlog, nothing spent."""
        batch.lease.release()
        closing = self._intake.detach(batch.ids)
        try:
            with self._database.begin() as tx:
                tx.jobs.release(batch.session_id, batch.claims)
        except Exception as trouble:
            self._trouble(trouble)
            self._sessions.retire(batch.session_id)  # the reaper gives them back then
        closing.settle()

    def give_back_all(self) -> None:
        """What is claimed and waits in here."""
        while self._ready:
            self.give_back(self._ready.popleft())

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

    def _claim(self, session_id: str, taken: Taken) -> None:
        lease = self._versions.acquire(taken.version_id)
        if lease is None:
            self._intake.put_back(taken)
            return
        commits = False
        try:
            with self._database.begin() as tx:
                claimed = tx.jobs.claim(session_id, taken.ids)
                fitting = [job for job in claimed if job.version_id == taken.version_id]
                strange = [job for job in claimed if job.version_id != taken.version_id]
                if strange:  # a message that names another version than the job has
                    tx.jobs.release(session_id, [(job.id, job.epoch) for job in strange])
                day = retention_day(tx.now(), self._retention_days)
                batches = [
                    (jobs, {tenant: self._new_pack(tenant, day) for tenant in _tenants(jobs)})
                    for jobs in split(fitting, max_batch=self._max_batch, max_bytes=self._max_bytes)
                ]
                for _, packs in batches:
                    for pack in packs.values():
                        tx.packs.open(pack)
                commits = True
        except Exception as trouble:
            lease.release()
            self._trouble(trouble)
            if commits:  # it may have gone through or not: nobody here knows the epochs
                self._sessions.retire(session_id)
            self._intake.put_back(taken)
            return
        if not claimed and not self._sessions.is_live(session_id):
            lease.release()
            self._intake.put_back(taken)
            return
        self._queue(session_id, lease, batches)
        kept = {job.id for job in fitting}
        self._intake.settle([job_id for job_id in taken.ids if job_id not in kept])

    def _queue(
        self,
        session_id: str,
        lease: Lease,
        batches: list[tuple[list[ClaimedJob], dict[str, NewPack]]],
    ) -> None:
        for jobs, packs in batches:
            works = [Work(job) for job in jobs]
            self._ready.append(Batch(session_id, lease.share(), works, packs))
        lease.release()

    def _new_pack(self, tenant: str, day: str) -> NewPack:
        pack_id = uuid7(self._clock.now_ms(), random_bits())
        key = pack_key(PackKind.RESULT, tenant, day, pack_id)
        return NewPack(pack_id, tenant, PackKind.RESULT, key)

    def _prepare(self, batch: Batch) -> bool:
        """Bring and decode the inputs. Trouble of the storage gives the batch back."""
        try:
            payloads = self._payloads.fetch([work.job for work in batch.works])
            for work in batch.works:
                self._decode(batch, work, payloads[work.job.id])
        except Exception as trouble:
            self._trouble(trouble)
            self.give_back(batch)
            return False
        return True

    def _trouble(self, trouble: Exception) -> None:
        """Whatever goes wrong in here blames no item; the gate keeps it from going round fast."""
        if not isinstance(trouble, TROUBLE):
            log.error("claiming failed: %s", type(trouble).__name__, exc_info=trouble)
        self._gate.trip(trouble)

    def _decode(self, batch: Batch, work: Work, payload: Payload) -> None:
        if isinstance(payload, ItemError):
            work.refused = payload
            return
        try:
            decoded = decode_input(
                batch.lease.model.signature,
                payload,
                fetch_ref=self._refs.for_tenant(work.job.tenant),
            )
        except ItemError as error:
            work.refused = error
            return
        except RefUnavailable as trouble:
            log.warning("a listed prefix does not answer: %s", trouble)
            work.postpone_ms = _POSTPONE_MS
            return
        except TROUBLE:
            raise
        except Exception as fault:
            log.error("an input could not be decoded: %s", type(fault).__name__, exc_info=True)
            work.refused = ItemError("the input could not be read", code="undecodable")
            return
        work.rows, work.is_list = decoded.rows, decoded.is_list


def _tenants(jobs: Sequence[ClaimedJob]) -> dict[str, None]:
    return dict.fromkeys(job.tenant for job in jobs)
