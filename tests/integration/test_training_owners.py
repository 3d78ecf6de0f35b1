"""A training's job from its claim to its end, with a process that obeys the protocol or dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from storage.objects import Objects
from storage.records.jobs import JobState
from storage.records.models import VersionState
from storage.records.training_runs import Phase
from tests.support.bare_pipeline import offer, running_pipeline
from tests.support.household import Household, tensor
from tests.support.late_store import LateStore
from tests.support.numpy_runtime import Behaviour
from tests.support.trainings import QUICK, SPEC, Gym, postman, training_worker
from tests.support.waiting import wait_until
from workers.inference.ports import ModelBroken
from workers.inference.versions import Standing
from workers.training import side


@pytest.fixture
def gym(tmp_path: Path) -> Gym:
    return Gym(Household.on_sqlite(tmp_path), tmp_path / "gym")


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_claimed_training_ends_with_a_servable_version(gym: Gym) -> None:
    job_id = gym.submit()
    with training_worker(gym) as worker, postman(gym.house, worker):
        (job,) = gym.house.wait_terminal([job_id])
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 0)
    assert gym.house.result(job) == {"steps": 30, "version_state": "ready"}
    assert gym.version(job_id).state is VersionState.READY
    assert [step for _, _, step in gym.starts()] == [0]


@pytest.mark.parametrize("by", [9, 11, 77])
def test_a_trainer_that_dies_is_started_again_from_its_checkpoint(gym: Gym, by: int) -> None:
    gym.behave(die_at=15, die_by=by)
    job_id = gym.submit()
    with training_worker(gym) as worker, postman(gym.house, worker):
        (job,) = gym.house.wait_terminal([job_id])
    assert (job.state, job.attempts, job.losses) == (JobState.SUCCEEDED, 0, 0)
    assert [step for _, _, step in gym.starts()] == [0, 10]
    says = {9: "SIGKILL), perhaps for want of memory", 11: "SIGSEGV", 77: "exit code 77"}
    assert "died at step 15: it " in gym.log(job_id) and says[by] in gym.log(job_id)
    assert "oh dear" in gym.log(job_id)


def test_a_trainer_that_dies_each_time_fails_its_job_and_says_how(gym: Gym) -> None:
    gym.behave(die_at=15, die_times=99)
    job_id = gym.submit(spec=replace(SPEC, max_deaths=2))
    with training_worker(gym) as worker, postman(gym.house, worker):
        (job,) = gym.house.wait_terminal([job_id])
    assert job.state is JobState.FAILED and job.error is not None
    assert job.error.code == "training_died"
    for part in ("3 times since step 10", "at step 15", "SIGKILL", "memory", "oh dear"):
        assert part in job.error.message
    assert [step for _, _, step in gym.starts()] == [0, 10, 10]
    assert gym.version(job_id).state is VersionState.BROKEN
    assert "training_died" in str(gym.version(job_id).error)


def test_an_error_of_the_run_fails_its_job_and_its_version(gym: Gym) -> None:
    gym.behave(fail_at=12)
    job_id = gym.submit()
    with training_worker(gym) as worker, postman(gym.house, worker):
        (job,) = gym.house.wait_terminal([job_id])
    assert job.state is JobState.FAILED and job.error is not None
    assert (job.error.code, job.error.message) == (
        "loss_not_a_number",
        "the loss is NaN at step 12",
    )
    assert gym.version(job_id).state is VersionState.BROKEN
    assert "NaN" in str(gym.version(job_id).error)


def test_a_result_whose_put_took_an_hour_is_put_again_and_the_job_succeeds(gym: Gym) -> None:
    house = gym.house
    late = LateStore(house.objects, house.database, {"packs/result": 2})
    house.objects = cast("Objects", late)
    job_id = gym.submit()
    with training_worker(gym) as worker, postman(house, worker):
        (job,) = house.wait_terminal([job_id])
    assert (job.state, job.epoch, late.late) == (JobState.SUCCEEDED, 1, {"packs/result": 0})
    assert house.result(job) == {"steps": 30, "version_state": "ready"}


def test_a_model_that_no_worker_can_load_fails_the_job(gym: Gym) -> None:
    def load(version: object, path: Path) -> None:
        if path.read_bytes().startswith(b"weights"):
            raise ModelBroken("its layers do not fit", code="bad_archive")

    job_id = gym.submit()
    loading = Behaviour(load=load)
    with training_worker(gym, behaviour=loading) as worker, postman(gym.house, worker):
        (job,) = gym.house.wait_terminal([job_id])
    assert job.state is JobState.FAILED and job.error is not None
    assert job.error.code == "model_broken" and "do not fit" in job.error.message


def test_a_model_that_is_not_loaded_in_time_does_not_fail_the_job(gym: Gym) -> None:
    def load(version: object, path: Path) -> None:
        if path.read_bytes().startswith(b"weights"):
            raise OSError("not now")

    job_id = gym.submit()
    timing, loading = replace(QUICK, ready_within_s=0.5), Behaviour(load=load)
    with (
        training_worker(gym, behaviour=loading, timing=timing) as worker,
        postman(gym.house, worker),
    ):
        (job,) = gym.house.wait_terminal([job_id])
    assert gym.house.result(job)["version_state"] == "pending"


@pytest.mark.parametrize("deaf", [False, True])
def test_a_cancelled_training_ends_and_leaves_no_version(gym: Gym, deaf: bool) -> None:
    gym.behave(steps=10_000, step_s=60 if deaf else 0.02, deaf=deaf)
    job_id = gym.submit()
    timing = replace(QUICK, stop_grace_s=0.3)
    with training_worker(gym, timing=timing) as worker, postman(gym.house, worker):
        wait_until(lambda: gym.starts(), 60, what="a trainer")
        with gym.house.database.begin() as tx:
            tx.jobs.request_cancel(gym.house.tenant, job_id)
        (job,) = gym.house.wait_terminal([job_id], 10)
        assert job.state is JobState.CANCELLED
        assert is_gone(gym.starts()[0][0])
        assert gym.version(job_id).state is VersionState.BROKEN
        gym.behave()
        assert gym.house.wait_terminal([gym.submit("next")])[0].state is JobState.SUCCEEDED


def test_a_paused_training_gives_its_place_to_another_and_goes_on_later(
    gym: Gym, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are paused: its worker looks after nobody but who trains."""
    monkeypatch.setattr(side, "MOST_OWNED", 1)
    gym.behave(steps=500, step_s=0.02)
    paused = gym.submit()
    with training_worker(gym) as worker, postman(gym.house, worker):
        gym.wait_step(paused, 12)
        with gym.house.database.begin() as tx:
            assert tx.training.pause(gym.house.tenant, paused)
        wait_until(lambda: gym.house.job(paused).state is JobState.QUEUED, what="the pause")
        gym.behave()
        others = [gym.submit(name) for name in ("other", "third")]
        with gym.house.database.begin() as tx:
            assert tx.training.pause(gym.house.tenant, others[1])  # perhaps before it is claimed
        assert gym.house.wait_terminal(others[:1])[0].state is JobState.SUCCEEDED
        assert gym.house.states([paused, others[1]]) == [JobState.QUEUED] * 2
        kept = gym.run(paused).checkpoint
        gym.behave(steps=kept.step + 5 if kept else 0)
        with gym.house.database.begin() as tx:
            assert tx.training.resume(gym.house.tenant, paused)
        (job,) = gym.house.wait_terminal([paused])
    assert (job.state, job.epoch, job.attempts) == (JobState.SUCCEEDED, 2, 0)
    assert kept is not None and kept.step > 12
    assert [step for _, one, step in gym.starts() if one == paused] == [0, kept.step]


def test_a_drain_keeps_a_checkpoint_and_gives_the_job_back(gym: Gym) -> None:
    gym.behave(steps=10_000, step_s=0.02)
    job_id = gym.submit()
    with training_worker(gym, "one") as first:
        with postman(gym.house, first):
            gym.wait_step(job_id, 12)
        first.stop()
        job = gym.house.job(job_id)
        assert (job.state, job.attempts, job.losses) == (JobState.QUEUED, 0, 0)
        kept = gym.run(job_id).checkpoint
        assert kept is not None and kept.step >= 12 and kept.step % 10
    gym.behave(steps=kept.step + 5)
    with training_worker(gym, "two") as second, postman(gym.house, second):
        assert gym.house.wait_terminal([job_id])[0].state is JobState.SUCCEEDED
    assert [step for _, _, step in gym.starts()] == [0, kept.step]


def test_a_killed_worker_takes_its_trainer_with_it_and_another_goes_on(
    gym: Gym, tmp_path: Path
) -> None:
    gym.behave(steps=60, step_s=0.05)
    job_id = gym.submit()
    argv = [sys.executable, "-m", "tests.support.training_process", str(tmp_path)]
    process = subprocess.Popen(argv, env=gym.environ, cwd=Path(__file__).parents[2])
    try:
        gym.wait_step(job_id, 12)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: is_gone(gym.starts()[0][0]), what="the trainer to be gone")

    def reaped() -> int:
        with gym.house.database.begin() as tx:
            return tx.jobs.reap(limit=10)

    wait_until(reaped, what="the job to be queued again")
    with training_worker(gym) as worker, postman(gym.house, worker):
        (job,) = gym.house.wait_terminal([job_id])
    assert (job.state, job.attempts, job.losses) == (JobState.SUCCEEDED, 0, 0)
    (_, _, first), (_, _, again) = gym.starts()
    assert first == 0 and again >= 10


def test_a_session_that_is_lost_ends_its_trainer(gym: Gym) -> None:
    gym.behave(steps=10_000, step_s=0.02)
    job_id = gym.submit()
    with training_worker(gym, "one") as one, training_worker(gym, "two") as two:
        with postman(gym.house, one):
            gym.wait_step(job_id, 3)
        (pid, _, _), session = gym.starts()[0], gym.house.job(job_id).session_id
        gym.behave(steps=5)
        assert session is not None
        with gym.house.database.begin() as tx:
            tx.sessions.close(session)
            tx.jobs.reap(limit=10)
        with postman(gym.house, two):
            (job,) = gym.house.wait_terminal([job_id])
        assert job.state is JobState.SUCCEEDED and job.session_id != session
        wait_until(lambda: is_gone(pid), what="the trainer to be gone")


def test_a_training_past_its_run_deadline_ends_and_leaves_no_version(gym: Gym) -> None:
    gym.behave(steps=10_000, step_s=0.02)
    job_id = gym.submit(run_timeout_ms=1_500)
    with training_worker(gym) as worker, postman(gym.house, worker):
        wait_until(lambda: gym.starts(), 60, what="a trainer")

        def timed_out() -> int:
            with gym.house.database.begin() as tx:
                return tx.jobs.time_out(limit=10)

        wait_until(timed_out, what="the deadline")
        wait_until(lambda: worker.side.owned == 0, what="its owner to notice")
        assert is_gone(gym.starts()[0][0])
    job = gym.house.job(job_id)
    assert job.state is JobState.FAILED and job.error is not None
    assert job.error.code == "run_timeout"
    with gym.house.database.begin() as tx:
        assert tx.models.abandon_orphans() == 1


def test_two_workers_with_a_place_each_take_two_trainings(gym: Gym) -> None:
    gym.behave(steps=10_000, step_s=0.02)
    with (
        training_worker(gym, "one") as one,
        training_worker(gym, "two") as two,
        postman(gym.house, one, one, one, two),
    ):
        ids = [gym.submit(f"m{n}") for n in range(3)]
        wait_until(lambda: len(gym.starts()) == 2, 60, what="two trainers")
        states = sorted(job.state for job in gym.house.jobs(ids))
        assert states == sorted([JobState.RUNNING, JobState.RUNNING, JobState.QUEUED])
        assert (one.side.owned, two.side.owned) == (1, 1)


def test_what_finds_no_place_goes_back_to_the_backlog_soon(gym: Gym) -> None:
    gym.behave(steps=10_000, step_s=0.02)
    running, waiting = gym.submit("a"), gym.submit("b")
    with training_worker(gym) as worker:
        with gym.house.database.begin() as tx:
            tx.backlog.mark_published([running, waiting])
        worker.side.offer([running])
        gym.wait_step(running, 1)
        worker.side.offer([waiting])
        wait_until(lambda: gym.house.job(waiting).published_at is None, 5, what="the backlog")
        assert gym.house.job(waiting).state is JobState.QUEUED
        assert gym.run(waiting).progress.phase is Phase.WAITING


def test_a_job_that_is_no_training_is_not_kept_in_its_lane(gym: Gym) -> None:
    (job_id,) = gym.house.submit([{"tensor": [1, 2, 3, 4]}])
    with training_worker(gym) as worker:
        with gym.house.database.begin() as tx:
            tx.backlog.mark_published([job_id])
        worker.side.offer([job_id])
        wait_until(lambda: gym.house.job(job_id).published_at is None, 5, what="its return")
        assert gym.house.job(job_id).state is JobState.QUEUED
        gym.behave()
        worker.side.offer([training := gym.submit()])  # the place was given back
        assert gym.house.wait_terminal([training])[0].state is JobState.SUCCEEDED


def test_a_training_in_a_lane_of_the_device_is_never_run_there(gym: Gym) -> None:
    house = gym.house
    job_id = gym.submit()
    unfinished = gym.version(job_id)
    with house.database.begin() as tx:
        tx.backlog.mark_published([job_id])
    with running_pipeline(house, gym.folder.parent / "one") as pipeline:
        offer(pipeline, house.submit([tensor(1)]), house.version)[0].done.wait(10)
        (forged,) = offer(pipeline, [job_id], unfinished)
        assert forged.done.wait(10), "its version has no artifact: nobody waits for that"
        assert house.job(job_id).published_at is not None
        (wrong,) = offer(pipeline, [job_id], house.version)
        assert wrong.done.wait(10)
        assert pipeline.versions.standing(unfinished.id) is Standing.UNKNOWN
    job = house.job(job_id)
    assert (job.state, job.published_at, job.attempts) == (JobState.QUEUED, None, 0)
    assert gym.version(job_id).state is VersionState.TRAINING
