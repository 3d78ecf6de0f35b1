"""How long ``forebay --help`` takes."""

from __future__ import annotations

import statistics
import subprocess
import time

from tests.bench.report import Figure, Goal
from tests.support.stack import command

GOAL = Goal(0.4)
RUNS = 15


def measure() -> list[Figure]:
    """The median of several runs, after one that fills the disk's caches."""
    seconds = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        subprocess.run(command("--help"), check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    detail = {"slowest_s": round(max(seconds[1:]), 3)}
    value = round(statistics.median(seconds[1:]), 3)
    return [GOAL.of("help", "forebay --help", value, "s", detail=detail)]
