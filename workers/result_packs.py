"""The result of one job that has a pack to itself, as of those that run beside the batches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from storage.clock import Clock, random_bits
from storage.database import Database
from storage.objects import Objects
from storage.objects.packs import PackWriter, pack_key, retention_day
from storage.records.errors import Conflict
from storage.records.ids import uuid7
from storage.records.jobs import ClaimedJob, Millis, PackSlice
from storage.records.packs import NewPack, PackKind, PackSummary

log = logging.getLogger(__name__)
T = TypeVar("T")


class ResultKit(Protocol):
    """What either side of a process has."""

    @property
    def database(self) -> Database: ...
    @property
    def objects(self) -> Objects: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def retention_days(self) -> int: ...

    def patiently(self, call: Callable[[], T], still: Callable[[], bool]) -> T:
        """See ``Patience``."""
        ...


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


def settle_with(
    kit: ResultKit,
    job: ClaimedJob,
    data: bytes,
    still: Callable[[], bool],
    commit: Callable[[ResultPack], T],
) -> T:
    """What the commit returns once the result is put; all of it takes as long as storage does.

    A pack that was opened an hour ago is a collector's. So when the put or the commit had to wait
    for so long, the result is put again, into another one. ``Stopped`` when it is not ours.
    """
    while True:
        pack = result_pack(job, data, kit.clock.now_ms(), kit.retention_days)
        put_result(kit, pack, still)
        try:
            return kit.patiently(partial(commit, pack), still)
        except Conflict as late:
            if late.stable_code != "pack_not_writable":
                raise
            log.warning("the result of job %s is put again: its pack was open too long", job.id)


def put_result(kit: ResultKit, pack: ResultPack, still: Callable[[], bool]) -> None:
    """Open it in SQL, then put it; both as long as it takes. ``Stopped`` when it is not ours."""

    def open_pack() -> None:
        with kit.database.begin() as tx:
            if tx.packs.get(pack.new.id) is None:
                tx.packs.open(pack.new)

    kit.patiently(open_pack, still)
    kit.patiently(lambda: kit.objects.put(pack.new.key, pack.body), still)
