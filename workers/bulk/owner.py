"""Looks after a claimed bulk job: plans it, says how far it is, and ends it.

Everything it knows is in SQL, so whoever claims the job after it goes on from there. The job itself
ends as any job does, by the commit of the session and epoch that run it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from storage.records.bulk import BulkProgress, BulkRun, BulkSpec, Control, spec_of
from storage.records.errors import ForebayError, InvalidInput, NotFound
from storage.records.jobs import ClaimedJob, JobError, Outcome, Verdict
from workers.bulk.dry_run import dry_run
from workers.bulk.files import APART
from workers.bulk.finishing import Finishing
from workers.bulk.kit import Failed, Kit, Stopped
from workers.bulk.planning import Planner
from workers.inference.gate import TROUBLE

log = logging.getLogger(__name__)

TICK_S = 1.0
NEAR_TICK_S = 0.1  # when the last shards are under way
_RATE_OVER_S = 15.0
_JUDGED_ROWS = 1_000  # of fewer, no share of errors is a reason to stop before the end


class Owner:
    """One job's; ``run`` on a thread of its own."""

    def __init__(
        self, kit: Kit, job: ClaimedJob, session_id: str, poke: Callable[[], None]
    ) -> None:
        self._kit, self._job, self._session_id = kit, job, session_id
        self._poke = poke
        self._is_mine = partial(kit.holds, session_id)
        self._seen: deque[tuple[float, int]] = deque()

    def run(self) -> None:
        """Until the job is over, or somebody else's."""
        try:
            self._run_guarded()
        except Exception:  # as long as the session lives nobody else would look after the job
            log.exception("a bulk job could not be ended")
            self._kit.parts.sessions.retire(self._session_id)

    def _run_guarded(self) -> None:
        try:
            self._run()
        except Stopped:
            self._release()
        except Failed as failed:
            self._end_failed(failed.error)
        except (InvalidInput, NotFound) as error:
            self._end_failed(error)
        except TROUBLE as trouble:
            self._kit.parts.gate.trip(trouble)
            self._release()
        except Exception as fault:
            log.error("looking after a bulk job failed", exc_info=fault)
            told = f"{type(fault).__name__}: {fault}".splitlines()[0][:300]
            self._end_failed(ForebayError(told, code="internal_error"))

    def _run(self) -> None:
        payload = self._job.payload
        assert isinstance(payload, bytes)
        spec = spec_of(payload)
        if spec.dry_run:
            result = dry_run(self._kit, self._job, self._session_id, spec)
            Finishing(self._kit, self._job, self._session_id, spec).answer(result)
            return
        run = self._planned(spec)
        while True:
            if self._kit.stopping():
                raise Stopped
            seen = self._tick(run, spec)
            if seen is None:
                return
            progress, control = seen
            if progress.shards_done >= progress.shards_total:
                break
            if control is Control.PAUSE and not progress.shards_running:
                self._kit.patiently(self._give_back, self._is_mine)  # until it may go on
                return
            left = progress.shards_total - progress.shards_done
            near = 0 < left <= 2 * progress.shards_running
            self._kit.hurry.wait(NEAR_TICK_S if near else TICK_S)
        Finishing(self._kit, self._job, self._session_id, spec).succeed()

    def _planned(self, spec: BulkSpec) -> BulkRun:
        """The run, planned by us or by an owner before."""
        kit, job = self._kit, self._job

        def look() -> BulkRun | None:
            with kit.database.read() as tx:
                return tx.bulk.run(job.id)

        run = kit.patiently(look, self._is_mine)
        if run is None:
            raise Failed(ForebayError("the run is gone", code="internal_error"))
        if run.plan is None:
            if not Planner(kit, job, self._session_id, spec).plan():
                raise Stopped
            run = kit.patiently(look, self._is_mine)
            assert run is not None and run.plan is not None
        self._poke()
        return run

    def _tick(self, run: BulkRun, spec: BulkSpec) -> tuple[BulkProgress, Control] | None:
        """Note how far it is, and what is to be done; None when the job has ended here or is not
        ours any more."""
        kit, job = self._kit, self._job

        def count() -> tuple[BulkProgress, Control, BulkRun | None]:
            with kit.database.read() as tx:
                control = tx.bulk.watch([job.id]).get(job.id, Control.STOP)
                again = tx.bulk.run(job.id) if control is Control.STOP else None
                return tx.bulk.count(job.id), control, again

        progress, control, again = kit.patiently(count, self._is_mine)
        progress = replace(
            progress, rows_per_s=self._rate(progress), units_done=_units_done(run, progress)
        )

        def touch() -> bool:
            with kit.database.begin(lasting=False) as tx:
                return tx.bulk.touch(job.id, self._session_id, job.epoch, progress)

        mine = kit.patiently(touch, self._is_mine)
        if control is Control.STOP:
            self._stop(again, spec, mine=mine)
            return None
        if not mine:
            log.info("a bulk job is somebody else's by now")
            return None
        self._judge(progress, spec)
        return progress, control

    def _rate(self, progress: BulkProgress) -> float:
        now_s = self._kit.clock.monotonic_s()
        rows = progress.rows_done + progress.rows_failed
        self._seen.append((now_s, rows))
        while now_s - self._seen[0][0] > _RATE_OVER_S and len(self._seen) > 2:
            self._seen.popleft()
        then_s, before = self._seen[0]
        return max(0.0, (rows - before) / (now_s - then_s)) if now_s > then_s else 0.0

    def _judge(self, progress: BulkProgress, spec: BulkSpec) -> None:
        """More wrong rows than are allowed: the run is told to stop."""
        rows = progress.rows_done + progress.rows_failed
        over = progress.shards_done >= progress.shards_total
        if rows < _JUDGED_ROWS and not over:
            return
        if progress.rows_failed > spec.max_error_share * rows:
            raise Failed(
                InvalidInput(
                    f"{progress.rows_failed} of {rows} rows are wrong, more than the share of"
                    f" {spec.max_error_share:g} that on_error.max_share allows; what was scored is"
                    " kept, and the error file says what is wrong",
                    code="too_many_errors",
                )
            )

    def _stop(self, run: BulkRun | None, spec: BulkSpec, *, mine: bool) -> None:
        """Cancelled, or failed by a shard."""
        if not mine:
            return
        if run is not None and run.error is not None:
            error = ForebayError(run.error.message, code=run.error.code)
            self._end_failed(error)
            return
        self._release()

    def _end_failed(self, error: ForebayError) -> None:
        job = self._job
        told = JobError(error.stable_code, error.message)
        try:
            with self._kit.database.begin() as tx:
                tx.bulk.fail(job.id, told)  # nobody goes on with it
        except TROUBLE as trouble:
            self._kit.parts.gate.trip(trouble)
            self._release()
            return
        payload = job.payload
        assert isinstance(payload, bytes)
        try:
            Finishing(self._kit, job, self._session_id, spec_of(payload)).fail(told)
        except Stopped:
            self._release()

    def _release(self) -> None:
        """Give it back now, or let the reaper do it."""
        try:
            self._give_back()
        except Exception as trouble:
            if not isinstance(trouble, TROUBLE):
                log.exception("a bulk job could not be given back")
            self._kit.parts.gate.trip(trouble)
            self._kit.parts.sessions.retire(self._session_id)

    def _give_back(self) -> None:
        """Back to the backlog, nothing spent: another owner goes on from SQL."""
        back = Outcome(self._job.id, self._job.epoch, Verdict.RELEASED, False)
        with self._kit.database.begin() as tx:
            tx.jobs.commit(self._session_id, [back])


def _units_done(run: BulkRun, progress: BulkProgress) -> int:
    """Positions of rows that are scored, in a part or not; about, where a position is a byte."""
    plan = run.plan
    apart = plan.extra.get(APART, 1.0) if plan is not None else 1.0
    rows = progress.rows_done + progress.rows_failed + progress.rows_skipped
    about = int(rows * apart) if isinstance(apart, int | float) else 0
    return max(progress.units_done, min(progress.units_total, about))
