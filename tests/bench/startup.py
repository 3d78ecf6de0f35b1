"""How long ``forebay --help`` takes."""

from __future__ import annotations

import statistics
import subprocess
import time

from tests.bench.report import Figure
from tests.support.stack import command

ASKED_S = 0.4
RUNS = 15


def measure() -> list[Figure]:
    """The median of several runs, after one that fills the disk's caches."""
    seconds = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        subprocess.run(command("--help"), check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    value = statistics.median(seconds[1:])
    return [
        Figure(
            figure="forebay --help",
            value=round(value, 3),
            unit="s",
            asked=f"< {ASKED_S:g}",
            met=value < ASKED_S,
            command="python -m tests.bench --only help",
            detail={"slowest_s": round(max(seconds[1:]), 3)},
        )
    ]
