"""Looks after a claimed training: starts its process, watches over it, and ends the job.

Everything it knows is in SQL, so whoever claims the job after it goes on from the last checkpoint.
The process does what the run says by itself; the owner makes it, and is there when it dies.
"""

from __future__ import annotations

import logging
from functools import partial

from storage.records.errors import ForebayError
from storage.records.jobs import ClaimedJob, JobError
from storage.records.training import TrainingSpec, spec_of
from storage.records.training_runs import TrainingControl, TrainingRun
from workers.inference.gate import TROUBLE
from workers.patience import Stopped
from workers.training.child import TrainerChild, how
from workers.training.ending import Ending
from workers.training.exits import TrainerExit
from workers.training.kit import TrainingKit

log = logging.getLogger(__name__)

_LOST_GRACE_S = 5.0  # the lease runs on for longer: a last checkpoint may still be kept
_LAST_PAUSE_S = 30.0


class Owner:
    """One job's; ``run`` on a thread of its own. Built with a place, which it gives back."""

    def __init__(self, kit: TrainingKit, job: ClaimedJob, session_id: str) -> None:
        self._kit, self._job, self._session_id = kit, job, session_id
        self._is_mine = partial(kit.holds, session_id)
        self._ending = Ending(kit, job, session_id)
        self._has_place = True

    def run(self) -> None:
        """Until the job is over, or somebody else's."""
        try:
            self._run_guarded()
        except Exception as trouble:  # as long as the session lives nobody else would look at it
            if not isinstance(trouble, TROUBLE):
                log.exception("a training could not be ended")
            self._kit.parts.gate.trip(trouble)
            self._kit.parts.sessions.retire(self._session_id)
        finally:
            self._leave_place()

    def _run_guarded(self) -> None:
        try:
            self._run()
        except Stopped:
            self._ending.release()
        except TROUBLE as trouble:
            self._kit.parts.gate.trip(trouble)
            self._ending.release()
        except Exception as fault:
            log.error("looking after a training failed", exc_info=fault)
            told = f"{type(fault).__name__}: {fault}".splitlines()[0][:300]
            self._ending.fail(JobError("internal_error", told))

    def _run(self) -> None:
        payload = self._job.payload
        assert isinstance(payload, bytes)
        spec = spec_of(payload)
        while True:
            run, control = self._look()
            if control is TrainingControl.LOST:
                log.info("a training is somebody else's by now")
                return
            if run.result is not None:
                self._leave_place()
                self._ending.succeed(run)
                return
            if run.error is not None:
                self._ending.fail(run.error)
                return
            if control is TrainingControl.STOP:
                self._ending.release()
                return
            if control is TrainingControl.PAUSE:  # its process has kept a checkpoint and ended
                self._kit.patiently(self._ending.release, self._is_mine)
                return
            self._live(spec)

    def _look(self) -> tuple[TrainingRun, TrainingControl]:
        """How far it is and what is to be done; ``Stopped`` where that is no business of ours."""
        kit, job = self._kit, self._job
        if not self._is_mine():
            raise Stopped

        def look() -> tuple[TrainingRun | None, TrainingControl]:
            with kit.database.read() as tx:
                control = tx.training.control(job.id, self._session_id, job.epoch)
                return tx.training.run(job.id), control

        run, control = kit.patiently(look, self._is_mine)
        if run is None:
            raise ForebayError("the run is gone", code="internal_error")
        return run, control

    def _leave_place(self) -> None:
        if self._has_place:
            self._has_place = False
            self._kit.places.leave()

    def _wait(self, seconds: float) -> None:
        self._kit.hurry.wait(seconds)

    # --- a process's life

    def _live(self, spec: TrainingSpec) -> None:
        """From its start to its end, whatever that was."""
        kit, job = self._kit, self._job
        who = ("--job", job.id, "--session", self._session_id, "--epoch", str(job.epoch))
        try:
            child = TrainerChild((*kit.trainer, *who), kit.environ, kit.clock)
        except OSError as trouble:  # as good as dead; it says nothing about storage
            self._bury(self._look()[0], spec, f"it could not be started ({trouble.strerror})", [])
            return
        log.info("training %s goes on in process %d", job.id, child.pid)
        try:
            code = self._watch(child)
        finally:
            child.close()
        run, control = self._look()
        if run.result is not None or run.error is not None or control is not TrainingControl.GO:
            return
        if code == TrainerExit.PAUSED:  # and told to go on since
            self._wait(kit.timing.first_pause_s)
            return
        self._bury(run, spec, how(code), child.last_lines())

    def _watch(self, child: TrainerChild) -> int:
        """Its exit code. It is ended when it is to stop and does not by itself."""
        kit = self._kit
        while True:
            code = child.wait(kit.timing.tick_s)
            if code is not None:
                return code
            if kit.stopping():
                child.stop(kit.timing.stop_grace_s)
            elif not kit.parts.sessions.is_live(self._session_id):
                child.stop(_LOST_GRACE_S)
            else:
                self._obey(child)

    def _obey(self, child: TrainerChild) -> None:
        job = self._job
        try:
            with self._kit.database.read() as tx:
                control = tx.training.control(job.id, self._session_id, job.epoch)
        except TROUBLE as trouble:
            self._kit.parts.gate.trip(trouble)
            return
        if control is TrainingControl.LOST:
            child.kill()
        elif control is TrainingControl.STOP:
            child.stop(self._kit.timing.stop_grace_s)

    def _bury(self, run: TrainingRun, spec: TrainingSpec, words: str, lines: list[str]) -> None:
        """It died: once more from the checkpoint, after a pause, unless it died too often."""
        kit, job = self._kit, self._job
        told = (f"the training's process died at step {run.progress.step}: {words}", *lines)
        log.warning("training %s: %s", job.id, "\n  ".join(told))

        def note() -> int:
            who = (job.id, self._session_id, job.epoch)
            with kit.database.begin() as tx:
                deaths = tx.training.died(*who)
                if deaths:
                    tx.training.note(*who, run.progress, lines=told)
                if deaths > spec.max_deaths:
                    tx.training.fail(*who, _died(run, deaths, words, lines))
            return deaths

        deaths = kit.patiently(note, self._is_mine)
        if 0 < deaths <= spec.max_deaths:
            self._wait(min(kit.timing.first_pause_s * 2 ** (deaths - 1), _LAST_PAUSE_S))


def _died(run: TrainingRun, deaths: int, words: str, lines: list[str]) -> JobError:
    made = run.checkpoint
    since = "before its first checkpoint" if made is None else f"since step {made.step} was kept"
    last = f" Its last words: {lines[-1]}" if lines else ""
    return JobError(
        "training_died",
        f"the training's process died {deaths} times {since}, the last time"
        f" at step {run.progress.step}: {words}.{last} See the job's log.",
    )
