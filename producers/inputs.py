"""Where inputs are kept: small ones in SQL with the job, large ones together in one input pack.

A request makes at most one pack, put before the transaction that writes its jobs: the object
store's trouble is known before anything is stored, and no row ever points at bytes that are not
there. If the transaction then fails, the pack stays ``writing`` and is collected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from storage.database import Database, Transaction
from storage.objects import Objects
from storage.objects.packs import PackWriter, pack_key, retention_day
from storage.records.errors import ObjectsUnavailable
from storage.records.jobs import BULK_KINDS, JobKind, Millis, NewJob
from storage.records.packs import NewPack, PackKind, PackSummary


@dataclass(frozen=True, slots=True)
class Placed:
    """Jobs whose payloads have their final place."""

    jobs: Sequence[NewJob]
    pack: PackSummary | None = None

    def publish(self, tx: Transaction) -> None:
        """Make the pack live, in the transaction that writes the jobs."""
        if self.pack is not None and not tx.packs.publish(self.pack):
            raise ObjectsUnavailable("storing the inputs took too long; send the request again")


class InputStore:
    """Shared by the submit threads."""

    def __init__(
        self, database: Database, objects: Objects, *, inline_bytes: int, keep_days: int
    ) -> None:
        self._database = database
        self._objects = objects
        self._inline_bytes = inline_bytes
        self._keep_days = keep_days

    def place(self, tenant: str, jobs: Sequence[NewJob], pack_id: str, now: Millis) -> Placed:
        """Put what is too large for SQL, under ``pack_id`` if there is any."""
        large = {job.id for job in jobs if self.is_large(job)}
        if not large:
            return Placed(jobs)
        writer = PackWriter(pack_id)
        placed = [
            replace(job, payload=writer.add(job.id, job.payload))
            if job.id in large and isinstance(job.payload, bytes)
            else job
            for job in jobs
        ]
        data, summary = writer.finish()
        day = retention_day(now, self._keep_days)
        key = pack_key(PackKind.INPUT, tenant, day, pack_id)
        with self._database.begin() as tx:
            tx.packs.open(NewPack(id=pack_id, tenant=tenant, kind=PackKind.INPUT, key=key))
        self._objects.put(key, data)
        return Placed(placed, summary)

    def is_large(self, job: NewJob) -> bool:
        """Whether its input is kept in a pack, once it is placed. A bulk job's never is: it is
        small, and whoever looks at a run wants it without the object store. So it is of evaluations
        and trainings."""
        if job.kind in BULK_KINDS or job.kind is JobKind.TRAINING:
            return False
        return isinstance(job.payload, bytes) and len(job.payload) > self._inline_bytes
