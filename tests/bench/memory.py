"""Does a worker grow? Its device process's resident memory over 300,000 jobs after a warm-up."""

from __future__ import annotations

import statistics
import time
from collections import deque
from pathlib import Path

from tests.bench.report import Figure, Goal, upper_slope
from tests.bench.rig import Rig, submit
from tests.support.stack import FullStack, descendants

NAME = "memory"
GOAL = Goal(5, 1)
WARM_UP_JOBS, JOBS, PER_POINT = 100_000, 300_000, 10_000
IN_FLIGHT = 10  # groups of 1,000: the worker never waits for us
LOOKED_AT = 25  # every so many groups, all answers of one


def measure(rig: Rig, stack: FullStack) -> list[Figure]:
    """Feed without a pause, look at the memory whenever 1,000 jobs are done."""
    first, then = (4_000, 20_000) if rig.quick else (WARM_UP_JOBS, JOBS)
    per_point = 1_000 if rig.quick else PER_POINT
    began = time.perf_counter()
    samples = _feed(rig, stack, first + then)
    seconds = time.perf_counter() - began
    measured = samples[first // 1_000 :]
    points = [
        (at * 1_000 / 100_000, statistics.fmean(measured[at : at + per_point // 1_000]))
        for at in range(0, len(measured), per_point // 1_000)
    ]
    slope = statistics.linear_regression(*zip(*points, strict=True)).slope
    detail = {
        "slope_mb": round(slope, 3),
        "jobs": then,
        "warm_up_jobs": first,
        "points": len(points),
        "after_warm_up_mb": round(points[0][1], 1),
        "at_the_end_mb": round(points[-1][1], 1),
        "highest_mb": round(max(measured), 1),
        "jobs_per_s": round((first + then) / seconds),
    }
    name = "worker's memory per 100,000 jobs, upper 95 % bound"
    return [GOAL.of(NAME, name, round(upper_slope(points), 3), "MB", detail=detail)]


def _feed(rig: Rig, stack: FullStack, jobs: int) -> list[float]:
    samples_mb: list[float] = []
    waiting: deque[str] = deque()
    with stack.caller() as caller:
        for body in [*rig.bodies(jobs), *[None] * IN_FLIGHT]:
            if body is not None:
                waiting += submit(caller, [body])
            if waiting and (len(waiting) > IN_FLIGHT or body is None):
                group = waiting.popleft()
                caller.finish_group(group)
                if len(samples_mb) % LOOKED_AT == 0:
                    rig.check(caller, [group])
                samples_mb.append(_resident_mb(stack))
    return samples_mb


def _resident_mb(stack: FullStack) -> float:
    """Of the largest process below the worker's supervisor: the one that holds the model."""
    return max(map(_of_process_mb, descendants(stack.pid("worker"))), default=0.0)


def _of_process_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
