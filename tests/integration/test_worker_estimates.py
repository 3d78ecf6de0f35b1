"""What a running worker learns makes true estimates, and what it counts is what happened."""

from __future__ import annotations

import pytest

from producers.estimates import Estimates
from storage.clock import SystemClock
from storage.records.counts import WorkerCounts
from tests.support.bare_pipeline import offer, running_pipeline
from tests.support.household import Household, tensor
from tests.support.numpy_runtime import Behaviour
from tests.support.waiting import wait_until

ROW_S = 0.001
GRAIN_S = 0.5  # a batch in each stage, and the time until the first


@pytest.fixture
def house(tmp_path):
    house = Household.on_sqlite(tmp_path)
    yield house
    house.database.close()


@pytest.fixture
def told(house):
    told = Estimates(house.database, SystemClock())
    yield told
    told.close()


def counts_of(house) -> WorkerCounts:
    with house.database.read() as tx:
        (session,) = tx.sessions.live()
    return WorkerCounts.from_json(session.stats)


def cost_of(house) -> float:
    with house.database.read() as tx:
        return sum(cost.path_s_per_job for cost in tx.latency.costs([house.version.id]))


def test_a_jobs_estimated_start_is_within_a_factor_of_two(house, told, tmp_path):
    slow = Behaviour(seconds_per_row=ROW_S)
    with running_pipeline(house, tmp_path, slow, renew_every_s=0.2) as pipeline:
        ids = house.submit([tensor(1)] * 600)
        offer(pipeline, ids, house.version)
        house.wait_terminal(ids)
        wait_until(lambda: cost_of(house) > 0, what="the learned cost to be written")

        waiting = house.submit([tensor(2)] * 2_000)
        (mine,) = house.submit([tensor(3)])
        sample = told.sample("default")
        start = told.start_at("default", "default", 5, 1, house.version.id)
        offer(pipeline, [*waiting, mine], house.version)
        job = house.wait_terminal([mine])[0]
    told_s = (start - sample.taken_at) / 1000
    truth_s = (job.finished_at - sample.taken_at) / 1000
    assert truth_s > 1.0, "there was nothing to estimate"
    said = f"told {told_s:.2f} s, truth {truth_s:.2f} s, {cost_of(house) * 1e6:.0f} µs a job"
    assert truth_s / 2 - GRAIN_S <= told_s <= truth_s * 2 + GRAIN_S, said
    assert sample.backlog_s() == pytest.approx(told_s, rel=0.5, abs=GRAIN_S)


def test_a_workers_counts_are_what_happened(house, tmp_path):
    with running_pipeline(house, tmp_path, renew_every_s=0.1) as pipeline:
        ids = house.submit([tensor(n) for n in range(300)])
        bulk = house.submit([tensor(n) for n in range(100)], priority=1)
        offer(pipeline, ids, house.version)
        offer(pipeline, bulk, house.version)
        house.wait_terminal([*ids, *bulk])

        def complete() -> WorkerCounts | None:
            counts = counts_of(house)
            return counts if counts.all_versions().settled.get("succeeded") == 400 else None

        counts = wait_until(complete, what="the worker to tell of all its jobs")
    mine = counts.versions[house.version.id]
    assert sum(kind.rows.total for kind in mine.classes.values()) == 400
    assert sum(kind.age_s.count for kind in mine.classes.values()) == 400
    assert all(kind.slots >= kind.rows.total for kind in mine.classes.values())
    assert counts.tenants["default"].settled == {"succeeded": 400}
    assert {"claim", "decode", "device", "store", "commit"} <= set(mine.stages)
    assert all(stage.seconds > 0 for stage in mine.stages.values())
    assert {name: stage.jobs for name, stage in mine.stages.items()} == dict.fromkeys(
        mine.stages, 400
    )
    assert counts.busy_s > 0 and counts.loaded.keys() == {house.version.id}
