"""Trainings over real RabbitMQ, PostgreSQL and S3: shared by workers, and none lost by a kill."""

from __future__ import annotations

import shlex
import signal

import pytest

from storage.records.jobs import JobState
from tests.integration.test_training_owners import is_gone
from tests.integration.test_worker_full import LEASE_S, PUBLISH_TTL_S, Works, works
from tests.support.trainings import Gym
from tests.support.waiting import wait_until

__all__ = ["works"]


@pytest.fixture
def gym(works: Works) -> Gym:
    urls = (works.environ["FOREBAY_DATABASE_URL"], works.environ["FOREBAY_OBJECTS_URL"])
    made = Gym(works.house, works.folder / "gym", urls)
    works.environ["FOREBAY_TEST_TRAINER"] = shlex.join(made.trainer)
    works.environ["PYTHONPATH"] = made.environ["PYTHONPATH"]
    return made


def test_two_workers_share_trainings_and_a_killed_ones_goes_on_elsewhere(
    works: Works,
    gym: Gym,
) -> None:
    gym.behave(steps=100, step_s=0.1)
    first, second = works.start(), works.start()
    ids = [gym.submit("a"), gym.submit("b")]
    wait_until(lambda: len(gym.starts()) == 2, 60, what=f"two trainers\n{works.logs()}")
    sessions = {job.session_id for job in works.house.jobs(ids)}
    assert len(sessions) == 2
    for job_id in ids:
        gym.wait_step(job_id, 12)
    first.kill()
    works.start()
    jobs = works.house.wait_terminal(ids, 2 * (LEASE_S + PUBLISH_TTL_S) + 60)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}, works.logs()
    assert {(job.attempts, job.losses) for job in jobs} == {(0, 0)}
    assert len(gym.starts()) == 3 and gym.starts()[2][2] >= 10
    assert {works.house.result(job)["version_state"] for job in jobs} == {"ready"}
    wait_until(lambda: works.in_queues() == (0, 0), 20, what="every message to be acknowledged")
    second.stop(signal.SIGTERM)
    assert second._popen.returncode == 0, second.log_tail()
    assert all(is_gone(pid) for pid, _, _ in gym.starts())
