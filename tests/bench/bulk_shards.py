"""A job of 1,000 shards: what share of its time is planning and merging?

A thousand files make a thousand shards whatever they cost. Planning is the time from the claim to
the moment when the first shard may be claimed; merging, from the last shard's commit to the end
of the job. The fewer rows a shard has, the larger the share: these have a fraction of a second's,
where the planner cuts shards of half a minute.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np

from tests.bench import bulk_digits
from tests.bench.bulk_jobs import Bucket, Scored, bulk_stack
from tests.bench.report import Figure, Goal
from tests.bench.rig import Rig, WrongAnswers, one, push_model
from tests.support.stack import FullStack

NAME = "bulk-shards"
GOAL = Goal(2, 1)
FILES, ROWS_EACH = 1_000, 4_000


def measure(rig: Rig) -> list[Figure]:
    """Of one job, after a smaller one."""
    files, each = (20, 500) if rig.quick else (FILES, ROWS_EACH)
    folder = rig.folder / NAME
    folder.mkdir()
    archive = bulk_digits.build(folder, rig.digits.model)
    bucket = Bucket(rig)
    table = bulk_digits.table(np.asarray(bulk_digits.pixels(each)), each)
    few = [bucket.put_parquet(f"few/{n}.parquet", table, each) for n in range(min(20, files))]
    for number in range(files):
        bucket.put_parquet(f"many/{number:04d}.parquet", table, each)
    with bulk_stack(rig, bucket) as stack, stack.caller() as caller:
        push_model(caller, NAME, archive, bulk_digits.OPTIONS)
        bucket.score(caller, NAME, bucket.at("few/*.parquet"))
        scored = bucket.score(caller, NAME, bucket.at("many/*.parquet"), deadline_s=1_800)
        planning_s, merging_s = _parts(stack, scored)
        if bucket.manifest(scored)["rows"] != files * each:
            raise WrongAnswers("the manifest has other rows")
    share = 100 * (planning_s + merging_s) / scored.seconds
    detail = {
        "shards": files,
        "rows_per_shard": each,
        "seconds": round(scored.seconds, 1),
        "planning_s": round(planning_s, 2),
        "merging_s": round(merging_s, 2),
        "warm_up_files": len(few),
        "rows_per_s": round(files * each / scored.seconds),
    }
    name = f"bulk, planning and merging of {files:,} shards, of the job's time"
    return [GOAL.of(NAME, name, round(share, 2), "%", detail=detail)]


def _parts(stack: FullStack, scored: Scored) -> tuple[float, float]:
    """Seconds before the first shard could be claimed, and behind the last commit."""
    job_id = scored.job["id"]
    planned = one(stack.services, "SELECT planned_at FROM bulk_runs WHERE job_id = %s", job_id)
    last = one(stack.services, "SELECT max(committed_at) FROM bulk_parts WHERE job_id = %s", job_id)
    began, ended = (
        datetime.fromisoformat(scored.job[name]).timestamp()
        for name in ("started_at", "finished_at")
    )
    return planned / 1_000 - began, ended - last / 1_000
