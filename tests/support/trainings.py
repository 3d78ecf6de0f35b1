"""Trainings in a household: jobs for them, a fake trainer, and workers that look after them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from storage.clock import SystemClock
from storage.queue.lanes import training_pool
from storage.records.jobs import BULK_PRIORITY, JobKind, NewJob
from storage.records.models import ModelVersion
from storage.records.training import Named, Network, TrainingData, TrainingSpec, payload_of
from storage.records.training_runs import TrainingRun
from tests.support import fake_trainer
from tests.support.bare_pipeline import running_pipeline, settings_for
from tests.support.household import POOL, Household, new_id
from tests.support.numpy_runtime import Behaviour, echo_signature
from tests.support.waiting import wait_until
from workers.inference.pipeline import Pipeline
from workers.training.kit import Timing
from workers.training.side import TrainingSide

TRAINING_POOL = training_pool(POOL)
QUICK = Timing(tick_s=0.05, let_go_after_s=0.3, stop_grace_s=5.0, first_pause_s=0.05)
SPEC = TrainingSpec(TrainingData(("file:///none.csv",)), Network("dense"), Named("huber"))


@dataclass
class Gym:
    """Where the fake trainer of a household's trainings is told what to do."""

    house: Household
    folder: Path
    urls: tuple[str, str] | None = None  # of database and objects, if not beside the folder

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.behave()
        signature = json.dumps(dict(echo_signature().to_json()))
        (self.folder / "signature.json").write_text(signature)

    @property
    def trainer(self) -> tuple[str, ...]:
        """What starts one."""
        home = self.folder.parent
        urls = self.urls or (f"sqlite:///{home}/forebay.db", f"file://{home}/objects")
        return (sys.executable, str(Path(fake_trainer.__file__)), *urls, str(self.folder))

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def behave(self, **words: Any) -> None:
        """From its next start on."""
        (self.folder / "behaviour.json").write_text(json.dumps(words))

    def starts(self) -> list[tuple[int, str, int]]:
        """(pid, job, first step) of each life so far."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "starts").read_text().splitlines()
            return [(int(pid), job, int(step)) for pid, job, step in map(str.split, lines)]
        return []

    def submit(self, name: str = "trained", spec: TrainingSpec = SPEC, **options: Any) -> str:
        """A training job as the API would write it; its id."""
        house = self.house
        with house.database.begin() as tx:
            version = tx.models.reserve(house.tenant, new_id(), name)
            plain: dict[str, Any] = {"priority": BULK_PRIORITY, "max_attempts": 1}
            job = NewJob(
                id=new_id(),
                kind=JobKind.TRAINING,
                model_name=version.name,
                version_id=version.id,
                version=version.version,
                pool=TRAINING_POOL,
                payload=payload_of(spec),
                **{**plain, **options},
            )
            tx.jobs.submit(house.tenant, [job])
            tx.training.create(house.tenant, [job])
        return job.id

    def run(self, job_id: str) -> TrainingRun:
        with self.house.database.read() as tx:
            run = tx.training.run(job_id)
        assert run is not None
        return run

    def version(self, job_id: str) -> ModelVersion:
        with self.house.database.read() as tx:
            version = tx.models.by_id(self.house.job(job_id).version_id)
        assert version is not None
        return version

    def log(self, job_id: str) -> str:
        with self.house.database.read() as tx:
            return "\n".join(line.text for line in tx.training.log(job_id))

    def wait_step(self, job_id: str, step: int) -> None:
        wait_until(lambda: self.run(job_id).progress.step >= step, 60, what=f"step {step}")


@dataclass
class TrainingWorker:
    pipeline: Pipeline
    side: TrainingSide

    def stop(self) -> None:
        """As a process that is told to end does it."""
        assert self.pipeline.drain(lambda: None)
        self.side.close()


@contextmanager
def training_worker(
    gym: Gym,
    name: str = "one",
    *,
    places: int = 1,
    timing: Timing = QUICK,
    behaviour: Behaviour | None = None,
    **changes: Any,
) -> Iterator[TrainingWorker]:
    """A worker of the household that takes what it is offered."""
    house, folder = gym.house, gym.folder.parent / name
    with running_pipeline(house, folder, behaviour, **changes) as pipeline:
        side = TrainingSide(
            pipeline,
            house.database,
            house.objects,
            settings_for(folder, trainings=places, **changes),
            SystemClock(),
            trainer=gym.trainer,
            environ=gym.environ,
            timing=timing,
        )
        side.start()
        try:
            yield TrainingWorker(pipeline, side)
        finally:
            side.close()


@contextmanager
def postman(house: Household, *workers: TrainingWorker) -> Iterator[None]:
    """Brings the backlog's trainings to one worker after the other, as relay and broker would."""
    stop, turn = threading.Event(), cycle(workers)

    def carry() -> None:
        while not stop.wait(0.02):
            for job_id in _marked(house):
                next(turn).side.offer([job_id])

    thread = threading.Thread(target=carry, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def _marked(house: Household) -> Sequence[str]:
    with house.database.begin() as tx:
        heads = [
            head.id
            for tenant in tx.backlog.tenants(TRAINING_POOL)
            for head in tx.backlog.heads(TRAINING_POOL, tenant, 8)
        ]
        marked = tx.backlog.mark_published(heads)
    return [job_id for job_id in heads if job_id in marked]
