"""Tenant A has 100,000 jobs queued: how soon is tenant B's one job done, and does memory grow?"""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path

import psycopg

from tests.bench.report import Figure
from tests.bench.rig import MODEL, Rig, push, submit
from tests.support.caller import Caller
from tests.support.stack import FullStack, descendants
from tests.support.waiting import wait_until

FLOOD_JOBS = 100_000
SHARES = (0.97, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1)  # of A's backlog still waiting when B asks
ASKED_BATCHES, ASKED_MB = 6, 10.0
WARM_UP_SHARE = 0.25


def measure(rig: Rig, stack: FullStack) -> list[Figure]:
    """Fill the backlog while no worker runs, let it run, and ask as B in the midst of it."""
    jobs = 10_000 if rig.quick else FLOOD_JOBS
    with stack.caller(stack.new_key("flood-a")) as a, stack.caller(stack.new_key("calm-b")) as b:
        push(a, rig.digits)
        push(b, rig.digits)
        stack.stop("worker")
        groups = submit(a, rig.bodies(1_000) * (jobs // 1_000))
        stack.start("worker")
        wait_until(lambda: _done(stack) > jobs // 50, 90, what="the flood to move")
        memory = Memory(stack)
        memory.start()
        probes = [
            _ask_when(rig, stack, b, share * jobs) for share in SHARES[: 2 if rig.quick else None]
        ]
        _wait_for_all(a, groups)
        memory.end()
        rig.check(a, groups[-1:])
    return [_fairness(probes, jobs), memory.figure()]


def _ask_when(rig: Rig, stack: FullStack, b: Caller, waiting: float) -> dict[str, float]:
    """One job of B's when ``waiting`` of A's are left, and what of A's was finished between its
    submit and its end."""
    wait_until(lambda: _left(stack) <= waiting, 300, what=f"{waiting:,.0f} left", every_s=0.05)
    left = _left(stack)
    began = time.perf_counter()
    job = b.finish(b.submit(MODEL, {"image": rig.digits.question(0).image})["id"])
    seconds = time.perf_counter() - began
    with psycopg.connect(stack.services.database_url) as database:
        batches, passed = database.execute(
            "SELECT count(DISTINCT a.result_pack_id), count(*) FROM jobs a, jobs b"
            " WHERE b.id = %s AND a.tenant = 'flood-a'"
            " AND a.finished_at BETWEEN b.created_at AND b.finished_at",
            (job["id"],),
        ).fetchone()
    return {"batches": batches, "jobs": passed, "seconds": round(seconds, 3), "queued": left}


def _fairness(probes: list[dict[str, float]], jobs: int) -> Figure:
    batches = statistics.median(probe["batches"] for probe in probes)
    return Figure(
        figure=f"batches of A ({jobs:,} queued) before B's one job is done",
        value=batches,
        unit="batches",
        asked=f"a few (≤ {ASKED_BATCHES})",
        met=batches <= ASKED_BATCHES,
        command="python -m tests.bench --only flood",
        detail={
            "seconds": statistics.median(probe["seconds"] for probe in probes),
            "worst_batches": max(probe["batches"] for probe in probes),
            "probes": probes,
        },
    )


def _done(stack: FullStack) -> int:
    return _count(stack, "state = 'succeeded'")


def _left(stack: FullStack) -> int:
    return _count(stack, "state = 'queued'")


def _count(stack: FullStack, what: str) -> int:
    with psycopg.connect(stack.services.database_url) as database:
        row = database.execute(
            f"SELECT count(*) FROM jobs WHERE tenant = 'flood-a' AND {what}"
        ).fetchone()
    return int(row[0]) if row else 0


def _wait_for_all(a: Caller, groups: list[str]) -> None:
    for group in groups:
        counts = a.finish_group(group, deadline_s=600)["counts"]
        if counts["succeeded"] != 1_000:
            raise AssertionError(f"not all of the flood succeeded: {counts}")


class Memory:
    """Samples the device process's resident memory beside the number of jobs done."""

    def __init__(self, stack: FullStack) -> None:
        self._stack = stack
        self._over = threading.Event()
        self._samples: list[tuple[int, float]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def figure(self) -> Figure:
        """The slope over what follows the warm-up, scaled to 100,000 jobs."""
        last = self._samples[-1][0]
        counted = [s for s in self._samples if s[0] >= last * WARM_UP_SHARE]
        slope = 0.0
        if len({done for done, _ in counted}) > 1:
            slope = statistics.linear_regression(*zip(*counted, strict=True)).slope
        growth_mb = slope * 100_000
        return Figure(
            figure="a worker's memory over 100,000 jobs",
            value=round(growth_mb, 2),
            unit="MB",
            asked=f"flat (≤ {ASKED_MB:g})",
            met=growth_mb <= ASKED_MB,
            command="python -m tests.bench --only flood",
            detail={
                "jobs": last,
                "samples": len(counted),
                "after_warm_up_mb": round(counted[0][1], 1),
                "at_the_end_mb": round(counted[-1][1], 1),
                "highest_mb": round(max(mb for _, mb in counted), 1),
            },
        )

    def _run(self) -> None:
        while not self._over.wait(0.5):
            sizes = [_resident_mb(pid) for pid in descendants(self._stack.pid("worker"))]
            self._samples.append((_done(self._stack), max(sizes, default=0.0)))


def _resident_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
