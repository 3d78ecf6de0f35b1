"""Durable jobs per second, as a multiple of the best plain Celery on the same machine."""

from __future__ import annotations

import statistics
import time

import psycopg

from tests.bench.baselines import run as baseline
from tests.bench.report import Figure
from tests.bench.rig import Rig, submit

ASKED = 6.0
JOBS, WARM_UP_JOBS, ROUNDS = 10_000, 2_000, 3
BASELINE_ITEMS, BASELINE_WARM_UP = 1_200, 200


def measure(rig: Rig) -> list[Figure]:
    """Rounds of Forebay and of each variant, one after another; the median of each counts."""
    jobs, rounds = (2_000, 1) if rig.quick else (JOBS, ROUNDS)
    items, warm_up = (200, 40) if rig.quick else (BASELINE_ITEMS, BASELINE_WARM_UP)
    ours: list[float] = []
    gaps_s: list[float] = []
    theirs: dict[str, list[float]] = {variant.name: [] for variant in baseline.VARIANTS}
    for number in range(rounds):
        jobs_per_s, longest_gap_s = _forebay(rig, jobs)
        ours.append(jobs_per_s)
        gaps_s.append(longest_gap_s)
        print(f"round {number + 1}: forebay {ours[-1]:,.0f} jobs/s", flush=True)
        for variant in baseline.VARIANTS:
            services = baseline.Services(
                rig.services.database_url,
                rig.services.broker_url,
                rig.services.objects_url,
                rig.services.environment(),
            )
            log = rig.folder / f"baseline-{variant.name}.log"
            rate = baseline.measure(
                services, rig.digits, variant, items=items, warm_up=warm_up, log=log
            )
            theirs[variant.name].append(rate.items_per_s)
            print(f"round {number + 1}: {variant.name} {rate.items_per_s:,.0f}/s", flush=True)
    medians = {name: statistics.median(rates) for name, rates in theirs.items()}
    best = max(baseline.VARIANTS, key=lambda variant: medians[variant.name])
    ratio = statistics.median(ours) / medians[best.name]
    detail = {
        "forebay_jobs_per_s": [round(rate) for rate in ours],
        "celery_items_per_s": {name: [round(r) for r in rates] for name, rates in theirs.items()},
        "best": best.name,
        "longest_gap_s": gaps_s,
        "jobs": jobs,
        "baseline_items": items,
    }
    return [
        Figure(
            figure="durable jobs/s ÷ best plain Celery",
            value=round(ratio, 2),
            unit="×",
            asked=f"≥ {ASKED:g}",
            met=ratio >= ASKED,
            command="python -m tests.bench --only throughput",
            baseline_command=best.command,
            detail=detail,
        ),
        Figure(
            figure="durable jobs/s",
            value=round(statistics.median(ours)),
            unit="jobs/s",
            asked="-",
            met=True,
            command="python -m tests.bench --only throughput",
        ),
    ]


def _forebay(rig: Rig, jobs: int) -> tuple[float, float]:
    """From the first request to the last job seen done by a caller, 1,000 jobs a request; and
    the longest time in which none was finished, which tells a stall from a slow machine."""
    warm_up, bodies = rig.bodies(min(jobs, WARM_UP_JOBS)), rig.bodies(jobs)
    with rig.stack() as stack, stack.caller() as caller:
        for group in submit(caller, warm_up):
            caller.finish_group(group)
        began = time.perf_counter()
        groups = submit(caller, bodies)
        for group in groups:
            caller.finish_group(group, deadline_s=300)
        seconds = time.perf_counter() - began
        rig.check(caller, groups)
    return jobs / seconds, _longest_gap_s(rig, groups)


def _longest_gap_s(rig: Rig, groups: list[str]) -> float:
    with psycopg.connect(rig.services.database_url) as database:
        row = database.execute(
            "SELECT max(gap) FROM (SELECT finished_at - lag(finished_at)"
            " OVER (ORDER BY finished_at) AS gap FROM jobs WHERE group_id = ANY(%s::uuid[])) AS g",
            (groups,),
        ).fetchone()
    return round(int(row[0] or 0) / 1_000, 3) if row else 0.0
