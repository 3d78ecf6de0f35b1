"""What runs together, and when: late binding, classes, deadlines, memory, instances.

The pipeline on SQLite and a directory; a gate in the model says when a pass ends.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from storage.clock import SystemClock
from storage.queue.lanes import Lane
from storage.records.jobs import JobState
from storage.records.serving import Serving
from tests.support.bare_pipeline import offer, running_pipeline
from tests.support.household import Household, tensor
from tests.support.misbehaviour import NAN, POISON
from tests.support.numpy_runtime import Behaviour
from tests.support.waiting import wait_until
from workers.inference.pipeline import Pipeline
from workers.inference.ports import Array, DeviceOutOfMemory
from workers.inference.waiting import Line


@pytest.fixture
def house(tmp_path: Path) -> Household:
    return Household.on_sqlite(tmp_path)


class Log:
    """The first number of each row of each pass, padding included."""

    def __init__(self) -> None:
        self.passes: list[list[int]] = []

    def __call__(self, inputs: Mapping[str, Array]) -> None:
        self.passes.append([int(row[0]) for row in inputs["x"]])

    def real(self) -> list[set[int]]:
        """Who was in each pass; padding repeats the first row."""
        return [set(one) for one in self.passes]


def held() -> tuple[Behaviour, Log]:
    """A model whose passes wait, and what they were."""
    log = Log()
    behaviour = Behaviour(before_forward=log)
    behaviour.gate.clear()
    return behaviour, log


def ready(pipeline: Pipeline, jobs: int) -> None:
    wait_until(lambda: pipeline.parts.ready.waiting() == jobs, what=f"{jobs} jobs to be ready")


def test_ids_that_arrive_while_a_pass_runs_are_in_the_next_pass_together(
    house: Household, tmp_path: Path
) -> None:
    behaviour, log = held()
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        ids = house.submit([tensor(n) for n in range(65)])
        offer(pipeline, ids[:1], house.version)
        assert behaviour.entered.acquire(timeout=10)
        offer(pipeline, ids[1:30], house.version, chunk=1)
        ready(pipeline, 29)
        offer(pipeline, ids[30:], house.version, chunk=7)
        ready(pipeline, 64)
        behaviour.gate.set()
        house.wait_terminal(ids)
    assert log.real() == [{0}, set(range(1, 65))]


def test_no_more_is_claimed_than_the_largest_pass_beyond_what_runs(
    house: Household, tmp_path: Path
) -> None:
    behaviour, log = held()
    with running_pipeline(house, tmp_path, behaviour, max_batch=8) as pipeline:
        ids = house.submit([tensor(n) for n in range(40)])
        offer(pipeline, ids[:8], house.version)
        assert behaviour.entered.acquire(timeout=10)
        running = 8 - pipeline.parts.ready.waiting()
        offer(pipeline, ids[8:], house.version)
        ready(pipeline, 8)
        assert house.states(ids).count(JobState.RUNNING) <= running + 8
        behaviour.gate.set()
        house.wait_terminal(ids)
    assert all(len(one) <= 8 for one in log.passes)


def test_bulk_rows_fill_the_padding_of_an_online_pass_and_do_not_enlarge_it(
    house: Household, tmp_path: Path
) -> None:
    behaviour, log = held()
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        first = house.submit([tensor(0)])
        offer(pipeline, first, house.version)
        assert behaviour.entered.acquire(timeout=10)
        online = house.submit([tensor(n) for n in range(1, 6)])
        bulk = house.submit([tensor(n) for n in range(100, 120)], priority=1)
        offer(pipeline, bulk, house.version, lane=Lane.BULK)
        offer(pipeline, online, house.version)
        wait_until(
            lambda: (
                pipeline.parts.ready.waiting() > 5
                and set(house.states(online)) == {JobState.RUNNING}
            ),
            what="both classes in the window",
        )
        ready_bulk = pipeline.parts.ready.waiting() - 5
        behaviour.gate.set()
        house.wait_terminal([*online, *bulk])
    second = log.passes[1]
    assert set(range(1, 6)) <= set(second)
    assert len(second) == 8, "bulk enlarged the online pass"
    assert ready_bulk >= 3 and len([n for n in second if n >= 100]) == 3


def test_a_window_full_of_bulk_does_not_keep_online_work_unclaimed(
    house: Household, tmp_path: Path
) -> None:
    behaviour, log = held()
    with running_pipeline(house, tmp_path, behaviour, max_batch=8) as pipeline:
        bulk = house.submit([tensor(n) for n in range(100, 200)], priority=0)
        offer(pipeline, bulk, house.version, lane=Lane.BULK)
        assert behaviour.entered.acquire(timeout=10)
        ready(pipeline, 8)
        online = house.submit([tensor(n) for n in range(4)])
        offer(pipeline, online, house.version)
        ready(pipeline, 12)
        assert set(house.states(online)) == {JobState.RUNNING}
        behaviour.gate.set()
        house.wait_terminal([*bulk, *online])
    assert set(range(4)) <= set(log.passes[1]), "bulk went before online work that was ready"


def test_a_long_list_lends_the_device_between_its_passes(house: Household, tmp_path: Path) -> None:
    log, first, go_on = Log(), threading.Event(), threading.Event()

    def stop_once(inputs: Mapping[str, Array]) -> None:
        log(inputs)
        first.set()
        assert go_on.wait(20)

    behaviour = Behaviour(batch_sizes=(1, 2, 4), before_forward=stop_once)
    with running_pipeline(house, tmp_path, behaviour, max_batch=4) as pipeline:
        long = house.submit([{"items": [tensor(100 + n) for n in range(20)]}], priority=1)
        offer(pipeline, long, house.version, lane=Lane.BULK)
        assert first.wait(10)
        online = house.submit([tensor(n) for n in range(3)])
        offer(pipeline, online, house.version)
        ready(pipeline, 3)
        go_on.set()
        (job,) = house.wait_terminal(long)
        house.wait_terminal(online)
    assert [one["outputs"]["y"][0] for one in house.result(job)["items"]] == list(range(100, 120))
    assert log.real()[1] == {0, 1, 2}, "an online job waited for a whole list"
    assert len(log.passes) == 6


def test_while_somebody_waits_for_an_answer_one_bulk_claim_is_under_way_at_a_time(
    house: Household, tmp_path: Path
) -> None:
    behaviour, _ = held()
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        line = Line(house.version.id, Lane.BULK)
        online = house.submit([tensor(0)])
        offer(pipeline, online, house.version)
        assert behaviour.entered.acquire(timeout=10)
        bulk = house.submit([tensor(n) for n in range(100, 164)], priority=1)
        offer(pipeline, bulk[:8], house.version, lane=Lane.BULK)
        ready(pipeline, 8)
        assert pipeline.parts.ready.online_seen()
        assert pipeline.parts.claimer._room(line) == 0
        offer(pipeline, bulk[8:], house.version, lane=Lane.BULK)
        behaviour.gate.set()
        house.wait_terminal([*online, *bulk])
        assert pipeline.parts.credit.bulk_out == 0


def test_who_cannot_start_in_time_is_expired_and_the_others_run(
    house: Household, tmp_path: Path
) -> None:
    behaviour, log = held()
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        first = house.submit([tensor(0)])
        offer(pipeline, first, house.version)
        assert behaviour.entered.acquire(timeout=10)
        late = house.submit([tensor(n) for n in range(1, 4)], expires_in_ms=400)
        fine = house.submit([tensor(n) for n in range(4, 8)])
        notes = offer(pipeline, [*late, *fine], house.version)
        ready(pipeline, 7)
        wait_until(lambda: expired_by_now(house, late), what="their time to pass")
        behaviour.gate.set()
        gone = house.wait_terminal(late)
        house.wait_terminal([*first, *fine])
        assert all(note.done.wait(10) for note in notes)
    assert [job.state for job in gone] == [JobState.EXPIRED] * 3
    assert {(job.attempts, job.error) for job in gone} == {(0, None)}
    assert log.real() == [{0}, {4, 5, 6, 7}]


def expired_by_now(house: Household, ids: list[str]) -> bool:
    with house.database.read() as tx:
        now = tx.now()
    return all(job.expires_at < now for job in house.jobs(ids))


def test_the_workers_own_wall_clock_expires_nobody(house: Household, tmp_path: Path) -> None:
    """Deadlines are told from the database's clock at the claim."""

    class Wrong(SystemClock):
        def now_ms(self) -> int:
            return super().now_ms() + 10 * 3_600_000

    with running_pipeline(house, tmp_path, clock=Wrong()) as pipeline:
        ids = house.submit([tensor(n) for n in range(4)], expires_in_ms=60_000)
        offer(pipeline, ids, house.version)
        assert {job.state for job in house.wait_terminal(ids)} == {JobState.SUCCEEDED}


def test_memory_that_runs_out_makes_passes_smaller_and_the_next_worker_knows(
    house: Household, tmp_path: Path
) -> None:
    def small(inputs: Mapping[str, Array]) -> None:
        if len(inputs["x"]) > 4:
            raise DeviceOutOfMemory("no room")

    behaviour = Behaviour(before_forward=small)
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        ids = house.submit([tensor(n) for n in range(64)])
        offer(pipeline, ids, house.version)
        jobs = house.wait_terminal(ids)
        assert [house.result(job)["outputs"]["y"][0] for job in jobs] == list(range(64))
        assert {job.attempts for job in jobs} == {1}
        counts = pipeline.parts.meters.snapshot()["versions"][house.version.id]
        assert counts["out_of_memory"] > 0
    assert max(behaviour.batches) > 4
    later = Behaviour(before_forward=small)
    with running_pipeline(house, tmp_path, later) as pipeline:
        ids = house.submit([tensor(n) for n in range(64)])
        offer(pipeline, ids, house.version)
        house.wait_terminal(ids)
    assert max(later.batches) <= 4, "what did not fit was tried again"


def test_what_was_learned_outlives_the_worker(house: Household, tmp_path: Path) -> None:
    behaviour = Behaviour(seconds_fixed=0.02)
    with running_pipeline(house, tmp_path, behaviour) as pipeline:
        for n in range(6):
            ids = house.submit([tensor(n)])
            offer(pipeline, ids, house.version)
            house.wait_terminal(ids)
    with house.database.read() as tx:
        (row,) = tx.latency.of_version(house.version.id)
        (cost,) = tx.latency.costs([house.version.id])
    assert (row.device, row.shape, row.bucket) == ("cpu", "", 1)
    assert row.mean_s >= 0.02 and cost.device_s_per_job >= 0.02
    with running_pipeline(house, tmp_path) as pipeline:
        ids = house.submit([tensor(1)])
        offer(pipeline, ids, house.version)
        house.wait_terminal(ids)
        assert pipeline.parts.ready.estimate_s(house.version.id, "", 1) >= 0.005, "learned anew"


def test_instances_run_side_by_side_and_never_mix_rows(house: Household, tmp_path: Path) -> None:
    both, passes = threading.Barrier(2, timeout=20), iter(range(1000))

    def meet(_: Mapping[str, Array]) -> None:
        if next(passes) < 2:
            both.wait()  # the first two passes are on the device at once

    behaviour = Behaviour(batch_sizes=(1, 2, 4, 8), before_forward=meet)
    version = house.push("twice", serving=Serving(instances=2))
    with running_pipeline(house, tmp_path, behaviour, max_batch=8) as pipeline:
        inputs = [tensor(n, -n) for n in range(64)]
        ids = house.submit(inputs, version=version)
        offer(pipeline, ids, version)
        jobs = house.wait_terminal(ids)
    found = [house.result(job)["outputs"]["y"][:2] for job in jobs]
    assert found == [[n, -n] for n in range(64)]


def test_one_instance_never_runs_beside_itself(house: Household, tmp_path: Path) -> None:
    inside, most = threading.Semaphore(1), []

    def alone(_: Mapping[str, Array]) -> None:
        most.append(inside.acquire(blocking=False))
        if most[-1]:
            threading.Event().wait(0.002)
            inside.release()

    behaviour = Behaviour(before_forward=alone, batch_sizes=(1, 2))
    with running_pipeline(house, tmp_path, behaviour, max_batch=2) as pipeline:
        ids = house.submit([tensor(n) for n in range(40)])
        offer(pipeline, ids, house.version)
        house.wait_terminal(ids)
    assert all(most)


def test_every_answer_belongs_to_its_question_whatever_happens_around_it(
    house: Household, tmp_path: Path
) -> None:
    """Padding, lists, bulk among online, culprits, NaN, memory that runs out, late jobs, several
    tenants: all at once and in every order."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    def moody(inputs: Mapping[str, Array]) -> None:
        if len(inputs["x"]) > 16:
            raise DeviceOutOfMemory("no room")

    asked: dict[str, tuple[str, Any]] = {}
    lanes: dict[str, Lane] = {}
    for n in range(600):
        tenant = chance.choice(["default", "other", "third"])
        kind = chance.random()
        one: Any = tensor(n)
        if kind < 0.15:
            one = {"items": [tensor(n, k) for k in range(chance.randint(1, 30))]}
        elif kind < 0.18:
            one = tensor(POISON, n)
        elif kind < 0.21:
            one = tensor(NAN, n)
        priority = chance.choice([1, 5, 9])
        lane = {1: Lane.BULK, 5: Lane.NORMAL, 9: Lane.HIGH}[priority]
        (job_id,) = submit_one(house, one, tenant, priority)
        asked[job_id], lanes[job_id] = (tenant, one), lane
    with running_pipeline(house, tmp_path, Behaviour(before_forward=moody)) as pipeline:
        shuffled = chance.sample(list(asked), len(asked))
        for job_id in shuffled:
            offer(pipeline, [job_id], house.version, lane=lanes[job_id])
        done = {
            tenant: house.wait_terminal(
                [job_id for job_id, (owner, _) in asked.items() if owner == tenant], 60, tenant
            )
            for tenant in ("default", "other", "third")
        }
        assert pipeline.intake.held() == 0
        assert pipeline.parts.credit.held() == 0
    for tenant, jobs in done.items():
        for job in jobs:
            check(house, job, *asked[job.id])
            assert job.tenant == tenant


def submit_one(house: Household, one: Any, tenant: str, priority: int) -> list[str]:
    return house.submit([one], tenant=tenant, priority=priority, max_attempts=1)


def check(house: Household, job: Any, tenant: str, asked: Any) -> None:
    if "items" in asked:
        rows = [one["outputs"]["y"] for one in house.result(job)["items"]]
        assert rows == [one["tensor"] for one in asked["items"]]
    elif asked["tensor"][0] == POISON:
        assert job.error is not None and job.error.code == "model_error"
    elif asked["tensor"][0] == NAN:
        assert job.error is not None and job.error.code == "non_finite_output"
    else:
        assert house.result(job)["outputs"]["y"] == asked["tensor"]


def test_an_objects_pack_is_known_to_sql_before_it_is_put(house: Household, tmp_path: Path) -> None:
    real = house.objects
    unknown: list[str] = []

    class Witness:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def put(self, key: str, data: bytes) -> None:
            pack_id = key.rsplit("/", 1)[1].split(".")[0]
            with house.database.read() as tx:
                pack = tx.packs.get(pack_id)
            if pack is None or pack.key != key or pack.state.value != "writing":
                unknown.append(key)
            real.put(key, data)

    house.objects = Witness()  # type: ignore[assignment]
    with running_pipeline(house, tmp_path) as pipeline:
        for n in range(12):
            ids = house.submit([tensor(n)], tenant=f"t{n % 3}")
            offer(pipeline, ids, house.version)
            house.wait_terminal(ids, tenant=f"t{n % 3}")
    assert not unknown


def test_what_was_settled_is_announced_after_it_can_be_seen(
    house: Household, tmp_path: Path
) -> None:
    told: list[tuple[str, JobState]] = []

    def announce(ids: Any) -> None:
        told.extend((one, house.job(one).state) for one in ids)

    with running_pipeline(house, tmp_path, announce=announce) as pipeline:
        ids = house.submit([tensor(n) for n in range(20)])
        offer(pipeline, ids, house.version)
        house.wait_terminal(ids)
        wait_until(lambda: len(told) == 20, what="the news")
    assert dict(told) == dict.fromkeys(ids, JobState.SUCCEEDED)


def test_what_the_worker_counted_is_in_its_session(house: Household, tmp_path: Path) -> None:
    with running_pipeline(house, tmp_path, renew_every_s=0.05) as pipeline:
        ids = house.submit([tensor(n) for n in range(20)])
        offer(pipeline, ids, house.version)
        house.wait_terminal(ids)

        def counted() -> Any:
            with house.database.read() as tx:
                (session,) = tx.sessions.live()
            versions: Any = session.stats.get("versions") or {}
            return versions.get(house.version.id, {}).get("settled")

        assert wait_until(counted, what="the counts") == {"succeeded": 20}
