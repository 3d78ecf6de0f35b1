"""Does a worker's memory grow with the rows of a bulk job? 2 million rows against 200,000.

Narrow rows through a model that computes next to nothing, so that what is read, waits and is
written makes up the memory. Each size has a worker of its own, that has scored a small job before:
so both begin alike, and the highest that the kernel saw (``VmHWM``) is the job's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.bench.bulk_jobs import Bucket, bulk_stack, device_pid, restart_worker
from tests.bench.report import Figure, Goal
from tests.bench.rig import Rig, WrongAnswers, push_model
from tests.support import zoo
from tests.support.stack import FullStack

NAME = "bulk-memory"
GOAL = Goal(1.1, 1.02)
FEW, MANY, WARM_UP, GROUP_ROWS = 200_000, 2_000_000, 20_000, 50_000
INPUT = "question"


def measure(rig: Rig) -> list[Figure]:
    """The larger job's highest memory over the smaller one's, the whole process counted."""
    few, many = (20_000, 200_000) if rig.quick else (FEW, MANY)
    bucket = Bucket(rig)
    uris = {
        rows: bucket.put_parquet(f"{rows}.parquet", table(rows), GROUP_ROWS)
        for rows in (WARM_UP, few, many)
    }
    highest: dict[int, float] = {}
    idle: dict[int, float] = {}
    rates: dict[int, float] = {}
    with bulk_stack(rig, bucket) as stack, stack.caller() as caller:
        push_model(caller, NAME, zoo.make().echo, {})
        for rows in (few, many):
            restart_worker(stack)
            bucket.score(caller, NAME, uris[WARM_UP])
            idle[rows] = _memory_mb(stack, "VmRSS")
            scored = bucket.score(caller, NAME, uris[rows])
            highest[rows] = _memory_mb(stack, "VmHWM")
            rates[rows] = rows / scored.seconds
            if bucket.manifest(scored)["rows"] != rows:
                raise WrongAnswers(f"the manifest has other rows: {bucket.manifest(scored)}")
    value = round(highest[many] / highest[few], 3)
    detail = {
        "highest_mb": {f"{rows:,}": round(mb, 1) for rows, mb in highest.items()},
        "before_mb": {f"{rows:,}": round(mb, 1) for rows, mb in idle.items()},
        "rows_per_s": {f"{rows:,}": round(rate) for rows, rate in rates.items()},
    }
    name = f"bulk, worker's peak memory, {many:,} rows ÷ {few:,} rows"
    return [GOAL.of(NAME, name, value, "×", detail=detail)]


def table(rows: int) -> pa.Table:
    """Two numbers a row."""
    numbers = np.arange(2 * rows, dtype=np.float32) % 1_000
    return pa.table({INPUT: pa.FixedSizeListArray.from_arrays(pa.array(numbers), 2)})


def _memory_mb(stack: FullStack, line: str) -> float:
    status = Path(f"/proc/{device_pid(stack)}/status").read_text()
    (found,) = (one for one in status.splitlines() if one.startswith(f"{line}:"))
    return int(found.split()[1]) / 1024
