"""What the workers of a stack counted about themselves, out of their sessions' rows."""

from __future__ import annotations

import json

from storage.records.counts import STAGES, VersionCounts, WorkerCounts
from tests.bench.rig import one, rows
from tests.support.stack import FullStack
from tests.support.waiting import wait_until


def of_workers(stack: FullStack) -> VersionCounts:
    """The sum over all versions and sessions, once the rows hold all that was done."""

    def told() -> VersionCounts | None:
        counts = VersionCounts()
        for (stats,) in rows(stack.services, "SELECT stats FROM sessions WHERE stats IS NOT NULL"):
            counts.add(WorkerCounts.from_json(json.loads(stats)).all_versions())
        done = one(stack.services, "SELECT count(*) FROM ends")
        return counts if sum(counts.settled.values()) >= done else None

    # A worker writes them whenever it renews its lease.
    return wait_until(told, 30, what="the workers' counts", every_s=0.2)


def stages(before: VersionCounts, after: VersionCounts) -> list[list[str]]:
    """Time of the clock that each stage took per job, between two looks."""
    table = [["stage", "µs per job", "jobs at once"]]
    for name in STAGES:
        if name not in after.stages:
            continue
        then, was = after.stages[name], before.stages.get(name)
        jobs = then.jobs - (was.jobs if was else 0)
        batches = then.batches - (was.batches if was else 0)
        seconds = then.seconds - (was.seconds if was else 0.0)
        if jobs and batches:
            table.append([name, f"{seconds / jobs * 1e6:.1f}", f"{jobs / batches:.0f}"])
    return table


def learned_ms(stack: FullStack) -> list[list[str]]:
    """What a pass of each size takes, as the workers have learned it."""
    found = rows(
        stack.services, "SELECT shape, bucket, count, mean_s, p95_s FROM latency ORDER BY 1, 2"
    )
    table = [["shape", "rows", "passes", "mean ms", "p95 ms"]]
    for shape, size, passes, mean_s, p95_s in found:
        table.append([shape, size, passes, f"{mean_s * 1e3:.1f}", f"{p95_s * 1e3:.1f}"])
    return [[str(cell) for cell in row] for row in table]
