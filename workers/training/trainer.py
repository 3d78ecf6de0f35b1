"""A training in a process of its own, from the run's row to the version it fills in.

Begin, prepare the data while the framework is imported, go on from the checkpoint if there is one,
train, evaluate, export, finish. Whatever the caller got wrong ends the run with an error; trouble
with storage is waited out; anything else is a fault, and whoever started the process sees it die.
"""

from __future__ import annotations

import logging
import shutil
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from storage.records.errors import ForebayError, InvalidInput, Unavailable
from storage.records.jobs import JobError
from storage.records.models import ModelVersion
from storage.records.training import TextPreparation
from storage.records.training_runs import Phase, TrainingRun
from workers.inference.artifacts import Artifacts
from workers.patience import Stopped
from workers.training.checkpoints import CheckpointStore, CheckpointWriter
from workers.training.course import Course
from workers.training.desk import Wish
from workers.training.evaluation import evaluated
from workers.training.exits import Leave, TrainerExit
from workers.training.journal import Journal
from workers.training.log_lines import told_to
from workers.training.parents import must_go_on
from workers.training.ports import Learner, Rows, Vectorizer
from workers.training.position import Position, Snapshot, spec_digest
from workers.training.publishing import described, origin_of, result_of, sign, store
from workers.training.retrying import GaveUp, Retrying
from workers.training.room import room_for
from workers.training.run_desk import RunDesk, flush, flush_once, leave_if, wish_of
from workers.training.run_store import RunStore
from workers.training.telling import with_files, with_place
from workers.training.timings import began_now
from workers.training.trainer_parts import Framework, TrainerParts

log = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_S = 5.0
_FIRST_SAID, _SAY_EVERY_S = 20, 60.0  # checkpoints in the log


def run(parts: TrainerParts, job_id: str, session_id: str, epoch: int) -> int:
    """Train; the process's exit code. What it raises is a fault."""
    retrying = Retrying(parts.stop, parts.clock)
    try:
        return _Trainer(parts, RunStore(parts.database, job_id, session_id, epoch), retrying).run()
    except Leave as leave:
        return leave.code
    except GaveUp:
        return TrainerExit.STOPPED


class _Trainer:
    """One run's, in one process."""

    def __init__(self, parts: TrainerParts, store: RunStore, retrying: Retrying) -> None:
        self._parts, self._store, self._retrying = parts, store, retrying
        now_s = parts.clock.monotonic_s()
        self._began_s = now_s if parts.began_s is None else parts.began_s
        self._timings = began_now(parts.clock, now_s - self._began_s)
        self._data = parts.spool / "data"
        self._said_s = 0.0

    def run(self) -> TrainerExit:
        run = self._retrying.call(self._store.begin)
        if run is None:
            return TrainerExit.STOPPED
        if run.result is not None:
            return TrainerExit.FINISHED
        if run.error is not None:
            return TrainerExit.FAILED
        if run.paused_at is not None:
            return TrainerExit.PAUSED
        self._journal = Journal(self._store.note, self._store.control)
        self._journal.start(replace(run.progress, phase=Phase.PREPARING))
        with told_to(self._journal.say):
            try:
                return self._guarded(run)
            finally:
                self._journal.close(_CLOSE_S if self._journal.is_ours() else 0.0)
                shutil.rmtree(self._data, ignore_errors=True)

    def _guarded(self, run: TrainingRun) -> TrainerExit:
        try:
            self._train(run)
            return TrainerExit.FINISHED
        except (Leave, GaveUp):
            raise
        except Stopped:
            leave_if(self._wish())
            raise
        except Exception as fault:
            if isinstance(fault, ForebayError) and not isinstance(fault, Unavailable):
                return self._fail(fault)
            last = traceback.format_exception_only(fault)[-1].strip()
            self._journal.say(f"the training's process fails: {last[:500]}")
            raise

    def _train(self, run: TrainingRun) -> None:
        parts = self._parts
        self._asked = asked = self._patiently(lambda: self._store.asked(run))
        self._spec = spec = asked.spec
        framework = parts.import_framework(spec)
        self._journal.progress(replace(self._journal.latest, epochs=spec.epochs))
        artifact = self._artifact(asked.parent)
        rows = self._prepared(run, framework, artifact)
        try:
            if asked.parent is not None:
                must_go_on(asked.parent, rows.prepared)
            imported, timings = framework(), self._timings
            timings.import_s, opening_s = imported.import_s, parts.clock.monotonic_s()
            learner = imported.open_learner(spec, rows.prepared, artifact)
            leave_if(self._wish())
            resumed = self._resumed(run, rows, learner)
            timings.open_s = parts.clock.monotonic_s() - opening_s
            self._say_ready(resumed)
            with closing(self._open_writer(run, rows)) as writer:
                desk = RunDesk(self._journal, writer, self._retrying)
                course = Course(spec, rows, learner, desk, parts.clock, resumed)
                at = course.run()
            timings.first_step_at = course.first_step_at
            self._finish(run, rows, learner, at)
        finally:
            rows.close()

    def _artifact(self, parent: ModelVersion | None) -> Path | None:
        """Of the version to train on."""
        if parent is None:
            return None
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
            self._timings.prepare_s = parts.clock.monotonic_s() - began_s
            self._describe(rows, self._timings.prepare_s)
        except BaseException:
            rows.close()
            raise
        return rows

    def _describe(self, rows: Rows, took_s: float) -> None:
        prepared = rows.prepared
        data = described(prepared)
        if not self._patiently(lambda: self._store.describe(data)):
            raise Leave(TrainerExit.STOPPED)
        split = ", ".join(f"{count} for {part.value}" for part, count in prepared.rows.items())
        labels = f"; {len(prepared.labels)} labels" if prepared.labels else ""
        self._journal.say(f"the data is prepared in {took_s:.1f} s: rows: {split}{labels}")

    def _checkpoints(self, run: TrainingRun) -> CheckpointStore:
        parts = self._parts
        return CheckpointStore(
            self._store, parts.objects, run.tenant, parts.spool, parts.retention_days
        )

    def _open_writer(self, run: TrainingRun, rows: Rows) -> CheckpointWriter:
        journal = self._journal

        def kept(snapshot: Snapshot, size_bytes: int) -> None:
            if self._may_say_kept(snapshot):
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

    def _may_say_kept(self, snapshot: Snapshot) -> bool:
        """The first ones; later at most one a minute."""
        now_s = self._parts.clock.monotonic_s()
        if snapshot.at.checkpoints > _FIRST_SAID and now_s - self._said_s < _SAY_EVERY_S:
            return False
        self._said_s = now_s
        return True

    def _resumed(self, run: TrainingRun, rows: Rows, learner: Learner) -> Snapshot | None:
        checkpoint = run.checkpoint
        if checkpoint is None:
            return None
        checkpoints = self._checkpoints(run)
        spec, prepared = spec_digest(self._spec), rows.prepared.digest
        try:
            found = self._patiently(
                lambda: checkpoints.read(checkpoint, spec=spec, prepared=prepared)
            )
        except InvalidInput as error:
            raise with_files(error, run.data, rows.prepared.note) from error
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
        journal, parts, asked = self._journal, self._parts, self._asked
        journal.progress(replace(journal.latest, phase=Phase.EVALUATING))
        evaluation = evaluated(
            asked.spec, rows, learner, at.batch_size, lambda: leave_if(self._wish())
        )
        data = described(rows.prepared)
        result = result_of(asked.version, at, evaluation, data, self._timings)
        archive = parts.spool / "model.keras"
        with room_for("the trained model"):
            learner.export(archive, rows.prepared)
        signature = sign(archive, rows.prepared)
        origin = origin_of(run.job_id, asked.spec, result)
        made = self._patiently(lambda: store(parts.objects, run.tenant, archive, signature, origin))
        journal.say(f"{asked.version} is made of it: {made.size_bytes} bytes")
        leave_if(self._wish())
        self._last_words()
        if not self._retrying.call(lambda: self._store.finish(result, made)):
            raise Leave(TrainerExit.STOPPED)

    def _fail(self, error: ForebayError) -> TrainerExit:
        told = JobError(error.stable_code, with_place(error))
        self._journal.say(f"the training fails ({told.code}): {told.message}")
        try:
            self._last_words()
        except GaveUp:
            raise
        except Exception:  # what it fails with is told, though its last lines cannot be
            log.exception("the log's last lines are lost")
        mine = self._retrying.call(lambda: self._store.fail(told))
        return TrainerExit.FAILED if mine else TrainerExit.STOPPED

    def _last_words(self) -> None:
        """Nothing is noted after the end: it would take the run's phase back."""
        flush(self._journal, self._retrying)
        self._journal.close(_CLOSE_S)

    def _patiently(self, call: Callable[[], T]) -> T:
        return self._retrying.call(call, ours=self._journal.is_ours)

    def _wish(self) -> Wish:
        return wish_of(self._journal.control, told_to_end=self._parts.stop.is_set())
