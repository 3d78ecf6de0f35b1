"""Short words for bulk runs in tests of the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storage.database import Database
from storage.records.bulk import (
    BulkFormat,
    ClaimedShard,
    NewPart,
    Plan,
    PlannedFile,
    ShardPlan,
    ShardState,
)
from storage.records.jobs import BULK_PRIORITY, JobKind
from tests.support.database import ALICE, POOL, claim, new_jobs, open_session


@dataclass(frozen=True)
class Owned:
    """A run and whoever owns it."""

    job_id: str
    session_id: str
    epoch: int


def plan_of(shards: Sequence[ShardPlan]) -> Plan:
    """A plan that these shards may belong to."""
    files = [
        PlannedFile(
            f"s3://in/{file}.parquet",
            BulkFormat.PARQUET,
            size_bytes=1_000,
            rows=stop,
            stop=stop,
            digest="e",
        )
        for file in sorted({one.file for one in shards})
        for stop in [max(one.stop for one in shards if one.file == file)]
    ]
    rows = sum(one.rows or 0 for one in files)
    return Plan(tuple(files), ("x", "y"), "s3://out/run", rows, {"seen": 1})


def cut(count: int, each: int = 10, file: int = 0) -> list[ShardPlan]:
    """``count`` shards of one file, ``each`` positions long."""
    return [ShardPlan(number, file, number * each, (number + 1) * each) for number in range(count)]


def submit_runs(
    database: Database, tenant: str = ALICE, count: int = 1, **fields: object
) -> list[str]:
    """Bulk jobs with their runs; their ids."""
    plain = {"kind": JobKind.BULK, "priority": BULK_PRIORITY, "max_attempts": 1}
    jobs = new_jobs(count, **plain | fields)
    with database.begin() as tx:
        tx.jobs.submit(tenant, jobs)
        tx.bulk.create(tenant, jobs)
    return [job.id for job in jobs]


def own(database: Database, job_id: str, session_id: str | None = None) -> Owned:
    """Claim the job of a run."""
    session_id = session_id or open_session(database, lease_ttl_ms=10**9)
    (job,) = claim(database, session_id, [job_id])
    return Owned(job_id, session_id, job.epoch)


def planned(
    database: Database,
    shards: Sequence[ShardPlan],
    tenant: str = ALICE,
    **fields: object,
) -> Owned:
    """A run that is owned and planned."""
    (job_id,) = submit_runs(database, tenant, **fields)
    owned = own(database, job_id)
    with database.begin() as tx:
        assert tx.bulk.plan(job_id, owned.session_id, owned.epoch, plan_of(shards), shards)
    return owned


def take(database: Database, session_id: str, pool: str = POOL) -> ClaimedShard | None:
    with database.begin() as tx:
        return tx.bulk.claim(session_id, pool)


def must_take(database: Database, session_id: str, pool: str = POOL) -> ClaimedShard:
    shard = take(database, session_id, pool)
    assert shard is not None
    return shard


def part(shard: ClaimedShard, start: int | None = None, stop: int | None = None) -> NewPart:
    """All of what is left of a shard, or a range of it."""
    start = shard.start if start is None else start
    stop = shard.stop if stop is None else stop
    return NewPart(
        start,
        stop,
        rows=stop - start,
        failed=0,
        size_bytes=10 * (stop - start),
        key=f"part-{shard.number:05}-{shard.epoch:03}-{start}.parquet",
        digest="d" * 64,
        device_ms=stop - start,
    )


def commit(
    database: Database,
    session_id: str,
    shard: ClaimedShard,
    made: NewPart,
    then: ShardState = ShardState.DONE,
) -> bool:
    with database.begin() as tx:
        return tx.bulk.commit(session_id, shard, made, then)
