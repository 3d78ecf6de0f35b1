"""A training in a process of its own, from the run's row to the version it fills in.

Begin, prepare the data while the framework is imported, go on from the checkpoint if there is one,
train, evaluate, export, finish. Whatever the caller got wrong ends the run with an error; trouble
with storage is waited out; anything else is a fault, and whoever started the process sees it die.
"""

from __future__ import annotations

import logging
import shutil
import threading
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.records.errors import ForebayError, InvalidInput
from storage.records.jobs import JobError
from storage.records.models import ModelVersion
from storage.records.training import TextPreparation, TrainingSpec, is_training_payload, spec_of
from storage.records.training_runs import Phase, TrainingControl, TrainingRun
from workers.bulk.kit import Stopped
from workers.bulk.places import Places
from workers.inference.artifacts import Artifacts
from workers.inference.gate import TROUBLE
from workers.training.checkpoints import CheckpointStore, CheckpointWriter, Hold
from workers.training.course import Course
from workers.training.desk import Wish
from workers.training.evaluation import evaluate, nothing_held_out
from workers.training.exits import Leave, TrainerExit
from workers.training.held_out import HeldOut
from workers.training.journal import Journal
from workers.training.log_lines import told_to
from workers.training.ports import Learner, OpenLearner, Part, Rows, Vectorizer, VectorizerOf
from workers.training.position import Position, Snapshot, spec_digest
from workers.training.publishing import described, origin_of, result_of, sign, store
from workers.training.retrying import GaveUp, Retrying
from workers.training.run_desk import RunDesk, flush, flush_once, leave_if, wish_of

log = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_S = 5.0


class Prepare(Protocol):
    """From a spec to rows on this machine, in an empty folder. ``on_rows`` is told how many were
    read, ``still`` is asked whether to go on: if not, it raises ``Stopped``."""

    def __call__(
        self,
        places: Places,
        tenant: str,
        spec: TrainingSpec,
        folder: Path,
        vectorizer_of: VectorizerOf,
        on_rows: Callable[[int], None],
        still: Callable[[], bool],
    ) -> Rows: ...


@dataclass(frozen=True, slots=True)
class Framework:
    """What only TensorFlow can do."""

    open_learner: OpenLearner
    vectorizer_of: VectorizerOf
    vectorizer_of_version: Callable[[Path], VectorizerOf]  # by the artifact of one to train on


@dataclass(frozen=True, slots=True)
class TrainerParts:
    """What a trainer is put together from."""

    database: Database
    objects: Objects
    places: Places
    prepare: Prepare
    import_framework: Callable[[TrainingSpec], Callable[[], Framework]]
    """Begins to import it, and gives what waits for that."""
    clock: Clock
    spool: Path  # an empty folder of this process
    cache_dir: Path  # of artifacts
    retention_days: int
    stop: threading.Event  # set when this process is to end


def run(parts: TrainerParts, job_id: str, session_id: str, epoch: int) -> int:
    """Train; the process's exit code. What it raises is a fault."""
    retrying = Retrying(parts.stop, parts.clock)
    try:
        return _Trainer(parts, Hold(job_id, session_id, epoch), retrying).run()
    except Leave as leave:
        return leave.code
    except GaveUp:
        return TrainerExit.STOPPED


class _Trainer:
    """One run's, in one process."""

    def __init__(self, parts: TrainerParts, hold: Hold, retrying: Retrying) -> None:
        self._parts, self._hold, self._retrying = parts, hold, retrying
        self._began_s = parts.clock.monotonic_s()
        self._data = parts.spool / "data"

    def run(self) -> TrainerExit:
        parts, hold = self._parts, self._hold

        def begin() -> TrainingRun | None:
            with parts.database.begin() as tx:
                return tx.training.begin(hold.job_id, hold.session_id, hold.epoch)

        self._run = run = self._retrying.call(begin)
        if run is None:
            return TrainerExit.STOPPED
        if run.result is not None:
            return TrainerExit.FINISHED
        if run.error is not None:
            return TrainerExit.FAILED
        if run.paused_at is not None:
            return TrainerExit.PAUSED
        self._spec, self._version, self._parent = self._retrying.call(lambda: self._asked(run))
        self._journal = self._open_journal(run)
        with told_to(self._journal.say):
            try:
                return self._guarded(run)
            finally:
                self._journal.close(0.0)
                shutil.rmtree(self._data, ignore_errors=True)

    def _guarded(self, run: TrainingRun) -> TrainerExit:
        try:
            self._train(run)
            return TrainerExit.FINISHED
        except TROUBLE:
            raise
        except ForebayError as error:
            return self._fail(error)
        except Stopped:
            leave_if(self._wish())
            raise
        except (Leave, GaveUp):
            self._journal.close(_CLOSE_S if self._journal.is_ours() else 0.0)
            raise
        except Exception as fault:
            last = traceback.format_exception_only(fault)[-1].strip()
            self._journal.say(f"the training's process fails: {last[:500]}")
            self._journal.close(_CLOSE_S)
            raise

    def _train(self, run: TrainingRun) -> None:
        parts, spec = self._parts, self._spec
        framework = parts.import_framework(spec)
        artifact = self._artifact()
        rows = self._prepared(run, framework, artifact)
        try:
            learner = framework().open_learner(spec, rows.prepared, artifact)
            leave_if(self._wish())
            resumed = self._resumed(run, rows, learner)
            self._say_ready(resumed)
            with closing(self._open_writer(run, rows)) as writer:
                desk = RunDesk(self._journal, writer, self._retrying)
                at = Course(spec, rows, learner, desk, parts.clock, resumed).run()
            self._finish(run, rows, learner, at)
        finally:
            rows.close()

    def _asked(self, run: TrainingRun) -> tuple[TrainingSpec, str, ModelVersion | None]:
        """The spec, what the version is called, and the one to train on."""
        with self._parts.database.read() as tx:
            payload = tx.jobs.payload(run.tenant, run.job_id)
            version = tx.models.by_id(run.version_id)
            if not is_training_payload(payload) or version is None:
                raise InvalidInput("the training's spec is gone", code="internal_error")
            assert isinstance(payload, bytes)
            spec = spec_of(payload)
            wanted = spec.network.version_id
            parent = tx.models.by_id(wanted) if wanted else None
        return spec, f"{version.name}:{version.version}", parent

    def _open_journal(self, run: TrainingRun) -> Journal:
        database, hold = self._parts.database, self._hold

        def note(*told: Any) -> TrainingControl:
            # A crash of the database may take the last moment's back: it is measured again.
            with database.begin(lasting=False) as tx:
                return tx.training.note(hold.job_id, hold.session_id, hold.epoch, *told)

        def ask() -> TrainingControl:
            with database.read() as tx:
                return tx.training.control(hold.job_id, hold.session_id, hold.epoch)

        journal = Journal(note, ask, self._spec.epochs)
        progress = replace(run.progress, phase=Phase.PREPARING, epochs=self._spec.epochs)
        journal.start(progress, TrainingControl.GO)
        journal.progress(progress)
        return journal

    def _artifact(self) -> Path | None:
        """Of the version to train on."""
        if self._spec.network.version_id is None:
            return None
        parent = self._parent
        if parent is None:
            raise InvalidInput(
                f"the version to train on, {self._spec.network.version}, is gone",
                code="version_not_found",
                field="spec.network.version",
            )
        artifacts = Artifacts(self._parts.objects, self._parts.cache_dir)
        return self._patiently(lambda: artifacts.fetch(parent))

    def _prepared(
        self, run: TrainingRun, framework: Callable[[], Framework], artifact: Path | None
    ) -> Rows:
        parts, journal = self._parts, self._journal

        def vectorizer_of(text: TextPreparation) -> Vectorizer:
            imported = framework()
            if artifact is None:
                return imported.vectorizer_of(text)
            return imported.vectorizer_of_version(artifact)(text)

        def on_rows(count: int) -> None:
            journal.progress(replace(journal.latest, rows_read=count))

        def prepare() -> Rows:
            shutil.rmtree(self._data, ignore_errors=True)
            self._data.mkdir()
            return parts.prepare(
                parts.places,
                run.tenant,
                self._spec,
                self._data,
                vectorizer_of,
                on_rows,
                lambda: self._wish() is Wish.GO,
            )

        began_s = parts.clock.monotonic_s()
        rows = self._patiently(prepare)
        try:
            self._describe(rows, parts.clock.monotonic_s() - began_s)
        except BaseException:
            rows.close()
            raise
        return rows

    def _describe(self, rows: Rows, took_s: float) -> None:
        hold, prepared = self._hold, rows.prepared
        data = described(prepared)

        def describe() -> bool:
            with self._parts.database.begin() as tx:
                return tx.training.describe(hold.job_id, hold.session_id, hold.epoch, data)

        if not self._patiently(describe):
            raise Leave(TrainerExit.STOPPED)
        split = ", ".join(f"{count} for {part.value}" for part, count in prepared.rows.items())
        labels = f"; {len(prepared.labels)} labels" if prepared.labels else ""
        self._journal.say(f"the data is prepared in {took_s:.1f} s: rows: {split}{labels}")

    def _checkpoints(self, run: TrainingRun) -> CheckpointStore:
        parts = self._parts
        return CheckpointStore(
            parts.database, parts.objects, self._hold, run.tenant, parts.spool, parts.retention_days
        )

    def _open_writer(self, run: TrainingRun, rows: Rows) -> CheckpointWriter:
        journal = self._journal

        def kept(snapshot: Snapshot, size_bytes: int) -> None:
            journal.say(f"checkpoint of step {snapshot.at.step}: {size_bytes} bytes")

        writer = CheckpointWriter(
            self._checkpoints(run),
            self._retrying,
            spec=spec_digest(self._spec),
            prepared=rows.prepared.digest,
            before=lambda: flush_once(journal),
            kept=kept,
            lost=journal.lose,
            ours=journal.is_ours,
        )
        writer.start()
        return writer

    def _resumed(self, run: TrainingRun, rows: Rows, learner: Learner) -> Snapshot | None:
        checkpoint = run.checkpoint
        if checkpoint is None:
            return None
        checkpoints = self._checkpoints(run)
        spec, prepared = spec_digest(self._spec), rows.prepared.digest
        found = self._patiently(lambda: checkpoints.read(checkpoint, spec=spec, prepared=prepared))
        learner.restore(found.snapshot.state)
        at = found.snapshot.at
        spent_s = max(at.trained_s, run.progress.trained_s)  # also what was lost is spent
        return replace(found.snapshot, at=replace(at, trained_s=spent_s))

    def _say_ready(self, resumed: Snapshot | None) -> None:
        after_s = self._parts.clock.monotonic_s() - self._began_s
        where = (
            f"goes on behind step {resumed.at.step}, in epoch {resumed.at.epoch + 1}"
            if resumed
            else "begins"
        )
        self._journal.say(f"training {where}, {after_s:.1f} s after its process")

    def _finish(self, run: TrainingRun, rows: Rows, learner: Learner, at: Position) -> None:
        journal, parts, hold = self._journal, self._parts, self._hold
        journal.progress(replace(journal.latest, phase=Phase.EVALUATING))
        evaluation = self._evaluated(rows, learner, at.batch_size)
        result = result_of(self._version, at, evaluation, described(rows.prepared))
        archive = parts.spool / "model.keras"
        learner.export(archive, rows.prepared)
        signature = sign(archive, rows.prepared)
        parents = [self._spec.network.version] if self._spec.network.version else []
        origin = origin_of(run.job_id, self._spec, parents, result)
        made = self._patiently(lambda: store(parts.objects, run.tenant, archive, signature, origin))
        journal.say(f"{self._version} is made of it: {made.size_bytes} bytes")
        leave_if(self._wish())
        # Nothing is noted after the end: it would take the run's phase back.
        flush(journal, self._retrying)
        journal.close(_CLOSE_S)

        def finish() -> bool:
            with parts.database.begin() as tx:
                return tx.training.finish(hold.job_id, hold.session_id, hold.epoch, result, made)

        if not self._retrying.call(finish):
            raise Leave(TrainerExit.STOPPED)

    def _evaluated(self, rows: Rows, learner: Learner, batch_size: int) -> dict[str, Any]:
        for part in (Part.TEST, Part.VALIDATION):
            held = HeldOut(rows, part, lambda: leave_if(self._wish()))
            if held.count:
                told = evaluate(self._spec, held, rows.labels_of(part), learner, batch_size)
                if part is Part.VALIDATION:
                    told["note"] = (
                        "no test rows were set aside (split.test is 0): these are the validation"
                        " rows, which early stopping may have chosen by"
                    )
                return told
        return nothing_held_out()

    def _fail(self, error: ForebayError) -> TrainerExit:
        told, hold = JobError(error.stable_code, error.message), self._hold
        self._journal.say(f"the training fails ({told.code}): {told.message}")
        flush(self._journal, self._retrying)
        self._journal.close(_CLOSE_S)

        def fail() -> bool:
            with self._parts.database.begin() as tx:
                return tx.training.fail(hold.job_id, hold.session_id, hold.epoch, told)

        mine = self._retrying.call(fail)
        return TrainerExit.FAILED if mine else TrainerExit.STOPPED

    def _patiently(self, call: Callable[[], T]) -> T:
        return self._retrying.call(call, ours=self._journal.is_ours)

    def _wish(self) -> Wish:
        return wish_of(self._journal.control, told_to_end=self._parts.stop.is_set())
