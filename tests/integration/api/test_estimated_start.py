"""A submit's answer says when the work will start: after what waits before it, and nothing else."""

from __future__ import annotations

from datetime import datetime

import pytest

from storage.records.latency import VersionCost
from tests.support.waiting import wait_until


def seconds_until(job) -> float | None:
    """From a job's creation to its estimated start."""
    if job["estimated_start_at"] is None:
        return None
    start, made = (datetime.fromisoformat(job[k]) for k in ("estimated_start_at", "created_at"))
    return (start - made).total_seconds()


@pytest.fixture
def slow(house):
    """A worker that needs two seconds for a job of any tenant's."""
    house.push("others", tenant="acme")
    house.session()
    with house.database.begin() as tx:
        versions = [
            *tx.models.versions("default", "vectors"),
            *tx.models.versions("acme", "others"),
        ]
        tx.latency.save_costs([VersionCost(one.id, "cpu", 0.1, 2.0, 0.0, 0) for one in versions])
    return house


def test_without_a_worker_nothing_is_said(house):
    assert house.submit()["estimated_start_at"] is None


def test_a_start_is_said_for_jobs_and_groups_and_only_as_they_are_accepted(slow):
    job = wait_until(lambda: (one := slow.submit())["estimated_start_at"] and one)
    assert slow.http.get(f"/v1/jobs/{job['id']}").json()["estimated_start_at"] is None
    item = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}
    group = slow.http.post("/v1/jobs/many", json={"jobs": [item] * 3}).json()
    assert datetime.fromisoformat(group["estimated_start_at"]).tzinfo is not None


def test_who_has_much_waiting_is_told_so_and_who_has_nothing_is_not(slow):
    item = {"model": "vectors", "input": {"tensor": [1, 2, 3, 4]}}
    assert slow.http.post("/v1/jobs/many", json={"jobs": [item] * 10}).status_code == 202
    wait_until(lambda: (seconds_until(slow.submit()) or 0.0) > 19, what="the backlog to be sampled")
    with slow.client(slow.key_for("acme")) as acme:
        assert seconds_until(slow.submit(acme, model="others")) < 2
