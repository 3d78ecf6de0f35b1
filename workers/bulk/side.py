"""The bulk side of a worker process: its threads, and what ties them to the pipeline."""

from __future__ import annotations

import logging
import threading
from functools import partial

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.records.jobs import ClaimedJob, Outcome, Verdict
from workers.bulk.kit import Kit
from workers.bulk.owner import Owner
from workers.bulk.places import Places
from workers.bulk.runner import SLOTS, Runner
from workers.bulk.spool import Spool
from workers.bulk.threads import start_thread
from workers.inference.gate import TROUBLE
from workers.inference.pipeline import Pipeline
from workers.inference.refs import RefReader
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

MOST_OWNED = 16  # bulk jobs that a process looks after at once; the others go to somebody else
_AGAIN_MS = 2_000
_JOIN_S = 20.0


class BulkSide:
    """Built stopped. ``start`` after the pipeline's; ``close`` before it."""

    def __init__(
        self,
        pipeline: Pipeline,
        database: Database,
        objects: Objects,
        settings: WorkerSettings,
        clock: Clock,
    ) -> None:
        self._pipeline, self._database = pipeline, database
        self._ended = threading.Event()
        self._spool = Spool(settings.cache_dir.parent / "spool")
        self._kit = Kit(
            database=database,
            objects=objects,
            places=Places(database, objects, settings.ref_prefixes, settings.output_prefixes),
            refs=RefReader(
                database, objects, settings.ref_prefixes, max_bytes=settings.max_ref_bytes
            ),
            parts=pipeline.parts,
            clock=clock,
            pool=settings.pool,
            spool=self._spool.folder,
            retention_days=settings.retention_days,
            stopping=lambda: self._ended.is_set() or pipeline.stopping,
        )
        self.runner = Runner(self._kit)
        self._threads: list[threading.Thread] = []
        self._owners: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Take shards, and look after the bulk jobs that are claimed."""
        self._spool.open()
        self._pipeline.parts.claimer.adopt = self.adopt
        for slot in range(SLOTS):
            self._threads.append(start_thread(str(slot), partial(self.runner.run, slot)))
        # What they find out has to take hold at once, however busy the cores are.
        self._threads.append(start_thread("watch", self.runner.watch, gives_way=False))
        self._threads.append(start_thread("stop", self._wait_for_stop, gives_way=False))

    def adopt(self, job: ClaimedJob, session_id: str) -> None:
        """A bulk job was claimed here: it gets an owner, or goes back if there are too many."""
        with self._lock:
            self._owners = {one: t for one, t in self._owners.items() if t.is_alive()}
            if len(self._owners) < MOST_OWNED and not self._ended.is_set():
                owner = Owner(self._kit, job, session_id, self.runner.poke)
                self._owners[job.id] = start_thread(f"owner-{job.id[:8]}", owner.run)
                return
        again = Outcome(job.id, job.epoch, Verdict.RELEASED, False, retry_in_ms=_AGAIN_MS)
        try:
            with self._database.begin() as tx:
                tx.jobs.commit(session_id, [again])
        except TROUBLE as trouble:
            self._kit.parts.gate.trip(trouble)
            self._kit.parts.sessions.retire(session_id)

    def close(self) -> None:
        """Commit what is scored, give the rest back. After the pipeline's drain, before its close,
        as it needs the session."""
        self._ended.set()
        self._kit.hurry.set()
        with self._lock:
            threads = [*self._threads, *self._owners.values()]
        deadline_s = self._kit.clock.monotonic_s() + _JOIN_S
        for thread in threads:
            thread.join(max(0.1, deadline_s - self._kit.clock.monotonic_s()))
        alive = [thread.name for thread in threads if thread.is_alive()]
        if alive:
            log.error("bulk work did not end in time (%s); it is done again", ", ".join(alive))
        self._spool.close()

    def _wait_for_stop(self) -> None:
        """The drain begins: whoever waits is woken at once."""
        while not self._kit.stopping():
            self._ended.wait(0.1)
        self._kit.hurry.set()
