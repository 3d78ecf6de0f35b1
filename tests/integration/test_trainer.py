"""A trainer's process from its run to its version, with storage that answers, fails and is taken
away; the network is numpy's."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.clock import SystemClock
from storage.database import Database
from storage.objects import Objects, open_objects
from storage.records.errors import Conflict, InvalidInput, ObjectsUnavailable
from storage.records.models import VersionState
from storage.records.training import TrainingSpec, payload_of
from storage.records.training_runs import Phase, TrainingRun, curves_of
from tests.support.bulk import Owned
from tests.support.database import (  # noqa: F401
    ALICE,
    claim,
    emptied,
    migrated_postgres_url,
    open_session,
)
from tests.support.numpy_learner import ArrayRows, NumpyLearner, rows_of_numbers, spec_of_numbers
from tests.support.training import submit_training
from tests.support.waiting import wait_until
from workers.bulk.kit import Stopped
from workers.bulk.places import Places
from workers.training import checkpoints, trainer
from workers.training.checkpoint_file import write_checkpoint
from workers.training.exits import TrainerExit
from workers.training.ports import OutOfMemory, Prepared
from workers.training.position import Snapshot
from workers.training.run_store import RunStore
from workers.training.trainer import run
from workers.training.trainer_parts import Framework, TrainerParts


class Killed(BaseException):
    """kill -9."""


@dataclass
class Desk:
    """A database, a store, and trainings in them."""

    database: Database
    objects: Any
    folder: Path
    rows: Callable[[], ArrayRows] = rows_of_numbers
    learner: Callable[[], NumpyLearner] = NumpyLearner
    stop: threading.Event = field(default_factory=threading.Event)
    learners: list[NumpyLearner] = field(default_factory=list)

    def submit(self, spec: TrainingSpec) -> str:
        return submit_training(self.database, payload=payload_of(spec))

    def own(self, job_id: str) -> Owned:
        session_id = open_session(self.database, lease_ttl_ms=10**9)
        (job,) = claim(self.database, session_id, [job_id])
        return Owned(job_id, session_id, job.epoch)

    def train(self, owned: Owned, **parts: Any) -> int:
        spool = self.folder / f"spool{len(self.learners)}"
        spool.mkdir(exist_ok=True)
        made = TrainerParts(
            **{
                "database": self.database,
                "objects": self.objects,
                "places": Places(self.database, self.objects, (), ()),
                "prepare": self.prepare,
                "import_framework": lambda _: lambda: Framework(self.open, _no_texts, _no_texts),
                "clock": SystemClock(),
                "spool": spool,
                "cache_dir": self.folder / "cache",
                "retention_days": 30,
                "stop": self.stop,
                **parts,
            }
        )
        code = run(made, owned.job_id, owned.session_id, owned.epoch)
        assert not [one.name for one in spool.iterdir() if one.name != "model.keras"]
        return code

    def prepare(self, *told: Any) -> ArrayRows:
        told[5](70)
        return self.rows()

    def open(self, spec: TrainingSpec, prepared: Prepared, artifact: Path | None) -> NumpyLearner:
        self.learners.append(self.learner())
        return self.learners[-1]

    def run_of(self, owned: Owned) -> TrainingRun:
        with self.database.read() as tx:
            found = tx.training.run(owned.job_id)
        assert found is not None
        return found

    def curves(self, owned: Owned) -> dict[str, Any]:
        with self.database.read() as tx:
            return curves_of(tx.training.measures(owned.job_id))

    def log(self, owned: Owned) -> list[str]:
        with self.database.read() as tx:
            return [line.text for line in tx.training.log(owned.job_id)]


def _no_texts(_: Any) -> Any:
    raise AssertionError("there are no texts")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    database = Database.open(f"sqlite:///{tmp_path / 'forebay.db'}")
    database.migrate()
    yield Desk(database, open_objects(f"file://{tmp_path / 'objects'}"), tmp_path)
    database.close()


@pytest.fixture(params=["laptop", "services"])
def anywhere(request: pytest.FixtureRequest) -> Iterator[Desk]:
    """SQLite and a folder; PostgreSQL and S3."""
    if request.param == "laptop":
        yield request.getfixturevalue("desk")
        return
    tmp_path = request.getfixturevalue("tmp_path")
    objects = open_objects(request.getfixturevalue("s3_objects_url"))
    database = emptied(Database.open(request.getfixturevalue("migrated_postgres_url")))
    yield Desk(database, objects, tmp_path)
    database.close()
    objects.close()


def owned_training(desk: Desk, **fields: Any) -> Owned:
    return desk.own(desk.submit(spec_of_numbers(**fields)))


def losses(desk: Desk, owned: Owned) -> dict[int, float]:
    steps = desk.curves(owned)["steps"]
    found = dict(zip(steps["step"], steps["loss"], strict=True))
    assert len(found) == len(steps["step"])  # none twice
    return found


def test_a_training_fills_its_version_in(anywhere: Desk) -> None:
    desk = anywhere
    owned = owned_training(desk)
    assert desk.train(owned) == TrainerExit.FINISHED
    found = desk.run_of(owned)
    with desk.database.read() as tx:
        version = tx.models.by_id(found.version_id)
    assert version is not None and version.state is VersionState.PENDING
    assert version.signature["form"] == "tensor"
    assert desk.objects.size(version.object_key) == version.size_bytes
    origin = version.origin or {}
    assert origin["job_id"] == owned.job_id and origin["checkpoints"] == 4
    assert isinstance(origin["spec"], dict) and origin["spec"]["epochs"] == 4
    result = found.result or {}
    assert result["version"] == "digits:1" and result["stopped"] == "epochs"
    assert (result["epochs"], result["steps"], result["batch_size"]) == (4, 28, 8)
    timings = result["timings"]
    assert timings["import_s"] is None and min(timings["prepare_s"], timings["open_s"]) >= 0
    assert 0 <= timings["first_step_at_ms"] - timings["began_at_ms"] < 60_000
    evaluation = result["evaluation"]
    assert evaluation["on"] == "test" and evaluation["rows"] == 10
    assert evaluation["r2"] < 1 and evaluation["rmse"] == pytest.approx(evaluation["mse"] ** 0.5)
    assert evaluation["metrics"]["mae"] == pytest.approx(evaluation["mae"], rel=1e-5)
    assert found.data is not None and found.data["split"]["train"] == 50
    assert found.progress.phase is Phase.DONE and found.progress.step == 28
    assert found.progress.share == 1.0 and found.progress.trained_s > 0
    curves = desk.curves(owned)
    assert sorted(losses(desk, owned)) == list(range(1, 29))
    assert [one["epoch"] for one in curves["epochs"]] == [1, 2, 3, 4]
    assert curves["steps"]["mae"][-1] is not None
    log = desk.log(owned)
    assert any("prepared" in line and "50 for train" in line for line in log)
    assert sum(line.startswith("epoch ") for line in log) == 4
    assert sum(line.startswith("checkpoint of step") for line in log) == 4


def test_killed_at_any_step_it_goes_on_elsewhere_to_the_same_weights_and_curves(
    anywhere: Desk,
) -> None:
    desk = anywhere
    quiet = owned_training(desk)
    desk.train(quiet)
    calm = desk.learners[-1]
    for k in (1, 6, 7, 8, 15, 22, 28):
        owned = owned_training(desk)
        desk.learner = partial(NumpyLearner, on_step=_killing(k))
        with pytest.raises(Killed):
            desk.train(owned)
        desk.learner = NumpyLearner
        assert desk.train(owned) == TrainerExit.FINISHED
        assert desk.learners[-1].w.tobytes() == calm.w.tobytes()
        assert losses(desk, owned) == losses(desk, quiet)
        told = [
            [{k: v for k, v in one.items() if k != "seconds"} for one in curves["epochs"]]
            for curves in (desk.curves(owned), desk.curves(quiet))
        ]
        assert told[0] == told[1]


def test_only_the_last_checkpoint_is_kept(anywhere: Desk) -> None:
    desk = anywhere
    owned = owned_training(desk)
    desk.train(owned)
    checkpoint = desk.run_of(owned).checkpoint
    assert checkpoint is not None and checkpoint.step == 28
    with desk.database.read() as tx:
        condemned = tx.packs.doomed(100)
    assert len(condemned) == 3
    assert desk.objects.size(checkpoint.key) == checkpoint.size_bytes


def test_a_pause_leaves_a_checkpoint_and_what_goes_on_ends_as_if_nothing_had_been(
    desk: Desk,
) -> None:
    quiet = owned_training(desk, epochs=60)
    desk.train(quiet)
    calm = desk.learners[-1]
    owned = owned_training(desk, epochs=60)
    going = threading.Event()
    desk.learner = lambda: NumpyLearner(on_step=_slowly(going, 0.02))
    with _beside(desk, owned) as codes:
        assert going.wait(10)
        with desk.database.begin() as tx:
            assert tx.training.pause(ALICE, owned.job_id)
    assert codes == [TrainerExit.PAUSED]
    found = desk.run_of(owned)
    assert found.checkpoint is not None and 0 < found.checkpoint.step < 420
    assert found.progress.step == found.checkpoint.step == max(losses(desk, owned))
    assert desk.train(owned) == TrainerExit.PAUSED  # still
    with desk.database.begin() as tx:
        assert tx.training.resume(ALICE, owned.job_id)
    desk.learner = NumpyLearner
    assert desk.train(owned) == TrainerExit.FINISHED
    assert desk.learners[-1].w.tobytes() == calm.w.tobytes()
    assert losses(desk, owned) == losses(desk, quiet)


def test_a_process_that_is_told_to_end_leaves_a_checkpoint(desk: Desk) -> None:
    owned = owned_training(desk, epochs=60)
    going = threading.Event()
    desk.learner = lambda: NumpyLearner(on_step=_slowly(going, 0.02))
    with _beside(desk, owned) as codes:
        assert going.wait(10)
        desk.stop.set()
    assert codes == [TrainerExit.STOPPED]
    found = desk.run_of(owned)
    assert found.checkpoint is not None and found.checkpoint.step == found.progress.step


def test_a_cancelled_training_stops_and_leaves_nothing(desk: Desk) -> None:
    owned = owned_training(desk, epochs=60)
    going = threading.Event()
    desk.learner = lambda: NumpyLearner(on_step=_slowly(going, 0.02))
    with _beside(desk, owned) as codes:
        assert going.wait(10)
        with desk.database.begin() as tx:
            tx.jobs.request_cancel(ALICE, owned.job_id)
    assert codes == [TrainerExit.STOPPED]
    assert desk.run_of(owned).result is None


def test_a_run_that_is_somebody_elses_by_now_is_not_written(desk: Desk) -> None:
    owned = owned_training(desk)
    stale = Owned(owned.job_id, owned.session_id, owned.epoch - 1)
    assert desk.train(stale) == TrainerExit.STOPPED
    assert not desk.learners and not desk.log(owned)


def test_a_loss_that_is_no_number_fails_the_run_and_keeps_the_last_good_checkpoint(
    desk: Desk,
) -> None:
    owned = owned_training(desk)
    desk.learner = lambda: NumpyLearner(nan_at=17)
    assert desk.train(owned) == TrainerExit.FAILED
    found = desk.run_of(owned)
    assert found.error is not None and found.error.code == "loss_not_a_number"
    assert "step 18 of epoch 3" in found.error.message
    assert found.checkpoint is not None and found.checkpoint.step == 14
    assert max(losses(desk, owned)) <= 17
    assert desk.train(owned) == TrainerExit.FAILED  # nobody begins it anew


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ("data", "data_changed"),
        ("spec", "checkpoint_mismatch"),
        ("bytes", "checkpoint_unreadable"),
        ("gone", "checkpoint_unreadable"),
    ],
)
def test_a_checkpoint_that_does_not_fit_says_why(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, wrong: str, code: str
) -> None:
    owned = owned_training(desk)
    desk.learner = lambda: NumpyLearner(on_step=_killing(20))
    with pytest.raises(Killed):
        desk.train(owned)
    desk.learner = NumpyLearner
    checkpoint = desk.run_of(owned).checkpoint
    assert checkpoint is not None
    kept = desk.objects.get(checkpoint.key)
    match wrong:
        case "data":
            rows = rows_of_numbers(digest="e" * 64)
            desk.rows = lambda: rows
        case "spec":
            monkeypatch.setattr(trainer, "spec_digest", lambda _: "f" * 64)
        case _:
            desk.objects.delete([checkpoint.key])
    if wrong == "bytes":
        desk.objects.put(checkpoint.key, kept[:-1] + b"?")
    assert desk.train(owned) == TrainerExit.FAILED
    error = desk.run_of(owned).error
    assert error is not None and error.code == code
    assert f"step {checkpoint.step}" in error.message and checkpoint.key not in error.message


def test_what_the_data_is_wrong_with_fails_the_run(desk: Desk) -> None:
    owned = owned_training(desk)

    def prepare(*_: Any) -> Any:
        raise InvalidInput("row 3 has no label", code="missing_labels")

    assert desk.train(owned, prepare=prepare) == TrainerExit.FAILED
    error = desk.run_of(owned).error
    assert error is not None and (error.code, error.message) == (
        "missing_labels",
        "row 3 has no label",
    )


def test_memory_that_does_not_suffice_fails_the_run_unless_halving_is_allowed(desk: Desk) -> None:
    desk.learner = lambda: NumpyLearner(most_rows=4)
    owned = owned_training(desk)
    assert desk.train(owned) == TrainerExit.FAILED
    error = desk.run_of(owned).error
    assert error is not None and error.code == OutOfMemory.code and "halve_batch" in error.message
    owned = owned_training(desk, halve_batch=True)
    assert desk.train(owned) == TrainerExit.FINISHED
    found = desk.run_of(owned)
    assert found.progress.batch_size == 4 and (found.result or {})["batch_size"] == 4
    assert any("from step 1 on they are of 4" in line for line in desk.log(owned))


def test_a_fault_is_the_processs_death_and_its_last_line_is_in_the_log(desk: Desk) -> None:
    owned = owned_training(desk)

    def broken(_: int) -> None:
        raise ZeroDivisionError("a bug")

    desk.learner = lambda: NumpyLearner(on_step=broken)
    with pytest.raises(ZeroDivisionError):
        desk.train(owned)
    assert any("ZeroDivisionError: a bug" in line for line in desk.log(owned))
    assert desk.run_of(owned).error is None


def test_a_version_that_was_given_up_meanwhile_is_the_trainings_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last thing that is said, and it is refused: the process ends all the same."""

    def finish(*_: Any) -> bool:
        raise Conflict("the version was given up: submit it again", code="version_not_in_training")

    monkeypatch.setattr(RunStore, "finish", finish)
    owned = owned_training(desk)
    with _beside(desk, owned) as codes:
        pass
    assert codes == [TrainerExit.FAILED]
    error = desk.run_of(owned).error
    assert error is not None and error.code == "version_not_in_training"


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_was_full_for_one_checkpoint_ends_no_training(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = owned_training(desk)

    def sometimes(path: Path, snapshot: Snapshot, **told: str) -> None:
        if snapshot.at.epoch in (1, 4):
            path.write_bytes(b"as far as it went")
            _full()
        write_checkpoint(path, snapshot, **told)

    monkeypatch.setattr(checkpoints, "write_checkpoint", sometimes)
    assert desk.train(owned) == TrainerExit.FINISHED
    checkpoint = desk.run_of(owned).checkpoint
    assert checkpoint is not None and checkpoint.step == 21
    missed = [line for line in desk.log(owned) if "is given up" in line]
    assert len(missed) == 2 and "step 7" in missed[0] and "no room" in missed[0]


def test_a_disk_that_stays_full_ends_the_training_soon_and_says_what_to_do(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = owned_training(desk, epochs=1_000)
    monkeypatch.setattr(checkpoints, "write_checkpoint", _full)
    assert desk.train(owned) == TrainerExit.FAILED
    found = desk.run_of(owned)
    assert found.error is not None and found.error.code == "no_room"
    assert "more disk" in found.error.message and found.progress.epoch < 10


def test_a_model_that_finds_no_room_is_told_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    owned = owned_training(desk)
    monkeypatch.setattr(NumpyLearner, "export", _full)
    assert desk.train(owned) == TrainerExit.FAILED
    error = desk.run_of(owned).error
    assert error is not None and error.code == "no_room" and "the trained model" in error.message


class Moody:
    """An object store that refuses every put for a while."""

    def __init__(self, objects: Objects, refusals: int) -> None:
        self._objects, self.refusals = objects, refusals

    def put_file(self, key: str, path: Path) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ObjectsUnavailable("not now")
        self._objects.put_file(key, path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)


def test_a_store_that_does_not_answer_is_waited_for_while_training_goes_on(desk: Desk) -> None:
    quiet = owned_training(desk)
    desk.train(quiet)
    calm = desk.learners[-1]
    moody = Moody(desk.objects, 3)
    desk.objects = moody
    owned = owned_training(desk)
    assert desk.train(owned) == TrainerExit.FINISHED
    assert not moody.refusals and desk.learners[-1].w.tobytes() == calm.w.tobytes()
    checkpoint = desk.run_of(owned).checkpoint
    assert checkpoint is not None and checkpoint.step == 28


def test_preparing_stops_when_the_training_is_cancelled(desk: Desk) -> None:
    owned = owned_training(desk)
    begun = threading.Event()

    def prepare(*told: Any) -> Any:
        begun.set()
        wait_until(lambda: not told[6](), 10, what="the cancel is heard")
        raise Stopped

    with _beside(desk, owned, prepare=prepare) as codes:
        assert begun.wait(10)
        with desk.database.begin() as tx:
            tx.jobs.request_cancel(ALICE, owned.job_id)
    assert codes == [TrainerExit.STOPPED]


def test_without_test_rows_the_validation_rows_judge_and_that_is_said(desk: Desk) -> None:
    desk.rows = lambda: rows_of_numbers(test=0)
    owned = owned_training(desk)
    desk.train(owned)
    evaluation = (desk.run_of(owned).result or {})["evaluation"]
    assert evaluation["on"] == "validation" and "split.test is 0" in evaluation["note"]
    desk.rows = lambda: rows_of_numbers(test=0, validation=0)
    owned = owned_training(desk)
    desk.train(owned)
    assert (desk.run_of(owned).result or {})["evaluation"]["on"] is None


def _killing(at: int) -> Callable[[int], None]:
    def step(number: int) -> None:
        if number == at:
            raise Killed

    return step


def _slowly(going: threading.Event, pause_s: float) -> Callable[[int], None]:
    def step(number: int) -> None:
        if number == 10:
            going.set()
        threading.Event().wait(pause_s)

    return step


@contextmanager
def _beside(desk: Desk, owned: Owned, **parts: Any) -> Iterator[list[int]]:
    """The trainer in a thread; its exit code afterwards."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(desk.train(owned, **parts)))
    thread.start()
    try:
        yield codes
    finally:
        thread.join(30)
    assert not thread.is_alive()
    assert np.isfinite(desk.learners[-1].w).all() if desk.learners else True
