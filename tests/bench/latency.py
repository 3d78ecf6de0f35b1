"""An idle service: from the submit to the answer's being seen by a long-poll, and where it goes."""

from __future__ import annotations

import random
import statistics
import time

from tests.bench.report import Figure, Goal, percentile
from tests.bench.rig import MODEL, Rig, rows
from tests.support.stack import FullStack

NAME = "latency"
P50, P99 = Goal(20, 10), Goal(60, 30)
SAMPLES, WARM_UP = 500, 50
SEED = 11


def measure(rig: Rig, stack: FullStack) -> list[Figure]:
    """One job at a time, with pauses of chance between them so that no tick is hit in step."""
    rng = random.Random(SEED)
    # By job: when the caller began, had its 202, and saw the end; on the clock of the rows.
    seen: dict[str, tuple[float, float, float]] = {}
    samples_ms: list[float] = []
    with stack.caller() as caller:
        for number in range(WARM_UP + (60 if rig.quick else SAMPLES)):
            question = rig.digits.question(number)
            time.sleep(rng.uniform(0.01, 0.08))
            at_ms, began = time.time() * 1_000, time.perf_counter()
            accepted = caller.submit(MODEL, {"image": question.image})
            accepted_ms = (time.perf_counter() - began) * 1_000
            job = caller.finish(accepted["id"])
            took_ms = (time.perf_counter() - began) * 1_000
            if job["state"] != "succeeded":
                raise AssertionError(f"an idle job did not succeed: {job}")
            if number >= WARM_UP:
                samples_ms.append(took_ms)
                seen[accepted["id"]] = (at_ms, at_ms + accepted_ms, at_ms + took_ms)
    p50, p99 = percentile(samples_ms, 50), percentile(samples_ms, 99)
    detail = {
        "samples": len(samples_ms),
        "min_ms": round(min(samples_ms), 2),
        "where it goes, ms (row times are whole milliseconds)": _stages(stack, seen),
    }
    return [
        P50.of(NAME, "idle submit → terminal seen, p50", round(p50, 2), "ms", detail=detail),
        P99.of(NAME, "idle submit → terminal seen, p99", round(p99, 2), "ms"),
    ]


def _stages(stack: FullStack, seen: dict[str, tuple[float, float, float]]) -> list[list[str]]:
    """The steps between the moments that the rows and the caller know of."""
    moments: list[dict[str, float]] = []
    for job_id, *row in rows(
        stack.services,
        "SELECT j.id::text, j.created_at, e.published_at, e.started_at, e.finished_at"
        " FROM jobs AS j JOIN ends AS e ON e.id = j.id WHERE j.id = ANY(%s::uuid[])",
        list(seen),
    ):
        began, accepted, end = seen[job_id]
        names = ("created", "published", "claimed", "finished")
        moments.append(
            {"sent": began, "accepted": accepted, "seen": end, **dict(zip(names, row, strict=True))}
        )
    steps = [
        ("sent", "created"),
        ("created", "published"),
        ("published", "claimed"),
        ("claimed", "finished"),
        ("finished", "seen"),
        ("sent", "accepted"),
    ]
    table = [["step", "p50", "p99", "mean"]]
    for first, then in steps:
        took = [moment[then] - moment[first] for moment in moments]
        mean = statistics.fmean(took)
        table.append(
            [f"{first} → {then}", *(f"{percentile(took, p):.1f}" for p in (50, 99)), f"{mean:.1f}"]
        )
    return table
