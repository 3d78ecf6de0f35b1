"""Latency over load: the batcher against fixed windows of 10 and 30 ms, as figures and a plot."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench import plot
from tests.bench.report import Figure, Goal
from tests.bench.rig import tensorflow_environment

NAME = "windows"
MEAN, P99 = Goal(0.85, 0.75), Goal(1.0, 0.9)
JUDGED = (0.25, 0.5, 0.75)
WINDOWS = ("10 ms window", "30 ms window")
KEYS = ("mean_ms", "p99_ms")
PLOT = "bench-latency.png"


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    """The worst of the three loads counts; the plot goes into ``folder``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load_harness", "quick" if quick else "full"],
        env=tensorflow_environment(),
        stdout=subprocess.PIPE,
        check=True,
    )
    seen = json.loads(done.stdout)
    runs = seen["runs"]
    loads = sorted({run["load"] for run in runs})
    curves = {
        name: {key: [_median(runs, load, name, key) for load in loads] for key in KEYS}
        for name in ("batcher", *WINDOWS)
    }
    plot.latency_over_load(loads, curves, seen["capacity_per_s"], folder / PLOT)
    ratios = {key: [_ratio(runs, load, key) for load in loads] for key in KEYS}
    table = [["% of capacity", *curves, "÷ better, mean", "÷ better, p99"]]
    for place, load in enumerate(loads):
        cells = [
            " / ".join(f"{curve[key][place]:.1f}" for key in KEYS) for curve in curves.values()
        ]
        table.append([f"{load:.0%}", *cells, *(f"{ratios[key][place]:.2f}" for key in KEYS)])
    detail = {
        "plot": PLOT,
        "seed": seen["seed"],
        "capacity_per_s": seen["capacity_per_s"],
        "pass_ms": seen["pass_ms"],
        "mean / p99, ms": table,
    }
    worst = {key: max(_ratio(runs, load, key) for load in JUDGED) for key in KEYS}
    at = "at 25, 50, 75 % of capacity ÷ better of 10 and 30 ms windows (worst)"
    return [
        MEAN.of(NAME, f"mean latency {at}", round(worst["mean_ms"], 3), "×", detail=detail),
        P99.of(NAME, f"p99 latency {at}", round(worst["p99_ms"], 3), "×"),
    ]


def _median(runs: list[dict[str, Any]], load: float, name: str, key: str) -> float:
    return statistics.median(_rounds(runs, load, name, key).values())


def _ratio(runs: list[dict[str, Any]], load: float, key: str) -> float:
    """Each round against the better window of the same round, whose arrivals were the same."""
    ours, *windows = (_rounds(runs, load, name, key) for name in ("batcher", *WINDOWS))
    return statistics.median(
        ours[number] / min(window[number] for window in windows) for number in ours
    )


def _rounds(runs: list[dict[str, Any]], load: float, name: str, key: str) -> dict[int, float]:
    return {
        run["round"]: float(run[key])
        for run in runs
        if (run["load"], run["policy"]) == (load, name)
    }
