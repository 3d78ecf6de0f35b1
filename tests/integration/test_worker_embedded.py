"""A whole device process in a thread, on memory://, SQLite and a directory: the embedded mode."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kombu
import pytest

from storage.queue.publisher import open_publisher
from storage.queue.topology import INFER_TASK, Lane, declare, queue_name
from storage.records.jobs import JobState
from tests.support.bare_pipeline import settings_for
from tests.support.household import POOL, Household, new_id, tensor
from tests.support.numpy_runtime import Behaviour, NumpyRuntime
from tests.support.plain_relay import PlainRelay
from tests.support.waiting import wait_until
from workers.inference.pipeline import Pipeline
from workers.process import FAILED, WorkerParts, run_worker

MEMORY = "memory://"


@pytest.fixture
def house(tmp_path: Path) -> Household:
    return Household.on_sqlite(tmp_path)


@dataclass
class Running:
    pipeline: Pipeline
    stop: threading.Event
    thread: threading.Thread
    code: list[int]

    def end(self) -> int:
        self.stop.set()
        self.thread.join(30)
        assert not self.thread.is_alive(), "the worker did not stop"
        return self.code[0]


@contextmanager
def embedded(
    house: Household, folder: Path, behaviour: Behaviour | None = None, *, relay: bool = True
) -> Iterator[Running]:
    declare(MEMORY, [POOL])
    purge()
    publisher = open_publisher(MEMORY)
    others: tuple[Any, ...] = (PlainRelay(house.database, publisher).run,) if relay else ()
    parts = WorkerParts(
        house.database,
        house.objects,
        lambda: NumpyRuntime(behaviour),
        MEMORY,
        settings_for(folder),
        others,
    )
    stop, ready, code = threading.Event(), threading.Event(), [-1]
    pipelines: list[Pipeline] = []

    def on_ready(pipeline: Pipeline) -> None:
        pipelines.append(pipeline)
        ready.set()

    def run() -> None:
        code[0] = run_worker(parts, stop=stop, on_ready=on_ready)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert ready.wait(20), "the worker is not ready"
        yield Running(pipelines[0], stop, thread, code)
    finally:
        if behaviour is not None:
            behaviour.gate.set()
        stop.set()
        thread.join(30)
        publisher.close()


def purge() -> None:
    """The in-process broker outlives tests."""
    with kombu.Connection(MEMORY) as connection, connection.channel() as channel:
        for lane in Lane:
            channel.queue_purge(queue_name(POOL, lane))


def send(body: Any, *, task: str = INFER_TASK, queue: str | None = None) -> None:
    """A message as anybody could write it."""
    with kombu.Connection(MEMORY) as connection:
        connection.Producer().publish(
            [[body], {}, {}],
            exchange="",
            routing_key=queue or queue_name(POOL, Lane.NORMAL),
            headers={"task": task, "id": new_id(), "lang": "py"},
            serializer="json",
        )


def test_jobs_are_answered_through_celery(house: Household, tmp_path: Path) -> None:
    with embedded(house, tmp_path) as worker:
        ids = house.submit([tensor(n) for n in range(300)])
        jobs = house.wait_terminal(ids)
        assert [house.result(job)["outputs"]["y"][0] for job in jobs] == list(range(300))
        wait_until(lambda: worker.pipeline.intake.held() == 0, what="every id to be settled")
        assert worker.end() == 0
    with house.database.read() as tx:
        assert tx.sessions.live() == []


def test_three_workers_one_after_another_in_one_process(house: Household, tmp_path: Path) -> None:
    for n in range(3):
        with embedded(house, tmp_path) as worker:
            ids = house.submit([tensor(n)])
            house.wait_terminal(ids)
            assert worker.end() == 0


def test_a_stop_while_a_batch_runs_finishes_it(house: Household, tmp_path: Path) -> None:
    behaviour = Behaviour()
    behaviour.gate.clear()
    with embedded(house, tmp_path, behaviour) as worker:
        ids = house.submit([tensor(1)])
        assert behaviour.entered.acquire(timeout=10)
        worker.stop.set()
        wait_until(lambda: worker.pipeline.stopping, what="the drain to begin")
        behaviour.gate.set()
        assert worker.end() == 0
    assert house.states(ids) == [JobState.SUCCEEDED]
    assert house.job(ids[0]).attempts == 1


def test_a_worker_whose_device_hangs_ends_by_itself_and_says_that_it_failed(
    house: Household, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.inference.pipeline._LATE_GRACE_S", 0.1)
    behaviour = Behaviour()
    behaviour.gate.clear()
    with embedded(house, tmp_path, behaviour) as worker:
        stuck = house.submit([tensor(1)], run_timeout_ms=300)
        assert behaviour.entered.acquire(timeout=10)
        waiting = house.submit([tensor(2)])
        wait_until(lambda: house.states(waiting) == [JobState.RUNNING], what="the claim")
        worker.thread.join(30)
        assert not worker.thread.is_alive()
        assert worker.code == [FAILED]
        assert worker.pipeline.hangs
        assert house.states([*stuck, *waiting]) == [JobState.RUNNING, JobState.QUEUED]


@pytest.mark.parametrize(
    "body",
    [
        None,
        "text",
        {},
        {"v": 2, "version": new_id(), "jobs": [new_id()]},
        {"v": 1, "version": "../../etc", "jobs": [new_id()]},
        {"v": 1, "version": new_id(), "jobs": [{"$ref": 1}]},
    ],
)
def test_a_message_that_is_no_wake_up_is_set_aside_and_the_worker_goes_on(
    house: Household, tmp_path: Path, body: Any
) -> None:
    with embedded(house, tmp_path):
        send(body)
        send(body, task="os.system")
        ids = house.submit([tensor(3)])
        (job,) = house.wait_terminal(ids)
        assert job.state is JobState.SUCCEEDED


def test_a_wake_up_for_a_version_nobody_knows_does_no_harm(
    house: Household, tmp_path: Path
) -> None:
    with embedded(house, tmp_path) as worker:
        send({"v": 1, "version": new_id(), "jobs": [new_id()]})
        ids = house.submit([tensor(3)])
        house.wait_terminal(ids)
        wait_until(lambda: worker.pipeline.intake.held() == 0, what="it to be let go")


def test_the_high_lane_overtakes(house: Household, tmp_path: Path) -> None:
    behaviour = Behaviour(batch_sizes=(1,))
    behaviour.gate.clear()
    order: list[float] = []
    behaviour.before_forward = lambda inputs: order.append(float(inputs["x"][0][0]))
    with embedded(house, tmp_path, behaviour, relay=False) as worker:
        ids = house.submit([tensor(n) for n in range(6)])
        version = house.version.id
        send({"v": 1, "version": version, "jobs": ids[:1]})
        assert behaviour.entered.acquire(timeout=10)
        send({"v": 1, "version": version, "jobs": ids[1:2]})
        wait_until(lambda: house.states(ids)[1] is JobState.RUNNING, what="the batch beyond")
        send({"v": 1, "version": version, "jobs": ids[2:5]})
        send({"v": 1, "version": version, "jobs": ids[5:]}, queue=queue_name(POOL, Lane.HIGH))
        wait_until(lambda: worker.pipeline.intake.held() == 6, what="all messages")
        behaviour.gate.set()
        house.wait_terminal(ids)
    assert order == [0, 1, 5, 2, 3, 4]


def test_credentials_are_not_logged(
    house: Household, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that does not answer, with a secret in its address."""
    parts = WorkerParts(
        house.database,
        house.objects,
        NumpyRuntime,
        "amqp://user:canary-secret@127.0.0.1:9/none",
        settings_for(tmp_path),
    )
    stop = threading.Event()
    worker = threading.Thread(target=run_worker, args=(parts,), kwargs={"stop": stop}, daemon=True)
    with caplog.at_level("DEBUG"):
        worker.start()
        wait_until(lambda: "the broker does not answer" in caplog.text, 20, what="the complaint")
        stop.set()
        worker.join(20)
    assert not worker.is_alive()
    assert "canary-secret" not in caplog.text
