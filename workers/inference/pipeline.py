"""One device process's pipeline: a thread for each stage, bounded hand-overs between them.

::

    intake ─▶ claim ─────────▶ device ───▶ store ────────▶ commit ─▶ settled
              claim, decode    forward     encode, put     one transaction

While a batch runs, the next is claimed and decoded and the ones before are stored and committed.
Nothing waits for a batch to fill: a batch is whatever was there when there was room for one, and
the slowest stage decides how much that is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from storage.clock import Clock
from storage.database import Database
from storage.objects import Objects
from storage.records.sessions import NewSession
from workers.inference.artifacts import Artifacts
from workers.inference.batch import Batch
from workers.inference.claim import Claimer
from workers.inference.device import Device
from workers.inference.finish import Finisher, Stored
from workers.inference.gate import Gate
from workers.inference.handoff import Handoff
from workers.inference.intake import Intake
from workers.inference.ledger import Ledger
from workers.inference.payloads import Payloads
from workers.inference.ports import Runtime
from workers.inference.refs import RefReader
from workers.inference.session import SessionKeeper
from workers.inference.versions import Prober, Versions
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

_STAGES = ("claim", "device", "store", "commit")
_TICK_S = 0.25  # how often an idle stage looks at its stop signal
_LAST_WORD_S = 2.0  # for a batch in the middle of its commit when patience ends


@dataclass(slots=True)
class Counters:
    """What ran so far; for logs, the demo and tests."""

    batches: int = 0
    jobs: int = 0


class Pipeline:
    """Built stopped; ``start`` opens a session and starts the threads; ``drain`` ends them."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        runtime: Runtime,
        settings: WorkerSettings,
        clock: Clock,
        make_session: Callable[[str], NewSession],
    ) -> None:
        self.intake = Intake(clock)
        self.counters = Counters()
        self._settings = settings
        self._ledger = Ledger(settings.ledger)
        self._gate = Gate((database.ping, objects.probe), clock)
        self.sessions = SessionKeeper(
            database,
            clock,
            make_session,
            lease_ttl_s=settings.lease_ttl_s,
            renew_every_s=settings.renew_every_s,
            on_open=self._ledger.session,
        )
        self.versions = Versions(
            database,
            Artifacts(objects, settings.cache_dir),
            runtime,
            clock,
            max_models=settings.max_models,
            on_news=self.intake.poke,
        )
        self._prober = Prober(database, self.versions, every_s=settings.probe_versions_every_s)
        self._claimer = Claimer(
            database,
            self.intake,
            self.versions,
            self.sessions,
            self._gate,
            clock,
            Payloads(database, objects),
            RefReader(database, objects, settings.ref_prefixes, max_bytes=settings.max_ref_bytes),
            max_batch=settings.max_batch,
            max_claim_bytes=settings.max_claim_bytes,
            wait_patience_s=settings.wait_patience_s,
            retention_days=settings.retention_days,
        )
        self._device = Device(self._ledger, clock, settings.max_batch)
        self._finisher = Finisher(
            database,
            objects,
            self._gate,
            clock,
            self.sessions.rate,
            intake=self.intake,
            put_patience_s=settings.put_patience_s,
            retry_back_off_s=settings.retry_back_off_s,
        )
        self._claimed: Handoff[Batch] = Handoff(1)
        self._computed: Handoff[Batch] = Handoff(1)
        self._stored: Handoff[Stored] = Handoff(1)
        self._stop = threading.Event()
        self._end = threading.Event()  # after the drain: for what must outlive it
        self._threads: dict[str, threading.Thread] = {}

    def start(self) -> None:
        """Open the session (raises when the database does not answer) and start."""
        self.sessions.open()
        for name, work in (
            ("claim", self._claim_loop),
            ("device", self._device_loop),
            ("store", self._store_loop),
            ("commit", self._commit_loop),
            ("loader", lambda: self.versions.run(self._stop)),
            ("prober", lambda: self._prober.run(self._stop)),
            ("gate", lambda: self._gate.run(self._end)),
            ("session", lambda: self.sessions.run(self._end)),
        ):
            thread = threading.Thread(target=work, name=f"forebay-{name}", daemon=True)
            self._threads[name] = thread
            thread.start()

    @property
    def claiming(self) -> bool:
        """Whether storage answers, so that new jobs are taken."""
        return self._gate.is_open

    @property
    def stopping(self) -> bool:
        """Whether the drain has begun."""
        return self._stop.is_set()

    def failure(self) -> str | None:
        """What has died or hangs, for the watchdog; None while all is well."""
        busy_s = self._device.busy_for_s()
        if busy_s > self._settings.hang_after_s:
            return f"a forward pass has taken {busy_s:.0f} s"
        if self._stop.is_set():
            return None
        dead = [name for name, thread in self._threads.items() if not thread.is_alive()]
        return f"the {dead[0]} thread has died" if dead else None

    def drain(self, pump: Callable[[], None]) -> bool:
        """Stop taking, finish what runs, give back the rest. False when it took too long.

        ``pump`` is called over and over meanwhile: the caller's loop must not starve.
        """
        self.intake.close()
        self._stop.set()
        stages = [thread for name, thread in self._threads.items() if name in _STAGES]
        deadline = threading.Event()
        patience = threading.Timer(self._settings.drain_s, deadline.set)
        patience.daemon = True
        patience.start()
        try:
            while any(stage.is_alive() for stage in stages) and not deadline.is_set():
                pump()
                stages[-1].join(0.01)
                if not self._gate.is_open:  # storage is down: one try, the reaper does the rest
                    self._finisher.hurry.set()
            self._finisher.hurry.set()
            if stages:
                stages[-1].join(_LAST_WORD_S)
        finally:
            patience.cancel()
        return not any(stage.is_alive() for stage in stages)

    def close(self) -> None:
        """After the drain (made up for when it never came): end the session, free the models."""
        if not self._stop.is_set():
            self.drain(lambda: None)
        self._end.set()
        self.sessions.wake()
        for name in ("gate", "session", "loader", "prober"):
            thread = self._threads.get(name)
            if thread is not None:
                thread.join(5)
        self.sessions.close()
        self.versions.forget_all()
        self._ledger.close()

    def _claim_loop(self) -> None:
        while not self._stop.is_set():
            if not self._claimed.wait_for_room(_TICK_S):
                continue
            try:
                batch = self._claimer.next(_TICK_S)
            except Exception:
                log.exception("the claim stage failed; going on")
                self._stop.wait(1.0)
                continue
            if batch is not None:
                self._claimed.put(batch)
        for batch in self._claimed.drain():
            self._claimer.give_back(batch)
        self._claimer.give_back_all()
        self._claimed.close()

    def _device_loop(self) -> None:
        while not self._claimed.finished():
            if not self._computed.wait_for_room(_TICK_S):
                continue
            batch = self._claimed.get(_TICK_S)
            if batch is None:
                continue
            try:
                self._device.compute(batch)
            except Exception as fault:
                log.exception("the device stage failed; the batch's jobs are tried again")
                for work in batch.works:
                    work.entered_device = True
                    work.culprit = work.culprit or f"{type(fault).__name__}: {fault}"[:500]
            self._computed.put(batch)
        self._computed.close()

    def _store_loop(self) -> None:
        while not self._computed.finished():
            if not self._stored.wait_for_room(_TICK_S):
                continue
            batch = self._computed.get(_TICK_S)
            if batch is not None:
                self._stored.put(self._finisher.store(batch))
        self._stored.close()

    def _commit_loop(self) -> None:
        while not self._stored.finished():
            stored = self._stored.get(_TICK_S)
            if stored is None:
                continue
            try:
                self._finisher.commit(stored)
            except Exception:
                log.exception("a commit failed; the reaper will have its jobs")
                self.sessions.retire(stored.session_id)
            self.counters.batches += 1
            self.counters.jobs += len(stored.ids)
