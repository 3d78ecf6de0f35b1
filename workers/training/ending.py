"""The end of a training's job: its version is servable, its result is stored, and it is committed.

All of it may be done twice, by an owner that died half-way and by the one after it: only one
commit can end the job. Whatever ends it without a model gives its version up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import orjson

from storage.records.jobs import (
    TERMINAL,
    ClaimedJob,
    JobError,
    JobState,
    Outcome,
    Verdict,
)
from storage.records.models import VersionState
from storage.records.packs import PackSummary
from storage.records.training_runs import TrainingControl, TrainingRun
from workers.patience import Stopped
from workers.result_packs import ResultPack, settle_with
from workers.training.kit import TrainingKit

_LOOK_EVERY_S = 0.1


class Ending:
    """One owner's last steps."""

    def __init__(self, kit: TrainingKit, job: ClaimedJob, session_id: str) -> None:
        self._kit, self._job, self._session_id = kit, job, session_id
        self._is_mine = partial(kit.holds, session_id)

    def succeed(self, run: TrainingRun) -> None:
        """The version is filled in: wait until it can be served, and say so. What cannot be
        loaded here in time is not the training's fault; what can be loaded nowhere is."""
        assert run.result is not None
        state, trouble = self._served()
        if state is VersionState.BROKEN:
            told = f"the training is over, but its model cannot be served: {trouble}"
            self.fail(JobError("model_broken", told))
            return
        kit, job = self._kit, self._job
        data = orjson.dumps({**run.result, "version_state": state.value})

        def commit(pack: ResultPack) -> None:
            done = Outcome(job.id, job.epoch, Verdict.SUCCEEDED, False, result=pack.slice)
            self._commit(done, [pack.summary])

        settle_with(kit, job, data, self._is_mine, commit)

    def fail(self, error: JobError) -> None:
        """The job fails, and its version with it."""
        outcome = Outcome(self._job.id, self._job.epoch, Verdict.FAILED, False, error=error)
        self._kit.patiently(lambda: self._commit(outcome), self._is_mine)

    def release(self) -> None:
        """Back to the backlog, nothing spent; cancelled if that was asked for."""
        self._commit(Outcome(self._job.id, self._job.epoch, Verdict.RELEASED, False))

    # --- inside

    def _served(self) -> tuple[VersionState, str | None]:
        """What became of the version within the time, and what is wrong with it."""
        kit, job = self._kit, self._job
        give_up_s = kit.clock.monotonic_s() + kit.timing.ready_within_s
        while True:

            def look() -> tuple[VersionState, str | None, TrainingControl]:
                with kit.database.read() as tx:
                    version = tx.models.by_id(job.version_id)
                    control = tx.training.control(job.id, self._session_id, job.epoch)
                if version is None:
                    return VersionState.BROKEN, "it is gone", control
                return version.state, version.error, control

            state, trouble, control = kit.patiently(look, self._is_mine)
            hurried = control in (TrainingControl.STOP, TrainingControl.LOST)
            late = kit.clock.monotonic_s() >= give_up_s
            if state is not VersionState.PENDING or late or hurried:
                return state, trouble
            if not self._is_mine():
                raise Stopped
            kit.hurry.wait(_LOOK_EVERY_S)

    def _commit(self, outcome: Outcome, packs: Sequence[PackSummary] = ()) -> None:
        job = self._job
        with self._kit.database.begin() as tx:
            report = tx.jobs.commit(self._session_id, [outcome], packs=packs)
            state = report.settled.get(job.id)
            if state in TERMINAL:
                tx.models.abandon([job.version_id], self._why(state, outcome.error))

    def _why(self, state: JobState, error: JobError | None) -> str:
        if error is not None and state is JobState.FAILED:
            return f"{error.code}: {error.message}"
        return f"training job {self._job.id} is {state.value}"
