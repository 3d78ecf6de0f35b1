"""``kill -9`` of the device process in the middle of a bulk job: how many rows are scored again?

Sessions tell what their workers' devices computed whenever they renew their lease, here four times
a second. What the dead one had computed beyond its last part is done again by whoever comes after
it; what it computed behind its last word is taken for as much as the whole run's rate allows.
"""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np
import pyarrow as pa

from storage.records.counts import WorkerCounts
from tests.bench import bulk_digits
from tests.bench.bulk_jobs import Bucket, bulk_stack, device_pid
from tests.bench.report import Figure, Goal
from tests.bench.rig import Rig, WrongAnswers, one, push_model, rows
from tests.support.stack import FullStack
from tests.support.waiting import wait_until

NAME = "bulk-kill"
GOAL = Goal(1)
ROWS, AT_SHARE = 200_000, 0.4
TELL_EVERY_S = 0.25
TOLERANCE = 1e-5  # the composition of batches moves the last bits
LARGEST_SHARD = """
    SELECT max(rows)::bigint FROM (
        SELECT sum(rows) AS rows FROM bulk_parts WHERE job_id = %s GROUP BY number
    ) AS s
"""
ENVIRONMENT = {"FOREBAY_WORKER_RENEW_EVERY_S": str(TELL_EVERY_S)}


def measure(rig: Rig) -> list[Figure]:
    """One run in peace, one with a death in it; in shards of the usual size."""
    total = 50_000 if rig.quick else ROWS
    folder = rig.folder / NAME
    folder.mkdir()
    archive = bulk_digits.build(folder, rig.digits.model)
    bucket = Bucket(rig)
    table = bulk_digits.table(np.asarray(bulk_digits.pixels(bulk_digits.DRAWN)), total)
    uri = bucket.put_parquet("digits.parquet", table, bulk_digits.GROUP_ROWS)
    with bulk_stack(rig, bucket, ENVIRONMENT) as stack, stack.caller() as caller:
        push_model(caller, NAME, archive, bulk_digits.OPTIONS)
        bucket.score(caller, NAME, uri)
        peaceful = bucket.score(caller, NAME, uri)
        time.sleep(4 * TELL_EVERY_S)
        before = _computed(stack)
        job_id, base = bucket.submit(caller, NAME, uri)
        wait_until(
            lambda: _so_far(stack, job_id) >= AT_SHARE * total,
            300,
            what="the middle of the run",
            every_s=0.02,
        )
        os.kill(device_pid(stack), signal.SIGKILL)
        committed = _so_far(stack, job_id)
        scored = bucket.finish(caller, job_id, base)
        time.sleep(4 * TELL_EVERY_S)
        told = _computed(stack) - before - total
        largest = one(stack.services, LARGEST_SHARD, job_id)
        _same(bucket.outputs(peaceful), bucket.outputs(scored), total)
    unseen = TELL_EVERY_S * total / peaceful.seconds
    again = max(0.0, told + unseen)
    detail = {
        "rows_again_at_most": round(again),
        "rows_again_as_told": told,
        "rows_that_it_may_not_have_told": round(unseen),
        "rows_committed_at_the_kill": committed,
        "rows": total,
        "rows_of_the_largest_shard": largest,
        "seconds": round(scored.seconds, 1),
        "seconds_in_peace": round(peaceful.seconds, 1),
        "same_ids_and_values_within": TOLERANCE,
    }
    name = "bulk, kill -9 in the middle: rows scored again ÷ rows of a shard"
    return [GOAL.of(NAME, name, round(again / largest, 3), "shards", detail=detail)]


def _so_far(stack: FullStack, job_id: str) -> int:
    """Rows in committed parts."""
    return int(
        one(
            stack.services,
            "SELECT coalesce(sum(rows), 0) FROM bulk_parts WHERE job_id = %s",
            job_id,
        )
    )


def _computed(stack: FullStack) -> int:
    """Rows of bulk passes that all sessions have told of."""
    counts = [
        WorkerCounts.from_json(json.loads(stats)).all_versions()
        for (stats,) in rows(stack.services, "SELECT stats FROM sessions WHERE stats IS NOT NULL")
    ]
    return round(sum(one.of_class("bulk").rows.total for one in counts))


def _same(peaceful: pa.Table, disturbed: pa.Table, total: int) -> None:
    """Every row once, and its numbers as in an undisturbed run."""
    if peaceful.column("row_id") != disturbed.column("row_id") or len(peaceful) != total:
        raise WrongAnswers("a run with a death in it has other rows than one without")
    first, second = (
        table.column("prediction").combine_chunks().flatten().to_numpy()
        for table in (peaceful, disturbed)
    )
    if not np.allclose(first, second, atol=TOLERANCE, rtol=0):
        raise WrongAnswers("a run with a death in it has other predictions than one without")
