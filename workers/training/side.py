"""The side of a worker process that looks after trainings: what it claims, and their owners.

A training's message is acknowledged on its arrival: what it says is in SQL as well, and its job
may wait here for longer than a broker likes. Who has no place lets the job go after a few seconds,
back to the backlog, so that a worker that has one gets it soon.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.records.jobs import ClaimedJob
from storage.records.training import is_training_payload
from workers.inference.gate import TROUBLE
from workers.inference.pipeline import Pipeline
from workers.settings import PREFIX, WorkerSettings
from workers.training.kit import Timing, TrainingKit
from workers.training.owner import Owner
from workers.training.places import Places

log = logging.getLogger(__name__)

MOST_OWNED = 64  # with those that are being ended, which have no place
_TICK_S = 0.25
_JOIN_S = 10.0  # beyond what a trainer gets for its last checkpoint


class TrainingSide:
    """Built stopped. ``start`` after the pipeline's; ``close`` before it."""

    def __init__(
        self,
        pipeline: Pipeline,
        database: Database,
        objects: Objects,
        settings: WorkerSettings,
        clock: Clock,
        *,
        trainer: Sequence[str],
        environ: Mapping[str, str],
        timing: Timing | None = None,
    ) -> None:
        """``trainer`` starts one, ``environ`` is its environment."""
        self._database = database
        self._ended = threading.Event()
        own = {PREFIX + "CACHE_DIR": str(settings.cache_dir), PREFIX + "DEVICE": settings.device}
        self._kit = TrainingKit(
            parts=pipeline.parts,
            stopping=lambda: self._ended.is_set() or pipeline.stopping,
            database=database,
            objects=objects,
            clock=clock,
            places=Places(settings.trainings, clock),
            trainer=tuple(trainer),
            environ={**environ, **own},
            retention_days=settings.retention_days,
            timing=timing or Timing(),
        )
        self._threads: list[threading.Thread] = []
        self._owners: list[threading.Thread] = []

    def start(self) -> None:
        """Claim what is offered."""
        for name, work in (("claim", self._claim_all), ("stop", self._wait_for_stop)):
            self._threads.append(_start(name, work))

    def offer(self, ids: Sequence[str]) -> None:
        """A message came. Whatever becomes of these, it needs no more of it."""
        self._kit.places.offer(ids)

    @property
    def owned(self) -> int:
        """How many trainings are looked after here."""
        return sum(thread.is_alive() for thread in self._owners)

    def close(self) -> None:
        """End the trainers, each with a checkpoint, and give their jobs back. After the pipeline's
        drain, before its close, as it needs the session."""
        self._ended.set()
        self._kit.hurry.set()
        deadline_s = self._kit.clock.monotonic_s() + self._kit.timing.stop_grace_s + _JOIN_S
        for threads in (self._threads, self._owners):  # the last owner comes of the first
            for thread in threads:
                thread.join(max(0.1, deadline_s - self._kit.clock.monotonic_s()))
        if any(thread.is_alive() for thread in (*self._threads, *self._owners)):
            log.error("a training did not end in time; it goes on from its last checkpoint")

    # --- claiming

    def _claim_all(self) -> None:
        while not self._kit.stopping():
            try:
                self._claim_next()
            except Exception as trouble:
                self._trouble(trouble)
        self._let_go(0.0)

    def _claim_next(self) -> None:
        parts = self._kit.parts
        self._let_go(self._kit.timing.let_go_after_s)
        if not parts.gate.wait_open(_TICK_S):
            return
        session_id = parts.sessions.wait_current(_TICK_S)
        self._owners = [thread for thread in self._owners if thread.is_alive()]
        if session_id is None or len(self._owners) >= MOST_OWNED:
            self._kit.hurry.wait(_TICK_S)
            return
        job_id = self._kit.places.admit(_TICK_S)
        if job_id is not None:
            self._adopt(session_id, self._claim(session_id, job_id))

    def _claim(self, session_id: str, job_id: str) -> ClaimedJob | None:
        commits = False
        try:
            with self._database.begin(lasting=False) as tx:
                jobs = tx.jobs.claim(session_id, [job_id])
                strange = [job for job in jobs if not is_training_payload(job.payload)]
                if strange:  # whoever sent that message is none of us
                    tx.jobs.release(session_id, [(job.id, job.epoch) for job in strange])
                commits = True
        except Exception as trouble:
            self._trouble(trouble)
            if commits:  # it may have gone through or not: nobody here knows the epoch
                self._kit.parts.sessions.retire(session_id)
            return None
        return jobs[0] if jobs and not strange else None

    def _adopt(self, session_id: str, job: ClaimedJob | None) -> None:
        """Look after it, in the place that was taken for it."""
        if job is None:
            self._kit.places.leave()
            return
        owner = Owner(self._kit, job, session_id)
        self._owners.append(_start(f"owner-{job.id[:8]}", owner.run))

    def _let_go(self, patience_s: float) -> None:
        """Back to the backlog with those that have waited so long."""
        ids = self._kit.places.pop_older(patience_s)
        if not ids:
            return
        try:
            with self._database.begin(lasting=False) as tx:
                tx.backlog.unmark(ids)
        except Exception as trouble:  # the sweep finds them
            self._trouble(trouble)

    def _trouble(self, trouble: Exception) -> None:
        if not isinstance(trouble, TROUBLE):
            log.error("claiming a training failed: %s", type(trouble).__name__, exc_info=trouble)
        self._kit.parts.gate.trip(trouble)

    def _wait_for_stop(self) -> None:
        """The drain begins: whoever waits is woken at once."""
        while not self._kit.stopping():
            self._ended.wait(0.1)
        self._kit.hurry.set()


def _start(name: str, work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name=f"forebay-training-{name}", daemon=True)
    thread.start()
    return thread
