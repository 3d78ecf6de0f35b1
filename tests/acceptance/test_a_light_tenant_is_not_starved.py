"""Tenant A floods; tenant B's single job is done within a few batches all the same."""

from __future__ import annotations

from tests.acceptance.conftest import Tenants
from tests.support.caller import echo_jobs, tensor
from tests.support.waiting import wait_until

FLOOD, REQUESTS = 1_000, 8
BATCH = 512  # the largest
# Picked before B's job came: on the device, waiting for the store, stored, waiting for the commit,
# committed. And one that is picked while it is claimed and decoded.
FEW = 6


def test_one_job_passes_a_flood(tenants: Tenants) -> None:
    for one in (tenants.a, tenants.b):  # loaded, so that nothing but the choice is judged
        one.ask("slow_echo", tensor(0, 0))
    groups = [
        tenants.a.submit_many(echo_jobs("slow_echo", range(FLOOD)))["group"]
        for _ in range(REQUESTS)
    ]

    def done() -> int:
        counts = [tenants.a.group(group)["counts"] for group in groups]
        return sum(count.get("succeeded", 0) for count in counts)

    wait_until(done, 60, what="the flood's first answers")
    before = done()
    job = tenants.b.finish(tenants.b.submit("slow_echo", tensor(1, 2))["id"])
    for group in groups:
        tenants.a.http.post(f"/v1/groups/{group}/cancel")
    assert job["state"] == "succeeded"
    assert before < FLOOD * REQUESTS - 2 * FEW * BATCH, "the flood was over too soon to tell"
    for group in groups:
        tenants.a.finish_group(group)
    ends = [
        one["finished_at"]
        for group in groups
        for one in tenants.a.jobs(group=group, state="succeeded")
    ]
    # A batch ends at one moment: that of its commit.
    passed = {end for end in ends if job["created_at"] <= end <= job["finished_at"]}
    assert len(passed) <= FEW, f"{len(passed)} batches of the flood went first"
