"""Trainings travel beside all else: their own small window, a message each, a worker's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kombu
import pytest

from producers.estimates import GUESSED_S_PER_TRAINING, take_sample
from producers.express import Booking
from producers.relay import Relay
from storage.clock import SystemClock
from storage.queue.lanes import Lane, training_pool
from storage.queue.publisher import open_publisher
from storage.queue.topology import declare, queue_names
from storage.records.jobs import JobKind, JobState, NewJob
from storage.records.sessions import NewSession
from tests.integration.test_relay import Recorder
from tests.support.bare_pipeline import settings_for
from tests.support.household import POOL, Household, new_id, tensor
from tests.support.numpy_runtime import NumpyRuntime
from tests.support.trainings import TRAINING_POOL, Gym
from tests.support.waiting import wait_until
from workers.process import WorkerParts, run_worker

MEMORY = "memory://"


@pytest.fixture
def gym(tmp_path: Path) -> Gym:
    return Gym(Household.on_sqlite(tmp_path), tmp_path / "gym")


def open_sessions(house: Household, count: int) -> None:
    with house.database.begin() as tx:
        for n in range(count):
            tx.sessions.open(NewSession(new_id(), f"n{n}", "h", "cpu", POOL), 60_000)


def test_a_window_of_trainings_is_small_and_each_travels_alone(gym: Gym) -> None:
    ids = [gym.submit(f"m{n % 3}") for n in range(20)]
    recorder = Recorder()
    Relay(gym.house.database, recorder, SystemClock()).look()
    assert [(one.queue, one.wake_up.job_ids) for one in recorder.sent] == [
        ("train.default", (job_id,)) for job_id in ids[:6]
    ]  # bulk work gets three quarters of eight


def test_the_window_of_trainings_grows_with_the_pools_workers(gym: Gym) -> None:
    for n in range(40):
        gym.submit(f"m{n}", priority=5)
    open_sessions(gym.house, 10)
    recorder = Recorder()
    Relay(gym.house.database, recorder, SystemClock()).look()
    assert len(recorder.sent) == 20


def test_trainings_take_nothing_from_the_window_of_inference(gym: Gym) -> None:
    for n in range(20):
        gym.submit(f"m{n}", priority=9)
    ids = gym.house.submit([tensor(n) for n in range(300)])
    recorder = Recorder()
    Relay(gym.house.database, recorder, SystemClock()).look()
    with gym.house.database.read() as tx:
        assert sum(tx.backlog.window(POOL).values()) == 256
        assert sum(tx.backlog.window(TRAINING_POOL).values()) == 8
    sent = {job_id for one in recorder.sent for job_id in one.wake_up.job_ids}
    assert sent.issuperset(ids[:256])


def test_a_training_enters_an_idle_pools_window_with_its_submit(gym: Gym) -> None:
    recorder = Recorder()
    relay = Relay(gym.house.database, recorder, SystemClock())

    def booked() -> Booking:
        booking = Booking(relay)
        jobs = [
            NewJob(new_id(), JobKind.TRAINING, "m", new_id(), 1, TRAINING_POOL, b"{}")
            for _ in range(2)
        ]
        booking.take_all("default", jobs)
        return booking

    assert not booked().ids  # the pool is looked at from now on
    relay.look()
    booking = booked()
    assert len(booking.ids) == 2
    booking.send()
    stop = threading.Event()
    stop.set()
    relay.run(stop)
    assert [len(one.wake_up.job_ids) for one in recorder.sent] == [1, 1]
    assert {one.queue for one in recorder.sent} == {"train.default"}


def test_the_pools_workers_are_those_of_its_trainings(gym: Gym) -> None:
    gym.submit()
    open_sessions(gym.house, 2)
    with gym.house.database.read() as tx:
        sample = take_sample(tx, training_pool(POOL), 0.0)
    assert (sample.workers, sample.backlog_s()) == (2, GUESSED_S_PER_TRAINING / 2)


@contextmanager
def whole_worker(gym: Gym, trainings: int) -> Iterator[None]:
    """A device process in a thread, with relay and broker: what ``forebay up`` runs."""
    declare(MEMORY, [POOL])
    with kombu.Connection(MEMORY) as connection, connection.channel() as channel:
        for name in queue_names(POOL):
            channel.queue_purge(name)
    publisher, house = open_publisher(MEMORY), gym.house
    relay = Relay(house.database, publisher, SystemClock())
    parts = WorkerParts(
        house.database,
        house.objects,
        NumpyRuntime,
        MEMORY,
        settings_for(gym.folder.parent / "worker", trainings=trainings),
        (relay.run,),
        trainer=gym.trainer,
        environ=gym.environ,
    )
    stop, ready = threading.Event(), threading.Event()
    code: list[int] = []

    def work() -> None:
        code.append(run_worker(parts, stop=stop, on_ready=lambda _: ready.set()))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        assert ready.wait(20), "the worker is not ready"
        yield
    finally:
        stop.set()
        thread.join(40)
        publisher.close()
    assert code == [0]


def test_a_training_and_twenty_that_wait_do_not_keep_inference_from_running(gym: Gym) -> None:
    gym.behave(steps=100_000, step_s=0.05)
    trainings = [gym.submit(f"m{n}", priority=9) for n in range(21)]
    with whole_worker(gym, 1):
        wait_until(lambda: gym.starts(), 60, what="a trainer")
        for _ in range(3):
            ids = gym.house.submit([tensor(n) for n in range(300)])
            assert {job.state for job in gym.house.wait_terminal(ids, 20)} == {JobState.SUCCEEDED}
        states = [job.state for job in gym.house.jobs(trainings)]
        assert states.count(JobState.RUNNING) == 1 and states.count(JobState.QUEUED) == 20
    job = gym.house.job(gym.starts()[0][1])
    assert (job.state, job.losses) == (JobState.QUEUED, 0)  # given back by the drain
    kept = gym.run(job.id).checkpoint
    assert kept is not None and kept.step == gym.run(job.id).progress.step


def test_queued_trainings_run_one_after_the_other(gym: Gym) -> None:
    gym.behave(steps=2)
    ids = [gym.submit(f"m{n}") for n in range(4)]
    with whole_worker(gym, 1):
        jobs = gym.house.wait_terminal(ids, 90)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}


def test_a_worker_without_places_leaves_trainings_in_their_queue(gym: Gym) -> None:
    job_id = gym.submit()
    with whole_worker(gym, 0):
        gym.house.wait_terminal(gym.house.submit([tensor(1)]), 20)
        wait_until(lambda: gym.house.job(job_id).published_at, 20, what="the message")
        with kombu.Connection(MEMORY) as connection, connection.channel() as channel:
            name = f"{Lane.TRAIN}.{POOL}"
            wait_until(lambda: channel.queue_declare(name, passive=True).message_count == 1, 10)
    assert gym.house.job(job_id).state is JobState.QUEUED and not gym.starts()
