"""The result of one job that has a pack to itself, as of those that run beside the batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from storage.clock import random_bits
from storage.database import Database
from storage.objects import Objects
from storage.objects.packs import PackWriter, pack_key, retention_day
from storage.records.ids import uuid7
from storage.records.jobs import ClaimedJob, Millis, PackSlice
from storage.records.packs import NewPack, PackKind, PackSummary
from workers.patience import Patience


@dataclass(frozen=True, slots=True)
class ResultPack:
    """To be opened in SQL, put, and published by the job's commit, in this order."""

    new: NewPack
    body: bytes
    slice: PackSlice
    summary: PackSummary


def result_pack(job: ClaimedJob, data: bytes, now_ms: Millis, retention_days: int) -> ResultPack:
    """A pack with this result alone."""
    pack_id = uuid7(now_ms, random_bits())
    key = pack_key(PackKind.RESULT, job.tenant, retention_day(now_ms, retention_days), pack_id)
    writer = PackWriter(pack_id)
    place = writer.add(job.id, data)
    body, summary = writer.finish()
    return ResultPack(NewPack(pack_id, job.tenant, PackKind.RESULT, key), body, place, summary)


def put_result(
    kit: Patience, database: Database, objects: Objects, pack: ResultPack, still: Callable[[], bool]
) -> None:
    """Open it in SQL, then put it; both as long as it takes. ``Stopped`` when it is not ours."""

    def open_pack() -> None:
        with database.begin() as tx:
            if tx.packs.get(pack.new.id) is None:
                tx.packs.open(pack.new)

    kit.patiently(open_pack, still)
    kit.patiently(lambda: objects.put(pack.new.key, pack.body), still)
