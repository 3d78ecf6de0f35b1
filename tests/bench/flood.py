"""Tenant A has 100,000 jobs queued: how soon is tenant B's one job done?"""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

from tests.bench.report import Figure, Goal
from tests.bench.rig import MODEL, Rig, one, push, rows, submit
from tests.bench.stages import STAGES, Seen, stages
from tests.support.caller import Caller
from tests.support.stack import FullStack
from tests.support.waiting import wait_until

FLOOD_JOBS = 100_000
SHARES = (0.97, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1)  # of A's backlog still waiting when B asks
GOAL = Goal(6)


def measure(rig: Rig, stack: FullStack) -> list[Figure]:
    """Fill the backlog while no worker runs, let it run, and ask as B in the midst of it."""
    jobs = 10_000 if rig.quick else FLOOD_JOBS
    with stack.caller(stack.new_key("flood-a")) as a, stack.caller(stack.new_key("calm-b")) as b:
        push(a, rig.digits)
        push(b, rig.digits)
        stack.stop("worker")
        groups = submit(a, rig.bodies(jobs))
        stack.start("worker")
        wait_until(lambda: _done(stack) > jobs // 50, 90, what="the flood to move")
        probes = [
            _ask_when(rig, stack, b, share * jobs) for share in SHARES[: 2 if rig.quick else None]
        ]
        _wait_for_all(a, groups)
        rig.check(a, groups[-1:])
    where = stages(stack, {probe.job_id: probe.seen for probe in probes})
    return [_fairness(probes, jobs, where)]


class Probe(NamedTuple):
    """What came of B's question."""

    job_id: str
    seen: Seen
    counts: dict[str, float]


def _ask_when(rig: Rig, stack: FullStack, b: Caller, waiting: float) -> Probe:
    """One job of B's when ``waiting`` of A's are left, and what of A's was finished between its
    submit and its end."""
    wait_until(lambda: _left(stack) <= waiting, 300, what=f"{waiting:,.0f} left", every_s=0.05)
    left = _left(stack)
    at_ms, began = time.time() * 1_000, time.perf_counter()
    accepted = b.submit(MODEL, {"image": rig.digits.question(0).image})
    accepted_ms = (time.perf_counter() - began) * 1_000
    job = b.finish(accepted["id"])
    seconds = time.perf_counter() - began
    ((batches, passed),) = rows(
        stack.services,
        "SELECT count(DISTINCT a.result_pack_id), count(*) FROM ends a, ends b, jobs c"
        " WHERE b.id = %s AND c.id = b.id AND a.tenant = 'flood-a'"
        " AND a.finished_at BETWEEN c.created_at AND b.finished_at",
        job["id"],
    )
    seen = Seen(at_ms, at_ms + accepted_ms, at_ms + seconds * 1_000)
    counts = {"batches": batches, "jobs": passed, "seconds": round(seconds, 3), "queued": left}
    return Probe(job["id"], seen, counts)


def _fairness(probes: list[Probe], jobs: int, where: list[list[str]]) -> Figure:
    batches = statistics.median(probe.counts["batches"] for probe in probes)
    detail = {
        "seconds": statistics.median(probe.counts["seconds"] for probe in probes),
        "worst_batches": max(probe.counts["batches"] for probe in probes),
        "probes": [probe.counts for probe in probes],
        STAGES: where,
    }
    name = f"batches of A ({jobs:,} queued) before B's one job is done"
    return GOAL.of("flood", name, batches, "batches", detail=detail)


def _done(stack: FullStack) -> int:
    return _count(stack, "ends", "succeeded")


def _left(stack: FullStack) -> int:
    return _count(stack, "live", "queued")


def _count(stack: FullStack, table: str, state: str) -> int:
    query = f"SELECT count(*) FROM {table} WHERE tenant = 'flood-a' AND state = %s"
    return int(one(stack.services, query, state))


def _wait_for_all(a: Caller, groups: list[str]) -> None:
    for group in groups:
        counts = a.finish_group(group, deadline_s=600)["counts"]
        if counts["succeeded"] != 1_000:
            raise AssertionError(f"not all of the flood succeeded: {counts}")
