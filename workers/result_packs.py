"""The result of one job that has a pack to itself, as of those that run beside the batches."""

from __future__ import annotations

from dataclasses import dataclass

from storage.clock import random_bits
from storage.objects.packs import PackWriter, pack_key, retention_day
from storage.records.ids import uuid7
from storage.records.jobs import ClaimedJob, Millis, PackSlice
from storage.records.packs import NewPack, PackKind, PackSummary


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
