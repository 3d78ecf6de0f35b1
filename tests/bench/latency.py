"""An idle service: from the submit to the answer's being seen by a long-poll, and where it goes."""

from __future__ import annotations

import random
import time

from tests.bench.report import Figure, Goal, percentile
from tests.bench.rig import MODEL, Rig
from tests.bench.stages import STAGES, Seen, stages
from tests.support.stack import FullStack

NAME = "latency"
P50, P99 = Goal(20, 10), Goal(60, 30)
SAMPLES, WARM_UP = 500, 50
SEED = 11


def measure(rig: Rig, stack: FullStack) -> list[Figure]:
    """One job at a time, with pauses of chance between them so that no tick is hit in step."""
    rng = random.Random(SEED)
    seen: dict[str, Seen] = {}
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
                seen[accepted["id"]] = Seen(at_ms, at_ms + accepted_ms, at_ms + took_ms)
    p50, p99 = percentile(samples_ms, 50), percentile(samples_ms, 99)
    detail = {
        "samples": len(samples_ms),
        "min_ms": round(min(samples_ms), 2),
        STAGES: stages(stack, seen),
    }
    return [
        P50.of(NAME, "idle submit → terminal seen, p50", round(p50, 2), "ms", detail=detail),
        P99.of(NAME, "idle submit → terminal seen, p99", round(p99, 2), "ms"),
    ]
