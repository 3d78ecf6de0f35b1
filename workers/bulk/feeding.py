"""Rows into the batcher's window, in blocks, and their answers back.

A block is as many rows as one pass had best take now: the window puts it behind all online work,
and another version's or tenant's turn comes between any two. No more than a few are under way, so
that a pause or a cancel takes hold with the pass that runs.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from storage.queue.lanes import Lane
from storage.records.bulk import ClaimedShard
from storage.records.errors import ItemError
from storage.records.jobs import BULK_PRIORITY, ClaimedJob, JobError, backlog_rank
from storage.records.models import ModelVersion
from storage.records.signatures import Signature
from workers.bulk.kit import Failed, Kit, Stopped
from workers.bulk.ports import Decoded, Positions
from workers.inference import shapes
from workers.inference.batch import Answered, Block, Work
from workers.inference.batching import BLOCKS, Candidate
from workers.inference.ports import Array, ModelBroken, Row
from workers.inference.versions import Lease, Standing
from workers.inference.waiting import Line

PASS_S = 0.5  # a block takes about so long at most, as far as is known
_LOAD_PATIENCE_S = 120.0
_TICK_S = 0.1


class Pending:
    """A block under way."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last  # among the good rows of its chunk
        self.answered: Answered | None = None
        self._done = threading.Event()

    def deliver(self, answered: Answered | None) -> None:
        """On the device's thread; None when it will not run here."""
        self.answered = answered
        self._done.set()

    def wait(self) -> Answered:
        """What became of it; ``Stopped`` when it did not run."""
        self._done.wait()
        if self.answered is None:
            raise Stopped
        return self.answered


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose rows they are."""

    shard: ClaimedShard
    session_id: str


class Feeder:
    """Sends one shard's rows; used by one thread."""

    def __init__(self, kit: Kit, sender: Sender, signature: Signature) -> None:
        self._kit, self._sender, self._signature = kit, sender, signature
        shard = sender.shard
        self._version_id = shard.version_id
        self._line = Line(shard.version_id, Lane.BULK)
        self._rank = backlog_rank(shard.created_at, shard.priority)
        self._job = ClaimedJob(
            id=shard.job_id,
            tenant=shard.tenant,
            epoch=shard.epoch,
            version_id=shard.version_id,
            priority=min(shard.priority, BULK_PRIORITY),
            attempts=0,
            max_attempts=1,
            created_at=shard.created_at,
            expires_at=0,
            run_deadline_at=0,
            payload=b"",
        )

    def block_rows(self, shape: str = shapes.FIXED) -> int:
        """How many rows the next block had best have.

        What one size took in a bad moment may stand for long, as it is not tried again: so a row
        counts as much as it does in the size where it is cheapest.
        """
        ready, version_id = self._kit.parts.ready, self._version_id
        sizes = [ready.bulk_cap(version_id)]
        while sizes[-1] > 1:
            sizes.append(sizes[-1] // 2)
        each_s = min(ready.estimate_s(version_id, shape, size) / size for size in sizes)
        return next((size for size in sizes if size * each_s <= PASS_S), 1)

    def send(
        self, decoded: Decoded, positions: Positions, first: int, last: int, *, alone: bool
    ) -> Pending:
        """Good rows ``first … last - 1`` of a chunk enter the window. ``positions`` are theirs.
        ``alone``: a suspect, that shares the device with nobody."""
        pending = Pending(first, last)
        lease = lease_of(self._kit, self._version_id)
        work, shape, cost = self._work(decoded, positions, pending)
        candidate = Candidate(
            job_id=self._job.id,
            tenant=self._job.tenant,
            version_id=self._version_id,
            shape=shape,
            rows=last - first,
            cost=cost,
            rank_ms=self._rank,
            bulk=True,
            latest_start_s=float("inf"),
            companions=1 if alone else BLOCKS,
            payload=work,
        )
        if not self._kit.parts.ready.add(lease, [candidate]):
            raise Stopped
        return pending

    def _work(
        self, decoded: Decoded, positions: Positions, pending: Pending
    ) -> tuple[Work, str, float]:
        signature, first, last = self._signature, pending.first, pending.last
        work = Work(self._job, self._sender.session_id, self._line, 0.0, is_list=True, credit=0)
        arrays: Mapping[str, Array] | None = None
        shape = shapes.FIXED
        if decoded.block is not None:
            arrays = {name: array[first:last] for name, array in decoded.block.items()}
            cost = (last - first) * shapes.cost_per_row(signature, shape)
            work.size_bytes = sum(array.nbytes for array in arrays.values())
        else:
            assert decoded.rows is not None
            rows: list[Row] = decoded.rows[first:last]
            work.rows = list(rows)
            shape, cost = shapes.shape_of(signature, rows), shapes.cost_of(signature, rows)
            work.size_bytes = sum(array.nbytes for row in rows for array in row.values())
        work.block = Block(self._sender.shard.number, positions, arrays, pending.deliver)
        return work, shape, cost


def lease_of(kit: Kit, version_id: str) -> Lease:
    """The model, loaded for it if need be. ``Failed`` when it is broken, ``Stopped`` when it is
    out of reach for long or this process stops."""
    versions = kit.parts.versions
    give_up_s = kit.clock.monotonic_s() + _LOAD_PATIENCE_S
    while True:
        lease = versions.acquire(version_id)
        if lease is not None:
            return lease
        standing = versions.standing(version_id)
        if standing in (Standing.BROKEN, Standing.NOBODYS):
            raise Failed(broken_model(kit, version_id))
        versions.want(version_id)
        if kit.clock.monotonic_s() > give_up_s or kit.hurry.wait(_TICK_S):
            raise Stopped


def signature_of(kit: Kit, version_id: str) -> Signature:
    """As the loaded model completed it; raises as ``lease_of``."""
    lease = lease_of(kit, version_id)
    try:
        return lease.model.signature
    finally:
        lease.release()


def broken_model(kit: Kit, version_id: str) -> ModelBroken:
    """What SQL says of a version that cannot be served."""
    with kit.database.read() as tx:
        version: ModelVersion | None = tx.models.by_id(version_id)
    says = version.error if version is not None and version.error else "there is no such version"
    return ModelBroken(f"the model cannot be served: {says}")


POISON = JobError("poison", "the device process died each time this row was on the device")
NO_ANSWER = ItemError("the model gave no answer for it", code="no_answer")
