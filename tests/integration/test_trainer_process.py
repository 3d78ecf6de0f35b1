"""The trainer's process with TensorFlow: killed at any moment it goes on to the same weights."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.database import Database
from storage.objects import open_objects
from storage.records.models import VersionState
from storage.records.training import (
    DataFormat,
    EarlyStopping,
    Named,
    Network,
    Preparation,
    Scaling,
    TrainingData,
    TrainingSpec,
    payload_of,
)
from storage.records.training_runs import Checkpoint, TrainingRun, curves_of
from tests.support.bulk import Owned
from tests.support.database import claim, open_session
from tests.support.training import submit_training
from tests.support.waiting import wait_until
from workers.training.checkpoint_file import read_checkpoint
from workers.training.exits import TrainerExit
from workers.training.position import Snapshot

pytestmark = pytest.mark.slow

ROWS = 6_000
START_S = 120.0


@dataclass(frozen=True)
class Place:
    """A database, a store, rows to learn from, and trainers' processes."""

    database: Database
    folder: Path
    environment: dict[str, str]

    def own(self, spec: TrainingSpec) -> Owned:
        job_id = submit_training(self.database, payload=payload_of(spec))
        session_id = open_session(self.database, lease_ttl_ms=10**9)
        (job,) = claim(self.database, session_id, [job_id])
        return Owned(job_id, session_id, job.epoch)

    def start(self, owned: Owned, module: str = "forebay.trainer") -> subprocess.Popen[bytes]:
        told = ["--job", owned.job_id, "--session", owned.session_id, "--epoch", str(owned.epoch)]
        command = [sys.executable, "-P", "-m", module, *told]
        return subprocess.Popen([*command, "--parent-pid", str(os.getpid())], env=self.environment)

    def run_of(self, owned: Owned) -> TrainingRun:
        with self.database.read() as tx:
            found = tx.training.run(owned.job_id)
        assert found is not None
        return found

    def curves(self, owned: Owned) -> dict[str, Any]:
        with self.database.read() as tx:
            return curves_of(tx.training.measures(owned.job_id))

    def last(self, owned: Owned) -> Snapshot:
        """What the run's last checkpoint holds."""
        checkpoint = self.run_of(owned).checkpoint
        assert checkpoint is not None
        path = self.folder / "checkpoint.zip"
        with closing(open_objects(self.environment["FOREBAY_OBJECTS_URL"])) as objects:
            objects.get_to_file(checkpoint.key, path)
        return read_checkpoint(path).snapshot


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    data = tmp_path / "data"
    data.mkdir()
    chance = np.random.Generator(np.random.PCG64(1))
    x = chance.normal(size=(ROWS, 6)).astype(np.float32)
    y = (x @ chance.normal(size=(6, 3)).astype(np.float32)).argmax(axis=1)
    lines = ["a,b,c,d,e,f,kind"]
    lines += [
        ",".join(f"{value:.6f}" for value in row) + "," + ("red", "green", "blue")[label]
        for row, label in zip(x, y, strict=True)
    ]
    (data / "rows.csv").write_text("\n".join(lines) + "\n")
    places = {
        "FOREBAY_DATABASE_URL": f"sqlite:///{tmp_path / 'forebay.db'}",
        "FOREBAY_OBJECTS_URL": f"file://{tmp_path / 'objects'}",
        "FOREBAY_BROKER_URL": "memory://",
        "FOREBAY_REF_PREFIXES": f"file://{data}/",
        "FOREBAY_WORKER_CACHE_DIR": str(tmp_path / "cache" / "models"),
        "FOREBAY_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    with closing(Database.open(places["FOREBAY_DATABASE_URL"])) as database:
        database.migrate()
        yield Place(database, tmp_path, {**os.environ, **places})


def spec_of(place: Place, **fields: Any) -> TrainingSpec:
    """Classes of six columns, with dropout: chance is part of the state."""
    spec = TrainingSpec(
        data=TrainingData(
            uris=(f"file://{place.folder}/data/rows.csv",), format=DataFormat.CSV, label="kind"
        ),
        network=Network(recipe="dense", arguments={"units": [32, 16], "dropout": 0.2}),
        loss=Named("sparse_categorical_crossentropy"),
        prepare=Preparation(scale=Scaling.STANDARD),
        metrics=("accuracy",),
        epochs=12,
        batch_size=16,
        checkpoint_every_s=0.3,
        early_stopping=EarlyStopping(patience=20),
        deterministic=True,
        seed=3,
    )
    return replace(spec, **fields)


def test_killed_at_any_moment_and_started_again_it_ends_with_the_same_bits(place: Place) -> None:
    spec = spec_of(place)
    calm, owned = place.own(spec), place.own(spec)
    assert place.start(calm).wait(START_S) == TrainerExit.FINISHED
    chance = random.Random(7)
    for _ in range(2):
        before = place.run_of(owned).checkpoint
        process = place.start(owned)
        wait_until(
            partial(_went_on, place, owned, before, process),
            START_S,
            what="a checkpoint that is its own",
        )
        try:
            process.wait(chance.uniform(0.0, 0.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    assert place.start(owned).wait(START_S) == TrainerExit.FINISHED

    ours, theirs = place.last(owned), place.last(calm)
    assert list(ours.state) == list(theirs.state)
    for name, array in theirs.state.items():
        assert ours.state[name].tobytes() == array.tobytes(), name
    assert ours.at.patience == theirs.at.patience and ours.at.step == theirs.at.step
    curves = [place.curves(one) for one in (owned, calm)]
    assert curves[0]["steps"]["step"] == curves[1]["steps"]["step"]
    assert curves[0]["steps"]["loss"] == curves[1]["steps"]["loss"]
    epochs = [
        [{k: v for k, v in one.items() if k != "seconds"} for one in each["epochs"]]
        for each in curves
    ]
    assert epochs[0] == epochs[1]
    results = [place.run_of(one).result or {} for one in (owned, calm)]
    assert results[0]["evaluation"] == results[1]["evaluation"]
    assert results[0]["evaluation"]["accuracy"] > 0.8
    with place.database.read() as tx:
        version = tx.models.by_id(place.run_of(owned).version_id)
    assert version is not None and version.state is VersionState.PENDING
    assert version.signature["labels"] == ["blue", "green", "red"]
    assert not list((place.folder / "cache" / "spool").glob("*/data"))


def _went_on(
    place: Place, owned: Owned, before: Checkpoint | None, process: subprocess.Popen[bytes]
) -> bool:
    return place.run_of(owned).checkpoint != before or process.poll() is not None


def test_rows_beyond_memory_are_learned_from_the_disk_to_the_same_bits(place: Place) -> None:
    spec = spec_of(place, epochs=4)
    held, streamed = place.own(spec), place.own(spec)
    assert place.start(held).wait(START_S) == TrainerExit.FINISHED
    taken = place.folder / "taken"
    place.environment["FOREBAY_TEST_TAKEN"] = str(taken)
    process = place.start(streamed, "tests.support.disk_trainer")
    assert process.wait(START_S) == TrainerExit.FINISHED

    rows = place.run_of(streamed).data
    assert rows is not None
    row_bytes = 6 * 4
    assert int(taken.read_text()) >= 4 * rows["rows"]["train"] * row_bytes, "rows were not read"
    ours, theirs = place.last(streamed), place.last(held)
    assert list(ours.state) == list(theirs.state)
    for name, array in theirs.state.items():
        assert ours.state[name].tobytes() == array.tobytes(), name
    assert place.curves(streamed)["steps"]["loss"] == place.curves(held)["steps"]["loss"]
    results = [place.run_of(one).result or {} for one in (streamed, held)]
    assert results[0]["evaluation"] == results[1]["evaluation"]


def test_a_worker_that_computes_with_more_threads_comes_to_the_same_bits(place: Place) -> None:
    """Sums over so many rows are cut by threads: one and four do not agree by themselves."""
    spec, states = spec_of(place, epochs=2, batch_size=4_096), []
    for threads in ("1", "4"):
        place.environment["FOREBAY_WORKER_TF_THREADS"] = threads
        owned = place.own(spec)
        assert place.start(owned).wait(START_S) == TrainerExit.FINISHED
        states.append(place.last(owned).state)
    assert list(states[0]) == list(states[1])
    for name, array in states[0].items():
        assert states[1][name].tobytes() == array.tobytes(), name


def test_a_signal_to_end_leaves_a_checkpoint_of_the_last_step(place: Place) -> None:
    owned = place.own(spec_of(place, epochs=1_000, checkpoint_every_s=1e6))
    process = place.start(owned)
    wait_until(lambda: place.run_of(owned).progress.step > 100 or process.poll(), START_S)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == TrainerExit.STOPPED
    run = place.run_of(owned)
    assert run.checkpoint is not None and run.checkpoint.step == run.progress.step


def test_it_does_not_outlive_its_parent(place: Place) -> None:
    """The parent is killed: whoever claims the job goes on from the checkpoint it leaves."""
    owned = place.own(spec_of(place, epochs=100_000))
    told = ["--job", owned.job_id, "--session", owned.session_id, "--epoch", str(owned.epoch)]
    code = (
        "import os, subprocess, sys\n"
        "command = [sys.executable, '-P', '-m', 'forebay.trainer', *sys.argv[1:]]\n"
        "child = subprocess.Popen([*command, '--parent-pid', str(os.getpid())])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *told], env=place.environment, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    with parent.stdout as told_pid:
        child = int(told_pid.readline())
    wait_until(lambda: place.run_of(owned).progress.step > 0, START_S)
    parent.kill()
    parent.wait()
    wait_until(lambda: not Path(f"/proc/{child}").exists(), 15, what="the child's end")
    assert place.run_of(owned).checkpoint is not None
