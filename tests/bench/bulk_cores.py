"""Two workers, each on a core of its own, against one: does bulk work spread?

Every worker computes with one thread of TensorFlow's and may use one core only; the servers, which
both need, take what they get. One worker and two take turns.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tests.bench import bulk_digits
from tests.bench.bulk_jobs import Bucket
from tests.bench.report import Figure, Goal, told
from tests.bench.rig import Rig, one, push_model
from tests.support.process import ChildProcess
from tests.support.stack import FullStack, command
from tests.support.waiting import wait_until

NAME = "bulk-cores"
GOAL = Goal(1.7, 1.9, most=False)
ROWS, ROUNDS = 200_000, 3
LIVE = """
    SELECT count(*) FROM sessions
    WHERE ended_at IS NULL AND lease_until > extract(epoch FROM now()) * 1000
"""


def measure(rig: Rig) -> list[Figure]:
    """The median round counts."""
    rows, count = (20_000, 1) if rig.quick else (ROWS, ROUNDS)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or shutil.which("taskset") is None:
        return [told(NAME, "bulk, two workers ÷ one: not measured, it takes two cores", 0, "×")]
    folder = rig.folder / NAME
    folder.mkdir()
    archive = bulk_digits.build(folder, rig.digits.model)
    bucket = Bucket(rig)
    drawn = bulk_digits.pixels(100 if rig.quick else bulk_digits.DRAWN)
    table = bulk_digits.table(np.asarray(drawn), rows)
    uri = bucket.put_parquet("digits.parquet", table, bulk_digits.GROUP_ROWS)
    rates: dict[int, list[float]] = {1: [], 2: []}
    environment = {**bucket.environment(), "FOREBAY_WORKER_TF_THREADS": "1"}
    with rig.stack(environment=environment, model=False) as stack, stack.caller() as caller:
        stack.stop("worker")
        for number in range(count + 1):
            for workers in (1, 2) if number % 2 else (2, 1):
                with _pinned(stack, cores[:workers]):
                    if number == 0:
                        push_model(caller, NAME, archive, bulk_digits.OPTIONS)
                    bucket.score(caller, NAME, uri)  # all have loaded it, and know what it takes
                    scored = bucket.score(caller, NAME, uri)
                if number:
                    rates[workers].append(rows / scored.seconds)
            if number:
                alone, both = rates[1][-1], rates[2][-1]
                share = both / alone
                print(f"round {number}: one {alone:,.0f} rows/s, two {both:,.0f}: {share:.2f}")
    ratios = [both / alone for both, alone in zip(rates[2], rates[1], strict=True)]
    detail = {
        "one_rows_per_s": [round(rate) for rate in rates[1]],
        "two_rows_per_s": [round(rate) for rate in rates[2]],
        "rows": rows,
    }
    name = "bulk, two workers, each on one core ÷ one on one"
    return [GOAL.of(NAME, name, round(statistics.median(ratios), 2), "×", detail=detail)]


@contextlib.contextmanager
def _pinned(stack: FullStack, cores: Sequence[int]) -> Iterator[None]:
    """A worker on each of these cores; ended afterwards."""
    workers = [_worker(stack, core, stack.environment) for core in cores]
    try:
        wait_until(
            lambda: one(stack.services, LIVE) == len(cores), 120, what="the workers' sessions"
        )
        stack.wait_ready()
        yield
    finally:
        for worker in workers:
            worker.stop(deadline_s=45)


def _worker(stack: FullStack, core: int, environment: Mapping[str, str]) -> ChildProcess:
    return ChildProcess(
        ["taskset", "--cpu-list", str(core), *command(*stack.parts["worker"])],
        log=stack.folder / f"worker-{core}.log",
        env=environment,
    )
