"""Five hundred callers wait; what does it cost the one who submits?

The worker is stopped meanwhile, in both cases: so the polls stay open and nothing else runs.
Blocks with and without polls alternate, and their samples are pooled.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.report import Figure, Goal, percentile
from tests.bench.rig import MODEL, Rig, submit
from tests.support.caller import Caller
from tests.support.stack import FullStack
from tests.support.waiting import wait_until

GOAL = Goal(1.5)
POLLS, BLOCKS, PER_BLOCK, WARM_UP = 500, 6, 400, 50


def measure(rig: Rig, stack: FullStack) -> list[Figure]:
    """Alternating blocks of single submits."""
    blocks, per_block = (2, 100) if rig.quick else (BLOCKS, PER_BLOCK)
    stack.stop("worker")
    try:
        with stack.caller() as caller:
            (group,) = submit(caller, rig.bodies(POLLS))
            ids = [line["id"] for line in _members(caller, group)]
            _block(rig, caller, WARM_UP)
            without, polled = [], []
            for _ in range(blocks):
                without += _block(rig, caller, per_block)
                with _open_polls(caller, ids):
                    polled += _block(rig, caller, per_block)
    finally:
        stack.start("worker")
    return [_figure(without, polled)]


def _figure(without: list[float], polled: list[float]) -> Figure:
    p99_without, p99_with = percentile(without, 99), percentile(polled, 99)
    ratio = p99_with / p99_without
    detail = {
        "p99_without_ms": round(p99_without, 2),
        "p99_with_ms": round(p99_with, 2),
        "p50_without_ms": round(percentile(without, 50), 2),
        "p50_with_ms": round(percentile(polled, 50), 2),
        "samples_each": len(without),
    }
    name = f"submit p99 with {POLLS} open long-polls ÷ without"
    return GOAL.of("long-polls", name, round(ratio, 3), "×", detail=detail)


def _block(rig: Rig, caller: Caller, count: int) -> list[float]:
    samples_ms = []
    for number in range(count):
        image = rig.digits.question(number).image
        began = time.perf_counter()
        caller.submit(MODEL, {"image": image})
        samples_ms.append((time.perf_counter() - began) * 1_000)
    return samples_ms


def _members(caller: Caller, group: str) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = []
    params = {"group": group, "limit": "500"}
    while True:
        page = caller.http.get("/v1/jobs", params=params).json()
        listed += page["data"]
        if not page["has_more"]:
            return listed
        params["after"] = page["next"]


@contextmanager
def _open_polls(caller: Caller, ids: list[str]) -> Iterator[None]:
    """The polls live in a process of their own: their client's cost is not the service's."""
    holder = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.poll_holder", caller.url], stdin=subprocess.PIPE
    )
    assert holder.stdin is not None
    try:
        holder.stdin.write(" ".join(ids).encode())
        holder.stdin.close()
        wait_until(lambda: _waiting(caller) >= len(ids), 60, what="all polls to be open")
        yield
        still = _waiting(caller)
        if still < len(ids) * 0.95:  # a few are between two polls
            raise AssertionError(f"only {still} of {len(ids)} polls were open at the end")
    finally:
        holder.kill()
        holder.wait()
    wait_until(lambda: _waiting(caller) == 0, 60, what="all polls to be closed")


def _waiting(caller: Caller) -> int:
    page = caller.http.get("/metrics").text
    found = re.search(r"^forebay_\w*wait\w*(?:{[^}]*})? ([0-9.e+]+)$", page, re.MULTILINE)
    if found is None:
        raise AssertionError("/metrics does not say how many callers wait")
    return int(float(found.group(1)))
